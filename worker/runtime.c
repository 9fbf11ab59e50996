/*
 * runtime.c: opening a worker's parts in the order of their need, and ending them in the order in which
 * they may end. See runtime.h.
 *
 * Stopping: first nobody outside may touch the pool (transfers stop), then the engine ends its
 * sequences, then the connections of our own clients close, and only then can memory go. Each phase
 * ends by an event of the part that it waits for; worker_phase_advance looks for it at the end of every
 * turn in which something happened.
 */
#include "worker/runtime.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "lib/net/address.h"
#include "worker/runtime_internal.h"

/* --- the core's environment, as far as it belongs to no other file --- */

static void env_random(void *impl, void *out, size_t length)
{
    (void)impl;
    td_random_bytes(out, length);
}

static uint32_t env_step_age_ms(void *impl)
{
    const struct worker_runtime *runtime = impl;

    return (uint32_t)(engine_runtime_step_age_ns(runtime->engines.engine) / TD_NS_PER_MS);
}

static void env_fatal(void *impl, const char *reason)
{
    struct worker_runtime *runtime = impl;

    worker_give_up(runtime, NET_EXIT_FAILURE, reason);
}

static struct worker_env make_env(struct worker_runtime *runtime)
{
    struct worker_env env = {.impl = runtime,
                             .random = env_random,
                             .engine = worker_pump_engine,
                             .kvt = worker_pump_transfers,
                             .step_age_ms = env_step_age_ms,
                             .fatal = env_fatal};

    worker_serve_env(&env);
    worker_dial_env(&env);
    worker_report_env(&env);
    return env;
}

/* --- opening --- */

static void on_front_drained(void *context)
{
    worker_touch(context); /* it may be what the drain still waited for */
}

static td_status_t open_front(struct worker_runtime *runtime, struct td_error *error)
{
    struct front_config config = {.loop = runtime->config.loop,
                                  .listen = runtime->config.options->http_listen,
                                  .backend = worker_local_backend(runtime),
                                  .limits = *runtime->config.limits,
                                  .generation = runtime->config.options->generation,
                                  .ping_ms = FRONT_PING_MS,
                                  .on_drained = on_front_drained,
                                  .context = runtime};

    return front_open(&config, &runtime->front, error);
}

static td_status_t open_core(struct worker_runtime *runtime, const struct worker_identity *identity)
{
    const struct worker_options *options = runtime->config.options;
    struct worker_config config = {.identity = *identity,
                                   .policy = runtime->config.policy,
                                   .times = options->times,
                                   .counts = options->counts,
                                   .env = make_env(runtime)};

    return worker_core_open(&config, &runtime->core);
}

/* The addresses that others get to know are known only when both ports are open. */
static td_status_t open_ports(struct worker_runtime *runtime, struct worker_identity *identity,
                              struct td_error *error)
{
    const struct worker_options *options = runtime->config.options;
    const char *target = options->advertise;
    td_status_t status = worker_serve_open(runtime, error);

    if (status == TD_OK)
        status = open_front(runtime, error);
    if (status != TD_OK)
        return status;
    if (target == NULL)
        target = rpc_server_address(runtime->server);
    if (strlen(target) >= sizeof identity->rpc_target)
        return td_fail(error, TD_INVALID, "the RPC address is longer than %zu bytes",
                       sizeof identity->rpc_target - 1);
    snprintf(identity->rpc_target, sizeof identity->rpc_target, "%s", target);
    snprintf(identity->http_address, sizeof identity->http_address, "%s",
             front_address(runtime->front));
    return TD_OK;
}

static td_status_t open_parts(struct worker_runtime *runtime, struct td_error *error)
{
    struct worker_identity identity = {0};
    td_status_t status =
        net_listen_check(runtime->config.options->listen, runtime->config.has_certificates,
                         runtime->config.insecure, error);

    if (status != TD_OK)
        return status; /* before a large model is loaded */
    status = worker_pump_open(runtime);
    if (status != TD_OK)
        return td_fail(error, status, "wake-ups: %s", td_status_text(status));
    status = worker_engines_open(runtime, td_random_u64(), &identity, error);
    if (status == TD_OK) {
        snprintf(runtime->model_name, sizeof runtime->model_name, "%s", identity.models[0]);
        runtime->content_id = identity.model.content_id;
        status = open_ports(runtime, &identity, error);
    }
    if (status == TD_OK) {
        status = open_core(runtime, &identity);
        if (status != TD_OK)
            td_fail(error, status, "worker: %s", td_status_text(status));
    }
    if (status != TD_OK) {
        for (uint32_t i = 0; i < identity.transport_count; i++)
            free(identity.transports[i].address); /* else they have moved to the core */
        return status;
    }
    status = worker_gauges_open(runtime);
    if (status != TD_OK)
        return td_fail(error, status, "metrics: %s", td_status_text(status));
    worker_watch_open(runtime);
    return worker_report_open(runtime, error);
}

static void close_parts(struct worker_runtime *runtime)
{
    worker_watch_close(runtime);
    worker_report_close(runtime);
    worker_serve_close(runtime); /* links and asks tell the core that they are gone */
    worker_dial_close(runtime);
    worker_watch_end(runtime);
    worker_engines_close(&runtime->engines);
    if (runtime->wake != NULL)
        worker_pump_close(runtime);
    if (runtime->core != NULL)
        worker_core_close(runtime->core);
    td_metrics_free(runtime->metrics);
    free(runtime);
}

static void on_front_closed(void *context)
{
    struct worker_runtime *runtime = context;

    runtime->front = NULL;
    worker_touch(runtime);
}

td_status_t worker_runtime_open(const struct worker_runtime_config *config,
                                struct worker_runtime **runtime_out, struct td_error *error)
{
    struct worker_runtime *runtime = calloc(1, sizeof *runtime);
    td_status_t status;

    if (runtime == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory");
    runtime->config = *config;
    runtime->created = td_unix_seconds();
    runtime->engines.kv.fd = -1;
    td_list_init(&runtime->reports);
    worker_dial_open(runtime);
    status = open_parts(runtime, error);
    if (status != TD_OK) {
        if (runtime->front != NULL)
            front_close(runtime->front, NULL, NULL);
        close_parts(runtime);
        return status;
    }
    worker_touch(runtime);
    *runtime_out = runtime;
    return TD_OK;
}

const char *worker_runtime_rpc_address(const struct worker_runtime *runtime)
{
    return rpc_server_address(runtime->server);
}

const char *worker_runtime_http_address(const struct worker_runtime *runtime)
{
    return front_address(runtime->front);
}

/* --- ending --- */

static void refuse_new(struct worker_runtime *runtime, uint64_t remaining_ms)
{
    uint32_t ms = remaining_ms < UINT32_MAX ? (uint32_t)remaining_ms : UINT32_MAX;

    worker_core_drain(runtime->core, ms, td_now_ns());
    front_drain(runtime->front);
}

/*
 * Requests and asks let go of their transfers before the transfers are stopped: one that ended by itself
 * would look like a failure, and go on with another candidate or with a prefill here.
 */
static void break_off(struct worker_runtime *runtime, enum worker_phase before)
{
    if (before == WORKER_SERVING)
        refuse_new(runtime, 0);
    worker_core_cancel_all(runtime->core, td_now_ns());
    kvt_runtime_stop(runtime->engines.transfers);
}

static void begin(struct worker_runtime *runtime, enum worker_phase phase)
{
    enum worker_phase before = runtime->phase;

    runtime->phase = phase;
    switch (phase) {
    case WORKER_SERVING: break;
    case WORKER_DRAINING: refuse_new(runtime, runtime->config.drain_ms); break;
    case WORKER_STOPPING_TRANSFERS: break_off(runtime, before); break;
    case WORKER_STOPPING_ENGINE: engine_runtime_stop(runtime->engines.engine); break;
    case WORKER_CLOSING_FRONT: front_close(runtime->front, on_front_closed, runtime); break;
    case WORKER_STOPPED: runtime->config.stopped(runtime->config.ctx, runtime->exit_status); break;
    }
}

/*
 * Not only have the transfers ended: the core has heard of the end of each. Until then the engine must
 * not end their sequences, whose blocks wait for a release.
 */
static bool transfers_are_over(const struct worker_runtime *runtime)
{
    struct worker_gauges gauges;

    worker_core_gauges(runtime->core, &gauges);
    return kvt_runtime_has_stopped(runtime->engines.transfers) && gauges.transfers_in == 0 &&
           gauges.transfers_out == 0;
}

/* Whether the present phase is over. Events that are still in a ring wake the loop again. */
static bool phase_is_over(const struct worker_runtime *runtime)
{
    bool broken = runtime->exit_status != 0; /* cannot go on: there is nothing to wait for */

    switch (runtime->phase) {
    case WORKER_SERVING: return broken;
    case WORKER_DRAINING:
        return broken || (worker_core_idle(runtime->core) && front_idle(runtime->front));
    case WORKER_STOPPING_TRANSFERS: return transfers_are_over(runtime);
    case WORKER_STOPPING_ENGINE: return engine_runtime_has_stopped(runtime->engines.engine);
    case WORKER_CLOSING_FRONT: return runtime->front == NULL;
    case WORKER_STOPPED: return false;
    }
    return false;
}

void worker_phase_advance(struct worker_runtime *runtime)
{
    if (!phase_is_over(runtime))
        return;
    /* SERVING ends here only because the worker cannot go on */
    begin(runtime, runtime->phase == WORKER_SERVING ? WORKER_STOPPING_TRANSFERS
                                                    : (enum worker_phase)(runtime->phase + 1));
    worker_touch(runtime);
}

void worker_runtime_drain(struct worker_runtime *runtime)
{
    if (runtime->phase == WORKER_SERVING)
        begin(runtime, WORKER_DRAINING);
    worker_touch(runtime);
}

void worker_runtime_stop(struct worker_runtime *runtime)
{
    if (runtime->phase > WORKER_DRAINING)
        return; /* it is under way already */
    begin(runtime, WORKER_STOPPING_TRANSFERS);
    worker_touch(runtime);
}

void worker_runtime_close(struct worker_runtime *runtime)
{
    assert(runtime->phase == WORKER_STOPPED);
    close_parts(runtime);
}
