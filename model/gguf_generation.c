/*
 * gguf_generation.c: general.sampling.* and the ids that end an answer, from a GGUF file's metadata; see
 * generation_config.h. The names of the keys are those of llama.cpp's gguf-py.
 */
#include <float.h>
#include <string.h>

#include "model/generation_config.h"

/* TD_OK and *found_out false where the key is absent. */
static td_status_t read_float(const struct model_gguf *file, const char *key, float *value_out,
                              bool *found_out, struct td_error *error)
{
    td_status_t status = model_gguf_get_f32(file, key, value_out, error);

    *found_out = status == TD_OK;
    return status == TD_NOT_FOUND ? TD_OK : status;
}

static td_status_t read_floats(const struct model_gguf *file, struct text_generation *generation,
                               struct td_error *error)
{
    const struct {
        const char *key;
        float *value;
        enum text_generation_field bit;
        float min; /* what is beyond is as good as the limit */
        float max;
    } rows[] = {
        {"general.sampling.temp", &generation->temperature, TEXT_GENERATION_TEMPERATURE, 0,
         FLT_MAX},
        {"general.sampling.top_p", &generation->top_p, TEXT_GENERATION_TOP_P, FLT_MIN, 1},
        {"general.sampling.min_p", &generation->min_p, TEXT_GENERATION_MIN_P, 0, 1},
        {"general.sampling.penalty_repeat", &generation->repetition_penalty,
         TEXT_GENERATION_REPETITION_PENALTY, -FLT_MAX, FLT_MAX},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        bool found;
        td_status_t status = read_float(file, rows[i].key, rows[i].value, &found, error);

        if (status != TD_OK)
            return status;
        if (!found)
            continue;
        if (*rows[i].value != *rows[i].value ||
            (rows[i].bit == TEXT_GENERATION_REPETITION_PENALTY && !(*rows[i].value > 0.0f)))
            return td_fail(error, TD_INVALID, "key %s is %g", rows[i].key, (double)*rows[i].value);
        if (*rows[i].value < rows[i].min)
            *rows[i].value = rows[i].min;
        if (*rows[i].value > rows[i].max)
            *rows[i].value = rows[i].max;
        generation->present |= rows[i].bit;
    }
    return TD_OK;
}

static td_status_t read_top_k(const struct model_gguf *file, struct text_generation *generation,
                              struct td_error *error)
{
    static const char key[] = "general.sampling.top_k";
    const struct model_gguf_value *value = model_gguf_find(file, key);
    int32_t number = 0;
    td_status_t status = TD_OK;

    if (value == NULL)
        return TD_OK;
    if (value->kind == MODEL_GGUF_I32)
        memcpy(&number, value->bytes, sizeof number);
    if (number >= 0)
        status = model_gguf_get_u32(file, key, &generation->top_k, error);
    if (status == TD_OK)
        generation->present |= TEXT_GENERATION_TOP_K;
    return status;
}

/* Beside eos, eot and eom, which have fields of their own. An array is what Ollama writes. */
static td_status_t read_stop_ids(const struct model_gguf *file, struct text_source *source,
                                 struct td_error *error)
{
    static const char *const keys[] = {"tokenizer.ggml.fim_pad_token_id",
                                       "tokenizer.ggml.fim_rep_token_id",
                                       "tokenizer.ggml.fim_sep_token_id"};
    static const char list_key[] = "tokenizer.ggml.eos_token_ids";
    const struct model_gguf_value *list = model_gguf_find(file, list_key);
    td_status_t status = TD_OK;
    uint32_t id;

    for (size_t i = 0; i < sizeof keys / sizeof keys[0] && status == TD_OK; i++) {
        status = model_gguf_get_u32(file, keys[i], &id, error);
        if (status == TD_OK)
            status = model_add_stop_ids(source, &id, 1, error);
        else if (status == TD_NOT_FOUND)
            status = TD_OK;
    }
    if (status != TD_OK || list == NULL)
        return status;
    if (list->kind != MODEL_GGUF_ARRAY ||
        (list->element != MODEL_GGUF_I32 && list->element != MODEL_GGUF_U32))
        return td_fail(error, TD_INVALID, "key %s is not an array of 32-bit integers", list_key);
    for (uint64_t i = 0; i < list->count && status == TD_OK; i++) {
        memcpy(&id, list->bytes + i * sizeof id, sizeof id); /* a negative one is no token */
        status = model_add_stop_ids(source, &id, 1, error);
    }
    return status;
}

td_status_t model_gguf_generation(const struct model_gguf *file, struct text_source *source,
                                  struct td_error *error)
{
    struct text_generation generation = {0};
    td_status_t status = read_floats(file, &generation, error);

    if (status == TD_OK)
        status = read_top_k(file, &generation, error);
    if (status == TD_OK)
        status = read_stop_ids(file, source, error);
    if (status == TD_OK)
        source->generation = generation;
    return status;
}
