/*
 * gpu.c: what CUDA this program has, and what GPUs it finds, see parts.h.
 *
 * In a probe of its own: opening a GPU takes memory and threads, and a broken driver may hang or crash. Without --gpu
 * nothing that is missing matters; with it, it is a problem.
 */
#include <inttypes.h>
#include <string.h>

#include "cli/check/parts.h"
#include "cli/probe.h"
#include "cli/sheet.h"
#include "engine/cuda/gpu/gpu.h"
#include "kvtransfer/driver.h"
#include "lib/base/log.h"

#define AREA        "gpu"
#define GPUS_SHOWN  16
#define DEADLINE_MS 60000

/* How check_gpu_memory_bytes finds again what was written. */
#define FIRST_GPU    "GPU 0"
#define MEMORY_BYTES "memory_bytes"

/* In memory that is shared with the probe. */
struct look {
    const struct cli_cluster_options *cluster;
    struct check_table rows;
};

static void judge_missing(struct check_row *row, const struct look *look, const char *advice)
{
    if (look->cluster->gpu)
        check_mark(row, CHECK_PROBLEM, "%s, or leave --gpu out", advice);
}

static void look_at_build(struct look *look)
{
    struct check_row *row = check_add(&look->rows, AREA, "CUDA");

    if (gpu_toolkit() != NULL) {
        check_figure(row, "built with toolkit %s", gpu_toolkit());
        return;
    }
    check_figure(row, "these programs were built without it");
    judge_missing(row, look,
                  "scripts/setup --cuda installs a toolkit without root; then build again");
}

/* Whether all workers get their share of it. */
static void judge_memory(struct check_row *row, const struct cli_cluster_options *cluster,
                         size_t free_bytes, size_t memory_bytes)
{
    double workers = cluster->prefill + cluster->decode;
    double wanted = workers * cli_cluster_gpu_fraction(cluster);

    if (wanted > 1)
        check_mark(row, CHECK_PROBLEM,
                   "%.0f workers take %.2f of it each, more than there is: --gpu-memory-fraction "
                   "%.2f",
                   workers, wanted / workers, 0.9 / workers);
    else if (wanted * (double)memory_bytes > (double)free_bytes)
        check_mark(row, CHECK_PROBLEM,
                   "others use it (nvidia-smi says who): end them, or --gpu-memory-fraction %.2f",
                   0.95 * (double)free_bytes / (double)memory_bytes / workers);
}

static void look_at_gpu(struct look *look, uint32_t index)
{
    struct check_row *row;
    struct cuda_device *device = NULL;
    struct td_error error = {0};
    size_t free_bytes = 0;
    char what[CHECK_WHAT_BYTES];
    char all[CLI_AMOUNT_BYTES];
    char left[CLI_AMOUNT_BYTES];

    snprintf(what, sizeof what, "GPU %" PRIu32, index);
    row = check_add(&look->rows, AREA, what);
    if (gpu_open(index, &device, &error) != TD_OK ||
        cuda_device_free_bytes(device, &free_bytes, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        if (index == 0)
            judge_missing(row, look, "choose another by CUDA_VISIBLE_DEVICES");
        cuda_device_close(device);
        return;
    }
    check_figure(row, "%s, %s; %s free of %s", device->info.name, device->info.description,
                 cli_show_bytes(free_bytes, left), cli_show_bytes(device->info.memory_bytes, all));
    check_value(row, "free_bytes", (double)free_bytes);
    check_value(row, MEMORY_BYTES, (double)device->info.memory_bytes);
    if (look->cluster->gpu && index == 0)
        judge_memory(row, look->cluster, free_bytes, device->info.memory_bytes);
    cuda_device_close(device);
}

/* As KV transfers find it, and so the same that the GPUs were found through. */
static void look_at_driver(struct look *look)
{
    struct check_row *row = check_add(&look->rows, AREA, "driver");
    const struct driver *driver;
    struct td_error error = {0};

    if (driver_load(NULL, &driver, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        judge_missing(row, look, "install the whole of NVIDIA's driver");
        return;
    }
    check_figure(row, "serves CUDA %d.%d", driver->version / 1000, driver->version % 1000 / 10);
    check_value(row, "cuda_version", driver->version);
}

static int run(void *ctx)
{
    struct look *look = ctx;
    struct check_row *row;
    struct td_error error = {0};
    uint32_t count = 0;

    td_log_set_level(TD_LOG_ERROR);
    look_at_build(look);
    if (gpu_toolkit() == NULL)
        return 0;
    if (gpu_count(&count, &error) != TD_OK) {
        row = check_add(&look->rows, AREA, "driver");
        check_figure(row, "%s", error.text);
        judge_missing(row, look, "install NVIDIA's driver on a machine with a GPU");
        return 0;
    }
    look_at_driver(look);
    for (uint32_t i = 0; i < count && i < GPUS_SHOWN; i++)
        look_at_gpu(look, i);
    return 0;
}

double check_gpu_memory_bytes(const struct check_table *table)
{
    for (uint32_t i = 0; i < table->count; i++) {
        const struct check_row *row = &table->rows[i];

        if (strcmp(row->area, AREA) != 0 || strcmp(row->what, FIRST_GPU) != 0)
            continue;
        for (uint32_t k = 0; k < row->value_count; k++)
            if (strcmp(row->values[k].name, MEMORY_BYTES) == 0)
                return row->values[k].value;
    }
    return 0;
}

static void append(struct check_table *table, const struct check_table *rows)
{
    for (uint32_t i = 0; i < rows->count; i++)
        *check_add(table, AREA, rows->rows[i].what) = rows->rows[i];
}

void check_gpu(struct check_table *table, const struct cli_check_options *options)
{
    struct look *look = cli_probe_share(sizeof *look);
    const struct cli_probe probe = {.program = "tandem check",
                                    .what = "looking for GPUs",
                                    .deadline_ms = DEADLINE_MS,
                                    .run = run,
                                    .ctx = look};
    struct td_error error = {0};
    struct cli_probe_end end;
    char how[256];

    if (look == NULL) {
        check_mark(check_add(table, AREA, "memory"), CHECK_PROBLEM, "free some memory");
        return;
    }
    look->cluster = &options->cluster;
    if (cli_probe_run(&probe, &end, &error) != TD_OK) {
        struct check_row *row = check_add(&look->rows, AREA, "driver");

        check_figure(row, "%s", error.text);
        judge_missing(row, look, "let this user start more processes (ulimit -u, pids.max)");
    } else if (end.exit_status != 0) {
        struct check_row *row = check_add(&look->rows, AREA, "driver");

        cli_probe_describe(&probe, &end, how, sizeof how);
        check_figure(row, "looking for GPUs %s", how);
        judge_missing(row, look, "does nvidia-smi work?");
    }
    append(table, &look->rows);
    cli_probe_unshare(look, sizeof *look);
}
