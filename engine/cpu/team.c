/*
 * team.c: see team.h.
 *
 * All rests on one 64-bit word, `ticket`: the number of the piece in the upper bits, the units that
 * nobody has taken yet in the lower 28. A thread takes a unit by lowering it by one with a
 * compare-and-swap; only after that may it read what the piece is, for the piece cannot end before
 * that unit is done. A thread that slept through a piece finds another number and no unit, so it can
 * neither run old work nor steal new work with old arguments.
 */
#include "engine/cpu/team.h"

#include <assert.h>
#include <errno.h>
#include <fenv.h>
#include <inttypes.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNITS_BITS 28
#define UNITS_MASK ((UINT64_C(1) << UNITS_BITS) - 1)

/*
 * How long to wait awake. The gaps between the pieces of one step are about a microsecond; 100 pauses are 2 to 4.
 * Then a helper yields, which hands the core to whoever needs it, and takes about 30 microseconds when nobody
 * does. The leader never yields: others would keep its core for milliseconds, while all that it waits for is
 * the end of a unit. It goes on for up to about 50 microseconds, and then sleeps, so that a helper that
 * was interrupted in a unit can have the core.
 */
#define SPIN_PAUSES        100
#define SPIN_YIELDS        60
#define LEADER_SPIN_PAUSES 2000

struct helper {
    struct cpu_team *team;
    pthread_t thread;
    uint32_t index;
};

struct cpu_team {
    /* The piece: written by the leader before it sets the ticket, read by who has taken a unit. */
    cpu_unit_fn unit_fn;
    void *context;
    uint32_t units;
    uint32_t helper_count;
    struct helper *helpers;
    atomic_bool closing;
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic uint32_t done; /* units of this piece; the leader may sleep on it */
    _Atomic uint32_t leader_sleeps;
    _Alignas(64) _Atomic uint32_t wakings; /* helpers sleep on it */
    _Atomic uint32_t sleepers;
};

static void futex_wait(void *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(void *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void spin_pause(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#endif
}

/* One step of a helper's waiting awake; false when it is time to sleep. */
static bool spin(uint32_t *spins)
{
    if (*spins >= SPIN_PAUSES + SPIN_YIELDS)
        return false;
    if ((*spins)++ < SPIN_PAUSES)
        spin_pause();
    else
        sched_yield();
    return true;
}

/* Takes one unit and does it; false if there is none left. */
static bool work(struct cpu_team *team, uint32_t thread)
{
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    uint32_t units;

    do {
        if ((ticket & UNITS_MASK) == 0)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(&team->ticket, &ticket, ticket - 1,
                                                    memory_order_acq_rel, memory_order_acquire));
    units = team->units; /* after `done` reaches it, the leader may write the next piece */
    team->unit_fn(team->context, units - (uint32_t)(ticket & UNITS_MASK), thread);
    if (atomic_fetch_add(&team->done, 1) + 1 == units && atomic_load(&team->leader_sleeps) != 0)
        futex_wake(&team->done, 1);
    return true;
}

static bool has_news(struct cpu_team *team)
{
    return (atomic_load(&team->ticket) & UNITS_MASK) != 0 || atomic_load(&team->closing);
}

/*
 * Sleeps until the leader wakes. No waking is lost: the leader sets the ticket, then looks at
 * sleepers; we count ourselves in, then look at the ticket.
 */
static void sleep_for_work(struct cpu_team *team)
{
    uint32_t wakings = atomic_load(&team->wakings);

    atomic_fetch_add(&team->sleepers, 1);
    if (!has_news(team))
        futex_wait(&team->wakings, wakings);
    atomic_fetch_sub(&team->sleepers, 1);
}

static void wake_helpers(struct cpu_team *team)
{
    if (atomic_load(&team->sleepers) == 0)
        return;
    atomic_fetch_add(&team->wakings, 1);
    futex_wake(&team->wakings, INT32_MAX);
}

static void *help(void *argument)
{
    struct helper *helper = argument;
    struct cpu_team *team = helper->team;
    uint32_t spins = 0;

    fesetenv(FE_DFL_ENV); /* whoever started us may have changed rounding or flushes subnormals */
    while (!atomic_load(&team->closing)) {
        if (work(team, helper->index))
            spins = 0;
        else if (!spin(&spins)) {
            sleep_for_work(team);
            spins = 0;
        }
    }
    return NULL;
}

/* Helpers take no signals but those that their own instructions cause. */
static void block_signals(sigset_t *previous_out)
{
    static const int own[] = {SIGBUS, SIGSEGV, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
    sigset_t blocked;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigdelset(&blocked, own[i]);
    pthread_sigmask(SIG_SETMASK, &blocked, previous_out);
}

static td_status_t start_helpers(struct cpu_team *team, uint32_t count, struct td_error *error)
{
    sigset_t previous;
    td_status_t status = TD_OK;

    block_signals(&previous);
    for (; team->helper_count < count; team->helper_count++) {
        struct helper *helper = &team->helpers[team->helper_count];
        int rc;

        *helper = (struct helper){.team = team, .index = team->helper_count + 1};
        rc = pthread_create(&helper->thread, NULL, help, helper);
        if (rc != 0) {
            status = td_fail(error, TD_EXHAUSTED, "cannot start compute thread %" PRIu32 ": %s",
                             helper->index, strerror(rc));
            break;
        }
        pthread_setname_np(helper->thread, "tandem-compute");
    }
    pthread_sigmask(SIG_SETMASK, &previous, NULL);
    return status;
}

td_status_t cpu_team_open(uint32_t threads, struct cpu_team **team_out, struct td_error *error)
{
    struct cpu_team *team;
    td_status_t status;

    if (threads == 0 || threads > CPU_THREADS_MAX)
        return td_fail(error, TD_LIMIT, "%" PRIu32 " compute threads (1 to %d are possible)",
                       threads, CPU_THREADS_MAX);
    team = aligned_alloc(_Alignof(struct cpu_team), sizeof *team);
    if (team == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the compute threads");
    memset(team, 0, sizeof *team);
    team->helpers = calloc(threads, sizeof *team->helpers);
    if (team->helpers == NULL) {
        free(team);
        return td_fail(error, TD_NO_MEMORY, "no memory for the compute threads");
    }
    status = start_helpers(team, threads - 1, error);
    if (status != TD_OK) {
        cpu_team_close(team);
        return status;
    }
    *team_out = team;
    return TD_OK;
}

void cpu_team_close(struct cpu_team *team)
{
    if (team == NULL)
        return;
    atomic_store(&team->closing, true);
    wake_helpers(team);
    for (uint32_t i = 0; i < team->helper_count; i++)
        pthread_join(team->helpers[i].thread, NULL);
    free(team->helpers);
    free(team);
}

static void wait_until_done(struct cpu_team *team, uint32_t units)
{
    uint32_t spins = 0;
    uint32_t done;

    while ((done = atomic_load(&team->done)) != units) {
        if (spins++ < LEADER_SPIN_PAUSES) {
            spin_pause();
            continue;
        }
        atomic_store(&team->leader_sleeps, 1);
        done = atomic_load(&team->done); /* the last one may have finished before it saw us */
        if (done != units)
            futex_wait(&team->done, done);
        atomic_store(&team->leader_sleeps, 0);
    }
}

void cpu_team_run(struct cpu_team *team, cpu_unit_fn unit_fn, void *context, uint32_t units)
{
    uint64_t piece;

    assert(units <= CPU_UNITS_MAX);
    if (units <= 1 || team->helper_count == 0) { /* not worth anybody's attention */
        for (uint32_t unit = 0; unit < units; unit++)
            unit_fn(context, unit, 0);
        return;
    }
    team->unit_fn = unit_fn;
    team->context = context;
    team->units = units;
    atomic_store(&team->done, 0);
    piece = (atomic_load(&team->ticket) >> UNITS_BITS) + 1;
    atomic_store(&team->ticket, piece << UNITS_BITS | units);
    wake_helpers(team);
    while (work(team, 0))
        ;
    wait_until_done(team, units);
}

uint32_t cpu_team_threads(const struct cpu_team *team)
{
    return team->helper_count + 1;
}
