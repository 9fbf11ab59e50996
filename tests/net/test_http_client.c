/* test_http_client.c: the HTTP client against our own server, and against servers that misbehave. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/net/http_client.h"
#include "lib/net/http_sse.h"
#include "tests/net/http_support.h"

#define BODY_MAX (UINT64_C(1) << 26)

/* One client on the test's own thread, and what came to it. */
struct asker {
    struct net_loop *loop;
    struct http_client *client;
    struct td_buf body;
    int heads;
    int status;
    char kind[64]; /* the header X-Kind */
    int ends;
    td_status_t end;
    char reason[256];
    uint64_t cancel_at; /* bytes of the body; 0: never */
    bool close_there;
    bool cancel_in_head;
    int asks_left; /* repeat from on_end */
    const struct http_client_request *request;
};

static void on_head(void *ctx, int status)
{
    struct asker *asker = ctx;
    const char *kind = http_client_header(asker->client, "x-kind");

    asker->heads++;
    asker->status = status;
    snprintf(asker->kind, sizeof asker->kind, "%s", kind != NULL ? kind : "");
    if (!asker->cancel_in_head)
        return;
    http_client_cancel(asker->client);
    net_loop_stop(asker->loop);
}

static void on_body(void *ctx, const void *bytes, size_t length)
{
    struct asker *asker = ctx;

    td_buf_append(&asker->body, bytes, length);
    if (asker->cancel_at == 0 || asker->body.length < asker->cancel_at)
        return;
    if (asker->close_there)
        http_client_close(asker->client);
    else
        http_client_cancel(asker->client);
    if (asker->close_there)
        asker->client = NULL;
    net_loop_stop(asker->loop);
}

static void on_end(void *ctx, td_status_t status, const char *reason);

static const struct http_client_callbacks callbacks = {on_head, on_body, on_end};

static void on_end(void *ctx, td_status_t status, const char *reason)
{
    struct asker *asker = ctx;

    asker->ends++;
    asker->end = status;
    snprintf(asker->reason, sizeof asker->reason, "%s", reason);
    if (asker->asks_left == 0) {
        net_loop_stop(asker->loop);
        return;
    }
    asker->asks_left--;
    assert_int_equal(http_client_ask(asker->client, asker->request, &callbacks, asker), TD_OK);
}

static void open_asker(struct asker *asker, const char *origin)
{
    *asker = (struct asker){0};
    td_buf_init(&asker->body, BODY_MAX);
    assert_int_equal(net_loop_open(&asker->loop), TD_OK);
    assert_int_equal(http_client_open(asker->loop, origin, &asker->client, NULL), TD_OK);
}

static void close_asker(struct asker *asker)
{
    http_client_close(asker->client);
    net_loop_close(asker->loop);
    td_buf_fini(&asker->body);
}

/* Asks and waits for the end, or for a cancel from a callback. */
static void ask(struct asker *asker, const struct http_client_request *request)
{
    td_buf_clear(&asker->body);
    asker->heads = asker->ends = 0;
    asker->request = request;
    assert_int_equal(http_client_ask(asker->client, request, &callbacks, asker), TD_OK);
    assert_int_equal(asker->ends, 0);
    net_loop_run(asker->loop);
}

static void get(struct asker *asker, const char *path)
{
    ask(asker, &(struct http_client_request){.method = HTTP_GET, .path = path});
}

static void check_end(const struct asker *asker, td_status_t end)
{
    if (asker->end != end)
        fail_msg("it ended with %s (%s)", td_status_name(asker->end), asker->reason);
    assert_int_equal(asker->ends, 1);
    assert_true((end == TD_OK) == (asker->reason[0] == '\0'));
}

static int start(void **state)
{
    struct test_http *http = calloc(1, sizeof *http);

    test_http_init(http);
    test_http_start(http);
    *state = http;
    return 0;
}

static int stop(void **state)
{
    test_http_stop(*state);
    free(*state);
    return 0;
}

static void a_short_answer_comes_with_its_head(void **state)
{
    struct test_http *http = *state;
    struct asker asker;

    open_asker(&asker, http->address);
    get(&asker, "/hello");
    check_end(&asker, TD_OK);
    assert_int_equal(asker.heads, 1);
    assert_int_equal(asker.status, 200);
    assert_string_equal(asker.kind, "short");
    assert_string_equal(asker.body.data, "hello\n");
    get(&asker, "/nowhere");
    check_end(&asker, TD_OK);
    assert_int_equal(asker.status, 404);
    get(&asker, "/none");
    check_end(&asker, TD_OK);
    assert_int_equal(asker.status, 204);
    assert_int_equal(asker.body.length, 0);
    ask(&asker, &(struct http_client_request){.method = HTTP_HEAD, .path = "/hello"});
    check_end(&asker, TD_OK);
    assert_string_equal(asker.kind, "short");
    assert_int_equal(asker.body.length, 0);
    close_asker(&asker);
}

static void one_connection_serves_many_requests(void **state)
{
    struct test_http *http = *state;
    struct http_client_request request = {.method = HTTP_GET, .path = "/hello"};
    struct asker asker;

    open_asker(&asker, http->address);
    asker.asks_left = 99; /* each from the end of the one before */
    td_buf_clear(&asker.body);
    asker.request = &request;
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_OK);
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_STATE);
    net_loop_run(asker.loop);
    assert_int_equal(asker.ends, 100);
    assert_int_equal(asker.body.length, 600);
    assert_int_equal(test_http_counts(http).connections, 1);
    assert_int_equal(test_http_counts(http).requests_total, 100);
    close_asker(&asker);
}

static void a_body_goes_there_and_back(void **state)
{
    struct test_http *http = *state;
    const struct http_header headers[] = {{"Content-Type", "application/json"}, {"X-Empty", ""}};
    static char body[TEST_HTTP_BODY_MAX + 1];
    struct asker asker;

    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 + i / 251);
    open_asker(&asker, http->address);
    ask(&asker, &(struct http_client_request){.method = HTTP_POST,
                                              .path = "/echo?a=1&b=%20",
                                              .headers = headers,
                                              .header_count = 2,
                                              .body = body,
                                              .body_length = TEST_HTTP_BODY_MAX});
    check_end(&asker, TD_OK);
    assert_int_equal(asker.body.length, TEST_HTTP_BODY_MAX);
    assert_memory_equal(asker.body.data, body, TEST_HTTP_BODY_MAX);
    ask(&asker, &(struct http_client_request){
                    .method = HTTP_POST, .path = "/echo", .body = body, .body_length = 0});
    check_end(&asker, TD_OK);
    assert_int_equal(asker.status, 200);
    assert_int_equal(asker.body.length, 0);
    ask(&asker, &(struct http_client_request){.method = HTTP_POST,
                                              .path = "/echo",
                                              .body = body,
                                              .body_length = TEST_HTTP_BODY_MAX + 1});
    assert_int_equal(asker.status, 413);
    close_asker(&asker);
}

static void count_event(void *ctx, const char *data, size_t length)
{
    int *count = ctx;
    char expected[32];

    assert_int_equal(snprintf(expected, sizeof expected, "%d", *count), length);
    assert_string_equal(data, expected);
    (*count)++;
}

static void a_stream_of_events_comes_whole(void **state)
{
    struct test_http *http = *state;
    struct http_sse sse;
    struct asker asker;
    int count = 0;

    open_asker(&asker, http->address);
    get(&asker, "/stream?1000");
    check_end(&asker, TD_OK);
    http_sse_init(&sse, 4096, count_event, &count);
    assert_int_equal(http_sse_feed(&sse, asker.body.data, asker.body.length), TD_OK);
    assert_int_equal(count, 1000);
    http_sse_fini(&sse);
    get(&asker, "/flood?30000000");
    check_end(&asker, TD_OK);
    assert_int_equal(asker.body.length, 30000000);
    close_asker(&asker);
}

static void a_stream_that_breaks_off_is_no_answer(void **state)
{
    struct test_http *http = *state;
    struct asker asker;

    open_asker(&asker, http->address);
    get(&asker, "/broken");
    check_end(&asker, TD_PEER_LOST);
    assert_string_equal(asker.body.data, "the beginning");
    get(&asker, "/hello"); /* on a new connection */
    check_end(&asker, TD_OK);
    close_asker(&asker);
}

static void a_request_can_be_canceled_anywhere(void **state)
{
    struct test_http *http = *state;
    struct http_client_request held = {.method = HTTP_GET, .path = "/hold"};
    struct asker asker;

    open_asker(&asker, http->address);
    http_client_cancel(asker.client); /* nothing to cancel */
    assert_int_equal(http_client_ask(asker.client, &held, &callbacks, &asker), TD_OK);
    http_client_cancel(asker.client); /* before anything happened */

    asker.cancel_at = 1000;
    get(&asker, "/flood?100000000"); /* inside the body */
    assert_int_equal(asker.ends, 0);
    test_event_wait(&http->gone);
    assert_int_equal(http->gone_why, TD_PEER_LOST);
    asker.cancel_at = 0;

    asker.cancel_in_head = true;
    get(&asker, "/stream?100000000");
    assert_int_equal(asker.ends, 0);
    assert_int_equal(asker.body.length, 0);
    test_event_wait(&http->gone);
    asker.cancel_in_head = false;

    get(&asker, "/hello");
    check_end(&asker, TD_OK);
    asker.cancel_at = 1;
    asker.close_there = true;
    get(&asker, "/flood?100000000"); /* closing inside the body */
    assert_null(asker.client);
    test_event_wait(&http->gone);
    close_asker(&asker);
}

static void waits_end_by_themselves(void **state)
{
    struct test_http *http = *state;
    struct asker asker;

    open_asker(&asker, http->address);
    ask(&asker,
        &(struct http_client_request){.method = HTTP_GET, .path = "/hold", .deadline_ms = 30});
    check_end(&asker, TD_TIMEOUT);
    test_event_wait(&http->gone);
    ask(&asker,
        &(struct http_client_request){.method = HTTP_GET, .path = "/hold", .silence_ms = 30});
    check_end(&asker, TD_TIMEOUT);
    test_event_wait(&http->gone);
    close_asker(&asker);
}

static void an_answer_over_the_limit_is_cut_off(void **state)
{
    struct test_http *http = *state;
    struct http_client_request request = {
        .method = HTTP_GET, .path = "/hello", .body_bytes_max = 6};
    struct asker asker;

    open_asker(&asker, http->address);
    ask(&asker, &request);
    check_end(&asker, TD_OK);
    request.body_bytes_max = 5;
    ask(&asker, &request);
    check_end(&asker, TD_LIMIT);
    assert_true(asker.body.length <= 5);
    close_asker(&asker);
}

static void what_http_does_not_allow_is_not_sent(void **state)
{
    struct test_http *http = *state;
    const struct http_header bad_name = {"X Y", "v"};
    const struct http_header bad_value = {"X", "v\r\nEvil: 1"};
    struct http_client_request request = {.method = HTTP_GET, .path = "/a b"};
    static const char *const origins[] = {"",           "ftp://host/",     "http://",
                                          "http://h:x", "u:p@127.0.0.1:1", "http://h/?q=1",
                                          "a b:80",     "http://h:99999"};
    struct http_client *none;
    struct asker asker;

    open_asker(&asker, http->address);
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_INVALID);
    request.path = "hello";
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_INVALID);
    request.path = "/hello";
    request.headers = &bad_name;
    request.header_count = 1;
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_INVALID);
    request.headers = &bad_value;
    assert_int_equal(http_client_ask(asker.client, &request, &callbacks, &asker), TD_INVALID);
    get(&asker, "/hello"); /* it is still good for others */
    check_end(&asker, TD_OK);
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        struct td_error error = {0};

        if (http_client_open(asker.loop, origins[i], &none, &error) != TD_INVALID)
            fail_msg("\"%s\" was taken for an address", origins[i]);
        assert_true(error.text[0] != '\0');
    }
    close_asker(&asker);
}

/* ---- servers that misbehave ---- */

struct script {
    int fd;
    const char *answer;
    size_t length;
};

/* Takes one connection, reads the head of a request, sends the answer and closes. */
static void *run_script(void *ctx)
{
    struct script *script = ctx;
    int fd = accept(script->fd, NULL, NULL);
    struct td_buf head;

    td_buf_init(&head, 65536);
    test_read_until(fd, &head, "\r\n\r\n");
    td_buf_fini(&head);
    send(fd, script->answer, script->length, MSG_NOSIGNAL);
    close(fd);
    return NULL;
}

static td_status_t end_of(const char *answer, size_t length)
{
    struct script script = {.answer = answer, .length = length};
    char address[NET_ADDRESS_BYTES_MAX];
    struct asker asker;
    pthread_t thread;

    assert_int_equal(net_listen("127.0.0.1:0", false, &script.fd, address, NULL), TD_OK);
    assert_int_equal(fcntl(script.fd, F_SETFL, 0), 0);
    pthread_create(&thread, NULL, run_script, &script);
    open_asker(&asker, address);
    get(&asker, "/");
    close_asker(&asker);
    pthread_join(thread, NULL);
    close(script.fd);
    return asker.end;
}

static td_status_t end_of_text(const char *answer)
{
    return end_of(answer, strlen(answer));
}

static void a_server_that_misbehaves_gives_an_error(void **state)
{
    static char long_head[HTTP_CLIENT_HEAD_BYTES_MAX + 1000];
    size_t used;

    (void)state;
    assert_int_equal(end_of_text(""), TD_PEER_LOST);
    assert_int_equal(end_of_text("SSH-2.0-x\r\n"), TD_INVALID);
    assert_int_equal(end_of_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123"), TD_PEER_LOST);
    assert_int_equal(end_of_text("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n123"), TD_OK);
    assert_int_equal(
        end_of_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n"),
        TD_PEER_LOST);
    assert_int_equal(
        end_of_text("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n123\r\n"),
        TD_PEER_LOST);
    assert_int_equal(end_of_text("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"),
                     TD_OK);
    assert_int_equal(end_of_text("HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.1:1/\r\n"
                                 "Content-Length: 0\r\n\r\n"),
                     TD_OK); /* not followed */
    used = (size_t)snprintf(long_head, sizeof long_head, "HTTP/1.1 200 OK\r\n");
    while (used + 120 < sizeof long_head)
        used += (size_t)snprintf(long_head + used, sizeof long_head - used, "X: %0100d\r\n", 1);
    assert_int_equal(end_of(long_head, used), TD_LIMIT);
}

static void nobody_there_is_said_at_once(void **state)
{
    char address[NET_ADDRESS_BYTES_MAX];
    struct asker asker;
    int fd;

    (void)state;
    assert_int_equal(net_listen("127.0.0.1:0", false, &fd, address, NULL), TD_OK);
    close(fd);
    open_asker(&asker, address);
    get(&asker, "/");
    check_end(&asker, TD_PEER_LOST);
    assert_non_null(strstr(asker.reason, "127.0.0.1"));
    close_asker(&asker);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_short_answer_comes_with_its_head, start, stop),
        cmocka_unit_test_setup_teardown(one_connection_serves_many_requests, start, stop),
        cmocka_unit_test_setup_teardown(a_body_goes_there_and_back, start, stop),
        cmocka_unit_test_setup_teardown(a_stream_of_events_comes_whole, start, stop),
        cmocka_unit_test_setup_teardown(a_stream_that_breaks_off_is_no_answer, start, stop),
        cmocka_unit_test_setup_teardown(a_request_can_be_canceled_anywhere, start, stop),
        cmocka_unit_test_setup_teardown(waits_end_by_themselves, start, stop),
        cmocka_unit_test_setup_teardown(an_answer_over_the_limit_is_cut_off, start, stop),
        cmocka_unit_test_setup_teardown(what_http_does_not_allow_is_not_sent, start, stop),
        cmocka_unit_test(a_server_that_misbehaves_gives_an_error),
        cmocka_unit_test(nobody_there_is_said_at_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
