/* runtime_peers.c: askers, holders and schedulers that a test plays, see runtime_site.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "kvtransfer/address.h"
#include "kvtransfer/host.h"
#include "kvtransfer/map_private.h"
#include "lib/base/bytes.h"
#include "tests/worker/runtime_site.h"

/* ------------------------------------------------------------------------------------------- pairs */

/* A copy of any message, free it with protobuf_c_message_free_unpacked. */
static ProtobufCMessage *copy_of(const ProtobufCMessage *message)
{
    size_t length = protobuf_c_message_get_packed_size(message);
    uint8_t *bytes = malloc(length + 1);
    ProtobufCMessage *copy;

    assert_non_null(bytes);
    protobuf_c_message_pack(message, bytes);
    copy = protobuf_c_message_unpack(message->descriptor, NULL, length, bytes);
    assert_non_null(copy);
    free(bytes);
    return copy;
}

/* Of a map transport that only mute_listener makes exist. */
static const struct td_u128 mute_token = {.hi = 0x1234, .lo = 0x5678};

static size_t mute_address(uint8_t out[static KVT_ADDRESS_BYTES_MAX])
{
    uint8_t body[32];
    struct td_writer writer = td_writer_over(body, sizeof body);
    struct td_u128 host;
    size_t length;

    assert_int_equal(kvt_host_identity(&host, NULL), TD_OK);
    td_write_u128(&writer, mute_token);
    td_write_u128(&writer, host);
    assert_int_equal(
        kvt_address_wrap("map", body, sizeof body, out, KVT_ADDRESS_BYTES_MAX, &length), TD_OK);
    return length;
}

int mute_listener(void)
{
    struct sockaddr_un name;
    socklen_t length = map_socket_name(mute_token, &name);
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (const struct sockaddr *)&name, length), 0);
    assert_int_equal(listen(fd, 128), 0);
    return fd;
}

Td__PairRequest *pair_request_new(const struct station *station, uint64_t epoch)
{
    const struct worker_core *core = station->runtime->core;
    uint8_t blob[KVT_ADDRESS_BYTES_MAX];
    Td__PairRequest request = TD__PAIR_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;
    Td__ContentIdentity content;
    Td__Geometry geometry;
    Td__TransportAddress address;
    Td__TransportAddress *pointer = &address;

    td__transport_address__init(&address);
    versions.min = versions.max = WORKER_PROTOCOL_VERSION;
    worker_content_fill(core, &content);
    worker_geometry_fill(core, &geometry);
    address.name = (char *)(uintptr_t) "map";
    address.host = (char *)(uintptr_t)core->identity.transports[0].host;
    address.blob.len = mute_address(blob);
    address.blob.data = blob;
    request.versions = &versions;
    request.role = TD__ROLE__ROLE_DECODE;
    request.epoch = epoch;
    request.content = &content;
    request.geometry = &geometry;
    request.transports = &pointer;
    request.n_transports = 1;
    return (Td__PairRequest *)copy_of(&request.base);
}

void pair_request_free(Td__PairRequest *request)
{
    td__pair_request__free_unpacked(request, NULL);
}

static void on_pair_reply(void *ctx, td_status_t status, const char *detail, const uint8_t *bytes,
                          size_t length)
{
    struct pair_answer *answer = ctx;

    (void)detail;
    answer->done = true;
    answer->status = status;
    if (status == TD_OK)
        answer->reply = td__pair_reply__unpack(NULL, length, bytes);
}

static bool pair_is_answered(void *ctx)
{
    const struct pair_answer *answer = ctx;

    return answer->done;
}

void pair_ask(struct site *site, const char *target, const Td__PairRequest *request,
              struct pair_answer *answer_out)
{
    const struct rpc_channel_config config = {.target = target};
    struct rpc_unary_options options = {.path = "/td.Worker/Pair",
                                        .request = &request->base,
                                        .deadline_ms = 30000,
                                        .fn = on_pair_reply,
                                        .ctx = answer_out};
    struct rpc_channel *channel;

    *answer_out = (struct pair_answer){0};
    assert_int_equal(rpc_channel_open(site->rpc, &config, &channel), TD_OK);
    assert_int_equal(rpc_unary_start(channel, &options, NULL), TD_OK);
    site_until(site, pair_is_answered, answer_out);
    rpc_channel_close(channel);
}

void pair_answer_free(struct pair_answer *answer)
{
    if (answer->reply != NULL)
        td__pair_reply__free_unpacked(answer->reply, NULL);
    answer->reply = NULL;
}

/* ------------------------------------------------------------------------------------------ askers */

static void asker_on_message(void *ctx, const ProtobufCMessage *base)
{
    struct asker *asker = ctx;
    const Td__AskOut *message = (const Td__AskOut *)base;

    switch (message->kind_case) {
    case TD__ASK_OUT__KIND_ACCEPTED: asker->accepted++; break;
    case TD__ASK_OUT__KIND_PROGRESS: asker->progress++; break;
    case TD__ASK_OUT__KIND_SENT: asker->sent++; break;
    case TD__ASK_OUT__KIND_REFUSED:
        asker->refused++;
        asker->code = message->refused->code;
        snprintf(asker->message, sizeof asker->message, "%s", message->refused->message);
        break;
    default: fail_msg("a reply of no kind");
    }
}

void asker_open(struct asker *asker, struct station *station)
{
    *asker = (struct asker){.stream = {.hears = &td__ask_out__descriptor,
                                       .on_message = asker_on_message,
                                       .ctx = asker}};
    stream_open(&asker->stream, station->site, station->options.listen, "/td.Worker/Prefill");
}

void asker_ask(struct asker *asker, struct station *station, uint64_t epoch, uint32_t tokens,
               void (*spoil)(Td__Ask *ask))
{
    const struct worker_identity *identity = &station->runtime->core->identity;
    static uint64_t transfers;
    uint8_t key[TD_MAC_KEY_BYTES] = {7};
    uint32_t prompt[PROMPT_MAX];
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Ask ask;

    td__ask__init(&ask);
    for (uint32_t i = 0; i < tokens && i < PROMPT_MAX; i++)
        prompt[i] = 3 + i % 600;
    ask.asker_epoch = epoch;
    ask.holder_epoch = identity->epoch;
    ask.transfer_hi = 0x7e57;
    ask.transfer_lo = ++transfers;
    ask.mac_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    ask.content_id_hi = identity->model.content_id.hi;
    ask.content_id_lo = identity->model.content_id.lo;
    ask.root_key_hi = 5;
    ask.tokens = prompt;
    ask.n_tokens = tokens;
    ask.transport = (char *)(uintptr_t) "map";
    ask.lease_ms = 60000;
    if (spoil != NULL)
        spoil(&ask);
    message.kind_case = TD__ASK_IN__KIND_ASK;
    message.ask = &ask;
    stream_send(&asker->stream, &message.base);
}

void asker_renew(struct asker *asker)
{
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Renew renew = TD__RENEW__INIT;

    renew.lease_ms = 60000;
    message.kind_case = TD__ASK_IN__KIND_RENEW;
    message.renew = &renew;
    stream_send(&asker->stream, &message.base);
}

bool asker_is_accepted(void *ctx)
{
    const struct asker *asker = ctx;

    return asker->accepted > 0;
}

/* ----------------------------------------------------------------------------------------- holders */

static void forward_pair(struct holder *holder, struct rpc_call *call, const uint8_t *bytes,
                         size_t length)
{
    Td__PairRequest *request = td__pair_request__unpack(NULL, length, bytes);
    Td__PairReply refusal;
    Td__PairReply reply;

    td__pair_reply__init(&refusal);
    assert_non_null(request);
    refusal.refused = true;
    refusal.reason = (char *)(uintptr_t) "not today";
    if (holder->manner == HOLDER_REFUSES_PAIR) {
        rpc_call_reply(call, &refusal.base);
    } else {
        /* as the real one would answer, so that the transport comes up */
        worker_core_on_pair_request(holder->site->prefill.runtime->core, request, &reply,
                                    td_now_ns());
        rpc_call_reply(call, &reply.base);
        worker_touch(holder->site->prefill.runtime);
    }
    td__pair_request__free_unpacked(request, NULL);
}

static void holder_on_pair(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct holder *holder = ctx;

    holder->pairs++;
    if (holder->manner != HOLDER_SILENT_PAIR)
        forward_pair(holder, call, bytes, length);
}

static void holder_say(struct rpc_call *call, Td__AskOut__KindCase kind)
{
    Td__AskOut message = TD__ASK_OUT__INIT;
    Td__Accepted accepted = TD__ACCEPTED__INIT;
    Td__Refused refused;

    td__refused__init(&refused);
    accepted.lease_ms = 100;
    refused.code = (uint32_t)-TD_EXHAUSTED;
    refused.message = (char *)(uintptr_t) "no room";
    message.kind_case = kind;
    if (kind == TD__ASK_OUT__KIND_ACCEPTED)
        message.accepted = &accepted;
    else
        message.refused = &refused;
    assert_int_equal(rpc_call_send(call, &message.base), TD_OK);
}

static void holder_answer(struct holder *holder, struct rpc_call *call)
{
    Td__TextRequest nonsense = TD__TEXT_REQUEST__INIT;

    nonsense.text_id_hi = 1;
    switch (holder->manner) {
    case HOLDER_REFUSES_ASK:
        holder_say(call, TD__ASK_OUT__KIND_REFUSED);
        rpc_call_finish(call, TD_OK, NULL);
        break;
    case HOLDER_CLOSES_ASK: rpc_call_cancel(call); break;
    case HOLDER_SILENT_LATER: holder_say(call, TD__ASK_OUT__KIND_ACCEPTED); break;
    case HOLDER_CLOSES_LATER:
        holder_say(call, TD__ASK_OUT__KIND_ACCEPTED);
        rpc_call_finish(call, TD_OK, NULL);
        break;
    case HOLDER_TALKS_NONSENSE: assert_int_equal(rpc_call_send(call, &nonsense.base), TD_OK); break;
    default: break; /* silent */
    }
}

static void holder_on_ask(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct holder *holder = ctx;
    Td__AskIn *message = td__ask_in__unpack(NULL, length, bytes);

    assert_non_null(message);
    if (message->kind_case == TD__ASK_IN__KIND_RENEW)
        holder->renews++;
    else
        holder_answer(holder, call);
    td__ask_in__free_unpacked(message, NULL);
}

static void holder_on_close(void *ctx, struct rpc_call *call, td_status_t status,
                            const char *detail)
{
    struct holder *holder = ctx;

    (void)call;
    (void)status;
    (void)detail;
    holder->closes++;
}

static void holder_bind_pair(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = holder_on_pair};

    rpc_call_bind(call, &handlers, ctx);
}

static void holder_bind_ask(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = holder_on_ask,
                                                 .on_close = holder_on_close};
    struct holder *holder = ctx;

    holder->asks++;
    rpc_call_bind(call, &handlers, ctx);
}

static struct rpc_server *serve(struct site *site, const char *name, char address_out[static 96],
                                const struct rpc_method *methods, size_t count, void *ctx)
{
    struct rpc_server_config config = {
        .address = address_out, .methods = methods, .method_count = count, .ctx = ctx};
    struct td_error error = {0};
    struct rpc_server *server;

    snprintf(address_out, 96, "unix:%s/%s", site->folder, name);
    if (rpc_server_open(site->rpc, &config, &server, &error) != TD_OK)
        fail_msg("%s", error.text);
    return server;
}

void holder_open(struct holder *holder, struct site *site, enum holder_manner manner)
{
    static const struct rpc_method methods[] = {
        {"/td.Worker/Pair", NET_ROLES_ALL, 1 << 20, true, holder_bind_pair},
        {"/td.Worker/Prefill", NET_ROLES_ALL, 1 << 20, false, holder_bind_ask}};

    *holder = (struct holder){.site = site, .manner = manner};
    holder->server = serve(site, "holder", holder->address, methods, 2, holder);
}

void holder_close(struct holder *holder)
{
    rpc_server_close(holder->server);
    holder->server = NULL;
}

/* -------------------------------------------------------------------------------------- schedulers */

static void watcher_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes,
                               size_t length)
{
    struct watcher *watcher = ctx;
    Td__AnnounceIn *message = td__announce_in__unpack(NULL, length, bytes);

    (void)call;
    assert_non_null(message);
    switch (message->kind_case) {
    case TD__ANNOUNCE_IN__KIND_REGISTRATION:
        watcher->registrations++;
        snprintf(watcher->target, sizeof watcher->target, "%s", message->registration->rpc_target);
        break;
    case TD__ANNOUNCE_IN__KIND_LOAD:
        watcher->loads++;
        watcher->ready = message->load->ready;
        break;
    case TD__ANNOUNCE_IN__KIND_EVENTS: watcher->events++; break;
    case TD__ANNOUNCE_IN__KIND_SNAPSHOT: watcher->snapshots++; break;
    case TD__ANNOUNCE_IN__KIND_DRAINING: watcher->drainings++; break;
    default: fail_msg("a report of no kind");
    }
    td__announce_in__free_unpacked(message, NULL);
}

static void watcher_on_close(void *ctx, struct rpc_call *call, td_status_t status,
                             const char *detail)
{
    struct watcher *watcher = ctx;

    (void)status;
    (void)detail;
    if (watcher->call == call)
        watcher->call = NULL;
}

static void watcher_bind(void *ctx, struct rpc_call *call)
{
    static const struct rpc_handlers handlers = {.on_message = watcher_on_message,
                                                 .on_close = watcher_on_close};
    struct watcher *watcher = ctx;

    watcher->streams++;
    watcher->call = call;
    rpc_call_bind(call, &handlers, ctx);
}

void watcher_open(struct watcher *watcher, struct site *site)
{
    static const struct rpc_method method = {"/td.Scheduler/Announce", NET_ROLES_ALL, 4 << 20,
                                             false, watcher_bind};

    *watcher = (struct watcher){.site = site};
    watcher->server = serve(site, "scheduler", watcher->address, &method, 1, watcher);
}

void watcher_close(struct watcher *watcher)
{
    rpc_server_close(watcher->server);
    watcher->server = NULL;
}

void watcher_ask_for_snapshot(struct watcher *watcher)
{
    Td__AnnounceOut message = TD__ANNOUNCE_OUT__INIT;
    Td__SnapshotRequest request = TD__SNAPSHOT_REQUEST__INIT;

    message.kind_case = TD__ANNOUNCE_OUT__KIND_SNAPSHOT_REQUEST;
    message.snapshot_request = &request;
    assert_int_equal(rpc_call_send(watcher->call, &message.base), TD_OK);
}
