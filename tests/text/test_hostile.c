/*
 * test_hostile.c: vocabularies that nobody would train, but somebody may write: small files that would take
 * memory or time by the square of their size are refused, or cost no more than others.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/base/utf8.h"
#include "tests/text/text_support.h"

/* A vocabulary in the making: the tokens' bytes lie in one block. */
struct made {
    struct text_source source;
    struct text_token *tokens;
    char *bytes;
    size_t used;
};

static void make(struct made *made, enum text_algorithm algorithm, uint32_t count_max,
                 size_t bytes_max)
{
    text_source_init(&made->source);
    made->tokens = calloc(count_max, sizeof *made->tokens);
    made->bytes = malloc(bytes_max);
    made->used = 0;
    assert_true(made->tokens != NULL && made->bytes != NULL);
    made->source.algorithm = algorithm;
    made->source.tokens = made->tokens;
    if (algorithm == TEXT_BYTE_LEVEL)
        made->source.pretokenizer = td_span_of("gpt-2");
}

static void unmake(struct made *made)
{
    free(made->tokens);
    free(made->bytes);
}

static void add(struct made *made, const char *bytes, size_t length, enum text_token_type type)
{
    char *kept = made->bytes + made->used;

    memcpy(kept, bytes, length);
    made->used += length;
    made->tokens[made->source.token_count++] =
        (struct text_token){.bytes = kept, .length = (uint16_t)length, .type = (uint8_t)type};
}

/* What SentencePiece cannot do without. */
static void add_bytes(struct made *made)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[8];

        snprintf(text, sizeof text, "<0x%02X>", byte);
        add(made, text, 6, TEXT_TOKEN_BYTE);
    }
}

static void assert_refused(const struct made *made, td_status_t expected, const char *text)
{
    struct text_model *model = NULL;
    struct td_error error = {0};

    assert_int_equal(text_model_open(&made->source, &model, &error), expected);
    if (strstr(error.text, text) == NULL)
        fail_msg("'%s' does not say '%s'", error.text, text);
}

/* Every part of every token is a token: 36,000 of them merge in 2,500,000 ways. */
#define PARTS_TEXT 340
#define PARTS_MAX  130

static void parts_of_parts_do_not_fill_the_memory(void **state)
{
    struct made made;
    struct td_rng rng;
    char text[PARTS_TEXT];

    (void)state;
    td_rng_init(&rng, 1);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('!' + td_rng_below(&rng, 90));
    make(&made, TEXT_SENTENCEPIECE, 256 + PARTS_TEXT * PARTS_MAX,
         256 * 6 + (size_t)PARTS_TEXT * PARTS_MAX * PARTS_MAX);
    add_bytes(&made);
    for (size_t length = 1; length <= PARTS_MAX; length++)
        for (size_t at = 0; at + length <= sizeof text; at++)
            add(&made, text + at, length, TEXT_TOKEN_NORMAL);
    assert_refused(&made, TD_LIMIT, "ways to merge");
    unmake(&made);
}

/* Tokens of 85 characters each, drawn from 40,000: no pair stands twice. */
#define PAIRS_TOKENS     26000
#define PAIRS_CHARACTERS 85

static void pairs_of_characters_do_not_fill_the_memory(void **state)
{
    struct made made;
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 2);
    make(&made, TEXT_SENTENCEPIECE, 256 + PAIRS_TOKENS,
         256 * 6 + (size_t)PAIRS_TOKENS * PAIRS_CHARACTERS * 3);
    add_bytes(&made);
    for (int i = 0; i < PAIRS_TOKENS; i++) {
        char token[PAIRS_CHARACTERS * TD_UTF8_BYTES_MAX];
        size_t length = 0;

        for (int c = 0; c < PAIRS_CHARACTERS; c++)
            length += td_utf8_encode(0x1000 + (uint32_t)td_rng_below(&rng, 40000), token + length);
        add(&made, token, length, TEXT_TOKEN_NORMAL);
    }
    assert_refused(&made, TD_LIMIT, "pairs of characters");
    unmake(&made);
}

/* Looking for one is work at every byte of a text: real ones have 30 bytes. */
static void special_tokens_are_short(void **state)
{
    static const char long_text[257] = "a"; /* and NULs */
    struct text_model *model;
    struct text_tokens tokens;
    struct made made;

    (void)state;
    make(&made, TEXT_BYTE_LEVEL, 2, 1024);
    add(&made, "a", 1, TEXT_TOKEN_NORMAL);
    add(&made, long_text, 256, TEXT_TOKEN_CONTROL);
    model = test_open_model(&made.source);
    text_tokens_init(&tokens, 16);
    assert_int_equal(text_encode(model, long_text, 256, TEXT_PARSE_SPECIAL, &tokens), TD_OK);
    assert_int_equal(tokens.count, 1);
    assert_int_equal(tokens.ids[0], 1);
    text_tokens_fini(&tokens);
    text_model_close(model);
    unmake(&made);
    for (int type = TEXT_TOKEN_UNKNOWN; type <= TEXT_TOKEN_USER_DEFINED; type++) {
        make(&made, TEXT_BYTE_LEVEL, 2, 1024);
        add(&made, "a", 1, TEXT_TOKEN_NORMAL);
        add(&made, long_text, 257, (enum text_token_type)type);
        assert_refused(&made, TD_LIMIT, "token 1: 257 bytes");
        unmake(&made);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parts_of_parts_do_not_fill_the_memory),
        cmocka_unit_test(pairs_of_characters_do_not_fill_the_memory),
        cmocka_unit_test(special_tokens_are_short),
    };

    return cmocka_run_group_tests_name("hostile vocabularies", tests, NULL, NULL);
}
