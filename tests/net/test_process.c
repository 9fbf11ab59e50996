/*
 * test_process.c: child processes: what a child gets, what it says, how it ends, and that it never
 * outlives its parent. The children are this program itself, started with the name of a role.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/net/process.h"
#include "tests/net/net_support.h"

#define SELF "/proc/self/exe"

/* ---- the children ---- */

static void report(const char *line)
{
    if (net_ready_report(line) != TD_OK)
        _exit(99);
}

static int play_speaker(void)
{
    char long_line[NET_READY_LINE_MAX + 100];

    memset(long_line, 'x', sizeof long_line - 1);
    long_line[sizeof long_line - 1] = '\0';
    report("ready 127.0.0.1:1");
    report("");
    report(long_line);
    for (int i = 0; i < 1000; i++) {
        char line[16];

        snprintf(line, sizeof line, "%d", i);
        report(line);
    }
    return 7;
}

/* Says what it finds itself to be. */
static int play_witness(void)
{
    char line[256];
    struct sigaction action;
    sigset_t blocked;
    int stdin_byte = getchar();
    int open_count = 0;

    for (int fd = 3; fd < 1000; fd++)
        open_count += fcntl(fd, F_GETFD) >= 0;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    sigaction(SIGPIPE, NULL, &action);
    snprintf(line, sizeof line, "own group %d, stdin %d, descriptors %d, blocked %d, default %d",
             getpgrp() == getpid(), stdin_byte, open_count, sigismember(&blocked, SIGUSR1),
             action.sa_handler == SIG_DFL);
    report(line);
    snprintf(line, sizeof line, "%s %s", getenv("ADDED"), getenv("KEPT"));
    report(line);
    return 0;
}

static int play_printer(void)
{
    printf("to stdout\n");
    fflush(stdout);
    fprintf(stderr, "to stderr\n");
    return 0;
}

static int play_sleeper(void)
{
    report("asleep");
    while (pause() < 0)
        continue;
    return 95;
}

static void say_line(void *ctx, const char *line)
{
    (void)ctx;
    report(line); /* passes on what its child says */
}

/* Starts a sleeper that says its pid, and waits for ever. */
static int play_parent(void)
{
    const char *const argv[] = {SELF, "pid-sleeper", NULL};
    const struct net_process_options options = {
        .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1, .on_line = say_line};
    struct net_process *child;
    struct net_loop *loop;

    if (net_loop_open(&loop) != TD_OK || net_process_spawn(loop, &options, &child, NULL) != TD_OK)
        return 98;
    net_loop_run(loop);
    return 97;
}

static int play_pid_sleeper(void)
{
    char line[32];

    snprintf(line, sizeof line, "%d", (int)getpid());
    report(line);
    while (pause() < 0)
        continue;
    return 95;
}

static int play_killed(void)
{
    return raise(SIGKILL);
}

static int play(const char *role)
{
    static const struct {
        const char *role;
        int (*play)(void);
    } roles[] = {
        {"speaker", play_speaker}, {"witness", play_witness}, {"printer", play_printer},
        {"sleeper", play_sleeper}, {"parent", play_parent},   {"pid-sleeper", play_pid_sleeper},
        {"killed", play_killed},
    };

    for (size_t i = 0; i < sizeof roles / sizeof roles[0]; i++)
        if (strcmp(role, roles[i].role) == 0)
            return roles[i].play();
    return 96;
}

/* ---- watching them ---- */

struct watch {
    struct net_loop *loop;
    struct net_process *process;
    struct td_buf lines; /* each with a newline */
    int line_count;
    int exits;
    int exit_code;
    int signal_number;
    bool stop_on_line;
    bool close_on_line;
    bool close_on_exit;
};

static void close_child(struct watch *watch)
{
    net_process_close(watch->process);
    watch->process = NULL;
    net_loop_stop(watch->loop);
}

static void on_line(void *ctx, const char *line)
{
    struct watch *watch = ctx;

    assert_int_equal(watch->exits, 0);
    watch->line_count++;
    td_buf_append_text(&watch->lines, line);
    td_buf_append_char(&watch->lines, '\n');
    if (watch->close_on_line)
        close_child(watch);
    if (watch->stop_on_line)
        net_loop_stop(watch->loop);
}

static void on_exit_of_child(void *ctx, int exit_code, int signal_number)
{
    struct watch *watch = ctx;

    watch->exits++;
    watch->exit_code = exit_code;
    watch->signal_number = signal_number;
    if (watch->close_on_exit)
        close_child(watch);
    net_loop_stop(watch->loop);
}

static struct net_process_options options_for(struct watch *watch, const char *const *argv)
{
    return (struct net_process_options){.argv = argv,
                                        .stdin_fd = -1,
                                        .stdout_fd = -1,
                                        .stderr_fd = -1,
                                        .ctx = watch,
                                        .on_line = on_line,
                                        .on_exit = on_exit_of_child};
}

static void open_watch(struct watch *watch)
{
    *watch = (struct watch){0};
    td_buf_init(&watch->lines, 1 << 20);
    assert_int_equal(net_loop_open(&watch->loop), TD_OK);
}

static void spawn(struct watch *watch, const char *role)
{
    const char *const argv[] = {SELF, role, NULL};
    struct net_process_options options = options_for(watch, argv);
    struct td_error error = {0};

    if (net_process_spawn(watch->loop, &options, &watch->process, &error) != TD_OK)
        fail_msg("%s", error.text);
}

static void close_watch(struct watch *watch)
{
    net_process_close(watch->process);
    net_loop_close(watch->loop);
    td_buf_fini(&watch->lines);
}

/* ---- tests ---- */

static void lines_and_the_exit_code_arrive_in_order(void **state)
{
    struct watch watch;
    char expected[16];
    const char *next;

    (void)state;
    open_watch(&watch);
    spawn(&watch, "speaker");
    net_loop_run(watch.loop);
    assert_int_equal(watch.exits, 1);
    assert_int_equal(watch.exit_code, 7);
    assert_int_equal(watch.signal_number, 0);
    assert_int_equal(watch.line_count, 1003);
    next = watch.lines.data;
    assert_memory_equal(next, "ready 127.0.0.1:1\n\nxxx", 22);
    next = strchr(next + 20, '\n'); /* the line that was cut */
    assert_int_equal(next - watch.lines.data, strlen("ready 127.0.0.1:1\n\n") + NET_READY_LINE_MAX);
    for (int i = 0; i < 1000; i++) {
        int length = snprintf(expected, sizeof expected, "\n%d\n", i);

        assert_memory_equal(next, expected, (size_t)length);
        next += length - 1;
    }
    close_watch(&watch);
}

static void a_child_starts_clean(void **state)
{
    const char *const argv[] = {SELF, "witness", NULL};
    const char *const added[] = {"ADDED=new", NULL};
    struct net_process_options options;
    struct watch watch;
    sigset_t mask;
    sigset_t before;
    int stray;

    (void)state;
    setenv("ADDED", "old", 1);
    setenv("KEPT", "kept", 1);
    setenv(NET_READY_VARIABLE, "77", 1);
    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigprocmask(SIG_BLOCK, &mask, &before);
    stray = open("/dev/null", O_RDONLY); /* without close-on-exec */
    open_watch(&watch);
    options = options_for(&watch, argv);
    options.environment = added;
    assert_int_equal(net_process_spawn(watch.loop, &options, &watch.process, NULL), TD_OK);
    net_loop_run(watch.loop);
    sigprocmask(SIG_SETMASK, &before, NULL);
    unsetenv(NET_READY_VARIABLE);
    close(stray);
    /* of the descriptors above stderr only the pipe to its supervisor is open */
    assert_string_equal(watch.lines.data,
                        "own group 1, stdin -1, descriptors 1, blocked 0, default 1\nnew kept\n");
    close_watch(&watch);
}

static void output_goes_where_it_is_told(void **state)
{
    const char *const argv[] = {SELF, "printer", NULL};
    struct net_process_options options;
    struct watch watch;
    char text[64] = {0};
    int out[2];

    (void)state;
    assert_int_equal(pipe2(out, O_CLOEXEC), 0);
    open_watch(&watch);
    options = options_for(&watch, argv);
    options.stdout_fd = options.stderr_fd = out[1];
    assert_int_equal(net_process_spawn(watch.loop, &options, &watch.process, NULL), TD_OK);
    close(out[1]);
    net_loop_run(watch.loop);
    assert_int_equal(watch.exit_code, 0);
    assert_int_equal(read(out[0], text, sizeof text - 1), 20);
    assert_string_equal(text, "to stdout\nto stderr\n");
    assert_int_equal(read(out[0], text, 1), 0); /* nobody else holds the other end */
    close(out[0]);
    close_watch(&watch);
}

static void a_child_that_is_killed_says_by_what(void **state)
{
    struct watch watch;

    (void)state;
    open_watch(&watch);
    spawn(&watch, "killed");
    net_loop_run(watch.loop);
    assert_int_equal(watch.exit_code, -1);
    assert_int_equal(watch.signal_number, SIGKILL);
    net_process_signal(watch.process, SIGTERM); /* harmless now */
    net_process_close(watch.process);
    watch.exits = 0;
    watch.stop_on_line = true;
    spawn(&watch, "sleeper");
    net_loop_run(watch.loop);
    assert_string_equal(watch.lines.data, "asleep\n");
    net_process_signal(watch.process, SIGTERM);
    while (watch.exits == 0)
        net_loop_run(watch.loop);
    assert_int_equal(watch.exit_code, -1);
    assert_int_equal(watch.signal_number, SIGTERM);
    close_watch(&watch);
}

static void closing_ends_the_child_and_no_callback_follows(void **state)
{
    struct watch watch;
    pid_t pid;

    (void)state;
    open_watch(&watch);
    watch.stop_on_line = true;
    spawn(&watch, "sleeper");
    net_loop_run(watch.loop);
    pid = net_process_pid(watch.process);
    assert_int_equal(kill(pid, 0), 0);
    net_process_close(watch.process);
    assert_int_equal(kill(pid, 0), -1); /* ended and reaped */
    assert_int_equal(errno, ESRCH);
    spawn(&watch, "sleeper"); /* at once, before it has said a word */
    close_watch(&watch);
    assert_int_equal(watch.exits, 0);
}

static void a_child_may_be_closed_in_its_callbacks(void **state)
{
    struct watch watch;

    (void)state;
    open_watch(&watch);
    watch.close_on_line = true;
    spawn(&watch, "speaker");
    net_loop_run(watch.loop);
    assert_int_equal(watch.line_count, 1);
    assert_int_equal(watch.exits, 0);
    watch.close_on_line = false;
    watch.close_on_exit = true;
    spawn(&watch, "speaker");
    net_loop_run(watch.loop);
    assert_int_equal(watch.exits, 1);
    assert_null(watch.process);
    close_watch(&watch);
}

static void what_cannot_be_executed_is_an_error_at_once(void **state)
{
    static const struct {
        const char *program;
        td_status_t status;
    } cases[] = {
        {"no-such-program-anywhere", TD_NOT_FOUND},
        {"/no/such/program", TD_NOT_FOUND},
        {"/etc/passwd", TD_IO},
        {"/tmp", TD_IO},
    };
    struct watch watch;

    (void)state;
    open_watch(&watch);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const argv[] = {cases[i].program, NULL};
        struct net_process_options options = options_for(&watch, argv);
        struct td_error error = {0};

        assert_int_equal(net_process_spawn(watch.loop, &options, &watch.process, &error),
                         cases[i].status);
        assert_non_null(strstr(error.text, cases[i].program));
    }
    close_watch(&watch);
}

static void a_program_is_found_in_the_path(void **state)
{
    const char *const argv[] = {"true", NULL};
    struct net_process_options options;
    struct watch watch;

    (void)state;
    open_watch(&watch);
    options = options_for(&watch, argv);
    assert_int_equal(net_process_spawn(watch.loop, &options, &watch.process, NULL), TD_OK);
    net_loop_run(watch.loop);
    assert_int_equal(watch.exit_code, 0);
    close_watch(&watch);
}

static void children_do_not_outlive_a_killed_parent(void **state)
{
    struct pollfd ended = {.events = POLLIN};
    struct watch watch;
    pid_t grandchild;

    (void)state;
    open_watch(&watch);
    watch.stop_on_line = true;
    spawn(&watch, "parent");
    net_loop_run(watch.loop);
    grandchild = (pid_t)strtol(watch.lines.data, NULL, 10);
    assert_true(grandchild > 1);
    ended.fd = pidfd_open(grandchild, 0);
    assert_true(ended.fd >= 0);
    assert_int_equal(poll(&ended, 1, 0), 0); /* it lives */
    net_process_signal(watch.process, SIGKILL);
    assert_int_equal(poll(&ended, 1, TEST_WAIT_SECONDS * 1000), 1);
    close(ended.fd);
    while (watch.exits == 0)
        net_loop_run(watch.loop);
    close_watch(&watch);
}

static void many_children_at_once_leave_no_descriptor(void **state)
{
    enum { CHILDREN = 20 };
    struct watch watches[CHILDREN];
    struct net_loop *loop;
    int before;

    (void)state;
    assert_int_equal(net_loop_open(&loop), TD_OK);
    before = test_open_descriptors();
    for (int i = 0; i < CHILDREN; i++) {
        watches[i] = (struct watch){.loop = loop};
        td_buf_init(&watches[i].lines, 1 << 20);
        spawn(&watches[i], "speaker");
    }
    for (int i = 0; i < CHILDREN; i++) {
        while (watches[i].exits == 0)
            net_loop_run(loop);
        assert_int_equal(watches[i].line_count, 1003);
        net_process_close(watches[i].process);
        td_buf_fini(&watches[i].lines);
    }
    assert_int_equal(test_open_descriptors(), before);
    net_loop_close(loop);
}

static void without_a_supervisor_nobody_is_told(void **state)
{
    (void)state;
    unsetenv(NET_READY_VARIABLE);
    assert_int_equal(net_ready_report("ready"), TD_NOT_FOUND);
    setenv(NET_READY_VARIABLE, "4", 1);
    assert_int_equal(net_ready_report("ready"), TD_NOT_FOUND);
    unsetenv(NET_READY_VARIABLE);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_and_the_exit_code_arrive_in_order),
        cmocka_unit_test(a_child_starts_clean),
        cmocka_unit_test(output_goes_where_it_is_told),
        cmocka_unit_test(a_child_that_is_killed_says_by_what),
        cmocka_unit_test(closing_ends_the_child_and_no_callback_follows),
        cmocka_unit_test(a_child_may_be_closed_in_its_callbacks),
        cmocka_unit_test(what_cannot_be_executed_is_an_error_at_once),
        cmocka_unit_test(a_program_is_found_in_the_path),
        cmocka_unit_test(children_do_not_outlive_a_killed_parent),
        cmocka_unit_test(many_children_at_once_leave_no_descriptor),
        cmocka_unit_test(without_a_supervisor_nobody_is_told),
    };

    if (argc > 1)
        return play(argv[1]);
    return cmocka_run_group_tests_name("process", tests, NULL, NULL);
}
