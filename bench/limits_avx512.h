/*
 * limits_avx512.h: reading with AVX-512, for the two files with its flags; see limits.h.
 */
#ifndef TANDEM_BENCH_LIMITS_AVX512_H
#define TANDEM_BENCH_LIMITS_AVX512_H

#include <immintrin.h>

#include "bench/limits.h"
#include "engine/cpu/kernels/common.h"

#define BENCH_LOADS (BENCH_STREAM_BYTES / 64)

static inline uint64_t bench_fold(__m512i value)
{
    return (uint64_t)_mm512_reduce_or_epi64(value);
}

static inline uint64_t bench_read_avx512(const uint8_t *memory, size_t bytes)
{
    __m512i sums[BENCH_LOADS] = {0};

    for (size_t i = 0; i < bytes; i += BENCH_STREAM_BYTES)
        for (size_t stream = 0; stream < BENCH_STREAMS; stream++) {
            const uint8_t *at = memory + stream * bytes + i;

            CPU_UNROLL
            for (size_t load = 0; load < BENCH_LOADS; load++)
                sums[load] =
                    _mm512_or_si512(sums[load], _mm512_loadu_si512(at + load * sizeof sums[0]));
        }
    for (size_t load = 1; load < BENCH_LOADS; load++)
        sums[0] = _mm512_or_si512(sums[0], sums[load]);
    return bench_fold(sums[0]);
}

#endif
