/* http_answers.c: see http_answers.h. */
#include "tests/net/http_answers.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int test_server_init(void **state)
{
    struct test_http *http = calloc(1, sizeof *http);

    test_http_init(http);
    *state = http;
    return 0;
}

int test_server_start(void **state)
{
    test_server_init(state);
    test_http_start(*state);
    return 0;
}

int test_server_stop(void **state)
{
    test_http_stop(*state);
    free(*state);
    return 0;
}

void test_answer_read(int fd, struct test_answer *answer)
{
    td_buf_clear(&answer->text);
    answer->body = test_read_answer(fd, &answer->text);
    assert_int_equal(sscanf(answer->text.data, "HTTP/1.1 %d ", &answer->status), 1);
}

void test_answer_open(struct test_answer *answer)
{
    td_buf_init(&answer->text, (size_t)1 << 28);
}

void test_answer_close(struct test_answer *answer)
{
    td_buf_fini(&answer->text);
}

void test_answer_check(const struct test_answer *answer, int status, const char *body)
{
    if (answer->status != status || strcmp(answer->text.data + answer->body, body) != 0)
        fail_msg("expected %d \"%s\", got:\n%s", status, body, answer->text.data);
}

bool test_answer_has(const struct test_answer *answer, const char *text)
{
    return strstr(answer->text.data, text) != NULL;
}

void test_answer_check_error(const struct test_answer *answer, int status, const char *reason,
                             bool closes)
{
    if (answer->status != status || !test_answer_has(answer, reason) ||
        test_answer_has(answer, "Connection: close\r\n") != closes)
        fail_msg("expected %d \"%s\" (closing: %d), got:\n%s", status, reason, closes,
                 answer->text.data);
    assert_true(test_answer_has(answer, "Content-Type: application/json\r\n"));
}

void test_check_closed(int fd)
{
    struct td_buf rest;

    td_buf_init(&rest, 65536);
    assert_true(test_read_all(fd, &rest));
    assert_int_equal(rest.length, 0);
    td_buf_fini(&rest);
    close(fd);
}

void test_check_refusal(struct test_http *http, const char *request, int status, const char *reason)
{
    int fd = test_connect(http->address);
    struct test_answer answer;

    test_answer_open(&answer);
    test_send_text(fd, request);
    test_answer_read(fd, &answer);
    test_answer_check_error(&answer, status, reason, true);
    test_check_closed(fd);
    test_answer_close(&answer);
}

void test_ask(int fd, const char *request, struct test_answer *answer)
{
    test_send_text(fd, request);
    test_answer_read(fd, answer);
}

void test_send_body(int fd, const char *head, size_t length)
{
    char *body = malloc(length);

    assert_non_null(body);
    memset(body, 'b', length);
    test_send_text(fd, head);
    test_send(fd, body, length);
    free(body);
}
