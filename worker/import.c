/*
 * import.c: KV imports: reserve, pair, ask, land, and every way out of it. See import.h.
 */
#include "worker/import.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/internal.h"

TD_FSM_DEFINE(import, IMPORT,
              "One KV import of a decode worker: a prompt that is prefilled elsewhere.");

static struct worker_core *core_of(const struct worker_import *import)
{
    return import->request->core;
}

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_import *import = td_container_of(timer, struct worker_import, timer);
    struct front_result *result = &import->request->result;

    (void)now_ns;
    if (import->state == IMPORT_LANDING)
        core_of(import)->counters.asks_stalled++;
    snprintf(result->kv.fallback, sizeof result->kv.fallback, "%s",
             import->state == IMPORT_LANDING  ? "the prefill worker made no progress"
             : import->state == IMPORT_ASKING ? "the prefill worker did not answer the ask"
             : import->state == IMPORT_PAIRING
                 ? "the handshake with the prefill worker took too long"
                 : "no blocks were free for the whole prompt");
    import_step(import, IMPORT_ON_TIMEOUT);
}

static void on_renew(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_import *import = td_container_of(timer, struct worker_import, renew);
    struct worker_core *core = core_of(import);
    Td__Renew renew = TD__RENEW__INIT;
    Td__AskIn message = TD__ASK_IN__INIT;

    (void)now_ns;
    renew.lease_ms = core->times.lease_ms;
    message.kind_case = TD__ASK_IN__KIND_RENEW;
    message.renew = &renew;
    core->env.ask_send(core->env.impl, import->ask, &message);
    worker_timer_after(core, &import->renew, import->lease_ms / 3);
}

void import_start(struct worker_request *request)
{
    struct worker_import *import = &request->import;
    struct worker_core *core = request->core;

    import->request = request;
    import->state = IMPORT_RESERVING;
    import->active = true;
    import->started_ns = core->now_ns;
    td_timer_init(&import->timer, on_timer);
    td_timer_init(&import->renew, on_renew);
    worker_timer_after(core, &import->timer, core->times.reserve_ms);
    core->import_count++;
    core->counters.imports_started++;
}

/* --- leaving --- */

static void close_ask(struct worker_import *import)
{
    struct worker_core *core = core_of(import);

    td_timer_cancel(&core->timers, &import->renew);
    if (!import->ask_open)
        return;
    import->ask_open = false;
    td_map_remove(&core->asks, td_u128_from_u64(import->ask));
    core->env.ask_close(core->env.impl, import->ask);
}

static void finish(struct worker_import *import)
{
    struct worker_core *core = core_of(import);

    close_ask(import);
    td_list_remove(&import->pair_node);
    td_timer_cancel(&core->timers, &import->timer);
    import->active = false;
    core->import_count--;
    free(import->blocks);
    import->blocks = NULL;
    free(import->request->tokens);
    import->request->tokens = NULL;
}

/* For a core that is closed by force: timers and memory only. */
void import_free(struct worker_import *import)
{
    if (!import->active)
        return;
    td_timer_cancel(&core_of(import)->timers, &import->renew);
    td_timer_cancel(&core_of(import)->timers, &import->timer);
    td_list_remove(&import->pair_node);
    free(import->blocks);
}

static void release(struct worker_import *import, bool quarantine)
{
    struct worker_core *core = core_of(import);

    if (quarantine)
        worker_quarantined(core);
    worker_engine_release(core, import->request->sequence, quarantine);
    finish(import);
}

static void fall_back(struct worker_import *import, bool quarantine)
{
    struct worker_core *core = core_of(import);
    struct front_result *result = &import->request->result;

    result->stages.ask_us = worker_us(core->now_ns - import->started_ns);
    if (result->kv.fallback[0] != '\0') {
        char id[TD_U128_HEX_BYTES];

        core->counters.imports_fallback++;
        td_log(TD_LOG_WARN, "import", "prefilling here after all: %s request %s",
               result->kv.fallback, td_u128_hex(import->request->id, id));
    }
    release(import, quarantine);
}

/* --- pairing --- */

static void set_reason(struct worker_import *import, const char *prefix, const char *reason)
{
    struct front_result *result = &import->request->result;

    snprintf(result->kv.fallback, sizeof result->kv.fallback, "%s%s", prefix, reason);
}

/* The candidate that import->candidate names. Called at first, and after moving on. */
static void wait_for_pair(struct worker_import *import)
{
    struct worker_core *core = core_of(import);
    struct worker_pair *pair = pair_for(core, import->candidates[import->candidate].target);

    worker_timer_after(core, &import->timer,
                       2 * core->times.pair_ms); /* the pair's own come first */
    if (pair == NULL) {
        set_reason(import, "", "too many peers");
        import->candidate = import->candidate_count - 1;
        import_step(import, IMPORT_ON_PAIR_FAILED_LAST);
        return;
    }
    pair_wait(pair, import); /* may step this import at once */
}

/* Moves on to the next candidate, if there is one. */
static bool next_candidate(struct worker_import *import)
{
    if (import->candidate + 1 >= import->candidate_count)
        return false;
    import->candidate++;
    core_of(import)->counters.imports_retried++;
    return true;
}

void import_on_pair_up(struct worker_import *import, const struct worker_pair *pair)
{
    td_list_remove(&import->pair_node);
    import->peer = pair->epoch;
    snprintf(import->transport, sizeof import->transport, "%s", pair->transport);
    snprintf(import->lanes, sizeof import->lanes, "%s", pair->lanes);
    import_step(import, IMPORT_ON_PAIR_UP);
}

void import_on_pair_failed(struct worker_import *import, const char *reason)
{
    td_list_remove(&import->pair_node);
    set_reason(import, "no pair with the prefill worker: ", reason);
    import_step(import,
                next_candidate(import) ? IMPORT_ON_PAIR_FAILED_MORE : IMPORT_ON_PAIR_FAILED_LAST);
}

/* --- asking --- */

static td_status_t expect(struct worker_import *import)
{
    struct worker_core *core = core_of(import);
    struct kvt_command command = {.kind = KVT_EXPECT};
    struct kvt_block *blocks = calloc(import->block_count, sizeof *blocks);
    td_status_t status;

    if (blocks == NULL)
        return TD_NO_MEMORY;
    core->env.random(core->env.impl, &import->transfer, sizeof import->transfer);
    core->env.random(core->env.impl, command.expect.mac_key, sizeof command.expect.mac_key);
    status = td_map_insert(&core->transfers, import->transfer, import->request);
    if (status != TD_OK) {
        free(blocks);
        return status;
    }
    for (uint32_t i = 0; i < import->block_count; i++)
        blocks[i] =
            (struct kvt_block){.key = import->blocks[i].key, .slot = import->blocks[i].slot.index};
    memcpy(import->mac_key, command.expect.mac_key, sizeof import->mac_key);
    command.transfer = import->transfer;
    command.peer = import->peer;
    command.expect.blocks = blocks;
    command.expect.block_count = import->block_count;
    command.expect.attachment_bytes = core->identity.model.hidden * (uint32_t)sizeof(float);
    command.expect.deadline_ns = import->request->deadline_ns;
    import->transfer_live = true;
    core->env.kvt(core->env.impl, &command);
    return TD_OK;
}

static void send_ask(struct worker_import *import)
{
    struct worker_core *core = core_of(import);
    const struct worker_request *request = import->request;
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Ask ask;

    td__ask__init(&ask);
    ask.asker_epoch = core->identity.epoch;
    ask.holder_epoch = import->peer;
    ask.transfer_hi = import->transfer.hi;
    ask.transfer_lo = import->transfer.lo;
    ask.mac_key = (ProtobufCBinaryData){.len = sizeof import->mac_key, .data = import->mac_key};
    ask.content_id_hi = core->identity.model.content_id.hi;
    ask.content_id_lo = core->identity.model.content_id.lo;
    ask.root_key_hi = request->submit.root_key.hi;
    ask.root_key_lo = request->submit.root_key.lo;
    ask.tokens = request->tokens;
    ask.n_tokens = request->token_count;
    ask.skip_blocks = import->cached_blocks;
    ask.transport = import->transport;
    ask.lease_ms = core->times.lease_ms;
    ask.request_hi = request->id.hi;
    ask.request_lo = request->id.lo;
    message.kind_case = TD__ASK_IN__KIND_ASK;
    message.ask = &ask;
    import->ask_open = true;
    import->sent_seen = false;
    import->sent_blocks = 0;
    core->env.ask_open(core->env.impl, import->ask, import->candidates[import->candidate].target,
                       &message);
}

/*
 * The order matters: the engine learns that the blocks may be written before anybody is told that
 * they may, and the transfer core expects them before the peer is asked for them.
 */
static void ask(struct worker_import *import)
{
    struct worker_core *core = core_of(import);
    td_status_t status;

    worker_timer_after(core, &import->timer, core->times.ask_ms);
    worker_engine_simple(core, ENGINE_ASKED, import->request->sequence);
    import->ask = worker_number_next(core);
    status = td_map_insert(&core->asks, td_u128_from_u64(import->ask), import);
    if (status == TD_OK)
        status = expect(import);
    if (status != TD_OK) {
        td_map_remove(&core->asks, td_u128_from_u64(import->ask));
        set_reason(import, "", td_status_text(status));
        import_step(import, IMPORT_ON_REFUSED);
        return;
    }
    send_ask(import);
}

/* Gives the transfer up; without one (memory ran out before) quiescence is immediate. */
static void abandon(struct worker_import *import)
{
    struct worker_core *core = core_of(import);
    struct kvt_command command = {.kind = KVT_ABANDON, .transfer = import->transfer};

    td_timer_cancel(&core->timers, &import->timer);
    close_ask(import);
    if (!import->transfer_live) {
        import_step(import,
                    next_candidate(import) ? IMPORT_ON_QUIESCED_MORE : IMPORT_ON_QUIESCED_LAST);
        return;
    }
    core->env.kvt(core->env.impl, &command);
}

static void note(struct worker_import *import)
{
    worker_timer_after(core_of(import), &import->timer, core_of(import)->times.stall_ms);
}

/* --- landed --- */

/* The event's attachment and hashes move to the engine. */
static void commit(struct worker_import *import, struct kvt_event *event)
{
    struct worker_core *core = core_of(import);
    struct front_result *result = &import->request->result;
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = import->request->sequence};

    assert(event != NULL);
    command.landed.hidden = event->landed.attachment;
    command.landed.hidden_count = event->landed.attachment_bytes / (uint32_t)sizeof(float);
    command.landed.hashes = event->landed.hashes;
    command.landed.hash_count = event->landed.hash_count;
    event->landed.attachment = NULL;
    event->landed.hashes = NULL;
    core->counters.imports_landed++;
    core->counters.kv_bytes_received += event->landed.bytes;
    result->kv.bytes = event->landed.bytes;
    result->kv.remote_blocks = import->block_count;
    result->kv.cached_blocks = import->cached_blocks;
    result->stages.wire_us = worker_us(event->landed.wire_ns);
    result->stages.land_us = worker_us(event->landed.land_ns);
    if (import->accepted_ns != 0)
        result->stages.prefill_us = worker_us(core->now_ns - import->accepted_ns);
    result->kv.fallback[0] = '\0'; /* an earlier candidate's failure is history */
    snprintf(result->kv.transport, sizeof result->kv.transport, "%s", import->lanes);
    core->env.engine(core->env.impl, &command);
    finish(import);
}

/* --- the machine --- */

static void import_act(struct worker_import *import, enum import_event on, struct kvt_event *event)
{
    struct worker_core *core = core_of(import);
    uint8_t action = td_fsm_step(&import_fsm, &import->state, (uint8_t)on);

    switch (action) {
    case IMPORT_DO_IGNORE: break;
    case IMPORT_DO_PAIR: wait_for_pair(import); break;
    case IMPORT_DO_ASK: ask(import); break;
    case IMPORT_DO_NOTE: note(import); break;
    case IMPORT_DO_COMMIT: commit(import, event); break;
    case IMPORT_DO_ABANDON: abandon(import); break;
    case IMPORT_DO_CLOSE_ASK:
        td_timer_cancel(&core->timers, &import->timer);
        close_ask(import);
        break;
    case IMPORT_DO_MARK: break;
    case IMPORT_DO_FALL_BACK: fall_back(import, false); break;
    case IMPORT_DO_FALL_BACK_QUARANTINE: fall_back(import, true); break;
    case IMPORT_DO_RELEASE:
        core->counters.imports_canceled++;
        release(import, false);
        break;
    case IMPORT_DO_RELEASE_QUARANTINE:
        core->counters.imports_canceled++;
        release(import, true);
        break;
    case IMPORT_DO_FORGET:
        core->counters.imports_canceled++;
        finish(import);
        break;
    default: assert(false && "unknown action");
    }
}

void import_step(struct worker_import *import, enum import_event event)
{
    import_act(import, event, NULL);
}

/* --- events --- */

void import_on_reserved(struct worker_import *import, struct engine_event *event)
{
    struct worker_core *core;
    uint32_t cached_tokens;

    if (!import->active)
        return; /* given up while the reservation was on its way */
    core = core_of(import);
    if (import->state == IMPORT_RESERVING) {
        import->blocks = event->reserved.blocks;
        event->reserved.blocks = NULL;
        import->block_count = event->reserved.count;
        import->cached_blocks = event->reserved.cached_blocks;
    }
    cached_tokens = event->reserved.cached_blocks * core->identity.model.block_tokens;
    if (import->request->token_count - cached_tokens >= core->policy.import_tokens_min) {
        import_step(import, IMPORT_ON_RESERVED_REMOTE);
    } else {
        core->counters.imports_skipped++;
        import_step(import, IMPORT_ON_RESERVED_LOCAL);
    }
}

/* The transfer has ended: nobody can write to the blocks any more, or they are quarantined. */
static void transfer_ended(struct worker_import *import)
{
    td_map_remove(&core_of(import)->transfers, import->transfer);
    import->transfer_live = false;
}

void import_on_kvt(struct worker_import *import, struct kvt_event *event)
{
    bool more;

    switch (event->kind) {
    case KVT_ARRIVING: import_step(import, IMPORT_ON_PROGRESS); break;
    case KVT_FAILED:
        set_reason(import, "the transfer failed: ", td_status_text(event->status));
        import_step(import, IMPORT_ON_FAILED);
        break;
    case KVT_LANDED:
        transfer_ended(import);
        import_act(import, IMPORT_ON_LANDED, event);
        break;
    case KVT_QUIESCED:
        transfer_ended(import);
        more = import->state != IMPORT_CANCELING && next_candidate(import);
        import_step(import, more ? IMPORT_ON_QUIESCED_MORE : IMPORT_ON_QUIESCED_LAST);
        break;
    case KVT_QUARANTINED:
        transfer_ended(import);
        import_step(import, IMPORT_ON_QUARANTINED);
        break;
    default: assert(false && "an event of the sending side");
    }
}

static void on_accepted(struct worker_import *import, const Td__Accepted *accepted)
{
    struct worker_core *core = core_of(import);
    uint32_t lease_ms = accepted->lease_ms;

    if (import->state != IMPORT_ASKING)
        return;
    import->accepted_ns = core->now_ns;
    import->lease_ms =
        lease_ms >= 30 && lease_ms <= core->times.lease_ms ? lease_ms : core->times.lease_ms;
    import->request->result.stages.ask_us = worker_us(core->now_ns - import->started_ns);
    worker_timer_after(core, &import->renew, import->lease_ms / 3);
    import_step(import, IMPORT_ON_ACCEPTED);
}

static void on_refused(struct worker_import *import, const Td__Refused *refused)
{
    struct worker_core *core = core_of(import);

    core->counters.asks_refused++;
    set_reason(import, "the prefill worker refused: ", refused->message);
    if (refused->code == (uint32_t)-TD_STALE)
        pair_stale(core, import->candidates[import->candidate].target, import->peer);
    import_step(import, IMPORT_ON_REFUSED);
}

/*
 * While the prompt waits or is computed over there, a sign of life is enough. After that the blocks have
 * to come: a transport that has lost some of them must not be waited for as long as both sides live.
 */
static void on_progress(struct worker_import *import, const Td__Progress *progress)
{
    bool computed = progress->computed_tokens >= import->request->token_count;

    if (computed && progress->sent_blocks <= import->sent_blocks)
        return;
    import->sent_blocks = progress->sent_blocks;
    import_step(import, IMPORT_ON_PROGRESS);
}

void worker_core_on_ask_message(struct worker_core *core, uint64_t ask_number,
                                const Td__AskOut *message, uint64_t now_ns)
{
    struct worker_import *import = td_map_find(&core->asks, td_u128_from_u64(ask_number));

    core->now_ns = now_ns;
    if (import == NULL)
        return; /* given up while the message was on its way */
    switch (message->kind_case) {
    case TD__ASK_OUT__KIND_ACCEPTED: on_accepted(import, message->accepted); break;
    case TD__ASK_OUT__KIND_PROGRESS: on_progress(import, message->progress); break;
    case TD__ASK_OUT__KIND_SENT:
        import->sent_seen = true;
        import_step(import, IMPORT_ON_SENT);
        break;
    case TD__ASK_OUT__KIND_REFUSED: on_refused(import, message->refused); break;
    default: break; /* of a newer version: skipped */
    }
}

void worker_core_on_ask_closed(struct worker_core *core, uint64_t ask_number, uint64_t now_ns)
{
    struct worker_import *import = td_map_remove(&core->asks, td_u128_from_u64(ask_number));

    core->now_ns = now_ns;
    if (import == NULL)
        return;
    import->ask_open = false;
    td_timer_cancel(&core->timers, &import->renew);
    if (import->sent_seen)
        return; /* the regular end; what is still landing has the stall deadline */
    core->counters.asks_lost++;
    set_reason(import, "", "the link to the prefill worker broke");
    import_step(import, IMPORT_ON_ASK_LOST);
}
