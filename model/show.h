/*
 * show.h: text out of a model file, as it may stand in a message.
 */
#ifndef TANDEM_MODEL_SHOW_H
#define TANDEM_MODEL_SHOW_H

#include <stddef.h>

#include "lib/base/span.h"

/* Cut to fit, control characters of ASCII as '?'; returns out. */
const char *model_show(struct td_span text, char *out, size_t size);

#endif
