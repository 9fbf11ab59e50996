/* model.c: the llama architecture in GGUF files; see model.h. */
#include "model/model.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/hash.h"

#define ROPE_BASE_DEFAULT 10000.0f

/* Far beyond anything published; keeps angles in a range where they mean something. */
#define ROPE_FACTOR_MIN 1e-3f
#define ROPE_FACTOR_MAX 1e6f

/* What reading a model passes around. used[i]: tensor i of the file has found its place. */
struct reading {
    struct model *model;
    const struct model_gguf *file;
    bool *used;
    struct td_error *error;
};

/* ------------------------------------------------------------------ hyperparameters */

static td_status_t read_count(struct reading *reading, const char *key, uint32_t count_max,
                              uint32_t *count_out)
{
    uint32_t count = 0;
    td_status_t status = model_gguf_get_u32(reading->file, key, &count, reading->error);

    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID, "key %s is missing", key);
    if (status != TD_OK)
        return status;
    if (count == 0 || count > count_max)
        return td_fail(reading->error, TD_LIMIT,
                       "key %s is %" PRIu32 " (1 to %" PRIu32 " are possible)", key, count,
                       count_max);
    *count_out = count;
    return TD_OK;
}

/* A count that may be absent: then *count_out keeps its value. */
static td_status_t read_optional_count(struct reading *reading, const char *key, uint32_t count_max,
                                       uint32_t *count_out)
{
    if (model_gguf_find(reading->file, key) == NULL)
        return TD_OK;
    return read_count(reading, key, count_max, count_out);
}

static td_status_t read_optional_float(struct reading *reading, const char *key, float *value_out)
{
    td_status_t status = model_gguf_get_f32(reading->file, key, value_out, reading->error);

    return status == TD_NOT_FOUND ? TD_OK : status;
}

/* Features of other llama-like models that would change results if they were ignored. */
static td_status_t refuse_variants(struct reading *reading)
{
    static const char *const keys[] = {"llama.expert_count", "llama.attention.sliding_window"};

    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        uint32_t value = 0;
        td_status_t status = model_gguf_get_u32(reading->file, keys[i], &value, reading->error);

        if (status != TD_OK && status != TD_NOT_FOUND)
            return status;
        if (value != 0)
            return td_fail(reading->error, TD_UNSUPPORTED,
                           "key %s is %" PRIu32 "; such models are not served", keys[i], value);
    }
    return TD_OK;
}

static td_status_t check_architecture(struct reading *reading)
{
    struct td_span name = {0};
    char shown[64];
    td_status_t status =
        model_gguf_get_text(reading->file, "general.architecture", &name, reading->error);

    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID, "key general.architecture is missing");
    if (status != TD_OK)
        return status;
    if (!td_span_is(name, "llama"))
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "architecture %s is not served; llama is (Llama 3, SmolLM2, ...)",
                       model_gguf_show(name, shown, sizeof shown));
    return refuse_variants(reading);
}

static td_status_t read_heads(struct reading *reading)
{
    struct model *model = reading->model;
    uint32_t value_dim;
    uint32_t rope_dim;
    td_status_t status;

    status = read_count(reading, "llama.attention.head_count", MODEL_HEADS_MAX, &model->heads);
    if (status != TD_OK)
        return status;
    model->kv_heads = model->heads;
    model->head_dim = model->hidden / model->heads;
    status = read_optional_count(reading, "llama.attention.head_count_kv", model->heads,
                                 &model->kv_heads);
    if (status == TD_OK)
        status = read_optional_count(reading, "llama.attention.key_length", MODEL_HEAD_DIM_MAX,
                                     &model->head_dim);
    value_dim = model->head_dim;
    rope_dim = model->head_dim;
    if (status == TD_OK)
        status = read_optional_count(reading, "llama.attention.value_length", MODEL_HEAD_DIM_MAX,
                                     &value_dim);
    if (status == TD_OK)
        status = read_optional_count(reading, "llama.rope.dimension_count", MODEL_HEAD_DIM_MAX,
                                     &rope_dim);
    if (status != TD_OK)
        return status;
    if (model->heads % model->kv_heads != 0)
        return td_fail(reading->error, TD_INVALID,
                       "%" PRIu32 " heads do not share %" PRIu32 " KV heads evenly", model->heads,
                       model->kv_heads);
    if (model->head_dim == 0 || model->head_dim % 2 != 0 || model->head_dim > MODEL_HEAD_DIM_MAX)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "a head of %" PRIu32 " values is not supported (even, up to %d)",
                       model->head_dim, MODEL_HEAD_DIM_MAX);
    if (value_dim != model->head_dim || rope_dim != model->head_dim)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "heads with key length %" PRIu32 ", value length %" PRIu32 " and %" PRIu32
                       " rotated values are not supported (all must be equal)",
                       model->head_dim, value_dim, rope_dim);
    return TD_OK;
}

static td_status_t read_numbers(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status;

    status = read_count(reading, "llama.block_count", MODEL_LAYERS_MAX, &model->layers);
    if (status == TD_OK)
        status =
            read_count(reading, "llama.context_length", MODEL_CONTEXT_MAX, &model->max_context);
    if (status == TD_OK)
        status = read_count(reading, "llama.embedding_length", MODEL_HIDDEN_MAX, &model->hidden);
    if (status == TD_OK)
        status = read_count(reading, "llama.feed_forward_length", MODEL_FFN_MAX, &model->ffn);
    if (status == TD_OK)
        status = read_heads(reading);
    if (status != TD_OK)
        return status;
    status = model_gguf_get_f32(reading->file, "llama.attention.layer_norm_rms_epsilon",
                                &model->rms_epsilon, reading->error);
    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID,
                       "key llama.attention.layer_norm_rms_epsilon is missing");
    if (status != TD_OK)
        return status;
    if (!(model->rms_epsilon >= 0.0f && model->rms_epsilon < 1.0f))
        return td_fail(reading->error, TD_INVALID,
                       "key llama.attention.layer_norm_rms_epsilon is %g", model->rms_epsilon);
    return TD_OK;
}

/* A missing or odd name is no reason to refuse a model. */
static void read_name(struct reading *reading)
{
    struct td_span name = {0};

    if (model_gguf_get_text(reading->file, "general.name", &name, NULL) != TD_OK ||
        name.length == 0)
        name = td_span_of("llama");
    model_gguf_show(name, reading->model->name, sizeof reading->model->name);
}

/* ------------------------------------------------------------------ tensors */

/* Finds a tensor of a shape; its name is given as format. Marks it as used. */
static td_status_t take_tensor(struct reading *reading, uint64_t columns, uint64_t rows,
                               const struct model_gguf_tensor **tensor_out, const char *name)
{
    const struct model_gguf_tensor *tensor = model_gguf_tensor(reading->file, name);

    if (tensor == NULL)
        return td_fail(reading->error, TD_INVALID, "tensor %s is missing", name);
    if (tensor->dims[0] != columns || tensor->dims[1] != rows || tensor->dims[2] != 1 ||
        tensor->dims[3] != 1)
        return td_fail(reading->error, TD_INVALID,
                       "tensor %s has shape [%" PRIu64 ", %" PRIu64 ", %" PRIu64 ", %" PRIu64
                       "] where [%" PRIu64 ", %" PRIu64 "] was expected",
                       name, tensor->dims[0], tensor->dims[1], tensor->dims[2], tensor->dims[3],
                       columns, rows);
    reading->used[tensor - model_gguf_tensor_at(reading->file, 0)] = true;
    *tensor_out = tensor;
    return TD_OK;
}

static td_status_t take_matrix(struct reading *reading, uint32_t rows, uint32_t columns,
                               struct model_matrix *matrix_out, const char *name)
{
    const struct model_gguf_tensor *tensor;
    td_status_t status = take_tensor(reading, columns, rows, &tensor, name);

    if (status != TD_OK)
        return status;
    if (!model_type_info(tensor->type)->is_supported)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "tensor %s has type %s; served are " MODEL_TYPES_SERVED, name,
                       model_type_info(tensor->type)->name);
    *matrix_out = (struct model_matrix){.type = (enum model_type)tensor->type,
                                        .rows = rows,
                                        .columns = columns,
                                        .data = tensor->data,
                                        .row_bytes = tensor->row_bytes};
    return TD_OK;
}

static td_status_t take_vector(struct reading *reading, uint32_t count, const float **values_out,
                               const char *name)
{
    const struct model_gguf_tensor *tensor;
    td_status_t status = take_tensor(reading, count, 1, &tensor, name);

    if (status != TD_OK)
        return status;
    if (tensor->type != MODEL_TYPE_F32)
        return td_fail(reading->error, TD_UNSUPPORTED, "tensor %s has type %s instead of F32", name,
                       model_type_info(tensor->type)->name);
    *values_out = (const float *)(const void *)tensor->data; /* aligned to 8: see gguf.h */
    return TD_OK;
}

static td_status_t take_layer(struct reading *reading, uint32_t index)
{
    struct model *model = reading->model;
    struct model_layer *layer = &model->layer[index];
    uint32_t q_rows = model->heads * model->head_dim;
    uint32_t kv_rows = model->kv_heads * model->head_dim;
    const struct {
        const char *name;
        struct model_matrix *matrix;
        uint32_t rows;
        uint32_t columns;
    } matrices[] = {
        {"attn_q", &layer->q, q_rows, model->hidden},
        {"attn_k", &layer->k, kv_rows, model->hidden},
        {"attn_v", &layer->v, kv_rows, model->hidden},
        {"attn_output", &layer->attention_output, model->hidden, q_rows},
        {"ffn_gate", &layer->gate, model->ffn, model->hidden},
        {"ffn_up", &layer->up, model->ffn, model->hidden},
        {"ffn_down", &layer->down, model->hidden, model->ffn},
    };
    char name[MODEL_GGUF_TENSOR_NAME_BYTES];
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0] && status == TD_OK; i++) {
        snprintf(name, sizeof name, "blk.%" PRIu32 ".%s.weight", index, matrices[i].name);
        status =
            take_matrix(reading, matrices[i].rows, matrices[i].columns, matrices[i].matrix, name);
    }
    if (status != TD_OK)
        return status;
    snprintf(name, sizeof name, "blk.%" PRIu32 ".attn_norm.weight", index);
    status = take_vector(reading, model->hidden, &layer->attention_norm, name);
    if (status != TD_OK)
        return status;
    snprintf(name, sizeof name, "blk.%" PRIu32 ".ffn_norm.weight", index);
    return take_vector(reading, model->hidden, &layer->ffn_norm, name);
}

/* The embedding says how large the vocabulary is. */
static td_status_t take_embedding(struct reading *reading)
{
    struct model *model = reading->model;
    const struct model_gguf_tensor *tensor = model_gguf_tensor(reading->file, "token_embd.weight");
    td_status_t status;

    if (tensor == NULL)
        return td_fail(reading->error, TD_INVALID, "tensor token_embd.weight is missing");
    if (tensor->dims[1] > MODEL_VOCAB_MAX)
        return td_fail(reading->error, TD_LIMIT,
                       "tensor token_embd.weight has %" PRIu64 " rows (at most %" PRIu32 ")",
                       tensor->dims[1], MODEL_VOCAB_MAX);
    model->vocab = (uint32_t)tensor->dims[1];
    status =
        take_matrix(reading, model->vocab, model->hidden, &model->embedding, "token_embd.weight");
    if (status != TD_OK)
        return status;
    model->output = model->embedding;
    if (model_gguf_tensor(reading->file, "output.weight") == NULL) /* tied */
        return TD_OK;
    return take_matrix(reading, model->vocab, model->hidden, &model->output, "output.weight");
}

/* A tensor without a place is a part of the model that would be left out silently. */
static td_status_t check_all_used(struct reading *reading)
{
    for (uint32_t i = 0; i < model_gguf_tensor_count(reading->file); i++)
        if (!reading->used[i])
            return td_fail(reading->error, TD_UNSUPPORTED,
                           "tensor %s is no part of a llama model as known here",
                           model_gguf_tensor_at(reading->file, i)->name);
    return TD_OK;
}

/* ------------------------------------------------------------------ position encoding */

static td_status_t read_rope_scale(struct reading *reading)
{
    struct model_rope *rope = &reading->model->rope;
    struct td_span type = td_span_of("linear");
    char shown[64];
    float factor = 1.0f;
    td_status_t status =
        model_gguf_get_text(reading->file, "llama.rope.scaling.type", &type, reading->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    rope->scale = 1.0f;
    if (td_span_is(type, "none"))
        return TD_OK;
    if (!td_span_is(type, "linear"))
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "rope scaling %s is not served; none and linear are",
                       model_gguf_show(type, shown, sizeof shown));
    status = read_optional_float(reading, "llama.rope.scale_linear", &factor);
    if (status == TD_OK)
        status = read_optional_float(reading, "llama.rope.scaling.factor", &factor);
    if (status != TD_OK)
        return status;
    if (!(factor == 0.0f || (factor >= ROPE_FACTOR_MIN && factor <= ROPE_FACTOR_MAX)))
        return td_fail(reading->error, TD_INVALID, "key llama.rope.scaling.factor is %g", factor);
    rope->scale = factor == 0.0f ? 1.0f : factor; /* 0 is how some writers say "none" */
    return TD_OK;
}

static td_status_t read_rope_factors(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status;

    if (model_gguf_tensor(reading->file, "rope_freqs.weight") == NULL)
        return TD_OK;
    status = take_vector(reading, model->head_dim / 2, &model->rope.factors, "rope_freqs.weight");
    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < model->head_dim / 2; i++)
        if (!(model->rope.factors[i] >= ROPE_FACTOR_MIN &&
              model->rope.factors[i] <= ROPE_FACTOR_MAX))
            return td_fail(reading->error, TD_INVALID,
                           "tensor rope_freqs.weight: value %" PRIu32 " is %g", i,
                           model->rope.factors[i]);
    return TD_OK;
}

static td_status_t read_rope(struct reading *reading)
{
    struct model *model = reading->model;
    struct model_rope *rope = &model->rope;
    char factors[TD_U128_HEX_BYTES] = "none";
    td_status_t status;

    rope->base = ROPE_BASE_DEFAULT;
    status = read_optional_float(reading, "llama.rope.freq_base", &rope->base);
    if (status != TD_OK)
        return status;
    if (!(rope->base >= 1.0f && rope->base <= 1e12f))
        return td_fail(reading->error, TD_INVALID, "key llama.rope.freq_base is %g", rope->base);
    status = read_rope_scale(reading);
    if (status == TD_OK)
        status = read_rope_factors(reading);
    if (status != TD_OK)
        return status;
    if (rope->factors != NULL)
        td_u128_hex(td_hash128(rope->factors, model->head_dim / 2 * sizeof(float)), factors);
    snprintf(rope->text, sizeof rope->text, "half base %.9g scale %.9g factors %s", rope->base,
             rope->scale, factors);
    return TD_OK;
}

/* ------------------------------------------------------------------ the whole */

static td_status_t read_weights(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status = take_embedding(reading);

    if (status == TD_OK)
        status = take_vector(reading, model->hidden, &model->output_norm, "output_norm.weight");
    for (uint32_t i = 0; i < model->layers && status == TD_OK; i++)
        status = take_layer(reading, i);
    if (status == TD_OK)
        status = read_rope(reading);
    return status == TD_OK ? check_all_used(reading) : status;
}

static td_status_t read_model(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status = check_architecture(reading);

    if (status == TD_OK)
        status = read_numbers(reading);
    if (status != TD_OK)
        return status;
    read_name(reading);
    model->layer = calloc(model->layers, sizeof *model->layer);
    reading->used = calloc((size_t)model_gguf_tensor_count(reading->file) + 1, sizeof(bool));
    if (model->layer == NULL || reading->used == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for %" PRIu32 " layers",
                       model->layers);
    return read_weights(reading);
}

td_status_t model_from_gguf(struct model_gguf *file, struct model **model_out,
                            struct td_error *error)
{
    struct model *model = calloc(1, sizeof *model);
    struct reading reading = {.model = model, .file = file, .error = error};
    const uint8_t *bytes;
    size_t length;
    td_status_t status;

    if (model == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a model");
    text_source_init(&model->text);
    status = read_model(&reading);
    free(reading.used);
    model->file = file;
    if (status == TD_OK)
        status = model_read_text(model, error);
    if (status != TD_OK) {
        model->file = NULL; /* stays the caller's */
        model_close(model);
        return status;
    }
    bytes = model_gguf_bytes(file, &length);
    model->weights_digest = td_hash128(bytes, length);
    *model_out = model;
    return TD_OK;
}

td_status_t model_open(const char *path, struct model **model_out, struct td_error *error)
{
    struct model_gguf *file = NULL;
    td_status_t status = model_gguf_open(path, &file, error);

    if (status != TD_OK)
        return status;
    status = model_from_gguf(file, model_out, error);
    if (status != TD_OK) {
        td_fail_wrap(error, "%s", path);
        model_gguf_close(file);
    }
    return status;
}

void model_close(struct model *model)
{
    if (model == NULL)
        return;
    free(model->layer);
    free(model->text_tokens);
    free(model->text_merges);
    model_gguf_close(model->file);
    free(model);
}

struct td_u128 model_content_id(struct td_u128 weights_digest, const char *rope,
                                const char *kv_dtype, const char *numerics)
{
    char text[512];
    char digest[TD_U128_HEX_BYTES];
    int length =
        snprintf(text, sizeof text, "weights %s\nrope %s\nkv_dtype %s\nnumerics %s\nadapter \n",
                 td_u128_hex(weights_digest, digest), rope, kv_dtype, numerics);

    assert(length > 0 && (size_t)length < sizeof text); /* the parts are ours and short */
    return td_hash128(text, (size_t)length);
}
