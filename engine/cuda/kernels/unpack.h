/*
 * unpack.h: eight weights of a row as floats, from the bytes of model files.
 *
 * Does exactly what model/quant.c does, value by value, so that a weight is the same float on every backend. Bytes
 * are read one by one or as halves: blocks are aligned to two bytes only.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_UNPACK_H
#define TANDEM_ENGINE_CUDA_KERNELS_UNPACK_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/simt.h"

SIMT_INLINE uint16_t unpack_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

SIMT_INLINE float unpack_half(const uint8_t *bytes)
{
    return simt_half_to_float(unpack_u16(bytes));
}

SIMT_INLINE float unpack_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Types without blocks. */
SIMT_INLINE void unpack_plain(enum cuda_type type, const uint8_t *row, uint32_t first, float *out)
{
    for (uint32_t i = 0; i < CUDA_GROUP; i++) {
        if (type == CUDA_TYPE_F32)
            out[i] = ((const float *)(const void *)row)[first + i];
        else if (type == CUDA_TYPE_F16)
            out[i] = simt_half_to_float(((const uint16_t *)(const void *)row)[first + i]);
        else
            out[i] = unpack_bits((uint32_t)((const uint16_t *)(const void *)row)[first + i] << 16);
    }
}

/* Blocks of 32 values: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0. The first 16 values are the low nibbles. */
SIMT_INLINE void unpack_small(enum cuda_type type, const uint8_t *row, uint32_t first, float *out)
{
    const bool has_minimum = type == CUDA_TYPE_Q4_1 || type == CUDA_TYPE_Q5_1;
    const bool has_fifths = type == CUDA_TYPE_Q5_0 || type == CUDA_TYPE_Q5_1;
    const uint32_t head = has_minimum ? 4 : 2;
    const uint32_t quants = head + (has_fifths ? 4 : 0);
    const uint32_t bytes = quants + (type == CUDA_TYPE_Q8_0 ? 32 : 16);
    const uint8_t *block = row + (size_t)(first / 32) * bytes;
    uint32_t in_block = first % 32;
    float scale = unpack_half(block);
    float minimum = has_minimum ? unpack_half(block + 2) : 0.0f;

    for (uint32_t i = 0; i < CUDA_GROUP; i++) {
        uint32_t at = in_block + i;
        int quant;

        if (type == CUDA_TYPE_Q8_0) {
            out[i] = scale * (float)(int8_t)block[2 + at];
            continue;
        }
        quant = at < 16 ? block[quants + at] & 15 : block[quants + at - 16] >> 4;
        if (has_fifths)
            quant |= (block[head + at / 8] >> at % 8 & 1) << 4;
        if (!has_minimum)
            quant -= has_fifths ? 16 : 8;
        out[i] = has_minimum ? scale * (float)quant + minimum : scale * (float)quant;
    }
}

/* Sub-block j of Q4_K and Q5_K: 6 bits each of scale and minimum, packed into 12 bytes. */
SIMT_INLINE int unpack_k_scale(const uint8_t *packed, uint32_t j, uint32_t is_minimum)
{
    const uint32_t own = j % 4 + (is_minimum != 0 ? 4 : 0);

    if (j < 4)
        return packed[own] & 63;
    return (is_minimum != 0 ? packed[j + 4] >> 4 : packed[j + 4] & 15) | packed[own] >> 6 << 4;
}

SIMT_INLINE void unpack_q45_k(enum cuda_type type, const uint8_t *row, uint32_t first, float *out)
{
    const bool has_fifths = type == CUDA_TYPE_Q5_K;
    const uint32_t nibbles = has_fifths ? 48 : 16;
    const uint8_t *block = row + (size_t)(first / 256) * (nibbles + 128);
    uint32_t j = first % 256 / 32; /* eight values never cross a sub-block */
    uint32_t in_sub = first % 32;
    float scale = unpack_half(block) * (float)unpack_k_scale(block + 4, j, 0);
    float minimum = unpack_half(block + 2) * (float)unpack_k_scale(block + 4, j, 1);

    for (uint32_t i = 0; i < CUDA_GROUP; i++) {
        int quant = block[nibbles + j / 2 * 32 + in_sub + i] >> j % 2 * 4 & 15;

        if (has_fifths)
            quant |= (block[16 + in_sub + i] >> j & 1) << 4;
        out[i] = scale * (float)quant - minimum;
    }
}

SIMT_INLINE void unpack_q6_k(const uint8_t *row, uint32_t first, float *out)
{
    const uint8_t *block = row + (size_t)(first / 256) * 210;
    float scale = unpack_half(block + 208);

    for (uint32_t i = 0; i < CUDA_GROUP; i++) {
        uint32_t at = first % 256 + i;
        uint32_t half = at / 128;
        uint32_t run = at / 32 % 4;
        uint32_t place = at % 32;
        int low = block[half * 64 + run % 2 * 32 + place] >> run / 2 * 4 & 15;
        int high = block[128 + half * 32 + place] >> run * 2 & 3;

        out[i] = scale * (float)(int8_t)block[192 + at / 16] * (float)((low | high << 4) - 32);
    }
}

/* Values first to first + 7 of a row; first is a multiple of 8. With a constant type, only that type's code. */
SIMT_INLINE void unpack_group(enum cuda_type type, const uint8_t *row, uint32_t first, float *out)
{
    switch (type) {
    case CUDA_TYPE_F32:
    case CUDA_TYPE_F16:
    case CUDA_TYPE_BF16: unpack_plain(type, row, first, out); return;
    case CUDA_TYPE_Q4_0:
    case CUDA_TYPE_Q4_1:
    case CUDA_TYPE_Q5_0:
    case CUDA_TYPE_Q5_1:
    case CUDA_TYPE_Q8_0: unpack_small(type, row, first, out); return;
    case CUDA_TYPE_Q4_K:
    case CUDA_TYPE_Q5_K: unpack_q45_k(type, row, first, out); return;
    case CUDA_TYPE_Q6_K: unpack_q6_k(row, first, out); return;
    }
}

#endif
