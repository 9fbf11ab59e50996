/*
 * attention_avx2.c: attention with 256-bit vectors.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/attention_plain.h"
#include "engine/cpu/kernels/attention_whole_avx2.h"
#include "engine/cpu/kernels/lanes_avx2.h"

/* A tile: 4 vectors of K or V x 3 queries are 12 sums, which with 1 + 3 operands fit 16 registers. */
#define VECTORS 4
#define QUERIES 3
#define WIDTH   8 /* of a vector: half of the 16 lanes */

#define LINE 64 /* bytes that memory gives at a time */

/* 8 elements of a group, from one on. */
INLINE __m256 load(const uint8_t *group, size_t element, const enum cpu_kv_dtype dtype)
{
    if (dtype == CPU_KV_F32)
        return _mm256_loadu_ps((const float *)(const void *)group + element);
    return _mm256_cvtph_ps(
        _mm_loadu_si128((const __m128i *)(const void *)(group + element * sizeof(uint16_t))));
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

/* Vectors of whole groups. */
static uint32_t vectors_of(uint32_t count)
{
    return (count + CPU_KV_GROUP - 1) / CPU_KV_GROUP * (CPU_KV_GROUP / WIDTH);
}

/* One vector of K or V, for all queries of a tile. */
INLINE void add_vector(__m256 vector, const __m256 operands[QUERIES], const uint32_t queries,
                       const uint32_t i, __m256 (*sums)[VECTORS])
{
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        sums[q][i] = _mm256_fmadd_ps(vector, operands[q], sums[q][i]);
}

INLINE void store_sums(float *out, size_t stride, const uint32_t queries, const uint32_t vectors,
                       __m256 (*sums)[VECTORS])
{
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm256_storeu_ps(out + q * stride + i * WIDTH, sums[q][i]);
}

/* ------------------------------------------------------------------ scores */

/* One tile: `queries` x `vectors` (constants where inlined), from a query and a vector on. */
INLINE void score_tile(const struct cpu_scores *job, uint32_t query, uint32_t first,
                       const uint32_t queries, const uint32_t vectors,
                       const enum cpu_kv_dtype dtype)
{
    const uint8_t *const *keys = job->groups + first / 2;
    const float *x = job->x + query * job->x_stride;
    __m256 sums[QUERIES][VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < job->head_dim; d++) {
        __m256 v[QUERIES];

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++)
            v[q] = _mm256_set1_ps(x[q * job->x_stride + d]);
        fetch_keys(keys + CPU_GROUPS_AHEAD, d, vectors / 2, dtype);
        CPU_UNROLL
        for (uint32_t i = 0; i < vectors; i++)
            add_vector(load(keys[i / 2], (size_t)d * CPU_KV_GROUP + i % 2 * WIDTH, dtype), v,
                       queries, i, sums);
    }
    store_sums(job->y + query * job->y_stride + (size_t)first * WIDTH, job->y_stride, queries,
               vectors, sums);
}

/* Two vectors, or four. */
INLINE void score_vectors(const struct cpu_scores *job, uint32_t query, uint32_t first,
                          uint32_t vectors, const uint32_t queries, const enum cpu_kv_dtype dtype)
{
    if (vectors >= VECTORS)
        score_tile(job, query, first, queries, VECTORS, dtype);
    else
        score_tile(job, query, first, queries, 2, dtype);
}

INLINE void scores(const struct cpu_scores *job, const enum cpu_kv_dtype dtype)
{
    uint32_t all = vectors_of(job->counts[job->queries - 1]);
    uint32_t queries;

    for (uint32_t first = 0; first < all; first += VECTORS) {
        for (uint32_t query = 0; query < job->queries; query += queries) {
            uint32_t end;

            queries = tile_queries(job->queries - query);
            end = vectors_of(job->counts[query + queries - 1]);
            if (end <= first)
                continue;
            switch (queries) {
            case 1: score_vectors(job, query, first, end - first, 1, dtype); break;
            case 2: score_vectors(job, query, first, end - first, 2, dtype); break;
            default: score_vectors(job, query, first, end - first, 3, dtype); break;
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
                            const uint32_t vectors, __m256 (*sums)[VECTORS],
                            const enum cpu_kv_dtype dtype)
{
    const uint8_t *values = job->groups[begin / CPU_KV_GROUP];
    const uint8_t *ahead = job->groups[begin / CPU_KV_GROUP + CPU_GROUPS_AHEAD];
    size_t element = (size_t)(begin % CPU_KV_GROUP) * job->head_dim + column;
    const size_t bytes = dtype == CPU_KV_F32 ? sizeof(float) : sizeof(uint16_t);

    for (uint32_t p = begin; p < end; p++, element += job->head_dim) {
        __m256 v[QUERIES];

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++)
            v[q] = _mm256_set1_ps(weights[q * job->weights_stride + p]);
        CPU_UNROLL
        for (uint32_t i = 0; i < vectors * WIDTH * bytes; i += LINE)
            fetch(ahead + element * bytes + i);
        CPU_UNROLL
        for (uint32_t i = 0; i < vectors; i++)
            add_vector(load(values, element + i * WIDTH, dtype), v, queries, i, sums);
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
    __m256 sums[QUERIES][VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm256_setzero_ps();
    for (uint32_t p = 0; p < common; p += CPU_KV_GROUP) {
        uint32_t end = common - p < CPU_KV_GROUP ? common : p + CPU_KV_GROUP;

        weigh_positions(job, weights, column, p, end, queries, vectors, sums, dtype);
    }
    CPU_UNROLL
    for (uint32_t q = 1; q < queries; q++)
        for (uint32_t p = common; p < job->counts[query + q]; p++)
            weigh_positions(job, weights + q * job->weights_stride, column, p, p + 1, 1, vectors,
                            sums + q, dtype);
    store_sums(out, job->sums_stride, queries, vectors, sums);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t query, const uint32_t queries,
                          const enum cpu_kv_dtype dtype)
{
    uint32_t column = 0;

    for (; column + VECTORS * WIDTH <= job->head_dim; column += VECTORS * WIDTH)
        weigh_tile(job, query, column, queries, VECTORS, dtype);
    for (; column + CPU_LANES <= job->head_dim; column += CPU_LANES)
        weigh_tile(job, query, column, queries, 2, dtype);
}

INLINE void weigh(const struct cpu_weigh *job, const enum cpu_kv_dtype dtype)
{
    uint32_t queries;

    for (uint32_t query = 0; query < job->queries; query += queries) {
        queries = tile_queries(job->queries - query);
        switch (queries) {
        case 1: weigh_columns(job, query, 1, dtype); break;
        case 2: weigh_columns(job, query, 2, dtype); break;
        default: weigh_columns(job, query, 3, dtype); break;
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

        v.low = exp2_8(_mm256_sub_ps(v.low, _mm256_set1_ps(max)));
        v.high = exp2_8(_mm256_sub_ps(v.high, _mm256_set1_ps(max)));
        lanes_store(scores + i, v);
        sum.low = _mm256_add_ps(sum.low, v.low);
        sum.high = _mm256_add_ps(sum.high, v.high);
    }
    lanes_store(lanes, sum);
    for (; i < count; i++) {
        scores[i] = cpu_exp2(scores[i] - max);
        lanes[i % CPU_LANES] += scores[i];
    }
    *max_out = max;
    *sum_out = cpu_reduce(lanes);
}

static void merge(float *total, const float *later, uint32_t head_dim)
{
    struct plain_scales scales = plain_merge_scales(total, later);

    for (uint32_t i = CPU_SUMS_VALUES; i < CPU_SUMS_VALUES + cpu_pad(head_dim); i += WIDTH) {
        __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(total + i), _mm256_set1_ps(scales.total));

        _mm256_storeu_ps(total + i, _mm256_fmadd_ps(_mm256_loadu_ps(later + i),
                                                    _mm256_set1_ps(scales.later), scaled));
    }
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

const struct cpu_attention_kernels cpu_attention_avx2 = {
    .scores = {[CPU_KV_F16] = scores_f16, [CPU_KV_F32] = scores_f32, [CPU_KV_INT8] = scores_int8},
    .weigh = {[CPU_KV_F16] = weigh_f16, [CPU_KV_F32] = weigh_f32, [CPU_KV_INT8] = weigh_int8},
    .softmax = softmax,
    .merge = merge,
    .to_half = to_half,
    .to_int8 = to_int8,
};
