/* core.c: commands, the transports' callbacks and the life of the transfer core, see core.h. */
#include "kvtransfer/core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/incoming.h"
#include "kvtransfer/outgoing.h"
#include "kvtransfer/peer.h"
#include "kvtransfer/state.h"
#include "kvtransfer/wire.h"

struct kvt_limits kvt_limits_default(void)
{
    return (struct kvt_limits){
        .peers_max = 256,
        .incoming_max = 4096,
        .outgoing_max = 4096,
        .blocks_max = 65536,
        .attachment_bytes_max = KVT_ATTACHMENT_BYTES_MAX,
        .chunk_bytes = 4 << 20,   /* stays in a last-level cache until it is verified */
        .window_bytes = 16 << 20, /* four chunks: one landing, one verified, two on the way */
        .connect_ms = 5000,
        .stop_ms = 3000,
        .cut_ms = 3000,
    };
}

/* --------------------------------------------------------------------------- transport callbacks */

static void on_connected(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint)
{
    (void)impl;
    (void)transport;
    kvt_peer_step(endpoint->context, PEER_ON_CONNECTED, TD_OK);
}

static void on_lost(void *impl, struct kvt_transport *transport, struct kvt_endpoint *endpoint,
                    td_status_t status)
{
    (void)impl;
    (void)transport;
    kvt_peer_step(endpoint->context, PEER_ON_GONE, status);
}

static void on_received(void *impl, struct kvt_transport *transport, void *tag, td_status_t status)
{
    (void)impl;
    (void)transport;
    kvt_incoming_received(tag, status);
}

static void on_sent(void *impl, struct kvt_transport *transport, void *tag, td_status_t status)
{
    (void)impl;
    (void)transport;
    kvt_outgoing_sent(tag, status);
}

/* Looks again after the commands that wait: the EXPECT may be among them. */
static struct kvt_incoming *find_incoming(struct kvt_core *core, struct td_u128 transfer)
{
    struct kvt_incoming *incoming = kvt_incoming_find(core, transfer);

    if (incoming != NULL || core->config.inbox.drain == NULL)
        return incoming;
    core->config.inbox.drain(core->config.inbox.impl);
    return kvt_incoming_find(core, transfer);
}

/* Finds the transfer of a chunk. Everything that is checked here is checked before its MAC. */
static struct kvt_incoming *find_target(struct kvt_core *core, struct kvt_chunk_arrival *chunk,
                                        enum kvt_stat *reason_out)
{
    struct kvt_incoming *incoming;

    *reason_out = KVT_STAT_REFUSED_MALFORMED;
    if (kvt_header_decode(chunk->bytes, chunk->length, &chunk->header) != TD_OK)
        return NULL;
    *reason_out = KVT_STAT_REFUSED_STALE;
    if (chunk->header.receiver_epoch != core->config.epoch)
        return NULL;
    incoming = find_incoming(core, chunk->header.transfer);
    if (incoming == NULL) {
        *reason_out = KVT_STAT_REFUSED_UNKNOWN;
        return NULL;
    }
    /* Closing a peer by force cuts off its own transport only. */
    return incoming->peer->epoch == chunk->header.sender_epoch &&
                   incoming->peer->transport == chunk->transport
               ? incoming
               : NULL;
}

static void on_arrived(void *impl, struct kvt_transport *transport, const uint8_t *header,
                       size_t header_bytes, uint64_t payload_bytes, struct kvt_arrival *arrival)
{
    struct kvt_core *core = impl;
    struct kvt_chunk_arrival chunk = {.transport = transport,
                                      .arrival = arrival,
                                      .bytes = header,
                                      .length = header_bytes,
                                      .payload_bytes = payload_bytes};
    enum kvt_stat reason;
    struct kvt_incoming *incoming = find_target(core, &chunk, &reason);

    if (incoming != NULL) {
        kvt_incoming_arrive(incoming, &chunk);
        return;
    }
    kvt_core_count(core, reason);
    transport->ops->reject(transport, arrival, TD_REFUSED);
}

/* ------------------------------------------------------------------------------- open and close */

static td_status_t check_config(const struct kvt_core_config *config, struct td_error *error)
{
    const struct kvt_limits *limits = &config->limits;

    if (config->epoch == 0)
        return td_fail(error, TD_INVALID, "epoch: must not be 0");
    if (config->block_bytes == 0 || config->block_bytes > config->memory.bytes)
        return td_fail(error, TD_INVALID, "block_bytes: %zu does not fit into a pool of %zu",
                       config->block_bytes, config->memory.bytes);
    if (limits->attachment_bytes_max > KVT_ATTACHMENT_BYTES_MAX)
        return td_fail(error, TD_INVALID, "attachment_bytes_max: at most %d",
                       KVT_ATTACHMENT_BYTES_MAX);
    if (limits->peers_max == 0 || limits->incoming_max == 0 || limits->outgoing_max == 0 ||
        limits->blocks_max == 0 || limits->chunk_bytes == 0 || limits->window_bytes == 0)
        return td_fail(error, TD_INVALID, "limits: none of the maxima may be 0");
    return TD_OK;
}

td_status_t kvt_core_open(const struct kvt_core_config *config, struct kvt_core **core_out,
                          struct td_error *error)
{
    td_status_t status = check_config(config, error);
    struct kvt_core *core;

    if (status != TD_OK)
        return status;
    core = calloc(1, sizeof *core);
    if (core == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the transfer core");
    core->config = *config;
    td_timers_init(&core->timers);
    td_map_init(&core->peers, config->limits.peers_max);
    td_map_init(&core->incoming, config->limits.incoming_max);
    td_map_init(&core->outgoing, config->limits.outgoing_max);
    td_list_init(&core->ghosts_in);
    td_list_init(&core->ghosts_out);
    *core_out = core;
    return TD_OK;
}

td_status_t kvt_core_add_transport(struct kvt_core *core, struct kvt_transport *transport)
{
    if (kvt_core_transport(core, transport->ops->name) != NULL)
        return TD_STATE;
    if (core->transport_count == KVT_TRANSPORTS_MAX)
        return TD_LIMIT;
    transport->sink = (struct kvt_transport_sink){.impl = core,
                                                  .connected = on_connected,
                                                  .arrived = on_arrived,
                                                  .received = on_received,
                                                  .sent = on_sent,
                                                  .lost = on_lost};
    core->transports[core->transport_count++] = transport;
    return TD_OK;
}

struct kvt_transport *kvt_core_transport(const struct kvt_core *core, const char *name)
{
    for (size_t i = 0; i < core->transport_count; i++)
        if (strcmp(core->transports[i]->ops->name, name) == 0)
            return core->transports[i];
    return NULL;
}

static void free_transfers(struct kvt_core *core)
{
    struct kvt_incoming *incoming;
    struct kvt_outgoing *outgoing;
    size_t cursor = 0;

    while ((incoming = td_map_next(&core->incoming, &cursor)) != NULL)
        kvt_incoming_free(incoming);
    cursor = 0;
    while ((outgoing = td_map_next(&core->outgoing, &cursor)) != NULL)
        kvt_outgoing_free(outgoing);
    td_list_for_each(node, &core->ghosts_in)
        kvt_incoming_free(td_container_of(node, struct kvt_incoming, in_ghosts));
    td_list_for_each(node, &core->ghosts_out)
        kvt_outgoing_free(td_container_of(node, struct kvt_outgoing, in_ghosts));
}

void kvt_core_close(struct kvt_core *core)
{
    struct kvt_peer *peer;
    size_t cursor = 0;

    if (core == NULL)
        return;
    for (size_t i = 0; i < core->transport_count; i++)
        core->transports[i]->ops->close(core->transports[i]);
    free_transfers(core);
    while ((peer = td_map_next(&core->peers, &cursor)) != NULL)
        kvt_peer_free(peer);
    td_map_fini(&core->peers);
    td_map_fini(&core->incoming);
    td_map_fini(&core->outgoing);
    free(core);
}

/* ------------------------------------------------------------------------------------- commands */

static void on_peer_command(struct kvt_core *core, struct kvt_command *command)
{
    struct kvt_peer *peer = kvt_peer_find(core, command->peer);

    if (command->kind == KVT_PEER_ADD)
        kvt_peer_open(core, command);
    else if (peer != NULL)
        kvt_peer_step(peer, PEER_ON_DROP, TD_CANCELED);
    else
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED);
}

static void on_incoming_command(struct kvt_core *core, struct kvt_command *command)
{
    struct kvt_incoming *incoming = kvt_incoming_find(core, command->transfer);

    if (command->kind == KVT_EXPECT)
        kvt_incoming_open(core, command);
    else if (incoming != NULL)
        kvt_incoming_step(incoming, INCOMING_ON_ABANDON, TD_CANCELED);
    else
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED);
}

static void on_outgoing_command(struct kvt_core *core, struct kvt_command *command)
{
    struct kvt_outgoing *outgoing = kvt_outgoing_find(core, command->transfer, command->peer);

    if (command->kind == KVT_OFFER)
        kvt_outgoing_open(core, command);
    else if (outgoing == NULL)
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED);
    else if (command->kind == KVT_SEND)
        kvt_outgoing_run(outgoing, command);
    else
        kvt_outgoing_step(outgoing, OUTGOING_ON_STOP, TD_CANCELED);
}

void kvt_core_command(struct kvt_core *core, struct kvt_command *command)
{
    switch (command->kind) {
    case KVT_PEER_ADD:
    case KVT_PEER_DROP: on_peer_command(core, command); break;
    case KVT_EXPECT:
    case KVT_ABANDON: on_incoming_command(core, command); break;
    case KVT_OFFER:
    case KVT_SEND:
    case KVT_STOP: on_outgoing_command(core, command); break;
    }
    kvt_command_fini(command);
}

/* -------------------------------------------------------------------------------------- driving */

bool kvt_core_progress(struct kvt_core *core)
{
    bool worked = false;

    for (size_t i = 0; i < core->transport_count; i++)
        worked = core->transports[i]->ops->progress(core->transports[i]) || worked;
    return worked;
}

td_status_t kvt_core_arm(struct kvt_core *core)
{
    for (size_t i = 0; i < core->transport_count; i++) {
        td_status_t status = core->transports[i]->ops->arm(core->transports[i]);

        if (status != TD_OK)
            return status;
    }
    return TD_OK;
}

uint64_t kvt_core_next_deadline(const struct kvt_core *core)
{
    return td_timers_next(&core->timers);
}

void kvt_core_tick(struct kvt_core *core)
{
    td_timers_run(&core->timers, kvt_core_now(core));
}

bool kvt_core_is_quiet(const struct kvt_core *core)
{
    return core->incoming.count == 0 && core->outgoing.count == 0;
}

/*
 * Stepping a transfer may remove it from its map, which must not happen while the map is iterated:
 * the peers' lists are walked instead. Every live transfer is in the list of a peer in the map, or
 * its peer was lost and it is stopping already.
 */
void kvt_core_stop(struct kvt_core *core)
{
    struct kvt_peer *peer;
    size_t cursor = 0;

    core->is_stopping = true;
    while ((peer = td_map_next(&core->peers, &cursor)) != NULL) {
        td_list_for_each(node, &peer->incoming) kvt_incoming_step(
            td_container_of(node, struct kvt_incoming, in_peer), INCOMING_ON_ABANDON, TD_CANCELED);
        td_list_for_each(node, &peer->outgoing) kvt_outgoing_step(
            td_container_of(node, struct kvt_outgoing, in_peer), OUTGOING_ON_STOP, TD_CANCELED);
    }
}

const struct kvt_stats *kvt_core_stats(const struct kvt_core *core)
{
    return &core->stats;
}
