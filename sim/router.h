/*
 * router.h: a router's process: the core, its links to workers, its scheduler, and its clients.
 *
 * What production does in router/runtime.c and in the front is done here in a few lines: one scheduler is
 * listened to at a time, the next one is tried when it is lost.
 */
#ifndef TANDEM_SIM_ROUTER_H
#define TANDEM_SIM_ROUTER_H

#include "router/core.h"
#include "sim/world.h"

struct sim_stream;

struct sim_router {
    struct sim_node *node;
    struct router_core *core;
    struct sim_alarm alarm;
    uint64_t epoch;
    uint32_t scheduler; /* the one that is listened to */
    struct sim_stream *fleet;
};

void sim_router_open(struct sim_node *node);
void sim_router_close(struct sim_node *node);
void sim_router_settle(struct sim_node *node);

#endif
