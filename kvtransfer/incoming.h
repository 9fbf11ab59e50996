/*
 * incoming.h: one transfer as its receiver sees it, from EXPECT to LANDED or quiescence.
 *
 * Not for use outside this room (docs and tests print and walk the table). What it guards: a chunk is
 * landed only if its header is authentic and names exactly blocks that are expected and have not
 * begun; each block is verified against the header's content hash after it has landed; and the slots
 * are given back only when no receive is running.
 */
#ifndef TANDEM_KVTRANSFER_INCOMING_H
#define TANDEM_KVTRANSFER_INCOMING_H

#include <stdbool.h>
#include <stdint.h>

#include "kvtransfer/peer.h"
#include "kvtransfer/wire.h"
#include "lib/base/fsm.h"

#define INCOMING_STATES(X, P)                                                               \
    X(P, EXPECTED, deadline, "nothing has arrived yet")                                     \
    X(P, LANDING, deadline, "the first chunk was accepted")                                 \
    X(P, STOPPING, stop_ms, "it will not succeed; waiting for running receives")            \
    X(P, CUTTING, cut_ms, "the connection was closed by force; still waiting for receives") \
    X(P, LANDED, none, "all is here and verified")                                          \
    X(P, QUIESCED, none, "not landed, and nobody can write to the slots any more")          \
    X(P, QUARANTINED, none, "somebody might still write; the slots are never used again")

#define INCOMING_EVENTS(X, P)                                                      \
    X(P, CHUNK, "an authentic chunk with expected blocks has arrived")             \
    X(P, COMPLETE, "the last block or the attachment has landed and is verified")  \
    X(P, FAIL, "wrong chunk, wrong content, failed receive, or the peer was lost") \
    X(P, ABANDON, "the owner wants it no more")                                    \
    X(P, IDLE, "no receive is running")                                            \
    X(P, DEADLINE, "the limit of this state has passed")

#define INCOMING_ACTIONS(X, P)                  \
    X(P, BEGIN, "ARRIVING; receive the chunk")  \
    X(P, RECEIVE, "receive the chunk")          \
    X(P, REFUSE, "reject the chunk")            \
    X(P, LAND, "LANDED")                        \
    X(P, FAIL, "FAILED; refuse further chunks") \
    X(P, ABANDON, "refuse further chunks")      \
    X(P, QUIESCE, "QUIESCED")                   \
    X(P, CUT, "close the connection by force")  \
    X(P, QUARANTINE, "QUARANTINED; remember it until its receives end")

#define INCOMING_CELLS(X, P)                                                                   \
    X(P, EXPECTED, CHUNK, LANDING, BEGIN, "")                                                  \
    X(P, EXPECTED, COMPLETE, EXPECTED, BUG, "nothing was received")                            \
    X(P, EXPECTED, FAIL, STOPPING, FAIL, "")                                                   \
    X(P, EXPECTED, ABANDON, STOPPING, ABANDON, "")                                             \
    X(P, EXPECTED, IDLE, EXPECTED, BUG, "nothing was received")                                \
    X(P, EXPECTED, DEADLINE, STOPPING, FAIL, "")                                               \
    X(P, LANDING, CHUNK, LANDING, RECEIVE, "")                                                 \
    X(P, LANDING, COMPLETE, LANDED, LAND, "")                                                  \
    X(P, LANDING, FAIL, STOPPING, FAIL, "")                                                    \
    X(P, LANDING, ABANDON, STOPPING, ABANDON, "")                                              \
    X(P, LANDING, IDLE, LANDING, IGNORE, "more chunks are to come")                            \
    X(P, LANDING, DEADLINE, STOPPING, FAIL, "")                                                \
    X(P, STOPPING, CHUNK, STOPPING, REFUSE, "what has not begun does not begin any more")      \
    X(P, STOPPING, COMPLETE, STOPPING, IGNORE, "a late success does not undo the failure")     \
    X(P, STOPPING, FAIL, STOPPING, IGNORE, "the first reason counts")                          \
    X(P, STOPPING, ABANDON, STOPPING, IGNORE, "it is being stopped already")                   \
    X(P, STOPPING, IDLE, QUIESCED, QUIESCE, "")                                                \
    X(P, STOPPING, DEADLINE, CUTTING, CUT, "a cancel does nothing to a running receive")       \
    X(P, CUTTING, CHUNK, CUTTING, REFUSE, "")                                                  \
    X(P, CUTTING, COMPLETE, CUTTING, IGNORE, "a late success does not undo the failure")       \
    X(P, CUTTING, FAIL, CUTTING, IGNORE, "the cut itself fails all transfers of the peer")     \
    X(P, CUTTING, ABANDON, CUTTING, IGNORE, "it is being stopped already")                     \
    X(P, CUTTING, IDLE, QUIESCED, QUIESCE, "")                                                 \
    X(P, CUTTING, DEADLINE, QUARANTINED, QUARANTINE, "")                                       \
    X(P, LANDED, CHUNK, LANDED, BUG, "it is not found any more")                               \
    X(P, LANDED, COMPLETE, LANDED, BUG, "complete comes once")                                 \
    X(P, LANDED, FAIL, LANDED, IGNORE, "success is final")                                     \
    X(P, LANDED, ABANDON, LANDED, IGNORE, "success is final")                                  \
    X(P, LANDED, IDLE, LANDED, IGNORE, "")                                                     \
    X(P, LANDED, DEADLINE, LANDED, BUG, "a terminal state has no timer")                       \
    X(P, QUIESCED, CHUNK, QUIESCED, BUG, "it is not found any more")                           \
    X(P, QUIESCED, COMPLETE, QUIESCED, BUG, "no receive was running")                          \
    X(P, QUIESCED, FAIL, QUIESCED, IGNORE, "")                                                 \
    X(P, QUIESCED, ABANDON, QUIESCED, IGNORE, "")                                              \
    X(P, QUIESCED, IDLE, QUIESCED, IGNORE, "")                                                 \
    X(P, QUIESCED, DEADLINE, QUIESCED, BUG, "a terminal state has no timer")                   \
    X(P, QUARANTINED, CHUNK, QUARANTINED, BUG, "it is not found any more")                     \
    X(P, QUARANTINED, COMPLETE, QUARANTINED, IGNORE, "")                                       \
    X(P, QUARANTINED, FAIL, QUARANTINED, IGNORE, "")                                           \
    X(P, QUARANTINED, ABANDON, QUARANTINED, IGNORE, "")                                        \
    X(P, QUARANTINED, IDLE, QUARANTINED, IGNORE, "late: memory is freed, the slots stay lost") \
    X(P, QUARANTINED, DEADLINE, QUARANTINED, BUG, "a terminal state has no timer")

TD_FSM_DECLARE(kvt_incoming, INCOMING);

struct kvt_incoming {
    struct kvt_core *core;
    struct kvt_peer *peer;
    struct td_list in_peer;   /* while alive */
    struct td_list in_ghosts; /* while quarantined */
    struct td_u128 transfer;
    uint8_t state;
    td_status_t failure; /* the first reason */
    struct td_timer timer;
    uint8_t mac_key[TD_MAC_KEY_BYTES];
    struct kvt_block *blocks;
    struct td_u128 *hashes; /* of the contents, as accepted headers named them */
    uint32_t block_count;
    uint8_t *begun; /* one bit per block */
    uint32_t landed_count;
    uint8_t *attachment;
    uint32_t attachment_bytes;
    struct td_u128 attachment_hash;
    bool last_begun;
    bool last_landed;
    struct td_list landings; /* receives that have not ended */
    uint64_t bytes;
    uint64_t first_ns; /* first arrival */
    uint64_t last_ns;  /* last receive, before it was verified */
};

/* EXPECT. On failure the events say so. Takes the blocks. */
void kvt_incoming_open(struct kvt_core *core, struct kvt_command *command);

/* The live transfer of that id, or NULL. */
struct kvt_incoming *kvt_incoming_find(const struct kvt_core *core, struct td_u128 transfer);

/* Feeds FAIL or ABANDON; status is why. The transfer may be freed. */
void kvt_incoming_step(struct kvt_incoming *incoming, enum kvt_incoming_event event,
                       td_status_t status);

/* A chunk for this transfer with the right epochs: authenticates, checks, and receives or rejects. */
struct kvt_chunk_arrival {
    struct kvt_transport *transport;
    struct kvt_arrival *arrival;
    const uint8_t *bytes; /* the header as it came */
    size_t length;
    struct kvt_header header; /* decoded */
    uint64_t payload_bytes;
};
void kvt_incoming_arrive(struct kvt_incoming *incoming, const struct kvt_chunk_arrival *chunk);

/* The receive with this tag has ended. The transfer may be freed. */
void kvt_incoming_received(void *tag, td_status_t status);

/* Frees the transfer without an event, at the end of the core; its receives have been forgotten. */
void kvt_incoming_free(struct kvt_incoming *incoming);

#endif
