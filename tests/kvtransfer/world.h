/*
 * world.h: transfer cores over the loop transport under a virtual clock, for tests.
 *
 * A world has nodes (a core with a pool, an epoch and a log of events each) and a queue of messages in
 * virtual time. What happens to a message on its way is drawn from a seeded generator.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_WORLD_H
#define TANDEM_TESTS_KVTRANSFER_WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/core.h"
#include "kvtransfer/loop.h"
#include "lib/base/random.h"
#include "lib/base/time.h"

#define WORLD_NODES_MAX    4
#define WORLD_MESSAGES_MAX 4096
#define WORLD_EVENTS_MAX   4096
#define WORLD_BLOCK_BYTES  256
#define WORLD_SLOTS        64

/* Chances in 1000, per message. */
struct world_faults {
    uint32_t drop;
    uint32_t duplicate;
    uint32_t corrupt;
    uint64_t delay_max_ns; /* uniform; 0: everything arrives in order at once */
};

struct world_node {
    struct world *world;
    struct kvt_core *core;
    struct kvt_transport *transport;
    uint64_t epoch;
    uint8_t *pool;
    struct kvt_event events[WORLD_EVENTS_MAX]; /* as emitted; arrays owned here */
    size_t event_count;
    void (*on_event)(struct world_node *node, struct kvt_event *event);
    void (*on_drain)(struct world_node *node); /* hands over what waits, by kvt_core_command */
    void *impl;                                /* of the test */
};

struct world_entry {
    uint64_t at_ns;
    uint64_t order;
    struct kvt_loop_message *message;
};

struct world {
    struct td_rng rng;
    uint64_t now_ns;
    uint64_t order;
    struct world_faults faults;
    struct kvt_loop *loop;
    struct kvt_limits limits;
    struct world_node nodes[WORLD_NODES_MAX];
    size_t node_count;
    struct world_entry queue[WORLD_MESSAGES_MAX];
    size_t queue_count;
    /* Called for each posted message before faults; true: the test has taken it. */
    bool (*intercept)(struct world *world, struct kvt_loop_message *message);
    void *impl;
};

/* limits: default ones, small windows and chunks. */
struct world *world_new(uint64_t seed, bool ignores_force);
void world_free(struct world *world);

/* Adds a node with a filled pool; epoch must be new. */
struct world_node *world_node_add(struct world *world, uint64_t epoch);

/* The process of the node dies: core and pool are gone, its events stay. */
void world_node_crash(struct world_node *node);

void world_command(struct world_node *node, struct kvt_command *command);

/* Both ends know each other. */
void world_peer_add(struct world_node *node, const struct world_node *peer);
void world_connect(struct world_node *a, struct world_node *b);

/* Runs until no message waits and no deadline is due before until_ns; then the clock is there. */
void world_run_until(struct world *world, uint64_t until_ns);
void world_run(struct world *world, uint64_t duration_ns);

/* Runs until nothing is left to happen, deadlines included. */
void world_run_out(struct world *world);

/* How many events of the kind the node has emitted for the transfer (of either side). */
size_t world_count(const struct world_node *node, enum kvt_event_kind kind,
                   struct td_u128 transfer);
const struct kvt_event *world_find(const struct world_node *node, enum kvt_event_kind kind,
                                   struct td_u128 transfer);

uint8_t *world_slot(const struct world_node *node, uint32_t slot);
uint64_t world_stat(const struct world_node *node, enum kvt_stat stat);

/* Fails the test unless all gauges of the node are zero. */
void world_assert_gauges_zero(const struct world_node *node);

/* ---- making commands: a transfer whose blocks have keys and contents derived from `seed` */

struct world_transfer {
    struct td_u128 id;
    uint8_t mac_key[TD_MAC_KEY_BYTES];
    uint32_t block_count;
    uint32_t attachment_bytes;
    uint32_t sender_slots[WORLD_SLOTS];
    uint32_t receiver_slots[WORLD_SLOTS];
    struct td_u128 keys[WORLD_SLOTS];
    struct td_u128 hashes[WORLD_SLOTS];
    uint8_t contents[WORLD_SLOTS][WORLD_BLOCK_BYTES];
    uint8_t attachment[512];
};

/* Draws ids, keys, slots and contents. */
void world_transfer_init(struct world_transfer *transfer, struct td_rng *rng, uint32_t block_count,
                         uint32_t attachment_bytes);

/* Writes the contents into the sender's slots. */
void world_transfer_fill(const struct world_transfer *transfer, struct world_node *sender);

/* EXPECT as a command; what it owns is the caller's. */
struct kvt_command world_expect_command(const struct world_transfer *transfer,
                                        uint64_t sender_epoch, uint64_t deadline_ns);

void world_expect(struct world_node *receiver, const struct world_transfer *transfer,
                  uint64_t sender_epoch, uint64_t deadline_ns);
void world_offer(struct world_node *sender, const struct world_transfer *transfer,
                 uint64_t receiver_epoch, uint64_t deadline_ns);
void world_send(struct world_node *sender, const struct world_transfer *transfer,
                uint64_t receiver_epoch, uint32_t first, uint32_t count, bool with_attachment);
void world_abandon(struct world_node *receiver, const struct world_transfer *transfer);
void world_stop(struct world_node *sender, const struct world_transfer *transfer,
                uint64_t receiver_epoch);

/* Whether the receiver's slots (and the attachment of its LANDED) hold what was sent. */
bool world_transfer_is_there(const struct world_transfer *transfer,
                             const struct world_node *receiver);

#endif
