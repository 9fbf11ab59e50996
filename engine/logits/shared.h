/*
 * shared.h: arithmetic that the core and kernels for devices both do: one text, compiled for either, so that both give
 * the same bits. Single operations of IEEE numbers, none of them contracted, and nothing of the C library.
 */
#ifndef TANDEM_ENGINE_LOGITS_SHARED_H
#define TANDEM_ENGINE_LOGITS_SHARED_H

#ifdef __CUDACC__
#define LOGITS_SHARED static __device__ __forceinline__
#else
#define LOGITS_SHARED static inline
#endif

#endif
