/*
 * test_fast.c: the fast variant, whose products of many rows are a library's: what it computes is what ours does, nearly;
 * nobody takes it for ours, and it is not there for what it cannot do.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/fast.h"
#include "tests/cuda/rig.h"

#define VOCAB  40
#define TOKENS 70

static const struct model_shape shape = {.vocab = VOCAB,
                                         .hidden = 64,
                                         .ffn = 96,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 16,
                                         .architecture = "qwen2", /* biases */
                                         .type = MODEL_TYPE_BF16,
                                         .seed = 31};

static void open_rig(struct cuda_rig *rig, struct cuda_device *device, bool is_fast,
                     bool is_without_graphs)
{
    const struct cuda_options options = {.outputs_max = 64,
                                         .block_count = 80,
                                         .is_fast = is_fast,
                                         .is_without_graphs = is_without_graphs};
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    cuda_rig_open(rig, device, model, &options);
    rig->bytes = bytes;
}

/* A device on which the fast variant is possible; skips the test where the library is not installed. */
static struct cuda_device *fast_device(void)
{
    struct cuda_device *device = cuda_rig_device();
    struct td_error error = {0};
    void *memory = NULL;
    td_status_t status = cuda_device_take(device, 256, &memory, &error);

    if (status == TD_OK)
        status = cuda_device_open_dense(device, memory, 256, &error);
    cuda_device_give(device, memory);
    if (status == TD_OK)
        return device;
    cuda_device_close(device);
    if (status != TD_NOT_FOUND)
        fail_msg("%s", error.text);
    print_message("%s\n", error.text);
    skip();
    return NULL;
}

/* Ours rounds activations to bf16 before the norm's scale, and the fast variant behind it. */
static void assert_near(const float *actual, const float *expected)
{
    double largest = 0;

    for (uint32_t id = 0; id < VOCAB; id++)
        largest = fmax(largest, fabs((double)expected[id]));
    for (uint32_t id = 0; id < VOCAB; id++)
        if (!(fabs((double)actual[id] - (double)expected[id]) <= 4e-2 * largest))
            fail_msg("logit %u: %g instead of %g", id, (double)actual[id], (double)expected[id]);
}

static const struct cuda_device_ops *library;
static struct cuda_device_ops counting;
static uint32_t products;
static uint32_t recorded_products;

static td_status_t count_product(struct cuda_device *device, const struct cuda_dense *dense,
                                 struct td_error *error)
{
    products++;
    recorded_products += device->is_recording;
    return library->dense(device, dense, error);
}

static struct cuda_device *counting_device(void)
{
    struct cuda_device *device = fast_device();

    library = device->ops;
    counting = *library;
    counting.dense = count_product;
    device->ops = &counting;
    products = recorded_products = 0;
    return device;
}

static void prompts_give_nearly_the_same_logits(void **state)
{
    static const uint32_t counts[] = {CUDA_FAST_ROWS_MIN - 1, CUDA_FAST_ROWS_MIN, TOKENS};
    uint32_t tokens[TOKENS];
    struct cuda_rig fast;
    struct cuda_rig ours;
    const float *actual[2];
    const float *expected[2];

    (void)state;
    for (uint32_t i = 0; i < TOKENS; i++)
        tokens[i] = (i * 11 + 3) % VOCAB;
    open_rig(&fast, counting_device(), true, false);
    open_rig(&ours, cuda_rig_device(), false, false);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        cpu_rig_feed(&fast.base, 0, tokens, 0, counts[i], ENGINE_WANT_LOGITS, 2, actual);
        cpu_rig_feed(&ours.base, 0, tokens, 0, counts[i], ENGINE_WANT_LOGITS, 2, expected);
        for (uint32_t k = 0; k < 2; k++)
            assert_near(actual[k], expected[k]);
        if (counts[i] < CUDA_FAST_ROWS_MIN)
            assert_memory_equal(actual[0], expected[0], VOCAB * sizeof(float)); /* our kernels */
    }
    assert_int_equal(products, 2 * 7 * shape.layers); /* of the two longer ones */
    cuda_rig_close(&fast);
    cuda_rig_close(&ours);
}

/* One token of each of many sequences: a bucket whose products are the library's, recorded when it has met them. */
static void many_that_decode_are_recorded_and_replayed(void **state)
{
    enum { COUNT = CUDA_FAST_ROWS_MIN + 1 };
    static float first[COUNT][VOCAB];
    struct engine_batch_sequence sequences[COUNT];
    struct engine_row rows[COUNT];
    struct engine_output outputs[COUNT];
    const struct engine_batch batch = {.rows = rows,
                                       .row_count = COUNT,
                                       .sequences = sequences,
                                       .sequence_count = COUNT,
                                       .outputs = outputs,
                                       .output_count = COUNT};
    struct engine_result result;
    struct cuda_rig rigs[2];

    (void)state;
    open_rig(&rigs[0], cuda_rig_device(), false, true);
    open_rig(&rigs[1], counting_device(), true, false);
    for (uint32_t i = 0; i < COUNT; i++) {
        rows[i] = (struct engine_row){.token = i % VOCAB, .sequence = i};
        outputs[i] = (struct engine_output){.row = i, .want = ENGINE_WANT_LOGITS};
    }
    for (uint32_t step = 0; step < 3; step++) {
        for (uint32_t rig = 0; rig < 2; rig++) {
            for (uint32_t i = 0; i < COUNT; i++) {
                rows[i].position = step;
                sequences[i] = (struct engine_batch_sequence){.slots = rigs[rig].base.slots + i,
                                                              .slot_count = 1};
            }
            result = cpu_rig_run(&rigs[rig].base, &batch);
            for (uint32_t i = 0; i < COUNT; i++)
                if (rig == 0)
                    memcpy(first[i], result.outputs[i], sizeof first[i]);
                else
                    assert_near(result.outputs[i], first[i]);
        }
        assert_int_equal(recorded_products, step == 0 ? 0 : 7 * shape.layers + 1);
    }
    assert_int_equal(cuda_backend_graphs(rigs[1].base.backend).recorded, 1);
    assert_int_equal(cuda_backend_graphs(rigs[1].base.backend).replayed, 2);
    cuda_rig_close(&rigs[0]);
    cuda_rig_close(&rigs[1]);
}

static void its_kv_is_not_taken_for_ours(void **state)
{
    struct cuda_rig fast;
    struct cuda_rig ours;

    (void)state;
    open_rig(&fast, fast_device(), true, false);
    open_rig(&ours, cuda_rig_device(), false, false);
    assert_string_equal(fast.base.backend->info.numerics, "cuda-fast-1");
    assert_string_equal(ours.base.backend->info.numerics, CUDA_NUMERICS);
    assert_memory_not_equal(&fast.base.backend->info.content_id,
                            &ours.base.backend->info.content_id, sizeof(struct td_u128));
    cuda_rig_close(&fast);
    cuda_rig_close(&ours);
}

static void assert_refused(const struct model_shape *refused, struct cuda_device *device,
                           const char *reason)
{
    const struct cuda_options options = {.block_count = 4, .is_fast = true};
    struct engine_backend *backend = NULL;
    struct engine_kv kv;
    struct td_error error = {0};
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(refused, &bytes);

    assert_int_equal(cuda_backend_open(model, device, &options, &kv, &backend, &error),
                     TD_UNSUPPORTED);
    if (strstr(error.text, reason) == NULL)
        fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
    cuda_device_close(device);
    model_close(model);
    free(bytes);
}

static void what_the_library_cannot_do_is_refused(void **state)
{
    static struct cuda_device_ops without;
    struct cuda_device *device = cuda_rig_device();
    struct model_shape quantized = shape;
    struct model_shape odd = shape;

    (void)state;
    quantized.type = MODEL_TYPE_Q8_0;
    assert_refused(&quantized, cuda_rig_device(), "weights of BF16, and some are Q8_0");
    odd.head_dim = 6;
    odd.kv_heads = 1;
    assert_refused(&odd, cuda_rig_device(), "multiples of 4");
    without = *device->ops;
    without.open_dense = NULL;
    device->ops = &without;
    assert_refused(&shape, device, "no library for the fast variant");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompts_give_nearly_the_same_logits),
        cmocka_unit_test(many_that_decode_are_recorded_and_replayed),
        cmocka_unit_test(its_kv_is_not_taken_for_ours),
        cmocka_unit_test(what_the_library_cannot_do_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
