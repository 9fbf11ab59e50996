/*
 * test_attention.c: kernels of attention give the bits of plain C, whatever lies in memory that they may not read;
 * and units give the bits of a row computed alone, however rows form tiles and tiles are cut, which are
 * close to what a softmax in double precision says.
 */
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"
#include "engine/cpu/tiles.h"
#include "model/quant.h"
#include "tests/engine/kernel_values.h"

#define HEAD_DIM_MAX 256
#define QUERIES_MAX  59                          /* more than kernels keep at once */
#define STEP         (TEST_IS_SANITIZED ? 4 : 1) /* of numbers of queries: plain C is slow then */
#define GROUPS_MAX   (CPU_SPLIT / CPU_KV_GROUP)
#define SUMS_MAX     (CPU_SUMS_VALUES + HEAD_DIM_MAX)
#define CANARIES     32

static uint8_t pool[GROUPS_MAX * CPU_KV_GROUP * HEAD_DIM_MAX * sizeof(float) + 64];
static const uint8_t *groups[GROUPS_MAX + CPU_GROUPS_AHEAD];
static float xs[QUERIES_MAX * (HEAD_DIM_MAX + 1)];
static float weights[QUERIES_MAX * CPU_SPLIT];
static float expected[QUERIES_MAX * SUMS_MAX + QUERIES_MAX * CPU_SPLIT];
static float actual[QUERIES_MAX * SUMS_MAX + QUERIES_MAX * CPU_SPLIT];

/* ---- values ---- */

static void fill_bytes(uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        bytes[i] = (uint8_t)td_rng_next(&kernel_rng);
}

static void put_element(uint8_t *group, size_t index, float value, enum cpu_kv_dtype dtype)
{
    uint16_t half = model_float_to_half(value);

    if (dtype == CPU_KV_F32)
        memcpy(group + index * sizeof value, &value, sizeof value);
    else if (dtype == CPU_KV_F16)
        memcpy(group + index * sizeof half, &half, sizeof half);
    else
        group[index] = (uint8_t)td_rng_next(&kernel_rng); /* -128 too, which may come from a peer */
}

/* The scales of the whole numbers of some tokens. */
static void put_scales(uint8_t *group, uint32_t head_dim, uint32_t tokens,
                       enum kernel_flavor flavor)
{
    for (uint32_t token = 0; token < tokens; token++) {
        float scale = fabsf(kernel_float(flavor));

        if (td_rng_below(&kernel_rng, 10) == 0)
            scale = 0.0f;
        memcpy(group + cpu_kv_scales(head_dim) + token * sizeof scale, &scale, sizeof scale);
    }
}

/* Groups in no order of addresses, with random bits behind the positions that are seen. */
static void fill_groups(enum cpu_kv_dtype dtype, uint32_t head_dim, uint32_t count, bool is_v,
                        enum kernel_flavor flavor)
{
    size_t bytes = cpu_kv_group_bytes(dtype, head_dim);

    fill_bytes(pool, sizeof pool);
    for (uint32_t i = 0; i < GROUPS_MAX + CPU_GROUPS_AHEAD; i++)
        groups[i] = pool + 1 + i * 7 % GROUPS_MAX * bytes;
    for (uint32_t p = 0; dtype == CPU_KV_INT8 && p < count; p += CPU_KV_GROUP)
        put_scales((uint8_t *)(uintptr_t)groups[p / CPU_KV_GROUP], head_dim,
                   count - p < CPU_KV_GROUP ? count - p : CPU_KV_GROUP, flavor);
    for (uint32_t p = 0; p < count; p++)
        for (uint32_t d = 0; d < head_dim; d++) {
            uint32_t token = p % CPU_KV_GROUP;
            float value = kernel_float(flavor);

            if (flavor == KERNEL_WIDE && dtype == CPU_KV_F16) /* no infinities of halves */
                value =
                    ldexpf(kernel_float(KERNEL_ORDINARY), (int)td_rng_below(&kernel_rng, 40) - 26);
            put_element((uint8_t *)(uintptr_t)groups[p / CPU_KV_GROUP],
                        is_v ? cpu_kv_value_index(dtype, head_dim, token, d)
                             : cpu_kv_key_index(dtype, token, d),
                        value, dtype);
        }
}

/* What rows with so many query heads each see, where the last one sees count positions. */
static void make_counts(uint32_t *counts, uint32_t queries, uint32_t count)
{
    uint32_t group = 1 + (uint32_t)td_rng_below(&kernel_rng, 4);

    for (uint32_t query = 0; query < queries; query++) {
        uint32_t less = (queries - 1) / group - query / group;

        counts[query] = count > less ? count - less : 1;
    }
}

/* ---- kernels ---- */

static const uint32_t head_dims[] = {8, 10, 16, 18, 32, 48, 64, 80, 96, 100, 128, 192, 256};
static const uint32_t counts_of[] = {1, 2, 15, 16, 17, 33, 63, 64, 65, 100, 255, 256};

static void check_scores(const struct cpu_kernels *set, enum cpu_kv_dtype dtype, uint32_t head_dim,
                         uint32_t queries, uint32_t count, enum kernel_flavor flavor)
{
    uint32_t counts[QUERIES_MAX];
    uint32_t written = (count + CPU_KV_GROUP - 1) / CPU_KV_GROUP * CPU_KV_GROUP;
    struct cpu_scores job = {.groups = groups,
                             .head_dim = head_dim,
                             .queries = queries,
                             .counts = counts,
                             .x = xs + 1,
                             .x_stride = head_dim,
                             .y_stride = written};
    size_t floats = (size_t)queries * written;
    char what[96];

    make_counts(counts, queries, count);
    fill_groups(dtype, head_dim, count, false, flavor);
    kernel_fill(xs + 1, (size_t)queries * head_dim, flavor);
    kernel_plant_canaries(expected, floats + CANARIES);
    memcpy(actual, expected, (floats + CANARIES) * sizeof *actual);
    job.y = expected;
    cpu_attention_reference.scores[dtype](&job);
    job.y = actual;
    set->attention->scores[dtype](&job);
    snprintf(what, sizeof what, "%s scores %s %u x %u x %u", set->name, cpu_kv_dtype_name(dtype),
             head_dim, queries, count);
    for (uint32_t query = 0; query < queries; query++)
        kernel_assert_same(actual + query * written, expected + query * written, counts[query],
                           what);
    kernel_assert_untouched(actual + floats, CANARIES, what);
}

static void check_weigh(const struct cpu_kernels *set, enum cpu_kv_dtype dtype, uint32_t head_dim,
                        uint32_t queries, uint32_t count, enum kernel_flavor flavor)
{
    uint32_t counts[QUERIES_MAX];
    size_t stride = cpu_pad(head_dim);
    struct cpu_weigh job = {.groups = groups,
                            .head_dim = head_dim,
                            .queries = queries,
                            .counts = counts,
                            .weights = weights,
                            .weights_stride = CPU_SPLIT,
                            .sums_stride = stride};
    char what[96];

    make_counts(counts, queries, count);
    fill_groups(dtype, head_dim, count, true, flavor);
    kernel_fill(weights, (size_t)queries * CPU_SPLIT, KERNEL_HOSTILE);
    for (uint32_t query = 0; query < queries; query++)
        kernel_fill(weights + query * CPU_SPLIT, counts[query], flavor);
    kernel_plant_canaries(expected, queries * stride + CANARIES);
    memcpy(actual, expected, (queries * stride + CANARIES) * sizeof *actual);
    job.sums = expected;
    cpu_attention_reference.weigh[dtype](&job);
    job.sums = actual;
    set->attention->weigh[dtype](&job);
    snprintf(what, sizeof what, "%s weigh %s %u x %u x %u", set->name, cpu_kv_dtype_name(dtype),
             head_dim, queries, count);
    for (uint32_t query = 0; query < queries; query++)
        kernel_assert_same(actual + query * stride, expected + query * stride, head_dim, what);
    kernel_assert_untouched(actual + queries * stride, CANARIES, what);
}

static void for_all_shapes(void (*check)(const struct cpu_kernels *, enum cpu_kv_dtype, uint32_t,
                                         uint32_t, uint32_t, enum kernel_flavor))
{
    uint32_t turn = 0;

    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (int dtype = 0; dtype < CPU_KV_DTYPES; dtype++)
            for (size_t d = 0; d < sizeof head_dims / sizeof head_dims[0]; d++)
                for (uint32_t queries = 1; queries <= QUERIES_MAX;
                     queries += queries < 14 ? STEP : 45)
                    for (size_t c = turn++ % 3; c < sizeof counts_of / sizeof counts_of[0]; c += 3)
                        check(kernel_sets[s], (enum cpu_kv_dtype)dtype, head_dims[d], queries,
                              counts_of[c], (enum kernel_flavor)(turn % KERNEL_FLAVORS));
}

static void scores_have_the_same_bits(void **state)
{
    (void)state;
    for_all_shapes(check_scores);
}

static void sums_of_values_have_the_same_bits(void **state)
{
    (void)state;
    for_all_shapes(check_weigh);
}

static void merging_gives_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t head_dim = 1; head_dim <= HEAD_DIM_MAX; head_dim += head_dim < 40 ? 1 : 27)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                static float later[SUMS_MAX];

                kernel_fill(later, SUMS_MAX, (enum kernel_flavor)flavor);
                kernel_fill(expected, SUMS_MAX, (enum kernel_flavor)flavor);
                memcpy(actual, expected, SUMS_MAX * sizeof *actual);
                cpu_attention_reference.merge(expected, later, head_dim);
                kernel_sets[s]->attention->merge(actual, later, head_dim);
                kernel_assert_same(actual, expected, 2, "maximum and weight");
                kernel_assert_same(actual + CPU_SUMS_VALUES, expected + CPU_SUMS_VALUES, head_dim,
                                   "merged values");
                kernel_assert_same(actual + CPU_SUMS_VALUES + cpu_pad(head_dim),
                                   expected + CPU_SUMS_VALUES + cpu_pad(head_dim),
                                   HEAD_DIM_MAX - cpu_pad(head_dim), "what is behind them");
            }
}

static void check_softmax(const struct cpu_kernels *set, uint32_t count, float spread)
{
    float max[2];
    float sum[2];

    kernel_plant_canaries(expected, count + 33);
    for (uint32_t i = 0; i < count; i++)
        expected[1 + i] = (float)(td_rng_unit(&kernel_rng) - 0.5) * spread;
    memcpy(actual, expected, (count + 33) * sizeof *actual);
    cpu_attention_reference.softmax(expected + 1, count, &max[0], &sum[0]);
    set->attention->softmax(actual + 1, count, &max[1], &sum[1]);
    kernel_assert_same(actual + 1, expected + 1, count, "softmax");
    kernel_assert_untouched(actual + 1 + count, 32, "softmax");
    assert_true(max[1] == max[0]); /* a zero of either sign: see kernels.h */
    kernel_assert_same(&sum[1], &sum[0], 1, "sum of exponentials");
    assert_true(sum[0] >= 1.0f && sum[0] <= (float)count);
}

static void softmax_gives_the_same_bits(void **state)
{
    static const float spreads[] = {0.0f, 1.0f, 30.0f, 500.0f, 1e30f};

    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 1; count <= 256; count += count < 40 ? 1 : 27)
            for (size_t i = 0; i < sizeof spreads / sizeof spreads[0]; i++)
                check_softmax(kernel_sets[s], count, spreads[i]);
}

/* Whatever one score is that is no number, nobody may take the row for an answer. */
static void softmax_of_nan_is_nan(void **state)
{
    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++)
        for (uint32_t place = 0; place < 40; place++) {
            float max;
            float sum;

            kernel_fill(actual, 40, KERNEL_ORDINARY);
            actual[place] = NAN;
            kernel_sets[s]->attention->softmax(actual, 40, &max, &sum);
            assert_true(isnan(sum));
        }
}

static void to_half_gives_the_same_bits(void **state)
{
    static uint16_t halves[2][400];

    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 1; count < 300; count += count < 40 ? 1 : 37)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                memset(halves, 0xa5, sizeof halves);
                kernel_fill(xs + 1, count, (enum kernel_flavor)flavor);
                cpu_attention_reference.to_half(xs + 1, count, halves[0] + 1);
                kernel_sets[s]->attention->to_half(xs + 1, count, halves[1] + 1);
                assert_memory_equal(halves[1], halves[0], sizeof halves[0]);
            }
}

static void check_to_int8(const struct cpu_kernels *set, uint32_t count, const float *x)
{
    static int8_t quants[2][HEAD_DIM_MAX + 32];
    float scales[2];

    memset(quants, 0xa5, sizeof quants);
    scales[0] = cpu_attention_reference.to_int8(x, count, quants[0] + 1);
    scales[1] = set->attention->to_int8(x, count, quants[1] + 1);
    assert_memory_equal(quants[1], quants[0], sizeof quants[0]);
    kernel_assert_same(&scales[1], &scales[0], 1, "scale");
    for (uint32_t i = 0; !isnan(scales[0]) && i < count; i++) /* half a step, or nearly nothing */
        assert_true(fabsf((float)quants[0][1 + i] * scales[0] - x[i]) <=
                    scales[0] * 0.5001f + 0x1p-100f);
}

static void to_int8_gives_the_same_bits_and_loses_half_a_step(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (uint32_t count = 2; count <= HEAD_DIM_MAX; count += count < 40 ? 2 : 27)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++) {
                kernel_fill(xs + 1, count, (enum kernel_flavor)flavor);
                check_to_int8(kernel_sets[s], count, xs + 1);
                memset(xs + 1, 0, count * sizeof *xs);
                check_to_int8(kernel_sets[s], count, xs + 1);
                xs[1] = -1.0f; /* ties go to even: 0.5 and 1.5 steps */
                xs[2] = 0.5f / CPU_KV_QUANT_MAX;
                check_to_int8(kernel_sets[s], count, xs + 1);
            }
}

/* A token whose key or value is no number is never taken for another. */
static void what_is_no_number_keeps_no_scale(void **state)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    int8_t quants[64];

    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++)
        for (uint32_t place = 0; place < 39; place++)
            for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
                kernel_fill(xs, 39, KERNEL_ORDINARY);
                xs[place] = bad[i];
                assert_true(isnan(kernel_sets[s]->attention->to_int8(xs, 39, quants)));
            }
}

static void powers_of_two_are_close_to_the_true_ones(void **state)
{
    double worst = 0.0;

    (void)state;
    for (double x = -125.9; x <= 0.0; x += 0.00137) {
        double truth = exp2((double)(float)x);
        double error = fabs((double)cpu_exp2((float)x) - truth) / truth;

        worst = error > worst ? error : worst;
    }
    assert_true(worst < 1.0e-7);
    assert_true(cpu_exp2(0.0f) == 1.0f && cpu_exp2(-1.0f) == 0.5f);
    assert_true(cpu_exp2(-INFINITY) > 0.0f && cpu_exp2(-INFINITY) < 1e-37f);
    assert_true(isnan(cpu_exp2(NAN)));
}

/* ---- units ---- */

#define CONTEXT      1100
#define BLOCK_TOKENS 32
#define BLOCKS       ((CONTEXT + BLOCK_TOKENS - 1) / BLOCK_TOKENS)
#define ROWS_MAX     200

/* A pool with K and V of one sequence, and queries for its last rows. */
struct site {
    struct engine_model_info info;
    struct engine_kv kv;
    struct engine_batch_sequence sequence;
    uint32_t slots[BLOCKS];
    float *k; /* [position][kv_heads][head_dim] */
    float *v;
    float *q;   /* [row][heads][head_dim] */
    float *out; /* the same */
    size_t stride;
};

static void open_site(struct site *site, enum cpu_kv_dtype dtype, const struct cpu_kernels *set,
                      const struct engine_model_info *info)
{
    uint32_t kv_floats = info->kv_heads * info->head_dim;
    struct cpu_attention attention;
    struct td_error error = {0};

    *site = (struct site){.info = *info, .stride = (size_t)info->heads * info->head_dim};
    if (engine_kv_open(BLOCKS, BLOCK_TOKENS,
                       cpu_kv_group_bytes(dtype, info->head_dim) * 2 * BLOCK_TOKENS / CPU_KV_GROUP *
                           info->kv_heads * info->layers,
                       &site->kv, &error) != TD_OK)
        fail_msg("%s", error.text);
    fill_bytes(site->kv.base, BLOCKS * site->kv.block_bytes); /* of somebody before us */
    for (uint32_t i = 0; i < BLOCKS; i++)
        site->slots[i] = i * 11 % BLOCKS;
    site->sequence = (struct engine_batch_sequence){.slots = site->slots, .slot_count = BLOCKS};
    site->k = calloc((size_t)CONTEXT * kv_floats, sizeof *site->k);
    site->v = calloc((size_t)CONTEXT * kv_floats, sizeof *site->v);
    site->q = calloc(ROWS_MAX * site->stride, sizeof *site->q);
    site->out = calloc(ROWS_MAX * site->stride, sizeof *site->out);
    assert_true(site->k != NULL && site->v != NULL && site->q != NULL && site->out != NULL);
    td_rng_init(&kernel_rng, 7); /* all sites of a shape are alike */
    kernel_fill(site->k, (size_t)CONTEXT * kv_floats, KERNEL_ORDINARY);
    kernel_fill(site->v, (size_t)CONTEXT * kv_floats, KERNEL_ORDINARY);
    kernel_fill(site->q, ROWS_MAX * site->stride, KERNEL_ORDINARY);
    cpu_attention_init(&attention, set, &site->kv, dtype, info);
    for (uint32_t p = 0; p < CONTEXT; p++)
        for (uint32_t head = 0; head < info->kv_heads; head++) {
            size_t at = ((size_t)p * info->kv_heads + head) * info->head_dim;
            struct cpu_kv_place place = {
                .sequence = &site->sequence, .position = p, .layer = 1, .kv_head = head};

            cpu_kv_store(&attention.kv, &place, site->k + at, site->v + at);
        }
}

static void close_site(struct site *site)
{
    engine_kv_close(&site->kv);
    free(site->k);
    free(site->v);
    free(site->q);
    free(site->out);
}

/* The rows from a position on, several layers one after another, units in any order. */
static void attend(struct site *site, enum cpu_kv_dtype dtype, const struct cpu_kernels *set,
                   uint32_t position, uint32_t count, uint32_t threads)
{
    struct cpu_attention attention;
    struct cpu_tiles *tiles = NULL;
    struct td_error error = {0};
    uint32_t rows[ROWS_MAX];
    struct cpu_tiles_job job = {.q = site->q,
                                .q_stride = site->stride,
                                .rows = rows,
                                .out = site->out,
                                .out_stride = site->stride,
                                .layer = 1};
    uint32_t complete = 0;
    uint32_t units;
    uint32_t step;
    float *scratch;

    cpu_attention_init(&attention, set, &site->kv, dtype, &site->info);
    assert_int_equal(cpu_tiles_open(&attention, ROWS_MAX, CONTEXT, threads, &tiles, &error), TD_OK);
    scratch = calloc(cpu_attention_scratch_floats(&attention), sizeof *scratch);
    assert_non_null(scratch);
    cpu_tiles_clear(tiles);
    for (uint32_t i = 0; i < count; i++) {
        rows[i] = i;
        cpu_tiles_add(tiles, &site->sequence, position + i);
    }
    cpu_tiles_cut(tiles);
    units = cpu_tiles_units(tiles);
    assert_true(threads == 1 || count > 1 || position < CPU_SPLIT || !cpu_tiles_are_alone(tiles));
    for (uint32_t layer = 0; layer < 2; layer++) {
        memset(site->out, 0xff, ROWS_MAX * site->stride * sizeof *site->out);
        complete = 0;
        for (step = 7; units % step == 0; step += 2)
            ;
        for (uint32_t i = 0; i < units; i++) {
            struct cpu_tiles_unit unit = cpu_tiles_unit(tiles, i * step % units);

            if (cpu_tiles_attend(tiles, &job, i * step % units, scratch))
                complete += unit.tile->rows;
        }
        assert_int_equal(complete, count * site->info.kv_heads);
    }
    free(scratch);
    cpu_tiles_close(tiles);
}

/* One query of one row, in double precision. */
static void attend_plainly(const struct site *site, uint32_t position, const float *q,
                           uint32_t kv_head, double *out)
{
    uint32_t head_dim = site->info.head_dim;
    size_t stride = (size_t)site->info.kv_heads * head_dim;
    double sum = 0.0;

    memset(out, 0, head_dim * sizeof *out);
    for (uint32_t p = 0; p <= position; p++) {
        const float *k = site->k + p * stride + kv_head * head_dim;
        const float *v = site->v + p * stride + kv_head * head_dim;
        double score = 0.0;
        double weight;

        for (uint32_t d = 0; d < head_dim; d++)
            score += (double)k[d] * (double)q[d];
        weight = exp2(score);
        sum += weight;
        for (uint32_t d = 0; d < head_dim; d++)
            out[d] += weight * (double)v[d];
    }
    for (uint32_t d = 0; d < head_dim; d++)
        out[d] /= sum;
}

static void check_truth(const struct site *site, enum cpu_kv_dtype dtype, uint32_t position,
                        uint32_t row)
{
    static const double tolerances[CPU_KV_DTYPES] = {
        [CPU_KV_F16] = 3e-2, [CPU_KV_F32] = 3e-5, [CPU_KV_INT8] = 0.3};
    uint32_t group = site->info.heads / site->info.kv_heads;

    for (uint32_t head = 0; head < site->info.heads; head++) {
        size_t at = row * site->stride + head * site->info.head_dim;
        double truth[HEAD_DIM_MAX];

        attend_plainly(site, position + row, site->q + at, head / group, truth);
        for (uint32_t d = 0; d < site->info.head_dim; d++)
            if (!(fabs((double)site->out[at + d] - truth[d]) <= tolerances[dtype]))
                fail_msg("row %u head %u: value %u is %g instead of %g", row, head, d,
                         (double)site->out[at + d], truth[d]);
    }
}

static void check_units(enum cpu_kv_dtype dtype, const struct engine_model_info *info)
{
    static const uint32_t positions[] = {0, 1, 200, 255, 256, 511, 900};
    static const uint32_t row_counts[] = {1, 3, ROWS_MAX};
    struct site site;
    float *alone;

    open_site(&site, dtype, kernel_sets[0], info);
    alone = calloc(ROWS_MAX * site.stride, sizeof *alone);
    assert_non_null(alone);
    for (size_t p = 0; p < sizeof positions / sizeof positions[0]; p++)
        for (size_t r = 0; r < sizeof row_counts / sizeof row_counts[0]; r++) {
            uint32_t count = row_counts[r];

            attend(&site, dtype, kernel_sets[kernel_set_count - 1], positions[p], count, 1);
            memcpy(alone, site.out, count * site.stride * sizeof *alone);
            check_truth(&site, dtype, positions[p], count - 1);
            for (uint32_t s = TEST_IS_SANITIZED ? 1 : 0; s < kernel_set_count; s++)
                for (uint32_t threads = 2; threads <= 64; threads *= 8) {
                    if (s == 0 && count == ROWS_MAX)
                        continue; /* plain C is slow */
                    attend(&site, dtype, kernel_sets[s], positions[p], count, threads);
                    kernel_assert_same(site.out, alone, count * site.stride, kernel_sets[s]->name);
                }
            /* the last row by itself */
            memcpy(site.q, site.q + (count - 1) * site.stride, site.stride * sizeof *site.q);
            attend(&site, dtype, kernel_sets[kernel_set_count - 1], positions[p] + count - 1, 1, 2);
            kernel_assert_same(site.out, alone + (count - 1) * site.stride, site.stride,
                               "a row alone");
        }
    free(alone);
    close_site(&site);
}

static void tiles_and_cuts_change_no_bit(void **state)
{
    static const struct engine_model_info shapes[] = {
        {.heads = 9, .kv_heads = 3, .head_dim = 64, .layers = 2},
        {.heads = 7, .kv_heads = 1, .head_dim = 32, .layers = 2},
        {.heads = 4, .kv_heads = 4, .head_dim = 18, .layers = 2},
        {.heads = 12, .kv_heads = 2, .head_dim = 80, .layers = 2},
    };

    (void)state;
    for (int dtype = 0; dtype < CPU_KV_DTYPES; dtype++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            check_units((enum cpu_kv_dtype)dtype, &shapes[i]);
}

/* Of a tail that travels, the tokens that it has stay as they are, and all other bytes are zero. */
static void a_tail_carries_its_own_tokens_alone(void **state)
{
    (void)state;
    for (uint32_t t = 0; t < CPU_KV_DTYPES; t++)
        for (uint32_t tokens = 0; tokens <= BLOCK_TOKENS; tokens++) {
            enum cpu_kv_dtype dtype = (enum cpu_kv_dtype)t;
            struct engine_model_info info = {.kv_heads = 3, .head_dim = 10, .layers = 2};
            uint8_t *blocks[2];
            struct engine_kv kv = {.block_count = 1, .block_tokens = BLOCK_TOKENS};
            uint32_t slot = 0;
            struct engine_batch_sequence sequence = {.slots = &slot, .slot_count = 1};

            kv.block_bytes = cpu_kv_group_bytes(dtype, info.head_dim) * 2 * BLOCK_TOKENS /
                             CPU_KV_GROUP * info.kv_heads * info.layers;
            info.block_tokens = BLOCK_TOKENS;
            info.block_bytes = kv.block_bytes;
            snprintf(info.kv_dtype, sizeof info.kv_dtype, "%s", cpu_kv_dtype_name(dtype));
            for (int i = 0; i < 2; i++) {
                float values[10];
                struct cpu_kv place_kv = {.kernels = &cpu_attention_reference,
                                          .dtype = dtype,
                                          .layers = info.layers,
                                          .kv_heads = info.kv_heads,
                                          .head_dim = info.head_dim};

                blocks[i] = calloc(1, kv.block_bytes);
                assert_non_null(blocks[i]);
                kv.base = blocks[i];
                place_kv.pool = kv;
                td_rng_init(&kernel_rng, 5);
                if (i == 1) /* of somebody before */
                    memset(blocks[1], 0xa5, kv.block_bytes);
                for (uint32_t place = 0; place < tokens * info.layers * info.kv_heads; place++) {
                    kernel_fill(values, 10, KERNEL_ORDINARY);
                    cpu_kv_store(&place_kv,
                                 &(struct cpu_kv_place){.sequence = &sequence,
                                                        .position = place % tokens,
                                                        .layer = place / tokens % info.layers,
                                                        .kv_head = place / tokens / info.layers},
                                 values, values);
                }
            }
            cpu_kv_clear_tail(&info, blocks[1], tokens);
            assert_memory_equal(blocks[1], blocks[0], kv.block_bytes);
            free(blocks[0]);
            free(blocks[1]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_have_the_same_bits),
        cmocka_unit_test(sums_of_values_have_the_same_bits),
        cmocka_unit_test(merging_gives_the_same_bits),
        cmocka_unit_test(softmax_gives_the_same_bits),
        cmocka_unit_test(softmax_of_nan_is_nan),
        cmocka_unit_test(to_half_gives_the_same_bits),
        cmocka_unit_test(to_int8_gives_the_same_bits_and_loses_half_a_step),
        cmocka_unit_test(what_is_no_number_keeps_no_scale),
        cmocka_unit_test(powers_of_two_are_close_to_the_true_ones),
        cmocka_unit_test(tiles_and_cuts_change_no_bit),
        cmocka_unit_test(a_tail_carries_its_own_tokens_alone),
    };

    kernel_values_begin(20261122);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
