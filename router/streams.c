/* streams.c: see streams.h. */
#include "router/streams.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "proto/unpack.h"

#define GENERATE_PATH "/td.Worker/Generate"

/* One message has the news of one engine step: some 100 bytes for each of at most some 1,000 requests. */
#define MESSAGE_BYTES_MAX  ((uint32_t)1 << 20)
#define UNPACKED_BYTES_MAX ((size_t)16 << 20)

struct stream {
    struct router_streams *streams;
    struct td_list due_node;
    uint64_t link;
    struct rpc_channel *channel;
    struct rpc_call *call; /* NULL: it could not be made */
    bool announced;        /* on_open has been called */
};

struct router_streams {
    struct router_streams_config config;
    struct td_map by_link;
    struct td_list due; /* to be looked at at the end of the turn */
    struct net_defer defer;
};

static struct stream *find(const struct router_streams *streams, uint64_t link)
{
    return td_map_find(&streams->by_link, td_u128_from_u64(link));
}

static void stream_free(struct stream *stream)
{
    td_map_remove(&stream->streams->by_link, td_u128_from_u64(stream->link));
    td_list_remove(&stream->due_node);
    if (stream->call != NULL)
        rpc_call_cancel(stream->call);
    rpc_channel_close(stream->channel);
    free(stream);
}

static void report_closed(struct stream *stream, td_status_t status)
{
    struct router_streams *streams = stream->streams;
    uint64_t link = stream->link;

    stream_free(stream);
    streams->config.on_closed(streams->config.ctx, link, status);
}

/* --- out --- */

static void pump(struct stream *stream)
{
    struct router_streams *streams = stream->streams;

    while (rpc_call_writable(stream->call)) {
        const Td__GenerateIn *message = streams->config.next(streams->config.ctx, stream->link);

        if (message == NULL)
            return;
        if (rpc_call_send(stream->call, &message->base) != TD_OK) {
            report_closed(stream, TD_INTERNAL); /* it is writable, so this is a bug */
            return;
        }
    }
}

static void on_due(struct net_defer *defer)
{
    struct router_streams *streams = td_container_of(defer, struct router_streams, defer);
    struct td_list *node;

    while ((node = td_list_first(&streams->due)) != NULL) {
        struct stream *stream = td_container_of(node, struct stream, due_node);

        td_list_remove(node);
        if (stream->call == NULL) {
            report_closed(stream, TD_NO_MEMORY);
        } else if (!stream->announced) {
            stream->announced = true;
            streams->config.on_open(streams->config.ctx, stream->link); /* makes it due again */
        } else {
            pump(stream);
        }
    }
}

static void make_due(struct stream *stream)
{
    struct router_streams *streams = stream->streams;

    td_list_remove(&stream->due_node);
    td_list_push_back(&streams->due, &stream->due_node);
    net_defer_post(streams->config.loop, &streams->defer);
}

static void on_writable(void *ctx, struct rpc_call *call)
{
    (void)call;
    make_due(ctx);
}

/* --- in --- */

static void on_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct stream *stream = ctx;
    struct router_streams *streams = stream->streams;
    struct td_arena arena;
    Td__GenerateOut *message;

    td_arena_init(&arena, UNPACKED_BYTES_MAX);
    message = proto_unpack(&arena, &td__generate_out__descriptor, bytes, length);
    if (message != NULL) {
        streams->config.on_message(streams->config.ctx, stream->link, message);
    } else {
        td_log(TD_LOG_WARN, "streams", "a worker's message cannot be read worker %s",
               rpc_call_peer_name(call));
        report_closed(stream, TD_INVALID);
    }
    td_arena_fini(&arena);
}

static void on_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct stream *stream = ctx;

    (void)call;
    stream->call = NULL;
    td_log(TD_LOG_DEBUG, "streams", "a worker's stream ended: %s (%s)", td_status_text(status),
           detail);
    report_closed(stream, status != TD_OK ? status : TD_PEER_LOST);
}

/* --- open and close --- */

static td_status_t connect_stream(struct stream *stream, const char *target)
{
    static const struct rpc_handlers handlers = {
        .on_message = on_message, .on_writable = on_writable, .on_close = on_close};
    const struct rpc_channel_config config = {.target = target,
                                              .expected_roles = NET_ROLES_WORKER,
                                              .message_bytes_max = MESSAGE_BYTES_MAX};
    const struct rpc_call_options options = {
        .path = GENERATE_PATH, .handlers = &handlers, .ctx = stream};
    td_status_t status = rpc_channel_open(stream->streams->config.rpc, &config, &stream->channel);

    if (status != TD_OK)
        return status;
    return rpc_channel_call(stream->channel, &options, &stream->call);
}

void router_stream_open(struct router_streams *streams, uint64_t link, const char *target)
{
    struct stream *stream = calloc(1, sizeof *stream);

    /* without memory the core's own deadline for an open link tries again */
    if (stream == NULL)
        return;
    stream->streams = streams;
    stream->link = link;
    td_list_init(&stream->due_node);
    if (td_map_insert(&streams->by_link, td_u128_from_u64(link), stream) != TD_OK) {
        free(stream);
        return;
    }
    if (connect_stream(stream, target) != TD_OK)
        stream->call = NULL;
    make_due(stream);
}

void router_stream_close(struct router_streams *streams, uint64_t link)
{
    struct stream *stream = find(streams, link);

    if (stream != NULL)
        stream_free(stream);
}

void router_stream_ready(struct router_streams *streams, uint64_t link)
{
    struct stream *stream = find(streams, link);

    if (stream != NULL)
        make_due(stream);
}

td_status_t router_streams_open(const struct router_streams_config *config,
                                struct router_streams **streams_out)
{
    struct router_streams *streams = calloc(1, sizeof *streams);

    if (streams == NULL)
        return TD_NO_MEMORY;
    streams->config = *config;
    td_map_init(&streams->by_link, config->streams_max);
    td_list_init(&streams->due);
    net_defer_init(&streams->defer, on_due);
    *streams_out = streams;
    return TD_OK;
}

void router_streams_close(struct router_streams *streams)
{
    struct stream *stream;
    size_t cursor = 0;

    if (streams == NULL)
        return;
    while ((stream = td_map_next(&streams->by_link, &cursor)) != NULL) {
        stream_free(stream); /* which changes the map: from the start again */
        cursor = 0;
    }
    net_defer_cancel(&streams->defer);
    td_map_fini(&streams->by_link);
    free(streams);
}
