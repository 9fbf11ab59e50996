/*
 * metrics.h: counters, gauges and histograms, in Prometheus' text format.
 *
 * A room declares its families in a static table (name, kind, help, labels) and registers series at
 * start: every label value is known by then, so cardinality is bounded by construction. What comes
 * back is a pointer that any thread may update without a lock for as long as the registry lives.
 *
 *     enum { METRIC_REQUESTS, METRIC_TTFT };
 *     static const struct td_metric router_metrics[] = {
 *         [METRIC_REQUESTS] = {.name = "tandem_requests_total", .kind = TD_METRIC_COUNTER,
 *                              .label = "outcome", .help = "Requests by how they ended."},
 *         [METRIC_TTFT] = {.name = "vllm:time_to_first_token_seconds", .kind = TD_METRIC_HISTOGRAM,
 *                          .bounds = td_metric_latency_ns, .unit = 1e9, .help = "..."},
 *     };
 *     ok = td_metrics_counter(metrics, &router_metrics[METRIC_REQUESTS], "ok");
 *     td_counter_add(ok, 1);
 *
 * Values are integers in the unit in which the code counts (nanoseconds, bytes, tokens); unit says
 * by how much to divide them when they are shown. Registering and rendering are done by one thread;
 * series may be added later by that thread.
 */
#ifndef TANDEM_LIB_BASE_METRICS_H
#define TANDEM_LIB_BASE_METRICS_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/status.h"

/* The content type of what td_metrics_render writes. */
#define TD_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

#define TD_METRIC_BOUNDS_MAX 32

enum td_metric_kind {
    TD_METRIC_COUNTER = 1, /* only rises; the name ends in _total by convention */
    TD_METRIC_GAUGE,
    TD_METRIC_HISTOGRAM,
};

/* A family: one name, one meaning. Static. */
struct td_metric {
    const char *name; /* [a-zA-Z_:][a-zA-Z0-9_:]* */
    enum td_metric_kind kind;
    const char *label;      /* name of the label that tells series apart; NULL: one series */
    const uint64_t *bounds; /* histograms: rising upper bounds, ended by 0 */
    double unit;            /* shown value = counted value / unit; 0: as it is */
    const char *help;
};

struct td_counter {
    _Atomic uint64_t value;
};

struct td_gauge {
    _Atomic int64_t value;
};

struct td_histogram {
    const uint64_t *bounds;
    _Atomic uint64_t sum;
    _Atomic uint64_t
        counts[TD_METRIC_BOUNDS_MAX + 1]; /* by bucket, the last one beyond all bounds */
};

struct td_metrics;

/* Bounds from 1 ms to 60 s in nanoseconds, for latencies as users feel them. */
extern const uint64_t td_metric_latency_ns[];

/*
 * A registry for at most series_max series, all allocated here (TD_NO_MEMORY). All series also carry
 * the constant label name="value", if label_name is not NULL (vLLM's model_name); both are copied.
 */
td_status_t td_metrics_new(size_t series_max, const char *label_name, const char *label_value,
                           struct td_metrics **metrics_out) TD_MUST_USE;

/* Frees the registry and all its series. */
void td_metrics_free(struct td_metrics *metrics);

/*
 * Registers one series of a family. label_value is copied and cut to 127 bytes; NULL where the family
 * has no label. A repeated registration gives the same series. Cannot fail: more series than
 * series_max, or two families of one name, are programmer errors.
 */
struct td_counter *td_metrics_counter(struct td_metrics *metrics, const struct td_metric *family,
                                      const char *label_value);
struct td_gauge *td_metrics_gauge(struct td_metrics *metrics, const struct td_metric *family,
                                  const char *label_value);
struct td_histogram *td_metrics_histogram(struct td_metrics *metrics,
                                          const struct td_metric *family, const char *label_value);

/* A gauge or counter whose value is asked for, by the rendering thread, when it is shown. */
typedef double (*td_metric_read_fn)(void *context);
void td_metrics_callback(struct td_metrics *metrics, const struct td_metric *family,
                         const char *label_value, td_metric_read_fn read, void *context);

/* Any thread. */
static inline void td_counter_add(struct td_counter *counter, uint64_t count)
{
    atomic_fetch_add_explicit(&counter->value, count, memory_order_relaxed);
}

static inline void td_gauge_set(struct td_gauge *gauge, int64_t value)
{
    atomic_store_explicit(&gauge->value, value, memory_order_relaxed);
}

static inline void td_gauge_add(struct td_gauge *gauge, int64_t change)
{
    atomic_fetch_add_explicit(&gauge->value, change, memory_order_relaxed);
}

void td_histogram_observe(struct td_histogram *histogram, uint64_t value);

/* Appends all series in the text exposition format, families in the order of registration. */
void td_metrics_render(const struct td_metrics *metrics, struct td_buf *out);

/* Appends a Markdown table of families, for docs/operations.md. */
void td_metrics_print_markdown(const struct td_metric *families, size_t count, struct td_buf *out);

#endif
