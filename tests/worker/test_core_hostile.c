/*
 * test_core_hostile.c: what routers and peers may say wrongly. Each message gets a defined answer; a
 * fault of a link ends the link, a fault of a request ends the request, and nothing stays behind.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/worker/core_rig.h"

#define ID     9
#define TOKENS 18

static struct rig rig;
static struct rig_stream router;
static struct rig_stream other;

static int open_decode(void **state)
{
    (void)state;
    rig_open(&rig, TD__ROLE__ROLE_DECODE);
    rig_link(&rig, &router);
    return 0;
}

static int open_prefill(void **state)
{
    (void)state;
    rig_open(&rig, TD__ROLE__ROLE_PREFILL);
    return 0;
}

static int shut(void **state)
{
    (void)state;
    rig_close(&rig);
    return 0;
}

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

/* --- handshakes --- */

static void wrong_epoch(Td__PairRequest *request)
{
    request->peer_epoch = RIG_EPOCH + 1;
}

static void own_epoch(Td__PairRequest *request)
{
    request->epoch = RIG_EPOCH;
}

static void zero_epoch(Td__PairRequest *request)
{
    request->epoch = 0;
}

static void no_versions(Td__PairRequest *request)
{
    request->versions = NULL;
}

static void older_version(Td__PairRequest *request)
{
    request->versions->min = request->versions->max = WORKER_PROTOCOL_VERSION - 1;
}

static void newer_version(Td__PairRequest *request)
{
    request->versions->min = request->versions->max = WORKER_PROTOCOL_VERSION + 1;
}

static void no_content(Td__PairRequest *request)
{
    request->content = NULL;
}

static void other_weights(Td__PairRequest *request)
{
    request->content->weights_lo++;
}

static void other_rope(Td__PairRequest *request)
{
    request->content->rope = (char *)(uintptr_t) "yarn";
}

static void other_id(Td__PairRequest *request)
{
    request->content->content_id_hi++;
}

static void no_geometry(Td__PairRequest *request)
{
    request->geometry = NULL;
}

static void other_layers(Td__PairRequest *request)
{
    request->geometry->layers++;
}

static void other_hidden(Td__PairRequest *request)
{
    request->geometry->hidden++;
}

static void no_transport(Td__PairRequest *request)
{
    request->n_transports = 0;
}

static void strange_transport(Td__PairRequest *request)
{
    request->transports[0]->name = (char *)(uintptr_t) "pigeons";
}

static void long_address(Td__PairRequest *request)
{
    static uint8_t blob[KVT_ADDRESS_BYTES_MAX + 1];

    request->transports[0]->blob = (ProtobufCBinaryData){.len = sizeof blob, .data = blob};
}

static void a_bad_handshake_is_refused_by_the_name_of_the_field(void **state)
{
    static const struct {
        const char *field;
        void (*spoil)(Td__PairRequest *request);
    } cases[] = {
        {"epoch", wrong_epoch},      {"epoch", own_epoch},        {"epoch", zero_epoch},
        {"version", no_versions},    {"version", older_version},  {"version", newer_version},
        {"content", no_content},     {"weights", other_weights},  {"rope", other_rope},
        {"content_id", other_id},    {"geometry", no_geometry},   {"layers", other_layers},
        {"hidden", other_hidden},    {"transport", no_transport}, {"transport", strange_transport},
        {"transport", long_address},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *reason;

        assert_false(rig_paired_by(&rig, cases[i].spoil, &reason));
        assert_non_null(strstr(reason, cases[i].field));
    }
    assert_int_equal(rig.kvt_count, 0);
}

static void a_handshake_made_twice_replaces_the_peer(void **state)
{
    (void)state;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    assert_true(rig_paired_by(&rig, NULL, NULL));
    assert_int_equal(rig_kvt_count(&rig, KVT_PEER_ADD), 2);
    assert_int_equal(rig_kvt_count(&rig, KVT_PEER_DROP), 1);
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER); /* the first one */
    assert_non_null(peer_find(rig.core, RIG_PEER));
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
    assert_null(peer_find(rig.core, RIG_PEER));
}

/* --- asks --- */

static void stale_holder(Td__Ask *ask)
{
    ask->holder_epoch++;
}

static void unpaired_asker(Td__Ask *ask)
{
    ask->asker_epoch++;
}

static void other_content(Td__Ask *ask)
{
    ask->content_id_lo++;
}

static void no_transfer(Td__Ask *ask)
{
    ask->transfer_lo = 0;
}

static void short_key(Td__Ask *ask)
{
    ask->mac_key.len = 3;
}

static void no_prompt(Td__Ask *ask)
{
    ask->n_tokens = 0;
}

static void long_prompt(Td__Ask *ask)
{
    ask->n_tokens = RIG_CONTEXT + 1;
}

static void skip_all(Td__Ask *ask)
{
    ask->skip_blocks = UINT32_MAX;
}

static void skip_the_end(Td__Ask *ask)
{
    ask->n_tokens = 2 * RIG_BLOCK_TOKENS;
    ask->skip_blocks = 2;
}

static void bad_token(Td__Ask *ask)
{
    ask->tokens[TOKENS - 1] = RIG_VOCAB;
}

static void a_bad_ask_is_refused(void **state)
{
    static const struct {
        td_status_t status;
        void (*spoil)(Td__Ask *ask);
    } cases[] = {
        {TD_STALE, stale_holder},  {TD_STALE, unpaired_asker}, {TD_INVALID, other_content},
        {TD_INVALID, no_transfer}, {TD_INVALID, short_key},    {TD_INVALID, no_prompt},
        {TD_INVALID, long_prompt}, {TD_INVALID, skip_all},     {TD_INVALID, skip_the_end},
        {TD_INVALID, bad_token},
    };
    struct rig_stream asker;

    (void)state;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rig_asked(&rig, &asker, TOKENS, cases[i].spoil);
        assert_null(asker.export);
        assert_true(asker.closed);
        assert_int_equal(asker.code, (uint32_t)-cases[i].status);
    }
    assert_int_equal(rig.engine_count, 0);
    assert_true(worker_core_idle(rig.core));
}

static void a_transfer_id_in_use_is_refused(void **state)
{
    struct rig_stream first;
    struct rig_stream second;
    Td__AskIn message = TD__ASK_IN__INIT;

    (void)state;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    rig_asked(&rig, &first, TOKENS, NULL);
    assert_non_null(first.export);
    rig.core->counters.exports_started--; /* the rig draws its ids from it */
    rig_asked(&rig, &second, TOKENS, NULL);
    assert_null(second.export);
    assert_int_equal(second.code, (uint32_t)-TD_INVALID);
    second = (struct rig_stream){0}; /* and a stream that does not begin with an ask */
    worker_core_on_asked(rig.core, &second, &message, rig.now_ns, &second.export);
    assert_null(second.export);
    assert_int_equal(second.code, (uint32_t)-TD_INVALID);
    assert_int_equal(first.export->state, EXPORT_QUEUED);
}

static void more_asks_than_allowed_are_refused_for_now(void **state)
{
    struct rig_stream askers[3];

    (void)state;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    for (int i = 0; i < 3; i++)
        rig_asked(&rig, &askers[i], TOKENS, NULL);
    assert_null(askers[2].export);
    assert_int_equal(askers[2].code, (uint32_t)-TD_EXHAUSTED);
}

static void a_lease_out_of_bounds_is_brought_into_them(void **state)
{
    struct rig_stream asker;

    (void)state;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    rig_asked(&rig, &asker, TOKENS, NULL);
    assert_int_equal(asker.export->lease_ms, 1000);
    rig_wait_ms(&rig, 1000);
    assert_int_equal(asker.export->state, EXPORT_STOPPING);
    assert_int_equal(asker.code, (uint32_t)-TD_TIMEOUT);
    assert_int_equal(worker_core_counters(rig.core)->leases_expired, 1);
}

/* --- what a candidate may say wrongly --- */

static void other_transport(Td__PairReply *reply)
{
    reply->transport = (char *)(uintptr_t) "ucx";
}

static void reply_without_epoch(Td__PairReply *reply)
{
    reply->epoch = 0;
}

static void reply_without_address(Td__PairReply *reply)
{
    reply->address = NULL;
}

static void reply_with_other_geometry(Td__PairReply *reply)
{
    reply->geometry->block_bytes++;
}

static void reply_of_another_version(Td__PairReply *reply)
{
    reply->version = 99;
}

static void a_bad_reply_to_a_handshake_means_prefill_here(void **state)
{
    static void (*const spoils[])(Td__PairReply *) = {
        other_transport, reply_without_epoch, reply_without_address, reply_with_other_geometry,
        reply_of_another_version};

    (void)state;
    for (size_t i = 0; i < sizeof spoils / sizeof spoils[0]; i++) {
        rig_close(&rig);
        open_decode(NULL);
        rig_start(&rig, &router, ID, TOKENS, 1);
        rig_tokens(&rig, &router, ID, 0, TOKENS);
        rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
        rig_pair_reply(&rig, spoils[i]);
        assert_false(rig_request(&rig, ID)->import.active);
        assert_int_equal(rig_last_engine(&rig)->kind, ENGINE_RELEASE);
        assert_int_equal(worker_core_counters(rig.core)->pairs_refused, 1);
        assert_true(rig_request(&rig, ID)->result.kv.fallback[0] != '\0');
    }
}

/* --- progress --- */

static void say_progress(uint32_t computed, uint32_t sent)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Progress progress = TD__PROGRESS__INIT;

    progress.computed_tokens = computed;
    progress.sent_blocks = sent;
    message.kind_case = TD__ASK_OUT__KIND_PROGRESS;
    message.progress = &progress;
    rig_ask_says(&rig, &message);
}

static void heartbeats_do_not_keep_a_dead_transfer_alive(void **state)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Accepted accepted = TD__ACCEPTED__INIT;
    struct worker_import *import;

    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 1);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    import = &rig_request(&rig, ID)->import;
    rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
    rig_pair_reply(&rig, NULL);
    rig_peer(&rig, KVT_PEER_UP, RIG_PEER);
    message.kind_case = TD__ASK_OUT__KIND_ACCEPTED;
    message.accepted = &accepted;
    rig_ask_says(&rig, &message);
    for (int i = 0; i < 20; i++) { /* it waits over there, and says so */
        rig_wait_ms(&rig, 1000);
        say_progress(0, 0);
    }
    assert_int_equal(import->state, IMPORT_LANDING);
    for (uint32_t i = 0; i < 20; i++) { /* it was computed, and blocks leave one by one */
        rig_wait_ms(&rig, 1000);
        say_progress(TOKENS, i + 1);
    }
    assert_int_equal(import->state, IMPORT_LANDING);
    for (int i = 0; i < 5; i++) { /* nothing comes any more, but the heartbeat does */
        rig_wait_ms(&rig, 1000);
        say_progress(TOKENS, 20);
    }
    assert_int_equal(import->state, IMPORT_STOPPING);
    assert_int_equal(worker_core_counters(rig.core)->asks_stalled, 1);
}

static uint32_t progress_within(struct rig_stream *asker, uint32_t ms)
{
    uint32_t before = asker->replies[TD__ASK_OUT__KIND_PROGRESS];
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Renew renew = TD__RENEW__INIT;

    renew.lease_ms = rig.core->times.lease_ms;
    message.kind_case = TD__ASK_IN__KIND_RENEW;
    message.renew = &renew;
    worker_core_on_asker_message(asker->export, &message, rig.now_ns);
    rig_wait_ms(&rig, ms);
    return asker->replies[TD__ASK_OUT__KIND_PROGRESS] - before;
}

static void a_hanging_engine_reports_no_progress(void **state)
{
    const uint32_t heartbeat_ms = 100; /* well below the lease that the rig asks for */
    struct rig_stream asker;

    (void)state;
    rig.core->times.heartbeat_ms = heartbeat_ms;
    assert_true(rig_paired_by(&rig, NULL, NULL));
    rig_asked(&rig, &asker, TOKENS, NULL);
    assert_int_equal(progress_within(&asker, heartbeat_ms), 1);
    rig.step_age_ms = rig.core->times.step_ms; /* the loop lives, the engine does not */
    assert_int_equal(progress_within(&asker, heartbeat_ms), 0);
    assert_int_equal(progress_within(&asker, heartbeat_ms), 0);
    rig.step_age_ms = 0;
    assert_int_equal(progress_within(&asker, heartbeat_ms), 1);
}

/* --- closing by force --- */

static void a_core_that_is_closed_in_the_middle_frees_everything(void **state)
{
    struct rig_stream asker;

    (void)state;
    for (uint64_t id = 1; id <= 4; id++) {
        rig_start(&rig, &router, id, TOKENS, 1);
        if (id > 1)
            rig_tokens(&rig, &router, id, 0, TOKENS);
    }
    rig_reserved(&rig, rig_request(&rig, 2)->sequence, 5, 0);
    rig_close(&rig);
    rig_open(&rig, TD__ROLE__ROLE_PREFILL);
    assert_true(rig_paired_by(&rig, NULL, NULL));
    rig_asked(&rig, &asker, TOKENS, NULL);
    rig_asked(&rig, &asker, TOKENS, NULL);
    rig_finished(&rig, asker.export->sequence, ENGINE_FINISH_REFUSED, TD_EXHAUSTED, 0);
    /* the leak checker looks at what rig_close leaves */
}

#define DECODE(test)  cmocka_unit_test_setup_teardown(test, open_decode, shut)
#define PREFILL(test) cmocka_unit_test_setup_teardown(test, open_prefill, shut)

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
        PREFILL(a_bad_handshake_is_refused_by_the_name_of_the_field),
        PREFILL(a_handshake_made_twice_replaces_the_peer),
        PREFILL(a_bad_ask_is_refused),
        PREFILL(a_transfer_id_in_use_is_refused),
        PREFILL(more_asks_than_allowed_are_refused_for_now),
        PREFILL(a_lease_out_of_bounds_is_brought_into_them),
        PREFILL(a_hanging_engine_reports_no_progress),
        DECODE(a_bad_reply_to_a_handshake_means_prefill_here),
        DECODE(heartbeats_do_not_keep_a_dead_transfer_alive),
        DECODE(a_core_that_is_closed_in_the_middle_frees_everything),
    };

    td_log_set_level((enum td_log_level) - 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
