/*
 * rows_reference.c: rows of activations in plain C: what the fast kernels are compared with, and what runs
 * where the processor has neither AVX2 nor AVX-512. Written to be read.
 */
#include "engine/cpu/kernels/rows.h"
#include "engine/cpu/math.h"

static float sum_squares(const float *x, uint32_t count)
{
    float lanes[CPU_LANES] = {0};

    for (uint32_t i = 0; i < count; i++)
        lanes[i % CPU_LANES] = fmaf(x[i], x[i], lanes[i % CPU_LANES]);
    return cpu_reduce(lanes);
}

static void scale(const float *x, float factor, const float *weight, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i++)
        out[i] = x[i] * factor * weight[i];
}

static void add(float *x, const float *y, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] += y[i];
}

static void rotate(const struct cpu_rotation *rotation, const float *head, float factor, float *out)
{
    uint32_t pairs = rotation->pairs;

    for (uint32_t i = 0; i < pairs; i++) {
        float a = rotation->is_interleaved ? head[2 * i] : head[i];
        float b = rotation->is_interleaved ? head[2 * i + 1] : head[i + pairs];

        out[i] = factor * (a * rotation->cosines[i] - b * rotation->sines[i]);
        out[i + pairs] = factor * (a * rotation->sines[i] + b * rotation->cosines[i]);
    }
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        gate[i] = cpu_silu(gate[i]) * up[i];
}

const struct cpu_row_kernels cpu_row_reference = {
    .sum_squares = sum_squares,
    .scale = scale,
    .add = add,
    .rotate = rotate,
    .silu_multiply = silu_multiply,
};
