/* test_core_lifecycle.c: one sequence at a time through the core: each goal, each end, each late word. */
#include "tests/engine/rig.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/block_key.h"
#include "lib/base/time.h"

static const struct rig_config small = {
    .model = {.weights = 5, .vocab = 97, .block_tokens = 4, .max_context = 64},
    .core = {.step_rows = 8, .sequences_max = 4, .waiting_max = 6},
    .block_count = 24,
};

static int setup(void **state)
{
    static struct rig rig;

    rig_open(&rig, &small);
    *state = &rig;
    return 0;
}

/* Whatever a test did: all blocks are free, cached or in quarantine, and the cache is as was told. */
static int teardown(void **state)
{
    struct rig *rig = *state;
    struct engine_balance balance;

    rig_run(rig);
    rig_check_cache(rig);
    balance = rig_balance(rig);
    assert_int_equal(balance.total, balance.free + balance.cached + balance.quarantined);
    assert_int_equal(rig->load.running + rig->load.waiting, 0);
    assert_memory_equal(&rig->load.balance, &balance,
                        sizeof balance); /* the last STEP says so too */
    rig_close(rig);
    return 0;
}

static uint64_t strays(const struct rig *rig)
{
    struct engine_load load;

    engine_core_load(rig->core, &load);
    return load.stray_commands;
}

/* ---- GENERATE ---- */

static void a_prompt_is_answered(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 3, 10, 9);
    rig_run(rig);
    rig_assert_finished(rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
    assert_int_equal(rig->records[1].output_count, 9);
    rig_check_output(rig, 1);
    assert_int_equal(rig->load.new_tokens, 9);
    assert_int_equal(rig->load.prompt_tokens, 10);
}

static void a_stop_id_ends_it_and_is_the_last_token(void **state)
{
    struct rig *rig = *state;
    struct engine_submit submit;
    uint32_t tokens[3] = {1, 2, 3};

    submit = rig_request(ENGINE_GENERATE, tokens, 3, 20);
    rig_submit(rig, 1, &submit);
    rig_run(rig);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 20);
    submit.stop_ids[0] = rig->records[1].output[4];
    submit.stop_id_count = 1;
    rig_submit(rig, 2, &submit);
    rig_run(rig);
    rig_assert_finished(rig, 2, ENGINE_FINISH_STOP, TD_OK);
    assert_int_equal(rig->records[2].output[rig->records[2].output_count - 1], submit.stop_ids[0]);
    rig_check_output(rig, 2);
}

static void sampling_with_a_seed_follows_the_oracle(void **state)
{
    struct rig *rig = *state;
    uint32_t tokens[7] = {9, 8, 7, 6, 5, 4, 3};

    for (uint64_t id = 1; id <= 10; id++) {
        struct engine_submit submit = rig_request(ENGINE_GENERATE, tokens, 7, 12);

        submit.sampling = (struct engine_sampling){.temperature = 1.2f,
                                                   .top_k = 20,
                                                   .top_p = 0.9f,
                                                   .seed = id,
                                                   .choice = (uint32_t)id % 3};
        rig_submit(rig, id, &submit);
        if (id % 2 == 0)
            rig_run(rig);
    }
    rig_run(rig);
    for (uint64_t id = 1; id <= 10; id++) {
        rig_assert_finished(rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(rig, id);
    }
    assert_memory_not_equal(rig->records[1].output, rig->records[2].output, 12 * 4);
}

static void what_is_biased_away_never_comes(void **state)
{
    struct rig *rig = *state;
    uint32_t tokens[3] = {1, 2, 3};
    struct engine_submit submit = rig_request(ENGINE_GENERATE, tokens, 3, 20);
    uint32_t first;

    rig_submit(rig, 1, &submit);
    rig_run(rig);
    first = rig->records[1].output[0];
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 20);
    rig_bias(&submit, first, -100);
    rig_submit(rig, 2, &submit);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 20);
    rig_bias(&submit, 5, 100);
    submit.ignore_model_stops = true;
    rig_submit(rig, 3, &submit);
    rig_run(rig);
    for (uint32_t i = 0; i < rig->records[2].output_count; i++)
        assert_int_not_equal(rig->records[2].output[i], first);
    for (uint32_t i = 0; i < 20; i++)
        assert_int_equal(rig->records[3].output[i], 5);
    rig_check_output(rig, 2);
    rig_check_output(rig, 3);
}

static void the_times_add_up(void **state)
{
    struct rig *rig = *state;
    const struct engine_finished *end = &rig->records[1].end;

    rig_start(rig, 1, ENGINE_GENERATE, 3, 20, 4); /* 3 chunks of 8 rows, then 3 more steps */
    rig->now_ns += 500;
    rig_run(rig);
    assert_int_equal(end->queue_ns, 500);
    assert_int_equal(end->prefill_ns, 3000);
    assert_int_equal(end->first_token_ns, 0);
    assert_int_equal(end->decode_ns, 3000);
}

/* ---- refusals ---- */

static void assert_refused(struct rig *rig, uint64_t id, const struct engine_submit *submit,
                           td_status_t status)
{
    rig_submit(rig, id, submit);
    rig_assert_finished(rig, id, ENGINE_FINISH_REFUSED, status);
}

static void malformed_submits_are_refused_at_once(void **state)
{
    struct rig *rig = *state;
    uint32_t tokens[4] = {1, 2, 3, 97};
    struct engine_submit submit = rig_request(ENGINE_GENERATE, tokens, 4, 1);

    assert_refused(rig, 1, &submit, TD_INVALID); /* 97 is beyond the vocabulary */
    submit = rig_request(ENGINE_GENERATE, tokens, 0, 1);
    assert_refused(rig, 2, &submit, TD_INVALID);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 0);
    assert_refused(rig, 3, &submit, TD_INVALID);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 1);
    submit.sampling.top_p = 0.0f;
    assert_refused(rig, 4, &submit, TD_INVALID);
    submit = rig_request(ENGINE_IMPORT, tokens, 3, 1);
    submit.stop_id_count = ENGINE_STOP_IDS_MAX + 1;
    assert_refused(rig, 5, &submit, TD_INVALID);
    submit = rig_request((enum engine_goal)7, tokens, 3, 1);
    assert_refused(rig, 6, &submit, TD_INVALID);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 1);
    rig_bias(&submit, 97, 1.0f); /* beyond the vocabulary, as above */
    assert_refused(rig, 7, &submit, TD_INVALID);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 1);
    rig_bias(&submit, 5, NAN);
    assert_refused(rig, 8, &submit, TD_INVALID);
    submit = rig_request(ENGINE_GENERATE, tokens, 3, 1);
    for (uint32_t i = 0; i <= ENGINE_BIASES_MAX; i++)
        rig_bias(&submit, 5, 0.0f);
    assert_refused(rig, 9, &submit, TD_INVALID);
}

static void a_prompt_beyond_the_context_is_refused_and_a_long_answer_is_cut(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 1, 65, 1);
    rig_assert_finished(rig, 1, ENGINE_FINISH_REFUSED, TD_LIMIT);
    rig_start(rig, 2, ENGINE_GENERATE, 1, 64, 1);
    rig_assert_finished(rig, 2, ENGINE_FINISH_REFUSED, TD_LIMIT);
    rig_start(rig, 3, ENGINE_PREFILL, 1, 64, 0);
    assert_false(rig->records[3].finished);
    rig_send(rig, ENGINE_CANCEL, 3);
    rig_start(rig, 4, ENGINE_GENERATE, 1, 60, UINT32_MAX);
    rig_run(rig);
    rig_assert_finished(rig, 4, ENGINE_FINISH_LENGTH, TD_OK);
    assert_int_equal(rig->records[4].output_count, 4);
}

static void a_pool_smaller_than_the_context_is_the_limit(void **state)
{
    struct rig_config config = small;
    struct rig tiny;

    (void)state;
    config.block_count = 5; /* 20 tokens */
    rig_open(&tiny, &config);
    rig_start(&tiny, 1, ENGINE_GENERATE, 1, 20, 1);
    rig_assert_finished(&tiny, 1, ENGINE_FINISH_REFUSED, TD_LIMIT);
    rig_start(&tiny, 2, ENGINE_GENERATE, 1, 17, 100);
    rig_run(&tiny);
    rig_assert_finished(&tiny, 2, ENGINE_FINISH_LENGTH, TD_OK);
    assert_int_equal(tiny.records[2].output_count, 3);
    rig_close(&tiny);
}

static void a_full_queue_refuses(void **state)
{
    struct rig *rig = *state;

    for (uint64_t id = 1; id <= 7; id++)
        rig_start(rig, id, ENGINE_GENERATE, (uint32_t)id, 5, 3);
    rig_assert_finished(rig, 7, ENGINE_FINISH_REFUSED, TD_EXHAUSTED);
    rig_run(rig);
    for (uint64_t id = 1; id <= 6; id++)
        rig_check_output(rig, id);
}

/* ---- ends in every state ---- */

static void a_cancel_ends_what_waits_at_once(void **state)
{
    struct rig *rig = *state;

    for (int goal = ENGINE_GENERATE; goal <= ENGINE_PREFILL; goal++) {
        uint64_t id = (uint64_t)goal + 1;

        rig_start(rig, id, (enum engine_goal)goal, 1, 5, 3);
        rig_send(rig, ENGINE_CANCEL, id);
        rig_assert_finished(rig, id, ENGINE_FINISH_CANCELED, TD_OK);
        rig_send(rig, ENGINE_CANCEL, id); /* harmless */
    }
    assert_int_equal(strays(rig), 3);
}

static void a_cancel_between_steps_ends_at_once(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 1, 20, 9);
    rig_step(rig); /* the first chunk */
    rig_send(rig, ENGINE_CANCEL, 1);
    rig_assert_finished(rig, 1, ENGINE_FINISH_CANCELED, TD_OK);
    rig_start(rig, 2, ENGINE_GENERATE, 2, 5, 9);
    rig_step(rig);
    rig_step(rig);
    rig_send(rig, ENGINE_CANCEL, 2);
    rig_assert_finished(rig, 2, ENGINE_FINISH_CANCELED, TD_OK);
    assert_int_equal(rig->records[2].output_count, 2);
}

static void blocks_of_a_flying_batch_are_not_given_back_before_it_lands(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 1, 8, 9);
    rig_plan(rig);
    rig_send(rig, ENGINE_CANCEL, 1);
    assert_false(rig->records[1].finished);
    assert_int_equal(rig_balance(rig).running, 2);
    rig_apply(rig);
    rig_assert_finished(rig, 1, ENGINE_FINISH_CANCELED, TD_OK);
    assert_int_equal(rig->records[1].output_count, 0);
    assert_int_equal(rig_balance(rig).cached, 2); /* computed all the same: the next one hits it */
    rig_start(rig, 2, ENGINE_GENERATE, 1, 9, 3);
    rig_run(rig);
    assert_int_equal(rig->records[2].end.cached_tokens, 8);
    rig_check_output(rig, 2);
}

static void start_with_deadline(struct rig *rig, uint64_t id, enum engine_goal goal,
                                uint64_t after_ns)
{
    uint32_t tokens[10] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    struct engine_submit submit = rig_request(goal, tokens, 10, 20);

    submit.deadline_ns = rig->now_ns + after_ns;
    rig_submit(rig, id, &submit);
}

static void a_deadline_ends_waiting_computing_and_decoding(void **state)
{
    struct rig *rig = *state;

    start_with_deadline(rig, 1, ENGINE_GENERATE, 10);
    assert_int_equal(engine_core_next_deadline(rig->core), rig->now_ns + 10);
    rig_advance(rig, 9);
    assert_false(rig->records[1].finished);
    rig_advance(rig, 1);
    rig_assert_finished(rig, 1, ENGINE_FINISH_FAILED, TD_TIMEOUT);
    start_with_deadline(rig, 2, ENGINE_GENERATE, 1500);
    rig_step(rig); /* a chunk, 1,000 ns */
    rig_plan(rig);
    rig_advance(rig, 1000);
    assert_false(rig->records[2].finished); /* it flies */
    rig_apply(rig);
    rig_assert_finished(rig, 2, ENGINE_FINISH_FAILED, TD_TIMEOUT);
    start_with_deadline(rig, 3, ENGINE_GENERATE, 3500);
    while (rig->records[3].output_count < 2)
        rig_step(rig);
    rig_advance(rig, 10000);
    rig_assert_finished(rig, 3, ENGINE_FINISH_FAILED, TD_TIMEOUT);
    assert_int_equal(engine_core_next_deadline(rig->core), TD_TIME_NEVER);
}

static void a_failing_backend_ends_the_batch_and_leaves_nothing_in_the_cache(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 1, 6, 9);
    rig_start(rig, 2, ENGINE_GENERATE, 2, 6, 9);
    rig_start(rig, 3, ENGINE_GENERATE, 3, 9, 9); /* has no rows in the first batch */
    rig_plan(rig);
    rig_fail(rig, TD_IO);
    rig_assert_finished(rig, 1, ENGINE_FINISH_FAILED, TD_IO);
    rig_assert_finished(rig, 2, ENGINE_FINISH_FAILED, TD_IO);
    assert_false(rig->records[3].finished);
    assert_int_equal(rig_balance(rig).cached, 0);
    rig_run(rig);
    rig_check_output(rig, 3);
    rig_start(rig, 4, ENGINE_GENERATE, 1, 6, 9);
    rig_run(rig);
    assert_int_equal(rig->records[4].end.cached_tokens, 0);
    rig_check_output(rig, 4);
}

/* ---- IMPORT ---- */

static void reserve(struct rig *rig, uint64_t id, uint32_t seed, uint32_t count)
{
    rig_start(rig, id, ENGINE_IMPORT, seed, count, 6);
    assert_false(rig_step(rig));
    assert_true(rig->records[id].reserved);
}

static void an_import_decodes_from_the_landed_state(void **state)
{
    struct rig *rig = *state;
    struct td_u128 keys[3];
    const struct rig_record *record = &rig->records[1];

    reserve(rig, 1, 4, 11);
    assert_int_equal(rig_balance(rig).reserved, 3);
    assert_int_equal(record->import_count, 3);
    td_block_keys(record->submit.root_key, record->submit.tokens, 11, 4, keys);
    for (uint32_t i = 0; i < 3; i++) {
        assert_true(td_u128_equal(record->import[i].key, keys[i]));
        assert_int_equal(record->import[i].tokens, i < 2 ? 4 : 3);
    }
    rig_send(rig, ENGINE_ASKED, 1);
    assert_int_equal(rig_balance(rig).landing, 3);
    rig_land(rig, 1);
    assert_int_equal(rig_balance(rig).running, 3);
    rig_run(rig);
    rig_assert_finished(rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
    rig_check_output(rig, 1);
    assert_int_equal(record->end.prefill_ns, 0);
    assert_int_equal(rig->load.prompt_tokens, 0);
    rig_start(rig, 2, ENGINE_GENERATE, 4, 11, 6); /* what landed can be hit */
    rig_run(rig);
    assert_int_equal(rig->records[2].end.cached_tokens, 8);
    rig_check_output(rig, 2);
}

static void only_what_is_not_cached_is_imported(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 4, 9, 1);
    rig_run(rig);
    reserve(rig, 2, 4, 15);
    assert_int_equal(rig->records[2].cached_blocks, 2);
    assert_int_equal(rig->records[2].import_count, 2);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_land(rig, 2);
    rig_run(rig);
    rig_check_output(rig, 2);
    assert_int_equal(rig->records[2].end.cached_tokens, 8);
}

static void an_import_that_will_not_come_is_computed_here(void **state)
{
    struct rig *rig = *state;

    reserve(rig, 1, 4, 11);
    reserve(rig, 2, 5, 11);
    rig_release(rig, 1, false); /* nobody was asked */
    rig_send(rig, ENGINE_ASKED, 2);
    rig_send(rig, ENGINE_ASKED, 2); /* the next candidate */
    rig_release(rig, 2, false);
    assert_int_equal(rig_balance(rig).landing, 0);
    rig_run(rig);
    for (uint64_t id = 1; id <= 2; id++) {
        rig_assert_finished(rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(rig, id);
    }
}

static void an_import_that_is_still_waiting_can_be_made_a_local_one(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_IMPORT, 4, 11, 6);
    rig_release(rig, 1, false);
    rig_run(rig);
    assert_false(rig->records[1].reserved);
    rig_assert_finished(rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
    rig_check_output(rig, 1);
}

static void quarantined_blocks_of_an_import_are_replaced(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_GENERATE, 4, 4, 1);
    rig_run(rig);
    reserve(rig, 2, 4, 11);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_release(rig, 2, true);
    assert_int_equal(rig_balance(rig).quarantined, 2); /* not the cached block before them */
    rig_run(rig);
    rig_assert_finished(rig, 2, ENGINE_FINISH_LENGTH, TD_OK);
    rig_check_output(rig, 2);
    reserve(rig, 3, 6, 5);
    rig_release(rig, 3, true); /* strange but legal: nobody was asked */
    assert_int_equal(rig_balance(rig).quarantined, 4);
    rig_run(rig);
    rig_check_output(rig, 3);
}

static void a_canceled_import_waits_for_its_release(void **state)
{
    struct rig *rig = *state;

    reserve(rig, 1, 1, 11);
    rig_send(rig, ENGINE_CANCEL, 1); /* nobody was asked */
    rig_assert_finished(rig, 1, ENGINE_FINISH_CANCELED, TD_OK);
    for (uint64_t id = 2; id <= 4; id++) {
        reserve(rig, id, (uint32_t)id, 7);
        rig_send(rig, ENGINE_ASKED, id);
        rig_send(rig, ENGINE_CANCEL, id);
        rig_send(rig, ENGINE_CANCEL, id);
        rig_send(rig, ENGINE_ASKED, id);
        assert_false(rig->records[id].finished);
        assert_int_equal(rig_balance(rig).landing, 2);
        if (id == 2)
            rig_release(rig, id, false);
        else if (id == 3)
            rig_land(rig, id); /* too late to be wanted, but nobody writes any more */
        else
            rig_release(rig, id, true);
        rig_assert_finished(rig, id, ENGINE_FINISH_CANCELED, TD_OK);
    }
    assert_int_equal(rig_balance(rig).quarantined, 2);
}

static void the_deadline_of_an_import_is_silent_while_a_peer_may_write(void **state)
{
    struct rig *rig = *state;

    for (uint64_t id = 1; id <= 3; id++) {
        start_with_deadline(rig, id, ENGINE_IMPORT, 100);
        rig_step(rig);
        if (id > 1)
            rig_send(rig, ENGINE_ASKED, id);
        rig_advance(rig, 1000);
        assert_false(rig->records[id].finished);
        if (id == 2)
            rig_land(rig, id);
        else
            rig_release(rig, id, false);
        assert_true(engine_core_next_deadline(rig->core) < rig->now_ns);
        rig_advance(rig, 0); /* now it speaks */
        rig_assert_finished(rig, id, ENGINE_FINISH_FAILED, TD_TIMEOUT);
    }
    start_with_deadline(rig, 4, ENGINE_IMPORT, 100);
    rig_step(rig);
    rig_send(rig, ENGINE_ASKED, 4);
    rig_advance(rig, 1000);
    rig_release(rig, 4, true);
    rig_advance(rig, 0);
    rig_assert_finished(rig, 4, ENGINE_FINISH_FAILED, TD_TIMEOUT);
}

static void what_landed_but_does_not_fit_is_computed_here(void **state)
{
    struct rig *rig = *state;

    for (uint64_t id = 1; id <= 4; id++) {
        struct engine_command command = {.kind = ENGINE_LANDED, .sequence = id};

        reserve(rig, id, (uint32_t)id, 7);
        rig_send(rig, ENGINE_ASKED, id);
        command.landed.hidden = id == 3 ? NULL : calloc(9, sizeof(float));
        command.landed.hidden_count = id == 1 ? 9 : RIG_HIDDEN;
        command.landed.hashes = id == 4 ? NULL : calloc(3, sizeof(struct td_u128));
        command.landed.hash_count = id == 2 ? 3 : 2;
        engine_core_command(rig->core, &command, rig->now_ns);
        assert_int_equal(strays(rig), id);
        rig_run(rig);
        rig_assert_finished(rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(rig, id);
    }
}

/* ---- PREFILL ---- */

static void a_prefill_shows_its_blocks_chunk_by_chunk_and_holds_them(void **state)
{
    struct rig *rig = *state;
    struct rig_record *record = &rig->records[1];
    uint8_t kv[RIG_BLOCKS_MAX * 4 * 64];
    float hidden[RIG_HIDDEN];

    rig_start(rig, 1, ENGINE_PREFILL, 2, 22, 0);
    rig_step(rig);
    assert_int_equal(record->shown_count, 2);
    rig_step(rig);
    assert_int_equal(record->shown_count, 4);
    assert_false(record->prefilled);
    rig_step(rig);
    assert_true(record->prefilled);
    assert_int_equal(record->shown_count, 6);
    assert_int_equal(record->tail_tokens, 2);
    assert_int_equal(rig_balance(rig).held, 6);
    assert_false(rig_step(rig));
    rig_compute(rig, record->submit.tokens, 22, kv, hidden);
    for (uint32_t i = 0; i < 6; i++) /* zeros behind the tail too */
        assert_memory_equal(rig->kv.base + record->shown[i].slot.index * rig->kv.block_bytes,
                            kv + i * rig->kv.block_bytes, rig->kv.block_bytes);
    assert_memory_equal(hidden, record->hidden, sizeof hidden);
    rig_check_shown(rig, 1);
    rig_release(rig, 1, false);
    rig_assert_finished(rig, 1, ENGINE_FINISH_RELEASED, TD_OK);
    assert_int_equal(rig_balance(rig).cached, 5);
}

static void a_prefill_on_a_block_boundary_has_no_tail(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_PREFILL, 2, 8, 0);
    rig_run(rig);
    assert_true(rig->records[1].prefilled);
    assert_int_equal(rig->records[1].tail_tokens, 0);
    assert_int_equal(rig->records[1].shown_count, 2);
    rig_release(rig, 1, false);
    rig_start(rig, 2, ENGINE_PREFILL, 2, 8, 0); /* all cached: the last block is computed again */
    rig_plan(rig);
    assert_int_equal(rig->records[2].shown_count, 1); /* at once */
    rig_apply(rig);
    assert_int_equal(rig->records[2].shown_count, 2);
    assert_int_equal(rig->records[2].shown[1].slot.index, rig->records[1].shown[1].slot.index);
    assert_memory_equal(rig->records[1].hidden, rig->records[2].hidden,
                        sizeof rig->records[1].hidden);
    assert_int_equal(rig_balance(rig).held, 2);
    rig_release(rig, 2, false);
    assert_int_equal(rig_balance(rig).cached, 2);
}

static void a_canceled_prefill_waits_for_its_release(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_PREFILL, 2, 22, 0);
    rig_step(rig);
    rig_send(rig, ENGINE_CANCEL, 1);
    assert_false(rig->records[1].finished);
    assert_false(rig->records[1].stopped); /* the worker knows */
    assert_int_equal(rig_balance(rig).held, 6);
    assert_false(rig_step(rig));
    rig_check_shown(rig, 1);
    rig_release(rig, 1, false);
    rig_assert_finished(rig, 1, ENGINE_FINISH_CANCELED, TD_OK);
    rig_start(rig, 2, ENGINE_PREFILL, 3, 5, 0); /* after it is complete */
    rig_run(rig);
    rig_send(rig, ENGINE_CANCEL, 2);
    assert_int_equal(rig_balance(rig).held, 2);
    rig_release(rig, 2, false);
    rig_assert_finished(rig, 2, ENGINE_FINISH_CANCELED, TD_OK);
}

static void a_prefill_released_in_flight_ends_when_the_batch_lands(void **state)
{
    struct rig *rig = *state;

    for (uint64_t id = 1; id <= 2; id++) {
        rig_start(rig, id, ENGINE_PREFILL, (uint32_t)id, 12, 0);
        rig_plan(rig);
        rig_release(rig, id, id == 2); /* implies the cancel */
        assert_false(rig->records[id].finished);
        rig_apply(rig);
        rig_assert_finished(rig, id, ENGINE_FINISH_CANCELED, TD_OK);
        assert_false(rig->records[id].prefilled);
    }
    assert_int_equal(rig_balance(rig).quarantined, 3);
    rig_start(rig, 3, ENGINE_PREFILL, 9, 12, 0);
    rig_release(rig, 3, false); /* while it waits */
    rig_assert_finished(rig, 3, ENGINE_FINISH_CANCELED, TD_OK);
}

static void a_prefill_whose_deadline_passes_says_so_and_waits(void **state)
{
    struct rig *rig = *state;

    start_with_deadline(rig, 1, ENGINE_PREFILL, 1200);
    rig_step(rig);
    rig_plan(rig);
    rig_advance(rig, 500);
    assert_true(rig->records[1].stopped);
    assert_int_equal(rig->records[1].stopped_status, TD_TIMEOUT);
    rig_apply(rig);
    assert_false(rig->records[1].finished);
    rig_check_shown(rig, 1);
    rig_release(rig, 1, false);
    rig_assert_finished(rig, 1, ENGINE_FINISH_FAILED, TD_TIMEOUT);
    start_with_deadline(rig, 2, ENGINE_PREFILL, 10000);
    rig_run(rig);
    rig_advance(rig, 20000); /* held: the lease decides */
    assert_false(rig->records[2].stopped || rig->records[2].finished);
    rig_release(rig, 2, false);
    rig_assert_finished(rig, 2, ENGINE_FINISH_RELEASED, TD_OK);
}

static void a_prefill_whose_backend_fails_says_so_and_waits(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_PREFILL, 2, 22, 0);
    rig_step(rig);
    rig_plan(rig);
    rig_fail(rig, TD_IO);
    assert_true(rig->records[1].stopped);
    assert_int_equal(rig->records[1].stopped_status, TD_IO);
    rig_check_shown(rig, 1); /* what was computed before is as it was */
    rig_send(rig, ENGINE_CANCEL, 1);
    rig_release(rig, 1, false);
    rig_assert_finished(rig, 1, ENGINE_FINISH_FAILED, TD_IO);
}

static void a_quarantined_source_ends_the_prefill_and_keeps_the_blocks(void **state)
{
    struct rig *rig = *state;

    rig_start(rig, 1, ENGINE_PREFILL, 2, 10, 0);
    rig_run(rig);
    rig_release(rig, 1, true);
    rig_assert_finished(rig, 1, ENGINE_FINISH_RELEASED, TD_OK);
    assert_int_equal(rig_balance(rig).quarantined, 3);
    rig_check_shown(rig, 1);
    rig_start(rig, 2, ENGINE_GENERATE, 2, 10, 6); /* a quarantined source can still be hit */
    rig_run(rig);
    assert_int_equal(rig->records[2].end.cached_tokens, 8);
    rig_check_output(rig, 2);
    rig_check_shown(rig, 1);
}

/* ---- words that come too late or make no sense ---- */

static void late_and_senseless_commands_are_counted_and_harmless(void **state)
{
    struct rig *rig = *state;
    static const enum engine_command_kind kinds[] = {ENGINE_CANCEL, ENGINE_ASKED, ENGINE_LANDED,
                                                     ENGINE_RELEASE};
    uint64_t expected = 0;

    for (size_t k = 0; k < 4; k++) {
        rig_send(rig, kinds[k], 999); /* never heard of */
        assert_int_equal(strays(rig), ++expected);
    }
    rig_start(rig, 1, ENGINE_GENERATE, 1, 10, 5);
    for (int phase = 0; phase < 3; phase++) { /* waiting, in the prompt, decoding */
        for (size_t k = 1; k < 4; k++) {
            rig_send(rig, kinds[k], 1);
            assert_int_equal(strays(rig), ++expected);
        }
        rig_release(rig, 1, true);
        assert_int_equal(strays(rig), ++expected);
        rig_step(rig);
    }
    rig_run(rig);
    rig_check_output(rig, 1);
    assert_int_equal(rig->records[1].output_count, 5);
    assert_int_equal(rig_balance(rig).quarantined, 0);
    rig_start(rig, 2, ENGINE_PREFILL, 1, 10, 0);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_step(rig);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_send(rig, ENGINE_LANDED, 2);
    rig_run(rig);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_send(rig, ENGINE_LANDED, 2);
    rig_release(rig, 2, false);
    assert_int_equal(strays(rig), expected + 5);
}

static void draining_ends_everything_and_quarantines_what_is_lent(void **state)
{
    struct rig *rig = *state;

    reserve(rig, 1, 1, 7);
    reserve(rig, 2, 2, 7);
    rig_send(rig, ENGINE_ASKED, 2);
    rig_start(rig, 3, ENGINE_PREFILL, 3, 7, 0);
    rig_run(rig);
    rig_start(rig, 4, ENGINE_GENERATE, 4, 7, 50);
    rig_step(rig);
    rig_start(rig, 5, ENGINE_GENERATE, 5, 7, 50);
    engine_core_drain(rig->core, rig->now_ns);
    for (uint64_t id = 1; id <= 5; id++)
        rig_assert_finished(rig, id, ENGINE_FINISH_CANCELED, TD_OK);
    assert_int_equal(rig_balance(rig).quarantined, 4);
}

static void the_picture_is_told_when_it_changes_without_a_step(void **state)
{
    struct rig *rig = *state;
    uint32_t before;

    reserve(rig, 1, 1, 7);
    assert_int_equal(rig->load.balance.reserved, 2);
    before = rig->step_events;
    assert_false(rig_plan(rig));
    assert_int_equal(rig->step_events, before); /* not again and again */
    rig_send(rig, ENGINE_CANCEL, 1);
    assert_false(rig_plan(rig));
    assert_int_equal(rig->step_events, before + 1);
    assert_int_equal(rig->load.balance.reserved, 0);
}

#define WITH_RIG(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RIG(a_prompt_is_answered),
        WITH_RIG(a_stop_id_ends_it_and_is_the_last_token),
        WITH_RIG(sampling_with_a_seed_follows_the_oracle),
        WITH_RIG(what_is_biased_away_never_comes),
        WITH_RIG(the_times_add_up),
        WITH_RIG(malformed_submits_are_refused_at_once),
        WITH_RIG(a_prompt_beyond_the_context_is_refused_and_a_long_answer_is_cut),
        WITH_RIG(a_pool_smaller_than_the_context_is_the_limit),
        WITH_RIG(a_full_queue_refuses),
        WITH_RIG(a_cancel_ends_what_waits_at_once),
        WITH_RIG(a_cancel_between_steps_ends_at_once),
        WITH_RIG(blocks_of_a_flying_batch_are_not_given_back_before_it_lands),
        WITH_RIG(a_deadline_ends_waiting_computing_and_decoding),
        WITH_RIG(a_failing_backend_ends_the_batch_and_leaves_nothing_in_the_cache),
        WITH_RIG(an_import_decodes_from_the_landed_state),
        WITH_RIG(only_what_is_not_cached_is_imported),
        WITH_RIG(an_import_that_will_not_come_is_computed_here),
        WITH_RIG(an_import_that_is_still_waiting_can_be_made_a_local_one),
        WITH_RIG(quarantined_blocks_of_an_import_are_replaced),
        WITH_RIG(a_canceled_import_waits_for_its_release),
        WITH_RIG(the_deadline_of_an_import_is_silent_while_a_peer_may_write),
        WITH_RIG(what_landed_but_does_not_fit_is_computed_here),
        WITH_RIG(a_prefill_shows_its_blocks_chunk_by_chunk_and_holds_them),
        WITH_RIG(a_prefill_on_a_block_boundary_has_no_tail),
        WITH_RIG(a_canceled_prefill_waits_for_its_release),
        WITH_RIG(a_prefill_released_in_flight_ends_when_the_batch_lands),
        WITH_RIG(a_prefill_whose_deadline_passes_says_so_and_waits),
        WITH_RIG(a_prefill_whose_backend_fails_says_so_and_waits),
        WITH_RIG(a_quarantined_source_ends_the_prefill_and_keeps_the_blocks),
        WITH_RIG(late_and_senseless_commands_are_counted_and_harmless),
        WITH_RIG(draining_ends_everything_and_quarantines_what_is_lent),
        WITH_RIG(the_picture_is_told_when_it_changes_without_a_step),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
