/*
 * test_pretokenize.c: character classes and pre-tokenizers against PCRE2, which runs the regular
 * expressions that define them.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/base/utf8.h"
#include "lib/text/pretokenize.h"
#include "lib/text/unicode.h"
#include "tests/support/support.h"

/* White_Space spelled out: PCRE2's \s also has U+180E, which lost the property in Unicode 6.3. */
#define S                                                                                       \
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}" \
    "\\x{205f}\\x{3000}"
#define G                                                                                          \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" S "\\p{L}\\p{N}]+|[" S "]+(?![^" S "])|[" S \
    "]+"
#define L(digits)                                                                  \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^" S \
    "\\p{L}\\p{N}]+[\\r\\n]*|[" S "]*[\\r\\n]+|[" S "]+(?![^" S "])|[" S "]+"

/* PCRE2 is slow here, and slower under a sanitizer. */
#define STRINGS     (TEST_IS_SANITIZED ? 3000 : 16000) /* for each name */
#define PIECES_MAX  64
#define CODE_POINTS 0x110000

static pcre2_code *compile(const char *pattern)
{
    int number;
    PCRE2_SIZE offset;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_UTF | PCRE2_UCP, &number, &offset, NULL);

    if (code == NULL)
        fail_msg("pattern: error %d at %zu", number, offset);
    return code;
}

/* The end of the match that begins at `at` in text[0..length); 0: none. */
static size_t match_end(const pcre2_code *code, const char *text, size_t length, size_t at)
{
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    int count = pcre2_match(code, (PCRE2_SPTR)text, length, at, PCRE2_ANCHORED | PCRE2_NO_UTF_CHECK,
                            match, NULL);
    size_t end = count > 0 ? pcre2_get_ovector_pointer(match)[1] : 0;

    pcre2_match_data_free(match);
    return end;
}

static enum text_class class_of(uint32_t character)
{
    char bytes[TD_UTF8_BYTES_MAX];
    size_t length = td_utf8_encode(character, bytes);
    size_t taken;
    enum text_class class = text_class_at((const uint8_t *)bytes, length, &taken);

    assert_int_equal(taken, length);
    return class;
}

static bool is_surrogate(uint32_t character)
{
    return character >= 0xD800 && character <= 0xDFFF;
}

/* What PCRE2 says of one character: 'L', 'N', 'S', 'R' (CR, LF), 'C' (unassigned) or '.'. */
static char pcre2_class(const pcre2_code *const *codes, uint32_t character)
{
    char bytes[TD_UTF8_BYTES_MAX];
    size_t length = td_utf8_encode(character, bytes);

    for (size_t i = 0; i < 5; i++)
        if (match_end(codes[i], bytes, length, 0) > 0)
            return "LNRSC"[i];
    return '.';
}

static void the_unicode_version_is_the_recorded_one(void **state)
{
    (void)state;
    assert_string_equal(text_unicode_version(), TEXT_UNICODE_VERSION);
}

/* The two libraries may be of different versions: they must agree on what both have assigned. */
static void classes_are_those_of_pcre2(void **state)
{
    static const char ours[] = {'.', 'L', 'N', 'S', 'R'};
    pcre2_code *codes[] = {compile("\\p{L}"), compile("\\p{N}"), compile("[\\r\\n]"),
                           compile("[" S "]"), compile("\\p{Cn}")};
    unsigned newer = 0;

    (void)state;
    for (uint32_t character = 0; character < CODE_POINTS; character++) {
        char theirs;

        if (is_surrogate(character))
            continue;
        theirs = pcre2_class((const pcre2_code *const *)codes, character);
        if (theirs == 'C')
            newer += class_of(character) != TEXT_CLASS_OTHER;
        else if (theirs != ours[class_of(character)])
            fail_msg("U+%04X: PCRE2 says %c", character, theirs);
    }
    print_message("%u letters and numbers are newer than PCRE2's tables\n", newer);
    for (size_t i = 0; i < 5; i++)
        pcre2_code_free(codes[i]);
}

/* ------------------------------------------------------------------------------------------- */

/* A random string of pieces that pre-tokenizers treat specially, and of random characters. */
static size_t random_string(struct td_rng *rng, const pcre2_code *unassigned, char *out)
{
    static const char *const pieces[] = {
        " ",       "  ",      "\n",     "\r\n",   "\t",       "\v",         "a",    "B",
        "é",       "ß",       "1",      "22",     "٣",        "½",          "'s",   "'S",
        "'re",     "'VE",     "'ll",    "'d",     "'m",       "'t",         "'",    "’s",
        "'\u017f", "'\u212a", ".",      "!!",     "—",        "€",          "😀",    "\u0301",
        "\u200d",  "\u00a0",  "\u2003", "\u3000", "\u180e",   "\u1680",     "世",   "界",
        "\u0378",  "\ue000",  "\u2028", "\x1c",   "\xC2\x85", "<|im_end|>", "ab'c",
    };
    size_t count = td_rng_below(rng, PIECES_MAX);
    size_t length = 0;

    for (size_t i = 0; i < count; i++) {
        const char *piece = pieces[td_rng_below(rng, sizeof pieces / sizeof pieces[0])];
        uint32_t character;
        size_t bytes;

        if (td_rng_below(rng, 5) > 0) {
            memcpy(out + length, piece, strlen(piece));
            length += strlen(piece);
            continue;
        }
        character = (uint32_t)td_rng_below(rng, td_rng_below(rng, 2) == 0 ? 0x3000 : CODE_POINTS);
        if (is_surrogate(character))
            continue;
        bytes = td_utf8_encode(character, out + length);
        if (match_end(unassigned, out + length, bytes, 0) == 0)
            length += bytes;
    }
    return length;
}

/* Runs of what the expressions count and look ahead at: spaces, newlines, digits of all kinds, marks, quotes. */
static size_t random_runs(struct td_rng *rng, char *out)
{
    static const char *const pieces[] = {
        " ", "\n", "\r",      "\r\n", "\t",  "\u00a0", "\xC2\x85", "\u3000",     "\u2028", "\x1f",
        "0", "9",  "٣",       "²",    "Ⅷ",   "〇",     "½",        "\U0001D7D8", "ʰ",      "ª",
        "'", "'s", "'\u017f", "'RE",  "'ll", "'l",     "'v",       "\u0301",     "\u0903", "\u200d",
        "ǅ", "x",  "Ж",       "한",   "。",  "_",      "-",        "\u00ad",     "\ufeff", "🎉",
    };
    size_t length = 0;

    for (size_t runs = td_rng_below(rng, PIECES_MAX / 8); runs > 0; runs--) {
        const char *piece = pieces[td_rng_below(rng, sizeof pieces / sizeof pieces[0])];

        for (size_t count = 1 + td_rng_below(rng, 7); count > 0; count--) {
            memcpy(out + length, piece, strlen(piece));
            length += strlen(piece);
        }
    }
    return length;
}

/* smollm: numbers alone, G on each stretch between them. */
static size_t smollm_end(const pcre2_code *g, const pcre2_code *number, const char *text,
                         size_t length, size_t at)
{
    size_t end = match_end(number, text, length, at);
    size_t stretch = at;

    if (end > 0)
        return end;
    while (stretch < length && match_end(number, text, length, stretch) == 0)
        stretch += td_utf8_character(text + stretch, length - stretch);
    return match_end(g, text, stretch, at);
}

struct oracle {
    pcre2_code *pattern;
    pcre2_code *number;
    pcre2_code *unassigned;
    bool numbers_alone;
};

static void compare_string(const struct oracle *oracle, const struct text_pretokenizer *ours,
                           const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t end = ours->next((const uint8_t *)text, length, at);
        size_t expected = oracle->numbers_alone
                              ? smollm_end(oracle->pattern, oracle->number, text, length, at)
                              : match_end(oracle->pattern, text, length, at);

        if (end != expected)
            fail_msg("%s: piece at %zu ends at %zu, must be %zu: '%.*s'", ours->name, at, end,
                     expected, (int)length, text);
        at = end;
    }
}

static void compare(const char *name, const char *pattern, bool numbers_alone, uint64_t seed)
{
    struct oracle oracle = {compile(pattern), compile("\\p{N}"), compile("\\p{Cn}"), numbers_alone};
    const struct text_pretokenizer *ours;
    char text[PIECES_MAX * 12];
    struct td_rng rng;

    assert_int_equal(text_pretokenizer_find(td_span_of(name), &ours, NULL), TD_OK);
    td_rng_init(&rng, seed);
    for (unsigned i = 0; i < STRINGS; i++) {
        size_t length =
            i % 2 == 0 ? random_string(&rng, oracle.unassigned, text) : random_runs(&rng, text);

        assert_true(length < sizeof text);
        compare_string(&oracle, ours, text, length);
    }
    pcre2_code_free(oracle.pattern);
    pcre2_code_free(oracle.number);
    pcre2_code_free(oracle.unassigned);
}

static void every_pretokenizer_cuts_as_its_expression_does(void **state)
{
    static const struct {
        const char *name;
        const char *pattern;
        bool numbers_alone;
    } families[] = {
        {"gpt-2", G, false},
        {"smollm", G, true},
        {"starcoder", G, true},
        {"refact", G, true},
        {"llama-bpe", L("\\p{N}{1,3}"), false},
        {"llama3", L("\\p{N}{1,3}"), false},
        {"llama-v3", L("\\p{N}{1,3}"), false},
        {"qwen2", L("\\p{N}"), false},
        {"deepseek-r1-qwen", L("\\p{N}"), false},
    };
    const struct text_pretokenizer *known;

    (void)state;
    for (size_t i = 0; (known = text_pretokenizer_at(i)) != NULL; i++) {
        size_t place = 0;

        while (place < sizeof families / sizeof families[0] &&
               strcmp(families[place].name, known->name) != 0)
            place++;
        if (place == sizeof families / sizeof families[0])
            fail_msg("no expression for the pre-tokenizer %s", known->name);
        compare(known->name, families[place].pattern, families[place].numbers_alone, (uint64_t)i);
    }
}

/* ------------------------------------------------------------------------------------------- */

static void bytes_that_are_no_text_are_cut_within_bounds(void **state)
{
    static const char *const names[] = {"gpt-2", "smollm", "llama-bpe", "qwen2"};
    static const char common[] = "' s\n1\xC5\xBF\xE2";
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 2);
    for (unsigned round = 0; round < 4000; round++) {
        const struct text_pretokenizer *ours;
        size_t length = td_rng_below(&rng, 40);
        uint8_t *text = malloc(length > 0 ? length : 1); /* exact: ASan sees a byte too far */

        assert_non_null(text);
        for (size_t i = 0; i < length; i++)
            text[i] = (uint8_t)(td_rng_below(&rng, 3) == 0 ? (char)td_rng_below(&rng, 256)
                                                           : common[td_rng_below(&rng, 8)]);
        assert_int_equal(text_pretokenizer_find(td_span_of(names[round % 4]), &ours, NULL), TD_OK);
        for (size_t at = 0; at < length;) {
            size_t end = ours->next(text, length, at);

            assert_in_range(end, at + 1, length);
            at = end;
        }
        free(text);
    }
}

static void an_unknown_name_is_refused_by_name(void **state)
{
    const struct text_pretokenizer *ours;
    struct td_error error;

    (void)state;
    assert_int_equal(text_pretokenizer_find(td_span_of("tekken"), &ours, &error), TD_UNSUPPORTED);
    assert_string_equal(error.text, "pre-tokenizer 'tekken' is not known");
    assert_int_equal(text_pretokenizer_find(td_span_of(""), &ours, &error), TD_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_unicode_version_is_the_recorded_one),
        cmocka_unit_test(classes_are_those_of_pcre2),
        cmocka_unit_test(every_pretokenizer_cuts_as_its_expression_does),
        cmocka_unit_test(bytes_that_are_no_text_are_cut_within_bounds),
        cmocka_unit_test(an_unknown_name_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
