/* nodes.c: processes: starting, dying, ending, and what happens after each of their events. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim/network.h"
#include "sim/router.h"
#include "sim/scheduler.h"
#include "sim/worker.h"

struct sim_node *sim_node_add(struct sim *sim, enum sim_role role, uint32_t number)
{
    static const char *const names[] = {"router", "scheduler", "prefill", "decode"};
    struct sim_node *node = &sim->nodes[sim->node_count];

    node->sim = sim;
    node->role = role;
    node->index = sim->node_count++;
    td_list_init(&node->deferred);
    snprintf(node->name, sizeof node->name, "%s%u", names[role], number % 100);
    return node;
}

struct sim_node *sim_node_named(struct sim *sim, const char *target)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        if (strcmp(sim->nodes[i].name, target) == 0)
            return &sim->nodes[i];
    return NULL;
}

uint64_t sim_epoch(struct sim *sim)
{
    return td_rng_next(&sim->ids) | 1; /* never 0 */
}

void sim_random(void *impl, void *out, size_t length)
{
    struct sim *sim = impl;
    uint8_t *bytes = out;

    for (size_t i = 0; i < length; i += 8) {
        uint64_t value = td_rng_next(&sim->ids);

        memcpy(bytes + i, &value, length - i < 8 ? length - i : 8);
    }
}

void sim_node_start(struct sim_node *node)
{
    node->up = true;
    node->life++;
    node->leaving = false;
    sim_note(node->sim, "%s starts", node->name);
    switch (node->role) {
    case SIM_ROUTER: sim_router_open(node); break;
    case SIM_SCHEDULER: sim_scheduler_open(node); break;
    case SIM_PREFILL:
    case SIM_DECODE: sim_worker_open(node); break;
    }
    sim_node_settle(node);
}

static void close_process(struct sim_node *node)
{
    switch (node->role) {
    case SIM_ROUTER: sim_router_close(node); break;
    case SIM_SCHEDULER: sim_scheduler_close(node); break;
    case SIM_PREFILL:
    case SIM_DECODE: sim_worker_close(node); break;
    }
    node->up = false;
}

static void start_again(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    if (!event->node->up)
        sim_node_start(event->node);
}

void sim_node_kill(struct sim_node *node, uint64_t delay_ns)
{
    sim_note(node->sim, "%s ends", node->name);
    sim_streams_orphan(node);
    close_process(node);
    sim_thaw(node); /* what waited for it finds it dead */
    sim_post(node->sim, node, SIM_LIFE_ANY, delay_ns, "starts again", start_again);
}

static void kill_later(struct sim *sim, struct sim_event *event)
{
    sim_node_kill(event->node, sim_between(&sim->faults, 50 * TD_NS_PER_MS, 2 * TD_NS_PER_SEC));
}

void sim_node_leave(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint32_t timeout_ms = (uint32_t)sim_between(&sim->faults, 0, 4000);

    node->leaving = true;
    sim_note(sim, "%s is asked to end within %u ms", node->name, timeout_ms);
    if (node->worker != NULL) {
        sim_worker_drain(node, timeout_ms);
        return;
    }
    if (node->router != NULL)
        router_core_fail_all(node->router->core, "the router ends", sim->now_ns);
    sim_post(sim, node, node->life, 0, "ends", kill_later);
}

void sim_node_settle(struct sim_node *node)
{
    switch (node->role) {
    case SIM_ROUTER: sim_router_settle(node); break;
    case SIM_SCHEDULER: sim_scheduler_settle(node); break;
    case SIM_PREFILL:
    case SIM_DECODE: sim_worker_settle(node); break;
    }
}

void sim_nodes_close(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        if (sim->nodes[i].up)
            close_process(&sim->nodes[i]);
}
