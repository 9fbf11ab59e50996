/*
 * kernels.h: the arithmetic of the CPU backend, as one table of functions per instruction set.
 *
 * Owns the contract of numerics class "cpu-f32-1": three implementations (plain C, AVX2 with FMA,
 * AVX-512) give the same bits, because the order of every sum is fixed here and nowhere depends on
 * batch size, tiles or threads.
 *
 *   dot product  16 lanes start at +0; element k is fused-multiply-added to lane k mod 16, k rising. Both
 *                sides are padded with zeros to a multiple of 16. Then the tree: lane i += lane i + 8,
 *                then i + 4, i + 2, i + 1.
 *   other sums   (of squares, of exponentials) the same lanes and tree.
 *   V sums       one chain of fused multiply-adds per value, positions rising.
 *   exponential  cpu_exp of math.h, operation by operation.
 *
 * Kernels assume round-to-nearest and no flushing of subnormals (the default environment). They know nothing of
 * threads, layers or the pool. "Padded" below means: readable, and zero, up to a multiple of
 * CPU_LANES. Pointers need no alignment beyond that of their element.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_H
#define TANDEM_ENGINE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "model/quant.h"

#define CPU_LANES      16
#define CPU_ROW_GROUP  4 /* gemm works on this many panel rows at once */
#define CPU_TYPE_COUNT (MODEL_TYPE_BF16 + 1)

/* In front of a loop with a small constant count whose arrays must become registers. */
#ifdef __clang__
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 8")
#endif

static inline uint32_t cpu_pad(uint32_t count)
{
    return (count + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

/* y[row] = sum over k of W[row][k] * x[k], from weights as they lie in the file. */
struct cpu_gemv {
    const uint8_t *weights;
    size_t row_bytes;
    uint32_t rows;
    uint32_t columns;
    const float *x; /* padded */
    float *y;
    bool add; /* y[row] += instead */
};

/*
 * y[token][row] = sum over k of panel[row][k] * x[token][k]. The panel has room for a multiple of
 * CPU_ROW_GROUP rows; what is in the rows behind `rows` does not matter.
 */
struct cpu_gemm {
    const float *panel;  /* padded rows */
    size_t panel_stride; /* strides in floats */
    uint32_t rows;
    uint32_t columns;
    const float *x; /* padded rows */
    size_t x_stride;
    uint32_t tokens;
    float *y;
    size_t y_stride;
    bool add; /* y[token][row] += instead */
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

/* One row of `count` values as floats, zeros behind them up to cpu_pad(count). */
typedef void (*cpu_unpack_fn)(const uint8_t *source, uint32_t count, float *out);

struct cpu_kernels {
    const char *name;
    cpu_unpack_fn unpack[CPU_TYPE_COUNT];                     /* by enum model_type */
    void (*gemv[CPU_TYPE_COUNT])(const struct cpu_gemv *job); /* by enum model_type */
    void (*gemm)(const struct cpu_gemm *job);
    void (*weigh)(const struct cpu_weigh *job);
    float (*sum_squares)(const float *x, uint32_t count);
    /*
     * scores[i] = exp(scores[i] - max); count is at least 1. A maximum of zero may have either sign:
     * it is only ever subtracted, and both zeros give the same exponential.
     */
    void (*softmax)(float *scores, uint32_t count, float *max_out, float *sum_out);
    void (*silu_multiply)(float *gate, const float *up,
                          uint32_t count); /* gate = silu(gate) * up */
    void (*to_half)(const float *source, uint32_t count, uint16_t *out);
};

extern const struct cpu_kernels cpu_kernels_reference;
extern const struct cpu_kernels cpu_kernels_avx2;   /* only where the processor is an x86-64 */
extern const struct cpu_kernels cpu_kernels_avx512; /* the same */

/* All kernels that this processor can run, the fastest last. */
uint32_t cpu_kernels_available(const struct cpu_kernels *kernels_out[static 3]);

/*
 * cpu_kernels_choose: the kernels of a name ("reference", "avx2", "avx512"), or the fastest for NULL.
 * TD_UNSUPPORTED if this processor cannot run them, TD_INVALID for any other name.
 */
td_status_t cpu_kernels_choose(const char *name, const struct cpu_kernels **kernels_out,
                               struct td_error *error) TD_MUST_USE;

#endif
