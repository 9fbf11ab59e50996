/*
 * unpack_avx2.h: the parts of a packed block (pack.h) as vectors of 8 rows, two for the 16 of a group: quants as bytes or as floats, scales
 * and minimums. For the products alone.
 *
 * What is constant wherever it is inlined (quants, scales, zero) comes first, so that one text makes the code for
 * every type.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_UNPACK_AVX2_H
#define TANDEM_ENGINE_CPU_KERNELS_UNPACK_AVX2_H

#include "engine/cpu/kernels/lanes_avx2.h"
#include "engine/cpu/pack.h"

INLINE __m256i load_bytes(const uint8_t *source)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)source);
}

INLINE __m128i load_half_bytes(const uint8_t *source)
{
    return _mm_loadu_si128((const __m128i *)(const void *)source);
}

INLINE struct lanes load_halves(const uint8_t *source)
{
    return (struct lanes){_mm256_cvtph_ps(load_half_bytes(source)),
                          _mm256_cvtph_ps(load_half_bytes(source + 16))};
}

/* 16 where the bit of a byte is set. */
INLINE __m256i fifth_bits(const uint8_t *source)
{
    const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                                             2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    uint32_t bits;
    __m256i spread;

    memcpy(&bits, source, sizeof bits);
    spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(spread, bit), _mm256_set1_epi8(16));
}

/* Quad i of the upper or lower 8 rows of a block as unsigned bytes. */
INLINE __m256i load_quad(const enum cpu_quants quants, const uint8_t *block, uint32_t i,
                         const uint32_t upper)
{
    __m256i bytes;
    __m256i high;

    if (quants == CPU_QUANTS_8)
        return load_bytes(block + (size_t)64 * i + 32 * upper);
    bytes = load_bytes(block + (size_t)64 * (i / 2) + 32 * upper);
    if (i % 2 == 1)
        bytes = _mm256_srli_epi16(bytes, 4);
    bytes = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    if (quants == CPU_QUANTS_5)
        bytes = _mm256_or_si256(bytes, fifth_bits(block + 256 + (size_t)8 * i + 4 * upper));
    if (quants == CPU_QUANTS_6) {
        high = load_bytes(block + 256 + (size_t)64 * (i / 4) + 32 * upper);
        high = _mm256_srl_epi16(high, _mm_cvtsi32_si128((int)(2 * (i % 4))));
        high = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4);
        bytes = _mm256_or_si256(bytes, high);
    }
    return bytes;
}

/* Byte `shift` / 8 of every lane, less zero, as a float; see products_avx512.c. */
INLINE __m256 byte_as_float(__m256i bytes, const int shift, const int zero)
{
    const int exponent = (127 + 23 - shift) << 23;
    __m256i bits = _mm256_or_si256(_mm256_and_si256(bytes, _mm256_set1_epi32(255 << shift)),
                                   _mm256_set1_epi32(exponent));

    return _mm256_sub_ps(_mm256_castsi256_ps(bits),
                         _mm256_set1_ps((float)(1 << (23 - shift)) + (float)zero));
}

/* 8 bytes as halves with the same exponent and fraction; the sign moves one further. */
INLINE __m128i load_e4m3(const uint8_t *source)
{
    __m128i bytes = _mm_loadl_epi64((const __m128i *)(const void *)source);
    __m128i halves = _mm_slli_epi16(_mm_cvtepu8_epi16(bytes), 7);

    return _mm_add_epi16(halves, _mm_and_si128(halves, _mm_set1_epi16(0x4000)));
}

/* The columns 4i to 4i + 3 of half of the rows of a block: quants less zero, or values. */
INLINE void load_columns(const enum cpu_quants quants, const int zero, const uint8_t *block,
                         uint32_t i, const uint32_t upper, __m256 columns[static 4])
{
    __m256i bytes;

    if (quants == CPU_QUANTS_F32) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm256_loadu_ps(
                (const float *)(const void *)(block + (size_t)64 * (4 * i + c) + 32 * upper));
    } else if (quants == CPU_QUANTS_F16) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] =
                _mm256_cvtph_ps(load_half_bytes(block + (size_t)32 * (4 * i + c) + 16 * upper));
    } else if (quants == CPU_QUANTS_E4M3) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm256_cvtph_ps(load_e4m3(block + (size_t)16 * (4 * i + c) + 8 * upper));
    } else if (quants == CPU_QUANTS_BF16) {
        for (uint32_t c = 0; c < 4; c += 2) {
            bytes = load_bytes(block + (size_t)64 * (2 * i + c / 2) + 32 * upper);
            columns[c] = _mm256_castsi256_ps(_mm256_slli_epi32(bytes, 16));
            columns[c + 1] =
                _mm256_castsi256_ps(_mm256_and_si256(bytes, _mm256_set1_epi32((int)0xffff0000)));
        }
    } else {
        bytes = load_quad(quants, block, i, upper);
        columns[0] = byte_as_float(bytes, 0, zero);
        columns[1] = byte_as_float(bytes, 8, zero);
        bytes = _mm256_srli_epi32(bytes, 16);
        columns[2] = byte_as_float(bytes, 0, zero);
        columns[3] = byte_as_float(bytes, 8, zero);
    }
}

/* 16 bytes as floats. */
INLINE struct lanes widen(const uint8_t *source, const bool is_signed)
{
    __m128i low = load_half_bytes(source);
    __m128i high = _mm_srli_si128(low, 8);

    if (is_signed)
        return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
                              _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high))};
    return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)),
                          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))};
}

INLINE struct lanes lanes_multiply(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

/* The scales of half 0 or 1 of a block. */
INLINE struct lanes load_scale(const enum cpu_scales scales, const uint8_t *head,
                               const uint8_t *block, uint32_t half)
{
    if (scales == CPU_SCALES_PLAIN || scales == CPU_SCALES_MINIMUM)
        return load_halves(block);
    if (scales == CPU_SCALES_FLOAT)
        return (struct lanes){
            _mm256_loadu_ps((const float *)(const void *)block),
            _mm256_loadu_ps((const float *)(const void *)(block + 32)),
        };
    return lanes_multiply(load_halves(head),
                          widen(block + (size_t)16 * half, scales == CPU_SCALES_K16));
}

/* What the minimums of a block add: K's are subtracted. */
INLINE struct lanes add_minimum(const enum cpu_scales scales, const uint8_t *head,
                                const uint8_t *block, float sum, struct lanes total)
{
    struct lanes x = {_mm256_set1_ps(sum), _mm256_set1_ps(sum)};
    struct lanes minimum;

    if (scales == CPU_SCALES_MINIMUM)
        return lanes_fma(load_halves(block + 32), x, total);
    minimum = lanes_multiply(load_halves(head + 32), widen(block + 16, false));
    return (struct lanes){_mm256_fnmadd_ps(minimum.low, x.low, total.low),
                          _mm256_fnmadd_ps(minimum.high, x.high, total.high)};
}

#endif
