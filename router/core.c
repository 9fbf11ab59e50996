/*
 * core.c: opening and closing the router core, the picture of the fleet, gauges.
 */
#include "router/core.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "router/internal.h"

struct router_limits router_limits_default(void)
{
    const uint32_t ms = 1;
    const uint32_t s = 1000 * ms;
    struct router_limits limits = {.queue_max = ROUTER_QUEUE_MAX};

#define X(name, flag, count, unit, text) limits.name = (count)*unit;
    ROUTER_TIMES_MAP(X)
#undef X
#define X(name, flag, value, max, text) limits.name = (value);
    ROUTER_COUNTS_MAP(X)
#undef X
    return limits;
}

td_status_t router_core_open(const struct router_config *config, struct router_core **core_out)
{
    struct router_core *core = calloc(1, sizeof *core);
    size_t journeys = (size_t)config->limits.queue_max + config->limits.running_max;

    if (core == NULL)
        return TD_NO_MEMORY;
    assert(config->limits.tries_max <= ROUTER_TRIES_MAX);
    core->epoch = config->epoch;
    core->limits = config->limits;
    core->env = config->env;
    td_timers_init(&core->timers);
    td_list_init(&core->links);
    td_map_init(&core->journeys, journeys);
    td_map_init(&core->placing, journeys);
    admission_init(core);
    *core_out = core;
    return TD_OK;
}

void router_core_close(struct router_core *core)
{
    struct router_journey *journey;
    size_t cursor = 0;

    while ((journey = td_map_next(&core->journeys, &cursor)) != NULL)
        journey_free_memory(journey);
    td_map_fini(&core->journeys);
    td_map_fini(&core->placing);
    links_close(core);
    free(core);
}

uint64_t router_core_next_deadline(const struct router_core *core)
{
    return td_timers_next(&core->timers);
}

void router_core_tick(struct router_core *core, uint64_t now_ns)
{
    core->now_ns = now_ns;
    td_timers_run(&core->timers, now_ns);
}

void router_timer_after(struct router_core *core, struct td_timer *timer, uint32_t delay_ms)
{
    td_timer_set(&core->timers, timer, core->now_ns + delay_ms * TD_NS_PER_MS);
}

uint32_t router_us(uint64_t ns)
{
    uint64_t us = ns / TD_NS_PER_US;

    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

/* --- the fleet --- */

struct router_worker *router_worker_find(struct router_core *core, uint64_t epoch)
{
    for (uint32_t i = 0; i < core->worker_count; i++)
        if (core->workers[i].epoch == epoch)
            return &core->workers[i];
    return NULL;
}

static bool take_worker(struct router_worker *worker, const Td__FleetWorker *from)
{
    uint64_t capacity = (uint64_t)from->max_sequences + from->max_waiting;

    if (from->epoch == 0 || from->rpc_target[0] == '\0' ||
        strlen(from->rpc_target) >= sizeof worker->rpc_target || from->n_models == 0 ||
        from->block_tokens == 0)
        return false;
    *worker = (struct router_worker){.epoch = from->epoch, .role = from->role};
    snprintf(worker->rpc_target, sizeof worker->rpc_target, "%s", from->rpc_target);
    for (size_t i = 0; i < from->n_models && i < ROUTER_MODELS_MAX; i++) {
        if (strlen(from->models[i]) >= ROUTER_NAME_BYTES)
            return false;
        snprintf(worker->models[i], ROUTER_NAME_BYTES, "%s", from->models[i]);
        worker->model_count++;
    }
    worker->content_id = (struct td_u128){.hi = from->content_id_hi, .lo = from->content_id_lo};
    worker->text_id = (struct td_u128){.hi = from->text_id_hi, .lo = from->text_id_lo};
    worker->block_tokens = from->block_tokens;
    worker->max_context = from->max_context;
    worker->capacity = capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity;
    worker->ready = from->ready;
    worker->draining = from->draining;
    return true;
}

static void count_live(struct router_core *core)
{
    td_list_for_each(link_node, &core->links)
    {
        struct router_link *link = td_container_of(link_node, struct router_link, node);
        struct router_worker *worker = router_worker_find(core, link->epoch);

        if (worker == NULL)
            continue;
        td_list_for_each(node, &link->journeys) worker->live++;
    }
}

void router_core_on_fleet(struct router_core *core, const Td__FleetUpdate *update, uint64_t now_ns)
{
    core->now_ns = now_ns;
    core->worker_count = 0;
    for (size_t i = 0; i < update->n_workers && core->worker_count < ROUTER_WORKERS_MAX; i++) {
        if (take_worker(&core->workers[core->worker_count], update->workers[i]))
            core->worker_count++;
        else
            core->counters.invalid_messages++;
    }
    count_live(core);
    link_sweep(core);
    admission_run(core);
}

const struct router_worker *router_core_worker(const struct router_core *core, size_t i)
{
    return i < core->worker_count ? &core->workers[i] : NULL;
}

bool router_worker_serves(const struct router_worker *worker, const char *model)
{
    if (model[0] == '\0')
        return true;
    for (uint32_t i = 0; i < worker->model_count; i++)
        if (strcmp(worker->models[i], model) == 0)
            return true;
    return false;
}

const struct router_worker *router_core_model(const struct router_core *core, const char *model)
{
    for (uint32_t i = 0; i < core->worker_count; i++)
        if (core->workers[i].ready && router_worker_serves(&core->workers[i], model))
            return &core->workers[i];
    return NULL;
}

/* --- gauges --- */

void router_core_gauges(const struct router_core *core, struct router_gauges *gauges_out)
{
    struct router_gauges gauges = {.queued = core->queued,
                                   .running = core->running,
                                   .links = core->link_count,
                                   .workers = core->worker_count};

    for (uint32_t i = 0; i < core->worker_count; i++)
        gauges.workers_ready += core->workers[i].ready ? 1 : 0;
    *gauges_out = gauges;
}

const struct router_counters *router_core_counters(const struct router_core *core)
{
    return &core->counters;
}

bool router_core_idle(const struct router_core *core)
{
    return core->journeys.count == 0;
}

void router_core_fail_all(struct router_core *core, const char *reason, uint64_t now_ns)
{
    size_t count = core->journeys.count;
    struct td_u128 *ids = calloc(count > 0 ? count : 1, sizeof *ids);
    struct router_journey *journey;
    size_t cursor = 0;
    size_t listed = 0;

    core->now_ns = now_ns;
    if (ids == NULL)
        return;
    while ((journey = td_map_next(&core->journeys, &cursor)) != NULL)
        ids[listed++] = journey->id;
    for (size_t i = 0; i < listed; i++) {
        journey = td_map_find(&core->journeys, ids[i]); /* the one before may have ended it */
        if (journey != NULL)
            journey_fail_with(journey, TD_CANCELED, reason);
    }
    free(ids);
}
