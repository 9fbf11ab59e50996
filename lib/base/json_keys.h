/*
 * json_keys.h: which keys an object has had so far, for the JSON reader only.
 *
 * One hash set serves all objects of a document. It is keyed with a random secret, so that nobody
 * can send keys that all collide; that is what keeps the reader linear for hostile objects.
 */
#ifndef TANDEM_LIB_BASE_JSON_KEYS_H
#define TANDEM_LIB_BASE_JSON_KEYS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/hash.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

struct td_json;

struct td_json_keys_entry {
    uint64_t hash;
    const struct td_json *object; /* NULL: the place is empty */
    struct td_span key;
};

struct td_json_keys {
    struct td_json_keys_entry *entries;
    size_t capacity; /* a power of two, or 0 before the first key */
    size_t count;
    uint8_t secret[TD_MAC_KEY_BYTES];
};

/* Zeroed storage is an empty set. Frees the table; the keys are borrowed. */
void td_json_keys_fini(struct td_json_keys *keys);

/* TD_STATE: object has this key already; TD_NO_MEMORY. key must outlive the set. */
td_status_t td_json_keys_add(struct td_json_keys *keys, const struct td_json *object,
                             struct td_span key) TD_MUST_USE;

#endif
