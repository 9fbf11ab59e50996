/*
 * kernels_reference.c: the plain C kernels: what the fast ones are compared with, and what runs where
 * the processor has neither AVX2 nor AVX-512. Written to be read.
 */
#include <string.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"

static void unpack(enum model_type type, const uint8_t *source, uint32_t count, float *out)
{
    model_dequantize(type, source, count, out);
    memset(out + count, 0, (cpu_pad(count) - count) * sizeof *out);
}

static float dot(const float *a, const float *b, uint32_t columns)
{
    float lanes[CPU_LANES] = {0};

    for (uint32_t k = 0; k < cpu_pad(columns); k += CPU_LANES)
        for (uint32_t lane = 0; lane < CPU_LANES; lane++)
            lanes[lane] = fmaf(a[k + lane], b[k + lane], lanes[lane]);
    return cpu_reduce(lanes);
}

/* A dot product in pieces of one block each: a row of any length without memory for it. */
static float dot_packed(enum model_type type, const uint8_t *row, const float *x, uint32_t columns)
{
    float lanes[CPU_LANES] = {0};
    float piece[MODEL_QUANT_VALUES];

    for (uint32_t k = 0; k < columns; k += MODEL_QUANT_VALUES) {
        uint32_t count = columns - k < MODEL_QUANT_VALUES ? columns - k : MODEL_QUANT_VALUES;
        size_t offset = 0;

        (void)!model_type_row_bytes(type, k, &offset);
        unpack(type, row + offset, count, piece);
        for (uint32_t i = 0; i < cpu_pad(count); i++)
            lanes[i % CPU_LANES] = fmaf(piece[i], x[k + i], lanes[i % CPU_LANES]);
    }
    return cpu_reduce(lanes);
}

static void gemv(enum model_type type, const struct cpu_gemv *job)
{
    for (uint32_t row = 0; row < job->rows; row++) {
        float sum = dot_packed(type, job->weights + row * job->row_bytes, job->x, job->columns);

        job->y[row] = job->add ? job->y[row] + sum : sum;
    }
}

#define DEFINE_TYPE(name, type)                                                  \
    static void unpack_##name(const uint8_t *source, uint32_t count, float *out) \
    {                                                                            \
        unpack(type, source, count, out);                                        \
    }                                                                            \
    static void gemv_##name(const struct cpu_gemv *job)                          \
    {                                                                            \
        gemv(type, job);                                                         \
    }
DEFINE_TYPE(f32, MODEL_TYPE_F32)
DEFINE_TYPE(f16, MODEL_TYPE_F16)
DEFINE_TYPE(bf16, MODEL_TYPE_BF16)
DEFINE_TYPE(q4_0, MODEL_TYPE_Q4_0)
DEFINE_TYPE(q4_1, MODEL_TYPE_Q4_1)
DEFINE_TYPE(q8_0, MODEL_TYPE_Q8_0)
#undef DEFINE_TYPE

static void gemm(const struct cpu_gemm *job)
{
    for (uint32_t token = 0; token < job->tokens; token++) {
        float *y = job->y + token * job->y_stride;

        for (uint32_t row = 0; row < job->rows; row++) {
            float sum = dot(job->panel + row * job->panel_stride, job->x + token * job->x_stride,
                            job->columns);

            y[row] = job->add ? y[row] + sum : sum;
        }
    }
}

static void weigh(const struct cpu_weigh *job)
{
    for (uint32_t query = 0; query < job->queries; query++) {
        const float *weights = job->weights + query * job->weights_stride;
        float *sums = job->sums + query * job->sums_stride;

        for (uint32_t p = 0; p < job->count; p++)
            for (uint32_t d = 0; d < job->columns; d++)
                sums[d] = fmaf(weights[p], job->values[p * job->values_stride + d], sums[d]);
    }
}

static float sum_squares(const float *x, uint32_t count)
{
    float lanes[CPU_LANES] = {0};

    for (uint32_t i = 0; i < count; i++)
        lanes[i % CPU_LANES] = fmaf(x[i], x[i], lanes[i % CPU_LANES]);
    return cpu_reduce(lanes);
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    float lanes[CPU_LANES] = {0};
    float max = scores[0];

    for (uint32_t i = 1; i < count; i++)
        max = scores[i] > max ? scores[i] : max;
    for (uint32_t i = 0; i < count; i++) {
        scores[i] = cpu_exp(scores[i] - max);
        lanes[i % CPU_LANES] += scores[i];
    }
    *max_out = max;
    *sum_out = cpu_reduce(lanes);
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        gate[i] = cpu_silu(gate[i]) * up[i];
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = model_float_to_half(source[i]);
}

const struct cpu_kernels cpu_kernels_reference = {
    .name = "reference",
    .unpack = {[MODEL_TYPE_F32] = unpack_f32,
               [MODEL_TYPE_F16] = unpack_f16,
               [MODEL_TYPE_BF16] = unpack_bf16,
               [MODEL_TYPE_Q4_0] = unpack_q4_0,
               [MODEL_TYPE_Q4_1] = unpack_q4_1,
               [MODEL_TYPE_Q8_0] = unpack_q8_0},
    .gemv = {[MODEL_TYPE_F32] = gemv_f32,
             [MODEL_TYPE_F16] = gemv_f16,
             [MODEL_TYPE_BF16] = gemv_bf16,
             [MODEL_TYPE_Q4_0] = gemv_q4_0,
             [MODEL_TYPE_Q4_1] = gemv_q4_1,
             [MODEL_TYPE_Q8_0] = gemv_q8_0},
    .gemm = gemm,
    .weigh = weigh,
    .sum_squares = sum_squares,
    .softmax = softmax,
    .silu_multiply = silu_multiply,
    .to_half = to_half,
};
