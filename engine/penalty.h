/*
 * penalty.h: logits after what has been said already.
 *
 * Order and meaning are vLLM's: first what the client wants added to tokens of its choice (logit_bias); then
 * the repetition penalty (Keskar et al., "CTRL", 2019: a positive logit is
 * divided by it, a negative one multiplied) on each token that occurs in the prompt or in the output;
 * then frequency_penalty times the token's count in the output and presence_penalty are subtracted for
 * each token that occurs in the output.
 *
 * Nothing is remembered from draw to draw: the counts are made anew of the sequence's tokens, so a
 * preempted, imported or repeated sequence is penalised alike, and requests without penalties pay
 * nothing. The work is one pass over the tokens, small beside the model's own over the same context.
 * Single float operations in a fixed order: the same bits on every machine.
 */
#ifndef TANDEM_ENGINE_PENALTY_H
#define TANDEM_ENGINE_PENALTY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

/* The tokens of a sequence: a prompt, and the output behind it. All are below the vocabulary's size. */
struct engine_history {
    const uint32_t *tokens; /* may be NULL where no penalty is wanted */
    uint32_t prompt_count;
    uint32_t count; /* prompt and output */
};

/* Whether a request wants any of this. */
bool engine_penalty_wanted(const struct engine_sampling *sampling);

/*
 * Changes the logits by biases and penalties. counts has an entry for each token of the vocabulary: all are
 * zero before and after. A finite logit stays finite, any other stays as it is.
 */
void engine_penalize(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts, float *logits);

#endif
