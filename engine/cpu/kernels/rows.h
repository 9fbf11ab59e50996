/*
 * rows.h: kernels that go over a row of activations once; the order of their sums is in engine/cpu/kernels.h.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ROWS_H
#define TANDEM_ENGINE_CPU_KERNELS_ROWS_H

#include <stdint.h>

#include "engine/cpu/kernels/common.h"

struct cpu_row_kernels {
    float (*sum_squares)(const float *x, uint32_t count);
    /* gate = silu(gate) * up */
    void (*silu_multiply)(float *gate, const float *up, uint32_t count);
};

extern const struct cpu_row_kernels cpu_row_reference;
extern const struct cpu_row_kernels cpu_row_avx2;   /* only where the processor is an x86-64 */
extern const struct cpu_row_kernels cpu_row_avx512; /* the same */

#endif
