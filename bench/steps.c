/*
 * steps.c: `tandem bench steps`: what a step costs beside the model: how long a device stands still between two steps.
 *
 * The engine on its thread, as workers have it, over a device that computes nothing and takes a set time for it: its
 * tokens are drawn at once, its pool is nobody's. Every sequence asks for the same, greedy or not, with a prompt of about
 * `context` tokens; lengths differ, so that in each step as many sequences as in a worker fill a block, which is then published.
 * What is measured lies between the end of a step and the beginning of the next, as the device sees it.
 */
#include <inttypes.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "engine/runtime.h"
#include "lib/base/flags.h"
#include "lib/base/json_write.h"
#include "lib/base/progress.h"
#include "lib/base/time.h"
#include "lib/net/program.h"

#define BATCHES      3
#define BATCH_MAX    256
#define STEPS_MAX    4096
#define BLOCK_TOKENS 16
#define STEP_ROWS    8192
#define PROMPT_ROWS  (STEP_ROWS - BATCH_MAX) /* of a step: who decodes may take the others */
#define RING         4096
#define VOCAB        151936

static const uint32_t batches[BATCHES] = {1, 32, BATCH_MAX};

struct options {
    uint32_t context;
    uint32_t steps;
    uint32_t step_us;
    bool json;
};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(struct options, context), .name = "context", .fallback = "1024",
     .min = BLOCK_TOKENS, .max = 65536, .help = "Tokens of each prompt, about."},
    {TD_FLAG_AS_UINT32(struct options, steps), .name = "steps", .fallback = "512", .min = 16,
     .max = STEPS_MAX, .help = "Steps that are measured of each batch."},
    {TD_FLAG_AS_UINT32(struct options, step_us), .name = "step-us", .fallback = "500", .min = 0,
     .max = 100000, .help = "Microseconds that the device takes for a step."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* A device that computes nothing; its own until the engine has ended. */
struct idler {
    struct engine_backend base;
    uint64_t step_ns;
    uint32_t batch;
    uint64_t began_ns;
    uint64_t ended_ns;
    uint32_t rows_before; /* of the step before */
    uint32_t outputs;
    uint32_t tokens[BATCH_MAX];
    const float *none[BATCH_MAX];
    double gaps_us[STEPS_MAX];
    uint32_t gap_count;
    uint32_t gaps_wanted;
};

struct rig {
    struct options options;
    struct idler idler;
    struct engine_kv kv;
    struct engine_runtime *engine;
    sem_t woken;
    uint32_t finished;
    double shares[BATCHES][3]; /* median, nine in ten, ninety-nine in a hundred */
};

/* ------------------------------------------------------------------ the device */

/* Gaps count between steps in which all of the batch decodes. */
static td_status_t begin(struct engine_backend *base, const struct engine_batch *batch)
{
    struct idler *idler = (struct idler *)base;
    bool is_steady = batch->row_count == idler->batch && idler->rows_before == idler->batch;

    idler->began_ns = td_now_ns();
    if (is_steady && idler->gap_count < idler->gaps_wanted)
        idler->gaps_us[idler->gap_count++] = (double)(idler->began_ns - idler->ended_ns) / 1e3;
    idler->rows_before = batch->row_count;
    idler->outputs = batch->output_count;
    return TD_OK;
}

static td_status_t finish(struct engine_backend *base, struct engine_result *result_out)
{
    struct idler *idler = (struct idler *)base;

    while (td_now_ns() - idler->began_ns < idler->step_ns)
        ; /* a core that sleeps wakes slowly, and is cold */
    for (uint32_t i = 0; i < idler->outputs; i++)
        idler->tokens[i] = i;
    *result_out = (struct engine_result){
        .outputs = idler->none, .tokens = idler->tokens, .duration_ns = idler->step_ns};
    idler->ended_ns = td_now_ns();
    return TD_OK;
}

static td_status_t run(struct engine_backend *base, const struct engine_batch *batch,
                       struct engine_result *result_out)
{
    td_status_t status = begin(base, batch);

    return status == TD_OK ? finish(base, result_out) : status;
}

static void close_idler(struct engine_backend *base)
{
    (void)base; /* the rig has it */
}

static const struct engine_backend_ops idler_ops = {
    .name = "idler", .run = run, .close = close_idler, .begin = begin, .finish = finish};

/* As a GPU's: hashes are made when a block is sent. */
static td_status_t seal(void *impl, const uint32_t *slots, uint32_t count,
                        struct td_u128 *hashes_out)
{
    (void)impl;
    (void)slots;
    memset(hashes_out, 0, count * sizeof *hashes_out);
    return TD_OK;
}

static const struct engine_kv_ops kv_ops = {.seal = seal};

/* ------------------------------------------------------------------ the engine */

static void on_wake(void *impl)
{
    sem_post(&((struct rig *)impl)->woken);
}

/* Those that come first go on until the last prompt has been read, and then all for as many steps as are measured. */
static uint32_t new_tokens(const struct rig *rig)
{
    uint32_t prompts = BATCH_MAX * (rig->options.context / PROMPT_ROWS + 1); /* steps, at most */

    return prompts + rig->options.steps + 2;
}

static uint32_t tokens_max(const struct rig *rig)
{
    return rig->options.context + new_tokens(rig);
}

static td_status_t open_engine(struct rig *rig, uint32_t batch, struct td_error *error)
{
    struct idler *idler = &rig->idler;
    struct engine_runtime_config config = {
        .core = {.step_rows = STEP_ROWS, .sequences_max = BATCH_MAX},
        .backend = &idler->base,
        .kv = &rig->kv,
        .ring_capacity = RING,
        .wake = on_wake,
        .wake_impl = rig};

    *idler = (struct idler){.base = {.ops = &idler_ops,
                                     .info = {.vocab = VOCAB,
                                              .hidden = 1,
                                              .layers = 1,
                                              .heads = 1,
                                              .kv_heads = 1,
                                              .head_dim = 1,
                                              .max_context = tokens_max(rig),
                                              .block_tokens = BLOCK_TOKENS,
                                              .block_bytes = 4 * BLOCK_TOKENS},
                                     .rows_max = STEP_ROWS,
                                     .outputs_max = BATCH_MAX},
                            .step_ns = rig->options.step_us * TD_NS_PER_US,
                            .batch = batch,
                            .gaps_wanted = rig->options.steps};
    rig->kv = (struct engine_kv){.fd = -1,
                                 .block_count = BATCH_MAX * (tokens_max(rig) / BLOCK_TOKENS + 2),
                                 .block_tokens = BLOCK_TOKENS,
                                 .block_bytes = idler->base.info.block_bytes,
                                 .ops = &kv_ops};
    rig->finished = 0;
    return engine_runtime_open(&config, &rig->engine, error);
}

/* TD_LIMIT cannot come: the ring has more slots than there are sequences. */
static td_status_t submit(struct rig *rig, uint32_t index)
{
    struct engine_command command = {
        .kind = ENGINE_SUBMIT,
        .sequence = index + 1,
        .submit = {.token_count = rig->options.context - index % BLOCK_TOKENS,
                   .max_new_tokens = new_tokens(rig),
                   .root_key = {.lo = 1},
                   .sampling = {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f, .seed = index},
                   .deadline_ns = TD_TIME_NEVER}};
    struct engine_submit *submit = &command.submit;
    td_status_t status;

    submit->tokens = malloc(submit->token_count * sizeof *submit->tokens);
    if (submit->tokens == NULL)
        return TD_NO_MEMORY;
    for (uint32_t i = 0; i < submit->token_count; i++)
        submit->tokens[i] = (index * 7919 + i) % VOCAB;
    status = engine_runtime_push(rig->engine, &command);
    if (status != TD_OK)
        engine_command_fini(&command);
    return status;
}

/* What a worker's loop does, without what it does with events. */
static void take_events(struct rig *rig, uint32_t batch)
{
    struct engine_event event;

    while (rig->finished < batch) {
        while (engine_runtime_pop(rig->engine, &event)) {
            rig->finished += event.kind == ENGINE_FINISHED;
            engine_event_fini(&event);
        }
        if (rig->finished < batch)
            while (sem_wait(&rig->woken) != 0)
                ; /* a signal */
    }
}

/* ------------------------------------------------------------------ measuring */

static int by_size(const void *a, const void *b)
{
    double left = *(const double *)a;
    double right = *(const double *)b;

    return (left > right) - (left < right);
}

static void take_shares(struct rig *rig, double shares_out[static 3])
{
    static const double shares[3] = {0.5, 0.9, 0.99};
    struct idler *idler = &rig->idler;

    qsort(idler->gaps_us, idler->gap_count, sizeof idler->gaps_us[0], by_size);
    for (int i = 0; i < 3; i++)
        shares_out[i] = idler->gaps_us[(size_t)(shares[i] * idler->gap_count)];
}

static td_status_t measure_batch(struct rig *rig, uint32_t which, struct td_error *error)
{
    uint32_t batch = batches[which];
    td_status_t status = open_engine(rig, batch, error);

    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < batch && status == TD_OK; i++)
        status = submit(rig, i);
    if (status == TD_OK)
        take_events(rig, batch);
    engine_runtime_close(rig->engine);
    if (status != TD_OK)
        return td_fail(error, status, "the engine takes no requests: %s", td_status_text(status));
    if (rig->idler.gap_count < rig->idler.gaps_wanted)
        return td_fail(error, TD_INTERNAL,
                       "batch %" PRIu32 " ended after %" PRIu32 " of %" PRIu32 " steps", batch,
                       rig->idler.gap_count, rig->idler.gaps_wanted);
    take_shares(rig, rig->shares[which]);
    return TD_OK;
}

static td_status_t measure(struct rig *rig, struct td_error *error)
{
    struct td_progress progress;
    td_status_t status = TD_OK;

    td_progress_begin(&progress, "tandem bench steps", "measuring");
    for (uint32_t i = 0; i < BATCHES && status == TD_OK; i++) {
        td_progress_update(&progress, i, BATCHES);
        status = measure_batch(rig, i, error);
    }
    td_progress_hide(&progress);
    return status;
}

/* ------------------------------------------------------------------ reporting */

static void report_json(const struct rig *rig)
{
    static const char *const keys[3] = {"median", "p90", "p99"};
    struct td_json_writer writer;
    struct td_buf buf;
    char key[32];

    td_buf_init(&buf, (size_t)1 << 12);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    for (uint32_t i = 0; i < BATCHES; i++) {
        snprintf(key, sizeof key, "batch_%" PRIu32 "_gap_us", batches[i]);
        td_json_begin_object(&writer, key);
        for (int k = 0; k < 3; k++)
            td_json_put_double(&writer, keys[k], rig->shares[i][k]);
        td_json_end(&writer);
    }
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_table(const struct rig *rig)
{
    printf("Between two steps, microseconds     %8s %8s %8s\n", "median", "p90", "p99");
    for (uint32_t i = 0; i < BATCHES; i++)
        printf("  batch %-28" PRIu32 "%8.1f %8.1f %8.1f\n", batches[i], rig->shares[i][0],
               rig->shares[i][1], rig->shares[i][2]);
}

static int measure_and_report(struct rig *rig)
{
    struct td_error error = {0};
    td_status_t status;

    if (sem_init(&rig->woken, 0, 0) != 0)
        return NET_EXIT_FAILURE;
    status = measure(rig, &error);
    sem_destroy(&rig->woken);
    if (status != TD_OK) {
        fprintf(stderr, "tandem bench steps: %s\n", error.text);
        return NET_EXIT_FAILURE;
    }
    if (rig->options.json)
        report_json(rig);
    else
        report_table(rig);
    return NET_EXIT_OK;
}

int bench_steps(int argc, char **argv)
{
    static struct rig rig;
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = &rig.options};
    const struct td_flags program = {
        .program = "tandem bench steps",
        .summary = "Measures how long a device stands still between two steps of the engine.",
        .usage = "[flags]",
        .purpose = "measures how long a device stands still between two steps of the engine",
        .about =
            "Prints microseconds from the end of a step to the beginning of the next, in which the "
            "engine takes over tokens, fills blocks and plans, at batches of 1, 32 and 256, over a "
            "device that computes nothing. Workers show the same of their own steps as "
            "tandem_engine_gap_seconds.",
        .examples = "  tandem bench steps\n"
                    "  tandem bench steps --context 8192 --json\n",
        .see_also = "tandem-bench(1)",
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    struct td_arena arena;
    int exit_status = net_program_flags(&program, argc, argv, &arena, &result);

    if (exit_status < 0)
        exit_status = net_program_no_words(&program, &result);
    if (exit_status < 0)
        exit_status = measure_and_report(&rig);
    td_arena_fini(&arena);
    return exit_status;
}
