/* net_support.c: see net_support.h. */
#include "tests/net/net_support.h"

#include <dirent.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "lib/net/address.h"

void test_event_init(struct test_event *event)
{
    assert_int_equal(sem_init(&event->count, 0, 0), 0);
}

void test_event_fini(struct test_event *event)
{
    sem_destroy(&event->count);
}

void test_event_post(struct test_event *event)
{
    sem_post(&event->count);
}

void test_event_wait(struct test_event *event)
{
    struct timespec until;

    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += TEST_WAIT_SECONDS;
    while (sem_timedwait(&event->count, &until) != 0)
        if (errno != EINTR)
            fail_msg("an event did not come: %s", strerror(errno));
}

bool test_event_try(struct test_event *event)
{
    return sem_trywait(&event->count) == 0;
}

static void run_call(void *ctx)
{
    struct test_loop *test = ctx;

    test->fn(test->ctx);
    test_event_post(&test->called);
}

static void *run_loop(void *ctx)
{
    struct test_loop *test = ctx;

    net_loop_run(test->loop);
    net_wake_close(test->wake);
    net_loop_close(test->loop);
    return NULL;
}

void test_loop_start(struct test_loop *test)
{
    test_event_init(&test->called);
    assert_int_equal(net_loop_open(&test->loop), TD_OK);
    assert_int_equal(net_wake_open(test->loop, run_call, test, &test->wake), TD_OK);
    assert_int_equal(pthread_create(&test->thread, NULL, run_loop, test), 0);
}

void test_loop_call(struct test_loop *test, net_fn fn, void *ctx)
{
    test->fn = fn;
    test->ctx = ctx;
    net_wake_send(test->wake);
    test_event_wait(&test->called);
}

static void stop_loop(void *ctx)
{
    net_loop_stop(ctx);
}

void test_loop_stop(struct test_loop *test)
{
    test_loop_call(test, stop_loop, test->loop);
    pthread_join(test->thread, NULL);
    test_event_fini(&test->called);
}

/* The socket address of an IPv4 literal with a port. */
static struct sockaddr_in socket_address(const char *address)
{
    struct sockaddr_in name = {.sin_family = AF_INET};
    char host[NET_HOST_BYTES_MAX];
    uint16_t port;

    assert_int_equal(net_address_split(address, host, &port, NULL), TD_OK);
    assert_int_equal(inet_pton(AF_INET, host, &name.sin_addr), 1);
    name.sin_port = htons(port);
    return name;
}

void test_connect_socket(int fd, const char *address)
{
    const struct timeval patience = {.tv_sec = TEST_WAIT_SECONDS};
    struct sockaddr_in name = socket_address(address);
    const int on = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* each send is seen by itself */
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (connect(fd, (struct sockaddr *)&name, sizeof name) != 0)
        fail_msg("cannot connect to %s: %s", address, strerror(errno));
}

int test_connect(const char *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    test_connect_socket(fd, address);
    return fd;
}

int test_try_connect(const char *address)
{
    struct sockaddr_in name = socket_address(address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = connect(fd, (struct sockaddr *)&name, sizeof name) == 0 ? 0 : errno;

    close(fd);
    return error;
}

void test_send(int fd, const void *bytes, size_t length)
{
    const char *next = bytes;

    while (length > 0) {
        ssize_t sent = send(fd, next, length, MSG_NOSIGNAL);

        if (sent < 0)
            fail_msg("cannot send: %s", strerror(errno));
        next += sent;
        length -= (size_t)sent;
    }
}

void test_send_text(int fd, const char *text)
{
    test_send(fd, text, strlen(text));
}

/* One read. 1: something came; 0: end; -1: reset. */
static int read_some(int fd, struct td_buf *out)
{
    char bytes[65536];
    ssize_t got = recv(fd, bytes, sizeof bytes, 0);

    if (got < 0 && errno == EAGAIN)
        fail_msg("the server says nothing");
    if (got > 0)
        td_buf_append(out, bytes, (size_t)got);
    return got > 0 ? 1 : (int)got;
}

void test_read_until(int fd, struct td_buf *out, const char *text)
{
    size_t length = strlen(text);
    size_t from = 0; /* what is before it has been searched */

    while (out->length < from + length ||
           memmem(out->data + from, out->length - from, text, length) == NULL) {
        from = out->length >= length ? out->length - length + 1 : 0;
        if (read_some(fd, out) <= 0)
            fail_msg("the stream ended before '%s': %s", text,
                     out->length > 0 ? out->data : "(nothing)");
    }
}

bool test_read_all(int fd, struct td_buf *out)
{
    int got;

    while ((got = read_some(fd, out)) > 0)
        continue;
    return got == 0;
}

size_t test_read_answer(int fd, struct td_buf *out)
{
    const char *length_field;
    size_t head;
    size_t length;

    test_read_until(fd, out, "\r\n\r\n");
    head = (size_t)((char *)memmem(out->data, out->length, "\r\n\r\n", 4) + 4 - out->data);
    length_field = strstr(out->data, "Content-Length: ");
    if (length_field == NULL || (size_t)(length_field - out->data) > head)
        fail_msg("the answer has no Content-Length: %s", out->data);
    length = strtoul(length_field + strlen("Content-Length: "), NULL, 10);
    while (out->length < head + length)
        if (read_some(fd, out) <= 0)
            fail_msg("the stream ended inside an answer: %s", out->data);
    return head;
}

long test_resident_kib(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long size;
    long resident;

    assert_non_null(file);
    assert_int_equal(fscanf(file, "%ld %ld", &size, &resident), 2);
    fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

int test_open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}
