/* template_operators.c: what operators do to values, with Python's rules; see template_eval.h. */
#include <math.h>
#include <string.h>

#include "lib/text/template_eval.h"

#define VALUE_DEPTH_MAX 128 /* of lists in lists that are compared */

const char *text_kind_name(enum text_kind kind)
{
    switch (kind) {
    case TEXT_UNDEFINED: return "an undefined value";
    case TEXT_NONE: return "none";
    case TEXT_BOOL: return "a boolean";
    case TEXT_INT: return "an integer";
    case TEXT_FLOAT: return "a float";
    case TEXT_STRING: return "a string";
    case TEXT_LIST: return "a list";
    case TEXT_DICT: return "a dict";
    case TEXT_NAMESPACE: return "a namespace";
    case TEXT_LOOP: return "a loop";
    case TEXT_MACRO: return "a macro";
    case TEXT_FUNCTION: return "a function";
    }
    return "a value";
}

struct text_value text_eval_fail_kind(struct text_eval *eval, uint32_t line, const char *what,
                                      struct text_value value)
{
    if (value.kind == TEXT_UNDEFINED && value.string != NULL)
        text_eval_fail(eval, line, TD_INVALID, "cannot %s '%.*s', which is undefined", what,
                       (int)(value.string->length < 60 ? value.string->length : 60),
                       value.string->bytes);
    else if (value.kind == TEXT_LIST && value.list->form > TEXT_FORM_TUPLE)
        text_eval_fail(eval, line, TD_INVALID, "cannot %s a view, range or iterator", what);
    else
        text_eval_fail(eval, line, TD_INVALID, "cannot %s %s", what, text_kind_name(value.kind));
    return text_value_undefined();
}

bool text_eval_truth(struct text_value value)
{
    switch (value.kind) {
    case TEXT_UNDEFINED:
    case TEXT_NONE: return false;
    case TEXT_BOOL: return value.boolean;
    case TEXT_INT: return value.integer != 0;
    case TEXT_FLOAT: return value.number != 0;
    case TEXT_STRING: return value.string->length > 0;
    case TEXT_LIST: return value.list->count > 0 || value.list->form == TEXT_FORM_ITERATOR;
    case TEXT_DICT: return value.dict->count > 0;
    case TEXT_NAMESPACE:
    case TEXT_LOOP:
    case TEXT_MACRO:
    case TEXT_FUNCTION: return true;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------- */
/* Numbers. A boolean counts as 0 or 1, as in Python. */

bool text_value_integer(struct text_value value, int64_t *integer_out)
{
    if (value.kind == TEXT_INT)
        *integer_out = value.integer;
    else if (value.kind == TEXT_BOOL)
        *integer_out = value.boolean;
    else
        return false;
    return true;
}

static bool is_number(struct text_value value, double *number_out)
{
    int64_t integer;

    if (value.kind == TEXT_FLOAT)
        *number_out = value.number;
    else if (text_value_integer(value, &integer))
        *number_out = (double)integer;
    else
        return false;
    return true;
}

/* Floor division and its remainder; the divisor is not 0 and nothing overflows but INT64_MIN / -1. */
static int64_t floor_quotient(int64_t a, int64_t b)
{
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

/* false: does not fit 64 bits. */
static bool integer_operation(enum text_expression_kind kind, int64_t a, int64_t b,
                              int64_t *result_out)
{
    switch (kind) {
    case EXPRESSION_ADD: return !__builtin_add_overflow(a, b, result_out);
    case EXPRESSION_SUBTRACT: return !__builtin_sub_overflow(a, b, result_out);
    case EXPRESSION_MULTIPLY: return !__builtin_mul_overflow(a, b, result_out);
    case EXPRESSION_FLOOR_DIVIDE:
        if (a == INT64_MIN && b == -1)
            return false;
        *result_out = floor_quotient(a, b);
        return true;
    default: *result_out = b == -1 ? 0 : a - floor_quotient(a, b) * b; return true;
    }
}

static double float_operation(enum text_expression_kind kind, double a, double b)
{
    double remainder;

    switch (kind) {
    case EXPRESSION_ADD: return a + b;
    case EXPRESSION_SUBTRACT: return a - b;
    case EXPRESSION_MULTIPLY: return a * b;
    case EXPRESSION_DIVIDE: return a / b;
    case EXPRESSION_FLOOR_DIVIDE: return floor(a / b);
    default:
        remainder = fmod(a, b);
        return remainder != 0 && (remainder < 0) != (b < 0) ? remainder + b : remainder;
    }
}

/* a ** b for b of 0 and more; false: does not fit 64 bits. */
static bool integer_power(int64_t a, int64_t b, int64_t *result_out)
{
    int64_t result = 1;

    if (a == 0 || a == 1 || b == 0) {
        *result_out = b == 0 ? 1 : a;
        return true;
    }
    if (a == -1) {
        *result_out = b % 2 == 0 ? 1 : -1;
        return true;
    }
    for (; b > 0; b--) /* 64 rounds at most: then it is beyond 64 bits */
        if (__builtin_mul_overflow(result, a, &result))
            return false;
    *result_out = result;
    return true;
}

static struct text_value power(struct text_eval *eval, uint32_t line, struct text_value left,
                               struct text_value right)
{
    int64_t a;
    int64_t b;
    int64_t integer;
    double x;
    double y;

    if (!is_number(left, &x))
        return text_eval_fail_kind(eval, line, "calculate with", left);
    if (!is_number(right, &y))
        return text_eval_fail_kind(eval, line, "calculate with", right);
    if (!text_value_integer(left, &a) || !text_value_integer(right, &b) || b < 0) {
        x = pow(x, y);
        if (isfinite(x))
            return text_value_float(x);
    } else if (integer_power(a, b, &integer)) {
        return text_value_int(integer);
    }
    text_eval_fail(eval, line, TD_INVALID, "a power beyond what numbers hold");
    return text_value_undefined();
}

static struct text_value calculate(struct text_eval *eval, uint32_t line,
                                   enum text_expression_kind kind, struct text_value left,
                                   struct text_value right)
{
    int64_t a;
    int64_t b;
    int64_t integer;
    double x;
    double y;

    if (!is_number(left, &x))
        return text_eval_fail_kind(eval, line, "calculate with", left);
    if (!is_number(right, &y))
        return text_eval_fail_kind(eval, line, "calculate with", right);
    if (y == 0 && (kind == EXPRESSION_DIVIDE || kind == EXPRESSION_FLOOR_DIVIDE ||
                   kind == EXPRESSION_MODULO)) {
        text_eval_fail(eval, line, TD_INVALID, "division by zero");
        return text_value_undefined();
    }
    if (kind == EXPRESSION_DIVIDE || !text_value_integer(left, &a) ||
        !text_value_integer(right, &b))
        return text_value_float(float_operation(kind, x, y));
    if (!integer_operation(kind, a, b, &integer)) {
        text_eval_fail(eval, line, TD_INVALID, "a number beyond 64 bits");
        return text_value_undefined();
    }
    return text_value_int(integer);
}

/* ------------------------------------------------------------------------------------------- */
/* Joining */

static struct text_value repeat(struct text_eval *eval, uint32_t line,
                                const struct text_string *string, int64_t times)
{
    const struct text_string **parts;
    uint64_t length;

    if (times <= 0 || string->length == 0)
        return text_value_of(text_string_over(&eval->builder, td_span_over("", 0), true));
    if (__builtin_mul_overflow((uint64_t)times, string->length, &length) ||
        length > TEXT_BYTES_MAX) {
        text_eval_fail(eval, line, TD_LIMIT, "a string over %zu bytes", TEXT_BYTES_MAX);
        return text_value_undefined();
    }
    if (!text_eval_work(eval, line, length))
        return text_value_undefined();
    parts = text_builder_alloc(&eval->builder, (size_t)times, sizeof *parts);
    if (parts == NULL)
        return text_value_undefined();
    for (int64_t i = 0; i < times; i++)
        parts[i] = string;
    return text_value_of(text_string_join(&eval->builder, parts, (uint32_t)times));
}

static struct text_value repeat_list(struct text_eval *eval, uint32_t line,
                                     const struct text_list *list, int64_t times)
{
    struct text_value repeated = text_value_list(&eval->builder);

    for (int64_t i = 0; i < times && list->count > 0; i++) {
        if (!text_eval_work(eval, line, (uint64_t)list->count * WORK_PER_ITEM))
            return text_value_undefined();
        for (uint32_t k = 0; k < list->count; k++)
            text_list_append(&eval->builder, repeated, list->items[k]);
    }
    if (repeated.kind == TEXT_LIST)
        repeated.list->form = list->form;
    return repeated;
}

static struct text_value multiply(struct text_eval *eval, uint32_t line, struct text_value left,
                                  struct text_value right)
{
    int64_t times;

    if (left.kind == TEXT_STRING && text_value_integer(right, &times))
        return repeat(eval, line, left.string, times);
    if (right.kind == TEXT_STRING && text_value_integer(left, &times))
        return repeat(eval, line, right.string, times);
    if (left.kind == TEXT_LIST && text_value_integer(right, &times))
        return repeat_list(eval, line, left.list, times);
    if (right.kind == TEXT_LIST && text_value_integer(left, &times))
        return repeat_list(eval, line, right.list, times);
    return calculate(eval, line, EXPRESSION_MULTIPLY, left, right);
}

/* Joins strings; all values are strings. */
struct text_value text_eval_join(struct text_eval *eval, uint32_t line,
                                 const struct text_value *values, uint32_t count)
{
    const struct text_string **parts = text_builder_alloc(&eval->builder, count, sizeof *parts);
    uint64_t length = 0;

    if (parts == NULL)
        return text_value_undefined();
    for (uint32_t i = 0; i < count; i++) {
        parts[i] = values[i].string;
        length += parts[i]->length;
    }
    if (!text_eval_work(eval, line, length))
        return text_value_undefined();
    return text_value_of(text_string_join(&eval->builder, parts, count));
}

static struct text_value join_lists(struct text_eval *eval, uint32_t line,
                                    const struct text_list *left, const struct text_list *right)
{
    struct text_value joined = text_value_list(&eval->builder);

    if (!text_eval_work(eval, line, ((uint64_t)left->count + right->count) * WORK_PER_ITEM))
        return text_value_undefined();
    for (uint32_t i = 0; i < left->count; i++)
        text_list_append(&eval->builder, joined, left->items[i]);
    for (uint32_t i = 0; i < right->count; i++)
        text_list_append(&eval->builder, joined, right->items[i]);
    if (joined.kind == TEXT_LIST)
        joined.list->form = left->form;
    return joined;
}

static struct text_value add(struct text_eval *eval, uint32_t line, struct text_value left,
                             struct text_value right)
{
    if (left.kind == TEXT_STRING && right.kind == TEXT_STRING)
        return text_eval_join(eval, line, (const struct text_value[]){left, right}, 2);
    if (left.kind == TEXT_LIST && right.kind == TEXT_LIST && left.list->form == right.list->form &&
        left.list->form <= TEXT_FORM_TUPLE)
        return join_lists(eval, line, left.list, right.list);
    if (left.kind == TEXT_STRING || left.kind == TEXT_LIST) {
        if (right.kind == TEXT_UNDEFINED)
            return text_eval_fail_kind(eval, line, "add", right);
        text_eval_fail(eval, line, TD_INVALID, "cannot add %s to %s", text_kind_name(right.kind),
                       text_kind_name(left.kind));
        return text_value_undefined();
    }
    return calculate(eval, line, EXPRESSION_ADD, left, right);
}

/* ------------------------------------------------------------------------------------------- */
/* Comparing */

static bool equal_at(struct text_eval *eval, uint32_t line, struct text_value a,
                     struct text_value b, uint32_t depth);

static bool equal_lists(struct text_eval *eval, uint32_t line, const struct text_list *a,
                        const struct text_list *b, uint32_t depth)
{
    bool equal = a->count == b->count && a->form == b->form;

    for (uint32_t i = 0; equal && i < a->count; i++)
        equal = equal_at(eval, line, a->items[i], b->items[i], depth + 1);
    return equal;
}

static bool equal_dicts(struct text_eval *eval, uint32_t line, const struct text_dict *a,
                        const struct text_dict *b, uint32_t depth)
{
    bool equal = a->count == b->count;

    for (uint32_t i = 0; equal && i < a->count; i++) {
        struct text_entry *other = text_dict_find(b, text_string_span(a->entries[i].key));

        equal = text_eval_work(eval, line, (uint64_t)b->count * WORK_PER_ITEM) && other != NULL &&
                equal_at(eval, line, a->entries[i].value, other->value, depth + 1);
    }
    return equal;
}

static bool equal_at(struct text_eval *eval, uint32_t line, struct text_value a,
                     struct text_value b, uint32_t depth)
{
    double x;
    double y;

    if (depth > VALUE_DEPTH_MAX)
        text_eval_fail(eval, line, TD_LIMIT, "values nested deeper than %d", VALUE_DEPTH_MAX);
    if (!text_eval_work(eval, line, a.kind == TEXT_STRING ? a.string->length : 0))
        return false;
    if (a.kind == TEXT_INT && b.kind == TEXT_INT) /* a double would not tell all of them apart */
        return a.integer == b.integer;
    if (is_number(a, &x) && is_number(b, &y))
        return x == y;
    if (a.kind != b.kind)
        return false;
    switch (a.kind) {
    case TEXT_STRING: return td_span_equal(text_string_span(a.string), text_string_span(b.string));
    case TEXT_LIST: return equal_lists(eval, line, a.list, b.list, depth);
    case TEXT_DICT: return equal_dicts(eval, line, a.dict, b.dict, depth);
    case TEXT_NAMESPACE: return a.dict == b.dict;
    case TEXT_LOOP: return a.loop == b.loop;
    case TEXT_MACRO: return a.macro == b.macro;
    case TEXT_FUNCTION: return a.function == b.function;
    default: return true; /* none and undefined equal themselves */
    }
}

bool text_eval_equal(struct text_eval *eval, uint32_t line, struct text_value a,
                     struct text_value b)
{
    return equal_at(eval, line, a, b, 0);
}

bool text_eval_contains(struct text_eval *eval, uint32_t line, struct text_value container,
                        struct text_value item)
{
    bool found = false;

    switch (container.kind) {
    case TEXT_UNDEFINED: return false;
    case TEXT_STRING:
        if (item.kind != TEXT_STRING)
            text_eval_fail_kind(eval, line, "look in a string for", item);
        return text_eval_work(eval, line, container.string->length) &&
               text_string_find(container.string, text_string_span(item.string), 0) != UINT32_MAX;
    case TEXT_LIST:
        for (uint32_t i = 0; i < container.list->count && !found && eval->status == TD_OK; i++)
            found = text_eval_equal(eval, line, container.list->items[i], item);
        return found;
    case TEXT_DICT:
        return text_eval_work(eval, line, (uint64_t)container.dict->count * WORK_PER_ITEM) &&
               item.kind == TEXT_STRING &&
               text_dict_find(container.dict, text_string_span(item.string)) != NULL;
    default: text_eval_fail_kind(eval, line, "look for something in", container); return false;
    }
}

int text_eval_order(struct text_eval *eval, uint32_t line, struct text_value a, struct text_value b)
{
    uint32_t shorter;
    double x;
    double y;
    int result;

    if (a.kind == TEXT_INT && b.kind == TEXT_INT)
        return (a.integer > b.integer) - (a.integer < b.integer);
    if (is_number(a, &x) && is_number(b, &y))
        return (x > y) - (x < y);
    if (a.kind != TEXT_STRING || b.kind != TEXT_STRING) {
        text_eval_fail(eval, line, TD_INVALID, "%s and %s have no order", text_kind_name(a.kind),
                       text_kind_name(b.kind));
        return 0;
    }
    shorter = a.string->length < b.string->length ? a.string->length : b.string->length;
    if (!text_eval_work(eval, line, shorter))
        return 0;
    result = memcmp(a.string->bytes, b.string->bytes, shorter);
    return result != 0
               ? result
               : (a.string->length > b.string->length) - (a.string->length < b.string->length);
}

bool text_eval_compare(struct text_eval *eval, uint32_t line, enum text_comparison comparison,
                       struct text_value a, struct text_value b)
{
    switch (comparison) {
    case COMPARE_EQUAL: return text_eval_equal(eval, line, a, b);
    case COMPARE_UNEQUAL: return !text_eval_equal(eval, line, a, b);
    case COMPARE_LESS: return text_eval_order(eval, line, a, b) < 0;
    case COMPARE_LESS_EQUAL: return text_eval_order(eval, line, a, b) <= 0;
    case COMPARE_GREATER: return text_eval_order(eval, line, a, b) > 0;
    case COMPARE_GREATER_EQUAL: return text_eval_order(eval, line, a, b) >= 0;
    case COMPARE_IN: return text_eval_contains(eval, line, b, a);
    case COMPARE_NOT_IN: return !text_eval_contains(eval, line, b, a);
    }
    return false;
}

struct text_value text_eval_operate(struct text_eval *eval, uint32_t line,
                                    enum text_expression_kind kind, struct text_value left,
                                    struct text_value right)
{
    switch (kind) {
    case EXPRESSION_ADD: return add(eval, line, left, right);
    case EXPRESSION_MULTIPLY: return multiply(eval, line, left, right);
    case EXPRESSION_POWER: return power(eval, line, left, right);
    default: return calculate(eval, line, kind, left, right);
    }
}
