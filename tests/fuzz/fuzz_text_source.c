/*
 * fuzz_text_source.c: tokenizers as they come from a peer.
 *
 * What is accepted encodes to the same bytes; a model made of it encodes and decodes text without
 * losing any byte but those it counts, and makes no control token of untrusted text.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/detokenize.h"
#include "lib/text/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SOURCE_BYTES_MAX 16384

static void check_same_again(const struct text_source *source, const uint8_t *data, size_t size)
{
    struct td_buf again;

    td_buf_init(&again, TEXT_SOURCE_BYTES_MAX);
    assert(text_source_encode(source, &again, NULL) == TD_OK);
    assert(again.length == size && memcmp(again.data, data, size) == 0);
    td_buf_fini(&again);
}

/* How many bytes the ids of a text may stand for: U+2581 becomes a space, and one may come in front. */
static void check_bytes(const struct text_source *source, const char *text, size_t length,
                        size_t bytes)
{
    static const char mark[] = "\xE2\x96\x81";

    if (source->normalize_nfc)
        return; /* what becomes of it then is fuzz_nfc's */
    if (source->algorithm == TEXT_BYTE_LEVEL) {
        assert(bytes == length);
        return;
    }
    for (size_t at = 0; at + 3 <= length; at++)
        if (memcmp(text + at, mark, 3) == 0)
            bytes += 2;
    assert(bytes == length || bytes == length + 1);
}

static void check_encoding(const struct text_source *source, const struct text_model *model,
                           const char *text, size_t length)
{
    struct text_detokenizer detokenizer;
    struct text_tokens tokens;
    struct td_buf out;
    size_t bytes = 0;

    text_tokens_init(&tokens, 1 << 20);
    assert(text_encode(model, text, length, 0, &tokens) == TD_OK);
    td_buf_init(&out, 1 << 24);
    text_detokenizer_init(&detokenizer, model);
    for (uint32_t i = 0; i < tokens.count; i++) {
        assert(tokens.ids[i] < text_model_token_count(model));
        bytes += text_model_token(model, tokens.ids[i]).length;
        text_detokenizer_push(&detokenizer, tokens.ids[i], &out);
    }
    text_detokenizer_finish(&detokenizer, &out);
    check_bytes(source, text, length, bytes + tokens.dropped_bytes);
    td_buf_fini(&out);
    text_tokens_fini(&tokens);
}

static void check_trust(const struct text_model *model, const char *text, size_t length)
{
    struct text_prompt prompt;
    struct text_tokens tokens;

    text_prompt_init(&prompt, TEXT_BYTES_MAX);
    text_prompt_append(&prompt, text, length, false);
    text_tokens_init(&tokens, 1 << 20);
    assert(text_encode_prompt(model, &prompt, &tokens) == TD_OK);
    for (uint32_t i = 0; i < tokens.count; i++)
        assert(!text_model_is_hidden(model, tokens.ids[i]));
    text_tokens_fini(&tokens);
    text_prompt_fini(&prompt);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct text_source source;
    struct text_model *model;
    struct td_error error = {0};
    uint8_t *copy;

    if (size > SOURCE_BYTES_MAX)
        return 0;
    copy = malloc(size > 0 ? size : 1); /* of exact size, so that ASan sees one byte too far */
    assert(copy != NULL);
    if (size > 0)
        memcpy(copy, data, size);
    if (text_source_decode(copy, size, &source, &error) == TD_OK) {
        check_same_again(&source, copy, size);
        if (text_model_open(&source, &model, &error) == TD_OK) {
            /* its own bytes: they fit its tokens */
            check_encoding(&source, model, (const char *)copy, size);
            check_trust(model, (const char *)copy, size);
            text_model_close(model);
        }
        text_source_fini(&source);
    }
    free(copy);
    return 0;
}
