/*
 * encode.h: a request's prompt as token ids. Inside the room only.
 *
 * Pure computation over a request that was read, a model's text tables and an arena; runs on a thread
 * of the pool. What clients write never becomes a control token: only the template's own text does.
 */
#ifndef TANDEM_FRONT_ENCODE_H
#define TANDEM_FRONT_ENCODE_H

#include "lib/api/chat_request.h"
#include "lib/api/completion_request.h"
#include "lib/api/refusals.h"
#include "lib/text/model.h"

struct front_encode_input {
    enum api_surface surface;
    struct api_chat_request chat; /* one of the two, by surface */
    struct api_completion_request completion;
    const struct api_limits *limits;
    const struct text_model *text;
    uint32_t max_context; /* prompt and answer together */
    int64_t unix_seconds; /* the date, for templates that ask */
};

/*
 * Appends the ids to tokens, which has room for max_context of them. Values for the template are made in
 * arena. On failure error is the answer to the client.
 */
td_status_t front_encode(const struct front_encode_input *input, struct td_arena *arena,
                         struct text_tokens *tokens, struct api_error *error) TD_MUST_USE;

#endif
