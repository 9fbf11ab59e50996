/*
 * pool.h: where K and V of a position lie, and reading and writing them. The layout is that of engine/backend.h.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_POOL_H
#define TANDEM_ENGINE_CUDA_KERNELS_POOL_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/simt.h"

/* The first of head_dim elements of a position, in the table of a row. */
SIMT_INLINE uint8_t *pool_entry(const struct cuda_pool *pool, const struct cuda_rows *rows,
                                uint32_t row, uint32_t position, uint32_t kv_head, uint32_t layer,
                                bool is_v)
{
    uint32_t slot = rows->slots[rows->tables[row] + position / pool->block_tokens];
    size_t page = ((size_t)kv_head * pool->layers + layer) * 2 + (is_v ? 1 : 0);

    return pool->base + slot * pool->block_bytes +
           (page * pool->block_tokens + position % pool->block_tokens) * pool->head_dim *
               pool->element_bytes;
}

/*
 * What is beyond the range of halves becomes the largest of them: an infinity times a weight of zero would be no
 * number, and so what a position holds would show in the attention of those before it.
 */
SIMT_INLINE float pool_clamp(float value)
{
    value = value > 65504.0f ? 65504.0f : value;
    return value < -65504.0f ? -65504.0f : value;
}

SIMT_INLINE void pool_store(const struct cuda_pool *pool, uint8_t *entry, uint32_t i, float value)
{
    if (pool->element_bytes == 4)
        ((float *)(void *)entry)[i] = value;
    else
        ((uint16_t *)(void *)entry)[i] = simt_float_to_half(pool_clamp(value));
}

SIMT_INLINE float pool_load(const struct cuda_pool *pool, const uint8_t *entry, uint32_t i)
{
    if (pool->element_bytes == 4)
        return ((const float *)(const void *)entry)[i];
    return simt_half_to_float(((const uint16_t *)(const void *)entry)[i]);
}

#endif
