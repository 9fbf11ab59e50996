/* options.c: the flags of the worker binaries, see options.h. */
#include "worker/options.h"

#include <string.h>

#include "engine/cpu/cpu.h"
#include "engine/cuda/choice.h"
#include "front/sampling.h"
#include "lib/base/utf8.h"
#include "lib/net/address.h"

#define OPTIONS struct worker_options
#define MiB     ((int64_t)1 << 20)
#define GiB     ((int64_t)1 << 30)
#define HOUR_MS 3600000

static const char *const gpu_weights[] = CUDA_WEIGHTS_CHOICES;
static const char *const gpu_warpgroups[] = CUDA_WARPGROUPS_CHOICES;
static const char *const gpu_launches[] = CUDA_LAUNCHES_CHOICES;
static const char *const numerics[] = CPU_NUMERICS_CHOICES;
static const char *const kv_dtypes[] = CPU_KV_DTYPE_CHOICES;
static const char *const transports[] = {"auto", "ucx", "map", "nccl", NULL};
static const char *const generations[] = FRONT_GENERATION_CHOICES;

static const struct td_flag serving[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, model), .name = "model", .value = "FILE",
     .help = "The model: a GGUF file or a Hugging Face folder. It may also be the only word "
             "without a flag."},
    {TD_FLAG_AS_LIST(OPTIONS, served_names), .name = "served-model-name", .value = "NAME",
     .help =
         "Names by which clients ask for the model; the first is canonical. Default: the file's "
         "name without its ending."},
    {TD_FLAG_AS_TEXT(OPTIONS, listen), .name = "listen", .value = "ADDRESS",
     .help = "Where routers and other workers reach this one: HOST:PORT or unix:/PATH. Default: "
             "127.0.0.1:7201 (prefill), 127.0.0.1:7202 (decode)."},
    {TD_FLAG_AS_TEXT(OPTIONS, advertise), .name = "advertise", .value = "TARGET",
     .help = "What others dial, if it differs from --listen (a pod's address)."},
    {TD_FLAG_AS_TEXT(OPTIONS, http_listen), .name = "http-listen", .value = "ADDRESS",
     .help = "This worker's own OpenAI port, with /health, /ready and /metrics. Default: "
             "127.0.0.1:7281 (prefill), 127.0.0.1:7282 (decode)."},
    {TD_FLAG_AS_LIST(OPTIONS, schedulers), .name = "scheduler", .value = "TARGET",
     .help = "Schedulers to report to; may be repeated."},
    {TD_FLAG_AS_CHOICE(OPTIONS, generation), .name = "generation-config", .choices = generations,
     .help = FRONT_GENERATION_HELP},
};

static const struct td_flag engine[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, device), .name = "device", .value = "DEVICE", .fallback = "cpu",
     .help = "What computes: cpu, gpu (the first) or gpu:N, counted from 0 as CUDA_VISIBLE_DEVICES "
             "shows them; cuda is another word for gpu. Needs an NVIDIA GPU and programs built "
             "with CUDA: 'tandem check' tells. Equal on all workers that exchange KV."},
    {TD_FLAG_AS_TEXT(OPTIONS, gpu_memory_fraction), .name = "gpu-memory-fraction", .value = "SHARE",
     .help = "Of the GPU's memory, what this process takes in all, above 0 and at most 1; two "
             "workers on one GPU need less than half each. Weights and workspace come first, KV "
             "gets the rest. Not given: 0.9."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_weights), .name = "gpu-weights",
     .fallback = CUDA_WEIGHTS_FALLBACK, .choices = gpu_weights,
     .help =
         "With --device gpu, what the GPU holds matrices of F32, F16 and BF16 as: as-is, or fp8, "
         "rounded to E4M3 with a scale for each row, which takes about half of the memory and "
         "traffic of BF16 and is less exact. Embedding and LM head stay. Equal on all workers "
         "that exchange KV."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_warpgroups), .name = "gpu-warpgroups",
     .fallback = CUDA_WARPGROUPS_FALLBACK, .choices = gpu_warpgroups,
     .help = "With --device gpu, whether products of many tokens go by warpgroups (wgmma) on GPUs "
             "that have them, which are tried when the model is loaded and change no result: auto, "
             "or off, for a GPU where trying them fails."},
    {TD_FLAG_AS_CHOICE(OPTIONS, gpu_launches), .name = "gpu-launches",
     .fallback = CUDA_LAUNCHES_FALLBACK, .choices = gpu_launches,
     .help = "With --device gpu, how kernels are launched: auto, as CUDA graphs where all rows "
             "decode, and early (programmatic dependent launch) where the GPU can; or plain, each "
             "by itself when the one before has ended, which is slower and gives the same answers, "
             "for drivers that mishandle either."},
    {TD_FLAG_AS_BOOL(OPTIONS, fast_variant), .name = "fast-variant",
     .help = "With --device gpu, products of many rows by cuBLASLt, where it is installed, for "
             "weights of BF16, which then take twice the memory. For comparison: results depend on "
             "the batch. Equal on all workers that exchange KV."},
    {TD_FLAG_AS_UINT32(OPTIONS, threads), .name = "threads", .min = 0, .max = 256,
     .help = "Compute threads of --device cpu; 0: the CPUs that this process may use, by affinity "
             "and control groups."},
    {TD_FLAG_AS_CHOICE(OPTIONS, numerics), .name = "numerics", .fallback = CPU_NUMERICS_FALLBACK,
     .choices = numerics,
     .help =
         "With --device cpu, activations in products with quantised weights: int8, or f32, which "
         "takes about twice as long and is closer to the model's own arithmetic. Equal on all "
         "workers that exchange KV."},
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_dtype), .name = "kv-dtype", .fallback = CPU_KV_DTYPE_FALLBACK,
     .choices = kv_dtypes,
     .help = "With --device cpu, what keys and values are kept as: f16; int8, which takes little "
             "more than half of the memory and of the traffic and is less exact; or f32, for "
             "comparing with references. Equal on all workers that exchange KV."},
    {TD_FLAG_AS_TEXT(OPTIONS, weights_cache), .name = "weights-cache", .value = "DIR",
     .help = "Where weights packed for --device cpu are kept for all workers of this host, or "
             "none; a GPU has no use for it. Default: tandem/weights in XDG_CACHE_HOME or "
             "~/.cache; see 'tandem cache'."},
    {TD_FLAG_AS_BYTES(OPTIONS, weights_cache_bytes), .name = "weights-cache-bytes",
     .fallback = "64GiB", .min = MiB, .max = 64 * 1024 * GiB,
     .help = "The most that the files in --weights-cache may have together; those not used for "
             "longest go."},
    {TD_FLAG_AS_BYTES(OPTIONS, kv_bytes), .name = "kv-bytes", .fallback = "0", .max = 1024 * GiB,
     .help = "Memory of the KV block pool. 0: 512MiB, and on a GPU all that is left of its "
             "--gpu-memory-fraction."},
    {TD_FLAG_AS_UINT32(OPTIONS, block_tokens), .name = "block-tokens", .fallback = "16", .min = 16,
     .max = 256, .help = "Tokens of a KV block: 16, 32, 64, 128 or 256; equal on all workers."},
    {TD_FLAG_AS_UINT32(OPTIONS, step_tokens), .name = "step-tokens", .fallback = "512", .min = 16,
     .max = 16384, .help = "Rows of one batch step."},
    {TD_FLAG_AS_DURATION(OPTIONS, step_target_ms), .name = "step-target", .fallback = "50ms",
     .min = 0, .max = 60000,
     .help = "How long prompts may make a step beside running answers, if those alone do not take "
             "half as long: the pace that answers keep when prompts come; 0: full steps always."},
    {TD_FLAG_AS_DURATION(OPTIONS, hang_ms), .name = "hang-time", .fallback = "0",
     .max = 24 * HOUR_MS,
     .help = "A step, or a turn or the end of the KV transfers, that runs longer ends the process, "
             "with status 3, so that its supervisor starts it again: a GPU that hangs does not "
             "come back. 0: twice --step-time on a GPU, never on a CPU."},
    {TD_FLAG_AS_UINT32(OPTIONS, sequences_max), .name = "sequences-max", .fallback = "64", .min = 1,
     .max = 4096, .help = "Sequences in one batch."},
    {TD_FLAG_AS_UINT32(OPTIONS, waiting_max), .name = "waiting-max", .fallback = "1024", .min = 1,
     .max = 1000000, .help = "Requests that may wait for a place in the batch."},
};

static const struct td_flag handover[] = {
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_transport), .name = "kv-transport", .choices = transports,
     .help = "How KV travels between workers: auto is map between processes of one host and ucx "
             "otherwise; nccl is for GPUs, and must be said to both."},
    {TD_FLAG_AS_BOOL(OPTIONS, ucx_shm), .name = "ucx-shm", .fallback = "true",
     .help = "UCX may use shared memory to peers on this host."},
    {TD_FLAG_AS_BOOL(OPTIONS, ucx_tcp), .name = "ucx-tcp", .fallback = "true",
     .help = "UCX may use TCP."},
    {TD_FLAG_AS_TEXT(OPTIONS, ucx_interface), .name = "ucx-interface", .value = "NAMES",
     .fallback = "lo",
     .help = "Network devices for UCX over TCP, by commas: eth0. Those of nccl's own connections, "
             "too."},
    {TD_FLAG_AS_UINT32(OPTIONS, import_tokens_min), .name = "import-tokens-min", .fallback = "1",
     .min = 1, .max = 1000000,
     .help =
         "Shorter prompts are never prefilled elsewhere, whatever the scheduler says (decode)."},
};

#define LEASE_MS_MIN 100 /* a prefill worker grants no less; the asker renews three times in it */

static const struct td_flag times[] = {
#define X(member, flag, count, unit, text)             \
    {TD_FLAG_AS_DURATION(struct worker_times, member), \
     .name = (flag),                                   \
     .fallback = #count #unit,                         \
     .min = 1,                                         \
     .max = 24 * HOUR_MS,                              \
     .help = (text)},
    WORKER_TIMES_MAP(X)
#undef X
};

static const struct td_flag counts[] = {
#define X(member, flag, value_, max_, text)           \
    {TD_FLAG_AS_UINT32(struct worker_counts, member), \
     .name = (flag),                                  \
     .fallback = #value_,                             \
     .min = 1,                                        \
     .max = (max_),                                   \
     .help = (text)},
    WORKER_COUNTS_MAP(X)
#undef X
};

#define TABLE(title, rows, target)                                                  \
    (struct td_flag_table)                                                          \
    {                                                                               \
        .group = (title), .flags = (rows), .count = sizeof(rows) / sizeof(rows)[0], \
        .options = (target),                                                        \
    }

void worker_option_tables(struct worker_options *options,
                          struct td_flag_table tables_out[static WORKER_TABLES])
{
    tables_out[0] = TABLE("Serving", serving, options);
    tables_out[1] = TABLE("Engine", engine, options);
    tables_out[2] = TABLE("KV hand-over", handover, options);
    tables_out[3] = TABLE("Times", times, &options->times);
    tables_out[4] = TABLE("Limits", counts, &options->counts);
}

/* --- what the ranges cannot say --- */

/* HOST:PORT or unix:/PATH that somebody can connect to: a port of 0 is for listening only. */
static bool is_target(const char *text)
{
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;

    if (net_address_is_unix(text))
        return text[strlen("unix:")] != '\0';
    return net_address_split(text, host, &port, NULL) == TD_OK && port != 0;
}

/* Every interface at once: good for listening, no address for others. */
static bool is_wildcard(const char *address)
{
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;

    return !net_address_is_unix(address) &&
           net_address_split(address, host, &port, NULL) == TD_OK &&
           (strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0);
}

static td_status_t check_advertise(const struct worker_options *options, struct td_error *error)
{
    const char *advertise = options->advertise;

    if (advertise == NULL && options->schedulers.count > 0 && is_wildcard(options->listen))
        return td_fail(error, TD_INVALID,
                       "--listen %.100s is every interface and no address for others to dial: "
                       "give them one with --advertise",
                       options->listen);
    if (advertise == NULL)
        return TD_OK;
    if (!is_target(advertise) || is_wildcard(advertise))
        return td_fail(error, TD_INVALID,
                       "--advertise '%.100s': neither HOST:PORT of one host nor unix:/PATH",
                       advertise);
    if (strlen(advertise) >= WORKER_TARGET_BYTES)
        return td_fail(error, TD_INVALID, "--advertise: longer than %d bytes",
                       WORKER_TARGET_BYTES - 1);
    return TD_OK;
}

static td_status_t check_schedulers(const struct worker_options *options, struct td_error *error)
{
    const struct td_flag_list *schedulers = &options->schedulers;

    if (schedulers->count > options->counts.schedulers_max)
        return td_fail(error, TD_INVALID, "--scheduler: %zu are named, and --schedulers-max is %u",
                       schedulers->count, options->counts.schedulers_max);
    for (size_t i = 0; i < schedulers->count; i++)
        if (!is_target(schedulers->items[i]))
            return td_fail(error, TD_INVALID,
                           "--scheduler '%.100s': neither HOST:PORT nor unix:/PATH",
                           schedulers->items[i]);
    return TD_OK;
}

static td_status_t check_names(const struct td_flag_list *names, struct td_error *error)
{
    if (names->count > WORKER_MODELS_MAX)
        return td_fail(error, TD_INVALID, "--served-model-name: at most %d", WORKER_MODELS_MAX);
    for (size_t i = 0; i < names->count; i++) {
        size_t length = strlen(names->items[i]);

        if (length == 0 || length >= WORKER_MODEL_NAME_BYTES ||
            td_utf8_valid_prefix(names->items[i], length) != length)
            return td_fail(error, TD_INVALID, "--served-model-name: 1 to %d bytes of UTF-8",
                           WORKER_MODEL_NAME_BYTES - 1);
    }
    return TD_OK;
}

/* What was said of --device, and no figure that it would not heed. A place may be said for all workers of a host. */
static td_status_t check_device(const struct worker_options *options, struct td_error *error)
{
    struct cuda_choice choice;
    const char *unheeded = NULL;
    td_status_t status =
        cuda_choice_parse(options->device, options->gpu_memory_fraction, &choice, error);

    if (status == TD_OK && options->fast_variant && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--fast-variant is for --device gpu");
    if (status == TD_OK && options->gpu_weights != CUDA_WEIGHTS_AS_IS && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--gpu-weights is for --device gpu");
    if (status == TD_OK && options->gpu_warpgroups != CUDA_WARPGROUPS_AUTO && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--gpu-warpgroups is for --device gpu");
    if (status == TD_OK && options->gpu_launches != CUDA_LAUNCHES_AUTO && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--gpu-launches is for --device gpu");
    if (status == TD_OK && options->gpu_weights != CUDA_WEIGHTS_AS_IS && options->fast_variant)
        return td_fail(error, TD_INVALID, "--fast-variant is for --gpu-weights as-is");
    if (status == TD_OK && options->kv_transport == WORKER_KV_NCCL && !choice.is_gpu)
        return td_fail(error, TD_INVALID, "--kv-transport nccl is for --device gpu");
    if (status != TD_OK || !choice.is_gpu)
        return status;
    if (options->threads != 0)
        unheeded = "--threads";
    else if (options->numerics != CPU_NUMERICS_INT8)
        unheeded = "--numerics";
    else if (options->kv_dtype != CPU_KV_F16)
        unheeded = "--kv-dtype";
    if (unheeded == NULL)
        return TD_OK;
    return td_fail(error, TD_INVALID, "%s is for --device cpu, and --device %s was said", unheeded,
                   options->device);
}

static td_status_t check_numbers(const struct worker_options *options, struct td_error *error)
{
    if (options->sequences_max > options->step_tokens)
        return td_fail(error, TD_INVALID,
                       "--sequences-max %u: each needs a row of the step, and --step-tokens is %u",
                       options->sequences_max, options->step_tokens);
    if (options->hang_ms != 0 && options->hang_ms <= options->times.step_ms)
        return td_fail(error, TD_INVALID,
                       "--hang-time %llums: must be above --step-time %ums, after which a step "
                       "counts as hanging",
                       (unsigned long long)options->hang_ms, options->times.step_ms);
    if (options->times.lease_ms < LEASE_MS_MIN)
        return td_fail(error, TD_INVALID, "--lease-time %ums: at least %ums",
                       options->times.lease_ms, LEASE_MS_MIN);
    if (options->times.heartbeat_ms >= options->times.stall_ms)
        return td_fail(
            error, TD_INVALID,
            "--heartbeat-time %ums: must be below --stall-time %ums, or whoever computes longer "
            "than that counts as dead",
            options->times.heartbeat_ms, options->times.stall_ms);
    if (options->kv_transport != WORKER_KV_MAP && options->kv_transport != WORKER_KV_NCCL &&
        !options->ucx_shm && !options->ucx_tcp)
        return td_fail(error, TD_INVALID,
                       "--no-ucx-shm and --no-ucx-tcp leave UCX nothing: say --kv-transport map");
    return TD_OK;
}

td_status_t worker_options_check(const struct worker_options *options, struct td_error *error)
{
    td_status_t status = check_advertise(options, error);

    if (status == TD_OK)
        status = check_schedulers(options, error);
    if (status == TD_OK)
        status = check_names(&options->served_names, error);
    if (status == TD_OK)
        status = check_device(options, error);
    return status == TD_OK ? check_numbers(options, error) : status;
}
