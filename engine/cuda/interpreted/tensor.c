/*
 * tensor.c: what kernels/tensor.h means, in plain C: products of fragments, and copies that are late.
 *
 * A copy is made when its group is waited for and not before, so a kernel that forgets to wait reads what was there. A
 * lane gives what it has when it comes to a word, so one that is not as far as the others gives the wrong thing, as
 * it would on a GPU.
 */
#include <assert.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "model/quant.h"

#define COPIES_MAX 256 /* of a thread, under way */
#define LANES      32

uint8_t interpreter_shared[INTERPRETER_SHARED_BYTES] __attribute__((aligned(128)));

struct copy {
    void *to;
    const void *from;
    uint32_t group;
    bool is_real;
};

/* Of each thread. */
static struct {
    struct copy copies[COPIES_MAX];
    uint32_t count;
    uint32_t groups; /* that were committed */
} copying[INTERPRETER_THREADS_MAX];

/* What a lane brings to a product, as floats. */
struct fragments {
    float a[4][2];
    float b[2][2];
};

static void widen(const uint32_t *words, uint32_t count, float (*to_float)(uint16_t),
                  float values[][2])
{
    for (uint32_t i = 0; i < count; i++) {
        values[i][0] = to_float((uint16_t)words[i]);
        values[i][1] = to_float((uint16_t)(words[i] >> 16));
    }
}

/* The product of a row and a column, the first ones in lanes row and column * 4. Each product is exact in a float. */
static float chain(const struct fragments *lanes, uint32_t row, uint32_t column, float sum)
{
    for (uint32_t k = 0; k < 16; k++) {
        const struct fragments *left = &lanes[row % 8 * 4 + k % 8 / 2];
        const struct fragments *right = &lanes[column * 4 + k % 8 / 2];

        sum += left->a[row / 8 + k / 8 * 2][k % 2] * right->b[k / 8][k % 2];
    }
    return sum;
}

void interpreter_mma(float *sums, const uint32_t *a, const uint32_t *b, float (*to_float)(uint16_t))
{
    struct fragments mine;
    const struct fragments *lanes;
    uint32_t lane = interpreter_now.thread % LANES;

    widen(a, 4, to_float, mine.a);
    widen(b, 2, to_float, mine.b);
    lanes = interpreter_gather(&mine, sizeof mine);
    for (uint32_t i = 0; i < 4; i++)
        sums[i] = chain(lanes, lane / 4 + i / 2 * 8, lane % 4 * 2 + i % 2, sums[i]);
}

uint32_t interpreter_bf16_minus(uint32_t a, uint32_t b)
{
    float left[1][2];
    float right[1][2];

    widen(&a, 1, model_bfloat_to_float, left);
    widen(&b, 1, model_bfloat_to_float, right);
    return interpreter_float_to_bf16(left[0][0] - right[0][0]) |
           (uint32_t)interpreter_float_to_bf16(left[0][1] - right[0][1]) << 16;
}

uint32_t interpreter_bf16_times(uint32_t a, uint32_t b)
{
    float left[1][2];
    float right[1][2];

    widen(&a, 1, model_bfloat_to_float, left);
    widen(&b, 1, model_bfloat_to_float, right);
    return interpreter_float_to_bf16(left[0][0] * right[0][0]) |
           (uint32_t)interpreter_float_to_bf16(left[0][1] * right[0][1]) << 16;
}

/* Of a tile. */
struct row {
    uint16_t elements[8];
};

void interpreter_load(uint32_t *out, const void *row, bool is_turned)
{
    const struct row *rows = interpreter_gather(row, sizeof *rows);
    uint32_t lane = interpreter_now.thread % LANES;
    uint32_t first = lane % 4 * 2;
    uint32_t line = lane / 4;

    assert((uintptr_t)row % sizeof *rows == 0);
    for (uint32_t i = 0; i < 4; i++) {
        const struct row *tile = rows + i * 8;

        out[i] = is_turned
                     ? tile[first].elements[line] | (uint32_t)tile[first + 1].elements[line] << 16
                     : tile[line].elements[first] | (uint32_t)tile[line].elements[first + 1] << 16;
    }
}

float interpreter_exchange(float value, uint32_t apart)
{
    const float *values = interpreter_gather(&value, sizeof value);

    return values[interpreter_now.thread % LANES ^ apart];
}

void interpreter_copy(void *to, const void *from, bool is_real)
{
    uint32_t thread = interpreter_now.thread;

    assert((uintptr_t)to % 16 == 0 && (uintptr_t)from % 16 == 0);
    assert(copying[thread].count < COPIES_MAX);
    copying[thread].copies[copying[thread].count++] =
        (struct copy){.to = to, .from = from, .group = copying[thread].groups, .is_real = is_real};
}

void interpreter_copy_commit(void)
{
    copying[interpreter_now.thread].groups++;
}

void interpreter_copy_wait(uint32_t groups)
{
    uint32_t thread = interpreter_now.thread;
    uint32_t left = 0;

    for (uint32_t i = 0; i < copying[thread].count; i++) {
        const struct copy *copy = &copying[thread].copies[i];

        if (copy->group + groups >= copying[thread].groups)
            copying[thread].copies[left++] = *copy;
        else if (copy->is_real)
            memcpy(copy->to, copy->from, 16);
        else
            memset(copy->to, 0, 16);
    }
    copying[thread].count = left;
}

void interpreter_tensor_reset(uint32_t threads, uint32_t shared_bytes)
{
    assert(shared_bytes <= sizeof interpreter_shared);
    memset(interpreter_shared, 0xff, shared_bytes); /* as floats and halves: NaN */
    for (uint32_t thread = 0; thread < threads; thread++)
        copying[thread].count = copying[thread].groups = 0;
    interpreter_group_reset(threads);
}
