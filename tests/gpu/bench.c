/*
 * bench.c: how fast steps of models of real shapes are on the first GPU, with random weights made there.
 *
 *   gpu_bench [SHAPE [TYPE [SECONDS]]] [--graphs on|off] [--early on|off] [--wide on|off] [--fast] [--load]
 *
 * SHAPE: tiny, qwen2.5-0.5b, qwen2.5-7b, llama-3.1-8b; TYPE: bf16, q8_0, q4_k ...; SECONDS for each figure. Prints a line of
 * JSON for each: prompts of 2,048 tokens in chunks of 512, and decode at several batch sizes, every sequence with 1,023 tokens
 * behind it: "decode" draws tokens on the GPU, as serving does, "decode-logits" copies all logits to the host. Times are of whole
 * steps: the median. Keys and values of the tokens behind are
 * random too, each sequence's own. "bits" is a hash of the first sequence's logits, or its token, which neither the size of the batch nor graphs
 * nor early launches nor products by warpgroups (--wide) may change; where batches disagree, the exit status is 1. --fast: the fast variant, where they
 * may. --load times how weights come from the host's memory instead.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/gpu/gpu.h"
#include "engine/sample.h"
#include "lib/base/hash.h"
#include "lib/base/time.h"
#include "model/model.h"

#define CONTEXT      1024
#define PROMPT       2048
#define CHUNK        512
#define BATCH_MAX    256
#define BLOCK_TOKENS 16
#define TIMES_MAX    2048
#define EXIT_SKIPPED 77

static const struct shape {
    const char *name;
    uint32_t layers;
    uint32_t hidden;
    uint32_t ffn;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t vocab;
} shapes[] = {
    {"tiny", 2, 256, 512, 4, 2, 64, 1024},
    {"qwen2.5-0.5b", 24, 896, 4864, 14, 2, 64, 151936},
    {"qwen2.5-7b", 28, 3584, 18944, 28, 4, 128, 152064},
    {"llama-3.1-8b", 32, 4096, 14336, 32, 8, 128, 128256},
};

static const struct {
    const char *name;
    enum model_type type;
} types[] = {
#define X(label, member, id) {#label, MODEL_TYPE_##member},
    CUDA_TYPES(X)
#undef X
};

/* What is measured. */
struct bench {
    const struct shape *shape;
    const char *type;
    struct engine_backend *backend;
    bool has_graphs;
    bool has_early;
    bool has_wide;
    bool is_fast;
    double seconds;
    bool is_checking; /* of all logits of an output whether they are numbers */
    uint64_t bits;    /* of the last step's last logits, or token */
    uint64_t decoded; /* of one sequence alone */
    bool disagrees;
    uint32_t slots[BATCH_MAX * CONTEXT / BLOCK_TOKENS];
    struct engine_batch_sequence sequences[BATCH_MAX];
    struct engine_row rows[CHUNK];
    struct engine_output outputs[BATCH_MAX];
    struct engine_draw draws[BATCH_MAX];
    double times[TIMES_MAX];
};

static void die(const char *what, const struct td_error *error)
{
    fprintf(stderr, "error: %s: %s\n", what, error->text);
    exit(1);
}

/* ------------------------------------------------------------------ the model */

static struct model_matrix matrix(enum model_type type, uint32_t rows, uint32_t columns)
{
    struct model_matrix made = {.type = type, .rows = rows, .columns = columns};
    const struct td_error error = {.text = "the type's blocks do not divide its rows"};

    if (!model_type_row_bytes((uint32_t)type, columns, &made.row_bytes))
        die("this shape cannot have this type", &error);
    return made;
}

static void fill_layer(struct model_layer *layer, const struct shape *shape, enum model_type type,
                       const float *ones)
{
    uint32_t queries = shape->heads * shape->head_dim;
    uint32_t keys = shape->kv_heads * shape->head_dim;

    *layer = (struct model_layer){.attention_norm = ones,
                                  .q = matrix(type, queries, shape->hidden),
                                  .k = matrix(type, keys, shape->hidden),
                                  .v = matrix(type, keys, shape->hidden),
                                  .attention_output = matrix(type, shape->hidden, queries),
                                  .ffn_norm = ones,
                                  .gate = matrix(type, shape->ffn, shape->hidden),
                                  .up = matrix(type, shape->ffn, shape->hidden),
                                  .down = matrix(type, shape->hidden, shape->ffn)};
}

/* A model without weights: the backend makes them. Closed by model_close. */
static struct model *make_model(const struct shape *shape, enum model_type type)
{
    struct model *model = calloc(1, sizeof *model);
    struct model_rope_description rope =
        model_rope_describe(MODEL_ROPE_PLAIN, MODEL_ROPE_HALF, shape->head_dim);
    struct td_error error = {.text = "no memory"};

    if (model != NULL) {
        model->layer = calloc(shape->layers, sizeof *model->layer);
        model->vectors = calloc(shape->hidden, sizeof *model->vectors);
    }
    if (model == NULL || model->layer == NULL || model->vectors == NULL ||
        model_rope_init(&rope, &model->rope, &error) != TD_OK)
        die("the model", &error);
    for (uint32_t i = 0; i < shape->hidden; i++)
        model->vectors[i] = 1;
    for (uint32_t i = 0; i < shape->layers; i++)
        fill_layer(&model->layer[i], shape, type, model->vectors);
    snprintf(model->name, sizeof model->name, "%s", shape->name);
    model->vocab = shape->vocab;
    model->hidden = shape->hidden;
    model->ffn = shape->ffn;
    model->layers = shape->layers;
    model->heads = shape->heads;
    model->kv_heads = shape->kv_heads;
    model->head_dim = shape->head_dim;
    model->max_context = PROMPT;
    model->rms_epsilon = 1e-5f;
    model->embedding = matrix(type, shape->vocab, shape->hidden);
    model->output = model->embedding;
    model->output_norm = model->vectors;
    return model;
}

/* ------------------------------------------------------------------ measuring */

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void check_logits(struct bench *bench, const struct engine_batch *batch,
                         const struct engine_result *result)
{
    const struct td_error wrong = {.text = "a logit is no number"};
    const uint32_t vocab = bench->shape->vocab;

    for (uint32_t i = 0; i < batch->output_count; i++)
        if (!isfinite(result->outputs[i][i]))
            die("run", &wrong);
    for (uint32_t i = 0; bench->is_checking && i < vocab; i++)
        if (!isfinite(result->outputs[0][i]))
            die("run", &wrong);
    bench->bits = td_hash128(result->outputs[batch->output_count - 1], vocab * sizeof(float)).lo;
}

static void check_tokens(struct bench *bench, const struct engine_batch *batch,
                         const struct engine_result *result)
{
    const struct td_error wrong = {.text = "a token was not drawn"};

    for (uint32_t i = 0; i < batch->output_count; i++)
        if (result->tokens == NULL || result->tokens[i] >= bench->shape->vocab)
            die("run", &wrong);
    bench->bits = result->tokens[batch->output_count - 1];
}

/* A step, and whether its logits are numbers, or its tokens are some. */
static double time_step(struct bench *bench, const struct engine_batch *batch)
{
    const struct td_error failed = {.text = "the step failed (see above)"};
    struct engine_result result;
    uint64_t start_ns = td_now_ns();
    double ms;

    if (bench->backend->ops->run(bench->backend, batch, &result) != TD_OK)
        die("run", &failed);
    ms = td_ns_to_ms(td_now_ns() - start_ns);
    if (batch->output_count > 0 && batch->outputs[0].draw != NULL)
        check_tokens(bench, batch, &result);
    else if (batch->output_count > 0)
        check_logits(bench, batch, &result);
    return ms;
}

/* Repeats what `once` does until the time is used up, and prints the median. tokens: of one time. */
static void report(struct bench *bench, const char *what, uint32_t batch, uint32_t tokens,
                   double (*once)(struct bench *bench, uint32_t batch))
{
    uint32_t count = 0;
    double spent_ms = 0;

    bench->is_checking = true;
    (void)once(bench, batch);
    bench->is_checking = false;
    while (count < TIMES_MAX && (count < 3 || spent_ms < bench->seconds * 1e3)) {
        bench->times[count] = once(bench, batch);
        spent_ms += bench->times[count++];
    }
    qsort(bench->times, count, sizeof bench->times[0], by_size);
    printf("{\"model\": \"%s\", \"type\": \"%s\", \"what\": \"%s\", \"batch\": %" PRIu32
           ", \"graphs\": \"%s\", \"early\": \"%s\", \"wide\": \"%s\", \"variant\": \"%s\", "
           "\"ms\": %.3f, "
           "\"tokens_per_s\": %.1f, "
           "\"least_ms\": %.3f"
           ", \"times\": %" PRIu32 ", \"bits\": \"%016" PRIx64 "\"}\n",
           bench->shape->name, bench->type, what, batch, bench->has_graphs ? "on" : "off",
           bench->has_early ? "on" : "off", bench->has_wide ? "on" : "off",
           bench->is_fast ? "fast" : "default", bench->times[count / 2],
           tokens / bench->times[count / 2] * 1e3, bench->times[0], count, bench->bits);
    fflush(stdout);
}

/* The first sequence is in the last row, so that every size of a batch has it at another place. */
static double decode(struct bench *bench, uint32_t batch, bool is_drawn)
{
    struct engine_batch_sequence sequences[BATCH_MAX];
    struct engine_sampling sampling = {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f};
    const struct engine_batch step = {.rows = bench->rows,
                                      .row_count = batch,
                                      .sequences = sequences,
                                      .sequence_count = batch,
                                      .outputs = bench->outputs,
                                      .output_count = batch};

    for (uint32_t i = 0; i < batch; i++) {
        uint32_t sequence = batch - 1 - i;

        sequences[i] = bench->sequences[sequence];
        bench->rows[i] = (struct engine_row){
            .token = sequence % bench->shape->vocab, .position = CONTEXT - 1, .sequence = i};
        bench->outputs[i] = (struct engine_output){.row = i, .want = ENGINE_WANT_LOGITS};
        sampling.seed = sequence;
        bench->draws[i] = engine_draw_of(&sampling, bench->shape->vocab, 0);
        if (is_drawn)
            bench->outputs[i].draw = &bench->draws[i];
    }
    return time_step(bench, &step);
}

static double decode_once(struct bench *bench, uint32_t batch)
{
    return decode(bench, batch, true);
}

static double decode_logits_once(struct bench *bench, uint32_t batch)
{
    return decode(bench, batch, false);
}

/* A prompt takes the slots of two sequences. */
static double prefill_once(struct bench *bench, uint32_t batch)
{
    const struct engine_batch_sequence sequence = {.slots = bench->slots,
                                                   .slot_count = PROMPT / BLOCK_TOKENS};
    struct engine_batch step = {
        .rows = bench->rows, .row_count = CHUNK, .sequences = &sequence, .sequence_count = 1};
    double ms = 0;

    (void)batch;
    bench->outputs[0] = (struct engine_output){.row = CHUNK - 1, .want = ENGINE_WANT_LOGITS};
    step.outputs = bench->outputs;
    for (uint32_t first = 0; first < PROMPT; first += CHUNK) {
        for (uint32_t i = 0; i < CHUNK; i++)
            bench->rows[i] = (struct engine_row){.token = (first + i) % bench->shape->vocab,
                                                 .position = first + i};
        step.output_count = first + CHUNK == PROMPT;
        ms += time_step(bench, &step);
    }
    return ms;
}

/* Keys and values of all sequences: random halves, for nobody wants to wait for real ones. */
static void fill_pool(struct cuda_device *device, const struct engine_kv *kv)
{
    const struct cuda_fill_args args = {.data = kv->base,
                                        .blocks = kv->block_bytes / 2 * kv->block_count,
                                        .type = CUDA_TYPE_F16,
                                        .block_bytes = 2,
                                        .range = 1};
    struct td_error error = {0};

    cuda_device_launch(device, CUDA_KERNEL_FILL,
                       (struct cuda_grid){(uint32_t)((args.blocks + 255) / 256), 1, 1}, &args);
    if (cuda_device_wait(device, &error) != TD_OK)
        die("cannot fill the pool", &error);
}

/* At every size of a batch, which may not change what the first sequence gets. */
static void measure_decode(struct bench *bench, const char *what,
                           double (*once)(struct bench *bench, uint32_t batch))
{
    static const uint32_t batches[] = {1, 8, 32, BATCH_MAX};

    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        report(bench, what, batches[i], batches[i], once);
        if (i == 0)
            bench->decoded = bench->bits;
        bench->disagrees = bench->disagrees || (!bench->is_fast && bench->bits != bench->decoded);
    }
}

static void measure(struct bench *bench)
{
    for (uint32_t i = 0; i < BATCH_MAX * CONTEXT / BLOCK_TOKENS; i++)
        bench->slots[i] = i;
    for (uint32_t i = 0; i < BATCH_MAX; i++)
        bench->sequences[i] =
            (struct engine_batch_sequence){.slots = bench->slots + i * (CONTEXT / BLOCK_TOKENS),
                                           .slot_count = CONTEXT / BLOCK_TOKENS};
    report(bench, "prefill", 1, PROMPT, prefill_once);
    measure_decode(bench, "decode", decode_once);
    measure_decode(bench, "decode-logits", decode_logits_once);
}

/* What recorded steps have taken of the device's memory, for which plan.h has only a guess. */
static void report_graphs(const struct bench *bench, struct cuda_device *device, size_t free_before)
{
    const struct cuda_graph_counts counts = cuda_backend_graphs(bench->backend);
    struct td_error error = {0};
    size_t free_after = 0;

    if (cuda_device_free_bytes(device, &free_after, &error) != TD_OK)
        die("free memory", &error);
    printf("{\"model\": \"%s\", \"type\": \"%s\", \"what\": \"graphs\", \"recorded\": %" PRIu64
           ", \"failed\": %" PRIu64 ", \"mib\": %.1f}\n",
           bench->shape->name, bench->type, counts.recorded, counts.failed,
           ((double)free_before - (double)free_after) / (1 << 20));
}

static void run(struct bench *bench, struct cuda_device *device, const struct engine_kv *kv)
{
    struct td_error error = {0};
    size_t free_bytes = 0;

    fill_pool(device, kv);
    if (cuda_device_free_bytes(device, &free_bytes, &error) != TD_OK)
        die("free memory", &error);
    measure(bench);
    report_graphs(bench, device, free_bytes);
}

/* ------------------------------------------------------------------ main */

static const struct shape *find_shape(const char *name)
{
    const struct td_error error = {.text =
                                       "tiny, qwen2.5-0.5b, qwen2.5-7b and llama-3.1-8b are known"};

    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(shapes[i].name, name) == 0)
            return &shapes[i];
    die(name, &error);
    return NULL;
}

static enum model_type find_type(const char *name)
{
    const struct td_error error = {.text = "no such type of weights; bf16, fp8, q8_0, q4_k are"};

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].name, name) == 0)
            return types[i].type;
    die(name, &error);
    return MODEL_TYPE_F32;
}

/* The word behind an option that is on or off. */
static bool take_switch(int argc, char **argv, int *i, bool *value_out)
{
    if (*i + 1 >= argc || (strcmp(argv[*i + 1], "on") != 0 && strcmp(argv[*i + 1], "off") != 0))
        return false;
    *value_out = strcmp(argv[++*i], "on") == 0;
    return true;
}

/* Options may stand anywhere; returns how many words are left. */
static int take_options(int argc, char **argv, struct bench *bench, bool *is_load)
{
    const struct td_error error = {
        .text = "--graphs, --early and --wide on or off, --fast and --load are known"};
    int left = 1;

    bench->has_graphs = bench->has_early = bench->has_wide = true;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2) != 0) {
            argv[left++] = argv[i];
        } else if (strcmp(argv[i], "--load") == 0) {
            *is_load = true;
        } else if (strcmp(argv[i], "--fast") == 0) {
            bench->is_fast = true;
        } else if (!(strcmp(argv[i], "--graphs") == 0 &&
                     take_switch(argc, argv, &i, &bench->has_graphs)) &&
                   !(strcmp(argv[i], "--early") == 0 &&
                     take_switch(argc, argv, &i, &bench->has_early)) &&
                   !(strcmp(argv[i], "--wide") == 0 &&
                     take_switch(argc, argv, &i, &bench->has_wide))) {
            die(argv[i], &error);
        }
    }
    return left;
}

/* Gives every matrix the same bytes of ordinary memory, so that they are copied. Returns the bytes of all of them. */
static size_t give_data(struct model *model, uint8_t **memory_out)
{
    struct model_matrix *ends[] = {&model->embedding, &model->output};
    const struct td_error error = {.text = "no memory for weights"};
    size_t largest = model->embedding.rows * model->embedding.row_bytes;
    size_t total = largest; /* the output is tied to it */
    uint8_t *memory;

    for (uint32_t i = 0; i < model->layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        const struct model_matrix *const matrices[] = {
            &layer->q,    &layer->k,  &layer->v,   &layer->attention_output,
            &layer->gate, &layer->up, &layer->down};

        for (size_t k = 0; k < sizeof matrices / sizeof matrices[0]; k++)
            total += matrices[k]->rows * matrices[k]->row_bytes;
        if (layer->down.rows * layer->down.row_bytes > largest)
            largest = layer->down.rows * layer->down.row_bytes;
    }
    memory = malloc(largest);
    if (memory == NULL)
        die("--load", &error);
    memset(memory, 0, largest); /* zero is a number in every type */
    for (uint32_t i = 0; i < model->layers; i++) {
        struct model_layer *layer = &model->layer[i];

        layer->q.data = layer->k.data = layer->v.data = layer->attention_output.data = memory;
        layer->gate.data = layer->up.data = layer->down.data = memory;
    }
    for (size_t i = 0; i < 2; i++)
        ends[i]->data = memory;
    *memory_out = memory;
    return total;
}

static void report_load(const struct bench *bench, size_t bytes, double ms)
{
    printf("{\"model\": \"%s\", \"type\": \"%s\", \"what\": \"load\", \"gib\": %.2f, \"ms\": %.0f"
           ", \"gib_per_s\": %.2f}\n",
           bench->shape->name, bench->type, (double)bytes / (1 << 30), ms,
           (double)bytes / (1 << 30) / ms * 1e3);
}

int main(int argc, char **argv)
{
    static struct bench bench;
    struct cuda_options options = {.memory_fraction = 0.95,
                                   .block_tokens = BLOCK_TOKENS,
                                   .block_count = BATCH_MAX * CONTEXT / BLOCK_TOKENS,
                                   .rows_max = CHUNK,
                                   .outputs_max = BATCH_MAX};
    struct cuda_device *device = NULL;
    struct td_error error = {0};
    struct engine_kv kv;
    bool is_load = false;
    uint8_t *data = NULL;
    size_t bytes = 0;
    uint64_t start_ns;
    struct model *model;
    td_status_t status;

    argc = take_options(argc, argv, &bench, &is_load);
    bench.shape = find_shape(argc > 1 ? argv[1] : "tiny");
    bench.type = argc > 2 ? argv[2] : "bf16";
    bench.seconds = argc > 3 ? strtod(argv[3], NULL) : 1;
    options.is_without_graphs = !bench.has_graphs;
    options.is_without_early = !bench.has_early;
    options.warpgroups = bench.has_wide ? CUDA_WARPGROUPS_AUTO : CUDA_WARPGROUPS_OFF;
    options.is_fast = bench.is_fast;
    model = make_model(bench.shape, find_type(bench.type));
    if (is_load)
        bytes = give_data(model, &data);
    status = gpu_open(0, &device, &error);
    start_ns = td_now_ns();
    if (status == TD_OK)
        status = cuda_backend_open(model, device, &options, &kv, &bench.backend, &error);
    if (status == TD_NOT_FOUND) { /* a GPU, or the library of the fast variant */
        printf("[  SKIPPED ] %s\n", error.text);
        cuda_device_close(device);
        model_close(model);
        free(data);
        return EXIT_SKIPPED;
    }
    if (status != TD_OK)
        die("cannot open", &error);
    if (is_load)
        report_load(&bench, bytes, td_ns_to_ms(td_now_ns() - start_ns));
    else
        run(&bench, device, &kv);
    bench.backend->ops->close(bench.backend);
    cuda_device_close(device);
    model_close(model);
    free(data);
    if (bench.disagrees)
        fprintf(stderr, "error: the first sequence's logits depend on the size of the batch\n");
    return bench.disagrees ? 1 : 0;
}
