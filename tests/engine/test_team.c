/* test_team.c: the compute threads: every unit is done exactly once, by whom it may be, and in order of pieces. */
#include "tests/support/support.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/cpu/team.h"

#define UNITS_MAX 300
#define PIECES    3000

/* A piece of work that checks itself, and whether the one before it is complete. */
struct piece {
    atomic_uint done[UNITS_MAX];
    uint32_t units;
    uint32_t threads;
    uint64_t values[UNITS_MAX];   /* plain memory: the team orders it */
    const struct piece *previous; /* all of its values must be there */
    atomic_bool is_wrong;
};

static void do_unit(void *context, uint32_t unit, uint32_t thread)
{
    struct piece *piece = context;
    uint64_t sum = 0;

    if (unit >= piece->units || thread >= piece->threads) {
        atomic_store(&piece->is_wrong, true);
        return;
    }
    atomic_fetch_add(&piece->done[unit], 1);
    for (uint32_t i = 0; piece->previous != NULL && i < piece->previous->units; i++)
        sum += piece->previous->values[i] == 0;
    if (sum != 0)
        atomic_store(&piece->is_wrong, true);
    piece->values[unit] = unit + 1;
}

static void begin(struct piece *piece, uint32_t units, uint32_t threads,
                  const struct piece *previous)
{
    memset(piece, 0, sizeof *piece);
    piece->units = units;
    piece->threads = threads;
    piece->previous = previous;
}

static void check(const struct piece *piece)
{
    assert_false(atomic_load(&piece->is_wrong));
    for (uint32_t i = 0; i < piece->units; i++) {
        assert_int_equal(atomic_load(&piece->done[i]), 1);
        assert_int_equal(piece->values[i], i + 1);
    }
}

static void run_pieces(uint32_t threads, uint32_t pieces)
{
    static struct piece both[2];
    struct cpu_team *team;
    const struct piece *previous = NULL;

    assert_int_equal(cpu_team_open(threads, &team, NULL), TD_OK);
    assert_int_equal(cpu_team_threads(team), threads);
    for (uint32_t i = 0; i < pieces; i++) {
        struct piece *piece = &both[i % 2];

        begin(piece, i % 7 == 0 ? i % 3 : 1 + i * 37 % UNITS_MAX, threads, previous);
        cpu_team_run(team, do_unit, piece, piece->units);
        check(piece);
        previous = piece;
    }
    cpu_team_close(team);
}

static void every_unit_is_done_once_and_pieces_follow_each_other(void **state)
{
    (void)state;
    run_pieces(1, 50);
    run_pieces(2, PIECES);
    run_pieces(5, PIECES / 4); /* more than there are cores */
}

/* Between two pieces the helpers fall asleep; the leader may be asleep too when the last unit ends. */
static void do_slow_unit(void *context, uint32_t unit, uint32_t thread)
{
    usleep(unit % 3 * 300);
    do_unit(context, unit, thread);
}

static void sleepers_are_woken(void **state)
{
    static struct piece piece;
    struct cpu_team *team;

    (void)state;
    assert_int_equal(cpu_team_open(3, &team, NULL), TD_OK);
    for (uint32_t i = 0; i < 60; i++) {
        begin(&piece, 1 + i % 11, 3, NULL);
        cpu_team_run(team, do_slow_unit, &piece, piece.units);
        check(&piece);
        usleep(i % 4 * 400);
    }
    cpu_team_close(team);
}

static void a_team_that_never_worked_closes(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct cpu_team *team;

        assert_int_equal(cpu_team_open(4, &team, NULL), TD_OK);
        cpu_team_close(team);
    }
    cpu_team_close(NULL);
}

static void a_senseless_size_is_refused(void **state)
{
    struct cpu_team *team;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(cpu_team_open(0, &team, &error), TD_LIMIT);
    assert_int_equal(cpu_team_open(CPU_THREADS_MAX + 1, &team, &error), TD_LIMIT);
    assert_non_null(strstr(error.text, "compute threads"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_unit_is_done_once_and_pieces_follow_each_other),
        cmocka_unit_test(sleepers_are_woken),
        cmocka_unit_test(a_team_that_never_worked_closes),
        cmocka_unit_test(a_senseless_size_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
