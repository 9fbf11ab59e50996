/*
 * announce.c: what schedulers are told: who this worker is, which blocks it caches, how busy it is.
 *
 * Block events are numbered once for all schedulers. The last ANNOUNCE_LOG_MESSAGES of them are kept;
 * a scheduler that lags further behind, or that has just (re)connected, sees a gap in the numbers
 * and asks for a snapshot, which the engine takes so that it is consistent with the numbering. The
 * load report carries the newest number and a digest of the whole cache, so that a scheduler notices
 * even what it cannot see from the numbers.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "worker/internal.h"

/* --- the log of block events --- */

static struct announce_entry *log_entry(struct announce_log *log, uint64_t sequence)
{
    return &log->entries[sequence % ANNOUNCE_LOG_MESSAGES];
}

static void entry_free(struct announce_entry *entry)
{
    free(entry->stored);
    free(entry->removed);
    *entry = (struct announce_entry){0};
}

static void digest_add(struct announce_log *log, const struct td_u128 *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        log->digest.hi ^= keys[i].hi;
        log->digest.lo ^= keys[i].lo;
    }
}

static void ready(struct worker_announcer *announcer)
{
    struct worker_core *core = announcer->core;

    if (announcer->connected)
        core->env.announce_ready(core->env.impl, announcer->handle);
}

static void ready_all(struct worker_core *core)
{
    td_list_for_each(node, &core->announcers)
        ready(td_container_of(node, struct worker_announcer, node));
}

/* The event's arrays move into the log. */
void announce_on_cache(struct worker_core *core, struct engine_event *event)
{
    struct announce_log *log = &core->log;
    struct announce_entry *entry = log_entry(log, ++log->last);

    entry_free(entry);
    entry->sequence = log->last;
    entry->stored = event->cache.stored;
    entry->stored_count = event->cache.stored_count;
    entry->removed = event->cache.removed;
    entry->removed_count = event->cache.removed_count;
    event->cache.stored = event->cache.removed = NULL;
    event->cache.stored_count = event->cache.removed_count = 0;
    digest_add(log, entry->stored, entry->stored_count);
    digest_add(log, entry->removed, entry->removed_count);
    ready_all(core);
}

/* --- snapshots --- */

static void snapshot_put(struct announce_snapshot *snapshot)
{
    if (snapshot == NULL || --snapshot->references > 0)
        return;
    free(snapshot->keys);
    free(snapshot);
}

static void snapshot_drop(struct worker_announcer *announcer)
{
    snapshot_put(announcer->snapshot);
    announcer->snapshot = NULL;
    announcer->snapshot_part = 0;
}

/* The event's keys move to one snapshot shared by all schedulers that wait for one. */
void announce_on_snapshot(struct worker_core *core, struct engine_event *event)
{
    struct announce_snapshot *snapshot = calloc(1, sizeof *snapshot);

    core->snapshot_requested = false;
    if (snapshot == NULL)
        return; /* the schedulers ask again when the digest differs */
    snapshot->sequence = core->log.last;
    snapshot->keys = event->snapshot.keys;
    snapshot->key_count = event->snapshot.count;
    event->snapshot.keys = NULL;
    snapshot->references = 1;
    td_list_for_each(node, &core->announcers)
    {
        struct worker_announcer *announcer = td_container_of(node, struct worker_announcer, node);

        if (!announcer->snapshot_wanted)
            continue;
        announcer->snapshot_wanted = false;
        snapshot_drop(announcer);
        announcer->snapshot = snapshot;
        snapshot->references++;
        announcer->next_sequence = snapshot->sequence + 1;
        ready(announcer);
    }
    snapshot_put(snapshot);
}

/* --- load --- */

static uint64_t smooth(uint64_t old, uint64_t sample)
{
    return old == 0 ? sample : (old * 7 + sample) / 8;
}

static void measure(struct worker_core *core, const struct engine_load *load)
{
    uint32_t decode_rows = load->step_rows - load->step_prefill_rows;

    if (load->steps == core->load.steps || load->step_ns == 0)
        return;
    if (decode_rows == 0 && load->step_prefill_rows > 0)
        core->prefill_rate =
            smooth(core->prefill_rate, load->step_prefill_rows * TD_NS_PER_SEC / load->step_ns);
    if (decode_rows > 0 && load->step_prefill_rows == 0)
        core->decode_step_ns = smooth(core->decode_step_ns, load->step_ns);
}

void announce_on_load(struct worker_core *core, const struct engine_load *load)
{
    bool changed = load->running != core->load.running || load->waiting != core->load.waiting ||
                   load->prefilling != core->load.prefilling;

    measure(core, load);
    core->load = *load;
    if (!changed)
        return;
    td_list_for_each(node, &core->announcers)
    {
        struct worker_announcer *announcer = td_container_of(node, struct worker_announcer, node);

        announcer->load_owed = true;
        ready(announcer);
    }
}

static void on_load_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct worker_core *core = td_container_of(timer, struct worker_core, load_timer);

    (void)now_ns;
    td_list_for_each(node, &core->announcers)
    {
        struct worker_announcer *announcer = td_container_of(node, struct worker_announcer, node);

        announcer->load_owed = true;
        ready(announcer);
    }
    worker_timer_after(core, &core->load_timer, core->times.load_ms);
}

/* --- opening and closing --- */

void announce_init(struct worker_core *core)
{
    td_list_init(&core->announcers);
    td_timer_init(&core->load_timer, on_load_timer);
}

void announce_close(struct worker_core *core)
{
    td_timer_cancel(&core->timers, &core->load_timer);
    td_list_for_each(node, &core->announcers)
        worker_announcer_close(td_container_of(node, struct worker_announcer, node));
    for (size_t i = 0; i < ANNOUNCE_LOG_MESSAGES; i++)
        entry_free(&core->log.entries[i]);
}

td_status_t worker_announcer_open(struct worker_core *core, void *handle,
                                  struct worker_announcer **announcer_out)
{
    struct worker_announcer *announcer;

    if (core->announcer_count >= core->counts.schedulers_max)
        return TD_LIMIT;
    announcer = calloc(1, sizeof *announcer);
    if (announcer == NULL)
        return TD_NO_MEMORY;
    announcer->core = core;
    announcer->handle = handle;
    td_list_push_back(&core->announcers, &announcer->node);
    core->announcer_count++;
    *announcer_out = announcer;
    return TD_OK;
}

void worker_announcer_close(struct worker_announcer *announcer)
{
    snapshot_drop(announcer);
    td_list_remove(&announcer->node);
    announcer->core->announcer_count--;
    free(announcer);
}

void worker_announcer_connected(struct worker_announcer *announcer, uint64_t now_ns)
{
    struct worker_core *core = announcer->core;

    core->now_ns = now_ns;
    announcer->connected = true;
    announcer->registration_owed = true;
    announcer->load_owed = true;
    announcer->draining_owed = core->draining;
    announcer->next_sequence = core->log.last + 1; /* older ones come with a snapshot */
    if (!core->load_timer.armed)
        worker_timer_after(core, &core->load_timer, core->times.load_ms);
    ready(announcer);
}

void worker_announcer_disconnected(struct worker_announcer *announcer)
{
    announcer->connected = false;
    announcer->snapshot_wanted = false;
    snapshot_drop(announcer);
}

void worker_announcer_on_message(struct worker_announcer *announcer, const Td__AnnounceOut *message,
                                 uint64_t now_ns)
{
    struct worker_core *core = announcer->core;

    core->now_ns = now_ns;
    if (message->kind_case != TD__ANNOUNCE_OUT__KIND_SNAPSHOT_REQUEST)
        return; /* Welcome needs no answer; newer kinds are skipped */
    announcer->snapshot_wanted = true;
    if (!core->snapshot_requested)
        worker_engine_simple(core, ENGINE_SNAPSHOT, 0);
    core->snapshot_requested = true;
}

/* --- messages out --- */

static const Td__AnnounceIn *registration_message(struct worker_announcer *announcer)
{
    const struct worker_core *core = announcer->core;
    const struct worker_identity *identity = &core->identity;
    Td__Registration *registration = &announcer->registration;

    td__registration__init(registration);
    td__versions__init(&announcer->versions);
    announcer->versions.min = announcer->versions.max = WORKER_PROTOCOL_VERSION;
    worker_content_fill(core, &announcer->content);
    worker_geometry_fill(core, &announcer->geometry);
    for (uint32_t i = 0; i < identity->model_count; i++)
        announcer->models[i] = (char *)(uintptr_t)identity->models[i];
    registration->versions = &announcer->versions;
    registration->role = core->policy.role;
    registration->epoch = identity->epoch;
    registration->rpc_target = (char *)(uintptr_t)identity->rpc_target;
    registration->http_address = (char *)(uintptr_t)identity->http_address;
    registration->models = announcer->models;
    registration->n_models = identity->model_count;
    registration->content = &announcer->content;
    registration->geometry = &announcer->geometry;
    registration->text_id_hi = identity->text_id.hi;
    registration->text_id_lo = identity->text_id.lo;
    registration->block_count = identity->block_count;
    registration->max_context = identity->model.max_context;
    registration->max_sequences = identity->max_sequences;
    registration->max_waiting = identity->max_waiting;
    registration->threads = identity->threads;
    announcer->registration_owed = false;
    announcer->out.kind_case = TD__ANNOUNCE_IN__KIND_REGISTRATION;
    announcer->out.registration = registration;
    return &announcer->out;
}

static const Td__AnnounceIn *draining_message(struct worker_announcer *announcer)
{
    const struct worker_core *core = announcer->core;
    uint64_t left_ns =
        core->drain_deadline_ns > core->now_ns ? core->drain_deadline_ns - core->now_ns : 0;

    td__draining__init(&announcer->draining);
    announcer->draining.remaining_ms = (uint32_t)(left_ns / TD_NS_PER_MS);
    announcer->draining_owed = false;
    announcer->out.kind_case = TD__ANNOUNCE_IN__KIND_DRAINING;
    announcer->out.draining = &announcer->draining;
    return &announcer->out;
}

/* Keys are pairs (hi, lo) of fixed64 on the wire, which is how struct td_u128 lies in memory. */
static uint64_t *as_pairs(struct td_u128 *keys)
{
    _Static_assert(sizeof(struct td_u128) == 2 * sizeof(uint64_t), "two fixed64 without padding");
    return keys == NULL ? NULL : &keys->hi;
}

static const Td__AnnounceIn *snapshot_message(struct worker_announcer *announcer)
{
    struct announce_snapshot *snapshot = announcer->snapshot;
    Td__Snapshot *part = &announcer->part;
    uint32_t parts = (snapshot->key_count + SNAPSHOT_PART_KEYS - 1) / SNAPSHOT_PART_KEYS;
    uint32_t first = announcer->snapshot_part * SNAPSHOT_PART_KEYS;
    uint32_t count = snapshot->key_count - first;

    td__snapshot__init(part);
    part->sequence = snapshot->sequence;
    part->part = announcer->snapshot_part;
    part->parts = parts > 0 ? parts : 1;
    part->stored = count > 0 ? as_pairs(snapshot->keys + first) : NULL;
    part->n_stored = 2 * (size_t)(count < SNAPSHOT_PART_KEYS ? count : SNAPSHOT_PART_KEYS);
    announcer->snapshot_part++;
    announcer->out.kind_case = TD__ANNOUNCE_IN__KIND_SNAPSHOT;
    announcer->out.snapshot = part;
    return &announcer->out;
}

static bool snapshot_is_owed(const struct worker_announcer *announcer)
{
    uint32_t sent = announcer->snapshot_part * SNAPSHOT_PART_KEYS;

    return announcer->snapshot != NULL &&
           (announcer->snapshot_part == 0 || sent < announcer->snapshot->key_count);
}

static const Td__AnnounceIn *events_message(struct worker_announcer *announcer)
{
    struct announce_log *log = &announcer->core->log;
    struct announce_entry *entry;
    Td__BlockEvents *events = &announcer->events;

    if (announcer->next_sequence + ANNOUNCE_LOG_MESSAGES <= log->last) /* fell out of the log */
        announcer->next_sequence = log->last;
    entry = log_entry(log, announcer->next_sequence);
    assert(entry->sequence == announcer->next_sequence);
    td__block_events__init(events);
    events->sequence = entry->sequence;
    events->stored = as_pairs(entry->stored);
    events->n_stored = 2 * (size_t)entry->stored_count;
    events->removed = as_pairs(entry->removed);
    events->n_removed = 2 * (size_t)entry->removed_count;
    announcer->next_sequence++;
    announcer->out.kind_case = TD__ANNOUNCE_IN__KIND_EVENTS;
    announcer->out.events = events;
    return &announcer->out;
}

static const Td__AnnounceIn *load_message(struct worker_announcer *announcer)
{
    const struct worker_core *core = announcer->core;
    const struct engine_load *load = &core->load;
    Td__LoadReport *report = &announcer->load;
    uint64_t rate = core->prefill_rate;
    uint64_t step_us = core->decode_step_ns / TD_NS_PER_US;

    td__load_report__init(report);
    report->sequence = core->log.last;
    report->digest_hi = core->log.digest.hi;
    report->digest_lo = core->log.digest.lo;
    report->running = load->running;
    report->prefilling = load->prefilling;
    report->prefilling_tokens = load->prefilling_tokens;
    report->waiting = load->waiting;
    report->waiting_tokens = load->waiting_tokens;
    report->blocks_free = load->balance.free + load->balance.cached;
    report->blocks_total = core->identity.block_count;
    report->step_age_ms = core->env.step_age_ms(core->env.impl);
    report->prefill_tokens_per_s = rate > UINT32_MAX ? UINT32_MAX : (uint32_t)rate;
    report->decode_step_us = step_us > UINT32_MAX ? UINT32_MAX : (uint32_t)step_us;
    report->ready = !core->draining;
    report->admitted = core->admitted;
    if (load->balance.total == 0) /* no step yet: the pool is all free */
        report->blocks_free = core->identity.block_count;
    announcer->load_owed = false;
    announcer->out.kind_case = TD__ANNOUNCE_IN__KIND_LOAD;
    announcer->out.load = report;
    return &announcer->out;
}

/*
 * Registration before everything, a snapshot before the events that follow it, and the load report
 * last, so that its number is never ahead of what was sent.
 */
const Td__AnnounceIn *worker_announcer_next(struct worker_announcer *announcer, uint64_t now_ns)
{
    announcer->core->now_ns = now_ns;
    td__announce_in__init(&announcer->out);
    if (!announcer->connected)
        return NULL;
    if (announcer->registration_owed)
        return registration_message(announcer);
    if (announcer->draining_owed)
        return draining_message(announcer);
    if (snapshot_is_owed(announcer))
        return snapshot_message(announcer);
    if (announcer->snapshot != NULL)
        snapshot_drop(announcer);
    if (announcer->next_sequence <= announcer->core->log.last)
        return events_message(announcer);
    if (announcer->load_owed)
        return load_message(announcer);
    return NULL;
}
