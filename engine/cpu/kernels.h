/*
 * kernels.h: the arithmetic of the CPU backend, as one table of functions per instruction set.
 *
 * Owns the contract of numerics class "cpu-f32-3": three implementations (plain C, AVX2 with FMA,
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
 *   scores       one chain of fused multiply-adds for each position, from +0, elements rising.
 *   other sums   (of squares, of exponentials) the same lanes and tree.
 *   V sums       one chain of fused multiply-adds per value, from +0, positions rising.
 *   merging      of sums a and of later ones b, with maximum m: fma(b, 2^(max b - m), a * 2^(max a - m)).
 *   exponential  cpu_exp, and of attention cpu_exp2, of math.h, operation by operation.
 *
 * Class "cpu-int8-4" differs in products with weights that are quants or BF16: x is rounded first, for quants to
 * whole numbers (with E4M3, whose quants are none, not at all). Those that make K and V go on with the rests of quants, and take BF16 with floats.
 *
 *   quants       of a block of x: scale = largest magnitude / 127; q = x * (127 / largest), to the nearest,
 *                ties to even. A block with a value that is no finite number has scale NaN, one below
 *                CPU_QUANTIZE_MIN has scale 0; both have quants 0. Its block sum is scale * (sum of q).
 *   product      s = sum of (quant - zero) * q in whole numbers, exact in any order; then as above with
 *                scale of x * s for the chain.
 *   rests        a product may go on with what the quants leave over, fma(-scale, q, x), rounded in the same way:
 *                y += its product.
 *   BF16         x is rounded to BF16, to the nearest, ties to even; then a magnitude below CPU_BFLOAT_MIN is +0.
 *                In a block, from +0, one chain over pairs of columns, pairs rising: s = fma(weight, x, s) of the
 *                second column, then of the first. total += s. That is vdpbf16ps, but for its flushing of
 *                subnormals: without smaller weights (pack.h) and x there are none, all is 0 or at least 2^-124.
 *
 * KV of type int8 (cpu/kv.h), in both classes: attention multiplies whole numbers, whose sums are exact in any order.
 *
 *   rounding     of some values to a largest number n: scale = largest magnitude / n; number = value * (n / largest),
 *                to the nearest, ties to even. If one is no finite number the scale is NaN, and below
 *                CPU_QUANTIZE_MIN it is 0; numbers are 0 then. n is 127 for a key and for a value of a token, 32767
 *                for a query, and for the weights of what it sees of a split.
 *   scores       s = sum of (number of K) * (number of the query); (s as a float * scale of the query) * scale of K.
 *   V sums       first each weight is multiplied with the scale of its token's value, then these are rounded;
 *                s = sum of (number of V) * (number of the weight); s as a float * scale of the weights.
 *
 * Kernels assume round-to-nearest and no flushing of subnormals (the default environment). They know nothing of
 * threads, layers or the pool. Pointers need no alignment beyond that of their element.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_H
#define TANDEM_ENGINE_CPU_KERNELS_H

#include "engine/cpu/kernels/attention.h"
#include "engine/cpu/kernels/products.h"
#include "engine/cpu/kernels/rows.h"
#include "lib/base/status.h"

struct cpu_kernels {
    const char *name;
    const struct cpu_product_kernels *products;
    const struct cpu_attention_kernels *attention;
    const struct cpu_row_kernels *rows;
};

#define CPU_KERNELS_MAX 5

/* All kernels that this processor can run, the fastest last. */
uint32_t cpu_kernels_available(const struct cpu_kernels *kernels_out[static CPU_KERNELS_MAX]);

/*
 * cpu_kernels_choose: the kernels of a name ("reference", "avx2", "avx512", "vnni", "bf16"), or the fastest for NULL.
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
