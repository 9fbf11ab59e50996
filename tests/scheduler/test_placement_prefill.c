/*
 * test_placement_prefill.c: whether a prompt goes to a prefill worker, and to which.
 */
#include <string.h>

#include "tests/scheduler/scene.h"
#include "tests/support/support.h"

/* --- whether and where to prefill --- */

static void a_long_prompt_is_prefilled_by_a_prefill_worker(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);
    struct sched_worker *p = scene_prefill(&scene);

    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_ptr_equal(scene.placement.prefill[0].worker, p);
    END;
}

static void the_threshold_is_the_first_count_that_goes_away(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_prefill(&scene);
    assert_int_equal(scene.config.remote_tokens_min, 32);
    scene.prompt.tokens = 31;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    scene.prompt.tokens = 32;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    END;
}

static void cached_tokens_do_not_count_towards_the_threshold(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_prefill(&scene);
    scene_cached(&scene, d, 5); /* 80 of 111 or 112 */
    scene.prompt.tokens = 111;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    scene.prompt.tokens = 112;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    END;
}

static void what_the_prefill_worker_has_cached_does_not_keep_a_prompt_here(void **state)
{
    SCENE;
    struct sched_worker *p;

    scene_decode(&scene);
    p = scene_prefill(&scene);
    scene_cached(&scene, p, 6);
    scene_choose(&scene);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_int_equal(scene.placement.prefill[0].matched_blocks, 6);
    assert_int_equal(scene.placement.prefill[0].uncached, 4);
    END;
}

static void another_content_id_cannot_prefill(void **state)
{
    SCENE;
    scene_decode(&scene);
    scene_prefill(&scene)->identity.content_id.lo = 8;
    scene_choose(&scene);
    assert_int_equal(scene.placement.prefill_count, 0);
    assert_non_null(strstr(scene.placement.reason,
                           "prefill here: 0 prefill workers fit, 1 have another content_id"));
    END;
}

static void an_overloaded_prefill_worker_is_not_asked(void **state)
{
    SCENE;
    struct sched_worker *p;

    scene_decode(&scene);
    p = scene_prefill(&scene);
    p->load.waiting_tokens = 2000; /* 2 s of queue: the limit */
    assert_int_equal(scene_choose(&scene)->prefill_count, 1);
    p->load.waiting_tokens = 2001;
    assert_int_equal(scene_choose(&scene)->prefill_count, 0);
    p->load.waiting_tokens = 0;
    p->load.prefilling = 20; /* 100 rows of each beside the 100 of ours */
    p->load.prefilling_tokens = 30000;
    assert_int_equal(scene_choose(&scene)->prefill_count, 1);
    p->load.prefilling++;
    assert_int_equal(scene_choose(&scene)->prefill_count, 0);
    p->load.prefilling_tokens = 2000; /* that is all they have left */
    assert_int_equal(scene_choose(&scene)->prefill_count, 1);
    p->load.running = 8;
    p->load.waiting = 8;
    assert_int_equal(scene_choose(&scene)->prefill_count, 0);
    END;
}

static void a_prefill_worker_that_is_not_ready_or_frozen_is_not_asked(void **state)
{
    SCENE;
    struct sched_worker *p;

    scene_decode(&scene);
    p = scene_prefill(&scene);
    p->state = SCHED_WORKER_DRAINING;
    assert_int_equal(scene_choose(&scene)->prefill_count, 0);
    p->state = SCHED_WORKER_READY;
    p->load.step_age_ms = scene.config.frozen_ms + 1;
    assert_int_equal(scene_choose(&scene)->prefill_count, 0);
    END;
}

static void at_most_three_candidates_come_best_first(void **state)
{
    SCENE;
    const uint32_t waiting[5] = {50, 10, 40, 20, 30};

    scene_decode(&scene);
    for (int i = 0; i < 5; i++)
        scene_prefill(&scene)->load.waiting_tokens = waiting[i];
    assert_int_equal(scene_choose(&scene)->prefill_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(scene.placement.prefill[i].worker->load.waiting_tokens, 10 * (i + 1));
    END;
}

static void a_prefill_worker_that_computes_for_others_is_slower(void **state)
{
    SCENE;
    struct sched_worker *busy;
    struct sched_worker *idle;

    scene_decode(&scene);
    busy = scene_prefill(&scene);
    idle = scene_prefill(&scene);
    busy->load.running = 1;
    busy->load.prefilling = 1;
    busy->load.prefilling_tokens = 30000;
    scene_cached(&scene, busy, 2); /* 68 tokens at half the speed */
    assert_ptr_equal(scene_choose(&scene)->prefill[0].worker, idle);
    busy->load.prefilling_tokens = 31; /* which is soon over */
    assert_ptr_equal(scene_choose(&scene)->prefill[0].worker, busy);
    busy->load.prefilling_tokens = 30000;
    scene_cached(&scene, busy, 4); /* 36 tokens at half the speed */
    assert_ptr_equal(scene_choose(&scene)->prefill[0].worker, busy);
    END;
}

static void a_decode_worker_that_computes_a_prompt_is_slower(void **state)
{
    SCENE;
    struct sched_worker *busy = scene_decode(&scene);
    struct sched_worker *idle = scene_decode(&scene);

    busy->load.running = idle->load.running = 1;
    busy->load.prefilling = 1;
    busy->load.prefilling_tokens = 30000;
    scene_expect_on(&scene, idle);
    scene_cached(&scene, busy, 3); /* 52 tokens at half the speed */
    scene_expect_on(&scene, idle);
    scene_cached(&scene, busy, 4);
    scene_expect_on(&scene, busy);
    END;
}

static void asks_spread_over_the_prefill_workers(void **state)
{
    SCENE;
    struct sched_worker *p[3];

    scene_decode(&scene)->identity.max_waiting = 100;
    for (int i = 0; i < 3; i++)
        p[i] = scene_prefill(&scene);
    for (uint64_t i = 0; i < 12; i++) {
        scene.prompt.request.lo = i;
        assert_int_equal(scene_place(&scene)->prefill_count, 3);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(p[i]->guesses.count, 4);
    END;
}

static void a_remote_prompt_does_not_queue_on_the_decode_worker(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);
    struct sched_worker *p = scene_prefill(&scene);

    scene_place(&scene);
    assert_int_equal(d->guesses.tokens, 0);
    assert_int_equal(d->guesses.blocks, (100 + 64 + 15) / 16);
    assert_int_equal(p->guesses.tokens, 100);
    assert_int_equal(p->guesses.blocks, 7);
    END;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_long_prompt_is_prefilled_by_a_prefill_worker),
        cmocka_unit_test(the_threshold_is_the_first_count_that_goes_away),
        cmocka_unit_test(cached_tokens_do_not_count_towards_the_threshold),
        cmocka_unit_test(what_the_prefill_worker_has_cached_does_not_keep_a_prompt_here),
        cmocka_unit_test(another_content_id_cannot_prefill),
        cmocka_unit_test(an_overloaded_prefill_worker_is_not_asked),
        cmocka_unit_test(a_prefill_worker_that_is_not_ready_or_frozen_is_not_asked),
        cmocka_unit_test(at_most_three_candidates_come_best_first),
        cmocka_unit_test(a_prefill_worker_that_computes_for_others_is_slower),
        cmocka_unit_test(a_decode_worker_that_computes_a_prompt_is_slower),
        cmocka_unit_test(asks_spread_over_the_prefill_workers),
        cmocka_unit_test(a_remote_prompt_does_not_queue_on_the_decode_worker),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
