/*
 * transfer.c: `tandem bench transfer`: how fast KV blocks go from one process to another.
 *
 * Two processes with a pool each; the receiver measures from EXPECT to LANDED, so asking, moving and
 * verifying are all in it. Every round copies the same blocks by memcpy and then over every lane, in
 * turn: memcpy is the limit that the lanes are compared with, under the same load. What verification
 * takes (hashing each block that has landed) is measured apart.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench/bench.h"
#include "bench/stats.h"
#include "bench/transfer_side.h"
#include "kvtransfer/ucx.h"
#include "lib/base/flags.h"
#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/program.h"

#define RECEIVER_EPOCH 1
#define SENDER_EPOCH   2

struct options {
    uint32_t block_count;
    uint32_t block_bytes;
    uint32_t rounds;
    bool json;
};

struct lane_figures {
    struct bench_stats landed_gb_per_s; /* all in all */
    struct bench_stats moved_gb_per_s;  /* without the time that verification took */
    struct bench_stats landed_ratio;    /* to memcpy in the same round */
    struct bench_stats moved_ratio;
    struct bench_stats verify_ms;
};

struct rig {
    struct options options;
    struct bench_side side;
    uint8_t *source; /* of memcpy: a pool like the sender's */
    uint32_t transfer;
    struct bench_stats memcpy_gb_per_s;
    struct lane_figures lanes[BENCH_LANE_COUNT];
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

/* ------------------------------------------------------------------ measuring */

static double transfer_bytes(const struct rig *rig)
{
    return (double)rig->options.block_count * rig->options.block_bytes;
}

static double measure_memcpy(struct rig *rig)
{
    size_t block_bytes = rig->options.block_bytes;
    uint64_t start_ns = td_now_ns();
    double gb_per_s;

    for (uint32_t i = 0; i < rig->options.block_count; i++) {
        size_t at = (size_t)bench_side_slot(&rig->side, rig->transfer, i) * block_bytes;

        memcpy(rig->side.kv.base + at, rig->source + at, block_bytes);
    }
    gb_per_s = transfer_bytes(rig) / (double)(td_now_ns() - start_ns);
    bench_stats_add(&rig->memcpy_gb_per_s, gb_per_s);
    return gb_per_s;
}

static td_status_t measure_lane(struct rig *rig, enum bench_lane lane, double memcpy_gb_per_s,
                                bool counts, struct td_error *error)
{
    struct lane_figures *figures = &rig->lanes[lane];
    const struct kvt_stats *stats = kvt_runtime_stats(rig->side.runtimes[lane]);
    uint64_t verify_ns = kvt_stats_get(stats, KVT_STAT_VERIFY_NS);
    struct kvt_event landed;
    uint64_t elapsed_ns;
    double landed_gb_per_s;
    double moved_gb_per_s;
    uint64_t start_ns;
    td_status_t status = bench_side_await_ready(&rig->side, error);

    if (status != TD_OK)
        return status;
    start_ns = td_now_ns();
    status = bench_side_receive(&rig->side, lane, rig->transfer++, &landed, error);
    elapsed_ns = td_now_ns() - start_ns;
    if (status != TD_OK || !counts) {
        if (status == TD_OK)
            kvt_event_fini(&landed);
        return status;
    }
    kvt_event_fini(&landed);
    verify_ns = kvt_stats_get(stats, KVT_STAT_VERIFY_NS) - verify_ns;
    landed_gb_per_s = transfer_bytes(rig) / (double)elapsed_ns;
    moved_gb_per_s = transfer_bytes(rig) / (double)(elapsed_ns - verify_ns);
    bench_stats_add(&figures->landed_gb_per_s, landed_gb_per_s);
    bench_stats_add(&figures->moved_gb_per_s, moved_gb_per_s);
    bench_stats_add(&figures->landed_ratio, landed_gb_per_s / memcpy_gb_per_s);
    bench_stats_add(&figures->moved_ratio, moved_gb_per_s / memcpy_gb_per_s);
    bench_stats_add(&figures->verify_ms, td_ns_to_ms(verify_ns));
    return TD_OK;
}

static td_status_t measure_round(struct rig *rig, bool counts, struct td_error *error)
{
    double memcpy_gb_per_s = counts ? measure_memcpy(rig) : 0.0;
    td_status_t status = TD_OK;

    for (int lane = 0; lane < BENCH_LANE_COUNT && status == TD_OK; lane++)
        status = measure_lane(rig, (enum bench_lane)lane, memcpy_gb_per_s, counts, error);
    return status;
}

static td_status_t measure(struct rig *rig, struct td_error *error)
{
    size_t pool_bytes = (size_t)rig->side.slot_count * rig->options.block_bytes;
    td_status_t status;

    rig->source = malloc(pool_bytes);
    if (rig->source == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a second pool");
    memset(rig->source, 1, pool_bytes);
    status = measure_round(rig, false, error); /* pages come in, threads wake */
    for (uint32_t round = 0; round < rig->options.rounds && status == TD_OK; round++)
        status = measure_round(rig, true, error);
    return status;
}

/* ------------------------------------------------------------------ reporting */

static void report_json(const struct rig *rig)
{
    struct td_buf buf;
    struct td_json_writer writer;

    td_buf_init(&buf, (size_t)1 << 16);
    writer = td_json_writer_to(&buf);
    td_json_begin_object(&writer, NULL);
    td_json_put_uint(&writer, "blocks", rig->options.block_count);
    td_json_put_uint(&writer, "block_bytes", rig->options.block_bytes);
    td_json_put_uint(&writer, "rounds", rig->options.rounds);
    bench_stats_put(&writer, "memcpy_gb_per_s", &rig->memcpy_gb_per_s);
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++) {
        const struct lane_figures *figures = &rig->lanes[lane];

        td_json_begin_object(&writer, bench_lane_name((enum bench_lane)lane));
        td_json_put_text(&writer, "lanes", rig->side.lanes[lane]);
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

static void report_table(const struct rig *rig)
{
    printf("%" PRIu32 " blocks of %" PRIu32 " bytes, %" PRIu32 " rounds; medians\n",
           rig->options.block_count, rig->options.block_bytes, rig->options.rounds);
    printf("%-14s %12s %9s %12s %9s %10s\n", "", "landed GB/s", "x memcpy", "moved GB/s",
           "x memcpy", "verify ms");
    printf("%-14s %12s %9s %12.2f\n", "memcpy", "", "", bench_stats_median(&rig->memcpy_gb_per_s));
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++) {
        const struct lane_figures *figures = &rig->lanes[lane];

        printf("%-14s %12.2f %9.2f %12.2f %9.2f %10.2f\n", rig->side.lanes[lane],
               bench_stats_median(&figures->landed_gb_per_s),
               bench_stats_median(&figures->landed_ratio),
               bench_stats_median(&figures->moved_gb_per_s),
               bench_stats_median(&figures->moved_ratio), bench_stats_median(&figures->verify_ms));
    }
}

/* ------------------------------------------------------------------ two processes */

static struct bench_side_config side_config(const struct options *options, bool is_sender, int fd)
{
    return (struct bench_side_config){.epoch = is_sender ? SENDER_EPOCH : RECEIVER_EPOCH,
                                      .peer_epoch = is_sender ? RECEIVER_EPOCH : SENDER_EPOCH,
                                      .block_count = options->block_count,
                                      .block_bytes = options->block_bytes,
                                      .socket_fd = fd};
}

/* The child's whole life. */
static int run_sender(const struct options *options, int fd)
{
    struct bench_side_config config = side_config(options, true, fd);
    struct bench_side side;
    struct td_error error = {0};
    td_status_t status = bench_side_open(&config, &side, &error);

    if (status == TD_OK)
        status = bench_side_serve(&side, &error);
    if (status != TD_OK)
        fprintf(stderr, "tandem bench transfer: sender: %s\n", error.text);
    bench_side_close(&side);
    return status == TD_OK ? 0 : 1;
}

static td_status_t run_receiver(struct rig *rig, int fd, struct td_error *error)
{
    struct bench_side_config config = side_config(&rig->options, false, fd);
    td_status_t status = bench_side_open(&config, &rig->side, error);

    if (status == TD_OK)
        status = measure(rig, error);
    return status;
}

/* Forks before UCX is used: it would not survive. */
static td_status_t run(struct rig *rig, struct td_error *error)
{
    int pair[2];
    pid_t child;
    td_status_t status = kvt_ucx_prepare_process();

    if (status != TD_OK)
        return td_fail(error, status, "preparing for ucx: %s", td_status_text(status));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
        return td_fail(error, TD_IO, "no socket pair");
    child = fork();
    if (child < 0) {
        close(pair[0]);
        close(pair[1]);
        return td_fail(error, TD_EXHAUSTED, "the second process cannot be started");
    }
    if (child == 0) {
        close(pair[0]);
        _exit(run_sender(&rig->options, pair[1]));
    }
    close(pair[1]);
    status = run_receiver(rig, pair[0], error);
    close(pair[0]); /* the sender sees that it may go */
    waitpid(child, NULL, 0);
    return status;
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
        .tables = &table,
        .table_count = 1};
    struct td_flags_result result = {0};
    int exit_status = net_program_flags(&program, argc, argv, arena, &result);

    return exit_status < 0 ? net_program_no_words(&program, &result) : exit_status;
}

int bench_transfer(int argc, char **argv)
{
    struct rig *rig = calloc(1, sizeof *rig);
    struct td_arena arena;
    struct td_error error = {0};
    int exit_status;

    if (rig == NULL)
        return NET_EXIT_FAILURE;
    rig->side.wake_fd = rig->side.kv.fd = -1;
    exit_status = parse_options(&rig->options, argc, argv, &arena);
    if (exit_status >= 0)
        goto fini_arena;
    exit_status = NET_EXIT_OK;
    td_log_set_level(TD_LOG_WARN);
    if (run(rig, &error) != TD_OK) {
        fprintf(stderr, "tandem bench transfer: %s\n", error.text);
        exit_status = NET_EXIT_FAILURE;
    } else if (rig->options.json) {
        report_json(rig);
    } else {
        report_table(rig);
    }
    bench_side_close(&rig->side);
fini_arena:
    td_arena_fini(&arena);
    free(rig->source);
    free(rig);
    return exit_status;
}
