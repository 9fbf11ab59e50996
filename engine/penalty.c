/* penalty.c: counting tokens and changing their logits; see penalty.h. */
#include "engine/penalty.h"

#include <float.h>

#define PENALISED UINT32_MAX /* a count: this token's turn has been */
#define FEW       8          /* new tokens that are looked up one by one */

static bool repetition_wanted(const struct engine_sampling *sampling)
{
    return sampling->repetition_penalty != 0.0f && sampling->repetition_penalty != 1.0f;
}

bool engine_penalty_wanted(const struct engine_sampling *sampling)
{
    return repetition_wanted(sampling) || sampling->presence_penalty != 0.0f ||
           sampling->frequency_penalty != 0.0f || sampling->bias_count > 0;
}

static float finite(float value)
{
    if (value > FLT_MAX)
        return FLT_MAX;
    return value < -FLT_MAX ? -FLT_MAX : value;
}

static float repeated(const struct engine_sampling *sampling, float logit)
{
    if (!repetition_wanted(sampling))
        return logit;
    return finite(logit > 0.0f ? logit / sampling->repetition_penalty
                               : logit * sampling->repetition_penalty);
}

/* What is not finite says that a token is impossible, or that the backend is broken. */
static bool is_finite(float logit)
{
    return logit >= -FLT_MAX && logit <= FLT_MAX;
}

static void penalize_output(const struct engine_sampling *sampling, uint32_t count, float *logit)
{
    float value;

    if (!is_finite(*logit))
        return;
    value = repeated(sampling, *logit);
    value = finite(value - sampling->frequency_penalty * (float)count);
    *logit = finite(value - sampling->presence_penalty);
}

static void add_biases(const struct engine_sampling *sampling, float *logits)
{
    for (uint32_t i = 0; i < sampling->bias_count; i++) {
        float *logit = &logits[sampling->biases[i].token];

        if (is_finite(*logit))
            *logit = finite(*logit + sampling->biases[i].value);
    }
}

/* ---- with a tally ---- */

static uint32_t find(const struct engine_tally *tally, uint32_t token)
{
    uint32_t i = 0;

    while (i < tally->entry_count && tally->entries[i].token != token)
        i++;
    return i;
}

static void note(struct engine_tally *tally, uint32_t place, uint32_t token, bool is_output)
{
    if (place == tally->entry_count)
        tally->entries[tally->entry_count++] = (struct engine_tally_entry){.token = token};
    tally->entries[place].count += is_output;
}

/* Many tokens at once, the prompt's: counts knows their places, plus one, as long as this runs. */
static void note_many(struct engine_tally *tally, const struct engine_history *history,
                      uint32_t first, uint32_t *counts)
{
    for (uint32_t i = 0; i < tally->entry_count; i++)
        counts[tally->entries[i].token] = i + 1;
    for (uint32_t i = first; i < history->count; i++) {
        uint32_t token = history->tokens[i];

        if (counts[token] == 0)
            counts[token] = tally->entry_count + 1;
        note(tally, counts[token] - 1, token, i >= history->prompt_count);
    }
    for (uint32_t i = 0; i < tally->entry_count; i++)
        counts[tally->entries[i].token] = 0;
}

/* Counts what is new since the last draw. */
static void catch_up(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts)
{
    struct engine_tally *tally = history->tally;
    uint32_t first = tally->seen;

    if (first < history->prompt_count && !repetition_wanted(sampling))
        first = history->prompt_count; /* only repetition looks at the prompt */
    if (history->count - first > FEW)
        note_many(tally, history, first, counts);
    else
        for (uint32_t i = first; i < history->count; i++)
            note(tally, find(tally, history->tokens[i]), history->tokens[i],
                 i >= history->prompt_count);
    tally->seen = history->count;
}

static void penalize_tally(const struct engine_sampling *sampling, const struct engine_tally *tally,
                           float *logits)
{
    for (uint32_t i = 0; i < tally->entry_count; i++) {
        const struct engine_tally_entry *entry = &tally->entries[i];
        float *logit = &logits[entry->token];

        if (entry->count > 0)
            penalize_output(sampling, entry->count, logit);
        else if (is_finite(*logit))
            *logit = repeated(sampling, *logit);
    }
}

/* ---- without ---- */

static void penalize_anew(const struct engine_sampling *sampling,
                          const struct engine_history *history, uint32_t *counts, float *logits)
{
    const uint32_t *tokens = history->tokens;
    uint32_t prompt_count = repetition_wanted(sampling) ? history->prompt_count : 0;

    for (uint32_t i = history->prompt_count; i < history->count; i++)
        counts[tokens[i]]++;
    for (uint32_t i = history->prompt_count; i < history->count; i++) {
        if (counts[tokens[i]] == PENALISED)
            continue;
        penalize_output(sampling, counts[tokens[i]], &logits[tokens[i]]);
        counts[tokens[i]] = PENALISED;
    }
    for (uint32_t i = 0; i < prompt_count; i++) {
        if (counts[tokens[i]] == PENALISED)
            continue;
        if (is_finite(logits[tokens[i]]))
            logits[tokens[i]] = repeated(sampling, logits[tokens[i]]);
        counts[tokens[i]] = PENALISED;
    }
    for (uint32_t i = 0; i < prompt_count; i++)
        counts[tokens[i]] = 0;
    for (uint32_t i = history->prompt_count; i < history->count; i++)
        counts[tokens[i]] = 0;
}

void engine_penalize(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts, float *logits)
{
    add_biases(sampling, logits);
    if (history->tally == NULL) {
        penalize_anew(sampling, history, counts, logits);
        return;
    }
    catch_up(sampling, history, counts);
    penalize_tally(sampling, history->tally, logits);
}
