/*
 * env.h: the world as the router core sees it. Calls return at once and do not call back into the core,
 * except that `tokens` may stop or abandon the journey that it is called for.
 *
 * Production (router/runtime.c) wires these to RPC channels and to the front; the simulator to its event
 * queue. Messages are borrowed for the call.
 */
#ifndef TANDEM_ROUTER_ENV_H
#define TANDEM_ROUTER_ENV_H

#include <stddef.h>
#include <stdint.h>

#include "front/result.h"
#include "proto/tandem.pb-c.h"

struct router_env {
    void *impl;

    /* Unpredictable bytes, for ids and seeds. */
    void (*random)(void *impl, void *out, size_t length);

    /* Asks a scheduler for a place; the answer comes to router_core_on_placed with the same number,
     * exactly once unless place_cancel was called. */
    void (*place)(void *impl, uint64_t number, const Td__PlaceRequest *request,
                  uint32_t deadline_ms);
    void (*place_cancel)(void *impl, uint64_t number);

    /* Opens a Generate stream to a worker: router_core_on_link_open or _closed follows. After link_close
     * neither does. */
    void (*link_open)(void *impl, uint64_t link, const char *target);
    void (*link_close)(void *impl, uint64_t link);
    /* Something waits for the link: pull it with router_link_next when a message can be sent. */
    void (*link_ready)(void *impl, uint64_t link);

    /* To the client's side. context is what router_journey_start was given. end comes exactly once,
     * last, unless the journey was abandoned. */
    void (*tokens)(void *impl, void *context, const uint32_t *tokens, uint32_t count);
    void (*end)(void *impl, void *context, const struct front_result *result);
};

#endif
