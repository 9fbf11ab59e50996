/* test_service.c: a whole scheduler over real calls: streams, pictures, places, losses, restarts. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/scheduler/cluster.h"

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

    cluster_open(&cluster, address, NULL);
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
    serve_one_place(CLUSTER_LOOPBACK);
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    router_open(&router, &cluster);
    for (uint64_t i = 0; i < 2; i++) {
        worker_open(&workers[i], &cluster, 1 + i, TD__ROLE__ROLE_DECODE);
        worker_join(&workers[i], 1000 * i, 2); /* keys 0 and 1, or 1000 and 1001 */
    }
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 2, .reports = 2});
    worker_events(&workers[1], 1002, 2);
    cluster_wait(&cluster, (struct cluster_seen){.applied = 1});
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    worker_join(&worker, 0, 2);
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 1, .reports = 1});
    worker.sequence++; /* never sent */
    worker_events(&worker, 2, 1);
    worker_wait_ask(&worker, 2);
    place(&router.side, 80, 0, 5, &placed);
    assert_int_equal(placed.reply->matched_blocks, 0); /* nothing is believed meanwhile */
    placed_fini(&placed);
    worker_snapshot(&worker, 0, 4);
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 2});
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_join(&worker, 0, 2);
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 1, .reports = 1});
    worker.digest.lo ^= 1;
    worker_report(&worker, true);
    worker_wait_ask(&worker, 2);
    worker_snapshot(&worker, 0, 3);
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 2});
    worker_report(&worker, true);
    cluster_wait(&cluster, (struct cluster_seen){.reports = 3});
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
    worker_open(&worker, &cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &cluster);
    router_watch(&router);
    router_wait(&router, 0, 0);
    rpc_call_pause(router.line.call);
    worker_join(&worker, 0, 0);
    for (uint64_t i = 0; i < 100; i++) {
        worker_report(&worker, i % 2 == 0);
        cluster_wait(&cluster, (struct cluster_seen){.reports = 2 + i});
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
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
    cluster_init(&cluster, CLUSTER_LOOPBACK, NULL);
    cluster_be_patient(&cluster.config);
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
    cluster_init(&cluster, CLUSTER_LOOPBACK, NULL);
    cluster_be_patient(&cluster.config);
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
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
    cluster_wait(&cluster, (struct cluster_seen){.loaded = 1, .reports = 1});
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
    cluster_open(&cluster, CLUSTER_LOOPBACK, NULL);
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
