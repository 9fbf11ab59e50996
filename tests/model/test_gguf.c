/*
 * test_gguf.c: model files are read as if they came from an enemy: every error is found, and names the
 * key, the tensor or the offset; what is right is read right.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "model/map.h"
#include "tests/model/gguf_build.h"

/* A file with a key of every kind, and three tensors with a gap for alignment between them. */
static struct gguf_bytes make_file(uint32_t version)
{
    static const char *const words[] = {"one", "", "three"};
    static const float values[64] = {1.0f, 2.0f};
    const int8_t i8 = -8;
    const int16_t i16 = -1600;
    const int32_t i32 = -320000;
    const int64_t i64 = -1;
    const uint8_t u8 = 200;
    const uint16_t u16 = 60000;
    const uint64_t u64 = UINT64_C(1) << 40;
    const uint8_t yes = 1;
    const double f64 = 0.25;
    struct gguf_build build;

    gguf_build_init(&build);
    build.version = version;
    gguf_build_text(&build, "general.architecture", "llama");
    gguf_build_scalar(&build, "a.i8", MODEL_GGUF_I8, &i8, sizeof i8);
    gguf_build_scalar(&build, "a.i16", MODEL_GGUF_I16, &i16, sizeof i16);
    gguf_build_scalar(&build, "a.i32", MODEL_GGUF_I32, &i32, sizeof i32);
    gguf_build_scalar(&build, "a.i64", MODEL_GGUF_I64, &i64, sizeof i64);
    gguf_build_scalar(&build, "a.u8", MODEL_GGUF_U8, &u8, sizeof u8);
    gguf_build_scalar(&build, "a.u16", MODEL_GGUF_U16, &u16, sizeof u16);
    gguf_build_u32(&build, "a.u32", 4000000000u);
    gguf_build_scalar(&build, "a.u64", MODEL_GGUF_U64, &u64, sizeof u64);
    gguf_build_scalar(&build, "a.yes", MODEL_GGUF_BOOL, &yes, sizeof yes);
    gguf_build_f32(&build, "a.f32", 0.5f);
    gguf_build_scalar(&build, "a.f64", MODEL_GGUF_F64, &f64, sizeof f64);
    gguf_build_texts(&build, "a.words", words, 3);
    gguf_build_u32(&build, "general.alignment", 64);
    build.alignment = 64;
    gguf_build_tensor(&build, "first.weight", MODEL_TYPE_F32, 5, 3, values);
    gguf_build_tensor(&build, "second.weight", MODEL_TYPE_Q4_1, 32, 2, values);
    gguf_build_tensor(&build, "third.weight", MODEL_TYPE_F32, 7, 0, values);
    return gguf_build_finish(&build);
}

/* Parses an exact copy, so that a sanitizer sees every byte that is read beyond. */
static td_status_t parse(const uint8_t *bytes, size_t length, struct model_gguf **file_out,
                         uint8_t **copy_out, struct td_error *error)
{
    *copy_out = malloc(length + (length == 0));
    assert_non_null(*copy_out);
    memcpy(*copy_out, bytes, length);
    *error = (struct td_error){0};
    *file_out = NULL;
    return model_gguf_parse(*copy_out, length, file_out, error);
}

static bool names_a_place(const char *text)
{
    return strstr(text, "offset ") != NULL || strstr(text, "key ") != NULL ||
           strstr(text, "tensor ") != NULL;
}

static void assert_refused(const struct gguf_bytes *file, td_status_t status, const char *part)
{
    struct model_gguf *parsed;
    struct td_error error;
    uint8_t *copy;
    td_status_t actual = parse(file->bytes, file->length, &parsed, &copy, &error);

    if (actual != status || strstr(error.text, part) == NULL || !names_a_place(error.text))
        fail_msg("expected status %d with \"%s\", got %d: %s", (int)status, part, (int)actual,
                 error.text);
    assert_null(parsed);
    free(copy);
}

/* ---- what is right ---- */

static void check_integers(const struct model_gguf *file)
{
    struct td_error error = {0};
    uint32_t value = 7;

    assert_int_equal(model_gguf_get_u32(file, "a.u8", &value, &error), TD_OK);
    assert_int_equal(value, 200);
    assert_int_equal(model_gguf_get_u32(file, "a.u16", &value, &error), TD_OK);
    assert_int_equal(value, 60000);
    assert_int_equal(model_gguf_get_u32(file, "a.u32", &value, &error), TD_OK);
    assert_int_equal(value, 4000000000u);
    assert_int_equal(model_gguf_get_u32(file, "a.none", &value, &error), TD_NOT_FOUND);
    assert_int_equal(error.text[0], '\0');
    assert_int_equal(model_gguf_get_u32(file, "a.u64", &value, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "a.u64"));
    for (const char *const *key = (const char *const[]){"a.i8", "a.i16", "a.i32", "a.i64", "a.f32",
                                                        "a.yes", "a.words", NULL};
         *key != NULL; key++) {
        assert_int_equal(model_gguf_get_u32(file, *key, &value, &error), TD_INVALID);
        assert_non_null(strstr(error.text, *key));
    }
    assert_int_equal(value, 4000000000u); /* outputs only on success */
}

static void check_others(const struct model_gguf *file)
{
    struct td_error error = {0};
    const struct model_gguf_value *words;
    struct td_span text;
    size_t cursor = 0;
    float number = 0.0f;
    bool flag = false;

    assert_int_equal(model_gguf_get_f32(file, "a.f32", &number, &error), TD_OK);
    assert_true(number == 0.5f);
    assert_int_equal(model_gguf_get_f32(file, "a.f64", &number, &error), TD_OK);
    assert_true(number == 0.25f);
    assert_int_equal(model_gguf_get_f32(file, "a.u8", &number, &error), TD_INVALID);
    assert_int_equal(model_gguf_get_bool(file, "a.yes", &flag, &error), TD_OK);
    assert_true(flag);
    assert_int_equal(model_gguf_get_bool(file, "a.u8", &flag, &error), TD_INVALID);
    assert_int_equal(model_gguf_get_text(file, "general.architecture", &text, &error), TD_OK);
    assert_true(td_span_is(text, "llama"));
    assert_int_equal(model_gguf_get_text(file, "a.u8", &text, &error), TD_INVALID);
    assert_int_equal(model_gguf_get_array(file, "a.words", MODEL_GGUF_I32, &words, &error),
                     TD_INVALID);
    assert_int_equal(model_gguf_get_array(file, "a.u8", MODEL_GGUF_STRING, &words, &error),
                     TD_INVALID);
    assert_int_equal(model_gguf_get_array(file, "a.words", MODEL_GGUF_STRING, &words, &error),
                     TD_OK);
    assert_int_equal(words->count, 3);
    assert_true(td_span_is(model_gguf_next_string(words, &cursor), "one"));
    assert_true(td_span_is(model_gguf_next_string(words, &cursor), ""));
    assert_true(td_span_is(model_gguf_next_string(words, &cursor), "three"));
    assert_int_equal(cursor, words->length);
}

static void check_tensors(const struct model_gguf *file)
{
    const struct model_gguf_tensor *first = model_gguf_tensor(file, "first.weight");
    const struct model_gguf_tensor *second = model_gguf_tensor(file, "second.weight");
    size_t length;
    const uint8_t *bytes = model_gguf_part(file, 0, &length);

    assert_int_equal(model_gguf_tensor_count(file), 3);
    assert_null(model_gguf_tensor(file, "first"));
    assert_null(model_gguf_tensor_at(file, 3));
    assert_ptr_equal(model_gguf_tensor_at(file, 0), first);
    assert_int_equal(first->rank, 2);
    assert_int_equal(first->dims[0], 5);
    assert_int_equal(first->dims[1], 3);
    assert_int_equal(first->dims[2], 1);
    assert_int_equal(first->bytes, 60);
    assert_int_equal(second->row_bytes, MODEL_Q4_1_BYTES);
    assert_int_equal(second->data - first->data, 64);
    assert_int_equal((first->data - bytes) % 64, 0);
}

static void a_right_file_is_read_right(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct gguf_bytes file = make_file(version);
        struct model_gguf *parsed;
        struct td_error error;
        uint8_t *copy;

        if (parse(file.bytes, file.length, &parsed, &copy, &error) != TD_OK)
            fail_msg("%s", error.text);
        check_integers(parsed);
        check_others(parsed);
        check_tensors(parsed);
        model_gguf_close(parsed);
        free(copy);
        free(file.bytes);
    }
}

/* ---- what is cut off ---- */

static void a_file_that_ends_anywhere_is_refused_with_the_place(void **state)
{
    struct gguf_bytes file = make_file(3);

    (void)state;
    for (size_t length = 0; length < file.length; length++) {
        struct gguf_bytes part = {.bytes = file.bytes, .length = length};

        assert_refused(&part, TD_INVALID, length >= file.header_length ? "tensor " : "");
    }
    free(file.bytes);
}

/* Parses the file with so many more bytes behind it. */
static td_status_t parse_with(const struct gguf_bytes *file, size_t more, struct td_error *error)
{
    uint8_t *longer = calloc(file->length + more, 1);
    struct model_gguf *parsed;
    uint8_t *copy;
    td_status_t status;

    assert_non_null(longer);
    memcpy(longer, file->bytes, file->length);
    status = parse(longer, file->length + more, &parsed, &copy, error);
    model_gguf_close(parsed);
    free(copy);
    free(longer);
    return status;
}

/* As a file that was written over a longer one, or has a terabyte of nothing at its end. */
static void a_file_with_more_than_padding_behind_its_tensors_is_refused(void **state)
{
    struct gguf_bytes file = make_file(3); /* aligned to 64 */
    struct td_error error;

    (void)state;
    assert_int_equal(parse_with(&file, 63, &error), TD_OK);
    assert_int_equal(parse_with(&file, 64, &error), TD_INVALID);
    assert_non_null(strstr(error.text, ": 64 bytes that belong to no tensor"));
    assert_int_equal(parse_with(&file, 1 << 20, &error), TD_INVALID);
    free(file.bytes);
}

static void the_tiny_model_cut_at_any_place_of_its_header_is_refused(void **state)
{
    size_t length;
    char *bytes = test_read_file(test_data_path("tiny-llama/model.gguf"), &length);
    struct model_gguf *file;
    struct td_error error;
    uint8_t *copy;
    size_t data;

    (void)state;
    assert_int_equal(parse((uint8_t *)bytes, length, &file, &copy, &error), TD_OK);
    data = (size_t)(model_gguf_tensor_at(file, 0)->data - copy);
    model_gguf_close(file);
    free(copy);
    for (size_t cut = 0; cut < data; cut += cut < 4096 || data - cut < 4096 ? 1 : 97) {
        struct gguf_bytes part = {.bytes = (uint8_t *)bytes, .length = cut};

        assert_refused(&part, TD_INVALID, "");
    }
    free(bytes);
}

/* ---- what is wrong ---- */

static void put(struct gguf_bytes *file, size_t offset, uint64_t value, size_t size)
{
    assert_in_range(offset + size, 0, file->length);
    memcpy(file->bytes + offset, &value, size);
}

/* A fresh file with one number changed: `size` bytes, `behind` bytes after the end of `text`. */
static void check_change(const char *text, int behind, uint64_t value, size_t size,
                         td_status_t status, const char *part)
{
    struct gguf_bytes file = make_file(3);

    put(&file, gguf_bytes_behind(&file, text) + (size_t)behind, value, size);
    assert_refused(&file, status, part);
    free(file.bytes);
}

static void heads_that_are_wrong_are_refused(void **state)
{
    (void)state;
    check_change("GGUF", 0, 1, 4, TD_UNSUPPORTED, "version 1");
    check_change("GGUF", 0, 4, 4, TD_UNSUPPORTED, "version 4");
    check_change("GGUF", 0, 0x03000000, 4, TD_UNSUPPORTED, "big-endian");
    check_change("GGUF", -1, 'X', 1, TD_INVALID, "offset 0");
    check_change("GGUF", 4, UINT64_MAX, 8, TD_LIMIT, "tensors");
    check_change("GGUF", 4, 65536, 8, TD_INVALID, "tensors");
    check_change("GGUF", 12, UINT64_MAX, 8, TD_LIMIT, "keys");
    check_change("GGUF", 12, 65536, 8, TD_INVALID, "keys");
    check_change("GGUF", 12, 15, 8, TD_INVALID, ""); /* a tensor is no key */
    check_change("GGUF", 4, 4, 8, TD_INVALID, "");
}

static void keys_that_are_wrong_are_refused(void **state)
{
    (void)state;
    check_change("a.i16", 0, 13, 4, TD_INVALID, "a.i16");
    check_change("a.i16", 0, UINT32_MAX, 4, TD_INVALID, "a.i16");
    check_change("llama", -5 - 8, UINT64_MAX, 8, TD_INVALID, "general.architecture");
    check_change("llama", -5 - 8, UINT64_MAX - 64, 8, TD_INVALID, "general.architecture");
    check_change("a.words", 4, MODEL_GGUF_ARRAY, 4, TD_INVALID, "a.words");
    check_change("a.words", 4, 99, 4, TD_INVALID, "a.words");
    check_change("a.words", 8, UINT64_MAX, 8, TD_INVALID, "a.words");
    check_change("a.words", 8, UINT64_MAX / 8, 8, TD_INVALID, "a.words");
    check_change("a.words", 8, 100, 8, TD_INVALID, "a.words");
    check_change("a.words", 16, UINT64_MAX, 8, TD_INVALID, "a.words");
    check_change("general.alignment", 4, 0, 4, TD_INVALID, "general.alignment");
    check_change("general.alignment", 4, 4, 4, TD_INVALID, "general.alignment");
    check_change("general.alignment", 4, 48, 4, TD_INVALID, "general.alignment");
    check_change("general.alignment", 4, 1u << 17, 4, TD_INVALID, "general.alignment");
    check_change("general.alignment", 4, 1u << 31, 4, TD_INVALID, "general.alignment");
    check_change("general.alignment", 0, MODEL_GGUF_F32, 4, TD_INVALID, "general.alignment");
}

static void names_that_are_wrong_are_refused(void **state)
{
    (void)state;
    check_change("a.i", 0, '\n', 1, TD_INVALID, "printable");
    check_change("a.i", 0, 0xff, 1, TD_INVALID, "printable");
    check_change("a.i8", -4 - 8, 0, 8, TD_INVALID, "0 bytes");
    check_change("a.i8", -4 - 8, 256, 8, TD_INVALID, "256 bytes");
    check_change("a.u16", -3, 'i', 1, TD_INVALID, "key a.i16 appears twice");
    check_change("first.weight", -12 - 8, 64, 8, TD_INVALID, "name of a tensor");
    check_change("first.weight", -12 - 8, 0, 8, TD_INVALID, "name of a tensor");
    check_change("first.weight", -1, '\0', 1, TD_INVALID, "printable");
}

static void tensors_that_are_wrong_are_refused(void **state)
{
    (void)state;
    /* behind the name: rank u32, dims u64 x 2, type u32, offset u64 */
    check_change("first.weight", 0, 0, 4, TD_INVALID, "first.weight has 0 dimensions");
    check_change("first.weight", 0, 5, 4, TD_INVALID, "first.weight has 5 dimensions");
    check_change("first.weight", 4, 0, 8, TD_INVALID, "first.weight: dimension 0");
    check_change("first.weight", 12, 0, 8, TD_INVALID, "first.weight: dimension 1");
    check_change("first.weight", 4, UINT64_MAX, 8, TD_INVALID, "first.weight: dimension 0");
    check_change("first.weight", 4, INT64_MAX, 8, TD_INVALID, "first.weight");
    check_change("first.weight", 12, INT64_MAX, 8, TD_INVALID, "first.weight: its size overflows");
    check_change("first.weight", 12, UINT64_C(1) << 59, 8, TD_INVALID, "second.weight: offset");
    check_change("first.weight", 12, UINT64_C(1) << 40, 8, TD_INVALID, "second.weight: offset");
    check_change("first.weight", 20, 43, 4, TD_INVALID, "first.weight has unknown type 43");
    check_change("first.weight", 20, 4, 4, TD_INVALID, "first.weight has unknown type 4");
    check_change("first.weight", 20, 40, 4, TD_UNSUPPORTED, "NVFP4");
    check_change("first.weight", 20, 2, 4, TD_INVALID, "first.weight: a row of 5 values");
    check_change("second.weight", 4, 33, 8, TD_INVALID, "second.weight: a row of 33 values");
    check_change("first.weight", 24, 64, 8, TD_INVALID, "first.weight: offset 64");
    check_change("second.weight", 24, 0, 8, TD_INVALID, "second.weight: offset 0"); /* overlaps */
    check_change("second.weight", 24, 128, 8, TD_INVALID, "second.weight: offset 128"); /* a hole */
    check_change("second.weight", 24, UINT64_MAX, 8, TD_INVALID, "second.weight: offset");
    check_change("third.weight", 4, 64, 8, TD_INVALID, "third.weight: its 256 bytes");
    check_change("third.weight", 4, UINT64_C(1) << 61, 8, TD_INVALID, "third.weight");
}

static void two_tensors_of_one_name_are_refused(void **state)
{
    static const float values[4] = {0};
    struct gguf_build build;
    struct gguf_bytes file;

    (void)state;
    gguf_build_init(&build);
    gguf_build_tensor(&build, "same", MODEL_TYPE_F32, 4, 0, values);
    gguf_build_tensor(&build, "same", MODEL_TYPE_F32, 4, 0, values);
    file = gguf_build_finish(&build);
    assert_refused(&file, TD_INVALID, "tensor same appears twice");
    free(file.bytes);
}

/* Any bytes may be changed: either all is well, or there is an error that says where. */
static void random_changes_are_read_or_refused(void **state)
{
    struct gguf_bytes file = make_file(3);
    uint8_t *changed = malloc(file.length);
    struct td_rng rng;

    (void)state;
    assert_non_null(changed);
    td_rng_init(&rng, 5);
    for (int round = 0; round < 20000; round++) {
        struct model_gguf *parsed;
        struct td_error error;
        uint8_t *copy;

        memcpy(changed, file.bytes, file.length);
        for (uint64_t n = 1 + td_rng_below(&rng, 3); n > 0; n--)
            changed[td_rng_below(&rng, file.header_length)] = (uint8_t)td_rng_next(&rng);
        if (parse(changed, file.length, &parsed, &copy, &error) != TD_OK)
            assert_true(names_a_place(error.text));
        model_gguf_close(parsed);
        free(copy);
    }
    free(changed);
    free(file.bytes);
}

/* ---- files ---- */

static void paths_that_are_no_models_are_refused_by_name(void **state)
{
    char empty[] = "/tmp/tandem-gguf-XXXXXX";
    int fd = mkstemp(empty);
    struct model_gguf *file;
    struct td_error error = {0};

    (void)state;
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(model_gguf_open("/nonexistent/model.gguf", &file, &error), TD_IO);
    assert_non_null(strstr(error.text, "/nonexistent/model.gguf"));
    assert_int_equal(model_gguf_open("/tmp", &file, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "no regular file"));
    assert_int_equal(model_gguf_open(empty, &file, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "empty"));
    assert_int_equal(model_gguf_open("CMakeLists.txt", &file, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "CMakeLists.txt"));
    assert_non_null(strstr(error.text, "offset 0"));
    unlink(empty);
}

/* In the child: maps the file, has it shrink, and reads what is gone. */
static void read_what_is_gone(const char *path)
{
    struct model_gguf *file;
    const volatile uint8_t *bytes;
    size_t length;

    if (model_map_install_sigbus(NULL) != TD_OK || model_gguf_open(path, &file, NULL) != TD_OK)
        _exit(1);
    bytes = model_gguf_part(file, 0, &length);
    if (truncate(path, 0) != 0)
        _exit(2);
    (void)bytes[length - 1];
    _exit(3);
}

static void a_file_that_shrinks_ends_the_process_with_a_message(void **state)
{
    char path[] = "/tmp/tandem-gguf-XXXXXX";
    struct gguf_bytes bytes = make_file(3);
    char said[512] = "";
    int fd = mkstemp(path);
    int output[2];
    int status;
    pid_t child;

    (void)state;
    assert_true(fd >= 0 && pipe(output) == 0);
    assert_int_equal(write(fd, bytes.bytes, bytes.length), bytes.length);
    close(fd);
    child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(output[1], STDERR_FILENO);
        read_what_is_gone(path);
    }
    close(output[1]);
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(read(output[0], said, sizeof said - 1) > 0);
    close(output[0]);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 74);
    assert_non_null(strstr(said, "truncated"));
    unlink(path);
    free(bytes.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_right_file_is_read_right),
        cmocka_unit_test(a_file_that_ends_anywhere_is_refused_with_the_place),
        cmocka_unit_test(a_file_with_more_than_padding_behind_its_tensors_is_refused),
        cmocka_unit_test(the_tiny_model_cut_at_any_place_of_its_header_is_refused),
        cmocka_unit_test(heads_that_are_wrong_are_refused),
        cmocka_unit_test(keys_that_are_wrong_are_refused),
        cmocka_unit_test(names_that_are_wrong_are_refused),
        cmocka_unit_test(tensors_that_are_wrong_are_refused),
        cmocka_unit_test(two_tensors_of_one_name_are_refused),
        cmocka_unit_test(random_changes_are_read_or_refused),
        cmocka_unit_test(paths_that_are_no_models_are_refused_by_name),
        cmocka_unit_test(a_file_that_shrinks_ends_the_process_with_a_message),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
