/*
 * simt.h: the few words in which kernels are written, for two readers.
 *
 * Kernels are C in the common part of C11 and CUDA C++. nvcc makes code for GPUs from them; a C compiler
 * makes functions that the interpreter (engine/cuda/interpreted) runs thread by thread, so that the very same
 * source is tested on machines without a GPU. Both round alike: contraction is off, fmaf is written where it is
 * meant, sums have a fixed order, and sums over a warp go through the same tree.
 *
 * Rules for kernels: a thread either reaches all barriers of its block or, as a whole warp, none; no word of the
 * C library beyond fmaf, sqrtf and memcpy.
 *
 * Early launches: where the device can, a kernel begins while the one before it still runs, and there is nothing in memory
 * yet of what that makes. So every thread says simt_await_earlier, behind which all earlier kernels are done and what
 * they wrote is seen. SIMT_KERNEL says it first of all. A kernel of SIMT_KERNEL_EARLY says it by itself, and until then
 * may read what was there before the first of the queue (weights), and write nothing. That all threads of all kernels wait
 * is what makes the end of a kernel the end of all before it too; the interpreter ends the process where one does not.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_SIMT_H
#define TANDEM_ENGINE_CUDA_KERNELS_SIMT_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SIMT_WARP 32

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#define SIMT_INLINE static __device__ __forceinline__
#define SIMT_SHARED __shared__
#define SIMT_UNROLL _Pragma("unroll")
#define SIMT_ASSERT static_assert /* while it is compiled */

/*
 * SIMT_KERNEL(name, threads, struct args): a kernel whose blocks have that many threads. Of SIMT_KERNEL_EARLY, which waits by
 * itself, a multiprocessor has registers for so many blocks.
 */
#define SIMT_KERNEL_EARLY(name, threads, blocks, type)              \
    extern "C" __global__ void __launch_bounds__(threads, (blocks)) \
        cuda_kernel_##name(const type args)
#define SIMT_KERNEL(name, threads, type)                                                      \
    SIMT_INLINE void cuda_body_##name(const type &args);                                      \
    extern "C" __global__ void __launch_bounds__(threads) cuda_kernel_##name(const type args) \
    {                                                                                         \
        simt_release_later();                                                                 \
        simt_await_earlier();                                                                 \
        cuda_body_##name(args);                                                               \
    }                                                                                         \
    SIMT_INLINE void cuda_body_##name(const type &args)

/* The next kernel may begin, when all blocks have said so. Both words mean nothing before compute capability 9.0. */
SIMT_INLINE void simt_release_later(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Waits for the end of all kernels before this one. */
SIMT_INLINE void simt_await_earlier(void)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

SIMT_INLINE uint32_t simt_thread(void)
{
    return threadIdx.x;
}

SIMT_INLINE uint32_t simt_block_x(void)
{
    return blockIdx.x;
}

SIMT_INLINE uint32_t simt_block_y(void)
{
    return blockIdx.y;
}

SIMT_INLINE uint32_t simt_block_z(void)
{
    return blockIdx.z;
}

/* All threads of the block wait for each other. */
SIMT_INLINE void simt_barrier(void)
{
    __syncthreads();
}

/* The sum over a warp, the same bits in every lane: halves 16, 8, 4, 2, 1 lanes apart. */
SIMT_INLINE float simt_warp_sum(float value)
{
    SIMT_UNROLL
    for (int apart = SIMT_WARP / 2; apart > 0; apart /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, apart);
    return value;
}

/* The largest over a warp; no lane may have a NaN. */
SIMT_INLINE float simt_warp_max(float value)
{
    SIMT_UNROLL
    for (int apart = SIMT_WARP / 2; apart > 0; apart /= 2) {
        float other = __shfl_xor_sync(0xffffffffu, value, apart);

        value = other > value ? other : value;
    }
    return value;
}

SIMT_INLINE float simt_half_to_float(uint16_t half)
{
    return __half2float(__ushort_as_half(half));
}

SIMT_INLINE uint16_t simt_float_to_half(float value)
{
    return __half_as_ushort(__float2half_rn(value));
}

/* To nearest, ties to even. */
SIMT_INLINE uint16_t simt_float_to_bf16(float value)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(value));
}

#else

#include "engine/cuda/interpreted/interpreter.h"
#include "model/quant.h"

#ifdef TANDEM_SANITIZED
#define SIMT_INLINE static inline /* forty products, all inlined, would be compiled for minutes */
#else
#define SIMT_INLINE static inline __attribute__((always_inline))
#endif
#define SIMT_SHARED static
#define SIMT_UNROLL
#define SIMT_ASSERT _Static_assert

#define SIMT_KERNEL_OF(name, type, await)               \
    static void cuda_kernel_##name(const type args);    \
    void interpret_kernel_##name(const void *args);     \
    extern const size_t interpret_bytes_##name;         \
    const size_t interpret_bytes_##name = sizeof(type); \
    void interpret_kernel_##name(const void *args)      \
    {                                                   \
        await;                                          \
        cuda_kernel_##name(*(const type *)args);        \
    }                                                   \
    static void cuda_kernel_##name(const type args)

#define SIMT_KERNEL_EARLY(name, threads, blocks, type) SIMT_KERNEL_OF(name, type, (void)0)
#define SIMT_KERNEL(name, threads, type)               SIMT_KERNEL_OF(name, type, simt_await_earlier())

#define simt_release_later() ((void)0) /* launches run one after the other */
#define simt_await_earlier() interpreter_await_earlier()

#define simt_thread()            (interpreter_now.thread)
#define simt_block_x()           (interpreter_now.x)
#define simt_block_y()           (interpreter_now.y)
#define simt_block_z()           (interpreter_now.z)
#define simt_barrier()           interpreter_barrier()
#define simt_warp_sum(value)     interpreter_warp_sum(value)
#define simt_warp_max(value)     interpreter_warp_max(value)
#define simt_half_to_float(half) model_half_to_float(half)
#define simt_float_to_half(x)    model_float_to_half(x)
#define simt_float_to_bf16(x)    interpreter_float_to_bf16(x)

#endif

SIMT_INLINE uint32_t simt_lane(void)
{
    return simt_thread() % SIMT_WARP;
}

SIMT_INLINE uint32_t simt_warp(void)
{
    return simt_thread() / SIMT_WARP;
}

#endif
