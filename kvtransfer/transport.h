/*
 * transport.h: one way to move KV blocks between two workers, as the transfer core sees it.
 *
 * A transport moves chunks: a small header plus a list of pieces of memory. The receiving core
 * decides on arrival where the payload goes, or refuses it; a transport never writes to memory that
 * the core has not named for that very arrival. All calls and callbacks happen on the thread that
 * owns the core; nothing here blocks.
 *
 * One rule keeps the core free of re-entrance: a transport calls its sink from inside ops->progress
 * and from nowhere else. Whatever ends inside send, receive, reject or disconnect is reported by the
 * next progress.
 *
 * Connections are pairwise: both sides connect to each other's address, and each side sends only
 * through its own endpoint.
 *
 * Backends: ucx.c (shared memory and TCP between processes), map.c (same host: the sender's pool is
 * mapped read-only and copied by the receiver), staged.c (a device's memory through the host's, by one of
 * the two), nccl.c (between GPUs, by NCCL), loop.c (in one process, for tests and the simulator).
 */
#ifndef TANDEM_KVTRANSFER_TRANSPORT_H
#define TANDEM_KVTRANSFER_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/status.h"

#define KVT_ADDRESS_BYTES_MAX 4096
#define KVT_HEADER_BYTES_MAX  8000 /* UCX 1.13 takes at most 8,100 bytes of active-message header */
#define KVT_ATTACHMENT_BYTES_MAX \
    131072 /* travels inline in one socket message on the map transport */
#define KVT_LANES_TEXT_BYTES 128

/* One contiguous piece of local memory. */
struct kvt_piece {
    void *base;
    size_t length;
};

struct kvt_transport;
struct kvt_arrival; /* a chunk that has arrived and waits for receive or reject */

/* A connection to one incarnation of one peer. Transports embed this as their first member. */
struct kvt_endpoint {
    void *context; /* the core's, as given to connect */
};

/* What a transport tells the core, from inside ops->progress only. */
struct kvt_transport_sink {
    void *impl;
    /* The peer behind the endpoint has answered: sends can start, and lanes are known. At most once. */
    void (*connected)(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint);
    /*
     * A chunk has arrived. Before it returns, the core calls ops->receive or ops->reject exactly
     * once. header is valid during the call; payload_bytes is what the sender announced.
     */
    void (*arrived)(void *impl, struct kvt_transport *transport, const uint8_t *header,
                    size_t header_bytes, uint64_t payload_bytes, struct kvt_arrival *arrival);
    /* A receive has ended: after this nobody writes to its pieces any more. Exactly once per receive. */
    void (*received)(void *impl, struct kvt_transport *transport, void *tag, td_status_t status);
    /* A send has ended: after this nobody reads its pieces any more. Exactly once per send. */
    void (*sent)(void *impl, struct kvt_transport *transport, void *tag, td_status_t status);
    /*
     * The peer behind the endpoint failed, went away or could not be reached. At most once, and not
     * after disconnect; the core answers with disconnect. Sends and receives in flight still end.
     */
    void (*lost)(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint,
                 td_status_t status);
};

struct kvt_transport_ops {
    const char *name;

    /* This side's address blob for the peer, at most capacity bytes. */
    td_status_t (*address)(struct kvt_transport *transport, uint8_t *out, size_t capacity,
                           size_t *length_out);

    /*
     * Connects to a peer's address blob (hostile until checked). Returns at once; sink.connected
     * follows, or sink.lost if the connection cannot be made.
     */
    td_status_t (*connect)(struct kvt_transport *transport, const uint8_t *address, size_t length,
                           void *context, struct kvt_endpoint **endpoint_out);

    /*
     * Closes an endpoint, which must not be used after this call. With force, sends to the peer and
     * receives from it that are in flight are cut off; in both cases each of them still ends
     * through the sink. Without force the caller promises that none is in flight.
     */
    void (*disconnect)(struct kvt_transport *transport, struct kvt_endpoint *endpoint, bool force);

    /*
     * Sends one chunk. header and the piece list are copied; the memory behind the pieces is lent
     * until sink.sent(tag). A return other than TD_OK means that sink.sent will not be called.
     */
    td_status_t (*send)(struct kvt_transport *transport, struct kvt_endpoint *endpoint,
                        const uint8_t *header, size_t header_bytes, const struct kvt_piece *pieces,
                        size_t piece_count, void *tag);

    /*
     * Lands an arrival in the pieces, whose lengths add up to the announced payload. The piece list
     * is copied. Ends with sink.received(tag). A return other than TD_OK means that the arrival is
     * gone and sink.received will not be called.
     */
    td_status_t (*receive)(struct kvt_transport *transport, struct kvt_arrival *arrival,
                           const struct kvt_piece *pieces, size_t piece_count, void *tag);

    /* Refuses an arrival; the sender's send ends with TD_REFUSED. */
    void (*reject)(struct kvt_transport *transport, struct kvt_arrival *arrival,
                   td_status_t status);

    /*
     * Does a bounded amount of what can be done now without blocking, and calls the sink; true if
     * anything happened, so that it is worth calling again.
     */
    bool (*progress)(struct kvt_transport *transport);

    /* A descriptor that becomes readable when progress is worth calling; -1: none (loop). */
    int (*descriptor)(struct kvt_transport *transport);

    /* Before sleeping on the descriptor: TD_OK, or TD_AGAIN if progress must be called first. */
    td_status_t (*arm)(struct kvt_transport *transport);

    /* How bytes to this peer really travel, for logs and metrics: "ucx (sysv)", "map". */
    void (*lanes)(struct kvt_transport *transport, struct kvt_endpoint *endpoint,
                  char out[static KVT_LANES_TEXT_BYTES]);

    /*
     * Cuts everything off by force and frees the transport with its endpoints. The sink is not
     * called. After it has returned the transport touches no memory of the core any more.
     */
    void (*close)(struct kvt_transport *transport);
};

/* Transports embed this as their first member. */
struct kvt_transport {
    const struct kvt_transport_ops *ops;
    struct kvt_transport_sink sink; /* set by the core before the first call of progress */
    char library[64];               /* name and version of the library behind it */
    bool is_staged;                 /* what lies in a device's memory goes through the host's */
};

struct kvt_device;

/* The pool that may be sent from and landed in. */
struct kvt_memory {
    uint8_t *base;
    size_t bytes;
    int fd;                    /* memfd behind base; -1: none */
    struct kvt_device *device; /* whose memory it is (memory.h); NULL: ordinary memory */
};

#endif
