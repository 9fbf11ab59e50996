/* guess.c: a ring with sums, see guess.h. */
#include "scheduler/guess.h"

static void drop_oldest(struct sched_guesses *guesses)
{
    const struct sched_guess *oldest = &guesses->ring[guesses->first];

    guesses->tokens -= oldest->tokens;
    guesses->blocks -= oldest->blocks;
    guesses->first = (guesses->first + 1) % SCHED_GUESSES_MAX;
    guesses->count--;
}

void sched_guess_add(struct sched_guesses *guesses, struct sched_guess guess)
{
    if (guesses->count == SCHED_GUESSES_MAX)
        drop_oldest(guesses);
    guesses->ring[(guesses->first + guesses->count) % SCHED_GUESSES_MAX] = guess;
    guesses->tokens += guess.tokens;
    guesses->blocks += guess.blocks;
    guesses->count++;
}

void sched_guess_admitted(struct sched_guesses *guesses, uint64_t count)
{
    for (; count > 0 && guesses->count > 0; count--)
        drop_oldest(guesses);
}

void sched_guess_expire(struct sched_guesses *guesses, uint64_t now_ns, uint64_t age_ns)
{
    uint64_t before_ns = now_ns > age_ns ? now_ns - age_ns : 0;

    while (guesses->count > 0 && guesses->ring[guesses->first].at_ns < before_ns) {
        drop_oldest(guesses);
        guesses->expired++;
    }
}
