/*
 * nccl_private.h: what the files of the NCCL transport share. Not for use elsewhere.
 *
 *   nccl.c          the transport: progress, reports, closing
 *   nccl_listen.c   listening, and addresses for peers
 *   nccl_link.c     a control connection and its communicator: both ends
 *   nccl_endpoint.c sending: connections that we have made
 *   nccl_inlet.c    receiving: connections that were made to us
 *   nccl_rank.c     a rank of a communicator, on a thread of its own
 *   nccl_cuts.c     the stretches in which a chunk is carried
 *   nccl_message.c  encoding and checking of messages
 *   nccl_library.c  NCCL itself, found at run time
 *
 * Objects are freed at the end of a progress only, so that events that were fetched together never meet an object
 * that is gone.
 */
#ifndef TANDEM_KVTRANSFER_NCCL_PRIVATE_H
#define TANDEM_KVTRANSFER_NCCL_PRIVATE_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/nccl.h"
#include "kvtransfer/nccl_cuts.h"
#include "kvtransfer/nccl_message.h"
#include "kvtransfer/nccl_rank.h"
#include "lib/base/list.h"

#define NCCL_PLACES_MAX 8 /* addresses that we listen at, or that a peer does */

enum nccl_role { NCCL_LISTENER, NCCL_SOCKET, NCCL_QUEUE };

/* A descriptor in the epoll set. */
struct nccl_watch {
    enum nccl_role role;
    int fd;                 /* -1: closed */
    uint32_t events;        /* asked of epoll */
    struct nccl_link *link; /* whose it is; NULL: a listener */
};

/* Where a peer may be reached. */
struct nccl_place_address {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } at;
    socklen_t length;
};

struct nccl_address {
    struct td_u128 token; /* of the transport: who does not know it is not let in */
    struct td_u128 host;
    uint32_t version;
    size_t place_count;
    struct nccl_place_address places[NCCL_PLACES_MAX];
};

struct nccl_transport {
    struct kvt_transport base;
    struct kvt_memory memory;
    struct kvt_nccl_config config;
    const struct nccl_library *library;
    struct nccl_address address; /* ours */
    struct nccl_watch listeners[NCCL_PLACES_MAX];
    int epoll_fd;
    int spare_fd; /* given up for a moment to refuse a connection when descriptors have run out */
    struct td_list endpoints; /* struct nccl_link, until disconnected */
    struct td_list inlets;    /* the oldest first */
    size_t inlet_count;
    struct td_list
        ending; /* inlets that have ended and endpoints that were disconnected, until nothing of them runs */
    struct td_list ended; /* struct nccl_operation, to be reported by the next progress */
    bool has_news;
};

/* A send or a receive: lives from its call to its report. */
struct nccl_operation {
    struct td_list in_list;
    struct nccl_transport *transport;
    void *tag;
    bool is_send;
    td_status_t status;
    uint64_t number;
    struct kvt_piece
        *pieces; /* sends: those in the pool, until they are accepted; then the stretches */
    size_t piece_count;
    struct nccl_job job;
    struct kvt_mark *mark; /* behind the job in the stream */
};

/* One end of a control connection, with its rank. The first member of what owns it. */
struct nccl_link {
    struct nccl_transport *transport;
    struct td_list in_transport;
    struct nccl_link *left_before; /* of one that could not be ended */
    bool is_inlet;
    bool is_ending; /* the socket is closed, and the rank aborts */
    bool is_over;   /* and nothing of it runs any more */
    td_status_t status;
    struct nccl_watch socket;
    struct kvt_queue *queue; /* with the rank: opened together */
    struct nccl_watch woken;
    struct nccl_rank *rank;
    enum nccl_rank_state seen; /* the rank's state that was acted upon */
    struct td_list asked;      /* sends that are not accepted yet */
    struct td_list posted;     /* operations that the rank has */
    struct td_list running;    /* those in the stream, in order */
    size_t operation_count;    /* in posted and running */
    struct kvt_mark *fence;    /* behind all that an aborted rank has left in the stream */
    /* what comes in */
    uint8_t frame[NCCL_FRAME_BYTES];
    size_t frame_got;
    enum nccl_kind kind;
    uint8_t *body;
    size_t body_bytes;
    size_t body_got;
    /* what goes out */
    struct td_list packets; /* struct nccl_waiting */
    size_t packet_count;
    size_t packet_sent; /* bytes of the first */
};

struct nccl_endpoint {
    struct nccl_link link;
    struct kvt_endpoint base;
    struct nccl_address peer;
    size_t place; /* of peer.places, that is tried */
    bool is_reached;
    bool peer_is_ready;
    bool is_connected; /* told */
    bool lost_pending;
    uint64_t number; /* the last one given to a send */
};

struct nccl_inlet {
    struct nccl_link link;
    bool has_greeted;
    bool is_ready; /* said */
    struct td_u128 remote;
};

static inline struct nccl_endpoint *nccl_endpoint_of(struct nccl_link *link)
{
    return td_container_of(link, struct nccl_endpoint, link);
}

static inline struct nccl_inlet *nccl_inlet_of(struct nccl_link *link)
{
    return td_container_of(link, struct nccl_inlet, link);
}

/* ---- nccl.c */

struct nccl_operation *nccl_operation_new(struct nccl_transport *transport,
                                          const struct kvt_piece *pieces, size_t piece_count,
                                          void *tag);
/* Puts an ended operation where progress reports it. */
void nccl_operation_end(struct nccl_operation *operation, td_status_t status);
void nccl_operation_free(struct nccl_operation *operation);

/* ---- nccl_listen.c */

/* Listens at every address of the interfaces, and fills what of our address follows from that. */
td_status_t nccl_listen(struct nccl_transport *transport, const char *interfaces,
                        struct td_error *error) TD_MUST_USE;
td_status_t nccl_address_encode(const struct nccl_address *address, uint8_t *out, size_t capacity,
                                size_t *length_out) TD_MUST_USE;
/* Of an address from outside. TD_UNSUPPORTED: another version of NCCL. */
td_status_t nccl_address_decode(const struct nccl_transport *transport, const uint8_t *bytes,
                                size_t length, struct nccl_address *address_out) TD_MUST_USE;

/* Takes a connection, ready for use; -1: none is there. */
int nccl_accept(struct nccl_transport *transport, const struct nccl_watch *listener);
/* Begins to connect; -1: not there. */
int nccl_reach(const struct nccl_place_address *place);

/* ---- nccl_link.c */

void nccl_link_init(struct nccl_link *link, struct nccl_transport *transport, bool is_inlet);
td_status_t nccl_watch_add(struct nccl_transport *transport, struct nccl_watch *watch,
                           uint32_t events) TD_MUST_USE;

/* Asks epoll for what the connection waits for now. */
void nccl_link_watch(struct nccl_link *link);

/* Opens queue and rank. id NULL: of the sender. */
td_status_t nccl_link_join(struct nccl_link *link, const struct nccl_unique_id *id) TD_MUST_USE;

/* Queues a packet, which moves to the link, and sends what the socket takes. It may end the link. */
void nccl_link_say(struct nccl_link *link, struct nccl_packet packet);

/* Gives an operation, whose pieces are the stretches, to the rank. */
void nccl_link_post(struct nccl_link *link, struct nccl_operation *operation);

/*
 * Closes the connection and aborts: what was not begun ends now with that status, the rest when nothing of it runs any
 * more. A second call does nothing.
 */
void nccl_link_end(struct nccl_link *link, td_status_t status);

/* Looks at what its stream has to do: a GPU that has failed wakes nobody. */
void nccl_link_look(struct nccl_link *link);

void nccl_link_ready(struct nccl_link *link, const struct nccl_watch *watch, uint32_t events);

/* Frees the link's own things: it is over, or was never opened. */
void nccl_link_fini(struct nccl_link *link);

/* ---- nccl_endpoint.c */

td_status_t nccl_connect(struct kvt_transport *base, const uint8_t *address, size_t length,
                         void *context, struct kvt_endpoint **endpoint_out);
void nccl_disconnect(struct kvt_transport *base, struct kvt_endpoint *endpoint, bool force);
td_status_t nccl_send(struct kvt_transport *base, struct kvt_endpoint *endpoint,
                      const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                      size_t piece_count, void *tag);
bool nccl_endpoints_report(struct nccl_transport *transport);
/* What a link does for its end of the connection; false: the peer does not keep to the protocol. */
bool nccl_endpoint_message(struct nccl_endpoint *endpoint);
void nccl_endpoint_rank(struct nccl_endpoint *endpoint, enum nccl_rank_state state);
/* The connection is there, or is not. */
void nccl_endpoint_reached(struct nccl_endpoint *endpoint, uint32_t events);

/* ---- nccl_inlet.c */

void nccl_inlet_accept(struct nccl_transport *transport, const struct nccl_watch *listener);
/* Ends the connections of a peer. */
void nccl_inlets_cut(struct nccl_transport *transport, struct td_u128 remote);
td_status_t nccl_receive(struct kvt_transport *base, struct kvt_arrival *arrival,
                         const struct kvt_piece *pieces, size_t piece_count, void *tag);
void nccl_reject(struct kvt_transport *base, struct kvt_arrival *arrival, td_status_t status);
bool nccl_inlet_message(struct nccl_inlet *inlet);
void nccl_inlet_rank(struct nccl_inlet *inlet, enum nccl_rank_state state);

#endif
