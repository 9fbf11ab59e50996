/* incoming.c: the receiver's side of a transfer, see incoming.h. */
#include "kvtransfer/incoming.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"

TD_FSM_DEFINE(kvt_incoming, INCOMING, "One transfer as its receiver sees it.");

/* A chunk that is landing: the tag of its receive. */
struct kvt_landing {
    struct kvt_incoming *incoming;
    struct td_list in_incoming;
    uint32_t first;
    uint32_t count;
    uint64_t bytes;
    bool is_last;
};

/* ------------------------------------------------------------------------- ends and beginnings */

static void emit(struct kvt_incoming *incoming, enum kvt_event_kind kind, td_status_t status)
{
    struct kvt_event event = {.kind = kind,
                              .transfer = incoming->transfer,
                              .peer = incoming->peer->epoch,
                              .status = status};

    kvt_core_emit(incoming->core, &event);
}

struct kvt_incoming *kvt_incoming_find(const struct kvt_core *core, struct td_u128 transfer)
{
    return td_map_find(&core->incoming, transfer);
}

void kvt_incoming_free(struct kvt_incoming *incoming)
{
    td_list_for_each(node, &incoming->landings)
    {
        td_list_remove(node);
        free(td_container_of(node, struct kvt_landing, in_incoming));
    }
    td_timer_cancel(&incoming->core->timers, &incoming->timer);
    td_list_remove(&incoming->in_peer);
    td_list_remove(&incoming->in_ghosts);
    kvt_peer_release(incoming->peer);
    free(incoming->attachment);
    free(incoming->begun);
    free(incoming->hashes);
    free(incoming->blocks);
    free(incoming);
}

/* It has ended: commands and chunks do not find it any more. */
static void forget(struct kvt_incoming *incoming)
{
    td_timer_cancel(&incoming->core->timers, &incoming->timer);
    td_map_remove(&incoming->core->incoming, incoming->transfer);
    td_list_remove(&incoming->in_peer);
    kvt_core_uncount(incoming->core, KVT_STAT_INCOMING);
}

static void land(struct kvt_incoming *incoming)
{
    struct kvt_core *core = incoming->core;
    struct kvt_event event = {.kind = KVT_LANDED,
                              .transfer = incoming->transfer,
                              .peer = incoming->peer->epoch,
                              .landed = {.hashes = incoming->hashes,
                                         .hash_count = incoming->block_count,
                                         .attachment = incoming->attachment,
                                         .attachment_bytes = incoming->attachment_bytes,
                                         .bytes = incoming->bytes,
                                         .wire_ns = incoming->last_ns - incoming->first_ns,
                                         .land_ns = kvt_core_now(core) - incoming->last_ns}};

    assert(td_list_empty(&incoming->landings)); /* no block can begin twice */
    incoming->hashes = NULL;
    incoming->attachment = NULL;
    kvt_core_count(core, KVT_STAT_LANDED);
    forget(incoming);
    kvt_core_emit(core, &event);
    kvt_incoming_free(incoming);
}

static void quiesce(struct kvt_incoming *incoming)
{
    kvt_core_count(incoming->core, KVT_STAT_QUIESCED);
    forget(incoming);
    emit(incoming, KVT_QUIESCED, incoming->failure);
    kvt_incoming_free(incoming);
}

static void quarantine(struct kvt_incoming *incoming)
{
    char id[TD_U128_HEX_BYTES];

    td_log(TD_LOG_ERROR, "kvtransfer", "transfer quarantined in transfer %s blocks %u",
           td_u128_hex(incoming->transfer, id), incoming->block_count);
    kvt_core_count(incoming->core, KVT_STAT_QUARANTINES);
    kvt_core_count(incoming->core, KVT_STAT_QUARANTINED);
    forget(incoming);
    td_list_push_back(&incoming->core->ghosts_in, &incoming->in_ghosts);
    emit(incoming, KVT_QUARANTINED, incoming->failure);
}

static void begin_stopping(struct kvt_incoming *incoming, td_status_t status)
{
    struct kvt_core *core = incoming->core;

    incoming->failure = status;
    td_timer_set(&core->timers, &incoming->timer,
                 kvt_core_after(core, core->config.limits.stop_ms));
}

static void fail(struct kvt_incoming *incoming, td_status_t status)
{
    char id[TD_U128_HEX_BYTES];

    td_log(TD_LOG_WARN, "kvtransfer", "transfer failed in transfer %s why %s landed %u of %u",
           td_u128_hex(incoming->transfer, id), td_status_name(status), incoming->landed_count,
           incoming->block_count);
    begin_stopping(incoming, status);
    emit(incoming, KVT_FAILED, status);
}

static void cut(struct kvt_incoming *incoming)
{
    struct kvt_core *core = incoming->core;

    kvt_core_count(core, KVT_STAT_CUTS);
    td_timer_set(&core->timers, &incoming->timer, kvt_core_after(core, core->config.limits.cut_ms));
    kvt_peer_step(incoming->peer, PEER_ON_DROP, TD_TIMEOUT);
}

void kvt_incoming_step(struct kvt_incoming *incoming, enum kvt_incoming_event event,
                       td_status_t status)
{
    switch (td_fsm_step(&kvt_incoming_fsm, &incoming->state, (uint8_t)event)) {
    case INCOMING_DO_FAIL: fail(incoming, status); break;
    case INCOMING_DO_ABANDON: begin_stopping(incoming, TD_CANCELED); break;
    case INCOMING_DO_LAND: land(incoming); return;
    case INCOMING_DO_QUIESCE: quiesce(incoming); return;
    case INCOMING_DO_CUT: cut(incoming); break;
    case INCOMING_DO_QUARANTINE: quarantine(incoming); break;
    default: break;
    }
    if (incoming->state == INCOMING_STOPPING && td_list_empty(&incoming->landings))
        kvt_incoming_step(incoming, INCOMING_ON_IDLE, TD_OK);
}

static void on_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct kvt_incoming *incoming = td_container_of(timer, struct kvt_incoming, timer);

    (void)now_ns;
    kvt_incoming_step(incoming, INCOMING_ON_DEADLINE, TD_TIMEOUT);
}

/* --------------------------------------------------------------------------------------- EXPECT */

static td_status_t check_expect(const struct kvt_core *core, const struct kvt_command *command)
{
    const struct kvt_limits *limits = &core->config.limits;

    if (core->is_stopping)
        return TD_CANCELED;
    if (command->expect.block_count == 0 && command->expect.attachment_bytes == 0)
        return TD_INVALID;
    if (command->expect.block_count > limits->blocks_max ||
        command->expect.attachment_bytes > limits->attachment_bytes_max)
        return TD_LIMIT;
    for (uint32_t i = 0; i < command->expect.block_count; i++)
        if (kvt_core_block(core, command->expect.blocks[i].slot) == NULL)
            return TD_INVALID;
    return kvt_peer_find(core, command->peer) == NULL ? TD_PEER_LOST : TD_OK;
}

/* Allocates all that landing will need, so that a transfer cannot fail for memory at its end. */
static bool allocate_arrays(struct kvt_incoming *incoming)
{
    uint32_t block_count = incoming->block_count;
    uint32_t attachment_bytes = incoming->attachment_bytes;

    incoming->begun = calloc(1, (size_t)block_count / 8 + 1);
    incoming->hashes = calloc((size_t)block_count + 1, sizeof *incoming->hashes);
    incoming->attachment = attachment_bytes > 0 ? malloc(attachment_bytes) : NULL;
    return incoming->begun != NULL && incoming->hashes != NULL &&
           (attachment_bytes == 0 || incoming->attachment != NULL);
}

/* Takes hold of the peer; everything is set up for kvt_incoming_free. */
static struct kvt_incoming *incoming_new(struct kvt_peer *peer, const struct kvt_command *command)
{
    struct kvt_incoming *incoming = calloc(1, sizeof *incoming);

    if (incoming == NULL)
        return NULL;
    incoming->core = peer->core;
    incoming->peer = peer;
    incoming->transfer = command->transfer;
    incoming->state = INCOMING_EXPECTED;
    incoming->block_count = command->expect.block_count;
    incoming->attachment_bytes = command->expect.attachment_bytes;
    memcpy(incoming->mac_key, command->expect.mac_key, sizeof incoming->mac_key);
    td_timer_init(&incoming->timer, on_deadline);
    td_list_init(&incoming->in_peer);
    td_list_init(&incoming->in_ghosts);
    td_list_init(&incoming->landings);
    kvt_peer_hold(peer);
    if (!allocate_arrays(incoming)) {
        kvt_incoming_free(incoming);
        return NULL;
    }
    return incoming;
}

static td_status_t try_open(struct kvt_core *core, struct kvt_command *command)
{
    td_status_t status = check_expect(core, command);
    struct kvt_incoming *incoming;

    if (status != TD_OK)
        return status;
    incoming = incoming_new(kvt_peer_find(core, command->peer), command);
    if (incoming == NULL)
        return TD_NO_MEMORY;
    status = td_map_insert(&core->incoming, incoming->transfer, incoming);
    if (status != TD_OK) {
        kvt_incoming_free(incoming);
        return status;
    }
    incoming->blocks = command->expect.blocks;
    command->expect.blocks = NULL;
    td_list_push_back(&incoming->peer->incoming, &incoming->in_peer);
    td_timer_set(&core->timers, &incoming->timer, command->expect.deadline_ns);
    kvt_core_count(core, KVT_STAT_INCOMING);
    return TD_OK;
}

void kvt_incoming_open(struct kvt_core *core, struct kvt_command *command)
{
    struct kvt_event event = {.transfer = command->transfer, .peer = command->peer};

    if (kvt_incoming_find(core, command->transfer) != NULL) {
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED); /* the first one still answers */
        return;
    }
    event.status = try_open(core, command);
    if (event.status == TD_OK)
        return;
    event.kind = KVT_FAILED;
    kvt_core_emit(core, &event);
    event.kind = KVT_QUIESCED;
    kvt_core_count(core, KVT_STAT_QUIESCED);
    kvt_core_emit(core, &event);
}

/* --------------------------------------------------------------------------------------- chunks */

static bool has_begun(const struct kvt_incoming *incoming, uint32_t ordinal)
{
    return (incoming->begun[ordinal / 8] >> (ordinal % 8) & 1) != 0;
}

/* Whether all that this authentic chunk says of itself is what was expected. */
static bool is_expected(const struct kvt_incoming *incoming, const struct kvt_chunk_arrival *chunk)
{
    const struct kvt_header *header = &chunk->header;
    uint64_t payload;

    if (header->block_bytes != incoming->core->config.block_bytes ||
        !kvt_header_payload(header, &payload) || payload != chunk->payload_bytes)
        return false;
    if (header->first > incoming->block_count ||
        header->block_count > incoming->block_count - header->first)
        return false;
    if (header->attachment_bytes != (header->is_last ? incoming->attachment_bytes : 0))
        return false;
    if (header->is_last && header->first + header->block_count != incoming->block_count)
        return false; /* the sender believes in another end than we do */
    for (uint32_t i = 0; i < header->block_count; i++)
        if (!td_u128_equal(kvt_header_entry(header, i).key,
                           incoming->blocks[header->first + i].key))
            return false;
    return true;
}

static bool is_repeated(const struct kvt_incoming *incoming, const struct kvt_header *header)
{
    if (header->is_last && incoming->last_begun)
        return true;
    for (uint32_t i = 0; i < header->block_count; i++)
        if (has_begun(incoming, header->first + i))
            return true;
    return false;
}

static void reject(struct kvt_core *core, const struct kvt_chunk_arrival *chunk,
                   enum kvt_stat reason, td_status_t status)
{
    kvt_core_count(core, reason);
    chunk->transport->ops->reject(chunk->transport, chunk->arrival, status);
}

/* Where the chunk lands; neighbouring slots become one piece. Returns the number of pieces. */
static size_t pieces_of(const struct kvt_incoming *incoming, const struct kvt_header *header,
                        struct kvt_piece pieces[static KVT_CHUNK_BLOCKS_MAX + 1])
{
    size_t block_bytes = incoming->core->config.block_bytes;
    size_t count = 0;

    for (uint32_t i = 0; i < header->block_count; i++) {
        uint32_t slot = incoming->blocks[header->first + i].slot;

        count = kvt_pieces_add(pieces, count, kvt_core_block(incoming->core, slot), block_bytes);
    }
    if (header->attachment_bytes > 0)
        pieces[count++] = (struct kvt_piece){incoming->attachment, header->attachment_bytes};
    return count;
}

static void mark_begun(struct kvt_incoming *incoming, const struct kvt_header *header)
{
    for (uint32_t i = 0; i < header->block_count; i++) {
        uint32_t ordinal = header->first + i;

        incoming->begun[ordinal / 8] |= (uint8_t)(1u << (ordinal % 8));
        incoming->hashes[ordinal] = kvt_header_entry(header, i).hash;
    }
    if (header->is_last) {
        incoming->last_begun = true;
        incoming->attachment_hash = header->attachment_hash;
    }
}

/* Hands the chunk to the transport. TD_NO_MEMORY: it was rejected. */
static td_status_t receive(struct kvt_incoming *incoming, const struct kvt_chunk_arrival *chunk)
{
    struct kvt_piece pieces[KVT_CHUNK_BLOCKS_MAX + 1];
    struct kvt_landing *landing = calloc(1, sizeof *landing);
    size_t piece_count;
    td_status_t status;

    if (landing == NULL) {
        reject(incoming->core, chunk, KVT_STAT_REFUSED_NO_MEMORY, TD_NO_MEMORY);
        return TD_NO_MEMORY;
    }
    landing->incoming = incoming;
    landing->first = chunk->header.first;
    landing->count = chunk->header.block_count;
    landing->bytes = chunk->payload_bytes;
    landing->is_last = chunk->header.is_last;
    mark_begun(incoming, &chunk->header);
    piece_count = pieces_of(incoming, &chunk->header, pieces);
    status = chunk->transport->ops->receive(chunk->transport, chunk->arrival, pieces, piece_count,
                                            landing);
    if (status != TD_OK) {
        free(landing);
        return status;
    }
    td_list_push_back(&incoming->landings, &landing->in_incoming);
    kvt_core_count(incoming->core, KVT_STAT_RECEIVING);
    return TD_OK;
}

static void accept(struct kvt_incoming *incoming, const struct kvt_chunk_arrival *chunk)
{
    td_status_t status = TD_OK;

    switch (td_fsm_step(&kvt_incoming_fsm, &incoming->state, INCOMING_ON_CHUNK)) {
    case INCOMING_DO_BEGIN:
        incoming->first_ns = kvt_core_now(incoming->core);
        emit(incoming, KVT_ARRIVING, TD_OK);
        status = receive(incoming, chunk);
        break;
    case INCOMING_DO_RECEIVE: status = receive(incoming, chunk); break;
    default: reject(incoming->core, chunk, KVT_STAT_REFUSED_STOPPING, incoming->failure); break;
    }
    if (status != TD_OK)
        kvt_incoming_step(incoming, INCOMING_ON_FAIL, status);
}

void kvt_incoming_arrive(struct kvt_incoming *incoming, const struct kvt_chunk_arrival *chunk)
{
    /* A header that the holder did not write changes nothing: anybody may guess a transfer's id. */
    if (!kvt_header_is_authentic(chunk->bytes, chunk->length, incoming->mac_key)) {
        reject(incoming->core, chunk, KVT_STAT_REFUSED_FORGED, TD_REFUSED);
    } else if (!is_expected(incoming, chunk)) {
        reject(incoming->core, chunk, KVT_STAT_REFUSED_MISMATCH, TD_INVALID);
        kvt_incoming_step(incoming, INCOMING_ON_FAIL, TD_INVALID);
    } else if (is_repeated(incoming, &chunk->header)) {
        reject(incoming->core, chunk, KVT_STAT_REFUSED_REPEATED, TD_STATE);
    } else {
        accept(incoming, chunk);
    }
}

/* -------------------------------------------------------------------------------------- landing */

static td_status_t compare_hashes(const struct kvt_incoming *incoming,
                                  const struct kvt_landing *landing)
{
    const void *blocks[KVT_CHUNK_BLOCKS_MAX];
    struct td_u128 hashes[KVT_CHUNK_BLOCKS_MAX];
    td_status_t status;

    for (uint32_t i = 0; i < landing->count; i++)
        blocks[i] = kvt_core_block(incoming->core, incoming->blocks[landing->first + i].slot);
    status = kvt_core_hash(incoming->core, blocks, landing->count, hashes);
    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < landing->count; i++)
        if (!td_u128_equal(hashes[i], incoming->hashes[landing->first + i]))
            return TD_CORRUPT;
    if (landing->is_last && incoming->attachment_bytes > 0 &&
        !td_u128_equal(td_hash128(incoming->attachment, incoming->attachment_bytes),
                       incoming->attachment_hash))
        return TD_CORRUPT;
    return TD_OK;
}

/* Compares what has landed with the hashes of its header, while it is in the cache. */
static td_status_t verify(const struct kvt_incoming *incoming, const struct kvt_landing *landing)
{
    struct kvt_core *core = incoming->core;
    uint64_t start_ns = kvt_core_now(core);
    td_status_t status = compare_hashes(incoming, landing);

    kvt_stats_add(&core->stats, KVT_STAT_VERIFY_NS, kvt_core_now(core) - start_ns);
    return status;
}

static void count_landed(struct kvt_incoming *incoming, const struct kvt_landing *landing)
{
    incoming->landed_count += landing->count;
    incoming->last_landed = incoming->last_landed || landing->is_last;
    incoming->bytes += landing->bytes;
    kvt_core_count(incoming->core, KVT_STAT_CHUNKS_RECEIVED);
    kvt_stats_add(&incoming->core->stats, KVT_STAT_BYTES_RECEIVED, landing->bytes);
    if (incoming->peer->transport->is_staged)
        kvt_stats_add(&incoming->core->stats, KVT_STAT_BYTES_STAGED, landing->bytes);
}

void kvt_incoming_received(void *tag, td_status_t status)
{
    struct kvt_landing *landing = tag;
    struct kvt_incoming *incoming = landing->incoming;
    struct kvt_core *core = incoming->core;
    bool is_landing = incoming->state == INCOMING_LANDING;

    td_list_remove(&landing->in_incoming);
    kvt_core_uncount(core, KVT_STAT_RECEIVING);
    incoming->last_ns = kvt_core_now(core);
    if (!is_landing) {
        kvt_core_count(core, KVT_STAT_LATE);
    } else if (status == TD_OK) {
        status = verify(incoming, landing);
        if (status == TD_OK)
            count_landed(incoming, landing);
        else if (status == TD_CORRUPT)
            kvt_core_count(core, KVT_STAT_CORRUPT);
    }
    free(landing);
    if (incoming->state == INCOMING_QUARANTINED) {
        if (td_list_empty(&incoming->landings)) {
            kvt_core_uncount(core, KVT_STAT_QUARANTINED);
            kvt_incoming_free(incoming);
        }
        return;
    }
    if (is_landing && status != TD_OK)
        kvt_incoming_step(incoming, INCOMING_ON_FAIL, status);
    else if (is_landing && incoming->landed_count == incoming->block_count && incoming->last_landed)
        kvt_incoming_step(incoming, INCOMING_ON_COMPLETE, TD_OK);
    else if (td_list_empty(&incoming->landings))
        kvt_incoming_step(incoming, INCOMING_ON_IDLE, TD_OK);
}
