/* test_log.c: what comes out on stderr, and the sentences of struct td_error. */
#include "lib/base/log.h"
#include "lib/base/status.h"
#include "tests/support/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static FILE *captured;
static int real_stderr;

static void capture_begin(void)
{
    captured = tmpfile();
    assert_non_null(captured);
    real_stderr = dup(STDERR_FILENO);
    assert_true(dup2(fileno(captured), STDERR_FILENO) >= 0);
}

/* What was written since capture_begin, NUL-terminated. */
static const char *capture_end(void)
{
    static char text[1 << 16];
    size_t length;

    assert_true(dup2(real_stderr, STDERR_FILENO) >= 0);
    close(real_stderr);
    rewind(captured);
    length = fread(text, 1, sizeof text - 1, captured);
    text[length] = '\0';
    fclose(captured);
    return text;
}

static size_t lines_in(const char *text)
{
    size_t lines = 0;

    for (; *text != '\0'; text++)
        lines += *text == '\n';
    return lines;
}

static void a_line_has_time_level_process_room_and_text(void **state)
{
    const char *text;

    (void)state;
    td_log_set_name("decode");
    capture_begin();
    td_log(TD_LOG_WARN, "import", "prefill lost; peer %s", "p1");
    text = capture_end();
    assert_int_equal(lines_in(text), 1);
    assert_int_equal(text[4], '-');
    assert_int_equal(text[10], 'T');
    assert_int_equal(text[23], 'Z');
    assert_string_equal(text + 24, " warn decode/import: prefill lost; peer p1\n");
}

static void levels_above_the_limit_are_dropped(void **state)
{
    const char *text;

    (void)state;
    capture_begin();
    td_log(TD_LOG_DEBUG, "x", "hidden");
    td_log_set_level(TD_LOG_DEBUG);
    td_log(TD_LOG_DEBUG, "x", "shown");
    td_log_set_level(TD_LOG_ERROR);
    td_log(TD_LOG_WARN, "x", "hidden");
    td_log_set_level(TD_LOG_INFO);
    text = capture_end();
    assert_int_equal(lines_in(text), 1);
    assert_non_null(strstr(text, "debug decode/x: shown\n"));
}

static void one_call_is_one_line_whatever_is_in_it(void **state)
{
    char long_text[3000];
    const char *text;

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    capture_begin();
    td_log(TD_LOG_INFO, "x", "a\nb\x1b[31mc\x7f%s", "\r\n");
    td_log(TD_LOG_INFO, "x", "%s", long_text);
    td_log(TD_LOG_INFO, long_text, "%s", "a room's name that is too long");
    text = capture_end();
    assert_int_equal(lines_in(text), 3);
    assert_non_null(strstr(text, "x: a b [31mc   \n"));
    assert_true(strlen(text) < 3 * 1024 + 1);
}

static void a_call_site_cannot_flood(void **state)
{
    (void)state;
    capture_begin();
    for (int i = 0; i < 500; i++)
        td_log(TD_LOG_INFO, "x", "line %d", i);
    /* one second may end while this runs, so two windows are possible */
    assert_in_range(lines_in(capture_end()), 20, 41);
}

static void an_error_holds_status_and_sentence(void **state)
{
    struct td_error error = {0};

    (void)state;
    assert_int_equal(td_fail(&error, TD_INVALID, "tensor %s: bad", "x"), TD_INVALID);
    assert_int_equal(error.status, TD_INVALID);
    td_fail_wrap(&error, "model.gguf");
    assert_string_equal(error.text, "model.gguf: tensor x: bad");
    assert_int_equal(td_fail(NULL, TD_IO, "nobody reads this"), TD_IO);
    td_fail_wrap(NULL, "nobody");
    assert_int_equal(td_fail(&error, TD_INVALID, "token '%s'", "\x1b[2J\n\x7f\xc3\xa9"),
                     TD_INVALID);
    td_fail_wrap(&error, "%s", "a\tb");
    assert_string_equal(error.text, "a?b: token '?[2J??\xc3\xa9'"); /* harmless for a terminal */
    for (int i = 0; i < 100; i++)
        td_fail_wrap(&error, "deeper");
    assert_int_equal(strlen(error.text), 255); /* cut, not overrun */
}

static void every_status_has_a_name_and_a_text(void **state)
{
    static const char *const names[] = {
#define X(name, value, text) #name,
        TD_STATUS_MAP(X)
#undef X
    };
    static const td_status_t values[] = {
#define X(name, value, text) TD_##name,
        TD_STATUS_MAP(X)
#undef X
    };

    (void)state;
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        assert_int_equal(strcasecmp(td_status_name(values[i]), names[i]), 0);
        assert_true(strlen(td_status_text(values[i])) > 0);
    }
    assert_string_equal(td_status_name((td_status_t)-99), "unknown");
    assert_string_equal(td_status_text((td_status_t)-99), "unknown status");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_line_has_time_level_process_room_and_text),
        cmocka_unit_test(levels_above_the_limit_are_dropped),
        cmocka_unit_test(one_call_is_one_line_whatever_is_in_it),
        cmocka_unit_test(a_call_site_cannot_flood),
        cmocka_unit_test(an_error_holds_status_and_sentence),
        cmocka_unit_test(every_status_has_a_name_and_a_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
