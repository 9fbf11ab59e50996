/*
 * test_http_streams.c: the HTTP server over real sockets: clients that leave at each stage, streams, back-pressure.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/http_answers.h"

/* ---- clients that leave ---- */

static void reset(int fd)
{
    const struct linger now = {.l_onoff = 1};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(fd);
}

static void clients_that_leave_at_any_stage_are_forgotten(void **state)
{
    static const char *const stages[] = {
        "",                                                            /* nothing sent */
        "GET /hel",                                                    /* in the request line */
        "GET /hello HTTP/1.1\r\nHost",                                 /* in a field */
        "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 9\r\n\r\nabc", /* in the body */
        "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        GET("/hello"),           /* after the answer */
        GET("/flood?100000000"), /* in a stream */
        GET("/stream?100000000"),
        GET("/hello") GET("/hello") GET("/hello") "GET",
    };
    struct test_http *http = *state;

    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        for (int how = 0; how < 3; how++) {
            int fd = test_connect(http->address);

            test_http_wait_connections(http, 1);
            test_send_text(fd, stages[i]);
            if (how == 1)
                test_http_counts(http); /* it is seen first */
            if (how == 2)
                reset(fd);
            else
                close(fd);
            test_http_wait_connections(http, 0);
        }
    }
    assert_int_equal(test_http_counts(http).requests, 0);
}

static void a_client_that_leaves_while_its_answer_is_pending_is_noticed(void **state)
{
    struct test_http *http = *state;

    for (int how = 0; how < 3; how++) {
        int fd = test_connect(http->address);

        test_send_text(fd, GET("/hold"));
        test_event_wait(&http->asked);
        assert_int_equal(test_http_counts(http).requests, 1);
        if (how == 0)
            close(fd);
        else if (how == 1)
            reset(fd);
        else
            shutdown(fd, SHUT_WR); /* half-closed counts as gone */
        test_event_wait(&http->gone);
        assert_int_equal(http->gone_why, TD_PEER_LOST);
        test_http_wait_connections(http, 0);
        assert_int_equal(test_http_counts(http).requests, 0);
        assert_int_equal(test_http_counts(http).clients_gone, how + 1);
        if (how == 2)
            close(fd);
    }
}

static void a_client_that_leaves_behind_what_it_sent_ahead_is_noticed(void **state)
{
    struct test_http *http = *state;
    char *ahead = calloc(1, 4 << 20);

    for (int i = 0; i < 2; i++) {
        int fd = test_connect(http->address);

        test_send_text(fd, GET("/hold"));
        test_event_wait(&http->asked);
        /* more than the server reads while it answers, but not more than fits on the way; or as
         * much as goes, so that only a reset can come through */
        if (i == 0)
            test_send(fd, ahead, 50000);
        else
            assert_true(send(fd, ahead, 4 << 20, MSG_DONTWAIT | MSG_NOSIGNAL) > 0);
        if (i == 0)
            close(fd);
        else
            reset(fd);
        test_event_wait(&http->gone);
        assert_int_equal(http->gone_why, TD_PEER_LOST);
    }
    free(ahead);
}

static void a_half_closed_client_gets_an_answer_that_is_ready(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct td_buf text;

    td_buf_init(&text, 65536);
    test_send_text(fd, GET("/hello"));
    shutdown(fd, SHUT_WR);
    assert_true(test_read_all(fd, &text));
    assert_non_null(strstr(text.data, "\r\n\r\nhello\n"));
    close(fd);
    td_buf_fini(&text);
}

/* ---- streams ---- */

/* Takes the chunks of one answer apart; the length of the content, which is appended to out. */
static size_t read_chunks(const char *text, struct td_buf *out)
{
    const char *next = strstr(text, "\r\n\r\n") + 4;
    char *end;
    size_t length;

    while ((length = strtoul(next, &end, 16)) > 0) {
        assert_memory_equal(end, "\r\n", 2);
        td_buf_append(out, end + 2, length);
        next = end + 2 + length;
        assert_memory_equal(next, "\r\n", 2);
        next += 2;
    }
    assert_memory_equal(next, "0\r\n\r\n", 5);
    return out->length;
}

static void a_stream_comes_in_chunks_and_the_connection_goes_on(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;
    struct td_buf content;

    test_answer_open(&answer);
    td_buf_init(&content, 65536);
    test_send_text(fd, GET("/stream?3"));
    test_read_until(fd, &answer.text, "0\r\n\r\n");
    assert_true(test_answer_has(&answer, "Transfer-Encoding: chunked\r\n"));
    assert_false(test_answer_has(&answer, "Content-Length"));
    read_chunks(answer.text.data, &content);
    assert_string_equal(content.data, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    test_ask(fd, GET("/hello"), &answer);
    test_answer_check(&answer, 200, "hello\n");
    close(fd);
    td_buf_fini(&content);
    test_answer_close(&answer);
}

static void a_broken_stream_looks_broken(void **state)
{
    struct test_http *http = *state;
    struct td_buf text;
    int fd;

    td_buf_init(&text, 65536);
    fd = test_connect(http->address);
    test_send_text(fd, GET("/broken"));
    assert_true(test_read_all(fd, &text));
    assert_non_null(strstr(text.data, "d\r\nthe beginning\r\n"));
    assert_null(strstr(text.data, "0\r\n\r\n"));
    close(fd);
    td_buf_clear(&text);
    fd = test_connect(http->address); /* without chunks only a reset can say it */
    test_send_text(fd, "GET /broken HTTP/1.0\r\n\r\n");
    assert_false(test_read_all(fd, &text));
    close(fd);
    td_buf_fini(&text);
}

static void a_slow_reader_holds_the_stream_back_and_gets_it_all(void **state)
{
    const size_t bytes = 50 * 1000 * 1000;
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct td_buf text;
    struct td_buf content;
    long before;

    td_buf_init(&text, bytes * 2);
    td_buf_init(&content, bytes);
    test_send_text(fd, GET("/flood?50000000"));
    test_read_until(fd, &text, "\r\n\r\n");
    test_http_counts(http);
    before = test_resident_kib();
    for (int i = 0; i < 100; i++)
        test_http_counts(http);
    assert_true(test_resident_kib() - before < 4096); /* it waits and does not grow */
    test_read_until(fd, &text, "\r\n0\r\n\r\n");
    assert_int_equal(read_chunks(text.data, &content), bytes);
    for (size_t i = 0; i < bytes; i += 16000)
        assert_int_equal(content.data[i], 'a' + (int)(i / 16000 % 26));
    assert_true(http->backlog_top <= http->config.limits.backlog_bytes_max);
    assert_true(http->backlog_top > http->config.limits.backlog_bytes_max / 2);
    close(fd);
    td_buf_fini(&content);
    td_buf_fini(&text);
}

static void who_takes_nothing_is_cut_off(void **state)
{
    struct test_http *http = *state;
    int fd;

    http->config.limits.stall_ms = 50;
    test_http_start(http);
    fd = test_connect(http->address);
    test_send_text(fd, GET("/flood?500000000"));
    test_event_wait(&http->gone);
    assert_true(http->gone_why == TD_TIMEOUT || http->gone_why == TD_PEER_LOST);
    test_http_wait_connections(http, 0);
    close(fd);
}

static void many_streams_at_once_do_not_mix(void **state)
{
    enum { CLIENTS = 100 };
    struct test_http *http = *state;
    int fds[CLIENTS];
    struct td_buf text;
    struct td_buf content;
    char request[64];
    char last[32];

    td_buf_init(&text, 1 << 20);
    td_buf_init(&content, 1 << 20);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = test_connect(http->address);
        snprintf(request, sizeof request, "GET /stream?%d HTTP/1.1\r\n" HOST "\r\n", 50 + i);
        test_send_text(fds[i], request);
    }
    for (int i = 0; i < CLIENTS; i++) {
        td_buf_clear(&text);
        td_buf_clear(&content);
        test_read_until(fds[i], &text, "\r\n0\r\n\r\n");
        read_chunks(text.data, &content);
        snprintf(last, sizeof last, "data: %d\n\n", 50 + i - 1);
        assert_string_equal(content.data + content.length - strlen(last), last);
        close(fds[i]);
    }
    td_buf_fini(&text);
    td_buf_fini(&content);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(clients_that_leave_at_any_stage_are_forgotten),
        WITH_SERVER(a_client_that_leaves_while_its_answer_is_pending_is_noticed),
        WITH_SERVER(a_client_that_leaves_behind_what_it_sent_ahead_is_noticed),
        WITH_SERVER(a_half_closed_client_gets_an_answer_that_is_ready),
        WITH_SERVER(a_stream_comes_in_chunks_and_the_connection_goes_on),
        WITH_SERVER(a_broken_stream_looks_broken),
        WITH_SERVER(a_slow_reader_holds_the_stream_back_and_gets_it_all),
        OWN_SERVER(who_takes_nothing_is_cut_off),
        WITH_SERVER(many_streams_at_once_do_not_mix),
    };

    return cmocka_run_group_tests_name("http_streams", tests, NULL, NULL);
}
