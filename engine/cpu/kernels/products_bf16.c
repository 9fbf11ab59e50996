/*
 * products_bf16.c: products of weights of BF16 and x rounded to such, for processors that have AVX-512 BF16 and VNNI:
 * two columns in one operation, half as many as with floats. All other products are those of products_vnni.c. The bits
 * are the same as without the instruction: kernels.h has the order of its sums.
 */
#include "engine/cpu/kernels/input_avx512.h"
#include "engine/cpu/kernels/tile_avx512.h"

#define PAIRS (CPU_PACK_COLUMNS / 2)

/* Two values of x: 32 bits for each of 16 lanes. */
INLINE __m512bh load_pair(const uint16_t *pair)
{
    int32_t bits;

    memcpy(&bits, pair, sizeof bits);
    return (__m512bh)_mm512_set1_epi32(bits);
}

/* sums += the products of a block. x stands at the pairs of every third token. */
INLINE void add_pairs(const uint32_t tokens, const uint8_t *weights,
                      const uint16_t *const x[static TILE_TOKENS / 3], size_t stride,
                      __m512 sums[static TILE_TOKENS])
{
    for (size_t i = 0; i < PAIRS; i++) {
        __m512bh pairs = (__m512bh)_mm512_loadu_si512((const void *)(weights + 64 * i));
        size_t distance = stride;

        FORGET(distance);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++)
            sums[t] =
                _mm512_dpbf16_ps(sums[t], pairs, load_pair(x[t / 3] + t % 3 * distance + 2 * i));
    }
}

INLINE void any_tile(const enum cpu_operand operand, const enum cpu_quants quants,
                     const enum cpu_scales scales, const int zero, const uint32_t tokens,
                     const struct cpu_product *job, const struct place *place)
{
    const struct tile tile = tile_at(true, job, place);
    const size_t stride = tile.x_stride * sizeof *tile.x / sizeof(uint16_t);
    uint32_t blocks = cpu_pack_blocks(job->matrix->columns);
    __m512 totals[TILE_TOKENS];

    (void)operand;
    (void)zero;
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        totals[t] = _mm512_setzero_ps();
    for (uint32_t block = 0; block < blocks; block++) {
        const uint8_t *weights = tile.weights + cpu_pack_block(quants, scales, block);
        const uint16_t *first = (const uint16_t *)(const void *)tile.x + block * CPU_PACK_COLUMNS;
        const uint16_t *x[TILE_TOKENS / 3];
        __m512 sums[TILE_TOKENS];

        ask_ahead(weights, cpu_pack_block_bytes(quants, scales));
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            if (t % 3 == 0)
                x[t / 3] = first + t * stride;
            sums[t] = _mm512_setzero_ps();
        }
        add_pairs(tokens, weights, x, stride, sums);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++)
            totals[t] = _mm512_add_ps(totals[t], sums[t]);
    }
    store_tile(tokens, job, place, totals);
}

#include "engine/cpu/kernels/products_cut.h"

static void multiply(const struct cpu_product *job)
{
    if (cpu_product_operand(job) == CPU_OPERAND_BFLOATS)
        multiply_type(CPU_OPERAND_BFLOATS, CPU_QUANTS_BF16, CPU_SCALES_NONE, 0, job);
    else
        cpu_product_vnni.multiply(job);
}

const struct cpu_product_kernels cpu_product_bf16 = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
    .quantize_rest = quantize_rest,
    .bfloats = bfloats,
};
