/*
 * test_sample_sets.c: every instruction set's passes over logits against plain C, and whole draws against the
 * definition in sample.h, done the slow way: weigh everything, sort, cut, add up.
 */
#include "tests/support/support.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/logits/exponential.h"
#include "engine/sample.h"
#include "lib/base/random.h"

#define VOCAB_MAX 3000
#define WHOLE     ((double)(UINT64_C(1) << ENGINE_WEIGHT_BITS))

__extension__ typedef unsigned __int128 uint128;

/* ---- the definition ---- */

struct plain {
    uint32_t id;
    float logit;
    uint64_t weight;
};

static int by_rank(const void *left, const void *right)
{
    const struct plain *a = left;
    const struct plain *b = right;

    if (a->logit != b->logit)
        return a->logit > b->logit ? -1 : 1;
    return a->id < b->id ? -1 : 1;
}

static int by_id(const void *left, const void *right)
{
    const struct plain *a = left;
    const struct plain *b = right;

    return a->id < b->id ? -1 : 1;
}

static uint64_t sum_of(const struct plain *tokens, uint32_t count)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < count; i++)
        sum += tokens[i].weight;
    return sum;
}

static void cut_share(struct plain *tokens, uint32_t count, float top_p)
{
    uint64_t total = sum_of(tokens, count);
    uint64_t goal = (uint64_t)((double)top_p * (double)total);
    uint64_t above = 0;

    goal = goal == 0 ? 1 : goal > total ? total : goal;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t weight = tokens[i].weight;

        if (above >= goal)
            tokens[i].weight = 0;
        above += weight;
    }
}

static uint32_t defined_token(const float *logits, uint32_t vocab,
                              const struct engine_sampling *sampling, uint32_t index)
{
    static struct plain tokens[VOCAB_MAX];
    uint32_t counter[4] = {index, sampling->choice, 0, 0};
    uint32_t key[2] = {(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)};
    uint32_t words[4];
    uint64_t point;
    uint32_t at = 0;

    for (uint32_t id = 0; id < vocab; id++)
        tokens[id] = (struct plain){.id = id, .logit = isnan(logits[id]) ? -INFINITY : logits[id]};
    qsort(tokens, vocab, sizeof *tokens, by_rank);
    if (sampling->temperature == 0.0f)
        return tokens[0].id;
    for (uint32_t i = 0; i < vocab; i++) {
        float x = (tokens[i].logit - tokens[0].logit) / sampling->temperature;

        tokens[i].weight = (uint64_t)((double)logits_exp(x) * WHOLE);
        if ((double)tokens[i].weight < floor((double)sampling->min_p * WHOLE) ||
            (sampling->top_k > 0 && i >= sampling->top_k))
            tokens[i].weight = 0;
    }
    if (sampling->top_p < 1.0f)
        cut_share(tokens, vocab, sampling->top_p);
    engine_philox(counter, key, words);
    point =
        (uint64_t)((uint128)((uint64_t)words[0] << 32 | words[1]) * sum_of(tokens, vocab) >> 64);
    qsort(tokens, vocab, sizeof *tokens, by_id);
    while (point >= tokens[at].weight)
        point -= tokens[at++].weight;
    return at;
}

/* ---- inputs ---- */

enum kind { BELL, TIED, PEAKED, HOLES, NEAR, HUGE_ONES, EQUAL, ZEROS, KIND_COUNT };

static float one_logit(struct td_rng *rng, enum kind kind)
{
    static const float holes[] = {NAN, -INFINITY, -FLT_MAX, -0.0f, 0.0f, 1e-42f, -1e-42f};
    float wide = (float)(8 * (td_rng_unit(rng) + td_rng_unit(rng) + td_rng_unit(rng) - 1.5));

    switch (kind) {
    case TIED: return floorf(wide);
    case PEAKED: return td_rng_below(rng, 40) == 0 ? wide + 20.0f : wide;
    case HOLES: return td_rng_below(rng, 2) == 0 ? holes[td_rng_below(rng, 7)] : wide;
    case NEAR: /* neighbours among the floats, where an exponential may not rise */
        return 5.0f + (float)td_rng_below(rng, 64) * 4.7683716e-7f;
    case HUGE_ONES: return (float)(6.8e38 * (td_rng_unit(rng) - 0.5));
    case EQUAL: return -3.25f;
    case ZEROS: return td_rng_below(rng, 2) == 0 ? 0.0f : -0.0f;
    default: return wide;
    }
}

static void fill(struct td_rng *rng, enum kind kind, float *logits, uint32_t vocab)
{
    for (uint32_t i = 0; i < vocab; i++)
        logits[i] = one_logit(rng, kind);
    logits[td_rng_below(rng, vocab)] = 6.0f; /* something finite */
}

static uint32_t any_vocab(struct td_rng *rng)
{
    static const uint32_t edges[] = {1, 2, 15, 16, 17, 255, 256, 257, 511, 512, 513, 2048};

    if (td_rng_below(rng, 2) == 0)
        return edges[td_rng_below(rng, sizeof edges / sizeof edges[0])];
    return 1 + (uint32_t)td_rng_below(rng, VOCAB_MAX);
}

static struct engine_sampling any_sampling(struct td_rng *rng)
{
    static const float temperatures[] = {0.0f, 1e-45f, 1e-42f, 1e-3f, 0.3f,
                                         0.7f, 1.0f,   2.0f,   3e38f};
    static const float top_ps[] = {1.0f, 1.0f, 0.9f, 0.5f, 0.999f, 1e-30f, 0.05f};
    static const float min_ps[] = {0.0f, 0.0f, 0.05f, 0.5f, 1.0f, 1e-9f, 1e-20f, 0.25f};
    static const uint32_t top_ks[] = {0, 0, 1, 2, 3, 8, 20, 50, 500, 2999, UINT32_MAX};

    return (struct engine_sampling){
        .temperature = temperatures[td_rng_below(rng, 9)],
        .top_p = top_ps[td_rng_below(rng, 7)],
        .min_p = min_ps[td_rng_below(rng, 8)],
        .top_k = top_ks[td_rng_below(rng, 11)],
        .seed = td_rng_next(rng),
        .choice = (uint32_t)td_rng_below(rng, 3),
    };
}

/* ---- tests ---- */

static void every_set_draws_what_is_defined(void **state)
{
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t set_count = engine_logits_available(sets);
    static float logits[VOCAB_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 77);
    for (uint32_t round = 0; round < 1500; round++) {
        uint32_t vocab = any_vocab(&rng);
        struct engine_sampler sampler;

        fill(&rng, (enum kind)(round % KIND_COUNT), logits, vocab);
        assert_int_equal(engine_sampler_init(&sampler, vocab), TD_OK);
        for (uint32_t index = 0; index < 4; index++) {
            struct engine_sampling sampling = any_sampling(&rng);
            uint32_t expected = defined_token(logits, vocab, &sampling, index);

            for (uint32_t set = 0; set < set_count; set++) {
                struct engine_history history = {.count = index};
                uint32_t token = UINT32_MAX;

                sampler.ops = sets[set];
                assert_int_equal(engine_sample(&sampler, logits, &sampling, &history, &token),
                                 TD_OK);
                if (token != expected)
                    print_message("round %u, %s: temperature %g, top_k %u, top_p %g, min_p %g\n",
                                  round, sets[set]->name, (double)sampling.temperature,
                                  sampling.top_k, (double)sampling.top_p, (double)sampling.min_p);
                assert_int_equal(token, expected);
            }
        }
        engine_sampler_fini(&sampler);
    }
}

/* Many draws from one vector: a weight that is off shows in the distribution at once. */
static void every_set_draws_the_same_again_and_again(void **state)
{
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t set_count = engine_logits_available(sets);
    const struct engine_sampling sampling = {.temperature = 1.3f, .top_p = 0.97f, .seed = 5};
    static float logits[VOCAB_MAX];
    struct engine_sampler sampler;
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 78);
    fill(&rng, BELL, logits, VOCAB_MAX);
    assert_int_equal(engine_sampler_init(&sampler, VOCAB_MAX), TD_OK);
    for (uint32_t index = 0; index < 300; index++) {
        uint32_t expected = defined_token(logits, VOCAB_MAX, &sampling, index);
        struct engine_history history = {.count = index};

        for (uint32_t set = 0; set < set_count; set++) {
            uint32_t token = UINT32_MAX;

            sampler.ops = sets[set];
            assert_int_equal(engine_sample(&sampler, logits, &sampling, &history, &token), TD_OK);
            assert_int_equal(token, expected);
        }
    }
    engine_sampler_fini(&sampler);
}

static void assert_same_passes(const struct engine_logits *set, const float *logits, uint32_t count,
                               float least, float temperature)
{
    static float maxima[2][VOCAB_MAX];
    static uint32_t ids[2][VOCAB_MAX + ENGINE_LOGITS_SLACK];
    static float values[2][VOCAB_MAX + ENGINE_LOGITS_SLACK];
    static uint64_t weights[2][VOCAB_MAX];
    const struct engine_logits *sets[2] = {&engine_logits_reference, set};
    uint32_t tiles = (count + ENGINE_LOGITS_TILE - 1) / ENGINE_LOGITS_TILE;
    uint32_t found[2];
    uint64_t sums[2];
    float best = -INFINITY;

    for (uint32_t i = 0; i < count; i++)
        best = logits[i] > best ? logits[i] : best;
    for (int i = 0; i < 2; i++) {
        sets[i]->maxima(logits, count, maxima[i]);
        found[i] = sets[i]->collect(logits, count, least, 1000, ids[i], values[i]);
        sums[i] = sets[i]->weigh(logits, count, best, temperature, weights[i]);
        assert_int_equal(sets[i]->weigh(logits, count, best, temperature, NULL), sums[i]);
    }
    for (uint32_t i = 0; i < tiles; i++)
        assert_true(maxima[0][i] == maxima[1][i]); /* -0 may stand for 0 */
    assert_int_equal(found[0], found[1]);
    assert_memory_equal(ids[0], ids[1], found[0] * sizeof ids[0][0]);
    assert_memory_equal(values[0], values[1], found[0] * sizeof values[0][0]);
    assert_int_equal(sums[0], sums[1]);
    assert_memory_equal(weights[0], weights[1], count * sizeof weights[0][0]);
}

static void every_set_passes_as_plain_c_does(void **state)
{
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t set_count = engine_logits_available(sets);
    static float logits[VOCAB_MAX];
    struct td_rng rng;

    (void)state;
    if (set_count == 1)
        skip();
    td_rng_init(&rng, 79);
    for (uint32_t round = 0; round < 800; round++) {
        uint32_t count = any_vocab(&rng);
        float temperature = any_sampling(&rng).temperature;

        fill(&rng, (enum kind)(round % KIND_COUNT), logits, count);
        for (uint32_t set = 1; set < set_count; set++)
            assert_same_passes(sets[set], logits, count, logits[td_rng_below(&rng, count)],
                               temperature);
    }
}

/* All distances at which weights end, a float apart. */
static void weights_end_within_their_reach(void **state)
{
    static float logits[VOCAB_MAX];
    static uint64_t weights[VOCAB_MAX];

    (void)state;
    for (uint32_t i = 0; i < VOCAB_MAX; i++)
        logits[i] = -27.0f - (float)i * 0.001f;
    engine_logits_choose(NULL)->weigh(logits, VOCAB_MAX, 0.0f, 1.0f, weights);
    for (uint32_t i = 0; i < VOCAB_MAX; i++)
        assert_true(weights[i] == 0 || (double)logits[i] > -ENGINE_WEIGHT_REACH + 0.2);
    assert_int_equal(weights[0], 2);
}

static void sets_are_chosen_by_name(void **state)
{
    const struct engine_logits *sets[ENGINE_LOGITS_SETS_MAX];
    uint32_t count = engine_logits_available(sets);

    (void)state;
    for (uint32_t i = 0; i < count; i++)
        assert_ptr_equal(engine_logits_choose(sets[i]->name), sets[i]);
    assert_ptr_equal(engine_logits_choose(NULL), sets[count - 1]);
    assert_ptr_equal(engine_logits_choose("vnni"), sets[count - 1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_set_draws_what_is_defined),
        cmocka_unit_test(every_set_draws_the_same_again_and_again),
        cmocka_unit_test(every_set_passes_as_plain_c_does),
        cmocka_unit_test(weights_end_within_their_reach),
        cmocka_unit_test(sets_are_chosen_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
