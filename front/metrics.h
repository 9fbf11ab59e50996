/*
 * metrics.h: what the front counts. Inside the room only, but for the table, which documents it.
 */
#ifndef TANDEM_FRONT_METRICS_H
#define TANDEM_FRONT_METRICS_H

#include "lib/base/metrics.h"
#include "lib/base/status.h"

struct front;

/* How exchanges end: name, label. */
#define FRONT_OUTCOME_MAP(X)                                                             \
    X(ANSWERED, "answered")       /* a whole answer left */                              \
    X(INVALID, "invalid")         /* the request was at fault: 4xx */                    \
    X(REFUSED, "refused")         /* no capacity: 429 */                                 \
    X(UNAVAILABLE, "unavailable") /* nobody to answer it: 503 */                         \
    X(FAILED, "failed")           /* another 5xx */                                      \
    X(BROKEN, "broken")           /* an error inside a stream that had begun */          \
    X(LEFT, "client_left")        /* the client was gone before the end of its answer */ \
    X(SLOW, "client_slow")        /* the client took its stream too slowly and was cut off */

enum front_outcome {
#define X(name, label) FRONT_OUTCOME_##name,
    FRONT_OUTCOME_MAP(X)
#undef X
        FRONT_OUTCOME_COUNT
};

struct front_metrics {
    struct td_metrics *registry;
    struct td_counter *ended[FRONT_OUTCOME_COUNT];
    struct td_counter *prompt_tokens;
    struct td_counter *cached_tokens;
    struct td_counter *completion_tokens;
    struct td_counter *pings;
    struct td_histogram *prepare_ns;
    struct td_histogram *first_token_ns;
    struct td_histogram *answer_ns;
};

/* The front's gauges are read from it when they are shown. */
td_status_t front_metrics_open(struct front_metrics *metrics, struct front *front) TD_MUST_USE;
void front_metrics_close(struct front_metrics *metrics);

/* The outcome of an error answer with this HTTP status. */
enum front_outcome front_outcome_of_http(int http_status);

/* Appends the table of metrics as Markdown, for docs. */
void front_metrics_print_markdown(struct td_buf *out);

#endif
