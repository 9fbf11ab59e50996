/* limits_avx512.c: the limits with AVX-512, without its whole-number products; see limits.h. */
#include "bench/limits_avx512.h"

#define CHAINS  8
#define PRODUCT (2 * 64) /* operations of one multiplication */

/* As in limits_avx2.c. */
static uint64_t multiply(uint64_t rounds)
{
    __m512i sums[CHAINS];
    __m512i left = _mm512_set1_epi8(3);
    __m512i right = _mm512_set1_epi8(5);

    for (int chain = 0; chain < CHAINS; chain++)
        sums[chain] = _mm512_set1_epi16((short)chain);
    for (uint64_t round = 0; round < rounds; round++) {
        CPU_UNROLL
        for (int chain = 0; chain < CHAINS; chain++) {
            __asm__("" : "+v"(left));
            sums[chain] = _mm512_add_epi16(sums[chain], _mm512_maddubs_epi16(left, right));
        }
    }
    for (int chain = 1; chain < CHAINS; chain++)
        sums[0] = _mm512_or_si512(sums[0], sums[chain]);
    return bench_fold(sums[0]);
}

const struct bench_probe bench_probe_avx512 = {.read = bench_read_avx512,
                                               .multiply = multiply,
                                               .round_operations = (uint64_t)CHAINS * PRODUCT};
