/* quant.c: type table, half floats, plain dequantisation; see quant.h. */
#include "model/quant.h"

#include <assert.h>
#include <string.h>

/*
 * Sizes of the types that cannot be computed with are here too: a file may hold them, and the
 * offsets behind them must be checked all the same.
 */
static const struct model_type_info types[MODEL_TYPE_END] = {
    [0] = {"F32", 1, 4, true},
    [1] = {"F16", 1, 2, true},
    [2] = {"Q4_0", 32, MODEL_Q4_0_BYTES, true},
    [3] = {"Q4_1", 32, MODEL_Q4_1_BYTES, true},
    [6] = {"Q5_0", 32, MODEL_Q5_0_BYTES, true},
    [7] = {"Q5_1", 32, MODEL_Q5_1_BYTES, true},
    [8] = {"Q8_0", 32, MODEL_Q8_0_BYTES, true},
    [9] = {"Q8_1", 32, 36, false},
    [10] = {"Q2_K", 256, 84, false},
    [11] = {"Q3_K", 256, 110, false},
    [12] = {"Q4_K", MODEL_K_VALUES, MODEL_Q4_K_BYTES, true},
    [13] = {"Q5_K", MODEL_K_VALUES, MODEL_Q5_K_BYTES, true},
    [14] = {"Q6_K", MODEL_K_VALUES, MODEL_Q6_K_BYTES, true},
    [15] = {"Q8_K", 256, 292, false},
    [16] = {"IQ2_XXS", 256, 66, false},
    [17] = {"IQ2_XS", 256, 74, false},
    [18] = {"IQ3_XXS", 256, 98, false},
    [19] = {"IQ1_S", 256, 50, false},
    [20] = {"IQ4_NL", 32, 18, false},
    [21] = {"IQ3_S", 256, 110, false},
    [22] = {"IQ2_S", 256, 82, false},
    [23] = {"IQ4_XS", 256, 136, false},
    [24] = {"I8", 1, 1, false},
    [25] = {"I16", 1, 2, false},
    [26] = {"I32", 1, 4, false},
    [27] = {"I64", 1, 8, false},
    [28] = {"F64", 1, 8, false},
    [29] = {"IQ1_M", 256, 56, false},
    [30] = {"BF16", 1, 2, true},
    [34] = {"TQ1_0", 256, 54, false},
    [35] = {"TQ2_0", 256, 66, false},
    [39] = {"MXFP4", 32, 17, false},
    [40] = {"NVFP4", 1, 0, false},
    [41] = {"Q1_0", 1, 0, false},
    [42] = {"Q2_0", 1, 0, false},
    [128] = {"F8_E4M3", 1, 1, true},
};

const struct model_type_info *model_type_info(uint32_t id)
{
    if (id >= MODEL_TYPE_END || types[id].name == NULL)
        return NULL;
    return &types[id];
}

bool model_type_row_bytes(uint32_t id, uint64_t count, size_t *bytes_out)
{
    const struct model_type_info *info = model_type_info(id);
    size_t bytes;

    if (info == NULL || info->block_bytes == 0 || count % info->block_values != 0 ||
        __builtin_mul_overflow(count / info->block_values, info->block_bytes, &bytes))
        return false;
    *bytes_out = bytes;
    return true;
}

static float float_of_bits(uint32_t bits)
{
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

static uint32_t bits_of_float(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return bits;
}

float model_half_to_float(uint16_t half)
{
    uint32_t sign = (uint32_t)(half & 0x8000) << 16;
    uint32_t exponent = (half >> 10) & 0x1f;
    uint32_t fraction = half & 0x3ff;

    if (exponent == 0x1f) /* infinity, or NaN made quiet */
        return float_of_bits(sign | 0x7f800000 | fraction << 13 | (fraction != 0 ? 0x400000 : 0));
    if (exponent == 0) { /* zero or subnormal: fraction * 2^-24, exact in a float */
        float magnitude = (float)fraction * 0x1p-24f;

        return float_of_bits(sign | bits_of_float(magnitude));
    }
    return float_of_bits(sign | (exponent + 112) << 23 | fraction << 13);
}

uint16_t model_float_to_half(float value)
{
    uint32_t bits = bits_of_float(value);
    uint32_t sign = bits >> 16 & 0x8000;
    uint32_t magnitude = bits & 0x7fffffff;

    if (magnitude > 0x7f800000) /* NaN: keep the upper payload bits, make it quiet */
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff));
    if (magnitude >= 0x477ff000) /* 65520 and up round to infinity */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude < 0x38800000) { /* below 2^-14: adding 0.5 rounds at the last subnormal bit */
        float rounded = float_of_bits(magnitude) + 0.5f;

        return (uint16_t)(sign | (bits_of_float(rounded) - bits_of_float(0.5f)));
    }
    magnitude += 0xfff + (magnitude >> 13 & 1); /* to nearest, ties to even */
    return (uint16_t)(sign | (magnitude - 0x38000000) >> 13);
}

static uint16_t load_u16(const uint8_t *bytes)
{
    return (uint16_t)(bytes[0] | bytes[1] << 8);
}

static void dequantize_q4_0(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block));
    const uint8_t *quants = block + 2;

    for (int i = 0; i < MODEL_QUANT_VALUES / 2; i++) {
        out[i] = scale * (float)((quants[i] & 15) - 8);
        out[i + 16] = scale * (float)((quants[i] >> 4) - 8);
    }
}

static void dequantize_q4_1(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block));
    float minimum = model_half_to_float(load_u16(block + 2));
    const uint8_t *quants = block + 4;

    for (int i = 0; i < MODEL_QUANT_VALUES / 2; i++) {
        out[i] = scale * (float)(quants[i] & 15) + minimum;
        out[i + 16] = scale * (float)(quants[i] >> 4) + minimum;
    }
}

static uint32_t load_u32(const uint8_t *bytes)
{
    return load_u16(bytes) | (uint32_t)load_u16(bytes + 2) << 16;
}

/* Value i of 32 with nibbles and a word of fifth bits. */
static int five_bits(const uint8_t *nibbles, uint32_t fifths, int i)
{
    int nibble = i < 16 ? nibbles[i] & 15 : nibbles[i - 16] >> 4;

    return nibble | (int)(fifths >> i & 1) << 4;
}

static void dequantize_q5_0(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block));
    uint32_t fifths = load_u32(block + 2);

    for (int i = 0; i < MODEL_QUANT_VALUES; i++)
        out[i] = scale * (float)(five_bits(block + 6, fifths, i) - 16);
}

static void dequantize_q5_1(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block));
    float minimum = model_half_to_float(load_u16(block + 2));
    uint32_t fifths = load_u32(block + 4);

    for (int i = 0; i < MODEL_QUANT_VALUES; i++)
        out[i] = scale * (float)five_bits(block + 8, fifths, i) + minimum;
}

static void dequantize_q8_0(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block));

    for (int i = 0; i < MODEL_QUANT_VALUES; i++)
        out[i] = scale * (float)(int8_t)block[2 + i];
}

/* The first four are whole; the upper bits of the others are in the spare bits of the first eight bytes. */
void model_unpack_scales(const uint8_t packed[static 12], uint8_t scales[static MODEL_K_SUB_BLOCKS],
                         uint8_t minimums[static MODEL_K_SUB_BLOCKS])
{
    for (int j = 0; j < 4; j++) {
        scales[j] = packed[j] & 63;
        minimums[j] = packed[j + 4] & 63;
        scales[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        minimums[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

/* Nibbles of Q4_K and Q5_K: 32 bytes hold two sub-blocks, the low nibbles the first of them. */
static void dequantize_q45_k(const uint8_t *block, const uint8_t *fifths, const uint8_t *nibbles,
                             float *out)
{
    float scale = model_half_to_float(load_u16(block));
    float minimum = model_half_to_float(load_u16(block + 2));
    uint8_t scales[MODEL_K_SUB_BLOCKS];
    uint8_t minimums[MODEL_K_SUB_BLOCKS];

    model_unpack_scales(block + 4, scales, minimums);
    for (int j = 0; j < MODEL_K_SUB_BLOCKS; j++) {
        float sub_scale = scale * (float)scales[j];
        float sub_minimum = minimum * (float)minimums[j];

        for (int i = 0; i < MODEL_QUANT_VALUES; i++) {
            int quant = nibbles[j / 2 * 32 + i] >> j % 2 * 4 & 15;

            if (fifths != NULL)
                quant |= (fifths[i] >> j & 1) << 4;
            out[j * MODEL_QUANT_VALUES + i] = sub_scale * (float)quant - sub_minimum;
        }
    }
}

static void dequantize_q4_k(const uint8_t *block, float *out)
{
    dequantize_q45_k(block, NULL, block + 16, out);
}

static void dequantize_q5_k(const uint8_t *block, float *out)
{
    dequantize_q45_k(block, block + 16, block + 48, out);
}

/* Two halves of 128 values; in each, 32 bytes of upper bits serve four runs of 32 values. */
static void dequantize_q6_k(const uint8_t *block, float *out)
{
    float scale = model_half_to_float(load_u16(block + 208));

    for (int i = 0; i < MODEL_K_VALUES; i++) {
        int half = i / 128;
        int run = i / 32 % 4;
        int place = i % 32;
        int low = block[half * 64 + run % 2 * 32 + place] >> run / 2 * 4 & 15;
        int high = block[128 + half * 32 + place] >> run * 2 & 3;
        int8_t sub_scale = (int8_t)block[192 + i / 16];

        out[i] = scale * (float)sub_scale * (float)((low | high << 4) - 32);
    }
}

static void dequantize_blocks(enum model_type type, const uint8_t *source, size_t count, float *out,
                              void (*dequantize_block)(const uint8_t *block, float *out))
{
    const struct model_type_info *info = &types[type];

    assert(count % info->block_values == 0);
    for (size_t i = 0; i < count; i += info->block_values, source += info->block_bytes)
        dequantize_block(source, out + i);
}

void model_dequantize(enum model_type type, const uint8_t *source, size_t count, float *out)
{
    switch (type) {
    case MODEL_TYPE_F32:
        if (count > 0)
            memcpy(out, source, count * sizeof *out);
        return;
    case MODEL_TYPE_F16:
        for (size_t i = 0; i < count; i++)
            out[i] = model_half_to_float(load_u16(source + 2 * i));
        return;
    case MODEL_TYPE_BF16:
        for (size_t i = 0; i < count; i++)
            out[i] = model_bfloat_to_float(load_u16(source + 2 * i));
        return;
    case MODEL_TYPE_F8_E4M3:
        for (size_t i = 0; i < count; i++)
            out[i] = model_e4m3_to_float(source[i]);
        return;
    case MODEL_TYPE_Q4_0: dequantize_blocks(type, source, count, out, dequantize_q4_0); return;
    case MODEL_TYPE_Q4_1: dequantize_blocks(type, source, count, out, dequantize_q4_1); return;
    case MODEL_TYPE_Q5_0: dequantize_blocks(type, source, count, out, dequantize_q5_0); return;
    case MODEL_TYPE_Q5_1: dequantize_blocks(type, source, count, out, dequantize_q5_1); return;
    case MODEL_TYPE_Q8_0: dequantize_blocks(type, source, count, out, dequantize_q8_0); return;
    case MODEL_TYPE_Q4_K: dequantize_blocks(type, source, count, out, dequantize_q4_k); return;
    case MODEL_TYPE_Q5_K: dequantize_blocks(type, source, count, out, dequantize_q5_k); return;
    case MODEL_TYPE_Q6_K: dequantize_blocks(type, source, count, out, dequantize_q6_k); return;
    }
    assert(false && "a type that model_type_info does not call supported");
}
