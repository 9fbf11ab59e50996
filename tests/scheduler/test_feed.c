/*
 * test_feed.c: block events, snapshots and digests of one worker: single steps, every cell of the
 * table, and a property test over a channel that drops, repeats, reorders and breaks.
 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/list.h"
#include "lib/base/random.h"
#include "lib/base/time.h"
#include "scheduler/feed.h"
#include "tests/support/support.h"

#define MS(n) ((uint64_t)(n)*TD_NS_PER_MS)

/* One feed with everything around it. Time starts late, so that it can also be subtracted from. */
struct rig {
    struct sched_config config;
    struct sched_index *index;
    struct td_timers timers;
    struct sched_feeds feeds;
    struct sched_feed feed;
    uint32_t asks; /* requests sent and not answered by the test yet */
    uint64_t now_ns;
};

static struct td_u128 key_of(uint64_t n)
{
    return (struct td_u128){.hi = n * 0x2545f4914f6cdd1d, .lo = n + 1};
}

static void on_ask(struct sched_feed *feed)
{
    td_container_of(feed, struct rig, feed)->asks++;
}

static void rig_open(struct rig *rig)
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

static void rig_close(struct rig *rig)
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

static void rig_pass(struct rig *rig, uint64_t ns)
{
    rig->now_ns += ns;
    sched_index_sweep(rig->index, 100000);
    td_timers_run(&rig->timers, rig->now_ns);
}

/* Small lists of keys by number, for messages that live until the next call. */
static uint64_t *pairs_of(const uint64_t *numbers, size_t count)
{
    static uint64_t storage[4][512];
    static size_t turn;
    uint64_t *pairs = storage[turn++ % 4];

    assert_true(count <= 256);
    for (size_t i = 0; i < count; i++) {
        pairs[2 * i] = key_of(numbers[i]).hi;
        pairs[2 * i + 1] = key_of(numbers[i]).lo;
    }
    return pairs;
}

static td_status_t give_events(struct rig *rig, uint64_t sequence, const uint64_t *stored,
                               size_t stored_count, const uint64_t *removed, size_t removed_count)
{
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;

    events.sequence = sequence;
    events.stored = pairs_of(stored, stored_count);
    events.n_stored = 2 * stored_count;
    events.removed = pairs_of(removed, removed_count);
    events.n_removed = 2 * removed_count;
    return sched_feed_events(&rig->feed, &events, rig->now_ns, NULL);
}

static void stored(struct rig *rig, uint64_t sequence, uint64_t number)
{
    assert_int_equal(give_events(rig, sequence, &number, 1, NULL, 0), TD_OK);
}

static void removed(struct rig *rig, uint64_t sequence, uint64_t number)
{
    assert_int_equal(give_events(rig, sequence, NULL, 0, &number, 1), TD_OK);
}

static void part(struct rig *rig, uint64_t sequence, uint32_t number, uint32_t parts, uint64_t key)
{
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;

    snapshot.sequence = sequence;
    snapshot.part = number;
    snapshot.parts = parts;
    snapshot.stored = pairs_of(&key, 1);
    snapshot.n_stored = key != UINT64_MAX ? 2 : 0;
    assert_int_equal(sched_feed_snapshot(&rig->feed, &snapshot, rig->now_ns, NULL), TD_OK);
}

static void report(struct rig *rig, uint64_t sequence, struct td_u128 digest)
{
    Td__LoadReport load = TD__LOAD_REPORT__INIT;

    load.sequence = sequence;
    load.digest_hi = digest.hi;
    load.digest_lo = digest.lo;
    sched_feed_report(&rig->feed, &load, rig->now_ns);
}

static bool has(const struct rig *rig, uint64_t number)
{
    return rig->feed.owner != SCHED_OWNER_NONE &&
           sched_index_has(rig->index, rig->feed.owner, key_of(number));
}

static struct td_u128 both(uint64_t a, uint64_t b)
{
    return (struct td_u128){.hi = key_of(a).hi ^ key_of(b).hi, .lo = key_of(a).lo ^ key_of(b).lo};
}

/* Brings a fresh feed into a state: UNKNOWN is detached, the others attached. */
static void rig_reach(struct rig *rig, enum sched_feed_state state)
{
    rig_open(rig);
    if (state == SCHED_FEED_UNKNOWN)
        return;
    sched_feed_attach(&rig->feed, rig->now_ns);
    rig_pass(rig, 0);
    assert_int_equal(rig->asks, 1);
    if (state == SCHED_FEED_LOADING)
        part(rig, 10, 0, 3, 1);
    if (state == SCHED_FEED_CURRENT)
        part(rig, 10, 0, 1, 1);
    assert_int_equal(rig->feed.state, state);
}

/* --- single steps --- */

static void a_new_feed_asks_as_soon_as_it_has_a_stream(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig);
    rig_pass(&rig, MS(1000));
    assert_int_equal(rig.asks, 0);
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    rig_close(&rig);
}

static void an_empty_cache_is_one_part_without_keys(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    part(&rig, 0, 0, 1, UINT64_MAX);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    stored(&rig, 1, 42);
    assert_true(has(&rig, 42));
    report(&rig, 1, key_of(42));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void only_the_next_number_is_applied(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    stored(&rig, 11, 2);
    stored(&rig, 11, 3);
    stored(&rig, 4, 5);
    assert_true(has(&rig, 1) && has(&rig, 2));
    assert_false(has(&rig, 3) || has(&rig, 5));
    assert_int_equal(rig.feeds.stats.late, 2);
    removed(&rig, 12, 1);
    assert_false(has(&rig, 1));
    rig_close(&rig);
}

static void a_gap_forgets_everything_and_asks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    report(&rig, 10, key_of(1));
    stored(&rig, 12, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_false(has(&rig, 1) || has(&rig, 2));
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 2);
    rig_close(&rig);
}

static void a_report_with_a_later_number_is_a_gap(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    report(&rig, 11, both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.gaps, 1);
    rig_close(&rig);
}

static void a_report_with_an_older_number_says_nothing(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    report(&rig, 9, both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void another_digest_at_the_same_number_asks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    stored(&rig, 11, 2);
    report(&rig, 11, both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    report(&rig, 11, both(1, 3));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.mismatches, 1);
    rig_close(&rig);
}

static void events_between_the_parts_count_after_the_last_part(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    removed(&rig, 11, 3); /* in part 2, still to come */
    stored(&rig, 12, 4);
    removed(&rig, 13, 4);
    stored(&rig, 14, 5);
    part(&rig, 10, 1, 3, 2);
    part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_true(has(&rig, 1) && has(&rig, 2) && has(&rig, 5));
    assert_false(has(&rig, 3) || has(&rig, 4));
    stored(&rig, 15, 6);
    assert_true(has(&rig, 6));
    report(&rig, 15,
           (struct td_u128){both(1, 2).hi ^ both(5, 6).hi, both(1, 2).lo ^ both(5, 6).lo});
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void a_snapshot_older_than_seen_events_is_not_taken(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    stored(&rig, 20, 9);
    part(&rig, 19, 0, 1, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    part(&rig, 20, 0, 1, 1);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void the_rest_of_an_older_answer_is_passed_over(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_ASKED);
    part(&rig, 10, 1, 3, 2);
    part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_ASKED);
    assert_int_equal(rig.feeds.stats.strays, 2);
    part(&rig, 12, 0, 2, 1);
    part(&rig, 12, 0, 2, 1); /* repeated */
    part(&rig, 12, 1, 2, 4);
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    report(&rig, 12, both(1, 4));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    rig_close(&rig);
}

static void a_missing_part_starts_over(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    part(&rig, 10, 2, 3, 3);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(rig.feeds.stats.failed, 1);
    rig_close(&rig);
}

static void parts_of_two_snapshots_are_never_mixed(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_LOADING);
    part(&rig, 11, 1, 3, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
    rig_reach(&rig, SCHED_FEED_LOADING);
    part(&rig, 10, 1, 4, 2);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
}

static void events_that_never_end_do_not_wait_without_limit(void **state)
{
    struct rig rig;
    uint64_t numbers[256];
    uint64_t sequence = 10;

    (void)state;
    for (uint64_t i = 0; i < 256; i++)
        numbers[i] = 1000 + i;
    rig_reach(&rig, SCHED_FEED_LOADING);
    while (rig.feed.state == SCHED_FEED_LOADING && sequence < 1000)
        assert_int_equal(give_events(&rig, ++sequence, numbers, 256, NULL, 0), TD_OK);
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    assert_int_equal(sequence - 10, 65536 / 256 + 1);
    assert_null(rig.feed.changes);
    rig_close(&rig);
}

static void without_an_answer_it_asks_again_and_waits_longer_each_time(void **state)
{
    struct rig rig;
    uint64_t asked_ns[8];
    uint32_t asks = 0;

    (void)state;
    rig_open(&rig);
    rig.config.answer_ms = 100;
    sched_feed_attach(&rig.feed, rig.now_ns);
    while (asks < 8) {
        uint64_t next_ns = td_timers_next(&rig.timers);

        rig_pass(&rig, next_ns - rig.now_ns);
        if (rig.asks > asks)
            asked_ns[asks++] = rig.now_ns;
    }
    for (uint32_t i = 1; i < 8; i++) {
        uint64_t expected_ms = i <= 4 ? UINT64_C(1000) << (i - 1) : 10000;

        assert_int_equal(asked_ns[i] - asked_ns[i - 1], MS(expected_ms));
    }
    rig_close(&rig);
}

static void an_equal_digest_ends_the_waiting(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    stored(&rig, 12, 2); /* a gap soon after the last asking: not yet */
    rig_pass(&rig, MS(1));
    assert_int_equal(rig.asks, 1);
    rig_pass(&rig, MS(1000));
    assert_int_equal(rig.asks, 2);
    part(&rig, 12, 0, 1, 2);
    report(&rig, 12, key_of(2));
    stored(&rig, 14, 3); /* a gap after all was well: at once */
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 3);
    rig_close(&rig);
}

static void a_lost_stream_keeps_what_is_known_and_the_numbers_tell(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    report(&rig, 10, key_of(1));
    sched_feed_detach(&rig.feed);
    assert_true(has(&rig, 1));
    sched_feed_attach(&rig.feed, rig.now_ns);
    report(&rig, 10, key_of(1));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    sched_feed_detach(&rig.feed);
    sched_feed_attach(&rig.feed, rig.now_ns);
    report(&rig, 13, key_of(1));
    assert_int_equal(rig.feed.state, SCHED_FEED_UNKNOWN);
    rig_close(&rig);
}

static void few_snapshots_are_asked_for_at_the_same_time(void **state)
{
    struct rig rig;

    (void)state;
    rig_open(&rig);
    rig.config.snapshots_max = 2;
    rig.feeds.asking = 2;
    sched_feed_attach(&rig.feed, rig.now_ns);
    rig_pass(&rig, MS(100));
    assert_int_equal(rig.asks, 0);
    rig.feeds.asking = 0;
    rig_pass(&rig, MS(100));
    assert_int_equal(rig.asks, 1);
    rig_close(&rig);
}

static void a_worker_cannot_own_more_keys_than_it_has_blocks(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    for (uint64_t i = 0; i < 5000; i++)
        stored(&rig, 11 + i, 100 + i);
    assert_int_equal(sched_index_count(rig.index, rig.feed.owner), 4096);
    assert_int_equal(rig.feeds.stats.refused, 5000 + 1 - 4096);
    rig_close(&rig);
}

static void malformed_messages_are_refused_by_field(void **state)
{
    struct rig rig;
    uint64_t pairs[4] = {1, 2, 0, 0};
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    Td__Snapshot snapshot = TD__SNAPSHOT__INIT;
    struct td_error error = {0};

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: sequence is 0");
    events.sequence = 11;
    events.stored = pairs;
    events.n_stored = 3;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: stored: half a key at the end");
    events.n_stored = 2;
    events.removed = pairs;
    events.n_removed = 4;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "block events: removed: key 1 is zero");
    snapshot.parts = 0;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    snapshot.parts = SCHED_PARTS_MAX + 1;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    snapshot.parts = snapshot.part = 3;
    assert_int_equal(sched_feed_snapshot(&rig.feed, &snapshot, rig.now_ns, &error), TD_INVALID);
    assert_string_equal(error.text, "snapshot: part 3 of 3");
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_int_equal(rig.feed.sequence, 10);
    rig_close(&rig);
}

static void a_list_is_taken_at_its_limit_and_refused_beyond(void **state)
{
    size_t numbers = 2 * (size_t)(SCHED_EVENT_KEYS_MAX + 1);
    uint64_t *pairs = calloc(numbers, sizeof *pairs);
    Td__BlockEvents events = TD__BLOCK_EVENTS__INIT;
    struct rig rig;

    (void)state;
    assert_non_null(pairs);
    for (size_t i = 0; i < numbers; i++)
        pairs[i] = i + 1;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    events.sequence = 11;
    events.stored = pairs;
    events.n_stored = numbers;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, NULL), TD_INVALID);
    events.n_stored = numbers - 2;
    assert_int_equal(sched_feed_events(&rig.feed, &events, rig.now_ns, NULL), TD_OK);
    rig_close(&rig);
    free(pairs);
}

/* --- the table --- */

/* Makes an event happen through the public calls. */
static void cause(struct rig *rig, enum sched_feed_event event)
{
    switch (event) {
    case SCHED_FEED_ON_NEXT: stored(rig, rig->feed.sequence + 1, 7); break;
    case SCHED_FEED_ON_LATE:
        if (rig->feed.sequence > 0)
            stored(rig, rig->feed.sequence, 7);
        break;
    case SCHED_FEED_ON_GAP: stored(rig, rig->feed.sequence + 2, 7); break;
    case SCHED_FEED_ON_MISMATCH: report(rig, rig->feed.sequence, key_of(999)); break;
    case SCHED_FEED_ON_ASK:
        sched_feed_attach(&rig->feed, rig->now_ns);
        rig_pass(rig, 0);
        break;
    case SCHED_FEED_ON_FIRST: part(rig, 10, 0, 3, 1); break;
    case SCHED_FEED_ON_PART: part(rig, 10, 1, 3, 2); break;
    case SCHED_FEED_ON_LAST:
        if (rig->feed.state == SCHED_FEED_LOADING)
            part(rig, 10, 1, 3, 2);
        part(rig, 10, rig->feed.state == SCHED_FEED_LOADING ? 2 : 0,
             rig->feed.state == SCHED_FEED_LOADING ? 3 : 1, 3);
        break;
    case SCHED_FEED_ON_STRAY:
        if (rig->feed.state == SCHED_FEED_LOADING)
            part(rig, 10, 0, 3, 1);
        else
            part(rig, 10, 1, 3, 2);
        break;
    case SCHED_FEED_ON_BROKEN: part(rig, 10, 2, 3, 3); break;
    case SCHED_FEED_ON_SILENCE:
        rig->feed.ask_at_ns = rig->now_ns + MS(60000); /* or it would ask again in the same turn */
        rig_pass(rig, MS(rig->config.answer_ms));
        break;
    case SCHED_FEED_ON_DETACH: sched_feed_detach(&rig->feed); break;
    default: assert_int_equal(event, SCHED_FEED_ON_CLOSE); sched_feed_fini(&rig->feed);
    }
}

static void the_table_is_sound(void **state)
{
    const char *fault = td_fsm_check(&sched_feed_fsm);

    (void)state;
    if (fault != NULL)
        fail_msg("%s", fault);
}

/* Every cell that is not a BUG, through the public calls: the state afterwards is the table's. */
static void every_cell_is_what_the_calls_do(void **state)
{
    int cells = 0;

    (void)state;
    for (uint8_t s = 0; s < SCHED_FEED_CLOSED; s++) {
        for (uint8_t e = 0; e < SCHED_FEED_EVENT_COUNT; e++) {
            const struct td_fsm_cell *cell = td_fsm_cell(&sched_feed_fsm, s, e);
            struct rig rig;

            if (cell->action == TD_FSM_BUG)
                continue;
            rig_reach(&rig, (enum sched_feed_state)s);
            cause(&rig, (enum sched_feed_event)e);
            if (rig.feed.state != cell->next)
                fail_msg("%s on %s leads to %s", sched_feed_fsm.states[s].name,
                         sched_feed_fsm.events[e].name, sched_feed_fsm.states[rig.feed.state].name);
            if (rig.feed.state == SCHED_FEED_CLOSED)
                sched_index_close(rig.index);
            else
                rig_close(&rig);
            cells++;
        }
    }
    assert_true(cells > 30);
}

/* --- the property: whatever the channel did, after a quiet time the index is the truth --- */

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
        digest.hi ^= world->cached[k] ? key_of(k).hi : 0;
        digest.lo ^= world->cached[k] ? key_of(k).lo : 0;
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
        assert_int_equal(give_events(rig, message->sequence, message->stored, message->stored_count,
                                     message->removed, message->removed_count),
                         TD_OK);
    } else if (message->kind == REPORT) {
        report(rig, message->sequence, message->digest);
    } else {
        snapshot.sequence = message->sequence;
        snapshot.part = message->part;
        snapshot.parts = message->parts;
        snapshot.stored = pairs_of(message->stored, message->stored_count);
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
        assert_int_equal(has(&world->rig, k), world->cached[k]);
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

/* Events that are lost without a trace in the numbers are found by the digest. */
static void a_wrong_event_is_mended_by_the_digest(void **state)
{
    struct rig rig;

    (void)state;
    rig_reach(&rig, SCHED_FEED_CURRENT);
    report(&rig, 10, key_of(1));
    stored(&rig, 11, 666); /* the worker really stored 2 */
    report(&rig, 11, both(1, 2));
    rig_pass(&rig, 0);
    assert_int_equal(rig.asks, 2);
    part(&rig, 11, 0, 2, 1);
    part(&rig, 11, 1, 2, 2);
    report(&rig, 11, both(1, 2));
    assert_int_equal(rig.feed.state, SCHED_FEED_CURRENT);
    assert_true(has(&rig, 2) && !has(&rig, 666));
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_is_sound),
        cmocka_unit_test(every_cell_is_what_the_calls_do),
        cmocka_unit_test(a_new_feed_asks_as_soon_as_it_has_a_stream),
        cmocka_unit_test(an_empty_cache_is_one_part_without_keys),
        cmocka_unit_test(only_the_next_number_is_applied),
        cmocka_unit_test(a_gap_forgets_everything_and_asks),
        cmocka_unit_test(a_report_with_a_later_number_is_a_gap),
        cmocka_unit_test(a_report_with_an_older_number_says_nothing),
        cmocka_unit_test(another_digest_at_the_same_number_asks),
        cmocka_unit_test(events_between_the_parts_count_after_the_last_part),
        cmocka_unit_test(a_snapshot_older_than_seen_events_is_not_taken),
        cmocka_unit_test(the_rest_of_an_older_answer_is_passed_over),
        cmocka_unit_test(a_missing_part_starts_over),
        cmocka_unit_test(parts_of_two_snapshots_are_never_mixed),
        cmocka_unit_test(events_that_never_end_do_not_wait_without_limit),
        cmocka_unit_test(without_an_answer_it_asks_again_and_waits_longer_each_time),
        cmocka_unit_test(an_equal_digest_ends_the_waiting),
        cmocka_unit_test(a_lost_stream_keeps_what_is_known_and_the_numbers_tell),
        cmocka_unit_test(few_snapshots_are_asked_for_at_the_same_time),
        cmocka_unit_test(a_worker_cannot_own_more_keys_than_it_has_blocks),
        cmocka_unit_test(malformed_messages_are_refused_by_field),
        cmocka_unit_test(a_list_is_taken_at_its_limit_and_refused_beyond),
        cmocka_unit_test(a_wrong_event_is_mended_by_the_digest),
        cmocka_unit_test(after_any_faults_and_a_quiet_time_the_index_is_the_truth),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
