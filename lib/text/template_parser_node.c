/* template_parser_node.c: see template_parser_node.h. */
#include "lib/text/template_parser_node.h"

#include <string.h>

void text_parse_operands_add(struct text_parser *parser, struct text_operands *operands,
                             struct text_expression *expression)
{
    if (operands->count == TEXT_ITEMS_MAX)
        text_parse_fail(parser, TD_LIMIT, "more than %d items", TEXT_ITEMS_MAX);
    else
        operands->items[operands->count++] = expression;
}

struct text_operands *text_parse_operands(struct text_parser *parser)
{
    struct text_operands *operands = td_arena_alloc(parser->scratch, sizeof *operands);

    if (operands == NULL)
        text_parse_fail(parser, TD_LIMIT, "the template is too large");
    return operands;
}

/* The line of a node: where its first part stands, or the token just taken. */
static uint32_t line_of(const struct text_parser *parser, const struct text_expression *base,
                        const struct text_operands *operands)
{
    if (base != NULL)
        return base->line;
    if (operands != NULL && operands->count > 0 && operands->items[0] != NULL)
        return operands->items[0]->line;
    return parser->next[-1].line; /* there is one: an expression stands in a tag */
}

struct text_expression *text_parse_node(struct text_parser *parser, enum text_expression_kind kind,
                                        struct text_expression *base,
                                        const struct text_operands *operands)
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

struct text_expression *text_parse_constant(struct text_parser *parser, struct text_value value)
{
    struct text_expression *node = text_parse_node(parser, EXPRESSION_CONSTANT, NULL, NULL);

    if (node != NULL)
        node->constant = value;
    return node;
}
