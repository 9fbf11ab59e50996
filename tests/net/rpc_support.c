/* rpc_support.c: see rpc_support.h. */
#include "tests/net/rpc_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/time.h"

/* ---- messages ---- */

static void fill(uint8_t *data, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        data[i] = (uint8_t)(number + i * 7);
}

static td_status_t send_number(struct rpc_call *call, uint64_t number, size_t bytes)
{
    Td__TextChunk chunk = TD__TEXT_CHUNK__INIT;
    uint8_t *data = malloc(bytes + 1);
    td_status_t status;

    assert_non_null(data);
    fill(data, number, bytes);
    chunk.total_bytes = number;
    chunk.data.data = data;
    chunk.data.len = bytes;
    status = rpc_call_send(call, &chunk.base);
    free(data);
    return status;
}

/* ---- the server ---- */

struct served {
    struct world *world;
    struct rpc_call *call;
    uint64_t to_send; /* Push */
    uint64_t next;
    Td__TextChunk *waiting; /* Stream: taken and not yet sent back */
    bool half_closed;
};

static void served_free(struct served *served)
{
    served->world->calls_open--;
    if (served->waiting != NULL)
        td__text_chunk__free_unpacked(served->waiting, NULL);
    free(served);
}

static void served_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct served *served = ctx;
    struct world *world = served->world;

    assert_ptr_equal(call, served->call);
    assert_non_null(detail);
    world->closes++;
    world->close_status = status;
    served_free(served);
    if (world->stop_on_close)
        net_loop_stop(world->loop);
}

static void count_message(struct world *world)
{
    world->messages++;
    if (world->stop_on_message)
        net_loop_stop(world->loop);
}

static void echo_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct served *served = ctx;
    Td__TextChunk *chunk = td__text_chunk__unpack(NULL, length, bytes);

    assert_non_null(chunk);
    count_message(served->world);
    snprintf(served->world->last_peer, sizeof served->world->last_peer, "%s",
             rpc_call_peer_name(call));
    rpc_call_reply(call, &chunk->base);
    td__text_chunk__free_unpacked(chunk, NULL);
    served_free(served);
}

static void stream_step(struct served *served)
{
    if (served->waiting == NULL && served->half_closed) {
        rpc_call_finish(served->call, TD_OK, NULL);
        served_free(served);
        return;
    }
    if (served->waiting == NULL || rpc_call_send(served->call, &served->waiting->base) != TD_OK)
        return;
    td__text_chunk__free_unpacked(served->waiting, NULL);
    served->waiting = NULL;
    rpc_call_resume(served->call);
}

static void stream_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct served *served = ctx;

    assert_null(served->waiting);
    served->waiting = td__text_chunk__unpack(NULL, length, bytes);
    assert_non_null(served->waiting);
    rpc_call_pause(call);
    count_message(served->world);
    stream_step(served);
}

static void stream_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    stream_step(ctx);
}

static void stream_half_close(void *ctx, struct rpc_call *call)
{
    struct served *served = ctx;

    (void)call;
    served->world->half_closes++;
    served->half_closed = true;
    if (rpc_call_writable(served->call))
        stream_step(served);
}

static void silent_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct served *served = ctx;

    (void)call;
    (void)bytes;
    (void)length;
    count_message(served->world);
}

static void push_step(struct served *served)
{
    while (served->next < served->to_send) {
        if (send_number(served->call, served->next, PUSH_BYTES) != TD_OK)
            return;
        served->next++;
        served->world->pushed++;
    }
    rpc_call_finish(served->call, TD_OK, "all pushed");
    served_free(served);
}

static void push_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct served *served = ctx;
    Td__TextChunk *chunk = td__text_chunk__unpack(NULL, length, bytes);

    (void)call;
    assert_non_null(chunk);
    served->to_send = chunk->total_bytes;
    td__text_chunk__free_unpacked(chunk, NULL);
    count_message(served->world);
    push_step(served);
}

static void push_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    push_step(ctx);
}

static void cancel_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct served *served = ctx;

    (void)bytes;
    (void)length;
    count_message(served->world);
    rpc_call_cancel(call);
    served_free(served);
}

static void open_served(struct world *world, struct rpc_call *call,
                        const struct rpc_handlers *handlers)
{
    struct served *served = calloc(1, sizeof *served);

    assert_non_null(served);
    served->world = world;
    served->call = call;
    world->calls_open++;
    world->last_role = rpc_call_peer_role(call);
    rpc_call_bind(call, handlers, served);
}

#define DEFINE_OPEN(name, ...)                                   \
    static void open_##name(void *ctx, struct rpc_call *call)    \
    {                                                            \
        static const struct rpc_handlers handlers = __VA_ARGS__; \
                                                                 \
        open_served(ctx, call, &handlers);                       \
    }
DEFINE_OPEN(echo, {.on_message = echo_message, .on_close = served_close})
DEFINE_OPEN(stream, {.on_message = stream_message,
                     .on_writable = stream_writable,
                     .on_half_close = stream_half_close,
                     .on_close = served_close})
DEFINE_OPEN(silent, {.on_message = silent_message, .on_close = served_close})
DEFINE_OPEN(push,
            {.on_message = push_message, .on_writable = push_writable, .on_close = served_close})
DEFINE_OPEN(cancel, {.on_message = cancel_message, .on_close = served_close})
#undef DEFINE_OPEN

static void open_refuse(void *ctx, struct rpc_call *call)
{
    (void)ctx;
    rpc_call_finish(call, TD_EXHAUSTED, "busy");
}

const struct rpc_method world_methods[] = {
    {ECHO_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, true, open_echo},
    {STREAM_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, false, open_stream},
    {SILENT_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, false, open_silent},
    {PUSH_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, false, open_push},
    {REFUSE_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, false, open_refuse},
    {CANCEL_PATH, NET_ROLES_ALL, STREAM_BYTES_MAX, false, open_cancel},
    {SMALL_PATH, NET_ROLES_ALL, SMALL_BYTES_MAX, true, open_echo},
    {ROUTER_PATH, NET_ROLE_BIT(NET_ROLE_ROUTER), STREAM_BYTES_MAX, true, open_echo},
};
const size_t world_method_count = sizeof world_methods / sizeof world_methods[0];

/* ---- the world ---- */

static void watchdog_barks(struct net_timer *timer, uint64_t now_ns)
{
    (void)timer;
    (void)now_ns;
    fail_msg("what the test waits for did not happen");
}

void world_open(struct world *world, const char *address, const char *certs)
{
    struct rpc_server_config config = {
        .address = address,
        .methods = world_methods,
        .method_count = world_method_count,
        .ctx = world,
    };
    struct td_error error = {0};

    *world = (struct world){0};
    assert_int_equal(net_loop_open(&world->loop), TD_OK);
    net_timer_init(&world->watchdog, world->loop, watchdog_barks);
    if (certs != NULL && net_tls_open(world->loop, certs, &world->tls, &error) != TD_OK)
        fail_msg("%s", error.text);
    assert_int_equal(rpc_open(world->loop, world->tls, &world->rpc), TD_OK);
    if (address != NULL && rpc_server_open(world->rpc, &config, &world->server, &error) != TD_OK)
        fail_msg("%s", error.text);
}

void world_close(struct world *world)
{
    net_timer_cancel(&world->watchdog);
    rpc_close(world->rpc);
    net_tls_close(world->tls);
    net_loop_close(world->loop);
    assert_int_equal(world->calls_open, 0);
}

void world_connect(struct world *world, const char *target)
{
    const struct rpc_channel_config config = {
        .target = target != NULL ? target : rpc_server_address(world->server)};

    assert_int_equal(rpc_channel_open(world->rpc, &config, &world->channel), TD_OK);
}

void world_run(struct world *world)
{
    net_timer_set_in(&world->watchdog, TEST_WAIT_SECONDS * 1000);
    net_loop_run(world->loop);
    net_timer_cancel(&world->watchdog);
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

void world_run_until(struct world *world, bool (*condition)(void *ctx), void *ctx)
{
    struct condition watched = {.holds = condition, .ctx = ctx};

    net_timer_init(&watched.timer, world->loop, look);
    net_timer_set_in(&watched.timer, 0);
    world_run(world);
    net_timer_cancel(&watched.timer);
}

/* ---- clients ---- */

static void client_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct client *client = ctx;
    Td__TextChunk *chunk = td__text_chunk__unpack(NULL, length, bytes);

    assert_ptr_equal(call, client->call);
    assert_non_null(chunk);
    if (chunk->total_bytes != (uint64_t)client->messages)
        client->out_of_order = true;
    client->last_number = chunk->total_bytes;
    client->messages++;
    td__text_chunk__free_unpacked(chunk, NULL);
    if (client->pause_on_message)
        rpc_call_pause(call);
    if (client->cancel_on_message) {
        rpc_call_cancel(call);
        client->call = NULL;
    }
    if (client->stop_on_message)
        net_loop_stop(client->world->loop);
}

static void client_writable(void *ctx, struct rpc_call *call)
{
    struct client *client = ctx;

    assert_ptr_equal(call, client->call);
    client->writables++;
    client_pump(client);
}

static void client_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct client *client = ctx;

    assert_ptr_equal(call, client->call);
    client->closes++;
    client->status = status;
    snprintf(client->detail, sizeof client->detail, "%s", detail);
    client->call = NULL;
    net_loop_stop(client->world->loop);
}

static const struct rpc_handlers client_handlers = {
    .on_message = client_message,
    .on_writable = client_writable,
    .on_close = client_close,
};

void client_start(struct client *client, struct world *world, const char *path,
                  uint32_t deadline_ms)
{
    const struct rpc_call_options options = {
        .path = path, .deadline_ms = deadline_ms, .handlers = &client_handlers, .ctx = client};

    client->world = world;
    assert_int_equal(rpc_channel_call(world->channel, &options, &client->call), TD_OK);
}

td_status_t client_send(struct client *client, uint64_t number, size_t bytes)
{
    return send_number(client->call, number, bytes);
}

void client_pump(struct client *client)
{
    while (client->next_to_send < client->send_count) {
        if (client_send(client, client->next_to_send, client->payload_bytes) != TD_OK)
            return;
        client->next_to_send++;
        if (client->next_to_send == client->send_count)
            rpc_call_send_close(client->call);
    }
}

void client_wait(struct client *client)
{
    while (client->closes == 0)
        world_run(client->world);
    assert_int_equal(client->closes, 1);
}

/* ---- unary calls ---- */

static void take_answer(void *ctx, td_status_t status, const char *detail, const uint8_t *bytes,
                        size_t length)
{
    struct answer *answer = ctx;
    Td__TextChunk *chunk;

    answer->count++;
    answer->unary = NULL;
    answer->status = status;
    snprintf(answer->detail, sizeof answer->detail, "%s", detail);
    if (status == TD_OK) {
        chunk = td__text_chunk__unpack(NULL, length, bytes);
        assert_non_null(chunk);
        answer->number = chunk->total_bytes;
        answer->bytes = chunk->data.len;
        answer->content_is_right = true;
        for (size_t i = 0; i < chunk->data.len; i++)
            if (chunk->data.data[i] != (uint8_t)(chunk->total_bytes + i * 7))
                answer->content_is_right = false;
        td__text_chunk__free_unpacked(chunk, NULL);
    }
    net_loop_stop(answer->world->loop);
}

void unary_start(struct answer *answer, struct world *world, const char *path, uint64_t number,
                 size_t bytes, uint32_t deadline_ms)
{
    Td__TextChunk chunk = TD__TEXT_CHUNK__INIT;
    uint8_t *data = malloc(bytes + 1);
    const struct rpc_unary_options options = {.path = path,
                                              .request = &chunk.base,
                                              .deadline_ms = deadline_ms,
                                              .fn = take_answer,
                                              .ctx = answer};

    assert_non_null(data);
    fill(data, number, bytes);
    chunk.total_bytes = number;
    chunk.data.data = data;
    chunk.data.len = bytes;
    *answer = (struct answer){.world = world};
    assert_int_equal(rpc_unary_start(world->channel, &options, &answer->unary), TD_OK);
    free(data);
}

void unary_wait(struct answer *answer)
{
    while (answer->count == 0)
        world_run(answer->world);
    assert_int_equal(answer->count, 1);
}
