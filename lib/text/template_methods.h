/*
 * template_methods.h: methods of strings and dicts in chat templates. Internal to lib/text.
 *
 * Some filters are the same thing under another name, so these are shared with template_builtins.c.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_METHODS_H
#define TANDEM_LIB_TEXT_TEMPLATE_METHODS_H

#include "lib/text/template_builtins.h"

const struct text_builtin *text_methods(size_t *count_out);

struct text_value text_method_strip(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_upper(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_lower(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_replace(struct text_eval *eval, const struct text_arguments *given);
struct text_value text_method_items(struct text_eval *eval, const struct text_arguments *given);

#endif
