/*
 * template_parser_value.c: values in expressions of chat templates and what follows them: literals, names, calls,
 * attributes, filters, tests; see template_parser.h.
 */
#include <string.h>

#include "lib/text/template_builtins.h"
#include "lib/text/template_parser_node.h"

/* Expressions with commas between, up to the closer, which is taken. */
static void parse_items(struct text_parser *parser, struct text_operands *operands,
                        const char *closer)
{
    while (parser->status == TD_OK && !text_parse_take_operator(parser, closer)) {
        text_parse_operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, closer))
            text_parse_expect_operator(parser, ",");
    }
}

static struct text_expression *parse_list(struct text_parser *parser)
{
    struct text_operands *operands = text_parse_operands(parser);

    if (operands == NULL)
        return NULL;
    parse_items(parser, operands, "]");
    return text_parse_node(parser, EXPRESSION_LIST, NULL, operands);
}

/* Behind "(": an expression in brackets, or a tuple. */
static struct text_expression *parse_bracketed(struct text_parser *parser)
{
    struct text_operands *operands = text_parse_operands(parser);
    struct text_expression *first;

    if (operands == NULL)
        return NULL;
    if (!text_parse_at_operator(parser, ")")) {
        first = text_parse_expression(parser);
        if (text_parse_take_operator(parser, ")"))
            return first;
        text_parse_operands_add(parser, operands, first);
        text_parse_expect_operator(parser, ",");
    }
    parse_items(parser, operands, ")");
    return text_parse_node(parser, EXPRESSION_TUPLE, NULL, operands);
}

struct text_expression *text_parse_tuple(struct text_parser *parser)
{
    struct text_expression *first = text_parse_expression(parser);
    struct text_operands *operands;

    if (!text_parse_at_operator(parser, ","))
        return first;
    operands = text_parse_operands(parser);
    if (operands == NULL)
        return NULL;
    text_parse_operands_add(parser, operands, first);
    while (text_parse_take_operator(parser, ",") && parser->next->kind != LEXEME_BLOCK_END &&
           parser->next->kind != LEXEME_PRINT_END)
        text_parse_operands_add(parser, operands, text_parse_expression(parser));
    return text_parse_node(parser, EXPRESSION_TUPLE, NULL, operands);
}

static struct text_expression *parse_dict(struct text_parser *parser)
{
    struct text_operands *operands = text_parse_operands(parser);
    struct text_expression *key;

    if (operands == NULL)
        return NULL;
    while (parser->status == TD_OK && !text_parse_take_operator(parser, "}")) {
        key = text_parse_expression(parser);
        if (key != NULL && key->kind == EXPRESSION_CONSTANT && key->constant.kind != TEXT_STRING)
            text_parse_fail(parser, TD_UNSUPPORTED, "the keys of a dict are strings here");
        text_parse_operands_add(parser, operands, key);
        text_parse_expect_operator(parser, ":");
        text_parse_operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, "}"))
            text_parse_expect_operator(parser, ",");
    }
    return text_parse_node(parser, EXPRESSION_DICT, NULL, operands);
}

/* One string, or several side by side, which are one. */
static struct text_expression *parse_string(struct text_parser *parser)
{
    const struct text_string *string = text_parse_string(parser, parser->next++->text);

    while (parser->next->kind == LEXEME_STRING) {
        const struct text_string *parts[2] = {string,
                                              text_parse_string(parser, parser->next++->text)};

        string = text_string_join(&parser->builder, parts, 2);
        if (parser->builder.status != TD_OK)
            text_parse_fail(parser, TD_LIMIT, "the template is too large");
    }
    if (td_span_is(text_string_span(string), "developer"))
        parser->template->names_developer = true;
    return text_parse_constant(parser, text_value_of(string));
}

static void fail_unknown(struct text_parser *parser, const char *what, struct td_span name)
{
    text_parse_fail(parser, TD_UNSUPPORTED, "the %s '%.*s' is not known", what,
                    (int)(name.length < 40 ? name.length : 40), name.bytes);
}

/* The place of the keyword argument `name` among a builtin's parameters; fails if it has none. */
static uint32_t parameter_place(struct text_parser *parser, const struct text_builtin *builtin,
                                struct td_span name)
{
    for (uint32_t i = 0; i < TEXT_PARAMETERS_MAX && builtin->parameters[i] != NULL; i++)
        if (td_span_is(name, builtin->parameters[i]))
            return i;
    fail_unknown(parser, "argument", name);
    return 0;
}

/* Whether a name and = come next. */
static bool at_keyword(const struct text_parser *parser)
{
    return parser->next->kind == LEXEME_NAME && parser->next[1].kind == LEXEME_OPERATOR &&
           td_span_is(parser->next[1].text, "=");
}

/* Puts one argument of a call in its place. */
static void parse_argument(struct text_parser *parser, const struct text_builtin *builtin,
                           struct text_operands *operands, bool *keyword_seen)
{
    uint32_t place = 0;

    if (at_keyword(parser)) {
        place = parameter_place(parser, builtin, parser->next->text);
        text_parse_skip(parser);
        text_parse_skip(parser);
        *keyword_seen = true;
    } else {
        while (place < builtin->positional && operands->items[place] != NULL)
            place++;
        if (place == builtin->positional || *keyword_seen)
            text_parse_fail(parser, TD_UNSUPPORTED, "too many arguments for '%s'", builtin->name);
    }
    if (parser->status == TD_OK && operands->items[place] != NULL)
        text_parse_fail(parser, TD_INVALID, "argument '%s' is given twice",
                        builtin->parameters[place]);
    if (parser->status == TD_OK)
        operands->items[place] = text_parse_expression(parser);
}

/*
 * The call of a builtin on base (NULL for functions), with the arguments in brackets that may follow. They are
 * put in the order of the parameters.
 */
static struct text_expression *parse_call(struct text_parser *parser,
                                          enum text_expression_kind kind,
                                          const struct text_builtin *builtin,
                                          struct text_expression *base)
{
    struct text_operands *operands = text_parse_operands(parser);
    struct text_expression *node;
    bool keyword_seen = false;

    if (operands == NULL)
        return NULL;
    if (text_parse_take_operator(parser, "(")) {
        while (parser->status == TD_OK && !text_parse_take_operator(parser, ")")) {
            parse_argument(parser, builtin, operands, &keyword_seen);
            if (!text_parse_at_operator(parser, ")"))
                text_parse_expect_operator(parser, ",");
        }
    }
    for (uint32_t i = 0; i < builtin->required; i++)
        if (operands->items[i] == NULL)
            text_parse_fail(parser, TD_INVALID, "argument '%s' of '%s' is missing",
                            builtin->parameters[i], builtin->name);
    operands->count = TEXT_PARAMETERS_MAX;
    node = text_parse_node(parser, kind, base, operands);
    if (node != NULL)
        node->builtin = builtin;
    return node;
}

/* namespace(a=1, b=2) and dict(a=1, b=2): any keywords; kept as key and value. */
static struct text_expression *parse_keywords(struct text_parser *parser,
                                              enum text_expression_kind kind)
{
    struct text_operands *operands = text_parse_operands(parser);

    if (operands == NULL)
        return NULL;
    text_parse_expect_operator(parser, "(");
    while (parser->status == TD_OK && !text_parse_take_operator(parser, ")")) {
        const struct text_string *name = text_parse_expect_name(parser);

        if (name == NULL)
            return NULL;
        text_parse_operands_add(parser, operands, text_parse_constant(parser, text_value_of(name)));
        text_parse_expect_operator(parser, "=");
        text_parse_operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, ")"))
            text_parse_expect_operator(parser, ",");
    }
    return text_parse_node(parser, kind, NULL, operands);
}

/* The call of a macro: which one, and whether it takes these arguments, is found out when it runs. */
static struct text_expression *parse_macro_call(struct text_parser *parser, struct td_span name)
{
    struct text_operands *operands = text_parse_operands(parser);
    const struct text_string **keywords =
        text_parse_alloc(parser, TEXT_MACRO_PARAMETERS_MAX, sizeof *keywords);
    struct text_expression *node;
    bool keyword_seen = false;

    text_parse_expect_operator(parser, "(");
    while (parser->status == TD_OK && !text_parse_take_operator(parser, ")")) {
        if (operands->count == TEXT_MACRO_PARAMETERS_MAX)
            text_parse_fail(parser, TD_LIMIT, "more than %d arguments", TEXT_MACRO_PARAMETERS_MAX);
        if (text_parse_at_operator(parser, "*") || text_parse_at_operator(parser, "**"))
            text_parse_fail(parser, TD_UNSUPPORTED, "arguments with * are not supported");
        if (at_keyword(parser)) {
            keywords[operands->count] = text_parse_expect_name(parser);
            text_parse_skip(parser);
            keyword_seen = true;
        } else if (keyword_seen) {
            text_parse_fail(parser, TD_INVALID, "an argument without name behind one with it");
        }
        text_parse_operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, ")"))
            text_parse_expect_operator(parser, ",");
    }
    node =
        parser->status == TD_OK ? text_parse_node(parser, EXPRESSION_CALL, NULL, operands) : NULL;
    if (node != NULL) {
        node->name = text_parse_string(parser, name);
        node->keywords = keywords;
    }
    return node;
}

/* name( ... ) with the bracket next. */
static struct text_expression *parse_named_call(struct text_parser *parser)
{
    struct td_span name = parser->next->text;
    const struct text_builtin *builtin = text_builtin_find(TEXT_FUNCTIONS, name);
    bool is_namespace = td_span_is(name, "namespace");

    if (builtin == NULL && !is_namespace && !td_span_is(name, "dict"))
        text_parse_note_name(parser, &parser->calls);
    text_parse_skip(parser);
    if (is_namespace)
        return parse_keywords(parser, EXPRESSION_NAMESPACE);
    if (td_span_is(name, "dict"))
        return parse_keywords(parser, EXPRESSION_DICT);
    if (builtin != NULL)
        return parse_call(parser, EXPRESSION_FUNCTION, builtin, NULL);
    return parse_macro_call(parser, name);
}

static struct text_expression *parse_name(struct text_parser *parser)
{
    struct td_span name = parser->next->text;
    struct text_expression *node;

    if (parser->next[1].kind == LEXEME_OPERATOR && td_span_is(parser->next[1].text, "("))
        return parse_named_call(parser);
    text_parse_skip(parser);
    if (td_span_is(name, "true") || td_span_is(name, "True"))
        return text_parse_constant(parser, text_value_bool(true));
    if (td_span_is(name, "false") || td_span_is(name, "False"))
        return text_parse_constant(parser, text_value_bool(false));
    if (td_span_is(name, "none") || td_span_is(name, "None"))
        return text_parse_constant(parser, text_value_none());
    if (parser->in_macro &&
        (td_span_is(name, "varargs") || td_span_is(name, "kwargs") || td_span_is(name, "caller")))
        fail_unknown(parser, "name", name); /* they would change what the macro takes */
    node = text_parse_node(parser, EXPRESSION_NAME, NULL, NULL);
    if (node != NULL)
        node->name = text_parse_string(parser, name);
    return node;
}

static struct text_expression *parse_operand(struct text_parser *parser)
{
    const struct lexeme *lexeme = parser->next;

    switch (lexeme->kind) {
    case LEXEME_NAME: return parse_name(parser);
    case LEXEME_STRING: return parse_string(parser);
    case LEXEME_INTEGER:
        parser->next++;
        return text_parse_constant(parser, text_value_int(lexeme->integer));
    case LEXEME_FLOAT:
        parser->next++;
        return text_parse_constant(parser, text_value_float(lexeme->number));
    default: break;
    }
    if (text_parse_take_operator(parser, "("))
        return parse_bracketed(parser);
    if (text_parse_take_operator(parser, "["))
        return parse_list(parser);
    if (text_parse_take_operator(parser, "{"))
        return parse_dict(parser);
    text_parse_fail(parser, TD_INVALID, "expected a value");
    return NULL;
}

/* ------------------------------------------------------------------------------------------- */
/* What follows a value */

/* loop.cycle(a, b, ...), with the bracket next. */
static struct text_expression *parse_cycle(struct text_parser *parser, struct text_expression *base)
{
    struct text_operands *operands = text_parse_operands(parser);

    if (operands == NULL)
        return NULL;
    text_parse_expect_operator(parser, "(");
    parse_items(parser, operands, ")");
    if (operands->count == 0)
        text_parse_fail(parser, TD_INVALID, "nothing to cycle through");
    return text_parse_node(parser, EXPRESSION_CYCLE, base, operands);
}

static struct text_expression *parse_attribute(struct text_parser *parser,
                                               struct text_expression *base)
{
    const struct text_string *name = text_parse_expect_name(parser);
    const struct text_builtin *method;
    struct text_expression *node;

    if (name == NULL)
        return NULL;
    if (text_parse_at_operator(parser, "(")) {
        if (td_span_is(text_string_span(name), "cycle"))
            return parse_cycle(parser, base);
        method = text_builtin_find(TEXT_METHODS, text_string_span(name));
        if (method != NULL)
            return parse_call(parser, EXPRESSION_METHOD, method, base);
        fail_unknown(parser, "method", text_string_span(name));
        return NULL;
    }
    node = text_parse_node(parser, EXPRESSION_ATTRIBUTE, base, NULL);
    if (node != NULL)
        node->name = name;
    return node;
}

/* Behind "[": an index, or a slice. */
static struct text_expression *parse_subscript(struct text_parser *parser,
                                               struct text_expression *base)
{
    struct text_operands *operands = text_parse_operands(parser);
    bool is_slice = false;

    if (operands == NULL)
        return NULL;
    operands->count = 1;
    while (parser->status == TD_OK && !text_parse_take_operator(parser, "]")) {
        if (text_parse_take_operator(parser, ":")) {
            is_slice = true;
            if (++operands->count > 3)
                text_parse_fail(parser, TD_INVALID, "a slice has at most three parts");
        } else if (operands->items[operands->count - 1] != NULL) {
            text_parse_expect_operator(parser, "]");
        } else {
            operands->items[operands->count - 1] = text_parse_expression(parser);
        }
    }
    if (!is_slice && operands->items[0] == NULL)
        text_parse_fail(parser, TD_INVALID, "expected a value");
    if (is_slice)
        operands->count = 3;
    return text_parse_node(parser, is_slice ? EXPRESSION_SLICE : EXPRESSION_ITEM, base, operands);
}

static struct text_expression *parse_postfix(struct text_parser *parser,
                                             struct text_expression *node)
{
    for (;;) {
        if (text_parse_take_operator(parser, "."))
            node = parse_attribute(parser, node);
        else if (text_parse_take_operator(parser, "["))
            node = parse_subscript(parser, node);
        else
            return node;
    }
}

struct text_expression *text_parse_value(struct text_parser *parser)
{
    return parse_postfix(parser, parse_operand(parser));
}

/* The builtin named next. */
static const struct text_builtin *parse_builtin(struct text_parser *parser,
                                                enum text_builtin_table table, const char *what)
{
    struct td_span name = parser->next->text;
    const struct text_builtin *builtin;

    if (parser->next->kind != LEXEME_NAME) {
        text_parse_fail(parser, TD_INVALID, "expected the name of a %s", what);
        return NULL;
    }
    builtin = text_builtin_find(table, name);
    if (builtin == NULL)
        fail_unknown(parser, what, name);
    text_parse_skip(parser);
    return builtin;
}

/* Whether an argument without brackets follows the name of a test: `is divisibleby 3`. */
static bool at_bare_argument(const struct text_parser *parser)
{
    switch (parser->next->kind) {
    case LEXEME_STRING:
    case LEXEME_INTEGER:
    case LEXEME_FLOAT: return true;
    case LEXEME_OPERATOR:
        return text_parse_at_operator(parser, "[") || text_parse_at_operator(parser, "{");
    case LEXEME_NAME:
        return !text_parse_at_name(parser, "else") && !text_parse_at_name(parser, "or") &&
               !text_parse_at_name(parser, "and") && !text_parse_at_name(parser, "if") &&
               !text_parse_at_name(parser, "is") && !text_parse_at_name(parser, "in") &&
               !text_parse_at_name(parser, "not");
    default: return false;
    }
}

static struct text_expression *parse_test(struct text_parser *parser, struct text_expression *base)
{
    bool negated = text_parse_take_name(parser, "not");
    const struct text_builtin *test = parse_builtin(parser, TEXT_TESTS, "test");
    struct text_expression *node;

    if (test == NULL)
        return NULL;
    if (test->positional > 0 && at_bare_argument(parser)) {
        struct text_operands *operands = text_parse_operands(parser);

        if (operands == NULL)
            return NULL;
        operands->items[0] = text_parse_value(parser);
        operands->count = TEXT_PARAMETERS_MAX;
        node = text_parse_node(parser, EXPRESSION_TEST, base, operands);
        if (node != NULL)
            node->builtin = test;
    } else {
        node = parse_call(parser, EXPRESSION_TEST, test, base);
    }
    if (node != NULL)
        node->negated = negated;
    return node;
}

/* Some filters take the name of another, or of a test: what stands there as a literal is checked now. */
static void check_named(struct text_parser *parser, const struct text_expression *node)
{
    static const struct {
        const char *filter;
        const char *what;
        enum text_builtin_table table;
        uint32_t place;
    } rows[] = {
        {"map", "filter", TEXT_FILTERS, 0},    {"select", "test", TEXT_TESTS, 0},
        {"reject", "test", TEXT_TESTS, 0},     {"selectattr", "test", TEXT_TESTS, 1},
        {"rejectattr", "test", TEXT_TESTS, 1},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct text_expression *item = node->items[rows[i].place];

        if (strcmp(node->builtin->name, rows[i].filter) == 0 && item != NULL &&
            item->kind == EXPRESSION_CONSTANT && item->constant.kind == TEXT_STRING &&
            text_builtin_find(rows[i].table, text_string_span(item->constant.string)) == NULL)
            fail_unknown(parser, rows[i].what, text_string_span(item->constant.string));
    }
}

/* The filter named next, over node. */
static struct text_expression *parse_filter(struct text_parser *parser,
                                            struct text_expression *node)
{
    const struct text_builtin *filter = parse_builtin(parser, TEXT_FILTERS, "filter");

    if (filter == NULL)
        return NULL;
    node = parse_call(parser, EXPRESSION_FILTER, filter, node);
    if (node != NULL)
        check_named(parser, node);
    return node;
}

struct text_expression *text_parse_block_filters(struct text_parser *parser)
{
    struct text_expression *node = text_parse_node(parser, EXPRESSION_CAPTURED, NULL, NULL);

    text_parse_take_operator(parser, "|"); /* {% set x | trim %} has it, {% filter trim %} not */
    do
        node = parse_filter(parser, node);
    while (text_parse_take_operator(parser, "|"));
    return node;
}

struct text_expression *text_parse_filters(struct text_parser *parser, struct text_expression *node)
{
    for (;;) {
        if (text_parse_take_operator(parser, "|")) {
            node = parse_filter(parser, node);
            if (node == NULL)
                return NULL;
        } else if (text_parse_take_name(parser, "is")) {
            node = parse_test(parser, node);
        } else {
            return node;
        }
    }
}
