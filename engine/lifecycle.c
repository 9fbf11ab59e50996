/*
 * lifecycle.c: what each action of the sequence table does; part of the engine core.
 *
 * The table (engine/sequence.h) says what may happen when; here are the blocks, lists and times
 * behind it. An action may step the sequence again (an event for which there is no memory fails it),
 * and END frees it, so no action touches the sequence after it has stepped it.
 */
#include <assert.h>
#include <stdlib.h>

#include "engine/core_state.h"
#include "lib/base/time.h"

/* ---- lists ---- */

/* Of an import somebody else computes the prompt. */
static uint32_t rows_here(const struct engine_sequence *sequence)
{
    return sequence->remote ? 0 : sequence->token_count;
}

void engine_sequence_wait(struct engine_core *core, struct engine_sequence *sequence)
{
    assert(sequence->place == SEQUENCE_IN_NONE);
    sequence->refusal.holds = false; /* it has other needs than when it waited before */
    engine_sequence_insert(&core->queued, sequence);
    sequence->place = SEQUENCE_IN_QUEUE;
    core->queued_count++;
    core->queued_tokens += rows_here(sequence);
}

static void enter_running(struct engine_core *core, struct engine_sequence *sequence)
{
    assert(sequence->place == SEQUENCE_IN_NONE);
    engine_sequence_insert(&core->running, sequence);
    sequence->place = SEQUENCE_IN_RUNNING;
    core->running_count++;
}

static void leave_list(struct engine_core *core, struct engine_sequence *sequence)
{
    if (sequence->place == SEQUENCE_IN_QUEUE) {
        core->queued_count--;
        core->queued_tokens -= rows_here(sequence);
    } else if (sequence->place == SEQUENCE_IN_RUNNING) {
        core->running_count--;
    }
    td_list_remove(&sequence->node);
    sequence->place = SEQUENCE_IN_NONE;
}

/* ---- claims ---- */

/* Claims the blocks from index `from` on as `claim`, and those before as RUNNING. */
static void claim_as(struct engine_core *core, struct engine_sequence *sequence, uint32_t from,
                     enum engine_claim claim)
{
    uint32_t old_from = sequence->claimed_from;

    engine_pool_move(core->pool, sequence->slots + old_from, sequence->slot_count - old_from,
                     sequence->claim, ENGINE_CLAIM_RUNNING);
    engine_pool_move(core->pool, sequence->slots + from, sequence->slot_count - from,
                     ENGINE_CLAIM_RUNNING, claim);
    sequence->claimed_from = from;
    sequence->claim = claim;
}

/* Gives all blocks back, leaf first; those in quarantine stay behind. */
static void give_back(struct engine_core *core, struct engine_sequence *sequence)
{
    uint32_t from = sequence->claimed_from;

    if (sequence->claim != ENGINE_CLAIM_QUARANTINED)
        engine_pool_unclaim_all(core->pool, sequence->slots + from, sequence->slot_count - from,
                                sequence->claim);
    engine_pool_unclaim_all(core->pool, sequence->slots, from, ENGINE_CLAIM_RUNNING);
    sequence->slot_count = 0;
    sequence->claimed_from = 0;
    sequence->claim = ENGINE_CLAIM_RUNNING;
    sequence->computed = 0;
    sequence->full = 0;
    sequence->apart = false;
}

/* ---- small parts ---- */

static void note(uint64_t *when, uint64_t now_ns)
{
    if (*when == TD_TIME_NEVER)
        *when = now_ns;
}

/* The worker no longer decides how long it takes: the deadline speaks again. */
static void arm_deadline(struct engine_core *core, struct engine_sequence *sequence)
{
    if (sequence->deadline_ns != TD_TIME_NEVER)
        td_timer_set(&core->timers, &sequence->deadline, sequence->deadline_ns);
}

static void no_memory(struct engine_core *core, struct engine_sequence *sequence)
{
    engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, TD_NO_MEMORY);
}

/* ---- actions, in the order of the table ---- */

static void start(struct engine_core *core, struct engine_sequence *sequence)
{
    leave_list(core, sequence);
    enter_running(core, sequence);
    note(&sequence->times.started_ns, core->now_ns);
    note(&sequence->times.computing_ns, core->now_ns);
    if (sequence->goal != ENGINE_PREFILL)
        return;
    sequence->lent = true;
    if (!engine_emit_blocks(core, sequence)) /* what the cache had, at once */
        no_memory(core, sequence);
}

static void offer(struct engine_core *core, struct engine_sequence *sequence)
{
    leave_list(core, sequence);
    note(&sequence->times.started_ns, core->now_ns);
    if (!engine_emit_reserved(core, sequence))
        no_memory(core, sequence);
}

static void localize(struct engine_core *core, struct engine_sequence *sequence)
{
    if (!sequence->remote)
        core->totals.stray_commands++;
    core->queued_tokens -= rows_here(sequence);
    sequence->remote = false;
    core->queued_tokens += rows_here(sequence);
    sequence->refusal.holds = false;
}

static void lend(struct engine_core *core, struct engine_sequence *sequence)
{
    claim_as(core, sequence, sequence->claimed_from, ENGINE_CLAIM_LANDING);
    sequence->lent = true;
}

static void own_again(struct engine_core *core, struct engine_sequence *sequence)
{
    claim_as(core, sequence, 0, ENGINE_CLAIM_RUNNING);
    sequence->lent = false;
    sequence->remote = false;
    arm_deadline(core, sequence);
    enter_running(core, sequence);
}

/* The command's handler has set the hashes of the landed blocks, and hidden. */
static void commit(struct engine_core *core, struct engine_sequence *sequence)
{
    own_again(core, sequence);
    note(&sequence->times.prompt_done_ns, core->now_ns);
    sequence->computed = sequence->token_count;
    engine_sequence_fill(core, sequence); /* if it fails, so does the next step's */
}

static void compute(struct engine_core *core, struct engine_sequence *sequence)
{
    own_again(core, sequence);
    note(&sequence->times.computing_ns, core->now_ns);
}

static void disown(struct engine_core *core, struct engine_sequence *sequence)
{
    claim_as(core, sequence, sequence->claimed_from, ENGINE_CLAIM_QUARANTINED);
    give_back(core, sequence);
    sequence->lent = false;
    sequence->remote = false;
    arm_deadline(core, sequence);
    engine_sequence_wait(core, sequence);
}

static void keep(struct engine_core *core, struct engine_sequence *sequence)
{
    leave_list(core, sequence);
    claim_as(core, sequence, 0, ENGINE_CLAIM_HELD);
    sequence->reason = ENGINE_FINISH_RELEASED; /* unless a cancel comes first */
    if (!engine_emit_prefilled(core, sequence))
        no_memory(core, sequence);
}

static void requeue(struct engine_core *core, struct engine_sequence *sequence)
{
    leave_list(core, sequence);
    give_back(core, sequence);
    free(sequence->hidden); /* what was landed is computed here then */
    sequence->hidden = NULL;
    core->totals.preemptions++;
    engine_sequence_wait(core, sequence);
}

static void stop(struct engine_core *core, struct engine_sequence *sequence)
{
    leave_list(core, sequence);
    td_timer_cancel(&core->timers, &sequence->deadline);
    if (sequence->goal == ENGINE_PREFILL && sequence->lent) {
        claim_as(core, sequence, 0, ENGINE_CLAIM_HELD);
        if (sequence->reason == ENGINE_FINISH_FAILED)
            engine_emit_stopped(core, sequence);
    }
    engine_sequence_try_end(core, sequence);
}

static void let_go(struct engine_core *core, struct engine_sequence *sequence)
{
    sequence->lent = false;
    engine_sequence_try_end(core, sequence);
}

static void abandon(struct engine_core *core, struct engine_sequence *sequence)
{
    if (sequence->lent)
        claim_as(core, sequence, sequence->claimed_from, ENGINE_CLAIM_QUARANTINED);
    let_go(core, sequence);
}

static void end(struct engine_core *core, struct engine_sequence *sequence)
{
    give_back(core, sequence);
    td_map_remove(&core->sequences, td_u128_from_u64(sequence->id));
    td_timer_cancel(&core->timers, &sequence->deadline);
    engine_emit_finished(core, sequence);
    engine_sequence_free(sequence);
}

/* ---- stepping ---- */

static void act(struct engine_core *core, struct engine_sequence *sequence, uint8_t action)
{
    switch (action) {
    case SEQUENCE_DO_START: start(core, sequence); break;
    case SEQUENCE_DO_OFFER: offer(core, sequence); break;
    case SEQUENCE_DO_LOCALIZE: localize(core, sequence); break;
    case SEQUENCE_DO_LEND: lend(core, sequence); break;
    case SEQUENCE_DO_COMMIT: commit(core, sequence); break;
    case SEQUENCE_DO_COMPUTE: compute(core, sequence); break;
    case SEQUENCE_DO_DISOWN: disown(core, sequence); break;
    case SEQUENCE_DO_BEGIN: note(&sequence->times.prompt_done_ns, core->now_ns); break;
    case SEQUENCE_DO_KEEP: keep(core, sequence); break;
    case SEQUENCE_DO_REQUEUE: requeue(core, sequence); break;
    case SEQUENCE_DO_STOP: stop(core, sequence); break;
    case SEQUENCE_DO_LET_GO: let_go(core, sequence); break;
    case SEQUENCE_DO_ABANDON: abandon(core, sequence); break;
    case SEQUENCE_DO_END: end(core, sequence); break;
    default: assert(false && "an action without code");
    }
}

bool engine_sequence_step(struct engine_core *core, struct engine_sequence *sequence,
                          enum sequence_event event)
{
    uint8_t action = td_fsm_step(&sequence_fsm, &sequence->state, (uint8_t)event);

    if (action == SEQUENCE_DO_IGNORE)
        return false;
    act(core, sequence, action);
    return true;
}

bool engine_sequence_end(struct engine_core *core, struct engine_sequence *sequence,
                         enum sequence_event event, enum engine_finish reason, td_status_t status)
{
    const struct td_fsm_cell *cell = td_fsm_cell(&sequence_fsm, sequence->state, (uint8_t)event);

    if (cell->action == SEQUENCE_DO_STOP) {
        sequence->reason = reason;
        sequence->status = status;
    }
    return engine_sequence_step(core, sequence, event);
}

void engine_sequence_try_end(struct engine_core *core, struct engine_sequence *sequence)
{
    assert(sequence->state == SEQUENCE_STOPPING);
    if (!sequence->lent && !sequence->flying)
        engine_sequence_step(core, sequence, SEQUENCE_ON_IDLE);
}

void engine_sequence_force_end(struct engine_core *core, struct engine_sequence *sequence)
{
    bool lent = sequence->lent;

    assert(!sequence->flying);
    engine_sequence_end(core, sequence, SEQUENCE_ON_CANCEL, ENGINE_FINISH_CANCELED, TD_OK);
    if (lent)
        engine_sequence_step(core, sequence, SEQUENCE_ON_QUARANTINE);
}
