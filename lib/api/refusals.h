/*
 * refusals.h: fields that exist in the field and are not supported, in one table.
 *
 * Ignoring a field that changes the answer would be a wrong answer, so each of them is refused with
 * 400 unsupported_value and its name, unless its value asks for nothing.
 */
#ifndef TANDEM_LIB_API_REFUSALS_H
#define TANDEM_LIB_API_REFUSALS_H

#include "lib/base/buf.h"
#include "lib/base/json.h"
#include "lib/base/status.h"

struct api_reader;

/* Which requests know the field. */
enum api_surface {
    API_CHAT = 1,
    API_COMPLETIONS = 2,
};

/* TD_UNSUPPORTED for the first field of object that asks for something that we would not do. */
td_status_t api_refuse_unsupported(struct api_reader *reader, const struct td_json *object,
                                   enum api_surface surface) TD_MUST_USE;

/* Appends the table as Markdown, for docs. */
void api_refusals_print_markdown(struct td_buf *out);

#endif
