/*
 * draw.c: the next token of a sequence: how it is drawn, which is said when a step is planned, and what came of it; part
 * of the engine core.
 */
#include <string.h>

#include "engine/core_state.h"
#include "engine/logprobs.h"

/* ---- planned ---- */

static bool allows_any(const uint32_t *words, uint32_t vocab)
{
    uint32_t rest = vocab % 32;

    for (uint32_t i = 0; i < vocab / 32; i++)
        if (words[i] != 0)
            return true;
    return rest > 0 && (words[vocab / 32] & ((UINT32_C(1) << rest) - 1)) != 0;
}

/* Asks which tokens may follow; what comes of it is kept until the token is due. */
static const uint32_t *ask_mask(struct engine_core *core, struct engine_sequence *sequence,
                                uint32_t output)
{
    const struct engine_mask *mask = &sequence->mask;
    uint32_t count = engine_mask_words(core->info->vocab);
    uint32_t *words = core->plan.masks + (size_t)output * count;

    memset(words, 0, count * sizeof *words);
    sequence->mask_status = mask->fill(mask->impl, sequence->tokens + sequence->prompt_count,
                                       engine_sequence_new_tokens(sequence), words, count);
    if (sequence->mask_status == TD_OK && !allows_any(words, core->info->vocab))
        sequence->mask_status = TD_INVALID;
    return words;
}

void engine_draw_plan(struct engine_core *core, struct engine_sequence *sequence, uint32_t output)
{
    const struct engine_history history = {.tokens = sequence->tokens,
                                           .prompt_count = sequence->prompt_count,
                                           .count = sequence->token_count,
                                           .tally = &sequence->tally};
    struct engine_draw *draw = &core->plan.draws[output];

    *draw = engine_draw_of(&sequence->sampling, core->info->vocab,
                           engine_sequence_new_tokens(sequence));
    if (engine_penalty_wanted(&sequence->sampling))
        draw->changes = engine_changes_of(&sequence->sampling, &history, core->sampler.counts);
    if (sequence->mask.fill != NULL)
        draw->allowed = ask_mask(core, sequence, output);
    if (sequence->mask_status == TD_OK)
        core->plan.outputs[output].draw = draw;
}

/* ---- come ---- */

/* The backend has drawn the token. */
static td_status_t take_drawn(const struct engine_core *core, const struct engine_result *result,
                              uint32_t output, struct engine_token *token,
                              struct engine_logprobs *logprobs)
{
    token->token = result->tokens[output];
    if (token->token >= core->info->vocab)
        return TD_INTERNAL; /* ENGINE_DRAW_FAILED, or worse */
    if (!core->plan.draws[output].wants_logprobs)
        return TD_OK;
    if (result->logprobs == NULL || result->logprobs[output].count > ENGINE_TOP_LOGPROBS_MAX)
        return TD_INTERNAL; /* of logits that were not finite */
    *logprobs = result->logprobs[output];
    token->logprobs = logprobs;
    return TD_OK;
}

/* The backend has left that to be done here. */
static td_status_t draw_here(struct engine_core *core, const float *logits, uint32_t output,
                             struct engine_token *token, struct engine_logprobs *logprobs)
{
    const struct engine_draw *draw = &core->plan.draws[output];
    td_status_t status = engine_sample_by(&core->sampler, logits, draw, &token->token);

    if (status != TD_OK || !draw->wants_logprobs)
        return status;
    token->logprobs = logprobs;
    return engine_logprobs_of(&core->sampler, logits, token->token, draw->top_logprobs, logprobs);
}

td_status_t engine_draw_take(struct engine_core *core, const struct engine_sequence *sequence,
                             const struct engine_result *result, uint32_t output,
                             struct engine_harvest *harvest)
{
    struct engine_token *token = &harvest->tokens[harvest->count];
    struct engine_logprobs *logprobs =
        (struct engine_logprobs *)(void *)(harvest->tokens + core->plan.sequences_max) +
        harvest->count;

    *token = (struct engine_token){.sequence = sequence->id,
                                   .index = engine_sequence_new_tokens(sequence)};
    if (sequence->mask_status != TD_OK)
        return sequence->mask_status;
    if (result->tokens != NULL && result->tokens[output] != ENGINE_NOT_DRAWN)
        return take_drawn(core, result, output, token, logprobs);
    core->totals.draws_left += result->tokens != NULL;
    return draw_here(core, result->outputs[output], output, token, logprobs);
}
