/*
 * watch.c: pictures of the fleet for routers.
 *
 * Every change makes the whole picture old. Changes are collected for a moment, then every router is
 * owed the newest picture; a router that is slow to read skips those between. A picture is built once
 * for all of them.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/time.h"
#include "proto/version.h"
#include "scheduler/internal.h"

/*
 * A fleet that never comes to rest would cost every router picture after picture. So many may follow
 * each other quickly, then they keep a pace (a bucket, as virtual scheduling: ITU-T I.371).
 */
#define PICTURES_AT_ONCE 16
#define PICTURE_PACE_NS  (250 * TD_NS_PER_MS)

#define PICTURE_BYTES_MAX \
    ((size_t)4 << 20) /* all workers with all names at their maximum: 1.5 MiB */

static void on_fleet_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct sched_core *core = td_container_of(timer, struct sched_core, fleet_timer);

    if (core->pictures_until_ns < now_ns)
        core->pictures_until_ns = now_ns;
    core->pictures_until_ns += PICTURE_PACE_NS;
    td_list_for_each(node, &core->watchers)
    {
        struct sched_watcher *watcher = td_container_of(node, struct sched_watcher, node);

        watcher->owed = true;
        core->env.watcher_ready(core->env.impl, watcher->handle);
    }
}

void sched_watch_init(struct sched_core *core)
{
    td_list_init(&core->watchers);
    td_timer_init(&core->fleet_timer, on_fleet_timer);
    td_arena_init(&core->picture_arena, PICTURE_BYTES_MAX);
    core->picture_is_old = true;
}

void sched_watch_fini(struct sched_core *core)
{
    td_list_for_each(node, &core->watchers)
        sched_watcher_closed(td_container_of(node, struct sched_watcher, node));
    td_timer_cancel(&core->timers, &core->fleet_timer);
    td_arena_fini(&core->picture_arena);
}

void sched_watch_changed(struct sched_core *core, uint64_t now_ns)
{
    const uint64_t burst_ns = PICTURES_AT_ONCE * PICTURE_PACE_NS;
    uint64_t at_ns = now_ns + core->config.fleet_delay_ms * TD_NS_PER_MS;

    core->picture_is_old = true;
    if (core->fleet_timer.armed)
        return;
    if (core->pictures_until_ns > at_ns + burst_ns)
        at_ns = core->pictures_until_ns - burst_ns;
    td_timer_set(&core->timers, &core->fleet_timer, at_ns);
}

/* --- the picture --------------------------------------------------------------------------- */

static char *copy_text(struct td_arena *arena, const char *text)
{
    return td_arena_text(arena, text, strlen(text));
}

static Td__FleetWorker *picture_worker(struct td_arena *arena, const struct sched_worker *worker)
{
    const struct sched_identity *identity = &worker->identity;
    Td__FleetWorker *shown = td_arena_alloc(arena, sizeof *shown);

    if (shown == NULL)
        return NULL;
    td__fleet_worker__init(shown);
    shown->epoch = identity->epoch;
    shown->role = identity->role;
    shown->rpc_target = copy_text(arena, identity->rpc_target);
    shown->http_address = copy_text(arena, identity->http_address);
    shown->models = td_arena_array(arena, identity->model_count, sizeof *shown->models);
    for (size_t i = 0; i < identity->model_count && shown->models != NULL; i++)
        shown->models[i] = copy_text(arena, identity->models[i]);
    shown->n_models = identity->model_count;
    shown->content_id_hi = identity->content_id.hi;
    shown->content_id_lo = identity->content_id.lo;
    shown->text_id_hi = identity->text_id.hi;
    shown->text_id_lo = identity->text_id.lo;
    shown->block_tokens = identity->block_tokens;
    shown->max_context = identity->max_context;
    shown->max_sequences = identity->max_sequences;
    shown->max_waiting = identity->max_waiting;
    shown->ready = worker->state == SCHED_WORKER_READY;
    shown->draining = worker->draining;
    return shown;
}

static td_status_t picture_take(struct sched_core *core)
{
    struct td_arena *arena = &core->picture_arena;
    Td__FleetUpdate *picture = &core->picture;

    td_arena_fini(arena);
    td_arena_init(arena, PICTURE_BYTES_MAX);
    td__fleet_update__init(picture);
    picture->scheduler_epoch = core->config.epoch;
    picture->workers =
        td_arena_array(arena, sched_fleet_count(&core->fleet) + 1, sizeof *picture->workers);
    sched_fleet_for_each(worker, &core->fleet)
    {
        if (picture->workers != NULL)
            picture->workers[picture->n_workers++] = picture_worker(arena, worker);
    }
    core->picture_is_old = arena->status != TD_OK;
    return arena->status;
}

/* --- routers ------------------------------------------------------------------------------- */

td_status_t sched_watcher_open(struct sched_core *core, void *handle,
                               const Td__FleetRequest *request, struct sched_watcher **watcher_out,
                               struct td_error *error)
{
    struct sched_watcher *watcher;

    if (request->versions == NULL ||
        td_protocol_choose(request->versions->min, request->versions->max) == 0)
        return td_fail(error, TD_REFUSED, "fleet: versions: we speak protocol %u to %u",
                       TD_PROTOCOL_MIN, TD_PROTOCOL_MAX);
    if (request->router_epoch == 0)
        return td_fail(error, TD_INVALID, "fleet: router_epoch is 0");
    if (core->watcher_count >= SCHED_WATCHERS_MAX)
        return td_fail(error, TD_LIMIT, "fleet: %d routers are connected", SCHED_WATCHERS_MAX);
    watcher = calloc(1, sizeof *watcher);
    if (watcher == NULL)
        return td_fail(error, TD_NO_MEMORY, "fleet: no memory");
    watcher->core = core;
    watcher->handle = handle;
    watcher->router_epoch = request->router_epoch;
    watcher->owed = true;
    td_list_push_back(&core->watchers, &watcher->node);
    core->watcher_count++;
    *watcher_out = watcher;
    core->env.watcher_ready(core->env.impl, handle);
    return TD_OK;
}

const Td__FleetUpdate *sched_watcher_next(struct sched_watcher *watcher)
{
    struct sched_core *core = watcher->core;

    if (!watcher->owed)
        return NULL;
    if (core->picture_is_old && picture_take(core) != TD_OK)
        return NULL; /* still owed: the next change tries again */
    watcher->owed = false;
    return &core->picture;
}

void sched_watcher_closed(struct sched_watcher *watcher)
{
    td_list_remove(&watcher->node);
    watcher->core->watcher_count--;
    free(watcher);
}

size_t sched_core_watcher_count(const struct sched_core *core)
{
    return core->watcher_count;
}
