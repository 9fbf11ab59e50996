/* tokens.c: a growing list of token ids, see tokens.h. */
#include "lib/text/tokens.h"

#include <stdlib.h>

#define TOKENS_CAPACITY_MIN 64

void text_tokens_init(struct text_tokens *tokens, uint32_t count_max)
{
    *tokens = (struct text_tokens){.count_max = count_max};
}

void text_tokens_fini(struct text_tokens *tokens)
{
    free(tokens->ids);
    text_tokens_init(tokens, tokens->count_max);
}

bool text_tokens_grow(struct text_tokens *tokens)
{
    uint32_t capacity =
        tokens->capacity < TOKENS_CAPACITY_MIN ? TOKENS_CAPACITY_MIN : tokens->capacity;
    uint32_t *ids;

    if (tokens->status != TD_OK)
        return false;
    if (tokens->count >= tokens->count_max) {
        tokens->status = TD_LIMIT;
        return false;
    }
    if (tokens->capacity > 0)
        capacity = tokens->capacity > UINT32_MAX / 2 ? UINT32_MAX : tokens->capacity * 2;
    if (capacity > tokens->count_max)
        capacity = tokens->count_max;
    ids = realloc(tokens->ids, (size_t)capacity * sizeof *ids);
    if (ids == NULL) {
        tokens->status = TD_NO_MEMORY;
        return false;
    }
    tokens->ids = ids;
    tokens->capacity = capacity;
    return true;
}
