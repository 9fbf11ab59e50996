/*
 * attention_reference.c: attention in plain C: what the fast kernels are compared with, and what runs
 * where the processor has neither AVX2 nor AVX-512. Written to be read.
 */
#include <string.h>

#include "engine/cpu/kernels/attention.h"
#include "engine/cpu/math.h"
#include "model/quant.h"

static void dots(const struct cpu_dots *job)
{
    for (uint32_t query = 0; query < job->queries; query++) {
        const float *x = job->x + query * job->x_stride;

        for (uint32_t p = 0; p < job->count; p++) {
            const float *key = job->keys + p * job->keys_stride;
            float lanes[CPU_LANES] = {0};

            for (uint32_t i = 0; i < cpu_pad(job->columns); i++)
                lanes[i % CPU_LANES] = fmaf(key[i], x[i], lanes[i % CPU_LANES]);
            job->y[query * job->y_stride + p] = cpu_reduce(lanes);
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

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = model_float_to_half(source[i]);
}

static void from_half(const uint16_t *source, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = model_half_to_float(source[i]);
    memset(out + count, 0, (cpu_pad(count) - count) * sizeof *out);
}

const struct cpu_attention_kernels cpu_attention_reference = {
    .dots = dots,
    .weigh = weigh,
    .softmax = softmax,
    .to_half = to_half,
    .from_half = from_half,
};
