/*
 * unpack_avx512.h: the parts of a packed block (pack.h) as vectors of 16 rows: quants as bytes or as floats, scales
 * and minimums. For the products alone.
 *
 * What is constant wherever it is inlined (quants, scales, zero) comes first, so that one text makes the code for
 * every type.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_UNPACK_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_UNPACK_AVX512_H

#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/pack.h"

INLINE __m512i load_bytes(const uint8_t *source)
{
    return _mm512_loadu_si512((const void *)source);
}

INLINE __m512 load_halves(const uint8_t *source)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)source));
}

/* Quad i of a block as unsigned bytes: 4 columns of row r in bytes 4r to 4r + 3. */
INLINE __m512i load_quad(const enum cpu_quants quants, const uint8_t *block, uint32_t i)
{
    __m512i bytes;
    __m512i upper;
    uint64_t fifth;

    if (quants == CPU_QUANTS_8)
        return load_bytes(block + (size_t)64 * i);
    bytes = load_bytes(block + (size_t)64 * (i / 2));
    if (i % 2 == 1)
        bytes = _mm512_srli_epi16(bytes, 4);
    bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
    if (quants == CPU_QUANTS_5) {
        memcpy(&fifth, block + 256 + (size_t)8 * i, sizeof fifth);
        return _mm512_mask_add_epi8(bytes, fifth, bytes, _mm512_set1_epi8(16));
    }
    if (quants == CPU_QUANTS_6) { /* the two bits of quad i move to bits 4 and 5 of their byte */
        upper = _mm512_rolv_epi32(load_bytes(block + 256 + (size_t)64 * (i / 4)),
                                  _mm512_set1_epi32((int)((4 - 2 * (i % 4)) & 31)));
        return _mm512_ternarylogic_epi32(upper, _mm512_set1_epi8(0x30), bytes, 0xea);
    }
    return bytes;
}

/*
 * Byte `shift` / 8 (of 0 and 1) of every lane, less zero, as a float: the bits of the byte under an
 * exponent that gives its lowest bit the weight 1, less what the exponent adds. Exact; two operations
 * where shifting, masking and converting takes three, and not on the ports of the sums.
 */
INLINE __m512 byte_as_float(__m512i bytes, const int shift, const int zero)
{
    const int exponent = (127 + 23 - shift) << 23;
    __m512i bits = _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi32(255 << shift),
                                             _mm512_set1_epi32(exponent), 0xea);

    return _mm512_sub_ps(_mm512_castsi512_ps(bits),
                         _mm512_set1_ps((float)(1 << (23 - shift)) + (float)zero));
}

/* 16 bytes as halves with the same exponent and fraction; the sign moves one further. */
INLINE __m256i load_e4m3(const uint8_t *source)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)source);
    __m256i halves = _mm256_slli_epi16(_mm256_cvtepu8_epi16(bytes), 7);

    return _mm256_add_epi16(halves, _mm256_and_si256(halves, _mm256_set1_epi16(0x4000)));
}

/* The columns 4i to 4i + 3 of a block: quants less zero, or values. */
INLINE void load_columns(const enum cpu_quants quants, const int zero, const uint8_t *block,
                         uint32_t i, __m512 columns[static 4])
{
    __m512i bytes;

    if (quants == CPU_QUANTS_F32) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm512_loadu_ps(block + (size_t)64 * (4 * i + c));
    } else if (quants == CPU_QUANTS_F16) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = load_halves(block + (size_t)32 * (4 * i + c));
    } else if (quants == CPU_QUANTS_E4M3) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm512_cvtph_ps(load_e4m3(block + (size_t)16 * (4 * i + c)));
    } else if (quants == CPU_QUANTS_BF16) {
        for (uint32_t c = 0; c < 4; c += 2) {
            bytes = load_bytes(block + (size_t)64 * (2 * i + c / 2));
            columns[c] = _mm512_castsi512_ps(_mm512_slli_epi32(bytes, 16));
            columns[c + 1] =
                _mm512_castsi512_ps(_mm512_and_si512(bytes, _mm512_set1_epi32((int)0xffff0000)));
        }
    } else {
        bytes = load_quad(quants, block, i);
        columns[0] = byte_as_float(bytes, 0, zero);
        columns[1] = byte_as_float(bytes, 8, zero);
        bytes = _mm512_srli_epi32(bytes, 16);
        columns[2] = byte_as_float(bytes, 0, zero);
        columns[3] = byte_as_float(bytes, 8, zero);
    }
}

/* The scales of half 0 or 1 of a block. */
INLINE __m512 load_scale(const enum cpu_scales scales, const uint8_t *head, const uint8_t *block,
                         uint32_t half)
{
    __m128i small;

    if (scales == CPU_SCALES_PLAIN || scales == CPU_SCALES_MINIMUM)
        return load_halves(block);
    if (scales == CPU_SCALES_FLOAT)
        return _mm512_loadu_ps(block);
    small = _mm_loadu_si128((const __m128i *)(const void *)(block + (size_t)16 * half));
    return _mm512_mul_ps(load_halves(head), _mm512_cvtepi32_ps(scales == CPU_SCALES_K16
                                                                   ? _mm512_cvtepi8_epi32(small)
                                                                   : _mm512_cvtepu8_epi32(small)));
}

/* What the minimums of a block add: K's are subtracted. */
INLINE __m512 add_minimum(const enum cpu_scales scales, const uint8_t *head, const uint8_t *block,
                          float sum, __m512 total)
{
    __m512 x = _mm512_set1_ps(sum);
    __m128i small;

    if (scales == CPU_SCALES_MINIMUM)
        return _mm512_fmadd_ps(load_halves(block + 32), x, total);
    small = _mm_loadu_si128((const __m128i *)(const void *)(block + 16));
    return _mm512_fnmadd_ps(
        _mm512_mul_ps(load_halves(head + 32), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(small))), x,
        total);
}

#endif
