/* map_endpoint.c: the sending side of the map transport, see map_private.h. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/map_private.h"
#include "lib/base/bytes.h"
#include "lib/base/log.h"
#include "lib/base/time.h"

#define MAP_BODY_BYTES       32 /* token u128, host u128 */
#define MAP_PACKETS_PER_TURN 16

static void end_all(struct td_list *list, td_status_t status)
{
    td_list_for_each(node, list)
        map_operation_end(td_container_of(node, struct map_operation, in_list), status);
}

/* The connection is at its end: the peer's side is closed, so it reads nothing any more. */
static void on_end(struct map_endpoint *endpoint)
{
    struct map_transport *transport = endpoint->transport;
    td_status_t status = endpoint->is_draining ? TD_CANCELED : TD_PEER_LOST;

    map_socket_close(&endpoint->socket);
    end_all(&endpoint->waiting, status);
    end_all(&endpoint->sent, status);
    if (endpoint->is_draining) {
        td_list_remove(&endpoint->in_transport);
        td_list_push_back(&transport->dead_endpoints, &endpoint->in_transport);
    } else if (!endpoint->is_lost) {
        endpoint->is_lost = true;
        endpoint->lost_pending = true;
        transport->has_news = true;
    }
}

static void on_done(struct map_endpoint *endpoint, const struct map_done *done)
{
    td_list_for_each(node, &endpoint->sent)
    {
        struct map_operation *operation = td_container_of(node, struct map_operation, in_list);

        if (operation->number != done->number)
            continue;
        map_operation_end(operation, done->is_refused ? TD_REFUSED : TD_OK);
        return;
    }
}

/* False: the peer does not keep to the protocol. */
static bool on_packet(struct map_endpoint *endpoint, const uint8_t *bytes, size_t length)
{
    struct map_done done;

    if (map_message_kind(bytes, length) == MAP_WELCOME && !endpoint->is_welcome) {
        endpoint->is_welcome = true;
        endpoint->connected_pending = true;
        endpoint->transport->has_news = true;
        return true;
    }
    if (!map_done_decode(bytes, length, &done))
        return false;
    on_done(endpoint, &done);
    return true;
}

static void read_packets(struct map_endpoint *endpoint)
{
    uint8_t bytes[MAP_SHORT_BYTES];

    for (int i = 0; i < MAP_PACKETS_PER_TURN && endpoint->socket.fd >= 0; i++) {
        size_t length;
        int fd;
        td_status_t status =
            map_socket_receive(endpoint->socket.fd, bytes, sizeof bytes, &length, &fd);

        if (status == TD_AGAIN)
            return;
        if (status == TD_OK && fd >= 0) {
            close(fd);
            status = TD_INVALID;
        }
        if (status == TD_OK && !on_packet(endpoint, bytes, length))
            status = TD_INVALID;
        if (status == TD_INVALID)
            td_log(TD_LOG_WARN, "kvtransfer", "map: a peer sent a malformed answer");
        if (status != TD_OK)
            on_end(endpoint);
    }
}

/* Sends what waits, as far as the socket takes it. */
static void write_packets(struct map_endpoint *endpoint)
{
    struct td_list *node;

    while (endpoint->socket.fd >= 0 && (node = td_list_first(&endpoint->waiting)) != NULL) {
        struct map_operation *operation = td_container_of(node, struct map_operation, in_list);
        td_status_t status =
            map_socket_send(endpoint->socket.fd, operation->packet, operation->packet_bytes, -1);

        if (status == TD_AGAIN)
            break;
        if (status == TD_PEER_LOST) {
            on_end(endpoint);
            return;
        }
        if (status != TD_OK) {
            map_operation_end(operation, status);
            continue;
        }
        free(operation->packet);
        operation->packet = NULL;
        td_list_remove(node);
        td_list_push_back(&endpoint->sent, node);
    }
    map_socket_watch(endpoint->transport, &endpoint->socket,
                     td_list_empty(&endpoint->waiting) ? EPOLLIN : EPOLLIN | EPOLLOUT);
}

void map_endpoint_ready(struct map_endpoint *endpoint, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
        read_packets(endpoint);
    if ((events & EPOLLOUT) != 0 && endpoint->socket.fd >= 0)
        write_packets(endpoint);
}

bool map_endpoints_report(struct map_transport *transport)
{
    const struct kvt_transport_sink *sink = &transport->base.sink;

    if (!transport->has_news)
        return false;
    transport->has_news = false;
    td_list_for_each(node, &transport->endpoints)
    {
        struct map_endpoint *endpoint = td_container_of(node, struct map_endpoint, in_transport);

        if (endpoint->lost_pending) {
            endpoint->lost_pending = false;
            sink->lost(sink->impl, &transport->base, &endpoint->base, TD_PEER_LOST);
        } else if (endpoint->connected_pending) {
            endpoint->connected_pending = false;
            sink->connected(sink->impl, &transport->base, &endpoint->base);
        }
    }
    return true;
}

/* ------------------------------------------------------------------------ connecting and sending */

static td_status_t read_body(const struct map_transport *transport, const uint8_t *address,
                             size_t length, struct td_u128 *token_out)
{
    const uint8_t *body;
    size_t body_bytes;
    struct td_reader reader;
    td_status_t status = kvt_address_unwrap("map", address, length, &body, &body_bytes);

    if (status != TD_OK)
        return status;
    if (body_bytes != MAP_BODY_BYTES)
        return TD_INVALID;
    reader = td_reader_over(body, body_bytes);
    *token_out = td_read_u128(&reader);
    return td_u128_equal(td_read_u128(&reader), transport->host) ? TD_OK : TD_UNSUPPORTED;
}

static td_status_t open_socket(struct map_endpoint *endpoint)
{
    struct sockaddr_un name;
    socklen_t length = map_socket_name(endpoint->remote, &name);

    endpoint->socket.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (endpoint->socket.fd < 0)
        return errno == EMFILE || errno == ENFILE ? TD_EXHAUSTED : TD_IO;
    if (connect(endpoint->socket.fd, (const struct sockaddr *)&name, length) != 0)
        return errno == EAGAIN ? TD_EXHAUSTED : TD_PEER_LOST;
    if (!map_socket_is_ours(endpoint->socket.fd))
        return TD_REFUSED;
    return map_socket_add(endpoint->transport, &endpoint->socket);
}

static td_status_t say_hello(const struct map_endpoint *endpoint)
{
    const struct map_transport *transport = endpoint->transport;
    struct map_hello hello = {.from = transport->token,
                              .to = endpoint->remote,
                              .pool_bytes = transport->memory.bytes,
                              .is_shared = transport->memory.device != NULL};
    uint8_t bytes[MAP_SHORT_BYTES];
    size_t length;

    memcpy(hello.share, transport->share, sizeof hello.share);
    length = map_hello_encode(&hello, bytes);
    return map_socket_send(endpoint->socket.fd, bytes, length, transport->read_only_fd);
}

static td_status_t open_connection(struct map_endpoint *endpoint)
{
    td_status_t status = open_socket(endpoint);

    if (status == TD_OK)
        status = say_hello(endpoint);
    return status;
}

td_status_t map_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                        void *context, struct kvt_endpoint **endpoint_out)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);
    struct map_endpoint *endpoint;
    struct td_u128 remote;
    td_status_t status = read_body(transport, address, length, &remote);

    if (status != TD_OK)
        return status;
    endpoint = calloc(1, sizeof *endpoint);
    if (endpoint == NULL)
        return TD_NO_MEMORY;
    endpoint->socket = (struct map_socket){.role = MAP_ENDPOINT, .fd = -1};
    endpoint->base.context = context;
    endpoint->transport = transport;
    endpoint->remote = remote;
    td_list_init(&endpoint->waiting);
    td_list_init(&endpoint->sent);
    status = open_connection(endpoint);
    if (status != TD_OK) {
        map_socket_close(&endpoint->socket);
        free(endpoint);
        return status;
    }
    td_list_push_back(&transport->endpoints, &endpoint->in_transport);
    *endpoint_out = &endpoint->base;
    return TD_OK;
}

td_status_t map_send(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                     const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                     size_t piece_count, void *tag)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);
    struct map_endpoint *endpoint = td_container_of(endpoint_base, struct map_endpoint, base);
    struct map_chunk_source source = {.number = ++transport->number,
                                      .header = header,
                                      .header_bytes = header_bytes,
                                      .pieces = pieces,
                                      .piece_count = piece_count,
                                      .pool = transport->memory.base,
                                      .pool_bytes = transport->memory.bytes};
    struct map_operation *operation;
    td_status_t status;

    if (endpoint->is_lost)
        return TD_PEER_LOST;
    operation = calloc(1, sizeof *operation);
    if (operation == NULL)
        return TD_NO_MEMORY;
    status = map_chunk_encode(&source, &operation->packet, &operation->packet_bytes);
    if (status != TD_OK) {
        free(operation);
        return status;
    }
    operation->transport = transport;
    operation->tag = tag;
    operation->is_send = true;
    operation->number = source.number;
    td_list_push_back(&endpoint->waiting, &operation->in_list);
    write_packets(endpoint);
    return TD_OK;
}

/*
 * Closes our half of the connection. A peer that is reading stops, closes its half, and we see the
 * end; until then the sends it may be reading have not ended, however long that takes: a frozen
 * process reads on when it is woken. A peer that was greeted with a device's pool has it mapped until
 * that end, with or without sends: memory of a device must not be freed before.
 */
void map_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint_base, bool force)
{
    struct map_transport *transport = td_container_of(base, struct map_transport, base);
    struct map_endpoint *endpoint = td_container_of(endpoint_base, struct map_endpoint, base);

    (void)force; /* without force nothing is in flight */
    map_inlets_cut(transport, endpoint->remote);
    td_list_remove(&endpoint->in_transport);
    end_all(&endpoint->waiting, TD_CANCELED);
    if (endpoint->is_lost || (td_list_empty(&endpoint->sent) && transport->queue == NULL)) {
        map_socket_close(&endpoint->socket);
        td_list_push_back(&transport->dead_endpoints, &endpoint->in_transport);
        return;
    }
    endpoint->is_draining = true;
    td_list_push_back(&transport->draining, &endpoint->in_transport);
    shutdown(endpoint->socket.fd, SHUT_WR);
    map_socket_watch(transport, &endpoint->socket, EPOLLIN);
}

/* Reads past whatever is there. False: the time is up. */
static bool await_end(const struct map_endpoint *endpoint, uint64_t give_up_ns)
{
    struct pollfd polled = {.fd = endpoint->socket.fd, .events = POLLIN};
    uint8_t bytes[MAP_SHORT_BYTES];
    ssize_t length;

    do {
        uint64_t now_ns = td_now_ns();

        if (now_ns >= give_up_ns)
            return false;
        (void)poll(&polled, 1, (int)((give_up_ns - now_ns) / TD_NS_PER_MS) + 1);
        length = recv(endpoint->socket.fd, bytes, sizeof bytes, MSG_DONTWAIT);
    } while (length > 0 || (length < 0 && (errno == EAGAIN || errno == EINTR)));
    return true;
}

static size_t await_ends(const struct td_list *endpoints, uint64_t give_up_ns)
{
    size_t silent = 0;

    td_list_for_each(node, endpoints)
    {
        const struct map_endpoint *endpoint =
            td_container_of(node, struct map_endpoint, in_transport);

        silent += endpoint->socket.fd >= 0 && !await_end(endpoint, give_up_ns);
    }
    return silent;
}

void map_endpoints_hang_up(struct map_transport *transport)
{
    uint64_t give_up_ns = td_now_ns() + transport->close_ms * TD_NS_PER_MS;
    size_t silent;

    td_list_for_each(node, &transport->endpoints)
        shutdown(td_container_of(node, struct map_endpoint, in_transport)->socket.fd, SHUT_WR);
    silent = await_ends(&transport->endpoints, give_up_ns);
    silent += await_ends(&transport->draining, give_up_ns);
    if (silent > 0)
        td_log(TD_LOG_ERROR, "kvtransfer",
               "map: %zu peers do not answer and have this GPU's pool mapped still", silent);
}

void map_endpoint_free(struct map_endpoint *endpoint)
{
    td_list_for_each(node, &endpoint->waiting)
        map_operation_free(td_container_of(node, struct map_operation, in_list));
    td_list_for_each(node, &endpoint->sent)
        map_operation_free(td_container_of(node, struct map_operation, in_list));
    map_socket_close(&endpoint->socket);
    td_list_remove(&endpoint->in_transport);
    free(endpoint);
}
