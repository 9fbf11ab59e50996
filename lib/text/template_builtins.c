/* template_builtins.c: filters of text and numbers, and functions, see template_builtins.h. */
#include "lib/text/template_builtins.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/text/template_eval.h"
#include "lib/text/template_methods.h"
#include "lib/text/template_sequences.h"

#define RANGE_MAX        100000 /* as Jinja's sandbox has it */
#define INDENT_MAX       16
#define RAISED_BYTES_MAX 180

/* Whether an optional argument was given. */
static bool is_given(struct text_value value)
{
    return value.kind != TEXT_UNDEFINED;
}

/* ------------------------------------------------------------------------------------------- */
/* Filters */

/* Filters for text take any value and work on what it prints as; so do methods, on the string they are. */
static struct text_arguments on_text(struct text_eval *eval, const struct text_arguments *arguments)
{
    struct text_arguments with_text = *arguments;

    with_text.base = text_value_of(text_eval_print(eval, arguments->line, arguments->base));
    return with_text;
}

static struct text_value filter_trim(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_strip(eval, &arguments);
}

static struct text_value filter_upper(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_upper(eval, &arguments);
}

static struct text_value filter_lower(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_lower(eval, &arguments);
}

static struct text_value filter_capitalize(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_capitalize(eval, &arguments);
}

static struct text_value filter_replace(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_replace(eval, &arguments);
}

/* The entity of a character that HTML does not take as it is, or NULL. */
static const char *entity_of(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '\'': return "&#39;";
    case '"': return "&#34;";
    default: return NULL;
    }
}

static struct text_value filter_escape(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = text_eval_print(eval, given->line, given->base);
    const struct text_string *escaped;
    struct td_buf out;

    if (!text_eval_work(eval, given->line, string->length))
        return text_value_undefined();
    td_buf_init(&out, TEXT_BYTES_MAX);
    for (uint32_t i = 0; i < string->length; i++) {
        const char *entity = entity_of(string->bytes[i]);

        if (entity != NULL)
            td_buf_append_text(&out, entity);
        else
            td_buf_append_char(&out, string->bytes[i]);
    }
    if (out.status != TD_OK)
        text_eval_fail(eval, given->line, out.status, "a text over %zu bytes", TEXT_BYTES_MAX);
    escaped = text_string_copy(&eval->builder, td_span_over(out.data, out.length),
                               text_string_is_trusted(string));
    td_buf_fini(&out);
    return text_value_of(escaped);
}

/* What stands beside HTML in a sum: as always, only a string can be added to a string. */
static struct text_value escaped_operand(struct text_eval *eval, const struct text_arguments *given)
{
    if (given->base.kind != TEXT_STRING)
        return text_eval_fail_kind(eval, given->line, "add", given->base);
    return filter_escape(eval, given);
}

const struct text_builtin text_escaped_operand = {"+", escaped_operand, 0, 0, {NULL}};

/* Jinja's own rule for title: a word begins behind - ( [ { < or whitespace. */
static struct text_value filter_title(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_title_words(eval, &arguments);
}

/* string, and safe: nothing is escaped here, so there is nothing to mark. */
static struct text_value filter_string(struct text_eval *eval, const struct text_arguments *given)
{
    return on_text(eval, given).base;
}

static struct text_value filter_length(struct text_eval *eval, const struct text_arguments *given)
{
    switch (given->base.kind) {
    case TEXT_UNDEFINED: return text_value_int(0);
    case TEXT_LIST:
        if (given->base.list->form == TEXT_FORM_ITERATOR)
            return text_eval_fail_kind(eval, given->line, "take the length of", given->base);
        return text_value_int(given->base.list->count);
    case TEXT_DICT: return text_value_int(given->base.dict->count);
    case TEXT_STRING:
        text_eval_work(eval, given->line, given->base.string->length);
        return text_value_int(text_string_characters(given->base.string));
    default: return text_eval_fail_kind(eval, given->line, "take the length of", given->base);
    }
}

/* indent=: none, or a number; false (and failed) if it is something else. */
static bool read_indent(struct text_eval *eval, uint32_t line, struct text_value value,
                        int *indent_out)
{
    int64_t indent = -1;

    if (is_given(value) && value.kind != TEXT_NONE &&
        (!text_value_integer(value, &indent) || indent < 0 || indent > INDENT_MAX)) {
        text_eval_fail(eval, line, TD_UNSUPPORTED, "indent must be 0 to %d", INDENT_MAX);
        return false;
    }
    *indent_out = (int)indent;
    return true;
}

/* separators=(item, key); false (and failed) if it is something else. */
static bool read_separators(struct text_eval *eval, uint32_t line, struct text_value value,
                            struct text_json_form *form)
{
    const struct text_value *items = value.kind == TEXT_LIST ? value.list->items : NULL;

    if (!is_given(value) || value.kind == TEXT_NONE)
        return true;
    if (items == NULL || value.list->count != 2 || items[0].kind != TEXT_STRING ||
        items[1].kind != TEXT_STRING) {
        text_eval_fail(eval, line, TD_INVALID, "separators must be two strings");
        return false;
    }
    form->item_separator = text_string_span(items[0].string);
    form->key_separator = text_string_span(items[1].string);
    return true;
}

static struct text_value filter_tojson(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_json_form form = {.ensure_ascii = text_eval_truth(given->values[1]),
                                  .sort_keys = text_eval_truth(given->values[3]),
                                  .key_separator = td_span_of(": ")};

    if (!read_indent(eval, given->line, given->values[0], &form.indent))
        return text_value_undefined();
    form.item_separator = td_span_of(form.indent < 0 ? ", " : ",");
    if (!read_separators(eval, given->line, given->values[2], &form))
        return text_value_undefined();
    return text_value_of(text_eval_json(eval, given->line, given->base, &form));
}

/* Where the line that begins at `at` ends, its newline included. */
static uint32_t line_end(const struct text_string *string, uint32_t at)
{
    const char *end = memchr(string->bytes + at, '\n', string->length - at);

    return end == NULL ? string->length : (uint32_t)(end - string->bytes) + 1;
}

/* indent(width=4, first=false, blank=false): blanks in front of each line but the first and empty ones. */
static struct text_value filter_indent(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *string = given->base.string;
    struct text_value parts = text_value_list(&eval->builder);
    bool blank = text_eval_truth(given->values[2]);
    const struct text_string *margin;
    int64_t width = 4;
    uint32_t end;

    if (given->base.kind != TEXT_STRING)
        return text_eval_fail_kind(eval, given->line, "indent", given->base);
    if (given->values[0].kind == TEXT_STRING) {
        margin = given->values[0].string;
    } else {
        if (is_given(given->values[0]) && !text_value_integer(given->values[0], &width))
            return text_eval_fail_kind(eval, given->line, "indent by", given->values[0]);
        margin = text_eval_operate(
                     eval, given->line, EXPRESSION_MULTIPLY,
                     text_value_of(text_string_over(&eval->builder, td_span_of(" "), true)),
                     text_value_int(width))
                     .string;
    }
    for (uint32_t at = 0; at < string->length && parts.kind == TEXT_LIST; at = end) {
        end = line_end(string, at);
        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            return text_value_undefined();
        if (at == 0 ? text_eval_truth(given->values[1]) : blank || (string->bytes[at] != '\n'))
            text_list_append(&eval->builder, parts, text_value_of(margin));
        text_list_append(&eval->builder, parts,
                         text_value_of(text_string_slice(&eval->builder, string, at, end)));
    }
    if (parts.kind != TEXT_LIST)
        return parts;
    if (string->length == 0 ? text_eval_truth(given->values[1])
                            : blank && string->bytes[string->length - 1] == '\n')
        text_list_append(&eval->builder, parts, text_value_of(margin));
    return text_eval_join(eval, given->line, parts.list->items, parts.list->count);
}

static struct text_value filter_default(struct text_eval *eval, const struct text_arguments *given)
{
    bool use_default = given->base.kind == TEXT_UNDEFINED ||
                       (text_eval_truth(given->values[1]) && !text_eval_truth(given->base));

    if (!use_default)
        return given->base;
    if (!is_given(given->values[0]))
        return text_value_of(text_string_over(&eval->builder, td_span_over("", 0), true));
    return given->values[0];
}

/* ------------------------------------------------------------------------------------------- */
/* Filters of numbers */

/* A string as a number of Python's; false: it is none. */
static bool parse_number(struct text_eval *eval, const struct text_string *string,
                         double *number_out)
{
    const struct text_string *trimmed = text_string_strip(&eval->builder, string, NULL, true, true);
    char text[64];
    char *end;

    if (trimmed->length == 0 || trimmed->length >= sizeof text)
        return false;
    memcpy(text, trimmed->bytes, trimmed->length);
    text[trimmed->length] = '\0';
    if (strspn(text, "+-.0123456789eE") != trimmed->length) /* no hexadecimal, no names */
        return false;
    *number_out = strtod(text, &end);
    return *end == '\0' && isfinite(*number_out);
}

/* A whole number in decimal; false: the string is something else, or it does not fit. */
static bool parse_integer(struct text_eval *eval, const struct text_string *string,
                          int64_t *integer_out)
{
    const struct text_string *trimmed = text_string_strip(&eval->builder, string, NULL, true, true);
    char text[32];
    char *end;

    if (trimmed->length == 0 || trimmed->length >= sizeof text)
        return false;
    memcpy(text, trimmed->bytes, trimmed->length);
    text[trimmed->length] = '\0';
    if (strspn(text, "+-0123456789") != trimmed->length)
        return false;
    errno = 0;
    *integer_out = strtoll(text, &end, 10);
    return *end == '\0' && end != text && errno == 0;
}

static bool fits_integer(double number)
{
    return number > -9e18 && number < 9e18;
}

static struct text_value filter_int(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_value otherwise = is_given(given->values[0]) ? given->values[0] : text_value_int(0);
    int64_t integer;
    double number;

    if (text_value_integer(given->base, &integer))
        return text_value_int(integer);
    if (given->base.kind == TEXT_FLOAT)
        number = given->base.number;
    else if (given->base.kind != TEXT_STRING)
        return otherwise;
    else if (parse_integer(eval, given->base.string, &integer))
        return text_value_int(integer);
    else if (!parse_number(eval, given->base.string, &number))
        return otherwise;
    return fits_integer(number) ? text_value_int((int64_t)number) : otherwise;
}

static struct text_value filter_float(struct text_eval *eval, const struct text_arguments *given)
{
    int64_t integer;
    double number;

    if (text_value_integer(given->base, &integer))
        return text_value_float((double)integer);
    if (given->base.kind == TEXT_FLOAT)
        return given->base;
    if (given->base.kind == TEXT_STRING && parse_number(eval, given->base.string, &number))
        return text_value_float(number);
    return is_given(given->values[0]) ? given->values[0] : text_value_float(0);
}

static struct text_value filter_abs(struct text_eval *eval, const struct text_arguments *given)
{
    int64_t integer;

    if (given->base.kind == TEXT_FLOAT)
        return text_value_float(fabs(given->base.number));
    if (!text_value_integer(given->base, &integer) || integer == INT64_MIN)
        return text_eval_fail_kind(eval, given->line, "take the absolute value of", given->base);
    return text_value_int(integer < 0 ? -integer : integer);
}

/* round(precision=0, method='common'): to even, as Python rounds; or 'ceil', 'floor'. */
static struct text_value filter_round(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_value method = given->values[1];
    int64_t precision = 0;
    int64_t integer;
    char text[400];

    if (is_given(given->values[0]) &&
        (!text_value_integer(given->values[0], &precision) || precision < 0 || precision > 15)) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "round goes to 0 to 15 places");
        return text_value_undefined();
    }
    if (is_given(method) &&
        (method.kind != TEXT_STRING || !td_span_is(text_string_span(method.string), "common"))) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "round has no method but 'common'");
        return text_value_undefined();
    }
    if (text_value_integer(given->base, &integer))
        return text_value_int(integer);
    if (given->base.kind != TEXT_FLOAT)
        return text_eval_fail_kind(eval, given->line, "round", given->base);
    snprintf(text, sizeof text, "%.*f", (int)precision, given->base.number);
    return text_value_float(strtod(text, NULL));
}

/* ------------------------------------------------------------------------------------------- */

static struct text_value filter_items(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_value list = text_value_list(&eval->builder);

    if (given->base.kind != TEXT_UNDEFINED)
        list = text_method_items(eval, given);
    if (list.kind == TEXT_LIST)
        list.list->form = TEXT_FORM_ITERATOR;
    return list;
}

static const struct text_builtin filters[] = {
    {"abs", filter_abs, 0, 0, {NULL}},
    {"capitalize", filter_capitalize, 0, 0, {NULL}},
    {"count", filter_length, 0, 0, {NULL}},
    {"d", filter_default, 0, 2, {"default_value", "boolean", NULL}},
    {"default", filter_default, 0, 2, {"default_value", "boolean", NULL}},
    {"e", filter_escape, 0, 0, {NULL}},
    {"escape", filter_escape, 0, 0, {NULL}},
    {"float", filter_float, 0, 1, {"default", NULL}},
    {"indent", filter_indent, 0, 3, {"width", "first", "blank", NULL}},
    {"int", filter_int, 0, 1, {"default", NULL}},
    {"items", filter_items, 0, 0, {NULL}},
    {"length", filter_length, 0, 0, {NULL}},
    {"lower", filter_lower, 0, 0, {NULL}},
    {"replace", filter_replace, 2, 3, {"old", "new", "count", NULL}},
    {"round", filter_round, 0, 2, {"precision", "method", NULL}},
    {"safe", filter_string, 0, 0, {NULL}},
    {"string", filter_string, 0, 0, {NULL}},
    {"title", filter_title, 0, 0, {NULL}},
    {"tojson", filter_tojson, 0, 0, {"indent", "ensure_ascii", "separators", "sort_keys", NULL}},
    {"trim", filter_trim, 0, 1, {"chars", NULL}},
    {"upper", filter_upper, 0, 0, {NULL}},
};

/* ------------------------------------------------------------------------------------------- */
/* Functions */

static struct text_value function_raise(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_string *message = text_eval_print(eval, given->line, given->values[0]);
    uint32_t shown = 0;

    while (shown < message->length) { /* whole characters, as many as fit */
        uint32_t next = text_string_character_end(message, shown);

        if (next > RAISED_BYTES_MAX)
            break;
        shown = next;
    }
    text_eval_fail(eval, given->line, TD_INVALID, "%.*s", (int)shown, message->bytes);
    return text_value_undefined();
}

static struct text_value function_range(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_value list = text_value_list(&eval->builder);
    int64_t bounds[] = {0, 0, 1}; /* start, stop, step */

    for (uint32_t i = 0; i < sizeof bounds / sizeof bounds[0] && is_given(given->values[i]); i++)
        if (!text_value_integer(given->values[i], &bounds[i]))
            return text_eval_fail_kind(eval, given->line, "make a range of", given->values[i]);
    if (!is_given(given->values[1])) {
        bounds[1] = bounds[0];
        bounds[0] = 0;
    }
    if (bounds[2] == 0)
        text_eval_fail(eval, given->line, TD_INVALID, "a range with a step of zero");
    for (int64_t at = bounds[0]; bounds[2] > 0 ? at < bounds[1] : at > bounds[1];) {
        if (!text_eval_work(eval, given->line, WORK_PER_ITEM) || list.kind != TEXT_LIST)
            return text_value_undefined();
        if (list.list->count == RANGE_MAX) {
            text_eval_fail(eval, given->line, TD_LIMIT, "a range over %d numbers", RANGE_MAX);
            return text_value_undefined();
        }
        text_list_append(&eval->builder, list, text_value_int(at));
        if (__builtin_add_overflow(at, bounds[2], &at))
            break;
    }
    if (list.kind == TEXT_LIST)
        list.list->form = TEXT_FORM_VIEW;
    return list;
}

static const struct text_builtin functions[] = {
    {"raise_exception", function_raise, 1, 1, {"message", NULL}},
    {"range", function_range, 1, 3, {"start", "stop", "step", NULL}},
    {"strftime_now", text_function_strftime_now, 1, 1, {"format", NULL}},
};

/* ------------------------------------------------------------------------------------------- */

/* A table lies in one part or two; NULL behind the last. */
static const struct text_builtin *part_of(enum text_builtin_table table, size_t part,
                                          size_t *count_out)
{
    if (table == TEXT_FILTERS && part == 1)
        return text_sequence_filters(count_out);
    if (part > 0)
        return NULL;
    switch (table) {
    case TEXT_FILTERS: *count_out = sizeof filters / sizeof filters[0]; return filters;
    case TEXT_TESTS: return text_tests(count_out);
    case TEXT_FUNCTIONS: *count_out = sizeof functions / sizeof functions[0]; return functions;
    case TEXT_METHODS: return text_methods(count_out);
    }
    return NULL;
}

const struct text_builtin *text_builtin_find(enum text_builtin_table table, struct td_span name)
{
    const struct text_builtin *entries;
    size_t count = 0;

    for (size_t part = 0; (entries = part_of(table, part, &count)) != NULL; part++)
        for (size_t i = 0; i < count; i++)
            if (td_span_is(name, entries[i].name))
                return &entries[i];
    return NULL;
}

const struct text_builtin *text_builtin_at(enum text_builtin_table table, size_t index)
{
    const struct text_builtin *entries;
    size_t count = 0;

    for (size_t part = 0; (entries = part_of(table, part, &count)) != NULL; part++) {
        if (index < count)
            return &entries[index];
        index -= count;
    }
    return NULL;
}
