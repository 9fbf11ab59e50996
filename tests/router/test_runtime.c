/* test_runtime.c: requests through the router's runtime, with workers and a scheduler over real RPC. */
#include <string.h>

#include "tests/router/cluster.h"

#define FRAME_BYTES_MAX (64 << 10)

static const uint32_t words[] = {11, 22, 33, 44, 55, 66};

static bool has_whole_prompt(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->request_count > 0 &&
           worker->requests[0].received == worker->requests[0].prompt_tokens;
}

static bool has_ended(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->requests[0].ended == 1;
}

static bool has_cancel(void *ctx)
{
    const struct fake_worker *worker = ctx;

    return worker->requests[0].cancels > 0;
}

static bool is_idle(void *ctx)
{
    struct cluster *cluster = ctx;

    return router_runtime_idle(cluster->runtime);
}

static void a_request_is_answered(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 20000), TD_OK);
    cluster_until(&cluster, has_whole_prompt, worker);
    assert_string_equal(worker->requests[0].model, "tiny");
    assert_int_equal(worker->requests[0].frames, 3);
    assert_in_range(worker->requests[0].frame_bytes_max, 1, FRAME_BYTES_MAX);
    assert_int_equal(cluster.schedulers[0].places, 1);
    assert_int_equal(cluster.schedulers[0].last_keys, 2 * (20000 / 16));

    worker_tokens(worker, 0, 0, words, 2);
    worker_tokens(worker, 0, 2, words + 2, 1);
    worker_finish(worker, 0, TD__FINISH__FINISH_LENGTH, TD_OK);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.token_count, 3);
    assert_memory_equal(client.tokens, words, 3 * sizeof *words);
    assert_int_equal(client.result.finish, FRONT_LENGTH);
    assert_int_equal(client.result.prompt_tokens, 20000);
    assert_int_equal(client.result.completion_tokens, 3);
    cluster_until(&cluster, has_ended, worker); /* the worker hears that its output was seen */
    assert_true(router_runtime_idle(cluster.runtime));
    assert_int_equal(cluster_counters(&cluster).tokens, 3);
    assert_int_equal(cluster_gauges(&cluster).running, 0);
    cluster_close(&cluster);
}

static void many_requests_share_one_stream(void **state)
{
    struct cluster cluster;
    struct client clients[8];
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    memset(clients, 0, sizeof clients);
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(client_start(&clients[i], &cluster, 100 + i), TD_OK);
    cluster_until(&cluster, has_whole_prompt, worker);
    while (worker->request_count < 8)
        cluster_turns(&cluster, 1);
    assert_int_equal(worker->links, 1);
    for (int i = 7; i >= 0; i--) {
        uint32_t word = worker->requests[i].prompt_tokens;

        worker_tokens(worker, i, 0, &word, 1);
        worker_finish(worker, i, TD__FINISH__FINISH_STOP, TD_OK);
    }
    for (uint32_t i = 0; i < 8; i++) {
        cluster_until(&cluster, client_ended, &clients[i]);
        assert_int_equal(clients[i].tokens[0], 100 + i);
    }
    cluster_close(&cluster);
}

static void a_client_that_leaves_cancels_at_the_worker(void **state)
{
    struct cluster cluster;
    struct client client = {.abandon_at_first = true};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_whole_prompt, worker);
    worker_tokens(worker, 0, 0, words, 1);
    cluster_until(&cluster, has_cancel, worker);
    assert_false(router_runtime_idle(cluster.runtime)); /* until the worker has confirmed it */
    assert_int_equal(cluster_gauges(&cluster).running, 1);
    worker_tokens(worker, 0, 1, words + 1, 1); /* was on its way; client_tokens would fail */
    worker_finish(worker, 0, TD__FINISH__FINISH_CANCELED, TD_OK);
    cluster_until(&cluster, is_idle, &cluster);
    assert_int_equal(client.token_count, 1);
    assert_int_equal(cluster_gauges(&cluster).running, 0);
    assert_int_equal(cluster_counters(&cluster).journeys_canceled, 1);
    cluster_close(&cluster);
}

static void a_cancel_overtakes_the_frames_of_long_prompts(void **state)
{
    enum { PROMPT = 2000000 };
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    worker->leaves_at_start = &client;
    assert_int_equal(client_start(&client, &cluster, PROMPT), TD_OK);
    cluster_until(&cluster, has_cancel, worker);
    assert_in_range(worker->requests[0].received, 0, PROMPT / 2);
    cluster_close(&cluster);
}

static void a_stop_ends_the_answer_with_what_was_passed_on(void **state)
{
    struct cluster cluster;
    struct client client = {.stop_at_first = true};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_whole_prompt, worker);
    worker_tokens(worker, 0, 0, words, 2);
    cluster_until(&cluster, has_cancel, worker);
    worker_finish(worker, 0, TD__FINISH__FINISH_CANCELED, TD_OK);
    cluster_until(&cluster, client_ended, &client);
    assert_int_equal(client.result.finish, FRONT_STOP);
    assert_int_equal(client.result.status, TD_OK);
    assert_int_equal(client.token_count, 2);
    cluster_close(&cluster);
}

static void requests_wait_for_room_and_then_run(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker;

    (void)state;
    cluster_open(&cluster, NULL);
    worker = cluster_worker(&cluster, 1);
    worker->ready = false;
    cluster_scheduler(&cluster, cluster.scheduler_rpc);
    cluster_start(&cluster);
    while (cluster_gauges(&cluster).workers == 0)
        cluster_turns(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_turns(&cluster, 20);
    assert_int_equal(cluster_gauges(&cluster).queued, 1);
    worker->ready = true;
    scheduler_publish(&cluster.schedulers[0]);
    cluster_until(&cluster, has_whole_prompt, worker);
    assert_int_equal(cluster_gauges(&cluster).queued, 0);
    cluster_close(&cluster);
}

static void a_request_that_waited_too_long_is_told_to_come_back(void **state)
{
    struct cluster cluster;
    struct client early = {0};
    struct client late = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.queue_ms = 50;
    cluster.limits.retry_ms = 5;
    cluster_start_simple(&cluster, 1);
    cluster.schedulers[0].no_worker = true;
    cluster.schedulers[0].no_worker_retry_ms = 10;
    assert_int_equal(client_start(&early, &cluster, 100), TD_OK);
    cluster_until(&cluster, client_ended, &early);
    assert_int_equal(early.result.finish, FRONT_REFUSED);
    assert_int_equal(early.result.status, TD_EXHAUSTED); /* all are busy */
    assert_true(early.result.retry_after_ms > 0);

    cluster.workers[0].ready = false;
    scheduler_publish(&cluster.schedulers[0]);
    while (cluster_gauges(&cluster).workers_ready > 0)
        cluster_turns(&cluster, 1);
    assert_int_equal(client_start(&late, &cluster, 100), TD_OK);
    cluster_until(&cluster, client_ended, &late);
    assert_int_equal(late.result.status, TD_AGAIN); /* there is nobody at all */
    assert_true(late.result.retry_after_ms > 0);
    cluster_close(&cluster);
}

static void a_full_queue_refuses_and_says_when_to_come_back(void **state)
{
    struct cluster cluster;
    struct client clients[3] = {0};

    (void)state;
    cluster_open(&cluster, NULL);
    cluster.limits.queue_max = 2;
    cluster_scheduler(&cluster, cluster.scheduler_rpc);
    cluster_start(&cluster);
    assert_int_equal(client_start(&clients[0], &cluster, 100), TD_OK);
    assert_int_equal(client_start(&clients[1], &cluster, 100), TD_OK);
    assert_int_equal(client_start(&clients[2], &cluster, 100), TD_EXHAUSTED);
    client_leave(&clients[0]);
    assert_int_equal(client_start(&clients[2], &cluster, 100), TD_OK);
    cluster_close(&cluster);
}

static void failing_all_tells_clients_and_workers(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct fake_worker *worker = &cluster.workers[0];

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_whole_prompt, worker);
    router_runtime_fail_all(cluster.runtime, "the test stops");
    assert_true(client.ended);
    assert_string_equal(client.result.message, "the test stops");
    cluster_until(&cluster, has_cancel, worker);
    worker_finish(worker, 0, TD__FINISH__FINISH_CANCELED, TD_OK);
    cluster_until(&cluster, is_idle, &cluster);
    cluster_close(&cluster);
}

static void models_are_those_of_the_fleet(void **state)
{
    struct cluster cluster;
    struct front_backend *backend = &cluster.backend;
    struct front_model model;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 2);
    assert_true(backend->model_at(backend->impl, 0, &model));
    assert_string_equal(model.name, "tiny");
    assert_int_equal(model.max_context, 4097); /* what both workers can hold */
    assert_non_null(model.text);
    assert_true(model.created > 0);
    assert_false(backend->model_at(backend->impl, 1, &model));
    assert_int_equal(backend->model_by_name(backend->impl, "tiny-latest", &model), TD_OK);
    assert_string_equal(model.name, "tiny");
    assert_int_equal(backend->model_by_name(backend->impl, "", &model), TD_OK);
    assert_int_equal(backend->model_by_name(backend->impl, "huge", &model), TD_NOT_FOUND);
    cluster_close(&cluster);
}

static void metrics_say_what_happened(void **state)
{
    struct cluster cluster;
    struct client client = {0};
    struct td_buf out;

    (void)state;
    cluster_open(&cluster, NULL);
    cluster_start_simple(&cluster, 1);
    assert_int_equal(client_start(&client, &cluster, 100), TD_OK);
    cluster_until(&cluster, has_whole_prompt, &cluster.workers[0]);
    td_buf_init(&out, 1 << 20);
    cluster.backend.metrics(cluster.backend.impl, &out);
    assert_int_equal(out.status, TD_OK);
    assert_non_null(strstr(out.data, "\ntandem_router_running 1"));
    assert_non_null(strstr(out.data, "\ntandem_router_ready 1"));
    assert_non_null(strstr(out.data, "\ntandem_router_journeys_started_total 1"));
    assert_non_null(strstr(out.data, "\ntandem_router_texts_fetched_total 1"));
    td_buf_fini(&out);
    cluster_close(&cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_answered),
        cmocka_unit_test(many_requests_share_one_stream),
        cmocka_unit_test(a_client_that_leaves_cancels_at_the_worker),
        cmocka_unit_test(a_cancel_overtakes_the_frames_of_long_prompts),
        cmocka_unit_test(a_stop_ends_the_answer_with_what_was_passed_on),
        cmocka_unit_test(requests_wait_for_room_and_then_run),
        cmocka_unit_test(a_request_that_waited_too_long_is_told_to_come_back),
        cmocka_unit_test(a_full_queue_refuses_and_says_when_to_come_back),
        cmocka_unit_test(failing_all_tells_clients_and_workers),
        cmocka_unit_test(models_are_those_of_the_fleet),
        cmocka_unit_test(metrics_say_what_happened),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
