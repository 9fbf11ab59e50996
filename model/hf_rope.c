/*
 * hf_rope.c: the position encoding of a config.json; see hf_config.h.
 *
 * Two forms are in use: rope_theta beside rope_scaling (an object or null), and since transformers 5
 * one object rope_parameters with both. Every key of either object has to be known: the next form of
 * scaling must not be mistaken for one of these.
 */
#include "lib/base/json.h"
#include "model/hf_config.h"
#include "model/model.h"
#include "model/show.h"

#define THETA_MAX   1e12
#define NUMBER_MAX  1e12
#define SHOWN_BYTES 64

/* The object that describes the scaling, with its name. */
struct scaling {
    const char *name;
    const struct td_json *object; /* NULL: none */
    bool is_parameters;           /* rope_parameters: may have rope_theta and no type */
};

static td_status_t find_scaling(const struct td_json *root, struct scaling *scaling,
                                struct td_error *error)
{
    const struct td_json *old = NULL;
    const struct td_json *parameters = NULL;
    td_status_t status = td_json_object(td_json_get(root, "rope_scaling"), &old, error);

    if (status == TD_OK)
        status = td_json_object(td_json_get(root, "rope_parameters"), &parameters, error);
    if (status != TD_OK)
        return status;
    if (old != NULL && parameters != NULL)
        return td_fail(error, TD_INVALID,
                       "'rope_scaling' and 'rope_parameters' are both set; which one holds?");
    *scaling = (struct scaling){.name = parameters != NULL ? "rope_parameters" : "rope_scaling",
                                .object = parameters != NULL ? parameters : old,
                                .is_parameters = parameters != NULL};
    return TD_OK;
}

static td_status_t read_theta(const struct td_json *root, const struct scaling *scaling,
                              double *theta, struct td_error *error)
{
    struct td_json_field outer = td_json_get(root, "rope_theta");
    struct td_json_field inner = {0};
    td_status_t status = td_json_number(outer, 1, THETA_MAX, theta, error);
    double before = *theta;

    if (status != TD_OK || !scaling->is_parameters)
        return status;
    inner = td_json_get(scaling->object, "rope_theta");
    status = td_json_number(inner, 1, THETA_MAX, theta, error);
    if (status == TD_OK && outer.value != NULL && inner.value != NULL && before != *theta)
        return td_fail(error, TD_INVALID,
                       "'rope_theta' is %g, but %g in 'rope_parameters'; which one holds?", before,
                       *theta);
    return status;
}

/* rope_type, or type as it was called before. */
static td_status_t read_type(const struct scaling *scaling, struct td_span *type_out,
                             struct td_error *error)
{
    struct td_span type = {0};
    struct td_span old = {0};
    td_status_t status = td_json_string(td_json_get(scaling->object, "rope_type"), &type, error);

    if (status == TD_OK)
        status = td_json_string(td_json_get(scaling->object, "type"), &old, error);
    if (status != TD_OK)
        return status;
    if (type.length > 0 && old.length > 0 && !td_span_equal(type, old))
        return td_fail(error, TD_INVALID, "'%s' has a 'rope_type' and another 'type'",
                       scaling->name);
    if (type.length == 0)
        type = old;
    if (type.length == 0 && scaling->is_parameters)
        type = td_span_of("default");
    if (type.length == 0)
        return td_fail(error, TD_INVALID, "'%s' has no 'rope_type'", scaling->name);
    *type_out = type;
    return TD_OK;
}

static td_status_t read_form(const struct scaling *scaling, enum model_rope_form *form_out,
                             struct td_error *error)
{
    static const struct {
        const char *name;
        enum model_rope_form form;
    } forms[] = {
        {"default", MODEL_ROPE_PLAIN},
        {"linear", MODEL_ROPE_LINEAR},
        {"llama3", MODEL_ROPE_LLAMA3},
        {"yarn", MODEL_ROPE_YARN},
    };
    struct td_span type = {0};
    char shown[SHOWN_BYTES];
    td_status_t status = read_type(scaling, &type, error);

    if (status != TD_OK)
        return status;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (td_span_is(type, forms[i].name)) {
            *form_out = forms[i].form;
            return TD_OK;
        }
    }
    return td_fail(error, TD_UNSUPPORTED,
                   "'rope_type' %s of '%s' is not served; default, linear, llama3 and yarn are",
                   model_show(type, shown, sizeof shown), scaling->name);
}

/* A key of the scaling object. null stands for its default, as an absent key does. */
struct number {
    const char *key;
    double *value;
    unsigned required; /* bit i: form i must have it */
};

#define IN(form) (1u << MODEL_ROPE_##form)

static bool is_other_key(struct td_span key)
{
    static const char *const others[] = {"rope_type", "type", "rope_theta", "partial_rotary_factor",
                                         "truncate"};

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (td_span_is(key, others[i]))
            return true;
    return false;
}

static td_status_t check_keys(const struct scaling *scaling, const struct number *numbers,
                              size_t count, struct td_error *error)
{
    td_json_for_each(member, scaling->object)
    {
        bool is_known = member->kind == TD_JSON_NULL || is_other_key(member->key);
        char shown[SHOWN_BYTES];

        for (size_t i = 0; i < count && !is_known; i++)
            is_known = td_span_is(member->key, numbers[i].key);
        if (!is_known)
            return td_fail(error, TD_UNSUPPORTED, "'%s' of '%s' is not known here",
                           model_show(member->key, shown, sizeof shown), scaling->name);
    }
    return TD_OK;
}

/* Keys that may only say what is computed anyway. */
static td_status_t check_fixed(const struct scaling *scaling, struct td_error *error)
{
    double rotated = 1;
    bool truncates = true;
    td_status_t status = td_json_number(td_json_get(scaling->object, "partial_rotary_factor"), 0, 1,
                                        &rotated, error);

    if (status == TD_OK)
        status = td_json_bool(td_json_get(scaling->object, "truncate"), &truncates, error);
    if (status != TD_OK)
        return status;
    if (rotated != 1 || !truncates)
        return td_fail(error, TD_UNSUPPORTED, "'%s' of '%s' is not served",
                       truncates ? "partial_rotary_factor below 1" : "truncate false",
                       scaling->name);
    return TD_OK;
}

static td_status_t read_numbers(const struct scaling *scaling, struct model_rope_description *rope,
                                struct td_error *error)
{
    const unsigned scaled = IN(LINEAR) | IN(LLAMA3) | IN(YARN);
    const struct number numbers[] = {
        {"factor", &rope->factor, scaled},
        {"low_freq_factor", &rope->low_frequency_factor, IN(LLAMA3)},
        {"high_freq_factor", &rope->high_frequency_factor, IN(LLAMA3)},
        {"original_max_position_embeddings", &rope->original_context, IN(LLAMA3)},
        {"attention_factor", &rope->attention_factor, 0},
        {"beta_fast", &rope->beta_fast, 0},
        {"beta_slow", &rope->beta_slow, 0},
    };
    const size_t count = sizeof numbers / sizeof numbers[0];
    td_status_t status = check_keys(scaling, numbers, count, error);

    if (status == TD_OK)
        status = check_fixed(scaling, error);
    for (size_t i = 0; i < count && status == TD_OK; i++) {
        struct td_json_field field = td_json_get(scaling->object, numbers[i].key);

        status = td_json_number(field, 0, NUMBER_MAX, numbers[i].value, error);
        if (status == TD_OK && field.value == NULL && (numbers[i].required >> rope->form & 1) != 0)
            status = td_fail(error, TD_INVALID, "'%s' of '%s' is missing", numbers[i].key,
                             scaling->name);
    }
    return status;
}

/* YaRN names the positions before it and by how much they grow: that is the context, too. */
static td_status_t settle_yarn(struct model_hf_config *config, struct td_error *error)
{
    struct model_rope_description *rope = &config->rope;
    double context = rope->original_context * rope->factor;

    if (rope->original_context == 0) {
        rope->original_context = config->max_context;
        return TD_OK;
    }
    if (context > MODEL_CONTEXT_MAX)
        return td_fail(error, TD_LIMIT,
                       "'factor' times 'original_max_position_embeddings' is %g (at most %u)",
                       context, MODEL_CONTEXT_MAX);
    if (context > config->max_context)
        config->max_context = (uint32_t)context;
    return TD_OK;
}

td_status_t model_hf_rope_read(const struct td_json *root, struct model_hf_config *config,
                               struct td_error *error)
{
    struct scaling scaling = {0};
    enum model_rope_form form = MODEL_ROPE_PLAIN;
    td_status_t status = find_scaling(root, &scaling, error);

    if (status == TD_OK && scaling.object != NULL)
        status = read_form(&scaling, &form, error);
    if (status != TD_OK)
        return status;
    config->rope = model_rope_describe(form, MODEL_ROPE_HALF, config->head_dim);
    status = read_theta(root, &scaling, &config->rope.theta, error);
    if (status == TD_OK && scaling.object != NULL)
        status = read_numbers(&scaling, &config->rope, error);
    if (status == TD_OK && form == MODEL_ROPE_YARN)
        status = settle_yarn(config, error);
    return status;
}
