/*
 * memory.h: where block memory lies, and how it is copied, hashed and shared: ordinary memory, or a device's.
 *
 * The pool of a worker is one range of addresses. Ordinary memory is reached with memcpy, and this interface is not
 * asked. Addresses of a device's memory (kvt_memory.device) are never dereferenced here: all that is done with them
 * goes through a kvt_device, of which there is one implementation for GPUs (cuda.h).
 *
 * Copies are asynchronous and run in the order of their queue. Every transport has a queue of its own, whose
 * descriptor becomes readable when a mark may have been passed, so that nobody polls.
 *
 * One thread at a time uses a device and its queues: the transfer thread.
 */
#ifndef TANDEM_KVTRANSFER_MEMORY_H
#define TANDEM_KVTRANSFER_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/hash.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

#define KVT_SHARE_BYTES 128

struct kvt_mark;    /* a place in a queue */
struct kvt_mapping; /* a peer's pool, seen from here */

/* Copies in order. Embedded as the first member by those who implement it. */
struct kvt_queue {
    struct kvt_device *device;
    int descriptor; /* an eventfd: readable when a mark may have been passed; kvt_queue_woken empties it. Who works on the
                       queue's stream from another thread may write to it too */
};

struct kvt_device_ops {
    /* Makes the device that of the calling thread, for libraries that use it there. */
    td_status_t (*enter)(struct kvt_device *device, struct td_error *error);

    /* A queue of copies. */
    td_status_t (*queue_open)(struct kvt_device *device, struct kvt_queue **queue_out,
                              struct td_error *error);
    /* Waits until nothing of it runs any more. */
    void (*queue_close)(struct kvt_queue *queue);

    /* Queues a copy. Both ends are memory of the device, of a mapping, or of the host (best pinned). */
    td_status_t (*copy)(struct kvt_queue *queue, void *to, const void *from, size_t bytes);

    /* Marks the end of what was queued so far. */
    td_status_t (*mark)(struct kvt_queue *queue, struct kvt_mark **mark_out);

    /* TD_AGAIN: not passed yet. Any other result ends the mark; not TD_OK: what was in front of it has failed. */
    td_status_t (*poll)(struct kvt_queue *queue, struct kvt_mark *mark);

    /* Waits until everything queued has run, or can never run any more. For ends and failures only. */
    void (*drain)(struct kvt_queue *queue);

    /*
     * The stream behind a queue, as the device's own library names it, for a library that queues work of its own there;
     * makes the device that of the calling thread. Any thread.
     */
    td_status_t (*stream)(struct kvt_queue *queue, void **stream_out);

    /* Content hashes of blocks of the device, exactly td_hash128 of their bytes. Waits for them. */
    td_status_t (*hash)(struct kvt_device *device, const void *const *blocks, size_t count,
                        size_t block_bytes, struct td_u128 *hashes_out);

    /* What a peer needs to open the pool: an opaque text that is valid as long as the pool. */
    td_status_t (*share)(struct kvt_device *device, uint8_t out[static KVT_SHARE_BYTES],
                         struct td_error *error);

    /*
     * Opens a peer's pool of that many bytes, by a text from outside, to read from it. TD_INVALID: no such text;
     * TD_UNSUPPORTED: it is of another GPU that this one cannot reach, or the like. The error says which.
     */
    td_status_t (*open)(struct kvt_device *device, const uint8_t share[static KVT_SHARE_BYTES],
                        uint64_t bytes, struct kvt_mapping **mapping_out, struct td_error *error);
    void (*unmap)(struct kvt_device *device, struct kvt_mapping *mapping);

    /* Makes memory of the host fast to copy from and to. */
    td_status_t (*pin)(struct kvt_device *device, void *base, size_t bytes, struct td_error *error);
    void (*unpin)(struct kvt_device *device, void *base);

    void (*close)(struct kvt_device *device);
};

/* Embedded as the first member by those who implement it. */
struct kvt_device {
    const struct kvt_device_ops *ops;
    char library[64];     /* name and version of what is behind it */
    struct td_u128 reach; /* equal for two devices whose pools can be opened from each other */
    bool hashes_on_host;  /* blocks are copied to the host to be hashed */
    size_t mark_count; /* of all queues, whose ends are still to be seen; see kvt_device_poll_ms */
};

/* Embedded as the first member by those who implement it. */
struct kvt_mapping {
    uint8_t *base;
    size_t bytes;
};

/*
 * How long to sleep at most before marks are polled again, with a wake or without; -1: as long as one likes. A device
 * that has failed wakes nobody. NULL: -1.
 */
int kvt_device_poll_ms(const struct kvt_device *device);

/* Empties the descriptor of a queue; call it before polling marks, so that no wake is missed. */
void kvt_queue_woken(struct kvt_queue *queue);

/*
 * Content hashes of blocks of a pool, wherever it lies. A status other than TD_OK comes from a device that has
 * failed.
 */
td_status_t kvt_memory_hash(const struct kvt_memory *memory, const void *const *blocks,
                            size_t count, size_t block_bytes,
                            struct td_u128 *hashes_out) TD_MUST_USE;

/*
 * Which pools the transport "map" can open from this one: equal for two pools if and only if it can. Ordinary memory:
 * those of this host; a GPU's: those of the GPUs of this host that reach each other directly.
 */
td_status_t kvt_memory_reach(const struct kvt_memory *memory, struct td_u128 *reach_out,
                             struct td_error *error) TD_MUST_USE;

/* Whether a piece lies inside the pool. */
bool kvt_memory_contains(const struct kvt_memory *memory, const void *base, size_t bytes);

void kvt_device_close(struct kvt_device *device); /* NULL: nothing */

#endif
