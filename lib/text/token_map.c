/* token_map.c: open addressing with linear probing, at most half full; see token_map.h. */
#include "lib/text/token_map.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

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

/* 64 by 64 bits to 128, folded: what wyhash (Wang Yi) and others build on. */
static uint64_t fold(uint64_t a, uint64_t b)
{
    __extension__ unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static uint64_t load(const char *bytes, size_t length)
{
    uint64_t word = 0;

    memcpy(&word, bytes, length);
    return word;
}

/* Most keys are shorter than 16 bytes. The seed keeps whoever makes a vocabulary from choosing collisions. */
static uint64_t hash(const struct text_token_map *map, const char *bytes, size_t length)
{
    uint64_t secret = map->seed * UINT64_C(0x9E3779B97F4A7C15);
    uint64_t state = map->seed ^ length;
    uint64_t first;
    uint64_t last;

    for (; length > 16; bytes += 16, length -= 16)
        state = fold(load(bytes, 8) ^ state, load(bytes + 8, 8) ^ secret);
    if (length >= 8) {
        first = load(bytes, 8);
        last = load(bytes + length - 8, 8);
    } else if (length >= 4) {
        first = load(bytes, 4);
        last = load(bytes + length - 4, 4);
    } else {
        first = (uint64_t)(uint8_t)bytes[0] << 16 | (uint64_t)(uint8_t)bytes[length / 2] << 8 |
                (uint8_t)bytes[length - 1];
        last = 0;
    }
    return fold(first ^ state, last ^ secret);
}

/* The place of these bytes, or the empty place where they would go. */
static struct text_token_place *place_of(const struct text_token_map *map, const char *bytes,
                                         size_t length)
{
    size_t at = (size_t)hash(map, bytes, length) & map->mask;

    for (;; at = (at + 1) & map->mask) {
        struct text_token_place *place = &map->places[at];

        if (place->bytes == NULL ||
            (place->length == length && memcmp(place->bytes, bytes, length) == 0))
            return place;
    }
}

void text_token_map_add(struct text_token_map *map, struct td_span bytes, uint32_t id)
{
    struct text_token_place *place = place_of(map, bytes.bytes, bytes.length);

    if (place->bytes == NULL)
        *place = (struct text_token_place){bytes.bytes, (uint32_t)bytes.length, id};
}

uint32_t text_token_map_find(const struct text_token_map *map, const char *bytes, size_t length)
{
    const struct text_token_place *place = length > 0 ? place_of(map, bytes, length) : NULL;

    return place == NULL || place->bytes == NULL ? TEXT_TOKEN_NONE : place->id;
}
