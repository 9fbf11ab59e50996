/*
 * logprobs.h: how likely the tokens of an output were.
 *
 * Log-probabilities are of the model's own logits: before biases, penalties and temperature, as vLLM's raw_logprobs (its
 * default), so that they compare between requests that are drawn differently. The weights that they are made of are
 * those of sample.h at temperature 1, whole numbers in units of 2^-40, and the rest is logits/logarithm.h: the same bits with every
 * instruction set and from a backend that makes them where the logits lie. Each weight is right to 3e-7 of
 * itself and rounded down to a unit, so a log-probability is off by that much, and in a vocabulary of 2^20 by 1e-6 more at most; then it
 * is rounded to a float.
 */
#ifndef TANDEM_ENGINE_LOGPROBS_H
#define TANDEM_ENGINE_LOGPROBS_H

#include "engine/sample.h"

/*
 * The log-probabilities of a token and of the first in rank: by logit, and by lower id where logits are equal. Only finite
 * logits are ranked, so there may be fewer than wanted, which is at most ENGINE_TOP_LOGPROBS_MAX. The token's logit is
 * finite. The sampler is only scratch memory. TD_INTERNAL: a logit is plus infinity (the backend is broken, though a mask may have
 * hidden it from the draw).
 */
td_status_t engine_logprobs_of(struct engine_sampler *sampler, const float *logits, uint32_t token,
                               uint32_t wanted, struct engine_logprobs *out) TD_MUST_USE;

#endif
