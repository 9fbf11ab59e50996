/*
 * arithmetic.h: the exponential of kernels, from additions, multiplications and fmaf alone, so that a GPU and the
 * interpreter agree bit for bit. The same constants and steps as engine/cpu/math.h, which says why.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ARITHMETIC_H
#define TANDEM_ENGINE_CUDA_KERNELS_ARITHMETIC_H

#include "engine/cuda/kernels/simt.h"

#define ARITHMETIC_TO_WHOLE \
    0x1.8p+23f /* adding it rounds to an integer, which the low bits then hold */

/* e to the r, for r of at most half of ln 2 or so. */
SIMT_INLINE float arithmetic_small_exp(float r)
{
    float p = fmaf(0x1.a01a02p-13f, r, 0x1.6c16c2p-10f);

    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    return fmaf(p, r, 1.0f);
}

/* p times 2 to the n, for n + ARITHMETIC_TO_WHOLE. */
SIMT_INLINE float arithmetic_scale(float p, float rounded)
{
    uint32_t bits;
    float power;

    memcpy(&bits, &rounded, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* e to the x, for x from -87 to 88 and clamped to them beyond. NaN stays NaN. Error below 1e-7 of the result. */
SIMT_INLINE float arithmetic_exp(float x)
{
    float rounded;
    float n;
    float r;

    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    rounded = fmaf(x, 0x1.715476p+0f, ARITHMETIC_TO_WHOLE);
    n = rounded - ARITHMETIC_TO_WHOLE;
    r = fmaf(n, -0x1.62e4p-1f, x);
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    return arithmetic_scale(arithmetic_small_exp(r), rounded);
}

/* 2 to the x, for x from -126 to 0 and clamped to -126 below. NaN stays NaN. Error below 1e-7 of the result. */
SIMT_INLINE float arithmetic_exp2(float x)
{
    float rounded;

    x = x < -126.0f ? -126.0f : x;
    rounded = x + ARITHMETIC_TO_WHOLE;
    return arithmetic_scale(
        arithmetic_small_exp((x - (rounded - ARITHMETIC_TO_WHOLE)) * 0x1.62e43p-1f), rounded);
}

#endif
