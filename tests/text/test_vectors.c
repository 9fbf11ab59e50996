/*
 * test_vectors.c: token ids and decoded text against golden prompts, Hugging Face's tokenizers and
 * llama.cpp's vectors.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/detokenize.h"
#include "lib/text/token_map.h"
#include "tests/text/text_support.h"

#define IDS_MAX   100000
#define SEPARATOR "\n__ggml_vocab_test__\n"

static struct td_span prompt_span(const struct text_prompt *prompt)
{
    return td_span_over(prompt->text.data, prompt->text.length);
}

static void encode(const struct text_model *model, struct td_span text, unsigned flags,
                   struct text_tokens *tokens)
{
    text_tokens_init(tokens, IDS_MAX);
    assert_int_equal(text_encode(model, text.bytes, text.length, flags, tokens), TD_OK);
}

static void assert_encodes(const struct text_model *model, struct td_span text, unsigned flags,
                           const struct td_json *expected)
{
    struct text_tokens tokens;

    encode(model, text, flags, &tokens);
    test_assert_ids(&tokens, expected, text);
    text_tokens_fini(&tokens);
}

/* ------------------------------------------------------------------------------------------- */
/* Golden prompts */

static void render(const struct text_model *model, const struct td_json *messages,
                   struct text_prompt *prompt)
{
    struct text_render_input input = {.add_generation_prompt = true};
    struct text_builder builder;
    struct td_arena arena;
    struct td_error error;

    td_arena_init(&arena, 1 << 20);
    builder = text_builder_in(&arena);
    input.messages = test_value(&builder, messages);
    input.tools = text_value_none();
    assert_int_equal(builder.status, TD_OK);
    text_prompt_init(prompt, 1 << 20);
    if (text_render(model, &input, prompt, &error) != TD_OK)
        fail_msg("%s", error.text);
    td_arena_fini(&arena);
}

/*
 * A chat must render as the reference did, and give its ids where nobody typed a control token. Where
 * somebody did, the reference took it for one: with special parsing over all we do the same, from the
 * prompt itself we must not.
 */
static void check_chat(const struct text_model *model, const struct td_json *line,
                       struct td_span rendered, bool typed_control)
{
    const struct td_json *expected = td_json_find(line, "tokens");
    struct text_prompt prompt;
    struct text_tokens tokens;

    render(model, td_json_find(line, "messages"), &prompt);
    test_assert_text(prompt_span(&prompt), rendered, "rendered");
    assert_encodes(model, prompt_span(&prompt), TEXT_PARSE_SPECIAL, expected);
    text_tokens_init(&tokens, IDS_MAX);
    assert_int_equal(text_encode_prompt(model, &prompt, &tokens), TD_OK);
    if (!typed_control) {
        test_assert_ids(&tokens, expected, rendered);
    } else {
        assert_true(tokens.count > expected->items.count);
        assert_int_equal(tokens.dropped_bytes, 0);
    }
    text_tokens_fini(&tokens);
    text_prompt_fini(&prompt);
}

static void check_golden_line(const struct td_json *line, unsigned number, void *context)
{
    const struct text_model *model = context;

    (void)number;
    if (td_json_find(line, "text") != NULL)
        assert_encodes(model, test_text(line, "text"), TEXT_PARSE_SPECIAL | TEXT_ADD_SPECIAL,
                       td_json_find(line, "tokens"));
    else
        check_chat(model, line, test_text(line, "rendered"),
                   td_span_is(test_text(line, "id"), "chat-special-in-content"));
}

static void smollm2_prompts_render_and_encode_as_the_golden_ones(void **state)
{
    struct text_model *model = test_open_smollm2();

    (void)state;
    if (model == NULL)
        test_skip("no demo model");
    test_each_line(test_data_path("text/golden_smollm2.jsonl"), check_golden_line, model);
    text_model_close(model);
}

static void qwen2_prompts_render_and_encode_as_the_golden_ones(void **state)
{
    struct text_model *model = test_open_tokenizer("qwen2.5-coder");

    (void)state;
    if (model == NULL)
        test_skip("no second golden model");
    test_each_line(test_data_path("text/golden_qwen2.jsonl"), check_golden_line, model);
    text_model_close(model);
}

static void check_tiny_llama_line(const struct td_json *line, unsigned number, void *context)
{
    const struct text_model *model = context;

    (void)number;
    if (td_json_find(line, "messages") != NULL)
        check_chat(model, line, test_text(line, "text"), false);
    else
        assert_encodes(model, test_text(line, "text"), TEXT_ADD_SPECIAL,
                       td_json_find(line, "tokens"));
}

static void tiny_llama_sequences_encode_as_the_golden_ones(void **state)
{
    struct text_model *model = test_open_tiny_llama();

    (void)state;
    test_each_line(test_data_path("text/golden_tiny_llama.jsonl"), check_tiny_llama_line, model);
    text_model_close(model);
}

/* ------------------------------------------------------------------------------------------- */
/* Vectors */

struct vectors {
    const struct text_model *model;
    const char *name;
};

static void check_vector(const struct td_json *line, unsigned number, void *context)
{
    const struct vectors *vectors = context;

    (void)number;
    assert_encodes(vectors->model, test_text(line, "text"), 0, td_json_find(line, vectors->name));
}

static void check_vectors(struct text_model *model, const char *name)
{
    struct vectors vectors = {model, name};

    test_each_line(test_data_path("text/vectors.jsonl"), check_vector, &vectors);
    text_model_close(model);
}

/* Those of a tokenizer that may be missing. */
static void check_vectors_if_there(const char *tokenizer, const char *name)
{
    struct text_model *model = test_open_tokenizer(tokenizer);

    if (model == NULL)
        test_skip("no %s", tokenizer);
    check_vectors(model, name);
}

static void tiny_llama_encodes_nasty_text_as_hugging_face_does(void **state)
{
    (void)state;
    check_vectors(test_open_tiny_llama(), "tiny-llama");
}

static void smollm2_encodes_nasty_text_as_hugging_face_does(void **state)
{
    (void)state;
    check_vectors_if_there("smollm2", "smollm2");
}

static void qwen2_encodes_nasty_text_as_hugging_face_does(void **state)
{
    (void)state;
    check_vectors_if_there("qwen2.5", "qwen2");
}

/* From scores; Hugging Face's tokenizer has them as merges. */
static void llama2_encodes_nasty_text_as_hugging_face_does(void **state)
{
    (void)state;
    check_vectors_if_there("llama-spm", "llama-spm");
}

/* llama.cpp's test strings (.inp) and their ids (.out), a line each. */
static void check_ggml_vectors(const struct text_model *model, const char *name)
{
    char path[100];
    size_t length;
    char *inputs;
    char *outputs;
    char *output;
    unsigned cases = 0;

    snprintf(path, sizeof path, "tokenizer-vectors/ggml-vocab-%s.gguf.inp", name);
    inputs = test_read_file(test_shared_path(path), &length);
    snprintf(path, sizeof path, "tokenizer-vectors/ggml-vocab-%s.gguf.out", name);
    outputs = test_read_file(test_shared_path(path), &length);
    output = outputs;
    for (char *text = inputs, *end; (end = strstr(text, SEPARATOR)) != NULL;
         text = end + strlen(SEPARATOR)) {
        struct text_tokens tokens;

        encode(model, td_span_over(text, (size_t)(end - text)), 0, &tokens);
        for (uint32_t i = 0; i < tokens.count; i++) {
            assert_int_equal(*output, ' ');
            assert_int_equal(tokens.ids[i], strtoul(output, &output, 10));
        }
        assert_int_equal(*output++, '\n');
        text_tokens_fini(&tokens);
        cases++;
    }
    assert_int_equal(cases, 46);
    free(inputs);
    free(outputs);
}

/* All 46 of a tokenizer that may be missing. */
static void check_ggml_tokenizer(const char *tokenizer, const char *name)
{
    struct text_model *model = test_open_tokenizer(tokenizer);

    if (model == NULL)
        test_skip("no %s", tokenizer);
    check_ggml_vectors(model, name);
    text_model_close(model);
}

static void gpt2_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("gpt-2", "gpt-2");
}

static void starcoder_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("starcoder", "starcoder");
}

static void refact_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("refact", "refact");
}

static void llama2_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("llama-spm", "llama-spm");
}

static void qwen2_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("qwen2.5", "qwen2");
}

static void qwen3_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("qwen3", "qwen2");
}

/* From a GGUF file, with its vocabulary and not that of a tokenizer.json. */
static void qwen2_5_coder_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("qwen2.5-coder", "qwen2");
}

static void llama3_passes_llama_cpps_vectors(void **state)
{
    (void)state;
    check_ggml_tokenizer("llama3", "llama-bpe");
}

/* ------------------------------------------------------------------------------------------- */
/* Merges in place of scores */

struct scored {
    struct text_merge merge;
    float score;
};

static int compare_scored(const void *left, const void *right)
{
    const struct scored *a = left;
    const struct scored *b = right;

    if (a->score != b->score)
        return a->score < b->score ? 1 : -1;
    if (a->merge.left != b->merge.left)
        return a->merge.left < b->merge.left ? -1 : 1;
    return a->merge.right < b->merge.right ? -1 : a->merge.right > b->merge.right;
}

/* What transformers makes of scores: a rule for each two tokens that make a third, by its score. */
static struct text_merge *merges_of_scores(const struct text_source *source, uint32_t *count_out)
{
    struct text_token_map map;
    struct scored *rules = malloc(1000000 * sizeof *rules);
    struct text_merge *merges;
    uint32_t count = 0;

    assert_non_null(rules);
    assert_int_equal(text_token_map_init(&map, source->token_count), TD_OK);
    for (uint32_t id = 0; id < source->token_count; id++)
        text_token_map_add(&map, td_span_over(source->tokens[id].bytes, source->tokens[id].length),
                           id);
    for (uint32_t id = 0; id < source->token_count; id++) {
        const struct text_token *token = &source->tokens[id];

        for (size_t at = 1; at < token->length && token->type == TEXT_TOKEN_NORMAL; at++) {
            struct text_merge merge = {
                text_token_map_find(&map, token->bytes, at),
                text_token_map_find(&map, token->bytes + at, token->length - at)};

            if (merge.left != TEXT_TOKEN_NONE && merge.right != TEXT_TOKEN_NONE)
                rules[count++] = (struct scored){merge, token->score};
        }
    }
    qsort(rules, count, sizeof *rules, compare_scored);
    merges = malloc((count + 1) * sizeof *merges);
    assert_non_null(merges);
    for (uint32_t i = 0; i < count; i++)
        merges[i] = rules[i].merge;
    text_token_map_fini(&map);
    free(rules);
    *count_out = count;
    return merges;
}

static void merges_give_llama2_the_ids_that_scores_give(void **state)
{
    struct test_vocabulary vocabulary;
    struct text_merge *merges;
    struct text_model *model;

    (void)state;
    if (!test_open_vocabulary("llama-spm", &vocabulary))
        test_skip("no llama-spm");
    merges = merges_of_scores(&vocabulary.source, &vocabulary.source.merge_count);
    vocabulary.source.merges = merges;
    model = test_open_model(&vocabulary.source);
    check_ggml_vectors(model, "llama-spm");
    check_vectors(model, "llama-spm");
    free(merges);
    test_vocabulary_fini(&vocabulary);
}

/* ------------------------------------------------------------------------------------------- */
/* Folders */

struct folder {
    char name[64];
    struct text_model *model;
    unsigned rows;
};

static void open_folder(struct folder *folder, struct td_span name)
{
    if (td_span_is(name, folder->name))
        return;
    text_model_close(folder->model);
    snprintf(folder->name, sizeof folder->name, "%.*s", (int)name.length, name.bytes);
    folder->model = test_open_tokenizer(folder->name);
    assert_non_null(folder->model);
}

/*
 * Hugging Face writes U+FFFD for each byte token of a run that is not UTF-8 as a whole; here only what cannot
 * be a character is replaced. So decoding is compared where nothing is replaced.
 */
static void check_decoded(const struct text_model *model, const struct text_tokens *tokens,
                          struct td_span expected)
{
    struct text_detokenizer detokenizer;
    struct td_buf out;

    if (memmem(expected.bytes, expected.length, "\xef\xbf\xbd", 3) != NULL)
        return;
    td_buf_init(&out, 1 << 20);
    text_detokenizer_init(&detokenizer, model);
    for (uint32_t i = 0; i < tokens->count; i++)
        text_detokenizer_push(&detokenizer, tokens->ids[i], &out);
    text_detokenizer_finish(&detokenizer, &out);
    test_assert_text(td_span_over(out.data, out.length), expected, "decoded");
    td_buf_fini(&out);
}

static void check_folder_line(const struct td_json *line, unsigned number, void *context)
{
    struct folder *folder = context;
    struct text_tokens tokens;
    struct td_span text = test_text(line, "text");

    (void)number;
    open_folder(folder, test_text(line, "folder"));
    encode(folder->model, text, TEXT_PARSE_SPECIAL | TEXT_ADD_SPECIAL, &tokens);
    test_assert_ids(&tokens, td_json_find(line, "ids"), text);
    check_decoded(folder->model, &tokens, test_text(line, "decoded"));
    text_tokens_fini(&tokens);
    folder->rows++;
}

static void folders_encode_and_decode_as_hugging_face_does(void **state)
{
    struct folder folder = {.name = ""};

    (void)state;
    test_each_line(test_data_path("text/folders.jsonl"), check_folder_line, &folder);
    assert_int_equal(folder.rows, 1500);
    text_model_close(folder.model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(smollm2_prompts_render_and_encode_as_the_golden_ones),
        cmocka_unit_test(qwen2_prompts_render_and_encode_as_the_golden_ones),
        cmocka_unit_test(tiny_llama_sequences_encode_as_the_golden_ones),
        cmocka_unit_test(tiny_llama_encodes_nasty_text_as_hugging_face_does),
        cmocka_unit_test(smollm2_encodes_nasty_text_as_hugging_face_does),
        cmocka_unit_test(qwen2_encodes_nasty_text_as_hugging_face_does),
        cmocka_unit_test(llama2_encodes_nasty_text_as_hugging_face_does),
        cmocka_unit_test(gpt2_passes_llama_cpps_vectors),
        cmocka_unit_test(starcoder_passes_llama_cpps_vectors),
        cmocka_unit_test(refact_passes_llama_cpps_vectors),
        cmocka_unit_test(llama2_passes_llama_cpps_vectors),
        cmocka_unit_test(qwen2_passes_llama_cpps_vectors),
        cmocka_unit_test(qwen3_passes_llama_cpps_vectors),
        cmocka_unit_test(qwen2_5_coder_passes_llama_cpps_vectors),
        cmocka_unit_test(llama3_passes_llama_cpps_vectors),
        cmocka_unit_test(merges_give_llama2_the_ids_that_scores_give),
        cmocka_unit_test(folders_encode_and_decode_as_hugging_face_does),
    };

    return cmocka_run_group_tests_name("vectors", tests, NULL, NULL);
}
