/* options.c: the flags of the worker binaries, see options.h. */
#include "worker/options.h"

#define OPTIONS struct worker_options
#define MiB     ((int64_t)1 << 20)
#define GiB     ((int64_t)1 << 30)

static const char *const transports[] = {"auto", "ucx", "map", NULL};

static const struct td_flag serving[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, model), .name = "model", .value = "FILE",
     .help = "The model, a GGUF file; may also be given as the only word without a flag."},
    {TD_FLAG_AS_LIST(OPTIONS, served_names), .name = "served-model-name", .value = "NAME",
     .help =
         "Names by which clients ask for the model, the first is shown. Default: the file's name "
         "without its ending."},
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
};

static const struct td_flag engine[] = {
    {TD_FLAG_AS_UINT32(OPTIONS, threads), .name = "threads", .min = 0, .max = 256,
     .help = "Compute threads; 0: as many as this process may use cores."},
    {TD_FLAG_AS_BYTES(OPTIONS, kv_bytes), .name = "kv-bytes", .fallback = "512MiB", .min = MiB,
     .max = 1024 * GiB, .help = "Memory of the KV block pool."},
    {TD_FLAG_AS_UINT32(OPTIONS, block_tokens), .name = "block-tokens", .fallback = "16", .min = 16,
     .max = 256, .help = "Tokens of a KV block: 16, 32, 64, 128 or 256; equal on all workers."},
    {TD_FLAG_AS_UINT32(OPTIONS, step_tokens), .name = "step-tokens", .fallback = "512", .min = 16,
     .max = 16384, .help = "Rows of one batch step: how much prefill may hold up decoding."},
    {TD_FLAG_AS_UINT32(OPTIONS, sequences_max), .name = "sequences-max", .fallback = "64", .min = 1,
     .max = 4096, .help = "Sequences in one batch."},
    {TD_FLAG_AS_UINT32(OPTIONS, waiting_max), .name = "waiting-max", .fallback = "1024", .min = 1,
     .max = 1000000, .help = "Requests that may wait for a place in the batch."},
};

static const struct td_flag handover[] = {
    {TD_FLAG_AS_CHOICE(OPTIONS, kv_transport), .name = "kv-transport", .choices = transports,
     .help = "How KV travels between workers: auto is map between processes of one host and ucx "
             "otherwise."},
    {TD_FLAG_AS_BOOL(OPTIONS, ucx_shm), .name = "ucx-shm", .fallback = "true",
     .help = "UCX may use shared memory to peers on this host."},
    {TD_FLAG_AS_BOOL(OPTIONS, ucx_tcp), .name = "ucx-tcp", .fallback = "true",
     .help = "UCX may use TCP."},
    {TD_FLAG_AS_TEXT(OPTIONS, ucx_interface), .name = "ucx-interface", .value = "NAMES",
     .fallback = "lo", .help = "Network devices for UCX over TCP, by commas: eth0."},
    {TD_FLAG_AS_UINT32(OPTIONS, import_tokens_min), .name = "import-tokens-min", .fallback = "1",
     .min = 1, .max = 1000000,
     .help =
         "Shorter prompts are never prefilled elsewhere, whatever the scheduler says (decode)."},
};

#define HOUR_MS 3600000

static const struct td_flag times[] = {
#define X(member, flag_name, value, text)                               \
    {TD_FLAG_AT(struct worker_times, member, TD_FLAG_UINT32, uint32_t), \
     .name = flag_name,                                                 \
     .fallback = #value,                                                \
     .min = 1,                                                          \
     .max = 24 * HOUR_MS,                                               \
     .help = "Milliseconds in which " text "."},
    WORKER_TIMES_MAP(X)
#undef X
};

static const struct td_flag counts[] = {
#define X(member, flag_name, value, text)                                \
    {TD_FLAG_AT(struct worker_counts, member, TD_FLAG_UINT32, uint32_t), \
     .name = flag_name,                                                  \
     .fallback = #value,                                                 \
     .min = 1,                                                           \
     .max = 1000000,                                                     \
     .help = "At most so many " text "."},
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
