/*
 * template_builtins.h: the filters, tests, functions and methods of chat templates, as tables.
 * Internal to lib/text. A new one is a function and a row: in template_builtins.c (filters of text and numbers,
 * functions), template_sequences.c (filters of lists), template_tests.c or template_methods.c.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_BUILTINS_H
#define TANDEM_LIB_TEXT_TEMPLATE_BUILTINS_H

#include "lib/text/value.h"

#define TEXT_PARAMETERS_MAX 6
#define TEXT_PASSED_MAX \
    4 /* arguments by position, of filters that hand them on (map, select, ...) */

struct text_eval;

/*
 * What a builtin works on. Arguments that were not given are undefined. For functions, base is undefined.
 */
struct text_arguments {
    uint32_t line;
    struct text_value base;
    struct text_value values[TEXT_PARAMETERS_MAX];
};

typedef struct text_value (*text_builtin_fn)(struct text_eval *eval,
                                             const struct text_arguments *arguments);

struct text_builtin {
    const char *name;
    text_builtin_fn fn;
    uint8_t required;                            /* how many leading parameters must be given */
    uint8_t positional;                          /* how many may be given by position */
    const char *parameters[TEXT_PARAMETERS_MAX]; /* their names; NULL from the last on */
};

enum text_builtin_table {
    TEXT_FILTERS,
    TEXT_TESTS,
    TEXT_FUNCTIONS,
    TEXT_METHODS, /* of strings and dicts; each looks at its base's kind */
};

const struct text_builtin *text_tests(size_t *count_out);

/* A filter that the parser puts around operands, see escape_beside_safe. */
extern const struct text_builtin text_escaped_operand;

/* In template_date.c. */
struct text_value text_function_strftime_now(struct text_eval *eval,
                                             const struct text_arguments *given);

/* The entry with this name, or NULL. */
const struct text_builtin *text_builtin_find(enum text_builtin_table table, struct td_span name);

/* The entries of a table, for pages; NULL behind the last. */
const struct text_builtin *text_builtin_at(enum text_builtin_table table, size_t index);

#endif
