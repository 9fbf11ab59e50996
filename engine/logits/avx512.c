/*
 * avx512.c: the passes with 512-bit vectors; see logits.h.
 *
 * Needs AVX-512 F and DQ; compiled with these flags and called only where they exist.
 */
#include <immintrin.h>
#include <math.h> /* INFINITY; nothing of libm is called */
#include <stdbool.h>
#include <stddef.h>

#include "engine/logits/exponential.h"
#include "engine/logits/logits.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES  16

/* The lanes of the vector that begins at `at` which are below count. */
INLINE __mmask16 lanes_below(uint32_t count, uint32_t at)
{
    return (__mmask16)(count - at >= LANES ? 0xffff : (1U << (count - at)) - 1);
}

/* The second operand is what max gives where the first is NaN. */
static float tile_maximum(const float *logits, uint32_t count)
{
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512 even = nothing;
    __m512 odd = nothing;
    uint32_t i = 0;

    for (; i + 2 * LANES <= count; i += 2 * LANES) {
        even = _mm512_max_ps(_mm512_loadu_ps(logits + i), even);
        odd = _mm512_max_ps(_mm512_loadu_ps(logits + i + LANES), odd);
    }
    for (; i < count; i += LANES)
        even =
            _mm512_max_ps(_mm512_mask_loadu_ps(nothing, lanes_below(count, i), logits + i), even);
    return _mm512_reduce_max_ps(_mm512_max_ps(even, odd));
}

static void maxima(const float *logits, uint32_t count, float *maxima_out)
{
    uint32_t first = 0;

    for (; first + ENGINE_LOGITS_TILE <= count; first += ENGINE_LOGITS_TILE)
        *maxima_out++ = tile_maximum(logits + first, ENGINE_LOGITS_TILE);
    if (first < count)
        *maxima_out = tile_maximum(logits + first, count - first);
}

/* Packs in a register and stores all of it: a compressing store takes many times as long on some processors. */
static uint32_t collect(const float *logits, uint32_t count, float least, uint32_t first_id,
                        uint32_t *ids_out, float *values_out)
{
    const __m512 limit = _mm512_set1_ps(least);
    const __m512i step = _mm512_set1_epi32(LANES);
    __m512i ids =
        _mm512_add_epi32(_mm512_set1_epi32((int)first_id),
                         _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
    uint32_t found = 0;

    for (uint32_t i = 0; i < count; i += LANES, ids = _mm512_add_epi32(ids, step)) {
        __mmask16 inside = lanes_below(count, i);
        __m512 values = _mm512_maskz_loadu_ps(inside, logits + i);
        __mmask16 chosen = _mm512_mask_cmp_ps_mask(inside, values, limit, _CMP_GE_OQ);

        if (chosen == 0)
            continue;
        _mm512_storeu_si512(ids_out + found, _mm512_maskz_compress_epi32(chosen, ids));
        _mm512_storeu_ps(values_out + found, _mm512_maskz_compress_ps(chosen, values));
        found += (uint32_t)__builtin_popcount(chosen);
    }
    return found;
}

/* logits_exp times 2^ENGINE_WEIGHT_BITS, which goes into the exponent. */
INLINE __m512 exp_scaled(__m512 x)
{
    __mmask16 alive = _mm512_cmp_ps_mask(x, _mm512_set1_ps(EXP_LEAST), _CMP_GT_OQ);
    __m512i whole = _mm512_cvttps_epi32(
        _mm512_sub_ps(_mm512_mul_ps(x, _mm512_set1_ps(EXP_LOG2E)), _mm512_set1_ps(0.5f)));
    __m512i exponent =
        _mm512_slli_epi32(_mm512_add_epi32(whole, _mm512_set1_epi32(127 + ENGINE_WEIGHT_BITS)), 23);
    __m512 n = _mm512_cvtepi32_ps(whole);
    __m512 r = _mm512_sub_ps(_mm512_sub_ps(x, _mm512_mul_ps(n, _mm512_set1_ps(EXP_LN2_HIGH))),
                             _mm512_mul_ps(n, _mm512_set1_ps(EXP_LN2_LOW)));
    __m512 p = _mm512_set1_ps(EXP_TERM_7);

    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(EXP_TERM_6));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(EXP_TERM_5));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(EXP_TERM_4));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(EXP_TERM_3));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(EXP_TERM_2));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.0f));
    p = _mm512_add_ps(_mm512_mul_ps(p, r), _mm512_set1_ps(1.0f));
    return _mm512_maskz_mul_ps(alive, p, _mm512_castsi512_ps(exponent));
}

INLINE uint64_t weigh_all(const float *logits, uint32_t count, float best, float temperature,
                          uint64_t *weights_out)
{
    const __m512 best_of_all = _mm512_set1_ps(best);
    const __m512 divisor = _mm512_set1_ps(temperature);
    const __m512 nothing = _mm512_set1_ps(-INFINITY);
    __m512i total = _mm512_setzero_si512();

    for (uint32_t i = 0; i < count; i += LANES) {
        __mmask16 inside = lanes_below(count, i);
        __m512 values = _mm512_mask_loadu_ps(nothing, inside, logits + i);
        __m512 p = exp_scaled(_mm512_div_ps(_mm512_sub_ps(values, best_of_all), divisor));
        __m512i low = _mm512_cvttps_epu64(_mm512_castps512_ps256(p));
        __m512i high = _mm512_cvttps_epu64(_mm512_extractf32x8_ps(p, 1));

        total = _mm512_add_epi64(total, _mm512_add_epi64(low, high));
        if (weights_out != NULL) {
            _mm512_mask_storeu_epi64(weights_out + i, (__mmask8)inside, low);
            _mm512_mask_storeu_epi64(weights_out + i + LANES / 2, (__mmask8)(inside >> 8), high);
        }
    }
    return (uint64_t)_mm512_reduce_add_epi64(total);
}

static uint64_t weigh(const float *logits, uint32_t count, float best, float temperature,
                      uint64_t *weights_out)
{
    return weights_out != NULL ? weigh_all(logits, count, best, temperature, weights_out)
                               : weigh_all(logits, count, best, temperature, NULL);
}

const struct engine_logits engine_logits_avx512 = {
    .name = "avx512", .maxima = maxima, .collect = collect, .weigh = weigh};
