/*
 * ucx_events.c: keeps UCX's TCP transport from using an endpoint that it has freed.
 *
 * uct_tcp_iface_handle_events calls the endpoint's read handler and then its write handler, and goes
 * on to the next of the events it has fetched. A read handler may free its own endpoint and others:
 * when we have closed a connection by force while its socket was full, and the peer, frozen until
 * then, is woken and hangs up, both events come together. Memory is then corrupted (valgrind shows
 * it; one in some 150 such wakings crashed). Later versions have the same code.
 *
 * So this program puts a function of its own in front of libucs's: fetch one event, tell one half of
 * it. Sockets in UCX's sets are watched level-triggered, so what is not told comes again.
 */
#include <dlfcn.h>
#include <stdatomic.h>
#include <string.h>
#include <ucs/sys/event_set.h>

#include "kvtransfer/ucx_private.h"

#define READ_AND_WRITE (UCS_EVENT_SET_EVREAD | UCS_EVENT_SET_EVWRITE)

typedef ucs_status_t (*wait_fn)(ucs_sys_event_set_t *, unsigned *, int, ucs_event_set_handler_t,
                                void *);

/* The handler that UCX gave us. */
struct told {
    ucs_event_set_handler_t handler;
    void *argument;
};

/* ISO C has no cast from void * to a function. */
static wait_fn find(void *where)
{
    void *symbol = dlsym(where, "ucs_event_set_wait");
    wait_fn function;

    _Static_assert(sizeof function == sizeof symbol, "dlsym returns functions too");
    memcpy(&function, &symbol, sizeof function);
    return function;
}

/* Takes turns, so that neither half of a busy socket starves. */
static void tell_half(void *callback_data, ucs_event_set_types_t events, void *argument)
{
    static _Thread_local bool is_writes_turn;
    const struct told *told = argument;

    if ((events & READ_AND_WRITE) == READ_AND_WRITE &&
        (events & UCS_EVENT_SET_EDGE_TRIGGERED) == 0) {
        is_writes_turn = !is_writes_turn;
        events = (ucs_event_set_types_t)(events & ~(is_writes_turn ? UCS_EVENT_SET_EVREAD
                                                                   : UCS_EVENT_SET_EVWRITE));
    }
    told->handler(callback_data, events, told->argument);
}

/* Its prototype comes with event_set.h; everybody else's calls of it land here. */
__attribute__((visibility("default"))) ucs_status_t ucs_event_set_wait(
    ucs_sys_event_set_t *event_set, unsigned *num_events, int timeout_ms,
    ucs_event_set_handler_t event_set_handler, void *arg)
{
    static _Atomic(wait_fn) real;
    wait_fn wait = atomic_load_explicit(&real, memory_order_relaxed);
    struct told told = {event_set_handler, arg};

    if (wait == NULL) {
        wait = find(RTLD_NEXT);
        atomic_store_explicit(&real, wait, memory_order_relaxed);
    }
    if (*num_events > 1)
        *num_events = 1;
    return wait(event_set, num_events, timeout_ms, tell_half, &told);
}

bool ucx_events_are_guarded(void)
{
    return find(RTLD_DEFAULT) == ucs_event_set_wait && find(RTLD_NEXT) != NULL;
}
