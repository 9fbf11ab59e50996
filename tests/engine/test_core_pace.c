/*
 * test_core_pace.c: how long steps are made and who gets their room: what is learnt of costs, streams that keep
 * their pace beside prompts, short prompts beside long ones. All durations are the modelled backend's.
 */
#include "tests/engine/rig.h"

#include <math.h>
#include <string.h>

#include "engine/plan.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

#define MS(n) ((uint64_t)((n) * (double)TD_NS_PER_MS))

/* ---- what a step costs ---- */

static const double costs[ENGINE_PACE_COSTS] = {4e6, 7e5, 6e5, 20, 90}; /* of a small model */

static double cost_of(const struct engine_work *work)
{
    return costs[0] + costs[1] * work->decode_rows + costs[2] * work->prefill_rows +
           costs[3] * (double)work->decode_context + costs[4] * (double)work->prefill_context;
}

/* Some streams, and a prompt that goes on from a position. */
static struct engine_work work_of(uint32_t streams, uint32_t rows, uint32_t position)
{
    return (struct engine_work){.decode_rows = streams,
                                .prefill_rows = rows,
                                .decode_context = streams * UINT64_C(1000),
                                .prefill_context = (uint64_t)rows * position};
}

static double error_of(const struct engine_pace *pace, const struct engine_work *work)
{
    return fabs(engine_pace_forecast(pace, work) / cost_of(work) - 1);
}

static uint32_t least_of(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static void learn(struct engine_pace *pace, const struct engine_work *work)
{
    engine_pace_learn(pace, work, (uint64_t)cost_of(work));
}

static void a_kind_of_step_that_is_repeated_is_soon_foretold(void **state)
{
    struct engine_pace pace = {0};

    (void)state;
    for (uint32_t streams = 1; streams <= 64; streams *= 2) {
        struct engine_work work = work_of(streams, 0, 0);

        for (int i = 0; i < 8; i++)
            learn(&pace, &work);
        assert_true(error_of(&pace, &work) < 0.02);
    }
}

/* What rows cost changes slowly with their position; a new prompt begins where they are cheap. */
static void prompts_are_foretold_at_any_depth(void **state)
{
    struct engine_pace pace = {0};
    struct engine_work work;

    (void)state;
    for (uint32_t position = 0; position < 16384; position += 128) {
        work = work_of(0, 128, position);
        assert_true(position == 0 || error_of(&pace, &work) < 0.05);
        learn(&pace, &work);
    }
    work = work_of(0, 128, 0);
    assert_true(error_of(&pace, &work) < 1.2); /* too careful, for once */
    for (int i = 0; i < 3; i++)
        learn(&pace, &work);
    assert_true(error_of(&pace, &work) < 0.15);
    work = work_of(0, 128, 16384);
    assert_true(error_of(&pace, &work) < 0.5);
}

static void one_step_that_was_held_up_is_soon_forgotten(void **state)
{
    struct engine_pace pace = {0};
    struct engine_work work = work_of(8, 64, 500);

    (void)state;
    for (int i = 0; i < 20; i++)
        learn(&pace, &work);
    engine_pace_learn(&pace, &work, 3600 * TD_NS_PER_SEC);
    assert_true(engine_pace_forecast(&pace, &work) < 3 * cost_of(&work));
    for (int i = 0; i < 6; i++)
        learn(&pace, &work);
    assert_true(error_of(&pace, &work) < 0.05);
}

/* Only mixed steps, in which streams take most of the time: one step without prompts sets the costs right. */
static void a_step_of_streams_alone_is_wanted_less_and_less_often(void **state)
{
    struct engine_pace pace = {0};
    struct engine_work mixed = work_of(8, 16, 500);
    struct engine_work alone = work_of(8, 0, 0);
    uint32_t steps = 0;

    (void)state;
    for (uint32_t expected = ENGINE_PACE_MIXED_MIN; expected <= 2 * ENGINE_PACE_MIXED_MAX;
         expected *= 2) {
        for (steps = 0; !engine_pace_wants_alone(&pace); steps++)
            learn(&pace, &mixed);
        assert_int_equal(steps, least_of(expected, ENGINE_PACE_MIXED_MAX));
        if (expected == ENGINE_PACE_MIXED_MIN) {
            assert_true(error_of(&pace, &alone) > 0.5);
            learn(&pace, &alone); /* surprises, and is not believed at once */
            assert_true(engine_pace_wants_alone(&pace));
        }
        learn(&pace, &alone);
        assert_false(engine_pace_wants_alone(&pace));
        assert_true(error_of(&pace, &alone) < 0.02);
    }
    learn(&pace, &mixed);
    learn(&pace, &alone); /* one that came by itself */
    for (steps = 0; !engine_pace_wants_alone(&pace); steps++)
        learn(&pace, &mixed);
    assert_int_equal(steps, ENGINE_PACE_MIXED_MAX);
}

/* Mixed steps could not show for long that it was wrong. */
static void a_step_of_streams_alone_that_was_held_up_is_not_believed(void **state)
{
    struct engine_pace pace = {0};
    struct engine_work mixed = work_of(8, 16, 500);
    struct engine_work alone = work_of(8, 0, 0);

    (void)state;
    for (int round = 0; round < 4; round++) {
        while (!engine_pace_wants_alone(&pace))
            learn(&pace, &mixed);
        if (round > 0)
            engine_pace_learn(&pace, &alone, (uint64_t)(20 * cost_of(&alone)));
        while (engine_pace_wants_alone(&pace))
            learn(&pace, &alone);
        assert_true(error_of(&pace, &alone) < 0.02);
    }
}

static void costs_are_never_negative_whatever_is_said(void **state)
{
    struct engine_pace pace = {0};
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++) {
        struct engine_work work =
            work_of((uint32_t)td_rng_below(&rng, 65), (uint32_t)td_rng_below(&rng, 16385),
                    (uint32_t)td_rng_below(&rng, 1000000));

        engine_pace_learn(&pace, &work, td_rng_next(&rng) >> td_rng_below(&rng, 64));
        for (int k = 0; k < ENGINE_PACE_COSTS; k++)
            assert_true(pace.costs[k] >= 0 && pace.costs[k] < INFINITY);
    }
}

static void as_many_rows_fit_as_the_time_allows_and_no_more(void **state)
{
    struct engine_pace pace = {0};

    (void)state;
    for (uint32_t position = 0; position < 4096; position += 64) {
        struct engine_work work = work_of(0, 64, position);

        learn(&pace, &work);
    }
    for (uint32_t rows = 1; rows < 300; rows++) {
        double ns = engine_pace_cost(&pace, 1000, rows);

        assert_int_equal(engine_pace_fit(&pace, 1000, 4096, ns), rows);
        assert_int_equal(engine_pace_fit(&pace, 1000, rows - 1, ns), rows - 1);
        assert_int_equal(engine_pace_fit(&pace, 1000, 4096, ns * 0.9999), rows - 1);
    }
    assert_int_equal(engine_pace_fit(&pace, 0, 77, INFINITY), 77);
    assert_int_equal(engine_pace_fit(&pace, 0, 77, 0), 0);
}

/* ---- who gets the room ---- */

#define CHUNKS 9

/* In any room, of rows or of time: nothing is wasted, and the oldest gets half or all that it needs. */
static void the_oldest_has_half_and_no_room_is_left_over(void **state)
{
    struct engine_pace pace = {.costs = {1e6, 1e6, 64e6, 1e6, 8e6}, .knows_prefill = true};
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 1);
    for (int round = 0; round < 20000; round++) {
        struct engine_chunk chunks[CHUNKS] = {0};
        struct engine_chunk *order[CHUNKS];
        uint32_t count = 1 + (uint32_t)td_rng_below(&rng, CHUNKS);
        bool timed = round % 2 == 0;
        struct engine_room room = {.rows = 1 + (uint32_t)td_rng_below(&rng, 200),
                                   .ns = timed ? 1e6 * (double)td_rng_below(&rng, 100)
                                               : (double)INFINITY};
        uint32_t left = 0;
        uint32_t given = 0;
        double ns = 0;

        room.sure = least_of(16, room.rows);
        for (uint32_t i = 0; i < count; i++) {
            chunks[i].left = 1 + (uint32_t)td_rng_below(&rng, 100);
            chunks[i].position = timed ? (uint32_t)td_rng_below(&rng, 20000) : 0;
            left += chunks[i].left;
        }
        engine_share(&pace, room, chunks, order, count);
        for (uint32_t i = 0; i < count; i++) {
            assert_in_range(chunks[i].rows, 0, chunks[i].left);
            given += chunks[i].rows;
            ns += engine_pace_cost(&pace, chunks[i].position, chunks[i].rows);
        }
        assert_in_range(given, least_of(left, room.sure), room.rows);
        assert_true(given <= room.sure || ns <= room.ns * 1.0001);
        if (!timed) {
            assert_int_equal(given, least_of(left, room.rows));
            assert_in_range(chunks[0].rows, least_of(chunks[0].left, room.rows - room.rows / 2),
                            chunks[0].left);
        }
    }
}

static void of_equals_the_older_is_through_first(void **state)
{
    struct engine_pace pace = {0};
    struct engine_room room = {.rows = 20, .ns = INFINITY};
    struct engine_chunk chunks[3] = {{.left = 30}, {.left = 30}, {.left = 30}};
    struct engine_chunk *order[3];

    (void)state;
    engine_share(&pace, room, chunks, order, 3);
    assert_int_equal(chunks[0].rows, 20);
    chunks[2].left = 7; /* what is short passes, with the other half */
    chunks[1].left = 9;
    engine_share(&pace, room, chunks, order, 3);
    assert_int_equal(chunks[0].rows, 10);
    assert_int_equal(chunks[1].rows, 3);
    assert_int_equal(chunks[2].rows, 7);
}

/* ---- a core with costs ---- */

static const struct rig_config timed = {
    .model = {.weights = 5,
              .vocab = 97,
              .block_tokens = 16,
              .max_context = 2048,
              .step_ns = 2000000,
              .prefill_row_ns = 100000,
              .decode_row_ns = 300000},
    .core = {.step_rows = 512, .sequences_max = 16, .waiting_max = 64},
    .block_count = 1024,
};

static void open_timed(struct rig *rig, double target_ms, double limit_ms)
{
    struct rig_config config = timed;

    config.core.step_target_ns = MS(target_ms);
    config.core.step_limit_ns = MS(limit_ms);
    rig_open(rig, &config);
}

static void start_streams(struct rig *rig, uint64_t count)
{
    for (uint64_t id = 1; id <= count; id++)
        rig_start(rig, id, ENGINE_GENERATE, (uint32_t)id, 5, 120);
    for (int i = 0; i < 10; i++)
        rig_step(rig);
    assert_int_equal(rig->load.step_rows, count);
}

static void close_checked(struct rig *rig, uint64_t last)
{
    rig_run(rig);
    for (uint64_t id = 1; id <= last; id++) {
        rig_assert_finished(rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(rig, id);
    }
    rig_close(rig);
}

/* The way of a prompt to its first token. */
struct way {
    uint32_t steps;
    uint64_t longest_ns;
};

/* Each step gives a token to every stream. */
static struct way go_to_first_token(struct rig *rig, uint64_t id, uint64_t streams)
{
    struct way way = {0};

    while (rig->records[id].output_count == 0) {
        uint32_t before = rig->records[1].output_count;

        assert_true(rig_step(rig));
        for (uint64_t stream = 1; stream <= streams; stream++)
            assert_int_equal(rig->records[stream].output_count, before + 1);
        way.steps++;
        if (rig->load.step_ns > way.longest_ns)
            way.longest_ns = rig->load.step_ns;
    }
    return way;
}

static void streams_keep_their_pace_when_a_long_prompt_comes(void **state)
{
    struct rig rig;
    struct way way;

    (void)state;
    open_timed(&rig, 10, 0);
    start_streams(&rig, 4);
    assert_int_equal(rig.load.step_ns, MS(3.2));
    rig_start(&rig, 5, ENGINE_GENERATE, 5, 1000, 4); /* 53 ms for 512 rows at once */
    way = go_to_first_token(&rig, 5, 4);
    assert_in_range(way.longest_ns, MS(9), MS(11));
    assert_in_range(way.steps, 14, 20); /* 68 rows in each would be 15; two go without any */
    close_checked(&rig, 5);
}

static void without_a_target_or_streams_steps_are_full(void **state)
{
    struct rig rig;

    (void)state;
    open_timed(&rig, 0, 0);
    start_streams(&rig, 4);
    rig_start(&rig, 5, ENGINE_GENERATE, 5, 1000, 4);
    assert_int_equal(go_to_first_token(&rig, 5, 4).steps, 2);
    close_checked(&rig, 5);
    open_timed(&rig, 10, 0);
    rig_start(&rig, 1, ENGINE_PREFILL, 1, 1000, 0); /* as in a worker that only prefills */
    rig_step(&rig);
    assert_int_equal(rig.load.step_rows, 512);
    rig_run(&rig);
    assert_true(rig.records[1].prefilled);
    rig_release(&rig, 1, false);
    rig_close(&rig);
}

static void no_step_is_longer_than_the_limit_streams_or_not(void **state)
{
    struct rig rig;

    (void)state;
    open_timed(&rig, 0, 20);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 1000, 100);
    assert_in_range(go_to_first_token(&rig, 1, 0).longest_ns, MS(18), MS(22));
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 1000, 4);
    assert_in_range(go_to_first_token(&rig, 2, 1).longest_ns, MS(18), MS(22));
    close_checked(&rig, 2);
}

/* A target that the streams alone cannot keep: prompts may then double the step. */
static void slow_streams_share_the_time_with_prompts(void **state)
{
    struct rig rig;
    struct way way;

    (void)state;
    open_timed(&rig, 1, 0);
    start_streams(&rig, 15);
    assert_int_equal(rig.load.step_ns, MS(6.5));
    rig_start(&rig, 16, ENGINE_GENERATE, 16, 1000, 4);
    way = go_to_first_token(&rig, 16, 15);
    assert_in_range(way.longest_ns, MS(11), MS(14.5));
    assert_in_range(way.steps, 14, 19);
    close_checked(&rig, 16);
}

/*
 * Beside a prompt from the first step on, streams never show what they take alone. That must not be blamed on the rows of
 * the prompt, or it is held to ENGINE_ROWS_SURE for ever: 63 steps instead of the 16 in which it takes half of the time.
 */
static void what_streams_take_is_not_held_against_a_prompt(void **state)
{
    struct rig rig;
    struct way way;

    (void)state;
    open_timed(&rig, 1, 0);
    for (uint64_t id = 1; id <= 15; id++)
        rig_start(&rig, id, ENGINE_IMPORT, (uint32_t)id, 40, 120);
    assert_false(rig_step(&rig));
    for (uint64_t id = 1; id <= 15; id++) {
        rig_send(&rig, ENGINE_ASKED, id);
        rig_land(&rig, id);
    }
    rig_start(&rig, 16, ENGINE_GENERATE, 16, 1000, 4);
    way = go_to_first_token(&rig, 16, 15);
    assert_in_range(way.steps, 16, 30);
    assert_true(way.longest_ns < MS(14.5));
    close_checked(&rig, 16);
}

static void prompts_get_on_however_long_a_row_takes(void **state)
{
    struct rig_config config = timed;
    struct rig rig;

    (void)state;
    config.model.prefill_row_ns = 50 * TD_NS_PER_MS;
    config.core.step_target_ns = MS(10);
    config.core.step_limit_ns = MS(15);
    rig_open(&rig, &config);
    start_streams(&rig, 2);
    rig_start(&rig, 3, ENGINE_GENERATE, 3, 320, 4);
    assert_int_equal(go_to_first_token(&rig, 3, 2).steps, 320 / ENGINE_ROWS_SURE + 2); /* pauses */
    close_checked(&rig, 3);
}

/* An import that lands is decoded at once; the first prompt of all comes later, beside it. */
static void the_first_prompt_of_all_is_tried_with_few_rows(void **state)
{
    struct rig rig;

    (void)state;
    open_timed(&rig, 10, 0);
    rig_start(&rig, 1, ENGINE_IMPORT, 1, 40, 100);
    assert_false(rig_step(&rig));
    rig_send(&rig, ENGINE_ASKED, 1);
    rig_land(&rig, 1);
    for (int i = 0; i < 5; i++)
        rig_step(&rig);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 1000, 4);
    rig_step(&rig);
    assert_int_equal(rig.load.step_prefill_rows, ENGINE_PACE_PROBE_ROWS);
    assert_in_range(go_to_first_token(&rig, 2, 1).longest_ns, MS(9), MS(14));
    close_checked(&rig, 2);
}

/* ---- long prompts and short ones ---- */

static void open_narrow(struct rig *rig)
{
    struct rig_config config = timed;

    config.core.step_rows = 32;
    rig_open(rig, &config);
}

static void a_short_prompt_does_not_wait_for_a_long_one(void **state)
{
    struct rig rig;

    (void)state;
    open_narrow(&rig);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 1000, 4); /* 32 steps alone */
    rig_step(&rig);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 40, 4); /* 2 steps alone */
    assert_int_equal(go_to_first_token(&rig, 2, 0).steps, 3);
    assert_int_equal(rig.records[1].output_count, 0);
    close_checked(&rig, 2);
}

/* Twice the steps that it takes alone, and no more, though shorter ones keep coming. */
static void a_long_prompt_is_not_starved_by_short_ones(void **state)
{
    struct rig rig;
    uint64_t id = 1;

    (void)state;
    open_narrow(&rig);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 960, 4);
    while (rig.records[1].output_count == 0) {
        id++;
        rig_start(&rig, id, ENGINE_GENERATE, (uint32_t)id, 30, 1);
        rig_step(&rig);
    }
    assert_in_range(rig.load.steps, 60, 66);
    assert_true(rig.finished_count > 20);
    close_checked(&rig, id);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_kind_of_step_that_is_repeated_is_soon_foretold),
        cmocka_unit_test(prompts_are_foretold_at_any_depth),
        cmocka_unit_test(one_step_that_was_held_up_is_soon_forgotten),
        cmocka_unit_test(a_step_of_streams_alone_is_wanted_less_and_less_often),
        cmocka_unit_test(a_step_of_streams_alone_that_was_held_up_is_not_believed),
        cmocka_unit_test(costs_are_never_negative_whatever_is_said),
        cmocka_unit_test(as_many_rows_fit_as_the_time_allows_and_no_more),
        cmocka_unit_test(the_oldest_has_half_and_no_room_is_left_over),
        cmocka_unit_test(of_equals_the_older_is_through_first),
        cmocka_unit_test(streams_keep_their_pace_when_a_long_prompt_comes),
        cmocka_unit_test(without_a_target_or_streams_steps_are_full),
        cmocka_unit_test(no_step_is_longer_than_the_limit_streams_or_not),
        cmocka_unit_test(slow_streams_share_the_time_with_prompts),
        cmocka_unit_test(what_streams_take_is_not_held_against_a_prompt),
        cmocka_unit_test(prompts_get_on_however_long_a_row_takes),
        cmocka_unit_test(the_first_prompt_of_all_is_tried_with_few_rows),
        cmocka_unit_test(a_short_prompt_does_not_wait_for_a_long_one),
        cmocka_unit_test(a_long_prompt_is_not_starved_by_short_ones),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
