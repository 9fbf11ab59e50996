/*
 * loop.c: the in-process transport, see loop.h.
 *
 * Messages name nodes, endpoints, sends and receives by number, never by pointer, so that one that is
 * delivered after everything it was about has gone finds nothing and does nothing.
 */
#include "kvtransfer/loop.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/address.h"
#include "lib/base/bytes.h"
#include "lib/base/list.h"
#include "lib/base/map.h"

#define LOOP_NODES_MAX         4096
#define LOOP_MESSAGES_PER_TURN 64

struct kvt_loop {
    struct kvt_loop_config config;
    struct td_map nodes; /* living transports by node number */
    uint64_t number;     /* the last one given to an endpoint, send or receive */
};

struct kvt_loop_message {
    struct kvt_loop *loop;
    struct td_list in_inbox;
    enum kvt_loop_kind kind;
    uint64_t from;
    uint64_t to;
    uint64_t endpoint; /* CONNECT, CONNECTED */
    uint64_t send;     /* CHUNK, DATA, ENDED */
    uint64_t receive;  /* DATA */
    uint64_t offset;   /* DATA */
    uint64_t payload_bytes;
    td_status_t status; /* ENDED, GONE */
    bool is_corrupt;    /* DATA */
    uint64_t corrupt_bit;
    size_t header_bytes;
    uint8_t header[];
};

struct loop_transport {
    struct kvt_transport base;
    struct kvt_loop *loop;
    uint64_t node;
    bool is_dead;
    struct td_list inbox;
    struct td_list endpoints;
    struct td_list sends;
    struct td_list receives;
};

struct loop_endpoint {
    struct kvt_endpoint base;
    struct td_list in_transport;
    uint64_t number;
    uint64_t remote;
    bool is_connected;
    bool is_lost;
};

/* A send or a receive that has not ended. */
struct loop_operation {
    struct td_list in_transport;
    uint64_t number;
    uint64_t remote;      /* node of the other side */
    uint64_t remote_send; /* receives: number of the send at the other side */
    void *tag;
    bool is_over; /* ends with status at the next progress */
    td_status_t status;
    uint64_t done; /* receives: bytes that have landed */
    uint64_t total;
    size_t piece_count;
    struct kvt_piece pieces[];
};

struct kvt_arrival {
    struct loop_transport *transport;
    const struct kvt_loop_message *message;
};

/* --------------------------------------------------------------------------------------- messages */

static struct kvt_loop_message *message_new(struct kvt_loop *loop, enum kvt_loop_kind kind,
                                            uint64_t from, uint64_t to, size_t header_bytes)
{
    struct kvt_loop_message *message = calloc(1, sizeof *message + header_bytes);

    if (message == NULL)
        return NULL;
    message->loop = loop;
    message->kind = kind;
    message->from = from;
    message->to = to;
    message->header_bytes = header_bytes;
    td_list_init(&message->in_inbox);
    return message;
}

static void post(struct kvt_loop_message *message)
{
    message->loop->config.post(message->loop->config.impl, message);
}

/* Without memory the message is lost, as on any network. */
static void post_short(struct kvt_loop *loop, enum kvt_loop_kind kind, uint64_t from, uint64_t to,
                       uint64_t number, td_status_t status)
{
    struct kvt_loop_message *message = message_new(loop, kind, from, to, 0);

    if (message == NULL)
        return;
    message->endpoint = number;
    message->send = number;
    message->status = status;
    post(message);
}

static void post_part(struct loop_transport *transport, const struct loop_operation *receive)
{
    struct kvt_loop_message *message =
        message_new(transport->loop, KVT_LOOP_DATA, receive->remote, transport->node, 0);

    if (message == NULL)
        return;
    message->send = receive->remote_send;
    message->receive = receive->number;
    message->offset = receive->done;
    post(message);
}

void kvt_loop_discard(struct kvt_loop_message *message)
{
    td_list_remove(&message->in_inbox);
    free(message);
}

static struct loop_transport *find_node(const struct kvt_loop *loop, uint64_t node)
{
    return td_map_find(&loop->nodes, td_u128_from_u64(node));
}

void kvt_loop_deliver(struct kvt_loop_message *message)
{
    struct loop_transport *transport = find_node(message->loop, message->to);

    if (transport != NULL) {
        td_list_push_back(&transport->inbox, &message->in_inbox);
        return;
    }
    if (message->kind == KVT_LOOP_CONNECT || message->kind == KVT_LOOP_CHUNK)
        post_short(message->loop, KVT_LOOP_GONE, message->to, message->from, 0, TD_PEER_LOST);
    kvt_loop_discard(message);
}

struct kvt_loop_message *kvt_loop_copy(const struct kvt_loop_message *message)
{
    struct kvt_loop_message *copy = malloc(sizeof *copy + message->header_bytes);

    if (copy == NULL)
        return NULL;
    memcpy(copy, message, sizeof *copy + message->header_bytes);
    td_list_init(&copy->in_inbox);
    return copy;
}

void kvt_loop_corrupt(struct kvt_loop_message *message, uint64_t bit)
{
    if (message->kind == KVT_LOOP_DATA) {
        message->is_corrupt = true;
        message->corrupt_bit = bit;
    } else if (message->header_bytes > 0) {
        bit %= message->header_bytes * 8;
        message->header[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

enum kvt_loop_kind kvt_loop_message_kind(const struct kvt_loop_message *message)
{
    return message->kind;
}

uint64_t kvt_loop_message_from(const struct kvt_loop_message *message)
{
    return message->from;
}

uint64_t kvt_loop_message_to(const struct kvt_loop_message *message)
{
    return message->to;
}

/* ------------------------------------------------------------------------------------- operations */

static struct loop_operation *operation_new(struct loop_transport *transport, struct td_list *list,
                                            const struct kvt_piece *pieces, size_t piece_count)
{
    struct loop_operation *operation =
        calloc(1, sizeof *operation + piece_count * sizeof *operation->pieces);

    if (operation == NULL)
        return NULL;
    operation->number = ++transport->loop->number;
    operation->piece_count = piece_count;
    for (size_t i = 0; i < piece_count; i++) {
        operation->pieces[i] = pieces[i];
        operation->total += pieces[i].length;
    }
    td_list_push_back(list, &operation->in_transport);
    return operation;
}

static struct loop_operation *operation_find(const struct td_list *list, uint64_t number)
{
    td_list_for_each(node, list)
    {
        struct loop_operation *operation =
            td_container_of(node, struct loop_operation, in_transport);

        if (operation->number == number && !operation->is_over)
            return operation;
    }
    return NULL;
}

static void operation_free(struct loop_operation *operation)
{
    td_list_remove(&operation->in_transport);
    free(operation);
}

static void operations_end(struct td_list *list, uint64_t remote, td_status_t status)
{
    td_list_for_each(node, list)
    {
        struct loop_operation *operation =
            td_container_of(node, struct loop_operation, in_transport);

        if (operation->remote != remote || operation->is_over)
            continue;
        operation->is_over = true;
        operation->status = status;
    }
}

/* The memory at offset of an operation and how much of it is in one piece. */
static uint8_t *operation_at(const struct loop_operation *operation, uint64_t offset,
                             size_t *length_out)
{
    for (size_t i = 0; i < operation->piece_count; i++) {
        if (offset < operation->pieces[i].length) {
            *length_out = operation->pieces[i].length - (size_t)offset;
            return (uint8_t *)operation->pieces[i].base + offset;
        }
        offset -= operation->pieces[i].length;
    }
    *length_out = 0;
    return NULL;
}

/* Copies one part of the payload from the sender's memory, which must still be lent. */
static void copy_part(struct loop_operation *receive, const struct loop_operation *send,
                      const struct kvt_loop_message *message)
{
    uint64_t start = receive->done;
    uint64_t end = start + message->loop->config.part_bytes;

    if (end > receive->total)
        end = receive->total;
    while (receive->done < end) {
        size_t room;
        size_t there;
        uint8_t *to = operation_at(receive, receive->done, &room);
        const uint8_t *from = operation_at(send, receive->done, &there);
        size_t length = room < there ? room : there;

        if (length > end - receive->done)
            length = (size_t)(end - receive->done);
        memcpy(to, from, length);
        receive->done += length;
    }
    if (message->is_corrupt && end > start) {
        uint64_t bit = message->corrupt_bit % ((end - start) * 8);
        size_t room;

        *operation_at(receive, start + bit / 8, &room) ^= (uint8_t)(1u << (bit % 8));
    }
}

/* --------------------------------------------------------------------------- handling of messages */

static void on_connected(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    td_list_for_each(node, &transport->endpoints)
    {
        struct loop_endpoint *endpoint = td_container_of(node, struct loop_endpoint, in_transport);

        if (endpoint->number != message->endpoint || endpoint->is_connected || endpoint->is_lost)
            continue;
        endpoint->is_connected = true;
        transport->base.sink.connected(transport->base.sink.impl, &transport->base,
                                       &endpoint->base);
        return;
    }
}

static void on_chunk(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    struct kvt_arrival arrival = {.transport = transport, .message = message};

    transport->base.sink.arrived(transport->base.sink.impl, &transport->base, message->header,
                                 message->header_bytes, message->payload_bytes, &arrival);
}

static void on_data(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    struct loop_operation *receive = operation_find(&transport->receives, message->receive);
    struct loop_transport *sender = find_node(transport->loop, message->from);
    struct loop_operation *send;

    if (receive == NULL || message->offset != receive->done)
        return; /* over, or this part came twice */
    send = sender != NULL ? operation_find(&sender->sends, message->send) : NULL;
    if (send == NULL) {
        receive->is_over = true;
        receive->status = TD_PEER_LOST;
        return;
    }
    copy_part(receive, send, message);
    if (receive->done < receive->total) {
        post_part(transport, receive);
        return;
    }
    receive->is_over = true;
    receive->status = TD_OK;
    post_short(transport->loop, KVT_LOOP_ENDED, transport->node, message->from, message->send,
               TD_OK);
}

static void on_ended(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    struct loop_operation *send = operation_find(&transport->sends, message->send);

    if (send == NULL)
        return;
    send->is_over = true;
    send->status = message->status;
}

static void on_gone(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    if (!transport->loop->config.ignores_force ||
        find_node(transport->loop, message->from) == NULL) {
        operations_end(&transport->sends, message->from, TD_PEER_LOST);
        operations_end(&transport->receives, message->from, TD_PEER_LOST);
    }
    td_list_for_each(node, &transport->endpoints)
    {
        struct loop_endpoint *endpoint = td_container_of(node, struct loop_endpoint, in_transport);

        if (endpoint->remote != message->from || endpoint->is_lost)
            continue;
        endpoint->is_lost = true;
        transport->base.sink.lost(transport->base.sink.impl, &transport->base, &endpoint->base,
                                  message->status); /* the core disconnects it from in here */
    }
}

static void handle(struct loop_transport *transport, const struct kvt_loop_message *message)
{
    switch (message->kind) {
    case KVT_LOOP_CONNECT:
        post_short(transport->loop, KVT_LOOP_CONNECTED, transport->node, message->from,
                   message->endpoint, TD_OK);
        break;
    case KVT_LOOP_CONNECTED: on_connected(transport, message); break;
    case KVT_LOOP_CHUNK: on_chunk(transport, message); break;
    case KVT_LOOP_DATA: on_data(transport, message); break;
    case KVT_LOOP_ENDED: on_ended(transport, message); break;
    case KVT_LOOP_GONE: on_gone(transport, message); break;
    }
}

/* Reports what is over. Each round starts at the front: the sink may begin new sends. */
static bool report(struct loop_transport *transport, struct td_list *list,
                   void (*sink)(void *impl, struct kvt_transport *transport, void *tag,
                                td_status_t status))
{
    bool worked = false;

    td_list_for_each(node, list)
    {
        struct loop_operation *operation =
            td_container_of(node, struct loop_operation, in_transport);
        void *tag = operation->tag;
        td_status_t status = operation->status;

        if (!operation->is_over)
            continue;
        operation_free(operation);
        sink(transport->base.sink.impl, &transport->base, tag, status);
        worked = true;
    }
    return worked;
}

/* -------------------------------------------------------------------------------------------- ops */

static struct loop_transport *from_base(struct kvt_transport *transport)
{
    return td_container_of(transport, struct loop_transport, base);
}

static td_status_t loop_address(struct kvt_transport *base, uint8_t *out, size_t capacity,
                                size_t *length_out)
{
    uint8_t body[8];
    struct td_writer writer = td_writer_over(body, sizeof body);

    td_write_u64(&writer, from_base(base)->node);
    return kvt_address_wrap("loop", body, sizeof body, out, capacity, length_out);
}

static td_status_t loop_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                                void *context, struct kvt_endpoint **endpoint_out)
{
    struct loop_transport *transport = from_base(base);
    struct loop_endpoint *endpoint;
    struct td_reader reader;
    const uint8_t *body;
    size_t body_bytes;
    td_status_t status = kvt_address_unwrap("loop", address, length, &body, &body_bytes);

    if (status != TD_OK)
        return status;
    if (body_bytes != 8)
        return TD_INVALID;
    endpoint = calloc(1, sizeof *endpoint);
    if (endpoint == NULL)
        return TD_NO_MEMORY;
    reader = td_reader_over(body, body_bytes);
    endpoint->base.context = context;
    endpoint->remote = td_read_u64(&reader);
    endpoint->number = ++transport->loop->number;
    td_list_push_back(&transport->endpoints, &endpoint->in_transport);
    post_short(transport->loop, KVT_LOOP_CONNECT, transport->node, endpoint->remote,
               endpoint->number, TD_OK);
    *endpoint_out = &endpoint->base;
    return TD_OK;
}

static void loop_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                            bool force)
{
    struct loop_transport *transport = from_base(base);
    struct loop_endpoint *endpoint = td_container_of(endpoint_base, struct loop_endpoint, base);

    if (force && !transport->loop->config.ignores_force) {
        operations_end(&transport->sends, endpoint->remote, TD_CANCELED);
        operations_end(&transport->receives, endpoint->remote, TD_CANCELED);
    }
    post_short(transport->loop, KVT_LOOP_GONE, transport->node, endpoint->remote, 0, TD_PEER_LOST);
    td_list_remove(&endpoint->in_transport);
    free(endpoint);
}

static td_status_t loop_send(struct kvt_transport *base, struct kvt_endpoint *endpoint_base,
                             const uint8_t *header, size_t header_bytes,
                             const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct loop_transport *transport = from_base(base);
    struct loop_endpoint *endpoint = td_container_of(endpoint_base, struct loop_endpoint, base);
    struct kvt_loop_message *message = message_new(transport->loop, KVT_LOOP_CHUNK, transport->node,
                                                   endpoint->remote, header_bytes);
    struct loop_operation *send;

    if (message == NULL)
        return TD_NO_MEMORY;
    send = operation_new(transport, &transport->sends, pieces, piece_count);
    if (send == NULL) {
        kvt_loop_discard(message);
        return TD_NO_MEMORY;
    }
    send->remote = endpoint->remote;
    send->tag = tag;
    memcpy(message->header, header, header_bytes);
    message->payload_bytes = send->total;
    message->send = send->number;
    post(message);
    return TD_OK;
}

static td_status_t loop_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                                const struct kvt_piece *pieces, size_t piece_count, void *tag)
{
    struct loop_transport *transport = from_base(base);
    struct loop_operation *receive =
        operation_new(transport, &transport->receives, pieces, piece_count);

    if (receive == NULL)
        return TD_NO_MEMORY;
    assert(receive->total == arrival->message->payload_bytes);
    receive->tag = tag;
    receive->remote = arrival->message->from;
    receive->remote_send = arrival->message->send;
    post_part(transport, receive);
    return TD_OK;
}

/* Whether the arrival is a second copy of a message whose payload is landing. */
static bool is_copy(const struct loop_transport *transport, const struct kvt_loop_message *message)
{
    td_list_for_each(node, &transport->receives)
    {
        const struct loop_operation *receive =
            td_container_of(node, struct loop_operation, in_transport);

        if (receive->remote == message->from && receive->remote_send == message->send)
            return true;
    }
    return false;
}

static void loop_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status)
{
    struct loop_transport *transport = from_base(base);

    (void)status;
    if (is_copy(transport, arrival->message))
        return; /* the first copy answers for the send */
    post_short(transport->loop, KVT_LOOP_ENDED, transport->node, arrival->message->from,
               arrival->message->send, TD_REFUSED);
}

static bool loop_progress(struct kvt_transport *base)
{
    struct loop_transport *transport = from_base(base);
    bool worked = false;

    if (transport->is_dead)
        return false;
    for (int i = 0; i < LOOP_MESSAGES_PER_TURN && !td_list_empty(&transport->inbox); i++) {
        struct kvt_loop_message *message =
            td_container_of(td_list_first(&transport->inbox), struct kvt_loop_message, in_inbox);

        td_list_remove(&message->in_inbox);
        handle(transport, message);
        kvt_loop_discard(message);
        worked = true;
    }
    worked = report(transport, &transport->receives, base->sink.received) || worked;
    worked = report(transport, &transport->sends, base->sink.sent) || worked;
    return worked;
}

static int loop_descriptor(struct kvt_transport *base)
{
    (void)base;
    return -1;
}

static bool has_over(const struct td_list *list)
{
    td_list_for_each(
        node,
        list) if (td_container_of(node, struct loop_operation, in_transport)->is_over) return true;
    return false;
}

static td_status_t loop_arm(struct kvt_transport *base)
{
    struct loop_transport *transport = from_base(base);

    return td_list_empty(&transport->inbox) && !has_over(&transport->sends) &&
                   !has_over(&transport->receives)
               ? TD_OK
               : TD_AGAIN;
}

static void loop_lanes(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                       char out[static KVT_LANES_TEXT_BYTES])
{
    (void)base;
    (void)endpoint;
    snprintf(out, KVT_LANES_TEXT_BYTES, "loop");
}

void kvt_loop_crash(struct kvt_transport *base)
{
    struct loop_transport *transport = from_base(base);
    struct kvt_loop *loop = transport->loop;
    struct loop_transport *other;
    size_t cursor = 0;

    if (transport->is_dead)
        return;
    transport->is_dead = true;
    td_map_remove(&loop->nodes, td_u128_from_u64(transport->node));
    while ((other = td_map_next(&loop->nodes, &cursor)) != NULL)
        post_short(loop, KVT_LOOP_GONE, transport->node, other->node, 0, TD_PEER_LOST);
}

static void loop_close(struct kvt_transport *base)
{
    struct loop_transport *transport = from_base(base);

    kvt_loop_crash(base);
    td_list_for_each(node, &transport->inbox)
        kvt_loop_discard(td_container_of(node, struct kvt_loop_message, in_inbox));
    td_list_for_each(node, &transport->sends)
        operation_free(td_container_of(node, struct loop_operation, in_transport));
    td_list_for_each(node, &transport->receives)
        operation_free(td_container_of(node, struct loop_operation, in_transport));
    td_list_for_each(node, &transport->endpoints)
    {
        td_list_remove(node);
        free(td_container_of(node, struct loop_endpoint, in_transport));
    }
    free(transport);
}

static const struct kvt_transport_ops loop_ops = {
    .name = "loop",
    .address = loop_address,
    .connect = loop_connect,
    .disconnect = loop_disconnect,
    .send = loop_send,
    .receive = loop_receive,
    .reject = loop_reject,
    .progress = loop_progress,
    .descriptor = loop_descriptor,
    .arm = loop_arm,
    .lanes = loop_lanes,
    .close = loop_close,
};

td_status_t kvt_loop_new(const struct kvt_loop_config *config, struct kvt_loop **loop_out)
{
    struct kvt_loop *loop = calloc(1, sizeof *loop);

    assert(config->part_bytes > 0);
    if (loop == NULL)
        return TD_NO_MEMORY;
    loop->config = *config;
    td_map_init(&loop->nodes, LOOP_NODES_MAX);
    *loop_out = loop;
    return TD_OK;
}

void kvt_loop_free(struct kvt_loop *loop)
{
    if (loop == NULL)
        return;
    assert(loop->nodes.count == 0);
    td_map_fini(&loop->nodes);
    free(loop);
}

td_status_t kvt_loop_open(struct kvt_loop *loop, uint64_t node,
                          struct kvt_transport **transport_out)
{
    struct loop_transport *transport = calloc(1, sizeof *transport);
    td_status_t status;

    if (transport == NULL)
        return TD_NO_MEMORY;
    transport->base.ops = &loop_ops;
    snprintf(transport->base.library, sizeof transport->base.library, "tandem loop 1");
    transport->loop = loop;
    transport->node = node;
    td_list_init(&transport->inbox);
    td_list_init(&transport->endpoints);
    td_list_init(&transport->sends);
    td_list_init(&transport->receives);
    status = td_map_insert(&loop->nodes, td_u128_from_u64(node), transport);
    if (status != TD_OK) {
        free(transport);
        return status;
    }
    *transport_out = &transport->base;
    return TD_OK;
}
