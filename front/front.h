/*
 * front.h: the public HTTP surface of a process: the OpenAI API on one side, token ids on the other.
 *
 * Router and workers serve the same routes. The front reads requests (lib/api), renders templates and
 * tokenizes (lib/text, on the thread pool, since a long prompt would hold up every stream), hands token
 * ids to its backend, and turns the tokens that come back into text, stop strings, events and usage.
 * It knows nothing of workers, schedulers or engines. Everything runs on the loop thread.
 *
 * One exchange per client request, which owns everything of it. Its end is one of: a whole answer, an
 * error, a broken connection (an error inside a stream that had begun), or the client's leaving.
 */
#ifndef TANDEM_FRONT_FRONT_H
#define TANDEM_FRONT_FRONT_H

#include <stdbool.h>
#include <stdint.h>

#include "front/result.h"
#include "front/sampling.h"
#include "lib/api/limits.h"
#include "lib/base/buf.h"
#include "lib/base/u128.h"
#include "lib/net/loop.h"
#include "lib/text/model.h"

/* What every program uses for ping_ms: below the idle timeouts of common proxies. */
#define FRONT_PING_MS 15000

struct front;
struct front_exchange;

/* A model that can be asked for by name. */
struct front_model {
    const char *name;              /* canonical */
    const struct text_model *text; /* NULL: known, but its tokenizer is not here yet: 503 */
    uint32_t max_context;
    struct td_u128 content_id; /* system_fingerprint is made of it */
    int64_t created;           /* Unix seconds */
};

/* What the front hands down. */
struct front_job {
    struct td_u128
        id; /* random, part of the answer's id: so it can be the request's id below, too */
    const char *model; /* canonical name; borrowed for the call */
    uint32_t *tokens;  /* malloc memory; moves when start returns TD_OK */
    uint32_t token_count;
    uint32_t max_new_tokens;
    struct front_sampling sampling;
    const struct front_bias *biases; /* borrowed for the call */
    uint32_t bias_count;
    struct td_u128 salt;    /* of the tenant; zero: the common one */
    struct td_u128 text_id; /* of the tokenizer that made the tokens */
    uint32_t tokenize_us;
};

/*
 * Where tokens come from. All calls on the loop thread. Between a start that returned TD_OK and the
 * end, the backend calls front_exchange_tokens any number of times and front_exchange_end exactly once,
 * never from inside start.
 */
struct front_backend {
    void *impl;
    /* The i-th served model, for the list; false at the end. Pointers live until the loop's next turn. */
    bool (*model_at)(void *impl, size_t i, struct front_model *model_out);
    /* By any of its names; "" is the only or first one. TD_NOT_FOUND: 404; TD_AGAIN: 503. The text model
     * stays valid for the process's life. */
    td_status_t (*model_by_name)(void *impl, const char *name, struct front_model *model_out);
    /* TD_EXHAUSTED: 429, with *retry_after_ms_out. */
    td_status_t (*start)(void *impl, struct front_job *job, struct front_exchange *exchange,
                         void **handle_out, uint32_t *retry_after_ms_out);
    /* Enough: a stop string was found. The end still follows. May be called from inside
     * front_exchange_tokens. */
    void (*stop)(void *impl, void *handle);
    /* The client has gone: nothing follows, and the handle is dead. As above. */
    void (*abandon)(void *impl, void *handle);
    /* Whether requests would be answered; else one sentence why not. */
    bool (*is_ready)(void *impl, char *why_out, size_t why_size);
    /* Whether the process makes progress; false makes /health answer 503. */
    bool (*is_healthy)(void *impl, char *why_out, size_t why_size);
    /* Appends the backend's own metrics in Prometheus text form. */
    void (*metrics)(void *impl, struct td_buf *out);
};

struct front_config {
    struct net_loop *loop;
    const char *listen; /* address:port, port 0: any */
    struct front_backend backend;
    struct api_limits limits;
    enum front_generation generation;
    uint32_t ping_ms; /* silence in a stream after which a comment is sent; 0: never */
    /* Optional: after front_drain, once, when front_idle has become true. */
    void (*on_drained)(void *context);
    void *context;
};

/* TD_IO with error filled if the address cannot be listened on. */
td_status_t front_open(const struct front_config *config, struct front **front_out,
                       struct td_error *error) TD_MUST_USE;

/* The address that is really listened on, "127.0.0.1:8080". */
const char *front_address(const struct front *front);

/* Tokens for an exchange, in order. */
void front_exchange_tokens(struct front_exchange *exchange, const uint32_t *tokens, uint32_t count);
/* The end of an exchange. The backend's handle is dead afterwards. */
void front_exchange_end(struct front_exchange *exchange, const struct front_result *result);

/*
 * SIGTERM: running exchanges go on; /ready and new requests for completions are answered 503. Once no
 * exchange lives, listening stops and connections close as their answers have left.
 */
void front_drain(struct front *front);
/* Whether no exchange lives and, after front_drain, all answers have left. */
bool front_idle(const struct front *front);
/*
 * Ends what is left, breaking its connections, and frees the front, which may have to wait for a job of
 * the thread pool. done is called on the loop, later. Where done is NULL and there is nothing to wait
 * for, all is freed on return.
 */
void front_close(struct front *front, void (*done)(void *context), void *context);

#endif
