/* cpu_rig.c: see cpu_rig.h. */
#include "tests/engine/cpu_rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

#define OUTPUTS_MAX 64
#define ROWS_MAX    2048

void cpu_rig_open(struct cpu_rig *rig, struct model *model, const struct cpu_rig_options *options)
{
    uint32_t blocks = options->blocks > 0 ? options->blocks : 64;
    uint32_t block_tokens =
        options->block_tokens > 0 ? options->block_tokens : CPU_RIG_BLOCK_TOKENS;
    struct td_error error = {0};
    size_t block_bytes;

    rig->model = model;
    if (options->kernels != NULL)
        setenv("TANDEM_CPU", options->kernels, 1);
    if (cpu_block_bytes(model, options->cpu.kv_dtype, block_tokens, &block_bytes, &error) !=
            TD_OK ||
        engine_kv_open(blocks, block_tokens, block_bytes, &rig->kv, &error) != TD_OK ||
        cpu_backend_open(model, &rig->kv, &options->cpu, &rig->backend, &error) != TD_OK)
        fail_msg("%s", error.text);
    unsetenv("TANDEM_CPU");
    rig->slots = calloc(blocks, sizeof *rig->slots);
    assert_non_null(rig->slots);
    for (uint32_t i = 0; i < blocks; i++)
        rig->slots[i] = blocks - 1 - i;
}

void cpu_rig_open_file(struct cpu_rig *rig, const char *path, const struct cpu_rig_options *options)
{
    struct model *model;
    struct td_error error = {0};

    if (model_open(path, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    cpu_rig_open(rig, model, options);
}

void cpu_rig_close(struct cpu_rig *rig)
{
    rig->backend->ops->close(rig->backend);
    engine_kv_close(&rig->kv);
    model_close(rig->model);
    free(rig->slots);
}

void cpu_rig_tokens(uint32_t vocab, uint64_t seed, uint32_t *tokens, uint32_t count)
{
    struct td_rng rng;

    td_rng_init(&rng, seed);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)td_rng_below(&rng, vocab);
}

struct engine_result cpu_rig_run(struct cpu_rig *rig, const struct engine_batch *batch)
{
    struct engine_result result = {0};

    assert_int_equal(rig->backend->ops->run(rig->backend, batch, &result), TD_OK);
    return result;
}

void cpu_rig_feed(struct cpu_rig *rig, uint32_t first_slot, const uint32_t *tokens, uint32_t from,
                  uint32_t end, enum engine_want want, uint32_t outputs, const float **results_out)
{
    static struct engine_row rows[ROWS_MAX];
    struct engine_output wanted[OUTPUTS_MAX];
    struct engine_batch_sequence sequence = {.slots = rig->slots + first_slot,
                                             .slot_count = rig->kv.block_count - first_slot};
    struct engine_batch batch = {.rows = rows,
                                 .row_count = end - from,
                                 .sequences = &sequence,
                                 .sequence_count = 1,
                                 .outputs = wanted,
                                 .output_count = outputs};
    struct engine_result result;

    assert_true(end - from <= ROWS_MAX && outputs <= OUTPUTS_MAX && outputs <= end - from);
    for (uint32_t i = from; i < end; i++)
        rows[i - from] = (struct engine_row){.token = tokens[i], .position = i};
    for (uint32_t i = 0; i < outputs; i++)
        wanted[i] = (struct engine_output){.row = end - from - outputs + i, .want = want};
    result = cpu_rig_run(rig, &batch);
    for (uint32_t i = 0; i < outputs; i++)
        results_out[i] = result.outputs[i];
}

double cpu_rig_log_sum(const float *logits, uint32_t count)
{
    double max = logits[0];
    double sum = 0;

    for (uint32_t i = 1; i < count; i++)
        max = logits[i] > max ? logits[i] : max;
    for (uint32_t i = 0; i < count; i++)
        sum += exp(logits[i] - max);
    return max + log(sum);
}

uint32_t cpu_rig_argmax(const float *logits, uint32_t count)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < count; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

void cpu_rig_json_open(struct td_arena *arena)
{
    td_arena_init(arena, (size_t)64 << 20);
}

const struct td_json *cpu_rig_json(struct td_arena *arena, const char *text, size_t length)
{
    const struct td_json_limits limits = {
        .bytes_max = (size_t)8 << 20, .nodes_max = 1u << 18, .depth_max = 32};
    const struct td_json *root = NULL;
    struct td_error error = {0};

    if (td_json_parse(arena, td_span_over(text, length), &limits, &root, &error) != TD_OK)
        fail_msg("%s", error.text);
    return root;
}

uint32_t *cpu_rig_integers(const struct td_json *array, uint32_t *count_out)
{
    uint32_t *values;
    uint32_t count = 0;

    assert_non_null(array);
    values = calloc(array->items.count + 1, sizeof *values);
    assert_non_null(values);
    td_json_for_each(item, array)
    {
        assert_int_equal(item->kind, TD_JSON_INTEGER);
        values[count++] = (uint32_t)item->integer;
    }
    *count_out = count;
    return values;
}

double cpu_rig_number(const struct td_json *value)
{
    assert_non_null(value);
    return value->kind == TD_JSON_INTEGER ? (double)value->integer : value->number;
}
