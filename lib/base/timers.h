/*
 * timers.h: deadlines for a pure core, as an intrusive pairing heap.
 *
 * The core owns a struct td_timers and says when it next wants to run (td_timers_next); whoever
 * drives it (a libuv timer, or the simulator's virtual clock) calls td_timers_run with the time.
 * Nothing is allocated. Timers with equal deadlines fire in the order in which they were set, so
 * runs are reproducible. Not thread-safe: one owner.
 */
#ifndef TANDEM_LIB_BASE_TIMERS_H
#define TANDEM_LIB_BASE_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

struct td_timer;
typedef void (*td_timer_fn)(struct td_timer *timer, uint64_t now_ns);

struct td_timer {
    uint64_t at_ns;
    uint64_t order;
    td_timer_fn fn;
    struct td_timer *child;
    struct td_timer *next; /* next sibling */
    struct td_timer *prev; /* previous sibling, or the parent for a first child */
    bool armed;
};

struct td_timers {
    struct td_timer *root;
    uint64_t order;
};

void td_timers_init(struct td_timers *timers);

/* Gives the timer its callback. The timer is not armed. */
void td_timer_init(struct td_timer *timer, td_timer_fn fn);

/* Arms the timer for at_ns, or moves it there if it is armed already. */
void td_timer_set(struct td_timers *timers, struct td_timer *timer, uint64_t at_ns);

/* Disarms the timer; harmless if it is not armed. */
void td_timer_cancel(struct td_timers *timers, struct td_timer *timer);

/* When the next timer is due, or TD_TIME_NEVER. */
uint64_t td_timers_next(const struct td_timers *timers);

/*
 * Fires all timers due at now_ns. A callback may set and cancel any timer. A timer set for now
 * or earlier from inside a callback fires in the same call.
 */
void td_timers_run(struct td_timers *timers, uint64_t now_ns);

#endif
