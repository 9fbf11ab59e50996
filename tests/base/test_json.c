/* test_json.c: what the JSON reader accepts, what it refuses and how it says so. */
#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/json_write.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct td_json_limits limits = {
    .bytes_max = 1 << 22, .nodes_max = 300000, .depth_max = TD_JSON_DEPTH_MAX};

struct document {
    struct td_arena arena;
    const struct td_json *root;
    struct td_error error;
    td_status_t status;
};

static struct document parse_within(const char *text, size_t length,
                                    const struct td_json_limits *within)
{
    struct document document = {0};
    char *exact = malloc(length > 0 ? length : 1); /* ASan sees one byte too far */

    assert_non_null(exact);
    memcpy(exact, text, length);
    td_arena_init(&document.arena, td_json_arena_bytes(within));
    document.status = td_json_parse(&document.arena, td_span_over(exact, length), within,
                                    &document.root, &document.error);
    free(exact); /* the tree owns all it needs */
    assert_int_equal(document.status == TD_OK, document.root != NULL);
    return document;
}

static struct document parse(const char *text)
{
    return parse_within(text, strlen(text), &limits);
}

static void assert_reads_as(const char *text, const char *expected)
{
    struct document document = parse(text);
    struct td_buf out;

    td_buf_init(&out, 1 << 20);
    if (document.status != TD_OK)
        fail_msg("%s: %s", text, document.error.text);
    td_json_write_tree(&out, document.root);
    assert_string_equal(out.data, expected);
    td_buf_fini(&out);
    td_arena_fini(&document.arena);
}

static void assert_refused(const char *text, td_status_t status, const char *reason)
{
    struct document document = parse(text);

    if (document.status != status || strcmp(document.error.text, reason) != 0)
        fail_msg("%s: %s: %s", text, td_status_name(document.status), document.error.text);
    td_arena_fini(&document.arena);
}

static void good_documents_are_read(void **state)
{
    static const char *const pairs[][2] = {
        {"null", "null"},
        {" \t\r\n true \t\r\n ", "true"},
        {"false", "false"},
        {"0", "0"},
        {"-0", "0"},
        {"-0.0", "-0.0"},
        {"9223372036854775807", "9223372036854775807"},
        {"-9223372036854775808", "-9223372036854775808"},
        {"9223372036854775808", "9.223372036854776e+18"},
        {"18446744073709551615", "1.8446744073709552e+19"},
        {"1.5", "1.5"},
        {"1E2", "100.0"},
        {"1e+2", "100.0"},
        {"1e-2", "0.01"},
        {"123.456e-1", "12.3456"},
        {"0.1", "0.1"},
        {"1e-400", "0.0"},
        {"5e-324", "5e-324"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"\"\"", "\"\""},
        {"[]", "[]"},
        {"{}", "{}"},
        {" [ 1 , [ ] , { } ] ", "[1,[],{}]"},
        {"{\"a\":1,\"b\":{\"a\":null},\"\":[true]}", "{\"a\":1,\"b\":{\"a\":null},\"\":[true]}"},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\/\\b\\f\\n\\r\\t\""},
        {"\"\\u0041\\u00e9\\u4E2d\\uD83D\\ude00\"", "\"A\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\""},
        {"\"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\x7f\"",
         "\"\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\x7f\""},
        {"\"a\\u0000b\\u001f\"", "\"a\\u0000b\\u001f\""},
        {"\"a long string with \\\"one\\\" pair of quotes and \\u20ac\"",
         "\"a long string with \\\"one\\\" pair of quotes and \xe2\x82\xac\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        assert_reads_as(pairs[i][0], pairs[i][1]);
}

static void bad_documents_are_refused_with_offset_and_reason(void **state)
{
    static const struct {
        const char *text;
        const char *reason;
    } cases[] = {
        {"", "byte 0: a value is expected here"},
        {"   ", "byte 3: a value is expected here"},
        {"nul", "byte 0: a value is expected here"},
        {"True", "byte 0: a value is expected here"},
        {"NaN", "byte 0: a value is expected here"},
        {"Infinity", "byte 0: a value is expected here"},
        {"'a'", "byte 0: a value is expected here"},
        {"\xef\xbb\xbf{}", "byte 0: a value is expected here"},
        {"// x\n1", "byte 0: a value is expected here"},
        {"nullx", "byte 4: the document has ended, but the text goes on"},
        {"1 2", "byte 2: the document has ended, but the text goes on"},
        {"{}{}", "byte 2: the document has ended, but the text goes on"},
        {"[1]]", "byte 3: the document has ended, but the text goes on"},
        {"01", "byte 1: the document has ended, but the text goes on"},
        {"-", "byte 0: a number needs digits here"},
        {"-a", "byte 0: a number needs digits here"},
        {"+1", "byte 0: a value is expected here"},
        {".5", "byte 0: a value is expected here"},
        {"1.", "byte 0: a number needs digits here"},
        {"1.e5", "byte 0: a number needs digits here"},
        {"1e", "byte 0: a number needs digits here"},
        {"1e+", "byte 0: a number needs digits here"},
        {"0x10", "byte 1: the document has ended, but the text goes on"},
        {"1e400", "byte 0: the number is too large"},
        {"-1e400", "byte 0: the number is too large"},
        {"[", "byte 1: a value is expected here"},
        {"[1", "byte 2: ',' or ']' is expected here"},
        {"[1,", "byte 3: a value is expected here"},
        {"[1,]", "byte 3: a value is expected here"},
        {"[,1]", "byte 1: a value is expected here"},
        {"[1 2]", "byte 3: ',' or ']' is expected here"},
        {"[1}", "byte 2: ',' or ']' is expected here"},
        {"{", "byte 1: a key in quotes is expected here"},
        {"{a:1}", "byte 1: a key in quotes is expected here"},
        {"{1:1}", "byte 1: a key in quotes is expected here"},
        {"{\"a\"}", "byte 4: ':' is expected here"},
        {"{\"a\" 1}", "byte 5: ':' is expected here"},
        {"{\"a\":}", "byte 5: a value is expected here"},
        {"{\"a\":1,}", "byte 7: a key in quotes is expected here"},
        {"{\"a\":1]", "byte 6: ',' or '}' is expected here"},
        {"{\"a\":1,\"a\":2}", "byte 7: this key was there before in the same object"},
        {"{\"a\":1,\"\\u0061\":2}", "byte 7: this key was there before in the same object"},
        {"\"abc", "byte 4: the text ends inside a string"},
        {"\"abc\\", "byte 4: this is no escape, or half a surrogate pair"},
        {"\"abc\\\"", "byte 6: the text ends inside a string"},
        {"\"\\x41\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"\\u12\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"\\u12g4\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"ab\\ud800\"", "byte 3: this is no escape, or half a surrogate pair"},
        {"\"\\ud800x\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"\\ud800\\u0041\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"\\udc00\\ud800\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"\\ud800\\ud800\"", "byte 1: this is no escape, or half a surrogate pair"},
        {"\"tab\there\"", "byte 4: a control character inside a string must be escaped"},
        {"\"line\nhere\"", "byte 5: a control character inside a string must be escaped"},
        {"\"\xff\"", "byte 1: this is not UTF-8"},
        {"\"a\xc3\"", "byte 2: this is not UTF-8"},
        {"\"\xc0\xaf\"", "byte 1: this is not UTF-8"},
        {"\"\xed\xa0\x80\"", "byte 1: this is not UTF-8"},
        {"\"\xf4\x90\x80\x80\"", "byte 1: this is not UTF-8"},
        {"{\"\xff\":1}", "byte 2: this is not UTF-8"},
        {"[\"\xc3\xa9\"\xc3\xa9]", "byte 5: ',' or ']' is expected here"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_refused(cases[i].text, TD_INVALID, cases[i].reason);
}

static void a_nul_byte_is_not_the_end_of_the_text(void **state)
{
    struct document document = parse_within("1\0", 2, &limits);

    (void)state;
    assert_int_equal(document.status, TD_INVALID);
    assert_string_equal(document.error.text,
                        "byte 1: the document has ended, but the text goes on");
    td_arena_fini(&document.arena);
    document = parse_within("\"a\0b\"", 5, &limits);
    assert_int_equal(document.status, TD_INVALID);
    td_arena_fini(&document.arena);
    document = parse_within("\"\\\0\"", 4, &limits);
    assert_int_equal(document.status, TD_INVALID);
    td_arena_fini(&document.arena);
}

static void special_bytes_are_found_at_every_place_of_a_word(void **state)
{
    (void)state;
    for (size_t before = 0; before < 40; before++) {
        char text[64];
        struct document document;

        memset(text, 'a', sizeof text);
        text[0] = '"';
        text[1 + before] = '"';
        document = parse_within(text, before + 2, &limits);
        assert_int_equal(document.status, TD_OK);
        assert_int_equal(document.root->string.length, before);
        assert_int_equal(document.root->string.bytes[before], '\0');
        td_arena_fini(&document.arena);
        text[1 + before] = '\x1f';
        document = parse_within(text, sizeof text, &limits);
        assert_int_equal(document.status, TD_INVALID);
        td_arena_fini(&document.arena);
        text[1 + before] = (char)0x80;
        document = parse_within(text, sizeof text, &limits);
        assert_int_equal(document.status, TD_INVALID);
        td_arena_fini(&document.arena);
    }
}

static void no_prefix_of_a_container_is_a_document(void **state)
{
    static const char text[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                               "\"caf\\u00e9 \xc3\xa9\"}],\"n\":-1.5e+3,\"x\":[true,false,null]}";

    (void)state;
    for (size_t length = 0; length < sizeof text - 1; length++) {
        struct document document = parse_within(text, length, &limits);

        assert_int_equal(document.status, TD_INVALID);
        td_arena_fini(&document.arena);
    }
    assert_reads_as(text, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                          "\"caf\xc3\xa9 \xc3\xa9\"}],\"n\":-1500.0,\"x\":[true,false,null]}");
}

/* {"k0":0,"k1":1,...} with the last key replaced. */
static char *object_of(size_t count, const char *last_key)
{
    char *text = malloc(count * 24 + 64);
    size_t length = 0;

    assert_non_null(text);
    text[length++] = '{';
    for (size_t i = 0; i + 1 < count; i++)
        length += (size_t)sprintf(text + length, "\"k%zu\":%zu,", i, i);
    sprintf(text + length, "\"%s\":0}", last_key);
    return text;
}

static void duplicate_keys_are_found_in_objects_of_every_size(void **state)
{
    (void)state;
    for (size_t count = 2; count < 300; count++) {
        for (size_t twin = 0; twin + 1 < count; twin += count / 5 + 1) {
            char key[32];
            struct document document;
            char *text;

            snprintf(key, sizeof key, "k%zu", twin);
            text = object_of(count, key);
            document = parse(text);
            assert_int_equal(document.status, TD_INVALID);
            assert_non_null(strstr(document.error.text, "this key was there before"));
            td_arena_fini(&document.arena);
            free(text);
        }
    }
}

static void large_objects_and_equal_keys_in_different_objects_are_fine(void **state)
{
    char *inner = object_of(100, "last");
    struct td_buf text;
    struct document document;

    (void)state;
    td_buf_init(&text, 1 << 22);
    td_buf_append_text(&text, "[");
    for (int i = 0; i < 100; i++)
        td_buf_printf(&text, "%s%s", i > 0 ? "," : "", inner);
    td_buf_append_text(&text, "]");
    document = parse_within(text.data, text.length, &limits);
    assert_int_equal(document.status, TD_OK);
    assert_int_equal(document.root->items.count, 100);
    td_json_for_each(object, document.root)
    {
        assert_int_equal(object->items.count, 100);
        assert_int_equal(td_json_find(object, "k57")->integer, 57);
        assert_null(td_json_find(object, "k570"));
    }
    td_arena_fini(&document.arena);
    td_buf_fini(&text);
    free(inner);
}

static char *nested(size_t depth)
{
    char *text = malloc(2 * depth + 1);

    assert_non_null(text);
    for (size_t i = 0; i < depth; i++) {
        text[i] = '[';
        text[depth + i] = ']';
    }
    text[2 * depth] = '\0';
    return text;
}

static void limits_hold_at_the_limit_and_one_beyond(void **state)
{
    struct td_json_limits small = {.bytes_max = 20, .nodes_max = 5, .depth_max = 3};
    struct document document;
    char *text;

    (void)state;
    text = nested(64);
    document = parse(text);
    assert_int_equal(document.status, TD_OK);
    td_arena_fini(&document.arena);
    free(text);
    text = nested(65);
    assert_refused(text, TD_LIMIT, "byte 64: nested deeper than 64");
    free(text);

    document = parse_within("[[[1]]]             ", 20, &small);
    assert_int_equal(document.status, TD_OK);
    td_arena_fini(&document.arena);
    document = parse_within("[[[1]]]              ", 21, &small);
    assert_string_equal(document.error.text, "the document has 21 bytes, more than 20");
    assert_int_equal(document.status, TD_LIMIT);
    td_arena_fini(&document.arena);
    document = parse_within("[1,2,3,4]", 9, &small);
    assert_int_equal(document.status, TD_OK);
    td_arena_fini(&document.arena);
    document = parse_within("[1,2,3,4,5]", 11, &small);
    assert_string_equal(document.error.text, "byte 9: the document has more than 5 values");
    assert_int_equal(document.status, TD_LIMIT);
    td_arena_fini(&document.arena);
    document = parse_within("[[{\"a\":1}]]", 11, &small);
    assert_int_equal(document.status, TD_OK);
    td_arena_fini(&document.arena);
    document = parse_within("[[{\"a\":[]}]]", 12, &small);
    assert_string_equal(document.error.text, "byte 7: nested deeper than 3");
    td_arena_fini(&document.arena);
}

static void a_number_has_at_most_256_characters(void **state)
{
    char text[300];
    struct document document;

    (void)state;
    memset(text, '1', sizeof text);
    text[1] = '.';
    document = parse_within(text, 256, &limits);
    assert_int_equal(document.status, TD_OK);
    assert_true(document.root->number == 10.0 / 9);
    td_arena_fini(&document.arena);
    document = parse_within(text, 257, &limits);
    assert_int_equal(document.status, TD_LIMIT);
    assert_string_equal(document.error.text, "byte 0: the number has more than 256 characters");
    td_arena_fini(&document.arena);
}

static void an_arena_that_is_too_small_is_a_clear_error_at_every_size(void **state)
{
    static const char text[] = "{\"a\":[1,\"two\",{\"three\":\"four \\u00e9\"}],\"b\":\"five\","
                               "\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1}";
    const struct td_json *root = NULL;
    size_t needed = 0;

    (void)state;
    for (size_t bytes = 0; root == NULL; bytes += 16) {
        struct td_error error = {0};
        struct td_arena arena;
        td_status_t status;

        td_arena_init(&arena, bytes);
        status = td_json_parse(&arena, td_span_of(text), &limits, &root, &error);
        assert_true(status == TD_OK || status == TD_LIMIT);
        if (status == TD_LIMIT)
            assert_non_null(strstr(error.text, "takes too much memory"));
        needed = bytes;
        td_arena_fini(&arena);
    }
    assert_true(needed <= td_json_arena_bytes(&(struct td_json_limits){.bytes_max = sizeof text - 1,
                                                                       .nodes_max = 16}));
}

/* ------------------------------------------------------------------------------------------- */

static struct document fields;

static int read_fields(void **state)
{
    (void)state;
    fields = parse("{\"yes\":true,\"int\":5,\"integral\":5.0,\"float\":0.5,\"big\":1e17,"
                   "\"huge\":18446744073709551615,\"text\":\"a\\u0000b\",\"none\":null,"
                   "\"list\":[1,2],\"map\":{\"k\":1}}");
    return fields.status;
}

static int free_fields(void **state)
{
    (void)state;
    td_arena_fini(&fields.arena);
    return 0;
}

static struct td_json_field field(const char *name)
{
    return td_json_get(fields.root, name);
}

static void absent_and_null_leave_the_default(void **state)
{
    struct td_error error = {0};
    int64_t integer = 77;
    double number = 0.25;
    bool boolean = true;
    struct td_span text = td_span_of("default");
    const struct td_json *node = fields.root;

    (void)state;
    for (int i = 0; i < 2; i++) {
        const char *name = i == 0 ? "absent" : "none";

        assert_int_equal(td_json_int(field(name), 0, 1, &integer, &error), TD_OK);
        assert_int_equal(td_json_number(field(name), 1, 2, &number, &error), TD_OK);
        assert_int_equal(td_json_bool(field(name), &boolean, &error), TD_OK);
        assert_int_equal(td_json_string(field(name), &text, &error), TD_OK);
        assert_int_equal(td_json_array(field(name), &node, &error), TD_OK);
        assert_int_equal(td_json_object(field(name), &node, &error), TD_OK);
    }
    assert_int_equal(error.status, TD_OK);
    assert_int_equal(integer, 77);
    assert_true(number == 0.25 && boolean && node == fields.root);
    assert_true(td_span_is(text, "default"));
}

static void fields_are_read_with_type_and_range(void **state)
{
    struct td_error error = {0};
    int64_t integer = 0;
    double number = 0;
    bool boolean = false;
    struct td_span text;
    const struct td_json *node;

    (void)state;
    assert_int_equal(td_json_bool(field("yes"), &boolean, &error), TD_OK);
    assert_true(boolean);
    assert_int_equal(td_json_int(field("int"), 5, 5, &integer, &error), TD_OK);
    assert_int_equal(integer, 5);
    assert_int_equal(td_json_int(field("integral"), 5, 5, &integer, &error), TD_OK);
    assert_int_equal(td_json_number(field("int"), 5, 5, &number, &error), TD_OK);
    assert_true(number == 5);
    assert_int_equal(td_json_number(field("float"), 0, 1, &number, &error), TD_OK);
    assert_true(number == 0.5);
    assert_int_equal(td_json_string(field("text"), &text, &error), TD_OK);
    assert_int_equal(text.length, 3);
    assert_memory_equal(text.bytes, "a\0b", 4);
    assert_int_equal(td_json_array(field("list"), &node, &error), TD_OK);
    assert_int_equal(node->items.count, 2);
    assert_int_equal(td_json_object(field("map"), &node, &error), TD_OK);
    assert_string_equal(node->items.first->key.bytes, "k");
}

#define assert_field_error(call, expected)         \
    do {                                           \
        struct td_error error = {0};               \
                                                   \
        assert_int_equal(call, TD_INVALID);        \
        assert_string_equal(error.text, expected); \
    } while (0)

static void wrong_types_and_ranges_name_the_field(void **state)
{
    int64_t integer;
    double number;
    bool boolean;
    struct td_span text;
    const struct td_json *node;

    (void)state;
    assert_field_error(td_json_int(field("int"), 6, 9, &integer, &error),
                       "'int' must be an integer from 6 to 9");
    assert_field_error(td_json_int(field("int"), -9, 4, &integer, &error),
                       "'int' must be an integer from -9 to 4");
    assert_field_error(td_json_int(field("float"), 0, 9, &integer, &error),
                       "'float' must be an integer from 0 to 9");
    assert_field_error(td_json_int(field("big"), 0, INT64_MAX, &integer, &error),
                       "'big' must be an integer from 0 to 9223372036854775807");
    assert_field_error(td_json_int(field("huge"), 0, INT64_MAX, &integer, &error),
                       "'huge' must be an integer from 0 to 9223372036854775807");
    assert_field_error(td_json_int(field("text"), 0, 9, &integer, &error),
                       "'text' must be an integer from 0 to 9");
    assert_field_error(td_json_number(field("int"), 0, 2, &number, &error),
                       "'int' must be a number from 0 to 2");
    assert_field_error(td_json_number(field("yes"), 0, 2, &number, &error),
                       "'yes' must be a number, not a boolean");
    assert_field_error(td_json_bool(field("int"), &boolean, &error),
                       "'int' must be a boolean, not an integer");
    assert_field_error(td_json_string(field("list"), &text, &error),
                       "'list' must be a string, not an array");
    assert_field_error(td_json_array(field("map"), &node, &error),
                       "'map' must be an array, not an object");
    assert_field_error(td_json_object(field("float"), &node, &error),
                       "'float' must be an object, not a number");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_documents_are_read),
        cmocka_unit_test(bad_documents_are_refused_with_offset_and_reason),
        cmocka_unit_test(a_nul_byte_is_not_the_end_of_the_text),
        cmocka_unit_test(special_bytes_are_found_at_every_place_of_a_word),
        cmocka_unit_test(no_prefix_of_a_container_is_a_document),
        cmocka_unit_test(duplicate_keys_are_found_in_objects_of_every_size),
        cmocka_unit_test(large_objects_and_equal_keys_in_different_objects_are_fine),
        cmocka_unit_test(limits_hold_at_the_limit_and_one_beyond),
        cmocka_unit_test(a_number_has_at_most_256_characters),
        cmocka_unit_test(an_arena_that_is_too_small_is_a_clear_error_at_every_size),
        cmocka_unit_test(absent_and_null_leave_the_default),
        cmocka_unit_test(fields_are_read_with_type_and_range),
        cmocka_unit_test(wrong_types_and_ranges_name_the_field),
    };

    return cmocka_run_group_tests(tests, read_fields, free_fields);
}
