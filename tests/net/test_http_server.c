/*
 * test_http_server.c: the HTTP server over real sockets: requests in every shape, bodies, what is malformed or slow.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/net/http_answers.h"

/* ---- requests ---- */

static void a_connection_serves_one_request_after_the_other(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_ask(fd, GET("/hello"), &answer);
    test_answer_check(&answer, 200, "hello\n");
    assert_true(test_answer_has(&answer, "\r\nDate: "));
    assert_true(test_answer_has(&answer, "\r\nX-Kind: short\r\n"));
    assert_false(test_answer_has(&answer, "Connection:"));
    test_ask(fd, "POST /echo?a=b HTTP/1.1\r\n" HOST "Content-Length: 3\r\n\r\nabc", &answer);
    test_answer_check(&answer, 200, "abc");
    assert_true(test_answer_has(&answer, "\r\nX-Query: a=b\r\n"));
    assert_true(test_answer_has(&answer, "\r\nX-Peer: 127.0.0.1\r\n"));
    test_ask(fd, GET("/items/1/2"), &answer);
    test_answer_check(&answer, 200, "/items/1/2");
    test_ask(fd, "GET /hello HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", &answer);
    test_answer_check(&answer, 200, "hello\n");
    assert_true(test_answer_has(&answer, "Connection: close\r\n"));
    test_check_closed(fd);
    test_answer_close(&answer);
}

static void headers_that_http_does_not_allow_are_left_out(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_ask(fd, GET("/headers"), &answer);
    assert_true(test_answer_has(&answer, "X-Good: 1\r\n"));
    assert_false(test_answer_has(&answer, "X-Split"));
    assert_false(test_answer_has(&answer, "X-Evil"));
    assert_false(test_answer_has(&answer, "X Space"));
    close(fd);
    test_answer_close(&answer);
}

static void unknown_paths_and_methods_keep_the_connection(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_ask(fd, GET("/nowhere"), &answer);
    test_answer_check_error(&answer, 404, "there is nothing at this path", false);
    test_ask(fd, GET("/hello/"), &answer);
    test_answer_check_error(&answer, 404, "there is nothing at this path", false);
    test_ask(fd, GET("/echo"), &answer);
    test_answer_check_error(&answer, 405, "the method is not allowed here", false);
    assert_true(test_answer_has(&answer, "Allow: POST\r\n"));
    test_ask(fd, "DELETE /hello HTTP/1.1\r\n" HOST "\r\n", &answer);
    test_answer_check_error(&answer, 405, "the method is not allowed here", false);
    assert_true(test_answer_has(&answer, "Allow: GET, HEAD\r\n"));
    test_ask(fd, GET("/hello"), &answer);
    test_answer_check(&answer, 200, "hello\n");
    close(fd);
    test_answer_close(&answer);
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
    struct test_answer answer;
    struct td_buf text;

    test_answer_open(&answer);
    td_buf_init(&text, 65536);
    test_ask(fd, "GET /hello HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", &answer);
    test_answer_check(&answer, 200, "hello\n");
    assert_true(test_answer_has(&answer, "Connection: keep-alive\r\n"));
    test_ask(fd, "GET /hello HTTP/1.0\r\n\r\n", &answer);
    assert_true(test_answer_has(&answer, "Connection: close\r\n"));
    test_check_closed(fd);
    fd = test_connect(http->address); /* a stream has no chunks and ends with the connection */
    test_send_text(fd, "GET /stream?3 HTTP/1.0\r\n\r\n");
    assert_true(test_read_all(fd, &text));
    assert_non_null(strstr(text.data, "\r\n\r\ndata: 0\n\ndata: 1\n\ndata: 2\n\n"));
    assert_null(strstr(text.data, "Transfer-Encoding"));
    close(fd);
    td_buf_fini(&text);
    test_answer_close(&answer);
}

static void requests_are_the_same_however_they_are_split(void **state)
{
    static const char request[] =
        "POST /echo?q HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
        "5;x=y\r\nhello\r\n7\r\n, world\r\n0\r\nT: x\r\n\r\n";
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    for (size_t first = 0; first < strlen(request); first++) {
        test_send(fd, request, first);
        test_http_counts(http); /* a turn of the loop between the parts */
        test_send(fd, request + first, strlen(request) - first);
        test_answer_read(fd, &answer);
        test_answer_check(&answer, 200, "hello, world");
    }
    for (size_t i = 0; i < strlen(request); i++) {
        test_send(fd, request + i, 1);
        test_http_counts(http);
    }
    test_answer_read(fd, &answer);
    test_answer_check(&answer, 200, "hello, world");
    close(fd);
    test_answer_close(&answer);
}

static void pipelined_requests_are_answered_in_order(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;
    struct td_buf many;
    char expected[32];

    test_answer_open(&answer);
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
        assert_true(i == 999 || test_answer_has(&answer, expected));
    }
    close(fd);
    td_buf_fini(&many);
    test_answer_close(&answer);
}

/* ---- bodies ---- */

static void a_body_may_be_as_large_as_the_route_allows(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 65536\r\n\r\n", 65536);
    test_answer_read(fd, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.text.length - answer.body, 65536);
    test_send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10000\r\n",
                   65536);
    test_send_text(fd, "\r\n0\r\n\r\n");
    test_answer_read(fd, &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(answer.text.length - answer.body, 65536);

    test_send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n10001\r\n",
                   65537);
    test_answer_read(fd, &answer);
    test_answer_check_error(&answer, 413, "the body is too large", true);
    test_check_closed(fd);
    test_check_refusal(http, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 65537\r\n\r\n", 413,
                       "the body is too large");
    test_check_refusal(http, "GET /hello HTTP/1.1\r\n" HOST "Content-Length: 1\r\n\r\n", 413,
                       "the body is too large");
    test_check_refusal(http,
                       "POST /echo HTTP/1.1\r\n" HOST "Content-Encoding: gzip\r\n"
                       "Content-Length: 1\r\n\r\n",
                       415, "content codings");
    test_answer_close(&answer);
}

static void a_large_body_that_nobody_wants_is_read_off(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    /* a client that sends all before it reads still gets the answer, not a reset */
    test_send_body(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 900000\r\n\r\n", 900000);
    test_answer_read(fd, &answer);
    test_answer_check_error(&answer, 413, "the body is too large", true);
    test_check_closed(fd);
    test_answer_close(&answer);
}

static void a_client_that_asks_first_is_invited(void **state)
{
    static const char expecting[] = "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                                    "Content-Length: 5\r\n\r\n";
    static const char too_large[] = "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                                    "Content-Length: 70000\r\n\r\n";
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_send_text(fd, expecting);
    test_read_until(fd, &answer.text, "\r\n\r\n");
    assert_string_equal(answer.text.data, "HTTP/1.1 100 Continue\r\n\r\n");
    test_send_text(fd, "hello");
    test_answer_read(fd, &answer);
    test_answer_check(&answer, 200, "hello");
    test_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Expect: 100-continue\r\n"
                       "Content-Length: 0\r\n\r\n");
    test_answer_read(fd, &answer); /* nothing to invite */
    test_answer_check(&answer, 200, "");
    test_send_text(fd, too_large);
    test_answer_read(fd, &answer);
    test_answer_check_error(&answer, 413, "the body is too large", true);
    test_check_closed(fd);
    test_answer_close(&answer);
}

static void who_is_not_admitted_is_answered_before_the_body(void **state)
{
    struct test_http *http = *state;
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    http->refuse_all = true; /* no request is on its way */
    test_ask(fd, GET("/hello"), &answer);
    test_answer_check(&answer, 401, "no");
    test_ask(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\n", &answer);
    test_answer_check(&answer, 401, "no");
    assert_true(test_answer_has(&answer, "Connection: close\r\n"));
    test_check_closed(fd);
    test_answer_close(&answer);
}

/* ---- malformed and slow ---- */

static void malformed_requests_are_answered_and_the_connection_closes(void **state)
{
    struct test_http *http = *state;

    test_check_refusal(http, "GET /hello HTTP/1.1\r\n\r\n", 400, "there is no Host field");
    test_check_refusal(http, "GET / HTTP/3.0\r\n" HOST "\r\n", 505, "HTTP/1.0 and HTTP/1.1");
    test_check_refusal(http, "BREW / HTTP/1.1\r\n" HOST "\r\n", 501, "not supported");
    test_check_refusal(http, "\x16\x03\x01\x02\n", 400, "bare LF"); /* TLS */
    test_check_refusal(http,
                       "POST /echo HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                       "5\r\nhelloX",
                       400, "a chunk does not end");
    test_check_refusal(http,
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
    test_check_refusal(http, text.data, 431, "the head is too large");
    td_buf_clear(&text);
    td_buf_append_text(&text, "GET /hello HTTP/1.1\r\n" HOST);
    for (int i = 0; i < HTTP1_FIELDS_MAX; i++)
        td_buf_printf(&text, "X-%d: y\r\n", i);
    test_check_refusal(http, text.data, 431, "there are too many fields");
    td_buf_fini(&text);
}

static void slow_heads_and_bodies_are_answered_408(void **state)
{
    struct test_http *http = *state;

    http->config.limits.head_ms = 30;
    http->config.limits.body_ms = 30;
    test_http_start(http);
    test_check_refusal(http, "GET /hello HTTP/1.1\r\nHo", 408, "too slowly");
    test_check_refusal(http, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell", 408,
                       "too slowly");
    test_check_closed(
        test_connect(http->address)); /* and who says nothing at all is not answered */
}

static void idle_connections_are_closed(void **state)
{
    struct test_http *http = *state;
    struct test_answer answer;
    int fd;

    http->config.limits.idle_ms = 30;
    test_http_start(http);
    fd = test_connect(http->address);
    test_answer_open(&answer);
    test_ask(fd, GET("/hello"), &answer);
    test_check_closed(fd);
    test_answer_close(&answer);
}

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
    };

    return cmocka_run_group_tests_name("http_server", tests, NULL, NULL);
}
