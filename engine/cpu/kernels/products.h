/*
 * products.h: kernels for products of packed weights and activations; the order of their sums is in
 * engine/cpu/kernels.h.
 *
 * They know nothing of threads, layers or the pool. Pointers need no alignment beyond that of their element.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_PRODUCTS_H
#define TANDEM_ENGINE_CPU_KERNELS_PRODUCTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cpu/kernels/common.h"
#include "engine/cpu/pack.h"

/*
 * One input of products: `columns` floats, zeros behind them up to a whole number of blocks; behind those the
 * sums of the blocks. Then, with whole numbers, the scaled sum of each block's quants, its scale, two counts (int32)
 * of each block, which are the sums, taken from 0, of the quants of its first half and of all of it, and the quants
 * (int8). Then the same four of what the quants leave over: each of them cpu_input_rest further. Then, for weights
 * of BF16, the columns rounded to such, in the form that `multiply` of the set that rounded them reads: floats, or
 * pairs of 16 bits in half of that room. Where each of them starts, in floats, and what all of it takes:
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

static inline size_t cpu_input_rest(uint32_t columns)
{
    return cpu_input_quants(columns) +
           (size_t)cpu_pack_blocks(columns) * CPU_PACK_COLUMNS / sizeof(float) -
           cpu_input_quant_sums(columns);
}

static inline size_t cpu_input_bfloats(uint32_t columns)
{
    return cpu_input_quant_sums(columns) + 2 * cpu_input_rest(columns);
}

static inline size_t cpu_input_floats(uint32_t columns)
{
    return cpu_input_bfloats(columns) + (size_t)cpu_pack_blocks(columns) * CPU_PACK_COLUMNS;
}

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
    bool is_whole; /* with what cpu_rounded_operand says, not with floats */
    bool
        has_rest; /* and then y += the product with the quants of what those leave over: about 15 bits */
};

/* What stands for x in a product: x itself, its quants, or x rounded to BF16. */
enum cpu_operand {
    CPU_OPERAND_FLOATS,
    CPU_OPERAND_QUANTS,
    CPU_OPERAND_BFLOATS,
};

/* With weights of this form, in products with is_whole. */
static inline enum cpu_operand cpu_rounded_operand(enum cpu_quants quants, enum cpu_scales scales)
{
    if (scales != CPU_SCALES_NONE && quants != CPU_QUANTS_E4M3)
        return CPU_OPERAND_QUANTS;
    return quants == CPU_QUANTS_BF16 ? CPU_OPERAND_BFLOATS : CPU_OPERAND_FLOATS;
}

static inline enum cpu_operand cpu_product_operand(const struct cpu_product *job)
{
    const struct cpu_pack_form *form = &cpu_pack_forms[job->matrix->type];

    return job->is_whole ? cpu_rounded_operand(form->quants, form->scales) : CPU_OPERAND_FLOATS;
}

static inline bool cpu_product_has_rest(const struct cpu_product *job)
{
    return job->has_rest && cpu_product_operand(job) == CPU_OPERAND_QUANTS;
}

struct cpu_product_kernels {
    void (*multiply)(const struct cpu_product *job);
    /*
     * What stands behind the floats of an input, for its blocks first to end - 1: their sums; or scales, quants and
     * the sums of those; or, after that, the same of what they leave over; or the columns rounded to BF16. x is the
     * floats of these blocks, there or elsewhere: products that read none of the floats need none there. Several
     * threads may do so for parts of one input.
     */
    void (*block_sums)(const float *x, float *input, uint32_t columns, uint32_t first,
                       uint32_t end);
    void (*quantize)(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end);
    void (*quantize_rest)(const float *x, float *input, uint32_t columns, uint32_t first,
                          uint32_t end);
    void (*bfloats)(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end);
};

extern const struct cpu_product_kernels cpu_product_reference;
extern const struct cpu_product_kernels
    cpu_product_avx2; /* only where the processor is an x86-64 */
extern const struct cpu_product_kernels cpu_product_avx512; /* the same */
extern const struct cpu_product_kernels cpu_product_vnni;   /* the same */
extern const struct cpu_product_kernels cpu_product_bf16;   /* the same */

#endif
