/*
 * products_tile.h: what a tile of a product reads and where it stands, the same for all vector widths. For the products
 * alone; INLINE comes from their lanes.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_PRODUCTS_TILE_H
#define TANDEM_ENGINE_CPU_KERNELS_PRODUCTS_TILE_H

#include "engine/cpu/kernels/products.h"

/* One group of a job times some of its tokens, the first of which are not written: another tile has them. */
struct place {
    uint32_t group;
    uint32_t token;
    uint32_t skip;
};

/* Weights, and inputs as floats, rounded or not. */
struct tile {
    const uint8_t *weights;
    const float *x;
    const float *sums;
    size_t x_stride; /* of all parts of an input, in floats */
};

/* Weights, and inputs in whole numbers. */
struct whole_tile {
    const uint8_t *weights;
    const int8_t *quants;
    const float *scales;
    const float *sums;
    const int32_t *counts;
    size_t x_stride;
};

INLINE struct tile tile_at(const bool is_rounded, const struct cpu_product *job,
                           const struct place *place)
{
    const struct cpu_matrix *matrix = job->matrix;
    const float *x = job->x + place->token * job->x_stride;

    return (struct tile){.weights =
                             matrix->data + (job->first + place->group) * matrix->group_bytes,
                         .x = is_rounded ? x + cpu_input_bfloats(matrix->columns) : x,
                         .sums = x + cpu_input_sums(matrix->columns),
                         .x_stride = job->x_stride};
}

INLINE struct whole_tile whole_tile_at(const struct cpu_product *job, const struct place *place)
{
    const struct cpu_matrix *matrix = job->matrix;
    const float *x = job->x + place->token * job->x_stride;

    return (struct whole_tile){
        .weights = matrix->data + (job->first + place->group) * matrix->group_bytes,
        .quants = (const int8_t *)(x + cpu_input_quants(matrix->columns)),
        .scales = x + cpu_input_scales(matrix->columns),
        .sums = x + cpu_input_quant_sums(matrix->columns),
        .counts = (const int32_t *)(const void *)(x + cpu_input_counts(matrix->columns)),
        .x_stride = job->x_stride};
}

/*
 * How many quads of products of a quant and a byte of x add up in 16 bits, two neighbours together: 8 * 2 * 15 * 127,
 * 4 * 2 * 31 * 127, 2 * 2 * 63 * 127 and 2 * 128 * 127 are all less than 2^15.
 */
INLINE uint32_t quads_in_16_bits(const enum cpu_quants quants)
{
    return quants == CPU_QUANTS_4 ? 8 : quants == CPU_QUANTS_5 ? 4 : quants == CPU_QUANTS_6 ? 2 : 1;
}

/* Four quants of x. */
INLINE int32_t load_four(const int8_t *quants)
{
    int32_t four;

    memcpy(&four, quants, sizeof four);
    return four;
}

/*
 * A block of weights is asked for when the one that is so many bytes in front is worked on. The processor's own
 * prefetching ends with each page and starts anew with each unit; this keeps memory busy while products of 2 to 12
 * tokens are computed. Into the second-level cache: there is room for more that is under way than in front of the
 * first, measured on Zen 4 as a sixth more speed with one token. What lies behind the weights is never touched by it.
 */
#define AHEAD_BYTES 4096
#define AHEAD_CACHE 2 /* as __builtin_prefetch counts: 3 is the first level */

INLINE void ask_ahead(const uint8_t *block, size_t bytes)
{
    uintptr_t ahead = (uintptr_t)block + AHEAD_BYTES;

    for (size_t i = 0; i < bytes; i += 64)
        __builtin_prefetch((const void *)(ahead + i), 0, AHEAD_CACHE);
}

#endif
