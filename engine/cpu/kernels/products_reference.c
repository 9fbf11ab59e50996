/*
 * products_reference.c: products in plain C: what the fast kernels are compared with, and what runs
 * where the processor has neither AVX2 nor AVX-512. Written to be read.
 */
#include <string.h>

#include "engine/cpu/kernels/products.h"
#include "engine/cpu/math.h"

/*
 * Adds what a block contributes: columns from `from` on, which have one scale, times x. With `swap` 1 the second
 * of two columns comes before the first.
 */
static void add_columns(const struct cpu_pack_values *values, bool is_scaled, const float *x,
                        uint32_t swap, uint32_t from, uint32_t count,
                        float total[static CPU_PACK_ROWS])
{
    for (uint32_t row = 0; row < CPU_PACK_ROWS; row++) {
        float sum = 0.0f;

        for (uint32_t column = from; column < from + count; column++)
            sum = fmaf(values->quants[column ^ swap][row], x[column ^ swap], sum);
        if (is_scaled)
            total[row] = fmaf(values->scale[from / 16][row], sum, total[row]);
        else
            total[row] += sum;
    }
}

/* The same with the quants of x. */
static void add_whole_columns(const struct cpu_pack_values *values, const int8_t *quants,
                              float scale, uint32_t from, uint32_t count,
                              float total[static CPU_PACK_ROWS])
{
    for (uint32_t row = 0; row < CPU_PACK_ROWS; row++) {
        int32_t sum = 0;

        for (uint32_t column = from; column < from + count; column++)
            sum += (int32_t)values->quants[column][row] * quants[column];
        total[row] = fmaf(values->scale[from / 16][row], scale * (float)sum, total[row]);
    }
}

static void multiply_group(const struct cpu_product *job, uint32_t group, const float *x,
                           float total[static CPU_PACK_ROWS])
{
    enum cpu_scales scales = cpu_pack_forms[job->matrix->type].scales;
    uint32_t step = scales == CPU_SCALES_K16 ? 16 : CPU_PACK_COLUMNS;
    const float *x_scales = x + cpu_input_scales(job->matrix->columns);
    const int8_t *quants = (const int8_t *)(x + cpu_input_quants(job->matrix->columns));
    enum cpu_operand operand = cpu_product_operand(job);
    bool is_whole = operand == CPU_OPERAND_QUANTS;
    bool is_rounded = operand == CPU_OPERAND_BFLOATS;
    const float *floats = is_rounded ? x + cpu_input_bfloats(job->matrix->columns) : x;
    const float *sums = x + (is_whole ? cpu_input_quant_sums(job->matrix->columns)
                                      : cpu_input_sums(job->matrix->columns));

    for (uint32_t block = 0; block < cpu_pack_blocks(job->matrix->columns); block++) {
        struct cpu_pack_values values;

        cpu_pack_read(job->matrix, group, block, &values);
        for (uint32_t from = 0; from < CPU_PACK_COLUMNS; from += step) {
            if (is_whole)
                add_whole_columns(&values, quants + (size_t)block * CPU_PACK_COLUMNS,
                                  x_scales[block], from, step, total);
            else
                add_columns(&values, scales != CPU_SCALES_NONE,
                            floats + (size_t)block * CPU_PACK_COLUMNS, is_rounded, from, step,
                            total);
        }
        if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
            for (uint32_t row = 0; row < CPU_PACK_ROWS; row++)
                total[row] = fmaf(values.minimum[row], sums[block], total[row]);
    }
}

static void multiply_once(const struct cpu_product *job)
{
    for (uint32_t token = 0; token < job->tokens; token++) {
        for (uint32_t i = 0; i < job->groups; i++) {
            float *y = job->y + token * job->y_stride + i * CPU_PACK_ROWS;
            uint32_t row = (job->first + i) * CPU_PACK_ROWS;
            float total[CPU_PACK_ROWS] = {0};

            multiply_group(job, job->first + i, job->x + token * job->x_stride, total);
            for (uint32_t r = 0; r < CPU_PACK_ROWS && row + r < job->matrix->rows; r++)
                y[r] = job->add ? y[r] + total[r] : total[r];
        }
    }
}

static void multiply(const struct cpu_product *job)
{
    struct cpu_product rest = *job;

    multiply_once(job);
    if (!cpu_product_has_rest(job))
        return;
    rest.x += cpu_input_rest(job->matrix->columns);
    rest.add = true;
    multiply_once(&rest);
}

static void block_sums(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
        float lanes[CPU_LANES];

        for (int i = 0; i < CPU_LANES; i++)
            lanes[i] = x[i] + x[i + CPU_LANES];
        sums[block] = cpu_reduce(lanes);
    }
}

/* The largest magnitude by its bits, so that a NaN is larger than everything. */
static float largest_magnitude(const float *x)
{
    uint32_t largest = 0;
    float value;

    for (int i = 0; i < CPU_PACK_COLUMNS; i++) {
        uint32_t bits;

        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffff;
        largest = bits > largest ? bits : largest;
    }
    memcpy(&value, &largest, sizeof value);
    return value;
}

/* A block of x to its place behind `base`: the input, or that and cpu_input_rest more. */
static void quantize_block(const float *x, float *base, uint32_t columns, uint32_t block)
{
    int32_t *counts = (int32_t *)(void *)(base + cpu_input_counts(columns)) + 2 * (size_t)block;
    int8_t *quants =
        (int8_t *)(base + cpu_input_quants(columns)) + (size_t)block * CPU_PACK_COLUMNS;
    struct cpu_quantizing how = cpu_quantizing(largest_magnitude(x));

    counts[0] = counts[1] = 0;
    for (uint32_t i = 0; i < CPU_PACK_COLUMNS; i++) {
        int8_t q = how.inverse == 0.0f ? 0 : (int8_t)rintf(x[i] * how.inverse);

        quants[i] = q;
        counts[0] -= i < CPU_PACK_COLUMNS / 2 ? q : 0;
        counts[1] -= q;
    }
    base[cpu_input_scales(columns) + block] = how.scale;
    base[cpu_input_quant_sums(columns) + block] = how.scale * (float)-counts[1];
}

static void quantize(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS)
        quantize_block(x, input, columns, block);
}

static void quantize_rest(const float *x, float *input, uint32_t columns, uint32_t first,
                          uint32_t end)
{
    const int8_t *quants = (const int8_t *)(input + cpu_input_quants(columns));

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
        float scale = input[cpu_input_scales(columns) + block];
        float rest[CPU_PACK_COLUMNS];

        for (size_t i = 0; i < CPU_PACK_COLUMNS; i++)
            rest[i] = fmaf(-scale, quants[(size_t)block * CPU_PACK_COLUMNS + i], x[i]);
        quantize_block(rest, input + cpu_input_rest(columns), columns, block);
    }
}

/* To the nearest BF16, ties to even; nearly nothing to 0. */
static float round_to_bfloat(float x)
{
    uint32_t bits;

    if (isnan(x))
        return NAN;
    memcpy(&bits, &x, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
    memcpy(&x, &bits, sizeof x);
    return fabsf(x) < CPU_BFLOAT_MIN ? 0.0f : x;
}

static void bfloats(const float *x, float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *rounded = input + cpu_input_bfloats(columns) + (size_t)first * CPU_PACK_COLUMNS;

    for (size_t i = 0; i < (size_t)(end - first) * CPU_PACK_COLUMNS; i++)
        rounded[i] = round_to_bfloat(x[i]);
}

const struct cpu_product_kernels cpu_product_reference = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
    .quantize_rest = quantize_rest,
    .bfloats = bfloats,
};
