/*
 * test_runtime_gpu.c: workers with --device gpu, where the GPU is an interpreted one: the backend, its pool and the
 * way of KV through the host are those of production, and so are the sockets.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "tests/worker/gpu_double.h"
#include "tests/worker/runtime_site.h"

#define DEVICE_BYTES ((size_t)64 << 20)
#define PROMPT       40 /* two full blocks and a tail */
#define OUTPUT       4

/* ------------------------------------------------------------------ a GPU for each worker */

/* The interpreter has one state for all devices, whose workers have an engine thread each. */
static pthread_mutex_t interpreter_mutex = PTHREAD_MUTEX_INITIALIZER;
static const struct cuda_device_ops *interpreted_ops;
static struct cuda_device_ops gpu_ops;

static struct cuda_device *gpus[2];
static atomic_bool has_warpgroups; /* of all, for which product_wide fails */
static atomic_int failing = -1;    /* the GPU that fails from now on */
static atomic_bool hash_hangs;     /* nobody who waits for hashes hears of them */
static sem_t hash_goes_on;
static atomic_int
    steps_left; /* of the first GPU; the last of them waits before it begins. 0: none does */
static atomic_bool step_waits;
static atomic_int replays; /* of recorded steps, by all */
static sem_t step_goes_on;

/* Kernels fail when they have run: it is met by whoever waits. */
static td_status_t wait_for_gpu(struct cuda_device *device, struct td_error *error)
{
    int index = atomic_load(&failing);

    if (atomic_load(&hash_hangs) && device != gpus[0] && device != gpus[1])
        while (sem_wait(&hash_goes_on) != 0)
            ;
    if (index >= 0 && device == gpus[index])
        return td_fail(error, TD_INTERNAL, "work on the GPU failed: an illegal address");
    return interpreted_ops->wait(device, error);
}

static bool is_wide(enum cuda_kernel kernel)
{
    switch ((int)kernel) {
#define X(name, member) case CUDA_KERNEL_PRODUCT_WIDE_##member:
        CUDA_PACKED_TYPES(X)
#undef X
        return true;
    default: return false;
    }
}

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    td_status_t status;

    if (is_wide(kernel))
        return td_fail(error, TD_INTERNAL, "an illegal instruction");
    if (device == gpus[0] && kernel == CUDA_KERNEL_EMBED && atomic_load(&steps_left) > 0 &&
        atomic_fetch_sub(&steps_left, 1) == 1) {
        atomic_store(&step_waits, true);
        while (sem_wait(&step_goes_on) != 0)
            ;
    }
    pthread_mutex_lock(&interpreter_mutex);
    status = interpreted_ops->launch(device, kernel, grid, args, error);
    pthread_mutex_unlock(&interpreter_mutex);
    return status;
}

static td_status_t replay(struct cuda_device *device, struct cuda_graph *graph,
                          struct td_error *error)
{
    td_status_t status;

    atomic_fetch_add(&replays, 1);
    pthread_mutex_lock(&interpreter_mutex);
    status = interpreted_ops->replay(device, graph, error);
    pthread_mutex_unlock(&interpreter_mutex);
    return status;
}

static void close_gpu(struct cuda_device *device)
{
    for (int i = 0; i < 2; i++)
        if (gpus[i] == device)
            gpus[i] = NULL;
    interpreted_ops->close(device);
}

static td_status_t open_gpu(uint32_t index, struct cuda_device **device_out, struct td_error *error)
{
    td_status_t status;

    if (index > 1)
        return td_fail(error, TD_NOT_FOUND, "there is no GPU %u", index);
    status = interpreter_open(DEVICE_BYTES, device_out, error);
    if (status != TD_OK)
        return status;
    (*device_out)->info.has_warpgroups = atomic_load(&has_warpgroups);
    interpreted_ops = (*device_out)->ops;
    gpu_ops = *interpreted_ops;
    gpu_ops.launch = launch;
    gpu_ops.replay = replay;
    gpu_ops.wait = wait_for_gpu;
    gpu_ops.close = close_gpu;
    (*device_out)->ops = &gpu_ops;
    if (gpus[index] == NULL)
        gpus[index] = *device_out; /* the engine's; another is for hashing */
    return TD_OK;
}

static int set_up(void **state)
{
    site_open_gpu = open_gpu;
    site_open_gpu_pool = gpu_double_open;
    return site_warm_up(state);
}

/* ------------------------------------------------------------------ tests */

static const char *const prefill_flags[] = {"--device=gpu", "--gpu-memory-fraction=0.4", NULL};
static const char *const decode_flags[] = {"--device=gpu:1", "--gpu-memory-fraction=0.4", NULL};
static const char *const auto_prefill_flags[] = {"--device=gpu", "--gpu-memory-fraction=0.4",
                                                 "--kv-transport=auto", NULL};
static const char *const auto_decode_flags[] = {"--device=gpu:1", "--gpu-memory-fraction=0.4",
                                                "--kv-transport=auto", NULL};

static uint64_t staged_bytes(const struct station *station)
{
    return kvt_stats_get(kvt_runtime_stats(station->runtime->engines.transfers),
                         KVT_STAT_BYTES_STAGED);
}

static void expect_metric(struct station *station, const char *name, uint64_t value)
{
    struct td_buf page;
    char line[160];

    td_buf_init(&page, 1 << 20);
    worker_gauges_render(station->runtime, &page);
    snprintf(line, sizeof line, "\n%s{model_name=\"model\"} %llu.0\n", name,
             (unsigned long long)value);
    assert_int_equal(page.status, TD_OK);
    if (strstr(page.data, line) == NULL)
        fail_msg("not there:%sin %s", line, strstr(page.data, name));
    td_buf_fini(&page);
}

struct crossing {
    bool devices_reach;
    bool cannot_share;
    bool cannot_open;
    const char *transport; /* by which it goes then */
    uint32_t staged_blocks;
};

/* Three blocks: two full ones and a tail. */
static void cross(const struct crossing *crossing)
{
    struct site site;
    struct router router;
    struct start start = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};
    uint32_t expected[OUTPUT];
    struct heard *heard;
    size_t block_bytes;

    gpu_double_reach(crossing->devices_reach);
    gpu_double_share(!crossing->cannot_share);
    gpu_double_open_shared(!crossing->cannot_open);
    site_open(&site);
    station_open(&site, &site.prefill, crossing->cannot_share ? auto_prefill_flags : prefill_flags);
    station_open(&site, &site.decode, crossing->cannot_share ? auto_decode_flags : decode_flags);
    assert_string_equal(site.decode.runtime->core->identity.model.numerics, CUDA_NUMERICS);
    block_bytes = site.decode.runtime->engines.kv.block_bytes;
    router_open(&router, &site.prefill);
    memcpy(expected, router_ask(&router, &start)->tokens, sizeof expected);
    router_close(&router);

    router_open(&router, &site.decode);
    start.prefill[0] = site.prefill.options.listen;
    heard = router_ask(&router, &start);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_int_equal(heard->count, OUTPUT);
    assert_memory_equal(heard->tokens, expected, sizeof expected);
    assert_string_equal(heard->fallback, "");
    assert_int_equal(heard->remote_blocks, (PROMPT + 15) / 16);
    if (strstr(heard->transport, crossing->transport) == NULL)
        fail_msg("by '%s' instead of '%s'", heard->transport, crossing->transport);
    assert_int_equal(station_counters(&site.decode)->imports_landed, 1);
    assert_in_range(staged_bytes(&site.decode), crossing->staged_blocks * block_bytes,
                    crossing->staged_blocks * (block_bytes + KVT_ATTACHMENT_BYTES_MAX));
    expect_metric(&site.decode, "tandem_gpu_memory_bytes", DEVICE_BYTES);

    heard = router_ask(&router, &start); /* full blocks are cached on the device now */
    assert_memory_equal(heard->tokens, expected, sizeof expected);
    router_close(&router);
    station_end(&site.decode);
    station_end(&site.prefill);
    site_close(&site);
    gpu_double_share(true);
    gpu_double_open_shared(true);
}

static void kv_goes_from_device_to_device_and_the_tokens_are_the_same(void **state)
{
    (void)state;
    cross(&(struct crossing){.devices_reach = true, .transport = "map"});
}

static void kv_goes_through_the_host_where_devices_cannot_reach_each_other(void **state)
{
    (void)state;
    cross(&(struct crossing){.transport = "through the host (map)", .staged_blocks = 3});
}

static void workers_start_where_a_gpus_pool_cannot_be_shared(void **state)
{
    (void)state;
    cross(&(struct crossing){.devices_reach = true,
                             .cannot_share = true,
                             .transport = "through the host (map)",
                             .staged_blocks = 3});
}

static void kv_goes_through_the_host_where_a_peers_pool_cannot_be_opened_after_all(void **state)
{
    (void)state;
    cross(&(struct crossing){.devices_reach = true,
                             .cannot_open = true,
                             .transport = "through the host (map)",
                             .staged_blocks = 3});
}

/* It says why, is not healthy, and ends by itself with the status for which supervisors start another. */
static void expect_lost(struct station *station)
{
    struct front_backend backend = worker_local_backend(station->runtime);
    char why[256] = "";

    site_until(station->site, station_has_stopped, station);
    assert_int_equal(station->exit_status, NET_EXIT_LOST);
    assert_false(backend.is_healthy(backend.impl, why, sizeof why));
    assert_non_null(strstr(why, "an illegal address"));
    station_close(station);
}

static void a_prefill_worker_that_loses_its_gpu_ends_and_decode_goes_on_alone(void **state)
{
    struct site site;
    struct router router;
    struct start start = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};
    uint32_t expected[OUTPUT];
    struct heard *heard;

    (void)state;
    site_open(&site);
    station_open(&site, &site.prefill, prefill_flags);
    station_open(&site, &site.decode, decode_flags);
    router_open(&router, &site.decode);
    start.prefill[0] = site.prefill.options.listen;
    atomic_store(&failing, 0);
    heard = router_ask(&router, &start);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_string_not_equal(heard->fallback, "");
    memcpy(expected, heard->tokens, sizeof expected);
    expect_lost(&site.prefill);
    start.prefill[0] = NULL;
    assert_memory_equal(router_ask(&router, &start)->tokens, expected, sizeof expected);
    atomic_store(&failing, -1);
    router_close(&router);
    station_end(&site.decode);
    site_close(&site);
}

static void a_decode_worker_that_loses_its_gpu_fails_what_runs_and_ends(void **state)
{
    struct site site;
    struct router router;
    struct heard *heard;

    (void)state;
    site_open(&site);
    station_open(&site, &site.decode, decode_flags);
    router_open(&router, &site.decode);
    heard = router_start(&router, &(struct start){.prompt_tokens = 20, .max_new_tokens = 400});
    site_until(&site, heard_token, heard);
    atomic_store(&failing, 1);
    site_until(&site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_FAILED);
    expect_lost(&site.decode);
    atomic_store(&failing, -1);
    router_close(&router);
    site_close(&site);
}

static bool has_hung(void *station)
{
    return ((const struct station *)station)->hangs > 0;
}

/* The asker has the KV all the same when the GPU goes on, for in a test the process does not end. */
static void a_gpu_that_hangs_in_the_transfer_thread_is_seen(void **state)
{
    static const char *const flags[] = {"--device=gpu", "--gpu-memory-fraction=0.4",
                                        "--step-time=500ms", "--hang-time=1s", NULL};
    struct start start = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};
    struct heard *heard;
    struct router router;
    struct site site;

    (void)state;
    sem_init(&hash_goes_on, 0, 0);
    site_open(&site);
    station_open(&site, &site.prefill, flags);
    station_open(&site, &site.decode, decode_flags);
    router_open(&router, &site.decode);
    start.prefill[0] = site.prefill.options.listen;
    atomic_store(&hash_hangs, true);
    heard = router_start(&router, &start);
    site_until(&site, has_hung, &site.prefill);
    assert_true(kvt_runtime_turn_started_ns(site.prefill.runtime->engines.transfers) > 0);
    atomic_store(&hash_hangs, false);
    sem_post(&hash_goes_on);
    site_until(&site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    router_close(&router);
    station_end(&site.decode);
    station_end(&site.prefill);
    site_close(&site);
    sem_destroy(&hash_goes_on);
}

static void let_drains_go(void)
{
    gpu_double_hold_drains(false);
}

/* It stands still when the worker closes: without the hang-time nobody would come back from that. */
static void a_gpu_that_hangs_while_the_worker_closes_is_seen(void **state)
{
    static const char *const flags[] = {"--device=gpu", "--gpu-memory-fraction=0.4",
                                        "--step-time=500ms", "--hang-time=1s", NULL};
    struct site site;

    (void)state;
    site_open(&site);
    station_open(&site, &site.prefill, flags);
    site_hung = let_drains_go;
    gpu_double_hold_drains(true);
    station_end(&site.prefill);
    assert_int_equal(site.prefill.hangs, 1);
    site_hung = NULL;
    site_close(&site);
}

static bool first_block_is_there(void *station)
{
    const struct worker_engines *engines = &((const struct station *)station)->runtime->engines;

    return atomic_load(&step_waits) &&
           kvt_stats_get(kvt_runtime_stats(engines->transfers), KVT_STAT_BYTES_RECEIVED) >=
               engines->kv.block_bytes;
}

/* Three steps for the prompt: what the first has made lands, verified, while the last has not begun. */
static void blocks_travel_while_the_rest_of_the_prompt_is_computed(void **state)
{
    static const char *const flags[] = {"--device=gpu",     "--gpu-memory-fraction=0.4",
                                        "--step-tokens=16", "--sequences-max=8",
                                        "--step-time=60s",  NULL};
    struct start start = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};
    struct heard *heard;
    struct router router;
    struct site site;

    (void)state;
    sem_init(&step_goes_on, 0, 0);
    gpu_double_reach(true);
    site_open(&site);
    station_open(&site, &site.prefill, flags);
    station_open(&site, &site.decode, decode_flags);
    router_open(&router, &site.decode);
    start.prefill[0] = site.prefill.options.listen;
    atomic_store(&steps_left, 3);
    heard = router_start(&router, &start);
    site_until(&site, first_block_is_there, &site.decode);
    sem_post(&step_goes_on);
    site_until(&site, heard_end, heard);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    assert_string_equal(heard->fallback, "");
    assert_int_equal(heard->remote_blocks, (PROMPT + 15) / 16);
    router_close(&router);
    station_end(&site.decode);
    station_end(&site.prefill);
    site_close(&site);
    sem_destroy(&step_goes_on);
}

static void kv_bytes_bound_the_pool_on_the_device(void **state)
{
    const char *const flags[] = {"--device=gpu", "--kv-bytes=1MiB", NULL};
    struct site site;
    const struct engine_kv *kv;

    (void)state;
    site_open(&site);
    station_open(&site, &site.decode, flags);
    kv = &site.decode.runtime->engines.kv;
    assert_int_equal(kv->block_count, (1 << 20) / kv->block_bytes);
    station_end(&site.decode);
    site_close(&site);
}

static void expect_refusal(const char *const *flags, td_status_t status, const char *part)
{
    struct site site;
    struct td_error error = {0};

    site_open(&site);
    assert_int_equal(station_try(&site, &site.decode, flags, &error), status);
    if (strstr(error.text, part) == NULL)
        fail_msg("'%s' is not in: %s", part, error.text);
    site_close(&site);
}

static void what_is_not_there_or_does_not_fit_is_said_in_a_sentence(void **state)
{
    (void)state;
    expect_refusal((const char *const[]){"--device=gpu:7", NULL}, TD_NOT_FOUND, "no GPU 7");
    expect_refusal((const char *const[]){"--device=gpu", "--gpu-memory-fraction=0.0001", NULL},
                   TD_NO_MEMORY, "weights");
    expect_refusal((const char *const[]){"--device=tpu", NULL}, TD_INVALID, "--device 'tpu'");
    gpu_double_share(false); /* the site says --kv-transport=map */
    expect_refusal(prefill_flags, TD_INTERNAL, "--kv-transport auto takes another way");
    gpu_double_share(true);
}

static void warpgroups_that_fail_can_be_left_out(void **state)
{
    const char *const without[] = {"--device=gpu", "--gpu-warpgroups=off", NULL};
    struct site site;

    (void)state;
    atomic_store(&has_warpgroups, true);
    expect_refusal((const char *const[]){"--device=gpu", NULL}, TD_INTERNAL,
                   "--gpu-warpgroups off");
    site_open(&site);
    station_open(&site, &site.decode, without);
    station_end(&site.decode);
    site_close(&site);
    atomic_store(&has_warpgroups, false);
}

/* What a worker answers, and how many recorded steps it took for that. */
static int ask_launched(const char *launches, uint32_t tokens[OUTPUT])
{
    const char *const flags[] = {"--device=gpu", launches, NULL};
    struct start start = {.prompt_tokens = PROMPT, .max_new_tokens = OUTPUT};
    struct heard *heard;
    struct router router;
    struct site site;

    atomic_store(&replays, 0);
    site_open(&site);
    station_open(&site, &site.decode, flags);
    assert_int_equal(gpus[0]->launches_early,
                     site.decode.options.gpu_launches == CUDA_LAUNCHES_AUTO);
    router_open(&router, &site.decode);
    heard = router_ask(&router, &start);
    assert_int_equal(heard->finish, TD__FINISH__FINISH_LENGTH);
    memcpy(tokens, heard->tokens, OUTPUT * sizeof *tokens);
    router_close(&router);
    station_end(&site.decode);
    site_close(&site);
    return atomic_load(&replays);
}

static void plain_launches_give_the_same_tokens_without_graphs(void **state)
{
    uint32_t tokens[2][OUTPUT];

    (void)state;
    assert_true(ask_launched("--gpu-launches=auto", tokens[0]) > 0);
    assert_int_equal(ask_launched("--gpu-launches=plain", tokens[1]), 0);
    assert_memory_equal(tokens[0], tokens[1], sizeof tokens[0]);
}

static void flags_of_the_cpu_are_refused_with_a_gpu(void **state)
{
    static const struct {
        const char *flags[5];
        const char *part;
    } cases[] = {
        {{"--device=gpu", NULL}, "--threads"}, /* the site says --threads=1 */
        {{"--device=gpu", "--threads=0", "--numerics=f32", NULL}, "--numerics"},
        {{"--device=gpu", "--threads=0", "--kv-dtype=int8", NULL}, "--kv-dtype"},
        {{"--device=gpu", "--threads=0", "--gpu-memory-fraction=1.01", NULL}, "at most 1"},
        {{"--device=gpu", "--threads=0", "--gpu-memory-fraction=0", NULL}, "above 0"},
        {{"--device=gpu", "--threads=0", "--gpu-memory-fraction=0.5x", NULL}, "0.5x"},
        {{"--gpu-memory-fraction=0.5", NULL}, "--device gpu"},
        {{"--fast-variant", NULL}, "--fast-variant is for --device gpu"},
        {{"--gpu-weights=fp8", NULL}, "--gpu-weights is for --device gpu"},
        {{"--gpu-warpgroups=off", NULL}, "--gpu-warpgroups is for --device gpu"},
        {{"--gpu-warpgroups=auto", NULL}, NULL},
        {{"--gpu-launches=plain", NULL}, "--gpu-launches is for --device gpu"},
        {{"--gpu-launches=auto", NULL}, NULL},
        {{"--device=gpu", "--threads=0", "--gpu-weights=fp8", "--fast-variant"}, "as-is"},
        {{"--device=gpu", "--threads=0", "--gpu-weights=fp8", NULL}, NULL},
        {{"--device=gpu:", NULL}, "gpu:N"},
        {{"--device=gpu:99999", NULL}, "gpu:N"},
        {{"--device=cuda:0", "--threads=0", NULL}, NULL},
        {{"--device=gpu", "--threads=0", "--weights-cache=/anywhere", NULL}, NULL}, /* a place */
        {{"--device=cpu", NULL}, NULL},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct station station = {0};
        struct td_error error = {0};
        td_status_t status;

        station_parse(&station, cases[i].flags);
        status = worker_options_check(&station.options, &error);
        assert_int_equal(status, cases[i].part != NULL ? TD_INVALID : TD_OK);
        if (cases[i].part != NULL && strstr(error.text, cases[i].part) == NULL)
            fail_msg("'%s' is not in: %s", cases[i].part, error.text);
        td_arena_fini(&station.arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kv_goes_from_device_to_device_and_the_tokens_are_the_same),
        cmocka_unit_test(kv_goes_through_the_host_where_devices_cannot_reach_each_other),
        cmocka_unit_test(workers_start_where_a_gpus_pool_cannot_be_shared),
        cmocka_unit_test(kv_goes_through_the_host_where_a_peers_pool_cannot_be_opened_after_all),
        cmocka_unit_test(a_prefill_worker_that_loses_its_gpu_ends_and_decode_goes_on_alone),
        cmocka_unit_test(a_decode_worker_that_loses_its_gpu_fails_what_runs_and_ends),
        cmocka_unit_test(a_gpu_that_hangs_in_the_transfer_thread_is_seen),
        cmocka_unit_test(a_gpu_that_hangs_while_the_worker_closes_is_seen),
        cmocka_unit_test(blocks_travel_while_the_rest_of_the_prompt_is_computed),
        cmocka_unit_test(kv_bytes_bound_the_pool_on_the_device),
        cmocka_unit_test(what_is_not_there_or_does_not_fit_is_said_in_a_sentence),
        cmocka_unit_test(warpgroups_that_fail_can_be_left_out),
        cmocka_unit_test(plain_launches_give_the_same_tokens_without_graphs),
        cmocka_unit_test(flags_of_the_cpu_are_refused_with_a_gpu),
    };

    return cmocka_run_group_tests(tests, set_up, NULL);
}
