/*
 * test_program.c: how every process begins and ends: flags, the first, second and third signal, the
 * drain timeout. The processes are this program itself.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/net/certs.h"
#include "lib/net/process.h"
#include "lib/net/program.h"
#include "tests/net/net_support.h"
#include "tests/net/tls_support.h"

#define SELF "/proc/self/exe"

/* ---- the program ---- */

/* How it behaves when asked: drains at once, only stops, or does neither. */
enum manner { OBEDIENT, STUBBORN, DEAF };

struct subject {
    struct net_program_options options;
    struct net_program *program;
    unsigned manner;
};

static void say(const char *line)
{
    if (net_ready_report(line) != TD_OK)
        _exit(99);
}

static void asked_to_drain(void *ctx)
{
    struct subject *subject = ctx;

    say("drain");
    if (subject->manner == OBEDIENT)
        net_program_finish(subject->program, NET_EXIT_OK);
}

static void asked_to_stop(void *ctx)
{
    struct subject *subject = ctx;

    say("stop");
    if (subject->manner == STUBBORN)
        net_program_finish(subject->program, 5);
}

static int subject_main(int argc, char **argv)
{
    static const char *const manners[] = {"obedient", "stubborn", "deaf", NULL};
    static const struct td_flag own_flags[] = {
        {TD_FLAG_AS_CHOICE(struct subject, manner), .name = "manner", .fallback = "obedient",
         .choices = manners, .help = "How it behaves."},
    };
    static struct subject subject;
    struct td_flag_table tables[] = {
        {.group = "Own", .flags = own_flags, .count = 1, .options = &subject},
        net_program_table(&subject.options),
    };
    const struct td_flags flags = {.program = "subject",
                                   .summary = "Tests the manners of a process.",
                                   .usage = "subject [flags]",
                                   .tables = tables,
                                   .table_count = 2};
    struct net_program_config config = {.name = "subject",
                                        .role = NET_ROLE_ROUTER,
                                        .ctx = &subject,
                                        .drain = asked_to_drain,
                                        .stop = asked_to_stop};
    struct td_flags_result result;
    struct td_error error = {0};
    struct td_arena arena;
    int status = net_program_flags(&flags, argc, argv, &arena, &result);

    if (status >= 0)
        return status;
    config.options = subject.options;
    if (net_program_open(&config, &subject.program, &error) != TD_OK) {
        fprintf(stderr, "subject: %s\n", error.text);
        return NET_EXIT_FAILURE;
    }
    say("ready");
    status = net_program_run(subject.program);
    net_program_close(subject.program);
    raise(SIGTERM); /* comes too late to change how this ends */
    td_arena_fini(&arena);
    return status;
}

/* ---- watching it ---- */

struct watch {
    struct net_loop *loop;
    struct net_process *process;
    struct td_buf lines;
    struct td_buf output;
    int exits;
    int exit_code;
    int signal_number;
    int output_fd;
};

static void on_line(void *ctx, const char *line)
{
    struct watch *watch = ctx;

    td_buf_append_text(&watch->lines, line);
    td_buf_append_char(&watch->lines, ' ');
    net_loop_stop(watch->loop);
}

static void on_exit_of_child(void *ctx, int exit_code, int signal_number)
{
    struct watch *watch = ctx;

    watch->exits++;
    watch->exit_code = exit_code;
    watch->signal_number = signal_number;
    net_loop_stop(watch->loop);
}

/* Starts it with up to two words; its stdout and stderr go to a file. */
static void start_subject(struct watch *watch, const char *first, const char *second)
{
    const char *const argv[] = {SELF, "subject", first, first != NULL ? second : NULL, NULL};
    struct net_process_options options = {.argv = argv,
                                          .stdin_fd = -1,
                                          .ctx = watch,
                                          .on_line = on_line,
                                          .on_exit = on_exit_of_child};

    *watch = (struct watch){0};
    td_buf_init(&watch->lines, 4096);
    td_buf_init(&watch->output, 1 << 20);
    watch->output_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    assert_true(watch->output_fd >= 0);
    options.stdout_fd = options.stderr_fd = watch->output_fd;
    assert_int_equal(net_loop_open(&watch->loop), TD_OK);
    assert_int_equal(net_process_spawn(watch->loop, &options, &watch->process, NULL), TD_OK);
}

/* Runs until it has said all this, or has ended. */
static void wait_for(struct watch *watch, const char *lines)
{
    while (watch->exits == 0 && (watch->lines.length == 0 || strcmp(watch->lines.data, lines) != 0))
        net_loop_run(watch->loop);
    assert_string_equal(watch->lines.length > 0 ? watch->lines.data : "", lines);
}

static void wait_for_exit(struct watch *watch, int code)
{
    char *room;
    ssize_t got;

    while (watch->exits == 0)
        net_loop_run(watch->loop);
    lseek(watch->output_fd, 0, SEEK_SET);
    while ((room = td_buf_reserve(&watch->output, 4096)) != NULL &&
           (got = read(watch->output_fd, room, 4096)) > 0)
        td_buf_commit(&watch->output, (size_t)got);
    if (watch->exit_code != code)
        fail_msg("it ended with %d (signal %d): %s", watch->exit_code, watch->signal_number,
                 watch->output.data);
}

static bool has_said(const struct watch *watch, const char *text)
{
    return watch->output.length > 0 && strstr(watch->output.data, text) != NULL;
}

static void end_watch(struct watch *watch)
{
    net_process_close(watch->process);
    net_loop_close(watch->loop);
    td_buf_fini(&watch->lines);
    td_buf_fini(&watch->output);
    close(watch->output_fd);
}

/* ---- tests ---- */

static void help_and_version_go_to_stdout_and_end_well(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--help", NULL);
    wait_for_exit(&watch, NET_EXIT_OK);
    assert_true(has_said(&watch, "--drain-timeout"));
    assert_true(has_said(&watch, "--manner"));
    end_watch(&watch);
    start_subject(&watch, "--version", NULL);
    wait_for_exit(&watch, NET_EXIT_OK);
    assert_true(has_said(&watch, "subject 0."));
    end_watch(&watch);
}

static void a_wrong_command_line_is_a_usage_error(void **state)
{
    static const char *const words[] = {"--drain-timout=1s", "--drain-timeout=soon",
                                        "--log-level=loud", "--manner"};
    struct watch watch;

    (void)state;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        start_subject(&watch, words[i], NULL);
        wait_for_exit(&watch, NET_EXIT_USAGE);
        /* the supervisor is told, who says it in a line of its own */
        assert_non_null(watch.lines.data);
        assert_non_null(strstr(watch.lines.data, "failed "));
        end_watch(&watch);
    }
}

static void certificates_that_are_missing_are_named(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--certs", "/nonexistent");
    wait_for_exit(&watch, NET_EXIT_FAILURE);
    assert_true(has_said(&watch, "/nonexistent/ca.pem"));
    end_watch(&watch);
}

static void a_certificate_of_another_role_is_pointed_out(void **state)
{
    static const char warning[] = "is a decode's, and this is a router";
    static const struct {
        const char *role;
        bool warned;
    } cases[] = {{"decode", true}, {"router", false}};
    char *folder = test_folder_make();
    struct td_error error = {0};

    (void)state;
    if (net_certs_mint(folder, NET_ROLE_BIT(NET_ROLE_DECODE) | NET_ROLE_BIT(NET_ROLE_ROUTER), false,
                       &error) != TD_OK)
        fail_msg("%s", error.text);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct watch watch;

        start_subject(&watch, "--certs", test_path(folder, cases[i].role));
        wait_for(&watch, "ready ");
        net_process_signal(watch.process, SIGTERM);
        wait_for_exit(&watch, NET_EXIT_OK);
        assert_int_equal(has_said(&watch, warning), cases[i].warned);
        end_watch(&watch);
    }
    test_folder_remove(folder);
}

static void the_first_signal_drains(void **state)
{
    static const int signals[] = {SIGTERM, SIGINT};
    struct watch watch;

    (void)state;
    for (int i = 0; i < 2; i++) {
        start_subject(&watch, NULL, NULL);
        wait_for(&watch, "ready ");
        net_process_signal(watch.process, signals[i]);
        wait_for_exit(&watch, NET_EXIT_OK);
        assert_string_equal(watch.lines.data, "ready drain ");
        end_watch(&watch);
    }
}

static void a_broken_pipe_does_not_end_it(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, NULL, NULL);
    wait_for(&watch, "ready ");
    net_process_signal(watch.process, SIGPIPE);
    net_process_signal(watch.process, SIGTERM);
    wait_for_exit(&watch, NET_EXIT_OK);
    end_watch(&watch);
}

static void a_drain_that_takes_too_long_is_cut_short(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--manner=stubborn", "--drain-timeout=50ms");
    wait_for(&watch, "ready ");
    net_process_signal(watch.process, SIGTERM);
    wait_for_exit(&watch, 5);
    assert_string_equal(watch.lines.data, "ready drain stop ");
    end_watch(&watch);
}

static void the_second_signal_stops_at_once(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--manner=stubborn", "--drain-timeout=1h");
    wait_for(&watch, "ready ");
    net_process_signal(watch.process, SIGTERM);
    wait_for(&watch, "ready drain ");
    net_process_signal(watch.process, SIGINT);
    wait_for_exit(&watch, 5);
    assert_string_equal(watch.lines.data, "ready drain stop ");
    end_watch(&watch);
}

static void the_third_signal_ends_it_on_the_spot(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--manner=deaf", "--drain-timeout=1h");
    wait_for(&watch, "ready ");
    net_process_signal(watch.process, SIGTERM);
    wait_for(&watch, "ready drain ");
    net_process_signal(watch.process, SIGTERM);
    wait_for(&watch, "ready drain stop ");
    net_process_signal(watch.process, SIGTERM);
    wait_for_exit(&watch, NET_EXIT_FAILURE);
    end_watch(&watch);
}

static void the_owner_is_asked_to_stop_only_once(void **state)
{
    struct watch watch;

    (void)state;
    start_subject(&watch, "--manner=deaf", "--drain-timeout=1ms");
    wait_for(&watch, "ready ");
    net_process_signal(watch.process, SIGTERM);
    wait_for(&watch, "ready drain stop "); /* the timeout */
    net_process_signal(watch.process, SIGTERM);
    wait_for_exit(&watch, NET_EXIT_FAILURE); /* there is nothing left to ask it for */
    assert_string_equal(watch.lines.data, "ready drain stop ");
    end_watch(&watch);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(help_and_version_go_to_stdout_and_end_well),
        cmocka_unit_test(a_wrong_command_line_is_a_usage_error),
        cmocka_unit_test(certificates_that_are_missing_are_named),
        cmocka_unit_test(a_certificate_of_another_role_is_pointed_out),
        cmocka_unit_test(the_first_signal_drains),
        cmocka_unit_test(a_broken_pipe_does_not_end_it),
        cmocka_unit_test(a_drain_that_takes_too_long_is_cut_short),
        cmocka_unit_test(the_second_signal_stops_at_once),
        cmocka_unit_test(the_third_signal_ends_it_on_the_spot),
        cmocka_unit_test(the_owner_is_asked_to_stop_only_once),
    };

    if (argc > 1 && strcmp(argv[1], "subject") == 0)
        return subject_main(argc - 1, argv + 1);
    return cmocka_run_group_tests_name("program", tests, NULL, NULL);
}
