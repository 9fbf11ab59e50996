/* nccl_endpoint.c: the sending side of the NCCL transport, see nccl_private.h. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kvtransfer/nccl_private.h"
#include "lib/base/log.h"

/* ------------------------------------------------------------------------------------- connecting */

/* Tries the peer's places one after another; false: none is left. */
static bool try_places(struct nccl_endpoint *endpoint)
{
    struct nccl_link *link = &endpoint->link;

    for (; endpoint->place < endpoint->peer.place_count; endpoint->place++) {
        link->socket.fd = nccl_reach(&endpoint->peer.places[endpoint->place]);
        if (link->socket.fd < 0)
            continue;
        if (nccl_watch_add(link->transport, &link->socket, EPOLLOUT) == TD_OK)
            return true;
        close(link->socket.fd);
        link->socket.fd = -1;
    }
    return false;
}

/* Nobody at this place: on to the next. */
static void try_next(struct nccl_endpoint *endpoint)
{
    close(endpoint->link.socket.fd);
    endpoint->link.socket.fd = -1;
    endpoint->place++;
    if (!try_places(endpoint))
        nccl_link_end(&endpoint->link, TD_PEER_LOST);
}

void nccl_endpoint_reached(struct nccl_endpoint *endpoint, uint32_t events)
{
    struct nccl_link *link = &endpoint->link;
    int failure = 0;
    socklen_t length = sizeof failure;
    td_status_t status;

    if (getsockopt(link->socket.fd, SOL_SOCKET, SO_ERROR, &failure, &length) != 0)
        failure = errno;
    if (failure != 0 || (events & (EPOLLERR | EPOLLHUP)) != 0) {
        try_next(endpoint);
        return;
    }
    endpoint->is_reached = true;
    nccl_link_watch(link);
    status = nccl_link_join(link, NULL);
    if (status != TD_OK)
        nccl_link_end(link, status);
}

static void say_hello(struct nccl_endpoint *endpoint)
{
    struct nccl_link *link = &endpoint->link;
    struct nccl_hello hello = {.from = link->transport->address.token,
                               .to = endpoint->peer.token,
                               .version = link->transport->address.version,
                               .id = *nccl_rank_id(link->rank)};
    struct nccl_packet packet;
    td_status_t status = nccl_hello_encode(&hello, &packet);

    if (status == TD_OK)
        nccl_link_say(link, packet);
    else
        nccl_link_end(link, status);
}

void nccl_endpoint_rank(struct nccl_endpoint *endpoint, enum nccl_rank_state state)
{
    if (state == NCCL_RANK_NAMED)
        say_hello(endpoint);
    endpoint->link.transport->has_news = true; /* READY: perhaps connected */
}

td_status_t nccl_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                         void *context, struct kvt_endpoint **endpoint_out)
{
    struct nccl_transport *transport = td_container_of(base, struct nccl_transport, base);
    struct nccl_endpoint *endpoint = calloc(1, sizeof *endpoint);
    td_status_t status;

    if (endpoint == NULL)
        return TD_NO_MEMORY;
    status = nccl_address_decode(transport, address, length, &endpoint->peer);
    if (status == TD_UNSUPPORTED && endpoint->peer.version != 0)
        td_log(TD_LOG_WARN, "kvtransfer", "nccl: a peer has another version of NCCL: %u, here %u",
               endpoint->peer.version, transport->address.version);
    nccl_link_init(&endpoint->link, transport, false);
    endpoint->base.context = context;
    if (status == TD_OK && !try_places(endpoint))
        status = TD_PEER_LOST;
    if (status != TD_OK) {
        free(endpoint);
        return status;
    }
    td_list_push_back(&transport->endpoints, &endpoint->link.in_transport);
    *endpoint_out = &endpoint->base;
    return TD_OK;
}

void nccl_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint_base, bool force)
{
    struct nccl_transport *transport = td_container_of(base, struct nccl_transport, base);
    struct nccl_endpoint *endpoint = td_container_of(endpoint_base, struct nccl_endpoint, base);

    (void)force; /* without force nothing is in flight */
    nccl_inlets_cut(transport, endpoint->peer.token);
    nccl_link_end(&endpoint->link, TD_CANCELED);
    td_list_remove(&endpoint->link.in_transport);
    td_list_push_back(&transport->ending, &endpoint->link.in_transport);
    transport->has_news = true;
}

static bool report(struct nccl_endpoint *endpoint)
{
    struct nccl_link *link = &endpoint->link;
    struct nccl_transport *transport = link->transport;
    const struct kvt_transport_sink *sink = &transport->base.sink;

    if (endpoint->lost_pending) {
        endpoint->lost_pending = false;
        sink->lost(sink->impl, &transport->base, &endpoint->base, TD_PEER_LOST);
        return true;
    }
    if (link->is_ending || endpoint->is_connected || !endpoint->peer_is_ready ||
        link->seen != NCCL_RANK_READY)
        return false;
    endpoint->is_connected = true;
    sink->connected(sink->impl, &transport->base, &endpoint->base);
    return true;
}

bool nccl_endpoints_report(struct nccl_transport *transport)
{
    bool any = false;

    td_list_for_each(node, &transport->endpoints)
    {
        struct nccl_link *link = td_container_of(node, struct nccl_link, in_transport);

        any = report(nccl_endpoint_of(link)) || any;
    }
    return any;
}

/* ---------------------------------------------------------------------------------------- sending */

/* Keeps what NCCL will carry: the rest is in the message. */
static void keep_pool_pieces(struct nccl_operation *operation)
{
    const struct kvt_memory *pool = &operation->transport->memory;
    size_t count = 0;

    for (size_t i = 0; i < operation->piece_count; i++)
        if (kvt_memory_contains(pool, operation->pieces[i].base, operation->pieces[i].length))
            operation->pieces[count++] = operation->pieces[i];
    operation->piece_count = count;
}

td_status_t nccl_send(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                      const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                      size_t piece_count, void *tag)
{
    struct nccl_transport *transport = td_container_of(base, struct nccl_transport, base);
    struct nccl_endpoint *endpoint = td_container_of(endpoint_base, struct nccl_endpoint, base);
    struct nccl_chunk_source source = {.number = ++endpoint->number,
                                       .header = header,
                                       .header_bytes = header_bytes,
                                       .pieces = pieces,
                                       .piece_count = piece_count,
                                       .pool = &transport->memory};
    struct nccl_operation *operation;
    struct nccl_packet packet;
    td_status_t status;

    if (endpoint->link.is_ending)
        return TD_PEER_LOST;
    operation = nccl_operation_new(transport, pieces, piece_count, tag);
    if (operation == NULL)
        return TD_NO_MEMORY;
    status = nccl_chunk_encode(&source, &packet);
    if (status != TD_OK) {
        nccl_operation_free(operation);
        return status;
    }
    keep_pool_pieces(operation);
    operation->is_send = true;
    operation->number = source.number;
    td_list_push_back(&endpoint->link.asked, &operation->in_list);
    nccl_link_say(&endpoint->link, packet);
    return TD_OK;
}

static struct nccl_operation *find_asked(struct nccl_endpoint *endpoint, uint64_t number)
{
    td_list_for_each(node, &endpoint->link.asked)
    {
        struct nccl_operation *operation = td_container_of(node, struct nccl_operation, in_list);

        if (operation->number == number)
            return operation;
    }
    return NULL;
}

/* The receiver waits for these stretches: now, and in this order, they may be sent. */
static bool on_accept(struct nccl_endpoint *endpoint)
{
    struct nccl_link *link = &endpoint->link;
    struct nccl_operation *operation;
    struct nccl_accept accept;
    struct nccl_cuts cuts;

    if (!nccl_accept_decode(link->body, link->body_bytes, &accept))
        return false;
    operation = find_asked(endpoint, accept.number);
    if (operation == NULL ||
        nccl_cuts_for_send(&accept, operation->pieces, operation->piece_count, &cuts) != TD_OK)
        return false;
    if (cuts.count == 0) { /* all of it was in the message */
        nccl_operation_end(operation, TD_OK);
        return true;
    }
    free(operation->pieces);
    operation->piece_count = 0;
    operation->pieces = calloc(cuts.count, sizeof *operation->pieces);
    if (operation->pieces == NULL)
        return false; /* the receiver waits for it already */
    memcpy(operation->pieces, cuts.pieces, cuts.count * sizeof *cuts.pieces);
    operation->piece_count = cuts.count;
    nccl_link_post(link, operation);
    return true;
}

static bool on_refuse(struct nccl_endpoint *endpoint)
{
    struct nccl_operation *operation;
    uint64_t number;

    if (!nccl_refuse_decode(endpoint->link.body, endpoint->link.body_bytes, &number))
        return false;
    operation = find_asked(endpoint, number);
    if (operation == NULL)
        return false;
    nccl_operation_end(operation, TD_REFUSED);
    return true;
}

bool nccl_endpoint_message(struct nccl_endpoint *endpoint)
{
    if (endpoint->link.seen < NCCL_RANK_NAMED)
        return false; /* we have said nothing yet */
    switch (endpoint->link.kind) {
    case NCCL_READY:
        if (endpoint->peer_is_ready)
            return false;
        endpoint->peer_is_ready = true;
        endpoint->link.transport->has_news = true;
        return true;
    case NCCL_ACCEPT: return on_accept(endpoint);
    case NCCL_REFUSE: return on_refuse(endpoint);
    case NCCL_HELLO:
    case NCCL_CHUNK: break;
    }
    return false;
}
