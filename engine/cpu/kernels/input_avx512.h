/*
 * input_avx512.h: what stands behind the floats of an input (products.h), with 512-bit vectors. For the products alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX512_H

#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/kernels/products.h"

static void block_sums(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    const float *x = input + (size_t)first * CPU_PACK_COLUMNS;
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS)
        sums[block] = reduce(_mm512_add_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(x + CPU_LANES)));
}

/* The largest magnitude of a block by its bits, so that a NaN is larger than everything. */
INLINE float largest_magnitude(const __m512 x[static 2])
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    uint32_t bits = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(x[0]), magnitude),
                         _mm512_and_si512(_mm512_castps_si512(x[1]), magnitude)));
    float largest;

    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

/* The quants of 16 values. */
INLINE __m512i quantize_half(__m512 x, float inverse, int8_t *quants)
{
    __m512i q = _mm512_setzero_si512();

    if (inverse != 0.0f)
        q = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(inverse)));
    _mm_storeu_si128((__m128i *)(void *)quants, _mm512_cvtepi32_epi8(q));
    return q;
}

/* A block of x to its place behind `base`: the input, or that and cpu_input_rest more. */
INLINE void quantize_block(const __m512 x[static 2], float *base, uint32_t columns, uint32_t block)
{
    int32_t *counts = (int32_t *)(void *)(base + cpu_input_counts(columns)) + 2 * (size_t)block;
    int8_t *quants =
        (int8_t *)(base + cpu_input_quants(columns)) + (size_t)block * CPU_PACK_COLUMNS;
    struct cpu_quantizing how = cpu_quantizing(largest_magnitude(x));
    __m512i first = quantize_half(x[0], how.inverse, quants);
    __m512i second = quantize_half(x[1], how.inverse, quants + CPU_LANES);
    int32_t all = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));

    counts[0] = -_mm512_reduce_add_epi32(first);
    counts[1] = -all;
    base[cpu_input_scales(columns) + block] = how.scale;
    base[cpu_input_quant_sums(columns) + block] = how.scale * (float)all;
}

static void quantize(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    for (uint32_t block = first; block < end; block++) {
        const float *x = input + (size_t)block * CPU_PACK_COLUMNS;
        const __m512 values[2] = {_mm512_loadu_ps(x), _mm512_loadu_ps(x + CPU_LANES)};

        quantize_block(values, input, columns, block);
    }
}

/* x - scale * q of 16 values. */
INLINE __m512 rest_of(const float *x, float scale, const int8_t *quants)
{
    __m512i q = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)quants));

    return _mm512_fnmadd_ps(_mm512_set1_ps(scale), _mm512_cvtepi32_ps(q), _mm512_loadu_ps(x));
}

static void quantize_rest(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    const float *scales = input + cpu_input_scales(columns);
    const int8_t *quants = (const int8_t *)(input + cpu_input_quants(columns));

    for (uint32_t block = first; block < end; block++) {
        size_t place = (size_t)block * CPU_PACK_COLUMNS;
        const __m512 rest[2] = {
            rest_of(input + place, scales[block], quants + place),
            rest_of(input + place + CPU_LANES, scales[block], quants + place + CPU_LANES)};

        quantize_block(rest, input + cpu_input_rest(columns), columns, block);
    }
}

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

static void bfloats(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *rounded = input + cpu_input_bfloats(columns);

    for (size_t i = (size_t)first * CPU_PACK_COLUMNS; i < (size_t)end * CPU_PACK_COLUMNS;
         i += CPU_LANES) {
        __m512i bits = round_to_bfloats(_mm512_loadu_ps(input + i));

#ifdef __AVX512BF16__ /* products_bf16.c reads pairs */
        _mm256_storeu_si256((__m256i *)(void *)(rounded + i / 2),
                            _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
#else
        _mm512_storeu_si512(rounded + i, bits);
#endif
    }
}

#endif
