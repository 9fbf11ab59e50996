/* test_core_drawn.c: a backend that draws tokens itself, as CUDA's does, gives requests the tokens that the core draws. */
#include "tests/engine/rig.h"

#include <math.h>
#include <string.h>

#include "engine/logprobs.h"

#define VOCAB 97

static const struct rig_config plain = {
    .model = {.weights = 5, .vocab = VOCAB, .block_tokens = 4, .max_context = 128},
    .core = {.step_rows = 16, .sequences_max = 4, .waiting_max = 64},
    .block_count = 64,
};

__extension__ typedef unsigned __int128 uint128;

/* By the definition of engine/penalty.h. */
static void change(const struct engine_changes *changes, float *logits)
{
    for (uint32_t i = 0; i < changes->bias_count; i++) {
        assert_true(i == 0 || changes->biases[i - 1].token <= changes->biases[i].token);
        logits[changes->biases[i].token] += changes->biases[i].value;
    }
    for (uint32_t i = 0; i < changes->seen_count; i++) {
        float *logit = &logits[changes->seen[i].token];
        float count = (float)changes->seen[i].count;

        *logit = *logit > 0 ? *logit / changes->repetition : *logit * changes->repetition;
        if (count > 0)
            *logit = *logit - changes->frequency * count - changes->presence;
    }
}

/* By the definition of engine/sample.h, for draws without top-k, top-p and min-p. */
static uint32_t draw_one(const struct engine_draw *draw, const float *raw)
{
    float logits[VOCAB];
    uint64_t weights[VOCAB];
    uint32_t best = 0;
    uint64_t total;
    uint64_t point;
    uint32_t id = 0;

    memcpy(logits, raw, sizeof logits);
    change(&draw->changes, logits);
    for (uint32_t i = 1; i < VOCAB; i++)
        best = logits[i] > logits[best] ? i : best;
    if (draw->is_greedy)
        return best;
    assert_true(draw->top_k == 0 && draw->top_p == 1.0f && draw->least_weight == 0);
    total = engine_logits_reference.weigh(logits, VOCAB, logits[best], draw->temperature, weights);
    point = (uint64_t)((uint128)draw->random * total >> 64);
    while (point >= weights[id])
        point -= weights[id++];
    return id;
}

/* Runs the flying batch and draws what may be drawn, after which the logits are gone. Returns how many were. */
static uint32_t apply_drawn(struct rig *rig)
{
    static float nothing[VOCAB];
    const struct engine_batch *batch = rig->flying;
    struct engine_result result;
    const float *outputs[16];
    uint32_t tokens[16];
    uint32_t drawn = 0;

    assert_int_equal(rig->backend->ops->run(rig->backend, batch, &result), TD_OK);
    assert_in_range(batch->output_count, 0, 16);
    for (uint32_t i = 0; i < VOCAB; i++)
        nothing[i] = NAN;
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_draw *draw = batch->outputs[i].draw;

        assert_true(draw == NULL || batch->outputs[i].want == ENGINE_WANT_LOGITS);
        tokens[i] = draw != NULL ? draw_one(draw, result.outputs[i]) : ENGINE_NOT_DRAWN;
        outputs[i] = draw != NULL ? nothing : result.outputs[i];
        drawn += draw != NULL;
    }
    result.outputs = outputs;
    result.tokens = tokens;
    rig->now_ns += 1000;
    engine_core_apply(rig->core, &result, rig->now_ns);
    rig->flying = NULL;
    engine_core_audit(rig->core);
    return drawn;
}

/* Imported, greedy, with a seed, after biases and penalties, and for another worker. */
static void requests_get_the_tokens_that_the_core_draws(void **state)
{
    static const uint32_t prompt[] = {3, 1, 4, 1, 5, 9, 2, 6};
    uint32_t drawn = 0;
    struct rig rig;

    (void)state;
    rig_open(&rig, &plain);
    rig_start(&rig, 7, ENGINE_IMPORT, 70, 9, 12);
    assert_false(rig_plan(&rig));
    rig_send(&rig, ENGINE_ASKED, 7);
    rig_land(&rig, 7);
    for (uint64_t id = 1; id <= 6; id++) {
        struct engine_submit submit = rig_request(id == 6 ? ENGINE_PREFILL : ENGINE_GENERATE,
                                                  prompt, 8 - (uint32_t)id % 4, 12);

        submit.sampling.temperature = id % 2 == 0 ? 0.9f : 0;
        submit.sampling.seed = id;
        submit.sampling.repetition_penalty = id == 3 || id == 4 ? 1.3f : 0;
        submit.sampling.frequency_penalty = id == 4 ? 0.3f : 0;
        if (id == 2 || id == 3)
            for (uint32_t i = 0; i < 20; i++)
                rig_bias(&submit, 50 - i * 7 % 11, 0.1f * (float)i);
        rig_submit(&rig, id, &submit);
    }
    while (rig_plan(&rig))
        drawn += apply_drawn(&rig);
    rig_release(&rig, 6, false);
    for (uint64_t id = 1; id <= 7; id++)
        if (id != 6) {
            rig_assert_finished(&rig, id, ENGINE_FINISH_LENGTH, TD_OK);
            rig_check_output(&rig, id);
        }
    assert_int_equal(drawn, 6 * 12); /* one draws nothing */
    assert_int_equal(rig.load.draws_left, 0);
    rig_close(&rig);
}

static void a_draw_that_fails_ends_its_sequence_and_no_other(void **state)
{
    const uint32_t failures[] = {ENGINE_DRAW_FAILED, VOCAB};
    struct engine_result result;
    uint32_t tokens[2];
    struct rig rig;

    (void)state;
    for (size_t i = 0; i < sizeof failures / sizeof failures[0]; i++) {
        rig_open(&rig, &plain);
        rig_start(&rig, 1, ENGINE_GENERATE, 1, 3, 5);
        rig_start(&rig, 2, ENGINE_GENERATE, 2, 3, 5);
        assert_true(rig_plan(&rig));
        assert_int_equal(rig.flying->output_count, 2);
        assert_int_equal(rig.backend->ops->run(rig.backend, rig.flying, &result), TD_OK);
        tokens[0] = failures[i];
        tokens[1] = ENGINE_NOT_DRAWN;
        result.tokens = tokens;
        engine_core_apply(rig.core, &result, rig.now_ns);
        rig.flying = NULL;
        rig_run(&rig);
        rig_assert_finished(&rig, 1, ENGINE_FINISH_FAILED, TD_INTERNAL);
        rig_assert_finished(&rig, 2, ENGINE_FINISH_LENGTH, TD_OK);
        rig_check_output(&rig, 2);
        assert_int_equal(rig.load.draws_left, 1); /* beside the one that was drawn, if badly */
        rig_close(&rig);
    }
}

/* A step with what its tokens were drawn from, kept before the engine sees it; drawn: by the backend. */
static void step_with_logprobs(struct rig *rig, struct engine_sampler *sampler, bool is_drawn)
{
    const struct engine_batch *batch = rig->flying;
    struct rig_record *record = &rig->records[1];
    struct engine_logprobs expected[4] = {0};
    static float raw[4][VOCAB];
    struct engine_result result;
    uint32_t before = record->logprobs_count;
    uint32_t tokens[4];
    uint32_t asked = 4;

    assert_int_equal(rig->backend->ops->run(rig->backend, batch, &result), TD_OK);
    for (uint32_t i = 0; i < batch->output_count; i++) {
        const struct engine_draw *draw = batch->outputs[i].draw;

        memcpy(raw[i], result.outputs[i], sizeof raw[i]);
        tokens[i] = draw_one(draw, raw[i]);
        if (!draw->wants_logprobs)
            continue;
        assert_int_equal(draw->top_logprobs, 6);
        assert_int_equal(engine_logprobs_of(sampler, raw[i], tokens[i], 6, &expected[i]), TD_OK);
        asked = i;
    }
    if (is_drawn) {
        result.tokens = tokens;
        result.logprobs = expected;
    }
    engine_core_apply(rig->core, &result, rig->now_ns);
    rig->flying = NULL;
    if (asked == 4)
        return;
    assert_int_equal(record->logprobs_count, before + 1);
    assert_int_equal(record->output[before], tokens[asked]);
    assert_int_equal(record->logprobs.count, 6);
    assert_memory_equal(&record->logprobs, &expected[asked], sizeof(float) + sizeof(uint32_t));
    assert_memory_equal(record->logprobs.top, expected[asked].top,
                        6 * sizeof(struct engine_logprob));
}

/* Of the model's logits, before biases and penalties; for those who ask. */
static void log_probabilities_come_with_tokens(void **state)
{
    static const uint32_t prompt[] = {3, 1, 4, 1, 5};
    struct engine_sampler sampler;
    struct rig rig;

    (void)state;
    assert_int_equal(engine_sampler_init(&sampler, VOCAB), TD_OK);
    for (int is_drawn = 0; is_drawn < 2; is_drawn++) {
        struct engine_submit submit = rig_request(ENGINE_GENERATE, prompt, 5, 9);

        rig_open(&rig, &plain);
        submit.sampling.temperature = 0.9f;
        submit.sampling.repetition_penalty = 1.5f;
        submit.sampling.wants_logprobs = true;
        submit.sampling.top_logprobs = 6;
        for (uint32_t i = 0; i < VOCAB; i++)
            rig_bias(&submit, i, i % 7 == 0 ? 9.0f : -1.0f);
        rig_submit(&rig, 1, &submit);
        rig_start(&rig, 2, ENGINE_GENERATE, 2, 3, 5);
        while (rig_plan(&rig))
            step_with_logprobs(&rig, &sampler, is_drawn == 1);
        rig_assert_finished(&rig, 1, ENGINE_FINISH_LENGTH, TD_OK);
        rig_assert_finished(&rig, 2, ENGINE_FINISH_LENGTH, TD_OK);
        assert_int_equal(rig.records[1].logprobs_count, 9);
        rig_close(&rig);
    }
    engine_sampler_fini(&sampler);
}

static void too_many_log_probabilities_are_refused(void **state)
{
    static const uint32_t prompt[] = {3, 1};
    struct engine_submit submit = rig_request(ENGINE_GENERATE, prompt, 2, 9);
    struct rig rig;

    (void)state;
    rig_open(&rig, &plain);
    submit.sampling.wants_logprobs = true;
    submit.sampling.top_logprobs = ENGINE_TOP_LOGPROBS_MAX + 1;
    rig_submit(&rig, 1, &submit);
    rig_assert_finished(&rig, 1, ENGINE_FINISH_REFUSED, TD_INVALID);
    rig_close(&rig);
}

/* A backend that draws has to say them; one that says nonsense ends the sequence, and no other. */
static void log_probabilities_that_are_missing_end_a_sequence(void **state)
{
    static const uint32_t prompt[] = {3, 1};
    struct engine_logprobs nonsense = {.count = ENGINE_TOP_LOGPROBS_MAX + 1};
    struct engine_result result;
    uint32_t token = 5;
    struct rig rig;

    (void)state;
    for (int is_there = 0; is_there < 2; is_there++) {
        struct engine_submit submit = rig_request(ENGINE_GENERATE, prompt, 2, 9);

        rig_open(&rig, &plain);
        submit.sampling.wants_logprobs = true;
        rig_submit(&rig, 1, &submit);
        assert_true(rig_plan(&rig));
        assert_int_equal(rig.backend->ops->run(rig.backend, rig.flying, &result), TD_OK);
        result.tokens = &token;
        result.logprobs = is_there == 1 ? &nonsense : NULL;
        engine_core_apply(rig.core, &result, rig.now_ns);
        rig.flying = NULL;
        rig_assert_finished(&rig, 1, ENGINE_FINISH_FAILED, TD_INTERNAL);
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_get_the_tokens_that_the_core_draws),
        cmocka_unit_test(log_probabilities_come_with_tokens),
        cmocka_unit_test(too_many_log_probabilities_are_refused),
        cmocka_unit_test(log_probabilities_that_are_missing_end_a_sequence),
        cmocka_unit_test(a_draw_that_fails_ends_its_sequence_and_no_other),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
