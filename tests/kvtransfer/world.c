/* world.c: virtual time, message queue and helpers for transfer-core tests, see world.h. */
#include "tests/kvtransfer/world.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

static uint64_t clock_now(void *impl)
{
    const struct world *world = impl;

    return world->now_ns;
}

static void enqueue(struct world *world, struct kvt_loop_message *message)
{
    uint64_t delay = 0;

    if (world->queue_count == WORLD_MESSAGES_MAX) {
        kvt_loop_discard(message);
        return;
    }
    if (world->faults.delay_max_ns > 0)
        delay = td_rng_below(&world->rng, world->faults.delay_max_ns);
    world->queue[world->queue_count++] =
        (struct world_entry){world->now_ns + delay, world->order++, message};
}

static bool chance(struct world *world, uint32_t per_mille)
{
    return per_mille > 0 && td_rng_below(&world->rng, 1000) < per_mille;
}

static void on_post(void *impl, struct kvt_loop_message *message)
{
    struct world *world = impl;

    if (world->intercept != NULL && world->intercept(world, message))
        return;
    if (chance(world, world->faults.drop)) {
        kvt_loop_discard(message);
        return;
    }
    if (chance(world, world->faults.corrupt))
        kvt_loop_corrupt(message, td_rng_next(&world->rng));
    if (chance(world, world->faults.duplicate)) {
        struct kvt_loop_message *copy = kvt_loop_copy(message);

        if (copy != NULL)
            enqueue(world, copy);
    }
    enqueue(world, message);
}

static void on_emit(void *impl, struct kvt_event *event)
{
    struct world_node *node = impl;

    assert_true(node->event_count < WORLD_EVENTS_MAX);
    node->events[node->event_count++] = *event;
    if (node->on_event != NULL)
        node->on_event(node, &node->events[node->event_count - 1]);
}

static void on_drain(void *impl)
{
    struct world_node *node = impl;

    if (node->on_drain != NULL)
        node->on_drain(node);
}

struct world *world_new(uint64_t seed, bool ignores_force)
{
    struct world *world = calloc(1, sizeof *world);
    struct kvt_loop_config config = {
        .impl = world, .post = on_post, .part_bytes = 300, .ignores_force = ignores_force};

    assert_non_null(world);
    td_rng_init(&world->rng, seed);
    world->now_ns = 1;
    world->limits = kvt_limits_default();
    world->limits.chunk_bytes = 4 * WORLD_BLOCK_BYTES;
    world->limits.window_bytes = 12 * WORLD_BLOCK_BYTES;
    assert_int_equal(kvt_loop_new(&config, &world->loop), TD_OK);
    return world;
}

static void events_free(struct world_node *node)
{
    for (size_t i = 0; i < node->event_count; i++)
        kvt_event_fini(&node->events[i]);
}

void world_free(struct world *world)
{
    for (size_t i = 0; i < world->node_count; i++) {
        world_node_crash(&world->nodes[i]);
        events_free(&world->nodes[i]);
    }
    for (size_t i = 0; i < world->queue_count; i++)
        kvt_loop_discard(world->queue[i].message);
    kvt_loop_free(world->loop);
    free(world);
}

struct world_node *world_node_add(struct world *world, uint64_t epoch)
{
    struct world_node *node = &world->nodes[world->node_count++];
    struct kvt_core_config config = {.epoch = epoch,
                                     .block_bytes = WORLD_BLOCK_BYTES,
                                     .clock = {world, clock_now},
                                     .sink = {node, on_emit},
                                     .inbox = {node, on_drain},
                                     .limits = world->limits};
    struct td_error error;

    assert_true(world->node_count <= WORLD_NODES_MAX);
    node->world = world;
    node->epoch = epoch;
    node->pool = malloc((size_t)WORLD_SLOTS * WORLD_BLOCK_BYTES);
    assert_non_null(node->pool);
    memset(node->pool, 0xee, (size_t)WORLD_SLOTS * WORLD_BLOCK_BYTES);
    config.memory = (struct kvt_memory){
        .base = node->pool, .bytes = (size_t)WORLD_SLOTS * WORLD_BLOCK_BYTES, .fd = -1};
    assert_int_equal(kvt_core_open(&config, &node->core, &error), TD_OK);
    assert_int_equal(kvt_loop_open(world->loop, epoch, &node->transport), TD_OK);
    assert_int_equal(kvt_core_add_transport(node->core, node->transport), TD_OK);
    return node;
}

void world_node_crash(struct world_node *node)
{
    if (node->core == NULL)
        return;
    kvt_loop_crash(node->transport);
    kvt_core_close(node->core);
    node->core = NULL;
    node->transport = NULL;
    free(node->pool);
    node->pool = NULL;
}

static void drive(struct world_node *node)
{
    while (node->core != NULL && kvt_core_progress(node->core))
        ;
}

void world_command(struct world_node *node, struct kvt_command *command)
{
    if (node->core == NULL) {
        kvt_command_fini(command);
        return;
    }
    kvt_core_command(node->core, command);
    drive(node);
}

void world_peer_add(struct world_node *node, const struct world_node *peer)
{
    struct kvt_command command = {.kind = KVT_PEER_ADD, .peer = peer->epoch};

    memcpy(command.peer_add.transport, "loop", 5);
    command.peer_add.address = malloc(KVT_ADDRESS_BYTES_MAX);
    assert_non_null(command.peer_add.address);
    assert_int_equal(peer->transport->ops->address(peer->transport, command.peer_add.address,
                                                   KVT_ADDRESS_BYTES_MAX,
                                                   &command.peer_add.address_bytes),
                     TD_OK);
    world_command(node, &command);
}

void world_connect(struct world_node *a, struct world_node *b)
{
    world_peer_add(a, b);
    world_peer_add(b, a);
    world_run(a->world, 1000000);
}

/* The index of the message that comes next, or queue_count. */
static size_t next_message(const struct world *world)
{
    size_t best = world->queue_count;

    for (size_t i = 0; i < world->queue_count; i++) {
        const struct world_entry *entry = &world->queue[i];

        if (best == world->queue_count || entry->at_ns < world->queue[best].at_ns ||
            (entry->at_ns == world->queue[best].at_ns && entry->order < world->queue[best].order))
            best = i;
    }
    return best;
}

static uint64_t next_deadline(const struct world *world)
{
    uint64_t next = TD_TIME_NEVER;

    for (size_t i = 0; i < world->node_count; i++)
        if (world->nodes[i].core != NULL && kvt_core_next_deadline(world->nodes[i].core) < next)
            next = kvt_core_next_deadline(world->nodes[i].core);
    return next;
}

/* One thing happens, if any is due by until_ns. */
static bool step(struct world *world, uint64_t until_ns)
{
    size_t index = next_message(world);
    uint64_t message_ns = index < world->queue_count ? world->queue[index].at_ns : TD_TIME_NEVER;
    uint64_t deadline_ns = next_deadline(world);
    uint64_t at_ns = message_ns < deadline_ns ? message_ns : deadline_ns;

    if (at_ns == TD_TIME_NEVER || at_ns > until_ns)
        return false;
    if (at_ns > world->now_ns)
        world->now_ns = at_ns;
    if (message_ns <= deadline_ns) {
        struct kvt_loop_message *message = world->queue[index].message;

        world->queue[index] = world->queue[--world->queue_count];
        kvt_loop_deliver(message);
    }
    for (size_t i = 0; i < world->node_count; i++) {
        if (world->nodes[i].core != NULL)
            kvt_core_tick(world->nodes[i].core);
        drive(&world->nodes[i]);
    }
    return true;
}

void world_run_until(struct world *world, uint64_t until_ns)
{
    for (size_t i = 0; i < world->node_count; i++)
        drive(&world->nodes[i]); /* what a test has delivered by hand */
    while (step(world, until_ns))
        ;
    if (until_ns > world->now_ns && until_ns != TD_TIME_NEVER)
        world->now_ns = until_ns;
}

void world_run(struct world *world, uint64_t duration_ns)
{
    world_run_until(world, world->now_ns + duration_ns);
}

void world_run_out(struct world *world)
{
    while (step(world, TD_TIME_NEVER - 1))
        ;
}

size_t world_count(const struct world_node *node, enum kvt_event_kind kind, struct td_u128 transfer)
{
    size_t count = 0;

    for (size_t i = 0; i < node->event_count; i++)
        count += node->events[i].kind == kind && td_u128_equal(node->events[i].transfer, transfer);
    return count;
}

const struct kvt_event *world_find(const struct world_node *node, enum kvt_event_kind kind,
                                   struct td_u128 transfer)
{
    for (size_t i = 0; i < node->event_count; i++)
        if (node->events[i].kind == kind && td_u128_equal(node->events[i].transfer, transfer))
            return &node->events[i];
    return NULL;
}

uint8_t *world_slot(const struct world_node *node, uint32_t slot)
{
    return node->pool + (size_t)slot * WORLD_BLOCK_BYTES;
}

uint64_t world_stat(const struct world_node *node, enum kvt_stat stat)
{
    return kvt_stats_get(kvt_core_stats(node->core), stat);
}

void world_assert_gauges_zero(const struct world_node *node)
{
    for (int stat = 0; stat < KVT_STAT_COUNT; stat++) {
        const struct kvt_stat_info *info = kvt_stat_info((enum kvt_stat)stat);

        if (!info->is_gauge || stat == KVT_STAT_PEERS)
            continue;
        if (world_stat(node, (enum kvt_stat)stat) != 0)
            fail_msg("gauge %s is not zero", info->name);
    }
}

/* ------------------------------------------------------------------------------------- transfers */

static struct td_u128 draw_u128(struct td_rng *rng)
{
    struct td_u128 value = {.hi = td_rng_next(rng)};

    value.lo = td_rng_next(rng) | 1;
    return value;
}

/* The first count of a random order of all slots. */
static void draw_slots(struct td_rng *rng, uint32_t *slots, uint32_t count)
{
    uint32_t all[WORLD_SLOTS];

    for (uint32_t i = 0; i < WORLD_SLOTS; i++)
        all[i] = i;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t j = i + (uint32_t)td_rng_below(rng, WORLD_SLOTS - i);
        uint32_t slot = all[j];

        all[j] = all[i];
        all[i] = slots[i] = slot;
    }
}

void world_transfer_init(struct world_transfer *transfer, struct td_rng *rng, uint32_t block_count,
                         uint32_t attachment_bytes)
{
    assert(block_count <= WORLD_SLOTS && attachment_bytes <= sizeof transfer->attachment);
    memset(transfer, 0, sizeof *transfer);
    transfer->id = draw_u128(rng);
    transfer->block_count = block_count;
    transfer->attachment_bytes = attachment_bytes;
    for (size_t i = 0; i < sizeof transfer->mac_key; i++)
        transfer->mac_key[i] = (uint8_t)td_rng_next(rng);
    for (size_t i = 0; i < attachment_bytes; i++)
        transfer->attachment[i] = (uint8_t)td_rng_next(rng);
    draw_slots(rng, transfer->sender_slots, block_count);
    draw_slots(rng, transfer->receiver_slots, block_count);
    for (uint32_t i = 0; i < block_count; i++) {
        transfer->keys[i] = draw_u128(rng);
        for (size_t j = 0; j < WORLD_BLOCK_BYTES; j++)
            transfer->contents[i][j] = (uint8_t)td_rng_next(rng);
        transfer->hashes[i] = td_hash128(transfer->contents[i], WORLD_BLOCK_BYTES);
    }
}

void world_transfer_fill(const struct world_transfer *transfer, struct world_node *sender)
{
    for (uint32_t i = 0; i < transfer->block_count; i++)
        memcpy(world_slot(sender, transfer->sender_slots[i]), transfer->contents[i],
               WORLD_BLOCK_BYTES);
}

static struct kvt_block *make_blocks(const struct world_transfer *transfer, const uint32_t *slots,
                                     uint32_t first, uint32_t count)
{
    struct kvt_block *blocks;

    if (count == 0)
        return NULL;
    blocks = calloc(count, sizeof *blocks);
    assert_non_null(blocks);
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = (struct kvt_block){.key = transfer->keys[first + i],
                                       .hash = transfer->hashes[first + i],
                                       .slot = slots[first + i]};
    return blocks;
}

struct kvt_command world_expect_command(const struct world_transfer *transfer,
                                        uint64_t sender_epoch, uint64_t deadline_ns)
{
    struct kvt_command command = {.kind = KVT_EXPECT,
                                  .transfer = transfer->id,
                                  .peer = sender_epoch,
                                  .expect = {.block_count = transfer->block_count,
                                             .attachment_bytes = transfer->attachment_bytes,
                                             .deadline_ns = deadline_ns}};

    memcpy(command.expect.mac_key, transfer->mac_key, sizeof command.expect.mac_key);
    command.expect.blocks =
        make_blocks(transfer, transfer->receiver_slots, 0, transfer->block_count);
    return command;
}

void world_expect(struct world_node *receiver, const struct world_transfer *transfer,
                  uint64_t sender_epoch, uint64_t deadline_ns)
{
    struct kvt_command command = world_expect_command(transfer, sender_epoch, deadline_ns);

    world_command(receiver, &command);
}

void world_offer(struct world_node *sender, const struct world_transfer *transfer,
                 uint64_t receiver_epoch, uint64_t deadline_ns)
{
    struct kvt_command command = {.kind = KVT_OFFER,
                                  .transfer = transfer->id,
                                  .peer = receiver_epoch,
                                  .offer = {.block_count = transfer->block_count,
                                            .attachment_bytes = transfer->attachment_bytes,
                                            .deadline_ns = deadline_ns}};

    memcpy(command.offer.mac_key, transfer->mac_key, sizeof command.offer.mac_key);
    world_command(sender, &command);
}

void world_send(struct world_node *sender, const struct world_transfer *transfer,
                uint64_t receiver_epoch, uint32_t first, uint32_t count, bool with_attachment)
{
    struct kvt_command command = {
        .kind = KVT_SEND,
        .transfer = transfer->id,
        .peer = receiver_epoch,
        .send = {.first = first,
                 .block_count = count,
                 .blocks = make_blocks(transfer, transfer->sender_slots, first, count)}};

    if (with_attachment) {
        command.send.attachment_bytes = transfer->attachment_bytes;
        command.send.attachment = malloc(transfer->attachment_bytes);
        assert_non_null(command.send.attachment);
        memcpy(command.send.attachment, transfer->attachment, transfer->attachment_bytes);
    }
    world_command(sender, &command);
}

void world_abandon(struct world_node *receiver, const struct world_transfer *transfer)
{
    struct kvt_command command = {.kind = KVT_ABANDON, .transfer = transfer->id};

    world_command(receiver, &command);
}

void world_stop(struct world_node *sender, const struct world_transfer *transfer,
                uint64_t receiver_epoch)
{
    struct kvt_command command = {
        .kind = KVT_STOP, .transfer = transfer->id, .peer = receiver_epoch};

    world_command(sender, &command);
}

bool world_transfer_is_there(const struct world_transfer *transfer,
                             const struct world_node *receiver)
{
    const struct kvt_event *landed = world_find(receiver, KVT_LANDED, transfer->id);

    if (landed == NULL || landed->landed.hash_count != transfer->block_count ||
        landed->landed.attachment_bytes != transfer->attachment_bytes)
        return false;
    for (uint32_t i = 0; i < transfer->block_count; i++)
        if (memcmp(world_slot(receiver, transfer->receiver_slots[i]), transfer->contents[i],
                   WORLD_BLOCK_BYTES) != 0 ||
            !td_u128_equal(landed->landed.hashes[i], transfer->hashes[i]))
            return false;
    return transfer->attachment_bytes == 0 ||
           memcmp(landed->landed.attachment, transfer->attachment, transfer->attachment_bytes) == 0;
}
