/*
 * rows_avx512.c: rows of activations with 512-bit vectors.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/kernels/rows.h"

static float sum_squares(const float *x, uint32_t count)
{
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);

        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return reduce(sum);
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 sign = _mm512_set1_ps(-0.0f);

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m512 x = _mm512_maskz_loadu_ps(mask, gate + i);
        __m512 bottom = _mm512_add_ps(one, exp16(_mm512_xor_ps(x, sign)));

        x = _mm512_mul_ps(_mm512_div_ps(x, bottom), _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(gate + i, mask, x);
    }
}

const struct cpu_row_kernels cpu_row_avx512 = {
    .sum_squares = sum_squares,
    .silu_multiply = silu_multiply,
};
