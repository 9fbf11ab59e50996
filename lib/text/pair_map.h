/*
 * pair_map.h: a hash table from 64-bit keys to 64-bit values. Internal to lib/text.
 *
 * What merging asks for each pair of neighbours: the rule for two symbols, the symbol of a character,
 * whether two characters ever stand together. Open addressing, at most half full. Most questions are about
 * keys that are not there: a bit for each hash answers nine in ten of these from a table small enough for
 * a core's own cache. A random seed keeps whoever makes a vocabulary from choosing where its entries
 * collide. Filled once, then only read.
 */
#ifndef TANDEM_LIB_TEXT_PAIR_MAP_H
#define TANDEM_LIB_TEXT_PAIR_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

#define TEXT_PAIR_NONE UINT64_MAX /* no key, and no value */

struct text_pair_place {
    uint64_t key; /* TEXT_PAIR_NONE: the place is empty */
    uint64_t value;
};

struct text_pair_map {
    struct text_pair_place *places;
    uint64_t *filter; /* a bit for some hash of each key: four bits a place */
    size_t mask;
    size_t count;
    uint64_t seed;
};

static inline uint64_t text_pair(uint32_t high, uint32_t low)
{
    return (uint64_t)high << 32 | low;
}

/* Makes room for count_hint entries; it grows beyond. */
td_status_t text_pair_map_init(struct text_pair_map *map, size_t count_hint) TD_MUST_USE;
void text_pair_map_fini(struct text_pair_map *map);

/* Adds an entry; a key that is there keeps its first value. The key is not TEXT_PAIR_NONE. */
td_status_t text_pair_map_add(struct text_pair_map *map, uint64_t key, uint64_t value) TD_MUST_USE;

static inline uint64_t text_pair_hash(const struct text_pair_map *map, uint64_t key)
{
    uint64_t mixed = (key ^ map->seed) * UINT64_C(0x9E3779B97F4A7C15);

    mixed ^= mixed >> 32;
    return mixed * UINT64_C(0xD6E8FEB86659FD93);
}

/* Which bit of the filter stands for a hash. */
static inline size_t text_pair_bit(const struct text_pair_map *map, uint64_t hash)
{
    return (size_t)(hash >> 12) & (map->mask << 2 | 3);
}

/* The value of a key, or TEXT_PAIR_NONE. */
static inline uint64_t text_pair_map_find(const struct text_pair_map *map, uint64_t key)
{
    uint64_t hash = text_pair_hash(map, key);
    size_t bit = text_pair_bit(map, hash);

    if ((map->filter[bit / 64] >> (bit % 64) & 1) == 0)
        return TEXT_PAIR_NONE;
    for (size_t at = (size_t)(hash >> 32) & map->mask;; at = (at + 1) & map->mask) {
        const struct text_pair_place *place = &map->places[at];

        if (place->key == key)
            return place->value;
        if (place->key == TEXT_PAIR_NONE)
            return TEXT_PAIR_NONE;
    }
}

#endif
