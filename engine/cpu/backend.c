/*
 * backend.c: opening, checking and closing the CPU backend; see cpu.h.
 *
 * Owns the limits: what the options and the pool must satisfy before forward.c may trust them; engine/batch_check.h
 * has those of each batch.
 */
#include <assert.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "engine/batch_check.h"
#include "engine/cpu/balance.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/forward.h"
#include "engine/cpu/matmul.h"
#include "lib/base/bytes.h"
#include "lib/base/time.h"

const char *cpu_numerics_class(enum cpu_numerics numerics)
{
    return numerics == CPU_NUMERICS_INT8 ? CPU_NUMERICS_WHOLE : CPU_NUMERICS;
}

/* ------------------------------------------------------------------ a step */

static td_status_t run(struct engine_backend *base, const struct engine_batch *batch,
                       struct engine_result *result_out)
{
    struct cpu_backend *backend = (struct cpu_backend *)base;
    uint64_t start_ns = td_now_ns();
    fenv_t environment;
    td_status_t status = engine_batch_check(base, backend->attention.kv.pool.block_count, batch);

    if (status != TD_OK)
        return status;
    fegetenv(&environment);
    fesetenv(FE_DFL_ENV); /* the caller's rounding or flushing must not change results */
    cpu_forward(backend, batch);
    fesetenv(&environment);
    *result_out =
        (struct engine_result){.outputs = backend->outputs, .duration_ns = td_now_ns() - start_ns};
    return TD_OK;
}

static void close_backend(struct engine_backend *base)
{
    struct cpu_backend *backend = (struct cpu_backend *)base;

    cpu_team_close(backend->team);
    cpu_weights_close(backend->own_weights);
    if (backend->memory != NULL)
        munmap(backend->memory, backend->memory_bytes);
    free(backend->balance);
    free(backend->active);
    free(backend->place);
    cpu_tiles_close(backend->tiles);
    free(backend->outputs);
    free(backend);
}

static const struct engine_backend_ops ops = {.name = "cpu", .run = run, .close = close_backend};

/* ------------------------------------------------------------------ phases */

const char *cpu_phase_name(enum cpu_phase phase)
{
    static const char *const names[] = {
#define X(member, name) [CPU_PHASE_##member] = (name),
        CPU_PHASES(X)
#undef X
    };

    return names[phase];
}

void cpu_backend_phases(const struct engine_backend *base, struct cpu_phases *phases_out)
{
    assert(base->ops == &ops);
    *phases_out = ((const struct cpu_backend *)base)->phases;
}

void cpu_backend_reset_phases(struct engine_backend *base)
{
    assert(base->ops == &ops);
    ((struct cpu_backend *)base)->phases = (struct cpu_phases){0};
}

/* ------------------------------------------------------------------ opening */

td_status_t cpu_block_bytes(const struct model *model, enum cpu_kv_dtype kv_dtype,
                            uint32_t block_tokens, size_t *block_bytes_out, struct td_error *error)
{
    size_t bytes = cpu_kv_group_bytes(kv_dtype, model->head_dim);

    if (block_tokens < CPU_KV_GROUP || block_tokens > CPU_BLOCK_TOKENS_MAX ||
        (block_tokens & (block_tokens - 1)) != 0)
        return td_fail(error, TD_INVALID,
                       "blocks of %" PRIu32 " tokens are not possible (16, 32, 64, 128 or 256 are)",
                       block_tokens);
    if (__builtin_mul_overflow(bytes, (size_t)2 * (block_tokens / CPU_KV_GROUP), &bytes) ||
        __builtin_mul_overflow(bytes, (size_t)model->layers * model->kv_heads, &bytes))
        return td_fail(error, TD_LIMIT, "the size of a KV block overflows");
    *block_bytes_out = bytes;
    return TD_OK;
}

static td_status_t check_options(const struct model *model, const struct engine_kv *kv,
                                 const struct cpu_options *options, struct td_error *error)
{
    size_t block_bytes = 0;
    td_status_t status =
        cpu_block_bytes(model, options->kv_dtype, kv->block_tokens, &block_bytes, error);

    if (status != TD_OK)
        return status;
    if (kv->block_bytes != block_bytes)
        return td_fail(error, TD_INVALID,
                       "the pool has blocks of %zu bytes, this model needs %zu (KV type %s)",
                       kv->block_bytes, block_bytes, cpu_kv_dtype_name(options->kv_dtype));
    if (options->rows_max > CPU_ROWS_MAX || options->outputs_max > CPU_OUTPUTS_MAX)
        return td_fail(error, TD_LIMIT,
                       "%" PRIu32 " rows and %" PRIu32 " outputs in a batch (at most %" PRIu32
                       " and %" PRIu32 ")",
                       options->rows_max, options->outputs_max, CPU_ROWS_MAX, CPU_OUTPUTS_MAX);
    if (options->stop_id_count >
        sizeof(((struct engine_model_info *)0)->stop_ids) / sizeof(uint32_t))
        return td_fail(error, TD_LIMIT, "%" PRIu32 " stop ids are too many",
                       options->stop_id_count);
    return TD_OK;
}

static void describe(struct cpu_backend *backend, const struct engine_kv *kv,
                     const struct cpu_options *options)
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
                                       .block_tokens = kv->block_tokens,
                                       .block_bytes = kv->block_bytes,
                                       .weights_digest = model->weights_digest,
                                       .clear_tail = cpu_kv_clear_tail};
    snprintf(info->name, sizeof info->name, "%s", model->name);
    snprintf(info->rope, sizeof info->rope, "%s", model->rope.text);
    snprintf(info->kv_dtype, sizeof info->kv_dtype, "%s", cpu_kv_dtype_name(options->kv_dtype));
    snprintf(info->numerics, sizeof info->numerics, "%s", cpu_numerics_class(options->numerics));
    for (uint32_t i = 0; i < options->stop_id_count; i++)
        info->stop_ids[i] = options->stop_ids[i];
    info->content_id =
        model_content_id(model->weights_digest, info->rope, info->kv_dtype, info->numerics);
}

static void choose_strides(struct cpu_backend *backend)
{
    const struct model *model = backend->model;
    uint32_t result = model->vocab > model->hidden ? model->vocab : model->hidden;

    backend->strides = (struct cpu_strides){
        .hidden = cpu_row_stride(cpu_input_floats(model->hidden)),
        .attention = cpu_row_stride(cpu_input_floats(model->heads * model->head_dim)),
        .kv = cpu_row_stride(model->kv_heads * model->head_dim),
        .ffn = cpu_row_stride(cpu_input_floats(model->ffn)),
        .result = cpu_row_stride(result)};
    backend->strides.scratch = cpu_pad((uint32_t)cpu_forward_scratch_floats(backend));
}

struct array {
    float **array;
    size_t count;
    size_t floats;
};

#define ARRAYS 11

static void list_arrays(struct cpu_backend *backend, struct array arrays_out[static ARRAYS])
{
    const struct cpu_strides *strides = &backend->strides;
    size_t rows = backend->base.rows_max;
    size_t outputs = backend->base.outputs_max;
    size_t pairs = cpu_pad(backend->rope.pairs);
    const struct array arrays[] = {
        {&backend->x, rows, strides->hidden},
        {&backend->normed, rows > outputs ? rows : outputs, strides->hidden},
        {&backend->q, rows, strides->attention},
        {&backend->k, rows, strides->kv},
        {&backend->v, rows, strides->kv},
        {&backend->attended, rows, strides->attention},
        {&backend->gate, rows, strides->ffn},
        {&backend->cosines, rows, pairs},
        {&backend->sines, rows, pairs},
        {&backend->results, outputs, strides->result},
        {&backend->scratch, backend->threads, strides->scratch},
    };

    _Static_assert(sizeof arrays / sizeof arrays[0] == ARRAYS, "all arrays");
    memcpy(arrays_out, arrays, sizeof arrays);
}

/* SIZE_MAX: it overflows. */
static size_t bytes_of(const struct array arrays[static ARRAYS])
{
    size_t floats = 0;
    size_t bytes = 0;

    for (size_t i = 0; i < ARRAYS; i++)
        if (!td_size_add(&floats, arrays[i].count, arrays[i].floats))
            return SIZE_MAX;
    return td_size_add(&bytes, floats, sizeof(float)) ? bytes : SIZE_MAX;
}

/* One mapping for all arrays of floats: zero at first, and touched when first used. */
static td_status_t map_memory(struct cpu_backend *backend, struct td_error *error)
{
    uint32_t rows = backend->base.rows_max;
    struct array arrays[ARRAYS];
    size_t floats = 0;
    size_t bytes;
    void *memory;

    list_arrays(backend, arrays);
    bytes = bytes_of(arrays);
    if (bytes == SIZE_MAX)
        return td_fail(error, TD_LIMIT, "the memory for %" PRIu32 " rows overflows", rows);
    memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                  -1, 0);
    if (memory == MAP_FAILED)
        return td_fail(error, TD_NO_MEMORY, "cannot map %zu bytes for %" PRIu32 " rows: %s", bytes,
                       rows, strerror(errno));
    /* The rows of a tile are on many pages: with small ones, finding those costs a tenth of a prompt. */
    (void)madvise(memory, bytes, MADV_HUGEPAGE);
    backend->memory = memory;
    backend->memory_bytes = bytes;
    for (size_t i = 0; i < ARRAYS; i++) {
        *arrays[i].array = backend->memory + floats;
        floats += arrays[i].count * arrays[i].floats;
    }
    return TD_OK;
}

static td_status_t take_memory(struct cpu_backend *backend, struct td_error *error)
{
    size_t rows = backend->base.rows_max;
    td_status_t status;

    backend->active = calloc(rows, sizeof *backend->active);
    backend->place = calloc(rows, sizeof *backend->place);
    backend->outputs = calloc(backend->base.outputs_max, sizeof *backend->outputs);
    if (backend->active == NULL || backend->place == NULL || backend->outputs == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a batch of %zu rows", rows);
    status = cpu_tiles_open(&backend->attention, backend->base.rows_max,
                            backend->model->max_context, backend->threads, &backend->tiles, error);
    return status != TD_OK ? status : map_memory(backend, error);
}

static td_status_t take_weights(struct cpu_backend *backend, const struct cpu_options *options,
                                struct td_error *error)
{
    const struct cpu_weights_options packing = {.threads = backend->threads};
    td_status_t status;

    backend->weights = options->weights;
    if (options->weights != NULL)
        return TD_OK;
    status = cpu_weights_open(backend->model, &packing, &backend->own_weights, error);
    backend->weights = backend->own_weights;
    return status;
}

/* All numbers; no memory yet. */
static void size_up(struct cpu_backend *backend, const struct engine_kv *kv,
                    const struct cpu_options *options)
{
    backend->base.ops = &ops;
    backend->base.rows_max = options->rows_max > 0 ? options->rows_max : CPU_ROWS_DEFAULT;
    backend->base.outputs_max =
        options->outputs_max > 0 ? options->outputs_max : CPU_OUTPUTS_DEFAULT;
    backend->is_whole = options->numerics == CPU_NUMERICS_INT8;
    backend->threads = options->threads > 0 ? options->threads : 1;
    describe(backend, kv, options);
    cpu_rope_init(&backend->rope, &backend->model->rope, backend->model->head_dim);
    cpu_attention_init(&backend->attention, backend->kernels, kv, options->kv_dtype,
                       &backend->base.info);
    choose_strides(backend);
}

size_t cpu_workspace_bytes(const struct model *model, const struct cpu_options *options)
{
    static const struct cpu_kernels none; /* sizes do not depend on them */
    const struct engine_kv kv = {.block_tokens = CPU_KV_GROUP};
    struct cpu_backend backend = {.model = model, .kernels = &none};
    struct array arrays[ARRAYS];

    size_up(&backend, &kv, options);
    list_arrays(&backend, arrays);
    return bytes_of(arrays);
}

static td_status_t fill(struct cpu_backend *backend, const struct engine_kv *kv,
                        const struct cpu_options *options, struct td_error *error)
{
    td_status_t status;

    size_up(backend, kv, options);
    status = take_memory(backend, error);
    if (status == TD_OK && options->kv_dtype == CPU_KV_INT8)
        status = cpu_balance_open(backend->model, &backend->balance, error);
    if (status == TD_OK)
        status = take_weights(backend, options, error);
    if (status != TD_OK)
        return status;
    return cpu_team_open(backend->threads, &backend->team, error);
}

td_status_t cpu_backend_open(const struct model *model, const struct engine_kv *kv,
                             const struct cpu_options *options, struct engine_backend **backend_out,
                             struct td_error *error)
{
    const struct cpu_kernels *kernels = NULL;
    struct cpu_backend *backend;
    td_status_t status = check_options(model, kv, options, error);

    if (status != TD_OK)
        return status;
    status = cpu_kernels_in_use(&kernels, error);
    if (status != TD_OK)
        return status;
    backend = calloc(1, sizeof *backend);
    if (backend == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a backend");
    backend->model = model;
    backend->kernels = kernels;
    status = fill(backend, kv, options, error);
    if (status != TD_OK) {
        close_backend(&backend->base);
        return status;
    }
    *backend_out = &backend->base;
    return TD_OK;
}
