/*
 * http_internal.h: what the three files of the HTTP server share.
 *
 *   http_server.c      listening, limits of connections, draining and closing
 *   http_connection.c  one connection: reading, deadlines, flushing, noticing the client's end
 *   http_answer.c      one request as its handler sees it, and the bytes of answers
 *
 * A connection has at most one request at a time, which is part of it. It dies in two steps:
 * http_connection_close takes it out of everything at once; its memory goes when no function of
 * ours is in the middle of it any more (holds), because callbacks may close whatever they like.
 */
#ifndef TANDEM_LIB_NET_HTTP_INTERNAL_H
#define TANDEM_LIB_NET_HTTP_INTERNAL_H

#include <netinet/in.h>

#include "lib/base/buf.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/net/address.h"
#include "lib/net/http_server.h"
#include "lib/net/loop.h"

#define HTTP_READ_BYTES 16384

enum http_phase {
    HTTP_IDLE,   /* between requests: no byte of the next one yet */
    HTTP_HEADED, /* part of a head is here */
    HTTP_BODIED, /* the head is complete, the body is coming */
    HTTP_ASKED,  /* the handler has the request; its answer is not complete */
    HTTP_FLUSH,  /* the answer is complete; the rest of it has to leave */
    HTTP_LINGER, /* nothing more to send; reading off what still comes before the close */
    HTTP_CLOSED, /* only the memory is left */
};

struct http_request {
    const struct http_route *route;
    const struct http_request_callbacks *callbacks; /* NULL until bound */
    void *ctx;
    struct td_buf body;
    size_t body_counted;  /* of server->body_bytes */
    bool streaming;       /* http_stream_begin was called */
    bool chunked;         /* the streamed answer is framed in chunks */
    bool without_content; /* HEAD, 204, 304: bytes are dropped */
    bool wants_drain;     /* a write was refused */
};

struct http_connection {
    struct http_server *server;
    struct td_list node;
    struct net_poll *poll;
    struct net_timer timer; /* the deadline of the present phase, or the stall timer */
    struct net_defer flush; /* output is to leave at the end of this turn */
    int fd;
    enum http_phase phase;
    unsigned holds;
    bool close_after;    /* close once the output has left */
    bool reset_on_close; /* close with a reset */
    bool peer_closed;    /* the client has closed its sending side */
    bool output_blocked; /* the socket takes nothing at present */
    struct http1_parser parser;
    struct http_request request;
    struct td_buf ahead;  /* bytes that came while a request was being answered */
    struct td_buf output; /* bytes to be sent; the first output_sent of them have left */
    size_t output_sent;
    size_t lingered; /* bytes read off in HTTP_LINGER */
    struct td_u128 address;
    char peer[INET6_ADDRSTRLEN];
};

struct http_server {
    struct net_loop *loop;
    struct http_server_config config;
    char address[NET_ADDRESS_BYTES_MAX];
    int fd; /* listening; -1 when draining */
    struct net_poll *poll;
    struct net_timer accept_again; /* after running out of descriptors */
    struct td_list connections;
    struct td_map per_address; /* address -> struct address_count */
    struct http_server_counts counts;
    uint64_t body_bytes; /* of all requests being received or answered */
    int64_t date_second; /* what `date` says */
    char date[32];
    bool draining;
    uint64_t drain_until_ns; /* by then requests have come, or are refused */
    struct net_defer drained;
    void (*on_drained)(void *ctx);
    void *drained_ctx;
    uint8_t read_buffer[HTTP_READ_BYTES];
};

/* ---- http_connection.c ---- */

/* Takes over fd. The caller counts the connection. */
td_status_t http_connection_open(struct http_server *server, int fd, struct td_u128 address,
                                 const char *peer) TD_MUST_USE;

/* Takes it out of everything; a request in the handler's hands hears on_gone(why). */
void http_connection_close(struct http_connection *connection, td_status_t why);

/* Drain: closes it now if it is idle, otherwise after its present request, which has until drain_until_ns to come. */
void http_connection_drain(struct http_connection *connection);

/* There is output: send it at the end of this turn. */
void http_connection_touch(struct http_connection *connection);

/* The answer is complete: send the rest, then take the next request or close. */
void http_connection_answered(struct http_connection *connection);

static inline size_t http_connection_backlog(const struct http_connection *connection)
{
    return connection->output.length - connection->output_sent;
}

/* ---- http_server.c ---- */

/* The connection is out of everything: counts it off. */
void http_server_forget(struct http_server *server, struct http_connection *connection);

/* ---- http_answer.c ---- */

/* Answers with an error although there may be no complete request; ends the exchange. */
void http_answer_error(struct http_connection *connection, int status, const char *reason);

/* The same with a list of the methods that would be allowed. */
void http_answer_method(struct http_connection *connection, uint32_t allowed);

/* Writes an error answer for a client that does not even get a connection. */
void http_write_refusal(struct http_server *server, int status, const char *reason,
                        struct td_buf *out);

#endif
