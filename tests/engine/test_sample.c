/* test_sample.c: the generator, the exponential, top-k and top-p, and the distribution of draws. */
#include "tests/support/support.h"

#include <math.h>
#include <string.h>

#include "engine/logits/exponential.h"
#include "engine/sample.h"
#include "lib/base/random.h"

#define VOCAB 64

struct fixture {
    struct engine_sampler sampler;
    float logits[VOCAB];
};

static int setup(void **state)
{
    static struct fixture fixture;

    assert_int_equal(engine_sampler_init(&fixture.sampler, VOCAB), TD_OK);
    for (uint32_t i = 0; i < VOCAB; i++)
        fixture.logits[i] = 0.0f;
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    engine_sampler_fini(&fixture->sampler);
    return 0;
}

static uint32_t draw(struct fixture *fixture, struct engine_sampling sampling, uint32_t index)
{
    struct engine_history history = {.count = index};
    uint32_t token = UINT32_MAX;

    assert_int_equal(engine_sample(&fixture->sampler, fixture->logits, &sampling, &history, &token),
                     TD_OK);
    assert_in_range(token, 0, VOCAB - 1);
    return token;
}

static void random_logits(struct fixture *fixture, uint64_t seed, double spread)
{
    struct td_rng rng;

    td_rng_init(&rng, seed);
    for (uint32_t i = 0; i < VOCAB; i++)
        fixture->logits[i] = (float)(spread * (td_rng_unit(&rng) - 0.5));
}

/* ---- the generator ---- */

/* From the known-answer file of Random123, the authors' own library. */
static void philox_gives_the_published_answers(void **state)
{
    static const struct {
        uint32_t counter[4];
        uint32_t key[2];
        uint32_t out[4];
    } vectors[] = {
        {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
         {0xffffffff, 0xffffffff},
         {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
         {0xa4093822, 0x299f31d0},
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };

    (void)state;
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        uint32_t out[4];

        engine_philox(vectors[i].counter, vectors[i].key, out);
        assert_memory_equal(out, vectors[i].out, sizeof out);
    }
}

static void the_exponential_is_right_to_a_float(void **state)
{
    (void)state;
    assert_true(logits_exp(0.0f) == 1.0f);
    assert_true(logits_exp(-INFINITY) == 0.0f);
    assert_true(logits_exp(NAN) == 0.0f);
    assert_true(logits_exp(-1000.0f) == 0.0f);
    for (float x = 0.0f; x > -86.9f; x -= 0.0137f) {
        double exact = exp((double)x);

        assert_true(fabs((double)logits_exp(x) - exact) <= exact * 3e-7);
    }
}

/* ---- greedy ---- */

static void greedy_takes_the_best_and_of_equals_the_lowest_id(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};

    fixture->logits[7] = 3.0f;
    fixture->logits[9] = 3.0f;
    fixture->logits[3] = NAN;
    fixture->logits[4] = -INFINITY;
    assert_int_equal(draw(fixture, greedy, 0), 7);
    fixture->logits[9] = 3.0000002f;
    assert_int_equal(draw(fixture, greedy, 0), 9);
}

static void greedy_works_where_all_are_very_negative_but_one(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};

    for (uint32_t i = 0; i < VOCAB; i++)
        fixture->logits[i] = -INFINITY;
    fixture->logits[33] = -3.4e38f;
    assert_int_equal(draw(fixture, greedy, 0), 33);
}

static void logits_without_a_finite_best_are_an_error(void **state)
{
    struct fixture *fixture = *state;
    const float bad[] = {NAN, -INFINITY, INFINITY};
    struct engine_history history = {0};
    uint32_t token = 5;

    for (size_t k = 0; k < 3; k++) {
        for (float temperature = 0.0f; temperature < 2.0f; temperature += 1.0f) {
            struct engine_sampling sampling = {.temperature = temperature, .top_p = 1.0f};

            for (uint32_t i = 0; i < VOCAB; i++)
                fixture->logits[i] = bad[k];
            assert_int_equal(
                engine_sample(&fixture->sampler, fixture->logits, &sampling, &history, &token),
                TD_INTERNAL);
        }
    }
    assert_int_equal(token, 5);
}

/* ---- top-k and top-p ---- */

/*
 * The slow way to the same set: rank by logit, then id. share_out is the token's share of the whole
 * before top-p.
 */
static bool is_kept(const struct fixture *fixture, uint32_t id,
                    const struct engine_sampling *sampling, double margin, double *share_out)
{
    double temperature = (double)sampling->temperature;
    double top_p = (double)sampling->top_p + margin;
    uint32_t top_k = sampling->top_k;
    double weights[VOCAB];
    double total = 0;
    double above = 0;
    uint32_t rank[VOCAB] = {0};

    for (uint32_t a = 0; a < VOCAB; a++)
        for (uint32_t b = 0; b < VOCAB; b++)
            rank[a] += fixture->logits[b] > fixture->logits[a] ||
                       (fixture->logits[b] == fixture->logits[a] && b < a);
    for (uint32_t i = 0; i < VOCAB; i++) {
        weights[i] =
            rank[i] < top_k || top_k == 0 ? exp((double)fixture->logits[i] / temperature) : 0.0;
        total += weights[i];
    }
    for (uint32_t i = 0; i < VOCAB; i++)
        if (rank[i] < rank[id])
            above += weights[i];
    *share_out = weights[id] / total;
    return weights[id] > 0 && above < top_p * total;
}

static void exactly_the_tokens_within_top_k_and_top_p_are_drawn(void **state)
{
    struct fixture *fixture = *state;
    struct td_rng rng;

    td_rng_init(&rng, 11);
    for (uint64_t round = 0; round < 60; round++) {
        struct engine_sampling sampling = {
            .temperature = (float)(0.3 + 2 * td_rng_unit(&rng)),
            .top_k = (uint32_t)td_rng_below(&rng, 12),
            .top_p = (float)(0.05 + 0.95 * td_rng_unit(&rng)),
            .seed = round,
        };
        bool seen[VOCAB] = {false};

        random_logits(fixture, round, 6.0);
        if (round % 3 == 0) /* many equal ones */
            for (uint32_t i = 0; i < VOCAB; i++)
                fixture->logits[i] = floorf(fixture->logits[i]);
        for (uint32_t index = 0; index < 4000; index++)
            seen[draw(fixture, sampling, index)] = true;
        for (uint32_t id = 0; id < VOCAB; id++) {
            double share;

            /* at the very limit rounding may decide: leave a margin on both sides */
            if (seen[id])
                assert_true(is_kept(fixture, id, &sampling, 1e-5, &share));
            else if (is_kept(fixture, id, &sampling, -1e-5, &share))
                assert_true(share < 0.01); /* 4,000 draws miss more than that never */
        }
    }
}

static void top_k_of_one_is_greedy(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 1.5f, .top_k = 1, .top_p = 1.0f};

    for (uint32_t index = 0; index < 100; index++) /* all are equal */
        assert_int_equal(draw(fixture, sampling, index), 0);
}

static void top_k_keeps_exactly_k_of_equal_ones(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 1.0f, .top_k = 5, .top_p = 1.0f};
    uint64_t seen = 0;

    for (uint32_t index = 0; index < 1000; index++)
        seen |= UINT64_C(1) << draw(fixture, sampling, index);
    assert_int_equal(seen, 0x1f);
}

static void top_p_keeps_as_few_of_equal_ones_as_it_needs(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 1.0f, .top_p = 0.25f};
    uint64_t seen = 0;

    for (uint32_t index = 0; index < 2000; index++)
        seen |= UINT64_C(1) << draw(fixture, sampling, index);
    assert_int_equal(seen, 0xffff); /* a quarter of 64 */
}

static void a_tiny_top_p_leaves_the_best_one(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 2.0f, .top_p = 1e-30f};

    fixture->logits[20] = 0.001f;
    for (uint32_t index = 0; index < 100; index++)
        assert_int_equal(draw(fixture, sampling, index), 20);
}

/* Kept are the tokens whose probability is that share of the best one's, at the given temperature. */
static void min_p_keeps_what_is_near_the_best(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 2.0f, .top_p = 1.0f, .min_p = 0.25f};
    bool seen[VOCAB] = {false};

    random_logits(fixture, 9, 12.0);
    fixture->logits[10] = 6.0f;
    for (uint32_t index = 0; index < 4000; index++)
        seen[draw(fixture, sampling, index)] = true;
    for (uint32_t id = 0; id < VOCAB; id++) {
        double share = exp(((double)fixture->logits[id] - 6.0) / 2.0);

        assert_true(share < 0.2499 || share > 0.2501); /* none at the very limit */
        assert_int_equal(seen[id], share > 0.25);
    }
}

static void min_p_of_one_leaves_the_best_ones(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {
        .temperature = 1.0f, .top_k = 40, .top_p = 0.9f, .min_p = 1.0f};
    uint64_t seen = 0;

    fixture->logits[20] = 0.5f;
    fixture->logits[50] = 0.5f;
    for (uint32_t index = 0; index < 100; index++)
        seen |= UINT64_C(1) << draw(fixture, sampling, index);
    assert_true(seen == (UINT64_C(1) << 20 | UINT64_C(1) << 50));
}

/* top_p is a share of what min_p left: of 4 equal ones with a tail, half is 2. */
static void min_p_comes_before_top_p(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 1.0f, .top_p = 0.5f, .min_p = 0.9f};
    uint64_t seen = 0;

    for (uint32_t id = 0; id < VOCAB; id++)
        fixture->logits[id] = id < 4 ? 1.0f : 0.5f;
    for (uint32_t index = 0; index < 200; index++)
        seen |= UINT64_C(1) << draw(fixture, sampling, index);
    assert_int_equal(seen, 3);
}

static void extreme_temperatures_do_no_harm(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling cold = {.temperature = 1e-42f, .top_p = 1.0f};
    struct engine_sampling hot = {.temperature = 3e38f, .top_p = 1.0f};
    uint64_t seen = 0;

    random_logits(fixture, 4, 100.0);
    fixture->logits[13] = 200.0f;
    for (uint32_t index = 0; index < 1000; index++) {
        assert_int_equal(draw(fixture, cold, index), 13);
        seen |= UINT64_C(1) << draw(fixture, hot, index);
    }
    assert_int_equal(seen, UINT64_MAX); /* all about equally likely */
}

/* ---- the draw ---- */

/* Pearson's statistic against the exact distribution; 99.99 % of right ones are below the bound. */
static void draws_follow_the_distribution(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {.temperature = 0.8f, .top_p = 1.0f, .seed = 99};
    enum { DRAWS = 200000 };
    uint32_t counts[VOCAB] = {0};
    double weights[VOCAB];
    double total = 0;
    double chi_square = 0;

    random_logits(fixture, 5, 4.0);
    for (uint32_t i = 0; i < VOCAB; i++)
        total += weights[i] = exp((double)fixture->logits[i] / 0.8);
    for (uint32_t index = 0; index < DRAWS; index++)
        counts[draw(fixture, sampling, index)]++;
    for (uint32_t i = 0; i < VOCAB; i++) {
        double expected = DRAWS * weights[i] / total;

        assert_true(expected > 5);
        chi_square += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    assert_true(chi_square < 115.0); /* 63 degrees of freedom, p = 0.0001 */
    assert_true(chi_square > 25.0);  /* and not too good to be random */
}

static void seeds_and_choices_are_independent_streams(void **state)
{
    struct fixture *fixture = *state;
    uint32_t counts[VOCAB] = {0};
    double chi_square = 0;

    for (uint32_t seed = 0; seed < 160; seed++) {
        for (uint32_t choice = 0; choice < 40; choice++) {
            struct engine_sampling sampling = {.temperature = 1.0f,
                                               .top_p = 1.0f,
                                               .seed = (uint64_t)seed << 32 | seed,
                                               .choice = choice};

            counts[draw(fixture, sampling, 3)]++; /* all 64 are equally likely */
        }
    }
    for (uint32_t i = 0; i < VOCAB; i++)
        chi_square += (counts[i] - 100.0) * (counts[i] - 100.0) / 100.0;
    assert_true(chi_square < 115.0);
}

static void a_draw_depends_on_seed_choice_and_index_alone(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {
        .temperature = 1.0f, .top_k = 40, .top_p = 0.95f, .seed = 7, .choice = 2};
    uint32_t first[50];
    uint32_t different = 0;

    random_logits(fixture, 6, 3.0);
    for (uint32_t index = 0; index < 50; index++)
        first[index] = draw(fixture, sampling, index);
    for (uint32_t index = 50; index-- > 0;) /* in another order, with others in between */
        assert_int_equal(draw(fixture, sampling, index), first[index]);
    sampling.choice = 3;
    for (uint32_t index = 0; index < 50; index++)
        different += draw(fixture, sampling, index) != first[index];
    assert_true(different > 25);
}

/* What every build on every machine must give: written down once. */
static void draws_are_the_same_on_every_machine(void **state)
{
    struct fixture *fixture = *state;
    struct engine_sampling sampling = {
        .temperature = 0.7f, .top_k = 30, .top_p = 0.9f, .seed = 1234567, .choice = 1};
    uint32_t got[8];
    static const uint32_t expected[8] = {15, 3, 48, 29, 15, 46, 8, 48};

    for (uint32_t i = 0; i < VOCAB; i++)
        fixture->logits[i] = (float)((i * 37 + 11) % 64) * 0.0625f;
    for (uint32_t index = 0; index < 8; index++)
        got[index] = draw(fixture, sampling, index);
    assert_memory_equal(got, expected, sizeof got);
}

static void bad_parameters_are_refused(void **state)
{
    static const struct engine_sampling bad[] = {
        {.temperature = -0.1f, .top_p = 1.0f},    {.temperature = NAN, .top_p = 1.0f},
        {.temperature = INFINITY, .top_p = 1.0f}, {.temperature = 1.0f, .top_p = 0.0f},
        {.temperature = 1.0f, .top_p = -1.0f},    {.temperature = 1.0f, .top_p = NAN},
        {.temperature = 1.0f, .top_p = 1.5f},     {.top_p = 1.0f, .min_p = -0.1f},
        {.top_p = 1.0f, .min_p = 1.1f},           {.top_p = 1.0f, .min_p = NAN},
        {.top_p = 1, .repetition_penalty = -1},   {.top_p = 1, .repetition_penalty = NAN},
        {.top_p = 1, .presence_penalty = NAN},    {.top_p = 1, .frequency_penalty = INFINITY},
    };
    struct engine_sampling good = {.temperature = 0.0f,
                                   .top_k = UINT32_MAX,
                                   .top_p = 1.0f,
                                   .min_p = 1.0f,
                                   .repetition_penalty = 1e-30f,
                                   .presence_penalty = -2.0f,
                                   .frequency_penalty = 2.0f};

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(engine_sampling_check(&bad[i]), TD_INVALID);
    assert_int_equal(engine_sampling_check(&good), TD_OK);
}

#define WITH_SAMPLER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(philox_gives_the_published_answers),
        cmocka_unit_test(the_exponential_is_right_to_a_float),
        WITH_SAMPLER(greedy_takes_the_best_and_of_equals_the_lowest_id),
        WITH_SAMPLER(greedy_works_where_all_are_very_negative_but_one),
        WITH_SAMPLER(logits_without_a_finite_best_are_an_error),
        WITH_SAMPLER(exactly_the_tokens_within_top_k_and_top_p_are_drawn),
        WITH_SAMPLER(top_k_of_one_is_greedy),
        WITH_SAMPLER(top_k_keeps_exactly_k_of_equal_ones),
        WITH_SAMPLER(top_p_keeps_as_few_of_equal_ones_as_it_needs),
        WITH_SAMPLER(a_tiny_top_p_leaves_the_best_one),
        WITH_SAMPLER(min_p_keeps_what_is_near_the_best),
        WITH_SAMPLER(min_p_of_one_leaves_the_best_ones),
        WITH_SAMPLER(min_p_comes_before_top_p),
        WITH_SAMPLER(extreme_temperatures_do_no_harm),
        WITH_SAMPLER(draws_follow_the_distribution),
        WITH_SAMPLER(seeds_and_choices_are_independent_streams),
        WITH_SAMPLER(a_draw_depends_on_seed_choice_and_index_alone),
        WITH_SAMPLER(draws_are_the_same_on_every_machine),
        cmocka_unit_test(bad_parameters_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
