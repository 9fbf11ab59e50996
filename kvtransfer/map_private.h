/*
 * map_private.h: what the files of the map transport share. Not for use elsewhere.
 *
 *   map.c          the transport: listening, progress, closing
 *   map_endpoint.c sending: connections that we have made
 *   map_inlet.c    receiving: connections that were made to us, mappings
 *   map_copy.c     copying what the inlets have received, by the processor or by a device
 *   map_socket.c   packets, credentials and descriptors over sockets
 *   map_message.c  encoding and checking of messages
 *
 * Objects are freed at the end of a progress only, so that events that were fetched together never
 * meet an object that is gone.
 */
#ifndef TANDEM_KVTRANSFER_MAP_PRIVATE_H
#define TANDEM_KVTRANSFER_MAP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/map.h"
#include "kvtransfer/map_message.h"
#include "lib/base/list.h"

enum map_role { MAP_LISTENER, MAP_ENDPOINT, MAP_INLET, MAP_QUEUE };

/* A socket, or the descriptor of a queue, in the epoll set: the first member of what owns it. */
struct map_socket {
    enum map_role role;
    int fd;          /* -1: closed */
    uint32_t events; /* asked of epoll */
};

struct map_transport {
    struct kvt_transport base;
    struct kvt_memory memory;
    int read_only_fd;               /* the pool's memfd, opened again for reading: what peers get */
    struct kvt_queue *queue;        /* of copies, where the pool is a device's; else NULL */
    struct map_socket woken;        /* its descriptor, which the queue closes */
    uint8_t share[KVT_SHARE_BYTES]; /* what peers get then */
    int epoll_fd;
    int spare_fd; /* given up for a moment to refuse a connection when descriptors have run out */
    struct map_socket listener;
    struct td_u128 token; /* in our address, and in the name of our socket */
    struct td_u128 host;
    uint32_t close_ms; /* closing waits so long for peers that have our device's pool mapped */
    uint64_t number;   /* the last one given to a send */
    struct td_list endpoints; /* struct map_endpoint, until disconnected */
    struct td_list
        draining;          /* disconnected, and the peer may still read, or have our pool mapped */
    struct td_list inlets; /* struct map_inlet, the oldest first */
    size_t inlet_count;
    struct td_list ending; /* inlets that are closed as soon as a device has ended its copies */
    struct td_list ended;  /* struct map_operation, to be reported by the next progress */
    struct td_list dead_endpoints;
    struct td_list dead_inlets;
    bool has_news;
    uint8_t *packet; /* MAP_MESSAGE_MAX + 1 bytes to receive into */
};

struct map_endpoint {
    struct map_socket socket;
    struct kvt_endpoint base;
    struct td_list in_transport;
    struct map_transport *transport;
    struct td_u128 remote; /* token of the peer's transport */
    bool is_welcome;
    bool connected_pending; /* to be reported */
    bool lost_pending;
    bool is_lost;
    bool is_draining;
    struct td_list waiting; /* sends whose packet has not left */
    struct td_list sent;    /* sends that the peer may be reading */
};

struct map_inlet {
    struct map_socket socket;
    struct td_list in_transport;
    struct map_transport *transport;
    bool has_greeted;
    struct td_u128 remote;
    uint8_t *pool; /* the peer's, read-only */
    size_t pool_bytes;
    struct kvt_mapping *mapping; /* where the pool is a device's */
    int ending_fd; /* the socket, out of the epoll set: the peer must not see its end while its pool is mapped */
    struct td_list copies; /* receives, in the order of their arrival */
    size_t copy_count;
    struct td_list answers; /* struct map_answer that have not left */
    size_t answer_count;
};

/* A send or a receive: lives from its call to its report. */
struct map_operation {
    struct td_list in_list;
    struct map_transport *transport;
    void *tag;
    bool is_send;
    td_status_t status;
    uint64_t number;
    /* sends */
    uint8_t *packet;
    size_t packet_bytes;
    /* receives */
    struct map_inlet *inlet;
    struct kvt_piece *from; /* from_count pieces, then to_count pieces, in one allocation */
    struct kvt_piece *to;
    size_t from_count;
    size_t to_count;
    size_t from_index;
    size_t to_index;
    uint8_t *inlined;      /* what came inside the message */
    struct kvt_mark *mark; /* a device copies, up to here */
};

/* An answer that the socket had no room for. */
struct map_answer {
    struct td_list in_inlet;
    size_t length;
    uint8_t bytes[MAP_SHORT_BYTES];
};

/* ---- map.c */

/* Puts an ended operation where progress reports it. */
void map_operation_end(struct map_operation *operation, td_status_t status);
void map_operation_free(struct map_operation *operation);

/* ---- map_endpoint.c */

td_status_t map_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                        void *context, struct kvt_endpoint **endpoint_out);
void map_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint, bool force);
td_status_t map_send(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                     const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                     size_t piece_count, void *tag);
void map_endpoint_ready(struct map_endpoint *endpoint, uint32_t events);
bool map_endpoints_report(struct map_transport *transport);
void map_endpoint_free(struct map_endpoint *endpoint);
/* Closes our half of all connections, and waits until peers have closed theirs, at most close_ms. */
void map_endpoints_hang_up(struct map_transport *transport);

/* ---- map_inlet.c */

void map_inlet_accept(struct map_transport *transport);
void map_inlet_ready(struct map_inlet *inlet, uint32_t events);
/* Ends all receives and closes the connections of a peer. */
void map_inlets_cut(struct map_transport *transport, struct td_u128 remote);
void map_inlet_free(struct map_inlet *inlet);
td_status_t map_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                        const struct kvt_piece *pieces, size_t piece_count, void *tag);
void map_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status);

/* Closes the connection; its copies end with that status, those that a device is at when it is done. */
void map_inlet_end(struct map_inlet *inlet, td_status_t status);
/* Tells the peer that a chunk was copied or refused. */
void map_inlet_answer(struct map_inlet *inlet, uint64_t number, bool is_refused);
/* Takes packets again, if there is room for what they bring. */
void map_inlet_watch(struct map_inlet *inlet);

/* ---- map_copy.c */

/* Copies a bounded number of bytes, or sees how far a device is; true if anything happened. */
bool map_inlets_copy(struct map_transport *transport);
/* Whether there is something to do that no descriptor tells of. */
bool map_inlets_have_work(const struct map_transport *transport);

/* ---- map_socket.c */

/* The abstract address that belongs to a token; returns its length. */
struct sockaddr_un;
unsigned map_socket_name(struct td_u128 token, struct sockaddr_un *name_out);

/* Whether the process at the other end has our user id. */
bool map_socket_is_ours(int fd);

/* Sends one packet, with a descriptor unless fd_to_pass is -1. TD_AGAIN: no room now. */
td_status_t map_socket_send(int fd, const uint8_t *bytes, size_t length, int fd_to_pass);

/*
 * Receives one packet of at most capacity bytes. *fd_out gets a descriptor that came along (the
 * caller's to close), or -1. TD_AGAIN: none there; TD_PEER_LOST: end or failure; TD_INVALID: too long,
 * or with more than one descriptor.
 */
td_status_t map_socket_receive(int fd, uint8_t *bytes, size_t capacity, size_t *length_out,
                               int *fd_out);

/* Asks epoll for other events on the socket, if they differ. */
void map_socket_watch(struct map_transport *transport, struct map_socket *socket, uint32_t events);

/* Adds to the epoll set; TD_IO if it cannot be. */
td_status_t map_socket_add(struct map_transport *transport, struct map_socket *socket);
void map_socket_close(struct map_socket *socket);
/* Takes it out of the epoll set and hands over its descriptor. */
int map_socket_take(struct map_transport *transport, struct map_socket *socket);

#endif
