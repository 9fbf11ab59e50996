/*
 * fleet.h: the workers that have registered, and what state each of them is in.
 *
 * A worker is known by its epoch. Another epoch at the same rpc_target is a new incarnation and
 * replaces the old one. The fleet owns identity, load, guesses and state; what a state change means
 * for streams, routers and the index is the core's business (core.h).
 */
#ifndef TANDEM_SCHEDULER_FLEET_H
#define TANDEM_SCHEDULER_FLEET_H

#include "lib/base/fsm.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "scheduler/feed.h"
#include "scheduler/guess.h"
#include "scheduler/registration.h"

#define SCHED_WORKER_STATES(X, P)                                                            \
    X(P, REGISTERED, stale_ms, "known, has not yet said that it is ready")                   \
    X(P, READY, stale_ms, "takes requests")                                                  \
    X(P, DRAINING, stale_ms, "finishes what it has and takes nothing new")                   \
    X(P, STALE, gone_ms, "has a stream and has been silent: nothing new is placed on it")    \
    X(P, LOST, grace_ms, "its stream ended: nothing new, but its cache is still remembered") \
    X(P, GONE, none, "out of the fleet")

#define SCHED_WORKER_EVENTS(X, P)                                          \
    X(P, READY, "a load report: ready")                                    \
    X(P, UNREADY, "a load report: not ready")                              \
    X(P, DRAIN, "it says that it drains, or reports after having said so") \
    X(P, SILENCE, "the state's deadline passed")                           \
    X(P, LOSE, "its stream ended")                                         \
    X(P, RETURN, "the same epoch registered again, on a new stream")       \
    X(P, REPLACE, "another epoch registered at its rpc_target")

#define SCHED_WORKER_ACTIONS(X, P)                                    \
    X(P, KEEP, "the deadline begins anew")                            \
    X(P, SHOW, "the deadline begins anew; routers get a new picture") \
    X(P, REMOVE, "out of the fleet; routers get a new picture")

#define SCHED_WORKER_CELLS(X, P)                                                               \
    X(P, REGISTERED, READY, READY, SHOW, "")                                                   \
    X(P, REGISTERED, UNREADY, REGISTERED, KEEP, "")                                            \
    X(P, REGISTERED, DRAIN, DRAINING, SHOW, "")                                                \
    X(P, REGISTERED, SILENCE, STALE, SHOW, "")                                                 \
    X(P, REGISTERED, LOSE, LOST, SHOW, "")                                                     \
    X(P, REGISTERED, RETURN, REGISTERED, KEEP, "the older stream is closed")                   \
    X(P, REGISTERED, REPLACE, GONE, REMOVE, "")                                                \
    X(P, READY, READY, READY, KEEP, "")                                                        \
    X(P, READY, UNREADY, REGISTERED, SHOW, "")                                                 \
    X(P, READY, DRAIN, DRAINING, SHOW, "")                                                     \
    X(P, READY, SILENCE, STALE, SHOW, "")                                                      \
    X(P, READY, LOSE, LOST, SHOW, "")                                                          \
    X(P, READY, RETURN, READY, KEEP, "its last report is fresh enough")                        \
    X(P, READY, REPLACE, GONE, REMOVE, "")                                                     \
    X(P, DRAINING, READY, DRAINING, BUG, "a report after Draining counts as DRAIN")            \
    X(P, DRAINING, UNREADY, DRAINING, BUG, "")                                                 \
    X(P, DRAINING, DRAIN, DRAINING, KEEP, "")                                                  \
    X(P, DRAINING, SILENCE, STALE, SHOW, "")                                                   \
    X(P, DRAINING, LOSE, GONE, REMOVE, "it said goodbye")                                      \
    X(P, DRAINING, RETURN, DRAINING, KEEP, "")                                                 \
    X(P, DRAINING, REPLACE, GONE, REMOVE, "")                                                  \
    X(P, STALE, READY, READY, SHOW, "")                                                        \
    X(P, STALE, UNREADY, REGISTERED, SHOW, "")                                                 \
    X(P, STALE, DRAIN, DRAINING, SHOW, "")                                                     \
    X(P, STALE, SILENCE, GONE, REMOVE, "its stream is closed: if it lives it registers again") \
    X(P, STALE, LOSE, LOST, SHOW, "")                                                          \
    X(P, STALE, RETURN, REGISTERED, SHOW, "")                                                  \
    X(P, STALE, REPLACE, GONE, REMOVE, "")                                                     \
    X(P, LOST, READY, LOST, BUG, "reports need a stream")                                      \
    X(P, LOST, UNREADY, LOST, BUG, "")                                                         \
    X(P, LOST, DRAIN, LOST, BUG, "")                                                           \
    X(P, LOST, SILENCE, GONE, REMOVE, "")                                                      \
    X(P, LOST, LOSE, LOST, BUG, "")                                                            \
    X(P, LOST, RETURN, REGISTERED, SHOW, "takes requests again after its first report")        \
    X(P, LOST, REPLACE, GONE, REMOVE, "")                                                      \
    X(P, GONE, READY, GONE, BUG, "nobody has a pointer to a worker that is gone")              \
    X(P, GONE, UNREADY, GONE, BUG, "")                                                         \
    X(P, GONE, DRAIN, GONE, BUG, "")                                                           \
    X(P, GONE, SILENCE, GONE, BUG, "")                                                         \
    X(P, GONE, LOSE, GONE, BUG, "")                                                            \
    X(P, GONE, RETURN, GONE, BUG, "")                                                          \
    X(P, GONE, REPLACE, GONE, BUG, "")

TD_FSM_DECLARE(sched_worker, SCHED_WORKER);

/* The last load report. */
struct sched_load {
    uint32_t running;
    uint32_t prefilling;        /* of the running, whose prompts are not complete */
    uint32_t prefilling_tokens; /* what is left of those prompts */
    uint32_t waiting;
    uint32_t waiting_tokens;
    uint32_t blocks_free;
    uint32_t step_age_ms;
    uint32_t prefill_tokens_per_s; /* 0: not measured yet */
    uint32_t decode_step_us;       /* 0: not measured yet */
    uint64_t admitted;
};

struct sched_core;
struct sched_link;

struct sched_worker {
    struct td_list node;     /* in the order of registration */
    struct sched_core *core; /* the core's, with feed, deadline and link */
    struct sched_identity identity;
    uint8_t state;
    bool draining; /* it has said so; a process never stops draining */
    struct sched_load load;
    struct sched_guesses guesses;
    struct sched_feed feed;
    struct td_timer deadline; /* of the state */
    struct sched_link *link;  /* the core's; NULL while the worker is LOST */
};

struct sched_fleet {
    struct td_list workers;
    struct td_map by_epoch;
};

void sched_fleet_init(struct sched_fleet *fleet);

/* All workers must have been removed. */
void sched_fleet_fini(struct sched_fleet *fleet);

/*
 * Whether a worker with this identity may join (or come back). TD_REFUSED or TD_LIMIT with the reason.
 * A worker at the same rpc_target counts as leaving.
 */
td_status_t sched_fleet_check(const struct sched_fleet *fleet,
                              const struct sched_identity *identity,
                              struct td_error *error) TD_MUST_USE;

/* A new worker in the state REGISTERED; the identity moves. The feed and deadline are the core's. */
td_status_t sched_fleet_add(struct sched_fleet *fleet, struct sched_identity *identity,
                            struct sched_worker **worker_out) TD_MUST_USE;

/* Takes out a worker whose feed and deadline the core has ended, and frees it. */
void sched_fleet_remove(struct sched_fleet *fleet, struct sched_worker *worker);

struct sched_worker *sched_fleet_find(const struct sched_fleet *fleet, uint64_t epoch);
struct sched_worker *sched_fleet_at(const struct sched_fleet *fleet, const char *rpc_target);

static inline size_t sched_fleet_count(const struct sched_fleet *fleet)
{
    return fleet->by_epoch.count;
}

/* Takes over a report; false if it is older than one that was taken over before. */
bool sched_worker_report(struct sched_worker *worker, const Td__LoadReport *report);

/* The name of the worker's state, for logs and metrics. */
const char *sched_worker_state_name(uint8_t state);

#define sched_fleet_for_each(worker, fleet)                                      \
    for (struct sched_worker *worker = sched_fleet_first(fleet); worker != NULL; \
         worker = sched_fleet_next(fleet, worker))

static inline struct sched_worker *sched_fleet_first(const struct sched_fleet *fleet)
{
    struct td_list *node = td_list_first(&fleet->workers);

    return node != NULL ? td_container_of(node, struct sched_worker, node) : NULL;
}

static inline struct sched_worker *sched_fleet_next(const struct sched_fleet *fleet,
                                                    const struct sched_worker *worker)
{
    struct td_list *node = worker->node.next;

    return node != &fleet->workers ? td_container_of(node, struct sched_worker, node) : NULL;
}

#endif
