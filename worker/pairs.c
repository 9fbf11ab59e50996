/*
 * pairs.c: handshakes in both directions, and the set of peers the transfer core knows. See pairs.h.
 */
#include "worker/pairs.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/internal.h"

TD_FSM_DEFINE(pair, PAIR, "Our side of a handshake with a prefill worker.");

/* --- the set of peers that the transfer core knows --- */

struct worker_peer *peer_find(struct worker_core *core, uint64_t epoch)
{
    td_list_for_each(node, &core->peers)
    {
        struct worker_peer *peer = td_container_of(node, struct worker_peer, node);

        if (peer->epoch == epoch)
            return peer;
    }
    return NULL;
}

static void peer_forget(struct worker_core *core, struct worker_peer *peer)
{
    td_list_remove(&peer->node);
    core->peer_count--;
    free(peer);
}

static void peer_drop(struct worker_core *core, uint64_t epoch)
{
    struct worker_peer *peer = peer_find(core, epoch);
    struct kvt_command command = {.kind = KVT_PEER_DROP, .peer = epoch};

    if (peer == NULL || peer->dropped)
        return;
    peer->dropped = true;
    core->env.kvt(core->env.impl, &command);
}

static struct worker_peer *peer_new(struct worker_core *core, uint64_t epoch)
{
    struct worker_peer *peer;

    if (core->peer_count >= core->counts.pairs_max)
        return NULL;
    peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        return NULL;
    peer->epoch = epoch;
    td_list_push_back(&core->peers, &peer->node);
    core->peer_count++;
    return peer;
}

/* Tells the transfer core of a peer; one of that epoch which it knew already is dropped first. */
static td_status_t peer_add(struct worker_core *core, uint64_t epoch, const char *transport,
                            const uint8_t *address, size_t address_bytes)
{
    struct kvt_command command = {.kind = KVT_PEER_ADD, .peer = epoch};
    struct worker_peer *peer;
    uint8_t *copy = malloc(address_bytes > 0 ? address_bytes : 1);

    if (copy == NULL)
        return TD_NO_MEMORY;
    peer_drop(core, epoch);
    peer = peer_find(core, epoch);
    if (peer == NULL)
        peer = peer_new(core, epoch);
    if (peer == NULL) {
        free(copy);
        return TD_LIMIT;
    }
    if (address_bytes > 0)
        memcpy(copy, address, address_bytes);
    peer->dropped = false;
    peer->lost_owed++;
    command.peer_add.address = copy;
    command.peer_add.address_bytes = address_bytes;
    snprintf(command.peer_add.transport, sizeof command.peer_add.transport, "%s", transport);
    core->env.kvt(core->env.impl, &command);
    return TD_OK;
}

/* --- comparing identities --- */

#define DIFFERS(field, a, b)                                            \
    do {                                                                \
        if ((a) != (b)) {                                               \
            snprintf(reason, WORKER_REASON_BYTES, "%s differs", field); \
            return false;                                               \
        }                                                               \
    } while (0)

#define TEXT_DIFFERS(field, a, b)                                                              \
    do {                                                                                       \
        if (strcmp(a, b) != 0) {                                                               \
            snprintf(reason, WORKER_REASON_BYTES, "%s differs: %.48s and %.48s", field, a, b); \
            return false;                                                                      \
        }                                                                                      \
    } while (0)

static bool content_matches(const Td__ContentIdentity *ours, const Td__ContentIdentity *theirs,
                            char reason[static WORKER_REASON_BYTES])
{
    if (theirs == NULL) {
        snprintf(reason, WORKER_REASON_BYTES, "content is missing");
        return false;
    }
    DIFFERS("weights", ours->weights_hi, theirs->weights_hi);
    DIFFERS("weights", ours->weights_lo, theirs->weights_lo);
    TEXT_DIFFERS("rope", ours->rope, theirs->rope);
    TEXT_DIFFERS("kv_dtype", ours->kv_dtype, theirs->kv_dtype);
    TEXT_DIFFERS("numerics", ours->numerics, theirs->numerics);
    TEXT_DIFFERS("adapter", ours->adapter, theirs->adapter);
    DIFFERS("content_id", ours->content_id_hi, theirs->content_id_hi);
    DIFFERS("content_id", ours->content_id_lo, theirs->content_id_lo);
    return true;
}

static bool geometry_matches(const Td__Geometry *ours, const Td__Geometry *theirs,
                             char reason[static WORKER_REASON_BYTES])
{
    if (theirs == NULL) {
        snprintf(reason, WORKER_REASON_BYTES, "geometry is missing");
        return false;
    }
    DIFFERS("block_tokens", ours->block_tokens, theirs->block_tokens);
    DIFFERS("layers", ours->layers, theirs->layers);
    DIFFERS("kv_heads", ours->kv_heads, theirs->kv_heads);
    DIFFERS("head_dim", ours->head_dim, theirs->head_dim);
    DIFFERS("block_bytes", ours->block_bytes, theirs->block_bytes);
    DIFFERS("shards", ours->shards, theirs->shards);
    DIFFERS("hidden", ours->hidden, theirs->hidden);
    return true;
}

static bool identities_match(struct worker_core *core, const Td__ContentIdentity *content,
                             const Td__Geometry *geometry, char reason[static WORKER_REASON_BYTES])
{
    Td__ContentIdentity our_content;
    Td__Geometry our_geometry;

    worker_content_fill(core, &our_content);
    worker_geometry_fill(core, &our_geometry);
    return content_matches(&our_content, content, reason) &&
           geometry_matches(&our_geometry, geometry, reason);
}

/* "map" and "maphost" reach only within one host, or one group of GPUs; all others reach everywhere. */
static bool transport_reaches(const struct worker_transport *ours,
                              const Td__TransportAddress *theirs)
{
    return strcmp(ours->name, theirs->name) == 0 &&
           (strncmp(ours->name, "map", 3) != 0 || strcmp(ours->host, theirs->host) == 0);
}

static bool address_is_sane(const Td__TransportAddress *address)
{
    return address->blob.len <= KVT_ADDRESS_BYTES_MAX;
}

/* --- our side of a handshake --- */

/* Whether there is another transport than the one that did not connect, which is left out from now on. */
static bool leave_out(struct worker_pair *pair)
{
    const struct worker_identity *identity = &pair->core->identity;
    bool has_more = false;

    for (uint32_t i = 0; i < identity->transport_count; i++) {
        if (strcmp(identity->transports[i].name, pair->transport) == 0)
            pair->is_left_out[i] = true;
        has_more = has_more || !pair->is_left_out[i];
    }
    return has_more;
}

/* Where the last way did not connect, the flag that left no other is named: who chose it can choose again. */
static enum pair_event on_not_joined(struct worker_pair *pair, const char *why,
                                     enum pair_event last)
{
    if (leave_out(pair))
        return PAIR_ON_PEER_LOST_MORE;
    snprintf(pair->reason, sizeof pair->reason,
             "KV does not connect by %s (%s), and --kv-transport leaves no other way",
             pair->transport, why);
    return last;
}

/* A transport that hangs while it joins is left out as one that fails; what it says after that is of no interest. */
static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_pair *pair = td_container_of(timer, struct worker_pair, timer);
    enum pair_event event = PAIR_ON_TIMEOUT;

    (void)now_ns;
    if (pair->state != PAIR_FAILED)
        snprintf(pair->reason, sizeof pair->reason, "the handshake took too long");
    if (pair->state == PAIR_JOINING) {
        peer_drop(pair->core, pair->epoch);
        event = on_not_joined(pair, td_status_text(TD_TIMEOUT), event);
    }
    pair_step(pair, event);
}

static void address_fill(const struct worker_transport *transport, Td__TransportAddress *out)
{
    td__transport_address__init(out);
    out->name = (char *)(uintptr_t)transport->name;
    out->library = (char *)(uintptr_t)transport->library;
    out->host = (char *)(uintptr_t)transport->host;
    out->blob.data = transport->address;
    out->blob.len = transport->address_bytes;
}

static void call(struct worker_pair *pair)
{
    struct worker_core *core = pair->core;
    const struct worker_identity *identity = &core->identity;
    Td__PairRequest request = TD__PAIR_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;
    Td__ContentIdentity content;
    Td__Geometry geometry;
    Td__TransportAddress addresses[WORKER_TRANSPORTS_MAX];
    Td__TransportAddress *pointers[WORKER_TRANSPORTS_MAX];
    uint32_t count = 0;

    versions.min = versions.max = WORKER_PROTOCOL_VERSION;
    worker_content_fill(core, &content);
    worker_geometry_fill(core, &geometry);
    for (uint32_t i = 0; i < identity->transport_count; i++) {
        if (pair->is_left_out[i])
            continue;
        address_fill(&identity->transports[i], &addresses[count]);
        pointers[count] = &addresses[count];
        count++;
    }
    request.versions = &versions;
    request.role = core->policy.role;
    request.epoch = identity->epoch;
    request.content = &content;
    request.geometry = &geometry;
    request.transports = pointers;
    request.n_transports = count;
    request.peer_epoch = pair->epoch; /* what did not connect may do so with the next incarnation */
    core->env.pair(core->env.impl, pair->number, pair->target, &request, core->times.pair_ms);
}

struct worker_pair *pair_for(struct worker_core *core, const char *target)
{
    struct worker_pair *pair;

    td_list_for_each(node, &core->pairs)
    {
        pair = td_container_of(node, struct worker_pair, node);
        if (strcmp(pair->target, target) == 0)
            return pair;
    }
    if (core->pair_count >= core->counts.pairs_max)
        return NULL;
    pair = calloc(1, sizeof *pair);
    if (pair == NULL)
        return NULL;
    pair->core = core;
    pair->number = worker_number_next(core);
    pair->state = PAIR_CALLING;
    snprintf(pair->target, sizeof pair->target, "%s", target);
    td_list_init(&pair->waiting);
    td_timer_init(&pair->timer, on_timer);
    worker_timer_after(core, &pair->timer, core->times.pair_ms);
    td_list_push_back(&core->pairs, &pair->node);
    core->pair_count++;
    call(pair);
    return pair;
}

static void pair_free(struct worker_pair *pair)
{
    assert(td_list_empty(&pair->waiting));
    td_timer_cancel(&pair->core->timers, &pair->timer);
    td_list_remove(&pair->node);
    pair->core->pair_count--;
    free(pair->address);
    free(pair);
}

void pairs_close(struct worker_core *core)
{
    td_list_for_each(pair_node, &core->pairs)
        pair_free(td_container_of(pair_node, struct worker_pair, node));
    td_list_for_each(peer_node, &core->peers)
        peer_forget(core, td_container_of(peer_node, struct worker_peer, node));
}

void pair_wait(struct worker_pair *pair, struct worker_import *import)
{
    if (pair->state == PAIR_UP)
        import_on_pair_up(import, pair);
    else if (pair->state == PAIR_FAILED)
        import_on_pair_failed(import, pair->reason);
    else
        td_list_push_back(&pair->waiting, &import->pair_node);
}

static void join(struct worker_pair *pair)
{
    struct worker_core *core = pair->core;
    td_status_t status;

    worker_timer_after(core, &pair->timer, core->times.pair_ms);
    status = peer_add(core, pair->epoch, pair->transport, pair->address, pair->address_bytes);
    free(pair->address);
    pair->address = NULL;
    if (status != TD_OK) {
        snprintf(pair->reason, sizeof pair->reason, "%s", td_status_text(status));
        pair_step(pair, PAIR_ON_PEER_LOST);
    }
}

static void recall(struct worker_pair *pair)
{
    struct worker_core *core = pair->core;

    td_log(TD_LOG_WARN, "pairs", "KV does not go by %s, trying another way: %s peer %s",
           pair->transport, pair->reason, pair->target);
    pair->number = worker_number_next(core);
    worker_timer_after(core, &pair->timer, core->times.pair_ms);
    call(pair);
}

/* The imports may end, and ask for other pairs, but this pair stays while it is UP or FAILED. */
static void wake(struct worker_pair *pair)
{
    struct td_list *node;

    td_timer_cancel(&pair->core->timers, &pair->timer);
    while ((node = td_list_first(&pair->waiting)) != NULL)
        import_on_pair_up(td_container_of(node, struct worker_import, pair_node), pair);
}

static void fail(struct worker_pair *pair)
{
    struct worker_core *core = pair->core;
    struct td_list *node;

    worker_timer_after(core, &pair->timer, core->times.pair_retry_ms);
    td_log(TD_LOG_WARN, "pairs", "no pair with a prefill worker: %s peer %s", pair->reason,
           pair->target);
    while ((node = td_list_first(&pair->waiting)) != NULL)
        import_on_pair_failed(td_container_of(node, struct worker_import, pair_node), pair->reason);
}

void pair_step(struct worker_pair *pair, enum pair_event event)
{
    uint8_t action = td_fsm_step(&pair_fsm, &pair->state, (uint8_t)event);

    switch (action) {
    case PAIR_DO_IGNORE: break;
    case PAIR_DO_JOIN: join(pair); break;
    case PAIR_DO_RECALL: recall(pair); break;
    case PAIR_DO_WAKE: wake(pair); break;
    case PAIR_DO_FAIL: fail(pair); break;
    case PAIR_DO_LEAVE:
        peer_drop(pair->core, pair->epoch);
        fail(pair);
        break;
    case PAIR_DO_FREE: pair_free(pair); break;
    case PAIR_DO_LEAVE_FREE:
        peer_drop(pair->core, pair->epoch);
        pair_free(pair);
        break;
    default: assert(false && "unknown action");
    }
}

void pair_stale(struct worker_core *core, const char *target, uint64_t epoch)
{
    td_list_for_each(node, &core->pairs)
    {
        struct worker_pair *pair = td_container_of(node, struct worker_pair, node);

        if (strcmp(pair->target, target) == 0 && pair->epoch == epoch) {
            pair_step(pair, PAIR_ON_DROP);
            return;
        }
    }
}

/* --- answers --- */

/* Checks a reply and takes the peer's address from it; false with the reason filled. */
static bool take_reply(struct worker_pair *pair, const Td__PairReply *reply)
{
    const struct worker_identity *identity = &pair->core->identity;
    const Td__TransportAddress *address = reply->address;
    bool reaches = false;

    if (reply->refused) {
        snprintf(pair->reason, sizeof pair->reason, "it refused: %.120s", reply->reason);
        return false;
    }
    if (reply->version != WORKER_PROTOCOL_VERSION || reply->epoch == 0 || address == NULL ||
        !address_is_sane(address)) {
        snprintf(pair->reason, sizeof pair->reason, "its reply is malformed");
        return false;
    }
    if (!identities_match(pair->core, reply->content, reply->geometry, pair->reason))
        return false;
    for (uint32_t i = 0; i < identity->transport_count; i++)
        reaches = reaches ||
                  (!pair->is_left_out[i] && transport_reaches(&identity->transports[i], address));
    if (!reaches || strlen(reply->transport) >= sizeof pair->transport ||
        strcmp(reply->transport, address->name) != 0) {
        snprintf(pair->reason, sizeof pair->reason, "it chose a transport that we did not offer");
        return false;
    }
    pair->address = malloc(address->blob.len > 0 ? address->blob.len : 1);
    if (pair->address == NULL) {
        snprintf(pair->reason, sizeof pair->reason, "out of memory");
        return false;
    }
    if (address->blob.len > 0)
        memcpy(pair->address, address->blob.data, address->blob.len);
    pair->address_bytes = address->blob.len;
    pair->epoch = reply->epoch;
    snprintf(pair->transport, sizeof pair->transport, "%s", reply->transport);
    return true;
}

static struct worker_pair *pair_find(struct worker_core *core, uint64_t number)
{
    td_list_for_each(node, &core->pairs)
    {
        struct worker_pair *pair = td_container_of(node, struct worker_pair, node);

        if (pair->number == number)
            return pair;
    }
    return NULL;
}

void worker_core_on_pair(struct worker_core *core, uint64_t number, const Td__PairReply *reply,
                         td_status_t status, uint64_t now_ns)
{
    struct worker_pair *pair = pair_find(core, number);

    core->now_ns = now_ns;
    if (pair == NULL || pair->state != PAIR_CALLING)
        return; /* the handshake's deadline came first */
    if (reply == NULL) {
        core->counters.pairs_failed++;
        snprintf(pair->reason, sizeof pair->reason, "%s", td_status_text(status));
        pair_step(pair, PAIR_ON_CALL_FAILED);
    } else if (take_reply(pair, reply)) {
        pair_step(pair, PAIR_ON_REPLIED);
    } else {
        core->counters.pairs_refused++;
        pair_step(pair, PAIR_ON_REFUSED);
    }
}

/* Whether the news is about the newest PEER_ADD of its epoch; forgets a peer that has gone. */
static bool news_is_current(struct worker_core *core, struct worker_peer *peer,
                            enum kvt_event_kind kind)
{
    bool current = peer->lost_owed == 1 && !peer->dropped;

    if (kind == KVT_PEER_LOST) {
        peer->lost_owed--;
        if (current)
            core->counters.peers_lost++;
        if (peer->lost_owed == 0)
            peer_forget(core, peer);
    }
    return current;
}

static enum pair_event on_peer_lost(struct worker_pair *pair, td_status_t status)
{
    const char *why = td_status_text(status);

    snprintf(pair->reason, sizeof pair->reason, "the transport lost it: %s", why);
    return pair->state == PAIR_JOINING ? on_not_joined(pair, why, PAIR_ON_PEER_LOST)
                                       : PAIR_ON_PEER_LOST;
}

void pairs_on_kvt(struct worker_core *core, struct kvt_event *event)
{
    struct worker_peer *peer = peer_find(core, event->peer);

    assert(peer != NULL && peer->lost_owed > 0); /* PEER_LOST is the last news of a peer */
    if (!news_is_current(core, peer, event->kind))
        return;
    td_list_for_each(node, &core->pairs)
    {
        struct worker_pair *pair = td_container_of(node, struct worker_pair, node);

        if (pair->epoch != event->peer)
            continue;
        if (event->kind == KVT_PEER_UP)
            snprintf(pair->lanes, sizeof pair->lanes, "%s", event->peer_up.lanes);
        pair_step(pair,
                  event->kind == KVT_PEER_UP ? PAIR_ON_PEER_UP : on_peer_lost(pair, event->status));
        return; /* one pair has one peer, and stepping may change the list */
    }
}

/* --- the other side of a handshake --- */

/* The first of the asker's transports that we have, and that reaches; NULL: none. */
static const struct worker_transport *choose(struct worker_core *core,
                                             const Td__PairRequest *request,
                                             const Td__TransportAddress **theirs_out)
{
    for (size_t i = 0; i < request->n_transports; i++) {
        for (uint32_t j = 0; j < core->identity.transport_count; j++) {
            if (transport_reaches(&core->identity.transports[j], request->transports[i]) &&
                address_is_sane(request->transports[i])) {
                *theirs_out = request->transports[i];
                return &core->identity.transports[j];
            }
        }
    }
    return NULL;
}

static void say_none_in_common(const struct worker_core *core, char out[static WORKER_REASON_BYTES])
{
    size_t length = (size_t)snprintf(out, WORKER_REASON_BYTES, "no common transport: here");

    for (uint32_t i = 0; i < core->identity.transport_count; i++)
        length += (size_t)snprintf(out + length, WORKER_REASON_BYTES - length, "%s %s",
                                   i > 0 ? "," : "", core->identity.transports[i].name);
    snprintf(out + length, WORKER_REASON_BYTES - length,
             "; map is for one host; see --kv-transport of both");
}

static bool admit_peer(struct worker_core *core, const Td__PairRequest *request,
                       const struct worker_transport **transport_out)
{
    char *reason = core->pair_reason;
    const Td__TransportAddress *theirs = NULL;
    td_status_t status;

    if (request->versions == NULL || request->versions->min > WORKER_PROTOCOL_VERSION ||
        request->versions->max < WORKER_PROTOCOL_VERSION) {
        snprintf(reason, WORKER_REASON_BYTES, "no common protocol version");
        return false;
    }
    if (request->epoch == 0 || request->epoch == core->identity.epoch ||
        (request->peer_epoch != 0 && request->peer_epoch != core->identity.epoch)) {
        snprintf(reason, WORKER_REASON_BYTES, "epoch: missing, or meant for another worker");
        return false;
    }
    if (!core->policy.exports || core->draining) {
        snprintf(reason, WORKER_REASON_BYTES, "this worker does not serve asks%s",
                 core->draining ? " any more: it is draining" : "");
        return false;
    }
    if (!identities_match(core, request->content, request->geometry, reason))
        return false;
    *transport_out = choose(core, request, &theirs);
    if (*transport_out == NULL) {
        say_none_in_common(core, reason);
        return false;
    }
    status = peer_add(core, request->epoch, theirs->name, theirs->blob.data, theirs->blob.len);
    if (status != TD_OK)
        snprintf(reason, WORKER_REASON_BYTES, "peers: %s", td_status_text(status));
    return status == TD_OK;
}

void worker_core_on_pair_request(struct worker_core *core, const Td__PairRequest *request,
                                 Td__PairReply *reply_out, uint64_t now_ns)
{
    const struct worker_transport *transport = NULL;

    core->now_ns = now_ns;
    td__pair_reply__init(reply_out);
    reply_out->version = WORKER_PROTOCOL_VERSION;
    reply_out->epoch = core->identity.epoch;
    if (!admit_peer(core, request, &transport)) {
        core->counters.pairs_refused++;
        td_log(TD_LOG_WARN, "pairs", "refused a pair: %s", core->pair_reason);
        reply_out->refused = true;
        reply_out->reason = core->pair_reason;
        return;
    }
    worker_content_fill(core, &core->pair_content);
    worker_geometry_fill(core, &core->pair_geometry);
    address_fill(transport, &core->pair_address);
    reply_out->content = &core->pair_content;
    reply_out->geometry = &core->pair_geometry;
    reply_out->transport = core->pair_address.name;
    reply_out->address = &core->pair_address;
}
