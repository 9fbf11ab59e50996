/*
 * attention_avx512.c: attention with 512-bit vectors.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/attention.h"
#include "engine/cpu/kernels/lanes_avx512.h"

/* dots' tile: 4 keys x 6 queries are 24 sums, which with 4 + 1 operands fit 32 registers. */
#define DOTS_QUERIES 6

/* weigh's tile: 4 vectors of a value row x 6 queries. */
#define WEIGH_VECTORS 4
#define WEIGH_QUERIES 6

/* ------------------------------------------------------------------ attention's dot products */

/* One tile: 4 keys x `queries`. */
INLINE void dots_tile(const struct cpu_dots *job, uint32_t p, uint32_t query,
                      const uint32_t queries)
{
    const float *keys = job->keys + p * job->keys_stride;
    const float *x = job->x + query * job->x_stride;
    uint32_t left = job->count - p;
    __mmask8 mask = left >= 4 ? 0xf : (__mmask8)((1u << left) - 1);
    __m512 sums[DOTS_QUERIES][CPU_ROW_GROUP];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        for (uint32_t i = 0; i < CPU_ROW_GROUP; i++)
            sums[q][i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m512 key0 = _mm512_loadu_ps(keys + k);
        __m512 key1 = _mm512_loadu_ps(keys + job->keys_stride + k);
        __m512 key2 = _mm512_loadu_ps(keys + 2 * job->keys_stride + k);
        __m512 key3 = _mm512_loadu_ps(keys + 3 * job->keys_stride + k);

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 v = _mm512_loadu_ps(x + q * job->x_stride + k);

            sums[q][0] = _mm512_fmadd_ps(key0, v, sums[q][0]);
            sums[q][1] = _mm512_fmadd_ps(key1, v, sums[q][1]);
            sums[q][2] = _mm512_fmadd_ps(key2, v, sums[q][2]);
            sums[q][3] = _mm512_fmadd_ps(key3, v, sums[q][3]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        _mm_mask_storeu_ps(job->y + (query + q) * job->y_stride + p, mask,
                           reduce4(sums[q][0], sums[q][1], sums[q][2], sums[q][3]));
}

static void dots(const struct cpu_dots *job)
{
    for (uint32_t query = 0; query < job->queries; query += DOTS_QUERIES) {
        uint32_t queries = job->queries - query;

        for (uint32_t p = 0; p < job->count; p += CPU_ROW_GROUP) {
            switch (queries) {
            case 1: dots_tile(job, p, query, 1); break;
            case 2: dots_tile(job, p, query, 2); break;
            case 3: dots_tile(job, p, query, 3); break;
            case 4: dots_tile(job, p, query, 4); break;
            case 5: dots_tile(job, p, query, 5); break;
            default: dots_tile(job, p, query, 6); break;
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
    __m512 sums[WEIGH_QUERIES][WEIGH_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm512_loadu_ps(out + q * job->sums_stride + i * CPU_LANES);
    for (uint32_t p = 0; p < job->count; p++) {
        const float *value = values + p * job->values_stride;

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 weight = _mm512_set1_ps(weights[q * job->weights_stride + p]);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] =
                    _mm512_fmadd_ps(weight, _mm512_loadu_ps(value + i * CPU_LANES), sums[q][i]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm512_storeu_ps(out + q * job->sums_stride + i * CPU_LANES, sums[q][i]);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t column, const uint32_t vectors)
{
    for (uint32_t query = 0; query < job->queries; query += WEIGH_QUERIES) {
        switch (job->queries - query) {
        case 1: weigh_tile(job, query, column, 1, vectors); break;
        case 2: weigh_tile(job, query, column, 2, vectors); break;
        case 3: weigh_tile(job, query, column, 3, vectors); break;
        case 4: weigh_tile(job, query, column, 4, vectors); break;
        case 5: weigh_tile(job, query, column, 5, vectors); break;
        default: weigh_tile(job, query, column, 6, vectors); break;
        }
    }
}

static void weigh(const struct cpu_weigh *job)
{
    uint32_t columns = cpu_pad(job->columns);
    uint32_t column = 0;

    for (; column + 4 * CPU_LANES <= columns; column += 4 * CPU_LANES)
        weigh_columns(job, column, 4);
    for (; column < columns; column += CPU_LANES)
        weigh_columns(job, column, 1);
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    __m512 max = _mm512_set1_ps(scores[0]);
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t i = 0; i < count; i += CPU_LANES)
        max = _mm512_mask_max_ps(max, first_lanes(count - i), max,
                                 _mm512_maskz_loadu_ps(first_lanes(count - i), scores + i));
    *max_out = _mm512_reduce_max_ps(max); /* a maximum has no rounding: any order will do */
    max = _mm512_set1_ps(*max_out);
    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m512 weight = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + i), max));

        _mm512_mask_storeu_ps(scores + i, mask, weight);
        sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(mask, weight));
    }
    *sum_out = reduce(sum);
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m256i halves = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, source + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

        _mm256_mask_storeu_epi16(out + i, mask, halves);
    }
}

static void from_half(const uint16_t *source, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i += CPU_LANES)
        _mm512_storeu_ps(
            out + i, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count - i), source + i)));
}

const struct cpu_attention_kernels cpu_attention_avx512 = {
    .dots = dots,
    .weigh = weigh,
    .softmax = softmax,
    .to_half = to_half,
    .from_half = from_half,
};
