/*
 * runtime.h: a router in production: the router core between its RPC streams and the front.
 *
 * It carries everything to and from the core, which decides: streams to workers (streams.h), fleet and
 * placements of schedulers (schedulers.h), tokenizers (texts.h), timers, metrics. Loop thread.
 */
#ifndef TANDEM_ROUTER_RUNTIME_H
#define TANDEM_ROUTER_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>

#include "front/front.h"
#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "router/core.h"

struct router_runtime;

/* Who gets the tokens of requests: the functions of the front. */
struct router_client {
    void (*tokens)(struct front_exchange *exchange, const uint32_t *tokens, uint32_t count);
    void (*end)(struct front_exchange *exchange, const struct front_result *result);
};

struct router_runtime_config {
    struct net_loop *loop;
    struct rpc *rpc;
    const char *const *schedulers; /* targets; the texts live as long as the runtime */
    size_t scheduler_count;
    struct router_limits limits;
    struct router_client client;
};

/* Begins to look for schedulers. On failure nothing is left open. */
td_status_t router_runtime_open(const struct router_runtime_config *config,
                                struct router_runtime **runtime_out,
                                struct td_error *error) TD_MUST_USE;

/* What the front is opened with. Valid until the runtime is closed. */
struct front_backend router_runtime_backend(struct router_runtime *runtime);

/* Whether no request is left, those that a worker is still to be told to cancel included. */
bool router_runtime_idle(const struct router_runtime *runtime);

/* Ends all requests with an error; cancels go out to their workers. */
void router_runtime_fail_all(struct router_runtime *runtime, const char *reason);

/* After the front. Nobody is called any more. NULL is allowed. */
void router_runtime_close(struct router_runtime *runtime);

#endif
