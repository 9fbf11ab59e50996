/*
 * exponential.h: the constants of engine_exp, which every instruction set computes alike.
 *
 * exp(x) = 2^n * exp(r) with |r| <= ln(2)/2; exp(r) by its Taylor polynomial of degree 7, whose error
 * (r^8/8! < 6e-9) is below half a unit of float. ln(2) is split in two so that r is exact. Each multiplication
 * and addition rounds by itself.
 */
#ifndef TANDEM_ENGINE_LOGITS_EXPONENTIAL_H
#define TANDEM_ENGINE_LOGITS_EXPONENTIAL_H

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

#endif
