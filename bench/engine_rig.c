/* engine_rig.c: see engine_rig.h. */
#include "bench/engine_rig.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/cache.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/weights.h"
#include "lib/base/time.h"

#define BLOCK_TOKENS 16

/* ------------------------------------------------------------------ what has to be done at least */

static double values_of(const struct model_matrix *matrix)
{
    return (double)matrix->rows * (double)matrix->columns;
}

double bench_rig_kv_bytes_per_token(const struct bench_rig *rig)
{
    return (double)rig->kv.block_bytes / BLOCK_TOKENS;
}

double bench_rig_step_bytes(const struct bench_rig *rig, uint32_t sequences)
{
    double context = rig->options->depth + (rig->options->gen + 1) / 2.0;

    return (double)rig->weights->bytes + sequences * context * bench_rig_kv_bytes_per_token(rig);
}

double bench_rig_prompt_operations(const struct bench_rig *rig)
{
    const struct model *model = rig->model;
    double tokens = rig->options->prompt;
    double products = values_of(&model->output);

    for (uint32_t i = 0; i < model->layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        double others = values_of(&layer->q) + values_of(&layer->attention_output) +
                        values_of(&layer->gate) + values_of(&layer->up) + values_of(&layer->down);

        products += tokens * (values_of(&layer->k) + values_of(&layer->v));
        products += i + 1 < model->layers ? tokens * others : others;
    }
    return 2 * products;
}

/* ------------------------------------------------------------------ batches */

/*
 * Runs rows of `sequences` sequences, count positions each from `from` on, with logits of each
 * sequence's last row if wanted.
 */
static td_status_t run_batch(struct bench_rig *rig, uint32_t sequences, uint32_t from,
                             uint32_t count, bool wants_logits)
{
    struct engine_batch_sequence tables[BENCH_SEQUENCES_MAX];
    struct engine_output outputs[BENCH_SEQUENCES_MAX];
    struct engine_batch batch = {.rows = rig->rows,
                                 .row_count = sequences * count,
                                 .sequences = tables,
                                 .sequence_count = sequences,
                                 .outputs = outputs,
                                 .output_count = wants_logits ? sequences : 0};
    struct engine_result result;

    for (uint32_t s = 0; s < sequences; s++) {
        tables[s] = (struct engine_batch_sequence){
            .slots = rig->slots + (size_t)s * rig->blocks_each, .slot_count = rig->blocks_each};
        outputs[s] = (struct engine_output){.row = (s + 1) * count - 1, .want = ENGINE_WANT_LOGITS};
        for (uint32_t i = 0; i < count; i++)
            rig->rows[s * count + i] =
                (struct engine_row){.token = (7919 * (from + i) + s) % rig->model->vocab,
                                    .position = from + i,
                                    .sequence = s};
    }
    return rig->backend->ops->run(rig->backend, &batch, &result);
}

/* One sequence's tokens from `from` on, in chunks as large as the backend takes; logits of the last. */
static td_status_t run_prompt(struct bench_rig *rig, uint32_t from, uint32_t tokens)
{
    uint32_t chunk_max = rig->backend->rows_max;
    td_status_t status = TD_OK;

    for (uint32_t done = 0; done < tokens && status == TD_OK; done += chunk_max) {
        uint32_t left = tokens - done;

        status =
            run_batch(rig, 1, from + done, left < chunk_max ? left : chunk_max, left <= chunk_max);
    }
    return status;
}

/* The tokens in front of all that is measured: computed once, and copied, for each sequence has its own. */
static td_status_t fill_depth(struct bench_rig *rig)
{
    uint32_t blocks = (rig->options->depth + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    td_status_t status = run_prompt(rig, 0, rig->options->depth);

    if (status != TD_OK)
        return status;
    for (uint32_t s = 1; s < rig->sequences_max; s++)
        for (uint32_t i = 0; i < blocks; i++)
            memcpy(rig->kv.base +
                       rig->slots[(size_t)s * rig->blocks_each + i] * rig->kv.block_bytes,
                   rig->kv.base + rig->slots[i] * rig->kv.block_bytes, rig->kv.block_bytes);
    return TD_OK;
}

/* ------------------------------------------------------------------ measuring */

static void add_phases(struct bench_rig *rig, struct bench_cell *cell)
{
    struct cpu_phases phases;

    cpu_backend_phases(rig->backend, &phases);
    cell->phases.steps += phases.steps;
    for (unsigned i = 0; i < CPU_PHASE_COUNT; i++)
        cell->phases.ns[i] += phases.ns[i];
}

static double last_of(const struct bench_stats *stats)
{
    return stats->count > 0 ? stats->samples[stats->count - 1] : 0;
}

static void measure_limits(struct bench_rig *rig)
{
    const struct cpu_weights *weights = rig->weights;
    const uint8_t *packed =
        weights->memory != NULL ? weights->memory : weights->map.bytes + CPU_CACHE_HEADER_BYTES;

    bench_stats_add(&rig->read_gb_per_s,
                    bench_limit_read(rig->probe, rig->team, packed, weights->bytes));
    if (rig->probe->multiply != NULL)
        bench_stats_add(&rig->multiply_gop_per_s, bench_limit_multiply(rig->probe, rig->team));
}

static td_status_t measure_prompt(struct bench_rig *rig)
{
    uint32_t tokens = rig->options->prompt;
    uint64_t start_ns = td_now_ns();
    double ns;
    td_status_t status;

    cpu_backend_reset_phases(rig->backend);
    status = run_prompt(rig, rig->options->depth, tokens);
    ns = (double)(td_now_ns() - start_ns);
    bench_stats_add(&rig->prompt.tokens_per_s, tokens * 1e9 / ns);
    if (rig->probe->multiply != NULL)
        bench_stats_add(&rig->prompt.limit_share,
                        bench_rig_prompt_operations(rig) / ns / last_of(&rig->multiply_gop_per_s));
    add_phases(rig, &rig->prompt);
    return status;
}

static td_status_t measure_decode(struct bench_rig *rig, uint32_t index)
{
    const struct bench_engine_options *options = rig->options;
    struct bench_cell *cell = &rig->decode[index];
    uint32_t sequences = options->batches[index];
    uint64_t start_ns = td_now_ns();
    td_status_t status = TD_OK;
    double ns;

    cpu_backend_reset_phases(rig->backend);
    for (uint32_t i = 0; i < options->gen && status == TD_OK; i++)
        status = run_batch(rig, sequences, options->depth + i, 1, true);
    ns = (double)(td_now_ns() - start_ns);
    bench_stats_add(&cell->tokens_per_s, sequences * options->gen * 1e9 / ns);
    bench_stats_add(&cell->limit_share, bench_rig_step_bytes(rig, sequences) * options->gen / ns /
                                            last_of(&rig->read_gb_per_s));
    add_phases(rig, cell);
    return status;
}

td_status_t bench_rig_measure(struct bench_rig *rig, struct td_progress *progress,
                              struct td_error *error)
{
    const struct bench_engine_options *options = rig->options;
    uint32_t steps = 1 + options->batch_count;  /* of a repeat, as progress counts them */
    td_status_t status = run_prompt(rig, 0, 1); /* not counted: pages come in, threads wake */

    if (status == TD_OK)
        status = fill_depth(rig);
    for (uint32_t repeat = 0; repeat < options->repeats && status == TD_OK; repeat++) {
        measure_limits(rig);
        status = measure_prompt(rig);
        for (uint32_t i = 0; i < options->batch_count && status == TD_OK; i++) {
            td_progress_update(progress, repeat * steps + 1 + i, options->repeats * steps);
            status = measure_decode(rig, i);
        }
    }
    return status == TD_OK ? TD_OK
                           : td_fail(error, status, "a batch failed: %s", td_status_text(status));
}

/* ------------------------------------------------------------------ opening */

/* How many tokens each sequence has room for. */
static td_status_t count_tokens(const struct bench_rig *rig, uint32_t *tokens_out,
                                struct td_error *error)
{
    const struct bench_engine_options *options = rig->options;
    uint32_t more = options->prompt > options->gen ? options->prompt : options->gen;

    if (options->depth + more > rig->model->max_context)
        return td_fail(error, TD_LIMIT,
                       "%" PRIu32 " tokens and %" PRIu32
                       " in front of them do not fit the model's context of %" PRIu32,
                       more, options->depth, rig->model->max_context);
    *tokens_out = options->depth + more;
    return TD_OK;
}

/* From the cache that workers use, so that they are read from the same kind of memory. */
static td_status_t open_weights(struct bench_rig *rig, struct td_error *error)
{
    char cache[PATH_MAX];
    struct td_error why = {0};
    bool has_cache = cpu_cache_folder(cache, &why) == TD_OK;
    struct cpu_weights_options options = {.threads = rig->options->threads,
                                          .cache = has_cache ? cache : NULL};

    return cpu_weights_open(rig->model, &options, &rig->weights, error);
}

static td_status_t open_backend(struct bench_rig *rig, uint32_t tokens, struct td_error *error)
{
    const struct bench_engine_options *options = rig->options;
    struct cpu_options cpu = {.threads = options->threads,
                              .kv_dtype = options->kv_dtype,
                              .numerics = options->numerics,
                              .outputs_max = rig->sequences_max,
                              .weights = rig->weights};
    size_t block_bytes = 0;
    td_status_t status =
        cpu_block_bytes(rig->model, cpu.kv_dtype, BLOCK_TOKENS, &block_bytes, error);

    rig->blocks_each = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    if (status == TD_OK)
        status = engine_kv_open(rig->sequences_max * rig->blocks_each, BLOCK_TOKENS, block_bytes,
                                &rig->kv, error);
    if (status == TD_OK)
        status = cpu_backend_open(rig->model, &rig->kv, &cpu, &rig->backend, error);
    return status;
}

static td_status_t take_memory(struct bench_rig *rig, struct td_error *error)
{
    uint32_t slots = rig->sequences_max * rig->blocks_each;

    rig->slots = calloc(slots, sizeof *rig->slots);
    rig->rows = calloc(rig->backend->rows_max, sizeof *rig->rows);
    if (rig->slots == NULL || rig->rows == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the measurement");
    for (uint32_t i = 0; i < slots; i++)
        rig->slots[i] = i;
    return TD_OK;
}

td_status_t bench_rig_open(struct bench_rig *rig, const struct bench_engine_options *options,
                           struct td_error *error)
{
    uint32_t tokens = 0;
    td_status_t status;

    *rig = (struct bench_rig){.options = options, .kv = {.fd = -1}};
    rig->probe = bench_probe_for(cpu_kernels_name());
    for (uint32_t i = 0; i < options->batch_count; i++)
        if (options->batches[i] > rig->sequences_max)
            rig->sequences_max = options->batches[i];
    status = model_open(options->model, &rig->model, error);
    if (status == TD_OK)
        status = count_tokens(rig, &tokens, error);
    if (status == TD_OK)
        status = open_weights(rig, error);
    if (status == TD_OK)
        status = open_backend(rig, tokens, error);
    if (status == TD_OK)
        status = take_memory(rig, error);
    if (status == TD_OK)
        status = cpu_team_open(options->threads, &rig->team, error);
    return status;
}

void bench_rig_close(struct bench_rig *rig)
{
    if (rig->backend != NULL)
        rig->backend->ops->close(rig->backend);
    engine_kv_close(&rig->kv);
    cpu_weights_close(rig->weights);
    model_close(rig->model);
    cpu_team_close(rig->team);
    free(rig->slots);
    free(rig->rows);
}
