/*
 * attention_avx512.c: attention with 512-bit vectors.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist. And a second time, with
 * VNNI, by attention_vnni.c.
 */
#include "engine/cpu/kernels/attention_plain.h"
#include "engine/cpu/kernels/attention_whole_avx512.h"
#include "engine/cpu/kernels/lanes_avx512.h"

#ifdef __AVX512VNNI__
#define TABLE cpu_attention_vnni
#else
#define TABLE cpu_attention_avx512
#endif

/* A tile: 4 vectors of K or V x 6 queries are 24 sums, which with 4 + 1 operands fit 32 registers. */
#define VECTORS 4
#define QUERIES 6

#define LINE 64 /* bytes that memory gives at a time */

/* 16 elements of a group, from one on. */
INLINE __m512 load(const uint8_t *group, size_t element, const enum cpu_kv_dtype dtype)
{
    if (dtype == CPU_KV_F32)
        return _mm512_loadu_ps((const float *)(const void *)group + element);
    return _mm512_cvtph_ps(
        _mm256_loadu_si256((const __m256i *)(const void *)(group + element * sizeof(uint16_t))));
}

/* What lies as far into later groups as row d does in these: a line of memory may be a row or two. */
INLINE void fetch_keys(const uint8_t *const *ahead, uint32_t d, const uint32_t groups,
                       const enum cpu_kv_dtype dtype)
{
    size_t bytes = CPU_KV_GROUP * (dtype == CPU_KV_F32 ? sizeof(float) : sizeof(uint16_t));
    const uint32_t step = dtype == CPU_KV_F32 || groups == 1 ? 1 : 2;

    CPU_UNROLL
    for (uint32_t i = 0; i < groups; i += step)
        fetch(ahead[i + d % step] + d / step * step * bytes);
}

/* Queries of the next tile: so many, of those that are left, that all tiles are about as large. */
static uint32_t tile_queries(uint32_t left)
{
    uint32_t tiles = (left + QUERIES - 1) / QUERIES;

    return (left + tiles - 1) / tiles;
}

/* ------------------------------------------------------------------ scores */

/* One tile: `queries` x `groups` (constants where inlined), from a query and a group on. */
INLINE void score_tile(const struct cpu_scores *job, uint32_t query, uint32_t first,
                       const uint32_t queries, const uint32_t groups, const enum cpu_kv_dtype dtype)
{
    const uint8_t *const *keys = job->groups + first;
    const float *x = job->x + query * job->x_stride;
    float *y = job->y + query * job->y_stride + (size_t)first * CPU_LANES;
    __m512 sums[QUERIES][VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < groups; i++)
        sums[q][i] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < job->head_dim; d++) {
        __m512 key[VECTORS];

        CPU_UNROLL
        for (uint32_t i = 0; i < groups; i++)
            key[i] = load(keys[i], (size_t)d * CPU_KV_GROUP, dtype);
        fetch_keys(keys + CPU_GROUPS_AHEAD, d, groups, dtype);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 v = _mm512_set1_ps(x[q * job->x_stride + d]);

            CPU_UNROLL
            for (uint32_t i = 0; i < groups; i++)
                sums[q][i] = _mm512_fmadd_ps(key[i], v, sums[q][i]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < groups; i++)
        _mm512_storeu_ps(y + q * job->y_stride + (size_t)i * CPU_LANES, sums[q][i]);
}

/* Up to VECTORS groups. */
INLINE void score_groups(const struct cpu_scores *job, uint32_t query, uint32_t first,
                         uint32_t groups, const uint32_t queries, const enum cpu_kv_dtype dtype)
{
    if (groups == VECTORS) {
        score_tile(job, query, first, queries, VECTORS, dtype);
        return;
    }
    if ((groups & 2) != 0)
        score_tile(job, query, first, queries, 2, dtype);
    if ((groups & 1) != 0)
        score_tile(job, query, first + (groups & 2), queries, 1, dtype);
}

INLINE void scores(const struct cpu_scores *job, const enum cpu_kv_dtype dtype)
{
    uint32_t all = groups_of(job->counts[job->queries - 1]);
    uint32_t queries;

    for (uint32_t first = 0; first < all; first += VECTORS) {
        for (uint32_t query = 0; query < job->queries; query += queries) {
            uint32_t end;
            uint32_t groups;

            queries = tile_queries(job->queries - query);
            end = groups_of(job->counts[query + queries - 1]);
            groups = end <= first ? 0 : end - first < VECTORS ? end - first : VECTORS;
            switch (queries) {
            case 1: score_groups(job, query, first, groups, 1, dtype); break;
            case 2: score_groups(job, query, first, groups, 2, dtype); break;
            case 3: score_groups(job, query, first, groups, 3, dtype); break;
            case 4: score_groups(job, query, first, groups, 4, dtype); break;
            case 5: score_groups(job, query, first, groups, 5, dtype); break;
            default: score_groups(job, query, first, groups, 6, dtype); break;
            }
        }
    }
}

static void scores_f16(const struct cpu_scores *job)
{
    scores(job, CPU_KV_F16);
}

static void scores_f32(const struct cpu_scores *job)
{
    scores(job, CPU_KV_F32);
}

/* ------------------------------------------------------------------ sums of values */

/* What the positions begin to end - 1 add to a tile's sums. */
INLINE void weigh_positions(const struct cpu_weigh *job, const float *weights, uint32_t column,
                            uint32_t begin, uint32_t end, const uint32_t queries,
                            const uint32_t vectors, __m512 (*sums)[VECTORS],
                            const enum cpu_kv_dtype dtype)
{
    const uint8_t *values = job->groups[begin / CPU_KV_GROUP];
    const uint8_t *ahead = job->groups[begin / CPU_KV_GROUP + CPU_GROUPS_AHEAD];
    size_t element = (size_t)(begin % CPU_KV_GROUP) * job->head_dim + column;
    const size_t bytes = dtype == CPU_KV_F32 ? sizeof(float) : sizeof(uint16_t);

    for (uint32_t p = begin; p < end; p++, element += job->head_dim) {
        __m512 value[VECTORS];

        CPU_UNROLL
        for (uint32_t i = 0; i < vectors; i++)
            value[i] = load(values, element + i * CPU_LANES, dtype);
        CPU_UNROLL
        for (uint32_t i = 0; i < vectors * CPU_LANES * bytes; i += LINE)
            fetch(ahead + element * bytes + i);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 weight = _mm512_set1_ps(weights[q * job->weights_stride + p]);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] = _mm512_fmadd_ps(value[i], weight, sums[q][i]);
        }
    }
}

/*
 * The sums of some vectors of columns x `queries`. What all queries see is added to all at once; what is left
 * of the triangle, query by query, so that none adds even a zero for a position that it does not see.
 */
INLINE void weigh_tile(const struct cpu_weigh *job, uint32_t query, uint32_t column,
                       const uint32_t queries, const uint32_t vectors,
                       const enum cpu_kv_dtype dtype)
{
    const float *weights = job->weights + query * job->weights_stride;
    float *out = job->sums + query * job->sums_stride + column;
    uint32_t common = job->counts[query];
    __m512 sums[QUERIES][VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm512_setzero_ps();
    for (uint32_t p = 0; p < common; p += CPU_KV_GROUP) {
        uint32_t end = common - p < CPU_KV_GROUP ? common : p + CPU_KV_GROUP;

        weigh_positions(job, weights, column, p, end, queries, vectors, sums, dtype);
    }
    CPU_UNROLL
    for (uint32_t q = 1; q < queries; q++)
        for (uint32_t p = common; p < job->counts[query + q]; p++)
            weigh_positions(job, weights + q * job->weights_stride, column, p, p + 1, 1, vectors,
                            sums + q, dtype);
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm512_storeu_ps(out + q * job->sums_stride + i * CPU_LANES, sums[q][i]);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t query, const uint32_t queries,
                          const enum cpu_kv_dtype dtype)
{
    uint32_t column = 0;

    for (; column + VECTORS * CPU_LANES <= job->head_dim; column += VECTORS * CPU_LANES)
        weigh_tile(job, query, column, queries, VECTORS, dtype);
    for (; column + CPU_LANES <= job->head_dim; column += CPU_LANES)
        weigh_tile(job, query, column, queries, 1, dtype);
}

INLINE void weigh(const struct cpu_weigh *job, const enum cpu_kv_dtype dtype)
{
    uint32_t queries;

    for (uint32_t query = 0; query < job->queries; query += queries) {
        queries = tile_queries(job->queries - query);
        switch (queries) {
        case 1: weigh_columns(job, query, 1, dtype); break;
        case 2: weigh_columns(job, query, 2, dtype); break;
        case 3: weigh_columns(job, query, 3, dtype); break;
        case 4: weigh_columns(job, query, 4, dtype); break;
        case 5: weigh_columns(job, query, 5, dtype); break;
        default: weigh_columns(job, query, 6, dtype); break;
        }
    }
    plain_weigh(job, job->head_dim / CPU_LANES * CPU_LANES, dtype);
}

static void weigh_f16(const struct cpu_weigh *job)
{
    weigh(job, CPU_KV_F16);
}

static void weigh_f32(const struct cpu_weigh *job)
{
    weigh(job, CPU_KV_F32);
}

/* ------------------------------------------------------------------ the rest */

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
        __m512 weight = exp2_16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + i), max));

        _mm512_mask_storeu_ps(scores + i, mask, weight);
        sum = _mm512_mask_add_ps(sum, mask, sum, weight);
    }
    *sum_out = reduce(sum);
}

static void merge(float *total, const float *later, uint32_t head_dim)
{
    struct plain_scales scales = plain_merge_scales(total, later);

    for (uint32_t i = CPU_SUMS_VALUES; i < CPU_SUMS_VALUES + head_dim; i += CPU_LANES) {
        __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(total + i), _mm512_set1_ps(scales.total));

        _mm512_storeu_ps(total + i, _mm512_fmadd_ps(_mm512_loadu_ps(later + i),
                                                    _mm512_set1_ps(scales.later), scaled));
    }
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

const struct cpu_attention_kernels TABLE = {
    .scores = {[CPU_KV_F16] = scores_f16, [CPU_KV_F32] = scores_f32, [CPU_KV_INT8] = scores_int8},
    .weigh = {[CPU_KV_F16] = weigh_f16, [CPU_KV_F32] = weigh_f32, [CPU_KV_INT8] = weigh_int8},
    .softmax = softmax,
    .merge = merge,
    .to_half = to_half,
    .to_int8 = to_int8,
};
