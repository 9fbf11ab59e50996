/*
 * rpc_bridge.c: the gRPC library in this process: its thread, its queue, and the way to the loop.
 *
 * The thread waits in the completion queue (which is also what moves gRPC's sockets) and pushes
 * each finished tag onto a list with one atomic exchange; the push that finds the list empty wakes
 * the loop. The list needs no capacity: its links are in the tags.
 */
#include <assert.h>
#include <errno.h>
#include <grpc/support/log.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/rpc_internal.h"

#define LINGER_MS     10000 /* for a final status to reach a peer that is slow to take it */
#define CLOSE_WAIT_MS 30000 /* for gRPC to give back its tags; a limit for the sake of having one */

/*
 * ThreadSanitizer cannot see that a tag passes through gRPC's queue, which is not instrumented.
 * These say so: what was written before the batch was started is visible after it has ended.
 */
#if defined(__SANITIZE_THREAD__)
#define HAS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAS_TSAN 1
#endif
#endif
#ifdef HAS_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
/* gRPC is not instrumented: what its own threads do to each other is not looked at. */
const char *__tsan_default_options(void);
const char *__tsan_default_options(void)
{
    return "ignore_noninstrumented_modules=1";
}
#define HAND_OVER(tag) __tsan_release(tag)
#define TAKE_OVER(tag) __tsan_acquire(tag)
#else
#define HAND_OVER(tag) ((void)(tag))
#define TAKE_OVER(tag) ((void)(tag))
#endif

/* ---- gRPC's thread ---- */

static void push(struct rpc *rpc, struct rpc_tag *tag)
{
    const uint64_t one = 1;
    struct rpc_tag *before = atomic_load_explicit(&rpc->done, memory_order_relaxed);

    do
        tag->next = before;
    while (!atomic_compare_exchange_weak_explicit(&rpc->done, &before, tag, memory_order_release,
                                                  memory_order_relaxed));
    if (before == NULL && write(rpc->wake_fd, &one, sizeof one) < 0)
        assert(errno == EAGAIN); /* the counter is full: the loop is awake */
}

static void *poll_queue(void *ctx)
{
    struct rpc *rpc = ctx;
    grpc_event event;

    while (
        (event = grpc_completion_queue_next(rpc->queue, gpr_inf_future(GPR_CLOCK_MONOTONIC), NULL))
            .type != GRPC_QUEUE_SHUTDOWN) {
        struct rpc_tag *tag = event.tag;

        TAKE_OVER(tag);
        tag->ok = event.success != 0;
        push(rpc, tag);
    }
    return NULL;
}

/* ---- on the loop ---- */

void rpc_expect(struct rpc *rpc, struct rpc_tag *tag)
{
    rpc->tags_out++;
    HAND_OVER(tag);
}

void rpc_start(struct rpc *rpc, grpc_call *call, const grpc_op *ops, size_t count,
               struct rpc_tag *tag)
{
    grpc_call_error error;

    rpc_expect(rpc, tag);
    error = grpc_call_start_batch(call, ops, count, tag, NULL);
    assert(error == GRPC_CALL_OK && "grpc_call_start_batch: a call was used wrongly");
    (void)error;
}

/* Runs what has finished, oldest first. */
static void dispatch(struct rpc *rpc)
{
    struct rpc_tag *newest = atomic_exchange_explicit(&rpc->done, NULL, memory_order_acquire);
    struct rpc_tag *oldest = NULL;

    while (newest != NULL) {
        struct rpc_tag *tag = newest;

        newest = tag->next;
        tag->next = oldest;
        oldest = tag;
    }
    rpc->dispatching = true;
    while (oldest != NULL) {
        struct rpc_tag *tag = oldest;

        oldest = tag->next;
        rpc->tags_out--;
        tag->fn(tag, tag->ok); /* may free the tag */
    }
    rpc->dispatching = false;
}

static void queue_event(void *ctx, unsigned events)
{
    struct rpc *rpc = ctx;
    uint64_t count;

    (void)events;
    /* cleared first: a push after this wakes us again */
    if (read(rpc->wake_fd, &count, sizeof count) < 0)
        assert(errno == EAGAIN);
    dispatch(rpc);
}

/* ---- calls without users ---- */

static void linger_due(struct net_timer *timer, uint64_t now_ns)
{
    struct rpc *rpc = td_container_of(timer, struct rpc, linger_timer);
    struct td_list *node;

    while ((node = td_list_first(&rpc->lingering)) != NULL) {
        struct rpc_call *call = td_container_of(node, struct rpc_call, linger_node);

        if (call->linger_until_ns > now_ns) {
            net_timer_set(timer, call->linger_until_ns);
            return;
        }
        td_list_remove(node);
        grpc_call_cancel(call->grpc, NULL);
    }
}

void rpc_linger(struct rpc *rpc, struct rpc_call *call)
{
    call->linger_until_ns = td_now_ns() + LINGER_MS * TD_NS_PER_MS;
    td_list_push_back(&rpc->lingering, &call->linger_node);
    if (!net_timer_armed(&rpc->linger_timer))
        net_timer_set(&rpc->linger_timer, call->linger_until_ns);
}

/* ---- life ---- */

static void log_line(gpr_log_func_args *line)
{
    td_log(line->severity == GPR_LOG_SEVERITY_ERROR ? TD_LOG_WARN : TD_LOG_DEBUG, "grpc", "%s",
           line->message);
}

/* A thread without signals: they belong to the loop. */
static int start_thread(struct rpc *rpc)
{
    sigset_t all;
    sigset_t before;
    int error;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    error = pthread_create(&rpc->thread, NULL, poll_queue, rpc);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return error;
}

static void close_library(struct rpc *rpc)
{
    grpc_completion_queue_shutdown(rpc->queue);
    pthread_join(rpc->thread, NULL);
    grpc_completion_queue_destroy(rpc->queue);
    grpc_shutdown_blocking();
}

static td_status_t open_library(struct rpc *rpc)
{
    sigset_t all;
    sigset_t before;

    gpr_set_log_function(log_line);
    gpr_set_log_verbosity(GPR_LOG_SEVERITY_ERROR);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* inherited by gRPC's own threads */
    grpc_init();
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    rpc->queue = grpc_completion_queue_create_for_next(NULL);
    if (start_thread(rpc) == 0)
        return TD_OK;
    grpc_completion_queue_shutdown(rpc->queue);
    grpc_completion_queue_destroy(rpc->queue);
    grpc_shutdown();
    return TD_IO;
}

td_status_t rpc_open(struct net_loop *loop, struct net_tls *tls, struct rpc **rpc_out)
{
    struct rpc *rpc = calloc(1, sizeof *rpc);
    td_status_t status;

    if (rpc == NULL)
        return TD_NO_MEMORY;
    rpc->loop = loop;
    rpc->tls = tls;
    atomic_init(&rpc->done, NULL);
    td_list_init(&rpc->servers);
    td_list_init(&rpc->channels);
    td_list_init(&rpc->retired);
    td_list_init(&rpc->lingering);
    net_timer_init(&rpc->linger_timer, loop, linger_due);
    rpc->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    status =
        rpc->wake_fd < 0 ? TD_IO : net_poll_open(loop, rpc->wake_fd, queue_event, rpc, &rpc->poll);
    if (status == TD_OK)
        status = open_library(rpc);
    if (status != TD_OK) {
        net_poll_close(rpc->poll);
        if (rpc->wake_fd >= 0)
            close(rpc->wake_fd);
        free(rpc);
        return status;
    }
    net_poll_set(rpc->poll, NET_READABLE);
    *rpc_out = rpc;
    return TD_OK;
}

/* Dispatches until gRPC has given back every tag. No user hears anything any more. */
static void wait_for_tags(struct rpc *rpc)
{
    uint64_t give_up_ns = td_now_ns() + CLOSE_WAIT_MS * TD_NS_PER_MS;
    struct pollfd wake = {.fd = rpc->wake_fd, .events = POLLIN};

    while (rpc->tags_out > 0 && td_now_ns() < give_up_ns) {
        poll(&wake, 1, 100);
        queue_event(rpc, NET_READABLE);
    }
    assert(rpc->tags_out == 0 && "gRPC did not give back what it was given");
}

void rpc_close(struct rpc *rpc)
{
    struct td_list *node;

    if (rpc == NULL)
        return;
    assert(!rpc->dispatching && "rpc_close is called from a callback of the same rpc");
    while ((node = td_list_first(&rpc->servers)) != NULL)
        rpc_server_close(td_container_of(node, struct rpc_server, node));
    while ((node = td_list_first(&rpc->channels)) != NULL)
        rpc_channel_close(td_container_of(node, struct rpc_channel, node));
    while ((node = td_list_first(&rpc->lingering)) != NULL) {
        td_list_remove(node);
        grpc_call_cancel(td_container_of(node, struct rpc_call, linger_node)->grpc, NULL);
    }
    rpc_drop_retired(rpc);
    net_timer_cancel(&rpc->linger_timer);
    wait_for_tags(rpc);
    close_library(rpc);
    net_poll_close(rpc->poll);
    close(rpc->wake_fd);
    free(rpc);
}
