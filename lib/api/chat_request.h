/*
 * chat_request.h: the body of POST /v1/chat/completions, parsed and validated.
 */
#ifndef TANDEM_LIB_API_CHAT_REQUEST_H
#define TANDEM_LIB_API_CHAT_REQUEST_H

#include "lib/api/errors.h"
#include "lib/api/limits.h"
#include "lib/api/options.h"
#include "lib/base/arena.h"

enum api_role {
    API_ROLE_SYSTEM = 0,
    API_ROLE_DEVELOPER,
    API_ROLE_USER,
    API_ROLE_ASSISTANT,
    API_ROLE_TOOL,
};

/* "system", "user", ...: the word that templates know. */
const char *api_role_text(enum api_role role);

struct api_message {
    enum api_role role;
    bool has_content;                 /* an assistant's message with tool calls may have none */
    struct td_span content;           /* text parts are joined by a newline */
    struct td_span name;              /* empty: not given */
    struct td_span reasoning;         /* role assistant: what it thought before; empty: not given */
    struct td_span tool_call_id;      /* role tool: what it answers */
    const struct td_json *tool_calls; /* role assistant: a checked array, or NULL */
};

/* Spans and trees point into the arena. */
struct api_chat_request {
    struct api_options options;
    const struct api_message *messages;
    uint32_t message_count;                /* at least 1 */
    const struct td_json *tools;           /* a checked array for the template, or NULL */
    const struct td_json *template_values; /* chat_template_kwargs: a checked object, or NULL */
    struct td_span reasoning_effort;       /* for the template; empty: not given */
};

/*
 * api_chat_request_parse: body is borrowed for the call; everything in the request is in arena.
 *
 * On failure error holds what to answer: TD_INVALID, TD_LIMIT, TD_UNSUPPORTED: a 400 or 413 that names
 * the field; TD_NO_MEMORY: 503.
 */
td_status_t api_chat_request_parse(struct td_span body, const struct api_limits *limits,
                                   struct td_arena *arena, struct api_chat_request *request_out,
                                   struct api_error *error) TD_MUST_USE;

#endif
