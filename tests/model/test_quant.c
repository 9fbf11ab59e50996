/* test_quant.c: element types: dequantisation bit for bit like ggml's own, and half floats, all of them. */
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/quant.h"

#define VALUES 1024

/* ggml's quantiser wrote the blocks, its dequantiser the floats. */
static void check_blocks(enum model_type type, const char *name)
{
    char path[128];
    char *blocks;
    char *expected;
    float actual[VALUES];
    size_t block_bytes;
    size_t expected_bytes;
    size_t row_bytes = 0;

    snprintf(path, sizeof path, "model/quant-blocks/%s.bin", name);
    blocks = test_read_file(test_data_path(path), &block_bytes);
    snprintf(path, sizeof path, "model/quant-blocks/%s.f32", name);
    expected = test_read_file(test_data_path(path), &expected_bytes);
    assert_int_equal(expected_bytes, sizeof actual);
    assert_string_equal(model_type_info(type)->name, name);
    assert_true(model_type_info(type)->is_supported);
    assert_true(model_type_row_bytes(type, VALUES, &row_bytes));
    assert_int_equal(row_bytes, block_bytes);
    model_dequantize(type, (const uint8_t *)blocks, VALUES, actual);
    assert_memory_equal(actual, expected, sizeof actual);
    free(blocks);
    free(expected);
}

static void blocks_of_every_type_mean_what_ggml_says(void **state)
{
    (void)state;
    check_blocks(MODEL_TYPE_F16, "F16");
    check_blocks(MODEL_TYPE_BF16, "BF16");
    check_blocks(MODEL_TYPE_Q4_0, "Q4_0");
    check_blocks(MODEL_TYPE_Q4_1, "Q4_1");
    check_blocks(MODEL_TYPE_Q5_0, "Q5_0");
    check_blocks(MODEL_TYPE_Q5_1, "Q5_1");
    check_blocks(MODEL_TYPE_Q8_0, "Q8_0");
    check_blocks(MODEL_TYPE_Q4_K, "Q4_K");
    check_blocks(MODEL_TYPE_Q5_K, "Q5_K");
    check_blocks(MODEL_TYPE_Q6_K, "Q6_K");
}

static void float32_is_taken_as_it_is(void **state)
{
    size_t length;
    char *input = test_read_file(test_data_path("model/quant-blocks/input.f32"), &length);
    float actual[VALUES];

    (void)state;
    assert_int_equal(length, sizeof actual);
    model_dequantize(MODEL_TYPE_F32, (const uint8_t *)input, VALUES, actual);
    assert_memory_equal(actual, input, sizeof actual);
    free(input);
}

/* What the bits of a half say, computed another way than quant.c does. */
static double meaning_of(uint16_t half)
{
    double sign = half >> 15 == 1 ? -1.0 : 1.0;
    int exponent = half >> 10 & 31;
    int fraction = half & 1023;

    if (exponent == 0)
        return sign * ldexp(fraction, -24);
    return sign * ldexp(1024 + fraction, exponent - 25);
}

static void every_half_is_the_float_it_means_and_comes_back(void **state)
{
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        uint16_t half = (uint16_t)bits;
        float value = model_half_to_float(half);

        if ((half & 0x7c00) == 0x7c00 && (half & 0x3ff) != 0) {
            assert_true(isnan(value) && isnan(model_half_to_float(model_float_to_half(value))));
        } else if ((half & 0x7fff) == 0x7c00) {
            assert_true(isinf(value) && (signbit(value) != 0) == (half >> 15 != 0));
            assert_int_equal(model_float_to_half(value), half);
        } else {
            assert_true((double)value == meaning_of(half));
            assert_int_equal(model_float_to_half(value), half);
        }
    }
}

/* Between two neighbours the nearer one is taken, and in the middle the even one. */
static void floats_between_two_halves_go_to_the_nearer(void **state)
{
    (void)state;
    for (uint16_t low = 0; low < 0x7bff; low++) {
        uint16_t high = (uint16_t)(low + 1);
        float middle = (float)((meaning_of(low) + meaning_of(high)) / 2);
        uint16_t even = low % 2 == 0 ? low : high;

        assert_int_equal(model_float_to_half(middle), even);
        assert_int_equal(model_float_to_half(-middle), even | 0x8000);
        assert_int_equal(model_float_to_half(nextafterf(middle, 0.0f)), low);
        assert_int_equal(model_float_to_half(nextafterf(middle, INFINITY)), high);
    }
    assert_int_equal(model_float_to_half(65519.996f), 0x7bff);
    assert_int_equal(model_float_to_half(65520.0f), 0x7c00); /* infinity */
    assert_int_equal(model_float_to_half(-1e30f), 0xfc00);
    assert_int_equal(model_float_to_half(1e-30f), 0);
}

static void rows_are_whole_numbers_of_blocks_and_do_not_overflow(void **state)
{
    size_t bytes = 7;

    (void)state;
    assert_false(model_type_row_bytes(MODEL_TYPE_Q4_1, 33, &bytes));
    assert_false(model_type_row_bytes(MODEL_TYPE_F32, UINT64_MAX / 2, &bytes));
    assert_false(model_type_row_bytes(4, 32, &bytes));  /* an id that was given up */
    assert_false(model_type_row_bytes(40, 32, &bytes)); /* a type of unknown layout */
    assert_false(model_type_row_bytes(UINT32_MAX, 32, &bytes));
    assert_int_equal(bytes, 7);
    assert_true(model_type_row_bytes(MODEL_TYPE_Q4_1, 0, &bytes));
    assert_int_equal(bytes, 0);
    assert_false(model_type_row_bytes(MODEL_TYPE_Q6_K, 128, &bytes));
    assert_true(model_type_row_bytes(10, 512, &bytes)); /* Q2_K: known, not supported */
    assert_int_equal(bytes, 168);
    assert_false(model_type_info(10)->is_supported);
}

static void messages_name_the_types_that_are_served(void **state)
{
    char padded[128];

    (void)state;
    snprintf(padded, sizeof padded, " %s,", MODEL_TYPES_SERVED);
    for (uint32_t id = 0; id < MODEL_TYPE_GGUF_END; id++) {
        const struct model_type_info *info = model_type_info(id);
        char name[32];

        if (info == NULL)
            continue;
        snprintf(name, sizeof name, " %s", info->name);
        if (info->is_supported != (strstr(padded, name) != NULL))
            fail_msg("%s: %s", info->name, MODEL_TYPES_SERVED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_of_every_type_mean_what_ggml_says),
        cmocka_unit_test(float32_is_taken_as_it_is),
        cmocka_unit_test(every_half_is_the_float_it_means_and_comes_back),
        cmocka_unit_test(floats_between_two_halves_go_to_the_nearer),
        cmocka_unit_test(rows_are_whole_numbers_of_blocks_and_do_not_overflow),
        cmocka_unit_test(messages_name_the_types_that_are_served),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
