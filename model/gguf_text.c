/*
 * gguf_text.c: see gguf_text.h.
 *
 * Takes over what the file says, with llama.cpp's defaults for what it does not say. Whether it makes a
 * working tokenizer is found out by text_model_open.
 */
#include "model/gguf_text.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/pretokenize.h"
#include "lib/text/template_pair.h"
#include "model/generation_config.h"
#include "model/model.h"
#include "model/show.h"

/* What llama.cpp takes for a SentencePiece model that does not say: Llama's own ids. */
#define SENTENCEPIECE_UNKNOWN 0
#define SENTENCEPIECE_BOS     1
#define SENTENCEPIECE_EOS     2

struct reading {
    const struct model_gguf *file;
    struct text_source source;
    struct text_token *tokens; /* the block behind both */
    struct text_merge *merges;
    char *pair; /* room for plain_template and tool_template as one */
    struct td_span plain_template;
    struct td_span tool_template; /* empty: there is none */
    struct td_error *error;
};

static td_status_t read_algorithm(struct reading *reading)
{
    struct td_span name = {0};
    char shown[64];
    td_status_t status =
        model_gguf_get_text(reading->file, "tokenizer.ggml.model", &name, reading->error);

    if (status != TD_OK)
        return status;
    if (td_span_is(name, "gpt2"))
        reading->source.algorithm = TEXT_BYTE_LEVEL;
    else if (td_span_is(name, "llama"))
        reading->source.algorithm = TEXT_SENTENCEPIECE;
    else
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "tokenizer.ggml.model '%s' is not served; 'gpt2' (byte-level BPE) and "
                       "'llama' (SentencePiece BPE) are",
                       model_show(name, shown, sizeof shown));
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* Tables */

/* An array with a value for each token; NULL: there is none. */
static td_status_t find_token_array(struct reading *reading, const char *key,
                                    enum model_gguf_kind element,
                                    const struct model_gguf_value **value_out)
{
    const struct model_gguf_value *value = NULL;
    td_status_t status = model_gguf_get_array(reading->file, key, element, &value, reading->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (value != NULL && value->count != reading->source.token_count)
        return td_fail(reading->error, TD_INVALID,
                       "key %s has %" PRIu64 " values for %" PRIu32 " tokens", key, value->count,
                       reading->source.token_count);
    *value_out = value;
    return TD_OK;
}

static td_status_t read_token_types(struct reading *reading)
{
    static const char key[] = "tokenizer.ggml.token_type";
    const struct model_gguf_value *types;
    td_status_t status = find_token_array(reading, key, MODEL_GGUF_I32, &types);

    if (status != TD_OK || types == NULL)
        return status; /* all normal */
    for (uint32_t i = 0; i < reading->source.token_count; i++) {
        int32_t type;

        memcpy(&type, types->bytes + i * sizeof type, sizeof type);
        if (type < TEXT_TOKEN_NORMAL || type > TEXT_TOKEN_BYTE)
            return td_fail(reading->error, TD_INVALID, "key %s: value %" PRIu32 " is %" PRId32, key,
                           i, type);
        reading->tokens[i].type = (uint8_t)type;
    }
    return TD_OK;
}

static td_status_t read_scores(struct reading *reading)
{
    static const char key[] = "tokenizer.ggml.scores";
    const struct model_gguf_value *scores;
    td_status_t status = find_token_array(reading, key, MODEL_GGUF_F32, &scores);

    if (status != TD_OK)
        return status;
    if (scores == NULL)
        return td_fail(reading->error, TD_INVALID, "key %s is missing", key);
    for (uint32_t i = 0; i < reading->source.token_count; i++)
        memcpy(&reading->tokens[i].score, scores->bytes + i * sizeof(float), sizeof(float));
    return TD_OK;
}

static td_status_t read_tokens(struct reading *reading, const struct model_gguf_value *tokens)
{
    size_t cursor = 0;

    for (uint32_t i = 0; i < reading->source.token_count; i++) {
        struct td_span token = model_gguf_next_string(tokens, &cursor);

        if (token.length == 0 || token.length > TEXT_TOKEN_BYTES_MAX)
            return td_fail(reading->error, TD_INVALID,
                           "key tokenizer.ggml.tokens: token %" PRIu32 " has %zu bytes (1 to %d)",
                           i, token.length, TEXT_TOKEN_BYTES_MAX);
        reading->tokens[i] = (struct text_token){
            .bytes = token.bytes, .length = (uint16_t)token.length, .type = TEXT_TOKEN_NORMAL};
    }
    return read_token_types(reading);
}

static td_status_t read_merges(struct reading *reading, const struct model_gguf_value *merges)
{
    uint32_t count = (uint32_t)merges->count;
    struct td_span *rules = calloc((size_t)count + 1, sizeof *rules);
    size_t cursor = 0;
    td_status_t status;

    if (rules == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tokenizer");
    for (uint32_t i = 0; i < count; i++)
        rules[i] = model_gguf_next_string(merges, &cursor);
    status = text_source_resolve_merges(reading->tokens, reading->source.token_count, rules, count,
                                        reading->merges, reading->error);
    free(rules);
    return status;
}

/* An array of strings that must be there, with 1 to count_max of them. */
static td_status_t find_strings(struct reading *reading, const char *key, uint32_t count_max,
                                const struct model_gguf_value **value_out)
{
    td_status_t status =
        model_gguf_get_array(reading->file, key, MODEL_GGUF_STRING, value_out, reading->error);

    if (status == TD_NOT_FOUND)
        return td_fail(reading->error, TD_INVALID, "key %s is missing", key);
    if (status == TD_OK && (*value_out)->count > count_max)
        return td_fail(reading->error, TD_LIMIT,
                       "key %s has %" PRIu64 " strings (at most %" PRIu32 ")", key,
                       (*value_out)->count, count_max);
    return status;
}

/* The bytes for the pair of templates; 0: there is no pair. */
static size_t pair_bytes(const struct reading *reading)
{
    if (reading->tool_template.length == 0 || reading->plain_template.length == 0)
        return 0;
    return reading->plain_template.length + reading->tool_template.length +
           TEXT_TEMPLATE_PAIR_BYTES;
}

static td_status_t read_tables(struct reading *reading)
{
    bool byte_level = reading->source.algorithm == TEXT_BYTE_LEVEL;
    const struct model_gguf_value *tokens = NULL;
    const struct model_gguf_value *merges = NULL;
    td_status_t status = find_strings(reading, "tokenizer.ggml.tokens", TEXT_TOKENS_MAX, &tokens);

    if (status == TD_OK && byte_level)
        status = find_strings(reading, "tokenizer.ggml.merges", TEXT_MERGES_MAX, &merges);
    if (status != TD_OK)
        return status;
    reading->source.token_count = (uint32_t)tokens->count;
    reading->source.merge_count = merges == NULL ? 0 : (uint32_t)merges->count;
    reading->tokens =
        malloc(reading->source.token_count * sizeof *reading->tokens +
               reading->source.merge_count * sizeof *reading->merges + pair_bytes(reading) + 1);
    if (reading->tokens == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tokenizer");
    reading->merges = (struct text_merge *)(reading->tokens + reading->source.token_count);
    reading->pair = (char *)(reading->merges + reading->source.merge_count);
    reading->source.memory = reading->tokens;
    reading->source.tokens = reading->tokens;
    reading->source.merges = reading->merges;
    status = read_tokens(reading, tokens);
    if (status == TD_OK)
        status = byte_level ? read_merges(reading, merges) : read_scores(reading);
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* Special tokens and manners */

/* An id that no token has is ignored, as llama.cpp does: files with such ids are in the wild. */
static td_status_t read_special(struct reading *reading, const char *key, uint32_t fallback,
                                uint32_t *id_out)
{
    uint32_t id = fallback;
    td_status_t status = model_gguf_get_u32(reading->file, key, &id, reading->error);

    if (status != TD_OK && status != TD_NOT_FOUND)
        return status;
    if (id < reading->source.token_count)
        *id_out = id;
    return TD_OK;
}

static td_status_t read_specials(struct reading *reading)
{
    struct text_source *source = &reading->source;
    bool sentencepiece = source->algorithm == TEXT_SENTENCEPIECE;
    const struct {
        const char *key;
        uint32_t fallback; /* of SentencePiece */
        uint32_t *id;
    } specials[] = {
        {"tokenizer.ggml.bos_token_id", SENTENCEPIECE_BOS, &source->bos},
        {"tokenizer.ggml.eos_token_id", SENTENCEPIECE_EOS, &source->eos},
        {"tokenizer.ggml.eot_token_id", TEXT_TOKEN_NONE, &source->eot},
        {"tokenizer.ggml.eom_token_id", TEXT_TOKEN_NONE, &source->eom},
        {"tokenizer.ggml.unknown_token_id", SENTENCEPIECE_UNKNOWN, &source->unknown},
    };

    for (size_t i = 0; i < sizeof specials / sizeof specials[0]; i++) {
        td_status_t status =
            read_special(reading, specials[i].key,
                         sentencepiece ? specials[i].fallback : TEXT_TOKEN_NONE, specials[i].id);

        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

static td_status_t read_span(struct reading *reading, const char *key, size_t length_max,
                             struct td_span *span_out)
{
    td_status_t status = model_gguf_get_text(reading->file, key, span_out, reading->error);

    if (status != TD_OK)
        return status == TD_NOT_FOUND ? TD_OK : status;
    if (span_out->length > length_max)
        return td_fail(reading->error, TD_LIMIT, "key %s has %zu bytes (at most %zu)", key,
                       span_out->length, length_max);
    return TD_OK;
}

static td_status_t read_bool(struct reading *reading, const char *key, bool *value_out)
{
    td_status_t status = model_gguf_get_bool(reading->file, key, value_out, reading->error);

    return status == TD_NOT_FOUND ? TD_OK : status;
}

/* The pre-tokenizer, and what follows from it. */
static td_status_t read_pretokenizer(struct reading *reading)
{
    struct text_source *source = &reading->source;
    const struct text_pretokenizer *pretokenizer;
    td_status_t status;

    source->pretokenizer = td_span_of("default"); /* as llama.cpp calls what is not named */
    status = read_span(reading, "tokenizer.ggml.pre", TEXT_NAME_BYTES_MAX, &source->pretokenizer);
    if (status == TD_OK)
        status = text_pretokenizer_find(source->pretokenizer, &pretokenizer, reading->error);
    if (status != TD_OK)
        return status;
    source->ignore_merges = pretokenizer->ignores_merges;
    source->normalize_nfc = pretokenizer->normalizes_nfc;
    source->add_bos = pretokenizer->adds_bos;
    return TD_OK;
}

static td_status_t read_spaces(struct reading *reading)
{
    bool prefix = true;
    td_status_t status = read_bool(reading, "tokenizer.ggml.add_space_prefix", &prefix);

    reading->source.add_bos = true;
    reading->source.prefix = prefix ? TEXT_PREFIX_ALWAYS : TEXT_PREFIX_NONE;
    reading->source.strip_space = prefix;
    return status;
}

static td_status_t read_manners(struct reading *reading)
{
    struct text_source *source = &reading->source;
    td_status_t status =
        source->algorithm == TEXT_BYTE_LEVEL ? read_pretokenizer(reading) : read_spaces(reading);

    if (status == TD_OK)
        status = read_bool(reading, "tokenizer.ggml.add_bos_token", &source->add_bos);
    if (status == TD_OK)
        status = read_bool(reading, "tokenizer.ggml.add_eos_token", &source->add_eos);
    if (status == TD_OK && pair_bytes(reading) > 0)
        source->chat_template =
            text_template_pair(reading->plain_template, reading->tool_template, reading->pair);
    else if (status == TD_OK)
        source->chat_template = reading->plain_template;
    return status;
}

/* The template, and the one for chats with tools if it has a name of its own. */
static td_status_t find_templates(struct reading *reading)
{
    td_status_t status = read_span(reading, "tokenizer.chat_template", TEXT_TEMPLATE_BYTES_MAX,
                                   &reading->plain_template);

    if (status == TD_OK)
        status = read_span(reading, "tokenizer.chat_template.tool_use", TEXT_TEMPLATE_BYTES_MAX,
                           &reading->tool_template);
    return status;
}

td_status_t model_gguf_text(const struct model_gguf *file, struct text_source *source_out,
                            struct td_error *error)
{
    struct reading reading = {.file = file, .error = error};
    td_status_t status;

    text_source_init(&reading.source);
    status = read_algorithm(&reading);
    if (status == TD_OK)
        status = find_templates(&reading);
    if (status == TD_OK)
        status = read_tables(&reading);
    if (status == TD_OK)
        status = read_specials(&reading);
    if (status == TD_OK)
        status = read_manners(&reading);
    if (status == TD_OK)
        status = model_gguf_generation(file, &reading.source, error);
    if (status == TD_OK)
        status = text_source_check(&reading.source, error);
    if (status != TD_OK) {
        text_source_fini(&reading.source);
        return status;
    }
    *source_out = reading.source;
    return TD_OK;
}

td_status_t model_read_text(struct model *model, struct td_error *error)
{
    td_status_t status = model_gguf_text(model->file, &model->text, error);

    if (status == TD_NOT_FOUND)
        return TD_OK; /* weights only: for measurements and tests */
    if (status == TD_OK && model->text.token_count > model->vocab)
        return td_fail(error, TD_INVALID,
                       "key tokenizer.ggml.tokens has %" PRIu32
                       " tokens for an embedding of %" PRIu32 " rows",
                       model->text.token_count, model->vocab);
    model->has_text = status == TD_OK;
    return status;
}
