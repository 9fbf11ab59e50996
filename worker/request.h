/*
 * request.h: one request on this worker, and its state table.
 *
 * A request is the worker's side of a router's journey (or of a local client's exchange). It collects
 * the prompt's frames, is submitted to the engine, keeps all output tokens by index so that a slow
 * or broken link costs this request only, and ends when the router acknowledged its end.
 */
#ifndef TANDEM_WORKER_REQUEST_H
#define TANDEM_WORKER_REQUEST_H

#include "lib/base/fsm.h"

#define REQUEST_STATES(X, P)                                                                \
    X(P, COLLECTING, collect_ms, "token frames are arriving")                               \
    X(P, RUNNING, request_ms, "in the engine, with a consumer")                             \
    X(P, DETACHED, grace_ms, "in the engine; its link broke and may come back")             \
    X(P, CANCELING, transfer, "canceled; the engine has not given its blocks back yet")     \
    X(P, ENDED, ended_ms, "finished; output is kept until the router acknowledges the end") \
    X(P, GONE, none, "freed")

#define REQUEST_EVENTS(X, P)                                                 \
    X(P, COMPLETE, "all tokens are here")                                    \
    X(P, REFUSE, "a check failed, or there is no capacity")                  \
    X(P, LINK_LOST, "the link of its router broke")                          \
    X(P, ATTACH, "the router took it up again on a new link")                \
    X(P, CANCEL, "the router or the local client does not want it any more") \
    X(P, FINISHED, "the engine is done with it")                             \
    X(P, ACKNOWLEDGED, "the consumer has seen the end")                      \
    X(P, TIMEOUT, "the state's deadline passed")

#define REQUEST_ACTIONS(X, P)                                                          \
    X(P, SUBMIT, "hand the sequence to the engine, with an import if it is worth one") \
    X(P, REJECT, "tell the router that it is refused, and free")                       \
    X(P, DISCARD, "free; the engine never saw it")                                     \
    X(P, DETACH, "forget the link and start the grace time")                           \
    X(P, UNLINK, "forget the link")                                                    \
    X(P, RELINK, "send from the router's next index on the new link")                  \
    X(P, CANCEL, "cancel the sequence and its import")                                 \
    X(P, EXPIRE, "cancel, and report that the deadline passed")                        \
    X(P, END, "report the end to the consumer")                                        \
    X(P, FREE, "free")

#define REQUEST_CELLS(X, P)                                                                     \
    X(P, COLLECTING, COMPLETE, RUNNING, SUBMIT, "")                                             \
    X(P, COLLECTING, REFUSE, GONE, REJECT, "")                                                  \
    X(P, COLLECTING, LINK_LOST, GONE, DISCARD,                                                  \
      "frames cannot go on elsewhere; a router starts anew")                                    \
    X(P, COLLECTING, ATTACH, COLLECTING, IGNORE, "nothing to send yet")                         \
    X(P, COLLECTING, CANCEL, GONE, DISCARD, "")                                                 \
    X(P, COLLECTING, FINISHED, COLLECTING, BUG, "")                                             \
    X(P, COLLECTING, ACKNOWLEDGED, COLLECTING, IGNORE, "a router cannot end what has not run")  \
    X(P, COLLECTING, TIMEOUT, GONE, REJECT, "")                                                 \
    X(P, RUNNING, COMPLETE, RUNNING, BUG, "")                                                   \
    X(P, RUNNING, REFUSE, RUNNING, BUG, "")                                                     \
    X(P, RUNNING, LINK_LOST, DETACHED, DETACH, "")                                              \
    X(P, RUNNING, ATTACH, RUNNING, RELINK, "the old link is not known to be broken yet")        \
    X(P, RUNNING, CANCEL, CANCELING, CANCEL, "")                                                \
    X(P, RUNNING, FINISHED, ENDED, END, "")                                                     \
    X(P, RUNNING, ACKNOWLEDGED, RUNNING, IGNORE, "a router cannot end what still runs")         \
    X(P, RUNNING, TIMEOUT, CANCELING, EXPIRE, "")                                               \
    X(P, DETACHED, COMPLETE, DETACHED, BUG, "")                                                 \
    X(P, DETACHED, REFUSE, DETACHED, BUG, "")                                                   \
    X(P, DETACHED, LINK_LOST, DETACHED, BUG, "")                                                \
    X(P, DETACHED, ATTACH, RUNNING, RELINK, "")                                                 \
    X(P, DETACHED, CANCEL, CANCELING, CANCEL, "")                                               \
    X(P, DETACHED, FINISHED, ENDED, END, "the router may still come for the output")            \
    X(P, DETACHED, ACKNOWLEDGED, DETACHED, IGNORE, "")                                          \
    X(P, DETACHED, TIMEOUT, CANCELING, CANCEL, "the router did not come back in time")          \
    X(P, CANCELING, COMPLETE, CANCELING, BUG, "")                                               \
    X(P, CANCELING, REFUSE, CANCELING, BUG, "")                                                 \
    X(P, CANCELING, LINK_LOST, CANCELING, UNLINK, "")                                           \
    X(P, CANCELING, ATTACH, CANCELING, RELINK, "to learn the end")                              \
    X(P, CANCELING, CANCEL, CANCELING, IGNORE, "")                                              \
    X(P, CANCELING, FINISHED, ENDED, END, "")                                                   \
    X(P, CANCELING, ACKNOWLEDGED, CANCELING, IGNORE, "")                                        \
    X(P, CANCELING, TIMEOUT, CANCELING, BUG, "bounded by the deadlines of engine and transfer") \
    X(P, ENDED, COMPLETE, ENDED, BUG, "")                                                       \
    X(P, ENDED, REFUSE, ENDED, BUG, "")                                                         \
    X(P, ENDED, LINK_LOST, ENDED, UNLINK, "")                                                   \
    X(P, ENDED, ATTACH, ENDED, RELINK, "")                                                      \
    X(P, ENDED, CANCEL, ENDED, IGNORE, "the end is on its way, and will be acknowledged")       \
    X(P, ENDED, FINISHED, ENDED, BUG, "")                                                       \
    X(P, ENDED, ACKNOWLEDGED, GONE, FREE, "")                                                   \
    X(P, ENDED, TIMEOUT, GONE, FREE, "")                                                        \
    X(P, GONE, COMPLETE, GONE, BUG, "")                                                         \
    X(P, GONE, REFUSE, GONE, BUG, "")                                                           \
    X(P, GONE, LINK_LOST, GONE, BUG, "")                                                        \
    X(P, GONE, ATTACH, GONE, BUG, "")                                                           \
    X(P, GONE, CANCEL, GONE, BUG, "")                                                           \
    X(P, GONE, FINISHED, GONE, BUG, "")                                                         \
    X(P, GONE, ACKNOWLEDGED, GONE, BUG, "")                                                     \
    X(P, GONE, TIMEOUT, GONE, BUG, "")

TD_FSM_DECLARE(request, REQUEST);

#endif
