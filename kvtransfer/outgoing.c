/* outgoing.c: the sender's side of a transfer, see outgoing.h. */
#include "kvtransfer/outgoing.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/log.h"

TD_FSM_DEFINE(kvt_outgoing, OUTGOING, "One transfer as its sender sees it.");

/* One SEND: blocks [first, first + count), of which the first `done` were put into chunks. */
struct kvt_run {
    struct td_list in_outgoing;
    struct kvt_block *blocks;
    uint32_t first;
    uint32_t count;
    uint32_t done;
    void *attachment; /* moves to the chunk that carries it */
    uint32_t attachment_bytes;
    bool is_last; /* with its end everything has been given */
};

/* A chunk in flight: the tag of its send. */
struct kvt_sending {
    struct kvt_outgoing *outgoing;
    struct td_list in_outgoing;
    uint32_t first;
    uint32_t count;
    uint64_t bytes;
    void *attachment; /* owned: the transport reads it */
    bool is_last;
};

/* ------------------------------------------------------------------------- ends and beginnings */

static void emit(struct kvt_outgoing *outgoing, enum kvt_event_kind kind, td_status_t status)
{
    struct kvt_event event = {.kind = kind,
                              .transfer = outgoing->transfer,
                              .peer = outgoing->peer->epoch,
                              .is_sender = true,
                              .status = status};

    kvt_core_emit(outgoing->core, &event);
}

/* Two peers may have chosen the same id: the map's key covers both. */
static struct td_u128 key_of(struct td_u128 transfer, uint64_t peer)
{
    return td_hash128_chain(transfer, &peer, sizeof peer);
}

struct kvt_outgoing *kvt_outgoing_find(const struct kvt_core *core, struct td_u128 transfer,
                                       uint64_t peer)
{
    return td_map_find(&core->outgoing, key_of(transfer, peer));
}

static void run_free(struct kvt_run *run)
{
    td_list_remove(&run->in_outgoing);
    free(run->blocks);
    free(run->attachment);
    free(run);
}

static void sending_free(struct kvt_sending *sending)
{
    td_list_remove(&sending->in_outgoing);
    free(sending->attachment);
    free(sending);
}

static void drop_runs(struct kvt_outgoing *outgoing)
{
    td_list_remove(&outgoing->in_ready);
    td_list_for_each(node, &outgoing->runs)
        run_free(td_container_of(node, struct kvt_run, in_outgoing));
}

void kvt_outgoing_free(struct kvt_outgoing *outgoing)
{
    drop_runs(outgoing);
    td_list_for_each(node, &outgoing->sendings)
        sending_free(td_container_of(node, struct kvt_sending, in_outgoing));
    td_timer_cancel(&outgoing->core->timers, &outgoing->timer);
    td_list_remove(&outgoing->in_peer);
    td_list_remove(&outgoing->in_ghosts);
    kvt_peer_release(outgoing->peer);
    free(outgoing);
}

/* It has ended: commands do not find it any more. */
static void forget(struct kvt_outgoing *outgoing)
{
    td_timer_cancel(&outgoing->core->timers, &outgoing->timer);
    td_map_remove(&outgoing->core->outgoing, key_of(outgoing->transfer, outgoing->peer->epoch));
    td_list_remove(&outgoing->in_peer);
    kvt_core_uncount(outgoing->core, KVT_STAT_OUTGOING);
}

static void drain(struct kvt_outgoing *outgoing)
{
    kvt_core_count(outgoing->core,
                   outgoing->failure == TD_OK ? KVT_STAT_DRAINED : KVT_STAT_STOPPED);
    forget(outgoing);
    emit(outgoing, KVT_DRAINED, outgoing->failure);
    kvt_outgoing_free(outgoing);
}

static void quarantine(struct kvt_outgoing *outgoing)
{
    char id[TD_U128_HEX_BYTES];

    td_log(TD_LOG_ERROR, "kvtransfer", "transfer quarantined out transfer %s blocks %u",
           td_u128_hex(outgoing->transfer, id), outgoing->block_count);
    kvt_core_count(outgoing->core, KVT_STAT_QUARANTINES);
    kvt_core_count(outgoing->core, KVT_STAT_QUARANTINED);
    forget(outgoing);
    td_list_push_back(&outgoing->core->ghosts_out, &outgoing->in_ghosts);
    emit(outgoing, KVT_QUARANTINED, outgoing->failure);
}

static void begin_stopping(struct kvt_outgoing *outgoing, td_status_t status)
{
    struct kvt_core *core = outgoing->core;

    outgoing->failure = status;
    drop_runs(outgoing);
    td_timer_set(&core->timers, &outgoing->timer,
                 kvt_core_after(core, core->config.limits.stop_ms));
}

static void fail(struct kvt_outgoing *outgoing, td_status_t status)
{
    char id[TD_U128_HEX_BYTES];

    td_log(TD_LOG_WARN, "kvtransfer", "transfer failed out transfer %s why %s sent %u of %u",
           td_u128_hex(outgoing->transfer, id), td_status_name(status), outgoing->sent_count,
           outgoing->block_count);
    begin_stopping(outgoing, status);
    emit(outgoing, KVT_FAILED, status);
}

static void cut(struct kvt_outgoing *outgoing)
{
    struct kvt_core *core = outgoing->core;

    kvt_core_count(core, KVT_STAT_CUTS);
    td_timer_set(&core->timers, &outgoing->timer, kvt_core_after(core, core->config.limits.cut_ms));
    kvt_peer_step(outgoing->peer, PEER_ON_DROP, TD_TIMEOUT);
}

void kvt_outgoing_step(struct kvt_outgoing *outgoing, enum kvt_outgoing_event event,
                       td_status_t status)
{
    switch (td_fsm_step(&kvt_outgoing_fsm, &outgoing->state, (uint8_t)event)) {
    case OUTGOING_DO_FAIL: fail(outgoing, status); break;
    case OUTGOING_DO_STOP: begin_stopping(outgoing, TD_CANCELED); break;
    case OUTGOING_DO_DRAIN: drain(outgoing); return;
    case OUTGOING_DO_CUT: cut(outgoing); break;
    case OUTGOING_DO_QUARANTINE: quarantine(outgoing); break;
    default: break;
    }
    if (outgoing->state == OUTGOING_STOPPING && td_list_empty(&outgoing->sendings))
        kvt_outgoing_step(outgoing, OUTGOING_ON_IDLE, TD_OK);
}

static void on_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct kvt_outgoing *outgoing = td_container_of(timer, struct kvt_outgoing, timer);

    (void)now_ns;
    kvt_outgoing_step(outgoing, OUTGOING_ON_DEADLINE, TD_TIMEOUT);
}

/* ---------------------------------------------------------------------------------------- OFFER */

static td_status_t check_offer(const struct kvt_core *core, const struct kvt_command *command)
{
    const struct kvt_limits *limits = &core->config.limits;

    if (core->is_stopping)
        return TD_CANCELED;
    if (command->offer.block_count == 0 && command->offer.attachment_bytes == 0)
        return TD_INVALID;
    if (command->offer.block_count > limits->blocks_max ||
        command->offer.attachment_bytes > limits->attachment_bytes_max)
        return TD_LIMIT;
    return kvt_peer_find(core, command->peer) == NULL ? TD_PEER_LOST : TD_OK;
}

static td_status_t try_open(struct kvt_core *core, const struct kvt_command *command)
{
    td_status_t status = check_offer(core, command);
    struct kvt_outgoing *outgoing;

    if (status != TD_OK)
        return status;
    outgoing = calloc(1, sizeof *outgoing);
    if (outgoing == NULL)
        return TD_NO_MEMORY;
    outgoing->core = core;
    outgoing->peer = kvt_peer_find(core, command->peer);
    outgoing->transfer = command->transfer;
    outgoing->state = OUTGOING_OFFERED;
    outgoing->block_count = command->offer.block_count;
    outgoing->attachment_bytes = command->offer.attachment_bytes;
    memcpy(outgoing->mac_key, command->offer.mac_key, sizeof outgoing->mac_key);
    td_timer_init(&outgoing->timer, on_deadline);
    td_list_init(&outgoing->in_peer);
    td_list_init(&outgoing->in_ready);
    td_list_init(&outgoing->in_ghosts);
    td_list_init(&outgoing->runs);
    td_list_init(&outgoing->sendings);
    kvt_peer_hold(outgoing->peer);
    status = td_map_insert(&core->outgoing, key_of(command->transfer, command->peer), outgoing);
    if (status != TD_OK) {
        kvt_outgoing_free(outgoing);
        return status;
    }
    td_list_push_back(&outgoing->peer->outgoing, &outgoing->in_peer);
    td_timer_set(&core->timers, &outgoing->timer, command->offer.deadline_ns);
    kvt_core_count(core, KVT_STAT_OUTGOING);
    return TD_OK;
}

void kvt_outgoing_open(struct kvt_core *core, const struct kvt_command *command)
{
    struct kvt_event event = {
        .transfer = command->transfer, .peer = command->peer, .is_sender = true};

    if (kvt_outgoing_find(core, command->transfer, command->peer) != NULL) {
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED); /* the first one still answers */
        return;
    }
    event.status = try_open(core, command);
    if (event.status == TD_OK)
        return;
    event.kind = KVT_FAILED;
    kvt_core_emit(core, &event);
    event.kind = KVT_DRAINED;
    kvt_core_count(core, KVT_STAT_STOPPED);
    kvt_core_emit(core, &event);
}

/* ----------------------------------------------------------------------------------------- SEND */

/* Whether a SEND is the next part of what was offered, from blocks that exist. */
static bool is_next(const struct kvt_outgoing *outgoing, const struct kvt_command *command)
{
    uint32_t left = outgoing->block_count - outgoing->given_count;
    bool has_attachment = command->send.attachment != NULL;

    if (command->send.first != outgoing->given_count || command->send.block_count > left)
        return false;
    if (command->send.block_count == 0 && !has_attachment)
        return false;
    if (has_attachment && (command->send.attachment_bytes != outgoing->attachment_bytes ||
                           outgoing->attachment_given || command->send.block_count != left))
        return false;
    for (uint32_t i = 0; i < command->send.block_count; i++)
        if (kvt_core_block(outgoing->core, command->send.blocks[i].slot) == NULL)
            return false;
    return true;
}

static td_status_t queue_run(struct kvt_outgoing *outgoing, struct kvt_command *command)
{
    struct kvt_run *run;

    if (!is_next(outgoing, command))
        return TD_INVALID;
    run = calloc(1, sizeof *run);
    if (run == NULL)
        return TD_NO_MEMORY;
    run->blocks = command->send.blocks;
    run->first = command->send.first;
    run->count = command->send.block_count;
    run->attachment = command->send.attachment;
    run->attachment_bytes = run->attachment != NULL ? command->send.attachment_bytes : 0;
    command->send.blocks = NULL;
    command->send.attachment = NULL;
    outgoing->given_count += run->count;
    outgoing->attachment_given = outgoing->attachment_given || run->attachment != NULL;
    run->is_last = outgoing->given_count == outgoing->block_count &&
                   (outgoing->attachment_bytes == 0 || outgoing->attachment_given);
    td_list_push_back(&outgoing->runs, &run->in_outgoing);
    td_list_remove(&outgoing->in_ready);
    td_list_push_back(&outgoing->peer->ready, &outgoing->in_ready);
    return TD_OK;
}

void kvt_outgoing_run(struct kvt_outgoing *outgoing, struct kvt_command *command)
{
    struct kvt_peer *peer = outgoing->peer;
    td_status_t status;

    if (td_fsm_step(&kvt_outgoing_fsm, &outgoing->state, OUTGOING_ON_RUN) != OUTGOING_DO_QUEUE) {
        kvt_core_count(outgoing->core, KVT_STAT_COMMANDS_DROPPED);
        return;
    }
    status = queue_run(outgoing, command);
    if (status != TD_OK)
        kvt_outgoing_step(outgoing, OUTGOING_ON_FAIL, status);
    else
        kvt_peer_pump(peer);
}

/* --------------------------------------------------------------------------------------- chunks */

static struct kvt_run *first_run(const struct kvt_outgoing *outgoing)
{
    return td_container_of(td_list_first(&outgoing->runs), struct kvt_run, in_outgoing);
}

/* How many blocks of the run go into its next chunk. */
static uint32_t chunk_blocks(const struct kvt_core *core, const struct kvt_run *run)
{
    uint32_t left = run->count - run->done;
    uint64_t fit = core->config.limits.chunk_bytes / core->config.block_bytes;

    if (fit == 0)
        fit = 1;
    if (fit > KVT_CHUNK_BLOCKS_MAX)
        fit = KVT_CHUNK_BLOCKS_MAX;
    return left < fit ? left : (uint32_t)fit;
}

uint64_t kvt_outgoing_next_bytes(const struct kvt_outgoing *outgoing)
{
    const struct kvt_run *run = first_run(outgoing);
    uint32_t blocks = chunk_blocks(outgoing->core, run);
    bool ends_run = run->done + blocks == run->count;

    return (uint64_t)blocks * outgoing->core->config.block_bytes +
           (ends_run ? run->attachment_bytes : 0);
}

/* A chunk while it is put together. */
struct chunk {
    struct kvt_header header;
    struct kvt_wire_entry entries[KVT_CHUNK_BLOCKS_MAX];
    struct kvt_piece pieces[KVT_CHUNK_BLOCKS_MAX + 1];
    size_t piece_count;
};

/* Hashes that the owner of the blocks has not given; those are made here, all at once. */
static td_status_t fill_hashes(struct chunk *chunk, struct kvt_core *core,
                               const struct kvt_run *run, uint32_t count)
{
    const void *blocks[KVT_CHUNK_BLOCKS_MAX];
    struct td_u128 hashes[KVT_CHUNK_BLOCKS_MAX];
    size_t missing = 0;
    td_status_t status;

    for (uint32_t i = 0; i < count; i++)
        if (td_u128_is_zero(run->blocks[run->done + i].hash))
            blocks[missing++] = kvt_core_block(core, run->blocks[run->done + i].slot);
    status = missing > 0 ? kvt_core_hash(core, blocks, missing, hashes) : TD_OK;
    if (status != TD_OK)
        return status;
    for (uint32_t i = count; i > 0; i--)
        if (td_u128_is_zero(run->blocks[run->done + i - 1].hash))
            chunk->entries[i - 1].hash = hashes[--missing];
    return TD_OK;
}

static td_status_t chunk_fill(struct chunk *chunk, const struct kvt_outgoing *outgoing,
                              const struct kvt_run *run)
{
    struct kvt_core *core = outgoing->core;
    uint32_t count = chunk_blocks(core, run);

    chunk->header = (struct kvt_header){.sender_epoch = core->config.epoch,
                                        .receiver_epoch = outgoing->peer->epoch,
                                        .transfer = outgoing->transfer,
                                        .first = run->first + run->done,
                                        .block_count = count,
                                        .block_bytes = core->config.block_bytes};
    chunk->piece_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct kvt_block *block = &run->blocks[run->done + i];
        uint8_t *base = kvt_core_block(core, block->slot);

        chunk->entries[i] = (struct kvt_wire_entry){.key = block->key, .hash = block->hash};
        chunk->piece_count =
            kvt_pieces_add(chunk->pieces, chunk->piece_count, base, core->config.block_bytes);
    }
    if (run->done + count < run->count)
        return fill_hashes(chunk, core, run, count);
    chunk->header.is_last = run->is_last;
    if (run->attachment != NULL) {
        chunk->header.attachment_bytes = run->attachment_bytes;
        chunk->header.attachment_hash = td_hash128(run->attachment, run->attachment_bytes);
        chunk->pieces[chunk->piece_count++] =
            (struct kvt_piece){run->attachment, run->attachment_bytes};
    }
    return fill_hashes(chunk, core, run, count);
}

static td_status_t chunk_send(struct chunk *chunk, struct kvt_outgoing *outgoing,
                              struct kvt_sending *sending)
{
    struct kvt_transport *transport = outgoing->peer->transport;
    uint8_t bytes[KVT_HEADER_BYTES_MAX];
    size_t length = kvt_header_encode(&chunk->header, chunk->entries, outgoing->mac_key, bytes);

    return transport->ops->send(transport, outgoing->peer->endpoint, bytes, length, chunk->pieces,
                                chunk->piece_count, sending);
}

/* Sends the next chunk of the run and moves the run on. */
static td_status_t send_chunk(struct kvt_outgoing *outgoing, struct kvt_run *run)
{
    struct kvt_sending *sending = calloc(1, sizeof *sending);
    uint64_t bytes = kvt_outgoing_next_bytes(outgoing);
    struct chunk chunk;
    td_status_t status;

    if (sending == NULL)
        return TD_NO_MEMORY;
    td_list_init(&sending->in_outgoing);
    status = chunk_fill(&chunk, outgoing, run);
    if (status == TD_OK)
        status = chunk_send(&chunk, outgoing, sending);
    if (status != TD_OK) {
        sending_free(sending);
        return status;
    }
    *sending = (struct kvt_sending){.outgoing = outgoing,
                                    .first = chunk.header.first,
                                    .count = chunk.header.block_count,
                                    .bytes = bytes,
                                    .is_last = chunk.header.is_last};
    td_list_push_back(&outgoing->sendings, &sending->in_outgoing);
    outgoing->peer->in_flight_bytes += bytes;
    kvt_core_count(outgoing->core, KVT_STAT_SENDING);
    run->done += sending->count;
    if (run->done == run->count) {
        sending->attachment = run->attachment;
        run->attachment = NULL;
        run_free(run);
    }
    return TD_OK;
}

void kvt_outgoing_send_next(struct kvt_outgoing *outgoing)
{
    td_status_t status = send_chunk(outgoing, first_run(outgoing));

    if (status != TD_OK)
        kvt_outgoing_step(outgoing, OUTGOING_ON_FAIL, status);
    else if (!td_list_empty(&outgoing->runs))
        td_list_push_back(&outgoing->peer->ready, &outgoing->in_ready);
}

/* The chunk has left: the owner may use its blocks again. */
static void count_sent(struct kvt_outgoing *outgoing, const struct kvt_sending *sending)
{
    struct kvt_event event = {
        .kind = KVT_SENT,
        .transfer = outgoing->transfer,
        .peer = outgoing->peer->epoch,
        .is_sender = true,
        .sent = {.first = sending->first, .count = sending->count, .bytes = sending->bytes}};

    outgoing->sent_count += sending->count;
    outgoing->last_sent = outgoing->last_sent || sending->is_last;
    kvt_core_count(outgoing->core, KVT_STAT_CHUNKS_SENT);
    kvt_stats_add(&outgoing->core->stats, KVT_STAT_BYTES_SENT, sending->bytes);
    if (outgoing->peer->transport->is_staged)
        kvt_stats_add(&outgoing->core->stats, KVT_STAT_BYTES_STAGED, sending->bytes);
    kvt_core_emit(outgoing->core, &event);
}

/* What the end of a send means for its transfer. */
static void settle(struct kvt_outgoing *outgoing, bool is_sending, td_status_t status)
{
    if (outgoing->state == OUTGOING_QUARANTINED) {
        if (td_list_empty(&outgoing->sendings)) {
            kvt_core_uncount(outgoing->core, KVT_STAT_QUARANTINED);
            kvt_outgoing_free(outgoing);
        }
    } else if (is_sending && status != TD_OK) {
        kvt_outgoing_step(outgoing, OUTGOING_ON_FAIL, status);
    } else if (is_sending && outgoing->sent_count == outgoing->block_count && outgoing->last_sent) {
        kvt_outgoing_step(outgoing, OUTGOING_ON_COMPLETE, TD_OK);
    } else if (td_list_empty(&outgoing->sendings)) {
        kvt_outgoing_step(outgoing, OUTGOING_ON_IDLE, TD_OK);
    }
}

void kvt_outgoing_sent(void *tag, td_status_t status)
{
    struct kvt_sending *sending = tag;
    struct kvt_outgoing *outgoing = sending->outgoing;
    struct kvt_peer *peer = outgoing->peer;
    bool is_sending = outgoing->state == OUTGOING_SENDING;

    kvt_core_uncount(outgoing->core, KVT_STAT_SENDING);
    peer->in_flight_bytes -= sending->bytes;
    if (!is_sending)
        kvt_core_count(outgoing->core, KVT_STAT_LATE);
    else if (status == TD_OK)
        count_sent(outgoing, sending);
    sending_free(sending);
    kvt_peer_hold(peer); /* the transfer may have been its last user */
    settle(outgoing, is_sending, status);
    kvt_peer_pump(peer);
    kvt_peer_release(peer);
}
