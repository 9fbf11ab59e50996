/*
 * loop.h: a transport inside one process, whose messages the caller delivers.
 *
 * For tests and the simulator. Whatever passes between two loop transports is a message that is handed
 * to config.post and belongs to the caller from then on. The caller owns the clock and the queue: it
 * may deliver a message at once, later, in another order, twice, damaged, or never. A chunk is a
 * chain of messages (chunk, one per part of the payload, end), and the payload is read from the
 * sender's memory and written to the receiver's at the moment of delivery, as late as the caller likes;
 * so blocks that are used again too early show.
 *
 * Pure and deterministic: no thread, no clock, no randomness. Everything happens on one thread.
 */
#ifndef TANDEM_KVTRANSFER_LOOP_H
#define TANDEM_KVTRANSFER_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/status.h"

struct kvt_loop;         /* what connects the loop transports of one process */
struct kvt_loop_message; /* on its way */

enum kvt_loop_kind {
    KVT_LOOP_CONNECT = 1, /* an endpoint was made */
    KVT_LOOP_CONNECTED,   /* its answer */
    KVT_LOOP_CHUNK,       /* a header, and how much follows */
    KVT_LOOP_DATA,        /* one part of a payload lands */
    KVT_LOOP_ENDED,       /* the receiver took the chunk or refused it */
    KVT_LOOP_GONE,        /* a transport or its endpoint has gone away */
};

struct kvt_loop_config {
    void *impl;
    /* Takes over a message: kvt_loop_deliver or kvt_loop_discard must follow, from here or later. */
    void (*post)(void *impl, struct kvt_loop_message *message);
    size_t part_bytes; /* a payload lands in parts of this size */
    /* Closing by force cuts nothing off, at neither end: what a hung transport does. */
    bool ignores_force;
};

td_status_t kvt_loop_new(const struct kvt_loop_config *config,
                         struct kvt_loop **loop_out) TD_MUST_USE;

/* Frees the loop; its transports must be closed and its messages delivered or discarded. */
void kvt_loop_free(struct kvt_loop *loop);

/*
 * A transport named "loop". node identifies this incarnation of a process and must be new.
 * TD_STATE: there is a node of that number.
 */
td_status_t kvt_loop_open(struct kvt_loop *loop, uint64_t node,
                          struct kvt_transport **transport_out) TD_MUST_USE;

/*
 * The process of this transport dies: it sends and receives nothing from here on, and whoever was
 * connected will get GONE. The transport itself is still to be closed.
 */
void kvt_loop_crash(struct kvt_transport *transport);

/* Puts the message into its receiver's inbox, where progress finds it. Frees it in any case. */
void kvt_loop_deliver(struct kvt_loop_message *message);

/* The message is lost. Frees it. */
void kvt_loop_discard(struct kvt_loop_message *message);

/* A second message of the same content, or NULL without memory. */
struct kvt_loop_message *kvt_loop_copy(const struct kvt_loop_message *message);

/*
 * Damages the message: bit (modulo its length) of the header of a CHUNK, or of the payload of DATA, is
 * flipped. Does nothing to other kinds.
 */
void kvt_loop_corrupt(struct kvt_loop_message *message, uint64_t bit);

enum kvt_loop_kind kvt_loop_message_kind(const struct kvt_loop_message *message);
uint64_t kvt_loop_message_from(const struct kvt_loop_message *message);
uint64_t kvt_loop_message_to(const struct kvt_loop_message *message);

#endif
