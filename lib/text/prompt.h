/*
 * prompt.h: a rendered prompt: its bytes, and which of them come from the template.
 */
#ifndef TANDEM_LIB_TEXT_PROMPT_H
#define TANDEM_LIB_TEXT_PROMPT_H

#include "lib/base/buf.h"
#include "lib/base/status.h"
#include "lib/text/types.h"

struct text_prompt {
    struct td_buf text;    /* its sticky status is the prompt's */
    struct text_run *runs; /* cover text; neighbours differ in trust */
    uint32_t run_count;
    uint32_t run_capacity;
};

/* An empty prompt that takes at most length_max bytes (and never more than TEXT_BYTES_MAX). */
void text_prompt_init(struct text_prompt *prompt, size_t length_max);
void text_prompt_fini(struct text_prompt *prompt);

/* Appends bytes of one trust. A failure sticks in text.status, and later calls do nothing. */
void text_prompt_append(struct text_prompt *prompt, const char *bytes, size_t length, bool trusted);

#endif
