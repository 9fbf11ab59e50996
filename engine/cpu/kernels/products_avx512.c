/*
 * products_avx512.c: products with 512-bit vectors: a vector is the 16 rows of a group.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist. Compiled
 * a second time, with VNNI, by products_vnni.c.
 */
#include "engine/cpu/kernels/input_avx512.h"
#include "engine/cpu/kernels/tile_avx512.h"
#include "engine/cpu/kernels/unpack_avx512.h"

#ifdef __AVX512VNNI__
#define PRODUCTS cpu_product_vnni
#else
#define PRODUCTS cpu_product_avx512
#endif

/* ------------------------------------------------------------------ products of floats */

/*
 * The sums of the quads first to end - 1 of a block. With x rounded to BF16 the second of two columns comes before
 * the first.
 */
INLINE void add_quads(const bool is_rounded, const enum cpu_quants quants, const int zero,
                      const uint32_t tokens, const struct tile *tile, const uint8_t *weights,
                      uint32_t block, uint32_t first, uint32_t end, __m512 sums[static TILE_TOKENS])
{
    const float *x = tile->x + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) { /* two quads share a vector of nibbles */
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            __m512 columns[4];

            load_columns(quants, zero, weights, i + odd, columns);
            CPU_UNROLL
            for (uint32_t k = 0; k < 4; k++) {
                const uint32_t c = is_rounded ? k ^ 1 : k;

                CPU_UNROLL
                for (uint32_t t = 0; t < tokens; t++)
                    sums[t] = _mm512_fmadd_ps(
                        columns[c], _mm512_set1_ps(x[t * tile->x_stride + 4 * (i + odd) + c]),
                        sums[t]);
            }
        }
    }
}

/* Scales the sums of a block, or of a half with scales of its own, into the totals. */
INLINE void add_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                       const uint32_t tokens, const struct tile *tile, uint32_t block,
                       uint32_t half, const __m512 sums[static TILE_TOKENS],
                       __m512 totals[static TILE_TOKENS])
{
    const uint8_t *head = tile->weights + cpu_pack_head(quants, scales, block);
    const uint8_t *behind =
        tile->weights + cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    __m512 scale = _mm512_setzero_ps();

    if (scales != CPU_SCALES_NONE)
        scale = load_scale(scales, head, behind, half);
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        if (scales == CPU_SCALES_NONE)
            totals[t] = _mm512_add_ps(totals[t], sums[t]);
        else
            totals[t] = _mm512_fmadd_ps(scale, sums[t], totals[t]);
        if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
            totals[t] = add_minimum(scales, head, behind, tile->sums[t * tile->x_stride + block],
                                    totals[t]);
    }
}

INLINE void multiply_tile(const bool is_rounded, const enum cpu_quants quants,
                          const enum cpu_scales scales, const int zero, const uint32_t tokens,
                          const struct cpu_product *job, const struct place *place)
{
    const struct tile tile = tile_at(is_rounded, job, place);
    const uint32_t halves = scales == CPU_SCALES_K16 ? 2 : 1;
    const uint32_t quads = CPU_PACK_QUADS / halves;
    uint32_t blocks = cpu_pack_blocks(job->matrix->columns);
    __m512 totals[TILE_TOKENS];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        totals[t] = _mm512_setzero_ps();
    for (uint32_t block = 0; block < blocks; block++) {
        const uint8_t *weights = tile.weights + cpu_pack_block(quants, scales, block);

        ask_ahead(weights, cpu_pack_block_bytes(quants, scales));
        CPU_UNROLL
        for (uint32_t half = 0; half < halves; half++) {
            __m512 sums[TILE_TOKENS];

            CPU_UNROLL
            for (uint32_t t = 0; t < tokens; t++)
                sums[t] = _mm512_setzero_ps();
            add_quads(is_rounded, quants, zero, tokens, &tile, weights, block, half * quads,
                      (half + 1) * quads, sums);
            add_scaled(quants, scales, tokens, &tile, block, half, sums, totals);
        }
    }
    store_tile(tokens, job, place, totals);
}

/* ------------------------------------------------------------------ products in whole numbers */

#ifdef __AVX512VNNI__
/* sums += the products of unsigned and signed bytes, four neighbours together. */
INLINE void add_whole_quads(const enum cpu_quants quants, const uint32_t tokens,
                            const struct whole_tile *tile, const uint8_t *weights, uint32_t block,
                            uint32_t first, uint32_t end, __m512i sums[static TILE_TOKENS])
{
    const int8_t *x[TILE_TOKENS / 3];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t += 3)
        x[t / 3] = tile->quants + (size_t)block * CPU_PACK_COLUMNS +
                   t * tile->x_stride * sizeof *tile->scales;
    CPU_UNROLL
    for (uint32_t i = first; i < end; i++) {
        __m512i bytes = load_quad(quants, weights, i);
        size_t stride = tile->x_stride * sizeof *tile->scales;

        FORGET(stride);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++)
            sums[t] = _mm512_dpbusd_epi32(
                sums[t], bytes, _mm512_set1_epi32(load_four(x[t / 3] + t % 3 * stride + 4 * i)));
    }
}
#define ZERO_TAKEN(quants) false
#else
/* Products of a quad and the quants of x in pairs of 16 bits, and as many more as fit there. */
INLINE void add_pairs(const enum cpu_quants quants, const uint32_t tokens,
                      const struct whole_tile *tile, const uint8_t *weights, const int8_t *x,
                      uint32_t i, const bool is_first, __m512i pairs[static TILE_TOKENS])
{
    __m512i bytes = load_quad(quants, weights, i);
    __mmask64 negative = 0;

    if (quants == CPU_QUANTS_8) {
        bytes = _mm512_xor_si512(bytes, _mm512_set1_epi8((char)0x80));
        negative = _mm512_movepi8_mask(bytes);
        bytes = _mm512_abs_epi8(bytes);
    }
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        __m512i four = _mm512_set1_epi32(
            load_four(x + t * tile->x_stride * sizeof *tile->scales + (size_t)4 * i));

        if (quants == CPU_QUANTS_8)
            four = _mm512_mask_sub_epi8(four, negative, _mm512_setzero_si512(), four);
        four = _mm512_maddubs_epi16(bytes, four);
        pairs[t] = is_first ? four : _mm512_add_epi16(pairs[t], four);
    }
}

/*
 * The same in two steps, of which the second, from 16 to 32 bits, is needed only when the 16 bits are full. Pairs
 * of 8 bits would not fit at all with a quant of 255: they are taken with their zero subtracted, as
 * magnitudes, and the sign goes to x.
 */
INLINE void add_whole_quads(const enum cpu_quants quants, const uint32_t tokens,
                            const struct whole_tile *tile, const uint8_t *weights, uint32_t block,
                            uint32_t first, uint32_t end, __m512i sums[static TILE_TOKENS])
{
    const int8_t *x = tile->quants + (size_t)block * CPU_PACK_COLUMNS;
    const __m512i ones = _mm512_set1_epi16(1);
    const uint32_t run = quads_in_16_bits(quants);

    for (uint32_t i = first; i < end; i += run) {
        __m512i pairs[TILE_TOKENS];

        add_pairs(quants, tokens, tile, weights, x, i, true, pairs);
        for (uint32_t j = 1; j < run; j++)
            add_pairs(quants, tokens, tile, weights, x, i + j, false, pairs);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++)
            sums[t] = _mm512_add_epi32(sums[t], _mm512_madd_epi16(pairs[t], ones));
    }
}
#define ZERO_TAKEN(quants) ((quants) == CPU_QUANTS_8)
#endif

/* zero times what the counts say: of a block or, with K16, of a half. */
INLINE __m512i first_sum(const enum cpu_scales scales, const int zero, const int32_t *counts,
                         uint32_t half)
{
    const unsigned shift = (unsigned)__builtin_ctz((unsigned)zero | 256);
    __m512i count = _mm512_set1_epi32(counts[scales == CPU_SCALES_K16 && half == 0 ? 0 : 1]);

    if (zero == 0)
        return _mm512_setzero_si512();
    if (scales == CPU_SCALES_K16 && half == 1)
        count = _mm512_sub_epi32(count, _mm512_set1_epi32(counts[0]));
    return _mm512_slli_epi32(count, shift);
}

/* totals += scale * (the x's scale * sums), and the minimums. */
INLINE void add_whole_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                             const uint32_t tokens, const struct whole_tile *tile, uint32_t block,
                             uint32_t half, const __m512i sums[static TILE_TOKENS],
                             __m512 totals[static TILE_TOKENS])
{
    const uint8_t *head = tile->weights + cpu_pack_head(quants, scales, block);
    const uint8_t *behind =
        tile->weights + cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    __m512 scale = load_scale(scales, head, behind, half);

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        size_t place = t * tile->x_stride + block;

        totals[t] = _mm512_fmadd_ps(
            scale, _mm512_mul_ps(_mm512_set1_ps(tile->scales[place]), _mm512_cvtepi32_ps(sums[t])),
            totals[t]);
        if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
            totals[t] = add_minimum(scales, head, behind, tile->sums[place], totals[t]);
    }
}

INLINE void multiply_whole_tile(const enum cpu_quants quants, const enum cpu_scales scales,
                                const int zero, const uint32_t tokens,
                                const struct cpu_product *job, const struct place *place)
{
    const struct whole_tile tile = whole_tile_at(job, place);
    const uint32_t halves = scales == CPU_SCALES_K16 ? 2 : 1;
    const uint32_t quads = CPU_PACK_QUADS / halves;
    uint32_t blocks = cpu_pack_blocks(job->matrix->columns);
    __m512 totals[TILE_TOKENS];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        totals[t] = _mm512_setzero_ps();
    for (uint32_t block = 0; block < blocks; block++) {
        const uint8_t *weights = tile.weights + cpu_pack_block(quants, scales, block);

        ask_ahead(weights, cpu_pack_block_bytes(quants, scales));
        CPU_UNROLL
        for (uint32_t half = 0; half < halves; half++) {
            __m512i sums[TILE_TOKENS];

            CPU_UNROLL
            for (uint32_t t = 0; t < tokens; t++)
                sums[t] = first_sum(scales, ZERO_TAKEN(quants) ? 0 : zero,
                                    tile.counts + t * tile.x_stride + 2 * (size_t)block, half);
            add_whole_quads(quants, tokens, &tile, weights, block, half * quads, (half + 1) * quads,
                            sums);
            add_whole_scaled(quants, scales, tokens, &tile, block, half, sums, totals);
        }
    }
    store_tile(tokens, job, place, totals);
}

#include "engine/cpu/kernels/products_dispatch.h"
