/*
 * change.h: what a bias and penalties make of one logit; engine/penalty.h says of which, and in which order.
 *
 * What is not finite says that a token is impossible, or that the backend is broken, and stays as it is. A finite logit
 * stays finite.
 */
#ifndef TANDEM_ENGINE_LOGITS_CHANGE_H
#define TANDEM_ENGINE_LOGITS_CHANGE_H

#include <float.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/logits/shared.h"

LOGITS_SHARED float logits_finite(float value)
{
    if (value > FLT_MAX)
        return FLT_MAX;
    return value < -FLT_MAX ? -FLT_MAX : value;
}

LOGITS_SHARED bool logits_is_finite(float logit)
{
    return logit >= -FLT_MAX && logit <= FLT_MAX;
}

LOGITS_SHARED float logits_biased(float logit, float bias)
{
    return logits_is_finite(logit) ? logits_finite(logit + bias) : logit;
}

/* repetition is above 0, and 1 if there is none; count: how often the token is in the output; 0: in the prompt alone. */
LOGITS_SHARED float logits_penalised(float logit, float repetition, float frequency, float presence,
                                     uint32_t count)
{
    float value;

    if (!logits_is_finite(logit))
        return logit;
    value = logits_finite(logit > 0.0f ? logit / repetition : logit * repetition);
    if (count == 0)
        return value;
    value = logits_finite(value - frequency * (float)count);
    return logits_finite(value - presence);
}

#endif
