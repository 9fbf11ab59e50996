/* hf_config.c: architecture, numbers and refusals of config.json; see hf_config.h. */
#include "model/hf_config.h"

#include <inttypes.h>

#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "model/generation_config.h"
#include "model/model.h"
#include "model/show.h"

#define NODES_MAX   ((uint32_t)1 << 17)
#define DEPTH_MAX   32
#define ARENA_MAX   ((size_t)16 << 20)
#define SHOWN_BYTES 64

#define QWEN3_HEAD_DIM 128 /* of the class, where the file has no head_dim */

/* ------------------------------------------------------------------ architecture */

/* architectures[0], which says which class computes the model; empty if there is none. */
static td_status_t read_class(const struct td_json *root, struct td_span *class_out,
                              struct td_error *error)
{
    const struct td_json *names = NULL;
    td_status_t status = td_json_array(td_json_get(root, "architectures"), &names, error);

    if (status != TD_OK || names == NULL || names->items.first == NULL)
        return status;
    if (names->items.first->kind != TD_JSON_STRING)
        return td_fail(error, TD_INVALID, "'architectures' must be a list of names");
    *class_out = names->items.first->string;
    return TD_OK;
}

static td_status_t read_architecture(const struct td_json *root, struct model_hf_config *config,
                                     struct td_error *error)
{
    struct td_span class_name = {0};
    struct td_span type_name = {0};
    char shown[SHOWN_BYTES];
    td_status_t status = read_class(root, &class_name, error);

    if (status == TD_OK)
        status = td_json_string(td_json_get(root, "model_type"), &type_name, error);
    if (status != TD_OK)
        return status;
    if (class_name.length == 0 && type_name.length == 0)
        return td_fail(error, TD_INVALID,
                       "'architectures' and 'model_type' are missing: this is no model's "
                       "config.json");
    config->architecture = model_architecture_of_hf(class_name, type_name);
    if (config->architecture == NULL)
        return td_fail(
            error, TD_UNSUPPORTED, "architecture %s is not served; " MODEL_HF_CLASSES_SERVED " are",
            model_show(class_name.length > 0 ? class_name : type_name, shown, sizeof shown));
    if (type_name.length > 0 && !td_span_is(type_name, config->architecture->hf_type))
        return td_fail(error, TD_UNSUPPORTED,
                       "'model_type' is %s where %s has %s: such models are not served",
                       model_show(type_name, shown, sizeof shown), config->architecture->hf_class,
                       config->architecture->hf_type);
    return TD_OK;
}

/* ------------------------------------------------------------------ refusals */

static bool is_set(const struct td_json *root, const struct td_json *value,
                   const struct model_hf_config *config)
{
    (void)root;
    (void)value;
    (void)config;
    return true;
}

static bool is_not_false(const struct td_json *root, const struct td_json *value,
                         const struct model_hf_config *config)
{
    (void)root;
    (void)config;
    return value->kind != TD_JSON_BOOL || value->boolean;
}

static bool is_not_one(const struct td_json *root, const struct td_json *value,
                       const struct model_hf_config *config)
{
    (void)root;
    (void)config;
    return !(value->kind == TD_JSON_INTEGER && value->integer == 1) &&
           !(value->kind == TD_JSON_NUMBER && value->number == 1.0);
}

static bool is_not_silu(const struct td_json *root, const struct td_json *value,
                        const struct model_hf_config *config)
{
    (void)root;
    (void)config;
    return value->kind != TD_JSON_STRING ||
           !(td_span_is(value->string, "silu") || td_span_is(value->string, "swish"));
}

/* The window only concerns the layers from max_window_layers on: there may be none. */
static bool is_sliding(const struct td_json *root, const struct td_json *value,
                       const struct model_hf_config *config)
{
    const struct td_json *first = td_json_find(root, "max_window_layers");

    return is_not_false(root, value, config) &&
           !(first != NULL && first->kind == TD_JSON_INTEGER && first->integer >= config->layers);
}

static bool is_not_full_attention(const struct td_json *root, const struct td_json *value,
                                  const struct model_hf_config *config)
{
    (void)root;
    (void)config;
    if (value->kind != TD_JSON_ARRAY)
        return true;
    td_json_for_each(layer, value)
    {
        if (layer->kind != TD_JSON_STRING || !td_span_is(layer->string, "full_attention"))
            return true;
    }
    return false;
}

/* What else such a method may say is for hf_quantization.c. */
static bool is_not_fp8(const struct td_json *root, const struct td_json *value,
                       const struct model_hf_config *config)
{
    const struct td_json *method =
        value->kind == TD_JSON_OBJECT ? td_json_find(value, "quant_method") : NULL;

    (void)root;
    (void)config;
    return method == NULL || method->kind != TD_JSON_STRING ||
           !(td_span_is(method->string, "fp8") || td_span_is(method->string, "compressed-tensors"));
}

struct refusal {
    struct model_hf_refusal shown;
    unsigned architectures; /* bits; with the others the key means nothing */
    bool (*applies)(const struct td_json *root, const struct td_json *value,
                    const struct model_hf_config *config);
};

#define ALL (MODEL_LLAMA | MODEL_QWEN2 | MODEL_QWEN3)

static const struct refusal refusals[] = {
    {{"quantization_config", "has a quant_method other than \"fp8\" and \"compressed-tensors\"",
      "weights quantised by other tools are not read; take the original weights or a GGUF file"},
     ALL,
     is_not_fp8},
    {{"hidden_act", "is not \"silu\"", "no other activation is computed"}, ALL, is_not_silu},
    {{"attention_bias", "is not false", "only Qwen2 has biases, on Q, K and V"},
     MODEL_LLAMA | MODEL_QWEN3,
     is_not_false},
    {{"mlp_bias", "is not false", "the feed-forward part has no biases"}, ALL, is_not_false},
    {{"use_sliding_window", "is not false and max_window_layers leaves it layers",
      "every layer attends to the whole context"},
     ALL,
     is_sliding},
    {{"sliding_window", "is set", "every layer attends to the whole context"}, MODEL_LLAMA, is_set},
    {{"layer_types", "has anything but \"full_attention\"",
      "every layer attends to the whole context"},
     ALL,
     is_not_full_attention},
    {{"partial_rotary_factor", "is not 1", "all values of a head are rotated"}, ALL, is_not_one},
    {{"rope_interleaved", "is not false", "pairs of rotated values are half a head apart"},
     ALL,
     is_not_false},
};

#define REFUSAL_COUNT (sizeof refusals / sizeof refusals[0])

const struct model_hf_refusal *model_hf_refusal_at(size_t index)
{
    return index < REFUSAL_COUNT ? &refusals[index].shown : NULL;
}

static td_status_t refuse_variants(const struct td_json *root, const struct model_hf_config *config,
                                   struct td_error *error)
{
    for (size_t i = 0; i < REFUSAL_COUNT; i++) {
        const struct refusal *refusal = &refusals[i];
        struct td_json_field field = td_json_get(root, refusal->shown.key);

        if (field.value != NULL &&
            (refusal->architectures & (unsigned)config->architecture->id) != 0 &&
            refusal->applies(root, field.value, config))
            return td_fail(error, TD_UNSUPPORTED, "'%s' %s: %s", refusal->shown.key,
                           refusal->shown.condition, refusal->shown.reason);
    }
    return TD_OK;
}

/* ------------------------------------------------------------------ numbers */

static td_status_t read_count(const struct td_json *root, const char *key, uint32_t count_max,
                              uint32_t *count_out, struct td_error *error)
{
    struct td_json_field field = td_json_get(root, key);
    int64_t count = 0;
    td_status_t status = td_json_int(field, 1, count_max, &count, error);

    if (status != TD_OK)
        return status;
    if (field.value == NULL)
        return td_fail(error, TD_INVALID, "'%s' is missing", key);
    *count_out = (uint32_t)count;
    return TD_OK;
}

/* A count that may be absent: then *count_out keeps its value. */
static td_status_t read_optional_count(const struct td_json *root, const char *key,
                                       uint32_t count_max, uint32_t *count_out,
                                       struct td_error *error)
{
    if (td_json_get(root, key).value == NULL)
        return TD_OK;
    return read_count(root, key, count_max, count_out, error);
}

static td_status_t read_sizes(const struct td_json *root, struct model_hf_config *config,
                              struct td_error *error)
{
    const struct {
        const char *key;
        uint32_t *count;
        uint32_t count_max;
    } sizes[] = {
        {"vocab_size", &config->vocab, MODEL_VOCAB_MAX},
        {"hidden_size", &config->hidden, MODEL_HIDDEN_MAX},
        {"intermediate_size", &config->ffn, MODEL_FFN_MAX},
        {"num_hidden_layers", &config->layers, MODEL_LAYERS_MAX},
        {"num_attention_heads", &config->heads, MODEL_HEADS_MAX},
        {"max_position_embeddings", &config->max_context, MODEL_CONTEXT_MAX},
    };
    td_status_t status = TD_OK;

    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && status == TD_OK; i++)
        status = read_count(root, sizes[i].key, sizes[i].count_max, sizes[i].count, error);
    if (status != TD_OK)
        return status;
    config->kv_heads = config->heads;
    config->head_dim =
        config->architecture->id == MODEL_QWEN3 ? QWEN3_HEAD_DIM : config->hidden / config->heads;
    status =
        read_optional_count(root, "num_key_value_heads", config->heads, &config->kv_heads, error);
    if (status != TD_OK)
        return status;
    return read_optional_count(root, "head_dim", MODEL_HEAD_DIM_MAX, &config->head_dim, error);
}

static td_status_t read_epsilon(const struct td_json *root, struct model_hf_config *config,
                                struct td_error *error)
{
    struct td_json_field field = td_json_get(root, "rms_norm_eps");
    double epsilon = 0;
    td_status_t status = td_json_number(field, 0, 0.5, &epsilon, error);

    if (status == TD_OK && field.value == NULL)
        return td_fail(error, TD_INVALID, "'rms_norm_eps' is missing");
    config->rms_epsilon = (float)epsilon;
    return status;
}

/* ------------------------------------------------------------------ the whole */

static td_status_t read_config(const struct td_json *root, struct model_hf_config *config,
                               struct td_error *error)
{
    td_status_t status = read_architecture(root, config, error);

    if (status == TD_OK)
        status = read_sizes(root, config, error);
    if (status == TD_OK)
        status = refuse_variants(root, config, error);
    if (status == TD_OK)
        status = model_hf_quantization_read(root, &config->quantization, error);
    if (status == TD_OK)
        status = read_epsilon(root, config, error);
    if (status == TD_OK)
        status = td_json_bool(td_json_get(root, "tie_word_embeddings"), &config->is_tied, error);
    if (status == TD_OK)
        status = model_end_ids_read(root, config->end_ids, &config->end_id_count, error);
    return status == TD_OK ? model_hf_rope_read(root, config, error) : status;
}

td_status_t model_hf_config_read(struct td_span text, struct model_hf_config *config_out,
                                 struct td_error *error)
{
    static const struct td_json_limits limits = {
        .bytes_max = MODEL_HF_CONFIG_BYTES_MAX, .nodes_max = NODES_MAX, .depth_max = DEPTH_MAX};
    struct model_hf_config config = {0};
    const struct td_json *root = NULL;
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&arena, ARENA_MAX);
    status = td_json_parse(&arena, text, &limits, &root, error);
    if (status == TD_OK && root->kind != TD_JSON_OBJECT)
        status = td_fail(error, TD_INVALID, "byte 0: the document is %s, not an object",
                         td_json_kind_text(root->kind));
    if (status == TD_OK)
        status = read_config(root, &config, error);
    if (status == TD_OK)
        *config_out = config;
    td_arena_fini(&arena);
    return status;
}
