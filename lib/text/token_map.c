/* token_map.c: open addressing with linear probing, at most half full; see token_map.h. */
#include "lib/text/token_map.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/text/source.h"

td_status_t text_token_map_init(struct text_token_map *map, uint32_t count_max)
{
    size_t capacity = 16;

    *map = (struct text_token_map){.seed = td_random_u64()};
    while (capacity < (size_t)count_max * 2)
        capacity *= 2;
    map->places = calloc(capacity, sizeof *map->places);
    if (map->places == NULL)
        return TD_NO_MEMORY;
    map->mask = capacity - 1;
    return TD_OK;
}

void text_token_map_fini(struct text_token_map *map)
{
    free(map->places);
    map->places = NULL;
}

#define LENGTH_BITS 13

_Static_assert(TEXT_TOKEN_BYTES_MAX < 1 << LENGTH_BITS, "a length fits its part of a tag");

static uint32_t tag_of(uint64_t hash, size_t length)
{
    return (uint32_t)(hash >> 32) << LENGTH_BITS | (uint32_t)length;
}

/* The place of these bytes, or the empty place where they would go. */
static struct text_token_place *place_of(const struct text_token_map *map, uint64_t hash,
                                         const char *bytes, size_t length)
{
    size_t at = (size_t)hash & map->mask;
    uint32_t tag = tag_of(hash, length);

    for (;; at = (at + 1) & map->mask) {
        struct text_token_place *place = &map->places[at];

        if (place->bytes == NULL || (place->tag == tag && memcmp(place->bytes, bytes, length) == 0))
            return place;
    }
}

void text_token_map_add(struct text_token_map *map, struct td_span bytes, uint32_t id)
{
    struct text_token_place *place;
    uint64_t hash;

    if (bytes.length == 0 || bytes.length > TEXT_TOKEN_BYTES_MAX)
        return;
    hash = text_token_hash(map, bytes.bytes, bytes.length);
    place = place_of(map, hash, bytes.bytes, bytes.length);
    if (place->bytes == NULL)
        *place = (struct text_token_place){bytes.bytes, tag_of(hash, bytes.length), id};
}

uint32_t text_token_map_find_hashed(const struct text_token_map *map, uint64_t hash,
                                    const char *bytes, size_t length)
{
    const struct text_token_place *place;

    if (length > TEXT_TOKEN_BYTES_MAX)
        return TEXT_TOKEN_NONE;
    place = place_of(map, hash, bytes, length);
    return place->bytes == NULL ? TEXT_TOKEN_NONE : place->id;
}

uint32_t text_token_map_find(const struct text_token_map *map, const char *bytes, size_t length)
{
    if (length == 0 || length > TEXT_TOKEN_BYTES_MAX)
        return TEXT_TOKEN_NONE;
    return text_token_map_find_hashed(map, text_token_hash(map, bytes, length), bytes, length);
}
