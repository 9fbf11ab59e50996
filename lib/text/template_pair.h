/*
 * template_pair.h: two named templates of a model file as one.
 *
 * Some models have a template for chats, `default`, and one for chats with tools, `tool_use`. A text source has room
 * for one template, so readers of model files join the two: {% if tools %} tool_use {% else %} default {% endif %}.
 */
#ifndef TANDEM_LIB_TEXT_TEMPLATE_PAIR_H
#define TANDEM_LIB_TEXT_TEMPLATE_PAIR_H

#include "lib/base/span.h"

/* The most that joining adds to the bytes of both. */
#define TEXT_TEMPLATE_PAIR_BYTES 64

/*
 * Writes the pair to out, which has room for both templates and TEXT_TEMPLATE_PAIR_BYTES, and returns what was
 * written. Each renders as it would alone; lines in errors count from where the pair begins.
 */
struct td_span text_template_pair(struct td_span plain, struct td_span with_tools, char *out);

#endif
