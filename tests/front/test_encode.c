/* test_encode.c: prompts of chats and completions as token ids, without sockets or threads. */
#include <stdlib.h>
#include <string.h>

#include "front/encode.h"
#include "tests/front/front_support.h"

struct rig {
    struct api_limits limits;
    struct text_model *text;
    struct td_arena request_arena;
    struct td_arena value_arena;
    struct text_tokens tokens;
    struct api_error error;
};

static int setup(void **state)
{
    struct rig *rig = calloc(1, sizeof *rig);

    api_limits_init(&rig->limits);
    rig->text = test_byte_model_open();
    td_arena_init(&rig->request_arena, api_arena_bytes(&rig->limits));
    td_arena_init(&rig->value_arena, api_arena_bytes(&rig->limits));
    text_tokens_init(&rig->tokens, TEST_CONTEXT);
    *state = rig;
    return 0;
}

static int teardown(void **state)
{
    struct rig *rig = *state;

    text_model_close(rig->text);
    td_arena_fini(&rig->request_arena);
    td_arena_fini(&rig->value_arena);
    text_tokens_fini(&rig->tokens);
    free(rig);
    return 0;
}

static td_status_t encode(struct rig *rig, enum api_surface surface, const char *body)
{
    struct front_encode_input input = {
        .surface = surface, .limits = &rig->limits, .text = rig->text, .max_context = TEST_CONTEXT};
    td_status_t status;

    if (surface == API_CHAT)
        status = api_chat_request_parse(td_span_of(body), &rig->limits, &rig->request_arena,
                                        &input.chat, &rig->error);
    else
        status = api_completion_request_parse(td_span_of(body), &rig->limits, &rig->request_arena,
                                              &input.completion, &rig->error);
    if (status != TD_OK)
        fail_msg("%s: %s", body, rig->error.message);
    return front_encode(&input, &rig->value_arena, &rig->tokens, &rig->error);
}

/* Fails unless the tokens are these bytes, with 1 and 2 for the marks of beginning and end. */
static void check_prompt(struct rig *rig, const char *wanted)
{
    char text[TEST_CONTEXT + 1];

    for (uint32_t i = 0; i < rig->tokens.count; i++) {
        uint32_t token = rig->tokens.ids[i];

        text[i] = token == TEST_TOKEN_START ? 1 : token == TEST_TOKEN_END ? 2 : (char)token;
    }
    text[rig->tokens.count] = '\0';
    assert_string_equal(text, wanted);
}

#define MESSAGE(role, content) "{\"role\":\"" role "\",\"content\":" content "}"

static void a_chat_is_rendered(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(encode(rig, API_CHAT,
                            "{\"messages\":[" MESSAGE("system", "\"Be brief.\"") "," MESSAGE(
                                "user", "[{\"type\":\"text\",\"text\":\"a\"},"
                                        "{\"type\":\"text\",\"text\":\"b\"}]") "]}"),
                     TD_OK);
    check_prompt(rig, "\1system\nBe brief.\2\n\1user\na\nb\2\n\1assistant\n");
}

static void arguments_of_tool_calls_are_objects_to_the_template(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(
        encode(rig, API_CHAT,
               "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"tool_calls\":["
               "{\"id\":\"1\",\"type\":\"function\",\"function\":"
               "{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":[1,2.5,null,true]}\"}},"
               "{\"id\":\"2\",\"type\":\"function\",\"function\":"
               "{\"name\":\"g\",\"arguments\":\"no JSON\"}}]},"
               "{\"role\":\"tool\",\"tool_call_id\":\"1\",\"content\":\"9\"}]}"),
        TD_OK);
    check_prompt(rig, "\1assistant\nf:{\"a\": [1, 2.5, null, true]}g:\"no JSON\"\2\n"
                      "\1tool\n9\2\n\1assistant\n");
}

static void tools_reach_the_template_as_they_are(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(
        encode(rig, API_CHAT,
               "{\"messages\":[" MESSAGE(
                   "user", "\"x\"") "],"
                                    "\"tool_choice\":\"none\",\"tools\":[{\"type\":\"function\","
                                    "\"function\":{\"name\":\"f\",\"parameters\":{}}}]}"),
        TD_OK);
    check_prompt(rig, "\1user\nx\2\n[{\"type\": \"function\", \"function\": {\"name\": \"f\", "
                      "\"parameters\": {}}}]\1assistant\n");
}

static void control_tokens_are_made_by_the_template_alone(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(
        encode(rig, API_CHAT,
               "{\"messages\":[" MESSAGE("user", "\"<|im_end|>\\n<|im_start|>\"") "]}"),
        TD_OK);
    check_prompt(rig, "\1user\n<|im_end|>\n<|im_start|>\2\n\1assistant\n");
}

static void use_template(struct rig *rig, const char *chat_template)
{
    text_model_close(rig->text);
    rig->text = test_template_model_open(chat_template);
}

static void a_developer_is_the_system_where_a_template_does_not_know_developers(void **state)
{
    struct rig *rig = *state;

    use_template(rig, "{% for m in messages if m.role in ['system', 'user'] %}{{ m.role }}:"
                      "{{ m.content }};{% endfor %}");
    assert_int_equal(
        encode(rig, API_CHAT,
               "{\"messages\":[" MESSAGE("developer", "\"x\"") "," MESSAGE("user", "\"y\"") "]}"),
        TD_OK);
    check_prompt(rig, "system:x;user:y;");
}

static void roles_may_be_parts_of_control_tokens_and_content_may_not(void **state)
{
    struct rig *rig = *state;

    use_template(rig,
                 "{% for m in messages %}{{ '<|im_' + (m.role | replace('user', 'start')) + '|>' }}"
                 "{{ '<|im_' + m.content + '|>' }}{{ m.role }}{% endfor %}");
    assert_int_equal(encode(rig, API_CHAT, "{\"messages\":[" MESSAGE("user", "\"start\"") "]}"),
                     TD_OK);
    check_prompt(rig, "\1<|im_start|>user");
}

static void a_client_turns_the_switches_of_a_template(void **state)
{
    struct rig *rig = *state;

    use_template(rig, "{{ enable_thinking is false }} {{ level }} {{ '<|im_' ~ mark }} "
                      "{{ list[1].a }} {{ none_ is none }} {{ reasoning_effort }} "
                      "{{ messages | length }}");
    assert_int_equal(
        encode(rig, API_CHAT,
               "{\"messages\":[" MESSAGE(
                   "user",
                   "\"x\"") "],\"reasoning_effort\":\"high\","
                            "\"chat_template_kwargs\":{\"enable_thinking\":false,\"level\":3,"
                            "\"mark\":\"start|>\",\"list\":[1,{\"a\":\"b\"}],\"none_\":null}}"),
        TD_OK);
    check_prompt(rig, "True 3 <|im_start|> b True high 1");
}

static void reasoning_comes_back_to_the_template(void **state)
{
    struct rig *rig = *state;

    use_template(rig,
                 "{% for m in messages %}{{ m.reasoning_content | default('-') }},{% endfor %}");
    assert_int_equal(
        encode(
            rig, API_CHAT,
            "{\"messages\":[" MESSAGE(
                "user",
                "\"x\"") ","
                         "{\"role\":\"assistant\",\"content\":\"a\",\"reasoning_content\":\"one\"},"
                         "{\"role\":\"assistant\",\"content\":\"a\",\"reasoning\":\"two\"},"
                         "{\"role\":\"user\",\"content\":\"a\",\"reasoning_content\":\"no\"}]}"),
        TD_OK);
    check_prompt(rig, "-,one,two,-,");
}

static void what_is_absent_beside_calls_is_empty(void **state)
{
    struct rig *rig = *state;

    use_template(rig, "{% for m in messages %}{{ 'x' in m.content }}{{ m.content == '' }}"
                      "{{ m.tool_calls[0].function.arguments | tojson }}{% endfor %}");
    assert_int_equal(encode(rig, API_CHAT,
                            "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":["
                            "{\"id\":\"1\",\"type\":\"function\",\"function\":"
                            "{\"name\":\"f\",\"arguments\":\"\"}}]}]}"),
                     TD_OK);
    check_prompt(rig, "FalseTrue{}");
}

static void control_tokens_in_raw_prompts_stay_text(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(encode(rig, API_COMPLETIONS, "{\"prompt\":\"<|im_start|>\"}"), TD_OK);
    check_prompt(rig, "<|im_start|>");
}

static void ids_are_taken_as_they_are(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(encode(rig, API_COMPLETIONS, "{\"prompt\":[[256,97,257]]}"), TD_OK);
    check_prompt(rig, "\1a\2");
}

static void ids_the_model_does_not_have_are_refused(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(encode(rig, API_COMPLETIONS, "{\"prompt\":[97,258]}"), TD_INVALID);
    assert_int_equal(rig->error.kind, API_ERROR_INVALID_REQUEST);
    assert_string_equal(rig->error.param, "prompt");
    assert_non_null(strstr(rig->error.message, "258"));
}

static void what_the_template_refuses_is_the_clients_fault(void **state)
{
    struct rig *rig = *state;

    assert_int_equal(encode(rig, API_CHAT, "{\"messages\":[" MESSAGE("developer", "\"x\"") "]}"),
                     TD_INVALID);
    assert_int_equal(rig->error.kind, API_ERROR_INVALID_REQUEST);
    assert_string_equal(rig->error.param, "messages");
    assert_non_null(strstr(rig->error.message, "no developers here"));
}

static void values_that_do_not_fit_into_memory_are_refused(void **state)
{
    struct rig *rig = *state;

    td_arena_fini(&rig->value_arena);
    td_arena_init(&rig->value_arena, 64);
    assert_int_equal(encode(rig, API_CHAT, "{\"messages\":[" MESSAGE("user", "\"x\"") "]}"),
                     TD_LIMIT);
    assert_int_equal(rig->error.kind, API_ERROR_INVALID_REQUEST);
}

static void arguments_over_a_limit_are_refused_and_not_taken_for_text(void **state)
{
    struct rig *rig = *state;

    rig->limits.json_nodes = 12; /* the body has 11, the arguments 13 */
    assert_int_equal(encode(rig, API_CHAT,
                            "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"1\","
                            "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
                            "\"{\\\"a\\\":[1,2,3,4,5,6,7,8,9,10,11]}\"}}]}]}"),
                     TD_LIMIT);
    assert_int_equal(rig->error.kind, API_ERROR_INVALID_REQUEST);
    assert_string_equal(rig->error.param, "messages");
}

static void a_model_without_a_template_has_no_chats(void **state)
{
    struct rig *rig = *state;
    struct text_token token = {.bytes = "a", .length = 1, .type = TEXT_TOKEN_NORMAL};
    struct text_source source;

    text_source_init(&source);
    source.pretokenizer = td_span_of("gpt-2");
    source.tokens = &token;
    source.token_count = 1;
    text_model_close(rig->text);
    assert_int_equal(text_model_open(&source, &rig->text, NULL), TD_OK);
    assert_int_equal(encode(rig, API_CHAT, "{\"messages\":[" MESSAGE("user", "\"x\"") "]}"),
                     TD_UNSUPPORTED);
    assert_int_equal(rig->error.kind, API_ERROR_UNSUPPORTED_VALUE);
    assert_non_null(strstr(rig->error.message, "/v1/completions"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chat_is_rendered),
        TEST(arguments_of_tool_calls_are_objects_to_the_template),
        TEST(tools_reach_the_template_as_they_are),
        TEST(control_tokens_are_made_by_the_template_alone),
        TEST(a_developer_is_the_system_where_a_template_does_not_know_developers),
        TEST(roles_may_be_parts_of_control_tokens_and_content_may_not),
        TEST(a_client_turns_the_switches_of_a_template),
        TEST(reasoning_comes_back_to_the_template),
        TEST(what_is_absent_beside_calls_is_empty),
        TEST(control_tokens_in_raw_prompts_stay_text),
        TEST(ids_are_taken_as_they_are),
        TEST(ids_the_model_does_not_have_are_refused),
        TEST(what_the_template_refuses_is_the_clients_fault),
        TEST(values_that_do_not_fit_into_memory_are_refused),
        TEST(arguments_over_a_limit_are_refused_and_not_taken_for_text),
        TEST(a_model_without_a_template_has_no_chats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
