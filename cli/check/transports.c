/*
 * transports.c: a short transfer over each lane that KV may take, see parts.h.
 *
 * Each in a probe of its own: UCX cannot be used again after a fork, and a lane that hangs or crashes
 * is a result here.
 */
#include <inttypes.h>
#include <net/if.h>
#include <string.h>

#include "bench/transfer_run.h"
#include "cli/check/parts.h"
#include "cli/probe.h"
#include "lib/base/log.h"

#define AREA        "transports"
#define BLOCK_COUNT 64
#define BLOCK_BYTES (128u << 10) /* 8 MiB: more than what caches keep */
#define ROUNDS      5
#define DEADLINE_MS 15000

/* In memory that is shared with the probe. */
struct trial {
    enum bench_lane lane;
    const char *interface;
    td_status_t status;
    struct td_error error;
    struct bench_transfer_figures figures;
};

static int try_lane(void *ctx)
{
    struct trial *trial = ctx;
    const struct bench_transfer_plan plan = {.block_count = BLOCK_COUNT,
                                             .block_bytes = BLOCK_BYTES,
                                             .rounds = ROUNDS,
                                             .lanes = BENCH_LANE_BIT(trial->lane),
                                             .interface = trial->interface};

    td_log_set_level(TD_LOG_ERROR);
    trial->status = bench_transfer_run(&plan, &trial->figures, &trial->error);
    return trial->status == TD_OK ? 0 : 1;
}

static const char *lane_label(enum bench_lane lane)
{
    static const char *const labels[BENCH_LANE_COUNT] = {"map", "ucx shared memory", "ucx TCP"};

    return labels[lane];
}

/* A lane that does not work matters if nothing else can be used instead. */
static void judge_broken(struct check_row *row, enum bench_lane lane, const char *transport)
{
    static const char *const advice[BENCH_LANE_COUNT] = {
        "workers of one host use ucx instead: --kv-transport ucx",
        "look at /dev/shm and the container's IPC settings, or use --kv-transport map",
        "name a working interface with --ucx-interface, or use --kv-transport map on one host",
    };
    const char *needed = lane == BENCH_LANE_MAP ? "map" : "ucx";
    bool is_asked_for = strcmp(transport, needed) == 0;

    check_mark(row, is_asked_for ? CHECK_PROBLEM : CHECK_NOTE, "%s", advice[lane]);
}

static void judge_working(struct check_row *row, const struct trial *trial)
{
    const struct bench_lane_figures *figures = &trial->figures.lanes[trial->lane];
    double gb_per_s = bench_stats_median(&figures->landed_gb_per_s);
    double ratio = bench_stats_median(&figures->landed_ratio);

    check_figure(row, "%s: %.2f GB/s, %.2f of memcpy (%.1f GB/s) in the same run", figures->lanes,
                 gb_per_s, ratio, bench_stats_median(&trial->figures.memcpy_gb_per_s));
    check_value(row, "gb_per_s", gb_per_s);
    check_value(row, "memcpy_ratio", ratio);
    if (trial->lane == BENCH_LANE_UCX_SHM && strstr(figures->lanes, "sysv") == NULL &&
        strstr(figures->lanes, "posix") == NULL)
        check_mark(row, CHECK_NOTE,
                   "UCX did not choose shared memory: look at /dev/shm and the "
                   "container's IPC settings");
}

static void look_at_lane(struct check_table *table, struct trial *trial, const char *transport)
{
    struct check_row *row = check_add(table, AREA, lane_label(trial->lane));
    struct td_error error = {0};
    struct cli_probe_end end;
    char what[64];
    char how[256];
    const struct cli_probe probe = {.program = "tandem check",
                                    .what = what,
                                    .deadline_ms = DEADLINE_MS,
                                    .run = try_lane,
                                    .ctx = trial};

    snprintf(what, sizeof what, "moving KV by %s", lane_label(trial->lane));
    if (cli_probe_run(&probe, &end, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "let this user start more processes (ulimit -u, pids.max)");
        return;
    }
    cli_probe_describe(&probe, &end, how, sizeof how);
    if (end.exit_status == 0) {
        judge_working(row, trial);
        return;
    }
    check_figure(row, "does not work: %s", how[0] != '\0' ? how : trial->error.text);
    if (how[0] == '\0' && trial->error.text[0] == '\0')
        check_figure(row, "does not work: %s", end.said);
    judge_broken(row, trial->lane, transport);
}

/* Whether all interfaces of a list are there; says it if not. */
static bool has_interfaces(struct check_table *table, const char *list)
{
    while (*list != '\0') {
        size_t length = strcspn(list, ",");
        char name[IF_NAMESIZE];

        if (length > 0 && length < sizeof name)
            snprintf(name, sizeof name, "%.*s", (int)length, list);
        if (length == 0 || length >= sizeof name || if_nametoindex(name) == 0) {
            struct check_row *row = check_add(table, AREA, lane_label(BENCH_LANE_UCX_TCP));

            check_figure(row, "there is no interface '%.*s'", (int)(length < 40 ? length : 40),
                         list);
            check_mark(row, CHECK_PROBLEM, "`ip link` lists them; name one with --ucx-interface");
            return false;
        }
        list += length + (list[length] == ',');
    }
    return true;
}

void check_transports(struct check_table *table, const struct cli_check_options *options)
{
    struct trial *trial = cli_probe_share(sizeof *trial);
    const char *transport = cli_kv_transports[options->cluster.kv_transport];

    if (trial == NULL) {
        check_mark(check_add(table, AREA, "memory"), CHECK_PROBLEM, "free some memory");
        return;
    }
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++) {
        *trial = (struct trial){.lane = (enum bench_lane)lane, .interface = options->ucx_interface};
        if (lane != BENCH_LANE_UCX_TCP || has_interfaces(table, options->ucx_interface))
            look_at_lane(table, trial, transport);
    }
    cli_probe_unshare(trial, sizeof *trial);
}
