/* network.c: how long messages take, and who is cut off from whom. */
#include "sim/network.h"

#define RING_NS_MAX (50 * TD_NS_PER_US)

/* Most messages are quick; under delay some are slow, and a few are very slow. */
uint64_t sim_latency(struct sim *sim)
{
    uint64_t dice = td_rng_below(&sim->network, 100);

    if (!sim_has(sim, SIM_FAULT_DELAY) || dice < 80)
        return sim_between(&sim->network, 50 * TD_NS_PER_US, 500 * TD_NS_PER_US);
    if (dice < 97)
        return sim_between(&sim->network, TD_NS_PER_MS, 30 * TD_NS_PER_MS);
    return sim_between(&sim->network, 30 * TD_NS_PER_MS, TD_NS_PER_SEC);
}

uint64_t sim_ring_latency(struct sim *sim)
{
    bool slow = sim_has(sim, SIM_FAULT_DELAY) && sim_chance(&sim->network, 50);

    return sim_between(&sim->network, TD_NS_PER_US, slow ? 20 * TD_NS_PER_MS : RING_NS_MAX);
}

bool sim_is_cut(const struct sim *sim, const struct sim_node *a, const struct sim_node *b)
{
    return sim->cut_ns[a->index][b->index] > sim->now_ns;
}

void sim_cut(struct sim *sim, struct sim_node *a, struct sim_node *b, uint64_t duration_ns)
{
    sim->cut_ns[a->index][b->index] = sim->now_ns + duration_ns;
    sim->cut_ns[b->index][a->index] = sim->now_ns + duration_ns;
}

/* What is sent into a cut arrives when it is over: the hosts repeat it until then. */
uint64_t sim_arrival(struct sim *sim, const struct sim_node *from, const struct sim_node *to,
                     uint64_t *last_ns)
{
    uint64_t *pair_ns = &sim->fifo_ns[from->index][to->index];
    uint64_t at_ns = sim->now_ns;

    if (sim_is_cut(sim, from, to))
        at_ns = sim->cut_ns[from->index][to->index];
    at_ns += sim_latency(sim);
    if (at_ns < *last_ns)
        at_ns = *last_ns;
    if (!sim_has(sim, SIM_FAULT_REORDER) && at_ns < *pair_ns)
        at_ns = *pair_ns;
    *last_ns = at_ns;
    if (at_ns > *pair_ns)
        *pair_ns = at_ns;
    return at_ns;
}
