/*
 * test_placement.c: who gets a request. Each test is a sentence about a small fleet.
 *
 * The plain worker of these tests computes 1,000 prompt tokens and 100 decode steps per second, runs
 * 8 sequences and has 1,000 free blocks of 16 tokens.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/time.h"
#include "scheduler/placement.h"
#include "tests/support/support.h"

#define NOW       (1000 * TD_NS_PER_SEC)
#define MODEL     "smol"
#define FLEET_MAX 8

struct scene {
    struct sched_config config;
    struct sched_fleet fleet;
    struct sched_worker *workers[FLEET_MAX];
    uint32_t depth[SCHED_OWNERS_MAX];
    struct sched_prompt prompt;
    struct sched_placement placement;
    size_t count;
    uint64_t now_ns;
};

static void scene_open(struct scene *scene)
{
    memset(scene, 0, sizeof *scene);
    scene->config = sched_config_default();
    scene->now_ns = NOW;
    sched_fleet_init(&scene->fleet);
    scene->prompt = (struct sched_prompt){
        .model = MODEL,
        .tokens = 100,
        .new_tokens_max = 64,
        .request = {.hi = 1, .lo = 2},
        .depth = scene->depth,
    };
}

static void scene_close(struct scene *scene)
{
    for (size_t i = 0; i < scene->count; i++) {
        scene->workers[i]->feed.state = SCHED_FEED_CLOSED;
        sched_fleet_remove(&scene->fleet, scene->workers[i]);
    }
    sched_fleet_fini(&scene->fleet);
}

/* The worker's epoch is its number from 1, and so is its column of the index. */
static struct sched_worker *worker(struct scene *scene, Td__Role role, uint8_t state)
{
    uint64_t epoch = scene->count + 1;
    char target[32];
    struct sched_identity identity = {
        .epoch = epoch,
        .role = role,
        .model_count = 1,
        .content_id = {.hi = 7, .lo = 7},
        .block_tokens = 16,
        .block_count = 1000,
        .max_context = 8192,
        .max_sequences = 8,
        .max_waiting = 8,
    };
    struct sched_worker *added;

    snprintf(target, sizeof target, "host-%d:1", (int)epoch);
    td_arena_init(&identity.arena, 4096);
    identity.rpc_target = td_arena_text(&identity.arena, target, strlen(target));
    identity.http_address = td_arena_text(&identity.arena, "", 0);
    identity.models[0] = td_arena_text(&identity.arena, MODEL, strlen(MODEL));
    assert_int_equal(sched_fleet_add(&scene->fleet, &identity, &added), TD_OK);
    added->state = state;
    added->feed.owner = (uint16_t)epoch;
    added->load = (struct sched_load){
        .blocks_free = 1000, .prefill_tokens_per_s = 1000, .decode_step_us = 10000};
    scene->workers[scene->count++] = added;
    return added;
}

static struct sched_worker *decode(struct scene *scene)
{
    return worker(scene, TD__ROLE__ROLE_DECODE, SCHED_WORKER_READY);
}

static struct sched_worker *prefill(struct scene *scene)
{
    return worker(scene, TD__ROLE__ROLE_PREFILL, SCHED_WORKER_READY);
}

static void cached(struct scene *scene, const struct sched_worker *on, uint32_t blocks)
{
    scene->depth[on->feed.owner] = blocks;
}

static const struct sched_placement *choose(struct scene *scene)
{
    sched_placement_choose(&scene->fleet, &scene->config, &scene->prompt, scene->now_ns,
                           &scene->placement);
    return &scene->placement;
}

static void expect_on(struct scene *scene, const struct sched_worker *expected)
{
    const struct sched_placement *placement = choose(scene);

    if (placement->status != TD_OK)
        fail_msg("nowhere: %s", placement->message);
    if (placement->serving.worker != expected)
        fail_msg("placed on %s", placement->reason);
}

static void expect_nowhere(struct scene *scene, td_status_t status, uint32_t retry_after_ms)
{
    const struct sched_placement *placement = choose(scene);

    assert_int_equal(placement->status, status);
    assert_int_equal(placement->retry_after_ms, retry_after_ms);
    assert_true(placement->message[0] != '\0');
}

static const struct sched_placement *place(struct scene *scene)
{
    choose(scene);
    assert_int_equal(scene->placement.status, TD_OK);
    sched_placement_commit(&scene->placement, scene->now_ns);
    return &scene->placement;
}

#define SCENE           \
    struct scene scene; \
    (void)state;        \
    scene_open(&scene)
#define END scene_close(&scene)

/* --- who is there --- */

static void an_empty_fleet_is_a_reason_to_come_back(void **state)
{
    SCENE;
    expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void a_model_that_nobody_serves_is_not_found(void **state)
{
    SCENE;
    decode(&scene);
    scene.prompt.model = "other";
    expect_nowhere(&scene, TD_NOT_FOUND, 0);
    END;
}

static void while_warming_up_a_missing_model_may_still_come(void **state)
{
    SCENE;
    decode(&scene);
    scene.prompt.model = "other";
    scene.prompt.warming = true;
    expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void one_decode_worker_alone_serves_and_prefills_itself(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    END;
}

static void prefill_workers_alone_serve_whole_requests(void **state)
{
    SCENE;
    struct sched_worker *p = prefill(&scene);

    prefill(&scene)->load.waiting_tokens = 5000;
    expect_on(&scene, p);
    assert_int_equal(scene.placement.prefill_count, 0);
    END;
}

static void a_prefill_worker_serves_where_the_decode_worker_is_not_ready(void **state)
{
    const uint8_t states[] = {SCHED_WORKER_REGISTERED, SCHED_WORKER_DRAINING, SCHED_WORKER_STALE,
                              SCHED_WORKER_LOST};

    for (size_t i = 0; i < sizeof states; i++) {
        SCENE;
        worker(&scene, TD__ROLE__ROLE_DECODE, states[i]);
        expect_on(&scene, prefill(&scene));
        END;
    }
}

static void a_prefill_worker_does_not_serve_where_the_decode_worker_is_only_full(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    prefill(&scene);
    d->load.running = 8;
    d->load.waiting = 8;
    assert_int_equal(choose(&scene)->status, TD_EXHAUSTED);
    END;
}

static void nobody_gets_work_who_is_not_ready(void **state)
{
    const uint8_t states[] = {SCHED_WORKER_REGISTERED, SCHED_WORKER_DRAINING, SCHED_WORKER_STALE,
                              SCHED_WORKER_LOST};

    for (size_t i = 0; i < sizeof states; i++) {
        SCENE;
        worker(&scene, TD__ROLE__ROLE_DECODE, states[i]);
        worker(&scene, TD__ROLE__ROLE_PREFILL, states[i]);
        expect_nowhere(&scene, TD_EXHAUSTED, 1000);
        END;
    }
}

static void a_frozen_engine_gets_nothing_new(void **state)
{
    SCENE;
    struct sched_worker *frozen = decode(&scene);
    struct sched_worker *other = decode(&scene);

    frozen->load.step_age_ms = scene.config.frozen_ms;
    cached(&scene, frozen, 6);
    expect_on(&scene, frozen);
    frozen->load.step_age_ms++;
    expect_on(&scene, other);
    other->load.step_age_ms = scene.config.frozen_ms + 1;
    expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void an_excluded_worker_is_passed_over_for_both_roles(void **state)
{
    SCENE;
    struct sched_worker *d1 = decode(&scene);
    struct sched_worker *d2 = decode(&scene);
    struct sched_worker *p1 = prefill(&scene);
    struct sched_worker *p2 = prefill(&scene);
    uint64_t exclude[2] = {d1->identity.epoch, p1->identity.epoch};

    cached(&scene, d1, 1);
    scene.prompt.exclude = exclude;
    scene.prompt.exclude_count = 2;
    expect_on(&scene, d2);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_ptr_equal(scene.placement.prefill[0].worker, p2);
    END;
}

static void with_all_decode_workers_excluded_a_prefill_worker_serves(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);
    struct sched_worker *p = prefill(&scene);
    uint64_t exclude[2] = {d->identity.epoch, p->identity.epoch};

    scene.prompt.exclude = exclude;
    scene.prompt.exclude_count = 1;
    expect_on(&scene, p);
    scene.prompt.exclude_count = 2;
    expect_nowhere(&scene, TD_EXHAUSTED, 1000);
    END;
}

static void a_prompt_longer_than_every_context_is_over_the_limit(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    scene.prompt.tokens = d->identity.max_context - 1;
    expect_on(&scene, d);
    scene.prompt.tokens = d->identity.max_context;
    expect_nowhere(&scene, TD_LIMIT, 0);
    END;
}

static void a_prompt_larger_than_the_whole_pool_is_over_the_limit(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    d->identity.block_count = 10;
    scene.prompt.tokens = 160;
    expect_on(&scene, d);
    scene.prompt.tokens = 161;
    expect_nowhere(&scene, TD_LIMIT, 0);
    END;
}

static void a_full_fleet_says_when_to_come_back(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    d->load.running = 8;
    d->load.waiting = 7;
    expect_on(&scene, d);
    d->load.waiting = 8;
    d->load.waiting_tokens = 500;
    /* 500 ms of queue; the ninth in line for 8 places that last 256 steps of 10 ms. */
    expect_nowhere(&scene, TD_EXHAUSTED, 500 + 9 * 2560 / 8);
    d->load.decode_step_us = 1;
    d->load.waiting_tokens = 0;
    expect_nowhere(&scene, TD_EXHAUSTED, 100);
    d->load.waiting_tokens = 4000000;
    expect_nowhere(&scene, TD_EXHAUSTED, 10000);
    END;
}

/* --- the best decode worker --- */

static void cached_blocks_attract(void **state)
{
    SCENE;
    struct sched_worker *warm;

    decode(&scene);
    warm = decode(&scene);
    decode(&scene);
    cached(&scene, warm, 4);
    expect_on(&scene, warm);
    assert_int_equal(scene.placement.serving.matched_blocks, 4);
    assert_int_equal(scene.placement.serving.uncached, 36);
    END;
}

static void a_long_queue_outweighs_a_short_prefix(void **state)
{
    SCENE;
    struct sched_worker *warm = decode(&scene);
    struct sched_worker *idle = decode(&scene);

    cached(&scene, warm, 4); /* 64 ms less to compute */
    warm->load.waiting_tokens = 60;
    expect_on(&scene, warm);
    warm->load.waiting_tokens = 70;
    expect_on(&scene, idle);
    END;
}

static void a_faster_worker_is_preferred(void **state)
{
    SCENE;
    struct sched_worker *fast;

    decode(&scene);
    fast = decode(&scene);
    fast->load.prefill_tokens_per_s = 2000;
    expect_on(&scene, fast);
    fast->load.prefill_tokens_per_s = 1000;
    fast->load.decode_step_us = 9000;
    expect_on(&scene, fast);
    END;
}

static void a_worker_that_has_not_measured_is_taken_for_as_fast_as_the_fastest(void **state)
{
    SCENE;
    struct sched_worker *slow = decode(&scene);
    struct sched_worker *fresh = decode(&scene);

    slow->load.prefill_tokens_per_s = 900;
    fresh->load.prefill_tokens_per_s = 0;
    fresh->load.decode_step_us = 0;
    slow->load.running = 1;
    expect_on(&scene, fresh);
    END;
}

static void running_sequences_repel(void **state)
{
    SCENE;
    struct sched_worker *busy = decode(&scene);
    struct sched_worker *idle = decode(&scene);

    busy->load.running = 1;
    expect_on(&scene, idle);
    END;
}

static void a_worker_without_free_places_loses_against_one_with(void **state)
{
    SCENE;
    struct sched_worker *full = decode(&scene);
    struct sched_worker *other = decode(&scene);

    full->load.running = 8; /* a new one waits for 2560 / 8 = 320 ms */
    full->load.decode_step_us = 10000;
    other->load.running = 7;
    cached(&scene, full, 6);
    expect_on(&scene, other);
    END;
}

static void a_worker_without_free_blocks_loses_against_one_with(void **state)
{
    SCENE;
    struct sched_worker *tight = decode(&scene);
    struct sched_worker *roomy = decode(&scene);

    cached(&scene, tight, 2);
    expect_on(&scene, tight);
    tight->load.blocks_free = 3;
    expect_on(&scene, roomy);
    END;
}

static void equal_workers_are_drawn_by_the_request(void **state)
{
    SCENE;
    uint32_t hits[4] = {0};

    for (int i = 0; i < 4; i++)
        decode(&scene);
    for (uint64_t i = 0; i < 1000; i++) {
        const struct sched_worker *first;

        scene.prompt.request.lo = i;
        first = choose(&scene)->serving.worker;
        assert_ptr_equal(choose(&scene)->serving.worker, first); /* the same again */
        hits[first->identity.epoch - 1]++;
    }
    for (int i = 0; i < 4; i++)
        assert_true(hits[i] > 200 && hits[i] < 300);
    END;
}

static void a_claim_of_more_cached_blocks_than_the_prompt_has_is_cut(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    cached(&scene, d, 1000);
    expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.matched_blocks, 6);
    assert_int_equal(scene.placement.serving.uncached, 4);
    scene.prompt.tokens = 96;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.uncached, 1); /* the last token is always computed */
    END;
}

static void an_unknown_cache_counts_as_empty(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    cached(&scene, d, 6);
    d->feed.owner = SCHED_OWNER_NONE;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.serving.matched_blocks, 0);
    END;
}

/* --- herds --- */

static void a_burst_spreads_before_any_report(void **state)
{
    SCENE;
    uint32_t hits[4] = {0};

    for (int i = 0; i < 4; i++)
        decode(&scene);
    for (uint64_t i = 0; i < 16; i++) {
        scene.prompt.request.lo = i;
        hits[place(&scene)->serving.worker->identity.epoch - 1]++;
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(hits[i], 4);
    END;
}

static void a_burst_of_one_prefix_sticks_until_the_others_are_quicker(void **state)
{
    SCENE;
    struct sched_worker *warm = decode(&scene);
    int before = 0;

    decode(&scene);
    cached(&scene, warm, 6);
    while (before < 100 && place(&scene)->serving.worker == warm)
        before++;
    assert_in_range(before, 1, 3);
    END;
}

static void an_admission_ends_the_oldest_guess(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);
    Td__LoadReport report = TD__LOAD_REPORT__INIT;

    place(&scene);
    scene.prompt.tokens = 50;
    place(&scene);
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
    struct sched_worker *d = decode(&scene);

    place(&scene);
    scene.now_ns += scene.config.guess_ms * TD_NS_PER_MS;
    choose(&scene);
    assert_int_equal(d->guesses.count, 1);
    scene.now_ns++;
    choose(&scene);
    assert_int_equal(d->guesses.count, 0);
    assert_int_equal(d->guesses.expired, 1);
    END;
}

static void guesses_fill_a_worker_as_requests_do(void **state)
{
    SCENE;
    decode(&scene);
    for (int i = 0; i < 16; i++)
        place(&scene);
    assert_int_equal(choose(&scene)->status, TD_EXHAUSTED);
    END;
}

static void more_guesses_than_fit_push_out_the_oldest(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    d->identity.max_waiting = 100000;
    d->identity.max_context = 100000;
    for (uint32_t i = 1; i <= SCHED_GUESSES_MAX + 10; i++) {
        scene.prompt.tokens = i;
        place(&scene);
    }
    assert_int_equal(d->guesses.count, SCHED_GUESSES_MAX);
    assert_int_equal(d->guesses.tokens,
                     (SCHED_GUESSES_MAX + 10) * (SCHED_GUESSES_MAX + 11) / 2 - 10 * 11 / 2);
    END;
}

/* --- whether and where to prefill --- */

static void a_long_prompt_is_prefilled_by_a_prefill_worker(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);
    struct sched_worker *p = prefill(&scene);

    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_ptr_equal(scene.placement.prefill[0].worker, p);
    END;
}

static void the_threshold_is_the_first_count_that_goes_away(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    prefill(&scene);
    assert_int_equal(scene.config.remote_tokens_min, 32);
    scene.prompt.tokens = 31;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    scene.prompt.tokens = 32;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    END;
}

static void cached_tokens_do_not_count_towards_the_threshold(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    prefill(&scene);
    cached(&scene, d, 5); /* 80 of 111 or 112 */
    scene.prompt.tokens = 111;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 0);
    scene.prompt.tokens = 112;
    expect_on(&scene, d);
    assert_int_equal(scene.placement.prefill_count, 1);
    END;
}

static void what_the_prefill_worker_has_cached_does_not_keep_a_prompt_here(void **state)
{
    SCENE;
    struct sched_worker *p;

    decode(&scene);
    p = prefill(&scene);
    cached(&scene, p, 6);
    choose(&scene);
    assert_int_equal(scene.placement.prefill_count, 1);
    assert_int_equal(scene.placement.prefill[0].matched_blocks, 6);
    assert_int_equal(scene.placement.prefill[0].uncached, 4);
    END;
}

static void another_content_id_cannot_prefill(void **state)
{
    SCENE;
    decode(&scene);
    prefill(&scene)->identity.content_id.lo = 8;
    choose(&scene);
    assert_int_equal(scene.placement.prefill_count, 0);
    assert_non_null(strstr(scene.placement.reason,
                           "prefill here: 0 prefill workers fit, 1 have another content_id"));
    END;
}

static void an_overloaded_prefill_worker_is_not_asked(void **state)
{
    SCENE;
    struct sched_worker *p;

    decode(&scene);
    p = prefill(&scene);
    p->load.waiting_tokens = 2000; /* 2 s of queue: the limit */
    assert_int_equal(choose(&scene)->prefill_count, 1);
    p->load.waiting_tokens = 2001;
    assert_int_equal(choose(&scene)->prefill_count, 0);
    p->load.waiting_tokens = 0;
    p->load.prefilling = 20; /* 100 rows of each beside the 100 of ours */
    p->load.prefilling_tokens = 30000;
    assert_int_equal(choose(&scene)->prefill_count, 1);
    p->load.prefilling++;
    assert_int_equal(choose(&scene)->prefill_count, 0);
    p->load.prefilling_tokens = 2000; /* that is all they have left */
    assert_int_equal(choose(&scene)->prefill_count, 1);
    p->load.running = 8;
    p->load.waiting = 8;
    assert_int_equal(choose(&scene)->prefill_count, 0);
    END;
}

static void a_prefill_worker_that_is_not_ready_or_frozen_is_not_asked(void **state)
{
    SCENE;
    struct sched_worker *p;

    decode(&scene);
    p = prefill(&scene);
    p->state = SCHED_WORKER_DRAINING;
    assert_int_equal(choose(&scene)->prefill_count, 0);
    p->state = SCHED_WORKER_READY;
    p->load.step_age_ms = scene.config.frozen_ms + 1;
    assert_int_equal(choose(&scene)->prefill_count, 0);
    END;
}

static void at_most_three_candidates_come_best_first(void **state)
{
    SCENE;
    const uint32_t waiting[5] = {50, 10, 40, 20, 30};

    decode(&scene);
    for (int i = 0; i < 5; i++)
        prefill(&scene)->load.waiting_tokens = waiting[i];
    assert_int_equal(choose(&scene)->prefill_count, 3);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(scene.placement.prefill[i].worker->load.waiting_tokens, 10 * (i + 1));
    END;
}

static void a_prefill_worker_that_computes_for_others_is_slower(void **state)
{
    SCENE;
    struct sched_worker *busy;
    struct sched_worker *idle;

    decode(&scene);
    busy = prefill(&scene);
    idle = prefill(&scene);
    busy->load.running = 1;
    busy->load.prefilling = 1;
    busy->load.prefilling_tokens = 30000;
    cached(&scene, busy, 2); /* 68 tokens at half the speed */
    assert_ptr_equal(choose(&scene)->prefill[0].worker, idle);
    busy->load.prefilling_tokens = 31; /* which is soon over */
    assert_ptr_equal(choose(&scene)->prefill[0].worker, busy);
    busy->load.prefilling_tokens = 30000;
    cached(&scene, busy, 4); /* 36 tokens at half the speed */
    assert_ptr_equal(choose(&scene)->prefill[0].worker, busy);
    END;
}

static void a_decode_worker_that_computes_a_prompt_is_slower(void **state)
{
    SCENE;
    struct sched_worker *busy = decode(&scene);
    struct sched_worker *idle = decode(&scene);

    busy->load.running = idle->load.running = 1;
    busy->load.prefilling = 1;
    busy->load.prefilling_tokens = 30000;
    expect_on(&scene, idle);
    cached(&scene, busy, 3); /* 52 tokens at half the speed */
    expect_on(&scene, idle);
    cached(&scene, busy, 4);
    expect_on(&scene, busy);
    END;
}

static void asks_spread_over_the_prefill_workers(void **state)
{
    SCENE;
    struct sched_worker *p[3];

    decode(&scene)->identity.max_waiting = 100;
    for (int i = 0; i < 3; i++)
        p[i] = prefill(&scene);
    for (uint64_t i = 0; i < 12; i++) {
        scene.prompt.request.lo = i;
        assert_int_equal(place(&scene)->prefill_count, 3);
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(p[i]->guesses.count, 4);
    END;
}

static void a_remote_prompt_does_not_queue_on_the_decode_worker(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);
    struct sched_worker *p = prefill(&scene);

    place(&scene);
    assert_int_equal(d->guesses.tokens, 0);
    assert_int_equal(d->guesses.blocks, (100 + 64 + 15) / 16);
    assert_int_equal(p->guesses.tokens, 100);
    assert_int_equal(p->guesses.blocks, 7);
    END;
}

/* --- words and extremes --- */

static void the_reason_tells_what_was_weighed(void **state)
{
    SCENE;
    struct sched_worker *d = decode(&scene);

    prefill(&scene);
    cached(&scene, d, 2);
    choose(&scene);
    assert_string_equal(scene.placement.reason,
                        "decode host-1:1: 32 of 100 tokens cached, 708 ms expected (queue 0, "
                        "prefill 68, places 0, memory 0, decode 640), best of 1; "
                        "prefill there: 1 prefill workers fit");
    scene.prompt.tokens = 40;
    choose(&scene);
    assert_non_null(strstr(scene.placement.reason, "prefill here: 8 tokens are fewer than 32"));
    END;
}

static void absurd_reports_do_no_harm(void **state)
{
    SCENE;
    struct sched_worker *absurd = decode(&scene);
    struct sched_worker *p = prefill(&scene);
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
    choose(&scene);
    absurd->identity.max_sequences = 1;
    p->load = absurd->load;
    choose(&scene);
    absurd->load.running = 0;
    absurd->load.waiting = 0;
    scene.prompt.new_tokens_max = UINT32_MAX;
    expect_on(&scene, absurd);
    sane = decode(&scene);
    expect_on(&scene, sane);
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
        cmocka_unit_test(a_burst_spreads_before_any_report),
        cmocka_unit_test(a_burst_of_one_prefix_sticks_until_the_others_are_quicker),
        cmocka_unit_test(an_admission_ends_the_oldest_guess),
        cmocka_unit_test(a_guess_that_is_never_admitted_ends_by_itself),
        cmocka_unit_test(guesses_fill_a_worker_as_requests_do),
        cmocka_unit_test(more_guesses_than_fit_push_out_the_oldest),
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
        cmocka_unit_test(the_reason_tells_what_was_weighed),
        cmocka_unit_test(absurd_reports_do_no_harm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
