/*
 * test_backend.c: the CUDA backend as a whole: golden logits, all types and shapes against the CPU backend, and the same
 * bits whatever the batch and the chunks.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/cuda/rig.h"
#include "tests/model/fp8_build.h"

#define OUTPUTS_MAX 64
#define TOKENS_MAX  262

/*
 * How far logits may be from those of floats: inputs of products have 8 significant bits, and so have weights that are
 * floats in their file. Of the root mean square of a position's logits, the mean error and the largest one.
 */
#define MEAN_TOLERANCE    0.04
#define LARGEST_TOLERANCE 0.15

static void check_logits(const char *what, const float *actual, const float *expected,
                         uint32_t count)
{
    double squares = 0;
    double errors = 0;
    double largest = 0;

    for (uint32_t id = 0; id < count; id++) {
        double error = (double)actual[id] - (double)expected[id];

        squares += (double)expected[id] * (double)expected[id];
        errors += error * error;
        largest = fmax(largest, fabs(error));
    }
    if (!(sqrt(errors) <= MEAN_TOLERANCE * sqrt(squares) &&
          largest <= LARGEST_TOLERANCE * sqrt(squares / count)))
        fail_msg("%s: of the logits' size the mean error is %g, the largest %g", what,
                 sqrt(errors / squares), largest / sqrt(squares / count));
}

/* ------------------------------------------------------------------ golden logits */

static void check_sequence(struct cuda_rig *rig, const struct td_json *sequence, const char *golden)
{
    uint32_t token_count;
    uint32_t position_count;
    char what[64];
    uint32_t vocab = rig->base.model->vocab;
    uint32_t *tokens = cpu_rig_integers(td_json_find(sequence, "tokens"), &token_count);
    uint32_t *positions = cpu_rig_integers(td_json_find(sequence, "positions"), &position_count);
    const float *expected =
        (const float *)(const void *)(golden +
                                      (size_t)td_json_find(sequence, "offset_bytes")->integer);
    const float *logits[OUTPUTS_MAX];

    assert_in_range(position_count, 1, OUTPUTS_MAX);
    cpu_rig_feed(&rig->base, 0, tokens, 0, token_count, ENGINE_WANT_LOGITS, position_count, logits);
    for (uint32_t i = 0; i < position_count; i++) {
        snprintf(what, sizeof what, "position %u", positions[i]);
        check_logits(what, logits[i], expected + i * vocab, vocab);
    }
    free(tokens);
    free(positions);
}

static void check_golden(const char *folder, const char *file, enum cuda_kv_dtype kv_dtype)
{
    const struct cuda_options options = {.kv_dtype = kv_dtype};
    struct cuda_rig rig;
    struct td_arena arena;
    char path[64];
    size_t length;
    size_t golden_length;
    char *text;
    char *golden;

    snprintf(path, sizeof path, "%s/golden.json", folder);
    text = test_read_file(test_data_path(path), &length);
    snprintf(path, sizeof path, "%s/golden_logits.f32", folder);
    golden = test_read_file(test_data_path(path), &golden_length);
    cpu_rig_json_open(&arena);
    cuda_rig_open(&rig, cuda_rig_device(), cuda_rig_file(test_data_path(file)), &options);
    td_json_for_each(sequence, td_json_find(cpu_rig_json(&arena, text, length), "sequences"))
    {
        check_sequence(&rig, sequence, golden);
        if (TEST_IS_SANITIZED && rig.device->info.is_interpreted)
            break; /* the first is short, the others take a minute */
    }
    cuda_rig_close(&rig);
    td_arena_fini(&arena);
    free(text);
    free(golden);
}

static void tiny_llama_gives_every_golden_logit(void **state)
{
    (void)state;
    check_golden("tiny-llama", "tiny-llama/model.gguf", CUDA_KV_F32); /* pairs side by side */
    check_golden("tiny-llama", "tiny-llama/model.gguf", CUDA_KV_F16);
}

static void tiny_qwen2_gives_every_golden_logit(void **state)
{
    (void)state;
    check_golden("tiny-qwen2", "tiny-qwen2", CUDA_KV_F32); /* a folder; biases */
    check_golden("tiny-qwen2", "tiny-qwen2", CUDA_KV_F16);
}

static void tiny_qwen3_gives_every_golden_logit(void **state)
{
    (void)state;
    check_golden("tiny-qwen3", "tiny-qwen3", CUDA_KV_F32); /* norms of heads */
    check_golden("tiny-qwen3", "tiny-qwen3", CUDA_KV_F16);
}

/* ------------------------------------------------------------------ against the CPU backend */

static const struct model_shape shapes[] = {
    {.vocab = 37,
     .hidden = 40,
     .ffn = 56,
     .layers = 2,
     .heads = 7,
     .kv_heads = 1,
     .head_dim = 8,
     .type = MODEL_TYPE_F32,
     .seed = 1},
    {.vocab = 41,
     .hidden = 32,
     .ffn = 32,
     .layers = 1,
     .heads = 20, /* more than a block has queries */
     .kv_heads = 1,
     .head_dim = 6,
     .type = MODEL_TYPE_F16,
     .is_tied = true,
     .seed = 2},
    {.vocab = 24,
     .hidden = 48,
     .ffn = 16,
     .layers = 2,
     .heads = 4,
     .kv_heads = 4,
     .head_dim = 18,
     .type = MODEL_TYPE_BF16,
     .architecture = "qwen3",
     .has_yarn = true,
     .seed = 3},
    {.vocab = 5,
     .hidden = 32,
     .ffn = 64,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .type = MODEL_TYPE_Q4_0,
     .seed = 4},
    {.vocab = 33,
     .hidden = 96,
     .ffn = 160,
     .layers = 1,
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 80,
     .type = MODEL_TYPE_Q4_1,
     .is_tied = true,
     .seed = 5},
    {.vocab = 20,
     .hidden = 64,
     .ffn = 32,
     .layers = 1,
     .heads = 10,
     .kv_heads = 1,
     .head_dim = 256,
     .type = MODEL_TYPE_Q8_0,
     .seed = 6},
    {.vocab = 31,
     .hidden = 256,
     .ffn = 512,
     .layers = 1,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 64,
     .architecture = "qwen2",
     .type = MODEL_TYPE_Q4_K,
     .has_yarn = true,
     .seed = 9},
    {.vocab = 29,
     .hidden = 256,
     .ffn = 256,
     .layers = 1,
     .heads = 2,
     .kv_heads = 1,
     .head_dim = 128,
     .architecture = "qwen3",
     .type = MODEL_TYPE_Q6_K,
     .is_tied = true,
     .seed = 10},
    {.vocab = 7,
     .hidden = 256,
     .ffn = 256,
     .layers = 1,
     .heads = 8,
     .kv_heads = 4,
     .head_dim = 32,
     .type = MODEL_TYPE_Q5_K,
     .seed = 11},
    {.vocab = 63,
     .hidden = 32,
     .ffn = 96,
     .layers = 1,
     .heads = 2,
     .kv_heads = 2,
     .head_dim = 48,
     .architecture = "qwen3",
     .type = MODEL_TYPE_Q5_0,
     .vector_type = MODEL_TYPE_F16,
     .seed = 12},
    {.vocab = 13,
     .hidden = 64,
     .ffn = 32,
     .layers = 2,
     .heads = 4,
     .kv_heads = 1,
     .head_dim = 24,
     .architecture = "qwen2",
     .type = MODEL_TYPE_Q5_1,
     .seed = 13},
};

/* The last rows again, one by one, as decode does, which must change no bit of their logits. */
static void check_decoding(struct cuda_rig *rig, const uint32_t *tokens, uint32_t count,
                           const float *const expected[2])
{
    const uint32_t vocab = rig->base.model->vocab;
    float *copies = malloc(2 * vocab * sizeof *copies);
    const float *logits;

    assert_non_null(copies);
    for (uint32_t i = 0; i < 2; i++)
        memcpy(copies + i * vocab, expected[i], vocab * sizeof *copies);
    cpu_rig_feed(&rig->base, 0, tokens, 0, count - 2, ENGINE_WANT_LOGITS, 1, &logits);
    for (uint32_t i = 0; i < 2; i++) {
        cpu_rig_feed(&rig->base, 0, tokens, count - 2 + i, count - 1 + i, ENGINE_WANT_LOGITS, 1,
                     &logits);
        assert_memory_equal(logits, copies + i * vocab, vocab * sizeof *copies);
    }
    free(copies);
}

/* Both have halves as keys and values, rounded from nearly the same floats: a rounding may fall to either side. */
static void check_shape(const struct model_shape *shape)
{
    enum { TOKENS = 20 };
    const struct cuda_options options = {.outputs_max = 2};
    const struct cpu_rig_options cpu_options = {.cpu = {.outputs_max = 2}};
    uint32_t tokens[TOKENS];
    struct cuda_rig rig;
    struct cpu_rig cpu;
    const float *actual[2];
    const float *expected[2];
    uint8_t *bytes;
    uint8_t *cpu_bytes;
    char what[64];
    struct model *model = cuda_rig_shape(shape, &bytes);

    cpu_rig_tokens(shape->vocab, shape->seed, tokens, TOKENS);
    cuda_rig_open(&rig, cuda_rig_device(), model, &options);
    rig.bytes = bytes;
    cpu_rig_open(&cpu, cuda_rig_shape(shape, &cpu_bytes), &cpu_options);
    cpu_rig_feed(&rig.base, 0, tokens, 0, TOKENS, ENGINE_WANT_LOGITS, 2, actual);
    cpu_rig_feed(&cpu, 0, tokens, 0, TOKENS, ENGINE_WANT_LOGITS, 2, expected);
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(what, sizeof what, "seed %u output %u", (unsigned)shape->seed, i);
        check_logits(what, actual[i], expected[i], shape->vocab);
    }
    check_decoding(&rig, tokens, TOKENS, actual);
    cuda_rig_close(&rig);
    cpu_rig_close(&cpu);
    free(cpu_bytes);
}

static void all_types_and_shapes_agree_with_the_cpu(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        check_shape(&shapes[i]);
}

/* The last two logits of some tokens, on the CPU and here. */
static void check_folder(const char *path, const struct cuda_options *options, const char *what)
{
    enum { TOKENS = 20 };
    const struct cpu_rig_options cpu_options = {.cpu = {.outputs_max = 2}};
    uint32_t tokens[TOKENS];
    struct cuda_rig rig;
    struct cpu_rig cpu;
    const float *actual[2];
    const float *expected[2];

    cuda_rig_open(&rig, cuda_rig_device(), cuda_rig_file(path), options);
    cpu_rig_open(&cpu, cuda_rig_file(path), &cpu_options);
    cpu_rig_tokens(cpu.model->vocab, 3, tokens, TOKENS);
    cpu_rig_feed(&rig.base, 0, tokens, 0, TOKENS, ENGINE_WANT_LOGITS, 2, actual);
    cpu_rig_feed(&cpu, 0, tokens, 0, TOKENS, ENGINE_WANT_LOGITS, 2, expected);
    for (uint32_t i = 0; i < 2; i++)
        check_logits(what, actual[i], expected[i], cpu.model->vocab);
    cuda_rig_close(&rig);
    cpu_rig_close(&cpu);
}

static void fp8_folders_agree_with_the_cpu(void **state)
{
    static const char *const forms[] = {"blocks", "rows", "tensor"};

    (void)state;
    for (int form = 0; form < FP8_FORMS; form++) {
        const struct cuda_options options = {.outputs_max = 2};
        const struct fp8_build fp8 = {.form = (enum fp8_form)form};
        struct hf_build build;

        hf_build_init(&build);
        fp8_build_folder(&fp8, &build, NULL);
        check_folder(build.path, &options, forms[form]);
        hf_build_fini(&build);
    }
}

/* ------------------------------------------------------------------ the same bits */

static const struct model_shape invariant = {.vocab = 24,
                                             .hidden = 32,
                                             .ffn = 32,
                                             .layers = 2,
                                             .heads = 4,
                                             .kv_heads = 2,
                                             .head_dim = 16,
                                             .type = MODEL_TYPE_Q8_0,
                                             .seed = 20};

/* The logits behind a prompt that is fed in chunks. */
static void logits_in_chunks(struct cuda_rig *rig, const uint32_t *tokens, uint32_t count,
                             uint32_t chunk, float *logits_out)
{
    const float *logits = NULL;

    for (uint32_t from = 0; from < count; from += chunk)
        cpu_rig_feed(&rig->base, 0, tokens, from, from + chunk < count ? from + chunk : count,
                     ENGINE_WANT_LOGITS, 1, &logits);
    memcpy(logits_out, logits, rig->base.model->vocab * sizeof *logits_out);
}

static void open_invariant(struct cuda_rig *rig)
{
    const struct cuda_options options = {.outputs_max = 4};
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&invariant, &bytes);

    cuda_rig_open(rig, cuda_rig_device(), model, &options);
    rig->bytes = bytes;
}

static void chunks_change_no_bit(void **state)
{
    static const uint32_t chunks[] = {7, 64, 256};
    const size_t tried = TEST_IS_SANITIZED ? 1 : sizeof chunks / sizeof chunks[0];
    uint32_t tokens[TOKENS_MAX]; /* more than a split */
    float whole[24];
    float logits[24];
    const float *last = NULL;
    struct cuda_rig rig;

    (void)state;
    cpu_rig_tokens(24, 1, tokens, TOKENS_MAX);
    open_invariant(&rig);
    logits_in_chunks(&rig, tokens, TOKENS_MAX, TOKENS_MAX, whole);
    for (size_t i = 0; i < tried; i++) {
        logits_in_chunks(&rig, tokens, TOKENS_MAX, chunks[i], logits);
        assert_memory_equal(logits, whole, sizeof whole);
    }
    for (uint32_t i = TOKENS_MAX - 9; i < TOKENS_MAX; i++) /* one by one, as decode does */
        cpu_rig_feed(&rig.base, 0, tokens, i, i + 1, ENGINE_WANT_LOGITS, 1, &last);
    assert_memory_equal(last, whole, sizeof whole);
    cuda_rig_close(&rig);
}

/* Three sequences, rows of the second in the middle, one token each or some: as alone. */
static void mates_change_no_bit(void **state)
{
    enum { COUNT = 40, MATES = 3 };
    uint32_t tokens[MATES][COUNT];
    float alone[MATES][24];
    struct engine_row rows[MATES * COUNT];
    struct engine_batch_sequence sequences[MATES];
    struct engine_output outputs[MATES];
    struct engine_batch batch = {
        .rows = rows, .sequences = sequences, .sequence_count = MATES, .outputs = outputs};
    struct engine_result result;
    struct cuda_rig rig;

    (void)state;
    open_invariant(&rig);
    for (uint32_t mate = 0; mate < MATES; mate++) {
        uint32_t length = COUNT - 11 * mate;

        cpu_rig_tokens(24, 30 + mate, tokens[mate], COUNT);
        logits_in_chunks(&rig, tokens[mate], length, length, alone[mate]);
        sequences[mate] =
            (struct engine_batch_sequence){.slots = rig.base.slots + 8 * mate, .slot_count = 3};
        for (uint32_t i = 0; i < length; i++)
            rows[batch.row_count++] =
                (struct engine_row){.token = tokens[mate][i], .position = i, .sequence = mate};
        outputs[batch.output_count++] =
            (struct engine_output){.row = batch.row_count - 1, .want = ENGINE_WANT_LOGITS};
    }
    assert_int_equal(rig.base.backend->ops->run(rig.base.backend, &batch, &result), TD_OK);
    for (uint32_t mate = 0; mate < MATES; mate++)
        assert_memory_equal(result.outputs[mate], alone[mate], sizeof alone[mate]);
    cuda_rig_close(&rig);
}

/* A copy of a matrix of floats as bf16, which is what the backend makes of it too. The caller frees it. */
static uint16_t *as_bf16(struct model_matrix *matrix)
{
    size_t count = (size_t)matrix->rows * matrix->columns;
    const float *values = (const float *)(const void *)matrix->data;
    uint16_t *halves = malloc(count * sizeof *halves);

    assert_non_null(halves);
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;

        memcpy(&bits, &values[i], sizeof bits);
        halves[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
    matrix->data = (const uint8_t *)halves;
    matrix->row_bytes = matrix->columns * sizeof *halves;
    matrix->type = MODEL_TYPE_BF16;
    return halves;
}

/* Matrices of one type are joined and paired; others, which then have kernels of their own, give the same. */
static void matrices_of_different_types_change_no_bit(void **state)
{
    const struct model_shape shape = {.vocab = 24,
                                      .hidden = 32,
                                      .ffn = 40,
                                      .layers = 1,
                                      .heads = 4,
                                      .kv_heads = 2,
                                      .head_dim = 8,
                                      .architecture = "qwen2",
                                      .type = MODEL_TYPE_F32,
                                      .seed = 21};
    const struct cuda_options options = {.outputs_max = 1};
    uint32_t tokens[20];
    float logits[2][24];
    uint16_t *copies[2] = {NULL, NULL};

    (void)state;
    cpu_rig_tokens(24, 2, tokens, 20);
    for (uint32_t i = 0; i < 2; i++) {
        struct cuda_rig rig;
        uint8_t *bytes;
        struct model *model = cuda_rig_shape(&shape, &bytes);

        if (i == 1) {
            copies[0] = as_bf16(&model->layer[0].k);
            copies[1] = as_bf16(&model->layer[0].up);
        }
        cuda_rig_open(&rig, cuda_rig_device(), model, &options);
        rig.bytes = bytes;
        logits_in_chunks(&rig, tokens, 20, 20, logits[i]);
        cuda_rig_close(&rig);
    }
    free(copies[0]);
    free(copies[1]);
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
}

/* What decode does with the state that a prefill worker sent. */
static void logits_of_a_given_state_are_those_of_its_row(void **state)
{
    uint32_t tokens[20];
    float expected[24];
    float given[32];
    const float *hidden;
    const float *heads[] = {given};
    struct engine_output outputs[] = {
        {.is_head = true, .want = ENGINE_WANT_LOGITS},
        {.is_head = true, .want = ENGINE_WANT_HIDDEN},
    };
    const struct engine_batch batch = {
        .heads = heads, .head_count = 1, .outputs = outputs, .output_count = 2};
    struct engine_result result;
    struct cuda_rig rig;

    (void)state;
    cpu_rig_tokens(24, 50, tokens, 20);
    open_invariant(&rig);
    logits_in_chunks(&rig, tokens, 20, 20, expected);
    cpu_rig_feed(&rig.base, 0, tokens, 0, 20, ENGINE_WANT_HIDDEN, 1, &hidden);
    memcpy(given, hidden, sizeof given);
    assert_int_equal(rig.base.backend->ops->run(rig.base.backend, &batch, &result), TD_OK);
    assert_memory_equal(result.outputs[0], expected, sizeof expected);
    assert_memory_equal(result.outputs[1], given, sizeof given);
    cuda_rig_close(&rig);
}

/* A token whose embedding is no number; what comes before it must not know. */
static void what_is_no_number_changes_nothing_before_it(void **state)
{
    enum { COUNT = 20, BROKEN = 5 };
    static const struct model_shape shape = {.vocab = 24,
                                             .hidden = 32,
                                             .ffn = 32,
                                             .layers = 2,
                                             .heads = 4,
                                             .kv_heads = 2,
                                             .head_dim = 16,
                                             .type = MODEL_TYPE_BF16,
                                             .seed = 41};
    const struct cuda_options options = {.outputs_max = COUNT};
    uint32_t tokens[COUNT];
    float before[COUNT][32];
    const float *states[COUNT];
    struct cuda_rig rig;
    uint8_t *bytes;
    struct model *model = cuda_rig_shape(&shape, &bytes);

    (void)state;
    assert_int_equal(model->embedding.type, MODEL_TYPE_BF16);
    memset((void *)(uintptr_t)(model->embedding.data + BROKEN * model->embedding.row_bytes), 0xff,
           model->embedding.row_bytes);
    cuda_rig_open(&rig, cuda_rig_device(), model, &options);
    rig.bytes = bytes;
    for (uint32_t i = 0; i < COUNT; i++)
        tokens[i] = 6 + i % 7;
    for (uint32_t broken = 1; broken < COUNT; broken += 6) {
        uint32_t whole = tokens[broken];

        cpu_rig_feed(&rig.base, 0, tokens, 0, COUNT, ENGINE_WANT_HIDDEN, COUNT, states);
        for (uint32_t i = 0; i < COUNT; i++)
            memcpy(before[i], states[i], sizeof before[i]);
        tokens[broken] = BROKEN;
        cpu_rig_feed(&rig.base, 0, tokens, 0, COUNT, ENGINE_WANT_HIDDEN, COUNT, states);
        tokens[broken] = whole;
        for (uint32_t i = 0; i < broken; i++)
            assert_memory_equal(states[i], before[i], sizeof before[i]);
        assert_true(isnan(states[broken][0]));
    }
    cuda_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny_llama_gives_every_golden_logit),
        cmocka_unit_test(tiny_qwen2_gives_every_golden_logit),
        cmocka_unit_test(tiny_qwen3_gives_every_golden_logit),
        cmocka_unit_test(all_types_and_shapes_agree_with_the_cpu),
        cmocka_unit_test(fp8_folders_agree_with_the_cpu),
        cmocka_unit_test(chunks_change_no_bit),
        cmocka_unit_test(mates_change_no_bit),
        cmocka_unit_test(matrices_of_different_types_change_no_bit),
        cmocka_unit_test(logits_of_a_given_state_are_those_of_its_row),
        cmocka_unit_test(what_is_no_number_changes_nothing_before_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
