/*
 * attention.h: causal attention of a few rows of one sequence over its KV blocks.
 *
 * Owns the order of its sums: positions are cut into splits of CPU_SPLIT by absolute position; each
 * split has its own maximum, exponentials, sum of weights and sums of values, from zero; splits are
 * merged in rising order. So a row's result depends on its own position and KV only, not on which rows are
 * computed along with it, nor on the size of blocks.
 */
#ifndef TANDEM_ENGINE_CPU_ATTENTION_H
#define TANDEM_ENGINE_CPU_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cpu/kernels.h"

#define CPU_SPLIT 256 /* positions; a whole number of blocks */

/* What is the same for all units: the shape of heads and of the pool. */
struct cpu_attention {
    const struct cpu_kernels *kernels;
    struct engine_kv kv;
    enum model_type kv_type;
    uint32_t layers;
    uint32_t kv_heads;
    uint32_t group; /* query heads that share a KV head */
    uint32_t head_dim;
    uint32_t queries_max; /* of one unit: tile rows * group at most */
};

/* Rows of one sequence at consecutive positions, as many as share a unit. */
struct cpu_tile {
    const struct engine_batch_sequence *sequence;
    uint32_t position; /* of the first row */
    uint32_t rows;
    uint32_t first; /* index of the first row where the caller keeps its rows */
};

/* One unit: a tile and a KV head in a layer. Strides in floats. */
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
                        const struct engine_kv *kv, const struct engine_model_info *info);

/* How many rows a tile may have. */
uint32_t cpu_attention_tile_rows(const struct cpu_attention *attention);

/* Floats of scratch memory that one unit needs. */
size_t cpu_attention_scratch_floats(const struct cpu_attention *attention);

/* Where the K (or V, with is_v) of a position is: head_dim elements of the KV type. */
uint8_t *cpu_kv_entry(const struct cpu_attention *attention,
                      const struct engine_batch_sequence *sequence, uint32_t position,
                      uint32_t layer, uint32_t kv_head, bool is_v);

/* Writes head_dim floats as K or V of a position. */
void cpu_kv_store(const struct cpu_attention *attention, uint8_t *entry, const float *values);

void cpu_attend(const struct cpu_attention *attention, const struct cpu_attention_unit *unit,
                float *scratch);

#endif
