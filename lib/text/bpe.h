/*
 * bpe.h: byte pair encoding of one piece of text. Internal to lib/text.
 *
 * The piece starts as one symbol per byte (or per character, for SentencePiece); again and again the
 * neighbours whose merge has the lowest rank become one, leftmost first, until no merge applies. Short
 * pieces are scanned; long ones use a heap and a linked list, so that a piece of n bytes costs n log n,
 * whatever is in it. Any number of threads may use one.
 */
#ifndef TANDEM_LIB_TEXT_BPE_H
#define TANDEM_LIB_TEXT_BPE_H

#include "lib/base/status.h"
#include "lib/text/characters.h"
#include "lib/text/pair_map.h"
#include "lib/text/piece_cache.h"
#include "lib/text/source.h"
#include "lib/text/token_map.h"
#include "lib/text/tokens.h"
#include "lib/text/vocab.h"

struct text_bpe {
    const struct text_vocab *vocab;    /* borrowed */
    struct text_characters characters; /* SentencePiece only */
    struct text_pair_map rules;        /* rules.h */
    struct text_token_map whole; /* tokens that encoding their own bytes gives: no merging needed */
    struct text_piece_cache cache;
};

/* The source has passed text_source_check. TD_INVALID names a merge that makes no token. */
td_status_t text_bpe_init(struct text_bpe *bpe, const struct text_vocab *vocab,
                          const struct text_source *source, struct td_error *error) TD_MUST_USE;
void text_bpe_fini(struct text_bpe *bpe);

/*
 * Appends the ids of one piece, at least one byte. A failure sticks in tokens->status. A piece that cannot
 * but give more ids than there is room for is not looked at: so memory is bounded by the context, not by
 * the text.
 */
void text_bpe_encode(const struct text_bpe *bpe, const char *bytes, uint32_t length,
                     struct text_tokens *tokens);

#endif
