/*
 * pump.c: between the worker core on the loop and the two threads below it.
 *
 * A command for which a ring has no room waits in a list on this side, in order; the thread's wake says
 * when there is room again. Events are taken in bounded portions, so that a busy engine cannot keep the
 * loop from its sockets.
 */
#include <stdlib.h>

#include "worker/runtime_internal.h"

#define PUMP_EVENTS_PER_TURN 256

struct backlog_engine {
    struct td_list node;
    struct engine_command command;
};

struct backlog_transfer {
    struct td_list node;
    struct kvt_command command;
};

/* --- commands --- */

static void *backlog_new(size_t bytes)
{
    void *entry = malloc(bytes);

    if (entry == NULL) {
        /* A command that is lost leaves blocks in use for ever: better to start again. */
        td_log(TD_LOG_ERROR, "pump", "no memory for a command; giving up");
        abort();
    }
    return entry;
}

void worker_pump_engine(void *impl, struct engine_command *command)
{
    struct worker_runtime *runtime = impl;
    struct backlog_engine *entry;

    if (td_list_empty(&runtime->engine_backlog) &&
        engine_runtime_push(runtime->engines.engine, command) == TD_OK)
        return;
    entry = backlog_new(sizeof *entry);
    entry->command = *command;
    td_list_init(&entry->node);
    td_list_push_back(&runtime->engine_backlog, &entry->node);
}

void worker_pump_transfers(void *impl, struct kvt_command *command)
{
    struct worker_runtime *runtime = impl;
    struct backlog_transfer *entry;

    if (td_list_empty(&runtime->transfer_backlog) &&
        kvt_runtime_push(runtime->engines.transfers, command) == TD_OK)
        return;
    entry = backlog_new(sizeof *entry);
    entry->command = *command;
    td_list_init(&entry->node);
    td_list_push_back(&runtime->transfer_backlog, &entry->node);
}

static void flush_backlogs(struct worker_runtime *runtime)
{
    struct td_list *node;

    while ((node = td_list_first(&runtime->engine_backlog)) != NULL) {
        struct backlog_engine *entry = td_container_of(node, struct backlog_engine, node);

        if (engine_runtime_push(runtime->engines.engine, &entry->command) != TD_OK)
            break;
        td_list_remove(node);
        free(entry);
    }
    while ((node = td_list_first(&runtime->transfer_backlog)) != NULL) {
        struct backlog_transfer *entry = td_container_of(node, struct backlog_transfer, node);

        if (kvt_runtime_push(runtime->engines.transfers, &entry->command) != TD_OK)
            break;
        td_list_remove(node);
        free(entry);
    }
}

/* --- events --- */

static bool take_engine_events(struct worker_runtime *runtime)
{
    struct engine_event event;

    for (int i = 0; i < PUMP_EVENTS_PER_TURN; i++) {
        if (!engine_runtime_pop(runtime->engines.engine, &event))
            return false;
        worker_core_on_engine(runtime->core, &event, td_now_ns());
    }
    return true;
}

static bool take_transfer_events(struct worker_runtime *runtime)
{
    struct kvt_event event;

    for (int i = 0; i < PUMP_EVENTS_PER_TURN; i++) {
        if (!kvt_runtime_pop(runtime->engines.transfers, &event))
            return false;
        worker_core_on_kvt(runtime->core, &event, td_now_ns());
    }
    return true;
}

static void on_wake(void *ctx)
{
    struct worker_runtime *runtime = ctx;
    bool more;

    if (runtime->core == NULL)
        return; /* before the opening or after the end of it */
    flush_backlogs(runtime);
    more = take_transfer_events(runtime);
    more = take_engine_events(runtime) || more;
    flush_backlogs(runtime); /* what these events made, as far as there is room by now */
    if (more)
        net_wake_send(runtime->wake);
    worker_touch(runtime);
}

void worker_pump_hear_engine(struct worker_runtime *runtime)
{
    while (take_engine_events(runtime))
        ;
}

void worker_pump_wake(void *impl)
{
    struct worker_runtime *runtime = impl;

    net_wake_send(runtime->wake);
}

/* --- time --- */

static void on_settle(struct net_defer *defer)
{
    struct worker_runtime *runtime = td_container_of(defer, struct worker_runtime, settle);

    worker_watch_engine(runtime);
    net_timer_set(&runtime->timer, worker_core_next_deadline(runtime->core));
    worker_phase_advance(runtime);
}

static void on_timer(struct net_timer *timer, uint64_t now_ns)
{
    struct worker_runtime *runtime = td_container_of(timer, struct worker_runtime, timer);

    worker_core_tick(runtime->core, now_ns);
    worker_touch(runtime);
}

void worker_touch(struct worker_runtime *runtime)
{
    net_defer_post(runtime->config.loop, &runtime->settle);
}

/* --- opening and closing --- */

td_status_t worker_pump_open(struct worker_runtime *runtime)
{
    td_list_init(&runtime->engine_backlog);
    td_list_init(&runtime->transfer_backlog);
    net_defer_init(&runtime->settle, on_settle);
    net_timer_init(&runtime->timer, runtime->config.loop, on_timer);
    return net_wake_open(runtime->config.loop, on_wake, runtime, &runtime->wake);
}

/* After the threads have ended: they send wake-ups. */
void worker_pump_close(struct worker_runtime *runtime)
{
    net_timer_cancel(&runtime->timer);
    net_defer_cancel(&runtime->settle);
    net_wake_close(runtime->wake);
    td_list_for_each(engine_node, &runtime->engine_backlog)
    {
        struct backlog_engine *entry = td_container_of(engine_node, struct backlog_engine, node);

        engine_command_fini(&entry->command);
        free(entry);
    }
    td_list_for_each(transfer_node, &runtime->transfer_backlog)
    {
        struct backlog_transfer *entry =
            td_container_of(transfer_node, struct backlog_transfer, node);

        kvt_command_fini(&entry->command);
        free(entry);
    }
}
