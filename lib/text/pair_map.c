/* pair_map.c: see pair_map.h. */
#include "lib/text/pair_map.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

#define CAPACITY_MIN 128 /* the filter has whole words */

#define FILTER_BYTES(capacity) ((capacity) / 2) /* four bits a place */

/* The tables for a capacity; false: no memory. */
static bool make_tables(struct text_pair_map *map, size_t capacity)
{
    map->mask = capacity - 1;
    map->places = malloc(capacity * sizeof *map->places);
    map->filter = calloc(FILTER_BYTES(capacity), 1);
    if (map->places == NULL || map->filter == NULL) {
        text_pair_map_fini(map);
        return false;
    }
    memset(map->places, 0xFF, capacity * sizeof *map->places); /* every key TEXT_PAIR_NONE */
    return true;
}

td_status_t text_pair_map_init(struct text_pair_map *map, size_t count_hint)
{
    size_t capacity = CAPACITY_MIN;

    while (capacity < count_hint * 2)
        capacity *= 2;
    *map = (struct text_pair_map){.seed = td_random_u64()};
    return make_tables(map, capacity) ? TD_OK : TD_NO_MEMORY;
}

void text_pair_map_fini(struct text_pair_map *map)
{
    free(map->places);
    free(map->filter);
    map->places = NULL;
    map->filter = NULL;
}

/* The place of a key, or the empty place where it would go. */
static struct text_pair_place *place_of(struct text_pair_map *map, uint64_t key)
{
    size_t at = (size_t)(text_pair_hash(map, key) >> 32) & map->mask;

    while (map->places[at].key != TEXT_PAIR_NONE && map->places[at].key != key)
        at = (at + 1) & map->mask;
    return &map->places[at];
}

static void put(struct text_pair_map *map, struct text_pair_place *place, uint64_t key,
                uint64_t value)
{
    size_t bit = text_pair_bit(map, text_pair_hash(map, key));

    *place = (struct text_pair_place){key, value};
    map->filter[bit / 64] |= UINT64_C(1) << (bit % 64);
}

static td_status_t grow(struct text_pair_map *map)
{
    struct text_pair_map larger = *map;

    if (!make_tables(&larger, (map->mask + 1) * 2))
        return TD_NO_MEMORY;
    for (size_t i = 0; i <= map->mask; i++) {
        struct text_pair_place old = map->places[i];

        if (old.key != TEXT_PAIR_NONE)
            put(&larger, place_of(&larger, old.key), old.key, old.value);
    }
    text_pair_map_fini(map);
    *map = larger;
    return TD_OK;
}

td_status_t text_pair_map_add(struct text_pair_map *map, uint64_t key, uint64_t value)
{
    struct text_pair_place *place = place_of(map, key);

    if (place->key == key)
        return TD_OK;
    if ((map->count + 1) * 2 > map->mask + 1) {
        td_status_t status = grow(map);

        if (status != TD_OK)
            return status;
        place = place_of(map, key);
    }
    put(map, place, key, value);
    map->count++;
    return TD_OK;
}
