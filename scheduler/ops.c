/* ops.c: four paths and a heartbeat, see ops.h. */
#include "scheduler/ops.h"

#include <stdlib.h>

#include "lib/base/json_write.h"
#include "lib/base/time.h"
#include "lib/net/http_server.h"
#include "scheduler/fleet_json.h"
#include "scheduler/metrics.h"

#define BEAT_NS         (100 * TD_NS_PER_MS)
#define CONNECTIONS_MAX 256
#define BODY_BYTES_MAX  ((size_t)4 << 20) /* 256 workers with all names at their maximum: 1.5 MiB */
#define JSON_TYPE       "application/json"

struct sched_ops {
    struct sched_service *service;
    struct sched_metrics *metrics;
    struct http_server *server;
    struct net_timer beat;
    uint64_t started_ns;
    uint64_t due_ns; /* of the next beat */
    uint64_t lag_ns; /* of the last one */
};

/* Answers with the text and frees it. */
static void respond(struct http_request *request, int status, const char *type, struct td_buf *body)
{
    const struct http_header headers[] = {{"Content-Type", type}, {"Cache-Control", "no-store"}};

    if (body->status != TD_OK)
        http_respond_error(request, 500, td_status_text(body->status));
    else
        http_respond(request, &(struct http_response){.status = status,
                                                      .headers = headers,
                                                      .header_count = 2,
                                                      .body = body->data,
                                                      .body_length = body->length});
    td_buf_fini(body);
}

static void on_health(void *ctx, struct http_request *request)
{
    const struct sched_ops *ops = ctx;
    struct td_buf body;
    struct td_json_writer writer;

    td_buf_init(&body, BODY_BYTES_MAX);
    writer = td_json_writer_to(&body);
    td_json_begin_object(&writer, NULL);
    td_json_put_text(&writer, "status", "ok");
    td_json_put_double(&writer, "uptime_seconds", (double)(td_now_ns() - ops->started_ns) / 1e9);
    td_json_put_double(&writer, "loop_lag_seconds", (double)ops->lag_ns / 1e9);
    td_json_end(&writer);
    respond(request, 200, JSON_TYPE, &body);
}

static void on_ready(void *ctx, struct http_request *request)
{
    const struct sched_ops *ops = ctx;
    const struct sched_core *core = sched_service_core(ops->service);
    bool draining = sched_service_draining(ops->service);
    struct td_buf body;
    struct td_json_writer writer;

    td_buf_init(&body, BODY_BYTES_MAX);
    writer = td_json_writer_to(&body);
    td_json_begin_object(&writer, NULL);
    td_json_put_text(&writer, "status", draining ? "draining" : "ready");
    td_json_put_uint(&writer, "workers_ready", sched_core_worker_count(core, SCHED_WORKER_READY));
    td_json_end(&writer);
    respond(request, draining ? 503 : 200, JSON_TYPE, &body);
}

static void on_metrics(void *ctx, struct http_request *request)
{
    struct sched_ops *ops = ctx;
    struct td_buf body;

    td_buf_init(&body, BODY_BYTES_MAX);
    sched_metrics_render(ops->metrics, &body);
    respond(request, 200, TD_METRICS_CONTENT_TYPE, &body);
}

static void on_fleet(void *ctx, struct http_request *request)
{
    const struct sched_ops *ops = ctx;
    struct td_buf body;

    td_buf_init(&body, BODY_BYTES_MAX);
    sched_fleet_write_json(sched_service_core(ops->service), &body);
    respond(request, 200, JSON_TYPE, &body);
}

/* Measures by how much the loop keeps its timers waiting. */
static void on_beat(struct net_timer *timer, uint64_t now_ns)
{
    struct sched_ops *ops = td_container_of(timer, struct sched_ops, beat);

    ops->lag_ns = now_ns > ops->due_ns ? now_ns - ops->due_ns : 0;
    sched_metrics_lag(ops->metrics, ops->lag_ns);
    ops->due_ns = now_ns + BEAT_NS;
    net_timer_set(timer, ops->due_ns);
}

static const struct http_route routes[] = {
    {"/health", HTTP_METHODS_READ, 0, on_health},
    {"/ready", HTTP_METHODS_READ, 0, on_ready},
    {"/metrics", HTTP_METHODS_READ, 0, on_metrics},
    {"/fleet", HTTP_METHODS_READ, 0, on_fleet},
};

td_status_t sched_ops_open(struct net_loop *loop, const char *address,
                           struct sched_service *service, struct sched_ops **ops_out,
                           struct td_error *error)
{
    struct sched_ops *ops = calloc(1, sizeof *ops);
    struct http_server_config config = {.address = address,
                                        .routes = routes,
                                        .route_count = sizeof routes / sizeof routes[0],
                                        .ctx = ops};
    td_status_t status;

    if (ops == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the HTTP server");
    ops->service = service;
    ops->started_ns = td_now_ns();
    http_limits_init(&config.limits);
    config.limits.connections_max = CONNECTIONS_MAX;
    status = sched_metrics_open(service, &ops->metrics);
    if (status != TD_OK) {
        (void)td_fail(error, status, "no memory for metrics");
        goto free_ops;
    }
    status = http_server_open(loop, &config, &ops->server, error);
    if (status != TD_OK)
        goto close_metrics;
    net_timer_init(&ops->beat, loop, on_beat);
    ops->due_ns = ops->started_ns + BEAT_NS;
    net_timer_set(&ops->beat, ops->due_ns);
    *ops_out = ops;
    return TD_OK;

close_metrics:
    sched_metrics_close(ops->metrics);
free_ops:
    free(ops);
    return status;
}

const char *sched_ops_address(const struct sched_ops *ops)
{
    return http_server_address(ops->server);
}

void sched_ops_close(struct sched_ops *ops)
{
    if (ops == NULL)
        return;
    net_timer_cancel(&ops->beat);
    http_server_close(ops->server);
    sched_metrics_close(ops->metrics);
    free(ops);
}
