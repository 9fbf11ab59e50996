/* runtime.c: see runtime.h. */
#include "router/runtime.h"

#include <stdlib.h>

#include "lib/base/random.h"
#include "lib/base/time.h"
#include "router/runtime_internal.h"

#define HEARTBEAT_MS 250

void router_touch(struct router_runtime *runtime)
{
    net_timer_set(&runtime->timer, router_core_next_deadline(runtime->core));
}

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    struct router_runtime *runtime = td_container_of(timer, struct router_runtime, timer);

    router_core_tick(runtime->core, now_ns);
    router_touch(runtime);
}

static void on_heartbeat(struct net_timer *timer, uint64_t now_ns)
{
    struct router_runtime *runtime = td_container_of(timer, struct router_runtime, heartbeat);

    runtime->lag_ns = now_ns - runtime->heartbeat_ns;
    router_metrics_lag(runtime->metrics, runtime->lag_ns);
    runtime->heartbeat_ns = now_ns + HEARTBEAT_MS * TD_NS_PER_MS;
    net_timer_set(&runtime->heartbeat, runtime->heartbeat_ns);
}

/* --- the core's environment: what it wants of the world --- */

static void env_random(void *impl, void *out, size_t length)
{
    (void)impl;
    td_random_bytes(out, length);
}

static void env_place(void *impl, uint64_t number, const Td__PlaceRequest *request,
                      uint32_t deadline_ms)
{
    struct router_runtime *runtime = impl;

    router_schedulers_place(runtime->schedulers, number, request, deadline_ms);
}

static void env_place_cancel(void *impl, uint64_t number)
{
    struct router_runtime *runtime = impl;

    router_schedulers_place_cancel(runtime->schedulers, number);
}

static void env_link_open(void *impl, uint64_t link, const char *target)
{
    struct router_runtime *runtime = impl;

    router_stream_open(runtime->streams, link, target);
}

static void env_link_close(void *impl, uint64_t link)
{
    struct router_runtime *runtime = impl;

    router_stream_close(runtime->streams, link);
}

static void env_link_ready(void *impl, uint64_t link)
{
    struct router_runtime *runtime = impl;

    router_stream_ready(runtime->streams, link);
}

static void env_tokens(void *impl, void *context, const uint32_t *tokens, uint32_t count)
{
    struct router_runtime *runtime = impl;

    runtime->config.client.tokens(context, tokens, count);
}

static void env_end(void *impl, void *context, const struct front_result *result)
{
    struct router_runtime *runtime = impl;

    runtime->config.client.end(context, result);
}

/* --- what the world tells the core --- */

static void on_link_open(void *ctx, uint64_t link)
{
    struct router_runtime *runtime = ctx;

    router_core_on_link_open(runtime->core, link, td_now_ns());
    router_touch(runtime);
}

static void on_link_message(void *ctx, uint64_t link, const Td__GenerateOut *message)
{
    struct router_runtime *runtime = ctx;

    router_core_on_link_message(runtime->core, link, message, td_now_ns());
    router_touch(runtime);
}

static void on_link_closed(void *ctx, uint64_t link, td_status_t status)
{
    struct router_runtime *runtime = ctx;

    router_core_on_link_closed(runtime->core, link, status, td_now_ns());
    router_touch(runtime);
}

static const Td__GenerateIn *link_next(void *ctx, uint64_t link)
{
    struct router_runtime *runtime = ctx;

    return router_link_next(runtime->core, link, td_now_ns());
}

static void on_fleet(void *ctx, const Td__FleetUpdate *update)
{
    struct router_runtime *runtime = ctx;

    router_core_on_fleet(runtime->core, update, td_now_ns());
    router_touch(runtime);
    router_texts_look(runtime->texts);
}

static void on_placed(void *ctx, uint64_t number, const Td__PlaceReply *reply)
{
    struct router_runtime *runtime = ctx;

    router_core_on_placed(runtime->core, number, reply, td_now_ns());
    router_touch(runtime);
}

/* --- open and close --- */

static td_status_t open_core(struct router_runtime *runtime, uint64_t epoch)
{
    const struct router_config config = {.epoch = epoch,
                                         .limits = runtime->config.limits,
                                         .env = {.impl = runtime,
                                                 .random = env_random,
                                                 .place = env_place,
                                                 .place_cancel = env_place_cancel,
                                                 .link_open = env_link_open,
                                                 .link_close = env_link_close,
                                                 .link_ready = env_link_ready,
                                                 .tokens = env_tokens,
                                                 .end = env_end}};

    return router_core_open(&config, &runtime->core);
}

static td_status_t open_streams(struct router_runtime *runtime)
{
    const struct router_streams_config config = {
        .loop = runtime->config.loop,
        .rpc = runtime->config.rpc,
        .streams_max = 2 * ROUTER_WORKERS_MAX, /* links of workers that just left included */
        .ctx = runtime,
        .on_open = on_link_open,
        .on_message = on_link_message,
        .on_closed = on_link_closed,
        .next = link_next};

    return router_streams_open(&config, &runtime->streams);
}

static td_status_t open_schedulers(struct router_runtime *runtime, uint64_t epoch,
                                   struct td_error *error)
{
    const struct router_limits *limits = &runtime->config.limits;
    const struct router_schedulers_config config = {.loop = runtime->config.loop,
                                                    .rpc = runtime->config.rpc,
                                                    .targets = runtime->config.schedulers,
                                                    .target_count = runtime->config.scheduler_count,
                                                    .router_epoch = epoch,
                                                    .places_max = (size_t)limits->queue_max +
                                                                  limits->running_max,
                                                    .ctx = runtime,
                                                    .on_fleet = on_fleet,
                                                    .on_placed = on_placed};

    return router_schedulers_open(&config, &runtime->schedulers, error);
}

static td_status_t open_all(struct router_runtime *runtime, struct td_error *error)
{
    uint64_t epoch = td_random_u64();
    struct router_texts_config texts = {.loop = runtime->config.loop, .rpc = runtime->config.rpc};
    td_status_t status = open_core(runtime, epoch);

    texts.core = runtime->core;
    if (status == TD_OK)
        status = open_streams(runtime);
    if (status == TD_OK)
        status = router_texts_open(&texts, &runtime->texts);
    if (status != TD_OK)
        return td_fail(error, status, "router: %s", td_status_text(status));
    status = open_schedulers(runtime, epoch, error);
    if (status != TD_OK)
        return status;
    status = router_metrics_open(runtime, &runtime->metrics);
    if (status != TD_OK)
        return td_fail(error, status, "metrics: %s", td_status_text(status));
    return TD_OK;
}

td_status_t router_runtime_open(const struct router_runtime_config *config,
                                struct router_runtime **runtime_out, struct td_error *error)
{
    struct router_runtime *runtime = calloc(1, sizeof *runtime);
    td_status_t status;

    if (runtime == NULL)
        return td_fail(error, TD_NO_MEMORY, "router: no memory");
    runtime->config = *config;
    net_timer_init(&runtime->timer, config->loop, on_timer);
    net_timer_init(&runtime->heartbeat, config->loop, on_heartbeat);
    status = open_all(runtime, error);
    if (status != TD_OK) {
        router_runtime_close(runtime);
        return status;
    }
    runtime->heartbeat_ns = td_now_ns() + HEARTBEAT_MS * TD_NS_PER_MS;
    net_timer_set(&runtime->heartbeat, runtime->heartbeat_ns);
    *runtime_out = runtime;
    return TD_OK;
}

bool router_runtime_idle(const struct router_runtime *runtime)
{
    return router_core_idle(runtime->core);
}

void router_runtime_fail_all(struct router_runtime *runtime, const char *reason)
{
    router_core_fail_all(runtime->core, reason, td_now_ns());
    router_touch(runtime);
}

void router_runtime_close(struct router_runtime *runtime)
{
    if (runtime == NULL)
        return;
    net_timer_cancel(&runtime->timer);
    net_timer_cancel(&runtime->heartbeat);
    router_metrics_close(runtime->metrics);
    router_schedulers_close(runtime->schedulers);
    router_texts_close(runtime->texts);
    router_streams_close(runtime->streams);
    if (runtime->core != NULL)
        router_core_close(runtime->core);
    free(runtime);
}
