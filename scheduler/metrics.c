/* metrics.c: the rows, see metrics.h. */
#include "scheduler/metrics.h"

#include <stdlib.h>

/* Everything that is shown, taken at one moment. */
struct figures {
    struct sched_stats core;
    struct sched_feed_stats feed;
    uint64_t workers[SCHED_WORKER_STATE_COUNT];
    uint64_t ready_prefill;
    uint64_t ready_decode;
    uint64_t feeds[SCHED_FEED_STATE_COUNT];
    uint64_t guesses;
    uint64_t streams;
    uint64_t routers;
    uint64_t index_bytes;
    uint64_t index_entries;
    uint64_t index_entries_max;
    uint64_t index_evictions;
    uint64_t index_refused;
};

struct sched_metrics {
    struct sched_service *service;
    struct td_metrics *registry;
    struct td_histogram *lag_ns;
    struct figures figures;
};

enum {
    WORKERS,
    READY,
    FEEDS,
    STREAMS,
    ROUTERS,
    GUESSES,
    PLACEMENTS,
    PROMPT_TOKENS,
    MATCHED_TOKENS,
    INDEX_BYTES,
    INDEX_ENTRIES,
    INDEX_ENTRIES_MAX,
    INDEX_EVICTIONS,
    REGISTRATIONS,
    REPLACED,
    STALE,
    VIOLATIONS,
    REPORTS,
    UNKNOWN_KINDS,
    EVENTS,
    GAPS,
    MISMATCHES,
    SNAPSHOTS,
    STRAYS,
    REFUSED_KEYS,
    PLACE_SECONDS,
    LAG_SECONDS,
    FAMILY_COUNT,
};

/* Placing is microseconds; what is slower is a loop that was busy with a message. */
static const uint64_t place_bounds[] = {10000,   25000,   50000,    100000,   250000,    500000,
                                        1000000, 2500000, 10000000, 50000000, 250000000, 0};

#define GAUGE(name_, label_, help_)                                                                \
    {                                                                                              \
        .name = "tandem_scheduler_" name_, .kind = TD_METRIC_GAUGE, .label = label_, .help = help_ \
    }
#define COUNTER(name_, label_, help_)                                                           \
    {                                                                                           \
        .name = "tandem_scheduler_" name_ "_total", .kind = TD_METRIC_COUNTER, .label = label_, \
        .help = help_                                                                           \
    }

static const struct td_metric families[FAMILY_COUNT] = {
    [WORKERS] = GAUGE("workers", "state", "Workers by the state that the scheduler sees them in."),
    [READY] = GAUGE("workers_ready", "role", "Workers that take requests, by role."),
    [FEEDS] = GAUGE("caches", "state",
                    "Workers by what is known of their prefix cache; current is the good one."),
    [STREAMS] = GAUGE("streams", NULL, "Open streams of workers and routers."),
    [ROUTERS] = GAUGE("routers", NULL, "Routers that watch the fleet."),
    [GUESSES] =
        GAUGE("guesses", NULL, "Placements that their workers have not yet said to have admitted."),
    [PLACEMENTS] = COUNTER("placements", "kind",
                           "Requests to place: remote (a prefill worker is to be asked), local "
                           "(the decode worker prefills), alone (a prefill worker serves), nowhere "
                           "(no worker for it), malformed."),
    [PROMPT_TOKENS] = COUNTER("prompt_tokens", NULL, "Prompt tokens of placed requests."),
    [MATCHED_TOKENS] =
        COUNTER("matched_tokens", NULL,
                "Of those, tokens that the serving worker was believed to have cached."),
    [INDEX_BYTES] = GAUGE("index_bytes", NULL, "Memory of the prefix index; fixed."),
    [INDEX_ENTRIES] = GAUGE("index_entries", NULL, "Block keys in the prefix index."),
    [INDEX_ENTRIES_MAX] = GAUGE("index_entries_max", NULL, "Block keys that fit."),
    [INDEX_EVICTIONS] =
        COUNTER("index_evictions", NULL, "Keys dropped because the index was full."),
    [REGISTRATIONS] = COUNTER("registrations", NULL, "Registrations of workers taken in."),
    [REPLACED] = COUNTER("workers_replaced", NULL,
                         "Workers that came back at their address as new processes."),
    [STALE] = COUNTER("workers_stale", NULL, "Times that a worker fell silent."),
    [VIOLATIONS] =
        COUNTER("violations", NULL, "Streams closed because a message broke the protocol."),
    [REPORTS] = COUNTER("load_reports", "outcome", "Load reports: taken, or old and dropped."),
    [UNKNOWN_KINDS] =
        COUNTER("unknown_messages", NULL, "Messages of a newer protocol that were skipped."),
    [EVENTS] = COUNTER("block_events", "outcome",
                       "Messages with changes of a cache: applied, or late and dropped."),
    [GAPS] = COUNTER("block_event_gaps", NULL,
                     "Times that block events were found to be lost; a snapshot mends it."),
    [MISMATCHES] = COUNTER("digest_mismatches", NULL,
                           "Times that a worker's cache differed from what was known of it."),
    [SNAPSHOTS] = COUNTER("snapshots", "outcome", "Snapshots of caches: asked, loaded, failed."),
    [STRAYS] = COUNTER("snapshot_strays", NULL, "Parts of snapshots that nobody waited for."),
    [REFUSED_KEYS] =
        COUNTER("keys_refused", "reason",
                "Keys not taken: a worker named more than it has blocks (blocks), or has its share "
                "of a full index (share)."),
    [PLACE_SECONDS] = {.name = "tandem_scheduler_place_seconds",
                       .kind = TD_METRIC_HISTOGRAM,
                       .bounds = place_bounds,
                       .unit = 1e9,
                       .help = "Time to place one request, on the loop."},
    [LAG_SECONDS] = {.name = "tandem_scheduler_loop_lag_seconds",
                     .kind = TD_METRIC_HISTOGRAM,
                     .bounds = td_metric_latency_ns,
                     .unit = 1e9,
                     .help =
                         "How late a timer of the event loop came, looked at ten times a second."},
};

#define FIGURE(member) offsetof(struct figures, member)

static const struct {
    int family;
    const char *label;
    size_t offset; /* of a uint64_t in struct figures */
} series[] = {
    {WORKERS, "registered", FIGURE(workers[SCHED_WORKER_REGISTERED])},
    {WORKERS, "ready", FIGURE(workers[SCHED_WORKER_READY])},
    {WORKERS, "draining", FIGURE(workers[SCHED_WORKER_DRAINING])},
    {WORKERS, "stale", FIGURE(workers[SCHED_WORKER_STALE])},
    {WORKERS, "lost", FIGURE(workers[SCHED_WORKER_LOST])},
    {READY, "prefill", FIGURE(ready_prefill)},
    {READY, "decode", FIGURE(ready_decode)},
    {FEEDS, "unknown", FIGURE(feeds[SCHED_FEED_UNKNOWN])},
    {FEEDS, "asked", FIGURE(feeds[SCHED_FEED_ASKED])},
    {FEEDS, "loading", FIGURE(feeds[SCHED_FEED_LOADING])},
    {FEEDS, "current", FIGURE(feeds[SCHED_FEED_CURRENT])},
    {STREAMS, NULL, FIGURE(streams)},
    {ROUTERS, NULL, FIGURE(routers)},
    {GUESSES, NULL, FIGURE(guesses)},
    {PLACEMENTS, "remote", FIGURE(core.placed_remote)},
    {PLACEMENTS, "local", FIGURE(core.placed_local)},
    {PLACEMENTS, "alone", FIGURE(core.placed_alone)},
    {PLACEMENTS, "nowhere", FIGURE(core.placed_nowhere)},
    {PLACEMENTS, "malformed", FIGURE(core.place_malformed)},
    {PROMPT_TOKENS, NULL, FIGURE(core.prompt_tokens)},
    {MATCHED_TOKENS, NULL, FIGURE(core.matched_tokens)},
    {INDEX_BYTES, NULL, FIGURE(index_bytes)},
    {INDEX_ENTRIES, NULL, FIGURE(index_entries)},
    {INDEX_ENTRIES_MAX, NULL, FIGURE(index_entries_max)},
    {INDEX_EVICTIONS, NULL, FIGURE(index_evictions)},
    {REGISTRATIONS, NULL, FIGURE(core.registrations)},
    {REPLACED, NULL, FIGURE(core.replaced)},
    {STALE, NULL, FIGURE(core.stale)},
    {VIOLATIONS, NULL, FIGURE(core.violations)},
    {REPORTS, "taken", FIGURE(core.reports)},
    {REPORTS, "old", FIGURE(core.reports_old)},
    {UNKNOWN_KINDS, NULL, FIGURE(core.unknown_kinds)},
    {EVENTS, "applied", FIGURE(feed.applied)},
    {EVENTS, "late", FIGURE(feed.late)},
    {GAPS, NULL, FIGURE(feed.gaps)},
    {MISMATCHES, NULL, FIGURE(feed.mismatches)},
    {SNAPSHOTS, "asked", FIGURE(feed.asked)},
    {SNAPSHOTS, "loaded", FIGURE(feed.loaded)},
    {SNAPSHOTS, "failed", FIGURE(feed.failed)},
    {STRAYS, NULL, FIGURE(feed.strays)},
    {REFUSED_KEYS, "blocks", FIGURE(feed.refused)},
    {REFUSED_KEYS, "share", FIGURE(index_refused)},
};

#define SERIES_COUNT (sizeof series / sizeof series[0])

static double read_figure(void *figure)
{
    return (double)*(const uint64_t *)figure;
}

td_status_t sched_metrics_open(struct sched_service *service, struct sched_metrics **metrics_out)
{
    struct sched_metrics *metrics = calloc(1, sizeof *metrics);
    td_status_t status;

    if (metrics == NULL)
        return TD_NO_MEMORY;
    status = td_metrics_new(SERIES_COUNT + 2, NULL, NULL, &metrics->registry);
    if (status != TD_OK) {
        free(metrics);
        return status;
    }
    metrics->service = service;
    for (size_t i = 0; i < SERIES_COUNT; i++)
        td_metrics_callback(metrics->registry, &families[series[i].family], series[i].label,
                            read_figure, (char *)&metrics->figures + series[i].offset);
    metrics->lag_ns = td_metrics_histogram(metrics->registry, &families[LAG_SECONDS], NULL);
    sched_service_measure(service,
                          td_metrics_histogram(metrics->registry, &families[PLACE_SECONDS], NULL));
    *metrics_out = metrics;
    return TD_OK;
}

void sched_metrics_close(struct sched_metrics *metrics)
{
    if (metrics == NULL)
        return;
    sched_service_measure(metrics->service, NULL);
    td_metrics_free(metrics->registry);
    free(metrics);
}

void sched_metrics_lag(struct sched_metrics *metrics, uint64_t lag_ns)
{
    td_histogram_observe(metrics->lag_ns, lag_ns);
}

static void count_worker(struct figures *figures, const struct sched_worker *worker)
{
    bool is_ready = worker->state == SCHED_WORKER_READY;

    figures->workers[worker->state]++;
    figures->feeds[worker->feed.state]++;
    figures->ready_prefill += is_ready && worker->identity.role == TD__ROLE__ROLE_PREFILL;
    figures->ready_decode += is_ready && worker->identity.role == TD__ROLE__ROLE_DECODE;
    figures->guesses += worker->guesses.count;
}

static struct figures take_figures(const struct sched_service *service)
{
    const struct sched_core *core = sched_service_core(service);
    const struct sched_fleet *fleet = sched_core_fleet(core);
    struct sched_index_stats index = sched_core_index_stats(core);
    struct figures figures = {
        .core = sched_core_stats(core),
        .feed = sched_core_feed_stats(core),
        .streams = sched_service_stream_count(service),
        .routers = sched_core_watcher_count(core),
        .index_bytes = index.bytes,
        .index_entries = index.count,
        .index_entries_max = index.count_max,
        .index_evictions = index.evictions,
        .index_refused = index.refused,
    };

    sched_fleet_for_each(worker, fleet)
    {
        count_worker(&figures, worker);
    }
    return figures;
}

void sched_metrics_render(struct sched_metrics *metrics, struct td_buf *out)
{
    metrics->figures = take_figures(metrics->service);
    td_metrics_render(metrics->registry, out);
}

void sched_metrics_print_markdown(struct td_buf *out)
{
    td_metrics_print_markdown(families, FAMILY_COUNT, out);
}
