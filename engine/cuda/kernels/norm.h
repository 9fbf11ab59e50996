/*
 * norm.h: norms without kernels of their own: root mean square of a row, in the order that all who make it share.
 *
 * Whoever writes a row of the residual stream also writes what the norm behind it needs: elements times the norm's weights,
 * as bf16, and the sums of the squares of each 16 neighbours (struct cuda_next). What the row is divided by is known when all
 * of it has been written; it is the same for all columns, so it is applied to the sums of the products that the norm is for.
 *
 * The order of a row's sum of squares: of 16 neighbours i and i + 8 first, then 1, 2 and 4 apart. Of the sums of all sixteens
 * lane t of a warp takes t, t + 32, ..., rising, and then there is the warp's tree.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_NORM_H
#define TANDEM_ENGINE_CUDA_KERNELS_NORM_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/tensor.h"

/* What a norm multiplies a row with, from the sum of its squares. */
SIMT_INLINE float norm_scale(float squares, uint32_t count, float epsilon)
{
    return 1.0f / sqrtf(squares / (float)count + epsilon);
}

/* The sum over 16 neighbours, of which 8 lanes, so many lanes apart, have two each. The same bits in all of them. */
SIMT_INLINE float norm_squares(float low, float high, uint32_t apart)
{
    float squares = fmaf(high, high, low * low);

    squares += simt_exchange(squares, apart);
    squares += simt_exchange(squares, 2 * apart);
    return squares + simt_exchange(squares, 4 * apart);
}

/* The scale of a row of so many elements, by one warp; squares are those of the row. */
SIMT_INLINE float norm_scale_of(const float *squares, uint32_t count, float epsilon)
{
    float sum = 0.0f;

    for (uint32_t i = simt_lane(); i < CUDA_SIXTEENS(count); i += SIMT_WARP)
        sum += squares[i];
    return norm_scale(simt_warp_sum(sum), count, epsilon);
}

#endif
