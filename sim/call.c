/* call.c: unary calls between processes, see network.h. */
#include <stdlib.h>

#include "sim/network.h"

#define LOST_PER_MILLE 20

struct sim_call {
    struct td_list node;  /* while it is open */
    struct td_list grave; /* freed at the end of the run: events point to it */
    enum sim_call_kind kind;
    struct sim_node *caller;
    uint32_t life;
    uint64_t number;
    bool is_over;
};

static const struct {
    const char *name;
    uint8_t *(*serve)(struct sim_node *server, const uint8_t *bytes, size_t length,
                      size_t *length_out);
    void (*answer)(struct sim_node *caller, uint64_t number, const uint8_t *bytes, size_t length,
                   td_status_t status);
} calls[] = {
    [SIM_PAIR] = {"pair", sim_pair_serve, sim_pair_answered},
    [SIM_PLACE] = {"place", sim_place_serve, sim_place_answered},
};

static void finish(struct sim_call *call, const uint8_t *bytes, size_t length, td_status_t status)
{
    if (call->is_over)
        return;
    call->is_over = true;
    td_list_remove(&call->node);
    calls[call->kind].answer(call->caller, call->number, bytes, length, status);
}

static struct sim_event *post_to_caller(struct sim_call *call, uint64_t delay_ns, const char *what,
                                        sim_event_fn run)
{
    struct sim_event *event =
        sim_post(call->caller->sim, call->caller, call->life, delay_ns, what, run);

    event->object = call;
    event->number = call->number;
    return event;
}

static void on_answer(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    finish(event->object, event->bytes, event->length, event->status);
}

static void on_deadline(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    finish(event->object, NULL, 0, TD_TIMEOUT);
}

static void serve(struct sim *sim, struct sim_event *event)
{
    struct sim_call *call = event->object;
    struct sim_event *answer;
    uint8_t *bytes = NULL;
    size_t length = 0;

    if (event->node->up)
        bytes = calls[call->kind].serve(event->node, event->bytes, event->length, &length);
    if (sim_has(sim, SIM_FAULT_DROP) && sim_chance(&sim->network, LOST_PER_MILLE)) {
        free(bytes);
        return;
    }
    answer = post_to_caller(call, sim_latency(sim), calls[call->kind].name, on_answer);
    answer->bytes = bytes;
    answer->length = length;
    answer->status = bytes != NULL ? TD_OK : TD_PEER_LOST;
}

void sim_call_start(struct sim_node *caller, enum sim_call_kind kind, const char *target,
                    uint64_t number, uint8_t *bytes, size_t length, uint32_t deadline_ms)
{
    struct sim *sim = caller->sim;
    struct sim_node *server = sim_node_named(sim, target);
    struct sim_call *call = sim_alloc(1, sizeof *call);
    struct sim_event *event;

    call->kind = kind;
    call->caller = caller;
    call->life = caller->life;
    call->number = number;
    td_list_push_back(&sim->calls, &call->node);
    td_list_init(&call->grave);
    td_list_push_back(&sim->call_graves, &call->grave);
    post_to_caller(call, deadline_ms * TD_NS_PER_MS, "call deadline", on_deadline);
    if (server == NULL || sim_is_cut(sim, caller, server) ||
        (sim_has(sim, SIM_FAULT_DROP) && sim_chance(&sim->network, LOST_PER_MILLE))) {
        free(bytes);
        return;
    }
    event = sim_post(sim, server, SIM_LIFE_ANY, sim_latency(sim), calls[kind].name, serve);
    event->object = call;
    event->number = number;
    event->bytes = bytes;
    event->length = length;
}

void sim_call_cancel(struct sim_node *caller, enum sim_call_kind kind, uint64_t number)
{
    td_list_for_each(node, &caller->sim->calls)
    {
        struct sim_call *call = td_container_of(node, struct sim_call, node);

        if (call->kind != kind || call->caller != caller || call->life != caller->life ||
            call->number != number)
            continue;
        call->is_over = true;
        td_list_remove(&call->node);
    }
}

void sim_calls_free(struct sim *sim)
{
    td_list_for_each(node, &sim->call_graves)
    {
        td_list_remove(node);
        free(td_container_of(node, struct sim_call, grave));
    }
}
