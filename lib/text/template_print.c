/*
 * template_print.c: values as text: what Python's str() and json.dumps() give; see template_eval.h.
 *
 * Text made of anything but a string is untrusted: a number may have come with a request, and no template writes
 * control tokens as parts of JSON.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json_write.h"
#include "lib/base/utf8.h"
#include "lib/text/template_eval.h"
#include "lib/text/template_sequences.h"
#include "lib/text/unicode.h"

#define WRITE_DEPTH_MAX 128
#define NUMBER_BYTES    40
#define REPLACEMENT     0xFFFD

/* The shortest digits that read back as the same number, written as Python writes them. */
static void float_text(double number, char out[static NUMBER_BYTES])
{
    int digits = 0; /* behind the first */
    int exponent;

    if (!isfinite(number)) {
        snprintf(out, NUMBER_BYTES, "%s", isnan(number) ? "nan" : number < 0 ? "-inf" : "inf");
        return;
    }
    do
        snprintf(out, NUMBER_BYTES, "%.*e", digits, number);
    while (strtod(out, NULL) != number && ++digits < 17);
    exponent = atoi(strchr(out, 'e') + 1);
    if (exponent < -4 || exponent >= 16)
        return;
    if (digits > exponent)
        snprintf(out, NUMBER_BYTES, "%.*f", digits - exponent, number);
    else
        snprintf(out, NUMBER_BYTES, "%.1f", number);
}

/* Collects what is written of a value. */
struct writer {
    struct text_eval *eval;
    struct td_buf *out;
    uint32_t line;
    const struct text_json_form *form; /* NULL: Python's repr */
};

static bool writer_may_go_on(struct writer *writer, uint32_t depth, uint64_t bytes)
{
    if (depth > WRITE_DEPTH_MAX)
        text_eval_fail(writer->eval, writer->line, TD_LIMIT, "values nested deeper than %d",
                       WRITE_DEPTH_MAX);
    return text_eval_work(writer->eval, writer->line, bytes);
}

/* ------------------------------------------------------------------------------------------- */
/* str() and repr() */

static void repr_value(struct writer *writer, struct text_value value, uint32_t depth);

/* One character of a string, escaped as Python does. */
static void repr_character(struct td_buf *out, uint32_t character, char quote)
{
    static const char escaped[] = "\\\n\r\t";
    static const char names[] = "\\nrt";
    const char *place = character > 0 && character < 0x80 ? strchr(escaped, (int)character) : NULL;
    char bytes[TD_UTF8_BYTES_MAX];

    if (place != NULL)
        td_buf_printf(out, "\\%c", names[place - escaped]);
    else if (character == (uint8_t)quote)
        td_buf_printf(out, "\\%c", quote);
    else if (text_is_printable(character))
        td_buf_append(out, bytes, td_utf8_encode(character, bytes));
    else if (character < 0x100)
        td_buf_printf(out, "\\x%02x", character);
    else
        td_buf_printf(out, character < 0x10000 ? "\\u%04x" : "\\U%08x", character);
}

static void repr_string(struct td_buf *out, const struct text_string *string)
{
    const uint8_t *bytes = (const uint8_t *)string->bytes;
    bool has_single = memchr(bytes, '\'', string->length) != NULL;
    char quote = has_single && memchr(bytes, '"', string->length) == NULL ? '"' : '\'';
    size_t taken;

    td_buf_append_char(out, quote);
    for (size_t at = 0; at < string->length; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, string->length - at, &taken);

        repr_character(out, character < TEXT_UNFINISHED ? character : REPLACEMENT, quote);
    }
    td_buf_append_char(out, quote);
}

static void repr_list(struct writer *writer, const struct text_list *list, uint32_t depth)
{
    bool tuple = list->form == TEXT_FORM_TUPLE;

    td_buf_append_char(writer->out, tuple ? '(' : '[');
    for (uint32_t i = 0; i < list->count && writer->eval->status == TD_OK; i++) {
        if (i > 0)
            td_buf_append_text(writer->out, ", ");
        repr_value(writer, list->items[i], depth + 1);
    }
    if (tuple && list->count == 1)
        td_buf_append_char(writer->out, ',');
    td_buf_append_char(writer->out, tuple ? ')' : ']');
}

static void repr_dict(struct writer *writer, const struct text_dict *dict, uint32_t depth)
{
    td_buf_append_char(writer->out, '{');
    for (uint32_t i = 0; i < dict->count && writer->eval->status == TD_OK; i++) {
        if (i > 0)
            td_buf_append_text(writer->out, ", ");
        repr_value(writer, text_value_of(dict->entries[i].key), depth + 1);
        td_buf_append_text(writer->out, ": ");
        repr_value(writer, dict->entries[i].value, depth + 1);
    }
    td_buf_append_char(writer->out, '}');
}

static void repr_value(struct writer *writer, struct text_value value, uint32_t depth)
{
    char text[NUMBER_BYTES];

    if (!writer_may_go_on(writer, depth, value.kind == TEXT_STRING ? value.string->length : 0))
        return;
    switch (value.kind) {
    case TEXT_STRING: repr_string(writer->out, value.string); return;
    case TEXT_UNDEFINED: td_buf_append_text(writer->out, depth > 0 ? "Undefined" : ""); return;
    case TEXT_NONE: td_buf_append_text(writer->out, "None"); return;
    case TEXT_BOOL: td_buf_append_text(writer->out, value.boolean ? "True" : "False"); return;
    case TEXT_INT: td_buf_printf(writer->out, "%" PRId64, value.integer); return;
    case TEXT_FLOAT:
        float_text(value.number, text);
        td_buf_append_text(writer->out, text);
        return;
    case TEXT_LIST:
        if (value.list->form > TEXT_FORM_TUPLE)
            break;
        repr_list(writer, value.list, depth);
        return;
    case TEXT_DICT: repr_dict(writer, value.dict, depth); return;
    case TEXT_NAMESPACE:
    case TEXT_LOOP:
    case TEXT_MACRO:
    case TEXT_FUNCTION: break;
    }
    text_eval_fail_kind(writer->eval, writer->line, "write as text", value);
}

/* What a writer has written, as a string, and the end of its buffer. */
static const struct text_string *take_written(struct writer *writer)
{
    struct td_buf *out = writer->out;
    const struct text_string *string;

    if (out->status != TD_OK)
        text_eval_fail(writer->eval, writer->line, out->status, "a text over %zu bytes",
                       TEXT_BYTES_MAX);
    string = text_string_copy(
        &writer->eval->builder,
        td_span_over(out->data, writer->eval->status == TD_OK ? out->length : 0), false);
    td_buf_fini(out);
    return string;
}

const struct text_string *text_eval_print(struct text_eval *eval, uint32_t line,
                                          struct text_value value)
{
    struct td_buf out;
    struct writer writer = {.eval = eval, .out = &out, .line = line};

    if (value.kind == TEXT_STRING)
        return value.string;
    td_buf_init(&out, TEXT_BYTES_MAX);
    repr_value(&writer, value, 0);
    return take_written(&writer);
}

/* ------------------------------------------------------------------------------------------- */
/* JSON */

static void json_value(struct writer *writer, struct text_value value, uint32_t depth);

/* What stands in front of an item or of the closing bracket: a line of its own, or nothing. */
static void json_new_line(struct writer *writer, uint32_t depth)
{
    int indent = writer->form->indent;

    if (indent < 0 || !text_eval_work(writer->eval, writer->line, depth * (uint64_t)indent))
        return;
    td_buf_append_char(writer->out, '\n');
    for (uint32_t i = 0; i < depth * (uint32_t)indent; i++)
        td_buf_append_char(writer->out, ' ');
}

static void json_separate(struct writer *writer, uint32_t place, uint32_t depth)
{
    if (place > 0)
        td_buf_append(writer->out, writer->form->item_separator.bytes,
                      writer->form->item_separator.length);
    json_new_line(writer, depth);
}

static void json_string(struct writer *writer, const struct text_string *string)
{
    const uint8_t *bytes = (const uint8_t *)string->bytes;
    size_t plain = 0;
    size_t taken;

    if (!writer->form->ensure_ascii) {
        td_json_write_string(writer->out, text_string_span(string));
        return;
    }
    td_buf_append_char(writer->out, '"');
    for (size_t at = 0; at < string->length; at += taken) {
        uint32_t character = text_utf8_decode(bytes + at, string->length - at, &taken);

        if (character < 0x7F)
            continue;
        td_json_write_escaped(writer->out, td_span_over(string->bytes + plain, at - plain));
        plain = at + taken;
        if (character >= TEXT_UNFINISHED)
            character = REPLACEMENT;
        if (character >= 0x10000) {
            td_buf_printf(writer->out, "\\u%04x", 0xD7C0 + (character >> 10));
            character = 0xDC00 | (character & 0x3FF);
        }
        td_buf_printf(writer->out, "\\u%04x", character);
    }
    td_json_write_escaped(writer->out, td_span_over(string->bytes + plain, string->length - plain));
    td_buf_append_char(writer->out, '"');
}

static void json_list(struct writer *writer, const struct text_list *list, uint32_t depth)
{
    td_buf_append_char(writer->out, '[');
    for (uint32_t i = 0; i < list->count && writer->eval->status == TD_OK; i++) {
        json_separate(writer, i, depth + 1);
        json_value(writer, list->items[i], depth + 1);
    }
    if (list->count > 0)
        json_new_line(writer, depth);
    td_buf_append_char(writer->out, ']');
}

static void json_dict(struct writer *writer, const struct text_dict *dict, uint32_t depth)
{
    td_buf_append_char(writer->out, '{');
    for (uint32_t i = 0; i < dict->count && writer->eval->status == TD_OK; i++) {
        const struct text_string *key = dict->entries[i].key;

        json_separate(writer, i, depth + 1);
        if (!text_eval_work(writer->eval, writer->line, key->length))
            return;
        json_string(writer, key);
        td_buf_append(writer->out, writer->form->key_separator.bytes,
                      writer->form->key_separator.length);
        json_value(writer, dict->entries[i].value, depth + 1);
    }
    if (dict->count > 0)
        json_new_line(writer, depth);
    td_buf_append_char(writer->out, '}');
}

/* The same dict with its keys in order. */
static const struct text_dict *sorted_dict(struct writer *writer, struct text_value dict)
{
    struct text_value list = text_eval_sorted_items(writer->eval, writer->line, dict, false, true);
    struct text_value sorted = text_value_dict(&writer->eval->builder);

    if (list.kind != TEXT_LIST || sorted.kind != TEXT_DICT)
        return dict.dict;
    for (uint32_t i = 0; i < list.list->count; i++) {
        const struct text_list *pair = list.list->items[i].list;

        text_dict_append(&writer->eval->builder, sorted.dict, pair->items[0].string,
                         pair->items[1]);
    }
    return sorted.dict;
}

static void json_float(struct writer *writer, double number)
{
    char text[NUMBER_BYTES];

    if (isfinite(number))
        float_text(number, text);
    else
        snprintf(text, sizeof text, "%s",
                 isnan(number) ? "NaN"
                 : number < 0  ? "-Infinity"
                               : "Infinity");
    td_buf_append_text(writer->out, text);
}

static void json_value(struct writer *writer, struct text_value value, uint32_t depth)
{
    if (!writer_may_go_on(writer, depth, value.kind == TEXT_STRING ? value.string->length : 0))
        return;
    switch (value.kind) {
    case TEXT_NONE: td_buf_append_text(writer->out, "null"); return;
    case TEXT_BOOL: td_buf_append_text(writer->out, value.boolean ? "true" : "false"); return;
    case TEXT_INT: td_json_write_int(writer->out, value.integer); return;
    case TEXT_FLOAT: json_float(writer, value.number); return;
    case TEXT_STRING: json_string(writer, value.string); return;
    case TEXT_LIST:
        if (value.list->form > TEXT_FORM_TUPLE)
            break;
        json_list(writer, value.list, depth);
        return;
    case TEXT_DICT:
        json_dict(writer, writer->form->sort_keys ? sorted_dict(writer, value) : value.dict, depth);
        return;
    case TEXT_UNDEFINED:
    case TEXT_NAMESPACE:
    case TEXT_LOOP:
    case TEXT_MACRO:
    case TEXT_FUNCTION: break;
    }
    text_eval_fail_kind(writer->eval, writer->line, "write as JSON", value);
}

const struct text_string *text_eval_json(struct text_eval *eval, uint32_t line,
                                         struct text_value value, const struct text_json_form *form)
{
    struct td_buf out;
    struct writer writer = {.eval = eval, .out = &out, .line = line, .form = form};

    td_buf_init(&out, TEXT_BYTES_MAX);
    json_value(&writer, value, 0);
    return take_written(&writer);
}
