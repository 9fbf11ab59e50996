/*
 * sample.h: drawing tokens from logits where they lie: the tokens that engine/sample.h draws, to the last tie, behind biases
 * and penalties.
 *
 * Weights are whole numbers, so sums have no order, and all that counts is which tokens are kept: those from a limit on,
 * and of those that are equal to the limit the first ones. Limits are found by radix selection over the bits of logits,
 * eight at a time. One pass over all logits notes the greatest of each tile of 256 (peaks); later ones look only into
 * tiles that reach the limit. A block draws for one row.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_SAMPLE_H
#define TANDEM_ENGINE_CUDA_KERNELS_SAMPLE_H

#include "engine/cuda/kernels/tensor.h"
#include "engine/logits/change.h"
#include "engine/logits/exponential.h"
#include "engine/logits/logarithm.h"

#define SAMPLE_WARPS     (CUDA_DRAW_THREADS / SIMT_WARP)
#define SAMPLE_BINS      256
#define SAMPLE_RANGE_MAX 128 /* tiles of a warp: a vocabulary has 2^20 tokens at most */
#define SAMPLE_REACH_FIRST \
    4.0 /* in temperatures below the best; tokens that are wanted are mostly near it */
#define SAMPLE_REACH_STEP 2.0
#define SAMPLE_REACH_MAX  28.0        /* ENGINE_WEIGHT_REACH */
#define SAMPLE_NOTHING    0x007fffffu /* the order of minus infinity */

/* What a token counts in a sum. */
enum sample_measure {
    SAMPLE_COUNT,  /* 1 if it is kept */
    SAMPLE_TIES,   /* 1 if it is kept and equal to the limit */
    SAMPLE_WEIGHT, /* its weight if it is kept and weighs enough */
    SAMPLE_PEAKS,  /* 1 for each tile, of the peaks */
};

/* Of a block. */
struct sample_shared {
    uint64_t bins[SAMPLE_BINS];
    uint64_t warps[SAMPLE_WARPS];
    uint64_t range[SAMPLE_RANGE_MAX];
    uint64_t total;
    uint64_t left;
    uint32_t bin;
    uint32_t greatest;
    uint32_t least;
};

/* Of a block too: the likeliest tokens. */
struct survey_shared {
    uint32_t count;
    uint32_t tokens[CUDA_TOP_MAX];
    uint32_t orders[CUDA_TOP_MAX];
};

/* The same in every thread. */
struct sample {
    struct sample_shared *shared;
    struct cuda_draw draw;
    const float *logits;
    const float *peaks;
    uint32_t vocab;
    uint32_t tiles;
    uint32_t range; /* tiles of a warp, which are neighbours */
    float best;
    uint32_t limit;    /* kept are tokens of higher order, */
    uint32_t last_tie; /* and of that order those up to this id */
};

/* ------------------------------------------------------------------ logits and weights */

/* An integer that is ordered as the float is; equal zeros. */
SIMT_INLINE uint32_t sample_order(float value)
{
    uint32_t bits;

    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

SIMT_INLINE float sample_value(uint32_t order)
{
    uint32_t bits = (order & 0x80000000u) != 0 ? order & 0x7fffffffu : ~order;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

SIMT_INLINE uint64_t sample_weigh(const struct sample *sample, float value)
{
    return (uint64_t)(logits_exp((value - sample->best) / sample->draw.temperature) * 0x1p40f);
}

/* The order of the least logit that may be so many temperatures below the best. */
SIMT_INLINE uint32_t sample_floor(const struct sample *sample, double reach)
{
    double least = (double)sample->best - reach * (double)sample->draw.temperature;

    return sample_order(least < -0x1.fffffep127 ? -0x1.fffffep127f : (float)least);
}

SIMT_INLINE uint64_t sample_measure(const struct sample *sample, uint32_t id,
                                    enum sample_measure what, uint32_t order)
{
    uint64_t weight;

    if (order < sample->limit || (order == sample->limit && id > sample->last_tie))
        return 0;
    if (what == SAMPLE_TIES)
        return order == sample->limit;
    if (what == SAMPLE_COUNT)
        return 1;
    weight = sample_weigh(sample, sample_value(order));
    return weight >= sample->draw.least_weight ? weight : 0;
}

/* The order of a token's logit; what is no number is below all others. */
SIMT_INLINE uint32_t sample_order_of(const struct sample *sample, uint32_t id)
{
    float value = sample->logits[id];

    return value != value ? 0 : sample_order(value);
}

/* ------------------------------------------------------------------ passes of a block */

/* Sums up a tile, by one warp: what counts is not below `from`. */
SIMT_INLINE uint64_t sample_tile(const struct sample *sample, uint32_t tile,
                                 enum sample_measure what, uint32_t from)
{
    uint32_t first = tile * CUDA_PEAK_TILE;
    uint64_t sum = 0;

    if (tile >= sample->tiles || sample_order(sample->peaks[tile]) < from)
        return 0;
    for (uint32_t i = simt_lane(); i < CUDA_PEAK_TILE && first + i < sample->vocab;
         i += SIMT_WARP) {
        uint32_t order = sample_order_of(sample, first + i);

        if (order >= from)
            sum += sample_measure(sample, first + i, what, order);
    }
    return sum;
}

/* Zeroes what the next pass adds to; all threads may do so afterwards. */
SIMT_INLINE void sample_clear(const struct sample *sample)
{
    simt_barrier();
    for (uint32_t i = simt_thread(); i < SAMPLE_BINS; i += CUDA_DRAW_THREADS)
        sample->shared->bins[i] = 0;
    for (uint32_t i = simt_thread(); i < SAMPLE_WARPS; i += CUDA_DRAW_THREADS)
        sample->shared->warps[i] = 0;
    for (uint32_t i = simt_thread(); i < SAMPLE_RANGE_MAX; i += CUDA_DRAW_THREADS)
        sample->shared->range[i] = 0;
    if (simt_thread() == 0)
        sample->shared->total = 0;
    simt_barrier();
}

/* Of all tokens that are kept and not below `from`; shared->warps has the parts. */
SIMT_INLINE uint64_t sample_sum(const struct sample *sample, enum sample_measure what,
                                uint32_t from)
{
    uint64_t sum = 0;

    from = from > sample->limit ? from : sample->limit;
    sample_clear(sample);
    for (uint32_t i = 0; i < sample->range; i++)
        sum += sample_tile(sample, simt_warp() * sample->range + i, what, from);
    simt_add(&sample->shared->warps[simt_warp()], sum);
    simt_add(&sample->shared->total, sum);
    simt_barrier();
    return sample->shared->total;
}

/* The token in whose part of the line from 0 to the sum of all the point lies. */
SIMT_INLINE uint32_t sample_find(const struct sample *sample, enum sample_measure what,
                                 uint64_t point)
{
    struct sample_shared *shared = sample->shared;
    uint32_t warp = 0;
    uint32_t tile = 0;
    uint32_t first;
    uint32_t i = 0;

    (void)sample_sum(sample, what, 0);
    while (point >= shared->warps[warp])
        point -= shared->warps[warp++];
    sample_clear(sample);
    for (uint32_t k = simt_warp(); k < sample->range; k += SAMPLE_WARPS)
        simt_add(&shared->range[k],
                 sample_tile(sample, warp * sample->range + k, what, sample->limit));
    simt_barrier();
    while (point >= shared->range[tile])
        point -= shared->range[tile++];
    first = (warp * sample->range + tile) * CUDA_PEAK_TILE;
    for (uint32_t k = simt_thread(); k < CUDA_PEAK_TILE && first + k < sample->vocab;
         k += CUDA_DRAW_THREADS)
        shared->bins[k] =
            sample_measure(sample, first + k, what, sample_order_of(sample, first + k));
    simt_barrier();
    while (point >= shared->bins[i])
        point -= shared->bins[i++];
    return first + i;
}

/* ------------------------------------------------------------------ selection */

/* One digit: sums by the eight bits from shift on, of what has the prefix above them and is not below `from`. */
SIMT_INLINE void sample_digit(const struct sample *sample, enum sample_measure what, uint32_t from,
                              uint32_t prefix, uint32_t shift)
{
    uint32_t mask = shift == 24 ? 0 : ~0u << (shift + 8);
    uint32_t count = what == SAMPLE_PEAKS ? sample->tiles : sample->vocab;

    from = from > prefix ? from : prefix;
    sample_clear(sample);
    for (uint32_t i = simt_thread(); i < count; i += CUDA_DRAW_THREADS) {
        uint32_t order;
        uint64_t measure;

        if (what != SAMPLE_PEAKS && sample_order(sample->peaks[i / CUDA_PEAK_TILE]) < from)
            continue;
        order = what == SAMPLE_PEAKS ? sample_order(sample->peaks[i]) : sample_order_of(sample, i);
        if (order < from || (order & mask) != prefix)
            continue;
        measure = what == SAMPLE_PEAKS ? 1 : sample_measure(sample, i, what, order);
        if (measure > 0)
            simt_add(&sample->shared->bins[order >> shift & (SAMPLE_BINS - 1)], measure);
    }
    simt_barrier();
}

/*
 * The order at which the sum from the greatest downwards reaches the goal, and in left_out what is missing before it; 0 if
 * it never does. shared->bins then holds the sum of what has that order.
 */
SIMT_INLINE uint32_t sample_select(const struct sample *sample, enum sample_measure what,
                                   uint32_t from, uint64_t goal, uint64_t *left_out)
{
    uint32_t prefix = 0;
    uint64_t left = goal;

    for (uint32_t shift = 32; shift > 0;) {
        uint32_t bin = SAMPLE_BINS - 1;

        shift -= 8;
        sample_digit(sample, what, from, prefix, shift);
        while (bin > 0 && sample->shared->bins[bin] < left)
            left -= sample->shared->bins[bin--];
        if (sample->shared->bins[bin] < left) /* the same in every thread */
            return 0;
        prefix |= bin << shift;
    }
    *left_out = left;
    return prefix;
}

/* Keeps the fewest in rank that reach the goal together, if all do; nobody below `from` is among them. */
SIMT_INLINE void sample_keep(struct sample *sample, enum sample_measure what, uint32_t from,
                             uint64_t goal)
{
    uint64_t left = 0;
    uint32_t order;
    uint64_t each;
    uint64_t ties;
    uint64_t equals;

    from = from > sample->limit ? from : sample->limit;
    order = sample_select(sample, what, from, goal, &left);
    if (order == 0)
        return;
    each = what == SAMPLE_COUNT ? 1 : sample_weigh(sample, sample_value(order));
    ties = (left + each - 1) / each;
    equals = sample->shared->bins[order & (SAMPLE_BINS - 1)] / each;
    if (order > sample->limit)
        sample->last_tie = UINT32_MAX;
    sample->limit = order;
    if (equals > ties)
        sample->last_tie = sample_find(sample, SAMPLE_TIES, ties - 1);
}

/* If k tiles have a logit of at least some height, k tokens have. */
SIMT_INLINE void sample_keep_first(struct sample *sample, uint32_t k)
{
    uint64_t left;
    uint32_t from = k <= sample->tiles ? sample_select(sample, SAMPLE_PEAKS, 0, k, &left) : 0;

    sample_keep(sample, SAMPLE_COUNT, from, k);
}

SIMT_INLINE void sample_keep_share(struct sample *sample, uint64_t total)
{
    uint64_t goal = (uint64_t)((double)sample->draw.top_p * (double)total);
    double reach = SAMPLE_REACH_FIRST;
    uint32_t from;

    goal = goal == 0 ? 1 : goal > total ? total : goal;
    for (;; reach += SAMPLE_REACH_STEP) {
        from = sample_floor(sample, reach);
        if (from <= sample->limit || sample_sum(sample, SAMPLE_WEIGHT, from) >= goal)
            break;
    }
    sample_keep(sample, SAMPLE_WEIGHT, from, goal);
}

/* ------------------------------------------------------------------ changes */

/* Tokens beyond the vocabulary, which the core lets nobody name, are passed over. */
SIMT_INLINE void sample_bias(float *logits, uint32_t vocab, const struct cuda_change *biases,
                             float *kept, uint32_t count)
{
    for (uint32_t i = simt_thread(); i < count; i += CUDA_DRAW_THREADS) {
        uint32_t token = biases[i].token;

        if (token >= vocab || (i > 0 && biases[i - 1].token == token))
            continue; /* whoever has the first of a token adds the others too */
        kept[i] = logits[token];
        for (uint32_t k = i; k < count && biases[k].token == token; k++) {
            float bias;

            memcpy(&bias, &biases[k].what, sizeof bias);
            logits[token] = logits_biased(logits[token], bias);
        }
    }
}

SIMT_KERNEL(mask, 256, struct cuda_mask_args)
{
    const struct cuda_draw *draw = &args.draws[simt_block_y()];
    const uint32_t first = simt_block_x() * CUDA_MASK_BLOCK;
    const uint32_t *allowed;
    float *logits;

    if (draw->mask == 0) /* the whole block */
        return;
    allowed = args.masks + (size_t)(draw->mask - 1) * args.words;
    logits = args.logits + (size_t)draw->row * args.vocab;
    for (uint32_t i = simt_thread(); i < CUDA_MASK_BLOCK && first + i < args.vocab; i += 256)
        if ((allowed[(first + i) / 32] >> (first + i) % 32 & 1) == 0)
            logits[first + i] = sample_value(SAMPLE_NOTHING);
}

/* As engine_changes_apply of engine/penalty.c. */
SIMT_KERNEL(change, CUDA_DRAW_THREADS, struct cuda_change_args)
{
    const struct cuda_draw draw = args.draws[simt_block_x()];
    const struct cuda_change *biases = args.changes + draw.first_change;
    const struct cuda_change *seen = biases + draw.biases;
    float *kept = args.kept + draw.first_change;
    float *logits = args.logits + (size_t)draw.row * args.vocab;

    if (draw.biases + draw.seen == 0) /* the whole block */
        return;
    sample_bias(logits, args.vocab, biases, kept, draw.biases);
    simt_barrier();
    for (uint32_t i = simt_thread(); i < draw.seen; i += CUDA_DRAW_THREADS) {
        uint32_t token = seen[i].token;

        if (token >= args.vocab)
            continue;
        kept[draw.biases + i] = logits[token];
        logits[token] = logits_penalised(logits[token], draw.repetition, draw.frequency,
                                         draw.presence, seen[i].what);
    }
}

/* ------------------------------------------------------------------ kernels */

/* The greatest logit of each tile; what is no number counts as minus infinity. A warp makes one. */
SIMT_KERNEL(peaks, 256, struct cuda_peaks_args)
{
    uint32_t tiles = (args.vocab + CUDA_PEAK_TILE - 1) / CUDA_PEAK_TILE;
    uint32_t tile = simt_block_x() * (256 / SIMT_WARP) + simt_warp();
    const float *logits = args.logits + (size_t)simt_block_y() * args.vocab;
    float greatest = sample_value(SAMPLE_NOTHING);

    if (tile >= tiles) /* the whole warp */
        return;
    for (uint32_t i = simt_lane(); i < CUDA_PEAK_TILE; i += SIMT_WARP) {
        uint32_t id = tile * CUDA_PEAK_TILE + i;

        if (id < args.vocab && logits[id] > greatest)
            greatest = logits[id];
    }
    greatest = simt_warp_max(greatest);
    if (simt_lane() == 0)
        args.peaks[(size_t)simt_block_y() * tiles + tile] = greatest;
}

/* Finds the greatest logit; the lowest id that has it, or CUDA_DRAW_FAILED if it is no finite number. */
SIMT_INLINE uint32_t sample_best(struct sample *sample)
{
    struct sample_shared *shared = sample->shared;
    uint32_t first;

    if (simt_thread() == 0) {
        shared->greatest = 0;
        shared->least = UINT32_MAX;
    }
    simt_barrier();
    for (uint32_t i = simt_thread(); i < sample->tiles; i += CUDA_DRAW_THREADS)
        simt_raise(&shared->greatest, sample_order(sample->peaks[i]));
    simt_barrier();
    sample->best = sample_value(shared->greatest);
    for (uint32_t i = simt_thread(); i < sample->tiles; i += CUDA_DRAW_THREADS)
        if (sample_order(sample->peaks[i]) == shared->greatest)
            simt_lower(&shared->least, i);
    simt_barrier();
    first = shared->least * CUDA_PEAK_TILE;
    simt_barrier();
    if (simt_thread() == 0)
        shared->least = UINT32_MAX;
    simt_barrier();
    for (uint32_t i = simt_thread(); i < CUDA_PEAK_TILE && first + i < sample->vocab;
         i += CUDA_DRAW_THREADS)
        if (sample->logits[first + i] == sample->best)
            simt_lower(&shared->least, first + i);
    simt_barrier();
    return sample->best >= -0x1.fffffep127f && sample->best <= 0x1.fffffep127f ? shared->least
                                                                               : CUDA_DRAW_FAILED;
}

/* As draw_token of engine/sample.c. */
SIMT_INLINE uint32_t sample_token(struct sample *sample)
{
    uint64_t total;

    sample->limit = sample_floor(sample, sample->draw.reach);
    sample->last_tie = UINT32_MAX;
    if (sample->draw.top_k > 0)
        sample_keep_first(sample, sample->draw.top_k);
    total = sample_sum(sample, SAMPLE_WEIGHT, 0);
    if (sample->draw.top_p < 1.0f) {
        sample_keep_share(sample, total);
        total = sample_sum(sample, SAMPLE_WEIGHT, 0);
    }
    return sample_find(sample, SAMPLE_WEIGHT, simt_multiply_high(sample->draw.random, total));
}

SIMT_INLINE struct sample sample_begin(struct sample_shared *shared, const struct cuda_draw *draw,
                                       const float *logits, const float *peaks, uint32_t vocab)
{
    struct sample sample;

    sample.shared = shared;
    sample.draw = *draw;
    sample.vocab = vocab;
    sample.tiles = (vocab + CUDA_PEAK_TILE - 1) / CUDA_PEAK_TILE;
    sample.range = (sample.tiles + SAMPLE_WARPS - 1) / SAMPLE_WARPS;
    sample.logits = logits + (size_t)draw->row * vocab;
    sample.peaks = peaks + (size_t)draw->row * sample.tiles;
    return sample;
}

/* A token's logit as it was before changes. */
SIMT_INLINE float sample_before(const struct sample *sample, const struct cuda_draw_args *args,
                                uint32_t token)
{
    const struct cuda_change *changes = args->changes + sample->draw.first_change;
    uint32_t *first = &sample->shared->least;

    simt_barrier();
    if (simt_thread() == 0)
        *first = UINT32_MAX;
    simt_barrier();
    for (uint32_t i = simt_thread(); i < sample->draw.biases + sample->draw.seen;
         i += CUDA_DRAW_THREADS)
        if (changes[i].token == token)
            simt_lower(first, i);
    simt_barrier();
    return *first == UINT32_MAX ? sample->logits[token]
                                : args->kept[sample->draw.first_change + *first];
}

SIMT_KERNEL(draw, CUDA_DRAW_THREADS, struct cuda_draw_args)
{
    SIMT_SHARED struct sample_shared shared;
    const struct cuda_draw *draw = &args.draws[simt_block_x()];
    struct sample sample;
    uint32_t token;
    float logit;

    if (draw->is_wanted == 0) { /* the whole block */
        args.tokens[simt_block_x()] = CUDA_NOT_DRAWN;
        return;
    }
    sample = sample_begin(&shared, draw, args.logits, args.peaks, args.vocab);
    token = sample_best(&sample);
    if (draw->is_greedy == 0 && token != CUDA_DRAW_FAILED) /* the whole block */
        token = sample_token(&sample);
    if (simt_thread() == 0)
        args.tokens[simt_block_x()] = token;
    if (draw->wants_logprobs == 0 || token == CUDA_DRAW_FAILED) /* the whole block */
        return;
    logit = sample_before(&sample, &args, token);
    if (simt_thread() == 0)
        args.logprobs[simt_block_x()].chosen = logits_logprob(
            logit, args.surveys[simt_block_x()].best, args.surveys[simt_block_x()].sum);
}

/* ------------------------------------------------------------------ log-probabilities */

/* Lists what is kept, which is no more than CUDA_TOP_MAX tokens, in no order; returns how many. */
SIMT_INLINE uint32_t sample_list(const struct sample *sample, struct survey_shared *list)
{
    simt_barrier();
    if (simt_thread() == 0)
        list->count = 0;
    simt_barrier();
    for (uint32_t tile = simt_warp(); tile < sample->tiles; tile += SAMPLE_WARPS) {
        if (sample_order(sample->peaks[tile]) < sample->limit)
            continue;
        for (uint32_t i = simt_lane(); i < CUDA_PEAK_TILE; i += SIMT_WARP) {
            uint32_t id = tile * CUDA_PEAK_TILE + i;
            uint32_t order = id < sample->vocab ? sample_order_of(sample, id) : 0;
            uint32_t at;

            if (order < sample->limit || (order == sample->limit && id > sample->last_tie))
                continue;
            at = simt_count(&list->count);
            if (at < CUDA_TOP_MAX) {
                list->tokens[at] = id;
                list->orders[at] = order;
            }
        }
    }
    simt_barrier();
    return list->count < CUDA_TOP_MAX ? list->count : CUDA_TOP_MAX;
}

/* Writes them in order of rank: each thread finds out how many rank before its own. */
SIMT_INLINE void sample_rank(const struct survey_shared *list, uint32_t count,
                             const struct cuda_survey *survey, struct cuda_logprobs *out)
{
    uint32_t own = simt_thread();
    uint32_t rank = 0;

    if (own >= count)
        return;
    for (uint32_t i = 0; i < count; i++)
        rank += list->orders[i] > list->orders[own] ||
                (list->orders[i] == list->orders[own] && list->tokens[i] < list->tokens[own]);
    out->top[rank].token = list->tokens[own];
    out->top[rank].value =
        logits_logprob(sample_value(list->orders[own]), survey->best, survey->sum);
}

/* As engine/logprobs.c, of raw logits and their peaks. */
SIMT_KERNEL(survey, CUDA_DRAW_THREADS, struct cuda_survey_args)
{
    SIMT_SHARED struct sample_shared shared;
    SIMT_SHARED struct survey_shared list;
    const struct cuda_draw *draw = &args.draws[simt_block_x()];
    struct cuda_logprobs *out = &args.logprobs[simt_block_x()];
    struct cuda_survey survey;
    struct sample sample;
    uint32_t count = 0;

    if (draw->is_wanted == 0 || draw->wants_logprobs == 0) /* the whole block */
        return;
    sample = sample_begin(&shared, draw, args.logits, args.peaks, args.vocab);
    if (sample_best(&sample) == CUDA_DRAW_FAILED) { /* the whole block */
        out->count = CUDA_NO_LOGPROBS;
        return;
    }
    sample.draw.temperature = 1.0f;
    sample.draw.least_weight = 0;
    sample.limit = sample_floor(&sample, SAMPLE_REACH_MAX);
    sample.last_tie = UINT32_MAX;
    survey.sum = sample_sum(&sample, SAMPLE_WEIGHT, 0);
    survey.best = sample.best;
    if (draw->top > 0) {
        sample.limit = sample_order(-0x1.fffffep127f);
        sample_keep_first(&sample, draw->top);
        count = sample_list(&sample, &list);
        sample_rank(&list, count, &survey, out);
    }
    if (simt_thread() == 0) {
        out->count = count;
        args.surveys[simt_block_x()] = survey;
    }
}

#endif
