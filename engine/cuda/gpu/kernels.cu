/*
 * kernels.cu: all kernels as code for GPUs, and the table by which device.c launches them.
 */
#include "engine/cuda/gpu/kernels.h"

#include "engine/cuda/kernels/attention.h"
#include "engine/cuda/kernels/attention_floats.h"
#include "engine/cuda/kernels/fill.h"
#include "engine/cuda/kernels/hash.h"
#include "engine/cuda/kernels/pack.h"
#include "engine/cuda/kernels/products.h"
#include "engine/cuda/kernels/products_tiled.h"
#include "engine/cuda/kernels/products_wide.h"
#include "engine/cuda/kernels/rows.h"
#include "engine/cuda/kernels/sample.h"

struct gpu_kernel gpu_kernel_of(enum cuda_kernel kernel)
{
    struct gpu_kernel found = {};

    switch (kernel) {
#define X(label, member, threads)                           \
    case CUDA_KERNEL_##member:                              \
        found.function = (const void *)cuda_kernel_##label; \
        found.name = #label;                                \
        break;
        CUDA_OTHER_KERNELS(X)
#undef X
#define X(label, member, dim, height, slots)                         \
    case CUDA_KERNEL_##member:                                       \
        found.function = (const void *)cuda_kernel_##label;          \
        found.name = #label;                                         \
        found.shared_bytes = CUDA_ATTEND_SHARED(dim, height, slots); \
        break;
        CUDA_ATTEND_KERNELS(X)
#undef X
#define Y(label, member, threads, shared)                        \
    case CUDA_KERNEL_##member:                                   \
        found.function = (const void *)cuda_kernel_##label;      \
        found.name = #label;                                     \
        found.shared_bytes = (shared);                           \
        found.needs_warpgroups = (threads) == CUDA_WIDE_THREADS; \
        break;
#define X(label, member) CUDA_PRODUCTS(Y, label, member)
        CUDA_PACKED_TYPES(X)
#undef X
#undef Y
    case CUDA_KERNEL_COUNT: break;
    }
    return found;
}
