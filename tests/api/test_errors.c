/* test_errors.c: the error table: statuses, shapes, retry hints, and what maps to what. */
#include <string.h>

#include "lib/api/errors.h"
#include "tests/api/api_support.h"

static void every_error_is_written_in_openais_shape(void **state)
{
    struct test_api *api = *state;

    for (int kind = 0; kind < API_ERROR_COUNT; kind++) {
        struct api_error error;
        const struct td_json *json;
        struct td_buf out;

        td_buf_init(&out, 4096);
        api_error_set(&error, (enum api_error_kind)kind, "field", NULL);
        api_error_write(&error, &out);
        json = td_json_find(test_api_json(api, td_span_over(out.data, out.length)), "error");
        assert_int_equal(json->items.count, 4);
        assert_int_equal(td_json_find(json, "message")->kind, TD_JSON_STRING);
        assert_true(td_json_find(json, "message")->string.length > 0);
        assert_int_equal(td_json_find(json, "type")->kind, TD_JSON_STRING);
        assert_true(td_span_is(td_json_find(json, "param")->string, "field"));
        assert_non_null(td_json_find(json, "code"));
        assert_true(api_error_status(&error) >= 400 && api_error_status(&error) < 600);
        td_buf_fini(&out);
    }
}

static void absent_fields_are_null_and_texts_are_escaped(void **state)
{
    struct api_error error;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 4096);
    api_error_set(&error, API_ERROR_INVALID_REQUEST, NULL, "a \"%s\"\n\xff", "quote");
    api_error_write(&error, &out);
    assert_string_equal(out.data,
                        "{\"error\":{\"message\":\"a \\\"quote\\\"\\n\xef\xbf\xbd\","
                        "\"type\":\"invalid_request_error\",\"param\":null,\"code\":null}}");
    td_buf_fini(&out);
}

static void texts_that_are_too_long_are_cut(void **state)
{
    struct api_error error;
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    api_error_set(&error, API_ERROR_INTERNAL, text, "%s", text);
    assert_int_equal(strlen(error.param), sizeof error.param - 1);
    assert_int_equal(strlen(error.message), sizeof error.message - 1);
    api_error_set(NULL, API_ERROR_INTERNAL, NULL, NULL); /* nobody reads it */
}

static void statuses_become_errors(void **state)
{
    static const struct {
        td_status_t status;
        int http;
    } cases[] = {
        {TD_INVALID, 400},   {TD_UNSUPPORTED, 400}, {TD_LIMIT, 400},     {TD_NOT_FOUND, 404},
        {TD_EXHAUSTED, 429}, {TD_TIMEOUT, 504},     {TD_PEER_LOST, 503}, {TD_CANCELED, 503},
        {TD_NO_MEMORY, 503}, {TD_REFUSED, 503},     {TD_CORRUPT, 500},   {TD_STALE, 500},
        {TD_IO, 500},        {TD_STATE, 500},       {TD_INTERNAL, 500},  {TD_OK, 500},
        {TD_AGAIN, 500},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct api_error error;

        api_error_set(&error, api_error_kind_of(cases[i].status), NULL, NULL);
        assert_int_equal(api_error_status(&error), cases[i].http);
    }
}

static void errors_of_http_keep_their_status_where_the_table_has_it(void **state)
{
    static const int statuses[] = {400, 401, 403, 404, 405, 408, 413,
                                   415, 429, 431, 500, 501, 503, 504};

    (void)state;
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        struct api_error error;

        api_error_set(&error, api_error_kind_of_http(statuses[i]), NULL, NULL);
        assert_int_equal(api_error_status(&error), statuses[i]);
    }
    assert_int_equal(api_error_kind_of_http(404), API_ERROR_ROUTE_NOT_FOUND);
    assert_int_equal(api_error_kind_of_http(417), API_ERROR_INVALID_REQUEST);
    assert_int_equal(api_error_kind_of_http(599), API_ERROR_INTERNAL);
}

static void clients_are_told_when_to_come_back(void **state)
{
    struct api_error error;
    struct api_retry_headers retry;

    (void)state;
    api_error_set(&error, API_ERROR_QUEUE_FULL, NULL, NULL);
    error.retry_after_ms = 1001;
    retry = api_error_retry(&error);
    assert_string_equal(retry.retry_after, "2");
    assert_string_equal(retry.retry_after_ms, "1001");
    assert_null(retry.x_should_retry);
    error.retry_after_ms = UINT32_MAX;
    assert_string_equal(api_error_retry(&error).retry_after, "4294968");
    error.retry_after_ms = 0;
    assert_string_equal(api_error_retry(&error).retry_after, "");

    api_error_set(&error, API_ERROR_INVALID_REQUEST, NULL, NULL);
    error.retry_after_ms = 1000;
    retry = api_error_retry(&error);
    assert_string_equal(retry.retry_after, "");
    assert_string_equal(retry.x_should_retry, "false"); /* it would fail again */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(every_error_is_written_in_openais_shape),
        API_TEST(absent_fields_are_null_and_texts_are_escaped),
        API_TEST(texts_that_are_too_long_are_cut),
        API_TEST(statuses_become_errors),
        API_TEST(errors_of_http_keep_their_status_where_the_table_has_it),
        API_TEST(clients_are_told_when_to_come_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
