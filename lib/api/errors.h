/*
 * errors.h: every error a client can see: one table of status, type, code and retry hint.
 *
 * Official clients show a message only in OpenAI's shape, {"error":{message,type,param,code}}, so
 * all answers of 400 and above use it, also those of the HTTP layer. They repeat a request by
 * themselves on 408, 409, 429 and 5xx unless x-should-retry says no. Texts come from tables and from
 * field names; a client's own content, addresses, paths and internal ids never appear.
 */
#ifndef TANDEM_LIB_API_ERRORS_H
#define TANDEM_LIB_API_ERRORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/buf.h"
#include "lib/base/status.h"

/* name, HTTP status, type, code or NULL, whether a repetition can help, text */
#define API_ERROR_MAP(X)                                                                      \
    X(INVALID_REQUEST, 400, "invalid_request_error", NULL, NO, "the request is malformed")    \
    X(UNSUPPORTED_VALUE, 400, "invalid_request_error", "unsupported_value", NO,               \
      "the request asks for something that is not supported")                                 \
    X(CONTEXT_LENGTH, 400, "invalid_request_error", "context_length_exceeded", NO,            \
      "the prompt does not fit into the model's context")                                     \
    X(INVALID_API_KEY, 401, "invalid_request_error", "invalid_api_key", NO,                   \
      "the API key is missing or wrong")                                                      \
    X(PERMISSION, 403, "permission_error", NULL, NO, "the API key does not allow this")       \
    X(MODEL_NOT_FOUND, 404, "invalid_request_error", "model_not_found", NO,                   \
      "no such model; GET /v1/models lists those that are served")                            \
    X(ROUTE_NOT_FOUND, 404, "invalid_request_error", "unknown_url", NO, "no such route")      \
    X(METHOD_NOT_ALLOWED, 405, "invalid_request_error", "method_not_allowed", NO,             \
      "the route does not take this method")                                                  \
    X(REQUEST_TIMEOUT, 408, "timeout", "request_timeout", YES, "the request came too slowly") \
    X(TOO_LARGE, 413, "invalid_request_error", "request_too_large", NO,                       \
      "the request body is larger than the server takes")                                     \
    X(MEDIA_TYPE, 415, "invalid_request_error", "unsupported_media_type", NO,                 \
      "the request body must be application/json without content encoding")                   \
    X(HEAD_TOO_LARGE, 431, "invalid_request_error", "header_fields_too_large", NO,            \
      "the request head is larger than the server takes")                                     \
    X(QUEUE_FULL, 429, "rate_limit_error", "rate_limit_exceeded", YES,                        \
      "too many requests are waiting; try again")                                             \
    X(INTERNAL, 500, "server_error", "internal_error", YES, "internal error")                 \
    X(NOT_IMPLEMENTED, 501, "not_implemented", "not_implemented", NO,                         \
      "the server does not do this")                                                          \
    X(OVERLOADED, 503, "server_error", "overloaded", YES,                                     \
      "no worker can take the request at present; try again")                                 \
    X(NOT_READY, 503, "server_error", "not_ready", YES, "the server is starting or draining") \
    X(WORKER_LOST, 503, "server_error", "worker_lost", YES,                                   \
      "the worker that served the request was lost")                                          \
    X(TIMEOUT, 504, "timeout", "timeout", YES, "the request took too long")

enum api_error_kind {
#define X(name, status, type, code, retry, text) API_ERROR_##name,
    API_ERROR_MAP(X)
#undef X
        API_ERROR_COUNT
};

#define API_PARAM_BYTES 96

struct api_error {
    enum api_error_kind kind;
    char param[API_PARAM_BYTES]; /* the field at fault, "messages[2].content"; empty: null */
    char message[256];
    uint32_t retry_after_ms; /* 0: no hint */
};

/*
 * Fills error. param may be NULL (no single field); format NULL gives the table's text. error may be
 * NULL, so that a reader can be used without an answer.
 */
void api_error_set(struct api_error *error, enum api_error_kind kind, const char *param,
                   const char *format, ...) TD_PRINTF(4, 5);

/* The HTTP status. */
int api_error_status(const struct api_error *error);

/* How a request that ended with this status is reported. TD_OK and TD_AGAIN count as INTERNAL. */
enum api_error_kind api_error_kind_of(td_status_t status);

/* How an error of the HTTP layer, of which only the HTTP status is known, is reported. */
enum api_error_kind api_error_kind_of_http(int http_status);

/* Appends the error object {"error":{...}}, the body of a response of type application/json. */
void api_error_write(const struct api_error *error, struct td_buf *out);

/* Header fields that go with an error, as texts; an empty one is left out. */
struct api_retry_headers {
    char retry_after[16];       /* Retry-After, whole seconds, rounded up */
    char retry_after_ms[16];    /* retry-after-ms: official clients look at it first */
    const char *x_should_retry; /* "false", or NULL: what clients do by themselves is right */
};

struct api_retry_headers api_error_retry(const struct api_error *error);

/* Appends the table as Markdown, for docs. */
void api_errors_print_markdown(struct td_buf *out);

#endif
