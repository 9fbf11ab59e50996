/*
 * test_hf_text.c: the text of Hugging Face folders: tokens as transformers makes them, how answers end and are drawn, and
 * tokens without a row in the embedding.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/json.h"
#include "lib/text/model.h"
#include "lib/text/tokens.h"
#include "model/model.h"
#include "tests/model/hf_build.h"

#define TOKENS_MAX 4096

static const char *const names[] = {"tiny-llama", "tiny-qwen2", "tiny-qwen3"};

static struct model *open_right(const char *path)
{
    struct model *model = NULL;
    struct td_error error = {0};

    if (model_open(path, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_true(model->has_text);
    return model;
}

static struct text_model *open_text(const struct model *model)
{
    struct text_model *text = NULL;
    struct td_error error = {0};

    if (text_model_open(&model->text, &text, &error) != TD_OK)
        fail_msg("%s", error.text);
    return text;
}

static void assert_refused(const struct hf_build *build, td_status_t status, const char *part)
{
    struct model *model = NULL;
    struct td_error error = {0};
    td_status_t actual = model_open(build->path, &model, &error);

    if (actual != status || strstr(error.text, part) == NULL)
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(model);
}

/* ---- tokens ---- */

static void check_sequence(const struct text_model *text, const struct td_json *sequence)
{
    struct td_span raw = td_json_find(sequence, "text")->string;
    bool is_chat = td_span_is(td_json_find(sequence, "kind")->string, "chat");
    const struct td_json *expected = td_json_find(sequence, "tokens");
    struct text_tokens tokens;
    uint32_t i = 0;

    text_tokens_init(&tokens, TOKENS_MAX);
    assert_int_equal(text_encode(text, raw.bytes, raw.length,
                                 TEXT_PARSE_SPECIAL | (is_chat ? 0 : TEXT_ADD_SPECIAL), &tokens),
                     TD_OK);
    assert_int_equal(tokens.count, expected->items.count);
    td_json_for_each(id, expected) assert_int_equal(tokens.ids[i++], id->integer);
    text_tokens_fini(&tokens);
}

static void check_tokens(const char *path, const char *name)
{
    const struct td_json_limits limits = {
        .bytes_max = 1 << 20, .nodes_max = 1 << 16, .depth_max = 8};
    struct model *model = open_right(path);
    struct text_model *text = open_text(model);
    const struct td_json *root = NULL;
    struct td_arena arena;
    char golden[64];
    size_t length;
    char *bytes;

    snprintf(golden, sizeof golden, "%s/golden.json", name);
    bytes = test_read_file(test_data_path(golden), &length);
    td_arena_init(&arena, (size_t)64 << 20);
    assert_int_equal(td_json_parse(&arena, td_span_over(bytes, length), &limits, &root, NULL),
                     TD_OK);
    td_json_for_each(sequence, td_json_find(root, "sequences")) check_sequence(text, sequence);
    td_arena_fini(&arena);
    free(bytes);
    text_model_close(text);
    model_close(model);
}

static void folders_and_gguf_files_make_the_golden_tokens(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[64];

        check_tokens(test_data_path(names[i]), names[i]);
        snprintf(path, sizeof path, "%s/model.gguf", names[i]);
        check_tokens(test_data_path(path), names[i]);
    }
}

static void both_forms_of_a_model_have_the_same_template_and_ends(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct model *folder = open_right(test_data_path(names[i]));
        struct model *file;
        char path[64];

        snprintf(path, sizeof path, "%s/model.gguf", names[i]);
        file = open_right(test_data_path(path));
        assert_true(td_span_equal(folder->text.chat_template, file->text.chat_template));
        assert_int_equal(folder->text.token_count, file->text.token_count);
        assert_int_equal(folder->text.eos, file->text.eos);
        assert_int_equal(folder->text.add_bos, file->text.add_bos);
        model_close(folder);
        model_close(file);
    }
}

/* ---- ends and draws ---- */

static bool stops_at(const struct text_model *text, uint32_t id)
{
    uint32_t count;
    const uint32_t *ids = text_model_stop_ids(text, &count);

    for (uint32_t i = 0; i < count; i++)
        if (ids[i] == id)
            return true;
    return false;
}

static void ends_come_from_config_and_generation_config_together(void **state)
{
    struct hf_build build;
    struct model *model;
    struct text_model *text;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_replace(&build, "config.json", "\"eos_token_id\": 1023",
                     "\"eos_token_id\": [7, 1023]");
    hf_build_put_text(&build, "generation_config.json",
                      "{\"eos_token_id\": [9, 1021], \"temperature\": 0.5, \"top_k\": 12}");
    model = open_right(build.path);
    text = open_text(model);
    assert_true(stops_at(text, 7) && stops_at(text, 9));
    assert_true(stops_at(text, 1021) && stops_at(text, 1023));
    assert_false(stops_at(text, 8));
    assert_true((model->text.generation.present & TEXT_GENERATION_TEMPERATURE) != 0);
    assert_true(model->text.generation.temperature == 0.5f);
    assert_int_equal(model->text.generation.top_k, 12);
    text_model_close(text);
    model_close(model);
    hf_build_remove(&build, "generation_config.json");
    model = open_right(build.path);
    assert_int_equal(model->text.generation.present, 0);
    model_close(model);
    hf_build_put_text(&build, "generation_config.json", "{\"temperature\": \"hot\"}");
    assert_refused(&build, TD_INVALID, "generation_config.json: ");
    hf_build_put_text(&build, "generation_config.json", "{");
    assert_refused(&build, TD_INVALID, "generation_config.json: ");
    hf_build_fini(&build);
}

/* ---- tokens without a row ---- */

static void added_tokens_beyond_the_embedding_are_left_out(void **state)
{
    struct hf_build build;
    struct model *model;
    struct text_model *text;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_replace(&build, "tokenizer.json", "\"added_tokens\": [",
                     "\"added_tokens\": [{\"id\": 1024, \"content\": \"<pad>\", \"special\": true, "
                     "\"normalized\": false, \"lstrip\": false, \"rstrip\": false, "
                     "\"single_word\": false},");
    model = open_right(build.path);
    assert_int_equal(model->text.token_count, model->vocab);
    text = open_text(model);
    assert_int_equal(text_model_token_count(text), 1024);
    text_model_close(text);
    model_close(model);
    hf_build_fini(&build);
}

static void ordinary_tokens_beyond_the_embedding_are_refused(void **state)
{
    struct hf_build build;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_replace(&build, "tokenizer.json", "\"vocab\": {", "\"vocab\": {\"zzzz\": 1024,");
    assert_refused(&build, TD_INVALID, "tokenizer.json: token 1024 where 'vocab_size' is 1024");
    hf_build_fini(&build);
}

/* ---- files that are broken or absent ---- */

static void a_broken_tokenizer_is_refused_by_file(void **state)
{
    struct hf_build build;
    struct model *model = NULL;

    (void)state;
    hf_build_init(&build);
    hf_build_copy_all(&build, "tiny-qwen3");
    hf_build_put_text(&build, "tokenizer.json", "{}");
    assert_refused(&build, TD_INVALID, "tokenizer.json");
    hf_build_remove(&build, "tokenizer.json"); /* weights alone can be measured */
    assert_int_equal(model_open(build.path, &model, NULL), TD_OK);
    assert_false(model->has_text);
    model_close(model);
    hf_build_fini(&build);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(folders_and_gguf_files_make_the_golden_tokens),
        cmocka_unit_test(both_forms_of_a_model_have_the_same_template_and_ends),
        cmocka_unit_test(ends_come_from_config_and_generation_config_together),
        cmocka_unit_test(added_tokens_beyond_the_embedding_are_left_out),
        cmocka_unit_test(ordinary_tokens_beyond_the_embedding_are_refused),
        cmocka_unit_test(a_broken_tokenizer_is_refused_by_file),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
