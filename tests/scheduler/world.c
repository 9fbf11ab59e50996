/* world.c: the other ends of a scheduler core's streams, see world.h. */
#include "tests/scheduler/world.h"

#include <stdio.h>
#include <string.h>

#include "proto/version.h"

static void on_link_ready(void *impl, void *handle)
{
    (void)impl;
    ((struct peer *)handle)->readies++;
}

static void on_watcher_ready(void *impl, void *handle)
{
    (void)impl;
    ((struct viewer *)handle)->readies++;
}

static void on_link_close(void *impl, void *handle, td_status_t status, const char *reason)
{
    struct peer *peer = handle;

    (void)impl;
    assert_non_null(peer->link);
    peer->link = NULL;
    peer->status = status;
    snprintf(peer->reason, sizeof peer->reason, "%s", reason);
}

void world_init(struct world *world)
{
    memset(world, 0, sizeof *world);
    world->config = sched_config_default();
    world->config.epoch = 0x5c4ed;
    world->config.index_seed = (struct td_u128){.hi = 11, .lo = 13};
    world->config.index_bytes_max = (size_t)1 << 20;
    world->now_ns = MS(5000000);
}

void world_open(struct world *world)
{
    const struct sched_env env = {.impl = world,
                                  .link_ready = on_link_ready,
                                  .watcher_ready = on_watcher_ready,
                                  .link_close = on_link_close};
    struct td_error error = {0};

    if (sched_core_open(&world->config, &env, world->now_ns, &world->core, &error) != TD_OK)
        fail_msg("%s", error.text);
}

void world_close(struct world *world)
{
    sched_core_close(world->core);
}

void world_pass(struct world *world, uint64_t ns)
{
    uint64_t end_ns = world->now_ns + ns;
    uint64_t next_ns;

    while ((next_ns = sched_core_next(world->core)) <= end_ns) {
        world->now_ns = next_ns > world->now_ns ? next_ns : world->now_ns;
        sched_core_run(world->core, world->now_ns);
    }
    world->now_ns = end_ns;
}

Td__Registration *world_registration(uint64_t epoch, Td__Role role, const char *target)
{
    static Td__Registration registration;
    static Td__Versions versions;
    static Td__ContentIdentity content;
    static Td__Geometry geometry;
    static char model[] = "smol";
    static char http[] = "127.0.0.1:8000";
    static char text[300];
    static char *models[1] = {model};

    td__registration__init(&registration);
    td__versions__init(&versions);
    td__content_identity__init(&content);
    td__geometry__init(&geometry);
    snprintf(text, sizeof text, "%s", target);
    versions.min = versions.max = TD_PROTOCOL_MAX;
    content.content_id_hi = 77;
    content.content_id_lo = 78;
    geometry.block_tokens = 16;
    registration.versions = &versions;
    registration.role = role;
    registration.epoch = epoch;
    registration.rpc_target = text;
    registration.http_address = http;
    registration.models = models;
    registration.n_models = 1;
    registration.content = &content;
    registration.geometry = &geometry;
    registration.text_id_hi = 5;
    registration.block_count = 1000;
    registration.max_context = 8192;
    registration.max_sequences = 8;
    registration.max_waiting = 8;
    return &registration;
}

void peer_open(struct world *world, struct peer *peer)
{
    memset(peer, 0, sizeof *peer);
    assert_int_equal(
        sched_link_open(world->core, peer, TD__ROLE__ROLE_UNKNOWN, world->now_ns, &peer->link),
        TD_OK);
}

static void send(struct world *world, struct peer *peer, const Td__AnnounceIn *message)
{
    assert_non_null(peer->link);
    sched_link_message(peer->link, message, world->now_ns);
}

void peer_register(struct world *world, struct peer *peer, Td__Registration *registration)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;

    message.kind_case = TD__ANNOUNCE_IN__KIND_REGISTRATION;
    message.registration = registration;
    send(world, peer, &message);
}

void peer_report(struct world *world, struct peer *peer, const Td__LoadReport *report)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__LoadReport copy = *report;

    message.kind_case = TD__ANNOUNCE_IN__KIND_LOAD;
    message.load = &copy;
    send(world, peer, &message);
}

void peer_ready(struct world *world, struct peer *peer, bool ready)
{
    Td__LoadReport report = TD__LOAD_REPORT__INIT;

    report.ready = ready;
    report.blocks_free = report.blocks_total = 1000;
    report.prefill_tokens_per_s = 1000;
    report.decode_step_us = 10000;
    peer_report(world, peer, &report);
}

void peer_drain(struct world *world, struct peer *peer)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__Draining draining = TD__DRAINING__INIT;

    message.kind_case = TD__ANNOUNCE_IN__KIND_DRAINING;
    message.draining = &draining;
    send(world, peer, &message);
}

struct td_u128 world_key(uint64_t number)
{
    return (struct td_u128){.hi = number * 0x2545f4914f6cdd1d, .lo = number + 1};
}

static size_t fill_pairs(uint64_t *pairs, uint64_t first_key, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        pairs[2 * i] = world_key(first_key + i).hi;
        pairs[2 * i + 1] = world_key(first_key + i).lo;
    }
    return 2 * count;
}

void peer_events(struct world *world, struct peer *peer, uint64_t sequence, uint64_t key)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    uint64_t pairs[2];

    events.sequence = sequence;
    events.stored = pairs;
    events.n_stored = fill_pairs(pairs, key, 1);
    message.kind_case = TD__ANNOUNCE_IN__KIND_EVENTS;
    message.events = &events;
    send(world, peer, &message);
}

void peer_snapshot(struct world *world, struct peer *peer, uint64_t sequence, uint64_t first_key,
                   size_t count)
{
    Td__AnnounceIn message = TD__ANNOUNCE_IN__INIT;
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;
    uint64_t pairs[512];

    assert_true(count <= 256);
    snapshot.sequence = sequence;
    snapshot.parts = 1;
    snapshot.stored = pairs;
    snapshot.n_stored = fill_pairs(pairs, first_key, count);
    message.kind_case = TD__ANNOUNCE_IN__KIND_SNAPSHOT;
    message.snapshot = &snapshot;
    send(world, peer, &message);
}

void peer_close(struct world *world, struct peer *peer)
{
    struct sched_link *link = peer->link;

    assert_non_null(link);
    peer->link = NULL;
    sched_link_closed(link, world->now_ns);
}

void peer_take(struct peer *peer)
{
    const Td__AnnounceOut *message;

    while (peer->link != NULL && (message = sched_link_next(peer->link)) != NULL) {
        peer->welcomes += message->kind_case == TD__ANNOUNCE_OUT__KIND_WELCOME;
        peer->asks += message->kind_case == TD__ANNOUNCE_OUT__KIND_SNAPSHOT_REQUEST;
    }
}

void peer_join(struct world *world, struct peer *peer, uint64_t epoch, Td__Role role,
               const char *target)
{
    peer_open(world, peer);
    peer_register(world, peer, world_registration(epoch, role, target));
    if (peer->link == NULL)
        fail_msg("not registered: %s", peer->reason);
    world_pass(world, 0);
    peer_take(peer);
    assert_int_equal(peer->welcomes, 1);
    assert_int_equal(peer->asks, 1);
    peer_snapshot(world, peer, 0, 0, 0);
    peer_ready(world, peer, true);
    assert_int_equal(world_state(world, epoch), SCHED_WORKER_READY);
}

uint8_t world_state(const struct world *world, uint64_t epoch)
{
    const struct sched_worker *worker = sched_fleet_find(sched_core_fleet(world->core), epoch);

    return worker != NULL ? worker->state : SCHED_WORKER_GONE;
}

void viewer_open(struct world *world, struct viewer *viewer)
{
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;

    memset(viewer, 0, sizeof *viewer);
    versions.min = versions.max = TD_PROTOCOL_MAX;
    request.versions = &versions;
    request.router_epoch = 99;
    assert_int_equal(sched_watcher_open(world->core, viewer, &request, &viewer->watcher, NULL),
                     TD_OK);
}

const Td__FleetUpdate *viewer_take(struct viewer *viewer)
{
    return sched_watcher_next(viewer->watcher);
}

void world_place(struct world *world, uint32_t tokens, uint64_t first_key, size_t keys,
                 struct sched_answer *answer_out)
{
    static char model[] = "smol";
    Td__PlaceRequest request;
    uint64_t pairs[512];

    assert_true(keys <= 256);
    td__place_request__init(&request);
    request.model = model;
    request.prompt_tokens = tokens;
    request.max_new_tokens = 64;
    request.keys = pairs;
    request.n_keys = fill_pairs(pairs, first_key, keys);
    request.request_hi = 1;
    request.request_lo = first_key;
    sched_core_place(world->core, &request, world->now_ns, answer_out);
}
