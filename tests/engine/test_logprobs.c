/*
 * test_logprobs.c: log-probabilities against the C library's doubles, the same bits from every instruction set, and what is
 * ranked.
 */
#include "tests/support/support.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/logits/logarithm.h"
#include "engine/logprobs.h"
#include "lib/base/random.h"

#define VOCAB_MAX 9000

static float logits[VOCAB_MAX];

static void fill(struct td_rng *rng, uint32_t vocab, uint32_t kind)
{
    for (uint32_t i = 0; i < vocab; i++) {
        double unit = td_rng_unit(rng);

        logits[i] = (float)(20 * unit - 10);
        if (kind == 1)
            logits[i] = 0.001f * logits[i]; /* flat */
        if (kind == 2)
            logits[i] = floorf(logits[i]); /* ties */
        if (kind == 3 && unit < 0.5)
            logits[i] = unit < 0.25 ? -INFINITY : (float)NAN;
        if (kind == 4)
            logits[i] *= 1e6f;
    }
    if (kind == 3)
        logits[vocab / 2] = 3;
}

static double exact_sum(uint32_t vocab)
{
    double best = -INFINITY;
    double sum = 0;

    for (uint32_t i = 0; i < vocab; i++)
        best = logits[i] > best ? (double)logits[i] : best;
    for (uint32_t i = 0; i < vocab; i++)
        if (logits[i] >= -FLT_MAX)
            sum += exp((double)logits[i] - best);
    return best + log(sum);
}

/* How many rank before a token; UINT32_MAX: it is not ranked. */
static uint32_t rank_of(uint32_t vocab, uint32_t token)
{
    uint32_t rank = 0;

    if (!(logits[token] >= -FLT_MAX))
        return UINT32_MAX;
    for (uint32_t i = 0; i < vocab; i++)
        rank += logits[i] > logits[token] || (logits[i] == logits[token] && i < token);
    return rank;
}

static void check(const struct engine_logprobs *found, uint32_t vocab, uint32_t token,
                  uint32_t wanted)
{
    double sum = exact_sum(vocab);
    uint32_t ranked = 0;

    for (uint32_t i = 0; i < vocab; i++)
        ranked += logits[i] >= -FLT_MAX;
    assert_int_equal(found->count, ranked < wanted ? ranked : wanted);
    for (uint32_t i = 0; i < found->count; i++) {
        double exact = (double)logits[found->top[i].token] - sum;

        assert_int_equal(rank_of(vocab, found->top[i].token), i);
        assert_true(fabs((double)found->top[i].value - exact) <= 1e-6 + fabs(exact) * 1e-7);
    }
    assert_true(fabs((double)found->chosen - ((double)logits[token] - sum)) <=
                1e-6 + fabs((double)logits[token] - sum) * 1e-7);
    assert_true(found->chosen <= 0);
}

static void values_are_those_of_doubles(void **state)
{
    static const uint32_t vocabs[] = {1, 2, 19, 256, 300, 5000, 5120, 5121, VOCAB_MAX};
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t set_count = engine_logits_available(sets);
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 5);
    for (size_t v = 0; v < sizeof vocabs / sizeof vocabs[0]; v++) {
        struct engine_sampler sampler;

        assert_int_equal(engine_sampler_init(&sampler, vocabs[v]), TD_OK);
        for (uint32_t round = 0; round < 30; round++) {
            uint32_t wanted = (uint32_t)td_rng_below(&rng, ENGINE_TOP_LOGPROBS_MAX + 1);
            uint32_t token = (uint32_t)td_rng_below(&rng, vocabs[v]);
            struct engine_logprobs first = {0};

            fill(&rng, vocabs[v], round % 5);
            if (!(logits[token] >= -FLT_MAX))
                token = vocabs[v] / 2;
            for (uint32_t set = 0; set < set_count; set++) {
                struct engine_logprobs found = {0};

                sampler.ops = sets[set];
                assert_int_equal(engine_logprobs_of(&sampler, logits, token, wanted, &found),
                                 TD_OK);
                if (set == 0)
                    first = found;
                assert_memory_equal(&found, &first, sizeof found);
            }
            check(&first, vocabs[v], token, wanted);
        }
        engine_sampler_fini(&sampler);
    }
}

/* What is beyond a float is the least of them; a certain token has 0, whatever its zero's sign. */
static void extremes_are_finite(void **state)
{
    struct engine_sampler sampler;
    struct engine_logprobs found;
    const float zero = 0;

    (void)state;
    assert_int_equal(engine_sampler_init(&sampler, 3), TD_OK);
    memcpy(logits, (const float[]){-FLT_MAX, FLT_MAX, -INFINITY}, 3 * sizeof(float));
    assert_int_equal(engine_logprobs_of(&sampler, logits, 0, 3, &found), TD_OK);
    assert_int_equal(found.count, 2);
    assert_true(found.chosen == -FLT_MAX && found.top[1].value == -FLT_MAX);
    assert_true(found.top[0].token == 1 && found.top[0].value == 0.0f);
    memcpy(logits, (const float[]){-0.0f, -INFINITY, NAN}, 3 * sizeof(float));
    assert_int_equal(engine_logprobs_of(&sampler, logits, 0, 1, &found), TD_OK);
    assert_memory_equal(&found.chosen, &zero, sizeof zero);
    assert_memory_equal(&found.top[0].value, &zero, sizeof zero);
    memcpy(logits, (const float[]){1, INFINITY, 2}, 3 * sizeof(float));
    assert_int_equal(engine_logprobs_of(&sampler, logits, 0, 1, &found), TD_INTERNAL);
    engine_sampler_fini(&sampler);
}

static void the_logarithm_is_right(void **state)
{
    (void)state;
    assert_true(logits_log(1.0) == 0.0);
    for (double x = 1.0; x < 2e6; x *= 1.0037)
        assert_true(fabs(logits_log(x) - log(x)) <= 4e-16 * (1 + log(x)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_those_of_doubles),
        cmocka_unit_test(extremes_are_finite),
        cmocka_unit_test(the_logarithm_is_right),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
