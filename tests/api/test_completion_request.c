/* test_completion_request.c: bodies of completion requests: the forms of a prompt. */
#include <string.h>

#include "tests/api/api_support.h"

static void refused(struct test_api *api, const char *body, const char *param,
                    enum api_error_kind kind)
{
    if (test_completion(api, body) == TD_OK)
        fail_msg("%s: accepted", body);
    if (api->error.kind != kind || strcmp(api->error.param, param) != 0)
        fail_msg("%s: kind %d at '%s': %s", body, api->error.kind, api->error.param,
                 api->error.message);
}

static void a_prompt_is_a_text_or_ids_or_an_array_of_one(void **state)
{
    struct test_api *api = *state;

    test_completion_ok(api, "{\"prompt\":\"once\"}");
    assert_int_equal(api->completion.kind, API_PROMPT_TEXT);
    assert_true(td_span_is(api->completion.text, "once"));
    test_completion_ok(api, "{\"prompt\":[\"once\"]}");
    assert_true(td_span_is(api->completion.text, "once"));
    test_completion_ok(api, "{\"prompt\":\"\"}");
    assert_int_equal(api->completion.text.length, 0);
    test_completion_ok(api, "{\"prompt\":[0,4294967295]}");
    assert_int_equal(api->completion.kind, API_PROMPT_TOKENS);
    assert_int_equal(api->completion.token_count, 2);
    assert_int_equal(api->completion.tokens[1], UINT32_MAX);
    test_completion_ok(api, "{\"prompt\":[[7]]}");
    assert_int_equal(api->completion.token_count, 1);
    assert_int_equal(api->completion.tokens[0], 7);
}

static void other_forms_are_refused(void **state)
{
    static const char *const bodies[] = {
        "{}",
        "{\"prompt\":null}",
        "{\"prompt\":5}",
        "{\"prompt\":{}}",
        "{\"prompt\":[]}",
        "{\"prompt\":[[]]}",
        "{\"prompt\":[-1]}",
        "{\"prompt\":[4294967296]}",
        "{\"prompt\":[1.5]}",
        "{\"prompt\":[1,\"a\"]}",
        "{\"prompt\":[[1,[]]]}",
        "{\"prompt\":[null]}",
        "{\"prompt\":[true]}",
    };

    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++)
        refused(*state, bodies[i], "prompt", API_ERROR_INVALID_REQUEST);
}

static void several_prompts_are_refused_up_to_a_limit_by_another_name(void **state)
{
    struct test_api *api = *state;

    api->limits.prompts = 2;
    refused(api, "{\"prompt\":[\"a\",\"b\"]}", "prompt", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":[[1],[2]]}", "prompt", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":[\"a\",\"b\",\"c\"]}", "prompt", API_ERROR_INVALID_REQUEST);
}

static void sixteen_tokens_are_made_unless_told_otherwise(void **state)
{
    struct test_api *api = *state;

    test_completion_ok(api, "{\"prompt\":\"a\"}");
    assert_int_equal(api->completion.options.max_tokens, API_COMPLETION_TOKENS);
    test_completion_ok(api, "{\"prompt\":\"a\",\"max_tokens\":3}");
    assert_int_equal(api->completion.options.max_tokens, 3);
}

static void fields_whose_effect_would_be_missed_are_refused(void **state)
{
    struct test_api *api = *state;

    refused(api, "{\"prompt\":\"a\",\"best_of\":2}", "best_of", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":\"a\",\"echo\":true}", "echo", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":\"a\",\"suffix\":\"z\"}", "suffix", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":\"a\",\"logprobs\":0}", "logprobs", API_ERROR_UNSUPPORTED_VALUE);
    refused(api, "{\"prompt\":\"a\",\"n\":2}", "n", API_ERROR_UNSUPPORTED_VALUE);
    test_completion_ok(api, "{\"prompt\":\"a\",\"best_of\":1,\"echo\":false,\"suffix\":\"\","
                            "\"logprobs\":null,\"n\":1}");
}

static void fields_of_chats_mean_nothing_here(void **state)
{
    test_completion_ok(*state, "{\"prompt\":\"a\",\"messages\":5,\"tools\":7,\"audio\":{}}");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        API_TEST(a_prompt_is_a_text_or_ids_or_an_array_of_one),
        API_TEST(other_forms_are_refused),
        API_TEST(several_prompts_are_refused_up_to_a_limit_by_another_name),
        API_TEST(sixteen_tokens_are_made_unless_told_otherwise),
        API_TEST(fields_whose_effect_would_be_missed_are_refused),
        API_TEST(fields_of_chats_mean_nothing_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
