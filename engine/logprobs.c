/* logprobs.c: see logprobs.h. */
#include "engine/logprobs.h"

#include <assert.h>
#include <float.h>

#include "engine/logits/logarithm.h"

static uint32_t tile_count(const struct engine_sampler *sampler)
{
    return (sampler->vocab + ENGINE_LOGITS_TILE - 1) / ENGINE_LOGITS_TILE;
}

static float greatest(const struct engine_sampler *sampler)
{
    float best = sampler->maxima[0];

    for (uint32_t i = 1; i < tile_count(sampler); i++)
        best = sampler->maxima[i] > best ? sampler->maxima[i] : best;
    return best;
}

/* Puts the first in rank on the list. If that many tiles have a logit of some height, so many tokens have. */
static void list_first(struct engine_sampler *sampler, const float *logits, uint32_t wanted)
{
    struct engine_shortlist *list = &sampler->list;
    uint32_t tiles = tile_count(sampler);
    float least = -FLT_MAX;

    if (wanted <= tiles) {
        float limit = engine_shortlist_kth(sampler->maxima, tiles, wanted);

        least = limit > least ? limit : least;
    }
    list->count = 0;
    for (uint32_t tile = 0; tile < tiles; tile++) {
        uint32_t first = tile * ENGINE_LOGITS_TILE;
        uint32_t left = sampler->vocab - first;

        if (sampler->maxima[tile] >= least)
            list->count += sampler->ops->collect(
                logits + first, left < ENGINE_LOGITS_TILE ? left : ENGINE_LOGITS_TILE, least, first,
                list->ids + list->count, list->values + list->count);
    }
    engine_shortlist_keep_first(list, wanted);
}

/* Takes what is listed, by rising ids, over in order of rank. */
static void take_ranked(const struct engine_shortlist *list, struct engine_logprobs *out)
{
    for (uint32_t i = 0; i < list->count; i++) {
        uint32_t place = i;

        for (; place > 0 && out->top[place - 1].value < list->values[i]; place--)
            out->top[place] = out->top[place - 1];
        out->top[place] = (struct engine_logprob){.token = list->ids[i], .value = list->values[i]};
    }
    out->count = list->count;
}

td_status_t engine_logprobs_of(struct engine_sampler *sampler, const float *logits, uint32_t token,
                               uint32_t wanted, struct engine_logprobs *out)
{
    float best;
    uint64_t sum;

    assert(wanted <= ENGINE_TOP_LOGPROBS_MAX && token < sampler->vocab);
    sampler->ops->maxima(logits, sampler->vocab, sampler->maxima);
    best = greatest(sampler);
    if (best > FLT_MAX)
        return TD_INTERNAL;
    sum = sampler->ops->weigh(logits, sampler->vocab, best, 1.0f, NULL);
    out->count = 0;
    if (wanted > 0) {
        list_first(sampler, logits, wanted);
        take_ranked(&sampler->list, out);
    }
    out->chosen = logits_logprob(logits[token], best, sum);
    for (uint32_t i = 0; i < out->count; i++)
        out->top[i].value = logits_logprob(out->top[i].value, best, sum);
    return TD_OK;
}
