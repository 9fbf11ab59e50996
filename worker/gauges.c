/*
 * gauges.c: what a worker shows on /metrics: counters of the core, the balance of the pool, the engine's
 * load, transfers, and the process's own cost. Rendered on the loop.
 */
#include "lib/base/self.h"
#include "worker/runtime_internal.h"

#define GAUGES_SERIES_MAX 160

static const struct td_metric counter_families[] = {
#define X(member, text) \
    {.name = "tandem_worker_" #member "_total", .kind = TD_METRIC_COUNTER, .help = text "."},
    WORKER_COUNTERS_MAP(X)
#undef X
};

static const struct td_metric transfer_families[] = {
#define X(NAME, text, is_gauge, about)                                                    \
    {.name = (is_gauge) ? "tandem_kvtransfer_" text : "tandem_kvtransfer_" text "_total", \
     .kind = (is_gauge) ? TD_METRIC_GAUGE : TD_METRIC_COUNTER,                            \
     .help = about "."},
    KVT_STATS(X)
#undef X
};

static const struct td_metric blocks = {.name = "tandem_kv_blocks",
                                        .kind = TD_METRIC_GAUGE,
                                        .label = "state",
                                        .help =
                                            "Blocks of the pool by state; they add up to total."};

/* member of struct engine_balance */
#define BALANCE_MAP(X) \
    X(total)           \
    X(free)            \
    X(cached)          \
    X(running)         \
    X(reserved)        \
    X(landing)         \
    X(held)            \
    X(quarantined)

/* member of struct engine_load, name, kind, help */
#define LOAD32_MAP(X)                                                                             \
    X(running, "tandem_engine_running", GAUGE, "Sequences in the batch.")                         \
    X(prefilling, "tandem_engine_prefilling", GAUGE, "Of those, whose prompts are not complete.") \
    X(prefilling_tokens, "tandem_engine_prefilling_tokens", GAUGE,                                \
      "Prompt tokens of those that are still to be computed.")                                    \
    X(waiting, "tandem_engine_waiting", GAUGE, "Sequences that have not started.")                \
    X(waiting_tokens, "tandem_engine_waiting_tokens", GAUGE,                                      \
      "Their prompt tokens, those of imports left out.")

#define LOAD64_MAP(X)                                                                            \
    X(steps, "tandem_engine_steps_total", COUNTER, "Batch steps.")                               \
    X(prompt_tokens, "tandem_engine_prompt_tokens_total", COUNTER, "Prompt tokens computed.")    \
    X(cached_tokens, "tandem_engine_cached_tokens_total", COUNTER,                               \
      "Prompt tokens not computed thanks to the prefix cache.")                                  \
    X(new_tokens, "tandem_engine_new_tokens_total", COUNTER, "Tokens sampled.")                  \
    X(draws_left, "tandem_engine_draws_left_total", COUNTER,                                     \
      "Tokens sampled on the host, since a GPU had no room for their penalties.")                \
    X(preemptions, "tandem_engine_preemptions_total", COUNTER, "Sequences put back for memory.") \
    X(stray_commands, "tandem_engine_stray_commands_total", COUNTER,                             \
      "Commands that crossed an event and did nothing.")                                         \
    X(content_conflicts, "tandem_engine_content_conflicts_total", COUNTER,                       \
      "Equal tokens with different KV; never, unless something is broken.")

/* member of struct worker_gauges, help */
#define OBJECTS_MAP(X)                                                     \
    X(requests, "Requests, ended and not yet acknowledged ones included.") \
    X(links, "Routers connected.")                                         \
    X(imports, "KV imports under way.")                                    \
    X(exports, "Asks being served: leases held by others.")                \
    X(pairs, "Peers paired or being paired.")                              \
    X(transfers_in, "Imports whose transfer has not ended.")               \
    X(transfers_out, "Exports whose transfer has not ended.")

static const struct td_metric load_families[] = {
#define X(member, text, kind_, about) {.name = text, .kind = TD_METRIC_##kind_, .help = about},
    LOAD32_MAP(X) LOAD64_MAP(X)
#undef X
};

static const struct td_metric object_families[] = {
#define X(member, about) {.name = "tandem_worker_" #member, .kind = TD_METRIC_GAUGE, .help = about},
    OBJECTS_MAP(X)
#undef X
};

static const struct td_metric step_age = {.name = "tandem_engine_step_age_seconds",
                                          .kind = TD_METRIC_GAUGE,
                                          .help = "How long the present step has been running."};

static const struct td_metric transfer_age = {
    .name = "tandem_kvtransfer_turn_age_seconds",
    .kind = TD_METRIC_GAUGE,
    .help = "How long the transfer thread has been at its present turn; 0: it sleeps."};

/* Nanoseconds: what hardly matters beside a step, and what does. */
static const uint64_t gap_bounds_ns[] = {5000,   10000,   20000,    50000,     100000,     200000,
                                         500000, 1000000, 10000000, 100000000, 1000000000, 0};

static const struct td_metric gap = {.name = "tandem_engine_gap_seconds",
                                     .kind = TD_METRIC_HISTOGRAM,
                                     .bounds = gap_bounds_ns,
                                     .unit = 1e9,
                                     .help = "How long the engine took between two steps, without "
                                             "handing the step to the device, where there was "
                                             "something to compute."};

/* name, kind, help; zero without a GPU. */
#define GPU_MAP(X)                                                                               \
    X(memory_bytes, "tandem_gpu_memory_bytes", GAUGE, "Memory of the GPU; 0: the CPU computes.") \
    X(kv_bytes, "tandem_gpu_kv_bytes", GAUGE,                                                    \
      "Of that, the KV block pool, whose blocks tandem_kv_blocks counts.")

static const struct td_metric gpu_families[] = {
#define X(member, text, kind_, about) {.name = text, .kind = TD_METRIC_##kind_, .help = about},
    GPU_MAP(X)
#undef X
};

static double read_u32(void *context)
{
    return *(const uint32_t *)context;
}

static double read_u64(void *context)
{
    return (double)*(const uint64_t *)context;
}

static double read_atomic(void *context)
{
    const _Atomic uint64_t *value = context;

    return (double)atomic_load_explicit(value, memory_order_relaxed);
}

static double read_step_age(void *context)
{
    const struct worker_runtime *runtime = context;

    return (double)engine_runtime_step_age_ns(runtime->engines.engine) / 1e9;
}

static double read_transfer_age(void *context)
{
    const struct worker_runtime *runtime = context;
    uint64_t started_ns = kvt_runtime_turn_started_ns(runtime->engines.transfers);
    uint64_t now_ns = td_now_ns();

    return started_ns == 0 || now_ns < started_ns ? 0 : (double)(now_ns - started_ns) / 1e9;
}

static void register_engine(struct worker_runtime *runtime)
{
    struct td_metrics *metrics = runtime->metrics;
    const struct td_metric *family = load_families;

#define X(member) \
    td_metrics_callback(metrics, &blocks, #member, read_u32, &runtime->load.balance.member);
    BALANCE_MAP(X)
#undef X
#define X(member, text, kind_, about) \
    td_metrics_callback(metrics, family++, NULL, read_u32, &runtime->load.member);
    LOAD32_MAP(X)
#undef X
#define X(member, text, kind_, about) \
    td_metrics_callback(metrics, family++, NULL, read_u64, &runtime->load.member);
    LOAD64_MAP(X)
#undef X
    td_metrics_callback(metrics, &step_age, NULL, read_step_age, runtime);
    engine_runtime_measure_gaps(runtime->engines.engine, td_metrics_histogram(metrics, &gap, NULL));
}

static void register_core(struct worker_runtime *runtime)
{
    struct td_metrics *metrics = runtime->metrics;
    const struct td_metric *family = counter_families;

#define X(member, text) \
    td_metrics_callback(metrics, family++, NULL, read_u64, &runtime->counters.member);
    WORKER_COUNTERS_MAP(X)
#undef X
    family = object_families;
#define X(member, about) \
    td_metrics_callback(metrics, family++, NULL, read_u32, &runtime->gauges.member);
    OBJECTS_MAP(X)
#undef X
}

static void register_gpu(struct worker_runtime *runtime)
{
    const struct td_metric *family = gpu_families;

#define X(member, text, kind_, about) \
    td_metrics_callback(runtime->metrics, family++, NULL, read_u64, &runtime->gpu.member);
    GPU_MAP(X)
#undef X
}

static void look_at_gpu(struct worker_runtime *runtime)
{
    const struct worker_engines *engines = &runtime->engines;

    if (engines->device == NULL)
        return;
    runtime->gpu = (struct worker_gpu_gauges){
        .memory_bytes = engines->device->info.memory_bytes,
        .kv_bytes = (uint64_t)engines->kv.block_count * engines->kv.block_bytes,
    };
}

td_status_t worker_gauges_open(struct worker_runtime *runtime)
{
    const struct kvt_stats *stats = kvt_runtime_stats(runtime->engines.transfers);
    td_status_t status =
        td_metrics_new(GAUGES_SERIES_MAX, "model_name", runtime->model_name, &runtime->metrics);

    if (status != TD_OK)
        return status;
    register_engine(runtime);
    register_core(runtime);
    register_gpu(runtime);
    for (size_t i = 0; i < KVT_STAT_COUNT; i++)
        td_metrics_callback(runtime->metrics, &transfer_families[i], NULL, read_atomic,
                            (void *)(uintptr_t)&stats->values[i]);
    td_metrics_callback(runtime->metrics, &transfer_age, NULL, read_transfer_age, runtime);
    td_self_register(runtime->metrics);
    return TD_OK;
}

void worker_gauges_render(struct worker_runtime *runtime, struct td_buf *out)
{
    runtime->load = *worker_core_load(runtime->core);
    runtime->counters = *worker_core_counters(runtime->core);
    worker_core_gauges(runtime->core, &runtime->gauges);
    look_at_gpu(runtime);
    if (runtime->load.balance.total == 0) { /* no step yet: the pool is all free */
        runtime->load.balance.total = runtime->engines.kv.block_count;
        runtime->load.balance.free = runtime->engines.kv.block_count;
    }
    td_metrics_render(runtime->metrics, out);
}

void worker_metrics_print_markdown(struct td_buf *out)
{
    td_metrics_print_markdown(&blocks, 1, out);
    td_metrics_print_markdown(load_families, sizeof load_families / sizeof load_families[0], out);
    td_metrics_print_markdown(&step_age, 1, out);
    td_metrics_print_markdown(&gap, 1, out);
    td_metrics_print_markdown(gpu_families, sizeof gpu_families / sizeof gpu_families[0], out);
    td_metrics_print_markdown(counter_families,
                              sizeof counter_families / sizeof counter_families[0], out);
    td_metrics_print_markdown(object_families, sizeof object_families / sizeof object_families[0],
                              out);
    td_metrics_print_markdown(transfer_families,
                              sizeof transfer_families / sizeof transfer_families[0], out);
    td_metrics_print_markdown(&transfer_age, 1, out);
}
