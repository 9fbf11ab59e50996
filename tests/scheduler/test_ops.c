/* test_ops.c: what an operator sees: health, readiness, metrics, the fleet; flags; the program itself. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/net/http_client.h"
#include "lib/net/process.h"
#include "scheduler/ops.h"
#include "scheduler/options.h"
#include "tests/scheduler/cluster.h"

#define BODY_BYTES_MAX ((size_t)1 << 20)

/* --- asking -------------------------------------------------------------------------------- */

struct asking {
    struct cluster *cluster;
    struct http_client *client;
    int code;
    struct td_buf body;
    bool done;
};

static void on_head(void *ctx, int status)
{
    ((struct asking *)ctx)->code = status;
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    td_buf_append(&((struct asking *)ctx)->body, bytes, length);
}

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    if (status != TD_OK)
        fail_msg("%s", reason);
    ((struct asking *)ctx)->done = true;
}

static bool is_done(void *ctx)
{
    return ((const struct asking *)ctx)->done;
}

static void asking_open(struct asking *asking, struct cluster *cluster, const char *address)
{
    *asking = (struct asking){.cluster = cluster};
    td_buf_init(&asking->body, BODY_BYTES_MAX);
    assert_int_equal(http_client_open(cluster->loop, address, &asking->client, NULL), TD_OK);
}

static void asking_close(struct asking *asking)
{
    http_client_close(asking->client);
    td_buf_fini(&asking->body);
}

/* The status of the answer; its body is in asking->body. */
static int get(struct asking *asking, const char *path)
{
    static const struct http_client_callbacks callbacks = {
        .on_head = on_head, .on_body = on_body, .on_end = on_end};
    const struct http_client_request request = {
        .method = HTTP_GET, .path = path, .deadline_ms = CLUSTER_PATIENCE_MS};

    td_buf_clear(&asking->body);
    asking->done = false;
    assert_int_equal(http_client_ask(asking->client, &request, &callbacks, asking), TD_OK);
    cluster_until(asking->cluster, is_done, asking);
    return asking->code;
}

static void assert_has(const struct asking *asking, const char *text)
{
    if (asking->body.length == 0 || strstr(asking->body.data, text) == NULL)
        fail_msg("'%s' is not in: %s", text, asking->body.length > 0 ? asking->body.data : "");
}

/* --- the service seen from outside --------------------------------------------------------- */

struct scene {
    struct cluster cluster;
    struct sched_ops *ops;
    struct asking asking;
};

static void scene_open(struct scene *scene)
{
    struct td_error error = {0};

    cluster_init(&scene->cluster, CLUSTER_LOOPBACK, NULL);
    scene->cluster.config.stale_ms = CLUSTER_PATIENCE_MS;
    scene->cluster.config.fleet_delay_ms = 1;
    cluster_start(&scene->cluster);
    if (sched_ops_open(scene->cluster.loop, CLUSTER_LOOPBACK, scene->cluster.service, &scene->ops,
                       &error) != TD_OK)
        fail_msg("%s", error.text);
    asking_open(&scene->asking, &scene->cluster, sched_ops_address(scene->ops));
}

static void scene_close(struct scene *scene)
{
    asking_close(&scene->asking);
    sched_ops_close(scene->ops);
    cluster_fini(&scene->cluster);
}

static void a_scheduler_without_workers_is_healthy_and_ready(void **state)
{
    struct scene scene;

    (void)state;
    scene_open(&scene);
    assert_int_equal(get(&scene.asking, "/health"), 200);
    assert_has(&scene.asking, "{\"status\":\"ok\",\"uptime_seconds\":");
    assert_int_equal(get(&scene.asking, "/ready"), 200);
    assert_has(&scene.asking, "{\"status\":\"ready\",\"workers_ready\":0}");
    assert_int_equal(get(&scene.asking, "/nothing"), 404);
    scene_close(&scene);
}

static void a_draining_scheduler_is_healthy_and_not_ready(void **state)
{
    struct scene scene;

    (void)state;
    scene_open(&scene);
    sched_service_drain(scene.cluster.service, NULL, NULL);
    assert_int_equal(get(&scene.asking, "/health"), 200);
    assert_int_equal(get(&scene.asking, "/ready"), 503);
    assert_has(&scene.asking, "\"draining\"");
    scene_close(&scene);
}

static void metrics_tell_workers_caches_and_placements(void **state)
{
    struct scene scene;
    struct worker worker;
    struct router router;
    struct placed placed;

    (void)state;
    scene_open(&scene);
    worker_open(&worker, &scene.cluster, 1, TD__ROLE__ROLE_DECODE);
    router_open(&router, &scene.cluster);
    router_watch(&router);
    worker_join(&worker, 0, 4);
    router_wait(&router, 1, 1);
    place(&router.side, 80, 0, 5, &placed);
    placed_fini(&placed);
    assert_int_equal(get(&scene.asking, "/metrics"), 200);
    assert_has(&scene.asking, "\ntandem_scheduler_workers{state=\"ready\"} 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_workers{state=\"lost\"} 0.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_workers_ready{role=\"decode\"} 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_caches{state=\"current\"} 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_streams 2.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_routers 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_guesses 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_placements_total{kind=\"local\"} 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_prompt_tokens_total 80.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_matched_tokens_total 64.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_index_entries 4.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_snapshots_total{outcome=\"loaded\"} 1.0\n");
    assert_has(&scene.asking, "\ntandem_scheduler_place_seconds_count 1\n");
    assert_has(&scene.asking, "\ntandem_scheduler_loop_lag_seconds_count ");
    router_close(&router);
    worker_close(&worker);
    scene_close(&scene);
}

static void the_fleet_is_told_worker_by_worker(void **state)
{
    struct scene scene;
    struct worker worker;
    struct router router;

    (void)state;
    scene_open(&scene);
    worker_open(&worker, &scene.cluster, 0xabc, TD__ROLE__ROLE_PREFILL);
    router_open(&router, &scene.cluster);
    router_watch(&router);
    worker_join(&worker, 0, 4);
    router_wait(&router, 1, 1);
    assert_int_equal(get(&scene.asking, "/fleet"), 200);
    assert_has(&scene.asking, "{\"state\":\"ready\",\"epoch\":\"0000000000000abc\","
                              "\"role\":\"prefill\",\"rpc_target\":\"worker-2748:1\","
                              "\"http_address\":\"127.0.0.1:8000\",\"models\":[\"smol\"],");
    assert_has(&scene.asking, "\"blocks_free\":1000,");
    assert_has(&scene.asking, "\"cache\":{\"state\":\"current\",\"sequence\":0,\"keys\":4}");
    router_close(&router);
    worker_close(&worker);
    scene_close(&scene);
}

/* --- flags --------------------------------------------------------------------------------- */

static void the_flags_defaults_are_the_core_s(void **state)
{
    struct sched_options options = {0};
    struct td_flag_table tables[SCHED_TABLES];
    struct sched_config from_flags;
    struct sched_config defaults = sched_config_default();

    (void)state;
    sched_options_tables(&options, tables);
    for (int i = 0; i < SCHED_TABLES; i++)
        td_flags_defaults(&tables[i]);
    from_flags = sched_options_config(&options);
    assert_memory_equal(&from_flags, &defaults,
                        offsetof(struct sched_config, warm_ms) + sizeof defaults.warm_ms);
    assert_int_equal(sched_options_check(&options, NULL), TD_OK);
}

static void flags_that_contradict_each_other_are_named(void **state)
{
    struct sched_options options = {.stale_ms = 500, .load_interval_ms = 500};
    struct td_error error = {0};

    (void)state;
    assert_int_equal(sched_options_check(&options, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "--stale-after"));
    options = (struct sched_options){.stale_ms = 1, .snapshot_retry_ms = 2};
    assert_int_equal(sched_options_check(&options, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "--snapshot-retry-max"));
}

/* --- the program --------------------------------------------------------------------------- */

struct program {
    struct cluster cluster; /* its loop and address only */
    struct net_process *process;
    bool ready;
    bool ended;
    int exit_code;
    char failure[256]; /* why it could not start */
};

static void on_line(void *ctx, const char *line)
{
    struct program *program = ctx;

    if (strncmp(line, "failed ", 7) == 0) {
        snprintf(program->failure, sizeof program->failure, "%s", line + 7);
        return;
    }
    assert_memory_equal(line, "ready ", 6);
    snprintf(program->cluster.address, sizeof program->cluster.address, "%s", line + 6);
    program->ready = true;
}

static void on_exit_of(void *ctx, int exit_code, int signal_number)
{
    struct program *program = ctx;

    (void)signal_number;
    program->exit_code = exit_code;
    program->ended = true;
}

static bool is_ready_or_ended(void *ctx)
{
    return ((const struct program *)ctx)->ready || ((const struct program *)ctx)->ended;
}

static bool has_ended(void *ctx)
{
    return ((const struct program *)ctx)->ended;
}

static void program_start(struct program *program, const char *flag)
{
    const char *const argv[] = {
        TEST_SCHEDULER, "--listen", CLUSTER_LOOPBACK, "--http-listen", CLUSTER_LOOPBACK,
        flag,           NULL};
    const struct net_process_options options = {.argv = argv,
                                                .stdin_fd = -1,
                                                .stdout_fd = -1,
                                                .stderr_fd = -1,
                                                .ctx = program,
                                                .on_line = on_line,
                                                .on_exit = on_exit_of};
    struct td_error error = {0};

    *program = (struct program){0};
    cluster_init(&program->cluster, CLUSTER_LOOPBACK, NULL);
    if (net_process_spawn(program->cluster.loop, &options, &program->process, &error) != TD_OK)
        fail_msg("%s", error.text);
    cluster_until(&program->cluster, is_ready_or_ended, program);
}

static void program_end(struct program *program)
{
    cluster_until(&program->cluster, has_ended, program);
    net_process_close(program->process);
    cluster_fini(&program->cluster);
}

static void the_program_says_ready_serves_and_leaves_when_asked_to(void **state)
{
    struct program program;
    struct worker worker;

    (void)state;
    program_start(&program, NULL);
    assert_true(program.ready);
    worker_open(&worker, &program.cluster, 1, TD__ROLE__ROLE_DECODE);
    worker_join(&worker, 0, 4);
    net_process_signal(program.process, SIGTERM);
    line_wait_end(&worker.line, &program.cluster);
    assert_string_equal(worker.line.detail, "the scheduler is shutting down");
    worker_close(&worker);
    program_end(&program);
    assert_int_equal(program.exit_code, 0);
}

static void the_program_refuses_flags_that_contradict_each_other(void **state)
{
    struct program program;

    (void)state;
    program_start(&program, "--stale-after=100ms");
    assert_false(program.ready);
    program_end(&program);
    assert_int_equal(program.exit_code, 2);
    assert_non_null(strstr(program.failure, "--stale-after"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_scheduler_without_workers_is_healthy_and_ready),
        cmocka_unit_test(a_draining_scheduler_is_healthy_and_not_ready),
        cmocka_unit_test(metrics_tell_workers_caches_and_placements),
        cmocka_unit_test(the_fleet_is_told_worker_by_worker),
        cmocka_unit_test(the_flags_defaults_are_the_core_s),
        cmocka_unit_test(flags_that_contradict_each_other_are_named),
        cmocka_unit_test(the_program_says_ready_serves_and_leaves_when_asked_to),
        cmocka_unit_test(the_program_refuses_flags_that_contradict_each_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
