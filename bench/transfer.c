/*
 * transfer.c: `tandem bench transfer`: how fast KV blocks go from one process to another, as a table or
 * as JSON. transfer_run.c measures.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/bench.h"
#include "bench/transfer_run.h"
#include "lib/base/flags.h"
#include "lib/base/log.h"
#include "lib/net/program.h"

struct options {
    uint32_t block_count;
    uint32_t block_bytes;
    uint32_t rounds;
    bool json;
};

static const struct td_flag flags[] = {
    {TD_FLAG_AS_UINT32(struct options, block_count), .name = "blocks", .fallback = "64", .min = 1,
     .max = 4096, .help = "Blocks of a transfer; 64 are a prompt of 1024 tokens."},
    {TD_FLAG_AS_UINT32(struct options, block_bytes), .name = "block-bytes", .fallback = "368640",
     .min = 4096, .max = 16777216,
     .help = "Size of a block; SmolLM2-135M: 30 layers x 3 heads x K, V x 16 tokens x 64 x f16."},
    {TD_FLAG_AS_UINT32(struct options, rounds), .name = "rounds", .fallback = "20", .min = 1,
     .max = BENCH_SAMPLES_MAX, .help = "How often everything is measured, in turn."},
    {TD_FLAG_AS_BOOL(struct options, json), .name = "json", .help = "Write one JSON object."},
};

/* ------------------------------------------------------------------ reporting */

static void report_json(const struct options *options, const struct bench_transfer_figures *all)
{
    struct td_buf buf;
    struct td_json_writer writer;

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    td_json_put_uint(&writer, "blocks", options->block_count);
    td_json_put_uint(&writer, "block_bytes", options->block_bytes);
    td_json_put_uint(&writer, "rounds", options->rounds);
    bench_stats_put(&writer, "memcpy_gb_per_s", &all->memcpy_gb_per_s);
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++) {
        const struct bench_lane_figures *figures = &all->lanes[lane];

        td_json_begin_object(&writer, bench_lane_name((enum bench_lane)lane));
        td_json_put_text(&writer, "lanes", figures->lanes);
        bench_stats_put(&writer, "landed_gb_per_s", &figures->landed_gb_per_s);
        bench_stats_put(&writer, "landed_to_memcpy_ratio", &figures->landed_ratio);
        bench_stats_put(&writer, "moved_gb_per_s", &figures->moved_gb_per_s);
        bench_stats_put(&writer, "moved_to_memcpy_ratio", &figures->moved_ratio);
        bench_stats_put(&writer, "verify_ms", &figures->verify_ms);
        td_json_end(&writer);
    }
    td_json_end(&writer);
    if (buf.status == TD_OK)
        printf("%s\n", buf.data);
    td_buf_fini(&buf);
}

static void report_table(const struct options *options, const struct bench_transfer_figures *all)
{
    printf("%" PRIu32 " blocks of %" PRIu32 " bytes, %" PRIu32 " rounds; medians\n",
           options->block_count, options->block_bytes, options->rounds);
    printf("%-14s %12s %9s %12s %9s %10s\n", "", "landed GB/s", "x memcpy", "moved GB/s",
           "x memcpy", "verify ms");
    printf("%-14s %12s %9s %12.2f\n", "memcpy", "", "", bench_stats_median(&all->memcpy_gb_per_s));
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++) {
        const struct bench_lane_figures *figures = &all->lanes[lane];

        printf("%-14s %12.2f %9.2f %12.2f %9.2f %10.2f\n", figures->lanes,
               bench_stats_median(&figures->landed_gb_per_s),
               bench_stats_median(&figures->landed_ratio),
               bench_stats_median(&figures->moved_gb_per_s),
               bench_stats_median(&figures->moved_ratio), bench_stats_median(&figures->verify_ms));
    }
}

/* Returns -1 to go on, or the status to exit with. */
static int parse_options(struct options *options, int argc, char **argv, struct td_arena *arena)
{
    const struct td_flag_table table = {.group = "Measurement",
                                        .flags = flags,
                                        .count = sizeof flags / sizeof flags[0],
                                        .options = options};
    const struct td_flags program = {
        .program = "tandem bench transfer",
        .summary = "Measures the transfer of KV blocks between two processes on this host.",
        .usage = "[flags]",
        .purpose = "measures KV between two processes, by each transport",
        .about =
            "Prints the bandwidth of each transport beside that of memcpy over the same blocks.",
        .examples = "  tandem bench transfer\n"
                    "  tandem bench transfer --json\n",
        .see_also = "tandem-bench(1), tandem-check(1)",
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    int exit_status = net_program_flags(&program, argc, argv, arena, &result);

    return exit_status < 0 ? net_program_no_words(&program, &result) : exit_status;
}

static td_status_t run(const struct options *options, struct td_progress *progress,
                       struct bench_transfer_figures *figures_out, struct td_error *error)
{
    const struct bench_transfer_plan plan = {.block_count = options->block_count,
                                             .block_bytes = options->block_bytes,
                                             .rounds = options->rounds,
                                             .lanes = BENCH_LANES_ALL,
                                             .progress = progress};

    return bench_transfer_run(&plan, figures_out, error);
}

int bench_transfer(int argc, char **argv)
{
    struct bench_transfer_figures *figures = calloc(1, sizeof *figures);
    struct options options = {0};
    struct td_progress progress;
    struct td_arena arena;
    struct td_error error = {0};
    int exit_status;

    if (figures == NULL)
        return NET_EXIT_FAILURE;
    exit_status = parse_options(&options, argc, argv, &arena);
    if (exit_status >= 0)
        goto free_figures;
    td_log_set_level(TD_LOG_WARN);
    td_progress_begin(&progress, "tandem bench transfer", "measuring");
    exit_status =
        run(&options, &progress, figures, &error) == TD_OK ? NET_EXIT_OK : NET_EXIT_FAILURE;
    td_progress_hide(&progress);
    if (exit_status != NET_EXIT_OK)
        fprintf(stderr, "tandem bench transfer: %s\n", error.text);
    else if (options.json)
        report_json(&options, figures);
    else
        report_table(&options, figures);
    td_arena_fini(&arena);
free_figures:
    free(figures);
    return exit_status;
}
