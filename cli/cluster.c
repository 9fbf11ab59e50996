/* cluster.c: command lines of a cluster's processes, see cluster.h. */
#include "cli/cluster.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/cpu/cpu.h"
#include "engine/cpu/team.h"
#include "engine/cuda/choice.h"
#include "engine/cuda/cuda.h"
#include "lib/base/cpus.h"

#define OPTIONS struct cli_cluster_options

#define WORDS_MAX      64 /* of one command line */
#define WORD_BYTES_MAX 4096

const char *const cli_kv_transports[] = {"auto", "ucx", "map", NULL};
const char *const cli_log_levels[] = {"error", "warn", "info", "debug", NULL};
static const char *const gpu_weights[] = CUDA_WEIGHTS_CHOICES;
static const char *const gpu_warpgroups[] = CUDA_WARPGROUPS_CHOICES;
static const char *const gpu_launches[] = CUDA_LAUNCHES_CHOICES;
static const char *const numerics[] = CPU_NUMERICS_CHOICES;
static const char *const kv_dtypes[] = CPU_KV_DTYPE_CHOICES;

static const struct td_flag cluster_flags[] = {
    {TD_FLAG_AS_UINT32(OPTIONS, prefill), .name = "prefill", .fallback = "1", .max = 64,
     .help = "Prefill workers. 0: decode workers read the prompts too, and no KV crosses."},
    {TD_FLAG_AS_UINT32(OPTIONS, decode), .name = "decode", .fallback = "1", .min = 1, .max = 62,
     .help = "Decode workers."},
    {TD_FLAG_AS_TEXT(OPTIONS, host), .name = "host", .value = "HOST", .fallback = "127.0.0.1",
     .help = "Where the OpenAI API is offered; 0.0.0.0 is every interface."},
    {TD_FLAG_AS_BOOL(OPTIONS, gpu), .name = "gpu",
     .help =
         "All workers compute on one NVIDIA GPU, the first that CUDA_VISIBLE_DEVICES shows, and "
         "share its memory. 'tandem check --gpu' says whether that will work."},
    {TD_FLAG_AS_TEXT(OPTIONS, gpu_memory_fraction), .name = "gpu-memory-fraction", .value = "SHARE",
     .help = "With --gpu, what each worker takes of the GPU's memory, above 0 and at most 1. Not "
             "given: 0.9 divided by the number of workers, which is 0.45 for two."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_weights), .name = "gpu-weights",
     .fallback = CUDA_WEIGHTS_FALLBACK, .choices = gpu_weights,
     .help =
         "With --gpu, what it holds matrices of F32, F16 and BF16 as: as-is, or fp8, about half of "
         "the memory and traffic of BF16 and less exact (embedding and LM head stay)."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_warpgroups), .name = "gpu-warpgroups",
     .fallback = CUDA_WARPGROUPS_FALLBACK, .choices = gpu_warpgroups,
     .help =
         "With --gpu, whether products of many tokens go by warpgroups (wgmma) on GPUs that have "
         "them, which are tried when the model is loaded and change no result: auto, or off, "
         "for a GPU where trying them fails."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_launches), .name = "gpu-launches",
     .fallback = CUDA_LAUNCHES_FALLBACK, .choices = gpu_launches,
     .help =
         "With --gpu, how kernels are launched: auto, as CUDA graphs where all rows decode, and "
         "early (programmatic dependent launch) where the GPU can; or plain, each by itself when "
         "the one before has ended, which is slower and gives the same answers, for drivers that "
         "mishandle either."},
    {TD_FLAG_AS_BOOL(OPTIONS, fast_variant), .name = "fast-variant",
     .help =
         "With --gpu, products of many rows by cuBLASLt, where it is installed, for weights of "
         "BF16, which then take twice the memory. For comparison: results depend on the batch."},
    {TD_FLAG_AS_UINT32(OPTIONS, threads), .name = "threads", .fallback = "0", .max = 256,
     .help = "Compute threads of each worker, without --gpu. 0: the CPUs that this process may use "
             "are divided "
             "among the workers."},
    {TD_FLAG_AS_CHOICE(OPTIONS, numerics), .name = "numerics", .fallback = CPU_NUMERICS_FALLBACK,
     .choices = numerics,
     .help =
         "Activations in products with quantised weights, of all workers, without --gpu: int8, "
         "or f32, which takes about twice as long and is closer to the model's own arithmetic."},
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_dtype), .name = "kv-dtype", .fallback = CPU_KV_DTYPE_FALLBACK,
     .choices = kv_dtypes,
     .help = "What all workers keep keys and values as, without --gpu: f16; int8, which takes "
             "little more than half of the memory and of the traffic and is less exact; or f32, "
             "for comparing with references."},
    {TD_FLAG_AS_BYTES(OPTIONS, kv_bytes), .name = "kv-bytes", .value = "SIZE",
     .help = "Memory for the KV cache of each worker. Not given: the worker's own default."},
    {TD_FLAG_AS_LIST(OPTIONS, served_names), .name = "served-model-name", .value = "NAME",
     .help = "What clients call the model; the first is canonical. Not given: the file's "
             "name without its ending."},
    {TD_FLAG_AS_DURATION(OPTIONS, start_ms), .name = "start-timeout", .fallback = "10m",
     .min = 1000, .max = 86400000, .help = "Every process must be ready after this."},
    {TD_FLAG_AS_DURATION(OPTIONS, drain_ms), .name = "drain-timeout", .fallback = "30s",
     .max = 86400000,
     .help = "After Ctrl-C running requests may take this long; then they are broken off."},
};

struct td_flag_table cli_cluster_table(struct cli_cluster_options *options)
{
    return (struct td_flag_table){
        .group = "Cluster",
        .flags = cluster_flags,
        .count = sizeof cluster_flags / sizeof cluster_flags[0],
        .options = options,
    };
}

uint32_t cli_cluster_threads(const struct cli_cluster_options *options, uint32_t cpus,
                             uint32_t place)
{
    uint32_t share = td_cpus_share(cpus, options->prefill + options->decode, place);

    if (options->threads != 0)
        return options->threads;
    return share < CPU_THREADS_MAX ? share : CPU_THREADS_MAX;
}

/* ---- command lines ---- */

struct planner {
    struct td_arena *arena;
    const struct cli_cluster_options *options;
    const struct cli_cluster_surroundings *surroundings;
    struct cli_cluster *cluster;
    const char **words; /* of the line being made */
    size_t word_count;
    bool failed; /* no memory, or a word is too long */
};

static const char *format(struct planner *planner, const char *pattern, ...) TD_PRINTF(2, 3);

static const char *format(struct planner *planner, const char *pattern, ...)
{
    char text[WORD_BYTES_MAX];
    const char *copy = NULL;
    va_list arguments;
    int length;

    va_start(arguments, pattern);
    length = vsnprintf(text, sizeof text, pattern, arguments);
    va_end(arguments);
    if (length >= 0 && (size_t)length < sizeof text)
        copy = td_arena_text(planner->arena, text, (size_t)length);
    if (copy == NULL)
        planner->failed = true;
    return copy;
}

static void add(struct planner *planner, const char *word)
{
    if (word == NULL || planner->words == NULL || planner->word_count + 1 >= WORDS_MAX)
        planner->failed = true;
    else
        planner->words[planner->word_count++] = word;
}

static void add_pair(struct planner *planner, const char *flag, const char *value)
{
    add(planner, flag);
    add(planner, value);
}

static const char *socket_target(struct planner *planner, const char *name)
{
    return format(planner, "unix:%s/%s.sock", planner->surroundings->runtime_folder, name);
}

/* Starts a command line; the plan points at it at once. */
static void begin(struct planner *planner, const char *name, const char *binary, unsigned stop_rank)
{
    struct cli_cluster *cluster = planner->cluster;

    planner->words = td_arena_array(planner->arena, WORDS_MAX, sizeof *planner->words);
    planner->word_count = 0;
    add(planner, format(planner, "%s/%s", planner->surroundings->program_folder, binary));
    cluster->plans[cluster->count] = (struct cli_child_plan){
        .name = name,
        .argv = planner->words,
        .stop_rank = stop_rank,
        .starts_later = cluster->count != CLI_CLUSTER_SCHEDULER,
    };
    cluster->count++;
    add_pair(planner, "--log-level", cli_log_levels[planner->options->log_level]);
    add_pair(planner, "--drain-timeout",
             format(planner, "%llums", (unsigned long long)planner->options->drain_ms));
}

static void plan_scheduler(struct planner *planner)
{
    begin(planner, "scheduler", "tandem-scheduler", 3);
    add_pair(planner, "--listen", socket_target(planner, "scheduler"));
    add_pair(planner, "--http-listen", "127.0.0.1:0");
    if (planner->options->remote_tokens_min != 0)
        add_pair(planner, "--remote-tokens-min",
                 format(planner, "%u", planner->options->remote_tokens_min));
}

static void plan_router(struct planner *planner)
{
    char *address = planner->cluster->router_address;

    net_address_join(planner->options->host, (uint16_t)planner->options->port, address);
    begin(planner, "router", "tandem-router", 0);
    add_pair(planner, "--listen", address);
    add_pair(planner, "--scheduler", socket_target(planner, "scheduler"));
}

/* A list flag takes commas as separators, so each name is given by a flag of its own. */
static void add_names(struct planner *planner)
{
    for (size_t i = 0; i < planner->options->served_names.count; i++)
        add_pair(planner, "--served-model-name", planner->options->served_names.items[i]);
}

double cli_cluster_gpu_fraction(const struct cli_cluster_options *options)
{
    double fraction = CUDA_FRACTION_DEFAULT / (options->prefill + options->decode);
    struct td_error error = {0};

    if (options->gpu_memory_fraction != NULL &&
        cuda_fraction_parse(options->gpu_memory_fraction, &fraction, &error) != TD_OK)
        return 0; /* check_gpu says why */
    return fraction;
}

static void add_gpu(struct planner *planner)
{
    double fraction = cli_cluster_gpu_fraction(planner->options);

    add_pair(planner, "--gpu-memory-fraction", format(planner, "%.6f", fraction));
    add_pair(planner, "--gpu-weights", gpu_weights[planner->options->gpu_weights]);
    add_pair(planner, "--gpu-warpgroups", gpu_warpgroups[planner->options->gpu_warpgroups]);
    add_pair(planner, "--gpu-launches", gpu_launches[planner->options->gpu_launches]);
    if (planner->options->fast_variant)
        add(planner, "--fast-variant");
}

static void plan_worker(struct planner *planner, const char *model, const char *name,
                        const char *binary, unsigned stop_rank)
{
    const struct cli_cluster_options *options = planner->options;
    uint32_t place = (uint32_t)(planner->cluster->count - CLI_CLUSTER_WORKERS);
    uint32_t threads = cli_cluster_threads(options, planner->surroundings->cpus, place);

    begin(planner, name, binary, stop_rank);
    add_pair(planner, "--model", model);
    add_pair(planner, "--listen", socket_target(planner, name));
    add_pair(planner, "--http-listen", "127.0.0.1:0");
    add_pair(planner, "--scheduler", socket_target(planner, "scheduler"));
    add_pair(planner, "--device", options->gpu ? "gpu" : "cpu"); /* whatever TANDEM_DEVICE says */
    if (options->gpu) {
        add_gpu(planner);
    } else {
        add_pair(planner, "--threads", format(planner, "%u", threads));
        add_pair(planner, "--numerics", numerics[options->numerics]);
        add_pair(planner, "--kv-dtype", kv_dtypes[options->kv_dtype]);
    }
    add_pair(planner, "--kv-transport", cli_kv_transports[options->kv_transport]);
    if (options->kv_bytes != 0)
        add_pair(planner, "--kv-bytes",
                 format(planner, "%llu", (unsigned long long)options->kv_bytes));
    add_names(planner);
}

/* "decode" if there is one, else "decode-1" and so on. */
static const char *worker_name(struct planner *planner, const char *role, uint32_t i,
                               uint32_t count)
{
    return count == 1 ? role : format(planner, "%s-%u", role, i + 1);
}

static td_status_t check_gpu(const struct cli_cluster_options *options, struct td_error *error)
{
    double fraction = 0;

    if (!options->gpu && options->gpu_memory_fraction != NULL)
        return td_fail(error, TD_INVALID, "--gpu-memory-fraction is for --gpu");
    if (!options->gpu && options->gpu_weights != CUDA_WEIGHTS_AS_IS)
        return td_fail(error, TD_INVALID, "--gpu-weights, or TANDEM_GPU_WEIGHTS, is for --gpu");
    if (!options->gpu && options->gpu_warpgroups != CUDA_WARPGROUPS_AUTO)
        return td_fail(error, TD_INVALID,
                       "--gpu-warpgroups, or TANDEM_GPU_WARPGROUPS, is for --gpu");
    if (!options->gpu && options->gpu_launches != CUDA_LAUNCHES_AUTO)
        return td_fail(error, TD_INVALID, "--gpu-launches, or TANDEM_GPU_LAUNCHES, is for --gpu");
    if (!options->gpu && options->fast_variant)
        return td_fail(error, TD_INVALID, "--fast-variant, or TANDEM_FAST_VARIANT, is for --gpu");
    if (options->fast_variant && options->gpu_weights != CUDA_WEIGHTS_AS_IS)
        return td_fail(error, TD_INVALID, "--fast-variant is for --gpu-weights as-is");
    if (!options->gpu)
        return TD_OK;
    if (options->threads != 0)
        return td_fail(error, TD_INVALID, "--threads is for workers without --gpu");
    if (options->numerics != CPU_NUMERICS_INT8)
        return td_fail(error, TD_INVALID, "--numerics is for workers without --gpu");
    if (options->kv_dtype != CPU_KV_F16)
        return td_fail(error, TD_INVALID, "--kv-dtype is for workers without --gpu");
    if (options->gpu_memory_fraction == NULL)
        return TD_OK;
    return cuda_fraction_parse(options->gpu_memory_fraction, &fraction, error);
}

td_status_t cli_cluster_check(const struct cli_cluster_options *options, struct td_error *error)
{
    if (options->prefill > CLI_WORKERS_MAX || options->decode > CLI_WORKERS_MAX - options->prefill)
        return td_fail(error, TD_INVALID, "--prefill and --decode together are more than %d",
                       CLI_WORKERS_MAX);
    if (strlen(options->host) >= NET_HOST_BYTES_MAX)
        return td_fail(error, TD_INVALID, "--host is longer than a host name can be");
    if (options->served_names.count > 16)
        return td_fail(error, TD_INVALID, "--served-model-name: at most 16 names");
    return check_gpu(options, error);
}

td_status_t cli_cluster_plan(const char *model, const struct cli_cluster_options *options,
                             const struct cli_cluster_surroundings *surroundings,
                             struct td_arena *arena, struct cli_cluster *cluster_out,
                             struct td_error *error)
{
    struct planner planner = {
        .arena = arena, .options = options, .surroundings = surroundings, .cluster = cluster_out};
    td_status_t status = cli_cluster_check(options, error);

    cluster_out->count = 0;
    if (status != TD_OK)
        return status;
    plan_scheduler(&planner);
    plan_router(&planner);
    for (uint32_t i = 0; i < options->prefill; i++)
        plan_worker(&planner, model, worker_name(&planner, "prefill", i, options->prefill),
                    "tandem-prefill", 2);
    for (uint32_t i = 0; i < options->decode; i++)
        plan_worker(&planner, model, worker_name(&planner, "decode", i, options->decode),
                    "tandem-decode", 1);
    if (planner.failed)
        return td_fail(error, TD_NO_MEMORY, "the command lines of the workers are too long");
    return TD_OK;
}

td_status_t cli_program_folder(struct td_arena *arena, const char **folder_out,
                               struct td_error *error)
{
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path);
    char *slash;

    if (length <= 0 || (size_t)length >= sizeof path)
        return td_fail(error, TD_IO, "cannot find the folder of this program: %s",
                       strerror(length < 0 ? errno : ENAMETOOLONG));
    path[length] = '\0';
    slash = strrchr(path, '/');
    *folder_out = slash != NULL ? td_arena_text(arena, path, (size_t)(slash - path)) : NULL;
    if (*folder_out == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the folder of this program");
    return TD_OK;
}
