/* test_fleet.c: the states of a worker, every cell of the table driven through the core. */
#include <stdio.h>
#include <string.h>

#include "lib/base/log.h"
#include "tests/scheduler/world.h"

#define EPOCH  UINT64_C(42)
#define TARGET "10.0.0.1:7000"

/* Brings the worker into a state. The peer of a LOST worker has no stream. */
static void reach(struct world *world, struct peer *peer, uint8_t state)
{
    world_init(world);
    world_open(world);
    peer_open(world, peer);
    peer_register(world, peer, world_registration(EPOCH, TD__ROLE__ROLE_DECODE, TARGET));
    if (state == SCHED_WORKER_READY)
        peer_ready(world, peer, true);
    else if (state == SCHED_WORKER_DRAINING)
        peer_drain(world, peer);
    else if (state == SCHED_WORKER_STALE)
        world_pass(world, MS(world->config.stale_ms));
    else if (state == SCHED_WORKER_LOST)
        peer_close(world, peer);
    assert_int_equal(world_state(world, EPOCH), state);
}

static uint64_t deadline_of(const struct world *world, uint8_t state)
{
    return state == SCHED_WORKER_STALE  ? MS(world->config.gone_ms)
           : state == SCHED_WORKER_LOST ? MS(world->config.grace_ms)
                                        : MS(world->config.stale_ms);
}

static void cause(struct world *world, struct peer *peer, uint8_t event)
{
    static struct peer other; /* outlives the call: the core knows its address */
    uint64_t epoch = event == SCHED_WORKER_ON_REPLACE ? EPOCH + 1 : EPOCH;

    switch (event) {
    case SCHED_WORKER_ON_READY: peer_ready(world, peer, true); break;
    case SCHED_WORKER_ON_UNREADY: peer_ready(world, peer, false); break;
    case SCHED_WORKER_ON_DRAIN: peer_drain(world, peer); break;
    case SCHED_WORKER_ON_SILENCE:
        world_pass(world, deadline_of(world, world_state(world, EPOCH)));
        break;
    case SCHED_WORKER_ON_LOSE: peer_close(world, peer); break;
    default:
        peer_open(world, &other);
        peer_register(world, &other, world_registration(epoch, TD__ROLE__ROLE_DECODE, TARGET));
        assert_non_null(other.link);
    }
}

static void the_table_is_sound(void **state)
{
    const char *fault = td_fsm_check(&sched_worker_fsm);

    (void)state;
    if (fault != NULL)
        fail_msg("%s", fault);
}

static void every_cell_is_what_the_core_does(void **state)
{
    int cells = 0;

    (void)state;
    for (uint8_t s = 0; s < SCHED_WORKER_GONE; s++) {
        for (uint8_t e = 0; e < SCHED_WORKER_EVENT_COUNT; e++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&sched_worker_fsm, s, e);
            struct world world;
            struct peer peer;

            if (cell->action == TD_FSM_BUG)
                continue;
            reach(&world, &peer, s);
            cause(&world, &peer, e);
            if (world_state(&world, EPOCH) != cell->next)
                fail_msg("%s on %s leads to %s", sched_worker_fsm.states[s].name,
                         sched_worker_fsm.events[e].name,
                         sched_worker_fsm.states[world_state(&world, EPOCH)].name);
            world_close(&world);
            cells++;
        }
    }
    assert_int_equal(cells, 5 * 7 - 2 - 4);
}

/* A change that routers must see leads to a new picture, a mere sign of life does not. */
static void every_cell_shows_what_it_says(void **state)
{
    (void)state;
    for (uint8_t s = 0; s < SCHED_WORKER_GONE; s++) {
        for (uint8_t e = 0; e < SCHED_WORKER_EVENT_COUNT; e++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&sched_worker_fsm, s, e);
            struct world world;
            struct peer peer;
            struct viewer viewer;

            if (cell->action == TD_FSM_BUG)
                continue;
            reach(&world, &peer, s);
            world_pass(&world, MS(world.config.fleet_delay_ms));
            viewer_open(&world, &viewer);
            assert_non_null(viewer_take(&viewer));
            cause(&world, &peer, e);
            world_pass(&world, MS(world.config.fleet_delay_ms));
            assert_int_equal(viewer_take(&viewer) != NULL, cell->action != SCHED_WORKER_DO_KEEP);
            world_close(&world);
        }
    }
}

static void a_report_moves_the_deadline(void **state)
{
    struct world world;
    struct peer peer;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_READY);
    for (int i = 0; i < 10; i++) {
        world_pass(&world, MS(world.config.stale_ms) - 1);
        assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_READY);
        peer_ready(&world, &peer, true);
    }
    world_pass(&world, MS(world.config.stale_ms));
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_STALE);
    assert_int_equal(sched_core_stats(world.core).stale, 1);
    world_close(&world);
}

static void draining_is_for_good(void **state)
{
    struct world world;
    struct peer peer;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_DRAINING);
    peer_ready(&world, &peer, true);
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_DRAINING);
    world_pass(&world, MS(world.config.stale_ms));
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_STALE);
    peer_ready(&world, &peer, true);
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_DRAINING);
    world_close(&world);
}

static void a_worker_silent_for_too_long_loses_its_stream_and_may_come_again(void **state)
{
    struct world world;
    struct peer peer;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_STALE);
    world_pass(&world, MS(world.config.gone_ms));
    assert_null(peer.link);
    assert_int_equal(peer.status, TD_STALE);
    assert_string_equal(peer.reason, "no report for too long");
    assert_int_equal(sched_fleet_count(sched_core_fleet(world.core)), 0);
    peer_join(&world, &peer, EPOCH, TD__ROLE__ROLE_DECODE, TARGET);
    world_close(&world);
}

static void a_new_process_at_the_same_target_replaces_the_old_one(void **state)
{
    struct world world;
    struct peer peer;
    struct peer newer;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_READY);
    peer_join(&world, &newer, EPOCH + 1, TD__ROLE__ROLE_PREFILL, TARGET);
    assert_null(peer.link);
    assert_string_equal(peer.reason, "a newer process has registered");
    assert_int_equal(sched_fleet_count(sched_core_fleet(world.core)), 1);
    assert_int_equal(sched_core_stats(world.core).replaced, 1);
    world_close(&world);
}

static void an_epoch_cannot_be_taken_from_another_target(void **state)
{
    struct world world;
    struct peer peer;
    struct peer thief;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_READY);
    peer_open(&world, &thief);
    peer_register(&world, &thief, world_registration(EPOCH, TD__ROLE__ROLE_DECODE, "other:1"));
    assert_null(thief.link);
    assert_int_equal(thief.status, TD_REFUSED);
    assert_string_equal(thief.reason, "registration: epoch belongs to the worker at " TARGET);
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_READY);
    world_close(&world);
}

static void a_registration_of_a_known_epoch_must_be_the_same_process_s(void **state)
{
    struct world world;
    struct peer peer;
    struct peer thief;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_READY);
    peer_open(&world, &thief);
    peer_register(&world, &thief, world_registration(EPOCH, TD__ROLE__ROLE_PREFILL, TARGET));
    assert_null(thief.link);
    assert_int_equal(thief.status, TD_REFUSED);
    assert_non_null(strstr(thief.reason, "epoch is known with another role"));
    assert_non_null(peer.link);
    assert_int_equal(world_state(&world, EPOCH), SCHED_WORKER_READY);
    world_close(&world);
}

static void two_processes_at_one_target_do_not_push_each_other_out_for_ever(void **state)
{
    struct world world;
    struct peer older;
    struct peer newer;

    (void)state;
    reach(&world, &older, SCHED_WORKER_READY);
    peer_join(&world, &newer, EPOCH + 1, TD__ROLE__ROLE_DECODE, TARGET);
    peer_open(&world, &older);
    peer_register(&world, &older, world_registration(EPOCH, TD__ROLE__ROLE_DECODE, TARGET));
    assert_null(older.link);
    assert_int_equal(older.status, TD_REFUSED);
    assert_non_null(strstr(older.reason, "do two workers advertise the same address?"));
    assert_int_equal(world_state(&world, EPOCH + 1), SCHED_WORKER_READY);
    /* Once the newer one has left for good, the older one may serve again. */
    peer_close(&world, &newer);
    world_pass(&world, MS(world.config.grace_ms));
    peer_join(&world, &older, EPOCH, TD__ROLE__ROLE_DECODE, TARGET);
    world_close(&world);
}

static void workers_of_one_content_agree_on_the_block_size(void **state)
{
    struct world world;
    struct peer peer;
    struct peer other;
    struct peer newer;
    Td__Registration *registration;

    (void)state;
    reach(&world, &peer, SCHED_WORKER_READY);
    registration = world_registration(EPOCH + 1, TD__ROLE__ROLE_DECODE, "other:1");
    registration->geometry->block_tokens = 32;
    peer_open(&world, &other);
    peer_register(&world, &other, registration);
    assert_null(other.link);
    assert_non_null(strstr(other.reason, "geometry.block_tokens is 32 here and 16 at " TARGET));
    /* Another content may have another block size, and so may a new process at the old target. */
    registration = world_registration(EPOCH + 1, TD__ROLE__ROLE_DECODE, "other:1");
    registration->geometry->block_tokens = 32;
    registration->content->content_id_lo++;
    peer_open(&world, &other);
    peer_register(&world, &other, registration);
    assert_non_null(other.link);
    registration = world_registration(EPOCH + 2, TD__ROLE__ROLE_DECODE, TARGET);
    registration->geometry->block_tokens = 32;
    peer_open(&world, &newer);
    peer_register(&world, &newer, registration);
    assert_non_null(newer.link);
    world_close(&world);
}

static void the_fleet_has_a_maximum(void **state)
{
    static struct peer peers[SCHED_WORKERS_MAX + 1];
    struct world world;
    char target[32];

    (void)state;
    world_init(&world);
    world_open(&world);
    for (uint64_t i = 0; i <= SCHED_WORKERS_MAX; i++) {
        snprintf(target, sizeof target, "host-%d:1", (int)i);
        peer_open(&world, &peers[i]);
        peer_register(&world, &peers[i], world_registration(i + 1, TD__ROLE__ROLE_DECODE, target));
        assert_int_equal(peers[i].link != NULL, i < SCHED_WORKERS_MAX);
    }
    assert_int_equal(peers[SCHED_WORKERS_MAX].status, TD_LIMIT);
    /* A new process in the place of an old one is no additional worker. */
    peer_open(&world, &peers[SCHED_WORKERS_MAX]);
    peer_register(&world, &peers[SCHED_WORKERS_MAX],
                  world_registration(100000, TD__ROLE__ROLE_DECODE, "host-7:1"));
    assert_non_null(peers[SCHED_WORKERS_MAX].link);
    assert_int_equal(sched_fleet_count(sched_core_fleet(world.core)), SCHED_WORKERS_MAX);
    world_close(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(every_cell_is_what_the_core_does),
        cmocka_unit_test(every_cell_shows_what_it_says),
        cmocka_unit_test(a_report_moves_the_deadline),
        cmocka_unit_test(draining_is_for_good),
        cmocka_unit_test(a_worker_silent_for_too_long_loses_its_stream_and_may_come_again),
        cmocka_unit_test(a_new_process_at_the_same_target_replaces_the_old_one),
        cmocka_unit_test(an_epoch_cannot_be_taken_from_another_target),
        cmocka_unit_test(a_registration_of_a_known_epoch_must_be_the_same_process_s),
        cmocka_unit_test(two_processes_at_one_target_do_not_push_each_other_out_for_ever),
        cmocka_unit_test(workers_of_one_content_agree_on_the_block_size),
        cmocka_unit_test(the_fleet_has_a_maximum),
    };

    td_log_set_level(TD_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
