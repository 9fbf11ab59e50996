/* test_json_write.c: what is written is valid JSON and reads back as the same. */
#include "lib/base/json_write.h"
#include "lib/base/random.h"
#include "tests/support/support.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct td_json_limits limits = {
    .bytes_max = 1 << 22, .nodes_max = 300000, .depth_max = TD_JSON_DEPTH_MAX};

static struct td_buf out;

static int prepare(void **state)
{
    (void)state;
    td_buf_init(&out, 1 << 22);
    return 0;
}

static int release(void **state)
{
    (void)state;
    td_buf_fini(&out);
    return 0;
}

static void assert_string_written(const char *bytes, size_t length, const char *expected)
{
    td_buf_clear(&out);
    td_json_write_string(&out, td_span_over(bytes, length));
    assert_string_equal(out.data, expected);
}

static void strings_are_escaped_and_made_valid(void **state)
{
    (void)state;
    assert_string_written(NULL, 0, "\"\"");
    assert_string_written("plain", 5, "\"plain\"");
    assert_string_written("\"\\/\b\f\n\r\t", 8, "\"\\\"\\\\/\\b\\f\\n\\r\\t\"");
    assert_string_written("\0\x01\x1f\x20\x7f", 5, "\"\\u0000\\u0001\\u001f \x7f\"");
    assert_string_written("\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80", 9,
                          "\"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\"");
    assert_string_written("a\xff"
                          "b\xc3",
                          4,
                          "\"a\xef\xbf\xbd"
                          "b\xef\xbf\xbd\"");
    assert_string_written("\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"");
}

static void random_bytes_always_make_a_valid_document(void **state)
{
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 11);
    for (int round = 0; round < 3000; round++) {
        char bytes[64];
        size_t length = (size_t)td_rng_below(&rng, sizeof bytes);
        const struct td_json *root = NULL;
        struct td_arena arena;

        for (size_t i = 0; i < length; i++) /* mostly plain, with quotes, controls and high bytes */
            bytes[i] = (char)(td_rng_below(&rng, 4) > 0 ? 'a' : td_rng_below(&rng, 256));
        td_buf_clear(&out);
        td_json_write_string(&out, td_span_over(bytes, length));
        td_arena_init(&arena, 1 << 16);
        assert_int_equal(
            td_json_parse(&arena, td_span_over(out.data, out.length), &limits, &root, NULL), TD_OK);
        td_arena_fini(&arena);
    }
}

static void integers_are_written_exactly(void **state)
{
    static const int64_t values[] = {0, 1, -1, 9, 10, -10, INT64_MAX, INT64_MIN};

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        char expected[32];

        snprintf(expected, sizeof expected, "%lld", (long long)values[i]);
        td_buf_clear(&out);
        td_json_write_int(&out, values[i]);
        assert_string_equal(out.data, expected);
    }
    td_buf_clear(&out);
    td_json_write_uint(&out, UINT64_MAX);
    assert_string_equal(out.data, "18446744073709551615");
}

static void doubles_are_short_and_read_back_as_themselves(void **state)
{
    static const struct {
        double value;
        const char *text;
    } cases[] = {{0, "0.0"},
                 {-0.0, "-0.0"},
                 {1, "1.0"},
                 {0.1, "0.1"},
                 {1.0 / 3, "0.3333333333333333"},
                 {123456789, "123456789.0"},
                 {1e15, "1e+15"},
                 {5e-324, "5e-324"},
                 {1.7976931348623157e308, "1.7976931348623157e+308"},
                 {2.2250738585072014e-308, "2.2250738585072014e-308"},
                 {(double)NAN, "null"},
                 {(double)INFINITY, "null"},
                 {-(double)INFINITY, "null"}};
    struct td_rng rng;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        td_buf_clear(&out);
        td_json_write_double(&out, cases[i].value);
        assert_string_equal(out.data, cases[i].text);
    }
    td_rng_init(&rng, 1);
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = td_rng_next(&rng);
        double value;

        memcpy(&value, &bits, sizeof value);
        td_buf_clear(&out);
        td_json_write_double(&out, value);
        if (isfinite(value))
            assert_true(strtod(out.data, NULL) == value);
    }
}

static void a_writer_puts_commas_and_brackets(void **state)
{
    struct td_json_writer w = td_json_writer_to(&out);

    (void)state;
    td_buf_clear(&out);
    td_json_begin_object(&w, NULL);
    td_json_put_text(&w, "a", "x\"y");
    td_json_put_int(&w, "b", -5);
    td_json_begin_array(&w, "c");
    td_json_put_uint(&w, NULL, 7);
    td_json_begin_object(&w, NULL);
    td_json_end(&w);
    td_json_begin_array(&w, NULL);
    td_json_end(&w);
    td_json_put_null(&w, NULL);
    td_json_end(&w);
    td_json_put_bool(&w, "d", true);
    td_json_put_double(&w, "e", 0.5);
    td_json_put_raw(&w, "f", td_span_of("{\"raw\":[]}"));
    td_json_put_null(&w, "g\n");
    td_json_end(&w);
    assert_string_equal(out.data,
                        "{\"a\":\"x\\\"y\",\"b\":-5,\"c\":[7,{},[],null],\"d\":true,\"e\":0.5,"
                        "\"f\":{\"raw\":[]},\"g\\n\":null}");
    assert_int_equal(w.depth, 0);
}

static void a_writer_goes_as_deep_as_a_reader(void **state)
{
    struct td_json_writer w = td_json_writer_to(&out);
    const struct td_json *root = NULL;
    struct td_arena arena;

    (void)state;
    td_buf_clear(&out);
    for (int i = 0; i < TD_JSON_DEPTH_MAX; i++) {
        td_json_begin_array(&w, NULL);
        td_json_put_int(&w, NULL, i);
    }
    for (int i = 0; i < TD_JSON_DEPTH_MAX; i++)
        td_json_end(&w);
    td_arena_init(&arena, 1 << 16);
    assert_int_equal(
        td_json_parse(&arena, td_span_over(out.data, out.length), &limits, &root, NULL), TD_OK);
    td_arena_fini(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_escaped_and_made_valid),
        cmocka_unit_test(random_bytes_always_make_a_valid_document),
        cmocka_unit_test(integers_are_written_exactly),
        cmocka_unit_test(doubles_are_short_and_read_back_as_themselves),
        cmocka_unit_test(a_writer_puts_commas_and_brackets),
        cmocka_unit_test(a_writer_goes_as_deep_as_a_reader),
    };

    return cmocka_run_group_tests(tests, prepare, release);
}
