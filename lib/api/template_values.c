/* template_values.c: see template_values.h. */
#include "lib/api/template_values.h"

#include <stdio.h>
#include <string.h>

#include "lib/api/reader.h"

#define FIELD          "chat_template_kwargs"
#define NAME_BYTES_MAX 64

/* What a template is given by the server, or what would be no value but a template or a way to go on. */
static const char *const reserved[] = {
    "messages",
    "tools",
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "tokenize",
    "bos_token",
    "eos_token",
    "namespace",
    "raise_exception",
    "strftime_now",
    "range",
};

static bool is_reserved(struct td_span name)
{
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (td_span_is(name, reserved[i]))
            return true;
    return false;
}

static bool is_variable_name(struct td_span name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789";

    return name.length > 0 && name.length <= NAME_BYTES_MAX &&
           strspn(name.bytes, letters) >= name.length &&
           !(name.bytes[0] >= '0' && name.bytes[0] <= '9');
}

static td_status_t check_name(struct api_reader *reader, struct td_span name)
{
    char path[sizeof FIELD + 1 + NAME_BYTES_MAX];

    if (!is_variable_name(name))
        return api_refuse(reader, TD_INVALID, FIELD,
                          "the names in '%s' must be 1 to %d letters, digits or '_'", FIELD,
                          NAME_BYTES_MAX);
    if (!is_reserved(name))
        return TD_OK;
    snprintf(path, sizeof path, "%s.%.*s", FIELD, (int)name.length, name.bytes);
    return api_refuse(reader, TD_UNSUPPORTED, path, "'%s' is not for clients to give", path);
}

td_status_t api_template_values_read(struct api_reader *reader, const struct td_json *body,
                                     const struct td_json **values_out)
{
    const struct td_json *values = td_json_get(body, FIELD).value;
    td_status_t status = TD_OK;

    if (values == NULL)
        return TD_OK;
    if (values->kind != TD_JSON_OBJECT || values->items.count > API_TEMPLATE_VALUES_MAX)
        return api_refuse(reader, TD_INVALID, FIELD, "'%s' must be an object of at most %d values",
                          FIELD, API_TEMPLATE_VALUES_MAX);
    td_json_for_each(member, values)
    {
        status = check_name(reader, member->key);
        if (status != TD_OK)
            return status;
    }
    *values_out = values;
    return TD_OK;
}
