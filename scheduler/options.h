/*
 * options.h: the flags of tandem-scheduler, one table that also makes the help and the documentation.
 */
#ifndef TANDEM_SCHEDULER_OPTIONS_H
#define TANDEM_SCHEDULER_OPTIONS_H

#include <stdint.h>

#include "lib/base/flags.h"
#include "scheduler/config.h"

#define SCHED_TABLES 4

/* As flags have them: durations and sizes in 64 bits. See config.h for what each is. */
struct sched_options {
    const char *listen;
    const char *http_listen;
    uint64_t index_bytes;
    uint32_t load_interval_ms;
    uint32_t register_ms;
    uint32_t stale_ms;
    uint32_t gone_ms;
    uint32_t grace_ms;
    uint32_t fleet_delay_ms;
    uint32_t snapshot_answer_ms;
    uint32_t snapshot_retry_ms;
    uint32_t snapshot_retry_max_ms;
    uint32_t snapshots_max;
    uint32_t remote_tokens_min;
    uint32_t prefill_wait_max_ms;
    uint32_t frozen_ms;
    uint32_t guess_ms;
    uint32_t output_tokens_mean;
    uint32_t prefill_tokens_per_s;
    uint32_t decode_step_us;
    uint32_t warm_ms;
};

/* The groups: listening, workers, prefix index, placement. */
void sched_options_tables(struct sched_options *options,
                          struct td_flag_table tables_out[static SCHED_TABLES]);

/* What no single flag's range can say. TD_INVALID with the names of the flags. */
td_status_t sched_options_check(const struct sched_options *options,
                                struct td_error *error) TD_MUST_USE;

/* The core's numbers; epoch and index_seed stay 0. */
struct sched_config sched_options_config(const struct sched_options *options);

#endif
