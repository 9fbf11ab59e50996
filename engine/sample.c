/* sample.c: Philox, and the way from logits to a token; see sample.h. */
#include "engine/sample.h"

#include <assert.h>
#include <float.h>
#include <math.h> /* INFINITY; nothing of libm is called */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

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

/* The least weight that min_p leaves. The share is exact: a float times a power of two. */
static uint64_t least_weight(const struct engine_sampling *sampling)
{
    return (uint64_t)((double)sampling->min_p * (double)(UINT64_C(1) << ENGINE_WEIGHT_BITS));
}

/*
 * How many temperatures below the best a token can be and weigh so much: ln 2 for each halving that it takes to get
 * below that weight, and a margin for what the exponential rounds.
 */
static double reach_of_weight(uint64_t weight)
{
    double reach = 0.01;

    while (weight >> ENGINE_WEIGHT_BITS == 0 && reach < ENGINE_WEIGHT_REACH) {
        weight <<= 1;
        reach += 0.693148;
    }
    return reach < ENGINE_WEIGHT_REACH ? reach : ENGINE_WEIGHT_REACH;
}

struct engine_draw engine_draw_of(const struct engine_sampling *sampling, uint32_t vocab,
                                  uint32_t index)
{
    uint64_t least = sampling->min_p > 0.0f ? least_weight(sampling) : 0;

    return (struct engine_draw){
        .temperature = sampling->temperature,
        .top_p = sampling->top_p,
        .top_k = sampling->top_k < vocab ? sampling->top_k : 0,
        .is_greedy = sampling->temperature == 0.0f || sampling->top_k == 1,
        .reach = sampling->min_p > 0.0f ? reach_of_weight(least) : ENGINE_WEIGHT_REACH,
        .least_weight = least,
        .random = draw_bits(sampling, index),
        .wants_logprobs = sampling->wants_logprobs,
        .top_logprobs = sampling->top_logprobs,
    };
}

/* ---- which tokens count ---- */

/* Logits on their way to a token. */
struct draw {
    struct engine_sampler *sampler;
    const struct engine_draw *how;
    const float *logits;
    float best;  /* the greatest of them */
    float floor; /* what is below it cannot be drawn */
};

static uint32_t tile_count(uint32_t vocab)
{
    return (vocab + ENGINE_LOGITS_TILE - 1) / ENGINE_LOGITS_TILE;
}

static uint32_t tile_tokens(const struct engine_sampler *sampler, uint32_t first)
{
    return sampler->vocab - first < ENGINE_LOGITS_TILE ? sampler->vocab - first
                                                       : ENGINE_LOGITS_TILE;
}

/* The lowest id among the greatest logits; TD_INTERNAL if that is no finite number. */
static td_status_t find_best(struct engine_sampler *sampler, const float *logits,
                             uint32_t *best_out)
{
    uint32_t tile = 0;
    uint32_t id;
    float value;

    sampler->ops->maxima(logits, sampler->vocab, sampler->maxima);
    for (uint32_t i = 1; i < tile_count(sampler->vocab); i++)
        if (sampler->maxima[i] > sampler->maxima[tile])
            tile = i;
    value = sampler->maxima[tile];
    if (value < -FLT_MAX || value > FLT_MAX)
        return TD_INTERNAL;
    id = tile * ENGINE_LOGITS_TILE;
    while (logits[id] != value)
        id++;
    *best_out = id;
    return TD_OK;
}

/*
 * The least logit that may be so many temperatures below the best. Rounding to the nearest float is no
 * matter: it moves no other float to the other side.
 */
static float floor_at(const struct draw *draw, double reach)
{
    double floor = (double)draw->best - reach * (double)draw->how->temperature;

    return floor < -(double)FLT_MAX ? -FLT_MAX : (float)floor;
}

static float greater(float a, float b)
{
    return a > b ? a : b;
}

/* Makes the list of all tokens whose logit is at least the limit. */
static void list_from(const struct draw *draw, float least)
{
    struct engine_sampler *sampler = draw->sampler;
    struct engine_shortlist *list = &sampler->list;

    list->count = 0;
    for (uint32_t first = 0; first < sampler->vocab; first += ENGINE_LOGITS_TILE)
        if (sampler->maxima[first / ENGINE_LOGITS_TILE] >= least)
            list->count +=
                sampler->ops->collect(draw->logits + first, tile_tokens(sampler, first), least,
                                      first, list->ids + list->count, list->values + list->count);
}

static uint64_t weigh_list(const struct draw *draw)
{
    struct engine_shortlist *list = &draw->sampler->list;

    return draw->sampler->ops->weigh(list->values, list->count, draw->best, draw->how->temperature,
                                     list->weights);
}

/*
 * Where the tokens that are wanted end is not known, but mostly it is near the best one. So lists are tried
 * that reach farther and farther down, in temperatures, until everything of weight is listed.
 */
#define REACH_FIRST 4.0
#define REACH_STEP  2.0

/*
 * Lists the first k in rank, less those below the floor. If k tiles have a logit of at least some height,
 * k tokens have: a limit for which the list is hardly longer than k.
 */
static void list_first(const struct draw *draw, uint32_t k)
{
    struct engine_sampler *sampler = draw->sampler;
    uint32_t tiles = tile_count(sampler->vocab);
    double reach = REACH_FIRST;
    float limit;

    do {
        limit =
            k <= tiles ? engine_shortlist_kth(sampler->maxima, tiles, k) : floor_at(draw, reach);
        list_from(draw, greater(limit, draw->floor));
        reach += REACH_STEP;
    } while (sampler->list.count < k && limit > draw->floor);
    engine_shortlist_keep_first(&sampler->list, k);
}

/* Lists the fewest in rank that weigh so much together; returns their weight. */
static uint64_t list_share(const struct draw *draw, uint64_t goal)
{
    double reach = REACH_FIRST;
    float limit;

    do {
        limit = floor_at(draw, reach);
        list_from(draw, greater(limit, draw->floor));
        reach += REACH_STEP;
    } while (weigh_list(draw) < goal && limit > draw->floor);
    return engine_shortlist_keep_share(&draw->sampler->list, goal);
}

/* The weight of each tile, and of all. */
static uint64_t weigh_tiles(const struct draw *draw)
{
    struct engine_sampler *sampler = draw->sampler;
    uint64_t total = 0;

    for (uint32_t first = 0; first < sampler->vocab; first += ENGINE_LOGITS_TILE) {
        uint32_t tile = first / ENGINE_LOGITS_TILE;

        sampler->sums[tile] = 0;
        if (sampler->maxima[tile] >= draw->floor)
            sampler->sums[tile] =
                sampler->ops->weigh(draw->logits + first, tile_tokens(sampler, first), draw->best,
                                    draw->how->temperature, NULL);
        total += sampler->sums[tile];
    }
    return total;
}

/* The token in whose part of the line from 0 to the weight of all tiles the point lies. */
static uint32_t token_in_tiles(const struct draw *draw, uint64_t point)
{
    struct engine_sampler *sampler = draw->sampler;
    uint64_t *weights = sampler->list.weights;
    uint32_t tile = 0;
    uint32_t first;
    uint32_t i = 0;

    while (point >= sampler->sums[tile])
        point -= sampler->sums[tile++];
    first = tile * ENGINE_LOGITS_TILE;
    sampler->ops->weigh(draw->logits + first, tile_tokens(sampler, first), draw->best,
                        draw->how->temperature, weights);
    while (point >= weights[i])
        point -= weights[i++];
    return first + i;
}

/* ---- the draw ---- */

static uint64_t share_of(float top_p, uint64_t total)
{
    uint64_t goal = (uint64_t)((double)top_p * (double)total);

    return goal == 0 ? 1 : goal > total ? total : goal;
}

/* The point of a line that a draw hits. */
static uint64_t point_of(uint64_t random, uint64_t total)
{
    return (uint64_t)((uint128)random * total >> 64);
}

/* With neither top-k nor min_p all tokens count: no list is made, but of the best ones for top_p. */
static uint32_t draw_from_all(const struct draw *draw)
{
    float top_p = draw->how->top_p;
    uint64_t total = weigh_tiles(draw);

    if (top_p == 1.0f)
        return token_in_tiles(draw, point_of(draw->how->random, total));
    total = list_share(draw, share_of(top_p, total));
    return engine_shortlist_at(&draw->sampler->list, point_of(draw->how->random, total));
}

static uint32_t draw_from_list(const struct draw *draw)
{
    const struct engine_draw *how = draw->how;
    struct engine_shortlist *list = &draw->sampler->list;
    uint64_t total;

    if (how->top_k > 0)
        list_first(draw, how->top_k);
    else
        list_from(draw, draw->floor);
    total = weigh_list(draw);
    if (how->least_weight > 0)
        total = engine_shortlist_keep_heavy(list, how->least_weight);
    if (how->top_p < 1.0f)
        total = engine_shortlist_keep_share(list, share_of(how->top_p, total));
    return engine_shortlist_at(list, point_of(how->random, total));
}

static uint32_t draw_token(struct engine_sampler *sampler, const float *logits, float best,
                           const struct engine_draw *how)
{
    struct draw draw = {.sampler = sampler, .how = how, .logits = logits, .best = best};

    draw.floor = floor_at(&draw, how->reach);
    return how->least_weight > 0 || how->top_k > 0 ? draw_from_list(&draw) : draw_from_all(&draw);
}

static td_status_t draw_from(struct engine_sampler *sampler, const float *logits,
                             const struct engine_draw *how, uint32_t *token_out)
{
    uint32_t best;
    td_status_t status = find_best(sampler, logits, &best);

    if (status != TD_OK)
        return status;
    *token_out = how->is_greedy ? best : draw_token(sampler, logits, logits[best], how);
    return TD_OK;
}

static void apply_mask(const uint32_t *allowed, uint32_t vocab, float *logits)
{
    for (uint32_t id = 0; id < vocab; id++)
        if ((allowed[id / 32] >> id % 32 & 1) == 0)
            logits[id] = -INFINITY;
}

td_status_t engine_sample_by(struct engine_sampler *sampler, const float *logits,
                             const struct engine_draw *draw, uint32_t *token_out)
{
    const struct engine_changes *changes = &draw->changes;
    float *changed = sampler->penalised;

    if (changes->bias_count + changes->seen_count == 0 && draw->allowed == NULL)
        return draw_from(sampler, logits, draw, token_out);
    memcpy(changed, logits, sampler->vocab * sizeof *logits);
    engine_changes_apply(changes, changed);
    if (draw->allowed != NULL)
        apply_mask(draw->allowed, sampler->vocab, changed);
    return draw_from(sampler, changed, draw, token_out);
}

td_status_t engine_sample(struct engine_sampler *sampler, const float *logits,
                          const struct engine_sampling *sampling,
                          const struct engine_history *history, uint32_t *token_out)
{
    struct engine_draw how =
        engine_draw_of(sampling, sampler->vocab, history->count - history->prompt_count);

    if (engine_penalty_wanted(sampling)) {
        memcpy(sampler->penalised, logits, sampler->vocab * sizeof *logits);
        engine_penalize(sampling, history, sampler->counts, sampler->penalised);
        logits = sampler->penalised;
    }
    return draw_from(sampler, logits, &how, token_out);
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

    if (!good || sampling->bias_count > ENGINE_BIASES_MAX ||
        sampling->top_logprobs > ENGINE_TOP_LOGPROBS_MAX)
        return TD_INVALID;
    for (uint32_t i = 0; i < sampling->bias_count; i++)
        if (!is_within(sampling->biases[i].value, -FLT_MAX, FLT_MAX))
            return TD_INVALID;
    return TD_OK;
}

td_status_t engine_sampler_init(struct engine_sampler *sampler, uint32_t vocab)
{
    td_status_t status;

    assert(vocab > 0 && vocab <= ENGINE_VOCAB_MAX);
    *sampler = (struct engine_sampler){
        .vocab = vocab,
        .ops = engine_logits_choose(getenv("TANDEM_CPU")),
        .maxima = calloc(tile_count(vocab), sizeof *sampler->maxima),
        .sums = calloc(tile_count(vocab), sizeof *sampler->sums),
        .penalised = calloc(vocab, sizeof *sampler->penalised),
        .counts = calloc(vocab, sizeof *sampler->counts),
    };
    status = engine_shortlist_init(&sampler->list, vocab + ENGINE_LOGITS_SLACK);
    if (status == TD_OK && sampler->maxima != NULL && sampler->sums != NULL &&
        sampler->penalised != NULL && sampler->counts != NULL)
        return TD_OK;
    engine_sampler_fini(sampler);
    return TD_NO_MEMORY;
}

void engine_sampler_fini(struct engine_sampler *sampler)
{
    engine_shortlist_fini(&sampler->list);
    free(sampler->maxima);
    free(sampler->sums);
    free(sampler->penalised);
    free(sampler->counts);
    *sampler = (struct engine_sampler){0};
}
