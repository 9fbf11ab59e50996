/* render.h: the pieces that whole answers and stream events have in common. Inside the room only. */
#ifndef TANDEM_LIB_API_RENDER_H
#define TANDEM_LIB_API_RENDER_H

#include "lib/api/response.h"
#include "lib/base/json_write.h"

/* "stop" or "length". */
const char *api_finish_text(enum api_finish finish);

/* id, object, created, model and system_fingerprint, inside an open object. */
void api_render_head(struct td_json_writer *w, const struct api_answer *answer, const char *object);

/* The usage object; key is NULL where it is a document of its own. */
void api_render_usage(struct td_json_writer *w, const char *key, const struct api_usage *usage);

#endif
