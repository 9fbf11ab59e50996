/* metrics.c: see metrics.h. */
#include "front/metrics.h"

#include "front/internal.h"

#define SERIES_MAX 32

enum metric {
    METRIC_REQUESTS,
    METRIC_PROMPT_TOKENS,
    METRIC_CACHED_TOKENS,
    METRIC_COMPLETION_TOKENS,
    METRIC_PINGS,
    METRIC_PREPARE,
    METRIC_FIRST_TOKEN,
    METRIC_ANSWER,
    METRIC_EXCHANGES,
    METRIC_PREPARING,
    METRIC_CONNECTIONS,
    METRIC_HTTP_REQUESTS,
    METRIC_HTTP_MALFORMED,
    METRIC_HTTP_REFUSED,
    METRIC_COUNT,
};

/* clang-format off */
static const struct td_metric families[METRIC_COUNT] = {
    [METRIC_REQUESTS] = {.name = "tandem_front_requests_total", .kind = TD_METRIC_COUNTER,
        .label = "outcome", .help = "Requests for completions by how they ended."},
    [METRIC_PROMPT_TOKENS] = {.name = "tandem_front_prompt_tokens_total", .kind = TD_METRIC_COUNTER,
        .help = "Prompt tokens of answered requests."},
    [METRIC_CACHED_TOKENS] = {.name = "tandem_front_cached_tokens_total", .kind = TD_METRIC_COUNTER,
        .help = "Those of them whose KV was found in a cache."},
    [METRIC_COMPLETION_TOKENS] = {.name = "tandem_front_completion_tokens_total",
        .kind = TD_METRIC_COUNTER, .help = "Tokens of answers."},
    [METRIC_PINGS] = {.name = "tandem_front_pings_total", .kind = TD_METRIC_COUNTER,
        .help = "Comments sent into streams that were silent."},
    [METRIC_PREPARE] = {.name = "tandem_front_prepare_seconds", .kind = TD_METRIC_HISTOGRAM,
        .bounds = td_metric_latency_ns, .unit = 1e9,
        .help = "From the complete request to its token ids."},
    [METRIC_FIRST_TOKEN] = {.name = "tandem_front_first_token_seconds", .kind = TD_METRIC_HISTOGRAM,
        .bounds = td_metric_latency_ns, .unit = 1e9,
        .help = "From the complete request to the first token."},
    [METRIC_ANSWER] = {.name = "tandem_front_answer_seconds", .kind = TD_METRIC_HISTOGRAM,
        .bounds = td_metric_latency_ns, .unit = 1e9,
        .help = "From the complete request to the end of a whole answer."},
    [METRIC_EXCHANGES] = {.name = "tandem_front_exchanges", .kind = TD_METRIC_GAUGE,
        .help = "Requests for completions that live."},
    [METRIC_PREPARING] = {.name = "tandem_front_preparing", .kind = TD_METRIC_GAUGE,
        .help = "Those that are being tokenized or wait for it."},
    [METRIC_CONNECTIONS] = {.name = "tandem_front_connections", .kind = TD_METRIC_GAUGE,
        .help = "Open client connections."},
    [METRIC_HTTP_REQUESTS] = {.name = "tandem_front_http_requests_total", .kind = TD_METRIC_COUNTER,
        .help = "Requests of all routes."},
    [METRIC_HTTP_MALFORMED] = {.name = "tandem_front_http_malformed_total",
        .kind = TD_METRIC_COUNTER, .help = "Requests that were not proper HTTP."},
    [METRIC_HTTP_REFUSED] = {.name = "tandem_front_connections_refused_total",
        .kind = TD_METRIC_COUNTER, .help = "Connections over a limit."},
};
/* clang-format on */

static const char *const outcome_labels[] = {
#define X(name, label) [FRONT_OUTCOME_##name] = (label),
    FRONT_OUTCOME_MAP(X)
#undef X
};

static double read_exchanges(void *context)
{
    const struct front *front = context;

    return front->exchange_count;
}

static double read_preparing(void *context)
{
    const struct front *front = context;

    return front->preparer.waiting_count + front->preparer.running;
}

static double read_connections(void *context)
{
    const struct front *front = context;

    return http_server_counts(front->http).connections;
}

static double read_http_requests(void *context)
{
    const struct front *front = context;

    return (double)http_server_counts(front->http).requests_total;
}

static double read_malformed(void *context)
{
    const struct front *front = context;

    return (double)http_server_counts(front->http).malformed;
}

static double read_refused(void *context)
{
    const struct front *front = context;

    return (double)http_server_counts(front->http).connections_refused;
}

td_status_t front_metrics_open(struct front_metrics *metrics, struct front *front)
{
    static const td_metric_read_fn readers[METRIC_COUNT] = {
        [METRIC_EXCHANGES] = read_exchanges,      [METRIC_PREPARING] = read_preparing,
        [METRIC_CONNECTIONS] = read_connections,  [METRIC_HTTP_REQUESTS] = read_http_requests,
        [METRIC_HTTP_MALFORMED] = read_malformed, [METRIC_HTTP_REFUSED] = read_refused,
    };
    struct td_metrics *registry;
    td_status_t status = td_metrics_new(SERIES_MAX, NULL, NULL, &registry);

    if (status != TD_OK)
        return status;
    metrics->registry = registry;
    for (int i = 0; i < FRONT_OUTCOME_COUNT; i++)
        metrics->ended[i] =
            td_metrics_counter(registry, &families[METRIC_REQUESTS], outcome_labels[i]);
    metrics->prompt_tokens = td_metrics_counter(registry, &families[METRIC_PROMPT_TOKENS], NULL);
    metrics->cached_tokens = td_metrics_counter(registry, &families[METRIC_CACHED_TOKENS], NULL);
    metrics->completion_tokens =
        td_metrics_counter(registry, &families[METRIC_COMPLETION_TOKENS], NULL);
    metrics->pings = td_metrics_counter(registry, &families[METRIC_PINGS], NULL);
    metrics->prepare_ns = td_metrics_histogram(registry, &families[METRIC_PREPARE], NULL);
    metrics->first_token_ns = td_metrics_histogram(registry, &families[METRIC_FIRST_TOKEN], NULL);
    metrics->answer_ns = td_metrics_histogram(registry, &families[METRIC_ANSWER], NULL);
    for (int i = 0; i < METRIC_COUNT; i++)
        if (readers[i] != NULL)
            td_metrics_callback(registry, &families[i], NULL, readers[i], front);
    return TD_OK;
}

void front_metrics_close(struct front_metrics *metrics)
{
    td_metrics_free(metrics->registry);
}

enum front_outcome front_outcome_of_http(int http_status)
{
    if (http_status == 429)
        return FRONT_OUTCOME_REFUSED;
    if (http_status == 503)
        return FRONT_OUTCOME_UNAVAILABLE;
    return http_status < 500 ? FRONT_OUTCOME_INVALID : FRONT_OUTCOME_FAILED;
}

void front_metrics_print_markdown(struct td_buf *out)
{
    td_metrics_print_markdown(families, METRIC_COUNT, out);
}
