/*
 * vocab.h: the tokens of a model as raw bytes, and the special ones among them. Internal to lib/text.
 *
 * Ordinary tokens are written in GPT-2's alphabet, where each byte has a printable character; they
 * are translated once, here, and nothing after that knows of the alphabet. Immutable once made.
 */
#ifndef TANDEM_LIB_TEXT_VOCAB_H
#define TANDEM_LIB_TEXT_VOCAB_H

#include "lib/base/status.h"
#include "lib/text/source.h"
#include "lib/text/types.h"

struct text_vocab {
    uint32_t count;
    char *bytes;       /* of all tokens, one behind the other */
    uint32_t *offsets; /* count + 1; token i is bytes[offsets[i]..offsets[i + 1]) */
    uint8_t *types;
    uint32_t *specials; /* ids of control, unknown and user-defined tokens, sorted by their bytes */
    uint32_t special_count;
    bool special_starts[256]; /* whether a special token begins with this byte */
    uint32_t byte_ids[256];   /* the ordinary token of one byte, or TEXT_TOKEN_NONE */
};

/* Copies and translates. The source has passed text_source_check. TD_INVALID names the token. */
td_status_t text_vocab_init(struct text_vocab *vocab, const struct text_source *source,
                            struct td_error *error) TD_MUST_USE;
void text_vocab_fini(struct text_vocab *vocab);

static inline struct td_span text_vocab_bytes(const struct text_vocab *vocab, uint32_t id)
{
    return (struct td_span){vocab->bytes + vocab->offsets[id],
                            vocab->offsets[id + 1] - vocab->offsets[id]};
}

/* The special token with exactly these bytes, or TEXT_TOKEN_NONE. */
uint32_t text_vocab_find_special(const struct text_vocab *vocab, const char *bytes, size_t length);

/* The longest special token that bytes[0..length) starts with, or TEXT_TOKEN_NONE. */
uint32_t text_vocab_match_special(const struct text_vocab *vocab, const char *bytes, size_t length);

#endif
