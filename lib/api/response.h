/*
 * response.h: what goes back to the client: whole answers, events of a stream, the list of models.
 *
 * All keys that OpenAI's specification requires are there, also those that are null (refusal, logprobs),
 * since validators and helpers of the official clients look for them. One choice, index 0.
 */
#ifndef TANDEM_LIB_API_RESPONSE_H
#define TANDEM_LIB_API_RESPONSE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/api/errors.h"
#include "lib/api/refusals.h"
#include "lib/base/buf.h"
#include "lib/base/span.h"
#include "lib/base/u128.h"

#define API_ID_BYTES          48
#define API_FINGERPRINT_BYTES 24

#define API_CONTENT_TYPE_JSON "application/json"
#define API_CONTENT_TYPE_SSE  "text/event-stream; charset=utf-8"

enum api_finish {
    API_FINISH_STOP = 0, /* the model ended its answer, or a stop string was found */
    API_FINISH_LENGTH,   /* max_tokens, or the context is full */
};

/* What all objects of one answer repeat. */
struct api_answer {
    enum api_surface surface;
    char id[API_ID_BYTES];
    int64_t created;                         /* Unix seconds */
    struct td_span model;                    /* borrowed */
    char fingerprint[API_FINGERPRINT_BYTES]; /* which weights and numerics made it */
};

/* id from the request's internal id, fingerprint from the model's content id. model is borrowed. */
struct api_answer api_answer_of(enum api_surface surface, struct td_u128 request,
                                struct td_u128 content_id, struct td_span model, int64_t created);

struct api_usage {
    uint32_t prompt_tokens;
    uint32_t completion_tokens;
    uint32_t cached_tokens; /* prompt tokens whose KV was reused */
};

/* How an answer ended. */
struct api_end {
    enum api_finish finish;
    struct api_usage usage;
    struct td_span tandem; /* a JSON object of our own (stages, KV traffic); empty: none */
};

/* Appends the whole answer of a request that does not stream. text is valid UTF-8. */
void api_answer_write(const struct api_answer *answer, struct td_span text,
                      const struct api_end *end, struct td_buf *out);

/* ------------------------------------------------------------------------------------------- */

/*
 * A stream of server-sent events. What repeats is built once, so that a delta costs an escape and two
 * copies. Events: api_stream_begin once, api_stream_delta any number of times, api_stream_end.
 */
struct api_stream {
    enum api_surface surface;
    bool include_usage;
    struct td_buf head;   /* data: {"id":...,"model":"m","system_fingerprint":"f","choices":[ */
    size_t common_length; /* of its beginning that the event with the usage shares */
};

/* TD_NO_MEMORY or TD_LIMIT. */
td_status_t api_stream_init(struct api_stream *stream, const struct api_answer *answer,
                            bool include_usage) TD_MUST_USE;
void api_stream_fini(struct api_stream *stream);

/* The first event of a chat, which has the role; nothing for completions. */
void api_stream_begin(const struct api_stream *stream, struct td_buf *out);

/* One event with more text: whole characters, at least one (an empty delta would be noise). */
void api_stream_delta(const struct api_stream *stream, struct td_span text, struct td_buf *out);

/* The event with finish_reason, the one with the usage if it was asked for, and [DONE]. */
void api_stream_end(const struct api_stream *stream, const struct api_end *end, struct td_buf *out);

/* A comment that keeps proxies and clients from giving up on a silent stream. */
void api_sse_ping(struct td_buf *out);

/*
 * The error as an event. No [DONE] follows and the connection must be broken, not ended: a clean end
 * looks like success to many clients.
 */
void api_sse_error(const struct api_error *error, struct td_buf *out);

/* ------------------------------------------------------------------------------------------- */

struct api_model {
    const char *id;
    int64_t created;
    uint32_t max_context;
};

/* Appends the answer to GET /v1/models/{id}. */
void api_model_write(const struct api_model *model, struct td_buf *out);

/* Appends the answer to GET /v1/models. */
void api_models_write(const struct api_model *models, size_t count, struct td_buf *out);

#endif
