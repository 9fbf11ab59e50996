/*
 * fuzz_router.c: arbitrary fleets, places, links and times into the router core.
 *
 * The input is a list of steps: what (1 byte), which (1 byte), length (2 bytes), then that many bytes,
 * which are a protobuf message or parameters. Whatever happened, every client hears of exactly one end, and
 * when all clients have gone the core is idle after a while.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"
#include "lib/base/list.h"
#include "lib/base/log.h"
#include "lib/base/time.h"
#include "proto/unpack.h"
#include "proto/version.h"
#include "router/core.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define STEPS_MAX    400
#define CLIENTS      32
#define LINKS        16
#define STARTS       16
#define UNPACKED_MAX ((size_t)1 << 20)

/* What ends in _RAW takes a message as it comes; the others make sound ones, so that the rest is reached
 * without luck. */
enum step {
    FLEET,
    FLEET_RAW,
    START,
    STOP,
    ABANDON,
    PLACED,
    PLACED_RAW,
    OPENED,
    CLOSED,
    GREET,
    TOKENS,
    FINISH,
    LINK_RAW,
    PULL,
    PASS,
    FAIL_ALL,
    STEP_COUNT
};

struct client {
    struct rig *rig;
    struct router_journey *journey;
    uint32_t tokens;
    bool used;
    bool ended;
    bool stops;  /* at its first tokens, from inside */
    bool leaves; /* likewise */
};

struct link {
    uint64_t number; /* 0: none */
    uint64_t epoch;  /* from Hello */
};

struct seen_start {
    struct td_u128 id;
    uint32_t index; /* the next of its answer */
};

struct rig {
    struct router_core *core;
    uint64_t now_ns;
    uint64_t random;
    struct client clients[CLIENTS];
    uint64_t place; /* the last that was asked and not answered or canceled */
    struct link links[LINKS];
    struct seen_start starts[STARTS];
    uint32_t start_count;
};

/* --- the core's environment --- */

static void on_random(void *impl, void *out, size_t length)
{
    struct rig *rig = impl;

    for (size_t i = 0; i < length; i++) {
        rig->random = rig->random * UINT64_C(6364136223846793005) + 1442695040888963407u;
        ((uint8_t *)out)[i] = (uint8_t)(rig->random >> 56);
    }
}

static void on_place(void *impl, uint64_t number, const Td__PlaceRequest *request, uint32_t ms)
{
    struct rig *rig = impl;

    assert(ms > 0 && request->n_keys % 2 == 0 && request->n_exclude <= ROUTER_TRIES_MAX);
    rig->place = number;
}

static void on_place_cancel(void *impl, uint64_t number)
{
    struct rig *rig = impl;

    if (rig->place == number)
        rig->place = 0;
}

static void on_link_open(void *impl, uint64_t number, const char *target)
{
    struct rig *rig = impl;

    assert(target[0] != '\0');
    for (int i = 0; i < LINKS; i++) {
        assert(rig->links[i].number != number);
        if (rig->links[i].number == 0) {
            rig->links[i] = (struct link){.number = number};
            return;
        }
    }
}

static void on_link_close(void *impl, uint64_t number)
{
    struct rig *rig = impl;

    for (int i = 0; i < LINKS; i++)
        if (rig->links[i].number == number)
            rig->links[i].number = 0;
}

static void on_link_ready(void *impl, uint64_t number)
{
    (void)impl;
    assert(number != 0);
}

static void on_tokens(void *impl, void *context, const uint32_t *tokens, uint32_t count)
{
    struct client *client = context;
    struct rig *rig = impl;

    assert(client->journey != NULL && !client->ended && count > 0 && tokens != NULL);
    client->tokens += count;
    if (client->leaves) {
        router_journey_abandon(client->journey, rig->now_ns);
        client->journey = NULL;
    } else if (client->stops) {
        router_journey_stop(client->journey, rig->now_ns);
        client->stops = false;
    }
}

static void on_end(void *impl, void *context, const struct front_result *result)
{
    struct client *client = context;

    (void)impl;
    assert(client->journey != NULL && !client->ended);
    assert(result->finish >= FRONT_STOP && result->finish <= FRONT_FAILED);
    client->ended = true;
    client->journey = NULL;
}

/* --- sound messages --- */

static void give_fleet(struct rig *rig, struct td_reader reader)
{
    Td__FleetUpdate update = TD__FLEET_UPDATE__INIT;
    Td__FleetWorker workers[4];
    Td__FleetWorker *pointers[4];
    char targets[4][2];
    char model[] = "m";
    char *models[] = {model};
    uint8_t there = td_read_u8(&reader);
    uint8_t ready = td_read_u8(&reader);
    uint8_t epochs = td_read_u8(&reader);

    update.workers = pointers;
    for (uint8_t i = 0; i < 4; i++) {
        Td__FleetWorker *worker = &workers[update.n_workers];

        if ((there >> i & 1) == 0)
            continue;
        td__fleet_worker__init(worker);
        targets[i][0] = (char)('a' + i);
        targets[i][1] = '\0';
        worker->epoch = 1 + i + 4 * (uint64_t)(epochs >> 2 * i & 3);
        worker->role = i == 0 ? TD__ROLE__ROLE_PREFILL : TD__ROLE__ROLE_DECODE;
        worker->rpc_target = targets[i];
        worker->models = models;
        worker->n_models = 1;
        worker->block_tokens = 16;
        worker->max_sequences = 2;
        worker->max_waiting = 1;
        worker->ready = ready >> i & 1;
        worker->draining = ready >> (4 + i) & 1;
        pointers[update.n_workers++] = worker;
    }
    router_core_on_fleet(rig->core, &update, rig->now_ns);
}

static void give_start(struct rig *rig, struct client *client, struct td_reader reader)
{
    uint8_t kind = td_read_u8(&reader);
    struct router_start start = {.model = kind & 4 ? "other" : "m",
                                 .token_count = 1 + td_read_u16(&reader),
                                 .max_new_tokens = 8,
                                 .remaining_ms = td_read_u8(&reader) * 100u};
    uint32_t retry_after_ms;

    if (client->used)
        return;
    start.tokens = calloc(start.token_count, sizeof *start.tokens);
    if (start.tokens == NULL)
        abort();
    *client =
        (struct client){.rig = rig, .used = true, .stops = kind & 1, .leaves = (kind & 2) != 0};
    if (router_journey_start(rig->core, &start, client, rig->now_ns, &client->journey,
                             &retry_after_ms) != TD_OK)
        client->ended = true;
    free(start.tokens);
}

static void give_placed(struct rig *rig, struct td_reader reader)
{
    uint64_t number = rig->place;
    Td__PlaceReply reply;
    uint8_t kind = td_read_u8(&reader);

    if (number == 0)
        return;
    rig->place = 0;
    td__place_reply__init(&reply);
    reply.worker_epoch = kind % 20;
    reply.code = td_read_u8(&reader);
    reply.retry_after_ms = td_read_u8(&reader);
    router_core_on_placed(rig->core, number, kind & 128 ? NULL : &reply, rig->now_ns);
}

static void give_update(struct rig *rig, const struct link *link, struct td_reader reader,
                        bool is_end)
{
    Td__GenerateOut out = TD__GENERATE_OUT__INIT;
    Td__StepUpdates updates = TD__STEP_UPDATES__INIT;
    Td__Update update;
    Td__Update *pointer = &update;
    uint32_t tokens[4] = {1, 2, 3, 4};
    struct seen_start *start = &rig->starts[td_read_u8(&reader) % STARTS];
    uint8_t kind = td_read_u8(&reader);

    if (link->number == 0)
        return;
    td__update__init(&update);
    update.request_hi = start->id.hi;
    update.request_lo = start->id.lo;
    update.index = start->index - (kind >> 4 < start->index ? kind >> 4 : 0);
    if (is_end) {
        update.finish = kind % 7;
        update.code = td_read_u8(&reader);
        update.completion_tokens = start->index;
    } else {
        update.tokens = tokens;
        update.n_tokens = kind & 3;
        start->index = update.index + (kind & 3);
    }
    updates.updates = &pointer;
    updates.n_updates = 1;
    out.kind_case = TD__GENERATE_OUT__KIND_UPDATES;
    out.updates = &updates;
    router_core_on_link_message(rig->core, link->number, &out, rig->now_ns);
}

static void greet(struct rig *rig, const struct link *link, struct td_reader reader)
{
    Td__GenerateOut out = TD__GENERATE_OUT__INIT;
    Td__HelloBack hello = TD__HELLO_BACK__INIT;

    if (link->number == 0)
        return;
    hello.version = TD_PROTOCOL_MAX;
    hello.worker_epoch = link->epoch + (td_read_u8(&reader) == 255);
    out.kind_case = TD__GENERATE_OUT__KIND_HELLO;
    out.hello = &hello;
    router_core_on_link_message(rig->core, link->number, &out, rig->now_ns);
}

static void pull(struct rig *rig, struct link *link)
{
    const Td__GenerateIn *message;

    while (link->number != 0 &&
           (message = router_link_next(rig->core, link->number, rig->now_ns)) != NULL) {
        assert(td__generate_in__get_packed_size(message) <= 64 << 10);
        if (message->kind_case == TD__GENERATE_IN__KIND_HELLO)
            link->epoch = message->hello->worker_epoch;
        if (message->kind_case == TD__GENERATE_IN__KIND_START)
            rig->starts[rig->start_count++ % STARTS] =
                (struct seen_start){.id = {message->start->request_hi, message->start->request_lo}};
    }
}

/* --- messages as they come --- */

static void give_raw(struct rig *rig, enum step step, const struct link *link, const uint8_t *bytes,
                     size_t length)
{
    const ProtobufCMessageDescriptor *type = step == FLEET_RAW    ? &td__fleet_update__descriptor
                                             : step == PLACED_RAW ? &td__place_reply__descriptor
                                                                  : &td__generate_out__descriptor;
    struct td_arena arena;
    void *message;

    td_arena_init(&arena, UNPACKED_MAX);
    message = proto_unpack(&arena, type, bytes, length);
    if (message != NULL && step == FLEET_RAW)
        router_core_on_fleet(rig->core, message, rig->now_ns);
    if (message != NULL && step == PLACED_RAW && rig->place != 0) {
        uint64_t number = rig->place;

        rig->place = 0;
        router_core_on_placed(rig->core, number, message, rig->now_ns);
    }
    if (message != NULL && step == LINK_RAW && link->number != 0)
        router_core_on_link_message(rig->core, link->number, message, rig->now_ns);
    td_arena_fini(&arena);
}

/* --- time and ends --- */

static void pass(struct rig *rig, uint64_t ns)
{
    uint64_t end_ns = rig->now_ns + ns;
    uint64_t next_ns;

    while ((next_ns = router_core_next_deadline(rig->core)) <= end_ns) {
        rig->now_ns = next_ns > rig->now_ns ? next_ns : rig->now_ns;
        router_core_tick(rig->core, rig->now_ns);
    }
    rig->now_ns = end_ns;
}

static void close_link(struct rig *rig, struct link *link, struct td_reader reader)
{
    uint64_t number = link->number;

    if (number == 0)
        return;
    link->number = 0;
    router_core_on_link_closed(rig->core, number,
                               td_read_u8(&reader) == 0 ? TD_STALE : TD_PEER_LOST, rig->now_ns);
}

static void leave(struct rig *rig, struct client *client)
{
    if (client->journey != NULL)
        router_journey_abandon(client->journey, rig->now_ns);
    client->journey = NULL;
}

static void take_step(struct rig *rig, enum step step, uint8_t which, const uint8_t *bytes,
                      size_t length)
{
    struct td_reader reader = td_reader_over(bytes, length);
    struct client *client = &rig->clients[which % CLIENTS];
    struct link *link = &rig->links[which % LINKS];

    switch (step) {
    case FLEET: give_fleet(rig, reader); break;
    case START: give_start(rig, client, reader); break;
    case STOP:
        if (client->journey != NULL && client->tokens > 0)
            router_journey_stop(client->journey, rig->now_ns);
        break;
    case ABANDON: leave(rig, client); break;
    case PLACED: give_placed(rig, reader); break;
    case OPENED:
        if (link->number != 0)
            router_core_on_link_open(rig->core, link->number, rig->now_ns);
        break;
    case CLOSED: close_link(rig, link, reader); break;
    case GREET: greet(rig, link, reader); break;
    case TOKENS: give_update(rig, link, reader, false); break;
    case FINISH: give_update(rig, link, reader, true); break;
    case FLEET_RAW:
    case PLACED_RAW:
    case LINK_RAW: give_raw(rig, step, link, bytes, length); break;
    case PULL: pull(rig, link); break;
    case PASS: pass(rig, td_read_u16(&reader) * TD_NS_PER_MS); break;
    case FAIL_ALL: router_core_fail_all(rig->core, "the end", rig->now_ns); break;
    default: abort();
    }
}

static void check(const struct rig *rig, const struct router_limits *limits)
{
    struct router_gauges gauges;

    router_core_gauges(rig->core, &gauges);
    /* what ran and has to begin anew comes back into the queue, full or not */
    assert(gauges.running <= limits->running_max);
    assert(gauges.queued + gauges.running <= limits->queue_max + limits->running_max);
    assert(gauges.workers <= ROUTER_WORKERS_MAX && gauges.workers_ready <= gauges.workers);
}

static void rig_open(struct rig *rig, const struct router_limits *limits)
{
    const struct router_config config = {.epoch = 1,
                                         .limits = *limits,
                                         .env = {.impl = rig,
                                                 .random = on_random,
                                                 .place = on_place,
                                                 .place_cancel = on_place_cancel,
                                                 .link_open = on_link_open,
                                                 .link_close = on_link_close,
                                                 .link_ready = on_link_ready,
                                                 .tokens = on_tokens,
                                                 .end = on_end}};

    memset(rig, 0, sizeof *rig);
    rig->now_ns = TD_NS_PER_SEC;
    if (router_core_open(&config, &rig->core) != TD_OK)
        abort();
}

/* All clients go; whatever workers say or do not say, nothing is left after a while. */
static void rig_close(struct rig *rig)
{
    struct router_gauges gauges;

    for (int i = 0; i < CLIENTS; i++)
        leave(rig, &rig->clients[i]);
    pass(rig, 10 * TD_NS_PER_SEC);
    router_core_gauges(rig->core, &gauges);
    assert(router_core_idle(rig->core) && gauges.queued == 0 && gauges.running == 0);
    router_core_close(rig->core);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct rig rig;
    struct router_limits limits = router_limits_default();
    struct td_reader reader = td_reader_over(data, size);

    td_log_set_level(TD_LOG_ERROR);
    limits.queue_max = 8;
    limits.running_max = 6;
    rig_open(&rig, &limits);
    for (int i = 0; i < STEPS_MAX && td_reader_left(&reader) >= 4; i++) {
        enum step step = td_read_u8(&reader) % STEP_COUNT;
        uint8_t which = td_read_u8(&reader);
        size_t length = td_read_u16(&reader);
        const uint8_t *bytes;

        if (length > td_reader_left(&reader))
            length = td_reader_left(&reader);
        bytes = td_read_bytes(&reader, length);
        take_step(&rig, step, which, bytes, length);
        check(&rig, &limits);
    }
    rig_close(&rig);
    return 0;
}
