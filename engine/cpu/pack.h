/*
 * pack.h: weights as the kernels read them: one layout for all element types of model files.
 *
 * 16 rows make a group, 32 columns of a group a block. A block holds the quants of its 512 values at
 * the width they have in the file (4, 5, 6, 8, 16 or 32 bits), then what scales them, for all 16 rows
 * side by side, so that a vector of 16 lanes is 16 rows. The values are those of the file exactly:
 * scale * (quant - zero) + minimum is bit for bit what model_matrix_row says.
 *
 *   group     [head][block][block]... up to 8 blocks to a head, and so on; then zeros up to 64 bytes
 *   head      only of the K types: what 256 columns share. half d[16], and with minimums half dmin[16]
 *   block     [quants][scales]
 *
 *   quants    in quads of 4 consecutive columns: 16 rows x 4 columns are 64 bytes, a row's columns side by
 *             side (one operand of vpdpbusd). Quad i has the columns 4i to 4i + 3.
 *     4 bits  [4][64]: quad 2p in the low nibbles of vector p, quad 2p + 1 in the high ones
 *     5 bits  the same, then [8] words of 64 bits: bit n of word i is the fifth bit of byte n of quad i
 *     6 bits  the same as 4, then [2][64]: bits 2(i mod 4) and up of vector i / 4 are the upper two of quad i
 *     8 bits  [8][64]; signed bytes are stored with 128 added
 *     E4M3    [32][16], as bytes; as quants they are halves with the same exponents: a 256th of what they mean
 *     BF16    [16][16][2]: pairs of columns, a row's two side by side
 *     F16     [32][16]
 *     F32     [32][16]
 *
 *   scales    none; half d[16]; half d[16] and half m[16]; u8 sc[16] and u8 mn[16]; i8 sc[2][16],
 *             one for each half of the block; or float d[16]: of E4M3, 256 times what they are in the file
 *
 * One exception: a BF16 value of a magnitude below CPU_BFLOAT_MIN is packed as +0, so that no product of two such
 * values, and no sum of those, is subnormal (kernels.h).
 *
 * Rows behind the last and columns behind the last are zeros. CPU_PACK_VERSION names this layout: whoever
 * changes a byte of it raises the number, for packed weights are kept in files (cache.h).
 */
#ifndef TANDEM_ENGINE_CPU_PACK_H
#define TANDEM_ENGINE_CPU_PACK_H

#include <stddef.h>
#include <stdint.h>

#include "model/model.h"

#define CPU_PACK_VERSION 2

#define CPU_PACK_ROWS    16
#define CPU_PACK_COLUMNS 32
#define CPU_PACK_QUADS   8 /* of 4 columns in a block */
#define CPU_PACK_HEAD    8 /* blocks that share a head */
#define CPU_PACK_ALIGN   64

#define CPU_BFLOAT_MIN 0x1p-55f

/* One more than the largest enum model_type. */
#define CPU_TYPE_COUNT MODEL_TYPE_END

enum cpu_quants {
    CPU_QUANTS_4,
    CPU_QUANTS_5,
    CPU_QUANTS_6,
    CPU_QUANTS_8,
    CPU_QUANTS_E4M3,
    CPU_QUANTS_BF16,
    CPU_QUANTS_F16,
    CPU_QUANTS_F32,
};

enum cpu_scales {
    CPU_SCALES_NONE,    /* the quants are the values */
    CPU_SCALES_PLAIN,   /* d */
    CPU_SCALES_MINIMUM, /* d, m */
    CPU_SCALES_K,       /* d * sc, and -dmin * mn as the minimum */
    CPU_SCALES_K16,     /* d * sc, one sc for 16 columns */
    CPU_SCALES_FLOAT,   /* d, a float */
};

/* How a type of a model file is packed. */
struct cpu_pack_form {
    enum cpu_quants quants;
    enum cpu_scales scales;
    uint8_t zero; /* taken from every quant */
};

/*
 * CPU_PACK_TYPES(X): X(type, name, quants, scales, zero) for every type, in the order of GGUF's ids.
 * The one list from which pack.c and every set of kernels make their tables.
 */
#define CPU_PACK_TYPES(X)        \
    X(F32, f32, F32, NONE, 0)    \
    X(F16, f16, F16, NONE, 0)    \
    X(Q4_0, q4_0, 4, PLAIN, 8)   \
    X(Q4_1, q4_1, 4, MINIMUM, 0) \
    X(Q5_0, q5_0, 5, PLAIN, 16)  \
    X(Q5_1, q5_1, 5, MINIMUM, 0) \
    X(Q8_0, q8_0, 8, PLAIN, 128) \
    X(Q4_K, q4_k, 4, K, 0)       \
    X(Q5_K, q5_k, 5, K, 0)       \
    X(Q6_K, q6_k, 6, K16, 32)    \
    X(BF16, bf16, BF16, NONE, 0) \
    X(F8_E4M3, f8_e4m3, E4M3, FLOAT, 0)

extern const struct cpu_pack_form cpu_pack_forms[CPU_TYPE_COUNT]; /* by enum model_type */

/* A packed matrix. Group g starts at data + g * group_bytes. */
struct cpu_matrix {
    enum model_type type;
    uint32_t rows;
    uint32_t columns;
    const uint8_t *data; /* aligned to CPU_PACK_ALIGN */
    size_t group_bytes;
};

static inline uint32_t cpu_pack_groups(uint32_t rows)
{
    return (rows + CPU_PACK_ROWS - 1) / CPU_PACK_ROWS;
}

static inline uint32_t cpu_pack_blocks(uint32_t columns)
{
    return (columns + CPU_PACK_COLUMNS - 1) / CPU_PACK_COLUMNS;
}

/* Sizes of the parts of a block, and of a head. Constants where the form is one. */
static inline size_t cpu_pack_quant_bytes(enum cpu_quants quants)
{
    switch (quants) {
    case CPU_QUANTS_4: return 256;
    case CPU_QUANTS_5: return 256 + 64;
    case CPU_QUANTS_6: return 256 + 128;
    case CPU_QUANTS_8:
    case CPU_QUANTS_E4M3: return 512;
    case CPU_QUANTS_F32: return 2048;
    default: return 1024;
    }
}

static inline size_t cpu_pack_block_bytes(enum cpu_quants quants, enum cpu_scales scales)
{
    static const uint8_t scale_bytes[] = {
        [CPU_SCALES_NONE] = 0, [CPU_SCALES_PLAIN] = 32, [CPU_SCALES_MINIMUM] = 64,
        [CPU_SCALES_K] = 32,   [CPU_SCALES_K16] = 32,   [CPU_SCALES_FLOAT] = 64};

    return cpu_pack_quant_bytes(quants) + scale_bytes[scales];
}

static inline size_t cpu_pack_head_bytes(enum cpu_scales scales)
{
    return scales == CPU_SCALES_K ? 64 : scales == CPU_SCALES_K16 ? 32 : 0;
}

/* Where a block starts in its group; its head, if it has one, starts at cpu_pack_head. */
static inline size_t cpu_pack_head(enum cpu_quants quants, enum cpu_scales scales, uint32_t block)
{
    return block / CPU_PACK_HEAD *
           (cpu_pack_head_bytes(scales) + CPU_PACK_HEAD * cpu_pack_block_bytes(quants, scales));
}

static inline size_t cpu_pack_block(enum cpu_quants quants, enum cpu_scales scales, uint32_t block)
{
    return cpu_pack_head(quants, scales, block) + cpu_pack_head_bytes(scales) +
           block % CPU_PACK_HEAD * cpu_pack_block_bytes(quants, scales);
}

/* The bytes of one group of rows with so many columns. */
size_t cpu_pack_group_bytes(enum model_type type, uint32_t columns);

/* Packs the groups first to first + count - 1 of a matrix to out, where group 0 would be. */
void cpu_pack_rows(const struct model_matrix *source, uint32_t first, uint32_t count, uint8_t *out);

/*
 * A block in plain numbers: row r's value in column c of it is
 * scale[c / 16][r] * quants[c][r] + minimum[r]; without scales it is quants[c][r].
 */
struct cpu_pack_values {
    float quants[CPU_PACK_COLUMNS][CPU_PACK_ROWS];
    float scale[2][CPU_PACK_ROWS];
    float minimum[CPU_PACK_ROWS];
};

/* The definition of the layout above, read back. */
void cpu_pack_read(const struct cpu_matrix *matrix, uint32_t group, uint32_t block,
                   struct cpu_pack_values *values_out);

#endif
