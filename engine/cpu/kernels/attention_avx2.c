/*
 * attention_avx2.c: attention with 256-bit vectors.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/attention.h"
#include "engine/cpu/kernels/lanes_avx2.h"
#include "model/quant.h"

/* dots' tile: 2 keys x 3 queries are 6 sums in 12 registers, with 2 + 1 operands. */
#define DOTS_KEYS    2
#define DOTS_QUERIES 3

/* weigh's tile: 4 vectors of a value row x 3 queries. */
#define WEIGH_VECTORS 4
#define WEIGH_QUERIES 3

/* ------------------------------------------------------------------ attention's dot products */

/* One tile: 2 keys x `queries`. */
INLINE void dots_tile(const struct cpu_dots *job, uint32_t p, uint32_t query,
                      const uint32_t queries)
{
    const float *keys = job->keys + p * job->keys_stride;
    const float *x = job->x + query * job->x_stride;
    struct lanes sums[DOTS_QUERIES][DOTS_KEYS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        sums[q][0] = sums[q][1] = lanes_zero();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m256 key0 = _mm256_loadu_ps(keys + k);
        __m256 key1 = _mm256_loadu_ps(keys + job->keys_stride + k);

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 v = _mm256_loadu_ps(x + q * job->x_stride + k);

            sums[q][0].low = _mm256_fmadd_ps(key0, v, sums[q][0].low);
            sums[q][1].low = _mm256_fmadd_ps(key1, v, sums[q][1].low);
        }
        key0 = _mm256_loadu_ps(keys + k + 8);
        key1 = _mm256_loadu_ps(keys + job->keys_stride + k + 8);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 v = _mm256_loadu_ps(x + q * job->x_stride + k + 8);

            sums[q][0].high = _mm256_fmadd_ps(key0, v, sums[q][0].high);
            sums[q][1].high = _mm256_fmadd_ps(key1, v, sums[q][1].high);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++) {
        float values[4];

        _mm_storeu_ps(values, reduce4(sums[q][0], sums[q][1], sums[q][0], sums[q][1]));
        for (uint32_t i = 0; i < DOTS_KEYS && p + i < job->count; i++)
            job->y[(query + q) * job->y_stride + p + i] = values[i];
    }
}

static void dots(const struct cpu_dots *job)
{
    for (uint32_t query = 0; query < job->queries; query += DOTS_QUERIES) {
        uint32_t queries = job->queries - query;

        for (uint32_t p = 0; p < job->count; p += DOTS_KEYS) {
            switch (queries) {
            case 1: dots_tile(job, p, query, 1); break;
            case 2: dots_tile(job, p, query, 2); break;
            default: dots_tile(job, p, query, 3); break;
            }
        }
    }
}

/* ------------------------------------------------------------------ sums of values */

/* The sums of up to 4 vectors of columns x `queries` (a constant where inlined) over all positions. */
INLINE void weigh_tile(const struct cpu_weigh *job, uint32_t query, uint32_t column,
                       const uint32_t queries, const uint32_t vectors)
{
    const float *weights = job->weights + query * job->weights_stride;
    const float *values = job->values + column;
    float *out = job->sums + query * job->sums_stride + column;
    __m256 sums[WEIGH_QUERIES][WEIGH_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm256_loadu_ps(out + q * job->sums_stride + 8 * i);
    for (uint32_t p = 0; p < job->count; p++) {
        const float *value = values + p * job->values_stride;

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 weight = _mm256_set1_ps(weights[q * job->weights_stride + p]);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(value + 8 * i), sums[q][i]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm256_storeu_ps(out + q * job->sums_stride + 8 * i, sums[q][i]);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t column, const uint32_t vectors)
{
    for (uint32_t query = 0; query < job->queries; query += WEIGH_QUERIES) {
        switch (job->queries - query) {
        case 1: weigh_tile(job, query, column, 1, vectors); break;
        case 2: weigh_tile(job, query, column, 2, vectors); break;
        default: weigh_tile(job, query, column, 3, vectors); break;
        }
    }
}

static void weigh(const struct cpu_weigh *job)
{
    uint32_t columns = cpu_pad(job->columns);
    uint32_t column = 0;

    for (; column + 2 * CPU_LANES <= columns; column += 2 * CPU_LANES)
        weigh_columns(job, column, 4);
    for (; column < columns; column += CPU_LANES)
        weigh_columns(job, column, 2);
}

static float max_of(const float *values, uint32_t count)
{
    __m256 max8 = _mm256_set1_ps(values[0]);
    float lanes[8];
    float max;
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        max8 = _mm256_max_ps(max8, _mm256_loadu_ps(values + i));
    _mm256_storeu_ps(lanes, max8);
    max = lanes[0];
    for (int lane = 1; lane < 8; lane++)
        max = lanes[lane] > max ? lanes[lane] : max;
    for (; i < count; i++)
        max = values[i] > max ? values[i] : max;
    return max;
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    struct lanes sum = lanes_zero();
    float lanes[CPU_LANES];
    float max = max_of(scores, count);
    uint32_t i = 0;

    for (; i + CPU_LANES <= count; i += CPU_LANES) {
        struct lanes v = lanes_load(scores + i);

        v.low = exp8(_mm256_sub_ps(v.low, _mm256_set1_ps(max)));
        v.high = exp8(_mm256_sub_ps(v.high, _mm256_set1_ps(max)));
        lanes_store(scores + i, v);
        sum.low = _mm256_add_ps(sum.low, v.low);
        sum.high = _mm256_add_ps(sum.high, v.high);
    }
    lanes_store(lanes, sum);
    for (; i < count; i++) {
        scores[i] = cpu_exp(scores[i] - max);
        lanes[i % CPU_LANES] += scores[i];
    }
    *max_out = max;
    *sum_out = cpu_reduce(lanes);
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(source + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (; i < count; i++)
        out[i] = model_float_to_half(source[i]);
}

static void from_half(const uint16_t *source, uint32_t count, float *out)
{
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(
            out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(source + i))));
    for (; i < count; i++)
        out[i] = model_half_to_float(source[i]);
    for (; i < cpu_pad(count); i++)
        out[i] = 0.0f;
}

const struct cpu_attention_kernels cpu_attention_avx2 = {
    .dots = dots,
    .weigh = weigh,
    .softmax = softmax,
    .to_half = to_half,
    .from_half = from_half,
};
