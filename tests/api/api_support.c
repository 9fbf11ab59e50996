/* api_support.c: see api_support.h. */
#include "tests/api/api_support.h"

#include <stdlib.h>

#define BODY_BYTES_MAX ((size_t)64 << 20)

int test_api_setup(void **state)
{
    struct test_api *api = calloc(1, sizeof *api);

    api_limits_init(&api->limits);
    td_buf_init(&api->body, BODY_BYTES_MAX);
    td_arena_init(&api->arena, api_arena_bytes(&api->limits));
    *state = api;
    return 0;
}

int test_api_teardown(void **state)
{
    struct test_api *api = *state;

    td_arena_fini(&api->arena);
    td_buf_fini(&api->body);
    free(api);
    return 0;
}

/* Each body starts with empty memory of the size that its limits call for. */
static void empty(struct test_api *api)
{
    td_arena_fini(&api->arena);
    td_arena_init(&api->arena, api_arena_bytes(&api->limits));
    api->error = (struct api_error){.kind = API_ERROR_COUNT};
}

td_status_t test_chat_span(struct test_api *api, struct td_span body)
{
    empty(api);
    return api_chat_request_parse(body, &api->limits, &api->arena, &api->chat, &api->error);
}

td_status_t test_chat(struct test_api *api, const char *body)
{
    return test_chat_span(api, td_span_of(body));
}

td_status_t test_completion(struct test_api *api, const char *body)
{
    empty(api);
    return api_completion_request_parse(td_span_of(body), &api->limits, &api->arena,
                                        &api->completion, &api->error);
}

void test_chat_ok(struct test_api *api, const char *body)
{
    if (test_chat(api, body) != TD_OK)
        fail_msg("%.200s: %s", body, api->error.message);
}

void test_completion_ok(struct test_api *api, const char *body)
{
    if (test_completion(api, body) != TD_OK)
        fail_msg("%.200s: %s", body, api->error.message);
}

static const char *with(struct test_api *api, const char *fields)
{
    td_buf_clear(&api->body);
    td_buf_append_text(&api->body, "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]");
    td_buf_append_text(&api->body, fields);
    td_buf_append_text(&api->body, "}");
    assert_int_equal(api->body.status, TD_OK);
    return api->body.data;
}

void test_chat_with(struct test_api *api, const char *fields)
{
    test_chat_ok(api, with(api, fields));
}

void test_chat_refused(struct test_api *api, const char *body, const char *param,
                       enum api_error_kind kind)
{
    if (test_chat(api, body) == TD_OK)
        fail_msg("%.200s: accepted", body);
    if (api->error.kind != kind || strcmp(api->error.param, param) != 0)
        fail_msg("%.200s: expected kind %d at '%s', got kind %d at '%s': %s", body, kind, param,
                 api->error.kind, api->error.param, api->error.message);
    assert_true(api->error.message[0] != '\0');
}

void test_chat_with_refused(struct test_api *api, const char *fields, const char *param,
                            enum api_error_kind kind)
{
    test_chat_refused(api, with(api, fields), param, kind);
}

const struct td_json *test_api_json(struct test_api *api, struct td_span text)
{
    struct td_json_limits limits = api_json_limits(&api->limits);
    const struct td_json *json = NULL;
    struct td_error error = {0};

    if (td_json_parse(&api->arena, text, &limits, &json, &error) != TD_OK)
        fail_msg("%s: %.*s", error.text, (int)text.length, text.bytes);
    return json;
}
