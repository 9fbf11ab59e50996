/*
 * packed.h: weights in the order in which tensor cores want them.
 *
 * A matrix is rows of tiles, 16 rows by 64 columns each, filled up with zeros; rows of tiles are a multiple of four. In a tile lane 4g + t of a warp has, for
 * mma j of 4, columns 16j + 4t to + 3 of rows g and g + 8: fragment word r holds two of them, of row g (even r) or
 * g + 8, the first two (r < 2) or the last. A tile is what 32 lanes load, 16 bytes each and one section after the other,
 * then for 16 rows one or two words of scales:
 *
 *   BF16         4 sections: the fragments of mma j as they are
 *   F8_E4M3      2 sections, as Q8_0: words 2j and 2j + 1, bytes in the order first, third, second, fourth
 *   Q8_0         2 sections: words 2j and 2j + 1: four bytes of row g, of row g + 8; quant + 128
 *   Q4_x, Q4_K   1 section: word j: eight nibbles; nibble r is the first of fragment word r, nibble r + 4 the second
 *   Q5_x, Q5_K   the same, then 4 bytes for each lane: the fifth bits, at 4j + r and 16 + 4j + r
 *   Q6_K         the same, then 8 bytes for each lane: two bits, in word j / 2 at 8 (j % 2) + 2r and 16 more
 *
 * Scales: F8_E4M3: a float; Q8_0, Q4_0, Q5_0: the halves d of both blocks; Q4_1, Q5_1: d and m of each; Q4_K, Q5_K: two scales, two
 * minimums, 8 bits each; Q6_K: four scales. The K types' halves d and m, one word for 256 columns of a row, follow behind
 * all tiles: [row of tiles][256 columns][16 rows].
 *
 * Quants are whole numbers of at most 8 bits, or FP8, so bf16 holds them exactly; scales are applied to sums (product.h).
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PACKED_H
#define TANDEM_ENGINE_CUDA_KERNELS_PACKED_H

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/kernels/fp8.h"
#include "engine/cuda/kernels/tensor.h"

#define PACKED_SECTION 512 /* bytes that a warp loads at once */
#define PACKED_SUPER   256 /* columns of a block of the K types */

SIMT_INLINE bool packed_has_fifths(enum cuda_type type)
{
    return type == CUDA_TYPE_Q5_0 || type == CUDA_TYPE_Q5_1 || type == CUDA_TYPE_Q5_K;
}

SIMT_INLINE bool packed_is_k(enum cuda_type type)
{
    return type == CUDA_TYPE_Q4_K || type == CUDA_TYPE_Q5_K || type == CUDA_TYPE_Q6_K;
}

/* x = scale * quant + minimum (what is added, so for the K types it is negative). */
SIMT_INLINE bool packed_has_minimum(enum cuda_type type)
{
    return type == CUDA_TYPE_Q4_1 || type == CUDA_TYPE_Q5_1 || type == CUDA_TYPE_Q4_K ||
           type == CUDA_TYPE_Q5_K;
}

SIMT_INLINE uint32_t packed_sections(enum cuda_type type)
{
    if (type == CUDA_TYPE_BF16)
        return 4;
    return type == CUDA_TYPE_Q8_0 || type == CUDA_TYPE_F8_E4M3 ? 2 : 1;
}

SIMT_INLINE uint32_t packed_scale_words(enum cuda_type type)
{
    if (type == CUDA_TYPE_BF16)
        return 0;
    return type == CUDA_TYPE_Q4_1 || type == CUDA_TYPE_Q5_1 ? 2 : 1;
}

/* Where in a tile the scales begin. */
SIMT_INLINE uint32_t packed_quant_bytes(enum cuda_type type)
{
    uint32_t more = packed_has_fifths(type) ? 4 : type == CUDA_TYPE_Q6_K ? 8 : 0;

    return packed_sections(type) * PACKED_SECTION + more * SIMT_WARP;
}

SIMT_INLINE uint32_t packed_tile_bytes(enum cuda_type type)
{
    return packed_quant_bytes(type) +
           CUDA_TILE_ROWS * packed_scale_words(type) * (uint32_t)sizeof(uint32_t);
}

SIMT_INLINE uint32_t packed_pieces(uint32_t count, uint32_t each)
{
    return count / each + (count % each != 0);
}

/* Tiles of a row of tiles. */
SIMT_INLINE uint32_t packed_steps(const struct cuda_matrix *matrix)
{
    return packed_pieces(matrix->columns, CUDA_TILE_COLUMNS);
}

/* Rows of tiles that there is memory for: kernels that make several at a time need not look for the last one. */
SIMT_INLINE uint32_t packed_row_tiles(const struct cuda_matrix *matrix)
{
    return packed_pieces(matrix->rows, CUDA_TILE_ROWS * CUDA_MANY_ROWS) * CUDA_MANY_ROWS;
}

/* Byte of the matrix where a tile begins. */
SIMT_INLINE size_t packed_tile_at(const struct cuda_matrix *matrix, enum cuda_type type,
                                  uint32_t row_tile, uint32_t step)
{
    return ((size_t)row_tile * packed_steps(matrix) + step) * packed_tile_bytes(type);
}

/* Byte of the matrix where the word with d and m of a tile's first row is, in the K types. */
SIMT_INLINE size_t packed_super_at(const struct cuda_matrix *matrix, enum cuda_type type,
                                   uint32_t row_tile, uint32_t step)
{
    uint32_t row_tiles = packed_row_tiles(matrix);
    uint32_t supers = packed_pieces(matrix->columns, PACKED_SUPER);
    size_t place = (size_t)row_tile * supers + step / (PACKED_SUPER / CUDA_TILE_COLUMNS);

    return packed_tile_at(matrix, type, row_tiles, 0) + place * CUDA_TILE_ROWS * sizeof(uint32_t);
}

/* ------------------------------------------------------------------ what a lane has of a tile */

struct packed_lane {
    uint32_t quants[16];
    uint32_t scales[2][2]; /* of rows g and g + 8 */
    uint32_t supers[2];
};

SIMT_INLINE uint32_t packed_word(const uint8_t *bytes)
{
    return *(const uint32_t *)(const void *)bytes;
}

/* Only loads, so that they can be under way while something else is computed. */
SIMT_INLINE void packed_fetch(const struct cuda_matrix *matrix, enum cuda_type type,
                              uint32_t row_tile, uint32_t step, struct packed_lane *lane_out)
{
    const uint8_t *tile = matrix->data + packed_tile_at(matrix, type, row_tile, step);
    const uint8_t *more = tile + packed_sections(type) * PACKED_SECTION;
    const uint8_t *scales = tile + packed_quant_bytes(type);
    const uint32_t words = packed_scale_words(type);
    uint32_t lane = simt_lane();

    SIMT_UNROLL
    for (uint32_t i = 0; i < packed_sections(type); i++) {
        struct simt_words4 loaded = simt_stream4(tile + i * PACKED_SECTION + lane * 16);

        SIMT_UNROLL
        for (uint32_t k = 0; k < 4; k++)
            lane_out->quants[4 * i + k] = loaded.word[k];
    }
    if (packed_has_fifths(type))
        lane_out->quants[4] = packed_word(more + lane * 4);
    if (type == CUDA_TYPE_Q6_K) {
        struct simt_words2 loaded = simt_load2(more + lane * 8);

        lane_out->quants[4] = loaded.word[0];
        lane_out->quants[5] = loaded.word[1];
    }
    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t row = lane / 4 + 8 * half;

        SIMT_UNROLL
        for (uint32_t i = 0; i < words; i++)
            lane_out->scales[half][i] = packed_word(scales + (row * words + i) * 4);
        if (packed_is_k(type))
            lane_out->supers[half] =
                packed_word(matrix->data + packed_super_at(matrix, type, row_tile, step) + row * 4);
    }
}

/* Two quants of 0 to 127 in the halves of a word, less an offset, as bf16: 128 + q has q in its low bits. */
SIMT_INLINE uint32_t packed_small(uint32_t quants, uint32_t offset)
{
    const uint32_t base = 0x4300 | offset; /* 128 + offset */

    return simt_bf16_minus(quants | 0x43004300u, base | base << 16);
}

SIMT_INLINE float packed_float(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A byte as bf16, less 128, in the upper half of a word: 2^23 + q has q in its low bits. */
SIMT_INLINE uint32_t packed_byte(uint32_t byte)
{
    float value = packed_float(0x4b000000u | byte) - 8388736.0f;
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits & 0xffff0000u;
}

/* The fragment of mma j: quants without their scales in the types that have some. */
SIMT_INLINE void packed_open(enum cuda_type type, const struct packed_lane *lane, uint32_t j,
                             uint32_t fragment_out[4])
{
    const uint32_t offset = type == CUDA_TYPE_Q4_0   ? 8
                            : type == CUDA_TYPE_Q5_0 ? 16
                            : type == CUDA_TYPE_Q6_K ? 32
                                                     : 0;

    SIMT_UNROLL
    for (uint32_t r = 0; r < 4; r++) {
        uint32_t quants;

        if (type == CUDA_TYPE_BF16) {
            fragment_out[r] = lane->quants[4 * j + r];
            continue;
        }
        if (type == CUDA_TYPE_F8_E4M3) {
            fragment_out[r] = fp8_to_bf16(lane->quants[2 * j + r % 2], r / 2 == 1);
            continue;
        }
        if (type == CUDA_TYPE_Q8_0) {
            quants = lane->quants[2 * j + r % 2] >> r / 2 * 16;
            fragment_out[r] = packed_byte(quants & 0xff) >> 16 | packed_byte(quants >> 8 & 0xff);
            continue;
        }
        quants = lane->quants[j] >> 4 * r & 0x000f000fu;
        if (packed_has_fifths(type))
            quants |= (lane->quants[4] >> (4 * j + r) & 0x00010001u) << 4;
        if (type == CUDA_TYPE_Q6_K)
            quants |= (lane->quants[4 + j / 2] >> (8 * (j % 2) + 2 * r) & 0x00030003u) << 4;
        fragment_out[r] = packed_small(quants, offset);
    }
}

SIMT_INLINE float packed_half(uint32_t word, uint32_t which)
{
    return simt_half_to_float((uint16_t)(word >> 16 * which));
}

SIMT_INLINE float packed_signed(uint32_t word, uint32_t which)
{
    return (float)(int8_t)(uint8_t)(word >> 8 * which);
}

SIMT_INLINE float packed_unsigned(uint32_t word, uint32_t which)
{
    return (float)(word >> 8 * which & 0xff);
}

/*
 * Of a row, for half a tile (32 columns): scale and minimum; of Q6_K, whose blocks are 16 columns, two scales. Exact.
 */
SIMT_INLINE void packed_scales(enum cuda_type type, const uint32_t *words, uint32_t super,
                               uint32_t half, float scales_out[2])
{
    scales_out[1] = 0.0f;
    if (type == CUDA_TYPE_F8_E4M3) {
        scales_out[0] = packed_float(words[0]);
    } else if (type == CUDA_TYPE_Q6_K) {
        scales_out[0] = packed_half(super, 0) * packed_signed(words[0], 2 * half);
        scales_out[1] = packed_half(super, 0) * packed_signed(words[0], 2 * half + 1);
    } else if (type == CUDA_TYPE_Q4_1 || type == CUDA_TYPE_Q5_1) {
        scales_out[0] = packed_half(words[half], 0);
        scales_out[1] = packed_half(words[half], 1);
    } else if (packed_is_k(type)) {
        scales_out[0] = packed_half(super, 0) * packed_unsigned(words[0], half);
        scales_out[1] = -packed_half(super, 1) * packed_unsigned(words[0], 2 + half);
    } else {
        scales_out[0] = packed_half(words[0], half);
    }
}

/* ------------------------------------------------------------------ one row, for embeddings */

/* The quant as a whole number, or the bits of a bf16 or FP8. */
SIMT_INLINE uint32_t packed_quant(enum cuda_type type, const uint8_t *tile, uint32_t row,
                                  uint32_t column)
{
    const uint8_t *more = tile + packed_sections(type) * PACKED_SECTION;
    uint32_t j = column / 16;
    uint32_t c = column % 4;
    uint32_t lane = row % 8 * 4 + column % 16 / 4;
    uint32_t r = row / 8 + c / 2 * 2;
    uint32_t quant;

    if (type == CUDA_TYPE_BF16)
        return packed_word(tile + j * PACKED_SECTION + lane * 16 + r * 4) >> 16 * (c % 2) & 0xffff;
    if (type == CUDA_TYPE_F8_E4M3)
        return tile[j / 2 * PACKED_SECTION + lane * 16 + (j % 2 * 2 + row / 8) * 4 + c % 2 * 2 +
                    c / 2];
    if (type == CUDA_TYPE_Q8_0)
        return tile[j / 2 * PACKED_SECTION + lane * 16 + (j % 2 * 2 + row / 8) * 4 + c];
    quant = packed_word(tile + lane * 16 + j * 4) >> (4 * r + 16 * (c % 2)) & 15;
    if (packed_has_fifths(type))
        quant |= (packed_word(more + lane * 4) >> (4 * j + r + 16 * (c % 2)) & 1) << 4;
    if (type == CUDA_TYPE_Q6_K)
        quant |=
            (packed_word(more + lane * 8 + j / 2 * 4) >> (8 * (j % 2) + 2 * r + 16 * (c % 2)) & 3)
            << 4;
    return quant;
}

/* The weight that model_matrix_row makes of the same bytes, to the bit; F32 and F16 rounded to bf16. */
SIMT_INLINE float packed_value(const struct cuda_matrix *matrix, uint32_t row, uint32_t column)
{
    const enum cuda_type type = (enum cuda_type)matrix->type;
    uint32_t row_tile = row / CUDA_TILE_ROWS;
    uint32_t step = column / CUDA_TILE_COLUMNS;
    const uint8_t *tile = matrix->data + packed_tile_at(matrix, type, row_tile, step);
    uint32_t words[2] = {0, 0};
    uint32_t super = 0;
    uint32_t quant;
    float scales[2];
    float value;

    row %= CUDA_TILE_ROWS;
    column %= CUDA_TILE_COLUMNS;
    quant = packed_quant(type, tile, row, column);
    if (type == CUDA_TYPE_BF16)
        return packed_float(quant << 16);
    for (uint32_t i = 0; i < packed_scale_words(type); i++)
        words[i] =
            packed_word(tile + packed_quant_bytes(type) + (row * packed_scale_words(type) + i) * 4);
    if (packed_is_k(type))
        super = packed_word(matrix->data + packed_super_at(matrix, type, row_tile, step) + row * 4);
    packed_scales(type, words, super, column / 32, scales);
    if (type == CUDA_TYPE_F8_E4M3)
        return scales[0] * fp8_to_float(quant);
    value = (float)quant;
    if (type == CUDA_TYPE_Q8_0)
        return scales[0] * (value - 128.0f);
    if (type == CUDA_TYPE_Q6_K)
        return scales[column / 16 % 2] * (value - 32.0f);
    if (packed_has_minimum(type))
        return scales[0] * value + scales[1];
    return scales[0] * (value - (type == CUDA_TYPE_Q4_0 ? 8.0f : 16.0f));
}

#endif
