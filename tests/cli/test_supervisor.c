/*
 * test_supervisor.c: real processes under the supervisor: this program itself, which plays a part when
 * it is started with one.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/supervisor.h"
#include "lib/base/time.h"
#include "tests/support/support.h"

#define WAIT_NS (20 * TD_NS_PER_SEC)

/* ---- parts: "serves JOURNAL NAME" and so on, in a process of their own ---- */

static void wait_for_the_end(void)
{
    sigset_t set;
    int number;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    if (net_ready_report("ready 127.0.0.1:1") == TD_OK)
        sigwait(&set, &number);
}

static int play(const char *part, const char *journal, const char *name)
{
    FILE *file;

    if (strcmp(part, "is wrong") == 0)
        return 2;
    if (strcmp(part, "says why") == 0)
        return net_ready_report("progress 3 4 reading the file") == TD_OK &&
                       net_ready_report("progress what") == TD_OK &&
                       net_ready_report("failed the file is bad") == TD_OK
                   ? 1
                   : 0;
    if (strcmp(part, "hangs") == 0)
        return pause();
    if (strcmp(part, "is deaf") == 0) {
        signal(SIGTERM, SIG_IGN);
        return net_ready_report("ready 127.0.0.1:1") == TD_OK && pause();
    }
    if (strcmp(part, "is frail") == 0)
        return net_ready_report("ready 127.0.0.1:1") == TD_OK ? 3 : 1;
    wait_for_the_end();
    if (strcmp(part, "fails at the end") == 0)
        return 7;
    file = fopen(journal, "a");
    if (file == NULL)
        return 1;
    fprintf(file, "%s\n", name);
    return fclose(file) == 0 ? 0 : 1;
}

/* ---- the supervisor with its owner ---- */

struct rig {
    struct net_loop *loop;
    struct net_timer limit;
    struct cli_supervisor *supervisor;
    struct cli_child_plan plans[4];
    const char *argv[4][5];
    char journal[64];
    size_t count;
    unsigned ready[4];
    uint64_t back_off_ms[8]; /* of the first child, by how often it was ready before */
    bool started;
    bool failed;
    bool ended;
    bool clean;
    char reason[256];
    char progress[256]; /* all that was reported */
    bool too_late;
};

static void on_limit(struct net_timer *timer, uint64_t now_ns)
{
    struct rig *rig = td_container_of(timer, struct rig, limit);

    (void)now_ns;
    rig->too_late = true;
    net_loop_stop(rig->loop);
}

static void on_child_ready(void *ctx, size_t i, const char *address)
{
    struct rig *rig = ctx;

    assert_true(strlen(address) > 0);
    if (i == 0 && rig->ready[0] < 8)
        rig->back_off_ms[rig->ready[0]] = cli_supervisor_child(rig->supervisor, 0)->back_off_ms;
    rig->ready[i]++;
    net_loop_stop(rig->loop);
}

static void on_child_progress(void *ctx, size_t i, const char *what, uint64_t done, uint64_t total)
{
    struct rig *rig = ctx;
    size_t length = strlen(rig->progress);

    snprintf(rig->progress + length, sizeof rig->progress - length, "%zu %s %llu/%llu;", i, what,
             (unsigned long long)done, (unsigned long long)total);
}

static void on_started(void *ctx)
{
    struct rig *rig = ctx;

    rig->started = true;
    net_loop_stop(rig->loop);
}

static void on_failed(void *ctx, const char *reason)
{
    struct rig *rig = ctx;

    assert_false(rig->failed);
    rig->failed = true;
    snprintf(rig->reason, sizeof rig->reason, "%s", reason);
    net_loop_stop(rig->loop);
}

static void on_ended(void *ctx, bool clean)
{
    struct rig *rig = ctx;

    assert_false(rig->ended);
    rig->ended = true;
    rig->clean = clean;
    net_loop_stop(rig->loop);
}

/* Runs the loop until the condition holds. */
#define run_until(rig, condition)                            \
    do {                                                     \
        net_timer_set(&(rig)->limit, td_now_ns() + WAIT_NS); \
        while (!(condition)) {                               \
            net_loop_run((rig)->loop);                       \
            assert_false((rig)->too_late);                   \
        }                                                    \
        net_timer_cancel(&(rig)->limit);                     \
    } while (0)

/* Those with later are started when the others are ready. */
static void add_with(struct rig *rig, const char *name, const char *part, unsigned rank, bool later)
{
    const char **argv = rig->argv[rig->count];

    argv[0] = "/proc/self/exe";
    argv[1] = part;
    argv[2] = rig->journal;
    argv[3] = name;
    rig->plans[rig->count++] = (struct cli_child_plan){
        .name = name, .argv = argv, .stop_rank = rank, .starts_later = later};
}

static void add(struct rig *rig, const char *name, const char *part, unsigned rank)
{
    add_with(rig, name, part, rank, false);
}

static struct rig *open_rig(void)
{
    struct rig *rig = calloc(1, sizeof *rig);
    int fd;

    assert_non_null(rig);
    strcpy(rig->journal, "/tmp/tandem-test-XXXXXX");
    fd = mkstemp(rig->journal);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(net_loop_open(&rig->loop), TD_OK);
    net_timer_init(&rig->limit, rig->loop, on_limit);
    return rig;
}

static void start(struct rig *rig, uint64_t start_ms, uint64_t drain_ms)
{
    const struct cli_supervisor_config config = {
        .loop = rig->loop,
        .plans = rig->plans,
        .count = rig->count,
        .times = {.start_ms = start_ms,
                  .back_off_first_ms = 1,
                  .back_off_max_ms = 8,
                  .calm_ms = 600000,
                  .drain_ms = drain_ms},
        .stdout_fd = -1,
        .ctx = rig,
        .on_child_ready = on_child_ready,
        .on_child_progress = on_child_progress,
        .on_started = on_started,
        .on_failed = on_failed,
        .on_ended = on_ended,
    };
    struct td_error error = {0};

    assert_int_equal(cli_supervisor_open(&config, &rig->supervisor, &error), TD_OK);
}

static void close_rig(struct rig *rig)
{
    net_timer_cancel(&rig->limit);
    cli_supervisor_close(rig->supervisor);
    net_loop_close(rig->loop);
    unlink(rig->journal);
    free(rig);
}

static pid_t pid_of(const struct cli_supervisor *supervisor, size_t i)
{
    return cli_child_pid(cli_supervisor_child(supervisor, i));
}

static const struct cli_child *child(const struct rig *rig, size_t i)
{
    return cli_supervisor_child(rig->supervisor, i);
}

static void the_table_of_a_child_is_whole(void **state)
{
    const char *fault = td_fsm_check(&child_fsm);

    (void)state;
    if (fault != NULL)
        fail_msg("%s", fault);
}

static void all_are_started_and_stopped_rank_by_rank(void **state)
{
    struct rig *rig = open_rig();
    char *journal;
    size_t length;

    (void)state;
    add(rig, "scheduler", "serves", 3);
    add(rig, "router", "serves", 0);
    add(rig, "prefill", "serves", 2);
    add(rig, "decode", "serves", 1);
    start(rig, 60000, 60000);
    run_until(rig, rig->started);
    for (size_t i = 0; i < rig->count; i++)
        assert_int_equal(rig->ready[i], 1);
    assert_int_equal(strncmp(cli_supervisor_address(rig->supervisor, 0), "127.0.0.1:", 10), 0);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_true(rig->clean);
    assert_false(rig->failed);
    journal = test_read_file(rig->journal, &length);
    assert_string_equal(journal, "router\ndecode\nprefill\nscheduler\n");
    free(journal);
    close_rig(rig);
}

static void some_are_started_when_the_others_are_ready(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "scheduler", "serves", 1);
    add_with(rig, "router", "serves", 0, true);
    start(rig, 60000, 60000);
    assert_int_equal(pid_of(rig->supervisor, 1), -1);
    run_until(rig, rig->ready[0] == 1);
    run_until(rig, rig->started);
    assert_true(pid_of(rig->supervisor, 1) > 0);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_true(rig->clean);
    close_rig(rig);
}

static void stopping_before_the_later_ones_are_started_is_no_failure(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "scheduler", "serves", 1);
    add_with(rig, "router", "serves", 0, true);
    start(rig, 60000, 60000);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_int_equal(rig->ready[1], 0);
    assert_false(rig->failed);
    close_rig(rig);
}

static void one_that_ends_before_it_was_ready_ends_all(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "router", "serves", 0);
    add(rig, "prefill", "is wrong", 1);
    start(rig, 60000, 60000);
    run_until(rig, rig->failed);
    assert_string_equal(rig->reason, "prefill ended with status 2 before it was ready");
    run_until(rig, rig->ended);
    assert_false(rig->started);
    assert_int_equal(child(rig, 1)->restarts, 0);
    close_rig(rig);
}

static void one_that_says_why_it_cannot_start_is_quoted(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "router", "serves", 0);
    add(rig, "prefill", "says why", 1);
    start(rig, 60000, 60000);
    run_until(rig, rig->failed);
    assert_string_equal(rig->reason, "prefill cannot start: the file is bad");
    assert_string_equal(rig->progress, "1 reading the file 3/4;");
    run_until(rig, rig->ended);
    close_rig(rig);
}

static void two_that_cannot_start_are_one_failure(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "prefill", "is wrong", 0);
    add(rig, "decode", "is wrong", 1);
    start(rig, 60000, 60000);
    run_until(rig, rig->failed && rig->ended);
    close_rig(rig);
}

static void one_that_hangs_at_its_start_ends_all(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "decode", "hangs", 0);
    start(rig, 50, 60000);
    run_until(rig, rig->failed);
    assert_non_null(strstr(rig->reason, "was not ready after"));
    run_until(rig, rig->ended);
    close_rig(rig);
}

static void one_that_dies_later_is_started_again(void **state)
{
    struct rig *rig = open_rig();
    pid_t first;

    (void)state;
    add(rig, "decode", "serves", 0);
    start(rig, 60000, 60000);
    run_until(rig, rig->started);
    first = cli_child_pid(child(rig, 0));
    assert_int_equal(kill(first, SIGKILL), 0);
    run_until(rig, rig->ready[0] == 2);
    assert_int_not_equal(cli_child_pid(child(rig, 0)), first);
    assert_int_equal(child(rig, 0)->restarts, 1);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_true(rig->clean);
    close_rig(rig);
}

static void pauses_between_restarts_grow_to_a_maximum(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "decode", "is frail", 0);
    start(rig, 60000, 60000);
    run_until(rig, rig->ready[0] >= 6);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(rig->back_off_ms[i], i < 3 ? 1 << i : 8);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    close_rig(rig);
}

static void one_that_does_not_listen_is_killed_and_said_so(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "decode", "is deaf", 0);
    start(rig, 60000, 50);
    run_until(rig, rig->started);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_false(rig->clean);
    close_rig(rig);
}

static void one_that_fails_while_it_stops_is_no_clean_end(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "decode", "fails at the end", 0);
    start(rig, 60000, 60000);
    run_until(rig, rig->started);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_false(rig->clean);
    close_rig(rig);
}

static void a_second_stop_waits_for_nobody(void **state)
{
    struct rig *rig = open_rig();

    (void)state;
    add(rig, "router", "is deaf", 0);
    add(rig, "decode", "serves", 1);
    start(rig, 60000, 3600000);
    run_until(rig, rig->started);
    cli_supervisor_stop(rig->supervisor);
    cli_supervisor_stop(rig->supervisor);
    run_until(rig, rig->ended);
    assert_false(rig->clean);
    close_rig(rig);
}

static void a_program_that_is_not_there_leaves_nothing_behind(void **state)
{
    struct rig *rig = open_rig();
    struct td_error error = {0};
    struct cli_supervisor_config config = {.loop = rig->loop,
                                           .plans = rig->plans,
                                           .count = 2,
                                           .times = {.start_ms = 60000},
                                           .stdout_fd = -1,
                                           .ctx = rig};

    (void)state;
    add(rig, "router", "serves", 0);
    add(rig, "decode", "serves", 0);
    rig->argv[1][0] = "/nowhere/tandem-decode";
    assert_int_equal(cli_supervisor_open(&config, &rig->supervisor, &error), TD_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nowhere/tandem-decode"));
    assert_null(rig->supervisor);
    close_rig(rig);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_of_a_child_is_whole),
        cmocka_unit_test(all_are_started_and_stopped_rank_by_rank),
        cmocka_unit_test(some_are_started_when_the_others_are_ready),
        cmocka_unit_test(stopping_before_the_later_ones_are_started_is_no_failure),
        cmocka_unit_test(one_that_ends_before_it_was_ready_ends_all),
        cmocka_unit_test(one_that_says_why_it_cannot_start_is_quoted),
        cmocka_unit_test(two_that_cannot_start_are_one_failure),
        cmocka_unit_test(one_that_hangs_at_its_start_ends_all),
        cmocka_unit_test(one_that_dies_later_is_started_again),
        cmocka_unit_test(pauses_between_restarts_grow_to_a_maximum),
        cmocka_unit_test(one_that_does_not_listen_is_killed_and_said_so),
        cmocka_unit_test(one_that_fails_while_it_stops_is_no_clean_end),
        cmocka_unit_test(a_second_stop_waits_for_nobody),
        cmocka_unit_test(a_program_that_is_not_there_leaves_nothing_behind),
    };

    if (argc == 4)
        return play(argv[1], argv[2], argv[3]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
