/*
 * quant.h: the element types of model files, and what their blocks mean as floats.
 *
 * Owns the table of types, the half-precision conversions and plain C dequantisation. This is the
 * definition that every fast kernel is compared with, bit for bit. It does not know files, matrices or
 * threads. Block layouts and type ids are those of GGUF (ggml-org/ggml, docs/gguf.md).
 *
 * Scales are half floats (11 significant bits) and quants at most 8 bits, so scale * quant is exact in
 * a float and only the addition of a minimum rounds: with or without fused multiply-add, the result is
 * the same.
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
    MODEL_TYPE_Q8_0 = 8, /* 32 values: half d, 32 signed bytes; x = d * q */
    MODEL_TYPE_BF16 = 30,
};

#define MODEL_TYPES_SERVED "F32, F16, BF16, Q8_0, Q4_0 and Q4_1" /* for messages */

#define MODEL_QUANT_VALUES 32 /* per block of Q4_0, Q4_1 and Q8_0 */
#define MODEL_Q4_0_BYTES   18
#define MODEL_Q4_1_BYTES   20
#define MODEL_Q8_0_BYTES   34

struct model_type_info {
    const char *name;      /* as in "Q4_1" */
    uint16_t block_values; /* a row is a whole number of blocks */
    uint16_t block_bytes;  /* 0: the layout is not known here */
    bool is_supported;     /* model_dequantize takes it */
};

/* What is known of a GGUF type id, or NULL for an id that has no meaning. */
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

/*
 * model_dequantize: count values of a row as floats.
 * count must be a whole number of blocks, and the type a supported one. source needs no alignment.
 */
void model_dequantize(enum model_type type, const uint8_t *source, size_t count, float *out);

#endif
