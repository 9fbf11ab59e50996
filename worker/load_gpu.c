/*
 * load_gpu.c: what a worker has on a GPU: the device, the backend, and its pool for whoever else reads it.
 *
 * The device is opened before the model is read, so that a machine without one says so at once.
 */
#include <inttypes.h>

#include "worker/runtime_internal.h"

td_status_t worker_gpu_open(struct worker_runtime *runtime, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    td_status_t status =
        cuda_choice_parse(options->device, options->gpu_memory_fraction, &engines->choice, error);

    if (status != TD_OK || !engines->choice.is_gpu)
        return status;
    status = runtime->config.open_gpu(engines->choice.index, &engines->device, error);
    if (status != TD_OK)
        return status;
    td_log(TD_LOG_INFO, "load", "device %s: %s", engines->device->info.name,
           engines->device->info.description);
    return TD_OK;
}

/* --kv-bytes as blocks; 0: what is left. */
static td_status_t blocks_wanted(const struct worker_options *options, const struct model *model,
                                 uint32_t *count_out, struct td_error *error)
{
    uint64_t bytes = (uint64_t)2 * sizeof(uint16_t) * options->block_tokens * model->head_dim;
    uint64_t count = 0;

    if (__builtin_mul_overflow(bytes, (uint64_t)model->layers * model->kv_heads, &bytes))
        return td_fail(error, TD_LIMIT, "the size of a KV block overflows");
    if (options->kv_bytes != 0) {
        count = options->kv_bytes / bytes;
        if (count == 0 || count > INT32_MAX)
            return td_fail(error, TD_INVALID,
                           "kv-bytes: %" PRIu64 " is no room for a block of %" PRIu64
                           " bytes, or for too many",
                           options->kv_bytes, bytes);
    }
    *count_out = (uint32_t)count;
    return TD_OK;
}

/* Hashing on the GPU, for the transfer thread; without it blocks are copied to the host for that. */
static void open_hasher(struct worker_runtime *runtime, struct kvt_hasher *hasher_out)
{
    struct worker_engines *engines = &runtime->engines;
    struct td_error why = {0};
    td_status_t status =
        runtime->config.open_gpu(engines->choice.index, &engines->hash_device, &why);

    if (status == TD_OK)
        status = cuda_hasher_open(engines->hash_device, &engines->hasher, &why);
    if (status == TD_OK)
        *hasher_out = (struct kvt_hasher){.impl = engines->hasher, .hash = cuda_hasher_hash};
    else
        td_log(TD_LOG_WARN, "load", "KV blocks are copied to the host to be hashed: %s", why.text);
}

/* The pool that the backend has made, for the engine core and for transfers. */
static td_status_t open_pool(struct worker_runtime *runtime, const struct engine_backend *backend,
                             struct td_error *error)
{
    struct worker_engines *engines = &runtime->engines;
    struct kvt_cuda_config config = {.pool = engines->kv.base,
                                     .pool_bytes =
                                         (size_t)engines->kv.block_count * engines->kv.block_bytes};
    td_status_t status =
        cuda_blocks_open(engines->device, &backend->info, &engines->kv, &engines->blocks, error);

    if (status != TD_OK)
        return status;
    open_hasher(runtime, &config.hasher);
    return runtime->config.open_gpu_pool(&config, &engines->kv_device, error);
}

td_status_t worker_gpu_backend_open(struct worker_runtime *runtime,
                                    struct engine_backend **backend_out, struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_engines *engines = &runtime->engines;
    struct worker_saying saying = worker_saying_begin();
    bool is_plain = options->gpu_launches == CUDA_LAUNCHES_PLAIN;
    struct cuda_options cuda = {.memory_fraction = engines->choice.fraction,
                                .block_tokens = options->block_tokens,
                                .rows_max = options->step_tokens,
                                .outputs_max = options->sequences_max,
                                .weights = (enum cuda_weights_form)options->gpu_weights,
                                .warpgroups = (enum cuda_warpgroups)options->gpu_warpgroups,
                                .is_without_graphs = is_plain,
                                .is_without_early = is_plain,
                                .is_fast = options->fast_variant,
                                .progress = {.tell = worker_say_progress, .ctx = &saying}};
    td_status_t status = blocks_wanted(options, engines->model, &cuda.block_count, error);

    cuda.stop_ids = text_model_stop_ids(engines->text, &cuda.stop_id_count);
    if (status == TD_OK)
        status = cuda_backend_open(engines->model, engines->device, &cuda, &engines->kv,
                                   backend_out, error);
    if (status != TD_OK)
        return status;
    status = open_pool(runtime, *backend_out, error);
    if (status != TD_OK)
        (*backend_out)->ops->close(*backend_out);
    return status;
}

/* Transfers and engine have let go of the pool, which went with the backend. */
void worker_gpu_close(struct worker_engines *engines)
{
    cuda_hasher_close(engines->hasher);
    cuda_device_close(engines->hash_device);
    cuda_blocks_close(engines->blocks);
    cuda_device_close(engines->device);
}
