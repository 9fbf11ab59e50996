/* options.c: the tables, see options.h. The reasons for the defaults are in config.c. */
#include "scheduler/options.h"

#define HOUR_MS ((int64_t)3600 * 1000)
#define MIB     ((int64_t)1 << 20)

#define OPTIONS struct sched_options

static const struct td_flag listening[] = {
    {TD_FLAG_AS_TEXT(OPTIONS, listen), .name = "listen", .value = "ADDR",
     .fallback = "127.0.0.1:7100",
     .help = "Where workers and routers reach the scheduler: host:port or unix:/path. Beyond this "
             "host it wants --certs or --insecure."},
    {TD_FLAG_AS_TEXT(OPTIONS, http_listen), .name = "http-listen", .value = "ADDR",
     .fallback = "127.0.0.1:7180", .help = "Where /health, /ready, /metrics and /fleet are."},
};

static const struct td_flag workers[] = {
    {TD_FLAG_AS_DURATION(OPTIONS, load_interval_ms), .name = "load-interval", .fallback = "500ms",
     .min = 10, .max = 60000, .help = "How often every worker reports its load."},
    {TD_FLAG_AS_DURATION(OPTIONS, register_ms), .name = "register-timeout", .fallback = "10s",
     .min = 100, .max = HOUR_MS,
     .help = "A stream whose peer has not said who it is by then is closed."},
    {TD_FLAG_AS_DURATION(OPTIONS, stale_ms), .name = "stale-after", .fallback = "3s", .min = 50,
     .max = HOUR_MS,
     .help = "A worker without a report for so long gets nothing new. Must be longer than "
             "--load-interval; several times as long, or a busy host looks like a dead one."},
    {TD_FLAG_AS_DURATION(OPTIONS, gone_ms), .name = "gone-after", .fallback = "60s", .min = 100,
     .max = 24 * HOUR_MS,
     .help = "A worker that has been stale for so long is dropped and its stream closed; if it "
             "lives it registers again."},
    {TD_FLAG_AS_DURATION(OPTIONS, grace_ms), .name = "worker-grace", .fallback = "5s", .min = 10,
     .max = HOUR_MS,
     .help = "A worker whose stream broke is remembered for so long, its cache included."},
    {TD_FLAG_AS_DURATION(OPTIONS, fleet_delay_ms), .name = "fleet-delay", .fallback = "20ms",
     .min = 0, .max = 10000,
     .help = "Changes of the fleet are collected for so long before routers are told."},
};

static const struct td_flag prefix_index[] = {
    {TD_FLAG_AS_BYTES(OPTIONS, index_bytes), .name = "index-bytes", .fallback = "64MiB",
     .min = 64 << 10, .max = 65536 * MIB,
     .help = "Fixed memory of the prefix index. 60 bytes per block that any worker caches: 64MiB "
             "hold 1.1 million blocks, 17 million tokens in blocks of 16."},
    {TD_FLAG_AS_DURATION(OPTIONS, snapshot_answer_ms), .name = "snapshot-timeout", .fallback = "5s",
     .min = 10, .max = HOUR_MS,
     .help = "A snapshot of a worker's cache begins, and goes on from part to part, within this."},
    {TD_FLAG_AS_DURATION(OPTIONS, snapshot_retry_ms), .name = "snapshot-retry", .fallback = "1s",
     .min = 10, .max = HOUR_MS,
     .help = "Pause before a snapshot is asked for again; doubles from one to the next."},
    {TD_FLAG_AS_DURATION(OPTIONS, snapshot_retry_max_ms), .name = "snapshot-retry-max",
     .fallback = "10s", .min = 10, .max = HOUR_MS, .help = "Where that doubling ends."},
    {TD_FLAG_AS_UINT32(OPTIONS, snapshots_max), .name = "snapshots-max", .fallback = "32", .min = 1,
     .max = SCHED_WORKERS_MAX, .help = "Snapshots asked for at the same time."},
};

static const struct td_flag placement[] = {
    {TD_FLAG_AS_UINT32(OPTIONS, remote_tokens_min), .name = "remote-tokens-min", .fallback = "32",
     .min = 0, .max = INT32_MAX,
     .help = "A prompt with fewer tokens that the decode worker has not cached is prefilled there; "
             "from this number on a prefill worker is asked."},
    {TD_FLAG_AS_DURATION(OPTIONS, prefill_wait_max_ms), .name = "prefill-wait-max",
     .fallback = "2s", .min = 0, .max = HOUR_MS,
     .help = "A prefill worker with a longer queue is passed over."},
    {TD_FLAG_AS_DURATION(OPTIONS, frozen_ms), .name = "frozen-after", .fallback = "5s", .min = 10,
     .max = HOUR_MS,
     .help = "A worker that has work and finished no step for so long gets nothing new."},
    {TD_FLAG_AS_DURATION(OPTIONS, guess_ms), .name = "guess-timeout", .fallback = "3s", .min = 10,
     .max = HOUR_MS,
     .help = "A placement that its worker has not admitted by then is no longer counted as load."},
    {TD_FLAG_AS_UINT32(OPTIONS, output_tokens_mean), .name = "output-tokens-mean",
     .fallback = "256", .min = 1, .max = 1 << 20,
     .help = "How long an answer is taken to be when costs are compared."},
    {TD_FLAG_AS_UINT32(OPTIONS, prefill_tokens_per_s), .name = "prefill-tokens-per-s",
     .fallback = "1000", .min = 1, .max = INT32_MAX,
     .help = "Assumed prefill speed until some worker has measured its own."},
    {TD_FLAG_AS_UINT32(OPTIONS, decode_step_us), .name = "decode-step-us", .fallback = "20000",
     .min = 1, .max = INT32_MAX,
     .help = "Assumed duration of a decode step, in microseconds, until some worker has measured."},
    {TD_FLAG_AS_DURATION(OPTIONS, warm_ms), .name = "warm-time", .fallback = "3s", .min = 0,
     .max = HOUR_MS,
     .help = "For so long after the start an unknown model is answered with \"try again\", because "
             "its workers may not have registered yet."},
};

#define COUNT(array) (sizeof(array) / sizeof(array)[0])

void sched_options_tables(struct sched_options *options,
                          struct td_flag_table tables_out[static SCHED_TABLES])
{
    const struct td_flag_table tables[SCHED_TABLES] = {
        {"Listening", listening, COUNT(listening), options},
        {"Workers", workers, COUNT(workers), options},
        {"Prefix index", prefix_index, COUNT(prefix_index), options},
        {"Placement", placement, COUNT(placement), options},
    };

    for (int i = 0; i < SCHED_TABLES; i++)
        tables_out[i] = tables[i];
}

td_status_t sched_options_check(const struct sched_options *options, struct td_error *error)
{
    if (options->stale_ms <= options->load_interval_ms)
        return td_fail(error, TD_INVALID, "--stale-after must be longer than --load-interval");
    if (options->snapshot_retry_max_ms < options->snapshot_retry_ms)
        return td_fail(error, TD_INVALID,
                       "--snapshot-retry-max must not be shorter than --snapshot-retry");
    return TD_OK;
}

struct sched_config sched_options_config(const struct sched_options *options)
{
    /* every duration fits: the tables end at a day */
    return (struct sched_config){
        .index_bytes_max = options->index_bytes,
        .load_interval_ms = options->load_interval_ms,
        .register_ms = options->register_ms,
        .stale_ms = options->stale_ms,
        .gone_ms = options->gone_ms,
        .grace_ms = options->grace_ms,
        .fleet_delay_ms = options->fleet_delay_ms,
        .answer_ms = options->snapshot_answer_ms,
        .retry_ms = options->snapshot_retry_ms,
        .retry_max_ms = options->snapshot_retry_max_ms,
        .snapshots_max = options->snapshots_max,
        .remote_tokens_min = options->remote_tokens_min,
        .prefill_wait_max_ms = options->prefill_wait_max_ms,
        .frozen_ms = options->frozen_ms,
        .guess_ms = options->guess_ms,
        .output_tokens_mean = options->output_tokens_mean,
        .prefill_tokens_per_s = options->prefill_tokens_per_s,
        .decode_step_us = options->decode_step_us,
        .warm_ms = options->warm_ms,
    };
}
