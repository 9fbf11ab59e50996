/*
 * shortlist.h: the tokens that may still be drawn, and what top-k, min-p and top-p leave of them.
 *
 * A list holds tokens with rising ids: of all tokens of the vocabulary those whose logit is at least some limit, so
 * that nobody outside ranks before anybody inside. Tokens rank by logit, equal ones by lower id. Limits of rank are
 * found by radix selection on the bits of the logits: no sort.
 */
#ifndef TANDEM_ENGINE_SHORTLIST_H
#define TANDEM_ENGINE_SHORTLIST_H

#include <stdint.h>

#include "lib/base/status.h"

struct engine_shortlist {
    uint32_t count;
    uint32_t *ids;     /* [room] rising */
    float *values;     /* [room] their logits, none of them NaN */
    uint64_t *weights; /* [room] written by whoever weighs; equal logits have equal weights */
};

/* TD_NO_MEMORY, and nothing to undo. */
td_status_t engine_shortlist_init(struct engine_shortlist *list, uint32_t room) TD_MUST_USE;
void engine_shortlist_fini(struct engine_shortlist *list);

/* The k-th greatest of count values, none of them NaN; 1 <= k <= count. */
float engine_shortlist_kth(const float *values, uint32_t count, uint32_t k);

/* Keeps the first k in rank; 1 <= k. Weights need not be known yet, and are not kept. */
void engine_shortlist_keep_first(struct engine_shortlist *list, uint32_t k);

/* Keeps those that weigh at least so much. Returns the weight of what is left. */
uint64_t engine_shortlist_keep_heavy(struct engine_shortlist *list, uint64_t least);

/*
 * Keeps the fewest in rank that together weigh at least goal, which is above 0 and at most the weight
 * of all. Returns the weight of what is left.
 */
uint64_t engine_shortlist_keep_share(struct engine_shortlist *list, uint64_t goal);

/* The token in whose part of the line from 0 to the weight of all the point lies. */
uint32_t engine_shortlist_at(const struct engine_shortlist *list, uint64_t point);

#endif
