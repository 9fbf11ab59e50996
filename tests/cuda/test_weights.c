/*
 * test_weights.c: weights that do not arrive: whatever copy fails, and whenever that is met, the error names what was on its
 * way, and nothing is kept. Through the interpreter, whose copies fail when the test says so.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "engine/cuda/weights.h"
#include "tests/cuda/rig.h"

#define DEVICE_BYTES ((size_t)64 << 20)
#define NAMES_MAX    32

static const struct cuda_device_ops *interpreted;
static struct cuda_device_ops failing;
static uint32_t uploads_left; /* before one fails */
static bool is_met_late;      /* by who waits, as on a GPU */
static bool has_failed;

static td_status_t lose(struct td_error *error)
{
    return td_fail(error, TD_PEER_LOST, "the bus is gone");
}

static td_status_t upload(struct cuda_device *device, void *to, const void *from, size_t bytes,
                          struct td_error *error)
{
    if (uploads_left-- > 0)
        return interpreted->upload(device, to, from, bytes, error);
    has_failed = true;
    return is_met_late ? TD_OK : lose(error);
}

static td_status_t wait_for_all(struct cuda_device *device, struct td_error *error)
{
    return has_failed ? lose(error) : interpreted->wait(device, error);
}

static td_status_t wait_for_mark(struct cuda_device *device, uint32_t mark, struct td_error *error)
{
    return has_failed ? lose(error) : interpreted->wait_mark(device, mark, error);
}

/* Loads a model, whose n-th copy fails; false if it has fewer. */
static bool fails_at(const struct model *model, uint32_t n, struct td_error *error)
{
    struct cuda_device *device = NULL;
    struct cuda_weights weights = {0};
    struct td_error ignored = {0};
    size_t free_bytes = 0;
    td_status_t status;

    assert_int_equal(interpreter_open(DEVICE_BYTES, &device, error), TD_OK);
    interpreted = device->ops;
    failing = *interpreted;
    failing.upload = upload;
    failing.wait = wait_for_all;
    failing.wait_mark = wait_for_mark;
    device->ops = &failing;
    uploads_left = n;
    has_failed = false;
    status = cuda_weights_open(model, CUDA_WEIGHTS_AS_IS, device, (struct cuda_progress){0},
                               &weights, error);
    assert_int_equal(status, has_failed ? TD_PEER_LOST : TD_OK);
    if (status == TD_OK)
        cuda_weights_close(&weights, device);
    assert_int_equal(interpreted->free_bytes(device, &free_bytes, &ignored), TD_OK);
    assert_int_equal(free_bytes, DEVICE_BYTES);
    cuda_device_close(device);
    return status != TD_OK;
}

/* Fails every copy in turn and compares the tensors that are named, in order, with what is expected. */
static void expect_names(const struct model *model, const char *const *names)
{
    char before[256] = "";
    char expected[256];
    struct td_error error = {0};
    uint32_t count = 0;

    is_met_late = false;
    for (uint32_t n = 0; fails_at(model, n, &error); n++) {
        if (strcmp(before, error.text) != 0) {
            assert_non_null(names[count]);
            snprintf(expected, sizeof expected, "weights %s: the bus is gone", names[count++]);
            assert_string_equal(error.text, expected);
        }
        snprintf(before, sizeof before, "%s", error.text);
        error = (struct td_error){0};
    }
    assert_null(names[count]);
}

static void every_tensor_that_fails_is_named(void **state)
{
    static const char *const names[] = {"embedding",
                                        "output",
                                        "output_norm",
                                        "q, k and v of layer 0",
                                        "attention_output of layer 0",
                                        "gate and up of layer 0",
                                        "down of layer 0",
                                        "attention_norm of layer 0",
                                        "ffn_norm of layer 0",
                                        "q, k and v of layer 1",
                                        "attention_output of layer 1",
                                        "gate and up of layer 1",
                                        "down of layer 1",
                                        "attention_norm of layer 1",
                                        "ffn_norm of layer 1",
                                        NULL};
    const struct model_shape shape = {.vocab = 40,
                                      .hidden = 64,
                                      .ffn = 64,
                                      .layers = 2,
                                      .heads = 4,
                                      .kv_heads = 4,
                                      .head_dim = 16,
                                      .type = MODEL_TYPE_Q8_0,
                                      .seed = 5};
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    (void)state;
    expect_names(model, names);
    model_close(model);
    free(bytes);
}

static void a_failure_that_is_met_late_says_how_far_it_was(void **state)
{
    struct model *model = cuda_rig_file(test_data_path("tiny-qwen2/model.gguf"));
    struct td_error error = {0};
    uint32_t copies = 0;

    (void)state;
    is_met_late = true;
    for (; fails_at(model, copies, &error); copies++) {
        assert_non_null(strstr(error.text, "weights"));
        assert_non_null(strstr(error.text, "of layer"));
        assert_non_null(strstr(error.text, "the bus is gone"));
    }
    assert_true(copies > 10);
    model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_tensor_that_fails_is_named),
        cmocka_unit_test(a_failure_that_is_met_late_says_how_far_it_was),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
