/* core_rig.c: see core_rig.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "proto/version.h"
#include "tests/worker/core_rig.h"

/* --- the notebook --- */

static void note_random(void *impl, void *out, size_t length)
{
    struct rig *rig = impl;

    memset(out, 0, length);
    rig->random++;
    memcpy(out, &rig->random, length < 8 ? length : 8);
}

static void note_engine(void *impl, struct engine_command *command)
{
    struct rig *rig = impl;

    assert_true(rig->engine_count < RIG_NOTES_MAX);
    rig->engine[rig->engine_count++] = *command;
    engine_command_fini(command);
}

static void note_kvt(void *impl, struct kvt_command *command)
{
    struct rig *rig = impl;

    assert_true(rig->kvt_count < RIG_NOTES_MAX);
    rig->kvt[rig->kvt_count++] = *command;
    kvt_command_fini(command);
}

static void note_link_ready(void *impl, void *handle)
{
    (void)impl;
    ((struct rig_stream *)handle)->ready++;
}

static void note_announce_ready(void *impl, void *handle)
{
    (void)impl;
    (*(uint32_t *)handle)++;
}

static void note_link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    struct rig_stream *stream = handle;

    (void)impl;
    assert_non_null(reason);
    stream->closed = true;
    stream->status = status;
    stream->link = NULL;
}

static void note_pair(void *impl, uint64_t pair, const char *target, const Td__PairRequest *request,
                      uint32_t deadline_ms)
{
    struct rig *rig = impl;

    assert_int_equal(request->epoch, RIG_EPOCH);
    assert_true(deadline_ms > 0);
    rig->pair_calls++;
    rig->pair_peer_epoch = request->peer_epoch;
    rig->pair_transport_count = request->n_transports;
    assert_true(request->n_transports > 0);
    snprintf(rig->pair_transport, sizeof rig->pair_transport, "%s", request->transports[0]->name);
    rig->pair_number = pair;
    snprintf(rig->pair_target, sizeof rig->pair_target, "%s", target);
}

static void note_ask_open(void *impl, uint64_t ask, const char *target, const Td__AskIn *first)
{
    struct rig *rig = impl;

    (void)target;
    assert_int_equal(first->kind_case, TD__ASK_IN__KIND_ASK);
    assert_int_equal(first->ask->mac_key.len, TD_MAC_KEY_BYTES);
    rig->asks++;
    rig->ask_number = ask;
    rig->transfer = (struct td_u128){.hi = first->ask->transfer_hi, .lo = first->ask->transfer_lo};
}

static void note_ask_send(void *impl, uint64_t ask, const Td__AskIn *message)
{
    struct rig *rig = impl;

    (void)ask;
    assert_int_equal(message->kind_case, TD__ASK_IN__KIND_RENEW);
    rig->renewals++;
}

static void note_ask_close(void *impl, uint64_t ask)
{
    struct rig *rig = impl;

    assert_int_equal(ask, rig->ask_number);
    rig->asks_closed++;
}

static void note_reply(void *impl, void *handle, const Td__AskOut *message)
{
    struct rig_stream *stream = handle;

    (void)impl;
    assert_false(stream->closed);
    stream->replies[message->kind_case]++;
    if (message->kind_case == TD__ASK_OUT__KIND_REFUSED)
        stream->code = message->refused->code;
}

static void note_reply_close(void *impl, void *handle)
{
    struct rig_stream *stream = handle;

    (void)impl;
    assert_false(stream->closed);
    stream->closed = true;
}

static uint32_t note_step_age(void *impl)
{
    return ((const struct rig *)impl)->step_age_ms;
}

static void note_fatal(void *impl, const char *reason)
{
    ((struct rig *)impl)->fatal = reason;
}

/* --- opening --- */

static void describe(struct worker_identity *identity)
{
    struct worker_transport *transport = &identity->transports[0];

    identity->epoch = RIG_EPOCH;
    identity->model = (struct engine_model_info){.vocab = RIG_VOCAB,
                                                 .hidden = RIG_HIDDEN,
                                                 .layers = 1,
                                                 .heads = 1,
                                                 .kv_heads = 1,
                                                 .head_dim = 2,
                                                 .max_context = RIG_CONTEXT,
                                                 .block_tokens = RIG_BLOCK_TOKENS,
                                                 .block_bytes = RIG_BLOCK_BYTES,
                                                 .weights_digest = {1, 2},
                                                 .content_id = {3, 4},
                                                 .rope = "none",
                                                 .kv_dtype = "f16",
                                                 .numerics = "rig-1"};
    identity->text_id = td_u128_from_u64(5);
    snprintf(identity->models[0], sizeof identity->models[0], "model");
    identity->model_count = 1;
    snprintf(identity->rpc_target, sizeof identity->rpc_target, "here");
    identity->block_count = 32;
    identity->max_sequences = 4;
    snprintf(transport->name, sizeof transport->name, "loop");
    transport->address = calloc(1, 3);
    transport->address_bytes = 3;
    identity->transport_count = 1;
}

void rig_open(struct rig *rig, Td__Role role)
{
    struct worker_config *config = calloc(1, sizeof *config);
    bool decodes = role == TD__ROLE__ROLE_DECODE;

    assert_non_null(config);
    *rig = (struct rig){.now_ns = TD_NS_PER_SEC};
    describe(&config->identity);
    config->policy = (struct worker_policy){
        .role = role, .import_tokens_min = 8, .imports = decodes, .exports = !decodes};
    worker_limits_default(&config->times, &config->counts);
    config->counts.requests_max = 4;
    config->counts.exports_max = 2;
    config->env = (struct worker_env){.impl = rig,
                                      .random = note_random,
                                      .engine = note_engine,
                                      .kvt = note_kvt,
                                      .link_ready = note_link_ready,
                                      .announce_ready = note_announce_ready,
                                      .link_close = note_link_close,
                                      .pair = note_pair,
                                      .ask_open = note_ask_open,
                                      .ask_send = note_ask_send,
                                      .ask_close = note_ask_close,
                                      .reply_send = note_reply,
                                      .reply_close = note_reply_close,
                                      .step_age_ms = note_step_age,
                                      .fatal = note_fatal};
    assert_int_equal(worker_core_open(config, &rig->core), TD_OK);
    free(config);
}

void rig_close(struct rig *rig)
{
    worker_core_close(rig->core);
}

uint32_t rig_engine_count(const struct rig *rig, enum engine_command_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < rig->engine_count; i++)
        count += rig->engine[i].kind == kind;
    return count;
}

uint32_t rig_kvt_count(const struct rig *rig, enum kvt_command_kind kind)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < rig->kvt_count; i++)
        count += rig->kvt[i].kind == kind;
    return count;
}

const struct engine_command *rig_last_engine(const struct rig *rig)
{
    assert_true(rig->engine_count > 0);
    return &rig->engine[rig->engine_count - 1];
}

void rig_wait_ms(struct rig *rig, uint32_t ms)
{
    rig->now_ns += ms * TD_NS_PER_MS;
    worker_core_tick(rig->core, rig->now_ns);
}

/* --- routers --- */

void rig_say(struct rig *rig, struct rig_stream *stream, const Td__GenerateIn *message)
{
    worker_link_on_message(stream->link, message, rig->now_ns);
}

void rig_hello(struct rig *rig, struct rig_stream *stream, uint64_t worker_epoch,
               uint64_t router_epoch)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Hello hello = TD__HELLO__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;

    versions.min = TD_PROTOCOL_MIN;
    versions.max = TD_PROTOCOL_MAX;
    hello.versions = &versions;
    hello.worker_epoch = worker_epoch;
    hello.router_epoch = router_epoch;
    message.kind_case = TD__GENERATE_IN__KIND_HELLO;
    message.hello = &hello;
    rig_say(rig, stream, &message);
}

void rig_link(struct rig *rig, struct rig_stream *stream)
{
    const Td__GenerateOut *out;

    *stream = (struct rig_stream){0};
    assert_int_equal(worker_link_open(rig->core, stream, &stream->link), TD_OK);
    rig_hello(rig, stream, RIG_EPOCH, RIG_ROUTER);
    out = worker_link_next(stream->link, rig->now_ns);
    assert_non_null(out);
    assert_int_equal(out->kind_case, TD__GENERATE_OUT__KIND_HELLO);
    assert_int_equal(out->hello->worker_epoch, RIG_EPOCH);
}

void rig_start(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t tokens,
               uint32_t candidates)
{
    static char targets[][3] = {"p0", "p1", "p2"};
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Start start;
    Td__Sampling sampling = TD__SAMPLING__INIT;
    Td__PrefillCandidate candidate[3];
    Td__PrefillCandidate *list[3];

    td__start__init(&start);
    sampling.top_p = 1;
    start.request_lo = id;
    start.model = (char *)(uintptr_t) "model";
    start.prompt_tokens = tokens;
    start.max_new_tokens = 8;
    start.sampling = &sampling;
    start.text_id_lo = 5;
    for (uint32_t i = 0; i < candidates; i++) {
        td__prefill_candidate__init(&candidate[i]);
        candidate[i].target = targets[i];
        list[i] = &candidate[i];
    }
    start.prefill = list;
    start.n_prefill = candidates;
    message.kind_case = TD__GENERATE_IN__KIND_START;
    message.start = &start;
    rig_say(rig, stream, &message);
}

void rig_tokens(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t offset,
                uint32_t count)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__StartTokens frame = TD__START_TOKENS__INIT;
    uint32_t tokens[RIG_CONTEXT];

    for (uint32_t i = 0; i < count; i++)
        tokens[i] = (offset + i) % RIG_VOCAB;
    frame.request_lo = id;
    frame.offset = offset;
    frame.tokens = tokens;
    frame.n_tokens = count;
    message.kind_case = TD__GENERATE_IN__KIND_TOKENS;
    message.tokens = &frame;
    rig_say(rig, stream, &message);
}

void rig_cancel(struct rig *rig, struct rig_stream *stream, uint64_t id)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Cancel cancel = TD__CANCEL__INIT;

    cancel.request_lo = id;
    message.kind_case = TD__GENERATE_IN__KIND_CANCEL;
    message.cancel = &cancel;
    rig_say(rig, stream, &message);
}

void rig_attach(struct rig *rig, struct rig_stream *stream, uint64_t id, uint32_t next)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Attach attach = TD__ATTACH__INIT;

    attach.request_lo = id;
    attach.next_index = next;
    message.kind_case = TD__GENERATE_IN__KIND_ATTACH;
    message.attach = &attach;
    rig_say(rig, stream, &message);
}

void rig_ended(struct rig *rig, struct rig_stream *stream, uint64_t id)
{
    Td__GenerateIn message = TD__GENERATE_IN__INIT;
    Td__Ended ended = TD__ENDED__INIT;

    ended.request_lo = id;
    message.kind_case = TD__GENERATE_IN__KIND_ENDED;
    message.ended = &ended;
    rig_say(rig, stream, &message);
}

struct worker_request *rig_request(const struct rig *rig, uint64_t id)
{
    return td_map_find(&rig->core->requests, td_u128_from_u64(id));
}

bool rig_update(struct rig *rig, struct rig_stream *stream, Td__Update *update_out)
{
    const Td__GenerateOut *out = worker_link_next(stream->link, rig->now_ns);

    if (out == NULL)
        return false;
    assert_int_equal(out->kind_case, TD__GENERATE_OUT__KIND_UPDATES);
    assert_int_equal(out->updates->n_updates, 1);
    *update_out = *out->updates->updates[0];
    return true;
}

/* --- engine --- */

static void engine_says(struct rig *rig, struct engine_event *event)
{
    worker_core_on_engine(rig->core, event, rig->now_ns);
}

void rig_reserved(struct rig *rig, uint64_t sequence, uint32_t blocks, uint32_t cached)
{
    struct engine_event event = {.kind = ENGINE_RESERVED, .sequence = sequence};

    event.reserved.blocks = calloc(blocks + 1, sizeof *event.reserved.blocks);
    event.reserved.count = blocks;
    event.reserved.cached_blocks = cached;
    for (uint32_t i = 0; i < blocks; i++)
        event.reserved.blocks[i].slot.index = i;
    engine_says(rig, &event);
}

void rig_step(struct rig *rig, uint64_t sequence, uint32_t index, uint32_t token)
{
    struct engine_event event = {.kind = ENGINE_STEP};

    event.step.tokens = calloc(1, sizeof *event.step.tokens);
    event.step.tokens[0] =
        (struct engine_token){.sequence = sequence, .index = index, .token = token};
    event.step.count = 1;
    engine_says(rig, &event);
}

void rig_blocks(struct rig *rig, uint64_t sequence, uint32_t first, uint32_t count)
{
    struct engine_event event = {.kind = ENGINE_BLOCKS, .sequence = sequence};

    event.blocks.blocks = calloc(count, sizeof *event.blocks.blocks);
    event.blocks.first = first;
    event.blocks.count = count;
    engine_says(rig, &event);
}

void rig_prefilled(struct rig *rig, uint64_t sequence, uint32_t tail_index, uint32_t tail_tokens)
{
    struct engine_event event = {.kind = ENGINE_PREFILLED, .sequence = sequence};

    event.prefilled.tail_index = tail_index;
    event.prefilled.tail.tokens = tail_tokens;
    event.prefilled.hidden = calloc(RIG_HIDDEN, sizeof(float));
    event.prefilled.hidden_count = RIG_HIDDEN;
    engine_says(rig, &event);
}

void rig_stopped(struct rig *rig, uint64_t sequence)
{
    struct engine_event event = {.kind = ENGINE_STOPPED, .sequence = sequence};

    event.stopped.status = TD_INTERNAL;
    engine_says(rig, &event);
}

void rig_finished(struct rig *rig, uint64_t sequence, enum engine_finish reason, td_status_t status,
                  uint32_t new_tokens)
{
    struct engine_event event = {.kind = ENGINE_FINISHED, .sequence = sequence};

    event.finished.reason = reason;
    event.finished.status = status;
    event.finished.new_tokens = new_tokens;
    engine_says(rig, &event);
}

/* --- transfers --- */

void rig_kvt(struct rig *rig, enum kvt_event_kind kind, struct td_u128 transfer, td_status_t status,
             bool is_sender)
{
    struct kvt_event event = {.kind = kind,
                              .transfer = transfer,
                              .peer = RIG_PEER,
                              .status = status,
                              .is_sender = is_sender};

    worker_core_on_kvt(rig->core, &event, rig->now_ns);
}

void rig_landed(struct rig *rig, struct td_u128 transfer, uint32_t blocks)
{
    struct kvt_event event = {.kind = KVT_LANDED, .transfer = transfer, .peer = RIG_PEER};

    event.landed.hashes = calloc(blocks, sizeof *event.landed.hashes);
    event.landed.hash_count = blocks;
    event.landed.attachment_bytes = RIG_HIDDEN * sizeof(float);
    event.landed.attachment = calloc(1, event.landed.attachment_bytes);
    worker_core_on_kvt(rig->core, &event, rig->now_ns);
}

void rig_peer(struct rig *rig, enum kvt_event_kind kind, uint64_t epoch)
{
    struct kvt_event event = {.kind = kind, .peer = epoch, .status = TD_PEER_LOST};

    worker_core_on_kvt(rig->core, &event, rig->now_ns);
}

/* --- peers --- */

void rig_second_transport(struct rig *rig)
{
    struct worker_identity *identity = &rig->core->identity;

    snprintf(identity->transports[1].name, sizeof identity->transports[1].name, "%s",
             RIG_SECOND_TRANSPORT);
    identity->transport_count = 2;
}

void rig_pair_reply(struct rig *rig, void (*spoil)(Td__PairReply *reply))
{
    Td__PairReply reply;
    Td__ContentIdentity content;
    Td__Geometry geometry;
    Td__TransportAddress address;

    td__pair_reply__init(&reply);
    td__transport_address__init(&address);
    worker_content_fill(rig->core, &content);
    worker_geometry_fill(rig->core, &geometry);
    address.name = (char *)(uintptr_t) "loop";
    reply.version = TD_PROTOCOL_MAX;
    reply.epoch = RIG_PEER;
    reply.content = &content;
    reply.geometry = &geometry;
    reply.transport = address.name;
    reply.address = &address;
    if (spoil != NULL)
        spoil(&reply);
    worker_core_on_pair(rig->core, rig->pair_number, &reply, TD_OK, rig->now_ns);
}

void rig_pair_failed(struct rig *rig)
{
    worker_core_on_pair(rig->core, rig->pair_number, NULL, TD_PEER_LOST, rig->now_ns);
}

bool rig_paired_by(struct rig *rig, void (*spoil)(Td__PairRequest *request),
                   const char **reason_out)
{
    Td__PairRequest request;
    Td__PairReply reply;
    Td__Versions versions = TD__VERSIONS__INIT;
    Td__ContentIdentity content;
    Td__Geometry geometry;
    Td__TransportAddress address;
    Td__TransportAddress *addresses[] = {&address};

    td__pair_request__init(&request);
    td__transport_address__init(&address);
    worker_content_fill(rig->core, &content);
    worker_geometry_fill(rig->core, &geometry);
    versions.min = TD_PROTOCOL_MIN;
    versions.max = TD_PROTOCOL_MAX;
    address.name = (char *)(uintptr_t) "loop";
    request.versions = &versions;
    request.role = TD__ROLE__ROLE_DECODE;
    request.epoch = RIG_PEER;
    request.content = &content;
    request.geometry = &geometry;
    request.transports = addresses;
    request.n_transports = 1;
    if (spoil != NULL)
        spoil(&request);
    worker_core_on_pair_request(rig->core, &request, &reply, rig->now_ns);
    if (reason_out != NULL)
        *reason_out = reply.reason;
    return !reply.refused;
}

void rig_ask_says(struct rig *rig, const Td__AskOut *message)
{
    worker_core_on_ask_message(rig->core, rig->ask_number, message, rig->now_ns);
}

void rig_asked(struct rig *rig, struct rig_stream *stream, uint32_t tokens,
               void (*spoil)(Td__Ask *ask))
{
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Ask ask;
    uint8_t key[TD_MAC_KEY_BYTES] = {1};
    uint32_t prompt[2 * RIG_CONTEXT] = {0};

    td__ask__init(&ask);
    *stream = (struct rig_stream){0};
    ask.asker_epoch = RIG_PEER;
    ask.holder_epoch = RIG_EPOCH;
    ask.transfer_lo = 77 + rig->core->counters.exports_started;
    ask.mac_key = (ProtobufCBinaryData){.len = sizeof key, .data = key};
    ask.content_id_hi = 3;
    ask.content_id_lo = 4;
    ask.tokens = prompt;
    ask.n_tokens = tokens;
    ask.transport = (char *)(uintptr_t) "loop";
    ask.lease_ms = 1000;
    message.kind_case = TD__ASK_IN__KIND_ASK;
    message.ask = &ask;
    if (spoil != NULL)
        spoil(&ask);
    rig->transfer = (struct td_u128){.hi = ask.transfer_hi, .lo = ask.transfer_lo};
    worker_core_on_asked(rig->core, stream, &message, rig->now_ns, &stream->export);
}
