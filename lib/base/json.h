/*
 * json.h: the one strict JSON reader for every body and file from outside (RFC 8259), and its tree.
 *
 * One parser, so that no two parts of the system can disagree about what a body says. Stricter than
 * most: duplicate keys, invalid UTF-8, lone surrogate escapes, numbers that do not fit a double and
 * anything after the document are refused. Bounded in bytes, nodes and depth; time is linear in the
 * length for every input, also for objects with very many keys.
 *
 * The tree lives in the caller's arena and owns copies of all strings: the text may be freed.
 */
#ifndef TANDEM_LIB_BASE_JSON_H
#define TANDEM_LIB_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

#define TD_JSON_DEPTH_MAX 64

enum td_json_kind {
    TD_JSON_NULL = 0,
    TD_JSON_BOOL,
    TD_JSON_INTEGER, /* written without fraction and exponent, and fits int64: exact */
    TD_JSON_NUMBER,  /* any other number, as a finite double; also integers beyond int64 */
    TD_JSON_STRING,  /* valid UTF-8; may contain NUL; bytes are NUL-terminated */
    TD_JSON_ARRAY,
    TD_JSON_OBJECT, /* members in the order of the text, no key twice */
};

struct td_json {
    const struct td_json *next; /* the next element or member of the same container, or NULL */
    struct td_span key;         /* members: the key, NUL-terminated; else empty */
    enum td_json_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct td_span string;
        struct {
            const struct td_json *first; /* NULL if it is empty */
            size_t count;
        } items;
    };
};

/* Iterates over the elements of an array or the members of an object. */
#define td_json_for_each(item, container) \
    for (const struct td_json *item = (container)->items.first; item != NULL; item = item->next)

struct td_json_limits {
    size_t bytes_max;   /* of the text */
    uint32_t nodes_max; /* values of all kinds */
    uint32_t depth_max; /* nested containers, at most TD_JSON_DEPTH_MAX */
};

/* What an arena must hold so that no document within limits is refused for lack of room. */
size_t td_json_arena_bytes(const struct td_json_limits *limits);

/*
 * td_json_parse: read one document from text into arena.
 *
 * TD_INVALID: malformed; error names the byte offset and the reason, and never repeats content.
 * TD_LIMIT: over a limit (or the arena's); error says which. TD_NO_MEMORY.
 * After an error the arena may hold parts of the document.
 */
td_status_t td_json_parse(struct td_arena *arena, struct td_span text,
                          const struct td_json_limits *limits, const struct td_json **root_out,
                          struct td_error *error) TD_MUST_USE;

/* The member with this key, or NULL. A linear search: look each key up once. */
const struct td_json *td_json_find(const struct td_json *object, const char *key);

/* "null", "a boolean", "an integer", "a number", "a string", "an array", "an object" */
const char *td_json_kind_text(enum td_json_kind kind);

/* ------------------------------------------------------------------------------------------- */
/* Fields: a member together with its name, so that an error can say what was wrong with what.  */

struct td_json_field {
    const struct td_json *value; /* NULL: absent, or null, which means the same */
    const char *name;
};

/* The member of object with this name. */
struct td_json_field td_json_get(const struct td_json *object, const char *name);

/*
 * The readers leave *value_out alone and return TD_OK if the field is absent: set the default first.
 * A value of the wrong type or out of range is TD_INVALID, with the field's name and what is wanted.
 * An integer may be written as 5.0 or 5e0. Ranges are inclusive.
 */
td_status_t td_json_bool(struct td_json_field field, bool *value_out,
                         struct td_error *error) TD_MUST_USE;
td_status_t td_json_int(struct td_json_field field, int64_t min, int64_t max, int64_t *value_out,
                        struct td_error *error) TD_MUST_USE;
td_status_t td_json_number(struct td_json_field field, double min, double max, double *value_out,
                           struct td_error *error) TD_MUST_USE;
td_status_t td_json_string(struct td_json_field field, struct td_span *value_out,
                           struct td_error *error) TD_MUST_USE;
td_status_t td_json_array(struct td_json_field field, const struct td_json **value_out,
                          struct td_error *error) TD_MUST_USE;
td_status_t td_json_object(struct td_json_field field, const struct td_json **value_out,
                           struct td_error *error) TD_MUST_USE;

#endif
