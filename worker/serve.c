/*
 * serve.c: the RPC that routers, decode workers and operators call: Generate, Prefill, Pair, Text.
 *
 * Messages are unpacked here and checked by the core. Output of Generate is pulled from the core when
 * the stream can send, at the end of a turn, so that one message carries the news of a whole engine
 * step. Replies to an ask are few and small, and are copied into the ask's short queue.
 *
 * A stream on which nothing is said costs its place, so there are so many of each and no more, and the
 * first message has to come in collect_ms.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/runtime_internal.h"

#define SERVE_GENERATE_BYTES_MAX (256u << 10)
#define SERVE_ASK_BYTES_MAX      (4u << 20)
#define SERVE_PAIR_BYTES_MAX     (64u << 10)
#define SERVE_TEXT_BYTES_MAX     1024u
#define SERVE_TEXT_CHUNK_BYTES   ((size_t)256 << 10)
#define SERVE_REPLIES_MAX        4 /* accepted, progress, and the end; progress is overwritten */
#define SERVE_TEXTS_MAX          64
#define SERVE_TEXT_STALL_MS      10000 /* for one chunk to leave */

#define NO_MESSAGE "the message cannot be read"

/* ------------------------------------------------------------------------------------ Generate */

struct serve_link {
    struct worker_runtime *runtime;
    struct rpc_call *call;
    struct worker_link *link;
    struct net_defer pump;
    struct net_timer silence; /* until the first message */
};

static void link_free(struct serve_link *stream)
{
    net_timer_cancel(&stream->silence);
    net_defer_cancel(&stream->pump);
    free(stream);
}

/* Our end is broken: the router finds out by the end of the call. */
static void link_break(struct serve_link *stream, td_status_t status, const char *detail)
{
    worker_touch(stream->runtime);
    worker_link_closed(stream->link, td_now_ns());
    rpc_call_finish(stream->call, status, detail);
    link_free(stream);
}

static void link_is_silent(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    link_break(td_container_of(timer, struct serve_link, silence), TD_TIMEOUT, "no hello came");
}

static void link_pump(struct net_defer *defer)
{
    struct serve_link *stream = td_container_of(defer, struct serve_link, pump);
    const Td__GenerateOut *message;
    td_status_t status;

    if (!rpc_call_writable(stream->call))
        return;
    message = worker_link_next(stream->link, td_now_ns());
    if (message == NULL)
        return;
    status = rpc_call_send(stream->call, &message->base);
    if (status != TD_OK)
        link_break(stream, status, "cannot send");
}

static void link_on_writable(void *ctx, struct rpc_call *call)
{
    struct serve_link *stream = ctx;

    (void)call;
    net_defer_post(stream->runtime->config.loop, &stream->pump);
}

static void link_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct serve_link *stream = ctx;
    struct worker_runtime *runtime = stream->runtime;
    struct td_arena arena;
    Td__GenerateIn *message;

    (void)call;
    net_timer_cancel(&stream->silence);
    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    message = proto_unpack(&arena, &td__generate_in__descriptor, bytes, length);
    if (message != NULL)
        worker_link_on_message(stream->link, message, td_now_ns()); /* may close the stream */
    else
        link_break(stream, TD_INVALID, NO_MESSAGE);
    td_arena_fini(&arena);
    worker_touch(runtime);
}

static void link_on_half_close(void *ctx, struct rpc_call *call)
{
    (void)call;
    link_break(ctx, TD_OK, NULL);
}

static void link_on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct serve_link *stream = ctx;

    (void)call;
    (void)status;
    (void)detail;
    worker_touch(stream->runtime);
    worker_link_closed(stream->link, td_now_ns());
    link_free(stream);
}

static const struct rpc_handlers link_handlers = {
    .on_message = link_on_message,
    .on_writable = link_on_writable,
    .on_half_close = link_on_half_close,
    .on_close = link_on_close,
};

static void on_generate(void *ctx, struct rpc_call *call)
{
    struct worker_runtime *runtime = ctx;
    struct serve_link *stream = calloc(1, sizeof *stream);
    td_status_t status = TD_NO_MEMORY;

    if (stream != NULL)
        status = worker_link_open(runtime->core, stream, &stream->link);
    if (status != TD_OK) {
        free(stream);
        rpc_call_finish(call, status, "no room for another router");
        return;
    }
    stream->runtime = runtime;
    stream->call = call;
    net_defer_init(&stream->pump, link_pump);
    net_timer_init(&stream->silence, runtime->config.loop, link_is_silent);
    net_timer_set_in(&stream->silence, runtime->config.options->times.collect_ms);
    rpc_call_bind(call, &link_handlers, stream);
}

static void env_link_ready(void *impl, void *handle)
{
    struct worker_runtime *runtime = impl;
    struct serve_link *stream = handle;

    net_defer_post(runtime->config.loop, &stream->pump);
}

static void env_link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    struct serve_link *stream = handle;

    (void)impl;
    rpc_call_finish(stream->call, status, reason);
    link_free(stream);
}

/* ------------------------------------------------------------------------------------- Prefill */

struct serve_reply {
    Td__AskOut__KindCase kind;
    Td__Accepted accepted;
    Td__Progress progress;
    Td__Sent sent;
    Td__Refused refused;
    char reason[WORKER_REASON_BYTES];
};

struct serve_ask {
    struct worker_runtime *runtime;
    struct rpc_call *call;
    struct worker_export *export;
    bool asked;  /* the first message has come */
    bool closed; /* the core has let go: send what waits, then end */
    struct serve_reply replies[SERVE_REPLIES_MAX];
    size_t reply_count;
    struct net_defer pump;
    struct net_timer silence; /* until the ask; then there is the lease */
};

static void ask_free(struct serve_ask *ask)
{
    ask->runtime->ask_count--;
    net_timer_cancel(&ask->silence);
    net_defer_cancel(&ask->pump);
    free(ask);
}

static void ask_lost(struct serve_ask *ask)
{
    if (!ask->closed && ask->export != NULL)
        worker_core_on_asker_lost(ask->export, td_now_ns());
    worker_touch(ask->runtime);
    ask_free(ask);
}

static void ask_break(struct serve_ask *ask, td_status_t status, const char *detail)
{
    rpc_call_finish(ask->call, status, detail);
    ask_lost(ask);
}

static void ask_is_silent(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    ask_break(td_container_of(timer, struct serve_ask, silence), TD_TIMEOUT, "no ask came");
}

static td_status_t send_reply(struct serve_ask *ask, struct serve_reply *reply)
{
    Td__AskOut out = TD__ASK_OUT__INIT;

    out.kind_case = reply->kind;
    switch (reply->kind) {
    case TD__ASK_OUT__KIND_ACCEPTED: out.accepted = &reply->accepted; break;
    case TD__ASK_OUT__KIND_PROGRESS: out.progress = &reply->progress; break;
    case TD__ASK_OUT__KIND_SENT: out.sent = &reply->sent; break;
    default:
        reply->refused.message = reply->reason;
        out.refused = &reply->refused;
        break;
    }
    return rpc_call_send(ask->call, &out.base);
}

static void ask_pump(struct net_defer *defer)
{
    struct serve_ask *ask = td_container_of(defer, struct serve_ask, pump);

    while (ask->reply_count > 0 && rpc_call_writable(ask->call)) {
        if (send_reply(ask, &ask->replies[0]) != TD_OK) {
            rpc_call_cancel(ask->call);
            ask_lost(ask);
            return;
        }
        ask->reply_count--;
        memmove(&ask->replies[0], &ask->replies[1], ask->reply_count * sizeof ask->replies[0]);
    }
    if (ask->closed && ask->reply_count == 0) {
        rpc_call_finish(ask->call, TD_OK, NULL);
        ask_free(ask);
    }
}

static void ask_on_writable(void *ctx, struct rpc_call *call)
{
    struct serve_ask *ask = ctx;

    (void)call;
    net_defer_post(ask->runtime->config.loop, &ask->pump);
}

static void ask_take(struct serve_ask *ask, const Td__AskIn *message)
{
    struct worker_export *export = NULL;

    if (ask->asked) {
        if (ask->export != NULL)
            worker_core_on_asker_message(ask->export, message, td_now_ns());
        return;
    }
    ask->asked = true;
    net_timer_cancel(&ask->silence);
    worker_core_on_asked(ask->runtime->core, ask, message, td_now_ns(), &export);
    ask->export = export;
}

static void ask_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct serve_ask *ask = ctx;
    struct td_arena arena;
    Td__AskIn *message;

    (void)call;
    if (ask->closed)
        return; /* crossed with the end */
    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    message = proto_unpack(&arena, &td__ask_in__descriptor, bytes, length);
    worker_touch(ask->runtime);
    if (message != NULL)
        ask_take(ask, message); /* the stream itself lives at least until the end of the turn */
    else
        ask_break(ask, TD_INVALID, NO_MESSAGE);
    td_arena_fini(&arena);
}

/* An asker that cannot renew any more has let go; only its answer may still be on its way. */
static void ask_on_half_close(void *ctx, struct rpc_call *call)
{
    struct serve_ask *ask = ctx;

    (void)call;
    if (!ask->closed)
        ask_break(ask, TD_CANCELED, "the asker closed the stream");
}

static void ask_on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    (void)status;
    (void)detail;
    ask_lost(ctx);
}

static const struct rpc_handlers ask_handlers = {
    .on_message = ask_on_message,
    .on_writable = ask_on_writable,
    .on_half_close = ask_on_half_close,
    .on_close = ask_on_close,
};

static void on_prefill(void *ctx, struct rpc_call *call)
{
    struct worker_runtime *runtime = ctx;
    const struct worker_options *options = runtime->config.options;
    struct serve_ask *ask = NULL;

    /* twice: those that are being refused take a place, too */
    if (runtime->ask_count < 2 * options->counts.exports_max)
        ask = calloc(1, sizeof *ask);
    if (ask == NULL) {
        rpc_call_finish(call, TD_EXHAUSTED, "too many asks");
        return;
    }
    runtime->ask_count++;
    ask->runtime = runtime;
    ask->call = call;
    net_defer_init(&ask->pump, ask_pump);
    net_timer_init(&ask->silence, runtime->config.loop, ask_is_silent);
    net_timer_set_in(&ask->silence, options->times.collect_ms);
    rpc_call_bind(call, &ask_handlers, ask);
}

/* A newer progress takes the place of one that has not left yet. */
static struct serve_reply *reply_slot(struct serve_ask *ask, Td__AskOut__KindCase kind)
{
    size_t count = ask->reply_count;

    if (count > 0 && kind == TD__ASK_OUT__KIND_PROGRESS &&
        ask->replies[count - 1].kind == TD__ASK_OUT__KIND_PROGRESS)
        return &ask->replies[count - 1];
    if (count == SERVE_REPLIES_MAX)
        return NULL; /* the core sends at most one of each other kind */
    ask->reply_count++;
    return &ask->replies[count];
}

static void env_reply_send(void *impl, void *handle, const Td__AskOut *message)
{
    struct worker_runtime *runtime = impl;
    struct serve_ask *ask = handle;
    struct serve_reply *reply = reply_slot(ask, message->kind_case);

    if (reply == NULL)
        return;
    reply->kind = message->kind_case;
    switch (message->kind_case) {
    case TD__ASK_OUT__KIND_ACCEPTED: reply->accepted = *message->accepted; break;
    case TD__ASK_OUT__KIND_PROGRESS: reply->progress = *message->progress; break;
    case TD__ASK_OUT__KIND_SENT: reply->sent = *message->sent; break;
    default:
        reply->refused = *message->refused;
        snprintf(reply->reason, sizeof reply->reason, "%s", message->refused->message);
        break;
    }
    net_defer_post(runtime->config.loop, &ask->pump);
}

static void env_reply_close(void *impl, void *handle)
{
    struct worker_runtime *runtime = impl;
    struct serve_ask *ask = handle;

    ask->closed = true;
    net_defer_post(runtime->config.loop, &ask->pump);
}

/* ---------------------------------------------------------------------------------------- Pair */

static void pair_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct worker_runtime *runtime = ctx;
    struct td_arena arena;
    Td__PairRequest *request;
    Td__PairReply reply;

    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    request = proto_unpack(&arena, &td__pair_request__descriptor, bytes, length);
    if (request != NULL) {
        worker_core_on_pair_request(runtime->core, request, &reply, td_now_ns());
        rpc_call_reply(call, &reply.base);
    } else {
        rpc_call_finish(call, TD_INVALID, NO_MESSAGE);
    }
    td_arena_fini(&arena);
    worker_touch(runtime);
}

static const struct rpc_handlers pair_handlers = {.on_message = pair_on_message};

static void on_pair(void *ctx, struct rpc_call *call)
{
    rpc_call_bind(call, &pair_handlers, ctx);
}

/* ---------------------------------------------------------------------------------------- Text */

struct serve_text {
    struct worker_runtime *runtime;
    struct rpc_call *call;
    bool asked;
    size_t offset;
    struct net_timer stall; /* until the request, and then until the next chunk has left */
};

static void text_free(struct serve_text *text)
{
    text->runtime->text_count--;
    net_timer_cancel(&text->stall);
    free(text);
}

static void text_break(struct serve_text *text, td_status_t status, const char *detail)
{
    rpc_call_finish(text->call, status, detail);
    text_free(text);
}

/* It does not read: an orderly end would wait for that, too. */
static void text_has_stalled(struct net_timer *timer, uint64_t now_ns)
{
    struct serve_text *text = td_container_of(timer, struct serve_text, stall);

    (void)now_ns;
    rpc_call_cancel(text->call);
    text_free(text);
}

static void text_pump(struct serve_text *text)
{
    const struct td_buf *source = &text->runtime->engines.text_bytes;
    size_t left = source->length - text->offset;
    Td__TextChunk chunk = TD__TEXT_CHUNK__INIT;
    td_status_t status;

    if (left == 0) {
        text_break(text, TD_OK, NULL);
        return;
    }
    chunk.total_bytes = source->length;
    chunk.data.data = (uint8_t *)source->data + text->offset;
    chunk.data.len = left < SERVE_TEXT_CHUNK_BYTES ? left : SERVE_TEXT_CHUNK_BYTES;
    status = rpc_call_send(text->call, &chunk.base); /* on_writable calls for the next */
    if (status != TD_OK) {
        text_break(text, status, "cannot send");
        return;
    }
    text->offset += chunk.data.len;
    net_timer_set_in(&text->stall, SERVE_TEXT_STALL_MS);
}

static void text_on_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    text_pump(ctx);
}

static td_status_t text_take(const struct serve_text *text, const uint8_t *bytes, size_t length)
{
    struct td_u128 id = text->runtime->engines.text_id;
    struct td_arena arena;
    const Td__TextRequest *request;
    td_status_t status = TD_INVALID;

    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    request = proto_unpack(&arena, &td__text_request__descriptor, bytes, length);
    if (request != NULL && !text->asked)
        status =
            request->text_id_hi == id.hi && request->text_id_lo == id.lo ? TD_OK : TD_NOT_FOUND;
    td_arena_fini(&arena);
    return status;
}

static void text_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct serve_text *text = ctx;
    td_status_t status = text_take(text, bytes, length);

    (void)call;
    if (status != TD_OK) {
        text_break(text, status,
                   status == TD_NOT_FOUND ? "no tokenizer of this identity is here"
                                          : "one request that can be read was expected");
        return;
    }
    text->asked = true;
    text_pump(text);
}

/* Usual after the request; without one there is nothing to wait for. */
static void text_on_half_close(void *ctx, struct rpc_call *call)
{
    struct serve_text *text = ctx;

    (void)call;
    if (!text->asked)
        text_break(text, TD_INVALID, "the request has no message");
}

static void text_on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    (void)status;
    (void)detail;
    text_free(ctx);
}

static const struct rpc_handlers text_handlers = {
    .on_message = text_on_message,
    .on_writable = text_on_writable,
    .on_half_close = text_on_half_close,
    .on_close = text_on_close,
};

static void on_text(void *ctx, struct rpc_call *call)
{
    struct worker_runtime *runtime = ctx;
    struct serve_text *text = NULL;

    if (runtime->text_count < SERVE_TEXTS_MAX)
        text = calloc(1, sizeof *text);
    if (text == NULL) {
        rpc_call_finish(call, TD_EXHAUSTED, "too many fetch their tokenizer here");
        return;
    }
    runtime->text_count++;
    text->runtime = runtime;
    text->call = call;
    net_timer_init(&text->stall, runtime->config.loop, text_has_stalled);
    net_timer_set_in(&text->stall, SERVE_TEXT_STALL_MS);
    rpc_call_bind(call, &text_handlers, text);
}

/* -------------------------------------------------------------------------------------- server */

static const struct rpc_method methods[] = {
    {.path = "/td.Worker/Generate",
     .allowed_roles = NET_ROLE_BIT(NET_ROLE_ROUTER),
     .message_bytes_max = SERVE_GENERATE_BYTES_MAX,
     .on_open = on_generate},
    {.path = "/td.Worker/Prefill",
     .allowed_roles = NET_ROLES_WORKER,
     .message_bytes_max = SERVE_ASK_BYTES_MAX,
     .on_open = on_prefill},
    {.path = "/td.Worker/Pair",
     .allowed_roles = NET_ROLES_WORKER,
     .message_bytes_max = SERVE_PAIR_BYTES_MAX,
     .unary = true,
     .on_open = on_pair},
    {.path = "/td.Worker/Text",
     .allowed_roles = NET_ROLE_BIT(NET_ROLE_ROUTER) | NET_ROLE_BIT(NET_ROLE_OPERATOR),
     .message_bytes_max = SERVE_TEXT_BYTES_MAX,
     .on_open = on_text},
};

td_status_t worker_serve_open(struct worker_runtime *runtime, struct td_error *error)
{
    struct rpc_server_config config = {
        .address = runtime->config.options->listen,
        .insecure = runtime->config.insecure,
        .methods = methods,
        .method_count = sizeof methods / sizeof methods[0],
        .ctx = runtime,
    };

    return rpc_server_open(runtime->config.rpc, &config, &runtime->server, error);
}

void worker_serve_close(struct worker_runtime *runtime)
{
    if (runtime->server != NULL)
        rpc_server_close(runtime->server);
    runtime->server = NULL;
}

void worker_serve_env(struct worker_env *env)
{
    env->link_ready = env_link_ready;
    env->link_close = env_link_close;
    env->reply_send = env_reply_send;
    env->reply_close = env_reply_close;
}
