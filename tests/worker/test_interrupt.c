/*
 * test_interrupt.c: a worker that is told to stop before its loop runs. Each case is a whole worker process,
 * to which the signal comes at a moment that the test chooses.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/net/program.h"
#include "tests/support/support.h"
#include "worker/main.h"

#define LOG_BYTES_MAX 8192

static int signal_before_loop; /* 0: none */
static int signal_after_loop;  /* when the loop has its handlers, and nothing is loaded */

td_status_t __real_net_program_open(const struct net_program_config *config,
                                    struct net_program **program_out, struct td_error *error);
td_status_t __wrap_net_program_open(const struct net_program_config *config,
                                    struct net_program **program_out, struct td_error *error);

td_status_t __wrap_net_program_open(const struct net_program_config *config,
                                    struct net_program **program_out, struct td_error *error)
{
    td_status_t status;

    if (signal_before_loop != 0)
        kill(getpid(), signal_before_loop);
    status = __real_net_program_open(config, program_out, error);
    if (signal_after_loop != 0)
        kill(getpid(), signal_after_loop);
    return status;
}

/* What a worker would do, with all its lines on `log`. */
static _Noreturn void be_worker(int log)
{
    static const struct worker_role role = {
        .program = "test", .name = "test", .policy = {.role = TD__ROLE__ROLE_DECODE}};
    static const char *const words[] = {"test",
                                        "tests/data/tiny-llama/model.gguf",
                                        "--listen=127.0.0.1:0",
                                        "--http-listen=127.0.0.1:0",
                                        "--kv-transport=map",
                                        "--kv-bytes=4MiB",
                                        "--threads=1"};
    char *arguments[sizeof words / sizeof words[0] + 1] = {NULL};
    int count = 0;

    for (; count < (int)(sizeof words / sizeof words[0]); count++)
        arguments[count] = (char *)(uintptr_t)words[count];
    dup2(log, STDERR_FILENO);
    _exit(worker_main(&role, count, arguments));
}

/* Its log, to be freed; and the status with which it ended. */
static char *run_worker(int *status_out)
{
    char *log = calloc(1, LOG_BYTES_MAX);
    size_t length = 0;
    int ends[2];
    ssize_t got;
    pid_t child;

    assert_non_null(log);
    assert_int_equal(pipe(ends), 0);
    child = fork();
    assert_true(child >= 0);
    if (child == 0)
        be_worker(ends[1]);
    close(ends[1]);
    while ((got = read(ends[0], log + length, LOG_BYTES_MAX - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    assert_int_equal(waitpid(child, status_out, 0), child);
    return log;
}

static void expect_prompt_end(int before, int after)
{
    char *log;
    int status;

    signal_before_loop = before;
    signal_after_loop = after;
    log = run_worker(&status);
    if (strstr(log, "asked to stop while loading") == NULL || strstr(log, "loaded") != NULL)
        fail_msg("it ended in another way: %s", log);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    free(log);
}

static void a_signal_before_there_is_a_loop_is_not_lost(void **state)
{
    (void)state;
    expect_prompt_end(SIGTERM, 0);
    expect_prompt_end(SIGINT, 0);
}

static void a_signal_before_loading_does_not_wait_for_its_end(void **state)
{
    (void)state;
    expect_prompt_end(0, SIGTERM);
    expect_prompt_end(0, SIGINT);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_signal_before_there_is_a_loop_is_not_lost),
        cmocka_unit_test(a_signal_before_loading_does_not_wait_for_its_end),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
