/*
 * pretokenize.h: cuts text into the pieces that byte pair encoding works on one by one.
 *
 * Each tokenizer family defines its pieces by a regular expression; here they are hand-written matchers
 * over five classes of characters, checked against the expressions in tests. A matcher looks at each
 * byte at most a few times, whatever the text.
 */
#ifndef TANDEM_LIB_TEXT_PRETOKENIZE_H
#define TANDEM_LIB_TEXT_PRETOKENIZE_H

#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_pretokenizer {
    const char *name;
    /* The end of the piece that starts at `at`; at < length, and the result is in (at, length]. */
    size_t (*next)(const uint8_t *text, size_t length, size_t at);
    /* What a GGUF file with this name means when it does not say. */
    bool adds_bos;
    bool ignores_merges;
    bool normalizes_nfc;
};

/* The pre-tokenizer of a name (tokenizer.ggml.pre). TD_UNSUPPORTED names the unknown one. */
td_status_t text_pretokenizer_find(struct td_span name,
                                   const struct text_pretokenizer **pretokenizer_out,
                                   struct td_error *error) TD_MUST_USE;

/* The rows of the table, for pages; NULL behind the last. */
const struct text_pretokenizer *text_pretokenizer_at(size_t index);

#endif
