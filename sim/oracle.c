/* oracle.c: what must be true when nothing is left to do. */
#include "engine/pool.h"
#include "sim/client.h"
#include "sim/network.h"
#include "sim/router.h"
#include "sim/scheduler.h"
#include "sim/worker.h"

static void expect_zero(struct sim_node *node, const char *gauge, uint64_t value)
{
    if (value != 0)
        sim_fail(node->sim, "gauges", "%s: %s is %llu at rest", node->name, gauge,
                 (unsigned long long)value);
}

static void check_router(struct sim_node *node)
{
    struct router_gauges gauges;
    uint32_t workers = node->sim->options.prefill + node->sim->options.decode;

    router_core_gauges(node->router->core, &gauges);
    expect_zero(node, "queued", gauges.queued);
    expect_zero(node, "running", gauges.running);
    expect_zero(node, "links", gauges.links);
    if (!router_core_idle(node->router->core))
        sim_fail(node->sim, "gauges", "%s: a journey lives at rest", node->name);
    if ((node->sim->options.faults & ~SIM_FAULTS_GENTLE) == 0)
        expect_zero(node, "count of lost links, though nothing breaks them,",
                    router_core_counters(node->router->core)->links_lost);
    if (gauges.workers_ready != workers)
        sim_fail(node->sim, "fleet", "%s sees %u ready workers of %u", node->name,
                 gauges.workers_ready, workers);
}

static void check_engine(struct sim_node *node)
{
    struct engine_balance balance;
    struct engine_load load;
    bool hangs = (node->sim->options.faults >> SIM_FAULT_HANG & 1) != 0;

    engine_pool_balance(engine_core_pool(node->worker->engine), &balance);
    engine_core_load(node->worker->engine, &load);
    expect_zero(node, "blocks running", balance.running);
    expect_zero(node, "blocks reserved", balance.reserved);
    expect_zero(node, "blocks landing", balance.landing);
    expect_zero(node, "blocks held", balance.held);
    expect_zero(node, "sequences running", load.running);
    expect_zero(node, "sequences waiting", load.waiting);
    expect_zero(node, "prompt tokens to compute", load.prefilling_tokens + load.waiting_tokens);
    if (!hangs)
        expect_zero(node, "blocks quarantined", balance.quarantined);
    if (load.content_conflicts > 0)
        sim_fail(node->sim, "content", "%s: equal tokens with different KV", node->name);
}

static void check_worker(struct sim_node *node)
{
    struct sim_worker *worker = node->worker;
    const struct kvt_stats *stats = kvt_core_stats(worker->kvt);
    struct worker_gauges gauges;
    bool hangs = (node->sim->options.faults >> SIM_FAULT_HANG & 1) != 0;

    worker_core_gauges(worker->core, &gauges);
    expect_zero(node, "requests", gauges.requests);
    expect_zero(node, "links", gauges.links);
    expect_zero(node, "imports", gauges.imports);
    expect_zero(node, "exports", gauges.exports);
    expect_zero(node, "transfers_in", gauges.transfers_in);
    expect_zero(node, "transfers_out", gauges.transfers_out);
    expect_zero(node, "incoming", kvt_stats_get(stats, KVT_STAT_INCOMING));
    expect_zero(node, "outgoing", kvt_stats_get(stats, KVT_STAT_OUTGOING));
    if (!hangs) {
        expect_zero(node, "receiving", kvt_stats_get(stats, KVT_STAT_RECEIVING));
        expect_zero(node, "sending", kvt_stats_get(stats, KVT_STAT_SENDING));
        expect_zero(node, "quarantined", kvt_stats_get(stats, KVT_STAT_QUARANTINED));
        expect_zero(node, "watched transfers", !td_list_empty(&worker->watches));
    }
    if (!worker_core_idle(worker->core))
        sim_fail(node->sim, "gauges", "%s is not idle at rest", node->name);
    check_engine(node);
}

/* --- the index of a scheduler equals the union of the caches --- */

static void check_feed(struct sim_node *node, const struct sched_worker *known,
                       struct sim_worker *worker)
{
    struct sim *sim = node->sim;
    const struct sched_feed *feed = &known->feed;
    size_t cursor = 0;

    if (known->state != SCHED_WORKER_READY || feed->state != SCHED_FEED_CURRENT) {
        sim_fail(sim, "fleet", "%s: %s is not ready, or its cache is not known", node->name,
                 worker->node->name);
        return;
    }
    if (sched_index_count(feed->feeds->index, feed->owner) != worker->cached.count)
        sim_fail(sim, "index", "%s knows %u keys of %s, which caches %zu", node->name,
                 sched_index_count(feed->feeds->index, feed->owner), worker->node->name,
                 worker->cached.count);
    while (td_map_next(&worker->cached, &cursor) != NULL) {
        struct td_u128 key = worker->cached.entries[cursor - 1].key;

        if (!sched_index_has(feed->feeds->index, feed->owner, key))
            sim_fail(sim, "index", "%s does not know a key that %s caches", node->name,
                     worker->node->name);
    }
}

static void check_scheduler(struct sim_node *node)
{
    struct sim *sim = node->sim;
    const struct sched_fleet *fleet = sched_core_fleet(node->scheduler->core);
    uint32_t workers = sim->options.prefill + sim->options.decode;

    if (sched_fleet_count(fleet) != workers)
        sim_fail(sim, "fleet", "%s knows %zu workers of %u", node->name, sched_fleet_count(fleet),
                 workers);
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_worker *worker = sim->nodes[i].worker;
        const struct sched_worker *known =
            worker != NULL ? sched_fleet_find(fleet, worker->epoch) : NULL;

        if (worker == NULL)
            continue;
        if (known == NULL)
            sim_fail(sim, "fleet", "%s does not know %s", node->name, worker->node->name);
        else
            check_feed(node, known, worker);
    }
}

void sim_check_rest(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        struct sim_node *node = &sim->nodes[i];

        if (!node->up)
            sim_fail(sim, "recovery", "%s has not come back", node->name);
        else if (node->router != NULL)
            check_router(node);
        else if (node->scheduler != NULL)
            check_scheduler(node);
        else
            check_worker(node);
    }
}
