/* template_expression.c: computing expressions: access, slices, logic; see template_eval.h. */
#include "lib/text/template_builtins.h"
#include "lib/text/template_eval.h"
#include "lib/text/template_methods.h"

static struct text_value undefined_named(const struct text_string *name)
{
    return (struct text_value){.kind = TEXT_UNDEFINED, .string = name};
}

/* ------------------------------------------------------------------------------------------- */
/* Attributes and items */

static struct text_value loop_attribute(const struct text_loop *loop,
                                        const struct text_string *name)
{
    struct td_span wanted = text_string_span(name);
    uint32_t count = loop->list->count;
    uint32_t left = count - loop->index; /* 0 once the for has ended */

    if (td_span_is(wanted, "index"))
        return text_value_int((int64_t)loop->index + 1);
    if (td_span_is(wanted, "index0"))
        return text_value_int(loop->index);
    if (td_span_is(wanted, "revindex"))
        return text_value_int(left);
    if (td_span_is(wanted, "revindex0"))
        return text_value_int((int64_t)left - 1);
    if (td_span_is(wanted, "first"))
        return text_value_bool(loop->index == 0);
    if (td_span_is(wanted, "last"))
        return text_value_bool(left == 1);
    if (td_span_is(wanted, "length"))
        return text_value_int(count);
    if (td_span_is(wanted, "previtem") && loop->index > 0)
        return loop->list->items[loop->index - 1];
    if (td_span_is(wanted, "nextitem") && left > 1)
        return loop->list->items[loop->index + 1];
    return undefined_named(name);
}

static struct text_value dict_value(struct text_eval *eval, uint32_t line,
                                    const struct text_dict *dict, const struct text_string *key)
{
    struct text_entry *entry;

    if (!text_eval_work(eval, line, (uint64_t)dict->count * WORK_PER_ITEM))
        return text_value_undefined();
    entry = text_dict_find(dict, text_string_span(key));
    return entry != NULL ? entry->value : undefined_named(key);
}

/* The method of a string or dict, not called; or undefined. */
static struct text_value method_value(struct text_value base, const struct text_string *name)
{
    const struct text_builtin *method = text_builtin_find(TEXT_METHODS, text_string_span(name));

    if (method == NULL || !text_method_is_of(method, base.kind))
        return undefined_named(name);
    return (struct text_value){.kind = TEXT_FUNCTION, .function = method};
}

/* base.name, as Jinja finds it: a dict's method goes before its key. */
static struct text_value attribute(struct text_eval *eval, uint32_t line, struct text_value base,
                                   const struct text_string *name)
{
    struct text_value method;

    switch (base.kind) {
    case TEXT_UNDEFINED: return text_eval_fail_kind(eval, line, "take an attribute of", base);
    case TEXT_NAMESPACE: return dict_value(eval, line, base.dict, name);
    case TEXT_LOOP: return loop_attribute(base.loop, name);
    case TEXT_DICT:
    case TEXT_STRING:
        method = method_value(base, name);
        if (method.kind == TEXT_FUNCTION || base.kind == TEXT_STRING)
            return method;
        return dict_value(eval, line, base.dict, name);
    default: return undefined_named(name);
    }
}

/* The index from the start that an index with Python's meaning is; false: out of range. */
static bool resolve_index(int64_t index, uint32_t count, uint32_t *index_out)
{
    if (index < 0)
        index += count;
    if (index < 0 || index >= count)
        return false;
    *index_out = (uint32_t)index;
    return true;
}

/* The byte where character `index` begins; index at most the number of characters. */
static uint32_t character_start(const struct text_string *string, uint32_t index)
{
    uint32_t at = 0;

    while (index-- > 0)
        at = text_string_character_end(string, at);
    return at;
}

static struct text_value string_item(struct text_eval *eval, uint32_t line,
                                     const struct text_string *string, int64_t index)
{
    uint32_t place;
    uint32_t start;

    if (!text_eval_work(eval, line, string->length) ||
        !resolve_index(index, text_string_characters(string), &place))
        return text_value_undefined();
    start = character_start(string, place);
    return text_value_of(
        text_string_slice(&eval->builder, string, start, text_string_character_end(string, start)));
}

struct text_value text_eval_subscript(struct text_eval *eval, uint32_t line, struct text_value base,
                                      struct text_value key)
{
    int64_t index;
    uint32_t place;

    if (base.kind == TEXT_UNDEFINED)
        return text_eval_fail_kind(eval, line, "take an item of", base);
    if (base.kind == TEXT_DICT && key.kind == TEXT_STRING) {
        struct text_value value = dict_value(eval, line, base.dict, key.string);

        return value.kind != TEXT_UNDEFINED ? value : method_value(base, key.string);
    }
    if (key.kind == TEXT_STRING)
        return attribute(eval, line, base, key.string);
    if (!text_value_integer(key, &index))
        return text_value_undefined();
    if (base.kind == TEXT_STRING)
        return string_item(eval, line, base.string, index);
    if (base.kind == TEXT_LIST && resolve_index(index, base.list->count, &place))
        return base.list->items[place];
    return text_value_undefined();
}

static struct text_value evaluate_item(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_value base = text_eval_expression(eval, expression->base);
    struct text_value key = text_eval_expression(eval, expression->items[0]);

    return text_eval_subscript(eval, expression->line, base, key);
}

/* ------------------------------------------------------------------------------------------- */
/* Slices */

struct slice {
    int64_t start;
    int64_t step;
    uint32_t count; /* how many items it takes */
};

/* The value of one part of a slice, or `missing`; false: it is no number. */
static bool slice_part(struct text_eval *eval, const struct text_expression *expression,
                       uint32_t part, int64_t missing, int64_t *value_out)
{
    struct text_value value = text_value_none();

    if (expression->items[part] != NULL)
        value = text_eval_expression(eval, expression->items[part]);
    if (value.kind == TEXT_NONE) {
        *value_out = missing;
        return true;
    }
    if (!text_value_integer(value, value_out)) {
        text_eval_fail_kind(eval, expression->line, "slice with", value);
        return false;
    }
    return true;
}

/* A bound, counted from the end if negative, held within [low, high]. */
static int64_t clamp_bound(int64_t bound, int64_t length, int64_t low, int64_t high)
{
    if (bound < 0)
        bound = bound < -length ? -1 : bound + length;
    if (bound < low)
        return low;
    return bound > high ? high : bound;
}

/* Python's rules for [start:stop:step] over `length` items. */
static bool slice_resolve(struct text_eval *eval, const struct text_expression *expression,
                          uint32_t length, struct slice *slice_out)
{
    int64_t step;
    int64_t start;
    int64_t stop;
    bool back;

    if (!slice_part(eval, expression, 2, 1, &step))
        return false;
    if (step == 0) {
        text_eval_fail(eval, expression->line, TD_INVALID, "a slice with a step of zero");
        return false;
    }
    if (step < -(int64_t)UINT32_MAX || step > (int64_t)UINT32_MAX)
        step = step < 0 ? -(int64_t)UINT32_MAX : (int64_t)UINT32_MAX;
    back = step < 0;
    if (!slice_part(eval, expression, 0, back ? INT64_MAX : 0, &start) ||
        !slice_part(eval, expression, 1, back ? INT64_MIN : INT64_MAX, &stop))
        return false;
    start = clamp_bound(start, length, back ? -1 : 0, back ? (int64_t)length - 1 : length);
    stop = clamp_bound(stop, length, back ? -1 : 0, back ? (int64_t)length - 1 : length);
    slice_out->start = start;
    slice_out->step = step;
    slice_out->count = 0;
    if (back ? start > stop : start < stop)
        slice_out->count =
            (uint32_t)(back ? (start - stop - 1) / -step + 1 : (stop - start - 1) / step + 1);
    return true;
}

static struct text_value slice_list(struct text_eval *eval,
                                    const struct text_expression *expression,
                                    const struct text_list *list)
{
    struct text_value result = text_value_list(&eval->builder);
    struct slice slice;

    if (!slice_resolve(eval, expression, list->count, &slice) ||
        !text_eval_work(eval, expression->line, (uint64_t)slice.count * WORK_PER_ITEM))
        return text_value_undefined();
    for (uint32_t i = 0; i < slice.count; i++)
        text_list_append(&eval->builder, result, list->items[slice.start + i * slice.step]);
    if (result.kind == TEXT_LIST)
        result.list->form = list->form;
    return result;
}

/* Strings are sliced by characters; with a step other than 1 each character is a part of its own. */
static struct text_value slice_string(struct text_eval *eval,
                                      const struct text_expression *expression,
                                      const struct text_string *string)
{
    const struct text_list *characters;
    struct text_value sliced;
    struct slice slice;
    uint32_t start;
    uint32_t end;

    if (!text_eval_work(eval, expression->line, string->length) ||
        !slice_resolve(eval, expression, text_string_characters(string), &slice))
        return text_value_undefined();
    if (slice.step == 1) {
        start = character_start(string, (uint32_t)slice.start);
        end = start;
        for (uint32_t i = 0; i < slice.count; i++)
            end = text_string_character_end(string, end);
        return text_value_of(text_string_slice(&eval->builder, string, start, end));
    }
    characters = text_eval_iterate(eval, expression->line, text_value_of(string));
    sliced = slice_list(eval, expression, characters);
    if (sliced.kind != TEXT_LIST)
        return sliced;
    return text_eval_join(eval, expression->line, sliced.list->items, sliced.list->count);
}

static struct text_value evaluate_slice(struct text_eval *eval,
                                        const struct text_expression *expression)
{
    struct text_value base = text_eval_expression(eval, expression->base);

    if (base.kind == TEXT_LIST)
        return slice_list(eval, expression, base.list);
    if (base.kind == TEXT_STRING)
        return slice_string(eval, expression, base.string);
    return text_eval_fail_kind(eval, expression->line, "slice", base);
}

/* ------------------------------------------------------------------------------------------- */

const struct text_list *text_eval_iterate(struct text_eval *eval, uint32_t line,
                                          struct text_value value)
{
    static const struct text_list nothing = {.count = 0};
    struct text_value list;
    uint32_t next;

    if (value.kind == TEXT_LIST)
        return value.list;
    if (value.kind == TEXT_UNDEFINED)
        return &nothing;
    if (value.kind != TEXT_DICT && value.kind != TEXT_STRING) {
        text_eval_fail_kind(eval, line, "iterate over", value);
        return &nothing;
    }
    list = text_value_list(&eval->builder);
    if (!text_eval_work(eval, line,
                        (value.kind == TEXT_DICT ? (uint64_t)value.dict->count
                                                 : (uint64_t)value.string->length) *
                            WORK_PER_ITEM))
        return &nothing;
    for (uint32_t i = 0; value.kind == TEXT_DICT && i < value.dict->count; i++)
        text_list_append(&eval->builder, list, text_value_of(value.dict->entries[i].key));
    for (uint32_t at = 0; value.kind == TEXT_STRING && at < value.string->length; at = next) {
        next = text_string_character_end(value.string, at);
        text_list_append(&eval->builder, list,
                         text_value_of(text_string_slice(&eval->builder, value.string, at, next)));
    }
    return list.kind == TEXT_LIST ? list.list : &nothing;
}

static struct text_value evaluate_list(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_value list = text_value_list(&eval->builder);

    for (uint32_t i = 0; i < expression->item_count; i++)
        text_list_append(&eval->builder, list, text_eval_expression(eval, expression->items[i]));
    if (list.kind == TEXT_LIST && expression->kind == EXPRESSION_TUPLE)
        list.list->form = TEXT_FORM_TUPLE;
    return list;
}

static struct text_value evaluate_macro(struct text_eval *eval,
                                        const struct text_expression *expression)
{
    struct text_value arguments[TEXT_MACRO_PARAMETERS_MAX];

    for (uint32_t i = 0; i < expression->item_count; i++)
        arguments[i] = text_eval_expression(eval, expression->items[i]);
    if (eval->status != TD_OK)
        return text_value_undefined();
    return text_eval_call(eval, expression, arguments);
}

static struct text_value evaluate_cycle(struct text_eval *eval,
                                        const struct text_expression *expression)
{
    struct text_value base = text_eval_expression(eval, expression->base);

    if (base.kind != TEXT_LOOP)
        return text_eval_fail_kind(eval, expression->line, "cycle with", base);
    return text_eval_expression(eval, expression->items[base.loop->index % expression->item_count]);
}

/* A dict or a namespace; of equal keys the last one counts. */
static struct text_value evaluate_dict(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_value dict = text_value_dict(&eval->builder);

    for (uint32_t i = 0; i + 1 < expression->item_count && dict.kind == TEXT_DICT; i += 2) {
        struct text_value key = text_eval_expression(eval, expression->items[i]);
        struct text_value value = text_eval_expression(eval, expression->items[i + 1]);
        struct text_entry *entry;

        if (key.kind != TEXT_STRING)
            return text_eval_fail_kind(eval, expression->line, "use as a key", key);
        entry = text_dict_find(dict.dict, text_string_span(key.string));
        if (entry != NULL)
            entry->value = value;
        else
            text_dict_append(&eval->builder, dict.dict, key.string, value);
    }
    if (expression->kind == EXPRESSION_NAMESPACE && dict.kind == TEXT_DICT)
        dict.kind = TEXT_NAMESPACE;
    return dict;
}

static struct text_value evaluate_call(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_arguments arguments = {.line = expression->line};
    struct text_value result;

    if (expression->base != NULL)
        arguments.base = text_eval_expression(eval, expression->base);
    for (uint32_t i = 0; i < expression->item_count; i++)
        if (expression->items[i] != NULL)
            arguments.values[i] = text_eval_expression(eval, expression->items[i]);
    if (eval->status != TD_OK)
        return text_value_undefined();
    result = expression->builtin->fn(eval, &arguments);
    if (expression->kind == EXPRESSION_TEST && expression->negated)
        return text_value_bool(!text_eval_truth(result));
    return result;
}

/* and, or: the value that decides, as in Python. */
static struct text_value evaluate_logic(struct text_eval *eval,
                                        const struct text_expression *expression)
{
    struct text_value value = text_eval_expression(eval, expression->items[0]);

    for (uint32_t i = 1; i < expression->item_count; i++) {
        if (text_eval_truth(value) == (expression->kind == EXPRESSION_OR))
            break;
        value = text_eval_expression(eval, expression->items[i]);
    }
    return value;
}

static struct text_value evaluate_conditional(struct text_eval *eval,
                                              const struct text_expression *expression)
{
    bool holds = text_eval_truth(text_eval_expression(eval, expression->base));
    const struct text_expression *chosen = expression->items[holds ? 0 : 1];

    return chosen != NULL ? text_eval_expression(eval, chosen) : text_value_undefined();
}

static struct text_value evaluate_sign(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_value value = text_eval_expression(eval, expression->base);
    bool negate = expression->kind == EXPRESSION_NEGATE;

    if (negate && value.kind == TEXT_FLOAT) /* 0 - 0.0 would not be -0.0 */
        return text_value_float(-value.number);
    return text_eval_operate(eval, expression->line, negate ? EXPRESSION_SUBTRACT : EXPRESSION_ADD,
                             text_value_int(0), value);
}

static struct text_value evaluate_binary(struct text_eval *eval,
                                         const struct text_expression *expression)
{
    struct text_value left = text_eval_expression(eval, expression->base);
    struct text_value right = text_eval_expression(eval, expression->items[0]);

    return text_eval_operate(eval, expression->line, expression->kind, left, right);
}

/* a + b + c: all at once if all are strings, so that a long chain copies its text once. */
static struct text_value evaluate_add(struct text_eval *eval,
                                      const struct text_expression *expression)
{
    uint32_t count = expression->item_count;
    struct text_value *values = text_builder_alloc(&eval->builder, count, sizeof *values);
    struct text_value sum;
    bool strings = true;

    if (values == NULL)
        return text_value_undefined();
    for (uint32_t i = 0; i < count; i++) {
        values[i] = text_eval_expression(eval, expression->items[i]);
        strings = strings && values[i].kind == TEXT_STRING;
    }
    if (strings)
        return text_eval_join(eval, expression->line, values, count);
    sum = values[0];
    for (uint32_t i = 1; i < count && eval->status == TD_OK; i++)
        sum = text_eval_operate(eval, expression->line, EXPRESSION_ADD, sum, values[i]);
    return sum;
}

static struct text_value evaluate_concatenation(struct text_eval *eval,
                                                const struct text_expression *expression)
{
    uint32_t count = expression->item_count;
    struct text_value *values = text_builder_alloc(&eval->builder, count, sizeof *values);

    if (values == NULL)
        return text_value_undefined();
    for (uint32_t i = 0; i < count; i++)
        values[i] = text_value_of(text_eval_print(
            eval, expression->line, text_eval_expression(eval, expression->items[i])));
    return text_eval_join(eval, expression->line, values, count);
}

/* a < b < c is a < b and b < c, each computed once and only if needed. */
static struct text_value evaluate_comparison(struct text_eval *eval,
                                             const struct text_expression *expression)
{
    struct text_value left = text_eval_expression(eval, expression->base);

    for (uint32_t i = 0; i < expression->item_count; i++) {
        struct text_value right = text_eval_expression(eval, expression->items[i]);

        if (eval->status != TD_OK ||
            !text_eval_compare(eval, expression->line, expression->comparisons[i], left, right))
            return text_value_bool(false);
        left = right;
    }
    return text_value_bool(true);
}

static struct text_value evaluate(struct text_eval *eval, const struct text_expression *expression)
{
    switch (expression->kind) {
    case EXPRESSION_CONSTANT: return expression->constant;
    case EXPRESSION_NAME:
        text_eval_work(eval, expression->line, (uint64_t)eval->variable_count * WORK_PER_ITEM);
        return text_eval_name(eval, expression->name);
    case EXPRESSION_LIST:
    case EXPRESSION_TUPLE: return evaluate_list(eval, expression);
    case EXPRESSION_DICT:
    case EXPRESSION_NAMESPACE: return evaluate_dict(eval, expression);
    case EXPRESSION_ATTRIBUTE:
        return attribute(eval, expression->line, text_eval_expression(eval, expression->base),
                         expression->name);
    case EXPRESSION_ITEM: return evaluate_item(eval, expression);
    case EXPRESSION_SLICE: return evaluate_slice(eval, expression);
    case EXPRESSION_FILTER:
    case EXPRESSION_TEST:
    case EXPRESSION_METHOD:
    case EXPRESSION_FUNCTION: return evaluate_call(eval, expression);
    case EXPRESSION_CALL: return evaluate_macro(eval, expression);
    case EXPRESSION_CYCLE: return evaluate_cycle(eval, expression);
    case EXPRESSION_CAPTURED: return eval->captured;
    case EXPRESSION_NOT:
        return text_value_bool(!text_eval_truth(text_eval_expression(eval, expression->base)));
    case EXPRESSION_NEGATE:
    case EXPRESSION_PLUS: return evaluate_sign(eval, expression);
    case EXPRESSION_AND:
    case EXPRESSION_OR: return evaluate_logic(eval, expression);
    case EXPRESSION_ADD: return evaluate_add(eval, expression);
    case EXPRESSION_CONCATENATE: return evaluate_concatenation(eval, expression);
    case EXPRESSION_SUBTRACT:
    case EXPRESSION_MULTIPLY:
    case EXPRESSION_DIVIDE:
    case EXPRESSION_FLOOR_DIVIDE:
    case EXPRESSION_MODULO:
    case EXPRESSION_POWER: return evaluate_binary(eval, expression);
    case EXPRESSION_COMPARE: return evaluate_comparison(eval, expression);
    case EXPRESSION_CONDITIONAL: return evaluate_conditional(eval, expression);
    }
    return text_value_undefined();
}

struct text_value text_eval_expression(struct text_eval *eval,
                                       const struct text_expression *expression)
{
    struct text_value value;

    if (!text_eval_work(eval, expression->line, 0) || !text_eval_enter(eval, expression->line))
        return text_value_undefined();
    value = evaluate(eval, expression);
    text_eval_leave(eval);
    return value;
}
