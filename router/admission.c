/*
 * admission.c: the queue in front of the workers, and when a request leaves it.
 *
 * Requests run while fewer of them are on workers than all ready workers together have said they can
 * hold. The rest waits here, in order of arrival, where a leaving client costs nothing. The queue is
 * bounded; beyond it the answer is 429 with a time that follows from how fast places become free.
 */
#include <assert.h>

#include "router/internal.h"

#define RETRY_AFTER_MIN_MS 1000
#define RETRY_AFTER_MAX_MS 30000

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    admission_run(td_container_of(timer, struct router_core, queue_timer));
}

void admission_init(struct router_core *core)
{
    td_list_init(&core->queue);
    td_timer_init(&core->queue_timer, on_timer);
}

void admission_push(struct router_journey *journey, bool in_front)
{
    struct router_core *core = journey->core;

    if (in_front) /* it has waited before */
        td_list_push_front(&core->queue, &journey->node);
    else
        td_list_push_back(&core->queue, &journey->node);
    core->queued++;
}

void admission_remove(struct router_journey *journey)
{
    td_list_remove(&journey->node);
    assert(journey->core->queued > 0);
    journey->core->queued--;
}

uint32_t admission_capacity(const struct router_core *core)
{
    uint64_t capacity = 0;

    for (uint32_t i = 0; i < core->worker_count; i++)
        if (core->workers[i].ready && !core->workers[i].draining)
            capacity += core->workers[i].capacity;
    return capacity > core->limits.running_max ? core->limits.running_max : (uint32_t)capacity;
}

void admission_release(struct router_journey *journey)
{
    if (!journey->counted)
        return;
    journey->counted = false;
    assert(journey->core->running > 0);
    journey->core->running--;
}

/*
 * One pass over the queue. A journey that must wait a moment before its next try does not hold up
 * those behind it. Starting one may change the queue, so the pass begins anew after each.
 */
static struct router_journey *next_due(struct router_core *core, uint64_t *earliest_ns_out)
{
    *earliest_ns_out = TD_TIME_NEVER;
    td_list_for_each(node, &core->queue)
    {
        struct router_journey *journey = td_container_of(node, struct router_journey, node);

        if (journey->not_before_ns <= core->now_ns)
            return journey;
        if (journey->not_before_ns < *earliest_ns_out)
            *earliest_ns_out = journey->not_before_ns;
    }
    return NULL;
}

void admission_run(struct router_core *core)
{
    uint32_t capacity = admission_capacity(core);
    uint64_t earliest_ns = TD_TIME_NEVER;

    while (core->running < capacity) {
        struct router_journey *journey = next_due(core, &earliest_ns);

        if (journey == NULL)
            break;
        admission_remove(journey);
        core->running++;
        journey->counted = true;
        journey->admitted_ns = core->now_ns;
        journey_step(journey, JOURNEY_ON_ADMITTED);
    }
    if (earliest_ns != TD_TIME_NEVER)
        td_timer_set(&core->timers, &core->queue_timer, earliest_ns);
}

uint32_t admission_retry_after_ms(const struct router_core *core)
{
    uint64_t places = admission_capacity(core) > 0 ? admission_capacity(core) : 1;
    uint64_t wait_ms = core->service_ns / TD_NS_PER_MS * (core->queued + 1) / places;

    if (wait_ms < RETRY_AFTER_MIN_MS)
        return RETRY_AFTER_MIN_MS;
    return wait_ms > RETRY_AFTER_MAX_MS ? RETRY_AFTER_MAX_MS : (uint32_t)wait_ms;
}
