/* test_timers.c: the pairing heap against a list of deadlines, with random operations. */
#include "lib/base/list.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "lib/base/timers.h"
#include "tests/support/support.h"

#define TIMERS 60

struct model {
    struct td_timers timers;
    struct entry {
        struct td_timer timer;
        struct model *model;
        uint64_t at_ns;
        uint64_t order;
        bool armed;
    } entries[TIMERS];
    struct td_rng rng;
    uint64_t order;
    uint64_t now_ns;
    size_t fired;
};

static struct entry *earliest(struct model *m)
{
    struct entry *best = NULL;

    for (size_t i = 0; i < TIMERS; i++) {
        struct entry *entry = &m->entries[i];

        if (entry->armed && (best == NULL || entry->at_ns < best->at_ns ||
                             (entry->at_ns == best->at_ns && entry->order < best->order)))
            best = entry;
    }
    return best;
}

static void set(struct model *m, struct entry *entry, uint64_t at_ns)
{
    td_timer_set(&m->timers, &entry->timer, at_ns);
    entry->at_ns = at_ns;
    entry->order = m->order++;
    entry->armed = true;
}

static void cancel(struct model *m, struct entry *entry)
{
    td_timer_cancel(&m->timers, &entry->timer);
    entry->armed = false;
}

static void operate(struct model *m, uint64_t earliest_ns)
{
    struct entry *entry = &m->entries[td_rng_below(&m->rng, TIMERS)];

    if (td_rng_below(&m->rng, 4) == 0)
        cancel(m, entry);
    else
        set(m, entry, earliest_ns + td_rng_below(&m->rng, 50));
}

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct entry *entry = td_container_of(timer, struct entry, timer);
    struct model *m = entry->model;

    assert_ptr_equal(entry, earliest(m)); /* right one, right order */
    assert_true(entry->at_ns <= now_ns);
    assert_int_equal(now_ns, m->now_ns);
    assert_false(timer->armed);
    entry->armed = false;
    m->fired++;
    if (td_rng_below(&m->rng, 3) == 0)
        operate(m, now_ns + 1); /* callbacks set and cancel too */
}

static void timers_fire_in_the_order_of_deadline_and_setting(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct model m = {.now_ns = 1};

        td_rng_init(&m.rng, seed);
        td_timers_init(&m.timers);
        for (size_t i = 0; i < TIMERS; i++) {
            m.entries[i].model = &m;
            td_timer_init(&m.entries[i].timer, on_timer);
        }
        for (int step = 0; step < 5000; step++) {
            struct entry *first;

            operate(&m, m.now_ns);
            first = earliest(&m);
            assert_int_equal(td_timers_next(&m.timers), first ? first->at_ns : TD_TIME_NEVER);
            if (td_rng_below(&m.rng, 5) > 0)
                continue;
            m.now_ns += td_rng_below(&m.rng, 20);
            td_timers_run(&m.timers, m.now_ns);
            first = earliest(&m);
            assert_true(first == NULL || first->at_ns > m.now_ns);
        }
        assert_true(m.fired > 500);
    }
}

static int chain_left;
static struct td_timers chain_timers;

static void on_chain(struct td_timer *timer, uint64_t now_ns)
{
    if (--chain_left > 0)
        td_timer_set(&chain_timers, timer, now_ns);
}

static void a_timer_set_for_now_inside_a_callback_fires_in_the_same_run(void **state)
{
    struct td_timer timer;

    (void)state;
    td_timers_init(&chain_timers);
    td_timer_init(&timer, on_chain);
    chain_left = 3;
    td_timer_set(&chain_timers, &timer, 10);
    td_timers_run(&chain_timers, 9);
    assert_int_equal(chain_left, 3);
    td_timers_run(&chain_timers, 10);
    assert_int_equal(chain_left, 0);
    assert_true(td_timers_next(&chain_timers) == TD_TIME_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(timers_fire_in_the_order_of_deadline_and_setting),
        cmocka_unit_test(a_timer_set_for_now_inside_a_callback_fires_in_the_same_run),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
