/*
 * test_pack.c: packed weights mean what the file says, bit for bit, but for nearly nothing in BF16: all types, odd
 * sizes, any bits.
 */
#include "tests/support/support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/pack.h"
#include "engine/cpu/weights.h"
#include "lib/base/random.h"
#include "tests/model/gguf_build.h"

static const enum model_type all_types[] = {
#define X(type, name, quants, scales, zero) MODEL_TYPE_##type,
    CPU_PACK_TYPES(X)
#undef X
};
#define TYPE_COUNT (sizeof all_types / sizeof all_types[0])

static struct td_rng rng;

/* Memory for one matrix of each kind at a time. */
static uint8_t source_bytes[40 * 2304 * 4];
static _Alignas(CPU_PACK_ALIGN) uint8_t packed[48 * 2304 * 4];

/* Of FP8: for three rows and 64 columns each. */
static float scales[14 * 36];

static void draw_scales(struct model_matrix *source)
{
    for (size_t i = 0; i < sizeof scales / sizeof scales[0]; i++)
        scales[i] = (float)(td_rng_unit(&rng) + 0.01);
    source->scales = (struct model_scales){
        .values = scales, .rows = 3, .columns = 64, .across = (source->columns + 63) / 64};
}

/* A matrix of random bytes, which are any values: huge scales, infinities and NaN too. */
static struct model_matrix random_source(enum model_type type, uint32_t rows, uint32_t columns)
{
    struct model_matrix source = {.type = type, .rows = rows, .columns = columns};

    assert_true(model_type_row_bytes(type, columns, &source.row_bytes));
    assert_true(rows * source.row_bytes <= sizeof source_bytes);
    for (size_t i = 0; i < rows * source.row_bytes; i++)
        source_bytes[i] = (uint8_t)td_rng_next(&rng);
    source.data = source_bytes;
    if (type == MODEL_TYPE_F8_E4M3)
        draw_scales(&source);
    return source;
}

static struct cpu_matrix pack(const struct model_matrix *source)
{
    struct cpu_matrix matrix = {.type = source->type,
                                .rows = source->rows,
                                .columns = source->columns,
                                .group_bytes = cpu_pack_group_bytes(source->type, source->columns)};
    size_t bytes = cpu_pack_groups(source->rows) * matrix.group_bytes;

    assert_true(bytes <= sizeof packed);
    memset(packed, 0xa5, bytes);
    /* the last group first: the order does not matter */
    for (uint32_t group = cpu_pack_groups(source->rows); group-- > 0;)
        cpu_pack_rows(source, group, 1, packed);
    matrix.data = packed;
    return matrix;
}

/* The value of a row and column, or the zero that stands behind the last ones. */
static float value_at(const struct cpu_matrix *matrix, uint32_t row, uint32_t column)
{
    bool has_scales = cpu_pack_forms[matrix->type].scales != CPU_SCALES_NONE;
    uint32_t r = row % CPU_PACK_ROWS;
    uint32_t c = column % CPU_PACK_COLUMNS;
    struct cpu_pack_values values;

    cpu_pack_read(matrix, row / CPU_PACK_ROWS, column / CPU_PACK_COLUMNS, &values);
    if (!has_scales)
        return values.quants[c][r];
    /* without a minimum nothing is added: a negative zero stays one */
    if (cpu_pack_forms[matrix->type].scales == CPU_SCALES_PLAIN ||
        cpu_pack_forms[matrix->type].scales == CPU_SCALES_FLOAT ||
        cpu_pack_forms[matrix->type].scales == CPU_SCALES_K16)
        return values.scale[c / 16][r] * values.quants[c][r];
    return values.scale[c / 16][r] * values.quants[c][r] + values.minimum[r];
}

static void check_values(enum model_type type, uint32_t rows, uint32_t columns)
{
    struct model_matrix source = random_source(type, rows, columns);
    struct cpu_matrix matrix = pack(&source);
    float *expected = calloc(columns, sizeof *expected);

    assert_non_null(expected);
    for (uint32_t row = 0; row < rows; row++) {
        model_matrix_row(&source, row, expected);
        for (uint32_t column = 0; column < columns; column++) {
            float value = value_at(&matrix, row, column);

            if (type == MODEL_TYPE_BF16 && fabsf(expected[column]) < CPU_BFLOAT_MIN)
                expected[column] = 0.0f;
            if (memcmp(&value, &expected[column], sizeof value) != 0 &&
                !(isnan(value) && isnan(expected[column])))
                fail_msg("%s %u x %u: row %u column %u is %a instead of %a",
                         model_type_info(type)->name, rows, columns, row, column, (double)value,
                         (double)expected[column]);
        }
    }
    free(expected);
}

static void every_value_is_the_one_of_the_file(void **state)
{
    static const uint32_t column_counts[] = {1, 2, 31, 32, 33, 96, 256, 511, 768, 2304};
    static const uint32_t row_counts[] = {1, 15, 16, 17, 40};

    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++)
        for (size_t c = 0; c < sizeof column_counts / sizeof column_counts[0]; c++)
            for (size_t r = 0; r < sizeof row_counts / sizeof row_counts[0]; r++)
                if (column_counts[c] % model_type_info(all_types[t])->block_values == 0)
                    check_values(all_types[t], row_counts[r], column_counts[c]);
}

static void bfloats_count_from_their_minimum_on(void **state)
{
    static const uint16_t values[] = {0x2400, 0xa400, 0x23ff, 0xa3ff, 0x8000, 0x0001};
    static const float expected[] = {CPU_BFLOAT_MIN, -CPU_BFLOAT_MIN, 0.0f, 0.0f, 0.0f, 0.0f};
    struct model_matrix source = {.type = MODEL_TYPE_BF16,
                                  .rows = 1,
                                  .columns = 6,
                                  .data = (const uint8_t *)values,
                                  .row_bytes = sizeof values};
    struct cpu_matrix matrix = pack(&source);

    (void)state;
    for (uint32_t column = 0; column < 6; column++) {
        float value = value_at(&matrix, 0, column);

        assert_memory_equal(&value, &expected[column], sizeof value);
    }
}

/* What is behind the last row, and behind the last column of floats, is zeros: kernels read it. */
static void what_is_behind_the_end_is_zero(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        uint32_t columns = model_type_info(all_types[t])->block_values;
        struct model_matrix source = random_source(all_types[t], 3, columns);
        struct cpu_matrix matrix = pack(&source);
        struct cpu_pack_values values;

        cpu_pack_read(&matrix, 0, cpu_pack_blocks(columns) - 1, &values);
        for (uint32_t row = 3; row < CPU_PACK_ROWS; row++)
            for (uint32_t c = 0; c < CPU_PACK_COLUMNS; c++) {
                if (cpu_pack_forms[all_types[t]].scales == CPU_SCALES_NONE)
                    assert_true(values.quants[c][row] == 0.0f);
                else
                    assert_true(values.scale[c / 16][row] == 0.0f && values.minimum[row] == 0.0f);
            }
        for (uint32_t c = columns; c < CPU_PACK_COLUMNS; c++)
            assert_true(values.quants[c][0] == 0.0f);
    }
}

/* As large as the types of the file promise: nothing is widened. */
static void packed_weights_are_as_small_as_the_file(void **state)
{
    (void)state;
    for (size_t t = 0; t < TYPE_COUNT; t++) {
        size_t row_bytes;
        size_t group_bytes = cpu_pack_group_bytes(all_types[t], 2048);
        size_t scales_of_fp8 = /* beside the matrix in the file */
            all_types[t] == MODEL_TYPE_F8_E4M3 ? CPU_PACK_ROWS * sizeof(float) * 2048 / 32 : 0;

        assert_true(model_type_row_bytes(all_types[t], 2048, &row_bytes));
        /* scales of 6 bits have 8 here: 3 % more at most */
        assert_true(group_bytes >= CPU_PACK_ROWS * row_bytes);
        assert_true(group_bytes <= CPU_PACK_ROWS * row_bytes * 103 / 100 + scales_of_fp8);
    }
}

static struct model *open_model(enum model_type type, struct gguf_bytes *file_out)
{
    const struct model_shape shape = {.vocab = 50,
                                      .hidden = 256,
                                      .ffn = 512,
                                      .layers = 3,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 64,
                                      .type = type,
                                      .seed = 7};

    return gguf_build_open(&shape, file_out);
}

static void assert_same_matrix(const struct cpu_matrix *matrix, const struct model_matrix *source)
{
    struct cpu_matrix alone = pack(source);

    assert_int_equal(matrix->type, source->type);
    assert_int_equal(matrix->rows, source->rows);
    assert_int_equal(matrix->columns, source->columns);
    assert_int_equal((uintptr_t)matrix->data % CPU_PACK_ALIGN, 0);
    assert_memory_equal(matrix->data, alone.data, cpu_pack_groups(alone.rows) * alone.group_bytes);
}

struct heard {
    uint64_t last;
    uint32_t count;
};

static void hear(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct heard *heard = ctx;

    assert_non_null(what);
    assert_true(done >= heard->last && done <= total);
    heard->last = done;
    heard->count++;
}

static void every_matrix_is_in_its_place_however_many_threads_pack(void **state)
{
    (void)state;
    for (uint32_t threads = 1; threads <= 4; threads++) {
        struct heard heard = {0};
        struct cpu_weights_options options = {.threads = threads, .progress = hear, .ctx = &heard};
        struct cpu_weights *weights = NULL;
        struct td_error error = {0};
        struct gguf_bytes file;
        struct model *model = open_model(MODEL_TYPE_Q4_1, &file);

        if (cpu_weights_open(model, &options, &weights, &error) != TD_OK)
            fail_msg("%s", error.text);
        for (uint32_t i = 0; i < model->layers; i++) {
            assert_same_matrix(&weights->layer[i].q, &model->layer[i].q);
            assert_same_matrix(&weights->layer[i].k, &model->layer[i].k);
            assert_same_matrix(&weights->layer[i].v, &model->layer[i].v);
            assert_same_matrix(&weights->layer[i].attention_output,
                               &model->layer[i].attention_output);
            assert_same_matrix(&weights->layer[i].gate, &model->layer[i].gate);
            assert_same_matrix(&weights->layer[i].up, &model->layer[i].up);
            assert_same_matrix(&weights->layer[i].down, &model->layer[i].down);
        }
        assert_same_matrix(&weights->output, &model->output);
        assert_int_equal(weights->bytes, cpu_weights_bytes(model));
        assert_true(heard.count > 0);
        cpu_weights_close(weights);
        model_close(model);
        free(file.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_is_the_one_of_the_file),
        cmocka_unit_test(bfloats_count_from_their_minimum_on),
        cmocka_unit_test(what_is_behind_the_end_is_zero),
        cmocka_unit_test(packed_weights_are_as_small_as_the_file),
        cmocka_unit_test(every_matrix_is_in_its_place_however_many_threads_pack),
    };

    td_rng_init(&rng, 20261121);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
