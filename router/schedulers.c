/* schedulers.c: see schedulers.h. */
#include "router/schedulers.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/map.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "proto/unpack.h"
#include "proto/version.h"

#define FLEET_PATH "/td.Scheduler/Fleet"
#define PLACE_PATH "/td.Scheduler/Place"

#define RETRY_FIRST_MS 100 /* a scheduler that is being restarted is back within a second */
#define RETRY_MAX_MS   2000
#define DISTRUST_MS    1000
#define PICTURE_BYTES_MAX \
    ((size_t)16 << 20) /* unpacked; 256 workers with 16 names come to 1.5 MiB */
#define REPLY_BYTES_MAX ((size_t)64 << 10)

struct scheduler {
    struct router_schedulers *all;
    size_t index;
    const char *target;
    struct rpc_channel *channel;
    struct rpc_call *fleet;
    struct net_timer retry;
    uint32_t retry_ms;
    bool connected;
    bool missed;            /* it has been logged that it cannot be reached */
    uint64_t distrusted_ns; /* not asked for places before this, if another one can be */
};

struct place {
    struct router_schedulers *all;
    struct td_list node; /* hopeless */
    uint64_t number;
    uint64_t deadline_ns;
    unsigned tried; /* bits of schedulers */
    struct scheduler *asked;
    struct rpc_unary *unary;
    uint8_t *packed; /* the request, kept while there is somebody else to ask */
    size_t packed_bytes;
};

struct router_schedulers {
    struct router_schedulers_config config;
    struct router_fleet fleet;
    struct net_timer settle;
    struct scheduler schedulers[ROUTER_SCHEDULERS_MAX];
    size_t count;
    struct td_map places;
    struct td_list hopeless; /* to be answered with NULL at the end of the turn */
    struct net_defer give_up;
    struct td_rng rng;
    struct router_schedulers_counters counters;
};

/* --- the fleet --- */

static void publish(struct router_schedulers *all)
{
    uint64_t now_ns = td_now_ns();

    all->config.on_fleet(all->config.ctx, router_fleet_merge(&all->fleet, now_ns));
    net_timer_set(&all->settle, router_fleet_next(&all->fleet));
}

static void on_settle(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    publish(td_container_of(timer, struct router_schedulers, settle));
}

static void on_fleet_message(void *ctx, struct rpc_call *call, const uint8_t *bytes, size_t length)
{
    struct scheduler *scheduler = ctx;
    struct router_schedulers *all = scheduler->all;
    struct router_picture picture;

    td_arena_init(&picture.arena, PICTURE_BYTES_MAX);
    picture.update = proto_unpack(&picture.arena, &td__fleet_update__descriptor, bytes, length);
    if (picture.update == NULL) {
        all->counters.scheduler_messages_invalid++;
        td_log(TD_LOG_WARN, "schedulers", "a picture of the fleet cannot be read scheduler %s",
               scheduler->target);
        td_arena_fini(&picture.arena);
        return;
    }
    if (!scheduler->connected)
        td_log(TD_LOG_INFO, "schedulers", "connected scheduler %s address %s workers %zu",
               scheduler->target, rpc_call_peer_name(call), picture.update->n_workers);
    scheduler->connected = true;
    scheduler->missed = false;
    scheduler->retry_ms = RETRY_FIRST_MS;
    all->counters.fleet_pictures++;
    router_fleet_take(&all->fleet, scheduler->index, &picture, td_now_ns());
    publish(all);
}

/* Up to a quarter is left off, so that routers do not come back in step. */
static void retry_later(struct scheduler *scheduler)
{
    uint32_t wait_ms = scheduler->retry_ms;

    wait_ms -= (uint32_t)td_rng_below(&scheduler->all->rng, wait_ms / 4 + 1);
    net_timer_set_in(&scheduler->retry, wait_ms);
    scheduler->retry_ms =
        scheduler->retry_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : scheduler->retry_ms * 2;
}

static void on_fleet_close(void *ctx, struct rpc_call *call, td_status_t status, const char *detail)
{
    struct scheduler *scheduler = ctx;
    struct router_schedulers *all = scheduler->all;

    (void)call;
    scheduler->fleet = NULL;
    if (scheduler->connected) {
        all->counters.schedulers_lost++;
        td_log(TD_LOG_WARN, "schedulers", "lost scheduler %s: %s (%s)", scheduler->target,
               td_status_text(status), detail);
    } else if (!scheduler->missed) {
        td_log(TD_LOG_WARN, "schedulers", "cannot reach scheduler %s: %s (%s); trying on",
               scheduler->target, td_status_text(status), detail);
    }
    scheduler->missed = true;
    retry_later(scheduler);
    if (!scheduler->connected)
        return;
    scheduler->connected = false;
    router_fleet_lost(&all->fleet, scheduler->index);
    publish(all);
}

static void watch_fleet(struct scheduler *scheduler)
{
    static const struct rpc_handlers handlers = {.on_message = on_fleet_message,
                                                 .on_close = on_fleet_close};
    const struct rpc_call_options options = {
        .path = FLEET_PATH, .handlers = &handlers, .ctx = scheduler};
    Td__FleetRequest request = TD__FLEET_REQUEST__INIT;
    Td__Versions versions = TD__VERSIONS__INIT;

    if (rpc_channel_call(scheduler->channel, &options, &scheduler->fleet) != TD_OK) {
        retry_later(scheduler);
        return;
    }
    versions.min = TD_PROTOCOL_MIN;
    versions.max = TD_PROTOCOL_MAX;
    request.versions = &versions;
    request.router_epoch = scheduler->all->config.router_epoch;
    if (rpc_call_send(scheduler->fleet, &request.base) != TD_OK)
        assert(false && "a new call takes its first message");
    rpc_call_send_close(scheduler->fleet);
}

static void on_retry(struct net_timer *timer, uint64_t now_ns)
{
    (void)now_ns;
    watch_fleet(td_container_of(timer, struct scheduler, retry));
}

/* --- places --- */

static void place_free(struct place *place)
{
    td_map_remove(&place->all->places, td_u128_from_u64(place->number));
    td_list_remove(&place->node);
    if (place->unary != NULL)
        rpc_unary_cancel(place->unary);
    free(place->packed);
    free(place);
}

static void answer(struct place *place, const Td__PlaceReply *reply)
{
    struct router_schedulers *all = place->all;
    uint64_t number = place->number;

    place_free(place);
    all->config.on_placed(all->config.ctx, number, reply);
}

static void on_give_up(struct net_defer *defer)
{
    struct router_schedulers *all = td_container_of(defer, struct router_schedulers, give_up);
    struct td_list *node;

    while ((node = td_list_first(&all->hopeless)) != NULL)
        answer(td_container_of(node, struct place, node), NULL);
}

/* The first that may be asked: connected, not tried, and trusted. */
static struct scheduler *choose(struct router_schedulers *all, unsigned tried, uint64_t now_ns)
{
    for (size_t i = 0; i < all->count; i++)
        if (all->schedulers[i].connected && (tried >> i & 1) == 0 &&
            all->schedulers[i].distrusted_ns <= now_ns)
            return &all->schedulers[i];
    return NULL;
}

static void ask(struct place *place, const Td__PlaceRequest *request);

/* Asks the next scheduler, or gives up at the end of the turn. */
static void ask_next(struct place *place)
{
    struct td_arena arena;
    Td__PlaceRequest *request = NULL;

    td_arena_init(&arena, 2 * RPC_MESSAGE_BYTES_MAX);
    if (place->packed != NULL)
        request = proto_unpack(&arena, &td__place_request__descriptor, place->packed,
                               place->packed_bytes);
    if (request != NULL) {
        ask(place, request);
    } else {
        td_list_push_back(&place->all->hopeless, &place->node);
        net_defer_post(place->all->config.loop, &place->all->give_up);
    }
    td_arena_fini(&arena);
}

/* One that refuses this request may well place the next; one that breaks or hangs does not. */
static void failed(struct place *place, td_status_t status, const char *detail)
{
    struct scheduler *scheduler = place->asked;

    place->all->counters.places_failed++;
    if (status != TD_INVALID && status != TD_LIMIT)
        scheduler->distrusted_ns = td_now_ns() + DISTRUST_MS * TD_NS_PER_MS;
    td_log(TD_LOG_WARN, "schedulers", "no place from scheduler %s: %s (%s)", scheduler->target,
           td_status_text(status), detail);
    ask_next(place);
}

static void on_reply(void *ctx, td_status_t status, const char *detail, const uint8_t *bytes,
                     size_t length)
{
    struct place *place = ctx;
    struct td_arena arena;
    Td__PlaceReply *reply;

    place->unary = NULL;
    if (status != TD_OK) {
        failed(place, status, detail);
        return;
    }
    td_arena_init(&arena, REPLY_BYTES_MAX);
    reply = proto_unpack(&arena, &td__place_reply__descriptor, bytes, length);
    if (reply != NULL) {
        answer(place, reply);
    } else {
        place->all->counters.scheduler_messages_invalid++;
        failed(place, TD_CORRUPT, "the reply cannot be read");
    }
    td_arena_fini(&arena);
}

static void ask(struct place *place, const Td__PlaceRequest *request)
{
    struct router_schedulers *all = place->all;
    uint64_t now_ns = td_now_ns();
    struct scheduler *scheduler = choose(all, place->tried, now_ns);
    struct rpc_unary_options options = {
        .path = PLACE_PATH, .request = &request->base, .fn = on_reply, .ctx = place};
    uint64_t left_ms =
        place->deadline_ns > now_ns ? (place->deadline_ns - now_ns) / TD_NS_PER_MS : 0;

    if (scheduler != NULL && left_ms > 1) {
        /* half of what is left, so that the answer is ours to give before the asker loses patience */
        options.deadline_ms = (uint32_t)(left_ms / 2);
        place->tried |= 1u << scheduler->index;
        place->asked = scheduler;
        all->counters.places_asked++;
        if (rpc_unary_start(scheduler->channel, &options, &place->unary) == TD_OK)
            return;
    }
    td_list_push_back(&all->hopeless, &place->node);
    net_defer_post(all->config.loop, &all->give_up);
}

/* Keeps the request for a second try, if there is anybody to try. */
static void keep(struct place *place, const Td__PlaceRequest *request)
{
    if (router_schedulers_connected(place->all) < 2)
        return;
    place->packed_bytes = td__place_request__get_packed_size(request);
    place->packed = malloc(place->packed_bytes);
    if (place->packed != NULL)
        td__place_request__pack(request, place->packed);
}

void router_schedulers_place(struct router_schedulers *all, uint64_t number,
                             const Td__PlaceRequest *request, uint32_t deadline_ms)
{
    struct place *place = calloc(1, sizeof *place);

    /* without memory nothing is promised but an answer, and the asker's own deadline gives that */
    if (place == NULL)
        return;
    place->all = all;
    place->number = number;
    place->deadline_ns = td_now_ns() + deadline_ms * TD_NS_PER_MS;
    td_list_init(&place->node);
    if (td_map_insert(&all->places, td_u128_from_u64(number), place) != TD_OK) {
        free(place);
        return;
    }
    keep(place, request);
    ask(place, request);
}

void router_schedulers_place_cancel(struct router_schedulers *all, uint64_t number)
{
    struct place *place = td_map_find(&all->places, td_u128_from_u64(number));

    if (place != NULL)
        place_free(place);
}

/* --- open and close --- */

static td_status_t scheduler_open(struct router_schedulers *all, const char *target)
{
    struct scheduler *scheduler = &all->schedulers[all->count];
    const struct rpc_channel_config config = {.target = target,
                                              .expected_roles = NET_ROLE_BIT(NET_ROLE_SCHEDULER)};
    td_status_t status = rpc_channel_open(all->config.rpc, &config, &scheduler->channel);

    if (status != TD_OK)
        return status;
    scheduler->all = all;
    scheduler->index = all->count++;
    scheduler->target = target;
    scheduler->retry_ms = RETRY_FIRST_MS;
    net_timer_init(&scheduler->retry, all->config.loop, on_retry);
    watch_fleet(scheduler);
    return TD_OK;
}

td_status_t router_schedulers_open(const struct router_schedulers_config *config,
                                   struct router_schedulers **schedulers_out,
                                   struct td_error *error)
{
    struct router_schedulers *all;

    if (config->target_count == 0 || config->target_count > ROUTER_SCHEDULERS_MAX)
        return td_fail(error, TD_INVALID, "name one to %d schedulers, not %zu",
                       ROUTER_SCHEDULERS_MAX, config->target_count);
    all = calloc(1, sizeof *all);
    if (all == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for the streams to schedulers");
    all->config = *config;
    td_rng_init(&all->rng, td_random_u64());
    router_fleet_init(&all->fleet, config->target_count);
    net_timer_init(&all->settle, config->loop, on_settle);
    td_map_init(&all->places, config->places_max);
    td_list_init(&all->hopeless);
    net_defer_init(&all->give_up, on_give_up);
    for (size_t i = 0; i < config->target_count; i++) {
        td_status_t status = scheduler_open(all, config->targets[i]);

        if (status != TD_OK) {
            router_schedulers_close(all);
            return td_fail(error, status, "no channel to scheduler %s", config->targets[i]);
        }
    }
    *schedulers_out = all;
    return TD_OK;
}

void router_schedulers_close(struct router_schedulers *all)
{
    struct place *place;
    size_t cursor = 0;

    if (all == NULL)
        return;
    while ((place = td_map_next(&all->places, &cursor)) != NULL) {
        place_free(place); /* which changes the map: from the start again */
        cursor = 0;
    }
    for (size_t i = 0; i < all->count; i++) {
        struct scheduler *scheduler = &all->schedulers[i];

        net_timer_cancel(&scheduler->retry);
        if (scheduler->fleet != NULL)
            rpc_call_cancel(scheduler->fleet);
        rpc_channel_close(scheduler->channel);
    }
    net_timer_cancel(&all->settle);
    net_defer_cancel(&all->give_up);
    router_fleet_fini(&all->fleet);
    td_map_fini(&all->places);
    free(all);
}

uint32_t router_schedulers_connected(const struct router_schedulers *all)
{
    uint32_t connected = 0;

    for (size_t i = 0; i < all->count; i++)
        connected += all->schedulers[i].connected ? 1 : 0;
    return connected;
}

const struct router_schedulers_counters *router_schedulers_counters(
    const struct router_schedulers *all)
{
    return &all->counters;
}
