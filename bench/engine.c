/*
 * engine.c: `tandem bench engine`: how fast the CPU backend reads prompts and writes tokens.
 *
 * Owns the command line; engine_rig.c measures, engine_report.c writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/engine_report.h"
#include "bench/engine_rig.h"
#include "engine/cpu/team.h"
#include "lib/base/cpus.h"
#include "lib/base/flags.h"
#include "lib/base/log.h"
#include "lib/base/progress.h"
#include "lib/net/program.h"

#define OPTIONS struct options

struct options {
    const char *model;
    uint32_t threads;
    uint32_t prompt;
    uint32_t gen;
    struct td_flag_list batch;
    uint32_t depth;
    uint32_t repeats;
    unsigned kv_dtype;
    unsigned numerics;
    bool json;
};

static const char *const kv_dtypes[] = CPU_KV_DTYPE_CHOICES;
static const char *const numerics[] = {"f32", "int8", NULL}; /* in the order of enum cpu_numerics */

static const struct td_flag flags[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, model), .name = "model", .value = "FILE",
     .help = "The model: a GGUF file or a Hugging Face folder. It may also be the only word "
             "without a flag."},
    {TD_FLAG_AS_UINT32(OPTIONS, threads), .name = "threads", .fallback = "0",
     .max = CPU_THREADS_MAX,
     .help =
         "Compute threads; 0: the CPUs that this process may use, by affinity and control groups."},
    {TD_FLAG_AS_UINT32(OPTIONS, prompt), .name = "prompt", .fallback = "512", .min = 1,
     .max = 65536, .help = "Tokens of the prompt that is read."},
    {TD_FLAG_AS_UINT32(OPTIONS, gen), .name = "gen", .fallback = "128", .min = 1, .max = 65536,
     .help = "Tokens decoded for each sequence."},
    {TD_FLAG_AS_LIST(OPTIONS, batch), .name = "batch", .value = "LIST", .fallback = "1,4,8,16",
     .help = "How many sequences are decoded at once; each is measured."},
    {TD_FLAG_AS_UINT32(OPTIONS, depth), .name = "depth", .fallback = "0", .max = 1000000,
     .help = "Tokens in front of the prompt and of those that are decoded."},
    {TD_FLAG_AS_UINT32(OPTIONS, repeats), .name = "repeats", .fallback = "5", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_dtype), .name = "kv-dtype", .fallback = CPU_KV_DTYPE_FALLBACK,
     .choices = kv_dtypes, .help = "Type of the KV cache: f16, f32, or int8, about half as large."},
    {TD_FLAG_AS_CHOICE(OPTIONS, numerics), .name = "numerics", .fallback = "int8",
     .choices = numerics, .help = "Activations in products: floats, or rounded to 8 bits."},
    {TD_FLAG_AS_BOOL(OPTIONS, json), .name = "json", .help = "Write one JSON object."},
};

static const struct td_flags program = {
    .program = "tandem bench engine",
    .summary = "Measures the CPU backend with a model file.",
    .usage = "MODEL [flags]",
    .purpose = "measures prompt and decode speed on this machine",
    .about =
        "Prints tokens per second of reading a prompt and of decoding, beside what this machine "
        "could do at most in the same minute. Decoding has to read all weights and the KV cache in "
        "each step, so its limit is how fast the same threads can read the packed weights; a "
        "prompt's limit is how many 8-bit products they can make in registers. (Weights that are "
        "floats are multiplied as floats, and have lower limits.) Then, where the time went.\n"
        "\n"
        "Stop other work first, and compare only figures of one run: machines are shared, and "
        "their speed changes.",
    .examples = "  tandem bench engine model.gguf\n"
                "  tandem bench engine model.gguf --threads 2 --batch 1,8 --depth 2048\n"
                "  tandem bench engine model.gguf --json\n",
    .see_also = "tandem-bench(1), tandem-inspect(1)"};

/* ------------------------------------------------------------------ options */

static bool read_batches(const struct td_flag_list *list, struct bench_engine_options *out)
{
    if (list->count == 0 || list->count > BENCH_BATCHES_MAX)
        return false;
    for (size_t i = 0; i < list->count; i++) {
        char *end;
        unsigned long sequences;

        errno = 0;
        sequences = strtoul(list->items[i], &end, 10);
        if (errno != 0 || list->items[i][0] < '1' || list->items[i][0] > '9' || *end != '\0' ||
            sequences > BENCH_SEQUENCES_MAX)
            return false;
        out->batches[out->batch_count++] = (uint32_t)sequences;
    }
    return true;
}

static int refuse(const char *why)
{
    fprintf(stderr, "tandem bench engine: %s\n", why);
    return NET_EXIT_USAGE;
}

/* What the flags cannot say alone. Returns -1 to go on, or the status to exit with. */
static int check_options(struct options *options, const struct td_flag_list *words,
                         struct bench_engine_options *out)
{
    char why[128];

    if (words->count + (options->model != NULL) != 1)
        return refuse("one model is wanted: tandem bench engine MODEL.gguf");
    *out = (struct bench_engine_options){
        .model = options->model != NULL ? options->model : words->items[0],
        .threads = options->threads > 0 ? options->threads : td_cpus_usable(),
        .prompt = options->prompt,
        .gen = options->gen,
        .depth = options->depth,
        .repeats = options->repeats,
        .kv_dtype = (enum cpu_kv_dtype)options->kv_dtype,
        .numerics = (enum cpu_numerics)options->numerics};
    if (out->threads > CPU_THREADS_MAX)
        out->threads = CPU_THREADS_MAX;
    if (read_batches(&options->batch, out))
        return -1;
    snprintf(why, sizeof why, "--batch is 1 to %d numbers from 1 to %d: --batch 1,8",
             BENCH_BATCHES_MAX, BENCH_SEQUENCES_MAX);
    return refuse(why);
}

static int parse_options(struct options *options, struct bench_engine_options *out, int argc,
                         char **argv, struct td_arena *arena)
{
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = options};
    struct td_flags with_table = program;
    struct td_flags_result result = {0};
    int exit_status;

    with_table.tables = &table;
    with_table.table_count = 1;
    exit_status = net_program_flags(&with_table, argc, argv, arena, &result);
    return exit_status >= 0 ? exit_status : check_options(options, &result.positionals, out);
}

/* ------------------------------------------------------------------ the command */

static td_status_t measure(struct bench_rig *rig, const struct bench_engine_options *options,
                           struct td_error *error)
{
    struct td_progress progress;
    td_status_t status = bench_rig_open(rig, options, error);

    if (status != TD_OK)
        return status;
    td_progress_begin(&progress, "tandem bench engine", "measuring");
    status = bench_rig_measure(rig, &progress, error);
    td_progress_hide(&progress);
    return status;
}

int bench_engine(int argc, char **argv)
{
    struct options options = {0};
    struct bench_engine_options wanted;
    struct bench_rig rig;
    struct td_arena arena;
    struct td_error error = {0};
    int exit_status = parse_options(&options, &wanted, argc, argv, &arena);

    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    td_log_set_level(TD_LOG_WARN); /* where weights came from is nothing to somebody who measures */
    if (measure(&rig, &wanted, &error) != TD_OK) {
        fprintf(stderr, "tandem bench engine: %s\n", error.text);
        exit_status = NET_EXIT_FAILURE;
    } else if (options.json) {
        bench_engine_json(&rig);
    } else {
        bench_engine_table(&rig);
    }
    bench_rig_close(&rig);
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
