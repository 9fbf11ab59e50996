/*
 * export.c: asks of peers: checked, queued in the engine, sent chunk by chunk, released. See export.h.
 */
#include "worker/export.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/internal.h"

TD_FSM_DEFINE(export, EXPORT, "One ask of a decode worker, served by a prefill worker.");

#define LEASE_MIN_MS 100
#define LEASE_MAX_MS 60000

static void export_step(struct worker_export *export, enum export_event event,
                        struct engine_event *cargo);

/* --- talking to the asker --- */

static void reply(struct worker_export *export, const Td__AskOut *message)
{
    struct worker_core *core = export->core;

    if (export->handle != NULL)
        core->env.reply_send(core->env.impl, export->handle, message);
}

static void reply_close(struct worker_export *export)
{
    struct worker_core *core = export->core;

    if (export->handle != NULL)
        core->env.reply_close(core->env.impl, export->handle);
    export->handle = NULL;
}

static void refusal_fill(Td__Refused *refused, td_status_t status, const char *reason)
{
    td__refused__init(refused);
    refused->code = (uint32_t)-status;
    refused->message = (char *)(uintptr_t)reason;
    if (status == TD_EXHAUSTED)
        refused->retry_after_ms = 500;
}

static void reply_refused(struct worker_export *export)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Refused refused;

    refusal_fill(&refused, export->status, export->reason);
    message.kind_case = TD__ASK_OUT__KIND_REFUSED;
    message.refused = &refused;
    reply(export, &message);
    reply_close(export);
}

static void reply_accepted(struct worker_export *export)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Accepted accepted = TD__ACCEPTED__INIT;

    accepted.lease_ms = export->lease_ms;
    accepted.heartbeat_ms = export->core->times.heartbeat_ms;
    message.kind_case = TD__ASK_OUT__KIND_ACCEPTED;
    message.accepted = &accepted;
    reply(export, &message);
}

static void reply_progress(struct worker_export *export)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Progress progress = TD__PROGRESS__INIT;

    progress.computed_tokens = export->computed_tokens;
    progress.sent_blocks = export->blocks_gone;
    message.kind_case = TD__ASK_OUT__KIND_PROGRESS;
    message.progress = &progress;
    reply(export, &message);
}

static void reply_sent(struct worker_export *export)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Sent sent = TD__SENT__INIT;

    sent.blocks = export->blocks_sent;
    sent.bytes = export->bytes_sent;
    sent.cached_tokens = export->cached_tokens;
    sent.queue_us = export->queue_us;
    sent.prefill_us = export->prefill_us;
    message.kind_case = TD__ASK_OUT__KIND_SENT;
    message.sent = &sent;
    reply(export, &message);
    reply_close(export);
}

/* --- timers --- */

static void stop_because(struct worker_export *export, td_status_t status, const char *reason)
{
    export->status = status;
    snprintf(export->reason, sizeof export->reason, "%s", reason);
}

static void on_lease(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_export *export = td_container_of(timer, struct worker_export, timer);

    (void)now_ns;
    export->core->counters.leases_expired++;
    export_expire(export);
}

void export_expire(struct worker_export *export)
{
    stop_because(export, TD_TIMEOUT, "the lease ran out");
    if (export->state == EXPORT_QUEUED || export->state == EXPORT_SENDING ||
        export->state == EXPORT_FINISHING)
        export_step(export, EXPORT_ON_TIMEOUT, NULL);
}

/* So that an asker can tell a slow prefill from a dead one: a loop that lives is not enough. */
static void on_heartbeat(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_export *export = td_container_of(timer, struct worker_export, heartbeat);
    struct worker_core *core = export->core;

    (void)now_ns;
    if (core->env.step_age_ms(core->env.impl) < core->times.step_ms)
        reply_progress(export);
    worker_timer_after(core, &export->heartbeat, core->times.heartbeat_ms);
}

/* --- beginning --- */

static const char *check_ask(const struct worker_core *core, const Td__Ask *ask,
                             td_status_t *status_out)
{
    const struct worker_identity *identity = &core->identity;
    uint32_t full_blocks = (uint32_t)(ask->n_tokens / identity->model.block_tokens);

    *status_out = TD_STALE;
    if (ask->holder_epoch != identity->epoch)
        return "holder_epoch: this worker was restarted";
    if (ask->asker_epoch == 0 ||
        peer_find((struct worker_core *)(uintptr_t)core, ask->asker_epoch) == NULL)
        return "asker_epoch: not paired";
    *status_out = TD_EXHAUSTED;
    if (core->draining)
        return "the worker is draining";
    if (core->export_count >= core->counts.exports_max)
        return "too many asks";
    *status_out = TD_INVALID;
    if (!core->policy.exports)
        return "this worker does not serve asks";
    if (ask->content_id_hi != identity->model.content_id.hi ||
        ask->content_id_lo != identity->model.content_id.lo)
        return "content_id differs";
    if ((ask->transfer_hi | ask->transfer_lo) == 0 || ask->mac_key.len != TD_MAC_KEY_BYTES)
        return "transfer or mac_key: missing, or of a wrong size";
    if (ask->n_tokens == 0 || ask->n_tokens > identity->model.max_context)
        return "tokens: empty, or longer than the context";
    if (ask->skip_blocks > full_blocks ||
        (uint64_t)ask->skip_blocks * identity->model.block_tokens >= ask->n_tokens)
        return "skip_blocks: nothing would be left to send";
    for (size_t i = 0; i < ask->n_tokens; i++)
        if (ask->tokens[i] >= identity->model.vocab)
            return "tokens: an id is outside the vocabulary";
    return NULL;
}

static struct worker_export *export_new(struct worker_core *core, void *handle, const Td__Ask *ask)
{
    struct worker_export *export = calloc(1, sizeof *export);

    if (export == NULL)
        return NULL;
    export->owner.kind = WORKER_OWNS_EXPORT;
    export->core = core;
    export->handle = handle;
    export->sequence = worker_number_next(core);
    export->transfer = (struct td_u128){.hi = ask->transfer_hi, .lo = ask->transfer_lo};
    export->request = (struct td_u128){.hi = ask->request_hi, .lo = ask->request_lo};
    export->peer = ask->asker_epoch;
    export->state = EXPORT_QUEUED;
    export->skip_blocks = ask->skip_blocks;
    export->token_count = (uint32_t)ask->n_tokens;
    export->lease_ms = ask->lease_ms < LEASE_MIN_MS   ? LEASE_MIN_MS
                       : ask->lease_ms > LEASE_MAX_MS ? LEASE_MAX_MS
                                                      : ask->lease_ms;
    td_timer_init(&export->timer, on_lease);
    td_timer_init(&export->heartbeat, on_heartbeat);
    return export;
}

void export_free(struct worker_export *export)
{
    struct worker_core *core = export->core;

    td_timer_cancel(&core->timers, &export->timer);
    td_timer_cancel(&core->timers, &export->heartbeat);
    td_map_remove(&core->sequences, td_u128_from_u64(export->sequence));
    td_map_remove(&core->transfers, export->transfer);
    core->export_count--;
    free(export);
}

/* Sequence and transfer are found by number from now on. */
static td_status_t export_register(struct worker_export *export)
{
    struct worker_core *core = export->core;
    td_status_t status = td_map_insert(&core->transfers, export->transfer, export);

    if (status != TD_OK)
        return status == TD_STATE ? TD_INVALID : TD_EXHAUSTED; /* an id in use is another's */
    status = td_map_insert(&core->sequences, td_u128_from_u64(export->sequence), export);
    if (status != TD_OK) {
        td_map_remove(&core->transfers, export->transfer);
        return TD_EXHAUSTED;
    }
    return TD_OK;
}

static void offer(struct worker_export *export, const Td__Ask *ask)
{
    struct worker_core *core = export->core;
    const struct engine_model_info *model = &core->identity.model;
    struct kvt_command command = {
        .kind = KVT_OFFER, .transfer = export->transfer, .peer = export->peer};
    uint32_t blocks = (export->token_count + model->block_tokens - 1) / model->block_tokens;

    memcpy(command.offer.mac_key, ask->mac_key.data, sizeof command.offer.mac_key);
    command.offer.block_count = blocks - export->skip_blocks;
    command.offer.attachment_bytes = model->hidden * (uint32_t)sizeof(float);
    command.offer.deadline_ns = TD_TIME_NEVER; /* the lease bounds it */
    core->env.kvt(core->env.impl, &command);
}

static void submit(struct worker_export *export, const Td__Ask *ask, uint32_t *tokens)
{
    struct worker_core *core = export->core;
    struct engine_command command = {.kind = ENGINE_SUBMIT, .sequence = export->sequence};

    command.submit.request = export->request;
    command.submit.goal = ENGINE_PREFILL;
    command.submit.tokens = tokens;
    command.submit.token_count = export->token_count;
    command.submit.root_key = (struct td_u128){.hi = ask->root_key_hi, .lo = ask->root_key_lo};
    command.submit.sampling.top_p = 1.0f;
    command.submit.deadline_ns = TD_TIME_NEVER; /* the lease bounds it */
    core->env.engine(core->env.impl, &command);
}

static void refuse_ask(struct worker_core *core, void *handle, td_status_t status,
                       const char *reason)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Refused refused;

    core->counters.exports_refused++;
    if (status == TD_STALE)
        core->counters.stale_messages++;
    else if (status == TD_INVALID)
        core->counters.invalid_messages++;
    refusal_fill(&refused, status, reason);
    message.kind_case = TD__ASK_OUT__KIND_REFUSED;
    message.refused = &refused;
    core->env.reply_send(core->env.impl, handle, &message);
    core->env.reply_close(core->env.impl, handle);
}

void worker_core_on_asked(struct worker_core *core, void *handle, const Td__AskIn *message,
                          uint64_t now_ns, struct worker_export **export_out)
{
    const Td__Ask *ask = message->kind_case == TD__ASK_IN__KIND_ASK ? message->ask : NULL;
    td_status_t status = TD_INVALID;
    const char *fault =
        ask == NULL ? "the first message is not an ask" : check_ask(core, ask, &status);
    struct worker_export *export;
    uint32_t *tokens;

    core->now_ns = now_ns;
    *export_out = NULL;
    if (fault != NULL) {
        refuse_ask(core, handle, status, fault);
        return;
    }
    export = export_new(core, handle, ask);
    tokens = malloc(ask->n_tokens * sizeof *tokens);
    status = export == NULL || tokens == NULL ? TD_NO_MEMORY : export_register(export);
    if (status != TD_OK) {
        free(export);
        free(tokens);
        refuse_ask(core, handle, status, td_status_text(status));
        return;
    }
    memcpy(tokens, ask->tokens, ask->n_tokens * sizeof *tokens);
    core->export_count++;
    core->counters.exports_started++;
    core->admitted++;
    worker_timer_after(core, &export->timer, export->lease_ms);
    worker_timer_after(core, &export->heartbeat, core->times.heartbeat_ms);
    *export_out = export;
    reply_accepted(export);
    offer(export, ask);
    submit(export, ask, tokens);
}

/* --- sending --- */

/* Copies the blocks that the asker does not have; NULL with *count_out == 0 if it has them all. */
static struct kvt_block *blocks_to_send(const struct worker_export *export,
                                        const struct engine_block *blocks, uint32_t first,
                                        uint32_t count, uint32_t *first_out, uint32_t *count_out)
{
    uint32_t skip = first < export->skip_blocks ? export->skip_blocks - first : 0;
    struct kvt_block *copy;

    *count_out = 0;
    if (skip >= count)
        return NULL;
    copy = calloc(count - skip, sizeof *copy);
    if (copy == NULL)
        return NULL;
    for (uint32_t i = skip; i < count; i++)
        copy[i - skip] = (struct kvt_block){
            .key = blocks[i].key, .hash = blocks[i].hash, .slot = blocks[i].slot.index};
    *first_out = first + skip - export->skip_blocks;
    *count_out = count - skip;
    return copy;
}

static void send(struct worker_export *export, const struct engine_event *event)
{
    struct worker_core *core = export->core;
    struct kvt_command command = {
        .kind = KVT_SEND, .transfer = export->transfer, .peer = export->peer};
    uint32_t end = event->blocks.first + event->blocks.count;

    export->computed_tokens = end * core->identity.model.block_tokens;
    command.send.blocks =
        blocks_to_send(export, event->blocks.blocks, event->blocks.first, event->blocks.count,
                       &command.send.first, &command.send.block_count);
    if (command.send.blocks == NULL) {
        if (end > export->skip_blocks) { /* there was something to send, but no memory for it */
            stop_because(export, TD_NO_MEMORY, "out of memory");
            export_step(export, EXPORT_ON_ENGINE_STOPPED, NULL);
        }
        return;
    }
    export->blocks_sent += command.send.block_count;
    core->env.kvt(core->env.impl, &command);
    reply_progress(export);
}

/* The event's hidden state moves to the transfer. */
static void send_last(struct worker_export *export, struct engine_event *event)
{
    struct worker_core *core = export->core;
    struct kvt_command command = {
        .kind = KVT_SEND, .transfer = export->transfer, .peer = export->peer};
    bool has_tail = event->prefilled.tail.tokens > 0;

    export->computed_tokens = export->token_count;
    export->cached_tokens = event->prefilled.cached_tokens;
    export->queue_us = worker_us(event->prefilled.queue_ns);
    export->prefill_us = worker_us(event->prefilled.prefill_ns);
    command.send.first = export->blocks_sent;
    if (has_tail) {
        command.send.blocks =
            blocks_to_send(export, &event->prefilled.tail, event->prefilled.tail_index, 1,
                           &command.send.first, &command.send.block_count);
        if (command.send.blocks == NULL) {
            stop_because(export, TD_NO_MEMORY, "out of memory");
            export_step(export, EXPORT_ON_FAILED, NULL);
            return;
        }
    }
    command.send.attachment = event->prefilled.hidden;
    command.send.attachment_bytes = event->prefilled.hidden_count * (uint32_t)sizeof(float);
    event->prefilled.hidden = NULL;
    export->blocks_sent += command.send.block_count;
    core->env.kvt(core->env.impl, &command);
}

/* --- ending --- */

static void timers_off(struct worker_export *export)
{
    td_timer_cancel(&export->core->timers, &export->timer);
    td_timer_cancel(&export->core->timers, &export->heartbeat);
}

static void stop_transfer(struct worker_export *export)
{
    struct worker_core *core = export->core;
    struct kvt_command command = {
        .kind = KVT_STOP, .transfer = export->transfer, .peer = export->peer};

    core->env.kvt(core->env.impl, &command);
}

static void stop(struct worker_export *export)
{
    char id[TD_U128_HEX_BYTES];

    timers_off(export);
    export->core->counters.exports_stopped++;
    td_log(TD_LOG_INFO, "export", "stopped an ask: %s request %s", export->reason,
           td_u128_hex(export->request, id));
    reply_refused(export);
    worker_engine_simple(export->core, ENGINE_CANCEL, export->sequence);
    stop_transfer(export);
}

static void refuse(struct worker_export *export)
{
    timers_off(export);
    export->core->counters.exports_refused++;
    reply_refused(export);
    stop_transfer(export);
}

static void complete(struct worker_export *export)
{
    timers_off(export);
    export->core->counters.exports_sent++;
    reply_sent(export);
    worker_engine_release(export->core, export->sequence, false);
}

static void release(struct worker_export *export, bool quarantine)
{
    timers_off(export);
    if (quarantine)
        worker_quarantined(export->core);
    reply_refused(export); /* if the stream still stands */
    worker_engine_release(export->core, export->sequence, quarantine);
}

static void export_step(struct worker_export *export, enum export_event event,
                        struct engine_event *cargo)
{
    uint8_t action = td_fsm_step(&export_fsm, &export->state, (uint8_t)event);

    switch (action) {
    case EXPORT_DO_IGNORE:
    case EXPORT_DO_MARK: break;
    case EXPORT_DO_SEND: send(export, cargo); break;
    case EXPORT_DO_SEND_LAST: send_last(export, cargo); break;
    case EXPORT_DO_RENEW: worker_timer_after(export->core, &export->timer, export->lease_ms); break;
    case EXPORT_DO_REFUSE: refuse(export); break;
    case EXPORT_DO_STOP: stop(export); break;
    case EXPORT_DO_COMPLETE: complete(export); break;
    case EXPORT_DO_RELEASE: release(export, false); break;
    case EXPORT_DO_RELEASE_QUARANTINE: release(export, true); break;
    case EXPORT_DO_FREE: export_free(export); break;
    default: assert(false && "unknown action");
    }
}

/* --- events --- */

void export_on_engine(struct worker_export *export, struct engine_event *event)
{
    switch (event->kind) {
    case ENGINE_BLOCKS: export_step(export, EXPORT_ON_BLOCKS, event); break;
    case ENGINE_PREFILLED: export_step(export, EXPORT_ON_PREFILLED, event); break;
    case ENGINE_STOPPED:
        stop_because(export, event->stopped.status, "the engine cannot go on");
        export_step(export, EXPORT_ON_ENGINE_STOPPED, NULL);
        break;
    case ENGINE_FINISHED:
        if (event->finished.status != TD_OK)
            stop_because(export, event->finished.status, td_status_text(event->finished.status));
        td_map_remove(&export->core->sequences, td_u128_from_u64(export->sequence));
        export_step(export, EXPORT_ON_ENGINE_ENDED, NULL);
        break;
    default: assert(false && "an event of another goal");
    }
}

void export_on_kvt(struct worker_export *export, struct kvt_event *event)
{
    switch (event->kind) {
    case KVT_SENT:
        export->bytes_sent += event->sent.bytes;
        export->core->counters.kv_bytes_sent += event->sent.bytes;
        export->blocks_gone += event->sent.count;
        break;
    case KVT_FAILED:
        stop_because(export, event->status, td_status_text(event->status));
        export_step(export, EXPORT_ON_FAILED, NULL);
        break;
    case KVT_DRAINED:
        td_map_remove(&export->core->transfers, export->transfer);
        if (event->status != TD_OK && export->status == TD_OK)
            stop_because(export, event->status, td_status_text(event->status));
        export_step(export, event->status == TD_OK ? EXPORT_ON_DRAINED : EXPORT_ON_CUT, NULL);
        break;
    case KVT_QUARANTINED:
        td_map_remove(&export->core->transfers, export->transfer);
        stop_because(export, TD_TIMEOUT, "the transfer could not be drained");
        export_step(export, EXPORT_ON_QUARANTINED, NULL);
        break;
    default: assert(false && "an event of the receiving side");
    }
}

void worker_core_on_asker_message(struct worker_export *export, const Td__AskIn *message,
                                  uint64_t now_ns)
{
    export->core->now_ns = now_ns;
    if (message->kind_case == TD__ASK_IN__KIND_RENEW)
        export_step(export, EXPORT_ON_RENEW, NULL);
}

void worker_core_on_asker_lost(struct worker_export *export, uint64_t now_ns)
{
    export->core->now_ns = now_ns;
    export->handle = NULL;
    stop_because(export, TD_PEER_LOST, "the asker closed the stream");
    export_step(export, EXPORT_ON_ASKER_LOST, NULL);
}
