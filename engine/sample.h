/*
 * sample.h: drawing the next token from logits, replayable anywhere.
 *
 * Order, as in vLLM: penalties (penalty.h), temperature, min_p, top-k, top-p, then one draw. The draw
 * comes from a counter-based generator, Philox4x32-10 (Salmon et al., "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011), with the seed as key and (output index, choice) as counter. So the
 * n-th token of a request is drawn with the same number whoever draws it, and after whatever was lost
 * in between.
 *
 * Weights are integers: exp of the scaled distance to the best logit, in units of 2^-40. Their sums are
 * exact, so neither the order of summation nor the instruction set can change a token. What is below
 * 2^-40 of the best one has no weight. Tokens are ranked by logit, and by lower id where logits are
 * equal; min_p keeps those with that share of the best one's weight, top-k exactly k of them, top-p the
 * fewest whose weight reaches the wanted share of what is left.
 *
 * How it is done changes none of this: one pass finds the greatest logit of each tile (logits/logits.h); what is
 * provably too low to be drawn is never weighed, and the rest is put on a list (shortlist.h) that is
 * mostly short, whatever the vocabulary.
 *
 * Pure. A sampler is scratch memory; one owner.
 */
#ifndef TANDEM_ENGINE_SAMPLE_H
#define TANDEM_ENGINE_SAMPLE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"
#include "engine/logits/logits.h"
#include "engine/penalty.h"
#include "engine/shortlist.h"

#define ENGINE_VOCAB_MAX (UINT32_C(1) << 20)

/* What one draw needs besides the logits: how a token is drawn from them, wherever they lie. */
struct engine_draw {
    float temperature;
    float top_p;
    uint32_t top_k;        /* 0: off */
    bool is_greedy;        /* the best token; nothing else matters */
    double reach;          /* in temperatures: a token farther below the best cannot be drawn */
    uint64_t least_weight; /* that min_p leaves; 0: off */
    uint64_t random;
    struct engine_changes changes; /* that are made to the logits before */
    const uint32_t *allowed; /* tokens that may be drawn, as bits: struct engine_mask; NULL: all */
    bool wants_logprobs;     /* of the logits without them: engine/logprobs.h */
    uint32_t top_logprobs;
};

/* The draw of the index-th output, without changes and mask. */
struct engine_draw engine_draw_of(const struct engine_sampling *sampling, uint32_t vocab,
                                  uint32_t index);

struct engine_sampler {
    uint32_t vocab;
    const struct engine_logits *ops; /* the fastest set, or the one that TANDEM_CPU names */
    float *maxima;                   /* [tiles] of logits */
    uint64_t *sums;                  /* [tiles] of weights, where all tokens count */
    struct engine_shortlist list;
    float *penalised; /* [vocab] logits after penalties; these two are not touched without any */
    uint32_t *counts; /* [vocab] zero between draws */
};

/* TD_NO_MEMORY, and nothing to undo. */
td_status_t engine_sampler_init(struct engine_sampler *sampler, uint32_t vocab) TD_MUST_USE;
void engine_sampler_fini(struct engine_sampler *sampler);

/*
 * TD_INVALID unless temperature and repetition_penalty are finite and not negative, 0 < top_p <= 1,
 * 0 <= min_p <= 1, the other penalties and all biases finite, and biases and log-probabilities no more than there may be.
 */
td_status_t engine_sampling_check(const struct engine_sampling *sampling) TD_MUST_USE;

/*
 * Draws a token as it is said, from vocab logits. A NaN counts as minus infinity, and so does what is not allowed. TD_INTERNAL: no logit
 * is finite then, or one is plus infinity (the backend is broken).
 */
td_status_t engine_sample_by(struct engine_sampler *sampler, const float *logits,
                             const struct engine_draw *draw, uint32_t *token_out) TD_MUST_USE;

/*
 * The same for the output that follows the history, by what a request wants.
 */
td_status_t engine_sample(struct engine_sampler *sampler, const float *logits,
                          const struct engine_sampling *sampling,
                          const struct engine_history *history, uint32_t *token_out) TD_MUST_USE;

/* The generator itself: four 32-bit words for a counter under a key. */
void engine_philox(const uint32_t counter[static 4], const uint32_t key[static 2],
                   uint32_t out[static 4]);

#endif
