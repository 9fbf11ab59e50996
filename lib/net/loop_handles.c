/* loop_handles.c: wake-ups, signals, descriptors and jobs on a loop, see loop.h. */
#include <assert.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "lib/net/loop_internal.h"

/* The memory of a handle belongs to libuv until its close callback. */
static void free_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static td_status_t status_of(int error)
{
    return error == UV_ENOMEM ? TD_NO_MEMORY : TD_IO;
}

/* ---- wake-ups ---- */

struct net_wake {
    uv_async_t async;
    net_fn fn;
    void *ctx;
    _Atomic unsigned sends; /* orders memory: libuv's own way of doing so is not a promise */
};

static void woken(uv_async_t *async)
{
    struct net_wake *wake = async->data;

    (void)atomic_load_explicit(&wake->sends, memory_order_acquire);
    wake->fn(wake->ctx);
}

td_status_t net_wake_open(struct net_loop *loop, net_fn fn, void *ctx, struct net_wake **wake_out)
{
    struct net_wake *wake = calloc(1, sizeof *wake);
    int error;

    if (wake == NULL)
        return TD_NO_MEMORY;
    error = uv_async_init(&loop->uv, &wake->async, woken);
    if (error != 0) {
        free(wake);
        return status_of(error);
    }
    wake->async.data = wake;
    wake->fn = fn;
    wake->ctx = ctx;
    *wake_out = wake;
    return TD_OK;
}

void net_wake_send(struct net_wake *wake)
{
    int error;

    atomic_fetch_add_explicit(&wake->sends, 1, memory_order_release);
    error = uv_async_send(&wake->async);
    assert(error == 0);
    (void)error;
}

void net_wake_close(struct net_wake *wake)
{
    if (wake != NULL)
        uv_close((uv_handle_t *)&wake->async, free_closed);
}

/* ---- signals ---- */

struct net_signal {
    uv_signal_t handle;
    net_fn fn;
    void *ctx;
};

static void signaled(uv_signal_t *handle, int signal_number)
{
    struct net_signal *signal = handle->data;

    (void)signal_number;
    signal->fn(signal->ctx);
}

td_status_t net_signal_open(struct net_loop *loop, int signal_number, net_fn fn, void *ctx,
                            struct net_signal **signal_out)
{
    struct net_signal *signal = calloc(1, sizeof *signal);
    int error;

    if (signal == NULL)
        return TD_NO_MEMORY;
    error = uv_signal_init(&loop->uv, &signal->handle);
    if (error != 0) {
        free(signal);
        return status_of(error);
    }
    signal->handle.data = signal;
    signal->fn = fn;
    signal->ctx = ctx;
    error = uv_signal_start(&signal->handle, signaled, signal_number);
    if (error != 0) {
        net_signal_close(signal);
        return error == UV_EINVAL ? TD_INVALID : status_of(error);
    }
    *signal_out = signal;
    return TD_OK;
}

/*
 * libuv brings back the default with the last watcher, which is death for most: one signal more,
 * between here and exit(), and a process that ended in order would look like one that was killed.
 * The signal is held back for the moment between the two.
 */
void net_signal_close(struct net_signal *watcher)
{
    struct sigaction action;
    sigset_t held, before;
    int number;

    if (watcher == NULL)
        return;
    number = watcher->handle.signum; /* 0 if it was never started */
    sigemptyset(&held);
    if (number > 0)
        sigaddset(&held, number);
    pthread_sigmask(SIG_BLOCK, &held, &before);
    uv_close((uv_handle_t *)&watcher->handle, free_closed);
    if (number > 0 && sigaction(number, NULL, &action) == 0 && action.sa_handler == SIG_DFL)
        signal(number, SIG_IGN);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* ---- descriptors ---- */

struct net_poll {
    uv_poll_t handle;
    net_poll_fn fn;
    void *ctx;
    unsigned events;
};

static void ready(uv_poll_t *handle, int status, int uv_events)
{
    struct net_poll *poll = handle->data;
    unsigned events = 0;

    if (status < 0) {
        poll->events = 0; /* libuv has stopped it */
        poll->fn(poll->ctx, NET_BROKEN);
        return;
    }
    if (uv_events & UV_READABLE)
        events |= NET_READABLE;
    if (uv_events & UV_WRITABLE)
        events |= NET_WRITABLE;
    if (uv_events & UV_DISCONNECT)
        events |= NET_HANGUP;
    poll->fn(poll->ctx, events);
}

td_status_t net_poll_open(struct net_loop *loop, int fd, net_poll_fn fn, void *ctx,
                          struct net_poll **poll_out)
{
    struct net_poll *poll = calloc(1, sizeof *poll);
    int error;

    if (poll == NULL)
        return TD_NO_MEMORY;
    error = uv_poll_init(&loop->uv, &poll->handle, fd);
    if (error != 0) {
        free(poll);
        return status_of(error);
    }
    poll->handle.data = poll;
    poll->fn = fn;
    poll->ctx = ctx;
    *poll_out = poll;
    return TD_OK;
}

void net_poll_set(struct net_poll *poll, unsigned events)
{
    int uv_events = 0;

    if (events == poll->events)
        return; /* each change costs two system calls */
    poll->events = events;
    if (events & NET_READABLE)
        uv_events |= UV_READABLE;
    if (events & NET_WRITABLE)
        uv_events |= UV_WRITABLE;
    if (events & NET_HANGUP)
        uv_events |= UV_DISCONNECT;
    if (uv_events == 0)
        uv_poll_stop(&poll->handle);
    else
        uv_poll_start(&poll->handle, uv_events, ready);
}

void net_poll_close(struct net_poll *poll)
{
    if (poll != NULL)
        uv_close((uv_handle_t *)&poll->handle, free_closed);
}

/* ---- jobs ---- */

struct net_work {
    uv_work_t request;
    struct td_list node;
    const struct net_job *job;
    void *ctx;
    bool canceled;
};

static void run_job(uv_work_t *request)
{
    struct net_work *work = request->data;

    work->job->run(work->ctx);
}

static void job_done(uv_work_t *request, int error)
{
    struct net_work *work = request->data;
    bool canceled = work->canceled || error == UV_ECANCELED;
    const struct net_job *job = work->job;
    void *ctx = work->ctx;

    td_list_remove(&work->node);
    free(work);
    job->done(ctx, canceled ? TD_CANCELED : TD_OK);
}

td_status_t net_work_start(struct net_loop *loop, const struct net_job *job, void *ctx,
                           struct net_work **work_out)
{
    struct net_work *work = calloc(1, sizeof *work);

    if (work == NULL)
        return TD_NO_MEMORY;
    work->request.data = work;
    work->job = job;
    work->ctx = ctx;
    if (uv_queue_work(&loop->uv, &work->request, run_job, job_done) != 0) {
        free(work);
        return TD_INTERNAL;
    }
    td_list_push_back(&loop->jobs, &work->node);
    *work_out = work;
    return TD_OK;
}

void net_work_cancel(struct net_work *work)
{
    work->canceled = true;
    uv_cancel((uv_req_t *)&work->request); /* fails if it runs already: then done comes later */
}

void net_loop_cancel_jobs(struct net_loop *loop)
{
    td_list_for_each(node, &loop->jobs)
        net_work_cancel(td_container_of(node, struct net_work, node));
}
