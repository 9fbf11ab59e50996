/*
 * device.c: a device of ordinary memory whose kernels the interpreter runs.
 *
 * It counts what is taken, so that a device that is full can be tried, and fills memory with a pattern, so that what
 * is read before it was written shows.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/interpreted/interpreter.h"

#define ALIGNMENT 256
#define UNWRITTEN 0xff /* as floats and halves: NaN */

#define X(name, member, threads) void interpret_kernel_##name(const void *args);
CUDA_OTHER_KERNELS(X)
#undef X
#define X(name, member, id) void interpret_kernel_product_##name(const void *args);
CUDA_TYPES(X)
#undef X

static const struct {
    void (*run)(const void *args);
    const char *name;
    uint32_t threads;
} kernels[CUDA_KERNEL_COUNT] = {
#define X(label, member, count) [CUDA_KERNEL_##member] = {interpret_kernel_##label, #label, count},
    CUDA_OTHER_KERNELS(X)
#undef X
#define X(label, member, id) \
    [CUDA_KERNEL_PRODUCT_##  \
        member] = {interpret_kernel_product_##label, "product_" #label, CUDA_PRODUCT_THREADS},
        CUDA_TYPES(X)
#undef X
};

/* In front of every piece of memory: how large it is. */
struct piece {
    size_t bytes;
};

struct interpreted {
    struct cuda_device base; /* first: see device.h */
    size_t taken;
};

static td_status_t free_bytes(struct cuda_device *device, size_t *bytes_out, struct td_error *error)
{
    (void)error;
    *bytes_out = device->info.memory_bytes - ((struct interpreted *)device)->taken;
    return TD_OK;
}

static td_status_t take(struct cuda_device *device, size_t bytes, void **memory_out,
                        struct td_error *error)
{
    struct interpreted *self = (struct interpreted *)device;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    uint8_t *memory = NULL;

    if (rounded >= bytes && rounded <= device->info.memory_bytes - self->taken)
        memory = aligned_alloc(ALIGNMENT, rounded + ALIGNMENT);
    if (memory == NULL)
        return td_fail(error, TD_NO_MEMORY, "cannot allocate %zu bytes of interpreted memory",
                       bytes);
    ((struct piece *)(void *)memory)->bytes = rounded;
    self->taken += rounded;
    memset(memory + ALIGNMENT, UNWRITTEN, rounded);
    *memory_out = memory + ALIGNMENT;
    return TD_OK;
}

static void give(struct cuda_device *device, void *memory)
{
    struct piece *piece = (struct piece *)(void *)((uint8_t *)memory - ALIGNMENT);

    ((struct interpreted *)device)->taken -= piece->bytes;
    free(piece);
}

static td_status_t take_host(struct cuda_device *device, size_t bytes, void **memory_out,
                             struct td_error *error)
{
    void *memory = malloc(bytes);

    (void)device;
    if (memory == NULL)
        return td_fail(error, TD_NO_MEMORY, "cannot allocate %zu bytes", bytes);
    *memory_out = memory;
    return TD_OK;
}

static void give_host(struct cuda_device *device, void *memory)
{
    (void)device;
    free(memory);
}

static td_status_t copy(struct cuda_device *device, void *to, const void *from, size_t bytes,
                        struct td_error *error)
{
    (void)device;
    (void)error;
    memcpy(to, from, bytes);
    return TD_OK;
}

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    (void)device;
    return interpreter_run(kernels[kernel].run, kernels[kernel].name, kernels[kernel].threads, grid,
                           args, error);
}

static td_status_t wait_for_nothing(struct cuda_device *device, struct td_error *error)
{
    (void)device;
    (void)error;
    return TD_OK;
}

static void close_device(struct cuda_device *device)
{
    free(device);
}

static const struct cuda_device_ops ops = {
    .free_bytes = free_bytes,
    .take = take,
    .give = give,
    .take_host = take_host,
    .give_host = give_host,
    .upload = copy,
    .download = copy,
    .launch = launch,
    .wait = wait_for_nothing,
    .close = close_device,
};

td_status_t interpreter_open(size_t memory_bytes, struct cuda_device **device_out,
                             struct td_error *error)
{
    struct interpreted *self = calloc(1, sizeof *self);

    if (self == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a device");
    self->base.ops = &ops;
    self->base.info.memory_bytes = memory_bytes;
    self->base.info.is_interpreted = true;
    snprintf(self->base.info.name, sizeof self->base.info.name, "interpreter");
    snprintf(self->base.info.description, sizeof self->base.info.description,
             "kernels run on the CPU, thread by thread");
    *device_out = &self->base;
    return TD_OK;
}
