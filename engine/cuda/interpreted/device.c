/*
 * device.c: a device of ordinary memory whose kernels the interpreter runs.
 *
 * It counts what is taken, so that a device that is full can be tried, and fills memory with a pattern, so that what
 * is read before it was written shows.
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/interpreted/guard.h"
#include "engine/cuda/interpreted/interpreter.h"

#define ALIGNMENT  256
#define PROCESSORS 4    /* that it says to have, so that work is shared out as on a small GPU */
#define UNWRITTEN  0xff /* as floats and halves: NaN */

/* Bytes of arguments, too: what is recorded needs a copy. */
#define X(name, member, threads)                    \
    void interpret_kernel_##name(const void *args); \
    extern const size_t interpret_bytes_##name;
CUDA_OTHER_KERNELS(X)
#undef X
#define X(name, member, dim, height, slots)         \
    void interpret_kernel_##name(const void *args); \
    extern const size_t interpret_bytes_##name;
CUDA_ATTEND_KERNELS(X)
#undef X
#define Y(name, member, threads, shared)            \
    void interpret_kernel_##name(const void *args); \
    extern const size_t interpret_bytes_##name;
#define X(name, member) CUDA_PRODUCTS(Y, name, member)
CUDA_PACKED_TYPES(X)
#undef X
#undef Y

static const struct {
    struct interpreter_kernel kernel;
    const size_t *args_bytes;
} kernels[CUDA_KERNEL_COUNT] = {
#define X(label, member, count) \
    [CUDA_KERNEL_##             \
        member] = {{interpret_kernel_##label, #label, count, 0}, &interpret_bytes_##label},
    CUDA_OTHER_KERNELS(X)
#undef X
#define X(label, member, dim, height, slots)                                          \
    [CUDA_KERNEL_##member] = {{interpret_kernel_##label, #label, CUDA_ATTEND_THREADS, \
                               CUDA_ATTEND_SHARED(dim, height, slots)},               \
                              &interpret_bytes_##label},
        CUDA_ATTEND_KERNELS(X)
#undef X
#define Y(label, member, count, shared) \
    [CUDA_KERNEL_##                     \
        member] = {{interpret_kernel_##label, #label, count, (shared)}, &interpret_bytes_##label},
#define X(label, member) CUDA_PRODUCTS(Y, label, member)
            CUDA_PACKED_TYPES(X)
#undef X
#undef Y
};

/* In front of every piece of memory, on a page of its own: how large it is. */
struct piece {
    size_t bytes;
};

static struct piece *piece_of(void *memory)
{
    return (struct piece *)(void *)((uint8_t *)memory - GUARD_PAGE);
}

/* A launch of a recorded step, with its arguments; or a product (struct cuda_dense), which is no kernel. */
struct recorded {
    struct recorded *next;
    enum cuda_kernel kernel; /* CUDA_KERNEL_COUNT: a product */
    struct cuda_grid grid;
    _Alignas(max_align_t) uint8_t args[];
};

struct cuda_graph {
    struct recorded *first;
    struct recorded **last;
};

struct interpreted {
    struct cuda_device base; /* first: see device.h */
    size_t taken;
    struct cuda_graph *recording;
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
    void *memory = NULL;

    if (rounded < bytes || rounded > device->info.memory_bytes - self->taken ||
        posix_memalign(&memory, GUARD_PAGE, GUARD_PAGE + rounded) != 0)
        return td_fail(error, TD_NO_MEMORY, "cannot allocate %zu bytes of interpreted memory",
                       bytes);
    *(struct piece *)memory = (struct piece){.bytes = rounded};
    self->taken += rounded;
    *memory_out = (uint8_t *)memory + GUARD_PAGE;
    memset(*memory_out, UNWRITTEN, rounded);
    return TD_OK;
}

static void give(struct cuda_device *device, void *memory)
{
    struct piece *piece = piece_of(memory);

    guard_remove(memory);
    ((struct interpreted *)device)->taken -= piece->bytes;
    free(piece);
}

void interpreter_guard(void *memory)
{
    guard_add(memory, piece_of(memory)->bytes);
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

static td_status_t run_kernel(enum cuda_kernel kernel, struct cuda_grid grid, const void *args,
                              struct td_error *error)
{
    return interpreter_run(&kernels[kernel].kernel, grid, args, error);
}

static float bf16_to_float(uint16_t bf16)
{
    uint32_t bits = (uint32_t)bf16 << 16;
    float value;

    memcpy(&value, &bits, sizeof value);
    return value;
}

/*
 * What a library does, in an order of sums that is not ours: from the last column to the first, and in two parts
 * where there are more than 64 rows, as libraries that cut a product by its size.
 */
static void multiply(const struct cuda_dense *dense)
{
    uint32_t parts = dense->tokens > 64 ? 2 : 1;

    for (uint32_t token = 0; token < dense->tokens; token++)
        for (uint32_t row = 0; row < dense->rows; row++) {
            const uint16_t *weights = dense->matrix + (size_t)row * dense->columns;
            const uint16_t *x = dense->x + (size_t)token * dense->columns;
            float *y = dense->y + (size_t)token * dense->stride + row;
            float sums[2] = {0};

            for (uint32_t i = dense->columns; i-- > 0;)
                sums[i % parts] += bf16_to_float(weights[i]) * bf16_to_float(x[i]);
            sums[0] += sums[1] + (dense->bias != NULL ? dense->bias[row] : 0);
            *y = dense->is_added ? *y + sums[0] : sums[0];
        }
}

static td_status_t record(struct cuda_graph *graph, enum cuda_kernel kernel, struct cuda_grid grid,
                          const void *args, size_t args_bytes, struct td_error *error)
{
    struct recorded *launch = malloc(sizeof *launch + args_bytes);

    if (launch == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory to record a step");
    *launch = (struct recorded){.kernel = kernel, .grid = grid};
    memcpy(launch->args, args, args_bytes);
    *graph->last = launch;
    graph->last = &launch->next;
    return TD_OK;
}

static td_status_t launch(struct cuda_device *device, enum cuda_kernel kernel,
                          struct cuda_grid grid, const void *args, struct td_error *error)
{
    struct interpreted *self = (struct interpreted *)device;

    return self->recording != NULL
               ? record(self->recording, kernel, grid, args, *kernels[kernel].args_bytes, error)
               : run_kernel(kernel, grid, args, error);
}

static td_status_t open_dense(struct cuda_device *device, void *workspace, size_t bytes,
                              struct td_error *error)
{
    (void)device;
    (void)error;
    memset(workspace, UNWRITTEN, bytes); /* ours to use */
    return TD_OK;
}

static td_status_t dense(struct cuda_device *device, const struct cuda_dense *product,
                         struct td_error *error)
{
    struct interpreted *self = (struct interpreted *)device;

    if (self->recording != NULL)
        return record(self->recording, CUDA_KERNEL_COUNT, (struct cuda_grid){0}, product,
                      sizeof *product, error);
    multiply(product);
    return TD_OK;
}

/* Nothing is ever still queued. */
static td_status_t wait_for_nothing(struct cuda_device *device, struct td_error *error)
{
    (void)device;
    (void)error;
    return TD_OK;
}

static td_status_t mark_nothing(struct cuda_device *device, uint32_t mark, struct td_error *error)
{
    (void)mark;
    return wait_for_nothing(device, error);
}

/* ------------------------------------------------------------------ graphs */

static void drop_graph(struct cuda_device *device, struct cuda_graph *graph)
{
    (void)device;
    while (graph->first != NULL) {
        struct recorded *next = graph->first->next;

        free(graph->first);
        graph->first = next;
    }
    free(graph);
}

static td_status_t capture(struct cuda_device *device, struct td_error *error)
{
    struct interpreted *self = (struct interpreted *)device;

    self->recording = calloc(1, sizeof *self->recording);
    if (self->recording == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a graph");
    self->recording->last = &self->recording->first;
    return TD_OK;
}

static td_status_t capture_end(struct cuda_device *device, struct cuda_graph **graph_out,
                               struct td_error *error)
{
    struct interpreted *self = (struct interpreted *)device;

    (void)error;
    if (graph_out != NULL)
        *graph_out = self->recording;
    else
        drop_graph(device, self->recording);
    self->recording = NULL;
    return TD_OK;
}

static td_status_t replay(struct cuda_device *device, struct cuda_graph *graph,
                          struct td_error *error)
{
    td_status_t status = TD_OK;

    (void)device;
    for (const struct recorded *launch = graph->first; launch != NULL && status == TD_OK;
         launch = launch->next)
        if (launch->kernel == CUDA_KERNEL_COUNT)
            multiply((const struct cuda_dense *)(const void *)launch->args);
        else
            status = run_kernel(launch->kernel, launch->grid, launch->args, error);
    return status;
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
    .open_dense = open_dense,
    .dense = dense,
    .wait = wait_for_nothing,
    .poll = wait_for_nothing,
    .mark = mark_nothing,
    .wait_mark = mark_nothing,
    .capture = capture,
    .capture_end = capture_end,
    .replay = replay,
    .drop_graph = drop_graph,
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
    self->base.info.multiprocessors = PROCESSORS;
    self->base.info.is_interpreted = true;
    snprintf(self->base.info.name, sizeof self->base.info.name, "interpreter");
    snprintf(self->base.info.description, sizeof self->base.info.description,
             "kernels run on the CPU, thread by thread");
    *device_out = &self->base;
    return TD_OK;
}
