/*
 * rows.h: kernels that go over a row of activations once; the order of their sums is in engine/cpu/kernels.h.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ROWS_H
#define TANDEM_ENGINE_CPU_KERNELS_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/cpu/kernels/common.h"

/* The angles of a position, and in which order heads that are to be turned by them have their pairs. */
struct cpu_rotation {
    const float *cosines; /* [pairs] */
    const float *sines;
    uint32_t pairs;
    bool is_interleaved; /* pair i is 2i and 2i + 1; else i and i + pairs */
};

struct cpu_row_kernels {
    float (*sum_squares)(const float *x, uint32_t count);
    /* out[i] = (x[i] * scale) * weight[i]; x and out may be the same */
    void (*scale)(const float *x, float scale, const float *weight, uint32_t count, float *out);
    /* x += y */
    void (*add)(float *x, const float *y, uint32_t count);
    /*
     * With a and b of pair i: out[i] = scale * (a * cosine - b * sine), out[i + pairs] = scale * (a * sine + b *
     * cosine), every operation rounded. head and out are different.
     */
    void (*rotate)(const struct cpu_rotation *rotation, const float *head, float scale, float *out);
    /* gate = silu(gate) * up */
    void (*silu_multiply)(float *gate, const float *up, uint32_t count);
};

extern const struct cpu_row_kernels cpu_row_reference;
extern const struct cpu_row_kernels cpu_row_avx2;   /* only where the processor is an x86-64 */
extern const struct cpu_row_kernels cpu_row_avx512; /* the same */

#endif
