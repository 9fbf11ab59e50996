/*
 * world.h: a scheduler core with streams that a test holds the other end of.
 */
#ifndef TANDEM_TESTS_SCHEDULER_WORLD_H
#define TANDEM_TESTS_SCHEDULER_WORLD_H

#include "lib/base/time.h"
#include "scheduler/core.h"
#include "tests/support/support.h"

#define MS(n) ((uint64_t)(n)*TD_NS_PER_MS)

/* The worker's end of an Announce stream. */
struct peer {
    struct sched_link *link; /* NULL once the stream has ended */
    uint32_t readies;        /* calls of link_ready */
    uint32_t welcomes;       /* messages taken */
    uint32_t asks;
    td_status_t status; /* of a close by the core */
    char reason[256];
};

/* The router's end of a Fleet stream. */
struct viewer {
    struct sched_watcher *watcher;
    uint32_t readies;
};

struct world {
    struct sched_config config;
    struct sched_core *core;
    uint64_t now_ns;
};

/* Opens a core with the defaults (or with what the caller put into config before). */
void world_init(struct world *world);
void world_open(struct world *world);
void world_close(struct world *world);

/* Lets time pass, timer by timer. */
void world_pass(struct world *world, uint64_t ns);

/* A sound registration; its pointers lead to static storage until the next call. */
Td__Registration *world_registration(uint64_t epoch, Td__Role role, const char *target);

void peer_open(struct world *world, struct peer *peer);
void peer_register(struct world *world, struct peer *peer, Td__Registration *registration);
void peer_report(struct world *world, struct peer *peer, const Td__LoadReport *report);
void peer_ready(struct world *world, struct peer *peer, bool ready);
void peer_drain(struct world *world, struct peer *peer);
void peer_events(struct world *world, struct peer *peer, uint64_t sequence, uint64_t key);
void peer_snapshot(struct world *world, struct peer *peer, uint64_t sequence, uint64_t first_key,
                   size_t count);
void peer_close(struct world *world, struct peer *peer);

/* Takes all messages that wait for the stream. */
void peer_take(struct peer *peer);

/* Opens, registers, answers the first request with an empty snapshot, reports ready. */
void peer_join(struct world *world, struct peer *peer, uint64_t epoch, Td__Role role,
               const char *target);

/* The state of the worker with this epoch; SCHED_WORKER_GONE if there is none. */
uint8_t world_state(const struct world *world, uint64_t epoch);

void viewer_open(struct world *world, struct viewer *viewer);
const Td__FleetUpdate *viewer_take(struct viewer *viewer);

/* The block key of a number, never zero. */
struct td_u128 world_key(uint64_t number);

/* Places a prompt of `tokens` whose first blocks have the keys first_key, first_key + 1, ... */
void world_place(struct world *world, uint32_t tokens, uint64_t first_key, size_t keys,
                 struct sched_answer *answer_out);

/* ---- how a test begins and ends ---- */

#define DECODE  TD__ROLE__ROLE_DECODE
#define PREFILL TD__ROLE__ROLE_PREFILL

#define WORLD           \
    struct world world; \
    (void)state;        \
    world_init(&world); \
    world_open(&world)
#define END world_close(&world)

#endif
