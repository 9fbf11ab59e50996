/*
 * test_stream.c: what happens to an answer on its way out: ids to whole characters, and stop strings.
 * Both against naive models of what they should do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/base/utf8.h"
#include "lib/text/detokenize.h"
#include "lib/text/stop.h"
#include "tests/text/text_support.h"

#define R        TD_UTF8_REPLACEMENT
#define TEXT_MAX 256
#define EOT_ID   1023 /* of tiny-llama: <|eot_id|>, a control token */

/* ------------------------------------------------------------------------------------------- */
/* Detokenizing */

/* The ids of single bytes, found by asking for each. */
static void byte_ids(const struct text_model *model, uint32_t ids[static 256])
{
    uint32_t found = 0;

    for (uint32_t id = 0; id < text_model_token_count(model); id++) {
        struct td_span token = text_model_token(model, id);

        if (token.length == 1 && !text_model_is_hidden(model, id)) {
            ids[(uint8_t)token.bytes[0]] = id;
            found++;
        }
    }
    assert_int_equal(found, 256);
}

/* The text of the bytes, each as an id of its own. */
static void detokenize_bytes(const struct text_model *model, const char *bytes, size_t length,
                             struct td_buf *out)
{
    struct text_detokenizer detokenizer;
    uint32_t ids[256];

    byte_ids(model, ids);
    td_buf_clear(out);
    text_detokenizer_init(&detokenizer, model);
    for (size_t i = 0; i < length; i++)
        text_detokenizer_push(&detokenizer, ids[(uint8_t)bytes[i]], out);
    text_detokenizer_finish(&detokenizer, out);
    assert_int_equal(out->status, TD_OK);
}

static void bytes_that_are_no_characters_become_replacements(void **state)
{
    /* what Python's bytes.decode("utf-8", "replace") gives */
    static const struct {
        const char *bytes;
        const char *text;
    } cases[] = {
        {"plain", "plain"},
        {"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "ä€😀"},
        {"\xc3", R},
        {"\xe2\x82", R},
        {"\xf0\x9f\x98", R},
        {"\xf0\x9f\x98x", R "x"},
        {"\xe2\xe2\x82\xac", R "€"},
        {"\x80\xbf", R R},
        {"\xc0\xaf", R R},
        {"\xe0\x80\x80", R R R},
        {"\xed\xa0\x80", R R R},
        {"\xf4\x90\x80\x80", R R R R},
        {"\xf8\xff", R R},
        {"a\xf1\x80\x80\xe1\x80\xc2"
         "b\x80"
         "c",
         "a" R R R "b" R "c"}, /* Unicode, table 3-11 */
    };
    struct text_model *model = test_open_tiny_llama();
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        detokenize_bytes(model, cases[i].bytes, strlen(cases[i].bytes), &out);
        assert_string_equal(out.data, cases[i].text);
    }
    td_buf_fini(&out);
    text_model_close(model);
}

static size_t random_bytes(struct td_rng *rng, char *out, size_t length)
{
    static const char nasty[] = "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\xed\xa0\xf4\x90 ab";

    for (size_t i = 0; i < length; i++)
        out[i] = nasty[td_rng_below(rng, sizeof nasty - 1)];
    return length;
}

/* The ids of the bytes as the tokenizer cuts them, and one by one: the text must be the same. */
static void the_text_does_not_depend_on_how_ids_divide_it(void **state)
{
    struct text_model *model = test_open_tiny_llama();
    struct text_detokenizer detokenizer;
    struct td_buf whole;
    struct td_buf out;
    char bytes[TEXT_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 5);
    td_buf_init(&whole, 4096);
    td_buf_init(&out, 4096);
    for (int round = 0; round < 2000; round++) {
        size_t length = random_bytes(&rng, bytes, td_rng_below(&rng, 60));
        struct text_tokens tokens;

        detokenize_bytes(model, bytes, length, &whole);
        text_tokens_init(&tokens, TEXT_MAX);
        assert_int_equal(text_encode(model, bytes, length, 0, &tokens), TD_OK);
        td_buf_clear(&out);
        text_detokenizer_init(&detokenizer, model);
        for (uint32_t i = 0; i < tokens.count; i++)
            text_detokenizer_push(&detokenizer, tokens.ids[i], &out);
        text_detokenizer_finish(&detokenizer, &out);
        test_assert_text(td_span_over(out.data, out.length), td_span_over(whole.data, whole.length),
                         "divided otherwise");
        text_tokens_fini(&tokens);
    }
    td_buf_fini(&whole);
    td_buf_fini(&out);
    text_model_close(model);
}

static void only_an_unfinished_character_is_held_back(void **state)
{
    static const char text[] = "aä€😀";
    static const size_t given[] = {1, 1, 3, 3, 3, 6, 6, 6, 6, 10}; /* after each byte */
    struct text_model *model = test_open_tiny_llama();
    struct text_detokenizer detokenizer;
    uint32_t ids[256];
    struct td_buf out;

    (void)state;
    byte_ids(model, ids);
    td_buf_init(&out, 4096);
    text_detokenizer_init(&detokenizer, model);
    for (size_t i = 0; i < strlen(text); i++) {
        text_detokenizer_push(&detokenizer, ids[(uint8_t)text[i]], &out);
        assert_int_equal(out.length, given[i]);
    }
    assert_string_equal(out.data, text);
    td_buf_fini(&out);
    text_model_close(model);
}

static void control_tokens_and_unknown_ids_leave_no_trace(void **state)
{
    struct text_model *model = test_open_tiny_llama();
    struct text_detokenizer detokenizer;
    uint32_t ids[256];
    struct td_buf out;

    (void)state;
    byte_ids(model, ids);
    td_buf_init(&out, 4096);
    text_detokenizer_init(&detokenizer, model);
    text_detokenizer_push(&detokenizer, ids[0xc3], &out);
    text_detokenizer_push(&detokenizer, EOT_ID, &out); /* in the middle of a character */
    text_detokenizer_push(&detokenizer, UINT32_MAX, &out);
    text_detokenizer_push(&detokenizer, text_model_token_count(model), &out);
    assert_int_equal(out.length, 0);
    text_detokenizer_push(&detokenizer, ids[0xa4], &out);
    text_detokenizer_finish(&detokenizer, &out);
    assert_string_equal(out.data, "ä");
    td_buf_fini(&out);
    text_model_close(model);
}

/* SentencePiece spells what it has no token for in byte tokens: 3 and up in this model. */
#define BYTE_ID(byte) (3u + (uint8_t)(byte))

static void byte_tokens_are_characters_when_they_are_whole(void **state)
{
    static const struct {
        const char *bytes;
        bool then_a;
        const char *text;
    } cases[] = {
        {"\xe2\x82\xac", true, "€a"}, {"\xe2\x82", true, R "a"},          {"\xe2\x82", false, R},
        {"\xff\x41", false, R "A"},   {"\xc3\xe2\x82\xac", true, R "€a"}, {"\n", true, "\na"},
    };
    struct text_model *model = test_open_tokenizer("tiny_llama2");
    struct text_detokenizer detokenizer;
    struct text_tokens a;
    struct td_buf out;

    (void)state;
    text_tokens_init(&a, TEXT_MAX);
    assert_int_equal(text_encode(model, "xa", 2, 0, &a), TD_OK);
    td_buf_init(&out, 4096);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        td_buf_clear(&out);
        text_detokenizer_init(&detokenizer, model);
        for (size_t k = 0; k < strlen(cases[i].bytes); k++)
            text_detokenizer_push(&detokenizer, BYTE_ID(cases[i].bytes[k]), &out);
        if (cases[i].then_a)
            text_detokenizer_push(&detokenizer, a.ids[a.count - 1], &out);
        text_detokenizer_finish(&detokenizer, &out);
        assert_string_equal(out.data, cases[i].text);
    }
    td_buf_fini(&out);
    text_tokens_fini(&a);
    text_model_close(model);
}

static void the_space_in_front_of_a_text_is_left_out_of_it(void **state)
{
    struct text_model *model = test_open_tokenizer("tiny_llama2");
    struct text_detokenizer detokenizer;
    struct text_tokens tokens;
    struct td_buf out;

    (void)state;
    text_tokens_init(&tokens, TEXT_MAX);
    assert_int_equal(text_encode(model, "the the", 7, TEXT_ADD_SPECIAL, &tokens), TD_OK);
    assert_int_equal(tokens.ids[0], text_model_bos(model));
    td_buf_init(&out, 4096);
    for (unsigned continues = 0; continues < 2; continues++) {
        td_buf_clear(&out);
        text_detokenizer_init(&detokenizer, model);
        if (continues)
            text_detokenizer_continue(&detokenizer);
        for (uint32_t i = 0; i < tokens.count; i++)
            text_detokenizer_push(&detokenizer, tokens.ids[i], &out);
        text_detokenizer_finish(&detokenizer, &out);
        assert_string_equal(out.data, continues ? " the the" : "the the");
    }
    td_buf_fini(&out);
    text_tokens_fini(&tokens);
    text_model_close(model);
}

/* ------------------------------------------------------------------------------------------- */
/* Stop strings */

struct stops {
    struct td_span strings[TEXT_STOPS_MAX];
    uint32_t count;
};

static bool ends_with(struct td_span text, struct td_span end)
{
    return text.length >= end.length &&
           memcmp(text.bytes + text.length - end.length, end.bytes, end.length) == 0;
}

/* How much of the first `length` bytes may be shown: naively, by looking at everything each time. */
static size_t may_show(const struct stops *stops, const char *text, size_t length, bool *found_out)
{
    size_t held = 0;

    *found_out = false;
    for (size_t end = 1; end <= length; end++) {
        size_t longest = 0;

        for (uint32_t i = 0; i < stops->count; i++)
            if (ends_with(td_span_over(text, end), stops->strings[i]) &&
                stops->strings[i].length > longest)
                longest = stops->strings[i].length;
        if (longest > 0) {
            *found_out = true;
            return end - longest;
        }
    }
    for (uint32_t i = 0; i < stops->count; i++)
        for (size_t part = 1; part < stops->strings[i].length; part++)
            if (part > held &&
                ends_with(td_span_over(text, length), td_span_over(stops->strings[i].bytes, part)))
                held = part;
    return length - held;
}

/* Pushes the text in random pieces; after each piece the output must be what the naive model shows. */
static void check_stops(const struct stops *stops, const char *text, size_t length,
                        struct td_rng *rng)
{
    struct text_stop stop;
    struct td_buf out;
    size_t shown = 0;
    bool found = false;
    size_t at = 0;

    td_buf_init(&out, 4096);
    assert_int_equal(text_stop_init(&stop, stops->strings, stops->count, NULL), TD_OK);
    while (at < length) {
        size_t piece = 1 + td_rng_below(rng, length - at);

        shown = may_show(stops, text, at + piece, &found);
        assert_int_equal(text_stop_push(&stop, text + at, piece, &out), found);
        assert_int_equal(out.length, shown);
        assert_int_equal(stop.given, shown);
        assert_true(shown == 0 || memcmp(out.data, text, shown) == 0);
        at += piece;
    }
    text_stop_finish(&stop, &out);
    assert_int_equal(out.length, found ? shown : length);
    assert_true(out.length == 0 || memcmp(out.data, text, out.length) == 0);
    td_buf_fini(&out);
}

static void stop_strings_are_found_as_the_naive_search_finds_them(void **state)
{
    char strings[TEXT_STOPS_MAX][8];
    char text[TEXT_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 6);
    for (int round = 0; round < 20000; round++) {
        size_t length = td_rng_below(&rng, 40);
        struct stops stops = {.count = (uint32_t)td_rng_below(&rng, TEXT_STOPS_MAX + 1)};

        for (uint32_t i = 0; i < stops.count; i++) {
            size_t bytes = 1 + td_rng_below(&rng, sizeof strings[i]);

            for (size_t k = 0; k < bytes; k++) /* two letters: much overlaps */
                strings[i][k] = (char)('a' + td_rng_below(&rng, 2));
            stops.strings[i] = td_span_over(strings[i], bytes);
        }
        for (size_t i = 0; i < length; i++)
            text[i] = (char)('a' + td_rng_below(&rng, 2));
        check_stops(&stops, text, length, &rng);
    }
}

static void a_stop_string_may_be_split_inside_a_character(void **state)
{
    const struct td_span string = td_span_of("ende😀");
    struct text_stop stop;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 4096);
    assert_int_equal(text_stop_init(&stop, &string, 1, NULL), TD_OK);
    assert_false(text_stop_push(&stop, "das ende\xf0\x9f", 10, &out));
    assert_string_equal(out.data, "das ");
    assert_true(text_stop_push(&stop, "\x98\x80 und mehr", 11, &out));
    assert_true(text_stop_push(&stop, "noch mehr", 9, &out));
    text_stop_finish(&stop, &out);
    assert_string_equal(out.data, "das ");
    assert_int_equal(stop.found_index, 0);
    td_buf_fini(&out);
}

static void of_strings_that_end_together_the_longest_wins(void **state)
{
    const struct td_span strings[] = {td_span_of("b"), td_span_of("aab"), td_span_of("ab")};
    struct text_stop stop;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 4096);
    assert_int_equal(text_stop_init(&stop, strings, 3, NULL), TD_OK);
    assert_true(text_stop_push(&stop, "xaaab", 5, &out));
    assert_string_equal(out.data, "xa");
    assert_int_equal(stop.found_index, 1);
    td_buf_fini(&out);
}

static void stop_strings_have_limits(void **state)
{
    static char longest[TEXT_STOP_BYTES_MAX + 1];
    struct td_span strings[TEXT_STOPS_MAX + 1];
    struct td_error error = {0};
    struct text_stop stop;

    (void)state;
    memset(longest, 'x', sizeof longest);
    for (int i = 0; i <= TEXT_STOPS_MAX; i++)
        strings[i] = td_span_over(longest, TEXT_STOP_BYTES_MAX);
    assert_int_equal(text_stop_init(&stop, strings, TEXT_STOPS_MAX, &error), TD_OK);
    assert_int_equal(text_stop_init(&stop, strings, TEXT_STOPS_MAX + 1, &error), TD_LIMIT);
    strings[2].length = TEXT_STOP_BYTES_MAX + 1;
    assert_int_equal(text_stop_init(&stop, strings, TEXT_STOPS_MAX, &error), TD_LIMIT);
    assert_non_null(strstr(error.text, "stop[2]"));
    strings[2].length = 0;
    assert_int_equal(text_stop_init(&stop, strings, TEXT_STOPS_MAX, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "stop[2]"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_that_are_no_characters_become_replacements),
        cmocka_unit_test(the_text_does_not_depend_on_how_ids_divide_it),
        cmocka_unit_test(only_an_unfinished_character_is_held_back),
        cmocka_unit_test(control_tokens_and_unknown_ids_leave_no_trace),
        cmocka_unit_test(byte_tokens_are_characters_when_they_are_whole),
        cmocka_unit_test(the_space_in_front_of_a_text_is_left_out_of_it),
        cmocka_unit_test(stop_strings_are_found_as_the_naive_search_finds_them),
        cmocka_unit_test(a_stop_string_may_be_split_inside_a_character),
        cmocka_unit_test(of_strings_that_end_together_the_longest_wins),
        cmocka_unit_test(stop_strings_have_limits),
    };

    return cmocka_run_group_tests_name("text stream", tests, NULL, NULL);
}
