/*
 * detokenize.h: token ids to text, one by one.
 *
 * What is given out is always whole characters of UTF-8. Up to three bytes of an unfinished one are held
 * back; bytes that cannot become a character are U+FFFD as soon as that is certain, one for each maximal part (as
 * Unicode recommends, and as Python's and Rust's decoders do). The text depends on the ids alone, not on
 * how they were divided into calls. Control tokens are left out, and so is the space that SentencePiece
 * puts in front of a text.
 */
#ifndef TANDEM_LIB_TEXT_DETOKENIZE_H
#define TANDEM_LIB_TEXT_DETOKENIZE_H

#include "lib/base/buf.h"
#include "lib/text/model.h"

struct text_detokenizer {
    const struct text_model *model; /* borrowed */
    uint8_t held[4];
    uint8_t held_count; /* an unfinished character: 0 to 3 bytes */
    bool strip_space;   /* nothing has been seen yet, and a space would be left out */
};

void text_detokenizer_init(struct text_detokenizer *detokenizer, const struct text_model *model);

/* Before the first id: they continue a text that the reader has, so a space in front belongs to it. */
void text_detokenizer_continue(struct text_detokenizer *detokenizer);

/* Appends what the next id adds to the text, often nothing. Failure sticks in out->status. */
void text_detokenizer_push(struct text_detokenizer *detokenizer, uint32_t id, struct td_buf *out);

/* The end of the ids: an unfinished character becomes U+FFFD. */
void text_detokenizer_finish(struct text_detokenizer *detokenizer, struct td_buf *out);

#endif
