/*
 * fill.h: random weights made where they lie, so that models of real sizes can be timed without files.
 *
 * The same seed gives the same bytes on every device. The bits are those of splitmix64 over the place of a word.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_FILL_H
#define TANDEM_ENGINE_CUDA_KERNELS_FILL_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/fp8.h"
#include "engine/cuda/kernels/simt.h"

#define FILL_THREADS 256

SIMT_INLINE uint64_t fill_random(uint64_t place)
{
    uint64_t x = place * 0x9e3779b97f4a7c15u;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

SIMT_INLINE void fill_value(const struct cuda_fill_args *args, uint8_t *block, uint64_t random)
{
    float value = ((float)(random >> 40) * 0x1p-23f - 1.0f) * args->range;
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    if (args->type == CUDA_TYPE_F32)
        *(float *)(void *)block = value;
    else if (args->type == CUDA_TYPE_F16)
        *(uint16_t *)(void *)block = simt_float_to_half(value);
    else if (args->type == CUDA_TYPE_F8_E4M3)
        *block = (uint8_t)fp8_of_float(value);
    else
        *(uint16_t *)(void *)block = (uint16_t)(bits >> 16);
}

SIMT_KERNEL(fill, FILL_THREADS, struct cuda_fill_args)
{
    uint64_t index = (uint64_t)simt_block_x() * FILL_THREADS + simt_thread();
    uint8_t *block = args.data + index * args.block_bytes;
    uint16_t *words = (uint16_t *)(void *)block;
    uint64_t place = args.seed + index * args.block_bytes;

    if (index >= args.blocks)
        return;
    if (args.type == CUDA_TYPE_F32 || args.type == CUDA_TYPE_F16 || args.type == CUDA_TYPE_BF16 ||
        args.type == CUDA_TYPE_F8_E4M3) {
        fill_value(&args, block, fill_random(place));
        return;
    }
    for (uint32_t i = 0; i < args.block_bytes / 2; i++)
        words[i] = (uint16_t)fill_random(place + i);
    words[args.scale_at / 2] = simt_float_to_half(args.range);
    if (args.has_minimum)
        words[args.scale_at / 2 + 1] = 0;
}

#endif
