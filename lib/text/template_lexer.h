/*
 * template_lexer.h: the text of a chat template as a list of tokens. Internal to lib/text.
 *
 * Whitespace control is done here: {%- -%} {%+ +%}, trim_blocks (the newline behind a block or comment
 * goes) and lstrip_blocks (blanks between the start of a line and a block or comment go), with the rules of Jinja's
 * own lexer, as are newlines (CR LF and CR become LF, one at the very end goes) and escapes in strings.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_LEXER_H
#define TANDEM_LIB_TEXT_TEMPLATE_LEXER_H

#include <stdint.h>

#include "lib/base/arena.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

enum lexeme_kind {
    LEXEME_END = 0,     /* of the template; always the last */
    LEXEME_DATA,        /* text between tags */
    LEXEME_PRINT_BEGIN, /* {{ */
    LEXEME_PRINT_END,   /* }} */
    LEXEME_BLOCK_BEGIN, /* {% */
    LEXEME_BLOCK_END,   /* %} */
    LEXEME_NAME,
    LEXEME_STRING,   /* text: without quotes, escapes resolved */
    LEXEME_INTEGER,  /* integer */
    LEXEME_FLOAT,    /* number */
    LEXEME_OPERATOR, /* text: one of the operators, one or two characters */
};

struct lexeme {
    enum lexeme_kind kind;
    uint32_t line;
    uint32_t column;     /* in bytes, from 1 */
    struct td_span text; /* in the arena */
    union {
        int64_t integer;
        double number;
    };
};

struct lexemes {
    struct lexeme *items;
    uint32_t count;
};

/*
 * Cuts source up; texts are copied to `keep`, the list goes to `scratch`. TD_INVALID, TD_UNSUPPORTED or TD_LIMIT
 * with error naming the line.
 */
td_status_t text_lex(struct td_span source, struct td_arena *keep, struct td_arena *scratch,
                     struct lexemes *lexemes_out, struct td_error *error) TD_MUST_USE;

#endif
