/*
 * http_server.h: HTTP/1.1 for the public: listening, connections, requests, bounded streaming.
 *
 * It owns sockets, limits and deadlines, and refuses to know what is served: paths come from a
 * table, error bodies from a hook. Everything runs on the loop thread.
 *
 * A request is one struct http_request, from its route's handler until the answer is complete
 * (http_respond, http_stream_end, http_stream_abort) or on_gone was called; then the pointer is
 * dead. A handler may answer before it returns or bind callbacks and answer later. Requests that a
 * client pipelines are handled one after the other.
 *
 * A client that goes away while its answer is pending is noticed at once. A client that closes
 * only its sending side counts as gone too: HTTP would allow it, but no client of such a service
 * does it on purpose, and the other reading wastes the most expensive resource there is.
 *
 * A broken stream must look broken: http_stream_abort closes without the last chunk.
 */
#ifndef TANDEM_LIB_NET_HTTP_SERVER_H
#define TANDEM_LIB_NET_HTTP_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"
#include "lib/net/http1.h"

struct net_loop;
struct td_buf;
struct http_server;
struct http_request;

#define HTTP_METHOD_BIT(method) (1u << (method))
#define HTTP_METHODS_READ       (HTTP_METHOD_BIT(HTTP_GET) | HTTP_METHOD_BIT(HTTP_HEAD))

/* ---- configuration ---- */

struct http_limits {
    uint32_t connections_max;             /* in all; more are answered with 503 and closed */
    uint32_t connections_per_address_max; /* per client address; 0: no limit */
    uint64_t body_bytes_total_max;        /* of bodies held for all requests together */
    uint32_t backlog_bytes_max;           /* streamed and not yet taken by the client's socket */
    uint32_t head_ms;   /* from the first byte (or the accept) to the whole head */
    uint32_t body_ms;   /* from the head to the whole body */
    uint32_t idle_ms;   /* between requests */
    uint32_t stall_ms;  /* output is waiting and the client takes nothing */
    uint32_t linger_ms; /* to read off what a client still sends before a close */
    uint32_t drain_ms;  /* draining: for the rest of requests that are still coming; then 503 */
};

/* The defaults: 10,000 and 256 connections, 1 GiB, 256 KiB, 10 s, 60 s, 75 s, 30 s, 2 s, 2 s. */
void http_limits_init(struct http_limits *limits);

/*
 * One row of the table of everything that can be asked for. A path that ends in '*' matches all
 * paths that begin with what is before it; the first matching row counts. HEAD is answered by the
 * GET row (the body is left out). No row: 404; no such method in it: 405.
 */
struct http_route {
    const char *path;
    uint32_t methods;        /* a set of HTTP_METHOD_BIT */
    uint32_t body_bytes_max; /* a larger body is refused with 413; 0: no body at all */
    void (*handler)(void *ctx, struct http_request *request); /* the body is complete */
};

struct http_server_config {
    const char *address; /* "127.0.0.1:8000"; port 0: http_server_address says which */
    bool reuse_port;     /* several servers may share the port */
    struct http_limits limits;
    const struct http_route *routes; /* lives as long as the server */
    size_t route_count;
    void *ctx; /* for all callbacks here and in the routes */

    /*
     * Optional: looks at a request whose head is complete, before its body is read (keys,
     * overload). Returns true to go on; or answers with http_respond and returns false.
     */
    bool (*admit)(void *ctx, struct http_request *request);

    /*
     * Optional: writes the body of an answer that the server itself gives (400, 404, 405, 408,
     * 413, 431, 503, ...) and names its type. Without it there is a line of text.
     */
    const char *(*error_body)(void *ctx, int status, const char *reason, struct td_buf *out);
};

/* ---- the server ---- */

td_status_t http_server_open(struct net_loop *loop, const struct http_server_config *config,
                             struct http_server **server_out, struct td_error *error) TD_MUST_USE;

/* The real address, "127.0.0.1:41234". */
const char *http_server_address(const struct http_server *server);

/*
 * Stops accepting, closes idle connections, lets requests in flight finish. A request whose head or body is
 * not complete has drain_ms for the rest, and is answered with 503 then: nobody has begun to work on it, so it can be
 * sent elsewhere. on_drained (may be NULL) runs once, from the loop, when no connection is left; not after
 * http_server_close.
 */
void http_server_drain(struct http_server *server, void (*on_drained)(void *ctx), void *ctx);

/* Closes everything now. Pending requests get on_gone(TD_CANCELED) before this returns. */
void http_server_close(struct http_server *server);

struct http_server_counts {
    uint32_t connections;         /* open now */
    uint32_t requests;            /* in flight now: head complete, answer not */
    uint64_t requests_total;      /* since the start */
    uint64_t connections_refused; /* over a limit of connections */
    uint64_t malformed;           /* requests answered with an error of HTTP itself */
    uint64_t clients_gone;    /* requests whose client went away before the answer was complete */
    uint64_t clients_stalled; /* connections cut because the client took nothing */
};

struct http_server_counts http_server_counts(const struct http_server *server);

/* ---- the request ---- */

enum http_method http_request_method(const struct http_request *request);

/* As sent: not decoded, without the query, NUL-terminated. Valid until the answer is complete. */
const char *http_request_path(const struct http_request *request);
const char *http_request_query(const struct http_request *request);

/* The value of the first field of this name (given in lower case), or NULL. */
const char *http_request_header(const struct http_request *request, const char *name);

/* The whole body, NUL-terminated; never NULL. Valid until the answer is complete. */
const char *http_request_body(const struct http_request *request, size_t *length_out);

/* The client's address without port, for logs. */
const char *http_request_peer(const struct http_request *request);

/*
 * Who wants to hear of a request that is answered later. Both may be NULL.
 */
struct http_request_callbacks {
    /* A write was refused with TD_AGAIN; now the backlog is down to half of the maximum. */
    void (*on_drain)(void *ctx, struct http_request *request);
    /*
     * The client is gone (TD_PEER_LOST), took nothing for too long (TD_TIMEOUT), or the server
     * closes (TD_CANCELED). No answer is possible any more and the request is dead on return.
     */
    void (*on_gone)(void *ctx, struct http_request *request, td_status_t why);
};

/* Must be called by a handler that has not answered when it returns. */
void http_request_bind(struct http_request *request, const struct http_request_callbacks *callbacks,
                       void *ctx);

/* ---- the answer ---- */

/* Headers that the server writes itself: Date, Content-Length, Transfer-Encoding, Connection. */
struct http_response {
    int status;
    const struct http_header *headers; /* names must be tokens, values without control characters */
    size_t header_count;
    const void *body; /* http_respond only */
    size_t body_length;
    bool close; /* close the connection afterwards */
};

/*
 * Answers whole and ends the request. A header that HTTP does not allow is left out and logged
 * (its value may come from a client). on_gone does not come any more.
 */
void http_respond(struct http_request *request, const struct http_response *response);

/* Answers with the server's own error body (see error_body) and ends the request. */
void http_respond_error(struct http_request *request, int status, const char *reason);

/* Begins a streamed answer. What is written leaves at the end of the loop's turn, all in one. */
void http_stream_begin(struct http_request *request, const struct http_response *response);

/*
 * Writes a piece. TD_OK: taken. TD_AGAIN: nothing was taken, because more than backlog_bytes_max
 * would be waiting; on_drain says when to go on. TD_LIMIT: larger than the whole backlog may be.
 * TD_NO_MEMORY.
 */
td_status_t http_stream_write(struct http_request *request, const void *bytes,
                              size_t length) TD_MUST_USE;

/* Bytes that wait for the client. */
size_t http_stream_backlog(const struct http_request *request);

/* Ends the answer and the request. */
void http_stream_end(struct http_request *request);

/*
 * Breaks the answer off, visibly, and ends the request: what was written still leaves, but no last
 * chunk, and the connection closes (to a client of HTTP/1.0, which has no chunks, by a reset).
 */
void http_stream_abort(struct http_request *request);

#endif
