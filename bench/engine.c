/*
 * engine.c: `tandem bench engine`: how fast the CPU backend reads prompts and writes tokens.
 *
 * Drives the backend with batches alone: no scheduler, no sampling, no text. Every repeat measures
 * everything once, in turn, so that a slow minute of the machine touches all numbers alike; the
 * memory bandwidth is measured in the same turn, as the limit that decoding is compared with. Token
 * ids are arbitrary but fixed: speed does not depend on them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/stats.h"
#include "engine/backend.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/team.h"
#include "lib/base/flags.h"
#include "lib/base/progress.h"
#include "lib/base/time.h"
#include "lib/net/program.h"
#include "model/model.h"

#define BLOCK_TOKENS    16
#define BATCH_COUNT     3
#define BATCH_MAX       8
#define BANDWIDTH_BYTES ((size_t)256 << 20) /* well beyond any cache that we might get */
#define BANDWIDTH_UNIT  ((size_t)1 << 20)

static const uint32_t batch_sizes[BATCH_COUNT] = {1, 4, BATCH_MAX};

struct options {
    const char *model;
    uint32_t threads;
    uint32_t prompt_tokens;
    uint32_t context_tokens;
    uint32_t new_tokens;
    uint32_t repeats;
    unsigned kv_dtype;
    unsigned numerics;
    bool json;
};

struct rig {
    struct options options;
    struct model *model;
    struct engine_kv kv;
    struct engine_backend *backend;
    struct cpu_team *team; /* for the bandwidth */
    uint64_t *memory;
    uint32_t blocks_each; /* of one sequence */
    uint32_t *slots;      /* [BATCH_MAX][blocks_each] */
    struct engine_row *rows;
    struct bench_stats bandwidth_gb_per_s;
    struct bench_stats prompt_tokens_per_s;
    struct bench_stats decode_tokens_per_s[BATCH_COUNT];
    struct bench_stats bandwidth_share;
};

static const char *const kv_dtypes[] = {"f16", "f32", NULL};
static const char *const numerics[] = {"f32", "int8", NULL};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(struct options, threads), .name = "threads", .fallback = "2", .min = 1,
     .max = CPU_THREADS_MAX, .help = "Compute threads."},
    {TD_FLAG_AS_UINT32(struct options, prompt_tokens), .name = "prompt-tokens", .fallback = "512",
     .min = 1, .max = 65536, .help = "Length of the prompt that is read."},
    {TD_FLAG_AS_UINT32(struct options, context_tokens), .name = "context-tokens", .fallback = "64",
     .min = 1, .max = 65536, .help = "Tokens in front of those that are decoded."},
    {TD_FLAG_AS_UINT32(struct options, new_tokens), .name = "new-tokens", .fallback = "64",
     .min = 1, .max = 65536, .help = "Tokens decoded per sequence."},
    {TD_FLAG_AS_UINT32(struct options, repeats), .name = "repeats", .fallback = "5", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_CHOICE(struct options, kv_dtype), .name = "kv-dtype", .fallback = "f16",
     .choices = kv_dtypes, .help = "Type of the KV cache."},
    {TD_FLAG_AS_CHOICE(struct options, numerics), .name = "numerics", .fallback = "f32",
     .choices = numerics, .help = "Activations in products: floats, or rounded to 8 bits."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* ------------------------------------------------------------------ measuring */

/* Sums one unit of memory: 8 chains, so that the loads and not the additions are the limit. */
static void read_unit(void *context, uint32_t unit, uint32_t thread)
{
    const uint64_t *words =
        (const uint64_t *)context + (size_t)unit * (BANDWIDTH_UNIT / sizeof(uint64_t));
    uint64_t sums[8] = {0};
    volatile uint64_t sink;

    (void)thread;
    for (size_t i = 0; i < BANDWIDTH_UNIT / sizeof *words; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += words[i + j];
    sink = sums[0] + sums[1] + sums[2] + sums[3] + sums[4] + sums[5] + sums[6] + sums[7];
    (void)sink;
}

static void measure_bandwidth(struct rig *rig)
{
    uint64_t start_ns = td_now_ns();

    cpu_team_run(rig->team, read_unit, rig->memory, BANDWIDTH_BYTES / BANDWIDTH_UNIT);
    bench_stats_add(&rig->bandwidth_gb_per_s,
                    (double)BANDWIDTH_BYTES / (double)(td_now_ns() - start_ns));
}

/*
 * Runs rows of `sequences` sequences, count positions each from `from` on, with logits of each
 * sequence's last row if wanted.
 */
static td_status_t run_batch(struct rig *rig, uint32_t sequences, uint32_t from, uint32_t count,
                             bool wants_logits)
{
    struct engine_batch_sequence tables[BATCH_MAX];
    struct engine_output outputs[BATCH_MAX];
    struct engine_batch batch = {.rows = rig->rows,
                                 .row_count = sequences * count,
                                 .sequences = tables,
                                 .sequence_count = sequences,
                                 .outputs = outputs,
                                 .output_count = wants_logits ? sequences : 0};
    struct engine_result result;

    for (uint32_t s = 0; s < sequences; s++) {
        tables[s] = (struct engine_batch_sequence){.slots = rig->slots + s * rig->blocks_each,
                                                   .slot_count = rig->blocks_each};
        outputs[s] = (struct engine_output){.row = (s + 1) * count - 1, .want = ENGINE_WANT_LOGITS};
        for (uint32_t i = 0; i < count; i++)
            rig->rows[s * count + i] =
                (struct engine_row){.token = (7919 * (from + i) + s) % rig->model->vocab,
                                    .position = from + i,
                                    .sequence = s};
    }
    return rig->backend->ops->run(rig->backend, &batch, &result);
}

/* A prompt in chunks as large as the backend takes; logits of its last token. */
static td_status_t run_prompt(struct rig *rig, uint32_t sequences, uint32_t tokens)
{
    uint32_t chunk_max = rig->backend->rows_max / sequences;

    for (uint32_t from = 0; from < tokens; from += chunk_max) {
        uint32_t count = tokens - from < chunk_max ? tokens - from : chunk_max;
        td_status_t status = run_batch(rig, sequences, from, count, from + count == tokens);

        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

static td_status_t measure_prompt(struct rig *rig)
{
    uint64_t start_ns = td_now_ns();
    td_status_t status = run_prompt(rig, 1, rig->options.prompt_tokens);

    bench_stats_add(&rig->prompt_tokens_per_s,
                    rig->options.prompt_tokens * 1e9 / (double)(td_now_ns() - start_ns));
    return status;
}

/* Bytes of weights that a step with one row reads. */
static size_t step_bytes(const struct model *model)
{
    size_t bytes = model->output.rows * model->output.row_bytes;

    for (uint32_t i = 0; i < model->layers; i++) {
        const struct model_layer *layer = &model->layer[i];
        const struct model_matrix *matrices[] = {&layer->q,
                                                 &layer->k,
                                                 &layer->v,
                                                 &layer->gate,
                                                 &layer->up,
                                                 &layer->down,
                                                 &layer->attention_output};

        for (size_t m = 0; m < sizeof matrices / sizeof matrices[0]; m++)
            bytes += matrices[m]->rows * matrices[m]->row_bytes;
    }
    return bytes;
}

static td_status_t measure_decode(struct rig *rig, uint32_t index)
{
    uint32_t sequences = batch_sizes[index];
    uint32_t from = rig->options.context_tokens;
    td_status_t status = run_prompt(rig, sequences, from);
    uint64_t start_ns = td_now_ns();
    double seconds;

    for (uint32_t i = 0; i < rig->options.new_tokens && status == TD_OK; i++)
        status = run_batch(rig, sequences, from + i, 1, true);
    seconds = (double)(td_now_ns() - start_ns) / 1e9;
    bench_stats_add(&rig->decode_tokens_per_s[index],
                    sequences * rig->options.new_tokens / seconds);
    if (sequences == 1) {
        const struct bench_stats *limit = &rig->bandwidth_gb_per_s;
        double used = (double)step_bytes(rig->model) * rig->options.new_tokens / seconds / 1e9;

        bench_stats_add(&rig->bandwidth_share, used / limit->samples[limit->count - 1]);
    }
    return status;
}

static td_status_t measure(struct rig *rig)
{
    const uint32_t steps = 1 + BATCH_COUNT; /* of a repeat, as progress counts them */
    struct td_progress progress;
    td_status_t status;

    td_progress_begin(&progress, "tandem bench engine", "measuring");
    status = run_prompt(rig, 1, 1); /* not counted: pages come in, threads wake */
    for (uint32_t repeat = 0; repeat < rig->options.repeats && status == TD_OK; repeat++) {
        measure_bandwidth(rig);
        status = measure_prompt(rig);
        for (uint32_t i = 0; i < BATCH_COUNT && status == TD_OK; i++) {
            td_progress_update(&progress, repeat * steps + 1 + i, rig->options.repeats * steps);
            status = measure_decode(rig, i);
        }
    }
    td_progress_hide(&progress);
    return status;
}

/* ------------------------------------------------------------------ reporting */

static void report_json(const struct rig *rig)
{
    struct td_buf buf;
    struct td_json_writer writer;
    char key[64];

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    td_json_put_text(&writer, "model", rig->model->name);
    td_json_put_text(&writer, "kernels", cpu_kernels_name());
    td_json_put_text(&writer, "kv_dtype", rig->backend->info.kv_dtype);
    td_json_put_text(&writer, "numerics", rig->backend->info.numerics);
    td_json_put_uint(&writer, "threads", rig->options.threads);
    td_json_put_uint(&writer, "repeats", rig->options.repeats);
    td_json_put_uint(&writer, "prompt_tokens", rig->options.prompt_tokens);
    td_json_put_uint(&writer, "context_tokens", rig->options.context_tokens);
    td_json_put_uint(&writer, "new_tokens", rig->options.new_tokens);
    td_json_put_uint(&writer, "weights_read_per_step_bytes", step_bytes(rig->model));
    bench_stats_put(&writer, "memory_read_gb_per_s", &rig->bandwidth_gb_per_s);
    bench_stats_put(&writer, "prompt_tokens_per_s", &rig->prompt_tokens_per_s);
    for (uint32_t i = 0; i < BATCH_COUNT; i++) {
        snprintf(key, sizeof key, "decode_batch_%" PRIu32 "_tokens_per_s", batch_sizes[i]);
        bench_stats_put(&writer, key, &rig->decode_tokens_per_s[i]);
    }
    bench_stats_put(&writer, "decode_batch_1_bandwidth_share", &rig->bandwidth_share);
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_line(const char *what, const struct bench_stats *stats, const char *unit)
{
    printf("%-24s %10.2f %10.2f %10.2f  %s\n", what, bench_stats_at(stats, 0.0),
           bench_stats_median(stats), bench_stats_at(stats, 1.0), unit);
}

static void report_table(const struct rig *rig)
{
    char what[64];

    printf("%s, %s kernels, %" PRIu32 " threads, KV %s, %" PRIu32 " repeats\n", rig->model->name,
           cpu_kernels_name(), rig->options.threads, rig->backend->info.kv_dtype,
           rig->options.repeats);
    printf("%-24s %10s %10s %10s\n", "", "min", "median", "max");
    report_line("memory read", &rig->bandwidth_gb_per_s, "GB/s");
    snprintf(what, sizeof what, "prompt of %" PRIu32, rig->options.prompt_tokens);
    report_line(what, &rig->prompt_tokens_per_s, "tokens/s");
    for (uint32_t i = 0; i < BATCH_COUNT; i++) {
        snprintf(what, sizeof what, "decode, batch of %" PRIu32, batch_sizes[i]);
        report_line(what, &rig->decode_tokens_per_s[i], "tokens/s");
    }
    report_line("share of bandwidth", &rig->bandwidth_share, "(batch of 1)");
}

/* ------------------------------------------------------------------ opening */

static td_status_t open_backend(struct rig *rig, struct td_error *error)
{
    const struct options *options = &rig->options;
    struct cpu_options cpu = {.threads = options->threads,
                              .kv_dtype = (enum cpu_kv_dtype)options->kv_dtype,
                              .numerics = (enum cpu_numerics)options->numerics};
    uint32_t decode_tokens = options->context_tokens + options->new_tokens;
    uint32_t tokens =
        decode_tokens > options->prompt_tokens ? decode_tokens : options->prompt_tokens;
    size_t block_bytes = 0;
    td_status_t status = model_open(options->model, &rig->model, error);

    if (status != TD_OK)
        return status;
    if (tokens > rig->model->max_context)
        return td_fail(error, TD_LIMIT,
                       "%" PRIu32 " tokens do not fit the model's context of %" PRIu32, tokens,
                       rig->model->max_context);
    rig->blocks_each = (tokens + BLOCK_TOKENS - 1) / BLOCK_TOKENS;
    status = cpu_block_bytes(rig->model, cpu.kv_dtype, BLOCK_TOKENS, &block_bytes, error);
    if (status == TD_OK)
        status = engine_kv_open(BATCH_MAX * rig->blocks_each, BLOCK_TOKENS, block_bytes, &rig->kv,
                                error);
    if (status == TD_OK)
        status = cpu_backend_open(rig->model, &rig->kv, &cpu, &rig->backend, error);
    return status;
}

static td_status_t open_rig(struct rig *rig, struct td_error *error)
{
    td_status_t status = open_backend(rig, error);

    if (status == TD_OK)
        status = cpu_team_open(rig->options.threads, &rig->team, error);
    if (status != TD_OK)
        return status;
    rig->memory = malloc(BANDWIDTH_BYTES);
    rig->slots = calloc((size_t)BATCH_MAX * rig->blocks_each, sizeof *rig->slots);
    rig->rows = calloc(rig->backend->rows_max, sizeof *rig->rows);
    if (rig->memory == NULL || rig->slots == NULL || rig->rows == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the measurement");
    memset(rig->memory, 1, BANDWIDTH_BYTES);
    for (uint32_t i = 0; i < BATCH_MAX * rig->blocks_each; i++)
        rig->slots[i] = i;
    return TD_OK;
}

static void close_rig(struct rig *rig)
{
    if (rig->backend != NULL)
        rig->backend->ops->close(rig->backend);
    engine_kv_close(&rig->kv);
    model_close(rig->model);
    cpu_team_close(rig->team);
    free(rig->memory);
    free(rig->slots);
    free(rig->rows);
}

/* Returns -1 to go on, or the status to exit with. */
static int parse_options(struct options *options, int argc, char **argv, struct td_arena *arena)
{
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = options};
    const struct td_flags program = {.program = "tandem bench engine",
                                     .summary = "Measures the CPU backend with a model file.",
                                     .usage = "MODEL [flags]",
                                     .purpose = "measures prompt and decode speed on this machine",
                                     .about =
                                         "Prints tokens per second of reading and writing, and "
                                         "the memory bandwidth of the same minute, which bounds "
                                         "writing. Stop other work first.",
                                     .examples = "  tandem bench engine model.gguf\n"
                                                 "  tandem bench engine model.gguf --json\n",
                                     .see_also = "tandem-bench(1), tandem-inspect(1)",
                                     .tables = &table,
                                     .table_count = 1};
    struct td_flags_result result = {0};
    int exit_status = net_program_flags(&program, argc, argv, arena, &result);

    if (exit_status >= 0)
        return exit_status;
    if (result.positionals.count != 1) {
        fprintf(stderr, "tandem bench engine: one model file is wanted: tandem bench engine "
                        "MODEL.gguf\n");
        return NET_EXIT_USAGE;
    }
    options->model = result.positionals.items[0];
    return -1;
}

int bench_engine(int argc, char **argv)
{
    struct rig rig = {.kv = {.fd = -1}};
    struct td_arena arena;
    struct td_error error = {0};
    td_status_t status;
    int exit_status;

    exit_status = parse_options(&rig.options, argc, argv, &arena);
    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    status = open_rig(&rig, &error);
    if (status == TD_OK && (status = measure(&rig)) != TD_OK)
        td_fail(&error, status, "a batch failed: %s", td_status_text(status));
    if (status != TD_OK) {
        fprintf(stderr, "tandem bench engine: %s\n", error.text);
        exit_status = NET_EXIT_FAILURE;
    } else if (rig.options.json) {
        report_json(&rig);
    } else {
        report_table(&rig);
    }
    close_rig(&rig);
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
