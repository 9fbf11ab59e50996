/*
 * test_round_trip.c: what is encoded decodes to itself, with every tokenizer at hand; and streaming holds
 * back nothing that is certain.
 *
 * Where text is normalised, it is the normal form that comes back. SentencePiece has rules of its own:
 * U+2581 is a space, and a space at the very start is left out; encoding puts one there, but, depending on
 * the model, not before another.
 */
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "lib/base/random.h"
#include "lib/base/utf8.h"
#include "lib/text/detokenize.h"
#include "tests/text/text_support.h"

#define ROUNDS      (TEST_IS_SANITIZED ? 300 : 3000)
#define PIECES_MAX  40
#define PIECE_BYTES 16
#define IDS_MAX     100000

static size_t random_piece(struct td_rng *rng, char *out)
{
    static const char *const pieces[] = {
        " ",      "  ",           "\n",   "\t",   "▁",          "▁▁",   "the",      "Zürich",
        "'s",     "123",          "世界", "한국", "नि",         "🎉",    "👨\u200d👩", "e\u0301",
        "\u0323", "\u00e9",       "<s>",  "</s>", "<0x0A>",     "\x01", "\x7f",     "🇫🇷",
        "ﬁ",      "\u0345\u0301", "Å",    "ก็",    "<|im_end|>",
    };
    static const uint32_t ranges[] = {0x80, 0x250, 0x800, 0x3000, 0x10000, 0x110000};
    uint32_t character;

    if (td_rng_below(rng, 3) > 0) {
        const char *piece = pieces[td_rng_below(rng, sizeof pieces / sizeof pieces[0])];

        memcpy(out, piece, strlen(piece));
        return strlen(piece);
    }
    character = (uint32_t)td_rng_below(rng, ranges[td_rng_below(rng, 6)]);
    return character >= 0xD800 && character <= 0xDFFF ? 0 : td_utf8_encode(character, out);
}

static size_t random_text(struct td_rng *rng, char *out)
{
    size_t count = td_rng_below(rng, PIECES_MAX);
    size_t length = 0;

    while (count-- > 0)
        length += random_piece(rng, out + length);
    return length;
}

/* Replaces U+2581 by a space, in place; returns the new length. */
static size_t replace_marks(char *text, size_t length)
{
    size_t kept = 0;

    for (size_t at = 0; at < length; at++) {
        if (length - at >= 3 && memcmp(text + at, "▁", 3) == 0) {
            text[kept++] = ' ';
            at += 2;
        } else {
            text[kept++] = text[at];
        }
    }
    return kept;
}

/* What must come back: malloc memory. */
static char *expected_text(const struct text_source *source, const char *text, size_t length,
                           size_t *length_out)
{
    utf8proc_uint8_t *made = NULL;
    bool keeps_space = source->prefix == TEXT_PREFIX_ALWAYS || !source->strip_space;

    if (source->normalize_nfc) {
        *length_out = (size_t)utf8proc_map((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)length,
                                           &made, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
        return (char *)made;
    }
    made = malloc(length + 1);
    assert_non_null(made);
    memcpy(made, text, length);
    if (source->algorithm == TEXT_SENTENCEPIECE)
        length = replace_marks((char *)made, length);
    if (source->algorithm == TEXT_SENTENCEPIECE && !keeps_space && length > 0 && made[0] == ' ')
        memmove(made, made + 1, --length);
    *length_out = length;
    return (char *)made;
}

/* Gives the ids one by one. What has come out is whole characters, and all that the bytes so far allow. */
static void decode(const struct text_model *model, const struct text_tokens *tokens,
                   struct td_buf *out)
{
    struct text_detokenizer detokenizer;
    struct td_buf bytes;

    td_buf_init(&bytes, 1 << 20);
    text_detokenizer_init(&detokenizer, model);
    for (uint32_t i = 0; i < tokens->count; i++) {
        struct td_span token = text_model_token(model, tokens->ids[i]);
        size_t whole;

        assert_false(text_model_is_hidden(model, tokens->ids[i]));
        if (i == 0 && text_model_strips_space(model) && token.bytes[0] == ' ')
            token = td_span_over(token.bytes + 1, token.length - 1);
        td_buf_append(&bytes, token.bytes, token.length);
        text_detokenizer_push(&detokenizer, tokens->ids[i], out);
        whole = bytes.length == 0 ? 0 : td_utf8_valid_prefix(bytes.data, bytes.length);
        assert_int_equal(out->length, whole);
        assert_true(bytes.length - whole <= 3);
    }
    text_detokenizer_finish(&detokenizer, out);
    assert_int_equal(out->length, bytes.length);
    td_buf_fini(&bytes);
}

static void check_text(const struct text_model *model, const struct text_source *source,
                       const char *text, size_t length)
{
    struct text_tokens tokens;
    struct td_buf out;
    size_t expected_length;
    char *expected = expected_text(source, text, length, &expected_length);

    text_tokens_init(&tokens, IDS_MAX);
    assert_int_equal(text_encode(model, text, length, 0, &tokens), TD_OK);
    if (tokens.dropped_bytes == 0) { /* SmolLM2 has no token for some bytes, as with Hugging Face */
        td_buf_init(&out, 1 << 20);
        decode(model, &tokens, &out);
        test_assert_text(td_span_over(out.data, out.length),
                         td_span_over(expected, expected_length), "decoded");
        td_buf_fini(&out);
    }
    text_tokens_fini(&tokens);
    free(expected);
}

static void what_is_encoded_decodes_to_itself(void **state)
{
    char text[PIECES_MAX * PIECE_BYTES];
    const char *name;

    (void)state;
    for (unsigned i = 0; (name = test_tokenizer_name(i)) != NULL; i++) {
        struct test_vocabulary vocabulary;
        struct text_model *model;
        struct td_rng rng;

        if (!test_open_vocabulary(name, &vocabulary)) {
            print_message("%s: not there\n", name);
            continue;
        }
        model = test_open_model(&vocabulary.source);
        td_rng_init(&rng, 20 + i);
        for (unsigned round = 0; round < ROUNDS; round++)
            check_text(model, &vocabulary.source, text, random_text(&rng, text));
        text_model_close(model);
        test_vocabulary_fini(&vocabulary);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_encoded_decodes_to_itself),
    };

    return cmocka_run_group_tests_name("round trip", tests, NULL, NULL);
}
