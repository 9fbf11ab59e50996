/*
 * outgoing.h: one transfer as its sender sees it, from OFFER to DRAINED.
 *
 * Not for use outside this room (docs and tests print and walk the table). Runs of blocks come in
 * order of their ordinals; they are cut into chunks and sent while the peer's window has room. Blocks
 * and attachments that a send may be reading stay held until the transport says that it has ended.
 */
#ifndef TANDEM_KVTRANSFER_OUTGOING_H
#define TANDEM_KVTRANSFER_OUTGOING_H

#include <stdbool.h>
#include <stdint.h>

#include "kvtransfer/peer.h"
#include "kvtransfer/wire.h"
#include "lib/base/fsm.h"

#define OUTGOING_STATES(X, P)                                                            \
    X(P, OFFERED, deadline, "nothing was given to send yet")                             \
    X(P, SENDING, deadline, "runs come and go; none may be in flight at the moment")     \
    X(P, STOPPING, stop_ms, "it will not be completed; waiting for running sends")       \
    X(P, CUTTING, cut_ms, "the connection was closed by force; still waiting for sends") \
    X(P, DRAINED, none, "nothing is in flight, and nothing will be")                     \
    X(P, QUARANTINED, none, "somebody might still read; the slots are never used again")

#define OUTGOING_EVENTS(X, P)                                                 \
    X(P, RUN, "the owner gave the next run of blocks")                        \
    X(P, COMPLETE, "everything that was offered has left")                    \
    X(P, FAIL, "a wrong run, a failed or refused send, or the peer was lost") \
    X(P, STOP, "the owner wants no more of it")                               \
    X(P, IDLE, "no send is running")                                          \
    X(P, DEADLINE, "the limit of this state has passed")

#define OUTGOING_ACTIONS(X, P)                                \
    X(P, QUEUE, "queue the run; send what the window allows") \
    X(P, FAIL, "FAILED; drop what is queued")                 \
    X(P, STOP, "drop what is queued")                         \
    X(P, DRAIN, "DRAINED")                                    \
    X(P, CUT, "close the connection by force")                \
    X(P, QUARANTINE, "QUARANTINED; remember it until its sends end")

#define OUTGOING_CELLS(X, P)                                                                   \
    X(P, OFFERED, RUN, SENDING, QUEUE, "")                                                     \
    X(P, OFFERED, COMPLETE, OFFERED, BUG, "nothing was sent")                                  \
    X(P, OFFERED, FAIL, STOPPING, FAIL, "")                                                    \
    X(P, OFFERED, STOP, STOPPING, STOP, "")                                                    \
    X(P, OFFERED, IDLE, OFFERED, BUG, "nothing was sent")                                      \
    X(P, OFFERED, DEADLINE, STOPPING, FAIL, "")                                                \
    X(P, SENDING, RUN, SENDING, QUEUE, "")                                                     \
    X(P, SENDING, COMPLETE, DRAINED, DRAIN, "")                                                \
    X(P, SENDING, FAIL, STOPPING, FAIL, "")                                                    \
    X(P, SENDING, STOP, STOPPING, STOP, "")                                                    \
    X(P, SENDING, IDLE, SENDING, IGNORE, "more runs are to come")                              \
    X(P, SENDING, DEADLINE, STOPPING, FAIL, "")                                                \
    X(P, STOPPING, RUN, STOPPING, IGNORE, "it crossed with the failure; it is dropped")        \
    X(P, STOPPING, COMPLETE, STOPPING, IGNORE, "a late success does not undo the failure")     \
    X(P, STOPPING, FAIL, STOPPING, IGNORE, "the first reason counts")                          \
    X(P, STOPPING, STOP, STOPPING, IGNORE, "it is being stopped already")                      \
    X(P, STOPPING, IDLE, DRAINED, DRAIN, "")                                                   \
    X(P, STOPPING, DEADLINE, CUTTING, CUT, "a cancel does nothing to a running send")          \
    X(P, CUTTING, RUN, CUTTING, IGNORE, "it crossed with the failure; it is dropped")          \
    X(P, CUTTING, COMPLETE, CUTTING, IGNORE, "a late success does not undo the failure")       \
    X(P, CUTTING, FAIL, CUTTING, IGNORE, "the cut itself fails all transfers of the peer")     \
    X(P, CUTTING, STOP, CUTTING, IGNORE, "it is being stopped already")                        \
    X(P, CUTTING, IDLE, DRAINED, DRAIN, "")                                                    \
    X(P, CUTTING, DEADLINE, QUARANTINED, QUARANTINE, "")                                       \
    X(P, DRAINED, RUN, DRAINED, BUG, "it is not found any more")                               \
    X(P, DRAINED, COMPLETE, DRAINED, BUG, "complete comes once")                               \
    X(P, DRAINED, FAIL, DRAINED, IGNORE, "")                                                   \
    X(P, DRAINED, STOP, DRAINED, IGNORE, "")                                                   \
    X(P, DRAINED, IDLE, DRAINED, IGNORE, "")                                                   \
    X(P, DRAINED, DEADLINE, DRAINED, BUG, "a terminal state has no timer")                     \
    X(P, QUARANTINED, RUN, QUARANTINED, BUG, "it is not found any more")                       \
    X(P, QUARANTINED, COMPLETE, QUARANTINED, IGNORE, "")                                       \
    X(P, QUARANTINED, FAIL, QUARANTINED, IGNORE, "")                                           \
    X(P, QUARANTINED, STOP, QUARANTINED, IGNORE, "")                                           \
    X(P, QUARANTINED, IDLE, QUARANTINED, IGNORE, "late: memory is freed, the slots stay lost") \
    X(P, QUARANTINED, DEADLINE, QUARANTINED, BUG, "a terminal state has no timer")

TD_FSM_DECLARE(kvt_outgoing, OUTGOING);

struct kvt_outgoing {
    struct kvt_core *core;
    struct kvt_peer *peer;
    struct td_list in_peer;   /* while alive */
    struct td_list in_ready;  /* while there is something to send */
    struct td_list in_ghosts; /* while quarantined */
    struct td_u128 transfer;
    uint8_t state;
    td_status_t failure; /* the first reason; TD_OK: everything was sent */
    struct td_timer timer;
    uint8_t mac_key[TD_MAC_KEY_BYTES];
    uint32_t block_count;
    uint32_t attachment_bytes;
    uint32_t given_count; /* blocks that SENDs have brought */
    bool attachment_given;
    uint32_t sent_count; /* blocks that have left */
    bool last_sent;
    struct td_list runs;     /* what waits to be cut into chunks */
    struct td_list sendings; /* sends that have not ended */
};

/* OFFER. On failure the events say so. */
void kvt_outgoing_open(struct kvt_core *core, const struct kvt_command *command);

/* The live transfer of that id to that peer, or NULL. */
struct kvt_outgoing *kvt_outgoing_find(const struct kvt_core *core, struct td_u128 transfer,
                                       uint64_t peer);

/* SEND. Takes blocks and attachment. The transfer may be freed. */
void kvt_outgoing_run(struct kvt_outgoing *outgoing, struct kvt_command *command);

/* Feeds FAIL or STOP; status is why. The transfer may be freed. */
void kvt_outgoing_step(struct kvt_outgoing *outgoing, enum kvt_outgoing_event event,
                       td_status_t status);

/* For the pump: the payload of the next chunk, and sending it. The transfer may be freed. */
uint64_t kvt_outgoing_next_bytes(const struct kvt_outgoing *outgoing);
void kvt_outgoing_send_next(struct kvt_outgoing *outgoing);

/* The send with this tag has ended. The transfer may be freed. */
void kvt_outgoing_sent(void *tag, td_status_t status);

/* Frees the transfer without an event, at the end of the core; its sends have been forgotten. */
void kvt_outgoing_free(struct kvt_outgoing *outgoing);

#endif
