/* core.c: opening, commands and time; see core.h, and core_state.h for the other files of the core. */
#include "engine/core.h"

#include <assert.h>
#include <stdlib.h>

#include "engine/core_state.h"
#include "lib/base/time.h"

#define SEQUENCES_MAX_DEFAULT 256
#define WAITING_MAX_DEFAULT   1024

/* ---- opening and closing ---- */

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static td_status_t fill_config(struct engine_core_config *config,
                               const struct engine_backend *backend, const struct engine_kv *kv,
                               struct td_error *error)
{
    if (config->step_rows == 0)
        config->step_rows = backend->rows_max;
    if (config->sequences_max == 0)
        config->sequences_max =
            least(SEQUENCES_MAX_DEFAULT, least(backend->outputs_max, config->step_rows));
    if (config->waiting_max == 0)
        config->waiting_max = WAITING_MAX_DEFAULT;
    if (config->import_blocks_max == 0)
        config->import_blocks_max = kv->block_count / 2;
    if (config->step_rows > backend->rows_max)
        return td_fail(error, TD_INVALID, "step_rows %u: the backend takes at most %u",
                       config->step_rows, backend->rows_max);
    if (config->sequences_max > backend->outputs_max)
        return td_fail(error, TD_INVALID, "sequences_max %u: the backend has at most %u outputs",
                       config->sequences_max, backend->outputs_max);
    if (config->sequences_max == 0 || config->sequences_max > config->step_rows)
        return td_fail(error, TD_INVALID, "sequences_max %u: each needs a row, and step_rows is %u",
                       config->sequences_max, config->step_rows);
    return TD_OK;
}

/* A block is pages of equal size, and each of them tokens of equal size. */
static td_status_t check_model(const struct engine_model_info *info, const struct engine_kv *kv,
                               struct td_error *error)
{
    uint64_t rows = (uint64_t)info->kv_heads * info->layers * 2 * kv->block_tokens;

    if (info->vocab == 0 || info->vocab > ENGINE_VOCAB_MAX)
        return td_fail(error, TD_INVALID, "vocab %u: between 1 and %u", info->vocab,
                       ENGINE_VOCAB_MAX);
    if (info->hidden == 0 || info->max_context == 0)
        return td_fail(error, TD_INVALID, "hidden %u, max_context %u", info->hidden,
                       info->max_context);
    if (kv->block_tokens == 0 || kv->block_tokens != info->block_tokens)
        return td_fail(error, TD_INVALID, "block_tokens: the pool has %u, the model %u",
                       kv->block_tokens, info->block_tokens);
    if (kv->block_bytes != info->block_bytes)
        return td_fail(error, TD_INVALID, "block_bytes: the pool has %zu, the model %zu",
                       kv->block_bytes, info->block_bytes);
    if (rows == 0 || kv->block_bytes == 0 || kv->block_bytes % rows != 0)
        return td_fail(error, TD_INVALID,
                       "block_bytes %zu: not %u kv heads x %u layers x 2 x %u tokens of equal size",
                       kv->block_bytes, info->kv_heads, info->layers, kv->block_tokens);
    if (kv->block_count == 0 || kv->block_count > INT32_MAX)
        return td_fail(error, TD_INVALID, "block_count %u", kv->block_count);
    return TD_OK;
}

static uint32_t context_limit(const struct engine_model_info *info, const struct engine_kv *kv)
{
    uint64_t pool_tokens = (uint64_t)kv->block_count * kv->block_tokens;

    return pool_tokens < info->max_context ? (uint32_t)pool_tokens : info->max_context;
}

static td_status_t open_parts(struct engine_core *core)
{
    const struct engine_core_config *config = &core->config;

    core->pool = engine_pool_open(core->kv.block_count, core->kv.block_tokens);
    if (core->pool == NULL)
        return TD_NO_MEMORY;
    if (engine_sampler_init(&core->sampler, core->info->vocab) != TD_OK)
        return TD_NO_MEMORY;
    return engine_plan_init(&core->plan, config->step_rows, config->sequences_max,
                            core->info->vocab);
}

td_status_t engine_core_open(const struct engine_core_config *config,
                             const struct engine_backend *backend, const struct engine_kv *kv,
                             struct engine_sink sink, struct engine_core **core_out,
                             struct td_error *error)
{
    struct engine_core_config filled = *config;
    td_status_t status = check_model(&backend->info, kv, error);
    struct engine_core *core;

    if (status == TD_OK)
        status = fill_config(&filled, backend, kv, error);
    if (status != TD_OK)
        return status;
    core = calloc(1, sizeof *core);
    if (core == NULL)
        return td_fail(error, TD_NO_MEMORY, "the engine core");
    core->config = filled;
    core->info = &backend->info;
    core->kv = *kv;
    core->sink = sink;
    core->context_max = context_limit(core->info, kv);
    td_list_init(&core->queued);
    td_list_init(&core->running);
    td_timers_init(&core->timers);
    td_map_init(&core->sequences, (size_t)filled.waiting_max + kv->block_count);
    status = open_parts(core);
    if (status != TD_OK) {
        engine_core_close(core);
        return td_fail(error, status, "bookkeeping of %u blocks, and a vocabulary of %u",
                       kv->block_count, backend->info.vocab);
    }
    *core_out = core;
    return TD_OK;
}

void engine_core_close(struct engine_core *core)
{
    size_t cursor = 0;
    struct engine_sequence *sequence;

    if (core == NULL)
        return;
    while ((sequence = td_map_next(&core->sequences, &cursor)) != NULL)
        engine_sequence_free(sequence);
    td_map_fini(&core->sequences);
    while (core->spare_count > 0)
        free(core->spare_tokens[--core->spare_count]);
    engine_plan_fini(&core->plan);
    engine_sampler_fini(&core->sampler);
    engine_pool_close(core->pool);
    free(core);
}

/* ---- submit ---- */

static td_status_t check_tokens(const struct engine_core *core, const struct engine_submit *submit)
{
    if (submit->tokens == NULL || submit->token_count == 0)
        return TD_INVALID;
    for (uint32_t i = 0; i < submit->token_count; i++)
        if (submit->tokens[i] >= core->info->vocab)
            return TD_INVALID;
    return TD_OK;
}

/* Clamps max_new_tokens to the context. A PREFILL may fill it; the others need room for a token. */
static td_status_t check_length(const struct engine_core *core, struct engine_submit *submit)
{
    uint32_t room;

    if (submit->token_count > core->context_max)
        return TD_LIMIT;
    room = core->context_max - submit->token_count;
    if (submit->goal == ENGINE_PREFILL)
        return TD_OK;
    if (submit->max_new_tokens == 0)
        return TD_INVALID;
    if (room == 0)
        return TD_LIMIT;
    submit->max_new_tokens = least(submit->max_new_tokens, room);
    return TD_OK;
}

static td_status_t check_sampling(const struct engine_core *core,
                                  const struct engine_sampling *sampling)
{
    td_status_t status = engine_sampling_check(sampling);

    for (uint32_t i = 0; i < sampling->bias_count && status == TD_OK; i++)
        if (sampling->biases[i].token >= core->info->vocab)
            status = TD_INVALID;
    return status;
}

static td_status_t check_submit(const struct engine_core *core, struct engine_submit *submit)
{
    td_status_t status = check_length(core, submit); /* before the pass over the tokens */

    if (status != TD_OK)
        return status;
    if (submit->goal > ENGINE_PREFILL || submit->stop_id_count > ENGINE_STOP_IDS_MAX)
        return TD_INVALID;
    if (submit->goal != ENGINE_PREFILL)
        status = check_sampling(core, &submit->sampling);
    if (status != TD_OK)
        return status;
    status = check_tokens(core, submit);
    if (status != TD_OK)
        return status;
    return core->queued_count < core->config.waiting_max ? TD_OK : TD_EXHAUSTED;
}

static void on_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct engine_sequence *sequence = td_container_of(timer, struct engine_sequence, deadline);

    sequence->core->now_ns = now_ns;
    engine_sequence_end(sequence->core, sequence, SEQUENCE_ON_EXPIRE, ENGINE_FINISH_FAILED,
                        TD_TIMEOUT);
}

static td_status_t enqueue(struct engine_core *core, uint64_t id, struct engine_submit *submit)
{
    struct engine_sequence *sequence =
        engine_sequence_new(id, submit, core->kv.block_tokens, core->now_ns);
    td_status_t status;

    if (sequence == NULL)
        return TD_NO_MEMORY;
    status = td_map_insert(&core->sequences, td_u128_from_u64(id), sequence);
    if (status != TD_OK) {
        engine_sequence_free(sequence);
        return status;
    }
    sequence->core = core;
    sequence->mask = submit->mask;
    submit->mask = (struct engine_mask){0};
    sequence->arrival = core->arrivals++;
    td_timer_init(&sequence->deadline, on_deadline);
    if (sequence->deadline_ns != TD_TIME_NEVER)
        td_timer_set(&core->timers, &sequence->deadline, sequence->deadline_ns);
    engine_sequence_wait(core, sequence);
    return TD_OK;
}

static void submit(struct engine_core *core, uint64_t id, struct engine_submit *submit)
{
    td_status_t status;

    /* ids are minted by the worker, in this process */
    assert(id != 0 && td_map_find(&core->sequences, td_u128_from_u64(id)) == NULL);
    status = check_submit(core, submit);
    if (status == TD_OK)
        status = enqueue(core, id, submit);
    if (status != TD_OK)
        engine_emit_refused(core, id, submit->token_count, status);
}

/* ---- other commands ---- */

/* Whether what landed is what was reserved. */
static bool landed_fits(const struct engine_core *core, const struct engine_sequence *sequence,
                        const struct engine_landed *landed)
{
    return landed->hidden != NULL && landed->hidden_count == core->info->hidden &&
           landed->hashes != NULL &&
           landed->hash_count == sequence->slot_count - sequence->claimed_from;
}

/* Full blocks keep the hash that they were verified with. A tail grows and is hashed when it is full. */
static void take_landed(struct engine_core *core, struct engine_sequence *sequence,
                        struct engine_landed *landed)
{
    uint32_t full = sequence->prompt_count / sequence->block_tokens;

    for (uint32_t i = sequence->claimed_from; i < full; i++)
        engine_pool_set_hash(core->pool, sequence->slots[i],
                             landed->hashes[i - sequence->claimed_from]);
    sequence->hidden = landed->hidden;
    landed->hidden = NULL;
}

static bool land(struct engine_core *core, struct engine_sequence *sequence,
                 struct engine_landed *landed)
{
    if (td_fsm_cell(&sequence_fsm, sequence->state, SEQUENCE_ON_LAND)->action != SEQUENCE_DO_COMMIT)
        return engine_sequence_step(core, sequence, SEQUENCE_ON_LAND);
    if (!landed_fits(core, sequence, landed)) {
        core->totals.stray_commands++; /* what came is of no use: compute it here */
        return engine_sequence_step(core, sequence, SEQUENCE_ON_RELEASE);
    }
    take_landed(core, sequence, landed);
    return engine_sequence_step(core, sequence, SEQUENCE_ON_LAND);
}

static bool cancel(struct engine_core *core, struct engine_sequence *sequence)
{
    return engine_sequence_end(core, sequence, SEQUENCE_ON_CANCEL, ENGINE_FINISH_CANCELED, TD_OK);
}

/* Of a PREFILL that is not complete it implies a cancel: nobody is left who wants it. */
static bool release(struct engine_core *core, struct engine_sequence *sequence, bool quarantine)
{
    if (sequence->goal == ENGINE_PREFILL &&
        (sequence->state == SEQUENCE_QUEUED || sequence->state == SEQUENCE_PREFILL)) {
        bool lent = sequence->lent;

        cancel(core, sequence);
        if (!lent)
            return true; /* it had no blocks, and is freed */
    }
    return engine_sequence_step(core, sequence,
                                quarantine ? SEQUENCE_ON_QUARANTINE : SEQUENCE_ON_RELEASE);
}

/* False: the command did nothing. */
static bool carry_out(struct engine_core *core, struct engine_sequence *sequence,
                      struct engine_command *command)
{
    switch (command->kind) {
    case ENGINE_CANCEL: return cancel(core, sequence);
    case ENGINE_ASKED: return engine_sequence_step(core, sequence, SEQUENCE_ON_ASK);
    case ENGINE_LANDED: return land(core, sequence, &command->landed);
    case ENGINE_RELEASE: return release(core, sequence, command->release.quarantine);
    case ENGINE_SUBMIT:
    case ENGINE_SNAPSHOT: break;
    }
    assert(false && "not a command for a sequence");
    return false;
}

static void dispatch(struct engine_core *core, struct engine_command *command)
{
    struct engine_sequence *sequence =
        td_map_find(&core->sequences, td_u128_from_u64(command->sequence));

    if (sequence == NULL || !carry_out(core, sequence, command))
        core->totals.stray_commands++;
}

void engine_core_command(struct engine_core *core, struct engine_command *command, uint64_t now_ns)
{
    core->now_ns = now_ns;
    if (command->kind == ENGINE_SUBMIT)
        submit(core, command->sequence, &command->submit);
    else if (command->kind == ENGINE_SNAPSHOT)
        core->snapshot_due = true;
    else
        dispatch(core, command);
    engine_command_fini(command);
    engine_core_settle(core);
}

/* ---- driving ---- */

const struct engine_batch *engine_core_plan(struct engine_core *core, uint64_t now_ns)
{
    bool flies;

    core->now_ns = now_ns;
    flies = engine_plan_next(core);
    if (!flies && engine_load_changed(core))
        engine_emit_step(core, NULL, 0); /* nobody else would tell how it looks now */
    engine_core_settle(core);
    return flies ? &core->plan.batch : NULL;
}

uint64_t engine_core_next_deadline(const struct engine_core *core)
{
    return td_timers_next(&core->timers);
}

void engine_core_tick(struct engine_core *core, uint64_t now_ns)
{
    core->now_ns = now_ns;
    td_timers_run(&core->timers, now_ns);
    engine_core_settle(core);
}

void engine_core_drain(struct engine_core *core, uint64_t now_ns)
{
    struct engine_sequence *sequence;
    size_t cursor = 0;

    core->now_ns = now_ns;
    while ((sequence = td_map_next(&core->sequences, &cursor)) != NULL) {
        engine_sequence_force_end(core, sequence);
        cursor = 0; /* the map has changed */
    }
    engine_core_settle(core);
}

/* ---- audit ---- */

const struct engine_pool *engine_core_pool(const struct engine_core *core)
{
    return core->pool;
}

static void audit_list(const struct td_list *list, enum sequence_place place, uint32_t count)
{
    const struct engine_sequence *before = NULL;

    for (struct td_list *node = list->next; node != list; node = node->next) {
        const struct engine_sequence *sequence = engine_sequence_of(node);

        assert(sequence->place == place);
        assert(before == NULL || before->arrival < sequence->arrival);
        before = sequence;
        count--;
    }
    assert(count == 0);
}

static void audit_queued_tokens(const struct engine_core *core)
{
    uint64_t tokens = 0;

    td_list_for_each(node, &core->queued)
    {
        const struct engine_sequence *sequence = engine_sequence_of(node);

        tokens += sequence->remote ? 0 : sequence->token_count;
    }
    assert(tokens == core->queued_tokens);
}

void engine_core_audit(const struct engine_core *core)
{
    engine_pool_audit(core->pool);
    audit_queued_tokens(core);
    audit_list(&core->queued, SEQUENCE_IN_QUEUE, core->queued_count);
    audit_list(&core->running, SEQUENCE_IN_RUNNING, core->running_count);
    engine_plan_audit(core);
}
