/* test_progress.c: what progress.h says, when, and where. */
#include "lib/base/progress.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/time.h"
#include "tests/support/support.h"

#define START_NS (1000 * TD_NS_PER_SEC)

/* A progress that writes into a pipe, and what it has written. */
struct rig {
    struct td_progress progress;
    int read_fd;
    char text[4096];
};

static void open_rig(struct rig *rig, bool is_terminal)
{
    int pair[2];

    assert_int_equal(pipe2(pair, O_NONBLOCK), 0);
    td_progress_begin_at(&rig->progress, "tandem test", "loading a file", START_NS);
    rig->progress.fd = pair[1];
    rig->progress.is_terminal = is_terminal;
    rig->read_fd = pair[0];
}

static const char *written(struct rig *rig)
{
    ssize_t length = read(rig->read_fd, rig->text, sizeof rig->text - 1);

    rig->text[length > 0 ? length : 0] = '\0';
    return rig->text;
}

static void close_rig(struct rig *rig)
{
    close(rig->read_fd);
    close(rig->progress.fd);
}

static void update(struct rig *rig, uint64_t done, uint64_t total, uint64_t after_ms)
{
    td_progress_update_at(&rig->progress, done, total, START_NS + after_ms * TD_NS_PER_MS);
}

static void what_ends_soon_says_nothing(void **state)
{
    struct rig rig;

    (void)state;
    for (int is_terminal = 0; is_terminal < 2; is_terminal++) {
        open_rig(&rig, is_terminal);
        for (uint64_t ms = 0; ms < 1000; ms++)
            update(&rig, ms, 1000, ms);
        td_progress_hide(&rig.progress);
        assert_string_equal(written(&rig), "");
        close_rig(&rig);
    }
}

static void a_log_gets_a_plain_line_every_few_seconds(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig, false);
    for (uint64_t ms = 0; ms <= 7000; ms += 10)
        update(&rig, ms, 20000, ms);
    td_progress_hide(&rig.progress);
    assert_string_equal(written(&rig), "tandem test: loading a file   5 %\n"
                                       "tandem test: loading a file  30 %, 14 s left\n");
    close_rig(&rig);
}

static void a_terminal_has_one_line_that_leaves_no_trace(void **state)
{
    struct rig rig;

    (void)state;
    open_rig(&rig, true);
    update(&rig, 1, 4, 1000);
    update(&rig, 2, 4, 1050); /* too soon */
    update(&rig, 3, 4, 1100);
    td_progress_hide(&rig.progress);
    td_progress_hide(&rig.progress);
    assert_string_equal(written(&rig),
                        "\rtandem test: loading a file [#####---------------]  25 %\033[K\r"
                        "\rtandem test: loading a file [###############-----]  75 %\033[K\r"
                        "\r\033[K");
    close_rig(&rig);
}

static void an_unknown_amount_is_a_time(void **state)
{
    char line[TD_PROGRESS_LINE_BYTES];
    struct td_progress progress;

    (void)state;
    td_progress_begin_at(&progress, "tandem test", "waiting", START_NS);
    td_progress_line(&progress, 0, 0, START_NS + 12 * TD_NS_PER_SEC, line);
    assert_string_equal(line, "tandem test: waiting 12 s");
}

static void a_line_fits_a_terminal_whatever_is_named(void **state)
{
    char name[300];
    char line[TD_PROGRESS_LINE_BYTES];
    struct td_progress progress;

    (void)state;
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    for (int is_terminal = 0; is_terminal < 2; is_terminal++) {
        td_progress_begin_at(&progress, name, name, START_NS);
        progress.is_terminal = is_terminal;
        for (uint64_t done = 0; done <= UINT64_MAX / 2; done = 3 * done + 1) {
            td_progress_line(&progress, done, UINT64_MAX / 2, START_NS + 100 * TD_NS_PER_SEC, line);
            assert_true(strlen(line) < 80);
        }
    }
}

static void more_than_all_is_all(void **state)
{
    char line[TD_PROGRESS_LINE_BYTES];
    struct td_progress progress;

    (void)state;
    td_progress_begin_at(&progress, "tandem test", "reading", START_NS);
    progress.is_terminal = true;
    td_progress_line(&progress, 11, 10, START_NS, line);
    assert_string_equal(line, "tandem test: reading [####################] 100 %");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_ends_soon_says_nothing),
        cmocka_unit_test(a_log_gets_a_plain_line_every_few_seconds),
        cmocka_unit_test(a_terminal_has_one_line_that_leaves_no_trace),
        cmocka_unit_test(an_unknown_amount_is_a_time),
        cmocka_unit_test(a_line_fits_a_terminal_whatever_is_named),
        cmocka_unit_test(more_than_all_is_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
