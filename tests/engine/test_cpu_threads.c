/*
 * test_cpu_threads.c: whole steps of a model with threads, prompts and streams and landed states side by side. Short, so
 * that it can run under ThreadSanitizer at every change: what threads share between the pieces of a step is seen by it
 * here. The bits must be those of one thread.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/engine/cpu_rig.h"
#include "tests/model/gguf_build.h"

#define PROMPT  70 /* rows of the first chunk: more than a tile of attention */
#define CHUNK   33 /* of the second, beside two that decode */
#define VOCAB   48
#define HIDDEN  64
#define OUTPUTS 4

static const struct model_shape shape = {.vocab = VOCAB,
                                         .hidden = HIDDEN,
                                         .ffn = 160,
                                         .layers = 2,
                                         .heads = 4,
                                         .kv_heads = 2,
                                         .head_dim = 32,
                                         .type = MODEL_TYPE_Q8_0,
                                         .architecture = "qwen3",
                                         .seed = 31};

static void add_rows(struct engine_batch *batch, struct engine_row *rows, const uint32_t *tokens,
                     uint32_t from, uint32_t end, uint32_t sequence)
{
    for (uint32_t i = from; i < end; i++)
        rows[batch->row_count++] =
            (struct engine_row){.token = tokens[i], .position = i, .sequence = sequence};
}

/* A chunk of a prompt, two rows that decode, and the head of a state that landed. */
static void run_mixed(struct cpu_rig *rig, const uint32_t *tokens, const float *state,
                      float results_out[OUTPUTS][VOCAB])
{
    struct engine_row rows[CHUNK + 2];
    struct engine_batch_sequence sequences[3];
    struct engine_output outputs[OUTPUTS];
    struct engine_batch batch = {.rows = rows,
                                 .sequences = sequences,
                                 .sequence_count = 3,
                                 .heads = &state,
                                 .head_count = 1,
                                 .outputs = outputs,
                                 .output_count = OUTPUTS};
    struct engine_result result;

    for (uint32_t i = 0; i < 3; i++)
        sequences[i] =
            (struct engine_batch_sequence){.slots = rig->slots + 10 * i, .slot_count = 10};
    add_rows(&batch, rows, tokens, PROMPT, PROMPT + 1, 0);
    add_rows(&batch, rows, tokens, PROMPT, PROMPT + 1, 1);
    add_rows(&batch, rows, tokens, PROMPT, PROMPT + CHUNK, 2);
    outputs[0] = (struct engine_output){.row = 0, .want = ENGINE_WANT_LOGITS};
    outputs[1] = (struct engine_output){.row = 1, .want = ENGINE_WANT_LOGITS};
    outputs[2] = (struct engine_output){.row = batch.row_count - 1, .want = ENGINE_WANT_LOGITS};
    outputs[3] = (struct engine_output){.is_head = true, .want = ENGINE_WANT_LOGITS};
    result = cpu_rig_run(rig, &batch);
    for (uint32_t i = 0; i < OUTPUTS; i++)
        memcpy(results_out[i], result.outputs[i], sizeof results_out[i]);
}

static void compute(enum cpu_numerics numerics, uint32_t threads, float results_out[OUTPUTS][VOCAB])
{
    const struct cpu_rig_options options = {.cpu = {.threads = threads, .numerics = numerics}};
    uint32_t tokens[PROMPT + CHUNK];
    float state[HIDDEN];
    const float *hidden;
    struct gguf_bytes file;
    struct cpu_rig rig;

    cpu_rig_tokens(VOCAB, 5, tokens, PROMPT + CHUNK);
    cpu_rig_open(&rig, gguf_build_open(&shape, &file), &options);
    for (uint32_t i = 0; i < 3; i++)
        cpu_rig_feed(&rig, 10 * i, tokens, 0, PROMPT, ENGINE_WANT_HIDDEN, 1, &hidden);
    memcpy(state, hidden, sizeof state);
    run_mixed(&rig, tokens, state, results_out);
    cpu_rig_close(&rig);
    free(file.bytes);
}

static void threads_share_the_pieces_of_a_step(void **state)
{
    float alone[OUTPUTS][VOCAB];
    float shared[OUTPUTS][VOCAB];

    (void)state;
    for (int numerics = CPU_NUMERICS_F32; numerics <= CPU_NUMERICS_INT8; numerics++) {
        compute((enum cpu_numerics)numerics, 1, alone);
        for (uint32_t threads = 2; threads <= 4; threads++) {
            compute((enum cpu_numerics)numerics, threads, shared);
            assert_memory_equal(shared, alone, sizeof alone);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_share_the_pieces_of_a_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
