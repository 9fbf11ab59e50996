/*
 * router.h: a router's process: the core, its links to workers, its schedulers, and its clients.
 *
 * What production does in router/runtime.c and in the front is done here in a few lines: all schedulers
 * are listened to, and one of them is asked for places until it does not answer.
 */
#ifndef TANDEM_SIM_ROUTER_H
#define TANDEM_SIM_ROUTER_H

#include "router/core.h"
#include "router/fleet.h"
#include "sim/world.h"

struct sim_router {
    struct sim_node *node;
    struct router_core *core;
    struct sim_alarm alarm;
    uint64_t epoch;
    uint32_t asked; /* the scheduler that is asked for places */
    struct router_fleet fleet;
    struct sim_alarm fleet_alarm;
};

void sim_router_open(struct sim_node *node);
void sim_router_close(struct sim_node *node);
void sim_router_settle(struct sim_node *node);

#endif
