/*
 * test_http_server.c: the HTTP server over real sockets: requests in every shape, limits at their
 * edge, slow clients, clients that leave at each stage, back-pressure, draining.
 *
 * The clients are plain sockets, so that a test sees exactly the bytes. Every test ends with as many
 * open descriptors as it began with (test_http_stop).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/net/http_support.h"

#define HOST      "Host: test\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static int init(void **state)
{
    struct test_http *http = calloc(1, sizeof *http);

    test_http_init(http);
    *state = http;
    return 0;
}

static int start(void **state)
{
    init(state);
    test_http_start(*state);
    return 0;
}

static int stop(void **state)
{
    test_http_stop(*state);
    free(*state);
    return 0;
}

/* ---- answers as a client sees them ---- */

struct answer {
    struct td_buf text;
    int status;
    size_t body; /* offset */
};

/* Reads one answer with Content-Length into an initialized or used answer. */
static void read_answer(int fd, struct answer *answer)
{
    td_buf_clear(&answer->text);
    answer->body = test_read_answer(fd, &answer->text);
    assert_int_equal(sscanf(answer->text.data, "HTTP/1.1 %d ", &answer->status), 1);
}

static void open_answer(struct answer *answer)
{
    td_buf_init(&answer->text, (size_t)1 << 28);
}

static void close_answer(struct answer *answer)
{
    td_buf_fini(&answer->text);
}

static void check_answer(const struct answer *answer, int status, const char *body)
{
    if (answer->status != status || strcmp(answer->text.data + answer->body, body) != 0)
        fail_msg("expected %d \"%s\", got:\n%s", status, body, answer->text.data);
}

static bool has(const struct answer *answer, const char *text)
{
    return strstr(answer->text.data, text) != NULL;
}

/* The server's own error: status, the hook's JSON, and how the connection goes on. */
static void check_error(const struct answer *answer, int status, const char *reason, bool closes)
{
    if (answer->status != status || !has(answer, reason) ||
        has(answer, "Connection: close\r\n") != closes)
        fail_msg("expected %d \"%s\" (closing: %d), got:\n%s", status, reason, closes,
                 answer->text.data);
    assert_true(has(answer, "Content-Type: application/json\r\n"));
}

static void check_closed(int fd)
{
    struct td_buf rest;

    td_buf_init(&rest, 65536);
    assert_true(test_read_all(fd, &rest));
    assert_int_equal(rest.length, 0);
    td_buf_fini(&rest);
    close(fd);
}

/* One request on a fresh connection whose answer is an error of the server. */
static void check_refusal(struct test_http *http, const char *request, int status,
                          const char *reason)
{
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    test_send_text(fd, request);
    read_answer(fd, &answer);
    check_error(&answer, status, reason, true);
    check_closed(fd);
    close_answer(&answer);
}

static void ask(int fd, const char *request, struct answer *answer)
{
    test_send_text(fd, request);
    read_answer(fd, answer);
}

/* ---- requests ---- */

static void a_connection_serves_one_request_after_the_other(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    ask(fd, GET("/hello"), &answer);
    check_answer(&answer, 200, "hello\n");
    assert_true(has(&answer, "\r\nDate: "));
    assert_true(has(&answer, "\r\nX-Kind: short\r\n"));
    assert_false(has(&answer, "Connection:"));
    ask(fd, "POST /echo?a=b HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", &answer);
    check_answer(&answer, 200, "abc");
    assert_true(has(&answer, "\r\nX-Query: a=b\r\n"));
    assert_true(has(&answer, "\r\nX-Peer: 127.0.0.1\r\n"));
    ask(fd, GET("/items/1/2"), &answer);
    check_answer(&answer, 200, "/items/1/2");
    ask(fd, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", &answer);
    check_answer(&answer, 200, "hello\n");
    assert_true(has(&answer, "Connection: close\r\n"));
    check_closed(fd);
    close_answer(&answer);
}

static void headers_that_http_does_not_allow_are_left_out(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    ask(fd, GET("/headers"), &answer);
    assert_true(has(&answer, "X-Good: 1\r\n"));
    assert_false(has(&answer, "X-Split"));
    assert_false(has(&answer, "X-Evil"));
    assert_false(has(&answer, "X Space"));
    close(fd);
    close_answer(&answer);
}

static void unknown_paths_and_methods_keep_the_connection(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    ask(fd, GET("/nowhere"), &answer);
    check_error(&answer, 404, "there is nothing at this path", false);
    ask(fd, GET("/hello/"), &answer);
    check_error(&answer, 404, "there is nothing at this path", false);
    ask(fd, GET("/echo"), &answer);
    check_error(&answer, 405, "the method is not allowed here", false);
    assert_true(has(&answer, "Allow: POST\r\n"));
    ask(fd, "DELETE /hello HTTP/1.1\r\n" HOST "\r\n", &answer);
    check_error(&answer, 405, "the method is not allowed here", false);
    assert_true(has(&answer, "Allow: GET, HEAD\r\n"));
    ask(fd, GET("/hello"), &answer);
    check_answer(&answer, 200, "hello\n");
    close(fd);
    close_answer(&answer);
}

static void head_and_no_content_have_no_body(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct td_buf text;

    td_buf_init(&text, 65536);
    test_send_text(fd, "HEAD /hello HTTP/1.1\r\n" HOST "\r\n" GET("/none"));
    test_send_text(fd, "HEAD /stream?5 HTTP/1.1\r\n" HOST "\r\n" GET("/hello"));
    test_read_until(fd, &text, "hello\n");
    assert_non_null(strstr(text.data, "Content-Length: 6\r\n\r\nHTTP/1.1 204 No Content\r\n"));
    assert_non_null(strstr(text.data, "\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_null(strstr(text.data, "data: "));
    assert_non_null(strstr(text.data, "Transfer-Encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\n"));
    close(fd);
    td_buf_fini(&text);
}

static void http_1_0_closes_unless_asked_to_stay(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;
    struct td_buf text;

    open_answer(&answer);
    td_buf_init(&text, 65536);
    ask(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &answer);
    check_answer(&answer, 200, "hello\n");
    assert_true(has(&answer, "Connection: keep-alive\r\n"));
    ask(fd, "GET /hello HTTP/1.0\r\n\r\n", &answer);
    assert_true(has(&answer, "Connection: close\r\n"));
    check_closed(fd);
    fd = test_connect(http->address); /* a stream has no chunks and ends with the connection */
    test_send_text(fd, "GET /stream?3 HTTP/1.0\r\n\r\n");
    assert_true(test_read_all(fd, &text));
    assert_non_null(strstr(text.data, "\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\n"));
    assert_null(strstr(text.data, "Transfer-Encoding"));
    close(fd);
    td_buf_fini(&text);
    close_answer(&answer);
}

static void requests_are_the_same_however_they_are_split(void **state)
{
    static const char request[] =
        "POST /echo?q HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nT: x\r\n\r\n";
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    for (size_t first = 0; first < strlen(request); first++) {
        test_send(fd, request, first);
        test_http_counts(http); /* a turn of the loop between the parts */
        test_send(fd, request + first, strlen(request) - first);
        read_answer(fd, &answer);
        check_answer(&answer, 200, "hello, world");
    }
    for (size_t i = 0; i < strlen(request); i++) {
        test_send(fd, request + i, 1);
        test_http_counts(http);
    }
    read_answer(fd, &answer);
    check_answer(&answer, 200, "hello, world");
    close(fd);
    close_answer(&answer);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;
    struct td_buf many;
    char expected[32];

    open_answer(&answer);
    test_send_text(fd, GET("/items/1") GET("/hold") GET("/items/2"));
    test_read_until(fd, &answer.text, "/items/1");
    test_event_wait(&http->asked);
    assert_int_equal(test_http_counts(http).requests, 1); /* the third waits for the second */
    test_http_answer(http, "held");
    test_read_until(fd, &answer.text, "/items/2");
    assert_true(strstr(answer.text.data, "held") < strstr(answer.text.data, "/items/2"));

    td_buf_init(&many, 1 << 20);
    for (int i = 0; i < 1000; i++) /* far more than is read ahead */
        td_buf_printf(&many, "GET /items/n%d HTTP/1.1\r\n" HOST "\r\n", i);
    test_send(fd, many.data, many.length);
    td_buf_clear(&answer.text);
    test_read_until(fd, &answer.text, "/items/n999");
    for (int i = 0; i < 1000; i++) {
        snprintf(expected, sizeof expected, "\r\n\r\n/items/n%dHTTP", i);
        assert_true(i == 999 || has(&answer, expected));
    }
    close(fd);
    td_buf_fini(&many);
    close_answer(&answer);
}

/* ---- bodies ---- */

static void send_body(int fd, const char *head, size_t length)
{
    char *body = malloc(length);

    memset(body, 'b', length);
    test_send_text(fd, head);
    test_send(fd, body, length);
    free(body);
}

static void a_body_may_be_as_large_as_the_route_allows(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 65536\r\n\r\n", 65536);
    read_answer(fd, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.text.length - answer.body, 65536);
    send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10000\r\n",
              65536);
    test_send_text(fd, "\r\n0\r\n\r\n");
    read_answer(fd, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.text.length - answer.body, 65536);

    send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10001\r\n",
              65537);
    read_answer(fd, &answer);
    check_error(&answer, 413, "the body is too large", true);
    check_closed(fd);
    check_refusal(http, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n", 413,
                  "the body is too large");
    check_refusal(http, "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", 413,
                  "the body is too large");
    check_refusal(http,
                  "POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\n"
                  "Content-Length: 1\r\n\r\n",
                  415, "content codings");
    close_answer(&answer);
}

static void a_large_body_that_nobody_wants_is_read_off(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    /* a client that sends all before it reads still gets the answer, not a reset */
    send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n\r\n", 900000);
    read_answer(fd, &answer);
    check_error(&answer, 413, "the body is too large", true);
    check_closed(fd);
    close_answer(&answer);
}

static void a_client_that_asks_first_is_invited(void **state)
{
    static const char expecting[] = "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                                    "Content-Length: 5\r\n\r\n";
    static const char too_large[] = "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                                    "Content-Length: 70000\r\n\r\n";
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    test_send_text(fd, expecting);
    test_read_until(fd, &answer.text, "\r\n\r\n");
    assert_string_equal(answer.text.data, "HTTP/1.1 100 Continue\r\n\r\n");
    test_send_text(fd, "hello");
    read_answer(fd, &answer);
    check_answer(&answer, 200, "hello");
    test_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                       "Content-Length: 0\r\n\r\n");
    read_answer(fd, &answer); /* nothing to invite */
    check_answer(&answer, 200, "");
    test_send_text(fd, too_large);
    read_answer(fd, &answer);
    check_error(&answer, 413, "the body is too large", true);
    check_closed(fd);
    close_answer(&answer);
}

static void who_is_not_admitted_is_answered_before_the_body(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct answer answer;

    open_answer(&answer);
    http->refuse_all = true; /* no request is on its way */
    ask(fd, GET("/hello"), &answer);
    check_answer(&answer, 401, "no");
    ask(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", &answer);
    check_answer(&answer, 401, "no");
    assert_true(has(&answer, "Connection: close\r\n"));
    check_closed(fd);
    close_answer(&answer);
}

/* ---- malformed and slow ---- */

static void malformed_requests_are_answered_and_the_connection_closes(void **state)
{
    struct test_http *http = *state;

    check_refusal(http, "GET /hello HTTP/1.1\r\n\r\n", 400, "there is no Host field");
    check_refusal(http, "GET / HTTP/3.0\r\n" HOST "\r\n", 505, "HTTP/1.0 and HTTP/1.1");
    check_refusal(http, "BREW / HTTP/1.1\r\n" HOST "\r\n", 501, "not supported");
    check_refusal(http, "\x16\x03\x01\x02\n", 400, "bare LF"); /* TLS */
    check_refusal(http,
                  "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                  "5\r\nhelloX",
                  400, "a chunk does not end");
    check_refusal(http,
                  "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 4\r\n"
                  "Transfer-Encoding: chunked\r\n\r\n",
                  400, "both Content-Length and Transfer-Encoding");
    assert_int_equal(test_http_counts(http).malformed, 6);
}

static void a_malformed_request_behind_a_good_one_spoils_only_itself(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct td_buf text;

    td_buf_init(&text, 65536);
    test_send_text(fd, GET("/hello") "GARBAGE\r\n" GET("/items/never"));
    assert_true(test_read_all(fd, &text));
    assert_non_null(strstr(text.data, "hello\nHTTP/1.1 400 Bad Request\r\n"));
    assert_null(strstr(text.data, "/items/never"));
    close(fd);
    td_buf_fini(&text);
}

static void heads_over_the_limits_are_refused(void **state)
{
    struct test_http *http = *state;
    struct td_buf text;

    td_buf_init(&text, 65536);
    td_buf_append_text(&text, "GET /hello HTTP/1.1\r\n" HOST "X: ");
    for (int i = 0; i < 2000; i++)
        td_buf_append_text(&text, "0123456789");
    check_refusal(http, text.data, 431, "the head is too large");
    td_buf_clear(&text);
    td_buf_append_text(&text, "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < HTTP1_FIELDS_MAX; i++)
        td_buf_printf(&text, "X-%d: y\r\n", i);
    check_refusal(http, text.data, 431, "there are too many fields");
    td_buf_fini(&text);
}

static void slow_heads_and_bodies_are_answered_408(void **state)
{
    struct test_http *http = *state;

    http->config.limits.head_ms = 30;
    http->config.limits.body_ms = 30;
    test_http_start(http);
    check_refusal(http, "GET /hello HTTP/1.1\r\nHo", 408, "too slowly");
    check_refusal(http, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell", 408,
                  "too slowly");
    check_closed(test_connect(http->address)); /* and who says nothing at all is not answered */
}

static void idle_connections_are_closed(void **state)
{
    struct test_http *http = *state;
    struct answer answer;
    int fd;

    http->config.limits.idle_ms = 30;
    test_http_start(http);
    fd = test_connect(http->address);
    open_answer(&answer);
    ask(fd, GET("/hello"), &answer);
    check_closed(fd);
    close_answer(&answer);
}

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
    struct answer answer;
    struct td_buf content;

    open_answer(&answer);
    td_buf_init(&content, 65536);
    test_send_text(fd, GET("/stream?3"));
    test_read_until(fd, &answer.text, "0\r\n\r\n");
    assert_true(has(&answer, "Transfer-Encoding: chunked\r\n"));
    assert_false(has(&answer, "Content-Length"));
    read_chunks(answer.text.data, &content);
    assert_string_equal(content.data, "data: 0\n\ndata: 1\n\ndata: 2\n\n");
    ask(fd, GET("/hello"), &answer);
    check_answer(&answer, 200, "hello\n");
    close(fd);
    td_buf_fini(&content);
    close_answer(&answer);
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

/* ---- limits of the server ---- */

static void connections_over_the_limit_are_told_so(void **state)
{
    struct test_http *http = *state;
    struct answer answer;
    int first;
    int second;

    http->config.limits.connections_max = 2;
    test_http_start(http);
    open_answer(&answer);
    first = test_connect(http->address);
    second = test_connect(http->address);
    test_http_wait_connections(http, 2);
    check_refusal(http, "", 503, "too many connections");
    assert_int_equal(test_http_counts(http).connections_refused, 1);
    close(first);
    test_http_wait_connections(http, 1);
    first = test_connect(http->address);
    ask(first, GET("/hello"), &answer);
    ask(second, GET("/hello"), &answer);
    check_answer(&answer, 200, "hello\n");
    close(first);
    close(second);
    close_answer(&answer);
}

static void connections_of_one_address_are_limited(void **state)
{
    struct test_http *http = *state;
    int fds[3];

    http->config.limits.connections_per_address_max = 3;
    test_http_start(http);
    for (int i = 0; i < 3; i++)
        fds[i] = test_connect(http->address);
    test_http_wait_connections(http, 3);
    check_refusal(http, "", 429, "from this address");
    for (int i = 0; i < 3; i++)
        close(fds[i]);
    test_http_wait_connections(http, 0);
    fds[0] = test_connect(http->address);
    test_http_wait_connections(http, 1);
    close(fds[0]);
}

static void bodies_of_all_requests_together_are_limited(void **state)
{
    static const char hold[] = "POST /hold HTTP/1.1\r\n" HOST "Content-Length: 800\r\n\r\n";
    struct test_http *http = *state;
    struct answer answer;
    int first;
    int second;

    http->config.limits.body_bytes_total_max = 1000;
    test_http_start(http);
    open_answer(&answer);
    first = test_connect(http->address);
    send_body(first, hold, 800);
    test_event_wait(&http->asked);
    second = test_connect(http->address);
    send_body(second, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 200\r\n\r\n", 200);
    read_answer(second, &answer);
    assert_int_equal(answer.status, 200);
    send_body(second, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 201\r\n\r\n", 201);
    read_answer(second, &answer);
    check_error(&answer, 503, "too many large requests", true);
    check_closed(second);
    test_http_answer(http, "done");
    read_answer(first, &answer);
    check_answer(&answer, 200, "done");
    send_body(first, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n", 1000);
    read_answer(first, &answer);
    assert_int_equal(answer.status, 200);
    close(first);
    close_answer(&answer);
}

static void running_out_of_descriptors_passes(void **state)
{
    struct test_http *http = *state;
    struct rlimit before;
    struct rlimit tight;
    struct answer answer;
    int fd;

    getrlimit(RLIMIT_NOFILE, &before);
    fd = test_connect(http->address); /* opened and accepted while there are descriptors */
    test_http_wait_connections(http, 1);
    close(fd);
    test_http_wait_connections(http, 0);
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    tight = before;
    tight.rlim_cur = (rlim_t)fd + 1;
    setrlimit(RLIMIT_NOFILE, &tight);
    test_connect_socket(fd, http->address);
    test_send_text(fd, GET("/hello"));
    test_http_counts(http); /* the server has tried to accept by now */
    assert_int_equal(test_http_counts(http).connections, 0);
    setrlimit(RLIMIT_NOFILE, &before);
    open_answer(&answer);
    read_answer(fd, &answer);
    check_answer(&answer, 200, "hello\n");
    close(fd);
    close_answer(&answer);
}

/* ---- the end ---- */

static void draining_finishes_what_runs_and_takes_nothing_new(void **state)
{
    struct test_http *http = *state;
    int idle = test_connect(http->address);
    int busy = test_connect(http->address);
    int streaming = test_connect(http->address);
    struct answer answer;
    struct td_buf text;

    open_answer(&answer);
    td_buf_init(&text, 1 << 20);
    test_send_text(busy, GET("/hold") GET("/items/never"));
    test_event_wait(&http->asked);
    test_send_text(streaming, GET("/stream?2000"));
    test_read_until(streaming, &text, "data: 0\n\n");
    test_http_wait_connections(http, 3);
    test_http_drain(http);
    check_closed(idle);
    test_read_until(streaming, &text, "data: 1999\n\n\r\n0\r\n\r\n");
    assert_true(test_read_all(streaming, &text));
    close(streaming);
    assert_false(test_event_try(&http->drained));
    assert_int_equal(test_try_connect(http->address), ECONNREFUSED);
    test_http_answer(http, "the last");
    read_answer(busy, &answer);
    check_answer(&answer, 200, "the last");
    assert_true(has(&answer, "Connection: close\r\n"));
    check_closed(busy);
    test_event_wait(&http->drained);
    close_answer(&answer);
    td_buf_fini(&text);
}

/* Head or body: nobody works on it yet, so the drain does not wait as long for it as a running server would. */
static void draining_gives_up_requests_that_do_not_come(void **state)
{
    struct test_http *http = *state;
    struct answer answer;
    int fds[2];

    http->config.limits.drain_ms = 30; /* the other limits are longer than any test may take */
    http->config.limits.head_ms = http->config.limits.body_ms = 3600 * 1000;
    test_http_start(http);
    open_answer(&answer);
    for (int i = 0; i < 2; i++)
        fds[i] = test_connect(http->address);
    ask(fds[0], GET("/hello") "GET /hello HTTP/1.1\r\nHo", &answer);
    check_answer(&answer, 200, "hello\n");
    test_send_text(fds[1], "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    test_http_wait_requests(http, 1);
    test_http_drain(http);
    for (int i = 0; i < 2; i++) {
        read_answer(fds[i], &answer);
        check_error(&answer, 503, "the server is stopping", true);
        check_closed(fds[i]);
    }
    test_event_wait(&http->drained);
    close_answer(&answer);
}

static void a_request_that_comes_while_draining_is_answered(void **state)
{
    struct test_http *http = *state;
    struct answer answer;
    int fd;

    http->config.limits.drain_ms = 3600 * 1000;
    test_http_start(http);
    fd = test_connect(http->address);
    test_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    test_http_wait_requests(http, 1);
    test_http_drain(http);
    assert_false(test_event_try(&http->drained));
    open_answer(&answer);
    ask(fd, "o", &answer);
    check_answer(&answer, 200, "hello");
    assert_true(has(&answer, "Connection: close\r\n"));
    check_closed(fd);
    test_event_wait(&http->drained);
    close_answer(&answer);
}

static void draining_an_idle_server_is_over_at_once(void **state)
{
    struct test_http *http = *state;

    test_http_drain(http);
    test_event_wait(&http->drained);
}

static void closing_tells_everybody_who_waits(void **state)
{
    struct test_http *http = *state;
    struct td_buf text;
    int fd;

    test_http_start(http);
    fd = test_connect(http->address);
    test_send_text(fd, GET("/hold"));
    test_event_wait(&http->asked);
    test_http_close(http);
    test_event_wait(&http->gone);
    assert_int_equal(http->gone_why, TD_CANCELED);
    td_buf_init(&text, 100);
    assert_false(test_read_all(fd, &text));
    assert_int_equal(text.length, 0);
    close(fd);
    td_buf_fini(&text);
}

struct second_server {
    struct test_http *http;
    bool reuse_port;
    td_status_t status;
    struct td_error error;
};

static void open_second(void *ctx)
{
    struct second_server *second = ctx;
    struct http_server_config config = second->http->config;
    struct http_server *server = NULL;

    config.address = second->http->address;
    config.reuse_port = second->reuse_port;
    second->status = http_server_open(second->http->loop.loop, &config, &server, &second->error);
    if (second->status == TD_OK)
        http_server_close(server);
}

static void a_port_in_use_is_an_error_that_names_it(void **state)
{
    struct test_http *http = *state;
    struct second_server second = {.http = http};

    test_http_start(http);
    test_loop_call(&http->loop, open_second, &second);
    assert_int_equal(second.status, TD_IO);
    assert_non_null(strstr(second.error.text, http->address));
}

static void servers_may_share_a_port_if_all_agree(void **state)
{
    struct test_http *http = *state;
    struct second_server second = {.http = http, .reuse_port = true};

    http->config.reuse_port = true;
    test_http_start(http);
    test_loop_call(&http->loop, open_second, &second);
    assert_int_equal(second.status, TD_OK);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start, stop)
#define OWN_SERVER(test)  cmocka_unit_test_setup_teardown(test, init, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVER(a_connection_serves_one_request_after_the_other),
        WITH_SERVER(headers_that_http_does_not_allow_are_left_out),
        WITH_SERVER(unknown_paths_and_methods_keep_the_connection),
        WITH_SERVER(head_and_no_content_have_no_body),
        WITH_SERVER(http_1_0_closes_unless_asked_to_stay),
        WITH_SERVER(requests_are_the_same_however_they_are_split),
        WITH_SERVER(pipelined_requests_are_answered_in_order),
        WITH_SERVER(a_body_may_be_as_large_as_the_route_allows),
        WITH_SERVER(a_large_body_that_nobody_wants_is_read_off),
        WITH_SERVER(a_client_that_asks_first_is_invited),
        WITH_SERVER(who_is_not_admitted_is_answered_before_the_body),
        WITH_SERVER(malformed_requests_are_answered_and_the_connection_closes),
        WITH_SERVER(a_malformed_request_behind_a_good_one_spoils_only_itself),
        WITH_SERVER(heads_over_the_limits_are_refused),
        OWN_SERVER(slow_heads_and_bodies_are_answered_408),
        OWN_SERVER(idle_connections_are_closed),
        WITH_SERVER(clients_that_leave_at_any_stage_are_forgotten),
        WITH_SERVER(a_client_that_leaves_while_its_answer_is_pending_is_noticed),
        WITH_SERVER(a_client_that_leaves_behind_what_it_sent_ahead_is_noticed),
        WITH_SERVER(a_half_closed_client_gets_an_answer_that_is_ready),
        WITH_SERVER(a_stream_comes_in_chunks_and_the_connection_goes_on),
        WITH_SERVER(a_broken_stream_looks_broken),
        WITH_SERVER(a_slow_reader_holds_the_stream_back_and_gets_it_all),
        OWN_SERVER(who_takes_nothing_is_cut_off),
        WITH_SERVER(many_streams_at_once_do_not_mix),
        OWN_SERVER(connections_over_the_limit_are_told_so),
        OWN_SERVER(connections_of_one_address_are_limited),
        OWN_SERVER(bodies_of_all_requests_together_are_limited),
        WITH_SERVER(running_out_of_descriptors_passes),
        WITH_SERVER(draining_finishes_what_runs_and_takes_nothing_new),
        OWN_SERVER(draining_gives_up_requests_that_do_not_come),
        OWN_SERVER(a_request_that_comes_while_draining_is_answered),
        WITH_SERVER(draining_an_idle_server_is_over_at_once),
        OWN_SERVER(closing_tells_everybody_who_waits),
        OWN_SERVER(a_port_in_use_is_an_error_that_names_it),
        OWN_SERVER(servers_may_share_a_port_if_all_agree),
    };

    return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
