/*
 * arithmetic.h: the exponential of kernels, from additions, multiplications and fmaf alone, so that a GPU and the
 * interpreter agree bit for bit. The same constants and steps as engine/cpu/math.h, which says why.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ARITHMETIC_H
#define TANDEM_ENGINE_CUDA_KERNELS_ARITHMETIC_H

#include "engine/cuda/kernels/simt.h"

/* e to the x, for x from -87 to 88 and clamped to them beyond. NaN stays NaN. Error below 1e-7 of the result. */
SIMT_INLINE float arithmetic_exp(float x)
{
    const float to_whole =
        0x1.8p+23f; /* adding it rounds to an integer, which the low bits then hold */
    float rounded;
    float n;
    float r;
    float p;
    uint32_t bits;
    float power;

    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    rounded = fmaf(x, 0x1.715476p+0f, to_whole);
    n = rounded - to_whole;
    r = fmaf(n, -0x1.62e4p-1f, x);
    r = fmaf(n, -0x1.7f7d1cp-20f, r);
    p = fmaf(0x1.a01a02p-13f, r, 0x1.6c16c2p-10f);
    p = fmaf(p, r, 0x1.111112p-7f);
    p = fmaf(p, r, 0x1.555556p-5f);
    p = fmaf(p, r, 0x1.555556p-3f);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    memcpy(&bits, &rounded, sizeof bits);
    bits = (bits + 127) << 23;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

#endif
