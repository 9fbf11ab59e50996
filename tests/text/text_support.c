/* text_support.c: see text_support.h. */
#include "tests/text/text_support.h"

#include <stdlib.h>
#include <string.h>

void test_vocabulary_from_gguf(struct test_vocabulary *vocabulary, const char *path)
{
    struct td_error error;

    *vocabulary = (struct test_vocabulary){.gguf = NULL};
    if (model_gguf_open(path, &vocabulary->gguf, &error) != TD_OK ||
        model_gguf_text(vocabulary->gguf, &vocabulary->source, &error) != TD_OK)
        fail_msg("%s: %s", path, error.text);
}

void test_vocabulary_from_folder(struct test_vocabulary *vocabulary, const char *path)
{
    struct td_error error;

    *vocabulary = (struct test_vocabulary){.gguf = NULL};
    if (model_tokenizer_json_open(path, &vocabulary->folder, &error) != TD_OK)
        fail_msg("%s: %s", path, error.text);
    vocabulary->source = *model_tokenizer_json_source(vocabulary->folder);
}

void test_vocabulary_fini(struct test_vocabulary *vocabulary)
{
    text_source_fini(&vocabulary->source);
    model_gguf_close(vocabulary->gguf);
    model_tokenizer_json_close(vocabulary->folder);
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

/* ------------------------------------------------------------------------------------------- */

static const char *demo_model(const char *path)
{
    (void)path;
    return test_demo_model();
}

static const char *golden_model(const char *path)
{
    (void)path;
    return test_golden_model();
}

static const struct {
    const char *name;
    const char *(*find)(const char *path);
    const char *path;
    bool is_folder;
} tokenizers[] = {
    {"tiny_llama2", test_data_path, "text/tiny_llama2", true},
    {"tiny_metaspace", test_data_path, "text/tiny_metaspace", true},
    {"tiny_added", test_data_path, "text/tiny_added", true},
    {"smollm2", demo_model, "", false},
    {"qwen2.5-coder", golden_model, "", false},
    {"gpt-2", test_shared_path, "tokenizer-vectors/ggml-vocab-gpt-2.gguf", false},
    {"starcoder", test_shared_path, "tokenizer-vectors/ggml-vocab-starcoder.gguf", false},
    {"refact", test_shared_path, "tokenizer-vectors/ggml-vocab-refact.gguf", false},
    {"llama-spm", test_shared_path, "tokenizer-vectors/ggml-vocab-llama-spm.gguf", false},
    {"qwen2.5", test_shared_path, "tokenizers/qwen2.5", true},
    {"qwen3", test_shared_path, "tokenizers/qwen3", true},
    {"llama3", test_cached_path, "tokenizers/llama3", true},
};

#define TOKENIZERS (sizeof tokenizers / sizeof tokenizers[0])

const char *test_tokenizer_name(unsigned index)
{
    return index < TOKENIZERS ? tokenizers[index].name : NULL;
}

bool test_open_vocabulary(const char *name, struct test_vocabulary *vocabulary)
{
    for (unsigned i = 0; i < TOKENIZERS; i++) {
        const char *path;

        if (strcmp(name, tokenizers[i].name) != 0)
            continue;
        path = tokenizers[i].find(tokenizers[i].path);
        if (path != NULL && tokenizers[i].is_folder)
            test_vocabulary_from_folder(vocabulary, path);
        else if (path != NULL)
            test_vocabulary_from_gguf(vocabulary, path);
        return path != NULL;
    }
    fail_msg("no tokenizer has the name %s", name);
    return false;
}

struct text_model *test_open_tokenizer(const char *name)
{
    struct test_vocabulary vocabulary;
    struct text_model *model;

    if (!test_open_vocabulary(name, &vocabulary))
        return NULL;
    model = test_open_model(&vocabulary.source);
    test_vocabulary_fini(&vocabulary);
    return model;
}

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
    return test_open_tokenizer("smollm2");
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
