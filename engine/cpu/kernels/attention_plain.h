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
#include "model/rope.h"

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

/* ------------------------------------------------------------------ whole numbers */

/* The largest quant of a query, and of the weights of a split: see engine/cpu/kernels.h. */
#define PLAIN_WHOLE_MAX 32767.0f

/* The largest magnitude by its bits, so that a NaN is larger than everything. */
static inline float plain_largest(const float *x, uint32_t count)
{
    uint32_t most = 0;
    float largest;

    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        most = bits > most ? bits : most;
    }
    memcpy(&largest, &most, sizeof largest);
    return largest;
}

/* x in whole numbers; returns their scale. */
static inline float plain_to_whole(const float *x, uint32_t count, int16_t *out)
{
    struct cpu_quantizing how = cpu_quantizing_to(plain_largest(x, count), PLAIN_WHOLE_MAX);

    for (uint32_t i = 0; i < count; i++)
        out[i] = how.inverse == 0.0f ? 0 : (int16_t)rintf(x[i] * how.inverse);
    return how.scale;
}

static inline float plain_kv_scale(const uint8_t *group, uint32_t head_dim, uint32_t token)
{
    float scale;

    memcpy(&scale, group + cpu_kv_scales(head_dim) + token * sizeof scale, sizeof scale);
    return scale;
}

static inline void plain_scores_whole(const struct cpu_scores *job)
{
    int16_t x[MODEL_HEAD_DIM_MAX];

    for (uint32_t query = 0; query < job->queries; query++) {
        float scale = plain_to_whole(job->x + query * job->x_stride, job->head_dim, x);

        for (uint32_t p = 0; p < job->counts[query]; p++) {
            const uint8_t *group = job->groups[p / CPU_KV_GROUP];
            uint32_t token = p % CPU_KV_GROUP;
            int32_t sum = 0;

            for (uint32_t d = 0; d < job->head_dim; d++)
                sum += (int8_t)group[cpu_kv_key_index(CPU_KV_INT8, token, d)] * x[d];
            job->y[query * job->y_stride + p] =
                (float)sum * scale * plain_kv_scale(group, job->head_dim, token);
        }
    }
}

/* The sums of the columns from `column` on. */
static inline void plain_weigh_whole(const struct cpu_weigh *job, uint32_t column)
{
    float scaled[CPU_SPLIT];
    int16_t whole[CPU_SPLIT];

    for (uint32_t query = 0; column < job->head_dim && query < job->queries; query++) {
        const float *weights = job->weights + query * job->weights_stride;
        float scale;

        for (uint32_t p = 0; p < job->counts[query]; p++)
            scaled[p] = weights[p] * plain_kv_scale(job->groups[p / CPU_KV_GROUP], job->head_dim,
                                                    p % CPU_KV_GROUP);
        scale = plain_to_whole(scaled, job->counts[query], whole);
        for (uint32_t d = column; d < job->head_dim; d++) {
            int32_t sum = 0;

            for (uint32_t p = 0; p < job->counts[query]; p++)
                sum += (int8_t)job->groups[p / CPU_KV_GROUP][cpu_kv_value_index(
                           CPU_KV_INT8, job->head_dim, p % CPU_KV_GROUP, d)] *
                       whole[p];
            job->sums[query * job->sums_stride + d] = (float)sum * scale;
        }
    }
}

/* ------------------------------------------------------------------ merging */

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
