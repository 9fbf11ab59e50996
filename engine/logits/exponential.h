/*
 * exponential.h: e to the power of a distance between logits, which every instruction set computes alike.
 *
 * exp(x) = 2^n * exp(r) with |r| <= ln(2)/2; exp(r) by its Taylor polynomial of degree 7, whose error
 * (r^8/8! < 6e-9) is below half a unit of float. ln(2) is split in two so that r is exact. Each multiplication
 * and addition rounds by itself.
 */
#ifndef TANDEM_ENGINE_LOGITS_EXPONENTIAL_H
#define TANDEM_ENGINE_LOGITS_EXPONENTIAL_H

#include <stdint.h>
#include <string.h>

#include "engine/logits/shared.h"

#define EXP_LEAST    (-87.0f) /* at and below it the result is 0 */
#define EXP_LOG2E    1.44269504f
#define EXP_LN2_HIGH 0.693145752f /* 16 bits: n * EXP_LN2_HIGH is exact */
#define EXP_LN2_LOW  1.42860677e-6f
#define EXP_TERM_7   (1.0f / 5040.0f)
#define EXP_TERM_6   (1.0f / 720.0f)
#define EXP_TERM_5   (1.0f / 120.0f)
#define EXP_TERM_4   (1.0f / 24.0f)
#define EXP_TERM_3   (1.0f / 6.0f)
#define EXP_TERM_2   0.5f

/* exp(x) for x <= 0 by additions and multiplications alone: the same bits on every machine. */
LOGITS_SHARED float logits_exp(float x)
{
    float n;
    float r;
    float p;
    float power;
    uint32_t bits;

    if (!(x > EXP_LEAST)) /* NaN too */
        return 0.0f;
    n = (float)(int)(x * EXP_LOG2E - 0.5f);
    r = (x - n * EXP_LN2_HIGH) - n * EXP_LN2_LOW;
    p = EXP_TERM_7;
    p = p * r + EXP_TERM_6;
    p = p * r + EXP_TERM_5;
    p = p * r + EXP_TERM_4;
    p = p * r + EXP_TERM_3;
    p = p * r + EXP_TERM_2;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    bits = (uint32_t)((int)n + 127) << 23; /* 2^n */
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

#endif
