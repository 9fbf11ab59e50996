/* limits_avx2.c: the limits with AVX2; see limits.h. */
#include <immintrin.h>

#include "bench/limits.h"
#include "engine/cpu/kernels/common.h"

#define CHAINS  8
#define LOADS   (BENCH_STREAM_BYTES / 32)
#define PRODUCT (2 * 32) /* operations of one multiplication */

static uint64_t fold(__m256i value)
{
    __m128i half = _mm_or_si128(_mm256_castsi256_si128(value), _mm256_extracti128_si256(value, 1));

    return (uint64_t)_mm_cvtsi128_si64(half) | (uint64_t)_mm_extract_epi64(half, 1);
}

static uint64_t read(const uint8_t *memory, size_t bytes)
{
    __m256i sums[LOADS] = {0};

    for (size_t i = 0; i < bytes; i += BENCH_STREAM_BYTES)
        for (size_t stream = 0; stream < BENCH_STREAMS; stream++) {
            const __m256i *at = (const void *)(memory + stream * bytes + i);

            CPU_UNROLL
            for (size_t load = 0; load < LOADS; load++)
                sums[load] = _mm256_or_si256(sums[load], _mm256_loadu_si256(at + load));
        }
    for (size_t load = 1; load < LOADS; load++)
        sums[0] = _mm256_or_si256(sums[0], sums[load]);
    return fold(sums[0]);
}

/* Bytes to sums of two in 16 bits, and those summed; few sums of small quants are taken on to 32 bits. */
static uint64_t multiply(uint64_t rounds)
{
    __m256i sums[CHAINS];
    __m256i left = _mm256_set1_epi8(3);
    __m256i right = _mm256_set1_epi8(5);

    for (int chain = 0; chain < CHAINS; chain++)
        sums[chain] = _mm256_set1_epi16((short)chain);
    for (uint64_t round = 0; round < rounds; round++) {
        CPU_UNROLL
        for (int chain = 0; chain < CHAINS; chain++) {
            __asm__("" : "+x"(left)); /* for all that the compiler knows, another factor */
            sums[chain] = _mm256_add_epi16(sums[chain], _mm256_maddubs_epi16(left, right));
        }
    }
    for (int chain = 1; chain < CHAINS; chain++)
        sums[0] = _mm256_or_si256(sums[0], sums[chain]);
    return fold(sums[0]);
}

const struct bench_probe bench_probe_avx2 = {
    .read = read, .multiply = multiply, .round_operations = (uint64_t)CHAINS * PRODUCT};
