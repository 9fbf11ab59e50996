/* scheduler.c: a scheduler's process, see scheduler.h. */
#include "sim/scheduler.h"

#include <stdlib.h>

#include "sim/codec.h"
#include "sim/network.h"

#define INDEX_BYTES ((size_t)1 << 20)

/* --- the environment of the core --- */

static void link_ready(void *impl, void *handle)
{
    (void)impl;
    sim_stream_ready(handle, SIM_SERVER);
}

static void link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    const struct sim_scheduler *scheduler = impl;

    sim_note(scheduler->node->sim, "%s closes a stream: %s", scheduler->node->name, reason);
    if (status != TD_TIMEOUT && status != TD_STALE)
        sim_fail(scheduler->node->sim, "protocol", "%s closes a stream: %s", scheduler->node->name,
                 reason);
    sim_stream_close(handle, SIM_SERVER, status);
}

void sim_scheduler_open(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_scheduler *scheduler = sim_alloc(1, sizeof *scheduler);
    struct sched_config config = sched_config_default();
    struct sched_env env = {.impl = scheduler,
                            .link_ready = link_ready,
                            .watcher_ready = link_ready,
                            .link_close = link_close};
    struct td_error error = {0};
    td_status_t status;

    config.epoch = sim_epoch(sim);
    sim_random(sim, &config.index_seed, sizeof config.index_seed);
    config.index_bytes_max = INDEX_BYTES;
    scheduler->node = node;
    status = sched_core_open(&config, &env, sim->now_ns, &scheduler->core, &error);
    assert(status == TD_OK);
    node->scheduler = scheduler;
}

void sim_scheduler_close(struct sim_node *node)
{
    sched_core_close(node->scheduler->core);
    free(node->scheduler);
    node->scheduler = NULL;
}

static void on_alarm(struct sim *sim, struct sim_event *event)
{
    if (!sim_alarm_rings(event))
        return;
    sched_core_run(event->node->scheduler->core, sim->now_ns);
}

void sim_scheduler_settle(struct sim_node *node)
{
    struct sched_stats stats = sched_core_stats(node->scheduler->core);

    if (stats.place_malformed > 0)
        sim_fail(node->sim, "protocol", "%s calls a Place malformed", node->name);
    sim_alarm_set(node, &node->scheduler->alarm, sched_core_next(node->scheduler->core),
                  "sched timer", on_alarm);
}

/* --- workers' streams --- */

static td_status_t announce_begin(struct sim_stream *stream)
{
    struct sim_end *end = &stream->end[SIM_SERVER];
    struct sched_link *link;
    td_status_t status = sched_link_open(end->node->scheduler->core, stream, TD__ROLE__ROLE_UNKNOWN,
                                         stream->sim->now_ns, &link);

    if (status == TD_OK)
        end->object = link;
    return status;
}

static uint8_t *announce_pull(struct sim_stream *stream, size_t *length_out)
{
    const Td__AnnounceOut *message = sched_link_next(stream->end[SIM_SERVER].object);

    return message != NULL ? sim_pack(message, length_out) : NULL;
}

static void announce_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    Td__AnnounceIn *message = sim_unpack(&td__announce_in__descriptor, bytes, length);

    sched_link_message(stream->end[SIM_SERVER].object, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void announce_closed(struct sim_stream *stream, td_status_t status)
{
    (void)status;
    sched_link_closed(stream->end[SIM_SERVER].object, stream->sim->now_ns);
}

const struct sim_end_ops sim_announce_scheduler = {.begin = announce_begin,
                                                   .pull = announce_pull,
                                                   .receive = announce_receive,
                                                   .closed = announce_closed};

/* --- routers' streams: the first message opens the watcher --- */

static td_status_t fleet_begin(struct sim_stream *stream)
{
    stream->end[SIM_SERVER].object = NULL;
    return TD_OK;
}

static void fleet_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    struct sim_end *end = &stream->end[SIM_SERVER];
    Td__FleetRequest *request = sim_unpack(&td__fleet_request__descriptor, bytes, length);
    struct sched_watcher *watcher;
    struct td_error error = {0};
    td_status_t status =
        sched_watcher_open(end->node->scheduler->core, stream, request, &watcher, &error);

    sim_message_free(request);
    if (status != TD_OK)
        sim_stream_close(stream, SIM_SERVER, status);
    else
        end->object = watcher;
}

static uint8_t *fleet_pull(struct sim_stream *stream, size_t *length_out)
{
    const Td__FleetUpdate *update = sched_watcher_next(stream->end[SIM_SERVER].object);

    return update != NULL ? sim_pack(update, length_out) : NULL;
}

static void fleet_closed(struct sim_stream *stream, td_status_t status)
{
    (void)status;
    if (stream->end[SIM_SERVER].object != NULL)
        sched_watcher_closed(stream->end[SIM_SERVER].object);
}

const struct sim_end_ops sim_fleet_scheduler = {
    .begin = fleet_begin, .pull = fleet_pull, .receive = fleet_receive, .closed = fleet_closed};

/* --- Place --- */

uint8_t *sim_place_serve(struct sim_node *server, const uint8_t *bytes, size_t length,
                         size_t *length_out)
{
    struct sim *sim = server->sim;
    Td__PlaceRequest *request = sim_unpack(&td__place_request__descriptor, bytes, length);
    struct sched_answer answer;
    uint8_t *reply;

    sched_core_place(server->scheduler->core, request, sim->now_ns, &answer);
    reply = sim_pack(&answer.reply, length_out);
    sim_message_free(request);
    return reply;
}
