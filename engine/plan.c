/* plan.c: admission, growth, preemption and the rows of the next batch; the rules are in plan.h. */
#include "engine/plan.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "engine/core_state.h"
#include "lib/base/time.h"

td_status_t engine_plan_init(struct engine_plan *plan, uint32_t rows_max, uint32_t sequences_max,
                             uint32_t vocab)
{
    *plan = (struct engine_plan){
        .rows = calloc(rows_max, sizeof *plan->rows),
        .sequences = calloc(sequences_max, sizeof *plan->sequences),
        .heads = calloc(sequences_max, sizeof *plan->heads),
        .outputs = calloc(sequences_max, sizeof *plan->outputs),
        .draws = calloc(sequences_max, sizeof *plan->draws),
        .masks = calloc((size_t)sequences_max * engine_mask_words(vocab), sizeof *plan->masks),
        .flights = calloc(sequences_max, sizeof *plan->flights),
        .chunks = calloc(sequences_max, sizeof *plan->chunks),
        .order = calloc(sequences_max, sizeof *plan->order),
        .rows_max = rows_max,
        .sequences_max = sequences_max,
    };
    if (plan->rows == NULL || plan->sequences == NULL || plan->heads == NULL ||
        plan->outputs == NULL || plan->draws == NULL || plan->masks == NULL ||
        plan->flights == NULL || plan->chunks == NULL || plan->order == NULL)
        return TD_NO_MEMORY;
    return TD_OK;
}

void engine_plan_fini(struct engine_plan *plan)
{
    free(plan->rows);
    free(plan->sequences);
    free(plan->heads);
    free(plan->outputs);
    free(plan->draws);
    free(plan->masks);
    free(plan->flights);
    free(plan->chunks);
    free(plan->order);
    *plan = (struct engine_plan){0};
}

/* ---- growth ---- */

/* The newest running sequence whose blocks nobody outside may touch. The one in need qualifies. */
static struct engine_sequence *newest_preemptible(struct engine_core *core)
{
    struct td_list *node = core->running.prev;

    while (engine_sequence_of(node)->lent) {
        node = node->prev;
        assert(node != &core->running);
    }
    return engine_sequence_of(node);
}

/* Blocks for all known tokens; false if the sequence itself had to give way. */
static bool grow(struct engine_core *core, struct engine_sequence *sequence, bool *preempted)
{
    while (sequence->slot_count < engine_sequence_blocks_needed(sequence)) {
        uint32_t slot = engine_pool_alloc(core->pool, ENGINE_CLAIM_RUNNING);
        struct engine_sequence *victim;

        if (slot != ENGINE_SLOT_NONE) {
            sequence->slots[sequence->slot_count++] = slot;
            continue;
        }
        *preempted = true;
        victim = newest_preemptible(core);
        engine_sequence_step(core, victim, SEQUENCE_ON_PREEMPT);
        if (victim == sequence)
            return false;
    }
    return true;
}

/*
 * Gives the sequences of the next batch the blocks they lack. Victims are at or after the one in need,
 * so going on from it is safe; if it was itself the victim, only PREFILLs come after it, which
 * have all of their blocks. True if there was a preemption.
 */
static bool grow_all(struct engine_core *core)
{
    struct td_list *node = core->running.next;
    bool preempted = false;

    for (uint32_t i = 0; i < core->plan.sequences_max && node != &core->running; i++) {
        if (!grow(core, engine_sequence_of(node), &preempted))
            return true;
        node = node->next;
    }
    return preempted;
}

/* ---- admission ---- */

enum verdict {
    ADMITTED,
    LET_PASS, /* an import beyond the limit of imports: others may go before it */
    NO_ROOM,  /* nobody may go before it */
};

/* What an admission would take. */
struct need {
    uint32_t total;
    uint32_t
        cached;    /* leading blocks found in the cache; their slots are in the sequence's table */
    uint32_t idle; /* of those, without other users: they count as available until claimed */
};

static struct need look_up(const struct engine_core *core, struct engine_sequence *sequence)
{
    struct need need = {.total = engine_sequence_blocks_needed(sequence)};
    uint32_t hits_max = engine_sequence_hits_max(sequence);

    if (hits_max == 0)
        return need;
    engine_sequence_key(sequence, hits_max - 1); /* makes all keys up to it */
    need.cached = engine_pool_match(core->pool, sequence->root, sequence->keys, sequence->tokens,
                                    hits_max, sequence->slots);
    for (uint32_t i = 0; i < need.cached; i++)
        need.idle += engine_pool_is_idle(core->pool, sequence->slots[i]);
    return need;
}

static uint32_t count_decoding(const struct engine_core *core)
{
    uint32_t count = 0;

    for (struct td_list *node = core->running.next; node != &core->running; node = node->next)
        count += engine_sequence_of(node)->state == SEQUENCE_DECODE;
    return count;
}

static bool imports_are_full(const struct engine_core *core, uint32_t blocks)
{
    struct engine_balance balance;
    uint32_t present;

    engine_pool_balance(core->pool, &balance);
    present = balance.reserved + balance.landing;
    /* one import alone may be larger than the limit: it would never come in otherwise */
    return present > 0 && (uint64_t)present + blocks > core->config.import_blocks_max;
}

static void take_blocks(struct engine_core *core, struct engine_sequence *sequence,
                        const struct need *need)
{
    uint32_t hit = need->cached * sequence->block_tokens;

    for (uint32_t i = 0; i < need->cached; i++) /* first, so that no allocation evicts them */
        engine_pool_claim(core->pool, sequence->slots[i], ENGINE_CLAIM_RUNNING);
    sequence->claim = sequence->remote ? ENGINE_CLAIM_RESERVED : ENGINE_CLAIM_RUNNING;
    sequence->claimed_from = need->cached;
    for (uint32_t i = need->cached; i < need->total; i++) {
        sequence->slots[i] = engine_pool_alloc(core->pool, sequence->claim);
        assert(sequence->slots[i] != ENGINE_SLOT_NONE);
    }
    sequence->slot_count = need->total;
    sequence->computed = hit;
    sequence->full = need->cached;
    core->totals.cached_tokens += hit;
    if (sequence->times.started_ns == TD_TIME_NEVER)
        sequence->cached_tokens = hit;
}

/* Quarantine may have left fewer blocks than the sequence needs, whoever else leaves. */
static bool can_never_fit(const struct engine_core *core, const struct need *need)
{
    struct engine_balance balance;

    engine_pool_balance(core->pool, &balance);
    return need->total > balance.total - balance.quarantined;
}

/* Whether there is room for it now. */
static enum verdict judge(const struct engine_core *core, const struct engine_sequence *sequence,
                          const struct need *need, uint32_t spare)
{
    if (sequence->remote && imports_are_full(core, need->total - need->cached))
        return LET_PASS;
    if ((uint64_t)need->total - need->cached + need->idle + spare >
        engine_pool_available(core->pool))
        return NO_ROOM;
    return ADMITTED;
}

/*
 * Looking up is a pass over the blocks of the prompt, and waiting may last for thousands of steps. Until a
 * claim is given up, fewer blocks are to spare or the next block of the prompt is published, a refusal stays
 * one. What others take or evict only makes less room: a hit that somebody else claims is one block fewer to take
 * and one fewer to be had, and so is a hit that is evicted and comes back. (Only an import that found no room
 * might be let pass by now, because others came in: those behind it wait until one of these moves.)
 */
static bool still_refused(const struct engine_core *core, struct engine_sequence *sequence,
                          uint32_t spare)
{
    const struct sequence_refusal *refusal = &sequence->refusal;

    if (!refusal->holds || refusal->returns != engine_pool_returns(core->pool) ||
        spare < refusal->spare)
        return false;
    return refusal->hits == engine_sequence_hits_max(sequence) ||
           !engine_pool_has(core->pool, engine_sequence_key(sequence, refusal->hits));
}

static void remember(const struct engine_core *core, struct engine_sequence *sequence,
                     const struct need *need, uint32_t spare, enum verdict verdict)
{
    sequence->refusal = (struct sequence_refusal){
        .holds = true,
        .lets_pass = verdict == LET_PASS,
        .hits = need->cached,
        .spare = spare,
        .returns = engine_pool_returns(core->pool),
    };
}

static enum verdict try_admit(struct engine_core *core, struct engine_sequence *sequence,
                              uint32_t spare)
{
    enum verdict verdict;
    struct need need;

    if (!sequence->remote && core->running_count >= core->plan.sequences_max)
        return NO_ROOM;
    if (still_refused(core, sequence, spare))
        return sequence->refusal.lets_pass ? LET_PASS : NO_ROOM;
    need = look_up(core, sequence);
    if (can_never_fit(core, &need)) {
        engine_sequence_end(core, sequence, SEQUENCE_ON_FAIL, ENGINE_FINISH_FAILED, TD_EXHAUSTED);
        return ADMITTED;
    }
    verdict = judge(core, sequence, &need, spare);
    if (verdict != ADMITTED) {
        remember(core, sequence, &need, spare, verdict);
        return verdict;
    }
    take_blocks(core, sequence, &need);
    engine_sequence_step(core, sequence,
                         sequence->remote ? SEQUENCE_ON_RESERVE : SEQUENCE_ON_ADMIT);
    return ADMITTED;
}

static void admit(struct engine_core *core)
{
    bool imports_wait = false;
    uint32_t spare;

    if (td_list_empty(&core->queued))
        return;
    spare = count_decoding(core);
    td_list_for_each(node, &core->queued)
    {
        struct engine_sequence *sequence = engine_sequence_of(node);
        enum verdict verdict;

        if (imports_wait && sequence->remote)
            continue; /* a small import must not pass a large one for ever */
        verdict = try_admit(core, sequence, spare);
        if (verdict == NO_ROOM)
            return;
        imports_wait = imports_wait || verdict == LET_PASS;
    }
}

void engine_plan_audit(const struct engine_core *core)
{
    uint32_t spare = count_decoding(core);

    td_list_for_each(node, &core->queued)
    {
        struct engine_sequence *sequence = engine_sequence_of(node);
        struct need need;

        if (!still_refused(core, sequence, spare))
            continue;
        need = look_up(core, sequence);
        assert(!can_never_fit(core, &need));
        assert(judge(core, sequence, &need, spare) != ADMITTED);
    }
}

/* ---- rows ---- */

static uint32_t add_output(struct engine_plan *plan, uint32_t row, bool is_head,
                           enum engine_want want)
{
    struct engine_batch *batch = &plan->batch;

    assert(batch->output_count < plan->sequences_max);
    plan->outputs[batch->output_count] =
        (struct engine_output){.row = row, .is_head = is_head, .want = want};
    return batch->output_count++;
}

/* Logits, and how a token is drawn from them. */
static uint32_t add_logits(struct engine_core *core, struct engine_sequence *sequence, uint32_t row,
                           bool is_head)
{
    uint32_t output = add_output(&core->plan, row, is_head, ENGINE_WANT_LOGITS);

    engine_draw_plan(core, sequence, output);
    return output;
}

static void add_flight(struct engine_plan *plan, struct engine_sequence *sequence, uint32_t rows,
                       uint32_t output)
{
    assert(plan->flight_count < plan->sequences_max);
    plan->flights[plan->flight_count++] =
        (struct engine_flight){.sequence = sequence, .rows = rows, .output = output};
    sequence->flying = true;
}

/* The KV came from a peer: only the LM head is left to compute, on the state that came with it. */
static void add_head(struct engine_core *core, struct engine_sequence *sequence)
{
    struct engine_plan *plan = &core->plan;
    uint32_t head = plan->batch.head_count++;

    plan->heads[head] = sequence->hidden;
    add_flight(plan, sequence, 0, add_logits(core, sequence, head, true));
}

static void add_rows(struct engine_core *core, struct engine_sequence *sequence, uint32_t count)
{
    struct engine_plan *plan = &core->plan;
    struct engine_batch *batch = &plan->batch;
    uint32_t end = sequence->computed + count;
    uint32_t output = ENGINE_OUTPUT_NONE;

    for (uint32_t position = sequence->computed; position < end; position++)
        plan->rows[batch->row_count++] = (struct engine_row){.token = sequence->tokens[position],
                                                             .position = position,
                                                             .sequence = batch->sequence_count};
    plan->sequences[batch->sequence_count++] = (struct engine_batch_sequence){
        .slots = sequence->slots, .slot_count = sequence->slot_count};
    if (end == sequence->token_count)
        output = sequence->goal == ENGINE_PREFILL
                     ? add_output(plan, batch->row_count - 1, false, ENGINE_WANT_HIDDEN)
                     : add_logits(core, sequence, batch->row_count - 1, false);
    add_flight(plan, sequence, count, output);
}

static void add_decoding(struct engine_core *core, struct engine_sequence *sequence)
{
    struct engine_plan *plan = &core->plan;

    if (sequence->hidden != NULL) {
        add_head(core, sequence);
    } else {
        plan->work.decode_context += sequence->computed;
        add_rows(core, sequence, 1);
    }
    plan->work.decode_rows++;
}

static void add_chunk(struct engine_core *core, struct engine_sequence *sequence, uint32_t rows)
{
    struct engine_plan *plan = &core->plan;
    uint64_t first = sequence->computed;

    plan->work.prefill_rows += rows;
    plan->work.prefill_context += rows * first + (uint64_t)rows * (rows - 1) / 2;
    add_rows(core, sequence, rows);
}

/* The next sequence in the batch that is in a state, after `node`; NULL: there is none. */
static struct td_list *next_in(const struct engine_core *core, struct td_list *node,
                               enum sequence_state state, uint32_t *place)
{
    while (node->next != &core->running && *place < core->plan.sequences_max) {
        node = node->next;
        ++*place;
        if (engine_sequence_of(node)->state == state)
            return node;
    }
    return NULL;
}

static void add_all_decoding(struct engine_core *core)
{
    struct td_list *node = &core->running;
    uint32_t place = 0;

    while ((node = next_in(core, node, SEQUENCE_DECODE, &place)) != NULL)
        add_decoding(core, engine_sequence_of(node));
}

static double or_unbounded(uint64_t ns)
{
    return ns == 0 ? INFINITY : (double)ns;
}

/* What is left of the step for prompts; see rule 5. */
static struct engine_room room_left(const struct engine_core *core)
{
    const struct engine_plan *plan = &core->plan;
    struct engine_room room = {.rows = plan->rows_max - plan->batch.row_count};
    double decode_ns = engine_pace_forecast(&core->pace, &plan->work);
    double ns = or_unbounded(core->config.step_limit_ns);

    if (plan->work.decode_rows > 0)
        ns = fmin(ns, fmax(or_unbounded(core->config.step_target_ns), 2 * decode_ns));
    if (ns != INFINITY && !core->pace.knows_prefill && room.rows > ENGINE_PACE_PROBE_ROWS)
        room.rows = ENGINE_PACE_PROBE_ROWS;
    room.sure = room.rows < ENGINE_ROWS_SURE ? room.rows : ENGINE_ROWS_SURE;
    room.ns = fmax(0, ns - decode_ns);
    return room;
}

static uint32_t collect_chunks(struct engine_core *core)
{
    struct td_list *node = &core->running;
    uint32_t place = 0;
    uint32_t count = 0;

    while ((node = next_in(core, node, SEQUENCE_PREFILL, &place)) != NULL) {
        const struct engine_sequence *sequence = engine_sequence_of(node);

        core->plan.chunks[count++] = (struct engine_chunk){
            .position = sequence->computed, .left = sequence->token_count - sequence->computed};
    }
    return count;
}

/* A step of streams alone, which tells what they take; without a target nobody asks. */
static bool prompts_pause(const struct engine_core *core)
{
    return core->config.step_target_ns > 0 && core->plan.work.decode_rows > 0 &&
           engine_pace_wants_alone(&core->pace);
}

static void add_all_chunks(struct engine_core *core)
{
    struct engine_plan *plan = &core->plan;
    struct td_list *node = &core->running;
    uint32_t count = collect_chunks(core);
    uint32_t place = 0;

    if (count == 0 || prompts_pause(core))
        return;
    engine_share(&core->pace, room_left(core), plan->chunks, plan->order, count);
    for (uint32_t i = 0; i < count; i++) {
        node = next_in(core, node, SEQUENCE_PREFILL, &place);
        if (plan->chunks[i].rows > 0)
            add_chunk(core, engine_sequence_of(node), plan->chunks[i].rows);
    }
}

static void clear(struct engine_plan *plan)
{
    plan->batch = (struct engine_batch){
        .rows = plan->rows,
        .sequences = plan->sequences,
        .heads = plan->heads,
        .outputs = plan->outputs,
    };
    plan->flight_count = 0;
    plan->work = (struct engine_work){0};
}

bool engine_plan_next(struct engine_core *core)
{
    struct engine_plan *plan = &core->plan;

    assert(!plan->flying);
    clear(plan);
    if (!grow_all(core) || core->running_count == 0) /* else there is a next step, soon */
        admit(core);
    add_all_decoding(core);
    add_all_chunks(core);
    plan->flying = plan->flight_count > 0;
    return plan->flying;
}
