/*
 * unpack.h: quants and scales of a row as they lie in model files, for pack.h.
 *
 * The layouts are those of model/quant.c. Bytes are read one by one or as halves: blocks are aligned to two bytes only.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_UNPACK_H
#define TANDEM_ENGINE_CUDA_KERNELS_UNPACK_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/simt.h"

SIMT_INLINE uint32_t unpack_u16(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8;
}

/* F32, F16 and BF16. */
SIMT_INLINE float unpack_float(enum cuda_type type, const uint8_t *row, uint32_t column)
{
    const uint16_t *halves = (const uint16_t *)(const void *)row;
    uint32_t bits;
    float value;

    if (type == CUDA_TYPE_F32)
        return ((const float *)(const void *)row)[column];
    if (type == CUDA_TYPE_F16)
        return simt_half_to_float(halves[column]);
    bits = (uint32_t)halves[column] << 16;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The same as the bits of a bf16. */
SIMT_INLINE uint32_t unpack_plain(enum cuda_type type, const uint8_t *row, uint32_t column)
{
    if (type == CUDA_TYPE_BF16)
        return ((const uint16_t *)(const void *)row)[column];
    return simt_float_to_bf16(unpack_float(type, row, column));
}

/* Bytes of a block of 32 values, and where in it the nibbles or bytes of quants begin. */
SIMT_INLINE uint32_t unpack_block_bytes(enum cuda_type type)
{
    switch (type) {
    case CUDA_TYPE_Q4_0: return 18;
    case CUDA_TYPE_Q4_1: return 20;
    case CUDA_TYPE_Q5_0: return 22;
    case CUDA_TYPE_Q5_1: return 24;
    default: return 34; /* Q8_0 */
    }
}

/* Blocks of 32 values. The first 16 values are the low nibbles. */
SIMT_INLINE uint32_t unpack_small(enum cuda_type type, const uint8_t *row, uint32_t column)
{
    const uint32_t bytes = unpack_block_bytes(type);
    const uint8_t *block = row + (size_t)(column / 32) * bytes;
    uint32_t at = column % 32;
    uint32_t quant;

    if (type == CUDA_TYPE_Q8_0)
        return block[2 + at] ^ 0x80u; /* signed: now 128 more */
    quant = block[bytes - 16 + at % 16] >> at / 16 * 4 & 15;
    if (type == CUDA_TYPE_Q5_0 || type == CUDA_TYPE_Q5_1)
        quant |= (uint32_t)(block[bytes - 20 + at / 8] >> at % 8 & 1) << 4;
    return quant;
}

SIMT_INLINE uint32_t unpack_q45_k(enum cuda_type type, const uint8_t *row, uint32_t column)
{
    const bool has_fifths = type == CUDA_TYPE_Q5_K;
    const uint32_t nibbles = has_fifths ? 48 : 16;
    const uint8_t *block = row + (size_t)(column / 256) * (nibbles + 128);
    uint32_t j = column % 256 / 32;
    uint32_t quant = block[nibbles + j / 2 * 32 + column % 32] >> j % 2 * 4 & 15;

    if (has_fifths)
        quant |= (uint32_t)(block[16 + column % 32] >> j & 1) << 4;
    return quant;
}

SIMT_INLINE uint32_t unpack_q6_k(const uint8_t *row, uint32_t column)
{
    const uint8_t *block = row + (size_t)(column / 256) * 210;
    uint32_t half = column % 256 / 128;
    uint32_t run = column / 32 % 4;
    uint32_t place = column % 32;
    uint32_t low = block[half * 64 + run % 2 * 32 + place] >> run / 2 * 4 & 15;
    uint32_t high = block[128 + half * 32 + place] >> run * 2 & 3;

    return low | high << 4;
}

/* A quant as packed.h stores it, or the bits of a bf16. */
SIMT_INLINE uint32_t unpack_quant(enum cuda_type type, const uint8_t *row, uint32_t column)
{
    switch (type) {
    case CUDA_TYPE_F32:
    case CUDA_TYPE_F16:
    case CUDA_TYPE_BF16: return unpack_plain(type, row, column);
    case CUDA_TYPE_F8_E4M3: return row[column];
    case CUDA_TYPE_Q4_K:
    case CUDA_TYPE_Q5_K: return unpack_q45_k(type, row, column);
    case CUDA_TYPE_Q6_K: return unpack_q6_k(row, column);
    default: return unpack_small(type, row, column);
    }
}

/* Sub-block j of Q4_K and Q5_K: 6 bits each of scale and minimum, packed into 12 bytes. */
SIMT_INLINE uint32_t unpack_k_scale(const uint8_t *packed, uint32_t j, bool is_minimum)
{
    const uint32_t own = j % 4 + (is_minimum ? 4 : 0);

    if (j < 4)
        return packed[own] & 63u;
    return (is_minimum ? packed[j + 4] >> 4 : packed[j + 4] & 15u) |
           (uint32_t)packed[own] >> 6 << 4;
}

/* Word i of the scales of 64 columns of a row, in the order of packed.h. */
SIMT_INLINE uint32_t unpack_scale_word(enum cuda_type type, const uint8_t *row, uint32_t columns,
                                       uint32_t step, uint32_t i)
{
    const uint32_t bytes = unpack_block_bytes(type);
    const uint8_t *block = row + (size_t)(step * 2 + i) * bytes;
    uint32_t j = step % 4 * 2;

    if (type == CUDA_TYPE_Q6_K) {
        block = row + (size_t)(step / 4) * 210 + 192 + step % 4 * 4;
        return unpack_u16(block) | unpack_u16(block + 2) << 16;
    }
    if (type == CUDA_TYPE_Q4_K || type == CUDA_TYPE_Q5_K) {
        block = row + (size_t)(step / 4) * (type == CUDA_TYPE_Q5_K ? 176 : 144) + 4;
        return unpack_k_scale(block, j, false) | unpack_k_scale(block, j + 1, false) << 8 |
               unpack_k_scale(block, j, true) << 16 | unpack_k_scale(block, j + 1, true) << 24;
    }
    if (type == CUDA_TYPE_Q4_1 || type == CUDA_TYPE_Q5_1) /* the last tile may be half a one */
        return step * 64 + i * 32 < columns ? unpack_u16(block) | unpack_u16(block + 2) << 16 : 0;
    return unpack_u16(block) | (step * 64 + 32 < columns ? unpack_u16(block + bytes) << 16 : 0);
}

/* d and m (of Q6_K only d) of the block of 256 values that a tile is in. */
SIMT_INLINE uint32_t unpack_super_word(enum cuda_type type, const uint8_t *row, uint32_t step)
{
    if (type == CUDA_TYPE_Q6_K)
        return unpack_u16(row + (size_t)(step / 4) * 210 + 208);
    row += (size_t)(step / 4) * (type == CUDA_TYPE_Q5_K ? 176 : 144);
    return unpack_u16(row) | unpack_u16(row + 2) << 16;
}

#endif
