/* runtime_site.c: the loop, the workers and the router, see runtime_site.h. The rest is in runtime_peers.c. */
#include "tests/worker/runtime_site.h"

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WAIT_SECONDS 60
#define ROUTER_EPOCH 77
#define FRAME_TOKENS 100

bool ring_is_full;
td_status_t (*site_open_gpu)(uint32_t index, struct cuda_device **device_out,
                             struct td_error *error);
td_status_t (*site_open_gpu_pool)(const struct kvt_cuda_config *config,
                                  struct kvt_device **device_out, struct td_error *error);
void (*site_hung)(void);

td_status_t __real_kvt_runtime_push(struct kvt_runtime *runtime, const struct kvt_command *command);
td_status_t __wrap_kvt_runtime_push(struct kvt_runtime *runtime, const struct kvt_command *command);

td_status_t __wrap_kvt_runtime_push(struct kvt_runtime *runtime, const struct kvt_command *command)
{
    return ring_is_full ? TD_LIMIT : __real_kvt_runtime_push(runtime, command);
}

/* ------------------------------------------------------------------------- engines that can be held */

struct gate {
    struct engine_backend backend; /* what the engine sees */
    struct engine_backend *inner;
};

static pthread_mutex_t gate_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_is_shut;
static uint32_t gate_tokens; /* it shuts after so many more; 0: not by itself */

static bool asks_for_token(const struct engine_batch *batch)
{
    for (uint32_t i = 0; i < batch->output_count; i++)
        if (batch->outputs[i].want == ENGINE_WANT_LOGITS)
            return true;
    return false;
}

/* The step has been taken, and nobody has heard of it yet: however late they do, there is no other. */
static void gate_count_token(void)
{
    pthread_mutex_lock(&gate_mutex);
    if (gate_tokens > 0 && --gate_tokens == 0)
        gate_is_shut = true;
    pthread_mutex_unlock(&gate_mutex);
}

static td_status_t gate_run(struct engine_backend *backend, const struct engine_batch *batch,
                            struct engine_result *result_out)
{
    struct gate *gate = td_container_of(backend, struct gate, backend);
    td_status_t status;

    pthread_mutex_lock(&gate_mutex);
    while (gate_is_shut)
        pthread_cond_wait(&gate_moved, &gate_mutex);
    pthread_mutex_unlock(&gate_mutex);
    status = gate->inner->ops->run(gate->inner, batch, result_out);
    if (status == TD_OK && asks_for_token(batch))
        gate_count_token();
    return status;
}

static void gate_close(struct engine_backend *backend)
{
    struct gate *gate = td_container_of(backend, struct gate, backend);

    gate->inner->ops->close(gate->inner);
    free(gate);
}

static const struct engine_backend_ops gate_ops = {
    .name = "gate", .run = gate_run, .close = gate_close};

td_status_t __real_cpu_backend_open(const struct model *model, const struct engine_kv *kv,
                                    const struct cpu_options *options,
                                    struct engine_backend **backend_out, struct td_error *error);
td_status_t __wrap_cpu_backend_open(const struct model *model, const struct engine_kv *kv,
                                    const struct cpu_options *options,
                                    struct engine_backend **backend_out, struct td_error *error);

td_status_t __wrap_cpu_backend_open(const struct model *model, const struct engine_kv *kv,
                                    const struct cpu_options *options,
                                    struct engine_backend **backend_out, struct td_error *error)
{
    struct gate *gate = calloc(1, sizeof *gate);
    td_status_t status;

    assert_non_null(gate);
    status = __real_cpu_backend_open(model, kv, options, &gate->inner, error);
    if (status != TD_OK) {
        free(gate);
        return status;
    }
    gate->backend = *gate->inner;
    gate->backend.ops = &gate_ops;
    *backend_out = &gate->backend;
    return TD_OK;
}

static void set_gate(bool is_shut, uint32_t tokens)
{
    pthread_mutex_lock(&gate_mutex);
    gate_is_shut = is_shut;
    gate_tokens = tokens;
    pthread_cond_broadcast(&gate_moved);
    pthread_mutex_unlock(&gate_mutex);
}

void engines_hold(void)
{
    set_gate(true, 0);
}

void engines_hold_after(uint32_t tokens)
{
    set_gate(false, tokens);
}

void engines_go_on(void)
{
    set_gate(false, 0);
}

/* ---------------------------------------------------------------------------------------- the loop */

static int open_descriptors(void)
{
    DIR *folder = opendir("/proc/self/fd");
    int count = 0;

    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void bark(struct net_timer *timer, uint64_t now_ns)
{
    const struct site *site = td_container_of(timer, struct site, watchdog);

    (void)now_ns;
    fail_msg("what the test waits for did not happen: %s", site->awaited);
}

int site_warm_up(void **state)
{
    struct net_loop *loop;
    struct rpc *rpc;

    (void)state;
    td_log_set_level(TD_LOG_ERROR);
    assert_int_equal(net_loop_open(&loop), TD_OK);
    assert_int_equal(rpc_open(loop, NULL, &rpc), TD_OK);
    rpc_close(rpc);
    net_loop_close(loop);
    return 0;
}

void site_open(struct site *site)
{
    engines_go_on(); /* a test that failed may have held them */
    ring_is_full = false;
    *site = (struct site){.folder = "/tmp/tandem-site-XXXXXX"};
    site->descriptors = open_descriptors();
    assert_non_null(mkdtemp(site->folder));
    assert_int_equal(net_loop_open(&site->loop), TD_OK);
    assert_int_equal(rpc_open(site->loop, NULL, &site->rpc), TD_OK);
    net_timer_init(&site->watchdog, site->loop, bark);
}

/* gRPC closes sockets on a thread of its own, a moment after it has been shut down. */
static void wait_for_descriptors(int count)
{
    for (int i = 0; i < WAIT_SECONDS * 1000 && open_descriptors() > count; i++)
        usleep(1000);
    assert_int_equal(open_descriptors(), count);
}

void site_close(struct site *site)
{
    assert_null(site->prefill.runtime);
    assert_null(site->decode.runtime);
    net_timer_cancel(&site->watchdog);
    rpc_close(site->rpc);
    net_loop_close(site->loop);
    assert_int_equal(rmdir(site->folder), 0);
    wait_for_descriptors(site->descriptors);
}

struct look {
    struct net_timer timer;
    struct site *site;
    bool (*holds)(void *ctx);
    void *ctx;
    int turns;
};

static void look(struct net_timer *timer, uint64_t now_ns)
{
    struct look *watched = td_container_of(timer, struct look, timer);
    bool enough = watched->holds != NULL ? watched->holds(watched->ctx) : --watched->turns <= 0;

    if (enough)
        net_loop_stop(watched->site->loop);
    else
        net_timer_set(timer, now_ns + TD_NS_PER_MS);
}

static void run(struct site *site, struct look *watched)
{
    watched->site = site;
    net_timer_init(&watched->timer, site->loop, look);
    net_timer_set_in(&watched->timer, 0);
    net_timer_set_in(&site->watchdog, WAIT_SECONDS * 1000);
    net_loop_run(site->loop);
    net_timer_cancel(&watched->timer);
    net_timer_cancel(&site->watchdog);
}

void site_until_named(struct site *site, bool (*holds)(void *ctx), void *ctx, const char *name)
{
    struct look watched = {.holds = holds, .ctx = ctx};

    site->awaited = name;
    run(site, &watched);
}

void site_turns(struct site *site, int turns)
{
    struct look watched = {.turns = turns};

    site->awaited = "turns of the loop";
    run(site, &watched);
}

/* ---------------------------------------------------------------------------------------- workers */

static void on_hung(void *ctx)
{
    struct station *station = ctx;

    station->hangs++;
    if (site_hung != NULL)
        site_hung();
}

static void on_stopped(void *ctx, int exit_status)
{
    struct station *station = ctx;

    station->stops++;
    station->exit_status = exit_status;
}

void station_parse(struct station *station, const char *const *flags)
{
    static const char *const common[] = {"--http-listen=127.0.0.1:0", "--kv-transport=map",
                                         "--threads=1", "--kv-bytes=4MiB"};
    struct td_flag_table tables[WORKER_TABLES + 1];
    struct td_flags parser = {
        .program = "test", .tables = tables, .table_count = WORKER_TABLES + 1};
    struct td_flags_result result;
    struct td_error error = {0};
    char *words[40];
    size_t count = 0;

    td_arena_init(&station->arena, 1 << 20);
    for (size_t i = 0; i < sizeof common / sizeof common[0]; i++)
        words[count++] = (char *)(uintptr_t)common[i];
    for (; flags != NULL && *flags != NULL; flags++)
        words[count++] = (char *)(uintptr_t)*flags;
    worker_option_tables(&station->options, tables);
    tables[WORKER_TABLES] = api_limits_table(&station->limits);
    if (td_flags_parse(&parser, &station->arena, (struct td_flag_list){words, count}, &result,
                       &error) != TD_OK)
        fail_msg("%s", error.text);
}

td_status_t station_try(struct site *site, struct station *station, const char *const *flags,
                        struct td_error *error)
{
    bool is_decode = station == &site->decode;
    struct worker_runtime_config config = {
        .loop = site->loop,
        .rpc = site->rpc,
        .drain_ms = 30000,
        .options = &station->options,
        .limits = &station->limits,
        .policy = {.role = is_decode ? TD__ROLE__ROLE_DECODE : TD__ROLE__ROLE_PREFILL,
                   .import_tokens_min = 1,
                   .imports = is_decode,
                   .exports = !is_decode},
        .open_gpu = site_open_gpu,
        .open_gpu_pool = site_open_gpu_pool,
        .stopped = on_stopped,
        .hung = on_hung,
        .ctx = station};
    td_status_t status;

    *station = (struct station){.site = site};
    station_parse(station, flags);
    if (station->options.model == NULL)
        station->options.model = "tests/data/tiny-llama/model.gguf";
    snprintf(station->listen, sizeof station->listen, "unix:%s/%s", site->folder,
             is_decode ? "decode" : "prefill");
    if (station->options.listen == NULL)
        station->options.listen = station->listen;
    status = worker_runtime_open(&config, &station->runtime, error);
    if (status != TD_OK)
        td_arena_fini(&station->arena);
    return status;
}

void station_open(struct site *site, struct station *station, const char *const *flags)
{
    struct td_error error = {0};

    if (station_try(site, station, flags, &error) != TD_OK)
        fail_msg("%s", error.text);
}

struct worker_gauges station_gauges(const struct station *station)
{
    struct worker_gauges gauges;

    worker_core_gauges(station->runtime->core, &gauges);
    return gauges;
}

const struct worker_counters *station_counters(const struct station *station)
{
    return worker_core_counters(station->runtime->core);
}

uint64_t station_epoch(const struct station *station)
{
    return station->runtime->core->identity.epoch;
}

bool station_is_at_rest(void *ctx)
{
    const struct station *station = ctx;
    const struct engine_balance *balance = &worker_core_load(station->runtime->core)->balance;
    struct worker_gauges gauges = station_gauges(station);

    return gauges.requests == 0 && gauges.imports == 0 && gauges.exports == 0 &&
           gauges.transfers_in == 0 && gauges.transfers_out == 0 &&
           station->runtime->ask_count == 0 && station->runtime->text_count == 0 &&
           station->runtime->asks.count == 0 && station->runtime->pairs.count == 0 &&
           balance->free + balance->cached == balance->total;
}

bool station_has_stopped(void *ctx)
{
    const struct station *station = ctx;

    return station->stops > 0;
}

void station_close(struct station *station)
{
    assert_int_equal(station->stops, 1);
    worker_runtime_close(station->runtime);
    station->runtime = NULL;
    td_arena_fini(&station->arena);
}

void station_end(struct station *station)
{
    site_until(station->site, station_is_at_rest, station);
    worker_runtime_drain(station->runtime);
    site_until(station->site, station_has_stopped, station);
    assert_int_equal(station->exit_status, 0);
    station_close(station);
}

/* ---------------------------------------------------------------------------------------- streams */

struct queued {
    struct td_list node;
    ProtobufCMessage *message; /* NULL: nonsense */
};

static void queued_free(struct queued *queued)
{
    td_list_remove(&queued->node);
    if (queued->message != NULL)
        protobuf_c_message_free_unpacked(queued->message, NULL);
    free(queued);
}

static void stream_pump(struct stream *stream)
{
    struct td_list *node = td_list_first(&stream->queue);
    Td__TextRequest nonsense = TD__TEXT_REQUEST__INIT;
    struct queued *queued;

    if (stream->call == NULL || !rpc_call_writable(stream->call))
        return;
    if (node == NULL) {
        if (stream->close_wanted)
            rpc_call_send_close(stream->call);
        return;
    }
    queued = td_container_of(node, struct queued, node);
    nonsense.text_id_hi = 1; /* a fixed64 where every other message has something else */
    assert_int_equal(
        rpc_call_send(stream->call, queued->message != NULL ? queued->message : &nonsense.base),
        TD_OK);
    queued_free(queued);
}

static void stream_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct stream *stream = ctx;
    ProtobufCMessage *message = protobuf_c_message_unpack(stream->hears, NULL, length, bytes);

    (void)call;
    assert_non_null(message);
    stream->messages++;
    stream->on_message(stream->ctx, message);
    protobuf_c_message_free_unpacked(message, NULL);
}

static void stream_on_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    stream_pump(ctx);
}

static void stream_on_close(void *ctx, struct rpc_call *call, td_status_t status,
                            const char *detail)
{
    struct stream *stream = ctx;

    (void)call;
    stream->call = NULL;
    stream->status = status;
    snprintf(stream->detail, sizeof stream->detail, "%s", detail);
}

static const struct rpc_handlers stream_handlers = {.on_message = stream_on_message,
                                                    .on_writable = stream_on_writable,
                                                    .on_close = stream_on_close};

void stream_open(struct stream *stream, struct site *site, const char *target, const char *path)
{
    const struct rpc_channel_config channel = {.target = target};
    const struct rpc_call_options call = {
        .path = path, .handlers = &stream_handlers, .ctx = stream};

    stream->site = site;
    stream->close_wanted = false;
    stream->messages = 0;
    td_list_init(&stream->queue);
    assert_int_equal(rpc_channel_open(site->rpc, &channel, &stream->channel), TD_OK);
    assert_int_equal(rpc_channel_call(stream->channel, &call, &stream->call), TD_OK);
}

static void enqueue(struct stream *stream, ProtobufCMessage *message)
{
    struct queued *queued = calloc(1, sizeof *queued);

    assert_non_null(queued);
    queued->message = message;
    td_list_init(&queued->node);
    td_list_push_back(&stream->queue, &queued->node);
    stream_pump(stream);
}

void stream_send(struct stream *stream, const ProtobufCMessage *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(length + 1);

    assert_non_null(bytes);
    protobuf_c_message_pack(message, bytes);
    enqueue(stream, protobuf_c_message_unpack(message->descriptor, NULL, length, bytes));
    free(bytes);
}

void stream_send_nonsense(struct stream *stream)
{
    enqueue(stream, NULL);
}

void stream_half_close(struct stream *stream)
{
    stream->close_wanted = true;
    stream_pump(stream);
}

void stream_close(struct stream *stream)
{
    if (stream->call != NULL)
        rpc_call_cancel(stream->call);
    stream->call = NULL;
    rpc_channel_close(stream->channel);
    stream->channel = NULL;
    td_list_for_each(node, &stream->queue) queued_free(td_container_of(node, struct queued, node));
}

bool stream_is_closed(void *ctx)
{
    const struct stream *stream = ctx;

    return stream->call == NULL;
}

bool stream_has_message(void *ctx)
{
    const struct stream *stream = ctx;

    return stream->messages > 0;
}

/* ----------------------------------------------------------------------------------------- router */

static struct heard *find_heard(struct router *router, uint64_t hi, uint64_t lo)
{
    for (int i = 0; i < router->heard_count; i++)
        if (router->heard[i].id.hi == hi && router->heard[i].id.lo == lo)
            return &router->heard[i];
    fail_msg("an update for a request that was never started");
    return NULL;
}

static void hear_end(struct router *router, struct heard *heard, const Td__Update *update)
{
    heard->ends++;
    heard->finish = update->finish;
    heard->code = update->code;
    heard->cached_tokens = update->cached_tokens;
    snprintf(heard->message, sizeof heard->message, "%s", update->message);
    if (update->kv != NULL) {
        snprintf(heard->transport, sizeof heard->transport, "%s", update->kv->transport);
        snprintf(heard->fallback, sizeof heard->fallback, "%s", update->kv->fallback);
        heard->remote_blocks = update->kv->remote_blocks;
    }
    if (!router->keeps_ends)
        router_ended(router, heard);
}

static void hear(struct router *router, const Td__Update *update)
{
    struct heard *heard = find_heard(router, update->request_hi, update->request_lo);

    heard->updates++;
    if (update->n_tokens > 0 && update->index != heard->count)
        heard->gap = true;
    for (size_t i = 0; i < update->n_tokens && heard->count < HEARD_TOKENS_MAX; i++)
        heard->tokens[heard->count++] = update->tokens[i];
    if (update->finish != TD__FINISH__FINISH_NONE)
        hear_end(router, heard, update);
}

static void router_on_message(void *ctx, const ProtobufCMessage *base)
{
    struct router *router = ctx;
    const Td__GenerateOut *message = (const Td__GenerateOut *)base;

    if (message->kind_case == TD__GENERATE_OUT__KIND_HELLO)
        router->greeted = true;
    else
        for (size_t i = 0; i < message->updates->n_updates; i++)
            hear(router, message->updates->updates[i]);
}

static void router_send(struct router *router, Td__GenerateIn *message)
{
    stream_send(&router->stream, &message->base);
}

void router_hello(struct router *router, uint64_t worker_epoch)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Hello hello = TD__HELLO__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;

    versions.min = versions.max = WORKER_PROTOCOL_VERSION;
    hello.versions = &versions;
    hello.router_epoch = ROUTER_EPOCH;
    hello.worker_epoch = worker_epoch;
    message.kind_case = TD__GENERATE_IN__KIND_HELLO;
    message.hello = &hello;
    router_send(router, &message);
}

void router_reopen(struct router *router)
{
    struct station *station = router->station;

    router->greeted = false;
    router->stream = (struct stream){
        .hears = &td__generate_out__descriptor, .on_message = router_on_message, .ctx = router};
    stream_open(&router->stream, station->site, station->options.listen, "/td.Worker/Generate");
}

bool router_is_greeted(void *ctx)
{
    const struct router *router = ctx;

    return router->greeted;
}

void router_open(struct router *router, struct station *station)
{
    *router = (struct router){.station = station};
    router_reopen(router);
    router_hello(router, station_epoch(station));
    site_until(station->site, router_is_greeted, router);
}

/* gRPC 1.51 keeps the socket of a channel that is closed while it connects. */
void router_close(struct router *router)
{
    if (router->stream.call != NULL && !router->greeted) {
        router_hello(router, station_epoch(router->station));
        site_until(router->station->site, router_is_greeted, router);
    }
    stream_close(&router->stream);
}

/* Ids that every vocabulary has. */
static uint32_t prompt_token(uint32_t seed, uint32_t i)
{
    return 3 + (i * 37 + seed * 101 + i * i % 11) % 600;
}

static void send_tokens(struct router *router, struct td_u128 id, const struct start *start)
{
    uint32_t tokens[FRAME_TOKENS];
    uint32_t total = start->send_tokens != 0 ? start->send_tokens : start->prompt_tokens;

    for (uint32_t offset = 0; offset < total; offset += FRAME_TOKENS) {
        Td__GenerateIn message = TD__GENERATE_IN__INIT;
        Td__StartTokens frame = TD__START_TOKENS__INIT;

        frame.request_hi = id.hi;
        frame.request_lo = id.lo;
        frame.offset = offset;
        frame.tokens = tokens;
        frame.n_tokens = total - offset < FRAME_TOKENS ? total - offset : FRAME_TOKENS;
        for (uint32_t i = 0; i < frame.n_tokens; i++)
            tokens[i] = prompt_token(start->prompt_seed, offset + i);
        message.kind_case = TD__GENERATE_IN__KIND_TOKENS;
        message.tokens = &frame;
        router_send(router, &message);
    }
}

static void send_start(struct router *router, struct td_u128 id, const struct start *start)
{
    struct td_u128 text_id = router->station->runtime->engines.text_id;
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Start out;
    Td__Sampling sampling = TD__SAMPLING__INIT;
    Td__PrefillCandidate candidates[3];
    Td__PrefillCandidate *pointers[3];

    td__start__init(&out);
    sampling.top_p = 1.0f;
    out.request_hi = id.hi;
    out.request_lo = id.lo;
    out.prompt_tokens = start->prompt_tokens;
    out.max_new_tokens = start->max_new_tokens;
    out.sampling = &sampling;
    out.ignore_model_stops = true;
    out.text_id_hi = text_id.hi;
    out.text_id_lo = text_id.lo;
    out.prefill = pointers;
    for (; out.n_prefill < 3 && start->prefill[out.n_prefill] != NULL; out.n_prefill++) {
        td__prefill_candidate__init(&candidates[out.n_prefill]);
        candidates[out.n_prefill].target = (char *)(uintptr_t)start->prefill[out.n_prefill];
        pointers[out.n_prefill] = &candidates[out.n_prefill];
    }
    if (start->spoil != NULL)
        start->spoil(&out);
    message.kind_case = TD__GENERATE_IN__KIND_START;
    message.start = &out;
    router_send(router, &message);
}

struct heard *router_start(struct router *router, const struct start *start)
{
    struct heard *heard = &router->heard[router->heard_count];

    assert_true(router->heard_count < HEARD_MAX);
    heard->id = (struct td_u128){.hi = 0x1000, .lo = (uint64_t)++router->heard_count};
    send_start(router, heard->id, start);
    send_tokens(router, heard->id, start);
    return heard;
}

void router_cancel(struct router *router, const struct heard *heard)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Cancel cancel = TD__CANCEL__INIT;

    cancel.request_hi = heard->id.hi;
    cancel.request_lo = heard->id.lo;
    message.kind_case = TD__GENERATE_IN__KIND_CANCEL;
    message.cancel = &cancel;
    router_send(router, &message);
}

void router_attach(struct router *router, const struct heard *heard, uint32_t next_index)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Attach attach = TD__ATTACH__INIT;

    attach.request_hi = heard->id.hi;
    attach.request_lo = heard->id.lo;
    attach.next_index = next_index;
    message.kind_case = TD__GENERATE_IN__KIND_ATTACH;
    message.attach = &attach;
    router_send(router, &message);
}

void router_ended(struct router *router, const struct heard *heard)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Ended ended = TD__ENDED__INIT;

    ended.request_hi = heard->id.hi;
    ended.request_lo = heard->id.lo;
    message.kind_case = TD__GENERATE_IN__KIND_ENDED;
    message.ended = &ended;
    router_send(router, &message);
}

bool heard_token(void *ctx)
{
    const struct heard *heard = ctx;

    return heard->count > 0;
}

bool heard_end(void *ctx)
{
    const struct heard *heard = ctx;

    return heard->ends > 0;
}

uint8_t request_state(const struct station *station, const struct heard *heard)
{
    const struct worker_request *request =
        td_map_find(&station->runtime->core->requests, heard->id);

    return request != NULL ? request->state : REQUEST_GONE;
}

struct heard *router_start_and_hold(struct router *router, const struct start *start)
{
    struct heard *heard;

    engines_hold_after(1);
    heard = router_start(router, start);
    site_until(router->station->site, heard_token, heard);
    assert_int_equal(heard->count, 1);
    assert_int_equal(heard->ends, 0);
    return heard;
}

struct canceling {
    const struct station *station;
    const struct heard *heard;
};

static bool is_canceling(void *ctx)
{
    const struct canceling *canceling = ctx;

    return request_state(canceling->station, canceling->heard) == REQUEST_CANCELING;
}

void router_until_canceling(struct router *router, const struct heard *heard)
{
    struct canceling canceling = {router->station, heard};

    site_until(router->station->site, is_canceling, &canceling);
}

struct heard *router_ask(struct router *router, const struct start *start)
{
    struct heard *heard = router_start(router, start);

    site_until(router->station->site, heard_end, heard);
    assert_false(heard->gap);
    return heard;
}
