/*
 * test_generation_config.c: sampling defaults and stop tokens as model files say them: JSON in a folder, and
 * metadata of a GGUF file. Odd values are refused by the name of their key.
 */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generation_config.h"
#include "tests/model/gguf_build.h"

/* ---- generation_config.json ---- */

static struct model_generation_config read_good(const char *text)
{
    struct model_generation_config config;
    struct td_error error = {0};

    if (model_generation_config_read(td_span_of(text), &config, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(text_generation_check(&config.generation, NULL), TD_OK);
    return config;
}

static void all_values_are_read(void **state)
{
    struct model_generation_config config = read_good(
        "{\"bos_token_id\": 151643, \"do_sample\": true, \"eos_token_id\": [151645, 151643],"
        "\"repetition_penalty\": 1.05, \"temperature\": 0.7, \"top_p\": 0.8, \"top_k\": 20,"
        "\"min_p\": 0.05, \"max_new_tokens\": 2048, \"transformers_version\": \"4.37.0\"}");

    (void)state;
    assert_int_equal(config.generation.present, TEXT_GENERATION_ALL);
    assert_true(config.generation.temperature == 0.7f && config.generation.top_p == 0.8f);
    assert_true(config.generation.repetition_penalty == 1.05f && config.generation.min_p == 0.05f);
    assert_int_equal(config.generation.top_k, 20);
    assert_int_equal(config.generation.max_new_tokens, 2048);
    assert_int_equal(config.end_id_count, 2);
    assert_int_equal(config.end_ids[0], 151645);
    assert_int_equal(config.end_ids[1], 151643);
}

static void what_is_null_or_absent_is_not_present(void **state)
{
    struct model_generation_config config = read_good("{}");

    (void)state;
    assert_int_equal(config.generation.present, 0);
    assert_int_equal(config.end_id_count, 0);
    config = read_good("{\"temperature\":null,\"top_p\":null,\"top_k\":null,\"do_sample\":null,"
                       "\"eos_token_id\":null,\"max_new_tokens\":null,\"min_p\":null,"
                       "\"repetition_penalty\":null,\"max_length\":20,\"num_beams\":4}");
    assert_int_equal(config.generation.present, 0);
    assert_int_equal(config.end_id_count, 0);
    config = read_good("{\"eos_token_id\": 2, \"top_k\": 50}");
    assert_int_equal(config.generation.present, TEXT_GENERATION_TOP_K);
    assert_int_equal(config.end_ids[0], 2);
}

static void no_sampling_is_greedy(void **state)
{
    struct model_generation_config config =
        read_good("{\"do_sample\": false, \"temperature\": 0.9}");

    (void)state;
    assert_int_equal(config.generation.present, TEXT_GENERATION_TEMPERATURE);
    assert_true(config.generation.temperature == 0.0f);
    config = read_good("{\"do_sample\": true}");
    assert_int_equal(config.generation.present, 0);
}

static void limits_of_ranges_are_taken(void **state)
{
    struct model_generation_config config =
        read_good("{\"top_p\": 0, \"top_k\": -1, \"temperature\": 0, \"min_p\": 1,"
                  "\"eos_token_id\": [], \"max_new_tokens\": 5.0}");

    (void)state;
    assert_true(config.generation.top_p == FLT_MIN);
    assert_int_equal(config.generation.top_k, 0);
    assert_int_equal(config.generation.max_new_tokens, 5);
    assert_true((config.generation.present & TEXT_GENERATION_TOP_K) != 0);
}

static void odd_values_are_refused_by_name(void **state)
{
    static const struct {
        const char *text;
        const char *name;
    } bad[] = {
        {"{\"temperature\": \"0.7\"}", "temperature"},
        {"{\"temperature\": -1}", "temperature"},
        {"{\"temperature\": 1e300}", "temperature"},
        {"{\"temperature\": [0.7]}", "temperature"},
        {"{\"do_sample\": 1}", "do_sample"},
        {"{\"top_p\": 1.5}", "top_p"},
        {"{\"top_p\": true}", "top_p"},
        {"{\"top_k\": 0.5}", "top_k"},
        {"{\"top_k\": -2}", "top_k"},
        {"{\"top_k\": 4294967296}", "top_k"},
        {"{\"min_p\": -0.1}", "min_p"},
        {"{\"repetition_penalty\": 0}", "repetition_penalty"},
        {"{\"repetition_penalty\": 1e-60}", "repetition_penalty"},
        {"{\"repetition_penalty\": -1}", "repetition_penalty"},
        {"{\"max_new_tokens\": 0}", "max_new_tokens"},
        {"{\"eos_token_id\": \"</s>\"}", "eos_token_id"},
        {"{\"eos_token_id\": -1}", "eos_token_id"},
        {"{\"eos_token_id\": 4294967295}", "eos_token_id"},
        {"{\"eos_token_id\": [2, null]}", "eos_token_id"},
        {"{\"eos_token_id\": [[2]]}", "eos_token_id"},
        {"[]", "object"},
        {"{\"top_p\": NaN}", "byte"},
        {"", "byte"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct model_generation_config config = {.end_id_count = 77};
        struct td_error error = {0};

        assert_int_equal(model_generation_config_read(td_span_of(bad[i].text), &config, &error),
                         TD_INVALID);
        if (strstr(error.text, bad[i].name) == NULL ||
            strstr(error.text, "generation_config.json") == NULL)
            fail_msg("%s: %s", bad[i].text, error.text);
        assert_int_equal(config.end_id_count, 77);
    }
}

static void more_ends_than_fit_are_refused(void **state)
{
    struct model_generation_config config;
    struct td_error error = {0};
    struct td_buf text;

    (void)state;
    td_buf_init(&text, 4096);
    td_buf_append_text(&text, "{\"eos_token_id\":[0");
    for (int i = 1; i < TEXT_STOP_IDS_MAX; i++)
        td_buf_printf(&text, ",%d", i);
    td_buf_append_text(&text, "]}");
    assert_int_equal(
        model_generation_config_read(td_span_over(text.data, text.length), &config, &error), TD_OK);
    assert_int_equal(config.end_id_count, TEXT_STOP_IDS_MAX);
    text.length -= 2;
    td_buf_append_text(&text, ",9]}");
    assert_int_equal(
        model_generation_config_read(td_span_over(text.data, text.length), &config, &error),
        TD_LIMIT);
    td_buf_fini(&text);
}

static void a_source_gets_each_id_once_and_only_those_it_has(void **state)
{
    static const struct text_token tokens[3] = {{.bytes = "a", .length = 1, .type = 1}};
    struct model_generation_config config =
        read_good("{\"eos_token_id\": [2, 1, 2, 3], \"top_k\": 7}");
    struct text_source source;

    (void)state;
    text_source_init(&source);
    source.tokens = tokens;
    source.token_count = 3;
    source.stop_ids[0] = 1;
    source.stop_id_count = 1;
    assert_int_equal(model_generation_config_apply(&config, &source, NULL), TD_OK);
    assert_int_equal(source.stop_id_count, 2);
    assert_int_equal(source.stop_ids[1], 2);
    assert_int_equal(source.generation.top_k, 7);
}

/* ---- GGUF ---- */

static void end_file(struct gguf_build *build, struct gguf_bytes *bytes_out,
                     struct model_gguf **file_out)
{
    *bytes_out = gguf_build_finish(build);
    assert_int_equal(model_gguf_parse(bytes_out->bytes, bytes_out->length, file_out, NULL), TD_OK);
}

static td_status_t read_gguf(struct gguf_build *build, struct text_source *source,
                             struct td_error *error)
{
    struct gguf_bytes bytes;
    struct model_gguf *file;
    td_status_t status;

    end_file(build, &bytes, &file);
    text_source_init(source);
    source->token_count = 100;
    status = model_gguf_generation(file, source, error);
    model_gguf_close(file);
    free(bytes.bytes);
    return status;
}

static void the_keys_of_gguf_files_are_read(void **state)
{
    const int32_t top_k = 40;
    const double top_p = 0.5;
    struct text_source source;
    struct gguf_build build;

    (void)state;
    gguf_build_init(&build);
    gguf_build_f32(&build, "general.sampling.temp", 0.25f);
    gguf_build_scalar(&build, "general.sampling.top_k", MODEL_GGUF_I32, &top_k, sizeof top_k);
    gguf_build_scalar(&build, "general.sampling.top_p", MODEL_GGUF_F64, &top_p, sizeof top_p);
    gguf_build_f32(&build, "general.sampling.min_p", 0.125f);
    gguf_build_f32(&build, "general.sampling.penalty_repeat", 1.5f);
    gguf_build_u32(&build, "tokenizer.ggml.fim_pad_token_id", 7);
    gguf_build_u32(&build, "tokenizer.ggml.fim_sep_token_id", 100); /* no such token */
    assert_int_equal(read_gguf(&build, &source, NULL), TD_OK);
    assert_int_equal(source.generation.present,
                     TEXT_GENERATION_ALL & ~TEXT_GENERATION_MAX_NEW_TOKENS);
    assert_true(source.generation.temperature == 0.25f && source.generation.top_p == 0.5f);
    assert_true(source.generation.min_p == 0.125f && source.generation.repetition_penalty == 1.5f);
    assert_int_equal(source.generation.top_k, 40);
    assert_int_equal(source.stop_id_count, 1);
    assert_int_equal(source.stop_ids[0], 7);
}

static void values_that_mean_off_are_off(void **state)
{
    const int32_t top_k = -1;
    struct text_source source;
    struct gguf_build build;

    (void)state;
    gguf_build_init(&build);
    gguf_build_f32(&build, "general.sampling.temp", -1.0f);
    gguf_build_scalar(&build, "general.sampling.top_k", MODEL_GGUF_I32, &top_k, sizeof top_k);
    gguf_build_f32(&build, "general.sampling.top_p", 1.5f);
    gguf_build_f32(&build, "general.sampling.min_p", -0.5f);
    assert_int_equal(read_gguf(&build, &source, NULL), TD_OK);
    assert_int_equal(text_generation_check(&source.generation, NULL), TD_OK);
    assert_true(source.generation.temperature == 0.0f && source.generation.top_p == 1.0f);
    assert_true(source.generation.top_k == 0 && source.generation.min_p == 0.0f);
    gguf_build_init(&build);
    assert_int_equal(read_gguf(&build, &source, NULL), TD_OK);
    assert_int_equal(source.generation.present, 0);
}

static void assert_gguf_refused(struct gguf_build *build, const char *key)
{
    struct text_source source;
    struct td_error error = {0};

    assert_int_equal(read_gguf(build, &source, &error), TD_INVALID);
    if (strstr(error.text, key) == NULL)
        fail_msg("\"%s\" does not name %s", error.text, key);
}

static void odd_keys_of_gguf_files_are_refused_by_name(void **state)
{
    static const char *const words[] = {"2"};
    struct gguf_build build;

    (void)state;
    gguf_build_init(&build);
    gguf_build_f32(&build, "general.sampling.temp", NAN);
    assert_gguf_refused(&build, "general.sampling.temp");
    gguf_build_init(&build);
    gguf_build_text(&build, "general.sampling.top_p", "0.9");
    assert_gguf_refused(&build, "general.sampling.top_p");
    gguf_build_init(&build);
    gguf_build_f32(&build, "general.sampling.top_k", 40.0f);
    assert_gguf_refused(&build, "general.sampling.top_k");
    gguf_build_init(&build);
    gguf_build_f32(&build, "general.sampling.penalty_repeat", 0.0f);
    assert_gguf_refused(&build, "general.sampling.penalty_repeat");
    gguf_build_init(&build);
    gguf_build_texts(&build, "tokenizer.ggml.eos_token_ids", words, 1);
    assert_gguf_refused(&build, "tokenizer.ggml.eos_token_ids");
    gguf_build_init(&build);
    gguf_build_f32(&build, "tokenizer.ggml.fim_rep_token_id", 1.0f);
    assert_gguf_refused(&build, "tokenizer.ggml.fim_rep_token_id");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_values_are_read),
        cmocka_unit_test(what_is_null_or_absent_is_not_present),
        cmocka_unit_test(no_sampling_is_greedy),
        cmocka_unit_test(limits_of_ranges_are_taken),
        cmocka_unit_test(odd_values_are_refused_by_name),
        cmocka_unit_test(more_ends_than_fit_are_refused),
        cmocka_unit_test(a_source_gets_each_id_once_and_only_those_it_has),
        cmocka_unit_test(the_keys_of_gguf_files_are_read),
        cmocka_unit_test(values_that_mean_off_are_off),
        cmocka_unit_test(odd_keys_of_gguf_files_are_refused_by_name),
    };

    return cmocka_run_group_tests_name("generation config", tests, NULL, NULL);
}
