/*
 * template_values.h: chat_template_kwargs, by which a client turns the switches of a chat template
 * (enable_thinking, ...). Inside the room only.
 *
 * They are data, never a template: a template reads them like the messages, as text that it does not trust.
 * Names that the server gives itself are refused.
 */
#ifndef TANDEM_LIB_API_TEMPLATE_VALUES_H
#define TANDEM_LIB_API_TEMPLATE_VALUES_H

#include "lib/base/json.h"
#include "lib/base/status.h"

struct api_reader;

#define API_TEMPLATE_VALUES_MAX 32

/* The values of a body, NULL if there are none: an object of at most API_TEMPLATE_VALUES_MAX names. */
td_status_t api_template_values_read(struct api_reader *reader, const struct td_json *body,
                                     const struct td_json **values_out) TD_MUST_USE;

#endif
