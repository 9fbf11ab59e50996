/* test_cluster.c: what the processes of a cluster are told, and the folder for their sockets. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/cluster.h"
#include "cli/runtime_folder.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/team.h"
#include "engine/cuda/choice.h"
#include "tests/support/support.h"

static const struct cli_cluster_surroundings surroundings = {
    .program_folder = "/opt/bin", .runtime_folder = "/run/t", .cpus = 5};

struct planned {
    struct td_arena arena;
    struct cli_cluster cluster;
    struct td_error error;
};

static struct cli_cluster_options defaults(void)
{
    struct cli_cluster_options options = {.log_level = 2, .port = 8000};
    const struct td_flag_table table = cli_cluster_table(&options);
    const struct td_flags flags = {
        .program = "test", .summary = "", .usage = "", .tables = &table, .table_count = 1};
    struct td_flags_result result;
    struct td_error error = {0};
    struct td_arena arena;

    td_arena_init(&arena, (size_t)1 << 20);
    if (td_flags_parse(&flags, &arena, (struct td_flag_list){NULL, 0}, &result, &error) != TD_OK)
        fail_msg("%s", error.text);
    td_arena_fini(&arena);
    return options;
}

static td_status_t plan(struct planned *planned, const struct cli_cluster_options *options)
{
    memset(planned, 0, sizeof *planned);
    td_arena_init(&planned->arena, (size_t)1 << 20);
    return cli_cluster_plan("m.gguf", options, &surroundings, &planned->arena, &planned->cluster,
                            &planned->error);
}

/* What follows the n-th occurrence of the flag; NULL: it is not there. */
static const char *value(const struct cli_child_plan *child, const char *flag, int n)
{
    for (size_t i = 1; child->argv[i] != NULL; i++)
        if (strcmp(child->argv[i], flag) == 0 && n-- == 0)
            return child->argv[i + 1];
    return NULL;
}

static void assert_value(const struct cli_child_plan *child, const char *flag, const char *expected)
{
    const char *actual = value(child, flag, 0);

    assert_non_null(actual);
    assert_string_equal(actual, expected);
}

static void a_cluster_is_a_scheduler_a_router_and_workers(void **state)
{
    struct cli_cluster_options options = defaults();
    struct planned planned;
    const struct cli_child_plan *plans = planned.cluster.plans;

    (void)state;
    assert_int_equal(plan(&planned, &options), TD_OK);
    assert_int_equal(planned.cluster.count, 4);
    assert_string_equal(plans[CLI_CLUSTER_SCHEDULER].argv[0], "/opt/bin/tandem-scheduler");
    assert_value(&plans[CLI_CLUSTER_SCHEDULER], "--listen", "unix:/run/t/scheduler.sock");
    assert_null(value(&plans[CLI_CLUSTER_SCHEDULER], "--remote-tokens-min", 0));
    assert_string_equal(plans[CLI_CLUSTER_ROUTER].argv[0], "/opt/bin/tandem-router");
    assert_value(&plans[CLI_CLUSTER_ROUTER], "--listen", "127.0.0.1:8000");
    assert_value(&plans[CLI_CLUSTER_ROUTER], "--scheduler", "unix:/run/t/scheduler.sock");
    assert_string_equal(plans[2].name, "prefill");
    assert_string_equal(plans[2].argv[0], "/opt/bin/tandem-prefill");
    assert_value(&plans[2], "--model", "m.gguf");
    assert_value(&plans[2], "--listen", "unix:/run/t/prefill.sock");
    assert_value(&plans[2], "--http-listen", "127.0.0.1:0");
    assert_value(&plans[2], "--log-level", "info");
    assert_value(&plans[2], "--drain-timeout", "30000ms");
    assert_string_equal(plans[3].name, "decode");
    assert_true(plans[CLI_CLUSTER_ROUTER].stop_rank < plans[3].stop_rank);
    assert_true(plans[3].stop_rank < plans[2].stop_rank);
    assert_true(plans[2].stop_rank < plans[CLI_CLUSTER_SCHEDULER].stop_rank);
    td_arena_fini(&planned.arena);
}

static void workers_are_numbered_and_the_cpus_divided(void **state)
{
    struct cli_cluster_options options = defaults();
    struct planned planned;
    const struct cli_child_plan *plans = planned.cluster.plans;

    (void)state;
    options.prefill = 1;
    options.decode = 2;
    assert_int_equal(plan(&planned, &options), TD_OK);
    assert_string_equal(plans[2].name, "prefill");
    assert_string_equal(plans[3].name, "decode-1");
    assert_string_equal(plans[4].name, "decode-2");
    assert_value(&plans[4], "--listen", "unix:/run/t/decode-2.sock");
    assert_value(&plans[2], "--device", "cpu"); /* said, for workers see the environment too */
    assert_value(&plans[2], "--numerics", "int8");
    assert_value(&plans[2], "--kv-dtype", "f16");
    assert_value(&plans[2], "--threads", "2");
    assert_value(&plans[3], "--threads", "2");
    assert_value(&plans[4], "--threads", "1");
    td_arena_fini(&planned.arena);
}

static void no_worker_gets_more_threads_than_a_worker_can_have(void **state)
{
    struct cli_cluster_options options = defaults();

    (void)state;
    assert_int_equal(cli_cluster_threads(&options, 4 * CPU_THREADS_MAX, 0), CPU_THREADS_MAX);
    assert_int_equal(cli_cluster_threads(&options, 2 * CPU_THREADS_MAX, 1), CPU_THREADS_MAX);
    assert_int_equal(cli_cluster_threads(&options, 1, 1), 1);
}

static void options_reach_the_processes(void **state)
{
    static char first[] = "one";
    static char second[] = "two";
    static char *names[] = {first, second};
    struct cli_cluster_options options = defaults();
    struct planned planned;
    const struct cli_child_plan *plans = planned.cluster.plans;

    (void)state;
    options.prefill = 0;
    options.host = "::1";
    options.port = 0;
    options.threads = 7;
    options.kv_bytes = 12345678901;
    options.kv_transport = 2;
    options.numerics = CPU_NUMERICS_F32;
    options.kv_dtype = CPU_KV_INT8;
    options.remote_tokens_min = 9;
    options.served_names = (struct td_flag_list){names, 2};
    assert_int_equal(plan(&planned, &options), TD_OK);
    assert_int_equal(planned.cluster.count, 3);
    assert_value(&plans[CLI_CLUSTER_ROUTER], "--listen", "[::1]:0");
    assert_ptr_equal(value(&plans[CLI_CLUSTER_ROUTER], "--listen", 0),
                     planned.cluster.router_address);
    assert_value(&plans[CLI_CLUSTER_SCHEDULER], "--remote-tokens-min", "9");
    assert_value(&plans[2], "--threads", "7");
    assert_value(&plans[2], "--kv-bytes", "12345678901");
    assert_value(&plans[2], "--kv-transport", "map");
    assert_value(&plans[2], "--numerics", "f32");
    assert_value(&plans[2], "--kv-dtype", "int8");
    assert_string_equal(value(&plans[2], "--served-model-name", 0), "one");
    assert_string_equal(value(&plans[2], "--served-model-name", 1), "two");
    td_arena_fini(&planned.arena);
}

static void too_many_workers_are_refused(void **state)
{
    struct cli_cluster_options options = defaults();
    struct planned planned;

    (void)state;
    options.prefill = 64;
    options.decode = CLI_WORKERS_MAX - 64;
    assert_int_equal(plan(&planned, &options), TD_OK);
    assert_int_equal(planned.cluster.count, CLI_CHILDREN_MAX);
    td_arena_fini(&planned.arena);
    options.decode++;
    assert_int_equal(plan(&planned, &options), TD_INVALID);
    assert_non_null(strstr(planned.error.text, "--decode"));
    td_arena_fini(&planned.arena);
}

/* ---- the folder for sockets ---- */

static void the_folder_for_sockets_is_private_and_goes_away(void **state)
{
    char path[CLI_RUNTIME_FOLDER_BYTES];
    char file[CLI_RUNTIME_FOLDER_BYTES + CLI_SOCKET_NAME_BYTES];
    struct td_error error = {0};
    struct stat info;
    FILE *stream;

    (void)state;
    assert_int_equal(cli_runtime_folder_make(path, &error), TD_OK);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);
    snprintf(file, sizeof file, "%s/decode-62.sock", path);
    stream = fopen(file, "w");
    assert_non_null(stream);
    fclose(stream);
    cli_runtime_folder_remove(path);
    assert_int_not_equal(stat(path, &info), 0);
}

static void a_runtime_directory_that_is_too_long_is_not_used(void **state)
{
    char path[CLI_RUNTIME_FOLDER_BYTES];
    struct td_error error = {0};

    (void)state;
    setenv("XDG_RUNTIME_DIR",
           "/tmp/a-folder-with-a-name-that-leaves-no-room-for-the-name-of-a-socket-behind-it", 1);
    assert_int_equal(cli_runtime_folder_make(path, &error), TD_OK);
    assert_int_equal(strncmp(path, "/tmp/tandem-", 12), 0);
    cli_runtime_folder_remove(path);
    unsetenv("XDG_RUNTIME_DIR");
}

static void expect_refused(const struct cli_cluster_options *options, const char *part)
{
    struct planned planned;

    assert_int_equal(plan(&planned, options), TD_INVALID);
    if (strstr(planned.error.text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, planned.error.text);
    td_arena_fini(&planned.arena);
}

static bool has_word(const struct cli_child_plan *plan, const char *word)
{
    for (size_t i = 0; plan->argv[i] != NULL; i++)
        if (strcmp(plan->argv[i], word) == 0)
            return true;
    return false;
}

static void one_gpu_is_divided_among_the_workers(void **state)
{
    struct cli_cluster_options options = defaults();
    struct planned planned;

    (void)state;
    options.gpu = true;
    assert_int_equal(plan(&planned, &options), TD_OK);
    for (size_t i = CLI_CLUSTER_WORKERS; i < planned.cluster.count; i++) {
        assert_value(&planned.cluster.plans[i], "--device", "gpu");
        assert_value(&planned.cluster.plans[i], "--gpu-memory-fraction", "0.450000");
        assert_value(&planned.cluster.plans[i], "--gpu-weights", "as-is");
        assert_value(&planned.cluster.plans[i], "--gpu-warpgroups", "auto");
        assert_value(&planned.cluster.plans[i], "--gpu-launches", "auto");
        assert_false(has_word(&planned.cluster.plans[i], "--fast-variant"));
        assert_null(value(&planned.cluster.plans[i], "--threads", 0));
        assert_null(value(&planned.cluster.plans[i], "--numerics", 0));
        assert_null(value(&planned.cluster.plans[i], "--kv-dtype", 0));
    }
    td_arena_fini(&planned.arena);
    options.decode = 2;
    options.gpu_memory_fraction = "0.25";
    options.fast_variant = true;
    options.gpu_warpgroups = CUDA_WARPGROUPS_OFF;
    options.gpu_launches = CUDA_LAUNCHES_PLAIN;
    assert_int_equal(plan(&planned, &options), TD_OK);
    assert_value(&planned.cluster.plans[4], "--gpu-memory-fraction", "0.250000");
    for (size_t i = CLI_CLUSTER_WORKERS; i < planned.cluster.count; i++) {
        assert_true(has_word(&planned.cluster.plans[i], "--fast-variant"));
        assert_value(&planned.cluster.plans[i], "--gpu-warpgroups", "off");
        assert_value(&planned.cluster.plans[i], "--gpu-launches", "plain");
    }
    td_arena_fini(&planned.arena);
}

static void flags_that_do_not_go_with_a_gpu_are_refused(void **state)
{
    struct cli_cluster_options options = defaults();

    (void)state;
    options.gpu_memory_fraction = "0.5";
    expect_refused(&options, "--gpu");
    options.gpu_memory_fraction = NULL;
    options.fast_variant = true; /* as the environment says it too */
    expect_refused(&options, "TANDEM_FAST_VARIANT");
    options.fast_variant = false;
    options.gpu_warpgroups = CUDA_WARPGROUPS_OFF;
    expect_refused(&options, "TANDEM_GPU_WARPGROUPS");
    options.gpu_warpgroups = CUDA_WARPGROUPS_AUTO;
    options.gpu_launches = CUDA_LAUNCHES_PLAIN;
    expect_refused(&options, "TANDEM_GPU_LAUNCHES");
    options.gpu_launches = CUDA_LAUNCHES_AUTO;
    options.gpu_weights = CUDA_WEIGHTS_FP8;
    expect_refused(&options, "--gpu-weights");
    options.gpu = true;
    options.fast_variant = true;
    expect_refused(&options, "as-is");
    options.fast_variant = false;
    options.gpu_weights = CUDA_WEIGHTS_AS_IS;
    options.gpu_memory_fraction = "2";
    expect_refused(&options, "at most 1");
    options.gpu_memory_fraction = NULL;
    options.threads = 3;
    expect_refused(&options, "--threads");
    options.threads = 0;
    options.numerics = CPU_NUMERICS_F32;
    expect_refused(&options, "--numerics");
    options.numerics = CPU_NUMERICS_INT8;
    options.kv_dtype = CPU_KV_INT8;
    expect_refused(&options, "--kv-dtype");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_gpu_is_divided_among_the_workers),
        cmocka_unit_test(flags_that_do_not_go_with_a_gpu_are_refused),
        cmocka_unit_test(a_cluster_is_a_scheduler_a_router_and_workers),
        cmocka_unit_test(workers_are_numbered_and_the_cpus_divided),
        cmocka_unit_test(no_worker_gets_more_threads_than_a_worker_can_have),
        cmocka_unit_test(options_reach_the_processes),
        cmocka_unit_test(too_many_workers_are_refused),
        cmocka_unit_test(the_folder_for_sockets_is_private_and_goes_away),
        cmocka_unit_test(a_runtime_directory_that_is_too_long_is_not_used),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
