/* tools.c: see tools.h. */
#include "lib/api/tools.h"

#include <stdio.h>
#include <string.h>

#include "lib/api/reader.h"

#define NAME_BYTES_MAX 64 /* OpenAI's limit of a function's name */

static bool is_function_name(struct td_span name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    return name.length > 0 && name.length <= NAME_BYTES_MAX &&
           strspn(name.bytes, allowed) == name.length;
}

/* The object in the field "function" of a tool or tool call, with a good name. */
static td_status_t read_function(struct api_reader *reader, const struct td_json *owner,
                                 const char *path, const struct td_json **function_out)
{
    const struct td_json *type = owner->kind == TD_JSON_OBJECT ? td_json_find(owner, "type") : NULL;
    const struct td_json *function;
    const struct td_json *name;

    if (owner->kind != TD_JSON_OBJECT)
        return api_refuse(reader, TD_INVALID, path, "'%s' must be an object", path);
    if (type == NULL || type->kind != TD_JSON_STRING || !td_span_is(type->string, "function"))
        return api_refuse(reader, TD_UNSUPPORTED, path, "'%s.type' must be \"function\"", path);
    function = td_json_find(owner, "function");
    if (function == NULL || function->kind != TD_JSON_OBJECT)
        return api_refuse(reader, TD_INVALID, path, "'%s.function' must be an object", path);
    name = td_json_find(function, "name");
    if (name == NULL || name->kind != TD_JSON_STRING || !is_function_name(name->string))
        return api_refuse(reader, TD_INVALID, path,
                          "'%s.function.name' must be 1 to %d letters, digits, '_' or '-'", path,
                          NAME_BYTES_MAX);
    *function_out = function;
    return TD_OK;
}

static td_status_t check_call(struct api_reader *reader, const struct td_json *call, size_t index)
{
    const struct td_json *function = NULL;
    const struct td_json *arguments;
    const struct td_json *id;
    char path[40];
    td_status_t status;

    snprintf(path, sizeof path, "tool_calls[%zu]", index);
    status = read_function(reader, call, path, &function);
    if (status != TD_OK)
        return status;
    id = td_json_find(call, "id");
    if (id == NULL || id->kind != TD_JSON_STRING || id->string.length > reader->limits->label_bytes)
        return api_refuse(reader, TD_INVALID, path,
                          "'%s.id' must be a string of at most %llu bytes", path,
                          (unsigned long long)reader->limits->label_bytes);
    arguments = td_json_find(function, "arguments");
    if (arguments == NULL || arguments->kind != TD_JSON_STRING)
        return api_refuse(reader, TD_INVALID, path, "'%s.function.arguments' must be a string",
                          path);
    return TD_OK;
}

td_status_t api_tool_calls_read(struct api_reader *reader, const struct td_json *message,
                                const struct td_json **calls_out)
{
    const struct td_json *calls = NULL;
    size_t index = 0;
    td_status_t status =
        api_read_array(reader, message, "tool_calls", reader->limits->tools, &calls);

    if (status != TD_OK || calls == NULL || calls->items.count == 0)
        return status;
    td_json_for_each(call, calls)
    {
        status = check_call(reader, call, index++);
        if (status != TD_OK)
            return status;
    }
    *calls_out = calls;
    return TD_OK;
}

/* tool_choice as a word; "" for an object, which names a tool to be called. */
static td_status_t read_choice(struct api_reader *reader, const struct td_json *body,
                               bool has_tools, bool *none_out)
{
    const struct td_json *choice = td_json_get(body, "tool_choice").value;
    bool string = choice != NULL && choice->kind == TD_JSON_STRING;
    bool none = string && td_span_is(choice->string, "none");
    bool automatic = choice == NULL || (string && td_span_is(choice->string, "auto"));

    if (!has_tools && !none && !automatic)
        return api_refuse(reader, TD_INVALID, "tool_choice", "'tool_choice' needs 'tools'");
    *none_out = none;
    return TD_OK;
}

td_status_t api_tools_read(struct api_reader *reader, const struct td_json *body,
                           const struct td_json **tools_out)
{
    const struct td_json *tools = NULL;
    size_t index = 0;
    bool none = false;
    bool any;
    td_status_t status = api_read_array(reader, body, "tools", reader->limits->tools, &tools);

    if (status != TD_OK)
        return status;
    any = tools != NULL && tools->items.count > 0;
    status = read_choice(reader, body, any, &none);
    if (status != TD_OK || !any)
        return status;
    if (!none)
        return api_refuse(reader, TD_UNSUPPORTED, "tools",
                          "'tools' is not supported here, except with 'tool_choice' \"none\"");
    td_json_for_each(tool, tools)
    {
        const struct td_json *function = NULL;
        char path[32];

        snprintf(path, sizeof path, "tools[%zu]", index++);
        status = read_function(reader, tool, path, &function);
        if (status != TD_OK)
            return status;
    }
    *tools_out = tools;
    return TD_OK;
}
