/* fuzz_api_chat.c: any body is a chat request that keeps its promises, or an error with a name. */
#include <assert.h>
#include <stdlib.h>

#include "fuzz_api.h"
#include "lib/api/chat_request.h"
#include "lib/base/json_write.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t hash_span(uint64_t hash, struct td_span span)
{
    return fuzz_api_hash(hash, span.bytes != NULL ? span.bytes : "", span.length);
}

static uint64_t hash_tree(uint64_t hash, const struct td_json *json)
{
    struct td_buf out;

    if (json == NULL)
        return hash;
    td_buf_init(&out, (size_t)16 << 20);
    td_json_write_tree(&out, json);
    assert(out.status == TD_OK);
    hash = fuzz_api_hash(hash, out.data, out.length);
    td_buf_fini(&out);
    return hash;
}

static void check_message(const struct api_message *message, const struct api_limits *limits)
{
    assert(message->role <= API_ROLE_TOOL);
    assert(message->has_content || message->tool_calls != NULL);
    assert(message->has_content || message->content.length == 0);
    assert(message->tool_calls == NULL || message->role == API_ROLE_ASSISTANT);
    assert((message->tool_call_id.length > 0) == (message->role == API_ROLE_TOOL));
    assert(message->name.length <= limits->label_bytes);
}

static uint64_t hash_message(uint64_t hash, const struct api_message *message)
{
    const uint32_t words[] = {message->role, message->has_content};

    hash = fuzz_api_hash(hash, words, sizeof words);
    hash = hash_span(hash_span(hash, message->content), message->name);
    return hash_tree(hash_span(hash, message->tool_call_id), message->tool_calls);
}

static uint64_t parse(struct td_span body, const struct api_limits *limits, struct td_arena *arena)
{
    struct api_error error = {.kind = API_ERROR_COUNT};
    struct api_chat_request request;
    td_status_t status = api_chat_request_parse(body, limits, arena, &request, &error);
    uint64_t hash = 0;

    if (status != TD_OK) {
        fuzz_api_check_error(status, &error);
        return fuzz_api_hash_error(status, &error);
    }
    assert(error.kind == API_ERROR_COUNT);
    fuzz_api_check_options(&request.options, limits);
    assert(request.message_count > 0 && request.message_count <= limits->messages);
    for (uint32_t i = 0; i < request.message_count; i++) {
        check_message(&request.messages[i], limits);
        hash = hash_message(hash, &request.messages[i]);
    }
    fuzz_api_check_answer(API_CHAT, &request.options, request.messages[0].content);
    return hash_tree(fuzz_api_hash_options(hash, &request.options), request.tools);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_api_run(data, size, parse);
    return 0;
}
