/* generation_config.c: the keys of generation_config.json, see generation_config.h. */
#include "model/generation_config.h"

#include <float.h>

#include "lib/base/json.h"

static const struct td_json_limits limits = {
    .bytes_max = MODEL_GENERATION_CONFIG_BYTES_MAX, .nodes_max = 1 << 14, .depth_max = 16};

/* A number from 0 to max into *value_out, and its bit into *present; absent leaves both alone. */
struct number {
    const char *name;
    double max;
    enum text_generation_field bit;
};

static td_status_t read_number(const struct td_json *root, struct number number, uint32_t *present,
                               float *value_out, struct td_error *error)
{
    double value = -1;
    td_status_t status =
        td_json_number(td_json_get(root, number.name), 0, number.max, &value, error);

    if (status != TD_OK || value < 0)
        return status;
    *value_out = (float)value;
    *present |= number.bit;
    return TD_OK;
}

static td_status_t read_temperature(const struct td_json *root, struct text_generation *generation,
                                    struct td_error *error)
{
    bool samples = true;
    td_status_t status =
        read_number(root, (struct number){"temperature", FLT_MAX, TEXT_GENERATION_TEMPERATURE},
                    &generation->present, &generation->temperature, error);

    if (status == TD_OK)
        status = td_json_bool(td_json_get(root, "do_sample"), &samples, error);
    if (status != TD_OK || samples)
        return status;
    generation->temperature = 0;
    generation->present |= TEXT_GENERATION_TEMPERATURE;
    return TD_OK;
}

static td_status_t read_shares(const struct td_json *root, struct text_generation *generation,
                               struct td_error *error)
{
    td_status_t status = read_number(root, (struct number){"top_p", 1, TEXT_GENERATION_TOP_P},
                                     &generation->present, &generation->top_p, error);

    if (status == TD_OK && (generation->present & TEXT_GENERATION_TOP_P) != 0 &&
        generation->top_p < FLT_MIN)
        generation->top_p = FLT_MIN; /* 0: the smallest nucleus */
    if (status == TD_OK)
        status = read_number(root, (struct number){"min_p", 1, TEXT_GENERATION_MIN_P},
                             &generation->present, &generation->min_p, error);
    return status;
}

static td_status_t read_penalty(const struct td_json *root, struct text_generation *generation,
                                struct td_error *error)
{
    td_status_t status = read_number(
        root, (struct number){"repetition_penalty", FLT_MAX, TEXT_GENERATION_REPETITION_PENALTY},
        &generation->present, &generation->repetition_penalty, error);

    if (status == TD_OK && (generation->present & TEXT_GENERATION_REPETITION_PENALTY) != 0 &&
        generation->repetition_penalty == 0.0f)
        return td_fail(error, TD_INVALID, "'repetition_penalty' must be above 0");
    return status;
}

static td_status_t read_counts(const struct td_json *root, struct text_generation *generation,
                               struct td_error *error)
{
    int64_t top_k = INT64_MIN;
    int64_t max_new_tokens = 0;
    td_status_t status = td_json_int(td_json_get(root, "top_k"), -1, UINT32_MAX, &top_k, error);

    if (status == TD_OK)
        status =
            td_json_int(td_json_get(root, "max_new_tokens"), 1, UINT32_MAX, &max_new_tokens, error);
    if (status != TD_OK)
        return status;
    if (top_k >= -1) {
        generation->top_k = top_k < 0 ? 0 : (uint32_t)top_k;
        generation->present |= TEXT_GENERATION_TOP_K;
    }
    if (max_new_tokens > 0) {
        generation->max_new_tokens = (uint32_t)max_new_tokens;
        generation->present |= TEXT_GENERATION_MAX_NEW_TOKENS;
    }
    return TD_OK;
}

static td_status_t add_end_id(const struct td_json *value,
                              uint32_t ids_out[static TEXT_STOP_IDS_MAX], uint32_t *count_out,
                              struct td_error *error)
{
    const struct td_json_field field = {value, "eos_token_id"};
    int64_t id = 0;
    td_status_t status;

    if (value->kind == TD_JSON_NULL)
        return td_fail(error, TD_INVALID,
                       "'eos_token_id' must be an integer or a list of integers");
    status = td_json_int(field, 0, UINT32_MAX - 1, &id, error);
    if (status != TD_OK)
        return status;
    if (*count_out == TEXT_STOP_IDS_MAX)
        return td_fail(error, TD_LIMIT, "'eos_token_id' has more than %d ids", TEXT_STOP_IDS_MAX);
    ids_out[(*count_out)++] = (uint32_t)id;
    return TD_OK;
}

td_status_t model_end_ids_read(const struct td_json *root,
                               uint32_t ids_out[static TEXT_STOP_IDS_MAX], uint32_t *count_out,
                               struct td_error *error)
{
    const struct td_json *value = td_json_get(root, "eos_token_id").value;
    td_status_t status = TD_OK;

    *count_out = 0;
    if (value == NULL)
        return TD_OK;
    if (value->kind != TD_JSON_ARRAY)
        return add_end_id(value, ids_out, count_out, error);
    for (const struct td_json *id = value->items.first; id != NULL && status == TD_OK;
         id = id->next)
        status = add_end_id(id, ids_out, count_out, error);
    return status;
}

static td_status_t read_root(const struct td_json *root, struct model_generation_config *config,
                             struct td_error *error)
{
    struct text_generation *generation = &config->generation;
    td_status_t status;

    if (root->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "the document must be an object");
    status = read_temperature(root, generation, error);
    if (status == TD_OK)
        status = read_shares(root, generation, error);
    if (status == TD_OK)
        status = read_penalty(root, generation, error);
    if (status == TD_OK)
        status = read_counts(root, generation, error);
    if (status == TD_OK)
        status = model_end_ids_read(root, config->end_ids, &config->end_id_count, error);
    return status;
}

td_status_t model_generation_config_read(struct td_span text,
                                         struct model_generation_config *config_out,
                                         struct td_error *error)
{
    struct model_generation_config config = {0};
    const struct td_json *root;
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&arena, td_json_arena_bytes(&limits));
    status = td_json_parse(&arena, text, &limits, &root, error);
    if (status == TD_OK)
        status = read_root(root, &config, error);
    td_arena_fini(&arena);
    if (status != TD_OK) {
        td_fail_wrap(error, "generation_config.json");
        return status;
    }
    *config_out = config;
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* Into a source */

static bool has_stop_id(const struct text_source *source, uint32_t id)
{
    for (uint32_t i = 0; i < source->stop_id_count; i++)
        if (source->stop_ids[i] == id)
            return true;
    return false;
}

td_status_t model_add_stop_ids(struct text_source *source, const uint32_t *ids, uint32_t count,
                               struct td_error *error)
{
    for (uint32_t i = 0; i < count; i++) {
        if (ids[i] >= source->token_count || has_stop_id(source, ids[i]))
            continue;
        if (source->stop_id_count == TEXT_STOP_IDS_MAX)
            return td_fail(error, TD_LIMIT, "more than %d token ids end an answer",
                           TEXT_STOP_IDS_MAX);
        source->stop_ids[source->stop_id_count++] = ids[i];
    }
    return TD_OK;
}

td_status_t model_generation_config_apply(const struct model_generation_config *config,
                                          struct text_source *source, struct td_error *error)
{
    source->generation = config->generation;
    return model_add_stop_ids(source, config->end_ids, config->end_id_count, error);
}
