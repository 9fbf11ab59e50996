/* test_safetensors.c: right files are read right; wrong ones are refused with tensor or offset. */
#include "model/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "model/quant.h"
#include "tests/support/support.h"

/* A file in memory: malloc of its exact size, so that a sanitizer watches its end. */
struct bytes {
    uint8_t *data;
    size_t length;
};

/* The header as it is given, and so many bytes 0, 1, 2, ... of data. */
static struct bytes make_file(const char *header, size_t data_length)
{
    uint64_t header_length = strlen(header);
    struct bytes file = {.length = 8 + header_length + data_length};

    file.data = malloc(file.length);
    assert_non_null(file.data);
    memcpy(file.data, &header_length, 8);
    memcpy(file.data + 8, header, header_length);
    for (size_t i = 0; i < data_length; i++)
        file.data[8 + header_length + i] = (uint8_t)i;
    return file;
}

static bool names_a_place(const char *text)
{
    return strstr(text, "offset ") != NULL || strstr(text, "header") != NULL ||
           strstr(text, "tensor ") != NULL;
}

static void assert_bytes_refused(struct bytes file, td_status_t status, const char *part)
{
    struct model_safetensors *parsed = NULL;
    struct td_error error = {0};
    td_status_t actual = model_safetensors_parse(file.data, file.length, &parsed, &error);

    if (actual != status || strstr(error.text, part) == NULL || !names_a_place(error.text))
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(parsed);
}

static void assert_refused(const char *header, size_t data_length, td_status_t status,
                           const char *part)
{
    struct bytes file = make_file(header, data_length);

    assert_bytes_refused(file, status, part);
    free(file.data);
}

/* ---- what is right ---- */

static const char right[] =
    "{\"__metadata__\":{\"format\":\"pt\"},"
    "\"b\":{\"dtype\":\"BF16\",\"shape\":[2,3],\"data_offsets\":[5,17]},"
    "\"a\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
    "\"one\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[17,21]},"
    "\"none\":{\"dtype\":\"F16\",\"shape\":[0,7],\"data_offsets\":[17,17]},"
    "\"c.weight\":{\"shape\":[1,1,2,1],\"data_offsets\":[21,25],\"dtype\":\"F16\"}}   ";

static void a_right_file_is_read_right(void **state)
{
    struct bytes file = make_file(right, 25);
    struct model_safetensors *parsed = NULL;
    struct td_error error = {0};
    const struct model_safetensors_tensor *tensor;
    const uint8_t *data = file.data + file.length - 25;

    (void)state;
    if (model_safetensors_parse(file.data, file.length, &parsed, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(model_safetensors_count(parsed), 5);
    assert_null(model_safetensors_at(parsed, 5));
    assert_null(model_safetensors_tensor(parsed, "__metadata__"));
    assert_string_equal(model_safetensors_at(parsed, 0)->name, "a");
    tensor = model_safetensors_tensor(parsed, "a");
    assert_int_equal(tensor->type, MODEL_SAFETENSORS_NO_TYPE);
    assert_string_equal(tensor->dtype, "U8");
    assert_ptr_equal(tensor->data, data);
    tensor = model_safetensors_tensor(parsed, "b"); /* at an odd address */
    assert_int_equal(tensor->type, MODEL_TYPE_BF16);
    assert_int_equal(tensor->rank, 2);
    assert_int_equal(tensor->dims[0], 2);
    assert_int_equal(tensor->dims[1], 3);
    assert_int_equal(tensor->dims[2], 1);
    assert_int_equal(tensor->bytes, 12);
    assert_ptr_equal(tensor->data, data + 5);
    tensor = model_safetensors_tensor(parsed, "one");
    assert_int_equal(tensor->rank, 0);
    assert_int_equal(tensor->bytes, 4);
    assert_int_equal(model_safetensors_tensor(parsed, "none")->bytes, 0);
    assert_int_equal(model_safetensors_tensor(parsed, "c.weight")->type, MODEL_TYPE_F16);
    model_safetensors_close(parsed);
    free(file.data);
}

static void a_file_without_tensors_is_a_file(void **state)
{
    struct bytes file = make_file("{}", 0);
    struct model_safetensors *parsed = NULL;

    (void)state;
    assert_int_equal(model_safetensors_parse(file.data, file.length, &parsed, NULL), TD_OK);
    assert_int_equal(model_safetensors_count(parsed), 0);
    assert_null(model_safetensors_tensor(parsed, "a"));
    model_safetensors_close(parsed);
    free(file.data);
}

static void the_digest_is_of_every_byte(void **state)
{
    struct bytes file = make_file(right, 25);
    struct model_safetensors *parsed = NULL;
    struct td_u128 before;
    struct td_u128 after;

    (void)state;
    assert_int_equal(model_safetensors_parse(file.data, file.length, &parsed, NULL), TD_OK);
    before = model_safetensors_digest(parsed, (struct td_u128){1, 2});
    assert_false(td_u128_equal(before, model_safetensors_digest(parsed, (struct td_u128){1, 3})));
    file.data[file.length - 1] ^= 1;
    after = model_safetensors_digest(parsed, (struct td_u128){1, 2});
    assert_false(td_u128_equal(before, after));
    model_safetensors_close(parsed);
    free(file.data);
}

/* ---- what is cut off ---- */

static void a_file_that_ends_anywhere_is_refused_with_the_place(void **state)
{
    struct bytes file = make_file(right, 25);

    (void)state;
    for (size_t length = 0; length < file.length; length++) {
        struct bytes part = {.data = malloc(length + (length == 0)), .length = length};

        memcpy(part.data, file.data, length);
        assert_bytes_refused(part, TD_INVALID, length >= file.length - 25 ? "tensor " : "offset ");
        free(part.data);
    }
    free(file.data);
}

static void a_file_that_is_too_long_is_refused(void **state)
{
    (void)state;
    assert_refused(right, 26, TD_INVALID, "1 bytes that belong to no tensor");
    assert_refused("{}", 1, TD_INVALID, "belong to no tensor");
}

/* ---- what is wrong ---- */

static void headers_that_are_wrong_are_refused(void **state)
{
    struct bytes file = make_file("{}", 0);
    uint64_t length = MODEL_SAFETENSORS_HEADER_BYTES_MAX + 1;

    (void)state;
    memcpy(file.data, &length, 8);
    assert_bytes_refused(file, TD_LIMIT, "at most 100000000");
    memcpy(file.data, "GGUF\3\0\0\0", 8);
    assert_bytes_refused(file, TD_LIMIT, "no safetensors file");
    memset(file.data, 0xff, 8);
    assert_bytes_refused(file, TD_LIMIT, "18446744073709551615");
    length = 3;
    memcpy(file.data, &length, 8);
    assert_bytes_refused(file, TD_INVALID, "past the end");
    free(file.data);
    assert_refused("", 4, TD_INVALID, "no header");
    assert_refused(" {}", 0, TD_INVALID, "no header");
    assert_refused("[]", 0, TD_INVALID, "no header");
    assert_refused("{} {}", 0, TD_INVALID, "offset 8");
    assert_refused("{\"a\":[[[[[1]]]]]}", 0, TD_LIMIT, "nested");
    assert_refused("{\"a\":1}", 0, TD_INVALID, "tensor a");
    assert_refused("{\"a\":null}", 0, TD_INVALID, "tensor a");
    assert_refused("{\"\":{}}", 0, TD_INVALID, "the name of a tensor");
    assert_refused("{\"a\\u0000b\":{}}", 0, TD_INVALID, "the name of a tensor");
    assert_refused("{\"a\\nb\":{}}", 0, TD_INVALID, "the name of a tensor");
}

/* One tensor `t` over eight bytes, with the given members. */
static void check_tensor(const char *members, td_status_t status, const char *part)
{
    char header[512];

    snprintf(header, sizeof header, "{\"t\":{%s}}", members);
    assert_refused(header, 8, status, part);
}

static void tensors_that_are_wrong_are_refused(void **state)
{
    (void)state;
    check_tensor("", TD_INVALID, "tensor t has no dtype");
    check_tensor("\"dtype\":7", TD_INVALID, "tensor t has no dtype");
    check_tensor("\"dtype\":\"Q4\"", TD_UNSUPPORTED, "tensor t has a dtype that is not known");
    check_tensor("\"dtype\":\"F32\"", TD_INVALID, "tensor t has no shape");
    check_tensor("\"dtype\":\"F32\",\"shape\":2", TD_INVALID, "tensor t has no shape");
    check_tensor("\"dtype\":\"F32\",\"shape\":[1,1,1,1,2]", TD_UNSUPPORTED,
                 "tensor t has 5 dimensions");
    check_tensor("\"dtype\":\"F32\",\"shape\":[1,-2]", TD_INVALID, "tensor t: dimension 1");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2.5]", TD_INVALID, "tensor t: dimension 0");
    check_tensor("\"dtype\":\"F32\",\"shape\":[18446744073709551615]", TD_INVALID,
                 "tensor t: dimension 0");
    check_tensor("\"dtype\":\"F32\",\"shape\":[9223372036854775807]", TD_INVALID, "overflows");
    check_tensor("\"dtype\":\"F32\",\"shape\":[4294967296,4294967296]", TD_INVALID, "overflows");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2]", TD_INVALID, "tensor t has no two data_offsets");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0]", TD_INVALID,
                 "tensor t has no two data_offsets");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4,8]", TD_INVALID,
                 "tensor t has no two data_offsets");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[-8,0]", TD_INVALID,
                 "no rising counts");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,0]", TD_INVALID,
                 "no rising counts");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9223372036854775807]",
                 TD_INVALID, "past the end of the file");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,9]", TD_INVALID,
                 "past the end of the file");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,7]", TD_INVALID,
                 "7 bytes of data where its shape needs 8");
    check_tensor("\"dtype\":\"F32\",\"shape\":[0,2],\"data_offsets\":[0,8]", TD_INVALID,
                 "8 bytes of data where its shape needs 0");
    check_tensor("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]", TD_INVALID,
                 "leave a hole");
    check_tensor("\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]", TD_INVALID,
                 "4 bytes that belong to no tensor");
    check_tensor("\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8],\"strides\":[1]",
                 TD_UNSUPPORTED, "a key besides");
}

static void tensors_that_overlap_or_repeat_are_refused(void **state)
{
    (void)state;
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[2,6]}}",
                   6, TD_INVALID, "tensor b: offset");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
                   4, TD_INVALID, "tensors overlap");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[2,2]}}",
                   4, TD_INVALID, "tensor e: offset");
    assert_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                   "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}",
                   8, TD_INVALID, "this key was there before");
}

static void a_header_with_too_many_tensors_is_refused(void **state)
{
    size_t count = MODEL_SAFETENSORS_TENSORS_MAX + 1;
    char *header = malloc(count * 16 + 8);
    size_t length = 1;

    (void)state;
    assert_non_null(header);
    header[0] = '{';
    for (size_t i = 0; i < count; i++)
        length += (size_t)sprintf(header + length, "\"%zu\":0,", i);
    header[length - 1] = '}';
    header[length] = '\0';
    assert_refused(header, 0, TD_LIMIT, "65537 tensors");
    free(header);
}

/* Any bytes may be changed: either all is well, or there is an error that says where. */
static void random_changes_are_read_or_refused(void **state)
{
    struct td_rng random;

    (void)state;
    td_rng_init(&random, 7);
    for (int round = 0; round < 20000; round++) {
        struct bytes file = make_file(right, 25);
        struct model_safetensors *parsed = NULL;
        struct td_error error = {0};

        for (uint32_t changes = 1 + (uint32_t)td_rng_below(&random, 3); changes > 0; changes--)
            file.data[td_rng_below(&random, file.length)] = (uint8_t)td_rng_below(&random, 256);
        if (model_safetensors_parse(file.data, file.length, &parsed, &error) == TD_OK)
            model_safetensors_close(parsed);
        else
            assert_true(names_a_place(error.text));
        free(file.data);
    }
}

/* ---- files ---- */

static void files_that_cannot_be_mapped_are_refused_by_name(void **state)
{
    struct model_safetensors *parsed = NULL;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(model_safetensors_open("no/such.safetensors", &parsed, &error), TD_IO);
    assert_non_null(strstr(error.text, "no/such.safetensors"));
    assert_int_equal(
        model_safetensors_open(test_data_path("tiny-llama/golden.json"), &parsed, &error),
        TD_LIMIT);
    assert_non_null(strstr(error.text, "golden.json"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_file_is_read_right),
        cmocka_unit_test(a_file_without_tensors_is_a_file),
        cmocka_unit_test(the_digest_is_of_every_byte),
        cmocka_unit_test(a_file_that_ends_anywhere_is_refused_with_the_place),
        cmocka_unit_test(a_file_that_is_too_long_is_refused),
        cmocka_unit_test(headers_that_are_wrong_are_refused),
        cmocka_unit_test(tensors_that_are_wrong_are_refused),
        cmocka_unit_test(tensors_that_overlap_or_repeat_are_refused),
        cmocka_unit_test(a_header_with_too_many_tensors_is_refused),
        cmocka_unit_test(random_changes_are_read_or_refused),
        cmocka_unit_test(files_that_cannot_be_mapped_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
