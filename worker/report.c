/*
 * report.c: Announce streams to the schedulers that were named. Each is kept up for ever: a scheduler
 * that is away is called again after a growing pause, and is told everything anew.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "worker/runtime_internal.h"

#define REPORT_PAUSE_MIN_MS 100
#define REPORT_PAUSE_MAX_MS 2000

struct worker_report {
    struct worker_runtime *runtime;
    struct td_list node;
    const char *target;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: away */
    struct worker_announcer *announcer;
    struct net_timer retry;
    struct net_defer pump;
    uint32_t pause_ms;
    bool welcomed; /* by the present stream: it really reached a scheduler */
    bool away;     /* said so in the log */
};

static void connect_soon(struct worker_report *report)
{
    uint32_t pause_ms = report->pause_ms;

    report->pause_ms = pause_ms * 2 < REPORT_PAUSE_MAX_MS ? pause_ms * 2 : REPORT_PAUSE_MAX_MS;
    /* spread: all workers lose a scheduler at the same moment */
    net_timer_set_in(&report->retry, pause_ms / 2 + td_random_u64() % (pause_ms / 2 + 1));
}

static void on_lost(struct worker_report *report, const char *why)
{
    report->call = NULL;
    net_defer_cancel(&report->pump);
    worker_announcer_disconnected(report->announcer);
    if (!report->away)
        td_log(TD_LOG_WARN, "report", "no scheduler at %s: %s; calling again", report->target, why);
    report->away = true;
    connect_soon(report);
    worker_touch(report->runtime);
}

static void pump(struct net_defer *defer)
{
    struct worker_report *report = td_container_of(defer, struct worker_report, pump);
    const Td__AnnounceIn *message;
    td_status_t status;

    if (report->call == NULL || !rpc_call_writable(report->call))
        return;
    message = worker_announcer_next(report->announcer, td_now_ns());
    if (message == NULL)
        return;
    status = rpc_call_send(report->call, &message->base);
    if (status != TD_OK) {
        rpc_call_cancel(report->call);
        on_lost(report, td_status_text(status));
    }
}

static void on_writable(void *ctx, struct rpc_call *call)
{
    struct worker_report *report = ctx;

    (void)call;
    net_defer_post(report->runtime->config.loop, &report->pump);
}

static void take(struct worker_report *report, const Td__AnnounceOut *message)
{
    if (!report->welcomed)
        td_log(TD_LOG_INFO, "report", "registered with the scheduler at %s", report->target);
    report->welcomed = true;
    report->away = false;
    report->pause_ms = REPORT_PAUSE_MIN_MS;
    worker_announcer_on_message(report->announcer, message, td_now_ns());
    worker_touch(report->runtime);
}

static void on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct worker_report *report = ctx;
    struct td_arena arena;
    const Td__AnnounceOut *message;

    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    message = proto_unpack(&arena, &td__announce_out__descriptor, bytes, length);
    if (message != NULL) {
        take(report, message);
    } else {
        rpc_call_cancel(call);
        on_lost(report, "a message cannot be read");
    }
    td_arena_fini(&arena);
}

static void on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    on_lost(ctx, detail != NULL && detail[0] != '\0' ? detail : td_status_text(status));
}

static const struct rpc_handlers handlers = {
    .on_message = on_message,
    .on_writable = on_writable,
    .on_close = on_close,
};

static void connect(struct net_timer *timer, uint64_t now_ns)
{
    struct worker_report *report = td_container_of(timer, struct worker_report, retry);
    struct rpc_call_options options = {
        .path = "/td.Scheduler/Announce", .handlers = &handlers, .ctx = report};

    report->welcomed = false;
    if (rpc_channel_call(report->channel, &options, &report->call) != TD_OK) {
        report->call = NULL;
        connect_soon(report);
        return;
    }
    worker_announcer_connected(report->announcer, now_ns);
    net_defer_post(report->runtime->config.loop, &report->pump);
    worker_touch(report->runtime);
}

static void env_announce_ready(void *impl, void *handle)
{
    struct worker_runtime *runtime = impl;
    struct worker_report *report = handle;

    net_defer_post(runtime->config.loop, &report->pump);
}

static td_status_t open_one(struct worker_runtime *runtime, const char *target)
{
    struct rpc_channel_config config = {.target = target,
                                        .expected_roles = NET_ROLE_BIT(NET_ROLE_SCHEDULER)};
    struct worker_report *report = calloc(1, sizeof *report);
    td_status_t status;

    if (report == NULL)
        return TD_NO_MEMORY;
    report->runtime = runtime;
    report->target = target;
    report->pause_ms = REPORT_PAUSE_MIN_MS;
    net_timer_init(&report->retry, runtime->config.loop, connect);
    net_defer_init(&report->pump, pump);
    status = rpc_channel_open(runtime->config.rpc, &config, &report->channel);
    if (status != TD_OK)
        goto free_report;
    status = worker_announcer_open(runtime->core, report, &report->announcer);
    if (status != TD_OK)
        goto close_channel;
    td_list_init(&report->node);
    td_list_push_back(&runtime->reports, &report->node);
    net_timer_set_in(&report->retry, 0);
    return TD_OK;

close_channel:
    rpc_channel_close(report->channel);
free_report:
    free(report);
    return status;
}

td_status_t worker_report_open(struct worker_runtime *runtime, struct td_error *error)
{
    const struct td_flag_list *schedulers = &runtime->config.options->schedulers;

    for (size_t i = 0; i < schedulers->count; i++) {
        td_status_t status = open_one(runtime, schedulers->items[i]);

        if (status != TD_OK)
            return td_fail(error, status, "scheduler %s: %s", schedulers->items[i],
                           td_status_text(status));
    }
    return TD_OK;
}

void worker_report_close(struct worker_runtime *runtime)
{
    struct td_list *node;

    while ((node = td_list_first(&runtime->reports)) != NULL) {
        struct worker_report *report = td_container_of(node, struct worker_report, node);

        td_list_remove(node);
        net_timer_cancel(&report->retry);
        net_defer_cancel(&report->pump);
        if (report->call != NULL) {
            rpc_call_cancel(report->call);
            worker_announcer_disconnected(report->announcer);
        }
        worker_announcer_close(report->announcer);
        rpc_channel_close(report->channel);
        free(report);
    }
}

void worker_report_env(struct worker_env *env)
{
    env->announce_ready = env_announce_ready;
}
