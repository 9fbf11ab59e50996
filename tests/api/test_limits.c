/* test_limits.c: the table of limits, and that no request within them lacks memory. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/api/api_support.h"

static void the_defaults_are_those_of_the_documents(void **state)
{
    struct api_limits limits;

    (void)state;
    api_limits_init(&limits);
    assert_int_equal(limits.connections, 10000);
    assert_int_equal(limits.body_bytes, 8 << 20);
    assert_int_equal(limits.backlog_bytes, 256 << 10);
    assert_int_equal(limits.head_ms, 10000);
    assert_int_equal(limits.queue_entries, 5000);
    assert_int_equal(limits.json_depth, 64);
    assert_int_equal(limits.stop_strings, 4);
    assert_int_equal(limits.stop_bytes, 256);
}

static td_status_t parse(struct api_limits *limits, struct td_flag_list words,
                         struct td_error *error)
{
    struct td_flag_table table = api_limits_table(limits);
    const struct td_flags flags = {.program = "test", .tables = &table, .table_count = 1};
    struct td_flags_result result;
    struct td_arena arena;
    td_status_t status;

    td_arena_init(&arena, 65536);
    status = td_flags_parse(&flags, &arena, words, &result, error);
    td_arena_fini(&arena);
    return status;
}

static void a_program_takes_them_as_flags(void **state)
{
    char *const words[] = {(char[]){"--limit-body-bytes=1MiB"}, (char[]){"--limit-stall-time"},
                           (char[]){"5s"}};
    char *const over[] = {(char[]){"--limit-stop-strings=5"}};
    struct api_limits limits;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(parse(&limits, (struct td_flag_list){words, 3}, &error), TD_OK);
    assert_int_equal(limits.body_bytes, 1 << 20);
    assert_int_equal(limits.stall_ms, 5000);
    assert_int_equal(limits.messages, 4096);
    assert_int_equal(parse(&limits, (struct td_flag_list){over, 1}, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "limit-stop-strings"));
}

/* Bodies that take as many values, and as many of the larger ones, as the limits let through. */
static void no_request_within_the_limits_lacks_memory(void **state)
{
    struct test_api *api = *state;
    char *body = malloc(1 << 20);
    char *end;

    api->limits.json_nodes = 10000;
    api->limits.messages = 10000;
    api->limits.content_parts = 10000;
    api->limits.body_bytes = 1 << 20;
    end = body + sprintf(body, "{\"messages\":[");
    for (int i = 0; i < 3332; i++)
        end += sprintf(end, "%s{\"role\":\"user\",\"content\":\"\"}", i > 0 ? "," : "");
    strcpy(end, "]}");
    test_chat_ok(api, body);
    end = body + sprintf(body, "{\"messages\":[{\"role\":\"user\",\"content\":[");
    for (int i = 0; i < 3331; i++)
        end += sprintf(end, "%s{\"type\":\"text\",\"text\":\"xxxxxxxxxx\"}", i > 0 ? "," : "");
    strcpy(end, "]}]}");
    test_chat_ok(api, body);
    end = body + sprintf(body, "{\"prompt\":[");
    for (int i = 0; i < 9998; i++)
        end += sprintf(end, "%s%d", i > 0 ? "," : "", i);
    strcpy(end, "]}");
    test_completion_ok(api, body);
    free(body);
}

static void too_little_memory_is_an_error_not_a_crash(void **state)
{
    struct test_api *api = *state;
    const struct td_span body =
        td_span_of("{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                   "\"a\"}]}],\"stop\":[\"a\",\"b\"]}");
    td_status_t status = TD_LIMIT;

    for (size_t bytes = 0; status != TD_OK; bytes += 16) {
        td_arena_fini(&api->arena);
        td_arena_init(&api->arena, bytes);
        status = api_chat_request_parse(body, &api->limits, &api->arena, &api->chat, &api->error);
        assert_true(status == TD_OK || status == TD_LIMIT);
        assert_true(bytes < 65536);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(the_defaults_are_those_of_the_documents),
        API_TEST(a_program_takes_them_as_flags),
        API_TEST(no_request_within_the_limits_lacks_memory),
        API_TEST(too_little_memory_is_an_error_not_a_crash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
