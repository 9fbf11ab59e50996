/*
 * test_products.c: products, and what is made of their inputs: every set of kernels gives the bits of plain C, for all
 * types, odd sizes and extreme values; and plain C gives what a sum in double precision says.
 *
 * All pointers are moved by one element, and the memory behind results must stay as it was.
 */
#include "tests/support/support.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"
#include "engine/cpu/matmul.h"
#include "tests/engine/kernel_values.h"

#define COLUMNS_MAX 1600
#define ROWS_MAX    40
#define X_STRIDE    4608 /* an input of COLUMNS_MAX columns takes less */

static const enum model_type all_types[] = {
#define X(type, name, quants, scales, zero) MODEL_TYPE_##type,
    CPU_PACK_TYPES(X)
#undef X
};
#define TYPE_COUNT (sizeof all_types / sizeof all_types[0])

/* Aligned memory, so that one element further is certainly not. */
static float xs[ROWS_MAX * X_STRIDE];
static uint8_t weights[112 * 608 * 4 + 64];
static float expected[ROWS_MAX * COLUMNS_MAX + 64];
static float actual[ROWS_MAX * COLUMNS_MAX + 64];

/* ---- weights and inputs ---- */

/* Keeps the half at an offset from being an infinity or NaN. */
static void tame_half(uint8_t *block, size_t offset)
{
    block[offset + 1] &= 0xbb;
}

/* Random blocks; except for hostile ones, with scales that are numbers. */
static void fill_weights(enum model_type type, size_t bytes, enum kernel_flavor flavor)
{
    for (size_t i = 0; i < bytes; i++)
        weights[1 + i] = (uint8_t)td_rng_next(&kernel_rng);
    if (flavor == KERNEL_HOSTILE)
        return;
    if (type == MODEL_TYPE_F32 || type == MODEL_TYPE_F16 || type == MODEL_TYPE_BF16) {
        for (size_t i = 1; i < bytes + 1; i += 2)
            weights[1 + i] =
                (uint8_t)((weights[1 + i] & 0x80) | 0x3a); /* exponents in the middle */
        return;
    }
    if (type == MODEL_TYPE_F8_E4M3)
        return; /* whose scale is 1 here */
    for (size_t i = 0; i < bytes; i += model_type_info(type)->block_bytes) {
        tame_half(weights + 1 + i, type == MODEL_TYPE_Q6_K ? 208 : 0);
        if (cpu_pack_forms[type].scales == CPU_SCALES_MINIMUM ||
            cpu_pack_forms[type].scales == CPU_SCALES_K)
            tame_half(weights + 1 + i, 2);
    }
}

/* ---- products ---- */

static bool can_have(enum model_type type, uint32_t columns)
{
    return columns % model_type_info(type)->block_values == 0;
}

static const uint32_t column_counts[] = {1,  2,   15,  16,  17,  31,  32,  33,  47,  64,
                                         96, 100, 127, 256, 288, 512, 576, 577, 1536};
#define COLUMN_COUNTS (sizeof column_counts / sizeof column_counts[0])

/* The weights, packed. There is memory for one such matrix at a time. */
static struct cpu_matrix pack_weights(enum model_type type, uint32_t rows, uint32_t columns)
{
    struct model_matrix source = {
        .type = type, .rows = rows, .columns = columns, .data = weights + 1};
    struct cpu_matrix matrix = {.type = type,
                                .rows = rows,
                                .columns = columns,
                                .group_bytes = cpu_pack_group_bytes(type, columns)};
    static _Alignas(CPU_PACK_ALIGN) uint8_t packed[sizeof weights];

    assert_true(cpu_pack_groups(rows) * matrix.group_bytes <= sizeof packed);
    assert_true(model_type_row_bytes(type, columns, &source.row_bytes));
    assert_true(rows * source.row_bytes < sizeof weights);
    cpu_pack_rows(&source, 0, cpu_pack_groups(rows), packed);
    matrix.data = packed;
    return matrix;
}

static struct cpu_matrix random_matrix(enum model_type type, uint32_t rows, uint32_t columns,
                                       enum kernel_flavor flavor)
{
    size_t row_bytes;

    assert_true(model_type_row_bytes(type, columns, &row_bytes));
    assert_true(rows * row_bytes < sizeof weights);
    fill_weights(type, rows * row_bytes, flavor);
    return pack_weights(type, rows, columns);
}

/* The floats of an input, and zeros up to whole blocks. */
static void fill_columns(float *x, uint32_t columns, enum kernel_flavor flavor)
{
    assert_true(cpu_input_floats(columns) < X_STRIDE);
    kernel_fill(x, columns, flavor);
    memset(x + columns, 0, (cpu_input_sums(columns) - columns) * sizeof *x);
}

/*
 * What a product multiplies with: floats, their quants, or those and the quants of what they leave over. Weights of
 * BF16 take x rounded to such for the last two.
 */
enum inputs { FLOATS, WHOLE, WITH_REST, INPUTS };

static const char *const input_names[INPUTS] = {"floats", "whole numbers", "two whole numbers"};

/* What stands behind the floats of an input, for some of its blocks, out of floats that need not be those of the input. */
static void make_behind(const struct cpu_product_kernels *products, const float *x, float *input,
                        uint32_t columns, uint32_t first, uint32_t end, enum inputs inputs)
{
    x += (size_t)first * CPU_PACK_COLUMNS;
    if (inputs == FLOATS)
        products->block_sums(x, input, columns, first, end);
    if (inputs != FLOATS) {
        products->quantize(x, input, columns, first, end);
        products->bfloats(x, input, columns, first, end);
    }
    if (inputs == WITH_REST)
        products->quantize_rest(x, input, columns, first, end);
}

/* An input with what stands behind its floats. */
static void fill_input(float *x, uint32_t columns, enum kernel_flavor flavor, enum inputs inputs)
{
    fill_columns(x, columns, flavor);
    make_behind(&cpu_product_reference, x, x, columns, 0, cpu_pack_blocks(columns), inputs);
}

/* What a set has rounded to BF16 it alone reads. */
static void make_bfloats(const struct cpu_kernels *set, uint32_t columns, uint32_t tokens)
{
    for (uint32_t token = 0; token < tokens; token++) {
        float *x = xs + token * X_STRIDE + 1;

        set->products->bfloats(x, x, columns, 0, cpu_pack_blocks(columns));
    }
}

static void check_multiply(const struct cpu_kernels *set, const struct cpu_matrix *matrix,
                           uint32_t first, uint32_t tokens, enum kernel_flavor flavor,
                           enum inputs inputs)
{
    uint32_t rows = matrix->rows - first * CPU_PACK_ROWS;
    size_t y_stride = rows + 3;
    struct cpu_product job = {.matrix = matrix,
                              .first = first,
                              .groups = cpu_pack_groups(matrix->rows) - first,
                              .x = xs + 1,
                              .x_stride = X_STRIDE,
                              .tokens = tokens,
                              .y_stride = y_stride,
                              .add = tokens % 2 == 1,
                              .is_whole = inputs != FLOATS,
                              .has_rest = inputs == WITH_REST};
    char what[128];

    for (uint32_t token = 0; token < tokens; token++)
        fill_input(xs + token * X_STRIDE + 1, matrix->columns, flavor, inputs);
    kernel_plant_canaries(expected, tokens * y_stride);
    for (uint32_t token = 0; token < tokens; token++)
        kernel_fill(expected + token * y_stride, rows, flavor);
    memcpy(actual, expected, tokens * y_stride * sizeof *actual);
    job.y = expected;
    cpu_product_reference.multiply(&job);
    job.y = actual;
    if (inputs != FLOATS)
        make_bfloats(set, matrix->columns, tokens);
    set->products->multiply(&job);
    snprintf(what, sizeof what, "%s %s times %s, %u rows from group %u, %u columns, %u tokens",
             set->name, model_type_info(matrix->type)->name, input_names[inputs], rows, first,
             matrix->columns, tokens);
    for (uint32_t token = 0; token < tokens; token++) {
        kernel_assert_same(actual + token * y_stride, expected + token * y_stride, rows, what);
        kernel_assert_untouched(actual + token * y_stride + rows, y_stride - rows, what);
    }
}

/* All sizes, of which some are no whole groups and blocks. */
static void multiply_gives_the_same_bits(void **state)
{
    static const uint32_t row_counts[] = {1, 16, 17, 70, 100};
    static const uint32_t token_counts[] = {1, 2, 3, 15, 27};

    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++)
        for (size_t c = 0; c < COLUMN_COUNTS; c++)
            for (size_t r = 0; r < 5; r++) {
                enum kernel_flavor flavor = (enum kernel_flavor)((t + c + r) % KERNEL_FLAVORS);
                struct cpu_matrix matrix;

                if (!can_have(all_types[t], column_counts[c]) ||
                    (column_counts[c] > 600 && row_counts[r] > 17))
                    continue;
                matrix = random_matrix(all_types[t], row_counts[r], column_counts[c], flavor);
                for (uint32_t s = 1; s < kernel_set_count; s++)
                    for (int inputs = 0; inputs < INPUTS; inputs++)
                        check_multiply(kernel_sets[s], &matrix, row_counts[r] > 70 ? 2 : 0,
                                       token_counts[(r + c) % 5], flavor, (enum inputs)inputs);
            }
}

/* Every number of tokens, so that every way of cutting them into tiles comes up, for every type. */
static void multiply_takes_any_number_of_tokens(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        uint32_t columns = can_have(all_types[t], 96) ? 96 : 256;
        struct cpu_matrix matrix = random_matrix(all_types[t], 33, columns, KERNEL_ORDINARY);

        for (uint32_t s = 1; s < kernel_set_count; s++)
            for (uint32_t tokens = 1; tokens <= ROWS_MAX; tokens++)
                for (int inputs = 0; inputs < INPUTS; inputs++)
                    check_multiply(kernel_sets[s], &matrix, 0, tokens, KERNEL_ORDINARY,
                                   (enum inputs)inputs);
    }
}

/* Groups in any number and from any place on. */
static void multiply_takes_any_groups(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++)
        for (uint32_t groups = 1; groups <= 7; groups++) {
            uint32_t columns = can_have(all_types[t], 64) ? 64 : 256;
            struct cpu_matrix matrix =
                random_matrix(all_types[t], groups * CPU_PACK_ROWS - 5, columns, KERNEL_ORDINARY);

            for (uint32_t s = 1; s < kernel_set_count; s++)
                for (uint32_t first = 0; first < groups; first++)
                    check_multiply(kernel_sets[s], &matrix, first, 1 + first * 5, KERNEL_ORDINARY,
                                   WHOLE);
        }
}

/*
 * The largest sums there are: all quants 0 or the largest, with x all 127 or -127, so that whoever adds up in too few
 * bits, or saturates, is wrong.
 */
static void check_extremes(enum model_type type, uint8_t quants, float x)
{
    uint32_t columns = 256;
    struct model_matrix source = {
        .type = type, .rows = 16, .columns = columns, .data = weights + 1};
    size_t row_bytes;
    static _Alignas(CPU_PACK_ALIGN) uint8_t packed[16384];
    struct cpu_matrix matrix = {.type = type, .rows = 16, .columns = columns, .data = packed};
    struct cpu_product job = {.matrix = &matrix,
                              .groups = 1,
                              .x = xs + 1,
                              .x_stride = X_STRIDE,
                              .tokens = 13,
                              .y_stride = 16,
                              .is_whole = true};

    assert_true(model_type_row_bytes(type, columns, &row_bytes));
    source.row_bytes = row_bytes;
    matrix.group_bytes = cpu_pack_group_bytes(type, columns);
    assert_true(matrix.group_bytes <= sizeof packed);
    memset(weights + 1, quants, 16 * row_bytes);
    cpu_pack_rows(&source, 0, 1, packed);
    for (uint32_t token = 0; token < 13; token++) {
        float *input = xs + 1 + token * X_STRIDE;

        for (uint32_t k = 0; k < columns; k++)
            input[k] = k / 32 % 2 == 0 ? x : -x;
        make_behind(&cpu_product_reference, input, input, columns, 0, columns / 32, WHOLE);
    }
    job.y = expected;
    cpu_product_reference.multiply(&job);
    job.y = actual;
    for (uint32_t s = 1; s < kernel_set_count; s++) {
        make_bfloats(kernel_sets[s], columns, 13);
        kernel_sets[s]->products->multiply(&job);
        kernel_assert_same(actual, expected, 13 * 16, model_type_info(type)->name);
    }
}

static void the_largest_sums_are_exact(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x33, 0x77, 0x7f, 0x80, 0xbb};

    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++)
        for (size_t i = 0; i < sizeof bytes; i++) {
            check_extremes(all_types[t], bytes[i], 127.0f);
            check_extremes(all_types[t], bytes[i], -127.0f);
        }
    for (size_t t = 0; t < TYPE_COUNT;
         t++) /* scales of NaN: quants of all bits set are multiplied too */
        check_extremes(all_types[t], 0xff, 127.0f);
}

/* ---- BF16 ---- */

/*
 * Values at the ends of what may come up: zeros of both signs, what is just too small to count and just large enough,
 * and what overflows.
 */
static float extreme_float(void)
{
    static const uint32_t exponents[] = {0, 1, 71, 72, 72, 73, 80, 127, 128, 190, 253, 254};
    uint32_t exponent =
        exponents[td_rng_below(&kernel_rng, sizeof exponents / sizeof exponents[0])];
    uint32_t bits = (uint32_t)td_rng_next(&kernel_rng);
    float value;

    if (td_rng_below(&kernel_rng, 4) == 0)
        bits &= td_rng_below(&kernel_rng, 2) == 0
                    ? 0x80000000
                    : 0x80010000; /* few bits: ties, and sums of exactly 0 */
    bits = (bits & 0x807fffff) | exponent << 23;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void set_weight(uint32_t row, uint32_t column, uint32_t columns, float value)
{
    uint32_t bits;
    uint16_t upper;

    memcpy(&bits, &value, sizeof bits);
    upper = (uint16_t)(bits >> 16);
    memcpy(weights + 1 + 2 * ((size_t)row * columns + column), &upper, sizeof upper);
}

/* Neighbours often cancel each other, all but nothing. */
static void extreme_products(struct cpu_product *job, uint32_t columns)
{
    for (uint32_t row = 0; row < 16; row++)
        for (uint32_t k = 0; k < columns; k++)
            set_weight(row, k, columns, extreme_float());
    for (uint32_t row = 0; row < 16; row++)
        for (uint32_t k = 1; k < columns; k += 2)
            if (td_rng_below(&kernel_rng, 2) == 0)
                memcpy(weights + 1 + 2 * ((size_t)row * columns + k),
                       weights + 1 + 2 * ((size_t)row * columns + k - 1), 2);
    for (uint32_t token = 0; token < job->tokens; token++) {
        float *x = xs + 1 + token * X_STRIDE;

        memset(x, 0, cpu_input_sums(columns) * sizeof *x);
        for (uint32_t k = 0; k < columns; k++)
            x[k] = k % 2 == 1 && td_rng_below(&kernel_rng, 2) == 0 ? -x[k - 1] : extreme_float();
    }
}

/* With the instruction for it, which flushes subnormals, and without. */
static void extreme_bfloats_give_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t round = 0; round < 2000; round++) {
        uint32_t columns = 1 + (uint32_t)td_rng_below(&kernel_rng, 70);
        struct cpu_product job = {.groups = 1,
                                  .x = xs + 1,
                                  .x_stride = X_STRIDE,
                                  .tokens = 1 + round % 13,
                                  .y_stride = 16,
                                  .is_whole = true};
        struct cpu_matrix matrix;

        extreme_products(&job, columns);
        matrix = pack_weights(MODEL_TYPE_BF16, 16, columns);
        job.matrix = &matrix;
        make_bfloats(kernel_sets[0], columns, job.tokens);
        job.y = expected;
        cpu_product_reference.multiply(&job);
        job.y = actual;
        for (uint32_t s = 1; s < kernel_set_count; s++) {
            make_bfloats(kernel_sets[s], columns, job.tokens);
            kernel_sets[s]->products->multiply(&job);
            kernel_assert_same(actual, expected, job.tokens * 16, kernel_sets[s]->name);
        }
        for (uint32_t i = 0; i < job.tokens * 16; i++)
            assert_true(!(fabsf(expected[i]) < 0x1p-124f) ||
                        (expected[i] == 0.0f && !signbit(expected[i])));
    }
}

/* To the nearest, ties to even, or to 0: as a matrix of ones on the diagonal gives it back. */
static void check_rounded(float x, float rounded)
{
    uint32_t bits;
    float gap;

    memcpy(&bits, &rounded, sizeof bits);
    assert_int_equal(bits & 0xffff, 0);
    if (rounded == 0.0f) {
        assert_true(fabsf(x) < CPU_BFLOAT_MIN);
        return;
    }
    assert_true(fabsf(rounded) >= CPU_BFLOAT_MIN);
    gap = ldexpf(1.0f, ilogbf(x) - 7);
    assert_true(fabsf(rounded - x) < gap / 2.0f ||
                (fabsf(rounded - x) == gap / 2.0f && (bits & 0x10000) == 0));
}

static void bfloats_are_the_nearest(void **state)
{
    struct cpu_matrix matrix;
    struct cpu_product job = {.groups = 2, .x = xs + 1, .tokens = 1, .y = actual, .is_whole = true};

    (void)state;
    memset(weights, 0, 2 * 32 * 32 + 1);
    for (uint32_t i = 0; i < 32; i++)
        set_weight(i, i, 32, 1.0f);
    matrix = pack_weights(MODEL_TYPE_BF16, 32, 32);
    job.matrix = &matrix;
    for (uint32_t s = 0; s < kernel_set_count; s++)
        for (uint32_t round = 0; round < 500; round++) {
            for (uint32_t i = 0; i < 32; i++)
                do
                    xs[1 + i] = i % 2 == 0 ? kernel_float(KERNEL_WIDE) : extreme_float();
                while (fabsf(xs[1 + i]) > 0x1p126f);
            make_bfloats(kernel_sets[s], 32, 1);
            kernel_sets[s]->products->multiply(&job);
            for (uint32_t i = 0; i < 32; i++)
                check_rounded(xs[1 + i], actual[i]);
        }
}

/* ---- inputs ---- */

/* Where the whole numbers of an input start that are `far` further than the first. */
static void assert_same_whole(uint32_t columns, size_t far, const char *what)
{
    uint32_t blocks = cpu_pack_blocks(columns);
    const float *got = actual + 1 + far;
    const float *want = expected + 1 + far;
    size_t counts = cpu_input_counts(columns);

    kernel_assert_same(got + cpu_input_quant_sums(columns), want + cpu_input_quant_sums(columns),
                       blocks, what);
    kernel_assert_same(got + cpu_input_scales(columns), want + cpu_input_scales(columns), blocks,
                       what);
    assert_memory_equal(got + counts, want + counts,
                        (cpu_input_quant_sums(columns) + cpu_input_rest(columns) - counts) *
                            sizeof *got);
}

static void check_input(const struct cpu_kernels *set, uint32_t columns, enum kernel_flavor flavor,
                        enum inputs inputs)
{
    uint32_t blocks = cpu_pack_blocks(columns);
    size_t floats = cpu_input_floats(columns);
    size_t behind = inputs == FLOATS  ? cpu_input_sums(columns) + blocks
                    : inputs == WHOLE ? cpu_input_quant_sums(columns) + cpu_input_rest(columns)
                                      : cpu_input_bfloats(columns);
    size_t free_end = inputs == FLOATS ? floats : cpu_input_bfloats(columns);

    fill_columns(xs + 1, columns, flavor);
    if (flavor != KERNEL_HOSTILE && columns > 64) { /* blocks of zeros, and of nearly nothing */
        memset(xs + 1, 0, 32 * sizeof *xs);
        for (int i = 32; i < 64; i++)
            xs[1 + i] = 0x1p-120f;
    }
    kernel_plant_canaries(expected, floats + 17);
    kernel_plant_canaries(actual, floats + 17);
    make_behind(&cpu_product_reference, xs + 1, expected + 1, columns, 0, blocks, inputs);
    make_behind(set->products, xs + 1, actual + 1, columns, blocks / 3, blocks, inputs);
    make_behind(set->products, xs + 1, actual + 1, columns, 0, blocks / 3, inputs);
    kernel_assert_untouched(actual + 1, cpu_input_sums(columns), input_names[inputs]);
    kernel_assert_untouched(actual + 1 + behind, free_end - behind, input_names[inputs]);
    kernel_assert_untouched(actual + 1 + floats, 16, input_names[inputs]);
    if (inputs == FLOATS)
        kernel_assert_same(actual + 1 + cpu_input_sums(columns),
                           expected + 1 + cpu_input_sums(columns), blocks, input_names[inputs]);
    else
        assert_same_whole(columns, 0, input_names[inputs]);
    if (inputs == WITH_REST)
        assert_same_whole(columns, cpu_input_rest(columns), input_names[inputs]);
}

static void inputs_get_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t s = 1; s < kernel_set_count; s++)
        for (size_t c = 0; c < COLUMN_COUNTS; c++)
            for (int flavor = 0; flavor < KERNEL_FLAVORS; flavor++)
                for (int inputs = 0; inputs < INPUTS; inputs++)
                    check_input(kernel_sets[s], column_counts[c], (enum kernel_flavor)flavor,
                                (enum inputs)inputs);
}

/* Quants are within half a step of the value, and use all of their range. */
static void quants_are_close(void **state)
{
    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++) {
        const float *scales = xs + 1 + cpu_input_scales(1536);
        const int8_t *quants = (const int8_t *)(xs + 1 + cpu_input_quants(1536));

        fill_columns(xs + 1, 1536, KERNEL_ORDINARY);
        kernel_sets[s]->products->quantize(xs + 1, xs + 1, 1536, 0, 48);
        for (uint32_t block = 0; block < 48; block++) {
            int largest = 0;

            for (uint32_t i = 32 * block; i < 32 * block + 32; i++) {
                largest = abs(quants[i]) > largest ? abs(quants[i]) : largest;
                assert_true(fabsf(quants[i] * scales[block] - xs[1 + i]) <= 0.501f * scales[block]);
            }
            assert_int_equal(largest, 127);
        }
    }
}

/* With what they leave over, they are within a 32,000th of the largest value of a block. */
static void two_quants_are_very_close(void **state)
{
    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++) {
        const float *first = xs + 1;
        const float *rest = xs + 1 + cpu_input_rest(1536);
        size_t quants = cpu_input_quants(1536);
        size_t scales = cpu_input_scales(1536);

        fill_columns(xs + 1, 1536, KERNEL_ORDINARY);
        kernel_sets[s]->products->quantize(xs + 1, xs + 1, 1536, 0, 48);
        kernel_sets[s]->products->quantize_rest(xs + 1, xs + 1, 1536, 0, 48);
        for (uint32_t i = 0; i < 1536; i++) {
            float near = (float)((const int8_t *)(first + quants))[i] * first[scales + i / 32] +
                         (float)((const int8_t *)(rest + quants))[i] * rest[scales + i / 32];

            assert_true(fabsf(near - first[i]) <= 127.0f * first[scales + i / 32] / 32000.0f);
        }
    }
}

/* With BF16 what is no finite number stays as it is. */
static void a_bfloat_that_is_no_number_stays_none(void **state)
{
    static const float values[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX};

    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++)
        for (size_t v = 0; v < sizeof values / sizeof values[0]; v++) {
            struct cpu_matrix matrix = random_matrix(MODEL_TYPE_BF16, 16, 96, KERNEL_ORDINARY);
            struct cpu_product job = {.matrix = &matrix,
                                      .groups = 1,
                                      .x = xs + 1,
                                      .tokens = 1,
                                      .y = actual,
                                      .is_whole = true};

            fill_columns(xs + 1, 96, KERNEL_ORDINARY);
            xs[1 + 40] = values[v];
            make_bfloats(kernel_sets[s], 96, 1);
            kernel_sets[s]->products->multiply(&job);
            for (uint32_t row = 0; row < 16; row++)
                assert_true(isnan(values[v]) ? isnan(actual[row]) : isinf(actual[row]));
        }
}

/* Whatever is no finite number in an input makes every result of its quants NaN. */
static void an_input_that_is_no_number_gives_nan(void **state)
{
    static const float values[] = {NAN, INFINITY, -INFINITY};

    (void)state;
    for (uint32_t s = 0; s < kernel_set_count; s++)
        for (size_t v = 0; v < 3; v++) {
            struct cpu_matrix matrix = random_matrix(MODEL_TYPE_Q4_0, 16, 96, KERNEL_ORDINARY);
            struct cpu_product job = {.matrix = &matrix,
                                      .groups = 1,
                                      .x = xs + 1,
                                      .tokens = 1,
                                      .y = actual,
                                      .is_whole = true};

            fill_columns(xs + 1, 96, KERNEL_ORDINARY);
            xs[1 + 40] = values[v];
            kernel_sets[s]->products->quantize(xs + 1, xs + 1, 96, 0, 3);
            kernel_sets[s]->products->multiply(&job);
            for (uint32_t row = 0; row < 16; row++)
                assert_true(isnan(actual[row]));
            kernel_sets[s]->products->quantize_rest(xs + 1, xs + 1, 96, 0, 3);
            job.has_rest = true;
            kernel_sets[s]->products->multiply(&job);
            for (uint32_t row = 0; row < 16; row++)
                assert_true(isnan(actual[row]));
        }
}

static void the_reference_computes_the_sum(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        struct cpu_matrix matrix = random_matrix(all_types[t], 3, 1536, KERNEL_ORDINARY);
        struct cpu_product job = {
            .matrix = &matrix, .groups = 1, .x = xs + 1, .tokens = 1, .y = actual};
        size_t row_bytes;

        assert_true(model_type_row_bytes(all_types[t], 1536, &row_bytes));
        fill_input(xs + 1, 1536, KERNEL_ORDINARY, FLOATS);
        cpu_product_reference.multiply(&job);
        for (uint32_t row = 0; row < 3; row++) {
            double sum = 0.0;
            double magnitude = 0.0;

            model_dequantize(all_types[t], weights + 1 + row * row_bytes, 1536, expected);
            for (uint32_t k = 0; k < 1536; k++) {
                sum += (double)expected[k] * (double)xs[1 + k];
                magnitude += fabs((double)expected[k] * (double)xs[1 + k]);
            }
            assert_true(fabs(actual[row] - sum) <= 2e-6 * magnitude);
        }
    }
}

/* Units are neighbours that leave nothing out, and but for the last one whole blocks; none is above its size. */
static void check_cut(uint32_t groups, uint32_t tokens, uint32_t threads)
{
    struct cpu_cut cut = cpu_cut(groups, tokens, threads);
    uint32_t rows_max = tokens <= CPU_FEW_TOKENS ? CPU_UNIT_ROWS_FEW : CPU_UNIT_ROWS_MANY;
    uint32_t units = cpu_cut_units(&cut);
    uint32_t next = 0;

    for (uint32_t unit = 0; unit < units; unit++) {
        struct cpu_run run = cpu_cut_unit(&cut, unit);

        assert_int_equal(run.first, next);
        assert_true(run.count > 0 && run.count * CPU_PACK_ROWS <= rows_max);
        if (unit + 1 < units)
            assert_int_equal(run.count * CPU_PACK_ROWS % CPU_PACK_COLUMNS, 0);
        next += run.count;
    }
    assert_int_equal(next, groups);
}

static void units_leave_nothing_out(void **state)
{
    static const uint32_t thread_counts[] = {1, 2, 3, 8, 256};

    (void)state;
    for (size_t t = 0; t < sizeof thread_counts / sizeof thread_counts[0]; t++)
        for (uint32_t tokens = 1; tokens <= 512; tokens *= 8)
            for (uint32_t groups = 1; groups < 12000; groups += groups < 200 ? 1 : 977)
                check_cut(groups, tokens, thread_counts[t]);
}
static void kernels_are_chosen_by_name(void **state)
{
    const struct cpu_kernels *kernels = NULL;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(cpu_kernels_choose("reference", &kernels, &error), TD_OK);
    assert_string_equal(kernels->name, "reference");
    assert_int_equal(cpu_kernels_choose(NULL, &kernels, &error), TD_OK);
    assert_ptr_equal(kernels, kernel_sets[kernel_set_count - 1]);
    assert_int_equal(cpu_kernels_choose("sse9", &kernels, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "sse9"));
}
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multiply_gives_the_same_bits),
        cmocka_unit_test(multiply_takes_any_number_of_tokens),
        cmocka_unit_test(multiply_takes_any_groups),
        cmocka_unit_test(the_largest_sums_are_exact),
        cmocka_unit_test(extreme_bfloats_give_the_same_bits),
        cmocka_unit_test(bfloats_are_the_nearest),
        cmocka_unit_test(a_bfloat_that_is_no_number_stays_none),
        cmocka_unit_test(inputs_get_the_same_bits),
        cmocka_unit_test(quants_are_close),
        cmocka_unit_test(two_quants_are_very_close),
        cmocka_unit_test(an_input_that_is_no_number_gives_nan),
        cmocka_unit_test(the_reference_computes_the_sum),
        cmocka_unit_test(units_leave_nothing_out),
        cmocka_unit_test(kernels_are_chosen_by_name),
    };

    kernel_values_begin(20261121);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
