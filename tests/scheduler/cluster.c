/* cluster.c: see cluster.h. */
#include "tests/scheduler/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proto/version.h"

#define KEYS_MAX 4096

/* --- the loop ------------------------------------------------------------------------------ */

static void watchdog_barks(struct net_timer *timer, uint64_t now_ns)
{
    (void)timer;
    (void)now_ns;
    fail_msg("what the test waits for did not happen");
}

struct condition {
    struct net_timer timer;
    bool (*holds)(void *ctx);
    void *ctx;
};

static void look(struct net_timer *timer, uint64_t now_ns)
{
    struct condition *condition = td_container_of(timer, struct condition, timer);

    if (condition->holds(condition->ctx))
        net_loop_stop(timer->loop);
    else
        net_timer_set(timer, now_ns + TD_NS_PER_MS);
}

void cluster_until(struct cluster *cluster, bool (*holds)(void *ctx), void *ctx)
{
    struct condition condition = {.holds = holds, .ctx = ctx};

    net_timer_init(&condition.timer, cluster->loop, look);
    net_timer_set_in(&condition.timer, 0);
    net_timer_set_in(&cluster->watchdog, CLUSTER_PATIENCE_MS);
    net_loop_run(cluster->loop);
    net_timer_cancel(&cluster->watchdog);
    net_timer_cancel(&condition.timer);
}

static void open_tls(const struct cluster *cluster, enum net_role role, struct net_tls **tls_out)
{
    struct td_error error = {0};
    char folder[512];

    *tls_out = NULL;
    if (cluster->certs == NULL)
        return;
    snprintf(folder, sizeof folder, "%s/%s", cluster->certs, net_role_name(role));
    if (net_tls_open(cluster->loop, folder, tls_out, &error) != TD_OK)
        fail_msg("%s", error.text);
}

/* --- the scheduler ------------------------------------------------------------------------- */

void cluster_init(struct cluster *cluster, const char *address, const char *certs)
{
    memset(cluster, 0, sizeof *cluster);
    cluster->certs = certs;
    cluster->config = sched_config_default();
    cluster->config.index_bytes_max = (size_t)1 << 20;
    snprintf(cluster->address, sizeof cluster->address, "%s", address);
    assert_int_equal(net_loop_open(&cluster->loop), TD_OK);
    net_timer_init(&cluster->watchdog, cluster->loop, watchdog_barks);
}

void cluster_start(struct cluster *cluster)
{
    const struct sched_service_config config = {.address = cluster->address,
                                                .core = cluster->config};
    struct td_error error = {0};

    open_tls(cluster, NET_ROLE_SCHEDULER, &cluster->tls);
    assert_int_equal(rpc_open(cluster->loop, cluster->tls, &cluster->rpc), TD_OK);
    if (sched_service_open(cluster->loop, cluster->rpc, &config, &cluster->service, &error) !=
        TD_OK)
        fail_msg("%s", error.text);
    snprintf(cluster->address, sizeof cluster->address, "%s",
             sched_service_address(cluster->service));
}

void cluster_stop(struct cluster *cluster)
{
    sched_service_close(cluster->service);
    rpc_close(cluster->rpc);
    net_tls_close(cluster->tls);
    cluster->service = NULL;
    cluster->rpc = NULL;
    cluster->tls = NULL;
}

void cluster_fini(struct cluster *cluster)
{
    if (cluster->service != NULL)
        cluster_stop(cluster);
    net_loop_close(cluster->loop);
}

void cluster_be_patient(struct sched_config *config)
{
    config->register_ms = CLUSTER_PATIENCE_MS;
    config->stale_ms = CLUSTER_PATIENCE_MS;
    config->grace_ms = CLUSTER_PATIENCE_MS;
    config->answer_ms = CLUSTER_PATIENCE_MS;
    config->guess_ms = CLUSTER_PATIENCE_MS;
    config->fleet_delay_ms = 1;
    config->retry_ms = 1;
    config->warm_ms = 0;
}

void cluster_open(struct cluster *cluster, const char *address, const char *certs)
{
    cluster_init(cluster, address, certs);
    cluster_be_patient(&cluster->config);
    cluster_start(cluster);
}

struct wait {
    const struct cluster *cluster;
    struct cluster_seen seen;
};

static bool has_seen(void *ctx)
{
    const struct wait *wait = ctx;
    const struct sched_core *core = sched_service_core(wait->cluster->service);
    struct sched_feed_stats feed = sched_core_feed_stats(core);

    return feed.loaded >= wait->seen.loaded && feed.applied >= wait->seen.applied &&
           sched_core_stats(core).reports >= wait->seen.reports;
}

void cluster_wait(struct cluster *cluster, struct cluster_seen seen)
{
    struct wait wait = {.cluster = cluster, .seen = seen};

    cluster_until(cluster, has_seen, &wait);
}

/* --- others -------------------------------------------------------------------------------- */

void side_open(struct side *side, struct cluster *cluster, enum net_role role)
{
    struct rpc_channel_config config = {.target = cluster->address,
                                        .expected_roles = NET_ROLE_BIT(NET_ROLE_SCHEDULER)};

    side->cluster = cluster;
    open_tls(cluster, role, &side->tls);
    assert_int_equal(rpc_open(cluster->loop, side->tls, &side->rpc), TD_OK);
    assert_int_equal(rpc_channel_open(side->rpc, &config, &side->channel), TD_OK);
}

void side_close(struct side *side)
{
    rpc_close(side->rpc);
    net_tls_close(side->tls);
}

void line_open(struct line *line, struct side *side, const char *path,
               const struct rpc_handlers *handlers, void *ctx)
{
    const struct rpc_call_options options = {.path = path, .handlers = handlers, .ctx = ctx};

    memset(line, 0, sizeof *line);
    assert_int_equal(rpc_channel_call(side->channel, &options, &line->call), TD_OK);
}

void line_closed(struct line *line, td_status_t status, const char *detail)
{
    line->call = NULL;
    line->status = status;
    snprintf(line->detail, sizeof line->detail, "%s", detail);
}

static bool can_send(void *ctx)
{
    const struct line *line = ctx;

    return line->call == NULL || rpc_call_writable(line->call);
}

void line_send(struct line *line, struct cluster *cluster, const ProtobufCMessage *message)
{
    cluster_until(cluster, can_send, line);
    if (line->call == NULL)
        fail_msg("the stream has ended: %s", line->detail);
    assert_int_equal(rpc_call_send(line->call, message), TD_OK);
}

static bool has_ended(void *ctx)
{
    return ((const struct line *)ctx)->call == NULL;
}

void line_wait_end(struct line *line, struct cluster *cluster)
{
    cluster_until(cluster, has_ended, line);
}

/* --- workers ------------------------------------------------------------------------------- */

static void on_announce(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct worker *worker = ctx;
    Td__AnnounceOut *message = td__announce_out__unpack(NULL, length, bytes);

    (void)call;
    assert_non_null(message);
    if (message->kind_case == TD__ANNOUNCE_OUT__KIND_WELCOME) {
        worker->welcomes++;
        worker->scheduler_epoch = message->welcome->scheduler_epoch;
    } else {
        assert_int_equal(message->kind_case, TD__ANNOUNCE_OUT__KIND_SNAPSHOT_REQUEST);
        worker->asks++;
    }
    td__announce_out__free_unpacked(message, NULL);
}

static void on_announce_close(void *ctx, struct rpc_call *call, td_status_t status,
                              const char *detail)
{
    struct worker *worker = ctx;

    (void)call;
    line_closed(&worker->line, status, detail);
}

void worker_open(struct worker *worker, struct cluster *cluster, uint64_t epoch, Td__Role role)
{
    memset(worker, 0, sizeof *worker);
    side_open(&worker->side, cluster,
              role == TD__ROLE__ROLE_PREFILL ? NET_ROLE_PREFILL : NET_ROLE_DECODE);
    worker->epoch = epoch;
    worker->role = role;
    snprintf(worker->target, sizeof worker->target, "worker-%u:1", (unsigned)epoch);
}

void worker_connect(struct worker *worker)
{
    static const struct rpc_handlers handlers = {.on_message = on_announce,
                                                 .on_close = on_announce_close};

    worker->welcomes = 0;
    worker->asks = 0;
    line_open(&worker->line, &worker->side, ANNOUNCE_PATH, &handlers, worker);
}

static void send(struct worker *worker, const Td__AnnounceIn *message)
{
    line_send(&worker->line, worker->side.cluster, &message->base);
}

void worker_register(struct worker *worker)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;

    message.kind_case = TD__ANNOUNCE_IN__KIND_REGISTRATION;
    message.registration = world_registration(worker->epoch, worker->role, worker->target);
    send(worker, &message);
}

struct asked {
    const struct worker *worker;
    uint32_t n;
};

static bool was_asked(void *ctx)
{
    const struct asked *asked = ctx;

    return asked->worker->asks >= asked->n || asked->worker->line.call == NULL;
}

void worker_wait_ask(struct worker *worker, uint32_t n)
{
    struct asked asked = {.worker = worker, .n = n};

    cluster_until(worker->side.cluster, was_asked, &asked);
    if (worker->line.call == NULL)
        fail_msg("the stream has ended: %s", worker->line.detail);
}

static uint64_t *pairs_of(uint64_t first_key, size_t count)
{
    static uint64_t pairs[2 * KEYS_MAX];

    assert_true(count <= KEYS_MAX);
    for (size_t i = 0; i < count; i++) {
        pairs[2 * i] = world_key(first_key + i).hi;
        pairs[2 * i + 1] = world_key(first_key + i).lo;
    }
    return pairs;
}

static void add_digest(struct worker *worker, uint64_t first_key, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        worker->digest.hi ^= world_key(first_key + i).hi;
        worker->digest.lo ^= world_key(first_key + i).lo;
    }
}

void worker_snapshot(struct worker *worker, uint64_t first_key, size_t count)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;

    snapshot.sequence = worker->sequence;
    snapshot.parts = 1;
    snapshot.stored = pairs_of(first_key, count);
    snapshot.n_stored = 2 * count;
    message.kind_case = TD__ANNOUNCE_IN__KIND_SNAPSHOT;
    message.snapshot = &snapshot;
    worker->digest = (struct td_u128){0};
    add_digest(worker, first_key, count);
    send(worker, &message);
}

void worker_events(struct worker *worker, uint64_t first_key, size_t count)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;

    events.sequence = ++worker->sequence;
    events.stored = pairs_of(first_key, count);
    events.n_stored = 2 * count;
    message.kind_case = TD__ANNOUNCE_IN__KIND_EVENTS;
    message.events = &events;
    add_digest(worker, first_key, count);
    send(worker, &message);
}

void worker_report(struct worker *worker, bool ready)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__LoadReport report = TD__LOAD_REPORT__INIT;

    report.sequence = worker->sequence;
    report.digest_hi = worker->digest.hi;
    report.digest_lo = worker->digest.lo;
    report.blocks_free = report.blocks_total = 1000;
    report.prefill_tokens_per_s = 1000;
    report.decode_step_us = 10000;
    report.ready = ready;
    report.admitted = worker->admitted;
    message.kind_case = TD__ANNOUNCE_IN__KIND_LOAD;
    message.load = &report;
    send(worker, &message);
}

void worker_join(struct worker *worker, uint64_t first_key, size_t count)
{
    worker_connect(worker);
    worker_register(worker);
    worker_wait_ask(worker, 1);
    worker_snapshot(worker, first_key, count);
    worker_report(worker, true);
}

void worker_close(struct worker *worker)
{
    side_close(&worker->side);
}

/* --- routers ------------------------------------------------------------------------------- */

static void on_fleet(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct router *router = ctx;

    (void)call;
    if (router->picture != NULL)
        td__fleet_update__free_unpacked(router->picture, NULL);
    router->picture = td__fleet_update__unpack(NULL, length, bytes);
    assert_non_null(router->picture);
    router->updates++;
}

static void on_fleet_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct router *router = ctx;

    (void)call;
    line_closed(&router->line, status, detail);
}

void router_open(struct router *router, struct cluster *cluster)
{
    memset(router, 0, sizeof *router);
    side_open(&router->side, cluster, NET_ROLE_ROUTER);
}

void router_watch_with(struct router *router, const Td__FleetRequest *request)
{
    static const struct rpc_handlers handlers = {.on_message = on_fleet,
                                                 .on_close = on_fleet_close};

    line_open(&router->line, &router->side, FLEET_PATH, &handlers, router);
    if (request != NULL)
        line_send(&router->line, router->side.cluster, &request->base);
}

void router_watch(struct router *router)
{
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;

    versions.min = versions.max = TD_PROTOCOL_MAX;
    request.router_epoch = 9;
    request.versions = &versions;
    router_watch_with(router, &request);
}

struct sight {
    const struct router *router;
    size_t workers;
    size_t ready;
};

static bool is_seen(void *ctx)
{
    const struct sight *sight = ctx;
    const Td__FleetUpdate *picture = sight->router->picture;
    size_t ready = 0;

    if (picture == NULL || picture->n_workers != sight->workers)
        return false;
    for (size_t i = 0; i < picture->n_workers; i++)
        ready += picture->workers[i]->ready ? 1 : 0;
    return ready == sight->ready;
}

void router_wait(struct router *router, size_t workers, size_t ready)
{
    struct sight sight = {.router = router, .workers = workers, .ready = ready};

    cluster_until(router->side.cluster, is_seen, &sight);
}

void router_close(struct router *router)
{
    side_close(&router->side);
    if (router->picture != NULL)
        td__fleet_update__free_unpacked(router->picture, NULL);
}

/* --- placing ------------------------------------------------------------------------------- */

static void on_placed(void *ctx, td_status_t status, const char *detail, const uint8_t *bytes,
                      size_t length)
{
    struct placed *placed = ctx;

    placed->done = true;
    placed->status = status;
    snprintf(placed->detail, sizeof placed->detail, "%s", detail != NULL ? detail : "");
    if (status == TD_OK) {
        placed->reply = td__place_reply__unpack(NULL, length, bytes);
        assert_non_null(placed->reply);
    }
}

static bool is_placed(void *ctx)
{
    return ((const struct placed *)ctx)->done;
}

void place(struct side *side, uint32_t tokens, uint64_t first_key, size_t keys,
           struct placed *placed_out)
{
    static char model[] = "smol";
    Td__PlaceRequest request;
    struct rpc_unary_options options = {.path = PLACE_PATH,
                                        .request = &request.base,
                                        .deadline_ms = CLUSTER_PATIENCE_MS,
                                        .fn = on_placed,
                                        .ctx = placed_out};

    *placed_out = (struct placed){0};
    td__place_request__init(&request);
    request.model = model;
    request.prompt_tokens = tokens;
    request.max_new_tokens = 64;
    request.keys = pairs_of(first_key, keys);
    request.n_keys = 2 * keys;
    request.request_hi = 1;
    request.request_lo = 1 + first_key;
    assert_int_equal(rpc_unary_start(side->channel, &options, NULL), TD_OK);
    cluster_until(side->cluster, is_placed, placed_out);
}

void placed_fini(struct placed *placed)
{
    if (placed->reply != NULL)
        td__place_reply__free_unpacked(placed->reply, NULL);
}
