/*
 * template_eval.h: what the parts of the template evaluator share. Internal to lib/text.
 *
 * template_eval.c runs statements, template_expression.c computes expressions, template_operators.c has what
 * operators do, template_builtins.c and its neighbours filters, tests, functions and methods, template_print.c turns
 * values into text.
 *
 * A failure sticks in the eval: everything that runs after it returns undefined and does nothing, and
 * loops end at the next text_eval_work. So most code need not look.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_EVAL_H
#define TANDEM_LIB_TEXT_TEMPLATE_EVAL_H

#include "lib/text/string.h"
#include "lib/text/template.h"
#include "lib/text/template_ast.h"

#define TEXT_VARIABLES_MAX 1024

/* What looking at one item of a list or dict counts as, in bytes of text_eval_work. */
#define WORK_PER_ITEM 8

struct text_variable {
    const struct text_string *name;
    struct text_value value;
};

/* The variable `loop`: where a for stands. */
struct text_loop {
    const struct text_list *list;
    uint32_t index; /* from 0 */
};

/*
 * A stretch of the variables: those that a body has of its own. Scopes lie on the C stack. A macro's body sees what is
 * at the top level of the template and not what its caller sees, so two links are needed.
 */
struct text_scope {
    struct text_scope *outer;        /* the one that was innermost before */
    const struct text_scope *parent; /* where names are looked up next */
    uint32_t first;
    uint32_t end; /* set while it is not the innermost */
};

struct text_eval {
    const struct text_render_input *input;
    struct text_builder builder;
    struct text_prompt *prompt;
    struct text_list *capture; /* of a set block: what is written goes here; NULL: to the prompt */
    struct text_variable variables[TEXT_VARIABLES_MAX];
    uint32_t variable_count;
    struct text_scope root;   /* the top level of the template */
    struct text_scope *scope; /* the innermost */
    uint32_t depth;           /* of expressions and statements that are being evaluated */
    struct text_value captured;
    uint64_t work_left;
    td_status_t status;
    struct td_error *error;
};

/* Notes the first failure, with its line. */
void text_eval_fail(struct text_eval *eval, uint32_t line, td_status_t status, const char *format,
                    ...) TD_PRINTF(4, 5);

/*
 * Accounts for work on so many bytes or items, before it is done. False if the evaluation has failed, here by
 * its budget or by a builder that is full, or before.
 */
bool text_eval_work(struct text_eval *eval, uint32_t line, uint64_t amount);

/*
 * Goes one level deeper; false (and failed) if that is too deep: macros can call themselves. Paired with
 * text_eval_leave.
 */
bool text_eval_enter(struct text_eval *eval, uint32_t line);
void text_eval_leave(struct text_eval *eval);

/* What a macro writes, for arguments in the order of the call. */
struct text_value text_eval_call(struct text_eval *eval, const struct text_expression *call,
                                 const struct text_value *arguments);

/* The value of a name, or undefined. */
struct text_value text_eval_name(struct text_eval *eval, const struct text_string *name);

/* The value of an expression. */
struct text_value text_eval_expression(struct text_eval *eval,
                                       const struct text_expression *expression);

/* base[key]: a dict's value, an item, a character, or undefined if there is none. */
struct text_value text_eval_subscript(struct text_eval *eval, uint32_t line, struct text_value base,
                                      struct text_value key);

/* What iterating over a value gives: always a list (also of a dict's keys, of characters). */
const struct text_list *text_eval_iterate(struct text_eval *eval, uint32_t line,
                                          struct text_value value);

bool text_eval_truth(struct text_value value);

/* Whether the value is an integer or a boolean, and which. */
bool text_value_integer(struct text_value value, int64_t *integer_out);

/* left + right, and the other operators of two operands that make a new value. */
struct text_value text_eval_operate(struct text_eval *eval, uint32_t line,
                                    enum text_expression_kind kind, struct text_value left,
                                    struct text_value right);

/* left < right, left in right, and the other comparisons. */
bool text_eval_compare(struct text_eval *eval, uint32_t line, enum text_comparison comparison,
                       struct text_value left, struct text_value right);

/* All values, which are strings, one behind the other. */
struct text_value text_eval_join(struct text_eval *eval, uint32_t line,
                                 const struct text_value *values, uint32_t count);

/* Python's ==. */
bool text_eval_equal(struct text_eval *eval, uint32_t line, struct text_value a,
                     struct text_value b);

/* Python's `item in container`. */
bool text_eval_contains(struct text_eval *eval, uint32_t line, struct text_value container,
                        struct text_value item);

/* Python's str(): what {{ value }} writes. Lists and dicts as Python writes them; macros and such are refused. */
const struct text_string *text_eval_print(struct text_eval *eval, uint32_t line,
                                          struct text_value value);

/* How JSON is written; the arguments of Python's json.dumps. */
struct text_json_form {
    int indent; /* spaces per level; below 0: everything on one line */
    bool ensure_ascii;
    bool sort_keys;
    struct td_span item_separator;
    struct td_span key_separator;
};

const struct text_string *text_eval_json(struct text_eval *eval, uint32_t line,
                                         struct text_value value,
                                         const struct text_json_form *form);

/* An order of a's place to b's: below 0, 0 or above. Fails for what has no order. */
int text_eval_order(struct text_eval *eval, uint32_t line, struct text_value a,
                    struct text_value b);

/*
 * Fails because an operation cannot work on a value ("cannot slice none"); says which name was undefined. Returns
 * undefined.
 */
struct text_value text_eval_fail_kind(struct text_eval *eval, uint32_t line, const char *what,
                                      struct text_value value);

/* "a string", "none", ...: for messages. */
const char *text_kind_name(enum text_kind kind);

#endif
