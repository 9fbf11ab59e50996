/* test_http_sse.c: reading server-sent events, however the bytes are split. */
#include "lib/net/http_sse.h"
#include "tests/support/support.h"

#include <string.h>

static void collect(void *ctx, const char *data, size_t length)
{
    assert_int_equal(data[length], '\0');
    td_buf_append_char(ctx, '[');
    td_buf_append(ctx, data, length);
    td_buf_append_char(ctx, ']');
}

/* Feeds the text in pieces of `first` bytes and the rest. */
static td_status_t read_split(const char *text, size_t first, size_t event_max, struct td_buf *out)
{
    size_t length = strlen(text);
    td_status_t status;
    struct http_sse sse;

    td_buf_clear(out);
    http_sse_init(&sse, event_max, collect, out);
    status = http_sse_feed(&sse, text, first);
    if (status == TD_OK)
        status = http_sse_feed(&sse, text + first, length - first);
    http_sse_fini(&sse);
    return status;
}

static void check_events(const char *text, const char *expected)
{
    struct td_buf out;

    td_buf_init(&out, 65536);
    for (size_t first = 0; first <= strlen(text); first++) {
        assert_int_equal(read_split(text, first, 1000, &out), TD_OK);
        assert_string_equal(out.length > 0 ? out.data : "", expected);
    }
    td_buf_fini(&out);
}

static void events_are_the_same_for_every_split(void **state)
{
    (void)state;
    check_events("data: one\n\ndata: two\n\n", "[one][two]");
    check_events("data: one\r\n\r\ndata:two\r\n\r\n", "[one][two]");
    check_events("data: one\r\rdata: two\r\r", "[one][two]");
    check_events("\xef\xbb\xbf"
                 "data: one\n\n",
                 "[one]");
    check_events("data: one\ndata:  two\ndata\n\n", "[one\n two\n]");
    check_events(": a comment\n\nevent: x\nid: 3\nretry: 5\ndata: y\ndatax: no\n\n", "[y]");
    check_events("data\n\ndata:\n\n", "[][]");
    check_events("\n\n\nevent: none\n\n", "");
    check_events("data: complete\n\ndata: cut off\n", "[complete]");
}

static void an_event_may_be_as_long_as_the_limit(void **state)
{
    char text[128];
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    memset(text, 'x', sizeof text);
    memcpy(text, "data: ", 6);
    memcpy(text + 6 + 50, "\n\n", 3);
    assert_int_equal(read_split(text, 3, 50, &out), TD_OK);
    assert_int_equal(out.length, 52);
    assert_int_equal(read_split(text, 3, 49, &out), TD_LIMIT);
    memset(text, ':', sizeof text); /* a comment without an end */
    text[127] = '\0';
    assert_int_equal(read_split(text, 3, 50, &out), TD_LIMIT);
    td_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_are_the_same_for_every_split),
        cmocka_unit_test(an_event_may_be_as_long_as_the_limit),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
