/* emit.c: building events and giving them to the sink; part of the engine core. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core_state.h"
#include "lib/base/hash.h"
#include "lib/base/time.h"

static void emit(struct engine_core *core, struct engine_event *event)
{
    core->sink.emit(core->sink.impl, event);
}

static uint64_t between(uint64_t from_ns, uint64_t to_ns)
{
    return from_ns == TD_TIME_NEVER || to_ns == TD_TIME_NEVER ? 0 : to_ns - from_ns;
}

/* ---- blocks ---- */

static struct engine_block describe(const struct engine_core *core,
                                    struct engine_sequence *sequence, uint32_t index)
{
    uint32_t slot = sequence->slots[index];

    return (struct engine_block){
        .key = engine_sequence_travel_key(sequence, index),
        .hash = engine_pool_hash(core->pool, slot),
        .slot = engine_pool_slot(core->pool, slot),
        .tokens = engine_sequence_prompt_in_block(sequence, index),
    };
}

/* NULL: no memory. count is not 0. */
static struct engine_block *describe_run(const struct engine_core *core,
                                         struct engine_sequence *sequence, uint32_t first,
                                         uint32_t count)
{
    struct engine_block *blocks = calloc(count, sizeof *blocks);

    for (uint32_t i = 0; blocks != NULL && i < count; i++)
        blocks[i] = describe(core, sequence, first + i);
    return blocks;
}

bool engine_emit_reserved(struct engine_core *core, struct engine_sequence *sequence)
{
    uint32_t cached = sequence->claimed_from;
    struct engine_event event = {.kind = ENGINE_RESERVED, .sequence = sequence->id};

    event.reserved.cached_blocks = cached;
    event.reserved.count = sequence->slot_count - cached;
    event.reserved.blocks = describe_run(core, sequence, cached, event.reserved.count);
    if (event.reserved.blocks == NULL)
        return false;
    emit(core, &event);
    return true;
}

bool engine_emit_blocks(struct engine_core *core, struct engine_sequence *sequence)
{
    struct engine_event event = {.kind = ENGINE_BLOCKS, .sequence = sequence->id};

    event.blocks.first = sequence->shown;
    event.blocks.count = sequence->full - sequence->shown;
    if (event.blocks.count == 0)
        return true;
    event.blocks.blocks = describe_run(core, sequence, sequence->shown, event.blocks.count);
    if (event.blocks.blocks == NULL)
        return false;
    sequence->shown = sequence->full;
    emit(core, &event);
    return true;
}

/*
 * The tail of the prompt, ready to travel; false: it cannot be read. It is in the sequence's own block: only full ones
 * are shared. Behind its tokens is what the block held before, which must not travel.
 */
static bool finish_tail(struct engine_core *core, struct engine_sequence *sequence, uint32_t index,
                        struct engine_block *tail_out)
{
    const struct engine_kv *kv = &core->kv;
    uint32_t slot = sequence->slots[index];
    uint32_t tokens = engine_sequence_prompt_in_block(sequence, index);
    struct td_u128 hash;

    if (kv->ops == NULL) {
        uint8_t *block = kv->base + (size_t)slot * kv->block_bytes;

        engine_kv_clear_tail(core->info, block, tokens);
        hash = td_hash128(block, kv->block_bytes);
    } else if (kv->ops->seal_tail(kv->impl, slot, tokens, &hash) != TD_OK) {
        return false;
    }
    engine_pool_set_hash(core->pool, slot, hash);
    *tail_out = describe(core, sequence, index);
    return true;
}

bool engine_emit_prefilled(struct engine_core *core, struct engine_sequence *sequence)
{
    const struct sequence_times *times = &sequence->times;
    uint32_t tail = sequence->prompt_count / sequence->block_tokens;
    struct engine_event event = {.kind = ENGINE_PREFILLED, .sequence = sequence->id};

    if (sequence->hidden == NULL)
        return false;
    event.prefilled.tail_index = tail;
    if (tail < sequence->slot_count && !finish_tail(core, sequence, tail, &event.prefilled.tail))
        return false;
    event.prefilled.hidden = sequence->hidden;
    event.prefilled.hidden_count = core->info->hidden;
    event.prefilled.cached_tokens = sequence->cached_tokens;
    event.prefilled.queue_ns = between(times->submitted_ns, times->started_ns);
    event.prefilled.prefill_ns = between(times->computing_ns, core->now_ns);
    sequence->hidden = NULL;
    emit(core, &event);
    return true;
}

/* ---- the end ---- */

void engine_emit_stopped(struct engine_core *core, const struct engine_sequence *sequence)
{
    struct engine_event event = {
        .kind = ENGINE_STOPPED, .sequence = sequence->id, .stopped.status = sequence->status};

    emit(core, &event);
}

void engine_emit_finished(struct engine_core *core, const struct engine_sequence *sequence)
{
    const struct sequence_times *times = &sequence->times;
    struct engine_event event = {.kind = ENGINE_FINISHED, .sequence = sequence->id};

    event.finished = (struct engine_finished){
        .reason = sequence->reason,
        .status = sequence->status,
        .prompt_tokens = sequence->prompt_count,
        .cached_tokens = sequence->cached_tokens,
        .new_tokens = engine_sequence_new_tokens(sequence),
        .queue_ns = between(times->submitted_ns,
                            times->started_ns != TD_TIME_NEVER ? times->started_ns : core->now_ns),
        .prefill_ns = between(times->computing_ns, times->prompt_done_ns),
        .first_token_ns = between(times->prompt_done_ns, times->first_token_ns),
        .decode_ns = between(times->first_token_ns, times->last_token_ns),
    };
    emit(core, &event);
}

void engine_emit_refused(struct engine_core *core, uint64_t id, uint32_t prompt_tokens,
                         td_status_t status)
{
    struct engine_event event = {.kind = ENGINE_FINISHED, .sequence = id};

    event.finished = (struct engine_finished){
        .reason = ENGINE_FINISH_REFUSED, .status = status, .prompt_tokens = prompt_tokens};
    emit(core, &event);
}

/* ---- steps ---- */

struct engine_token *engine_take_tokens(struct engine_core *core)
{
    if (core->spare_count > 0)
        return core->spare_tokens[--core->spare_count];
    return calloc(core->plan.sequences_max,
                  sizeof(struct engine_token) + sizeof(struct engine_logprobs));
}

void engine_core_give_tokens(struct engine_core *core, struct engine_token *tokens)
{
    if (tokens != NULL && core->spare_count < ENGINE_SPARE_TOKENS_MAX)
        core->spare_tokens[core->spare_count++] = tokens;
    else
        free(tokens);
}

static uint32_t capped(uint64_t count)
{
    return count > UINT32_MAX ? UINT32_MAX : (uint32_t)count;
}

/* What is left of the prompts that are being computed. */
static void count_prefilling(const struct engine_core *core, struct engine_load *load_out)
{
    uint64_t tokens = 0;

    for (struct td_list *node = core->running.next; node != &core->running; node = node->next) {
        const struct engine_sequence *sequence = engine_sequence_of(node);

        if (sequence->state != SEQUENCE_PREFILL)
            continue;
        load_out->prefilling++;
        tokens += sequence->token_count - sequence->computed;
    }
    load_out->prefilling_tokens = capped(tokens);
}

void engine_core_load(const struct engine_core *core, struct engine_load *load_out)
{
    *load_out = core->totals;
    engine_pool_balance(core->pool, &load_out->balance);
    load_out->running = core->running_count;
    load_out->waiting = core->queued_count;
    load_out->waiting_tokens = capped(core->queued_tokens);
    count_prefilling(core, load_out);
}

void engine_emit_step(struct engine_core *core, struct engine_token *tokens, uint32_t count)
{
    struct engine_event event = {.kind = ENGINE_STEP};

    engine_core_load(core, &core->shown);
    event.step.tokens = tokens;
    event.step.count = count;
    event.step.load = core->shown;
    emit(core, &event);
}

bool engine_load_changed(const struct engine_core *core)
{
    struct engine_load load;

    engine_core_load(core, &load);
    return memcmp(&load.balance, &core->shown.balance, sizeof load.balance) != 0 ||
           load.running != core->shown.running || load.waiting != core->shown.waiting ||
           load.prefilling != core->shown.prefilling ||
           load.prefilling_tokens != core->shown.prefilling_tokens ||
           load.waiting_tokens != core->shown.waiting_tokens ||
           load.stray_commands != core->shown.stray_commands;
}

/* ---- the cache ---- */

/* False: no memory; the changes stay where they are. */
static bool emit_changes(struct engine_core *core)
{
    uint32_t changes = engine_pool_changes(core->pool);
    struct engine_event event = {.kind = ENGINE_CACHE};

    if (changes == 0)
        return true;
    event.cache.stored = calloc(changes, sizeof *event.cache.stored);
    event.cache.removed = calloc(changes, sizeof *event.cache.removed);
    if (event.cache.stored == NULL || event.cache.removed == NULL) {
        engine_event_fini(&event);
        return false;
    }
    engine_pool_changes_take(core->pool, event.cache.stored, &event.cache.stored_count,
                             event.cache.removed, &event.cache.removed_count);
    if (event.cache.stored_count + event.cache.removed_count > 0)
        emit(core, &event);
    else
        engine_event_fini(&event);
    return true;
}

static bool emit_snapshot(struct engine_core *core)
{
    uint32_t count = engine_pool_published(core->pool);
    struct engine_event event = {.kind = ENGINE_SNAPSHOT_TAKEN, .snapshot.count = count};

    event.snapshot.keys = calloc(count + 1, sizeof *event.snapshot.keys);
    if (event.snapshot.keys == NULL)
        return false;
    engine_pool_keys(core->pool, event.snapshot.keys);
    emit(core, &event);
    return true;
}

void engine_core_settle(struct engine_core *core)
{
    struct engine_balance balance;

    if (emit_changes(core) && core->snapshot_due) /* in this order: the snapshot has the changes */
        core->snapshot_due = !emit_snapshot(core);
    engine_pool_balance(core->pool, &balance);
    assert(balance.total == balance.free + balance.cached + balance.running + balance.reserved +
                                balance.landing + balance.held + balance.quarantined);
}
