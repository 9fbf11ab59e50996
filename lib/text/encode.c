/* encode.c: see encode.h. */
#include "lib/text/encode.h"

#include <string.h>

#include "lib/text/normalize.h"

#define SPACE_MARK "\xE2\x96\x81" /* U+2581: SentencePiece takes it for a space */

td_status_t text_encoder_init(struct text_encoder *encoder, const struct text_source *source,
                              struct td_error *error)
{
    td_status_t status = TD_OK;

    *encoder =
        (struct text_encoder){.prefix = source->prefix, .normalize_nfc = source->normalize_nfc};
    if (source->algorithm == TEXT_BYTE_LEVEL)
        status = text_pretokenizer_find(source->pretokenizer, &encoder->pretokenizer, error);
    if (status == TD_OK)
        status = text_vocab_init(&encoder->vocab, source, error);
    if (status == TD_OK)
        status = text_bpe_init(&encoder->bpe, &encoder->vocab, source, error);
    return status;
}

void text_encoder_fini(struct text_encoder *encoder)
{
    text_bpe_fini(&encoder->bpe);
    text_vocab_fini(&encoder->vocab);
}

/* Normalised text without special tokens. */
static void encode_plain(const struct text_encoder *encoder, const char *bytes, size_t start,
                         size_t end, struct text_tokens *tokens)
{
    const uint8_t *text = (const uint8_t *)bytes;
    size_t next;

    for (size_t at = start; at < end && tokens->status == TD_OK; at = next) {
        next = encoder->pretokenizer != NULL
                   ? encoder->pretokenizer->next(text, end, at)
                   : text_characters_next(&encoder->bpe.characters, text, end, at);
        text_bpe_encode(&encoder->bpe, bytes + at, (uint32_t)(next - at), tokens);
    }
}

/* ------------------------------------------------------------------------------------------- */
/* SentencePiece */

/* Whether a stretch that begins at `start` of the text gets a space in front. */
static bool wants_prefix(const struct text_encoder *encoder, const char *stretch, size_t length,
                         size_t start)
{
    switch (encoder->prefix) {
    case TEXT_PREFIX_NONE: return false;
    case TEXT_PREFIX_ALWAYS: return true;
    case TEXT_PREFIX_FIRST:
        if (start > 0)
            return false;
        break;
    case TEXT_PREFIX_UNLESS_SPACE: break;
    }
    return stretch[0] != ' ' &&
           (length < strlen(SPACE_MARK) || memcmp(stretch, SPACE_MARK, strlen(SPACE_MARK)) != 0);
}

/* The next U+2581 in bytes[at..end), or end. */
static size_t find_mark(const char *bytes, size_t at, size_t end)
{
    const char *found = memmem(bytes + at, end - at, SPACE_MARK, strlen(SPACE_MARK));

    return found == NULL ? end : (size_t)(found - bytes);
}

/* A stretch without special tokens; it is copied only where it must change. */
static void encode_sentences(const struct text_encoder *encoder, const char *bytes, size_t start,
                             size_t end, struct text_tokens *tokens)
{
    bool prefix = wants_prefix(encoder, bytes + start, end - start, start);
    size_t mark = find_mark(bytes, start, end);
    struct td_buf copy;

    if (!prefix && mark == end) {
        encode_plain(encoder, bytes, start, end, tokens);
        return;
    }
    td_buf_init(&copy, end - start + 1);
    if (prefix)
        td_buf_append_char(&copy, ' ');
    while (mark < end) {
        td_buf_append(&copy, bytes + start, mark - start);
        td_buf_append_char(&copy, ' ');
        start = mark + strlen(SPACE_MARK);
        mark = find_mark(bytes, start, end);
    }
    td_buf_append(&copy, bytes + start, end - start);
    if (copy.status != TD_OK)
        tokens->status = copy.status;
    else
        encode_plain(encoder, copy.data, 0, copy.length, tokens);
    td_buf_fini(&copy);
}

/* ------------------------------------------------------------------------------------------- */
/* NFC */

/* A whole normalised stretch: what wants to be found in such text is cut out now. */
static void encode_normalized(const struct text_encoder *encoder, const struct text_prompt *stretch,
                              struct text_tokens *tokens)
{
    struct td_span text = td_span_over(stretch->text.data, stretch->text.length);
    struct text_special_walk walk = text_special_walk_over(&encoder->vocab.normalized_specials,
                                                           text, stretch->runs, stretch->run_count);
    struct text_special_hit hit;

    while (tokens->status == TD_OK && text_special_walk_next(&walk, &hit)) {
        encode_plain(encoder, text.bytes, walk.stretch.at, hit.start, tokens);
        text_tokens_push(tokens, hit.id);
        text_special_walk_pass(&walk, &hit);
    }
    encode_plain(encoder, text.bytes, walk.stretch.at, text.length, tokens);
}

static void encode_nfc(const struct text_encoder *encoder, const char *bytes,
                       struct text_run_place from, size_t end, struct text_tokens *tokens)
{
    struct text_prompt normal;

    if (encoder->vocab.normalized_specials.count == 0 && text_nfc_is_plain(bytes, from.at, end)) {
        encode_plain(encoder, bytes, from.at, end, tokens);
        return;
    }
    text_prompt_init(&normal, TEXT_BYTES_MAX);
    text_nfc_append(bytes, from, end, &normal);
    if (normal.text.status != TD_OK)
        tokens->status = normal.text.status;
    else
        encode_normalized(encoder, &normal, tokens);
    text_prompt_fini(&normal);
}

/* ------------------------------------------------------------------------------------------- */

/* A stretch between special tokens; it may be empty. */
static void encode_stretch(const struct text_encoder *encoder, const char *bytes,
                           struct text_run_place from, size_t end, struct text_tokens *tokens)
{
    if (from.at >= end || tokens->status != TD_OK)
        return;
    if (encoder->normalize_nfc)
        encode_nfc(encoder, bytes, from, end, tokens);
    else if (encoder->pretokenizer != NULL)
        encode_plain(encoder, bytes, from.at, end, tokens);
    else
        encode_sentences(encoder, bytes, from.at, end, tokens);
}

td_status_t text_encoder_run(const struct text_encoder *encoder, struct td_span text,
                             const struct text_run *runs, uint32_t run_count,
                             struct text_tokens *tokens)
{
    struct text_special_walk walk =
        text_special_walk_over(&encoder->vocab.specials, text, runs, run_count);
    struct text_special_hit hit;

    while (tokens->status == TD_OK && text_special_walk_next(&walk, &hit)) {
        encode_stretch(encoder, text.bytes, walk.stretch, hit.start, tokens);
        text_tokens_push(tokens, hit.id);
        text_special_walk_pass(&walk, &hit);
    }
    encode_stretch(encoder, text.bytes, walk.stretch, text.length, tokens);
    return tokens->status;
}
