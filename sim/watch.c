/*
 * watch.c: the oracle of block reuse: while a peer may write to a block or read it, the block keeps its
 * generation and a claim that says so.
 */
#include <stdlib.h>

#include "engine/pool.h"
#include "lib/base/hash.h"
#include "sim/worker.h"

struct sim_watch *sim_watch_find(struct sim_worker *worker, struct td_u128 transfer, bool is_sender)
{
    td_list_for_each(node, &worker->watches)
    {
        struct sim_watch *watch = td_container_of(node, struct sim_watch, node);

        if (td_u128_equal(watch->transfer, transfer) && watch->is_sender == is_sender &&
            !watch->quarantined)
            return watch;
    }
    return NULL;
}

static struct sim_watch *watch_new(struct sim_worker *worker, struct td_u128 transfer,
                                   bool is_sender)
{
    struct sim_watch *watch = sim_alloc(1, sizeof *watch);

    watch->transfer = transfer;
    watch->is_sender = is_sender;
    td_list_push_back(&worker->watches, &watch->node);
    return watch;
}

static void watch_free(struct sim_watch *watch)
{
    td_list_remove(&watch->node);
    free(watch->slots);
    free(watch);
}

static void add(struct sim_worker *worker, struct sim_watch *watch, uint32_t slot)
{
    if (watch->count == watch->capacity) {
        watch->capacity = watch->capacity == 0 ? 16 : 2 * watch->capacity;
        watch->slots = realloc(watch->slots, watch->capacity * sizeof *watch->slots);
        if (watch->slots == NULL)
            abort();
    }
    watch->slots[watch->count++] = engine_pool_slot(engine_core_pool(worker->engine), slot);
}

/* What is sent must be what the engine said it was when it handed the block out. */
static void check_content(struct sim_worker *worker, const struct kvt_block *block)
{
    const uint8_t *bytes = worker->kv.base + block->slot * worker->kv.block_bytes;

    if (!td_u128_is_zero(block->hash) &&
        !td_u128_equal(td_hash128(bytes, worker->kv.block_bytes), block->hash))
        sim_fail(worker->node->sim, "block reuse",
                 "%s: slot %u is to be sent, but holds something else by now", worker->node->name,
                 block->slot);
}

void sim_watch_command(struct sim_worker *worker, const struct kvt_command *command)
{
    struct sim_watch *watch;

    if (command->kind == KVT_EXPECT) {
        watch = watch_new(worker, command->transfer, false);
        for (uint32_t i = 0; i < command->expect.block_count; i++)
            add(worker, watch, command->expect.blocks[i].slot);
    } else if (command->kind == KVT_OFFER) {
        watch_new(worker, command->transfer, true);
    } else if (command->kind == KVT_SEND) {
        watch = sim_watch_find(worker, command->transfer, true);
        for (uint32_t i = 0; watch != NULL && i < command->send.block_count; i++) {
            add(worker, watch, command->send.blocks[i].slot);
            check_content(worker, &command->send.blocks[i]);
        }
    }
}

void sim_watch_event(struct sim_worker *worker, const struct kvt_event *event)
{
    struct sim_watch *watch = sim_watch_find(worker, event->transfer, event->is_sender);

    if (watch == NULL)
        return;
    if (event->kind == KVT_LANDED || event->kind == KVT_QUIESCED || event->kind == KVT_DRAINED)
        watch_free(watch);
    else if (event->kind == KVT_QUARANTINED)
        watch->quarantined = true; /* for as long as the process lives */
}

/*
 * A peer may be told to write while the engine, busy with a step, has not heard of it yet: RESERVED
 * is as good as LANDING, since neither is given back without a command that comes later.
 */
static bool is_claimed(const struct engine_pool *pool, const struct sim_watch *watch, uint32_t slot)
{
    if (engine_pool_claims(pool, slot, ENGINE_CLAIM_QUARANTINED) > 0)
        return true;
    if (watch->is_sender)
        return engine_pool_claims(pool, slot, ENGINE_CLAIM_HELD) > 0 ||
               engine_pool_claims(pool, slot, ENGINE_CLAIM_RUNNING) > 0;
    return engine_pool_claims(pool, slot, ENGINE_CLAIM_LANDING) > 0 ||
           engine_pool_claims(pool, slot, ENGINE_CLAIM_RESERVED) > 0;
}

void sim_watch_check(struct sim_worker *worker)
{
    const struct engine_pool *pool = engine_core_pool(worker->engine);

    td_list_for_each(node, &worker->watches)
    {
        const struct sim_watch *watch = td_container_of(node, struct sim_watch, node);

        for (uint32_t i = 0; i < watch->count; i++) {
            struct engine_slot slot = watch->slots[i];

            if (engine_pool_slot(pool, slot.index).generation != slot.generation ||
                !is_claimed(pool, watch, slot.index))
                sim_fail(worker->node->sim, "block reuse",
                         "%s: slot %u was given back while a peer may %s it", worker->node->name,
                         slot.index, watch->is_sender ? "read" : "write");
        }
    }
}

void sim_watch_close(struct sim_worker *worker)
{
    td_list_for_each(node, &worker->watches)
        watch_free(td_container_of(node, struct sim_watch, node));
}
