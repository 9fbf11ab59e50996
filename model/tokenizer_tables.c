/* tokenizer_tables.c: tokens and merges of a tokenizer.json, see tokenizer_reading.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_reading.h"

/* An id that no token has: a hole in the numbering, which no text gives and which is shown as nothing. */
#define HOLE "<unused>"

/* ------------------------------------------------------------------------------------------- */
/* Tokens */

static td_status_t read_id(const struct td_json *json, struct td_span text, uint32_t *id_out,
                           struct td_error *error)
{
    if (json == NULL || json->kind != TD_JSON_INTEGER || json->integer < 0 ||
        json->integer >= TEXT_TOKENS_MAX)
        return td_fail(error, TD_INVALID, "token '%.*s': its id must be an integer below %" PRIu32,
                       model_tokenizer_shown(text), text.bytes, TEXT_TOKENS_MAX);
    *id_out = (uint32_t)json->integer;
    return TD_OK;
}

/* An added token. In tokenizer_config.json the id is the key, in tokenizer.json a field. */
struct added {
    uint32_t id;
    struct td_span content;
    uint8_t type;
    uint8_t flags;
};

static td_status_t read_added_flags(const struct td_json *json, struct added *added,
                                    struct td_error *error)
{
    static const struct {
        const char *name;
        uint8_t flag;
    } fields[] = {
        {"lstrip", TEXT_TOKEN_LSTRIP},
        {"rstrip", TEXT_TOKEN_RSTRIP},
        {"single_word", TEXT_TOKEN_SINGLE_WORD},
        {"normalized", TEXT_TOKEN_NORMALIZED},
    };
    bool special = false;
    td_status_t status = td_json_bool(td_json_get(json, "special"), &special, error);

    added->type = special ? TEXT_TOKEN_CONTROL : TEXT_TOKEN_USER_DEFINED;
    added->flags = 0;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0] && status == TD_OK; i++) {
        bool set = false;

        status = td_json_bool(td_json_get(json, fields[i].name), &set, error);
        if (set)
            added->flags |= fields[i].flag;
    }
    return status;
}

static td_status_t read_added(const struct td_json *json, struct added *added_out,
                              struct td_error *error)
{
    struct added added = {.content = td_span_over("", 0)};
    char *end;
    td_status_t status;

    if (json->kind != TD_JSON_OBJECT)
        return td_fail(error, TD_INVALID, "added tokens: %s, must be an object",
                       td_json_kind_text(json->kind));
    status = td_json_string(td_json_get(json, "content"), &added.content, error);
    if (status != TD_OK)
        return status;
    if (json->key.length > 0) {
        unsigned long id;

        errno = 0;
        id = strtoul(json->key.bytes, &end, 10);
        if (*end != '\0' || errno != 0 || json->key.bytes[0] < '0' || json->key.bytes[0] > '9' ||
            id >= TEXT_TOKENS_MAX)
            return td_fail(error, TD_INVALID, "added_tokens_decoder: '%.*s' is no id",
                           model_tokenizer_shown(json->key), json->key.bytes);
        added.id = (uint32_t)id;
    } else {
        status = read_id(td_json_find(json, "id"), added.content, &added.id, error);
    }
    if (status == TD_OK)
        status = read_added_flags(json, &added, error);
    *added_out = added;
    return status;
}

/* The containers of added tokens: an array, and an object by id. */
static td_status_t find_added(const struct model_tokenizer_reading *reading,
                              const struct td_json *containers[2], struct td_error *error)
{
    td_status_t status =
        td_json_array(td_json_get(reading->root, "added_tokens"), &containers[0], error);

    if (status == TD_OK && reading->config != NULL)
        status = td_json_object(td_json_get(reading->config, "added_tokens_decoder"),
                                &containers[1], error);
    return status;
}

struct extent {
    uint32_t count; /* of tokens: the largest id plus one */
    size_t bytes;   /* of their texts */
};

static td_status_t extend(struct extent *extent, struct td_span text, uint32_t id,
                          struct td_error *error)
{
    if (text.length == 0 || text.length > TEXT_TOKEN_BYTES_MAX)
        return td_fail(error, TD_INVALID, "token %" PRIu32 ": %zu bytes, must be 1 to %d", id,
                       text.length, TEXT_TOKEN_BYTES_MAX);
    if (id >= extent->count)
        extent->count = id + 1;
    extent->bytes += text.length; /* all texts are in files of bounded size */
    return TD_OK;
}

static td_status_t measure(struct model_tokenizer_reading *reading,
                           const struct td_json *containers[2], struct extent *extent)
{
    td_status_t status = TD_OK;

    td_json_for_each(token, reading->vocab)
    {
        uint32_t id = 0;

        status = read_id(token, token->key, &id, reading->error);
        if (status == TD_OK)
            status = extend(extent, token->key, id, reading->error);
        if (status != TD_OK)
            return status;
    }
    for (size_t i = 0; i < 2; i++) {
        if (containers[i] == NULL)
            continue;
        td_json_for_each(json, containers[i])
        {
            struct added added;

            status = read_added(json, &added, reading->error);
            if (status == TD_OK)
                status = extend(extent, added.content, added.id, reading->error);
            if (status != TD_OK)
                return status;
        }
    }
    return extent->count > 0 ? TD_OK : td_fail(reading->error, TD_INVALID, "model: an empty vocab");
}

struct td_span model_tokenizer_keep(struct model_tokenizer_reading *reading, struct td_span text)
{
    struct td_span kept = {reading->cursor, text.length};

    memcpy(reading->cursor, text.bytes, text.length);
    reading->cursor += text.length;
    return kept;
}

/* "<0x0A>" */
static bool is_byte_text(struct td_span text)
{
    static const char digits[] = "0123456789ABCDEF";

    return text.length == 6 && memcmp(text.bytes, "<0x", 3) == 0 && text.bytes[5] == '>' &&
           memchr(digits, text.bytes[3], 16) != NULL && memchr(digits, text.bytes[4], 16) != NULL;
}

static td_status_t read_vocab(struct model_tokenizer_reading *reading)
{
    struct model_tokenizer_json *tokenizer = reading->tokenizer;
    bool sentencepiece = tokenizer->source.algorithm == TEXT_SENTENCEPIECE;

    td_json_for_each(json, reading->vocab)
    {
        uint32_t id = (uint32_t)json->integer; /* measured before */
        struct text_token *token = &tokenizer->tokens[id];
        struct td_span text = model_tokenizer_keep(reading, json->key);
        bool is_byte = sentencepiece && is_byte_text(text);

        if (token->length > 0)
            return td_fail(reading->error, TD_INVALID,
                           "model.vocab: '%.*s' has id %" PRIu32 ", which another token has too",
                           model_tokenizer_shown(text), text.bytes, id);
        *token = (struct text_token){.bytes = text.bytes,
                                     .length = (uint16_t)text.length,
                                     .type = is_byte ? TEXT_TOKEN_BYTE : TEXT_TOKEN_NORMAL};
        text_token_map_add(&reading->by_text, text, id);
    }
    return TD_OK;
}

/* The config repeats what tokenizer.json says: that of tokenizer.json holds. */
static td_status_t add_token(struct model_tokenizer_reading *reading, const struct added *added)
{
    struct text_token *token = &reading->tokenizer->tokens[added->id];
    bool is_known = token->length > 0;
    bool is_added = is_known && token->type != TEXT_TOKEN_NORMAL && token->type != TEXT_TOKEN_BYTE;

    if (is_known && (token->length != added->content.length ||
                     memcmp(token->bytes, added->content.bytes, token->length) != 0))
        return td_fail(reading->error, TD_INVALID,
                       "added token '%.*s' has id %" PRIu32 ", which '%.*s' has too",
                       model_tokenizer_shown(added->content), added->content.bytes, added->id,
                       model_tokenizer_shown(td_span_over(token->bytes, token->length)),
                       token->bytes);
    if (!is_known)
        *token = (struct text_token){.bytes = model_tokenizer_keep(reading, added->content).bytes,
                                     .length = (uint16_t)added->content.length};
    if (is_added)
        return TD_OK;
    token->type = added->type;
    token->flags = added->flags;
    text_token_map_add(&reading->by_text, td_span_over(token->bytes, token->length), added->id);
    return TD_OK;
}

static td_status_t add_tokens(struct model_tokenizer_reading *reading,
                              const struct td_json *containers[2])
{
    for (size_t i = 0; i < 2; i++) {
        if (containers[i] == NULL)
            continue;
        td_json_for_each(json, containers[i])
        {
            struct added added;
            td_status_t status = read_added(json, &added, reading->error);

            if (status == TD_OK)
                status = add_token(reading, &added);
            if (status != TD_OK)
                return status;
        }
    }
    return TD_OK;
}

static void fill_holes(struct model_tokenizer_reading *reading)
{
    for (uint32_t id = 0; id < reading->tokenizer->source.token_count; id++)
        if (reading->tokenizer->tokens[id].length == 0)
            reading->tokenizer->tokens[id] = (struct text_token){
                .bytes = HOLE, .length = sizeof HOLE - 1, .type = TEXT_TOKEN_UNUSED};
}

static td_status_t read_tokens(struct model_tokenizer_reading *reading)
{
    struct model_tokenizer_json *tokenizer = reading->tokenizer;
    const struct td_json *containers[2] = {NULL, NULL};
    struct extent extent = {.count = 0};
    td_status_t status = find_added(reading, containers, reading->error);

    if (status == TD_OK)
        status = measure(reading, containers, &extent);
    if (status != TD_OK)
        return status;
    tokenizer->tokens = calloc(extent.count, sizeof *tokenizer->tokens);
    tokenizer->bytes = malloc(extent.bytes + TEXT_TEMPLATE_BYTES_MAX);
    if (tokenizer->tokens == NULL || tokenizer->bytes == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tokenizer");
    if (text_token_map_init(&reading->by_text, extent.count) != TD_OK)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tokenizer");
    tokenizer->source.tokens = tokenizer->tokens;
    tokenizer->source.token_count = extent.count;
    reading->cursor = tokenizer->bytes;
    status = read_vocab(reading);
    if (status == TD_OK)
        status = add_tokens(reading, containers);
    if (status == TD_OK)
        fill_holes(reading);
    return status;
}

/* ------------------------------------------------------------------------------------------- */
/* Merges */

/* The two sides of a rule: "left right", or ["left", "right"]. */
static bool rule_sides(const struct td_json *rule, struct td_span sides[2])
{
    const struct td_json *first;
    const char *space;

    if (rule->kind == TD_JSON_STRING && rule->string.length > 1) {
        space = memchr(rule->string.bytes + 1, ' ', rule->string.length - 1);
        if (space == NULL)
            return false;
        sides[0] = td_span_over(rule->string.bytes, (size_t)(space - rule->string.bytes));
        sides[1] = td_span_over(space + 1, rule->string.length - sides[0].length - 1);
        return true;
    }
    if (rule->kind != TD_JSON_ARRAY || rule->items.count != 2)
        return false;
    first = rule->items.first;
    if (first->kind != TD_JSON_STRING || first->next->kind != TD_JSON_STRING)
        return false;
    sides[0] = first->string;
    sides[1] = first->next->string;
    return true;
}

static td_status_t read_merges(struct model_tokenizer_reading *reading)
{
    struct model_tokenizer_json *tokenizer = reading->tokenizer;
    const struct td_json *rules = NULL;
    uint32_t count = 0;
    td_status_t status = td_json_array(td_json_get(td_json_find(reading->root, "model"), "merges"),
                                       &rules, reading->error);

    if (status == TD_OK && rules == NULL)
        return td_fail(reading->error, TD_INVALID, "model: no merges");
    if (status != TD_OK)
        return status;
    if (rules->items.count > TEXT_MERGES_MAX)
        return td_fail(reading->error, TD_LIMIT, "model.merges: %zu rules, at most %" PRIu32,
                       rules->items.count, TEXT_MERGES_MAX);
    tokenizer->merges = calloc(rules->items.count + 1, sizeof *tokenizer->merges);
    if (tokenizer->merges == NULL)
        return td_fail(reading->error, TD_NO_MEMORY, "no memory for the tokenizer");
    td_json_for_each(rule, rules)
    {
        struct text_merge *merge = &tokenizer->merges[count];
        struct td_span sides[2];

        if (!rule_sides(rule, sides))
            return td_fail(reading->error, TD_INVALID,
                           "model.merges[%" PRIu32 "]: must be two texts", count);
        merge->left = text_token_map_find(&reading->by_text, sides[0].bytes, sides[0].length);
        merge->right = text_token_map_find(&reading->by_text, sides[1].bytes, sides[1].length);
        for (size_t i = 0; i < 2; i++)
            if ((i == 0 ? merge->left : merge->right) == TEXT_TOKEN_NONE)
                return td_fail(reading->error, TD_INVALID,
                               "model.merges[%" PRIu32 "]: '%.*s' is not in the vocab", count,
                               model_tokenizer_shown(sides[i]), sides[i].bytes);
        count++;
    }
    tokenizer->source.merges = tokenizer->merges;
    tokenizer->source.merge_count = count;
    if (count == 0 && tokenizer->source.algorithm == TEXT_SENTENCEPIECE)
        return td_fail(reading->error, TD_INVALID, "model.merges: empty");
    return TD_OK;
}

td_status_t model_tokenizer_read_tables(struct model_tokenizer_reading *reading)
{
    td_status_t status = read_tokens(reading);

    return status == TD_OK ? read_merges(reading) : status;
}
