/*
 * rows_avx2.c: rows of activations with 256-bit vectors.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/lanes_avx2.h"
#include "engine/cpu/kernels/rows.h"

/* The last values of an array, with zeros behind them. */
INLINE struct lanes load_last(const float *values, uint32_t count)
{
    float tail[CPU_LANES] = {0};

    memcpy(tail, values, count * sizeof *values);
    return lanes_load(tail);
}

static float sum_squares(const float *x, uint32_t count)
{
    struct lanes sum = lanes_zero();

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        struct lanes v = count - i >= CPU_LANES ? lanes_load(x + i) : load_last(x + i, count - i);

        sum = lanes_fma(v, v, sum);
    }
    return reduce(sum);
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m256 x = _mm256_loadu_ps(gate + i);
        __m256 bottom = _mm256_add_ps(one, exp8(_mm256_xor_ps(x, sign)));

        x = _mm256_mul_ps(_mm256_div_ps(x, bottom), _mm256_loadu_ps(up + i));
        _mm256_storeu_ps(gate + i, x);
    }
    for (; i < count; i++)
        gate[i] = cpu_silu(gate[i]) * up[i];
}

const struct cpu_row_kernels cpu_row_avx2 = {
    .sum_squares = sum_squares,
    .silu_multiply = silu_multiply,
};
