/*
 * schedulers.h: the router's streams to the schedulers: the fleet comes in, placements are asked.
 *
 * A Fleet stream is held to each named scheduler and taken up again with back-off; fleet.h makes
 * one picture of them. Place goes to the first connected scheduler in the order in which they were
 * named, and to the next one if that fails or takes half of the time there is. One that failed a Place
 * is passed over for a second. Everything runs on the loop thread.
 */
#ifndef TANDEM_ROUTER_SCHEDULERS_H
#define TANDEM_ROUTER_SCHEDULERS_H

#include <stddef.h>
#include <stdint.h>

#include "lib/net/loop.h"
#include "lib/net/rpc.h"
#include "proto/tandem.pb-c.h"
#include "router/fleet.h"

struct router_schedulers;

/* name, help. All rising; exported as tandem_router_<name>_total. */
#define ROUTER_SCHEDULERS_COUNTERS_MAP(X)                                \
    X(fleet_pictures, "Pictures of the fleet taken from schedulers.")    \
    X(schedulers_lost, "Streams to schedulers that broke.")              \
    X(places_asked, "Calls to schedulers for a place.")                  \
    X(places_failed, "Of those, calls that failed or were not in time.") \
    X(scheduler_messages_invalid, "Messages of schedulers that cannot be read.")

struct router_schedulers_counters {
#define X(name, text) uint64_t name;
    ROUTER_SCHEDULERS_COUNTERS_MAP(X)
#undef X
};

struct router_schedulers_config {
    struct net_loop *loop;
    struct rpc *rpc;
    const char *const *targets; /* at most ROUTER_SCHEDULERS_MAX */
    size_t target_count;
    uint64_t router_epoch;
    size_t places_max; /* asked for at one time */
    void *ctx;
    /* The whole picture, borrowed. */
    void (*on_fleet)(void *ctx, const Td__FleetUpdate *update);
    /* The answer to a place, exactly once unless canceled, never from inside the asking; NULL: nobody
     * could be asked. */
    void (*on_placed)(void *ctx, uint64_t number, const Td__PlaceReply *reply);
};

td_status_t router_schedulers_open(const struct router_schedulers_config *config,
                                   struct router_schedulers **schedulers_out,
                                   struct td_error *error) TD_MUST_USE;
/* Ends all streams and calls; nobody is called. NULL is allowed. */
void router_schedulers_close(struct router_schedulers *schedulers);

void router_schedulers_place(struct router_schedulers *schedulers, uint64_t number,
                             const Td__PlaceRequest *request, uint32_t deadline_ms);
void router_schedulers_place_cancel(struct router_schedulers *schedulers, uint64_t number);

/* How many have said what the fleet is and are still connected. */
uint32_t router_schedulers_connected(const struct router_schedulers *schedulers);
const struct router_schedulers_counters *router_schedulers_counters(
    const struct router_schedulers *schedulers);

#endif
