/* json_keys.c: open-addressing set of (object, key), see json_keys.h. */
#include "lib/base/json_keys.h"

#include <stdlib.h>

#include "lib/base/random.h"

#define KEYS_CAPACITY_MIN 64

void td_json_keys_fini(struct td_json_keys *keys)
{
    free(keys->entries);
    *keys = (struct td_json_keys){0};
}

/* The place of an equal entry, or the empty place where it would go. There is always one. */
static struct td_json_keys_entry *place_of(const struct td_json_keys *keys,
                                           const struct td_json_keys_entry *wanted)
{
    size_t at = (size_t)wanted->hash & (keys->capacity - 1);

    for (;; at = (at + 1) & (keys->capacity - 1)) {
        struct td_json_keys_entry *entry = &keys->entries[at];

        if (entry->object == NULL ||
            (entry->hash == wanted->hash && entry->object == wanted->object &&
             td_span_equal(entry->key, wanted->key)))
            return entry;
    }
}

static td_status_t grow(struct td_json_keys *keys)
{
    struct td_json_keys bigger = *keys;

    if (keys->capacity == 0)
        td_random_bytes(bigger.secret, sizeof bigger.secret);
    bigger.capacity = keys->capacity == 0 ? KEYS_CAPACITY_MIN : keys->capacity * 2;
    bigger.entries = calloc(bigger.capacity, sizeof *bigger.entries);
    if (bigger.entries == NULL)
        return TD_NO_MEMORY;
    for (size_t i = 0; i < keys->capacity; i++)
        if (keys->entries[i].object != NULL)
            *place_of(&bigger, &keys->entries[i]) = keys->entries[i];
    free(keys->entries);
    *keys = bigger;
    return TD_OK;
}

td_status_t td_json_keys_add(struct td_json_keys *keys, const struct td_json *object,
                             struct td_span key)
{
    struct td_json_keys_entry wanted = {.object = object, .key = key};
    struct td_json_keys_entry *entry;

    if ((keys->count + 1) * 2 > keys->capacity) { /* at most half full: few probes */
        td_status_t status = grow(keys);

        if (status != TD_OK)
            return status;
    }
    /* the object's address is mixed in, so that equal keys of many objects do not pile up */
    wanted.hash = td_siphash128(keys->secret, key.bytes, key.length).lo ^
                  td_u128_mix(td_u128_from_u64((uint64_t)(uintptr_t)object));
    entry = place_of(keys, &wanted);
    if (entry->object != NULL)
        return TD_STATE;
    *entry = wanted;
    keys->count++;
    return TD_OK;
}
