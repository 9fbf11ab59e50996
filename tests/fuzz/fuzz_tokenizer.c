/*
 * fuzz_tokenizer.c: text and prompts through a real tokenizer (tiny-llama's, from tests/data).
 *
 * Encoding loses no byte; how a prompt is divided into trusted and untrusted stretches changes no id where
 * no control token stands; untrusted text never gives one; every pre-tokenizer gets to the end of every
 * text. The first byte of the input seeds how it is divided.
 */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/model.h"
#include "lib/text/pretokenize.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VOCABULARY "tests/data/text/tiny_llama.source" /* from the root, as ctest runs it */
#define TEXT_MAX   (1 << 16)

/* Opened once, for the process's life. */
static const struct text_model *model_of_file(void)
{
    static struct text_model *model;
    static uint8_t bytes[1 << 16];
    struct text_source source;
    struct td_error error = {0};
    size_t length;
    FILE *file;

    if (model != NULL)
        return model;
    file = fopen(VOCABULARY, "rb");
    if (file == NULL) {
        fprintf(stderr, "run me from the root of the tree: there is no %s\n", VOCABULARY);
        abort();
    }
    length = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    assert(text_source_decode(bytes, length, &source, &error) == TD_OK);
    assert(text_model_open(&source, &model, &error) == TD_OK);
    text_source_fini(&source);
    return model;
}

static void check_pretokenizers(const uint8_t *text, size_t length)
{
    const struct text_pretokenizer *pretokenizer;

    for (size_t i = 0; (pretokenizer = text_pretokenizer_at(i)) != NULL; i++) {
        size_t end;

        for (size_t at = 0; at < length; at = end) {
            end = pretokenizer->next(text, length, at);
            assert(end > at && end <= length);
        }
    }
}

/* The bytes of the ids are the text again; special ids only where they may be. */
static void check_ids(const struct text_model *model, const struct text_tokens *tokens,
                      const char *text, size_t length, bool may_be_special)
{
    size_t at = 0;

    for (uint32_t i = 0; i < tokens->count; i++) {
        struct td_span token = text_model_token(model, tokens->ids[i]);

        assert(may_be_special || !text_model_is_hidden(model, tokens->ids[i]));
        assert(token.length <= length - at);
        assert(memcmp(token.bytes, text + at, token.length) == 0);
        at += token.length;
    }
    assert(at == length && tokens->dropped_bytes == 0);
}

static void divide(struct text_prompt *prompt, const char *text, size_t length, uint32_t seed)
{
    for (size_t at = 0, piece; at < length; at += piece) {
        seed = seed * 1664525u + 1013904223u; /* Numerical Recipes' generator */
        piece = 1 + (seed >> 16) % 16;
        if (piece > length - at)
            piece = length - at;
        text_prompt_append(prompt, text + at, piece, seed >> 31);
    }
}

static bool has_special(const struct text_model *model, const struct text_tokens *tokens)
{
    for (uint32_t i = 0; i < tokens->count; i++)
        if (text_model_is_hidden(model, tokens->ids[i]))
            return true;
    return false;
}

static void check_prompt(const struct text_model *model, const struct text_tokens *whole,
                         const char *text, size_t length, uint32_t seed)
{
    struct text_prompt prompt;
    struct text_tokens tokens;

    text_prompt_init(&prompt, TEXT_MAX);
    divide(&prompt, text, length, seed);
    text_tokens_init(&tokens, TEXT_MAX);
    assert(text_encode_prompt(model, &prompt, &tokens) == TD_OK);
    check_ids(model, &tokens, text, length, true);
    if (!has_special(model, &tokens)) {
        assert(tokens.count == whole->count);
        assert(tokens.count == 0 ||
               memcmp(tokens.ids, whole->ids, tokens.count * sizeof *tokens.ids) == 0);
    }
    text_tokens_fini(&tokens);
    text_prompt_fini(&prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct text_model *model = model_of_file();
    struct text_tokens tokens;
    uint32_t seed = size > 0 ? data[0] : 0;
    const char *text;
    size_t length;

    if (size == 0 || size > TEXT_MAX)
        return 0;
    text = (const char *)data + 1;
    length = size - 1;
    check_pretokenizers(data + 1, length);
    text_tokens_init(&tokens, TEXT_MAX);
    assert(text_encode(model, text, length, 0, &tokens) == TD_OK);
    check_ids(model, &tokens, text, length, false);
    check_prompt(model, &tokens, text, length, seed);
    tokens.count = 0;
    assert(text_encode(model, text, length, TEXT_PARSE_SPECIAL, &tokens) == TD_OK);
    check_ids(model, &tokens, text, length, true);
    text_tokens_fini(&tokens);
    return 0;
}
