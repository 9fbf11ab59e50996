/* test_runtime.c: what a worker answers to routers: requests, broken links, cancels, wrong and silent streams. */
#include <stdio.h>
#include <string.h>

#include "lib/net/http_client.h"
#include "tests/worker/runtime_site.h"

/* A worker and a router that is linked to it. */
struct pair {
    struct site site;
    struct router router;
};

static void pair_open(struct pair *pair, const char *const *flags)
{
    site_open(&pair->site);
    station_open(&pair->site, &pair->site.decode, flags);
    router_open(&pair->router, &pair->site.decode);
}

static void pair_close(struct pair *pair)
{
    router_close(&pair->router);
    station_end(&pair->site.decode);
    site_close(&pair->site);
}

/* ---- requests ---- */

static void many_requests_of_one_router_are_answered_without_a_gap(void **state)
{
    struct pair pair;
    struct heard *heard[12];

    (void)state;
    pair_open(&pair, NULL);
    for (uint32_t i = 0; i < 12; i++)
        heard[i] = router_start(&pair.router, &(struct start){.prompt_tokens = 5 + 23 * i,
                                                              .max_new_tokens = 3 + 5 * i,
                                                              .prompt_seed = i});
    for (uint32_t i = 0; i < 12; i++) {
        site_until(&pair.site, heard_end, heard[i]);
        assert_int_equal(heard[i]->finish, TD__FINISH__FINISH_LENGTH);
        assert_int_equal(heard[i]->count, 3 + 5 * i);
        assert_false(heard[i]->gap);
        assert_int_equal(heard[i]->ends, 1);
    }
    assert_int_equal(station_counters(&pair.site.decode)->requests_finished, 12);
    pair_close(&pair);
}

static void a_router_that_does_not_read_gets_everything_when_it_does(void **state)
{
    struct pair pair;
    struct heard *heard;

    (void)state;
    pair_open(&pair, NULL);
    heard = router_start(&pair.router, &(struct start){.prompt_tokens = 9, .max_new_tokens = 300});
    site_until(&pair.site, heard_token, heard);
    rpc_call_pause(pair.router.stream.call);
    site_turns(&pair.site, 50);
    rpc_call_resume(pair.router.stream.call);
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->count, 300);
    assert_false(heard->gap);
    pair_close(&pair);
}

/* ---- starts that are refused, by field ---- */

static void spoil_model(Td__Start *start)
{
    start->model = (char *)(uintptr_t) "another";
}

static void spoil_length(Td__Start *start)
{
    start->prompt_tokens = 1u << 30;
}

static void spoil_text_id(Td__Start *start)
{
    start->text_id_lo++;
}

static void spoil_temperature(Td__Start *start)
{
    start->sampling->temperature = -1.0f;
}

static void spoil_top_p(Td__Start *start)
{
    start->sampling->top_p = 0.0f;
}

static void spoil_sampling(Td__Start *start)
{
    start->sampling = NULL;
}

static void spoil_stop_ids(Td__Start *start)
{
    static uint32_t ids[ENGINE_STOP_IDS_MAX + 1];

    start->stop_ids = ids;
    start->n_stop_ids = ENGINE_STOP_IDS_MAX + 1;
}

static void a_wrong_start_is_refused_and_names_the_field(void **state)
{
    static const struct {
        void (*spoil)(Td__Start *start);
        const char *field;
    } wrong[] = {{spoil_model, "model"},      {spoil_length, "prompt_tokens"},
                 {spoil_text_id, "text_id"},  {spoil_temperature, "sampling"},
                 {spoil_top_p, "sampling"},   {spoil_sampling, "sampling"},
                 {spoil_stop_ids, "stop_ids"}};
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct heard *heard = router_ask(
            &pair.router,
            &(struct start){.prompt_tokens = 5, .max_new_tokens = 5, .spoil = wrong[i].spoil});

        assert_int_equal(heard->finish, TD__FINISH__FINISH_REFUSED);
        assert_int_equal(heard->code, (uint32_t)-TD_INVALID);
        assert_non_null(strstr(heard->message, wrong[i].field));
    }
    router_ask(&pair.router, &(struct start){.prompt_tokens = 5, .max_new_tokens = 5});
    pair_close(&pair);
}

/* ---- cancels ---- */

static void a_request_can_be_canceled_in_every_state(void **state)
{
    struct pair pair;
    struct heard *heard;

    (void)state;
    pair_open(&pair, NULL);
    heard = router_start(
        &pair.router,
        &(struct start){.prompt_tokens = 200, .send_tokens = 100, .max_new_tokens = 5});
    router_cancel(&pair.router, heard); /* while it is collected */
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_CANCELED);

    heard = router_start_and_hold(&pair.router,
                                  &(struct start){.prompt_tokens = 20, .max_new_tokens = 400});
    router_cancel(&pair.router, heard); /* while it runs */
    router_until_canceling(&pair.router, heard);
    engines_go_on();
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_CANCELED);

    pair.router.keeps_ends = true;
    heard = router_ask(&pair.router, &(struct start){.prompt_tokens = 20, .max_new_tokens = 4});
    heard->ends = 0;
    router_cancel(&pair.router, heard); /* when it has ended: the end is said again */
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    router_ended(&pair.router, heard);
    site_until(&pair.site, station_is_at_rest, &pair.site.decode);

    heard->ends = 0;
    router_cancel(&pair.router, heard); /* when it is not known any more */
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_CANCELED);
    assert_int_equal(heard->code, (uint32_t)-TD_NOT_FOUND);
    pair_close(&pair);
}

/* ---- links that break ---- */

static bool has_no_link(void *ctx)
{
    return station_gauges(ctx).links == 0;
}

static bool has_attached(void *ctx)
{
    return station_counters(ctx)->attaches > 0;
}

/* A new link, on which the router says what it has heard so far. */
static void link_again(struct pair *pair, const struct heard *heard)
{
    router_reopen(&pair->router);
    router_hello(&pair->router, station_epoch(&pair->site.decode));
    router_attach(&pair->router, heard, heard->count);
    site_until(&pair->site, has_attached, &pair->site.decode);
}

static bool has_finished_two(void *ctx)
{
    return station_counters(ctx)->requests_finished == 2;
}

/* The second of two answers to the same prompt loses its link after the first token. */
static void break_link_and_go_on(bool ends_without_link)
{
    static const struct start start = {.prompt_tokens = 33, .max_new_tokens = 200};
    struct pair pair;
    struct heard *whole;
    struct heard *heard;

    pair_open(&pair, NULL);
    whole = router_ask(&pair.router, &start);
    heard = router_start_and_hold(&pair.router, &start);
    stream_close(&pair.router.stream);
    site_until(&pair.site, has_no_link, &pair.site.decode);
    if (ends_without_link) {
        engines_go_on();
        site_until(&pair.site, has_finished_two, &pair.site.decode);
    }
    link_again(&pair, heard);
    engines_go_on();
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_int_equal(heard->count, 200);
    assert_false(heard->gap);
    assert_memory_equal(heard->tokens, whole->tokens, 200 * sizeof heard->tokens[0]);
    assert_int_equal(station_counters(&pair.site.decode)->attaches, 1);
    pair_close(&pair);
}

static void an_answer_goes_on_over_a_new_link(void **state)
{
    (void)state;
    break_link_and_go_on(false);
}

static void an_answer_that_ended_without_a_link_is_kept_for_the_new_one(void **state)
{
    (void)state;
    break_link_and_go_on(true);
}

static void a_request_whose_router_stays_away_is_canceled(void **state)
{
    static const char *const flags[] = {"--grace-time=50ms", NULL};
    struct pair pair;
    struct heard *heard;

    (void)state;
    pair_open(&pair, flags);
    pair.router.keeps_ends = true;
    router_start(&pair.router, &(struct start){.prompt_tokens = 200, .send_tokens = 100});
    heard = router_start_and_hold(&pair.router,
                                  &(struct start){.prompt_tokens = 9, .max_new_tokens = 400});
    stream_close(&pair.router.stream);
    router_until_canceling(&pair.router, heard);
    engines_go_on();
    site_until(&pair.site, station_is_at_rest, &pair.site.decode);
    router_reopen(&pair.router);
    router_hello(&pair.router, station_epoch(&pair.site.decode));
    router_attach(&pair.router, heard, 0);
    site_until(&pair.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_FAILED);
    assert_int_equal(heard->code, (uint32_t)-TD_NOT_FOUND);
    pair_close(&pair);
}

/* ---- wrong links ---- */

static void expect_break(struct pair *pair, td_status_t status)
{
    site_until(&pair->site, stream_is_closed, &pair->router.stream);
    assert_int_equal(pair->router.stream.status, status);
    stream_close(&pair->router.stream);
    site_until(&pair->site, has_no_link, &pair->site.decode);
    router_reopen(&pair->router);
}

static void a_wrong_link_is_closed_and_costs_nothing(void **state)
{
    struct pair pair;
    struct heard *heard;

    (void)state;
    pair_open(&pair, NULL);
    heard = router_start_and_hold(&pair.router,
                                  &(struct start){.prompt_tokens = 9, .max_new_tokens = 400});
    router_hello(&pair.router, station_epoch(&pair.site.decode)); /* again, with a live request */
    expect_break(&pair, TD_INVALID);
    engines_go_on();
    router_hello(&pair.router, station_epoch(&pair.site.decode) + 1);
    expect_break(&pair, TD_STALE);
    router_cancel(&pair.router, heard); /* before hello */
    expect_break(&pair, TD_INVALID);
    stream_send_nonsense(&pair.router.stream);
    expect_break(&pair, TD_INVALID);
    stream_half_close(&pair.router.stream);
    expect_break(&pair, TD_OK);
    router_hello(&pair.router, station_epoch(&pair.site.decode));
    router_cancel(&pair.router, heard);
    site_until(&pair.site, heard_end, heard);
    pair_close(&pair);
}

static void a_message_over_the_limit_breaks_the_link(void **state)
{
    static uint32_t tokens[200000];
    struct pair pair;
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__StartTokens frame = TD__START_TOKENS__INIT;

    (void)state;
    for (size_t i = 0; i < 200000; i++)
        tokens[i] = 1000000;
    pair_open(&pair, NULL);
    frame.tokens = tokens;
    frame.n_tokens = 200000;
    message.kind_case = TD__GENERATE_IN__KIND_TOKENS;
    message.tokens = &frame;
    stream_send(&pair.router.stream, &message.base);
    expect_break(&pair, TD_LIMIT);
    pair_close(&pair);
}

static void a_flood_of_wrong_messages_is_answered_within_bounds(void **state)
{
    struct pair pair;
    struct heard *heard;

    (void)state;
    pair_open(&pair, NULL);
    heard = router_ask(&pair.router, &(struct start){.prompt_tokens = 9, .max_new_tokens = 2});
    rpc_call_pause(pair.router.stream.call);
    for (int i = 0; i < 2000; i++)
        router_cancel(&pair.router, heard);
    site_turns(&pair.site, 100);
    rpc_call_resume(pair.router.stream.call);
    heard->ends = 0;
    site_until(&pair.site, heard_end, heard);
    heard = router_ask(&pair.router, &(struct start){.prompt_tokens = 9, .max_new_tokens = 2});
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    pair_close(&pair);
}

/* ---- streams on which nothing is said ---- */

static void ignore(void *ctx, const ProtobufCMessage *message)
{
    (void)ctx;
    (void)message;
}

static void a_stream_on_which_nothing_is_said_ends(void **state)
{
    static const char *const flags[] = {"--collect-time=20ms", NULL};
    static const char *const paths[] = {"/td.Worker/Generate", "/td.Worker/Prefill"};
    struct pair pair;

    (void)state;
    pair_open(&pair, flags);
    for (size_t i = 0; i < 2; i++) {
        struct stream stream = {.hears = &td__generate_out__descriptor, .on_message = ignore};

        stream_open(&stream, &pair.site, pair.site.decode.options.listen, paths[i]);
        site_until(&pair.site, stream_is_closed, &stream);
        assert_int_equal(stream.status, TD_TIMEOUT);
        stream_close(&stream);
    }
    router_ask(&pair.router, &(struct start){.prompt_tokens = 9, .max_new_tokens = 2});
    pair_close(&pair);
}

struct crowd {
    struct stream streams[65];
    int count;
};

/* Which of them is turned away depends on the order in which they arrive, and not on ours. */
static int refused_of(const struct crowd *crowd)
{
    int refused = 0;

    for (int i = 0; i < crowd->count; i++)
        if (crowd->streams[i].call == NULL) {
            assert_int_equal(crowd->streams[i].status, TD_LIMIT);
            refused++;
        }
    return refused;
}

static bool one_is_refused(void *ctx)
{
    return refused_of(ctx) == 1;
}

static void there_are_only_so_many_streams_of_each_kind(void **state)
{
    static const char *const flags[] = {"--links-max=3", "--exports-max=2", NULL};
    static const char *const paths[] = {"/td.Worker/Generate", "/td.Worker/Prefill",
                                        "/td.Worker/Text"};
    static const int count_max[] = {2, 4, 64}; /* the router is one of the links */
    static struct crowd crowd;
    struct pair pair;

    (void)state;
    pair_open(&pair, flags);
    for (size_t kind = 0; kind < 3; kind++) {
        crowd.count = count_max[kind] + 1;
        for (int i = 0; i < crowd.count; i++) {
            crowd.streams[i] =
                (struct stream){.hears = &td__generate_out__descriptor, .on_message = ignore};
            stream_open(&crowd.streams[i], &pair.site, pair.site.decode.options.listen,
                        paths[kind]);
        }
        site_until(&pair.site, one_is_refused, &crowd);
        site_turns(&pair.site, 20);
        assert_int_equal(refused_of(&crowd), 1);
        for (int i = 0; i < crowd.count; i++)
            stream_close(&crowd.streams[i]);
    }
    pair_close(&pair);
}

/* ---- text ---- */

struct text_reader {
    struct stream stream;
    uint64_t bytes;
    uint64_t total;
};

static void text_on_message(void *ctx, const ProtobufCMessage *message)
{
    struct text_reader *reader = ctx;
    const Td__TextChunk *chunk = (const Td__TextChunk *)message;

    reader->bytes += chunk->data.len;
    reader->total = chunk->total_bytes;
}

static void fetch_text(struct pair *pair, struct text_reader *reader, uint64_t id_change)
{
    struct td_u128 id = pair->site.decode.runtime->engines.text_id;
    Td__TextRequest request = TD__TEXT_REQUEST__INIT;

    *reader = (struct text_reader){.stream = {.hears = &td__text_chunk__descriptor,
                                              .on_message = text_on_message,
                                              .ctx = reader}};
    stream_open(&reader->stream, &pair->site, pair->site.decode.options.listen, "/td.Worker/Text");
    request.text_id_hi = id.hi;
    request.text_id_lo = id.lo + id_change;
    stream_send(&reader->stream, &request.base);
}

static void the_tokenizer_can_be_fetched(void **state)
{
    struct text_reader reader;
    struct pair pair;

    (void)state;
    pair_open(&pair, NULL);
    fetch_text(&pair, &reader, 0);
    site_until(&pair.site, stream_is_closed, &reader.stream);
    assert_int_equal(reader.stream.status, TD_OK);
    assert_int_equal(reader.bytes, pair.site.decode.runtime->engines.text_bytes.length);
    assert_int_equal(reader.total, reader.bytes);
    stream_close(&reader.stream);

    fetch_text(&pair, &reader, 1);
    site_until(&pair.site, stream_is_closed, &reader.stream);
    assert_int_equal(reader.stream.status, TD_NOT_FOUND);
    stream_close(&reader.stream);

    fetch_text(&pair, &reader, 0); /* leaves before the end */
    site_until(&pair.site, stream_has_message, &reader.stream);
    stream_close(&reader.stream);

    reader.stream = (struct stream){.hears = &td__text_chunk__descriptor, .on_message = ignore};
    stream_open(&reader.stream, &pair.site, pair.site.decode.options.listen, "/td.Worker/Text");
    stream_half_close(&reader.stream);
    site_until(&pair.site, stream_is_closed, &reader.stream);
    assert_int_equal(reader.stream.status, TD_INVALID);
    stream_close(&reader.stream);
    pair_close(&pair);
}

/* ---- its own OpenAI port ---- */

struct answer {
    bool done;
    td_status_t status;
    int code;
    char body[4096];
    size_t length;
};

static void answer_head(void *ctx, int status)
{
    struct answer *answer = ctx;

    answer->code = status;
}

static void answer_body(void *ctx, const void *bytes, size_t length)
{
    struct answer *answer = ctx;
    size_t room = sizeof answer->body - 1 - answer->length;

    memcpy(answer->body + answer->length, bytes, length < room ? length : room);
    answer->length += length < room ? length : room;
}

static void answer_end(void *ctx, td_status_t status, const char *reason)
{
    struct answer *answer = ctx;

    (void)reason;
    answer->done = true;
    answer->status = status;
}

static bool is_answered(void *ctx)
{
    const struct answer *answer = ctx;

    return answer->done;
}

static bool has_body(void *ctx)
{
    const struct answer *answer = ctx;

    return answer->length > 0;
}

static const struct http_client_callbacks answer_callbacks = {
    .on_head = answer_head, .on_body = answer_body, .on_end = answer_end};

static void own_port_ask(struct http_client *client, const char *path, const char *body,
                         struct answer *answer)
{
    static const struct http_header json = {.name = "content-type", .value = "application/json"};
    struct http_client_request request = {.method = body != NULL ? HTTP_POST : HTTP_GET,
                                          .path = path,
                                          .headers = &json,
                                          .header_count = body != NULL ? 1 : 0,
                                          .body = body,
                                          .body_length = body != NULL ? strlen(body) : 0};

    *answer = (struct answer){0};
    assert_int_equal(http_client_ask(client, &request, &answer_callbacks, answer), TD_OK);
}

static void its_own_port_answers_and_notices_who_leaves(void **state)
{
    struct pair pair;
    struct http_client *client;
    struct answer answer;

    (void)state;
    pair_open(&pair, NULL);
    assert_int_equal(http_client_open(pair.site.loop,
                                      worker_runtime_http_address(pair.site.decode.runtime),
                                      &client, NULL),
                     TD_OK);
    own_port_ask(client, "/v1/completions",
                 "{\"model\":\"model\",\"prompt\":\"The lamp\",\"max_tokens\":6,"
                 "\"temperature\":0}",
                 &answer);
    site_until(&pair.site, is_answered, &answer);
    assert_int_equal(answer.code, 200);
    assert_non_null(strstr(answer.body, "\"completion_tokens\":6"));

    own_port_ask(client, "/metrics", NULL, &answer);
    site_until(&pair.site, is_answered, &answer);
    assert_int_equal(answer.code, 200);

    engines_hold_after(20);
    own_port_ask(client, "/v1/completions",
                 "{\"model\":\"model\",\"prompt\":\"The lamp\",\"max_tokens\":400,\"stream\":true,"
                 "\"temperature\":0}",
                 &answer);
    site_until(&pair.site, has_body, &answer);
    http_client_close(client);
    site_turns(&pair.site, 5);
    engines_go_on();
    site_until(&pair.site, station_is_at_rest, &pair.site.decode);
    pair_close(&pair);
}

/* Asks until the code is the wanted one: the age of a step grows by itself. */
static void own_port_until(struct pair *pair, struct http_client *client, const char *path,
                           int code, struct answer *answer)
{
    for (int i = 0; i < 100000; i++) {
        own_port_ask(client, path, NULL, answer);
        site_until(&pair->site, is_answered, answer);
        if (answer->code == code)
            return;
    }
    fail_msg("%s does not answer %d", path, code);
}

/* The loop lives and answers; only the engine's thread stands still, inside of a step. */
static void a_step_that_hangs_shows_in_health_until_it_goes_on(void **state)
{
    static const char *const flags[] = {"--step-time=300ms", NULL};
    struct pair pair;
    struct http_client *client;
    struct http_client *watcher;
    struct answer stream;
    struct answer answer;

    (void)state;
    pair_open(&pair, flags);
    assert_int_equal(http_client_open(pair.site.loop,
                                      worker_runtime_http_address(pair.site.decode.runtime),
                                      &client, NULL),
                     TD_OK);
    assert_int_equal(http_client_open(pair.site.loop,
                                      worker_runtime_http_address(pair.site.decode.runtime),
                                      &watcher, NULL),
                     TD_OK);
    own_port_until(&pair, watcher, "/health", 200, &answer);
    engines_hold_after(3);
    own_port_ask(client, "/v1/completions",
                 "{\"model\":\"model\",\"prompt\":\"The lamp\",\"max_tokens\":20,"
                 "\"temperature\":0}",
                 &stream);
    own_port_until(&pair, watcher, "/health", 503, &answer);
    assert_non_null(strstr(answer.body, "step has been running"));
    assert_false(stream.done);
    engines_go_on();
    site_until(&pair.site, is_answered, &stream);
    assert_int_equal(stream.code, 200);
    own_port_until(&pair, watcher, "/health", 200, &answer);
    http_client_close(watcher);
    http_client_close(client);
    pair_close(&pair);
}

static bool is_given_up(void *ctx)
{
    const struct station *station = ctx;

    return station->hangs > 0;
}

static void a_step_that_never_ends_ends_the_process(void **state)
{
    static const char *const flags[] = {"--step-time=50ms", "--hang-time=200ms", NULL};
    struct site site;
    struct router router;
    struct heard *heard;

    (void)state;
    site_open(&site);
    station_open(&site, &site.decode, flags);
    router_open(&router, &site.decode);
    heard = router_ask(&router, &(struct start){.prompt_tokens = 20, .max_new_tokens = 5});
    assert_int_equal(site.decode.hangs, 0);
    heard =
        router_start_and_hold(&router, &(struct start){.prompt_tokens = 20, .max_new_tokens = 30});
    site_until(&site, is_given_up, &site.decode);
    assert_int_equal(site.decode.hangs, 1); /* looks end with it: a process would have ended */
    engines_go_on();
    site_until(&site, heard_end, heard);
    router_close(&router);
    station_end(&site.decode);
    site_close(&site);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_never_ends_ends_the_process),
        cmocka_unit_test(many_requests_of_one_router_are_answered_without_a_gap),
        cmocka_unit_test(a_router_that_does_not_read_gets_everything_when_it_does),
        cmocka_unit_test(a_wrong_start_is_refused_and_names_the_field),
        cmocka_unit_test(a_request_can_be_canceled_in_every_state),
        cmocka_unit_test(an_answer_goes_on_over_a_new_link),
        cmocka_unit_test(an_answer_that_ended_without_a_link_is_kept_for_the_new_one),
        cmocka_unit_test(a_request_whose_router_stays_away_is_canceled),
        cmocka_unit_test(a_wrong_link_is_closed_and_costs_nothing),
        cmocka_unit_test(a_message_over_the_limit_breaks_the_link),
        cmocka_unit_test(a_flood_of_wrong_messages_is_answered_within_bounds),
        cmocka_unit_test(a_stream_on_which_nothing_is_said_ends),
        cmocka_unit_test(there_are_only_so_many_streams_of_each_kind),
        cmocka_unit_test(the_tokenizer_can_be_fetched),
        cmocka_unit_test(its_own_port_answers_and_notices_who_leaves),
        cmocka_unit_test(a_step_that_hangs_shows_in_health_until_it_goes_on),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("worker runtime", tests, site_warm_up, NULL);
}
