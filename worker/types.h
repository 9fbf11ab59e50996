/*
 * types.h: what a worker is told at start: who it is, its limits, its policy.
 *
 * Plain data, no behaviour. The same structs serve production and the simulator.
 */
#ifndef TANDEM_WORKER_TYPES_H
#define TANDEM_WORKER_TYPES_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"
#include "lib/base/u128.h"
#include "proto/tandem.pb-c.h"
#include "proto/version.h"

#define WORKER_PROTOCOL_VERSION TD_PROTOCOL_MAX /* workers speak the newest one only */

#define WORKER_TARGET_BYTES     256
#define WORKER_CANDIDATES_MAX   3
#define WORKER_MODELS_MAX       8
#define WORKER_MODEL_NAME_BYTES 128
#define WORKER_TRANSPORTS_MAX   5
#define WORKER_REASON_BYTES     160

/*
 * name, flag, default and its unit (s or ms), text. Kept in milliseconds; each bounds the stay in one
 * state, see docs/protocol.md.
 */
#define WORKER_TIMES_MAP(X)                                                                        \
    X(collect_ms, "collect-time", 10, s, "When a request's prompt must have arrived completely.")  \
    X(request_ms, "request-time", 600, s, "The deadline of a request that names none of its own.") \
    X(grace_ms, "grace-time", 5, s, "How long a request outlives its link to the router.")         \
    X(ended_ms, "ended-time", 30, s,                                                               \
      "How long the output of an ended request waits for the router to acknowledge it.")           \
    X(reserve_ms, "reserve-time", 2, s,                                                            \
      "When blocks must have been reserved; then a prompt is prefilled here instead.")             \
    X(pair_ms, "pair-time", 5, s, "How long a handshake with a prefill worker may take.")          \
    X(pair_retry_ms, "pair-retry-time", 2, s,                                                      \
      "How long a peer that could not be paired is left alone.")                                   \
    X(ask_ms, "ask-time", 2, s, "When a prefill worker must have accepted or refused an ask.")     \
    X(stall_ms, "stall-time", 5, s, "How long an accepted ask may make no progress.")              \
    X(lease_ms, "lease-time", 5, s, "How long an ask is kept whose asker has gone silent.")        \
    X(heartbeat_ms, "heartbeat-time", 1, s, "How often at least progress is reported.")            \
    X(step_ms, "step-time", 30, s,                                                                 \
      "How long one engine step may run before the worker counts as hanging; steps are made for "  \
      "a tenth of that.")                                                                          \
    X(load_ms, "load-time", 500, ms, "How often at least load is reported to schedulers.")

struct worker_times {
#define X(name, flag, count, unit, text) uint32_t name;
    WORKER_TIMES_MAP(X)
#undef X
};

/* name, flag, default, maximum, text. */
#define WORKER_COUNTS_MAP(X)                                                                \
    X(requests_max, "requests-max", 1024, 1000000,                                          \
      "Requests at one time, ended and not yet acknowledged ones included.")                \
    X(links_max, "links-max", 64, 1000000, "Routers connected at one time.")                \
    X(exports_max, "exports-max", 256, 1000000, "Asks of others being served at one time.") \
    X(pairs_max, "pairs-max", 256, 1000000, "Peers known at one time.")                     \
    X(schedulers_max, "schedulers-max", 8, 1000000, "Schedulers reported to.")              \
    X(quarantine_max_percent, "quarantine-max-percent", 10, 100,                            \
      "Share of the pool that may be in quarantine; with more the worker exits.")

struct worker_counts {
#define X(name, flag, value, max, text) uint32_t name;
    WORKER_COUNTS_MAP(X)
#undef X
};

void worker_limits_default(struct worker_times *times_out, struct worker_counts *counts_out);

/* What a role decides: the mechanism is the same in both binaries. */
struct worker_policy {
    Td__Role role;
    uint32_t import_tokens_min; /* fewer uncached prompt tokens than this are prefilled here */
    bool imports;               /* follow the scheduler's prefill candidates at all */
    bool exports;               /* serve asks */
};

/* One of this worker's own transports, in the order of preference. */
struct worker_transport {
    char name[8];
    char library[64];
    char host[64]; /* boot identity of this host */
    uint8_t *address;
    size_t address_bytes;
};

struct worker_identity {
    uint64_t epoch; /* random per process start */
    struct engine_model_info model;
    struct td_u128 text_id;
    char models[WORKER_MODELS_MAX][WORKER_MODEL_NAME_BYTES]; /* served names, the first canonical */
    uint32_t model_count;
    char rpc_target[WORKER_TARGET_BYTES];
    char http_address[WORKER_TARGET_BYTES];
    uint32_t block_count;
    uint32_t max_sequences;
    uint32_t max_waiting;
    uint32_t threads;
    struct worker_transport transports[WORKER_TRANSPORTS_MAX];
    uint32_t transport_count;
};

/* name, help. Counters of the worker core, all rising; exported as tandem_worker_<name>_total. */
#define WORKER_COUNTERS_MAP(X)                                                       \
    X(requests_started, "requests accepted")                                         \
    X(requests_refused, "requests refused")                                          \
    X(requests_finished, "requests that ended with a stop or at their length")       \
    X(requests_canceled, "requests canceled by their owner or with their link")      \
    X(requests_failed, "requests that broke")                                        \
    X(links_lost, "links to routers that broke")                                     \
    X(attaches, "requests taken up again on a new link")                             \
    X(imports_started, "imports begun")                                              \
    X(imports_landed, "imports whose KV arrived and was used")                       \
    X(imports_skipped, "imports given up because enough was cached here")            \
    X(imports_fallback, "imports that ended with the prompt being prefilled here")   \
    X(imports_retried, "imports that went on to the next candidate")                 \
    X(imports_canceled, "imports canceled with their request")                       \
    X(asks_refused, "asks of ours that a prefill worker refused")                    \
    X(asks_lost, "asks of ours whose stream broke")                                  \
    X(asks_stalled, "asks of ours that made no progress in time")                    \
    X(exports_started, "asks accepted")                                              \
    X(exports_sent, "asks served completely")                                        \
    X(exports_refused, "asks refused")                                               \
    X(exports_stopped, "asks stopped by the asker, a lost peer or an expired lease") \
    X(leases_expired, "asks whose lease ran out")                                    \
    X(pairs_refused, "handshakes refused because identities differ")                 \
    X(pairs_failed, "handshakes that failed otherwise")                              \
    X(peers_lost, "transport connections lost")                                      \
    X(quarantines, "transfers whose blocks had to be quarantined")                   \
    X(stale_messages, "messages from or for an old epoch")                           \
    X(invalid_messages, "messages that failed a check")                              \
    X(kv_bytes_received, "KV bytes landed")                                          \
    X(kv_bytes_sent, "KV bytes sent")

struct worker_counters {
#define X(name, text) uint64_t name;
    WORKER_COUNTERS_MAP(X)
#undef X
};

#endif
