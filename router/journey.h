/*
 * journey.h: one request's way through a router, and its state table.
 *
 * A journey begins when the front hands over token ids and ends exactly once: with the answer's end, an
 * error, or the client's leaving. It waits for capacity, asks a scheduler for a place, starts the
 * request on a worker and passes tokens on. Until the first token was passed on it may begin anew on
 * another worker, within a budget; after that it can only be taken up again where it runs.
 */
#ifndef TANDEM_ROUTER_JOURNEY_H
#define TANDEM_ROUTER_JOURNEY_H

#include "lib/base/fsm.h"

#define JOURNEY_STATES(X, P)                                                            \
    X(P, QUEUED, queue_ms, "waiting for capacity, or for a moment before the next try") \
    X(P, PLACING, place_ms, "a scheduler was asked for a place")                        \
    X(P, STARTING, request_ms, "handed to a worker; no token has been passed on")       \
    X(P, STREAMING, request_ms, "tokens are being passed on")                           \
    X(P, REATTACHING, grace_ms,                                                         \
      "the link broke after tokens were passed on; the worker may still have it")       \
    X(P, STOPPING, cancel_ms,                                                           \
      "the client has enough; waiting for the worker's account of the end")             \
    X(P, CANCELING, cancel_ms,                                                          \
      "the client has gone; waiting for the worker to confirm the cancel")              \
    X(P, DONE, none, "freed")

#define JOURNEY_EVENTS(X, P)                                                                   \
    X(P, ADMITTED, "there is capacity")                                                        \
    X(P, PLACED, "a worker was named, and there is a link to it")                              \
    X(P, UNPLACED, "no worker can take it at present")                                         \
    X(P, UNPLACEABLE, "no worker can ever take it, or the tries are used up")                  \
    X(P, TOKENS, "the worker sent tokens")                                                     \
    X(P, FINISHED, "the worker reported the end")                                              \
    X(P, REFUSED_AGAIN,                                                                        \
      "the worker refused, or broke, before a token was passed on; there are tries left")      \
    X(P, REFUSED_LAST, "the same, and no try is left")                                         \
    X(P, LINK_LOST_AGAIN, "the link broke before a token was passed on; there are tries left") \
    X(P, LINK_LOST_LAST, "the same, and no try is left")                                       \
    X(P, LINK_LOST, "the link broke after tokens were passed on")                              \
    X(P, LINK_UP, "the link to the worker stands again")                                       \
    X(P, WORKER_GONE, "the worker is another incarnation now, or does not know the request")   \
    X(P, STOP, "the client has enough: a stop string was found")                               \
    X(P, CANCEL, "the client has gone")                                                        \
    X(P, TIMEOUT, "the state's deadline passed")

#define JOURNEY_ACTIONS(X, P)                                                  \
    X(P, PLACE, "ask a scheduler")                                             \
    X(P, WAIT, "back into the queue for a moment")                             \
    X(P, START, "hand it to the worker")                                       \
    X(P, PASS, "pass the tokens on")                                           \
    X(P, END, "report the end to the front, and acknowledge it to the worker") \
    X(P, FAIL, "report an error to the front")                                 \
    X(P, RETRY, "leave this worker out, and queue again in front")             \
    X(P, WATCH, "wait for the link to come back")                              \
    X(P, ATTACH, "ask the worker to go on from the next index")                \
    X(P, CANCEL, "tell the worker")                                            \
    X(P, CANCEL_FAIL, "tell the worker, and report an error to the front")     \
    X(P, DROP, "nothing was started: free at once")                            \
    X(P, DETACH, "the client is gone as well: nobody is to be told")           \
    X(P, SETTLE, "report the end with what is known")                          \
    X(P, FREE, "free")

#define JOURNEY_CELLS(X, P)                                                            \
    X(P, QUEUED, ADMITTED, PLACING, PLACE, "")                                         \
    X(P, QUEUED, PLACED, QUEUED, BUG, "")                                              \
    X(P, QUEUED, UNPLACED, QUEUED, BUG, "")                                            \
    X(P, QUEUED, UNPLACEABLE, QUEUED, BUG, "")                                         \
    X(P, QUEUED, TOKENS, QUEUED, BUG, "")                                              \
    X(P, QUEUED, FINISHED, QUEUED, BUG, "")                                            \
    X(P, QUEUED, REFUSED_AGAIN, QUEUED, BUG, "")                                       \
    X(P, QUEUED, REFUSED_LAST, QUEUED, BUG, "")                                        \
    X(P, QUEUED, LINK_LOST_AGAIN, QUEUED, BUG, "")                                     \
    X(P, QUEUED, LINK_LOST_LAST, QUEUED, BUG, "")                                      \
    X(P, QUEUED, LINK_LOST, QUEUED, BUG, "")                                           \
    X(P, QUEUED, LINK_UP, QUEUED, BUG, "")                                             \
    X(P, QUEUED, WORKER_GONE, QUEUED, BUG, "")                                         \
    X(P, QUEUED, STOP, QUEUED, BUG, "")                                                \
    X(P, QUEUED, CANCEL, DONE, DROP, "")                                               \
    X(P, QUEUED, TIMEOUT, DONE, FAIL, "")                                              \
    X(P, PLACING, ADMITTED, PLACING, BUG, "")                                          \
    X(P, PLACING, PLACED, STARTING, START, "")                                         \
    X(P, PLACING, UNPLACED, QUEUED, WAIT, "")                                          \
    X(P, PLACING, UNPLACEABLE, DONE, FAIL, "")                                         \
    X(P, PLACING, TOKENS, PLACING, BUG, "")                                            \
    X(P, PLACING, FINISHED, PLACING, BUG, "")                                          \
    X(P, PLACING, REFUSED_AGAIN, PLACING, BUG, "")                                     \
    X(P, PLACING, REFUSED_LAST, PLACING, BUG, "")                                      \
    X(P, PLACING, LINK_LOST_AGAIN, PLACING, BUG, "")                                   \
    X(P, PLACING, LINK_LOST_LAST, PLACING, BUG, "")                                    \
    X(P, PLACING, LINK_LOST, PLACING, BUG, "")                                         \
    X(P, PLACING, LINK_UP, PLACING, BUG, "")                                           \
    X(P, PLACING, WORKER_GONE, PLACING, BUG, "")                                       \
    X(P, PLACING, STOP, PLACING, BUG, "")                                              \
    X(P, PLACING, CANCEL, DONE, DROP, "")                                              \
    X(P, PLACING, TIMEOUT, QUEUED, WAIT,                                               \
      "the next try may find another scheduler, or none and choose by itself")         \
    X(P, STARTING, ADMITTED, STARTING, BUG, "")                                        \
    X(P, STARTING, PLACED, STARTING, BUG, "")                                          \
    X(P, STARTING, UNPLACED, STARTING, BUG, "")                                        \
    X(P, STARTING, UNPLACEABLE, STARTING, BUG, "")                                     \
    X(P, STARTING, TOKENS, STREAMING, PASS, "")                                        \
    X(P, STARTING, FINISHED, DONE, END, "")                                            \
    X(P, STARTING, REFUSED_AGAIN, QUEUED, RETRY, "")                                   \
    X(P, STARTING, REFUSED_LAST, DONE, FAIL, "")                                       \
    X(P, STARTING, LINK_LOST_AGAIN, QUEUED, RETRY,                                     \
      "the worker cancels what it had when its grace time is over")                    \
    X(P, STARTING, LINK_LOST_LAST, DONE, FAIL, "")                                     \
    X(P, STARTING, LINK_LOST, STARTING, BUG, "")                                       \
    X(P, STARTING, LINK_UP, STARTING, IGNORE, "")                                      \
    X(P, STARTING, WORKER_GONE, STARTING, BUG, "its link was lost before")             \
    X(P, STARTING, STOP, STARTING, BUG, "")                                            \
    X(P, STARTING, CANCEL, CANCELING, CANCEL, "")                                      \
    X(P, STARTING, TIMEOUT, CANCELING, CANCEL_FAIL, "")                                \
    X(P, STREAMING, ADMITTED, STREAMING, BUG, "")                                      \
    X(P, STREAMING, PLACED, STREAMING, BUG, "")                                        \
    X(P, STREAMING, UNPLACED, STREAMING, BUG, "")                                      \
    X(P, STREAMING, UNPLACEABLE, STREAMING, BUG, "")                                   \
    X(P, STREAMING, TOKENS, STREAMING, PASS, "")                                       \
    X(P, STREAMING, FINISHED, DONE, END, "")                                           \
    X(P, STREAMING, REFUSED_AGAIN, STREAMING, BUG, "")                                 \
    X(P, STREAMING, REFUSED_LAST, STREAMING, BUG, "")                                  \
    X(P, STREAMING, LINK_LOST_AGAIN, STREAMING, BUG, "")                               \
    X(P, STREAMING, LINK_LOST_LAST, STREAMING, BUG, "")                                \
    X(P, STREAMING, LINK_LOST, REATTACHING, WATCH, "")                                 \
    X(P, STREAMING, LINK_UP, STREAMING, IGNORE, "")                                    \
    X(P, STREAMING, WORKER_GONE, STREAMING, BUG, "its link was lost before")           \
    X(P, STREAMING, STOP, STOPPING, CANCEL, "")                                        \
    X(P, STREAMING, CANCEL, CANCELING, CANCEL, "")                                     \
    X(P, STREAMING, TIMEOUT, CANCELING, CANCEL_FAIL, "")                               \
    X(P, REATTACHING, ADMITTED, REATTACHING, BUG, "")                                  \
    X(P, REATTACHING, PLACED, REATTACHING, BUG, "")                                    \
    X(P, REATTACHING, UNPLACED, REATTACHING, BUG, "")                                  \
    X(P, REATTACHING, UNPLACEABLE, REATTACHING, BUG, "")                               \
    X(P, REATTACHING, TOKENS, REATTACHING, IGNORE, "")                                 \
    X(P, REATTACHING, FINISHED, REATTACHING, IGNORE, "")                               \
    X(P, REATTACHING, REFUSED_AGAIN, REATTACHING, BUG, "")                             \
    X(P, REATTACHING, REFUSED_LAST, REATTACHING, BUG, "")                              \
    X(P, REATTACHING, LINK_LOST_AGAIN, REATTACHING, BUG, "")                           \
    X(P, REATTACHING, LINK_LOST_LAST, REATTACHING, BUG, "")                            \
    X(P, REATTACHING, LINK_LOST, REATTACHING, IGNORE, "it came up and broke again")    \
    X(P, REATTACHING, LINK_UP, STREAMING, ATTACH, "")                                  \
    X(P, REATTACHING, WORKER_GONE, DONE, FAIL, "")                                     \
    X(P, REATTACHING, STOP, DONE, SETTLE, "the grace time cancels it at the worker")   \
    X(P, REATTACHING, CANCEL, DONE, DETACH, "the grace time cancels it at the worker") \
    X(P, REATTACHING, TIMEOUT, DONE, FAIL, "")                                         \
    X(P, STOPPING, ADMITTED, STOPPING, BUG, "")                                        \
    X(P, STOPPING, PLACED, STOPPING, BUG, "")                                          \
    X(P, STOPPING, UNPLACED, STOPPING, BUG, "")                                        \
    X(P, STOPPING, UNPLACEABLE, STOPPING, BUG, "")                                     \
    X(P, STOPPING, TOKENS, STOPPING, IGNORE,                                           \
      "sampled before the cancel arrived; discarded and not billed")                   \
    X(P, STOPPING, FINISHED, DONE, SETTLE, "")                                         \
    X(P, STOPPING, REFUSED_AGAIN, STOPPING, BUG, "")                                   \
    X(P, STOPPING, REFUSED_LAST, STOPPING, BUG, "")                                    \
    X(P, STOPPING, LINK_LOST_AGAIN, STOPPING, BUG, "")                                 \
    X(P, STOPPING, LINK_LOST_LAST, STOPPING, BUG, "")                                  \
    X(P, STOPPING, LINK_LOST, DONE, SETTLE, "")                                        \
    X(P, STOPPING, LINK_UP, STOPPING, IGNORE, "")                                      \
    X(P, STOPPING, WORKER_GONE, STOPPING, BUG, "its link was lost before")             \
    X(P, STOPPING, STOP, STOPPING, IGNORE, "")                                         \
    X(P, STOPPING, CANCEL, CANCELING, DETACH, "")                                      \
    X(P, STOPPING, TIMEOUT, DONE, SETTLE, "")                                          \
    X(P, CANCELING, ADMITTED, CANCELING, BUG, "")                                      \
    X(P, CANCELING, PLACED, CANCELING, BUG, "")                                        \
    X(P, CANCELING, UNPLACED, CANCELING, BUG, "")                                      \
    X(P, CANCELING, UNPLACEABLE, CANCELING, BUG, "")                                   \
    X(P, CANCELING, TOKENS, CANCELING, IGNORE, "")                                     \
    X(P, CANCELING, FINISHED, DONE, FREE, "")                                          \
    X(P, CANCELING, REFUSED_AGAIN, CANCELING, BUG, "")                                 \
    X(P, CANCELING, REFUSED_LAST, CANCELING, BUG, "")                                  \
    X(P, CANCELING, LINK_LOST_AGAIN, CANCELING, BUG, "")                               \
    X(P, CANCELING, LINK_LOST_LAST, CANCELING, BUG, "")                                \
    X(P, CANCELING, LINK_LOST, DONE, FREE, "the grace time cancels it at the worker")  \
    X(P, CANCELING, LINK_UP, CANCELING, IGNORE, "")                                    \
    X(P, CANCELING, WORKER_GONE, CANCELING, BUG, "its link was lost before")           \
    X(P, CANCELING, STOP, CANCELING, IGNORE, "")                                       \
    X(P, CANCELING, CANCEL, CANCELING, IGNORE, "")                                     \
    X(P, CANCELING, TIMEOUT, DONE, FREE, "the worker's own deadlines end it")          \
    X(P, DONE, ADMITTED, DONE, BUG, "")                                                \
    X(P, DONE, PLACED, DONE, BUG, "")                                                  \
    X(P, DONE, UNPLACED, DONE, BUG, "")                                                \
    X(P, DONE, UNPLACEABLE, DONE, BUG, "")                                             \
    X(P, DONE, TOKENS, DONE, BUG, "")                                                  \
    X(P, DONE, FINISHED, DONE, BUG, "")                                                \
    X(P, DONE, REFUSED_AGAIN, DONE, BUG, "")                                           \
    X(P, DONE, REFUSED_LAST, DONE, BUG, "")                                            \
    X(P, DONE, LINK_LOST_AGAIN, DONE, BUG, "")                                         \
    X(P, DONE, LINK_LOST_LAST, DONE, BUG, "")                                          \
    X(P, DONE, LINK_LOST, DONE, BUG, "")                                               \
    X(P, DONE, LINK_UP, DONE, BUG, "")                                                 \
    X(P, DONE, WORKER_GONE, DONE, BUG, "")                                             \
    X(P, DONE, STOP, DONE, BUG, "")                                                    \
    X(P, DONE, CANCEL, DONE, BUG, "")                                                  \
    X(P, DONE, TIMEOUT, DONE, BUG, "")

TD_FSM_DECLARE(journey, JOURNEY);

#endif
