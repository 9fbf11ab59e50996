/* feed_rig.c: see feed_rig.h. */
#include "tests/scheduler/feed_rig.h"

#include <string.h>

#include "lib/base/list.h"

struct td_u128 rig_key(uint64_t n)
{
    return (struct td_u128){.hi = n * 0x2545f4914f6cdd1d, .lo = n + 1};
}

static void on_ask(struct sched_feed *feed)
{
    td_container_of(feed, struct rig, feed)->asks++;
}

void rig_open(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    rig->config = sched_config_default();
    rig->now_ns = MS(1000000);
    assert_int_equal(
        sched_index_open((size_t)1 << 20, (struct td_u128){.hi = 3, .lo = 5}, &rig->index), TD_OK);
    td_timers_init(&rig->timers);
    rig->feeds = (struct sched_feeds){
        .index = rig->index, .timers = &rig->timers, .config = &rig->config, .ask = on_ask};
    sched_feed_init(&rig->feed, &rig->feeds, 4096);
}

void rig_close(struct rig *rig)
{
    sched_feed_fini(&rig->feed);
    assert_int_equal(rig->feed.state, SCHED_FEED_CLOSED);
    assert_int_equal(rig->feeds.asking, 0);
    assert_false(rig->feed.timer.armed);
    while (sched_index_sweep(rig->index, 1000))
        ;
    assert_int_equal(sched_index_stats(rig->index).count, 0);
    sched_index_close(rig->index);
}

void rig_pass(struct rig *rig, uint64_t ns)
{
    rig->now_ns += ns;
    sched_index_sweep(rig->index, 100000);
    td_timers_run(&rig->timers, rig->now_ns);
}

uint64_t *rig_pairs(const uint64_t *numbers, size_t count)
{
    static uint64_t storage[4][512];
    static size_t turn;
    uint64_t *pairs = storage[turn++ % 4];

    assert_true(count <= 256);
    for (size_t i = 0; i < count; i++) {
        pairs[2 * i] = rig_key(numbers[i]).hi;
        pairs[2 * i + 1] = rig_key(numbers[i]).lo;
    }
    return pairs;
}

td_status_t rig_events(struct rig *rig, uint64_t sequence, const uint64_t *stored,
                       size_t stored_count, const uint64_t *removed, size_t removed_count)
{
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;

    events.sequence = sequence;
    events.stored = rig_pairs(stored, stored_count);
    events.n_stored = 2 * stored_count;
    events.removed = rig_pairs(removed, removed_count);
    events.n_removed = 2 * removed_count;
    return sched_feed_events(&rig->feed, &events, rig->now_ns, NULL);
}

void rig_stored(struct rig *rig, uint64_t sequence, uint64_t number)
{
    assert_int_equal(rig_events(rig, sequence, &number, 1, NULL, 0), TD_OK);
}

void rig_removed(struct rig *rig, uint64_t sequence, uint64_t number)
{
    assert_int_equal(rig_events(rig, sequence, NULL, 0, &number, 1), TD_OK);
}

void rig_part(struct rig *rig, uint64_t sequence, uint32_t number, uint32_t parts, uint64_t key)
{
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;

    snapshot.sequence = sequence;
    snapshot.part = number;
    snapshot.parts = parts;
    snapshot.stored = rig_pairs(&key, 1);
    snapshot.n_stored = key != UINT64_MAX ? 2 : 0;
    assert_int_equal(sched_feed_snapshot(&rig->feed, &snapshot, rig->now_ns, NULL), TD_OK);
}

void rig_report(struct rig *rig, uint64_t sequence, struct td_u128 digest)
{
    Td__LoadReport load = TD__LOAD_REPORT__INIT;

    load.sequence = sequence;
    load.digest_hi = digest.hi;
    load.digest_lo = digest.lo;
    sched_feed_report(&rig->feed, &load, rig->now_ns);
}

bool rig_has(const struct rig *rig, uint64_t number)
{
    return rig->feed.owner != SCHED_OWNER_NONE &&
           sched_index_has(rig->index, rig->feed.owner, rig_key(number));
}

struct td_u128 rig_both(uint64_t a, uint64_t b)
{
    return (struct td_u128){.hi = rig_key(a).hi ^ rig_key(b).hi,
                            .lo = rig_key(a).lo ^ rig_key(b).lo};
}

void rig_reach(struct rig *rig, enum sched_feed_state state)
{
    rig_open(rig);
    if (state == SCHED_FEED_UNKNOWN)
        return;
    sched_feed_attach(&rig->feed, rig->now_ns);
    rig_pass(rig, 0);
    assert_int_equal(rig->asks, 1);
    if (state == SCHED_FEED_LOADING)
        rig_part(rig, 10, 0, 3, 1);
    if (state == SCHED_FEED_CURRENT)
        rig_part(rig, 10, 0, 1, 1);
    assert_int_equal(rig->feed.state, state);
}
