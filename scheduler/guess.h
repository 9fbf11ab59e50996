/*
 * guess.h: what was placed on a worker since it last spoke.
 *
 * Load reports are always a little old. Between two of them every placement is remembered here as a
 * guess, so that a burst of requests does not all go to the worker that looked idle. A guess ends when
 * the worker says that it has admitted a request (first placed, first admitted), or after a time:
 * the request was canceled, or failed on its way. Several schedulers see each other's requests only in
 * the reports, so an admission of theirs may end a guess of ours early; the report that says so
 * also carries the real load.
 */
#ifndef TANDEM_SCHEDULER_GUESS_H
#define TANDEM_SCHEDULER_GUESS_H

#include <stdint.h>

#define SCHED_GUESSES_MAX 256 /* per worker; a further one pushes out the oldest */

struct sched_guess {
    uint64_t at_ns;
    uint32_t tokens; /* to be prefilled there */
    uint32_t blocks; /* to be taken there */
};

struct sched_guesses {
    struct sched_guess ring[SCHED_GUESSES_MAX];
    uint32_t first;
    uint32_t count;
    uint64_t tokens; /* sums over the ring */
    uint64_t blocks;
    uint64_t expired; /* ended by time since the start */
};

void sched_guess_add(struct sched_guesses *guesses, struct sched_guess guess);

/* Ends the oldest ones: the worker has admitted so many requests. */
void sched_guess_admitted(struct sched_guesses *guesses, uint64_t count);

/* Ends those that are older than age_ns. */
void sched_guess_expire(struct sched_guesses *guesses, uint64_t now_ns, uint64_t age_ns);

#endif
