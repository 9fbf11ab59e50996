/* test_hf_config.c: config.json in its old and new forms; what is refused is refused by its key. */
#include "model/hf_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"
#include "tests/support/support.h"

/* A small llama; `more` is put in front, with its own comma, and wins nothing: keys are unique. */
static const char llama_head[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",";
static const char qwen2_head[] =
    "{\"architectures\":[\"Qwen2ForCausalLM\"],\"model_type\":\"qwen2\",";
static const char qwen3_head[] =
    "{\"architectures\":[\"Qwen3ForCausalLM\"],\"model_type\":\"qwen3\",";
static const char numbers[] =
    "\"vocab_size\":1000,\"hidden_size\":96,\"intermediate_size\":160,\"num_hidden_layers\":3,"
    "\"num_attention_heads\":6,\"max_position_embeddings\":2048,\"rms_norm_eps\":1e-05";

static td_status_t read_text(const char *text, struct model_hf_config *config,
                             struct td_error *error)
{
    *config = (struct model_hf_config){0};
    *error = (struct td_error){0};
    return model_hf_config_read(td_span_of(text), config, error);
}

/* head, the numbers, and more (which begins with a comma). */
static struct model_hf_config read_right(const char *head, const char *more)
{
    struct model_hf_config config;
    struct td_error error;
    char text[4096];

    snprintf(text, sizeof text, "%s%s%s}", head, numbers, more);
    if (read_text(text, &config, &error) != TD_OK)
        fail_msg("%s: %s", more, error.text);
    return config;
}

static void assert_text_refused(const char *text, td_status_t status, const char *part)
{
    struct model_hf_config config;
    struct td_error error;
    td_status_t actual = read_text(text, &config, &error);

    if (actual != status || strstr(error.text, part) == NULL)
        fail_msg("%s\nexpected status %d with \"%s\", got %d: %s", text, (int)status, part,
                 (int)actual, error.text);
    assert_null(config.architecture);
}

static void assert_refused(const char *head, const char *more, td_status_t status, const char *part)
{
    char text[4096];

    snprintf(text, sizeof text, "%s%s%s}", head, numbers, more);
    assert_text_refused(text, status, part);
}

/* ---- numbers ---- */

static void defaults_stand_where_keys_are_absent_or_null(void **state)
{
    struct model_hf_config config = read_right(llama_head, "");

    (void)state;
    assert_int_equal(config.architecture->id, MODEL_LLAMA);
    assert_int_equal(config.vocab, 1000);
    assert_int_equal(config.hidden, 96);
    assert_int_equal(config.ffn, 160);
    assert_int_equal(config.layers, 3);
    assert_int_equal(config.heads, 6);
    assert_int_equal(config.kv_heads, 6);
    assert_int_equal(config.head_dim, 16);
    assert_int_equal(config.max_context, 2048);
    assert_true(config.rms_epsilon == 1e-5f);
    assert_false(config.is_tied);
    assert_int_equal(config.end_id_count, 0);
    assert_int_equal(config.rope.form, MODEL_ROPE_PLAIN);
    assert_int_equal(config.rope.pairs, MODEL_ROPE_HALF);
    assert_true(config.rope.theta == 10000.0);
    config = read_right(llama_head,
                        ",\"num_key_value_heads\":null,\"head_dim\":null,\"rope_scaling\":null,"
                        "\"rope_theta\":null,\"eos_token_id\":null,\"attention_bias\":null,"
                        "\"sliding_window\":null,\"quantization_config\":null,"
                        "\"tie_word_embeddings\":null,\"hidden_act\":null");
    assert_int_equal(config.kv_heads, 6);
    assert_int_equal(config.head_dim, 16);
    config = read_right(qwen3_head, "");
    assert_int_equal(config.head_dim, 128); /* as its class has it */
}

static void what_a_file_says_is_taken(void **state)
{
    struct model_hf_config config =
        read_right(qwen3_head, ",\"num_key_value_heads\":2,\"head_dim\":64,"
                               "\"tie_word_embeddings\":true,\"eos_token_id\":[7,9],"
                               "\"hidden_act\":\"silu\",\"torch_dtype\":\"bfloat16\"");

    (void)state;
    assert_int_equal(config.architecture->id, MODEL_QWEN3);
    assert_int_equal(config.kv_heads, 2);
    assert_int_equal(config.head_dim, 64);
    assert_true(config.is_tied);
    assert_int_equal(config.end_id_count, 2);
    assert_int_equal(config.end_ids[0], 7);
    assert_int_equal(config.end_ids[1], 9);
    config = read_right(qwen2_head, ",\"eos_token_id\":5,\"dtype\":\"float32\"");
    assert_int_equal(config.end_id_count, 1);
    assert_int_equal(config.end_ids[0], 5);
}

static void an_architecture_goes_by_class_or_else_by_type(void **state)
{
    char text[1024];

    (void)state;
    assert_int_equal(read_right("{\"model_type\":\"qwen2\",", "").architecture->id, MODEL_QWEN2);
    assert_int_equal(
        read_right("{\"architectures\":null,\"model_type\":\"qwen3\",", "").architecture->id,
        MODEL_QWEN3);
    assert_int_equal(read_right("{\"architectures\":[\"LlamaForCausalLM\"],", "").architecture->id,
                     MODEL_LLAMA);
    assert_refused("{", "", TD_INVALID, "'architectures'");
    assert_refused("{\"architectures\":[],", "", TD_INVALID, "'architectures'");
    assert_refused("{\"architectures\":[7],", "", TD_INVALID, "'architectures'");
    assert_refused("{\"architectures\":\"LlamaForCausalLM\",", "", TD_INVALID, "'architectures'");
    assert_refused("{\"architectures\":[\"GemmaForCausalLM\"],\"model_type\":\"llama\",", "",
                   TD_UNSUPPORTED, "GemmaForCausalLM is not served");
    assert_refused("{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"mistral\",", "",
                   TD_UNSUPPORTED, "'model_type' is mistral");
    assert_refused("{\"model_type\":\"bert\",", "", TD_UNSUPPORTED, "bert is not served");
    for (size_t i = 0; model_architecture_at(i) != NULL; i++) { /* the message names all */
        snprintf(text, sizeof text, "%s", model_architecture_at(i)->hf_class);
        assert_refused("{\"model_type\":\"bert\",", "", TD_UNSUPPORTED, text);
    }
}

static void numbers_that_are_missing_or_wrong_are_refused_by_key(void **state)
{
    static const char *const keys[] = {"vocab_size",          "hidden_size",
                                       "intermediate_size",   "num_hidden_layers",
                                       "num_attention_heads", "max_position_embeddings",
                                       "rms_norm_eps"};
    static const char *const values[] = {"-1", "1e99", "\"8\"", "[8]", "{}", "true"};

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        char text[1024];
        char *at;

        snprintf(text, sizeof text, "%s%s}", llama_head, numbers);
        at = strstr(text, keys[i]);
        assert_non_null(at);
        *at = 'X'; /* another key now */
        assert_text_refused(text, TD_INVALID, keys[i]);
        for (size_t j = 0; j < sizeof values / sizeof values[0]; j++) {
            char wrong[2048];

            snprintf(wrong, sizeof wrong, "%.*s,\"%s\":%s}", (int)strlen(text) - 1, text, keys[i],
                     values[j]);
            assert_text_refused(wrong, TD_INVALID, keys[i]);
        }
    }
    assert_refused(llama_head, ",\"num_key_value_heads\":7", TD_INVALID, "'num_key_value_heads'");
    assert_refused(llama_head, ",\"num_key_value_heads\":0", TD_INVALID, "'num_key_value_heads'");
    assert_refused(llama_head, ",\"head_dim\":257", TD_INVALID, "'head_dim'");
    assert_refused(llama_head, ",\"tie_word_embeddings\":1", TD_INVALID, "'tie_word_embeddings'");
    assert_refused(llama_head, ",\"eos_token_id\":-1", TD_INVALID, "'eos_token_id'");
    assert_refused(llama_head, ",\"eos_token_id\":[1,null]", TD_INVALID, "'eos_token_id'");
    assert_refused(llama_head, ",\"eos_token_id\":\"</s>\"", TD_INVALID, "'eos_token_id'");
    assert_refused(
        llama_head, /* 33 */
        ",\"eos_token_id\":[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2]",
        TD_LIMIT, "'eos_token_id'");
}

static void texts_that_are_no_config_are_refused(void **state)
{
    (void)state;
    assert_text_refused("", TD_INVALID, "byte 0");
    assert_text_refused("[]", TD_INVALID, "not an object");
    assert_text_refused("{\"a\":1", TD_INVALID, "byte 6");
    assert_text_refused("{\"a\":1,\"a\":1}", TD_INVALID, "byte");
}

/* ---- what is refused ---- */

static void keys_that_would_change_results_are_refused(void **state)
{
    (void)state;
    assert_refused(llama_head, ",\"quantization_config\":{\"quant_method\":\"gptq\"}",
                   TD_UNSUPPORTED, "'quantization_config' has a quant_method other than");
    assert_refused(llama_head, ",\"hidden_act\":\"gelu\"", TD_UNSUPPORTED, "'hidden_act'");
    assert_refused(llama_head, ",\"attention_bias\":true", TD_UNSUPPORTED, "'attention_bias'");
    assert_refused(qwen3_head, ",\"attention_bias\":true", TD_UNSUPPORTED, "'attention_bias'");
    assert_refused(llama_head, ",\"attention_bias\":\"false\"", TD_UNSUPPORTED, "'attention_bias'");
    assert_refused(llama_head, ",\"mlp_bias\":true", TD_UNSUPPORTED, "'mlp_bias'");
    assert_refused(llama_head, ",\"sliding_window\":4096", TD_UNSUPPORTED, "'sliding_window'");
    assert_refused(qwen2_head, ",\"use_sliding_window\":true", TD_UNSUPPORTED,
                   "'use_sliding_window'");
    assert_refused(qwen2_head, ",\"use_sliding_window\":true,\"max_window_layers\":2",
                   TD_UNSUPPORTED, "'use_sliding_window'");
    assert_refused(qwen3_head, ",\"layer_types\":[\"full_attention\",\"sliding_attention\"]",
                   TD_UNSUPPORTED, "'layer_types'");
    assert_refused(llama_head, ",\"partial_rotary_factor\":0.5", TD_UNSUPPORTED,
                   "'partial_rotary_factor'");
    assert_refused(llama_head, ",\"rope_interleaved\":true", TD_UNSUPPORTED, "'rope_interleaved'");
}

static void the_same_keys_may_say_what_is_computed_anyway(void **state)
{
    (void)state;
    read_right(llama_head, ",\"attention_bias\":false,\"mlp_bias\":false,\"hidden_act\":\"silu\","
                           "\"partial_rotary_factor\":1.0,\"rope_interleaved\":false");
    read_right(qwen2_head, ",\"use_sliding_window\":false,\"sliding_window\":32768,"
                           "\"max_window_layers\":1,\"attention_bias\":true");
    read_right(qwen2_head, ",\"use_sliding_window\":true,\"sliding_window\":32768,"
                           "\"max_window_layers\":3");
    read_right(qwen3_head, ",\"layer_types\":[\"full_attention\",\"full_attention\"]");
}

static void every_refusal_has_its_words(void **state)
{
    size_t count = 0;

    (void)state;
    for (; model_hf_refusal_at(count) != NULL; count++)
        assert_true(strlen(model_hf_refusal_at(count)->key) > 0 &&
                    strlen(model_hf_refusal_at(count)->condition) > 0 &&
                    strlen(model_hf_refusal_at(count)->reason) > 0);
    assert_true(count > 0);
}

/* ---- positions ---- */

/* Both forms of one scaling must give the same description. */
static struct model_hf_config read_both(const char *theta, const char *scaling)
{
    struct model_hf_config old;
    struct model_hf_config new;
    char more[1024];

    snprintf(more, sizeof more, ",\"rope_theta\":%s,\"rope_scaling\":{%s}", theta, scaling);
    old = read_right(llama_head, more);
    snprintf(more, sizeof more, ",\"rope_parameters\":{\"rope_theta\":%s,%s}", theta, scaling);
    new = read_right(llama_head, more);
    assert_memory_equal(&old, &new, sizeof old);
    snprintf(more, sizeof more,
             ",\"rope_theta\":%s,\"rope_scaling\":null,\"rope_parameters\":{\"rope_theta\":%s,%s}",
             theta, theta, scaling);
    new = read_right(llama_head, more);
    assert_memory_equal(&old, &new, sizeof old);
    return old;
}

static void old_and_new_forms_of_every_scaling_are_read_alike(void **state)
{
    struct model_hf_config config;

    (void)state;
    config = read_both("500000.0", "\"rope_type\":\"default\"");
    assert_int_equal(config.rope.form, MODEL_ROPE_PLAIN);
    assert_true(config.rope.theta == 500000.0);
    config = read_both("10000", "\"type\":\"linear\",\"factor\":4.0");
    assert_int_equal(config.rope.form, MODEL_ROPE_LINEAR);
    assert_true(config.rope.factor == 4.0);
    assert_int_equal(config.max_context, 2048);
    config = read_both("5e5", "\"rope_type\":\"llama3\",\"factor\":32,\"low_freq_factor\":1.0,"
                              "\"high_freq_factor\":4.0,"
                              "\"original_max_position_embeddings\":8192");
    assert_int_equal(config.rope.form, MODEL_ROPE_LLAMA3);
    assert_true(config.rope.factor == 32.0 && config.rope.original_context == 8192.0);
    assert_true(config.rope.low_frequency_factor == 1.0);
    assert_true(config.rope.high_frequency_factor == 4.0);
    config = read_both("1e6", "\"rope_type\":\"yarn\",\"type\":\"yarn\",\"factor\":4.0,"
                              "\"original_max_position_embeddings\":1024,\"beta_fast\":16,"
                              "\"beta_slow\":2,\"attention_factor\":1.5,\"truncate\":true");
    assert_int_equal(config.rope.form, MODEL_ROPE_YARN);
    assert_true(config.rope.beta_fast == 16.0 && config.rope.beta_slow == 2.0);
    assert_true(config.rope.attention_factor == 1.5);
    assert_int_equal(config.max_context, 4096); /* 1024 grown four times */
    config = read_both("1e6", "\"type\":\"yarn\",\"factor\":4.0,\"beta_fast\":null");
    assert_true(config.rope.original_context == 2048.0 && config.rope.beta_fast == 32.0);
    assert_int_equal(config.max_context, 2048);
    assert_int_equal(read_right(llama_head, ",\"rope_parameters\":{\"rope_theta\":7e4}").rope.form,
                     MODEL_ROPE_PLAIN);
}

static void the_description_is_one_that_rope_takes(void **state)
{
    static const char *const forms[] = {
        "\"rope_type\":\"default\"",
        "\"type\":\"linear\",\"factor\":4.0",
        ("\"rope_type\":\"llama3\",\"factor\":8,\"low_freq_factor\":1.0,"
         "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":128"),
        ("\"rope_type\":\"yarn\",\"factor\":4.0,"
         "\"original_max_position_embeddings\":512"),
    };

    (void)state;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        struct model_hf_config config = read_both("10000.0", forms[i]);
        struct model_rope rope;
        struct td_error error = {0};

        if (model_rope_init(&config.rope, &rope, &error) != TD_OK)
            fail_msg("%s: %s", forms[i], error.text);
        assert_true(rope.frequency[0] > 0.0 && rope.frequency[0] <= 1.0);
    }
}

static void scalings_that_are_not_known_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":2.0}",
                   TD_UNSUPPORTED, "'rope_type' dynamic of 'rope_scaling'");
    assert_refused(llama_head, ",\"rope_parameters\":{\"rope_type\":\"longrope\"}", TD_UNSUPPORTED,
                   "longrope");
    assert_refused(llama_head, ",\"rope_scaling\":{\"factor\":2.0}", TD_INVALID,
                   "'rope_scaling' has no 'rope_type'");
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"linear\",\"rope_type\":\"yarn\"}",
                   TD_INVALID, "another 'type'");
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"linear\"}", TD_INVALID,
                   "'factor' of 'rope_scaling' is missing");
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8}", TD_INVALID,
                   "'low_freq_factor' of 'rope_scaling' is missing");
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":\"2\"}",
                   TD_INVALID, "'factor'");
    assert_refused(llama_head, ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"mscale\":0.7}",
                   TD_UNSUPPORTED, "'mscale' of 'rope_scaling'");
    assert_refused(llama_head,
                   ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":4,\"truncate\":false}",
                   TD_UNSUPPORTED, "truncate");
    assert_refused(llama_head,
                   ",\"rope_parameters\":{\"rope_theta\":1e4,\"partial_rotary_factor\":0.5}",
                   TD_UNSUPPORTED, "partial_rotary_factor");
    assert_refused(llama_head,
                   ",\"rope_parameters\":{\"full_attention\":{\"rope_type\":\"default\"}}",
                   TD_UNSUPPORTED, "'full_attention' of 'rope_parameters'");
    assert_refused(llama_head, ",\"rope_scaling\":\"linear\"", TD_INVALID, "'rope_scaling'");
    assert_refused(llama_head, ",\"rope_theta\":\"1e4\"", TD_INVALID, "'rope_theta'");
    assert_refused(llama_head, ",\"rope_theta\":0.5", TD_INVALID, "'rope_theta'");
    assert_refused(llama_head, ",\"rope_theta\":1e4,\"rope_parameters\":{\"rope_theta\":1e6}",
                   TD_INVALID, "which one holds?");
    assert_refused(llama_head,
                   ",\"rope_scaling\":{\"type\":\"linear\",\"factor\":2},\"rope_parameters\":{}",
                   TD_INVALID, "which one holds?");
    assert_refused(llama_head,
                   ",\"rope_scaling\":{\"type\":\"yarn\",\"factor\":1e6,"
                   "\"original_max_position_embeddings\":1e6}",
                   TD_LIMIT, "'factor'");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_stand_where_keys_are_absent_or_null),
        cmocka_unit_test(what_a_file_says_is_taken),
        cmocka_unit_test(an_architecture_goes_by_class_or_else_by_type),
        cmocka_unit_test(numbers_that_are_missing_or_wrong_are_refused_by_key),
        cmocka_unit_test(texts_that_are_no_config_are_refused),
        cmocka_unit_test(keys_that_would_change_results_are_refused),
        cmocka_unit_test(the_same_keys_may_say_what_is_computed_anyway),
        cmocka_unit_test(every_refusal_has_its_words),
        cmocka_unit_test(old_and_new_forms_of_every_scaling_are_read_alike),
        cmocka_unit_test(the_description_is_one_that_rope_takes),
        cmocka_unit_test(scalings_that_are_not_known_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
