/* test_service_peers.c: peers that break the rules or play a role that is not theirs, over real calls. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/scheduler/cluster.h"

/* --- peers that break the rules ------------------------------------------------------------ */

static void a_message_before_the_registration_ends_the_stream(void **state)
{
    struct cluster cluster;
    struct worker worker;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_connect(&worker);
    worker_report(&worker, true);
    line_wait_end(&worker.line, &cluster);
    assert_int_equal(worker.line.status, TD_INVALID);
    assert_string_equal(worker.line.detail, "the first message must be a registration");
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_message_of_another_kind_ends_the_stream(void **state)
{
    struct cluster cluster;
    struct worker worker;
    Td__TextChunk chunk = TD__TEXT_CHUNK__INIT;

    (void)state;
    chunk.total_bytes = 5; /* a number where every AnnounceIn has a message */
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_connect(&worker);
    line_send(&worker.line, &cluster, &chunk.base);
    line_wait_end(&worker.line, &cluster);
    assert_int_equal(worker.line.status, TD_INVALID);
    assert_string_equal(worker.line.detail, "a message is no AnnounceIn");
    assert_int_equal(sched_service_stream_count(cluster.service), 0);
    worker_close(&worker);
    cluster_fini(&cluster);
}

#define BOMB_NAMES 1500000 /* empty ones: 3 MB on the wire, 100 MB when read carelessly */

static void a_message_that_grows_when_it_is_read_is_refused(void **state)
{
    static char nothing[1];
    struct cluster cluster;
    struct worker worker;
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    char **names = malloc(BOMB_NAMES * sizeof *names);

    (void)state;
    assert_non_null(names);
    for (size_t i = 0; i < BOMB_NAMES; i++)
        names[i] = nothing;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_connect(&worker);
    message.kind_case = TD__ANNOUNCE_IN__KIND_REGISTRATION;
    message.registration = world_registration(1, TD__ROLE__ROLE_DECODE, "worker-1:1");
    message.registration->models = names;
    message.registration->n_models = BOMB_NAMES;
    line_send(&worker.line, &cluster, &message.base);
    line_wait_end(&worker.line, &cluster);
    assert_int_equal(worker.line.status, TD_INVALID);
    assert_string_equal(worker.line.detail, "a message is no AnnounceIn");
    free(names);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void the_largest_message_that_is_allowed_is_read(void **state)
{
    struct cluster cluster;
    struct worker worker;
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    uint64_t *stored = malloc(2 * SCHED_EVENT_KEYS_MAX * sizeof *stored);
    uint64_t *removed = malloc(2 * SCHED_EVENT_KEYS_MAX * sizeof *removed);

    (void)state;
    assert_true(stored != NULL && removed != NULL);
    for (uint64_t i = 0; i < 2 * SCHED_EVENT_KEYS_MAX; i++) {
        stored[i] = i + 1;
        removed[i] = i + 10000000;
    }
    events.sequence = 1;
    events.stored = stored;
    events.removed = removed;
    events.n_stored = events.n_removed = 2 * SCHED_EVENT_KEYS_MAX;
    message.kind_case = TD__ANNOUNCE_IN__KIND_EVENTS;
    message.events = &events;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_join(&worker, 0, 0);
    line_send(&worker.line, &cluster, &message.base);
    cluster_wait(&cluster, (struct cluster_seen){.applied = 1});
    assert_non_null(worker.line.call);
    free(stored);
    free(removed);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_router_of_another_protocol_is_told_so(void **state)
{
    struct cluster cluster;
    struct router router;
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    router_open(&router, &cluster);
    request.router_epoch = 9; /* and no versions */
    router_watch_with(&router, &request);
    line_wait_end(&router.line, &cluster);
    assert_int_equal(router.line.status, TD_REFUSED);
    assert_non_null(strstr(router.line.detail, "versions"));
    router_close(&router);
    cluster_fini(&cluster);
}

static void a_fleet_call_that_never_asks_is_ended(void **state)
{
    struct cluster cluster;
    struct router router;

    (void)state;
    cluster_init(&cluster, CLUSTER_LOOPBACK, NULL);
    cluster_be_patient(&cluster.config);
    cluster.config.register_ms = 10;
    cluster_start(&cluster);
    router_open(&router, &cluster);
    router_watch_with(&router, NULL);
    line_wait_end(&router.line, &cluster);
    assert_int_equal(router.line.status, TD_TIMEOUT);
    assert_int_equal(sched_service_stream_count(cluster.service), 0);
    router_close(&router);
    cluster_fini(&cluster);
}

#define ROUTERS (2 * SCHED_WATCHERS_MAX)

static void fleet_calls_have_a_maximum(void **state)
{
    struct cluster cluster;
    struct router router;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    router_open(&router, &cluster);
    for (int i = 0; i <= ROUTERS; i++)
        router_watch_with(&router, NULL); /* the last one is the one that is looked at */
    line_wait_end(&router.line, &cluster);
    assert_int_equal(router.line.status, TD_LIMIT);
    assert_string_equal(router.line.detail, "too many routers are connected");
    router_close(&router);
    cluster_fini(&cluster);
}

static void a_place_that_makes_no_sense_is_answered_with_the_field(void **state)
{
    struct cluster cluster;
    struct router router;
    struct placed placed;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    router_open(&router, &cluster);
    place(&router.side, 0, 0, 0, &placed);
    assert_int_equal(placed.status, TD_OK);
    assert_int_equal(placed.reply->code, -TD_INVALID);
    assert_string_equal(placed.reply->message, "place: prompt_tokens is 0");
    placed_fini(&placed);
    router_close(&router);
    cluster_fini(&cluster);
}

/* --- roles --------------------------------------------------------------------------------- */

static char certs[64];

static int make_certs(void **state)
{
    struct td_error error = {0};

    (void)state;
    snprintf(certs, sizeof certs, "/tmp/tandem-test-sched-XXXXXX");
    if (mkdtemp(certs) == NULL || net_certs_mint(certs, NET_ROLES_ALL, false, &error) != TD_OK) {
        print_error("certificates: %s\n", error.text);
        return -1;
    }
    return 0;
}

static int remove_entry(const char *path, const struct stat *info, int flag, struct FTW *ftw)
{
    (void)info;
    (void)flag;
    (void)ftw;
    return remove(path);
}

static int remove_certs(void **state)
{
    (void)state;
    return nftw(certs, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
}

static void with_certificates_each_role_may_do_its_own(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;
    struct placed placed;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, certs);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_PREFILL);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&worker, 0, 1);
    router_wait(&router, 1, 1);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.status, TD_OK);
    assert_int_equal(placed.reply->worker_epoch, 1);
    placed_fini(&placed);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_router_cannot_announce(void **state)
{
    struct cluster cluster;
    struct worker impostor = {0};

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, certs);
    side_open(&impostor.side, &cluster, NET_ROLE_ROUTER);
    worker_connect(&impostor);
    line_wait_end(&impostor.line, &cluster);
    assert_int_equal(impostor.line.status, TD_REFUSED);
    assert_int_equal(sched_service_stream_count(cluster.service), 0);
    side_close(&impostor.side);
    cluster_fini(&cluster);
}

static void a_worker_cannot_ask_for_places_or_watch_the_fleet(void **state)
{
    struct cluster cluster;
    struct router impostor = {0};
    struct placed placed;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, certs);
    side_open(&impostor.side, &cluster, NET_ROLE_DECODE);
    place(&impostor.side, 80, 0, 5, &placed);
    assert_int_equal(placed.status, TD_REFUSED);
    placed_fini(&placed);
    router_watch_with(&impostor, NULL);
    line_wait_end(&impostor.line, &cluster);
    assert_int_equal(impostor.line.status, TD_REFUSED);
    router_close(&impostor);
    cluster_fini(&cluster);
}

static void a_worker_cannot_claim_the_other_role(void **state)
{
    struct cluster cluster;
    struct worker worker;

    (void)state;
    cluster_open(&cluster, CLUSTER_LOOPBACK, certs);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_PREFILL);
    worker.role = TD__ROLE__ROLE_DECODE;
    worker_connect(&worker);
    worker_register(&worker);
    line_wait_end(&worker.line, &cluster);
    assert_int_equal(worker.line.status, TD_REFUSED);
    assert_non_null(strstr(worker.line.detail, "is not the certificate's role"));
    worker_close(&worker);
    cluster_fini(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_message_before_the_registration_ends_the_stream),
        cmocka_unit_test(a_message_of_another_kind_ends_the_stream),
        cmocka_unit_test(a_message_that_grows_when_it_is_read_is_refused),
        cmocka_unit_test(the_largest_message_that_is_allowed_is_read),
        cmocka_unit_test(a_router_of_another_protocol_is_told_so),
        cmocka_unit_test(a_fleet_call_that_never_asks_is_ended),
        cmocka_unit_test(fleet_calls_have_a_maximum),
        cmocka_unit_test(a_place_that_makes_no_sense_is_answered_with_the_field),
        cmocka_unit_test(with_certificates_each_role_may_do_its_own),
        cmocka_unit_test(a_router_cannot_announce),
        cmocka_unit_test(a_worker_cannot_ask_for_places_or_watch_the_fleet),
        cmocka_unit_test(a_worker_cannot_claim_the_other_role),
    };

    return cmocka_run_group_tests(tests, make_certs, remove_certs);
}
