/*
 * placement.h: which worker serves a request, and who prefills its prompt.
 *
 * One decode worker is chosen by the lowest expected time, then it is decided whether a prefill worker
 * is worth asking, and the best few of those are named in order. The formula is in docs/scheduler.md.
 * The choice depends on the fleet's state, the prompt and the request id alone.
 */
#ifndef TANDEM_SCHEDULER_PLACEMENT_H
#define TANDEM_SCHEDULER_PLACEMENT_H

#include "scheduler/fleet.h"

#define SCHED_CANDIDATES_MAX      3
#define SCHED_REASON_BYTES        640
#define SCHED_PLACE_MESSAGE_BYTES 256

struct sched_prompt {
    const char *model;
    uint32_t tokens;         /* at least 1 */
    uint32_t new_tokens_max; /* 0: not known */
    const uint64_t *exclude; /* epochs that get nothing of this request */
    size_t exclude_count;
    struct td_u128 request; /* breaks ties */
    const uint32_t *depth;  /* [SCHED_OWNERS_MAX]: leading cached blocks by index column */
    bool warming;           /* the scheduler has just started: a model may still come */
};

/* One worker's part in a placement. */
struct sched_place {
    struct sched_worker *worker;
    uint32_t matched_blocks; /* leading blocks of the prompt that it is believed to have */
    uint32_t uncached;       /* tokens that are left to compute there; at least 1 */
    uint32_t blocks;         /* that it will have to take */
    uint64_t cost_ms;
    uint64_t tie;
};

struct sched_placement {
    td_status_t status;      /* TD_OK; or why there is no worker: */
    uint32_t retry_after_ms; /* 0: trying again will not help */
    char message[SCHED_PLACE_MESSAGE_BYTES];
    struct sched_place serving;                       /* TD_OK */
    struct sched_place prefill[SCHED_CANDIDATES_MAX]; /* in the order to be tried */
    uint32_t prefill_count;                           /* 0: the serving worker prefills itself */
    char reason[SCHED_REASON_BYTES];                  /* TD_OK: for the trace */
};

/* Chooses. Guesses that are too old are dropped on the way; nothing else changes. */
void sched_placement_choose(const struct sched_fleet *fleet, const struct sched_config *config,
                            const struct sched_prompt *prompt, uint64_t now_ns,
                            struct sched_placement *placement_out);

/* Remembers the placement as a guess with the serving worker and the first candidate. */
void sched_placement_commit(const struct sched_placement *placement, uint64_t now_ns);

#endif
