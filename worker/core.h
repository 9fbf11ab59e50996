/*
 * core.h: the worker core: requests, imports, exports, pairs and announcing, as one pure object.
 *
 * It sits between the links above (routers, local clients), the engine, the transfer core, and the
 * peers beside it, and owns the lifetime of every request and ask. Pure: time comes in with each
 * call, everything that goes out goes through struct worker_env, and deadlines are kept in one
 * td_timers (worker_core_next_deadline, worker_core_tick). One thread: the loop.
 */
#ifndef TANDEM_WORKER_CORE_H
#define TANDEM_WORKER_CORE_H

#include "front/result.h"
#include "worker/env.h"
#include "worker/types.h"

struct worker_core;
struct worker_link;      /* one Generate stream of a router */
struct worker_request;   /* one request, from its Start to its acknowledged end */
struct worker_announcer; /* one Announce stream to a scheduler */

struct worker_config {
    struct worker_identity identity; /* copied; transport addresses move to the core */
    struct worker_policy policy;
    struct worker_times times;
    struct worker_counts counts;
    struct worker_env env;
};

td_status_t worker_core_open(const struct worker_config *config,
                             struct worker_core **core_out) TD_MUST_USE;

/* Frees the core. Nothing is sent; whoever closes has stopped engine and transfers before. */
void worker_core_close(struct worker_core *core);

uint64_t worker_core_next_deadline(const struct worker_core *core);
void worker_core_tick(struct worker_core *core, uint64_t now_ns);

/* Refuses new requests and asks from now on, and tells schedulers; running work goes on. */
void worker_core_drain(struct worker_core *core, uint32_t remaining_ms, uint64_t now_ns);

/* Whether nothing is left to do: no request, ask or transfer lives. */
bool worker_core_idle(const struct worker_core *core);

/* Cancels every request and ask, for a drain that ran out of time. */
void worker_core_cancel_all(struct worker_core *core, uint64_t now_ns);

/* --- from the engine and the transfer thread (events' arrays move to the core) --- */

void worker_core_on_engine(struct worker_core *core, struct engine_event *event, uint64_t now_ns);
void worker_core_on_kvt(struct worker_core *core, struct kvt_event *event, uint64_t now_ns);

/* --- Generate links --- */

/* TD_LIMIT: too many links. handle is the driver's. */
td_status_t worker_link_open(struct worker_core *core, void *handle,
                             struct worker_link **link_out) TD_MUST_USE;
/* May call env.link_close, after which the link is gone. */
void worker_link_on_message(struct worker_link *link, const Td__GenerateIn *message,
                            uint64_t now_ns);
/* The next message to send, or NULL. Valid until the next call into the core; counts as sent. */
const Td__GenerateOut *worker_link_next(struct worker_link *link, uint64_t now_ns);
void worker_link_closed(struct worker_link *link, uint64_t now_ns);

/* --- requests of local clients (this worker's own HTTP port) --- */

struct worker_start {
    struct td_u128 id;
    uint32_t *tokens; /* malloc memory, moves on TD_OK */
    uint32_t token_count;
    uint32_t max_new_tokens;
    struct engine_sampling sampling; /* biases move like the tokens */
    const uint32_t *stop_ids;
    uint32_t stop_id_count;
    struct td_u128 salt;
    uint32_t remaining_ms; /* 0: the default */
};

/* Called with new tokens and, once and last, with result->finish set. Not before start returned. */
typedef void (*worker_update_fn)(void *context, const uint32_t *tokens, uint32_t count,
                                 const struct front_result *result);

td_status_t worker_request_start(struct worker_core *core, struct worker_start *start,
                                 worker_update_fn update, void *context, uint64_t now_ns,
                                 struct worker_request **request_out) TD_MUST_USE;
/* The client has enough (a stop string): ends early, and update still reports the end. */
void worker_request_stop(struct worker_request *request, uint64_t now_ns);
/* The client has gone: update is not called any more, and the request pointer is dead. */
void worker_request_abandon(struct worker_request *request, uint64_t now_ns);

/* --- pairing and asks --- */

/* A peer wants to pair: fills reply; the strings in it live until the next call into the core. */
void worker_core_on_pair_request(struct worker_core *core, const Td__PairRequest *request,
                                 Td__PairReply *reply_out, uint64_t now_ns);
/* The answer to env.pair; reply is NULL when the call failed with status. */
void worker_core_on_pair(struct worker_core *core, uint64_t pair, const Td__PairReply *reply,
                         td_status_t status, uint64_t now_ns);

/* Our asks. */
void worker_core_on_ask_message(struct worker_core *core, uint64_t ask, const Td__AskOut *message,
                                uint64_t now_ns);
void worker_core_on_ask_closed(struct worker_core *core, uint64_t ask, uint64_t now_ns);

/* Asks of others. The first message of a stream opens; *export_out is then the driver's reference
 * until reply_close or asker_lost. A refusal is sent through env and leaves *export_out NULL. */
struct worker_export;
void worker_core_on_asked(struct worker_core *core, void *handle, const Td__AskIn *message,
                          uint64_t now_ns, struct worker_export **export_out);
void worker_core_on_asker_message(struct worker_export *export, const Td__AskIn *message,
                                  uint64_t now_ns);
void worker_core_on_asker_lost(struct worker_export *export, uint64_t now_ns);

/* --- schedulers --- */

td_status_t worker_announcer_open(struct worker_core *core, void *handle,
                                  struct worker_announcer **announcer_out) TD_MUST_USE;
/* The stream is up (again): everything is announced from the start. */
void worker_announcer_connected(struct worker_announcer *announcer, uint64_t now_ns);
void worker_announcer_on_message(struct worker_announcer *announcer, const Td__AnnounceOut *message,
                                 uint64_t now_ns);
/* The next message to send, or NULL. Valid until the next call into the core; counts as sent. */
const Td__AnnounceIn *worker_announcer_next(struct worker_announcer *announcer, uint64_t now_ns);
void worker_announcer_disconnected(struct worker_announcer *announcer);
void worker_announcer_close(struct worker_announcer *announcer);

/* --- for metrics, health and tests --- */

struct worker_gauges {
    uint32_t requests;
    uint32_t links;
    uint32_t imports;
    uint32_t exports;
    uint32_t pairs;
    uint32_t transfers_in;  /* imports whose transfer has not ended */
    uint32_t transfers_out; /* exports whose transfer has not ended */
};

const struct worker_counters *worker_core_counters(const struct worker_core *core);
const struct engine_load *worker_core_load(const struct worker_core *core);
void worker_core_gauges(const struct worker_core *core, struct worker_gauges *gauges_out);

#endif
