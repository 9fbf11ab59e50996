/* faults.c: what strikes, when and whom. Everything is drawn from one generator of the seed. */
#include "sim/network.h"

#define GAP_NS_MIN   (10 * TD_NS_PER_MS)
#define FIRST_NS     (500 * TD_NS_PER_MS)
#define ROUTER_SPARE 750 /* per mille: most often a router is passed over: with it go its clients */

static struct sim_node *any_node(struct sim *sim)
{
    struct sim_node *node;

    do
        node = &sim->nodes[td_rng_below(&sim->faults, sim->node_count)];
    while (node->role == SIM_ROUTER && sim_chance(&sim->faults, ROUTER_SPARE));
    return node;
}

/* --- one of each --- */

static uint64_t count_streams(const struct sim *sim, unsigned kinds)
{
    uint64_t count = 0;

    td_list_for_each(entry, &sim->streams) count +=
        kinds >> td_container_of(entry, struct sim_stream, node)->kind & 1;
    return count;
}

/* Half of the time one that carries answers: there are few of them among all streams. */
static void break_stream(struct sim *sim)
{
    unsigned kinds = sim_chance(&sim->faults, 500) ? 1u << SIM_GENERATE : ~0u;
    uint64_t count = count_streams(sim, kinds);
    uint64_t chosen = count > 0 ? td_rng_below(&sim->faults, count) : 0;

    td_list_for_each(entry, &sim->streams)
    {
        struct sim_stream *stream = td_container_of(entry, struct sim_stream, node);

        if (!(kinds >> stream->kind & 1) || chosen-- > 0)
            continue;
        sim_note(sim, "stream %llu breaks", (unsigned long long)stream->id);
        sim_stream_break(stream);
        return;
    }
}

/* Streams across the cut may survive it, if nobody loses patience. */
static void cut_off(struct sim *sim)
{
    struct sim_node *a = any_node(sim);
    struct sim_node *b = any_node(sim);
    uint64_t duration_ns = sim_between(&sim->faults, 20 * TD_NS_PER_MS, 8 * TD_NS_PER_SEC);
    bool impatient = sim_chance(&sim->faults, 500);

    if (a == b || sim_is_cut(sim, a, b))
        return;
    sim_note(sim, "%s and %s are cut off from each other", a->name, b->name);
    sim->report->figures.partitions++;
    sim_cut(sim, a, b, duration_ns);
    td_list_for_each(entry, &sim->streams)
    {
        struct sim_stream *stream = td_container_of(entry, struct sim_stream, node);
        const struct sim_node *client = stream->end[SIM_CLIENT].node;
        const struct sim_node *server = stream->target;

        if (impatient && ((client == a && server == b) || (client == b && server == a)))
            sim_stream_break(stream);
    }
}

static void drop(struct sim *sim)
{
    if (sim_chance(&sim->faults, 600))
        break_stream(sim);
    else
        cut_off(sim);
}

static void crash(struct sim *sim)
{
    struct sim_node *node = any_node(sim);

    if (!node->up)
        return;
    sim->report->figures.crashes++;
    sim_node_kill(node, sim_between(&sim->faults, 10 * TD_NS_PER_MS, 4 * TD_NS_PER_SEC));
}

static void restart(struct sim *sim)
{
    struct sim_node *node = any_node(sim);

    if (!node->up || node->leaving || node->frozen)
        return;
    sim->report->figures.restarts++;
    sim_node_leave(node);
    sim_node_settle(node);
}

static void thaw(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->object;

    if (!node->up || node->life != event->number || !node->frozen)
        return;
    sim_note(sim, "%s goes on", node->name);
    sim_thaw(node);
}

static void freeze(struct sim *sim)
{
    struct sim_node *node = any_node(sim);
    uint64_t duration_ns = sim_chance(&sim->faults, 700)
                               ? sim_between(&sim->faults, TD_NS_PER_MS, 500 * TD_NS_PER_MS)
                               : sim_between(&sim->faults, TD_NS_PER_SEC, 15 * TD_NS_PER_SEC);
    struct sim_event *event;

    if (!node->up || node->frozen)
        return;
    sim_note(sim, "%s freezes", node->name);
    sim->report->figures.freezes++;
    node->frozen = true;
    event = sim_post(sim, NULL, SIM_LIFE_ANY, duration_ns, "thaw", thaw);
    event->object = node;
    event->number = node->life;
}

/* --- striking --- */

static const struct {
    enum sim_fault fault;
    void (*strike)(struct sim *sim);
} strikes[] = {
    {SIM_FAULT_DROP, drop},
    {SIM_FAULT_CRASH, crash},
    {SIM_FAULT_RESTART, restart},
    {SIM_FAULT_FREEZE, freeze},
};

static void strike(struct sim *sim, struct sim_event *event)
{
    size_t which = td_rng_below(&sim->faults, sizeof strikes / sizeof strikes[0]);

    (void)event;
    if (sim->phase != SIM_STORM)
        return;
    if (sim_has(sim, strikes[which].fault))
        strikes[which].strike(sim);
    sim_post(sim, NULL, SIM_LIFE_ANY, sim_between(&sim->faults, GAP_NS_MIN, sim->strike_gap_ns),
             "strike", strike);
}

void sim_faults_start(struct sim *sim)
{
    static const uint64_t gaps_ms[] = {60, 200, 600};

    sim->strike_gap_ns = gaps_ms[td_rng_below(&sim->faults, 3)] * TD_NS_PER_MS;
    sim_post(sim, NULL, SIM_LIFE_ANY, FIRST_NS, "strike", strike);
}

void sim_faults_stop(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++) {
        for (uint32_t j = 0; j < sim->node_count; j++)
            sim->cut_ns[i][j] = 0;
        if (sim->nodes[i].up && sim->nodes[i].frozen)
            sim_thaw(&sim->nodes[i]);
    }
}
