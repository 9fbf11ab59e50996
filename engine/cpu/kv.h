/*
 * kv.h: how keys and values lie in the blocks of the pool.
 *
 * A block is [kv_head][layer][k|v], and each of these pages is cut into groups of 16 tokens:
 *
 *   K, a group:  [head_dim][16 tokens]     16 scores are one vector: no sum across lanes, no padding
 *   V, a group:  [16 tokens][head_dim]
 *
 * So scores and sums are made straight from what lies in the pool, in the type that lies there.
 */
#ifndef TANDEM_ENGINE_CPU_KV_H
#define TANDEM_ENGINE_CPU_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/backend.h"

#define CPU_KV_GROUP 16 /* tokens; a block is a whole number of groups */

enum cpu_kv_dtype {
    CPU_KV_F16 = 0,
    CPU_KV_F32 = 1, /* twice the memory and traffic; for comparing with references */
};

#define CPU_KV_DTYPES 2

struct cpu_attention_kernels;

/* A pool, and what its blocks hold. */
struct cpu_kv {
    const struct cpu_attention_kernels *kernels;
    struct engine_kv pool;
    enum cpu_kv_dtype dtype;
    uint32_t layers;
    uint32_t kv_heads;
    uint32_t head_dim;
};

/* The token of a sequence at a position, as one KV head of one layer has it. */
struct cpu_kv_place {
    const struct engine_batch_sequence *sequence;
    uint32_t position;
    uint32_t layer;
    uint32_t kv_head;
};

/* The name of a type, as it is in content ids: "f16". */
const char *cpu_kv_dtype_name(enum cpu_kv_dtype dtype);

/* Bytes of K, or of V, of a group. No overflow for heads of at most MODEL_HEAD_DIM_MAX. */
size_t cpu_kv_group_bytes(enum cpu_kv_dtype dtype, uint32_t head_dim);

/* Where K (or V, with is_v) of the group that holds a place begins. */
uint8_t *cpu_kv_group(const struct cpu_kv *kv, const struct cpu_kv_place *place, bool is_v);

/* Writes head_dim floats each as K and V of a place. */
void cpu_kv_store(const struct cpu_kv *kv, const struct cpu_kv_place *place, const float *k,
                  const float *v);

/* Zeroes what a block holds of the tokens from `tokens` on: engine_model_info.clear_tail. */
void cpu_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens);

#endif
