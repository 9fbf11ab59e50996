/*
 * attention_whole_avx2.h: attention over K and V in whole numbers, with 256-bit vectors: pairs of numbers, each with
 * 16 bits, are multiplied and added to sums of 32 bits. For attention_avx2.c alone.
 *
 * The order of these sums is free: they are exact.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ATTENTION_WHOLE_AVX2_H
#define TANDEM_ENGINE_CPU_KERNELS_ATTENTION_WHOLE_AVX2_H

#include "engine/cpu/kernels/attention_plain.h"
#include "engine/cpu/kernels/lanes_avx2.h"

/* A tile: 4 queries x 16 lanes are 8 sums, which with 4 + 2 operands fit 16 registers. */
#define WHOLE_QUERIES    4
#define WHOLE_VECTORS    2
#define WHOLE_PAIR_BYTES 16 /* of 8 lanes */

/* Queries whose numbers are kept at once. */
#define WHOLE_CHUNK 48

/* Numbers of queries, or of their weights, and their scales. */
struct whole {
    int16_t numbers[WHOLE_CHUNK][CPU_SPLIT]; /* at least as many as a head has elements */
    float scales[WHOLE_CHUNK];
};

_Static_assert(MODEL_HEAD_DIM_MAX <= CPU_SPLIT, "a query fits");

INLINE void fetch(const uint8_t *address)
{
    _mm_prefetch((const char *)address, _MM_HINT_T0);
}

INLINE __m256i load_pairs(const uint8_t *group)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)group));
}

/* A pair of a query, or of weights, in all lanes. */
INLINE __m256i spread_pair(const int16_t *numbers)
{
    int32_t pair;

    memcpy(&pair, numbers, sizeof pair);
    return _mm256_set1_epi32(pair);
}

static float largest_of(const float *x, uint32_t count)
{
    __m256i most = _mm256_setzero_si256();
    float largest[9];
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)),
                                                       _mm256_set1_epi32(0x7fffffff)));
    _mm256_storeu_ps(largest, _mm256_castsi256_ps(most));
    largest[8] = plain_largest(x + i, count - i);
    return plain_largest(largest, 9);
}

/* 16 values in whole numbers, as 16 bits each. */
INLINE __m256i round_lanes(const float *x, float inverse)
{
    struct lanes v = lanes_load(x);
    __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(v.low, _mm256_set1_ps(inverse)));
    __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(v.high, _mm256_set1_ps(inverse)));

    return _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
}

/* x in whole numbers; returns their scale. */
static float to_whole(const float *x, uint32_t count, int16_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(largest_of(x, count), PLAIN_WHOLE_MAX);
    uint32_t i = 0;

    if (how.inverse == 0.0f) {
        memset(out, 0, count * sizeof *out);
        return how.scale;
    }
    for (; i + CPU_LANES <= count; i += CPU_LANES)
        _mm256_storeu_si256((__m256i *)(void *)(out + i), round_lanes(x + i, how.inverse));
    for (; i < count; i++)
        out[i] = (int16_t)rintf(x[i] * how.inverse);
    return how.scale;
}

static float to_int8(const float *source, uint32_t count, int8_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(largest_of(source, count), CPU_KV_QUANT_MAX);
    uint32_t i = 0;

    if (how.inverse == 0.0f) {
        memset(out, 0, count);
        return how.scale;
    }
    for (; i + CPU_LANES <= count; i += CPU_LANES) {
        __m256i words = round_lanes(source + i, how.inverse);

        _mm_storeu_si128(
            (__m128i *)(void *)(out + i),
            _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    for (; i < count; i++)
        out[i] = (int8_t)rintf(source[i] * how.inverse);
    return how.scale;
}

/* Queries of the next tile: so many, of those that are left, that all tiles are about as large. */
static uint32_t whole_tile_queries(uint32_t left)
{
    uint32_t tiles = (left + WHOLE_QUERIES - 1) / WHOLE_QUERIES;

    return (left + tiles - 1) / tiles;
}

/* Calls tile(..., queries as a constant). */
#define WHOLE_TILE(tile, queries, ...)    \
    switch (queries) {                    \
    case 1: tile(__VA_ARGS__, 1); break;  \
    case 2: tile(__VA_ARGS__, 2); break;  \
    case 3: tile(__VA_ARGS__, 3); break;  \
    default: tile(__VA_ARGS__, 4); break; \
    }

INLINE void clear_tile(__m256i (*sums)[WHOLE_VECTORS], const uint32_t queries)
{
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < WHOLE_VECTORS; i++)
        sums[q][i] = _mm256_setzero_si256();
}

/* What a pair of rows, or of positions, adds to a tile. */
INLINE void add_tile(__m256i (*sums)[WHOLE_VECTORS], const uint8_t *group,
                     const int16_t (*numbers)[CPU_SPLIT], uint32_t at, const uint32_t queries)
{
    const __m256i low = load_pairs(group);
    const __m256i high = load_pairs(group + WHOLE_PAIR_BYTES);

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++) {
        __m256i pair = spread_pair(numbers[q] + at);

        sums[q][0] = _mm256_add_epi32(sums[q][0], _mm256_madd_epi16(low, pair));
        sums[q][1] = _mm256_add_epi32(sums[q][1], _mm256_madd_epi16(high, pair));
    }
}

/* ------------------------------------------------------------------ scores */

/* A part of a job: the queries first to first + count - 1 and their numbers. */
struct whole_scores {
    const struct cpu_scores *job;
    const struct whole *x;
    uint32_t first;
    uint32_t count;
};

/* One tile: `queries` x a group. */
INLINE void score_whole_tile(const struct whole_scores *part, uint32_t query, uint32_t group,
                             const uint32_t queries)
{
    const struct cpu_scores *job = part->job;
    const uint8_t *keys = job->groups[group];
    const uint8_t *ahead = job->groups[group + CPU_GROUPS_AHEAD];
    float *y = job->y + (part->first + query) * job->y_stride + (size_t)group * CPU_LANES;
    size_t scales = cpu_kv_scales(job->head_dim);
    struct lanes scale = lanes_load((const float *)(const void *)(keys + scales));
    __m256i sums[WHOLE_QUERIES][WHOLE_VECTORS];

    clear_tile(sums, queries);
    fetch(ahead + scales);
    for (uint32_t d = 0; d < job->head_dim; d += 2) {
        size_t at = (size_t)d * CPU_KV_GROUP;

        fetch(ahead + at);
        add_tile(sums, keys + at, part->x->numbers + query, d, queries);
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++) {
        __m256 own = _mm256_set1_ps(part->x->scales[query + q]);
        struct lanes sum = {_mm256_mul_ps(_mm256_cvtepi32_ps(sums[q][0]), own),
                            _mm256_mul_ps(_mm256_cvtepi32_ps(sums[q][1]), own)};

        lanes_store(y + q * job->y_stride, (struct lanes){_mm256_mul_ps(sum.low, scale.low),
                                                          _mm256_mul_ps(sum.high, scale.high)});
    }
}

static void score_part(const struct whole_scores *part)
{
    const uint32_t *counts = part->job->counts + part->first;
    uint32_t queries;

    for (uint32_t group = 0; group * CPU_KV_GROUP < counts[part->count - 1]; group++)
        for (uint32_t query = 0; query < part->count; query += queries) {
            queries = whole_tile_queries(part->count - query);
            if (counts[query + queries - 1] <= group * CPU_KV_GROUP)
                continue;
            WHOLE_TILE(score_whole_tile, queries, part, query, group)
        }
}

static void scores_int8(const struct cpu_scores *job)
{
    struct whole x;

    for (uint32_t first = 0; first < job->queries; first += WHOLE_CHUNK) {
        uint32_t left = job->queries - first;
        struct whole_scores part = {
            .job = job, .x = &x, .first = first, .count = left < WHOLE_CHUNK ? left : WHOLE_CHUNK};

        for (uint32_t i = 0; i < part.count; i++)
            x.scales[i] =
                to_whole(job->x + (first + i) * job->x_stride, job->head_dim, x.numbers[i]);
        score_part(&part);
    }
}

/* ------------------------------------------------------------------ sums of values */

struct whole_weigh {
    const struct cpu_weigh *job;
    const struct whole *weights; /* zeros where a query sees nothing */
    uint32_t first;
    uint32_t count;
};

/* The sums of 16 columns x `queries`, from a query of the part on. */
INLINE void weigh_whole_tile(const struct whole_weigh *part, uint32_t query, uint32_t column,
                             const uint32_t queries)
{
    const struct cpu_weigh *job = part->job;
    uint32_t end = job->counts[part->first + query + queries - 1];
    float *out = job->sums + (part->first + query) * job->sums_stride + column;
    __m256i sums[WHOLE_QUERIES][WHOLE_VECTORS];

    clear_tile(sums, queries);
    for (uint32_t p = 0; p < end; p += 2) {
        size_t at = cpu_kv_value_index(CPU_KV_INT8, job->head_dim, p % CPU_KV_GROUP, column);

        fetch(job->groups[p / CPU_KV_GROUP + CPU_GROUPS_AHEAD] + at);
        add_tile(sums, job->groups[p / CPU_KV_GROUP] + at, part->weights->numbers + query, p,
                 queries);
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++) {
        __m256 scale = _mm256_set1_ps(part->weights->scales[query + q]);

        lanes_store(out + q * job->sums_stride,
                    (struct lanes){_mm256_mul_ps(_mm256_cvtepi32_ps(sums[q][0]), scale),
                                   _mm256_mul_ps(_mm256_cvtepi32_ps(sums[q][1]), scale)});
    }
}

INLINE void weigh_whole_columns(const struct whole_weigh *part, uint32_t query,
                                const uint32_t queries)
{
    for (uint32_t column = 0; column + CPU_LANES <= part->job->head_dim; column += CPU_LANES)
        weigh_whole_tile(part, query, column, queries);
}

/* Weights of positions, times the scales of their values, in whole numbers; zeros up to `end`. */
static float scale_weights(const struct cpu_weigh *job, uint32_t query, uint32_t end, int16_t *out)
{
    const float *weights = job->weights + query * job->weights_stride;
    uint32_t count = job->counts[query];
    size_t scales = cpu_kv_scales(job->head_dim);
    float scaled[CPU_SPLIT];
    uint32_t p = 0;

    for (; p + CPU_LANES <= count; p += CPU_LANES) {
        struct lanes a = lanes_load(weights + p);
        struct lanes b =
            lanes_load((const float *)(const void *)(job->groups[p / CPU_LANES] + scales));

        lanes_store(scaled + p,
                    (struct lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)});
    }
    for (; p < count; p++)
        scaled[p] =
            weights[p] * plain_kv_scale(job->groups[p / CPU_LANES], job->head_dim, p % CPU_LANES);
    memset(out + count, 0, (end - count) * sizeof *out);
    return to_whole(scaled, count, out);
}

static void weigh_int8(const struct cpu_weigh *job)
{
    uint32_t end = cpu_pad(job->counts[job->queries - 1]);
    struct whole weights;
    uint32_t queries;

    for (uint32_t first = 0; first < job->queries; first += WHOLE_CHUNK) {
        uint32_t left = job->queries - first;
        struct whole_weigh part = {.job = job,
                                   .weights = &weights,
                                   .first = first,
                                   .count = left < WHOLE_CHUNK ? left : WHOLE_CHUNK};

        for (uint32_t i = 0; i < part.count; i++)
            weights.scales[i] = scale_weights(job, first + i, end, weights.numbers[i]);
        for (uint32_t query = 0; query < part.count; query += queries) {
            queries = whole_tile_queries(part.count - query);
            WHOLE_TILE(weigh_whole_columns, queries, &part, query)
        }
    }
    plain_weigh_whole(job, job->head_dim / CPU_LANES * CPU_LANES);
}

#endif
