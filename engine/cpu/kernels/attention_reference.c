/*
 * attention_reference.c: attention in plain C: what the fast kernels are compared with, and what runs
 * where the processor has neither AVX2 nor AVX-512.
 */
#include "engine/cpu/kernels/attention_plain.h"

static void scores_f16(const struct cpu_scores *job)
{
    plain_scores(job, CPU_KV_F16);
}

static void scores_f32(const struct cpu_scores *job)
{
    plain_scores(job, CPU_KV_F32);
}

static void weigh_f16(const struct cpu_weigh *job)
{
    plain_weigh(job, 0, CPU_KV_F16);
}

static void weigh_f32(const struct cpu_weigh *job)
{
    plain_weigh(job, 0, CPU_KV_F32);
}

static void scores_int8(const struct cpu_scores *job)
{
    plain_scores_whole(job);
}

static void weigh_int8(const struct cpu_weigh *job)
{
    plain_weigh_whole(job, 0);
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    float lanes[CPU_LANES] = {0};
    float max = scores[0];

    for (uint32_t i = 1; i < count; i++)
        max = scores[i] > max ? scores[i] : max;
    for (uint32_t i = 0; i < count; i++) {
        scores[i] = cpu_exp2(scores[i] - max);
        lanes[i % CPU_LANES] += scores[i];
    }
    *max_out = max;
    *sum_out = cpu_reduce(lanes);
}

static void merge(float *total, const float *later, uint32_t head_dim)
{
    struct plain_scales scales = plain_merge_scales(total, later);

    for (uint32_t i = CPU_SUMS_VALUES; i < CPU_SUMS_VALUES + head_dim; i++)
        total[i] = fmaf(later[i], scales.later, total[i] * scales.total);
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = model_float_to_half(source[i]);
}

static float to_int8(const float *source, uint32_t count, int8_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(plain_largest(source, count), CPU_KV_QUANT_MAX);

    for (uint32_t i = 0; i < count; i++)
        out[i] = how.inverse == 0.0f ? 0 : (int8_t)rintf(source[i] * how.inverse);
    return how.scale;
}

const struct cpu_attention_kernels cpu_attention_reference = {
    .scores = {[CPU_KV_F16] = scores_f16, [CPU_KV_F32] = scores_f32, [CPU_KV_INT8] = scores_int8},
    .weigh = {[CPU_KV_F16] = weigh_f16, [CPU_KV_F32] = weigh_f32, [CPU_KV_INT8] = weigh_int8},
    .softmax = softmax,
    .merge = merge,
    .to_half = to_half,
    .to_int8 = to_int8,
};
