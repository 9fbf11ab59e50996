/* test_answer.c: reading answers of our own and of other servers, and what is reported of them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/await.h"
#include "cli/report.h"
#include "lib/base/json.h"
#include "tests/support/support.h"

static size_t text_calls;
static char pieces[4096]; /* all pieces; reasoning in brackets */

static void on_piece(void *ctx, enum cli_piece piece, const char *text, size_t length)
{
    size_t used = strlen(pieces);

    (void)ctx;
    assert_true(length > 0);
    text_calls += piece == CLI_PIECE_TEXT;
    snprintf(pieces + used, sizeof pieces - used, piece == CLI_PIECE_REASONING ? "[%.*s]" : "%.*s",
             (int)length, text);
}

static struct cli_answer_reader *open_reader(void)
{
    struct cli_answer_reader *reader = calloc(1, sizeof *reader);

    assert_non_null(reader);
    cli_answer_init(reader, on_piece, NULL);
    cli_answer_head(reader, 200, "text/event-stream; charset=utf-8");
    text_calls = 0;
    pieces[0] = '\0';
    return reader;
}

static void close_reader(struct cli_answer_reader *reader)
{
    cli_answer_fini(reader);
    free(reader);
}

static void put(struct cli_answer_reader *reader, const char *bytes)
{
    cli_answer_body(reader, bytes, strlen(bytes));
}

static void feed(struct cli_answer_reader *reader, const char *event)
{
    put(reader, "data: ");
    put(reader, event);
    put(reader, "\n\n");
}

static const char trace_event[] =
    "{\"choices\":[],\"usage\":{\"prompt_tokens\":41,\"completion_tokens\":5},"
    "\"tandem\":{\"stages_ms\":{\"queue\":0.5,\"prefill\":120,\"wire\":2.0,\"decode\":40.0},"
    "\"kv\":{\"bytes\":1105920,\"transport\":\"ucx\",\"remote_blocks\":3,\"cached_blocks\":0,"
    "\"fallback\":null}}}";

static void text_usage_and_trace_are_gathered(void **state)
{
    struct cli_answer_reader *reader = open_reader();
    const struct cli_answer *answer = &reader->answer;
    const char *why_not;

    (void)state;
    feed(reader,
         "{\"model\":\"m\",\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}");
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"},\"finish_reason\":null}]}");
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"lo\"}}]}");
    feed(reader, "{\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}");
    feed(reader, trace_event);
    feed(reader, "[DONE]");
    assert_string_equal(answer->text.data, "Hello");
    assert_int_equal(text_calls, 2);
    assert_string_equal(answer->model, "m");
    cli_answer_end(reader, TD_OK, "");
    assert_true(answer->saw_done && answer->has_usage && answer->is_complete);
    assert_string_equal(answer->finish, "stop");
    assert_int_equal(answer->prompt_tokens, 41);
    assert_int_equal(answer->completion_tokens, 5);
    assert_float_equal(answer->stages_ms[CLI_STAGE_queue], 0.5, 0);
    assert_float_equal(answer->stages_ms[CLI_STAGE_prefill], 120, 0);
    assert_float_equal(cli_report_next_token_ms(answer), 10.0, 0);
    assert_int_equal(answer->kv_bytes, 1105920);
    assert_true(cli_report_kv_crossed(answer, &why_not));
    close_reader(reader);
}

static void a_fallback_is_no_crossing(void **state)
{
    struct cli_answer_reader *reader = open_reader();
    const char *why_not;

    (void)state;
    assert_false(cli_report_kv_crossed(&reader->answer, &why_not));
    feed(reader,
         "{\"tandem\":{\"stages_ms\":{},\"kv\":{\"bytes\":5,\"fallback\":\"prefill is lost\"}}}");
    assert_false(cli_report_kv_crossed(&reader->answer, &why_not));
    assert_string_equal(why_not, "prefill is lost");
    close_reader(reader);
    reader = open_reader();
    feed(reader, "{\"tandem\":{\"stages_ms\":{},\"kv\":{\"bytes\":0,\"transport\":null}}}");
    assert_false(cli_report_kv_crossed(&reader->answer, &why_not));
    close_reader(reader);
}

static void an_error_in_the_stream_is_the_failure(void **state)
{
    struct cli_answer_reader *reader = open_reader();

    (void)state;
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}");
    feed(reader, "{\"error\":{\"message\":\"the worker is lost\",\"type\":\"server_error\"}}");
    assert_string_equal(reader->answer.failure, "the worker is lost");
    close_reader(reader);
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
        struct cli_answer_reader *reader = open_reader();

        feed(reader, events[i]);
        assert_int_equal(reader->answer.prompt_tokens, 0);
        assert_int_equal(reader->answer.kv_bytes, 0);
        assert_int_equal(reader->answer.text.length, 0);
        close_reader(reader);
    }
}

static void the_json_has_what_scripts_look_for(void **state)
{
    static const struct td_json_limits limits = {1 << 16, 1000, 8};
    struct cli_answer_reader *reader = open_reader();
    const struct td_json *root = NULL;
    struct td_error error = {0};
    struct td_arena arena;
    struct td_buf json;

    (void)state;
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"a \\\"b\\\"\\n\"}}]}");
    feed(reader, trace_event);
    td_buf_init(&json, (size_t)1 << 16);
    td_arena_init(&arena, (size_t)1 << 20);
    cli_report_write_json(&reader->answer, &json);
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
    close_reader(reader);
}

/* ---- other servers ---- */

/* Legal, and unlike ours: comments, CR LF, other fields, an event of several lines, no usage, no [DONE]. */
static const char odd_stream[] =
    "\xef\xbb\xbf: welcome\r\n\r\n"
    "event: message\r\nid: 1\r\nretry: 100\r\n"
    "data: {\"id\":\"x\",\r\ndata: \"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\r\n\r\n"
    ": ping\r\n\r\n"
    "data:{\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\",\"content\":null}}],\"usage\":"
    "null}\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"Gr\xc3\xbc\xc3\x9f\"}}]}\r\n\r\n"
    "data: {\"choices\":[{\"delta\":{\"content\":\"e \\ud83c\\udf0d\"}}],\"error\":null}\n\n"
    "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\r\r";

static void check_odd_answer(struct cli_answer_reader *reader)
{
    cli_answer_end(reader, TD_OK, "");
    assert_string_equal(reader->answer.failure, "");
    assert_true(reader->answer.is_complete);
    assert_string_equal(reader->answer.text.data, "Gr\xc3\xbc\xc3\x9f"
                                                  "e \xf0\x9f\x8c\x8d");
    assert_string_equal(pieces, "[hm]Gr\xc3\xbc\xc3\x9f"
                                "e \xf0\x9f\x8c\x8d");
    assert_false(reader->answer.has_usage || reader->answer.saw_done);
}

static void an_odd_stream_is_read_alike_in_every_split(void **state)
{
    size_t length = sizeof odd_stream - 1;

    (void)state;
    for (size_t split = 0; split <= length; split++) {
        struct cli_answer_reader *reader = open_reader();

        cli_answer_body(reader, odd_stream, split);
        cli_answer_body(reader, odd_stream + split, length - split);
        check_odd_answer(reader);
        close_reader(reader);
    }
    struct cli_answer_reader *reader = open_reader();

    for (size_t i = 0; i < length; i++)
        cli_answer_body(reader, odd_stream + i, 1);
    check_odd_answer(reader);
    close_reader(reader);
}

static void a_stream_that_just_stops_is_no_answer(void **state)
{
    struct cli_answer_reader *reader = open_reader();

    (void)state;
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"Hel\"}}]}");
    put(reader, "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}"); /* cut off before its end */
    cli_answer_end(reader, TD_OK, "");
    assert_false(reader->answer.is_complete);
    assert_string_equal(reader->answer.failure, "the stream ended before the answer was complete");
    close_reader(reader);
}

static void a_whole_answer_counts_as_well(void **state)
{
    struct cli_answer_reader *reader = open_reader();

    (void)state;
    cli_answer_head(reader, 200, "application/json");
    put(reader, "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":\"Hello\"},");
    put(reader,
        "\"finish_reason\":\"length\"}],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}}");
    cli_answer_end(reader, TD_OK, "");
    assert_true(reader->answer.is_complete);
    assert_string_equal(reader->answer.text.data, "Hello");
    assert_string_equal(reader->answer.finish, "length");
    assert_int_equal(reader->answer.prompt_tokens, 3);
    close_reader(reader);
}

static void refusals_of_every_form_become_a_sentence(void **state)
{
    static const struct {
        int status;
        const char *body;
        const char *failure;
        const char *code;
    } cases[] = {
        {400, "{\"error\":{\"message\":\"too long\",\"code\":\"context_length_exceeded\"}}",
         "too long", "context_length_exceeded"},
        {404, "{\"error\":{\"message\":\"no model\",\"code\":404}}", "no model", ""},
        {500, "{\"error\":\"broken\"}", "broken", ""},
        {400, "{\"object\":\"error\",\"message\":\"bad\"}", "bad", ""},
        {404, "{\"detail\":\"Not Found\"}", "Not Found", ""},
        {502, "<html>Bad Gateway</html>", "the server answers with status 502", ""},
        {503, "", "the server answers with status 503", ""},
        {200, "<html>Welcome</html>",
         "the server sent neither a stream nor JSON: is this an OpenAI API?", ""},
        {200, "{\"error\":{\"message\":\"late\"}}", "late", ""},
        {200, "{}", "the stream ended before the answer was complete", ""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cli_answer_reader *reader = open_reader();

        cli_answer_head(reader, cases[i].status, i % 2 == 0 ? "text/html" : NULL);
        put(reader, cases[i].body);
        cli_answer_end(reader, TD_OK, "");
        assert_false(reader->answer.is_complete);
        assert_string_equal(reader->answer.failure, cases[i].failure);
        assert_string_equal(reader->answer.code, cases[i].code);
        close_reader(reader);
    }
}

static void behind_an_error_nothing_counts(void **state)
{
    struct cli_answer_reader *reader = open_reader();

    (void)state;
    feed(reader, "{\"error\":{\"message\":\"the worker is lost\"}}");
    feed(reader, "{\"choices\":[{\"delta\":{\"content\":\"x\"},\"finish_reason\":\"stop\"}]}");
    cli_answer_end(reader, TD_PEER_LOST, "the connection broke");
    assert_string_equal(reader->answer.failure, "the worker is lost");
    assert_int_equal(text_calls, 0);
    assert_false(reader->answer.is_complete);
    close_reader(reader);
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
        cmocka_unit_test(an_odd_stream_is_read_alike_in_every_split),
        cmocka_unit_test(a_stream_that_just_stops_is_no_answer),
        cmocka_unit_test(a_whole_answer_counts_as_well),
        cmocka_unit_test(refusals_of_every_form_become_a_sentence),
        cmocka_unit_test(behind_an_error_nothing_counts),
        cmocka_unit_test(a_gauge_is_found_by_its_whole_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
