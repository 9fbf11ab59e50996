/*
 * backend.c: opening, checking and closing the CUDA backend; see cuda.h.
 *
 * Owns the limits: what the options must satisfy before forward.c and the kernels may trust them; engine/batch_check.h
 * has those of each batch.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/batch_check.h"
#include "engine/cpu/rope.h"
#include "engine/cuda/forward.h"
#include "engine/cuda/multiply.h"
#include "engine/cuda/wide.h"
#include "lib/base/log.h"
#include "lib/base/time.h"

#define ANGLES_AT_ONCE 4096 /* positions whose angles are computed and copied at a time */

/* ------------------------------------------------------------------ a step */

static td_status_t begin(struct engine_backend *base, const struct engine_batch *batch)
{
    struct cuda_backend *backend = (struct cuda_backend *)base;
    td_status_t status = engine_batch_check(base, backend->block_count, batch);

    backend->started_ns = td_now_ns();
    if (status == TD_OK)
        cuda_forward(backend, batch);
    return status;
}

static td_status_t finish(struct engine_backend *base, struct engine_result *result_out)
{
    struct cuda_backend *backend = (struct cuda_backend *)base;
    td_status_t status = cuda_device_wait(backend->device, NULL); /* what failed is logged */

    if (status != TD_OK)
        return status;
    *result_out = (struct engine_result){.outputs = backend->outputs,
                                         .duration_ns = td_now_ns() - backend->started_ns};
    if (backend->has_drawn)
        result_out->tokens = backend->draws.tokens;
    if (backend->has_drawn && backend->draws.with_logprobs > 0)
        result_out->logprobs = backend->draws.logprobs;
    return status;
}

static td_status_t run(struct engine_backend *base, const struct engine_batch *batch,
                       struct engine_result *result_out)
{
    td_status_t status = begin(base, batch);

    return status == TD_OK ? finish(base, result_out) : status;
}

/* A device that has failed stays failed. */
static const char *lost(const struct engine_backend *base)
{
    const struct td_error *failure = &((const struct cuda_backend *)base)->device->failure;

    return failure->status != TD_OK ? failure->text : NULL;
}

static void close_backend(struct engine_backend *base)
{
    struct cuda_backend *backend = (struct cuda_backend *)base;

    cuda_graphs_fini(&backend->graphs);
    cuda_fast_close(&backend->fast, backend->device);
    cuda_weights_close(&backend->weights, backend->device);
    cuda_device_give(backend->device, backend->workspace_memory);
    cuda_device_give(backend->device, backend->pool.base);
    cuda_device_give_host(backend->device, backend->inputs);
    cuda_device_give_host(backend->device, backend->heads);
    cuda_device_give_host(backend->device, backend->results);
    cuda_draws_close(&backend->draws, backend->device);
    free(backend->head_rows);
    free(backend->outputs);
    free(backend);
}

static const struct engine_backend_ops ops = {.name = "cuda",
                                              .run = run,
                                              .close = close_backend,
                                              .begin = begin,
                                              .finish = finish,
                                              .lost = lost};

struct cuda_graph_counts cuda_backend_graphs(const struct engine_backend *backend)
{
    return ((const struct cuda_backend *)backend)->graphs.counts;
}

/* ------------------------------------------------------------------ checks */

static td_status_t check_model(const struct model *model, struct td_error *error)
{
    if (model->head_dim > CUDA_HEAD_DIM_MAX)
        return td_fail(error, TD_UNSUPPORTED, "heads of %" PRIu32 " elements (at most %d)",
                       model->head_dim, CUDA_HEAD_DIM_MAX);
    return TD_OK;
}

static td_status_t check_options(const struct cuda_options *options, struct td_error *error)
{
    uint32_t block_tokens = options->block_tokens;

    if (block_tokens != 0 && (block_tokens < 16 || block_tokens > CUDA_SPLIT ||
                              (block_tokens & (block_tokens - 1)) != 0))
        return td_fail(error, TD_INVALID,
                       "blocks of %" PRIu32 " tokens are not possible (16, 32, 64, 128 or 256 are)",
                       block_tokens);
    if (options->rows_max > CUDA_ROWS_MAX || options->outputs_max > CUDA_OUTPUTS_MAX)
        return td_fail(error, TD_LIMIT,
                       "%" PRIu32 " rows and %" PRIu32 " outputs in a batch (at most %" PRIu32
                       " and %" PRIu32 ")",
                       options->rows_max, options->outputs_max, CUDA_ROWS_MAX, CUDA_OUTPUTS_MAX);
    if (options->is_fast && options->weights != CUDA_WEIGHTS_AS_IS)
        return td_fail(
            error, TD_INVALID,
            "the fast variant is for weights as they are: its products would have others");
    if (options->stop_id_count >
        sizeof(((struct engine_model_info *)0)->stop_ids) / sizeof(uint32_t))
        return td_fail(error, TD_LIMIT, "%" PRIu32 " stop ids are too many",
                       options->stop_id_count);
    return TD_OK;
}

/* ------------------------------------------------------------------ opening */

static void describe(struct cuda_backend *backend, const struct cuda_options *options)
{
    const struct model *model = backend->model;
    struct engine_model_info *info = &backend->base.info;

    *info = (struct engine_model_info){.vocab = model->vocab,
                                       .hidden = model->hidden,
                                       .layers = model->layers,
                                       .heads = model->heads,
                                       .kv_heads = model->kv_heads,
                                       .head_dim = model->head_dim,
                                       .max_context = model->max_context,
                                       .stop_id_count = options->stop_id_count,
                                       .block_tokens = backend->pool.block_tokens,
                                       .block_bytes = (size_t)backend->pool.block_bytes,
                                       .weights_digest = model->weights_digest};
    snprintf(info->name, sizeof info->name, "%s", model->name);
    snprintf(info->rope, sizeof info->rope, "%s", model->rope.text);
    snprintf(info->kv_dtype, sizeof info->kv_dtype, "%s",
             options->kv_dtype == CUDA_KV_F32 ? "f32" : "f16");
    snprintf(info->numerics, sizeof info->numerics, "%s%s",
             options->is_fast ? CUDA_NUMERICS_FAST : CUDA_NUMERICS,
             options->weights == CUDA_WEIGHTS_FP8 ? CUDA_NUMERICS_FP8 : "");
    for (uint32_t i = 0; i < options->stop_id_count; i++)
        info->stop_ids[i] = options->stop_ids[i];
    info->content_id =
        model_content_id(model->weights_digest, info->rope, info->kv_dtype, info->numerics);
}

/* All numbers; no memory yet. */
static td_status_t fill(struct cuda_backend *backend, const struct cuda_options *options,
                        struct td_error *error)
{
    const struct model *model = backend->model;
    size_t bytes = options->kv_dtype == CUDA_KV_F32 ? sizeof(float) : sizeof(uint16_t);

    backend->pool =
        (struct cuda_pool){.block_tokens = options->block_tokens > 0 ? options->block_tokens : 16,
                           .layers = model->layers,
                           .head_dim = model->head_dim,
                           .element_bytes = (uint32_t)bytes};
    if (__builtin_mul_overflow(bytes, (size_t)2 * backend->pool.block_tokens * model->head_dim,
                               &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)model->layers * model->kv_heads, &bytes))
        return td_fail(error, TD_LIMIT, "the size of a KV block overflows");
    backend->pool.block_bytes = bytes;
    backend->base.ops = &ops;
    backend->base.rows_max = options->rows_max > 0 ? options->rows_max : CUDA_ROWS_DEFAULT;
    backend->base.outputs_max =
        options->outputs_max > 0 ? options->outputs_max : CUDA_OUTPUTS_DEFAULT;
    backend->shape = (struct cuda_shape){.vocab = model->vocab,
                                         .hidden = model->hidden,
                                         .ffn = model->ffn,
                                         .heads = model->heads,
                                         .kv_heads = model->kv_heads,
                                         .head_dim = model->head_dim,
                                         .max_context = model->max_context,
                                         .block_tokens = backend->pool.block_tokens,
                                         .rows_max = backend->base.rows_max,
                                         .outputs_max = backend->base.outputs_max,
                                         .multiprocessors = backend->device->info.multiprocessors,
                                         .has_wide = backend->device->info.has_warpgroups &&
                                                     options->warpgroups == CUDA_WARPGROUPS_AUTO};
    backend->result_stride = model->vocab > model->hidden ? model->vocab : model->hidden;
    describe(backend, options);
    return TD_OK;
}

static td_status_t plan_memory(struct cuda_backend *backend, const struct cuda_options *options,
                               struct cuda_plan *plan_out, size_t *workspace_bytes_out,
                               struct td_error *error)
{
    const struct engine_model_info *info = &backend->base.info;
    struct cuda_plan_input input = {
        .memory_bytes = backend->device->info.memory_bytes,
        .fraction =
            options->memory_fraction != 0 ? options->memory_fraction : CUDA_FRACTION_DEFAULT,
        .graphs_bytes = backend->has_graphs ? cuda_graphs_bytes(backend->model->layers) : 0,
        .block_bytes = info->block_bytes,
        .blocks_wanted = options->block_count,
        .blocks_min = 1};
    size_t fast_bytes = 0;
    td_status_t status =
        cuda_weights_bytes(backend->model, options->weights, &input.weights_bytes, error);

    if (status == TD_OK && options->is_fast)
        status = cuda_fast_bytes(backend->model, &fast_bytes, error);
    if (status == TD_OK &&
        __builtin_add_overflow(input.weights_bytes, fast_bytes, &input.weights_bytes))
        status = td_fail(error, TD_LIMIT, "the size of the weights overflows");
    if (status == TD_OK)
        status = cuda_workspace_bytes(&backend->shape, &input.workspace_bytes, error);
    if (status == TD_OK)
        status = cuda_device_free_bytes(backend->device, &input.free_bytes, error);
    if (status == TD_OK)
        status = cuda_plan_memory(&input, plan_out, error);
    if (status != TD_OK)
        return status;
    *workspace_bytes_out = input.workspace_bytes;
    td_log(TD_LOG_INFO, "cuda",
           "memory planned device %s context %zu weights %zu workspace %zu graphs %zu kv %zu "
           "blocks %" PRIu32,
           backend->device->info.name, plan_out->context_bytes, input.weights_bytes,
           input.workspace_bytes, input.graphs_bytes, plan_out->kv_bytes, plan_out->block_count);
    return TD_OK;
}

static td_status_t take_host_memory(struct cuda_backend *backend, struct td_error *error)
{
    size_t outputs = backend->base.outputs_max;
    struct {
        void *memory;
        size_t count;
        size_t each;
    } arrays[] = {
        {NULL, cuda_input_words(&backend->shape), sizeof(uint32_t)},
        {NULL, outputs, backend->shape.hidden * sizeof(float)},
        {NULL, outputs, backend->result_stride * sizeof(float)},
    };
    td_status_t status = TD_OK;

    backend->outputs = calloc(outputs, sizeof *backend->outputs);
    backend->head_rows = calloc(outputs, sizeof *backend->head_rows);
    if (backend->outputs == NULL || backend->head_rows == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for %zu outputs", outputs);
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0] && status == TD_OK; i++)
        status = cuda_device_take_host(backend->device, arrays[i].count * arrays[i].each,
                                       &arrays[i].memory, error);
    backend->inputs = arrays[0].memory;
    backend->heads = arrays[1].memory;
    backend->results = arrays[2].memory;
    if (status == TD_OK)
        status = cuda_draws_open(&backend->draws, backend->device, &backend->shape, error);
    return status;
}

/* In the order of the plan. */
static td_status_t take_memory(struct cuda_backend *backend, const struct cuda_options *options,
                               struct td_error *error)
{
    struct cuda_plan plan = {0};
    size_t workspace_bytes = 0;
    void *pool = NULL;
    bool is_wide = false;
    td_status_t status = plan_memory(backend, options, &plan, &workspace_bytes, error);

    if (status == TD_OK)
        status = cuda_weights_open(backend->model, options->weights, backend->device,
                                   options->progress, &backend->weights, error);
    if (status == TD_OK && backend->shape.has_wide)
        status = cuda_wide_prove(backend->device, &backend->weights, backend->model->layers,
                                 options->wide_limit_ns != 0 ? options->wide_limit_ns
                                                             : CUDA_WIDE_LIMIT_NS,
                                 &is_wide, error);
    if (status == TD_OK && options->is_fast)
        status = cuda_fast_open(backend->model, backend->device, &backend->fast, error);
    if (status == TD_OK)
        status =
            cuda_device_take(backend->device, workspace_bytes, &backend->workspace_memory, error);
    if (status == TD_OK)
        status = cuda_device_take(backend->device, plan.kv_bytes, &pool, error);
    if (status != TD_OK)
        return status;
    backend->pool.base = pool;
    backend->block_count = plan.block_count;
    cuda_workspace_cut(&backend->shape, backend->workspace_memory, &backend->workspace);
    backend->multiplier =
        (struct cuda_multiplier){.device = backend->device,
                                 .multiprocessors = backend->shape.multiprocessors,
                                 .is_wide = is_wide,
                                 .runs = backend->workspace.runs,
                                 .run_counters = backend->workspace.run_counters,
                                 .arranged = backend->workspace.arranged,
                                 .totals = backend->workspace.totals};
    return take_host_memory(backend, error);
}

/* Cosines and sines of all positions, as the CPU backend computes them. */
static td_status_t send_angles(struct cuda_backend *backend, struct td_error *error)
{
    uint32_t head_dim = backend->shape.head_dim;
    uint32_t positions = backend->shape.max_context;
    float *angles = malloc((size_t)ANGLES_AT_ONCE * head_dim * sizeof *angles);
    struct cpu_rope rope;
    td_status_t status = TD_OK;

    if (angles == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for angles");
    cpu_rope_init(&rope, &backend->model->rope, head_dim);
    for (uint32_t first = 0; first < positions && status == TD_OK; first += ANGLES_AT_ONCE) {
        uint32_t count = positions - first < ANGLES_AT_ONCE ? positions - first : ANGLES_AT_ONCE;

        for (uint32_t i = 0; i < count; i++) {
            float *cosines = angles + (size_t)i * head_dim;

            cpu_rope_angles(&rope, first + i, cosines, cosines + head_dim / 2);
        }
        cuda_device_upload(backend->device, backend->workspace.angles + (size_t)first * head_dim,
                           angles, (size_t)count * head_dim * sizeof *angles);
        status = cuda_device_wait(backend->device, error);
    }
    free(angles);
    return status;
}

/* Counters of blocks that share work, which are zero between steps. */
static td_status_t send_counters(struct cuda_backend *backend, struct td_error *error)
{
    size_t splits = (size_t)cuda_splits_kept(&backend->shape) * backend->shape.kv_heads;
    size_t results = cuda_run_results(backend->shape.multiprocessors);
    size_t most = splits > results ? splits : results;
    uint32_t *zeros = calloc(most, sizeof *zeros);
    td_status_t status;

    if (zeros == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for %zu counters", most);
    cuda_device_upload(backend->device, backend->workspace.counters, zeros, splits * sizeof *zeros);
    cuda_device_upload(backend->device, backend->workspace.run_counters, zeros,
                       results * sizeof *zeros);
    status = cuda_device_wait(backend->device, error);
    free(zeros);
    return status;
}

td_status_t cuda_backend_open(const struct model *model, struct cuda_device *device,
                              const struct cuda_options *options, struct engine_kv *kv_out,
                              struct engine_backend **backend_out, struct td_error *error)
{
    struct cuda_backend *backend;
    td_status_t status = check_model(model, error);

    if (status == TD_OK)
        status = check_options(options, error);
    if (status != TD_OK)
        return status;
    backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a backend");
    backend->model = model;
    backend->device = device;
    backend->has_graphs = !options->is_without_graphs;
    cuda_graphs_init(&backend->graphs, device, options->is_fast);
    status = fill(backend, options, error);
    if (status == TD_OK)
        status = take_memory(backend, options, error);
    if (status == TD_OK)
        status = send_angles(backend, error);
    if (status == TD_OK)
        status = send_counters(backend, error);
    if (status != TD_OK) {
        close_backend(&backend->base);
        return status;
    }
    device->launches_early = !options->is_without_early; /* weights are there: see products.h */
    *kv_out = (struct engine_kv){.base = backend->pool.base,
                                 .fd = -1,
                                 .block_count = backend->block_count,
                                 .block_tokens = backend->pool.block_tokens,
                                 .block_bytes = backend->base.info.block_bytes};
    *backend_out = &backend->base;
    return TD_OK;
}
