/* sample.c: Philox, an exponential, radix selection and the draw; see sample.h. */
#include "engine/sample.h"

#include <assert.h>
#include <float.h>
#include <math.h> /* INFINITY; nothing of libm is called */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHT_BITS 40 /* weight of the best token: 2^40; a vocabulary of 2^20 sums to below 2^60 */

__extension__ typedef unsigned __int128 uint128;

/* ---- generator ---- */

#define PHILOX_ROUNDS 10

void engine_philox(const uint32_t counter[static 4], const uint32_t key[static 2],
                   uint32_t out[static 4])
{
    uint32_t c0 = counter[0];
    uint32_t c1 = counter[1];
    uint32_t c2 = counter[2];
    uint32_t c3 = counter[3];
    uint32_t k0 = key[0];
    uint32_t k1 = key[1];

    for (int round = 0; round < PHILOX_ROUNDS; round++) {
        uint64_t product0 = UINT64_C(0xD2511F53) * c0;
        uint64_t product1 = UINT64_C(0xCD9E8D57) * c2;

        c0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)product1;
        c2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)product0;
        k0 += UINT32_C(0x9E3779B9);
        k1 += UINT32_C(0xBB67AE85);
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

/* 64 random bits for one draw. */
static uint64_t draw_bits(const struct engine_sampling *sampling, uint32_t index)
{
    uint32_t counter[4] = {index, sampling->choice, 0, 0};
    uint32_t key[2] = {(uint32_t)sampling->seed, (uint32_t)(sampling->seed >> 32)};
    uint32_t out[4];

    engine_philox(counter, key, out);
    return (uint64_t)out[0] << 32 | out[1];
}

/* ---- weights ---- */

/* 2^n for -126 <= n <= 127. */
static float power_of_two(int n)
{
    uint32_t bits = (uint32_t)(n + 127) << 23;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * exp(x) = 2^n * exp(r) with |r| <= ln(2)/2; exp(r) by its Taylor polynomial of degree 7, whose
 * error (r^8/8! < 6e-9) is below half a unit of float. ln(2) is split in two so that r is exact.
 */
float engine_exp(float x)
{
    const float log2e = 1.44269504f;
    const float ln2_high = 0.693145752f; /* 16 bits: n * ln2_high is exact */
    const float ln2_low = 1.42860677e-6f;
    float n;
    float r;
    float p;

    if (!(x > -87.0f)) /* NaN too */
        return 0.0f;
    n = (float)(int)(x * log2e - 0.5f);
    r = (x - n * ln2_high) - n * ln2_low;
    p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * power_of_two((int)n);
}

static uint64_t weight_of(float logit, float best, float temperature)
{
    float p = engine_exp((logit - best) / temperature);

    return (uint64_t)(p * (float)(UINT64_C(1) << WEIGHT_BITS));
}

/* An integer that is ordered as the float is; NaN is below everything. */
static uint32_t order_of(float value)
{
    uint32_t bits;

    if (value != value)
        return 0;
    value += 0.0f; /* -0 and 0 are equal */
    memcpy(&bits, &value, sizeof bits);
    return bits & UINT32_C(0x80000000) ? ~bits : bits | UINT32_C(0x80000000);
}

/* ---- selection ---- */

/*
 * The rank limit between kept and dropped tokens: kept are those above `order`, and the first `ties`
 * (by id) of those equal to it.
 */
struct limit {
    uint32_t order;
    uint32_t ties;
};

static bool keeps(struct limit *limit, uint32_t order)
{
    if (order != limit->order)
        return order > limit->order;
    if (limit->ties == 0)
        return false;
    limit->ties--;
    return true;
}

#define RADIX_BITS 11
#define RADIX_BINS (1 << RADIX_BITS)

/* What is summed up from the best token downwards until it reaches the goal. */
struct selection {
    const struct engine_sampler *sampler;
    bool by_weight; /* else by count */
    uint64_t goal;  /* at least 1 */
};

static uint64_t measure(const struct selection *selection, uint32_t id)
{
    return selection->by_weight ? selection->sampler->weights[id] : 1;
}

/* How many tokens of equal rank it takes to make up for what is left of the goal. */
static uint32_t ties_for(const struct selection *selection, uint32_t order, uint64_t left)
{
    const struct engine_sampler *sampler = selection->sampler;
    uint64_t each = 0;

    /* Equal logits have equal weights, but those that top-k dropped have none: they come last. */
    for (uint32_t id = 0; id < sampler->vocab && each == 0; id++)
        if (sampler->order[id] == order)
            each = measure(selection, id);
    assert(each > 0);
    return (uint32_t)((left + each - 1) / each);
}

/*
 * Finds the token at which the sum reaches the goal: three passes over 11, 11 and 10 bits of the
 * order, each of which narrows the search to one bin.
 */
static struct limit select_limit(const struct selection *selection)
{
    const struct engine_sampler *sampler = selection->sampler;
    uint64_t left = selection->goal;
    uint32_t prefix = 0;
    uint32_t known = 0; /* mask of the bits of prefix that are decided */
    static const int shifts[] = {21, 10, 0};

    for (int pass = 0; pass < 3; pass++) {
        uint64_t bins[RADIX_BINS] = {0};
        uint32_t mask = pass == 2 ? (1U << 10) - 1 : RADIX_BINS - 1;
        uint32_t bin = mask;

        for (uint32_t id = 0; id < sampler->vocab; id++)
            if ((sampler->order[id] & known) == prefix)
                bins[sampler->order[id] >> shifts[pass] & mask] += measure(selection, id);
        while (bins[bin] < left) {
            assert(bin > 0); /* the goal is at most the sum of all */
            left -= bins[bin--];
        }
        prefix |= bin << shifts[pass];
        known |= mask << shifts[pass];
    }
    return (struct limit){.order = prefix, .ties = ties_for(selection, prefix, left)};
}

/* Takes the weight of all tokens beyond the limit; returns the sum of what is left. */
static uint64_t cut(struct engine_sampler *sampler, struct limit limit)
{
    uint64_t total = 0;

    for (uint32_t id = 0; id < sampler->vocab; id++) {
        if (!keeps(&limit, sampler->order[id]))
            sampler->weights[id] = 0;
        total += sampler->weights[id];
    }
    return total;
}

static uint64_t cut_top_k(struct engine_sampler *sampler, uint32_t top_k)
{
    struct selection selection = {.sampler = sampler, .goal = top_k};

    return cut(sampler, select_limit(&selection));
}

static uint64_t cut_top_p(struct engine_sampler *sampler, float top_p, uint64_t total)
{
    uint64_t goal = (uint64_t)((double)top_p * (double)total);
    struct selection selection = {.sampler = sampler, .by_weight = true};

    selection.goal = goal == 0 ? 1 : goal > total ? total : goal;
    return cut(sampler, select_limit(&selection));
}

/* The share is exact: a float times a power of two. The best token always stays. */
static uint64_t cut_min_p(struct engine_sampler *sampler, float min_p)
{
    uint64_t least = (uint64_t)((double)min_p * (double)(UINT64_C(1) << WEIGHT_BITS));
    uint64_t total = 0;

    for (uint32_t id = 0; id < sampler->vocab; id++) {
        if (sampler->weights[id] < least)
            sampler->weights[id] = 0;
        total += sampler->weights[id];
    }
    return total;
}

/* ---- the draw ---- */

/* The lowest id among the greatest logits; TD_INTERNAL if that is no finite number. */
static td_status_t find_best(const float *logits, uint32_t vocab, uint32_t *best_out)
{
    uint32_t best = 0;
    float value = -INFINITY;

    for (uint32_t id = 0; id < vocab; id++) {
        if (logits[id] > value) {
            best = id;
            value = logits[id];
        }
    }
    if (value < -FLT_MAX || value > FLT_MAX)
        return TD_INTERNAL;
    *best_out = best;
    return TD_OK;
}

static uint64_t weigh(struct engine_sampler *sampler, const float *logits, float best,
                      float temperature)
{
    uint64_t total = 0;

    for (uint32_t id = 0; id < sampler->vocab; id++) {
        sampler->order[id] = order_of(logits[id]);
        sampler->weights[id] = weight_of(logits[id], best, temperature);
        total += sampler->weights[id];
    }
    return total;
}

/* The token in whose share of the line from 0 to total the point lies. */
static uint32_t token_at(const struct engine_sampler *sampler, uint64_t point)
{
    uint32_t id = 0;

    while (point >= sampler->weights[id]) {
        point -= sampler->weights[id++];
        assert(id < sampler->vocab);
    }
    return id;
}

td_status_t engine_sample(struct engine_sampler *sampler, const float *logits,
                          const struct engine_sampling *sampling,
                          const struct engine_history *history, uint32_t *token_out)
{
    uint32_t index = history->count - history->prompt_count;
    uint32_t best;
    uint64_t total;
    td_status_t status;

    if (engine_penalty_wanted(sampling)) {
        memcpy(sampler->penalised, logits, sampler->vocab * sizeof *logits);
        engine_penalize(sampling, history, sampler->counts, sampler->penalised);
        logits = sampler->penalised;
    }
    status = find_best(logits, sampler->vocab, &best);
    if (status != TD_OK)
        return status;
    if (sampling->temperature == 0.0f || sampling->top_k == 1) {
        *token_out = best;
        return TD_OK;
    }
    total = weigh(sampler, logits, logits[best], sampling->temperature);
    if (sampling->min_p > 0.0f)
        total = cut_min_p(sampler, sampling->min_p);
    if (sampling->top_k > 0 && sampling->top_k < sampler->vocab)
        total = cut_top_k(sampler, sampling->top_k);
    if (sampling->top_p < 1.0f)
        total = cut_top_p(sampler, sampling->top_p, total);
    *token_out = token_at(sampler, (uint64_t)((uint128)draw_bits(sampling, index) * total >> 64));
    return TD_OK;
}

/* False for NaN. */
static bool is_within(float value, float min, float max)
{
    return value >= min && value <= max;
}

td_status_t engine_sampling_check(const struct engine_sampling *sampling)
{
    bool good = is_within(sampling->temperature, 0.0f, FLT_MAX) &&
                is_within(sampling->top_p, 0.0f, 1.0f) && sampling->top_p > 0.0f &&
                is_within(sampling->min_p, 0.0f, 1.0f) &&
                is_within(sampling->repetition_penalty, 0.0f, FLT_MAX) &&
                is_within(sampling->presence_penalty, -FLT_MAX, FLT_MAX) &&
                is_within(sampling->frequency_penalty, -FLT_MAX, FLT_MAX);

    if (!good || sampling->bias_count > ENGINE_BIASES_MAX)
        return TD_INVALID;
    for (uint32_t i = 0; i < sampling->bias_count; i++)
        if (!is_within(sampling->biases[i].value, -FLT_MAX, FLT_MAX))
            return TD_INVALID;
    return TD_OK;
}

td_status_t engine_sampler_init(struct engine_sampler *sampler, uint32_t vocab)
{
    assert(vocab > 0 && vocab <= ENGINE_VOCAB_MAX);
    sampler->vocab = vocab;
    sampler->order = calloc(vocab, sizeof *sampler->order);
    sampler->weights = calloc(vocab, sizeof *sampler->weights);
    sampler->penalised = calloc(vocab, sizeof *sampler->penalised);
    sampler->counts = calloc(vocab, sizeof *sampler->counts);
    if (sampler->order != NULL && sampler->weights != NULL && sampler->penalised != NULL &&
        sampler->counts != NULL)
        return TD_OK;
    engine_sampler_fini(sampler);
    return TD_NO_MEMORY;
}

void engine_sampler_fini(struct engine_sampler *sampler)
{
    free(sampler->order);
    free(sampler->weights);
    free(sampler->penalised);
    free(sampler->counts);
    *sampler = (struct engine_sampler){0};
}
