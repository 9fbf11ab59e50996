/*
 * loader.h: from files that are mapped into memory to the device, through pinned buffers.
 *
 * Reading a mapping is what waits for the disk, so several threads read slices of what is asked for at once; the
 * device copies from one buffer while the next is read into. Copies are queued in the order in which they are asked for, among
 * whatever else the caller queues, so kernels may work on what has arrived and its place may be used again. Memory is bounded.
 */
#ifndef TANDEM_ENGINE_CUDA_LOADER_H
#define TANDEM_ENGINE_CUDA_LOADER_H

#include <stddef.h>

#include "engine/cuda/device.h"
#include "lib/base/status.h"

#define CUDA_LOADER_BUFFERS      4 /* each has a mark of the device, from 0 on */
#define CUDA_LOADER_BUFFER_BYTES ((size_t)32 << 20)
#define CUDA_LOADER_SLICE_BYTES  ((size_t)1 << 20) /* what a thread reads at a time */
#define CUDA_LOADER_HELPERS_MAX  7                 /* threads beside the caller's */

struct cuda_loader;

/* Who wants to know how far it is, in bytes. Called on the thread that loads, often. */
struct cuda_progress {
    void (*tell)(void *ctx, const char *what, uint64_t done, uint64_t total); /* NULL: nobody */
    void *ctx;
};

/* Zero-initialised: the sizes above, and as many helpers as there are processors besides the caller's. */
struct cuda_loader_options {
    size_t total_bytes; /* what is about to come, about; 0: not known */
    struct cuda_progress progress;
    size_t buffer_bytes;
    size_t slice_bytes;
    uint32_t helpers_max; /* UINT32_MAX: none */
};

/* Takes what it needs. Fewer than two buffers: TD_NO_MEMORY. Without helpers the caller reads alone. */
td_status_t cuda_loader_open(struct cuda_device *device, const struct cuda_loader_options *options,
                             struct cuda_loader **loader_out, struct td_error *error) TD_MUST_USE;

/*
 * Queues a copy of ordinary memory, which has been read when this returns. Says how far it is: to whoever wants to know, else
 * to the log every few seconds.
 * What fails is met as with all that is queued: see device.h.
 */
void cuda_loader_copy(struct cuda_loader *loader, void *to, const void *from, size_t bytes);

/* Waits for what is queued, gives everything back and says how long it took. NULL: nothing. */
void cuda_loader_close(struct cuda_loader *loader);

#endif
