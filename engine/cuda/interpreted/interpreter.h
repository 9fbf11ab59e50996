/*
 * interpreter.h: runs kernels on the CPU, thread by thread, from the source that GPUs run.
 *
 * For tests: of the kernels' indexing, barriers and arithmetic, and of everything above them, on machines without a
 * GPU. Blocks run one after the other; the threads of a block are fibers that change at barriers and at sums over
 * warps. Slow: about a microsecond for each such change. A barrier that some threads never reach is found, and ends
 * the process with the kernel's name. One device at a time runs in a process.
 */
#ifndef TANDEM_ENGINE_CUDA_INTERPRETED_INTERPRETER_H
#define TANDEM_ENGINE_CUDA_INTERPRETED_INTERPRETER_H

#include <stdint.h>

#include "engine/cuda/device.h"

/* Where the running kernel is: read by kernels/simt.h. */
struct interpreter_place {
    uint32_t thread;
    uint32_t x;
    uint32_t y;
    uint32_t z;
};

extern struct interpreter_place interpreter_now;

/* For kernels/simt.h alone. */
void interpreter_barrier(void);
float interpreter_warp_sum(float value);
float interpreter_warp_max(float value);
uint16_t interpreter_float_to_bf16(float value);

/* Runs all blocks of a kernel. TD_NO_MEMORY if there is none for the fibers. */
td_status_t interpreter_run(void (*kernel)(const void *args), const char *name, uint32_t threads,
                            struct cuda_grid grid, const void *args,
                            struct td_error *error) TD_MUST_USE;

/* A device with so much memory, which is ordinary memory. */
td_status_t interpreter_open(size_t memory_bytes, struct cuda_device **device_out,
                             struct td_error *error) TD_MUST_USE;

#endif
