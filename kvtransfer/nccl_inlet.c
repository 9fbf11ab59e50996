/* nccl_inlet.c: the receiving side of the NCCL transport, see nccl_private.h. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "kvtransfer/nccl_private.h"
#include "lib/base/log.h"

#define INLETS_MAX       256
#define ACCEPTS_PER_TURN 16

struct kvt_arrival {
    struct nccl_inlet *inlet;
    const struct nccl_chunk *chunk;
    bool is_answered;
};

/* ----------------------------------------------------------------------------------- connections */

/* Room for one more: the oldest that has not said who it is makes place. */
static bool make_room(struct nccl_transport *transport)
{
    if (transport->inlet_count < INLETS_MAX)
        return true;
    td_list_for_each(node, &transport->inlets)
    {
        struct nccl_link *link = td_container_of(node, struct nccl_link, in_transport);

        if (nccl_inlet_of(link)->has_greeted)
            continue;
        nccl_link_end(link, TD_LIMIT);
        return true;
    }
    return false;
}

static void inlet_add(struct nccl_transport *transport, int fd)
{
    struct nccl_inlet *inlet = make_room(transport) ? calloc(1, sizeof *inlet) : NULL;

    if (inlet == NULL) {
        td_log(TD_LOG_WARN, "kvtransfer", "nccl: a connection was refused: too many");
        close(fd);
        return;
    }
    nccl_link_init(&inlet->link, transport, true);
    inlet->link.socket.fd = fd;
    if (nccl_watch_add(transport, &inlet->link.socket, EPOLLIN | EPOLLRDHUP) != TD_OK) {
        close(fd);
        free(inlet);
        return;
    }
    td_list_push_back(&transport->inlets, &inlet->link.in_transport);
    transport->inlet_count++;
}

void nccl_inlet_accept(struct nccl_transport *transport, const struct nccl_watch *listener)
{
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = nccl_accept(transport, listener);

        if (fd < 0)
            return;
        inlet_add(transport, fd);
    }
}

void nccl_inlets_cut(struct nccl_transport *transport, struct td_u128 remote)
{
    td_list_for_each(node, &transport->inlets)
    {
        struct nccl_inlet *inlet =
            nccl_inlet_of(td_container_of(node, struct nccl_link, in_transport));

        if (inlet->has_greeted && td_u128_equal(inlet->remote, remote))
            nccl_link_end(&inlet->link, TD_CANCELED);
    }
}

/* --------------------------------------------------------------------------------------- greeting */

/* Who does not know our token was not told of us by the peers we trust. */
static bool on_hello(struct nccl_inlet *inlet)
{
    struct nccl_link *link = &inlet->link;
    const struct nccl_address *ours = &link->transport->address;
    struct nccl_hello hello;
    td_status_t status;

    if (!nccl_hello_decode(link->body, link->body_bytes, &hello) ||
        !td_u128_equal(hello.to, ours->token) || hello.version != ours->version)
        return false;
    inlet->has_greeted = true;
    inlet->remote = hello.from;
    status = nccl_link_join(link, &hello.id);
    if (status != TD_OK)
        nccl_link_end(link, status);
    return true;
}

void nccl_inlet_rank(struct nccl_inlet *inlet, enum nccl_rank_state state)
{
    struct nccl_packet packet;

    if (state != NCCL_RANK_READY)
        return;
    if (nccl_ready_encode(&packet) != TD_OK) {
        nccl_link_end(&inlet->link, TD_NO_MEMORY);
        return;
    }
    inlet->is_ready = true;
    nccl_link_say(&inlet->link, packet);
}

/* ----------------------------------------------------------------------------------------- chunks */

static void refuse(struct nccl_inlet *inlet, uint64_t number)
{
    struct nccl_packet packet;

    if (nccl_refuse_encode(number, &packet) == TD_OK)
        nccl_link_say(&inlet->link, packet);
    else
        nccl_link_end(&inlet->link, TD_NO_MEMORY);
}

static bool on_chunk(struct nccl_inlet *inlet)
{
    struct kvt_transport *base = &inlet->link.transport->base;
    struct nccl_chunk chunk;
    struct kvt_arrival arrival = {.inlet = inlet, .chunk = &chunk};

    if (!inlet->is_ready || !nccl_chunk_decode(inlet->link.body, inlet->link.body_bytes, &chunk))
        return false;
    base->sink.arrived(base->sink.impl, base, chunk.header, chunk.header_bytes, chunk.payload_bytes,
                       &arrival);
    assert(arrival.is_answered);
    return true;
}

bool nccl_inlet_message(struct nccl_inlet *inlet)
{
    return inlet->has_greeted ? on_chunk(inlet) : on_hello(inlet);
}

/* First the rank has it, then the sender hears of it; what cannot be said must not be waited for. */
static td_status_t accept_stretches(struct nccl_inlet *inlet, uint64_t number,
                                    const struct nccl_cuts *cuts, void *tag)
{
    struct nccl_link *link = &inlet->link;
    struct nccl_operation *operation =
        nccl_operation_new(link->transport, cuts->pieces, cuts->count, tag);
    struct nccl_packet packet;

    if (operation == NULL)
        return TD_NO_MEMORY;
    if (nccl_accept_encode(number, cuts->pieces, cuts->count, &packet) != TD_OK) {
        nccl_operation_free(operation);
        return TD_NO_MEMORY;
    }
    if (cuts->count > 0)
        nccl_link_post(link, operation);
    else
        nccl_operation_end(operation, TD_OK); /* all of it was in the message */
    nccl_link_say(link, packet);
    return TD_OK;
}

td_status_t nccl_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                         const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct nccl_inlet *inlet = arrival->inlet;
    struct nccl_cuts cuts;
    td_status_t status;

    (void)base;
    arrival->is_answered = true;
    if (inlet->link.is_ending) /* a command that came with this chunk has cut the peer off */
        return TD_PEER_LOST;
    status = nccl_cuts_for_receive(arrival->chunk, &inlet->link.transport->memory, pieces,
                                   piece_count, &cuts);
    if (status == TD_OK)
        status = accept_stretches(inlet, arrival->chunk->number, &cuts, tag);
    if (status != TD_OK)
        refuse(inlet, arrival->chunk->number);
    return status;
}

void nccl_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status)
{
    (void)base;
    (void)status; /* the sender learns that it was refused; why is in our log and counters */
    arrival->is_answered = true;
    refuse(arrival->inlet, arrival->chunk->number);
}
