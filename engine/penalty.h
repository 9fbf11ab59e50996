/*
 * penalty.h: logits after what has been said already.
 *
 * Order and meaning are vLLM's: first what the client wants added to tokens of its choice (logit_bias); then
 * the repetition penalty (Keskar et al., "CTRL", 2019: a positive logit is
 * divided by it, a negative one multiplied) on each token that occurs in the prompt or in the output;
 * then frequency_penalty times the token's count in the output and presence_penalty are subtracted for
 * each token that occurs in the output.
 *
 * The counts are a function of the sequence's tokens alone, so a preempted, imported or repeated sequence is
 * penalised alike, and requests without penalties pay nothing. A tally keeps them from draw to draw, so that
 * a draw costs a pass over the different tokens, and not over all of them; without one they are counted anew.
 * Single float operations in a fixed order: the same bits on every machine.
 */
#ifndef TANDEM_ENGINE_PENALTY_H
#define TANDEM_ENGINE_PENALTY_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

/* A token that was seen, and how often in the output; 0: in the prompt alone. */
struct engine_tally_entry {
    uint32_t token;
    uint32_t count;
};

/*
 * The different tokens of one sequence, up to where they were counted last; zero but for entries at the
 * start. The sequence may only grow, and its sampling must stay the same.
 */
struct engine_tally {
    struct engine_tally_entry *entries; /* room for all tokens that the sequence may ever have */
    uint32_t entry_count;
    uint32_t seen; /* tokens counted */
};

/* The tokens of a sequence: a prompt, and the output behind it. All are below the vocabulary's size. */
struct engine_history {
    const uint32_t *tokens; /* may be NULL where no penalty is wanted */
    uint32_t prompt_count;
    uint32_t count;             /* prompt and output */
    struct engine_tally *tally; /* kept for this sequence; NULL: counted anew */
};

/* What biases and penalties do to the next output's logits, wherever these lie. The arrays are the sequence's own. */
struct engine_changes {
    const struct engine_bias
        *biases; /* applied first; those of one token side by side, in their order */
    uint32_t bias_count;
    const struct engine_tally_entry *seen; /* each token once */
    uint32_t seen_count;
    float repetition; /* above 0; 1: none */
    float frequency;
    float presence;
};

/* Whether a request wants any of this. */
bool engine_penalty_wanted(const struct engine_sampling *sampling);

/*
 * What is to be done to the logits behind a history that has a tally, which counts what is new. The sampling's biases must be in
 * order of tokens. counts has an entry for each token of the vocabulary: all are zero before and after.
 */
struct engine_changes engine_changes_of(const struct engine_sampling *sampling,
                                        const struct engine_history *history, uint32_t *counts);

/* Changes logits so. A finite one stays finite, any other stays as it is. */
void engine_changes_apply(const struct engine_changes *changes, float *logits);

/* Both, for what a request wants; without a tally tokens are counted anew, and biases may be in any order. counts: as above. */
void engine_penalize(const struct engine_sampling *sampling, const struct engine_history *history,
                     uint32_t *counts, float *logits);

#endif
