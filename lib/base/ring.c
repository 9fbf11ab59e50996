/* ring.c: single-producer single-consumer ring, see ring.h for the ordering argument. */
#include "lib/base/ring.h"

#include <assert.h>
#include <stdlib.h>

#define RING_CAPACITY_MAX ((size_t)1 << 20)

td_status_t td_ring_init(struct td_ring *ring, size_t capacity)
{
    size_t size = 2;

    assert(capacity <= RING_CAPACITY_MAX);
    while (size < capacity)
        size *= 2;
    ring->slots = calloc(size, sizeof *ring->slots);
    if (ring->slots == NULL)
        return TD_NO_MEMORY;
    ring->mask = size - 1;
    atomic_init(&ring->head, 0);
    atomic_init(&ring->tail, 0);
    return TD_OK;
}

void td_ring_fini(struct td_ring *ring)
{
    free(ring->slots);
    ring->slots = NULL;
}

td_status_t td_ring_push(struct td_ring *ring, void *item)
{
    size_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);

    assert(item != NULL);
    /* pairs with the release of head in td_ring_pop: the slot was read before it is reused */
    if (tail - atomic_load_explicit(&ring->head, memory_order_acquire) > ring->mask)
        return TD_LIMIT;
    ring->slots[tail & ring->mask] = item;
    atomic_store(&ring->tail, tail + 1); /* seq_cst: ordered before the look at the sleep flag */
    return TD_OK;
}

void *td_ring_pop(struct td_ring *ring)
{
    size_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    void *item;

    if (head == atomic_load(&ring->tail)) /* seq_cst: ordered after setting the sleep flag */
        return NULL;
    item = ring->slots[head & ring->mask];
    atomic_store_explicit(&ring->head, head + 1, memory_order_release);
    return item;
}

int td_ring_empty(struct td_ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_relaxed) == atomic_load(&ring->tail);
}
