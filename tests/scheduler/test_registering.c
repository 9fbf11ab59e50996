/* test_registering.c: the scheduler core takes workers in, or says what is wrong with them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "proto/version.h"
#include "tests/scheduler/world.h"

/* --- registering --- */

typedef void (*spoil_fn)(Td__Registration *registration);

static char long_text[SCHED_TEXT_BYTES_MAX + 2];
static char *many_models[SCHED_MODELS_MAX + 1];

static void no_versions(Td__Registration *r)
{
    r->versions = NULL;
}
static void future_version(Td__Registration *r)
{
    r->versions->min = r->versions->max = TD_PROTOCOL_MAX + 1;
}
static void no_role(Td__Registration *r)
{
    r->role = TD__ROLE__ROLE_UNKNOWN;
}
static void router_role(Td__Registration *r)
{
    r->role = TD__ROLE__ROLE_ROUTER;
}
static void absurd_role(Td__Registration *r)
{
    r->role = (Td__Role)4711;
}
static void no_epoch(Td__Registration *r)
{
    r->epoch = 0;
}
static void no_target(Td__Registration *r)
{
    r->rpc_target[0] = '\0';
}
static void long_target(Td__Registration *r)
{
    r->rpc_target = long_text;
}
static void target_with_newline(Td__Registration *r)
{
    r->rpc_target[2] = '\n';
}
static void long_http(Td__Registration *r)
{
    r->http_address = long_text;
}
static void no_models(Td__Registration *r)
{
    r->n_models = 0;
}
static void too_many_models(Td__Registration *r)
{
    for (size_t i = 0; i <= SCHED_MODELS_MAX; i++)
        many_models[i] = r->models[0];
    r->models = many_models;
    r->n_models = SCHED_MODELS_MAX + 1;
}
static void empty_model(Td__Registration *r)
{
    static char empty[1];

    many_models[0] = empty;
    r->models = many_models;
}
static void no_content(Td__Registration *r)
{
    r->content = NULL;
}
static void zero_content(Td__Registration *r)
{
    r->content->content_id_hi = r->content->content_id_lo = 0;
}
static void long_numerics(Td__Registration *r)
{
    r->content->numerics = long_text;
}
static void no_geometry(Td__Registration *r)
{
    r->geometry = NULL;
}
static void zero_block_tokens(Td__Registration *r)
{
    r->geometry->block_tokens = 0;
}
static void large_block_tokens(Td__Registration *r)
{
    r->geometry->block_tokens = 1025;
}
static void zero_blocks(Td__Registration *r)
{
    r->block_count = 0;
}
static void absurd_blocks(Td__Registration *r)
{
    r->block_count = (UINT32_C(1) << 28) + 1;
}
static void zero_context(Td__Registration *r)
{
    r->max_context = 0;
}
static void zero_sequences(Td__Registration *r)
{
    r->max_sequences = 0;
}
static void absurd_waiting(Td__Registration *r)
{
    r->max_waiting = UINT32_MAX;
}

static void a_bad_registration_is_refused_by_the_name_of_the_field(void **state)
{
    const struct {
        spoil_fn spoil;
        td_status_t status;
        const char *word;
    } cases[] = {
        {no_versions, TD_REFUSED, "versions"},
        {future_version, TD_REFUSED, "versions"},
        {no_role, TD_INVALID, "role"},
        {router_role, TD_INVALID, "role"},
        {absurd_role, TD_INVALID, "role 4711"},
        {no_epoch, TD_INVALID, "epoch"},
        {no_target, TD_INVALID, "rpc_target"},
        {long_target, TD_INVALID, "rpc_target"},
        {target_with_newline, TD_INVALID, "rpc_target"},
        {long_http, TD_INVALID, "http_address"},
        {no_models, TD_INVALID, "0 models"},
        {too_many_models, TD_INVALID, "17 models"},
        {empty_model, TD_INVALID, "models[0]"},
        {no_content, TD_INVALID, "content.content_id"},
        {zero_content, TD_INVALID, "content.content_id"},
        {long_numerics, TD_INVALID, "content.numerics"},
        {no_geometry, TD_INVALID, "geometry"},
        {zero_block_tokens, TD_INVALID, "geometry.block_tokens 0"},
        {large_block_tokens, TD_INVALID, "geometry.block_tokens 1025"},
        {zero_blocks, TD_INVALID, "block_count 0"},
        {absurd_blocks, TD_INVALID, "block_count"},
        {zero_context, TD_INVALID, "max_context 0"},
        {zero_sequences, TD_INVALID, "max_sequences 0"},
        {absurd_waiting, TD_INVALID, "max_waiting"},
    };

    memset(long_text, 'x', sizeof long_text - 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        WORLD;
        Td__Registration *registration = world_registration(9, DECODE, "10.0.0.1:1");
        struct peer peer;

        cases[i].spoil(registration);
        peer_open(&world, &peer);
        peer_register(&world, &peer, registration);
        assert_null(peer.link);
        assert_int_equal(peer.status, cases[i].status);
        if (strstr(peer.reason, cases[i].word) == NULL)
            fail_msg("case %zu: %s", i, peer.reason);
        assert_int_equal(sched_fleet_count(sched_core_fleet(world.core)), 0);
        assert_int_equal(sched_core_stats(world.core).violations, 1);
        END;
    }
}

static void fields_at_their_limits_are_taken(void **state)
{
    WORLD;
    Td__Registration *registration = world_registration(9, DECODE, "10.0.0.1:1");
    struct peer peer;

    memset(long_text, 'x', sizeof long_text - 1);
    too_many_models(registration);
    registration->n_models = SCHED_MODELS_MAX;
    registration->rpc_target = long_text + 1;
    registration->http_address = long_text + 1;
    registration->geometry->block_tokens = 1024;
    registration->block_count = UINT32_C(1) << 28;
    registration->max_waiting = 0;
    peer_open(&world, &peer);
    peer_register(&world, &peer, registration);
    assert_non_null(peer.link);
    END;
}

static void the_role_must_be_the_certificates(void **state)
{
    WORLD;
    struct peer peer = {0};

    assert_int_equal(sched_link_open(world.core, &peer, PREFILL, world.now_ns, &peer.link), TD_OK);
    peer_register(&world, &peer, world_registration(9, DECODE, "10.0.0.1:1"));
    assert_null(peer.link);
    assert_int_equal(peer.status, TD_REFUSED);
    assert_int_equal(sched_link_open(world.core, &peer, DECODE, world.now_ns, &peer.link), TD_OK);
    peer_register(&world, &peer, world_registration(9, DECODE, "10.0.0.1:1"));
    assert_non_null(peer.link);
    END;
}

/* What a worker's registration makes the scheduler log. */
static void register_and_read_log(struct world *world, Td__Registration *registration, char *log,
                                  size_t log_bytes)
{
    int real_stderr = dup(STDERR_FILENO);
    FILE *captured = tmpfile();
    struct peer *peer = calloc(1, sizeof *peer);

    assert_true(real_stderr >= 0 && captured != NULL && peer != NULL);
    assert_true(dup2(fileno(captured), STDERR_FILENO) >= 0);
    td_log_set_level(TD_LOG_WARN);
    peer_open(world, peer);
    peer_register(world, peer, registration);
    td_log_set_level(TD_LOG_ERROR);
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    assert_non_null(peer->link);
    peer_close(world, peer);
    free(peer);
    rewind(captured);
    log[fread(log, 1, log_bytes - 1, captured)] = '\0';
    fclose(captured);
}

static void workers_that_cannot_exchange_kv_are_told_of_in_one_line(void **state)
{
    static struct peer peers[20];
    Td__Registration *registration;
    char log[4096];
    char target[16];
    WORLD;

    for (uint64_t i = 0; i < 20; i++) {
        snprintf(target, sizeof target, "decode-%u:1", (unsigned)i);
        peer_join(&world, &peers[i], 1 + i, DECODE, target);
    }
    registration = world_registration(100, PREFILL, "like:1");
    register_and_read_log(&world, registration, log, sizeof log);
    assert_string_equal(log, "");
    registration = world_registration(101, PREFILL, "unlike:1");
    registration->content->content_id_lo++;
    registration->content->numerics = (char *)(uintptr_t) "another";
    register_and_read_log(&world, registration, log, sizeof log);
    assert_non_null(strstr(log, "target unlike:1 numerics another others 20 first decode-"));
    assert_ptr_equal(strchr(log, '\n'), log + strlen(log) - 1);
    END;
}

static void nothing_comes_before_the_registration(void **state)
{
    for (int i = 0; i < 4; i++) {
        WORLD;
        struct peer peer;

        peer_open(&world, &peer);
        switch (i) {
        case 0: peer_ready(&world, &peer, true); break;
        case 1: peer_events(&world, &peer, 1, 1); break;
        case 2: peer_snapshot(&world, &peer, 1, 1, 1); break;
        default: peer_drain(&world, &peer);
        }
        assert_null(peer.link);
        assert_string_equal(peer.reason, "the first message must be a registration");
        END;
    }
}

static void a_second_registration_ends_the_stream(void **state)
{
    WORLD;
    struct peer peer;

    peer_join(&world, &peer, 9, DECODE, "10.0.0.1:1");
    peer_register(&world, &peer, world_registration(9, DECODE, "10.0.0.1:1"));
    assert_null(peer.link);
    assert_int_equal(world_state(&world, 9), SCHED_WORKER_LOST);
    END;
}

static void a_message_of_a_newer_protocol_is_skipped(void **state)
{
    WORLD;
    struct peer peer;
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;

    peer_open(&world, &peer);
    sched_link_message(peer.link, &message, world.now_ns);
    assert_non_null(peer.link);
    assert_int_equal(sched_core_stats(world.core).unknown_kinds, 1);
    END;
}

static void a_stream_that_never_registers_is_closed(void **state)
{
    WORLD;
    struct peer peer;

    peer_open(&world, &peer);
    world_pass(&world, MS(world.config.register_ms) - 1);
    assert_non_null(peer.link);
    world_pass(&world, 1);
    assert_null(peer.link);
    assert_int_equal(peer.status, TD_TIMEOUT);
    END;
}

static void streams_have_a_maximum(void **state)
{
    static struct peer peers[SCHED_LINKS_MAX];
    struct sched_link *link;
    WORLD;

    for (size_t i = 0; i < SCHED_LINKS_MAX; i++)
        peer_open(&world, &peers[i]);
    assert_int_equal(
        sched_link_open(world.core, &peers[0], TD__ROLE__ROLE_UNKNOWN, world.now_ns, &link),
        TD_LIMIT);
    peer_close(&world, &peers[5]);
    peer_open(&world, &peers[5]);
    END;
}

static void malformed_events_end_the_stream_and_the_worker_may_come_back(void **state)
{
    WORLD;
    struct peer peer;

    peer_join(&world, &peer, 9, DECODE, "10.0.0.1:1");
    peer_events(&world, &peer, 0, 1);
    assert_null(peer.link);
    assert_string_equal(peer.reason, "block events: sequence is 0");
    assert_int_equal(world_state(&world, 9), SCHED_WORKER_LOST);
    peer_open(&world, &peer);
    peer_register(&world, &peer, world_registration(9, DECODE, "10.0.0.1:1"));
    peer_ready(&world, &peer, true);
    assert_int_equal(world_state(&world, 9), SCHED_WORKER_READY);
    END;
}

static void a_second_stream_of_one_process_takes_over(void **state)
{
    WORLD;
    struct peer older;
    struct peer newer;

    peer_join(&world, &older, 9, DECODE, "10.0.0.1:1");
    peer_open(&world, &newer);
    peer_register(&world, &newer, world_registration(9, DECODE, "10.0.0.1:1"));
    assert_null(older.link);
    assert_int_equal(older.status, TD_STALE);
    assert_int_equal(world_state(&world, 9), SCHED_WORKER_READY);
    peer_take(&newer);
    assert_int_equal(newer.welcomes, 1);
    assert_int_equal(newer.asks, 0); /* its cache is known, and nothing was lost */
    END;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_bad_registration_is_refused_by_the_name_of_the_field),
        cmocka_unit_test(fields_at_their_limits_are_taken),
        cmocka_unit_test(the_role_must_be_the_certificates),
        cmocka_unit_test(workers_that_cannot_exchange_kv_are_told_of_in_one_line),
        cmocka_unit_test(nothing_comes_before_the_registration),
        cmocka_unit_test(a_second_registration_ends_the_stream),
        cmocka_unit_test(a_message_of_a_newer_protocol_is_skipped),
        cmocka_unit_test(a_stream_that_never_registers_is_closed),
        cmocka_unit_test(streams_have_a_maximum),
        cmocka_unit_test(malformed_events_end_the_stream_and_the_worker_may_come_back),
        cmocka_unit_test(a_second_stream_of_one_process_takes_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
