/*
 * completion_request.h: the body of POST /v1/completions, parsed and validated.
 */
#ifndef TANDEM_LIB_API_COMPLETION_REQUEST_H
#define TANDEM_LIB_API_COMPLETION_REQUEST_H

#include "lib/api/errors.h"
#include "lib/api/limits.h"
#include "lib/api/options.h"
#include "lib/base/arena.h"

#define API_COMPLETION_TOKENS 16 /* OpenAI's default of max_tokens for this route */

enum api_prompt_kind {
    API_PROMPT_TEXT = 0,
    API_PROMPT_TOKENS,
};

/* One prompt: a text, or token ids as they are (whether the model has them is the caller's check). */
struct api_completion_request {
    struct api_options options; /* max_tokens is always set */
    enum api_prompt_kind kind;
    struct td_span text;    /* may be empty */
    const uint32_t *tokens; /* in the arena */
    uint32_t token_count;   /* at least 1 for API_PROMPT_TOKENS */
};

/* As api_chat_request_parse. */
td_status_t api_completion_request_parse(struct td_span body, const struct api_limits *limits,
                                         struct td_arena *arena,
                                         struct api_completion_request *request_out,
                                         struct api_error *error) TD_MUST_USE;

#endif
