/*
 * gpu_ways.c: how KV will get from one GPU's memory into another's: CUDA IPC, UCX, NCCL; see parts.h.
 *
 * Each in a probe of its own: they load large libraries, which may hang or crash, and CUDA and UCX are of no use after
 * a fork. What is missing is never a problem, since there is a way through the host's memory; with --gpu it is a note.
 */
#include <string.h>

#include "cli/check/parts.h"
#include "cli/probe.h"
#include "kvtransfer/cuda_trial.h"
#include "kvtransfer/nccl_library.h"
#include "kvtransfer/ucx.h"
#include "kvtransfer/ucx_look.h"
#include "lib/base/log.h"

#define AREA        "gpu"
#define DEADLINE_MS 30000

/* In memory that is shared with the probe. */
struct way {
    const char *driver;
    td_status_t status;
    struct td_error error;
    struct kvt_ucx_facts ucx;
    char nccl[NCCL_VERSION_BYTES];
};

static int try_ipc(void *ctx)
{
    struct way *way = ctx;

    td_log_set_level(TD_LOG_ERROR);
    way->status = kvt_cuda_try_ipc(way->driver, &way->error);
    return 0;
}

static int look_at_ucx(void *ctx)
{
    struct way *way = ctx;

    td_log_set_level(TD_LOG_ERROR);
    way->status = kvt_ucx_prepare_process();
    if (way->status == TD_OK)
        way->status = kvt_ucx_look(&way->ucx, &way->error);
    return 0;
}

static int look_for_nccl(void *ctx)
{
    struct way *way = ctx;
    const struct nccl_library *library;

    way->status = nccl_library_load(NULL, &library, &way->error);
    if (way->status == TD_OK)
        memcpy(way->nccl, library->version_text, sizeof way->nccl);
    return 0;
}

/* Runs one of them; false: there is nothing to judge, and the row says why. */
static bool look(struct check_row *row, const char *what, int (*run)(void *), struct way *way)
{
    const struct cli_probe probe = {.program = "tandem check",
                                    .what = what,
                                    .deadline_ms = DEADLINE_MS,
                                    .run = run,
                                    .ctx = way};
    struct td_error error = {0};
    struct cli_probe_end end;
    char how[256];

    if (cli_probe_run(&probe, &end, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        return false;
    }
    if (end.exit_status != 0) {
        cli_probe_describe(&probe, &end, how, sizeof how);
        check_figure(row, "%s %s", what, how);
        return false;
    }
    return true;
}

static void judge_ipc(struct check_row *row, const struct way *way)
{
    if (way->status == TD_OK) {
        check_figure(row, "one process read 1 MiB of another's on GPU 0: workers of this host "
                          "that reach each other's GPUs use map");
        return;
    }
    check_figure(row, "does not work: %s", way->error.text);
    check_mark(row, CHECK_NOTE,
               "KV goes through the host's memory: workers in containers need one IPC "
               "namespace (--ipc=host), and the GPU must be visible to both");
}

/* is_wanted: for workers on a GPU that is there. */
static void judge_ucx(struct check_row *row, const struct way *way, bool is_wanted)
{
    const struct kvt_ucx_facts *ucx = &way->ucx;
    const char *advice = NULL;

    if (way->status != TD_OK) {
        check_figure(row, "%s", way->error.text);
        check_mark(row, CHECK_NOTE, "KV can travel by map alone, within this host");
        return;
    }
    if (!ucx->is_new_enough || !ucx->knows_cuda)
        advice =
            "scripts/setup --ucx fetches one with CUDA, for LD_LIBRARY_PATH; to other hosts it "
            "takes one with RDMA too";
    else if (!ucx->has_rdma)
        advice = "KV goes to other hosts through memory: for less, load a UCX with CUDA and RDMA "
                 "(LD_LIBRARY_PATH) on hosts with such cards";
    check_figure(row, "%s; %s; lanes here: %s", ucx->version,
                 !ucx->is_new_enough ? "too old for GPUs"
                 : !ucx->knows_cuda  ? "knows no GPUs here"
                 : !ucx->has_rdma    ? "knows GPUs, within this host"
                                     : "knows GPUs; workers prove the way when they connect",
                 ucx->lanes);
    check_value(row, "knows_cuda", ucx->knows_cuda);
    check_value(row, "has_rdma", ucx->has_rdma);
    if (is_wanted && advice != NULL)
        check_mark(row, CHECK_NOTE, "%s", advice);
}

void check_gpu_ways(struct check_table *table, const struct cli_check_options *options,
                    const char *driver)
{
    struct way *way = cli_probe_share(sizeof *way);
    bool has_gpu = driver != NULL || check_gpu_memory_bytes(table) > 0;
    struct check_row *row;

    if (way == NULL) {
        check_mark(check_add(table, AREA, "memory"), CHECK_PROBLEM, "free some memory");
        return;
    }
    row = check_add(table, AREA, "CUDA IPC");
    way->driver = driver;
    if (!has_gpu)
        check_figure(row, "not tried: no GPU was found");
    else if (look(row, "trying CUDA IPC", try_ipc, way))
        judge_ipc(row, way);
    *way = (struct way){0};
    row = check_add(table, AREA, "UCX");
    if (look(row, "looking at UCX", look_at_ucx, way))
        judge_ucx(row, way, options->cluster.gpu && has_gpu);
    *way = (struct way){0};
    row = check_add(table, AREA, "NCCL");
    if (look(row, "looking for NCCL", look_for_nccl, way))
        check_figure(row, "%s%s", way->status == TD_OK ? "version " : way->error.text, way->nccl);
    cli_probe_unshare(way, sizeof *way);
}
