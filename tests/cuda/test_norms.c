/*
 * test_norms.c: norms without kernels of their own: what whoever writes the residual stream makes for them, to the bit, and
 * products that apply them, against double precision and the same from all kernels.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/multiply.h"
#include "engine/cuda/pack.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define HIDDEN     296 /* eighteen sixteens and a half, and more than a warp's lanes */
#define SIXTEENS   19
#define VOCAB      20
#define TOKENS_MAX 129
#define STAGING    ((size_t)256 << 10)
#define RESULTS    6 /* of the tiled kernel */
#define EPSILON    1e-5f

static const struct cuda_multiply_choice choices[] = {
    {CUDA_MULTIPLY_FEW, 1},   {CUDA_MULTIPLY_SOME, 1},  {CUDA_MULTIPLY_MANY, 1},
    {CUDA_MULTIPLY_TILED, 1}, {CUDA_MULTIPLY_TILED, 4},
};

#define CHOICES (sizeof choices / sizeof choices[0])

struct norms {
    struct cuda_device *device;
    struct cuda_multiplier multiplier;
    struct cuda_matrix table;
    struct cuda_matrix matrix;
    float weights[HIDDEN][HIDDEN]; /* of the matrix */
    float norm[HIDDEN];
    float bias[HIDDEN];
    float *norm_there;
    float *bias_there;
    uint32_t *tokens;
    float *x;
    float *y;
    uint16_t *other; /* activations that are no norm's */
    uint16_t *normed;
    float *squares;
    float *scales;
};

static void *taken(struct cuda_device *device, const void *data, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    if (data != NULL)
        cuda_device_upload(device, memory, data, bytes);
    return memory;
}

static void fetch(struct cuda_device *device, void *to, const void *from, size_t bytes)
{
    struct td_error error = {0};

    cuda_device_download(device, to, from, bytes);
    if (cuda_device_wait(device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void draw(struct td_rng *rng, float *values, size_t count)
{
    for (size_t i = 0; i < count; i++)
        values[i] = model_bfloat_to_float(to_bf16((float)(2 * td_rng_unit(rng) - 1)));
}

static struct cuda_matrix pack(struct norms *norms, const float *values, uint32_t rows)
{
    const struct cuda_loader_options options = {.helpers_max = UINT32_MAX};
    const struct model_matrix file = {.type = MODEL_TYPE_F32,
                                      .rows = rows,
                                      .columns = HIDDEN,
                                      .row_bytes = HIDDEN * sizeof(float),
                                      .data = (const uint8_t *)(const void *)values};
    const struct cuda_pack_source source = {.matrix = &file};
    struct cuda_packer packer = {.device = norms->device,
                                 .staging = taken(norms->device, NULL, STAGING),
                                 .staging_bytes = STAGING};
    struct cuda_matrix matrix = cuda_pack_describe(&source);
    struct td_error error = {0};
    size_t bytes = 0;
    uint8_t *place;

    assert_true(cuda_packed_bytes(&matrix, &bytes));
    place = taken(norms->device, NULL, bytes);
    if (cuda_loader_open(norms->device, &options, &packer.loader, &error) != TD_OK)
        fail_msg("%s", error.text);
    cuda_pack(&packer, &source, &matrix, place);
    cuda_loader_close(packer.loader);
    assert_int_equal(cuda_device_wait(norms->device, &error), TD_OK);
    cuda_device_give(norms->device, packer.staging);
    matrix.data = place;
    return matrix;
}

static void open_norms(struct norms *norms)
{
    static const uint32_t zeros[RESULTS];
    static float table[VOCAB][HIDDEN];
    static float activations[TOKENS_MAX * HIDDEN];
    static uint16_t other[TOKENS_MAX * HIDDEN];
    uint32_t tokens[TOKENS_MAX];
    struct cuda_device *device = norms->device = cuda_rig_device();
    struct td_rng rng;

    td_rng_init(&rng, 17);
    draw(&rng, table[0], (size_t)VOCAB * HIDDEN);
    draw(&rng, norms->weights[0], (size_t)HIDDEN * HIDDEN);
    draw(&rng, norms->norm, HIDDEN);
    draw(&rng, norms->bias, HIDDEN);
    draw(&rng, activations, (size_t)TOKENS_MAX * HIDDEN);
    for (size_t i = 0; i < (size_t)TOKENS_MAX * HIDDEN; i++)
        other[i] = to_bf16(activations[i]);
    for (uint32_t i = 0; i < TOKENS_MAX; i++)
        tokens[i] = i * 7 % VOCAB;
    norms->table = pack(norms, table[0], VOCAB);
    norms->matrix = pack(norms, norms->weights[0], HIDDEN);
    norms->norm_there = taken(device, norms->norm, sizeof norms->norm);
    norms->bias_there = taken(device, norms->bias, sizeof norms->bias);
    norms->tokens = taken(device, tokens, sizeof tokens);
    norms->x = taken(device, NULL, TOKENS_MAX * HIDDEN * sizeof *norms->x);
    norms->y = taken(device, NULL, TOKENS_MAX * HIDDEN * sizeof *norms->y);
    norms->other = taken(device, other, sizeof other);
    norms->normed = taken(device, NULL, TOKENS_MAX * HIDDEN * sizeof *norms->normed);
    norms->squares = taken(device, NULL, TOKENS_MAX * SIXTEENS * sizeof *norms->squares);
    norms->scales = taken(device, NULL, TOKENS_MAX * sizeof *norms->scales);
    norms->multiplier.device = device;
    norms->multiplier.runs = taken(
        device, NULL, RESULTS * CUDA_RUNS_KEPT(CUDA_SLICES) * CUDA_RUN_FLOATS * sizeof(float));
    norms->multiplier.run_counters = taken(device, zeros, sizeof zeros);
}

static void close_norms(struct norms *norms)
{
    void *taken_memory[] = {(void *)(uintptr_t)norms->table.data,
                            (void *)(uintptr_t)norms->matrix.data,
                            norms->norm_there,
                            norms->bias_there,
                            norms->tokens,
                            norms->x,
                            norms->y,
                            norms->other,
                            norms->normed,
                            norms->squares,
                            norms->scales,
                            norms->multiplier.runs,
                            norms->multiplier.run_counters};

    for (size_t i = 0; i < sizeof taken_memory / sizeof taken_memory[0]; i++)
        cuda_device_give(norms->device, taken_memory[i]);
    cuda_device_close(norms->device);
}

static struct cuda_next next_of(const struct norms *norms)
{
    return (struct cuda_next){
        .weight = norms->norm_there, .out = norms->normed, .squares = norms->squares};
}

static void embed(const struct norms *norms, uint32_t tokens)
{
    const struct cuda_embed_args args = {
        .table = norms->table, .tokens = norms->tokens, .x = norms->x, .next = next_of(norms)};

    cuda_device_launch(norms->device, CUDA_KERNEL_EMBED, (struct cuda_grid){tokens, 1, 1}, &args);
}

/* ------------------------------------------------------------------ what is made for a norm */

/* In the order of kernels/norm.h. */
static float sum_sixteen(const float *row, uint32_t first)
{
    float sums[8];

    for (uint32_t i = 0; i < 8; i++) {
        float high = first + i + 8 < HIDDEN ? row[first + i + 8] : 0.0f;

        sums[i] = fmaf(high, high, row[first + i] * row[first + i]);
    }
    for (uint32_t apart = 1; apart < 8; apart *= 2)
        for (uint32_t i = 0; i < 8; i += 2 * apart)
            sums[i] += sums[i + apart];
    return sums[0];
}

static void check_next(const struct norms *norms, uint32_t tokens, const char *who)
{
    static float x[TOKENS_MAX][HIDDEN];
    static uint16_t normed[TOKENS_MAX][HIDDEN];
    static float squares[TOKENS_MAX][SIXTEENS];

    fetch(norms->device, x, norms->x, tokens * sizeof x[0]);
    fetch(norms->device, normed, norms->normed, tokens * sizeof normed[0]);
    fetch(norms->device, squares, norms->squares, tokens * sizeof squares[0]);
    for (uint32_t token = 0; token < tokens; token++) {
        for (uint32_t i = 0; i < HIDDEN; i++)
            if (normed[token][i] != to_bf16(x[token][i] * norms->norm[i]))
                fail_msg("%s: token %u of %u, element %u", who, token, tokens, i);
        for (uint32_t i = 0; i < SIXTEENS; i++)
            if (squares[token][i] != sum_sixteen(x[token], 16 * i))
                fail_msg("%s: token %u of %u, squares %u: %g instead of %g", who, token, tokens, i,
                         (double)squares[token][i], (double)sum_sixteen(x[token], 16 * i));
    }
}

static void add(const struct norms *norms, struct cuda_multiply_choice choice, uint32_t tokens)
{
    const struct cuda_product_args args = {.matrix = norms->matrix,
                                           .x = norms->other,
                                           .bias = norms->bias_there,
                                           .y = norms->x,
                                           .stride = HIDDEN,
                                           .tokens = tokens,
                                           .is_added = true,
                                           .next = next_of(norms)};

    cuda_multiply(&norms->multiplier, choice, &args);
}

static void whoever_writes_the_stream_makes_what_its_norm_needs(void **state)
{
    static const uint32_t counts[] = {1, 9, 33, TOKENS_MAX};
    static struct norms norms;

    (void)state;
    open_norms(&norms);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (size_t k = 0; k < CHOICES; k++) {
            embed(&norms, counts[i]);
            check_next(&norms, counts[i], "embedding");
            add(&norms, choices[k], counts[i]);
            check_next(&norms, counts[i], "product");
        }
    close_norms(&norms);
}

/* ------------------------------------------------------------------ products behind a norm */

static void multiply(const struct norms *norms, struct cuda_multiply_choice choice, uint32_t tokens,
                     float *y)
{
    struct cuda_product_args args = {.matrix = norms->matrix,
                                     .x = norms->normed,
                                     .bias = norms->bias_there,
                                     .y = norms->y,
                                     .stride = HIDDEN,
                                     .tokens = tokens,
                                     .squares = norms->squares,
                                     .epsilon = EPSILON};
    const struct cuda_scale_args scale = {.squares = norms->squares,
                                          .scales = norms->scales,
                                          .rows = tokens,
                                          .count = HIDDEN,
                                          .epsilon = EPSILON};

    if (choice.size == CUDA_MULTIPLY_TILED) {
        args.scales = norms->scales;
        cuda_device_launch(
            norms->device, CUDA_KERNEL_SCALE,
            (struct cuda_grid){(tokens + CUDA_SCALE_ROWS - 1) / CUDA_SCALE_ROWS, 1, 1}, &scale);
    }
    cuda_multiply(&norms->multiplier, choice, &args);
    fetch(norms->device, y, norms->y, tokens * HIDDEN * sizeof *y);
}

/* Elements times weights are rounded to bf16, and what they are divided by is not. */
static double expected_of(const struct norms *norms, const float *x, uint32_t row, double *size_out)
{
    double sum = 0;
    double squares = 0;

    *size_out = fabs((double)norms->bias[row]);
    for (uint32_t i = 0; i < HIDDEN; i++)
        squares += (double)x[i] * (double)x[i];
    for (uint32_t i = 0; i < HIDDEN; i++) {
        float normed = model_bfloat_to_float(to_bf16(x[i] * norms->norm[i]));
        double term = (double)norms->weights[row][i] * (double)normed /
                      sqrt(squares / HIDDEN + (double)EPSILON);

        sum += term;
        *size_out += fabs(term);
    }
    return sum + (double)norms->bias[row];
}

static void products_apply_the_norm_that_they_come_from(void **state)
{
    static struct norms norms;
    static float x[TOKENS_MAX][HIDDEN];
    static float y[TOKENS_MAX][HIDDEN];
    double size;

    (void)state;
    open_norms(&norms);
    embed(&norms, TOKENS_MAX);
    fetch(norms.device, x, norms.x, sizeof x);
    multiply(&norms, choices[0], TOKENS_MAX, y[0]);
    for (uint32_t token = 0; token < TOKENS_MAX; token++)
        for (uint32_t row = 0; row < HIDDEN; row++) {
            double expected = expected_of(&norms, x[token], row, &size);

            if (!(fabs((double)y[token][row] - expected) <= 2e-5 * size))
                fail_msg("token %u row %u: %g instead of %g", token, row, (double)y[token][row],
                         expected);
        }
    close_norms(&norms);
}

static void all_kernels_apply_it_to_the_same_bits(void **state)
{
    static const uint32_t counts[] = {1, 8, 9, 17, 33, 65, TOKENS_MAX};
    static struct norms norms;
    static float y[TOKENS_MAX][HIDDEN];
    static float again[TOKENS_MAX][HIDDEN];

    (void)state;
    open_norms(&norms);
    embed(&norms, TOKENS_MAX);
    multiply(&norms, choices[0], TOKENS_MAX, y[0]);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        for (size_t k = 0; k < CHOICES; k++) {
            multiply(&norms, choices[k], counts[i], again[0]);
            if (memcmp(again, y, counts[i] * sizeof y[0]) != 0)
                fail_msg("kernel %d in %u parts: %u tokens differ", (int)choices[k].size,
                         choices[k].parts, counts[i]);
        }
    close_norms(&norms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_writes_the_stream_makes_what_its_norm_needs),
        cmocka_unit_test(products_apply_the_norm_that_they_come_from),
        cmocka_unit_test(all_kernels_apply_it_to_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
