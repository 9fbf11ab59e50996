/*
 * template.h: chat templates: a bounded evaluator for the part of Jinja that they are written in.
 *
 * A template comes from a model file, never from a client. It is compiled once, at load, where every
 * construct, filter, test or function that is not known is an error that names its line and column; rendering has
 * limits on steps, depth, memory and output. Semantics are those of Jinja 2 in the sandbox that Hugging Face uses:
 * trim_blocks and lstrip_blocks on, break and continue, json without escaping of non-ASCII text.
 *
 * Not supported on purpose: includes, inheritance, macros inside of other blocks, anything that changes a list or
 * dict. docs/text.md has the tables.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_H
#define TANDEM_LIB_TEXT_TEMPLATE_H

#include "lib/base/status.h"
#include "lib/text/prompt.h"
#include "lib/text/value.h"

struct text_template;

/* What a request gives to a template. */
struct text_render_input {
    struct text_value messages; /* a list of dicts */
    struct text_value tools;    /* a list, or none */
    bool add_generation_prompt;
    struct text_value extra; /* a dict of further variables (enable_thinking, ...), or none */
    int64_t unix_seconds;    /* what strftime_now formats, as UTC */
    struct td_span bos_token;
    struct td_span eos_token;
};

/*
 * text_template_open: compile a template.
 * TD_INVALID (syntax), TD_UNSUPPORTED (not known here) or TD_LIMIT, with error naming line and column.
 */
td_status_t text_template_open(const char *source, size_t length,
                               struct text_template **template_out,
                               struct td_error *error) TD_MUST_USE;
void text_template_close(struct text_template *template);

/* Whether the template tells messages of the role `developer` from others: it has that word in an expression. */
bool text_template_names_developer(const struct text_template *template);

/*
 * text_template_render: run a template over a request, into an initialised prompt.
 * A template is immutable: any number of threads may render at once. TD_INVALID: the template refused the
 * request (raise_exception) or an operation met a value it cannot work on; TD_UNSUPPORTED: an argument of a filter
 * or function that is not known here; TD_LIMIT: steps, depth, memory, or the prompt's length_max; error names
 * the line.
 */
td_status_t text_template_render(const struct text_template *template,
                                 const struct text_render_input *input, struct text_prompt *prompt,
                                 struct td_error *error) TD_MUST_USE;

#endif
