/*
 * template_parser_expression.c: operators in expressions of chat templates, from the tightest to the loosest; see
 * template_parser.h.
 */
#include <string.h>

#include "lib/text/template_builtins.h"
#include "lib/text/template_parser_node.h"

/* A node with one operand beside its base. */
static struct text_expression *binary_new(struct text_parser *parser,
                                          enum text_expression_kind kind,
                                          struct text_expression *left,
                                          struct text_expression *right)
{
    struct text_operands *operands = text_parse_operands(parser);

    if (operands == NULL)
        return NULL;
    text_parse_operands_add(parser, operands, right);
    return text_parse_node(parser, kind, left, operands);
}

static struct text_expression *parse_unary(struct text_parser *parser, bool with_filters)
{
    struct text_expression *node;
    bool negate = text_parse_at_operator(parser, "-");

    if (!text_parse_enter(parser))
        return NULL;
    if (text_parse_take_operator(parser, "-") || text_parse_take_operator(parser, "+"))
        node = text_parse_node(parser, negate ? EXPRESSION_NEGATE : EXPRESSION_PLUS,
                               parse_unary(parser, false), NULL);
    else
        node = text_parse_value(parser);
    if (with_filters)
        node = text_parse_filters(parser, node);
    text_parse_leave(parser);
    if (text_parse_at_operator(parser, "("))
        text_parse_fail(parser, TD_UNSUPPORTED, "only what has a name can be called");
    return node;
}

/* In Jinja 2 ** is weaker than a sign and goes from left to right. */
static struct text_expression *parse_power(struct text_parser *parser)
{
    struct text_expression *node = parse_unary(parser, true);

    while (text_parse_take_operator(parser, "**"))
        node = binary_new(parser, EXPRESSION_POWER, node, parse_unary(parser, true));
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
    struct text_expression *node = parse_power(parser);
    size_t i = 0;

    while (i < sizeof operators / sizeof operators[0]) {
        if (!text_parse_take_operator(parser, operators[i].text)) {
            i++;
            continue;
        }
        node = binary_new(parser, operators[i].kind, node, parse_power(parser));
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
    struct text_operands *operands;

    if (!text_parse_at_operator(parser, text) && !text_parse_at_name(parser, text))
        return first;
    operands = text_parse_operands(parser);
    if (operands == NULL)
        return NULL;
    text_parse_operands_add(parser, operands, first);
    while (text_parse_take_operator(parser, text) || text_parse_take_name(parser, text))
        text_parse_operands_add(parser, operands, operand(parser));
    return text_parse_node(parser, kind, NULL, operands);
}

static struct text_expression *parse_concatenation(struct text_parser *parser)
{
    return parse_chain(parser, parse_product, "~", EXPRESSION_CONCATENATE);
}

static bool is_safe(const struct text_expression *node)
{
    return node->kind == EXPRESSION_FILTER && strcmp(node->builtin->name, "safe") == 0;
}

/*
 * x | safe + y: what is marked as safe is HTML to Jinja, and whatever is added to HTML is escaped, although nothing
 * else is. Templates have been published that rely on it without meaning to.
 */
static struct text_expression *escape_beside_safe(struct text_parser *parser,
                                                  struct text_expression *node)
{
    bool beside_safe = false;

    for (uint32_t i = 0; node != NULL && i < node->item_count; i++)
        beside_safe = beside_safe || is_safe(node->items[i]);
    for (uint32_t i = 0; beside_safe && i < node->item_count && parser->status == TD_OK; i++) {
        struct text_operands *none = text_parse_operands(parser);
        struct text_expression *escaped;

        if (is_safe(node->items[i]) || none == NULL)
            continue;
        none->count = TEXT_PARAMETERS_MAX;
        escaped = text_parse_node(parser, EXPRESSION_FILTER, node->items[i], none);
        if (escaped != NULL) {
            escaped->builtin = &text_escaped_operand;
            node->items[i] = escaped;
        }
    }
    return node;
}

static struct text_expression *parse_additions(struct text_parser *parser)
{
    struct text_expression *node = parse_chain(parser, parse_concatenation, "+", EXPRESSION_ADD);

    return node != NULL && node->kind == EXPRESSION_ADD ? escape_beside_safe(parser, node) : node;
}

/* a + b - c + d: the runs of + are nodes of their own, so that long chains of text are joined once. */
static struct text_expression *parse_sum(struct text_parser *parser)
{
    struct text_expression *node = parse_additions(parser);

    while (text_parse_take_operator(parser, "-")) {
        node = binary_new(parser, EXPRESSION_SUBTRACT, node, parse_concatenation(parser));
        while (text_parse_take_operator(parser, "+")) {
            struct text_operands *operands = text_parse_operands(parser);

            if (operands == NULL)
                return NULL;
            text_parse_operands_add(parser, operands, node);
            text_parse_operands_add(parser, operands, parse_concatenation(parser));
            node = text_parse_node(parser, EXPRESSION_ADD, NULL, operands);
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
    enum text_comparison taken[TEXT_ITEMS_MAX];
    enum text_comparison *comparisons;
    struct text_operands *operands;
    enum text_comparison next;

    if (!take_comparison(parser, &next))
        return node;
    operands = text_parse_operands(parser);
    if (operands == NULL)
        return NULL;
    do {
        taken[operands->count < TEXT_ITEMS_MAX ? operands->count : 0] = next;
        text_parse_operands_add(parser, operands, parse_sum(parser));
    } while (take_comparison(parser, &next));
    comparisons = text_parse_alloc(parser, operands->count, sizeof *comparisons);
    if (comparisons == NULL)
        return NULL;
    memcpy(comparisons, taken, operands->count * sizeof *comparisons);
    node = text_parse_node(parser, EXPRESSION_COMPARE, node, operands);
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
    node = text_parse_node(parser, EXPRESSION_NOT, parse_not(parser), NULL);
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
        struct text_operands *operands = text_parse_operands(parser);
        struct text_expression *condition;

        if (operands == NULL)
            return NULL;
        condition = text_parse_expression_no_ternary(parser);
        text_parse_operands_add(parser, operands, node);
        operands->count = 2;
        if (text_parse_take_name(parser, "else")) {
            if (!text_parse_enter(parser))
                return NULL;
            operands->items[1] = text_parse_expression(parser);
            text_parse_leave(parser);
        }
        node = text_parse_node(parser, EXPRESSION_CONDITIONAL, condition, operands);
    }
    return parser->status == TD_OK ? node : NULL;
}
