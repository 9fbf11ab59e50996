/*
 * transfer_run.c: two processes, their turns, and the clock; see transfer_run.h.
 *
 * Each has a pool; the receiver measures from EXPECT to LANDED, so asking, moving and verifying are
 * all in it. Every round copies the same blocks by memcpy and then over every lane, in turn: memcpy
 * is the limit that the lanes are compared with, under the same load. What verification takes (hashing
 * each block that has landed) is measured apart.
 */
#include "bench/transfer_run.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvtransfer/ucx.h"
#include "lib/base/time.h"

#define RECEIVER_EPOCH 1
#define SENDER_EPOCH   2

struct rig {
    const struct bench_transfer_plan *plan;
    struct bench_transfer_figures *figures;
    struct bench_side side;
    uint8_t *source; /* of memcpy: a pool like the sender's */
    uint32_t transfer;
};

/* ------------------------------------------------------------------ measuring */

static double transfer_bytes(const struct rig *rig)
{
    return (double)rig->plan->block_count * rig->plan->block_bytes;
}

static double measure_memcpy(struct rig *rig)
{
    size_t block_bytes = rig->plan->block_bytes;
    uint64_t start_ns = td_now_ns();
    double gb_per_s;

    for (uint32_t i = 0; i < rig->plan->block_count; i++) {
        size_t at = (size_t)bench_side_slot(&rig->side, rig->transfer, i) * block_bytes;

        memcpy(rig->side.kv.base + at, rig->source + at, block_bytes);
    }
    gb_per_s = transfer_bytes(rig) / (double)(td_now_ns() - start_ns);
    bench_stats_add(&rig->figures->memcpy_gb_per_s, gb_per_s);
    return gb_per_s;
}

static td_status_t measure_lane(struct rig *rig, enum bench_lane lane, double memcpy_gb_per_s,
                                bool counts, struct td_error *error)
{
    struct bench_lane_figures *figures = &rig->figures->lanes[lane];
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
        if ((rig->plan->lanes & BENCH_LANE_BIT(lane)) != 0)
            status = measure_lane(rig, (enum bench_lane)lane, memcpy_gb_per_s, counts, error);
    return status;
}

static td_status_t measure(struct rig *rig, struct td_error *error)
{
    size_t pool_bytes = (size_t)rig->side.slot_count * rig->plan->block_bytes;
    td_status_t status;

    rig->source = malloc(pool_bytes);
    if (rig->source == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a second pool");
    memset(rig->source, 1, pool_bytes);
    status = measure_round(rig, false, error); /* pages come in, threads wake */
    for (uint32_t round = 0; round < rig->plan->rounds && status == TD_OK; round++) {
        status = measure_round(rig, true, error);
        if (rig->plan->progress != NULL)
            td_progress_update(rig->plan->progress, round + 1, rig->plan->rounds);
    }
    free(rig->source);
    return status;
}

/* ------------------------------------------------------------------ two processes */

static struct bench_side_config side_config(const struct bench_transfer_plan *plan, bool is_sender,
                                            int fd)
{
    return (struct bench_side_config){.epoch = is_sender ? SENDER_EPOCH : RECEIVER_EPOCH,
                                      .peer_epoch = is_sender ? RECEIVER_EPOCH : SENDER_EPOCH,
                                      .block_count = plan->block_count,
                                      .block_bytes = plan->block_bytes,
                                      .lanes = plan->lanes,
                                      .interface = plan->interface,
                                      .socket_fd = fd};
}

/* The child's whole life, which ends with its parent's. */
static int run_sender(const struct bench_transfer_plan *plan, int fd)
{
    struct bench_side_config config = side_config(plan, true, fd);
    struct bench_side side;
    struct td_error error = {0};
    td_status_t status;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    status = bench_side_open(&config, &side, &error);
    if (status == TD_OK)
        status = bench_side_serve(&side, &error);
    if (status != TD_OK)
        fprintf(stderr, "the sending process: %s\n", error.text);
    bench_side_close(&side);
    return status == TD_OK ? 0 : 1;
}

static td_status_t run_receiver(struct rig *rig, int fd, struct td_error *error)
{
    struct bench_side_config config = side_config(rig->plan, false, fd);
    td_status_t status = bench_side_open(&config, &rig->side, error);

    if (status == TD_OK)
        status = measure(rig, error);
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++)
        memcpy(rig->figures->lanes[lane].lanes, rig->side.lanes[lane],
               sizeof rig->side.lanes[lane]);
    bench_side_close(&rig->side);
    return status;
}

/* Forks before UCX is used: it would not survive. */
td_status_t bench_transfer_run(const struct bench_transfer_plan *plan,
                               struct bench_transfer_figures *figures_out, struct td_error *error)
{
    struct rig rig = {.plan = plan, .figures = figures_out};
    int pair[2];
    pid_t child;
    td_status_t status = kvt_ucx_prepare_process();

    *figures_out = (struct bench_transfer_figures){.memcpy_gb_per_s = {.count = 0}};
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
        _exit(run_sender(plan, pair[1]));
    }
    close(pair[1]);
    status = run_receiver(&rig, pair[0], error);
    close(pair[0]); /* the sender sees that it may go */
    waitpid(child, NULL, 0);
    return status;
}
