/*
 * apply.c: what comes of a batch: full blocks to the cache, tokens and blocks to the worker; part of
 * the engine core.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core_state.h"
#include "lib/base/hash.h"
#include "lib/base/time.h"

/* ---- full blocks ---- */

/* Blocks that are hashed in one go. */
#define HASHES_AT_ONCE 64

static td_status_t hash(const struct engine_kv *kv, const uint32_t *slots, uint32_t count,
                        struct td_u128 *hashes_out)
{
    if (kv->ops != NULL)
        return kv->ops->seal(kv->impl, slots, count, hashes_out);
    for (uint32_t i = 0; i < count; i++)
        hashes_out[i] = td_hash128(kv->base + (size_t)slots[i] * kv->block_bytes, kv->block_bytes);
    return TD_OK;
}

/*
 * The content hashes of a sequence's blocks up to `end`, at most HASHES_AT_ONCE, computed once in the life of a block;
 * landed blocks bring theirs. Returns how far it came; sequence->full: the blocks cannot be read.
 */
static uint32_t hash_blocks(struct engine_core *core, const struct engine_sequence *sequence,
                            uint32_t end)
{
    uint32_t slots[HASHES_AT_ONCE];
    struct td_u128 hashes[HASHES_AT_ONCE];
    uint32_t count = 0;
    uint32_t index = sequence->full;

    for (; index < end && count < HASHES_AT_ONCE; index++)
        if (td_u128_is_zero(engine_pool_hash(core->pool, sequence->slots[index])))
            slots[count++] = sequence->slots[index];
    if (count > 0 && hash(&core->kv, slots, count, hashes) != TD_OK)
        return sequence->full;
    for (uint32_t i = 0; i < count; i++)
        engine_pool_set_hash(core->pool, slots[i], hashes[i]);
    return index;
}

/*
 * Two sequences may compute the same block at the same time. The second to finish takes over the
 * first one's block and gives its own back: then every published block's parent is published, and the
 * memory is used once. Where that is not possible it keeps its own, unfindable, and so the rest.
 */
static void publish(struct engine_core *core, struct engine_sequence *sequence, uint32_t index)
{
    uint32_t own = sequence->slots[index];
    uint32_t canonical;
    struct engine_identity identity = {
        .key = engine_sequence_key(sequence, index),
        .root = sequence->root,
        .parent = index == 0 ? ENGINE_SLOT_NONE : sequence->slots[index - 1],
        .tokens = sequence->tokens + (size_t)index * sequence->block_tokens,
    };
    td_status_t status = engine_pool_publish(core->pool, own, &identity, &canonical);

    if (status != TD_OK) {
        sequence->apart = true;
        core->totals.content_conflicts += status == TD_CORRUPT;
    } else if (canonical != own) {
        engine_pool_claim(core->pool, canonical, ENGINE_CLAIM_RUNNING);
        engine_pool_unclaim(core->pool, own, ENGINE_CLAIM_RUNNING);
        sequence->slots[index] = canonical;
    }
}

bool engine_sequence_fill(struct engine_core *core, struct engine_sequence *sequence)
{
    uint32_t end = sequence->computed / sequence->block_tokens;

    if (sequence->claim != ENGINE_CLAIM_RUNNING)
        return true; /* stopped with its blocks lent: they are no longer its own to exchange */
    while (sequence->full < end) {
        uint32_t hashed = hash_blocks(core, sequence, end);

        if (hashed == sequence->full)
            return false;
        for (; sequence->full < hashed; sequence->full++)
            if (!sequence->apart)
                publish(core, sequence, sequence->full);
    }
    return true;
}

/* ---- outputs ---- */

static void note_token(struct sequence_times *times, uint64_t now_ns)
{
    if (times->first_token_ns == TD_TIME_NEVER)
        times->first_token_ns = now_ns;
    times->last_token_ns = now_ns;
}

/* True if a token was drawn; else the sequence has failed, and may be freed. */
static bool draw(struct engine_core *core, struct engine_sequence *sequence,
                 const struct engine_result *result, uint32_t output,
                 struct engine_harvest *harvest)
{
    td_status_t status = engine_draw_take(core, sequence, result, output, harvest);

    if (status != TD_OK) {
        engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, status);
        return false;
    }
    free(sequence->hidden);
    sequence->hidden = NULL;
    if (sequence->state == SEQUENCE_PREFILL)
        engine_sequence_step(core, sequence, SEQUENCE_ON_PROMPT_DONE);
    sequence->tokens[sequence->token_count++] = harvest->tokens[harvest->count++].token;
    note_token(&sequence->times, core->now_ns);
    core->totals.new_tokens++;
    return true;
}

/* A PREFILL's chunk: blocks go out as they fill, and the last chunk completes it. */
static void hand_out(struct engine_core *core, struct engine_sequence *sequence,
                     const float *hidden)
{
    if (!engine_emit_blocks(core, sequence)) {
        engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, TD_NO_MEMORY);
        return;
    }
    if (hidden == NULL)
        return;
    sequence->hidden = malloc(core->info->hidden * sizeof *hidden); /* if NULL, KEEP fails it */
    if (sequence->hidden != NULL)
        memcpy(sequence->hidden, hidden, core->info->hidden * sizeof *hidden);
    engine_sequence_step(core, sequence, SEQUENCE_ON_HOLD);
}

/* True if a token was drawn; else the sequence may be freed. */
static bool apply_flight(struct engine_core *core, const struct engine_flight *flight,
                         const struct engine_result *result, struct engine_harvest *harvest)
{
    struct engine_sequence *sequence = flight->sequence;
    bool has_output = flight->output != ENGINE_OUTPUT_NONE;
    bool is_filled;

    sequence->flying = false;
    sequence->computed += flight->rows;
    is_filled = engine_sequence_fill(core, sequence);
    if (sequence->state == SEQUENCE_STOPPING) {
        engine_sequence_try_end(core, sequence);
        return false;
    }
    if (!is_filled) {
        engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, TD_INTERNAL);
        return false;
    }
    if (sequence->goal == ENGINE_PREFILL) {
        hand_out(core, sequence, has_output ? result->outputs[flight->output] : NULL);
        return false;
    }
    return has_output && draw(core, sequence, result, flight->output, harvest);
}

/* After STEP was emitted, since FINISHED is the last event of a sequence. */
static void finish_if_over(struct engine_core *core, struct engine_sequence *sequence)
{
    enum engine_finish reason;

    if (engine_sequence_is_over(sequence, core->info, &reason))
        engine_sequence_end(core, sequence, SEQUENCE_ON_FINISH, reason, TD_OK);
}

static void count_step(struct engine_core *core, uint64_t duration_ns)
{
    const struct engine_plan *plan = &core->plan;

    engine_pace_learn(&core->pace, &plan->work, duration_ns);
    core->totals.steps++;
    core->totals.prompt_tokens += plan->work.prefill_rows;
    core->totals.step_ns = duration_ns;
    core->totals.step_rows = plan->batch.row_count;
    core->totals.step_prefill_rows = plan->work.prefill_rows;
}

static void emit_harvest(struct engine_core *core, struct engine_harvest *harvest)
{
    if (harvest->count == 0) {
        engine_core_give_tokens(core, harvest->tokens);
        harvest->tokens = NULL;
    }
    engine_emit_step(core, harvest->tokens, harvest->count);
}

void engine_core_apply(struct engine_core *core, const struct engine_result *result,
                       uint64_t now_ns)
{
    struct engine_plan *plan = &core->plan;
    struct engine_harvest harvest = {.tokens = engine_take_tokens(core)};

    if (harvest.tokens == NULL) {
        engine_core_fail(core, TD_NO_MEMORY, now_ns);
        return;
    }
    assert(plan->flying);
    core->now_ns = now_ns;
    plan->flying = false;
    count_step(core, result->duration_ns);
    for (uint32_t i = 0; i < plan->flight_count; i++)
        if (!apply_flight(core, &plan->flights[i], result, &harvest))
            plan->flights[i].sequence = NULL;
    emit_harvest(core, &harvest);
    for (uint32_t i = 0; i < plan->flight_count; i++)
        if (plan->flights[i].sequence != NULL)
            finish_if_over(core, plan->flights[i].sequence);
    engine_core_settle(core);
}

void engine_core_fail(struct engine_core *core, td_status_t status, uint64_t now_ns)
{
    struct engine_plan *plan = &core->plan;

    assert(plan->flying);
    core->now_ns = now_ns;
    plan->flying = false;
    for (uint32_t i = 0; i < plan->flight_count; i++) {
        struct engine_sequence *sequence = plan->flights[i].sequence;

        sequence->flying = false;
        if (sequence->state == SEQUENCE_STOPPING)
            engine_sequence_try_end(core, sequence);
        else
            engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, status);
    }
    engine_emit_step(core, NULL, 0);
    engine_core_settle(core);
}
