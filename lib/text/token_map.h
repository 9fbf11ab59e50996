/*
 * token_map.h: a hash table from the bytes of tokens to their ids. For lib/text and readers of model files.
 *
 * Made once, for a known number of tokens, then only read. The bytes are borrowed.
 */
#ifndef TANDEM_LIB_TEXT_TOKEN_MAP_H
#define TANDEM_LIB_TEXT_TOKEN_MAP_H

#include <string.h>

#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_token_place {
    const char *bytes; /* NULL: the place is empty */
    uint32_t tag; /* the length and a part of the hash: what differs there need not be compared */
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

/*
 * Adds a token of 1 to TEXT_TOKEN_BYTES_MAX bytes; another is left out, as nobody will look for it. Of
 * several with equal bytes the first one stays.
 */
void text_token_map_add(struct text_token_map *map, struct td_span bytes, uint32_t id);

/* The id of the token with these bytes, or TEXT_TOKEN_NONE. */
uint32_t text_token_map_find(const struct text_token_map *map, const char *bytes, size_t length);

/* 64 by 64 bits to 128, folded: what wyhash (Wang Yi) and others build on. */
static inline uint64_t text_token_fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t text_token_load(const char *bytes, size_t length)
{
    uint64_t word = 0;

    memcpy(&word, bytes, length); /* 4 or 8, known where this is inlined */
    return word;
}

/*
 * The hash of at least one byte. Most keys are shorter than 16. The seed keeps whoever makes a vocabulary from
 * choosing collisions.
 */
static inline uint64_t text_token_hash(const struct text_token_map *map, const char *bytes,
                                       size_t length)
{
    uint64_t secret = map->seed * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t state = map->seed ^ length;
    uint64_t first;
    uint64_t last;

    for (; length > 16; bytes += 16, length -= 16)
        state = text_token_fold(text_token_load(bytes, 8) ^ state,
                                text_token_load(bytes + 8, 8) ^ secret);
    if (length >= 8) {
        first = text_token_load(bytes, 8);
        last = text_token_load(bytes + length - 8, 8);
    } else if (length >= 4) {
        first = text_token_load(bytes, 4);
        last = text_token_load(bytes + length - 4, 4);
    } else {
        first = (uint64_t)(uint8_t)bytes[0] << 16 | (uint64_t)(uint8_t)bytes[length / 2] << 8 |
                (uint8_t)bytes[length - 1];
        last = 0;
    }
    return text_token_fold(first ^ state, last ^ secret);
}

/* As text_token_map_find, for at least one byte whose hash is known. */
uint32_t text_token_map_find_hashed(const struct text_token_map *map, uint64_t hash,
                                    const char *bytes, size_t length);

#endif
