/*
 * gguf_model.c: hyperparameters, position encoding and tensors of a GGUF file; see model.h.
 *
 * Keys of an architecture begin with its name, which key_of puts in front; messages have the whole key.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "model/show.h"

#define KEY_BYTES 96

/* What reading a model passes around. used[i]: tensor i of the file has found its place. */
struct reading {
    struct model *model;
    const struct model_gguf *file;
    bool *used;
    struct td_error *error;
};

/* ------------------------------------------------------------------ hyperparameters */

/* A key of the architecture. */
static const char *key_of(const struct reading *reading, const char *name, char out[KEY_BYTES])
{
    snprintf(out, KEY_BYTES, "%s.%s", reading->model->architecture->gguf, name);
    return out;
}

/* A count that must be there, from 1 up. */
static td_status_t read_count(struct reading *reading, const char *name, uint32_t count_max,
                              uint32_t *count_out)
{
    char key[KEY_BYTES];
    uint32_t count = 0;
    td_status_t status =
        model_gguf_get_u32(reading->file, key_of(reading, name, key), &count, reading->error);

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
static td_status_t read_optional_count(struct reading *reading, const char *name,
                                       uint32_t count_max, uint32_t *count_out)
{
    char key[KEY_BYTES];

    if (model_gguf_find(reading->file, key_of(reading, name, key)) == NULL)
        return TD_OK;
    return read_count(reading, name, count_max, count_out);
}

/* A number that may be absent: then *value_out keeps its value. */
static td_status_t read_optional_float(struct reading *reading, const char *name, double *value_out)
{
    char key[KEY_BYTES];
    float value = 0.0f;
    td_status_t status =
        model_gguf_get_f32(reading->file, key_of(reading, name, key), &value, reading->error);

    if (status == TD_OK &&
        !isfinite(value)) /* not every sum that begins with one comes to an end */
        return td_fail(reading->error, TD_INVALID, "key %s is %g", key, (double)value);
    if (status == TD_OK)
        *value_out = (double)value;
    return status == TD_NOT_FOUND ? TD_OK : status;
}

/* Features of similar models that would change results if they were ignored. */
static td_status_t refuse_variants(struct reading *reading)
{
    char key[KEY_BYTES];
    uint32_t experts = 0;
    uint32_t window = 0;
    td_status_t status = model_gguf_get_u32(reading->file, key_of(reading, "expert_count", key),
                                            &experts, reading->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (experts != 0)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "key %s is %" PRIu32 "; models with experts are not served", key, experts);
    status = model_gguf_get_u32(reading->file, key_of(reading, "attention.sliding_window", key),
                                &window, reading->error);
    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (window != 0 && window < reading->model->max_context) /* a wider one hides nothing */
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "key %s is %" PRIu32 "; windows narrower than the context (%" PRIu32
                       ") are not served",
                       key, window, reading->model->max_context);
    if (model_gguf_tensor(reading->file, "blk.0.attn_qkv.weight") != NULL)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "tensor blk.0.attn_qkv.weight: Q, K and V in one tensor are not served; "
                       "convert the model with attn_q, attn_k and attn_v");
    return TD_OK;
}

static td_status_t read_architecture(struct reading *reading)
{
    struct td_span name = {0};
    char shown[64];
    td_status_t status =
        model_gguf_get_text(reading->file, "general.architecture", &name, reading->error);

    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID, "key general.architecture is missing");
    if (status != TD_OK)
        return status;
    reading->model->architecture = model_architecture_of_gguf(name);
    if (reading->model->architecture == NULL)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "key general.architecture: %s is not served; " MODEL_ARCHITECTURES_SERVED
                       " are",
                       model_show(name, shown, sizeof shown));
    return TD_OK;
}

static td_status_t read_heads(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status;

    status = read_count(reading, "attention.head_count", MODEL_HEADS_MAX, &model->heads);
    if (status != TD_OK)
        return status;
    model->kv_heads = model->heads;
    model->head_dim = model->hidden / model->heads;
    status =
        read_optional_count(reading, "attention.head_count_kv", model->heads, &model->kv_heads);
    if (status == TD_OK)
        status = read_optional_count(reading, "attention.key_length", MODEL_HEAD_DIM_MAX,
                                     &model->head_dim);
    return status;
}

/* Values are as long as keys, and all of a key is rotated. */
static td_status_t check_lengths(struct reading *reading)
{
    uint32_t head_dim = reading->model->head_dim;
    uint32_t value_dim = head_dim;
    uint32_t rope_dim = head_dim;
    td_status_t status =
        read_optional_count(reading, "attention.value_length", MODEL_HEAD_DIM_MAX, &value_dim);

    if (status == TD_OK)
        status =
            read_optional_count(reading, "rope.dimension_count", MODEL_HEAD_DIM_MAX, &rope_dim);
    if (status != TD_OK)
        return status;
    if (value_dim != head_dim || rope_dim != head_dim)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "heads with key length %" PRIu32 ", value length %" PRIu32 " and %" PRIu32
                       " rotated values are not supported (all must be equal)",
                       head_dim, value_dim, rope_dim);
    return TD_OK;
}

static td_status_t read_epsilon(struct reading *reading)
{
    char key[KEY_BYTES];
    float epsilon = 0.0f;
    td_status_t status =
        model_gguf_get_f32(reading->file, key_of(reading, "attention.layer_norm_rms_epsilon", key),
                           &epsilon, reading->error);

    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID, "key %s is missing", key);
    if (status != TD_OK)
        return status;
    if (!(epsilon >= 0.0f && epsilon < 1.0f))
        return td_fail(reading->error, TD_INVALID, "key %s is %g", key, (double)epsilon);
    reading->model->rms_epsilon = epsilon;
    return TD_OK;
}

static td_status_t read_numbers(struct reading *reading)
{
    struct model *model = reading->model;
    td_status_t status;

    status = read_count(reading, "block_count", MODEL_LAYERS_MAX, &model->layers);
    if (status == TD_OK)
        status = read_count(reading, "context_length", MODEL_CONTEXT_MAX, &model->max_context);
    if (status == TD_OK)
        status = read_count(reading, "embedding_length", MODEL_HIDDEN_MAX, &model->hidden);
    if (status == TD_OK)
        status = read_count(reading, "feed_forward_length", MODEL_FFN_MAX, &model->ffn);
    if (status == TD_OK)
        status = read_heads(reading);
    if (status == TD_OK)
        status = read_epsilon(reading);
    if (status == TD_OK)
        status = model_check_numbers(model, reading->error);
    if (status == TD_OK)
        status = check_lengths(reading);
    return status == TD_OK ? refuse_variants(reading) : status;
}

/* A missing or odd name is no reason to refuse a model. */
static void read_name(struct reading *reading)
{
    struct td_span name = {0};

    if (model_gguf_get_text(reading->file, "general.name", &name, NULL) != TD_OK ||
        name.length == 0)
        name = td_span_of(reading->model->architecture->gguf);
    model_show(name, reading->model->name, sizeof reading->model->name);
}

/* ------------------------------------------------------------------ tensors */

static bool find_tensor(void *context, const char *name, struct model_tensor *tensor_out)
{
    struct reading *reading = context;
    const struct model_gguf_tensor *tensor = model_gguf_tensor(reading->file, name);

    if (tensor == NULL)
        return false;
    reading->used[tensor - model_gguf_tensor_at(reading->file, 0)] = true;
    *tensor_out = (struct model_tensor){.type = tensor->type,
                                        .rank = tensor->rank,
                                        .data = tensor->data,
                                        .row_bytes = tensor->row_bytes};
    memcpy(tensor_out->dims, tensor->dims, sizeof tensor_out->dims);
    return true;
}

/* A tensor without a place is a part of the model that would be left out silently. */
static td_status_t check_all_used(struct reading *reading)
{
    for (uint32_t i = 0; i < model_gguf_tensor_count(reading->file); i++)
        if (!reading->used[i])
            return td_fail(
                reading->error, TD_UNSUPPORTED, "tensor %s is no part of a %s model as known here",
                model_gguf_tensor_at(reading->file, i)->name, reading->model->architecture->gguf);
    return TD_OK;
}

/* ------------------------------------------------------------------ position encoding */

/* The form of scaling; without a type, a factor alone means linear. */
static td_status_t read_form(struct reading *reading, enum model_rope_form *form_out)
{
    char key[KEY_BYTES];
    struct td_span type = td_span_of("linear");
    char shown[64];
    td_status_t status = model_gguf_get_text(
        reading->file, key_of(reading, "rope.scaling.type", key), &type, reading->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (td_span_is(type, "none"))
        *form_out = MODEL_ROPE_PLAIN;
    else if (td_span_is(type, "linear"))
        *form_out = MODEL_ROPE_LINEAR;
    else if (td_span_is(type, "yarn"))
        *form_out = MODEL_ROPE_YARN;
    else
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "key %s: rope scaling %s is not served; none, linear and yarn are", key,
                       model_show(type, shown, sizeof shown));
    return TD_OK;
}

static td_status_t read_scaling(struct reading *reading, struct model_rope_description *description)
{
    td_status_t status = read_optional_float(reading, "rope.freq_base", &description->theta);

    if (status != TD_OK || description->form == MODEL_ROPE_PLAIN)
        return status;
    status = read_optional_float(reading, "rope.scale_linear", &description->factor);
    if (status == TD_OK)
        status = read_optional_float(reading, "rope.scaling.factor", &description->factor);
    if (description->factor == 0.0) /* how some writers say "none" */
        description->factor = 1.0;
    return status;
}

/* A number that only one value is served of. */
static td_status_t demand_float(struct reading *reading, const char *name, double wanted)
{
    char key[KEY_BYTES];
    double value = wanted;
    td_status_t status = read_optional_float(reading, name, &value);

    if (status == TD_OK && value != wanted)
        return td_fail(reading->error, TD_UNSUPPORTED, "key %s is %g; only %g is served",
                       key_of(reading, name, key), value, wanted);
    return status;
}

/* llama.cpp multiplies attn_factor onto the default of YaRN's authors, so files mean it like that. */
static td_status_t read_yarn(struct reading *reading, struct model_rope_description *description)
{
    double attention = 1.0;
    uint32_t context = reading->model->max_context;
    td_status_t status = read_optional_count(reading, "rope.scaling.original_context_length",
                                             MODEL_CONTEXT_MAX, &context);

    description->original_context = context;
    if (status == TD_OK)
        status =
            read_optional_float(reading, "rope.scaling.yarn_beta_fast", &description->beta_fast);
    if (status == TD_OK)
        status =
            read_optional_float(reading, "rope.scaling.yarn_beta_slow", &description->beta_slow);
    if (status == TD_OK)
        status = read_optional_float(reading, "rope.scaling.attn_factor", &attention);
    if (status != TD_OK)
        return status;
    if (!(attention > 0.0))
        return td_fail(reading->error, TD_INVALID, "key %s.rope.scaling.attn_factor is %g",
                       reading->model->architecture->gguf, attention);
    if (description->factor > 0.0)
        description->attention_factor =
            attention * model_rope_attention_factor(description->factor);
    status = demand_float(reading, "rope.scaling.yarn_ext_factor", 1.0);
    if (status == TD_OK)
        status = demand_float(reading, "rope.scaling.yarn_attn_factor", 1.0);
    if (status == TD_OK)
        status = demand_float(reading, "rope.scaling.yarn_log_multiplier", 0.0);
    return status;
}

/* One divisor for each pair: how llama3's scaling is written here. */
static td_status_t read_divisors(struct reading *reading, float divisors[MODEL_HEAD_DIM_MAX / 2],
                                 struct model_rope_description *description)
{
    static const char name[] = "rope_freqs.weight";
    struct model_tensor tensor;

    if (!find_tensor(reading, name, &tensor))
        return TD_OK;
    if (tensor.type != MODEL_TYPE_F32)
        return td_fail(reading->error, TD_UNSUPPORTED, "tensor %s has type %s instead of F32", name,
                       model_type_info(tensor.type)->name);
    if (tensor.dims[0] != description->head_dim / 2 || tensor.dims[1] != 1 || tensor.dims[2] != 1 ||
        tensor.dims[3] != 1)
        return td_fail(reading->error, TD_INVALID,
                       "tensor %s has %" PRIu64 " values in a row where %" PRIu32 " were expected",
                       name, tensor.dims[0], description->head_dim / 2);
    memcpy(divisors, tensor.data, (size_t)tensor.dims[0] * sizeof *divisors);
    description->divisors = divisors;
    return TD_OK;
}

static td_status_t read_rope(struct reading *reading)
{
    struct model *model = reading->model;
    float divisors[MODEL_HEAD_DIM_MAX / 2];
    struct model_rope_description description;
    enum model_rope_form form = MODEL_ROPE_PLAIN;
    td_status_t status = read_form(reading, &form);

    if (status != TD_OK)
        return status;
    description = model_rope_describe(form, model->architecture->gguf_pairs, model->head_dim);
    status = read_scaling(reading, &description);
    if (status == TD_OK && form == MODEL_ROPE_YARN)
        status = read_yarn(reading, &description);
    else if (status == TD_OK)
        status = demand_float(reading, "rope.scaling.attn_factor", 1.0);
    if (status == TD_OK)
        status = read_divisors(reading, divisors, &description);
    return status == TD_OK ? model_rope_init(&description, &model->rope, reading->error) : status;
}

/* ------------------------------------------------------------------ the whole */

/* Parsed alone, one part of a model looks like a small model that lacks tensors. */
static td_status_t check_whole(struct reading *reading)
{
    uint32_t count = 0;
    td_status_t status = model_gguf_get_u32(reading->file, "split.count", &count, reading->error);

    if (status != TD_OK)
        return status == TD_NOT_FOUND ? TD_OK : status;
    if (count > 1 && count != model_gguf_part_count(reading->file))
        return td_fail(reading->error, TD_INVALID,
                       "key split.count is %" PRIu32 ": this is one part of a split model", count);
    return TD_OK;
}

static td_status_t read_model(struct reading *reading)
{
    const struct model_tensors tensors = {.find = find_tensor, .context = reading};
    td_status_t status = check_whole(reading);

    if (status == TD_OK)
        status = read_architecture(reading);
    if (status == TD_OK)
        status = read_numbers(reading);
    if (status != TD_OK)
        return status;
    read_name(reading);
    reading->used = calloc((size_t)model_gguf_tensor_count(reading->file) + 1, sizeof(bool));
    if (reading->used == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tensors");
    status = model_take_tensors(reading->model, &tensors, reading->error);
    if (status == TD_OK)
        status = read_rope(reading);
    return status == TD_OK ? check_all_used(reading) : status;
}

td_status_t model_from_gguf(struct model_gguf *file, struct model **model_out,
                            struct td_error *error)
{
    struct model *model = calloc(1, sizeof *model);
    struct reading reading = {.model = model, .file = file, .error = error};
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
    model->weights_digest = model_gguf_digest(file);
    *model_out = model;
    return TD_OK;
}
