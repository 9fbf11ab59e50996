/* template_tests.c: what stands behind `is` in chat templates, see template_builtins.h. */
#include "lib/text/template_builtins.h"
#include "lib/text/template_eval.h"
#include "lib/text/template_methods.h"

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
/* Undefined has a method for being called, which fails. */
DEFINE_TEST(callable,
            base.kind == TEXT_MACRO || base.kind == TEXT_FUNCTION || base.kind == TEXT_UNDEFINED)
DEFINE_TEST(iterable, base.kind == TEXT_STRING || base.kind == TEXT_LIST ||
                          base.kind == TEXT_DICT || base.kind == TEXT_UNDEFINED)
DEFINE_TEST(sequence, base.kind == TEXT_STRING || base.kind == TEXT_DICT ||
                          base.kind == TEXT_UNDEFINED ||
                          (base.kind == TEXT_LIST && base.list->form != TEXT_FORM_ITERATOR))
DEFINE_TEST(equal, text_eval_equal(eval, given->line, base, given->values[0]))
DEFINE_TEST(unequal, !text_eval_equal(eval, given->line, base, given->values[0]))
DEFINE_TEST(greater, text_eval_order(eval, given->line, base, given->values[0]) > 0)
DEFINE_TEST(less, text_eval_order(eval, given->line, base, given->values[0]) < 0)
DEFINE_TEST(greater_equal, text_eval_order(eval, given->line, base, given->values[0]) >= 0)
DEFINE_TEST(less_equal, text_eval_order(eval, given->line, base, given->values[0]) <= 0)
DEFINE_TEST(in, text_eval_contains(eval, given->line, given->values[0], base))

static struct text_value test_parity(struct text_eval *eval, const struct text_arguments *given,
                                     int64_t wanted)
{
    struct text_value rest =
        text_eval_operate(eval, given->line, EXPRESSION_MODULO, given->base, text_value_int(2));

    return text_value_bool(text_eval_equal(eval, given->line, rest, text_value_int(wanted)));
}

static struct text_value test_even(struct text_eval *eval, const struct text_arguments *given)
{
    return test_parity(eval, given, 0);
}

static struct text_value test_odd(struct text_eval *eval, const struct text_arguments *given)
{
    return test_parity(eval, given, 1);
}

static struct text_value test_divisibleby(struct text_eval *eval,
                                          const struct text_arguments *given)
{
    struct text_value remainder =
        text_eval_operate(eval, given->line, EXPRESSION_MODULO, given->base, given->values[0]);

    return text_value_bool(!text_eval_truth(remainder));
}

/* lower, upper: whether a text is in that case, and has letters at all. */
static struct text_value test_case(struct text_eval *eval, const struct text_arguments *given,
                                   text_builtin_fn same, text_builtin_fn other)
{
    struct text_arguments arguments = *given;

    arguments.base = text_value_of(text_eval_print(eval, given->line, given->base));
    return text_value_bool(
        text_eval_equal(eval, given->line, arguments.base, same(eval, &arguments)) &&
        !text_eval_equal(eval, given->line, arguments.base, other(eval, &arguments)));
}

static struct text_value test_lower(struct text_eval *eval, const struct text_arguments *given)
{
    return test_case(eval, given, text_method_lower, text_method_upper);
}

static struct text_value test_upper(struct text_eval *eval, const struct text_arguments *given)
{
    return test_case(eval, given, text_method_upper, text_method_lower);
}

#define OTHER         \
    1, 1,             \
    {                 \
        "other", NULL \
    }

static const struct text_builtin tests[] = {
    {"!=", test_unequal, OTHER},
    {"<", test_less, OTHER},
    {"<=", test_less_equal, OTHER},
    {"==", test_equal, OTHER},
    {">", test_greater, OTHER},
    {">=", test_greater_equal, OTHER},
    {"boolean", test_boolean, 0, 0, {NULL}},
    {"callable", test_callable, 0, 0, {NULL}},
    {"defined", test_defined, 0, 0, {NULL}},
    {"divisibleby", test_divisibleby, 1, 1, {"num", NULL}},
    {"eq", test_equal, OTHER},
    {"equalto", test_equal, OTHER},
    {"even", test_even, 0, 0, {NULL}},
    {"false", test_false, 0, 0, {NULL}},
    {"float", test_float, 0, 0, {NULL}},
    {"ge", test_greater_equal, OTHER},
    {"greaterthan", test_greater, OTHER},
    {"gt", test_greater, OTHER},
    {"in", test_in, 1, 1, {"seq", NULL}},
    {"integer", test_integer, 0, 0, {NULL}},
    {"iterable", test_iterable, 0, 0, {NULL}},
    {"le", test_less_equal, OTHER},
    {"lessthan", test_less, OTHER},
    {"lower", test_lower, 0, 0, {NULL}},
    {"lt", test_less, OTHER},
    {"mapping", test_mapping, 0, 0, {NULL}},
    {"ne", test_unequal, OTHER},
    {"none", test_none, 0, 0, {NULL}},
    {"number", test_number, 0, 0, {NULL}},
    {"odd", test_odd, 0, 0, {NULL}},
    {"sequence", test_sequence, 0, 0, {NULL}},
    {"string", test_string, 0, 0, {NULL}},
    {"true", test_true, 0, 0, {NULL}},
    {"undefined", test_undefined, 0, 0, {NULL}},
    {"upper", test_upper, 0, 0, {NULL}},
};

const struct text_builtin *text_tests(size_t *count_out)
{
    *count_out = sizeof tests / sizeof tests[0];
    return tests;
}
