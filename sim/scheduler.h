/* scheduler.h: a scheduler's process: the core, and its streams of workers and routers. */
#ifndef TANDEM_SIM_SCHEDULER_H
#define TANDEM_SIM_SCHEDULER_H

#include "scheduler/core.h"
#include "sim/world.h"

struct sim_scheduler {
    struct sim_node *node;
    struct sched_core *core;
    struct sim_alarm alarm;
};

void sim_scheduler_open(struct sim_node *node);
void sim_scheduler_close(struct sim_node *node);
void sim_scheduler_settle(struct sim_node *node);

#endif
