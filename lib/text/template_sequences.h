/*
 * template_sequences.h: filters of chat templates over lists and dicts. Internal to lib/text.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_SEQUENCES_H
#define TANDEM_LIB_TEXT_TEMPLATE_SEQUENCES_H

#include "lib/text/template_builtins.h"
#include "lib/text/template_eval.h"

const struct text_builtin *text_sequence_filters(size_t *count_out);

/* The entries of a dict as pairs, ordered by key or by value. Undefined: failed. */
struct text_value text_eval_sorted_items(struct text_eval *eval, uint32_t line,
                                         struct text_value dict, bool by_value,
                                         bool case_sensitive);

#endif
