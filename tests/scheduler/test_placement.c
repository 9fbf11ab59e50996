/*
 * test_placement.c: who serves a request. Each test is a sentence about a small fleet.
 */
#include <string.h>

#include "tests/scheduler/scene.h"
#include "tests/support/support.h"

/* --- who is there --- */

static void an_empty_fleet_is_a_reason_to_come_back(void **state)
{
    SCENE;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void a_model_that_nobody_serves_is_not_found(void **state)
{
    SCENE;
    scene_decode(&scene);
    scene.prompt.model = "other";
    scene_expect_nowhere(&scene, TD_NOT_FOUND, 0);
    END;
}

static void while_warming_up_a_missing_model_may_still_come(void **state)
{
    SCENE;
    scene_decode(&scene);
    scene.prompt.model = "other";
    scene.prompt.warming = true;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void one_decode_worker_alone_serves_and_prefills_itself(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    END;
}

static void prefill_workers_alone_serve_whole_requests(void **state)
{
    SCENE;
    struct sched_worker *p = scene_prefill(&scene);

    scene_prefill(&scene)->load.waiting_tokens = 5000;
    scene_expect_on(&scene, p);
    assert_int_equal(scene.placement.prefill_count, 0);
    END;
}

static void a_prefill_worker_serves_where_the_decode_worker_is_not_ready(void **state)
{
    const uint8_t states[] = {SCHED_WORKER_REGISTERED, SCHED_WORKER_DRAINING, SCHED_WORKER_STALE,
                              SCHED_WORKER_LOST};

    for (size_t i = 0; i < sizeof states; i++) {
        SCENE;
        scene_worker(&scene, TD__ROLE__ROLE_DECODE, states[i]);
        scene_expect_on(&scene, scene_prefill(&scene));
        END;
    }
}

static void a_prefill_worker_does_not_serve_where_the_decode_worker_is_only_full(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_prefill(&scene);
    d->load.running = 8;
    d->load.waiting = 8;
    assert_int_equal(scene_choose(&scene)->status, TD_EXHAUSTED);
    END;
}

static void nobody_gets_work_who_is_not_ready(void **state)
{
    const uint8_t states[] = {SCHED_WORKER_REGISTERED, SCHED_WORKER_DRAINING, SCHED_WORKER_STALE,
                              SCHED_WORKER_LOST};

    for (size_t i = 0; i < sizeof states; i++) {
        SCENE;
        scene_worker(&scene, TD__ROLE__ROLE_DECODE, states[i]);
        scene_worker(&scene, TD__ROLE__ROLE_PREFILL, states[i]);
        scene_expect_nowhere(&scene, TD_EXHAUSTED, 1000);
        END;
    }
}

static void a_frozen_engine_gets_nothing_new(void **state)
{
    SCENE;
    struct sched_worker *frozen = scene_decode(&scene);
    struct sched_worker *other = scene_decode(&scene);

    frozen->load.step_age_ms = scene.config.frozen_ms;
    scene_cached(&scene, frozen, 6);
    scene_expect_on(&scene, frozen);
    frozen->load.step_age_ms++;
    scene_expect_on(&scene, other);
    other->load.step_age_ms = scene.config.frozen_ms + 1;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void an_excluded_worker_is_passed_over_for_both_roles(void **state)
{
    SCENE;
    struct sched_worker *d1 = scene_decode(&scene);
    struct sched_worker *d2 = scene_decode(&scene);
    struct sched_worker *p1 = scene_prefill(&scene);
    struct sched_worker *p2 = scene_prefill(&scene);
    uint64_t exclude[2] = {d1->identity.epoch, p1->identity.epoch};

    scene_cached(&scene, d1, 1);
    scene.prompt.exclude = exclude;
    scene.prompt.exclude_count = 2;
    scene_expect_on(&scene, d2);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_ptr_equal(scene.placement.prefill[0].worker, p2);
    END;
}

static void with_all_decode_workers_excluded_a_prefill_worker_serves(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);
    struct sched_worker *p = scene_prefill(&scene);
    uint64_t exclude[2] = {d->identity.epoch, p->identity.epoch};

    scene.prompt.exclude = exclude;
    scene.prompt.exclude_count = 1;
    scene_expect_on(&scene, p);
    scene.prompt.exclude_count = 2;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void a_prompt_longer_than_every_context_is_over_the_limit(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene.prompt.tokens = d->identity.max_context - 1;
    scene_expect_on(&scene, d);
    scene.prompt.tokens = d->identity.max_context;
    scene_expect_nowhere(&scene, TD_LIMIT, 0);
    END;
}

static void a_prompt_larger_than_the_whole_pool_is_over_the_limit(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    d->identity.block_count = 10;
    scene.prompt.tokens = 160;
    scene_expect_on(&scene, d);
    scene.prompt.tokens = 161;
    scene_expect_nowhere(&scene, TD_LIMIT, 0);
    END;
}

static void a_full_fleet_says_when_to_come_back(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    d->load.running = 8;
    d->load.waiting = 7;
    scene_expect_on(&scene, d);
    d->load.waiting = 8;
    d->load.waiting_tokens = 500;
    /* 500 ms of queue; the ninth in line for 8 places that last 256 steps of 10 ms. */
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 500 + 9 * 2560 / 8);
    d->load.decode_step_us = 1;
    d->load.waiting_tokens = 0;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 100);
    d->load.waiting_tokens = 4000000;
    scene_expect_nowhere(&scene, TD_EXHAUSTED, 10000);
    END;
}

/* --- the best decode worker --- */

static void cached_blocks_attract(void **state)
{
    SCENE;
    struct sched_worker *warm;

    scene_decode(&scene);
    warm = scene_decode(&scene);
    scene_decode(&scene);
    scene_cached(&scene, warm, 4);
    scene_expect_on(&scene, warm);
    assert_int_equal(scene.placement.serving.matched_blocks, 4);
    assert_int_equal(scene.placement.serving.uncached, 36);
    END;
}

static void a_long_queue_outweighs_a_short_prefix(void **state)
{
    SCENE;
    struct sched_worker *warm = scene_decode(&scene);
    struct sched_worker *idle = scene_decode(&scene);

    scene_cached(&scene, warm, 4); /* 64 ms less to compute */
    warm->load.waiting_tokens = 60;
    scene_expect_on(&scene, warm);
    warm->load.waiting_tokens = 70;
    scene_expect_on(&scene, idle);
    END;
}

static void a_faster_worker_is_preferred(void **state)
{
    SCENE;
    struct sched_worker *fast;

    scene_decode(&scene);
    fast = scene_decode(&scene);
    fast->load.prefill_tokens_per_s = 2000;
    scene_expect_on(&scene, fast);
    fast->load.prefill_tokens_per_s = 1000;
    fast->load.decode_step_us = 9000;
    scene_expect_on(&scene, fast);
    END;
}

static void a_worker_that_has_not_measured_is_taken_for_as_fast_as_the_fastest(void **state)
{
    SCENE;
    struct sched_worker *slow = scene_decode(&scene);
    struct sched_worker *fresh = scene_decode(&scene);

    slow->load.prefill_tokens_per_s = 900;
    fresh->load.prefill_tokens_per_s = 0;
    fresh->load.decode_step_us = 0;
    slow->load.running = 1;
    scene_expect_on(&scene, fresh);
    END;
}

static void running_sequences_repel(void **state)
{
    SCENE;
    struct sched_worker *busy = scene_decode(&scene);
    struct sched_worker *idle = scene_decode(&scene);

    busy->load.running = 1;
    scene_expect_on(&scene, idle);
    END;
}

static void a_worker_without_free_places_loses_against_one_with(void **state)
{
    SCENE;
    struct sched_worker *full = scene_decode(&scene);
    struct sched_worker *other = scene_decode(&scene);

    full->load.running = 8; /* a new one waits for 2560 / 8 = 320 ms */
    full->load.decode_step_us = 10000;
    other->load.running = 7;
    scene_cached(&scene, full, 6);
    scene_expect_on(&scene, other);
    END;
}

static void a_worker_without_free_blocks_loses_against_one_with(void **state)
{
    SCENE;
    struct sched_worker *tight = scene_decode(&scene);
    struct sched_worker *roomy = scene_decode(&scene);

    scene_cached(&scene, tight, 2);
    scene_expect_on(&scene, tight);
    tight->load.blocks_free = 3;
    scene_expect_on(&scene, roomy);
    END;
}

static void equal_workers_are_drawn_by_the_request(void **state)
{
    SCENE;
    uint32_t hits[4] = {0};

    for (int i = 0; i < 4; i++)
        scene_decode(&scene);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct sched_worker *first;

        scene.prompt.request.lo = i;
        first = scene_choose(&scene)->serving.worker;
        assert_ptr_equal(scene_choose(&scene)->serving.worker, first); /* the same again */
        hits[first->identity.epoch - 1]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(hits[i] > 200 && hits[i] < 300);
    END;
}

static void a_claim_of_more_cached_blocks_than_the_prompt_has_is_cut(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_cached(&scene, d, 1000);
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.matched_blocks, 6);
    assert_int_equal(scene.placement.serving.uncached, 4);
    scene.prompt.tokens = 96;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.uncached, 1); /* the last token is always computed */
    END;
}

static void an_unknown_cache_counts_as_empty(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_cached(&scene, d, 6);
    d->feed.owner = SCHED_OWNER_NONE;
    scene_expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.matched_blocks, 0);
    END;
}

/* --- words and extremes --- */

static void the_reason_tells_what_was_weighed(void **state)
{
    SCENE;
    struct sched_worker *d = scene_decode(&scene);

    scene_prefill(&scene);
    scene_cached(&scene, d, 2);
    scene_choose(&scene);
    assert_string_equal(scene.placement.reason,
                        "decode host-1:1: 32 of 100 tokens cached, 708 ms expected (queue 0, "
                        "prefill 68, places 0, memory 0, decode 640), best of 1; "
                        "prefill there: 1 prefill workers fit");
    scene.prompt.tokens = 40;
    scene_choose(&scene);
    assert_non_null(strstr(scene.placement.reason, "prefill here: 8 tokens are fewer than 32"));
    END;
}

static void absurd_reports_do_no_harm(void **state)
{
    SCENE;
    struct sched_worker *absurd = scene_decode(&scene);
    struct sched_worker *p = scene_prefill(&scene);
    struct sched_worker *sane;

    absurd->identity.max_sequences = UINT32_C(1) << 20;
    absurd->identity.max_waiting = UINT32_C(1) << 20;
    absurd->load = (struct sched_load){.running = UINT32_MAX,
                                       .waiting = UINT32_MAX - 1,
                                       .prefilling = UINT32_MAX,
                                       .prefilling_tokens = UINT32_MAX,
                                       .waiting_tokens = UINT32_MAX,
                                       .prefill_tokens_per_s = 1,
                                       .decode_step_us = UINT32_MAX};
    scene_choose(&scene);
    absurd->identity.max_sequences = 1;
    p->load = absurd->load;
    scene_choose(&scene);
    absurd->load.running = 0;
    absurd->load.waiting = 0;
    scene.prompt.new_tokens_max = UINT32_MAX;
    scene_expect_on(&scene, absurd);
    sane = scene_decode(&scene);
    scene_expect_on(&scene, sane);
    END;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_fleet_is_a_reason_to_come_back),
        cmocka_unit_test(a_model_that_nobody_serves_is_not_found),
        cmocka_unit_test(while_warming_up_a_missing_model_may_still_come),
        cmocka_unit_test(one_decode_worker_alone_serves_and_prefills_itself),
        cmocka_unit_test(prefill_workers_alone_serve_whole_requests),
        cmocka_unit_test(a_prefill_worker_serves_where_the_decode_worker_is_not_ready),
        cmocka_unit_test(a_prefill_worker_does_not_serve_where_the_decode_worker_is_only_full),
        cmocka_unit_test(nobody_gets_work_who_is_not_ready),
        cmocka_unit_test(a_frozen_engine_gets_nothing_new),
        cmocka_unit_test(an_excluded_worker_is_passed_over_for_both_roles),
        cmocka_unit_test(with_all_decode_workers_excluded_a_prefill_worker_serves),
        cmocka_unit_test(a_prompt_longer_than_every_context_is_over_the_limit),
        cmocka_unit_test(a_prompt_larger_than_the_whole_pool_is_over_the_limit),
        cmocka_unit_test(a_full_fleet_says_when_to_come_back),
        cmocka_unit_test(cached_blocks_attract),
        cmocka_unit_test(a_long_queue_outweighs_a_short_prefix),
        cmocka_unit_test(a_faster_worker_is_preferred),
        cmocka_unit_test(a_worker_that_has_not_measured_is_taken_for_as_fast_as_the_fastest),
        cmocka_unit_test(running_sequences_repel),
        cmocka_unit_test(a_worker_without_free_places_loses_against_one_with),
        cmocka_unit_test(a_worker_without_free_blocks_loses_against_one_with),
        cmocka_unit_test(equal_workers_are_drawn_by_the_request),
        cmocka_unit_test(a_claim_of_more_cached_blocks_than_the_prompt_has_is_cut),
        cmocka_unit_test(an_unknown_cache_counts_as_empty),
        cmocka_unit_test(the_reason_tells_what_was_weighed),
        cmocka_unit_test(absurd_reports_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
