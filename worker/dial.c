/*
 * dial.c: the RPC that a decode worker starts: Pair and Prefill, over one channel per target.
 *
 * A call that cannot even be started is answered in the next turn, because the core must not be called
 * from inside its own environment.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "worker/runtime_internal.h"

#define DIAL_REPLY_BYTES_MAX (64u << 10)

struct dial_channel {
    struct td_list node;
    char target[WORKER_TARGET_BYTES];
    struct rpc_channel *channel;
    uint32_t users;
};

struct dial_pair {
    struct worker_runtime *runtime;
    uint64_t number;
    struct dial_channel *channel;
    struct rpc_unary *unary;
    struct net_defer failed;
    td_status_t status;
};

struct dial_ask {
    struct worker_runtime *runtime;
    uint64_t number;
    struct dial_channel *channel;
    struct rpc_call *call; /* NULL: it could not be started */
    struct net_defer failed;
    bool renew_owed;
    uint32_t lease_ms;
};

/* ------------------------------------------------------------------------------------ channels */

static void channel_free(struct worker_runtime *runtime, struct dial_channel *channel)
{
    td_list_remove(&channel->node);
    runtime->channel_count--;
    rpc_channel_close(channel->channel);
    free(channel);
}

/* Fleets change: targets that nobody calls any more make room. */
static void make_room(struct worker_runtime *runtime)
{
    td_list_for_each(node, &runtime->channels)
    {
        struct dial_channel *channel = td_container_of(node, struct dial_channel, node);

        if (channel->users == 0) {
            channel_free(runtime, channel);
            return;
        }
    }
}

static struct dial_channel *channel_take(struct worker_runtime *runtime, const char *target)
{
    struct rpc_channel_config config = {.target = target,
                                        .expected_roles = NET_ROLES_WORKER,
                                        .message_bytes_max = DIAL_REPLY_BYTES_MAX};
    uint32_t channels_max = runtime->config.options->counts.pairs_max;
    struct dial_channel *channel;

    td_list_for_each(node, &runtime->channels)
    {
        channel = td_container_of(node, struct dial_channel, node);
        if (strcmp(channel->target, target) == 0) {
            channel->users++;
            return channel;
        }
    }
    if (runtime->channel_count >= channels_max)
        make_room(runtime);
    channel = calloc(1, sizeof *channel);
    if (channel == NULL || runtime->channel_count >= channels_max ||
        rpc_channel_open(runtime->config.rpc, &config, &channel->channel) != TD_OK) {
        free(channel);
        return NULL;
    }
    snprintf(channel->target, sizeof channel->target, "%s", target);
    channel->users = 1;
    td_list_init(&channel->node);
    td_list_push_back(&runtime->channels, &channel->node);
    runtime->channel_count++;
    return channel;
}

static void channel_put(struct dial_channel *channel)
{
    if (channel != NULL)
        channel->users--;
}

/* ---------------------------------------------------------------------------------------- Pair */

static void pair_free(struct dial_pair *pair)
{
    td_map_remove(&pair->runtime->pairs, td_u128_from_u64(pair->number));
    net_defer_cancel(&pair->failed);
    channel_put(pair->channel);
    free(pair);
}

static void pair_answer(struct dial_pair *pair, const Td__PairReply *reply, td_status_t status)
{
    struct worker_runtime *runtime = pair->runtime;
    uint64_t number = pair->number;

    pair_free(pair);
    worker_core_on_pair(runtime->core, number, reply, status, td_now_ns());
    worker_touch(runtime);
}

static void pair_on_failed(struct net_defer *defer)
{
    struct dial_pair *pair = td_container_of(defer, struct dial_pair, failed);

    pair_answer(pair, NULL, pair->status);
}

static void pair_on_reply(void *ctx, td_status_t status, const char *detail, const uint8_t *bytes,
                          size_t length)
{
    struct td_arena arena;
    Td__PairReply *reply = NULL;

    (void)detail;
    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    if (status == TD_OK) {
        reply = proto_unpack(&arena, &td__pair_reply__descriptor, bytes, length);
        if (reply == NULL)
            status = TD_INVALID;
    }
    pair_answer(ctx, reply, status);
    td_arena_fini(&arena);
}

static td_status_t pair_start(struct dial_pair *pair, const char *target,
                              const Td__PairRequest *request, uint32_t deadline_ms)
{
    struct rpc_unary_options options = {.path = "/td.Worker/Pair",
                                        .request = &request->base,
                                        .deadline_ms = deadline_ms,
                                        .fn = pair_on_reply,
                                        .ctx = pair};

    pair->channel = channel_take(pair->runtime, target);
    if (pair->channel == NULL)
        return TD_EXHAUSTED;
    return rpc_unary_start(pair->channel->channel, &options, &pair->unary);
}

static void env_pair(void *impl, uint64_t number, const char *target,
                     const Td__PairRequest *request, uint32_t deadline_ms)
{
    struct worker_runtime *runtime = impl;
    struct dial_pair *pair = calloc(1, sizeof *pair);

    if (pair == NULL)
        return; /* the handshake's own deadline ends it */
    pair->runtime = runtime;
    pair->number = number;
    net_defer_init(&pair->failed, pair_on_failed);
    if (td_map_insert(&runtime->pairs, td_u128_from_u64(number), pair) != TD_OK) {
        free(pair);
        return;
    }
    pair->status = pair_start(pair, target, request, deadline_ms);
    if (pair->status != TD_OK)
        net_defer_post(runtime->config.loop, &pair->failed);
}

/* ------------------------------------------------------------------------------------- Prefill */

static void ask_free(struct dial_ask *ask)
{
    td_map_remove(&ask->runtime->asks, td_u128_from_u64(ask->number));
    net_defer_cancel(&ask->failed);
    channel_put(ask->channel);
    free(ask);
}

static void ask_closed(struct dial_ask *ask)
{
    struct worker_runtime *runtime = ask->runtime;
    uint64_t number = ask->number;

    ask_free(ask);
    worker_core_on_ask_closed(runtime->core, number, td_now_ns());
    worker_touch(runtime);
}

static void ask_on_failed(struct net_defer *defer)
{
    ask_closed(td_container_of(defer, struct dial_ask, failed));
}

static void ask_on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct dial_ask *ask = ctx;
    struct worker_runtime *runtime = ask->runtime;
    struct td_arena arena;
    Td__AskOut *message;

    td_arena_init(&arena, WORKER_UNPACK_BYTES_MAX);
    message = proto_unpack(&arena, &td__ask_out__descriptor, bytes, length);
    if (message != NULL) {
        /* the ask itself may be gone afterwards */
        worker_core_on_ask_message(runtime->core, ask->number, message, td_now_ns());
        worker_touch(runtime);
    } else {
        rpc_call_cancel(call);
        ask_closed(ask);
    }
    td_arena_fini(&arena);
}

static void ask_send_renew(struct dial_ask *ask)
{
    Td__AskIn message = TD__ASK_IN__INIT;
    Td__Renew renew = TD__RENEW__INIT;

    if (!rpc_call_writable(ask->call)) {
        ask->renew_owed = true;
        return;
    }
    renew.lease_ms = ask->lease_ms;
    message.kind_case = TD__ASK_IN__KIND_RENEW;
    message.renew = &renew;
    ask->renew_owed = rpc_call_send(ask->call, &message.base) != TD_OK;
}

static void ask_on_writable(void *ctx, struct rpc_call *call)
{
    struct dial_ask *ask = ctx;

    (void)call;
    if (ask->renew_owed)
        ask_send_renew(ask);
}

static void ask_on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    (void)call;
    (void)status;
    (void)detail;
    ask_closed(ctx);
}

static const struct rpc_handlers ask_handlers = {
    .on_message = ask_on_message,
    .on_writable = ask_on_writable,
    .on_close = ask_on_close,
};

static td_status_t ask_start(struct dial_ask *ask, const char *target, const Td__AskIn *first)
{
    struct rpc_call_options options = {
        .path = "/td.Worker/Prefill", .handlers = &ask_handlers, .ctx = ask};
    td_status_t status;

    ask->channel = channel_take(ask->runtime, target);
    if (ask->channel == NULL)
        return TD_EXHAUSTED;
    status = rpc_channel_call(ask->channel->channel, &options, &ask->call);
    if (status != TD_OK) {
        ask->call = NULL;
        return status;
    }
    status = rpc_call_send(ask->call, &first->base);
    if (status != TD_OK) {
        rpc_call_cancel(ask->call);
        ask->call = NULL;
    }
    return status;
}

static void env_ask_open(void *impl, uint64_t number, const char *target, const Td__AskIn *first)
{
    struct worker_runtime *runtime = impl;
    struct dial_ask *ask = calloc(1, sizeof *ask);

    if (ask == NULL)
        return; /* the ask's own deadline ends it */
    ask->runtime = runtime;
    ask->number = number;
    net_defer_init(&ask->failed, ask_on_failed);
    if (td_map_insert(&runtime->asks, td_u128_from_u64(number), ask) != TD_OK) {
        free(ask);
        return;
    }
    /*
     * The peer must not send before the transfer thread expects it. If that command still waits for room
     * in the ring, the thread is far behind, and this is no time for an import.
     */
    if (!td_list_empty(&runtime->transfer_backlog) || ask_start(ask, target, first) != TD_OK)
        net_defer_post(runtime->config.loop, &ask->failed);
}

static struct dial_ask *ask_find(struct worker_runtime *runtime, uint64_t number)
{
    return td_map_find(&runtime->asks, td_u128_from_u64(number));
}

/* The only message that follows the first is Renew. */
static void env_ask_send(void *impl, uint64_t number, const Td__AskIn *message)
{
    struct dial_ask *ask = ask_find(impl, number);

    if (ask == NULL || ask->call == NULL || message->kind_case != TD__ASK_IN__KIND_RENEW)
        return;
    ask->lease_ms = message->renew->lease_ms;
    ask_send_renew(ask);
}

static void env_ask_close(void *impl, uint64_t number)
{
    struct dial_ask *ask = ask_find(impl, number);

    if (ask == NULL)
        return;
    if (ask->call != NULL)
        rpc_call_cancel(ask->call);
    ask_free(ask);
}

/* --------------------------------------------------------------------------- opening, closing */

void worker_dial_open(struct worker_runtime *runtime)
{
    td_list_init(&runtime->channels);
    td_map_init(&runtime->asks, runtime->config.options->counts.requests_max);
    td_map_init(&runtime->pairs, (size_t)runtime->config.options->counts.pairs_max * 2);
}

/* The core is told nothing: it is about to be closed. */
void worker_dial_close(struct worker_runtime *runtime)
{
    size_t cursor;
    struct dial_pair *pair;
    struct dial_ask *ask;
    struct td_list *node;

    for (cursor = 0; (pair = td_map_next(&runtime->pairs, &cursor)) != NULL; cursor = 0) {
        if (pair->unary != NULL && pair->status == TD_OK)
            rpc_unary_cancel(pair->unary);
        pair_free(pair);
    }
    for (cursor = 0; (ask = td_map_next(&runtime->asks, &cursor)) != NULL; cursor = 0) {
        if (ask->call != NULL)
            rpc_call_cancel(ask->call);
        ask_free(ask);
    }
    while ((node = td_list_first(&runtime->channels)) != NULL)
        channel_free(runtime, td_container_of(node, struct dial_channel, node));
    td_map_fini(&runtime->asks);
    td_map_fini(&runtime->pairs);
}

void worker_dial_env(struct worker_env *env)
{
    env->pair = env_pair;
    env->ask_open = env_ask_open;
    env->ask_send = env_ask_send;
    env->ask_close = env_ask_close;
}
