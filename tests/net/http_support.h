/*
 * http_support.h: an HTTP server for tests, on a loop of its own, with a route for each way to answer.
 *
 *   GET  /hello         a short answer, whole
 *   GET  /none          204
 *   POST /echo          the body back, at most TEST_HTTP_BODY_MAX bytes; X-Query tells the query
 *   GET  /hold          waits for the test to answer (test_http_answer); POST too
 *   GET  /stream?N      N events "data: <number>", streamed one per turn of the loop
 *   GET  /flood?N       N bytes, streamed as fast as the client takes them
 *   GET  /broken        the beginning of a streamed answer, then broken off
 *   GET  /headers       a good header and two that a server must not send
 *   GET  /items/...     any path below; the path as the body
 */
#ifndef TANDEM_TESTS_NET_HTTP_SUPPORT_H
#define TANDEM_TESTS_NET_HTTP_SUPPORT_H

#include "lib/net/address.h"
#include "lib/net/http_server.h"
#include "tests/net/net_support.h"

#define TEST_HTTP_BODY_MAX 65536

struct test_http {
    struct test_loop loop;
    struct http_server *server;
    struct http_server_config config; /* routes and ctx are filled in by test_http_start */
    char address[NET_ADDRESS_BYTES_MAX];
    int descriptors; /* open before the server was */

    /* touched on the loop's thread only */
    struct http_request *held;
    bool refuse_all; /* admit answers 401 */
    size_t backlog_top;

    struct test_event asked;   /* /hold was asked */
    struct test_event gone;    /* on_gone came, with gone_why */
    struct test_event drained; /* after test_http_drain */
    td_status_t gone_why;
};

/* The defaults, with limits that a test may change before it starts the server. */
void test_http_init(struct test_http *http);
void test_http_start(struct test_http *http);

/* Closes the server before the end; test_http_stop is still needed. */
void test_http_close(struct test_http *http);

/* Checks that no descriptor has leaked. */
void test_http_stop(struct test_http *http);

/* Answers what is held with 200 and this text. Waits until it is done. */
void test_http_answer(struct test_http *http, const char *text);

void test_http_drain(struct test_http *http);

struct http_server_counts test_http_counts(struct test_http *http);

/* Waits until as many connections are open, or requests in flight (their heads are complete). */
void test_http_wait_connections(struct test_http *http, uint32_t count);
void test_http_wait_requests(struct test_http *http, uint32_t count);

#endif
