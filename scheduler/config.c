/* config.c: defaults with their reasons, and the check, see config.h. */
#include "scheduler/config.h"

#define INDEX_BYTES_MIN   ((size_t)64 << 10)
#define INDEX_BYTES_MAX   ((size_t)64 << 30)
#define OUTPUT_TOKENS_MAX (UINT32_C(1) << 20)

struct sched_config sched_config_default(void)
{
    return (struct sched_config){
        .index_bytes_max = (size_t)64 << 20, /* 1.1 million keys, 17 million tokens */
        .load_interval_ms = 500,
        .register_ms = 10000,
        /* Six reports. A worker on a busy host is late by one or two, and staleness only parks it. */
        .stale_ms = 3000,
        .gone_ms = 60000,
        .grace_ms = 5000,
        .fleet_delay_ms = 20,
        .answer_ms = 5000,
        .retry_ms = 1000,
        .retry_max_ms = 10000,
        .snapshots_max = 32,
        /*
         * Two blocks. Below that at most one full block would cross, and the ask costs more than
         * the prompt: on a CPU 32 tokens are tens of milliseconds that every running answer would
         * wait, on a GPU they ride along in a decode step and a higher value is right.
         */
        .remote_tokens_min = 32,
        .prefill_wait_max_ms = 2000,
        .frozen_ms = 5000,
        .guess_ms = 3000,
        .output_tokens_mean = 256,
        .prefill_tokens_per_s = 1000,
        .decode_step_us = 20000,
        .warm_ms = 3000,
    };
}

static td_status_t check_positive(const struct sched_config *config, struct td_error *error)
{
    const struct {
        const char *name;
        uint32_t value;
    } positive[] = {
        {"load_interval_ms", config->load_interval_ms},
        {"register_ms", config->register_ms},
        {"gone_ms", config->gone_ms},
        {"grace_ms", config->grace_ms},
        {"answer_ms", config->answer_ms},
        {"retry_ms", config->retry_ms},
        {"snapshots_max", config->snapshots_max},
        {"frozen_ms", config->frozen_ms},
        {"guess_ms", config->guess_ms},
        {"output_tokens_mean", config->output_tokens_mean},
        {"prefill_tokens_per_s", config->prefill_tokens_per_s},
        {"decode_step_us", config->decode_step_us},
    };

    for (size_t i = 0; i < sizeof positive / sizeof positive[0]; i++)
        if (positive[i].value == 0)
            return td_fail(error, TD_INVALID, "%s must not be 0", positive[i].name);
    return TD_OK;
}

td_status_t sched_config_check(const struct sched_config *config, struct td_error *error)
{
    if (config->epoch == 0)
        return td_fail(error, TD_INVALID, "epoch must not be 0");
    if (config->index_bytes_max < INDEX_BYTES_MIN || config->index_bytes_max > INDEX_BYTES_MAX)
        return td_fail(error, TD_INVALID, "index_bytes_max %zu is not within %zu to %zu",
                       config->index_bytes_max, INDEX_BYTES_MIN, INDEX_BYTES_MAX);
    if (config->stale_ms <= config->load_interval_ms)
        return td_fail(error, TD_INVALID, "stale_ms %u must be longer than load_interval_ms %u",
                       config->stale_ms, config->load_interval_ms);
    if (config->retry_max_ms < config->retry_ms)
        return td_fail(error, TD_INVALID, "retry_max_ms %u is less than retry_ms %u",
                       config->retry_max_ms, config->retry_ms);
    if (config->output_tokens_mean > OUTPUT_TOKENS_MAX)
        return td_fail(error, TD_INVALID, "output_tokens_mean %u is more than %u",
                       config->output_tokens_mean, OUTPUT_TOKENS_MAX);
    return check_positive(config, error);
}
