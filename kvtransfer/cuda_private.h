/*
 * cuda_private.h: what the files of GPU memory share. Not for use elsewhere.
 *
 *   cuda.c       opening a device, queues, hashes
 *   cuda_share.c pools of peers
 */
#ifndef TANDEM_KVTRANSFER_CUDA_PRIVATE_H
#define TANDEM_KVTRANSFER_CUDA_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "kvtransfer/cuda.h"
#include "kvtransfer/driver.h"
#include "kvtransfer/memory.h"

struct cuda_memory {
    struct kvt_device base; /* first: see memory.h */
    const struct driver *driver;
    struct kvt_cuda_config config;
    int ordinal; /* of the GPU, as this process numbers them */
    int device;
    void *context;
    struct kvt_queue *hashing; /* for hashes on the host; NULL: not needed yet */
    uint8_t *bounce;           /* pinned, if it could be */
    bool is_pinned;
    size_t bounce_bytes;
};

static inline unsigned long long cuda_address(const void *pointer)
{
    return (unsigned long long)(uintptr_t)pointer;
}

/* Makes the GPU's context that of the calling thread; every call of the library needs it. */
td_status_t cuda_enter(const struct cuda_memory *memory, struct td_error *error);

/* ---- cuda_share.c */

td_status_t cuda_share(struct kvt_device *base, uint8_t out[static KVT_SHARE_BYTES],
                       struct td_error *error);
td_status_t cuda_map(struct kvt_device *base, const uint8_t share[static KVT_SHARE_BYTES],
                     uint64_t bytes, struct kvt_mapping **mapping_out, struct td_error *error);
void cuda_unmap(struct kvt_device *base, struct kvt_mapping *mapping);

/* Which GPUs can open each other's pools, ours among them: the same for all of them. */
td_status_t cuda_reach(const struct cuda_memory *memory, struct td_u128 *reach_out,
                       struct td_error *error);

#endif
