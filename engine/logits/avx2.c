/*
 * avx2.c: the passes with 256-bit vectors; see logits.h.
 *
 * What is left behind the last whole vector is done by the plain C set. Needs AVX2; compiled with its flag and called
 * only where it exists.
 */
#include <immintrin.h>
#include <math.h> /* INFINITY; nothing of libm is called */
#include <stddef.h>

#include "engine/logits/exponential.h"
#include "engine/logits/logits.h"

#define INLINE static inline __attribute__((always_inline))
#define LANES  8

INLINE float reduce_maximum(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));

    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

/* The second operand is what max gives where the first is NaN. */
static float tile_maximum(const float *logits)
{
    __m256 even = _mm256_set1_ps(-INFINITY);
    __m256 odd = even;

    for (uint32_t i = 0; i < ENGINE_LOGITS_TILE; i += 2 * LANES) {
        even = _mm256_max_ps(_mm256_loadu_ps(logits + i), even);
        odd = _mm256_max_ps(_mm256_loadu_ps(logits + i + LANES), odd);
    }
    return reduce_maximum(_mm256_max_ps(even, odd));
}

static void maxima(const float *logits, uint32_t count, float *maxima_out)
{
    uint32_t first = 0;

    for (; first + ENGINE_LOGITS_TILE <= count; first += ENGINE_LOGITS_TILE)
        *maxima_out++ = tile_maximum(logits + first);
    engine_logits_reference.maxima(logits + first, count - first, maxima_out);
}

static uint32_t collect(const float *logits, uint32_t count, float least, uint32_t first_id,
                        uint32_t *ids_out, float *values_out)
{
    const __m256 limit = _mm256_set1_ps(least);
    uint32_t found = 0;
    uint32_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        __m256 reached = _mm256_cmp_ps(_mm256_loadu_ps(logits + i), limit, _CMP_GE_OQ);
        uint32_t chosen = (uint32_t)_mm256_movemask_ps(reached);

        for (; chosen != 0; chosen &= chosen - 1) {
            uint32_t at = i + (uint32_t)__builtin_ctz(chosen);

            ids_out[found] = first_id + at;
            values_out[found++] = logits[at];
        }
    }
    return found + engine_logits_reference.collect(logits + i, count - i, least, first_id + i,
                                                   ids_out + found, values_out + found);
}

/* logits_exp times 2^ENGINE_WEIGHT_BITS, which goes into the exponent. */
INLINE __m256 exp_scaled(__m256 x)
{
    __m256 alive = _mm256_cmp_ps(x, _mm256_set1_ps(EXP_LEAST), _CMP_GT_OQ);
    __m256i whole = _mm256_cvttps_epi32(
        _mm256_sub_ps(_mm256_mul_ps(x, _mm256_set1_ps(EXP_LOG2E)), _mm256_set1_ps(0.5f)));
    __m256i exponent =
        _mm256_slli_epi32(_mm256_add_epi32(whole, _mm256_set1_epi32(127 + ENGINE_WEIGHT_BITS)), 23);
    __m256 n = _mm256_cvtepi32_ps(whole);
    __m256 r = _mm256_sub_ps(_mm256_sub_ps(x, _mm256_mul_ps(n, _mm256_set1_ps(EXP_LN2_HIGH))),
                             _mm256_mul_ps(n, _mm256_set1_ps(EXP_LN2_LOW)));
    __m256 p = _mm256_set1_ps(EXP_TERM_7);

    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(EXP_TERM_6));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(EXP_TERM_5));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(EXP_TERM_4));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(EXP_TERM_3));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(EXP_TERM_2));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f));
    p = _mm256_add_ps(_mm256_mul_ps(p, r), _mm256_set1_ps(1.0f));
    return _mm256_and_ps(alive, _mm256_mul_ps(p, _mm256_castsi256_ps(exponent)));
}

/* Rounded down to whole numbers, which are below 2^52: added to 2^52 they are the low bits of the sum. */
INLINE __m256i whole_numbers(__m128 values)
{
    const __m256d base = _mm256_set1_pd(4503599627370496.0);
    __m256d whole =
        _mm256_round_pd(_mm256_cvtps_pd(values), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);

    return _mm256_xor_si256(_mm256_castpd_si256(_mm256_add_pd(whole, base)),
                            _mm256_castpd_si256(base));
}

INLINE uint64_t sum4(__m256i v)
{
    __m128i two = _mm_add_epi64(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));

    return (uint64_t)_mm_cvtsi128_si64(two) + (uint64_t)_mm_extract_epi64(two, 1);
}

INLINE uint64_t weigh_all(const float *logits, uint32_t count, float best, float temperature,
                          uint64_t *weights_out)
{
    const __m256 best_of_all = _mm256_set1_ps(best);
    const __m256 divisor = _mm256_set1_ps(temperature);
    __m256i total = _mm256_setzero_si256();
    uint32_t i = 0;

    for (; i + LANES <= count; i += LANES) {
        __m256 distance = _mm256_sub_ps(_mm256_loadu_ps(logits + i), best_of_all);
        __m256 p = exp_scaled(_mm256_div_ps(distance, divisor));
        __m256i low = whole_numbers(_mm256_castps256_ps128(p));
        __m256i high = whole_numbers(_mm256_extractf128_ps(p, 1));

        total = _mm256_add_epi64(total, _mm256_add_epi64(low, high));
        if (weights_out != NULL) {
            _mm256_storeu_si256((__m256i *)(weights_out + i), low);
            _mm256_storeu_si256((__m256i *)(weights_out + i + LANES / 2), high);
        }
    }
    return sum4(total) +
           engine_logits_reference.weigh(logits + i, count - i, best, temperature,
                                         weights_out != NULL ? weights_out + i : NULL);
}

static uint64_t weigh(const float *logits, uint32_t count, float best, float temperature,
                      uint64_t *weights_out)
{
    return weights_out != NULL ? weigh_all(logits, count, best, temperature, weights_out)
                               : weigh_all(logits, count, best, temperature, NULL);
}

const struct engine_logits engine_logits_avx2 = {
    .name = "avx2", .maxima = maxima, .collect = collect, .weigh = weigh};
