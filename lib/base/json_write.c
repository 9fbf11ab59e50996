/* json_write.c: JSON text from values, see json_write.h. */
#include "lib/base/json_write.h"

#include <assert.h>
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/base/json_scan.h"
#include "lib/base/utf8.h"

#define DOUBLE_BYTES_MAX 32 /* "-2.2250738585072014e-308" and ".0" */

/* The letter of a two-character escape, 'u' for a six-character one, 0 if none is needed. */
static char escape_of(unsigned char c)
{
    switch (c) {
    case '"': return '"';
    case '\\': return '\\';
    case '\b': return 'b';
    case '\f': return 'f';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\t': return 't';
    default: return c < 0x20 ? 'u' : 0;
    }
}

/* The number of leading bytes that can be copied as they are: valid, and without need of escape. */
static size_t copy_run(const char *text, size_t length)
{
    size_t at = 0;

    for (;;) {
        size_t bytes;

        at += td_json_plain_run(text + at, length - at);
        if (at == length || escape_of((unsigned char)text[at]) != 0)
            return at;
        bytes = td_utf8_character(text + at, length - at);
        if (bytes == 0)
            return at;
        at += bytes;
    }
}

void td_json_write_escaped(struct td_buf *buf, struct td_span text)
{
    const char *cursor = text.bytes;
    size_t left = text.length;

    while (left > 0) {
        size_t run = copy_run(cursor, left);
        char escape;

        td_buf_append(buf, cursor, run);
        cursor += run;
        left -= run;
        if (left == 0)
            return;
        escape = escape_of((unsigned char)*cursor);
        if (escape == 0)
            td_buf_append_text(buf, TD_UTF8_REPLACEMENT);
        else if (escape == 'u')
            td_buf_printf(buf, "\\u%04x", (unsigned)(unsigned char)*cursor);
        else
            td_buf_append(buf, (const char[]){'\\', escape}, 2);
        cursor++;
        left--;
    }
}

void td_json_write_string(struct td_buf *buf, struct td_span text)
{
    td_buf_append_char(buf, '"');
    td_json_write_escaped(buf, text);
    td_buf_append_char(buf, '"');
}

void td_json_write_int(struct td_buf *buf, int64_t value)
{
    if (value < 0)
        td_buf_append_char(buf, '-');
    td_json_write_uint(buf, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void td_json_write_uint(struct td_buf *buf, uint64_t value)
{
    char digits[20];
    char *first = digits + sizeof digits;

    do {
        *--first = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    td_buf_append(buf, first, (size_t)(digits + sizeof digits - first));
}

void td_json_write_double(struct td_buf *buf, double value)
{
    char text[DOUBLE_BYTES_MAX];

    if (!isfinite(value)) {
        td_buf_append_text(buf, "null");
        return;
    }
    /* 15 digits always survive a double and 17 always suffice; subnormals have fewer than 15 */
    for (int digits = fabs(value) < DBL_MIN ? 1 : 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    td_buf_append_text(buf, text);
    if (strpbrk(text, ".e") == NULL)
        td_buf_append_text(buf, ".0"); /* stays a number, not an integer, when read back */
}

static void write_items(struct td_buf *buf, const struct td_json *container)
{
    bool object = container->kind == TD_JSON_OBJECT;

    td_buf_append_char(buf, object ? '{' : '[');
    td_json_for_each(item, container)
    {
        if (item != container->items.first)
            td_buf_append_char(buf, ',');
        if (object) {
            td_json_write_string(buf, item->key);
            td_buf_append_char(buf, ':');
        }
        td_json_write_tree(buf, item);
    }
    td_buf_append_char(buf, object ? '}' : ']');
}

/* Recursion is as deep as the parsed tree, at most TD_JSON_DEPTH_MAX. */
void td_json_write_tree(struct td_buf *buf, const struct td_json *root)
{
    switch (root->kind) {
    case TD_JSON_NULL: td_buf_append_text(buf, "null"); break;
    case TD_JSON_BOOL: td_buf_append_text(buf, root->boolean ? "true" : "false"); break;
    case TD_JSON_INTEGER: td_json_write_int(buf, root->integer); break;
    case TD_JSON_NUMBER: td_json_write_double(buf, root->number); break;
    case TD_JSON_STRING: td_json_write_string(buf, root->string); break;
    case TD_JSON_ARRAY:
    case TD_JSON_OBJECT: write_items(buf, root); break;
    }
}

/* ------------------------------------------------------------------------------------------- */

struct td_json_writer td_json_writer_to(struct td_buf *buf)
{
    return (struct td_json_writer){.buf = buf};
}

/* What comes before a value: a comma unless it is the first, and the key in an object. */
static void before_value(struct td_json_writer *writer, const char *key)
{
    uint64_t bit;

    if (writer->depth == 0) {
        assert(key == NULL);
        return;
    }
    bit = UINT64_C(1) << (writer->depth - 1);
    assert((key == NULL) == ((writer->arrays & bit) != 0));
    if ((writer->nonempty & bit) != 0)
        td_buf_append_char(writer->buf, ',');
    writer->nonempty |= bit;
    if (key != NULL) {
        td_json_write_string(writer->buf, td_span_of(key));
        td_buf_append_char(writer->buf, ':');
    }
}

static void begin(struct td_json_writer *writer, const char *key, bool array)
{
    uint64_t bit;

    before_value(writer, key);
    assert(writer->depth < TD_JSON_DEPTH_MAX);
    bit = UINT64_C(1) << writer->depth++;
    writer->nonempty &= ~bit;
    writer->arrays = array ? writer->arrays | bit : writer->arrays & ~bit;
    td_buf_append_char(writer->buf, array ? '[' : '{');
}

void td_json_begin_object(struct td_json_writer *writer, const char *key)
{
    begin(writer, key, false);
}

void td_json_begin_array(struct td_json_writer *writer, const char *key)
{
    begin(writer, key, true);
}

void td_json_end(struct td_json_writer *writer)
{
    assert(writer->depth > 0);
    writer->depth--;
    td_buf_append_char(writer->buf, (writer->arrays >> writer->depth & 1) != 0 ? ']' : '}');
}

void td_json_put_span(struct td_json_writer *writer, const char *key, struct td_span text)
{
    before_value(writer, key);
    td_json_write_string(writer->buf, text);
}

void td_json_put_text(struct td_json_writer *writer, const char *key, const char *text)
{
    td_json_put_span(writer, key, td_span_of(text));
}

void td_json_put_int(struct td_json_writer *writer, const char *key, int64_t value)
{
    before_value(writer, key);
    td_json_write_int(writer->buf, value);
}

void td_json_put_uint(struct td_json_writer *writer, const char *key, uint64_t value)
{
    before_value(writer, key);
    td_json_write_uint(writer->buf, value);
}

void td_json_put_double(struct td_json_writer *writer, const char *key, double value)
{
    before_value(writer, key);
    td_json_write_double(writer->buf, value);
}

void td_json_put_bool(struct td_json_writer *writer, const char *key, bool value)
{
    before_value(writer, key);
    td_buf_append_text(writer->buf, value ? "true" : "false");
}

void td_json_put_null(struct td_json_writer *writer, const char *key)
{
    before_value(writer, key);
    td_buf_append_text(writer->buf, "null");
}

void td_json_put_raw(struct td_json_writer *writer, const char *key, struct td_span json)
{
    before_value(writer, key);
    td_buf_append(writer->buf, json.bytes, json.length);
}
