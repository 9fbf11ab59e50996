/*
 * test_http_limits.c: the HTTP server over real sockets: its limits, draining, closing, and its port.
 */
#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/net/http_answers.h"

/* ---- limits of the server ---- */

static void connections_over_the_limit_are_told_so(void **state)
{
    struct test_http *http = *state;
    struct test_answer answer;
    int first;
    int second;

    http->config.limits.connections_max = 2;
    test_http_start(http);
    test_answer_open(&answer);
    first = test_connect(http->address);
    second = test_connect(http->address);
    test_http_wait_connections(http, 2);
    test_check_refusal(http, "", 503, "too many connections");
    assert_int_equal(test_http_counts(http).connections_refused, 1);
    close(first);
    test_http_wait_connections(http, 1);
    first = test_connect(http->address);
    test_ask(first, GET("/hello"), &answer);
    test_ask(second, GET("/hello"), &answer);
    test_answer_check(&answer, 200, "hello\n");
    close(first);
    close(second);
    test_answer_close(&answer);
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
    test_check_refusal(http, "", 429, "from this address");
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
    struct test_answer answer;
    int first;
    int second;

    http->config.limits.body_bytes_total_max = 1000;
    test_http_start(http);
    test_answer_open(&answer);
    first = test_connect(http->address);
    test_send_body(first, hold, 800);
    test_event_wait(&http->asked);
    second = test_connect(http->address);
    test_send_body(second, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 200\r\n\r\n", 200);
    test_answer_read(second, &answer);
    assert_int_equal(answer.status, 200);
    test_send_body(second, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 201\r\n\r\n", 201);
    test_answer_read(second, &answer);
    test_answer_check_error(&answer, 503, "too many large requests", true);
    test_check_closed(second);
    test_http_answer(http, "done");
    test_answer_read(first, &answer);
    test_answer_check(&answer, 200, "done");
    test_send_body(first, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n", 1000);
    test_answer_read(first, &answer);
    assert_int_equal(answer.status, 200);
    close(first);
    test_answer_close(&answer);
}

static void running_out_of_descriptors_passes(void **state)
{
    struct test_http *http = *state;
    struct rlimit before;
    struct rlimit tight;
    struct test_answer answer;
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
    test_answer_open(&answer);
    test_answer_read(fd, &answer);
    test_answer_check(&answer, 200, "hello\n");
    close(fd);
    test_answer_close(&answer);
}

/* ---- the end ---- */

static void draining_finishes_what_runs_and_takes_nothing_new(void **state)
{
    struct test_http *http = *state;
    int idle = test_connect(http->address);
    int busy = test_connect(http->address);
    int streaming = test_connect(http->address);
    struct test_answer answer;
    struct td_buf text;

    test_answer_open(&answer);
    td_buf_init(&text, 1 << 20);
    test_send_text(busy, GET("/hold") GET("/items/never"));
    test_event_wait(&http->asked);
    test_send_text(streaming, GET("/stream?2000"));
    test_read_until(streaming, &text, "data: 0\n\n");
    test_http_wait_connections(http, 3);
    test_http_drain(http);
    test_check_closed(idle);
    test_read_until(streaming, &text, "data: 1999\n\n\r\n0\r\n\r\n");
    assert_true(test_read_all(streaming, &text));
    close(streaming);
    assert_false(test_event_try(&http->drained));
    assert_int_equal(test_try_connect(http->address), ECONNREFUSED);
    test_http_answer(http, "the last");
    test_answer_read(busy, &answer);
    test_answer_check(&answer, 200, "the last");
    assert_true(test_answer_has(&answer, "Connection: close\r\n"));
    test_check_closed(busy);
    test_event_wait(&http->drained);
    test_answer_close(&answer);
    td_buf_fini(&text);
}

/* Head or body: nobody works on it yet, so the drain does not wait as long for it as a running server would. */
static void draining_gives_up_requests_that_do_not_come(void **state)
{
    struct test_http *http = *state;
    struct test_answer answer;
    int fds[2];

    http->config.limits.drain_ms = 30; /* the other limits are longer than any test may take */
    http->config.limits.head_ms = http->config.limits.body_ms = 3600 * 1000;
    test_http_start(http);
    test_answer_open(&answer);
    for (int i = 0; i < 2; i++)
        fds[i] = test_connect(http->address);
    test_ask(fds[0], GET("/hello") "GET /hello HTTP/1.1\r\nHo", &answer);
    test_answer_check(&answer, 200, "hello\n");
    test_send_text(fds[1], "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    test_http_wait_requests(http, 1);
    test_http_drain(http);
    for (int i = 0; i < 2; i++) {
        test_answer_read(fds[i], &answer);
        test_answer_check_error(&answer, 503, "the server is stopping", true);
        test_check_closed(fds[i]);
    }
    test_event_wait(&http->drained);
    test_answer_close(&answer);
}

static void a_request_that_comes_while_draining_is_answered(void **state)
{
    struct test_http *http = *state;
    struct test_answer answer;
    int fd;

    http->config.limits.drain_ms = 3600 * 1000;
    test_http_start(http);
    fd = test_connect(http->address);
    test_send_text(fd, "POST /echo HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell");
    test_http_wait_requests(http, 1);
    test_http_drain(http);
    assert_false(test_event_try(&http->drained));
    test_answer_open(&answer);
    test_ask(fd, "o", &answer);
    test_answer_check(&answer, 200, "hello");
    assert_true(test_answer_has(&answer, "Connection: close\r\n"));
    test_check_closed(fd);
    test_event_wait(&http->drained);
    test_answer_close(&answer);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
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

    return cmocka_run_group_tests_name("http_limits", tests, NULL, NULL);
}
