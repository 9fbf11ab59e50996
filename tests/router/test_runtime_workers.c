/* test_runtime_workers.c: workers that die, lie, keep silent or come back as others. */
#include <string.h>

#include "tests/router/cluster.h"

static const uint32_t words[] = {11, 22, 33, 44, 55, 66};

static bool has_request(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->request_count > 0;
}

static bool has_attach(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->requests[0].attaches > 0;
}

/* Starts a request on worker 1 of two. */
static void begin(struct cluster *cluster, struct client *client)
{
    cluster_start_simple(cluster, 2);
    assert_int_equal(client_start(client, cluster, 100), TD_OK);
    cluster_until(cluster, has_request, &cluster->workers[0]);
}

/* Answers the request on worker 2, where it must have been tried anew. */
static void end_on_the_other(struct cluster *cluster, struct client *client)
{
    struct fake_worker *other = &cluster->workers[1];

    cluster_until(cluster, has_request, other);
    worker_tokens(other, 0, 0, words, 3);
    worker_finish(other, 0, TD__FINISH__FINISH_STOP, TD_OK);
    cluster_until(cluster, client_ended, client);
    assert_int_equal(client->result.finish, FRONT_STOP);
    assert_int_equal(client->token_count, 3);
    assert_memory_equal(client->tokens, words, 3 * sizeof *words);
}

static void a_worker_lost_before_the_first_token_is_replaced(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    begin(&cluster, &client);
    worker_kill(&cluster.workers[0]);
    end_on_the_other(&cluster, &client);
    assert_int_equal(cluster.schedulers[0].last_excluded, 1);
    assert_int_equal(cluster_counters(&cluster).retries, 1);
    assert_int_equal(cluster_counters(&cluster).links_lost, 1);
    cluster_close(&cluster);
}

static void a_worker_that_refuses_is_replaced(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    begin(&cluster, &client);
    worker_finish(&cluster.workers[0], 0, TD__FINISH__FINISH_REFUSED, TD_EXHAUSTED);
    end_on_the_other(&cluster, &client);
    cluster_close(&cluster);
}

static void a_request_at_fault_itself_is_not_tried_elsewhere(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    begin(&cluster, &client);
    worker_finish(&cluster.workers[0], 0, TD__FINISH__FINISH_REFUSED, TD_INVALID);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_REFUSED);
    assert_int_equal(client.result.status, TD_INVALID);
    assert_string_equal(client.result.message, "the test says so");
    assert_int_equal(cluster.workers[1].request_count, 0);
    cluster_close(&cluster);
}

static void a_broken_stream_is_taken_up_where_it_broke(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.link_retry_ms = 1;
    begin(&cluster, &client);
    worker_tokens(worker, 0, 0, words, 3);
    cluster_until(&cluster, client_has_token, &client);
    worker_break_link(worker, TD_PEER_LOST);
    cluster_until(&cluster, has_attach, worker);
    assert_int_equal(worker->requests[0].attach_index, 3);
    worker_tokens(worker, 0, 1, words + 1, 4); /* two of them were passed on already */
    worker_finish(worker, 0, TD__FINISH__FINISH_STOP, TD_OK);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_STOP);
    assert_int_equal(client.token_count, 5);
    assert_memory_equal(client.tokens, words, 5 * sizeof *words);
    assert_int_equal(cluster_counters(&cluster).attaches, 1);
    assert_int_equal(cluster.workers[1].request_count, 0);
    cluster_close(&cluster);
}

static void a_worker_lost_for_good_after_tokens_is_an_error(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.grace_ms = 50;
    cluster.limits.link_retry_ms = 5;
    begin(&cluster, &client);
    worker_tokens(&cluster.workers[0], 0, 0, words, 3);
    cluster_until(&cluster, client_has_token, &client);
    worker_kill(&cluster.workers[0]);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(client.result.status, TD_PEER_LOST);
    assert_int_equal(client.token_count, 3);
    assert_int_equal(cluster.workers[1].request_count,
                     0); /* the same tokens could not be had there */
    assert_int_equal(cluster_counters(&cluster).links_lost, 1);
    cluster_close(&cluster);
}

/* The process at the address has restarted: its requests are gone, and that is known at once. */
static void another_incarnation_after_tokens_is_an_error(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.grace_ms = 60000;
    cluster.limits.link_retry_ms = 1;
    begin(&cluster, &client);
    worker_tokens(worker, 0, 0, words, 3);
    cluster_until(&cluster, client_has_token, &client);
    worker->greets_as = 77;
    worker_break_link(worker, TD_PEER_LOST);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_true(cluster_counters(&cluster).stale_messages > 0);
    cluster_close(&cluster);
}

static void another_incarnation_gets_no_request(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 2);
    cluster.workers[0].greets_as = 77;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    end_on_the_other(&cluster, &client);
    assert_int_equal(cluster.workers[0].request_count, 0);
    assert_int_equal(cluster_counters(&cluster).stale_messages, 1);
    cluster_close(&cluster);
}

static void a_stale_end_of_the_stream_gives_the_worker_up(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.grace_ms = 60000;
    begin(&cluster, &client);
    worker_tokens(worker, 0, 0, words, 3);
    cluster_until(&cluster, client_has_token, &client);
    worker_break_link(worker, TD_STALE);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_FAILED);
    assert_int_equal(worker->links, 1);
    cluster_close(&cluster);
}

static void a_worker_that_never_greets_is_replaced(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.link_open_ms = 50;
    cluster_start_simple(&cluster, 2);
    cluster.workers[0].mute = true;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    end_on_the_other(&cluster, &client);
    assert_int_equal(cluster.workers[0].request_count, 0);
    cluster_close(&cluster);
}

static void a_worker_that_talks_nonsense_is_replaced(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 2);
    cluster.workers[0].talks_nonsense = true;
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    end_on_the_other(&cluster, &client);
    cluster_close(&cluster);
}

static void missing_tokens_break_the_stream_and_are_asked_for_again(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.link_retry_ms = 1;
    begin(&cluster, &client);
    worker_tokens(worker, 0, 0, words, 2);
    worker_tokens(worker, 0, 3, words + 3, 1);
    cluster_until(&cluster, has_attach, worker);
    assert_int_equal(worker->requests[0].attach_index, 2);
    assert_int_equal(client.token_count, 2);
    assert_int_equal(cluster_counters(&cluster).invalid_messages, 1);
    cluster_close(&cluster);
}

static void when_the_tries_are_used_up_the_client_hears_why(void **state)
{
    struct cluster cluster;
    struct client client = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.tries_max = 2;
    begin(&cluster, &client);
    worker_kill(&cluster.workers[0]);
    cluster_until(&cluster, has_request, &cluster.workers[1]);
    worker_finish(&cluster.workers[1], 0, TD__FINISH__FINISH_REFUSED, TD_EXHAUSTED);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_REFUSED);
    assert_int_equal(client.result.status, TD_EXHAUSTED);
    assert_true(client.result.retry_after_ms > 0);
    cluster_close(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_worker_lost_before_the_first_token_is_replaced),
        cmocka_unit_test(a_worker_that_refuses_is_replaced),
        cmocka_unit_test(a_request_at_fault_itself_is_not_tried_elsewhere),
        cmocka_unit_test(a_broken_stream_is_taken_up_where_it_broke),
        cmocka_unit_test(a_worker_lost_for_good_after_tokens_is_an_error),
        cmocka_unit_test(another_incarnation_after_tokens_is_an_error),
        cmocka_unit_test(another_incarnation_gets_no_request),
        cmocka_unit_test(a_stale_end_of_the_stream_gives_the_worker_up),
        cmocka_unit_test(a_worker_that_never_greets_is_replaced),
        cmocka_unit_test(a_worker_that_talks_nonsense_is_replaced),
        cmocka_unit_test(missing_tokens_break_the_stream_and_are_asked_for_again),
        cmocka_unit_test(when_the_tries_are_used_up_the_client_hears_why),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
