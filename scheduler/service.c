/* service.c: streams and calls around the core, see service.h. */
#include "scheduler/service.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "proto/unpack.h"

#define PLACE_BYTES_MAX (512u << 10) /* 16,384 keys are 256 KiB */
#define FLEET_BYTES_MAX (4u << 10)

/*
 * What reading one message may allocate. The largest sound ones take 2 MiB; a message made of a
 * million empty fields would take hundreds.
 */
#define UNPACK_BYTES_MAX ((size_t)12 << 20)

/* Fleet calls, those that have not asked yet included; the core has its own limit on the others. */
#define ROUTER_STREAMS_MAX (2 * SCHED_WATCHERS_MAX)

#define GOODBYE "the scheduler is shutting down"

/* An open Announce or Fleet call; the core's handle of it. */
struct stream {
    struct td_list node;  /* among all */
    struct td_list ready; /* among those that the core has something for */
    struct sched_service *service;
    struct rpc_call *call;
    bool is_router;
    struct sched_link *link;       /* a worker's */
    struct sched_watcher *watcher; /* a router's, once it has said who it is */
    struct net_timer deadline;     /* a router's, for saying so; the core watches over workers */
};

struct sched_service {
    struct net_loop *loop;
    struct rpc_server *server;
    struct sched_core *core;
    struct net_timer timer; /* the core's next deadline */
    struct net_defer pump;
    struct td_list streams;
    struct td_list ready;
    size_t stream_count;
    size_t router_stream_count;
    uint32_t register_ms;
    struct td_histogram *place_ns; /* may be NULL */
    bool draining;
};

/* --- the core's clock ---------------------------------------------------------------------- */

/* After every call into the core. */
static void settle(struct sched_service *service)
{
    net_timer_set(&service->timer, sched_core_next(service->core));
}

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    struct sched_service *service = td_container_of(timer, struct sched_service, timer);

    sched_core_run(service->core, now_ns);
    settle(service);
}

/* --- streams, both kinds ------------------------------------------------------------------- */

static void on_stream_deadline(struct net_timer *timer, uint64_t now_ns);

static struct stream *stream_new(struct sched_service *service, struct rpc_call *call,
                                 bool is_router)
{
    struct stream *stream = calloc(1, sizeof *stream);

    if (stream == NULL)
        return NULL;
    stream->service = service;
    stream->call = call;
    stream->is_router = is_router;
    net_timer_init(&stream->deadline, service->loop, on_stream_deadline);
    td_list_init(&stream->ready);
    td_list_push_back(&service->streams, &stream->node);
    service->stream_count++;
    service->router_stream_count += is_router;
    return stream;
}

static void stream_free(struct stream *stream)
{
    net_timer_cancel(&stream->deadline);
    td_list_remove(&stream->node);
    td_list_remove(&stream->ready);
    stream->service->stream_count--;
    stream->service->router_stream_count -= stream->is_router;
    free(stream);
}

/* The call is over: tells the core and frees the stream. */
static void stream_lost(struct stream *stream)
{
    struct sched_service *service = stream->service;

    if (stream->link != NULL)
        sched_link_closed(stream->link, td_now_ns());
    if (stream->watcher != NULL)
        sched_watcher_closed(stream->watcher);
    stream_free(stream);
    settle(service);
}

static void stream_finish(struct stream *stream, td_status_t status, const char *reason)
{
    rpc_call_finish(stream->call, status, reason);
    stream_lost(stream);
}

static void on_stream_deadline(struct net_timer *timer, uint64_t now_ns)
{
    struct stream *stream = td_container_of(timer, struct stream, deadline);

    (void)now_ns;
    stream_finish(stream, TD_TIMEOUT, "no FleetRequest came in time");
}

static const ProtobufCMessage *next_message(struct stream *stream)
{
    if (stream->link != NULL) {
        const Td__AnnounceOut *out = sched_link_next(stream->link);

        return out != NULL ? &out->base : NULL;
    }
    if (stream->watcher != NULL) {
        const Td__FleetUpdate *update = sched_watcher_next(stream->watcher);

        return update != NULL ? &update->base : NULL;
    }
    return NULL;
}

/* Sends what waits if the call takes it; if it does not, on_writable comes back here. */
static void stream_send(struct stream *stream)
{
    const ProtobufCMessage *message;
    td_status_t status;

    if (!rpc_call_writable(stream->call))
        return;
    message = next_message(stream);
    if (message == NULL)
        return;
    status = rpc_call_send(stream->call, message);
    assert(status == TD_OK && "the call has just said that it takes a message");
}

static void on_pump(struct net_defer *defer)
{
    struct sched_service *service = td_container_of(defer, struct sched_service, pump);
    struct td_list *node;

    while ((node = td_list_first(&service->ready)) != NULL) {
        td_list_remove(node);
        stream_send(td_container_of(node, struct stream, ready));
    }
    settle(service);
}

static void on_writable(void *ctx, struct rpc_call *call)
{
    struct stream *stream = ctx;

    (void)call;
    stream_send(stream);
    settle(stream->service);
}

static void on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    (void)status;
    (void)detail;
    stream_lost(ctx);
}

/* The core asks for a stream to be looked at; not now, because it must not be called back. */
static void on_ready(void *impl, void *handle)
{
    struct sched_service *service = impl;
    struct stream *stream = handle;

    if (td_list_empty(&stream->ready))
        td_list_push_back(&service->ready, &stream->ready);
    net_defer_post(service->loop, &service->pump);
}

static void on_link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    struct stream *stream = handle;

    (void)impl;
    rpc_call_finish(stream->call, status, reason);
    stream_free(stream);
}

/* --- Announce ------------------------------------------------------------------------------ */

static Td__Role certified_role(struct rpc_call *call)
{
    switch (rpc_call_peer_role(call)) {
    case NET_ROLE_PREFILL: return TD__ROLE__ROLE_PREFILL;
    case NET_ROLE_DECODE: return TD__ROLE__ROLE_DECODE;
    default: return TD__ROLE__ROLE_UNKNOWN; /* no TLS: other roles do not get here */
    }
}

static void announce_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct stream *stream = ctx;
    struct sched_service *service = stream->service;
    struct td_arena arena;
    Td__AnnounceIn *message;

    (void)call;
    td_arena_init(&arena, UNPACK_BYTES_MAX);
    message = proto_unpack(&arena, &td__announce_in__descriptor, bytes, length);
    if (message != NULL)
        sched_link_message(stream->link, message, td_now_ns()); /* the stream may be gone now */
    else
        stream_finish(stream, TD_INVALID, "a message is no AnnounceIn");
    td_arena_fini(&arena);
    settle(service);
}

static void announce_half_close(void *ctx, struct rpc_call *call)
{
    (void)call;
    stream_finish(ctx, TD_OK, NULL);
}

static void announce_open(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = announce_message,
                                                 .on_writable = on_writable,
                                                 .on_half_close = announce_half_close,
                                                 .on_close = on_close};
    struct sched_service *service = ctx;
    struct stream *stream;
    td_status_t status = TD_NO_MEMORY;

    if (service->draining) {
        rpc_call_finish(call, TD_PEER_LOST, GOODBYE);
        return;
    }
    stream = stream_new(service, call, false);
    if (stream != NULL)
        status = sched_link_open(service->core, stream, certified_role(call), td_now_ns(),
                                 &stream->link);
    if (status != TD_OK) {
        if (stream != NULL)
            stream_free(stream);
        rpc_call_finish(call, status,
                        status == TD_LIMIT ? "too many workers are connected" : "no memory");
        return;
    }
    rpc_call_bind(call, &handlers, stream);
    settle(service);
}

/* --- Fleet --------------------------------------------------------------------------------- */

static void fleet_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct stream *stream = ctx;
    struct sched_service *service = stream->service;
    struct td_error error = {0};
    struct td_arena arena;
    Td__FleetRequest *request;
    td_status_t status;

    (void)call;
    net_timer_cancel(&stream->deadline);
    td_arena_init(&arena, UNPACK_BYTES_MAX);
    request = proto_unpack(&arena, &td__fleet_request__descriptor, bytes, length);
    if (request != NULL)
        status = sched_watcher_open(service->core, stream, request, &stream->watcher, &error);
    else
        status = td_fail(&error, TD_INVALID, "the message is no FleetRequest");
    td_arena_fini(&arena);
    if (status != TD_OK)
        stream_finish(stream, status, error.text);
    settle(service);
}

static void fleet_open(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {
        .on_message = fleet_message, .on_writable = on_writable, .on_close = on_close};
    struct sched_service *service = ctx;
    struct stream *stream;

    if (service->draining) {
        rpc_call_finish(call, TD_PEER_LOST, GOODBYE);
        return;
    }
    if (service->router_stream_count >= ROUTER_STREAMS_MAX) {
        rpc_call_finish(call, TD_LIMIT, "too many routers are connected");
        return;
    }
    stream = stream_new(service, call, true);
    if (stream == NULL) {
        rpc_call_finish(call, TD_NO_MEMORY, "no memory");
        return;
    }
    net_timer_set_in(&stream->deadline, service->register_ms);
    rpc_call_bind(call, &handlers, stream);
}

/* --- Place --------------------------------------------------------------------------------- */

static void place(struct sched_service *service, struct rpc_call *call,
                  const Td__PlaceRequest *request)
{
    struct sched_answer answer;
    uint64_t start_ns = td_now_ns();

    sched_core_place(service->core, request, start_ns, &answer);
    rpc_call_reply(call, &answer.reply.base);
    if (service->place_ns != NULL)
        td_histogram_observe(service->place_ns, td_now_ns() - start_ns);
    settle(service);
}

static void place_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct td_arena arena;
    Td__PlaceRequest *request;

    td_arena_init(&arena, UNPACK_BYTES_MAX);
    request = proto_unpack(&arena, &td__place_request__descriptor, bytes, length);
    if (request != NULL)
        place(ctx, call, request);
    else
        rpc_call_finish(call, TD_INVALID, "the message is no PlaceRequest");
    td_arena_fini(&arena);
}

static void place_open(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = place_message};
    const struct sched_service *service = ctx;

    if (service->draining)
        rpc_call_finish(call, TD_PEER_LOST, GOODBYE);
    else
        rpc_call_bind(call, &handlers, ctx);
}

/* --- life ---------------------------------------------------------------------------------- */

static const struct rpc_method methods[] = {
    {.path = "/td.Scheduler/Announce",
     .allowed_roles = NET_ROLES_WORKER,
     .message_bytes_max = SCHED_MESSAGE_BYTES_MAX,
     .on_open = announce_open},
    {.path = "/td.Scheduler/Place",
     .allowed_roles = NET_ROLE_BIT(NET_ROLE_ROUTER),
     .message_bytes_max = PLACE_BYTES_MAX,
     .unary = true,
     .on_open = place_open},
    {.path = "/td.Scheduler/Fleet",
     .allowed_roles = NET_ROLE_BIT(NET_ROLE_ROUTER),
     .message_bytes_max = FLEET_BYTES_MAX,
     .unary = true,
     .on_open = fleet_open},
};

static td_status_t open_core(struct sched_service *service, const struct sched_config *given,
                             struct td_error *error)
{
    const struct sched_env env = {.impl = service,
                                  .link_ready = on_ready,
                                  .watcher_ready = on_ready,
                                  .link_close = on_link_close};
    struct sched_config config = *given;

    if (config.epoch == 0)
        config.epoch = td_random_u64();
    if (td_u128_is_zero(config.index_seed))
        config.index_seed = td_random_u128();
    service->register_ms = config.register_ms;
    return sched_core_open(&config, &env, td_now_ns(), &service->core, error);
}

td_status_t sched_service_open(struct net_loop *loop, struct rpc *rpc,
                               const struct sched_service_config *config,
                               struct sched_service **service_out, struct td_error *error)
{
    struct sched_service *service = calloc(1, sizeof *service);
    const struct rpc_server_config server = {.address = config->address,
                                             .insecure = config->insecure,
                                             .methods = methods,
                                             .method_count = sizeof methods / sizeof methods[0],
                                             .ctx = service};
    td_status_t status;

    if (service == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the scheduler");
    service->loop = loop;
    td_list_init(&service->streams);
    td_list_init(&service->ready);
    net_timer_init(&service->timer, loop, on_timer);
    net_defer_init(&service->pump, on_pump);
    status = open_core(service, &config->core, error);
    if (status != TD_OK)
        goto free_service;
    status = rpc_server_open(rpc, &server, &service->server, error);
    if (status != TD_OK)
        goto close_core;
    *service_out = service;
    return TD_OK;

close_core:
    sched_core_close(service->core);
free_service:
    free(service);
    return status;
}

const char *sched_service_address(const struct sched_service *service)
{
    return rpc_server_address(service->server);
}

const struct sched_core *sched_service_core(const struct sched_service *service)
{
    return service->core;
}

size_t sched_service_stream_count(const struct sched_service *service)
{
    return service->stream_count;
}

void sched_service_measure(struct sched_service *service, struct td_histogram *place_ns)
{
    service->place_ns = place_ns;
}

void sched_service_drain(struct sched_service *service, void (*on_drained)(void *ctx), void *ctx)
{
    struct td_list *node;

    service->draining = true;
    while ((node = td_list_first(&service->streams)) != NULL)
        stream_finish(td_container_of(node, struct stream, node), TD_PEER_LOST, GOODBYE);
    rpc_server_drain(service->server, on_drained, ctx);
}

bool sched_service_draining(const struct sched_service *service)
{
    return service->draining;
}

void sched_service_close(struct sched_service *service)
{
    if (service == NULL)
        return;
    service->draining = true;
    rpc_server_close(service->server); /* ends all streams through on_close */
    assert(td_list_empty(&service->streams));
    net_timer_cancel(&service->timer);
    net_defer_cancel(&service->pump);
    sched_core_close(service->core);
    free(service);
}
