/*
 * index.h: which worker has which KV block, as far as the scheduler knows.
 *
 * A table from block key to the set of its owners, in memory of a fixed size that is taken at the
 * start. An owner is a column of bits (at most SCHED_OWNERS_MAX); a worker holds one column while its
 * cache is known. Giving a column back costs nothing: it is masked at once, and its bits are swept
 * away little by little before anybody can get the same column again.
 *
 * When the table is full, the entry that a clock hand finds first without a match since its last
 * round goes. An owner that holds its share of a full table (one of n equal parts) makes room among
 * its own keys, so that nobody can push the others out. The index is a hint: a wrong entry costs a
 * recomputation, never a wrong answer, since the worker compares keys and tokens itself.
 *
 * Pure and not thread-safe: one owner. Nothing is allocated after the opening.
 */
#ifndef TANDEM_SCHEDULER_INDEX_H
#define TANDEM_SCHEDULER_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/base/u128.h"

#define SCHED_OWNERS_MAX 256
#define SCHED_OWNER_NONE UINT16_MAX

struct sched_index;

/* A list of block keys as the protocol carries them: pairs (hi, lo). Borrowed. */
struct sched_keys {
    const uint64_t *pairs;
    size_t count; /* of keys: half as many as numbers */
};

static inline struct td_u128 sched_keys_at(struct sched_keys keys, size_t i)
{
    return (struct td_u128){.hi = keys.pairs[2 * i], .lo = keys.pairs[2 * i + 1]};
}

struct sched_index_stats {
    size_t bytes;       /* fixed */
    uint32_t count;     /* keys in the table */
    uint32_t count_max; /* a key more than this evicts one */
    uint64_t evictions; /* since the opening */
    uint64_t refused;   /* keys not taken: their owner has its share of a full table */
};

/* bytes_max bounds all memory of the table; seed should be secret where peers may be hostile. */
td_status_t sched_index_open(size_t bytes_max, struct td_u128 seed,
                             struct sched_index **index_out) TD_MUST_USE;
void sched_index_close(struct sched_index *index);

/* An empty column. TD_EXHAUSTED: all are in use or not swept yet; try again after some sweeping. */
td_status_t sched_index_claim(struct sched_index *index, uint16_t *owner_out) TD_MUST_USE;

/* Forgets all keys of a column and gives it back. */
void sched_index_release(struct sched_index *index, uint16_t owner);

/* The owner has, or has no longer, the block of this key (never zero). Repeating is harmless. */
void sched_index_put(struct sched_index *index, uint16_t owner, struct td_u128 key);
void sched_index_drop(struct sched_index *index, uint16_t owner, struct td_u128 key);

/* Whether the owner is known to have the block. */
bool sched_index_has(const struct sched_index *index, uint16_t owner, struct td_u128 key);

/* Keys of this owner in the table. */
uint32_t sched_index_count(const struct sched_index *index, uint16_t owner);

/*
 * For every owner the number of leading keys that it has, in one walk over the keys that stops where
 * nobody is left. Matched entries get a second chance with the clock.
 */
void sched_index_match(struct sched_index *index, struct sched_keys keys,
                       uint32_t depth_out[static SCHED_OWNERS_MAX]);

/* Sweeps some entries for columns that were given back; returns whether there is more to do. */
bool sched_index_sweep(struct sched_index *index, uint32_t entries);
bool sched_index_needs_sweep(const struct sched_index *index);

struct sched_index_stats sched_index_stats(const struct sched_index *index);

#endif
