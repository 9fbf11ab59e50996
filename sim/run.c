/*
 * run.c: one run from its seed to its report: a storm with clients and faults, the calm in which all must
 * end, a last wave that must be answered, and the rest, in which everything must come to nothing.
 */
#include <assert.h>
#include <stdlib.h>

#include "kvtransfer/loop.h"
#include "sim/client.h"
#include "sim/network.h"
#include "sim/worker.h"

#define STORM_NS_MAX (600 * TD_NS_PER_SEC)
#define CALM_NS_MAX  (150 * TD_NS_PER_SEC) /* queue_ms, grace_ms, cancel_ms and leases together */
#define SETTLE_NS    (20 * TD_NS_PER_SEC)
#define CHECK_NS_MAX (60 * TD_NS_PER_SEC)
#define REST_NS      (110 * TD_NS_PER_SEC) /* ended_ms, then link_idle_ms */

struct sim_options sim_options_default(void)
{
    return (struct sim_options){.seed = 1,
                                .steps_max = 20000,
                                .requests = 40,
                                .faults = SIM_FAULTS_ALL,
                                .prefill = 2,
                                .decode = 2,
                                .schedulers = 1,
                                .routers = 1};
}

/* --- opening and closing --- */

/* The seed chooses the shape of the model and of the pools, too. */
static void choose_model(struct sim *sim)
{
    static const uint32_t block_tokens[] = {4, 8, 16};
    bool pressed = (sim->options.faults >> SIM_FAULT_PRESSURE & 1) != 0;

    sim->model = (struct modelled_config){
        .weights = 7,
        .vocab = 256,
        .block_tokens = block_tokens[td_rng_below(&sim->ids, 3)],
        .max_context = 256,
        .rows_max = pressed ? 24 : 64,
        .outputs_max = pressed ? 6 : 16,
        .stop_ids = {3, 9},
        .stop_id_count = 2,
        .step_ns = 2 * TD_NS_PER_MS,
        .prefill_row_ns = 100 * TD_NS_PER_US,
        .decode_row_ns = 300 * TD_NS_PER_US,
    };
    sim->pool_blocks = sim->model.max_context / sim->model.block_tokens;
    sim->pool_blocks = pressed ? sim->pool_blocks + sim->pool_blocks / 4 : 6 * sim->pool_blocks;
}

static void add_nodes(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->options.routers; i++)
        sim_node_add(sim, SIM_ROUTER, i);
    for (uint32_t i = 0; i < sim->options.schedulers; i++)
        sim_node_add(sim, SIM_SCHEDULER, i);
    for (uint32_t i = 0; i < sim->options.prefill; i++)
        sim_node_add(sim, SIM_PREFILL, i);
    for (uint32_t i = 0; i < sim->options.decode; i++)
        sim_node_add(sim, SIM_DECODE, i);
}

/*
 * Of the faults that may happen a run has some: with all of them at once, each hides what the others
 * would show (swarm testing: Groce, Zhang, Eide, Chen and Regehr, 2012).
 */
static uint32_t choose_faults(struct sim *sim, uint32_t possible)
{
    uint32_t chosen = 0;

    if ((possible & (possible - 1)) == 0)
        return possible; /* one, or none */
    for (unsigned i = 0; i < SIM_FAULT_COUNT; i++)
        if (sim_chance(&sim->ids, 600))
            chosen |= possible & 1u << i;
    return chosen;
}

/* In any order, and not at once. */
static void start_node(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    sim_node_start(event->node);
}

static void start_nodes(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->node_count; i++)
        sim_post(sim, &sim->nodes[i], SIM_LIFE_ANY,
                 sim_between(&sim->network, 0, 300 * TD_NS_PER_MS), "first start", start_node);
}

static struct sim *sim_new(const struct sim_options *options, struct sim_report *report)
{
    struct sim *sim = sim_alloc(1, sizeof *sim);
    struct kvt_loop_config loop = {.impl = sim, .post = sim_kvt_post, .part_bytes = 300};
    td_status_t status;

    assert(options->decode > 0 && options->decode <= SIM_WORKERS_MAX);
    assert(options->prefill <= SIM_WORKERS_MAX);
    assert(options->schedulers > 0 && options->schedulers <= SIM_SCHEDULERS_MAX);
    assert(options->routers > 0 && options->routers <= SIM_ROUTERS_MAX);
    sim->options = *options;
    sim->report = report;
    td_rng_init(&sim->network, options->seed * 4);
    td_rng_init(&sim->faults, options->seed * 4 + 1);
    td_rng_init(&sim->clients, options->seed * 4 + 2);
    td_rng_init(&sim->ids, options->seed * 4 + 3);
    td_list_init(&sim->streams);
    td_list_init(&sim->graves);
    td_list_init(&sim->calls);
    td_list_init(&sim->call_graves);
    sim->now_ns = TD_NS_PER_SEC;
    sim->options.faults = report->faults = choose_faults(sim, options->faults);
    loop.ignores_force = (sim->options.faults >> SIM_FAULT_HANG & 1) != 0;
    status = kvt_loop_new(&loop, &sim->loop);
    assert(status == TD_OK);
    choose_model(sim);
    add_nodes(sim);
    sim_clients_open(sim);
    return sim;
}

static void sim_free(struct sim *sim)
{
    sim->closing = true;
    sim_nodes_close(sim);
    sim_events_free(sim);
    sim_streams_free(sim);
    sim_calls_free(sim);
    kvt_loop_free(sim->loop);
    sim_clients_close(sim);
    free(sim);
}

/* --- phases --- */

/* Runs until `clients` of them are over; false if that does not come about by until_ns. */
static bool run_clients(struct sim *sim, uint32_t clients, uint64_t until_ns)
{
    while (!sim->failed && sim->clients_over < clients) {
        if (sim->phase == SIM_STORM && sim->report->figures.events >= sim->options.steps_max)
            return true;
        if (sim_next_ns(sim) > until_ns || !sim_step(sim))
            return false;
    }
    return true;
}

static void run_until(struct sim *sim, uint64_t until_ns)
{
    while (!sim->failed && sim_next_ns(sim) <= until_ns && sim_step(sim))
        continue;
    sim->now_ns = until_ns > sim->now_ns ? until_ns : sim->now_ns;
}

static void enter(struct sim *sim, enum sim_phase phase)
{
    static const char *const names[] = {"storm", "calm", "check", "rest"};

    sim->phase = phase;
    sim_note(sim, "---- %s", names[phase]);
}

static void fail_waiting(struct sim *sim, const char *when)
{
    for (uint32_t i = 0; i < sim->client_count; i++) {
        const struct sim_client *client = &sim->client_array[i];

        if (client->state != SIM_CLIENT_OVER && client->state != SIM_CLIENT_PLANNED)
            sim_fail(sim, "liveness", "client %u is still waiting %s, with %u of %u tokens",
                     client->index, when, client->got, client->expected_count);
    }
    sim_fail(sim, "liveness", "clients have not come %s", when);
}

static void run_phases(struct sim *sim)
{
    uint32_t storm = sim->options.requests;

    enter(sim, SIM_STORM);
    start_nodes(sim);
    sim_clients_come(sim, false);
    sim_faults_start(sim);
    (void)run_clients(sim, storm, sim->now_ns + STORM_NS_MAX);
    if (sim->failed)
        return;
    enter(sim, SIM_CALM);
    sim_faults_stop(sim);
    if (!run_clients(sim, storm, sim->now_ns + CALM_NS_MAX))
        fail_waiting(sim, "long after the faults have ended");
    run_until(sim, sim->now_ns + SETTLE_NS);
    if (sim->failed)
        return;
    enter(sim, SIM_CHECK);
    sim_clients_come(sim, true);
    if (!run_clients(sim, sim->client_count, sim->now_ns + CHECK_NS_MAX))
        fail_waiting(sim, "in a cluster without faults");
    if (sim->failed)
        return;
    enter(sim, SIM_REST);
    run_until(sim, sim->now_ns + REST_NS);
    if (!sim->failed)
        sim_check_rest(sim);
}

void sim_run(const struct sim_options *options, struct sim_report *report_out)
{
    struct sim *sim;

    *report_out = (struct sim_report){.passed = false};
    sim = sim_new(options, report_out);
    run_phases(sim);
    sim_trace_tail(sim);
    report_out->passed = !sim->failed;
    report_out->virtual_ns = sim->now_ns;
    sim_free(sim);
}
