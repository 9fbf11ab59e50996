/*
 * result.h: what a request came to, in the terms of the client's answer.
 *
 * Filled by whoever ran the request (a worker's core, or a router's journey from the worker's last
 * update), read by the front to make the answer, the error, or the trace. Plain data.
 */
#ifndef TANDEM_FRONT_RESULT_H
#define TANDEM_FRONT_RESULT_H

#include <stdint.h>

#include "lib/base/status.h"

#define FRONT_MESSAGE_BYTES   160
#define FRONT_TRANSPORT_BYTES 128

/* The values are those of Finish in proto/tandem.proto. */
enum front_finish {
    FRONT_RUNNING = 0,
    FRONT_STOP = 1,   /* the model ended its answer, or a stop string was found */
    FRONT_LENGTH = 2, /* max_tokens, or the context is full */
    FRONT_CANCELED = 3,
    FRONT_REFUSED = 4, /* nothing was computed; status says why */
    FRONT_FAILED = 5,  /* broke while running; status says why */
};

/* Where the time went, in microseconds; a stage that did not happen is 0. */
struct front_stages {
    uint32_t queue_us;       /* in the router's queue */
    uint32_t tokenize_us;    /* template and tokenizer */
    uint32_t place_us;       /* asking the scheduler */
    uint32_t wait_us;        /* in the worker, before the first work on it */
    uint32_t ask_us;         /* reserving, pairing and asking until a prefill worker accepted */
    uint32_t prefill_us;     /* computing the prompt, here or there */
    uint32_t wire_us;        /* from the first chunk's arrival to the last chunk's landing */
    uint32_t land_us;        /* verifying and committing after that */
    uint32_t first_token_us; /* from the KV being complete to the first token */
    uint32_t decode_us;      /* from the first token to the last */
};

/* The KV that crossed between workers for this request. */
struct front_kv {
    uint64_t bytes;
    uint32_t remote_blocks;
    uint32_t cached_blocks;                /* found in the decode worker's own cache */
    char transport[FRONT_TRANSPORT_BYTES]; /* empty: nothing crossed */
    char fallback[FRONT_MESSAGE_BYTES];    /* why the prompt was prefilled by decode after an ask */
};

struct front_result {
    enum front_finish finish;
    td_status_t status;
    char message[FRONT_MESSAGE_BYTES]; /* refused or failed: one sentence */
    uint32_t retry_after_ms;           /* refused for lack of capacity */
    uint32_t prompt_tokens;
    uint32_t cached_tokens;
    uint32_t completion_tokens;
    struct front_stages stages;
    struct front_kv kv;
};

#endif
