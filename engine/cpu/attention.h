/*
 * attention.h: causal attention of a few rows of one sequence over its KV blocks.
 *
 * Owns the order of its sums: positions are cut into splits of CPU_SPLIT by absolute position; each
 * split has its own maximum, exponentials, sum of weights and sums of values, from zero; splits are
 * merged in rising order. So a row's result depends on its own position and KV only, not on which rows are
 * computed along with it, nor on the size of blocks, nor on who computes which of its splits.
 *
 * Exponentials are powers of two: queries come multiplied by query_scale, which makes them that.
 */
#ifndef TANDEM_ENGINE_CPU_ATTENTION_H
#define TANDEM_ENGINE_CPU_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/kv.h"

/* What is the same for all units: the shape of heads and of the pool. */
struct cpu_attention {
    const struct cpu_attention_kernels *kernels;
    struct cpu_kv kv;
    uint32_t group;       /* query heads that share a KV head */
    uint32_t queries_max; /* of one unit: tile rows * group at most */
    size_t sums;          /* floats of a query's sums: see kernels/attention.h */
    float query_scale;    /* 1 / sqrt(head_dim), and from e to powers of two */
};

/* Rows of one sequence at consecutive positions, as many as share a unit. */
struct cpu_tile {
    const struct engine_batch_sequence *sequence;
    uint32_t position; /* of the first row */
    uint32_t rows;
    uint32_t first; /* index of the first row where the caller keeps its rows */
};

/* A KV head of a layer for a tile. Strides in floats. */
struct cpu_attention_unit {
    const struct cpu_tile *tile;
    const float *q;       /* all heads of a row, scaled and rotated */
    const uint32_t *rows; /* where in q the rows of the tile are */
    size_t q_stride;
    float *out; /* the tile's first row, all heads */
    size_t out_stride;
    uint32_t kv_head;
    uint32_t layer;
};

void cpu_attention_init(struct cpu_attention *attention, const struct cpu_kernels *kernels,
                        const struct engine_kv *kv, enum cpu_kv_dtype dtype,
                        const struct engine_model_info *info);

/* How many rows a tile may have. */
uint32_t cpu_attention_tile_rows(const struct cpu_attention *attention);

/* Floats of scratch memory that one unit needs. */
size_t cpu_attention_scratch_floats(const struct cpu_attention *attention);

/* How many splits the rows of a tile see. */
uint32_t cpu_attention_splits(const struct cpu_tile *tile);

/* All of a unit. */
void cpu_attend(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                float *scratch);

/*
 * The same in parts, for several threads. cpu_attend_splits computes the splits begin to end - 1 into
 * parts[split][row of the tile][query head of the group], sums each; when all splits are done,
 * cpu_attend_finish merges them.
 */
void cpu_attend_splits(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                       uint32_t begin, uint32_t end, float *parts, float *scratch);
void cpu_attend_finish(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                       float *parts);

#endif
