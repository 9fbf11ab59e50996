/* transfer_side.c: see transfer_side.h. */
#include "bench/transfer_side.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/time.h"

#define SLOT_STRIDE  37 /* odd, so that it visits all of a power of two */
#define SPREAD       4  /* transfers that the pool has room for: more than a cache holds */
#define PATIENCE_MS  60000
#define BLOCK_TOKENS 16

/* From either side to the other: an address, or (receiver to sender) which transfer to send. */
struct packet {
    uint32_t lane;
    uint32_t transfer;
    size_t address_bytes;
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
};

const char *bench_lane_name(enum bench_lane lane)
{
    static const char *const names[BENCH_LANE_COUNT] = {"map", "ucx_shm", "ucx_tcp"};

    return names[lane];
}

static const char *transport_of(enum bench_lane lane)
{
    return lane == BENCH_LANE_MAP ? "map" : "ucx";
}

uint32_t bench_side_slot(const struct bench_side *side, uint32_t transfer, uint32_t block)
{
    uint32_t place = transfer * side->config.block_count + block;

    return place * SLOT_STRIDE & (side->slot_count - 1);
}

/* ------------------------------------------------------------------ the other side */

static td_status_t tell(const struct bench_side *side, const struct packet *packet,
                        struct td_error *error)
{
    if (send(side->config.socket_fd, packet, sizeof *packet, MSG_NOSIGNAL) !=
        (ssize_t)sizeof *packet)
        return td_fail(error, TD_PEER_LOST, "the other process has gone");
    return TD_OK;
}

static td_status_t hear(const struct bench_side *side, struct packet *packet,
                        struct td_error *error)
{
    ssize_t length;

    do
        length = recv(side->config.socket_fd, packet, sizeof *packet, 0);
    while (length < 0 && errno == EINTR);
    if (length != (ssize_t)sizeof *packet || packet->lane >= BENCH_LANE_COUNT ||
        packet->address_bytes > sizeof packet->address)
        return td_fail(error, TD_PEER_LOST, "the other process has gone");
    return TD_OK;
}

/* ------------------------------------------------------------------ commands and events */

static void on_wake(void *impl)
{
    const struct bench_side *side = impl;
    uint64_t one = 1;

    (void)!write(side->wake_fd, &one, sizeof one);
}

/* Waits for an event of that kind on a lane; one that ends something otherwise is a failure. */
static td_status_t wait_for(struct bench_side *side, enum bench_lane lane, enum kvt_event_kind kind,
                            struct kvt_event *event_out, struct td_error *error)
{
    struct pollfd wake = {.fd = side->wake_fd, .events = POLLIN};
    uint64_t drained;

    for (;;) {
        while (kvt_runtime_pop(side->runtimes[lane], event_out)) {
            if (event_out->kind == kind)
                return TD_OK;
            if (event_out->kind == KVT_FAILED || event_out->kind == KVT_PEER_LOST)
                return td_fail(error, event_out->status, "%s: %s", bench_lane_name(lane),
                               td_status_text(event_out->status));
            kvt_event_fini(event_out);
        }
        if (poll(&wake, 1, PATIENCE_MS) == 0)
            return td_fail(error, TD_TIMEOUT, "%s: nothing happens", bench_lane_name(lane));
        (void)!read(side->wake_fd, &drained, sizeof drained);
    }
}

static td_status_t push(struct bench_side *side, enum bench_lane lane, struct kvt_command *command,
                        struct td_error *error)
{
    td_status_t status = kvt_runtime_push(side->runtimes[lane], command);

    if (status == TD_OK)
        return TD_OK;
    kvt_command_fini(command);
    return td_fail(error, status, "%s: command ring: %s", bench_lane_name(lane),
                   td_status_text(status));
}

static struct td_u128 key_of(uint32_t transfer, uint32_t block)
{
    return (struct td_u128){.hi = transfer + 1, .lo = block + 1};
}

static struct kvt_command command_of(const struct bench_side *side, enum kvt_command_kind kind,
                                     uint32_t transfer)
{
    return (struct kvt_command){
        .kind = kind, .transfer = {.hi = 1, .lo = transfer + 1}, .peer = side->config.peer_epoch};
}

static struct kvt_block *make_blocks(const struct bench_side *side, uint32_t transfer,
                                     bool with_hashes)
{
    struct kvt_block *blocks = calloc(side->config.block_count, sizeof *blocks);

    for (uint32_t i = 0; blocks != NULL && i < side->config.block_count; i++) {
        blocks[i].key = key_of(transfer, i);
        blocks[i].slot = bench_side_slot(side, transfer, i);
        if (with_hashes)
            blocks[i].hash =
                td_hash128(side->kv.base + (size_t)blocks[i].slot * side->kv.block_bytes,
                           side->kv.block_bytes);
    }
    return blocks;
}

td_status_t bench_side_await_ready(struct bench_side *side, struct td_error *error)
{
    struct packet ready;

    return hear(side, &ready, error);
}

td_status_t bench_side_receive(struct bench_side *side, enum bench_lane lane, uint32_t transfer,
                               struct kvt_event *landed_out, struct td_error *error)
{
    struct kvt_command expect = command_of(side, KVT_EXPECT, transfer);
    struct packet packet = {.lane = lane, .transfer = transfer};
    td_status_t status;

    expect.expect.blocks = make_blocks(side, transfer, false);
    if (expect.expect.blocks == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for a transfer");
    expect.expect.block_count = side->config.block_count;
    expect.expect.deadline_ns = td_now_ns() + PATIENCE_MS * TD_NS_PER_MS;
    status = push(side, lane, &expect, error);
    if (status == TD_OK)
        status = tell(side, &packet, error);
    if (status == TD_OK)
        status = wait_for(side, lane, KVT_LANDED, landed_out, error);
    return status;
}

/* Offers and sends one transfer, whose blocks were made ready before. */
static td_status_t send_one(struct bench_side *side, const struct packet *asked,
                            struct kvt_block *blocks, struct td_error *error)
{
    struct kvt_command offer = command_of(side, KVT_OFFER, asked->transfer);
    struct kvt_command send = command_of(side, KVT_SEND, asked->transfer);
    struct kvt_event drained;
    td_status_t status;

    offer.offer.block_count = side->config.block_count;
    offer.offer.deadline_ns = td_now_ns() + PATIENCE_MS * TD_NS_PER_MS;
    send.send.blocks = blocks;
    send.send.block_count = side->config.block_count;
    status = push(side, (enum bench_lane)asked->lane, &offer, error);
    if (status != TD_OK) {
        free(blocks);
        return status;
    }
    status = push(side, (enum bench_lane)asked->lane, &send, error);
    if (status == TD_OK)
        status = wait_for(side, (enum bench_lane)asked->lane, KVT_DRAINED, &drained, error);
    return status;
}

/*
 * The blocks of the next transfer are hashed while nothing is measured: an engine hashes a block
 * once, when it is full. Transfers are asked for in order.
 */
td_status_t bench_side_serve(struct bench_side *side, struct td_error *error)
{
    td_status_t status = TD_OK;

    for (uint32_t transfer = 0; status == TD_OK; transfer++) {
        struct kvt_block *blocks = make_blocks(side, transfer, true);
        struct packet asked = {.lane = 0};

        if (blocks == NULL)
            return td_fail(error, TD_NO_MEMORY, "no memory for a transfer");
        if (tell(side, &asked, NULL) != TD_OK || hear(side, &asked, NULL) != TD_OK) {
            free(blocks); /* the receiver has had enough */
            return TD_OK;
        }
        status = send_one(side, &asked, blocks, error);
    }
    return status;
}

/* ------------------------------------------------------------------ opening and closing */

static td_status_t open_pool(struct bench_side *side, struct td_error *error)
{
    td_status_t status;

    side->slot_count = 1;
    while (side->slot_count < SPREAD * side->config.block_count)
        side->slot_count *= 2;
    status =
        engine_kv_open(side->slot_count, BLOCK_TOKENS, side->config.block_bytes, &side->kv, error);
    if (status != TD_OK)
        return status;
    for (size_t i = 0; i < (size_t)side->slot_count * side->kv.block_bytes; i++)
        side->kv.base[i] = (uint8_t)(i * 31 + i / 4096 + side->config.epoch); /* touch every page */
    return TD_OK;
}

static td_status_t open_lane(struct bench_side *side, enum bench_lane lane, struct td_error *error)
{
    struct kvt_runtime_config config = {
        .epoch = side->config.epoch,
        .memory = {.base = side->kv.base,
                   .bytes = (size_t)side->slot_count * side->kv.block_bytes,
                   .fd = side->kv.fd},
        .block_bytes = side->kv.block_bytes,
        .limits = kvt_limits_default(),
        .use_ucx = lane != BENCH_LANE_MAP,
        .use_map = lane == BENCH_LANE_MAP,
        .ucx = kvt_ucx_config_default(),
        .ring_capacity = 256,
        .wake = on_wake,
        .wake_impl = side};

    config.ucx.shm = lane == BENCH_LANE_UCX_SHM;
    config.ucx.tcp = lane == BENCH_LANE_UCX_TCP;
    if (side->config.interface != NULL)
        snprintf(config.ucx.interface, sizeof config.ucx.interface, "%s", side->config.interface);
    return kvt_runtime_open(&config, &side->runtimes[lane], error);
}

static td_status_t tell_address(struct bench_side *side, enum bench_lane lane,
                                struct td_error *error)
{
    struct packet packet = {.lane = lane};
    const uint8_t *address;
    td_status_t status = kvt_runtime_address(side->runtimes[lane], transport_of(lane), &address,
                                             &packet.address_bytes);

    if (status != TD_OK)
        return td_fail(error, status, "%s: no address", bench_lane_name(lane));
    memcpy(packet.address, address, packet.address_bytes);
    return tell(side, &packet, error);
}

static td_status_t connect_lane(struct bench_side *side, enum bench_lane lane,
                                struct td_error *error)
{
    struct kvt_command add = {.kind = KVT_PEER_ADD, .peer = side->config.peer_epoch};
    struct kvt_event up;
    struct packet packet;
    td_status_t status = tell_address(side, lane, error);

    if (status == TD_OK)
        status = hear(side, &packet, error);
    if (status != TD_OK)
        return status;
    snprintf(add.peer_add.transport, sizeof add.peer_add.transport, "%s", transport_of(lane));
    add.peer_add.address = malloc(packet.address_bytes + 1);
    if (add.peer_add.address == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for an address");
    memcpy(add.peer_add.address, packet.address, packet.address_bytes);
    add.peer_add.address_bytes = packet.address_bytes;
    status = push(side, lane, &add, error);
    if (status == TD_OK)
        status = wait_for(side, lane, KVT_PEER_UP, &up, error);
    if (status == TD_OK)
        memcpy(side->lanes[lane], up.peer_up.lanes, sizeof side->lanes[lane]);
    return status;
}

static bool uses(const struct bench_side *side, enum bench_lane lane)
{
    return (side->config.lanes & BENCH_LANE_BIT(lane)) != 0;
}

td_status_t bench_side_open(const struct bench_side_config *config, struct bench_side *side,
                            struct td_error *error)
{
    td_status_t status;

    *side = (struct bench_side){.config = *config, .kv = {.fd = -1}};
    side->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (side->wake_fd < 0)
        return td_fail(error, TD_IO, "eventfd: %s", strerror(errno));
    status = open_pool(side, error);
    for (int lane = 0; lane < BENCH_LANE_COUNT && status == TD_OK; lane++)
        if (uses(side, (enum bench_lane)lane))
            status = open_lane(side, (enum bench_lane)lane, error);
    for (int lane = 0; lane < BENCH_LANE_COUNT && status == TD_OK; lane++)
        if (uses(side, (enum bench_lane)lane))
            status = connect_lane(side, (enum bench_lane)lane, error);
    return status;
}

void bench_side_close(struct bench_side *side)
{
    for (int lane = 0; lane < BENCH_LANE_COUNT; lane++)
        kvt_runtime_close(side->runtimes[lane]);
    engine_kv_close(&side->kv);
    if (side->wake_fd >= 0)
        close(side->wake_fd);
}
