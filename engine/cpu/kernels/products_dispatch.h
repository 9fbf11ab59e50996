/*
 * products_dispatch.h: the table of kernels: the end of products_avx2.c and products_avx512.c, which have to define
 * before:
 *
 *   TILE_TOKENS               tokens of the largest tile: 4 or 12
 *   PRODUCTS                  the name of the table
 *   multiply_tile             one group times some tokens: (is_rounded, quants, scales, zero, tokens), all constant,
 *                             then (job, place); with floats, or those rounded to BF16
 *   multiply_whole_tile       the same without is_rounded, with the quants of x
 *   block_sums, quantize, quantize_rest, bfloats
 */
#include "engine/cpu/kernels/products.h"

INLINE void any_tile(const enum cpu_operand operand, const enum cpu_quants quants,
                     const enum cpu_scales scales, const int zero, const uint32_t tokens,
                     const struct cpu_product *job, const struct place *place)
{
    if (operand == CPU_OPERAND_QUANTS)
        multiply_whole_tile(quants, scales, zero, tokens, job, place);
    else
        multiply_tile(operand == CPU_OPERAND_BFLOATS, quants, scales, zero, tokens, job, place);
}

#include "engine/cpu/kernels/products_cut.h"

#define X(type, name, quants, scales, zero)                                                     \
    static void multiply_##name(const struct cpu_product *job)                                  \
    {                                                                                           \
        const enum cpu_operand rounded =                                                        \
            cpu_rounded_operand(CPU_QUANTS_##quants, CPU_SCALES_##scales);                      \
                                                                                                \
        if (job->is_whole && rounded != CPU_OPERAND_FLOATS)                                     \
            multiply_type(rounded, CPU_QUANTS_##quants, CPU_SCALES_##scales, (zero), job);      \
        else                                                                                    \
            multiply_type(CPU_OPERAND_FLOATS, CPU_QUANTS_##quants, CPU_SCALES_##scales, (zero), \
                          job);                                                                 \
    }
CPU_PACK_TYPES(X)
#undef X

static void multiply(const struct cpu_product *job)
{
    static void (*const by_type[CPU_TYPE_COUNT])(const struct cpu_product *job) = {
#define X(type, name, quants, scales, zero) [MODEL_TYPE_##type] = multiply_##name,
        CPU_PACK_TYPES(X)
#undef X
    };
    struct cpu_product rest = *job;

    by_type[job->matrix->type](job);
    if (!cpu_product_has_rest(job))
        return;
    rest.x += cpu_input_rest(job->matrix->columns);
    rest.add = true;
    by_type[job->matrix->type](&rest);
}

const struct cpu_product_kernels PRODUCTS = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
    .quantize_rest = quantize_rest,
    .bfloats = bfloats,
};
