/*
 * attention.h: kernels of attention; the order of their sums is in engine/cpu/kernels.h.
 *
 * K and V are read as they lie in the pool (engine/cpu/kv.h): in groups of 16 positions, which are given by
 * their addresses, for they may lie anywhere. Queries are those of some rows, so each sees at least as many
 * positions as the one before it. What lies behind the last position that a query sees is no part of its sums,
 * whatever it is.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ATTENTION_H
#define TANDEM_ENGINE_CPU_KERNELS_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels/common.h"
#include "engine/cpu/kv.h"

/*
 * Addresses behind those of a job's groups, of what will be read next: memory is slow to begin at a new place,
 * so kernels fetch each group while they work on the one this many before it.
 */
#define CPU_GROUPS_AHEAD 4

/* Positions of a job at most: so many products of 8 and 16 bits fit a sum of 32, and so many elements of a head. */
#define CPU_SPLIT 256

/* y[query][p] = sum over d of keys[p][d] * x[query][d]. */
struct cpu_scores {
    const uint8_t *const *groups; /* K; and CPU_GROUPS_AHEAD more */
    uint32_t head_dim;
    uint32_t queries;
    const uint32_t *counts; /* [queries]: positions that each sees; at least 1, never falling */
    const float *x;
    size_t x_stride; /* strides in floats */
    float *y;        /* written up to whole groups */
    size_t y_stride;
};

/* sums[query][d] = sum over p of weights[query][p] * values[p][d]. */
struct cpu_weigh {
    const uint8_t *const *groups; /* V; and CPU_GROUPS_AHEAD more */
    uint32_t head_dim;
    uint32_t queries;
    const uint32_t *counts; /* as above */
    const float *weights;
    size_t weights_stride;
    float *sums; /* there is memory up to a multiple of CPU_LANES */
    size_t sums_stride;
};

/*
 * What a query knows of some positions, as floats: the maximum of its scores, the sum of their exponentials,
 * and from CPU_SUMS_VALUES on the sums of values, with memory up to a multiple of CPU_LANES.
 */
#define CPU_SUMS_MAX    0
#define CPU_SUMS_WEIGHT 1
#define CPU_SUMS_VALUES CPU_LANES

struct cpu_attention_kernels {
    void (*scores[CPU_KV_DTYPES])(const struct cpu_scores *job);
    void (*weigh[CPU_KV_DTYPES])(const struct cpu_weigh *job);
    /*
     * scores[i] = 2^(scores[i] - max); count is at least 1. A maximum of zero may have either sign:
     * it is only ever subtracted, and both zeros give the same exponential.
     */
    void (*softmax)(float *scores, uint32_t count, float *max_out, float *sum_out);
    /* Adds the sums of later positions to those of earlier ones. */
    void (*merge)(float *total, const float *later, uint32_t head_dim);
    void (*to_half)(const float *source, uint32_t count, uint16_t *out);
    /* As CPU_KV_INT8 has the head of a token; returns its scale. */
    float (*to_int8)(const float *source, uint32_t count, int8_t *out);
};

extern const struct cpu_attention_kernels cpu_attention_reference;
extern const struct cpu_attention_kernels
    cpu_attention_avx2; /* only where the processor is an x86-64 */
extern const struct cpu_attention_kernels cpu_attention_avx512; /* the same */
extern const struct cpu_attention_kernels cpu_attention_vnni;   /* the same */

#endif
