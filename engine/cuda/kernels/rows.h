/*
 * rows.h: kernels on rows of activations: embedding, what is left of norms, rotation and placing of K and V, SiLU.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ROWS_H
#define TANDEM_ENGINE_CUDA_KERNELS_ROWS_H

#include "engine/cuda/kernels/arithmetic.h"
#include "engine/cuda/kernels/norm.h"
#include "engine/cuda/kernels/packed.h"
#include "engine/cuda/kernels/place.h"

#define NORM_THREADS 256
#define NORM_WARPS   (NORM_THREADS / SIMT_WARP)

/* For the norm behind an embedding, of which a lane has an element; outside the row it is zero. */
SIMT_INLINE void embed_next(const struct cuda_embed_args *args, uint32_t row, uint32_t column,
                            float value)
{
    uint32_t columns = args->table.columns;
    float squares = norm_squares(value, simt_exchange(value, 8), 1); /* of lanes below 8 of 16 */

    if (column >= columns)
        return;
    args->next.out[(size_t)row * columns + column] =
        simt_float_to_bf16(value * args->next.weight[column]);
    if (column % 16 == 0)
        args->next.squares[(size_t)row * CUDA_SIXTEENS(columns) + column / 16] = squares;
}

SIMT_KERNEL(embed, 256, struct cuda_embed_args)
{
    uint32_t row = simt_block_x();
    uint32_t columns = args.table.columns;

    for (uint32_t first = simt_warp() * SIMT_WARP; first < columns; first += 256) {
        uint32_t column = first + simt_lane();
        float value = 0.0f;

        if (column < columns) {
            value = packed_value(&args.table, args.tokens[row], column);
            args.x[(size_t)row * columns + column] = value;
        }
        if (args.next.weight != NULL)
            embed_next(&args, row, column, value);
    }
}

SIMT_KERNEL(scale, CUDA_SCALE_ROWS *SIMT_WARP, struct cuda_scale_args)
{
    uint32_t row = simt_block_x() * CUDA_SCALE_ROWS + simt_warp();
    float scale;

    if (row >= args.rows) /* the whole warp */
        return;
    scale = norm_scale_of(args.squares + (size_t)row * CUDA_SIXTEENS(args.count), args.count,
                          args.epsilon);
    if (simt_lane() == 0)
        args.scales[row] = scale;
}

/* A norm all at once: before logits, whose rows are picked or given, and in the fast variant. Its order is its own. */
SIMT_KERNEL(norm, NORM_THREADS, struct cuda_norm_args)
{
    SIMT_SHARED float warps[NORM_WARPS];
    uint32_t row = simt_block_x();
    uint32_t pick = args.picks != NULL ? args.picks[row] : row;
    bool is_head = args.picks != NULL && (pick & CUDA_PICK_HEAD) != 0;
    const float *x =
        (is_head ? args.heads : args.x) + (size_t)(pick & ~CUDA_PICK_HEAD) * args.count;
    float squares = 0.0f;
    float scale;

    for (uint32_t i = simt_thread(); i < args.count; i += NORM_THREADS)
        squares = fmaf(x[i], x[i], squares);
    squares = simt_warp_sum(squares);
    if (simt_lane() == 0)
        warps[simt_warp()] = squares;
    simt_barrier();
    squares = warps[0];
    for (uint32_t warp = 1; warp < NORM_WARPS; warp++)
        squares += warps[warp];
    scale = norm_scale(squares, args.count, args.epsilon);
    for (uint32_t i = simt_thread(); i < args.count; i += NORM_THREADS)
        args.out[(size_t)row * args.count + i] = simt_float_to_bf16(x[i] * scale * args.weight[i]);
}

/* A block is one warp: a head of Q, or a head of K with its V. */
SIMT_KERNEL(place, 32, struct cuda_place_args)
{
    uint32_t row = simt_block_x();
    uint32_t head = simt_block_y();

    if (head < args.heads) {
        place_query(&args, row, head,
                    (uint8_t *)args.rotated + ((size_t)row * args.heads + head) *
                                                  args.pool.head_dim * args.pool.element_bytes);
        return;
    }
    place_key(&args, row, head - args.heads);
    place_value(&args, row, head - args.heads);
}

SIMT_KERNEL(activate, 256, struct cuda_activate_args)
{
    uint64_t i = (uint64_t)simt_block_x() * 256 + simt_thread();

    if (i < args.count)
        args.out[i] =
            simt_float_to_bf16(args.gate[i] / (1.0f + arithmetic_exp(-args.gate[i])) * args.up[i]);
}

#endif
