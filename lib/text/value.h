/*
 * value.h: the values a chat template works on, and how a request becomes one.
 *
 * The API side builds messages and tools as values with a struct text_builder: lists and dicts in
 * an arena, strings borrowed from the request body. Every string built here is untrusted, but for
 * text_value_word, which takes our own words only: templates put roles inside of control tokens.
 *
 *     struct text_builder builder = text_builder_in(&arena);
 *     struct text_value messages = text_value_list(&builder);
 *     struct text_value message = text_value_dict(&builder);
 *
 *     text_dict_add(&builder, message, td_span_of("role"), text_value_string(&builder, role));
 *     text_dict_add(&builder, message, td_span_of("content"), text_value_string(&builder, content));
 *     text_list_append(&builder, messages, message);
 *     if (builder.status != TD_OK) ...
 *
 * Values are not thread-safe while they are built, and do not change while a template runs.
 */
#ifndef TANDEM_LIB_TEXT_VALUE_H
#define TANDEM_LIB_TEXT_VALUE_H

#include "lib/base/arena.h"
#include "lib/base/status.h"
#include "lib/text/types.h"

enum text_kind {
    TEXT_UNDEFINED = 0, /* a name or key that is not there */
    TEXT_NONE,
    TEXT_BOOL,
    TEXT_INT,
    TEXT_FLOAT,
    TEXT_STRING,
    TEXT_LIST,
    TEXT_DICT,
    TEXT_NAMESPACE, /* made by a template only: the one value that changes */
    TEXT_LOOP,      /* made by a template only: the variable `loop` */
    TEXT_MACRO,     /* made by a template only */
    TEXT_FUNCTION,  /* a function or method that is not called: it is defined and true, no more */
};

/* Text that knows who wrote it. Immutable. */
struct text_string {
    const char *bytes;
    uint32_t length;
    uint32_t run_count;          /* 0 exactly if length is 0 */
    const struct text_run *runs; /* cover the bytes in order; neighbours differ in trust */
};

struct text_list;
struct text_dict;
struct text_loop;
struct text_macro;
struct text_builtin;

struct text_value {
    enum text_kind kind;
    union {
        bool boolean;
        int64_t integer;
        double number;
        const struct text_string *string; /* of a STRING, or the name that is UNDEFINED */
        struct text_list *list;
        struct text_dict *dict; /* of a DICT or a NAMESPACE */
        const struct text_loop *loop;
        const struct text_macro *macro;
        const struct text_builtin *function;
    };
};

/* What Python calls a list that a template works on; it matters where one is written as text. */
enum text_list_form {
    TEXT_FORM_LIST = 0,
    TEXT_FORM_TUPLE,
    TEXT_FORM_VIEW,     /* of a dict, of a range: nothing writes it */
    TEXT_FORM_ITERATOR, /* the same, and it has no length, and is true even if empty */
};

struct text_list {
    struct text_value *items;
    uint32_t count;
    uint32_t capacity;
    enum text_list_form form;
};

struct text_entry {
    const struct text_string *key;
    struct text_value value;
};

/* Entries in the order of insertion, as Python's dicts have them. */
struct text_dict {
    struct text_entry *entries;
    uint32_t count;
    uint32_t capacity;
};

/* Where values are allocated. The first failure sticks; calls after it give undefined and do nothing. */
struct text_builder {
    struct td_arena *arena;
    td_status_t status; /* TD_OK, or TD_LIMIT: the arena is full (or there is no memory) */
};

struct text_builder text_builder_in(struct td_arena *arena);

struct text_value text_value_undefined(void);
struct text_value text_value_none(void);
struct text_value text_value_bool(bool boolean);
struct text_value text_value_int(int64_t integer);
struct text_value text_value_float(double number);

/* An untrusted string. The bytes (UTF-8, at most TEXT_BYTES_MAX) are borrowed for the value's life. */
struct text_value text_value_string(struct text_builder *builder, struct td_span bytes);

/*
 * A trusted string: one of our own words (a role), never text of a client. The word is a literal of letters and _,
 * which is asserted, so that by itself it makes no control token.
 */
struct text_value text_value_word(struct text_builder *builder, const char *word);

struct text_value text_value_list(struct text_builder *builder);
struct text_value text_value_dict(struct text_builder *builder);

/* Appends to a list that was made by text_value_list. */
void text_list_append(struct text_builder *builder, struct text_value list, struct text_value item);

/*
 * Adds an entry to a dict that was made by text_value_dict. The key is borrowed like a string. Keys are not
 * compared: the caller's reader has refused duplicates; of two equal keys the first is found.
 */
void text_dict_add(struct text_builder *builder, struct text_value dict, struct td_span key,
                   struct text_value value);

#endif
