/*
 * template_print.c: values as text: what Python's str() and json.dumps() give; see template_eval.h.
 *
 * Text made of anything but a string is untrusted: a number may have come with a request.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json_write.h"
#include "lib/text/template_eval.h"

#define JSON_DEPTH_MAX 128
#define NUMBER_BYTES   40

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

const struct text_string *text_eval_print(struct text_eval *eval, uint32_t line,
                                          struct text_value value)
{
    char text[NUMBER_BYTES] = "";

    switch (value.kind) {
    case TEXT_STRING: return value.string;
    case TEXT_UNDEFINED: break;
    case TEXT_NONE: snprintf(text, sizeof text, "None"); break;
    case TEXT_BOOL: snprintf(text, sizeof text, "%s", value.boolean ? "True" : "False"); break;
    case TEXT_INT: snprintf(text, sizeof text, "%" PRId64, value.integer); break;
    case TEXT_FLOAT: float_text(value.number, text); break;
    case TEXT_LIST:
    case TEXT_DICT:
    case TEXT_NAMESPACE:
    case TEXT_LOOP:
        text_eval_fail(eval, line, TD_INVALID, "%s cannot be written as text; use tojson",
                       text_kind_name(value.kind));
        break;
    }
    return text_string_copy(&eval->builder, td_span_of(text), false);
}

/* ------------------------------------------------------------------------------------------- */

struct json {
    struct text_eval *eval;
    struct td_buf *out;
    uint32_t line;
    int indent; /* spaces per level; below 0: everything on one line */
};

static void json_value(struct json *json, struct text_value value, uint32_t depth);

/* What stands in front of an item or of the closing bracket: a line of its own, or nothing. */
static void json_new_line(struct json *json, uint32_t depth)
{
    if (json->indent < 0)
        return;
    td_buf_append_char(json->out, '\n');
    for (uint32_t i = 0; i < depth * (uint32_t)json->indent; i++)
        td_buf_append_char(json->out, ' ');
}

static void json_separate(struct json *json, uint32_t place, uint32_t depth)
{
    if (place > 0)
        td_buf_append_text(json->out, json->indent < 0 ? ", " : ",");
    json_new_line(json, depth);
}

static void json_list(struct json *json, const struct text_list *list, uint32_t depth)
{
    td_buf_append_char(json->out, '[');
    for (uint32_t i = 0; i < list->count && json->eval->status == TD_OK; i++) {
        json_separate(json, i, depth + 1);
        json_value(json, list->items[i], depth + 1);
    }
    if (list->count > 0)
        json_new_line(json, depth);
    td_buf_append_char(json->out, ']');
}

static void json_dict(struct json *json, const struct text_dict *dict, uint32_t depth)
{
    td_buf_append_char(json->out, '{');
    for (uint32_t i = 0; i < dict->count && json->eval->status == TD_OK; i++) {
        const struct text_string *key = dict->entries[i].key;

        json_separate(json, i, depth + 1);
        if (!text_eval_work(json->eval, json->line, key->length))
            return;
        td_json_write_string(json->out, text_string_span(key));
        td_buf_append_text(json->out, ": ");
        json_value(json, dict->entries[i].value, depth + 1);
    }
    if (dict->count > 0)
        json_new_line(json, depth);
    td_buf_append_char(json->out, '}');
}

static void json_float(struct json *json, double number)
{
    char text[NUMBER_BYTES];

    if (isfinite(number))
        float_text(number, text);
    else
        snprintf(text, sizeof text, "%s",
                 isnan(number) ? "NaN"
                 : number < 0  ? "-Infinity"
                               : "Infinity");
    td_buf_append_text(json->out, text);
}

static void json_value(struct json *json, struct text_value value, uint32_t depth)
{
    uint64_t bytes = value.kind == TEXT_STRING ? value.string->length : 0;

    if (depth > JSON_DEPTH_MAX)
        text_eval_fail(json->eval, json->line, TD_LIMIT, "values nested deeper than %d",
                       JSON_DEPTH_MAX);
    if (!text_eval_work(json->eval, json->line, bytes))
        return;
    switch (value.kind) {
    case TEXT_NONE: td_buf_append_text(json->out, "null"); break;
    case TEXT_BOOL: td_buf_append_text(json->out, value.boolean ? "true" : "false"); break;
    case TEXT_INT: td_json_write_int(json->out, value.integer); break;
    case TEXT_FLOAT: json_float(json, value.number); break;
    case TEXT_STRING: td_json_write_string(json->out, text_string_span(value.string)); break;
    case TEXT_LIST: json_list(json, value.list, depth); break;
    case TEXT_DICT: json_dict(json, value.dict, depth); break;
    case TEXT_UNDEFINED:
    case TEXT_NAMESPACE:
    case TEXT_LOOP: text_eval_fail_kind(json->eval, json->line, "write as JSON", value); break;
    }
}

const struct text_string *text_eval_json(struct text_eval *eval, uint32_t line,
                                         struct text_value value, int indent)
{
    const struct text_string *string;
    struct td_buf out;
    struct json json = {.eval = eval, .out = &out, .line = line, .indent = indent};

    td_buf_init(&out, TEXT_BYTES_MAX);
    json_value(&json, value, 0);
    if (out.status != TD_OK)
        text_eval_fail(eval, line, out.status, "JSON over %zu bytes", TEXT_BYTES_MAX);
    string = text_string_copy(
        &eval->builder, td_span_over(out.data, eval->status == TD_OK ? out.length : 0), false);
    td_buf_fini(&out);
    return string;
}
