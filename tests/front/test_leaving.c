/*
 * test_leaving.c: clients that leave or lag behind at every stage, and the end of the front itself.
 * The fixture checks that each request at the backend was ended or abandoned, once, and that nothing
 * is left open.
 */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/random.h"
#include "tests/front/front_support.h"

#define CHAT   "/v1/chat/completions"
#define HELLO  "\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"
#define STREAM ",\"stream\":true"

/* ---- leaving ---- */

static void leaving_while_the_prompt_is_prepared(void **state)
{
    struct test_front *front = *state;
    int clients[8];

    test_front_take_pool(front);
    /* some at the pool, some in line for it */
    for (int i = 0; i < 8; i++)
        clients[i] = test_front_post(front, CHAT, "", "{" HELLO STREAM "}");
    test_front_wait_exchanges(front, 8);
    for (int i = 0; i < 8; i++)
        close(clients[i]);
    test_front_wait_idle(front);
    test_front_release_pool(front);
    assert_int_equal(front->call_count, 0);
}

static void the_others_go_on_when_one_leaves_the_line(void **state)
{
    struct test_front *front = *state;
    int clients[8];

    test_front_take_pool(front);
    for (int i = 0; i < 8; i++) {
        clients[i] = test_front_post(front, CHAT, "", "{" HELLO "}");
        test_front_wait_exchanges(front, (uint32_t)i + 1);
    }
    close(clients[0]);
    close(clients[5]);
    test_front_wait_exchanges(front, 6);
    test_front_release_pool(front);
    for (uint32_t i = 0; i < 6; i++)
        test_front_finish(front, test_front_call(front, i), FRONT_STOP, 0);
    for (int i = 0; i < 8; i++) {
        struct test_answer answer;

        if (i == 0 || i == 5)
            continue;
        test_answer_read(clients[i], &answer);
        assert_int_equal(answer.status, 200);
        test_answer_free(&answer);
        close(clients[i]);
    }
    assert_int_equal(front->call_count, 6);
}

static void leaving_while_the_backend_works(void **state)
{
    struct test_front *front = *state;

    for (uint32_t i = 0; i < 2; i++) {
        int fd = test_front_post(front, CHAT, "", i == 0 ? "{" HELLO STREAM "}" : "{" HELLO "}");

        test_front_call(front, i);
        close(fd);
        test_event_wait(&front->abandoned);
    }
    test_front_wait_idle(front);
}

static void leaving_while_tokens_come(void **state)
{
    struct test_front *front = *state;

    for (uint32_t i = 0; i < 2; i++) {
        int fd = test_front_post(front, CHAT, "", i == 0 ? "{" HELLO STREAM "}" : "{" HELLO "}");

        test_front_say(front, test_front_call(front, i), "text");
        close(fd);
        test_event_wait(&front->abandoned);
    }
    test_front_wait_idle(front);
}

static void leaving_after_a_stop_string(void **state)
{
    struct test_front *front = *state;
    int fd = test_front_post(front, CHAT, "", "{" HELLO STREAM ",\"stop\":\"x\"}");

    test_front_say(front, test_front_call(front, 0), "text");
    test_event_wait(&front->stopped);
    close(fd);
    test_event_wait(&front->abandoned);
    test_front_wait_idle(front);
}

static void closing_only_the_sending_side_is_leaving_too(void **state)
{
    struct test_front *front = *state;
    int fd = test_front_post(front, CHAT, "", "{" HELLO STREAM "}");

    test_front_call(front, 0);
    shutdown(fd, SHUT_WR);
    test_event_wait(&front->abandoned);
    close(fd);
}

/* ---- lagging behind ---- */

/* A client whose socket holds little. */
static int post_slowly(struct test_front *front, const char *body)
{
    const int bytes = 65536;
    int fd = test_connect(front->address);

    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    test_front_send_post(fd, CHAT, "", body);
    return fd;
}

static char *letters(size_t count)
{
    char *text = malloc(count + 1);

    memset(text, 'a', count);
    text[count] = '\0';
    return text;
}

static void a_client_that_takes_nothing_is_cut_off(void **state)
{
    struct test_front *front = *state;
    char *text = letters(2048);
    struct test_stream stream;
    struct test_call *call;
    int fd;

    front->config.limits.backlog_bytes = 4096;
    test_front_start(front);
    fd = post_slowly(front, "{" HELLO STREAM "}");
    call = test_front_call(front, 0);
    while (!test_event_try(&front->abandoned)) /* what the kernel takes is bounded */
        test_front_say(front, call, text);
    test_front_wait_idle(front);
    test_stream_open(&stream);
    test_stream_read(fd, &stream);
    assert_false(stream.clean || stream.done);
    assert_string_equal(stream.finish, "");
    test_stream_free(&stream);
    close(fd);
    free(text);
}

/*
 * Between what the kernel takes (some hundred KiB at most: the client's buffer, and what the server leaves
 * unsent) and the limits (1 MiB in the connection, 1 MiB in the exchange) lies the whole text.
 */
static void a_client_that_lags_behind_gets_everything(void **state)
{
    enum { PIECES = 26, PIECE = 65536 };
    struct test_front *front = *state;
    char *text = letters(PIECE);
    char *whole = letters((size_t)PIECES * PIECE);
    struct test_stream stream;
    struct test_call *call;
    int fd;

    front->config.limits.backlog_bytes = 1 << 20;
    test_front_start(front);
    fd = post_slowly(front, "{" HELLO STREAM "}");
    call = test_front_call(front, 0);
    for (int i = 0; i < PIECES; i++)
        test_front_say(front, call, text);
    test_front_finish(front, call, FRONT_LENGTH, 5);
    test_front_wait_exchanges(front, 1); /* the end cannot have left */
    test_stream_open(&stream);
    test_stream_read(fd, &stream);
    test_stream_is(&stream, whole, "length");
    test_stream_free(&stream);
    close(fd);
    free(text);
    free(whole);
}

static void leaving_before_the_end_is_taken(void **state)
{
    enum { PIECES = 26, PIECE = 65536 };
    struct test_front *front = *state;
    char *text = letters(PIECE);
    struct test_call *call;
    int fd;

    front->config.limits.backlog_bytes = 1 << 20;
    test_front_start(front);
    fd = post_slowly(front, "{" HELLO STREAM "}");
    call = test_front_call(front, 0);
    for (int i = 0; i < PIECES; i++)
        test_front_say(front, call, text);
    test_front_finish(front, call, FRONT_LENGTH, 5);
    test_front_wait_exchanges(front, 1);
    close(fd);
    test_front_wait_idle(front);
    assert_false(test_event_try(&front->abandoned)); /* the backend had ended before */
    free(text);
}

static void a_stalled_client_is_let_go_after_the_stall_limit(void **state)
{
    struct test_front *front = *state;
    char *text = letters(400000);
    struct test_call *call;
    int fd;

    front->config.limits.backlog_bytes = 1 << 20;
    front->config.limits.stall_ms = 100;
    test_front_start(front);
    fd = post_slowly(front, "{" HELLO STREAM "}");
    call = test_front_call(front, 0);
    test_front_say(front, call, text);
    test_event_wait(&front->abandoned);
    test_front_wait_idle(front);
    close(fd);
    free(text);
}

/* ---- the end of the front ---- */

static void drain(struct test_front *front)
{
    front_drain(front->front);
}

static void a_draining_front_finishes_what_runs_and_refuses_the_rest(void **state)
{
    struct test_front *front = *state;
    int running = test_front_post(front, CHAT, "", "{" HELLO STREAM "}");
    struct test_call *call = test_front_call(front, 0);
    struct test_stream stream;
    struct test_answer answer;
    int fd;

    test_front_say(front, call, "on");
    test_front_run(front, drain);
    test_front_get(front, "/ready", &answer);
    test_answer_is_error(&answer, 503, "server_error", "not_ready");
    assert_true(test_answer_has(&answer, "Connection: close"));
    test_answer_free(&answer);
    test_front_get(front, "/health", &answer);
    assert_int_equal(answer.status, 200);
    test_answer_free(&answer);
    fd = test_front_post(front, CHAT, "", "{" HELLO "}");
    test_answer_read(fd, &answer);
    test_answer_is_error(&answer, 503, "server_error", "not_ready");
    test_answer_free(&answer);
    close(fd);
    assert_false(test_event_try(&front->drained));

    test_front_say(front, call, "ward");
    test_front_finish(front, call, FRONT_STOP, 6);
    test_stream_open(&stream);
    test_stream_read(running, &stream);
    test_stream_is(&stream, "onward", "stop");
    test_stream_free(&stream);
    close(running);
    test_event_wait(&front->drained);
    test_front_wait_idle(front);
}

static void a_front_without_requests_is_drained_at_once(void **state)
{
    struct test_front *front = *state;
    int idle = test_connect(front->address);
    struct test_answer answer;
    struct td_buf rest;

    test_front_send_get(idle, "/health");
    test_answer_read(idle, &answer);
    test_answer_free(&answer);
    test_front_run(front, drain);
    test_event_wait(&front->drained);
    td_buf_init(&rest, 1024);
    assert_true(test_read_all(idle, &rest)); /* the idle connection is closed in order */
    assert_int_equal(rest.length, 0);
    td_buf_fini(&rest);
    close(idle);
}

/* In teardown: one is being prepared, one waits, one is in the middle of its answer. */
static void closing_ends_requests_at_every_stage(void **state)
{
    struct test_front *front = *state;
    int clients[3];

    clients[0] = test_front_post(front, CHAT, "", "{" HELLO STREAM "}");
    test_front_say(front, test_front_call(front, 0), "text");
    clients[1] = test_front_post(front, CHAT, "", "{" HELLO "}");
    test_front_call(front, 1);
    test_front_take_pool(front);
    clients[2] = test_front_post(front, CHAT, "", "{" HELLO "}");
    test_front_wait_exchanges(front, 3);
    test_front_close(front);
    test_event_wait(&front->abandoned);
    test_event_wait(&front->abandoned);
    for (int i = 0; i < 3; i++) {
        struct td_buf rest;

        td_buf_init(&rest, 65536);
        test_read_all(clients[i], &rest);
        td_buf_fini(&rest);
        close(clients[i]);
    }
    test_front_release_pool(front);
}

/* ---- all of it at random ---- */

static void leave_at_random(struct test_front *front, struct td_rng *rng)
{
    static const char *const bodies[] = {
        "{" HELLO STREAM "}",
        "{" HELLO "}",
        "{" HELLO STREAM ",\"stop\":\"c\"}",
        "{\"messages\":[]}",
    };
    int fd = test_front_post(front, CHAT, "", bodies[td_rng_below(rng, 4)]);
    uint64_t steps = td_rng_below(rng, 6);
    bool started = false;

    for (uint64_t i = 0; i < steps; i++) {
        started = started || test_event_try(&front->started);
        if (!started)
            sched_yield();
        else if (td_rng_below(rng, 4) > 0)
            test_front_say(front, &front->calls[0], "abcd");
        else
            test_front_finish(front, &front->calls[0], FRONT_STOP, 4);
    }
    close(fd);
    test_front_wait_gone(front);
}

static void clients_that_leave_at_any_time_leave_nothing_behind(void **state)
{
    struct test_front *front = *state;
    struct td_rng rng;

    td_rng_init(&rng, 1);
    for (int i = 0; i < 300; i++) {
        leave_at_random(front, &rng);
        test_front_forget_calls(front); /* fails unless each was ended or abandoned */
        test_event_try(&front->started);
    }
}

#define PLAIN(name) cmocka_unit_test_setup_teardown(name, test_front_setup, test_front_teardown)
#define UNSTARTED(name) \
    cmocka_unit_test_setup_teardown(name, test_front_setup_init, test_front_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(leaving_while_the_prompt_is_prepared),
        PLAIN(the_others_go_on_when_one_leaves_the_line),
        PLAIN(leaving_while_the_backend_works),
        PLAIN(leaving_while_tokens_come),
        PLAIN(leaving_after_a_stop_string),
        PLAIN(closing_only_the_sending_side_is_leaving_too),
        UNSTARTED(a_client_that_takes_nothing_is_cut_off),
        UNSTARTED(a_client_that_lags_behind_gets_everything),
        UNSTARTED(leaving_before_the_end_is_taken),
        UNSTARTED(a_stalled_client_is_let_go_after_the_stall_limit),
        PLAIN(a_draining_front_finishes_what_runs_and_refuses_the_rest),
        PLAIN(a_front_without_requests_is_drained_at_once),
        PLAIN(closing_ends_requests_at_every_stage),
        PLAIN(clients_that_leave_at_any_time_leave_nothing_behind),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
