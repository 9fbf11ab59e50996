/*
 * tiles.h: which rows of a step share a unit of attention, and how units are cut so that all threads have work.
 *
 * Neighbouring rows of a sequence form a tile; a unit is a tile and a KV head. One sequence that has read a
 * lot makes few and long units: those are cut into spans of splits, and whoever finishes the last span of
 * a unit merges all of them. Results do not depend on any of this (attention.h).
 */
#ifndef TANDEM_ENGINE_CPU_TILES_H
#define TANDEM_ENGINE_CPU_TILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/attention.h"
#include "lib/base/status.h"

struct cpu_tiles;

/* Where the rows of a step are, and what layer they are in. Strides in floats. */
struct cpu_tiles_job {
    const float *q; /* all heads of a row, scaled and rotated */
    size_t q_stride;
    const uint32_t *rows; /* where in q the rows that were added are, in that order */
    float *out;           /* all heads of each row that was added, in that order */
    size_t out_stride;
    uint32_t layer;
};

/*
 * cpu_tiles_open: tiles of up to rows_max rows, for a team of `threads`.
 * `attention` must outlive them. TD_LIMIT or TD_NO_MEMORY with error filled.
 */
td_status_t cpu_tiles_open(const struct cpu_attention *attention, uint32_t rows_max,
                           uint32_t max_context, uint32_t threads, struct cpu_tiles **tiles_out,
                           struct td_error *error) TD_MUST_USE;
void cpu_tiles_close(struct cpu_tiles *tiles);

/* Begins anew; then each row is added, those of a sequence in order; then all is cut into units. */
void cpu_tiles_clear(struct cpu_tiles *tiles);
void cpu_tiles_add(struct cpu_tiles *tiles, const struct engine_batch_sequence *sequence,
                   uint32_t position);
void cpu_tiles_cut(struct cpu_tiles *tiles);

/* How many units there are; they may be done any number of times, in any order, on any threads. */
uint32_t cpu_tiles_units(const struct cpu_tiles *tiles);

/* What a unit is a part of. */
struct cpu_tiles_unit {
    const struct cpu_tile *tile;
    uint32_t kv_head;
};
struct cpu_tiles_unit cpu_tiles_unit(const struct cpu_tiles *tiles, uint32_t unit);

/* Whether each tile and KV head is one unit, which may change its queries before it is done. */
bool cpu_tiles_are_whole(const struct cpu_tiles *tiles);

/*
 * Whether a unit may change the queries, and write K and V, of its tile and KV head before it is done: nobody else
 * reads them in this layer.
 */
bool cpu_tiles_are_alone(const struct cpu_tiles *tiles);

/*
 * Does a unit, with scratch memory of cpu_attention_scratch_floats. Says whether its tile and KV head are complete,
 * which one of their units is told.
 */
bool cpu_tiles_attend(struct cpu_tiles *tiles, const struct cpu_tiles_job *job, uint32_t unit,
                      float *scratch);

#endif
