/*
 * loop.c: the event loop, timers and deferred calls, see loop.h. What is opened on a loop is in
 * loop_handles.c.
 *
 * All timers of a loop are in one heap, driven by one libuv timer. libuv counts in milliseconds
 * and may fire up to one too early; then the heap finds nothing due and the timer is set again.
 */
#include "lib/net/loop_internal.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/base/log.h"
#include "lib/base/time.h"

#define TIMER_DELAY_MAX_MS UINT64_C(3600000) /* a later deadline is looked at again hourly */

static void run_deferred(struct net_loop *loop)
{
    struct td_list batch;
    struct td_list *node;

    if (td_list_empty(&loop->deferred))
        return;
    td_list_init(&batch);
    while ((node = td_list_first(&loop->deferred)) != NULL) {
        td_list_remove(node);
        td_list_push_back(&batch, node);
    }
    while ((node = td_list_first(&batch)) != NULL) {
        struct net_defer *defer = td_container_of(node, struct net_defer, node);

        td_list_remove(node);
        defer->fn(defer);
    }
}

static void timer_due(uv_timer_t *handle)
{
    struct net_loop *loop = handle->data;

    loop->armed_ns = TD_TIME_NEVER;
    td_timers_run(&loop->timers, td_now_ns());
}

static void arm_timer(struct net_loop *loop)
{
    uint64_t next_ns = td_timers_next(&loop->timers);
    uint64_t now_ns = td_now_ns();
    uint64_t delay_ms = 0;

    if (next_ns == loop->armed_ns)
        return;
    loop->armed_ns = next_ns;
    if (next_ns == TD_TIME_NEVER) {
        uv_timer_stop(&loop->timer);
        return;
    }
    if (next_ns > now_ns)
        delay_ms = (next_ns - now_ns + TD_NS_PER_MS - 1) / TD_NS_PER_MS;
    if (delay_ms > TIMER_DELAY_MAX_MS)
        delay_ms = TIMER_DELAY_MAX_MS;
    uv_update_time(&loop->uv);
    uv_timer_start(&loop->timer, timer_due, delay_ms, 0);
}

/* An active idle handle keeps libuv from sleeping while something is deferred. */
static void sleepless(uv_idle_t *handle)
{
    (void)handle;
}

static void before_poll(uv_prepare_t *handle)
{
    struct net_loop *loop = handle->data;

    run_deferred(loop);
    arm_timer(loop);
    if (td_list_empty(&loop->deferred))
        uv_idle_stop(&loop->idle);
    else
        uv_idle_start(&loop->idle, sleepless);
}

static void after_poll(uv_check_t *handle)
{
    run_deferred(handle->data);
}

td_status_t net_loop_open(struct net_loop **loop_out)
{
    struct net_loop *loop = calloc(1, sizeof *loop);
    int error;

    if (loop == NULL)
        return TD_NO_MEMORY;
    error = uv_loop_init(&loop->uv);
    if (error != 0) {
        free(loop);
        return error == UV_ENOMEM ? TD_NO_MEMORY : TD_IO;
    }
    td_timers_init(&loop->timers);
    td_list_init(&loop->deferred);
    td_list_init(&loop->jobs);
    loop->armed_ns = TD_TIME_NEVER;
    /* none of these can fail once the loop is there */
    uv_timer_init(&loop->uv, &loop->timer);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_check_init(&loop->uv, &loop->check);
    loop->timer.data = loop->idle.data = loop->prepare.data = loop->check.data = loop;
    uv_prepare_start(&loop->prepare, before_poll);
    uv_check_start(&loop->check, after_poll);
    *loop_out = loop;
    return TD_OK;
}

void net_loop_run(struct net_loop *loop)
{
    uv_run(&loop->uv, UV_RUN_DEFAULT);
}

void net_loop_stop(struct net_loop *loop)
{
    if (!loop->closing)
        uv_stop(&loop->uv);
}

static void report_open_handle(uv_handle_t *handle, void *argument)
{
    int *open_count = argument;

    if (uv_is_closing(handle))
        return;
    td_log(TD_LOG_ERROR, "net", "loop closed with an open handle kind %s",
           uv_handle_type_name(handle->type));
    (*open_count)++;
}

void net_loop_close(struct net_loop *loop)
{
    int open_count = 0;

    if (loop == NULL)
        return;
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->check, NULL);
    uv_walk(&loop->uv, report_open_handle, &open_count);
    assert(open_count == 0 && "net_loop_close: something on the loop is still open");
    assert(td_timers_next(&loop->timers) == TD_TIME_NEVER && "net_loop_close: a timer is armed");
    assert(td_list_empty(&loop->deferred) && "net_loop_close: a deferred call is pending");
    net_loop_cancel_jobs(loop);
    loop->closing = true;
    uv_run(&loop->uv, UV_RUN_NOWAIT);  /* forgets a stop that nobody has run into yet */
    uv_run(&loop->uv, UV_RUN_DEFAULT); /* close callbacks, and jobs that were running */
    open_count = uv_loop_close(&loop->uv);
    assert(open_count == 0 && "net_loop_close: a callback opened something");
    free(loop);
}

static void heap_due(struct td_timer *heap_timer, uint64_t now_ns)
{
    struct net_timer *timer = td_container_of(heap_timer, struct net_timer, timer);

    timer->fn(timer, now_ns);
}

void net_timer_init(struct net_timer *timer, struct net_loop *loop, net_timer_fn fn)
{
    td_timer_init(&timer->timer, heap_due);
    timer->loop = loop;
    timer->fn = fn;
}

void net_timer_set(struct net_timer *timer, uint64_t at_ns)
{
    if (at_ns == TD_TIME_NEVER)
        net_timer_cancel(timer);
    else if (!timer->timer.armed || timer->timer.at_ns != at_ns)
        td_timer_set(&timer->loop->timers, &timer->timer, at_ns);
}

void net_timer_set_in(struct net_timer *timer, uint64_t delay_ms)
{
    net_timer_set(timer, td_now_ns() + delay_ms * TD_NS_PER_MS);
}

void net_timer_cancel(struct net_timer *timer)
{
    td_timer_cancel(&timer->loop->timers, &timer->timer);
}

void net_defer_init(struct net_defer *defer, net_defer_fn fn)
{
    td_list_init(&defer->node);
    defer->fn = fn;
}

void net_defer_post(struct net_loop *loop, struct net_defer *defer)
{
    if (td_list_empty(&defer->node))
        td_list_push_back(&loop->deferred, &defer->node);
}

void net_defer_cancel(struct net_defer *defer)
{
    td_list_remove(&defer->node);
}
