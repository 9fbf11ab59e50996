/* http_answer.c: one request as its handler sees it, and the bytes of answers. */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/http_internal.h"

#define CHUNK_HEAD_BYTES_MAX 18 /* 16 digits, CR, LF */
#define CHUNK_FRAME_BYTES    (CHUNK_HEAD_BYTES_MAX + 2)

static struct http_connection *connection_of(const struct http_request *request)
{
    /* requests are always part of a connection, which is never const */
    return td_container_of((uintptr_t)request, struct http_connection, request);
}

/* The standard phrase of a status ("Not Found"). */
static const char *status_text(int status)
{
    static const struct {
        int status;
        const char *text;
    } texts[] = {
        {200, "OK"},
        {201, "Created"},
        {202, "Accepted"},
        {204, "No Content"},
        {304, "Not Modified"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {499, "Client Closed Request"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].status == status)
            return texts[i].text;
    return "Unknown";
}

/* ---- what the handler reads ---- */

enum http_method http_request_method(const struct http_request *request)
{
    return connection_of(request)->parser.method;
}

const char *http_request_path(const struct http_request *request)
{
    const struct http1_parser *parser = &connection_of(request)->parser;

    return http1_text(parser, parser->path);
}

const char *http_request_query(const struct http_request *request)
{
    const struct http1_parser *parser = &connection_of(request)->parser;

    return http1_text(parser, parser->query);
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return http1_find(&connection_of(request)->parser, name);
}

const char *http_request_body(const struct http_request *request, size_t *length_out)
{
    *length_out = request->body.length;
    return request->body.data != NULL ? request->body.data : "";
}

const char *http_request_peer(const struct http_request *request)
{
    return connection_of(request)->peer;
}

void http_request_bind(struct http_request *request, const struct http_request_callbacks *callbacks,
                       void *ctx)
{
    request->callbacks = callbacks;
    request->ctx = ctx;
}

/* ---- heads of answers ---- */

static const char *date(struct http_server *server)
{
    int64_t now = td_unix_seconds();
    time_t seconds = (time_t)now;
    struct tm parts;

    if (now != server->date_second) {
        gmtime_r(&seconds, &parts);
        strftime(server->date, sizeof server->date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        server->date_second = now;
    }
    return server->date;
}

static void write_start(struct http_server *server, struct td_buf *out, int status)
{
    td_buf_printf(out, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, status_text(status), date(server));
}

static void write_headers(struct td_buf *out, const struct http_response *response)
{
    for (size_t i = 0; i < response->header_count; i++) {
        const struct http_header *header = &response->headers[i];

        if (!http1_is_token(header->name, strlen(header->name)) ||
            !http1_is_value(header->value, strlen(header->value))) {
            td_log(TD_LOG_DEBUG, "http", "left out a header that HTTP does not allow: %.64s",
                   header->name);
            continue;
        }
        td_buf_append_text(out, header->name);
        td_buf_append_text(out, ": ");
        td_buf_append_text(out, header->value);
        td_buf_append_text(out, "\r\n");
    }
}

static void write_connection(const struct http_connection *connection, struct td_buf *out)
{
    if (connection->close_after)
        td_buf_append_text(out, "Connection: close\r\n");
    else if (connection->parser.minor_version == 0)
        td_buf_append_text(out, "Connection: keep-alive\r\n");
}

/* Whether a status says that there is no content, not even an empty one. */
static bool is_bare_status(int status)
{
    return status == 204 || status == 304;
}

/* An unread body would be taken for the next request. */
static bool body_is_unread(const struct http_connection *connection)
{
    const struct http1_parser *parser = &connection->parser;

    return connection->phase < HTTP_BODIED ||
           (connection->phase == HTTP_BODIED && (parser->chunked || parser->content_length > 0));
}

static void decide_close(struct http_connection *connection, bool asked_for)
{
    if (asked_for || !connection->parser.keep_alive || body_is_unread(connection) ||
        connection->server->draining)
        connection->close_after = true;
}

static void write_head(struct http_connection *connection, const struct http_response *response)
{
    struct td_buf *out = &connection->output;

    write_start(connection->server, out, response->status);
    write_headers(out, response);
    write_connection(connection, out);
}

/* ---- whole answers ---- */

void http_respond(struct http_request *request, const struct http_response *response)
{
    struct http_connection *connection = connection_of(request);
    struct td_buf *out = &connection->output;
    bool bare = is_bare_status(response->status);

    assert((connection->phase == HTTP_ASKED || connection->phase == HTTP_BODIED) &&
           !request->streaming && "http_respond: the request is answered already");
    decide_close(connection, response->close);
    write_head(connection, response);
    if (!bare)
        td_buf_printf(out, "Content-Length: %zu\r\n", response->body_length);
    td_buf_append_text(out, "\r\n");
    if (!bare && connection->parser.method != HTTP_HEAD)
        td_buf_append(out, response->body, response->body_length);
    http_connection_answered(connection);
}

/* The body and the type of an error of ours. */
static const char *write_error_body(const struct http_server *server, int status,
                                    const char *reason, struct td_buf *out)
{
    if (server->config.error_body != NULL)
        return server->config.error_body(server->config.ctx, status, reason, out);
    td_buf_printf(out, "%s\n", reason);
    return "text/plain; charset=utf-8";
}

static void write_error(struct http_connection *connection, int status, const char *reason,
                        const char *allowed)
{
    struct td_buf body;
    struct http_header headers[2] = {{.name = "Content-Type"}, {"Allow", allowed}};
    struct http_response response = {.status = status, .headers = headers};

    td_buf_init(&body, 65536);
    headers[0].value = write_error_body(connection->server, status, reason, &body);
    response.header_count = allowed != NULL ? 2 : 1;
    decide_close(connection, false);
    write_head(connection, &response);
    td_buf_printf(&connection->output, "Content-Length: %zu\r\n\r\n", body.length);
    if (connection->phase < HTTP_BODIED || connection->parser.method != HTTP_HEAD)
        td_buf_append(&connection->output, body.data, body.length);
    td_buf_fini(&body);
    http_connection_answered(connection);
}

void http_answer_error(struct http_connection *connection, int status, const char *reason)
{
    write_error(connection, status, reason, NULL);
}

void http_answer_method(struct http_connection *connection, uint32_t allowed)
{
    struct td_buf list;

    td_buf_init(&list, 256);
    for (int i = 0; i < HTTP_METHOD_COUNT; i++)
        if ((allowed & HTTP_METHOD_BIT(i)) ||
            (i == HTTP_HEAD && (allowed & HTTP_METHOD_BIT(HTTP_GET))))
            td_buf_printf(&list, "%s%s", list.length > 0 ? ", " : "",
                          http_method_name((enum http_method)i));
    write_error(connection, 405, "the method is not allowed here",
                list.status == TD_OK ? list.data : NULL);
    td_buf_fini(&list);
}

void http_respond_error(struct http_request *request, int status, const char *reason)
{
    struct http_connection *connection = connection_of(request);

    assert((connection->phase == HTTP_ASKED || connection->phase == HTTP_BODIED) &&
           !request->streaming && "http_respond_error: the request is answered already");
    http_answer_error(connection, status, reason);
}

void http_write_refusal(struct http_server *server, int status, const char *reason,
                        struct td_buf *out)
{
    struct td_buf body;
    const char *type;

    td_buf_init(&body, 65536);
    type = write_error_body(server, status, reason, &body);
    write_start(server, out, status);
    td_buf_printf(out, "Connection: close\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n", type,
                  body.length);
    td_buf_append(out, body.data, body.length);
    td_buf_fini(&body);
}

/* ---- streamed answers ---- */

void http_stream_begin(struct http_request *request, const struct http_response *response)
{
    struct http_connection *connection = connection_of(request);

    assert(connection->phase == HTTP_ASKED && !request->streaming &&
           "http_stream_begin: the request is answered already");
    request->streaming = true;
    request->chunked = connection->parser.minor_version == 1;
    request->without_content =
        connection->parser.method == HTTP_HEAD || is_bare_status(response->status);
    decide_close(connection, response->close || !request->chunked);
    write_head(connection, response);
    if (request->chunked && !is_bare_status(response->status))
        td_buf_append_text(&connection->output, "Transfer-Encoding: chunked\r\n");
    td_buf_append_text(&connection->output, "\r\n");
    http_connection_touch(connection);
}

static void write_chunk(struct http_connection *connection, const void *bytes, size_t length)
{
    td_buf_printf(&connection->output, "%zx\r\n", length);
    td_buf_append(&connection->output, bytes, length);
    td_buf_append(&connection->output, "\r\n", 2);
}

td_status_t http_stream_write(struct http_request *request, const void *bytes, size_t length)
{
    struct http_connection *connection = connection_of(request);
    size_t backlog_max = connection->server->config.limits.backlog_bytes_max;

    assert(request->streaming && connection->phase == HTTP_ASKED);
    if (request->without_content || length == 0) /* an empty chunk would end the answer */
        return TD_OK;
    if (length > backlog_max - CHUNK_FRAME_BYTES)
        return TD_LIMIT;
    if (length + CHUNK_FRAME_BYTES + http_connection_backlog(connection) > backlog_max) {
        request->wants_drain = true;
        http_connection_touch(connection);
        return TD_AGAIN;
    }
    if (request->chunked)
        write_chunk(connection, bytes, length);
    else
        td_buf_append(&connection->output, bytes, length);
    http_connection_touch(connection);
    return connection->output.status;
}

size_t http_stream_backlog(const struct http_request *request)
{
    return http_connection_backlog(connection_of(request));
}

void http_stream_end(struct http_request *request)
{
    struct http_connection *connection = connection_of(request);

    assert(request->streaming && connection->phase == HTTP_ASKED);
    if (request->chunked && !request->without_content)
        td_buf_append_text(&connection->output, "0\r\n\r\n");
    http_connection_answered(connection);
}

void http_stream_abort(struct http_request *request)
{
    struct http_connection *connection = connection_of(request);

    assert(request->streaming && connection->phase == HTTP_ASKED);
    connection->close_after = true;
    if (!request->chunked)
        connection->reset_on_close = true;
    http_connection_answered(connection);
}
