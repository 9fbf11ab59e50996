/*
 * test_core_random.c: thousands of random histories of a core with a small pool.
 *
 * A worker that keeps to the protocol (and now and then says something senseless) submits, cancels, asks,
 * lands, releases and quarantines at random, between steps and while a batch flies; the backend
 * fails now and then; deadlines pass. The rig checks every event. At the end of each history
 * everything is over exactly once, right, and given back.
 *
 * The program is linked with --wrap=td_fsm_step, so that it also knows which cells of the state table
 * these histories went through: all that can be reached without running out of memory.
 */
#include "tests/engine/rig.h"

#include <stdlib.h>
#include <string.h>

#include "engine/sequence.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

#define HISTORIES       3000
#define ROUNDS          260
#define SEQUENCES       40
#define QUARANTINES_MAX 2
#define CONTEXT         44
#define LETTERS         3

/* ---- the cells that were visited ---- */

static uint64_t visits[SEQUENCE_STATE_COUNT][SEQUENCE_EVENT_COUNT];

uint8_t __real_td_fsm_step(const struct td_fsm *fsm, uint8_t *state, uint8_t event);
uint8_t __wrap_td_fsm_step(const struct td_fsm *fsm, uint8_t *state, uint8_t event);

uint8_t __wrap_td_fsm_step(const struct td_fsm *fsm, uint8_t *state, uint8_t event)
{
    if (fsm == &sequence_fsm)
        visits[*state][event]++;
    return __real_td_fsm_step(fsm, state, event);
}

/* ---- the worker ---- */

struct agent {
    bool asked;
    bool canceled;
    bool released; /* RELEASE or LANDED was sent, or nothing is lent any more */
    bool quarantined;
    bool has_deadline;
};

struct history {
    struct rig rig;
    struct td_rng rng;
    struct agent agents[SEQUENCES + 1];
    uint64_t last;
    uint32_t context_max;
    uint32_t quarantines;
    bool failed;
};

static uint32_t below(struct history *history, uint32_t bound)
{
    return (uint32_t)td_rng_below(&history->rng, bound);
}

static bool chance(struct history *history, uint32_t percent)
{
    return below(history, 100) < percent;
}

static void open_history(struct history *history, uint64_t seed)
{
    struct rig_config config = {
        .model = {.vocab = 61,
                  .block_tokens = 4,
                  .max_context = CONTEXT,
                  .stop_ids = {7, 30},
                  .stop_id_count = 2},
    };

    memset(history->agents, 0, sizeof history->agents);
    history->last = 0;
    history->quarantines = 0;
    history->failed = false;
    td_rng_init(&history->rng, seed);
    config.model.weights = seed;
    config.block_count = 6 + below(history, 30);
    config.core.sequences_max = 1 + below(history, 5);
    config.core.step_rows = config.core.sequences_max + below(history, 12);
    config.core.waiting_max = 1 + below(history, 12);
    config.core.import_blocks_max = 1 + below(history, config.block_count);
    config.model.step_ns = below(history, 1000); /* how steps are cut changes no token */
    config.model.prefill_row_ns = below(history, 1000);
    config.model.decode_row_ns = below(history, 1000);
    config.core.step_target_ns = below(history, 4000);
    config.core.step_limit_ns = below(history, 8000);
    history->context_max = config.block_count * 4 < CONTEXT ? config.block_count * 4 : CONTEXT;
    rig_open(&history->rig, &config);
}

/* Prompts over few letters, each letter for a whole block, so that many share a prefix. */
static void submit(struct history *history)
{
    enum engine_goal goal = (enum engine_goal)below(history, 3);
    uint32_t count = 1 + below(history, history->context_max - 1);
    uint64_t id = ++history->last;
    uint32_t tokens[CONTEXT + 4];
    struct engine_submit request;

    for (uint32_t i = 0; i < count; i += 4)
        for (uint32_t t = 0, letter = below(history, LETTERS); t < 4; t++)
            tokens[i + t] = letter;
    if (chance(history, 40))
        tokens[count - 1] = 40 + below(history, 5);
    request = rig_request(goal, tokens, count, 1 + below(history, history->context_max - count));
    request.root_key.lo += below(history, 8) == 0;
    request.ignore_model_stops = chance(history, 50);
    if (chance(history, 60))
        request.sampling = (struct engine_sampling){.temperature = 0.9f,
                                                    .top_k = below(history, 30),
                                                    .top_p = 0.9f,
                                                    .min_p = chance(history, 20) ? 0.05f : 0,
                                                    .seed = td_rng_next(&history->rng),
                                                    .choice = below(history, 3)};
    if (chance(history, 30)) {
        request.sampling.repetition_penalty = chance(history, 50) ? 1.3f : 0;
        request.sampling.presence_penalty = chance(history, 50) ? 0.5f : 0;
        request.sampling.frequency_penalty = chance(history, 50) ? -0.25f : 0.75f;
    }
    for (uint32_t left = chance(history, 20) ? below(history, 5) : 0; left > 0; left--)
        rig_bias(&request, below(history, 50), (float)below(history, 9) - 4);
    if (chance(history, 25)) {
        request.deadline_ns = history->rig.now_ns + below(history, 20000);
        history->agents[id].has_deadline = true;
    }
    if (chance(history, 3))
        request.token_count = count = 0; /* refused */
    rig_submit(&history->rig, id, &request);
}

static void cancel(struct history *history, uint64_t id)
{
    rig_send(&history->rig, ENGINE_CANCEL, id);
    history->agents[id].canceled = true;
}

static void release(struct history *history, uint64_t id)
{
    bool quarantine = history->quarantines < QUARANTINES_MAX && chance(history, 3);

    if (history->rig.records[id].submit.goal == ENGINE_PREFILL)
        rig_check_shown(&history->rig, id); /* until here a peer may have read */
    rig_release(&history->rig, id, quarantine);
    history->agents[id].released = true;
    history->agents[id].quarantined = quarantine;
    history->quarantines += quarantine;
}

/* What a peer does as long as it may. */
static void scribble(struct history *history, uint64_t id)
{
    const struct rig_record *record = &history->rig.records[id];
    const struct engine_block *block = &record->import[below(history, record->import_count)];
    const struct engine_kv *kv = &history->rig.kv;

    kv->base[block->slot.index * kv->block_bytes + below(history, (uint32_t)kv->block_bytes)] ^=
        0xff;
}

static void act_on_import(struct history *history, uint64_t id)
{
    struct agent *agent = &history->agents[id];
    uint32_t dice = below(history, 100);

    if (agent->released)
        return;
    if (!history->rig.records[id].reserved) {
        if (dice < 4)
            cancel(history, id);
        else if (dice < 10)
            release(history, id);
        return;
    }
    if (!agent->asked) {
        if (agent->canceled)
            return;
        if (dice < 70) {
            rig_send(&history->rig, ENGINE_ASKED, id);
            agent->asked = true;
        } else if (dice < 80) {
            release(history, id);
        } else if (dice < 84) {
            rig_land(&history->rig, id);
            agent->released = true;
        } else if (dice < 90) {
            cancel(history, id);
        }
        return;
    }
    if (dice < 30) {
        rig_land(&history->rig, id);
        agent->released = true;
    } else if (dice < 45) {
        release(history, id);
    } else if (dice < 52) {
        cancel(history, id);
    } else if (dice < 56) {
        rig_send(&history->rig, ENGINE_ASKED, id); /* the next candidate */
    } else {
        scribble(history, id);
    }
}

static void act_on_prefill(struct history *history, uint64_t id)
{
    struct agent *agent = &history->agents[id];
    const struct rig_record *record = &history->rig.records[id];

    if (agent->released)
        return;
    rig_check_shown(&history->rig, id);
    if (record->prefilled || record->stopped || agent->canceled) {
        if (chance(history, 40))
            release(history, id);
        else if (chance(history, 10))
            cancel(history, id);
    } else if (chance(history, 6)) {
        cancel(history, id);
    } else if (chance(history, 3)) {
        release(history, id); /* implies the cancel */
        agent->canceled = true;
    }
}

static void act(struct history *history)
{
    uint64_t id = 1 + below(history, (uint32_t)history->last);
    const struct rig_record *record = &history->rig.records[id];

    if (record->finished)
        return;
    if (record->submit.goal == ENGINE_IMPORT)
        act_on_import(history, id);
    else if (record->submit.goal == ENGINE_PREFILL)
        act_on_prefill(history, id);
    else if (chance(history, 4))
        cancel(history, id);
}

/* Words that mean nothing for this sequence, or come after its end. */
static void talk_nonsense(struct history *history)
{
    static const enum engine_command_kind kinds[] = {ENGINE_ASKED, ENGINE_LANDED, ENGINE_RELEASE,
                                                     ENGINE_CANCEL};
    uint64_t id = 1 + below(history, (uint32_t)history->last);
    const struct rig_record *record = &history->rig.records[id];
    const struct agent *agent = &history->agents[id];
    enum engine_command_kind kind = kinds[below(history, 4)];

    if (record->finished) {
        rig_send(&history->rig, kind, id);
    } else if (record->submit.goal == ENGINE_GENERATE && kind != ENGINE_CANCEL) {
        if (kind == ENGINE_RELEASE)
            rig_release(&history->rig, id, chance(history, 50));
        else
            rig_send(&history->rig, kind, id);
    } else if (record->submit.goal == ENGINE_PREFILL && kind <= ENGINE_LANDED &&
               kind >= ENGINE_ASKED) {
        rig_send(&history->rig, kind, id);
    } else if (record->submit.goal == ENGINE_IMPORT && agent->released && !agent->canceled &&
               kind != ENGINE_CANCEL) {
        rig_send(&history->rig, kind, id); /* its import is over */
    }
}

static void drive(struct history *history)
{
    struct rig *rig = &history->rig;

    if (rig->flying == NULL) {
        rig_plan(rig);
    } else if (chance(history, 2)) {
        rig_fail(rig, TD_IO);
        history->failed = true;
    } else {
        rig_apply(rig);
    }
}

static void take_round(struct history *history)
{
    uint32_t dice = below(history, 100);

    if (dice < 12 && history->last < SEQUENCES)
        submit(history);
    else if (dice < 60)
        drive(history);
    else if (dice < 90 && history->last > 0)
        act(history);
    else if (dice < 94 && history->last > 0)
        talk_nonsense(history);
    else if (dice < 96)
        rig_check_cache(&history->rig);
    else
        rig_advance(&history->rig, below(history, 1500));
}

/* ---- the end of a history ---- */

static void end_all(struct history *history)
{
    struct rig *rig = &history->rig;

    for (uint64_t id = 1; id <= history->last; id++) {
        if (rig->records[id].finished)
            continue;
        if (!history->agents[id].canceled && chance(history, 50))
            continue; /* may go on to its own end */
        cancel(history, id);
    }
    for (uint32_t left = 1, guard = 0; left > 0; guard++) {
        assert_in_range(guard, 0, 10000);
        if (rig->flying != NULL)
            rig_apply(rig);
        rig_run(rig);
        left = 0;
        for (uint64_t id = 1; id <= history->last; id++) {
            struct rig_record *record = &rig->records[id];

            if (record->finished)
                continue;
            left++;
            if (!history->agents[id].released &&
                (record->submit.goal == ENGINE_PREFILL || record->reserved))
                release(history, id);
        }
    }
}

static void check_end(const struct history *history, uint64_t id)
{
    const struct rig_record *record = &history->rig.records[id];
    const struct agent *agent = &history->agents[id];
    td_status_t status = record->end.status;

    switch (record->end.reason) {
    case ENGINE_FINISH_STOP:
    case ENGINE_FINISH_LENGTH: assert_int_equal(status, TD_OK); break;
    case ENGINE_FINISH_CANCELED: assert_true(agent->canceled || agent->released); break;
    case ENGINE_FINISH_RELEASED:
        assert_true(record->prefilled && record->submit.goal == ENGINE_PREFILL);
        break;
    case ENGINE_FINISH_REFUSED:
        assert_true(status == TD_EXHAUSTED || status == TD_INVALID || status == TD_LIMIT);
        break;
    case ENGINE_FINISH_FAILED:
        assert_true((status == TD_TIMEOUT && agent->has_deadline) ||
                    (status == TD_IO && history->failed) ||
                    (status == TD_EXHAUSTED && history->quarantines > 0));
        break;
    }
}

static void close_history(struct history *history)
{
    struct rig *rig = &history->rig;
    struct engine_balance balance;

    end_all(history);
    for (uint64_t id = 1; id <= history->last; id++) {
        check_end(history, id);
        if (rig->records[id].submit.goal != ENGINE_PREFILL)
            rig_check_output(rig, id);
    }
    assert_int_equal(rig->finished_count, history->last);
    assert_int_equal(rig->load.content_conflicts, 0);
    rig_check_cache(rig);
    rig_plan(rig);
    balance = rig_balance(rig);
    assert_int_equal(balance.free + balance.cached + balance.quarantined, balance.total);
    assert_true(history->quarantines > 0 || balance.quarantined == 0);
    assert_int_equal(rig->load.running + rig->load.waiting + rig->load.waiting_tokens +
                         rig->load.prefilling_tokens,
                     0);
    assert_memory_equal(&rig->load.balance, &balance, sizeof balance);
    assert_true(engine_core_next_deadline(rig->core) == TD_TIME_NEVER);
    rig_close(rig);
}

static void every_history_ends_well(void **state)
{
    const char *only = getenv("TANDEM_TEST_SEED"); /* to look at one that does not */
    uint64_t first = only != NULL ? strtoull(only, NULL, 10) : 1;
    uint64_t end = only != NULL ? first + 1 : HISTORIES + 1;

    (void)state;
    for (uint64_t seed = first; seed < end; seed++) {
        struct history history;

        print_message("%s", seed % 500 == 0 ? "500 histories\n" : "");
        open_history(&history, seed);
        for (uint32_t round = 0; round < ROUNDS; round++)
            take_round(&history);
        close_history(&history);
    }
}

/* A simulator needs it, and so does whoever looks for a bug: the same calls give the same events. */
static void a_history_repeats_itself(void **state)
{
    struct history histories[2];

    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        for (int i = 0; i < 2; i++) {
            open_history(&histories[i], seed);
            for (uint32_t round = 0; round < ROUNDS; round++)
                take_round(&histories[i]);
        }
        assert_int_equal(histories[0].rig.now_ns, histories[1].rig.now_ns);
        assert_memory_equal(&histories[0].rig.load, &histories[1].rig.load,
                            sizeof histories[0].rig.load);
        assert_memory_equal(histories[0].rig.kv.base, histories[1].rig.kv.base,
                            histories[0].rig.kv.block_count * histories[0].rig.kv.block_bytes);
        for (int i = 0; i < 2; i++)
            rig_close(&histories[i].rig);
    }
}

/* Cells that only a lack of memory leads to (test_core_memory.c), or that the handler keeps away. */
static bool is_excepted(uint8_t from, uint8_t event)
{
    return from == SEQUENCE_DONE || (from == SEQUENCE_RESERVED && event == SEQUENCE_ON_FAIL) ||
           (from == SEQUENCE_HELD && event == SEQUENCE_ON_FAIL) ||
           (from == SEQUENCE_HELD && event == SEQUENCE_ON_LAND);
}

static void every_cell_was_visited(void **state)
{
    uint32_t missed = 0;

    (void)state;
    if (getenv("TANDEM_TEST_SEED") != NULL)
        skip();
    for (uint8_t from = 0; from < SEQUENCE_STATE_COUNT; from++) {
        for (uint8_t event = 0; event < SEQUENCE_EVENT_COUNT; event++) {
            if (td_fsm_cell(&sequence_fsm, from, event)->action == SEQUENCE_DO_BUG ||
                is_excepted(from, event) || visits[from][event] > 0)
                continue;
            print_message("never: %s in %s\n", sequence_fsm.events[event].name,
                          sequence_fsm.states[from].name);
            missed++;
        }
    }
    assert_int_equal(missed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_history_ends_well),
        cmocka_unit_test(a_history_repeats_itself),
        cmocka_unit_test(every_cell_was_visited),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
