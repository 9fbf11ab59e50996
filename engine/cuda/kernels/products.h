/*
 * products.h: kernels that multiply rows of activations with a matrix of weights, one for each type of weights.
 *
 * A warp makes one row of results for up to CUDA_PRODUCT_TILE rows of activations. Lane l takes columns 8l to 8l + 7
 * of every 256, one after the other; then the warp's tree. So the order of a sum depends on the matrix alone: not on
 * how many rows of activations there are, nor on which of them share a block.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_H
#define TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_H

#include "engine/cuda/kernels/unpack.h"

SIMT_INLINE void product(const struct cuda_product_args *args, enum cuda_type type)
{
    const struct cuda_matrix *matrix = &args->matrix;
    uint32_t row = simt_block_x() * CUDA_PRODUCT_ROWS + simt_warp();
    uint32_t first = simt_block_y() * CUDA_PRODUCT_TILE;
    uint32_t tokens =
        args->tokens - first < CUDA_PRODUCT_TILE ? args->tokens - first : CUDA_PRODUCT_TILE;
    const uint16_t *x = args->x + (size_t)first * matrix->columns;
    float sums[CUDA_PRODUCT_TILE] = {0};

    if (row >= matrix->rows) /* the whole warp: there is no barrier of the block below */
        return;
    for (uint32_t column = simt_lane() * CUDA_GROUP; column < matrix->columns;
         column += SIMT_WARP * CUDA_GROUP) {
        float weights[CUDA_GROUP];

        unpack_group(type, matrix->data + row * matrix->row_bytes, column, weights);
        SIMT_UNROLL
        for (uint32_t token = 0; token < CUDA_PRODUCT_TILE; token++) {
            const uint16_t *values = x + (size_t)token * matrix->columns + column;

            if (token < tokens)
                for (uint32_t i = 0; i < CUDA_GROUP; i++)
                    sums[token] =
                        fmaf(weights[i], unpack_bits((uint32_t)values[i] << 16), sums[token]);
        }
    }
    SIMT_UNROLL
    for (uint32_t token = 0; token < CUDA_PRODUCT_TILE; token++) {
        float *y = args->y + (size_t)(first + token) * args->stride + row;
        float sum;

        if (token >= tokens) /* the same for the whole warp */
            break;
        sum = simt_warp_sum(sums[token]);
        if (simt_lane() != 0)
            continue;
        if (args->bias != NULL)
            sum += args->bias[row];
        *y = args->is_added ? *y + sum : sum;
    }
}

#define X(name, member, id)                                                     \
    SIMT_KERNEL(product_##name, CUDA_PRODUCT_THREADS, struct cuda_product_args) \
    {                                                                           \
        product(&args, CUDA_TYPE_##member);                                     \
    }
CUDA_TYPES(X)
#undef X

#endif
