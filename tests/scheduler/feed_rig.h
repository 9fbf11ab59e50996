/*
 * feed_rig.h: one feed of a worker's cache with everything around it, for tests: the test is the worker.
 */
#ifndef TANDEM_TESTS_SCHEDULER_FEED_RIG_H
#define TANDEM_TESTS_SCHEDULER_FEED_RIG_H

#include "lib/base/time.h"
#include "scheduler/feed.h"
#include "tests/support/support.h"

#define MS(n) ((uint64_t)(n)*TD_NS_PER_MS)

/* Time starts late, so that it can also be subtracted from. */
struct rig {
    struct sched_config config;
    struct sched_index *index;
    struct td_timers timers;
    struct sched_feeds feeds;
    struct sched_feed feed;
    uint32_t asks; /* requests sent and not answered by the test yet */
    uint64_t now_ns;
};

void rig_open(struct rig *rig);
void rig_close(struct rig *rig);

/* Brings a fresh feed into a state: UNKNOWN is detached, the others attached. */
void rig_reach(struct rig *rig, enum sched_feed_state state);

/* Time goes on, and what is due happens. */
void rig_pass(struct rig *rig, uint64_t ns);

/* The block key of a number, and the digest of two. */
struct td_u128 rig_key(uint64_t n);
struct td_u128 rig_both(uint64_t a, uint64_t b);

/* Small lists of keys by number, for messages that live until the next call. */
uint64_t *rig_pairs(const uint64_t *numbers, size_t count);

/* Block events; and those of one key, which must be taken. */
td_status_t rig_events(struct rig *rig, uint64_t sequence, const uint64_t *stored,
                       size_t stored_count, const uint64_t *removed, size_t removed_count);
void rig_stored(struct rig *rig, uint64_t sequence, uint64_t number);
void rig_removed(struct rig *rig, uint64_t sequence, uint64_t number);

/* A part of a snapshot with one key; UINT64_MAX: with none. */
void rig_part(struct rig *rig, uint64_t sequence, uint32_t number, uint32_t parts, uint64_t key);

/* A load report. */
void rig_report(struct rig *rig, uint64_t sequence, struct td_u128 digest);

/* Whether the index has the key of a number for this worker. */
bool rig_has(const struct rig *rig, uint64_t number);

#endif
