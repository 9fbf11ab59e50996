/*
 * load.c: what a worker needs before it can be asked anything: model, tokenizer, weights (load_model.c), pool,
 * the engine thread and the transfer thread. Runs before the loop does; a signal ends the process then.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/team.h"
#include "kvtransfer/host.h"
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
    td_status_t status =
        cpu_block_bytes(engines->model, CPU_KV_F16, options->block_tokens, &block_bytes, error);

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

/* --- transfers --- */

/* As many as the worker core lets in, so that nothing it has accepted is refused below. */
static struct kvt_limits transfer_limits(const struct worker_counts *counts)
{
    struct kvt_limits limits = kvt_limits_default();

    limits.peers_max = 2 * counts->pairs_max; /* one that was dropped is there a little longer */
    limits.incoming_max = counts->requests_max;
    limits.outgoing_max = counts->exports_max;
    return limits;
}

static td_status_t ucx_config(const struct worker_options *options, struct kvt_ucx_config *ucx_out,
                              struct td_error *error)
{
    *ucx_out = kvt_ucx_config_default();
    ucx_out->shm = options->ucx_shm;
    ucx_out->tcp = options->ucx_tcp;
    if (strlen(options->ucx_interface) >= sizeof ucx_out->interface)
        return td_fail(error, TD_INVALID, "ucx-interface: longer than %zu bytes",
                       sizeof ucx_out->interface - 1);
    snprintf(ucx_out->interface, sizeof ucx_out->interface, "%s", options->ucx_interface);
    return TD_OK;
}

static td_status_t open_transfers(struct worker_runtime *runtime, uint64_t epoch,
                                  struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    const struct engine_kv *kv =
        engines->staging != NULL ? cuda_staging_mirror(engines->staging) : &engines->kv;
    struct kvt_runtime_config config = {
        .epoch = epoch,
        .memory = {.base = kv->base,
                   .bytes = (size_t)kv->block_count * kv->block_bytes,
                   .fd = kv->fd},
        .block_bytes = kv->block_bytes,
        .limits = transfer_limits(&options->counts),
        .use_ucx = options->kv_transport != WORKER_KV_MAP,
        .use_map = options->kv_transport != WORKER_KV_UCX,
        .ring_capacity = WORKER_RING_CAPACITY,
        .wake = worker_pump_wake,
        .wake_impl = runtime,
    };
    struct td_error why = {0};
    td_status_t status = ucx_config(options, &config.ucx, error);

    if (status != TD_OK)
        return status;
    status = kvt_runtime_open(&config, &engines->transfers, &why);
    if (status != TD_OK && options->kv_transport == WORKER_KV_AUTO) {
        td_log(TD_LOG_WARN, "load", "KV travels by map alone, to workers of this host: %s",
               why.text);
        config.use_ucx = false;
        status = kvt_runtime_open(&config, &engines->transfers, &why);
    }
    return status == TD_OK ? TD_OK : td_fail(error, status, "%s", why.text);
}

/* Adds one of our transports to the identity, if it is in use. */
static td_status_t add_transport(const struct worker_engines *engines, const char *name,
                                 const char *host, struct worker_identity *identity)
{
    struct worker_transport *transport = &identity->transports[identity->transport_count];
    const uint8_t *address;
    size_t length;

    if (kvt_runtime_address(engines->transfers, name, &address, &length) != TD_OK)
        return TD_OK;
    transport->address = malloc(length > 0 ? length : 1);
    if (transport->address == NULL)
        return TD_NO_MEMORY;
    memcpy(transport->address, address, length);
    transport->address_bytes = length;
    snprintf(transport->name, sizeof transport->name, "%s", name);
    snprintf(transport->library, sizeof transport->library, "%s",
             kvt_runtime_library(engines->transfers, name));
    snprintf(transport->host, sizeof transport->host, "%s", host);
    identity->transport_count++;
    return TD_OK;
}

/* In the order of preference: map copies once and needs no connection. */
static td_status_t take_transports(const struct worker_engines *engines,
                                   struct worker_identity *identity, struct td_error *error)
{
    struct td_u128 host;
    char text[33];
    td_status_t status = kvt_host_identity(&host, error);

    if (status != TD_OK)
        return status;
    snprintf(text, sizeof text, "%016llx%016llx", (unsigned long long)host.hi,
             (unsigned long long)host.lo);
    status = add_transport(engines, "map", text, identity);
    if (status == TD_OK)
        status = add_transport(engines, "ucx", text, identity);
    return status == TD_OK ? TD_OK : td_fail(error, status, "no memory for transport addresses");
}

/* --- all of it --- */

static td_status_t open_all(struct worker_runtime *runtime, uint64_t epoch,
                            struct worker_identity *identity, struct worker_load_times *times,
                            struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    td_status_t status = worker_gpu_open(runtime, error);

    take_names(options, identity);
    if (status == TD_OK)
        status = worker_model_open(runtime, times, error);
    if (status == TD_OK)
        status = open_engine(runtime, identity, error);
    if (status == TD_OK)
        status = open_transfers(runtime, epoch, error);
    if (status == TD_OK)
        status = take_transports(engines, identity, error);
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
