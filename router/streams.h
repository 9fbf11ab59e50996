/*
 * streams.h: the router core's links as Generate streams over RPC.
 *
 * One stream per link, on a channel of its own. The core numbers its links; streams are found by that
 * number. What is sent is pulled, one message at a time, whenever a stream can take one: so what is
 * urgent overtakes what waits, and a slow worker costs no memory here. Everything runs on the loop
 * thread; no callback runs from inside a call of this header.
 */
#ifndef TANDEM_ROUTER_STREAMS_H
#define TANDEM_ROUTER_STREAMS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "proto/tandem.pb-c.h"

struct router_streams;

struct router_streams_config {
    struct net_loop *loop;
    struct rpc *rpc;
    size_t streams_max;
    void *ctx;
    /* The stream is there: messages are pulled from now on. */
    void (*on_open)(void *ctx, uint64_t link);
    void (*on_message)(void *ctx, uint64_t link, const Td__GenerateOut *message);
    /* The stream ended, or could not be opened. The number is free again. */
    void (*on_closed)(void *ctx, uint64_t link, td_status_t status);
    /* The next message for the link, or NULL; borrowed until the next call. */
    const Td__GenerateIn *(*next)(void *ctx, uint64_t link);
};

td_status_t router_streams_open(const struct router_streams_config *config,
                                struct router_streams **streams_out) TD_MUST_USE;
/* Breaks off what is left; nobody is called. NULL is allowed. */
void router_streams_close(struct router_streams *streams);

/* Opens a stream to a worker: on_open or on_closed follows. */
void router_stream_open(struct router_streams *streams, uint64_t link, const char *target);
/* Breaks the stream off; nothing follows. */
void router_stream_close(struct router_streams *streams, uint64_t link);
/* There is something to pull, at the end of the turn. */
void router_stream_ready(struct router_streams *streams, uint64_t link);

#endif
