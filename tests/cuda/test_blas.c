/*
 * test_blas.c: what cuBLASLt is told: layouts, strides, biases, what is added to, and ways that are kept. Over a stand-in that
 * multiplies in ordinary memory and refuses what the library would (stub_blas.c), found by the library's own name.
 */
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/gpu/blas.h"
#include "lib/base/random.h"
#include "tests/cuda/stub_blas.h"
#include "tests/support/support.h"

#define WORKSPACE_BYTES 1024
#define ROWS_MAX        96
#define COLUMNS_MAX     80
#define TOKENS_MAX      40

static struct stub_blas *stub;
static void *library;

struct operands {
    _Alignas(256) uint16_t matrix[ROWS_MAX * COLUMNS_MAX];
    _Alignas(256) uint16_t x[TOKENS_MAX * COLUMNS_MAX];
    _Alignas(256) float bias[ROWS_MAX];
    _Alignas(256) float y[TOKENS_MAX * 2 * ROWS_MAX];
    _Alignas(256) float before[TOKENS_MAX * 2 * ROWS_MAX];
};

static struct operands operands;
static uint8_t workspace[WORKSPACE_BYTES];
static char stream_place; /* stands for a stream */

static struct CUstream_st *stream(void)
{
    return (struct CUstream_st *)(void *)&stream_place;
}

/* It must be ours that is found, wherever else the real one is installed. */
static int set_up(void **state)
{
    (void)state;
    library = dlopen("libcublasLt.so.13", RTLD_NOW | RTLD_LOCAL);
    stub = library != NULL ? dlsym(library, "stub_blas") : NULL;
    return stub != NULL ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    return dlclose(library);
}

static float as_float(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Numbers of a few bits, whose sums are exact: every order of adding gives the same. */
static uint16_t small_number(struct td_rng *rng)
{
    float value = (float)((int)td_rng_below(rng, 17) - 8) / 4;
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)(bits >> 16);
}

static void fill(uint64_t seed)
{
    struct td_rng rng;

    td_rng_init(&rng, seed);
    for (size_t i = 0; i < sizeof operands.matrix / sizeof operands.matrix[0]; i++)
        operands.matrix[i] = small_number(&rng);
    for (size_t i = 0; i < sizeof operands.x / sizeof operands.x[0]; i++)
        operands.x[i] = small_number(&rng);
    for (size_t i = 0; i < ROWS_MAX; i++)
        operands.bias[i] = as_float(small_number(&rng));
    for (size_t i = 0; i < sizeof operands.y / sizeof operands.y[0]; i++)
        operands.y[i] = operands.before[i] = as_float(small_number(&rng));
}

static struct gpu_blas *open_blas(void)
{
    struct gpu_blas *blas = NULL;
    struct td_error error = {0};

    *stub = (struct stub_blas){0};
    if (gpu_blas_open(workspace, sizeof workspace, &blas, &error) != TD_OK)
        fail_msg("%s", error.text);
    return blas;
}

/* With everything given back, and no call that the library would have refused. */
static void close_blas(struct gpu_blas *blas)
{
    gpu_blas_close(blas);
    assert_string_equal(stub->complaint, "");
    assert_int_equal(stub->objects, 0);
}

static void multiply(struct gpu_blas *blas, const struct cuda_dense *dense)
{
    struct td_error error = {0};

    stub->stream = NULL;
    if (gpu_blas_multiply(blas, dense, stream(), &error) != TD_OK)
        fail_msg("%s (%s)", error.text, stub->complaint);
    assert_ptr_equal(stub->stream, stream());
}

/* Every number of y, those between the rows included, against the definition of struct cuda_dense. */
static void check(const struct cuda_dense *dense)
{
    size_t offset = (size_t)(dense->y - operands.y);
    float expected[sizeof operands.y / sizeof operands.y[0]];

    memcpy(expected, operands.before, sizeof expected);
    for (uint32_t token = 0; token < dense->tokens; token++) {
        for (uint32_t row = 0; row < dense->rows; row++) {
            float *place = &expected[offset + token * dense->stride + row];
            float sum = dense->bias != NULL ? dense->bias[row] : 0;

            for (uint32_t i = 0; i < dense->columns; i++)
                sum += as_float(dense->matrix[row * dense->columns + i]) *
                       as_float(dense->x[token * dense->columns + i]);
            *place = sum + (dense->is_added ? *place : 0);
        }
    }
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++)
        if (!(expected[i] == operands.y[i]))
            fail_msg("y[%zu] is %g instead of %g", i, (double)operands.y[i], (double)expected[i]);
}

static struct cuda_dense product(uint32_t rows, uint32_t columns, uint32_t tokens)
{
    return (struct cuda_dense){.matrix = operands.matrix,
                               .x = operands.x,
                               .y = operands.y,
                               .rows = rows,
                               .columns = columns,
                               .stride = rows,
                               .tokens = tokens};
}

static void every_shape_is_multiplied_as_it_is_meant(void **state)
{
    static const struct {
        uint32_t rows;
        uint32_t columns;
        uint32_t tokens;
        uint32_t more; /* of the stride than rows */
        uint32_t offset;
        bool has_bias;
        bool is_added;
    } cases[] = {
        {64, 32, 32, 0, 0, false, false},  {32, 64, 33, 0, 0, false, true},
        {96, 80, 40, 0, 0, true, false},   {16, 48, 32, 48, 0, true, false},
        {16, 48, 32, 48, 16, true, false}, /* keys, beside queries */
        {16, 48, 32, 48, 32, false, true}, {8, 8, 1, 0, 4, true, true},
    };
    struct gpu_blas *blas = open_blas();

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cuda_dense dense = product(cases[i].rows, cases[i].columns, cases[i].tokens);

        fill(i);
        dense.stride += cases[i].more;
        dense.y += cases[i].offset;
        dense.bias = cases[i].has_bias ? operands.bias : NULL;
        dense.is_added = cases[i].is_added;
        multiply(blas, &dense);
        check(&dense);
    }
    assert_int_equal(stub->multiplied, sizeof cases / sizeof cases[0]);
    close_blas(blas);
}

/* What y holds is not to be read where nothing is added to it: it may be no number. */
static void what_was_there_before_does_not_matter_unless_it_is_added_to(void **state)
{
    struct cuda_dense dense = product(32, 16, 32);
    struct gpu_blas *blas = open_blas();

    (void)state;
    fill(1);
    for (size_t i = 0; i < (size_t)32 * 32; i++)
        operands.y[i] = NAN;
    multiply(blas, &dense);
    check(&dense);
    close_blas(blas);
}

/* A layer's bias is another one's, in the same shape. */
static void a_shape_is_asked_for_once_and_its_bias_each_time(void **state)
{
    struct cuda_dense dense = product(32, 64, 32);
    struct gpu_blas *blas = open_blas();

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        fill(i);
        dense.bias = operands.bias + 4 * i;
        dense.is_added = i % 2 == 1; /* no part of the shape */
        multiply(blas, &dense);
        check(&dense);
    }
    assert_int_equal(stub->asked, 1);
    fill(9);
    dense.bias = NULL;
    dense.is_added = false;
    multiply(blas, &dense);
    check(&dense);
    assert_int_equal(stub->asked, 2);
    close_blas(blas);
}

/* More than are kept: some are forgotten, and asked for again. */
static void many_shapes_take_turns_and_stay_right(void **state)
{
    struct gpu_blas *blas = open_blas();

    (void)state;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 1500; i++) {
            struct cuda_dense dense = product(1 + i % 50, 1 + i / 50, 1 + i % 3);

            dense.is_added = false;
            fill(i);
            multiply(blas, &dense);
            if (i % 50 == 7)
                check(&dense);
        }
    }
    assert_in_range(stub->asked, 1501, 3000);
    assert_in_range(stub->objects, 2, 2 + 4 * 1024);
    close_blas(blas);
}

static void expect_failure(const char *failing, td_status_t status, const char *text)
{
    const struct cuda_dense dense = product(32, 16, 32);
    struct td_error error = {0};
    struct gpu_blas *blas = open_blas();

    stub->failing = failing;
    assert_int_equal(gpu_blas_multiply(blas, &dense, stream(), &error), status);
    if (strstr(error.text, text) == NULL)
        fail_msg("'%s' is not in: %s", text, error.text);
    stub->failing = NULL;
    fill(3);
    multiply(blas, &dense); /* nothing half-made was kept */
    check(&dense);
    close_blas(blas);
}

static void what_fails_is_said_and_leaves_nothing_behind(void **state)
{
    struct cuda_dense dense = product(48, 16, 37);
    struct gpu_blas *blas = open_blas();
    struct td_error error = {0};

    (void)state;
    stub->tokens_wrong = 37;
    assert_int_equal(gpu_blas_multiply(blas, &dense, stream(), &error), TD_UNSUPPORTED);
    assert_non_null(strstr(error.text, "48 x 16 by 37"));
    close_blas(blas);
    expect_failure("MatmulDescCreate", TD_INTERNAL, "describing a product: status 14");
    expect_failure("MatmulDescSetAttribute", TD_INTERNAL, "describing a product: status 14");
    expect_failure("MatrixLayoutCreate", TD_INTERNAL, "describing a product: status 14");
    expect_failure("MatmulAlgoGetHeuristic", TD_INTERNAL, "choosing an algorithm: status 14");
    expect_failure("Matmul", TD_INTERNAL, "a product: status 14");
}

static void a_library_that_does_not_start_is_refused(void **state)
{
    static const char *const failing[] = {"Create", "MatmulPreferenceCreate"};
    static const char *const texts[] = {"create: status 14", "preferences: status 14"};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct gpu_blas *blas = NULL;
        struct td_error error = {0};

        *stub = (struct stub_blas){.failing = failing[i]};
        assert_int_equal(gpu_blas_open(workspace, sizeof workspace, &blas, &error), TD_INTERNAL);
        assert_non_null(strstr(error.text, texts[i]));
        assert_int_equal(stub->objects, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape_is_multiplied_as_it_is_meant),
        cmocka_unit_test(what_was_there_before_does_not_matter_unless_it_is_added_to),
        cmocka_unit_test(a_shape_is_asked_for_once_and_its_bias_each_time),
        cmocka_unit_test(many_shapes_take_turns_and_stay_right),
        cmocka_unit_test(what_fails_is_said_and_leaves_nothing_behind),
        cmocka_unit_test(a_library_that_does_not_start_is_refused),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
