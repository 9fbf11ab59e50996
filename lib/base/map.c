/* map.c: open-addressing hash table, see map.h. */
#include "lib/base/map.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/base/hash.h"

#define MAP_CAPACITY_MIN 16

void td_map_init(struct td_map *map, size_t count_max)
{
    *map = (struct td_map){.count_max = count_max};
}

void td_map_fini(struct td_map *map)
{
    free(map->entries);
    *map = (struct td_map){.count_max = map->count_max};
}

static size_t home_of(const struct td_map *map, struct td_u128 key)
{
    return (size_t)td_u128_mix(key) & (map->capacity - 1);
}

/* The place of key, or the empty place where it would go. There is always an empty place. */
static size_t place_of(const struct td_map *map, struct td_u128 key)
{
    size_t place = home_of(map, key);

    while (map->entries[place].value != NULL && !td_u128_equal(map->entries[place].key, key))
        place = (place + 1) & (map->capacity - 1);
    return place;
}

static td_status_t grow(struct td_map *map)
{
    struct td_map bigger = *map;
    size_t cursor = 0;

    bigger.capacity = map->capacity == 0 ? MAP_CAPACITY_MIN : map->capacity * 2;
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (bigger.entries == NULL)
        return TD_NO_MEMORY;
    for (; cursor < map->capacity; cursor++)
        if (map->entries[cursor].value != NULL)
            bigger.entries[place_of(&bigger, map->entries[cursor].key)] = map->entries[cursor];
    free(map->entries);
    *map = bigger;
    return TD_OK;
}

td_status_t td_map_insert(struct td_map *map, struct td_u128 key, void *value)
{
    size_t place;

    assert(value != NULL);
    if (map->count > 0 && td_map_find(map, key) != NULL)
        return TD_STATE;
    if (map->count >= map->count_max)
        return TD_LIMIT;
    if ((map->count + 1) * 4 > map->capacity * 3) { /* at most three quarters full */
        td_status_t status = grow(map);

        if (status != TD_OK)
            return status;
    }
    place = place_of(map, key);
    map->entries[place] = (struct td_map_entry){.key = key, .value = value};
    map->count++;
    return TD_OK;
}

void *td_map_find(const struct td_map *map, struct td_u128 key)
{
    return map->capacity == 0 ? NULL : map->entries[place_of(map, key)].value;
}

void *td_map_remove(struct td_map *map, struct td_u128 key)
{
    size_t mask = map->capacity - 1;
    size_t hole;
    void *value;

    if (map->capacity == 0)
        return NULL;
    hole = place_of(map, key);
    value = map->entries[hole].value;
    if (value == NULL)
        return NULL;
    /* Shift back every follower whose home does not lie between the hole and its place. */
    for (size_t next = (hole + 1) & mask; map->entries[next].value != NULL;
         next = (next + 1) & mask) {
        size_t home = home_of(map, map->entries[next].key);

        if (((next - home) & mask) >= ((next - hole) & mask)) {
            map->entries[hole] = map->entries[next];
            hole = next;
        }
    }
    map->entries[hole].value = NULL;
    map->count--;
    return value;
}

void *td_map_next(const struct td_map *map, size_t *cursor)
{
    while (*cursor < map->capacity) {
        void *value = map->entries[(*cursor)++].value;

        if (value != NULL)
            return value;
    }
    return NULL;
}
