/* site_here.c: a runtime in this process, see site_private.h. */
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "lib/base/time.h"
#include "tests/kvtransfer/nccl_double.h"
#include "tests/kvtransfer/site_private.h"
#include "tests/support/support.h"

#define CANARY   0xc5
#define SCRIBBLE 0x3a

/* ------------------------------------------------------------------------------------- transfers */

static uint32_t slot_of(uint32_t base, uint32_t index)
{
    return (base + index * 7) % SITE_SLOTS;
}

static struct td_u128 key_of(const struct site_transfer *transfer, uint32_t index)
{
    return (struct td_u128){.hi = transfer->seed, .lo = index + 1};
}

static void make_content(uint64_t seed, uint32_t index, uint8_t *out, size_t length)
{
    uint64_t state = seed * UINT64_C(0x9e3779b97f4a7c15) + index;

    for (size_t i = 0; i < length; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        out[i] = (uint8_t)(state >> 56);
    }
}

static struct td_u128 content_hash(const struct site_transfer *transfer, uint32_t index)
{
    uint8_t *content = malloc(SITE_BLOCK_BYTES);
    struct td_u128 hash;

    assert(content != NULL);
    make_content(transfer->seed, index, content, SITE_BLOCK_BYTES);
    hash = td_hash128(content, SITE_BLOCK_BYTES);
    free(content);
    return hash;
}

static void *make_attachment(const struct site_transfer *transfer)
{
    uint8_t *bytes = malloc(transfer->attachment_bytes);

    assert(bytes != NULL);
    make_content(transfer->seed, UINT32_MAX, bytes, transfer->attachment_bytes);
    return bytes;
}

static void paint(const struct site *site, uint32_t base, uint32_t first, uint32_t count,
                  uint8_t color)
{
    uint8_t bytes[SITE_BLOCK_BYTES];

    memset(bytes, color, sizeof bytes);
    for (uint32_t i = first; i < first + count; i++)
        site_slot_write(site, slot_of(base, i), bytes);
}

/* ---------------------------------------------------------------------------------- events, here */

static bool attachment_is_right(const struct site_transfer *transfer, const struct kvt_event *event)
{
    void *right;
    bool is_right;

    if (event->landed.attachment_bytes != transfer->attachment_bytes)
        return false;
    if (transfer->attachment_bytes == 0)
        return event->landed.attachment == NULL;
    right = make_attachment(transfer);
    is_right = memcmp(right, event->landed.attachment, transfer->attachment_bytes) == 0;
    free(right);
    return is_right;
}

static bool landed_is_right(const struct site *site, const struct site_transfer *transfer,
                            const struct kvt_event *event)
{
    uint8_t bytes[SITE_BLOCK_BYTES];

    if (event->landed.hash_count != transfer->block_count)
        return false;
    for (uint32_t i = 0; i < transfer->block_count; i++) {
        struct td_u128 right = content_hash(transfer, i);
        struct td_u128 found;

        site_slot_read(site, slot_of(transfer->in_base, i), bytes);
        found = td_hash128(bytes, sizeof bytes);
        if (!td_u128_equal(found, right) || !td_u128_equal(event->landed.hashes[i], right))
            return false;
    }
    return attachment_is_right(transfer, event);
}

/* The slots are ours again: guard them. */
static void end_incoming(struct site *site, const struct kvt_event *event, bool *is_right_out)
{
    for (size_t i = 0; i < site->incoming_count; i++) {
        struct site_guarded *guarded = &site->incoming[i];
        const struct site_transfer *transfer = &guarded->transfer;

        if (!td_u128_equal(transfer->id, event->transfer) || guarded->has_ended)
            continue;
        guarded->has_ended = true;
        *is_right_out = event->kind == KVT_LANDED && landed_is_right(site, transfer, event);
        paint(site, transfer->in_base, 0, transfer->block_count, CANARY);
        return;
    }
}

/* Nobody reads these blocks any more: spoil them. */
static void end_outgoing(struct site *site, const struct kvt_event *event)
{
    for (size_t i = 0; i < site->outgoing_count; i++) {
        const struct site_transfer *transfer = &site->outgoing[i];

        if (!td_u128_equal(transfer->id, event->transfer))
            continue;
        if (event->kind == KVT_SENT)
            paint(site, transfer->out_base, event->sent.first, event->sent.count, SCRIBBLE);
        else
            paint(site, transfer->out_base, 0, transfer->block_count, SCRIBBLE);
        return;
    }
}

static struct site_event digest(struct site *site, const struct kvt_event *event)
{
    struct site_event digest = {.kind = event->kind,
                                .transfer = event->transfer,
                                .peer = event->peer,
                                .is_sender = event->is_sender,
                                .status = event->status};

    switch (event->kind) {
    case KVT_PEER_UP: memcpy(digest.lanes, event->peer_up.lanes, sizeof digest.lanes); break;
    case KVT_LANDED:
        digest.bytes = event->landed.bytes;
        end_incoming(site, event, &digest.is_right);
        break;
    case KVT_QUIESCED: end_incoming(site, event, &digest.is_right); break;
    case KVT_SENT:
        digest.first = event->sent.first;
        digest.count = event->sent.count;
        digest.bytes = event->sent.bytes;
        end_outgoing(site, event);
        break;
    case KVT_DRAINED: end_outgoing(site, event); break;
    case KVT_PEER_LOST:
    case KVT_ARRIVING:
    case KVT_FAILED:
    case KVT_QUARANTINED: break;
    }
    return digest;
}

void site_record(struct site *site, const struct site_event *event)
{
    assert(site->event_count < SITE_EVENTS_MAX);
    site->events[site->event_count++] = *event;
}

bool site_here_pop(struct site *site, struct site_event *event_out)
{
    struct kvt_event event;

    if (!kvt_runtime_pop(site->runtime, &event))
        return false;
    *event_out = digest(site, &event);
    kvt_event_fini(&event);
    return true;
}

/* -------------------------------------------------------------------------------- commands, here */

static struct kvt_block *blocks_of(const struct site_transfer *transfer, uint32_t base,
                                   uint32_t first, uint32_t count)
{
    struct kvt_block *blocks = count > 0 ? calloc(count, sizeof *blocks) : NULL;

    assert(count == 0 || blocks != NULL);
    for (uint32_t i = 0; i < count; i++)
        blocks[i] = (struct kvt_block){.key = key_of(transfer, first + i),
                                       .hash = content_hash(transfer, first + i),
                                       .slot = slot_of(base, first + i)};
    return blocks;
}

static void fill_expect(struct site *site, const struct site_request *request,
                        struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    assert(site->incoming_count < SITE_TRANSFERS_MAX);
    site->incoming[site->incoming_count++] = (struct site_guarded){.transfer = *transfer};
    memcpy(command->expect.mac_key, transfer->mac_key, sizeof command->expect.mac_key);
    command->expect.blocks = blocks_of(transfer, transfer->in_base, 0, transfer->block_count);
    command->expect.block_count = transfer->block_count;
    command->expect.attachment_bytes = transfer->attachment_bytes;
    command->expect.deadline_ns = td_now_ns() + transfer->lifetime_ms * TD_NS_PER_MS;
}

static void fill_offer(struct site *site, const struct site_request *request,
                       struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    assert(site->outgoing_count < SITE_TRANSFERS_MAX);
    site->outgoing[site->outgoing_count++] = *transfer;
    memcpy(command->offer.mac_key, transfer->mac_key, sizeof command->offer.mac_key);
    command->offer.block_count = transfer->block_count;
    command->offer.attachment_bytes = transfer->attachment_bytes;
    command->offer.deadline_ns = td_now_ns() + transfer->lifetime_ms * TD_NS_PER_MS;
}

static void fill_send(const struct site_request *request, struct kvt_command *command)
{
    const struct site_transfer *transfer = &request->transfer;

    command->send.first = request->first;
    command->send.block_count = request->count;
    command->send.blocks = blocks_of(transfer, transfer->out_base, request->first, request->count);
    if (transfer->attachment_bytes > 0 &&
        request->first + request->count == transfer->block_count) {
        command->send.attachment = make_attachment(transfer);
        command->send.attachment_bytes = transfer->attachment_bytes;
    }
}

static void fill_peer_add(const struct site *site, const struct site_request *request,
                          struct kvt_command *command)
{
    snprintf(command->peer_add.transport, sizeof command->peer_add.transport, "%s",
             site_transport_name(site));
    command->peer_add.address = malloc(request->address_bytes + 1);
    assert(command->peer_add.address != NULL);
    memcpy(command->peer_add.address, request->address, request->address_bytes);
    command->peer_add.address_bytes = request->address_bytes;
}

/* A full ring empties by itself: the wake that the contract promises is waited for. */
static void push(struct site *site, const struct kvt_command *command)
{
    td_status_t status;

    while ((status = kvt_runtime_push(site->runtime, command)) == TD_LIMIT) {
        struct pollfd wake = {.fd = site->wake_fd, .events = POLLIN};
        struct site_event event;
        uint64_t drained;

        if (poll(&wake, 1, SITE_PATIENCE_MS) <= 0)
            fail_msg("no wake after a full command ring");
        (void)!read(site->wake_fd, &drained, sizeof drained);
        while (site_here_pop(site, &event))
            site_record(site, &event);
    }
    assert_int_equal(status, TD_OK);
}

static void command_here(struct site *site, const struct site_request *request)
{
    struct kvt_command command = {
        .kind = request->command, .transfer = request->transfer.id, .peer = request->epoch};

    switch (request->command) {
    case KVT_PEER_ADD: fill_peer_add(site, request, &command); break;
    case KVT_EXPECT: fill_expect(site, request, &command); break;
    case KVT_OFFER: fill_offer(site, request, &command); break;
    case KVT_SEND: fill_send(request, &command); break;
    case KVT_PEER_DROP:
    case KVT_ABANDON:
    case KVT_STOP: break;
    }
    push(site, &command);
}

static bool canary_is_intact(const struct site *site, const struct site_transfer *transfer)
{
    for (uint32_t i = 0; i < transfer->block_count; i++) {
        uint8_t bytes[SITE_BLOCK_BYTES];

        site_slot_read(site, slot_of(transfer->in_base, i), bytes);
        for (size_t j = 0; j < SITE_BLOCK_BYTES; j++)
            if (bytes[j] != CANARY)
                return false;
    }
    return true;
}

static void fill_here(struct site *site, const struct site_transfer *transfer)
{
    uint8_t bytes[SITE_BLOCK_BYTES];

    for (uint32_t i = 0; i < transfer->block_count; i++) {
        make_content(transfer->seed, i, bytes, sizeof bytes);
        site_slot_write(site, slot_of(transfer->out_base, i), bytes);
    }
}

static void damage_here(struct site *site, const struct site_transfer *transfer, uint32_t index)
{
    uint8_t bytes[SITE_BLOCK_BYTES];
    uint32_t slot = slot_of(transfer->out_base, index);

    site_slot_read(site, slot, bytes);
    bytes[SITE_BLOCK_BYTES / 2] ^= 4;
    site_slot_write(site, slot, bytes);
}

uint64_t site_here_carry_out(struct site *site, const struct site_request *request)
{
    const struct site_transfer *transfer = &request->transfer;

    switch (request->op) {
    case SITE_OP_COMMAND: command_here(site, request); break;
    case SITE_OP_FILL: fill_here(site, transfer); break;
    case SITE_OP_DAMAGE: damage_here(site, transfer, request->first); break;
    case SITE_OP_CANARY: return canary_is_intact(site, transfer);
    case SITE_OP_STAT:
        return kvt_stats_get(kvt_runtime_stats(site->runtime), (enum kvt_stat)request->first);
    case SITE_OP_CLOSE: break;
    }
    return 0;
}

/* ------------------------------------------------------------------------ opening and closing here */

static void on_wake(void *impl)
{
    const struct site *site = impl;
    uint64_t one = 1;

    (void)!write(site->wake_fd, &one, sizeof one);
}

static void open_runtime(struct site *site)
{
    const struct site_config *config = &site->config;
    struct kvt_runtime_config runtime = {
        .epoch = config->epoch,
        .memory = site->memory,
        .block_bytes = SITE_BLOCK_BYTES,
        .limits = kvt_limits_default(),
        .use_ucx = config->transport == SITE_GPU_UCX ||
                   (!site_is_on_gpu(site) && config->transport != SITE_MAP),
        .use_map = config->transport == SITE_MAP || config->transport == SITE_GPU_MAP,
        .use_maphost = config->transport == SITE_GPU_MAPHOST,
        .use_ucxhost = config->transport == SITE_GPU_UCXHOST,
        .use_nccl = config->transport == SITE_GPU_NCCL,
        .nccl = {.library = nccl_double_path(), .interface = "lo"},
        .ucx = kvt_ucx_config_default(),
        .ring_capacity = config->ring_capacity,
        .wake = on_wake,
        .wake_impl = site};
    struct td_error error = {0};
    const uint8_t *address;

    runtime.ucx.shm = config->transport != SITE_UCX_TCP && config->transport != SITE_GPU_UCXHOST;
    runtime.ucx.tcp = config->transport != SITE_UCX_SHM;
    runtime.ucx.keepalive_ms = 200;
    runtime.limits.chunk_bytes = config->chunk_bytes;
    runtime.limits.window_bytes = config->window_bytes;
    runtime.limits.connect_ms = config->connect_ms;
    runtime.limits.stop_ms = config->stop_ms;
    runtime.limits.cut_ms = config->cut_ms;
    if (kvt_runtime_open(&runtime, &site->runtime, &error) != TD_OK) {
        fprintf(stderr, "a site cannot be opened: %s\n", error.text);
        abort();
    }
    if (kvt_runtime_address(site->runtime, site_transport_name(site), &address,
                            &site->hello.address_bytes) != TD_OK)
        abort();
    memcpy(site->hello.address, address, site->hello.address_bytes);
}

struct site *site_here_open(const struct site_config *config)
{
    struct site *site = calloc(1, sizeof *site);

    assert(site != NULL);
    site->config = *config;
    site->socket_fd = -1;
    site->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    assert(site->wake_fd >= 0);
    site_memory_open(site);
    open_runtime(site);
    return site;
}

size_t site_here_close(struct site *site)
{
    size_t left = kvt_runtime_close(site->runtime);

    site_memory_close(site);
    close(site->wake_fd);
    free(site);
    return left;
}
