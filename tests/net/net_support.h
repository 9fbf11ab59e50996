/*
 * net_support.h: for the tests of lib/net: a loop on a thread of its own, events that a test waits
 * for, and plain blocking clients that see exactly the bytes a server sends.
 */
#ifndef TANDEM_TESTS_NET_NET_SUPPORT_H
#define TANDEM_TESTS_NET_NET_SUPPORT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

#include "lib/base/buf.h"
#include "lib/net/loop.h"
#include "tests/support/support.h"

#define TEST_WAIT_SECONDS 60 /* only a broken test ever waits as long */

/* Counts that something happened; waiting takes one count off and fails the test after a minute. */
struct test_event {
    sem_t count;
};

void test_event_init(struct test_event *event);
void test_event_fini(struct test_event *event);
void test_event_post(struct test_event *event);
void test_event_wait(struct test_event *event);
/* Whether there is a count now; takes it off. */
bool test_event_try(struct test_event *event);

struct test_loop {
    struct net_loop *loop;
    struct net_wake *wake;
    pthread_t thread;
    struct test_event called;
    net_fn fn;
    void *ctx;
};

void test_loop_start(struct test_loop *test);

/* Runs fn(ctx) on the loop's thread and waits for it. */
void test_loop_call(struct test_loop *test, net_fn fn, void *ctx);

/* Everything on the loop has been closed by then. */
void test_loop_stop(struct test_loop *test);

/* ---- blocking TCP clients ---- */

/* Connects to "127.0.0.1:port". Reads give up after a minute. */
int test_connect(const char *address);

/* The same with a socket that is there already. */
void test_connect_socket(int fd, const char *address);

/* 0, or the errno of a connection that did not come about. */
int test_try_connect(const char *address);

void test_send(int fd, const void *bytes, size_t length);
void test_send_text(int fd, const char *text);

/* Reads until the text has come (it is included). Fails the test at the end of the stream. */
void test_read_until(int fd, struct td_buf *out, const char *text);

/* Reads to the end of the stream. True: closed in order; false: reset. */
bool test_read_all(int fd, struct td_buf *out);

/* Reads one answer with Content-Length; the body starts at the returned offset. */
size_t test_read_answer(int fd, struct td_buf *out);

/* Resident memory of this process in KiB. */
long test_resident_kib(void);

/* Open descriptors of this process. */
int test_open_descriptors(void);

#endif
