/* errors.c: the table of errors, see errors.h. */
#include "lib/api/errors.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "lib/base/json_write.h"

enum retry { RETRY_NO, RETRY_YES };

struct row {
    int status;
    const char *type;
    const char *code;
    enum retry retry;
    const char *text;
};

static const struct row rows[] = {
#define X(name, status, type, code, retry, text) \
    [API_ERROR_##name] = {status, type, code, RETRY_##retry, text},
    API_ERROR_MAP(X)
#undef X
};

static const struct row *row_of(const struct api_error *error)
{
    assert(error->kind < API_ERROR_COUNT);
    return &rows[error->kind];
}

void api_error_set(struct api_error *error, enum api_error_kind kind, const char *param,
                   const char *format, ...)
{
    va_list arguments;

    assert(kind < API_ERROR_COUNT);
    if (error == NULL)
        return;
    *error = (struct api_error){.kind = kind};
    snprintf(error->param, sizeof error->param, "%s", param != NULL ? param : "");
    if (format == NULL) {
        snprintf(error->message, sizeof error->message, "%s", rows[kind].text);
        return;
    }
    va_start(arguments, format);
    vsnprintf(error->message, sizeof error->message, format, arguments);
    va_end(arguments);
}

int api_error_status(const struct api_error *error)
{
    return row_of(error)->status;
}

enum api_error_kind api_error_kind_of(td_status_t status)
{
    switch (status) {
    case TD_INVALID: return API_ERROR_INVALID_REQUEST;
    case TD_UNSUPPORTED: return API_ERROR_UNSUPPORTED_VALUE;
    case TD_LIMIT: return API_ERROR_CONTEXT_LENGTH;
    case TD_NOT_FOUND: return API_ERROR_MODEL_NOT_FOUND;
    case TD_EXHAUSTED: return API_ERROR_QUEUE_FULL;
    case TD_TIMEOUT: return API_ERROR_TIMEOUT;
    case TD_PEER_LOST: return API_ERROR_WORKER_LOST;
    case TD_CANCELED: return API_ERROR_NOT_READY; /* by us: the process is going down */
    case TD_NO_MEMORY:
    case TD_REFUSED: return API_ERROR_OVERLOADED;
    case TD_OK:
    case TD_AGAIN:
    case TD_CORRUPT:
    case TD_STALE:
    case TD_IO:
    case TD_STATE:
    case TD_INTERNAL: break;
    }
    return API_ERROR_INTERNAL;
}

enum api_error_kind api_error_kind_of_http(int http_status)
{
    for (int kind = 0; kind < API_ERROR_COUNT; kind++)
        if (rows[kind].status == http_status && kind != API_ERROR_MODEL_NOT_FOUND)
            return (enum api_error_kind)kind;
    return http_status < 500 ? API_ERROR_INVALID_REQUEST : API_ERROR_INTERNAL;
}

static void put_or_null(struct td_json_writer *writer, const char *key, const char *text)
{
    if (text == NULL || text[0] == '\0')
        td_json_put_null(writer, key);
    else
        td_json_put_text(writer, key, text);
}

void api_error_write(const struct api_error *error, struct td_buf *out)
{
    struct td_json_writer w = td_json_writer_to(out);

    td_json_begin_object(&w, NULL);
    td_json_begin_object(&w, "error");
    td_json_put_text(&w, "message", error->message);
    td_json_put_text(&w, "type", row_of(error)->type);
    put_or_null(&w, "param", error->param);
    put_or_null(&w, "code", row_of(error)->code);
    td_json_end(&w);
    td_json_end(&w);
}

struct api_retry_headers api_error_retry(const struct api_error *error)
{
    struct api_retry_headers headers = {.x_should_retry = NULL};
    uint32_t ms = error->retry_after_ms;

    if (row_of(error)->retry == RETRY_NO) {
        headers.x_should_retry = "false";
        return headers;
    }
    if (ms > 0) {
        snprintf(headers.retry_after, sizeof headers.retry_after, "%u",
                 ms / 1000 + (ms % 1000 > 0));
        snprintf(headers.retry_after_ms, sizeof headers.retry_after_ms, "%u", ms);
    }
    return headers;
}

void api_errors_print_markdown(struct td_buf *out)
{
    td_buf_append_text(out, "| status | type | code | clients repeat it | meaning |\n"
                            "|---|---|---|---|---|\n");
    for (int kind = 0; kind < API_ERROR_COUNT; kind++)
        td_buf_printf(out, "| %d | `%s` | `%s` | %s | %s |\n", rows[kind].status, rows[kind].type,
                      rows[kind].code != NULL ? rows[kind].code : "null",
                      rows[kind].retry == RETRY_YES ? "yes" : "no", rows[kind].text);
    td_buf_append_char(out, '\n');
}
