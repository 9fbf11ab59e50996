/*
 * input_avx2.h: what stands behind the floats of an input (products.h), with 256-bit vectors. For the products alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX2_H
#define TANDEM_ENGINE_CPU_KERNELS_INPUT_AVX2_H

#include "engine/cpu/kernels/lanes_avx2.h"
#include "engine/cpu/kernels/products.h"

#define BLOCK_VECTORS (CPU_PACK_COLUMNS / 8)

static void block_sums(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
        struct lanes a = lanes_load(x);
        struct lanes b = lanes_load(x + CPU_LANES);

        sums[block] =
            reduce((struct lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)});
    }
}

/* The largest magnitude of a block by its bits, so that a NaN is larger than everything. */
INLINE float largest_magnitude(const __m256 x[static BLOCK_VECTORS])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    __m128i four;
    uint32_t bits;
    float largest;

    CPU_UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++)
        most = _mm256_max_epu32(most, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    four = _mm_max_epu32(_mm256_castsi256_si128(most), _mm256_extracti128_si256(most, 1));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_max_epu32(four, _mm_shuffle_epi32(four, 0xb1));
    bits = (uint32_t)_mm_cvtsi128_si32(four);
    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

/* The sum of 8 whole numbers. */
INLINE int32_t sum_lanes(__m256i v)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
    four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1));
    return _mm_cvtsi128_si32(four);
}

/* The quants of a block of x to its place behind `base`: the input, or that and cpu_input_rest more. */
INLINE void quantize_block(const __m256 x[static BLOCK_VECTORS], float *base, uint32_t columns,
                           uint32_t block)
{
    const __m256i in_order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    int32_t *counts = (int32_t *)(void *)(base + cpu_input_counts(columns)) + 2 * (size_t)block;
    int8_t *quants =
        (int8_t *)(base + cpu_input_quants(columns)) + (size_t)block * CPU_PACK_COLUMNS;
    struct cpu_quantizing how = cpu_quantizing(largest_magnitude(x));
    __m256i q[BLOCK_VECTORS] = {_mm256_setzero_si256(), _mm256_setzero_si256(),
                                _mm256_setzero_si256(), _mm256_setzero_si256()};
    __m256i bytes;
    int32_t half;
    int32_t all;

    CPU_UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++)
        if (how.inverse != 0.0f)
            q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(x[i], _mm256_set1_ps(how.inverse)));
    /* packing works within 128 bits: four by four, to be put in order behind */
    bytes = _mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3]));
    _mm256_storeu_si256((__m256i *)(void *)quants, _mm256_permutevar8x32_epi32(bytes, in_order));
    half = sum_lanes(_mm256_add_epi32(q[0], q[1]));
    all = half + sum_lanes(_mm256_add_epi32(q[2], q[3]));
    counts[0] = -half;
    counts[1] = -all;
    base[cpu_input_scales(columns) + block] = how.scale;
    base[cpu_input_quant_sums(columns) + block] = how.scale * (float)all;
}

static void quantize(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
        const __m256 values[BLOCK_VECTORS] = {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8),
                                              _mm256_loadu_ps(x + 16), _mm256_loadu_ps(x + 24)};

        quantize_block(values, input, columns, block);
    }
}

/* x - scale * q of 8 values. */
INLINE __m256 rest_of(const float *x, float scale, const int8_t *quants)
{
    __m256i q = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)quants));

    return _mm256_fnmadd_ps(_mm256_set1_ps(scale), _mm256_cvtepi32_ps(q), _mm256_loadu_ps(x));
}

static void quantize_rest(const float *x, float *input, uint32_t columns, uint32_t first,
                          uint32_t end)
{
    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
        float scale = input[cpu_input_scales(columns) + block];
        const int8_t *quants =
            (const int8_t *)(input + cpu_input_quants(columns)) + (size_t)block * CPU_PACK_COLUMNS;
        const __m256 rest[BLOCK_VECTORS] = {
            rest_of(x, scale, quants), rest_of(x + 8, scale, quants + 8),
            rest_of(x + 16, scale, quants + 16), rest_of(x + 24, scale, quants + 24)};

        quantize_block(rest, input + cpu_input_rest(columns), columns, block);
    }
}

/* 8 values to the nearest BF16, ties to even, nearly nothing to 0: as floats. */
INLINE __m256 round_to_bfloats(__m256 x)
{
    const __m256 magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256 rounded;

    bits = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    rounded = _mm256_castsi256_ps(_mm256_and_si256(bits, _mm256_set1_epi32((int)0xffff0000)));
    rounded = _mm256_and_ps(rounded, _mm256_cmp_ps(_mm256_and_ps(rounded, magnitude),
                                                   _mm256_set1_ps(CPU_BFLOAT_MIN), _CMP_GE_OQ));
    return _mm256_blendv_ps(rounded, _mm256_set1_ps(NAN), _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
}

static void bfloats(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *rounded = input + cpu_input_bfloats(columns) + (size_t)first * CPU_PACK_COLUMNS;

    for (size_t i = 0; i < (size_t)(end - first) * CPU_PACK_COLUMNS; i += 8)
        _mm256_storeu_ps(rounded + i, round_to_bfloats(_mm256_loadu_ps(x + i)));
}

#endif
