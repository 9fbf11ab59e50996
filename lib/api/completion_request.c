/* completion_request.c: the forms of a prompt, see completion_request.h. */
#include "lib/api/completion_request.h"

#include "lib/api/reader.h"
#include "lib/api/refusals.h"

static td_status_t refuse_form(struct api_reader *reader)
{
    return api_refuse(reader, TD_INVALID, "prompt",
                      "'prompt' must be a string, or an array of token ids from 0 to 4294967295, "
                      "or an array with one of these");
}

/* An array of token ids. */
static td_status_t read_tokens(struct api_reader *reader, const struct td_json *array,
                               struct api_completion_request *request)
{
    uint32_t *tokens = td_arena_array(reader->arena, array->items.count, sizeof *tokens);
    uint32_t count = 0;

    if (tokens == NULL)
        return api_refuse_memory(reader);
    td_json_for_each(item, array)
    {
        if (item->kind != TD_JSON_INTEGER || item->integer < 0 || item->integer > UINT32_MAX)
            return refuse_form(reader);
        tokens[count++] = (uint32_t)item->integer;
    }
    request->kind = API_PROMPT_TOKENS;
    request->tokens = tokens;
    request->token_count = count;
    return TD_OK;
}

/* One prompt in an array: a text, or an array of ids that is not empty. */
static td_status_t read_only_prompt(struct api_reader *reader, const struct td_json *array,
                                    struct api_completion_request *request)
{
    const struct td_json *first = array->items.first;

    if (array->items.count > reader->limits->prompts)
        return api_refuse(reader, TD_INVALID, "prompt", "'prompt' must have at most %u prompts",
                          reader->limits->prompts);
    if (array->items.count > 1)
        return api_refuse(reader, TD_UNSUPPORTED, "prompt",
                          "'prompt' with several prompts is not supported here");
    if (first->kind == TD_JSON_ARRAY)
        return first->items.count == 0 ? refuse_form(reader) : read_tokens(reader, first, request);
    request->text = first->string;
    return TD_OK;
}

static td_status_t read_prompt(struct api_reader *reader, const struct td_json *object,
                               struct api_completion_request *request)
{
    const struct td_json *prompt = td_json_get(object, "prompt").value;
    const struct td_json *first;

    if (prompt == NULL)
        return api_refuse(reader, TD_INVALID, "prompt", "'prompt' is required");
    if (prompt->kind == TD_JSON_STRING) {
        request->text = prompt->string;
        return TD_OK;
    }
    if (prompt->kind != TD_JSON_ARRAY || prompt->items.count == 0)
        return refuse_form(reader);
    first = prompt->items.first;
    if (first->kind == TD_JSON_STRING || first->kind == TD_JSON_ARRAY)
        return read_only_prompt(reader, prompt, request);
    return read_tokens(reader, prompt, request);
}

td_status_t api_completion_request_parse(struct td_span body, const struct api_limits *limits,
                                         struct td_arena *arena,
                                         struct api_completion_request *request_out,
                                         struct api_error *error)
{
    struct api_reader reader = {.limits = limits, .arena = arena, .error = error};
    struct api_completion_request request = {.kind = API_PROMPT_TEXT};
    const struct td_json *object = NULL;
    td_status_t status = api_read_body(&reader, body, &object);

    if (status == TD_OK)
        status = api_refuse_unsupported(&reader, object, API_COMPLETIONS);
    if (status == TD_OK)
        status = api_options_read(&reader, object, &request.options);
    if (status == TD_OK)
        status = read_prompt(&reader, object, &request);
    if (status != TD_OK)
        return status;
    if (request.options.max_tokens == 0)
        request.options.max_tokens = API_COMPLETION_TOKENS;
    *request_out = request;
    return TD_OK;
}
