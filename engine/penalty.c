/* penalty.c: counting tokens and changing their logits; see penalty.h. */
#include "engine/penalty.h"

#include "engine/logits/change.h"

#define PENALISED UINT32_MAX /* a count: this token's turn has been */
#define FEW       8          /* new tokens that are looked up one by one */

static bool repetition_wanted(const struct engine_sampling *sampling)
{
    return sampling->repetition_penalty != 0.0f && sampling->repetition_penalty != 1.0f;
}

static bool seen_matter(const struct engine_sampling *sampling)
{
    return repetition_wanted(sampling) || sampling->presence_penalty != 0.0f ||
           sampling->frequency_penalty != 0.0f;
}

bool engine_penalty_wanted(const struct engine_sampling *sampling)
{
    return seen_matter(sampling) || sampling->bias_count > 0;
}

static struct engine_changes describe(const struct engine_sampling *sampling)
{
    return (struct engine_changes){
        .biases = sampling->biases,
        .bias_count = sampling->bias_count,
        .repetition = repetition_wanted(sampling) ? sampling->repetition_penalty : 1.0f,
        .frequency = sampling->frequency_penalty,
        .presence = sampling->presence_penalty,
    };
}

static void add_biases(const struct engine_changes *changes, float *logits)
{
    for (uint32_t i = 0; i < changes->bias_count; i++) {
        float *logit = &logits[changes->biases[i].token];

        *logit = logits_biased(*logit, changes->biases[i].value);
    }
}

static void penalize(const struct engine_changes *changes, uint32_t count, float *logit)
{
    *logit =
        logits_penalised(*logit, changes->repetition, changes->frequency, changes->presence, count);
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

struct engine_changes engine_changes_of(const struct engine_sampling *sampling,
                                        const struct engine_history *history, uint32_t *counts)
{
    struct engine_changes changes = describe(sampling);

    if (!seen_matter(sampling))
        return changes;
    catch_up(sampling, history, counts);
    changes.seen = history->tally->entries;
    changes.seen_count = history->tally->entry_count;
    return changes;
}

void engine_changes_apply(const struct engine_changes *changes, float *logits)
{
    add_biases(changes, logits);
    for (uint32_t i = 0; i < changes->seen_count; i++)
        penalize(changes, changes->seen[i].count, &logits[changes->seen[i].token]);
}

/* ---- without ---- */

static void penalize_anew(const struct engine_changes *changes,
                          const struct engine_history *history, uint32_t *counts, float *logits)
{
    const uint32_t *tokens = history->tokens;
    uint32_t prompt_count = changes->repetition != 1.0f ? history->prompt_count : 0;

    for (uint32_t i = history->prompt_count; i < history->count; i++)
        counts[tokens[i]]++;
    for (uint32_t i = history->prompt_count; i < history->count; i++) {
        if (counts[tokens[i]] == PENALISED)
            continue;
        penalize(changes, counts[tokens[i]], &logits[tokens[i]]);
        counts[tokens[i]] = PENALISED;
    }
    for (uint32_t i = 0; i < prompt_count; i++) {
        if (counts[tokens[i]] == PENALISED)
            continue;
        penalize(changes, 0, &logits[tokens[i]]);
        counts[tokens[i]] = PENALISED;
    }
    for (uint32_t i = 0; i < prompt_count; i++)
        counts[tokens[i]] = 0;
    for (uint32_t i = history->prompt_count; i < history->count; i++)
        counts[tokens[i]] = 0;
}

/* ---- both ---- */

void engine_penalize(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts, float *logits)
{
    struct engine_changes changes;

    if (history->tally == NULL) {
        changes = describe(sampling);
        add_biases(&changes, logits);
        if (seen_matter(sampling))
            penalize_anew(&changes, history, counts, logits);
        return;
    }
    changes = engine_changes_of(sampling, history, counts);
    engine_changes_apply(&changes, logits);
}
