/*
 * map.h: a hash table from 128-bit keys to pointers, with a maximum.
 *
 * Open addressing with linear probing and backward-shift deletion; no tombstones, so lookups stay
 * short however many entries came and went. Iteration order follows from the keys and the order of
 * operations, never from addresses, which keeps the simulator deterministic. The keys are ids that
 * we minted or hashes; the hash is not seeded, so a client must not be able to choose them.
 * Not thread-safe: one owner.
 */
#ifndef TANDEM_LIB_BASE_MAP_H
#define TANDEM_LIB_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

struct td_map_entry {
    struct td_u128 key;
    void *value; /* NULL: the place is empty */
};

struct td_map {
    struct td_map_entry *entries;
    size_t capacity; /* a power of two, or 0 before the first insert */
    size_t count;
    size_t count_max;
};

/* Prepares an empty map that will hold at most count_max entries. Allocates nothing yet. */
void td_map_init(struct td_map *map, size_t count_max);

/* Frees the table; the values are the caller's. */
void td_map_fini(struct td_map *map);

/*
 * Inserts a new key. value must not be NULL.
 * TD_STATE: the key is there already (nothing changed); TD_LIMIT: full; TD_NO_MEMORY.
 */
td_status_t td_map_insert(struct td_map *map, struct td_u128 key, void *value) TD_MUST_USE;

/* The value of key, or NULL. */
void *td_map_find(const struct td_map *map, struct td_u128 key);

/* Removes key and returns its value, or NULL if it was not there. */
void *td_map_remove(struct td_map *map, struct td_u128 key);

/*
 * Iterates: start with cursor 0, stop at NULL. Removing entries while iterating is not allowed.
 */
void *td_map_next(const struct td_map *map, size_t *cursor);

#endif
