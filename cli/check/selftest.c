/* selftest.c: see selftest.h. */
#include "cli/check/selftest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/model_needs.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/team.h"
#include "lib/base/cpus.h"
#include "lib/base/time.h"

#define NEW_TOKENS_MAX 8
#define DECODE_NS_MAX  (1500 * TD_NS_PER_MS) /* then fewer tokens have to do */
#define SEQUENCES      3 /* the prompt, the prompt again, and another beside it */
#define BLOCKS_EACH    2 /* 24 + 8 tokens */
#define PIECE          5 /* rows of the prompt at a time, the second time */

struct rig {
    const struct model *model;
    struct engine_kv kv;
    struct cpu_weights *weights;
    struct engine_backend *backend;
    uint32_t slots[SEQUENCES][BLOCKS_EACH];
    struct engine_batch_sequence sequences[SEQUENCES];
    struct td_error *error;
};

/* ---- batches ---- */

/* A run of rows of one sequence. */
struct run {
    uint32_t sequence;
    const uint32_t *tokens;
    uint32_t first; /* position */
    uint32_t count;
};

/* Runs one batch; the logits behind the last row of its first run. */
static td_status_t step(struct rig *rig, const struct run *runs, uint32_t run_count,
                        const float **logits_out)
{
    struct engine_row rows[2 * SELFTEST_PROMPT_MAX];
    struct engine_output output = {.row = runs[0].count - 1, .want = ENGINE_WANT_LOGITS};
    struct engine_batch batch = {.rows = rows,
                                 .sequences = rig->sequences,
                                 .sequence_count = SEQUENCES,
                                 .outputs = &output,
                                 .output_count = 1};
    struct engine_result result;
    td_status_t status;

    for (uint32_t i = 0; i < run_count; i++)
        for (uint32_t k = 0; k < runs[i].count; k++)
            rows[batch.row_count++] = (struct engine_row){.token = runs[i].tokens[k],
                                                          .position = runs[i].first + k,
                                                          .sequence = runs[i].sequence};
    status = rig->backend->ops->run(rig->backend, &batch, &result);
    if (status != TD_OK)
        return td_fail(rig->error, status, "a step failed: %s", td_status_text(status));
    *logits_out = result.outputs[0];
    return TD_OK;
}

/* The best token; TD_CORRUPT if a logit is no number. */
static td_status_t choose(const struct rig *rig, const float *logits, uint32_t *token_out)
{
    uint32_t best = 0;

    for (uint32_t i = 0; i < rig->model->vocab; i++) {
        if (!isfinite(logits[i]))
            return td_fail(rig->error, TD_CORRUPT,
                           "the logit of token %u is no number: the weights are damaged", i);
        if (logits[i] > logits[best])
            best = i;
    }
    *token_out = best;
    return TD_OK;
}

static double rate(uint32_t tokens, uint64_t start_ns)
{
    return tokens * 1e9 / (double)(td_now_ns() - start_ns + 1);
}

/* ---- the test ---- */

static td_status_t decode(struct rig *rig, uint32_t token, uint32_t position,
                          struct selftest_result *result)
{
    uint64_t start_ns = td_now_ns();

    while (result->new_tokens < NEW_TOKENS_MAX && position < rig->model->max_context &&
           td_now_ns() - start_ns < DECODE_NS_MAX) {
        const struct run run = {.tokens = &token, .first = position++, .count = 1};
        const float *logits;
        td_status_t status = step(rig, &run, 1, &logits);

        if (status == TD_OK)
            status = choose(rig, logits, &token);
        if (status != TD_OK)
            return status;
        result->new_tokens++;
    }
    result->decode_tokens_per_s = rate(result->new_tokens, start_ns);
    return TD_OK;
}

/* The prompt again, elsewhere in the pool, piece by piece beside rows of another sequence. */
static td_status_t repeat(struct rig *rig, const uint32_t *prompt, uint32_t count,
                          const float *expected, bool *is_equal_out)
{
    const float *logits = NULL;

    for (uint32_t first = 0; first < count; first += PIECE) {
        uint32_t piece = count - first < PIECE ? count - first : PIECE;
        const struct run runs[] = {
            {.sequence = 1, .tokens = prompt + first, .first = first, .count = piece},
            {.sequence = 2, .tokens = prompt, .first = first, .count = piece},
        };
        td_status_t status = step(rig, runs, 2, &logits);

        if (status != TD_OK)
            return status;
    }
    *is_equal_out = memcmp(logits, expected, rig->model->vocab * sizeof *logits) == 0;
    return TD_OK;
}

static td_status_t run_prompt(struct rig *rig, const uint32_t *prompt, uint32_t count,
                              struct selftest_result *result)
{
    const struct run whole = {.tokens = prompt, .count = count};
    float *expected = malloc(rig->model->vocab * sizeof *expected);
    const float *logits;
    uint32_t token = 0;
    uint64_t start_ns = td_now_ns();
    td_status_t status;

    if (expected == NULL)
        return td_fail(rig->error, TD_NO_MEMORY, "no memory for logits");
    status = step(rig, &whole, 1, &logits);
    result->prompt_tokens_per_s = rate(count, start_ns);
    if (status == TD_OK)
        status = choose(rig, logits, &token);
    if (status == TD_OK) {
        memcpy(expected, logits, rig->model->vocab * sizeof *expected);
        status = decode(rig, token, count, result);
    }
    if (status == TD_OK)
        status = repeat(rig, prompt, count, expected, &result->is_invariant);
    free(expected);
    return status;
}

/* ---- opening ---- */

static td_status_t open_rig(struct rig *rig, const struct selftest_options *wanted,
                            double *pack_s_out)
{
    uint32_t cpus = td_cpus_usable();
    const struct cpu_weights_options packing = {
        .threads = cpus < CPU_THREADS_MAX ? cpus : CPU_THREADS_MAX}; /* leaves no file */
    struct cpu_options options = {.threads = wanted->threads,
                                  .numerics = wanted->numerics,
                                  .kv_dtype = wanted->kv_dtype,
                                  .rows_max = 2 * SELFTEST_PROMPT_MAX,
                                  .outputs_max = 1};
    uint64_t start_ns = td_now_ns();
    size_t block_bytes;
    td_status_t status =
        cpu_block_bytes(rig->model, wanted->kv_dtype, CLI_BLOCK_TOKENS, &block_bytes, rig->error);

    if (status == TD_OK)
        status = cpu_weights_open(rig->model, &packing, &rig->weights, rig->error);
    *pack_s_out = (double)(td_now_ns() - start_ns) / 1e9;
    options.weights = rig->weights;
    if (status == TD_OK)
        status = engine_kv_open(SEQUENCES * BLOCKS_EACH, CLI_BLOCK_TOKENS, block_bytes, &rig->kv,
                                rig->error);
    if (status == TD_OK)
        status = cpu_backend_open(rig->model, &rig->kv, &options, &rig->backend, rig->error);
    for (uint32_t i = 0; i < SEQUENCES * BLOCKS_EACH; i++) {
        rig->slots[i % SEQUENCES][i / SEQUENCES] = i; /* blocks of a sequence are no neighbours */
        rig->sequences[i % SEQUENCES] = (struct engine_batch_sequence){
            .slots = rig->slots[i % SEQUENCES], .slot_count = BLOCKS_EACH};
    }
    return status;
}

td_status_t selftest_run(const struct model *model, const struct selftest_options *options,
                         const uint32_t *prompt, uint32_t prompt_tokens,
                         struct selftest_result *result_out, struct td_error *error)
{
    struct rig rig = {.model = model, .kv = {.fd = -1}, .error = error};
    td_status_t status;

    *result_out = (struct selftest_result){.prompt_tokens = prompt_tokens};
    status = open_rig(&rig, options, &result_out->pack_s);
    if (status == TD_OK)
        status = run_prompt(&rig, prompt, prompt_tokens, result_out);
    if (rig.backend != NULL)
        rig.backend->ops->close(rig.backend);
    cpu_weights_close(rig.weights);
    engine_kv_close(&rig.kv);
    return status;
}
