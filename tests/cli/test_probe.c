/* test_probe.c: processes that end, crash, hang and start others: what comes back, and what is left. */
#include "cli/probe.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/support.h"

/* Shared with the probe. */
struct shared {
    int number;
    pid_t grandchild;
};

static struct cli_probe_end run(int (*work)(void *), struct shared *shared, uint64_t deadline_ms)
{
    const struct cli_probe probe = {.program = "test",
                                    .what = "working",
                                    .deadline_ms = deadline_ms,
                                    .run = work,
                                    .ctx = shared};
    struct cli_probe_end end;
    struct td_error error = {0};

    assert_int_equal(cli_probe_run(&probe, &end, &error), TD_OK);
    return end;
}

static const char *describe(const struct cli_probe_end *end)
{
    static char out[256];

    cli_probe_describe(&(struct cli_probe){.deadline_ms = 50}, end, out, sizeof out);
    return out;
}

static int answer(void *ctx)
{
    struct shared *shared = ctx;

    shared->number = 42;
    fprintf(stderr, "first\nsecond\n");
    return 3;
}

static void what_it_writes_into_shared_memory_comes_back(void **state)
{
    struct shared *shared = cli_probe_share(sizeof *shared);
    struct cli_probe_end end = run(answer, shared, 60000);

    (void)state;
    assert_int_equal(shared->number, 42);
    assert_int_equal(end.exit_status, 3);
    assert_int_equal(end.signal, 0);
    assert_string_equal(end.said, "second");
    assert_string_equal(describe(&end), "");
    cli_probe_unshare(shared, sizeof *shared);
}

static int be_killed(void *ctx)
{
    (void)ctx;
    fprintf(stderr, "oops\n");
    raise(SIGKILL);
    return 0;
}

static void one_that_is_killed_is_described(void **state)
{
    struct cli_probe_end end = run(be_killed, NULL, 60000);

    (void)state;
    assert_int_equal(end.exit_status, -1);
    assert_int_equal(end.signal, SIGKILL);
    assert_false(end.timed_out);
    assert_string_equal(describe(&end), "was ended by signal 9 (Killed): oops");
}

static int hang(void *ctx)
{
    (void)ctx;
    signal(SIGTERM, SIG_IGN);
    while (pause() != 0)
        ;
    return 0;
}

static void one_that_hangs_ends_at_its_deadline(void **state)
{
    struct cli_probe_end end = run(hang, NULL, 50);

    (void)state;
    assert_true(end.timed_out);
    assert_int_equal(end.exit_status, -1);
    assert_string_equal(describe(&end), "took longer than 0 s");
}

static int leave_another(void *ctx)
{
    struct shared *shared = ctx;

    pid_t pid = fork();

    if (pid == 0)
        return hang(NULL);
    shared->grandchild = pid;
    return pid > 0 ? 0 : 1;
}

static bool is_alive(pid_t pid)
{
    char path[64];
    char line[256] = "";
    const char *state;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fgets(line, sizeof line, file) == NULL)
        line[0] = '\0';
    fclose(file);
    state = strrchr(line, ')');
    return state != NULL && state[2] != 'Z';
}

static void what_it_started_ends_with_it(void **state)
{
    struct shared *shared = cli_probe_share(sizeof *shared);
    struct cli_probe_end end = run(leave_another, shared, 60000);

    (void)state;
    assert_int_equal(end.exit_status, 0);
    assert_true(shared->grandchild > 0);
    while (is_alive(shared->grandchild)) /* it was killed; the kernel takes a moment */
        usleep(1000);
    cli_probe_unshare(shared, sizeof *shared);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_it_writes_into_shared_memory_comes_back),
        cmocka_unit_test(one_that_is_killed_is_described),
        cmocka_unit_test(one_that_hangs_ends_at_its_deadline),
        cmocka_unit_test(what_it_started_ends_with_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
