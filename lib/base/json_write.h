/*
 * json_write.h: writing JSON into a td_buf.
 *
 * What is written is always valid JSON, whatever the values: strings are escaped and bytes that are
 * not UTF-8 become U+FFFD; NaN and infinities become null. Failures to grow stick in the buffer.
 *
 * A writer keeps track of commas and brackets, so that a call site reads like the document:
 *
 *     struct td_json_writer w = td_json_writer_to(&buf);
 *     td_json_begin_object(&w, NULL);
 *     td_json_put_text(&w, "object", "list");
 *     td_json_begin_array(&w, "data");
 *     td_json_put_int(&w, NULL, 5);
 *     td_json_end(&w);
 *     td_json_end(&w);                             {"object":"list","data":[5]}
 *
 * The key is NULL in arrays and for the document itself, and a plain literal elsewhere: keys are
 * escaped too, but they are meant to be ours.
 */
#ifndef TANDEM_LIB_BASE_JSON_WRITE_H
#define TANDEM_LIB_BASE_JSON_WRITE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/span.h"

/* One value each, without any comma. */
void td_json_write_string(struct td_buf *buf, struct td_span text);
void td_json_write_int(struct td_buf *buf, int64_t value);
void td_json_write_uint(struct td_buf *buf, uint64_t value);

/* The shortest text that reads back as the same double; always with a '.' or an exponent. */
void td_json_write_double(struct td_buf *buf, double value);

/* A parsed tree, compact. Parsing what was written gives an equal tree. */
void td_json_write_tree(struct td_buf *buf, const struct td_json *root);

/* What td_json_write_string puts between its quotes. Whole characters only. */
void td_json_write_escaped(struct td_buf *buf, struct td_span text);

struct td_json_writer {
    struct td_buf *buf;
    uint64_t arrays;   /* bit i: the container at depth i is an array */
    uint64_t nonempty; /* bit i: it has an element already */
    unsigned depth;    /* open containers, at most TD_JSON_DEPTH_MAX */
};

struct td_json_writer td_json_writer_to(struct td_buf *buf);

void td_json_begin_object(struct td_json_writer *writer, const char *key);
void td_json_begin_array(struct td_json_writer *writer, const char *key);
void td_json_end(struct td_json_writer *writer); /* closes the innermost container */

void td_json_put_span(struct td_json_writer *writer, const char *key, struct td_span text);
void td_json_put_text(struct td_json_writer *writer, const char *key, const char *text);
void td_json_put_int(struct td_json_writer *writer, const char *key, int64_t value);
void td_json_put_uint(struct td_json_writer *writer, const char *key, uint64_t value);
void td_json_put_double(struct td_json_writer *writer, const char *key, double value);
void td_json_put_bool(struct td_json_writer *writer, const char *key, bool value);
void td_json_put_null(struct td_json_writer *writer, const char *key);

/* json is a complete JSON value that was written before. */
void td_json_put_raw(struct td_json_writer *writer, const char *key, struct td_span json);

#endif
