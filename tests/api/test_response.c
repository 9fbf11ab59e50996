/* test_response.c: answers, events of streams and lists of models, byte by byte. */
#include <stdlib.h>
#include <string.h>

#include "lib/api/response.h"
#include "tests/api/api_support.h"

#define ID           "00000000000000010000000000000002"
#define FINGERPRINT  "\"system_fingerprint\":\"fp_00000000000000ab\""
#define HEAD(object) "\"object\":\"" object "\",\"created\":5,\"model\":\"m\\\"x\"," FINGERPRINT

static struct api_answer answer_of(enum api_surface surface)
{
    return api_answer_of(surface, (struct td_u128){1, 2}, (struct td_u128){0xab, 0},
                         td_span_of("m\"x"), 5);
}

static void assert_written(struct td_buf *out, const char *wanted)
{
    assert_int_equal(out->status, TD_OK);
    assert_string_equal(out->data, wanted);
    td_buf_clear(out);
}

static void a_whole_chat_has_all_required_keys(void **state)
{
    struct api_answer answer = answer_of(API_CHAT);
    struct api_end end = {
        .finish = API_FINISH_STOP,
        .usage = {.prompt_tokens = 3, .completion_tokens = 4, .cached_tokens = 2}};
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    api_answer_write(&answer, td_span_of("He said \"hi\"\n"), &end, &out);
    assert_written(
        &out, "{\"id\":\"chatcmpl-" ID
              "\"," HEAD("chat.completion") ",\"choices\":[{\"index\":0,\"message\":{\"role\":"
                                            "\"assistant\",\"content\":\"He said \\\"hi\\\"\\n\","
                                            "\"refusal\":null},\"logprobs\":null,\"finish_reason\":"
                                            "\"stop\"}],\"usage\":{\"prompt_tokens\":3,"
                                            "\"completion_tokens\":4,\"total_tokens\":7,"
                                            "\"prompt_tokens_details\":{\"cached_tokens\":2}}}");
    end.tandem = td_span_of("{\"a\":1}");
    api_answer_write(&answer, td_span_of(""), &end, &out);
    assert_non_null(strstr(out.data, ",\"tandem\":{\"a\":1}}"));
    td_buf_fini(&out);
}

static void a_whole_completion_has_all_required_keys(void **state)
{
    struct api_answer answer = answer_of(API_COMPLETIONS);
    struct api_end end = {.finish = API_FINISH_LENGTH};
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    api_answer_write(&answer, td_span_of("x"), &end, &out);
    assert_written(&out,
                   "{\"id\":\"cmpl-" ID
                   "\"," HEAD("text_completion") ",\"choices\":[{\"index\":0,\"text\":\"x\","
                                                 "\"logprobs\":null,\"finish_reason\":\"length\"}]"
                                                 ",\"usage\":{\"prompt_tokens\":0,"
                                                 "\"completion_tokens\":0,\"total_tokens\":0,"
                                                 "\"prompt_tokens_details\":{\"cached_tokens\":0}"
                                                 "}}");
    td_buf_fini(&out);
}

#define CHUNK "data: {\"id\":\"chatcmpl-" ID "\"," HEAD("chat.completion.chunk")

static void a_chat_is_streamed_in_events(void **state)
{
    struct api_answer answer = answer_of(API_CHAT);
    struct api_end end = {.finish = API_FINISH_STOP, .tandem = td_span_of("{}")};
    struct api_stream stream;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    assert_int_equal(api_stream_init(&stream, &answer, false), TD_OK);
    api_stream_begin(&stream, &out);
    assert_written(&out, CHUNK ",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\","
                               "\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}"
                               "\n\n");
    api_stream_delta(&stream, td_span_of("a\n\x01\xe2\x82\xac"), &out);
    assert_written(&out, CHUNK ",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                               "\"a\\n\\u0001\xe2\x82\xac\"},\"logprobs\":null,"
                               "\"finish_reason\":null}]}\n\n");
    api_stream_end(&stream, &end, &out);
    assert_written(&out, CHUNK ",\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
                               "\"finish_reason\":\"stop\"}],\"tandem\":{}}\n\n"
                               "data: [DONE]\n\n");
    api_stream_fini(&stream);
    td_buf_fini(&out);
}

static void usage_has_an_event_of_its_own(void **state)
{
    struct api_answer answer = answer_of(API_CHAT);
    struct api_end end = {.finish = API_FINISH_LENGTH,
                          .usage = {.prompt_tokens = UINT32_MAX, .completion_tokens = UINT32_MAX},
                          .tandem = td_span_of("{}")};
    struct api_stream stream;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    assert_int_equal(api_stream_init(&stream, &answer, true), TD_OK);
    api_stream_delta(&stream, td_span_of("a"), &out);
    assert_written(&out, CHUNK ",\"usage\":null,\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                               "\"a\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    api_stream_end(&stream, &end, &out);
    assert_written(
        &out, CHUNK
        ",\"usage\":null,\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
        "\"finish_reason\":\"length\"}]}\n\n" CHUNK
        ",\"choices\":[],\"usage\":{\"prompt_tokens\":4294967295,\"completion_tokens\":4294967295,"
        "\"total_tokens\":8589934590,\"prompt_tokens_details\":{\"cached_tokens\":0}},"
        "\"tandem\":{}}\n\ndata: [DONE]\n\n");
    api_stream_fini(&stream);
    td_buf_fini(&out);
}

#define TEXT_CHUNK "data: {\"id\":\"cmpl-" ID "\"," HEAD("text_completion")

static void a_completion_is_streamed_in_events(void **state)
{
    struct api_answer answer = answer_of(API_COMPLETIONS);
    struct api_end end = {.finish = API_FINISH_STOP};
    struct api_stream stream;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    assert_int_equal(api_stream_init(&stream, &answer, false), TD_OK);
    api_stream_begin(&stream, &out);
    assert_int_equal(out.length, 0);
    api_stream_delta(&stream, td_span_of("a"), &out);
    assert_written(&out, TEXT_CHUNK ",\"choices\":[{\"index\":0,\"text\":\"a\",\"logprobs\":null,"
                                    "\"finish_reason\":null}]}\n\n");
    api_stream_end(&stream, &end, &out);
    assert_written(&out, TEXT_CHUNK ",\"choices\":[{\"index\":0,\"text\":\"\",\"logprobs\":null,"
                                    "\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n");
    api_stream_fini(&stream);
    td_buf_fini(&out);
}

static void a_model_name_that_is_too_long_to_repeat_is_a_limit(void **state)
{
    struct api_answer answer = answer_of(API_CHAT);
    struct api_stream stream;
    char *name = malloc(65536);

    (void)state;
    memset(name, 'n', 65536);
    answer.model = td_span_over(name, 65536);
    assert_int_equal(api_stream_init(&stream, &answer, false), TD_LIMIT);
    memset(name, 1, 512); /* the longest label, escaped */
    answer.model = td_span_over(name, 512);
    assert_int_equal(api_stream_init(&stream, &answer, true), TD_OK);
    api_stream_fini(&stream);
    free(name);
}

static void pings_and_errors_are_events(void **state)
{
    struct api_error error;
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    api_sse_ping(&out);
    assert_written(&out, ": ping\n\n");
    api_error_set(&error, API_ERROR_WORKER_LOST, NULL, "two\nlines");
    api_sse_error(&error, &out);
    assert_written(&out, "data: {\"error\":{\"message\":\"two\\nlines\",\"type\":\"server_error\","
                         "\"param\":null,\"code\":\"worker_lost\"}}\n\n");
    td_buf_fini(&out);
}

static void models_are_listed(void **state)
{
    const struct api_model models[] = {{"a/b", 7, 100}, {"\"", 8, 200}};
    struct td_buf out;

    (void)state;
    td_buf_init(&out, 65536);
    api_models_write(models, 0, &out);
    assert_written(&out, "{\"object\":\"list\",\"data\":[]}");
    api_models_write(models, 2, &out);
    assert_written(&out,
                   "{\"object\":\"list\",\"data\":[{\"id\":\"a/b\",\"object\":\"model\","
                   "\"created\":7,\"owned_by\":\"tandem\",\"max_model_len\":100},{\"id\":\"\\\"\","
                   "\"object\":\"model\",\"created\":8,\"owned_by\":\"tandem\","
                   "\"max_model_len\":200}]}");
    api_model_write(&models[0], &out);
    assert_written(&out, "{\"id\":\"a/b\",\"object\":\"model\",\"created\":7,"
                         "\"owned_by\":\"tandem\",\"max_model_len\":100}");
    td_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_whole_chat_has_all_required_keys),
        cmocka_unit_test(a_whole_completion_has_all_required_keys),
        cmocka_unit_test(a_chat_is_streamed_in_events),
        cmocka_unit_test(usage_has_an_event_of_its_own),
        cmocka_unit_test(a_completion_is_streamed_in_events),
        cmocka_unit_test(a_model_name_that_is_too_long_to_repeat_is_a_limit),
        cmocka_unit_test(pings_and_errors_are_events),
        cmocka_unit_test(models_are_listed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
