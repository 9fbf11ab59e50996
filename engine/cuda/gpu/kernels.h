/* kernels.h: between kernels.cu, which nvcc compiles, and device.c. */
#ifndef TANDEM_ENGINE_CUDA_GPU_KERNELS_H
#define TANDEM_ENGINE_CUDA_GPU_KERNELS_H

#include "engine/cuda/kernels/args.h"

#ifdef __cplusplus
extern "C" {
#endif

struct gpu_kernel {
    const void *function; /* for cudaLaunchKernel */
    const char *name;
    size_t shared_bytes; /* whose size the launch says */
    bool needs_warpgroups;
};

struct gpu_kernel gpu_kernel_of(enum cuda_kernel kernel);

#ifdef __cplusplus
}
#endif

#endif
