/*
 * pack.c: see pack.h.
 *
 * Packing goes row by row and block by block: a row's 32 values are taken apart as its type has them
 * (take_<type>), and put into their places among those of the 15 other rows (put_<...>).
 */
#include "engine/cpu/pack.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define HALF_COLUMNS (CPU_PACK_COLUMNS / 2)

const struct cpu_pack_form cpu_pack_forms[CPU_TYPE_COUNT] = {
#define X(type, name, quants, scales, zero) \
    [MODEL_TYPE_##type] = {CPU_QUANTS_##quants, CPU_SCALES_##scales, (zero)},
    CPU_PACK_TYPES(X)
#undef X
};

size_t cpu_pack_group_bytes(enum model_type type, uint32_t columns)
{
    const struct cpu_pack_form *form = &cpu_pack_forms[type];
    uint32_t blocks = cpu_pack_blocks(columns);
    size_t heads = (blocks + CPU_PACK_HEAD - 1) / CPU_PACK_HEAD;
    size_t bytes = blocks * cpu_pack_block_bytes(form->quants, form->scales) +
                   heads * cpu_pack_head_bytes(form->scales);

    return (bytes + CPU_PACK_ALIGN - 1) / CPU_PACK_ALIGN * CPU_PACK_ALIGN;
}

/* ------------------------------------------------------------------ taking a row apart */

/* 32 values of a row of quants, as their type has them. */
struct piece {
    uint8_t quants[CPU_PACK_COLUMNS]; /* unsigned; pack.h says what is taken away later */
    uint8_t halves[2][2];             /* d, and m or dmin: half floats as they stand in the file */
    uint8_t scale[2];                 /* sc of the K types, of each half of the block */
    uint8_t minimum;                  /* mn */
};

/* Four bytes at a time, which is most of the speed of packing. */
static uint32_t load4(const uint8_t *bytes)
{
    uint32_t word;

    memcpy(&word, bytes, sizeof word);
    return word;
}

static void store4(uint8_t *bytes, uint32_t word)
{
    memcpy(bytes, &word, sizeof word);
}

#define LOW_NIBBLES 0x0f0f0f0fu
#define LOW_BITS    0x01010101u

static void take_nibbles(const uint8_t *nibbles, uint8_t quants[static CPU_PACK_COLUMNS])
{
    for (int i = 0; i < HALF_COLUMNS; i += 4) {
        store4(quants + i, load4(nibbles + i) & LOW_NIBBLES);
        store4(quants + i + HALF_COLUMNS, load4(nibbles + i) >> 4 & LOW_NIBBLES);
    }
}

/* bits: the fifth bits of 32 quants. The product puts four neighbours into four bytes. */
static void take_fifth_bits(const uint8_t *bits, uint8_t quants[static CPU_PACK_COLUMNS])
{
    for (int i = 0; i < CPU_PACK_COLUMNS; i += 4) {
        uint32_t four = bits[i / 8] >> i % 8 & 15u;

        store4(quants + i, load4(quants + i) | (four * 0x00204081u & LOW_BITS) << 4);
    }
}

static void take_q4_0(const uint8_t *block, struct piece *piece)
{
    memcpy(piece->halves, block, 2);
    take_nibbles(block + 2, piece->quants);
}

static void take_q4_1(const uint8_t *block, struct piece *piece)
{
    memcpy(piece->halves, block, 4);
    take_nibbles(block + 4, piece->quants);
}

static void take_q5_0(const uint8_t *block, struct piece *piece)
{
    memcpy(piece->halves, block, 2);
    take_nibbles(block + 6, piece->quants);
    take_fifth_bits(block + 2, piece->quants);
}

static void take_q5_1(const uint8_t *block, struct piece *piece)
{
    memcpy(piece->halves, block, 4);
    take_nibbles(block + 8, piece->quants);
    take_fifth_bits(block + 4, piece->quants);
}

static void take_q8_0(const uint8_t *block, struct piece *piece)
{
    memcpy(piece->halves, block, 2);
    for (int i = 0; i < CPU_PACK_COLUMNS; i++)
        piece->quants[i] = block[2 + i] ^ 0x80;
}

static void take_k_scales(const uint8_t *packed, uint32_t part, struct piece *piece)
{
    uint8_t scales[MODEL_K_SUB_BLOCKS];
    uint8_t minimums[MODEL_K_SUB_BLOCKS];

    model_unpack_scales(packed, scales, minimums);
    piece->scale[0] = scales[part];
    piece->minimum = minimums[part];
}

/* The nibbles of 64 columns share 32 bytes: the lower ones are the first 32. */
static void take_k_nibbles(const uint8_t *nibbles, uint32_t part,
                           uint8_t quants[static CPU_PACK_COLUMNS])
{
    const uint8_t *bytes = nibbles + part / 2 * CPU_PACK_COLUMNS;

    for (int i = 0; i < CPU_PACK_COLUMNS; i++)
        quants[i] = part % 2 == 0 ? bytes[i] & 15 : bytes[i] >> 4;
}

static void take_q4_k(const uint8_t *block, uint32_t part, struct piece *piece)
{
    memcpy(piece->halves, block, 4);
    take_k_scales(block + 4, part, piece);
    take_k_nibbles(block + 16, part, piece->quants);
}

static void take_q5_k(const uint8_t *block, uint32_t part, struct piece *piece)
{
    memcpy(piece->halves, block, 4);
    take_k_scales(block + 4, part, piece);
    take_k_nibbles(block + 48, part, piece->quants);
    for (int i = 0; i < CPU_PACK_COLUMNS; i++)
        piece->quants[i] |= (uint8_t)((block[16 + i] >> part & 1) << 4);
}

/* 128 columns share 64 bytes of nibbles and 32 bytes of upper bits. */
static void take_q6_k(const uint8_t *block, uint32_t part, struct piece *piece)
{
    uint32_t quarter = part % 4;
    const uint8_t *nibbles = block + part / 4 * 64 + quarter % 2 * 32;
    const uint8_t *upper = block + 128 + part / 4 * 32;

    for (int i = 0; i < CPU_PACK_COLUMNS; i++) {
        uint32_t low = quarter < 2 ? nibbles[i] & 15u : nibbles[i] >> 4;

        piece->quants[i] = (uint8_t)(low | (upper[i] >> 2 * quarter & 3u) << 4);
    }
    memcpy(piece->scale, block + 192 + 2 * part, 2);
    memcpy(piece->halves, block + 208, 2);
}

static void take(enum model_type type, const uint8_t *row, uint32_t block, struct piece *piece)
{
    size_t bytes = model_type_info(type)->block_bytes;
    const uint8_t *small = row + block * bytes; /* a block of 32 */
    const uint8_t *super = row + block / MODEL_K_SUB_BLOCKS * bytes;
    uint32_t part = block % MODEL_K_SUB_BLOCKS;

    switch (type) {
    case MODEL_TYPE_Q4_0: take_q4_0(small, piece); return;
    case MODEL_TYPE_Q4_1: take_q4_1(small, piece); return;
    case MODEL_TYPE_Q5_0: take_q5_0(small, piece); return;
    case MODEL_TYPE_Q5_1: take_q5_1(small, piece); return;
    case MODEL_TYPE_Q8_0: take_q8_0(small, piece); return;
    case MODEL_TYPE_Q4_K: take_q4_k(super, part, piece); return;
    case MODEL_TYPE_Q5_K: take_q5_k(super, part, piece); return;
    case MODEL_TYPE_Q6_K: take_q6_k(super, part, piece); return;
    case MODEL_TYPE_F32:
    case MODEL_TYPE_F16:
    case MODEL_TYPE_BF16:
    case MODEL_TYPE_F8_E4M3: break;
    }
    assert(false && "a type without quants");
}

/* ------------------------------------------------------------------ putting it in its place */

static void put_nibbles(const uint8_t *quants, uint32_t row, uint8_t *out)
{
    for (uint32_t pair = 0; pair < CPU_PACK_QUADS / 2; pair++)
        store4(out + pair * 64 + row * 4, (load4(quants + pair * 8) & LOW_NIBBLES) |
                                              (load4(quants + pair * 8 + 4) & LOW_NIBBLES) << 4);
}

/* The product gathers the bits of four bytes in its upper nibble. */
static void put_fifth_bits(const uint8_t *quants, uint32_t row, uint8_t *out)
{
    for (uint32_t quad = 0; quad < CPU_PACK_QUADS; quad++) {
        uint32_t four = (load4(quants + quad * 4) >> 4 & LOW_BITS) * 0x10204080u >> 28;

        out[quad * 8 + row / 2] |= (uint8_t)(four << row % 2 * 4);
    }
}

static void put_upper_bits(const uint8_t *quants, uint32_t row, uint8_t *out)
{
    for (uint32_t quad = 0; quad < CPU_PACK_QUADS; quad++) {
        uint8_t *place = out + quad / 4 * 64 + row * 4;

        store4(place, load4(place) | (load4(quants + quad * 4) >> 4 & 0x03030303u) << quad % 4 * 2);
    }
}

static void put_bytes(const uint8_t *quants, uint32_t row, uint8_t *out)
{
    for (uint32_t quad = 0; quad < CPU_PACK_QUADS; quad++)
        memcpy(out + quad * 64 + row * 4, quants + quad * 4, 4);
}

static void put_quants(enum cpu_quants quants, const struct piece *piece, uint32_t row,
                       uint8_t *out)
{
    if (quants == CPU_QUANTS_8) {
        put_bytes(piece->quants, row, out);
        return;
    }
    put_nibbles(piece->quants, row, out);
    if (quants == CPU_QUANTS_5)
        put_fifth_bits(piece->quants, row, out + 256);
    else if (quants == CPU_QUANTS_6)
        put_upper_bits(piece->quants, row, out + 256);
}

static void put_scales(enum cpu_scales scales, const struct piece *piece, uint32_t row,
                       uint8_t *head, uint8_t *out)
{
    uint8_t *halves = cpu_pack_head_bytes(scales) > 0 ? head : out;

    memcpy(halves + row * 2, piece->halves[0], 2);
    if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
        memcpy(halves + 32 + row * 2, piece->halves[1], 2);
    if (scales == CPU_SCALES_K || scales == CPU_SCALES_K16) {
        out[row] = piece->scale[0];
        out[CPU_PACK_ROWS + row] = scales == CPU_SCALES_K ? piece->minimum : piece->scale[1];
    }
}

static void pack_quants_row(const struct model_matrix *source, const uint8_t *data, uint32_t row,
                            uint8_t *out)
{
    const struct cpu_pack_form *form = &cpu_pack_forms[source->type];
    uint32_t blocks = cpu_pack_blocks(source->columns);
    struct piece piece;

    for (uint32_t block = 0; block < blocks; block++) {
        uint8_t *target = out + cpu_pack_block(form->quants, form->scales, block);

        take(source->type, data, block, &piece);
        put_quants(form->quants, &piece, row, target);
        put_scales(form->scales, &piece, row,
                   out + cpu_pack_head(form->quants, form->scales, block),
                   target + cpu_pack_quant_bytes(form->quants));
    }
}

/* BF16 has the two columns of a pair side by side. */
static void pack_bfloats_row(const struct model_matrix *source, const uint8_t *data, uint32_t row,
                             uint8_t *out)
{
    for (uint32_t column = 0; column < source->columns; column++) {
        size_t place = (size_t)column / 2 * 2 * CPU_PACK_ROWS + row * 2 + column % 2;
        uint16_t bits;

        memcpy(&bits, data + (size_t)column * sizeof bits, sizeof bits);
        if (fabsf(model_bfloat_to_float(bits)) < CPU_BFLOAT_MIN)
            bits = 0;
        memcpy(out + place * sizeof bits, &bits, sizeof bits);
    }
}

/* The other float types have all rows of a column side by side. */
static void pack_floats_row(const struct model_matrix *source, const uint8_t *data, uint32_t row,
                            uint8_t *out)
{
    size_t width = source->type == MODEL_TYPE_F32 ? 4 : 2;

    for (uint32_t column = 0; column < source->columns; column++) {
        size_t place = (size_t)column * CPU_PACK_ROWS + row;

        memcpy(out + place * width, data + column * width, width);
    }
}

/* E4M3 too, block by block with the scale that the file has for these columns. */
static void pack_e4m3_row(const struct model_matrix *source, uint32_t row, uint8_t *out)
{
    const uint8_t *data = source->data + row * source->row_bytes;
    uint8_t *target = out;

    for (uint32_t column = 0; column < source->columns; column++) {
        uint32_t in_block = column % CPU_PACK_COLUMNS;

        if (in_block == 0) {
            float scale = 256.0f * model_scale_at(source, row, column);

            target =
                out + cpu_pack_block(CPU_QUANTS_E4M3, CPU_SCALES_FLOAT, column / CPU_PACK_COLUMNS);
            memcpy(target + cpu_pack_quant_bytes(CPU_QUANTS_E4M3) +
                       row % CPU_PACK_ROWS * sizeof scale,
                   &scale, sizeof scale);
        }
        target[in_block * CPU_PACK_ROWS + row % CPU_PACK_ROWS] = data[column];
    }
}

void cpu_pack_rows(const struct model_matrix *source, uint32_t first, uint32_t count, uint8_t *out)
{
    size_t group_bytes = cpu_pack_group_bytes(source->type, source->columns);
    bool is_floats = cpu_pack_forms[source->type].scales == CPU_SCALES_NONE;

    memset(out + first * group_bytes, 0, count * group_bytes);
    for (uint32_t row = first * CPU_PACK_ROWS;
         row < (first + count) * CPU_PACK_ROWS && row < source->rows; row++) {
        const uint8_t *data = source->data + row * source->row_bytes;
        uint8_t *group = out + row / CPU_PACK_ROWS * group_bytes;

        if (source->type == MODEL_TYPE_F8_E4M3)
            pack_e4m3_row(source, row, group);
        else if (source->type == MODEL_TYPE_BF16)
            pack_bfloats_row(source, data, row % CPU_PACK_ROWS, group);
        else if (is_floats)
            pack_floats_row(source, data, row % CPU_PACK_ROWS, group);
        else
            pack_quants_row(source, data, row % CPU_PACK_ROWS, group);
    }
}

/* ------------------------------------------------------------------ reading it back */

static float half_at(const uint8_t *bytes)
{
    uint16_t half;

    memcpy(&half, bytes, sizeof half);
    return model_half_to_float(half);
}

static uint32_t quant_at(enum cpu_quants quants, const uint8_t *block, uint32_t column,
                         uint32_t row)
{
    uint32_t quad = column / 4;
    uint32_t byte = row * 4 + column % 4; /* of a quad */
    uint32_t nibble = block[quad / 2 * 64 + byte] >> quad % 2 * 4 & 15u;

    switch (quants) {
    case CPU_QUANTS_8: return block[quad * 64 + byte];
    case CPU_QUANTS_5: return nibble | (block[256 + quad * 8 + byte / 8] >> byte % 8 & 1u) << 4;
    case CPU_QUANTS_6:
        return nibble | (block[256 + quad / 4 * 64 + byte] >> quad % 4 * 2 & 3u) << 4;
    default: return nibble;
    }
}

static float float_at(enum cpu_quants quants, const uint8_t *block, uint32_t column, uint32_t row)
{
    uint16_t bits;
    float value;

    switch (quants) {
    case CPU_QUANTS_BF16:
        memcpy(&bits, block + column / 2 * 64 + row * 4 + column % 2 * 2, sizeof bits);
        return model_bfloat_to_float(bits);
    case CPU_QUANTS_F16: return half_at(block + column * 32 + row * 2);
    case CPU_QUANTS_E4M3: return model_e4m3_to_float(block[column * 16 + row]) / 256.0f;
    default: memcpy(&value, block + column * 64 + row * 4, sizeof value); return value;
    }
}

static void read_scales(enum cpu_scales scales, const uint8_t *head, const uint8_t *bytes,
                        uint32_t row, struct cpu_pack_values *out)
{
    const uint8_t *halves = cpu_pack_head_bytes(scales) > 0 ? head : bytes;
    float scale = half_at(halves + row * 2);

    if (scales == CPU_SCALES_FLOAT)
        memcpy(&scale, bytes + row * sizeof scale, sizeof scale);
    out->scale[0][row] = out->scale[1][row] = scale;
    out->minimum[row] = 0.0f;
    if (scales == CPU_SCALES_MINIMUM)
        out->minimum[row] = half_at(halves + 32 + row * 2);
    if (scales == CPU_SCALES_K) {
        out->scale[0][row] = out->scale[1][row] = scale * (float)bytes[row];
        out->minimum[row] = -(half_at(halves + 32 + row * 2) * (float)bytes[CPU_PACK_ROWS + row]);
    }
    if (scales == CPU_SCALES_K16) {
        out->scale[0][row] = scale * (float)(int8_t)bytes[row];
        out->scale[1][row] = scale * (float)(int8_t)bytes[CPU_PACK_ROWS + row];
    }
}

void cpu_pack_read(const struct cpu_matrix *matrix, uint32_t group, uint32_t block,
                   struct cpu_pack_values *values_out)
{
    const struct cpu_pack_form *form = &cpu_pack_forms[matrix->type];
    const uint8_t *bytes = matrix->data + group * matrix->group_bytes;
    const uint8_t *head = bytes + cpu_pack_head(form->quants, form->scales, block);
    const uint8_t *start = bytes + cpu_pack_block(form->quants, form->scales, block);
    bool is_floats = form->scales == CPU_SCALES_NONE || form->quants == CPU_QUANTS_E4M3;

    for (uint32_t row = 0; row < CPU_PACK_ROWS; row++) {
        for (uint32_t column = 0; column < CPU_PACK_COLUMNS; column++)
            values_out->quants[column][row] =
                is_floats ? float_at(form->quants, start, column, row)
                          : (float)((int)quant_at(form->quants, start, column, row) - form->zero);
        if (form->scales != CPU_SCALES_NONE)
            read_scales(form->scales, head, start + cpu_pack_quant_bytes(form->quants), row,
                        values_out);
    }
}
