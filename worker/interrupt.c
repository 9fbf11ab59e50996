/* interrupt.c: see interrupt.h. */
#include "worker/interrupt.h"

#include <unistd.h>

static const int signals[WORKER_INTERRUPTS] = {SIGTERM, SIGINT};

/* Only what is safe in a signal handler. */
static void on_interrupt(int signal_number)
{
    static const char message[] = "tandem: asked to stop while loading; nothing was begun\n";
    ssize_t written = write(STDERR_FILENO, message, sizeof message - 1);

    (void)signal_number;
    (void)written;
    _exit(0);
}

static void set_mask(int how)
{
    sigset_t set;

    sigemptyset(&set);
    for (int i = 0; i < WORKER_INTERRUPTS; i++)
        sigaddset(&set, signals[i]);
    pthread_sigmask(how, &set, NULL); /* fails for no valid call */
}

void worker_interrupt_hold(void)
{
    set_mask(SIG_BLOCK);
}

void worker_interrupt_begin(struct worker_interrupt *interrupt)
{
    struct sigaction action = {.sa_handler = on_interrupt};

    sigemptyset(&action.sa_mask);
    for (int i = 0; i < WORKER_INTERRUPTS; i++)
        sigaction(signals[i], &action, &interrupt->previous[i]); /* fails for no valid signal */
    set_mask(SIG_UNBLOCK);
}

void worker_interrupt_end(struct worker_interrupt *interrupt)
{
    for (int i = 0; i < WORKER_INTERRUPTS; i++)
        sigaction(signals[i], &interrupt->previous[i], NULL);
}
