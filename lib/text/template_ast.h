/*
 * template_ast.h: a compiled chat template. Internal to lib/text.
 *
 * Two kinds of nodes: expressions, which have a value, and statements, which are lists. All of it lies
 * in the template's arena and never changes once parsed. Filters, tests, functions and methods are resolved to their
 * table entries, and keyword arguments to positions, while parsing.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_AST_H
#define TANDEM_LIB_TEXT_TEMPLATE_AST_H

#include "lib/base/arena.h"
#include "lib/text/value.h"

/* Expressions nested deeper than this are refused; it bounds the recursion of parser and evaluator. */
#define TEXT_TEMPLATE_DEPTH_MAX 100

struct text_builtin;
struct text_expression;
struct text_statement;

enum text_expression_kind {
    EXPRESSION_CONSTANT,
    EXPRESSION_NAME,        /* name */
    EXPRESSION_LIST,        /* items */
    EXPRESSION_TUPLE,       /* items */
    EXPRESSION_DICT,        /* items: key, value, key, value, ... */
    EXPRESSION_ATTRIBUTE,   /* base.name */
    EXPRESSION_ITEM,        /* base[items[0]] */
    EXPRESSION_SLICE,       /* base[items[0]:items[1]:items[2]]; missing ones are NULL */
    EXPRESSION_FILTER,      /* base|builtin(items) */
    EXPRESSION_TEST,        /* base is builtin(items) */
    EXPRESSION_METHOD,      /* base.builtin(items) */
    EXPRESSION_FUNCTION,    /* builtin(items) */
    EXPRESSION_NAMESPACE,   /* namespace(keywords): items: key, value, ... as in DICT */
    EXPRESSION_CALL,        /* name(items), a macro; keywords beside items */
    EXPRESSION_CYCLE,       /* base.cycle(items), of a loop */
    EXPRESSION_CAPTURED,    /* what the block that is being filtered has written */
    EXPRESSION_NOT,         /* not base */
    EXPRESSION_NEGATE,      /* -base */
    EXPRESSION_PLUS,        /* +base */
    EXPRESSION_AND,         /* items, two or more */
    EXPRESSION_OR,          /* items, two or more */
    EXPRESSION_ADD,         /* items, two or more, left to right */
    EXPRESSION_CONCATENATE, /* items, two or more: ~ */
    EXPRESSION_SUBTRACT,    /* base, items[0] */
    EXPRESSION_MULTIPLY,
    EXPRESSION_DIVIDE,
    EXPRESSION_FLOOR_DIVIDE,
    EXPRESSION_MODULO,
    EXPRESSION_POWER,
    EXPRESSION_COMPARE,     /* base, then items with operators between: a < b < c */
    EXPRESSION_CONDITIONAL, /* items[0] if base else items[1], which may be NULL */
};

enum text_comparison {
    COMPARE_EQUAL,
    COMPARE_UNEQUAL,
    COMPARE_LESS,
    COMPARE_LESS_EQUAL,
    COMPARE_GREATER,
    COMPARE_GREATER_EQUAL,
    COMPARE_IN,
    COMPARE_NOT_IN,
};

struct text_expression {
    enum text_expression_kind kind;
    uint32_t line;
    uint32_t depth; /* of the tree below, itself included */
    uint32_t item_count;
    bool negated;                            /* TEST: is not */
    struct text_value constant;              /* CONSTANT */
    const struct text_string *name;          /* NAME, ATTRIBUTE, CALL */
    const struct text_builtin *builtin;      /* FILTER, TEST, METHOD, FUNCTION */
    const enum text_comparison *comparisons; /* COMPARE: item_count of them */
    const struct text_string **keywords;     /* CALL: of each item its name, or NULL */
    struct text_expression *base;
    struct text_expression **items;
};

enum text_statement_kind {
    STATEMENT_TEXT,      /* text */
    STATEMENT_PRINT,     /* value */
    STATEMENT_IF,        /* branches */
    STATEMENT_FOR,       /* for targets in value [if condition] body [else otherwise] */
    STATEMENT_SET,       /* targets = value, or target.attribute = value */
    STATEMENT_SET_BLOCK, /* target = what body writes; or value, a filter over EXPRESSION_CAPTURED */
    STATEMENT_FILTER,    /* value, a filter over EXPRESSION_CAPTURED, which is what body writes */
    STATEMENT_SCOPE,     /* body, with variables of its own */
    STATEMENT_MACRO,     /* targets[0] = macro */
    STATEMENT_BREAK,
    STATEMENT_CONTINUE,
};

#define TEXT_MACRO_PARAMETERS_MAX 16

struct text_macro {
    const struct text_string *name;
    const struct text_string *parameters[TEXT_MACRO_PARAMETERS_MAX];
    struct text_expression *defaults[TEXT_MACRO_PARAMETERS_MAX]; /* NULL: none */
    uint32_t parameter_count;
    struct text_statement *body;
};

/* A list of statements, linked through next. NULL: nothing to do. */
struct text_branch {
    struct text_expression *condition; /* NULL: else */
    struct text_statement *body;
    struct text_branch *next;
};

#define TEXT_TARGETS_MAX 4

struct text_statement {
    enum text_statement_kind kind;
    uint32_t line;
    struct text_statement *next;
    const struct text_string *text;
    struct text_expression *value;
    struct text_expression *condition;
    struct text_branch *branches;
    struct text_statement *body;
    struct text_statement *otherwise;
    const struct text_string *targets[TEXT_TARGETS_MAX];
    uint32_t target_count;
    const struct text_string *attribute;
    const struct text_macro *macro;
};

struct text_template {
    struct td_arena arena;
    bool names_developer; /* has the string 'developer' in an expression */
    struct text_statement *body;
};

#endif
