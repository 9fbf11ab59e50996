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

static void scale(const float *x, float factor, const float *weight, uint32_t count, float *out)
{
    const __m512 factors = _mm512_set1_ps(factor);

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, x + i), factors);

        _mm512_mask_storeu_ps(out + i, mask,
                              _mm512_mul_ps(v, _mm512_maskz_loadu_ps(mask, weight + i)));
    }
}

static void add(float *x, const float *y, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);

        _mm512_mask_storeu_ps(
            x + i, mask,
            _mm512_add_ps(_mm512_maskz_loadu_ps(mask, x + i), _mm512_maskz_loadu_ps(mask, y + i)));
    }
}

/* The first and second values of up to 16 pairs of neighbours. */
INLINE void load_pairs(const float *values, uint32_t count, __m512 *first_out, __m512 *second_out)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    __m512 low = _mm512_maskz_loadu_ps(first_lanes(2 * count), values);
    __m512 high = _mm512_setzero_ps();

    if (count > CPU_LANES / 2)
        high = _mm512_maskz_loadu_ps(first_lanes(2 * count - CPU_LANES), values + CPU_LANES);
    *first_out = _mm512_permutex2var_ps(low, even, high);
    *second_out = _mm512_permutex2var_ps(low, odd, high);
}

static void rotate(const struct cpu_rotation *rotation, const float *head, float factor, float *out)
{
    const __m512 factors = _mm512_set1_ps(factor);
    uint32_t pairs = rotation->pairs;

    for (uint32_t i = 0; i < pairs; i += CPU_LANES) {
        __mmask16 mask = first_lanes(pairs - i);
        __m512 cosine = _mm512_maskz_loadu_ps(mask, rotation->cosines + i);
        __m512 sine = _mm512_maskz_loadu_ps(mask, rotation->sines + i);
        __m512 a;
        __m512 b;

        if (rotation->is_interleaved) {
            load_pairs(head + 2 * i, pairs - i, &a, &b);
        } else {
            a = _mm512_maskz_loadu_ps(mask, head + i);
            b = _mm512_maskz_loadu_ps(mask, head + pairs + i);
        }
        _mm512_mask_storeu_ps(out + i, mask,
                              _mm512_mul_ps(factors, _mm512_sub_ps(_mm512_mul_ps(a, cosine),
                                                                   _mm512_mul_ps(b, sine))));
        _mm512_mask_storeu_ps(out + pairs + i, mask,
                              _mm512_mul_ps(factors, _mm512_add_ps(_mm512_mul_ps(a, sine),
                                                                   _mm512_mul_ps(b, cosine))));
    }
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
    .scale = scale,
    .add = add,
    .rotate = rotate,
    .silu_multiply = silu_multiply,
};
