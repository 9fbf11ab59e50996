/*
 * test_feed_random.c: a worker, a feed, and a channel between them that drops, repeats, reorders and breaks: whatever it
 * did, after a quiet time the index is the truth.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/random.h"
#include "tests/scheduler/feed_rig.h"

#define TRUTH_KEYS   300
#define CHANNEL_MAX  4096
#define MESSAGE_KEYS 64

enum kind { EVENTS, PART, REPORT };

struct message {
    enum kind kind;
    uint64_t sequence;
    uint32_t part;
    uint32_t parts;
    uint64_t stored[MESSAGE_KEYS];
    size_t stored_count;
    uint64_t removed[MESSAGE_KEYS];
    size_t removed_count;
    struct td_u128 digest;
};

/* A worker with a cache, a scheduler's feed for it, and a channel between them. */
struct world {
    struct rig rig;
    struct td_rng rng;
    bool cached[TRUTH_KEYS];
    uint64_t sequence;
    struct message *channel[CHANNEL_MAX];
    size_t channel_count;
    uint32_t fault_percent;
};

static void channel_push(struct world *world, struct message message)
{
    struct message *copy = malloc(sizeof *copy);

    assert_non_null(copy);
    *copy = message;
    assert_true(world->channel_count < CHANNEL_MAX);
    world->channel[world->channel_count++] = copy;
}

static void channel_clear(struct world *world)
{
    while (world->channel_count > 0)
        free(world->channel[--world->channel_count]);
}

static void send(struct world *world, struct message message)
{
    bool faulty = td_rng_below(&world->rng, 100) < world->fault_percent;
    uint64_t die = td_rng_below(&world->rng, 3);

    if (faulty && die == 0)
        return; /* dropped */
    channel_push(world, message);
    if (faulty && die == 1)
        channel_push(world, message);                     /* repeated */
    if (faulty && die == 2 && world->channel_count > 1) { /* reordered */
        size_t with = td_rng_below(&world->rng, world->channel_count);
        struct message *other = world->channel[with];

        world->channel[with] = world->channel[world->channel_count - 1];
        world->channel[world->channel_count - 1] = other;
    }
}

static void worker_changes(struct world *world)
{
    struct message message = {.kind = EVENTS, .sequence = ++world->sequence};

    for (uint64_t n = td_rng_below(&world->rng, 8); n > 0; n--) {
        uint64_t key = td_rng_below(&world->rng, TRUTH_KEYS);
        bool mentioned = false;

        for (size_t i = 0; i < message.stored_count; i++)
            mentioned = mentioned || message.stored[i] == key;
        for (size_t i = 0; i < message.removed_count; i++)
            mentioned = mentioned || message.removed[i] == key;
        if (mentioned)
            continue;
        if (world->cached[key])
            message.removed[message.removed_count++] = key;
        else
            message.stored[message.stored_count++] = key;
        world->cached[key] = !world->cached[key];
    }
    send(world, message);
}

static struct td_u128 worker_digest(const struct world *world)
{
    struct td_u128 digest = {0};

    for (uint64_t k = 0; k < TRUTH_KEYS; k++) {
        digest.hi ^= world->cached[k] ? rig_key(k).hi : 0;
        digest.lo ^= world->cached[k] ? rig_key(k).lo : 0;
    }
    return digest;
}

static void worker_reports(struct world *world)
{
    send(world, (struct message){
                    .kind = REPORT, .sequence = world->sequence, .digest = worker_digest(world)});
}

/* The parts of one snapshot, with changes of the cache between them. */
static void worker_answers(struct world *world)
{
    uint64_t keys[TRUTH_KEYS];
    size_t count = 0;
    struct message message = {.kind = PART, .sequence = world->sequence};

    for (uint64_t k = 0; k < TRUTH_KEYS; k++)
        if (world->cached[k])
            keys[count++] = k;
    message.parts = (uint32_t)(count / MESSAGE_KEYS + 1);
    for (; message.part < message.parts; message.part++) {
        size_t first = message.part * MESSAGE_KEYS;

        message.stored_count = count - first < MESSAGE_KEYS ? count - first : MESSAGE_KEYS;
        memcpy(message.stored, keys + first, message.stored_count * sizeof keys[0]);
        send(world, message);
        if (td_rng_below(&world->rng, 3) == 0)
            worker_changes(world);
    }
}

static void deliver(struct world *world)
{
    struct rig *rig = &world->rig;
    struct message *message = world->channel[0];
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;

    memmove(world->channel, world->channel + 1, --world->channel_count * sizeof message);
    if (message->kind == EVENTS) {
        assert_int_equal(rig_events(rig, message->sequence, message->stored, message->stored_count,
                                    message->removed, message->removed_count),
                         TD_OK);
    } else if (message->kind == REPORT) {
        rig_report(rig, message->sequence, message->digest);
    } else {
        snapshot.sequence = message->sequence;
        snapshot.part = message->part;
        snapshot.parts = message->parts;
        snapshot.stored = rig_pairs(message->stored, message->stored_count);
        snapshot.n_stored = 2 * message->stored_count;
        assert_int_equal(sched_feed_snapshot(&rig->feed, &snapshot, rig->now_ns, NULL), TD_OK);
    }
    free(message);
}

static void reconnect(struct world *world)
{
    sched_feed_detach(&world->rig.feed);
    channel_clear(world);
    world->rig.asks = 0;
    sched_feed_attach(&world->rig.feed, world->rig.now_ns);
}

/* A new epoch: the core gives the new process a feed of its own. */
static void restart_worker(struct world *world)
{
    sched_feed_fini(&world->rig.feed);
    channel_clear(world);
    world->rig.asks = 0;
    world->sequence = 0;
    memset(world->cached, 0, sizeof world->cached);
    sched_feed_init(&world->rig.feed, &world->rig.feeds, 4096);
    sched_feed_attach(&world->rig.feed, world->rig.now_ns);
}

/* The scheduler's feed is lost with it; the worker and its numbers go on. */
static void restart_scheduler(struct world *world)
{
    sched_feed_fini(&world->rig.feed);
    channel_clear(world);
    world->rig.asks = 0;
    sched_feed_init(&world->rig.feed, &world->rig.feeds, 4096);
    sched_feed_attach(&world->rig.feed, world->rig.now_ns);
}

static void world_turn(struct world *world)
{
    uint64_t die = td_rng_below(&world->rng, 1000);

    if (world->rig.asks > 0 && td_rng_below(&world->rng, 4) == 0) {
        world->rig.asks = 0;
        worker_answers(world);
    }
    if (die < 2)
        restart_worker(world);
    else if (die < 4)
        restart_scheduler(world);
    else if (die < 10)
        reconnect(world);
    else if (die < 400)
        worker_changes(world);
    else if (die < 450)
        worker_reports(world);
    while (world->channel_count > 40 ||
           (world->channel_count > 0 && td_rng_below(&world->rng, 2) == 0))
        deliver(world);
    rig_pass(&world->rig, MS(td_rng_below(&world->rng, 50)));
}

static void world_settle(struct world *world)
{
    world->fault_percent = 0;
    for (int i = 0; i < 100; i++) {
        if (world->rig.asks > 0) {
            world->rig.asks = 0;
            worker_answers(world);
        }
        worker_reports(world);
        while (world->channel_count > 0)
            deliver(world);
        rig_pass(&world->rig, MS(500));
    }
}

static void world_check(const struct world *world)
{
    uint32_t count = 0;

    assert_int_equal(world->rig.feed.state, SCHED_FEED_CURRENT);
    for (uint64_t k = 0; k < TRUTH_KEYS; k++) {
        assert_int_equal(rig_has(&world->rig, k), world->cached[k]);
        count += world->cached[k];
    }
    assert_int_equal(sched_index_count(world->rig.index, world->rig.feed.owner), count);
}

static void after_any_faults_and_a_quiet_time_the_index_is_the_truth(void **state)
{
    uint64_t gaps = 0;
    uint64_t mismatches = 0;
    uint64_t loaded = 0;

    (void)state;
    for (uint64_t run = 0; run < 300; run++) {
        static struct world world;

        memset(&world, 0, sizeof world);
        rig_open(&world.rig);
        td_rng_init(&world.rng, run);
        world.fault_percent = (uint32_t)(run % 6) * 4;
        sched_feed_attach(&world.rig.feed, world.rig.now_ns);
        for (int i = 0; i < 1500; i++)
            world_turn(&world);
        world_settle(&world);
        world_check(&world);
        gaps += world.rig.feeds.stats.gaps;
        mismatches += world.rig.feeds.stats.mismatches;
        loaded += world.rig.feeds.stats.loaded;
        channel_clear(&world);
        rig_close(&world.rig);
    }
    print_message("%llu gaps, %llu mismatches, %llu snapshots\n", (unsigned long long)gaps,
                  (unsigned long long)mismatches, (unsigned long long)loaded);
    assert_true(gaps > 100 && loaded > 300);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(after_any_faults_and_a_quiet_time_the_index_is_the_truth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
