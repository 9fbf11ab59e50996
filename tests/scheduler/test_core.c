/* test_core.c: the scheduler core through its messages: the index, places, pictures, settings. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/version.h"
#include "tests/scheduler/world.h"

/* --- the index through the core --- */

static void matched_of(struct world *world, uint32_t tokens, uint64_t first_key, size_t keys,
                       uint64_t *epoch_out, uint32_t *matched_out)
{
    struct sched_answer answer;

    world_place(world, tokens, first_key, keys, &answer);
    *epoch_out = answer.reply.worker_epoch;
    *matched_out = answer.reply.matched_blocks;
}

static void a_request_goes_where_its_prefix_is(void **state)
{
    WORLD;
    struct peer peers[3];
    uint64_t epoch;
    uint32_t matched;

    peer_join(&world, &peers[0], 1, DECODE, "a:1");
    peer_join(&world, &peers[1], 2, DECODE, "b:1");
    peer_join(&world, &peers[2], 3, DECODE, "c:1");
    for (uint64_t k = 0; k < 10; k++)
        peer_events(&world, &peers[1], k + 1, 100 + k);
    matched_of(&world, 200, 100, 12, &epoch, &matched);
    assert_int_equal(epoch, 2);
    assert_int_equal(matched, 10);
    matched_of(&world, 200, 101, 12, &epoch, &matched);
    assert_int_equal(matched, epoch == 2 ? 9 : 0);
    END;
}

static void a_lost_worker_gets_nothing_and_keeps_its_cache_for_a_while(void **state)
{
    WORLD;
    struct peer peer;
    struct sched_answer answer;
    uint64_t epoch;
    uint32_t matched;

    peer_join(&world, &peer, 1, DECODE, "a:1");
    peer_events(&world, &peer, 1, 100);
    peer_close(&world, &peer);
    world_place(&world, 100, 100, 1, &answer);
    assert_int_equal(answer.reply.worker_epoch, 0);
    assert_int_equal(answer.reply.code, -TD_EXHAUSTED);
    assert_true(answer.reply.retry_after_ms > 0);
    peer_open(&world, &peer);
    peer_register(&world, &peer, world_registration(1, DECODE, "a:1"));
    peer_ready(&world, &peer, true); /* with number 0: older than what is known, says nothing */
    matched_of(&world, 100, 100, 1, &epoch, &matched);
    assert_int_equal(matched, 1);
    peer_close(&world, &peer);
    world_pass(&world, MS(world.config.grace_ms));
    assert_int_equal(world_state(&world, 1), SCHED_WORKER_GONE);
    world_pass(&world, MS(1000));
    assert_int_equal(sched_core_index_stats(world.core).count, 0);
    END;
}

static void a_new_epoch_starts_with_an_empty_index(void **state)
{
    WORLD;
    struct peer older;
    struct peer newer;
    uint64_t epoch;
    uint32_t matched;

    peer_join(&world, &older, 1, DECODE, "a:1");
    peer_events(&world, &older, 1, 100);
    peer_join(&world, &newer, 2, DECODE, "a:1");
    matched_of(&world, 100, 100, 1, &epoch, &matched);
    assert_int_equal(epoch, 2);
    assert_int_equal(matched, 0);
    END;
}

static void after_a_restart_everything_comes_back_from_the_workers(void **state)
{
    static struct peer peers[40];
    WORLD;
    char target[16];

    for (uint64_t i = 0; i < 40; i++) {
        snprintf(target, sizeof target, "host-%d:1", (int)i);
        peer_join(&world, &peers[i], i + 1, DECODE, target);
        peer_events(&world, &peers[i], 1, 1000 * i);
    }
    world_close(&world);
    world_open(&world);
    for (uint64_t i = 0; i < 40; i++) {
        snprintf(target, sizeof target, "host-%d:1", (int)i);
        peer_open(&world, &peers[i]);
        peer_register(&world, &peers[i], world_registration(i + 1, DECODE, target));
        peer_ready(&world, &peers[i], true);
    }
    for (int turn = 0; turn < 3; turn++) {
        world_pass(&world, MS(20));
        for (uint64_t i = 0; i < 40; i++) {
            uint32_t asks = peers[i].asks;

            peer_take(&peers[i]);
            if (peers[i].asks > asks)
                peer_snapshot(&world, &peers[i], 1, 1000 * i, 1);
        }
    }
    for (uint64_t i = 0; i < 40; i++) {
        uint64_t epoch;
        uint32_t matched;

        matched_of(&world, 17, 1000 * i, 1, &epoch, &matched);
        assert_int_equal(epoch, i + 1);
        assert_int_equal(matched, 1);
    }
    END;
}

static void many_workers_are_asked_a_few_at_a_time(void **state)
{
    static struct peer peers[100];
    WORLD;
    uint32_t asks = 0;
    char target[16];

    for (uint64_t i = 0; i < 100; i++) {
        snprintf(target, sizeof target, "host-%d:1", (int)i);
        peer_open(&world, &peers[i]);
        peer_register(&world, &peers[i], world_registration(i + 1, DECODE, target));
    }
    world_pass(&world, MS(100));
    for (uint64_t i = 0; i < 100; i++) {
        peer_take(&peers[i]);
        asks += peers[i].asks;
    }
    assert_int_equal(asks, world.config.snapshots_max);
    END;
}

/* --- placing through messages --- */

static void a_malformed_place_is_refused_by_field(void **state)
{
    WORLD;
    uint64_t *numbers = calloc(2 * (SCHED_PLACE_KEYS_MAX + 1), sizeof *numbers);
    char model[SCHED_TEXT_BYTES_MAX + 2];
    Td__PlaceRequest good;
    Td__PlaceRequest request;
    struct sched_answer answer;

    assert_non_null(numbers);
    memset(model, 'm', sizeof model);
    model[sizeof model - 1] = '\0';
    td__place_request__init(&good);
    good.model = model + 1;
    good.prompt_tokens = 1;
    good.keys = numbers;
    good.exclude = numbers;
    good.n_keys = 2 * (size_t)SCHED_PLACE_KEYS_MAX;
    good.n_exclude = SCHED_EXCLUDE_MAX;
    sched_core_place(world.core, &good, world.now_ns, &answer);
    assert_int_equal(answer.reply.code, -TD_EXHAUSTED);
    request = good;
    request.model = model;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_int_equal(answer.reply.code, -TD_INVALID);
    assert_int_equal(answer.reply.retry_after_ms, 0);
    assert_non_null(strstr(answer.reply.message, "model"));
    request = good;
    request.prompt_tokens = 0;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_non_null(strstr(answer.reply.message, "prompt_tokens"));
    request = good;
    request.n_keys--;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_non_null(strstr(answer.reply.message, "keys"));
    request = good;
    request.n_keys += 2;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_non_null(strstr(answer.reply.message, "keys"));
    request = good;
    request.n_exclude++;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_non_null(strstr(answer.reply.message, "exclude"));
    assert_int_equal(sched_core_stats(world.core).place_malformed, 5);
    free(numbers);
    END;
}

static void a_place_names_the_worker_and_the_candidates(void **state)
{
    WORLD;
    struct peer peers[3];
    struct sched_answer answer;

    peer_join(&world, &peers[0], 1, DECODE, "a:1");
    peer_join(&world, &peers[1], 2, PREFILL, "b:1");
    peer_join(&world, &peers[2], 3, PREFILL, "c:1");
    peer_events(&world, &peers[2], 1, 100);
    world_place(&world, 100, 100, 6, &answer);
    assert_int_equal(answer.reply.worker_epoch, 1);
    assert_string_equal(answer.reply.worker_target, "a:1");
    assert_int_equal(answer.reply.n_prefill, 2);
    assert_int_equal(answer.reply.prefill[0]->epoch, 3);
    assert_string_equal(answer.reply.prefill[0]->target, "c:1");
    assert_int_equal(answer.reply.prefill[0]->matched_blocks, 1);
    assert_int_equal(answer.reply.prefill[1]->epoch, 2);
    assert_true(answer.reply.reason[0] != '\0');
    assert_int_equal(sched_core_stats(world.core).placed_remote, 1);
    END;
}

static void a_missing_model_is_waited_for_only_after_the_start(void **state)
{
    WORLD;
    struct peer peer;
    char other[] = "other";
    Td__PlaceRequest request;
    struct sched_answer answer;

    peer_join(&world, &peer, 1, DECODE, "a:1");
    td__place_request__init(&request);
    request.model = other;
    request.prompt_tokens = 10;
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_int_equal(answer.reply.code, -TD_EXHAUSTED);
    assert_true(answer.reply.retry_after_ms > 0);
    world_pass(&world, MS(world.config.warm_ms));
    sched_core_place(world.core, &request, world.now_ns, &answer);
    assert_int_equal(answer.reply.code, -TD_NOT_FOUND);
    assert_int_equal(answer.reply.retry_after_ms, 0);
    END;
}

static void an_admitted_request_is_counted_once(void **state)
{
    WORLD;
    struct peer peer;
    struct sched_answer answer;
    Td__LoadReport report = TD__LOAD_REPORT__INIT;
    const struct sched_worker *worker;

    peer_join(&world, &peer, 1, DECODE, "a:1");
    worker = sched_fleet_find(sched_core_fleet(world.core), 1);
    world_place(&world, 100, 0, 0, &answer);
    world_place(&world, 100, 0, 0, &answer);
    assert_int_equal(worker->guesses.count, 2);
    report.ready = true;
    report.admitted = 1;
    report.waiting = 1;
    report.waiting_tokens = 100;
    report.prefilling = 2;
    report.prefilling_tokens = 300;
    report.blocks_free = 900;
    peer_report(&world, &peer, &report);
    assert_int_equal(worker->guesses.count, 1);
    assert_int_equal(worker->load.waiting, 1);
    assert_int_equal(worker->load.prefilling, 2);
    assert_int_equal(worker->load.prefilling_tokens, 300);
    report.admitted = 0; /* out of order */
    report.waiting = 5;
    peer_report(&world, &peer, &report);
    assert_int_equal(worker->load.waiting, 1);
    assert_int_equal(sched_core_stats(world.core).reports_old, 1);
    END;
}

static void reports_forget_what_was_never_admitted(void **state)
{
    WORLD;
    struct peer peer;
    struct sched_answer answer;
    Td__LoadReport report = TD__LOAD_REPORT__INIT;
    const struct sched_worker *worker;

    peer_join(&world, &peer, 1, DECODE, "a:1");
    worker = sched_fleet_find(sched_core_fleet(world.core), 1);
    world_place(&world, 100, 0, 0, &answer);
    report.ready = true;
    report.blocks_free = 900;
    world.now_ns += MS(world.config.guess_ms);
    peer_report(&world, &peer, &report);
    assert_int_equal(worker->guesses.count, 1);
    world.now_ns++;
    peer_report(&world, &peer, &report); /* nothing is placed in between */
    assert_int_equal(worker->guesses.count, 0);
    END;
}

/* --- pictures of the fleet --- */

static const Td__FleetWorker *shown(const Td__FleetUpdate *picture, uint64_t epoch)
{
    for (size_t i = 0; i < picture->n_workers; i++)
        if (picture->workers[i]->epoch == epoch)
            return picture->workers[i];
    return NULL;
}

static void a_router_gets_the_picture_at_once_and_after_every_change(void **state)
{
    WORLD;
    struct peer peer;
    struct viewer viewer;
    const Td__FleetUpdate *picture;

    viewer_open(&world, &viewer);
    assert_int_equal(viewer.readies, 1);
    picture = viewer_take(&viewer);
    assert_int_equal(picture->scheduler_epoch, world.config.epoch);
    assert_int_equal(picture->n_workers, 0);
    assert_null(viewer_take(&viewer));
    peer_join(&world, &peer, 1, DECODE, "a:1");
    assert_null(viewer_take(&viewer));
    world_pass(&world, MS(world.config.fleet_delay_ms));
    assert_int_equal(viewer.readies, 2);
    picture = viewer_take(&viewer);
    assert_int_equal(picture->n_workers, 1);
    assert_string_equal(picture->workers[0]->rpc_target, "a:1");
    assert_string_equal(picture->workers[0]->http_address, "127.0.0.1:8000");
    assert_string_equal(picture->workers[0]->models[0], "smol");
    assert_int_equal(picture->workers[0]->role, DECODE);
    assert_int_equal(picture->workers[0]->content_id_lo, 78);
    assert_int_equal(picture->workers[0]->text_id_hi, 5);
    assert_int_equal(picture->workers[0]->block_tokens, 16);
    assert_int_equal(picture->workers[0]->max_context, 8192);
    assert_int_equal(picture->workers[0]->max_sequences, 8);
    assert_int_equal(picture->workers[0]->max_waiting, 8);
    assert_true(picture->workers[0]->ready && !picture->workers[0]->draining);
    peer_drain(&world, &peer);
    world_pass(&world, MS(world.config.fleet_delay_ms));
    picture = viewer_take(&viewer);
    assert_true(!picture->workers[0]->ready && picture->workers[0]->draining);
    sched_watcher_closed(viewer.watcher);
    END;
}

static void many_changes_become_one_picture(void **state)
{
    static struct peer peers[20];
    WORLD;
    struct viewer viewer;
    char target[16];

    viewer_open(&world, &viewer);
    assert_non_null(viewer_take(&viewer));
    for (uint64_t i = 0; i < 20; i++) {
        snprintf(target, sizeof target, "host-%d:1", (int)i);
        peer_join(&world, &peers[i], i + 1, DECODE, target);
    }
    world_pass(&world, MS(world.config.fleet_delay_ms));
    assert_int_equal(viewer.readies, 2);
    assert_int_equal(viewer_take(&viewer)->n_workers, 20);
    sched_watcher_closed(viewer.watcher);
    END;
}

static void a_fleet_that_never_rests_is_shown_at_a_steady_pace(void **state)
{
    WORLD;
    struct peer peer;
    struct viewer viewer;
    uint32_t readies;

    viewer_open(&world, &viewer);
    peer_join(&world, &peer, 1, DECODE, "a:1");
    for (int i = 0; i < 100; i++) { /* ten seconds of changes, ten a second */
        peer_ready(&world, &peer, i % 2 == 0);
        world_pass(&world, MS(100));
    }
    assert_in_range(viewer.readies, 16 + 38, 16 + 42); /* a burst, then four a second */
    assert_false(viewer_take(&viewer)->workers[0]->ready);
    readies = viewer.readies;
    peer_ready(&world, &peer, true);
    world_pass(&world, MS(250));
    assert_int_equal(viewer.readies, readies + 1); /* the last change is never held back longer */
    assert_true(viewer_take(&viewer)->workers[0]->ready);
    sched_watcher_closed(viewer.watcher);
    END;
}

static void a_slow_router_skips_to_the_newest_picture(void **state)
{
    WORLD;
    struct peer peer;
    struct viewer viewer;

    viewer_open(&world, &viewer);
    assert_non_null(viewer_take(&viewer));
    peer_join(&world, &peer, 1, DECODE, "a:1");
    world_pass(&world, MS(100));
    peer_close(&world, &peer);
    world_pass(&world, MS(world.config.grace_ms) + MS(100));
    assert_int_equal(viewer_take(&viewer)->n_workers, 0);
    assert_null(viewer_take(&viewer));
    END; /* with the viewer still open */
}

static void a_lost_or_stale_worker_is_shown_as_not_ready(void **state)
{
    WORLD;
    struct peer peers[2];
    struct viewer viewer;
    const Td__FleetUpdate *picture;

    peer_join(&world, &peers[0], 1, DECODE, "a:1");
    peer_join(&world, &peers[1], 2, DECODE, "b:1");
    peer_close(&world, &peers[0]);
    viewer_open(&world, &viewer);
    picture = viewer_take(&viewer);
    assert_false(shown(picture, 1)->ready);
    assert_true(shown(picture, 2)->ready);
    world_pass(&world, MS(world.config.stale_ms) + MS(100));
    picture = viewer_take(&viewer);
    assert_false(shown(picture, 2)->ready);
    END;
}

static void a_bad_fleet_request_is_refused_by_field(void **state)
{
    WORLD;
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;
    struct viewer viewer = {0};
    struct td_error error = {0};

    request.router_epoch = 1;
    assert_int_equal(sched_watcher_open(world.core, &viewer, &request, &viewer.watcher, &error),
                     TD_REFUSED);
    assert_non_null(strstr(error.text, "versions"));
    versions.min = TD_PROTOCOL_MAX + 1;
    versions.max = 7;
    request.versions = &versions;
    assert_int_equal(sched_watcher_open(world.core, &viewer, &request, &viewer.watcher, &error),
                     TD_REFUSED);
    versions.min = 0;
    request.router_epoch = 0;
    assert_int_equal(sched_watcher_open(world.core, &viewer, &request, &viewer.watcher, &error),
                     TD_INVALID);
    request.router_epoch = 1;
    for (int i = 0; i < SCHED_WATCHERS_MAX; i++)
        assert_int_equal(sched_watcher_open(world.core, &viewer, &request, &viewer.watcher, &error),
                         TD_OK);
    assert_int_equal(sched_watcher_open(world.core, &viewer, &request, &viewer.watcher, &error),
                     TD_LIMIT);
    END;
}

/* --- settings --- */

static void senseless_settings_are_refused_by_name(void **state)
{
    struct world world;
    struct sched_config good;
    struct sched_env env = {0};
    struct td_error error;

    (void)state;
    world_init(&world);
    good = world.config;
#define REFUSED(field, value_)                                                         \
    do {                                                                               \
        world.config = good;                                                           \
        world.config.field = (value_);                                                 \
        error = (struct td_error){0};                                                  \
        assert_int_equal(sched_core_open(&world.config, &env, 1, &world.core, &error), \
                         TD_INVALID);                                                  \
        assert_non_null(strstr(error.text, #field));                                   \
    } while (0)
    REFUSED(epoch, 0);
    REFUSED(index_bytes_max, 1000);
    REFUSED(stale_ms, good.load_interval_ms);
    REFUSED(retry_max_ms, 1);
    REFUSED(output_tokens_mean, UINT32_MAX);
    REFUSED(guess_ms, 0);
    REFUSED(snapshots_max, 0);
#undef REFUSED
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_goes_where_its_prefix_is),
        cmocka_unit_test(a_lost_worker_gets_nothing_and_keeps_its_cache_for_a_while),
        cmocka_unit_test(a_new_epoch_starts_with_an_empty_index),
        cmocka_unit_test(after_a_restart_everything_comes_back_from_the_workers),
        cmocka_unit_test(many_workers_are_asked_a_few_at_a_time),
        cmocka_unit_test(a_malformed_place_is_refused_by_field),
        cmocka_unit_test(a_place_names_the_worker_and_the_candidates),
        cmocka_unit_test(a_missing_model_is_waited_for_only_after_the_start),
        cmocka_unit_test(an_admitted_request_is_counted_once),
        cmocka_unit_test(reports_forget_what_was_never_admitted),
        cmocka_unit_test(a_router_gets_the_picture_at_once_and_after_every_change),
        cmocka_unit_test(many_changes_become_one_picture),
        cmocka_unit_test(a_fleet_that_never_rests_is_shown_at_a_steady_pace),
        cmocka_unit_test(a_slow_router_skips_to_the_newest_picture),
        cmocka_unit_test(a_lost_or_stale_worker_is_shown_as_not_ready),
        cmocka_unit_test(a_bad_fleet_request_is_refused_by_field),
        cmocka_unit_test(senseless_settings_are_refused_by_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
