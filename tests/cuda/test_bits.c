/*
 * test_bits.c: a GPU gives what the interpreter gives, for models of all types and architectures: what is tested on
 * machines without a GPU is what GPUs do. Nearly, since tensor cores sum in an order of their own, which may tip the
 * rounding of an activation here and there.
 */
#include <math.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define TOKENS 270  /* more than a split of attention */
#define NEARLY 0.02 /* of the greatest logit */

static void compare(const struct model_shape *shape, uint32_t output, const float *gpu,
                    const float *interpreted)
{
    double largest = 0;

    for (uint32_t id = 0; id < shape->vocab; id++)
        largest = fmax(largest, fabs((double)interpreted[id]));
    for (uint32_t id = 0; id < shape->vocab; id++)
        if (!(fabs((double)gpu[id] - (double)interpreted[id]) <= NEARLY * largest))
            fail_msg("seed %u: logit %u of output %u: %a on the GPU, %a interpreted",
                     (unsigned)shape->seed, id, output, (double)gpu[id], (double)interpreted[id]);
}

static void check_shape(const struct model_shape *shape, uint32_t count,
                        enum cuda_kv_dtype kv_dtype)
{
    const struct cuda_options options = {.outputs_max = 3, .kv_dtype = kv_dtype};
    uint32_t tokens[TOKENS];
    struct cuda_rig rigs[2];
    const float *logits[2][3];
    struct cuda_device *device = NULL;
    struct td_error error = {0};
    struct td_rng rng;

    td_rng_init(&rng, shape->seed);
    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (uint32_t)td_rng_below(&rng, shape->vocab);
    if (interpreter_open((size_t)1 << 30, &device, &error) != TD_OK)
        fail_msg("%s", error.text);
    for (uint32_t i = 0; i < 2; i++) {
        uint8_t *bytes;
        struct model *model = cuda_rig_shape(shape, &bytes);

        cuda_rig_open(&rigs[i], i == 0 ? cuda_rig_device() : device, model, &options);
        rigs[i].bytes = bytes;
        cpu_rig_feed(&rigs[i].base, 0, tokens, 0, count, ENGINE_WANT_LOGITS, 3, logits[i]);
    }
    for (uint32_t i = 0; i < 3; i++)
        compare(shape, i, logits[0][i], logits[1][i]);
    cuda_rig_close(&rigs[0]);
    cuda_rig_close(&rigs[1]);
}

static void gpu_and_interpreter_agree(void **state)
{
    static const enum model_type types[] = {
#define X(name, member, id) MODEL_TYPE_##member,
        CUDA_TYPES(X)
#undef X
    };
    static const char *const architectures[] = {"llama", "qwen2", "qwen3"};

    (void)state;
    for (uint32_t i = 0; i < sizeof types / sizeof types[0] && types[i] < MODEL_TYPE_GGUF_END;
         i++) {
        const struct model_shape shape = {.vocab = 40,
                                          .hidden = 256,
                                          .ffn = 256,
                                          .layers = 2,
                                          .heads = 4,
                                          .kv_heads = 2,
                                          .head_dim = 64,
                                          .architecture = architectures[i % 3],
                                          .type = types[i],
                                          .is_tied = i % 2 == 0,
                                          .has_yarn = i % 4 == 3,
                                          .seed = 100 + i};

        check_shape(&shape, i == 0 ? TOKENS : 40, CUDA_KV_F32);
        check_shape(&shape, i == 0 ? TOKENS : 40, CUDA_KV_F16);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gpu_and_interpreter_agree),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
