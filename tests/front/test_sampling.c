/*
 * test_sampling.c: what a request says wins, then what the model's authors say, then the API's neutral
 * values; field by field.
 */
#include "front/sampling.h"
#include "lib/api/options.h"
#include "lib/text/generation.h"
#include "tests/support/support.h"

/* As api_options_read leaves them where a request says nothing. */
static const struct api_options silent = {
    .temperature = 1, .top_p = 1, .repetition_penalty = 1, .presence_penalty = 0.5f};

static const struct text_generation authors = {
    .present = TEXT_GENERATION_ALL,
    .temperature = 0.7f,
    .top_p = 0.8f,
    .top_k = 20,
    .min_p = 0.05f,
    .repetition_penalty = 1.1f,
    .max_new_tokens = 512,
};

static struct front_sampling settle(const struct api_options *options,
                                    const struct text_generation *defaults,
                                    enum front_generation whose)
{
    struct front_sampling sampling;

    front_sampling_settle(options, defaults, whose, &sampling);
    return sampling;
}

static void silence_means_what_the_authors_say(void **state)
{
    struct front_sampling sampling = settle(&silent, &authors, FRONT_GENERATION_AUTO);

    (void)state;
    assert_true(sampling.temperature == 0.7f && sampling.top_p == 0.8f);
    assert_true(sampling.min_p == 0.05f && sampling.repetition_penalty == 1.1f);
    assert_int_equal(sampling.top_k, 20);
    assert_true(sampling.presence_penalty == 0.5f && sampling.frequency_penalty == 0);
    assert_int_equal(front_sampling_tokens_max(&silent, &authors, FRONT_GENERATION_AUTO), 512);
}

static void without_authors_the_neutral_values_hold(void **state)
{
    const struct text_generation none = {.temperature = 9}; /* not present */
    struct front_sampling sampling = settle(&silent, &none, FRONT_GENERATION_AUTO);

    (void)state;
    assert_true(sampling.temperature == 1 && sampling.top_p == 1 && sampling.top_k == 0);
    assert_true(sampling.min_p == 0 && sampling.repetition_penalty == 1);
    assert_int_equal(front_sampling_tokens_max(&silent, &none, FRONT_GENERATION_AUTO), 0);
}

static void an_operator_may_want_the_neutral_values(void **state)
{
    struct front_sampling sampling = settle(&silent, &authors, FRONT_GENERATION_OPENAI);

    (void)state;
    assert_true(sampling.temperature == 1 && sampling.top_p == 1 && sampling.top_k == 0);
    assert_true(sampling.min_p == 0 && sampling.repetition_penalty == 1);
    assert_int_equal(front_sampling_tokens_max(&silent, &authors, FRONT_GENERATION_OPENAI), 0);
}

static void each_field_that_is_said_wins_alone(void **state)
{
    (void)state;
    for (unsigned given = 0; given < 32; given++) {
        struct api_options options = silent;
        struct front_sampling sampling;

        options.given = given;
        sampling = settle(&options, &authors, FRONT_GENERATION_AUTO);
        assert_true(sampling.temperature == (given & API_GIVEN_TEMPERATURE ? 1.0f : 0.7f));
        assert_true(sampling.top_p == (given & API_GIVEN_TOP_P ? 1.0f : 0.8f));
        assert_true(sampling.top_k == (given & API_GIVEN_TOP_K ? 0 : 20));
        assert_true(sampling.min_p == (given & API_GIVEN_MIN_P ? 0.0f : 0.05f));
        assert_true(sampling.repetition_penalty ==
                    (given & API_GIVEN_REPETITION_PENALTY ? 1.0f : 1.1f));
    }
}

static void more_tokens_than_the_authors_say_can_be_asked_for(void **state)
{
    struct api_options options = silent;

    (void)state;
    options.max_tokens = 4000;
    assert_int_equal(front_sampling_tokens_max(&options, &authors, FRONT_GENERATION_AUTO), 4000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(silence_means_what_the_authors_say),
        cmocka_unit_test(without_authors_the_neutral_values_hold),
        cmocka_unit_test(an_operator_may_want_the_neutral_values),
        cmocka_unit_test(each_field_that_is_said_wins_alone),
        cmocka_unit_test(more_tokens_than_the_authors_say_can_be_asked_for),
    };

    return cmocka_run_group_tests_name("sampling of requests", tests, NULL, NULL);
}
