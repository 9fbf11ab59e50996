/* limits_vnni.c: the limits with AVX-512 and vpdpbusd; see limits.h. */
#include "bench/limits_avx512.h"

#define CHAINS  12
#define PRODUCT (2 * 64) /* operations of one multiplication */

static uint64_t multiply(uint64_t rounds)
{
    __m512i sums[CHAINS];
    __m512i left = _mm512_set1_epi8(3);
    __m512i right = _mm512_set1_epi8(5);

    for (int chain = 0; chain < CHAINS; chain++)
        sums[chain] = _mm512_set1_epi32(chain);
    for (uint64_t round = 0; round < rounds; round++) {
        CPU_UNROLL
        for (int chain = 0; chain < CHAINS; chain++)
            sums[chain] = _mm512_dpbusd_epi32(sums[chain], left, right);
    }
    for (int chain = 1; chain < CHAINS; chain++)
        sums[0] = _mm512_or_si512(sums[0], sums[chain]);
    return bench_fold(sums[0]);
}

const struct bench_probe bench_probe_vnni = {.read = bench_read_avx512,
                                             .multiply = multiply,
                                             .round_operations = (uint64_t)CHAINS * PRODUCT};
