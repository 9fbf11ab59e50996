/* test_sequence.c: the state table, and the small computations of a sequence. */
#include "tests/support/support.h"

#include <stdlib.h>
#include <string.h>

#include "engine/sequence.h"
#include "lib/base/block_key.h"
#include "lib/base/time.h"

static void the_table_is_complete_and_sound(void **state)
{
    const char *fault = td_fsm_check(&sequence_fsm);

    (void)state;
    if (fault != NULL)
        fail_msg("%s", fault);
}

/* Commands may come at any time: the worker must not be able to bring the engine down. */
static void no_command_and_no_clock_hits_a_bug_cell(void **state)
{
    static const enum sequence_event from_outside[] = {
        SEQUENCE_ON_ASK,        SEQUENCE_ON_LAND,   SEQUENCE_ON_RELEASE,
        SEQUENCE_ON_QUARANTINE, SEQUENCE_ON_CANCEL,
    };

    (void)state;
    for (uint8_t s = 0; s < SEQUENCE_STATE_COUNT; s++) {
        for (size_t e = 0; e < sizeof from_outside / sizeof from_outside[0]; e++)
            assert_int_not_equal(td_fsm_cell(&sequence_fsm, s, (uint8_t)from_outside[e])->action,
                                 SEQUENCE_DO_BUG);
        if (s != SEQUENCE_STOPPING && s != SEQUENCE_DONE) /* disarmed there */
            assert_int_not_equal(td_fsm_cell(&sequence_fsm, s, SEQUENCE_ON_EXPIRE)->action,
                                 SEQUENCE_DO_BUG);
    }
}

/* Where somebody outside may touch blocks, only the worker's word leads out. */
static void lent_blocks_leave_only_by_the_workers_word(void **state)
{
    static const enum sequence_state lent[] = {SEQUENCE_RESERVED, SEQUENCE_LANDING, SEQUENCE_HELD};

    (void)state;
    for (size_t s = 0; s < 3; s++) {
        assert_int_equal(td_fsm_cell(&sequence_fsm, (uint8_t)lent[s], SEQUENCE_ON_EXPIRE)->action,
                         SEQUENCE_DO_IGNORE);
        assert_int_equal(td_fsm_cell(&sequence_fsm, (uint8_t)lent[s], SEQUENCE_ON_PREEMPT)->action,
                         SEQUENCE_DO_BUG);
    }
}

static struct engine_sequence *sequence_of(uint32_t prompt, uint32_t max_new, enum engine_goal goal)
{
    uint32_t tokens[64];
    struct engine_submit submit = {
        .goal = goal,
        .tokens = tokens,
        .token_count = prompt,
        .max_new_tokens = max_new,
        .root_key = {.hi = 1, .lo = 1},
        .stop_ids = {500},
        .stop_id_count = 1,
        .deadline_ns = TD_TIME_NEVER,
    };
    struct engine_sequence *sequence;

    for (uint32_t i = 0; i < prompt; i++)
        tokens[i] = 100 + i;
    sequence = engine_sequence_new(7, &submit, 4, 1000);
    assert_non_null(sequence);
    return sequence;
}

static void a_prompt_on_a_block_boundary_recomputes_its_last_block(void **state)
{
    static const uint32_t cases[][3] = {/* tokens, blocks, hits at most */
                                        {1, 1, 0}, {3, 1, 0}, {4, 1, 0}, {5, 2, 1},
                                        {8, 2, 1}, {9, 3, 2}, {12, 3, 2}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct engine_sequence *sequence = sequence_of(cases[i][0], 1, ENGINE_GENERATE);

        assert_int_equal(engine_sequence_blocks_needed(sequence), cases[i][1]);
        assert_int_equal(engine_sequence_hits_max(sequence), cases[i][2]);
        engine_sequence_free(sequence);
    }
}

static void keys_are_those_of_the_contract(void **state)
{
    struct engine_sequence *sequence = sequence_of(10, 8, ENGINE_GENERATE);
    struct td_u128 keys[3];

    (void)state;
    td_block_keys(sequence->root, sequence->tokens, 10, 4, keys);
    for (uint32_t i = 3; i-- > 0;)
        assert_true(td_u128_equal(engine_sequence_travel_key(sequence, i), keys[i]));
    assert_true(td_u128_equal(engine_sequence_key(sequence, 1), keys[1]));
    assert_int_equal(engine_sequence_prompt_in_block(sequence, 1), 4);
    assert_int_equal(engine_sequence_prompt_in_block(sequence, 2), 2);
    sequence->tokens[10] = 1;
    sequence->tokens[11] = 2;
    sequence->token_count = 12; /* the tail is full now, and has another key */
    assert_false(td_u128_equal(engine_sequence_key(sequence, 2), keys[2]));
    assert_true(td_u128_equal(engine_sequence_travel_key(sequence, 2), keys[2]));
    engine_sequence_free(sequence);
}

static void it_is_over_at_a_stop_id_or_at_its_length(void **state)
{
    static const struct engine_model_info info = {.stop_ids = {600, 601}, .stop_id_count = 2};
    struct engine_sequence *sequence = sequence_of(3, 2, ENGINE_GENERATE);
    enum engine_finish reason;

    (void)state;
    sequence->tokens[sequence->token_count++] = 5;
    assert_false(engine_sequence_is_over(sequence, &info, &reason));
    sequence->tokens[3] = 500;
    assert_true(engine_sequence_is_over(sequence, &info, &reason));
    assert_int_equal(reason, ENGINE_FINISH_STOP);
    sequence->tokens[3] = 601;
    assert_true(engine_sequence_is_over(sequence, &info, &reason));
    sequence->ignore_model_stops = true;
    assert_false(engine_sequence_is_over(sequence, &info, &reason));
    sequence->tokens[sequence->token_count++] = 601;
    assert_true(engine_sequence_is_over(sequence, &info, &reason));
    assert_int_equal(reason, ENGINE_FINISH_LENGTH);
    sequence->tokens[4] = 500; /* a stop id as the last one that may come is a stop */
    assert_true(engine_sequence_is_over(sequence, &info, &reason));
    assert_int_equal(reason, ENGINE_FINISH_STOP);
    engine_sequence_free(sequence);
}

static void lists_are_ordered_by_arrival_however_they_are_filled(void **state)
{
    static const uint64_t arrivals[] = {5, 2, 9, 1, 7};
    static const uint64_t sorted[] = {1, 2, 5, 7, 9};
    struct engine_sequence *sequences[5];
    struct td_list list;
    uint32_t count = 0;

    (void)state;
    td_list_init(&list);
    for (uint32_t i = 0; i < 5; i++) {
        sequences[i] = sequence_of(1, 1, ENGINE_GENERATE);
        sequences[i]->arrival = arrivals[i];
        engine_sequence_insert(&list, sequences[i]);
    }
    td_list_for_each(node, &list)
        assert_int_equal(engine_sequence_of(node)->arrival, sorted[count++]);
    assert_int_equal(count, 5);
    for (uint32_t i = 0; i < 5; i++)
        engine_sequence_free(sequences[i]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_complete_and_sound),
        cmocka_unit_test(no_command_and_no_clock_hits_a_bug_cell),
        cmocka_unit_test(lent_blocks_leave_only_by_the_workers_word),
        cmocka_unit_test(a_prompt_on_a_block_boundary_recomputes_its_last_block),
        cmocka_unit_test(keys_are_those_of_the_contract),
        cmocka_unit_test(it_is_over_at_a_stop_id_or_at_its_length),
        cmocka_unit_test(lists_are_ordered_by_arrival_however_they_are_filled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
