/*
 * test_graphs.c: recorded decode steps: which bucket serves a step, what padding is told, and that replaying gives the bits
 * of launching, whatever the batch and however often it has changed.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/graphs.h"
#include "engine/cuda/inputs.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define VOCAB         24
#define SEQUENCES_MAX 9
#define BLOCKS        80

/* ------------------------------------------------------------------ buckets */

static void the_smallest_bucket_that_holds_a_step_serves_it(void **state)
{
    static const struct {
        uint32_t rows;
        uint32_t splits;
        struct cuda_bucket expected;
    } cases[] = {
        {1, 1, {1, 1}},     {2, 3, {2, 4}},         {3, 4, {4, 4}},     {5, 5, {8, 8}},
        {9, 9, {16, 16}},   {17, 31, {24, 32}},     {64, 33, {64, 64}}, {65, 65, {80, 100}},
        {200, 1, {208, 1}}, {241, 100, {250, 100}}, {250, 1, {250, 1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cuda_bucket bucket = cuda_bucket_choose(cases[i].rows, cases[i].splits, 250, 100);

        assert_int_equal(bucket.rows, cases[i].expected.rows);
        assert_int_equal(bucket.splits, cases[i].expected.splits);
    }
}

static void every_size_has_a_bucket_and_larger_ones_have_none(void **state)
{
    uint32_t before = 0;

    (void)state;
    for (uint32_t rows = 1; rows <= CUDA_GRAPH_ROWS_MAX; rows++) {
        struct cuda_bucket bucket = cuda_bucket_choose(rows, 1, UINT32_MAX, 1);

        assert_in_range(bucket.rows, rows, rows + (rows <= 8 ? rows : 15));
        assert_true(bucket.rows >= before);
        before = bucket.rows;
    }
    assert_int_equal(cuda_bucket_choose(CUDA_GRAPH_ROWS_MAX + 1, 1, UINT32_MAX, 1).rows, 0);
    assert_int_equal(cuda_bucket_choose(17, 1, 16, 1).rows, 0);
    assert_int_equal(cuda_bucket_choose(0, 1, 16, 1).rows, 0);
    assert_int_equal(cuda_bucket_choose(1, 0, 16, 1).rows, 0);
}

/* ------------------------------------------------------------------ inputs */

static void padding_is_a_token_in_a_block_that_belongs_to_nobody(void **state)
{
    static const uint32_t slots[2][3] = {{7, 5, 6}, {3, 2, 1}};
    static const struct engine_batch_sequence sequences[] = {{slots[0], 3}, {slots[1], 3}};
    static const struct engine_row rows[] = {{.token = 11, .position = 33, .sequence = 0},
                                             {.token = 12, .position = 16, .sequence = 1}};
    static const struct engine_output outputs[] = {
        {.row = 1, .want = ENGINE_WANT_LOGITS},
        {.row = 0, .want = ENGINE_WANT_HIDDEN},
        {.row = 4, .is_head = true, .want = ENGINE_WANT_LOGITS}};
    const struct engine_batch batch = {.rows = rows,
                                       .row_count = 2,
                                       .sequences = sequences,
                                       .sequence_count = 2,
                                       .outputs = outputs,
                                       .output_count = 3};
    static const uint32_t expected[] = {11, 12,
                                        0,  0, /* tokens */
                                        33, 16,
                                        0,  0, /* positions */
                                        0,  3,
                                        5,  5, /* tables */
                                        1,  0 | CUDA_PICK_HEAD,
                                        0,  0, /* picks */
                                        7,  5,
                                        6,  3,
                                        2,  99}; /* slots */
    struct cuda_inputs inputs = {.rows = 4, .logits = 4};
    uint32_t words[sizeof expected / sizeof expected[0]];
    uint32_t heads[3];

    (void)state;
    cuda_inputs_fill(&batch, 16, 99, &inputs, words, heads);
    assert_int_equal(inputs.words, sizeof expected / sizeof expected[0]);
    assert_memory_equal(words, expected, sizeof expected);
    assert_int_equal(inputs.heads, 1);
    assert_int_equal(heads[0], 4);
    assert_int_equal(inputs.splits, 1);
    assert_true(cuda_inputs_decode(&batch));
}

/* ------------------------------------------------------------------ steps */

static const struct model_shape shape = {.vocab = VOCAB,
                                         .hidden = 32,
                                         .ffn = 32,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 16,
                                         .type = MODEL_TYPE_Q8_0,
                                         .seed = 20};

/* Sequences that decode; each has blocks of its own. */
struct decoding {
    struct cuda_rig rig;
    uint32_t lengths[SEQUENCES_MAX];
    struct engine_batch_sequence sequences[SEQUENCES_MAX];
};

/* One of them may be about to enter a second split. */
static void open_decoding(struct decoding *decoding, struct cuda_device *device,
                          bool is_without_graphs, bool has_long)
{
    const struct cuda_options options = {.outputs_max = SEQUENCES_MAX + 1,
                                         .block_count = BLOCKS,
                                         .is_without_graphs = is_without_graphs};
    uint32_t first = 0;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    cuda_rig_open(&decoding->rig, device, model, &options);
    decoding->rig.bytes = bytes;
    for (uint32_t i = 0; i < SEQUENCES_MAX; i++) {
        uint32_t count = i == 2 ? 18 : 4;
        uint32_t tokens[260];

        decoding->lengths[i] = i == 2 && has_long ? 254 : 3 + 5 * i;
        for (uint32_t k = 0; k < decoding->lengths[i]; k++)
            tokens[k] = (k * 7 + i) % VOCAB;
        decoding->sequences[i] = (struct engine_batch_sequence){
            .slots = decoding->rig.base.slots + first, .slot_count = count};
        cpu_rig_feed(&decoding->rig.base, first, tokens, 0, decoding->lengths[i],
                     ENGINE_WANT_HIDDEN, 0, NULL);
        first += count;
    }
}

/* One token for each of some sequences, from `first` on; with `state` its logits come behind. */
static void decode(struct decoding *decoding, uint32_t first, uint32_t count, const float *given,
                   float logits_out[][VOCAB])
{
    struct engine_row rows[SEQUENCES_MAX];
    struct engine_batch_sequence sequences[SEQUENCES_MAX];
    struct engine_output outputs[SEQUENCES_MAX + 1];
    const struct engine_batch batch = {.rows = rows,
                                       .row_count = count,
                                       .sequences = sequences,
                                       .sequence_count = count,
                                       .heads = &given,
                                       .head_count = given != NULL,
                                       .outputs = outputs,
                                       .output_count = count + (given != NULL)};
    struct engine_result result;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t sequence = (first + i) % SEQUENCES_MAX;

        rows[i] = (struct engine_row){.token = (decoding->lengths[sequence] * 5 + 1) % VOCAB,
                                      .position = decoding->lengths[sequence],
                                      .sequence = i};
        sequences[i] = decoding->sequences[sequence];
        decoding->lengths[sequence]++;
        outputs[count - 1 - i] = (struct engine_output){.row = i, .want = ENGINE_WANT_LOGITS};
    }
    outputs[count] = (struct engine_output){.is_head = true, .want = ENGINE_WANT_LOGITS};
    result = cpu_rig_run(&decoding->rig.base, &batch);
    for (uint32_t i = 0; i < batch.output_count; i++)
        memcpy(logits_out[i], result.outputs[i], sizeof logits_out[i]);
}

/* Batches that grow, shrink and change, past the end of a split, with and without a given state. */
static void assert_same_bits(struct decoding *a, struct decoding *b)
{
    static const struct {
        uint32_t first;
        uint32_t count;
        bool has_state;
    } steps[] = {{0, 1, false}, {1, 1, false}, {2, 1, false}, {0, 3, false},
                 {2, 3, true},  {1, 4, true},  {4, 9, false}, {2, 1, false},
                 {0, 5, false}, {1, 2, false}, {0, 9, true},  {8, 1, false}};
    float given[32];
    float logits[2][SEQUENCES_MAX + 1][VOCAB];

    for (uint32_t i = 0; i < 32; i++)
        given[i] = (float)i / 8 - 2;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        uint32_t outputs = steps[i].count + steps[i].has_state;

        decode(a, steps[i].first, steps[i].count, steps[i].has_state ? given : NULL, logits[0]);
        decode(b, steps[i].first, steps[i].count, steps[i].has_state ? given : NULL, logits[1]);
        if (memcmp(logits[0], logits[1], outputs * sizeof logits[0][0]) != 0)
            fail_msg("step %zu gives other bits", i);
    }
}

static void replayed_steps_give_the_bits_of_launched_ones(void **state)
{
    struct decoding launched;
    struct decoding replayed;
    struct cuda_graph_counts counts;

    (void)state;
    open_decoding(&launched, cuda_rig_device(), true, true);
    open_decoding(&replayed, cuda_rig_device(), false, true);
    counts = cuda_backend_graphs(replayed.rig.base.backend);
    assert_int_equal(counts.recorded, 0); /* prompts are launched */
    assert_same_bits(&launched, &replayed);
    counts = cuda_backend_graphs(replayed.rig.base.backend);
    assert_int_equal(counts.replayed, 12);
    assert_int_equal(counts.recorded, 7); /* rows 1, 4 x splits 1, 2; rows 2, 8, 10 x splits 2 */
    assert_int_equal(counts.failed, 0);
    counts = cuda_backend_graphs(launched.rig.base.backend);
    assert_int_equal(counts.replayed, 0);
    cuda_rig_close(&launched.rig);
    cuda_rig_close(&replayed.rig);
}

/* Whatever is in the pool besides the new entry of each row stays as it is. */
static void padding_writes_into_no_block_of_the_pool(void **state)
{
    float logits[SEQUENCES_MAX + 1][VOCAB];
    struct decoding decoding;
    size_t block_bytes;
    size_t bytes;
    uint8_t *before;
    uint8_t *after;
    uint32_t changed = 0;

    (void)state;
    open_decoding(&decoding, cuda_rig_device(), false, false);
    block_bytes = decoding.rig.base.kv.block_bytes;
    bytes = block_bytes * BLOCKS;
    before = malloc(bytes);
    after = malloc(bytes);
    assert_true(before != NULL && after != NULL);
    cuda_device_download(decoding.rig.device, before, decoding.rig.base.kv.base, bytes);
    decode(&decoding, 3, 5, NULL, logits); /* a bucket of eight */
    cuda_device_download(decoding.rig.device, after, decoding.rig.base.kv.base, bytes);
    assert_int_equal(cuda_device_wait(decoding.rig.device, NULL), TD_OK);
    for (uint32_t block = 0; block < BLOCKS; block++)
        changed +=
            memcmp(before + block * block_bytes, after + block * block_bytes, block_bytes) != 0;
    assert_int_equal(changed, 5);
    assert_int_equal(cuda_backend_graphs(decoding.rig.base.backend).replayed, 1);
    free(before);
    free(after);
    cuda_rig_close(&decoding.rig);
}

/* ------------------------------------------------------------------ what cannot be recorded */

static const struct cuda_device_ops *whole;
static struct cuda_device_ops lame;
static uint32_t captures;
static bool is_capturing;

static td_status_t capture(struct cuda_device *device, struct td_error *error)
{
    is_capturing = true;
    return ++captures == 1 ? td_fail(error, TD_NO_MEMORY, "no memory to record")
                           : whole->capture(device, error);
}

static td_status_t capture_end(struct cuda_device *device, struct cuda_graph **graph_out,
                               struct td_error *error)
{
    struct cuda_graph *graph = NULL;
    td_status_t status = whole->capture_end(device, graph_out != NULL ? &graph : NULL, error);

    is_capturing = false;
    if (captures < 3 || status != TD_OK || graph_out == NULL)
        return status;
    whole->drop_graph(device, graph);
    return td_fail(error, TD_INTERNAL, "too large to be recorded");
}

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    if (captures == 2 && is_capturing)
        return td_fail(error, TD_INTERNAL, "kernel %d is not recorded", (int)kernel);
    return whole->launch(device, kernel, grid, args, error);
}

static void what_cannot_be_recorded_is_launched_and_counted(void **state)
{
    struct decoding launched;
    struct decoding lame_one;
    struct cuda_device *device = cuda_rig_device();

    (void)state;
    whole = device->ops;
    lame = *whole;
    lame.capture = capture;
    lame.capture_end = capture_end;
    lame.launch = launch;
    device->ops = &lame;
    open_decoding(&launched, cuda_rig_device(), true, false);
    open_decoding(&lame_one, device, false, false);
    assert_same_bits(&launched, &lame_one);
    assert_int_equal(cuda_backend_graphs(lame_one.rig.base.backend).failed, CUDA_GRAPH_FAILURES);
    assert_int_equal(cuda_backend_graphs(lame_one.rig.base.backend).replayed, 0);
    assert_int_equal(captures, CUDA_GRAPH_FAILURES);
    assert_null(lame_one.rig.base.backend->ops->lost(lame_one.rig.base.backend));
    cuda_rig_close(&launched.rig);
    cuda_rig_close(&lame_one.rig);
}

static void queue_nothing(const void *context)
{
    ++*(uint32_t *)(uintptr_t)context;
}

static td_status_t capture_every_other(struct cuda_device *device, struct td_error *error)
{
    return ++captures % 2 == 1 ? td_fail(error, TD_NO_MEMORY, "no memory to record")
                               : whole->capture(device, error);
}

/* Nothing is given up for what was not recorded, and failures that do not follow each other are no reason to stop. */
static void failures_between_successes_cost_nothing(void **state)
{
    const struct cuda_bucket more = {.rows = CUDA_GRAPHS_KEPT + 1, .splits = 1};
    struct cuda_device *device = cuda_rig_device();
    struct cuda_graphs graphs;
    uint32_t queued = 0;

    (void)state;
    whole = device->ops;
    lame = *whole;
    lame.capture = capture_every_other;
    device->ops = &lame;
    captures = 0;
    cuda_graphs_init(&graphs, device, false);
    for (uint32_t rows = 1; rows <= CUDA_GRAPHS_KEPT; rows++) {
        const struct cuda_bucket bucket = {.rows = rows, .splits = 1};

        assert_false(cuda_graphs_run(&graphs, bucket, queue_nothing, &queued));
        assert_true(cuda_graphs_run(&graphs, bucket, queue_nothing, &queued));
    }
    assert_int_equal(graphs.counts.failed, CUDA_GRAPHS_KEPT);
    assert_int_equal(graphs.counts.recorded, CUDA_GRAPHS_KEPT);
    assert_false(cuda_graphs_run(&graphs, more, queue_nothing, &queued));
    assert_int_equal(graphs.counts.dropped, 0);
    assert_true(cuda_graphs_run(&graphs, more, queue_nothing, &queued));
    assert_int_equal(graphs.counts.dropped, 1);
    assert_int_equal(queued, CUDA_GRAPHS_KEPT + 1);
    assert_int_equal(cuda_device_wait(device, NULL), TD_OK);
    cuda_graphs_fini(&graphs);
    cuda_device_close(device);
}

static void the_least_recently_used_goes_when_there_are_too_many(void **state)
{
    struct cuda_device *device = cuda_rig_device();
    struct cuda_graphs graphs;
    uint32_t queued = 0;

    (void)state;
    cuda_graphs_init(&graphs, device, false);
    for (uint32_t rows = 1; rows <= CUDA_GRAPHS_KEPT + 1; rows++) {
        const struct cuda_bucket first = {.rows = 1, .splits = 1};
        const struct cuda_bucket bucket = {.rows = rows, .splits = 1};

        assert_true(cuda_graphs_run(&graphs, bucket, queue_nothing, &queued));
        assert_true(cuda_graphs_run(&graphs, first, queue_nothing, &queued)); /* stays in use */
    }
    assert_int_equal(queued, CUDA_GRAPHS_KEPT + 1);
    assert_int_equal(graphs.counts.dropped, 1);
    assert_true(cuda_graphs_run(&graphs, (struct cuda_bucket){2, 1}, queue_nothing, &queued));
    assert_int_equal(queued, CUDA_GRAPHS_KEPT + 2); /* that was the one */
    assert_true(cuda_graphs_run(&graphs, (struct cuda_bucket){2, 2}, queue_nothing, &queued));
    assert_int_equal(queued, CUDA_GRAPHS_KEPT + 3); /* other splits, another graph */
    assert_int_equal(cuda_device_wait(device, NULL), TD_OK);
    cuda_graphs_fini(&graphs);
    cuda_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_smallest_bucket_that_holds_a_step_serves_it),
        cmocka_unit_test(every_size_has_a_bucket_and_larger_ones_have_none),
        cmocka_unit_test(padding_is_a_token_in_a_block_that_belongs_to_nobody),
        cmocka_unit_test(replayed_steps_give_the_bits_of_launched_ones),
        cmocka_unit_test(padding_writes_into_no_block_of_the_pool),
        cmocka_unit_test(what_cannot_be_recorded_is_launched_and_counted),
        cmocka_unit_test(failures_between_successes_cost_nothing),
        cmocka_unit_test(the_least_recently_used_goes_when_there_are_too_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
