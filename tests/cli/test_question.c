/* test_question.c: reading an answer's stream with its trace, and what is reported of it. */
#include <stdlib.h>
#include <string.h>

#include "cli/await.h"
#include "cli/report.h"
#include "lib/base/json.h"
#include "tests/support/support.h"

static size_t text_calls;

static void on_text(void *ctx, const char *text, size_t length)
{
    (void)ctx;
    (void)text;
    assert_true(length > 0);
    text_calls++;
}

static struct cli_question *open_question(void)
{
    struct cli_question *question = calloc(1, sizeof *question);

    assert_non_null(question);
    question->config.on_text = on_text;
    td_buf_init(&question->answer.text, CLI_ANSWER_TEXT_MAX);
    td_arena_init(&question->arena, (size_t)1 << 20);
    text_calls = 0;
    return question;
}

static void close_question(struct cli_question *question)
{
    cli_question_fini(question);
    free(question);
}

static void feed(struct cli_question *question, const char *event)
{
    cli_question_on_event(question, event, strlen(event));
}

static const char trace_event[] =
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":41,\"completion_tokens\":5},"
    "\"tandem\":{\"stages_ms\":{\"queue\":0.5,\"prefill\":120,\"wire\":2.0,\"decode\":40.0},"
    "\"kv\":{\"bytes\":1105920,\"transport\":\"ucx\",\"remote_blocks\":3,\"cached_blocks\":0,"
    "\"fallback\":null}}}";

static void text_usage_and_trace_are_gathered(void **state)
{
    struct cli_question *question = open_question();
    const struct cli_answer *answer = &question->answer;
    const char *why_not;

    (void)state;
    feed(question,
         "{\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}");
    feed(question, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}");
    feed(question, "{\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}");
    feed(question, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");
    feed(question, trace_event);
    feed(question, "[DONE]");
    assert_string_equal(answer->text.data, "Hello");
    assert_int_equal(text_calls, 2);
    assert_string_equal(answer->model, "m");
    assert_true(question->saw_done && answer->has_finish && answer->has_usage);
    assert_int_equal(answer->prompt_tokens, 41);
    assert_int_equal(answer->completion_tokens, 5);
    assert_float_equal(answer->stages_ms[CLI_STAGE_queue], 0.5, 0);
    assert_float_equal(answer->stages_ms[CLI_STAGE_prefill], 120, 0);
    assert_float_equal(cli_report_next_token_ms(answer), 10.0, 0);
    assert_int_equal(answer->kv_bytes, 1105920);
    assert_true(cli_report_kv_crossed(answer, &why_not));
    close_question(question);
}

static void a_fallback_is_no_crossing(void **state)
{
    struct cli_question *question = open_question();
    const char *why_not;

    (void)state;
    assert_false(cli_report_kv_crossed(&question->answer, &why_not));
    feed(question,
         "{\"tandem\":{\"stages_ms\":{},\"kv\":{\"bytes\":5,\"fallback\":\"prefill is lost\"}}}");
    assert_false(cli_report_kv_crossed(&question->answer, &why_not));
    assert_string_equal(why_not, "prefill is lost");
    close_question(question);
    question = open_question();
    feed(question, "{\"tandem\":{\"stages_ms\":{},\"kv\":{\"bytes\":0,\"transport\":null}}}");
    assert_false(cli_report_kv_crossed(&question->answer, &why_not));
    close_question(question);
}

static void an_error_in_the_stream_is_the_failure(void **state)
{
    struct cli_question *question = open_question();

    (void)state;
    feed(question, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}");
    feed(question, "{\"error\":{\"message\":\"the worker is lost\",\"type\":\"server_error\"}}");
    assert_string_equal(question->answer.failure, "the worker is lost");
    close_question(question);
}

static void events_of_any_shape_do_no_harm(void **state)
{
    static const char *const events[] = {
        "",
        "{",
        "[]",
        "null",
        "5",
        "\"x\"",
        "{\"choices\":5}",
        "{\"choices\":[5]}",
        "{\"choices\":[{\"delta\":[]}]}",
        "{\"choices\":[{\"delta\":{\"content\":7}}]}",
        "{\"usage\":{\"prompt_tokens\":-1}}",
        "{\"usage\":{\"prompt_tokens\":1.5}}",
        "{\"tandem\":{\"stages_ms\":5,\"kv\":{}}}",
        "{\"error\":{}}",
        "{\"error\":5}",
        "{\"tandem\":{\"stages_ms\":{\"queue\":\"x\"},\"kv\":{\"bytes\":\"x\",\"transport\":5}}}",
    };

    (void)state;
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++) {
        struct cli_question *question = open_question();

        feed(question, events[i]);
        assert_int_equal(question->answer.prompt_tokens, 0);
        assert_int_equal(question->answer.kv_bytes, 0);
        assert_int_equal(question->answer.text.length, 0);
        close_question(question);
    }
}

static void the_json_has_what_scripts_look_for(void **state)
{
    static const struct td_json_limits limits = {1 << 16, 1000, 8};
    struct cli_question *question = open_question();
    const struct td_json *root = NULL;
    struct td_error error = {0};
    struct td_arena arena;
    struct td_buf json;

    (void)state;
    feed(question, "{\"choices\":[{\"delta\":{\"content\":\"a \\\"b\\\"\\n\"}}]}");
    feed(question, trace_event);
    td_buf_init(&json, (size_t)1 << 16);
    td_arena_init(&arena, (size_t)1 << 20);
    cli_report_write_json(&question->answer, &json);
    assert_null(strchr(json.data, '\n'));
    assert_int_equal(
        td_json_parse(&arena, td_span_over(json.data, json.length), &limits, &root, &error), TD_OK);
    assert_true(td_span_is(td_json_find(root, "text")->string, "a \"b\"\n"));
    assert_int_equal(td_json_find(root, "prompt_tokens")->integer, 41);
    assert_int_equal(td_json_find(root, "completion_tokens")->integer, 5);
    assert_int_equal(td_json_find(root, "kv_bytes")->integer, 1105920);
    assert_true(td_span_is(td_json_find(root, "transport")->string, "ucx"));
    assert_non_null(td_json_find(td_json_find(root, "stages_ms"), "first_token"));
    td_arena_fini(&arena);
    td_buf_fini(&json);
    close_question(question);
}

static void a_gauge_is_found_by_its_whole_name(void **state)
{
    static const char page[] = "# HELP workers_ready x\nworkers 5\nworkers_ready_not 9\n"
                               "workers_ready{role=\"x\"} 8\nworkers_ready 2\n";

    (void)state;
    assert_float_equal(cli_await_gauge(page, "workers_ready"), 2, 0);
    assert_float_equal(cli_await_gauge(page, "workers"), 5, 0);
    assert_float_equal(cli_await_gauge(page, "orker"), -1, 0);
    assert_float_equal(cli_await_gauge("", "workers"), -1, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_usage_and_trace_are_gathered),
        cmocka_unit_test(a_fallback_is_no_crossing),
        cmocka_unit_test(an_error_in_the_stream_is_the_failure),
        cmocka_unit_test(events_of_any_shape_do_no_harm),
        cmocka_unit_test(the_json_has_what_scripts_look_for),
        cmocka_unit_test(a_gauge_is_found_by_its_whole_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
