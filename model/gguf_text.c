/*
 * gguf_text.c: the tokenizer's part of a GGUF file as the arrays of lib/text/source.h.
 *
 * Takes over what the file says, with llama.cpp's defaults for what it does not say. Whether it makes a
 * working tokenizer is found out by text_model_open.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/pretokenize.h"
#include "model/generation_config.h"
#include "model/model.h"

static td_status_t no_memory(struct td_error *error)
{
    return td_fail(error, TD_NO_MEMORY, "no memory for the tokenizer");
}

/* Only byte-level BPE is known to lib/text. */
static td_status_t check_kind(const struct model *model, struct td_error *error)
{
    struct td_span kind = {0};
    char shown[64];
    td_status_t status = model_gguf_get_text(model->file, "tokenizer.ggml.model", &kind, error);

    if (status != TD_OK)
        return status;
    if (!td_span_is(kind, "gpt2"))
        return td_fail(error, TD_UNSUPPORTED,
                       "tokenizer %s is not served; byte-level BPE (\"gpt2\") is",
                       model_gguf_show(kind, shown, sizeof shown));
    return TD_OK;
}

static td_status_t read_span(const struct model *model, const char *key, size_t length_max,
                             struct td_span *span_out, struct td_error *error)
{
    td_status_t status = model_gguf_get_text(model->file, key, span_out, error);

    if (status != TD_OK)
        return status == TD_NOT_FOUND ? TD_OK : status;
    if (span_out->length > length_max)
        return td_fail(error, TD_LIMIT, "key %s has %zu bytes (at most %zu)", key, span_out->length,
                       length_max);
    return TD_OK;
}

static td_status_t read_token_types(struct model *model, struct td_error *error)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const struct model_gguf_value *types;
    td_status_t status = model_gguf_get_array(model->file, key, MODEL_GGUF_I32, &types, error);

    if (status != TD_OK)
        return status == TD_NOT_FOUND ? TD_OK : status; /* all normal */
    if (types->count != model->text.token_count)
        return td_fail(error, TD_INVALID, "key %s has %" PRIu64 " values for %" PRIu32 " tokens",
                       key, types->count, model->text.token_count);
    for (uint32_t i = 0; i < model->text.token_count; i++) {
        int32_t type;

        memcpy(&type, types->bytes + i * sizeof type, sizeof type);
        if (type < TEXT_TOKEN_NORMAL || type > TEXT_TOKEN_BYTE)
            return td_fail(error, TD_INVALID, "key %s: value %" PRIu32 " is %" PRId32, key, i,
                           type);
        model->text_tokens[i].type = (uint8_t)type;
    }
    return TD_OK;
}

static td_status_t read_tokens(struct model *model, struct td_error *error)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const struct model_gguf_value *tokens;
    size_t cursor = 0;
    td_status_t status = model_gguf_get_array(model->file, key, MODEL_GGUF_STRING, &tokens, error);

    if (status == TD_NOT_FOUND)
        return td_fail(error, TD_INVALID, "key %s is missing", key);
    if (status != TD_OK)
        return status;
    if (tokens->count == 0 || tokens->count > model->vocab || tokens->count > TEXT_TOKENS_MAX)
        return td_fail(error, TD_INVALID,
                       "key %s has %" PRIu64 " tokens for an embedding of %" PRIu32 " rows", key,
                       tokens->count, model->vocab);
    model->text_tokens = calloc((size_t)tokens->count, sizeof *model->text_tokens);
    if (model->text_tokens == NULL)
        return no_memory(error);
    model->text.tokens = model->text_tokens;
    model->text.token_count = (uint32_t)tokens->count;
    for (uint32_t i = 0; i < model->text.token_count; i++) {
        struct td_span token = model_gguf_next_string(tokens, &cursor);

        if (token.length == 0 || token.length > TEXT_TOKEN_BYTES_MAX)
            return td_fail(error, TD_INVALID, "key %s: token %" PRIu32 " has %zu bytes (1 to %d)",
                           key, i, token.length, TEXT_TOKEN_BYTES_MAX);
        model->text_tokens[i] = (struct text_token){
            .bytes = token.bytes, .length = (uint16_t)token.length, .type = TEXT_TOKEN_NORMAL};
    }
    return read_token_types(model, error);
}

static td_status_t resolve_merges(struct model *model, const struct model_gguf_value *merges,
                                  struct td_error *error)
{
    uint32_t count = (uint32_t)merges->count;
    struct td_span *rules = calloc((size_t)count + 1, sizeof *rules);
    size_t cursor = 0;
    td_status_t status;

    model->text_merges = calloc((size_t)count + 1, sizeof *model->text_merges);
    if (rules == NULL || model->text_merges == NULL) {
        free(rules);
        return no_memory(error);
    }
    for (uint32_t i = 0; i < count; i++)
        rules[i] = model_gguf_next_string(merges, &cursor);
    status = text_source_resolve_merges(model->text.tokens, model->text.token_count, rules, count,
                                        model->text_merges, error);
    free(rules);
    return status;
}

static td_status_t read_merges(struct model *model, struct td_error *error)
{
    static const char key[] = "tokenizer.ggml.merges";
    const struct model_gguf_value *merges;
    td_status_t status = model_gguf_get_array(model->file, key, MODEL_GGUF_STRING, &merges, error);

    if (status == TD_NOT_FOUND)
        return td_fail(error, TD_INVALID, "key %s is missing", key);
    if (status != TD_OK)
        return status;
    if (merges->count > TEXT_MERGES_MAX)
        return td_fail(error, TD_LIMIT, "key %s has %" PRIu64 " rules (at most %" PRIu32 ")", key,
                       merges->count, TEXT_MERGES_MAX);
    status = resolve_merges(model, merges, error);
    if (status != TD_OK)
        return status;
    model->text.merges = model->text_merges;
    model->text.merge_count = (uint32_t)merges->count;
    return TD_OK;
}

/* An id that no token has is ignored, as llama.cpp does: files with such ids are in the wild. */
static td_status_t read_special(const struct model *model, const char *key, uint32_t *id_out,
                                struct td_error *error)
{
    uint32_t id = 0;
    td_status_t status = model_gguf_get_u32(model->file, key, &id, error);

    if (status == TD_OK && id < model->text.token_count)
        *id_out = id;
    return status == TD_NOT_FOUND ? TD_OK : status;
}

static td_status_t read_specials(struct model *model, struct td_error *error)
{
    const struct {
        const char *key;
        uint32_t *id;
    } specials[] = {
        {"tokenizer.ggml.bos_token_id", &model->text.bos},
        {"tokenizer.ggml.eos_token_id", &model->text.eos},
        {"tokenizer.ggml.eot_token_id", &model->text.eot},
        {"tokenizer.ggml.eom_token_id", &model->text.eom},
        {"tokenizer.ggml.unknown_token_id", &model->text.unknown},
    };

    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        td_status_t status = read_special(model, specials[i].key, specials[i].id, error);

        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

/* The pre-tokenizer, and the switches whose default depends on it. */
static td_status_t read_manners(struct model *model, struct td_error *error)
{
    struct text_source *text = &model->text;
    const struct text_pretokenizer *pretokenizer;
    td_status_t status;

    text->pretokenizer = td_span_of("default");
    status =
        read_span(model, "tokenizer.ggml.pre", TEXT_NAME_BYTES_MAX, &text->pretokenizer, error);
    if (status == TD_OK)
        status = text_pretokenizer_find(text->pretokenizer, &pretokenizer, error);
    if (status != TD_OK)
        return status;
    text->ignore_merges = pretokenizer->ignores_merges;
    text->add_bos = pretokenizer->adds_bos;
    status =
        model_gguf_get_bool(model->file, "tokenizer.ggml.add_bos_token", &text->add_bos, error);
    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    status =
        model_gguf_get_bool(model->file, "tokenizer.ggml.add_eos_token", &text->add_eos, error);
    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    return read_span(model, "tokenizer.chat_template", TEXT_TEMPLATE_BYTES_MAX,
                     &text->chat_template, error);
}

td_status_t model_read_text(struct model *model, struct td_error *error)
{
    td_status_t status = check_kind(model, error);

    if (status == TD_NOT_FOUND)
        return TD_OK; /* weights only: for measurements and tests */
    if (status == TD_OK)
        status = read_tokens(model, error);
    if (status == TD_OK)
        status = read_merges(model, error);
    if (status == TD_OK)
        status = read_specials(model, error);
    if (status == TD_OK)
        status = read_manners(model, error);
    if (status == TD_OK)
        status = model_gguf_generation(model->file, &model->text, error);
    if (status == TD_OK)
        status = text_source_check(&model->text, error);
    model->has_text = status == TD_OK;
    return status;
}
