/*
 * test_core_peers.c: what peers may say wrongly: handshakes, asks, and the answers of a candidate; what is told of progress;
 * closing by force. Each message gets a defined answer, and nothing stays behind.
 */
#include <string.h>

#include "tests/worker/core_scene.h"

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
        {"epoch", wrong_epoch},
        {"epoch", own_epoch},
        {"epoch", zero_epoch},
        {"version", no_versions},
        {"version", older_version},
        {"version", newer_version},
        {"content", no_content},
        {"weights", other_weights},
        {"rope", other_rope},
        {"content_id", other_id},
        {"geometry", no_geometry},
        {"layers", other_layers},
        {"hidden", other_hidden},
        {"transport", no_transport},
        {"transport", strange_transport},
        {"transport", long_address},
        {"here loop; map is for one host", strange_transport},
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
        scene_open_decode(NULL);
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

/* Who said --kv-transport hears that this is why, and not only that a peer was lost. */
static void a_pair_whose_only_transport_does_not_connect_names_the_flag(void **state)
{
    const char *fallback;

    (void)state;
    rig_start(&rig, &router, ID, TOKENS, 1);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
    rig_pair_reply(&rig, NULL);
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
    fallback = rig_request(&rig, ID)->result.kv.fallback;
    assert_non_null(strstr(fallback, "does not connect by loop"));
    assert_non_null(strstr(fallback, "--kv-transport leaves no other way"));
    assert_int_equal(rig.pair_calls, 1);
}

static void by_the_second(Td__PairReply *reply)
{
    reply->transport = reply->address->name = (char *)(uintptr_t)RIG_SECOND_TRANSPORT;
}

/* The import waits on. */
static void a_transport_that_does_not_connect_is_left_out_of_the_next_handshake(void **state)
{
    struct worker_import *import;

    (void)state;
    rig_second_transport(&rig);
    rig_start(&rig, &router, ID, TOKENS, 1);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    import = &rig_request(&rig, ID)->import;
    rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
    assert_int_equal(rig.pair_transport_count, 2);
    assert_int_equal(rig.pair_peer_epoch, 0);
    rig_pair_reply(&rig, NULL);
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
    assert_int_equal(rig.pair_calls, 2);
    assert_int_equal(rig.pair_peer_epoch, RIG_PEER);
    assert_int_equal(rig.pair_transport_count, 1);
    assert_string_equal(rig.pair_transport, RIG_SECOND_TRANSPORT);
    rig_pair_reply(&rig, by_the_second);
    rig_peer(&rig, KVT_PEER_UP, RIG_PEER);
    assert_int_equal(import->state, IMPORT_ASKING);
    assert_string_equal(import->transport, RIG_SECOND_TRANSPORT);
}

static struct worker_pair *the_pair(void)
{
    struct td_list *node = td_list_first(&rig.core->pairs);

    assert_non_null(node);
    return td_container_of(node, struct worker_pair, node);
}

/* What the transport still owes for the first connection does not touch the second one. */
static void a_transport_that_hangs_while_joining_is_left_out_too(void **state)
{
    (void)state;
    rig_second_transport(&rig);
    rig_start(&rig, &router, ID, TOKENS, 1);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
    rig_pair_reply(&rig, NULL);
    rig.now_ns = the_pair()->timer.at_ns;
    worker_core_tick(rig.core, rig.now_ns);
    assert_int_equal(rig_kvt_count(&rig, KVT_PEER_DROP), 1);
    assert_int_equal(rig.pair_calls, 2);
    assert_int_equal(rig.pair_peer_epoch, RIG_PEER);
    assert_int_equal(rig.pair_transport_count, 1);
    assert_string_equal(rig.pair_transport, RIG_SECOND_TRANSPORT);
    rig_pair_reply(&rig, by_the_second);
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
    assert_int_equal(the_pair()->state, PAIR_JOINING);
    rig_peer(&rig, KVT_PEER_UP, RIG_PEER);
    assert_int_equal(the_pair()->state, PAIR_UP);
    assert_string_equal(the_pair()->transport, RIG_SECOND_TRANSPORT);
}

/* The same, where it is said while the next handshake is under way. */
static void news_of_a_transport_that_was_left_out_are_ignored(void **state)
{
    (void)state;
    rig_second_transport(&rig);
    rig_start(&rig, &router, ID, TOKENS, 1);
    rig_tokens(&rig, &router, ID, 0, TOKENS);
    rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
    rig_pair_reply(&rig, NULL);
    rig.now_ns = the_pair()->timer.at_ns;
    worker_core_tick(rig.core, rig.now_ns);
    rig_peer(&rig, KVT_PEER_UP, RIG_PEER);
    rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
    assert_int_equal(the_pair()->state, PAIR_CALLING);
    rig_pair_reply(&rig, by_the_second);
    rig_peer(&rig, KVT_PEER_UP, RIG_PEER);
    assert_int_equal(the_pair()->state, PAIR_UP);
    assert_int_equal(rig.pair_calls, 2);
}

/* Neither the last one, nor one that we did not offer again: no handshake without end. */
static void a_pair_without_another_transport_fails(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        rig_close(&rig);
        scene_open_decode(NULL);
        rig_second_transport(&rig);
        rig_start(&rig, &router, ID, TOKENS, 1);
        rig_tokens(&rig, &router, ID, 0, TOKENS);
        rig_reserved(&rig, rig_request(&rig, ID)->sequence, 5, 0);
        rig_pair_reply(&rig, NULL);
        rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
        rig_pair_reply(&rig, i == 0 ? by_the_second : NULL);
        if (i == 0)
            rig_peer(&rig, KVT_PEER_LOST, RIG_PEER);
        assert_int_equal(rig.pair_calls, 2);
        assert_false(rig_request(&rig, ID)->import.active);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        PREFILL(a_bad_handshake_is_refused_by_the_name_of_the_field),
        PREFILL(a_handshake_made_twice_replaces_the_peer),
        PREFILL(a_bad_ask_is_refused),
        PREFILL(a_transfer_id_in_use_is_refused),
        PREFILL(more_asks_than_allowed_are_refused_for_now),
        PREFILL(a_lease_out_of_bounds_is_brought_into_them),
        PREFILL(a_hanging_engine_reports_no_progress),
        DECODE(a_bad_reply_to_a_handshake_means_prefill_here),
        DECODE(a_transport_that_does_not_connect_is_left_out_of_the_next_handshake),
        DECODE(a_transport_that_hangs_while_joining_is_left_out_too),
        DECODE(news_of_a_transport_that_was_left_out_are_ignored),
        DECODE(a_pair_without_another_transport_fails),
        DECODE(a_pair_whose_only_transport_does_not_connect_names_the_flag),
        DECODE(heartbeats_do_not_keep_a_dead_transfer_alive),
        DECODE(a_core_that_is_closed_in_the_middle_frees_everything),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
