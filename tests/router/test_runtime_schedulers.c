/* test_runtime_schedulers.c: schedulers that are lost, hang, fail, restart, or are somebody else. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/net/certs.h"
#include "router/runtime_internal.h"
#include "router/schedulers.h"
#include "tests/router/cluster.h"

static const uint32_t words[] = {11, 22, 33};

static bool has_request(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->request_count > 0;
}

static uint32_t connected(const struct cluster *cluster)
{
    return router_schedulers_connected(cluster->runtime->schedulers);
}

static bool none_connected(void *ctx)
{
    return connected(ctx) == 0;
}

static bool all_connected(void *ctx)
{
    const struct cluster *cluster = ctx;

    return connected(cluster) == (uint32_t)cluster->scheduler_count;
}

/* Runs one request to its end on any worker. */
static void answer_one(struct cluster *cluster, struct fake_worker *worker)
{
    struct client client = {0};
    int number = worker->request_count;

    assert_int_equal(client_start(&client, cluster, 100), TD_OK);
    while (worker->request_count == number)
        cluster_turns(cluster, 1);
    worker_tokens(worker, number, 0, words, 3);
    worker_finish(worker, number, TD__FINISH__FINISH_STOP, TD_OK);
    cluster_until(cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_STOP);
    assert_int_equal(client.token_count, 3);
}

static void any_order_of_starting_works(void **state)
{
    struct cluster cluster;
    struct fake_scheduler *scheduler;
    struct fake_worker *worker;
    struct front_model model;
    char why[160] = "";

    (void)state;
    cluster_open(&cluster, NULL);
    scheduler = cluster_scheduler(&cluster, cluster.scheduler_rpc);
    scheduler_kill(scheduler);
    cluster_start(&cluster);
    cluster_turns(&cluster, 20);
    assert_false(cluster.backend.is_ready(cluster.backend.impl, why, sizeof why));
    assert_string_equal(why, "no scheduler can be reached");
    assert_int_equal(cluster.backend.model_by_name(cluster.backend.impl, "tiny", &model), TD_AGAIN);
    scheduler_listen(scheduler, cluster.scheduler_rpc);
    cluster_until(&cluster, all_connected, &cluster);
    assert_false(cluster.backend.is_ready(cluster.backend.impl, why, sizeof why));
    assert_string_equal(why, "no worker has registered with a scheduler");
    worker = cluster_worker(&cluster, 1);
    worker->ready = false;
    scheduler_publish(scheduler);
    while (cluster_gauges(&cluster).workers == 0)
        cluster_turns(&cluster, 1);
    assert_false(cluster.backend.is_ready(cluster.backend.impl, why, sizeof why));
    assert_string_equal(why, "no worker is ready");
    worker->ready = true;
    scheduler_publish(scheduler);
    cluster_until(&cluster, cluster_is_ready, &cluster);
    answer_one(&cluster, worker);
    cluster_close(&cluster);
}

static void without_a_scheduler_the_router_places_by_itself(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 2);
    scheduler_kill(&cluster.schedulers[0]);
    cluster_until(&cluster, none_connected, &cluster);
    assert_true(cluster_is_ready(&cluster));
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_request, &cluster.workers[0]); /* both are idle: the first */
    answer_one(&cluster, &cluster.workers[1]);                 /* the less loaded one */
    assert_int_equal(cluster_counters(&cluster).placed_alone, 2);
    cluster_close(&cluster);
}

static void a_worker_out_of_reach_is_not_chosen_again_at_once(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 2);
    scheduler_kill(&cluster.schedulers[0]);
    cluster_until(&cluster, none_connected, &cluster);
    worker_kill(&cluster.workers[0]); /* nobody tells the router */
    answer_one(&cluster, &cluster.workers[1]);
    assert_int_equal(cluster_counters(&cluster).retries, 1);
    answer_one(&cluster, &cluster.workers[1]);
    assert_int_equal(cluster_counters(&cluster).retries, 1);
    cluster_close(&cluster);
}

static void a_restarted_scheduler_disturbs_nobody(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];
    struct fake_scheduler *scheduler = &cluster.schedulers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_request, worker);
    scheduler_kill(scheduler);
    cluster_until(&cluster, none_connected, &cluster);
    scheduler->epoch = 999;
    scheduler->knows_nothing = true; /* its workers are on their way to it */
    scheduler_listen(scheduler, cluster.scheduler_rpc);
    cluster_until(&cluster, all_connected, &cluster);
    assert_true(cluster_is_ready(&cluster));
    worker_tokens(worker, 0, 0, words, 3);
    worker_finish(worker, 0, TD__FINISH__FINISH_STOP, TD_OK);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_STOP);
    scheduler->knows_nothing = false;
    scheduler_publish(scheduler);
    answer_one(&cluster, worker);
    assert_int_equal(worker->links, 1);
    cluster_close(&cluster);
}

static void a_scheduler_that_fails_is_passed_over(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_scheduler(&cluster, cluster.scheduler_rpc);
    cluster_start_simple(&cluster, 1);
    cluster_until(&cluster, all_connected, &cluster);
    cluster.schedulers[0].fails_with = TD_INTERNAL;
    answer_one(&cluster, &cluster.workers[0]);
    assert_int_equal(cluster.schedulers[0].places, 1);
    assert_int_equal(cluster.schedulers[1].places, 1);
    assert_int_equal(cluster.schedulers[1].last_keys, 2 * (100 / 16));
    answer_one(&cluster, &cluster.workers[0]); /* the first is not trusted for a while */
    assert_int_equal(cluster.schedulers[0].places, 1);
    assert_int_equal(cluster.schedulers[1].places, 2);
    assert_int_equal(cluster_counters(&cluster).placed_alone, 0);
    cluster_close(&cluster);
}

static void a_scheduler_that_hangs_holds_nobody_up(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.place_ms = 100;
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].holds = true;
    answer_one(&cluster, &cluster.workers[0]);
    assert_int_equal(cluster.schedulers[0].places, 1);
    assert_int_equal(cluster_counters(&cluster).placed_alone, 1);
    cluster_close(&cluster);
}

static void a_client_may_leave_while_a_place_is_asked(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].holds = true;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    while (cluster.schedulers[0].places == 0)
        cluster_turns(&cluster, 1);
    client_leave(&client);
    assert_true(router_runtime_idle(cluster.runtime));
    cluster.schedulers[0].holds = false;
    answer_one(&cluster, &cluster.workers[0]);
    assert_int_equal(cluster.workers[0].request_count, 1);
    cluster_close(&cluster);
}

static void a_request_waits_while_no_worker_can_take_it(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.retry_ms = 1;
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].no_worker = true;
    cluster.schedulers[0].no_worker_retry_ms = 10;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    while (cluster.schedulers[0].places < 3)
        cluster_turns(&cluster, 1);
    assert_false(client.ended);
    cluster.schedulers[0].no_worker = false;
    cluster_until(&cluster, has_request, &cluster.workers[0]);
    cluster_close(&cluster);
}

static void a_request_that_no_worker_can_ever_take_is_refused(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].no_worker = true;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_REFUSED);
    assert_string_equal(client.result.message, "no room");
    cluster_close(&cluster);
}

/* A place on a worker that the router does not know (yet): it chooses by itself. */
static void a_place_nobody_knows_is_not_taken(void **state)
{
    struct cluster cluster;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].place_on = 4711;
    answer_one(&cluster, &cluster.workers[0]);
    assert_int_equal(cluster_counters(&cluster).placed_alone, 1);
    cluster_close(&cluster);
}

static void only_a_schedulers_certificate_makes_a_scheduler(void **state)
{
    struct cluster cluster;
    char folder[] = "/tmp/tandem-router-certs-XXXXXX";
    char command[128];

    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(net_certs_mint(folder, NET_ROLES_ALL, false, NULL), TD_OK);
    cluster_open(&cluster, folder);
    cluster_scheduler(&cluster, cluster.worker_rpc); /* has the certificate of a decode worker */
    cluster_start_simple(&cluster, 1);
    assert_int_equal(connected(&cluster), 1);
    assert_int_equal(cluster.schedulers[0].router_epoch, 0); /* it was told nothing */
    answer_one(&cluster, &cluster.workers[0]);
    cluster_close(&cluster);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    assert_int_equal(system(command), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_order_of_starting_works),
        cmocka_unit_test(without_a_scheduler_the_router_places_by_itself),
        cmocka_unit_test(a_worker_out_of_reach_is_not_chosen_again_at_once),
        cmocka_unit_test(a_restarted_scheduler_disturbs_nobody),
        cmocka_unit_test(a_scheduler_that_fails_is_passed_over),
        cmocka_unit_test(a_scheduler_that_hangs_holds_nobody_up),
        cmocka_unit_test(a_client_may_leave_while_a_place_is_asked),
        cmocka_unit_test(a_request_waits_while_no_worker_can_take_it),
        cmocka_unit_test(a_request_that_no_worker_can_ever_take_is_refused),
        cmocka_unit_test(a_place_nobody_knows_is_not_taken),
        cmocka_unit_test(only_a_schedulers_certificate_makes_a_scheduler),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
