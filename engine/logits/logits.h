/*
 * logits.h: the passes over logits that drawing a token is made of, for several instruction sets.
 *
 * A tile is ENGINE_LOGITS_TILE neighbouring logits (the last one may be shorter). One pass finds the greatest logit of
 * each tile; afterwards whoever looks for logits above a limit need only look into tiles whose
 * greatest one is.
 *
 * All sets give the same bits: a maximum is exact, weights are made by the same single operations on
 * floats (no fused ones), and their sums are sums of whole numbers. The plain C set is the definition.
 */
#ifndef TANDEM_ENGINE_LOGITS_LOGITS_H
#define TANDEM_ENGINE_LOGITS_LOGITS_H

#include <stdint.h>

#define ENGINE_LOGITS_TILE  256
#define ENGINE_LOGITS_SLACK 16 /* collect may write so many entries beyond what it returns */
#define ENGINE_WEIGHT_BITS \
    40 /* weight of the best token: 2^40; a vocabulary of 2^20 sums to below 2^60 */

/* At this distance from the best logit, in units of the temperature, a weight is zero: above ln 2^40. */
#define ENGINE_WEIGHT_REACH 28.0

struct engine_logits {
    const char *name;
    /* The greatest of each tile of count logits; NaN counts as minus infinity. */
    void (*maxima)(const float *logits, uint32_t count, float *maxima_out);
    /*
     * Writes the id (first_id is that of logits[0]) and value of each logit that is at least `least`, ids
     * rising; returns how many.
     */
    uint32_t (*collect)(const float *logits, uint32_t count, float least, uint32_t first_id,
                        uint32_t *ids_out, float *values_out);
    /*
     * The weights of count logits: exp((logit - best) / temperature) in units of 2^-ENGINE_WEIGHT_BITS,
     * rounded down; best is not below any. Returns their sum. weights_out may be NULL.
     */
    uint64_t (*weigh)(const float *logits, uint32_t count, float best, float temperature,
                      uint64_t *weights_out);
};

extern const struct engine_logits engine_logits_reference;
extern const struct engine_logits engine_logits_avx2;
extern const struct engine_logits engine_logits_avx512;

#define ENGINE_LOGITS_SETS_MAX 3

/* The sets that this processor can run, the fastest last. Returns how many. */
uint32_t engine_logits_available(
    const struct engine_logits *sets_out[static ENGINE_LOGITS_SETS_MAX]);

/* The set of that name; the fastest there is if name is NULL or no set that this processor can run. */
const struct engine_logits *engine_logits_choose(const char *name);

#endif
