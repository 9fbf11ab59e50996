/* machine.c: what this machine and this process's surroundings allow, see parts.h. */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "cli/check/parts.h"
#include "cli/memory.h"
#include "cli/runtime_folder.h"
#include "cli/sheet.h"
#include "engine/cpu/cache.h"
#include "engine/cpu/kernels.h"
#include "lib/base/cpus.h"
#include "lib/base/time.h"

#define AREA "machine"

#define FILES_MIN      256         /* a router with few clients gets by with so many */
#define FILES_GOOD     4096        /* each client and each link takes one */
#define SHM_MIN        (16u << 20) /* below this UCX falls back to other lanes, or fails */
#define CACHE_DISK_MIN ((uint64_t)1 << 30)
#define DAY_S          86400

/* ---- processor ---- */

/* The processor's name as the kernel has it. */
static void read_cpu_name(char *out, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(out, size, "unknown processor");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && colon != NULL) {
            colon += 1 + strspn(colon + 1, " \t");
            snprintf(out, size, "%.*s", (int)strcspn(colon, "\n"), colon);
            break;
        }
    }
    if (file != NULL)
        fclose(file);
}

static void look_at_cpu(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "processor");
    const struct cpu_kernels *available[CPU_KERNELS_MAX];
    const struct cpu_kernels *kernels = NULL;
    struct td_error error = {0};
    char name[128];
    char list[64] = "";

    read_cpu_name(name, sizeof name);
    for (uint32_t i = 0, count = cpu_kernels_available(available); i < count; i++)
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i > 0 ? ", " : "",
                 available[i]->name);
    if (cpu_kernels_in_use(&kernels, &error) != TD_OK) {
        check_figure(row, "%s; it can run the kernels %s", name, list);
        check_mark(row, CHECK_PROBLEM, "%s; unset it", error.text);
        return;
    }
    check_figure(row, "%s; kernels %s (of %s)", name, kernels->name, list);
    if (strcmp(kernels->name, "reference") == 0)
        check_mark(row, CHECK_NOTE,
                   "plain C is many times slower; use a processor with AVX2 and FMA%s",
                   getenv("TANDEM_CPU") != NULL ? ", or unset TANDEM_CPU" : "");
}

static void look_at_cores(struct check_table *table, const struct cli_check_options *options,
                          const char *root)
{
    struct check_row *row = check_add(table, AREA, "cores");
    uint32_t workers = options->cluster.prefill + options->cluster.decode;
    uint32_t allowed = td_cpus_allowed();
    uint32_t quota = td_cpus_quota(root);
    uint32_t usable = quota != 0 && quota < allowed ? quota : allowed;
    char limit[64] = "no CPU quota";

    if (quota != 0)
        snprintf(limit, sizeof limit, "a quota of %" PRIu32, quota);
    check_figure(row, "%" PRIu32 " usable: %" PRIu32 " of %ld by affinity, %s", usable, allowed,
                 sysconf(_SC_NPROCESSORS_ONLN), limit);
    check_value(row, "usable", usable);
    check_value(row, "workers", workers);
    if (workers > usable)
        check_mark(row, CHECK_NOTE,
                   "%" PRIu32 " workers share them: start fewer (--prefill 0 --decode 1), or allow "
                   "more",
                   workers);
}

/* ---- memory ---- */

static void look_at_memory(struct check_table *table, const char *root)
{
    struct check_row *row = check_add(table, AREA, "memory");
    struct cli_memory memory = cli_memory_look(root);
    char total[CLI_AMOUNT_BYTES];
    char available[CLI_AMOUNT_BYTES];
    char limit[CLI_AMOUNT_BYTES];
    char below[CLI_AMOUNT_BYTES];

    cli_show_bytes(memory.total, total);
    cli_show_bytes(memory.available, available);
    check_value(row, "free_bytes", (double)cli_memory_free(&memory));
    if (memory.limit == UINT64_MAX)
        check_figure(row, "%s free of %s; no control group limits it", available, total);
    else
        check_figure(row, "%s free of %s; a control group allows %s, of which %s are left",
                     available, total, cli_show_bytes(memory.limit, limit),
                     cli_show_bytes(memory.below, below));
    if (memory.total == 0)
        check_mark(row, CHECK_NOTE, "/proc/meminfo cannot be read: mount /proc");
}

static void look_at_shm(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "/dev/shm");
    struct statvfs status;
    uint64_t free_bytes;
    char text[CLI_AMOUNT_BYTES];

    if (statvfs("/dev/shm", &status) != 0) {
        check_figure(row, "%s", strerror(errno));
        check_mark(row, CHECK_NOTE,
                   "UCX shares memory with peers of this host there; mount it, or "
                   "use --kv-transport map");
        return;
    }
    free_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    check_figure(row, "%s free", cli_show_bytes(free_bytes, text));
    check_value(row, "free_bytes", (double)free_bytes);
    if (free_bytes < SHM_MIN)
        check_mark(row, CHECK_NOTE,
                   "little for UCX: make it larger (docker: --shm-size=256m), or use "
                   "--kv-transport map");
}

/* ---- limits of the process ---- */

static const char *show_limit(rlim_t limit, bool is_bytes, char out[static CLI_AMOUNT_BYTES])
{
    if (limit == RLIM_INFINITY)
        return "unlimited";
    return is_bytes ? cli_show_bytes(limit, out) : cli_show_count(limit, out);
}

static void look_at_memlock(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "locked memory");
    struct rlimit limit;
    char text[CLI_AMOUNT_BYTES];

    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return;
    check_figure(row, "%s; only RDMA would need more, shared memory and TCP do not",
                 show_limit(limit.rlim_cur, true, text));
}

static void look_at_files(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "open files");
    struct rlimit limit;
    char now[CLI_AMOUNT_BYTES];
    char most[CLI_AMOUNT_BYTES];

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    check_figure(row, "at most %s; may be raised to %s", show_limit(limit.rlim_cur, false, now),
                 show_limit(limit.rlim_max, false, most));
    check_value(row, "limit", (double)limit.rlim_cur);
    if (limit.rlim_cur < FILES_MIN)
        check_mark(row, CHECK_PROBLEM, "ulimit -n %s, or LimitNOFILE= in the unit", most);
    else if (limit.rlim_cur < FILES_GOOD)
        check_mark(row, CHECK_NOTE, "enough for some %d clients; for more: ulimit -n %s",
                   (int)limit.rlim_cur / 2, most);
}

/* ---- clock ---- */

static void show_time(int64_t seconds, char *out, size_t size)
{
    time_t time = (time_t)seconds;
    struct tm parts;

    if (gmtime_r(&time, &parts) == NULL || strftime(out, size, "%Y-%m-%d %H:%M:%SZ", &parts) == 0)
        snprintf(out, size, "%" PRIi64, seconds);
}

/* A clock that is behind makes certificates not valid yet, and logs that nobody can put in order. */
static void look_at_clock(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "clock");
    int64_t now = td_unix_seconds();
    struct stat program;
    char text[64];
    char built[64];

    show_time(now, text, sizeof text);
    check_figure(row, "%s", text);
    if (stat("/proc/self/exe", &program) != 0 || program.st_mtime <= now + DAY_S)
        return;
    show_time(program.st_mtime, built, sizeof built);
    check_figure(row, "%s, but this program was written at %s", text, built);
    check_mark(row, CHECK_PROBLEM,
               "the clock is behind: set it, or let chrony or systemd-timesyncd "
               "keep it");
}

/* ---- folders ---- */

static void look_at_sockets(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "socket folder");
    char path[CLI_RUNTIME_FOLDER_BYTES];
    struct td_error error = {0};

    if (cli_runtime_folder_make(path, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "set XDG_RUNTIME_DIR to a folder that is yours");
        return;
    }
    check_figure(row, "%.*s can be written", (int)(strrchr(path, '/') - path), path);
    cli_runtime_folder_remove(path);
}

static void look_at_cache(struct check_table *table)
{
    struct check_row *row = check_add(table, AREA, "cache folder");
    char path[PATH_MAX];
    struct statvfs status;
    struct td_error error = {0};
    char *slash;
    uint64_t free_bytes;
    char text[CLI_AMOUNT_BYTES];

    if (cpu_cache_folder(path, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_NOTE, "set XDG_CACHE_HOME; without it each worker packs for itself");
        return;
    }
    while (access(path, F_OK) != 0 && (slash = strrchr(path, '/')) != NULL && slash != path)
        *slash = '\0'; /* what would be made lies there */
    if (statvfs(path, &status) != 0 || access(path, W_OK) != 0) {
        check_figure(row, "%.200s: %s", path, strerror(errno));
        check_mark(row, CHECK_NOTE, "set XDG_CACHE_HOME to a folder that can be written");
        return;
    }
    free_bytes = (uint64_t)status.f_bavail * status.f_frsize;
    check_figure(row, "%.200s: %s free", path, cli_show_bytes(free_bytes, text));
    check_value(row, "free_bytes", (double)free_bytes);
    if (free_bytes < CACHE_DISK_MIN)
        check_mark(row, CHECK_NOTE,
                   "little for models and packed weights: make room, or set "
                   "XDG_CACHE_HOME");
}

/* `tandem serve` starts these, from where it lies itself. */
static void look_at_programs(struct check_table *table)
{
    static const char *const names[] = {"tandem-router", "tandem-scheduler", "tandem-prefill",
                                        "tandem-decode"};
    struct check_row *row = check_add(table, AREA, "programs");
    struct td_error error = {0};
    struct td_arena arena;
    const char *folder = "";
    char path[PATH_MAX];

    td_arena_init(&arena, PATH_MAX + 64);
    if (cli_program_folder(&arena, &folder, &error) != TD_OK) {
        check_figure(row, "%s", error.text);
        check_mark(row, CHECK_PROBLEM, "mount /proc");
    } else {
        check_figure(row, "all in %.200s", folder);
    }
    for (size_t i = 0; error.text[0] == '\0' && i < sizeof names / sizeof names[0]; i++)
        if (snprintf(path, sizeof path, "%s/%s", folder, names[i]) >= (int)sizeof path ||
            access(path, X_OK) != 0) {
            check_figure(row, "%.200s/%s: %s", folder, names[i], strerror(errno));
            check_mark(row, CHECK_PROBLEM, "install all programs in one folder");
        }
    td_arena_fini(&arena);
}

void check_machine(struct check_table *table, const struct cli_check_options *options,
                   const char *root)
{
    look_at_cpu(table);
    look_at_cores(table, options, root);
    look_at_memory(table, root);
    look_at_shm(table);
    look_at_memlock(table);
    look_at_files(table);
    look_at_clock(table);
    look_at_programs(table);
    look_at_sockets(table);
    look_at_cache(table);
}
