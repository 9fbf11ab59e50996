/*
 * tokens.h: a growing list of token ids with a maximum.
 */
#ifndef TANDEM_LIB_TEXT_TOKENS_H
#define TANDEM_LIB_TEXT_TOKENS_H

#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_tokens {
    uint32_t *ids; /* malloc memory; whoever takes it sets it to NULL and frees it */
    uint32_t count;
    uint32_t capacity;
    uint32_t count_max;
    td_status_t status;     /* sticky: TD_OK, TD_LIMIT or TD_NO_MEMORY */
    uint32_t dropped_bytes; /* of the text: the vocabulary has no token for them */
};

/* An empty list for at most count_max ids: what a context can hold, so that work is bounded too. */
void text_tokens_init(struct text_tokens *tokens, uint32_t count_max);
void text_tokens_fini(struct text_tokens *tokens);

/* Makes room for one more id; false (and the status is set) at the maximum or without memory. */
bool text_tokens_grow(struct text_tokens *tokens);

/* Appends an id. A failure sticks in status, and later calls do nothing. */
static inline void text_tokens_push(struct text_tokens *tokens, uint32_t id)
{
    if (tokens->count < tokens->capacity || text_tokens_grow(tokens))
        tokens->ids[tokens->count++] = id;
}

#endif
