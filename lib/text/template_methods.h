/*
 * template_methods.h: methods of strings and dicts in chat templates. Internal to lib/text.
 *
 * Some filters are the same thing under another name, so these are shared with template_builtins.c.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_METHODS_H
#define TANDEM_LIB_TEXT_TEMPLATE_METHODS_H

#include "lib/text/template_builtins.h"

const struct text_builtin *text_methods(size_t *count_out);

/* The base as a string, with its bytes accounted for; NULL (and failed) if it is none. */
const struct text_string *text_method_base(struct text_eval *eval,
                                           const struct text_arguments *given);

/* An argument that must be a string; NULL (and failed) if it is none. */
const struct text_string *text_method_argument(struct text_eval *eval,
                                               const struct text_arguments *given, uint32_t place);

/* Whether an optional argument was left out, or is none. */
bool text_method_is_absent(struct text_value value);

/* The optional number of splits or replacements: as many as there are if absent or negative. */
bool text_method_count(struct text_eval *eval, const struct text_arguments *given, uint32_t place,
                       int64_t *count_out);

/* Appends bytes [start, end) of string to list. */
void text_method_append(struct text_eval *eval, struct text_value list,
                        const struct text_string *string, uint32_t start, uint32_t end);

/* In template_split.c. */
struct text_value text_method_split(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_rsplit(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_splitlines(struct text_eval *eval,
                                         const struct text_arguments *given);

/* Whether the method is one of strings, or of dicts. */
bool text_method_is_of(const struct text_builtin *method, enum text_kind kind);

struct text_value text_method_capitalize(struct text_eval *eval,
                                         const struct text_arguments *given);
struct text_value text_method_title_words(struct text_eval *eval,
                                          const struct text_arguments *given);
struct text_value text_method_strip(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_upper(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_lower(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_replace(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_items(struct text_eval *eval, const struct text_arguments *given);

#endif
