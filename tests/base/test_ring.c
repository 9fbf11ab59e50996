/* test_ring.c: one producer, one consumer, on one thread and on two (under TSan in CI). */
#include "lib/base/ring.h"
#include "tests/support/support.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdlib.h>

#define ITEMS 200000

static void a_ring_holds_its_capacity_in_order(void **state)
{
    int items[9];
    struct td_ring ring;

    (void)state;
    assert_int_equal(td_ring_init(&ring, 5), TD_OK); /* rounded up to 8 */
    for (int round = 0; round < 3; round++) {
        assert_true(td_ring_empty(&ring));
        assert_null(td_ring_pop(&ring));
        for (int i = 0; i < 8; i++)
            assert_int_equal(td_ring_push(&ring, &items[i]), TD_OK);
        assert_int_equal(td_ring_push(&ring, &items[8]), TD_LIMIT);
        assert_false(td_ring_empty(&ring));
        for (int i = 0; i < 8; i++)
            assert_ptr_equal(td_ring_pop(&ring), &items[i]);
    }
    td_ring_fini(&ring);
}

/* The sleep protocol of ring.h with a semaphore, as the engine and transfer threads use it. */
struct channel {
    struct td_ring ring;
    atomic_bool asleep;
    sem_t wake;
    uint64_t *values; /* written before the push, read after the pop: the ring must order them */
};

static void *produce(void *argument)
{
    struct channel *channel = argument;

    for (uint64_t i = 0; i < ITEMS; i++) {
        channel->values[i] = i * 3;
        while (td_ring_push(&channel->ring, &channel->values[i]) != TD_OK)
            sched_yield();
        if (atomic_exchange(&channel->asleep, false))
            sem_post(&channel->wake);
    }
    return NULL;
}

static uint64_t *pop_or_sleep(struct channel *channel)
{
    for (;;) {
        uint64_t *value = td_ring_pop(&channel->ring);

        if (value != NULL)
            return value;
        atomic_store(&channel->asleep, true);
        value = td_ring_pop(&channel->ring);
        if (value != NULL) {
            if (!atomic_exchange(&channel->asleep, false))
                sem_wait(&channel->wake); /* the producer has seen the flag: take its wake-up */
            return value;
        }
        sem_wait(&channel->wake);
    }
}

static void everything_crosses_between_two_threads_once_and_in_order(void **state)
{
    struct channel channel = {.values = calloc(ITEMS, sizeof(uint64_t))};
    pthread_t producer;

    (void)state;
    assert_non_null(channel.values);
    assert_int_equal(td_ring_init(&channel.ring, 64), TD_OK);
    assert_int_equal(sem_init(&channel.wake, 0, 0), 0);
    assert_int_equal(pthread_create(&producer, NULL, produce, &channel), 0);
    for (uint64_t i = 0; i < ITEMS; i++) {
        uint64_t *value = pop_or_sleep(&channel); /* a lost wake-up would hang here */

        assert_ptr_equal(value, &channel.values[i]);
        assert_int_equal(*value, i * 3);
    }
    assert_null(td_ring_pop(&channel.ring));
    pthread_join(producer, NULL);
    sem_destroy(&channel.wake);
    td_ring_fini(&channel.ring);
    free(channel.values);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_ring_holds_its_capacity_in_order),
        cmocka_unit_test(everything_crosses_between_two_threads_once_and_in_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
