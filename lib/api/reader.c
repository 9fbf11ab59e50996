/* reader.c: bodies and fields with errors that name them, see reader.h. */
#include "lib/api/reader.h"

#include <stdarg.h>
#include <stdio.h>

/*
 * Fields are looked up by linear search, each once, so a body with very many fields would make the
 * number of fields we know a factor of the work. No client sends half as many.
 */
#define FIELDS_MAX 256

td_status_t api_read_body(struct api_reader *reader, struct td_span body,
                          const struct td_json **object_out)
{
    struct td_json_limits limits = api_json_limits(reader->limits);
    const struct td_json *root = NULL;
    struct td_error error = {0};
    td_status_t status;

    if (body.length > reader->limits->body_bytes) {
        api_error_set(reader->error, API_ERROR_TOO_LARGE, NULL, NULL);
        return TD_LIMIT;
    }
    status = td_json_parse(reader->arena, body, &limits, &root, &error);
    if (status == TD_NO_MEMORY)
        return api_refuse_memory(reader);
    if (status != TD_OK)
        return api_refuse(reader, status, NULL, "the body is not acceptable JSON: %s", error.text);
    if (root->kind != TD_JSON_OBJECT)
        return api_refuse(reader, TD_INVALID, NULL, "the body must be a JSON object, not %s",
                          td_json_kind_text(root->kind));
    if (root->items.count > FIELDS_MAX)
        return api_refuse(reader, TD_INVALID, NULL, "the body has more than %d fields", FIELDS_MAX);
    *object_out = root;
    return TD_OK;
}

void api_reader_at(struct api_reader *reader, const char *name, size_t index)
{
    if (name == NULL)
        reader->path[0] = '\0';
    else
        snprintf(reader->path, sizeof reader->path, "%s[%zu]", name, index);
}

td_status_t api_refuse(struct api_reader *reader, td_status_t status, const char *field,
                       const char *format, ...)
{
    char param[API_PARAM_BYTES];
    char message[200];
    va_list arguments;
    bool nested = reader->path[0] != '\0';

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (snprintf(param, sizeof param, "%s%s%s", reader->path, nested && field != NULL ? "." : "",
                 field != NULL ? field : "") < 0)
        param[0] = '\0';
    api_error_set(reader->error,
                  status == TD_UNSUPPORTED ? API_ERROR_UNSUPPORTED_VALUE
                                           : API_ERROR_INVALID_REQUEST,
                  param, "%s%s%s", reader->path, nested ? ": " : "", message);
    return status;
}

td_status_t api_refuse_memory(struct api_reader *reader)
{
    if (reader->arena->status == TD_LIMIT)
        return api_refuse(reader, TD_LIMIT, NULL, "the request takes too much memory");
    api_error_set(reader->error, API_ERROR_OVERLOADED, NULL, NULL);
    return TD_NO_MEMORY;
}

/* Passes on what a td_json reader said about a field. */
static td_status_t passed(struct api_reader *reader, td_status_t status, const char *name,
                          const struct td_error *error)
{
    return status == TD_OK ? TD_OK : api_refuse(reader, status, name, "%s", error->text);
}

td_status_t api_read_bool(struct api_reader *reader, const struct td_json *object, const char *name,
                          bool *value_out)
{
    struct td_error error = {0};

    return passed(reader, td_json_bool(td_json_get(object, name), value_out, &error), name, &error);
}

td_status_t api_read_int(struct api_reader *reader, const struct td_json *object,
                         struct api_int_field field, int64_t *value_out)
{
    struct td_error error = {0};
    td_status_t status =
        td_json_int(td_json_get(object, field.name), field.min, field.max, value_out, &error);

    return passed(reader, status, field.name, &error);
}

td_status_t api_read_number(struct api_reader *reader, const struct td_json *object,
                            struct api_number_field field, double *value_out)
{
    struct td_error error = {0};
    td_status_t status =
        td_json_number(td_json_get(object, field.name), field.min, field.max, value_out, &error);

    return passed(reader, status, field.name, &error);
}

td_status_t api_read_string(struct api_reader *reader, const struct td_json *object,
                            const char *name, uint64_t bytes_max, struct td_span *value_out)
{
    struct td_error error = {0};
    struct td_span value = {0};
    td_status_t status = td_json_string(td_json_get(object, name), &value, &error);

    if (status != TD_OK)
        return passed(reader, status, name, &error);
    if (value.length > bytes_max)
        return api_refuse(reader, TD_INVALID, name, "'%s' must have at most %llu bytes", name,
                          (unsigned long long)bytes_max);
    if (value.bytes != NULL)
        *value_out = value;
    return TD_OK;
}

td_status_t api_read_array(struct api_reader *reader, const struct td_json *object,
                           const char *name, uint32_t count_max, const struct td_json **value_out)
{
    struct td_error error = {0};
    const struct td_json *value = NULL;
    td_status_t status = td_json_array(td_json_get(object, name), &value, &error);

    if (status != TD_OK)
        return passed(reader, status, name, &error);
    if (value != NULL && value->items.count > count_max)
        return api_refuse(reader, TD_INVALID, name, "'%s' must have at most %u elements", name,
                          count_max);
    if (value != NULL)
        *value_out = value;
    return TD_OK;
}
