/*
 * runtime_internal.h: what the files of the router's runtime share. Inside the room only.
 *
 *   runtime.c   the core's environment, timers, opening and closing
 *   backend.c   the front's view: models, requests, readiness
 *   metrics.c   what is counted
 */
#ifndef TANDEM_ROUTER_RUNTIME_INTERNAL_H
#define TANDEM_ROUTER_RUNTIME_INTERNAL_H

#include "router/metrics.h"
#include "router/runtime.h"
#include "router/schedulers.h"
#include "router/streams.h"
#include "router/texts.h"

struct router_runtime {
    struct router_runtime_config config;
    struct router_core *core;
    struct net_timer timer;     /* the core's next deadline */
    struct net_timer heartbeat; /* measures how late the loop is */
    uint64_t heartbeat_ns;
    uint64_t lag_ns; /* of the last heartbeat */
    struct router_streams *streams;
    struct router_schedulers *schedulers;
    struct router_texts *texts;
    struct router_metrics *metrics;
};

/* After every call into the core: its next deadline may be another one. */
void router_touch(struct router_runtime *runtime);

/* backend.c: whether a request could be answered now; else why not. */
bool router_is_ready(void *impl, char *why_out, size_t why_size);

#endif
