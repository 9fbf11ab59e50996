/* stream.c: streams between processes, see network.h. */
#include <stdlib.h>

#include "sim/network.h"

#define WINDOW          8 /* messages in flight in one direction before the sender must wait */
#define WINDOW_PRESSED  1
#define CONNECT_LOST_NS (1000 * TD_NS_PER_MS)
#define DETECT_NS_MAX   (3000 * TD_NS_PER_MS)
#define RESET_NS_MAX    (50 * TD_NS_PER_MS)

static const struct {
    const char *name;
    const struct sim_end_ops *end[2];
} kinds[SIM_STREAM_KINDS] = {
    [SIM_GENERATE] = {"generate", {&sim_generate_router, &sim_generate_worker}},
    [SIM_ASK] = {"ask", {&sim_ask_decode, &sim_ask_prefill}},
    [SIM_ANNOUNCE] = {"announce", {&sim_announce_worker, &sim_announce_scheduler}},
    [SIM_FLEET] = {"fleet", {&sim_fleet_router, &sim_fleet_scheduler}},
};

static const char *name_of(const struct sim_stream *stream)
{
    return kinds[stream->kind].name;
}

static const struct sim_end_ops *ops_of(const struct sim_stream *stream, enum sim_side side)
{
    return kinds[stream->kind].end[side];
}

static enum sim_side other(enum sim_side side)
{
    return side == SIM_CLIENT ? SIM_SERVER : SIM_CLIENT;
}

static bool end_lives(const struct sim_end *end)
{
    return end->node != NULL && end->node->up && end->node->life == end->life;
}

static struct sim_event *post_to_end(struct sim_stream *stream, enum sim_side side, uint64_t at_ns,
                                     const char *what, sim_event_fn run)
{
    struct sim_end *end = &stream->end[side];
    struct sim_event *event =
        sim_post(stream->sim, end->node, end->life, at_ns - stream->sim->now_ns, what, run);

    event->object = stream;
    event->number = stream->id;
    return event;
}

/* --- the end --- */

static void bury(struct sim_stream *stream)
{
    if (stream->end[SIM_CLIENT].open || stream->end[SIM_SERVER].open)
        return;
    td_list_remove(&stream->node);
    td_list_push_back(&stream->sim->graves, &stream->node);
}

static void end_with(struct sim_stream *stream, enum sim_side side, td_status_t status)
{
    struct sim_end *end = &stream->end[side];

    if (!end->open)
        return;
    end->open = false;
    ops_of(stream, side)->closed(stream, status);
    bury(stream);
}

static void client_closed(struct sim *sim, struct sim_event *event)
{
    struct sim_stream *stream = event->object;

    (void)sim;
    end_with(stream, SIM_CLIENT, event->status);
}

static void server_closed(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    end_with(event->object, SIM_SERVER, TD_PEER_LOST);
}

static void post_closed(struct sim_stream *stream, enum sim_side side, uint64_t at_ns,
                        td_status_t status)
{
    if (side == SIM_SERVER)
        post_to_end(stream, side, at_ns, "closed", server_closed);
    else
        post_to_end(stream, side, at_ns, "closed", client_closed)->status = status;
}

void sim_stream_close(struct sim_stream *stream, enum sim_side side, td_status_t status)
{
    struct sim_end *there = &stream->end[other(side)];

    if (!stream->end[side].open)
        return;
    stream->end[side].open = false;
    if (there->open && !stream->is_cut)
        post_closed(stream, other(side),
                    sim_arrival(stream->sim, stream->end[side].node, there->node, &there->last_ns),
                    status);
    bury(stream);
}

void sim_stream_break(struct sim_stream *stream)
{
    struct sim *sim = stream->sim;

    if (stream->is_cut)
        return;
    stream->is_cut = true;
    sim->report->figures.stream_breaks++;
    for (int side = SIM_CLIENT; side <= SIM_SERVER; side++)
        if (stream->end[side].open)
            post_closed(stream, (enum sim_side)side,
                        sim->now_ns + sim_between(&sim->network, 0, DETECT_NS_MAX), TD_PEER_LOST);
}

/* The dead end hears nothing; the other one soon. What was sent before may still arrive. */
void sim_streams_orphan(struct sim_node *node)
{
    struct sim *sim = node->sim;

    td_list_for_each(entry, &sim->streams)
    {
        struct sim_stream *stream = td_container_of(entry, struct sim_stream, node);

        for (int side = SIM_CLIENT; side <= SIM_SERVER; side++) {
            struct sim_end *end = &stream->end[side];
            struct sim_end *there = &stream->end[!side];

            if (end->node != node || !end->open)
                continue;
            end->open = false;
            if (there->open && !stream->is_cut)
                post_closed(stream, other((enum sim_side)side),
                            sim->now_ns + sim_between(&sim->network, 0, RESET_NS_MAX),
                            TD_PEER_LOST);
        }
        bury(stream);
    }
}

void sim_streams_free(struct sim *sim)
{
    td_list_for_each(entry, &sim->streams)
    {
        td_list_remove(entry);
        free(td_container_of(entry, struct sim_stream, node));
    }
    td_list_for_each(grave, &sim->graves)
    {
        td_list_remove(grave);
        free(td_container_of(grave, struct sim_stream, node));
    }
}

struct sim_stream *sim_stream_find(struct sim_node *client, enum sim_stream_kind kind,
                                   uint64_t number)
{
    td_list_for_each(entry, &client->sim->streams)
    {
        struct sim_stream *stream = td_container_of(entry, struct sim_stream, node);
        const struct sim_end *end = &stream->end[SIM_CLIENT];

        if (stream->kind == kind && end->node == client && end->life == client->life &&
            end->number == number && end->open)
            return stream;
    }
    return NULL;
}

/* --- the beginning --- */

static void stand(struct sim *sim, struct sim_event *event)
{
    struct sim_stream *stream = event->object;

    (void)sim;
    if (stream->end[SIM_CLIENT].open && !stream->is_cut &&
        ops_of(stream, SIM_CLIENT)->begin != NULL)
        (void)ops_of(stream, SIM_CLIENT)->begin(stream);
}

/* At the server's process, whatever incarnation of it runs by now. */
static void connect(struct sim *sim, struct sim_event *event)
{
    struct sim_stream *stream = event->object;
    struct sim_end *server = &stream->end[SIM_SERVER];
    struct sim_end *client = &stream->end[SIM_CLIENT];
    struct sim_node *node = event->node;
    td_status_t status = TD_PEER_LOST;

    if (!client->open || stream->is_cut)
        return;
    if (node->up) {
        server->node = node;
        server->life = node->life;
        status = ops_of(stream, SIM_SERVER)->begin(stream);
    }
    if (status != TD_OK) {
        post_closed(stream, SIM_CLIENT, sim->now_ns + sim_latency(sim), status);
        return;
    }
    server->open = true;
    post_to_end(stream, SIM_CLIENT, sim_arrival(sim, node, client->node, &client->last_ns),
                "opened", stand);
}

struct sim_stream *sim_stream_open(struct sim_node *client, enum sim_stream_kind kind,
                                   const char *target, void *object, uint64_t number)
{
    struct sim *sim = client->sim;
    struct sim_node *server = sim_node_named(sim, target);
    struct sim_stream *stream = sim_alloc(1, sizeof *stream);
    struct sim_event *event;

    stream->sim = sim;
    stream->id = ++sim->stream_count;
    stream->kind = kind;
    stream->target = server;
    stream->end[SIM_CLIENT] = (struct sim_end){
        .node = client, .life = client->life, .open = true, .object = object, .number = number};
    td_list_push_back(&sim->streams, &stream->node);
    if (server == NULL || sim_is_cut(sim, client, server)) {
        post_closed(stream, SIM_CLIENT, sim->now_ns + CONNECT_LOST_NS, TD_PEER_LOST);
        return stream;
    }
    event =
        sim_post(sim, server, SIM_LIFE_ANY,
                 sim_arrival(sim, client, server, &stream->end[SIM_SERVER].last_ns) - sim->now_ns,
                 name_of(stream), connect);
    event->object = stream;
    event->number = stream->id;
    return stream;
}

/* --- messages --- */

/* There is room again for the one who sent it. */
static void arrived(struct sim_stream *stream, enum sim_side from)
{
    struct sim_end *sender = &stream->end[from];

    if (sender->in_flight > 0)
        sender->in_flight--;
    if (!sender->blocked || !end_lives(sender))
        return;
    sender->blocked = false;
    sim_stream_ready(stream, from);
}

static void deliver(struct sim_stream *stream, enum sim_side to, const struct sim_event *event)
{
    if (stream->is_cut)
        return;
    if (stream->end[to].open)
        ops_of(stream, to)->receive(stream, event->bytes, event->length);
    arrived(stream, other(to));
}

static void deliver_to_client(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    deliver(event->object, SIM_CLIENT, event);
}

/* A stream that was opened and written to at once has its messages right behind the connect. */
static void deliver_to_server(struct sim *sim, struct sim_event *event)
{
    struct sim_stream *stream = event->object;

    (void)sim;
    if (end_lives(&stream->end[SIM_SERVER]))
        deliver(stream, SIM_SERVER, event);
}

void sim_stream_send(struct sim_stream *stream, enum sim_side from, uint8_t *bytes, size_t length)
{
    struct sim *sim = stream->sim;
    struct sim_end *there = &stream->end[other(from)];
    struct sim_event *event;

    if (stream->is_cut || stream->target == NULL || (from == SIM_SERVER && !there->open)) {
        free(bytes);
        return;
    }
    if (from == SIM_SERVER) {
        event = post_to_end(stream, SIM_CLIENT,
                            sim_arrival(sim, stream->end[from].node, there->node, &there->last_ns),
                            name_of(stream), deliver_to_client);
    } else {
        /* the server's end may not stand yet: the event finds it when it comes */
        event = sim_post(sim, stream->target, SIM_LIFE_ANY,
                         sim_arrival(sim, stream->end[from].node, stream->target, &there->last_ns) -
                             sim->now_ns,
                         name_of(stream), deliver_to_server);
        event->object = stream;
        event->number = stream->id;
    }
    event->bytes = bytes;
    event->length = length;
}

static void pump(struct sim *sim, struct sim_event *event)
{
    struct sim_stream *stream = event->object;
    enum sim_side side = stream->end[SIM_CLIENT].node == event->node ? SIM_CLIENT : SIM_SERVER;
    struct sim_end *end = &stream->end[side];
    uint32_t window = sim_has(sim, SIM_FAULT_PRESSURE) ? WINDOW_PRESSED : WINDOW;

    end->pumping = false;
    while (end->open && end->in_flight < window) {
        size_t length;
        uint8_t *bytes = ops_of(stream, side)->pull(stream, &length);

        if (bytes == NULL)
            return;
        end->in_flight++;
        sim_stream_send(stream, side, bytes, length);
    }
    end->blocked = true;
}

void sim_stream_ready(struct sim_stream *stream, enum sim_side side)
{
    struct sim_end *end = &stream->end[side];

    if (end->pumping || !end->open)
        return;
    end->pumping = true;
    post_to_end(stream, side, stream->sim->now_ns + sim_ring_latency(stream->sim), "pull", pump);
}
