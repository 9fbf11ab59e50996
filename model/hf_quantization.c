/*
 * hf_quantization.c: 'quantization_config' of config.json; see hf_config.h.
 *
 * Two forms are served, both of weights that are FP8 (E4M3) with scales beside them: quant_method "fp8", which DeepSeek's,
 * Qwen's and AutoFP8's folders have, and "compressed-tensors" with float weights of 8 bits. How activations are rounded by
 * others, and which modules stayed as they were, is passed over: the tensors' own types say the latter. All other keys
 * are refused by name.
 */
#include <inttypes.h>

#include "lib/base/json.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "model/show.h"

#define SHOWN_BYTES 64
#define BLOCK_MAX   ((int64_t)1 << 20)

static td_status_t check_keys(const struct td_json *object, const char *const *known, size_t count,
                              const char *what, struct td_error *error)
{
    char shown[SHOWN_BYTES];

    td_json_for_each(member, object)
    {
        size_t i = 0;

        while (i < count && !td_span_is(member->key, known[i]))
            i++;
        if (i == count && member->kind != TD_JSON_NULL)
            return td_fail(error, TD_UNSUPPORTED, "'%s' has a key that is not known: %s", what,
                           model_show(member->key, shown, sizeof shown));
    }
    return TD_OK;
}

#define KEYS(list) (list), sizeof(list) / sizeof((list)[0])

/* A text that must be one of some, where it is there. */
static td_status_t check_text(const struct td_json *object, const char *key,
                              const char *const *served, size_t count, struct td_error *error)
{
    struct td_span text = {0};
    char shown[SHOWN_BYTES];
    td_status_t status = td_json_string(td_json_get(object, key), &text, error);

    if (status != TD_OK || td_json_get(object, key).value == NULL)
        return status;
    for (size_t i = 0; i < count; i++)
        if (td_span_is(text, served[i]))
            return TD_OK;
    return td_fail(error, TD_UNSUPPORTED, "'%s' is %s; '%s'%s is served", key,
                   model_show(text, shown, sizeof shown), served[0],
                   count > 1 ? " or the like" : "");
}

/* [rows, columns]. */
static td_status_t read_block(const struct td_json *list, const char *key,
                              struct model_quantization *out, struct td_error *error)
{
    const struct td_json *rows = list->items.first;
    const struct td_json *columns = rows != NULL ? rows->next : NULL;

    if (list->items.count != 2 || rows->kind != TD_JSON_INTEGER || rows->integer < 1 ||
        rows->integer > BLOCK_MAX || columns->kind != TD_JSON_INTEGER || columns->integer < 1 ||
        columns->integer > BLOCK_MAX || columns->integer % MODEL_SCALE_COLUMNS != 0)
        return td_fail(error, TD_UNSUPPORTED,
                       "'%s' must be two counts, rows and columns, the latter a multiple of %d",
                       key, MODEL_SCALE_COLUMNS);
    out->block_rows = (uint32_t)rows->integer;
    out->block_columns = (uint32_t)columns->integer;
    return TD_OK;
}

/* A list under a key, absent or not. */
static td_status_t read_block_at(const struct td_json *object, const char *key,
                                 struct model_quantization *out, struct td_error *error)
{
    const struct td_json *list = NULL;
    td_status_t status = td_json_array(td_json_get(object, key), &list, error);

    return status == TD_OK && list != NULL ? read_block(list, key, out, error) : status;
}

/* ------------------------------------------------------------------ fp8 */

static td_status_t read_fp8(const struct td_json *object, struct model_quantization *out,
                            struct td_error *error)
{
    static const char *const known[] = {"quant_method",
                                        "fmt",
                                        "activation_scheme",
                                        "weight_block_size",
                                        "modules_to_not_convert",
                                        "ignored_layers",
                                        "scale_fmt",
                                        "dequantize"};
    static const char *const formats[] = {"e4m3", "float8_e4m3fn"};
    static const char *const schemes[] = {"dynamic", "static"};
    td_status_t status = check_keys(object, KEYS(known), "quantization_config", error);

    if (status == TD_OK)
        status = check_text(object, "fmt", KEYS(formats), error);
    if (status == TD_OK)
        status = check_text(object, "activation_scheme", KEYS(schemes), error);
    if (status == TD_OK)
        status = read_block_at(object, "weight_block_size", out, error);
    out->suffix = out->block_rows > 0 ? "_scale_inv" : "_scale";
    return status;
}

/* ------------------------------------------------------------------ compressed-tensors */

/* A member that would change what weights mean if it were anything but `wanted`. */
static td_status_t check_number(const struct td_json *object, const char *key, int64_t wanted,
                                struct td_error *error)
{
    int64_t value = wanted;
    td_status_t status = td_json_int(td_json_get(object, key), INT64_MIN, INT64_MAX, &value, error);

    if (status == TD_OK && value != wanted)
        return td_fail(error, TD_UNSUPPORTED, "'%s' is %" PRId64 "; %" PRId64 " is served", key,
                       value, wanted);
    return status;
}

static td_status_t check_flag(const struct td_json *object, const char *key, bool wanted,
                              struct td_error *error)
{
    bool value = wanted;
    td_status_t status = td_json_bool(td_json_get(object, key), &value, error);

    if (status == TD_OK && value != wanted)
        return td_fail(error, TD_UNSUPPORTED, "'%s' is %s; %s is served", key,
                       value ? "true" : "false", wanted ? "true" : "false");
    return status;
}

/* How the weights of a group were quantised. */
static td_status_t read_weights(const struct td_json *weights, struct model_quantization *out,
                                struct td_error *error)
{
    static const char *const known[] = {"num_bits",        "type",    "symmetric",       "strategy",
                                        "block_structure", "dynamic", "observer_kwargs", "observer",
                                        "scale_dtype",     "zp_dtype"};
    static const char *const types[] = {"float"};
    static const char *const strategies[] = {"channel", "tensor", "block"};
    td_status_t status = check_keys(weights, KEYS(known), "weights", error);

    if (status == TD_OK)
        status = check_text(weights, "type", KEYS(types), error);
    if (status == TD_OK && td_json_get(weights, "type").value == NULL)
        status = td_fail(error, TD_UNSUPPORTED, "'type' is missing; 'float' is served");
    if (status == TD_OK)
        status = check_number(weights, "num_bits", 8, error);
    if (status == TD_OK)
        status = check_text(weights, "strategy", KEYS(strategies), error);
    if (status == TD_OK)
        status = check_flag(weights, "dynamic", false, error);
    if (status == TD_OK)
        status = check_flag(weights, "symmetric", true, error);
    return status == TD_OK ? read_block_at(weights, "block_structure", out, error) : status;
}

static td_status_t read_group(const struct td_json *group, struct model_quantization *out,
                              struct td_error *error)
{
    static const char *const known[] = {"targets", "weights", "input_activations", "format"};
    static const char *const formats[] = {"float-quantized", "naive-quantized"};
    const struct td_json *weights = NULL;
    td_status_t status;

    if (group->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "a group is no object");
    status = check_keys(group, KEYS(known), "config_groups", error);
    if (status == TD_OK)
        status = check_text(group, "format", KEYS(formats), error);
    if (status == TD_OK)
        status = td_json_object(td_json_get(group, "weights"), &weights, error);
    if (status == TD_OK && weights == NULL)
        status = td_fail(error, TD_UNSUPPORTED, "'weights' is missing");
    return status == TD_OK ? read_weights(weights, out, error) : status;
}

/* One scheme for all: which group a tensor is in is nowhere looked up. */
static td_status_t read_groups(const struct td_json *object, struct model_quantization *out,
                               struct td_error *error)
{
    const struct td_json *groups = NULL;
    bool is_first = true;
    td_status_t status = td_json_object(td_json_get(object, "config_groups"), &groups, error);

    if (status == TD_OK && (groups == NULL || groups->items.count == 0))
        return td_fail(error, TD_INVALID, "'config_groups' is missing");
    if (status != TD_OK)
        return status;
    td_json_for_each(group, groups)
    {
        struct model_quantization own = {0};

        status = read_group(group, &own, error);
        if (status == TD_OK && !is_first &&
            (own.block_rows != out->block_rows || own.block_columns != out->block_columns))
            status = td_fail(error, TD_UNSUPPORTED, "its groups have blocks of different shapes");
        if (status != TD_OK) {
            td_fail_wrap(error, "'config_groups'");
            return status;
        }
        *out = own;
        is_first = false;
    }
    return TD_OK;
}

/* Empty, or of dense weights: what 'sparsity_config' may be. */
static td_status_t check_sparsity(const struct td_json *object, struct td_error *error)
{
    static const char *const formats[] = {"dense"};
    const struct td_json *sparsity = NULL;
    td_status_t status = td_json_object(td_json_get(object, "sparsity_config"), &sparsity, error);

    if (status == TD_OK && sparsity != NULL)
        status = check_text(sparsity, "format", KEYS(formats), error);
    if (status == TD_OK && sparsity != NULL && sparsity->items.count > 0 &&
        td_json_get(sparsity, "format").value == NULL)
        status = td_fail(error, TD_UNSUPPORTED, "'sparsity_config' has no 'format'");
    return status;
}

static td_status_t check_transforms(const struct td_json *object, struct td_error *error)
{
    const struct td_json *transforms = NULL;
    td_status_t status =
        td_json_object(td_json_get(object, "transform_config"), &transforms, error);

    if (status == TD_OK && transforms != NULL && transforms->items.count > 0)
        return td_fail(error, TD_UNSUPPORTED,
                       "'transform_config' is not empty: activations are not transformed here");
    return status;
}

static td_status_t read_compressed(const struct td_json *object, struct model_quantization *out,
                                   struct td_error *error)
{
    static const char *const known[] = {"quant_method",
                                        "format",
                                        "config_groups",
                                        "ignore",
                                        "sparsity_config",
                                        "transform_config",
                                        "version",
                                        "quantization_status",
                                        "global_compression_ratio"};
    static const char *const formats[] = {"float-quantized", "naive-quantized"};
    td_status_t status = check_keys(object, KEYS(known), "quantization_config", error);

    if (status == TD_OK)
        status = check_text(object, "format", KEYS(formats), error);
    if (status == TD_OK)
        status = check_sparsity(object, error);
    if (status == TD_OK)
        status = check_transforms(object, error);
    if (status == TD_OK)
        status = read_groups(object, out, error);
    out->suffix = "_scale";
    return status;
}

/* ------------------------------------------------------------------ the whole */

td_status_t model_hf_quantization_read(const struct td_json *root, struct model_quantization *out,
                                       struct td_error *error)
{
    struct model_quantization quantization = {0};
    const struct td_json *object = NULL;
    struct td_span method = {0};
    td_status_t status = td_json_object(td_json_get(root, "quantization_config"), &object, error);

    if (status != TD_OK || object == NULL)
        return status;
    status = td_json_string(td_json_get(object, "quant_method"), &method, error);
    if (status == TD_OK && td_span_is(method, "compressed-tensors"))
        status = read_compressed(object, &quantization, error);
    else if (status == TD_OK) /* the only other one that is not refused */
        status = read_fp8(object, &quantization, error);
    if (status == TD_OK)
        *out = quantization;
    else
        td_fail_wrap(error, "'quantization_config'");
    return status;
}
