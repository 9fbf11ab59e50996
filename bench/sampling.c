/*
 * sampling.c: `tandem bench sampling`: how long one draw takes, by size of vocabulary and by what is asked for.
 *
 * Two kinds of logits: as a model has them that knows how to go on (a bell of the whole vocabulary, and
 * sixteen tokens far above it that share most of the weight), and flat ones, a bell alone, where hundreds
 * to thousands of tokens share it: the worst case of top-p. Draws go round several vectors, so that logits come from
 * a cache that is farther than the nearest one, as they do behind the LM head. Beside the draws stands
 * how long the same core takes to read the logits once.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"
#include "bench/stats.h"
#include "engine/sample.h"
#include "lib/base/flags.h"
#include "lib/base/progress.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "lib/net/program.h"

#define SEED          2026
#define VECTORS       4 /* of logits, in turn */
#define DRAWS         64
#define PROMPT_TOKENS 512
#define OUTPUT_TOKENS 64
#define PEAKS         16
#define VOCAB_COUNT   2

enum shape { PEAKED, FLAT, SHAPE_COUNT };

static const char *const shape_names[SHAPE_COUNT] = {"peaked", "flat"};

static const struct {
    const char *name;
    struct engine_sampling sampling;
} draws[] = {
    {"greedy", {.top_p = 1.0f}},
    {"temperature", {.temperature = 0.8f, .top_p = 1.0f}},
    {"top_k_20", {.temperature = 0.8f, .top_k = 20, .top_p = 1.0f}},
    {"top_k_50", {.temperature = 0.8f, .top_k = 50, .top_p = 1.0f}},
    {"top_p_0_9", {.temperature = 0.8f, .top_p = 0.9f}},
    {"min_p_0_05", {.temperature = 0.8f, .top_p = 1.0f, .min_p = 0.05f}},
    {"top_k_50_top_p_0_9", {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f}},
    {"top_k_5000", {.temperature = 0.8f, .top_k = 5000, .top_p = 1.0f}},
    {"all_three", {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f, .min_p = 0.05f}},
    {"all_and_penalties",
     {.temperature = 0.8f,
      .top_k = 50,
      .top_p = 0.9f,
      .min_p = 0.05f,
      .repetition_penalty = 1.1f,
      .frequency_penalty = 0.1f}},
};

#define DRAW_COUNT (sizeof draws / sizeof draws[0])

struct options {
    uint32_t repeats;
    bool json;
};

/* What is measured of one vocabulary. */
struct column {
    uint32_t vocab;
    struct bench_stats read_us;
    struct bench_stats draw_us[SHAPE_COUNT][DRAW_COUNT];
};

struct rig {
    struct options options;
    struct column columns[VOCAB_COUNT];
    struct engine_sampler sampler;
    float *logits; /* [VECTORS][vocab] */
    uint32_t tokens[PROMPT_TOKENS + OUTPUT_TOKENS];
};

static const uint32_t vocabs[VOCAB_COUNT] = {49152, 151936};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(struct options, repeats), .name = "repeats", .fallback = "9", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* ------------------------------------------------------------------ making */

/* Close to a normal distribution, of deviation 1. */
static float bell(struct td_rng *rng)
{
    double sum = 0;

    for (int i = 0; i < 12; i++)
        sum += td_rng_unit(rng);
    return (float)(sum - 6.0);
}

static void make_logits(struct rig *rig, uint32_t vocab, enum shape shape)
{
    struct td_rng rng;

    td_rng_init(&rng, SEED);
    for (size_t i = 0; i < (size_t)VECTORS * vocab; i++)
        rig->logits[i] = 2.5f * bell(&rng);
    for (uint32_t i = 0; shape == PEAKED && i < VECTORS * PEAKS; i++)
        rig->logits[(size_t)(i % VECTORS) * vocab + td_rng_below(&rng, vocab)] =
            18.0f - 0.5f * (float)(i / VECTORS);
    for (size_t i = 0; i < sizeof rig->tokens / sizeof rig->tokens[0]; i++)
        rig->tokens[i] = (uint32_t)td_rng_below(&rng, vocab);
}

/* ------------------------------------------------------------------ measuring */

static void measure_read(struct rig *rig, struct column *column)
{
    uint64_t start_ns = td_now_ns();
    uint64_t sum = 0;
    volatile uint64_t sink;

    for (uint32_t i = 0; i < DRAWS; i++) {
        const float *logits = rig->logits + (size_t)(i % VECTORS) * column->vocab;

        for (uint32_t id = 0; id + 8 <= column->vocab; id += 8) {
            uint64_t words[4];

            memcpy(words, logits + id, sizeof words);
            sum += (words[0] ^ words[1]) + (words[2] ^ words[3]);
        }
    }
    sink = sum;
    (void)sink;
    bench_stats_add(&column->read_us, (double)(td_now_ns() - start_ns) / 1e3 / DRAWS);
}

static td_status_t measure_draw(struct rig *rig, struct column *column, enum shape shape,
                                size_t draw)
{
    uint64_t start_ns = td_now_ns();
    td_status_t status = TD_OK;

    for (uint32_t i = 0; i < DRAWS && status == TD_OK; i++) {
        struct engine_sampling sampling = draws[draw].sampling;
        struct engine_history history = {.tokens = rig->tokens,
                                         .prompt_count = PROMPT_TOKENS,
                                         .count = PROMPT_TOKENS + OUTPUT_TOKENS};
        uint32_t token;

        sampling.seed = i;
        status = engine_sample(&rig->sampler, rig->logits + (size_t)(i % VECTORS) * column->vocab,
                               &sampling, &history, &token);
    }
    bench_stats_add(&column->draw_us[shape][draw], (double)(td_now_ns() - start_ns) / 1e3 / DRAWS);
    return status;
}

static td_status_t measure_column(struct rig *rig, struct column *column)
{
    td_status_t status = engine_sampler_init(&rig->sampler, column->vocab);

    rig->logits = malloc((size_t)VECTORS * column->vocab * sizeof *rig->logits);
    if (status == TD_OK && rig->logits == NULL)
        status = TD_NO_MEMORY;
    for (enum shape shape = 0; shape < SHAPE_COUNT && status == TD_OK; shape++) {
        make_logits(rig, column->vocab, shape);
        for (uint32_t i = 0; i < rig->options.repeats && status == TD_OK; i++) {
            if (shape == 0)
                measure_read(rig, column);
            for (size_t draw = 0; draw < DRAW_COUNT && status == TD_OK; draw++)
                status = measure_draw(rig, column, shape, draw);
        }
    }
    free(rig->logits);
    engine_sampler_fini(&rig->sampler);
    return status;
}

static td_status_t measure(struct rig *rig)
{
    struct td_progress progress;
    td_status_t status = TD_OK;

    td_progress_begin(&progress, "tandem bench sampling", "measuring");
    for (uint32_t i = 0; i < VOCAB_COUNT && status == TD_OK; i++) {
        td_progress_update(&progress, i, VOCAB_COUNT);
        rig->columns[i].vocab = vocabs[i];
        status = measure_column(rig, &rig->columns[i]);
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
    for (uint32_t i = 0; i < VOCAB_COUNT; i++) {
        const struct column *column = &rig->columns[i];

        snprintf(key, sizeof key, "vocab_%" PRIu32, column->vocab);
        td_json_begin_object(&writer, key);
        bench_stats_put(&writer, "read_us", &column->read_us);
        for (enum shape shape = 0; shape < SHAPE_COUNT; shape++) {
            for (size_t draw = 0; draw < DRAW_COUNT; draw++) {
                snprintf(key, sizeof key, "%s_%s_us", shape_names[shape], draws[draw].name);
                bench_stats_put(&writer, key, &column->draw_us[shape][draw]);
            }
        }
        td_json_end(&writer);
    }
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_line(const char *what, const struct bench_stats *stats)
{
    printf("  %-32s %10.1f %10.1f %10.1f\n", what, bench_stats_at(stats, 0.0),
           bench_stats_median(stats), bench_stats_at(stats, 1.0));
}

static void report_table(const struct rig *rig)
{
    char what[64];

    for (uint32_t i = 0; i < VOCAB_COUNT; i++) {
        const struct column *column = &rig->columns[i];

        printf("%" PRIu32 " tokens, microseconds     %10s %10s %10s\n", column->vocab, "min",
               "median", "max");
        report_line("reading the logits", &column->read_us);
        for (enum shape shape = 0; shape < SHAPE_COUNT; shape++) {
            for (size_t draw = 0; draw < DRAW_COUNT; draw++) {
                snprintf(what, sizeof what, "%s %s", shape_names[shape], draws[draw].name);
                report_line(what, &column->draw_us[shape][draw]);
            }
        }
    }
}

int bench_sampling(int argc, char **argv)
{
    struct rig rig = {.logits = NULL};
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = &rig.options};
    const struct td_flags program = {
        .program = "tandem bench sampling",
        .summary = "Measures how long one draw of a token takes.",
        .usage = "[flags]",
        .purpose = "measures how long one draw of a token takes",
        .about = "Prints microseconds of one core for one draw from logits that are peaked, as a "
                 "model's mostly are, or flat, beside the time that reading them once takes.",
        .examples = "  tandem bench sampling\n"
                    "  tandem bench sampling --json\n",
        .see_also = "tandem-bench(1)",
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    struct td_arena arena;
    td_status_t status;
    int exit_status = net_program_flags(&program, argc, argv, &arena, &result);

    if (exit_status < 0)
        exit_status = net_program_no_words(&program, &result);
    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    status = measure(&rig);
    if (status != TD_OK) {
        fprintf(stderr, "tandem bench sampling: %s\n", td_status_text(status));
        exit_status = NET_EXIT_FAILURE;
    } else if (rig.options.json) {
        report_json(&rig);
    } else {
        report_table(&rig);
    }
fini_arena:
    td_arena_fini(&arena);
    return exit_status;
}
