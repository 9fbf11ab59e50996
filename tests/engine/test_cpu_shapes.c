/*
 * test_cpu_shapes.c: the CPU backend with models of odd shapes, all architectures and weight types, any
 * sharing of heads:
 * close to a computation in double precision that is written here in the plainest way, and the same
 * bits from all kernels, in any chunks.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cpu/forward.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/rope.h"
#include "lib/base/hash.h"
#include "tests/engine/cpu_rig.h"
#include "tests/model/gguf_build.h"

#define TOKENS_MAX 300
#define VOCAB_MAX  64

static const struct model_shape shapes[] = {
    {.vocab = 37,
     .hidden = 34,
     .ffn = 50,
     .layers = 2,
     .heads = 7,
     .kv_heads = 1,
     .head_dim = 6,
     .type = MODEL_TYPE_F32,
     .seed = 1},
    {.vocab = 41,
     .hidden = 33,
     .ffn = 31,
     .layers = 1,
     .heads = 6,
     .kv_heads = 3,
     .head_dim = 2,
     .type = MODEL_TYPE_F16,
     .is_tied = true,
     .seed = 2},
    {.vocab = 64,
     .hidden = 47,
     .ffn = 17,
     .layers = 2,
     .heads = 3,
     .kv_heads = 3,
     .head_dim = 18,
     .type = MODEL_TYPE_BF16,
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
     .heads = 30,
     .kv_heads = 1,
     .head_dim = 256,
     .type = MODEL_TYPE_Q8_0,
     .seed = 6},
    {.vocab = 19,
     .hidden = 34,
     .ffn = 50,
     .layers = 2,
     .heads = 5,
     .kv_heads = 1,
     .head_dim = 6,
     .architecture = "qwen2",
     .type = MODEL_TYPE_F32,
     .vector_type = MODEL_TYPE_F16,
     .is_tied = true,
     .seed = 7},
    {.vocab = 23,
     .hidden = 36,
     .ffn = 49,
     .layers = 2,
     .heads = 6,
     .kv_heads = 2,
     .head_dim = 18,
     .architecture = "qwen3",
     .type = MODEL_TYPE_BF16,
     .has_yarn = true,
     .seed = 8},
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
     .has_yarn = true,
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
    {.vocab = 43,
     .hidden = 48,
     .ffn = 64,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 32,
     .architecture = "qwen2",
     .type = MODEL_TYPE_F32,
     .k_bias_scale = 20,
     .seed = 14},
};

#define SHAPES_PINNED  9  /* the first ones, whatever follows */
#define SHAPE_BALANCED 13 /* its keys are divided before they become whole numbers */

/* ---- the plain computation ---- */

/* y = W x */
static double *product(const struct model_matrix *matrix, const double *x)
{
    double *y = calloc(matrix->rows, sizeof *y);
    float *row = calloc(matrix->columns, sizeof *row);

    assert_true(y != NULL && row != NULL);
    for (uint32_t r = 0; r < matrix->rows; r++) {
        model_dequantize(matrix->type, matrix->data + r * matrix->row_bytes, matrix->columns, row);
        for (uint32_t k = 0; k < matrix->columns; k++)
            y[r] += (double)row[k] * x[k];
    }
    free(row);
    return y;
}

static void add_to(double *x, double *y, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        x[i] += y[i];
    free(y);
}

/* x / sqrt(mean of squares) * weight, in place. */
static void norm(const struct model *model, double *x, const float *weight, uint32_t count)
{
    double sum = 0.0;

    for (uint32_t i = 0; i < count; i++)
        sum += x[i] * x[i];
    for (uint32_t i = 0; i < count; i++)
        x[i] = x[i] / sqrt(sum / count + (double)model->rms_epsilon) * (double)weight[i];
}

static double *normed(const struct model *model, const double *x, const float *weight)
{
    double *y = calloc(model->hidden, sizeof *y);

    assert_non_null(y);
    memcpy(y, x, model->hidden * sizeof *y);
    norm(model, y, weight, model->hidden);
    return y;
}

/* Projections with what the architecture adds: biases, and norms of the heads. */
static double *projected(const struct model *model, const struct model_matrix *matrix,
                         const float *bias, const float *weight, const double *x)
{
    double *y = product(matrix, x);

    for (uint32_t i = 0; bias != NULL && i < matrix->rows; i++)
        y[i] += (double)bias[i];
    for (uint32_t i = 0; weight != NULL && i < matrix->rows; i += model->head_dim)
        norm(model, y + i, weight, model->head_dim);
    return y;
}

/* Rotates the pairs of each head, whichever way they lie. test_rope has the frequencies. */
static void rotate(const struct model *model, double *heads, uint32_t count, uint32_t position)
{
    const struct model_rope *rope = &model->rope;
    uint32_t pairs = model->head_dim / 2;

    for (uint32_t head = 0; head < count; head++, heads += model->head_dim)
        for (uint32_t i = 0; i < pairs; i++) {
            bool is_half = rope->pairs == MODEL_ROPE_HALF;
            double *a = is_half ? &heads[i] : &heads[2 * i];
            double *b = is_half ? &heads[i + pairs] : &heads[2 * i + 1];
            double cosine = (double)rope->magnitude * cos(position * rope->frequency[i]);
            double sine = (double)rope->magnitude * sin(position * rope->frequency[i]);
            double rotated = *a * cosine - *b * sine;

            *b = *a * sine + *b * cosine;
            *a = rotated;
        }
}

/* All keys and values of a layer so far, by position. */
struct memory {
    double *k[TOKENS_MAX];
    double *v[TOKENS_MAX];
};

static double *attended(const struct model *model, const struct memory *memory, const double *q,
                        uint32_t position)
{
    uint32_t dim = model->head_dim;
    double *out = calloc((size_t)model->heads * dim, sizeof *out);

    assert_non_null(out);
    for (uint32_t head = 0; head < model->heads; head++) {
        size_t kv = (size_t)(head / (model->heads / model->kv_heads)) * dim;
        double scores[TOKENS_MAX];
        double max = -INFINITY;
        double sum = 0.0;

        for (uint32_t p = 0; p <= position; p++) {
            scores[p] = 0.0;
            for (uint32_t d = 0; d < dim; d++)
                scores[p] += q[head * dim + d] * memory->k[p][kv + d] / sqrt(dim);
            max = fmax(max, scores[p]);
        }
        for (uint32_t p = 0; p <= position; p++)
            sum += scores[p] = exp(scores[p] - max);
        for (uint32_t p = 0; p <= position; p++)
            for (uint32_t d = 0; d < dim; d++)
                out[head * dim + d] += scores[p] / sum * memory->v[p][kv + d];
    }
    return out;
}

static void layer_forward(const struct model *model, const struct model_layer *layer,
                          struct memory *memory, double *x, uint32_t position)
{
    double *y = normed(model, x, layer->attention_norm);
    double *q = projected(model, &layer->q, layer->q_bias, layer->q_norm, y);
    double *gate;
    double *up;

    memory->k[position] = projected(model, &layer->k, layer->k_bias, layer->k_norm, y);
    memory->v[position] = projected(model, &layer->v, layer->v_bias, NULL, y);
    free(y);
    rotate(model, q, model->heads, position);
    rotate(model, memory->k[position], model->kv_heads, position);
    y = attended(model, memory, q, position);
    free(q);
    add_to(x, product(&layer->attention_output, y), model->hidden);
    free(y);
    y = normed(model, x, layer->ffn_norm);
    gate = product(&layer->gate, y);
    up = product(&layer->up, y);
    free(y);
    for (uint32_t i = 0; i < model->ffn; i++)
        gate[i] = gate[i] / (1.0 + exp(-gate[i])) * up[i];
    add_to(x, product(&layer->down, gate), model->hidden);
    free(gate);
    free(up);
}

/* Logits of the last of the tokens. */
static double *plain_logits(const struct model *model, const uint32_t *tokens, uint32_t count)
{
    struct memory *memories = calloc(model->layers, sizeof *memories);
    float *embedding = calloc(model->hidden, sizeof *embedding);
    double *x = calloc(model->hidden, sizeof *x);
    double *y;
    double *logits;

    assert_true(memories != NULL && embedding != NULL && x != NULL);
    for (uint32_t p = 0; p < count; p++) {
        model_dequantize(model->embedding.type,
                         model->embedding.data + tokens[p] * model->embedding.row_bytes,
                         model->hidden, embedding);
        for (uint32_t i = 0; i < model->hidden; i++)
            x[i] = (double)embedding[i];
        for (uint32_t i = 0; i < model->layers; i++)
            layer_forward(model, &model->layer[i], &memories[i], x, p);
    }
    y = normed(model, x, model->output_norm);
    logits = product(&model->output, y);
    for (uint32_t i = 0; i < model->layers; i++)
        for (uint32_t p = 0; p < count; p++) {
            free(memories[i].k[p]);
            free(memories[i].v[p]);
        }
    free(memories);
    free(embedding);
    free(x);
    free(y);
    return logits;
}

/* ---- checks ---- */

static void make_tokens(const struct model_shape *shape, uint32_t *tokens, uint32_t count)
{
    cpu_rig_tokens(shape->vocab, 77, tokens, count);
}

/* Logits of the last token, in chunks; written to out. */
static void backend_logits(const struct model_shape *shape, const struct cpu_rig_options *options,
                           const uint32_t *tokens, uint32_t count, uint32_t chunk, float *out)
{
    struct cpu_rig rig;
    struct gguf_bytes file;
    const float *logits = NULL;

    cpu_rig_open(&rig, gguf_build_open(shape, &file), options);
    for (uint32_t from = 0; from < count; from += chunk) {
        uint32_t end = from + chunk < count ? from + chunk : count;

        cpu_rig_feed(&rig, 0, tokens, from, end, ENGINE_WANT_LOGITS, end == count, &logits);
    }
    memcpy(out, logits, shape->vocab * sizeof *out);
    cpu_rig_close(&rig);
    free(file.bytes);
}

static void check_plain(const struct model_shape *shape, uint32_t count, enum cpu_kv_dtype kv_dtype,
                        double tolerance)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2, .kv_dtype = kv_dtype}};
    uint32_t tokens[TOKENS_MAX];
    float actual[VOCAB_MAX];
    struct gguf_bytes file;
    struct model *model = gguf_build_open(shape, &file);
    double *expected;
    double largest = 0.0;

    make_tokens(shape, tokens, count);
    expected = plain_logits(model, tokens, count);
    backend_logits(shape, &options, tokens, count, count, actual);
    for (uint32_t id = 0; id < shape->vocab; id++)
        largest = fmax(largest, fabs(expected[id]));
    for (uint32_t id = 0; id < shape->vocab; id++)
        if (!(fabs(actual[id] - expected[id]) <= tolerance * largest))
            fail_msg("shape %u, %u tokens, id %u: %g instead of %g", (unsigned)shape->seed, count,
                     id, (double)actual[id], expected[id]);
    free(expected);
    model_close(model);
    free(file.bytes);
}

static void logits_are_those_of_a_plain_computation(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        check_plain(&shapes[i], 1, CPU_KV_F32, 2e-5);
        check_plain(&shapes[i], 37, CPU_KV_F32, 2e-5);
        check_plain(&shapes[i], 37, CPU_KV_INT8, 0.1);
    }
    check_plain(&shapes[0], TOKENS_MAX, CPU_KV_F32, 2e-5); /* beyond a split of attention */
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (shapes[i].has_yarn) /* beyond the first context */
            check_plain(&shapes[i], 3 * GGUF_BUILD_YARN_CONTEXT, CPU_KV_F32, 2e-5);
}

/* To a float's rounding, up to the last position that a model may have, whatever the frequency. */
static void angles_are_right_at_every_position(void **state)
{
    static const uint32_t positions[] = {0,      1,       255,     32767,
                                         131071, 1000003, 2097153, MODEL_CONTEXT_MAX - 1};
    struct model_rope_description description =
        model_rope_describe(MODEL_ROPE_YARN, MODEL_ROPE_HALF, 128);
    struct model_rope encoding;
    struct cpu_rope rope;
    float cosines[64];
    float sines[64];
    struct td_error error = {0};

    (void)state;
    description.theta = 1e6;
    description.factor = 4.0;
    description.original_context = 32768.0;
    assert_int_equal(model_rope_init(&description, &encoding, &error), TD_OK);
    cpu_rope_init(&rope, &encoding, 128);
    for (size_t p = 0; p < sizeof positions / sizeof positions[0]; p++) {
        cpu_rope_angles(&rope, positions[p], cosines, sines);
        for (uint32_t i = 0; i < 64; i++) {
            double angle = positions[p] * encoding.frequency[i];
            double magnitude = (double)encoding.magnitude;

            assert_true(fabs((double)cosines[i] - magnitude * cos(angle)) <= 1e-7);
            assert_true(fabs((double)sines[i] - magnitude * sin(angle)) <= 1e-7);
        }
    }
}

static void check_bits(const struct model_shape *shape, enum cpu_kv_dtype kv_dtype,
                       enum cpu_numerics numerics)
{
    static const uint32_t chunks[] = {1, 5, 24, 64, 300};
    const struct cpu_kernels *kernels[CPU_KERNELS_MAX];
    uint32_t kernel_count = cpu_kernels_available(kernels);
    uint32_t tokens[TOKENS_MAX];
    float expected[VOCAB_MAX];

    make_tokens(shape, tokens, 290);
    for (uint32_t k = 0; k < kernel_count; k++)
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
            struct cpu_rig_options options = {
                .kernels = kernels[k]->name,
                .cpu = {.threads = (uint32_t)(1 + (c + k) % 5),
                        .kv_dtype = kv_dtype,
                        .numerics = numerics},
                .block_tokens = c % 2 == 0 ? 16 : 64,
            };
            float actual[VOCAB_MAX];

            backend_logits(shape, &options, tokens, 290, chunks[c], actual);
            if (k == 0 && c == 0)
                memcpy(expected, actual, sizeof expected);
            if (memcmp(actual, expected, shape->vocab * sizeof *actual) != 0)
                fail_msg("shape %u: %s in chunks of %u gives other bits", (unsigned)shape->seed,
                         kernels[k]->name, chunks[c]);
        }
}

static void kernels_chunks_threads_and_block_sizes_change_no_bit(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (int numerics = CPU_NUMERICS_F32; numerics <= CPU_NUMERICS_INT8; numerics++)
            check_bits(&shapes[i], (enum cpu_kv_dtype)((i + (size_t)numerics) % CPU_KV_DTYPES),
                       (enum cpu_numerics)numerics);
}

static void divisors_of_keys_change_no_bit_either(void **state)
{
    (void)state;
    check_bits(&shapes[SHAPE_BALANCED], CPU_KV_INT8, CPU_NUMERICS_F32);
}

/* Of a numerics class and a type of KV there is one set of bits: here of some of the shapes. */
static void check_digest(const struct cpu_options *cpu, size_t first, size_t count,
                         const char *expected)
{
    const struct cpu_rig_options options = {.cpu = *cpu, .block_tokens = 16};
    struct td_u128 digests[SHAPES_PINNED] = {0};
    char digest[TD_U128_HEX_BYTES];

    for (size_t i = 0; i < count; i++) {
        const struct model_shape *shape = &shapes[first + i];
        uint32_t tokens[TOKENS_MAX];
        float logits[VOCAB_MAX];

        make_tokens(shape, tokens, 100);
        backend_logits(shape, &options, tokens, 100, 64, logits);
        digests[i] = td_hash128(logits, shape->vocab * sizeof *logits);
    }
    td_u128_hex(td_hash128(digests, count * sizeof digests[0]), digest);
    /* Whoever must change these bits gives the class, as cpu.h has it, another name. */
    assert_string_equal(digest, expected);
}

/* For the types that int8 makes a difference to. */
static void the_int8_class_has_not_changed_by_a_bit(void **state)
{
    (void)state;
    check_digest(&(struct cpu_options){.threads = 2, .numerics = CPU_NUMERICS_INT8}, 0,
                 SHAPES_PINNED, "de8dcdf2e8b80faa6918c04aa23120c7");
}

static void int8_kv_has_not_changed_by_a_bit(void **state)
{
    (void)state;
    check_digest(&(struct cpu_options){.threads = 2, .kv_dtype = CPU_KV_INT8}, 0, SHAPES_PINNED,
                 "8655e8f7a643865cd4cac62f26b11b8d");
    check_digest(
        &(struct cpu_options){.threads = 2, .kv_dtype = CPU_KV_INT8, .numerics = CPU_NUMERICS_INT8},
        0, SHAPES_PINNED, "62779a36c354c37d22cbd42662be0546");
    check_digest(&(struct cpu_options){.threads = 2, .kv_dtype = CPU_KV_INT8}, SHAPE_BALANCED, 1,
                 "a54377d2481251b46944f9578d904efa");
}

/* The LM head on a state that came from elsewhere: many at once, beside rows that want all sorts. */
static void a_head_gives_the_logits_of_the_row_its_state_came_from(void **state)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2}};
    const struct model_shape *shape = &shapes[4];
    struct cpu_rig rig;
    struct gguf_bytes file;
    uint32_t tokens[9];
    const float *results[9];
    float hidden[9][96];
    float logits[9][VOCAB_MAX];
    struct engine_batch_sequence sequence = {0};
    struct engine_row row = {.position = 0};
    const float *heads[9];
    struct engine_output outputs[11] = {{.row = 0, .want = ENGINE_WANT_HIDDEN}};
    struct engine_batch batch = {.rows = &row,
                                 .row_count = 1,
                                 .sequences = &sequence,
                                 .sequence_count = 1,
                                 .heads = heads,
                                 .head_count = 9,
                                 .outputs = outputs,
                                 .output_count = 11};
    struct engine_result result;

    (void)state;
    make_tokens(shape, tokens, 9);
    cpu_rig_open(&rig, gguf_build_open(shape, &file), &options);
    cpu_rig_feed(&rig, 0, tokens, 0, 9, ENGINE_WANT_HIDDEN, 9, results);
    for (uint32_t i = 0; i < 9; i++)
        memcpy(hidden[i], results[i], sizeof hidden[i]);
    cpu_rig_feed(&rig, 1, tokens, 0, 9, ENGINE_WANT_LOGITS, 9, results);
    for (uint32_t i = 0; i < 9; i++)
        memcpy(logits[i], results[i], shape->vocab * sizeof(float));
    sequence = (struct engine_batch_sequence){.slots = rig.slots + 2, .slot_count = 1};
    row.token = tokens[0];
    for (uint32_t i = 0; i < 9; i++) {
        heads[i] = hidden[i];
        outputs[1 + i] =
            (struct engine_output){.row = i, .is_head = true, .want = ENGINE_WANT_LOGITS};
    }
    outputs[10] = (struct engine_output){.row = 0, .want = ENGINE_WANT_LOGITS};
    result = cpu_rig_run(&rig, &batch);
    assert_memory_equal(result.outputs[0], hidden[0], sizeof hidden[0]);
    for (uint32_t i = 0; i < 9; i++)
        assert_memory_equal(result.outputs[1 + i], logits[i], shape->vocab * sizeof(float));
    assert_memory_equal(result.outputs[10], logits[0], shape->vocab * sizeof(float));
    cpu_rig_close(&rig);
    free(file.bytes);
}

/* Phases are parts of what a step took, with those in it that it had. */
static void phases_tell_of_every_step(void **state)
{
    struct cpu_rig_options options = {.cpu = {.threads = 2}};
    struct engine_batch_sequence sequence;
    struct engine_row row = {.position = 0};
    struct engine_batch batch = {
        .rows = &row, .row_count = 1, .sequences = &sequence, .sequence_count = 1};
    struct cpu_phases phases;
    struct cpu_rig rig;
    struct gguf_bytes file;
    uint64_t duration_ns = 0;
    uint64_t sum_ns = 0;

    (void)state;
    cpu_rig_open(&rig, gguf_build_open(&shapes[0], &file), &options);
    sequence = (struct engine_batch_sequence){.slots = rig.slots, .slot_count = 1};
    for (row.position = 0; row.position < 3; row.position++)
        duration_ns += cpu_rig_run(&rig, &batch).duration_ns;
    cpu_backend_phases(rig.backend, &phases);
    assert_int_equal(phases.steps, 3);
    for (int phase = 0; phase < CPU_PHASE_COUNT; phase++) {
        assert_true(strlen(cpu_phase_name((enum cpu_phase)phase)) > 0);
        sum_ns += phases.ns[phase];
    }
    assert_true(sum_ns <= duration_ns);
    assert_true(phases.ns[CPU_PHASE_QKV] > 0);
    assert_int_equal(phases.ns[CPU_PHASE_HEAD], 0); /* no logits were wanted */
    cpu_backend_reset_phases(rig.backend);
    cpu_backend_phases(rig.backend, &phases);
    assert_int_equal(phases.steps, 0);
    assert_int_equal(phases.ns[CPU_PHASE_QKV], 0);
    cpu_rig_close(&rig);
    free(file.bytes);
}

/* What is told before a backend is opened is what it takes, whatever the heads are beside the hidden state. */
static void the_workspace_is_as_large_as_it_was_said_to_be(void **state)
{
    static const struct cpu_options sizes[] = {{.threads = 1},
                                               {.threads = 3, .rows_max = 7, .outputs_max = 60}};

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            const struct cpu_rig_options options = {.cpu = sizes[k]};
            struct gguf_bytes file;
            struct cpu_rig rig;

            cpu_rig_open(&rig, gguf_build_open(&shapes[i], &file), &options);
            assert_int_equal(((struct cpu_backend *)rig.backend)->memory_bytes,
                             cpu_workspace_bytes(rig.model, &sizes[k]));
            cpu_rig_close(&rig);
            free(file.bytes);
        }
}

static void batches_that_make_no_sense_are_refused(void **state)
{
    struct cpu_rig_options options = {.cpu = {.rows_max = 2, .outputs_max = 1}};
    struct cpu_rig rig;
    struct gguf_bytes file;
    struct engine_row rows[3] = {{0}, {.position = 1}, {.position = 2}};
    struct engine_batch_sequence sequence;
    struct engine_batch_sequence both[2];
    struct engine_output outputs[2] = {{.want = ENGINE_WANT_LOGITS}, {.want = ENGINE_WANT_LOGITS}};
    struct engine_batch right = {.rows = rows,
                                 .row_count = 2,
                                 .sequences = &sequence,
                                 .sequence_count = 1,
                                 .outputs = outputs,
                                 .output_count = 1};
    struct engine_batch wrong = right;
    struct engine_result result;
    uint32_t no_slot;

    (void)state;
    cpu_rig_open(&rig, gguf_build_open(&shapes[0], &file), &options);
    no_slot = rig.kv.block_count;
    sequence = (struct engine_batch_sequence){.slots = rig.slots, .slot_count = 1};
    both[0] = both[1] = sequence;
#define REFUSED(status) \
    assert_int_equal(rig.backend->ops->run(rig.backend, &wrong, &result), status)
    wrong.row_count = 3;
    REFUSED(TD_LIMIT);
    wrong = right;
    wrong.output_count = 2;
    REFUSED(TD_LIMIT);
    wrong = right;
    rows[1].token = shapes[0].vocab;
    REFUSED(TD_INVALID);
    rows[1].token = 0;
    rows[1].position = 16; /* its block is not in the table */
    REFUSED(TD_INVALID);
    rows[1].position = 1;
    sequence.slots = &no_slot;
    REFUSED(TD_INVALID);
    sequence.slots = rig.slots;
    rows[1].sequence = 1;
    REFUSED(TD_INVALID);
    wrong.sequences = both;
    wrong.sequence_count = 2;
    rows[0].sequence = 1; /* sequences come in order */
    rows[1].sequence = 0;
    REFUSED(TD_INVALID);
    wrong = right;
    rows[0].sequence = 0;
    outputs[0].row = 2;
    REFUSED(TD_INVALID);
    outputs[0].row = 0;
    outputs[0].is_head = true;
    REFUSED(TD_INVALID);
    outputs[0].is_head = false;
    outputs[0].want = (enum engine_want)3;
    REFUSED(TD_INVALID);
#undef REFUSED
    outputs[0].want = ENGINE_WANT_LOGITS;
    assert_int_equal(rig.backend->ops->run(rig.backend, &right, &result), TD_OK);
    cpu_rig_close(&rig);
    free(file.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_those_of_a_plain_computation),
        cmocka_unit_test(angles_are_right_at_every_position),
        cmocka_unit_test(kernels_chunks_threads_and_block_sizes_change_no_bit),
        cmocka_unit_test(divisors_of_keys_change_no_bit_either),
        cmocka_unit_test(the_int8_class_has_not_changed_by_a_bit),
        cmocka_unit_test(int8_kv_has_not_changed_by_a_bit),
        cmocka_unit_test(a_head_gives_the_logits_of_the_row_its_state_came_from),
        cmocka_unit_test(phases_tell_of_every_step),
        cmocka_unit_test(the_workspace_is_as_large_as_it_was_said_to_be),
        cmocka_unit_test(batches_that_make_no_sense_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
