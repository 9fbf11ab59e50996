/*
 * test_runtime_import.c: a decode worker and a prefill worker: the KV really crosses, and whatever the
 * prefill worker does instead, the tokens are the same.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/worker/runtime_site.h"

#define PROMPT 300
#define OUTPUT 40

/* Both workers, a router at decode, and the answer that must come out, made by prefill alone. */
struct both {
    struct site site;
    struct router router;
    uint32_t expected[OUTPUT];
};

static const struct start question = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};

static void both_open(struct both *both, const char *const *prefill_flags,
                      const char *const *decode_flags)
{
    struct router other;

    site_open(&both->site);
    station_open(&both->site, &both->site.prefill, prefill_flags);
    station_open(&both->site, &both->site.decode, decode_flags);
    router_open(&other, &both->site.prefill);
    memcpy(both->expected, router_ask(&other, &question)->tokens, sizeof both->expected);
    router_close(&other);
    router_open(&both->router, &both->site.decode);
}

static void both_close(struct both *both)
{
    router_close(&both->router);
    station_end(&both->site.decode);
    station_end(&both->site.prefill);
    site_close(&both->site);
}

static void expect_answer(const struct both *both, const struct heard *heard)
{
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_int_equal(heard->count, OUTPUT);
    assert_false(heard->gap);
    assert_memory_equal(heard->tokens, both->expected, sizeof both->expected);
}

/* ---- it works ---- */

static void kv_crosses_and_the_tokens_are_the_same(void **state)
{
    struct both both;
    struct start start = question;
    struct heard *heard;

    (void)state;
    both_open(&both, NULL, NULL);
    start.prefill[0] = both.site.prefill.options.listen;
    heard = router_ask(&both.router, &start);
    expect_answer(&both, heard);
    assert_string_equal(heard->transport, "map");
    assert_string_equal(heard->fallback, "");
    assert_int_equal(heard->remote_blocks, (PROMPT + 15) / 16);
    assert_int_equal(station_counters(&both.site.decode)->imports_landed, 1);
    site_until(&both.site, station_is_at_rest, &both.site.prefill);
    /* decode lets go as soon as all has landed: prefill may hear of that before it hears that all was sent */
    assert_int_equal(station_counters(&both.site.prefill)->exports_sent +
                         station_counters(&both.site.prefill)->exports_stopped,
                     1);

    heard = router_ask(&both.router, &start); /* its blocks are cached here now, all but the tail */
    expect_answer(&both, heard);
    both_close(&both);
}

static void many_imports_at_a_time(void **state)
{
    struct both both;
    struct heard *heard[20];
    struct heard *alone;

    (void)state;
    both_open(&both, NULL, NULL);
    for (uint32_t i = 0; i < 20; i++)
        heard[i] = router_start(&both.router,
                                &(struct start){.prompt_tokens = 50 + i * 7,
                                                .prompt_seed = i + 1,
                                                .max_new_tokens = 20,
                                                .prefill = {both.site.prefill.options.listen}});
    for (uint32_t i = 0; i < 20; i++) {
        site_until(&both.site, heard_end, heard[i]);
        assert_int_equal(heard[i]->finish, TD__FINISH__FINISH_LENGTH);
    }
    for (uint32_t i = 0; i < 20; i++) {
        alone = router_ask(&both.router, &(struct start){.prompt_tokens = 50 + i * 7,
                                                         .prompt_seed = i + 1,
                                                         .max_new_tokens = 20});
        assert_memory_equal(alone->tokens, heard[i]->tokens, 20 * sizeof(uint32_t));
    }
    assert_int_equal(station_counters(&both.site.decode)->imports_landed, 20);
    both_close(&both);
}

/* ---- candidates that are of no use ---- */

static void the_next_candidate_is_asked_when_one_cannot_be_reached(void **state)
{
    struct both both;
    struct start start = question;

    (void)state;
    both_open(&both, NULL, NULL);
    start.prefill[0] = "unix:/nowhere/at/all";
    start.prefill[1] = both.site.prefill.options.listen;
    expect_answer(&both, router_ask(&both.router, &start));
    assert_int_equal(station_counters(&both.site.decode)->imports_retried, 1);
    assert_int_equal(station_counters(&both.site.decode)->imports_landed, 1);
    both_close(&both);
}

static void no_candidate_can_be_reached(void **state)
{
    struct both both;
    struct start start = question;
    struct heard *heard;

    (void)state;
    both_open(&both, NULL, NULL);
    start.prefill[0] = "unix:/nowhere/at/all";
    start.prefill[1] = "no address";
    heard = router_ask(&both.router, &start);
    expect_answer(&both, heard);
    assert_string_not_equal(heard->fallback, "");
    both_close(&both);
}

static const char *const hasty[] = {"--pair-time=300ms",  "--ask-time=100ms",
                                    "--stall-time=150ms", "--heartbeat-time=50ms",
                                    "--lease-time=100ms", NULL};

static void whatever_a_prefill_worker_does_the_answer_is_the_same(void **state)
{
    (void)state;
    for (int manner = HOLDER_SILENT_PAIR; manner <= HOLDER_TALKS_NONSENSE; manner++) {
        struct both both;
        struct holder holder;
        struct start start = question;
        struct heard *heard;

        both_open(&both, NULL, hasty);
        holder_open(&holder, &both.site, (enum holder_manner)manner);
        start.prefill[0] = holder.address;
        heard = router_ask(&both.router, &start);
        expect_answer(&both, heard);
        assert_string_not_equal(heard->fallback, "");
        assert_int_equal(station_counters(&both.site.decode)->imports_fallback, 1);
        site_until(&both.site, station_is_at_rest, &both.site.decode);
        holder_close(&holder);
        both_close(&both);
    }
}

/* ---- cancels ---- */

struct moment {
    struct both *both;
    struct holder *holder;
    enum holder_manner manner;
};

/* The import has come as far as the holder lets it. */
static bool moment_has_come(void *ctx)
{
    const struct moment *moment = ctx;

    switch (moment->manner) {
    case HOLDER_SILENT_PAIR: return moment->holder->pairs > 0;
    case HOLDER_SILENT_ASK: return moment->holder->asks > 0;
    default: return moment->holder->renews > 1; /* so it was accepted, and is renewed */
    }
}

static void an_import_can_be_canceled_in_every_state(void **state)
{
    static const enum holder_manner manners[] = {HOLDER_SILENT_PAIR, HOLDER_SILENT_ASK,
                                                 HOLDER_SILENT_LATER};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct both both;
        struct holder holder;
        struct moment moment = {&both, &holder, manners[i]};
        struct start start = question;
        struct heard *heard;

        both_open(&both, NULL, NULL);
        holder_open(&holder, &both.site, manners[i]);
        start.prefill[0] = holder.address;
        heard = router_start(&both.router, &start);
        site_until(&both.site, moment_has_come, &moment);
        router_cancel(&both.router, heard);
        site_until(&both.site, heard_end, heard);
        assert_int_equal(heard->finish, TD__FINISH__FINISH_CANCELED);
        assert_int_equal(heard->count, 0);
        holder_close(&holder);
        both_close(&both);
    }
}

static bool export_lives(void *ctx)
{
    return station_gauges(ctx).exports > 0;
}

static void an_export_ends_when_its_asker_cancels(void **state)
{
    struct both both;
    struct heard *heard;

    (void)state;
    both_open(&both, NULL, NULL);
    for (uint32_t i = 0; i < 10; i++) {
        engines_hold();
        heard = router_start(&both.router,
                             &(struct start){.prompt_tokens = 480,
                                             .prompt_seed = 50 + i,
                                             .max_new_tokens = 5,
                                             .prefill = {both.site.prefill.options.listen}});
        site_until(&both.site, export_lives, &both.site.prefill);
        engines_go_on();
        site_turns(&both.site, (int)(i % 5));
        router_cancel(&both.router, heard);
        site_until(&both.site, heard_end, heard);
    }
    both_close(&both);
}

/* ---- a transfer thread that is far behind ---- */

static void nobody_is_asked_before_the_transfer_is_expected(void **state)
{
    struct both both;
    struct start start = question;
    struct heard *heard;

    (void)state;
    both_open(&both, NULL, NULL);
    start.prefill[0] = both.site.prefill.options.listen;
    expect_answer(&both, router_ask(&both.router, &start)); /* so that they are paired */
    site_until(&both.site, station_is_at_rest, &both.site.prefill);
    start.prompt_seed = 9;
    ring_is_full = true;
    heard = router_start(&both.router, &start);
    while (station_counters(&both.site.decode)->asks_lost == 0)
        site_turns(&both.site, 1);
    assert_int_equal(station_counters(&both.site.prefill)->exports_started, 1);
    ring_is_full = false;
    net_wake_send(both.site.decode.runtime->wake); /* as the thread does when there is room */
    site_until(&both.site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    both_close(&both);
}

/* ---- pairing ---- */

#define TEST_EPOCH 4711

static void break_version(Td__PairRequest *request)
{
    request->versions->min = 99;
}

static void break_epoch(Td__PairRequest *request)
{
    request->epoch = 0;
}

static void break_peer_epoch(Td__PairRequest *request)
{
    request->peer_epoch = 1;
}

static void break_weights(Td__PairRequest *request)
{
    request->content->weights_hi++;
}

static void replace(char **text)
{
    free(*text);
    *text = strdup("another");
}

static void break_rope(Td__PairRequest *request)
{
    replace(&request->content->rope);
}

static void break_kv_dtype(Td__PairRequest *request)
{
    replace(&request->content->kv_dtype);
}

static void break_numerics(Td__PairRequest *request)
{
    replace(&request->content->numerics);
}

static void break_block_tokens(Td__PairRequest *request)
{
    request->geometry->block_tokens *= 2;
}

static void break_layers(Td__PairRequest *request)
{
    request->geometry->layers++;
}

static void break_block_bytes(Td__PairRequest *request)
{
    request->geometry->block_bytes++;
}

static void break_hidden(Td__PairRequest *request)
{
    request->geometry->hidden++;
}

static void break_transport(Td__PairRequest *request)
{
    replace(&request->transports[0]->name);
}

static void break_host(Td__PairRequest *request)
{
    replace(&request->transports[0]->host);
}

static void a_wrong_handshake_is_refused_and_names_the_field(void **state)
{
    static const struct {
        void (*spoil)(Td__PairRequest *request);
        const char *field;
    } wrong[] = {{break_version, "version"},   {break_epoch, "epoch"},
                 {break_peer_epoch, "epoch"},  {break_weights, "weights"},
                 {break_rope, "rope"},         {break_kv_dtype, "kv_dtype"},
                 {break_numerics, "numerics"}, {break_block_tokens, "block_tokens"},
                 {break_layers, "layers"},     {break_block_bytes, "block_bytes"},
                 {break_hidden, "hidden"},     {break_transport, "transport"},
                 {break_host, "transport"}};
    struct both both;

    (void)state;
    both_open(&both, NULL, NULL);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        Td__PairRequest *request = pair_request_new(&both.site.prefill, TEST_EPOCH);
        struct pair_answer answer;

        wrong[i].spoil(request);
        pair_ask(&both.site, both.site.prefill.options.listen, request, &answer);
        assert_int_equal(answer.status, TD_OK);
        assert_true(answer.reply->refused);
        assert_non_null(strstr(answer.reply->reason, wrong[i].field));
        pair_answer_free(&answer);
        pair_request_free(request);
    }
    assert_int_equal(station_counters(&both.site.prefill)->pairs_refused, 13);
    both_close(&both);
}

static bool peer_is_gone(void *ctx)
{
    const struct station *station = ctx;

    return peer_find(station->runtime->core, TEST_EPOCH) == NULL;
}

static void pair_with(struct both *both, uint64_t epoch)
{
    Td__PairRequest *request = pair_request_new(&both->site.prefill, epoch);
    struct pair_answer answer;

    pair_ask(&both->site, both->site.prefill.options.listen, request, &answer);
    assert_int_equal(answer.status, TD_OK);
    assert_false(answer.reply->refused);
    pair_answer_free(&answer);
    pair_request_free(request);
}

static void peers_that_cannot_be_reached_are_forgotten(void **state)
{
    static const char *const flags[] = {"--pairs-max=4", NULL};
    struct both both;

    (void)state;
    both_open(&both, flags, NULL);
    for (int i = 0; i < 20; i++) {
        pair_with(&both, TEST_EPOCH);
        site_until(&both.site, peer_is_gone, &both.site.prefill);
    }
    both_close(&both);
}

static void a_flood_of_handshakes_is_bounded(void **state)
{
    static const char *const flags[] = {"--pairs-max=4", NULL};
    struct both both;
    int listener = mute_listener();
    Td__PairRequest *request;
    struct pair_answer answer;

    (void)state;
    both_open(&both, flags, NULL);
    for (uint64_t i = 0; i < 4; i++)
        for (int again = 0; again < 5; again++)
            pair_with(&both, TEST_EPOCH + i);
    request = pair_request_new(&both.site.prefill, TEST_EPOCH + 4);
    pair_ask(&both.site, both.site.prefill.options.listen, request, &answer);
    assert_true(answer.reply->refused);
    assert_non_null(strstr(answer.reply->reason, "peers"));
    pair_answer_free(&answer);
    pair_request_free(request);
    both_close(&both);
    close(listener);
}

/* ---- asks ---- */

static void break_holder(Td__Ask *ask)
{
    ask->holder_epoch++;
}

static void break_asker(Td__Ask *ask)
{
    ask->asker_epoch++;
}

static void break_content(Td__Ask *ask)
{
    ask->content_id_hi++;
}

static void break_transfer(Td__Ask *ask)
{
    ask->transfer_hi = ask->transfer_lo = 0;
}

static void break_key(Td__Ask *ask)
{
    ask->mac_key.len--;
}

static void break_tokens(Td__Ask *ask)
{
    ask->n_tokens = 0;
}

static void break_token(Td__Ask *ask)
{
    ask->tokens[7] = UINT32_MAX;
}

static void break_skip(Td__Ask *ask)
{
    ask->skip_blocks = UINT32_MAX;
}

static void expect_refusal(struct both *both, void (*spoil)(Td__Ask *ask), const char *field)
{
    struct asker asker;

    asker_open(&asker, &both->site.prefill);
    asker_ask(&asker, &both->site.prefill, TEST_EPOCH, 100, spoil);
    site_until(&both->site, stream_is_closed, &asker.stream);
    assert_int_equal(asker.stream.status, TD_OK);
    assert_int_equal(asker.refused, 1);
    assert_non_null(strstr(asker.message, field));
    stream_close(&asker.stream);
}

static void a_wrong_ask_is_refused_and_names_the_field(void **state)
{
    struct both both;
    struct asker asker;
    int listener = mute_listener();

    (void)state;
    both_open(&both, NULL, NULL);
    pair_with(&both, TEST_EPOCH);
    expect_refusal(&both, break_holder, "holder_epoch");
    expect_refusal(&both, break_asker, "asker_epoch");
    expect_refusal(&both, break_content, "content_id");
    expect_refusal(&both, break_transfer, "transfer");
    expect_refusal(&both, break_key, "mac_key");
    expect_refusal(&both, break_tokens, "tokens");
    expect_refusal(&both, break_token, "vocabulary");
    expect_refusal(&both, break_skip, "skip_blocks");

    asker_open(&asker, &both.site.prefill);
    asker_renew(&asker); /* before an ask */
    site_until(&both.site, stream_is_closed, &asker.stream);
    assert_int_equal(asker.refused, 1);
    stream_close(&asker.stream);

    asker_open(&asker, &both.site.prefill);
    stream_send_nonsense(&asker.stream);
    site_until(&both.site, stream_is_closed, &asker.stream);
    assert_int_equal(asker.stream.status, TD_INVALID);
    stream_close(&asker.stream);
    both_close(&both);
    close(listener);
}

/* An ask that is accepted and cannot be sent, because the asker's transport is mute. */
static void accepted_ask(struct both *both, struct asker *asker, void (*spoil)(Td__Ask *ask))
{
    pair_with(both, TEST_EPOCH);
    asker_open(asker, &both->site.prefill);
    asker_ask(asker, &both->site.prefill, TEST_EPOCH, 100, spoil);
    site_until(&both->site, asker_is_accepted, asker);
}

static void short_lease(Td__Ask *ask)
{
    ask->lease_ms = 1; /* granted is the least there is */
}

static void a_lease_that_is_not_renewed_runs_out(void **state)
{
    struct both both;
    struct asker asker;
    int listener = mute_listener();

    (void)state;
    both_open(&both, NULL, NULL);
    accepted_ask(&both, &asker, short_lease);
    site_until(&both.site, stream_is_closed, &asker.stream);
    assert_int_equal(asker.refused, 1);
    assert_int_equal(asker.code, (uint32_t)-TD_TIMEOUT);
    assert_int_equal(station_counters(&both.site.prefill)->leases_expired, 1);
    stream_close(&asker.stream);
    both_close(&both);
    close(listener);
}

static const struct worker_export *the_export(const struct station *station)
{
    size_t cursor = 0;

    return td_map_next(&station->runtime->core->transfers, &cursor);
}

struct lease {
    struct station *station;
    uint64_t at_ns;
};

static bool lease_has_moved(void *ctx)
{
    const struct lease *lease = ctx;

    return the_export(lease->station)->timer.at_ns > lease->at_ns;
}

static void a_renewed_lease_starts_anew_and_a_closed_ask_ends(void **state)
{
    static void (*const leave[])(struct stream * stream) = {stream_close, stream_half_close};
    struct both both;
    struct asker asker;
    int listener = mute_listener();

    (void)state;
    both_open(&both, NULL, NULL);
    for (size_t i = 0; i < 2; i++) {
        struct lease lease = {.station = &both.site.prefill};

        accepted_ask(&both, &asker, NULL);
        lease.at_ns = the_export(&both.site.prefill)->timer.at_ns;
        asker_renew(&asker);
        site_until(&both.site, lease_has_moved, &lease);
        leave[i](&asker.stream);
        site_until(&both.site, station_is_at_rest, &both.site.prefill);
        if (asker.stream.channel != NULL)
            stream_close(&asker.stream);
    }
    assert_int_equal(station_counters(&both.site.prefill)->exports_stopped, 2);
    both_close(&both);
    close(listener);
}

static void a_worker_that_lends_nothing_says_so(void **state)
{
    Td__PairRequest *request;
    struct pair_answer answer;
    struct both both;

    (void)state;
    both_open(&both, NULL, NULL);
    request = pair_request_new(&both.site.decode, TEST_EPOCH);
    pair_ask(&both.site, both.site.decode.options.listen, request, &answer);
    assert_true(answer.reply->refused);
    pair_answer_free(&answer);
    pair_request_free(request);
    both_close(&both);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_crosses_and_the_tokens_are_the_same),
        cmocka_unit_test(many_imports_at_a_time),
        cmocka_unit_test(the_next_candidate_is_asked_when_one_cannot_be_reached),
        cmocka_unit_test(no_candidate_can_be_reached),
        cmocka_unit_test(whatever_a_prefill_worker_does_the_answer_is_the_same),
        cmocka_unit_test(an_import_can_be_canceled_in_every_state),
        cmocka_unit_test(an_export_ends_when_its_asker_cancels),
        cmocka_unit_test(nobody_is_asked_before_the_transfer_is_expected),
        cmocka_unit_test(a_wrong_handshake_is_refused_and_names_the_field),
        cmocka_unit_test(peers_that_cannot_be_reached_are_forgotten),
        cmocka_unit_test(a_flood_of_handshakes_is_bounded),
        cmocka_unit_test(a_wrong_ask_is_refused_and_names_the_field),
        cmocka_unit_test(a_lease_that_is_not_renewed_runs_out),
        cmocka_unit_test(a_renewed_lease_starts_anew_and_a_closed_ask_ends),
        cmocka_unit_test(a_worker_that_lends_nothing_says_so),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests_name("worker runtime: imports", tests, site_warm_up, NULL);
}
