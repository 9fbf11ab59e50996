/* test_core_batching.c: many sequences at once: budget, order, prefix hits, admission, preemption. */
#include "tests/engine/rig.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/time.h"

static const struct rig_config plain = {
    .model = {.weights = 5, .vocab = 97, .block_tokens = 4, .max_context = 128},
    .core = {.step_rows = 8, .sequences_max = 4, .waiting_max = 64},
    .block_count = 64,
};

static void open_with(struct rig *rig, uint32_t block_count, uint32_t import_blocks_max)
{
    struct rig_config config = plain;

    config.block_count = block_count;
    config.core.import_blocks_max = import_blocks_max;
    rig_open(rig, &config);
}

/* Everything is over, right, and given back. */
static void close_idle(struct rig *rig)
{
    struct engine_balance balance;

    rig_run(rig);
    rig_check_cache(rig);
    balance = rig_balance(rig);
    assert_int_equal(balance.total, balance.free + balance.cached + balance.quarantined);
    assert_int_equal(rig->load.running + rig->load.waiting, 0);
    rig_close(rig);
}

static void check_all(struct rig *rig, uint64_t last)
{
    for (uint64_t id = 1; id <= last; id++) {
        rig_assert_finished(rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(rig, id);
    }
}

/* ---- the rows of a step ---- */

static void decode_rows_come_first_and_prompts_share_the_rest_by_arrival(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 3, 20);
    rig_step(&rig);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 5, 20);
    rig_start(&rig, 3, ENGINE_GENERATE, 3, 9, 20);
    rig_plan(&rig); /* 1 row of the first, 5 of the second, 2 of the third */
    assert_int_equal(rig.flying->row_count, 8);
    assert_int_equal(rig.flying->sequence_count, 3);
    assert_int_equal(rig.flying->rows[0].position, 3);
    assert_int_equal(rig.flying->rows[5].position, 4);
    assert_int_equal(rig.flying->rows[7].position, 1);
    assert_int_equal(rig.flying->output_count, 2); /* the third is not through its prompt */
    rig_apply(&rig);
    assert_int_equal(rig.load.step_rows, 8);
    assert_int_equal(rig.load.step_prefill_rows, 7);
    rig_plan(&rig);
    assert_int_equal(rig.flying->row_count, 8); /* two decode; 6 of the 7 that are left */
    rig_apply(&rig);
    rig_run(&rig);
    check_all(&rig, 3);
    close_idle(&rig);
}

static void new_work_joins_at_any_step(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    for (uint64_t id = 1; id <= 12; id++) {
        rig_start(&rig, id, ENGINE_GENERATE, (uint32_t)id, 3 + (uint32_t)id * 2, 10);
        rig_plan(&rig);
        rig_start(&rig, id + 20, ENGINE_GENERATE, (uint32_t)id, 3 + (uint32_t)id,
                  5); /* in flight */
        rig_apply(&rig);
    }
    rig_run(&rig);
    check_all(&rig, 12);
    for (uint64_t id = 21; id <= 32; id++)
        rig_check_output(&rig, id);
    close_idle(&rig);
}

static void no_more_than_the_limit_run_at_once(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    for (uint64_t id = 1; id <= 9; id++)
        rig_start(&rig, id, ENGINE_GENERATE, (uint32_t)id, 2, 6);
    rig_plan(&rig);
    assert_int_equal(rig.flying->sequence_count, 4);
    rig_apply(&rig);
    assert_int_equal(rig.load.running, 4);
    assert_int_equal(rig.load.waiting, 5);
    assert_int_equal(rig.load.waiting_tokens, 10);
    assert_int_equal(rig.load.prefilling, 0); /* 2 rows each: all four are through */
    rig_run(&rig);
    check_all(&rig, 9);
    close_idle(&rig);
}

/* Of running prompts what is left, of waiting ones all, of imports nothing while others compute them. */
static void the_load_counts_the_rows_that_are_still_to_be_computed(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 5);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 30, 4);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 20, 4);
    rig_step(&rig);
    assert_int_equal(rig.load.prefilling, 2);
    assert_int_equal(rig.load.prefilling_tokens, 30 + 20 - 8);
    rig_start(&rig, 3, ENGINE_GENERATE, 3, 6, 4);
    rig_start(&rig, 4, ENGINE_GENERATE, 4, 6, 4);
    rig_start(&rig, 5, ENGINE_IMPORT, 5, 13, 4);  /* is reserved for */
    rig_start(&rig, 6, ENGINE_IMPORT, 6, 13, 4);  /* waits: there is no room for two imports */
    rig_start(&rig, 7, ENGINE_GENERATE, 7, 6, 4); /* waits for a place */
    rig_step(&rig);
    assert_int_equal(rig.load.prefilling, 4);
    assert_int_equal(rig.load.prefilling_tokens, 30 + 20 - 16 + 2 * 6);
    assert_int_equal(rig.load.waiting, 2);
    assert_int_equal(rig.load.waiting_tokens, 6);
    rig_release(&rig, 6, false); /* nobody will compute it elsewhere */
    rig_step(&rig);
    assert_int_equal(rig.load.waiting_tokens, 6 + 13);
    rig_release(&rig, 5, false);
    rig_run(&rig);
    assert_int_equal(rig.load.prefilling + rig.load.prefilling_tokens + rig.load.waiting_tokens, 0);
    check_all(&rig, 7);
    close_idle(&rig);
}

/* Landed imports need no admission, so there may be more to decode than the batch takes. */
static void landed_imports_beyond_the_batch_wait_in_order(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 60);
    for (uint64_t id = 1; id <= 7; id++)
        rig_start(&rig, id, ENGINE_IMPORT, (uint32_t)id, 6, 5);
    assert_false(rig_step(&rig));
    for (uint64_t id = 7; id >= 1; id--) {
        rig_send(&rig, ENGINE_ASKED, id);
        rig_land(&rig, id);
    }
    rig_plan(&rig);
    assert_int_equal(rig.flying->head_count, 4);
    assert_int_equal(rig.flying->row_count, 0);
    rig_apply(&rig);
    assert_int_equal(rig.records[4].output_count, 1);
    assert_int_equal(rig.records[5].output_count, 0);
    rig_run(&rig);
    check_all(&rig, 7);
    close_idle(&rig);
}

/* ---- prefix cache ---- */

static void a_cached_prefix_is_not_computed_again(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 30, 4);
    rig_run(&rig);
    assert_int_equal(rig.load.prompt_tokens, 30);
    rig_start(&rig, 2, ENGINE_GENERATE, 1, 31, 4);
    rig_run(&rig);
    assert_int_equal(rig.load.prompt_tokens, 33);
    assert_int_equal(rig.load.cached_tokens, 28);
    assert_int_equal(rig.records[2].end.cached_tokens, 28);
    check_all(&rig, 2);
    close_idle(&rig);
}

static void what_was_generated_can_be_hit_too(void **state)
{
    struct rig rig;
    uint32_t tokens[40];
    struct engine_submit submit;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 10, 16);
    rig_run(&rig);
    memcpy(tokens, rig.records[1].submit.tokens, 10 * sizeof tokens[0]);
    memcpy(tokens + 10, rig.records[1].output, 16 * sizeof tokens[0]);
    tokens[26] = 5; /* the next turn */
    submit = rig_request(ENGINE_GENERATE, tokens, 27, 4);
    rig_submit(&rig, 2, &submit);
    rig_run(&rig);
    assert_int_equal(rig.records[2].end.cached_tokens, 24); /* the 26th was never computed */
    check_all(&rig, 2);
    close_idle(&rig);
}

static void another_tenant_hits_nothing(void **state)
{
    struct rig rig;
    uint32_t tokens[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    struct engine_submit submit;

    (void)state;
    open_with(&rig, 64, 0);
    submit = rig_request(ENGINE_GENERATE, tokens, 12, 4);
    rig_submit(&rig, 1, &submit);
    rig_run(&rig);
    submit = rig_request(ENGINE_GENERATE, tokens, 12, 4);
    submit.root_key.lo++;
    rig_submit(&rig, 2, &submit);
    rig_run(&rig);
    assert_int_equal(rig.records[2].end.cached_tokens, 0);
    check_all(&rig, 2);
    close_idle(&rig);
}

/* Nothing writes to a shared block, not even the same bytes: the last block is computed elsewhere. */
static void a_fully_cached_prompt_never_writes_to_shared_blocks(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_PREFILL, 1, 8, 0); /* holds both blocks */
    rig_run(&rig);
    rig_start(&rig, 2, ENGINE_GENERATE, 1, 8, 6);
    rig_plan(&rig);
    assert_int_equal(rig.flying->row_count, 4); /* the last block */
    assert_int_equal(rig.flying->sequences[0].slots[0], rig.records[1].shown[0].slot.index);
    assert_int_not_equal(rig.flying->sequences[0].slots[1], rig.records[1].shown[1].slot.index);
    rig_apply(&rig);
    rig_plan(&rig); /* it has taken over the one that was there, and writes to a third */
    assert_int_equal(rig.flying->sequences[0].slots[1], rig.records[1].shown[1].slot.index);
    assert_int_equal(rig.flying->sequences[0].slot_count, 3);
    rig_apply(&rig);
    rig_run(&rig);
    rig_check_output(&rig, 2);
    rig_check_shown(&rig, 1);
    rig_release(&rig, 1, false);
    close_idle(&rig);
}

static void two_that_compute_the_same_block_end_up_with_one(void **state)
{
    struct rig rig;
    struct engine_balance balance;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 4, 20);
    rig_start(&rig, 2, ENGINE_GENERATE, 1, 4, 20);
    rig_step(&rig);
    balance = rig_balance(&rig);
    assert_int_equal(balance.running, 1);
    rig_run(&rig);
    balance = rig_balance(&rig);
    assert_int_equal(balance.cached, 5); /* 23 tokens computed, by each */
    assert_int_equal(rig.load.content_conflicts, 0);
    check_all(&rig, 2);
    close_idle(&rig);
}

static void other_content_under_the_same_tokens_is_told_and_kept_apart(void **state)
{
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = 2};
    struct rig rig;

    (void)state;
    open_with(&rig, 64, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 8, 1);
    rig_start(&rig, 2, ENGINE_IMPORT, 1, 8, 4);
    rig_plan(&rig);
    rig_apply(&rig);
    assert_true(rig.records[2].reserved);
    rig_send(&rig, ENGINE_ASKED, 2);
    command.landed.hidden = calloc(RIG_HIDDEN, sizeof(float));
    command.landed.hidden_count = RIG_HIDDEN;
    command.landed.hashes = calloc(2, sizeof(struct td_u128));
    command.landed.hash_count = 2;
    command.landed.hashes[0].lo = 1; /* not what was computed here */
    command.landed.hashes[1].lo = 2;
    engine_core_command(rig.core, &command, rig.now_ns);
    rig_run(&rig);
    assert_int_equal(rig.load.content_conflicts, 1);
    rig_start(&rig, 3, ENGINE_GENERATE, 1, 8, 4); /* hits what was computed here */
    rig_run(&rig);
    assert_int_equal(rig.records[3].end.cached_tokens, 4);
    rig_check_output(&rig, 3);
    close_idle(&rig);
}

/* ---- admission ---- */

static void blocks_are_given_for_the_whole_prompt_or_not_at_all(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 10, 0);
    rig_start(&rig, 1, ENGINE_PREFILL, 1, 24, 0); /* 6 blocks */
    rig_start(&rig, 2, ENGINE_PREFILL, 2, 20, 0); /* 5 blocks: not while the first has 6 */
    rig_start(&rig, 3, ENGINE_PREFILL, 3, 4, 0);  /* would fit, but nobody passes */
    rig_run(&rig);
    assert_true(rig.records[1].prefilled);
    assert_int_equal(rig.records[2].shown_count, 0);
    assert_int_equal(rig.records[3].shown_count, 0);
    assert_int_equal(rig_balance(&rig).free, 4);
    rig_release(&rig, 1, false);
    rig_run(&rig);
    assert_true(rig.records[2].prefilled);
    assert_true(rig.records[3].prefilled);
    rig_release(&rig, 2, false);
    rig_release(&rig, 3, false);
    close_idle(&rig);
}

static void admission_leaves_a_block_for_each_that_decodes(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 6, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 4, 12);
    rig_step(&rig);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 18, 2); /* 5 blocks are free; one is for the first */
    rig_step(&rig);
    assert_int_equal(rig.load.waiting, 1);
    rig_run(&rig);
    assert_int_equal(rig.load.preemptions, 0);
    check_all(&rig, 2);
    close_idle(&rig);
}

/* Who was refused is looked at again when more of its prompt is there, though nobody gave a block back. */
static void what_others_publish_makes_room_for_those_who_wait(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 8, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 20, 1); /* 5 blocks, 2 in each step */
    rig_start(&rig, 2, ENGINE_GENERATE, 1, 20, 1); /* the same 5, and 3 are free */
    rig_step(&rig);
    assert_int_equal(rig.load.waiting, 1);
    rig_step(&rig);
    assert_int_equal(rig.load.waiting, 0);
    rig_run(&rig);
    assert_int_equal(rig.records[2].end.cached_tokens, 8);
    check_all(&rig, 2);
    close_idle(&rig);
}

static void imports_are_limited_and_let_others_pass_but_not_each_other(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 20, 6);
    rig_start(&rig, 1, ENGINE_IMPORT, 1, 16, 4);   /* 4 blocks */
    rig_start(&rig, 2, ENGINE_IMPORT, 2, 12, 4);   /* 3: beyond the limit */
    rig_start(&rig, 3, ENGINE_IMPORT, 3, 4, 4);    /* 1: within, but behind the second */
    rig_start(&rig, 4, ENGINE_GENERATE, 4, 12, 4); /* passes */
    rig_run(&rig);
    assert_true(rig.records[1].reserved);
    assert_false(rig.records[2].reserved || rig.records[3].reserved);
    rig_assert_finished(&rig, 4, ENGINE_FINISH_LENGTH, TD_OK);
    rig_send(&rig, ENGINE_ASKED, 1);
    rig_run(&rig);
    assert_false(rig.records[2].reserved); /* landing counts as well */
    rig_land(&rig, 1);
    rig_run(&rig);
    assert_true(rig.records[2].reserved && rig.records[3].reserved);
    rig_release(&rig, 2, false);
    rig_release(&rig, 3, false);
    rig_run(&rig);
    check_all(&rig, 4);
    close_idle(&rig);
}

static void an_import_larger_than_the_limit_comes_in_alone(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 20, 3);
    rig_start(&rig, 1, ENGINE_IMPORT, 1, 4, 4);
    rig_start(&rig, 2, ENGINE_IMPORT, 2, 40, 4);
    rig_run(&rig);
    assert_false(rig.records[2].reserved);
    rig_release(&rig, 1, false);
    rig_run(&rig);
    assert_true(rig.records[2].reserved);
    rig_send(&rig, ENGINE_ASKED, 2);
    rig_land(&rig, 2);
    rig_run(&rig);
    check_all(&rig, 2);
    close_idle(&rig);
}

static void what_quarantine_left_no_room_for_fails(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 8, 8);
    rig_start(&rig, 1, ENGINE_IMPORT, 1, 20, 4); /* 5 of 8 blocks */
    rig_run(&rig);
    rig_send(&rig, ENGINE_ASKED, 1);
    rig_release(&rig, 1, true);
    rig_run(&rig);
    rig_assert_finished(&rig, 1, ENGINE_FINISH_FAILED, TD_EXHAUSTED);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 10, 10); /* starts, and grows beyond what is left */
    rig_run(&rig);
    rig_assert_finished(&rig, 2, ENGINE_FINISH_FAILED, TD_EXHAUSTED);
    rig_check_output(&rig, 2);
    assert_int_equal(rig.records[2].output_count, 3); /* 12 tokens in 3 blocks, and one drawn */
    close_idle(&rig);
}

/* ---- preemption ---- */

static void the_newest_gives_way_and_goes_on_with_the_same_tokens(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 10, 0);
    for (uint64_t id = 1; id <= 4; id++) {
        uint32_t tokens[6] = {(uint32_t)id, 2, 3, 4, 5, 6};
        struct engine_submit submit = rig_request(ENGINE_GENERATE, tokens, 6, 24);

        submit.sampling = (struct engine_sampling){
            .temperature = 1.0f, .top_p = 0.95f, .frequency_penalty = 0.5f, .seed = id};
        submit.sampling.repetition_penalty = id % 2 == 0 ? 1.5f : 1.0f;
        rig_submit(&rig, id, &submit);
    }
    rig_run(&rig);
    assert_true(rig.load.preemptions > 2);
    check_all(&rig, 4);
    close_idle(&rig);
}

static void the_oldest_is_never_preempted_while_others_run(void **state)
{
    struct rig rig;
    uint32_t steps = 0;

    (void)state;
    open_with(&rig, 8, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 4, 24);
    rig_start(&rig, 2, ENGINE_GENERATE, 2, 4, 24);
    rig_start(&rig, 3, ENGINE_GENERATE, 3, 4, 24);
    while (!rig.records[1].finished) {
        rig_step(&rig);
        assert_int_equal(rig.records[1].output_count, ++steps); /* a token in every step */
    }
    assert_true(rig.load.preemptions > 0);
    rig_run(&rig);
    check_all(&rig, 3);
    close_idle(&rig);
}

static void a_landed_import_can_be_preempted_before_its_first_token(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 7, 6);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 8, 20);
    rig_start(&rig, 2, ENGINE_IMPORT, 2, 10, 4);
    rig_step(&rig);
    assert_true(rig.records[2].reserved);
    rig_send(&rig, ENGINE_ASKED, 2);
    while (rig.records[1].output_count < 9) /* then it needs a fifth block, and there are four */
        rig_step(&rig);
    rig_land(&rig, 2);
    rig_step(&rig);
    assert_int_equal(rig.load.preemptions, 1);
    assert_int_equal(rig.records[1].output_count, 10);
    assert_int_equal(rig.records[2].output_count, 0);
    rig_run(&rig);
    check_all(&rig, 2);
    close_idle(&rig);
}

/*
 * All blocks but those of one decoding sequence are held for peers: it gives way and waits. When
 * they are released it goes on where it was.
 */
static void a_lone_sequence_waits_for_held_blocks_and_goes_on(void **state)
{
    struct rig rig;

    (void)state;
    open_with(&rig, 6, 0);
    rig_start(&rig, 1, ENGINE_GENERATE, 1, 4, 16);
    rig_start(&rig, 2, ENGINE_PREFILL, 2, 16, 0);
    rig_run(&rig);
    assert_true(rig.records[2].prefilled);
    assert_false(rig.records[1].finished);
    assert_int_equal(rig.load.waiting, 1);
    assert_true(rig.load.preemptions > 0);
    rig_check_shown(&rig, 2);
    rig_release(&rig, 2, false);
    rig_run(&rig);
    rig_assert_finished(&rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
    rig_check_output(&rig, 1);
    close_idle(&rig);
}

/* ---- two cores: the whole hand-over ---- */

static void send_landed(struct rig *decode, uint64_t id, const struct rig *prefill)
{
    const struct rig_record *source = &prefill->records[id];
    const struct rig_record *target = &decode->records[id];
    struct engine_command command = {.kind = ENGINE_LANDED, .sequence = id};

    command.landed.hidden = malloc(sizeof source->hidden);
    command.landed.hidden_count = RIG_HIDDEN;
    command.landed.hash_count = target->import_count;
    command.landed.hashes = calloc(target->import_count, sizeof(struct td_u128));
    memcpy(command.landed.hidden, source->hidden, sizeof source->hidden);
    for (uint32_t i = 0; i < target->import_count; i++) {
        const struct engine_block *from = &source->shown[target->cached_blocks + i];

        assert_true(td_u128_equal(from->key, target->import[i].key));
        assert_int_equal(from->tokens, target->import[i].tokens);
        memcpy(decode->kv.base + target->import[i].slot.index * decode->kv.block_bytes,
               prefill->kv.base + from->slot.index * prefill->kv.block_bytes,
               prefill->kv.block_bytes);
        command.landed.hashes[i] = from->hash;
    }
    engine_core_command(decode->core, &command, decode->now_ns);
}

static void a_prompt_prefilled_elsewhere_gives_the_same_tokens(void **state)
{
    struct rig prefill;
    struct rig decode;

    (void)state;
    open_with(&prefill, 64, 0);
    open_with(&decode, 64, 64);
    for (uint64_t id = 1; id <= 8; id++) {
        uint32_t length = 9 + 3 * (uint32_t)id;

        rig_start(&decode, id, ENGINE_IMPORT, id < 5 ? 1 : 2, length, 10);
        rig_run(&decode);
        assert_true(decode.records[id].reserved);
        rig_send(&decode, ENGINE_ASKED, id);
        rig_start(&prefill, id, ENGINE_PREFILL, id < 5 ? 1 : 2, length, 0);
        rig_run(&prefill);
        send_landed(&decode, id, &prefill);
        rig_check_shown(&prefill, id);
        rig_release(&prefill, id, false);
    }
    rig_run(&decode);
    check_all(&decode, 8);
    assert_int_equal(decode.load.prompt_tokens, 0);
    assert_int_equal(decode.load.content_conflicts, 0);
    close_idle(&prefill);
    close_idle(&decode);
}

/* ---- opening ---- */

static void a_configuration_that_makes_no_sense_is_refused_by_name(void **state)
{
    struct rig rig;
    struct engine_core *core = NULL;
    struct td_error error;
    struct engine_sink sink = {0};
    struct engine_backend backend;
    struct engine_kv kv;
    struct engine_core_config config = {0};

    (void)state;
    open_with(&rig, 8, 0);
    backend = *rig.backend;
    kv = rig.kv;
    config.step_rows = 513;
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "step_rows"));
    config = (struct engine_core_config){.step_rows = 4, .sequences_max = 5};
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "sequences_max"));
    config = (struct engine_core_config){.sequences_max = 257};
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "sequences_max"));
    config = (struct engine_core_config){0};
    kv.block_tokens = 8;
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "block_tokens"));
    kv = rig.kv;
    kv.block_bytes = backend.info.block_bytes = 250;
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "block_bytes"));
    kv = rig.kv;
    backend.info.block_bytes = kv.block_bytes;
    backend.info.vocab = 0;
    assert_int_equal(engine_core_open(&config, &backend, &kv, sink, &core, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "vocab"));
    assert_null(core);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_rows_come_first_and_prompts_share_the_rest_by_arrival),
        cmocka_unit_test(new_work_joins_at_any_step),
        cmocka_unit_test(no_more_than_the_limit_run_at_once),
        cmocka_unit_test(the_load_counts_the_rows_that_are_still_to_be_computed),
        cmocka_unit_test(landed_imports_beyond_the_batch_wait_in_order),
        cmocka_unit_test(a_cached_prefix_is_not_computed_again),
        cmocka_unit_test(what_was_generated_can_be_hit_too),
        cmocka_unit_test(another_tenant_hits_nothing),
        cmocka_unit_test(a_fully_cached_prompt_never_writes_to_shared_blocks),
        cmocka_unit_test(two_that_compute_the_same_block_end_up_with_one),
        cmocka_unit_test(other_content_under_the_same_tokens_is_told_and_kept_apart),
        cmocka_unit_test(blocks_are_given_for_the_whole_prompt_or_not_at_all),
        cmocka_unit_test(admission_leaves_a_block_for_each_that_decodes),
        cmocka_unit_test(what_others_publish_makes_room_for_those_who_wait),
        cmocka_unit_test(imports_are_limited_and_let_others_pass_but_not_each_other),
        cmocka_unit_test(an_import_larger_than_the_limit_comes_in_alone),
        cmocka_unit_test(what_quarantine_left_no_room_for_fails),
        cmocka_unit_test(the_newest_gives_way_and_goes_on_with_the_same_tokens),
        cmocka_unit_test(the_oldest_is_never_preempted_while_others_run),
        cmocka_unit_test(a_landed_import_can_be_preempted_before_its_first_token),
        cmocka_unit_test(a_lone_sequence_waits_for_held_blocks_and_goes_on),
        cmocka_unit_test(a_prompt_prefilled_elsewhere_gives_the_same_tokens),
        cmocka_unit_test(a_configuration_that_makes_no_sense_is_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
