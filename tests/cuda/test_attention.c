/*
 * test_attention.c: attention over pools of halves: against double precision for all sizes of heads and groups, the same
 * bits however rows are cut into launches, blocks and splits, and what the plan of a step hands to whom.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/attention.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define LAYERS    2
#define LAYER     1
#define CONTEXT   1100
#define ITEMS_MAX 8192

static float half(struct td_rng *rng, float range, uint16_t *half_out)
{
    *half_out = model_float_to_half((float)(2 * td_rng_unit(rng) - 1) * range);
    return model_half_to_float(*half_out);
}

/* ------------------------------------------------------------------ a sequence on a device */

/* Keys and values of one sequence, and a query of each head at every position; rows are made from those. */
struct scene {
    struct cuda_device *device;
    struct cuda_shape shape;
    uint32_t block_tokens;
    uint32_t length; /* positions that have been written */
    uint32_t loud;   /* from here on values are +-60,000, before they are tiny; 0: all are alike */
    float *keys;     /* [kv_head][position][head_dim] */
    float *values;
    float *queries; /* [position][head][head_dim] */
    uint16_t *query_halves;
    struct cuda_attend_args args;
    uint32_t *slots; /* on the device, as all below */
    uint8_t *pool;
    float *sums;
    float *maxima;
    float *weights;
    uint32_t *counters;
};

static void *take(struct scene *scene, const void *data, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(scene->device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    if (data != NULL)
        cuda_device_upload(scene->device, memory, data, bytes);
    return memory;
}

static void settle(struct scene *scene)
{
    struct td_error error = {0};

    if (cuda_device_wait(scene->device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

static float make_value(const struct scene *scene, uint32_t position, struct td_rng *rng,
                        uint16_t *half_out)
{
    float value = half(rng, scene->loud == 0 ? 2 : 0x1p-10f, half_out);

    if (scene->loud == 0 || position < scene->loud)
        return value;
    value = value < 0 ? -60000 : 60000;
    *half_out = model_float_to_half(value);
    return value;
}

/* Where nothing was written there are halves that are no numbers. */
static void fill_pool(struct scene *scene, struct td_rng *rng)
{
    uint32_t head_dim = scene->shape.head_dim;
    uint32_t blocks = (CONTEXT + scene->block_tokens - 1) / scene->block_tokens;
    size_t page = (size_t)scene->block_tokens * head_dim;
    size_t block = page * 2 * LAYERS * scene->shape.kv_heads;
    uint16_t *pool = malloc(block * blocks * sizeof *pool);
    uint32_t *slots = calloc(blocks, sizeof *slots);

    assert_true(pool != NULL && slots != NULL);
    memset(pool, 0xff, block * blocks * sizeof *pool);
    for (uint32_t i = 0; i < blocks; i++)
        slots[i] = blocks - 1 - i;
    for (uint32_t head = 0; head < scene->shape.kv_heads; head++)
        for (uint32_t i = 0; i < scene->length; i++)
            for (uint32_t d = 0; d < head_dim; d++) {
                size_t at = ((size_t)head * CONTEXT + i) * head_dim + d;
                uint16_t *entry = pool + slots[i / scene->block_tokens] * block +
                                  ((size_t)head * LAYERS + LAYER) * 2 * page +
                                  (size_t)(i % scene->block_tokens) * head_dim + d;

                scene->keys[at] = half(rng, 1, &entry[0]);
                scene->values[at] = make_value(scene, i, rng, &entry[page]);
            }
    scene->slots = take(scene, slots, blocks * sizeof *slots);
    scene->pool = take(scene, pool, block * blocks * sizeof *pool);
    settle(scene);
    scene->args.pool = (struct cuda_pool){.base = scene->pool,
                                          .block_bytes = block * sizeof *pool,
                                          .block_tokens = scene->block_tokens,
                                          .layers = LAYERS,
                                          .head_dim = head_dim,
                                          .element_bytes = 2};
    free(pool);
    free(slots);
}

static void fill_queries(struct scene *scene, struct td_rng *rng)
{
    size_t count = (size_t)CONTEXT * scene->shape.heads * scene->shape.head_dim;

    scene->queries = calloc(count, sizeof *scene->queries);
    scene->query_halves = calloc(count, sizeof *scene->query_halves);
    assert_true(scene->queries != NULL && scene->query_halves != NULL);
    for (size_t i = 0; i < count; i++)
        scene->queries[i] = half(rng, 0.7f, &scene->query_halves[i]);
}

static void scene_open_loud(struct scene *scene, uint32_t head_dim, uint32_t group,
                            uint32_t kv_heads, uint32_t length, uint32_t loud)
{
    size_t kept = CUDA_SPLITS_KEPT;
    size_t entries = (size_t)kv_heads * CONTEXT * head_dim;
    uint32_t *zeros = calloc(kept * kv_heads, sizeof *zeros);
    struct td_rng rng;

    td_rng_init(&rng, head_dim * 100 + group);
    *scene = (struct scene){.device = cuda_rig_device(),
                            .shape = {.heads = group * kv_heads,
                                      .kv_heads = kv_heads,
                                      .head_dim = head_dim,
                                      .max_context = CONTEXT,
                                      .rows_max = CONTEXT},
                            .block_tokens = group % 2 == 0 ? 16 : 32,
                            .length = length,
                            .loud = loud,
                            .keys = calloc(entries, sizeof(float)),
                            .values = calloc(entries, sizeof(float))};
    assert_true(zeros != NULL && scene->keys != NULL && scene->values != NULL);
    fill_pool(scene, &rng);
    fill_queries(scene, &rng);
    scene->sums =
        take(scene, NULL, kept * scene->shape.heads * scene->shape.head_dim * sizeof(float));
    scene->maxima = take(scene, NULL, kept * scene->shape.heads * sizeof(float));
    scene->weights = take(scene, NULL, kept * scene->shape.heads * sizeof(float));
    scene->counters = take(scene, zeros, kept * kv_heads * sizeof *zeros);
    settle(scene);
    scene->args.sums = scene->sums;
    scene->args.maxima = scene->maxima;
    scene->args.weights = scene->weights;
    scene->args.counters = scene->counters;
    scene->args.heads = scene->shape.heads;
    scene->args.kv_heads = kv_heads;
    scene->args.layer = LAYER;
    free(zeros);
}

static void scene_open(struct scene *scene, uint32_t head_dim, uint32_t group, uint32_t kv_heads,
                       uint32_t length)
{
    scene_open_loud(scene, head_dim, group, kv_heads, length, 0);
}

static void scene_close(struct scene *scene)
{
    cuda_device_give(scene->device, scene->slots);
    cuda_device_give(scene->device, scene->pool);
    cuda_device_give(scene->device, scene->sums);
    cuda_device_give(scene->device, scene->maxima);
    cuda_device_give(scene->device, scene->weights);
    cuda_device_give(scene->device, scene->counters);
    cuda_device_close(scene->device);
    free(scene->keys);
    free(scene->values);
    free(scene->queries);
    free(scene->query_halves);
}

/* ------------------------------------------------------------------ running */

/* Rows of the sequence: positions first to end - 1, each as a sequence of its own (decoding) or all as one (a chunk). */
struct run {
    uint32_t first;
    uint32_t end;
    bool is_decoding;
    bool is_never_cut;
};

static void launch(struct scene *scene, struct cuda_attention counts,
                   const struct cuda_attend_item *items)
{
    struct cuda_attend_args args = scene->args;
    uint32_t count = counts.few + counts.many;
    struct cuda_attend_item *sent = take(scene, items, count * sizeof *items);

    args.items = sent;
    cuda_device_launch(scene->device, cuda_attention_kernel(&scene->shape, false),
                       (struct cuda_grid){counts.few, args.kv_heads, 1}, &args);
    args.items += counts.few;
    cuda_device_launch(scene->device, cuda_attention_kernel(&scene->shape, true),
                       (struct cuda_grid){counts.many, args.kv_heads, 1}, &args);
    settle(scene);
    cuda_device_give(scene->device, sent);
}

/* Makes whole blocks of what the plan has cut. */
static struct cuda_attention mend(struct cuda_attend_item *items, struct cuda_attention counts)
{
    struct cuda_attention kept = {0};
    uint32_t count = 0;

    for (uint32_t i = 0; i < counts.few + counts.many; i++) {
        if (items[i].kept != CUDA_ATTEND_WHOLE && items[i].split > 0)
            continue;
        items[count] = items[i];
        items[count++].kept = CUDA_ATTEND_WHOLE;
        if (i < counts.few)
            kept.few++;
        else
            kept.many++;
    }
    return kept;
}

/* Plans and attends; out: bf16 [rows][heads][head_dim] */
static void attend_run(struct scene *scene, struct run run, uint16_t *out)
{
    static struct engine_row rows[CONTEXT];
    static struct cuda_attend_item items[ITEMS_MAX];
    static uint32_t positions[CONTEXT];
    static uint32_t tables[CONTEXT];
    uint32_t count = run.end - run.first;
    const struct engine_batch batch = {.rows = rows, .row_count = count};
    size_t row = (size_t)scene->shape.heads * scene->shape.head_dim;
    struct cuda_attention counts;
    uint32_t *sent[2];
    uint16_t *queries;
    uint16_t *result;

    for (uint32_t i = 0; i < count; i++) {
        rows[i] =
            (struct engine_row){.position = run.first + i, .sequence = run.is_decoding ? i : 0};
        positions[i] = run.first + i;
    }
    assert_true(cuda_attention_items(&scene->shape) <= ITEMS_MAX);
    counts = cuda_attention_plan(&scene->shape, &batch, count, items);
    if (run.is_never_cut)
        counts = mend(items, counts);
    sent[0] = take(scene, positions, count * sizeof *positions);
    sent[1] = take(scene, tables, count * sizeof *tables);
    queries = take(scene, scene->query_halves + run.first * row, count * row * sizeof *queries);
    result = take(scene, NULL, count * row * sizeof *result);
    scene->args.rows =
        (struct cuda_rows){.positions = sent[0], .tables = sent[1], .slots = scene->slots};
    scene->args.queries = queries;
    scene->args.out = result;
    launch(scene, counts, items);
    cuda_device_download(scene->device, out, result, count * row * sizeof *out);
    settle(scene);
    cuda_device_give(scene->device, sent[0]);
    cuda_device_give(scene->device, sent[1]);
    cuda_device_give(scene->device, queries);
    cuda_device_give(scene->device, result);
}

/* ------------------------------------------------------------------ against double precision */

static double score(const struct scene *scene, uint32_t position, uint32_t head, uint32_t i)
{
    uint32_t head_dim = scene->shape.head_dim;
    uint32_t group = scene->shape.heads / scene->shape.kv_heads;
    const float *query = scene->queries + ((size_t)position * scene->shape.heads + head) * head_dim;
    const float *key = scene->keys + ((size_t)(head / group) * CONTEXT + i) * head_dim;
    double sum = 0;

    for (uint32_t d = 0; d < head_dim; d++)
        sum += (double)query[d] * (double)key[d];
    return sum;
}

static void check_row(const struct scene *scene, uint32_t position, uint32_t head,
                      const uint16_t *out)
{
    uint32_t head_dim = scene->shape.head_dim;
    uint32_t group = scene->shape.heads / scene->shape.kv_heads;
    const float *values = scene->values + (size_t)(head / group) * CONTEXT * head_dim;
    double weights[CONTEXT];
    double max = -INFINITY;
    double total = 0;

    for (uint32_t i = 0; i <= position; i++)
        max = fmax(max, weights[i] = score(scene, position, head, i));
    for (uint32_t i = 0; i <= position; i++)
        total += weights[i] = exp2(weights[i] - max);
    for (uint32_t d = 0; d < head_dim; d++) {
        double sum = 0;
        double size = 0;

        for (uint32_t i = 0; i <= position; i++) {
            sum += weights[i] * (double)values[(size_t)i * head_dim + d] / total;
            size += weights[i] * fabs((double)values[(size_t)i * head_dim + d]) / total;
        }
        /* bf16: 2^-8; weights as halves: 2^-12 in the mean, 2^-11 at most; and products of halves */
        if (!(fabs((double)model_bfloat_to_float(out[d]) - sum) <=
              0x1.01p-8 * fabs(sum) + 0x1p-11 * size + 1e-5))
            fail_msg(
                "heads of %u in groups of %u, position %u, head %u, element %u: %g instead of %g",
                head_dim, group, position, head, d, (double)model_bfloat_to_float(out[d]), sum);
    }
}

static void check_run(struct scene *scene, struct run run)
{
    size_t row = (size_t)scene->shape.heads * scene->shape.head_dim;
    uint16_t *out = calloc((run.end - run.first) * row, sizeof *out);

    assert_non_null(out);
    attend_run(scene, run, out);
    for (uint32_t position = run.first;
         position<run.end; position += run.end - run.first> 30 ? 7 : 1)
        for (uint32_t head = 0; head < scene->shape.heads; head++)
            check_row(scene, position, head,
                      out + (position - run.first) * row + head * scene->shape.head_dim);
    free(out);
}

static void every_size_of_heads_and_groups_is_that_of_double_precision(void **state)
{
    static const uint32_t sizes[][2] = {{64, 1},  {64, 2},  {64, 3},  {64, 7},  {64, 8}, {80, 4},
                                        {96, 5},  {128, 4}, {128, 6}, {128, 7}, {6, 3},  {18, 2},
                                        {40, 12}, {16, 20}, {256, 2}, {200, 5}};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct scene scene;

        scene_open(&scene, sizes[i][0], sizes[i][1], 2, 300);
        check_run(&scene, (struct run){.first = 0, .end = 21});
        check_run(&scene, (struct run){.first = 250, .end = 271});
        check_run(&scene, (struct run){.first = 299, .end = 300, .is_decoding = true});
        scene_close(&scene);
    }
}

static void long_contexts_are_those_of_double_precision(void **state)
{
    struct scene scene;

    (void)state;
    scene_open(&scene, 64, 4, 1, CONTEXT);
    check_run(&scene, (struct run){.first = CONTEXT - 2, .end = CONTEXT});
    check_run(&scene, (struct run){.first = 1000, .end = 1020});
    check_run(&scene, (struct run){.first = 766, .end = 770, .is_decoding = true});
    scene_close(&scene);
}

/* ------------------------------------------------------------------ the same bits */

/* Rows of both runs at the same positions. */
static void assert_same(struct scene *scene, struct run a, struct run b)
{
    size_t row = (size_t)scene->shape.heads * scene->shape.head_dim;
    uint16_t *left = calloc((a.end - a.first) * row, sizeof *left);
    uint16_t *right = calloc((b.end - b.first) * row, sizeof *right);
    uint32_t first = a.first > b.first ? a.first : b.first;
    uint32_t end = a.end < b.end ? a.end : b.end;

    assert_true(left != NULL && right != NULL && first < end);
    attend_run(scene, a, left);
    attend_run(scene, b, right);
    for (uint32_t position = first; position < end; position++)
        if (memcmp(left + (position - a.first) * row, right + (position - b.first) * row,
                   row * sizeof *left) != 0)
            fail_msg("heads of %u in groups of %u: position %u differs", scene->shape.head_dim,
                     scene->shape.heads / scene->shape.kv_heads, position);
    free(left);
    free(right);
}

static void decoding_and_chunks_of_any_size_give_the_same_bits(void **state)
{
    static const uint32_t sizes[][2] = {{64, 7}, {128, 4}, {80, 1}, {6, 3}, {256, 3}};
    const size_t tried = TEST_IS_SANITIZED ? 2 : sizeof sizes / sizeof sizes[0];

    (void)state;
    for (size_t i = 0; i < tried; i++) {
        const struct run whole = {.first = 180, .end = 300};
        struct scene scene;

        scene_open(&scene, sizes[i][0], sizes[i][1], 1, 300);
        assert_same(&scene, whole, (struct run){.first = 250, .end = 262});
        assert_same(&scene, whole, (struct run){.first = 187, .end = 189});
        assert_same(&scene, whole, (struct run){.first = 250, .end = 260, .is_decoding = true});
        assert_same(&scene, whole, (struct run){.first = 180, .end = 184, .is_decoding = true});
        scene_close(&scene);
    }
}

/* Weights of zero, times values that are large beside the sum they are added to, leave it as it is. */
static void what_is_not_seen_changes_no_bit(void **state)
{
    static const uint32_t sizes[][2] = {{64, 7}, {128, 4}, {256, 3}};

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct scene scene;

        scene_open_loud(&scene, sizes[i][0], sizes[i][1], 1, 300, 203);
        assert_same(&scene, (struct run){.first = 190, .end = 230},
                    (struct run){.first = 190, .end = 203, .is_decoding = true});
        check_run(&scene, (struct run){.first = 190, .end = 203, .is_decoding = true});
        scene_close(&scene);
    }
}

static void blocks_that_are_cut_give_the_bits_of_whole_ones(void **state)
{
    struct run run = {.first = CONTEXT - 3, .end = CONTEXT};
    struct run whole = run;
    struct scene scene;

    (void)state;
    whole.is_never_cut = true;
    scene_open(&scene, 64, 4, 1, CONTEXT);
    assert_same(&scene, run, whole);
    run.is_decoding = true;
    assert_same(&scene, run, whole);
    run = (struct run){.first = 500, .end = 530}; /* more than 16 queries; some see a split less */
    whole = run;
    whole.is_never_cut = true;
    assert_same(&scene, run, whole);
    scene_close(&scene);
}

/* ------------------------------------------------------------------ the plan */

static void add_rows(struct engine_row *rows, uint32_t *count, uint32_t sequence, uint32_t first,
                     uint32_t length)
{
    for (uint32_t i = 0; i < length; i++)
        rows[(*count)++] = (struct engine_row){.position = first + i, .sequence = sequence};
}

/* Every query of every row does each split up to its position exactly once, and sums are kept apart. */
static void check_plan(const struct cuda_shape *shape, const struct engine_batch *batch,
                       uint32_t rows, const struct cuda_attend_item *items,
                       struct cuda_attention counts)
{
    uint32_t group = shape->heads / shape->kv_heads;
    uint32_t splits = (shape->max_context + CUDA_SPLIT - 1) / CUDA_SPLIT;
    uint8_t *done = calloc((size_t)rows * group * splits, 1);
    uint8_t *kept = calloc((size_t)cuda_splits_kept(shape) * group, 1);

    assert_true(done != NULL && kept != NULL);
    for (uint32_t i = 0; i < counts.few + counts.many; i++) {
        const struct cuda_attend_item *item = &items[i];
        bool is_whole = item->kept == CUDA_ATTEND_WHOLE;

        assert_in_range(item->queries, 1, i < counts.few ? CUDA_ATTEND_FEW : CUDA_ATTEND_MANY);
        assert_true(is_whole || item->counter < cuda_splits_kept(shape));
        for (uint32_t query = 0; query < item->queries; query++) {
            uint32_t row = item->row + (item->query + query) / group;
            uint8_t *mine = done + ((size_t)row * group + (item->query + query) % group) * splits;

            assert_true(row == item->row ||
                        batch->rows[row].sequence == batch->rows[item->row].sequence);
            for (uint32_t split = is_whole ? 0 : item->split;
                 split < (is_whole ? item->splits : item->split + 1); split++)
                mine[split]++;
            if (!is_whole)
                assert_int_equal(kept[item->kept + item->split * item->queries + query]++, 0);
        }
    }
    for (uint32_t row = 0; row < rows; row++) {
        uint32_t position = row < batch->row_count ? batch->rows[row].position : 0;

        for (uint32_t head = 0; head < group; head++)
            for (uint32_t split = 0; split <= position / CUDA_SPLIT; split++)
                assert_int_equal(done[((size_t)row * group + head) * splits + split], 1);
    }
    free(done);
    free(kept);
}

static void every_query_does_every_split_once(void **state)
{
    static const uint32_t groups[] = {1, 4, 7, 20};
    static struct engine_row rows[600];
    static struct cuda_attend_item items[ITEMS_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 3);
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t group = groups[round % 4];
        struct cuda_shape shape = {.heads = group * 2,
                                   .kv_heads = 2,
                                   .head_dim = round % 8 < 6 ? 64 : 256,
                                   .max_context = 40000,
                                   .rows_max = 600};
        struct engine_batch batch = {.rows = rows};
        struct cuda_attention counts;

        for (uint32_t sequence = 0; sequence < 1 + round % 20; sequence++)
            add_rows(rows, &batch.row_count, sequence, (uint32_t)td_rng_below(&rng, 39000),
                     td_rng_below(&rng, 3) == 0 ? 1 + (uint32_t)td_rng_below(&rng, 25) : 1);
        assert_true(cuda_attention_items(&shape) <= ITEMS_MAX);
        counts = cuda_attention_plan(&shape, &batch, batch.row_count + round % 3, items);
        assert_true(counts.few + counts.many <= cuda_attention_items(&shape));
        check_plan(&shape, &batch, batch.row_count + round % 3, items, counts);
    }
}

static void items_of_decoding_sequences_fit_into_their_bucket(void **state)
{
    static struct engine_row rows[256];
    static struct cuda_attend_item items[ITEMS_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 4);
    for (uint32_t round = 0; round < 200; round++) {
        struct cuda_shape shape = {.heads = 8u << round % 3,
                                   .kv_heads = 1 + round % 8,
                                   .head_dim = 128,
                                   .max_context = 131072,
                                   .rows_max = 256};
        struct engine_batch batch = {.rows = rows};
        uint32_t splits = 1 + (uint32_t)td_rng_below(&rng, 512);
        struct cuda_attention counts;

        shape.heads *= shape.kv_heads;
        for (uint32_t i = 0; i < 1 + td_rng_below(&rng, 64); i++)
            add_rows(rows, &batch.row_count, i,
                     (uint32_t)td_rng_below(&rng, i % 5 == 0 ? splits * CUDA_SPLIT : 300), 1);
        counts = cuda_attention_plan(&shape, &batch, 64, items);
        assert_int_equal(counts.many, 0);
        assert_in_range(counts.few, 64,
                        cuda_attention_decode_items(&shape, 64, splits > 2 ? splits : 2));
    }
}

/* One sequence alone is cut into all of its splits; as many as keep the device busy are not. */
static void few_long_blocks_are_cut_and_many_are_not(void **state)
{
    static struct engine_row rows[256];
    static struct cuda_attend_item items[ITEMS_MAX];
    const struct cuda_shape shape = {
        .heads = 32, .kv_heads = 8, .head_dim = 128, .max_context = 4096, .rows_max = 256};
    struct engine_batch batch = {.rows = rows};

    (void)state;
    add_rows(rows, &batch.row_count, 0, 1023, 1);
    assert_int_equal(cuda_attention_plan(&shape, &batch, 1, items).few, 4);
    for (uint32_t i = 1; i < 64; i++)
        add_rows(rows, &batch.row_count, i, 1023, 1);
    assert_int_equal(cuda_attention_plan(&shape, &batch, 64, items).few, 64);
    batch.row_count = 0;
    add_rows(rows, &batch.row_count, 0, 0, 256); /* 16 rows of 4 queries a block */
    assert_int_equal(cuda_attention_plan(&shape, &batch, 256, items).many, 16);
}

/* An argument chooses tests by their names: tests/gpu/run has slow tools run some. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_of_heads_and_groups_is_that_of_double_precision),
        cmocka_unit_test(long_contexts_are_those_of_double_precision),
        cmocka_unit_test(decoding_and_chunks_of_any_size_give_the_same_bits),
        cmocka_unit_test(what_is_not_seen_changes_no_bit),
        cmocka_unit_test(blocks_that_are_cut_give_the_bits_of_whole_ones),
        cmocka_unit_test(every_query_does_every_split_once),
        cmocka_unit_test(items_of_decoding_sequences_fit_into_their_bucket),
        cmocka_unit_test(few_long_blocks_are_cut_and_many_are_not),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
