/* test_kernels.c: kernels other than products and attention, one by one, against double precision. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "tests/cuda/rig.h"

/* Memory of a device with a copy of something in it; freed with the device's. */
static void *sent(struct cuda_device *device, const void *data, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    if (data != NULL)
        cuda_device_upload(device, memory, data, bytes);
    return memory;
}

static void fetch_bf16(struct cuda_device *device, float *to, const uint16_t *from, size_t count)
{
    struct td_error error = {0};
    uint16_t *values = malloc(count * sizeof *values);

    assert_non_null(values);
    cuda_device_download(device, values, from, count * sizeof *values);
    if (cuda_device_wait(device, &error) != TD_OK)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < count; i++)
        to[i] = model_bfloat_to_float(values[i]);
    free(values);
}

static float unit(struct td_rng *rng)
{
    return (float)(2 * td_rng_unit(rng) - 1);
}

/* ------------------------------------------------------------------ rows */

static void norms_are_those_of_double_precision(void **state)
{
    enum { COUNT = 1000, COPIES = 3 };
    static float x[COPIES][COUNT];
    static float weight[COUNT];
    static float out[COPIES][COUNT];
    static const uint32_t picks[COPIES] = {2, 0 | CUDA_PICK_HEAD, 0};
    struct cuda_device *device = cuda_rig_device();
    struct cuda_norm_args args = {.count = COUNT, .epsilon = 1e-5f};
    struct td_rng rng;
    float *rows;
    uint16_t *result;

    (void)state;
    td_rng_init(&rng, 8);
    for (uint32_t i = 0; i < COPIES * COUNT; i++)
        x[i / COUNT][i % COUNT] = unit(&rng);
    for (uint32_t i = 0; i < COUNT; i++)
        weight[i] = unit(&rng);
    args.x = rows = sent(device, x, sizeof x);
    args.heads = rows + COUNT; /* the given state is row 1 */
    args.weight = sent(device, weight, sizeof weight);
    args.picks = sent(device, picks, sizeof picks);
    args.out = result = sent(device, NULL, sizeof out / 2);
    cuda_device_launch(device, CUDA_KERNEL_NORM, (struct cuda_grid){COPIES, 1, 1}, &args);
    fetch_bf16(device, out[0], result, COPIES * COUNT);
    for (uint32_t i = 0; i < COPIES; i++) {
        const float *row = x[(picks[i] & CUDA_PICK_HEAD) != 0 ? 1 : picks[i]];
        double squares = 0;

        for (uint32_t k = 0; k < COUNT; k++)
            squares += (double)row[k] * (double)row[k];
        for (uint32_t k = 0; k < COUNT; k++) {
            double expected = (double)row[k] * (double)weight[k] / sqrt(squares / COUNT + 1e-5);

            assert_true(fabs((double)out[i][k] - expected) <= 0x1.01p-8 * fabs(expected) + 1e-6);
        }
    }
    cuda_device_give(device, rows);
    cuda_device_give(device, (void *)(uintptr_t)args.weight);
    cuda_device_give(device, (void *)(uintptr_t)args.picks);
    cuda_device_give(device, result);
    cuda_device_close(device);
}

static void silu_is_that_of_double_precision(void **state)
{
    enum { COUNT = 700 };
    float gate[COUNT];
    float up[COUNT];
    float out[COUNT];
    struct cuda_device *device = cuda_rig_device();
    struct cuda_activate_args args = {.count = COUNT};

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        gate[i] = (float)(i - COUNT / 2) / 8;
        up[i] = 1.0f + (float)i / COUNT;
    }
    args.gate = sent(device, gate, sizeof gate);
    args.up = sent(device, up, sizeof up);
    args.out = sent(device, NULL, COUNT * sizeof *args.out);
    cuda_device_launch(device, CUDA_KERNEL_ACTIVATE, (struct cuda_grid){(COUNT + 255) / 256, 1, 1},
                       &args);
    fetch_bf16(device, out, args.out, COUNT);
    for (int i = 0; i < COUNT; i++) {
        double expected = (double)gate[i] / (1 + exp(-(double)gate[i])) * (double)up[i];

        assert_true(fabs((double)out[i] - expected) <= 0x1.01p-8 * fabs(expected) + 1e-9);
    }
    cuda_device_give(device, (void *)(uintptr_t)args.gate);
    cuda_device_give(device, (void *)(uintptr_t)args.up);
    cuda_device_give(device, args.out);
    cuda_device_close(device);
}

/* ------------------------------------------------------------------ random weights */

static double check_filled(enum model_type type)
{
    enum { BLOCKS = 300 };
    const struct model_type_info *info = model_type_info(type);
    struct cuda_device *device = cuda_rig_device();
    struct cuda_fill_args args = {.blocks = BLOCKS,
                                  .type = (uint32_t)type,
                                  .block_bytes = info->block_bytes,
                                  .scale_at = type == MODEL_TYPE_Q6_K ? 208 : 0,
                                  .has_minimum = type == MODEL_TYPE_Q4_1 ||
                                                 type == MODEL_TYPE_Q5_1 ||
                                                 type == MODEL_TYPE_Q4_K || type == MODEL_TYPE_Q5_K,
                                  .range = 0.25f};
    static uint8_t bytes[BLOCKS * MODEL_Q6_K_BYTES];
    static float values[BLOCKS * MODEL_K_VALUES];
    size_t length = (size_t)BLOCKS * info->block_bytes;
    struct td_error error = {0};
    double squares = 0;

    args.data = sent(device, NULL, length);
    cuda_device_launch(device, CUDA_KERNEL_FILL, (struct cuda_grid){(BLOCKS + 255) / 256, 1, 1},
                       &args);
    cuda_device_download(device, bytes, args.data, length);
    assert_int_equal(cuda_device_wait(device, &error), TD_OK);
    model_dequantize(type, bytes, (size_t)BLOCKS * info->block_values, values);
    for (size_t i = 0; i < (size_t)BLOCKS * info->block_values; i++)
        squares += (double)values[i] * (double)values[i];
    cuda_device_give(device, args.data);
    cuda_device_close(device);
    return sqrt(squares / (BLOCKS * info->block_values)) / 0.25;
}

/* Of the spread that their quants have: 32 values of 4 bits, uniform, around 0 have 4.6. */
static void random_weights_are_numbers_of_the_size_asked_for(void **state)
{
    static const struct {
        enum model_type type;
        double least;
        double most;
    } cases[] = {
        {MODEL_TYPE_F32, 0.5, 0.65}, {MODEL_TYPE_F16, 0.5, 0.65},   {MODEL_TYPE_BF16, 0.5, 0.65},
        {MODEL_TYPE_Q4_0, 4.4, 4.8}, {MODEL_TYPE_Q4_1, 8, 10},      {MODEL_TYPE_Q5_0, 9, 9.5},
        {MODEL_TYPE_Q5_1, 17, 19},   {MODEL_TYPE_Q8_0, 72, 76},     {MODEL_TYPE_Q4_K, 250, 400},
        {MODEL_TYPE_Q5_K, 500, 800}, {MODEL_TYPE_Q6_K, 1200, 1500}, {MODEL_TYPE_F8_E4M3, 0.5, 0.65},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double spread = check_filled(cases[i].type);

        if (!(spread >= cases[i].least && spread <= cases[i].most))
            fail_msg("%s: %g", model_type_info((uint32_t)cases[i].type)->name, spread);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norms_are_those_of_double_precision),
        cmocka_unit_test(silu_is_that_of_double_precision),
        cmocka_unit_test(random_weights_are_numbers_of_the_size_asked_for),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
