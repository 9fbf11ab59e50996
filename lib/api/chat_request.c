/* chat_request.c: messages and the rest of a chat request, see chat_request.h. */
#include "lib/api/chat_request.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/api/reader.h"
#include "lib/api/refusals.h"
#include "lib/api/template_values.h"
#include "lib/api/tools.h"
#include "lib/base/bytes.h"

#define JOINT "\n" /* between text parts, as vLLM and llama.cpp do */

static const char *const role_texts[] = {
    [API_ROLE_SYSTEM] = "system", [API_ROLE_DEVELOPER] = "developer",
    [API_ROLE_USER] = "user",     [API_ROLE_ASSISTANT] = "assistant",
    [API_ROLE_TOOL] = "tool",
};

const char *api_role_text(enum api_role role)
{
    assert(role <= API_ROLE_TOOL);
    return role_texts[role];
}

static td_status_t read_role(struct api_reader *reader, const struct td_json *object,
                             enum api_role *role_out)
{
    struct td_span role = {0};
    td_status_t status =
        api_read_string(reader, object, "role", reader->limits->label_bytes, &role);

    if (status != TD_OK)
        return status;
    for (int i = 0; i <= API_ROLE_TOOL; i++) {
        if (role.bytes != NULL && td_span_is(role, role_texts[i])) {
            *role_out = (enum api_role)i;
            return TD_OK;
        }
    }
    return api_refuse(reader, TD_INVALID, "role",
                      "'role' must be one of system, developer, user, assistant and tool");
}

/* The text of content part index, {"type":"text","text":...} or an assistant's refusal. */
static td_status_t read_part(struct api_reader *reader, const struct td_json *part, size_t index,
                             struct td_span *text_out)
{
    const struct td_json *type = part->kind == TD_JSON_OBJECT ? td_json_find(part, "type") : NULL;
    const struct td_json *text = NULL;
    char path[40];

    snprintf(path, sizeof path, "content[%zu]", index);
    if (type == NULL || type->kind != TD_JSON_STRING)
        return api_refuse(reader, TD_INVALID, path, "'%s' must be an object with a 'type'", path);
    if (td_span_is(type->string, "text"))
        text = td_json_find(part, "text");
    else if (td_span_is(type->string, "refusal"))
        text = td_json_find(part, "refusal");
    else
        return api_refuse(reader, TD_UNSUPPORTED, path, "'%s.type' must be \"text\"", path);
    if (text == NULL || text->kind != TD_JSON_STRING)
        return api_refuse(reader, TD_INVALID, path, "'%s' must have its text as a string", path);
    *text_out = text->string;
    return TD_OK;
}

static td_status_t join_parts(struct api_reader *reader, const struct td_json *parts,
                              struct td_span *content_out)
{
    struct td_span *texts = td_arena_array(reader->arena, parts->items.count, sizeof *texts);
    size_t length = 0; /* stays below that of the body */
    size_t count = 0;
    char *joined;
    char *cursor;

    if (texts == NULL)
        return api_refuse_memory(reader);
    td_json_for_each(part, parts)
    {
        td_status_t status = read_part(reader, part, count, &texts[count]);

        if (status != TD_OK)
            return status;
        length += (count > 0 ? strlen(JOINT) : 0) + texts[count].length;
        count++;
    }
    cursor = joined = td_arena_alloc_unset(reader->arena, length + 1);
    if (joined == NULL)
        return api_refuse_memory(reader);
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            cursor = mempcpy(cursor, JOINT, strlen(JOINT));
        cursor = mempcpy(cursor, texts[i].bytes, texts[i].length);
    }
    *cursor = '\0';
    *content_out = td_span_over(joined, length);
    return TD_OK;
}

static td_status_t read_content(struct api_reader *reader, const struct td_json *object,
                                struct api_message *message)
{
    const struct td_json *content = td_json_get(object, "content").value;
    bool may_be_absent = message->tool_calls != NULL;

    if (content == NULL && may_be_absent)
        return TD_OK;
    if (content == NULL || (content->kind != TD_JSON_STRING && content->kind != TD_JSON_ARRAY))
        return api_refuse(reader, TD_INVALID, "content",
                          "'content' must be a string or an array of parts");
    message->has_content = true;
    if (content->kind == TD_JSON_STRING) {
        message->content = content->string;
        return TD_OK;
    }
    if (content->items.count == 0 || content->items.count > reader->limits->content_parts)
        return api_refuse(reader, TD_INVALID, "content", "'content' must have 1 to %u parts",
                          reader->limits->content_parts);
    return join_parts(reader, content, &message->content);
}

/* What a model thought, under the name that OpenAI's clients give back, or under the other that is in use. */
static td_status_t read_reasoning(struct api_reader *reader, const struct td_json *object,
                                  struct api_message *message)
{
    uint64_t bytes_max = reader->limits->body_bytes;
    td_status_t status =
        api_read_string(reader, object, "reasoning_content", bytes_max, &message->reasoning);

    if (status == TD_OK && message->reasoning.length == 0)
        status = api_read_string(reader, object, "reasoning", bytes_max, &message->reasoning);
    return status;
}

static td_status_t read_message(struct api_reader *reader, const struct td_json *object,
                                struct api_message *message)
{
    uint64_t label_bytes = reader->limits->label_bytes;
    td_status_t status;

    if (object->kind != TD_JSON_OBJECT)
        return api_refuse(reader, TD_INVALID, NULL, "must be an object");
    status = read_role(reader, object, &message->role);
    if (status == TD_OK)
        status = api_read_string(reader, object, "name", label_bytes, &message->name);
    if (status == TD_OK && message->role == API_ROLE_TOOL)
        status =
            api_read_string(reader, object, "tool_call_id", label_bytes, &message->tool_call_id);
    if (status == TD_OK && message->role == API_ROLE_TOOL && message->tool_call_id.length == 0)
        status = api_refuse(reader, TD_INVALID, "tool_call_id",
                            "'tool_call_id' is required with role tool");
    if (status == TD_OK && message->role == API_ROLE_ASSISTANT)
        status = api_tool_calls_read(reader, object, &message->tool_calls);
    if (status == TD_OK && message->role == API_ROLE_ASSISTANT)
        status = read_reasoning(reader, object, message);
    if (status == TD_OK)
        status = read_content(reader, object, message);
    return status;
}

static td_status_t read_messages(struct api_reader *reader, const struct td_json *body,
                                 struct api_chat_request *request)
{
    const struct td_json *array = NULL;
    struct api_message *messages;
    size_t index = 0;
    td_status_t status = api_read_array(reader, body, "messages", reader->limits->messages, &array);

    if (status != TD_OK)
        return status;
    if (array == NULL || array->items.count == 0)
        return api_refuse(reader, TD_INVALID, "messages",
                          "'messages' must have at least one message");
    messages = td_arena_array(reader->arena, array->items.count, sizeof *messages);
    if (messages == NULL)
        return api_refuse_memory(reader);
    td_json_for_each(object, array)
    {
        api_reader_at(reader, "messages", index);
        status = read_message(reader, object, &messages[index++]);
        if (status != TD_OK)
            return status;
    }
    api_reader_at(reader, NULL, 0);
    request->messages = messages;
    request->message_count = (uint32_t)array->items.count;
    return TD_OK;
}

td_status_t api_chat_request_parse(struct td_span body, const struct api_limits *limits,
                                   struct td_arena *arena, struct api_chat_request *request_out,
                                   struct api_error *error)
{
    struct api_reader reader = {.limits = limits, .arena = arena, .error = error};
    struct api_chat_request request = {.message_count = 0};
    const struct td_json *object = NULL;
    td_status_t status = api_read_body(&reader, body, &object);

    if (status == TD_OK)
        status = api_refuse_unsupported(&reader, object, API_CHAT);
    if (status == TD_OK)
        status = api_options_read(&reader, object, &request.options);
    if (status == TD_OK)
        status = api_tools_read(&reader, object, &request.tools);
    if (status == TD_OK)
        status = api_template_values_read(&reader, object, &request.template_values);
    if (status == TD_OK)
        status = api_read_string(&reader, object, "reasoning_effort", limits->label_bytes,
                                 &request.reasoning_effort);
    if (status == TD_OK)
        status = read_messages(&reader, object, &request);
    if (status == TD_OK)
        *request_out = request;
    return status;
}

size_t api_arena_bytes(const struct api_limits *limits)
{
    struct td_json_limits json = api_json_limits(limits);
    size_t total = td_json_arena_bytes(&json);

    /* joined texts are shorter than the body; each message, stop string and token id is a value */
    if (__builtin_add_overflow(total, json.bytes_max, &total) ||
        !td_size_add(&total, json.nodes_max, sizeof(struct api_message)))
        return SIZE_MAX;
    return total;
}
