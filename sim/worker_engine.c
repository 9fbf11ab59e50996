/* worker_engine.c: the engine of a worker's process, and the rings to and from it. */
#include <assert.h>
#include <stdlib.h>

#include "engine/pool.h"
#include "sim/worker.h"

#define STEP_FAILS_PER_MILLE 10

/* --- ring in --- */

static void wake(struct sim_worker *worker);

static void on_command(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;

    engine_core_command(worker->engine, event->object, sim->now_ns);
    free(event->object);
    wake(worker);
}

static void drop_command(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    engine_command_fini(event->object);
    free(event->object);
}

/* True: the command is swallowed by what the run is told to break. */
static bool is_lost(const struct sim *sim, const struct engine_command *command)
{
    return (sim_breaks(sim, SIM_BREAK_LOSE_CANCEL) && command->kind == ENGINE_CANCEL) ||
           (sim_breaks(sim, SIM_BREAK_LOSE_RELEASE) && command->kind == ENGINE_RELEASE);
}

static uint64_t ring_delay(struct sim *sim, uint64_t *last_ns)
{
    uint64_t at_ns = sim->now_ns + sim_ring_latency(sim);

    *last_ns = at_ns > *last_ns ? at_ns : *last_ns;
    return *last_ns - sim->now_ns;
}

void sim_engine_send(void *impl, struct engine_command *command)
{
    struct sim_worker *worker = impl;
    struct sim *sim = worker->node->sim;
    struct engine_command *copy;
    struct sim_event *event;

    if (is_lost(sim, command)) {
        sim->breaks_done++;
        engine_command_fini(command);
        return;
    }
    copy = (struct engine_command *)(void *)sim_copy(command, sizeof *command);
    event = sim_post(sim, worker->node, worker->node->life, ring_delay(sim, &worker->to_engine_ns),
                     "engine command", on_command);
    event->drop = drop_command;
    event->object = copy;
    event->number = (uint64_t)command->kind * 1000000 + command->sequence;
}

/* --- ring out --- */

static void on_event(struct sim *sim, struct sim_event *event)
{
    worker_core_on_engine(event->node->worker->core, event->object, sim->now_ns);
    free(event->object);
}

static void drop_event(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    engine_event_fini(event->object);
    free(event->object);
}

static void note_cache(struct sim_worker *worker, const struct engine_event *event)
{
    struct sim *sim = worker->node->sim;

    for (uint32_t i = 0; i < event->cache.removed_count; i++)
        if (td_map_remove(&worker->cached, event->cache.removed[i]) == NULL)
            sim_fail(sim, "cache", "%s removes a key that was not stored", worker->node->name);
    for (uint32_t i = 0; i < event->cache.stored_count; i++)
        if (td_map_insert(&worker->cached, event->cache.stored[i], worker) != TD_OK)
            sim_fail(sim, "cache", "%s stores a key that was stored", worker->node->name);
}

static void release_early(struct sim_worker *worker, uint64_t sequence)
{
    struct engine_command release = {.kind = ENGINE_RELEASE, .sequence = sequence};

    worker->node->sim->breaks_done++;
    sim_engine_send(worker, &release);
}

static void emit(void *impl, struct engine_event *event)
{
    struct sim_worker *worker = impl;
    struct sim *sim = worker->node->sim;
    struct sim_event *posted;

    if (event->kind == ENGINE_CACHE)
        note_cache(worker, event);
    if (event->kind == ENGINE_PREFILLED && sim_breaks(sim, SIM_BREAK_EARLY_RELEASE))
        release_early(worker, event->sequence);
    if (event->kind == ENGINE_CACHE && sim_breaks(sim, SIM_BREAK_LOSE_CACHE) &&
        sim->breaks_done++ % 5 == 0) {
        engine_event_fini(event);
        return;
    }
    posted = sim_post(sim, worker->node, worker->node->life,
                      ring_delay(sim, &worker->from_engine_ns), "engine event", on_event);
    posted->drop = drop_event;
    posted->object = sim_copy(event, sizeof *event);
    posted->number = (uint64_t)event->kind * 1000000 + event->sequence;
}

/* --- steps --- */

static void step_ended(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;

    if (worker->late_result) {
        td_status_t status =
            worker->backend->ops->run(worker->backend, worker->batch, &worker->result);

        assert(status == TD_OK);
    }
    worker->batch = NULL;
    if (sim_has(sim, SIM_FAULT_STEP) && sim_chance(&sim->faults, STEP_FAILS_PER_MILLE)) {
        sim->report->figures.failed_steps++;
        engine_core_fail(worker->engine, TD_INTERNAL, sim->now_ns);
    } else {
        engine_core_apply(worker->engine, &worker->result, sim->now_ns);
    }
    wake(worker);
}

static void on_wake(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;
    td_status_t status;

    worker->waking = false;
    if (worker->batch != NULL)
        return;
    worker->batch = engine_core_plan(worker->engine, sim->now_ns);
    if (worker->batch == NULL)
        return;
    worker->step_started_ns = sim->now_ns;
    status = worker->backend->ops->run(worker->backend, worker->batch, &worker->result);
    assert(status == TD_OK);
    worker->late_result = sim_chance(&sim->network, 300);
    sim_post(sim, worker->node, worker->node->life, worker->result.duration_ns, "step", step_ended)
        ->number = worker->batch->row_count;
}

static void wake(struct sim_worker *worker)
{
    struct sim *sim = worker->node->sim;

    if (worker->waking || worker->batch != NULL)
        return;
    worker->waking = true;
    sim_post(sim, worker->node, worker->node->life, sim_ring_latency(sim), "engine wakes", on_wake);
}

uint32_t sim_engine_step_age_ms(void *impl)
{
    const struct sim_worker *worker = impl;

    if (worker->batch == NULL)
        return 0;
    return (uint32_t)((worker->node->sim->now_ns - worker->step_started_ns) / TD_NS_PER_MS);
}

/* --- opening, closing, settling --- */

void sim_engine_open(struct sim_worker *worker)
{
    struct sim *sim = worker->node->sim;
    struct engine_core_config config = {.waiting_max = 64, .step_target_ns = 4 * TD_NS_PER_MS};
    struct engine_sink sink = {.impl = worker, .emit = emit};
    struct td_error error = {0};
    td_status_t status;

    worker->kv = (struct engine_kv){.fd = -1,
                                    .block_count = sim->pool_blocks,
                                    .block_tokens = modelled_block_tokens(&sim->model),
                                    .block_bytes = modelled_block_bytes(&sim->model)};
    worker->kv.base = sim_alloc(worker->kv.block_count, worker->kv.block_bytes);
    td_map_init(&worker->cached, worker->kv.block_count);
    status = modelled_open(&sim->model, &worker->kv, &worker->backend, &error);
    assert(status == TD_OK);
    if (sim_has(sim, SIM_FAULT_PRESSURE))
        config.waiting_max = worker->node->role == SIM_DECODE ? 10 : 2;
    status = engine_core_open(&config, worker->backend, &worker->kv, sink, &worker->engine, &error);
    assert(status == TD_OK);
}

void sim_engine_close(struct sim_worker *worker)
{
    engine_core_close(worker->engine);
    worker->backend->ops->close(worker->backend);
    td_map_fini(&worker->cached);
    free(worker->kv.base);
}

static void on_alarm(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;
    if (!sim_alarm_rings(event))
        return;
    engine_core_tick(worker->engine, sim->now_ns);
    wake(worker);
}

static void check_balance(const struct sim_worker *worker)
{
    struct engine_balance b;

    engine_core_audit(worker->engine);
    engine_pool_balance(engine_core_pool(worker->engine), &b);
    if (b.total != b.free + b.cached + b.running + b.reserved + b.landing + b.held + b.quarantined)
        sim_fail(worker->node->sim, "balance", "%s: the columns do not add up to %u blocks",
                 worker->node->name, b.total);
    if (b.quarantined > 0 && !(worker->node->sim->options.faults >> SIM_FAULT_HANG & 1))
        sim_fail(worker->node->sim, "quarantine",
                 "%s: %u blocks are quarantined, though every transport can be cut off",
                 worker->node->name, b.quarantined);
}

void sim_engine_settle(struct sim_worker *worker)
{
    sim_alarm_set(worker->node, &worker->engine_alarm, engine_core_next_deadline(worker->engine),
                  "engine timer", on_alarm);
    check_balance(worker);
}
