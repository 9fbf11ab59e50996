/* worker.c: a worker's process from its start to its end, see worker.h. */
#include "sim/worker.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "sim/client.h"

#define DRAIN_POLL_NS  (20 * TD_NS_PER_MS)
#define DRAIN_GRACE_NS (8000 * TD_NS_PER_MS)

/* --- identity --- */

static void take_address(struct sim_worker *worker, struct worker_transport *transport)
{
    uint8_t address[KVT_ADDRESS_BYTES_MAX];
    size_t length;
    td_status_t status =
        worker->transport->ops->address(worker->transport, address, sizeof address, &length);

    assert(status == TD_OK);
    snprintf(transport->name, sizeof transport->name, "loop");
    transport->address = sim_copy(address, length);
    transport->address_bytes = length;
}

static void identify(struct sim_worker *worker, struct worker_identity *identity)
{
    const struct sim_node *node = worker->node;

    identity->epoch = worker->epoch;
    identity->model = worker->backend->info;
    identity->text_id = td_u128_from_u64(77);
    snprintf(identity->models[0], sizeof identity->models[0], SIM_MODEL);
    identity->model_count = 1;
    snprintf(identity->rpc_target, sizeof identity->rpc_target, "%s", node->name);
    snprintf(identity->http_address, sizeof identity->http_address, "%s", node->name);
    identity->block_count = worker->kv.block_count;
    identity->max_sequences = 4;
    identity->max_waiting = 8;
    identity->threads = 1;
    take_address(worker, &identity->transports[0]);
    identity->transport_count = 1;
}

static struct worker_policy policy_of(const struct sim_node *node)
{
    bool decodes = node->role == SIM_DECODE;

    return (struct worker_policy){.role = decodes ? TD__ROLE__ROLE_DECODE : TD__ROLE__ROLE_PREFILL,
                                  .import_tokens_min = 24,
                                  .imports = decodes,
                                  .exports = !decodes};
}

/* --- opening and closing --- */

void sim_worker_open(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_worker *worker = sim_alloc(1, sizeof *worker);
    struct worker_config *config = sim_alloc(1, sizeof *config);
    td_status_t status;

    worker->node = node;
    worker->epoch = sim_epoch(sim);
    node->worker = worker;
    sim_engine_open(worker);
    sim_kvt_open(worker);
    identify(worker, &config->identity);
    config->policy = policy_of(node);
    worker_limits_default(&config->times, &config->counts);
    if (sim_has(sim, SIM_FAULT_PRESSURE)) {
        config->counts.requests_max = 24;
        config->counts.exports_max = 8;
    }
    sim_worker_env_fill(worker, &config->env);
    status = worker_core_open(config, &worker->core);
    assert(status == TD_OK);
    free(config);
    sim_worker_announce(worker);
}

static void count(const struct sim_worker *worker)
{
    const struct worker_counters *counters = worker_core_counters(worker->core);
    struct sim_figures *figures = &worker->node->sim->report->figures;
    struct engine_load load;

    engine_core_load(worker->engine, &load);
    figures->imports_landed += counters->imports_landed;
    figures->imports_fallback += counters->imports_fallback;
    figures->imports_retried += counters->imports_retried;
    figures->attaches += counters->attaches;
    figures->preemptions += load.preemptions;
}

void sim_worker_close(struct sim_node *node)
{
    struct sim_worker *worker = node->worker;

    count(worker);
    sim_clients_lose(node);
    sim_kvt_close(worker);
    worker_core_close(worker->core);
    sim_engine_close(worker);
    free(worker);
    node->worker = NULL;
}

/* --- time --- */

static void on_alarm(struct sim *sim, struct sim_event *event)
{
    if (!sim_alarm_rings(event))
        return;
    worker_core_tick(event->node->worker->core, sim->now_ns);
}

void sim_worker_settle(struct sim_node *node)
{
    struct sim_worker *worker = node->worker;

    if (worker_core_counters(worker->core)->invalid_messages > 0)
        sim_fail(node->sim, "protocol", "%s got a message that it calls invalid", node->name);
    sim_alarm_set(node, &worker->core_alarm, worker_core_next_deadline(worker->core),
                  "worker timer", on_alarm);
    sim_engine_settle(worker);
    sim_kvt_settle(worker);
}

/* --- draining --- */

static void poll_drain(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = event->node;

    if (worker_core_idle(node->worker->core) || event->number < sim->now_ns) {
        sim_node_kill(node, sim_between(&sim->faults, 50 * TD_NS_PER_MS, 2 * TD_NS_PER_SEC));
        return;
    }
    if (event->number < sim->now_ns + DRAIN_GRACE_NS)
        worker_core_cancel_all(node->worker->core, sim->now_ns);
    sim_post(sim, node, node->life, DRAIN_POLL_NS, "draining", poll_drain)->number = event->number;
}

void sim_worker_drain(struct sim_node *node, uint32_t timeout_ms)
{
    struct sim *sim = node->sim;
    uint64_t deadline_ns = sim->now_ns + timeout_ms * TD_NS_PER_MS + DRAIN_GRACE_NS;

    worker_core_drain(node->worker->core, timeout_ms, sim->now_ns);
    sim_post(sim, node, node->life, DRAIN_POLL_NS, "draining", poll_drain)->number = deadline_ns;
}
