/*
 * template_parser.h: the tokens of a chat template to its tree. Internal to lib/text.
 *
 * Recursive descent, one function per level of precedence, with Jinja's grammar: ternary, or, and,
 * not, comparisons, + and -, ~, * / // %, unary, then what follows a value (attributes, subscripts, calls,
 * filters, tests). template_parser.c has statements, template_parser_expression.c operators, template_parser_value.c
 * values.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_PARSER_H
#define TANDEM_LIB_TEXT_TEMPLATE_PARSER_H

#include "lib/base/status.h"
#include "lib/text/template_ast.h"
#include "lib/text/template_lexer.h"

/* A name in a list of them, in scratch memory. */
struct parsed_name {
    const struct lexeme *lexeme;
    struct parsed_name *next;
};

struct text_parser {
    struct text_template *template;
    const struct lexeme *next;   /* never behind the one of kind LEXEME_END */
    struct td_arena *scratch;    /* gone after parsing */
    struct text_builder builder; /* of the template's arena */
    uint32_t depth;              /* of statements and brackets around the present place */
    uint32_t loops;              /* of for bodies around the present place */
    uint32_t scopes;             /* of bodies that have variables of their own around it */
    bool in_macro;
    struct parsed_name *calls;  /* names that are called and are no functions of ours */
    struct parsed_name *macros; /* names that may be called: of macros and of their parameters */
    td_status_t status;         /* sticky; once failed, next stands on LEXEME_END */
    struct td_error *error;
    const struct lexeme *end;
};

/* Parses a whole template into its arena. */
td_status_t text_parse(struct lexemes lexemes, struct td_arena *scratch,
                       struct text_template *template, struct td_error *error) TD_MUST_USE;

/* Notes the first failure, with the place of the next token in front, and ends the parse. */
void text_parse_fail(struct text_parser *parser, td_status_t status, const char *format, ...)
    TD_PRINTF(3, 4);

/* Zeroed memory of the template, or NULL (and the parse has failed). */
void *text_parse_alloc(struct text_parser *parser, size_t count, size_t size);

/* A name or string of the template: trusted. */
const struct text_string *text_parse_string(struct text_parser *parser, struct td_span bytes);

/* Takes the next token, whatever it is. */
void text_parse_skip(struct text_parser *parser);

/* Whether the next token is this operator, or this name. */
bool text_parse_at_operator(const struct text_parser *parser, const char *text);
bool text_parse_at_name(const struct text_parser *parser, const char *text);

/* The same, and takes it. */
bool text_parse_take_operator(struct text_parser *parser, const char *text);
bool text_parse_take_name(struct text_parser *parser, const char *text);

/* Fails unless it is taken. */
void text_parse_expect_operator(struct text_parser *parser, const char *text);

/* The next token's name, taken; NULL (and failed) if it is no name. */
const struct text_string *text_parse_expect_name(struct text_parser *parser);

/* One level deeper; false (and failed) past TEXT_TEMPLATE_DEPTH_MAX. Paired with text_parse_leave. */
bool text_parse_enter(struct text_parser *parser);
void text_parse_leave(struct text_parser *parser);

/* Notes the next token, a name, in one of the parser's lists. */
void text_parse_note_name(struct text_parser *parser, struct parsed_name **list);

/* The filters of {% filter %} and {% set x | ... %}, over EXPRESSION_CAPTURED. NULL: failed. */
struct text_expression *text_parse_block_filters(struct text_parser *parser);

/* An expression, or several with commas between, which are a tuple. NULL: failed. */
struct text_expression *text_parse_tuple(struct text_parser *parser);

/* An expression; without the ternary for the two places where `if` means something else. NULL: failed. */
struct text_expression *text_parse_expression(struct text_parser *parser);
struct text_expression *text_parse_expression_no_ternary(struct text_parser *parser);

#endif
