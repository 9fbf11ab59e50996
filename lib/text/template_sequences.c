/* template_sequences.c: filters over lists and dicts, see template_sequences.h. */
#include "lib/text/template_sequences.h"

#include <string.h>

#include "lib/text/template_methods.h"

/* Whether an optional argument was given. */
static bool is_given(struct text_value value)
{
    return value.kind != TEXT_UNDEFINED;
}

/* What Jinja gives out one by one. */
static struct text_value as_iterator(struct text_value list)
{
    if (list.kind == TEXT_LIST)
        list.list->form = TEXT_FORM_ITERATOR;
    return list;
}

/* What map and select go over: nothing at all if the value is none, or false in any other way. */
static const struct text_list *items_if_true(struct text_eval *eval,
                                             const struct text_arguments *given)
{
    bool is_true = text_eval_truth(given->base);

    return text_eval_iterate(eval, given->line, is_true ? given->base : text_value_undefined());
}

/* A part of a dotted name: a number counts, as in a.0.b. */
static struct text_value part_of(struct text_eval *eval, const struct text_string *name,
                                 uint32_t start, uint32_t end)
{
    int64_t index = 0;
    uint32_t at = start;

    while (at < end && name->bytes[at] >= '0' && name->bytes[at] <= '9' && at - start < 9)
        index = index * 10 + (name->bytes[at++] - '0');
    if (at == end && at > start)
        return text_value_int(index);
    return text_value_of(text_string_slice(&eval->builder, name, start, end));
}

/* What the argument attribute=name of many filters takes of an item. */
static struct text_value member(struct text_eval *eval, uint32_t line, struct text_value item,
                                struct text_value name)
{
    uint32_t start = 0;

    if (name.kind != TEXT_STRING || name.string->length == 0)
        return text_eval_subscript(eval, line, item, name);
    while (start <= name.string->length && eval->status == TD_OK) {
        uint32_t end = text_string_find(name.string, td_span_of("."), start);

        if (end == UINT32_MAX)
            end = name.string->length;
        item = text_eval_subscript(eval, line, item, part_of(eval, name.string, start, end));
        start = end + 1;
    }
    return item;
}

/* ------------------------------------------------------------------------------------------- */
/* Order */

/* What items are compared by: the item or an attribute of it, in lower case unless case_sensitive. */
struct sort_form {
    uint32_t line;
    struct text_value attribute; /* undefined: the item itself */
    bool case_sensitive;
    bool reverse;
};

static struct text_value key_of(struct text_eval *eval, const struct sort_form *form,
                                struct text_value item)
{
    struct text_arguments arguments = {.line = form->line, .base = item};

    if (is_given(form->attribute))
        arguments.base = member(eval, form->line, item, form->attribute);
    if (form->case_sensitive || arguments.base.kind != TEXT_STRING)
        return arguments.base;
    return text_method_lower(eval, &arguments);
}

struct sort_item {
    struct text_value key;
    struct text_value item;
};

/* Merges the runs [0, middle) and [middle, count) of from into to; equal ones keep their order. */
static void merge(struct text_eval *eval, const struct sort_form *form,
                  const struct sort_item *from, uint32_t middle, uint32_t count,
                  struct sort_item *to)
{
    uint32_t left = 0;
    uint32_t right = middle;

    for (uint32_t i = 0; i < count; i++) {
        bool take_right = left == middle;

        if (left < middle && right < count && text_eval_work(eval, form->line, WORK_PER_ITEM)) {
            int order = text_eval_order(eval, form->line, from[right].key, from[left].key);

            take_right = form->reverse ? order > 0 : order < 0;
        }
        to[i] = take_right ? from[right++] : from[left++];
    }
}

/* A stable sort, from runs of one item up. */
static struct text_value sort_list(struct text_eval *eval, const struct sort_form *form,
                                   const struct text_list *list)
{
    struct sort_item *items = text_builder_alloc(&eval->builder, list->count, sizeof *items);
    struct sort_item *other = text_builder_alloc(&eval->builder, list->count, sizeof *items);
    struct text_value sorted = text_value_list(&eval->builder);

    if (sorted.kind != TEXT_LIST)
        return sorted;
    for (uint32_t i = 0; i < list->count; i++)
        items[i] = (struct sort_item){key_of(eval, form, list->items[i]), list->items[i]};
    for (uint64_t width = 1; width < list->count && eval->status == TD_OK; width *= 2) {
        struct sort_item *swapped = items;

        for (uint64_t start = 0; start < list->count; start += 2 * width) {
            uint32_t count =
                (uint32_t)(list->count - start < 2 * width ? list->count - start : 2 * width);

            merge(eval, form, items + start, count < width ? count : (uint32_t)width, count,
                  other + start);
        }
        items = other;
        other = swapped;
    }
    for (uint32_t i = 0; i < list->count; i++)
        text_list_append(&eval->builder, sorted, items[i].item);
    return sorted;
}

struct text_value text_eval_sorted_items(struct text_eval *eval, uint32_t line,
                                         struct text_value dict, bool by_value, bool case_sensitive)
{
    struct text_arguments arguments = {.line = line, .base = dict};
    struct sort_form form = {.line = line,
                             .attribute = text_value_int(by_value ? 1 : 0),
                             .case_sensitive = case_sensitive};
    struct text_value items = text_method_items(eval, &arguments);

    return items.kind == TEXT_LIST ? sort_list(eval, &form, items.list) : items;
}

static struct text_value filter_dictsort(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_value by = given->values[1];
    bool by_value = by.kind == TEXT_STRING && td_span_is(text_string_span(by.string), "value");
    struct text_value sorted;

    if (given->base.kind != TEXT_DICT)
        return text_eval_fail_kind(eval, given->line, "sort as a dict", given->base);
    if (is_given(by) && !by_value &&
        (by.kind != TEXT_STRING || !td_span_is(text_string_span(by.string), "key"))) {
        text_eval_fail(eval, given->line, TD_INVALID, "dictsort goes by 'key' or by 'value'");
        return text_value_undefined();
    }
    sorted = text_eval_sorted_items(eval, given->line, given->base, by_value,
                                    text_eval_truth(given->values[0]));
    if (!text_eval_truth(given->values[2]) || sorted.kind != TEXT_LIST)
        return sorted;
    return sort_list(eval,
                     &(struct sort_form){.line = given->line,
                                         .attribute = text_value_int(by_value ? 1 : 0),
                                         .case_sensitive = text_eval_truth(given->values[0]),
                                         .reverse = true},
                     sorted.list);
}

static struct text_value filter_sort(struct text_eval *eval, const struct text_arguments *given)
{
    struct sort_form form = {.line = given->line,
                             .reverse = text_eval_truth(given->values[0]),
                             .case_sensitive = text_eval_truth(given->values[1]),
                             .attribute = given->values[2]};

    if (form.attribute.kind == TEXT_STRING &&
        text_string_find(form.attribute.string, td_span_of(","), 0) != UINT32_MAX) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "sort goes by one attribute");
        return text_value_undefined();
    }
    return sort_list(eval, &form, text_eval_iterate(eval, given->line, given->base));
}

/* Each item once, where it comes first. */
static struct text_value filter_unique(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value keys = text_value_list(&eval->builder);
    struct text_value kept = text_value_list(&eval->builder);
    struct sort_form form = {.line = given->line,
                             .case_sensitive = text_eval_truth(given->values[0]),
                             .attribute = given->values[1]};

    for (uint32_t i = 0; i < items->count && eval->status == TD_OK && kept.kind == TEXT_LIST; i++) {
        struct text_value key = key_of(eval, &form, items->items[i]);

        if (key.kind == TEXT_DICT || (key.kind == TEXT_LIST && key.list->form == TEXT_FORM_LIST))
            return text_eval_fail_kind(eval, given->line, "tell apart", key);
        if (text_eval_contains(eval, given->line, keys, key))
            continue;
        text_list_append(&eval->builder, keys, key);
        text_list_append(&eval->builder, kept, items->items[i]);
    }
    return as_iterator(kept);
}

/* The first of the smallest or largest items; undefined if there is none. */
static struct text_value extreme(struct text_eval *eval, const struct text_arguments *given,
                                 int sign)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct sort_form form = {.line = given->line,
                             .case_sensitive = text_eval_truth(given->values[0]),
                             .attribute = given->values[1]};
    struct sort_item best = {.item = text_value_undefined()};

    for (uint32_t i = 0; i < items->count && text_eval_work(eval, given->line, 0); i++) {
        struct sort_item next = {key_of(eval, &form, items->items[i]), items->items[i]};

        if (i == 0 || text_eval_order(eval, given->line, next.key, best.key) * sign > 0)
            best = next;
    }
    return best.item;
}

static struct text_value filter_max(struct text_eval *eval, const struct text_arguments *given)
{
    return extreme(eval, given, 1);
}

static struct text_value filter_min(struct text_eval *eval, const struct text_arguments *given)
{
    return extreme(eval, given, -1);
}

/* ------------------------------------------------------------------------------------------- */
/* One item for each item */

/* The builtin that a filter was given the name of. NULL: there is none. */
static const struct text_builtin *named(enum text_builtin_table table, struct text_value name)
{
    return name.kind == TEXT_STRING ? text_builtin_find(table, text_string_span(name.string))
                                    : NULL;
}

/* Calls a filter or test with the positional arguments that stand from `place` on in given. */
static struct text_value call_named(struct text_eval *eval, const struct text_builtin *builtin,
                                    const struct text_arguments *given, uint32_t place,
                                    struct text_value base)
{
    struct text_arguments each = {.line = given->line, .base = base};

    for (uint32_t i = place; i < TEXT_PASSED_MAX; i++)
        each.values[i - place] = given->values[i];
    for (uint32_t i = 0; i < builtin->required; i++)
        if (!is_given(each.values[i]))
            text_eval_fail(eval, given->line, TD_INVALID, "argument '%s' of '%s' is missing",
                           builtin->parameters[i], builtin->name);
    if (is_given(each.values[builtin->positional]))
        text_eval_fail(eval, given->line, TD_INVALID, "too many arguments for '%s'", builtin->name);
    return eval->status == TD_OK ? builtin->fn(eval, &each) : text_value_undefined();
}

/* map('filter', ...), map(attribute=, default=). */
static struct text_value filter_map(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = items_if_true(eval, given);
    const struct text_builtin *filter = named(TEXT_FILTERS, given->values[0]);
    struct text_value attribute = given->values[TEXT_PASSED_MAX];
    struct text_value list = text_value_list(&eval->builder);

    if ((filter == NULL) == !is_given(attribute)) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED,
                       "map takes the name of a filter, or attribute=");
        return text_value_undefined();
    }
    for (uint32_t i = 0; i < items->count; i++) {
        struct text_value made;

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        made = filter != NULL ? call_named(eval, filter, given, 1, items->items[i])
                              : member(eval, given->line, items->items[i], attribute);
        if (filter == NULL && !is_given(made))
            made = given->values[TEXT_PASSED_MAX + 1];
        text_list_append(&eval->builder, list, made);
    }
    return as_iterator(list);
}

/* The items that pass a test (without one: are true), or do not; by themselves or by an attribute. */
static struct text_value select_items(struct text_eval *eval, const struct text_arguments *given,
                                      bool by_attribute, bool wanted)
{
    const struct text_list *items = items_if_true(eval, given);
    struct text_value list = text_value_list(&eval->builder);
    uint32_t place = by_attribute ? 1 : 0;
    const struct text_builtin *test = named(TEXT_TESTS, given->values[place]);

    if (is_given(given->values[place]) && test == NULL) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "this test is not known");
        return text_value_undefined();
    }
    for (uint32_t i = 0; i < items->count; i++) {
        struct text_value value = items->items[i];

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        if (by_attribute)
            value = member(eval, given->line, value, given->values[0]);
        if (test != NULL)
            value = call_named(eval, test, given, place + 1, value);
        if (text_eval_truth(value) == wanted)
            text_list_append(&eval->builder, list, items->items[i]);
    }
    return as_iterator(list);
}

static struct text_value filter_select(struct text_eval *eval, const struct text_arguments *given)
{
    return select_items(eval, given, false, true);
}

static struct text_value filter_reject(struct text_eval *eval, const struct text_arguments *given)
{
    return select_items(eval, given, false, false);
}

static struct text_value filter_selectattr(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    return select_items(eval, given, true, true);
}

static struct text_value filter_rejectattr(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    return select_items(eval, given, true, false);
}

/* ------------------------------------------------------------------------------------------- */
/* The rest */

static struct text_value filter_first(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);

    return items->count > 0 ? items->items[0] : text_value_undefined();
}

static struct text_value filter_last(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);

    return items->count > 0 ? items->items[items->count - 1] : text_value_undefined();
}

static struct text_value filter_list(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; i < items->count; i++)
        if (text_eval_work(eval, given->line, WORK_PER_ITEM))
            text_list_append(&eval->builder, list, items->items[i]);
    return list;
}

static struct text_value filter_reverse(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = items->count; i > 0; i--)
        if (text_eval_work(eval, given->line, WORK_PER_ITEM))
            text_list_append(&eval->builder, list, items->items[i - 1]);
    if (list.kind != TEXT_LIST)
        return list;
    if (given->base.kind == TEXT_STRING)
        return text_eval_join(eval, given->line, list.list->items, list.list->count);
    return as_iterator(list);
}

static struct text_value filter_join(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    const struct text_string *separator = text_eval_print(eval, given->line, given->values[0]);
    struct text_value parts = text_value_list(&eval->builder);

    for (uint32_t i = 0; i < items->count; i++) {
        struct text_value item = items->items[i];

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            return text_value_undefined();
        if (is_given(given->values[1]))
            item = member(eval, given->line, item, given->values[1]);
        if (i > 0)
            text_list_append(&eval->builder, parts, text_value_of(separator));
        text_list_append(&eval->builder, parts,
                         text_value_of(text_eval_print(eval, given->line, item)));
    }
    if (parts.kind != TEXT_LIST)
        return parts;
    return text_eval_join(eval, given->line, parts.list->items, parts.list->count);
}

static struct text_value filter_sum(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value sum = is_given(given->values[1]) ? given->values[1] : text_value_int(0);

    if (sum.kind == TEXT_STRING) /* as Python has it; it would also be slow */
        return text_eval_fail_kind(eval, given->line, "sum up", sum);
    for (uint32_t i = 0; i < items->count && eval->status == TD_OK; i++) {
        struct text_value item = items->items[i];

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        if (is_given(given->values[0]))
            item = member(eval, given->line, item, given->values[0]);
        sum = text_eval_operate(eval, given->line, EXPRESSION_ADD, sum, item);
    }
    return sum;
}

#define PASSED "", "", "" /* what map and the like hand on, by position only */

static const struct text_builtin filters[] = {
    {"dictsort", filter_dictsort, 0, 3, {"case_sensitive", "by", "reverse", NULL}},
    {"first", filter_first, 0, 0, {NULL}},
    {"join", filter_join, 0, 2, {"d", "attribute", NULL}},
    {"last", filter_last, 0, 0, {NULL}},
    {"list", filter_list, 0, 0, {NULL}},
    {"map", filter_map, 0, TEXT_PASSED_MAX, {PASSED, "", "attribute", "default"}},
    {"max", filter_max, 0, 2, {"case_sensitive", "attribute", NULL}},
    {"min", filter_min, 0, 2, {"case_sensitive", "attribute", NULL}},
    {"reject", filter_reject, 0, TEXT_PASSED_MAX, {NULL}},
    {"rejectattr", filter_rejectattr, 1, TEXT_PASSED_MAX, {"attribute", NULL}},
    {"reverse", filter_reverse, 0, 0, {NULL}},
    {"select", filter_select, 0, TEXT_PASSED_MAX, {NULL}},
    {"selectattr", filter_selectattr, 1, TEXT_PASSED_MAX, {"attribute", NULL}},
    {"sort", filter_sort, 0, 3, {"reverse", "case_sensitive", "attribute", NULL}},
    {"sum", filter_sum, 0, 2, {"attribute", "start", NULL}},
    {"unique", filter_unique, 0, 2, {"case_sensitive", "attribute", NULL}},
};

const struct text_builtin *text_sequence_filters(size_t *count_out)
{
    *count_out = sizeof filters / sizeof filters[0];
    return filters;
}
