/*
 * special.h: special tokens, and where they stand in a text. Internal to lib/text.
 *
 * A special token is found in trusted bytes only, the longest of those that begin at the first place where any
 * does. Its flags (lstrip, rstrip, single_word) mean what they mean to Hugging Face's tokenizers; the
 * whitespace that it takes along may be anybody's.
 */
#ifndef TANDEM_LIB_TEXT_SPECIAL_H
#define TANDEM_LIB_TEXT_SPECIAL_H

#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_special {
    struct td_span bytes; /* borrowed */
    uint32_t id;
    uint8_t flags; /* of enum text_token_flag */
};

/* Immutable once sorted. */
struct text_specials {
    struct text_special *items; /* by their bytes */
    uint32_t count;
    bool starts[256]; /* whether one begins with this byte */
};

/* An empty set with room for count_max. */
td_status_t text_specials_init(struct text_specials *specials, uint32_t count_max) TD_MUST_USE;
void text_specials_fini(struct text_specials *specials);
void text_specials_add(struct text_specials *specials, struct text_special special);

/* Once, when all are added. */
void text_specials_sort(struct text_specials *specials);

/* The token with exactly these bytes, or TEXT_TOKEN_NONE. */
uint32_t text_specials_find(const struct text_specials *specials, struct td_span bytes);

/* ------------------------------------------------------------------------------------------- */

/* A place in a text with runs. */
struct text_run_place {
    const struct text_run *runs;
    uint32_t run_count;
    uint32_t run;   /* the one that the place is in; run_count: behind the last */
    size_t run_end; /* where that one ends in the text */
    size_t at;
};

struct text_run_place text_run_place_first(const struct text_run *runs, uint32_t run_count);

/* Moves the place forward to `at`. */
void text_run_place_move(struct text_run_place *place, size_t at);

/* A walk over the special tokens of a text. Between them lie stretches of ordinary text. */
struct text_special_walk {
    const struct text_specials *specials;
    struct td_span text;
    struct text_run_place place;
    struct text_run_place stretch; /* behind the last token that was found */
};

struct text_special_hit {
    uint32_t id;
    size_t start; /* with what it takes along */
    size_t end;
};

/* The runs cover the text. */
struct text_special_walk text_special_walk_over(const struct text_specials *specials,
                                                struct td_span text, const struct text_run *runs,
                                                uint32_t run_count);

/*
 * The next token. Before the call, walk->stretch is where the ordinary text before it begins; the caller moves
 * it behind the token with text_special_walk_pass.
 */
bool text_special_walk_next(struct text_special_walk *walk, struct text_special_hit *hit_out);
void text_special_walk_pass(struct text_special_walk *walk, const struct text_special_hit *hit);

#endif
