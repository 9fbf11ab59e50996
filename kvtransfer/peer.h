/*
 * peer.h: one connection to one incarnation of another worker, and the transfers that need it.
 *
 * Not for use outside this room. A peer lives until its connection is gone and the last of its
 * transfers has let go of it.
 */
#ifndef TANDEM_KVTRANSFER_PEER_H
#define TANDEM_KVTRANSFER_PEER_H

#include <stdint.h>

#include "kvtransfer/state.h"
#include "lib/base/fsm.h"

#define PEER_STATES(X, P)                                                                  \
    X(P, CONNECTING, connect_ms, "the transport is connecting; sends wait")                \
    X(P, UP, keepalive, "chunks can travel; the transport watches that the peer is there") \
    X(P, LOST, none, "disconnected; transfers that still need it end by their own deadlines")

#define PEER_EVENTS(X, P)                                                      \
    X(P, CONNECTED, "the transport has heard from the peer")                   \
    X(P, GONE, "the transport says that the peer failed or cannot be reached") \
    X(P, DROP, "the owner wants no more of it, or a transfer must be cut off") \
    X(P, DEADLINE, "connect_ms have passed")

#define PEER_ACTIONS(X, P)                                   \
    X(P, WELCOME, "PEER_UP with the lanes; send what waits") \
    X(P, LOSE, "disconnect by force; PEER_LOST; fail all transfers with it")

#define PEER_CELLS(X, P)                                                                      \
    X(P, CONNECTING, CONNECTED, UP, WELCOME, "")                                              \
    X(P, CONNECTING, GONE, LOST, LOSE, "")                                                    \
    X(P, CONNECTING, DROP, LOST, LOSE, "")                                                    \
    X(P, CONNECTING, DEADLINE, LOST, LOSE, "")                                                \
    X(P, UP, CONNECTED, UP, BUG, "a transport says it once")                                  \
    X(P, UP, GONE, LOST, LOSE, "")                                                            \
    X(P, UP, DROP, LOST, LOSE, "")                                                            \
    X(P, UP, DEADLINE, UP, BUG, "the timer ends with CONNECTING")                             \
    X(P, LOST, CONNECTED, LOST, BUG, "the endpoint is gone")                                  \
    X(P, LOST, GONE, LOST, BUG, "the endpoint is gone")                                       \
    X(P, LOST, DROP, LOST, IGNORE, "a second transfer of a lost peer may want to cut it off") \
    X(P, LOST, DEADLINE, LOST, BUG, "the timer ends with CONNECTING")

TD_FSM_DECLARE(kvt_peer, PEER);

struct kvt_peer {
    struct kvt_core *core;
    uint64_t epoch;
    uint8_t state;
    uint32_t users; /* transfers, quarantined ones included, that point here */
    struct kvt_transport *transport;
    struct kvt_endpoint *endpoint; /* NULL once lost */
    struct td_timer timer;
    struct td_list incoming; /* alive */
    struct td_list outgoing; /* alive */
    struct td_list ready;    /* outgoing with something to send, served in turn */
    uint64_t in_flight_bytes;
};

/* PEER_ADD. On failure the events say so. */
void kvt_peer_open(struct kvt_core *core, struct kvt_command *command);

/* Feeds CONNECTED, GONE or DROP; status is why. The peer may be freed. */
void kvt_peer_step(struct kvt_peer *peer, enum kvt_peer_event event, td_status_t status);

/* The live peer of that epoch, or NULL. */
struct kvt_peer *kvt_peer_find(const struct kvt_core *core, uint64_t epoch);

/* A transfer takes hold of the peer, and lets go of it (which may free it). */
void kvt_peer_hold(struct kvt_peer *peer);
void kvt_peer_release(struct kvt_peer *peer);

/* Sends what is ready as far as the window allows. */
void kvt_peer_pump(struct kvt_peer *peer);

/* Frees a peer that has no user left, at the end of the core. */
void kvt_peer_free(struct kvt_peer *peer);

#endif
