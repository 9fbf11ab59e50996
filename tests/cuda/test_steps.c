/*
 * test_steps.c: what a step is made of: how many kernels a layer has, for few rows and for many.
 */
#include <string.h>

#include "tests/cuda/rig.h"

#define LAYERS 3
#define VOCAB  40

static const struct cuda_device_ops *whole;
static struct cuda_device_ops counting;
static uint32_t launched[CUDA_KERNEL_COUNT];

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    launched[kernel]++;
    return whole->launch(device, kernel, grid, args, error);
}

static uint32_t sum(enum cuda_kernel first, enum cuda_kernel end)
{
    uint32_t total = 0;

    for (uint32_t kernel = (uint32_t)first; kernel < (uint32_t)end; kernel++)
        total += launched[kernel];
    return total;
}

static uint32_t products(void)
{
    return sum(CUDA_KERNEL_PRODUCT_FEW_BF16, CUDA_KERNEL_COUNT);
}

static uint32_t all(void)
{
    return sum((enum cuda_kernel)0, CUDA_KERNEL_COUNT);
}

/* A prompt of so many tokens, with logits of the last; behind it one more, which is a decode step. */
static void count_steps(uint32_t tokens, enum cuda_kv_dtype dtype, const uint32_t layer[2])
{
    static const struct model_shape shape = {.vocab = VOCAB,
                                             .hidden = 32,
                                             .ffn = 64,
                                             .layers = LAYERS,
                                             .heads = 4,
                                             .kv_heads = 2,
                                             .head_dim = 8,
                                             .type = MODEL_TYPE_Q8_0,
                                             .seed = 5};
    const struct cuda_options options = {
        .outputs_max = 1, .kv_dtype = dtype, .is_without_graphs = true};
    static const uint32_t ids[VOCAB * 3];
    struct cuda_rig rig;
    const float *logits;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    cuda_rig_open(&rig, cuda_rig_device(), model, &options);
    rig.bytes = bytes;
    whole = rig.device->ops;
    counting = *whole;
    counting.launch = launch;
    rig.device->ops = &counting;
    for (uint32_t i = 0; i < 2; i++) {
        memset(launched, 0, sizeof launched);
        cpu_rig_feed(&rig.base, 0, ids, i * tokens, tokens + i, ENGINE_WANT_LOGITS, 1, &logits);
        assert_int_equal(products(), 4 * LAYERS + 1);
        assert_int_equal(launched[CUDA_KERNEL_NORM], 1);
        assert_int_equal(all(), layer[i] * LAYERS + 3); /* embedding, norm and product for logits */
    }
    cuda_rig_close(&rig);
}

static void a_layer_has_five_kernels_when_all_decode(void **state)
{
    (void)state;
    count_steps(1, CUDA_KV_F16, (const uint32_t[]){5, 5}); /* a prompt of one is as a decode step */
    count_steps(8, CUDA_KV_F16, (const uint32_t[]){6, 5});
    assert_int_equal(launched[CUDA_KERNEL_PLACE], 0);
    assert_int_equal(launched[CUDA_KERNEL_ATTEND_FEW_64], LAYERS);
    assert_int_equal(launched[CUDA_KERNEL_ATTEND_MANY_64], 0); /* nothing to do, so not launched */
}

static void prompts_take_six_and_many_rows_two_more(void **state)
{
    (void)state;
    count_steps(64, CUDA_KV_F16, (const uint32_t[]){6, 5});
    count_steps(65, CUDA_KV_F16, (const uint32_t[]){8, 5});
    count_steps(8, CUDA_KV_F32, (const uint32_t[]){7, 7}); /* two of attention */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_has_five_kernels_when_all_decode),
        cmocka_unit_test(prompts_take_six_and_many_rows_two_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
