/*
 * quant.h: the element types of model files, and what their blocks mean as floats. (F8_E4M3 has scales
 * beside the matrix: see scales.h.)
 *
 * Owns the table of types, the half-precision conversions and plain C dequantisation. This is the
 * definition that every fast kernel is compared with, bit for bit. It does not know files, matrices or
 * threads. Block layouts and type ids are those of GGUF (ggml-org/ggml, docs/gguf.md).
 *
 * Scales are half floats (11 significant bits) and quants at most 8 bits, so scale * quant is exact in
 * a float and only the addition of a minimum rounds: with or without fused multiply-add, the result is
 * the same. That holds for the K types too: d * scale has at most 11 + 6 bits (Q6_K: 11 + 7), and times a quant
 * of 5 bits (6) at most 24.
 */
#ifndef TANDEM_MODEL_QUANT_H
#define TANDEM_MODEL_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The types that can be computed with. The values are GGUF's ids; other ids are known by name only. */
enum model_type {
    MODEL_TYPE_F32 = 0,
    MODEL_TYPE_F16 = 1,
    MODEL_TYPE_Q4_0 = 2, /* 32 values: half d, 16 bytes of nibbles; x = d * (q - 8) */
    MODEL_TYPE_Q4_1 = 3, /* 32 values: half d, half m, 16 bytes of nibbles; x = d * q + m */
    MODEL_TYPE_Q5_0 =
        6, /* 32 values: half d, 32 fifth bits, 16 bytes of nibbles; x = d * (q - 16) */
    MODEL_TYPE_Q5_1 = 7,  /* 32 values: half d, half m, fifth bits, nibbles; x = d * q + m */
    MODEL_TYPE_Q8_0 = 8,  /* 32 values: half d, 32 signed bytes; x = d * q */
    MODEL_TYPE_Q4_K = 12, /* 256 values: see model_unpack_scales; x = d * scale * q - m * minimum */
    MODEL_TYPE_Q5_K = 13, /* the same with a fifth bit of each value */
    MODEL_TYPE_Q6_K = 14, /* 256 values: 6 bits each, 16 signed scales; x = d * scale * (q - 32) */
    MODEL_TYPE_BF16 = 30,
    MODEL_TYPE_F8_E4M3 = 128, /* of safetensors: sign, 4 bits of exponent, 3; no infinities */
};

#define MODEL_TYPE_GGUF_END 128 /* ids from here on are ours, and mean nothing in a GGUF file */
#define MODEL_TYPE_END      129

/* For messages. */
#define MODEL_TYPES_SERVED       "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K"
#define MODEL_PLAIN_TYPES_SERVED "F32, F16, BF16 and F8_E4M3" /* in safetensors */

#define MODEL_QUANT_VALUES 32 /* per block of Q4_0 to Q8_0, and per sub-block of Q4_K and Q5_K */
#define MODEL_Q4_0_BYTES   18
#define MODEL_Q4_1_BYTES   20
#define MODEL_Q5_0_BYTES   22
#define MODEL_Q5_1_BYTES   24
#define MODEL_Q8_0_BYTES   34

#define MODEL_K_VALUES     256 /* per block of Q4_K, Q5_K and Q6_K */
#define MODEL_K_SUB_BLOCKS 8   /* of Q4_K and Q5_K, of 32 values each */
#define MODEL_Q4_K_BYTES   144 /* half d, half m, 12 bytes of scales and minimums, nibbles */
#define MODEL_Q5_K_BYTES   176 /* half d, half m, 12 bytes, 32 bytes of fifth bits, nibbles */
#define MODEL_Q6_K_BYTES   210 /* 128 bytes of nibbles, 64 of upper bits, 16 scales, half d */

struct model_type_info {
    const char *name;      /* as in "Q4_1" */
    uint16_t block_values; /* a row is a whole number of blocks */
    uint16_t block_bytes;  /* 0: the layout is not known here */
    bool is_supported;     /* model_dequantize takes it */
};

/* What is known of a type id, or NULL for an id that has no meaning. */
const struct model_type_info *model_type_info(uint32_t id);

/*
 * model_type_row_bytes: the size of a row of count values.
 * False if count is no whole number of blocks, the layout is unknown, or the size overflows.
 */
bool model_type_row_bytes(uint32_t id, uint64_t count, size_t *bytes_out);

/* Exact; a signaling NaN becomes quiet, as in the processor's own conversion. */
float model_half_to_float(uint16_t half);

/* To nearest, ties to even; overflow gives infinity. */
uint16_t model_float_to_half(float value);

static inline float model_bfloat_to_float(uint16_t bits)
{
    union {
        uint32_t bits;
        float value;
    } wide = {.bits = (uint32_t)bits << 16};

    return wide.value;
}

/* Exact, subnormals too. Of the two NaN (all bits set but the sign) it makes +-480: who reads files refuses them. */
static inline float model_e4m3_to_float(uint8_t bits)
{
    union {
        uint32_t bits;
        float value;
    } small = {.bits = (uint32_t)(bits & 0x80) << 24 | (uint32_t)(bits & 0x7f) << 20};

    return small.value * 0x1p120f; /* the exponents begin 120 lower */
}

#define MODEL_E4M3_MAX 448.0f

/*
 * model_unpack_scales: the eight 6-bit scales and minimums of a block of Q4_K or Q5_K.
 * packed is the 12 bytes that hold them.
 */
void model_unpack_scales(const uint8_t packed[static 12], uint8_t scales[static MODEL_K_SUB_BLOCKS],
                         uint8_t minimums[static MODEL_K_SUB_BLOCKS]);

/*
 * model_dequantize: count values of a row as floats. Those of F8_E4M3 are without their scales.
 * count must be a whole number of blocks, and the type a supported one. source needs no alignment.
 */
void model_dequantize(enum model_type type, const uint8_t *source, size_t count, float *out);

#endif
