/*
 * lanes_avx512.h: one vector of AVX-512 as the 16 lanes of engine/cpu/kernels.h. For the kernels alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_LANES_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_LANES_AVX512_H

#include <immintrin.h>

#include "engine/cpu/kernels/common.h"
#include "engine/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

/* The trees of four sums at once; the results in the order of the arguments. */
INLINE __m128 reduce4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    /* + 8: the upper half onto the lower, two sums in one vector */
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    /* + 4: now each sum has one 128-bit part */
    __m512 all =
        _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const __m512i first_of_each =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e)); /* + 2 */
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1)); /* + 1 */
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_each, all));
}

INLINE float reduce(__m512 lanes)
{
    return _mm_cvtss_f32(reduce4(lanes, lanes, lanes, lanes));
}

INLINE __mmask16 first_lanes(uint32_t count)
{
    return count >= CPU_LANES ? 0xffff : (__mmask16)((1u << count) - 1);
}

/* cpu_exp, 16 at a time. */
INLINE __m512 exp16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(CPU_EXP_ROUND);
    __m512 rounded;
    __m512 n;
    __m512 p = _mm512_set1_ps(CPU_EXP_C7);
    __m512i power;

    x = _mm512_max_ps(_mm512_set1_ps(CPU_EXP_MIN), x);
    x = _mm512_min_ps(_mm512_set1_ps(CPU_EXP_MAX), x);
    rounded = _mm512_fmadd_ps(x, _mm512_set1_ps(CPU_LOG2E), round);
    n = _mm512_sub_ps(rounded, round);
    x = _mm512_fmadd_ps(n, _mm512_set1_ps(-CPU_LN2_HIGH), x);
    x = _mm512_fmadd_ps(n, _mm512_set1_ps(-CPU_LN2_LOW), x);
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C6));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C5));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C4));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C3));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C2));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.0f));
    power = _mm512_add_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(CPU_EXP_BIAS));
    return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(power, CPU_EXP_SHIFT)));
}

/* cpu_exp2, 16 at a time. */
INLINE __m512 exp2_16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(CPU_EXP_ROUND);
    __m512 rounded;
    __m512 p = _mm512_set1_ps(CPU_EXP2_C6);
    __m512i power;

    x = _mm512_max_ps(_mm512_set1_ps(CPU_EXP2_MIN), x);
    rounded = _mm512_add_ps(x, round);
    x = _mm512_sub_ps(x, _mm512_sub_ps(rounded, round));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP2_C5));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP2_C4));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP2_C3));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP2_C2));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP2_C1));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.0f));
    power = _mm512_add_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(CPU_EXP_BIAS));
    return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(power, CPU_EXP_SHIFT)));
}

#endif
