/*
 * products_avx2.c: products with 256-bit vectors: two vectors are the 16 rows of a group.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/input_avx2.h"
#include "engine/cpu/kernels/products_tile.h"
#include "engine/cpu/kernels/unpack_avx2.h"

#define PRODUCTS cpu_product_avx2

/* 8 sums of a block for 4 tokens, with 2 + 1 operands; the totals wait in memory. */
#define TILE_TOKENS 4

/* Writes or adds the values of up to 16 rows. */
INLINE void store_rows(float *y, uint32_t rows, bool add, struct lanes total)
{
    float values[CPU_PACK_ROWS];

    if (rows < CPU_PACK_ROWS) {
        lanes_store(values, total);
        for (uint32_t row = 0; row < rows; row++)
            y[row] = add ? y[row] + values[row] : values[row];
        return;
    }
    if (add) {
        total.low = _mm256_add_ps(_mm256_loadu_ps(y), total.low);
        total.high = _mm256_add_ps(_mm256_loadu_ps(y + 8), total.high);
    }
    lanes_store(y, total);
}

/* Writes or adds the results of a tile. */
INLINE void store_tile(const uint32_t tokens, const struct cpu_product *job,
                       const struct place *place, const struct lanes totals[static TILE_TOKENS])
{
    uint32_t row = place->group * CPU_PACK_ROWS;
    uint32_t rows = job->matrix->rows - job->first * CPU_PACK_ROWS - row;

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        if (t >= place->skip)
            store_rows(job->y + (place->token + t) * job->y_stride + row, rows, job->add,
                       totals[t]);
}

/* ------------------------------------------------------------------ products of floats */

/*
 * The sums of the quads first to end - 1 of a block. With x rounded to BF16 the second of two columns comes before
 * the first.
 */
INLINE void add_quads(const bool is_rounded, const enum cpu_quants quants, const int zero,
                      const uint32_t tokens, const struct tile *tile, const uint8_t *weights,
                      uint32_t block, uint32_t first, uint32_t end,
                      struct lanes sums[static TILE_TOKENS])
{
    const float *x = tile->x + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) { /* two quads share a vector of nibbles */
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            __m256 low[4];
            __m256 high[4];

            load_columns(quants, zero, weights, i + odd, 0, low);
            load_columns(quants, zero, weights, i + odd, 1, high);
            CPU_UNROLL
            for (uint32_t k = 0; k < 4; k++) {
                const uint32_t c = is_rounded ? k ^ 1 : k;

                CPU_UNROLL
                for (uint32_t t = 0; t < tokens; t++) {
                    __m256 v = _mm256_broadcast_ss(x + t * tile->x_stride + 4 * (i + odd) + c);

                    sums[t].low = _mm256_fmadd_ps(low[c], v, sums[t].low);
                    sums[t].high = _mm256_fmadd_ps(high[c], v, sums[t].high);
                }
            }
        }
    }
}

/* Scales the sums of a block, or of a half with scales of its own, into the totals. */
INLINE void add_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                       const uint32_t tokens, const struct tile *tile, uint32_t block,
                       uint32_t half, const struct lanes sums[static TILE_TOKENS],
                       struct lanes totals[static TILE_TOKENS])
{
    const uint8_t *head = tile->weights + cpu_pack_head(quants, scales, block);
    const uint8_t *behind =
        tile->weights + cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    struct lanes scale = lanes_zero();

    if (scales != CPU_SCALES_NONE)
        scale = load_scale(scales, head, behind, half);
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        if (scales == CPU_SCALES_NONE)
            totals[t] = (struct lanes){_mm256_add_ps(totals[t].low, sums[t].low),
                                       _mm256_add_ps(totals[t].high, sums[t].high)};
        else
            totals[t] = lanes_fma(scale, sums[t], totals[t]);
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
    struct lanes totals[TILE_TOKENS];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        totals[t] = lanes_zero();
    for (uint32_t block = 0; block < blocks; block++) {
        const uint8_t *weights = tile.weights + cpu_pack_block(quants, scales, block);

        ask_ahead(weights, cpu_pack_block_bytes(quants, scales));
        CPU_UNROLL
        for (uint32_t half = 0; half < halves; half++) {
            struct lanes sums[TILE_TOKENS];

            CPU_UNROLL
            for (uint32_t t = 0; t < tokens; t++)
                sums[t] = lanes_zero();
            add_quads(is_rounded, quants, zero, tokens, &tile, weights, block, half * quads,
                      (half + 1) * quads, sums);
            add_scaled(quants, scales, tokens, &tile, block, half, sums, totals);
        }
    }
    store_tile(tokens, job, place, totals);
}

/* ------------------------------------------------------------------ products in whole numbers */

/* 16 sums. */
struct counts {
    __m256i low;
    __m256i high;
};

/* Products of a quad and the quants of x in pairs of 16 bits, and as many more as fit there. */
INLINE void add_pairs(const enum cpu_quants quants, const uint32_t tokens,
                      const struct whole_tile *tile, const uint8_t *weights, const int8_t *x,
                      uint32_t i, const bool is_first, struct counts pairs[static TILE_TOKENS])
{
    __m256i low = load_quad(quants, weights, i, 0);
    __m256i high = load_quad(quants, weights, i, 1);
    __m256i low_size = low;
    __m256i high_size = high;

    if (quants == CPU_QUANTS_8) {
        low = _mm256_xor_si256(low, _mm256_set1_epi8((char)0x80));
        high = _mm256_xor_si256(high, _mm256_set1_epi8((char)0x80));
        low_size = _mm256_abs_epi8(low);
        high_size = _mm256_abs_epi8(high);
    }
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        __m256i four = _mm256_set1_epi32(
            load_four(x + t * tile->x_stride * sizeof *tile->scales + (size_t)4 * i));
        __m256i low_four = quants == CPU_QUANTS_8 ? _mm256_sign_epi8(four, low) : four;
        __m256i high_four = quants == CPU_QUANTS_8 ? _mm256_sign_epi8(four, high) : four;

        low_four = _mm256_maddubs_epi16(low_size, low_four);
        high_four = _mm256_maddubs_epi16(high_size, high_four);
        pairs[t].low = is_first ? low_four : _mm256_add_epi16(pairs[t].low, low_four);
        pairs[t].high = is_first ? high_four : _mm256_add_epi16(pairs[t].high, high_four);
    }
}

/*
 * sums += the products of unsigned and signed bytes, four neighbours together, in two steps, of which the second, from 16
 * to 32 bits, is needed only when the 16 bits are full. Pairs of 8 bits would not fit at all with a quant of 255:
 * they are taken with their zero subtracted, as magnitudes, and the sign goes to x.
 */
INLINE void add_whole_quads(const enum cpu_quants quants, const uint32_t tokens,
                            const struct whole_tile *tile, const uint8_t *weights, uint32_t block,
                            uint32_t first, uint32_t end, struct counts sums[static TILE_TOKENS])
{
    const int8_t *x = tile->quants + (size_t)block * CPU_PACK_COLUMNS;
    const __m256i ones = _mm256_set1_epi16(1);
    const uint32_t run = quads_in_16_bits(quants);

    for (uint32_t i = first; i < end; i += run) {
        struct counts pairs[TILE_TOKENS];

        add_pairs(quants, tokens, tile, weights, x, i, true, pairs);
        CPU_UNROLL
        for (uint32_t j = 1; j < run; j++)
            add_pairs(quants, tokens, tile, weights, x, i + j, false, pairs);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            sums[t].low = _mm256_add_epi32(sums[t].low, _mm256_madd_epi16(pairs[t].low, ones));
            sums[t].high = _mm256_add_epi32(sums[t].high, _mm256_madd_epi16(pairs[t].high, ones));
        }
    }
}

/* zero times what the counts say: of a block or, with K16, of a half. With 8 bits the zero is taken already. */
INLINE struct counts first_sum(const enum cpu_quants quants, const enum cpu_scales scales,
                               const int zero, const int32_t *counts, uint32_t half)
{
    int32_t count = 0;

    if (zero != 0 && quants != CPU_QUANTS_8) {
        count = counts[scales == CPU_SCALES_K16 && half == 0 ? 0 : 1];
        if (scales == CPU_SCALES_K16 && half == 1)
            count -= counts[0];
    }
    return (struct counts){_mm256_set1_epi32(zero * count), _mm256_set1_epi32(zero * count)};
}

/* The x's scale * sum. */
INLINE struct lanes scaled(float x_scale, struct counts sum)
{
    const __m256 factor = _mm256_set1_ps(x_scale);

    return (struct lanes){_mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum.low)),
                          _mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum.high))};
}

/* totals += scale * (the x's scale * sums), and the minimums. */
INLINE void add_whole_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                             const uint32_t tokens, const struct whole_tile *tile, uint32_t block,
                             uint32_t half, const struct counts sums[static TILE_TOKENS],
                             struct lanes totals[static TILE_TOKENS])
{
    const uint8_t *head = tile->weights + cpu_pack_head(quants, scales, block);
    const uint8_t *behind =
        tile->weights + cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    struct lanes scale = load_scale(scales, head, behind, half);

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        size_t place = t * tile->x_stride + block;

        totals[t] = lanes_fma(scale, scaled(tile->scales[place], sums[t]), totals[t]);
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
    struct lanes totals[TILE_TOKENS];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        totals[t] = lanes_zero();
    for (uint32_t block = 0; block < blocks; block++) {
        const uint8_t *weights = tile.weights + cpu_pack_block(quants, scales, block);

        ask_ahead(weights, cpu_pack_block_bytes(quants, scales));
        CPU_UNROLL
        for (uint32_t half = 0; half < halves; half++) {
            struct counts sums[TILE_TOKENS];

            CPU_UNROLL
            for (uint32_t t = 0; t < tokens; t++)
                sums[t] = first_sum(quants, scales, zero,
                                    tile.counts + t * tile.x_stride + 2 * (size_t)block, half);
            add_whole_quads(quants, tokens, &tile, weights, block, half * quads, (half + 1) * quads,
                            sums);
            add_whole_scaled(quants, scales, tokens, &tile, block, half, sums, totals);
        }
    }
    store_tile(tokens, job, place, totals);
}

#include "engine/cpu/kernels/products_dispatch.h"
