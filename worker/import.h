/*
 * import.h: one KV import: how a prompt that is prefilled elsewhere gets here, and its state table.
 *
 * Reserve first, then ask, then land. Whatever goes wrong, the import ends in one of three ways: the
 * KV is committed, the engine is told to prefill the prompt itself, or (canceled) the blocks are
 * given back; and never before the transfer core has said that nobody can write to the blocks.
 */
#ifndef TANDEM_WORKER_IMPORT_H
#define TANDEM_WORKER_IMPORT_H

#include "lib/base/fsm.h"

#define IMPORT_STATES(X, P)                                                                      \
    X(P, RESERVING, reserve_ms, "the engine was asked for blocks; nobody outside knows of them") \
    X(P, PAIRING, pair_ms, "waiting for the handshake with the candidate")                       \
    X(P, ASKING, ask_ms, "the transfer is expected and the candidate was asked")                 \
    X(P, LANDING, stall_ms, "the candidate accepted; blocks land as it computes them")           \
    X(P, STOPPING, transfer, "given up; waiting until nobody can write to the blocks")           \
    X(P, CANCELING, transfer, "canceled; waiting until nobody can write to the blocks")          \
    X(P, DONE, none, "committed, given up or given back")

#define IMPORT_EVENTS(X, P)                                                                        \
    X(P, RESERVED_REMOTE, "blocks are reserved, and enough is missing to ask for it")              \
    X(P, RESERVED_LOCAL, "blocks are reserved, and so much is cached that it is not worth asking") \
    X(P, ENGINE_ENDED, "the engine ended the sequence")                                            \
    X(P, PAIR_UP, "the candidate is paired and its transport is up")                               \
    X(P, PAIR_FAILED_MORE, "the candidate cannot be paired; there is another")                     \
    X(P, PAIR_FAILED_LAST, "the candidate cannot be paired; it was the last")                      \
    X(P, ACCEPTED, "the candidate accepted the ask")                                               \
    X(P, REFUSED, "the candidate refused, now or later")                                           \
    X(P, PROGRESS, "the candidate reports progress, or a chunk arrived")                           \
    X(P, SENT, "the candidate has sent everything")                                                \
    X(P, ASK_LOST, "the stream of the ask broke before everything was sent")                       \
    X(P, LANDED, "everything has landed and was verified")                                         \
    X(P, FAILED, "the transfer failed; quiescence follows")                                        \
    X(P, QUIESCED_MORE, "nobody can write to the blocks; there is another candidate")              \
    X(P, QUIESCED_LAST, "nobody can write to the blocks; no candidate is left")                    \
    X(P, QUARANTINED, "quiescence could not be reached; the blocks are lost")                      \
    X(P, CANCEL, "the request was canceled")                                                       \
    X(P, TIMEOUT, "the state's deadline passed")

#define IMPORT_ACTIONS(X, P)                                                         \
    X(P, PAIR, "wait for the pair with the next candidate")                          \
    X(P, ASK, "announce the transfer to the engine and the transfer core, then ask") \
    X(P, NOTE, "note it; the stall deadline starts anew")                            \
    X(P, COMMIT, "hand hidden state and hashes to the engine")                       \
    X(P, ABANDON, "close the ask, and stop the transfer")                            \
    X(P, CLOSE_ASK, "close the ask; the transfer is stopping by itself")             \
    X(P, MARK, "remember that it is canceled")                                       \
    X(P, FALL_BACK, "let the engine prefill the prompt")                             \
    X(P, FALL_BACK_QUARANTINE, "the same, with other blocks")                        \
    X(P, RELEASE, "give the blocks back")                                            \
    X(P, RELEASE_QUARANTINE, "leave the blocks in quarantine")                       \
    X(P, FORGET, "nothing outside was told; the engine frees by itself")

#define IMPORT_CELLS(X, P)                                                                         \
    X(P, RESERVING, RESERVED_REMOTE, PAIRING, PAIR, "")                                            \
    X(P, RESERVING, RESERVED_LOCAL, DONE, FALL_BACK, "")                                           \
    X(P, RESERVING, ENGINE_ENDED, DONE, FORGET, "")                                                \
    X(P, RESERVING, PAIR_UP, RESERVING, BUG, "")                                                   \
    X(P, RESERVING, PAIR_FAILED_MORE, RESERVING, BUG, "")                                          \
    X(P, RESERVING, PAIR_FAILED_LAST, RESERVING, BUG, "")                                          \
    X(P, RESERVING, ACCEPTED, RESERVING, BUG, "")                                                  \
    X(P, RESERVING, REFUSED, RESERVING, BUG, "")                                                   \
    X(P, RESERVING, PROGRESS, RESERVING, BUG, "")                                                  \
    X(P, RESERVING, SENT, RESERVING, BUG, "")                                                      \
    X(P, RESERVING, ASK_LOST, RESERVING, BUG, "")                                                  \
    X(P, RESERVING, LANDED, RESERVING, BUG, "")                                                    \
    X(P, RESERVING, FAILED, RESERVING, BUG, "")                                                    \
    X(P, RESERVING, QUIESCED_MORE, RESERVING, BUG, "")                                             \
    X(P, RESERVING, QUIESCED_LAST, RESERVING, BUG, "")                                             \
    X(P, RESERVING, QUARANTINED, RESERVING, BUG, "")                                               \
    X(P, RESERVING, CANCEL, DONE, FORGET, "the cancel of the sequence frees what was reserved")    \
    X(P, RESERVING, TIMEOUT, DONE, FALL_BACK, "no room for a whole prompt; chunks may find room")  \
    X(P, PAIRING, RESERVED_REMOTE, PAIRING, BUG, "")                                               \
    X(P, PAIRING, RESERVED_LOCAL, PAIRING, BUG, "")                                                \
    X(P, PAIRING, ENGINE_ENDED, DONE, FORGET, "")                                                  \
    X(P, PAIRING, PAIR_UP, ASKING, ASK, "")                                                        \
    X(P, PAIRING, PAIR_FAILED_MORE, PAIRING, PAIR, "")                                             \
    X(P, PAIRING, PAIR_FAILED_LAST, DONE, FALL_BACK, "")                                           \
    X(P, PAIRING, ACCEPTED, PAIRING, BUG, "")                                                      \
    X(P, PAIRING, REFUSED, PAIRING, BUG, "")                                                       \
    X(P, PAIRING, PROGRESS, PAIRING, BUG, "")                                                      \
    X(P, PAIRING, SENT, PAIRING, BUG, "")                                                          \
    X(P, PAIRING, ASK_LOST, PAIRING, BUG, "")                                                      \
    X(P, PAIRING, LANDED, PAIRING, BUG, "")                                                        \
    X(P, PAIRING, FAILED, PAIRING, BUG, "")                                                        \
    X(P, PAIRING, QUIESCED_MORE, PAIRING, BUG, "")                                                 \
    X(P, PAIRING, QUIESCED_LAST, PAIRING, BUG, "")                                                 \
    X(P, PAIRING, QUARANTINED, PAIRING, BUG, "")                                                   \
    X(P, PAIRING, CANCEL, DONE, RELEASE, "after a first candidate the engine waits for a release") \
    X(P, PAIRING, TIMEOUT, DONE, FALL_BACK, "")                                                    \
    X(P, ASKING, RESERVED_REMOTE, ASKING, BUG, "")                                                 \
    X(P, ASKING, RESERVED_LOCAL, ASKING, BUG, "")                                                  \
    X(P, ASKING, ENGINE_ENDED, ASKING, BUG, "the engine waits for a release")                      \
    X(P, ASKING, PAIR_UP, ASKING, BUG, "")                                                         \
    X(P, ASKING, PAIR_FAILED_MORE, ASKING, BUG, "")                                                \
    X(P, ASKING, PAIR_FAILED_LAST, ASKING, BUG, "")                                                \
    X(P, ASKING, ACCEPTED, LANDING, NOTE, "")                                                      \
    X(P, ASKING, REFUSED, STOPPING, ABANDON, "")                                                   \
    X(P, ASKING, PROGRESS, ASKING, IGNORE, "chunks may overtake the acceptance")                   \
    X(P, ASKING, SENT, ASKING, IGNORE, "")                                                         \
    X(P, ASKING, ASK_LOST, STOPPING, ABANDON, "")                                                  \
    X(P, ASKING, LANDED, DONE, COMMIT, "chunks may overtake the acceptance")                       \
    X(P, ASKING, FAILED, STOPPING, CLOSE_ASK, "")                                                  \
    X(P, ASKING, QUIESCED_MORE, PAIRING, PAIR, "")                                                 \
    X(P, ASKING, QUIESCED_LAST, DONE, FALL_BACK, "")                                               \
    X(P, ASKING, QUARANTINED, DONE, FALL_BACK_QUARANTINE, "")                                      \
    X(P, ASKING, CANCEL, CANCELING, ABANDON, "")                                                   \
    X(P, ASKING, TIMEOUT, STOPPING, ABANDON, "")                                                   \
    X(P, LANDING, RESERVED_REMOTE, LANDING, BUG, "")                                               \
    X(P, LANDING, RESERVED_LOCAL, LANDING, BUG, "")                                                \
    X(P, LANDING, ENGINE_ENDED, LANDING, BUG, "the engine waits for a release")                    \
    X(P, LANDING, PAIR_UP, LANDING, BUG, "")                                                       \
    X(P, LANDING, PAIR_FAILED_MORE, LANDING, BUG, "")                                              \
    X(P, LANDING, PAIR_FAILED_LAST, LANDING, BUG, "")                                              \
    X(P, LANDING, ACCEPTED, LANDING, IGNORE, "said twice")                                         \
    X(P, LANDING, REFUSED, STOPPING, ABANDON, "")                                                  \
    X(P, LANDING, PROGRESS, LANDING, NOTE, "")                                                     \
    X(P, LANDING, SENT, LANDING, NOTE, "")                                                         \
    X(P, LANDING, ASK_LOST, STOPPING, ABANDON, "")                                                 \
    X(P, LANDING, LANDED, DONE, COMMIT, "")                                                        \
    X(P, LANDING, FAILED, STOPPING, CLOSE_ASK, "")                                                 \
    X(P, LANDING, QUIESCED_MORE, PAIRING, PAIR, "")                                                \
    X(P, LANDING, QUIESCED_LAST, DONE, FALL_BACK, "")                                              \
    X(P, LANDING, QUARANTINED, DONE, FALL_BACK_QUARANTINE, "")                                     \
    X(P, LANDING, CANCEL, CANCELING, ABANDON, "")                                                  \
    X(P, LANDING, TIMEOUT, STOPPING, ABANDON, "")                                                  \
    X(P, STOPPING, RESERVED_REMOTE, STOPPING, BUG, "")                                             \
    X(P, STOPPING, RESERVED_LOCAL, STOPPING, BUG, "")                                              \
    X(P, STOPPING, ENGINE_ENDED, STOPPING, BUG, "")                                                \
    X(P, STOPPING, PAIR_UP, STOPPING, BUG, "")                                                     \
    X(P, STOPPING, PAIR_FAILED_MORE, STOPPING, BUG, "")                                            \
    X(P, STOPPING, PAIR_FAILED_LAST, STOPPING, BUG, "")                                            \
    X(P, STOPPING, ACCEPTED, STOPPING, IGNORE, "")                                                 \
    X(P, STOPPING, REFUSED, STOPPING, IGNORE, "")                                                  \
    X(P, STOPPING, PROGRESS, STOPPING, IGNORE, "")                                                 \
    X(P, STOPPING, SENT, STOPPING, IGNORE, "")                                                     \
    X(P, STOPPING, ASK_LOST, STOPPING, IGNORE, "")                                                 \
    X(P, STOPPING, LANDED, DONE, COMMIT,                                                           \
      "the last chunk was faster than the stop: it is all here")                                   \
    X(P, STOPPING, FAILED, STOPPING, IGNORE, "")                                                   \
    X(P, STOPPING, QUIESCED_MORE, PAIRING, PAIR, "")                                               \
    X(P, STOPPING, QUIESCED_LAST, DONE, FALL_BACK, "")                                             \
    X(P, STOPPING, QUARANTINED, DONE, FALL_BACK_QUARANTINE, "")                                    \
    X(P, STOPPING, CANCEL, CANCELING, MARK, "")                                                    \
    X(P, STOPPING, TIMEOUT, STOPPING, BUG, "bounded by the transfer's deadlines")                  \
    X(P, CANCELING, RESERVED_REMOTE, CANCELING, BUG, "")                                           \
    X(P, CANCELING, RESERVED_LOCAL, CANCELING, BUG, "")                                            \
    X(P, CANCELING, ENGINE_ENDED, CANCELING, BUG, "")                                              \
    X(P, CANCELING, PAIR_UP, CANCELING, BUG, "")                                                   \
    X(P, CANCELING, PAIR_FAILED_MORE, CANCELING, BUG, "")                                          \
    X(P, CANCELING, PAIR_FAILED_LAST, CANCELING, BUG, "")                                          \
    X(P, CANCELING, ACCEPTED, CANCELING, IGNORE, "")                                               \
    X(P, CANCELING, REFUSED, CANCELING, IGNORE, "")                                                \
    X(P, CANCELING, PROGRESS, CANCELING, IGNORE, "")                                               \
    X(P, CANCELING, SENT, CANCELING, IGNORE, "")                                                   \
    X(P, CANCELING, ASK_LOST, CANCELING, IGNORE, "")                                               \
    X(P, CANCELING, LANDED, DONE, RELEASE, "too late to be wanted")                                \
    X(P, CANCELING, FAILED, CANCELING, IGNORE, "")                                                 \
    X(P, CANCELING, QUIESCED_MORE, DONE, RELEASE, "")                                              \
    X(P, CANCELING, QUIESCED_LAST, DONE, RELEASE, "")                                              \
    X(P, CANCELING, QUARANTINED, DONE, RELEASE_QUARANTINE, "")                                     \
    X(P, CANCELING, CANCEL, CANCELING, IGNORE, "")                                                 \
    X(P, CANCELING, TIMEOUT, CANCELING, BUG, "bounded by the transfer's deadlines")                \
    X(P, DONE, RESERVED_REMOTE, DONE, IGNORE, "the reservation crossed the end")                   \
    X(P, DONE, RESERVED_LOCAL, DONE, IGNORE, "the reservation crossed the end")                    \
    X(P, DONE, ENGINE_ENDED, DONE, IGNORE, "")                                                     \
    X(P, DONE, PAIR_UP, DONE, BUG, "")                                                             \
    X(P, DONE, PAIR_FAILED_MORE, DONE, BUG, "")                                                    \
    X(P, DONE, PAIR_FAILED_LAST, DONE, BUG, "")                                                    \
    X(P, DONE, ACCEPTED, DONE, IGNORE, "")                                                         \
    X(P, DONE, REFUSED, DONE, IGNORE, "")                                                          \
    X(P, DONE, PROGRESS, DONE, IGNORE, "")                                                         \
    X(P, DONE, SENT, DONE, IGNORE, "")                                                             \
    X(P, DONE, ASK_LOST, DONE, IGNORE, "")                                                         \
    X(P, DONE, LANDED, DONE, BUG, "")                                                              \
    X(P, DONE, FAILED, DONE, BUG, "")                                                              \
    X(P, DONE, QUIESCED_MORE, DONE, BUG, "")                                                       \
    X(P, DONE, QUIESCED_LAST, DONE, BUG, "")                                                       \
    X(P, DONE, QUARANTINED, DONE, BUG, "")                                                         \
    X(P, DONE, CANCEL, DONE, IGNORE, "")                                                           \
    X(P, DONE, TIMEOUT, DONE, BUG, "")

TD_FSM_DECLARE(import, IMPORT);

#endif
