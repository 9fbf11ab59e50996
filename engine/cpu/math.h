/*
 * math.h: the scalar definitions behind kernels.h: the lanes' tree, and the exponentials.
 *
 * Every vector kernel does exactly these operations in this order, so that all paths agree bit for
 * bit. The C library's expf is not used: its result depends on version and processor.
 */
#ifndef TANDEM_ENGINE_CPU_MATH_H
#define TANDEM_ENGINE_CPU_MATH_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine/cpu/kernels/common.h"

/* Beyond these the result would leave the normal floats; softmax and SiLU do not notice. */
#define CPU_EXP_MIN -87.0f
#define CPU_EXP_MAX 88.0f

#define CPU_LOG2E     0x1.715476p+0f
#define CPU_LN2_HIGH  0x1.62e4p-1f /* few bits: n * CPU_LN2_HIGH is exact */
#define CPU_LN2_LOW   0x1.7f7d1cp-20f
#define CPU_EXP_ROUND 0x1.8p+23f /* adding it rounds to an integer, which the low bits then hold */
#define CPU_EXP_BIAS  127
#define CPU_EXP_SHIFT 23

/* exp(r) = 1 + r + r^2 / 2! + ... + r^7 / 7!, highest first; |r| <= ln 2 / 2, error below 1e-8. */
#define CPU_EXP_C7 0x1.a01a02p-13f
#define CPU_EXP_C6 0x1.6c16c2p-10f
#define CPU_EXP_C5 0x1.111112p-7f
#define CPU_EXP_C4 0x1.555556p-5f
#define CPU_EXP_C3 0x1.555556p-3f
#define CPU_EXP_C2 0.5f

/* 2^r = 1 + r (C1 + r (C2 + ...)), highest first; |r| <= 1/2, error below 1e-8. */
#define CPU_EXP2_C6 0x1.44138ap-13f
#define CPU_EXP2_C5 0x1.5f0890p-10f
#define CPU_EXP2_C4 0x1.3b2a54p-7f
#define CPU_EXP2_C3 0x1.c6af6cp-5f
#define CPU_EXP2_C2 0x1.ebfbe0p-3f
#define CPU_EXP2_C1 0x1.62e430p-1f

/* Below this the result would leave the normal floats. */
#define CPU_EXP2_MIN -126.0f

/* e to the x, for x from CPU_EXP_MIN to CPU_EXP_MAX and clamped to them beyond. NaN stays NaN. */
static inline float cpu_exp(float x)
{
    float rounded;
    float n;
    float r;
    float p;
    uint32_t bits;
    float power;

    x = CPU_EXP_MIN > x ? CPU_EXP_MIN : x; /* written as MAXPS and MINPS treat NaN */
    x = CPU_EXP_MAX < x ? CPU_EXP_MAX : x;
    rounded = fmaf(x, CPU_LOG2E, CPU_EXP_ROUND);
    n = rounded - CPU_EXP_ROUND;
    r = fmaf(n, -CPU_LN2_HIGH, x);
    r = fmaf(n, -CPU_LN2_LOW, r);
    p = CPU_EXP_C7;
    p = fmaf(p, r, CPU_EXP_C6);
    p = fmaf(p, r, CPU_EXP_C5);
    p = fmaf(p, r, CPU_EXP_C4);
    p = fmaf(p, r, CPU_EXP_C3);
    p = fmaf(p, r, CPU_EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    memcpy(&bits, &rounded, sizeof bits);
    bits = (bits + CPU_EXP_BIAS) << CPU_EXP_SHIFT; /* 2^n: the bits of CPU_EXP_ROUND fall out */
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

/* 2 to the x, for x from CPU_EXP2_MIN, and clamped to that below, to 0. NaN stays NaN. */
static inline float cpu_exp2(float x)
{
    float rounded;
    float r;
    float p = CPU_EXP2_C6;
    uint32_t bits;
    float power;

    x = CPU_EXP2_MIN > x ? CPU_EXP2_MIN : x; /* as MAXPS treats NaN */
    rounded = x + CPU_EXP_ROUND;
    r = x - (rounded - CPU_EXP_ROUND);
    p = fmaf(p, r, CPU_EXP2_C5);
    p = fmaf(p, r, CPU_EXP2_C4);
    p = fmaf(p, r, CPU_EXP2_C3);
    p = fmaf(p, r, CPU_EXP2_C2);
    p = fmaf(p, r, CPU_EXP2_C1);
    p = fmaf(p, r, 1.0f);
    memcpy(&bits, &rounded, sizeof bits);
    bits = (bits + CPU_EXP_BIAS) << CPU_EXP_SHIFT;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static inline float cpu_silu(float x)
{
    return x / (1.0f + cpu_exp(-x));
}

/* A block whose largest magnitude is less than this is taken for zeros. */
#define CPU_QUANTIZE_MIN 0x1p-100f

/* The largest quant of an input. */
#define CPU_QUANTIZE_MAX 127.0f

/* How values become whole numbers: q = x * inverse, to the nearest, ties to even; x is about q * scale. */
struct cpu_quantizing {
    float scale;
    float inverse; /* 0: all quants are 0 */
};

/* From the largest magnitude of the values, whose quant is to be `most`. */
static inline struct cpu_quantizing cpu_quantizing_to(float largest, float most)
{
    if (!(largest <= FLT_MAX))
        return (struct cpu_quantizing){.scale = NAN};
    if (largest < CPU_QUANTIZE_MIN)
        return (struct cpu_quantizing){.scale = 0.0f};
    return (struct cpu_quantizing){.scale = largest / most, .inverse = most / largest};
}

/* For a block of an input. */
static inline struct cpu_quantizing cpu_quantizing(float largest)
{
    return cpu_quantizing_to(largest, CPU_QUANTIZE_MAX);
}

/* The tree at the end of every sum. Destroys the lanes. */
static inline float cpu_reduce(float lanes[static CPU_LANES])
{
    for (int half = CPU_LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

#endif
