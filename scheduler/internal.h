/*
 * internal.h: what core.c, link.c and watch.c share. Nobody else includes it.
 */
#ifndef TANDEM_SCHEDULER_INTERNAL_H
#define TANDEM_SCHEDULER_INTERNAL_H

#include "scheduler/core.h"

#define SCHED_REPLACED_MAX 64

struct sched_core {
    struct sched_config config;
    struct sched_env env;
    struct td_timers timers;
    uint64_t started_ns;
    struct sched_index *index;
    struct sched_feeds feeds;
    struct sched_fleet fleet;
    struct sched_stats stats;
    struct td_timer sweep_timer; /* of the index */

    struct td_list links; /* link.c */
    size_t link_count;
    uint64_t replaced[SCHED_REPLACED_MAX]; /* epochs, the last ones */
    uint32_t replaced_next;
    Td__AnnounceOut out; /* storage of sched_link_next */
    Td__Welcome welcome;
    Td__SnapshotRequest snapshot_request;

    struct td_list watchers; /* watch.c */
    size_t watcher_count;
    struct td_timer fleet_timer; /* armed while a change has not been shown */
    uint64_t
        pictures_until_ns; /* by then the pictures so far would have come at their steady pace */
    struct td_arena picture_arena;
    Td__FleetUpdate picture;
    bool picture_is_old;
};

struct sched_link {
    struct td_list node;
    struct sched_core *core;
    void *handle;
    Td__Role certified;
    struct sched_worker *worker; /* NULL until it has registered */
    struct td_timer deadline;    /* of registering */
    bool welcome_owed;
    bool snapshot_owed;
};

struct sched_watcher {
    struct td_list node;
    struct sched_core *core;
    void *handle;
    uint64_t router_epoch;
    bool owed;
};

/* core.c: moves a worker by an event and does what follows; the worker may be gone afterwards. */
void sched_worker_step(struct sched_core *core, struct sched_worker *worker,
                       enum sched_worker_event event, uint64_t now_ns);

/* core.c: what was left by the last call: an index to be swept. Every public call ends with it. */
void sched_core_settle(struct sched_core *core, uint64_t now_ns);

/* link.c: ends a stream towards the peer, frees its link and leaves its worker alone. */
void sched_link_close(struct sched_link *link, td_status_t status, const char *reason);
void sched_link_free(struct sched_link *link);

/* link.c: owes the feed's worker a request for a snapshot. */
void sched_link_ask(struct sched_feed *feed);

/* watch.c: the fleet has changed; routers will be told. */
void sched_watch_changed(struct sched_core *core, uint64_t now_ns);
void sched_watch_init(struct sched_core *core);
void sched_watch_fini(struct sched_core *core);

#endif
