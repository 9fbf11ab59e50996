/* template_builtins.c: filters, tests and functions of chat templates, see template_builtins.h. */
#include "lib/text/template_builtins.h"

#include "lib/text/template_eval.h"
#include "lib/text/template_methods.h"

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

static struct text_value filter_replace(struct text_eval *eval, const struct text_arguments *given)
{
    struct text_arguments arguments = on_text(eval, given);

    return text_method_replace(eval, &arguments);
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
    case TEXT_LIST: return text_value_int(given->base.list->count);
    case TEXT_DICT: return text_value_int(given->base.dict->count);
    case TEXT_STRING:
        text_eval_work(eval, given->line, given->base.string->length);
        return text_value_int(text_string_characters(given->base.string));
    default: return text_eval_fail_kind(eval, given->line, "take the length of", given->base);
    }
}

/* item.name and item['name'], for filters that take the name of an attribute. */
static struct text_value member(struct text_eval *eval, uint32_t line, struct text_value item,
                                struct text_value name)
{
    if (name.kind != TEXT_STRING)
        return text_eval_fail_kind(eval, line, "use as an attribute", name);
    if (text_string_find(name.string, td_span_of("."), 0) != UINT32_MAX) {
        text_eval_fail(eval, line, TD_UNSUPPORTED, "attributes with dots are not supported");
        return text_value_undefined();
    }
    return text_eval_subscript(eval, line, item, name);
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

static struct text_value filter_tojson(struct text_eval *eval, const struct text_arguments *given)
{
    int64_t indent = -1;

    if (text_eval_truth(given->values[1])) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "ensure_ascii is not supported");
        return text_value_undefined();
    }
    if (is_given(given->values[0]) && given->values[0].kind != TEXT_NONE &&
        (!text_value_integer(given->values[0], &indent) || indent < 0 || indent > INDENT_MAX)) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "indent must be 0 to %d", INDENT_MAX);
        return text_value_undefined();
    }
    return text_value_of(text_eval_json(eval, given->line, given->base, (int)indent));
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

static struct text_value filter_items(struct text_eval *eval, const struct text_arguments *given)
{
    if (given->base.kind == TEXT_UNDEFINED)
        return text_value_list(&eval->builder);
    return text_method_items(eval, given);
}

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
    if (given->base.kind == TEXT_STRING && list.kind == TEXT_LIST)
        return text_eval_join(eval, given->line, list.list->items, list.list->count);
    return list;
}

static struct text_value filter_map(struct text_eval *eval, const struct text_arguments *given)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value list = text_value_list(&eval->builder);
    const struct text_builtin *filter = NULL;

    if (given->values[0].kind == TEXT_STRING)
        filter = text_builtin_find(TEXT_FILTERS, text_string_span(given->values[0].string));
    if ((filter == NULL || filter->required > 0) == !is_given(given->values[1])) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED,
                       "map takes the name of a filter without arguments, or attribute=");
        return text_value_undefined();
    }
    for (uint32_t i = 0; i < items->count; i++) {
        struct text_arguments each = {.line = given->line, .base = items->items[i]};
        struct text_value made;

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        made = filter != NULL ? filter->fn(eval, &each)
                              : member(eval, given->line, each.base, given->values[1]);
        text_list_append(&eval->builder, list, made);
    }
    return list;
}

/* The items whose attribute passes a test (without one: is true), or does not. */
static struct text_value select_items(struct text_eval *eval, const struct text_arguments *given,
                                      bool wanted)
{
    const struct text_list *items = text_eval_iterate(eval, given->line, given->base);
    struct text_value list = text_value_list(&eval->builder);
    const struct text_builtin *test = NULL;

    if (given->values[1].kind == TEXT_STRING)
        test = text_builtin_find(TEXT_TESTS, text_string_span(given->values[1].string));
    if (is_given(given->values[1]) && test == NULL) {
        text_eval_fail(eval, given->line, TD_UNSUPPORTED, "this test is not known");
        return text_value_undefined();
    }
    for (uint32_t i = 0; i < items->count; i++) {
        struct text_arguments each = {.line = given->line, .values = {given->values[2]}};

        if (!text_eval_work(eval, given->line, WORK_PER_ITEM))
            break;
        each.base = member(eval, given->line, items->items[i], given->values[0]);
        if (text_eval_truth(test != NULL ? test->fn(eval, &each) : each.base) == wanted)
            text_list_append(&eval->builder, list, items->items[i]);
    }
    return list;
}

static struct text_value filter_selectattr(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    return select_items(eval, given, true);
}

static struct text_value filter_rejectattr(struct text_eval *eval,
                                           const struct text_arguments *given)
{
    return select_items(eval, given, false);
}

static const struct text_builtin filters[] = {
    {"count", filter_length, 0, 0, {NULL}},
    {"d", filter_default, 0, 2, {"default_value", "boolean", NULL}},
    {"default", filter_default, 0, 2, {"default_value", "boolean", NULL}},
    {"first", filter_first, 0, 0, {NULL}},
    {"items", filter_items, 0, 0, {NULL}},
    {"join", filter_join, 0, 2, {"d", "attribute", NULL}},
    {"last", filter_last, 0, 0, {NULL}},
    {"length", filter_length, 0, 0, {NULL}},
    {"list", filter_list, 0, 0, {NULL}},
    {"lower", filter_lower, 0, 0, {NULL}},
    {"map", filter_map, 0, 1, {"filter", "attribute", NULL}},
    {"rejectattr", filter_rejectattr, 1, 3, {"attribute", "test", "value"}},
    {"replace", filter_replace, 2, 3, {"old", "new", "count"}},
    {"reverse", filter_reverse, 0, 0, {NULL}},
    {"safe", filter_string, 0, 0, {NULL}},
    {"selectattr", filter_selectattr, 1, 3, {"attribute", "test", "value"}},
    {"string", filter_string, 0, 0, {NULL}},
    {"tojson", filter_tojson, 0, 0, {"indent", "ensure_ascii", NULL}},
    {"trim", filter_trim, 0, 1, {"chars", NULL}},
    {"upper", filter_upper, 0, 0, {NULL}},
};

/* ------------------------------------------------------------------------------------------- */
/* Tests */

#define DEFINE_TEST(name, condition)                                         \
    static struct text_value test_##name(struct text_eval *eval,             \
                                         const struct text_arguments *given) \
    {                                                                        \
        struct text_value base = given->base;                                \
                                                                             \
        (void)eval;                                                          \
        return text_value_bool(condition);                                   \
    }

DEFINE_TEST(defined, base.kind != TEXT_UNDEFINED)
DEFINE_TEST(undefined, base.kind == TEXT_UNDEFINED)
DEFINE_TEST(none, base.kind == TEXT_NONE)
DEFINE_TEST(boolean, base.kind == TEXT_BOOL)
DEFINE_TEST(true, base.kind == TEXT_BOOL && base.boolean)
DEFINE_TEST(false, base.kind == TEXT_BOOL && !base.boolean)
DEFINE_TEST(integer, base.kind == TEXT_INT)
DEFINE_TEST(float, base.kind == TEXT_FLOAT)
DEFINE_TEST(number, base.kind == TEXT_INT || base.kind == TEXT_FLOAT || base.kind == TEXT_BOOL)
DEFINE_TEST(string, base.kind == TEXT_STRING)
DEFINE_TEST(mapping, base.kind == TEXT_DICT)
DEFINE_TEST(sequence, base.kind == TEXT_STRING || base.kind == TEXT_LIST ||
                          base.kind == TEXT_DICT || base.kind == TEXT_UNDEFINED)
DEFINE_TEST(equal, text_eval_equal(eval, given->line, base, given->values[0]))
DEFINE_TEST(unequal, !text_eval_equal(eval, given->line, base, given->values[0]))
DEFINE_TEST(in, text_eval_contains(eval, given->line, given->values[0], base))

static struct text_value test_parity(struct text_eval *eval, const struct text_arguments *given,
                                     int64_t wanted)
{
    int64_t integer;

    if (!text_value_integer(given->base, &integer))
        return text_eval_fail_kind(eval, given->line, "test for odd or even", given->base);
    return text_value_bool((integer & 1) == wanted);
}

static struct text_value test_even(struct text_eval *eval, const struct text_arguments *given)
{
    return test_parity(eval, given, 0);
}

static struct text_value test_odd(struct text_eval *eval, const struct text_arguments *given)
{
    return test_parity(eval, given, 1);
}

static const struct text_builtin tests[] = {
    {"==", test_equal, 1, 1, {"other", NULL}},
    {"boolean", test_boolean, 0, 0, {NULL}},
    {"defined", test_defined, 0, 0, {NULL}},
    {"eq", test_equal, 1, 1, {"other", NULL}},
    {"equalto", test_equal, 1, 1, {"other", NULL}},
    {"even", test_even, 0, 0, {NULL}},
    {"false", test_false, 0, 0, {NULL}},
    {"float", test_float, 0, 0, {NULL}},
    {"in", test_in, 1, 1, {"seq", NULL}},
    {"integer", test_integer, 0, 0, {NULL}},
    {"iterable", test_sequence, 0, 0, {NULL}},
    {"mapping", test_mapping, 0, 0, {NULL}},
    {"ne", test_unequal, 1, 1, {"other", NULL}},
    {"none", test_none, 0, 0, {NULL}},
    {"number", test_number, 0, 0, {NULL}},
    {"odd", test_odd, 0, 0, {NULL}},
    {"sequence", test_sequence, 0, 0, {NULL}},
    {"string", test_string, 0, 0, {NULL}},
    {"true", test_true, 0, 0, {NULL}},
    {"undefined", test_undefined, 0, 0, {NULL}},
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
    int64_t bounds[TEXT_PARAMETERS_MAX] = {0, 0, 1}; /* start, stop, step */

    for (uint32_t i = 0; i < TEXT_PARAMETERS_MAX && is_given(given->values[i]); i++)
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
    return list;
}

static const struct text_builtin functions[] = {
    {"raise_exception", function_raise, 1, 1, {"message", NULL}},
    {"range", function_range, 1, 3, {"start", "stop", "step"}},
    {"strftime_now", text_function_strftime_now, 1, 1, {"format", NULL}},
};

/* ------------------------------------------------------------------------------------------- */

const struct text_builtin *text_builtin_find(enum text_builtin_table table, struct td_span name)
{
    const struct text_builtin *entries = NULL;
    size_t count = 0;

    switch (table) {
    case TEXT_FILTERS:
        entries = filters;
        count = sizeof filters / sizeof filters[0];
        break;
    case TEXT_TESTS:
        entries = tests;
        count = sizeof tests / sizeof tests[0];
        break;
    case TEXT_FUNCTIONS:
        entries = functions;
        count = sizeof functions / sizeof functions[0];
        break;
    case TEXT_METHODS: entries = text_methods(&count); break;
    }
    for (size_t i = 0; i < count; i++)
        if (td_span_is(name, entries[i].name))
            return &entries[i];
    return NULL;
}
