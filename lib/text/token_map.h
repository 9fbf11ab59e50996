/*
 * token_map.h: a hash table from the bytes of tokens to their ids. For lib/text and readers of model files.
 *
 * Made once, for a known number of tokens, then only read. The bytes are borrowed.
 */
#ifndef TANDEM_LIB_TEXT_TOKEN_MAP_H
#define TANDEM_LIB_TEXT_TOKEN_MAP_H

#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_token_place {
    const char *bytes; /* NULL: the place is empty */
    uint32_t length;
    uint32_t id;
};

struct text_token_map {
    struct text_token_place *places;
    size_t mask;
    uint64_t seed;
};

/* Room for count_max tokens (at most TEXT_TOKENS_MAX). */
td_status_t text_token_map_init(struct text_token_map *map, uint32_t count_max) TD_MUST_USE;
void text_token_map_fini(struct text_token_map *map);

/* Adds a token, which has at least one byte. Of several with equal bytes the first one stays. */
void text_token_map_add(struct text_token_map *map, struct td_span bytes, uint32_t id);

/* The id of the token with these bytes, or TEXT_TOKEN_NONE. */
uint32_t text_token_map_find(const struct text_token_map *map, const char *bytes, size_t length);

#endif
