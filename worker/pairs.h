/*
 * pairs.h: handshakes with peers: who may exchange KV with us, over what; and the state table.
 *
 * A pair is our side of a handshake that we began, found by the peer's RPC target. The other side of it
 * is only an entry in the set of peers that the transfer core knows. Identities that differ refuse the
 * pair with the name of the field; a refused or failed pair is left alone for a while. A transport that does not
 * connect is left out when the same pair shakes hands again.
 */
#ifndef TANDEM_WORKER_PAIRS_H
#define TANDEM_WORKER_PAIRS_H

#include "lib/base/fsm.h"

#define PAIR_STATES(X, P)                                                         \
    X(P, CALLING, pair_ms, "the handshake call is under way")                     \
    X(P, JOINING, pair_ms, "the transport is connecting")                         \
    X(P, UP, keepalive, "asks may be sent")                                       \
    X(P, FAILED, pair_retry_ms, "refused or unreachable; left alone for a while") \
    X(P, GONE, none, "freed")

#define PAIR_EVENTS(X, P)                                                  \
    X(P, REPLIED, "the peer agreed")                                       \
    X(P, REFUSED, "the peer refused, or its identity differs from ours")   \
    X(P, CALL_FAILED, "the call failed")                                   \
    X(P, PEER_UP, "the transport is connected")                            \
    X(P, PEER_LOST, "the transport lost the peer")                         \
    X(P, PEER_LOST_MORE, "it did not connect, and there is another one")   \
    X(P, DROP, "the peer says that it does not know us: it was restarted") \
    X(P, TIMEOUT, "the state's deadline passed")

#define PAIR_ACTIONS(X, P)                                        \
    X(P, JOIN, "give the peer's address to the transport")        \
    X(P, RECALL, "shake hands again, for another transport")      \
    X(P, WAKE, "let the waiting imports ask")                     \
    X(P, FAIL, "let the waiting imports go elsewhere")            \
    X(P, LEAVE, "forget the peer in the transport, then as fail") \
    X(P, FREE, "free")                                            \
    X(P, LEAVE_FREE, "forget the peer in the transport, then free")

#define PAIR_CELLS(X, P)                                                         \
    X(P, CALLING, REPLIED, JOINING, JOIN, "")                                    \
    X(P, CALLING, REFUSED, FAILED, FAIL, "")                                     \
    X(P, CALLING, CALL_FAILED, FAILED, FAIL, "")                                 \
    X(P, CALLING, PEER_UP, CALLING, IGNORE, "of an earlier connection")          \
    X(P, CALLING, PEER_LOST, CALLING, IGNORE, "of an earlier connection")        \
    X(P, CALLING, PEER_LOST_MORE, CALLING, BUG, "")                              \
    X(P, CALLING, DROP, CALLING, IGNORE, "a new handshake is under way already") \
    X(P, CALLING, TIMEOUT, FAILED, FAIL, "")                                     \
    X(P, JOINING, REPLIED, JOINING, IGNORE, "")                                  \
    X(P, JOINING, REFUSED, JOINING, IGNORE, "")                                  \
    X(P, JOINING, CALL_FAILED, JOINING, IGNORE, "")                              \
    X(P, JOINING, PEER_UP, UP, WAKE, "")                                         \
    X(P, JOINING, PEER_LOST, FAILED, FAIL, "")                                   \
    X(P, JOINING, PEER_LOST_MORE, CALLING, RECALL, "")                           \
    X(P, JOINING, DROP, JOINING, IGNORE, "a new handshake is under way already") \
    X(P, JOINING, TIMEOUT, FAILED, LEAVE, "")                                    \
    X(P, UP, REPLIED, UP, IGNORE, "")                                            \
    X(P, UP, REFUSED, UP, IGNORE, "")                                            \
    X(P, UP, CALL_FAILED, UP, IGNORE, "")                                        \
    X(P, UP, PEER_UP, UP, IGNORE, "")                                            \
    X(P, UP, PEER_LOST, GONE, FREE, "the next import makes a new handshake")     \
    X(P, UP, PEER_LOST_MORE, UP, BUG, "")                                        \
    X(P, UP, DROP, GONE, LEAVE_FREE, "the next import makes a new handshake")    \
    X(P, UP, TIMEOUT, UP, BUG, "")                                               \
    X(P, FAILED, REPLIED, FAILED, IGNORE, "too late")                            \
    X(P, FAILED, REFUSED, FAILED, IGNORE, "")                                    \
    X(P, FAILED, CALL_FAILED, FAILED, IGNORE, "")                                \
    X(P, FAILED, PEER_UP, FAILED, IGNORE, "too late")                            \
    X(P, FAILED, PEER_LOST, FAILED, IGNORE, "")                                  \
    X(P, FAILED, PEER_LOST_MORE, FAILED, BUG, "")                                \
    X(P, FAILED, DROP, FAILED, IGNORE, "")                                       \
    X(P, FAILED, TIMEOUT, GONE, FREE, "it may be tried again")                   \
    X(P, GONE, REPLIED, GONE, BUG, "")                                           \
    X(P, GONE, REFUSED, GONE, BUG, "")                                           \
    X(P, GONE, CALL_FAILED, GONE, BUG, "")                                       \
    X(P, GONE, PEER_UP, GONE, BUG, "")                                           \
    X(P, GONE, PEER_LOST, GONE, BUG, "")                                         \
    X(P, GONE, PEER_LOST_MORE, GONE, BUG, "")                                    \
    X(P, GONE, DROP, GONE, BUG, "")                                              \
    X(P, GONE, TIMEOUT, GONE, BUG, "")

TD_FSM_DECLARE(pair, PAIR);

#endif
