/* test_fleet.c: one picture of the fleet out of several schedulers' (router/fleet.h). */
#include <stdio.h>
#include <string.h>

#include "lib/base/time.h"
#include "router/fleet.h"
#include "tests/support/support.h"

#define SETTLED_NS (ROUTER_FLEET_SETTLE_MS * TD_NS_PER_MS)

struct member {
    uint64_t epoch;
    const char *target;
    bool ready;
    bool draining;
};

/* A picture in an arena, as it comes from the wire; members end with epoch 0. */
static void take(struct router_fleet *fleet, size_t source, uint64_t scheduler_epoch,
                 const struct member *members, uint64_t now_ns)
{
    struct router_picture picture;
    size_t count = 0;

    td_arena_init(&picture.arena, 1 << 20);
    while (members[count].epoch != 0)
        count++;
    picture.update = td_arena_alloc(&picture.arena, sizeof *picture.update);
    td__fleet_update__init(picture.update);
    picture.update->scheduler_epoch = scheduler_epoch;
    picture.update->workers = td_arena_array(&picture.arena, count + 1, sizeof(void *));
    for (size_t i = 0; i < count; i++) {
        Td__FleetWorker *worker = td_arena_alloc(&picture.arena, sizeof *worker);

        td__fleet_worker__init(worker);
        worker->epoch = members[i].epoch;
        worker->rpc_target =
            td_arena_text(&picture.arena, members[i].target, strlen(members[i].target));
        worker->ready = members[i].ready;
        worker->draining = members[i].draining;
        picture.update->workers[picture.update->n_workers++] = worker;
    }
    router_fleet_take(fleet, source, &picture, now_ns);
    assert_null(picture.update); /* it has moved */
}

/* "1r 2d" for worker 1, which is ready, and worker 2, which drains. */
static void assert_fleet(struct router_fleet *fleet, uint64_t now_ns, const char *expected)
{
    const Td__FleetUpdate *update = router_fleet_merge(fleet, now_ns);
    char text[256] = "";
    size_t length = 0;

    for (size_t i = 0; i < update->n_workers; i++)
        length += (size_t)snprintf(text + length, sizeof text - length, "%s%llu%s%s",
                                   i > 0 ? " " : "", (unsigned long long)update->workers[i]->epoch,
                                   update->workers[i]->ready ? "r" : "",
                                   update->workers[i]->draining ? "d" : "");
    assert_string_equal(text, expected);
}

#define NOBODY              \
    (const struct member[]) \
    {                       \
        {                   \
            0               \
        }                   \
    }
#define ONE                    \
    (const struct member[])    \
    {                          \
        {1, "a", true, false}, \
        {                      \
            0                  \
        }                      \
    }
#define TWO                                           \
    (const struct member[])                           \
    {                                                 \
        {1, "a", true, false}, {2, "b", true, false}, \
        {                                             \
            0                                         \
        }                                             \
    }

static void the_fleet_is_what_all_connected_schedulers_know(void **state)
{
    static struct router_fleet fleet;

    (void)state;
    router_fleet_init(&fleet, 2);
    assert_fleet(&fleet, 0, "");
    take(&fleet, 0, 10, ONE, 0);
    take(&fleet, 1, 20, (const struct member[]){{2, "b", false, false}, {1, "a", false, true}, {0}},
         0);
    assert_fleet(&fleet, 0, "1rd 2");
    assert_int_equal(router_fleet_next(&fleet), TD_TIME_NEVER);
    take(&fleet, 1, 20, NOBODY, 0);
    assert_fleet(&fleet, 0, "1r");
    router_fleet_fini(&fleet);
}

static void what_a_lost_scheduler_said_counts_only_while_no_other_is_connected(void **state)
{
    static struct router_fleet fleet;

    (void)state;
    router_fleet_init(&fleet, 2);
    take(&fleet, 0, 10, ONE, 0);
    router_fleet_lost(&fleet, 0);
    assert_fleet(&fleet, 1000 * SETTLED_NS, "1r");
    take(&fleet, 1, 20, (const struct member[]){{2, "b", true, false}, {0}}, 0);
    assert_fleet(&fleet, 0, "2r");
    router_fleet_lost(&fleet, 1);
    assert_fleet(&fleet, 0, "1r 2r");
    router_fleet_fini(&fleet);
}

static void a_restarted_scheduler_has_time_to_learn_the_fleet_again(void **state)
{
    static struct router_fleet fleet;

    (void)state;
    router_fleet_init(&fleet, 1);
    take(&fleet, 0, 10, TWO, 0);
    router_fleet_lost(&fleet, 0);
    take(&fleet, 0, 11, NOBODY, 5);
    assert_int_equal(router_fleet_next(&fleet), 5 + SETTLED_NS);
    assert_fleet(&fleet, 5, "1r 2r");
    take(&fleet, 0, 11, ONE, 6);
    assert_fleet(&fleet, 6, "1r 2r");
    assert_fleet(&fleet, 4 + SETTLED_NS, "1r 2r");
    assert_fleet(&fleet, 5 + SETTLED_NS, "1r");
    assert_int_equal(router_fleet_next(&fleet), TD_TIME_NEVER);
    router_fleet_fini(&fleet);
}

static void a_second_restart_while_settling_does_not_lose_what_was_known_before(void **state)
{
    static struct router_fleet fleet;

    (void)state;
    router_fleet_init(&fleet, 1);
    take(&fleet, 0, 10, TWO, 0);
    take(&fleet, 0, 11, NOBODY, 5);
    take(&fleet, 0, 12, ONE, 9);
    assert_fleet(&fleet, 8 + SETTLED_NS, "1r 2r");
    assert_fleet(&fleet, 9 + SETTLED_NS, "1r");
    router_fleet_fini(&fleet);
}

static void a_new_incarnation_of_a_worker_replaces_the_one_before(void **state)
{
    static struct router_fleet fleet;

    (void)state;
    router_fleet_init(&fleet, 1);
    take(&fleet, 0, 10, TWO, 0);
    take(&fleet, 0, 11, (const struct member[]){{3, "b", true, false}, {0}}, 5);
    assert_fleet(&fleet, 5, "3r 1r");
    router_fleet_fini(&fleet);
}

static void the_picture_is_bounded(void **state)
{
    static struct router_fleet fleet;
    static struct member many[ROUTER_WORKERS_MAX + 40];
    static char targets[ROUTER_WORKERS_MAX + 40][8];

    (void)state;
    router_fleet_init(&fleet, 2);
    for (size_t i = 0; i + 1 < sizeof many / sizeof many[0]; i++) {
        snprintf(targets[i], sizeof targets[i], "w%zu", i);
        many[i] = (struct member){.epoch = 1 + i, .target = targets[i], .ready = true};
    }
    take(&fleet, 0, 10, many, 0);
    take(&fleet, 1, 20, (const struct member[]){{7777, "x", true, false}, {0}}, 0);
    assert_int_equal(router_fleet_merge(&fleet, 0)->n_workers, ROUTER_WORKERS_MAX);
    router_fleet_fini(&fleet);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_fleet_is_what_all_connected_schedulers_know),
        cmocka_unit_test(what_a_lost_scheduler_said_counts_only_while_no_other_is_connected),
        cmocka_unit_test(a_restarted_scheduler_has_time_to_learn_the_fleet_again),
        cmocka_unit_test(a_second_restart_while_settling_does_not_lose_what_was_known_before),
        cmocka_unit_test(a_new_incarnation_of_a_worker_replaces_the_one_before),
        cmocka_unit_test(the_picture_is_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
