/* template_parser_expression.c: expressions of chat templates, see template_parser.h. */
#include <string.h>

#include "lib/text/string.h"
#include "lib/text/template_builtins.h"
#include "lib/text/template_parser.h"

#define ITEMS_MAX 128 /* of a list, a dict, a chain of operators */

/* Operands being collected; they move to the template's arena when their number is known. */
struct operands {
    struct text_expression *items[ITEMS_MAX];
    uint32_t count;
};

static void operands_add(struct text_parser *parser, struct operands *operands,
                         struct text_expression *expression)
{
    if (operands->count == ITEMS_MAX)
        text_parse_fail(parser, TD_LIMIT, "more than %d items", ITEMS_MAX);
    else
        operands->items[operands->count++] = expression;
}

static struct operands *operands_new(struct text_parser *parser)
{
    struct operands *operands = td_arena_alloc(parser->scratch, sizeof *operands);

    if (operands == NULL)
        text_parse_fail(parser, TD_LIMIT, "the template is too large");
    return operands;
}

/* The line of a node: where its first part stands, or the token just taken. */
static uint32_t line_of(const struct text_parser *parser, const struct text_expression *base,
                        const struct operands *operands)
{
    if (base != NULL)
        return base->line;
    if (operands != NULL && operands->count > 0 && operands->items[0] != NULL)
        return operands->items[0]->line;
    return parser->next[-1].line; /* there is one: an expression stands in a tag */
}

/*
 * Makes a node. base and operands may be NULL; NULL among the operands is a part that was left out. The tree
 * gets no deeper than TEXT_TEMPLATE_DEPTH_MAX.
 */
static struct text_expression *node_new(struct text_parser *parser, enum text_expression_kind kind,
                                        struct text_expression *base,
                                        const struct operands *operands)
{
    struct text_expression *node = text_parse_alloc(parser, 1, sizeof *node);
    uint32_t count = operands == NULL ? 0 : operands->count;

    if (node == NULL)
        return NULL;
    node->kind = kind;
    node->line = line_of(parser, base, operands);
    node->base = base;
    node->item_count = count;
    node->depth = base == NULL ? 0 : base->depth;
    if (count > 0) {
        node->items = text_parse_alloc(parser, count, sizeof(struct text_expression *));
        if (node->items == NULL)
            return NULL;
        memcpy(node->items, operands->items, count * sizeof(struct text_expression *));
    }
    for (uint32_t i = 0; i < count; i++)
        if (node->items[i] != NULL && node->items[i]->depth > node->depth)
            node->depth = node->items[i]->depth;
    if (++node->depth > TEXT_TEMPLATE_DEPTH_MAX)
        text_parse_fail(parser, TD_LIMIT, "nested deeper than %d", TEXT_TEMPLATE_DEPTH_MAX);
    return parser->status == TD_OK ? node : NULL;
}

static struct text_expression *constant_new(struct text_parser *parser, struct text_value value)
{
    struct text_expression *node = node_new(parser, EXPRESSION_CONSTANT, NULL, NULL);

    if (node != NULL)
        node->constant = value;
    return node;
}

/* A node with one operand beside its base. */
static struct text_expression *binary_new(struct text_parser *parser,
                                          enum text_expression_kind kind,
                                          struct text_expression *left,
                                          struct text_expression *right)
{
    struct operands *operands = operands_new(parser);

    if (operands == NULL)
        return NULL;
    operands_add(parser, operands, right);
    return node_new(parser, kind, left, operands);
}

/* ------------------------------------------------------------------------------------------- */
/* Values */

/* Expressions with commas between, up to the closer, which is taken. */
static void parse_items(struct text_parser *parser, struct operands *operands, const char *closer)
{
    while (parser->status == TD_OK && !text_parse_take_operator(parser, closer)) {
        operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, closer))
            text_parse_expect_operator(parser, ",");
    }
}

static struct text_expression *parse_list(struct text_parser *parser)
{
    struct operands *operands = operands_new(parser);

    if (operands == NULL)
        return NULL;
    parse_items(parser, operands, "]");
    return node_new(parser, EXPRESSION_LIST, NULL, operands);
}

/* Behind "(": an expression in brackets, or a tuple, which is a list here. */
static struct text_expression *parse_bracketed(struct text_parser *parser)
{
    struct operands *operands = operands_new(parser);
    struct text_expression *first;

    if (operands == NULL)
        return NULL;
    if (!text_parse_at_operator(parser, ")")) {
        first = text_parse_expression(parser);
        if (text_parse_take_operator(parser, ")"))
            return first;
        operands_add(parser, operands, first);
        text_parse_expect_operator(parser, ",");
    }
    parse_items(parser, operands, ")");
    return node_new(parser, EXPRESSION_LIST, NULL, operands);
}

static struct text_expression *parse_dict(struct text_parser *parser)
{
    struct operands *operands = operands_new(parser);

    if (operands == NULL)
        return NULL;
    while (parser->status == TD_OK && !text_parse_take_operator(parser, "}")) {
        operands_add(parser, operands, text_parse_expression(parser));
        text_parse_expect_operator(parser, ":");
        operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, "}"))
            text_parse_expect_operator(parser, ",");
    }
    return node_new(parser, EXPRESSION_DICT, NULL, operands);
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
    return constant_new(parser, text_value_of(string));
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

/* Puts one argument of a call in its place. */
static void parse_argument(struct text_parser *parser, const struct text_builtin *builtin,
                           struct operands *operands, bool *keyword_seen)
{
    uint32_t place = 0;
    bool is_keyword = parser->next->kind == LEXEME_NAME &&
                      parser->next[1].kind == LEXEME_OPERATOR &&
                      td_span_is(parser->next[1].text, "=");

    if (is_keyword) {
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
    struct operands *operands = operands_new(parser);
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
    node = node_new(parser, kind, base, operands);
    if (node != NULL)
        node->builtin = builtin;
    return node;
}

/* namespace(a=1, b=2): any keywords; kept as key and value like a dict. */
static struct text_expression *parse_namespace(struct text_parser *parser)
{
    struct operands *operands = operands_new(parser);

    if (operands == NULL)
        return NULL;
    text_parse_expect_operator(parser, "(");
    while (parser->status == TD_OK && !text_parse_take_operator(parser, ")")) {
        const struct text_string *name = text_parse_expect_name(parser);

        if (name == NULL)
            return NULL;
        operands_add(parser, operands, constant_new(parser, text_value_of(name)));
        text_parse_expect_operator(parser, "=");
        operands_add(parser, operands, text_parse_expression(parser));
        if (!text_parse_at_operator(parser, ")"))
            text_parse_expect_operator(parser, ",");
    }
    return node_new(parser, EXPRESSION_NAMESPACE, NULL, operands);
}

static struct text_expression *parse_name(struct text_parser *parser)
{
    struct td_span name = parser->next++->text;
    const struct text_builtin *builtin;
    struct text_expression *node;

    if (td_span_is(name, "true") || td_span_is(name, "True"))
        return constant_new(parser, text_value_bool(true));
    if (td_span_is(name, "false") || td_span_is(name, "False"))
        return constant_new(parser, text_value_bool(false));
    if (td_span_is(name, "none") || td_span_is(name, "None"))
        return constant_new(parser, text_value_none());
    if (text_parse_at_operator(parser, "(")) {
        if (td_span_is(name, "namespace"))
            return parse_namespace(parser);
        builtin = text_builtin_find(TEXT_FUNCTIONS, name);
        if (builtin != NULL)
            return parse_call(parser, EXPRESSION_FUNCTION, builtin, NULL);
        fail_unknown(parser, "function", name);
        return NULL;
    }
    node = node_new(parser, EXPRESSION_NAME, NULL, NULL);
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
        return constant_new(parser, text_value_int(lexeme->integer));
    case LEXEME_FLOAT:
        parser->next++;
        return constant_new(parser, text_value_float(lexeme->number));
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

static struct text_expression *parse_attribute(struct text_parser *parser,
                                               struct text_expression *base)
{
    const struct text_string *name = text_parse_expect_name(parser);
    const struct text_builtin *method;
    struct text_expression *node;

    if (name == NULL)
        return NULL;
    if (text_parse_at_operator(parser, "(")) {
        method = text_builtin_find(TEXT_METHODS, text_string_span(name));
        if (method != NULL)
            return parse_call(parser, EXPRESSION_METHOD, method, base);
        fail_unknown(parser, "method", text_string_span(name));
        return NULL;
    }
    node = node_new(parser, EXPRESSION_ATTRIBUTE, base, NULL);
    if (node != NULL)
        node->name = name;
    return node;
}

/* Behind "[": an index, or a slice. */
static struct text_expression *parse_subscript(struct text_parser *parser,
                                               struct text_expression *base)
{
    struct operands *operands = operands_new(parser);
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
    return node_new(parser, is_slice ? EXPRESSION_SLICE : EXPRESSION_ITEM, base, operands);
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
        struct operands *operands = operands_new(parser);

        if (operands == NULL)
            return NULL;
        operands->items[0] = parse_postfix(parser, parse_operand(parser));
        operands->count = TEXT_PARAMETERS_MAX;
        node = node_new(parser, EXPRESSION_TEST, base, operands);
        if (node != NULL)
            node->builtin = test;
    } else {
        node = parse_call(parser, EXPRESSION_TEST, test, base);
    }
    if (node != NULL)
        node->negated = negated;
    return node;
}

static struct text_expression *parse_filters(struct text_parser *parser,
                                             struct text_expression *node)
{
    for (;;) {
        if (text_parse_take_operator(parser, "|")) {
            const struct text_builtin *filter = parse_builtin(parser, TEXT_FILTERS, "filter");

            if (filter == NULL)
                return NULL;
            node = parse_call(parser, EXPRESSION_FILTER, filter, node);
        } else if (text_parse_take_name(parser, "is")) {
            node = parse_test(parser, node);
        } else {
            return node;
        }
    }
}

/* ------------------------------------------------------------------------------------------- */
/* Operators, from the tightest to the loosest */

static struct text_expression *parse_unary(struct text_parser *parser, bool with_filters)
{
    struct text_expression *node;
    bool negate = text_parse_at_operator(parser, "-");

    if (!text_parse_enter(parser))
        return NULL;
    if (text_parse_take_operator(parser, "-") || text_parse_take_operator(parser, "+"))
        node = node_new(parser, negate ? EXPRESSION_NEGATE : EXPRESSION_PLUS,
                        parse_unary(parser, false), NULL);
    else
        node = parse_postfix(parser, parse_operand(parser));
    if (with_filters)
        node = parse_filters(parser, node);
    text_parse_leave(parser);
    if (text_parse_at_operator(parser, "**"))
        text_parse_fail(parser, TD_UNSUPPORTED, "the operator '**' is not supported");
    if (text_parse_at_operator(parser, "("))
        text_parse_fail(parser, TD_UNSUPPORTED, "only named functions can be called");
    return node;
}

static struct text_expression *parse_product(struct text_parser *parser)
{
    static const struct {
        const char *text;
        enum text_expression_kind kind;
    } operators[] = {
        {"*", EXPRESSION_MULTIPLY},
        {"/", EXPRESSION_DIVIDE},
        {"//", EXPRESSION_FLOOR_DIVIDE},
        {"%", EXPRESSION_MODULO},
    };
    struct text_expression *node = parse_unary(parser, true);
    size_t i = 0;

    while (i < sizeof operators / sizeof operators[0]) {
        if (!text_parse_take_operator(parser, operators[i].text)) {
            i++;
            continue;
        }
        node = binary_new(parser, operators[i].kind, node, parse_unary(parser, true));
        i = 0;
    }
    return node;
}

typedef struct text_expression *(*level_fn)(struct text_parser *parser);

/* One operand, or several with the operator (a sign, or a name) between them, as one node. */
static struct text_expression *parse_chain(struct text_parser *parser, level_fn operand,
                                           const char *text, enum text_expression_kind kind)
{
    struct text_expression *first = operand(parser);
    struct operands *operands;

    if (!text_parse_at_operator(parser, text) && !text_parse_at_name(parser, text))
        return first;
    operands = operands_new(parser);
    if (operands == NULL)
        return NULL;
    operands_add(parser, operands, first);
    while (text_parse_take_operator(parser, text) || text_parse_take_name(parser, text))
        operands_add(parser, operands, operand(parser));
    return node_new(parser, kind, NULL, operands);
}

static struct text_expression *parse_concatenation(struct text_parser *parser)
{
    return parse_chain(parser, parse_product, "~", EXPRESSION_CONCATENATE);
}

static struct text_expression *parse_additions(struct text_parser *parser)
{
    return parse_chain(parser, parse_concatenation, "+", EXPRESSION_ADD);
}

/* a + b - c + d: the runs of + are nodes of their own, so that long chains of text are joined once. */
static struct text_expression *parse_sum(struct text_parser *parser)
{
    struct text_expression *node = parse_additions(parser);

    while (text_parse_take_operator(parser, "-")) {
        node = binary_new(parser, EXPRESSION_SUBTRACT, node, parse_concatenation(parser));
        while (text_parse_take_operator(parser, "+")) {
            struct operands *operands = operands_new(parser);

            if (operands == NULL)
                return NULL;
            operands_add(parser, operands, node);
            operands_add(parser, operands, parse_concatenation(parser));
            node = node_new(parser, EXPRESSION_ADD, NULL, operands);
        }
    }
    return node;
}

/* Takes a comparison operator, if one is next. */
static bool take_comparison(struct text_parser *parser, enum text_comparison *comparison_out)
{
    static const char *const signs[] = {
        [COMPARE_EQUAL] = "==",      [COMPARE_UNEQUAL] = "!=", [COMPARE_LESS] = "<",
        [COMPARE_LESS_EQUAL] = "<=", [COMPARE_GREATER] = ">",  [COMPARE_GREATER_EQUAL] = ">=",
    };

    for (size_t i = 0; i < sizeof signs / sizeof signs[0]; i++)
        if (text_parse_take_operator(parser, signs[i])) {
            *comparison_out = (enum text_comparison)i;
            return true;
        }
    if (text_parse_take_name(parser, "in")) {
        *comparison_out = COMPARE_IN;
        return true;
    }
    if (text_parse_at_name(parser, "not") && parser->next[1].kind == LEXEME_NAME &&
        td_span_is(parser->next[1].text, "in")) {
        text_parse_skip(parser);
        text_parse_skip(parser);
        *comparison_out = COMPARE_NOT_IN;
        return true;
    }
    return false;
}

static struct text_expression *parse_comparison(struct text_parser *parser)
{
    struct text_expression *node = parse_sum(parser);
    enum text_comparison taken[ITEMS_MAX];
    enum text_comparison *comparisons;
    struct operands *operands;
    enum text_comparison next;

    if (!take_comparison(parser, &next))
        return node;
    operands = operands_new(parser);
    if (operands == NULL)
        return NULL;
    do {
        taken[operands->count < ITEMS_MAX ? operands->count : 0] = next;
        operands_add(parser, operands, parse_sum(parser));
    } while (take_comparison(parser, &next));
    comparisons = text_parse_alloc(parser, operands->count, sizeof *comparisons);
    if (comparisons == NULL)
        return NULL;
    memcpy(comparisons, taken, operands->count * sizeof *comparisons);
    node = node_new(parser, EXPRESSION_COMPARE, node, operands);
    if (node != NULL)
        node->comparisons = comparisons;
    return node;
}

static struct text_expression *parse_not(struct text_parser *parser)
{
    struct text_expression *node;

    if (!text_parse_take_name(parser, "not"))
        return parse_comparison(parser);
    if (!text_parse_enter(parser))
        return NULL;
    node = node_new(parser, EXPRESSION_NOT, parse_not(parser), NULL);
    text_parse_leave(parser);
    return node;
}

static struct text_expression *parse_and(struct text_parser *parser)
{
    return parse_chain(parser, parse_not, "and", EXPRESSION_AND);
}

struct text_expression *text_parse_expression_no_ternary(struct text_parser *parser)
{
    struct text_expression *node;

    if (!text_parse_enter(parser))
        return NULL;
    node = parse_chain(parser, parse_and, "or", EXPRESSION_OR);
    text_parse_leave(parser);
    return node;
}

struct text_expression *text_parse_expression(struct text_parser *parser)
{
    struct text_expression *node = text_parse_expression_no_ternary(parser);

    while (text_parse_take_name(parser, "if")) {
        struct operands *operands = operands_new(parser);
        struct text_expression *condition;

        if (operands == NULL)
            return NULL;
        condition = text_parse_expression_no_ternary(parser);
        operands_add(parser, operands, node);
        operands->count = 2;
        if (text_parse_take_name(parser, "else")) {
            if (!text_parse_enter(parser))
                return NULL;
            operands->items[1] = text_parse_expression(parser);
            text_parse_leave(parser);
        }
        node = node_new(parser, EXPRESSION_CONDITIONAL, condition, operands);
    }
    return parser->status == TD_OK ? node : NULL;
}
