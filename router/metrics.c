/* metrics.c: the rows, see metrics.h. */
#include "router/metrics.h"

#include <stdlib.h>

#include "router/runtime_internal.h"

/* name, help. */
#define GAUGES_MAP(X)                                                                 \
    X(queued, "Requests waiting for capacity.")                                       \
    X(running, "Requests handed to workers, canceled and unconfirmed ones included.") \
    X(links, "Streams to workers, those being opened included.")                      \
    X(workers, "Workers that schedulers know.")                                       \
    X(workers_ready, "Of those, workers that take requests.")                         \
    X(schedulers_connected, "Schedulers that tell the fleet.")                        \
    X(ready, "1 if a request could be answered now.")

#define COUNTERS_MAP(X)               \
    ROUTER_COUNTERS_MAP(X)            \
    ROUTER_SCHEDULERS_COUNTERS_MAP(X) \
    ROUTER_TEXTS_COUNTERS_MAP(X)

/* Everything that is shown, taken at one moment. */
struct figures {
#define X(name, text) uint64_t name;
    GAUGES_MAP(X)
    COUNTERS_MAP(X)
#undef X
};

struct router_metrics {
    struct router_runtime *runtime;
    struct td_metrics *registry;
    struct td_histogram *lag;
    struct figures figures;
};

enum {
#define X(name, text) FIGURE_##name,
    GAUGES_MAP(X) COUNTERS_MAP(X)
#undef X
        FIGURE_COUNT,
    FAMILY_LAG = FIGURE_COUNT,
    FAMILY_COUNT,
};

static const struct td_metric families[FAMILY_COUNT] = {
#define X(name_, text) \
    [FIGURE_##name_] = {.name = "tandem_router_" #name_, .kind = TD_METRIC_GAUGE, .help = (text)},
    GAUGES_MAP(X)
#undef X
#define X(name_, text)   \
    [FIGURE_##name_] = { \
        .name = "tandem_router_" #name_ "_total", .kind = TD_METRIC_COUNTER, .help = (text)},
        COUNTERS_MAP(X)
#undef X
            [FAMILY_LAG] =
                {.name = "tandem_router_loop_lag_seconds",
                 .kind = TD_METRIC_HISTOGRAM,
                 .bounds = td_metric_latency_ns,
                 .unit = 1e9,
                 .help = "How late a timer of the event loop came, looked at four times a second."},
};

static const size_t offsets[FIGURE_COUNT] = {
#define X(name, text) [FIGURE_##name] = offsetof(struct figures, name),
    GAUGES_MAP(X) COUNTERS_MAP(X)
#undef X
};

static double read_figure(void *figure)
{
    return (double)*(const uint64_t *)figure;
}

td_status_t router_metrics_open(struct router_runtime *runtime, struct router_metrics **metrics_out)
{
    struct router_metrics *metrics = calloc(1, sizeof *metrics);
    td_status_t status;

    if (metrics == NULL)
        return TD_NO_MEMORY;
    metrics->runtime = runtime;
    status = td_metrics_new(FAMILY_COUNT, NULL, NULL, &metrics->registry);
    if (status != TD_OK) {
        free(metrics);
        return status;
    }
    for (size_t i = 0; i < FIGURE_COUNT; i++)
        td_metrics_callback(metrics->registry, &families[i], NULL, read_figure,
                            (char *)&metrics->figures + offsets[i]);
    metrics->lag = td_metrics_histogram(metrics->registry, &families[FAMILY_LAG], NULL);
    *metrics_out = metrics;
    return TD_OK;
}

void router_metrics_close(struct router_metrics *metrics)
{
    if (metrics == NULL)
        return;
    td_metrics_free(metrics->registry);
    free(metrics);
}

void router_metrics_lag(struct router_metrics *metrics, uint64_t lag_ns)
{
    td_histogram_observe(metrics->lag, lag_ns);
}

static void take_figures(struct router_runtime *runtime, struct figures *figures)
{
    const struct router_counters *core = router_core_counters(runtime->core);
    const struct router_schedulers_counters *schedulers =
        router_schedulers_counters(runtime->schedulers);
    const struct router_texts_counters *texts = router_texts_counters(runtime->texts);
    struct router_gauges gauges;
    char why[128];

    router_core_gauges(runtime->core, &gauges);
    figures->queued = gauges.queued;
    figures->running = gauges.running;
    figures->links = gauges.links;
    figures->workers = gauges.workers;
    figures->workers_ready = gauges.workers_ready;
    figures->schedulers_connected = router_schedulers_connected(runtime->schedulers);
    figures->ready = router_is_ready(runtime, why, sizeof why) ? 1 : 0;
#define X(name, text) figures->name = core->name;
    ROUTER_COUNTERS_MAP(X)
#undef X
#define X(name, text) figures->name = schedulers->name;
    ROUTER_SCHEDULERS_COUNTERS_MAP(X)
#undef X
#define X(name, text) figures->name = texts->name;
    ROUTER_TEXTS_COUNTERS_MAP(X)
#undef X
}

void router_metrics_render(struct router_metrics *metrics, struct td_buf *out)
{
    take_figures(metrics->runtime, &metrics->figures);
    td_metrics_render(metrics->registry, out);
}

void router_metrics_print_markdown(struct td_buf *out)
{
    td_metrics_print_markdown(families, FAMILY_COUNT, out);
}
