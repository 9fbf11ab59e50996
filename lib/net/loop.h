/*
 * loop.h: the event loop of a process, over libuv, which nobody else includes.
 *
 * One thread owns a loop and everything that is opened on it; all callbacks run on that thread.
 * The only call that another thread may make is net_wake_send. Callbacks may open, set and close
 * anything, themselves included; after a close its callback does not run any more.
 *
 * A turn of the loop: due timers, then ready descriptors and wake-ups, then what was deferred.
 * Timers and deferred calls live in their owner's storage and cost no allocation; the rest is
 * opaque and has open and close.
 */
#ifndef TANDEM_LIB_NET_LOOP_H
#define TANDEM_LIB_NET_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/list.h"
#include "lib/base/status.h"
#include "lib/base/timers.h"

struct net_loop;

typedef void (*net_fn)(void *ctx);

/* Opens a loop on the calling thread. TD_NO_MEMORY, or TD_IO if the kernel has no descriptors. */
td_status_t net_loop_open(struct net_loop **loop_out) TD_MUST_USE;

/* Runs until net_loop_stop. May be called again afterwards. */
void net_loop_run(struct net_loop *loop);

/*
 * Makes net_loop_run return at the end of this turn; between two runs, the next one at once. Loop
 * thread only; others send a wake-up.
 */
void net_loop_stop(struct net_loop *loop);

/*
 * Closes the loop, after everything that was opened on it has been closed (asserted). Waits for
 * jobs of the thread pool that are running, whose done callbacks still run, with TD_CANCELED.
 */
void net_loop_close(struct net_loop *loop);

/* ------------------------------------------------------------------------------------------
 * Timers: one-shot, intrusive, never early; late by a millisecond or by what the loop is doing.
 * ------------------------------------------------------------------------------------------ */

struct net_timer;
typedef void (*net_timer_fn)(struct net_timer *timer, uint64_t now_ns);

struct net_timer {
    struct td_timer timer;
    struct net_loop *loop;
    net_timer_fn fn;
};

void net_timer_init(struct net_timer *timer, struct net_loop *loop, net_timer_fn fn);

/*
 * Arms or moves the timer to at_ns of the clock of td_now_ns; TD_TIME_NEVER disarms it. So the
 * driver of a pure core writes net_timer_set(&timer, td_timers_next(&core_timers)).
 */
void net_timer_set(struct net_timer *timer, uint64_t at_ns);

/* Arms the timer delay_ms from now. */
void net_timer_set_in(struct net_timer *timer, uint64_t delay_ms);

/* Disarms it; harmless if it is not armed. */
void net_timer_cancel(struct net_timer *timer);

static inline bool net_timer_armed(const struct net_timer *timer)
{
    return timer->timer.armed;
}

/* ------------------------------------------------------------------------------------------
 * Deferred calls: once at the end of this turn, however often they were posted. For batching.
 * ------------------------------------------------------------------------------------------ */

struct net_defer;
typedef void (*net_defer_fn)(struct net_defer *defer);

struct net_defer {
    struct td_list node;
    net_defer_fn fn;
};

void net_defer_init(struct net_defer *defer, net_defer_fn fn);

/* Posted while deferred calls run, it runs in the next turn, which then starts at once. */
void net_defer_post(struct net_loop *loop, struct net_defer *defer);

void net_defer_cancel(struct net_defer *defer);

/* ------------------------------------------------------------------------------------------
 * Wake-ups from other threads.
 * ------------------------------------------------------------------------------------------ */

struct net_wake;

td_status_t net_wake_open(struct net_loop *loop, net_fn fn, void *ctx,
                          struct net_wake **wake_out) TD_MUST_USE;

/*
 * Any thread, any time between open and close: fn runs on the loop soon. Several sends may become
 * one call. What the sender wrote before is visible to fn.
 */
void net_wake_send(struct net_wake *wake);

/* The owner makes sure that no other thread sends any more. NULL is allowed. */
void net_wake_close(struct net_wake *wake);

/* ------------------------------------------------------------------------------------------
 * Unix signals, delivered as callbacks.
 * ------------------------------------------------------------------------------------------ */

struct net_signal;

td_status_t net_signal_open(struct net_loop *loop, int signal_number, net_fn fn, void *ctx,
                            struct net_signal **signal_out) TD_MUST_USE;

/* When the last one of a signal is closed, the signal is ignored. NULL is fine. */
void net_signal_close(struct net_signal *watcher);

/* ------------------------------------------------------------------------------------------
 * Readiness of descriptors (level-triggered).
 * ------------------------------------------------------------------------------------------ */

enum net_event {
    NET_READABLE = 1,
    NET_WRITABLE = 2,
    NET_HANGUP = 4, /* a socket's peer has closed its sending side */
    NET_BROKEN = 8, /* reported only: error on the descriptor; no further events come */
};

struct net_poll;
typedef void (*net_poll_fn)(void *ctx, unsigned events);

/* Watches fd (which stays the caller's) for events, a set of enum net_event; 0: nothing yet. */
td_status_t net_poll_open(struct net_loop *loop, int fd, net_poll_fn fn, void *ctx,
                          struct net_poll **poll_out) TD_MUST_USE;
void net_poll_set(struct net_poll *poll, unsigned events);

/* After this the descriptor may be closed. NULL is allowed. */
void net_poll_close(struct net_poll *poll);

/* ------------------------------------------------------------------------------------------
 * Jobs for the thread pool: file reading, hashing, whatever would stall the loop.
 * ------------------------------------------------------------------------------------------ */

struct net_work;

struct net_job {
    void (*run)(void *ctx);                      /* on a pool thread; owns ctx until it returns */
    void (*done)(void *ctx, td_status_t status); /* on the loop, exactly once, after run */
};

/* TD_OK: done will run. The job must be static or live as long as the work. */
td_status_t net_work_start(struct net_loop *loop, const struct net_job *job, void *ctx,
                           struct net_work **work_out) TD_MUST_USE;

/*
 * Says that the result is not wanted: done gets TD_CANCELED, and run may never have run. ctx must
 * live until done all the same, because run may be using it at this moment.
 */
void net_work_cancel(struct net_work *work);

#endif
