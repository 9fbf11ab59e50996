/*
 * tools.h: checking tools and tool calls of a chat request. Inside the room only.
 *
 * They are not parsed into structs: a template wants the JSON. What a template relies on is checked.
 */
#ifndef TANDEM_LIB_API_TOOLS_H
#define TANDEM_LIB_API_TOOLS_H

#include "lib/base/json.h"
#include "lib/base/status.h"

struct api_reader;

/* The tools of a body, NULL if there are none. Refused unless tool_choice says that none is called. */
td_status_t api_tools_read(struct api_reader *reader, const struct td_json *body,
                           const struct td_json **tools_out) TD_MUST_USE;

/* The tool calls of an assistant's message, NULL if there are none. */
td_status_t api_tool_calls_read(struct api_reader *reader, const struct td_json *message,
                                const struct td_json **calls_out) TD_MUST_USE;

#endif
