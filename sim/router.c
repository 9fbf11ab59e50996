/* router.c: a router's process, see router.h. */
#include "sim/router.h"

#include <stdlib.h>

#include "proto/unpack.h"
#include "proto/version.h"
#include "sim/client.h"
#include "sim/codec.h"
#include "sim/network.h"

#define PICTURE_BYTES_MAX ((size_t)1 << 20)
#define FLEET_RETRY_NS    (200 * TD_NS_PER_MS)

/* --- the environment of the core --- */

static struct sim_node *node_of(void *impl)
{
    return ((struct sim_router *)impl)->node;
}

static void env_random(void *impl, void *out, size_t length)
{
    sim_random(node_of(impl)->sim, out, length);
}

static const char *scheduler_name(uint32_t number)
{
    static const char *const names[SIM_SCHEDULERS_MAX] = {"scheduler0", "scheduler1"};

    return names[number % SIM_SCHEDULERS_MAX];
}

static void env_place(void *impl, uint64_t number, const Td__PlaceRequest *request,
                      uint32_t deadline_ms)
{
    struct sim_router *router = impl;
    size_t length;
    uint8_t *bytes = sim_pack(request, &length);

    sim_call_start(router->node, SIM_PLACE,
                   scheduler_name(router->asked % router->node->sim->options.schedulers), number,
                   bytes, length, deadline_ms);
}

static void env_place_cancel(void *impl, uint64_t number)
{
    sim_call_cancel(node_of(impl), SIM_PLACE, number);
}

static void env_link_open(void *impl, uint64_t link, const char *target)
{
    sim_stream_open(node_of(impl), SIM_GENERATE, target, NULL, link);
}

static void env_link_close(void *impl, uint64_t link)
{
    struct sim_stream *stream = sim_stream_find(node_of(impl), SIM_GENERATE, link);

    if (stream != NULL)
        sim_stream_close(stream, SIM_CLIENT, TD_CANCELED);
}

static void env_link_ready(void *impl, uint64_t link)
{
    struct sim_stream *stream = sim_stream_find(node_of(impl), SIM_GENERATE, link);

    if (stream == NULL)
        sim_fail(node_of(impl)->sim, "environment", "%s has news for link %llu, which is closed",
                 node_of(impl)->name, (unsigned long long)link);
    else
        sim_stream_ready(stream, SIM_CLIENT);
}

static void env_tokens(void *impl, void *context, const uint32_t *tokens, uint32_t count)
{
    (void)impl;
    sim_client_tokens(context, tokens, count);
}

static void env_end(void *impl, void *context, const struct front_result *result)
{
    (void)impl;
    sim_client_end(context, result);
}

void sim_place_answered(struct sim_node *caller, uint64_t number, const uint8_t *bytes,
                        size_t length, td_status_t status)
{
    struct sim_router *router = caller->router;
    Td__PlaceReply *reply = NULL;

    (void)status;
    if (bytes != NULL)
        reply = sim_unpack(&td__place_reply__descriptor, bytes, length);
    else
        router->asked++; /* the next one may be there */
    router_core_on_placed(router->core, number, reply, caller->sim->now_ns);
    if (reply != NULL)
        sim_message_free(reply);
}

/* --- the fleet, as every scheduler sees it --- */

static void publish(struct sim_router *router);

static void on_fleet_alarm(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    if (!sim_alarm_rings(event))
        return;
    publish(event->node->router);
}

static void publish(struct sim_router *router)
{
    struct sim *sim = router->node->sim;

    router_core_on_fleet(router->core, router_fleet_merge(&router->fleet, sim->now_ns),
                         sim->now_ns);
    sim_alarm_set(router->node, &router->fleet_alarm, router_fleet_next(&router->fleet),
                  "fleet settles", on_fleet_alarm);
}

/* The number of the client's end is that of the scheduler. */
static void fleet_open(struct sim_router *router, uint64_t scheduler)
{
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;
    struct sim_stream *stream;
    size_t length;
    uint8_t *bytes;

    versions.min = TD_PROTOCOL_MIN;
    versions.max = TD_PROTOCOL_MAX;
    request.router_epoch = router->epoch;
    request.versions = &versions;
    bytes = sim_pack(&request, &length);
    stream = sim_stream_open(router->node, SIM_FLEET, scheduler_name((uint32_t)scheduler), NULL,
                             scheduler);
    sim_stream_send(stream, SIM_CLIENT, bytes, length);
}

static void fleet_again(struct sim *sim, struct sim_event *event)
{
    (void)sim;
    fleet_open(event->node->router, event->number);
}

static void fleet_closed(struct sim_stream *stream, td_status_t status)
{
    const struct sim_end *end = &stream->end[SIM_CLIENT];

    (void)status;
    router_fleet_lost(&end->node->router->fleet, end->number);
    publish(end->node->router);
    sim_post(stream->sim, end->node, end->life, FLEET_RETRY_NS, "fleet again", fleet_again)
        ->number = end->number;
}

static void fleet_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    const struct sim_end *end = &stream->end[SIM_CLIENT];
    struct sim_router *router = end->node->router;
    struct router_picture picture;

    td_arena_init(&picture.arena, PICTURE_BYTES_MAX);
    picture.update = proto_unpack(&picture.arena, &td__fleet_update__descriptor, bytes, length);
    assert(picture.update != NULL);
    router_fleet_take(&router->fleet, end->number, &picture, stream->sim->now_ns);
    publish(router);
}

const struct sim_end_ops sim_fleet_router = {.receive = fleet_receive, .closed = fleet_closed};

/* --- links to workers --- */

static td_status_t generate_begin(struct sim_stream *stream)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];

    router_core_on_link_open(end->node->router->core, end->number, stream->sim->now_ns);
    return TD_OK;
}

static uint8_t *generate_pull(struct sim_stream *stream, size_t *length_out)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];
    const Td__GenerateIn *message =
        router_link_next(end->node->router->core, end->number, stream->sim->now_ns);

    return message != NULL ? sim_pack(message, length_out) : NULL;
}

static void generate_receive(struct sim_stream *stream, const uint8_t *bytes, size_t length)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];
    Td__GenerateOut *message = sim_unpack(&td__generate_out__descriptor, bytes, length);

    router_core_on_link_message(end->node->router->core, end->number, message, stream->sim->now_ns);
    sim_message_free(message);
}

static void generate_closed(struct sim_stream *stream, td_status_t status)
{
    struct sim_end *end = &stream->end[SIM_CLIENT];

    router_core_on_link_closed(end->node->router->core, end->number, status, stream->sim->now_ns);
}

const struct sim_end_ops sim_generate_router = {.begin = generate_begin,
                                                .pull = generate_pull,
                                                .receive = generate_receive,
                                                .closed = generate_closed};

/* --- opening and closing --- */

void sim_router_open(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_router *router = sim_alloc(1, sizeof *router);
    struct router_config config = {.epoch = sim_epoch(sim),
                                   .limits = router_limits_default(),
                                   .env = {.impl = router,
                                           .random = env_random,
                                           .place = env_place,
                                           .place_cancel = env_place_cancel,
                                           .link_open = env_link_open,
                                           .link_close = env_link_close,
                                           .link_ready = env_link_ready,
                                           .tokens = env_tokens,
                                           .end = env_end}};
    td_status_t status;

    if (sim_has(sim, SIM_FAULT_PRESSURE)) {
        config.limits.queue_max = 10;
        config.limits.running_max = 8;
    }
    router->node = node;
    router->epoch = config.epoch;
    status = router_core_open(&config, &router->core);
    assert(status == TD_OK);
    node->router = router;
    router_fleet_init(&router->fleet, sim->options.schedulers);
    for (uint32_t i = 0; i < sim->options.schedulers; i++)
        fleet_open(router, i);
}

/* Its clients lose their connections with it. */
void sim_router_close(struct sim_node *node)
{
    const struct router_counters *counters = router_core_counters(node->router->core);

    node->sim->report->figures.retries += counters->retries;
    sim_clients_lose(node);
    router_core_close(node->router->core);
    router_fleet_fini(&node->router->fleet);
    free(node->router);
    node->router = NULL;
}

static void on_alarm(struct sim *sim, struct sim_event *event)
{
    if (!sim_alarm_rings(event))
        return;
    router_core_tick(event->node->router->core, sim->now_ns);
}

void sim_router_settle(struct sim_node *node)
{
    if (router_core_counters(node->router->core)->invalid_messages > 0)
        sim_fail(node->sim, "protocol", "%s got a message that it calls invalid", node->name);
    sim_alarm_set(node, &node->router->alarm, router_core_next_deadline(node->router->core),
                  "router timer", on_alarm);
}
