/* test_core_masked.c: masks: which tokens they leave, when they are asked, what ends with them, and that each is closed once. */
#include "tests/engine/rig.h"

#include "engine/sample.h"

#define VOCAB 97

static const struct rig_config plain = {
    .model = {.weights = 5, .vocab = VOCAB, .block_tokens = 4, .max_context = 128},
    .core = {.step_rows = 16, .sequences_max = 4, .waiting_max = 2},
    .block_count = 64,
};

/* A grammar in which the n-th token leaves rest n % 5, until it says something else. */
struct grammar {
    const struct rig_record *record; /* of its request */
    uint32_t asked;
    uint32_t closed;
    uint32_t last; /* what follows so many tokens is `status` and `words` */
    td_status_t status;
    uint32_t final_word; /* of the last four, the others are clear */
};

static td_status_t fill(void *impl, const uint32_t *output, uint32_t count, uint32_t *words,
                        uint32_t word_count)
{
    struct grammar *grammar = impl;

    assert_int_equal(count, grammar->asked++);
    assert_int_equal(word_count, engine_mask_words(VOCAB));
    if (count > 0)
        assert_memory_equal(output, grammar->record->output, count * sizeof *output);
    for (uint32_t i = 0; i < word_count; i++)
        assert_int_equal(words[i], 0);
    if (count == grammar->last) {
        words[word_count - 1] = grammar->final_word;
        return grammar->status;
    }
    for (uint32_t id = count % 5; id < VOCAB; id += 5)
        words[id / 32] |= UINT32_C(1) << id % 32;
    return TD_OK;
}

static void close_grammar(void *impl)
{
    ((struct grammar *)impl)->closed++;
}

static struct engine_submit masked_request(struct rig *rig, uint64_t id, struct grammar *grammar,
                                           uint32_t max_new_tokens)
{
    const uint32_t prompt[] = {(uint32_t)id, 1, 4, 1, 5, 9};
    struct engine_submit submit = rig_request(ENGINE_GENERATE, prompt, 6, max_new_tokens);

    grammar->record = &rig->records[id];
    submit.mask = (struct engine_mask){.impl = grammar, .fill = fill, .close = close_grammar};
    return submit;
}

static void check_rests(const struct rig_record *record)
{
    for (uint32_t i = 0; i < record->output_count; i++)
        assert_int_equal(record->output[i] % 5, i % 5);
}

/* Greedy, with a temperature, with penalties; and one beside them that has no mask. */
static void only_allowed_tokens_are_drawn(void **state)
{
    struct grammar grammars[4] = {{.last = 99}, {.last = 99}, {.last = 99}, {.last = 99}};
    struct rig rig;

    (void)state;
    rig_open(&rig, &plain);
    for (uint64_t id = 1; id <= 3; id++) {
        struct engine_submit submit = masked_request(&rig, id, &grammars[id], 20);

        submit.sampling.temperature = id == 2 ? 0.9f : 0;
        submit.sampling.seed = 4;
        submit.sampling.presence_penalty = id == 3 ? 2.0f : 0;
        rig_submit(&rig, id, &submit);
        rig_step(&rig);
    }
    rig_start(&rig, 4, ENGINE_GENERATE, 9, 6, 20);
    rig_run(&rig);
    for (uint64_t id = 1; id <= 3; id++) {
        rig_assert_finished(&rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        assert_int_equal(rig.records[id].output_count, 20);
        check_rests(&rig.records[id]);
        assert_int_equal(grammars[id].asked, 20);
        assert_int_equal(grammars[id].closed, 1);
    }
    rig_check_output(&rig, 4);
    rig_close(&rig);
}

/* Their blocks do not suffice, so that they take turns; nobody is asked again for what it has said. */
static void preempted_requests_are_asked_once_for_each_token(void **state)
{
    struct rig_config config = plain;
    struct grammar grammars[4] = {{.last = 99}, {.last = 99}, {.last = 99}, {.last = 99}};
    struct rig rig;

    (void)state;
    config.block_count = 12;
    rig_open(&rig, &config);
    for (uint64_t id = 1; id <= 3; id++) {
        struct engine_submit submit = masked_request(&rig, id, &grammars[id], 30);

        rig_submit(&rig, id, &submit);
        rig_step(&rig);
    }
    rig_run(&rig);
    assert_true(rig.load.preemptions > 0);
    for (uint64_t id = 1; id <= 3; id++) {
        rig_assert_finished(&rig, id, ENGINE_FINISH_LENGTH, TD_OK);
        check_rests(&rig.records[id]);
        assert_int_equal(grammars[id].asked, 30);
        assert_int_equal(grammars[id].closed, 1);
    }
    rig_close(&rig);
}

/* A failure, no token at all, and none but those beyond the vocabulary. */
static void a_mask_that_leaves_nothing_ends_its_sequence_and_no_other(void **state)
{
    const struct {
        struct grammar grammar;
        td_status_t status;
    } cases[] = {
        {{.last = 3, .status = TD_LIMIT, .final_word = 1}, TD_LIMIT},
        {{.last = 3}, TD_INVALID},
        {{.last = 0, .final_word = 0xfffffffeu}, TD_INVALID},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct grammar grammar = cases[i].grammar;
        struct engine_submit submit;
        struct rig rig;

        rig_open(&rig, &plain);
        submit = masked_request(&rig, 1, &grammar, 20);
        rig_submit(&rig, 1, &submit);
        rig_start(&rig, 2, ENGINE_GENERATE, 9, 6, 20);
        rig_run(&rig);
        rig_assert_finished(&rig, 1, ENGINE_FINISH_FAILED, cases[i].status);
        assert_int_equal(rig.records[1].output_count, grammar.last);
        assert_int_equal(grammar.closed, 1);
        rig_assert_finished(&rig, 2, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(&rig, 2);
        rig_close(&rig);
    }
}

/* The last token of the vocabulary is alone in its word. */
static void one_token_is_enough(void **state)
{
    struct grammar grammar = {.last = 0, .final_word = 1};
    struct engine_submit submit;
    struct rig rig;

    (void)state;
    rig_open(&rig, &plain);
    submit = masked_request(&rig, 1, &grammar, 1);
    rig_submit(&rig, 1, &submit);
    rig_run(&rig);
    rig_assert_finished(&rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
    assert_int_equal(rig.records[1].output[0], VOCAB - 1);
    rig_close(&rig);
}

/* Refused, canceled while it waits and while it runs, left when the engine is closed, and never given to one. */
static void each_mask_is_closed_once(void **state)
{
    struct grammar grammars[6] = {{.last = 99}, {.last = 99}, {.last = 99},
                                  {.last = 99}, {.last = 99}, {.last = 99}};
    struct engine_command command = {.kind = ENGINE_SUBMIT};
    struct engine_submit submit;
    struct rig rig;

    (void)state;
    rig_open(&rig, &plain);
    submit = masked_request(&rig, 1, &grammars[1], 0);
    rig_submit(&rig, 1, &submit);
    assert_int_equal(rig.records[1].end.reason, ENGINE_FINISH_REFUSED);
    for (uint64_t id = 2; id <= 4; id++) {
        submit = masked_request(&rig, id, &grammars[id], 20);
        rig_submit(&rig, id, &submit);
        if (id == 3)
            rig_send(&rig, ENGINE_CANCEL, 3);
        else
            rig_step(&rig);
    }
    rig_send(&rig, ENGINE_CANCEL, 2);
    for (uint64_t id = 1; id <= 3; id++)
        assert_int_equal(grammars[id].closed, 1);
    command.submit = masked_request(&rig, 5, &grammars[5], 20);
    engine_command_fini(&command);
    engine_command_fini(&command);
    assert_int_equal(grammars[4].closed, 0);
    rig_close(&rig);
    assert_int_equal(grammars[4].closed, 1);
    assert_int_equal(grammars[5].closed, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_allowed_tokens_are_drawn),
        cmocka_unit_test(preempted_requests_are_asked_once_for_each_token),
        cmocka_unit_test(a_mask_that_leaves_nothing_ends_its_sequence_and_no_other),
        cmocka_unit_test(one_token_is_enough),
        cmocka_unit_test(each_mask_is_closed_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
