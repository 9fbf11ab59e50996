/*
 * test_device.c: a device that fails once stays failed, and says why once; and what cannot be opened is refused with
 * a reason. Without a GPU.
 */
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "tests/cuda/rig.h"

/* The interpreter, but a launch fails when its turn has come, as a GPU's does when memory goes bad under it. */
static const struct cuda_device_ops *interpreted;
static struct cuda_device_ops failing;
static int launches_left;
static int calls_after;

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    calls_after += launches_left < 0;
    if (launches_left-- == 0)
        return td_fail(error, TD_INTERNAL, "kernel norm: an illegal memory access");
    return interpreted->launch(device, kernel, grid, args, error);
}

static struct cuda_device *failing_device(void)
{
    struct cuda_device *device = cuda_rig_device();

    interpreted = device->ops;
    failing = *interpreted;
    failing.launch = launch;
    device->ops = &failing;
    calls_after = 0;
    return device;
}

static const struct model_shape small = {.vocab = 40,
                                         .hidden = 32,
                                         .ffn = 64,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 8,
                                         .type = MODEL_TYPE_Q8_0,
                                         .seed = 5};

static void the_first_failure_ends_the_step_and_all_later_ones(void **state)
{
    static const uint32_t tokens[] = {1, 2, 3};
    const struct cuda_options options = {.outputs_max = 1};
    struct engine_row row = {.token = 1};
    struct engine_batch batch = {.rows = &row, .row_count = 1, .sequence_count = 1};
    struct engine_batch_sequence sequence;
    struct engine_result result;
    struct cuda_rig rig;
    const float *logits;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&small, &bytes);
    struct td_error error = {0};

    (void)state;
    launches_left = INT32_MAX;
    cuda_rig_open(&rig, failing_device(), model, &options);
    rig.bytes = bytes;
    cpu_rig_feed(&rig.base, 0, tokens, 0, 3, ENGINE_WANT_LOGITS, 1, &logits);
    sequence = (struct engine_batch_sequence){.slots = rig.base.slots, .slot_count = 1};
    batch.sequences = &sequence;
    launches_left = 5;
    assert_int_equal(rig.base.backend->ops->run(rig.base.backend, &batch, &result), TD_INTERNAL);
    assert_int_equal(rig.base.backend->ops->run(rig.base.backend, &batch, &result), TD_INTERNAL);
    assert_int_equal(calls_after, 0);
    assert_int_equal(cuda_device_wait(rig.device, &error), TD_INTERNAL);
    assert_string_equal(error.text, "kernel norm: an illegal memory access");
    cuda_rig_close(&rig);
}

static void assert_refused(const struct model_shape *shape, size_t memory_bytes,
                           const struct cuda_options *options, const char *reason)
{
    struct cuda_device *device = NULL;
    struct engine_backend *backend = NULL;
    struct engine_kv kv;
    struct td_error error = {0};
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(shape, &bytes);
    size_t free_bytes = 0;

    assert_int_equal(interpreter_open(memory_bytes, &device, &error), TD_OK);
    assert_int_not_equal(cuda_backend_open(model, device, options, &kv, &backend, &error), TD_OK);
    if (strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
    assert_int_equal(cuda_device_free_bytes(device, &free_bytes, &error), TD_OK);
    assert_int_equal(free_bytes, memory_bytes); /* nothing is kept */
    cuda_device_close(device);
    model_close(model);
    free(bytes);
}

static void what_cannot_be_served_is_refused_with_a_reason(void **state)
{
    struct cuda_options options = {.block_count = 4};
    struct model_shape odd = small;

    (void)state;
    assert_refused(&small, 4096, &options, "of GPU memory are needed");
    options.block_tokens = 24;
    assert_refused(&small, (size_t)1 << 30, &options, "blocks of 24 tokens");
    options = (struct cuda_options){.memory_fraction = 1.5};
    assert_refused(&small, (size_t)1 << 30, &options, "share of GPU memory");
    options = (struct cuda_options){.rows_max = CUDA_ROWS_MAX + 1};
    assert_refused(&small, (size_t)1 << 30, &options, "rows");
    options = (struct cuda_options){.block_count = 4};
    odd.type = MODEL_TYPE_F16;
    odd.ffn = 50;
    assert_refused(&odd, (size_t)1 << 30, &options, "multiples of 8");
}

static void batches_that_lie_are_refused(void **state)
{
    const struct cuda_options options = {.rows_max = 2, .outputs_max = 1, .block_count = 4};
    static const uint32_t good[] = {0, 3};
    static const uint32_t outside[] = {0, 4};
    static const struct {
        struct engine_row row;
        struct engine_output output;
        const uint32_t *slots;
        td_status_t status;
    } cases[] = {
        {.slots = good, .output = {.want = ENGINE_WANT_LOGITS}, .status = TD_OK},
        {.row = {.token = 40}, .slots = good, .status = TD_INVALID},
        {.row = {.position = 32}, .slots = good, .status = TD_INVALID},
        {.row = {.sequence = 1}, .slots = good, .status = TD_INVALID},
        {.row = {.position = 16}, .slots = outside, .status = TD_INVALID},
        {.slots = good, .output = {.row = 1, .want = ENGINE_WANT_LOGITS}, .status = TD_INVALID},
        {.slots = good, .output = {.want = (enum engine_want)7}, .status = TD_INVALID},
    };
    struct cuda_rig rig;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&small, &bytes);

    (void)state;
    cuda_rig_open(&rig, cuda_rig_device(), model, &options);
    rig.bytes = bytes;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct engine_batch_sequence sequence = {.slots = cases[i].slots, .slot_count = 2};
        const struct engine_batch batch = {.rows = &cases[i].row,
                                           .row_count = 1,
                                           .sequences = &sequence,
                                           .sequence_count = 1,
                                           .outputs = &cases[i].output,
                                           .output_count = cases[i].output.want != 0};
        struct engine_result result;

        assert_int_equal(rig.base.backend->ops->run(rig.base.backend, &batch, &result),
                         cases[i].status);
    }
    cuda_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_failure_ends_the_step_and_all_later_ones),
        cmocka_unit_test(what_cannot_be_served_is_refused_with_a_reason),
        cmocka_unit_test(batches_that_lie_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
