/*
 * logarithm.h: log-probabilities out of logits and a sum of weights.
 *
 * ln(x) = n ln 2 + 2 artanh((m - 1) / (m + 1)) with x = m * 2^n and m near 1; the series of artanh up to the 21st power,
 * whose next term is below 1e-17. Doubles, each operation rounded by itself.
 */
#ifndef TANDEM_ENGINE_LOGITS_LOGARITHM_H
#define TANDEM_ENGINE_LOGITS_LOGARITHM_H

#include <float.h>
#include <stdint.h>
#include <string.h>

#include "engine/logits/shared.h"

#define LOG_LN2   0.693147180559945309
#define LOG_SQRT2 1.41421356237309505

/* ln(x) for finite x from 1 on. */
LOGITS_SHARED double logits_log(double x)
{
    uint64_t bits;
    double n;
    double m;
    double s;
    double square;
    double series = 0;

    memcpy(&bits, &x, sizeof bits);
    n = (double)(int)((bits >> 52) - 1023);
    bits = (bits & UINT64_C(0xfffffffffffff)) | UINT64_C(0x3ff0000000000000);
    memcpy(&m, &bits, sizeof m);
    if (m > LOG_SQRT2) {
        m *= 0.5;
        n += 1.0;
    }
    s = (m - 1.0) / (m + 1.0);
    square = s * s;
    for (int power = 21; power > 0; power -= 2)
        series = series * square + 1.0 / (double)power;
    return n * LOG_LN2 + 2.0 * s * series;
}

/*
 * The logarithm of a token's share, given the greatest logit and the sum of all weights at temperature 1 (logits.h).
 * What is too small for a float is the least of them.
 */
LOGITS_SHARED float logits_logprob(float logit, float best, uint64_t sum)
{
    double value =
        ((double)logit - (double)best) - logits_log((double)sum * 0x1p-40) + 0.0; /* no -0 */

    return value < -(double)FLT_MAX ? -FLT_MAX : (float)value;
}

#endif
