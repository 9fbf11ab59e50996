/*
 * core.h: the scheduler without sockets: messages in, messages out, time as an argument.
 *
 * It owns the fleet, the index and the streams of workers (links) and routers (watchers). Messages
 * go out by pulling: the core says through its environment that something waits for a stream, and
 * the driver takes it with ..._next when the stream can send. What waits is never more than a few
 * flags per stream, so a slow peer costs nothing and always gets the newest.
 *
 * Every message is hostile until checked. One that breaks the protocol closes its stream with a
 * sentence that names the field. Nothing is kept on disk: after a restart everything comes back from
 * the workers' registrations and snapshots.
 *
 * Pure and not thread-safe. Calls must be made with a time that never goes backwards.
 */
#ifndef TANDEM_SCHEDULER_CORE_H
#define TANDEM_SCHEDULER_CORE_H

#include "proto/tandem.pb-c.h"
#include "scheduler/config.h"
#include "scheduler/feed.h"
#include "scheduler/fleet.h"
#include "scheduler/placement.h"

struct sched_core;
struct sched_link;    /* one worker's Announce stream */
struct sched_watcher; /* one router's Fleet stream */

/* Calls return at once and never call back into the core. `handle` is what the driver gave. */
struct sched_env {
    void *impl;

    /* Something waits for the stream: take it with sched_link_next, or sched_watcher_next. */
    void (*link_ready)(void *impl, void *handle);
    void (*watcher_ready)(void *impl, void *handle);

    /* The core has ended the stream and freed the link; sched_link_closed must not be called. */
    void (*link_close)(void *impl, void *handle, td_status_t status, const char *reason);
};

/* The answer to one Place, with the storage behind the message. */
struct sched_answer {
    Td__PlaceReply reply; /* valid until the next call into the core */
    Td__PrefillCandidate candidates[SCHED_CANDIDATES_MAX];
    Td__PrefillCandidate *list[SCHED_CANDIDATES_MAX];
    struct sched_placement placement;
};

/* Counted since the start. */
struct sched_stats {
    uint64_t registrations;
    uint64_t replaced;   /* workers whose target came back with another epoch */
    uint64_t violations; /* streams closed because of what they said */
    uint64_t stale;      /* workers that fell silent */
    uint64_t reports;
    uint64_t reports_old;    /* dropped: out of order */
    uint64_t unknown_kinds;  /* messages of a newer protocol, skipped */
    uint64_t placed_remote;  /* with prefill candidates */
    uint64_t placed_local;   /* the decode worker prefills itself */
    uint64_t placed_alone;   /* a prefill worker serves the whole request */
    uint64_t placed_nowhere; /* well-formed, and no worker for it */
    uint64_t place_malformed;
    uint64_t prompt_tokens;  /* of placed requests */
    uint64_t matched_tokens; /* of those, believed to be cached where they were placed */
};

/* TD_INVALID with the field of config that makes no sense; TD_NO_MEMORY. */
td_status_t sched_core_open(const struct sched_config *config, const struct sched_env *env,
                            uint64_t now_ns, struct sched_core **core_out,
                            struct td_error *error) TD_MUST_USE;

/* Frees everything, streams included, without a call to the environment. */
void sched_core_close(struct sched_core *core);

/* When the core next wants to run, or TD_TIME_NEVER; ask again after every other call. */
uint64_t sched_core_next(const struct sched_core *core);
void sched_core_run(struct sched_core *core, uint64_t now_ns);

/* A worker opened its Announce stream; certified is the role in its certificate or ROLE_UNKNOWN. */
td_status_t sched_link_open(struct sched_core *core, void *handle, Td__Role certified,
                            uint64_t now_ns, struct sched_link **link_out) TD_MUST_USE;

/* A message came. The link may be gone when this returns: link_close was called then. */
void sched_link_message(struct sched_link *link, const Td__AnnounceIn *message, uint64_t now_ns);

/* What waits for the stream, valid until the next call into the core; NULL if nothing does. */
const Td__AnnounceOut *sched_link_next(struct sched_link *link);

/* The stream ended; frees the link. */
void sched_link_closed(struct sched_link *link, uint64_t now_ns);

/* A router opened its Fleet stream. TD_INVALID or TD_REFUSED with the field, TD_LIMIT, TD_NO_MEMORY. */
td_status_t sched_watcher_open(struct sched_core *core, void *handle,
                               const Td__FleetRequest *request, struct sched_watcher **watcher_out,
                               struct td_error *error) TD_MUST_USE;

/* The newest picture if this router does not have it, valid until the next call; else NULL. */
const Td__FleetUpdate *sched_watcher_next(struct sched_watcher *watcher);

/* The stream ended; frees the watcher. */
void sched_watcher_closed(struct sched_watcher *watcher);

/* Places a request. Always answers; the reply's code says if there is no worker. */
void sched_core_place(struct sched_core *core, const Td__PlaceRequest *request, uint64_t now_ns,
                      struct sched_answer *answer_out);

/* For metrics and tests. */
struct sched_stats sched_core_stats(const struct sched_core *core);
struct sched_feed_stats sched_core_feed_stats(const struct sched_core *core);
struct sched_index_stats sched_core_index_stats(const struct sched_core *core);
const struct sched_fleet *sched_core_fleet(const struct sched_core *core);
uint32_t sched_core_worker_count(const struct sched_core *core, enum sched_worker_state state);
size_t sched_core_watcher_count(const struct sched_core *core);

#endif
