/*
 * transfer_run.h: measures how fast KV blocks go from one process to another, by each lane.
 *
 * What `tandem bench transfer` reports at length and `tandem check` in short.
 */
#ifndef TANDEM_BENCH_TRANSFER_RUN_H
#define TANDEM_BENCH_TRANSFER_RUN_H

#include <stdint.h>

#include "bench/stats.h"
#include "bench/transfer_side.h"
#include "lib/base/progress.h"
#include "lib/base/status.h"

struct bench_transfer_plan {
    uint32_t block_count; /* per transfer */
    uint32_t block_bytes;
    uint32_t rounds;              /* at most BENCH_SAMPLES_MAX */
    unsigned lanes;               /* BENCH_LANE_BITs */
    const char *interface;        /* of UCX over TCP; NULL: "lo" */
    struct td_progress *progress; /* told of every round; NULL: nobody waits */
};

struct bench_lane_figures {
    char lanes[KVT_LANES_TEXT_BYTES];   /* as PEER_UP named them */
    struct bench_stats landed_gb_per_s; /* all in all */
    struct bench_stats moved_gb_per_s;  /* without the time that verification took */
    struct bench_stats landed_ratio;    /* to memcpy in the same round */
    struct bench_stats moved_ratio;
    struct bench_stats verify_ms;
};

struct bench_transfer_figures {
    struct bench_stats memcpy_gb_per_s;
    struct bench_lane_figures lanes[BENCH_LANE_COUNT]; /* those of the plan */
};

/*
 * Measures with a second process, which has ended when this returns. Forks: only for processes that
 * have started no thread, and not twice in one process, since UCX does not survive a fork.
 * The error names the lane that does not work.
 */
td_status_t bench_transfer_run(const struct bench_transfer_plan *plan,
                               struct bench_transfer_figures *figures_out,
                               struct td_error *error) TD_MUST_USE;

#endif
