/*
 * export.h: one ask of a peer being served, and its state table.
 *
 * The prompt is computed by the engine; each run of full blocks is sent as soon as it is there, the tail
 * and the last hidden state at the end. The ask lives under a lease that the asker renews; an asker that
 * goes silent stops it, and one that leaves too, unless everything was handed to the transfer: then the
 * asker may have it all, and its side of the transfer decides. Blocks go back to the engine only when
 * nobody reads them any more.
 */
#ifndef TANDEM_WORKER_EXPORT_H
#define TANDEM_WORKER_EXPORT_H

#include "lib/base/fsm.h"

#define EXPORT_STATES(X, P)                                                                  \
    X(P, QUEUED, lease_ms, "accepted and offered; no block is there yet")                    \
    X(P, SENDING, lease_ms, "blocks are being computed and sent")                            \
    X(P, FINISHING, lease_ms, "everything was computed and handed to the transfer")          \
    X(P, STOPPING, transfer, "given up; waiting until nobody reads the blocks")              \
    X(P, DRAINING, transfer, "the engine has ended it; waiting for the end of the transfer") \
    X(P, RELEASING, engine_step,                                                             \
      "the transfer has ended; the engine was told to take the blocks back")                 \
    X(P, DONE, none, "freed")

#define EXPORT_EVENTS(X, P)                                                               \
    X(P, BLOCKS, "full blocks are ready")                                                 \
    X(P, PREFILLED, "the prompt is complete")                                             \
    X(P, ENGINE_STOPPED, "the engine cannot complete it; the blocks wait for a release")  \
    X(P, ENGINE_ENDED, "the engine is done with the sequence; it has no blocks any more") \
    X(P, FAILED, "the transfer failed, and is stopping by itself")                        \
    X(P, DRAINED, "everything was sent, and nobody reads the blocks any more")            \
    X(P, CUT, "not everything was sent, and nobody reads the blocks any more")            \
    X(P, QUARANTINED, "the transfer could not be drained in time")                        \
    X(P, RENEW, "the asker renewed the lease")                                            \
    X(P, ASKER_LOST, "the stream of the ask was closed or broke")                         \
    X(P, TIMEOUT, "the lease ran out")

#define EXPORT_ACTIONS(X, P)                                                     \
    X(P, SEND, "send the run of blocks")                                         \
    X(P, SEND_LAST, "send the tail and the hidden state")                        \
    X(P, RENEW, "the lease starts anew")                                         \
    X(P, REFUSE, "tell the asker why, and stop the transfer")                    \
    X(P, STOP, "tell the asker why, cancel the sequence, and stop the transfer") \
    X(P, COMPLETE, "tell the asker that all was sent, and give the blocks back") \
    X(P, RELEASE, "give the blocks back")                                        \
    X(P, RELEASE_QUARANTINE, "leave the blocks in quarantine")                   \
    X(P, MARK, "there is nothing left to release")                               \
    X(P, FREE, "free")

#define EXPORT_CELLS(X, P)                                                           \
    X(P, QUEUED, BLOCKS, SENDING, SEND, "")                                          \
    X(P, QUEUED, PREFILLED, FINISHING, SEND_LAST, "a prompt shorter than a block")   \
    X(P, QUEUED, ENGINE_STOPPED, STOPPING, STOP, "")                                 \
    X(P, QUEUED, ENGINE_ENDED, DRAINING, REFUSE, "the engine has no room, or broke") \
    X(P, QUEUED, FAILED, STOPPING, STOP, "")                                         \
    X(P, QUEUED, DRAINED, QUEUED, BUG, "")                                           \
    X(P, QUEUED, CUT, QUEUED, BUG, "")                                               \
    X(P, QUEUED, QUARANTINED, QUEUED, BUG, "")                                       \
    X(P, QUEUED, RENEW, QUEUED, RENEW, "")                                           \
    X(P, QUEUED, ASKER_LOST, STOPPING, STOP, "")                                     \
    X(P, QUEUED, TIMEOUT, STOPPING, STOP, "")                                        \
    X(P, SENDING, BLOCKS, SENDING, SEND, "")                                         \
    X(P, SENDING, PREFILLED, FINISHING, SEND_LAST, "")                               \
    X(P, SENDING, ENGINE_STOPPED, STOPPING, STOP, "")                                \
    X(P, SENDING, ENGINE_ENDED, SENDING, BUG, "the engine waits for a release")      \
    X(P, SENDING, FAILED, STOPPING, STOP, "")                                        \
    X(P, SENDING, DRAINED, SENDING, BUG, "")                                         \
    X(P, SENDING, CUT, SENDING, BUG, "")                                             \
    X(P, SENDING, QUARANTINED, SENDING, BUG, "")                                     \
    X(P, SENDING, RENEW, SENDING, RENEW, "")                                         \
    X(P, SENDING, ASKER_LOST, STOPPING, STOP, "")                                    \
    X(P, SENDING, TIMEOUT, STOPPING, STOP, "")                                       \
    X(P, FINISHING, BLOCKS, FINISHING, BUG, "")                                      \
    X(P, FINISHING, PREFILLED, FINISHING, BUG, "")                                   \
    X(P, FINISHING, ENGINE_STOPPED, FINISHING, BUG, "")                              \
    X(P, FINISHING, ENGINE_ENDED, FINISHING, BUG, "the engine waits for a release")  \
    X(P, FINISHING, FAILED, STOPPING, STOP, "")                                      \
    X(P, FINISHING, DRAINED, RELEASING, COMPLETE, "")                                \
    X(P, FINISHING, CUT, RELEASING, RELEASE, "")                                     \
    X(P, FINISHING, QUARANTINED, RELEASING, RELEASE_QUARANTINE, "")                  \
    X(P, FINISHING, RENEW, FINISHING, RENEW, "")                                     \
    X(P, FINISHING, ASKER_LOST, FINISHING, IGNORE,                                   \
      "it has everything, or its side of the transfer ends ours")                    \
    X(P, FINISHING, TIMEOUT, STOPPING, STOP, "")                                     \
    X(P, STOPPING, BLOCKS, STOPPING, IGNORE, "computed before the cancel")           \
    X(P, STOPPING, PREFILLED, STOPPING, IGNORE, "computed before the cancel")        \
    X(P, STOPPING, ENGINE_STOPPED, STOPPING, IGNORE, "")                             \
    X(P, STOPPING, ENGINE_ENDED, DRAINING, MARK, "it had not started")               \
    X(P, STOPPING, FAILED, STOPPING, IGNORE, "")                                     \
    X(P, STOPPING, DRAINED, RELEASING, RELEASE, "")                                  \
    X(P, STOPPING, CUT, RELEASING, RELEASE, "")                                      \
    X(P, STOPPING, QUARANTINED, RELEASING, RELEASE_QUARANTINE, "")                   \
    X(P, STOPPING, RENEW, STOPPING, IGNORE, "")                                      \
    X(P, STOPPING, ASKER_LOST, STOPPING, IGNORE, "")                                 \
    X(P, STOPPING, TIMEOUT, STOPPING, BUG, "bounded by the transfer's deadlines")    \
    X(P, DRAINING, BLOCKS, DRAINING, BUG, "")                                        \
    X(P, DRAINING, PREFILLED, DRAINING, BUG, "")                                     \
    X(P, DRAINING, ENGINE_STOPPED, DRAINING, BUG, "")                                \
    X(P, DRAINING, ENGINE_ENDED, DRAINING, BUG, "")                                  \
    X(P, DRAINING, FAILED, DRAINING, IGNORE, "")                                     \
    X(P, DRAINING, DRAINED, DONE, FREE, "")                                          \
    X(P, DRAINING, CUT, DONE, FREE, "")                                              \
    X(P, DRAINING, QUARANTINED, DONE, FREE, "it never had blocks")                   \
    X(P, DRAINING, RENEW, DRAINING, IGNORE, "")                                      \
    X(P, DRAINING, ASKER_LOST, DRAINING, IGNORE, "")                                 \
    X(P, DRAINING, TIMEOUT, DRAINING, BUG, "bounded by the transfer's deadlines")    \
    X(P, RELEASING, BLOCKS, RELEASING, IGNORE, "computed before the cancel")         \
    X(P, RELEASING, PREFILLED, RELEASING, IGNORE, "computed before the cancel")      \
    X(P, RELEASING, ENGINE_STOPPED, RELEASING, IGNORE, "")                           \
    X(P, RELEASING, ENGINE_ENDED, DONE, FREE, "")                                    \
    X(P, RELEASING, FAILED, RELEASING, BUG, "")                                      \
    X(P, RELEASING, DRAINED, RELEASING, BUG, "")                                     \
    X(P, RELEASING, CUT, RELEASING, BUG, "")                                         \
    X(P, RELEASING, QUARANTINED, RELEASING, BUG, "")                                 \
    X(P, RELEASING, RENEW, RELEASING, IGNORE, "")                                    \
    X(P, RELEASING, ASKER_LOST, RELEASING, IGNORE, "")                               \
    X(P, RELEASING, TIMEOUT, RELEASING, BUG, "bounded by the engine's step")         \
    X(P, DONE, BLOCKS, DONE, BUG, "")                                                \
    X(P, DONE, PREFILLED, DONE, BUG, "")                                             \
    X(P, DONE, ENGINE_STOPPED, DONE, BUG, "")                                        \
    X(P, DONE, ENGINE_ENDED, DONE, BUG, "")                                          \
    X(P, DONE, FAILED, DONE, BUG, "")                                                \
    X(P, DONE, DRAINED, DONE, BUG, "")                                               \
    X(P, DONE, CUT, DONE, BUG, "")                                                   \
    X(P, DONE, QUARANTINED, DONE, BUG, "")                                           \
    X(P, DONE, RENEW, DONE, BUG, "")                                                 \
    X(P, DONE, ASKER_LOST, DONE, BUG, "")                                            \
    X(P, DONE, TIMEOUT, DONE, BUG, "")

TD_FSM_DECLARE(export, EXPORT);

#endif
