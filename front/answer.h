/*
 * answer.h: token ids to text to the bytes of an answer, streamed or whole. Inside the room only.
 *
 * Knows no sockets: bytes gather in out, from where the owner takes them. Failures to grow stick in
 * the buffers; front_answer_status tells.
 */
#ifndef TANDEM_FRONT_ANSWER_H
#define TANDEM_FRONT_ANSWER_H

#include "lib/api/options.h"
#include "lib/api/response.h"
#include "lib/text/detokenize.h"
#include "lib/text/stop.h"

struct front_answer {
    struct api_answer api;
    char *model; /* its name, which api borrows */
    bool streams;
    bool begun; /* the stream's first event is written */
    struct api_stream stream;
    struct text_detokenizer detokenizer;
    struct text_stop stop;
    struct td_buf piece;  /* what the latest tokens add, before stop strings are looked for */
    struct td_buf text;   /* what may be shown: of the latest tokens (stream), or all of it */
    struct td_buf out;    /* bytes for the client */
    uint32_t token_count; /* that went into the text; none after a stop string */
};

struct front_answer_config {
    enum api_surface surface;
    struct td_u128 id;
    const char *model;
    struct td_u128 content_id;
    const struct text_model *text;
    const struct api_options *options;
    int64_t created;
    size_t backlog_bytes; /* that a stream may have in out */
};

/* TD_LIMIT, TD_INVALID (stop strings) or TD_NO_MEMORY; nothing is to be freed then. */
td_status_t front_answer_init(struct front_answer *answer,
                              const struct front_answer_config *config) TD_MUST_USE;
void front_answer_fini(struct front_answer *answer);

/* Takes tokens, for a stream at most one event. True: a stop string is complete; take no more. */
bool front_answer_take(struct front_answer *answer, const uint32_t *tokens, uint32_t count);

/* The rest of the text and the end: last events of a stream, or the whole body. */
void front_answer_finish(struct front_answer *answer, const struct api_end *end);

/* The error as the last event of a stream. */
void front_answer_break(struct front_answer *answer, const struct api_error *error);

/* TD_OK, or what the first buffer that failed says. */
td_status_t front_answer_status(const struct front_answer *answer);

#endif
