/*
 * template_parser_node.h: making the nodes of expressions. Internal to lib/text: what template_parser_value.c and
 * template_parser_expression.c share.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_PARSER_NODE_H
#define TANDEM_LIB_TEXT_TEMPLATE_PARSER_NODE_H

#include "lib/text/string.h"
#include "lib/text/template_parser.h"

#define TEXT_ITEMS_MAX 128 /* of a list, a dict, a chain of operators */

/* Operands being collected; they move to the template's arena when their number is known. */
struct text_operands {
    struct text_expression *items[TEXT_ITEMS_MAX];
    uint32_t count;
};

/* None yet, in scratch memory; NULL: failed. */
struct text_operands *text_parse_operands(struct text_parser *parser);
void text_parse_operands_add(struct text_parser *parser, struct text_operands *operands,
                             struct text_expression *expression);

/*
 * Makes a node. base and operands may be NULL; NULL among the operands is a part that was left out. The tree
 * gets no deeper than TEXT_TEMPLATE_DEPTH_MAX.
 */
struct text_expression *text_parse_node(struct text_parser *parser, enum text_expression_kind kind,
                                        struct text_expression *base,
                                        const struct text_operands *operands);

struct text_expression *text_parse_constant(struct text_parser *parser, struct text_value value);

/* A value and what follows it: attributes, subscripts, method calls. */
struct text_expression *text_parse_value(struct text_parser *parser);

/* The filters and tests behind node. */
struct text_expression *text_parse_filters(struct text_parser *parser,
                                           struct text_expression *node);

#endif
