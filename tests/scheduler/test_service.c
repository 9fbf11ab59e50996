/* test_service.c: a whole scheduler over real calls: streams, pictures, places, losses, restarts, roles. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/scheduler/cluster.h"

#define LOOPBACK "127.0.0.1:0"
#define A_MINUTE 60000

/* Numbers under which nothing happens by time alone; the tests that want time to matter say so. */
static void patient_config(struct sched_config *config)
{
    config->register_ms = A_MINUTE;
    config->stale_ms = A_MINUTE;
    config->grace_ms = A_MINUTE;
    config->answer_ms = A_MINUTE;
    config->guess_ms = A_MINUTE;
    config->fleet_delay_ms = 1;
    config->retry_ms = 1;
    config->warm_ms = 0;
}

static void open_at(struct cluster *cluster, const char *address, const char *certs)
{
    cluster_init(cluster, address, certs);
    patient_config(&cluster->config);
    cluster_start(cluster);
}

/* --- what the scheduler has seen ------------------------------------------------------------ */

struct expected {
    struct cluster *cluster;
    uint64_t loaded;
    uint64_t applied;
    uint64_t reports;
    uint32_t lost;
};

static bool has_seen(void *ctx)
{
    const struct expected *expected = ctx;
    const struct sched_core *core = sched_service_core(expected->cluster->service);
    struct sched_feed_stats feed = sched_core_feed_stats(core);

    return feed.loaded >= expected->loaded && feed.applied >= expected->applied &&
           sched_core_stats(core).reports >= expected->reports &&
           sched_core_worker_count(core, SCHED_WORKER_LOST) >= expected->lost;
}

static void wait_seen(struct cluster *cluster, struct expected expected)
{
    expected.cluster = cluster;
    cluster_until(cluster, has_seen, &expected);
}

static const Td__FleetWorker *pictured(const struct router *router, uint64_t epoch)
{
    for (size_t i = 0; i < router->picture->n_workers; i++)
        if (router->picture->workers[i]->epoch == epoch)
            return router->picture->workers[i];
    fail_msg("worker %llu is not in the picture", (unsigned long long)epoch);
    return NULL;
}

/* --- the good way -------------------------------------------------------------------------- */

static void serve_one_place(const char *address)
{
    struct cluster cluster;
    struct worker decode;
    struct worker prefill;
    struct router router;
    struct placed placed;

    open_at(&cluster, address, NULL);
    worker_open(&decode, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_open(&prefill, &cluster, 2, TD__ROLE__ROLE_PREFILL);
    router_open(&router, &cluster);
    worker_join(&decode, 0, 0);
    worker_join(&prefill, 0, 0);
    router_watch(&router);
    router_wait(&router, 2, 2);
    assert_int_equal(decode.welcomes, 1);
    assert_string_equal(pictured(&router, 1)->rpc_target, "worker-1:1");
    assert_int_equal(pictured(&router, 2)->role, TD__ROLE__ROLE_PREFILL);
    place(&router.side, 160, 0, 10, &placed);
    assert_int_equal(placed.status, TD_OK);
    assert_int_equal(placed.reply->worker_epoch, 1);
    assert_string_equal(placed.reply->worker_target, "worker-1:1");
    assert_int_equal(placed.reply->n_prefill, 1);
    assert_int_equal(placed.reply->prefill[0]->epoch, 2);
    assert_string_equal(placed.reply->prefill[0]->target, "worker-2:1");
    placed_fini(&placed);
    router_close(&router);
    worker_close(&prefill);
    worker_close(&decode);
    cluster_fini(&cluster);
}

static void workers_register_routers_see_them_and_get_a_place_over_tcp(void **state)
{
    (void)state;
    serve_one_place(LOOPBACK);
}

static void workers_register_routers_see_them_and_get_a_place_over_a_unix_socket(void **state)
{
    char address[64];

    (void)state;
    snprintf(address, sizeof address, "unix:/tmp/tandem-test-sched-%d.sock", (int)getpid());
    serve_one_place(address);
}

static void a_cached_prompt_goes_to_the_worker_that_has_it(void **state)
{
    struct cluster cluster;
    struct worker workers[2];
    struct router router;
    struct placed placed;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    router_open(&router, &cluster);
    for (uint64_t i = 0; i < 2; i++) {
        worker_open(&workers[i], &cluster, 1 + i, TD__ROLE__ROLE_DECODE);
        worker_join(&workers[i], 1000 * i, 2); /* keys 0 and 1, or 1000 and 1001 */
    }
    wait_seen(&cluster, (struct expected){.loaded = 2, .reports = 2});
    worker_events(&workers[1], 1002, 2);
    wait_seen(&cluster, (struct expected){.applied = 1});
    place(&router.side, 80, 1000, 5, &placed);
    assert_int_equal(placed.reply->worker_epoch, 2);
    assert_int_equal(placed.reply->matched_blocks, 4);
    assert_int_equal(placed.reply->n_prefill, 0); /* 16 tokens are left: they stay */
    placed_fini(&placed);
    place(&router.side, 48, 0, 3, &placed);
    assert_int_equal(placed.reply->worker_epoch, 1);
    assert_int_equal(placed.reply->matched_blocks, 2);
    placed_fini(&placed);
    router_close(&router);
    worker_close(&workers[0]);
    worker_close(&workers[1]);
    cluster_fini(&cluster);
}

static void lost_events_are_mended_by_a_snapshot(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;
    struct placed placed;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    worker_join(&worker, 0, 2);
    wait_seen(&cluster, (struct expected){.loaded = 1, .reports = 1});
    worker.sequence++; /* never sent */
    worker_events(&worker, 2, 1);
    worker_wait_ask(&worker, 2);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.reply->matched_blocks, 0); /* nothing is believed meanwhile */
    placed_fini(&placed);
    worker_snapshot(&worker, 0, 4);
    wait_seen(&cluster, (struct expected){.loaded = 2});
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.reply->matched_blocks, 4);
    placed_fini(&placed);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_wrong_digest_is_mended_by_a_snapshot(void **state)
{
    struct cluster cluster;
    struct worker worker;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_join(&worker, 0, 2);
    wait_seen(&cluster, (struct expected){.loaded = 1, .reports = 1});
    worker.digest.lo ^= 1;
    worker_report(&worker, true);
    worker_wait_ask(&worker, 2);
    worker_snapshot(&worker, 0, 3);
    wait_seen(&cluster, (struct expected){.loaded = 2});
    worker_report(&worker, true);
    wait_seen(&cluster, (struct expected){.reports = 3});
    assert_int_equal(sched_core_feed_stats(sched_service_core(cluster.service)).mismatches, 1);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void every_router_sees_every_change(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router routers[2];

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    for (int i = 0; i < 2; i++) {
        router_open(&routers[i], &cluster);
        router_watch(&routers[i]);
        router_wait(&routers[i], 0, 0);
    }
    worker_join(&worker, 0, 0);
    for (int i = 0; i < 2; i++)
        router_wait(&routers[i], 1, 1);
    worker_report(&worker, false);
    for (int i = 0; i < 2; i++)
        router_wait(&routers[i], 1, 0);
    worker_report(&worker, true);
    for (int i = 0; i < 2; i++) {
        router_wait(&routers[i], 1, 1);
        assert_int_equal(routers[i].picture->scheduler_epoch, worker.scheduler_epoch);
        router_close(&routers[i]);
    }
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_router_that_stops_reading_gets_the_newest_picture_afterwards(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    router_wait(&router, 0, 0);
    rpc_call_pause(router.line.call);
    worker_join(&worker, 0, 0);
    for (uint64_t i = 0; i < 100; i++) {
        worker_report(&worker, i % 2 == 0);
        wait_seen(&cluster, (struct expected){.reports = 2 + i});
    }
    rpc_call_resume(router.line.call);
    router_wait(&router, 1, 0); /* the last report said: not ready */
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

/* --- losses -------------------------------------------------------------------------------- */

static void a_worker_whose_stream_breaks_gets_nothing_and_is_remembered(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;
    struct placed placed;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&worker, 0, 4);
    router_wait(&router, 1, 1);
    rpc_call_cancel(worker.line.call);
    router_wait(&router, 1, 0);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.status, TD_OK);
    assert_int_equal(placed.reply->worker_epoch, 0);
    assert_int_equal(placed.reply->code, -TD_EXHAUSTED);
    assert_true(placed.reply->retry_after_ms > 0);
    placed_fini(&placed);
    worker_connect(&worker); /* the same process: no snapshot is needed */
    worker_register(&worker);
    worker_report(&worker, true);
    router_wait(&router, 1, 1);
    assert_int_equal(worker.asks, 0);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.reply->matched_blocks, 4);
    placed_fini(&placed);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_worker_that_stays_away_leaves_the_fleet(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;

    (void)state;
    cluster_init(&cluster, LOOPBACK, NULL);
    patient_config(&cluster.config);
    cluster.config.grace_ms = 10;
    cluster_start(&cluster);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&worker, 0, 4);
    router_wait(&router, 1, 1);
    worker_close(&worker);
    router_wait(&router, 0, 0);
    router_close(&router);
    cluster_fini(&cluster);
}

static void a_worker_that_falls_silent_gets_nothing_and_is_cut_off(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;

    (void)state;
    cluster_init(&cluster, LOOPBACK, NULL);
    patient_config(&cluster.config);
    cluster.config.load_interval_ms = 10;
    cluster.config.stale_ms = 50;
    cluster.config.gone_ms = 50;
    cluster_start(&cluster);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_connect(&worker);
    worker_register(&worker);
    line_wait_end(&worker.line, &cluster);
    assert_non_null(strstr(worker.line.detail, "no report for too long"));
    router_wait(&router, 0, 0);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static void a_new_process_at_the_same_address_replaces_the_old_one(void **state)
{
    struct cluster cluster;
    struct worker before;
    struct worker after;
    struct router router;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&before, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_open(&after, &cluster, 2, TD__ROLE__ROLE_DECODE);
    snprintf(after.target, sizeof after.target, "%s", before.target);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&before, 0, 4);
    worker_join(&after, 0, 0);
    line_wait_end(&before.line, &cluster);
    assert_non_null(strstr(before.line.detail, "a newer process has registered"));
    router_wait(&router, 1, 1);
    assert_int_equal(router.picture->workers[0]->epoch, 2);
    router_close(&router);
    worker_close(&after);
    worker_close(&before);
    cluster_fini(&cluster);
}

static void after_a_restart_everything_comes_back(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;
    struct placed placed;
    uint64_t epoch_before;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&worker, 0, 2);
    worker_events(&worker, 2, 2);
    router_wait(&router, 1, 1);
    epoch_before = worker.scheduler_epoch;
    cluster_stop(&cluster);
    line_wait_end(&worker.line, &cluster);
    line_wait_end(&router.line, &cluster);
    cluster_start(&cluster);
    router.updates = 0;
    router_watch(&router);
    worker_join(&worker, 0, 4);
    router_wait(&router, 1, 1);
    wait_seen(&cluster, (struct expected){.loaded = 1, .reports = 1});
    assert_int_not_equal(worker.scheduler_epoch, epoch_before);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.reply->worker_epoch, 1);
    assert_int_equal(placed.reply->matched_blocks, 4);
    placed_fini(&placed);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

static bool is_set(void *ctx)
{
    return *(const bool *)ctx;
}

static void set(void *ctx)
{
    *(bool *)ctx = true;
}

static void draining_says_goodbye_to_everybody(void **state)
{
    struct cluster cluster;
    struct worker worker;
    struct router router;
    bool drained = false;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    worker_join(&worker, 0, 2);
    router_wait(&router, 1, 1);
    sched_service_drain(cluster.service, set, &drained);
    cluster_until(&cluster, is_set, &drained);
    line_wait_end(&worker.line, &cluster);
    line_wait_end(&router.line, &cluster);
    assert_int_equal(worker.line.status, TD_PEER_LOST);
    assert_string_equal(worker.line.detail, "the scheduler is shutting down");
    assert_string_equal(router.line.detail, "the scheduler is shutting down");
    assert_int_equal(sched_service_stream_count(cluster.service), 0);
    router_close(&router);
    worker_close(&worker);
    cluster_fini(&cluster);
}

/* --- peers that break the rules ------------------------------------------------------------ */

static void a_message_before_the_registration_ends_the_stream(void **state)
{
    struct cluster cluster;
    struct worker worker;

    (void)state;
    open_at(&cluster, LOOPBACK, NULL);
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
    open_at(&cluster, LOOPBACK, NULL);
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
    open_at(&cluster, LOOPBACK, NULL);
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
    open_at(&cluster, LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_join(&worker, 0, 0);
    line_send(&worker.line, &cluster, &message.base);
    wait_seen(&cluster, (struct expected){.applied = 1});
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
    open_at(&cluster, LOOPBACK, NULL);
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
    cluster_init(&cluster, LOOPBACK, NULL);
    patient_config(&cluster.config);
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
    open_at(&cluster, LOOPBACK, NULL);
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
    open_at(&cluster, LOOPBACK, NULL);
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
    open_at(&cluster, LOOPBACK, certs);
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
    open_at(&cluster, LOOPBACK, certs);
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
    open_at(&cluster, LOOPBACK, certs);
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
    open_at(&cluster, LOOPBACK, certs);
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
        cmocka_unit_test(workers_register_routers_see_them_and_get_a_place_over_tcp),
        cmocka_unit_test(workers_register_routers_see_them_and_get_a_place_over_a_unix_socket),
        cmocka_unit_test(a_cached_prompt_goes_to_the_worker_that_has_it),
        cmocka_unit_test(lost_events_are_mended_by_a_snapshot),
        cmocka_unit_test(a_wrong_digest_is_mended_by_a_snapshot),
        cmocka_unit_test(every_router_sees_every_change),
        cmocka_unit_test(a_router_that_stops_reading_gets_the_newest_picture_afterwards),
        cmocka_unit_test(a_worker_whose_stream_breaks_gets_nothing_and_is_remembered),
        cmocka_unit_test(a_worker_that_stays_away_leaves_the_fleet),
        cmocka_unit_test(a_worker_that_falls_silent_gets_nothing_and_is_cut_off),
        cmocka_unit_test(a_new_process_at_the_same_address_replaces_the_old_one),
        cmocka_unit_test(after_a_restart_everything_comes_back),
        cmocka_unit_test(draining_says_goodbye_to_everybody),
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
