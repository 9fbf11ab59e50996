/*
 * load.c: what a worker needs before it can be asked anything: model, tokenizer, weights (load_model.c), pool,
 * the engine thread and the transfer thread. Runs before the loop does; a signal ends the process then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/team.h"
#include "kvtransfer/memory.h"
#include "lib/base/cpus.h"
#include "worker/interrupt.h"
#include "worker/runtime_internal.h"

/* So far are steps kept, as well as they can be foretold, from the time that means a hang. */
#define STEPS_PER_STEP_TIME 10

/* --- names --- */

/* worker_options_check has seen to it that they fit. */
static void take_names(const struct worker_options *options, struct worker_identity *identity)
{
    const struct td_flag_list *names = &options->served_names;

    for (size_t i = 0; i < names->count; i++)
        snprintf(identity->models[i], WORKER_MODEL_NAME_BYTES, "%s", names->items[i]);
    identity->model_count = (uint32_t)names->count;
    if (names->count == 0) {
        model_name_of_path(options->model, identity->models[0], sizeof identity->models[0]);
        identity->model_count = 1;
    }
}

/* --- pool and engine --- */

uint32_t worker_threads(const struct worker_options *options)
{
    uint32_t usable = td_cpus_usable();

    if (options->threads != 0)
        return options->threads;
    return usable < CPU_THREADS_MAX ? usable : CPU_THREADS_MAX;
}

static td_status_t open_pool(struct worker_engines *engines, const struct worker_options *options,
                             struct td_error *error)
{
    size_t block_bytes;
    uint64_t count;
    uint64_t bytes = options->kv_bytes != 0 ? options->kv_bytes : WORKER_KV_BYTES_CPU;
    td_status_t status = cpu_block_bytes(engines->model, (enum cpu_kv_dtype)options->kv_dtype,
                                         options->block_tokens, &block_bytes, error);

    if (status != TD_OK)
        return status;
    count = bytes / block_bytes;
    if (count == 0 || count > UINT32_MAX)
        return td_fail(error, TD_INVALID,
                       "kv-bytes: %llu is no room for a block of %zu bytes, or for too many",
                       (unsigned long long)bytes, block_bytes);
    return engine_kv_open((uint32_t)count, options->block_tokens, block_bytes, &engines->kv, error);
}

static td_status_t open_cpu_backend(struct worker_runtime *runtime,
                                    struct engine_backend **backend_out, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    struct cpu_options cpu = {.threads = worker_threads(options),
                              .numerics = (enum cpu_numerics)options->numerics,
                              .kv_dtype = (enum cpu_kv_dtype)options->kv_dtype,
                              .weights = engines->weights,
                              .rows_max = options->step_tokens,
                              .outputs_max = options->sequences_max};
    td_status_t status = open_pool(engines, options, error);

    cpu.stop_ids = text_model_stop_ids(engines->text, &cpu.stop_id_count);
    return status == TD_OK
               ? cpu_backend_open(engines->model, &engines->kv, &cpu, backend_out, error)
               : status;
}

static void warn_of_small_pool(const struct worker_engines *engines)
{
    uint64_t tokens = (uint64_t)engines->kv.block_count * engines->kv.block_tokens;

    if (tokens < engines->model->max_context)
        td_log(
            TD_LOG_WARN, "load",
            "the pool holds %llu tokens, fewer than the model's context of %u: longer requests are "
            "refused; see --kv-bytes%s",
            (unsigned long long)tokens, engines->model->max_context,
            engines->device != NULL ? " and --gpu-memory-fraction" : "");
}

static td_status_t open_engine(struct worker_runtime *runtime, struct worker_identity *identity,
                               struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    struct engine_runtime_config config = {
        .core = {.step_rows = options->step_tokens,
                 .step_target_ns = options->step_target_ms * TD_NS_PER_MS,
                 .step_limit_ns = options->times.step_ms * TD_NS_PER_MS / STEPS_PER_STEP_TIME,
                 .sequences_max = options->sequences_max,
                 .waiting_max = options->waiting_max},
        .kv = &engines->kv,
        .ring_capacity = WORKER_RING_CAPACITY,
        .wake = worker_pump_wake,
        .wake_impl = runtime,
    };
    bool on_gpu = engines->device != NULL;
    td_status_t status = on_gpu ? worker_gpu_backend_open(runtime, &config.backend, error)
                                : open_cpu_backend(runtime, &config.backend, error);

    if (status != TD_OK)
        return status;
    warn_of_small_pool(engines);
    identity->model = config.backend->info;
    identity->threads = on_gpu ? 1 : worker_threads(options); /* the one that feeds the GPU */
    status = engine_runtime_open(&config, &engines->engine, error);
    if (status != TD_OK)
        config.backend->ops->close(config.backend);
    return status;
}

/* --- all of it --- */

static td_status_t open_all(struct worker_runtime *runtime, uint64_t epoch,
                            struct worker_identity *identity, struct worker_load_times *times,
                            struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    td_status_t status = worker_gpu_open(runtime, error);
    uint64_t start_ns;

    take_names(options, identity);
    if (status == TD_OK)
        status = worker_model_open(runtime, times, error);
    start_ns = td_now_ns();
    if (status == TD_OK)
        status = open_engine(runtime, identity, error);
    if (runtime->engines.device != NULL) /* there the weights are loaded with the backend */
        times->weights_ns = td_now_ns() - start_ns;
    if (status == TD_OK)
        status = worker_transfers_open(runtime, epoch, identity, error);
    return status;
}

td_status_t worker_engines_open(struct worker_runtime *runtime, uint64_t epoch,
                                struct worker_identity *identity_out, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    struct worker_load_times times = {0};
    struct worker_interrupt interrupt;
    uint64_t start_ns = td_now_ns();
    td_status_t status;

    td_log(TD_LOG_INFO, "load", "loading %s", options->model);
    worker_interrupt_begin(&interrupt);
    status = open_all(runtime, epoch, identity_out, &times, error);
    worker_interrupt_end(&interrupt);
    if (status != TD_OK)
        return status; /* the caller closes what is open */
    identity_out->epoch = epoch;
    identity_out->text_id = engines->text_id;
    identity_out->block_count = engines->kv.block_count;
    identity_out->max_sequences = options->sequences_max;
    identity_out->max_waiting = options->waiting_max;
    td_log(TD_LOG_INFO, "load",
           "loaded %s ms %.0f model_ms %.0f text_ms %.0f weights_ms %.0f threads %u kv_blocks %u "
           "block_bytes %zu context %u",
           identity_out->models[0], td_ns_to_ms(td_now_ns() - start_ns),
           td_ns_to_ms(times.model_ns), td_ns_to_ms(times.text_ns), td_ns_to_ms(times.weights_ns),
           identity_out->threads, engines->kv.block_count, engines->kv.block_bytes,
           identity_out->model.max_context);
    return TD_OK;
}

/* In this order: nobody outside may touch the pool before the engine lets go of it. */
void worker_engines_close(struct worker_engines *engines)
{
    if (engines->transfers != NULL)
        kvt_runtime_close(engines->transfers);
    kvt_device_close(engines->kv_device); /* while there is the pool, which goes with the backend */
    if (engines->engine != NULL)
        engine_runtime_close(engines->engine);
    if (engines->device != NULL)
        worker_gpu_close(engines);
    else
        engine_kv_close(&engines->kv);
    cpu_weights_close(engines->weights);
    text_model_close(engines->text);
    td_buf_fini(&engines->text_bytes);
    model_close(engines->model);
}
