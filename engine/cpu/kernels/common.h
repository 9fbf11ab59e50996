/*
 * common.h: what all kernels share: lanes, and how their loops become registers.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_COMMON_H
#define TANDEM_ENGINE_CPU_KERNELS_COMMON_H

#include <stdint.h>

#define CPU_LANES 16

/*
 * In front of a loop with a small constant count whose arrays must become registers. Not under sanitizers, which
 * put a check at every access: unrolled, a file of kernels takes them minutes to compile.
 */
#if defined(TANDEM_SANITIZED) && defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(disable)")
#elif defined(TANDEM_SANITIZED)
#define CPU_UNROLL
#elif defined(__clang__)
#define CPU_UNROLL _Pragma("clang loop unroll(full)")
#else
#define CPU_UNROLL _Pragma("GCC unroll 16")
#endif

static inline uint32_t cpu_pad(uint32_t count)
{
    return (count + CPU_LANES - 1) / CPU_LANES * CPU_LANES;
}

#endif
