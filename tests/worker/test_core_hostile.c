/*
 * test_core_hostile.c: what routers may say wrongly. Each message gets a defined answer; a fault of a link ends the link, a
 * fault of a request ends the request, and nothing stays behind.
 */
#include <math.h>
#include <string.h>

#include "tests/worker/core_scene.h"

static struct rig_stream other;

static uint64_t invalid(void)
{
    return worker_core_counters(rig.core)->invalid_messages;
}

static uint64_t stale(void)
{
    return worker_core_counters(rig.core)->stale_messages;
}

/* --- links --- */

static void open_link(struct rig_stream *stream)
{
    *stream = (struct rig_stream){0};
    assert_int_equal(worker_link_open(rig.core, stream, &stream->link), TD_OK);
}

static void a_message_before_hello_closes_the_link(void **state)
{
    (void)state;
    open_link(&other);
    rig_start(&rig, &other, ID, TOKENS, 0);
    assert_true(other.closed);
    assert_int_equal(other.status, TD_INVALID);
    assert_int_equal(invalid(), 1);
    assert_null(rig_request(&rig, ID));
}

static void a_hello_for_another_incarnation_is_stale(void **state)
{
    (void)state;
    open_link(&other);
    rig_hello(&rig, &other, RIG_EPOCH + 1, RIG_ROUTER);
    assert_true(other.closed);
    assert_int_equal(other.status, TD_STALE);
    assert_int_equal(stale(), 1);
}

static void a_second_hello_and_one_without_epoch_close_the_link(void **state)
{
    (void)state;
    open_link(&other);
    rig_hello(&rig, &other, RIG_EPOCH, 0);
    assert_true(other.closed);
    rig_hello(&rig, &router, RIG_EPOCH, RIG_ROUTER);
    assert_true(router.closed);
    assert_int_equal(invalid(), 2);
}

static void a_router_of_another_version_is_told_so(void **state)
{
    static const uint32_t others[] = {WORKER_PROTOCOL_VERSION - 1, WORKER_PROTOCOL_VERSION + 1};

    (void)state;
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        Td__GenerateIn message = TD__GENERATE_IN__INIT;
        Td__Hello hello = TD__HELLO__INIT;
        Td__Versions versions = TD__VERSIONS__INIT;

        open_link(&other);
        versions.min = versions.max = others[i];
        hello.versions = &versions;
        hello.worker_epoch = RIG_EPOCH;
        hello.router_epoch = RIG_ROUTER;
        message.kind_case = TD__GENERATE_IN__KIND_HELLO;
        message.hello = &hello;
        rig_say(&rig, &other, &message);
        assert_true(other.closed);
        assert_int_equal(other.status, TD_UNSUPPORTED);
    }
}

static void messages_of_a_newer_kind_are_skipped(void **state)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;

    (void)state;
    rig_say(&rig, &router, &message);
    assert_false(router.closed);
}

/* --- starts --- */

static void expect_refused(uint64_t id, td_status_t status)
{
    Td__Update update;

    assert_true(rig_update(&rig, &router, &update));
    assert_int_equal(update.request_lo, id);
    assert_int_equal(update.finish, TD__FINISH__FINISH_REFUSED);
    assert_int_equal(update.code, (uint32_t)-status);
    assert_true(update.message[0] != '\0');
    assert_false(router.closed);
}

struct bad_start {
    const char *field;
    void (*spoil)(Td__Start *start);
};

static void no_tokens(Td__Start *start)
{
    start->prompt_tokens = 0;
}

static void too_many_tokens(Td__Start *start)
{
    start->prompt_tokens = RIG_CONTEXT + 1;
}

static void most_tokens(Td__Start *start)
{
    start->prompt_tokens = UINT32_MAX;
}

static void other_model(Td__Start *start)
{
    start->model = (char *)(uintptr_t) "another";
}

static void many_stop_ids(Td__Start *start)
{
    static uint32_t ids[ENGINE_STOP_IDS_MAX + 1];

    start->stop_ids = ids;
    start->n_stop_ids = ENGINE_STOP_IDS_MAX + 1;
}

static void no_sampling(Td__Start *start)
{
    start->sampling = NULL;
}

static void nan_temperature(Td__Start *start)
{
    start->sampling->temperature = NAN;
}

static void negative_temperature(Td__Start *start)
{
    start->sampling->temperature = -1;
}

static void large_top_p(Td__Start *start)
{
    start->sampling->top_p = 1.5f;
}

static void nan_top_p(Td__Start *start)
{
    start->sampling->top_p = NAN;
}

static void large_min_p(Td__Start *start)
{
    start->sampling->min_p = 1.5f;
}

static void negative_repetition_penalty(Td__Start *start)
{
    start->sampling->repetition_penalty = -1.0f;
}

static void nan_frequency_penalty(Td__Start *start)
{
    start->sampling->frequency_penalty = NAN;
}

static void infinite_presence_penalty(Td__Start *start)
{
    start->sampling->presence_penalty = INFINITY;
}

static uint32_t some_ids[ENGINE_BIASES_MAX + 1];
static float some_values[ENGINE_BIASES_MAX + 1];

static void bias(Td__Start *start, size_t ids, size_t values)
{
    start->sampling->bias_tokens = some_ids;
    start->sampling->n_bias_tokens = ids;
    start->sampling->bias_values = some_values;
    start->sampling->n_bias_values = values;
}

static void bias_without_value(Td__Start *start)
{
    bias(start, 2, 1);
}

static void too_many_biases(Td__Start *start)
{
    bias(start, ENGINE_BIASES_MAX + 1, ENGINE_BIASES_MAX + 1);
}

static void bias_beyond_the_vocabulary(Td__Start *start)
{
    bias(start, 2, 2);
    some_ids[1] = UINT32_MAX;
}

static void nan_bias(Td__Start *start)
{
    bias(start, 2, 2);
    some_ids[1] = 0;
    some_values[1] = NAN;
}

static void other_text(Td__Start *start)
{
    start->text_id_hi = 1;
}

static const struct bad_start bad_starts[] = {
    {"prompt_tokens", no_tokens},
    {"prompt_tokens", too_many_tokens},
    {"prompt_tokens", most_tokens},
    {"model", other_model},
    {"stop_ids", many_stop_ids},
    {"sampling", no_sampling},
    {"sampling", nan_temperature},
    {"sampling", negative_temperature},
    {"sampling", large_top_p},
    {"sampling", nan_top_p},
    {"sampling", large_min_p},
    {"sampling", negative_repetition_penalty},
    {"sampling", nan_frequency_penalty},
    {"sampling", infinite_presence_penalty},
    {"biases", bias_without_value},
    {"biases", too_many_biases},
    {"biases", bias_beyond_the_vocabulary},
    {"biases", nan_bias},
    {"text_id", other_text},
};

static void say_start(uint64_t id, void (*spoil)(Td__Start *start))
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Start start;
    Td__Sampling sampling = TD__SAMPLING__INIT;

    td__start__init(&start);
    sampling.top_p = 1;
    start.request_lo = id;
    start.model = (char *)(uintptr_t) "model";
    start.prompt_tokens = TOKENS;
    start.max_new_tokens = 8;
    start.sampling = &sampling;
    start.text_id_lo = 5;
    spoil(&start);
    message.kind_case = TD__GENERATE_IN__KIND_START;
    message.start = &start;
    rig_say(&rig, &router, &message);
}

static void a_bad_start_is_refused_by_the_name_of_the_field(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_starts / sizeof bad_starts[0]; i++) {
        Td__Update update;

        say_start(ID, bad_starts[i].spoil);
        assert_null(rig_request(&rig, ID));
        assert_true(rig_update(&rig, &router, &update));
        assert_int_equal(update.finish, TD__FINISH__FINISH_REFUSED);
        assert_non_null(strstr(update.message, bad_starts[i].field));
    }
    assert_int_equal(rig.engine_count, 0);
}

static void a_repeated_start_is_refused_and_the_first_lives(void **state)
{
    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 0);
    rig_start(&rig, &router, ID, TOKENS, 0);
    expect_refused(ID, TD_STATE);
    assert_non_null(rig_request(&rig, ID));
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    assert_int_equal(rig_engine_count(&rig, ENGINE_SUBMIT), 1);
}

static void more_requests_than_fit_are_refused_for_now(void **state)
{
    (void)state;
    for (uint64_t id = 1; id <= 4; id++)
        rig_start(&rig, &router, id, TOKENS, 0);
    rig_start(&rig, &router, 5, TOKENS, 0);
    expect_refused(5, TD_EXHAUSTED);
}

static void a_draining_worker_refuses_new_requests(void **state)
{
    (void)state;
    worker_core_drain(rig.core, 1000, rig.now_ns);
    rig_start(&rig, &router, ID, TOKENS, 0);
    expect_refused(ID, TD_EXHAUSTED);
    assert_true(worker_core_idle(rig.core));
}

/* --- frames --- */

static void frames_beyond_the_prompt_end_the_request(void **state)
{
    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 0);
    rig_tokens(&rig, &router, ID, 0, TOKENS + 1);
    expect_refused(ID, TD_INVALID);
    assert_null(rig_request(&rig, ID));
}

static void frames_out_of_order_and_empty_ones_end_the_request(void **state)
{
    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 0);
    rig_tokens(&rig, &router, ID, 0, 4);
    rig_tokens(&rig, &router, ID, 8, 4);
    expect_refused(ID, TD_INVALID);
    rig_start(&rig, &router, ID, TOKENS, 0);
    rig_tokens(&rig, &router, ID, 0, 0);
    expect_refused(ID, TD_INVALID);
    assert_int_equal(rig.engine_count, 0);
}

static void a_token_outside_the_vocabulary_ends_the_request(void **state)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__StartTokens frame = TD__START_TOKENS__INIT;
    uint32_t token = RIG_VOCAB;

    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 0);
    frame.request_lo = ID;
    frame.tokens = &token;
    frame.n_tokens = 1;
    message.kind_case = TD__GENERATE_IN__KIND_TOKENS;
    message.tokens = &frame;
    rig_say(&rig, &router, &message);
    expect_refused(ID, TD_INVALID);
}

static void frames_of_a_request_that_is_not_there_are_skipped(void **state)
{
    Td__Update update;

    (void)state;
    rig_tokens(&rig, &router, ID, 0, 4);
    assert_false(rig_update(&rig, &router, &update));
    assert_false(router.closed);
}

/* --- requests of others --- */

static void run_request(void)
{
    rig_start(&rig, &router, ID, TOKENS, 0);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    assert_int_equal(rig_request(&rig, ID)->state, REQUEST_RUNNING);
}

static void another_router_cannot_touch_a_request(void **state)
{
    Td__Update update;

    (void)state;
    run_request();
    open_link(&other);
    rig_hello(&rig, &other, RIG_EPOCH, RIG_ROUTER + 1);
    (void)worker_link_next(other.link, rig.now_ns); /* its greeting */
    rig_cancel(&rig, &other, ID);
    assert_true(rig_update(&rig, &other, &update));
    assert_int_equal(update.code, (uint32_t)-TD_NOT_FOUND);
    rig_attach(&rig, &other, ID, 0);
    assert_true(rig_update(&rig, &other, &update));
    assert_int_equal(update.finish, TD__FINISH__FINISH_FAILED);
    rig_ended(&rig, &other, ID);
    assert_int_equal(rig_request(&rig, ID)->state, REQUEST_RUNNING);
    assert_int_equal(rig_engine_count(&rig, ENGINE_CANCEL), 0);
}

static void an_attach_beyond_the_output_fails(void **state)
{
    Td__Update update;

    (void)state;
    run_request();
    rig_step(&rig, rig_request(&rig, ID)->sequence, 0, 42);
    assert_true(rig_update(&rig, &router, &update));
    rig_attach(&rig, &router, ID, 2);
    assert_true(rig_update(&rig, &router, &update) && update.finish == TD__FINISH__FINISH_FAILED);
}

static void an_attach_brings_what_is_missing_once(void **state)
{
    Td__Update update;
    uint64_t sequence;

    (void)state;
    run_request();
    sequence = rig_request(&rig, ID)->sequence;
    for (uint32_t i = 0; i < 3; i++)
        rig_step(&rig, sequence, i, 40 + i);
    worker_link_closed(router.link, rig.now_ns);
    rig_link(&rig, &other);
    rig_attach(&rig, &other, ID, 1);
    assert_true(rig_update(&rig, &other, &update));
    assert_int_equal(update.index, 1);
    assert_int_equal(update.n_tokens, 2);
    assert_int_equal(update.tokens[0], 41);
    assert_false(rig_update(&rig, &other, &update));
}

/* The engine may be done before it hears of the cancel: what it drew after it was not taken. */
static void an_end_that_crosses_a_cancel_is_no_whole_answer(void **state)
{
    Td__Update update;
    uint64_t sequence;

    (void)state;
    run_request();
    sequence = rig_request(&rig, ID)->sequence;
    rig_step(&rig, sequence, 0, 40);
    worker_link_closed(router.link, rig.now_ns);
    rig_wait_ms(&rig, rig.core->times.grace_ms);
    assert_int_equal(rig_request(&rig, ID)->state, REQUEST_CANCELING);
    rig_link(&rig, &other);
    rig_attach(&rig, &other, ID, 0);
    rig_step(&rig, sequence, 1, 41);
    rig_finished(&rig, sequence, ENGINE_FINISH_LENGTH, TD_OK, 2);
    assert_true(rig_update(&rig, &other, &update));
    assert_int_equal(update.finish, TD__FINISH__FINISH_CANCELED);
    assert_int_equal(update.n_tokens, 1);
    assert_int_equal(update.completion_tokens, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DECODE(a_message_before_hello_closes_the_link),
        DECODE(a_hello_for_another_incarnation_is_stale),
        DECODE(a_second_hello_and_one_without_epoch_close_the_link),
        DECODE(a_router_of_another_version_is_told_so),
        DECODE(messages_of_a_newer_kind_are_skipped),
        DECODE(a_bad_start_is_refused_by_the_name_of_the_field),
        DECODE(a_repeated_start_is_refused_and_the_first_lives),
        DECODE(more_requests_than_fit_are_refused_for_now),
        DECODE(a_draining_worker_refuses_new_requests),
        DECODE(frames_beyond_the_prompt_end_the_request),
        DECODE(frames_out_of_order_and_empty_ones_end_the_request),
        DECODE(a_token_outside_the_vocabulary_ends_the_request),
        DECODE(frames_of_a_request_that_is_not_there_are_skipped),
        DECODE(another_router_cannot_touch_a_request),
        DECODE(an_attach_beyond_the_output_fails),
        DECODE(an_attach_brings_what_is_missing_once),
        DECODE(an_end_that_crosses_a_cancel_is_no_whole_answer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
