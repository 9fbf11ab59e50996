/* http_support.c: see http_support.h. */
#include "tests/net/http_support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FLOOD_PIECE 16000

static void hello(void *ctx, struct http_request *request)
{
    static const struct http_header headers[] = {{"Content-Type", "text/plain"},
                                                 {"X-Kind", "short"}};

    (void)ctx;
    http_respond(request, &(struct http_response){.status = 200,
                                                  .headers = headers,
                                                  .header_count = 2,
                                                  .body = "hello\n",
                                                  .body_length = 6});
}

static void none(void *ctx, struct http_request *request)
{
    (void)ctx;
    http_respond(request, &(struct http_response){.status = 204});
}

static void echo(void *ctx, struct http_request *request)
{
    const struct http_header headers[] = {{"X-Query", http_request_query(request)},
                                          {"X-Peer", http_request_peer(request)}};
    size_t length;
    const char *body = http_request_body(request, &length);

    (void)ctx;
    assert_int_equal(body[length], '\0');
    http_respond(request, &(struct http_response){.status = 200,
                                                  .headers = headers,
                                                  .header_count = 2,
                                                  .body = body,
                                                  .body_length = length});
}

static void items(void *ctx, struct http_request *request)
{
    const char *path = http_request_path(request);

    (void)ctx;
    http_respond(request,
                 &(struct http_response){.status = 200, .body = path, .body_length = strlen(path)});
}

static void odd_headers(void *ctx, struct http_request *request)
{
    static const struct http_header headers[] = {
        {"X-Good", "1"}, {"X-Split", "a\r\nX-Evil: 1"}, {"X Space", "b"}};

    (void)ctx;
    http_respond(request,
                 &(struct http_response){.status = 200, .headers = headers, .header_count = 3});
}

/* ---- held requests ---- */

static void held_gone(void *ctx, struct http_request *request, td_status_t why)
{
    struct test_http *http = ctx;

    assert_ptr_equal(request, http->held);
    http->held = NULL;
    http->gone_why = why;
    test_event_post(&http->gone);
}

static void hold_request(void *ctx, struct http_request *request)
{
    static const struct http_request_callbacks callbacks = {.on_gone = held_gone};
    struct test_http *http = ctx;

    assert_null(http->held);
    http->held = request;
    http_request_bind(request, &callbacks, http);
    test_event_post(&http->asked);
}

struct answer {
    struct test_http *http;
    const char *text;
};

static void answer_held(void *ctx)
{
    struct answer *answer = ctx;
    struct http_request *request = answer->http->held;

    assert_non_null(request);
    answer->http->held = NULL;
    http_respond(request, &(struct http_response){.status = 200,
                                                  .body = answer->text,
                                                  .body_length = strlen(answer->text)});
}

void test_http_answer(struct test_http *http, const char *text)
{
    test_loop_call(&http->loop, answer_held, &(struct answer){http, text});
}

/* ---- streamed answers ---- */

struct stream {
    struct test_http *http;
    struct http_request *request;
    struct net_timer timer;
    uint64_t next;
    uint64_t count;
};

static void end_stream(struct stream *stream)
{
    net_timer_cancel(&stream->timer);
    free(stream);
}

static void stream_gone(void *ctx, struct http_request *request, td_status_t why)
{
    struct stream *stream = ctx;

    (void)request;
    stream->http->gone_why = why;
    test_event_post(&stream->http->gone);
    end_stream(stream);
}

static struct stream *begin_stream(struct test_http *http, struct http_request *request,
                                   const struct http_request_callbacks *callbacks, net_timer_fn fn)
{
    static const struct http_header headers[] = {{"Content-Type", "text/event-stream"}};
    struct stream *stream = calloc(1, sizeof *stream);

    assert_non_null(stream);
    stream->http = http;
    stream->request = request;
    stream->count = strtoull(http_request_query(request), NULL, 10);
    net_timer_init(&stream->timer, http->loop.loop, fn);
    http_request_bind(request, callbacks, stream);
    http_stream_begin(
        request, &(struct http_response){.status = 200, .headers = headers, .header_count = 1});
    return stream;
}

static void stream_event(struct net_timer *timer, uint64_t now_ns)
{
    struct stream *stream = td_container_of(timer, struct stream, timer);
    char text[64];
    int length;

    (void)now_ns;
    if (stream->next == stream->count) {
        http_stream_end(stream->request);
        end_stream(stream);
        return;
    }
    length = snprintf(text, sizeof text, "data: %" PRIu64 "\n\n", stream->next++);
    assert_int_equal(http_stream_write(stream->request, text, (size_t)length), TD_OK);
    net_timer_set_in(&stream->timer, 0);
}

static void stream_events(void *ctx, struct http_request *request)
{
    static const struct http_request_callbacks callbacks = {.on_gone = stream_gone};

    stream_event(&begin_stream(ctx, request, &callbacks, stream_event)->timer, 0);
}

static void pour(struct stream *stream)
{
    static char piece[FLOOD_PIECE];

    while (stream->next < stream->count) {
        uint64_t left = stream->count - stream->next;
        size_t length = left < sizeof piece ? (size_t)left : sizeof piece;
        td_status_t status;

        memset(piece, 'a' + (int)(stream->next / FLOOD_PIECE % 26), length);
        status = http_stream_write(stream->request, piece, length);
        if (http_stream_backlog(stream->request) > stream->http->backlog_top)
            stream->http->backlog_top = http_stream_backlog(stream->request);
        if (status == TD_AGAIN)
            return;
        assert_int_equal(status, TD_OK);
        stream->next += length;
    }
    http_stream_end(stream->request);
    end_stream(stream);
}

static void flood_drain(void *ctx, struct http_request *request)
{
    (void)request;
    pour(ctx);
}

static void unused_timer(struct net_timer *timer, uint64_t now_ns)
{
    (void)timer;
    (void)now_ns;
}

static void flood(void *ctx, struct http_request *request)
{
    static const struct http_request_callbacks callbacks = {.on_drain = flood_drain,
                                                            .on_gone = stream_gone};

    pour(begin_stream(ctx, request, &callbacks, unused_timer));
}

static void broken(void *ctx, struct http_request *request)
{
    (void)ctx;
    http_stream_begin(request, &(struct http_response){.status = 200});
    assert_int_equal(http_stream_write(request, "the beginning", 13), TD_OK);
    http_stream_abort(request);
}

/* ---- the server ---- */

static const struct http_route routes[] = {
    {"/hello", HTTP_METHOD_BIT(HTTP_GET), 0, hello},
    {"/none", HTTP_METHOD_BIT(HTTP_GET) | HTTP_METHOD_BIT(HTTP_DELETE), 0, none},
    {"/echo", HTTP_METHOD_BIT(HTTP_POST), TEST_HTTP_BODY_MAX, echo},
    {"/hold", HTTP_METHOD_BIT(HTTP_GET) | HTTP_METHOD_BIT(HTTP_POST), 1024, hold_request},
    {"/stream", HTTP_METHOD_BIT(HTTP_GET), 0, stream_events},
    {"/flood", HTTP_METHOD_BIT(HTTP_GET), 0, flood},
    {"/broken", HTTP_METHOD_BIT(HTTP_GET), 0, broken},
    {"/headers", HTTP_METHOD_BIT(HTTP_GET), 0, odd_headers},
    {"/items/*", HTTP_METHOD_BIT(HTTP_GET), 0, items},
};

static bool admit(void *ctx, struct http_request *request)
{
    struct test_http *http = ctx;

    if (!http->refuse_all)
        return true;
    http_respond(request, &(struct http_response){.status = 401, .body = "no", .body_length = 2});
    return false;
}

static const char *error_body(void *ctx, int status, const char *reason, struct td_buf *out)
{
    (void)ctx;
    td_buf_printf(out, "{\"status\":%d,\"reason\":\"%s\"}", status, reason);
    return "application/json";
}

/* libuv keeps a pipe for signals from the first loop on, which is no leak. */
static void open_what_stays(void)
{
    struct net_loop *loop;

    assert_int_equal(net_loop_open(&loop), TD_OK);
    net_loop_close(loop);
}

void test_http_init(struct test_http *http)
{
    open_what_stays();
    *http = (struct test_http){.config = {.address = "127.0.0.1:0",
                                          .routes = routes,
                                          .route_count = sizeof routes / sizeof routes[0],
                                          .admit = admit,
                                          .error_body = error_body}};
    http->config.ctx = http;
    http_limits_init(&http->config.limits);
    http->descriptors = test_open_descriptors();
}

static void open_server(void *ctx)
{
    struct test_http *http = ctx;
    struct td_error error = {0};

    if (http_server_open(http->loop.loop, &http->config, &http->server, &error) != TD_OK)
        fail_msg("%s", error.text);
    strcpy(http->address, http_server_address(http->server));
}

void test_http_start(struct test_http *http)
{
    test_event_init(&http->asked);
    test_event_init(&http->gone);
    test_event_init(&http->drained);
    test_loop_start(&http->loop);
    test_loop_call(&http->loop, open_server, http);
}

static void close_server(void *ctx)
{
    struct test_http *http = ctx;

    http_server_close(http->server);
    http->server = NULL;
}

void test_http_close(struct test_http *http)
{
    test_loop_call(&http->loop, close_server, http);
}

void test_http_stop(struct test_http *http)
{
    test_http_close(http);
    test_loop_stop(&http->loop);
    test_event_fini(&http->asked);
    test_event_fini(&http->gone);
    test_event_fini(&http->drained);
    assert_int_equal(test_open_descriptors(), http->descriptors);
}

static void on_drained(void *ctx)
{
    struct test_http *http = ctx;

    test_event_post(&http->drained);
}

static void drain_server(void *ctx)
{
    struct test_http *http = ctx;

    http_server_drain(http->server, on_drained, http);
}

void test_http_drain(struct test_http *http)
{
    test_loop_call(&http->loop, drain_server, http);
}

struct counting {
    struct test_http *http;
    struct http_server_counts counts;
};

static void count(void *ctx)
{
    struct counting *counting = ctx;

    counting->counts = http_server_counts(counting->http->server);
}

struct http_server_counts test_http_counts(struct test_http *http)
{
    struct counting counting = {.http = http};

    test_loop_call(&http->loop, count, &counting);
    return counting.counts;
}

typedef uint32_t (*count_fn)(struct test_http *http);

static uint32_t connections_of(struct test_http *http)
{
    return test_http_counts(http).connections;
}

static uint32_t requests_of(struct test_http *http)
{
    return test_http_counts(http).requests;
}

static void wait_count(struct test_http *http, count_fn counted, uint32_t wanted, const char *what)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    for (int i = 0; i < TEST_WAIT_SECONDS * 1000; i++) {
        if (counted(http) == wanted)
            return;
        nanosleep(&moment, NULL);
    }
    fail_msg("there are %u %s instead of %u", counted(http), what, wanted);
}

void test_http_wait_connections(struct test_http *http, uint32_t wanted)
{
    wait_count(http, connections_of, wanted, "connections");
}

void test_http_wait_requests(struct test_http *http, uint32_t wanted)
{
    wait_count(http, requests_of, wanted, "requests");
}
