/*
 * ring.h: a bounded single-producer single-consumer queue of pointers between two threads.
 *
 * The pushing side gives the pointer away; the popping side owns it. Neither side ever waits:
 * whoever needs waking is woken by the caller (an eventfd, a futex, uv_async), and only when it
 * has announced that it sleeps. To sleep, a consumer sets its "asleep" flag, then pops once more;
 * the producer pushes, then reads the flag. Both are seq_cst, so at least one of them sees the other.
 */
#ifndef TANDEM_LIB_BASE_RING_H
#define TANDEM_LIB_BASE_RING_H

#include <stdatomic.h>
#include <stddef.h>

#include "lib/base/status.h"

#define TD_CACHE_LINE 64

struct td_ring {
    void **slots;
    size_t mask;
    _Alignas(TD_CACHE_LINE) atomic_size_t head; /* next to pop; written by the consumer */
    _Alignas(TD_CACHE_LINE) atomic_size_t tail; /* next to push; written by the producer */
};

/* Prepares a ring for at least capacity pointers (rounded up to a power of two, at most 2^20). */
td_status_t td_ring_init(struct td_ring *ring, size_t capacity) TD_MUST_USE;

/* Frees the ring's memory. Pointers still inside are the caller's to pop first. */
void td_ring_fini(struct td_ring *ring);

/* Producer: TD_LIMIT if the ring is full, and the pointer stays the caller's. */
td_status_t td_ring_push(struct td_ring *ring, void *item) TD_MUST_USE;

/* Consumer: the oldest pointer, or NULL. */
void *td_ring_pop(struct td_ring *ring);

/* Consumer: whether a pop would return NULL at this moment. */
int td_ring_empty(struct td_ring *ring);

#endif
