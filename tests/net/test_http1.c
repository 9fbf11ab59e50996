/*
 * test_http1.c: the HTTP/1.1 request parser: what it accepts, what it refuses and with which status,
 * and each limit at its edge. That splits do not matter is shown here for each case, and by
 * fuzz_http1 for all others.
 */
#include <stdio.h>
#include <string.h>

#include "lib/net/http1.h"
#include "tests/support/support.h"

#define GET_LINE "GET / HTTP/1.1\r\n"
#define HOST     "Host: a\r\n"
#define POST     "POST / HTTP/1.1\r\n" HOST
#define CHUNKED  POST "Transfer-Encoding: chunked\r\n\r\n"

#define TEXT_MAX 65536

/* What came out of one request, as text: "GET /path?query [name=value]... <body> end" */
struct outcome {
    struct td_buf text;
    int error_status;
    const char *error_text;
    bool complete;
    bool keep_alive;
    bool expects_continue;
};

static void write_head(struct td_buf *out, const struct http1_parser *parser)
{
    td_buf_printf(out, "%s %s", http_method_name(parser->method), http1_text(parser, parser->path));
    if (http1_text(parser, parser->query)[0] != '\0')
        td_buf_printf(out, " ?%s", http1_text(parser, parser->query));
    for (size_t i = 0; i < parser->field_count; i++)
        td_buf_printf(out, " %s=%s", http1_text(parser, parser->fields[i].name),
                      http1_text(parser, parser->fields[i].value));
    td_buf_append_text(out, " <");
}

/* Takes the events of one piece. Returns the bytes used. */
static size_t feed(struct http1_parser *parser, struct outcome *out, const char *bytes,
                   size_t length)
{
    size_t used = 0;

    for (;;) {
        struct http1_step step = http1_feed(parser, bytes + used, length - used);

        used += step.used;
        if (step.event == HTTP1_HEAD)
            write_head(&out->text, parser);
        else if (step.event == HTTP1_BODY)
            td_buf_append(&out->text, step.body, step.body_length);
        else
            break;
    }
    return used;
}

static void finish(struct http1_parser *parser, struct outcome *out)
{
    struct http1_step step = http1_feed(parser, "", 0);

    out->complete = step.event == HTTP1_END;
    out->error_status = parser->error_status;
    out->error_text = parser->error_text;
    out->keep_alive = parser->keep_alive;
    out->expects_continue = parser->expects_continue;
    if (out->complete)
        td_buf_append_text(&out->text, "> end");
}

/* Parses in pieces of `first` bytes and the rest; piece by piece of one byte if first is 0. */
static void parse_split(const char *text, size_t length, size_t first, struct outcome *out)
{
    struct http1_parser parser;
    size_t used = 0;

    *out = (struct outcome){0};
    td_buf_init(&out->text, TEXT_MAX * 2);
    http1_init(&parser);
    for (size_t i = 0; first == 0 && i < length && used == i; i++)
        used += feed(&parser, out, text + i, 1);
    if (first > 0)
        used = feed(&parser, out, text, first);
    if (first > 0 && used == first)
        feed(&parser, out, text + first, length - first);
    finish(&parser, out);
    http1_fini(&parser);
}

/* Parses in many ways, which must agree; the outcome is the caller's. */
static void parse(const char *text, struct outcome *out)
{
    size_t length = strlen(text);
    size_t stride = length > 2000 ? 997 : 1;

    parse_split(text, length, length, out);
    for (size_t first = 0; first < length; first += stride) {
        struct outcome other;

        parse_split(text, length, first, &other);
        assert_int_equal(other.error_status, out->error_status);
        assert_int_equal(other.complete, out->complete);
        assert_int_equal(other.text.length, out->text.length);
        if (out->text.length > 0)
            assert_string_equal(other.text.data, out->text.data);
        td_buf_fini(&other.text);
    }
}

static void check_accepted(const char *text, const char *expected)
{
    struct outcome out;

    parse(text, &out);
    if (!out.complete)
        fail_msg("refused (%d %s): %s", out.error_status,
                 out.error_text != NULL ? out.error_text : "not complete", text);
    assert_string_equal(out.text.data, expected);
    td_buf_fini(&out.text);
}

static void check_refused(const char *text, int status, const char *reason)
{
    struct outcome out;

    parse(text, &out);
    if (out.error_status != status || strstr(out.error_text, reason) == NULL)
        fail_msg("%d \"%s\" instead of %d \"%s\": %s", out.error_status,
                 out.error_text != NULL ? out.error_text : "", status, reason, text);
    assert_false(out.complete);
    td_buf_fini(&out.text);
}

static void well_formed_requests_are_read(void **state)
{
    (void)state;
    check_accepted(GET_LINE HOST "\r\n", "GET / host=a <> end");
    check_accepted("\r\n" GET_LINE HOST "\r\n", "GET / host=a <> end");
    check_accepted("GET / HTTP/1.0\r\n\r\n", "GET / <> end");
    check_accepted("GET /a/b%20c?x=1&y=%3f? HTTP/1.1\r\n" HOST "\r\n",
                   "GET /a/b%20c ?x=1&y=%3f? host=a <> end");
    check_accepted("HEAD /? HTTP/1.1\r\n" HOST "\r\n", "HEAD / host=a <> end");
    check_accepted("DELETE / HTTP/1.1\r\nHOST: [::1]:80\r\nX-Y:\r\nZ: \t a  b \t\r\n\r\n",
                   "DELETE / host=[::1]:80 x-y= z=a  b <> end");
    check_accepted(POST "Content-Length: 5\r\n\r\nhello",
                   "POST / host=a content-length=5 <hello> end");
    check_accepted(POST "Content-Length: 0\r\n\r\n", "POST / host=a content-length=0 <> end");
    check_accepted(POST "Content-Length: 007\r\n\r\n1234567",
                   "POST / host=a content-length=007 <1234567> end");
    check_accepted(POST "\r\n", "POST / host=a <> end"); /* no body */
    check_accepted(CHUNKED "5\r\nhello\r\n00a;x=\"y\"\r\n, chunked!\r\n0\r\n\r\n",
                   "POST / host=a transfer-encoding=chunked <hello, chunked!> end");
    check_accepted(CHUNKED "0\r\nA: b\r\nC:\r\n\r\n",
                   "POST / host=a transfer-encoding=chunked <> end");
    check_accepted(POST "Transfer-Encoding: CHUNKED\r\n\r\n1\r\nx\r\n0\r\n\r\n",
                   "POST / host=a transfer-encoding=CHUNKED <x> end");
    check_accepted(POST "X: \xc3\xa9\r\n\r\n", "POST / host=a x=\xc3\xa9 <> end");
}

static void malformed_request_lines_are_refused(void **state)
{
    (void)state;
    check_refused("GET\r\n", 400, "no target");
    check_refused("GET /\r\n", 400, "no HTTP version");
    check_refused(" GET / HTTP/1.1\r\n", 400, "no valid method");
    check_refused("G(T / HTTP/1.1\r\n", 400, "no valid method");
    check_refused("TRACE / HTTP/1.1\r\n", 501, "not supported");
    check_refused("get / HTTP/1.1\r\n", 501, "not supported");
    check_refused("GET a HTTP/1.1\r\n", 400, "does not start with '/'");
    check_refused("GET http://a/ HTTP/1.1\r\n", 400, "does not start with '/'");
    check_refused("OPTIONS * HTTP/1.1\r\n", 400, "does not start with '/'");
    check_refused("GET /a\"b HTTP/1.1\r\n", 400, "not allowed");
    check_refused("GET /a%2 HTTP/1.1\r\n", 400, "not allowed");
    check_refused("GET /a#b HTTP/1.1\r\n", 400, "not allowed");
    check_refused("GET /\xc3\xa9 HTTP/1.1\r\n", 400, "not allowed");
    check_refused("GET  / HTTP/1.1\r\n", 400, "HTTP version");
    check_refused("GET / HTTP/1.1 \r\n", 400, "HTTP version");
    check_refused("GET / HTTP/1.x\r\n", 400, "HTTP version");
    check_refused("GET / http/1.1\r\n", 400, "HTTP version");
    check_refused("GET / HTTP/2.0\r\n", 505, "1.0 and HTTP/1.1");
    check_refused("GET / HTTP/1.2\r\n", 505, "1.0 and HTTP/1.1");
    check_refused("\r\n\r\n" GET_LINE, 400, "blank lines");
}

static void malformed_fields_are_refused(void **state)
{
    (void)state;
    check_refused(GET_LINE HOST "X : a\r\n", 400, "no valid name");
    check_refused(GET_LINE HOST ": a\r\n", 400, "no valid name");
    check_refused(GET_LINE HOST "nothing\r\n", 400, "no valid name");
    check_refused(GET_LINE HOST "X: a\r\n b\r\n", 400, "folded");
    check_refused(GET_LINE " X: a\r\n", 400, "folded");
    check_refused(GET_LINE HOST "X: a\x01\r\n", 400, "control character");
    check_refused(GET_LINE HOST "X: a\x7f\r\n", 400, "control character");
    check_refused("GET / HTTP/1.1\n", 400, "bare LF");
    check_refused(GET_LINE "Host: a\n\n", 400, "bare LF");
    check_refused(GET_LINE "X: a\rb\r\n", 400, "CR inside");
    check_refused(GET_LINE "\r\n", 400, "no Host");
    check_refused(GET_LINE "Host:\r\n", 400, "Host field is empty");
    check_refused(GET_LINE HOST HOST "\r\n", 400, "more than one Host");
    check_refused(GET_LINE "Host: a/b\r\n", 400, "Host field has a character");
    check_refused(GET_LINE "Host: a, b\r\n", 400, "Host field has a character");
}

static void ambiguous_lengths_are_refused(void **state)
{
    (void)state;
    check_refused(POST "Content-Length: 1\r\nContent-Length: 1\r\n", 400, "more than one Content");
    check_refused(POST "Content-Length: 1, 1\r\n", 400, "not a number");
    check_refused(POST "Content-Length: +1\r\n", 400, "not a number");
    check_refused(POST "Content-Length: -1\r\n", 400, "not a number");
    check_refused(POST "Content-Length: 0x1\r\n", 400, "not a number");
    check_refused(POST "Content-Length:\r\n", 400, "not a number");
    check_refused(POST "Content-Length: 1000000000000000\r\n", 400, "not a number");
    check_refused(POST "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "both");
    check_refused(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400,
                  "more than one Transfer");
    check_refused(POST "Transfer-Encoding: gzip, chunked\r\n", 501, "only transfer coding");
    check_refused(POST "Transfer-Encoding: identity\r\n", 501, "only transfer coding");
    check_refused("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0 has no");
}

static void malformed_chunks_are_refused(void **state)
{
    (void)state;
    check_refused(CHUNKED "\r\n", 400, "not hexadecimal");
    check_refused(CHUNKED "g\r\n", 400, "not hexadecimal");
    check_refused(CHUNKED "0x1\r\n", 400, "not hexadecimal");
    check_refused(CHUNKED " 1\r\n", 400, "not hexadecimal");
    check_refused(CHUNKED "1 \r\n", 400, "not hexadecimal");
    check_refused(CHUNKED "-1\r\n", 400, "not hexadecimal");
    check_refused(CHUNKED "1\nx", 400, "not hexadecimal");
    check_refused(CHUNKED "1\rx", 400, "CR and LF");
    check_refused(CHUNKED "0000000000001\r\n", 400, "too long");
    check_refused(CHUNKED "1\r\nxy\r\n", 400, "CR and LF");
    check_refused(CHUNKED "1\r\nx\n", 400, "CR and LF");
    check_refused(CHUNKED "1;a\x01\r\n", 400, "control character");
    check_refused(CHUNKED "0\r\n X\r\n", 400, "trailer is malformed");
    check_refused(CHUNKED "0\r\nX\r\n", 400, "trailer is malformed");
    check_refused(CHUNKED "0\r\n: a\r\n", 400, "trailer is malformed");
    check_refused(CHUNKED "0\r\n\rX", 400, "CR and LF");
}

static void check_connection(const char *text, bool keep_alive, bool expects_continue)
{
    struct outcome out;

    parse(text, &out);
    assert_int_equal(out.keep_alive, keep_alive);
    assert_int_equal(out.expects_continue, expects_continue);
    assert_int_equal(out.error_status, 0);
    td_buf_fini(&out.text);
}

static void the_fields_of_the_connection_count(void **state)
{
    (void)state;
    check_connection(GET_LINE HOST "\r\n", true, false);
    check_connection(GET_LINE HOST "Connection: close\r\n\r\n", false, false);
    check_connection(GET_LINE HOST "Connection: x , CLOSE\r\n\r\n", false, false);
    check_connection(GET_LINE HOST "Connection: closed\r\n\r\n", true, false);
    check_connection(GET_LINE HOST "Connection: keep-alive\r\nConnection: close\r\n\r\n", false,
                     false);
    check_connection("GET / HTTP/1.0\r\n\r\n", false, false);
    check_connection("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false);
    check_connection(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\nx", true, true);
    check_connection("POST / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n", false, false);
    check_refused(POST "Expect: coffee\r\n", 417, "100-continue");
}

/* ---- limits ---- */

/* Writes prefix, count times c, suffix. */
static char *filled(char *out, const char *prefix, char c, size_t count, const char *suffix)
{
    size_t length = strlen(prefix);

    assert_true(length + count + strlen(suffix) < TEXT_MAX);
    memcpy(out, prefix, length);
    memset(out + length, c, count);
    strcpy(out + length + count, suffix);
    return out;
}

static void check_fits(const char *text, bool fits, int status)
{
    struct outcome out;

    parse(text, &out);
    assert_int_equal(out.complete, fits);
    assert_int_equal(out.error_status, fits ? 0 : status);
    td_buf_fini(&out.text);
}

static void every_limit_holds_to_the_byte(void **state)
{
    static char text[TEXT_MAX];
    size_t room = HTTP1_HEAD_BYTES_MAX - strlen(GET_LINE HOST "X: \r\n\r\n");
    size_t target = HTTP1_HEAD_BYTES_MAX - strlen("GET / HTTP/1.1\r\n" HOST "\r\n");
    const char *chunk_end = "\r\nx\r\n0\r\n\r\n";

    (void)state;
    check_fits(filled(text, GET_LINE HOST "X: ", 'x', room, "\r\n\r\n"), true, 0);
    check_fits(filled(text, GET_LINE HOST "X: ", 'x', room + 1, "\r\n\r\n"), false, 431);
    check_fits(filled(text, "GET /", 'x', target, " HTTP/1.1\r\n" HOST "\r\n"), true, 0);
    check_fits(filled(text, "GET /", 'x', TEXT_MAX / 2, ""), false, 414);
    check_fits(filled(text, CHUNKED "1;", 'x', HTTP1_EXTENSION_BYTES_MAX, chunk_end), true, 0);
    check_fits(filled(text, CHUNKED "1;", 'x', HTTP1_EXTENSION_BYTES_MAX + 1, chunk_end), false,
               400);
    /* "T:", its CR and the last CR count; line feeds do not */
    check_fits(filled(text, CHUNKED "0\r\nT:", 'x', HTTP1_TRAILER_BYTES_MAX - 4, "\r\n\r\n"), true,
               0);
    check_fits(filled(text, CHUNKED "0\r\nT:", 'x', HTTP1_TRAILER_BYTES_MAX - 3, "\r\n\r\n"), false,
               431);
    check_fits(POST "Content-Length: 000000000000001\r\n\r\nx", true, 0);
    check_fits(POST "Content-Length: 0000000000000001\r\n\r\nx", false, 400);
    check_fits(CHUNKED "000000000001\r\nx\r\n0\r\n\r\n", true, 0);
}

static void as_many_fields_as_allowed(void **state)
{
    struct td_buf text;

    (void)state;
    td_buf_init(&text, TEXT_MAX);
    td_buf_append_text(&text, GET_LINE HOST);
    for (int i = 1; i < HTTP1_FIELDS_MAX; i++)
        td_buf_printf(&text, "X-%d: %d\r\n", i, i);
    td_buf_append_text(&text, "\r\n");
    check_fits(text.data, true, 0);
    text.length -= 2;
    td_buf_append_text(&text, "one: more\r\n\r\n");
    check_fits(text.data, false, 431);
    td_buf_fini(&text);
}

static void a_parser_is_ready_again_after_reset(void **state)
{
    const char *two = POST "Content-Length: 2\r\nConnection: close\r\n\r\nab" GET_LINE HOST "\r\n";
    struct http1_parser parser;
    struct outcome out = {0};
    size_t used;

    (void)state;
    td_buf_init(&out.text, TEXT_MAX);
    http1_init(&parser);
    assert_false(http1_started(&parser));
    used = feed(&parser, &out, two, strlen(two));
    assert_true(http1_started(&parser));
    assert_string_equal(http1_find(&parser, "connection"), "close");
    assert_null(http1_find(&parser, "Connection"));
    http1_reset(&parser);
    assert_false(http1_started(&parser));
    td_buf_clear(&out.text);
    assert_int_equal(used + feed(&parser, &out, two + used, strlen(two) - used), strlen(two));
    finish(&parser, &out);
    assert_true(out.complete);
    assert_true(out.keep_alive);
    assert_string_equal(out.text.data, "GET / host=a <> end");
    http1_fini(&parser);
    td_buf_fini(&out.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(well_formed_requests_are_read),
        cmocka_unit_test(malformed_request_lines_are_refused),
        cmocka_unit_test(malformed_fields_are_refused),
        cmocka_unit_test(ambiguous_lengths_are_refused),
        cmocka_unit_test(malformed_chunks_are_refused),
        cmocka_unit_test(the_fields_of_the_connection_count),
        cmocka_unit_test(every_limit_holds_to_the_byte),
        cmocka_unit_test(as_many_fields_as_allowed),
        cmocka_unit_test(a_parser_is_ready_again_after_reset),
    };

    return cmocka_run_group_tests_name("http1", tests, NULL, NULL);
}
