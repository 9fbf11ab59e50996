/*
 * test_handover.c: for every architecture and type of weights: a prompt that another backend has read, with other
 * kernels and in other pieces, goes on here with the bits of one that was read here.
 *
 * What is handed over is what workers send: whole blocks of KV and the last hidden state. The transports are
 * tested elsewhere (tests/kvtransfer, tests/e2e); here a copy stands for them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/kernels.h"
#include "tests/engine/cpu_rig.h"
#include "tests/model/gguf_build.h"

#define VOCAB        101
#define HIDDEN       256 /* the K types have blocks of 256 */
#define PROMPT       37  /* two whole blocks and a part of a third */
#define NEXT         5
#define BLOCKS       ((PROMPT + NEXT + CPU_RIG_BLOCK_TOKENS - 1) / CPU_RIG_BLOCK_TOKENS)
#define CHUNK        10
#define FIRST_SLOT   7 /* the blocks lie elsewhere in the second pool */
#define TYPE_IDS_END 64

/* A rig over a model of its own, whose file is in *bytes_out. */
static void open_rig(struct cpu_rig *rig, const struct model_shape *shape,
                     const struct cpu_rig_options *options, uint8_t **bytes_out)
{
    struct gguf_bytes file;

    cpu_rig_open(rig, gguf_build_open(shape, &file), options);
    *bytes_out = file.bytes;
}

/* The logits behind the prompt and behind each token after it, from one backend. */
static void compute_alone(struct cpu_rig *rig, const uint32_t *tokens, float logits[][VOCAB])
{
    const float *result;

    cpu_rig_feed(rig, 0, tokens, 0, PROMPT, ENGINE_WANT_LOGITS, 1, &result);
    memcpy(logits[0], result, sizeof logits[0]);
    for (uint32_t i = 0; i < NEXT; i++) {
        cpu_rig_feed(rig, 0, tokens, PROMPT + i, PROMPT + i + 1, ENGINE_WANT_LOGITS, 1, &result);
        memcpy(logits[i + 1], result, sizeof logits[i + 1]);
    }
}

/* The prompt in pieces; leaves the last hidden state in hidden. */
static void prefill(struct cpu_rig *rig, const uint32_t *tokens, float hidden[HIDDEN])
{
    const float *result = NULL;

    for (uint32_t from = 0; from < PROMPT; from += CHUNK) {
        uint32_t end = from + CHUNK < PROMPT ? from + CHUNK : PROMPT;

        cpu_rig_feed(rig, 0, tokens, from, end, ENGINE_WANT_HIDDEN, 1, &result);
    }
    memcpy(hidden, result, HIDDEN * sizeof *hidden);
}

static void hand_over(const struct cpu_rig *from, struct cpu_rig *to)
{
    assert_int_equal(from->kv.block_bytes, to->kv.block_bytes);
    for (uint32_t i = 0; i < BLOCKS; i++)
        memcpy(to->kv.base + to->slots[FIRST_SLOT + i] * to->kv.block_bytes,
               from->kv.base + from->slots[i] * from->kv.block_bytes, to->kv.block_bytes);
}

/* The LM head over the state that came, in one step with the first token behind the prompt. */
static void go_on(struct cpu_rig *rig, const uint32_t *tokens, const float *hidden,
                  float logits[][VOCAB])
{
    struct engine_batch_sequence sequence = {.slots = rig->slots + FIRST_SLOT,
                                             .slot_count = BLOCKS};
    struct engine_row row = {.token = tokens[PROMPT], .position = PROMPT};
    struct engine_output outputs[2] = {{.row = 0, .is_head = true, .want = ENGINE_WANT_LOGITS},
                                       {.row = 0, .want = ENGINE_WANT_LOGITS}};
    struct engine_batch batch = {.rows = &row,
                                 .row_count = 1,
                                 .sequences = &sequence,
                                 .sequence_count = 1,
                                 .heads = &hidden,
                                 .head_count = 1,
                                 .outputs = outputs,
                                 .output_count = 2};
    struct engine_result result = cpu_rig_run(rig, &batch);

    memcpy(logits[0], result.outputs[0], sizeof logits[0]);
    memcpy(logits[1], result.outputs[1], sizeof logits[1]);
    for (uint32_t i = 1; i < NEXT; i++) {
        const float *next;

        cpu_rig_feed(rig, FIRST_SLOT, tokens, PROMPT + i, PROMPT + i + 1, ENGINE_WANT_LOGITS, 1,
                     &next);
        memcpy(logits[i + 1], next, sizeof logits[i + 1]);
    }
}

static void check(const struct model_shape *shape, enum cpu_kv_dtype kv_dtype)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2, .kv_dtype = kv_dtype}};
    const struct cpu_kernels *kernels[CPU_KERNELS_MAX];
    struct cpu_rig near;
    struct cpu_rig far;
    uint8_t *near_bytes;
    uint8_t *far_bytes;
    uint32_t tokens[PROMPT + NEXT];
    float hidden[HIDDEN];
    float alone[NEXT + 1][VOCAB];
    float apart[NEXT + 1][VOCAB];

    for (uint32_t i = 0; i < PROMPT + NEXT; i++)
        tokens[i] = i * 7919 % VOCAB;
    assert_true(cpu_kernels_available(kernels) > 0);
    open_rig(&near, shape, &options, &near_bytes);
    options.kernels = kernels[0]->name;
    open_rig(&far, shape, &options, &far_bytes);
    compute_alone(&near, tokens, alone);
    prefill(&far, tokens, hidden);
    hand_over(&far, &near);
    go_on(&near, tokens, hidden, apart);
    if (memcmp(alone, apart, sizeof alone) != 0)
        fail_msg("%s %s: other bits from %s KV of %s", shape->architecture,
                 model_type_info(shape->type)->name, cpu_kv_dtype_name(kv_dtype), kernels[0]->name);
    cpu_rig_close(&near);
    cpu_rig_close(&far);
    free(near_bytes);
    free(far_bytes);
}

static void what_another_has_read_goes_on_with_the_same_bits(void **state)
{
    const struct model_architecture *architecture;
    uint32_t checked = 0;

    (void)state;
    for (size_t i = 0; (architecture = model_architecture_at(i)) != NULL; i++) {
        for (uint32_t id = 0; id < TYPE_IDS_END; id++) {
            const struct model_type_info *info = model_type_info(id);
            const struct model_shape shape = {.architecture = architecture->gguf,
                                              .type = (enum model_type)id,
                                              .vocab = VOCAB,
                                              .hidden = HIDDEN,
                                              .ffn = 256,
                                              .layers = 2,
                                              .heads = 4,
                                              .kv_heads = 2,
                                              .head_dim = 64,
                                              .is_tied = architecture->id != MODEL_LLAMA,
                                              .seed = id};

            if (info == NULL || !info->is_supported)
                continue;
            check(&shape, CPU_KV_F16);
            check(&shape, CPU_KV_INT8);
            checked++;
        }
    }
    print_message("  %u kinds of models\n", checked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_another_has_read_goes_on_with_the_same_bits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
