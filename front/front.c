/* front.c: opening, draining and closing; the routes that are answered at once. See front.h. */
#include "front/front.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "front/exchange.h"
#include "front/internal.h"
#include "front/respond.h"
#include "lib/api/response.h"
#include "lib/base/hex.h"
#include "lib/base/json_write.h"

#define MODELS_MAX        256
#define MODEL_NAME_BYTES  1024
#define LIST_BYTES_MAX    ((size_t)1 << 20)
#define METRICS_BYTES_MAX ((size_t)8 << 20)
#define SMALL_BYTES_MAX   4096
#define WHY_BYTES         160
#define MODEL_PATH        "/v1/models/"

/* ---- small answers ---- */

static struct front_reply reply_to(const struct front *front, struct http_request *request)
{
    return (struct front_reply){.request = request, .close = front->draining};
}

static void respond_kind(const struct front *front, struct http_request *request,
                         enum api_error_kind kind, const char *why)
{
    struct front_reply reply = reply_to(front, request);
    struct api_error error;

    api_error_set(&error, kind, NULL, why != NULL && why[0] != '\0' ? "%s" : NULL, why);
    front_respond_error(&reply, &error);
}

/* {"key":"value"} */
static void respond_word(const struct front *front, struct http_request *request, const char *key,
                         const char *value)
{
    struct front_reply reply = reply_to(front, request);
    struct td_json_writer w;
    struct td_buf body;

    td_buf_init(&body, SMALL_BYTES_MAX);
    w = td_json_writer_to(&body);
    td_json_begin_object(&w, NULL);
    td_json_put_text(&w, key, value);
    td_json_end(&w);
    front_respond(&reply, API_CONTENT_TYPE_JSON, &body);
    td_buf_fini(&body);
}

static void get_version(void *ctx, struct http_request *request)
{
    respond_word(ctx, request, "version", TANDEM_VERSION);
}

static void get_health(void *ctx, struct http_request *request)
{
    const struct front *front = ctx;
    const struct front_backend *backend = &front->config.backend;
    char why[WHY_BYTES] = "";

    if (backend->is_healthy(backend->impl, why, sizeof why))
        respond_word(front, request, "status", "ok");
    else
        respond_kind(front, request, API_ERROR_OVERLOADED, why);
}

static void get_ready(void *ctx, struct http_request *request)
{
    const struct front *front = ctx;
    const struct front_backend *backend = &front->config.backend;
    char why[WHY_BYTES] = "";

    if (front->draining)
        respond_kind(front, request, API_ERROR_NOT_READY, "draining");
    else if (backend->is_ready(backend->impl, why, sizeof why))
        respond_word(front, request, "status", "ready");
    else
        respond_kind(front, request, API_ERROR_NOT_READY, why);
}

static void get_metrics(void *ctx, struct http_request *request)
{
    const struct front *front = ctx;
    const struct front_backend *backend = &front->config.backend;
    struct front_reply reply = reply_to(front, request);
    struct td_buf body;

    td_buf_init(&body, METRICS_BYTES_MAX);
    td_metrics_render(front->metrics.registry, &body);
    backend->metrics(backend->impl, &body);
    front_respond(&reply, TD_METRICS_CONTENT_TYPE, &body);
    td_buf_fini(&body);
}

/* ---- models ---- */

static struct api_model model_of(const struct front_model *model)
{
    return (struct api_model){
        .id = model->name, .created = model->created, .max_context = model->max_context};
}

static void get_models(void *ctx, struct http_request *request)
{
    const struct front *front = ctx;
    const struct front_backend *backend = &front->config.backend;
    struct front_reply reply = reply_to(front, request);
    struct api_model models[MODELS_MAX];
    struct front_model model;
    struct td_buf body;
    size_t count = 0;

    while (count < MODELS_MAX && backend->model_at(backend->impl, count, &model))
        models[count++] = model_of(&model);
    td_buf_init(&body, LIST_BYTES_MAX);
    api_models_write(models, count, &body);
    front_respond(&reply, API_CONTENT_TYPE_JSON, &body);
    td_buf_fini(&body);
}

/* Undoes percent encoding. False: malformed, a NUL, or too long to be a name. */
static bool decode_name(const char *path, char out[static MODEL_NAME_BYTES])
{
    size_t length = 0;

    while (*path != '\0') {
        char c = *path++;

        if (length + 1 == MODEL_NAME_BYTES)
            return false;
        if (c == '%') {
            int high = td_hex_value(path[0]);
            int low = high >= 0 ? td_hex_value(path[1]) : -1;

            if (low < 0 || high + low == 0)
                return false;
            c = (char)(high * 16 + low);
            path += 2;
        }
        out[length++] = c;
    }
    out[length] = '\0';
    return length > 0; /* "" would mean: any model */
}

static void get_model(void *ctx, struct http_request *request)
{
    const struct front *front = ctx;
    const struct front_backend *backend = &front->config.backend;
    struct front_reply reply = reply_to(front, request);
    struct front_model model = {.name = NULL};
    char name[MODEL_NAME_BYTES];
    struct api_model shown;
    struct td_buf body;
    td_status_t status = TD_NOT_FOUND;

    if (decode_name(http_request_path(request) + strlen(MODEL_PATH), name))
        status = backend->model_by_name(backend->impl, name, &model);
    if (status != TD_OK) {
        respond_kind(front, request,
                     status == TD_AGAIN ? API_ERROR_NOT_READY : api_error_kind_of(status), NULL);
        return;
    }
    td_buf_init(&body, SMALL_BYTES_MAX);
    shown = model_of(&model);
    api_model_write(&shown, &body);
    front_respond(&reply, API_CONTENT_TYPE_JSON, &body);
    td_buf_fini(&body);
}

/* ---- completions ---- */

static void post_chat(void *ctx, struct http_request *request)
{
    front_exchange_open(ctx, request, API_CHAT);
}

static void post_completions(void *ctx, struct http_request *request)
{
    front_exchange_open(ctx, request, API_COMPLETIONS);
}

/*
 * application/json or nothing. A browser can be made to send other types to any address without
 * asking, this one not.
 */
static bool is_json(const char *content_type)
{
    static const char json[] = "application/json";
    size_t length = sizeof json - 1;

    if (content_type == NULL)
        return true;
    if (strncasecmp(content_type, json, length) != 0)
        return false;
    return strchr("; \t", content_type[length]) != NULL; /* also at the end: finds the NUL */
}

/* Before the body is read. */
static bool admit(void *ctx, struct http_request *request)
{
    struct front *front = ctx;

    if (http_request_method(request) != HTTP_POST)
        return true;
    if (front->draining) {
        td_counter_add(front->metrics.ended[FRONT_OUTCOME_UNAVAILABLE], 1);
        respond_kind(front, request, API_ERROR_NOT_READY, "the server is draining");
        return false;
    }
    if (!is_json(http_request_header(request, "content-type"))) {
        td_counter_add(front->metrics.ended[FRONT_OUTCOME_INVALID], 1);
        respond_kind(front, request, API_ERROR_MEDIA_TYPE, NULL);
        return false;
    }
    return true;
}

static const char *error_body(void *ctx, int status, const char *reason, struct td_buf *out)
{
    struct api_error error;

    (void)ctx;
    api_error_set(&error, api_error_kind_of_http(status), NULL, "%s", reason);
    api_error_write(&error, out);
    return API_CONTENT_TYPE_JSON;
}

/* ---- life ---- */

static const struct http_route routes[FRONT_ROUTE_COUNT] = {
    {"/v1/chat/completions", HTTP_METHOD_BIT(HTTP_POST), 0, post_chat},
    {"/v1/completions", HTTP_METHOD_BIT(HTTP_POST), 0, post_completions},
    {"/v1/models", HTTP_METHODS_READ, 0, get_models},
    {MODEL_PATH "*", HTTP_METHODS_READ, 0, get_model},
    {"/health", HTTP_METHODS_READ, 0, get_health},
    {"/ready", HTTP_METHODS_READ, 0, get_ready},
    {"/metrics", HTTP_METHODS_READ, 0, get_metrics},
    {"/version", HTTP_METHODS_READ, 0, get_version},
};

/* Only what is posted has a body. */
static void set_routes(struct front *front)
{
    memcpy(front->routes, routes, sizeof routes);
    for (size_t i = 0; i < FRONT_ROUTE_COUNT; i++)
        if (front->routes[i].methods & HTTP_METHOD_BIT(HTTP_POST))
            front->routes[i].body_bytes_max = (uint32_t)front->config.limits.body_bytes;
}

static struct http_limits http_limits_of(const struct api_limits *limits)
{
    struct http_limits http;

    http_limits_init(&http);
    http.connections_max = limits->connections;
    http.connections_per_address_max = limits->connections_per_address;
    http.body_bytes_total_max = limits->bodies_bytes;
    http.backlog_bytes_max = (uint32_t)limits->backlog_bytes;
    http.head_ms = (uint32_t)limits->head_ms;
    http.body_ms = (uint32_t)limits->body_ms;
    http.idle_ms = (uint32_t)limits->idle_ms;
    http.stall_ms = (uint32_t)limits->stall_ms;
    return http;
}

static void on_drained(void *ctx)
{
    struct front *front = ctx;

    front->drained = true;
    if (front->config.on_drained != NULL)
        front->config.on_drained(front->config.context);
}

static void finish_close(struct front *front)
{
    void (*on_closed)(void *context) = front->on_closed;
    void *context = front->closed_context;

    net_defer_cancel(&front->idle);
    front_metrics_close(&front->metrics);
    free(front);
    if (on_closed != NULL)
        on_closed(context);
}

/*
 * While requests live, a draining front keeps listening, so that its metrics can be watched and
 * clients get an answer they can act on. Then the server closes connections as their answers leave.
 */
static void run_idle(struct net_defer *defer)
{
    struct front *front = td_container_of(defer, struct front, idle);

    if (front->exchange_count > 0)
        return;
    if (front->closing && front->preparer.running == 0) {
        finish_close(front);
    } else if (!front->closing && front->draining && !front->server_draining) {
        front->server_draining = true;
        http_server_drain(front->http, on_drained, front);
    }
}

void front_check_idle(struct front *front)
{
    if (front->exchange_count == 0 && (front->draining || front->closing))
        net_defer_post(front->config.loop, &front->idle);
}

static void on_jobs_idle(void *context)
{
    front_check_idle(context);
}

td_status_t front_open(const struct front_config *config, struct front **front_out,
                       struct td_error *error)
{
    struct front *front = calloc(1, sizeof *front);
    struct http_server_config http = {.address = config->listen,
                                      .limits = http_limits_of(&config->limits),
                                      .route_count = FRONT_ROUTE_COUNT,
                                      .ctx = front,
                                      .admit = admit,
                                      .error_body = error_body};
    td_status_t status;

    if (front == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the HTTP front");
    front->config = *config;
    front->config.listen = NULL; /* the caller's text */
    net_defer_init(&front->idle, run_idle);
    front_preparer_init(&front->preparer, config->loop, config->limits.queue_entries, on_jobs_idle,
                        front);
    set_routes(front);
    http.routes = front->routes;
    status = front_metrics_open(&front->metrics, front);
    if (status != TD_OK) {
        free(front);
        return td_fail(error, status, "no memory for the HTTP front");
    }
    status = http_server_open(config->loop, &http, &front->http, error);
    if (status != TD_OK) {
        front_metrics_close(&front->metrics);
        free(front);
        return status;
    }
    *front_out = front;
    return TD_OK;
}

const char *front_address(const struct front *front)
{
    return http_server_address(front->http);
}

void front_drain(struct front *front)
{
    front->draining = true;
    front_check_idle(front);
}

bool front_idle(const struct front *front)
{
    return front->exchange_count == 0 && (!front->draining || front->drained);
}

void front_close(struct front *front, void (*done)(void *context), void *context)
{
    front->closing = true;
    front->on_closed = done;
    front->closed_context = context;
    http_server_close(front->http);
    if (done == NULL && front->preparer.running == 0)
        finish_close(front); /* with the server all exchanges have ended */
    else
        front_check_idle(front);
}
