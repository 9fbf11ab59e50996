/* test_watch.c: which steps hang, at looks and a clock that the tests make themselves. */
#include <stdlib.h>

#include "lib/base/time.h"
#include "tests/support/support.h"
#include "worker/runtime_internal.h"

#define HANG_MS  800
#define PAUSE_MS 100 /* as the worker's own timer has it: eight looks in a hang-time */
#define LOOKS    8

static uint64_t ns(uint64_t ms)
{
    return ms * TD_NS_PER_MS;
}

/* Looks after each pause until now_ms; whether one of them says that the step hangs. */
static bool look_until(struct worker_watch *watch, uint64_t started_ms, uint64_t *now_ms,
                       uint64_t until_ms)
{
    bool hangs = false;

    for (; *now_ms < until_ms; *now_ms += PAUSE_MS)
        hangs = worker_watch_look(watch, ns(started_ms), ns(*now_ms)) || hangs;
    return hangs;
}

static void a_step_that_is_seen_for_its_hang_time_hangs(void **state)
{
    struct worker_watch watch = {.hang_ms = HANG_MS};
    uint64_t now_ms = 1050;

    (void)state;
    assert_false(look_until(&watch, 1000, &now_ms, 1000 + HANG_MS));
    assert_true(look_until(&watch, 1000, &now_ms, 1000 + HANG_MS + 2 * PAUSE_MS));
}

/* Each is old whenever it is seen, and none hangs: busy workers are left alone. */
static void many_slow_steps_in_a_row_do_not_hang(void **state)
{
    struct worker_watch watch = {.hang_ms = HANG_MS};
    uint64_t now_ms = 1050;

    (void)state;
    for (uint64_t step = 0; step < 1000; step++)
        assert_false(look_until(&watch, 1000 + step * (HANG_MS - 1), &now_ms,
                                1000 + (step + 1) * (HANG_MS - 1)));
    /* nor do their looks count for another, old as it may be when it is first seen */
    assert_false(worker_watch_look(&watch, ns(now_ms), ns(now_ms + 10 * HANG_MS)));
}

/* An engine that sleeps between steps, and a step that a look sees just before its end. */
static void looks_begin_anew_when_there_is_no_step(void **state)
{
    struct worker_watch watch = {.hang_ms = HANG_MS};
    uint64_t now_ms = 1050;

    (void)state;
    assert_false(look_until(&watch, 1000, &now_ms, 1000 + HANG_MS));
    assert_false(worker_watch_look(&watch, 0, ns(now_ms)));
    for (int i = 0; i < 3 * LOOKS; i++)
        assert_false(worker_watch_look(&watch, 0, ns(now_ms + (uint64_t)i * PAUSE_MS)));
}

/* Its clock went on while it was stopped: the step is old at once, and has been seen only twice. */
static void a_process_that_was_stopped_gives_its_step_the_time_to_end(void **state)
{
    struct worker_watch watch = {.hang_ms = HANG_MS};
    uint64_t now_ms = 3600000;

    (void)state;
    assert_false(worker_watch_look(&watch, ns(1000), ns(1050)));
    assert_false(look_until(&watch, 1000, &now_ms, 3600000 + (LOOKS - 1) * PAUSE_MS));
    assert_true(look_until(&watch, 1000, &now_ms, 3600000 + LOOKS * PAUSE_MS));
}

/* Looks may come late and bunch up: it is the step's age that counts then. */
static void looks_that_come_fast_do_not_make_a_step_old(void **state)
{
    struct worker_watch watch = {.hang_ms = HANG_MS};

    (void)state;
    for (uint64_t i = 0; i < 10 * LOOKS; i++)
        assert_false(worker_watch_look(&watch, ns(1000), ns(1001) + i));
    assert_false(worker_watch_look(&watch, ns(1000), ns(999))); /* read before the step began */
    assert_true(worker_watch_look(&watch, ns(1000), ns(1000 + HANG_MS)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_step_that_is_seen_for_its_hang_time_hangs),
        cmocka_unit_test(many_slow_steps_in_a_row_do_not_hang),
        cmocka_unit_test(looks_begin_anew_when_there_is_no_step),
        cmocka_unit_test(a_process_that_was_stopped_gives_its_step_the_time_to_end),
        cmocka_unit_test(looks_that_come_fast_do_not_make_a_step_old),
    };

    return cmocka_run_group_tests_name("worker watch", tests, NULL, NULL);
}
