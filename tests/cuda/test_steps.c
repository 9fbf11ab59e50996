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
static uint32_t empty;

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    launched[kernel]++;
    empty += grid.x == 0 || grid.y == 0 || grid.z == 0;
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

/* Of a prompt of so many tokens, with logits of the last; behind it one more, which is a decode step. */
static void count_steps(uint32_t tokens, uint32_t prompt_layer)
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
    const struct cuda_options options = {.outputs_max = 1, .is_without_graphs = true};
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
        uint32_t layer = i == 0 ? prompt_layer : 6;

        memset(launched, 0, sizeof launched);
        cpu_rig_feed(&rig.base, 0, ids, i * tokens, tokens + i, ENGINE_WANT_LOGITS, 1, &logits);
        assert_int_equal(products(), 4 * LAYERS + 1);
        assert_int_equal(launched[CUDA_KERNEL_PLACE], LAYERS);
        assert_int_equal(sum(CUDA_KERNEL_ATTEND_FEW_64, CUDA_KERNEL_PRODUCT_FEW_BF16), LAYERS);
        assert_int_equal(launched[CUDA_KERNEL_NORM], 1);
        assert_int_equal(all(), layer * LAYERS + 3); /* embedding, norm and product for logits */
    }
    cuda_rig_close(&rig);
}

static void a_layer_has_six_kernels_and_for_many_rows_two_more(void **state)
{
    (void)state;
    empty = 0;
    count_steps(1, 6);
    count_steps(8, 6);
    count_steps(64, 6);
    count_steps(65, 8);
    assert_int_equal(empty, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_layer_has_six_kernels_and_for_many_rows_two_more),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
