/*
 * gpu.h: a GPU as a device (device.h), through the CUDA runtime.
 *
 * Where there is no toolkit, absent.c stands in, which only says so. The runtime is linked statically and finds the driver when it is first used,
 * so a program with it starts on machines without a GPU.
 */
#ifndef TANDEM_ENGINE_CUDA_GPU_GPU_H
#define TANDEM_ENGINE_CUDA_GPU_GPU_H

#include "engine/cuda/device.h"

/*
 * gpu_open: the index-th GPU (as CUDA_VISIBLE_DEVICES numbers them), with a stream of its own.
 * TD_NOT_FOUND: no driver or no such GPU; TD_UNSUPPORTED: the driver is too old, or this program holds no code for
 * the GPU, or was built without CUDA; the text says what to do.
 */
td_status_t gpu_open(uint32_t index, struct cuda_device **device_out,
                     struct td_error *error) TD_MUST_USE;

/* "13.0", of the toolkit that this program was built with; NULL: built without CUDA. */
const char *gpu_toolkit(void);

/* How many GPUs the driver shows. TD_NOT_FOUND, TD_UNSUPPORTED: none can be used, and the text says why. */
td_status_t gpu_count(uint32_t *count_out, struct td_error *error) TD_MUST_USE;

#endif
