/*
 * core.h: the router core: admission, journeys and links to workers, as one pure object.
 *
 * It owns every request between the front (token ids in, token ids out) and the workers. It learns of
 * workers from schedulers' fleet updates, asks a scheduler where each request should run, and keeps one
 * Generate stream to each worker that it uses. When no scheduler answers it chooses the least loaded
 * worker it knows: a lost control plane does not stop the data plane. Pure; one thread: the loop.
 */
#ifndef TANDEM_ROUTER_CORE_H
#define TANDEM_ROUTER_CORE_H

#include <stdbool.h>

#include "front/sampling.h"
#include "lib/base/u128.h"
#include "router/env.h"

#define ROUTER_TARGET_BYTES 256
#define ROUTER_MODELS_MAX   16
#define ROUTER_NAME_BYTES   256
#define ROUTER_WORKERS_MAX  256
#define ROUTER_TRIES_MAX    8
#define ROUTER_QUEUE_MAX    5000 /* the default; the flag is one of the API's limits */

/* name, flag, default and its unit (s or ms), text. Kept in milliseconds. */
#define ROUTER_TIMES_MAP(X)                                                                        \
    X(queue_ms, "queue-time", 60, s, "How long a request may wait for capacity.")                  \
    X(place_ms, "place-time", 1, s,                                                                \
      "When a scheduler must have named a place; after half of it another one is asked, then the " \
      "router chooses by itself.")                                                                 \
    X(request_ms, "request-time", 600, s, "The deadline of a whole request.")                      \
    X(grace_ms, "grace-time", 5, s,                                                                \
      "How long a worker may be out of reach after tokens were passed on; then the request "       \
      "fails.")                                                                                    \
    X(cancel_ms, "cancel-time", 5, s, "When a worker must have confirmed a cancel.")               \
    X(retry_ms, "retry-time", 100, ms,                                                             \
      "Pause before the next try to place a request that nobody could take.")                      \
    X(link_open_ms, "link-open-time", 5, s, "When a worker must have greeted on a new link.")      \
    X(link_retry_ms, "link-retry-time", 250, ms,                                                   \
      "Pause before a broken link to a worker is opened again.")                                   \
    X(link_idle_ms, "link-idle-time", 60, s, "How long a link that no request uses is kept.")

/* name, flag, default, maximum, text. */
#define ROUTER_COUNTS_MAP(X)                                                                \
    X(running_max, "running-max", 4096, 1000000, "Requests handed to workers at one time.") \
    X(tries_max, "tries-max", 3, ROUTER_TRIES_MAX,                                          \
      "Workers tried before a request fails; only while none of its tokens was passed on.")

struct router_limits {
    uint32_t queue_max; /* requests waiting for capacity; more are answered 429 */
#define X(name, flag, count, unit, text) uint32_t name;
    ROUTER_TIMES_MAP(X)
#undef X
#define X(name, flag, value, max, text) uint32_t name;
    ROUTER_COUNTS_MAP(X)
#undef X
};

struct router_limits router_limits_default(void);

/* name, help. All rising; exported as tandem_router_<name>_total. */
#define ROUTER_COUNTERS_MAP(X)                                          \
    X(journeys_started, "Requests taken from clients.")                 \
    X(journeys_refused, "Requests refused because the queue was full.") \
    X(journeys_finished, "Requests answered to the end.")               \
    X(journeys_canceled, "Requests whose client left.")                 \
    X(journeys_failed, "Requests that ended with an error.")            \
    X(retries, "Requests begun anew on another worker.")                \
    X(attaches, "Requests taken up again after a link broke.")          \
    X(links_lost, "Links to workers that broke.")                       \
    X(placed_alone, "Requests placed by the router itself.")            \
    X(stale_messages, "Messages from an old epoch.")                    \
    X(invalid_messages, "Messages that failed a check.")                \
    X(tokens, "Tokens passed on to clients.")

struct router_counters {
#define X(name, text) uint64_t name;
    ROUTER_COUNTERS_MAP(X)
#undef X
};

struct router_core;
struct router_journey;
struct router_link;

struct router_config {
    uint64_t epoch; /* of this process; random, never 0 */
    struct router_limits limits;
    struct router_env env;
};

td_status_t router_core_open(const struct router_config *config,
                             struct router_core **core_out) TD_MUST_USE;
/* Frees the core with all journeys; nothing is sent and nobody is called. */
void router_core_close(struct router_core *core);

uint64_t router_core_next_deadline(const struct router_core *core);
void router_core_tick(struct router_core *core, uint64_t now_ns);

/* --- the fleet --- */

/* A worker as the router knows it. */
struct router_worker {
    uint64_t epoch;
    Td__Role role;
    char rpc_target[ROUTER_TARGET_BYTES];
    char models[ROUTER_MODELS_MAX][ROUTER_NAME_BYTES]; /* the first is canonical */
    uint32_t model_count;
    struct td_u128 content_id;
    struct td_u128 text_id;
    uint32_t block_tokens;
    uint32_t max_context;
    uint32_t capacity; /* requests it can hold */
    bool ready;
    bool draining;
    uint32_t live; /* journeys on it */
};

/* A whole picture of the fleet, from any scheduler. Malformed entries are left out and counted. */
void router_core_on_fleet(struct router_core *core, const Td__FleetUpdate *update, uint64_t now_ns);

/* Workers, for the list of models and for fetching tokenizers; NULL at the end. */
const struct router_worker *router_core_worker(const struct router_core *core, size_t i);
/* By any of its names; "": any. */
bool router_worker_serves(const struct router_worker *worker, const char *model);
/* A ready worker that serves the model ("": any), or NULL. */
const struct router_worker *router_core_model(const struct router_core *core, const char *model);

/* --- journeys --- */

struct router_start {
    struct td_u128 id; /* of the first try, random; logs on all hosts show it. Zero: drawn here */
    const char *model; /* canonical name */
    uint32_t *tokens;  /* malloc memory, moves on TD_OK */
    uint32_t token_count;
    uint32_t max_new_tokens;
    struct front_sampling sampling;
    const struct front_bias *biases; /* borrowed for the call */
    uint32_t bias_count;
    struct td_u128 salt;
    struct td_u128 text_id; /* of the tokenizer that made the tokens */
    uint32_t remaining_ms;  /* 0: the default */
    uint32_t tokenize_us;   /* for the trace */
};

/*
 * TD_EXHAUSTED with *retry_after_ms_out: the queue is full. TD_NOT_FOUND: there are workers, and none of
 * them serves the model; one that is not ready at present counts, since it may be soon.
 */
td_status_t router_journey_start(struct router_core *core, struct router_start *start,
                                 void *context, uint64_t now_ns,
                                 struct router_journey **journey_out,
                                 uint32_t *retry_after_ms_out) TD_MUST_USE;
/* The client has enough (a stop string): env.end still follows. After the first token only. */
void router_journey_stop(struct router_journey *journey, uint64_t now_ns);
/* The client has gone: env is not called for it any more, and the pointer is dead. */
void router_journey_abandon(struct router_journey *journey, uint64_t now_ns);
/* Of the present try: another one has another lower half. */
struct td_u128 router_journey_id(const struct router_journey *journey);

/* The answer to env.place; reply is NULL when no scheduler could be reached. */
void router_core_on_placed(struct router_core *core, uint64_t number, const Td__PlaceReply *reply,
                           uint64_t now_ns);

/* --- links --- */

void router_core_on_link_open(struct router_core *core, uint64_t link, uint64_t now_ns);
void router_core_on_link_message(struct router_core *core, uint64_t link,
                                 const Td__GenerateOut *message, uint64_t now_ns);
/* TD_STALE: the worker there is another incarnation. */
void router_core_on_link_closed(struct router_core *core, uint64_t link, td_status_t status,
                                uint64_t now_ns);
/* The next message to send, or NULL. Valid until the next call into the core; counts as sent. */
const Td__GenerateIn *router_link_next(struct router_core *core, uint64_t link, uint64_t now_ns);

/* --- for metrics, draining and tests --- */

struct router_gauges {
    uint32_t queued;
    uint32_t running; /* on workers, canceled and unconfirmed ones included */
    uint32_t links;
    uint32_t workers;
    uint32_t workers_ready;
};

void router_core_gauges(const struct router_core *core, struct router_gauges *gauges_out);
const struct router_counters *router_core_counters(const struct router_core *core);
/* Whether no journey lives. */
bool router_core_idle(const struct router_core *core);
/* Ends all journeys with an error, for a drain that ran out of time. */
void router_core_fail_all(struct router_core *core, const char *reason, uint64_t now_ns);

#endif
