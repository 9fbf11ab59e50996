/*
 * kv.h: how keys and values lie in the blocks of the pool.
 *
 * A block is [kv_head][layer][k|v], and each of these pages is cut into groups of 16 tokens:
 *
 *   K, a group:  [head_dim][16 tokens]     16 scores are one vector: no sum across lanes, no padding
 *   V, a group:  [16 tokens][head_dim]
 *
 * So scores and sums are made straight from what lies in the pool, in the type that lies there.
 *
 * A group of whole numbers (CPU_KV_INT8) has pairs instead, which is what one operation multiplies and adds, and behind
 * its numbers a scale for each token, a float: value = number * scale.
 *
 *   K, a group:  [head_dim / 2][16 tokens][2]       V, a group:  [8][head_dim][2 tokens]
 *
 * A token's scale is the largest magnitude of its head / 127. It is a float and no half: a half saves 3 %, but could
 * overflow, and a group would be no whole number of lines of memory any more. A token that is written is final,
 * for no scale is shared with another.
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
    CPU_KV_F32 = 1,  /* twice the memory and traffic; for comparing with references */
    CPU_KV_INT8 = 2, /* about half */
};

#define CPU_KV_DTYPES 3

/* The choices of --kv-dtype, in the order of the enum. */
#define CPU_KV_DTYPE_CHOICES       \
    {                              \
        "f16", "f32", "int8", NULL \
    }
#define CPU_KV_DTYPE_FALLBACK "f16"

#define CPU_KV_QUANT_MAX 127.0f

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

/* Where the scales of a group of whole numbers begin. */
static inline size_t cpu_kv_scales(uint32_t head_dim)
{
    return (size_t)CPU_KV_GROUP * head_dim;
}

/* Which number of a group a token's element d is, in K or in V. */
static inline size_t cpu_kv_key_index(enum cpu_kv_dtype dtype, uint32_t token, uint32_t d)
{
    if (dtype == CPU_KV_INT8)
        return ((size_t)(d / 2) * CPU_KV_GROUP + token) * 2 + d % 2;
    return (size_t)d * CPU_KV_GROUP + token;
}

static inline size_t cpu_kv_value_index(enum cpu_kv_dtype dtype, uint32_t head_dim, uint32_t token,
                                        uint32_t d)
{
    if (dtype == CPU_KV_INT8)
        return ((size_t)(token / 2) * head_dim + d) * 2 + token % 2;
    return (size_t)token * head_dim + d;
}

/* Where K (or V, with is_v) of the group that holds a place begins. */
uint8_t *cpu_kv_group(const struct cpu_kv *kv, const struct cpu_kv_place *place, bool is_v);

/* Writes head_dim floats each as K and V of a place. */
void cpu_kv_store(const struct cpu_kv *kv, const struct cpu_kv_place *place, const float *k,
                  const float *v);

/* Zeroes what a block holds of the tokens from `tokens` on: engine_model_info.clear_tail. */
void cpu_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens);

#endif
