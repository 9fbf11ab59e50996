/* wide.c: see wide.h. */
#include "engine/cuda/wide.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/multiply.h"
#include "engine/cuda/pack.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

/* A block of rows, eleven steps in runs of one and two, and more tokens than one piece has. */
#define ROWS    ((uint32_t)CUDA_WIDE_ROWS * CUDA_TILE_ROWS)
#define COLUMNS ((uint32_t)11 * CUDA_TILE_COLUMNS)
#define TOKENS  200
#define PIECES  ((size_t)2 * COLUMNS / CUDA_TILE_COLUMNS)
#define ROUNDS \
    8 /* some milliseconds for each type; the interpreter, where it is a test of this file, takes one */

/* Weights are made in their packed order: any bytes are quants, but scales must be numbers. */
struct proof {
    struct cuda_device *device;
    uint64_t limit_ns;
    struct td_rng rng;
    struct cuda_matrix matrix;
    size_t weights_bytes; /* of the largest type */
    struct cuda_multiplier multiplier;
    uint8_t *weights; /* of the device */
    uint16_t *x;
    float *y;
    uint8_t *host_weights;
    uint16_t *host_x;
    float *host_y[2];
};

static const uint32_t types[] = {
#define X(name, member) CUDA_TYPE_##member,
    CUDA_PACKED_TYPES(X)
#undef X
};

#define TYPES (sizeof types / sizeof types[0])

static const char *const names[] = {
#define X(name, member) #name,
    CUDA_PACKED_TYPES(X)
#undef X
};

/* ------------------------------------------------------------------ which types */

static bool has_type(const struct cuda_weights *weights, uint32_t layers, uint32_t type)
{
    bool found = weights->output.type == type;

    for (uint32_t i = 0; i < layers && !found; i++) {
        const struct cuda_layer *layer = &weights->layer[i];

        for (uint32_t k = 0; k < layer->qkv_count; k++)
            found = found || layer->qkv[k].matrix.type == type;
        found = found || layer->attention_output.type == type || layer->gate.type == type ||
                (!layer->gate.is_paired && layer->up.type == type) || layer->down.type == type;
    }
    return found;
}

/* ------------------------------------------------------------------ inputs */

/*
 * A bf16 whose exponent is that of one, give or take so many; regime 4 has zeros and numbers below the normal ones among
 * large ones, regime 5 one of eight far above the rest.
 */
static uint16_t draw(struct td_rng *rng, uint32_t regime)
{
    static const uint32_t spreads[] = {0, 2, 8, 30, 0, 1};
    uint64_t random = td_rng_next(rng);
    uint32_t spread = spreads[regime];
    uint32_t exponent = 127 + (uint32_t)(random >> 32) % (2 * spread + 1) - spread;
    uint32_t bits = (uint32_t)random & 0x807f;

    if (regime == 4 && random >> 60 < 12)
        exponent = random >> 60 < 6 ? 0 : 1;
    if (regime == 4 && random >> 60 < 3)
        bits = 0;
    if (regime == 5 && random >> 61 == 0)
        exponent += 24;
    return (uint16_t)(bits | exponent << 7);
}

/* Halves below two, so that no sum is infinite. */
static void draw_words(struct td_rng *rng, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i += sizeof(uint32_t)) {
        uint32_t word = (uint32_t)td_rng_next(rng) & 0xbbffbbffu;

        memcpy(bytes + i, &word, sizeof word);
    }
}

/* Quants of any bytes; words with exponents of halves cut down serve for scales of all kinds, and for quants too. */
static void draw_weights(struct proof *proof, size_t bytes)
{
    if (proof->matrix.type != CUDA_TYPE_BF16) {
        draw_words(&proof->rng, proof->host_weights, bytes);
        return;
    }
    for (size_t i = 0; i < bytes / sizeof(uint16_t); i++) {
        uint16_t weight = draw(&proof->rng, (uint32_t)(i / 512 % 4));

        memcpy(proof->host_weights + i * sizeof weight, &weight, sizeof weight);
    }
}

static void draw_tokens(struct proof *proof)
{
    for (uint32_t token = 0; token < TOKENS; token++)
        for (uint32_t column = 0; column < COLUMNS; column++)
            proof->host_x[token * COLUMNS + column] = draw(&proof->rng, token % 6);
}

/* ------------------------------------------------------------------ both kernels */

/* The download would wait without a limit. */
static td_status_t multiply(struct proof *proof, enum cuda_multiply_size size, float *y,
                            struct td_error *error)
{
    const struct cuda_product_args args = {
        .matrix = proof->matrix, .x = proof->x, .y = proof->y, .stride = ROWS, .tokens = TOKENS};
    const size_t bytes = (size_t)TOKENS * ROWS * sizeof *y;
    td_status_t status;

    memset(y, 0xff, bytes); /* what is not written must not be that of the other kernel */
    cuda_device_upload(proof->device, proof->y, y, bytes);
    cuda_multiply(&proof->multiplier, (struct cuda_multiply_choice){.size = size, .parts = 1},
                  &args);
    status = cuda_device_wait_within(proof->device, proof->limit_ns, error);
    if (status == TD_OK)
        cuda_device_download(proof->device, y, proof->y, bytes);
    return status;
}

/* Says which result differs. */
static bool compare(const struct proof *proof, const char *name)
{
    for (uint32_t i = 0; i < TOKENS * ROWS; i++) {
        uint32_t bits[2];

        memcpy(&bits[0], &proof->host_y[0][i], sizeof bits[0]);
        memcpy(&bits[1], &proof->host_y[1][i], sizeof bits[1]);
        if (bits[0] == bits[1])
            continue;
        td_log(TD_LOG_WARN, "cuda",
               "wgmma does not add as mma.sync does, products of many tokens go without it: type "
               "%s row %" PRIu32 " token %" PRIu32 ": %08" PRIx32 " instead of %08" PRIx32,
               name, i % ROWS, i / ROWS, bits[1], bits[0]);
        return false;
    }
    return true;
}

static td_status_t try_once(struct proof *proof, size_t bytes, struct td_error *error)
{
    td_status_t status;

    draw_weights(proof, bytes);
    draw_tokens(proof);
    cuda_device_upload(proof->device, proof->weights, proof->host_weights, bytes);
    cuda_device_upload(proof->device, proof->x, proof->host_x,
                       (size_t)TOKENS * COLUMNS * sizeof *proof->x);
    status = multiply(proof, CUDA_MULTIPLY_TILED, proof->host_y[0], error);
    if (status != TD_OK)
        return status;
    status = multiply(proof, CUDA_MULTIPLY_WIDE, proof->host_y[1], error);
    if (status == TD_OK)
        status = cuda_device_wait(proof->device, error);
    if (status != TD_OK)
        td_fail_wrap(error, "products by warpgroups, which --gpu-warpgroups off leaves out");
    return status;
}

static td_status_t prove_type(struct proof *proof, size_t index, bool *is_same_out,
                              struct td_error *error)
{
    const uint32_t rounds = proof->device->info.is_interpreted ? 1 : ROUNDS;
    td_status_t status = TD_OK;
    bool is_same = true;
    size_t bytes = 0;

    proof->matrix.type = types[index];
    if (!cuda_packed_bytes(&proof->matrix, &bytes) || bytes > proof->weights_bytes)
        return td_fail(error, TD_INTERNAL, "a type of weights has no size");
    for (uint32_t i = 0; i < rounds && status == TD_OK && is_same; i++) {
        status = try_once(proof, bytes, error);
        is_same = status == TD_OK && compare(proof, names[index]);
    }
    if (status == TD_OK)
        *is_same_out = is_same;
    return status;
}

/* ------------------------------------------------------------------ memory */

/* bf16 takes most. */
static td_status_t take(struct proof *proof, struct td_error *error)
{
    struct {
        void *memory;
        size_t bytes;
    } arrays[] = {
        {NULL, proof->weights_bytes},
        {NULL, (size_t)TOKENS * COLUMNS * sizeof *proof->x},
        {NULL, (size_t)TOKENS * ROWS * sizeof *proof->y},
        {NULL, PIECES * CUDA_WIDE_PIECE},
        {NULL, PIECES * 2 * CUDA_WIDE_TILE * sizeof(float)},
    };
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && status == TD_OK; i++)
        status = cuda_device_take(proof->device, arrays[i].bytes, &arrays[i].memory, error);
    proof->weights = arrays[0].memory;
    proof->x = arrays[1].memory;
    proof->y = arrays[2].memory;
    proof->multiplier.arranged = arrays[3].memory;
    proof->multiplier.totals = arrays[4].memory;
    proof->matrix.data = proof->weights;
    proof->host_weights = malloc(arrays[0].bytes);
    proof->host_x = malloc(arrays[1].bytes);
    proof->host_y[0] = malloc(arrays[2].bytes);
    proof->host_y[1] = malloc(arrays[2].bytes);
    if (status == TD_OK && (proof->host_weights == NULL || proof->host_x == NULL ||
                            proof->host_y[0] == NULL || proof->host_y[1] == NULL))
        status = td_fail(error, TD_NO_MEMORY, "no memory to compare products");
    return status;
}

static void give(struct proof *proof)
{
    cuda_device_give(proof->device, proof->weights);
    cuda_device_give(proof->device, proof->x);
    cuda_device_give(proof->device, proof->y);
    cuda_device_give(proof->device, proof->multiplier.arranged);
    cuda_device_give(proof->device, proof->multiplier.totals);
    free(proof->host_weights);
    free(proof->host_x);
    free(proof->host_y[0]);
    free(proof->host_y[1]);
}

td_status_t cuda_wide_prove(struct cuda_device *device, const struct cuda_weights *weights,
                            uint32_t layers, uint64_t limit_ns, bool *is_same_out,
                            struct td_error *error)
{
    struct proof proof = {.device = device,
                          .limit_ns = limit_ns,
                          .matrix = {.rows = ROWS, .columns = COLUMNS, .type = CUDA_TYPE_BF16},
                          .multiplier = {.device = device}};
    uint64_t started_ns = td_now_ns();
    bool is_same = true;
    td_status_t status;

    td_rng_init(&proof.rng, 1);
    (void)cuda_packed_bytes(&proof.matrix, &proof.weights_bytes); /* of a small matrix */
    status = take(&proof, error);
    for (size_t i = 0; i < TYPES && status == TD_OK && is_same; i++)
        if (has_type(weights, layers, types[i]))
            status = prove_type(&proof, i, &is_same, error);
    give(&proof);
    if (status != TD_OK)
        return status;
    if (is_same)
        td_log(TD_LOG_INFO, "cuda",
               "wgmma adds as mma.sync does, products of many tokens go by it ms %.1f",
               td_ns_to_ms(td_now_ns() - started_ns));
    *is_same_out = is_same;
    return TD_OK;
}
