/*
 * pack.h: the kernels that put weights of model files into the order of packed.h, rounded to FP8 where that is wanted.
 *
 * A warp makes a tile, a lane its own words of it, so that no two threads write the same word. Done once, at loading:
 * bytes are read one by one, since blocks in files are aligned to two bytes only.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PACK_H
#define TANDEM_ENGINE_CUDA_KERNELS_PACK_H

#include "engine/cuda/kernels/packed.h"
#include "engine/cuda/kernels/unpack.h"

#define PACK_THREADS 128

/* The rows of a tile in the order of files, NULL for those that are not there. */
SIMT_INLINE const uint8_t *pack_row(const struct cuda_pack_args *args, uint32_t tile, uint32_t row)
{
    const uint32_t each = args->matrix.is_paired ? CUDA_TILE_ROWS / 2 : CUDA_TILE_ROWS;
    uint32_t in_source = tile * each + row % each;

    return in_source < args->rows ? args->sources[row / each] + (size_t)in_source * args->row_bytes
                                  : NULL;
}

/* The scale of a row of such a tile, of FP8, in a step. */
SIMT_INLINE float pack_scale(const struct cuda_pack_args *args, uint32_t tile, uint32_t row,
                             uint32_t step)
{
    const struct cuda_scales *scales = &args->scales;
    const uint32_t each = args->matrix.is_paired ? CUDA_TILE_ROWS / 2 : CUDA_TILE_ROWS;
    const float *rows = scales->rows[row / each];
    uint32_t in_source = tile * each + row % each;

    if (rows == NULL)
        return scales->all;
    return rows[(size_t)((scales->phase + in_source) / scales->down) * scales->across +
                step * CUDA_TILE_COLUMNS / scales->columns];
}

/* A weight as packed.h stores it. What is plain in the file and FP8 here is divided by its scale and rounded. */
SIMT_INLINE uint32_t pack_quant(const struct cuda_pack_args *args, const uint8_t *row,
                                uint32_t column, float scale)
{
    const enum cuda_type source = (enum cuda_type)args->source_type;

    if (args->matrix.type == CUDA_TYPE_F8_E4M3 && source != CUDA_TYPE_F8_E4M3)
        return fp8_of_float(unpack_float(source, row, column) / scale);
    return unpack_quant(source, row, column);
}

/* A lane's words of quants, from its rows of the tile, of which FP8 has scales. */
SIMT_INLINE void pack_quants(const struct cuda_pack_args *args, enum cuda_type type,
                             const uint8_t *const rows[2], const float scales[2], uint32_t step,
                             uint32_t words[16])
{
    uint32_t first = step * CUDA_TILE_COLUMNS + simt_lane() % 4 * 4;

    for (uint32_t i = 0; i < 16; i++)
        words[i] = 0;
    for (uint32_t i = 0; i < 32; i++) { /* weights: of mma j fragment word r, the first or second */
        uint32_t j = i / 8;
        uint32_t r = i / 2 % 4;
        uint32_t second = i % 2;
        uint32_t column = first + 16 * j + r / 2 * 2 + second;
        uint32_t quant = rows[r % 2] != NULL && column < args->matrix.columns
                             ? pack_quant(args, rows[r % 2], column, scales[r % 2])
                             : 0;

        if (type == CUDA_TYPE_BF16) {
            words[4 * j + r] |= quant << 16 * second;
            continue;
        }
        if (type == CUDA_TYPE_F8_E4M3) {
            words[2 * j + r % 2] |= quant << (r / 2 * 8 + second * 16);
            continue;
        }
        if (type == CUDA_TYPE_Q8_0) {
            words[2 * j + r % 2] |= quant << (r / 2 * 16 + second * 8);
            continue;
        }
        words[j] |= (quant & 15) << (4 * r + 16 * second);
        if (packed_has_fifths(type))
            words[4] |= (quant >> 4) << (4 * j + r + 16 * second);
        if (type == CUDA_TYPE_Q6_K)
            words[4 + j / 2] |= (quant >> 4) << (8 * (j % 2) + 2 * r + 16 * second);
    }
}

/* A row's words of scales. Lanes 0 to 15 do a row each. */
SIMT_INLINE void pack_scales(const struct cuda_pack_args *args, enum cuda_type type,
                             uint32_t row_tile, uint32_t step, const uint8_t *source)
{
    uint8_t *tile =
        args->data + packed_tile_at(&args->matrix, type, args->first_tile + row_tile, step);
    uint32_t *words = (uint32_t *)(void *)(tile + packed_quant_bytes(type)) +
                      simt_lane() * packed_scale_words(type);

    if (type == CUDA_TYPE_F8_E4M3) {
        float scale = source != NULL ? pack_scale(args, row_tile, simt_lane(), step) : 0.0f;

        memcpy(words, &scale, sizeof scale);
        return;
    }
    for (uint32_t i = 0; i < packed_scale_words(type); i++)
        words[i] =
            source != NULL ? unpack_scale_word(type, source, args->matrix.columns, step, i) : 0;
    if (packed_is_k(type) && step % (PACKED_SUPER / CUDA_TILE_COLUMNS) == 0) {
        uint32_t *super =
            (uint32_t *)(void *)(args->data + packed_super_at(&args->matrix, type,
                                                              args->first_tile + row_tile, step));

        super[simt_lane()] = source != NULL ? unpack_super_word(type, source, step) : 0;
    }
}

SIMT_KERNEL(pack, PACK_THREADS, struct cuda_pack_args)
{
    const enum cuda_type type = (enum cuda_type)args.matrix.type;
    const uint32_t sections = packed_sections(type);
    uint32_t step = simt_block_x() * (PACK_THREADS / SIMT_WARP) + simt_warp();
    uint32_t row_tile = simt_block_y();
    uint32_t lane = simt_lane();
    uint32_t words[16];
    const uint8_t *rows[2];
    float scales[2] = {1.0f, 1.0f};
    uint8_t *tile;

    if (step >= packed_steps(&args.matrix)) /* the whole warp */
        return;
    tile = args.data + packed_tile_at(&args.matrix, type, args.first_tile + row_tile, step);
    rows[0] = pack_row(&args, row_tile, lane / 4);
    rows[1] = pack_row(&args, row_tile, lane / 4 + 8);
    for (uint32_t i = 0; i < 2; i++)
        if (type == CUDA_TYPE_F8_E4M3 && rows[i] != NULL)
            scales[i] = pack_scale(&args, row_tile, lane / 4 + 8 * i, step);
    pack_quants(&args, type, rows, scales, step, words);
    for (uint32_t i = 0; i < 4 * sections; i++)
        ((uint32_t *)(void *)(tile + i / 4 * PACKED_SECTION))[lane * 4 + i % 4] = words[i];
    tile += sections * PACKED_SECTION;
    if (packed_has_fifths(type))
        ((uint32_t *)(void *)tile)[lane] = words[4];
    if (type == CUDA_TYPE_Q6_K)
        for (uint32_t i = 0; i < 2; i++)
            ((uint32_t *)(void *)tile)[lane * 2 + i] = words[4 + i];
    if (lane < CUDA_TILE_ROWS)
        pack_scales(&args, type, row_tile, step, pack_row(&args, row_tile, lane));
}

#define ROW_SCALES_THREADS 256
#define ROW_SCALES_MIN     0x1p-96f /* MODEL_SCALE_MIN: rows of zeros, or of nearly nothing */

/* The largest magnitude by its bits, so that what is no number is larger than everything. */
SIMT_INLINE float row_scale(uint32_t largest)
{
    float scale = packed_float(largest);

    if (largest >= 0x7f800000) /* an infinity divided by one would pass for a zero */
        return packed_float(0x7fc00000);
    scale /= FP8_MAX;
    return scale > ROW_SCALES_MIN ? scale : ROW_SCALES_MIN;
}

SIMT_KERNEL(row_scales, ROW_SCALES_THREADS, struct cuda_row_scales_args)
{
    SIMT_SHARED uint32_t largest;
    const uint8_t *row = args.source + simt_block_x() * args.row_bytes;
    uint32_t mine = 0;

    if (simt_thread() == 0)
        largest = 0;
    simt_barrier();
    for (uint32_t i = simt_thread(); i < args.columns; i += ROW_SCALES_THREADS) {
        float value = unpack_float((enum cuda_type)args.source_type, row, i);
        uint32_t bits;

        memcpy(&bits, &value, sizeof bits);
        bits &= 0x7fffffff;
        mine = bits > mine ? bits : mine;
    }
    simt_raise(&largest, mine);
    simt_barrier();
    if (simt_thread() == 0)
        args.scales[simt_block_x()] = row_scale(largest);
}

#endif
