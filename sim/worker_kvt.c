/* worker_kvt.c: the transfer core of a worker's process, its rings, and the KV network. */
#include <assert.h>
#include <stdlib.h>

#include "sim/worker.h"

#define DROP_PER_MILLE      8
#define DUPLICATE_PER_MILLE 60
#define CORRUPT_PER_MILLE   10

/* A command in the ring. */
struct sim_waiting {
    struct td_list node;
    struct kvt_command command;
};

static uint64_t ring_delay(struct sim *sim, uint64_t *last_ns)
{
    uint64_t at_ns = sim->now_ns + sim_ring_latency(sim);

    *last_ns = at_ns > *last_ns ? at_ns : *last_ns;
    return *last_ns - sim->now_ns;
}

static void progress(struct sim_worker *worker)
{
    while (kvt_core_progress(worker->kvt))
        continue;
}

/* --- ring out --- */

static void on_event(struct sim *sim, struct sim_event *event)
{
    worker_core_on_kvt(event->node->worker->core, event->object, sim->now_ns);
    free(event->object);
}

static void drop_event(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    kvt_event_fini(event->object);
    free(event->object);
}

static void push_event(struct sim_worker *worker, const struct kvt_event *event)
{
    struct sim *sim = worker->node->sim;
    struct sim_event *posted =
        sim_post(sim, worker->node, worker->node->life, ring_delay(sim, &worker->from_kvt_ns),
                 "kvt event", on_event);

    posted->drop = drop_event;
    posted->object = sim_copy(event, sizeof *event);
    posted->number = (uint64_t)event->kind;
}

/* Whether the worker has been told of the end of this transfer already, by what is broken. */
static bool was_ended_early(struct sim_worker *worker, const struct kvt_event *event)
{
    return !event->is_sender && event->kind >= KVT_ARRIVING && event->kind != KVT_SENT &&
           event->kind != KVT_DRAINED && td_map_find(&worker->ended_early, event->transfer) != NULL;
}

static void end_early(struct sim_worker *worker, struct td_u128 transfer)
{
    worker->node->sim->breaks_done++;
    (void)!td_map_insert(&worker->ended_early, transfer, worker);
}

static void land_early(struct sim_worker *worker, const struct kvt_event *arriving)
{
    const struct sim_watch *watch = sim_watch_find(worker, arriving->transfer, false);
    struct kvt_event landed = {
        .kind = KVT_LANDED, .transfer = arriving->transfer, .peer = arriving->peer};

    assert(watch != NULL);
    landed.landed.hash_count = watch->count;
    landed.landed.hashes = sim_alloc(watch->count, sizeof *landed.landed.hashes);
    landed.landed.attachment_bytes = worker->backend->info.hidden * (uint32_t)sizeof(float);
    landed.landed.attachment = sim_alloc(landed.landed.attachment_bytes, 1);
    end_early(worker, arriving->transfer);
    push_event(worker, &landed);
}

static void emit(void *impl, struct kvt_event *event)
{
    struct sim_worker *worker = impl;
    struct sim *sim = worker->node->sim;

    if (was_ended_early(worker, event)) {
        sim_watch_event(worker, event);
        kvt_event_fini(event);
        return;
    }
    if (event->kind == KVT_ARRIVING && sim_breaks(sim, SIM_BREAK_EARLY_LANDED)) {
        land_early(worker, event);
        return;
    }
    sim_watch_event(worker, event);
    push_event(worker, event);
}

/* --- ring in --- */

/* The first of those that wait; by its own event, or earlier because the core looks for an EXPECT. */
static void take_command(struct sim_worker *worker)
{
    struct sim_waiting *waiting =
        td_container_of(td_list_first(&worker->to_kvt), struct sim_waiting, node);
    struct kvt_command command = waiting->command;

    td_list_remove(&waiting->node);
    free(waiting);
    sim_watch_command(worker, &command);
    kvt_core_command(worker->kvt, &command);
}

static void drain(void *impl)
{
    struct sim_worker *worker = impl;

    while (!td_list_empty(&worker->to_kvt))
        take_command(worker);
}

static void on_command(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;

    (void)sim;
    if (!td_list_empty(&worker->to_kvt))
        take_command(worker);
    progress(worker);
}

static void swap_slots(struct sim *sim, struct kvt_command *command)
{
    struct kvt_block *blocks = command->expect.blocks;
    uint32_t slot;

    if (command->expect.block_count < 2)
        return;
    slot = blocks[0].slot;
    blocks[0].slot = blocks[1].slot;
    blocks[1].slot = slot;
    sim->breaks_done++;
}

void sim_kvt_send(void *impl, struct kvt_command *command)
{
    struct sim_worker *worker = impl;
    struct sim *sim = worker->node->sim;
    struct sim_waiting *waiting;

    if (sim_breaks(sim, SIM_BREAK_SWAP_SLOTS) && command->kind == KVT_EXPECT)
        swap_slots(sim, command);
    if (sim_breaks(sim, SIM_BREAK_EARLY_QUIET) && command->kind == KVT_ABANDON) {
        struct kvt_event quiet = {.kind = KVT_QUIESCED, .transfer = command->transfer};

        end_early(worker, command->transfer);
        push_event(worker, &quiet);
    }
    waiting = sim_alloc(1, sizeof *waiting);
    waiting->command = *command;
    td_list_push_back(&worker->to_kvt, &waiting->node);
    sim_post(sim, worker->node, worker->node->life, ring_delay(sim, &worker->to_kvt_ns),
             "kvt command", on_command)
        ->number = (uint64_t)command->kind;
}

/* --- the KV network --- */

static struct sim_worker *worker_at(struct sim *sim, uint64_t epoch)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (node->up && node->worker != NULL && node->worker->epoch == epoch)
            return node->worker;
    }
    return NULL;
}

static void on_message(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node != NULL ? event->node->worker : NULL;

    (void)sim;
    kvt_loop_deliver(event->object);
    if (worker != NULL)
        progress(worker);
}

/* The process it was for has gone: whoever sent it is told so by the host. */
static void drop_message(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    kvt_loop_deliver(event->object);
}

static void send_on(struct sim *sim, struct kvt_loop_message *message)
{
    struct sim_worker *to = worker_at(sim, kvt_loop_message_to(message));
    struct sim_worker *from = worker_at(sim, kvt_loop_message_from(message));
    uint64_t delay_ns = sim_latency(sim);
    struct sim_event *event;

    if (to != NULL && from != NULL && sim_is_cut(sim, to->node, from->node))
        delay_ns += sim->cut_ns[to->node->index][from->node->index] - sim->now_ns;
    if (!sim_has(sim, SIM_FAULT_REORDER)) {
        uint64_t at_ns = sim->now_ns + delay_ns;

        sim->kv_last_ns = at_ns > sim->kv_last_ns ? at_ns : sim->kv_last_ns;
        delay_ns = sim->kv_last_ns - sim->now_ns;
    }
    event = sim_post(sim, to != NULL ? to->node : NULL, to != NULL ? to->node->life : SIM_LIFE_ANY,
                     delay_ns, "kv", on_message);
    event->object = message;
    event->number = (uint64_t)kvt_loop_message_kind(message);
    event->drop = drop_message;
}

/* Answers and goodbyes of a dead connection are not messages that can be lost: the host tells. */
static bool can_be_lost(const struct kvt_loop_message *message)
{
    return kvt_loop_message_kind(message) != KVT_LOOP_GONE;
}

void sim_kvt_post(void *impl, struct kvt_loop_message *message)
{
    struct sim *sim = impl;
    struct td_rng *rng = &sim->network;

    if (sim->closing) {
        kvt_loop_discard(message);
        return;
    }
    if (sim_has(sim, SIM_FAULT_DROP) && can_be_lost(message) && sim_chance(rng, DROP_PER_MILLE)) {
        kvt_loop_discard(message);
        return;
    }
    if (sim_has(sim, SIM_FAULT_CORRUPT) && sim_chance(rng, CORRUPT_PER_MILLE))
        kvt_loop_corrupt(message, td_rng_next(rng));
    if (sim_has(sim, SIM_FAULT_DUPLICATE) && sim_chance(rng, DUPLICATE_PER_MILLE)) {
        struct kvt_loop_message *copy = kvt_loop_copy(message);

        assert(copy != NULL);
        send_on(sim, copy);
    }
    send_on(sim, message);
}

/* --- opening, closing, settling --- */

static uint64_t now_ns(void *impl)
{
    return ((struct sim *)impl)->now_ns;
}

void sim_kvt_open(struct sim_worker *worker)
{
    struct sim *sim = worker->node->sim;
    struct kvt_core_config config = {
        .epoch = worker->epoch,
        .memory = {.base = worker->kv.base,
                   .bytes = worker->kv.block_count * worker->kv.block_bytes,
                   .fd = -1},
        .block_bytes = worker->kv.block_bytes,
        .clock = {.impl = sim, .now_ns = now_ns},
        .sink = {.impl = worker, .emit = emit},
        .inbox = {.impl = worker, .drain = drain},
        .limits = kvt_limits_default(),
    };
    struct td_error error = {0};
    td_status_t status;

    /* small ones, so that a prompt is many chunks and the window closes */
    config.limits.chunk_bytes = (uint32_t)(2 * worker->kv.block_bytes);
    config.limits.window_bytes = (uint32_t)(4 * worker->kv.block_bytes);
    td_list_init(&worker->watches);
    td_list_init(&worker->to_kvt);
    td_map_init(&worker->ended_early, 4096);
    status = kvt_core_open(&config, &worker->kvt, &error);
    assert(status == TD_OK);
    status = kvt_loop_open(sim->loop, worker->epoch, &worker->transport);
    assert(status == TD_OK);
    status = kvt_core_add_transport(worker->kvt, worker->transport);
    assert(status == TD_OK);
}

void sim_kvt_close(struct sim_worker *worker)
{
    const struct kvt_stats *stats = kvt_core_stats(worker->kvt);
    struct sim_figures *figures = &worker->node->sim->report->figures;

    figures->kv_chunks += kvt_stats_get(stats, KVT_STAT_CHUNKS_RECEIVED);
    figures->kv_corrupt += kvt_stats_get(stats, KVT_STAT_CORRUPT);
    figures->quarantines += kvt_stats_get(stats, KVT_STAT_QUARANTINES);
    kvt_loop_crash(worker->transport);
    kvt_core_close(worker->kvt);
    td_list_for_each(node, &worker->to_kvt)
    {
        struct sim_waiting *waiting = td_container_of(node, struct sim_waiting, node);

        kvt_command_fini(&waiting->command);
        free(waiting);
    }
    sim_watch_close(worker);
    td_map_fini(&worker->ended_early);
}

static void on_alarm(struct sim *sim, struct sim_event *event)
{
    struct sim_worker *worker = event->node->worker;
    (void)sim;
    if (!sim_alarm_rings(event))
        return;
    kvt_core_tick(worker->kvt);
    progress(worker);
}

void sim_kvt_settle(struct sim_worker *worker)
{
    struct sim *sim = worker->node->sim;

    sim_alarm_set(worker->node, &worker->kvt_alarm, kvt_core_next_deadline(worker->kvt),
                  "kvt timer", on_alarm);
    sim_watch_check(worker);
    if (!(sim->options.faults >> SIM_FAULT_CORRUPT & 1) &&
        kvt_stats_get(kvt_core_stats(worker->kvt), KVT_STAT_CORRUPT) > 0)
        sim_fail(sim, "content",
                 "%s: a block arrived that is not what was computed, and nothing "
                 "corrupts messages",
                 worker->node->name);
}
