/*
 * metrics.h: what /metrics of the scheduler shows: one row per series, read when it is asked for.
 *
 * The core counts; this table says how each count is called. docs/scheduler.md has the same table.
 */
#ifndef TANDEM_SCHEDULER_METRICS_H
#define TANDEM_SCHEDULER_METRICS_H

#include "lib/base/metrics.h"
#include "scheduler/service.h"

struct sched_metrics;

/* The service must live as long. TD_NO_MEMORY. */
td_status_t sched_metrics_open(struct sched_service *service,
                               struct sched_metrics **metrics_out) TD_MUST_USE;

/* The service no longer measures afterwards. NULL is allowed. */
void sched_metrics_close(struct sched_metrics *metrics);

/* A timer of the loop came so much later than it was due. */
void sched_metrics_lag(struct sched_metrics *metrics, uint64_t lag_ns);

/* Appends all series, as of now. */
void sched_metrics_render(struct sched_metrics *metrics, struct td_buf *out);

/* Appends the table of families for the documentation. */
void sched_metrics_print_markdown(struct td_buf *out);

#endif
