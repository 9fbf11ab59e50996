/* text_support.c: see text_support.h. The GGUF reader here is for trusted test files only. */
#include "tests/text/text_support.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"

enum gguf_type {
    GGUF_STRING = 8,
    GGUF_ARRAY = 9,
};

static size_t scalar_bytes(uint32_t type)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    assert_true(type < sizeof bytes && bytes[type] > 0);
    return bytes[type];
}

static struct td_span read_string(struct td_reader *reader)
{
    size_t length = td_read_u64(reader);

    return td_span_over((const char *)td_read_bytes(reader, length), length);
}

static void skip_value(struct td_reader *reader, uint32_t type)
{
    uint64_t count;

    if (type == GGUF_STRING) {
        read_string(reader);
    } else if (type == GGUF_ARRAY) {
        type = td_read_u32(reader);
        count = td_read_u64(reader);
        for (uint64_t i = 0; i < count && reader->ok; i++)
            skip_value(reader, type);
    } else {
        td_read_bytes(reader, scalar_bytes(type));
    }
}

/* What is read before the tokens are known by id. */
struct gguf_arrays {
    struct td_span *rules;
    uint32_t rule_count;
    bool add_bos_given;
};

static void read_tokens(struct test_vocabulary *vocabulary, struct td_reader *reader)
{
    assert_int_equal(td_read_u32(reader), GGUF_STRING);
    vocabulary->source.token_count = (uint32_t)td_read_u64(reader);
    vocabulary->tokens = calloc(vocabulary->source.token_count, sizeof *vocabulary->tokens);
    assert_non_null(vocabulary->tokens);
    for (uint32_t i = 0; i < vocabulary->source.token_count; i++) {
        struct td_span text = read_string(reader);

        vocabulary->tokens[i] = (struct text_token){
            .bytes = text.bytes, .length = (uint16_t)text.length, .type = TEXT_TOKEN_NORMAL};
    }
}

static void read_rules(struct gguf_arrays *arrays, struct td_reader *reader)
{
    assert_int_equal(td_read_u32(reader), GGUF_STRING);
    arrays->rule_count = (uint32_t)td_read_u64(reader);
    arrays->rules = calloc(arrays->rule_count + 1, sizeof *arrays->rules);
    assert_non_null(arrays->rules);
    for (uint32_t i = 0; i < arrays->rule_count; i++)
        arrays->rules[i] = read_string(reader);
}

static void read_types(struct test_vocabulary *vocabulary, struct td_reader *reader)
{
    td_read_u32(reader);
    assert_int_equal(td_read_u64(reader), vocabulary->source.token_count);
    for (uint32_t i = 0; i < vocabulary->source.token_count; i++)
        vocabulary->tokens[i].type = (uint8_t)td_read_u32(reader);
}

static void read_field(struct test_vocabulary *vocabulary, struct gguf_arrays *arrays,
                       struct td_span key, uint32_t type, struct td_reader *reader)
{
    struct text_source *source = &vocabulary->source;

    if (td_span_is(key, "tokenizer.ggml.tokens")) {
        read_tokens(vocabulary, reader);
    } else if (td_span_is(key, "tokenizer.ggml.token_type")) {
        read_types(vocabulary, reader);
    } else if (td_span_is(key, "tokenizer.ggml.merges")) {
        read_rules(arrays, reader);
    } else if (td_span_is(key, "tokenizer.ggml.pre")) {
        source->pretokenizer = read_string(reader);
    } else if (td_span_is(key, "tokenizer.chat_template")) {
        source->chat_template = read_string(reader);
    } else if (td_span_is(key, "tokenizer.ggml.bos_token_id")) {
        source->bos = td_read_u32(reader);
    } else if (td_span_is(key, "tokenizer.ggml.eos_token_id")) {
        source->eos = td_read_u32(reader);
    } else if (td_span_is(key, "tokenizer.ggml.unknown_token_id")) {
        source->unknown = td_read_u32(reader);
    } else if (td_span_is(key, "tokenizer.ggml.add_bos_token")) {
        source->add_bos = td_read_u8(reader) != 0;
        arrays->add_bos_given = true;
    } else {
        skip_value(reader, type);
    }
}

void test_vocabulary_from_gguf(struct test_vocabulary *vocabulary, const char *path)
{
    struct gguf_arrays arrays = {.rules = NULL};
    struct td_reader reader;
    struct td_error error;
    uint64_t fields;
    size_t length;
    bool is_llama;

    memset(vocabulary, 0, sizeof *vocabulary);
    text_source_init(&vocabulary->source);
    vocabulary->data = test_read_file(path, &length);
    reader = td_reader_over(vocabulary->data, length);
    assert_memory_equal(td_read_bytes(&reader, 4), "GGUF", 4);
    td_read_u32(&reader);
    td_read_u64(&reader);
    fields = td_read_u64(&reader);
    for (uint64_t i = 0; i < fields; i++) {
        struct td_span key = read_string(&reader);
        uint32_t type = td_read_u32(&reader);

        read_field(vocabulary, &arrays, key, type, &reader);
    }
    assert_true(reader.ok);
    vocabulary->merges = calloc(arrays.rule_count + 1, sizeof *vocabulary->merges);
    assert_non_null(vocabulary->merges);
    is_llama = td_span_is(vocabulary->source.pretokenizer, "llama-bpe");
    vocabulary->source.ignore_merges = is_llama;
    if (!arrays.add_bos_given)
        vocabulary->source.add_bos = is_llama;
    vocabulary->source.tokens = vocabulary->tokens;
    vocabulary->source.merges = vocabulary->merges;
    vocabulary->source.merge_count = arrays.rule_count;
    if (text_source_resolve_merges(vocabulary->tokens, vocabulary->source.token_count, arrays.rules,
                                   arrays.rule_count, vocabulary->merges, &error) != TD_OK)
        fail_msg("%s: %s", path, error.text);
    free(arrays.rules);
}

/* ------------------------------------------------------------------------------------------- */

static const struct td_json *parse(struct td_arena *arena, const char *data, size_t length)
{
    struct td_json_limits limits = {
        .bytes_max = (size_t)64 << 20, .nodes_max = 4000000, .depth_max = TD_JSON_DEPTH_MAX};
    const struct td_json *root;
    struct td_error error;

    td_arena_init(arena, td_json_arena_bytes(&limits));
    if (td_json_parse(arena, td_span_over(data, length), &limits, &root, &error) != TD_OK)
        fail_msg("test data: %s", error.text);
    return root;
}

static struct td_span keep(char **cursor, struct td_span text)
{
    struct td_span kept = {*cursor, text.length};

    memcpy(*cursor, text.bytes, text.length);
    *cursor += text.length;
    return kept;
}

/* Tokens by id; ids without a token (there are none in our files) would stay empty and be refused. */
static void json_tokens(struct test_vocabulary *vocabulary, const struct td_json *root,
                        char **cursor)
{
    const struct td_json *vocab = td_json_find(td_json_find(root, "model"), "vocab");
    const struct td_json *added = td_json_find(root, "added_tokens");
    uint32_t count = (uint32_t)vocab->items.count;

    td_json_for_each(token, added) if (td_json_find(token, "id")->integer >= count) count =
        (uint32_t)td_json_find(token, "id")->integer + 1;
    vocabulary->tokens = calloc(count, sizeof *vocabulary->tokens);
    assert_non_null(vocabulary->tokens);
    td_json_for_each(token, vocab)
    {
        struct td_span text = keep(cursor, token->key);

        vocabulary->tokens[token->integer] = (struct text_token){
            .bytes = text.bytes, .length = (uint16_t)text.length, .type = TEXT_TOKEN_NORMAL};
    }
    td_json_for_each(token, added)
    {
        struct td_span text = keep(cursor, td_json_find(token, "content")->string);
        bool special = td_json_find(token, "special")->boolean;

        vocabulary->tokens[td_json_find(token, "id")->integer] =
            (struct text_token){.bytes = text.bytes,
                                .length = (uint16_t)text.length,
                                .type = special ? TEXT_TOKEN_CONTROL : TEXT_TOKEN_USER_DEFINED};
    }
    vocabulary->source.tokens = vocabulary->tokens;
    vocabulary->source.token_count = count;
}

/* A rule is "a b" or ["a", "b"]. */
static struct td_span json_rule(const struct td_json *rule, char **cursor)
{
    struct td_span first;

    if (rule->kind == TD_JSON_STRING)
        return keep(cursor, rule->string);
    first = keep(cursor, rule->items.first->string);
    keep(cursor, td_span_of(" "));
    return td_span_over(first.bytes,
                        first.length + 1 + keep(cursor, rule->items.first->next->string).length);
}

void test_vocabulary_from_json(struct test_vocabulary *vocabulary, const char *path,
                               const char *pretokenizer)
{
    struct td_arena arena;
    struct td_span *rules;
    struct td_error error;
    uint32_t count = 0;
    size_t length;
    char *data = test_read_file(path, &length);
    const struct td_json *root = parse(&arena, data, length);
    const struct td_json *merges = td_json_find(td_json_find(root, "model"), "merges");
    char *cursor = malloc(length);

    memset(vocabulary, 0, sizeof *vocabulary);
    text_source_init(&vocabulary->source);
    vocabulary->data = cursor;
    vocabulary->source.pretokenizer = td_span_of(pretokenizer);
    json_tokens(vocabulary, root, &cursor);
    rules = calloc(merges->items.count, sizeof *rules);
    vocabulary->merges = calloc(merges->items.count, sizeof *vocabulary->merges);
    assert_non_null(rules);
    assert_non_null(vocabulary->merges);
    td_json_for_each(rule, merges) rules[count++] = json_rule(rule, &cursor);
    if (text_source_resolve_merges(vocabulary->tokens, vocabulary->source.token_count, rules, count,
                                   vocabulary->merges, &error) != TD_OK)
        fail_msg("%s: %s", path, error.text);
    vocabulary->source.merges = vocabulary->merges;
    vocabulary->source.merge_count = count;
    free(rules);
    td_arena_fini(&arena);
    free(data);
}

void test_vocabulary_fini(struct test_vocabulary *vocabulary)
{
    free(vocabulary->tokens);
    free(vocabulary->merges);
    free(vocabulary->data);
}

/* ------------------------------------------------------------------------------------------- */

struct text_model *test_open_model(const struct text_source *source)
{
    struct text_model *model;
    struct td_error error;

    if (text_model_open(source, &model, &error) != TD_OK)
        fail_msg("model: %s", error.text);
    return model;
}

struct text_model *test_open_tiny_llama(void)
{
    struct text_model *model;
    struct text_source source;
    struct td_error error;
    size_t length;
    char *data = test_read_file(test_data_path("text/tiny_llama.source"), &length);

    if (text_source_decode(data, length, &source, &error) != TD_OK)
        fail_msg("tiny_llama.source: %s", error.text);
    model = test_open_model(&source);
    text_source_fini(&source);
    free(data);
    return model;
}

struct text_model *test_open_smollm2(void)
{
    struct test_vocabulary vocabulary;
    struct text_model *model;
    const char *path = test_demo_model();

    if (path == NULL)
        return NULL;
    test_vocabulary_from_gguf(&vocabulary, path);
    model = test_open_model(&vocabulary.source);
    test_vocabulary_fini(&vocabulary);
    return model;
}

/* ------------------------------------------------------------------------------------------- */

void test_each_line(const char *path, test_line_fn fn, void *context)
{
    size_t length;
    char *data = test_read_file(path, &length);
    unsigned number = 0;

    for (char *line = data; line < data + length;) {
        char *end = memchr(line, '\n', (size_t)(data + length - line));
        struct td_arena arena;

        if (end == NULL)
            end = data + length;
        fn(parse(&arena, line, (size_t)(end - line)), ++number, context);
        td_arena_fini(&arena);
        line = end + 1;
    }
    assert_true(number > 0);
    free(data);
}

struct text_value test_value(struct text_builder *builder, const struct td_json *json)
{
    struct text_value value;

    switch (json->kind) {
    case TD_JSON_NULL: return text_value_none();
    case TD_JSON_BOOL: return text_value_bool(json->boolean);
    case TD_JSON_INTEGER: return text_value_int(json->integer);
    case TD_JSON_NUMBER: return text_value_float(json->number);
    case TD_JSON_STRING: return text_value_string(builder, json->string);
    case TD_JSON_ARRAY:
        value = text_value_list(builder);
        td_json_for_each(item, json) text_list_append(builder, value, test_value(builder, item));
        return value;
    case TD_JSON_OBJECT:
        value = text_value_dict(builder);
        td_json_for_each(item, json)
            text_dict_add(builder, value, item->key, test_value(builder, item));
        return value;
    }
    return text_value_undefined();
}

struct td_span test_text(const struct td_json *object, const char *key)
{
    const struct td_json *member = td_json_find(object, key);

    if (member == NULL || member->kind != TD_JSON_STRING)
        fail_msg("test data: no text '%s'", key);
    return member->string;
}

void test_assert_ids(const struct text_tokens *tokens, const struct td_json *expected,
                     struct td_span what)
{
    uint32_t place = 0;

    td_json_for_each(id, expected)
    {
        if (place >= tokens->count || tokens->ids[place] != id->integer)
            fail_msg("id %u is %ld, must be %ld, of %.*s", place,
                     place < tokens->count ? (long)tokens->ids[place] : -1L, (long)id->integer,
                     (int)what.length, what.bytes);
        place++;
    }
    if (place != tokens->count)
        fail_msg("%u ids, must be %u, of %.*s", tokens->count, place, (int)what.length, what.bytes);
}

void test_assert_text(struct td_span actual, struct td_span expected, const char *what)
{
    if (!td_span_equal(actual, expected))
        fail_msg("%s:\n--- is\n%.*s\n--- must be\n%.*s\n---", what, (int)actual.length,
                 actual.bytes, (int)expected.length, expected.bytes);
}
