/*
 * lanes_avx2.h: two vectors of AVX2 as the 16 lanes of engine/cpu/kernels.h. For the kernels alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_LANES_AVX2_H
#define TANDEM_ENGINE_CPU_KERNELS_LANES_AVX2_H

#include <immintrin.h>

#include "engine/cpu/kernels/common.h"
#include "engine/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

/* 16 lanes; also 16 consecutive values of a row. */
struct lanes {
    __m256 low;  /* lanes 0 to 7 */
    __m256 high; /* lanes 8 to 15 */
};

INLINE struct lanes lanes_zero(void)
{
    return (struct lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE struct lanes lanes_load(const float *values)
{
    return (struct lanes){_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
}

INLINE void lanes_store(float *out, struct lanes v)
{
    _mm256_storeu_ps(out, v.low);
    _mm256_storeu_ps(out + 8, v.high);
}

INLINE struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes sum)
{
    return (struct lanes){_mm256_fmadd_ps(a.low, b.low, sum.low),
                          _mm256_fmadd_ps(a.high, b.high, sum.high)};
}

/* The trees of four sums at once; the results in the order of the arguments. */
INLINE __m128 reduce4(struct lanes a, struct lanes b, struct lanes c, struct lanes d)
{
    __m256 a8 = _mm256_add_ps(a.low, a.high); /* + 8 */
    __m256 b8 = _mm256_add_ps(b.low, b.high);
    __m256 c8 = _mm256_add_ps(c.low, c.high);
    __m256 d8 = _mm256_add_ps(d.low, d.high);
    /* + 4: the upper half onto the lower, two sums in one vector */
    __m256 ab =
        _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
    __m256 cd =
        _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31));
    /* + 2: a a c c | b b d d; + 1: a c a c | b d b d */
    __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));

    all = _mm256_add_ps(_mm256_shuffle_ps(all, all, 0x88), _mm256_shuffle_ps(all, all, 0xdd));
    return _mm_unpacklo_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

INLINE float reduce(struct lanes v)
{
    return _mm_cvtss_f32(reduce4(v, v, v, v));
}

/* cpu_exp, 8 at a time. */
INLINE __m256 exp8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(CPU_EXP_ROUND);
    __m256 rounded;
    __m256 n;
    __m256 p = _mm256_set1_ps(CPU_EXP_C7);
    __m256i power;

    x = _mm256_max_ps(_mm256_set1_ps(CPU_EXP_MIN), x);
    x = _mm256_min_ps(_mm256_set1_ps(CPU_EXP_MAX), x);
    rounded = _mm256_fmadd_ps(x, _mm256_set1_ps(CPU_LOG2E), round);
    n = _mm256_sub_ps(rounded, round);
    x = _mm256_fmadd_ps(n, _mm256_set1_ps(-CPU_LN2_HIGH), x);
    x = _mm256_fmadd_ps(n, _mm256_set1_ps(-CPU_LN2_LOW), x);
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C6));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C5));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C4));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C3));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C2));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.0f));
    power = _mm256_add_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(CPU_EXP_BIAS));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(power, CPU_EXP_SHIFT)));
}

/* cpu_exp2, 8 at a time. */
INLINE __m256 exp2_8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(CPU_EXP_ROUND);
    __m256 rounded;
    __m256 p = _mm256_set1_ps(CPU_EXP2_C6);
    __m256i power;

    x = _mm256_max_ps(_mm256_set1_ps(CPU_EXP2_MIN), x);
    rounded = _mm256_add_ps(x, round);
    x = _mm256_sub_ps(x, _mm256_sub_ps(rounded, round));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP2_C5));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP2_C4));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP2_C3));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP2_C2));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP2_C1));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.0f));
    power = _mm256_add_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(CPU_EXP_BIAS));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(power, CPU_EXP_SHIFT)));
}

#endif
