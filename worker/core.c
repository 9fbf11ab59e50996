/*
 * core.c: opening and closing the worker core, handing events to their owners, draining, gauges.
 */
#include "worker/core.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "worker/internal.h"

void worker_limits_default(struct worker_times *times_out, struct worker_counts *counts_out)
{
    const uint32_t ms = 1;
    const uint32_t s = 1000 * ms;

#define X(name, flag, count, unit, text) times_out->name = (count)*unit;
    WORKER_TIMES_MAP(X)
#undef X
#define X(name, flag, value, max, text) counts_out->name = (value);
    WORKER_COUNTS_MAP(X)
#undef X
}

td_status_t worker_core_open(const struct worker_config *config, struct worker_core **core_out)
{
    struct worker_core *core = calloc(1, sizeof *core);
    size_t owners = (size_t)config->counts.requests_max + config->counts.exports_max;

    if (core == NULL)
        return TD_NO_MEMORY;
    core->identity = config->identity;
    core->policy = config->policy;
    core->times = config->times;
    core->counts = config->counts;
    core->env = config->env;
    td_timers_init(&core->timers);
    td_list_init(&core->links);
    td_list_init(&core->pairs);
    td_list_init(&core->peers);
    td_map_init(&core->requests, config->counts.requests_max);
    td_map_init(&core->sequences, owners);
    td_map_init(&core->transfers, owners);
    td_map_init(&core->asks, config->counts.requests_max);
    announce_init(core);
    *core_out = core;
    return TD_OK;
}

/* An export is in the map of sequences, in that of transfers, or in both. */
static void free_exports(const struct td_map *map)
{
    size_t cursor = 0;
    struct worker_owner *owner;

    while ((owner = td_map_next(map, &cursor)) != NULL) {
        if (owner->kind != WORKER_OWNS_EXPORT)
            continue;
        export_free((struct worker_export *)(void *)owner);
        cursor = 0; /* the map has changed */
    }
}

/* Frees what a worker that is stopped by force leaves behind. Nothing is sent to anybody. */
static void free_owners(struct worker_core *core)
{
    size_t cursor = 0;
    struct worker_request *request;

    free_exports(&core->sequences);
    free_exports(&core->transfers);
    while ((request = td_map_next(&core->requests, &cursor)) != NULL) {
        request_free(request);
        cursor = 0;
    }
    td_map_fini(&core->sequences);
    td_map_fini(&core->requests);
    td_map_fini(&core->transfers);
    td_map_fini(&core->asks);
}

void worker_core_close(struct worker_core *core)
{
    free_owners(core);
    td_list_for_each(node, &core->links) free(td_container_of(node, struct worker_link, node));
    pairs_close(core);
    announce_close(core);
    for (uint32_t i = 0; i < core->identity.transport_count; i++)
        free(core->identity.transports[i].address);
    free(core);
}

uint64_t worker_core_next_deadline(const struct worker_core *core)
{
    return td_timers_next(&core->timers);
}

void worker_core_tick(struct worker_core *core, uint64_t now_ns)
{
    core->now_ns = now_ns;
    td_timers_run(&core->timers, now_ns);
}

/* --- small services for the other files --- */

uint64_t worker_number_next(struct worker_core *core)
{
    return ++core->last_number;
}

void worker_timer_after(struct worker_core *core, struct td_timer *timer, uint32_t delay_ms)
{
    td_timer_set(&core->timers, timer, core->now_ns + delay_ms * TD_NS_PER_MS);
}

void worker_engine_simple(struct worker_core *core, enum engine_command_kind kind,
                          uint64_t sequence)
{
    struct engine_command command = {.kind = kind, .sequence = sequence};

    core->env.engine(core->env.impl, &command);
}

void worker_engine_release(struct worker_core *core, uint64_t sequence, bool quarantine)
{
    struct engine_command command = {
        .kind = ENGINE_RELEASE, .sequence = sequence, .release.quarantine = quarantine};

    core->env.engine(core->env.impl, &command);
}

uint32_t worker_us(uint64_t ns)
{
    uint64_t us = ns / TD_NS_PER_US;

    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

void worker_content_fill(const struct worker_core *core, Td__ContentIdentity *out)
{
    const struct engine_model_info *model = &core->identity.model;

    td__content_identity__init(out);
    out->content_id_hi = model->content_id.hi;
    out->content_id_lo = model->content_id.lo;
    out->weights_hi = model->weights_digest.hi;
    out->weights_lo = model->weights_digest.lo;
    /* protobuf-c has no const strings; packing does not write */
    out->rope = (char *)(uintptr_t)model->rope;
    out->kv_dtype = (char *)(uintptr_t)model->kv_dtype;
    out->numerics = (char *)(uintptr_t)model->numerics;
}

void worker_geometry_fill(const struct worker_core *core, Td__Geometry *out)
{
    const struct engine_model_info *model = &core->identity.model;

    td__geometry__init(out);
    out->block_tokens = model->block_tokens;
    out->layers = model->layers;
    out->kv_heads = model->kv_heads;
    out->head_dim = model->head_dim;
    out->block_bytes = model->block_bytes;
    out->shards = 1;
    out->hidden = model->hidden;
}

void worker_quarantined(struct worker_core *core)
{
    core->counters.quarantines++;
    td_log(TD_LOG_ERROR, "core", "blocks of a transfer are quarantined: the peer may still write");
}

/* Too much quarantined memory cannot be healed but by a new process. */
static void check_quarantine(struct worker_core *core)
{
    const struct engine_balance *balance = &core->load.balance;

    if (balance->total == 0 || balance->quarantined == 0)
        return;
    if ((uint64_t)balance->quarantined * 100 >
        (uint64_t)balance->total * core->counts.quarantine_max_percent)
        core->env.fatal(core->env.impl, "too many blocks are quarantined");
}

/* --- events --- */

static struct worker_owner *owner_of_sequence(struct worker_core *core, uint64_t sequence)
{
    return td_map_find(&core->sequences, td_u128_from_u64(sequence));
}

/*
 * The tokens of one step, and the load after it. Local consumers are called after all tokens are
 * in, since they may abandon any request.
 */
static void on_step(struct worker_core *core, struct engine_event *event)
{
    for (uint32_t i = 0; i < event->step.count; i++) {
        struct worker_owner *owner = owner_of_sequence(core, event->step.tokens[i].sequence);

        if (owner != NULL && owner->kind == WORKER_OWNS_REQUEST)
            request_tokens((struct worker_request *)(void *)owner, &event->step.tokens[i]);
    }
    for (uint32_t i = 0; i < event->step.count; i++) {
        struct worker_owner *owner = owner_of_sequence(core, event->step.tokens[i].sequence);

        if (owner != NULL && owner->kind == WORKER_OWNS_REQUEST)
            request_flush((struct worker_request *)(void *)owner);
    }
    announce_on_load(core, &event->step.load);
    check_quarantine(core);
}

void worker_core_on_engine(struct worker_core *core, struct engine_event *event, uint64_t now_ns)
{
    struct worker_owner *owner;

    core->now_ns = now_ns;
    switch (event->kind) {
    case ENGINE_STEP: on_step(core, event); break;
    case ENGINE_CACHE: announce_on_cache(core, event); break;
    case ENGINE_SNAPSHOT_TAKEN: announce_on_snapshot(core, event); break;
    case ENGINE_RESERVED:
    case ENGINE_BLOCKS:
    case ENGINE_PREFILLED:
    case ENGINE_STOPPED:
    case ENGINE_FINISHED:
        owner = owner_of_sequence(core, event->sequence);
        assert(owner != NULL); /* FINISHED is the last event, and only it removes the owner */
        if (owner->kind == WORKER_OWNS_REQUEST)
            request_on_engine((struct worker_request *)(void *)owner, event);
        else
            export_on_engine((struct worker_export *)(void *)owner, event);
        break;
    }
    engine_event_fini(event);
}

void worker_core_on_kvt(struct worker_core *core, struct kvt_event *event, uint64_t now_ns)
{
    core->now_ns = now_ns;
    if (event->kind == KVT_PEER_UP || event->kind == KVT_PEER_LOST) {
        pairs_on_kvt(core, event);
    } else {
        struct worker_owner *owner = td_map_find(&core->transfers, event->transfer);

        assert(owner != NULL); /* an owner leaves the map only with its transfer's last event */
        if (owner->kind == WORKER_OWNS_REQUEST)
            import_on_kvt(&((struct worker_request *)(void *)owner)->import, event);
        else
            export_on_kvt((struct worker_export *)(void *)owner, event);
    }
    kvt_event_fini(event);
}

/* --- drain --- */

void worker_core_drain(struct worker_core *core, uint32_t remaining_ms, uint64_t now_ns)
{
    core->now_ns = now_ns;
    core->draining = true;
    core->drain_deadline_ns = now_ns + remaining_ms * TD_NS_PER_MS;
    td_list_for_each(node, &core->announcers)
    {
        struct worker_announcer *announcer = td_container_of(node, struct worker_announcer, node);

        announcer->draining_owed = true;
        if (announcer->connected)
            core->env.announce_ready(core->env.impl, announcer->handle);
    }
}

bool worker_core_idle(const struct worker_core *core)
{
    return core->sequences.count == 0 && core->transfers.count == 0 && core->requests.count == 0;
}

/* What is still arriving must not come to life in the middle of the end. */
static void refuse_collecting(struct worker_core *core)
{
    size_t cursor = 0;
    struct worker_request *request;

    while ((request = td_map_next(&core->requests, &cursor)) != NULL) {
        if (request->state != REQUEST_COLLECTING)
            continue;
        request_refuse(request, TD_EXHAUSTED, "the worker is stopping");
        cursor = 0; /* the map has changed */
    }
}

void worker_core_cancel_all(struct worker_core *core, uint64_t now_ns)
{
    size_t cursor = 0;
    size_t count = core->sequences.count;
    struct worker_owner **owners;

    core->now_ns = now_ns;
    refuse_collecting(core);
    owners = calloc(count > 0 ? count : 1, sizeof *owners); /* stepping changes the map */
    if (owners == NULL)
        return;
    for (size_t i = 0; i < count; i++)
        owners[i] = td_map_next(&core->sequences, &cursor);
    for (size_t i = 0; i < count; i++) {
        if (owners[i]->kind == WORKER_OWNS_REQUEST)
            request_step((struct worker_request *)(void *)owners[i], REQUEST_ON_CANCEL);
        else
            export_expire((struct worker_export *)(void *)owners[i]);
    }
    free(owners);
}

/* --- gauges --- */

const struct worker_counters *worker_core_counters(const struct worker_core *core)
{
    return &core->counters;
}

const struct engine_load *worker_core_load(const struct worker_core *core)
{
    return &core->load;
}

void worker_core_gauges(const struct worker_core *core, struct worker_gauges *gauges_out)
{
    struct worker_gauges gauges = {
        .requests = (uint32_t)core->requests.count,
        .links = core->link_count,
        .imports = core->import_count,
        .exports = core->export_count,
        .pairs = core->pair_count,
    };
    size_t cursor = 0;
    const struct worker_owner *owner;

    while ((owner = td_map_next(&core->transfers, &cursor)) != NULL) {
        if (owner->kind == WORKER_OWNS_REQUEST)
            gauges.transfers_in++;
        else
            gauges.transfers_out++;
    }
    *gauges_out = gauges;
}
