/*
 * test_core_cells.c: every cell of the worker's four state tables, through the real core: the state is
 * reached by what leads there, the event comes from where it comes from in production, and the
 * notebook must show what the cell's action promises. Cells that the contracts make impossible (BUG) are
 * left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/worker/core_rig.h"

#define ID     9
#define TOKENS 18 /* four blocks and a tail */
#define BLOCKS 5

static void tables_are_complete(void **state)
{
    (void)state;
    assert_null(td_fsm_check(&request_fsm));
    assert_null(td_fsm_check(&import_fsm));
    assert_null(td_fsm_check(&export_fsm));
    assert_null(td_fsm_check(&pair_fsm));
}

/* What the notebook said before the event. */
struct before {
    uint32_t engine;
    uint32_t kvt;
    uint32_t pair_calls;
    uint32_t asks;
    uint32_t asks_closed;
};

static struct before look(const struct rig *rig)
{
    return (struct before){.engine = rig->engine_count,
                           .kvt = rig->kvt_count,
                           .pair_calls = rig->pair_calls,
                           .asks = rig->asks,
                           .asks_closed = rig->asks_closed};
}

static void expect_silence(const struct rig *rig, const struct before *before)
{
    assert_int_equal(rig->engine_count, before->engine);
    assert_int_equal(rig->kvt_count, before->kvt);
    assert_int_equal(rig->pair_calls, before->pair_calls);
    assert_int_equal(rig->asks, before->asks);
    assert_int_equal(rig->asks_closed, before->asks_closed);
}

/* How many commands of the kind came since. */
static uint32_t engine_since(const struct rig *rig, const struct before *before,
                             enum engine_command_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = before->engine; i < rig->engine_count; i++)
        count += rig->engine[i].kind == kind;
    return count;
}

static uint32_t kvt_since(const struct rig *rig, const struct before *before,
                          enum kvt_command_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = before->kvt; i < rig->kvt_count; i++)
        count += rig->kvt[i].kind == kind;
    return count;
}

static void expect_release(const struct rig *rig, const struct before *before, bool quarantine)
{
    assert_int_equal(engine_since(rig, before, ENGINE_RELEASE), 1);
    assert_int_equal(rig_last_engine(rig)->kind, ENGINE_RELEASE);
    assert_int_equal(rig_last_engine(rig)->release.quarantine, quarantine);
}

/* --------------------------------------------------------------------------------------- imports */

struct import_case {
    struct rig rig;
    struct rig_stream router;
    struct worker_request *request;
    uint64_t sequence;
};

static void say_kind(struct rig *rig, Td__AskOut__KindCase kind)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Accepted accepted = TD__ACCEPTED__INIT;
    Td__Progress progress = TD__PROGRESS__INIT;
    Td__Sent sent = TD__SENT__INIT;
    Td__Refused refused;

    td__refused__init(&refused);
    accepted.lease_ms = 3000;
    refused.code = (uint32_t)-TD_EXHAUSTED;
    refused.message = (char *)(uintptr_t) "no";
    message.kind_case = kind;
    if (kind == TD__ASK_OUT__KIND_ACCEPTED)
        message.accepted = &accepted;
    else if (kind == TD__ASK_OUT__KIND_PROGRESS)
        message.progress = &progress;
    else if (kind == TD__ASK_OUT__KIND_SENT)
        message.sent = &sent;
    else
        message.refused = &refused;
    rig_ask_says(rig, &message);
}

static void import_event(struct import_case *c, enum import_event event)
{
    struct rig *rig = &c->rig;

    switch (event) {
    case IMPORT_ON_RESERVED_REMOTE: rig_reserved(rig, c->sequence, BLOCKS, 0); break;
    case IMPORT_ON_RESERVED_LOCAL: rig_reserved(rig, c->sequence, 1, BLOCKS - 1); break;
    case IMPORT_ON_ENGINE_ENDED:
        rig_finished(rig, c->sequence, ENGINE_FINISH_FAILED, TD_INTERNAL, 0);
        break;
    case IMPORT_ON_PAIR_UP:
        rig_pair_reply(rig, NULL);
        rig_peer(rig, KVT_PEER_UP, RIG_PEER);
        break;
    case IMPORT_ON_PAIR_FAILED_MORE:
    case IMPORT_ON_PAIR_FAILED_LAST: rig_pair_failed(rig); break;
    case IMPORT_ON_ACCEPTED: say_kind(rig, TD__ASK_OUT__KIND_ACCEPTED); break;
    case IMPORT_ON_REFUSED: say_kind(rig, TD__ASK_OUT__KIND_REFUSED); break;
    case IMPORT_ON_PROGRESS: say_kind(rig, TD__ASK_OUT__KIND_PROGRESS); break;
    case IMPORT_ON_SENT: say_kind(rig, TD__ASK_OUT__KIND_SENT); break;
    case IMPORT_ON_ASK_LOST:
        worker_core_on_ask_closed(rig->core, rig->ask_number, rig->now_ns);
        break;
    case IMPORT_ON_LANDED: rig_landed(rig, rig->transfer, BLOCKS); break;
    case IMPORT_ON_FAILED: rig_kvt(rig, KVT_FAILED, rig->transfer, TD_CORRUPT, false); break;
    case IMPORT_ON_QUIESCED_MORE:
    case IMPORT_ON_QUIESCED_LAST:
        rig_kvt(rig, KVT_QUIESCED, rig->transfer, TD_CANCELED, false);
        break;
    case IMPORT_ON_QUARANTINED:
        rig_kvt(rig, KVT_QUARANTINED, rig->transfer, TD_TIMEOUT, false);
        break;
    case IMPORT_ON_CANCEL: rig_cancel(rig, &c->router, ID); break;
    case IMPORT_ON_TIMEOUT:
        rig->now_ns = c->request->import.timer.at_ns;
        worker_core_tick(rig->core, rig->now_ns);
        break;
    case IMPORT_EVENT_COUNT: break;
    }
}

static void import_enter(struct import_case *c, enum import_state state, uint32_t candidates)
{
    static const enum import_event way[] = {IMPORT_ON_RESERVED_REMOTE, IMPORT_ON_PAIR_UP,
                                            IMPORT_ON_ACCEPTED};
    enum import_state reached = IMPORT_RESERVING;

    rig_open(&c->rig, TD__ROLE__ROLE_DECODE);
    rig_link(&c->rig, &c->router);
    rig_start(&c->rig, &c->router, ID, TOKENS, candidates);
    rig_tokens(&c->rig, &c->router, ID, 0, TOKENS);
    c->request = rig_request(&c->rig, ID);
    assert_non_null(c->request);
    c->sequence = c->request->sequence;
    if (state == IMPORT_DONE) {
        import_event(c, IMPORT_ON_RESERVED_LOCAL);
        return;
    }
    for (size_t i = 0;
         i < sizeof way / sizeof way[0] && reached != state && reached != IMPORT_LANDING; i++) {
        import_event(c, way[i]);
        reached = (enum import_state)c->request->import.state;
    }
    if (state == IMPORT_STOPPING)
        import_event(c, IMPORT_ON_REFUSED);
    else if (state == IMPORT_CANCELING)
        import_event(c, IMPORT_ON_CANCEL);
    assert_int_equal(c->request->import.state, state);
}

static void expect_import_action(const struct import_case *c, uint8_t action,
                                 const struct before *before)
{
    const struct rig *rig = &c->rig;
    const struct worker_import *import = &c->request->import;

    switch (action) {
    case IMPORT_DO_PAIR:
        assert_int_equal(rig->pair_calls, before->pair_calls + 1);
        assert_int_equal(kvt_since(rig, before, KVT_EXPECT), 0);
        break;
    case IMPORT_DO_ASK:
        assert_int_equal(engine_since(rig, before, ENGINE_ASKED), 1);
        assert_int_equal(kvt_since(rig, before, KVT_EXPECT), 1);
        assert_int_equal(rig->asks, before->asks + 1);
        break;
    case IMPORT_DO_NOTE:
        assert_int_equal(import->timer.at_ns,
                         rig->now_ns + rig->core->times.stall_ms * TD_NS_PER_MS);
        break;
    case IMPORT_DO_COMMIT: assert_int_equal(engine_since(rig, before, ENGINE_LANDED), 1); break;
    case IMPORT_DO_ABANDON:
        assert_int_equal(kvt_since(rig, before, KVT_ABANDON), 1);
        assert_false(import->ask_open);
        break;
    case IMPORT_DO_CLOSE_ASK:
        assert_int_equal(kvt_since(rig, before, KVT_ABANDON), 0);
        assert_int_equal(rig->asks_closed, before->asks_closed + 1);
        break;
    case IMPORT_DO_MARK: assert_int_equal(engine_since(rig, before, ENGINE_RELEASE), 0); break;
    case IMPORT_DO_FALL_BACK:
    case IMPORT_DO_RELEASE: expect_release(rig, before, false); break;
    case IMPORT_DO_FALL_BACK_QUARANTINE:
    case IMPORT_DO_RELEASE_QUARANTINE: expect_release(rig, before, true); break;
    case IMPORT_DO_FORGET: assert_int_equal(engine_since(rig, before, ENGINE_RELEASE), 0); break;
    default: fail_msg("an action without a test");
    }
    if (import->state == IMPORT_DONE)
        assert_false(import->active);
}

static void every_cell_of_import(void **unused)
{
    (void)unused;
    for (uint8_t state = 0; state < IMPORT_STATE_COUNT; state++) {
        for (uint8_t event = 0; event < IMPORT_EVENT_COUNT; event++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&import_fsm, state, event);
            bool more = event == IMPORT_ON_PAIR_FAILED_MORE || event == IMPORT_ON_QUIESCED_MORE;
            struct import_case c;
            struct before before;

            if (cell->action == TD_FSM_BUG)
                continue;
            import_enter(&c, (enum import_state)state, more ? 2 : 1);
            before = look(&c.rig);
            import_event(&c, (enum import_event)event);
            if (c.request->import.state != cell->next)
                fail_msg("%s x %s: %s", import_fsm.states[state].name,
                         import_fsm.events[event].name,
                         import_fsm.states[c.request->import.state].name);
            if (cell->action == TD_FSM_IGNORE && event != IMPORT_ON_CANCEL)
                expect_silence(&c.rig, &before);
            else if (cell->action != TD_FSM_IGNORE)
                expect_import_action(&c, cell->action, &before);
            rig_close(&c.rig);
        }
    }
}

/* --------------------------------------------------------------------------------------- exports */

struct export_case {
    struct rig rig;
    struct rig_stream asker;
    struct worker_export *export;
    uint64_t sequence;
};

static bool export_lives(const struct export_case *c)
{
    return c->rig.core->export_count > 0;
}

static void export_event(struct export_case *c, enum export_event event)
{
    struct rig *rig = &c->rig;
    Td__AskIn renew_message = TD__ASK_IN__INIT;
    Td__Renew renew = TD__RENEW__INIT;

    renew_message.kind_case = TD__ASK_IN__KIND_RENEW;
    renew_message.renew = &renew;
    switch (event) {
    case EXPORT_ON_BLOCKS: rig_blocks(rig, c->sequence, c->export->blocks_sent, 2); break;
    case EXPORT_ON_PREFILLED: rig_prefilled(rig, c->sequence, BLOCKS - 1, 2); break;
    case EXPORT_ON_ENGINE_STOPPED: rig_stopped(rig, c->sequence); break;
    case EXPORT_ON_ENGINE_ENDED:
        rig_finished(rig, c->sequence, ENGINE_FINISH_REFUSED, TD_EXHAUSTED, 0);
        break;
    case EXPORT_ON_FAILED: rig_kvt(rig, KVT_FAILED, rig->transfer, TD_PEER_LOST, true); break;
    case EXPORT_ON_DRAINED: rig_kvt(rig, KVT_DRAINED, rig->transfer, TD_OK, true); break;
    case EXPORT_ON_CUT: rig_kvt(rig, KVT_DRAINED, rig->transfer, TD_CANCELED, true); break;
    case EXPORT_ON_QUARANTINED:
        rig_kvt(rig, KVT_QUARANTINED, rig->transfer, TD_TIMEOUT, true);
        break;
    case EXPORT_ON_RENEW:
        rig->now_ns += TD_NS_PER_MS;
        worker_core_on_asker_message(c->export, &renew_message, rig->now_ns);
        break;
    case EXPORT_ON_ASKER_LOST: worker_core_on_asker_lost(c->export, rig->now_ns); break;
    case EXPORT_ON_TIMEOUT:
        rig->now_ns = c->export->timer.at_ns;
        worker_core_tick(rig->core, rig->now_ns);
        break;
    case EXPORT_EVENT_COUNT: break;
    }
}

static void export_enter(struct export_case *c, enum export_state state)
{
    rig_open(&c->rig, TD__ROLE__ROLE_PREFILL);
    assert_true(rig_paired_by(&c->rig, NULL, NULL));
    rig_asked(&c->rig, &c->asker, TOKENS, NULL);
    c->export = c->asker.export;
    assert_non_null(c->export);
    c->sequence = c->export->sequence;
    if (state == EXPORT_SENDING || state == EXPORT_FINISHING || state == EXPORT_RELEASING)
        export_event(c, EXPORT_ON_BLOCKS);
    if (state == EXPORT_FINISHING || state == EXPORT_RELEASING)
        export_event(c, EXPORT_ON_PREFILLED);
    if (state == EXPORT_RELEASING)
        export_event(c, EXPORT_ON_DRAINED);
    if (state == EXPORT_STOPPING)
        export_event(c, EXPORT_ON_ASKER_LOST);
    if (state == EXPORT_DRAINING)
        export_event(c, EXPORT_ON_ENGINE_ENDED);
    assert_int_equal(c->export->state, state);
}

static void expect_export_action(const struct export_case *c, uint8_t action,
                                 const struct before *before)
{
    const struct rig *rig = &c->rig;

    switch (action) {
    case EXPORT_DO_SEND:
    case EXPORT_DO_SEND_LAST: assert_int_equal(kvt_since(rig, before, KVT_SEND), 1); break;
    case EXPORT_DO_RENEW:
        assert_int_equal(c->export->timer.at_ns, rig->now_ns + c->export->lease_ms * TD_NS_PER_MS);
        break;
    case EXPORT_DO_REFUSE:
        assert_int_equal(kvt_since(rig, before, KVT_STOP), 1);
        assert_int_equal(c->asker.replies[TD__ASK_OUT__KIND_REFUSED], 1);
        assert_true(c->asker.closed);
        break;
    case EXPORT_DO_STOP:
        assert_int_equal(kvt_since(rig, before, KVT_STOP), 1);
        assert_int_equal(engine_since(rig, before, ENGINE_CANCEL), 1);
        break;
    case EXPORT_DO_COMPLETE:
        assert_int_equal(c->asker.replies[TD__ASK_OUT__KIND_SENT], 1);
        assert_true(c->asker.closed);
        expect_release(rig, before, false);
        break;
    case EXPORT_DO_RELEASE: expect_release(rig, before, false); break;
    case EXPORT_DO_RELEASE_QUARANTINE: expect_release(rig, before, true); break;
    case EXPORT_DO_MARK: expect_silence(rig, before); break;
    case EXPORT_DO_FREE: assert_false(export_lives(c)); break;
    default: fail_msg("an action without a test");
    }
}

static void every_cell_of_export(void **unused)
{
    (void)unused;
    for (uint8_t state = 0; state < EXPORT_DONE; state++) {
        for (uint8_t event = 0; event < EXPORT_EVENT_COUNT; event++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&export_fsm, state, event);
            struct export_case c;
            struct before before;

            if (cell->action == TD_FSM_BUG)
                continue;
            export_enter(&c, (enum export_state)state);
            before = look(&c.rig);
            export_event(&c, (enum export_event)event);
            if (export_lives(&c) ? c.export->state != cell->next : cell->next != EXPORT_DONE)
                fail_msg("%s x %s", export_fsm.states[state].name, export_fsm.events[event].name);
            if (cell->action == TD_FSM_IGNORE)
                expect_silence(&c.rig, &before);
            else
                expect_export_action(&c, cell->action, &before);
            rig_close(&c.rig);
        }
    }
}

/* Its KV has landed, and our side hears of it after the stream's end. */
static void an_asker_that_has_everything_and_leaves_first_was_served(void **unused)
{
    struct export_case c;
    struct before before;

    (void)unused;
    export_enter(&c, EXPORT_FINISHING);
    before = look(&c.rig);
    export_event(&c, EXPORT_ON_ASKER_LOST);
    export_event(&c, EXPORT_ON_DRAINED);
    expect_release(&c.rig, &before, false);
    assert_int_equal(kvt_since(&c.rig, &before, KVT_STOP), 0);
    assert_int_equal(c.asker.replies[TD__ASK_OUT__KIND_SENT], 0); /* nobody is there to hear it */
    assert_int_equal(worker_core_counters(c.rig.core)->exports_sent, 1);
    assert_int_equal(worker_core_counters(c.rig.core)->exports_stopped, 0);
    rig_close(&c.rig);
}

/* It does not want what is on its way: its transfer core refuses that, which ends ours. */
static void an_asker_that_leaves_and_refuses_the_rest_is_stopped(void **unused)
{
    struct export_case c;
    struct before before;

    (void)unused;
    export_enter(&c, EXPORT_FINISHING);
    before = look(&c.rig);
    export_event(&c, EXPORT_ON_ASKER_LOST);
    export_event(&c, EXPORT_ON_FAILED);
    assert_int_equal(kvt_since(&c.rig, &before, KVT_STOP), 1);
    assert_int_equal(worker_core_counters(c.rig.core)->exports_stopped, 1);
    export_event(&c, EXPORT_ON_CUT);
    expect_release(&c.rig, &before, false);
    rig_close(&c.rig);
}

/* -------------------------------------------------------------------------------------- requests */

struct request_case {
    struct rig rig;
    struct rig_stream router;
    struct rig_stream again; /* a second link of the same router */
    uint64_t sequence;
};

static void request_event(struct request_case *c, enum request_event event)
{
    struct rig *rig = &c->rig;
    struct worker_request *request = rig_request(rig, ID);

    switch (event) {
    case REQUEST_ON_COMPLETE: rig_tokens(rig, &c->router, ID, 0, TOKENS); break;
    case REQUEST_ON_REFUSE: rig_tokens(rig, &c->router, ID, 1, 1); break;
    case REQUEST_ON_LINK_LOST: worker_link_closed(request->link, rig->now_ns); break;
    case REQUEST_ON_ATTACH: rig_attach(rig, &c->again, ID, 0); break;
    case REQUEST_ON_CANCEL: rig_cancel(rig, &c->again, ID); break;
    case REQUEST_ON_FINISHED: rig_finished(rig, c->sequence, ENGINE_FINISH_LENGTH, TD_OK, 0); break;
    case REQUEST_ON_ACKNOWLEDGED: rig_ended(rig, &c->again, ID); break;
    case REQUEST_ON_TIMEOUT:
        rig->now_ns = request->timer.at_ns;
        worker_core_tick(rig->core, rig->now_ns);
        break;
    case REQUEST_EVENT_COUNT: break;
    }
}

static void request_enter(struct request_case *c, enum request_state state)
{
    struct worker_request *request;

    rig_open(&c->rig, TD__ROLE__ROLE_DECODE);
    rig_link(&c->rig, &c->router);
    rig_link(&c->rig, &c->again);
    rig_start(&c->rig, &c->router, ID, TOKENS, 0);
    request = rig_request(&c->rig, ID);
    if (state != REQUEST_COLLECTING)
        request_event(c, REQUEST_ON_COMPLETE);
    c->sequence = request->sequence;
    if (state == REQUEST_DETACHED)
        request_event(c, REQUEST_ON_LINK_LOST);
    if (state == REQUEST_CANCELING)
        request_event(c, REQUEST_ON_CANCEL);
    if (state == REQUEST_ENDED)
        request_event(c, REQUEST_ON_FINISHED);
    assert_int_equal(request->state, state);
}

static bool notice_is(struct request_case *c, struct rig_stream *stream, Td__Finish finish)
{
    Td__Update update;

    return rig_update(&c->rig, stream, &update) && update.finish == finish &&
           update.request_lo == ID;
}

static void expect_request_action(struct request_case *c, uint8_t action,
                                  const struct before *before)
{
    struct rig *rig = &c->rig;
    struct worker_request *request = rig_request(rig, ID);

    switch (action) {
    case REQUEST_DO_SUBMIT:
        assert_int_equal(engine_since(rig, before, ENGINE_SUBMIT), 1);
        assert_int_equal(rig_last_engine(rig)->submit.token_count, TOKENS);
        break;
    case REQUEST_DO_REJECT:
        assert_true(notice_is(c, &c->router, TD__FINISH__FINISH_REFUSED));
        break;
    case REQUEST_DO_DISCARD: expect_silence(rig, before); break;
    case REQUEST_DO_DETACH:
    case REQUEST_DO_UNLINK: assert_null(request->link); break;
    case REQUEST_DO_RELINK: assert_ptr_equal(request->link, c->again.link); break;
    case REQUEST_DO_CANCEL: assert_int_equal(engine_since(rig, before, ENGINE_CANCEL), 1); break;
    case REQUEST_DO_EXPIRE:
        assert_int_equal(engine_since(rig, before, ENGINE_CANCEL), 1);
        assert_int_equal(request->result.status, TD_TIMEOUT);
        break;
    case REQUEST_DO_END: assert_int_equal(request->sequence, 0); break;
    case REQUEST_DO_FREE: expect_silence(rig, before); break;
    default: fail_msg("an action without a test");
    }
}

static void every_cell_of_request(void **unused)
{
    (void)unused;
    for (uint8_t state = 0; state < REQUEST_GONE; state++) {
        for (uint8_t event = 0; event < REQUEST_EVENT_COUNT; event++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&request_fsm, state, event);
            struct request_case c;
            struct before before;
            struct worker_request *request;

            if (cell->action == TD_FSM_BUG)
                continue;
            request_enter(&c, (enum request_state)state);
            before = look(&c.rig);
            request_event(&c, (enum request_event)event);
            request = rig_request(&c.rig, ID);
            if (request != NULL ? request->state != cell->next : cell->next != REQUEST_GONE)
                fail_msg("%s x %s", request_fsm.states[state].name, request_fsm.events[event].name);
            if (cell->action == TD_FSM_IGNORE)
                expect_silence(&c.rig, &before);
            else
                expect_request_action(&c, cell->action, &before);
            rig_close(&c.rig);
        }
    }
}

/* ----------------------------------------------------------------------------------------- pairs */

struct pair_case {
    struct rig rig;
    struct rig_stream router;
};

static struct worker_pair *pair_of(const struct pair_case *c)
{
    struct td_list *node = td_list_first(&c->rig.core->pairs);

    return node != NULL ? td_container_of(node, struct worker_pair, node) : NULL;
}

static void refuse_pair(Td__PairReply *reply)
{
    reply->refused = true;
    reply->reason = (char *)(uintptr_t) "other weights";
}

static void pair_event(struct pair_case *c, enum pair_event event)
{
    struct rig *rig = &c->rig;

    switch (event) {
    case PAIR_ON_REPLIED: rig_pair_reply(rig, NULL); break;
    case PAIR_ON_REFUSED: rig_pair_reply(rig, refuse_pair); break;
    case PAIR_ON_CALL_FAILED: rig_pair_failed(rig); break;
    case PAIR_ON_PEER_UP: rig_peer(rig, KVT_PEER_UP, RIG_PEER); break;
    case PAIR_ON_PEER_LOST: rig_peer(rig, KVT_PEER_LOST, RIG_PEER); break;
    case PAIR_ON_PEER_LOST_MORE: /* we have another transport, too */
        rig_second_transport(rig);
        rig_peer(rig, KVT_PEER_LOST, RIG_PEER);
        break;
    case PAIR_ON_DROP: pair_stale(rig->core, "p0", pair_of(c)->epoch); break;
    case PAIR_ON_TIMEOUT:
        rig->now_ns = pair_of(c)->timer.at_ns;
        worker_core_tick(rig->core, rig->now_ns);
        break;
    case PAIR_EVENT_COUNT: break;
    }
}

static void pair_enter(struct pair_case *c, enum pair_state state)
{
    struct rig *rig = &c->rig;

    rig_open(rig, TD__ROLE__ROLE_DECODE);
    rig_link(rig, &c->router);
    rig_start(rig, &c->router, ID, TOKENS, 1);
    rig_tokens(rig, &c->router, ID, 0, TOKENS);
    rig_reserved(rig, rig_request(rig, ID)->sequence, BLOCKS, 0);
    if (state == PAIR_JOINING || state == PAIR_UP || state == PAIR_FAILED)
        pair_event(c, PAIR_ON_REPLIED);
    if (state == PAIR_UP)
        pair_event(c, PAIR_ON_PEER_UP);
    if (state == PAIR_FAILED) /* the peer is known to the transfers still */
        pair_event(c, PAIR_ON_TIMEOUT);
    assert_int_equal(pair_of(c)->state, state);
}

/* News of a peer come only while the transfer core was told of it. */
static bool can_come(const struct pair_case *c, uint8_t event)
{
    return (event != PAIR_ON_PEER_UP && event != PAIR_ON_PEER_LOST &&
            event != PAIR_ON_PEER_LOST_MORE) ||
           !td_list_empty(&c->rig.core->peers);
}

static void expect_pair_action(const struct pair_case *c, uint8_t action,
                               const struct before *before)
{
    const struct rig *rig = &c->rig;
    const struct worker_import *import = &rig_request(rig, ID)->import;

    switch (action) {
    case PAIR_DO_JOIN: assert_int_equal(kvt_since(rig, before, KVT_PEER_ADD), 1); break;
    case PAIR_DO_RECALL:
        assert_int_equal(rig->pair_calls, before->pair_calls + 1);
        assert_true(import->active);
        break;
    case PAIR_DO_WAKE: assert_int_equal(rig->asks, before->asks + 1); break;
    case PAIR_DO_FAIL:
        assert_false(import->active);
        expect_release(rig, before, false);
        break;
    case PAIR_DO_LEAVE:
        assert_false(import->active);
        assert_int_equal(kvt_since(rig, before, KVT_PEER_DROP), 1);
        break;
    case PAIR_DO_FREE: assert_null(pair_of(c)); break;
    case PAIR_DO_LEAVE_FREE:
        assert_null(pair_of(c));
        assert_int_equal(kvt_since(rig, before, KVT_PEER_DROP), 1);
        break;
    default: fail_msg("an action without a test");
    }
}

static void every_cell_of_pair(void **unused)
{
    (void)unused;
    for (uint8_t state = 0; state < PAIR_GONE; state++) {
        for (uint8_t event = 0; event < PAIR_EVENT_COUNT; event++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&pair_fsm, state, event);
            struct pair_case c;
            struct before before;
            const struct worker_pair *pair;

            if (cell->action == TD_FSM_BUG)
                continue;
            pair_enter(&c, (enum pair_state)state);
            before = look(&c.rig);
            if (can_come(&c, event)) {
                pair_event(&c, (enum pair_event)event);
                pair = pair_of(&c);
                if (pair != NULL ? pair->state != cell->next : cell->next != PAIR_GONE)
                    fail_msg("%s x %s", pair_fsm.states[state].name, pair_fsm.events[event].name);
                if (cell->action == TD_FSM_IGNORE)
                    expect_silence(&c.rig, &before);
                else
                    expect_pair_action(&c, cell->action, &before);
            }
            rig_close(&c.rig);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_are_complete),
        cmocka_unit_test(every_cell_of_import),
        cmocka_unit_test(every_cell_of_export),
        cmocka_unit_test(an_asker_that_has_everything_and_leaves_first_was_served),
        cmocka_unit_test(an_asker_that_leaves_and_refuses_the_rest_is_stopped),
        cmocka_unit_test(every_cell_of_request),
        cmocka_unit_test(every_cell_of_pair),
    };

    td_log_set_level(TD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
