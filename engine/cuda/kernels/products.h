/*
 * products.h: products for few tokens, bound by the reading of weights, which happens once for all tokens.
 *
 * A block makes some rows of tiles; each of its warps sums one slice of their columns, so that many warps read
 * different weights at once, and the warps' sums are added at the end. Tiles go from global memory to registers, some
 * steps ahead of their use; no two warps of a block need the same weights or activations, so shared memory would be a
 * detour.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_H
#define TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_H

#include "engine/cuda/kernels/product.h"

#define STREAM_ROWS_MAX   CUDA_MANY_ROWS
#define STREAM_TOKENS_MAX CUDA_MANY_TOKENS
#define STREAM_DEPTH_MAX  4
#define STREAM_ROUND      8 /* tiles of results that are added up at a time */

SIMT_ASSERT(CUDA_PRODUCT_THREADS == CUDA_SLICES * SIMT_WARP, "a warp sums a slice");

/* What a warp has on its way of one step. */
struct stream_step {
    struct packed_lane weights[STREAM_ROWS_MAX];
    uint32_t x[STREAM_TOKENS_MAX][4][2];
};

/* One of the sizes; constants, so that all loops over tiles are unrolled. */
struct stream_size {
    uint32_t rows;   /* tiles of 16 rows */
    uint32_t tokens; /* tiles of 8 tokens */
    uint32_t depth;  /* steps that are loaded ahead; 0: see stream_in_turn */
};

struct stream_shared {
    struct simt_floats4 *sums; /* [slice][tile of a round][lane] */
    float *scales;             /* of the block's tokens */
};

SIMT_INLINE void stream_fetch_weights(const struct cuda_product_args *args, enum cuda_type type,
                                      const struct stream_size size, uint32_t step,
                                      struct stream_step *step_out)
{
    SIMT_UNROLL
    for (uint32_t i = 0; i < size.rows; i++)
        packed_fetch(&args->matrix, type, simt_block_x() * size.rows + i, step,
                     &step_out->weights[i]);
}

SIMT_INLINE void stream_fetch_activations(const struct cuda_product_args *args,
                                          const struct stream_size size, uint32_t step,
                                          struct stream_step *step_out)
{
    SIMT_UNROLL
    for (uint32_t i = 0; i < size.tokens; i++)
        product_fetch_x(args->x, args->matrix.columns, args->tokens,
                        (simt_block_y() * size.tokens + i) * 8, step, step_out->x[i]);
}

SIMT_INLINE void stream_compute(enum cuda_type type, const struct stream_size size,
                                struct stream_step *step,
                                float sums[STREAM_ROWS_MAX][STREAM_TOKENS_MAX][4])
{
    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        float totals[STREAM_TOKENS_MAX][2] = {{0}};

        if (packed_has_minimum(type)) {
            SIMT_UNROLL
            for (uint32_t k = 0; k < size.tokens; k++)
                product_total(&step->x[k][2 * half], totals[k]);
        }
        SIMT_UNROLL
        for (uint32_t i = 0; i < size.rows; i++) {
            const struct packed_lane *lane = &step->weights[i];
            uint32_t weights[2][4];
            float scales[2][2] = {{0}};

            packed_open(type, lane, 2 * half, weights[0]);
            packed_open(type, lane, 2 * half + 1, weights[1]);
            if (type != CUDA_TYPE_BF16) {
                packed_scales(type, lane->scales[0], lane->supers[0], half, scales[0]);
                packed_scales(type, lane->scales[1], lane->supers[1], half, scales[1]);
            }
            SIMT_UNROLL
            for (uint32_t k = 0; k < size.tokens; k++)
                product_half_step(type, weights, &step->x[k][2 * half], scales, totals[k],
                                  sums[i][k]);
        }
    }
}

/* The scales of the block's tokens, by a warp each. They are there behind the next barrier. */
SIMT_INLINE void stream_make_scales(const struct cuda_product_args *args,
                                    const struct stream_size size, float *scales)
{
    const uint32_t columns = args->matrix.columns;

    for (uint32_t i = simt_warp(); i < size.tokens * 8; i += CUDA_SLICES) {
        size_t token = simt_block_y() * size.tokens * 8 + i;
        float scale = 1.0f;

        if (token < args->tokens && args->scales != NULL)
            scale = args->scales[token];
        else if (token < args->tokens && args->squares != NULL)
            scale = norm_scale_of(args->squares + token * CUDA_SIXTEENS(columns), columns,
                                  args->epsilon);
        if (simt_lane() == 0)
            scales[i] = scale;
    }
}

/* Adds the warps' sums up, in the order of their slices; a warp does one tile of results. */
SIMT_INLINE void stream_finish(const struct cuda_product_args *args, const struct stream_size size,
                               const struct stream_shared *shared,
                               float sums[STREAM_ROWS_MAX][STREAM_TOKENS_MAX][4])
{
    const uint32_t tiles = size.rows * size.tokens;
    const uint32_t round = tiles < STREAM_ROUND ? tiles : STREAM_ROUND;
    uint32_t lane = simt_lane();

    SIMT_UNROLL
    for (uint32_t first = 0; first < tiles; first += round) {
        uint32_t mine = first + simt_warp(); /* the tile of results that the warp adds up */

        if (first > 0)
            simt_barrier();
        SIMT_UNROLL
        for (uint32_t i = 0; i < round; i++)
            SIMT_UNROLL
        for (uint32_t k = 0; k < 4; k++)
            shared->sums[(simt_warp() * round + i) * SIMT_WARP + lane].value[k] =
                sums[(first + i) / size.tokens][(first + i) % size.tokens][k];
        simt_barrier();
        if (simt_warp() < round) {
            float total[4] = {0, 0, 0, 0};

            SIMT_UNROLL
            for (uint32_t slice = 0; slice < CUDA_SLICES; slice++)
                SIMT_UNROLL
            for (uint32_t k = 0; k < 4; k++)
                total[k] += shared->sums[(slice * round + simt_warp()) * SIMT_WARP + lane].value[k];
            product_finish_scaled(args, simt_block_x() * size.rows + mine / size.tokens,
                                  (simt_block_y() * size.tokens + mine % size.tokens) * 8, total,
                                  shared->scales + mine % size.tokens * 8 + lane % 4 * 2);
        }
    }
}

SIMT_INLINE void stream_fetch(const struct cuda_product_args *args, enum cuda_type type,
                              const struct stream_size size, uint32_t step,
                              struct stream_step *step_out)
{
    stream_fetch_weights(args, type, size, step, step_out);
    stream_fetch_activations(args, size, step, step_out);
}

/*
 * A warp's slice: steps are loaded size.depth ahead of their use, so that many bytes are on their way. Weights have been
 * there since the model was loaded, so the first ones are asked for before there are activations (see simt.h).
 */
SIMT_INLINE void stream_ahead(const struct cuda_product_args *args, enum cuda_type type,
                              const struct stream_size size, uint32_t begin, uint32_t end,
                              float *scales, float sums[STREAM_ROWS_MAX][STREAM_TOKENS_MAX][4])
{
    struct stream_step ring[STREAM_DEPTH_MAX];

    SIMT_UNROLL
    for (uint32_t i = 0; i < size.depth; i++)
        if (begin + i < end)
            stream_fetch_weights(args, type, size, begin + i, &ring[i]);
    simt_await_earlier();
    SIMT_UNROLL
    for (uint32_t i = 0; i < size.depth; i++)
        if (begin + i < end)
            stream_fetch_activations(args, size, begin + i, &ring[i]);
    stream_make_scales(args, size, scales); /* while all that is on its way */
    for (uint32_t step = begin; step < end; step += size.depth) {
        SIMT_UNROLL
        for (uint32_t i = 0; i < size.depth; i++) {
            if (step + i >= end)
                break;
            stream_compute(type, size, &ring[i], sums);
            if (step + i + size.depth < end)
                stream_fetch(args, type, size, step + i + size.depth, &ring[i]);
        }
    }
}

/* The same where a single step fills the registers: the other warps' loads are on their way meanwhile. */
SIMT_INLINE void stream_in_turn(const struct cuda_product_args *args, enum cuda_type type,
                                const struct stream_size size, uint32_t begin, uint32_t end,
                                float *scales, float sums[STREAM_ROWS_MAX][STREAM_TOKENS_MAX][4])
{
    simt_await_earlier();
    stream_make_scales(args, size, scales);
    for (uint32_t step = begin; step < end; step++) {
        struct stream_step loaded;

        stream_fetch(args, type, size, step, &loaded);
        stream_compute(type, size, &loaded, sums);
    }
}

SIMT_INLINE void product_stream(const struct cuda_product_args *args, enum cuda_type type,
                                const struct stream_size size, const struct stream_shared *shared)
{
    const uint32_t steps = packed_steps(&args->matrix);
    const uint32_t begin = product_slice_begin(steps, simt_warp());
    const uint32_t end = product_slice_begin(steps, simt_warp() + 1);
    float sums[STREAM_ROWS_MAX][STREAM_TOKENS_MAX][4] = {{{0}}};

    simt_release_later();
    if (size.depth > 0)
        stream_ahead(args, type, size, begin, end, shared->scales, sums);
    else
        stream_in_turn(args, type, size, begin, end, shared->scales, sums);
    stream_finish(args, size, shared, sums);
}

/* See CUDA_FEW_ROWS and the like in args.h; blocks_: that a multiprocessor has room for. */
#define PRODUCT_STREAM(label, type, rows_, tokens_, depth_, blocks_)                            \
    SIMT_KERNEL_EARLY(product_##label, CUDA_PRODUCT_THREADS, blocks_, struct cuda_product_args) \
    {                                                                                           \
        SIMT_SHARED struct simt_floats4                                                         \
            sums[CUDA_SLICES *                                                                  \
                 ((rows_) * (tokens_) < STREAM_ROUND ? (rows_) * (tokens_) : STREAM_ROUND) *    \
                 SIMT_WARP];                                                                    \
        SIMT_SHARED float scales[(tokens_)*8];                                                  \
        const struct stream_size size = {(rows_), (tokens_), (depth_)};                         \
        const struct stream_shared shared = {sums, scales};                                     \
                                                                                                \
        product_stream(&args, type, size, &shared);                                             \
    }

/* Two steps of other types would take more registers than two blocks on a multiprocessor have. */
SIMT_INLINE uint32_t stream_some_depth(enum cuda_type type)
{
    return type == CUDA_TYPE_BF16 || type == CUDA_TYPE_Q4_0 || type == CUDA_TYPE_Q5_0 ? 2 : 1;
}

#define X(name, member)                                                               \
    PRODUCT_STREAM(few_##name, CUDA_TYPE_##member, CUDA_FEW_ROWS, CUDA_FEW_TOKENS,    \
                   CUDA_TYPE_##member == CUDA_TYPE_BF16 ? 2 : 4,                      \
                   CUDA_TYPE_##member == CUDA_TYPE_BF16 ? 3 : 2)                      \
    PRODUCT_STREAM(some_##name, CUDA_TYPE_##member, CUDA_SOME_ROWS, CUDA_SOME_TOKENS, \
                   stream_some_depth(CUDA_TYPE_##member), 2)                          \
    PRODUCT_STREAM(many_##name, CUDA_TYPE_##member, CUDA_MANY_ROWS, CUDA_MANY_TOKENS, 0, 1)
CUDA_PACKED_TYPES(X)
#undef X

#endif
