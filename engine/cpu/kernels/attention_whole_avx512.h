/*
 * attention_whole_avx512.h: attention over K and V in whole numbers, with 512-bit vectors: pairs of numbers, each
 * with 16 bits, are multiplied and added to sums of 32 bits. For attention_avx512.c, and for attention_vnni.c, where
 * that is one operation.
 *
 * The order of these sums is free: they are exact.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ATTENTION_WHOLE_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_ATTENTION_WHOLE_AVX512_H

#include "engine/cpu/kernels/attention_plain.h"
#include "engine/cpu/kernels/lanes_avx512.h"

/* Tiles: up to 6 queries x 4 vectors, or 8 x 2: a group of heads should read K and V once. */
#define WHOLE_QUERIES      8
#define WHOLE_QUERIES_WIDE 6
#define WHOLE_VECTORS      4
#define WHOLE_PAIR_BYTES   32 /* of 16 lanes */

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

static uint32_t groups_of(uint32_t count)
{
    return (count + CPU_KV_GROUP - 1) / CPU_KV_GROUP;
}

INLINE __m512i add_pairs(__m512i sums, __m512i a, __m512i b)
{
#ifdef __AVX512VNNI__
    return _mm512_dpwssd_epi32(sums, a, b);
#else
    return _mm512_add_epi32(sums, _mm512_madd_epi16(a, b));
#endif
}

INLINE __m512i load_pairs(const uint8_t *group)
{
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)group));
}

/* A pair of a query, or of weights, in all lanes. */
INLINE __m512i spread_pair(const int16_t *numbers)
{
    int32_t pair;

    memcpy(&pair, numbers, sizeof pair);
    return _mm512_set1_epi32(pair);
}

INLINE float largest_of_bits(__m512i most)
{
    uint32_t bits = _mm512_reduce_max_epu32(most);
    float largest;

    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

INLINE __m512i magnitude_bits(__m512 x)
{
    return _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
}

static float largest_of(const float *x, uint32_t count)
{
    __m512i most = _mm512_setzero_si512();

    for (uint32_t i = 0; i < count; i += CPU_LANES)
        most = _mm512_max_epu32(
            most, magnitude_bits(_mm512_maskz_loadu_ps(first_lanes(count - i), x + i)));
    return largest_of_bits(most);
}

/* 16 values, or fewer, in whole numbers. */
INLINE __m512i round_lanes(const float *x, uint32_t count, float inverse)
{
    return _mm512_cvtps_epi32(
        _mm512_mul_ps(_mm512_maskz_loadu_ps(first_lanes(count), x), _mm512_set1_ps(inverse)));
}

/* x in whole numbers, zeros behind them up to a multiple of 16; returns their scale. */
static float to_whole(const float *x, uint32_t count, int16_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(largest_of(x, count), PLAIN_WHOLE_MAX);

    if (how.inverse == 0.0f)
        memset(out, 0, cpu_pad(count) * sizeof *out);
    for (uint32_t i = 0; how.inverse != 0.0f && i < count; i += CPU_LANES)
        _mm256_storeu_si256((__m256i *)(void *)(out + i),
                            _mm512_cvtepi32_epi16(round_lanes(x + i, count - i, how.inverse)));
    return how.scale;
}

static float to_int8(const float *source, uint32_t count, int8_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(largest_of(source, count), CPU_KV_QUANT_MAX);

    if (how.inverse == 0.0f)
        memset(out, 0, count);
    for (uint32_t i = 0; how.inverse != 0.0f && i < count; i += CPU_LANES)
        _mm_mask_storeu_epi8(out + i, first_lanes(count - i),
                             _mm512_cvtepi32_epi8(round_lanes(source + i, count - i, how.inverse)));
    return how.scale;
}

/* Queries of the next tile: so many, of those that are left, that all tiles are about as large. */
static uint32_t whole_tile_queries(uint32_t left)
{
    uint32_t tiles = (left + WHOLE_QUERIES - 1) / WHOLE_QUERIES;

    return (left + tiles - 1) / tiles;
}

/* Calls tile(..., queries as a constant, ...). */
#define WHOLE_TILE(tile, queries, ...)       \
    switch (queries) {                       \
    case 1: tile(__VA_ARGS__, 1, 4); break;  \
    case 2: tile(__VA_ARGS__, 2, 4); break;  \
    case 3: tile(__VA_ARGS__, 3, 4); break;  \
    case 4: tile(__VA_ARGS__, 4, 4); break;  \
    case 5: tile(__VA_ARGS__, 5, 4); break;  \
    case 6: tile(__VA_ARGS__, 6, 4); break;  \
    case 7: tile(__VA_ARGS__, 7, 2); break;  \
    default: tile(__VA_ARGS__, 8, 2); break; \
    }

/* ------------------------------------------------------------------ scores */

/* A part of a job: the queries first to first + count - 1 and their numbers. */
struct whole_scores {
    const struct cpu_scores *job;
    const struct whole *x;
    uint32_t first;
    uint32_t count;
};

/* One tile: `queries` x `groups`, from a query of the part and a group on. */
INLINE void score_whole_tile(const struct whole_scores *part, uint32_t query, uint32_t group,
                             const uint32_t queries, const uint32_t groups)
{
    const struct cpu_scores *job = part->job;
    const uint8_t *const *keys = job->groups + group;
    const uint8_t *const *ahead = keys + CPU_GROUPS_AHEAD;
    const int16_t(*x)[CPU_SPLIT] = part->x->numbers + query;
    float *y = job->y + (part->first + query) * job->y_stride + (size_t)group * CPU_LANES;
    size_t scales = cpu_kv_scales(job->head_dim);
    __m512i sums[WHOLE_QUERIES][WHOLE_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < groups; i++)
        sums[q][i] = _mm512_setzero_si512();
    for (uint32_t d = 0; d < job->head_dim; d += 2) {
        size_t at = (size_t)d * CPU_KV_GROUP;
        __m512i key[WHOLE_VECTORS];

        CPU_UNROLL
        for (uint32_t i = 0; i < groups; i++)
            key[i] = load_pairs(keys[i] + at);
        CPU_UNROLL
        for (uint32_t i = 0; i < groups; i += 2) /* a line of memory is two rows */
            fetch(ahead[groups == 1 ? 0 : i + d / 2 % 2] + at);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512i pair = spread_pair(x[q] + d);

            CPU_UNROLL
            for (uint32_t i = 0; i < groups; i++)
                sums[q][i] = add_pairs(sums[q][i], key[i], pair);
        }
    }
    CPU_UNROLL
    for (uint32_t i = 0; i < groups; i++) {
        __m512 scale = _mm512_loadu_ps((const float *)(const void *)(keys[i] + scales));

        fetch(ahead[i] + scales);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[q][i]),
                                       _mm512_set1_ps(part->x->scales[query + q]));

            _mm512_storeu_ps(y + q * job->y_stride + (size_t)i * CPU_LANES,
                             _mm512_mul_ps(sum, scale));
        }
    }
}

/* Up to so many groups, which are as many as a tile of these queries has, or fewer. */
INLINE void score_whole_groups(const struct whole_scores *part, uint32_t query, uint32_t group,
                               uint32_t groups, const uint32_t queries, const uint32_t groups_max)
{
    if (groups_max == 4 && groups == 4) {
        score_whole_tile(part, query, group, queries, 4);
        return;
    }
    if ((groups & 2) != 0)
        score_whole_tile(part, query, group, queries, 2);
    if ((groups & 1) != 0)
        score_whole_tile(part, query, group + (groups & 2), queries, 1);
}

static void score_part(const struct whole_scores *part)
{
    const uint32_t *counts = part->job->counts + part->first;
    uint32_t all = groups_of(counts[part->count - 1]);
    uint32_t step = whole_tile_queries(part->count) > WHOLE_QUERIES_WIDE ? 2 : WHOLE_VECTORS;
    uint32_t queries;

    for (uint32_t group = 0; group < all; group += step) {
        for (uint32_t query = 0; query < part->count; query += queries) {
            uint32_t end;
            uint32_t groups;

            queries = whole_tile_queries(part->count - query);
            end = groups_of(counts[query + queries - 1]);
            if (end <= group)
                continue;
            groups = end - group < step ? end - group : step;
            WHOLE_TILE(score_whole_groups, queries, part, query, group, groups)
        }
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

/* The sums of some vectors of columns x `queries`, from a query of the part on. */
INLINE void weigh_whole_tile(const struct whole_weigh *part, uint32_t query, uint32_t column,
                             const uint32_t queries, const uint32_t vectors)
{
    const struct cpu_weigh *job = part->job;
    const int16_t(*weights)[CPU_SPLIT] = part->weights->numbers + query;
    uint32_t end = job->counts[part->first + query + queries - 1];
    float *out = job->sums + (part->first + query) * job->sums_stride + column;
    __m512i sums[WHOLE_QUERIES][WHOLE_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm512_setzero_si512();
    for (uint32_t p = 0; p < end; p += 2) {
        size_t at = cpu_kv_value_index(CPU_KV_INT8, job->head_dim, p % CPU_KV_GROUP, column);
        const uint8_t *values = job->groups[p / CPU_KV_GROUP] + at;
        const uint8_t *ahead = job->groups[p / CPU_KV_GROUP + CPU_GROUPS_AHEAD] + at;
        __m512i value[WHOLE_VECTORS];

        CPU_UNROLL
        for (uint32_t i = 0; i < vectors; i++)
            value[i] = load_pairs(values + i * WHOLE_PAIR_BYTES);
        CPU_UNROLL
        for (uint32_t i = 0; i < vectors; i += 2)
            fetch(ahead + i * WHOLE_PAIR_BYTES);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512i pair = spread_pair(weights[q] + p);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] = add_pairs(sums[q][i], value[i], pair);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm512_storeu_ps(out + q * job->sums_stride + i * CPU_LANES,
                         _mm512_mul_ps(_mm512_cvtepi32_ps(sums[q][i]),
                                       _mm512_set1_ps(part->weights->scales[query + q])));
}

INLINE void weigh_whole_columns(const struct whole_weigh *part, uint32_t query,
                                const uint32_t queries, const uint32_t vectors)
{
    uint32_t head_dim = part->job->head_dim;
    uint32_t column = 0;

    for (; column + vectors * CPU_LANES <= head_dim; column += vectors * CPU_LANES)
        weigh_whole_tile(part, query, column, queries, vectors);
    for (; column + CPU_LANES <= head_dim; column += CPU_LANES)
        weigh_whole_tile(part, query, column, queries, 1);
}

/* Weights of positions, times the scales of their values, in whole numbers; zeros up to a whole group. */
static float scale_weights(const struct cpu_weigh *job, uint32_t query, int16_t *out)
{
    const float *weights = job->weights + query * job->weights_stride;
    uint32_t count = job->counts[query];
    size_t scales = cpu_kv_scales(job->head_dim);
    float scaled[CPU_SPLIT];
    __m512i most = _mm512_setzero_si512();
    struct cpu_quantizing how;

    for (uint32_t p = 0; p < count; p += CPU_LANES) {
        const float *scale = (const float *)(const void *)(job->groups[p / CPU_LANES] + scales);
        __mmask16 mask = first_lanes(count - p);
        __m512 product = _mm512_maskz_mul_ps(mask, _mm512_maskz_loadu_ps(mask, weights + p),
                                             _mm512_maskz_loadu_ps(mask, scale));

        _mm512_storeu_ps(scaled + p, product);
        most = _mm512_max_epu32(most, magnitude_bits(product));
    }
    how = cpu_quantizing_to(largest_of_bits(most), PLAIN_WHOLE_MAX);
    if (how.inverse == 0.0f)
        memset(out, 0, cpu_pad(count) * sizeof *out);
    for (uint32_t p = 0; how.inverse != 0.0f && p < count; p += CPU_LANES)
        _mm256_storeu_si256((__m256i *)(void *)(out + p),
                            _mm512_cvtepi32_epi16(round_lanes(scaled + p, CPU_LANES, how.inverse)));
    return how.scale;
}

static void weigh_int8(const struct cpu_weigh *job)
{
    uint32_t all = cpu_pad(job->counts[job->queries - 1]);
    struct whole weights;
    uint32_t queries;

    for (uint32_t first = 0; first < job->queries; first += WHOLE_CHUNK) {
        uint32_t left = job->queries - first;
        struct whole_weigh part = {.job = job,
                                   .weights = &weights,
                                   .first = first,
                                   .count = left < WHOLE_CHUNK ? left : WHOLE_CHUNK};

        for (uint32_t i = 0; i < part.count; i++) {
            uint32_t own = cpu_pad(job->counts[first + i]);

            weights.scales[i] = scale_weights(job, first + i, weights.numbers[i]);
            memset(weights.numbers[i] + own, 0, (all - own) * sizeof weights.numbers[i][0]);
        }
        for (uint32_t query = 0; query < part.count; query += queries) {
            queries = whole_tile_queries(part.count - query);
            WHOLE_TILE(weigh_whole_columns, queries, &part, query)
        }
    }
    plain_weigh_whole(job, job->head_dim / CPU_LANES * CPU_LANES);
}

#endif
