/*
 * place.h: where queries, keys and values of new rows go: norms of heads, rotation, queries to where attention reads them
 * and keys and values into the pool. By a kernel of its own (rows.h), or by attention in steps in which all rows decode.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PLACE_H
#define TANDEM_ENGINE_CUDA_KERNELS_PLACE_H

#include "engine/cuda/kernels/norm.h"
#include "engine/cuda/kernels/pool.h"

SIMT_INLINE float place_scale(const float *head, const float *weight, uint32_t head_dim,
                              float epsilon)
{
    float squares = 0.0f;

    if (weight == NULL)
        return 1.0f;
    for (uint32_t i = simt_lane(); i < head_dim; i += SIMT_WARP)
        squares = fmaf(head[i], head[i], squares);
    return norm_scale(simt_warp_sum(squares), head_dim, epsilon);
}

/* A head of a row, turned and multiplied with a factor, by one warp; weight: of its norm, NULL: none. */
SIMT_INLINE void place_turned(const struct cuda_place_args *args, uint32_t row, const float *head,
                              const float *weight, float factor, uint8_t *entry)
{
    uint32_t head_dim = args->pool.head_dim;
    uint32_t pairs = head_dim / 2;
    const float *cosines = args->angles + (size_t)args->rows.positions[row] * head_dim;
    float scale = place_scale(head, weight, head_dim, args->epsilon);

    for (uint32_t i = simt_lane(); i < pairs; i += SIMT_WARP) {
        uint32_t first = args->is_interleaved ? 2 * i : i;
        uint32_t second = args->is_interleaved ? 2 * i + 1 : i + pairs;
        float a = head[first];
        float b = head[second];

        if (weight != NULL) {
            a = a * scale * weight[first];
            b = b * scale * weight[second];
        }
        pool_store(&args->pool, entry, i, factor * (a * cosines[i] - b * cosines[pairs + i]));
        pool_store(&args->pool, entry, i + pairs,
                   factor * (a * cosines[pairs + i] + b * cosines[i]));
    }
}

/* A query, where it is told, by one warp. */
SIMT_INLINE void place_query(const struct cuda_place_args *args, uint32_t row, uint32_t head,
                             uint8_t *entry)
{
    place_turned(args, row, args->q + (size_t)row * args->stride + head * args->pool.head_dim,
                 args->q_norm, args->scale, entry);
}

/* The key of a row, by one warp. */
SIMT_INLINE void place_key(const struct cuda_place_args *args, uint32_t row, uint32_t kv_head)
{
    place_turned(args, row, args->k + (size_t)row * args->stride + kv_head * args->pool.head_dim,
                 args->k_norm, 1.0f,
                 pool_entry(&args->pool, &args->rows, row, args->rows.positions[row], kv_head,
                            args->layer, false));
}

/*
 * The value of a row, by one warp. What is no number becomes zero where it is stored as a value: times a weight of zero it
 * would show in the attention of positions before it. Its own row stays without numbers, by the residual stream it came from.
 */
SIMT_INLINE void place_value(const struct cuda_place_args *args, uint32_t row, uint32_t kv_head)
{
    const float *head = args->v + (size_t)row * args->stride + kv_head * args->pool.head_dim;
    uint8_t *entry = pool_entry(&args->pool, &args->rows, row, args->rows.positions[row], kv_head,
                                args->layer, true);

    for (uint32_t i = simt_lane(); i < args->pool.head_dim; i += SIMT_WARP)
        pool_store(&args->pool, entry, i, head[i] != head[i] ? 0.0f : head[i]);
}

#endif
