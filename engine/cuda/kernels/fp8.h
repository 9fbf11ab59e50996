/*
 * fp8.h: E4M3: a sign, four bits of exponent (bias 7), three of fraction; no infinities, and 0x7f is no number.
 *
 * Every value of it is one of bf16, so tensor cores are given it exactly: its bits, moved to where bf16 has them, mean
 * 2^-120 of it (the exponents' biases differ by so much), and one multiplication makes that good, for subnormals too.
 * So the same few instructions do on every GPU from compute capability 8.0 on, which has no conversion of its own.
 * Readers refuse files with 0x7f, and rounding never makes it.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_FP8_H
#define TANDEM_ENGINE_CUDA_KERNELS_FP8_H

#include "engine/cuda/kernels/tensor.h"

#define FP8_MAX  448.0f
#define FP8_BIAS 0x7b807b80u /* 2^120 as bf16, twice */

/* Bytes 0 and 2 of a word (upper: 1 and 3) as two bf16. */
SIMT_INLINE uint32_t fp8_to_bf16(uint32_t bytes, bool upper)
{
    uint32_t signs = (upper ? bytes : bytes << 8) & 0x80008000u;
    uint32_t rest = (upper ? bytes >> 4 : bytes << 4) & 0x07f007f0u;

    return simt_bf16_times(signs | rest, FP8_BIAS);
}

SIMT_INLINE float fp8_to_float(uint32_t byte)
{
    uint32_t bits = (byte & 0x80) << 24 | (byte & 0x7f) << 20;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value * 0x1p120f;
}

/* To the nearest, ties to even; beyond the largest, the largest. What is no number becomes the largest, too. */
SIMT_INLINE uint32_t fp8_of_float(float value)
{
    uint32_t bits;
    uint32_t sign;

    memcpy(&bits, &value, sizeof bits);
    sign = bits >> 24 & 0x80;
    bits &= 0x7fffffff;
    if (bits < 0x3c800000) { /* below 2^-6: behind 2^14 the last bit of a float is worth 2^-9 */
        memcpy(&value, &bits, sizeof value);
        value += 0x1p14f;
        memcpy(&bits, &value, sizeof bits);
        return sign | (bits & 15);
    }
    bits = (bits + 0x7ffff + (bits >> 20 & 1) - 0x3c000000) >> 20;
    return sign | (bits < 0x7e ? bits : 0x7e);
}

#endif
