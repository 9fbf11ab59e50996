/* cluster.c: see cluster.h. */
#include "tests/router/cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/time.h"
#include "lib/text/source.h"
#include "proto/version.h"
#include "router/runtime_internal.h"

#define WAIT_SECONDS 60 /* only a broken test ever waits as long */
#define TEXT_CHUNK   4096

/* ---- workers: Generate ---- */

static struct seen_request *seen(struct fake_worker *worker, uint64_t hi, uint64_t lo)
{
    for (int i = 0; i < worker->request_count; i++)
        if (worker->requests[i].id.hi == hi && worker->requests[i].id.lo == lo)
            return &worker->requests[i];
    fail_msg("a worker is told of a request that it was never given");
    return NULL;
}

static void send_packed(struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    Td__GenerateOut *message = td__generate_out__unpack(NULL, length, bytes);

    assert_non_null(message);
    assert_int_equal(rpc_call_send(call, &message->base), TD_OK);
    td__generate_out__free_unpacked(message, NULL);
}

static void flush(struct fake_worker *worker)
{
    while (worker->link != NULL && worker->out_count > 0 && rpc_call_writable(worker->link)) {
        send_packed(worker->link, worker->out[0], worker->out_bytes[0]);
        free(worker->out[0]);
        worker->out_count--;
        memmove(worker->out, worker->out + 1, sizeof worker->out[0] * (size_t)worker->out_count);
        memmove(worker->out_bytes, worker->out_bytes + 1,
                sizeof worker->out_bytes[0] * (size_t)worker->out_count);
    }
}

static void say(struct fake_worker *worker, const Td__GenerateOut *message)
{
    int i = worker->out_count++;

    assert_in_range(i, 0, OUT_MAX - 1);
    worker->out_bytes[i] = td__generate_out__get_packed_size(message);
    worker->out[i] = malloc(worker->out_bytes[i] + 1);
    assert_non_null(worker->out[i]);
    td__generate_out__pack(message, worker->out[i]);
    flush(worker);
}

static void greet(struct fake_worker *worker, const Td__Hello *hello)
{
    Td__GenerateOut out = TD__GENERATE_OUT__INIT;
    Td__HelloBack back = TD__HELLO_BACK__INIT;

    assert_non_null(hello->versions);
    assert_int_not_equal(hello->router_epoch, 0);
    if (worker->mute)
        return;
    if (worker->talks_nonsense) {
        Td__TextChunk nonsense = TD__TEXT_CHUNK__INIT;

        nonsense.total_bytes = 1; /* field 1 as a number, where a greeting is expected */
        assert_int_equal(rpc_call_send(worker->link, &nonsense.base), TD_OK);
        return;
    }
    back.version = TD_PROTOCOL_MAX;
    back.worker_epoch = worker->greets_as != 0 ? worker->greets_as : worker->epoch;
    back.grace_ms = 1000;
    out.kind_case = TD__GENERATE_OUT__KIND_HELLO;
    out.hello = &back;
    say(worker, &out);
}

static void take_start(struct fake_worker *worker, const Td__Start *start)
{
    struct seen_request *request = &worker->requests[worker->request_count++];

    assert_in_range(worker->request_count, 1, REQUESTS_MAX);
    *request = (struct seen_request){.id = {start->request_hi, start->request_lo},
                                     .prompt_tokens = start->prompt_tokens};
    snprintf(request->model, sizeof request->model, "%s", start->model);
    if (worker->leaves_at_start != NULL)
        client_leave(worker->leaves_at_start);
}

static void take_frame(struct fake_worker *worker, const Td__StartTokens *frame, size_t bytes)
{
    struct seen_request *request = seen(worker, frame->request_hi, frame->request_lo);

    assert_int_equal(frame->offset, request->received);
    for (size_t i = 0; i < frame->n_tokens; i++)
        assert_int_equal(frame->tokens[i], request->received++);
    request->frames++;
    if (bytes > request->frame_bytes_max)
        request->frame_bytes_max = (uint32_t)bytes;
}

static void generate_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct fake_worker *worker = ctx;
    Td__GenerateIn *in = td__generate_in__unpack(NULL, length, bytes);

    assert_non_null(in);
    assert_ptr_equal(call, worker->link);
    switch (in->kind_case) {
    case TD__GENERATE_IN__KIND_HELLO: greet(worker, in->hello); break;
    case TD__GENERATE_IN__KIND_START: take_start(worker, in->start); break;
    case TD__GENERATE_IN__KIND_TOKENS: take_frame(worker, in->tokens, length); break;
    case TD__GENERATE_IN__KIND_CANCEL:
        seen(worker, in->cancel->request_hi, in->cancel->request_lo)->cancels++;
        break;
    case TD__GENERATE_IN__KIND_ATTACH:
        seen(worker, in->attach->request_hi, in->attach->request_lo)->attaches++;
        seen(worker, in->attach->request_hi, in->attach->request_lo)->attach_index =
            in->attach->next_index;
        break;
    case TD__GENERATE_IN__KIND_ENDED:
        seen(worker, in->ended->request_hi, in->ended->request_lo)->ended++;
        break;
    default: fail_msg("a message of no kind");
    }
    td__generate_in__free_unpacked(in, NULL);
}

static void generate_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    flush(ctx);
}

static void drop_out(struct fake_worker *worker)
{
    while (worker->out_count > 0)
        free(worker->out[--worker->out_count]);
}

static void generate_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct fake_worker *worker = ctx;

    (void)status;
    (void)detail;
    if (worker->link == call) {
        worker->link = NULL;
        drop_out(worker);
    }
}

static void on_generate(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = generate_message,
                                                 .on_writable = generate_writable,
                                                 .on_close = generate_close};
    struct fake_worker *worker = ctx;

    worker->link = call;
    worker->links++;
    rpc_call_bind(call, &handlers, worker);
}

/* ---- workers: Text ---- */

struct text_stream {
    struct fake_worker *worker;
    struct rpc_call *call;
    size_t offset;
};

static void text_step(struct text_stream *stream)
{
    struct fake_worker *worker = stream->worker;
    size_t left = worker->text_bytes - stream->offset;
    Td__TextChunk chunk = TD__TEXT_CHUNK__INIT;

    if (!rpc_call_writable(stream->call))
        return;
    if (left == 0) {
        rpc_call_finish(stream->call, TD_OK, NULL);
        free(stream);
        return;
    }
    chunk.total_bytes = worker->text_total != 0 ? worker->text_total : worker->text_bytes;
    chunk.data.data = malloc(TEXT_CHUNK);
    chunk.data.len = left < TEXT_CHUNK ? left : TEXT_CHUNK;
    assert_non_null(chunk.data.data);
    memcpy(chunk.data.data, worker->text + stream->offset, chunk.data.len);
    stream->offset += chunk.data.len;
    assert_int_equal(rpc_call_send(stream->call, &chunk.base), TD_OK);
    free(chunk.data.data);
}

static void text_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct text_stream *stream = ctx;
    Td__TextRequest *request = td__text_request__unpack(NULL, length, bytes);

    (void)call;
    assert_non_null(request);
    assert_int_equal(request->text_id_hi, stream->worker->text_id.hi);
    assert_int_equal(request->text_id_lo, stream->worker->text_id.lo);
    td__text_request__free_unpacked(request, NULL);
    stream->worker->texts_asked++;
    text_step(stream);
}

static void text_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    text_step(ctx);
}

static void text_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    (void)status;
    (void)detail;
    free(ctx);
}

static void on_text(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {
        .on_message = text_message, .on_writable = text_writable, .on_close = text_close};
    struct text_stream *stream = calloc(1, sizeof *stream);

    assert_non_null(stream);
    stream->worker = ctx;
    stream->call = call;
    rpc_call_bind(call, &handlers, stream);
}

static const struct rpc_method worker_methods[] = {
    {"/td.Worker/Generate", NET_ROLE_BIT(NET_ROLE_ROUTER), 1 << 20, false, on_generate},
    {"/td.Worker/Text", NET_ROLE_BIT(NET_ROLE_ROUTER), 1 << 16, false, on_text},
};

void worker_listen(struct fake_worker *worker)
{
    const struct rpc_server_config config = {
        .address = worker->address, .methods = worker_methods, .method_count = 2, .ctx = worker};
    struct td_error error = {0};

    if (rpc_server_open(worker->cluster->worker_rpc, &config, &worker->server, &error) != TD_OK)
        fail_msg("%s", error.text);
    snprintf(worker->address, sizeof worker->address, "%s", rpc_server_address(worker->server));
}

void worker_kill(struct fake_worker *worker)
{
    rpc_server_close(worker->server);
    worker->server = NULL;
    assert_null(worker->link);
}

void worker_break_link(struct fake_worker *worker, td_status_t status)
{
    struct rpc_call *link = worker->link;

    assert_non_null(link);
    worker->link = NULL;
    drop_out(worker);
    rpc_call_finish(link, status, "the test breaks it");
}

static void say_update(struct fake_worker *worker, int request, Td__Update *update)
{
    Td__GenerateOut out = TD__GENERATE_OUT__INIT;
    Td__StepUpdates updates = TD__STEP_UPDATES__INIT;

    assert_in_range(request, 0, worker->request_count - 1);
    update->request_hi = worker->requests[request].id.hi;
    update->request_lo = worker->requests[request].id.lo;
    updates.n_updates = 1;
    updates.updates = &update;
    out.kind_case = TD__GENERATE_OUT__KIND_UPDATES;
    out.updates = &updates;
    say(worker, &out);
}

void worker_tokens(struct fake_worker *worker, int request, uint32_t index, const uint32_t *tokens,
                   uint32_t count)
{
    Td__Update update;
    uint32_t copy[64];

    td__update__init(&update);
    assert_in_range(count, 1, 64);
    memcpy(copy, tokens, count * sizeof *tokens);
    update.index = index;
    update.tokens = copy;
    worker->requests[request].sent = index + count;
    update.n_tokens = count;
    say_update(worker, request, &update);
}

void worker_finish(struct fake_worker *worker, int request, Td__Finish finish, td_status_t code)
{
    Td__Update update;
    char message[] = "the test says so";

    td__update__init(&update);
    update.finish = finish;
    update.code = (uint32_t)-code;
    update.message = message;
    update.prompt_tokens = worker->requests[request].prompt_tokens;
    update.completion_tokens = worker->requests[request].sent;
    say_update(worker, request, &update);
}

/* ---- schedulers ---- */

static void describe(const struct fake_worker *worker, Td__FleetWorker *out, char **model)
{
    td__fleet_worker__init(out);
    out->epoch = worker->epoch;
    out->role = TD__ROLE__ROLE_DECODE;
    out->rpc_target = (char *)(uintptr_t)worker->address;
    out->models = model;
    out->n_models = 2;
    out->content_id_hi = 7;
    out->text_id_hi = worker->text_id.hi;
    out->text_id_lo = worker->text_id.lo;
    out->block_tokens = 16;
    out->max_context = 4096 + (uint32_t)worker->epoch;
    out->max_sequences = 4;
    out->max_waiting = 4;
    out->ready = worker->ready;
}

void scheduler_publish(struct fake_scheduler *scheduler)
{
    struct cluster *cluster = scheduler->cluster;
    Td__FleetUpdate update = TD__FLEET_UPDATE__INIT;
    Td__FleetWorker workers[WORKERS_MAX];
    Td__FleetWorker *pointers[WORKERS_MAX];
    char name[] = "tiny";
    char alias[] = "tiny-latest";
    char *models[] = {name, alias};

    if (scheduler->fleet == NULL)
        return;
    scheduler->owes_picture = !rpc_call_writable(scheduler->fleet);
    if (scheduler->owes_picture)
        return;
    update.scheduler_epoch = scheduler->epoch;
    update.workers = pointers;
    for (int i = 0; i < cluster->worker_count && !scheduler->knows_nothing; i++) {
        if (!cluster->workers[i].in_fleet)
            continue;
        describe(&cluster->workers[i], &workers[update.n_workers], models);
        pointers[update.n_workers] = &workers[update.n_workers];
        update.n_workers++;
    }
    assert_int_equal(rpc_call_send(scheduler->fleet, &update.base), TD_OK);
}

static void fleet_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct fake_scheduler *scheduler = ctx;
    Td__FleetRequest *request = td__fleet_request__unpack(NULL, length, bytes);

    assert_non_null(request);
    assert_non_null(request->versions);
    scheduler->router_epoch = request->router_epoch;
    td__fleet_request__free_unpacked(request, NULL);
    scheduler->fleet = call;
    scheduler_publish(scheduler);
}

static void fleet_writable(void *ctx, struct rpc_call *call)
{
    struct fake_scheduler *scheduler = ctx;

    (void)call;
    if (scheduler->owes_picture)
        scheduler_publish(scheduler);
}

static void fleet_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct fake_scheduler *scheduler = ctx;

    (void)status;
    (void)detail;
    if (scheduler->fleet == call)
        scheduler->fleet = NULL;
}

static void on_fleet(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {
        .on_message = fleet_message, .on_writable = fleet_writable, .on_close = fleet_close};

    rpc_call_bind(call, &handlers, ctx);
}

static bool is_excluded(const Td__PlaceRequest *request, uint64_t epoch)
{
    for (size_t i = 0; i < request->n_exclude; i++)
        if (request->exclude[i] == epoch)
            return true;
    return false;
}

static uint64_t choose(const struct fake_scheduler *scheduler, const Td__PlaceRequest *request)
{
    const struct cluster *cluster = scheduler->cluster;

    if (scheduler->no_worker || scheduler->place_on != 0)
        return scheduler->no_worker ? 0 : scheduler->place_on;
    for (int i = 0; i < cluster->worker_count; i++)
        if (cluster->workers[i].in_fleet && cluster->workers[i].ready &&
            !is_excluded(request, cluster->workers[i].epoch))
            return cluster->workers[i].epoch;
    return 0;
}

static void place_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct fake_scheduler *scheduler = ctx;
    Td__PlaceRequest *request = td__place_request__unpack(NULL, length, bytes);
    Td__PlaceReply reply;
    char message[] = "no room";

    td__place_reply__init(&reply);
    assert_non_null(request);
    assert_string_equal(request->model, "tiny");
    scheduler->places++;
    scheduler->last_excluded = request->n_exclude > 0 ? request->exclude[0] : 0;
    scheduler->last_keys = request->n_keys;
    reply.worker_epoch = choose(scheduler, request);
    if (reply.worker_epoch == 0) {
        reply.code = (uint32_t)-TD_EXHAUSTED;
        reply.message = message;
        reply.retry_after_ms = scheduler->no_worker_retry_ms;
    }
    td__place_request__free_unpacked(request, NULL);
    if (scheduler->holds)
        return;
    if (scheduler->fails_with != TD_OK)
        rpc_call_finish(call, scheduler->fails_with, "the test has it fail");
    else
        rpc_call_reply(call, &reply.base);
}

static void on_place(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = place_message};

    rpc_call_bind(call, &handlers, ctx);
}

static const struct rpc_method scheduler_methods[] = {
    {"/td.Scheduler/Fleet", NET_ROLE_BIT(NET_ROLE_ROUTER), 1 << 16, false, on_fleet},
    {"/td.Scheduler/Place", NET_ROLE_BIT(NET_ROLE_ROUTER), 1 << 20, true, on_place},
};

void scheduler_listen(struct fake_scheduler *scheduler, struct rpc *rpc)
{
    const struct rpc_server_config config = {.address = scheduler->address,
                                             .methods = scheduler_methods,
                                             .method_count = 2,
                                             .ctx = scheduler};
    struct td_error error = {0};

    if (rpc_server_open(rpc, &config, &scheduler->server, &error) != TD_OK)
        fail_msg("%s", error.text);
    snprintf(scheduler->address, sizeof scheduler->address, "%s",
             rpc_server_address(scheduler->server));
}

void scheduler_kill(struct fake_scheduler *scheduler)
{
    rpc_server_close(scheduler->server);
    scheduler->server = NULL;
}

/* ---- the cluster ---- */

static void watchdog_barks(struct net_timer *timer, uint64_t now_ns)
{
    (void)timer;
    (void)now_ns;
    fail_msg("what the test waits for did not happen");
}

static struct rpc *open_rpc(struct cluster *cluster, int i, const char *certs, const char *role)
{
    struct td_error error = {0};
    struct rpc *rpc;
    char folder[256];

    if (certs != NULL) {
        snprintf(folder, sizeof folder, "%s/%s", certs, role);
        if (net_tls_open(cluster->loop, folder, &cluster->tls[i], &error) != TD_OK)
            fail_msg("%s", error.text);
    }
    assert_int_equal(rpc_open(cluster->loop, cluster->tls[i], &rpc), TD_OK);
    return rpc;
}

void cluster_open(struct cluster *cluster, const char *certs)
{
    *cluster = (struct cluster){.limits = router_limits_default()};
    cluster->text =
        (uint8_t *)test_read_file(test_data_path("text/tiny_llama.source"), &cluster->text_bytes);
    snprintf(cluster->folder, sizeof cluster->folder, "/tmp/tandem-router-XXXXXX");
    assert_non_null(mkdtemp(cluster->folder));
    assert_int_equal(net_loop_open(&cluster->loop), TD_OK);
    net_timer_init(&cluster->watchdog, cluster->loop, watchdog_barks);
    cluster->router_rpc = open_rpc(cluster, 0, certs, "router");
    cluster->scheduler_rpc = open_rpc(cluster, 1, certs, "scheduler");
    cluster->worker_rpc = open_rpc(cluster, 2, certs, "decode");
    if (certs != NULL) /* unix sockets have no TLS */
        rmdir(cluster->folder);
}

static void address_for(const struct cluster *cluster, const char *kind, int number, char out[128])
{
    if (cluster->tls[0] != NULL)
        snprintf(out, 128, "127.0.0.1:0");
    else
        snprintf(out, 128, "unix:%s/%s%d", cluster->folder, kind, number);
}

struct fake_worker *cluster_worker(struct cluster *cluster, uint64_t epoch)
{
    struct fake_worker *worker = &cluster->workers[cluster->worker_count];

    assert_in_range(cluster->worker_count, 0, WORKERS_MAX - 1);
    *worker = (struct fake_worker){.cluster = cluster,
                                   .epoch = epoch,
                                   .in_fleet = true,
                                   .ready = true,
                                   .text = cluster->text,
                                   .text_bytes = cluster->text_bytes,
                                   .text_id = text_source_id(cluster->text, cluster->text_bytes)};
    address_for(cluster, "worker", cluster->worker_count++, worker->address);
    worker_listen(worker);
    return worker;
}

struct fake_scheduler *cluster_scheduler(struct cluster *cluster, struct rpc *rpc)
{
    struct fake_scheduler *scheduler = &cluster->schedulers[cluster->scheduler_count];

    assert_in_range(cluster->scheduler_count, 0, SCHEDULERS_MAX - 1);
    *scheduler = (struct fake_scheduler){.cluster = cluster,
                                         .epoch = 100 + (uint64_t)cluster->scheduler_count};
    address_for(cluster, "scheduler", cluster->scheduler_count++, scheduler->address);
    scheduler_listen(scheduler, rpc);
    return scheduler;
}

static void client_tokens(struct front_exchange *exchange, const uint32_t *tokens, uint32_t count)
{
    struct client *client = (struct client *)(void *)exchange;
    struct front_backend *backend = &client->cluster->backend;

    assert_false(client->ended);
    assert_in_range(client->token_count + count, 1, 4096);
    memcpy(client->tokens + client->token_count, tokens, count * sizeof *tokens);
    client->token_count += count;
    if (client->stop_at_first)
        backend->stop(backend->impl, client->handle);
    if (client->abandon_at_first)
        backend->abandon(backend->impl, client->handle);
    if (client->abandon_at_first)
        client->handle = NULL;
}

static void client_end(struct front_exchange *exchange, const struct front_result *result)
{
    struct client *client = (struct client *)(void *)exchange;

    assert_false(client->ended);
    assert_non_null(client->handle);
    client->ended = true;
    client->result = *result;
    client->handle = NULL;
}

void cluster_start(struct cluster *cluster)
{
    const char *targets[SCHEDULERS_MAX];
    struct router_runtime_config config = {.loop = cluster->loop,
                                           .rpc = cluster->router_rpc,
                                           .schedulers = targets,
                                           .scheduler_count = (size_t)cluster->scheduler_count,
                                           .limits = cluster->limits,
                                           .client = {client_tokens, client_end}};
    struct td_error error = {0};

    for (int i = 0; i < cluster->scheduler_count; i++)
        targets[i] = cluster->schedulers[i].address;
    if (router_runtime_open(&config, &cluster->runtime, &error) != TD_OK)
        fail_msg("%s", error.text);
    cluster->backend = router_runtime_backend(cluster->runtime);
}

void cluster_start_simple(struct cluster *cluster, int workers)
{
    for (int i = 0; i < workers; i++)
        cluster_worker(cluster, 1 + (uint64_t)i);
    cluster_scheduler(cluster, cluster->scheduler_rpc);
    cluster_start(cluster);
    cluster_until(cluster, cluster_is_ready, cluster);
}

void cluster_close(struct cluster *cluster)
{
    router_runtime_close(cluster->runtime);
    net_timer_cancel(&cluster->watchdog);
    rpc_close(cluster->router_rpc);
    rpc_close(cluster->worker_rpc);
    rpc_close(cluster->scheduler_rpc);
    for (int i = 0; i < 3; i++)
        net_tls_close(cluster->tls[i]);
    net_loop_close(cluster->loop);
    for (int i = 0; i < cluster->worker_count; i++)
        drop_out(&cluster->workers[i]);
    free(cluster->text);
    rmdir(cluster->folder);
}

struct condition {
    struct net_timer timer;
    bool (*holds)(void *ctx);
    void *ctx;
    int turns;
};

static void look(struct net_timer *timer, uint64_t now_ns)
{
    struct condition *condition = td_container_of(timer, struct condition, timer);

    condition->turns--;
    if (condition->holds != NULL ? condition->holds(condition->ctx) : condition->turns == 0)
        net_loop_stop(timer->loop);
    else
        net_timer_set(timer, now_ns + TD_NS_PER_MS);
}

static void run(struct cluster *cluster, struct condition *condition)
{
    net_timer_init(&condition->timer, cluster->loop, look);
    net_timer_set_in(&condition->timer, 0);
    net_timer_set_in(&cluster->watchdog, WAIT_SECONDS * 1000);
    net_loop_run(cluster->loop);
    net_timer_cancel(&condition->timer);
    net_timer_cancel(&cluster->watchdog);
}

void cluster_until(struct cluster *cluster, bool (*holds)(void *ctx), void *ctx)
{
    struct condition condition = {.holds = holds, .ctx = ctx};

    run(cluster, &condition);
}

void cluster_turns(struct cluster *cluster, int turns)
{
    struct condition condition = {.turns = turns};

    run(cluster, &condition);
}

bool cluster_is_ready(void *ctx)
{
    struct cluster *cluster = ctx;
    char why[160];

    return cluster->backend.is_ready(cluster->backend.impl, why, sizeof why);
}

struct router_counters cluster_counters(const struct cluster *cluster)
{
    return *router_core_counters(cluster->runtime->core);
}

struct router_gauges cluster_gauges(const struct cluster *cluster)
{
    struct router_gauges gauges;

    router_core_gauges(cluster->runtime->core, &gauges);
    return gauges;
}

/* ---- clients ---- */

td_status_t client_start(struct client *client, struct cluster *cluster, uint32_t prompt_tokens)
{
    struct front_job job = {.model = "tiny",
                            .token_count = prompt_tokens,
                            .max_new_tokens = 16,
                            .text_id = text_source_id(cluster->text, cluster->text_bytes)};
    uint32_t retry_after_ms;
    td_status_t status;

    client->cluster = cluster;
    job.tokens = malloc(prompt_tokens * sizeof *job.tokens);
    assert_non_null(job.tokens);
    for (uint32_t i = 0; i < prompt_tokens; i++)
        job.tokens[i] = i;
    status =
        cluster->backend.start(cluster->backend.impl, &job, (struct front_exchange *)(void *)client,
                               &client->handle, &retry_after_ms);
    free(job.tokens);
    return status;
}

void client_leave(struct client *client)
{
    client->cluster->backend.abandon(client->cluster->backend.impl, client->handle);
    client->handle = NULL;
}

bool client_has_token(void *ctx)
{
    const struct client *client = ctx;

    return client->token_count > 0;
}

bool client_ended(void *ctx)
{
    const struct client *client = ctx;

    return client->ended;
}
