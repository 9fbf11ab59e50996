/*
 * http_client.h: a small HTTP/1.1 client on the loop, for the command line and for tests.
 *
 * One client asks one server, one request at a time, and keeps the connection between requests; who
 * wants several at once opens several clients. The protocol itself is libcurl's, which nobody else
 * includes. Bodies are not collected: they are handed on as they come, chunks already decoded, so
 * that an endless stream costs no memory. Redirects are not followed, proxies of the environment
 * are not used, and nothing is asked twice, except that libcurl replaces a kept connection that turns
 * out to be closed before any byte of the answer came.
 *
 * Everything runs on the loop thread.
 */
#ifndef TANDEM_LIB_NET_HTTP_CLIENT_H
#define TANDEM_LIB_NET_HTTP_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/net/http1.h"

struct net_loop;
struct http_client;

#define HTTP_CLIENT_HEAD_BYTES_MAX 65536 /* of an answer, interim answers and trailers included */

struct http_client_request {
    enum http_method method;
    const char *path; /* begins with '/'; may have a query; sent as it is */
    const struct http_header *headers;
    size_t header_count;
    const void *body; /* NULL: none; copied, as all the rest is */
    size_t body_length;
    uint32_t connect_ms;     /* to be connected; 0: 5 s */
    uint32_t silence_ms;     /* the longest time in which nothing comes; 0: no limit */
    uint32_t deadline_ms;    /* for all of it; 0: no limit */
    uint64_t body_bytes_max; /* of the answer; more is TD_LIMIT; 0: no limit */
};

/* on_head and on_body may be NULL. Each may cancel the request or close the client. */
struct http_client_callbacks {
    /* The head of the answer is there; http_client_header tells its fields. Once at most. */
    void (*on_head)(void *ctx, int status);

    void (*on_body)(void *ctx, const void *bytes, size_t length);

    /*
     * The last call, once. TD_OK: the answer is complete, whatever its status. TD_PEER_LOST: no
     * connection, or it broke, also in the middle of an answer (a stream that its server broke
     * off). TD_TIMEOUT, TD_LIMIT, TD_INVALID (no HTTP), TD_REFUSED (certificates), TD_NO_MEMORY, TD_IO.
     * Otherwise than with TD_OK, reason is a sentence. A next request may be made here.
     */
    void (*on_end)(void *ctx, td_status_t status, const char *reason);
};

/*
 * A client of "127.0.0.1:8000", "http://host:8000" or "https://host" (checked against the
 * certificates of the system); a path after the host is put in front of all paths. Does not
 * connect yet. TD_INVALID if the text is not such an address.
 */
td_status_t http_client_open(struct net_loop *loop, const char *origin,
                             struct http_client **client_out, struct td_error *error) TD_MUST_USE;

/*
 * Sends a request. The callbacks must live until on_end. TD_STATE: one is being answered (inside
 * on_head and on_body, too, even after a cancel). TD_INVALID: a path or header that HTTP does not allow.
 */
td_status_t http_client_ask(struct http_client *client, const struct http_client_request *request,
                            const struct http_client_callbacks *callbacks, void *ctx) TD_MUST_USE;

/*
 * The value of the first field of this name in the answer's head, or NULL. In on_head and on_body only; valid
 * until the next call.
 */
const char *http_client_header(const struct http_client *client, const char *name);

/* Breaks the request off, if there is one; no callback runs any more. */
void http_client_cancel(struct http_client *client);

/* The same, and closes the client. NULL is allowed. */
void http_client_close(struct http_client *client);

#endif
