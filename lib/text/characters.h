/*
 * characters.h: what SentencePiece's merging begins with: the symbols of characters, and where to cut.
 * Internal to lib/text.
 *
 * SentencePiece merges over the whole text. But a token can only lie across the place between two
 * characters if some token has these two side by side; where none has, the text may be cut without
 * changing the result. So long texts fall into short pieces (words, mostly), and the work is linear.
 * Immutable once made.
 */
#ifndef TANDEM_LIB_TEXT_CHARACTERS_H
#define TANDEM_LIB_TEXT_CHARACTERS_H

#include "lib/text/pair_map.h"
#include "lib/text/token_map.h"
#include "lib/text/tokens.h"
#include "lib/text/vocab.h"

struct text_characters {
    const struct text_vocab *vocab; /* borrowed */
    struct text_pair_map symbols;   /* by character */
    struct text_pair_map pairs;     /* characters that stand side by side in a token */
    uint64_t ascii_pairs[128][2];   /* bit b % 64 of word b / 64 of row a: b follows a in a token */
    uint32_t ascii_symbols[128];    /* or TEXT_TOKEN_NONE */
    uint32_t *strays;               /* characters that only occur inside tokens */
    uint32_t stray_count;           /* symbol vocab->count + i is strays[i] */
};

/* makeable are the tokens that merging may arrive at, by their bytes. TD_NO_MEMORY or TD_LIMIT. */
td_status_t text_characters_init(struct text_characters *characters, const struct text_vocab *vocab,
                                 const struct text_token_map *makeable) TD_MUST_USE;
void text_characters_fini(struct text_characters *characters);

/* The symbol of a character of a token, or TEXT_TOKEN_NONE: no token has it. */
uint32_t text_characters_symbol(const struct text_characters *characters, uint32_t character);

/* The end of the piece that starts at `at`; at < length, and the result is in (at, length]. */
size_t text_characters_next(const struct text_characters *characters, const uint8_t *text,
                            size_t length, size_t at);

/*
 * The first symbols of a piece, at most one a byte; returns how many. A character that no token has is
 * spelled in byte tokens.
 */
uint32_t text_characters_spell(const struct text_characters *characters, const char *bytes,
                               uint32_t length, uint32_t *symbols);

/* Appends the id of a symbol that is left when nothing merges any more; a stray is spelled in byte tokens. */
void text_characters_push(const struct text_characters *characters, uint32_t symbol,
                          struct text_tokens *tokens);

#endif
