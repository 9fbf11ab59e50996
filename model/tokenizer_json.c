/*
 * tokenizer_json.c: see tokenizer_json.h.
 *
 * The JSON trees live during the reading only: what stays are the arrays of the source and one block of text.
 */
#include "model/tokenizer_json.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/text/template_pair.h"
#include "model/map.h"
#include "model/tokenizer_reading.h"

#define TOKENIZER "tokenizer.json"
#define CONFIG    "tokenizer_config.json"
#define TEMPLATE  "chat_template.jinja"

#define PATH_BYTES 4096
#define DEPTH_MAX  16

static td_status_t no_memory(struct td_error *error)
{
    return td_fail(error, TD_NO_MEMORY, "no memory for the tokenizer");
}

static td_status_t parse(struct td_arena *arena, struct td_span text, size_t bytes_max,
                         const struct td_json **root_out, struct td_error *error)
{
    const struct td_json_limits limits = {
        .bytes_max = bytes_max,
        .nodes_max = 2 * TEXT_TOKENS_MAX + 3 * TEXT_MERGES_MAX + 4096,
        .depth_max = DEPTH_MAX,
    };
    td_status_t status;

    td_arena_init(arena, td_json_arena_bytes(&limits));
    status = td_json_parse(arena, text, &limits, root_out, error);
    if (status == TD_OK && (*root_out)->kind != TD_JSON_OBJECT)
        status = td_fail(error, TD_INVALID, "%s, must be an object",
                         td_json_kind_text((*root_out)->kind));
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* The model: what kind it is */

/* A field that is only known in its neutral form: absent, null, "", 0 or false. */
static td_status_t check_neutral(const struct td_json *model, const char *name,
                                 struct td_error *error)
{
    const struct td_json *field = td_json_find(model, name);
    bool neutral = field == NULL || field->kind == TD_JSON_NULL ||
                   (field->kind == TD_JSON_STRING && field->string.length == 0) ||
                   (field->kind == TD_JSON_BOOL && !field->boolean) ||
                   (field->kind == TD_JSON_INTEGER && field->integer == 0) ||
                   (field->kind == TD_JSON_NUMBER && field->number == 0);

    return neutral ? TD_OK
                   : td_fail(error, TD_UNSUPPORTED, "model.%s: only null is known here", name);
}

static td_status_t check_model(const struct td_json *model, bool sentencepiece,
                               struct td_error *error)
{
    static const char *const neutral[] = {"dropout", "continuing_subword_prefix",
                                          "end_of_word_suffix"};
    struct td_span type = td_span_of("BPE"); /* old files do not say */
    bool byte_fallback = false;
    td_status_t status = td_json_string(td_json_get(model, "type"), &type, error);

    if (status == TD_OK && !td_span_is(type, "BPE"))
        status = td_fail(error, TD_UNSUPPORTED, "model.type: %.*s is not known here; BPE is",
                         model_tokenizer_shown(type), type.bytes);
    for (size_t i = 0; i < sizeof neutral / sizeof neutral[0] && status == TD_OK; i++)
        status = check_neutral(model, neutral[i], error);
    if (status == TD_OK)
        status = td_json_bool(td_json_get(model, "byte_fallback"), &byte_fallback, error);
    if (status == TD_OK && byte_fallback != sentencepiece)
        status =
            td_fail(error, TD_UNSUPPORTED, "model.byte_fallback: %s ByteLevel is not known here",
                    byte_fallback ? "with" : "neither it nor");
    return status;
}

static td_status_t read_model(struct model_tokenizer_reading *reading)
{
    struct text_source *source = &reading->tokenizer->source;
    const struct td_json *model = NULL;
    td_status_t status =
        td_json_object(td_json_get(reading->root, "model"), &model, reading->error);

    if (status == TD_OK && model == NULL)
        return td_fail(reading->error, TD_INVALID, "no model");
    if (status == TD_OK)
        status = model_tokenizer_pipeline_read(reading->root, &reading->pipeline, reading->error);
    if (status == TD_OK)
        status =
            check_model(model, reading->pipeline.algorithm == TEXT_SENTENCEPIECE, reading->error);
    if (status == TD_OK)
        status = td_json_bool(td_json_get(model, "ignore_merges"), &source->ignore_merges,
                              reading->error);
    if (status == TD_OK)
        status = td_json_object(td_json_get(model, "vocab"), &reading->vocab, reading->error);
    if (status != TD_OK)
        return status;
    if (reading->vocab == NULL)
        return td_fail(reading->error, TD_INVALID, "model: no vocab");
    source->algorithm = reading->pipeline.algorithm;
    source->pretokenizer = td_span_of(reading->pipeline.pretokenizer);
    source->prefix = reading->pipeline.prefix;
    source->normalize_nfc = reading->pipeline.normalize_nfc;
    source->strip_space = reading->pipeline.strip_space;
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */
/* Special ids */

/* "<s>", {"content": "<s>"}, or null. */
static td_status_t read_special(struct model_tokenizer_reading *reading,
                                const struct td_json *object, const char *name, uint32_t *id_out)
{
    const struct td_json *json = td_json_find(object, name);
    struct td_span text;
    uint32_t id;

    if (json != NULL && json->kind == TD_JSON_OBJECT)
        json = td_json_find(json, "content");
    if (json == NULL || json->kind == TD_JSON_NULL)
        return TD_OK;
    if (json->kind != TD_JSON_STRING)
        return td_fail(reading->error, TD_INVALID, "%s: %s, must be a string or null", name,
                       td_json_kind_text(json->kind));
    text = json->string;
    id = text_token_map_find(&reading->by_text, text.bytes, text.length);
    if (id == TEXT_TOKEN_NONE)
        return td_fail(reading->error, TD_INVALID, "%s: '%.*s' is not a token", name,
                       model_tokenizer_shown(text), text.bytes);
    *id_out = id;
    return TD_OK;
}

/* What a token of the post-processor is: bos or eos, whatever the config says, if it says the same. */
static td_status_t take_framing(uint32_t token, const char *name, uint32_t *id, bool *add,
                                struct model_tokenizer_reading *reading)
{
    if (token == TEXT_TOKEN_NONE)
        return TD_OK;
    if (token >= reading->tokenizer->source.token_count)
        return td_fail(reading->error, TD_INVALID, "post_processor: id %" PRIu32 " has no token",
                       token);
    if (*id != TEXT_TOKEN_NONE && *id != token)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "post_processor: it adds token %" PRIu32 ", but %s is %" PRIu32, token, name,
                       *id);
    *id = token;
    *add = true;
    return TD_OK;
}

/* Llama's classes in transformers heed add_bos_token and add_eos_token over the post-processor. */
static td_status_t read_framing(struct model_tokenizer_reading *reading)
{
    struct text_source *source = &reading->tokenizer->source;
    td_status_t status = TD_OK;

    if (reading->config != NULL) {
        status = read_special(reading, reading->config, "bos_token", &source->bos);
        if (status == TD_OK)
            status = read_special(reading, reading->config, "eos_token", &source->eos);
    }
    if (status == TD_OK)
        status = take_framing(reading->pipeline.first, "bos_token", &source->bos, &source->add_bos,
                              reading);
    if (status == TD_OK)
        status = take_framing(reading->pipeline.last, "eos_token", &source->eos, &source->add_eos,
                              reading);
    if (status == TD_OK && reading->config != NULL) {
        status = td_json_bool(td_json_get(reading->config, "add_bos_token"), &source->add_bos,
                              reading->error);
        if (status == TD_OK)
            status = td_json_bool(td_json_get(reading->config, "add_eos_token"), &source->add_eos,
                                  reading->error);
    }
    return status;
}

static td_status_t read_unknown(struct model_tokenizer_reading *reading)
{
    struct model_tokenizer_json *tokenizer = reading->tokenizer;
    uint32_t *unknown = &tokenizer->source.unknown;
    td_status_t status =
        read_special(reading, td_json_find(reading->root, "model"), "unk_token", unknown);

    if (status == TD_OK && *unknown != TEXT_TOKEN_NONE &&
        tokenizer->source.algorithm == TEXT_SENTENCEPIECE)
        tokenizer->tokens[*unknown].type = TEXT_TOKEN_UNKNOWN;
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* The template */

/* The template with this name in a list of them; absent: nothing is written. */
static td_status_t find_named(const struct model_tokenizer_reading *reading,
                              const struct td_json *list, const char *wanted,
                              struct td_span *template_out)
{
    td_json_for_each(named, list)
    {
        const struct td_json *name =
            named->kind == TD_JSON_OBJECT ? td_json_find(named, "name") : NULL;

        if (name != NULL && name->kind == TD_JSON_STRING && td_span_is(name->string, wanted))
            return td_json_string(td_json_get(named, "template"), template_out, reading->error);
    }
    return TD_OK;
}

/* A string, or a list of named ones, of which "default" is for chats and "tool_use" for chats with tools. */
static td_status_t find_template(const struct model_tokenizer_reading *reading,
                                 struct td_span *template_out, struct td_span *tool_template_out)
{
    const struct td_json *json =
        reading->config == NULL ? NULL : td_json_find(reading->config, "chat_template");
    td_status_t status;

    *template_out = td_span_over("", 0);
    if (json == NULL || json->kind != TD_JSON_ARRAY)
        return reading->config == NULL
                   ? TD_OK
                   : td_json_string(td_json_get(reading->config, "chat_template"), template_out,
                                    reading->error);
    status = find_named(reading, json, "default", template_out);
    if (status == TD_OK)
        status = find_named(reading, json, "tool_use", tool_template_out);
    if (status == TD_OK && template_out->length == 0)
        return td_fail(reading->error, TD_UNSUPPORTED,
                       "chat_template: none of them is named default");
    return status;
}

static td_status_t read_template(struct model_tokenizer_reading *reading, struct td_span file)
{
    struct td_span *kept = &reading->tokenizer->source.chat_template;
    struct td_span with_tools = {0};
    struct td_span text = file;
    td_status_t status = file.length > 0 ? TD_OK : find_template(reading, &text, &with_tools);
    size_t length = text.length + with_tools.length + TEXT_TEMPLATE_PAIR_BYTES;

    if (status != TD_OK)
        return status;
    if (with_tools.length == 0)
        length = text.length;
    if (length > TEXT_TEMPLATE_BYTES_MAX)
        return td_fail(reading->error, TD_LIMIT, "chat_template: %zu bytes, at most %zu", length,
                       TEXT_TEMPLATE_BYTES_MAX);
    if (with_tools.length > 0) {
        *kept = text_template_pair(text, with_tools, reading->cursor);
        reading->cursor += kept->length;
    } else if (text.length > 0) {
        *kept = model_tokenizer_keep(reading, text);
    }
    return TD_OK;
}

/* ------------------------------------------------------------------------------------------- */

/* Runs a part of the reading; an error of it is said to be of this file. */
static td_status_t of_file(const char *name, td_status_t status, struct td_error *error)
{
    if (status != TD_OK)
        td_fail_wrap(error, "%s", name);
    return status;
}

static td_status_t read_all(struct model_tokenizer_reading *reading, struct td_span template_file)
{
    struct td_error *error = reading->error;
    td_status_t status = of_file(TOKENIZER, read_model(reading), error);

    if (status == TD_OK)
        status = of_file(TOKENIZER, model_tokenizer_read_tables(reading), error);
    if (status == TD_OK)
        status = of_file(TOKENIZER, read_unknown(reading), error);
    if (status == TD_OK)
        status = of_file(CONFIG, read_framing(reading), error);
    if (status == TD_OK)
        status = of_file(template_file.length > 0 ? TEMPLATE : CONFIG,
                         read_template(reading, template_file), error);
    if (status == TD_OK)
        status = of_file(TOKENIZER, text_source_check(&reading->tokenizer->source, error), error);
    return status;
}

td_status_t model_tokenizer_json_parse(const struct model_tokenizer_files *files,
                                       struct model_tokenizer_json **out, struct td_error *error)
{
    struct model_tokenizer_reading reading = {.error = error};
    struct td_arena tokenizer_arena;
    struct td_arena config_arena;
    td_status_t status;

    td_arena_init(&config_arena, 0);
    status = of_file(
        TOKENIZER,
        parse(&tokenizer_arena, files->tokenizer, MODEL_TOKENIZER_JSON_MAX, &reading.root, error),
        error);
    if (status == TD_OK && files->config.length > 0)
        status = of_file(
            CONFIG,
            parse(&config_arena, files->config, MODEL_TOKENIZER_CONFIG_MAX, &reading.config, error),
            error);
    if (status == TD_OK) {
        reading.tokenizer = calloc(1, sizeof *reading.tokenizer);
        if (reading.tokenizer == NULL)
            status = no_memory(error);
    }
    if (status == TD_OK) {
        text_source_init(&reading.tokenizer->source);
        status = read_all(&reading, files->chat_template);
    }
    text_token_map_fini(&reading.by_text);
    td_arena_fini(&config_arena);
    td_arena_fini(&tokenizer_arena);
    if (status != TD_OK) {
        model_tokenizer_json_close(reading.tokenizer);
        return status;
    }
    *out = reading.tokenizer;
    return TD_OK;
}

/* Maps a file of the folder. An absent one stays an empty span; TD_NOT_FOUND if it must be there. */
static td_status_t open_file(const char *folder, const char *name, struct model_map *map,
                             struct td_span *text_out, struct td_error *error)
{
    char path[PATH_BYTES];
    int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    td_status_t status;

    if (length < 0 || (size_t)length >= sizeof path)
        return td_fail(error, TD_LIMIT, "%s: the path is over %d bytes", name, PATH_BYTES);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return TD_NOT_FOUND;
    status = model_map_open(path, map, error);
    if (status == TD_OK)
        *text_out = td_span_over((const char *)map->bytes, map->length);
    return status;
}

td_status_t model_tokenizer_json_open(const char *folder, struct model_tokenizer_json **out,
                                      struct td_error *error)
{
    static const char *const names[] = {TOKENIZER, CONFIG, TEMPLATE};
    struct model_tokenizer_files files = {.tokenizer = {.length = 0}};
    struct td_span *const texts[] = {&files.tokenizer, &files.config, &files.chat_template};
    struct model_map maps[3] = {{.bytes = NULL}};
    td_status_t status = TD_OK;

    for (size_t i = 0; i < 3 && status == TD_OK; i++) {
        status = open_file(folder, names[i], &maps[i], texts[i], error);
        if (status == TD_NOT_FOUND && i == 0)
            td_fail(error, status, "%s: no %s", folder, TOKENIZER);
        else if (status == TD_NOT_FOUND)
            status = TD_OK;
    }
    if (status == TD_OK)
        status = model_tokenizer_json_parse(&files, out, error);
    for (size_t i = 0; i < 3; i++)
        model_map_close(&maps[i]);
    return status;
}

void model_tokenizer_json_close(struct model_tokenizer_json *tokenizer)
{
    if (tokenizer == NULL)
        return;
    free(tokenizer->tokens);
    free(tokenizer->merges);
    free(tokenizer->bytes);
    free(tokenizer);
}

const struct text_source *model_tokenizer_json_source(const struct model_tokenizer_json *tokenizer)
{
    return &tokenizer->source;
}
