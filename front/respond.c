/* respond.c: see respond.h. */
#include "front/respond.h"

#include <string.h>

#include "lib/api/response.h"

#define HEADERS_MAX      6
#define ERROR_BYTES_MAX  4096
#define ID_CHARACTERS    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:/"
#define REQUEST_ID_FIELD "x-request-id"

struct headers {
    struct http_header fields[HEADERS_MAX];
    size_t count;
};

static void add(struct headers *headers, const char *name, const char *value)
{
    if (value != NULL && value[0] != '\0')
        headers->fields[headers->count++] = (struct http_header){name, value};
}

void front_request_id(const struct http_request *request, struct td_u128 own,
                      char out[static FRONT_REQUEST_ID_BYTES])
{
    const char *given = http_request_header(request, REQUEST_ID_FIELD);
    size_t length = given != NULL ? strlen(given) : 0;

    if (length > 0 && length < FRONT_REQUEST_ID_BYTES && strspn(given, ID_CHARACTERS) == length)
        memcpy(out, given, length + 1);
    else
        td_u128_hex(own, out);
}

void front_respond(const struct front_reply *reply, const char *type, const struct td_buf *body)
{
    struct headers headers = {.count = 0};
    struct http_response response = {
        .status = 200, .headers = headers.fields, .close = reply->close};

    if (body->status != TD_OK) {
        struct api_error error;

        api_error_set(&error, API_ERROR_OVERLOADED, NULL, "there is no memory for the answer");
        front_respond_error(reply, &error);
        return;
    }
    add(&headers, "Content-Type", type);
    add(&headers, REQUEST_ID_FIELD, reply->request_id);
    response.header_count = headers.count;
    response.body = body->data;
    response.body_length = body->length;
    http_respond(reply->request, &response);
}

void front_respond_error(const struct front_reply *reply, const struct api_error *error)
{
    struct api_retry_headers retry = api_error_retry(error);
    struct headers headers = {.count = 0};
    struct http_response response = {
        .status = api_error_status(error), .headers = headers.fields, .close = reply->close};
    struct td_buf body;

    td_buf_init(&body, ERROR_BYTES_MAX);
    api_error_write(error, &body);
    add(&headers, "Content-Type", API_CONTENT_TYPE_JSON);
    add(&headers, REQUEST_ID_FIELD, reply->request_id);
    add(&headers, "Retry-After", retry.retry_after);
    add(&headers, "retry-after-ms", retry.retry_after_ms);
    add(&headers, "x-should-retry", retry.x_should_retry);
    response.header_count = headers.count;
    response.body = body.data;
    response.body_length = body.length; /* without memory: the status alone */
    http_respond(reply->request, &response);
    td_buf_fini(&body);
}

void front_respond_stream(const struct front_reply *reply)
{
    struct headers headers = {.count = 0};
    struct http_response response = {
        .status = 200, .headers = headers.fields, .close = reply->close};

    add(&headers, "Content-Type", API_CONTENT_TYPE_SSE);
    add(&headers, "Cache-Control", "no-cache");
    add(&headers, "X-Accel-Buffering", "no"); /* nginx would collect the events */
    add(&headers, REQUEST_ID_FIELD, reply->request_id);
    response.header_count = headers.count;
    http_stream_begin(reply->request, &response);
}
