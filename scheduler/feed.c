/* feed.c: events and snapshots of one worker, see feed.h. */
#include "scheduler/feed.h"

#include <assert.h>
#include <stdlib.h>

#include "lib/base/list.h"
#include "lib/base/time.h"

#define CHANGES_MIN 256
#define CHANGES_MAX 65536               /* 1.5 MiB per loading worker, and few load at a time */
#define BUSY_NS     (20 * TD_NS_PER_MS) /* no room to ask at present: look again */

TD_FSM_DEFINE(sched_feed, SCHED_FEED, "What the scheduler knows of one worker's prefix cache.");

/* What a message brings. */
struct batch {
    struct sched_keys stored;
    struct sched_keys removed;
};

static const struct batch nothing = {{NULL, 0}, {NULL, 0}};

/* --- keys into the index ------------------------------------------------------------------- */

static void digest_toggle(struct sched_feed *feed, struct td_u128 key)
{
    feed->digest.hi ^= key.hi;
    feed->digest.lo ^= key.lo;
}

static void put(struct sched_feed *feed, struct td_u128 key)
{
    if (sched_index_count(feed->feeds->index, feed->owner) < feed->keys_max)
        sched_index_put(feed->feeds->index, feed->owner, key);
    else
        feed->feeds->stats.refused++;
}

static void put_all(struct sched_feed *feed, struct sched_keys keys)
{
    for (size_t i = 0; i < keys.count; i++) {
        put(feed, sched_keys_at(keys, i));
        digest_toggle(feed, sched_keys_at(keys, i));
    }
}

static void drop_all(struct sched_feed *feed, struct sched_keys keys)
{
    for (size_t i = 0; i < keys.count; i++) {
        sched_index_drop(feed->feeds->index, feed->owner, sched_keys_at(keys, i));
        digest_toggle(feed, sched_keys_at(keys, i));
    }
}

/* --- events that wait for the rest of a snapshot ------------------------------------------- */

static void changes_free(struct sched_feed *feed)
{
    free(feed->changes);
    feed->changes = NULL;
    feed->change_count = 0;
    feed->change_capacity = 0;
}

static bool changes_reserve(struct sched_feed *feed, size_t count)
{
    size_t needed = feed->change_count + count;
    size_t capacity = feed->change_capacity > 0 ? feed->change_capacity : CHANGES_MIN;
    struct sched_change *changes;

    if (needed <= feed->change_capacity)
        return true;
    if (needed > CHANGES_MAX)
        return false;
    while (capacity < needed)
        capacity *= 2;
    changes = realloc(feed->changes, capacity * sizeof *changes);
    if (changes == NULL)
        return false;
    feed->changes = changes;
    feed->change_capacity = capacity;
    return true;
}

static void changes_add(struct sched_feed *feed, struct sched_keys keys, bool stored)
{
    for (size_t i = 0; i < keys.count; i++)
        feed->changes[feed->change_count++] =
            (struct sched_change){.key = sched_keys_at(keys, i), .stored = stored};
}

static void changes_apply(struct sched_feed *feed)
{
    for (size_t i = 0; i < feed->change_count; i++) {
        const struct sched_change *change = &feed->changes[i];

        if (change->stored)
            put(feed, change->key);
        else
            sched_index_drop(feed->feeds->index, feed->owner, change->key);
        digest_toggle(feed, change->key);
    }
    changes_free(feed);
}

/* --- actions ------------------------------------------------------------------------------- */

/* When the next request may go out: at once, then after a time that doubles. */
static uint64_t backoff_ns(const struct sched_feed *feed)
{
    const struct sched_config *config = feed->feeds->config;
    uint64_t wait_ms = config->retry_ms;

    for (uint32_t i = 1; i < feed->attempts && wait_ms < config->retry_max_ms; i++)
        wait_ms *= 2;
    return (wait_ms < config->retry_max_ms ? wait_ms : config->retry_max_ms) * TD_NS_PER_MS;
}

static void wait_for_answer(struct sched_feed *feed, uint64_t now_ns)
{
    td_timer_set(feed->feeds->timers, &feed->timer,
                 now_ns + feed->feeds->config->answer_ms * TD_NS_PER_MS);
}

static void wait_to_ask(struct sched_feed *feed, uint64_t now_ns)
{
    td_timer_set(feed->feeds->timers, &feed->timer,
                 feed->ask_at_ns > now_ns ? feed->ask_at_ns : now_ns);
}

static void send_request(struct sched_feed *feed, uint64_t now_ns)
{
    feed->attempts++;
    feed->ask_at_ns = now_ns + backoff_ns(feed);
    feed->feeds->stats.asked++;
    wait_for_answer(feed, now_ns);
    feed->feeds->ask(feed);
}

static void commit(struct sched_feed *feed)
{
    changes_apply(feed);
    feed->feeds->stats.loaded++;
    td_timer_cancel(feed->feeds->timers, &feed->timer);
}

static void forget(struct sched_feed *feed, uint64_t now_ns)
{
    if (feed->owner != SCHED_OWNER_NONE)
        sched_index_release(feed->feeds->index, feed->owner);
    feed->owner = SCHED_OWNER_NONE;
    feed->digest = (struct td_u128){0};
    changes_free(feed);
    if (feed->attached)
        wait_to_ask(feed, now_ns);
    else
        td_timer_cancel(feed->feeds->timers, &feed->timer);
}

static bool is_asking(uint8_t state)
{
    return state == SCHED_FEED_ASKED || state == SCHED_FEED_LOADING;
}

static void count_asking(struct sched_feeds *feeds, uint8_t before, uint8_t after)
{
    if (is_asking(after) && !is_asking(before))
        feeds->asking++;
    if (is_asking(before) && !is_asking(after))
        feeds->asking--;
    if (is_asking(before) && after == SCHED_FEED_UNKNOWN)
        feeds->stats.failed++;
}

/* Moves the feed. `batch` is what the event brings: keys stored, and keys removed. */
static void step(struct sched_feed *feed, enum sched_feed_event event, struct batch batch,
                 uint64_t now_ns)
{
    uint8_t before = feed->state;
    uint8_t action = td_fsm_step(&sched_feed_fsm, &feed->state, (uint8_t)event);

    count_asking(feed->feeds, before, feed->state);
    switch (action) {
    case SCHED_FEED_DO_SEND: send_request(feed, now_ns); break;
    case SCHED_FEED_DO_APPLY:
        drop_all(feed, batch.removed);
        put_all(feed, batch.stored);
        break;
    case SCHED_FEED_DO_BEGIN:
    case SCHED_FEED_DO_INSERT:
        put_all(feed, batch.stored);
        wait_for_answer(feed, now_ns);
        break;
    case SCHED_FEED_DO_COMMIT:
        put_all(feed, batch.stored);
        commit(feed);
        break;
    case SCHED_FEED_DO_KEEP:
        changes_add(feed, batch.removed, false);
        changes_add(feed, batch.stored, true);
        break;
    case SCHED_FEED_DO_FORGET: forget(feed, now_ns); break;
    default: break; /* IGNORE */
    }
}

/* ------------------------------------------------------------------------------------------- */

static bool has_room_to_ask(struct sched_feed *feed)
{
    struct sched_feeds *feeds = feed->feeds;

    return feeds->asking < feeds->config->snapshots_max &&
           sched_index_claim(feeds->index, &feed->owner) == TD_OK;
}

static void on_timer(struct td_timer *timer, uint64_t now_ns)
{
    struct sched_feed *feed = td_container_of(timer, struct sched_feed, timer);

    if (is_asking(feed->state))
        step(feed, SCHED_FEED_ON_SILENCE, nothing, now_ns);
    else if (has_room_to_ask(feed))
        step(feed, SCHED_FEED_ON_ASK, nothing, now_ns);
    else
        td_timer_set(feed->feeds->timers, &feed->timer, now_ns + BUSY_NS);
}

const char *sched_feed_state_name(uint8_t state)
{
    static const char *const names[SCHED_FEED_STATE_COUNT] = {
        [SCHED_FEED_UNKNOWN] = "unknown", [SCHED_FEED_ASKED] = "asked",
        [SCHED_FEED_LOADING] = "loading", [SCHED_FEED_CURRENT] = "current",
        [SCHED_FEED_CLOSED] = "closed",
    };

    assert(state < SCHED_FEED_STATE_COUNT);
    return names[state];
}

uint32_t sched_feed_key_count(const struct sched_feed *feed)
{
    if (feed->owner == SCHED_OWNER_NONE)
        return 0;
    return sched_index_count(feed->feeds->index, feed->owner);
}

void sched_feed_init(struct sched_feed *feed, struct sched_feeds *feeds, uint32_t keys_max)
{
    *feed = (struct sched_feed){
        .feeds = feeds,
        .owner = SCHED_OWNER_NONE,
        .keys_max = keys_max,
    };
    td_timer_init(&feed->timer, on_timer);
}

void sched_feed_fini(struct sched_feed *feed)
{
    feed->attached = false;
    step(feed, SCHED_FEED_ON_CLOSE, nothing, 0);
}

void sched_feed_attach(struct sched_feed *feed, uint64_t now_ns)
{
    feed->attached = true;
    if (feed->state == SCHED_FEED_UNKNOWN)
        wait_to_ask(feed, now_ns);
}

void sched_feed_detach(struct sched_feed *feed)
{
    feed->attached = false;
    step(feed, SCHED_FEED_ON_DETACH, nothing, 0);
    td_timer_cancel(feed->feeds->timers, &feed->timer);
}

/* --- messages ------------------------------------------------------------------------------ */

static td_status_t read_keys(const char *field, const uint64_t *pairs, size_t numbers,
                             struct sched_keys *keys_out, struct td_error *error)
{
    struct sched_keys keys = {.pairs = pairs, .count = numbers / 2};

    if (numbers % 2 != 0)
        return td_fail(error, TD_INVALID, "%s: half a key at the end", field);
    if (keys.count > SCHED_EVENT_KEYS_MAX)
        return td_fail(error, TD_INVALID, "%s: %zu keys, %d are possible", field, keys.count,
                       SCHED_EVENT_KEYS_MAX);
    for (size_t i = 0; i < keys.count; i++)
        if (td_u128_is_zero(sched_keys_at(keys, i)))
            return td_fail(error, TD_INVALID, "%s: key %zu is zero", field, i);
    *keys_out = keys;
    return TD_OK;
}

static bool is_loaded(const struct sched_feed *feed)
{
    return feed->state == SCHED_FEED_LOADING || feed->state == SCHED_FEED_CURRENT;
}

static enum sched_feed_event events_kind(struct sched_feed *feed, uint64_t sequence,
                                         const struct batch *batch)
{
    if (sequence <= feed->sequence)
        return SCHED_FEED_ON_LATE;
    if (sequence - feed->sequence > 1)
        return SCHED_FEED_ON_GAP;
    if (feed->state == SCHED_FEED_LOADING &&
        !changes_reserve(feed, batch->stored.count + batch->removed.count))
        return SCHED_FEED_ON_BROKEN;
    return SCHED_FEED_ON_NEXT;
}

td_status_t sched_feed_events(struct sched_feed *feed, const Td__BlockEvents *events,
                              uint64_t now_ns, struct td_error *error)
{
    struct sched_feed_stats *stats = &feed->feeds->stats;
    struct batch batch = nothing;
    enum sched_feed_event kind;
    td_status_t status;

    if (events->sequence == 0)
        return td_fail(error, TD_INVALID, "block events: sequence is 0");
    status =
        read_keys("block events: stored", events->stored, events->n_stored, &batch.stored, error);
    if (status == TD_OK)
        status = read_keys("block events: removed", events->removed, events->n_removed,
                           &batch.removed, error);
    if (status != TD_OK)
        return status;
    if (events->sequence > feed->seen_max)
        feed->seen_max = events->sequence;
    kind = events_kind(feed, events->sequence, &batch);
    if (is_loaded(feed)) {
        stats->applied += kind == SCHED_FEED_ON_NEXT;
        stats->late += kind == SCHED_FEED_ON_LATE;
        stats->gaps += kind == SCHED_FEED_ON_GAP;
        if (kind == SCHED_FEED_ON_NEXT)
            feed->sequence = events->sequence;
    }
    step(feed, kind, batch, now_ns);
    return TD_OK;
}

/* Notes where in a snapshot we are and says what the part is to us. */
static enum sched_feed_event part_kind(struct sched_feed *feed, const Td__Snapshot *snapshot)
{
    bool is_last = snapshot->part + 1 == snapshot->parts;

    if (feed->state == SCHED_FEED_ASKED && snapshot->part == 0 &&
        snapshot->sequence >= feed->seen_max) {
        feed->sequence = feed->seen_max = feed->load_sequence = snapshot->sequence;
        feed->parts = snapshot->parts;
        feed->part_next = 1;
        return is_last ? SCHED_FEED_ON_LAST : SCHED_FEED_ON_FIRST;
    }
    if (feed->state != SCHED_FEED_LOADING)
        return SCHED_FEED_ON_STRAY;
    if (snapshot->parts != feed->parts || snapshot->sequence != feed->load_sequence ||
        snapshot->part > feed->part_next)
        return SCHED_FEED_ON_BROKEN;
    if (snapshot->part < feed->part_next)
        return SCHED_FEED_ON_STRAY;
    feed->part_next++;
    return is_last ? SCHED_FEED_ON_LAST : SCHED_FEED_ON_PART;
}

td_status_t sched_feed_snapshot(struct sched_feed *feed, const Td__Snapshot *snapshot,
                                uint64_t now_ns, struct td_error *error)
{
    struct batch batch = nothing;
    enum sched_feed_event kind;
    td_status_t status;

    if (snapshot->parts == 0 || snapshot->parts > SCHED_PARTS_MAX)
        return td_fail(error, TD_INVALID, "snapshot: %u parts, 1 to %d are possible",
                       snapshot->parts, SCHED_PARTS_MAX);
    if (snapshot->part >= snapshot->parts)
        return td_fail(error, TD_INVALID, "snapshot: part %u of %u", snapshot->part,
                       snapshot->parts);
    status =
        read_keys("snapshot: stored", snapshot->stored, snapshot->n_stored, &batch.stored, error);
    if (status != TD_OK)
        return status;
    kind = part_kind(feed, snapshot);
    feed->feeds->stats.strays += kind == SCHED_FEED_ON_STRAY;
    step(feed, kind, batch, now_ns);
    return TD_OK;
}

void sched_feed_report(struct sched_feed *feed, const Td__LoadReport *report, uint64_t now_ns)
{
    struct td_u128 digest = {.hi = report->digest_hi, .lo = report->digest_lo};

    if (feed->state != SCHED_FEED_CURRENT || report->sequence < feed->sequence)
        return; /* nothing to compare with, or a report that is older than what we have */
    if (report->sequence > feed->sequence) {
        feed->feeds->stats.gaps++;
        step(feed, SCHED_FEED_ON_GAP, nothing, now_ns);
    } else if (!td_u128_equal(digest, feed->digest)) {
        feed->feeds->stats.mismatches++;
        step(feed, SCHED_FEED_ON_MISMATCH, nothing, now_ns);
    } else {
        feed->attempts = 0;
        feed->ask_at_ns = 0;
    }
}
