/* test_chat_request.c: bodies of chat requests: every field, strict types, limits at their edge. */
#include <float.h>
#include <stdio.h>
#include <string.h>

#include "lib/api/refusals.h"
#include "tests/api/api_support.h"

#define INVALID     API_ERROR_INVALID_REQUEST
#define UNSUPPORTED API_ERROR_UNSUPPORTED_VALUE

/* ---- options ---- */

static void a_body_with_messages_only_has_the_defaults(void **state)
{
    struct test_api *api = *state;
    const struct api_options *options = &api->chat.options;

    test_chat_with(api, "");
    assert_int_equal(api->chat.message_count, 1);
    assert_int_equal(api->chat.messages[0].role, API_ROLE_USER);
    assert_true(td_span_is(api->chat.messages[0].content, "x"));
    assert_null(api->chat.tools);
    assert_int_equal(options->model.length, 0);
    assert_int_equal(options->max_tokens, 0);
    assert_true(options->temperature == 1 && options->top_p == 1);
    assert_int_equal(options->top_k, 0);
    assert_true(options->min_p == 0 && options->repetition_penalty == 1);
    assert_true(options->presence_penalty == 0 && options->frequency_penalty == 0);
    assert_int_equal(options->given, 0);
    assert_false(options->has_seed || options->stream || options->include_usage);
    assert_int_equal(options->stop_count, 0);
    assert_int_equal(options->cache_salt.length, 0);
}

static void every_option_is_read(void **state)
{
    struct test_api *api = *state;
    const struct api_options *options = &api->chat.options;

    test_chat_with(api, ",\"model\":\"m\",\"max_tokens\":5,\"temperature\":0.25,\"top_p\":0.5,"
                        "\"top_k\":40,\"seed\":-7,\"stop\":[\"a\",\"bc\"],\"stream\":true,"
                        "\"stream_options\":{\"include_usage\":true},\"user\":\"u\","
                        "\"cache_salt\":\"s\",\"n\":1,\"min_p\":0.125,"
                        "\"repetition_penalty\":1.25,\"presence_penalty\":-1.5,"
                        "\"frequency_penalty\":2");
    assert_true(options->min_p == 0.125f && options->repetition_penalty == 1.25f);
    assert_true(options->presence_penalty == -1.5f && options->frequency_penalty == 2);
    assert_true(td_span_is(options->model, "m"));
    assert_int_equal(options->max_tokens, 5);
    assert_true(options->temperature == 0.25f && options->top_p == 0.5f);
    assert_int_equal(options->top_k, 40);
    assert_true(options->has_seed && options->seed == (uint64_t)-7);
    assert_int_equal(options->stop_count, 2);
    assert_true(td_span_is(options->stops[0], "a") && td_span_is(options->stops[1], "bc"));
    assert_true(options->stream && options->include_usage);
    assert_true(td_span_is(options->user, "u") && td_span_is(options->cache_salt, "s"));
}

static void null_means_absent(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"model\":null,\"max_tokens\":null,\"max_completion_tokens\":null,"
                        "\"temperature\":null,\"top_p\":null,\"top_k\":null,\"seed\":null,"
                        "\"stop\":null,\"stream\":null,\"stream_options\":null,\"user\":null,"
                        "\"cache_salt\":null,\"n\":null,\"tools\":null,\"tool_choice\":null,"
                        "\"logprobs\":null,\"response_format\":null,\"logit_bias\":null,"
                        "\"audio\":null,\"functions\":null,\"min_p\":null,"
                        "\"repetition_penalty\":null,\"presence_penalty\":null");
    assert_true(api->chat.options.temperature == 1);
    assert_int_equal(api->chat.options.given, 0);
    assert_false(api->chat.options.has_seed);
}

static void biases_are_read(void **state)
{
    struct test_api *api = *state;
    const struct api_options *options = &api->chat.options;

    test_chat_with(api, ",\"logit_bias\":{\"50256\":-100,\"0\":0.5}");
    assert_int_equal(options->bias_count, 2);
    assert_int_equal(options->biases[0].token, 50256);
    assert_true(options->biases[0].value == -100 && options->biases[1].value == 0.5f);
    assert_int_equal(options->biases[1].token, 0);
    test_chat_with(api, ",\"logit_bias\":{}");
    assert_int_equal(options->bias_count, 0);
    api->limits.logit_biases = 2;
    test_chat_with(api, ",\"logit_bias\":{\"1\":1,\"2\":2}");
    test_chat_with_refused(api, ",\"logit_bias\":{\"1\":1,\"2\":2,\"3\":3}", "logit_bias", INVALID);
}

/* A neutral value that is said is said: no default of a model's may take its place. */
static void what_is_said_is_known_to_be_said(void **state)
{
    static const struct {
        const char *field;
        unsigned given;
    } rows[] = {
        {",\"temperature\":1", API_GIVEN_TEMPERATURE},
        {",\"top_p\":1", API_GIVEN_TOP_P},
        {",\"top_k\":0", API_GIVEN_TOP_K},
        {",\"min_p\":0", API_GIVEN_MIN_P},
        {",\"repetition_penalty\":1.0", API_GIVEN_REPETITION_PENALTY},
        {",\"presence_penalty\":0", 0},
    };
    struct test_api *api = *state;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        test_chat_with(api, rows[i].field);
        assert_int_equal(api->chat.options.given, rows[i].given);
    }
}

static void unknown_fields_and_labels_are_ignored(void **state)
{
    test_chat_with(*state, ",\"kv_transfer_params\":{\"do_remote_prefill\":true},\"metadata\":{},"
                           "\"service_tier\":\"auto\",\"store\":true,\"x\":[1,{}],"
                           "\"reasoning_effort\":\"high\",\"parallel_tool_calls\":false,"
                           "\"prompt_cache_key\":\"k\",\"safety_identifier\":\"i\"");
}

static void the_newer_name_of_max_tokens_wins(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"max_completion_tokens\":7,\"max_tokens\":5");
    assert_int_equal(api->chat.options.max_tokens, 7);
    test_chat_with(api, ",\"max_tokens\":5,\"max_completion_tokens\":null");
    assert_int_equal(api->chat.options.max_tokens, 5);
}

static void usage_is_only_included_in_streams(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"stream_options\":{\"include_usage\":true}");
    assert_false(api->chat.options.include_usage);
    test_chat_with(api, ",\"stream\":true,\"stream_options\":{\"include_usage\":null}");
    assert_false(api->chat.options.include_usage);
}

static const struct {
    const char *fields;
    const char *param;
} wrong_values[] = {
    {",\"temperature\":-0.001", "temperature"},
    {",\"temperature\":2.001", "temperature"},
    {",\"temperature\":\"1\"", "temperature"},
    {",\"top_p\":-0.1", "top_p"},
    {",\"top_p\":1.1", "top_p"},
    {",\"top_k\":-2", "top_k"},
    {",\"min_p\":1.01", "min_p"},
    {",\"min_p\":-0.5", "min_p"},
    {",\"repetition_penalty\":0", "repetition_penalty"},
    {",\"repetition_penalty\":1e-300", "repetition_penalty"},
    {",\"repetition_penalty\":-1", "repetition_penalty"},
    {",\"repetition_penalty\":1001", "repetition_penalty"},
    {",\"repetition_penalty\":\"1\"", "repetition_penalty"},
    {",\"presence_penalty\":2.1", "presence_penalty"},
    {",\"presence_penalty\":[1]", "presence_penalty"},
    {",\"frequency_penalty\":-2.1", "frequency_penalty"},
    {",\"logit_bias\":[5]", "logit_bias"},
    {",\"logit_bias\":{\"x\":1}", "logit_bias"},
    {",\"logit_bias\":{\"\":1}", "logit_bias"},
    {",\"logit_bias\":{\"-1\":1}", "logit_bias"},
    {",\"logit_bias\":{\"05\":1}", "logit_bias"},
    {",\"logit_bias\":{\"5.0\":1}", "logit_bias"},
    {",\"logit_bias\":{\"2147483648\":1}", "logit_bias"},
    {",\"logit_bias\":{\"99999999999\":1}", "logit_bias"},
    {",\"logit_bias\":{\"5\":100.5}", "logit_bias"},
    {",\"logit_bias\":{\"5\":\"1\"}", "logit_bias"},
    {",\"logit_bias\":{\"5\":null}", "logit_bias"},
    {",\"top_k\":2147483648", "top_k"},
    {",\"top_k\":1.5", "top_k"},
    {",\"max_tokens\":0", "max_tokens"},
    {",\"max_tokens\":2147483648", "max_tokens"},
    {",\"max_tokens\":\"5\"", "max_tokens"},
    {",\"max_completion_tokens\":0", "max_completion_tokens"},
    {",\"seed\":9223372036854775808", "seed"},
    {",\"seed\":1.5", "seed"},
    {",\"n\":0", "n"},
    {",\"n\":17", "n"},
    {",\"stream\":1", "stream"},
    {",\"stream_options\":[]", "stream_options"},
    {",\"stream_options\":{\"include_usage\":1}", "stream_options.include_usage"},
    {",\"model\":5", "model"},
    {",\"user\":{}", "user"},
    {",\"cache_salt\":\"\"", "cache_salt"},
    {",\"stop\":5", "stop"},
    {",\"chat_template_kwargs\":5", "chat_template_kwargs"},
    {",\"chat_template_kwargs\":[]", "chat_template_kwargs"},
    {",\"chat_template_kwargs\":{\"a b\":1}", "chat_template_kwargs"},
    {",\"chat_template_kwargs\":{\"\":1}", "chat_template_kwargs"},
    {",\"chat_template_kwargs\":{\"1a\":1}", "chat_template_kwargs"},
    {",\"chat_template_kwargs\":{\"a\\u0000\":1}", "chat_template_kwargs"},
    {",\"reasoning_effort\":5", "reasoning_effort"},
    {",\"stop\":[5]", "stop"},
    {",\"stop\":\"\"", "stop"},
    {",\"stop\":[\"a\",\"\"]", "stop"},
};

static void numbers_are_taken_up_to_their_bounds(void **state)
{
    static const char *const good[] = {
        ",\"temperature\":0",
        ",\"temperature\":2",
        ",\"temperature\":2.0",
        ",\"top_p\":0",
        ",\"top_p\":1",
        ",\"top_k\":-1",
        ",\"top_k\":2147483647",
        ",\"max_tokens\":1",
        ",\"max_tokens\":2147483647",
        ",\"max_tokens\":5.0",
        ",\"seed\":9223372036854775807",
        ",\"seed\":-9223372036854775808",
        ",\"min_p\":1",
        ",\"repetition_penalty\":1000",
        ",\"repetition_penalty\":0.001",
        ",\"presence_penalty\":-2,\"frequency_penalty\":2.0",
    };

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        test_chat_with(*state, good[i]);
    for (size_t i = 0; i < sizeof wrong_values / sizeof wrong_values[0]; i++)
        test_chat_with_refused(*state, wrong_values[i].fields, wrong_values[i].param, INVALID);
}

/* A client gives a template data, and nothing that stands in for what the server gives it. */
static void no_template_comes_from_a_client(void **state)
{
    static const char *const names[] = {"chat_template", "messages",  "tools",   "bos_token",
                                        "eos_token",     "namespace", "tokenize"};

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char fields[100];
        char param[100];

        snprintf(fields, sizeof fields, ",\"chat_template_kwargs\":{\"a\":1,\"%s\":\"x\"}",
                 names[i]);
        snprintf(param, sizeof param, "chat_template_kwargs.%s", names[i]);
        test_chat_with_refused(*state, fields, param, API_ERROR_UNSUPPORTED_VALUE);
    }
    test_chat_with_refused(*state, ",\"chat_template\":\"x\"", "chat_template",
                           API_ERROR_UNSUPPORTED_VALUE);
}

static void a_request_has_so_many_template_values_at_most(void **state)
{
    struct test_api *api = *state;
    char fields[1000] = ",\"chat_template_kwargs\":{\"a\":1";

    for (unsigned i = 1; i < 32; i++)
        snprintf(fields + strlen(fields), sizeof fields - strlen(fields), ",\"a%u\":1", i);
    snprintf(fields + strlen(fields), sizeof fields - strlen(fields), "}");
    test_chat_with(api, fields);
    assert_int_equal(api->chat.template_values->items.count, 32);
    snprintf(fields + strlen(fields) - 1, 20, ",\"b\":1}");
    test_chat_with_refused(api, fields, "chat_template_kwargs", INVALID);
}

static void a_top_p_of_zero_is_the_smallest_nucleus(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"top_p\":0");
    assert_true(api->chat.options.top_p == FLT_MIN);
    test_chat_with(api, ",\"top_p\":1e-300");
    assert_true(api->chat.options.top_p == FLT_MIN);
    test_chat_with(api, ",\"top_k\":-1");
    assert_int_equal(api->chat.options.top_k, 0);
}

static void one_stop_string_needs_no_array(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"stop\":\"end\"");
    assert_int_equal(api->chat.options.stop_count, 1);
    assert_true(td_span_is(api->chat.options.stops[0], "end"));
    test_chat_with(api, ",\"stop\":[]");
    assert_int_equal(api->chat.options.stop_count, 0);
}

/* ---- what is refused ---- */

static void fields_whose_effect_would_be_missed_are_refused(void **state)
{
    static const struct {
        const char *name;
        const char *asks;     /* a value that asks for something */
        const char *harmless; /* one that does not, or NULL */
    } cases[] = {
        {"echo", "true", "false"},
        {"logprobs", "true", "false"},
        {"top_logprobs", "5", "0"},
        {"response_format", "{\"type\":\"json_object\"}", "{\"type\":\"text\"}"},
        {"response_format", "\"text\"", NULL},
        {"modalities", "[\"text\",\"audio\"]", "[\"text\"]"},
        {"audio", "{}", NULL},
        {"web_search_options", "{}", NULL},
        {"functions", "[{}]", "[]"},
        {"function_call", "{\"name\":\"f\"}", "\"auto\""},
        {"use_beam_search", "true", "false"},
        {"min_tokens", "1", "0"},
        {"stop_token_ids", "[1]", "[]"},
        {"ignore_eos", "true", "false"},
        {"skip_special_tokens", "false", "true"},
        {"chat_template", "\"{{ x }}\"", NULL},
        {"add_generation_prompt", "false", "true"},
        {"continue_final_message", "true", "false"},
        {"structured_outputs", "{}", NULL},
        {"guided_json", "{}", NULL},
    };
    char fields[128];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(fields, sizeof fields, ",\"%s\":%s", cases[i].name, cases[i].asks);
        test_chat_with_refused(*state, fields, cases[i].name, UNSUPPORTED);
        if (cases[i].harmless == NULL)
            continue;
        snprintf(fields, sizeof fields, ",\"%s\":%s", cases[i].name, cases[i].harmless);
        test_chat_with(*state, fields);
    }
    test_chat_with_refused(*state, ",\"n\":2", "n", UNSUPPORTED);
}

static void the_table_of_refusals_is_printed(void **state)
{
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    api_refusals_print_markdown(&out);
    assert_int_equal(out.status, TD_OK);
    assert_non_null(strstr(out.data, "| `logprobs` | refused | refused | `false` |\n"));
    assert_non_null(strstr(out.data, "| `suffix` | – | refused | `an empty value` |\n"));
    td_buf_fini(&out);
}

/* ---- messages ---- */

static void every_role_is_known(void **state)
{
    struct test_api *api = *state;

    test_chat_ok(api, "{\"messages\":["
                      "{\"role\":\"system\",\"content\":\"a\"},"
                      "{\"role\":\"developer\",\"content\":\"b\"},"
                      "{\"role\":\"user\",\"content\":\"c\",\"name\":\"Ann\"},"
                      "{\"role\":\"assistant\",\"content\":\"d\"},"
                      "{\"role\":\"tool\",\"content\":\"e\",\"tool_call_id\":\"1\"}]}");
    assert_int_equal(api->chat.message_count, 5);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(api->chat.messages[i].role, i);
        assert_int_equal(api->chat.messages[i].content.bytes[0], 'a' + i);
    }
    assert_string_equal(api_role_text(API_ROLE_ASSISTANT), "assistant");
    assert_true(td_span_is(api->chat.messages[2].name, "Ann"));
    assert_true(td_span_is(api->chat.messages[4].tool_call_id, "1"));
}

static void parts_of_text_are_joined_by_lines(void **state)
{
    struct test_api *api = *state;

    test_chat_ok(api, "{\"messages\":[{\"role\":\"user\",\"content\":["
                      "{\"type\":\"text\",\"text\":\"one\"},{\"type\":\"text\",\"text\":\"\"},"
                      "{\"text\":\"two\",\"type\":\"text\"}]}]}");
    assert_true(td_span_is(api->chat.messages[0].content, "one\n\ntwo"));
    test_chat_ok(api, "{\"messages\":[{\"role\":\"assistant\",\"content\":["
                      "{\"type\":\"refusal\",\"refusal\":\"no\"}]}]}");
    assert_true(td_span_is(api->chat.messages[0].content, "no"));
}

static void malformed_messages_are_refused_where_they_are(void **state)
{
    static const struct {
        const char *messages;
        const char *param;
        enum api_error_kind kind;
    } cases[] = {
        {"[]", "messages", INVALID},
        {"null", "messages", INVALID},
        {"{}", "messages", INVALID},
        {"[1]", "messages[0]", INVALID},
        {"[{\"role\":\"user\",\"content\":\"\"},{}]", "messages[1].role", INVALID},
        {"[{\"role\":\"function\",\"content\":\"\"}]", "messages[0].role", INVALID},
        {"[{\"role\":5,\"content\":\"\"}]", "messages[0].role", INVALID},
        {"[{\"role\":\"user\"}]", "messages[0].content", INVALID},
        {"[{\"role\":\"user\",\"content\":null}]", "messages[0].content", INVALID},
        {"[{\"role\":\"user\",\"content\":7}]", "messages[0].content", INVALID},
        {"[{\"role\":\"user\",\"content\":[]}]", "messages[0].content", INVALID},
        {"[{\"role\":\"user\",\"content\":[7]}]", "messages[0].content[0]", INVALID},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},"
         "{\"type\":\"image_url\"}]}]",
         "messages[0].content[1]", UNSUPPORTED},
        {"[{\"role\":\"user\",\"content\":[{\"type\":\"text\"}]}]", "messages[0].content[0]",
         INVALID},
        {"[{\"role\":\"tool\",\"content\":\"\"}]", "messages[0].tool_call_id", INVALID},
        {"[{\"role\":\"assistant\"}]", "messages[0].content", INVALID},
        {"[{\"role\":\"assistant\",\"tool_calls\":{}}]", "messages[0].tool_calls", INVALID},
        {"[{\"role\":\"assistant\",\"tool_calls\":[1]}]", "messages[0].tool_calls[0]", INVALID},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"custom\"}]}]",
         "messages[0].tool_calls[0]", UNSUPPORTED},
        {"[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\",\"type\":\"function\","
         "\"function\":{\"name\":\"f\",\"arguments\":{}}}]}]",
         "messages[0].tool_calls[0]", INVALID},
        {"[{\"role\":\"user\",\"content\":\"\",\"name\":[]}]", "messages[0].name", INVALID},
    };
    char body[512];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(body, sizeof body, "{\"messages\":%s}", cases[i].messages);
        test_chat_refused(*state, body, cases[i].param, cases[i].kind);
    }
}

static void a_message_with_tool_calls_needs_no_content(void **state)
{
    struct test_api *api = *state;

    test_chat_ok(api, "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
                      "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                      "\"arguments\":\"{not json\"}}]}]}");
    assert_false(api->chat.messages[0].has_content);
    assert_non_null(api->chat.messages[0].tool_calls);
    assert_int_equal(api->chat.messages[0].tool_calls->items.count, 1);
}

/* ---- tools ---- */

#define TOOL(name) "{\"type\":\"function\",\"function\":{\"name\":\"" name "\"}}"

static void tools_are_kept_only_if_none_may_be_called(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, ",\"tool_choice\":\"none\",\"tools\":[" TOOL("f") "]");
    assert_non_null(api->chat.tools);
    test_chat_with(api, ",\"tools\":[]");
    assert_null(api->chat.tools);
    test_chat_with(api, ",\"tool_choice\":\"auto\"");
    test_chat_with_refused(api, ",\"tools\":[" TOOL("f") "]", "tools", UNSUPPORTED);
    test_chat_with_refused(api, ",\"tool_choice\":\"auto\",\"tools\":[" TOOL("f") "]", "tools",
                           UNSUPPORTED);
    test_chat_with_refused(api, ",\"tool_choice\":\"required\",\"tools\":[" TOOL("f") "]", "tools",
                           UNSUPPORTED);
    test_chat_with_refused(api, ",\"tool_choice\":\"required\"", "tool_choice", INVALID);
    test_chat_with_refused(api, ",\"tool_choice\":{}", "tool_choice", INVALID);
}

static void malformed_tools_are_refused(void **state)
{
    static const struct {
        const char *tool;
        enum api_error_kind kind;
    } cases[] = {
        {"7", INVALID},
        {"{}", UNSUPPORTED},
        {"{\"type\":\"retrieval\"}", UNSUPPORTED},
        {"{\"type\":\"function\"}", INVALID},
        {"{\"type\":\"function\",\"function\":[]}", INVALID},
        {"{\"type\":\"function\",\"function\":{}}", INVALID},
        {TOOL(""), INVALID},
        {TOOL("a b"), INVALID},
        {TOOL("a\\u0000"), INVALID},
    };
    char fields[256];

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(fields, sizeof fields, ",\"tool_choice\":\"none\",\"tools\":[" TOOL("ok") ",%s]",
                 cases[i].tool);
        test_chat_with_refused(*state, fields, "tools[1]", cases[i].kind);
    }
}

/* ---- limits ---- */

/* fields with count times item in an array, separated by commas. */
static const char *repeated(const char *head, const char *item, size_t count, const char *tail)
{
    static char text[65536];
    char *end = text + sprintf(text, "%s", head);

    for (size_t i = 0; i < count; i++)
        end += sprintf(end, "%s%s", i > 0 ? "," : "", item);
    strcpy(end, tail);
    return text;
}

/* A field with a string of so many bytes. */
static const char *long_text(const char *head, size_t count, const char *tail)
{
    static char text[65536];
    int length = sprintf(text, "%s", head);

    memset(text + length, 'x', count);
    strcpy(text + length + count, tail);
    return text;
}

static void counts_are_taken_up_to_their_limit(void **state)
{
    static const char message[] = "{\"role\":\"user\",\"content\":\"\"}";
    static const char part[] = "{\"type\":\"text\",\"text\":\"\"}";
    struct test_api *api = *state;

    api->limits.messages = 10;
    api->limits.content_parts = 7;
    api->limits.tools = 5;
    test_chat_ok(api, repeated("{\"messages\":[", message, 10, "]}"));
    test_chat_refused(api, repeated("{\"messages\":[", message, 11, "]}"), "messages", INVALID);
    test_chat_ok(api, repeated("{\"messages\":[{\"role\":\"user\",\"content\":[", part, 7, "]}]}"));
    test_chat_refused(api,
                      repeated("{\"messages\":[{\"role\":\"user\",\"content\":[", part, 8, "]}]}"),
                      "messages[0].content", INVALID);
    test_chat_with(api, repeated(",\"tool_choice\":\"none\",\"tools\":[", TOOL("f"), 5, "]"));
    test_chat_with_refused(api,
                           repeated(",\"tool_choice\":\"none\",\"tools\":[", TOOL("f"), 6, "]"),
                           "tools", INVALID);
    test_chat_with(api, repeated(",\"stop\":[", "\"x\"", 4, "]"));
    test_chat_with_refused(api, repeated(",\"stop\":[", "\"x\"", 5, "]"), "stop", INVALID);
}

static void texts_are_taken_up_to_their_limit(void **state)
{
    struct test_api *api = *state;

    test_chat_with(api, long_text(",\"stop\":\"", 256, "\""));
    test_chat_with_refused(api, long_text(",\"stop\":\"", 257, "\""), "stop", INVALID);
    test_chat_with(api, long_text(",\"model\":\"", 512, "\""));
    test_chat_with_refused(api, long_text(",\"model\":\"", 513, "\""), "model", INVALID);
    test_chat_with(api, long_text(",\"user\":\"", 512, "\""));
    test_chat_with_refused(api, long_text(",\"user\":\"", 513, "\""), "user", INVALID);
    test_chat_with(api, long_text(",\"cache_salt\":\"", 1024, "\""));
    test_chat_with_refused(api, long_text(",\"cache_salt\":\"", 1025, "\""), "cache_salt", INVALID);
    test_chat_with(api, long_text(",\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\","
                                  "\"function\":{\"name\":\"",
                                  64, "\"}}]"));
    test_chat_with_refused(api,
                           long_text(",\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\","
                                     "\"function\":{\"name\":\"",
                                     65, "\"}}]"),
                           "tools[0]", INVALID);
}

static void a_body_is_taken_up_to_its_limits(void **state)
{
    static const char body[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}";
    struct test_api *api = *state;
    char many[8192];
    char *end = many;

    api->limits.body_bytes = sizeof body - 1;
    test_chat_ok(api, body);
    api->limits.body_bytes = sizeof body - 2;
    test_chat_refused(api, body, "", API_ERROR_TOO_LARGE);
    api->limits.body_bytes = 8192;

    api->limits.json_nodes = 5; /* body, messages, message, role, content */
    test_chat_ok(api, body);
    api->limits.json_nodes = 4;
    test_chat_refused(api, body, "", INVALID);
    api->limits.json_nodes = 1000;
    api->limits.json_depth = 3;
    test_chat_ok(api, body);
    api->limits.json_depth = 2;
    test_chat_refused(api, body, "", INVALID);
    api->limits.json_depth = 64;

    for (int i = 0; i < 256; i++) /* with messages: one more than there may be */
        end += sprintf(end, ",\"f%d\":0", i);
    test_chat_with_refused(api, many, "", INVALID);
    *strrchr(many, ',') = '\0';
    test_chat_with(api, many);
}

static void what_is_no_json_object_is_refused(void **state)
{
    static const char *const bodies[] = {
        "", " ", "null", "[]", "\"a\"", "{", "{}}", "{\"a\":1,\"a\":2}", "{\"a\":NaN}", "{'a':1}"};
    struct test_api *api = *state;

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        test_chat_refused(api, bodies[i], "", INVALID);
    assert_int_equal(test_chat_span(api, td_span_over("{}\0", 3)), TD_INVALID);
    assert_int_equal(test_chat_span(api, td_span_over("{\"a\":\"\xc3\"}", 9)), TD_INVALID);
}

static void errors_do_not_repeat_what_the_client_wrote(void **state)
{
    struct test_api *api = *state;

    assert_int_not_equal(test_chat(api, "{\"messages\":\"sesame\"}"), TD_OK);
    assert_null(strstr(api->error.message, "sesame"));
    assert_int_not_equal(test_chat(api, "{\"sesame\":1,\"sesame\":2}"), TD_OK);
    assert_null(strstr(api->error.message, "sesame"));
    test_chat_with_refused(api, ",\"model\":[\"sesame\"]", "model", INVALID);
    assert_null(strstr(api->error.message, "sesame"));
}

static void an_error_needs_nobody_who_reads_it(void **state)
{
    struct test_api *api = *state;

    assert_int_equal(
        api_chat_request_parse(td_span_of("{}"), &api->limits, &api->arena, &api->chat, NULL),
        TD_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(a_body_with_messages_only_has_the_defaults),
        API_TEST(every_option_is_read),
        API_TEST(null_means_absent),
        API_TEST(what_is_said_is_known_to_be_said),
        API_TEST(biases_are_read),
        API_TEST(unknown_fields_and_labels_are_ignored),
        API_TEST(the_newer_name_of_max_tokens_wins),
        API_TEST(usage_is_only_included_in_streams),
        API_TEST(numbers_are_taken_up_to_their_bounds),
        API_TEST(no_template_comes_from_a_client),
        API_TEST(a_request_has_so_many_template_values_at_most),
        API_TEST(a_top_p_of_zero_is_the_smallest_nucleus),
        API_TEST(one_stop_string_needs_no_array),
        API_TEST(fields_whose_effect_would_be_missed_are_refused),
        API_TEST(the_table_of_refusals_is_printed),
        API_TEST(every_role_is_known),
        API_TEST(parts_of_text_are_joined_by_lines),
        API_TEST(malformed_messages_are_refused_where_they_are),
        API_TEST(a_message_with_tool_calls_needs_no_content),
        API_TEST(tools_are_kept_only_if_none_may_be_called),
        API_TEST(malformed_tools_are_refused),
        API_TEST(counts_are_taken_up_to_their_limit),
        API_TEST(texts_are_taken_up_to_their_limit),
        API_TEST(a_body_is_taken_up_to_its_limits),
        API_TEST(what_is_no_json_object_is_refused),
        API_TEST(errors_do_not_repeat_what_the_client_wrote),
        API_TEST(an_error_needs_nobody_who_reads_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
