/*
 * interpreter.h: runs kernels on the CPU, thread by thread, from the source that GPUs run.
 *
 * For tests: of the kernels' indexing, barriers and arithmetic, and of everything above them, on machines without a
 * GPU. Blocks run one after the other; the threads of a block are fibers that change at barriers and at sums over
 * warps. Slow: about a microsecond for each such change. A barrier that some threads never reach is found, and ends
 * the process with the kernel's name, as does a kernel that does not wait for earlier ones (kernels/simt.h). One device at
 * a time runs in a process.
 */
#ifndef TANDEM_ENGINE_CUDA_INTERPRETED_INTERPRETER_H
#define TANDEM_ENGINE_CUDA_INTERPRETED_INTERPRETER_H

#include <assert.h>
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
void interpreter_await_earlier(void);
float interpreter_warp_sum(float value);
float interpreter_warp_max(float value);
uint16_t interpreter_float_to_bf16(float value);

/* What every lane of the warp gives, lane after lane; stays until the lane's next word that is said together. */
#define INTERPRETER_GATHER_MAX 64 /* bytes of a lane */
const void *interpreter_gather(const void *given, size_t bytes);

/* For kernels/tensor.h alone: see there. */
#define INTERPRETER_THREADS_MAX  1024
#define INTERPRETER_SHARED_BYTES (227 << 10)
extern uint8_t interpreter_shared[INTERPRETER_SHARED_BYTES];
void interpreter_mma(float *sums, const uint32_t *a, const uint32_t *b,
                     float (*to_float)(uint16_t));
void interpreter_load(uint32_t *out, const void *row, bool is_turned);
uint32_t interpreter_bf16_minus(uint32_t a, uint32_t b);
uint32_t interpreter_bf16_times(uint32_t a, uint32_t b);
float interpreter_exchange(float value, uint32_t apart);
void interpreter_copy(void *to, const void *from, bool is_real);
void interpreter_copy_commit(void);
void interpreter_copy_wait(uint32_t groups);

/* For kernels/group.h alone: see there. */
uint32_t interpreter_shared_address(const void *shared);
void interpreter_group_mma(float sums[][4], uint32_t tiles, const uint32_t *a, uint64_t tokens,
                           bool is_added);
void interpreter_group_commit(void);
void interpreter_group_wait(uint32_t groups);
void interpreter_gate_make(uint64_t *place, uint32_t arrivals);
void interpreter_gate_expect(uint64_t *place, uint32_t bytes);
void interpreter_gate_copy(uint64_t *place, void *shared, const void *from, uint32_t bytes);
void interpreter_gate_arrive(uint64_t *place);
void interpreter_gate_wait(uint64_t *place, uint32_t parity);
void interpreter_group_reset(uint32_t threads);

/* For words at which threads wait for more than each other: lets others go on; and what they wait for has come nearer. */
void interpreter_yield(void);
void interpreter_moved(void);

/* Where a wide load or store goes, which ends the process where a GPU would end the kernel. */
static inline void *interpreter_aligned(const void *place, size_t bytes)
{
    assert((uintptr_t)place % bytes == 0);
    return (void *)(uintptr_t)place;
}

/* Before every block: shared memory holds what means nothing, and no copy is under way. */
void interpreter_tensor_reset(uint32_t threads, uint32_t shared_bytes);

struct interpreter_kernel {
    void (*run)(const void *args);
    const char *name;
    uint32_t threads;
    uint32_t shared_bytes; /* whose size the launch says */
};

/* Runs all blocks of a kernel. TD_NO_MEMORY if there is none for the fibers. */
td_status_t interpreter_run(const struct interpreter_kernel *kernel, struct cuda_grid grid,
                            const void *args, struct td_error *error) TD_MUST_USE;

/* A device with so much memory, which is ordinary memory. */
td_status_t interpreter_open(size_t memory_bytes, struct cuda_device **device_out,
                             struct td_error *error) TD_MUST_USE;

/*
 * From now on, until it is given back, a kernel that touches this memory, which a device gave, before it has waited for
 * earlier kernels ends the process with its name. Slow: for tests, which guard what kernels write. At most
 * INTERPRETER_GUARDS at a time.
 */
#define INTERPRETER_GUARDS 4
void interpreter_guard(void *memory);

#endif
