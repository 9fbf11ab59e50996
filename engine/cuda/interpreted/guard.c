/*
 * guard.c: memory that kernels must not touch before they have waited for earlier kernels; see interpreter.h.
 *
 * The pages cannot be read or written from the start of a block until all its threads have waited. So what is caught is
 * every access, whoever makes it and whatever is there.
 */
#include "engine/cuda/interpreted/guard.h"

#include <assert.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "engine/cuda/interpreted/interpreter.h"

static struct {
    struct {
        uint8_t *memory; /* NULL: free */
        size_t bytes;
    } guards[INTERPRETER_GUARDS];
    uint32_t count;
    const char *kernel; /* NULL: open to all */
} guarded;

static bool is_guarded(const void *place)
{
    for (uint32_t i = 0; i < INTERPRETER_GUARDS; i++)
        if (guarded.guards[i].memory != NULL &&
            (uintptr_t)place >= (uintptr_t)guarded.guards[i].memory &&
            (uintptr_t)place < (uintptr_t)guarded.guards[i].memory + guarded.guards[i].bytes)
            return true;
    return false;
}

/* What is no access to guarded memory happens again, to whoever it concerns. The process ends either way. */
static void tell(int signal_number, siginfo_t *info, void *context)
{
    (void)context;
    if (guarded.kernel == NULL || !is_guarded(info->si_addr)) {
        signal(signal_number, SIG_DFL);
        return;
    }
    fprintf(stderr, "kernel %s touches what other kernels write before it has waited for them\n",
            guarded.kernel);
    abort();
}

static void protect(int access)
{
    for (uint32_t i = 0; i < INTERPRETER_GUARDS; i++)
        if (guarded.guards[i].memory != NULL &&
            mprotect(guarded.guards[i].memory, guarded.guards[i].bytes, access) != 0) {
            perror("mprotect of interpreted memory");
            abort();
        }
}

void guard_add(void *memory, size_t bytes)
{
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    uint32_t free_place = 0;

    assert(guarded.count < INTERPRETER_GUARDS && (uintptr_t)memory % GUARD_PAGE == 0);
    while (guarded.guards[free_place].memory != NULL)
        free_place++;
    guarded.guards[free_place].memory = memory;
    guarded.guards[free_place].bytes = bytes / GUARD_PAGE * GUARD_PAGE;
    guarded.count++;
    sigemptyset(&action.sa_mask);
    sigaction(SIGSEGV, &action, NULL);
}

void guard_remove(const void *memory)
{
    for (uint32_t i = 0; i < INTERPRETER_GUARDS; i++)
        if (guarded.guards[i].memory == memory) {
            guarded.guards[i].memory = NULL;
            guarded.count--;
        }
}

bool guard_is_used(void)
{
    return guarded.count > 0;
}

void guard_close(const char *kernel)
{
    guarded.kernel = kernel;
    protect(PROT_NONE);
}

void guard_open(void)
{
    guarded.kernel = NULL;
    protect(PROT_READ | PROT_WRITE);
}
