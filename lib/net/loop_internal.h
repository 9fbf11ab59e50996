/* loop_internal.h: the loop's inside, for loop.c and loop_handles.c only: it shows libuv. */
#ifndef TANDEM_LIB_NET_LOOP_INTERNAL_H
#define TANDEM_LIB_NET_LOOP_INTERNAL_H

#include <uv.h>

#include "lib/net/loop.h"

struct net_loop {
    uv_loop_t uv;
    uv_timer_t timer; /* drives `timers` */
    uv_idle_t idle;
    uv_prepare_t prepare;
    uv_check_t check;
    struct td_timers timers;
    uint64_t armed_ns; /* what `timer` is set to, or TD_TIME_NEVER */
    struct td_list deferred;
    bool closing;
    struct td_list jobs; /* started and not yet done */
};

/* Cancels all jobs; their done callbacks run while the loop closes. */
void net_loop_cancel_jobs(struct net_loop *loop);

#endif
