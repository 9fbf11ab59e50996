/*
 * product.h: what all kernels of products share: one step of a sum, and what becomes of the sums.
 *
 * Tensor cores make 16 rows of the matrix for 8 tokens at a time. A result is summed thus, whatever kernel makes it and
 * however many tokens there are, so that its bits depend on the matrix and its token's activations alone:
 *
 *   - Columns are taken in steps of 64; steps are cut into CUDA_SLICES runs, of which the s-th begins at step
 *     s * steps / CUDA_SLICES. A run is summed in rising order, beginning with 0; runs are added in rising order, to 0.
 *   - In types without blocks a step is four times simt_mma on top of the sum. In those with blocks simt_mma sums whole
 *     quants over a block of 32 columns (Q6_K: 16) from 0, and fmaf adds scale times that sum to the run's; where there is
 *     a minimum, fmaf then adds it times the sum of the activations, which simt_mma makes too.
 *
 * Behind the last addition come, each where it is wanted: the scale of the norm that the activations come from, the bias,
 * the residual stream, and what the next norm needs (norm.h).
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PRODUCT_H
#define TANDEM_ENGINE_CUDA_KERNELS_PRODUCT_H

#include "engine/cuda/kernels/arithmetic.h"
#include "engine/cuda/kernels/norm.h"
#include "engine/cuda/kernels/packed.h"

SIMT_INLINE uint32_t product_slice_begin(uint32_t steps, uint32_t slice)
{
    return (uint32_t)((uint64_t)steps * slice / CUDA_SLICES);
}

/* What a lane has of the activations of 8 tokens in one step; zeros where there is nothing. */
SIMT_INLINE void product_fetch_x(const uint16_t *x, uint32_t columns, uint32_t tokens,
                                 uint32_t first_token, uint32_t step, uint32_t x_out[4][2])
{
    const uint32_t token = first_token + simt_lane() / 4;
    const uint32_t column = step * CUDA_TILE_COLUMNS + simt_lane() % 4 * 4;

    SIMT_UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        struct simt_words2 words = {{0, 0}};

        if (token < tokens && column + 16 * j < columns)
            words = simt_load2(x + (size_t)token * columns + column + 16 * j);
        x_out[j][0] = words.word[0];
        x_out[j][1] = words.word[1];
    }
}

/* Sums of the activations over half a step, for each of a lane's two tokens. */
SIMT_INLINE void product_total(uint32_t x[2][2], float *total_out)
{
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    float sums[4] = {0, 0, 0, 0};

    simt_mma_bf16(sums, ones, x[0]);
    simt_mma_bf16(sums, ones, x[1]);
    total_out[0] = sums[0];
    total_out[1] = sums[1];
}

/* Adds to what a lane has of 16 x 8 results. */
SIMT_INLINE void product_add(float sums[4], const float part[4], float low, float high)
{
    sums[0] = fmaf(low, part[0], sums[0]);
    sums[1] = fmaf(low, part[1], sums[1]);
    sums[2] = fmaf(high, part[2], sums[2]);
    sums[3] = fmaf(high, part[3], sums[3]);
}

/* Half a step: the fragments of two simt_mma, scales (see packed_scales) of rows g and g + 8. */
SIMT_INLINE void product_half_step(enum cuda_type type, uint32_t weights[2][4], uint32_t x[2][2],
                                   float scales[2][2], const float *total, float sums[4])
{
    float part[4] = {0, 0, 0, 0};

    if (type == CUDA_TYPE_BF16) {
        simt_mma_bf16(sums, weights[0], x[0]);
        simt_mma_bf16(sums, weights[1], x[1]);
        return;
    }
    simt_mma_bf16(part, weights[0], x[0]);
    if (type == CUDA_TYPE_Q6_K) {
        product_add(sums, part, scales[0][0], scales[1][0]);
        part[0] = part[1] = part[2] = part[3] = 0;
        simt_mma_bf16(part, weights[1], x[1]);
        product_add(sums, part, scales[0][1], scales[1][1]);
        return;
    }
    simt_mma_bf16(part, weights[1], x[1]);
    product_add(sums, part, scales[0][0], scales[1][0]);
    if (packed_has_minimum(type)) {
        const float totals[4] = {total[0], total[1], total[0], total[1]};

        product_add(sums, totals, scales[0][1], scales[1][1]);
    }
}

/* Returns what y holds then, or zero where there is no place for it. */
SIMT_INLINE float product_put(const struct cuda_product_args *args, uint32_t row, uint32_t token,
                              float sum)
{
    size_t place = (size_t)token * args->stride + row;

    if (row >= args->matrix.rows || token >= args->tokens)
        return 0.0f;
    if (args->bias != NULL)
        sum += args->bias[row];
    if (args->is_added)
        sum += args->y[place];
    args->y[place] = sum;
    if (args->next.weight != NULL)
        args->next.out[place] = simt_float_to_bf16(sum * args->next.weight[row]);
    return sum;
}

SIMT_INLINE void product_put_gated(const struct cuda_product_args *args, uint32_t row,
                                   uint32_t token, float gate, float up)
{
    if (row < args->matrix.rows / 2 && token < args->tokens)
        args->gated[(size_t)token * args->stride + row] =
            simt_float_to_bf16(gate / (1.0f + arithmetic_exp(-gate)) * up);
}

/* For the norm behind y, from what a lane has put of a tile: rows g and g + 8. All lanes come here. */
SIMT_INLINE void product_put_squares(const struct cuda_product_args *args, uint32_t row_tile,
                                     uint32_t token, float low, float high)
{
    float squares = norm_squares(low, high, 4);

    if (simt_lane() < 4 && row_tile < CUDA_SIXTEENS(args->matrix.rows) && token < args->tokens)
        args->next.squares[(size_t)token * CUDA_SIXTEENS(args->matrix.rows) + row_tile] = squares;
}

/* What a lane has of a tile's results for 8 tokens, and the scales of its two. All lanes of a warp come here. */
SIMT_INLINE void product_finish_scaled(const struct cuda_product_args *args, uint32_t row_tile,
                                       uint32_t first_token, const float sums[4],
                                       const float scales[2])
{
    uint32_t g = simt_lane() / 4;
    uint32_t token = first_token + simt_lane() % 4 * 2;

    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        float low = sums[i] * scales[i];
        float high = sums[2 + i] * scales[i];

        if (args->matrix.is_paired) {
            product_put_gated(args, row_tile * (CUDA_TILE_ROWS / 2) + g, token + i, low, high);
            continue;
        }
        low = product_put(args, row_tile * CUDA_TILE_ROWS + g, token + i, low);
        high = product_put(args, row_tile * CUDA_TILE_ROWS + g + 8, token + i, high);
        if (args->next.weight != NULL)
            product_put_squares(args, row_tile, token + i, low, high);
    }
}

/* The same with the scales that the arguments have. */
SIMT_INLINE void product_finish(const struct cuda_product_args *args, uint32_t row_tile,
                                uint32_t first_token, const float sums[4])
{
    uint32_t token = first_token + simt_lane() % 4 * 2;
    float scales[2] = {1.0f, 1.0f};

    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++)
        if (args->scales != NULL && token + i < args->tokens)
            scales[i] = args->scales[token + i];
    product_finish_scaled(args, row_tile, first_token, sums, scales);
}

#endif
