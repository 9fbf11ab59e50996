/*
 * vocab.h: the tokens of a model as raw bytes, and the special ones among them. Internal to lib/text.
 *
 * Ordinary tokens are written in GPT-2's alphabet, where each byte has a printable character, or as SentencePiece
 * writes them, with U+2581 for a space; they are translated once, here, and nothing after that knows of either.
 * Immutable once made.
 */
#ifndef TANDEM_LIB_TEXT_VOCAB_H
#define TANDEM_LIB_TEXT_VOCAB_H

#include "lib/base/status.h"
#include "lib/text/source.h"
#include "lib/text/special.h"
#include "lib/text/types.h"

struct text_vocab {
    enum text_algorithm algorithm;
    uint32_t count;
    char *bytes;       /* of all tokens, one behind the other */
    uint32_t *offsets; /* count + 1; token i is bytes[offsets[i]..offsets[i + 1]) */
    uint8_t *types;
    uint8_t *makeable;             /* a bit for each token: merging may arrive at it */
    struct text_specials specials; /* control, unknown and user-defined tokens, cut out first */
    struct text_specials normalized_specials; /* those cut out of normalised text */
    uint32_t byte_ids[256];                   /* the token of one byte, or TEXT_TOKEN_NONE */
    uint32_t byte_id_count;
    uint32_t longest; /* bytes of the longest token */
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

static inline bool text_vocab_is_makeable(const struct text_vocab *vocab, uint32_t id)
{
    return (vocab->makeable[id / 8] >> (id % 8) & 1) != 0;
}

/* The special token with exactly these bytes, or TEXT_TOKEN_NONE. */
uint32_t text_vocab_find_special(const struct text_vocab *vocab, struct td_span bytes);

#endif
