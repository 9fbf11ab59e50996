/*
 * http_answers.h: answers as a client sees them, for tests of the HTTP server: plain sockets, so that a test sees exactly
 * the bytes. Also the setup of a cmocka test with a server of its own, which ends with as many open descriptors as it began
 * with (test_http_stop).
 */
#ifndef TANDEM_TESTS_NET_HTTP_ANSWERS_H
#define TANDEM_TESTS_NET_HTTP_ANSWERS_H

#include "tests/net/http_support.h"

#define HOST      "Host: test\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

/* *state is a struct test_http: initialized, or started too. */
int test_server_init(void **state);
int test_server_start(void **state);
int test_server_stop(void **state);

/* A test whose server runs; and one that changes limits first and starts it itself. */
#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, test_server_start, test_server_stop)
#define OWN_SERVER(test)  cmocka_unit_test_setup_teardown(test, test_server_init, test_server_stop)

struct test_answer {
    struct td_buf text;
    int status;
    size_t body; /* offset */
};

void test_answer_open(struct test_answer *answer);
void test_answer_close(struct test_answer *answer);

/* Reads one answer with Content-Length into an open or used answer. */
void test_answer_read(int fd, struct test_answer *answer);

/* Sends a head, and a body of so many bytes. */
void test_send_body(int fd, const char *head, size_t length);

/* Sends a request and reads the answer. */
void test_ask(int fd, const char *request, struct test_answer *answer);

void test_answer_check(const struct test_answer *answer, int status, const char *body);
bool test_answer_has(const struct test_answer *answer, const char *text);

/* The server's own error: status, the hook's JSON, and how the connection goes on. */
void test_answer_check_error(const struct test_answer *answer, int status, const char *reason,
                             bool closes);

/* Nothing more comes, and the connection ends well. Closes fd. */
void test_check_closed(int fd);

/* One request on a fresh connection whose answer is an error of the server. */
void test_check_refusal(struct test_http *http, const char *request, int status,
                        const char *reason);

#endif
