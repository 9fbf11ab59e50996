/* memory.c: see memory.h. */
#include "kvtransfer/memory.h"

#include <unistd.h>

#include "kvtransfer/host.h"

#define POLL_MS 100 /* until a device that wakes nobody any more is found out */

int kvt_device_poll_ms(const struct kvt_device *device)
{
    return device != NULL && device->mark_count > 0 ? POLL_MS : -1;
}

void kvt_queue_woken(struct kvt_queue *queue)
{
    uint64_t drained;

    (void)!read(queue->descriptor, &drained, sizeof drained); /* EAGAIN: nobody has written */
}

td_status_t kvt_memory_hash(const struct kvt_memory *memory, const void *const *blocks,
                            size_t count, size_t block_bytes, struct td_u128 *hashes_out)
{
    if (memory->device != NULL)
        return memory->device->ops->hash(memory->device, blocks, count, block_bytes, hashes_out);
    for (size_t i = 0; i < count; i++)
        hashes_out[i] = td_hash128(blocks[i], block_bytes);
    return TD_OK;
}

td_status_t kvt_memory_reach(const struct kvt_memory *memory, struct td_u128 *reach_out,
                             struct td_error *error)
{
    struct td_u128 parts[2] = {{0}, {0}};
    td_status_t status = kvt_host_identity(&parts[0], error);

    if (status != TD_OK)
        return status;
    *reach_out = parts[0];
    if (memory->device != NULL) {
        parts[1] = memory->device->reach;
        *reach_out = td_hash128(parts, sizeof parts);
    }
    return TD_OK;
}

bool kvt_memory_contains(const struct kvt_memory *memory, const void *base, size_t bytes)
{
    uintptr_t at = (uintptr_t)base;
    uintptr_t pool = (uintptr_t)memory->base;

    return at >= pool && at - pool <= memory->bytes && bytes <= memory->bytes - (at - pool);
}

void kvt_device_close(struct kvt_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}
