/* fleet.c: see fleet.h. */
#include "router/fleet.h"

#include <assert.h>
#include <string.h>

#include "lib/base/time.h"

static void drop(struct router_picture *picture)
{
    picture->update = NULL;
    td_arena_fini(&picture->arena);
}

void router_fleet_init(struct router_fleet *fleet, size_t source_count)
{
    assert(source_count <= ROUTER_SCHEDULERS_MAX);
    *fleet = (struct router_fleet){.source_count = source_count};
    for (size_t i = 0; i < source_count; i++)
        fleet->sources[i].settled_ns = TD_TIME_NEVER;
}

void router_fleet_fini(struct router_fleet *fleet)
{
    for (size_t i = 0; i < fleet->source_count; i++) {
        drop(&fleet->sources[i].now);
        drop(&fleet->sources[i].before);
    }
}

static bool is_restart(const struct router_fleet_source *source, const Td__FleetUpdate *update)
{
    return source->now.update != NULL &&
           source->now.update->scheduler_epoch != update->scheduler_epoch;
}

void router_fleet_take(struct router_fleet *fleet, size_t i, struct router_picture *picture,
                       uint64_t now_ns)
{
    struct router_fleet_source *source = &fleet->sources[i];

    if (is_restart(source, picture->update)) {
        if (source->before.update == NULL) { /* else it restarted twice, and knew little between */
            source->before = source->now;
            source->now = (struct router_picture){0};
        }
        source->settled_ns = now_ns + ROUTER_FLEET_SETTLE_MS * TD_NS_PER_MS;
    }
    drop(&source->now);
    source->now = *picture;
    source->connected = true;
    *picture = (struct router_picture){0};
}

void router_fleet_lost(struct router_fleet *fleet, size_t i)
{
    fleet->sources[i].connected = false;
}

uint64_t router_fleet_next(const struct router_fleet *fleet)
{
    uint64_t next_ns = TD_TIME_NEVER;

    for (size_t i = 0; i < fleet->source_count; i++)
        if (fleet->sources[i].settled_ns < next_ns)
            next_ns = fleet->sources[i].settled_ns;
    return next_ns;
}

/* --- merging --- */

static Td__FleetWorker *find_epoch(struct router_fleet *fleet, uint64_t epoch)
{
    for (size_t i = 0; i < fleet->update.n_workers; i++)
        if (fleet->workers[i].epoch == epoch)
            return &fleet->workers[i];
    return NULL;
}

static bool has_target(const struct router_fleet *fleet, const char *target)
{
    for (size_t i = 0; i < fleet->update.n_workers; i++)
        if (strcmp(fleet->workers[i].rpc_target, target) == 0)
            return true;
    return false;
}

static void add(struct router_fleet *fleet, const Td__FleetWorker *worker)
{
    Td__FleetWorker *known = find_epoch(fleet, worker->epoch);

    if (known != NULL) {
        known->ready = known->ready || worker->ready;
        known->draining = known->draining || worker->draining;
    } else if (fleet->update.n_workers < ROUTER_WORKERS_MAX) {
        fleet->workers[fleet->update.n_workers++] = *worker;
    }
}

/* What was said before counts only where nothing newer is known about the target. */
static void add_before(struct router_fleet *fleet, const Td__FleetWorker *worker)
{
    if (!has_target(fleet, worker->rpc_target))
        add(fleet, worker);
}

static void add_all(struct router_fleet *fleet, const struct router_picture *picture,
                    void (*add_one)(struct router_fleet *, const Td__FleetWorker *))
{
    if (picture->update == NULL)
        return;
    for (size_t i = 0; i < picture->update->n_workers && i < ROUTER_WORKERS_MAX; i++)
        add_one(fleet, picture->update->workers[i]);
}

static bool any_connected(const struct router_fleet *fleet)
{
    for (size_t i = 0; i < fleet->source_count; i++)
        if (fleet->sources[i].connected)
            return true;
    return false;
}

static void settle(struct router_fleet *fleet, uint64_t now_ns)
{
    for (size_t i = 0; i < fleet->source_count; i++) {
        if (fleet->sources[i].settled_ns > now_ns)
            continue;
        fleet->sources[i].settled_ns = TD_TIME_NEVER;
        drop(&fleet->sources[i].before);
    }
}

const Td__FleetUpdate *router_fleet_merge(struct router_fleet *fleet, uint64_t now_ns)
{
    bool all = !any_connected(fleet);

    settle(fleet, now_ns);
    td__fleet_update__init(&fleet->update);
    for (size_t i = 0; i < fleet->source_count; i++)
        if (all || fleet->sources[i].connected)
            add_all(fleet, &fleet->sources[i].now, add);
    for (size_t i = 0; i < fleet->source_count; i++)
        add_all(fleet, &fleet->sources[i].before, add_before);
    for (size_t i = 0; i < fleet->update.n_workers; i++)
        fleet->pointers[i] = &fleet->workers[i];
    fleet->update.workers = fleet->pointers;
    return &fleet->update;
}
