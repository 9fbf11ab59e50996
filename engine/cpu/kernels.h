/*
 * kernels.h: the arithmetic of the CPU backend, as one table of functions per instruction set.
 *
 * Owns the contract of numerics class "cpu-f32-2": three implementations (plain C, AVX2 with FMA,
 * AVX-512) give the same bits, because the order of every sum is fixed here and nowhere depends on
 * batch size, tiles or threads.
 *
 *   product      of a row of weights and x, block by block of 32 columns (pack.h). In a block, from +0, one chain
 *                s = fma(quant - zero, x, s), columns rising. Then total = fma(scale, s, total), and with a
 *                minimum total = fma(minimum, sum of the block's x, total); a block with a scale for each
 *                half has a chain and such a step for each half. Floats without scales: total += s. The
 *                total starts at +0; blocks rise.
 *   block sum    of 32 values of x: lane i = x[i] + x[i + 16], then the tree.
 *   the tree     lane i += lane i + 8, then i + 4, i + 2, i + 1.
 *   attention    dots: 16 lanes start at +0; element k is fused-multiply-added to lane k mod 16, k rising. Both
 *                sides are padded with zeros to a multiple of 16. Then the tree.
 *   other sums   (of squares, of exponentials) the same lanes and tree.
 *   V sums       one chain of fused multiply-adds per value, positions rising.
 *   exponential  cpu_exp of math.h, operation by operation.
 *
 * Class "cpu-int8-2" differs in products with weights that are no floats, but for those that make K and V: x is
 * rounded to whole numbers first.
 *
 *   quants       of a block of x: scale = largest magnitude / 127; q = x * (127 / largest), to the nearest,
 *                ties to even. A block with a value that is no finite number has scale NaN, one below
 *                CPU_QUANTIZE_MIN has scale 0; both have quants 0. Its block sum is scale * (sum of q).
 *   product      s = sum of (quant - zero) * q in whole numbers, exact in any order; then as above with
 *                scale of x * s for the chain.
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

#include "engine/cpu/pack.h"
#include "lib/base/status.h"

#define CPU_LANES     16
#define CPU_ROW_GROUP 4 /* dots works on this many rows at once */

/*
 * In front of a loop with a small constant count whose arrays must become registers. Not under sanitizers, which
 * put a check at every access: unrolled, a file of kernels takes them minutes to compile.
 */
#if defined(TANDEM_SANITIZED) && defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(disable)")
#elif defined(TANDEM_SANITIZED)
#define CPU_UNROLL
#elif defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif

static inline uint32_t cpu_pad(uint32_t count)
{
    return (count + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

/*
 * One input of products: `columns` floats, zeros behind them up to a whole number of blocks; behind those the
 * sums of the blocks. Then, with whole numbers, the scaled sum of each block's quants, its scale, the sum of
 * each half block's quants (int32), and the quants (int8). Where each of them starts, in floats, and what all of
 * it takes:
 */
static inline size_t cpu_input_sums(uint32_t columns)
{
    return (size_t)cpu_pack_blocks(columns) * CPU_PACK_COLUMNS;
}

static inline size_t cpu_input_quant_sums(uint32_t columns)
{
    return cpu_input_sums(columns) + cpu_pad(cpu_pack_blocks(columns));
}

static inline size_t cpu_input_scales(uint32_t columns)
{
    return cpu_input_quant_sums(columns) + cpu_pad(cpu_pack_blocks(columns));
}

static inline size_t cpu_input_counts(uint32_t columns)
{
    return cpu_input_scales(columns) + cpu_pad(cpu_pack_blocks(columns));
}

static inline size_t cpu_input_quants(uint32_t columns)
{
    return cpu_input_counts(columns) + cpu_pad(2 * cpu_pack_blocks(columns));
}

static inline size_t cpu_input_floats(uint32_t columns)
{
    return cpu_input_quants(columns) +
           (size_t)cpu_pack_blocks(columns) * CPU_PACK_COLUMNS / sizeof(float);
}

/* A block whose largest magnitude is less than this is taken for zeros. */
#define CPU_QUANTIZE_MIN 0x1p-100f

/* The largest quant of an input. */
#define CPU_QUANTIZE_MAX 127.0f

/*
 * y[token][row] = sum over k of W[row][k] * x[token][k], for the rows of some groups. y[token] starts with
 * the first row of the first group; rows behind the matrix's last are not written.
 */
struct cpu_product {
    const struct cpu_matrix *matrix;
    uint32_t first; /* group */
    uint32_t groups;
    const float *x;  /* inputs */
    size_t x_stride; /* strides in floats */
    uint32_t tokens;
    float *y;
    size_t y_stride;
    bool add;      /* y[token][row] += instead */
    bool is_whole; /* with the quants of x, unless the weights are floats */
};

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

struct cpu_kernels {
    const char *name;
    void (*multiply)(const struct cpu_product *job);
    /* What stands behind the floats of an input: their sums; or scales, quants and the sums of those. */
    void (*block_sums)(float *input, uint32_t columns);
    void (*quantize)(float *input, uint32_t columns);
    void (*dots)(const struct cpu_dots *job);
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
    /* Zeros behind them up to cpu_pad(count). */
    void (*from_half)(const uint16_t *source, uint32_t count, float *out);
};

extern const struct cpu_kernels cpu_kernels_reference;
extern const struct cpu_kernels cpu_kernels_avx2;   /* only where the processor is an x86-64 */
extern const struct cpu_kernels cpu_kernels_avx512; /* the same */
extern const struct cpu_kernels cpu_kernels_vnni;   /* the same */

#define CPU_KERNELS_MAX 4

/* All kernels that this processor can run, the fastest last. */
uint32_t cpu_kernels_available(const struct cpu_kernels *kernels_out[static CPU_KERNELS_MAX]);

/*
 * cpu_kernels_choose: the kernels of a name ("reference", "avx2", "avx512", "vnni"), or the fastest for NULL.
 * TD_UNSUPPORTED if this processor cannot run them, TD_INVALID for any other name.
 */
td_status_t cpu_kernels_choose(const char *name, const struct cpu_kernels **kernels_out,
                               struct td_error *error) TD_MUST_USE;

/* Those that backends of this process use: of the variable TANDEM_CPU, which errors name, or the fastest. */
td_status_t cpu_kernels_in_use(const struct cpu_kernels **kernels_out,
                               struct td_error *error) TD_MUST_USE;

/* Their name; "none" if there are none. */
const char *cpu_kernels_name(void);

#endif
