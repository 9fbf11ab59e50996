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

static void scale(const float *x, float factor, const float *weight, uint32_t count, float *out)
{
    const __m256 factors = _mm256_set1_ps(factor);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(out + i, _mm256_mul_ps(_mm256_mul_ps(_mm256_loadu_ps(x + i), factors),
                                                _mm256_loadu_ps(weight + i)));
    for (; i < count; i++)
        out[i] = x[i] * factor * weight[i];
}

static void add(float *x, const float *y, uint32_t count)
{
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(x + i, _mm256_add_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(y + i)));
    for (; i < count; i++)
        x[i] += y[i];
}

/* The first and second values of 8 pairs of neighbours. */
INLINE void load_pairs(const float *values, __m256 *first_out, __m256 *second_out)
{
    __m256 low = _mm256_loadu_ps(values);
    __m256 high = _mm256_loadu_ps(values + 8);
    /* pairs 0 1 4 5 | 2 3 6 7, then in order */
    __m256 first = _mm256_shuffle_ps(low, high, 0x88);
    __m256 second = _mm256_shuffle_ps(low, high, 0xdd);

    *first_out = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(first), 0xd8));
    *second_out = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(second), 0xd8));
}

static void rotate(const struct cpu_rotation *rotation, const float *head, float factor, float *out)
{
    const __m256 factors = _mm256_set1_ps(factor);
    uint32_t pairs = rotation->pairs;
    uint32_t i = 0;

    for (; i + 8 <= pairs; i += 8) {
        __m256 cosine = _mm256_loadu_ps(rotation->cosines + i);
        __m256 sine = _mm256_loadu_ps(rotation->sines + i);
        __m256 a;
        __m256 b;

        if (rotation->is_interleaved) {
            load_pairs(head + 2 * i, &a, &b);
        } else {
            a = _mm256_loadu_ps(head + i);
            b = _mm256_loadu_ps(head + pairs + i);
        }
        _mm256_storeu_ps(out + i, _mm256_mul_ps(factors, _mm256_sub_ps(_mm256_mul_ps(a, cosine),
                                                                       _mm256_mul_ps(b, sine))));
        _mm256_storeu_ps(out + pairs + i,
                         _mm256_mul_ps(factors, _mm256_add_ps(_mm256_mul_ps(a, sine),
                                                              _mm256_mul_ps(b, cosine))));
    }
    for (; i < pairs; i++) {
        float a = rotation->is_interleaved ? head[2 * i] : head[i];
        float b = rotation->is_interleaved ? head[2 * i + 1] : head[i + pairs];

        out[i] = factor * (a * rotation->cosines[i] - b * rotation->sines[i]);
        out[i + pairs] = factor * (a * rotation->sines[i] + b * rotation->cosines[i]);
    }
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
    .scale = scale,
    .add = add,
    .rotate = rotate,
    .silu_multiply = silu_multiply,
};
