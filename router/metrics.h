/*
 * metrics.h: what /metrics of the router shows beyond the front's: one row per series, read when asked for.
 *
 * The core, the schedulers and the tokenizers count; their tables say how each count is called.
 */
#ifndef TANDEM_ROUTER_METRICS_H
#define TANDEM_ROUTER_METRICS_H

#include "lib/base/metrics.h"

struct router_runtime;
struct router_metrics;

/* The runtime's parts are open and live as long. TD_NO_MEMORY. */
td_status_t router_metrics_open(struct router_runtime *runtime,
                                struct router_metrics **metrics_out) TD_MUST_USE;
/* NULL is allowed. */
void router_metrics_close(struct router_metrics *metrics);

/* A timer of the loop came so much later than it was due. */
void router_metrics_lag(struct router_metrics *metrics, uint64_t lag_ns);

/* Appends all series, as of now. */
void router_metrics_render(struct router_metrics *metrics, struct td_buf *out);

/* Appends the table of families for the documentation. */
void router_metrics_print_markdown(struct td_buf *out);

#endif
