/*
 * test_placement_burst.c: many requests at once: what is placed counts before any report tells of it.
 */
#include <string.h>

#include "tests/scheduler/scene.h"
#include "tests/support/support.h"

/* --- herds --- */

static void a_burst_spreads_before_any_report(void **state)
{
    SCENE;
    uint32_t hits[4] = {0};

    for (int i = 0; i < 4; i++)
        scene_decode(&scene);
    for (uint64_t i = 0; i < 16; i++) {
        scene.prompt.request.lo = i;
        hits[scene_place(&scene)->serving.worker->identity.epoch - 1]++;
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(hits[i], 4);
    END;
}

static void a_burst_of_one_prefix_sticks_until_the_others_are_quicker(void **state)
{
    SCENE;
    struct sched_worker *warm = scene_decode(&scene);
    int before = 0;

    scene_decode(&scene);
    scene_cached(&scene, warm, 6);
    while (before < 100 && scene_place(&scene)->serving.worker == warm)
        before++;
    assert_in_range(before, 1, 3);
    END;
}

static void an_admission_ends_the_oldest_guess(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);
    Td__LoadReport report = TD__LOAD_REPORT__INIT;

    scene_place(&scene);
    scene.prompt.tokens = 50;
    scene_place(&scene);
    assert_int_equal(d->guesses.count, 2);
    assert_int_equal(d->guesses.tokens, 150);
    report.admitted = 1;
    assert_true(sched_worker_report(d, &report));
    assert_int_equal(d->guesses.count, 1);
    assert_int_equal(d->guesses.tokens, 50);
    report.admitted = 9;
    assert_true(sched_worker_report(d, &report));
    assert_int_equal(d->guesses.count, 0);
    assert_int_equal(d->guesses.tokens, 0);
    assert_int_equal(d->guesses.blocks, 0);
    report.admitted = 8;
    assert_false(sched_worker_report(d, &report));
    END;
}

static void a_guess_that_is_never_admitted_ends_by_itself(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_place(&scene);
    scene.now_ns += scene.config.guess_ms * TD_NS_PER_MS;
    scene_choose(&scene);
    assert_int_equal(d->guesses.count, 1);
    scene.now_ns++;
    scene_choose(&scene);
    assert_int_equal(d->guesses.count, 0);
    assert_int_equal(d->guesses.expired, 1);
    END;
}

static void guesses_fill_a_worker_as_requests_do(void **state)
{
    SCENE;
    scene_decode(&scene);
    for (int i = 0; i < 16; i++)
        scene_place(&scene);
    assert_int_equal(scene_choose(&scene)->status, TD_EXHAUSTED);
    END;
}

static void more_guesses_than_fit_push_out_the_oldest(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    d->identity.max_waiting = 100000;
    d->identity.max_context = 100000;
    for (uint32_t i = 1; i <= SCHED_GUESSES_MAX + 10; i++) {
        scene.prompt.tokens = i;
        scene_place(&scene);
    }
    assert_int_equal(d->guesses.count, SCHED_GUESSES_MAX);
    assert_int_equal(d->guesses.tokens,
                     (SCHED_GUESSES_MAX + 10) * (SCHED_GUESSES_MAX + 11) / 2 - 10 * 11 / 2);
    END;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_burst_spreads_before_any_report),
        cmocka_unit_test(a_burst_of_one_prefix_sticks_until_the_others_are_quicker),
        cmocka_unit_test(an_admission_ends_the_oldest_guess),
        cmocka_unit_test(a_guess_that_is_never_admitted_ends_by_itself),
        cmocka_unit_test(guesses_fill_a_worker_as_requests_do),
        cmocka_unit_test(more_guesses_than_fit_push_out_the_oldest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
