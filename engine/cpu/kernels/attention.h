/*
 * attention.h: kernels of attention; the order of their sums is in engine/cpu/kernels.h.
 *
 * "Padded" below means: readable, and zero, up to a multiple of CPU_LANES.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ATTENTION_H
#define TANDEM_ENGINE_CPU_KERNELS_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels/common.h"

#define CPU_ROW_GROUP 4 /* dots works on this many rows at once */

/*
 * y[query][p] = sum over d of keys[p][d] * x[query][d]. There is memory for a multiple of
 * CPU_ROW_GROUP keys; what is in those behind `count` does not matter.
 */
struct cpu_dots {
    const float *keys;  /* padded rows */
    size_t keys_stride; /* strides in floats */
    uint32_t count;
    uint32_t columns;
    const float *x; /* padded rows */
    size_t x_stride;
    uint32_t queries;
    float *y;
    size_t y_stride;
};

/* sums[query][d] += weights[query][p] * values[p][d] for p = 0, 1, ... count - 1. */
struct cpu_weigh {
    const float *weights;
    size_t weights_stride;
    uint32_t queries;
    const float *values;
    size_t values_stride; /* a multiple of CPU_LANES, up to which rows can be read */
    uint32_t count;
    float *sums;
    size_t sums_stride; /* the same */
    uint32_t columns;
};

struct cpu_attention_kernels {
    void (*dots)(const struct cpu_dots *job);
    void (*weigh)(const struct cpu_weigh *job);
    /*
     * scores[i] = exp(scores[i] - max); count is at least 1. A maximum of zero may have either sign:
     * it is only ever subtracted, and both zeros give the same exponential.
     */
    void (*softmax)(float *scores, uint32_t count, float *max_out, float *sum_out);
    void (*to_half)(const float *source, uint32_t count, uint16_t *out);
    /* Zeros behind them up to cpu_pad(count). */
    void (*from_half)(const uint16_t *source, uint32_t count, float *out);
};

extern const struct cpu_attention_kernels cpu_attention_reference;
extern const struct cpu_attention_kernels
    cpu_attention_avx2; /* only where the processor is an x86-64 */
extern const struct cpu_attention_kernels cpu_attention_avx512; /* the same */

#endif
