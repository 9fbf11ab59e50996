/*
 * test_normalize.c: NFC against Python's unicodedata (recorded) and against utf8proc's own normalisation,
 * which we do not use as a whole because it copies everything and sorts in quadratic time.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lib/base/random.h"
#include "lib/base/utf8.h"
#include "lib/text/normalize.h"
#include "tests/text/text_support.h"

#define TEXT_MAX    (8 << 20)
#define CODE_POINTS 0x110000
#define STEP        (TEST_IS_SANITIZED ? 13 : 1) /* of the walk over all code points */

/* NFC of a text of one run. */
static void normalize(struct td_span text, struct text_prompt *out)
{
    struct text_run run = {(uint32_t)text.length, true};

    text_prompt_init(out, TEXT_MAX);
    text_nfc_append(text.bytes, text_run_place_first(&run, 1), text.length, out);
    assert_int_equal(out->text.status, TD_OK);
}

static void assert_normalizes(struct td_span text, struct td_span expected, const char *what)
{
    struct text_prompt out;

    normalize(text, &out);
    test_assert_text(td_span_over(out.text.data, out.text.length), expected, what);
    if (text_nfc_is_plain(text.bytes, 0, text.length))
        test_assert_text(text, expected, "plain text that is not normal");
    text_prompt_fini(&out);
}

static void check_line(const struct td_json *line, unsigned number, void *context)
{
    (void)number;
    (void)context;
    assert_normalizes(test_text(line, "text"), test_text(line, "nfc"), "recorded");
}

static void texts_become_what_python_makes_of_them(void **state)
{
    (void)state;
    test_each_line(test_data_path("text/nfc.jsonl"), check_line, NULL);
}

static void assert_as_utf8proc(const char *text, size_t length)
{
    utf8proc_uint8_t *expected;
    utf8proc_ssize_t bytes = utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                          &expected, UTF8PROC_STABLE | UTF8PROC_COMPOSE);

    assert_true(bytes >= 0);
    assert_normalizes(td_span_over(text, length),
                      td_span_over((const char *)expected, (size_t)bytes), "against utf8proc");
    free(expected);
}

static bool is_surrogate(uint32_t character)
{
    return character >= 0xD800 && character <= 0xDFFF;
}

/* Each alone, behind a letter, behind what it may join, and before marks. */
static void every_character_is_normalized_as_utf8proc_does(void **state)
{
    static const uint32_t around[][2] = {{0, 0},           {'a', 0},      {0, 0x301},
                                         {0x1100, 0x11A8}, {0xAC00, 0},   {0x9C7, 0x323},
                                         {0x301, 0x316},   {'K', 0x0327}, {0x3B1, 0x345}};

    (void)state;
    for (uint32_t character = 0; character < CODE_POINTS; character += STEP) {
        if (is_surrogate(character))
            continue;
        for (size_t i = 0; i < sizeof around / sizeof around[0]; i++) {
            char text[3 * TD_UTF8_BYTES_MAX];
            size_t length = 0;

            if (i > 0 && text_nfc_is_inert(character) && character > 0x20000)
                continue; /* planes of nothing but inert characters */
            if (around[i][0] != 0)
                length += td_utf8_encode(around[i][0], text + length);
            length += td_utf8_encode(character, text + length);
            if (around[i][1] != 0)
                length += td_utf8_encode(around[i][1], text + length);
            assert_as_utf8proc(text, length);
        }
    }
}

static void random_texts_are_normalized_as_utf8proc_does(void **state)
{
    static const uint32_t starts[] = {0,      0x20,   0xC0,   0x300,  0x340,  0x5B0,  0x600,
                                      0x900,  0xDD0,  0xF40,  0x1100, 0x1160, 0x1E00, 0x1F00,
                                      0x2120, 0x3040, 0x3090, 0xAC00, 0xF900, 0x1D15E};
    char text[40 * TD_UTF8_BYTES_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 8);
    for (unsigned round = 0; round < 60000 / STEP; round++) {
        size_t count = td_rng_below(&rng, 40);
        size_t length = 0;

        for (size_t i = 0; i < count; i++) {
            uint32_t start = starts[td_rng_below(&rng, sizeof starts / sizeof starts[0])];

            length += td_utf8_encode(start + (uint32_t)td_rng_below(&rng, 0x60), text + length);
        }
        assert_as_utf8proc(text, length);
    }
}

/* Marks in falling order of their classes: where sorting is quadratic this takes days. */
static void a_million_marks_are_sorted_in_time(void **state)
{
    static const char *const marks[] = {"\u0345", "\u0301", "\u0327", "\u0334"};
    size_t count = 1000000;
    char *text = malloc(2 * count + 1);
    struct text_prompt out;

    (void)state;
    assert_non_null(text);
    text[0] = 'x';
    for (size_t i = 0; i < count; i++)
        memcpy(text + 1 + 2 * i, marks[i % 4], 2);
    normalize(td_span_over(text, 2 * count + 1), &out);
    assert_int_equal(out.text.length, 2 * count + 1);
    for (size_t i = 0; i < count; i++)
        assert_memory_equal(out.text.data + 1 + 2 * i, marks[3 - i / (count / 4)], 2);
    text_prompt_fini(&out);
    free(text);
}

static void bytes_that_are_no_text_stay_as_they_are(void **state)
{
    static const char *const texts[] = {"\xff", "e\xcc", "\xcc\x81", "\xffx\xcc\x81\xe2\x82",
                                        "\xc3"};
    static const char *const normal[] = {"\xff", "e\xcc", "\xcc\x81", "\xffx\xcc\x81\xe2\x82",
                                         "\xc3"};
    struct td_rng rng;

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        assert_normalizes(td_span_of(texts[i]), td_span_of(normal[i]), "broken");
    assert_normalizes(td_span_of("\xff"
                                 "e\xcc\x81\xff\xcc\x81"),
                      td_span_of("\xff\xc3\xa9\xff\xcc\x81"), "broken around");
    td_rng_init(&rng, 9);
    for (unsigned round = 0; round < 20000; round++) {
        static const char common[] = "ae \xcc\x81\xcc\xa3\xe1\x84\x80\xe1\x85\xa1\xff\xc3";
        size_t length = 1 + td_rng_below(&rng, 24);
        char *text = malloc(length); /* exact: ASan sees a byte too far */
        struct text_prompt once;
        struct text_prompt twice;

        assert_non_null(text);
        for (size_t i = 0; i < length; i++)
            text[i] = common[td_rng_below(&rng, sizeof common - 1)];
        normalize(td_span_over(text, length), &once);
        normalize(td_span_over(once.text.data, once.text.length), &twice);
        test_assert_text(td_span_over(twice.text.data, twice.text.length),
                         td_span_over(once.text.data, once.text.length), "a second time");
        text_prompt_fini(&twice);
        text_prompt_fini(&once);
        free(text);
    }
}

/* What is made of trusted and untrusted bytes together is untrusted. */
static void trust_goes_through(void **state)
{
    struct text_prompt in;
    struct text_prompt out;

    (void)state;
    text_prompt_init(&in, 1000);
    text_prompt_append(&in, "abe", 3, true);
    text_prompt_append(&in, "\u0301x", 3, false);
    text_prompt_append(&in, "o\u0308", 3, true);
    text_prompt_append(&in, "q", 1, false);
    text_prompt_init(&out, 1000);
    text_nfc_append(in.text.data, text_run_place_first(in.runs, in.run_count), in.text.length,
                    &out);
    assert_string_equal(out.text.data, "ab\u00e9x\u00f6q");
    assert_int_equal(out.run_count, 4);
    assert_int_equal(out.runs[0].length, 2);
    assert_true(out.runs[0].trusted);
    assert_int_equal(out.runs[1].length, 3);
    assert_false(out.runs[1].trusted);
    assert_int_equal(out.runs[2].length, 2);
    assert_true(out.runs[2].trusted);
    assert_false(out.runs[3].trusted);
    text_prompt_fini(&out);
    text_prompt_fini(&in);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_become_what_python_makes_of_them),
        cmocka_unit_test(every_character_is_normalized_as_utf8proc_does),
        cmocka_unit_test(random_texts_are_normalized_as_utf8proc_does),
        cmocka_unit_test(a_million_marks_are_sorted_in_time),
        cmocka_unit_test(bytes_that_are_no_text_stay_as_they_are),
        cmocka_unit_test(trust_goes_through),
    };

    return cmocka_run_group_tests_name("normalizing", tests, NULL, NULL);
}
