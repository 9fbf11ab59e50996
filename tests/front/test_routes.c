/*
 * test_routes.c: the routes that are answered at once, and every way in which a request can be wrong
 * before it reaches the backend: all answers have OpenAI's shape.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/metrics.h"
#include "tests/front/front_support.h"

#define CHAT        "/v1/chat/completions"
#define COMPLETIONS "/v1/completions"
#define INVALID     "invalid_request_error"

static void post(struct test_front *front, const char *path, const char *body,
                 struct test_answer *answer)
{
    int fd = test_front_post(front, path, "", body);

    test_answer_read(fd, answer);
    close(fd);
}

/* Sends these bytes as they are and reads one answer. */
static void ask(struct test_front *front, const char *text, struct test_answer *answer)
{
    int fd = test_connect(front->address);

    test_send_text(fd, text);
    test_answer_read(fd, answer);
    close(fd);
}

static const char *text_at(const struct test_answer *answer, const char *key)
{
    const struct td_json *value = test_at(answer->json, key, NULL);

    return value != NULL && value->kind == TD_JSON_STRING ? value->string.bytes : "(none)";
}

static const char *param(const struct test_answer *answer)
{
    const struct td_json *value = test_at(answer->json, "error", "param", NULL);

    return value != NULL && value->kind == TD_JSON_STRING ? value->string.bytes : "";
}

/* ---- what is answered at once ---- */

static void models_are_listed(void **state)
{
    struct test_front *front = *state;
    struct test_answer answer;

    test_front_get(front, "/v1/models", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(text_at(&answer, "object"), "list");
    assert_true(td_span_is(test_at(answer.json, "data", "0", "id", NULL)->string, TEST_MODEL));
    assert_true(td_span_is(test_at(answer.json, "data", "0", "object", NULL)->string, "model"));
    assert_int_equal(test_int(answer.json, "data", "0", "max_model_len", NULL), TEST_CONTEXT);
    test_answer_free(&answer);

    front->model_status = TD_AGAIN;
    test_front_get(front, "/v1/models", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(answer.body, "{\"object\":\"list\",\"data\":[]}");
    test_answer_free(&answer);
}

static void a_model_is_shown_by_each_of_its_names(void **state)
{
    static const char *const paths[] = {
        "/v1/models/tiny%2Fbyte%20model",
        "/v1/models/tiny/byte%20model",
        "/v1/models/%61lias",
    };
    struct test_front *front = *state;
    struct test_answer answer;

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        test_front_get(front, paths[i], &answer);
        assert_int_equal(answer.status, 200);
        assert_string_equal(text_at(&answer, "id"), TEST_MODEL);
        test_answer_free(&answer);
    }
}

static void an_unknown_model_is_not_found(void **state)
{
    static const char *const paths[] = {"/v1/models/other", "/v1/models/", "/v1/models/alias%00"};
    struct test_front *front = *state;
    struct test_answer answer;
    char path[2100];

    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        test_front_get(front, paths[i], &answer);
        test_answer_is_error(&answer, 404, INVALID, "model_not_found");
        test_answer_free(&answer);
    }
    memset(path, 'a', sizeof path);
    memcpy(path, "GET /v1/models/", 15);
    snprintf(path + 2050, sizeof path - 2050, " HTTP/1.1\r\nHost: test\r\n\r\n");
    ask(front, path, &answer);
    test_answer_is_error(&answer, 404, INVALID, "model_not_found");
    test_answer_free(&answer);

    post(front, CHAT, "{\"model\":\"other\",\"messages\":[{\"role\":\"user\",\"content\":\"\"}]}",
         &answer);
    test_answer_is_error(&answer, 404, INVALID, "model_not_found");
    assert_string_equal(param(&answer), "model");
    test_answer_free(&answer);
    post(front, COMPLETIONS, "{\"model\":\"alias\\u0000x\",\"prompt\":\"a\"}", &answer);
    test_answer_is_error(&answer, 404, INVALID, "model_not_found");
    test_answer_free(&answer);
}

static void a_model_without_its_tokenizer_is_not_ready(void **state)
{
    struct test_front *front = *state;
    struct test_answer answer;

    front->without_text = true;
    post(front, COMPLETIONS, "{\"prompt\":\"a\"}", &answer);
    test_answer_is_error(&answer, 503, "server_error", "not_ready");
    test_answer_free(&answer);
    front->model_status = TD_AGAIN;
    post(front, COMPLETIONS, "{\"prompt\":\"a\"}", &answer);
    test_answer_is_error(&answer, 503, "server_error", "not_ready");
    test_answer_free(&answer);
}

static void health_and_readiness_say_why_not(void **state)
{
    struct test_front *front = *state;
    struct test_answer answer;

    test_front_get(front, "/health", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(text_at(&answer, "status"), "ok");
    test_answer_free(&answer);
    test_front_get(front, "/ready", &answer);
    assert_int_equal(answer.status, 200);
    assert_string_equal(text_at(&answer, "status"), "ready");
    test_answer_free(&answer);

    front->unready = true;
    front->unhealthy = true;
    test_front_get(front, "/ready", &answer);
    test_answer_is_error(&answer, 503, "server_error", "not_ready");
    assert_non_null(strstr(answer.body, "there is no worker"));
    test_answer_free(&answer);
    test_front_get(front, "/health", &answer);
    test_answer_is_error(&answer, 503, "server_error", "overloaded");
    assert_non_null(strstr(answer.body, "the engine stands still"));
    test_answer_free(&answer);
}

static void metrics_count_requests_by_outcome(void **state)
{
    struct test_front *front = *state;
    struct test_answer answer;

    post(front, CHAT, "{}", &answer);
    test_answer_free(&answer);
    test_front_get(front, "/metrics", &answer);
    assert_int_equal(answer.status, 200);
    assert_true(test_answer_has(&answer, "Content-Type: " TD_METRICS_CONTENT_TYPE));
    assert_non_null(strstr(answer.body, "tandem_front_requests_total{outcome=\"invalid\"} 1\n"));
    assert_non_null(strstr(answer.body, "tandem_front_requests_total{outcome=\"answered\"} 0\n"));
    assert_non_null(strstr(answer.body, "tandem_front_exchanges 0.0\n"));
    assert_non_null(strstr(answer.body, "tandem_front_http_requests_total 2.0\n"));
    assert_non_null(strstr(answer.body, "# of the backend\n"));
    test_answer_free(&answer);
}

static void the_version_is_shown(void **state)
{
    struct test_answer answer;

    test_front_get(*state, "/version", &answer);
    assert_int_equal(answer.status, 200);
    assert_int_equal(text_at(&answer, "version")[0], '0');
    test_answer_free(&answer);
}

/* ---- HTTP that is wrong ---- */

static void errors_of_http_have_the_same_shape(void **state)
{
    static const struct {
        const char *request;
        int status;
        const char *code;
    } cases[] = {
        {"GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n", 404, "unknown_url"},
        {"GET " CHAT " HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"},
        {"DELETE /v1/models/a HTTP/1.1\r\nHost: a\r\n\r\n", 405, "method_not_allowed"},
        {"POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Type: text/plain\r\n"
         "Content-Length: 2\r\n\r\n{}",
         415, "unsupported_media_type"},
        {"POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Type: application/jsonp\r\n"
         "Content-Length: 2\r\n\r\n{}",
         415, "unsupported_media_type"},
        {"POST " CHAT " HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n"
         "Content-Length: 2\r\n\r\n{}",
         415, "unsupported_media_type"},
        {"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 413, "request_too_large"},
        {"nonsense\r\n\r\n", 400, ""},
    };
    struct test_answer answer;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ask(*state, cases[i].request, &answer);
        test_answer_is_error(&answer, cases[i].status, INVALID, cases[i].code);
        test_answer_free(&answer);
    }
}

static void a_head_that_is_too_long_is_refused(void **state)
{
    char *text = malloc(100000);
    struct test_answer answer;

    memset(text, 'a', 100000);
    memcpy(text, "GET /health HTTP/1.1\r\nx: ", 25);
    strcpy(text + 99000, "\r\n\r\n");
    ask(*state, text, &answer);
    test_answer_is_error(&answer, 431, INVALID, "header_fields_too_large");
    test_answer_free(&answer);
    free(text);
}

static void json_is_recognised_by_its_media_type_or_none(void **state)
{
    static const char *const types[] = {"", "Content-Type: APPLICATION/json\r\n",
                                        "Content-Type: application/json; charset=utf-8\r\n",
                                        "Content-Type: application/json;charset=utf-8\r\n"};
    struct test_answer answer;
    char text[512];

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        snprintf(text, sizeof text,
                 "POST " CHAT " HTTP/1.1\r\nHost: a\r\n%sContent-Length: 2\r\n"
                 "\r\n{}",
                 types[i]);
        ask(*state, text, &answer);
        test_answer_is_error(&answer, 400, INVALID, ""); /* it was read, and misses fields */
        test_answer_free(&answer);
    }
}

/* ---- bodies that are wrong ---- */

static void a_body_may_be_as_long_as_the_limit(void **state)
{
    struct test_front *front = *state;
    char *body = malloc(4098);
    struct test_answer answer;

    front->config.limits.body_bytes = 4096;
    test_front_start(front);
    memset(body, ' ', 4097);
    memcpy(body, "{}", 2);
    body[4096] = '\0';
    post(front, CHAT, body, &answer);
    test_answer_is_error(&answer, 400, INVALID, "");
    test_answer_free(&answer);
    body[4096] = ' ';
    body[4097] = '\0';
    post(front, CHAT, body, &answer);
    test_answer_is_error(&answer, 413, INVALID, "request_too_large");
    test_answer_free(&answer);
    free(body);
}

static void hostile_bodies_are_refused_by_name(void **state)
{
    static const struct {
        const char *path;
        const char *body;
        const char *param;
    } cases[] = {
        {CHAT, "", ""},
        {CHAT, "[]", ""},
        {CHAT, "{\"messages\":", ""},
        {CHAT, "{\"messages\":[]}", "messages"},
        {CHAT, "{\"messages\":{}}", "messages"},
        {CHAT, "{\"messages\":[7]}", "messages[0]"},
        {CHAT, "{\"messages\":[{\"role\":\"robot\",\"content\":\"\"}]}", "messages[0].role"},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", ""},
        {CHAT, "{\"messages\":[{\"role\":\"user\",\"content\":\"\\ud800\"}]}", ""},
        {CHAT, "{\"messages\":[],\"messages\":[]}", ""},
        {CHAT, "{\"n\":2}", "n"},
        {CHAT, "{\"temperature\":\"1\"}", "temperature"},
        {CHAT, "{\"temperature\":1e999}", ""},
        {CHAT, "{\"logprobs\":true}", "logprobs"},
        {COMPLETIONS, "{}", "prompt"},
        {COMPLETIONS, "{\"prompt\":\"\"}", "prompt"},
        {COMPLETIONS, "{\"prompt\":[]}", "prompt"},
        {COMPLETIONS, "{\"prompt\":[\"a\",\"b\"]}", "prompt"},
        {COMPLETIONS, "{\"prompt\":[-1]}", "prompt"},
        {COMPLETIONS, "{\"prompt\":[258]}", "prompt"},
        {COMPLETIONS, "{\"prompt\":[4294967295]}", "prompt"},
        {COMPLETIONS, "{\"prompt\":\"a\",\"stop\":[\"\"]}", "stop"},
        {COMPLETIONS, "{\"prompt\":\"a\",\"stop\":[\"1\",\"2\",\"3\",\"4\",\"5\"]}", "stop"},
        {COMPLETIONS, "{\"prompt\":\"a\",\"max_tokens\":0}", "max_tokens"},
        {COMPLETIONS, "{\"prompt\":\"a\",\"logit_bias\":{\"258\":1}}", "logit_bias"},
        {CHAT, "{\"messages\":[{\"role\":\"developer\",\"content\":\"\"}]}", "messages"},
    };
    struct test_front *front = *state;
    struct test_answer answer;

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        post(front, cases[i].path, cases[i].body, &answer);
        if (answer.status != 400 || strcmp(param(&answer), cases[i].param) != 0)
            fail_msg("%s: expected '%s', got %s", cases[i].body, cases[i].param, answer.body);
        test_answer_free(&answer);
    }
    assert_int_equal(front->call_count, 0);
}

static void deep_json_is_refused(void **state)
{
    char *body = malloc(200001);
    struct test_answer answer;

    memset(body, '[', 200000);
    body[200000] = '\0';
    post(*state, CHAT, body, &answer);
    test_answer_is_error(&answer, 400, INVALID, "");
    test_answer_free(&answer);
    free(body);
}

static void too_many_requests_in_preparation_are_refused(void **state)
{
    struct test_front *front = *state;
    struct test_answer answer;
    int clients[4];

    front->config.limits.queue_entries = 1;
    test_front_start(front);
    test_front_take_pool(front);
    for (uint32_t i = 0; i < 4; i++) { /* three jobs, one in line */
        clients[i] = test_front_post(front, COMPLETIONS, "", "{\"prompt\":\"a\"}");
        test_front_wait_exchanges(front, i + 1);
    }
    post(front, COMPLETIONS, "{\"prompt\":\"a\"}", &answer);
    test_answer_is_error(&answer, 429, "rate_limit_error", "rate_limit_exceeded");
    assert_true(test_answer_has(&answer, "Retry-After: 1"));
    test_answer_free(&answer);
    test_front_release_pool(front);
    for (uint32_t i = 0; i < 4; i++)
        test_front_finish(front, test_front_call(front, i), FRONT_STOP, 0);
    for (uint32_t i = 0; i < 4; i++) {
        test_answer_read(clients[i], &answer);
        assert_int_equal(answer.status, 200);
        test_answer_free(&answer);
        close(clients[i]);
    }
}

static void an_address_that_is_taken_is_an_error(void **state)
{
    struct test_front *front = *state;
    struct front_config config = front->config;
    struct front *second = NULL;
    struct td_error error = {0};

    config.listen = front->address;
    assert_int_equal(front_open(&config, &second, &error), TD_IO);
    assert_non_null(strstr(error.text, front->address));
    assert_null(second);
}

#define PLAIN(name) cmocka_unit_test_setup_teardown(name, test_front_setup, test_front_teardown)
#define UNSTARTED(name) \
    cmocka_unit_test_setup_teardown(name, test_front_setup_init, test_front_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PLAIN(models_are_listed),
        PLAIN(a_model_is_shown_by_each_of_its_names),
        PLAIN(an_unknown_model_is_not_found),
        PLAIN(a_model_without_its_tokenizer_is_not_ready),
        PLAIN(health_and_readiness_say_why_not),
        PLAIN(metrics_count_requests_by_outcome),
        PLAIN(the_version_is_shown),
        PLAIN(errors_of_http_have_the_same_shape),
        PLAIN(a_head_that_is_too_long_is_refused),
        PLAIN(json_is_recognised_by_its_media_type_or_none),
        UNSTARTED(a_body_may_be_as_long_as_the_limit),
        PLAIN(hostile_bodies_are_refused_by_name),
        PLAIN(deep_json_is_refused),
        UNSTARTED(too_many_requests_in_preparation_are_refused),
        PLAIN(an_address_that_is_taken_is_an_error),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
