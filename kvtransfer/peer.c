/* peer.c: connections to peers, see peer.h. */
#include "kvtransfer/peer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/incoming.h"
#include "kvtransfer/outgoing.h"
#include "lib/base/log.h"

TD_FSM_DEFINE(kvt_peer, PEER, "A connection to one incarnation of another worker.");

struct kvt_peer *kvt_peer_find(const struct kvt_core *core, uint64_t epoch)
{
    return td_map_find(&core->peers, td_u128_from_u64(epoch));
}

void kvt_peer_hold(struct kvt_peer *peer)
{
    peer->users++;
}

void kvt_peer_release(struct kvt_peer *peer)
{
    assert(peer->users > 0);
    peer->users--;
    if (peer->users == 0 && peer->state == PEER_LOST)
        kvt_peer_free(peer);
}

void kvt_peer_free(struct kvt_peer *peer)
{
    assert(peer->users == 0);
    td_timer_cancel(&peer->core->timers, &peer->timer);
    free(peer);
}

static void emit_lost(struct kvt_core *core, uint64_t epoch, td_status_t status)
{
    struct kvt_event event = {.kind = KVT_PEER_LOST, .peer = epoch, .status = status};

    kvt_core_count(core, KVT_STAT_PEERS_LOST);
    kvt_core_emit(core, &event);
}

static void welcome(struct kvt_peer *peer)
{
    struct kvt_event event = {.kind = KVT_PEER_UP, .peer = peer->epoch};

    td_timer_cancel(&peer->core->timers, &peer->timer);
    peer->transport->ops->lanes(peer->transport, peer->endpoint, event.peer_up.lanes);
    td_log(TD_LOG_INFO, "kvtransfer", "peer connected epoch %016llx lanes %s",
           (unsigned long long)peer->epoch, event.peer_up.lanes);
    kvt_core_emit(peer->core, &event);
    kvt_peer_pump(peer);
}

static void fail_transfers(struct kvt_peer *peer, td_status_t status)
{
    td_list_for_each(node, &peer->incoming)
    {
        struct kvt_incoming *incoming = td_container_of(node, struct kvt_incoming, in_peer);

        kvt_incoming_step(incoming, INCOMING_ON_FAIL, status);
    }
    td_list_for_each(node, &peer->outgoing)
    {
        struct kvt_outgoing *outgoing = td_container_of(node, struct kvt_outgoing, in_peer);

        kvt_outgoing_step(outgoing, OUTGOING_ON_FAIL, status);
    }
}

static void lose(struct kvt_peer *peer, td_status_t status)
{
    struct kvt_core *core = peer->core;

    td_log(TD_LOG_INFO, "kvtransfer", "peer disconnected epoch %016llx why %s",
           (unsigned long long)peer->epoch, td_status_name(status));
    td_timer_cancel(&core->timers, &peer->timer);
    peer->transport->ops->disconnect(peer->transport, peer->endpoint, true);
    peer->endpoint = NULL;
    td_map_remove(&core->peers, td_u128_from_u64(peer->epoch));
    kvt_core_uncount(core, KVT_STAT_PEERS);
    emit_lost(core, peer->epoch, status);
    kvt_peer_hold(peer); /* the last of its transfers may end here */
    fail_transfers(peer, status);
    kvt_peer_release(peer);
}

void kvt_peer_step(struct kvt_peer *peer, enum kvt_peer_event event, td_status_t status)
{
    switch (td_fsm_step(&kvt_peer_fsm, &peer->state, (uint8_t)event)) {
    case PEER_DO_WELCOME: welcome(peer); break;
    case PEER_DO_LOSE: lose(peer, status); break;
    default: break;
    }
}

static void on_deadline(struct td_timer *timer, uint64_t now_ns)
{
    struct kvt_peer *peer = td_container_of(timer, struct kvt_peer, timer);

    (void)now_ns;
    kvt_peer_step(peer, PEER_ON_DEADLINE, TD_TIMEOUT);
}

static td_status_t peer_new(struct kvt_core *core, const struct kvt_command *command,
                            struct kvt_peer **peer_out)
{
    const char *name = command->peer_add.transport;
    struct kvt_transport *transport;
    struct kvt_peer *peer;
    td_status_t status;

    if (core->is_stopping)
        return TD_CANCELED;
    if (memchr(name, '\0', KVT_TRANSPORT_NAME_BYTES) == NULL)
        return TD_INVALID;
    transport = kvt_core_transport(core, name);
    if (transport == NULL)
        return TD_UNSUPPORTED;
    peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return TD_NO_MEMORY;
    peer->core = core;
    peer->epoch = command->peer;
    peer->state = PEER_CONNECTING;
    peer->transport = transport;
    td_timer_init(&peer->timer, on_deadline);
    td_list_init(&peer->incoming);
    td_list_init(&peer->outgoing);
    td_list_init(&peer->ready);
    status = transport->ops->connect(transport, command->peer_add.address,
                                     command->peer_add.address_bytes, peer, &peer->endpoint);
    if (status != TD_OK) {
        free(peer);
        return status;
    }
    *peer_out = peer;
    return TD_OK;
}

void kvt_peer_open(struct kvt_core *core, struct kvt_command *command)
{
    struct kvt_peer *peer = NULL;
    td_status_t status;

    if (kvt_peer_find(core, command->peer) != NULL) {
        kvt_core_count(core, KVT_STAT_COMMANDS_DROPPED); /* its own PEER_LOST is still to come */
        return;
    }
    status = peer_new(core, command, &peer);
    if (status == TD_OK) {
        status = td_map_insert(&core->peers, td_u128_from_u64(command->peer), peer);
        if (status != TD_OK) {
            peer->transport->ops->disconnect(peer->transport, peer->endpoint, true);
            free(peer);
        }
    }
    if (status != TD_OK) {
        td_log(TD_LOG_WARN, "kvtransfer", "peer refused epoch %016llx why %s",
               (unsigned long long)command->peer, td_status_name(status));
        emit_lost(core, command->peer, status);
        return;
    }
    kvt_core_count(core, KVT_STAT_PEERS);
    td_timer_set(&core->timers, &peer->timer, kvt_core_after(core, core->config.limits.connect_ms));
}

void kvt_peer_pump(struct kvt_peer *peer)
{
    struct td_list *node;

    while (peer->state == PEER_UP && (node = td_list_first(&peer->ready)) != NULL) {
        struct kvt_outgoing *outgoing = td_container_of(node, struct kvt_outgoing, in_ready);
        uint64_t bytes = kvt_outgoing_next_bytes(outgoing);

        if (peer->in_flight_bytes > 0 &&
            peer->in_flight_bytes + bytes > peer->core->config.limits.window_bytes)
            return;
        td_list_remove(node);
        kvt_outgoing_send_next(outgoing); /* queues it again, at the end, if there is more */
    }
}
