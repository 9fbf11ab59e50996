/* fuzz_api_completions.c: as fuzz_api_chat.c, for completion requests. */
#include <assert.h>

#include "fuzz_api.h"
#include "lib/api/completion_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t parse(struct td_span body, const struct api_limits *limits, struct td_arena *arena)
{
    struct api_error error = {.kind = API_ERROR_COUNT};
    struct api_completion_request request;
    td_status_t status = api_completion_request_parse(body, limits, arena, &request, &error);
    uint64_t hash = 0;

    if (status != TD_OK) {
        fuzz_api_check_error(status, &error);
        return fuzz_api_hash_error(status, &error);
    }
    assert(error.kind == API_ERROR_COUNT);
    fuzz_api_check_options(&request.options, limits);
    assert(request.options.max_tokens > 0);
    if (request.kind == API_PROMPT_TOKENS) {
        assert(request.token_count > 0 && request.token_count <= limits->json_nodes);
        hash = fuzz_api_hash(hash, request.tokens, request.token_count * sizeof *request.tokens);
    } else {
        assert(request.token_count == 0);
        hash = fuzz_api_hash(hash, request.text.bytes, request.text.length);
        fuzz_api_check_answer(API_COMPLETIONS, &request.options, request.text);
    }
    return fuzz_api_hash_options(hash, &request.options);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_api_run(data, size, parse);
    return 0;
}
