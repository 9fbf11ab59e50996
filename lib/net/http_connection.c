/* http_connection.c: one connection: reading, deadlines, flushing, see http_internal.h. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/log.h"
#include "lib/base/time.h"
#include "lib/net/http_internal.h"

#define AHEAD_BYTES_MAX   (2 * HTTP_READ_BYTES) /* one read may come on top of the first */
#define OUTPUT_KEEP_BYTES 8192                  /* a larger buffer is not kept when it is empty */
#define OUTPUT_MOVE_BYTES 65536                 /* sent bytes in front are dropped from here on */
#define LINGER_BYTES_MAX  (1u << 20)

static void parse_ahead(struct http_connection *connection);

static void hold(struct http_connection *connection)
{
    connection->holds++;
}

static void release(struct http_connection *connection)
{
    if (--connection->holds > 0 || connection->phase != HTTP_CLOSED)
        return;
    http1_fini(&connection->parser);
    td_buf_fini(&connection->request.body);
    td_buf_fini(&connection->ahead);
    td_buf_fini(&connection->output);
    free(connection);
}

/* While draining, what is left of a request comes soon or not at all. */
static void hurry(struct http_connection *connection)
{
    uint64_t until_ns = connection->server->drain_until_ns;

    if (!connection->server->draining ||
        (connection->phase != HTTP_HEADED && connection->phase != HTTP_BODIED))
        return;
    if (!net_timer_armed(&connection->timer) || connection->timer.timer.at_ns > until_ns)
        net_timer_set(&connection->timer, until_ns);
}

static void set_phase(struct http_connection *connection, enum http_phase phase,
                      uint32_t deadline_ms)
{
    connection->phase = phase;
    if (deadline_ms > 0)
        net_timer_set_in(&connection->timer, deadline_ms);
    else
        net_timer_cancel(&connection->timer);
    hurry(connection);
}

/* What the connection waits for at present. */
static void watch(struct http_connection *connection)
{
    unsigned events = connection->output_blocked ? NET_WRITABLE : 0;

    if (connection->phase == HTTP_LINGER)
        events |= NET_READABLE;
    else if (!connection->peer_closed)
        events |= NET_HANGUP | (connection->ahead.length < HTTP_READ_BYTES ? NET_READABLE : 0);
    net_poll_set(connection->poll, events);
}

/* ---- the end ---- */

static void forget_request(struct http_connection *connection)
{
    struct http_request *request = &connection->request;

    connection->server->body_bytes -= request->body_counted;
    td_buf_fini(&request->body);
    *request = (struct http_request){0};
}

static void reset_socket(int fd)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

void http_connection_close(struct http_connection *connection, td_status_t why)
{
    const struct http_request_callbacks *callbacks = connection->request.callbacks;
    void *ctx = connection->request.ctx;
    bool was_asked = connection->phase == HTTP_ASKED;

    if (connection->phase == HTTP_CLOSED)
        return;
    hold(connection);
    if (was_asked || connection->phase == HTTP_BODIED)
        connection->server->counts.requests--;
    if (was_asked && why == TD_PEER_LOST)
        connection->server->counts.clients_gone++;
    set_phase(connection, HTTP_CLOSED, 0);
    net_defer_cancel(&connection->flush);
    net_poll_close(connection->poll);
    if (connection->reset_on_close || why != TD_OK)
        reset_socket(connection->fd);
    close(connection->fd);
    connection->server->body_bytes -= connection->request.body_counted;
    http_server_forget(connection->server, connection);
    if (was_asked && callbacks != NULL && callbacks->on_gone != NULL)
        callbacks->on_gone(ctx, &connection->request, why);
    release(connection);
}

/* All has been sent: says so, and reads off what the client still sends, so that it sees it. */
static void linger(struct http_connection *connection)
{
    if (connection->reset_on_close || connection->peer_closed ||
        shutdown(connection->fd, SHUT_WR) != 0) {
        http_connection_close(connection, TD_OK);
        return;
    }
    set_phase(connection, HTTP_LINGER, connection->server->config.limits.linger_ms);
    td_buf_clear(&connection->ahead);
    watch(connection);
}

/* ---- output ---- */

static void output_empty(struct http_connection *connection)
{
    connection->output_sent = 0;
    connection->output_blocked = false;
    if (connection->output.capacity > OUTPUT_KEEP_BYTES)
        td_buf_fini(&connection->output);
    td_buf_clear(&connection->output);
    if (connection->phase == HTTP_ASKED || connection->phase == HTTP_FLUSH)
        net_timer_cancel(&connection->timer); /* the stall timer */
}

static void next_request(struct http_connection *connection)
{
    forget_request(connection);
    http1_reset(&connection->parser);
    set_phase(connection, HTTP_IDLE, connection->server->config.limits.idle_ms);
    watch(connection);
    parse_ahead(connection);
}

/* Tells a handler whose write was refused that there is room again. */
static void report_drain(struct http_connection *connection)
{
    struct http_request *request = &connection->request;

    if (connection->phase != HTTP_ASKED || !request->wants_drain ||
        http_connection_backlog(connection) >
            connection->server->config.limits.backlog_bytes_max / 2)
        return;
    request->wants_drain = false;
    if (request->callbacks != NULL && request->callbacks->on_drain != NULL)
        request->callbacks->on_drain(request->ctx, request);
}

/* Sends once. False if the connection broke. */
static bool send_output(struct http_connection *connection)
{
    ssize_t sent = send(connection->fd, connection->output.data + connection->output_sent,
                        http_connection_backlog(connection), MSG_NOSIGNAL);
    bool is_asked = connection->phase == HTTP_ASKED || connection->phase == HTTP_FLUSH;

    if (sent < 0 && errno != EAGAIN && errno != EINTR)
        return false;
    if (sent > 0)
        connection->output_sent += (size_t)sent;
    if (http_connection_backlog(connection) == 0) {
        output_empty(connection);
        return true;
    }
    if (connection->output_sent >= OUTPUT_MOVE_BYTES) {
        td_buf_consume(&connection->output, connection->output_sent);
        connection->output_sent = 0;
    }
    connection->output_blocked = true;
    if (is_asked && (sent > 0 || !net_timer_armed(&connection->timer)))
        net_timer_set_in(&connection->timer, connection->server->config.limits.stall_ms);
    return true;
}

static void flush_now(struct http_connection *connection)
{
    if (http_connection_backlog(connection) > 0 && !send_output(connection)) {
        http_connection_close(connection, TD_PEER_LOST);
        return;
    }
    report_drain(connection);
    if (connection->phase == HTTP_CLOSED)
        return;
    if (connection->phase == HTTP_FLUSH && http_connection_backlog(connection) == 0) {
        if (connection->close_after)
            linger(connection);
        else
            next_request(connection);
    } else {
        watch(connection);
    }
}

static void run_flush(struct net_defer *defer)
{
    struct http_connection *connection = td_container_of(defer, struct http_connection, flush);

    if (connection->output_blocked)
        return; /* the socket says when */
    hold(connection);
    flush_now(connection);
    release(connection);
}

void http_connection_touch(struct http_connection *connection)
{
    net_defer_post(connection->server->loop, &connection->flush);
}

void http_connection_answered(struct http_connection *connection)
{
    if (connection->phase == HTTP_ASKED || connection->phase == HTTP_BODIED)
        connection->server->counts.requests--;
    if (connection->phase == HTTP_BODIED || connection->phase == HTTP_HEADED)
        net_timer_cancel(&connection->timer); /* answered early */
    connection->phase = HTTP_FLUSH;
    if (connection->output_blocked && !net_timer_armed(&connection->timer))
        net_timer_set_in(&connection->timer, connection->server->config.limits.stall_ms);
    if (connection->server->draining)
        connection->close_after = true;
    if (connection->output.status != TD_OK) { /* no memory for the answer: break it off */
        connection->reset_on_close = true;
        connection->close_after = true;
    }
    http_connection_touch(connection);
}

/* ---- the head ---- */

static const struct http_route *find_route(const struct http_server *server, const char *path)
{
    for (size_t i = 0; i < server->config.route_count; i++) {
        const struct http_route *route = &server->config.routes[i];
        size_t length = strlen(route->path);

        if (route->path[length - 1] == '*' ? strncmp(path, route->path, length - 1) == 0
                                           : strcmp(path, route->path) == 0)
            return route;
    }
    return NULL;
}

static bool route_allows(const struct http_route *route, enum http_method method)
{
    return route->methods & HTTP_METHOD_BIT(method == HTTP_HEAD ? HTTP_GET : method);
}

/* What is wrong with a well-formed head. False if it has been answered. */
static bool check_head(struct http_connection *connection)
{
    const struct http1_parser *parser = &connection->parser;
    const struct http_route *route = connection->request.route;
    const char *coding = http1_find(parser, "content-encoding");

    if (route == NULL)
        http_answer_error(connection, 404, "there is nothing at this path");
    else if (!route_allows(route, parser->method))
        http_answer_method(connection, route->methods);
    else if (parser->content_length > route->body_bytes_max)
        http_answer_error(connection, 413, "the body is too large");
    else if (coding != NULL && strcasecmp(coding, "identity") != 0)
        http_answer_error(connection, 415, "content codings are not supported");
    else
        return true;
    return false;
}

static void invite_body(struct http_connection *connection)
{
    const struct http1_parser *parser = &connection->parser;

    if (!parser->expects_continue || (!parser->chunked && parser->content_length == 0))
        return;
    td_buf_append_text(&connection->output, "HTTP/1.1 100 Continue\r\n\r\n");
    http_connection_touch(connection);
}

static void take_head(struct http_connection *connection)
{
    struct http_server *server = connection->server;
    struct http_request *request = &connection->request;

    server->counts.requests++;
    server->counts.requests_total++;
    request->route = find_route(server, http1_text(&connection->parser, connection->parser.path));
    td_buf_init(&request->body, request->route != NULL ? request->route->body_bytes_max : 0);
    set_phase(connection, HTTP_BODIED, server->config.limits.body_ms);
    if (!check_head(connection))
        return;
    if (server->config.admit != NULL && !server->config.admit(server->config.ctx, request)) {
        assert(connection->phase != HTTP_BODIED && "admit refused without an answer");
        return;
    }
    if (connection->phase == HTTP_BODIED)
        invite_body(connection);
}

/* ---- the body ---- */

static void take_body(struct http_connection *connection, const uint8_t *bytes, size_t length)
{
    struct http_server *server = connection->server;
    struct http_request *request = &connection->request;

    if (length > server->config.limits.body_bytes_total_max - server->body_bytes) {
        http_answer_error(connection, 503, "too many large requests are being received");
        return;
    }
    td_buf_append(&request->body, bytes, length);
    if (request->body.status == TD_LIMIT)
        http_answer_error(connection, 413, "the body is too large");
    else if (request->body.status != TD_OK)
        http_answer_error(connection, 503, "there is no memory for the body");
    if (request->body.status != TD_OK)
        return;
    request->body_counted += length;
    server->body_bytes += length;
}

static void take_request(struct http_connection *connection)
{
    struct http_request *request = &connection->request;

    /* an invitation to send the body may still be waiting for the client */
    set_phase(connection, HTTP_ASKED,
              connection->output_blocked ? connection->server->config.limits.stall_ms : 0);
    request->route->handler(connection->server->config.ctx, request);
    assert((connection->phase != HTTP_ASKED || request->callbacks != NULL) &&
           "a handler neither answered nor bound the request");
}

/* ---- input ---- */

static void take_step(struct http_connection *connection, const struct http1_step *step)
{
    switch (step->event) {
    case HTTP1_HEAD: take_head(connection); break;
    case HTTP1_BODY: take_body(connection, step->body, step->body_length); break;
    case HTTP1_END: take_request(connection); break;
    case HTTP1_BAD:
        connection->server->counts.malformed++;
        http_answer_error(connection, connection->parser.error_status,
                          connection->parser.error_text);
        break;
    case HTTP1_MORE: break;
    }
}

/* Parses until a request waits for its answer. Returns the bytes used. The caller holds. */
static size_t parse(struct http_connection *connection, const uint8_t *bytes, size_t length)
{
    size_t used = 0;

    while (connection->phase <= HTTP_BODIED) {
        struct http1_step step = http1_feed(&connection->parser, bytes + used, length - used);

        used += step.used;
        if (connection->phase == HTTP_IDLE && http1_started(&connection->parser))
            set_phase(connection, HTTP_HEADED, connection->server->config.limits.head_ms);
        take_step(connection, &step);
        if (step.event == HTTP1_MORE)
            break;
    }
    return used;
}

static void parse_ahead(struct http_connection *connection)
{
    size_t used;

    if (connection->ahead.length == 0)
        return;
    used = parse(connection, (const uint8_t *)connection->ahead.data, connection->ahead.length);
    if (connection->phase == HTTP_CLOSED)
        return;
    td_buf_consume(&connection->ahead, used);
    watch(connection);
}

static void take_input(struct http_connection *connection, const uint8_t *bytes, size_t length)
{
    size_t used = parse(connection, bytes, length);

    if (connection->phase == HTTP_CLOSED || connection->phase == HTTP_LINGER || used == length)
        return;
    td_buf_append(&connection->ahead, bytes + used, length - used);
    if (connection->ahead.status != TD_OK)
        http_connection_close(connection, TD_NO_MEMORY);
    else
        watch(connection);
}

/* The client has closed its sending side, or all of it. */
static void take_end(struct http_connection *connection)
{
    if (connection->phase == HTTP_FLUSH) { /* it may still read the rest of its answer */
        connection->peer_closed = true;
        connection->close_after = true;
        watch(connection);
    } else {
        http_connection_close(connection, connection->phase == HTTP_ASKED ? TD_PEER_LOST : TD_OK);
    }
}

static void read_input(struct http_connection *connection)
{
    uint8_t *buffer = connection->server->read_buffer;
    ssize_t got = recv(connection->fd, buffer, HTTP_READ_BYTES, 0);

    if (got > 0 && connection->phase == HTTP_LINGER) {
        connection->lingered += (size_t)got;
        if (connection->lingered > LINGER_BYTES_MAX)
            http_connection_close(connection, TD_OK);
    } else if (got > 0) {
        take_input(connection, buffer, (size_t)got);
    } else if (got == 0) {
        take_end(connection);
    } else if (errno != EAGAIN && errno != EINTR) {
        http_connection_close(connection, TD_PEER_LOST);
    }
}

static void socket_event(void *ctx, unsigned events)
{
    struct http_connection *connection = ctx;

    hold(connection);
    if (events & NET_BROKEN)
        http_connection_close(connection, TD_PEER_LOST);
    else if (events & NET_READABLE)
        read_input(connection);
    /* in the other phases the end is read, after what was sent before it */
    if ((events & NET_HANGUP) &&
        (connection->phase == HTTP_ASKED || connection->phase == HTTP_FLUSH))
        take_end(connection);
    if (connection->phase != HTTP_CLOSED && (events & NET_WRITABLE)) {
        connection->output_blocked = false;
        flush_now(connection);
    }
    release(connection);
}

/* ---- deadlines ---- */

static void deadline(struct net_timer *timer, uint64_t now_ns)
{
    struct http_connection *connection = td_container_of(timer, struct http_connection, timer);

    (void)now_ns;
    switch (connection->phase) {
    case HTTP_HEADED:
    case HTTP_BODIED:
        if (connection->server->draining)
            http_answer_error(connection, 503, "the server is stopping");
        else
            http_answer_error(connection, 408, "the request came too slowly");
        break;
    case HTTP_ASKED:
    case HTTP_FLUSH:
        td_log(TD_LOG_INFO, "http", "client took nothing for too long, cut off peer %s",
               connection->peer);
        connection->server->counts.clients_stalled++;
        http_connection_close(connection, TD_TIMEOUT);
        break;
    default: http_connection_close(connection, TD_OK); break;
    }
}

/* ---- life ---- */

td_status_t http_connection_open(struct http_server *server, int fd, struct td_u128 address,
                                 const char *peer)
{
    struct http_connection *connection = calloc(1, sizeof *connection);
    td_status_t status;

    if (connection == NULL)
        return TD_NO_MEMORY;
    connection->server = server;
    connection->fd = fd;
    connection->address = address;
    memcpy(connection->peer, peer, strlen(peer) + 1);
    http1_init(&connection->parser);
    td_buf_init(&connection->ahead, AHEAD_BYTES_MAX);
    td_buf_init(&connection->output, SIZE_MAX); /* streams are bounded by backlog_bytes_max */
    net_timer_init(&connection->timer, server->loop, deadline);
    net_defer_init(&connection->flush, run_flush);
    status = net_poll_open(server->loop, fd, socket_event, connection, &connection->poll);
    if (status != TD_OK) {
        free(connection);
        return status;
    }
    td_list_push_back(&server->connections, &connection->node);
    set_phase(connection, HTTP_IDLE, server->config.limits.head_ms);
    watch(connection);
    return TD_OK;
}

void http_connection_drain(struct http_connection *connection)
{
    connection->close_after = true;
    if (connection->phase == HTTP_IDLE)
        http_connection_close(connection, TD_OK);
    else
        hurry(connection);
}
