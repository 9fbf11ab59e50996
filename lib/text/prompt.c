/* prompt.c: a rendered prompt and who wrote which bytes, see prompt.h. */
#include "lib/text/prompt.h"

#include <stdlib.h>
#include <string.h>

#define RUNS_MIN 16

void text_prompt_init(struct text_prompt *prompt, size_t length_max)
{
    *prompt = (struct text_prompt){.runs = NULL};
    td_buf_init(&prompt->text, length_max < TEXT_BYTES_MAX ? length_max : TEXT_BYTES_MAX);
}

void text_prompt_fini(struct text_prompt *prompt)
{
    free(prompt->runs);
    prompt->runs = NULL;
    prompt->run_count = 0;
    prompt->run_capacity = 0;
    td_buf_fini(&prompt->text);
}

static bool runs_grow(struct text_prompt *prompt)
{
    uint32_t capacity = prompt->run_capacity == 0 ? RUNS_MIN : prompt->run_capacity * 2;
    struct text_run *runs = realloc(prompt->runs, (size_t)capacity * sizeof *runs);

    if (runs == NULL)
        return false;
    prompt->runs = runs;
    prompt->run_capacity = capacity;
    return true;
}

void text_prompt_append(struct text_prompt *prompt, const char *bytes, size_t length, bool trusted)
{
    struct text_run *last = prompt->run_count > 0 ? &prompt->runs[prompt->run_count - 1] : NULL;

    if (length == 0)
        return;
    td_buf_append(&prompt->text, bytes, length);
    if (prompt->text.status != TD_OK)
        return;
    if (last != NULL && last->trusted == trusted) {
        last->length += (uint32_t)length;
        return;
    }
    /* A run has at least one byte, so the count of runs stays below TEXT_BYTES_MAX. */
    if (prompt->run_count == prompt->run_capacity && !runs_grow(prompt)) {
        prompt->text.status = TD_NO_MEMORY;
        return;
    }
    prompt->runs[prompt->run_count++] = (struct text_run){(uint32_t)length, trusted};
}
