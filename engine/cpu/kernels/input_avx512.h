/*
 * input_avx512.h: what stands behind the floats of an input (products.h), with 512-bit vectors. For the products alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX512_H

#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/kernels/products.h"

static void block_sums(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS)
        sums[block] = reduce(_mm512_add_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(x + CPU_LANES)));
}

/* ------------------------------------------------------------------ quants */

/* So many blocks become quants together, so that what goes across lanes is done once for all of them. */
#define BLOCKS 4
#define VALUES (2 * BLOCKS) /* vectors of 16 */

/* How many of the blocks first to end - 1 are the next ones. */
INLINE uint32_t next_blocks(uint32_t first, uint32_t end)
{
    return end - first < BLOCKS ? end - first : BLOCKS;
}

/* All lanes of vector i, if it is one of so many blocks. */
INLINE __mmask16 lanes_of(uint32_t i, uint32_t blocks)
{
    return i < 2 * blocks ? 0xffff : 0;
}

/* The largest magnitudes of the blocks by their bits, so that a NaN is larger than everything. */
INLINE __m128 largest_magnitudes(const __m512 x[static VALUES])
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    const __m512i first_of_each =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    __m512i most[BLOCKS];
    __m512i pair[2];
    __m512i all;

    CPU_UNROLL
    for (uint32_t i = 0; i < BLOCKS; i++)
        most[i] = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x[2 * i]), magnitude),
                                   _mm512_and_si512(_mm512_castps_si512(x[2 * i + 1]), magnitude));
    CPU_UNROLL
    for (uint32_t i = 0; i < 2; i++)
        pair[i] = _mm512_max_epu32(_mm512_shuffle_i32x4(most[2 * i], most[2 * i + 1], 0x44),
                                   _mm512_shuffle_i32x4(most[2 * i], most[2 * i + 1], 0xee));
    all = _mm512_max_epu32(_mm512_shuffle_i32x4(pair[0], pair[1], 0x88),
                           _mm512_shuffle_i32x4(pair[0], pair[1], 0xdd));
    all = _mm512_max_epu32(all, _mm512_shuffle_epi32(all, 0x4e));
    all = _mm512_max_epu32(all, _mm512_shuffle_epi32(all, 0xb1));
    return _mm_castsi128_ps(_mm512_castsi512_si128(_mm512_permutexvar_epi32(first_of_each, all)));
}

/* cpu_quantizing of four blocks: their scales and, if they are not NaN or 0, what values are multiplied with. */
struct quantizing {
    __m128 scales;
    __m128 inverses;
    __mmask8 is_any; /* else all quants of the block are 0 */
};

INLINE struct quantizing quantizing(__m128 largest)
{
    const __m128 quant_max = _mm_set1_ps(CPU_QUANTIZE_MAX);
    __mmask8 is_finite = _mm_cmp_ps_mask(largest, _mm_set1_ps(FLT_MAX), _CMP_LE_OQ);
    __mmask8 is_any =
        _mm_mask_cmp_ps_mask(is_finite, largest, _mm_set1_ps(CPU_QUANTIZE_MIN), _CMP_GE_OQ);
    __m128 scales = _mm_maskz_div_ps(is_any, largest, quant_max);

    return (struct quantizing){.scales = _mm_mask_mov_ps(_mm_set1_ps(NAN), is_finite, scales),
                               .inverses = _mm_maskz_div_ps(is_any, quant_max, largest),
                               .is_any = is_any};
}

/* The quants of two blocks, one behind the other; i is the first one's index. */
INLINE __m512i quants_of_two(const __m512 x[static VALUES], const struct quantizing *how,
                             uint32_t i)
{
    /* packing works within 128 bits: four by four, to be put in order behind */
    const __m512i in_order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q[4];

    CPU_UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        uint32_t block = i + j / 2;
        __m512 inverse = _mm512_permutexvar_ps(_mm512_set1_epi32((int)block),
                                               _mm512_castps128_ps512(how->inverses));
        __mmask16 lanes = (how->is_any >> block & 1) != 0 ? 0xffff : 0;

        q[j] = _mm512_maskz_cvtps_epi32(lanes, _mm512_mul_ps(x[2 * i + j], inverse));
    }
    return _mm512_permutexvar_epi32(in_order, _mm512_packs_epi16(_mm512_packs_epi32(q[0], q[1]),
                                                                 _mm512_packs_epi32(q[2], q[3])));
}

/* The counts of four blocks, two of each, from the quants of the first two and of the others. */
INLINE __m256i counts_of(__m512i first, __m512i second)
{
    const __m512i to_unsigned = _mm512_set1_epi8((char)0x80);
    const __m512i zero = _mm512_setzero_si512();
    const __m256i halves_of_first_before_second = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i a = _mm512_sad_epu8(_mm512_xor_si512(first, to_unsigned), zero);
    __m512i b = _mm512_sad_epu8(_mm512_xor_si512(second, to_unsigned), zero);
    __m256i sums = _mm512_cvtepi64_epi32(
        _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b)));

    sums = _mm256_permutevar8x32_epi32(sums, halves_of_first_before_second);
    sums = _mm256_sub_epi32(_mm256_set1_epi32(CPU_LANES * 128), sums);
    return _mm256_mask_add_epi32(sums, 0xaa, sums, _mm256_shuffle_epi32(sums, 0xa0));
}

/* The next blocks to their places behind `base`: the input, or that and cpu_input_rest more. */
INLINE void quantize_blocks(const __m512 x[static VALUES], float *base, uint32_t columns,
                            uint32_t block, uint32_t blocks)
{
    const __m256i odd = _mm256_setr_epi32(1, 3, 5, 7, 1, 3, 5, 7);
    int8_t *quants =
        (int8_t *)(base + cpu_input_quants(columns)) + (size_t)block * CPU_PACK_COLUMNS;
    const struct quantizing how = quantizing(largest_magnitudes(x));
    __mmask8 each = (__mmask8)((1u << blocks) - 1);
    __m512i first = quants_of_two(x, &how, 0);
    __m512i second = quants_of_two(x, &how, 2);
    __m256i counts = counts_of(first, second);
    __m128i all = _mm256_castsi256_si128(_mm256_permutevar8x32_epi32(counts, odd));

    _mm512_mask_storeu_epi32(quants, blocks > 1 ? 0xffff : 0xff, first);
    if (blocks > 2)
        _mm512_mask_storeu_epi32(quants + 64, blocks > 3 ? 0xffff : 0xff, second);
    _mm256_mask_storeu_epi32(base + cpu_input_counts(columns) + 2 * (size_t)block,
                             (__mmask8)((1u << 2 * blocks) - 1), counts);
    _mm_mask_storeu_ps(base + cpu_input_scales(columns) + block, each, how.scales);
    _mm_mask_storeu_ps(
        base + cpu_input_quant_sums(columns) + block, each,
        _mm_mul_ps(how.scales, _mm_cvtepi32_ps(_mm_sub_epi32(_mm_setzero_si128(), all))));
}

static void quantize(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    for (uint32_t block = first; block < end; block += BLOCKS, x += BLOCKS * CPU_PACK_COLUMNS) {
        uint32_t blocks = next_blocks(block, end);
        __m512 values[VALUES];

        CPU_UNROLL
        for (uint32_t i = 0; i < VALUES; i++)
            values[i] = _mm512_maskz_loadu_ps(lanes_of(i, blocks), x + i * CPU_LANES);
        quantize_blocks(values, input, columns, block, blocks);
    }
}

/* x - scale * q of 16 values. */
INLINE __m512 rest_of(__m512 x, float scale, const int8_t *quants)
{
    __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)quants));

    return _mm512_fnmadd_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(q), x);
}

static void quantize_rest(const float *x, float *input, uint32_t columns, uint32_t first,
                          uint32_t end)
{
    const float *scales = input + cpu_input_scales(columns);
    const int8_t *quants = (const int8_t *)(input + cpu_input_quants(columns));

    for (uint32_t block = first; block < end; block += BLOCKS, x += BLOCKS * CPU_PACK_COLUMNS) {
        uint32_t blocks = next_blocks(block, end);
        __m512 rest[VALUES];

        CPU_UNROLL
        for (uint32_t i = 0; i < VALUES; i++) {
            rest[i] = _mm512_setzero_ps();
            if (i < 2 * blocks)
                rest[i] =
                    rest_of(_mm512_loadu_ps(x + i * CPU_LANES), scales[block + i / 2],
                            quants + (size_t)block * CPU_PACK_COLUMNS + (size_t)i * CPU_LANES);
        }
        quantize_blocks(rest, input + cpu_input_rest(columns), columns, block, blocks);
    }
}

/* ------------------------------------------------------------------ rounded to BF16 */

/* 16 values to the nearest BF16, ties to even, nearly nothing to 0: as floats. */
INLINE __m512i round_to_bfloats(__m512 x)
{
    __m512i bits = _mm512_castps_si512(x);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    __mmask16 is_any;

    bits = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    bits = _mm512_and_si512(bits, _mm512_set1_epi32((int)0xffff0000));
    is_any = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_castsi512_ps(bits)),
                                _mm512_set1_ps(CPU_BFLOAT_MIN), _CMP_GE_OQ);
    bits = _mm512_maskz_mov_epi32(is_any, bits);
    return _mm512_mask_mov_epi32(bits, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                                 _mm512_set1_epi32(0x7fc00000));
}

static void bfloats(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    const size_t before = (size_t)first * CPU_PACK_COLUMNS;
    float *rounded = input + cpu_input_bfloats(columns);

    for (size_t i = before; i < (size_t)end * CPU_PACK_COLUMNS; i += CPU_LANES) {
        __m512i bits = round_to_bfloats(_mm512_loadu_ps(x + i - before));

#ifdef __AVX512BF16__ /* products_bf16.c reads pairs */
        _mm256_storeu_si256((__m256i *)(void *)(rounded + i / 2),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
#else
        _mm512_storeu_si512(rounded + i, bits);
#endif
    }
}

#endif
