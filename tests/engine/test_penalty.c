/*
 * test_penalty.c: what penalties do to logits: values worked out by hand, a slow reference, and that
 * prompt and output are kept apart.
 */
#include "tests/support/support.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/sample.h"
#include "lib/base/random.h"

#define VOCAB 48

static void penalize(struct engine_sampling sampling, const uint32_t *tokens, uint32_t prompt_count,
                     uint32_t count, float *logits)
{
    struct engine_history history = {
        .tokens = tokens, .prompt_count = prompt_count, .count = count};
    static uint32_t counts[VOCAB];

    engine_penalize(&sampling, &history, counts, logits);
    for (uint32_t id = 0; id < VOCAB; id++)
        assert_int_equal(counts[id], 0);
}

static void each_penalty_does_what_it_says(void **state)
{
    /* prompt: 0 1 1; output: 2 2 2 1 */
    static const uint32_t tokens[] = {0, 1, 1, 2, 2, 2, 1};
    const float before[4] = {3.0f, -2.0f, 5.0f, 7.0f};
    float logits[VOCAB];

    (void)state;
    memcpy(logits, before, sizeof before);
    penalize((struct engine_sampling){.repetition_penalty = 2.0f}, tokens, 3, 7, logits);
    assert_true(logits[0] == 1.5f && logits[1] == -4.0f && logits[2] == 2.5f && logits[3] == 7.0f);

    memcpy(logits, before, sizeof before);
    penalize((struct engine_sampling){.presence_penalty = 0.5f}, tokens, 3, 7, logits);
    assert_true(logits[0] == 3.0f && logits[1] == -2.5f && logits[2] == 4.5f && logits[3] == 7.0f);

    memcpy(logits, before, sizeof before);
    penalize((struct engine_sampling){.frequency_penalty = -0.25f}, tokens, 3, 7, logits);
    assert_true(logits[0] == 3.0f && logits[1] == -1.75f && logits[2] == 5.75f &&
                logits[3] == 7.0f);

    memcpy(logits, before, sizeof before);
    penalize((struct engine_sampling){.repetition_penalty = 2.0f,
                                      .presence_penalty = 0.5f,
                                      .frequency_penalty = 0.25f},
             tokens, 3, 7, logits);
    assert_true(logits[0] == 1.5f && logits[1] == -4.75f && logits[2] == 1.25f &&
                logits[3] == 7.0f);
}

/* Before the penalties: they see the sum. */
static void biases_are_added_first(void **state)
{
    static const uint32_t tokens[] = {0, 1};
    struct engine_bias biases[] = {{0, -5.0f}, {2, 1.5f}, {3, 100.0f}, {4, 1.0f}};
    float logits[VOCAB] = {3.0f, 1.0f, 1.0f, -INFINITY, FLT_MAX};
    struct engine_sampling sampling = {
        .repetition_penalty = 2.0f, .biases = biases, .bias_count = 4};

    (void)state;
    assert_true(engine_penalty_wanted(&sampling));
    penalize(sampling, tokens, 1, 2, logits);
    assert_true(logits[0] == -4.0f && logits[1] == 0.5f && logits[2] == 2.5f);
    assert_true(logits[3] == -INFINITY && logits[4] == FLT_MAX);
}

static void neutral_values_are_off(void **state)
{
    static const struct engine_sampling off[] = {
        {.repetition_penalty = 0.0f}, {.repetition_penalty = 1.0f}, {.presence_penalty = -0.0f}};

    (void)state;
    for (size_t i = 0; i < 3; i++)
        assert_false(engine_penalty_wanted(&off[i]));
    assert_true(engine_penalty_wanted(&(struct engine_sampling){.repetition_penalty = 0.9f}));
    assert_true(engine_penalty_wanted(&(struct engine_sampling){.presence_penalty = -1.0f}));
    assert_true(engine_penalty_wanted(&(struct engine_sampling){.frequency_penalty = 0.1f}));
}

/* One token at a time, over the whole history. */
static float expected(const struct engine_sampling *sampling, const uint32_t *tokens,
                      uint32_t prompt_count, uint32_t count, uint32_t id, float logit)
{
    uint32_t in_prompt = 0;
    uint32_t in_output = 0;

    for (uint32_t i = 0; i < count; i++)
        *(i < prompt_count ? &in_prompt : &in_output) += tokens[i] == id;
    if (in_prompt + in_output > 0)
        logit =
            logit > 0 ? logit / sampling->repetition_penalty : logit * sampling->repetition_penalty;
    if (in_output == 0)
        return logit;
    logit -= sampling->frequency_penalty * (float)in_output;
    return logit - sampling->presence_penalty;
}

static void random_histories_give_what_the_slow_way_gives(void **state)
{
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 11);
    for (unsigned round = 0; round < 500; round++) {
        uint32_t tokens[200];
        uint32_t count = (uint32_t)td_rng_below(&rng, 201);
        uint32_t prompt_count = (uint32_t)td_rng_below(&rng, count + 1);
        float before[VOCAB];
        float logits[VOCAB];
        struct engine_sampling sampling = {
            .repetition_penalty = (float)(0.5 + td_rng_unit(&rng)),
            .presence_penalty = (float)(4 * td_rng_unit(&rng) - 2),
            .frequency_penalty = (float)(4 * td_rng_unit(&rng) - 2),
        };

        for (uint32_t i = 0; i < count; i++)
            tokens[i] = (uint32_t)td_rng_below(&rng, VOCAB);
        for (uint32_t id = 0; id < VOCAB; id++)
            before[id] = logits[id] = (float)(20 * td_rng_unit(&rng) - 10);
        penalize(sampling, tokens, prompt_count, count, logits);
        for (uint32_t id = 0; id < VOCAB; id++)
            assert_true(logits[id] ==
                        expected(&sampling, tokens, prompt_count, count, id, before[id]));
    }
}

/* Draw after draw, by one token or by many, as after a hand-over: the same bits as counting anew. */
static void a_tally_gives_what_counting_anew_gives(void **state)
{
    static uint32_t counts[VOCAB];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 12);
    for (unsigned round = 0; round < 300; round++) {
        uint32_t tokens[200];
        struct engine_tally_entry entries[200];
        struct engine_tally tally = {.entries = entries};
        struct engine_history history = {.tokens = tokens,
                                         .prompt_count = 1 + (uint32_t)td_rng_below(&rng, 60)};
        struct engine_sampling sampling = {
            .repetition_penalty = round % 3 == 0 ? 1.0f : 1.3f,
            .presence_penalty = round % 2 == 0 ? 0.0f : 0.7f,
            .frequency_penalty = 0.1f,
        };

        for (uint32_t i = 0; i < 200; i++)
            tokens[i] = (uint32_t)td_rng_below(&rng, VOCAB);
        history.count = history.prompt_count;
        while (history.count <= 200) {
            float anew[VOCAB];
            float kept[VOCAB];

            for (uint32_t id = 0; id < VOCAB; id++)
                anew[id] = kept[id] = (float)(20 * td_rng_unit(&rng) - 10);
            history.tally = NULL;
            engine_penalize(&sampling, &history, counts, anew);
            history.tally = &tally;
            engine_penalize(&sampling, &history, counts, kept);
            assert_memory_equal(anew, kept, sizeof anew);
            assert_int_equal(tally.seen, history.count);
            history.count += 1 + (uint32_t)td_rng_below(&rng, round % 7 == 0 ? 30 : 1);
        }
    }
}

/* Whatever is asked, a good backend's logits never look like a broken one's. */
static void extreme_penalties_leave_finite_logits(void **state)
{
    static const uint32_t tokens[] = {0, 1, 2, 3, 4, 0, 1, 2, 3, 4};
    const float extremes[] = {FLT_MAX, 1e30f, 1e-40f, 2.0f};

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        for (int sign = -1; sign <= 1; sign += 2) {
            float logits[VOCAB] = {5.0f, -5.0f, NAN, -INFINITY, INFINITY};

            penalize((struct engine_sampling){.repetition_penalty = extremes[i],
                                              .presence_penalty = (float)sign * FLT_MAX,
                                              .frequency_penalty = (float)sign * extremes[i]},
                     tokens, 5, 10, logits);
            assert_true(fabsf(logits[0]) <= FLT_MAX && fabsf(logits[1]) <= FLT_MAX);
            assert_true(isnan(logits[2]) && logits[3] == -INFINITY && logits[4] == INFINITY);
        }
    }
}

/* The draw sees the logits that were penalised, greedy too, and the caller's stay as they were. */
static void a_draw_goes_by_penalised_logits(void **state)
{
    static const uint32_t tokens[] = {7, 9};
    struct engine_history history = {.tokens = tokens, .prompt_count = 1, .count = 2};
    struct engine_sampling sampling = {.top_p = 1.0f, .repetition_penalty = 2.0f};
    struct engine_sampler sampler;
    float logits[VOCAB] = {0};
    uint32_t token;

    (void)state;
    logits[7] = 4.0f;
    logits[9] = 3.5f;
    logits[20] = 3.0f;
    assert_int_equal(engine_sampler_init(&sampler, VOCAB), TD_OK);
    assert_int_equal(engine_sample(&sampler, logits, &sampling, &history, &token), TD_OK);
    assert_int_equal(token, 20);
    assert_true(logits[7] == 4.0f && logits[9] == 3.5f);
    sampling.repetition_penalty = 1.0f;
    sampling.presence_penalty = 1.0f;
    assert_int_equal(engine_sample(&sampler, logits, &sampling, &history, &token), TD_OK);
    assert_int_equal(token, 7); /* it stands in the prompt only */
    sampling = (struct engine_sampling){
        .temperature = 1.0f, .top_p = 1.0f, .min_p = 1.0f, .repetition_penalty = 2.0f};
    assert_int_equal(engine_sample(&sampler, logits, &sampling, &history, &token), TD_OK);
    assert_int_equal(token, 20);
    engine_sampler_fini(&sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_penalty_does_what_it_says),
        cmocka_unit_test(biases_are_added_first),
        cmocka_unit_test(neutral_values_are_off),
        cmocka_unit_test(random_histories_give_what_the_slow_way_gives),
        cmocka_unit_test(a_tally_gives_what_counting_anew_gives),
        cmocka_unit_test(extreme_penalties_leave_finite_logits),
        cmocka_unit_test(a_draw_goes_by_penalised_logits),
    };

    return cmocka_run_group_tests_name("penalties", tests, NULL, NULL);
}
