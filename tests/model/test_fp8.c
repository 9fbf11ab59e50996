/*
 * test_fp8.c: FP8 folders in all forms mean weight times scale, to the bit; scales that are missing, too many, no numbers,
 * and quantization_configs of other formats are refused by tensor or key.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/hf_config.h"
#include "model/model.h"
#include "tests/model/fp8_build.h"

/* ------------------------------------------------------------------ the type */

static void every_byte_is_the_number_it_means(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 256; bits++) {
        uint8_t byte = (uint8_t)bits;
        int exponent = byte >> 3 & 15;
        double fraction = (byte & 7) / 8.0;
        double expected = exponent == 0 ? ldexp(fraction, -6) : ldexp(1.0 + fraction, exponent - 7);
        float actual;

        if ((byte & 0x7f) == 0x7f)
            continue; /* no number: refused where files are read */
        model_dequantize(MODEL_TYPE_F8_E4M3, &byte, 1, &actual);
        assert_true((double)actual == (byte & 0x80 ? -expected : expected));
        assert_true((signbit(actual) != 0) == (byte >= 0x80));
    }
    assert_true(model_e4m3_to_float(0x7e) == MODEL_E4M3_MAX);
}

/* ------------------------------------------------------------------ right folders */

static struct model *open_right(const char *path)
{
    struct model *model = NULL;
    struct td_error error = {0};

    if (model_open(path, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    return model;
}

static void assert_means(const struct model_matrix *fp8, const struct model_matrix *floats)
{
    float *actual = malloc(fp8->columns * sizeof *actual);

    assert_non_null(actual);
    assert_int_equal(fp8->type, MODEL_TYPE_F8_E4M3);
    assert_int_equal(floats->type, MODEL_TYPE_F32);
    assert_int_equal(fp8->rows, floats->rows);
    assert_int_equal(fp8->columns, floats->columns);
    for (uint32_t row = 0; row < fp8->rows; row++) {
        model_matrix_row(fp8, row, actual);
        assert_memory_equal(actual, floats->data + row * floats->row_bytes, floats->row_bytes);
    }
    free(actual);
}

static void every_form_means_weight_times_scale(void **state)
{
    (void)state;
    for (int form = 0; form < FP8_FORMS; form++) {
        const struct fp8_build fp8 = {.form = (enum fp8_form)form};
        struct hf_build build;
        struct hf_build twin;
        struct model *model;
        struct model *expected;

        hf_build_init(&build);
        hf_build_init(&twin);
        fp8_build_folder(&fp8, &build, &twin);
        model = open_right(build.path);
        expected = open_right(twin.path);
        assert_int_equal(model->embedding.type, MODEL_TYPE_F32);
        for (uint32_t i = 0; i < model->layers; i++) {
            assert_means(&model->layer[i].q, &expected->layer[i].q);
            assert_means(&model->layer[i].k, &expected->layer[i].k);
            assert_means(&model->layer[i].v, &expected->layer[i].v);
            assert_means(&model->layer[i].attention_output, &expected->layer[i].attention_output);
            assert_means(&model->layer[i].gate, &expected->layer[i].gate);
            assert_means(&model->layer[i].up, &expected->layer[i].up);
            assert_means(&model->layer[i].down, &expected->layer[i].down);
        }
        model_close(model);
        model_close(expected);
        hf_build_fini(&build);
        hf_build_fini(&twin);
    }
}

/* ------------------------------------------------------------------ wrong ones */

static void assert_refused(struct fp8_build fp8, td_status_t status, const char *part)
{
    struct hf_build build;
    struct model *model = NULL;
    struct td_error error = {0};
    td_status_t actual;

    hf_build_init(&build);
    fp8_build_folder(&fp8, &build, NULL);
    actual = model_open(build.path, &model, &error);
    if (actual != status || strstr(error.text, part) == NULL)
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(model);
    hf_build_fini(&build);
}

static void scales_that_are_missing_or_strange_are_refused_by_name(void **state)
{
    (void)state;
    assert_refused((struct fp8_build){.form = FP8_BLOCKS, .left_out = "_scale_inv"}, TD_INVALID,
                   "q_proj.weight_scale_inv is missing: the scales of");
    assert_refused((struct fp8_build){.form = FP8_ROWS, .left_out = "_scale"}, TD_INVALID,
                   "q_proj.weight_scale is missing");
    assert_refused((struct fp8_build){.form = FP8_BLOCKS, .more_scales = 1}, TD_INVALID,
                   "weight_scale_inv has 4 x 1 scales where blocks of 48 x 64 need 3 x 1");
    assert_refused((struct fp8_build){.form = FP8_ROWS, .more_scales = 2}, TD_INVALID,
                   "weight_scale has 130 x 1 scales where one, or 128 x 1, were expected");
    assert_refused((struct fp8_build){.form = FP8_TENSOR, .more_scales = 1}, TD_INVALID,
                   "weight_scale has 1 x 2 scales");
    assert_refused((struct fp8_build){.form = FP8_BLOCKS, .scale_dtype = "I32"}, TD_UNSUPPORTED,
                   "has type I32");
    assert_refused((struct fp8_build){.form = FP8_BLOCKS, .config = ""}, TD_UNSUPPORTED,
                   "has type F8_E4M3, but config.json has no 'quantization_config'");
    assert_refused((struct fp8_build){.form = FP8_BLOCKS, .left_out = ""}, TD_INVALID,
                   "weight is missing");
}

static void numbers_that_are_none_are_refused_by_their_place(void **state)
{
    static const float wrong[] = {-0.01f, 1e-30f, 1e35f, INFINITY, NAN};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        for (int form = 0; form < FP8_FORMS; form++)
            assert_refused((struct fp8_build){.form = (enum fp8_form)form, .scale = wrong[i]},
                           TD_INVALID, "weight: scale 0 is ");
    assert_refused((struct fp8_build){.form = FP8_ROWS, .has_nan = true}, TD_INVALID,
                   "q_proj.weight: the weight in row 127, column 63 is no number");
}

/* ------------------------------------------------------------------ config.json */

#define HEAD                                                                           \
    "{\"architectures\":[\"LlamaForCausalLM\"],\"vocab_size\":100,\"hidden_size\":64," \
    "\"intermediate_size\":128,\"num_hidden_layers\":2,\"num_attention_heads\":4,"     \
    "\"max_position_embeddings\":512,\"rms_norm_eps\":1e-5,\"quantization_config\":"

static td_status_t read_config(const char *quantization, struct model_hf_config *config,
                               struct td_error *error)
{
    char text[2048];
    int length = snprintf(text, sizeof text, HEAD "%s}", quantization);

    assert_in_range(length, 1, sizeof text - 1);
    return model_hf_config_read(td_span_over(text, (size_t)length), config, error);
}

static struct model_quantization read_right(const char *quantization)
{
    struct model_hf_config config = {0};
    struct td_error error = {0};

    if (read_config(quantization, &config, &error) != TD_OK)
        fail_msg("%s: %s", quantization, error.text);
    return config.quantization;
}

#define COMPRESSED(weights)                                                           \
    "{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"weights\":" \
    "{\"num_bits\":8,\"type\":\"float\"" weights "}}}"

static void configs_that_are_served_say_where_scales_are(void **state)
{
    struct model_quantization found;

    (void)state;
    assert_null(read_right("null").suffix);
    found = read_right("{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128],"
                       "\"modules_to_not_convert\":[\"lm_head\"],\"scale_fmt\":\"ue8m0\"}");
    assert_string_equal(found.suffix, "_scale_inv");
    assert_int_equal(found.block_rows, 128);
    assert_int_equal(found.block_columns, 128);
    found = read_right("{\"quant_method\":\"fp8\",\"weight_block_size\":null}");
    assert_string_equal(found.suffix, "_scale");
    assert_int_equal(found.block_rows, 0);
    found = read_right(COMPRESSED(",\"strategy\":\"tensor\"") "}");
    assert_string_equal(found.suffix, "_scale");
    assert_int_equal(found.block_rows, 0);
    found = read_right(COMPRESSED(",\"strategy\":\"block\",\"block_structure\":[64,128]") "}");
    assert_string_equal(found.suffix, "_scale");
    assert_int_equal(found.block_rows, 64);
    assert_int_equal(found.block_columns, 128);
}

static void configs_of_other_formats_are_refused_by_key(void **state)
{
    static const struct {
        const char *quantization;
        const char *part;
    } cases[] = {
        {"{\"quant_method\":\"awq\"}", "quant_method other than"},
        {"{\"quant_method\":\"mxfp4\"}", "quant_method other than"},
        {"{\"quant_method\":\"modelopt\"}", "quant_method other than"},
        {"{}", "quant_method other than"},
        {"[]", "quant_method other than"},
        {"{\"quant_method\":\"fp8\",\"fmt\":\"e5m2\"}", "'fmt' is e5m2"},
        {"{\"quant_method\":\"fp8\",\"activation_scheme\":\"odd\"}", "'activation_scheme' is odd"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128]}", "'weight_block_size'"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[0,128]}", "'weight_block_size'"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128,96]}", "'weight_block_size'"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":[128,1e30]}", "'weight_block_size'"},
        {"{\"quant_method\":\"fp8\",\"weight_block_size\":\"128x128\"}", "'weight_block_size'"},
        {"{\"quant_method\":\"fp8\",\"kv_cache_scheme\":{}}", "not known: kv_cache_scheme"},
        {"{\"quant_method\":\"compressed-tensors\"}", "'config_groups' is missing"},
        {COMPRESSED("") ",\"format\":\"nvfp4-pack-quantized\"}", "'format' is nvfp4"},
        {COMPRESSED("") ",\"kv_cache_scheme\":{\"num_bits\":8}}", "not known: kv_cache_scheme"},
        {COMPRESSED("") ",\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}}", "'format'"},
        {COMPRESSED("") ",\"transform_config\":{\"R1\":{}}}", "'transform_config'"},
        {COMPRESSED(",\"dynamic\":true") "}", "'dynamic' is true"},
        {COMPRESSED(",\"symmetric\":false") "}", "'symmetric' is false"},
        {COMPRESSED(",\"group_size\":32") "}", "not known: group_size"},
        {COMPRESSED(",\"strategy\":\"group\"") "}", "'strategy' is group"},
        {"{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"weights\":"
         "{\"num_bits\":4,\"type\":\"float\"}}}}",
         "'num_bits' is 4"},
        {"{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{\"weights\":"
         "{\"num_bits\":8,\"type\":\"int\"}}}}",
         "'type' is int"},
        {"{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":{}}}",
         "'weights' is missing"},
        {"{\"quant_method\":\"compressed-tensors\",\"config_groups\":{\"g\":3}}", "no object"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct model_hf_config config = {0};
        struct td_error error = {0};

        assert_int_not_equal(read_config(cases[i].quantization, &config, &error), TD_OK);
        if (strstr(error.text, "'quantization_config'") == NULL ||
            strstr(error.text, cases[i].part) == NULL)
            fail_msg("%s: %s", cases[i].quantization, error.text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_byte_is_the_number_it_means),
        cmocka_unit_test(every_form_means_weight_times_scale),
        cmocka_unit_test(scales_that_are_missing_or_strange_are_refused_by_name),
        cmocka_unit_test(numbers_that_are_none_are_refused_by_their_place),
        cmocka_unit_test(configs_that_are_served_say_where_scales_are),
        cmocka_unit_test(configs_of_other_formats_are_refused_by_key),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
