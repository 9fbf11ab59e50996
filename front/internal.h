/*
 * internal.h: what the files of the front share. Inside the room only.
 *
 *   front.c     opening, draining, closing; the routes that are answered at once
 *   exchange.c  one client request from its body to its end, as a state machine
 *   prepare.c   the jobs on the thread pool that turn requests into token ids
 *   encode.c    what such a job computes
 *   sampling.c  what of a request's sampling is the client's word, and what a default
 *   answer.c    token ids to text to the bytes of the answer
 *   respond.c   whole answers and errors over HTTP
 *   trace.c     the "tandem" object of an answer
 *   metrics.c   what is counted
 */
#ifndef TANDEM_FRONT_INTERNAL_H
#define TANDEM_FRONT_INTERNAL_H

#include "front/front.h"
#include "front/metrics.h"
#include "front/prepare.h"
#include "lib/base/list.h"
#include "lib/net/http_server.h"

#define FRONT_ROUTE_COUNT 8

struct front {
    struct front_config config;
    struct http_server *http;
    struct front_preparer preparer;
    struct front_metrics metrics;
    struct http_route routes[FRONT_ROUTE_COUNT];
    uint32_t exchange_count;
    bool draining;        /* nothing new is taken */
    bool server_draining; /* and nothing runs any more: connections close */
    bool drained;         /* and the last connection is closed */
    bool closing;
    struct net_defer idle; /* an exchange or a job ended: is draining or closing complete? */
    void (*on_closed)(void *context);
    void *closed_context;
};

/* Something ended that draining or closing may be waiting for. */
void front_check_idle(struct front *front);

#endif
