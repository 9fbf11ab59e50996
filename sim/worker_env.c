/* worker_env.c: what a worker core says to routers, peers and schedulers. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "sim/codec.h"
#include "sim/network.h"
#include "sim/worker.h"

#define ANNOUNCE_RETRY_NS (150 * TD_NS_PER_MS)

static struct sim_node *node_of(void *impl)
{
    return ((struct sim_worker *)impl)->node;
}

static void env_random(void *impl, void *out, size_t length)
{
    sim_random(node_of(impl)->sim, out, length);
}

/* --- Generate, as a router's server --- */

static void env_link_ready(void *impl, void *handle)
{
    (void)impl;
    sim_stream_ready(handle, SIM_SERVER);
}

static void env_link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    sim_note(node_of(impl)->sim, "%s closes a link: %s", node_of(impl)->name, reason);
    sim_stream_close(handle, SIM_SERVER, status);
}

static td_status_t generate_begin(struct sim_stream *stream)
{
    struct sim_end *end = &stream->end[SIM_SERVER];
    struct worker_link *link;
    td_status_t status = worker_link_open(end->node->worker->core, stream, &link);

    if (status == TD_OK)
        end->object = link;
    return status;
}

/* What the run was told to break in what the worker says. */
static void spoil(struct sim *sim, Td__GenerateOut *message)
{
    Td__StepUpdates *updates =
        message->kind_case == TD__GENERATE_OUT__KIND_UPDATES ? message->updates : NULL;

    for (size_t i = 0; updates != NULL && i < updates->n_updates; i++) {
        Td__Update *update = updates->updates[i];

        if (sim_breaks(sim, SIM_BREAK_TAINT_TOKEN) && update->n_tokens > 0 &&
            sim->breaks_done == 0) {
            update->tokens[0] ^= 1;
            sim->breaks_done++;
        }
        if (sim_breaks(sim, SIM_BREAK_LOSE_TOKENS) && update->n_tokens > 1) {
            memmove(update->tokens, update->tokens + 1,
                    --update->n_tokens * sizeof *update->tokens);
            sim->breaks_done++;
        }
        if (sim_breaks(sim, SIM_BREAK_LOSE_END) && update->finish != TD__FINISH__FINISH_NONE) {
            update->finish = TD__FINISH__FINISH_NONE;
            sim->breaks_done++;
        }
    }
}

static uint8_t *generate_pull(struct sim_stream *stream, size_t *length_out)
{
    const Td__GenerateOut *message =
        worker_link_next(stream->end[SIM_SERVER].object, stream->sim->now_ns);
    Td__GenerateOut *copy;
    uint8_t *bytes;

    if (message == NULL)
        return NULL;
    if (stream->is_stale)
        sim_fail(stream->sim, "epochs", "%s answers a router that means another incarnation of it",
                 stream->end[SIM_SERVER].node->name);
    bytes = sim_pack(message, length_out);
    if (sim_breaks(stream->sim, SIM_BREAK_NONE))
        return bytes;
    copy = sim_unpack(&td__generate_out__descriptor, bytes, *length_out);
    free(bytes);
    spoil(stream->sim, copy);
    bytes = sim_pack(copy, length_out);
    sim_message_free(copy);
    return bytes;
}

static void check_hello(struct sim_stream *stream, Td__Hello *hello)
{
    uint64_t epoch = stream->end[SIM_SERVER].node->worker->epoch;

    if (hello->worker_epoch == epoch)
        return;
    stream->is_stale = true;
    if (sim_breaks(stream->sim, SIM_BREAK_WRONG_EPOCH)) {
        hello->worker_epoch = epoch;
        stream->sim->breaks_done++;
    }
}

static void generate_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    Td__GenerateIn *message = sim_unpack(&td__generate_in__descriptor, bytes, length);

    if (message->kind_case == TD__GENERATE_IN__KIND_HELLO)
        check_hello(stream, message->hello);
    worker_link_on_message(stream->end[SIM_SERVER].object, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void generate_closed(struct sim_stream *stream, td_status_t status)
{
    (void)status;
    worker_link_closed(stream->end[SIM_SERVER].object, stream->sim->now_ns);
}

const struct sim_end_ops sim_generate_worker = {.begin = generate_begin,
                                                .pull = generate_pull,
                                                .receive = generate_receive,
                                                .closed = generate_closed};

/* --- Pair --- */

static void env_pair(void *impl, uint64_t pair, const char *target, const Td__PairRequest *request,
                     uint32_t deadline_ms)
{
    size_t length;
    uint8_t *bytes = sim_pack(request, &length);

    sim_call_start(node_of(impl), SIM_PAIR, target, pair, bytes, length, deadline_ms);
}

uint8_t *sim_pair_serve(struct sim_node *server, const uint8_t *bytes, size_t length,
                        size_t *length_out)
{
    Td__PairRequest *request = sim_unpack(&td__pair_request__descriptor, bytes, length);
    Td__PairReply reply;
    uint8_t *packed;

    worker_core_on_pair_request(server->worker->core, request, &reply, server->sim->now_ns);
    packed = sim_pack(&reply, length_out);
    sim_message_free(request);
    return packed;
}

void sim_pair_answered(struct sim_node *caller, uint64_t number, const uint8_t *bytes,
                       size_t length, td_status_t status)
{
    Td__PairReply *reply =
        bytes != NULL ? sim_unpack(&td__pair_reply__descriptor, bytes, length) : NULL;

    worker_core_on_pair(caller->worker->core, number, reply, status, caller->sim->now_ns);
    if (reply != NULL)
        sim_message_free(reply);
}

/* --- asks, as the asker --- */

static void ask_send(struct sim_stream *stream, const Td__AskIn *message)
{
    size_t length;
    uint8_t *bytes = sim_pack(message, &length);

    sim_stream_send(stream, SIM_CLIENT, bytes, length);
}

static void env_ask_open(void *impl, uint64_t ask, const char *target, const Td__AskIn *first)
{
    ask_send(sim_stream_open(node_of(impl), SIM_ASK, target, NULL, ask), first);
}

static void env_ask_send(void *impl, uint64_t ask, const Td__AskIn *message)
{
    struct sim_stream *stream = sim_stream_find(node_of(impl), SIM_ASK, ask);

    if (stream == NULL)
        sim_fail(node_of(impl)->sim, "environment", "%s writes to an ask that has ended",
                 node_of(impl)->name);
    else
        ask_send(stream, message);
}

static void env_ask_close(void *impl, uint64_t ask)
{
    struct sim_stream *stream = sim_stream_find(node_of(impl), SIM_ASK, ask);

    if (stream == NULL)
        sim_fail(node_of(impl)->sim, "environment", "%s closes an ask that has ended",
                 node_of(impl)->name);
    else
        sim_stream_close(stream, SIM_CLIENT, TD_CANCELED);
}

static void ask_reply(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];
    Td__AskOut *message = sim_unpack(&td__ask_out__descriptor, bytes, length);

    worker_core_on_ask_message(end->node->worker->core, end->number, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void ask_closed(struct sim_stream *stream, td_status_t status)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];

    (void)status;
    worker_core_on_ask_closed(end->node->worker->core, end->number, stream->sim->now_ns);
}

const struct sim_end_ops sim_ask_decode = {.receive = ask_reply, .closed = ask_closed};

/* --- asks of others --- */

static td_status_t asked_begin(struct sim_stream *stream)
{
    stream->end[SIM_SERVER].object = NULL;
    stream->end[SIM_SERVER].number = 0; /* the first message has not come */
    return TD_OK;
}

static void asked(struct sim_stream *stream, const Td__AskIn *message)
{
    struct sim_end *end = &stream->end[SIM_SERVER];
    struct sim_worker *worker = end->node->worker;
    struct worker_export *export;

    end->number = 1;
    stream->is_stale =
        message->kind_case == TD__ASK_IN__KIND_ASK && message->ask->holder_epoch != worker->epoch;
    worker_core_on_asked(worker->core, stream, message, stream->sim->now_ns, &export);
    end->object = export;
    if (export == NULL && end->open)
        sim_fail(stream->sim, "environment", "%s neither took an ask nor closed it",
                 end->node->name);
}

static void asked_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    struct sim_end *end = &stream->end[SIM_SERVER];
    Td__AskIn *message = sim_unpack(&td__ask_in__descriptor, bytes, length);

    if (end->number == 0)
        asked(stream, message);
    else
        worker_core_on_asker_message(end->object, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void asked_closed(struct sim_stream *stream, td_status_t status)
{
    (void)status;
    if (stream->end[SIM_SERVER].object != NULL)
        worker_core_on_asker_lost(stream->end[SIM_SERVER].object, stream->sim->now_ns);
}

const struct sim_end_ops sim_ask_prefill = {
    .begin = asked_begin, .receive = asked_receive, .closed = asked_closed};

static void env_reply_send(void *impl, void *handle, const Td__AskOut *message)
{
    struct sim_stream *stream = handle;
    size_t length;
    uint8_t *bytes;

    if (!stream->end[SIM_SERVER].open)
        sim_fail(stream->sim, "environment", "%s writes to an asker that it has left",
                 node_of(impl)->name);
    if (stream->is_stale && message->kind_case != TD__ASK_OUT__KIND_REFUSED)
        sim_fail(stream->sim, "epochs", "%s serves an ask for another incarnation of it",
                 node_of(impl)->name);
    bytes = sim_pack(message, &length);
    sim_stream_send(stream, SIM_SERVER, bytes, length);
}

static void env_reply_close(void *impl, void *handle)
{
    (void)impl;
    sim_stream_close(handle, SIM_SERVER, TD_OK);
}

/* --- schedulers --- */

static void connect(struct sim_announcer *announcer)
{
    static const char *const names[SIM_SCHEDULERS_MAX] = {"scheduler0", "scheduler1"};

    announcer->stream = sim_stream_open(announcer->owner->node, SIM_ANNOUNCE,
                                        names[announcer->scheduler], announcer, 0);
}

static void connect_again(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    connect(event->object);
}

static void env_announce_ready(void *impl, void *handle)
{
    struct sim_announcer *announcer = handle;

    (void)impl;
    if (announcer->stream != NULL)
        sim_stream_ready(announcer->stream, SIM_CLIENT);
}

static td_status_t announce_begin(struct sim_stream *stream)
{
    struct sim_announcer *announcer = stream->end[SIM_CLIENT].object;

    worker_announcer_connected(announcer->announcer, stream->sim->now_ns);
    return TD_OK;
}

static uint8_t *announce_pull(struct sim_stream *stream, size_t *length_out)
{
    struct sim_announcer *announcer = stream->end[SIM_CLIENT].object;
    const Td__AnnounceIn *message =
        worker_announcer_next(announcer->announcer, stream->sim->now_ns);

    return message != NULL ? sim_pack(message, length_out) : NULL;
}

static void announce_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    struct sim_announcer *announcer = stream->end[SIM_CLIENT].object;
    Td__AnnounceOut *message = sim_unpack(&td__announce_out__descriptor, bytes, length);

    worker_announcer_on_message(announcer->announcer, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void announce_closed(struct sim_stream *stream, td_status_t status)
{
    struct sim_announcer *announcer = stream->end[SIM_CLIENT].object;
    struct sim_node *node = announcer->owner->node;

    (void)status;
    announcer->stream = NULL;
    worker_announcer_disconnected(announcer->announcer);
    sim_post(stream->sim, node, node->life, ANNOUNCE_RETRY_NS, "announce again", connect_again)
        ->object = announcer;
}

const struct sim_end_ops sim_announce_worker = {.begin = announce_begin,
                                                .pull = announce_pull,
                                                .receive = announce_receive,
                                                .closed = announce_closed};

void sim_worker_announce(struct sim_worker *worker)
{
    for (uint32_t i = 0; i < worker->node->sim->options.schedulers; i++) {
        struct sim_announcer *announcer = &worker->announcers[i];
        td_status_t status;

        announcer->owner = worker;
        announcer->scheduler = i;
        status = worker_announcer_open(worker->core, announcer, &announcer->announcer);
        assert(status == TD_OK);
        connect(announcer);
    }
}

/* --- the end --- */

static void die(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    sim_node_kill(event->node, 100 * TD_NS_PER_MS);
}

/* The supervisor starts it again. */
static void env_fatal(void *impl, const char *reason)
{
    struct sim_worker *worker = impl;

    sim_note(worker->node->sim, "%s gives up: %s", worker->node->name, reason);
    if (worker->is_dying)
        return;
    worker->is_dying = true;
    sim_post(worker->node->sim, worker->node, worker->node->life, 0, "fatal", die);
}

void sim_worker_env_fill(struct sim_worker *worker, struct worker_env *env_out)
{
    *env_out = (struct worker_env){.impl = worker,
                                   .random = env_random,
                                   .engine = sim_engine_send,
                                   .kvt = sim_kvt_send,
                                   .link_ready = env_link_ready,
                                   .announce_ready = env_announce_ready,
                                   .link_close = env_link_close,
                                   .pair = env_pair,
                                   .ask_open = env_ask_open,
                                   .ask_send = env_ask_send,
                                   .ask_close = env_ask_close,
                                   .reply_send = env_reply_send,
                                   .reply_close = env_reply_close,
                                   .step_age_ms = sim_engine_step_age_ms,
                                   .fatal = env_fatal};
}
