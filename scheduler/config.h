/*
 * config.h: the numbers that steer a scheduler core, and the limits that it holds its peers to.
 */
#ifndef TANDEM_SCHEDULER_CONFIG_H
#define TANDEM_SCHEDULER_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

/* Limits on what peers may send. A message beyond one of them is refused by the field's name. */
#define SCHED_WORKERS_MAX       256
#define SCHED_LINKS_MAX         320 /* worker streams, those that have not registered yet included */
#define SCHED_WATCHERS_MAX      64  /* router streams */
#define SCHED_MODELS_MAX        16  /* names per worker */
#define SCHED_TEXT_BYTES_MAX    255   /* each name, target or address */
#define SCHED_EVENT_KEYS_MAX    65536 /* keys per list of one BlockEvents or Snapshot message */
#define SCHED_PARTS_MAX         65536 /* parts of one snapshot */
#define SCHED_PLACE_KEYS_MAX    16384 /* keys per Place: 262,144 tokens in blocks of 16 */
#define SCHED_EXCLUDE_MAX       64    /* epochs per Place */
#define SCHED_MESSAGE_BYTES_MAX (4u << 20)

struct sched_config {
    uint64_t epoch;            /* of this process; random, never 0 */
    struct td_u128 index_seed; /* secret: keeps hostile keys from crowding one place */
    size_t index_bytes_max;    /* fixed memory of the prefix index */

    /* The life of workers. */
    uint32_t load_interval_ms; /* asked of every worker at Welcome */
    uint32_t register_ms;      /* from a stream's opening to its Registration */
    uint32_t stale_ms;         /* without a report: nothing new is placed */
    uint32_t gone_ms;          /* stale for so long: taken out, stream closed */
    uint32_t grace_ms;         /* without a stream: kept for so long, index included */
    uint32_t fleet_delay_ms;   /* changes of the fleet are collected for so long */

    /* Snapshots of the workers' caches. */
    uint32_t answer_ms; /* from the asking to the first part, and from part to part */
    uint32_t retry_ms;  /* before the second asking; doubles from one to the next */
    uint32_t retry_max_ms;
    uint32_t snapshots_max; /* asked for at the same time */

    /* Placement; docs/scheduler.md explains the formula. */
    uint32_t remote_tokens_min;    /* uncached tokens from which a prefill worker is asked */
    uint32_t prefill_wait_max_ms;  /* a prefill worker with more queue in front is overloaded */
    uint32_t frozen_ms;            /* the engine has work and finished no step for so long */
    uint32_t guess_ms;             /* a placement that the worker never admitted is forgotten */
    uint32_t output_tokens_mean;   /* what an answer is taken to be long, at most */
    uint32_t prefill_tokens_per_s; /* assumed until some worker has measured */
    uint32_t decode_step_us;       /* assumed until some worker has measured */
    uint32_t warm_ms;              /* after the start a model that nobody serves may still come */
};

/* The defaults; epoch and index_seed are left 0 for the caller to draw. */
struct sched_config sched_config_default(void);

/* TD_INVALID with the name of the field that makes no sense. */
td_status_t sched_config_check(const struct sched_config *config,
                               struct td_error *error) TD_MUST_USE;

#endif
