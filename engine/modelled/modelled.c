/* modelled.c: the backend that spends modelled time, and its oracle; see modelled.h. */
#include "engine/modelled/modelled.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/sample.h"
#include "lib/base/hash.h"
#include "lib/base/time.h"

#define KV_HEADS    2
#define LAYERS      2
#define HEAD_DIM    4 /* of 2 bytes: an entry is one 64-bit value */
#define PAGES       (KV_HEADS * LAYERS * 2)
#define ENTRY_BYTES sizeof(uint64_t)
#define HIDDEN      8 /* four limbs of the value, four of its check */

struct modelled {
    struct engine_backend backend;
    struct modelled_config config;
    struct engine_kv kv;
    float *values;         /* [outputs_max][widest output] */
    const float **outputs; /* [outputs_max] */
};

/* ---- the model ---- */

/* The finalizer of splitmix64 (Steele, Lea and Flood, 2014) over a pair. */
static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t z = a * UINT64_C(0x9e3779b97f4a7c15) + b + UINT64_C(0x632be59bd9b4e019);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* What a token attends to: a fold over the blocks before its own, and one over its own block so far. */
struct context {
    uint64_t before;
    uint64_t within;
};

static struct context context_start(const struct modelled_config *config)
{
    return (struct context){.before = mix(config->weights, 1), .within = 0};
}

static uint64_t chain_value(const struct context *context, uint32_t token, uint32_t position)
{
    return mix(mix(context->before, context->within), mix(token, position));
}

/* The context of the token after the one at this position. */
static void context_extend(struct context *context, uint64_t value, uint32_t position,
                           uint32_t block_tokens)
{
    if ((position + 1) % block_tokens == 0)
        *context = (struct context){.before = mix(context->before, value), .within = 0};
    else
        context->within = mix(context->within, value);
}

/* Between 0 and 16, so that the best few of a thousand share most of the probability. */
static float logit(uint64_t value, uint32_t id)
{
    return (float)(mix(value, id) >> 40) * (16.0f / 16777216.0f);
}

static void make_logits(const struct modelled_config *config, uint64_t value, float *out)
{
    for (uint32_t id = 0; id < config->vocab; id++)
        out[id] = logit(value, id);
}

static void make_hidden(uint64_t value, float out[static HIDDEN])
{
    uint64_t check = mix(value, HIDDEN);

    for (int i = 0; i < HIDDEN / 2; i++) {
        out[i] = (float)(value >> 16 * i & 0xffff);
        out[i + HIDDEN / 2] = (float)(check >> 16 * i & 0xffff);
    }
}

/* The value in a hidden state; a state that was damaged on its way gives a poisoned one. */
static uint64_t read_hidden(const float in[static HIDDEN])
{
    float expected[HIDDEN];
    uint64_t value = 0;

    for (int i = 0; i < HIDDEN / 2; i++)
        if (in[i] >= 0.0f && in[i] <= 65535.0f)
            value |= (uint64_t)in[i] << 16 * i;
    make_hidden(value, expected);
    return memcmp(in, expected, sizeof expected) == 0 ? value : mix(value, UINT64_MAX);
}

/* ---- KV ---- */

static uint8_t *entry_at(const struct modelled *modelled, const struct engine_batch_sequence *from,
                         uint32_t position, uint32_t page)
{
    uint32_t block_tokens = modelled->kv.block_tokens;
    uint32_t slot;

    assert(position / block_tokens < from->slot_count);
    slot = from->slots[position / block_tokens];
    assert(slot < modelled->kv.block_count);
    return modelled->kv.base + slot * modelled->kv.block_bytes +
           ((size_t)page * block_tokens + position % block_tokens) * ENTRY_BYTES;
}

static void write_entry(const struct modelled *modelled, const struct engine_batch_sequence *to,
                        uint32_t position, uint64_t value)
{
    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t masked = value ^ mix(page, PAGES);

        memcpy(entry_at(modelled, to, position, page), &masked, sizeof masked);
    }
}

static uint64_t read_entry(const struct modelled *modelled,
                           const struct engine_batch_sequence *from, uint32_t position)
{
    uint64_t first = 0;
    uint64_t poison = 0;

    for (uint32_t page = 0; page < PAGES; page++) {
        uint64_t value;

        memcpy(&value, entry_at(modelled, from, position, page), sizeof value);
        value ^= mix(page, PAGES);
        if (page == 0)
            first = value;
        else if (value != first)
            poison = mix(poison, value);
    }
    return poison == 0 ? first : mix(first, poison);
}

/* The context of a position, read back from the KV of those before it. */
static struct context context_at(const struct modelled *modelled,
                                 const struct engine_batch_sequence *from, uint32_t position)
{
    struct context context = context_start(&modelled->config);
    uint32_t block_tokens = modelled->kv.block_tokens;
    uint32_t own_block = position / block_tokens * block_tokens;

    for (uint32_t last = block_tokens - 1; last < own_block; last += block_tokens)
        context_extend(&context, read_entry(modelled, from, last), last, block_tokens);
    for (uint32_t before = own_block; before < position; before++)
        context_extend(&context, read_entry(modelled, from, before), before, block_tokens);
    return context;
}

/* ---- running ---- */

static void run_row(const struct modelled *modelled, const struct engine_batch *batch,
                    const struct engine_row *row)
{
    const struct engine_batch_sequence *sequence = &batch->sequences[row->sequence];
    struct context context = context_at(modelled, sequence, row->position);

    write_entry(modelled, sequence, row->position,
                chain_value(&context, row->token, row->position));
}

static void make_output(struct modelled *modelled, const struct engine_batch *batch, uint32_t index)
{
    const struct engine_output *output = &batch->outputs[index];
    uint32_t width = modelled->config.vocab > HIDDEN ? modelled->config.vocab : HIDDEN;
    float *out = modelled->values + (size_t)index * width;
    uint64_t value;

    if (output->is_head) {
        value = read_hidden(batch->heads[output->row]);
    } else {
        const struct engine_row *row = &batch->rows[output->row];

        value = read_entry(modelled, &batch->sequences[row->sequence], row->position);
    }
    if (output->want == ENGINE_WANT_HIDDEN)
        make_hidden(value, out);
    else
        make_logits(&modelled->config, value, out);
    modelled->outputs[index] = out;
}

/* A sequence with one row decodes, one with more prefills. */
static uint64_t duration_of(const struct modelled_config *config, const struct engine_batch *batch)
{
    uint64_t ns = config->step_ns + batch->head_count * config->decode_row_ns;

    for (uint32_t row = 0; row < batch->row_count; row++) {
        uint32_t sequence = batch->rows[row].sequence;
        bool has_mate = (row > 0 && batch->rows[row - 1].sequence == sequence) ||
                        (row + 1 < batch->row_count && batch->rows[row + 1].sequence == sequence);

        ns += has_mate ? config->prefill_row_ns : config->decode_row_ns;
    }
    return ns;
}

static void spend(uint64_t duration_ns)
{
    struct timespec left = {.tv_sec = (time_t)(duration_ns / TD_NS_PER_SEC),
                            .tv_nsec = (long)(duration_ns % TD_NS_PER_SEC)};

    while (nanosleep(&left, &left) != 0)
        continue;
}

static td_status_t run(struct engine_backend *backend, const struct engine_batch *batch,
                       struct engine_result *result_out)
{
    struct modelled *modelled = (struct modelled *)(void *)backend;
    uint64_t duration_ns = duration_of(&modelled->config, batch);

    assert(batch->row_count <= backend->rows_max && batch->output_count <= backend->outputs_max);
    for (uint32_t row = 0; row < batch->row_count; row++)
        run_row(modelled, batch, &batch->rows[row]);
    for (uint32_t index = 0; index < batch->output_count; index++)
        make_output(modelled, batch, index);
    if (modelled->config.sleeps)
        spend(duration_ns);
    *result_out = (struct engine_result){.outputs = modelled->outputs, .duration_ns = duration_ns};
    return TD_OK;
}

/* ---- opening and closing ---- */

static struct modelled_config filled(const struct modelled_config *config)
{
    struct modelled_config full = *config;

    full.vocab = config->vocab == 0 ? 1024 : config->vocab;
    full.block_tokens = modelled_block_tokens(config);
    full.max_context = config->max_context == 0 ? 4096 : config->max_context;
    full.rows_max = config->rows_max == 0 ? 512 : config->rows_max;
    full.outputs_max = config->outputs_max == 0 ? 256 : config->outputs_max;
    return full;
}

uint32_t modelled_block_tokens(const struct modelled_config *config)
{
    return config->block_tokens == 0 ? 16 : config->block_tokens;
}

size_t modelled_block_bytes(const struct modelled_config *config)
{
    return (size_t)modelled_block_tokens(config) * PAGES * ENTRY_BYTES;
}

static td_status_t check(const struct modelled_config *config, const struct engine_kv *kv,
                         struct td_error *error)
{
    if (config->vocab > ENGINE_VOCAB_MAX)
        return td_fail(error, TD_INVALID, "vocab %u: at most %u", config->vocab, ENGINE_VOCAB_MAX);
    if (config->stop_id_count > sizeof config->stop_ids / sizeof config->stop_ids[0])
        return td_fail(error, TD_INVALID, "stop_id_count %u", config->stop_id_count);
    if (kv->block_tokens != config->block_tokens || kv->block_bytes != modelled_block_bytes(config))
        return td_fail(error, TD_INVALID, "the pool has blocks of %u tokens and %zu bytes",
                       kv->block_tokens, kv->block_bytes);
    return TD_OK;
}

static void describe(const struct modelled_config *config, struct engine_model_info *info)
{
    *info = (struct engine_model_info){
        .vocab = config->vocab,
        .hidden = HIDDEN,
        .layers = LAYERS,
        .heads = KV_HEADS,
        .kv_heads = KV_HEADS,
        .head_dim = HEAD_DIM,
        .max_context = config->max_context,
        .stop_id_count = config->stop_id_count,
        .block_tokens = config->block_tokens,
        .block_bytes = modelled_block_bytes(config),
        .weights_digest = td_u128_from_u64(mix(config->weights, config->vocab)),
        .rope = "none",
        .kv_dtype = "f16",
        .numerics = "modelled-1",
    };
    snprintf(info->name, sizeof info->name, "modelled-%llu", (unsigned long long)config->weights);
    memcpy(info->stop_ids, config->stop_ids, sizeof config->stop_ids);
    info->content_id =
        td_hash128_chain(info->weights_digest, info->numerics, sizeof info->numerics);
}

static void close_backend(struct engine_backend *backend)
{
    struct modelled *modelled = (struct modelled *)(void *)backend;

    free(modelled->values);
    free(modelled->outputs);
    free(modelled);
}

static const struct engine_backend_ops modelled_ops = {
    .name = "modelled", .run = run, .close = close_backend};

td_status_t modelled_open(const struct modelled_config *config, const struct engine_kv *kv,
                          struct engine_backend **backend_out, struct td_error *error)
{
    struct modelled_config full = filled(config);
    uint32_t width = full.vocab > HIDDEN ? full.vocab : HIDDEN;
    td_status_t status = check(&full, kv, error);
    struct modelled *modelled;

    if (status != TD_OK)
        return status;
    modelled = calloc(1, sizeof *modelled);
    if (modelled == NULL)
        return td_fail(error, TD_NO_MEMORY, "the modelled backend");
    modelled->backend.ops = &modelled_ops;
    modelled->backend.rows_max = full.rows_max;
    modelled->backend.outputs_max = full.outputs_max;
    modelled->config = full;
    modelled->kv = *kv;
    describe(&full, &modelled->backend.info);
    modelled->values = calloc(full.outputs_max, width * sizeof *modelled->values);
    modelled->outputs = calloc(full.outputs_max, sizeof *modelled->outputs);
    if (modelled->values == NULL || modelled->outputs == NULL) {
        close_backend(&modelled->backend);
        return td_fail(error, TD_NO_MEMORY, "outputs of the modelled backend");
    }
    *backend_out = &modelled->backend;
    return TD_OK;
}

/* ---- the oracle ---- */

static bool is_stop(const struct modelled_config *config, const struct engine_submit *submit,
                    uint32_t token)
{
    for (uint32_t i = 0; i < submit->stop_id_count; i++)
        if (submit->stop_ids[i] == token)
            return true;
    for (uint32_t i = 0; i < config->stop_id_count && !submit->ignore_model_stops; i++)
        if (config->stop_ids[i] == token)
            return true;
    return false;
}

/* Everything the model remembers of the tokens so far, in one context and the newest value. */
struct oracle {
    struct modelled_config config;
    struct engine_sampler sampler;
    struct context context;
    uint64_t value;
    uint32_t *tokens; /* [position] fed so far; the sampler's history */
    uint32_t position;
};

static void oracle_feed(struct oracle *oracle, uint32_t token)
{
    oracle->value = chain_value(&oracle->context, token, oracle->position);
    context_extend(&oracle->context, oracle->value, oracle->position, oracle->config.block_tokens);
    oracle->tokens[oracle->position++] = token;
}

static uint32_t oracle_draw(struct oracle *oracle, const struct engine_submit *submit,
                            float *logits)
{
    struct engine_history history = {
        .tokens = oracle->tokens, .prompt_count = submit->token_count, .count = oracle->position};
    uint32_t token = 0;
    td_status_t status;

    make_logits(&oracle->config, oracle->value, logits);
    status = engine_sample(&oracle->sampler, logits, &submit->sampling, &history, &token);
    assert(status == TD_OK); /* the logits are finite */
    return token;
}

uint32_t modelled_expected_tokens(const struct modelled_config *config,
                                  const struct engine_submit *submit, uint32_t *tokens_out,
                                  enum engine_finish *finish_out)
{
    struct oracle oracle = {.config = filled(config)};
    float *logits = calloc(oracle.config.vocab, sizeof *logits);
    td_status_t status = engine_sampler_init(&oracle.sampler, oracle.config.vocab);
    uint32_t count = 0;

    oracle.tokens = calloc((size_t)submit->token_count + submit->max_new_tokens, sizeof(uint32_t));
    assert(logits != NULL && oracle.tokens != NULL && status == TD_OK);
    oracle.context = context_start(&oracle.config);
    for (uint32_t i = 0; i < submit->token_count; i++)
        oracle_feed(&oracle, submit->tokens[i]);
    *finish_out = ENGINE_FINISH_LENGTH;
    while (count < submit->max_new_tokens) {
        uint32_t token = oracle_draw(&oracle, submit, logits);

        tokens_out[count++] = token;
        if (is_stop(&oracle.config, submit, token)) {
            *finish_out = ENGINE_FINISH_STOP;
            break;
        }
        oracle_feed(&oracle, token);
    }
    engine_sampler_fini(&oracle.sampler);
    free(oracle.tokens);
    free(logits);
    return count;
}
