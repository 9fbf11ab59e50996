/* pair_map.c: see pair_map.h. */
#include "lib/text/pair_map.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"

#define CAPACITY_MIN 16

static struct text_pair_place *empty_places(size_t capacity)
{
    struct text_pair_place *places = malloc(capacity * sizeof *places);

    if (places != NULL)
        memset(places, 0xFF, capacity * sizeof *places); /* every key TEXT_PAIR_NONE */
    return places;
}

td_status_t text_pair_map_init(struct text_pair_map *map, size_t count_hint)
{
    size_t capacity = CAPACITY_MIN;

    while (capacity < count_hint * 2)
        capacity *= 2;
    *map = (struct text_pair_map){.mask = capacity - 1, .seed = td_random_u64()};
    map->places = empty_places(capacity);
    return map->places == NULL ? TD_NO_MEMORY : TD_OK;
}

void text_pair_map_fini(struct text_pair_map *map)
{
    free(map->places);
    map->places = NULL;
}

/* The place of a key, or the empty place where it would go. */
static struct text_pair_place *place_of(struct text_pair_map *map, uint64_t key)
{
    size_t at = text_pair_home(map, key);

    while (map->places[at].key != TEXT_PAIR_NONE && map->places[at].key != key)
        at = (at + 1) & map->mask;
    return &map->places[at];
}

static td_status_t grow(struct text_pair_map *map)
{
    struct text_pair_map larger = *map;

    larger.mask = map->mask * 2 + 1;
    larger.places = empty_places(larger.mask + 1);
    if (larger.places == NULL)
        return TD_NO_MEMORY;
    for (size_t i = 0; i <= map->mask; i++)
        if (map->places[i].key != TEXT_PAIR_NONE)
            *place_of(&larger, map->places[i].key) = map->places[i];
    free(map->places);
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
    *place = (struct text_pair_place){key, value};
    map->count++;
    return TD_OK;
}
