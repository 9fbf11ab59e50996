/*
 * interrupt.h: ending promptly when a signal comes before there is anything to end in order.
 *
 * While a worker loads, its loop does not run, so nobody would hear SIGTERM or SIGINT for seconds, and as
 * the first process of a container it would not even die of them. In this time they end the process at
 * once, with a line and exit status 0: it was asked to stop, and has promised nothing to anybody yet. What
 * others see of a half-made cache entry is nothing (engine/cpu/cache.h).
 *
 * What comes earlier is held back for this time. Else it would go to the loop, which is there before the
 * model is, and be heard when all is loaded; or to nobody, in the first process of a container.
 */
#ifndef TANDEM_WORKER_INTERRUPT_H
#define TANDEM_WORKER_INTERRUPT_H

#include <signal.h>

#define WORKER_INTERRUPTS 2

/* The handlers that were there before. */
struct worker_interrupt {
    struct sigaction previous[WORKER_INTERRUPTS];
};

/* First of all, in the main thread: from here to worker_interrupt_begin the signals wait. */
void worker_interrupt_hold(void);

/* Main thread. Between the two, the signals are not the loop's. */
void worker_interrupt_begin(struct worker_interrupt *interrupt);
void worker_interrupt_end(struct worker_interrupt *interrupt);

#endif
