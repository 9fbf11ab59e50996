/* penalty.c: counting tokens and changing their logits; see penalty.h. */
#include "engine/penalty.h"

#include <float.h>

#define PENALISED UINT32_MAX /* a count: this token's turn has been */

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

void engine_penalize(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts, float *logits)
{
    const uint32_t *tokens = history->tokens;
    uint32_t prompt_count = repetition_wanted(sampling) ? history->prompt_count : 0;

    add_biases(sampling, logits);
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
