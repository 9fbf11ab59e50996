/*
 * attention_plain.h: attention in plain C: the reference, and what is left where vectors do not fit. For the
 * kernels alone. Written to be read.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_ATTENTION_PLAIN_H
#define TANDEM_ENGINE_CPU_KERNELS_ATTENTION_PLAIN_H

#include <math.h>
#include <string.h>

#include "engine/cpu/kernels/attention.h"
#include "engine/cpu/math.h"
#include "model/quant.h"

/* An element of a group. */
static inline float plain_element(const uint8_t *group, size_t index, enum cpu_kv_dtype dtype)
{
    uint16_t half;
    float value;

    if (dtype == CPU_KV_F32) {
        memcpy(&value, group + index * sizeof value, sizeof value);
        return value;
    }
    memcpy(&half, group + index * sizeof half, sizeof half);
    return model_half_to_float(half);
}

static inline void plain_scores(const struct cpu_scores *job, enum cpu_kv_dtype dtype)
{
    for (uint32_t query = 0; query < job->queries; query++) {
        const float *x = job->x + query * job->x_stride;

        for (uint32_t p = 0; p < job->counts[query]; p++) {
            const uint8_t *group = job->groups[p / CPU_KV_GROUP];
            float sum = 0.0f;

            for (uint32_t d = 0; d < job->head_dim; d++)
                sum = fmaf(plain_element(group, d * CPU_KV_GROUP + p % CPU_KV_GROUP, dtype), x[d],
                           sum);
            job->y[query * job->y_stride + p] = sum;
        }
    }
}

/* The sums of the columns from `column` on. */
static inline void plain_weigh(const struct cpu_weigh *job, uint32_t column,
                               enum cpu_kv_dtype dtype)
{
    for (uint32_t query = 0; query < job->queries; query++) {
        const float *weights = job->weights + query * job->weights_stride;

        for (uint32_t d = column; d < job->head_dim; d++) {
            float sum = 0.0f;

            for (uint32_t p = 0; p < job->counts[query]; p++)
                sum = fmaf(plain_element(job->groups[p / CPU_KV_GROUP],
                                         p % CPU_KV_GROUP * job->head_dim + d, dtype),
                           weights[p], sum);
            job->sums[query * job->sums_stride + d] = sum;
        }
    }
}

/* How much the sums of two parts count when both are put together; sets the maximum of both. */
struct plain_scales {
    float total;
    float later;
};

static inline struct plain_scales plain_merge_scales(float *total, const float *later)
{
    float max =
        later[CPU_SUMS_MAX] > total[CPU_SUMS_MAX] ? later[CPU_SUMS_MAX] : total[CPU_SUMS_MAX];
    struct plain_scales scales = {.total = cpu_exp2(total[CPU_SUMS_MAX] - max),
                                  .later = cpu_exp2(later[CPU_SUMS_MAX] - max)};

    total[CPU_SUMS_MAX] = max;
    total[CPU_SUMS_WEIGHT] =
        fmaf(later[CPU_SUMS_WEIGHT], scales.later, total[CPU_SUMS_WEIGHT] * scales.total);
    return scales;
}

#endif
