/*
 * fleet.h: one picture of the fleet out of what several schedulers say.
 *
 * Every worker announces itself to every scheduler, so all pictures come to the same; but one that was
 * just started knows little yet, and one that is lost says nothing any more. The fleet is
 *
 *   - the union of what the connected schedulers say; while none is connected, of what they said last;
 *   - and, for ROUTER_FLEET_SETTLE_MS after a scheduler came back as another incarnation, also what it
 *     had said before: its workers are on their way to it.
 *
 * A worker that is ready for one scheduler is ready; one that drains for one of them drains. An older
 * incarnation of a worker (another epoch at the same target) is left out once a newer one is there.
 *
 * Pure; no clock. Bounded: ROUTER_WORKERS_MAX workers of each scheduler, and in all.
 */
#ifndef TANDEM_ROUTER_FLEET_H
#define TANDEM_ROUTER_FLEET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/arena.h"
#include "proto/tandem.pb-c.h"
#include "router/core.h"

#define ROUTER_SCHEDULERS_MAX  8
#define ROUTER_FLEET_SETTLE_MS 3000

/* A picture with the memory that it lies in; update is NULL if there is none. */
struct router_picture {
    Td__FleetUpdate *update;
    struct td_arena arena;
};

struct router_fleet_source {
    struct router_picture now;
    struct router_picture before; /* of the incarnation before, while the new one settles */
    uint64_t settled_ns;
    bool connected; /* has said something since it was last lost */
};

struct router_fleet {
    struct router_fleet_source sources[ROUTER_SCHEDULERS_MAX];
    size_t source_count;
    /* the merged picture */
    Td__FleetUpdate update;
    Td__FleetWorker workers[ROUTER_WORKERS_MAX];
    Td__FleetWorker *pointers[ROUTER_WORKERS_MAX];
};

void router_fleet_init(struct router_fleet *fleet, size_t source_count);
void router_fleet_fini(struct router_fleet *fleet);

/* A picture from a scheduler; its memory moves. */
void router_fleet_take(struct router_fleet *fleet, size_t source, struct router_picture *picture,
                       uint64_t now_ns);
/* The stream to a scheduler is lost. */
void router_fleet_lost(struct router_fleet *fleet, size_t source);

/* When the picture changes by itself, or TD_TIME_NEVER. */
uint64_t router_fleet_next(const struct router_fleet *fleet);
/* The whole picture, valid until the next call with this fleet. */
const Td__FleetUpdate *router_fleet_merge(struct router_fleet *fleet, uint64_t now_ns);

#endif
