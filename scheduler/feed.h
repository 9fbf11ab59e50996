/*
 * feed.h: how the index learns what one worker caches, and how it notices that it has missed something.
 *
 * A worker numbers its block events from 1. Only the next number is applied; an older one is dropped; a
 * later one means that something was lost: all that was known is forgotten, and a snapshot is asked
 * for. The load reports carry the newest number and a digest of the worker's whole cache, so that even
 * what the numbers cannot show (a wrong event, a fault of ours) is found out and mended. A new feed
 * knows nothing and begins by asking.
 *
 * The digest is computed over what was received, not over what is in the index: an eviction from the
 * index is no loss of events.
 */
#ifndef TANDEM_SCHEDULER_FEED_H
#define TANDEM_SCHEDULER_FEED_H

#include "lib/base/fsm.h"
#include "lib/base/timers.h"
#include "proto/tandem.pb-c.h"
#include "scheduler/config.h"
#include "scheduler/index.h"

#define SCHED_FEED_STATES(X, P)                                                     \
    X(P, UNKNOWN, retry_ms,                                                         \
      "nothing is known of the worker's cache; a snapshot will be asked for")       \
    X(P, ASKED, answer_ms, "a snapshot was asked for")                              \
    X(P, LOADING, answer_ms, "parts of a snapshot are arriving; newer events wait") \
    X(P, CURRENT, worker, "all events up to a number are in the index")             \
    X(P, CLOSED, none, "the worker is gone")

#define SCHED_FEED_EVENTS(X, P)                                              \
    X(P, NEXT, "block events with the next number")                          \
    X(P, LATE, "block events with an old number")                            \
    X(P, GAP, "block events or a load report show that events were lost")    \
    X(P, MISMATCH, "a load report with our number and another digest")       \
    X(P, ASK, "it is time to ask, and there is room for the answer")         \
    X(P, FIRST, "part 0 of a snapshot, more to follow")                      \
    X(P, PART, "the part that comes next, more to follow")                   \
    X(P, LAST, "the last part, or the only one")                             \
    X(P, STRAY, "a part that nobody waits for")                              \
    X(P, BROKEN, "a part of another snapshot, or more events than can wait") \
    X(P, SILENCE, "no answer in time")                                       \
    X(P, DETACH, "the worker's stream ended")                                \
    X(P, CLOSE, "the worker is gone")

#define SCHED_FEED_ACTIONS(X, P)                              \
    X(P, SEND, "send the request")                            \
    X(P, APPLY, "put the events into the index")              \
    X(P, BEGIN, "note the snapshot's number; put the keys")   \
    X(P, INSERT, "put the keys")                              \
    X(P, COMMIT, "put the keys, then the events that waited") \
    X(P, KEEP, "let the events wait")                         \
    X(P, FORGET, "forget all keys of the worker; ask again, at first at once")

#define SCHED_FEED_CELLS(X, P)                                                                 \
    X(P, UNKNOWN, NEXT, UNKNOWN, IGNORE, "the snapshot will cover it")                         \
    X(P, UNKNOWN, LATE, UNKNOWN, IGNORE, "")                                                   \
    X(P, UNKNOWN, GAP, UNKNOWN, IGNORE, "")                                                    \
    X(P, UNKNOWN, MISMATCH, UNKNOWN, BUG, "digests are compared only in CURRENT")              \
    X(P, UNKNOWN, ASK, ASKED, SEND, "")                                                        \
    X(P, UNKNOWN, FIRST, UNKNOWN, BUG, "with no request out, every part is a stray")           \
    X(P, UNKNOWN, PART, UNKNOWN, BUG, "")                                                      \
    X(P, UNKNOWN, LAST, UNKNOWN, BUG, "")                                                      \
    X(P, UNKNOWN, STRAY, UNKNOWN, IGNORE, "an answer that came too late")                      \
    X(P, UNKNOWN, BROKEN, UNKNOWN, BUG, "")                                                    \
    X(P, UNKNOWN, SILENCE, UNKNOWN, BUG, "")                                                   \
    X(P, UNKNOWN, DETACH, UNKNOWN, IGNORE, "asks when the stream is back")                     \
    X(P, UNKNOWN, CLOSE, CLOSED, FORGET, "")                                                   \
    X(P, ASKED, NEXT, ASKED, IGNORE, "the snapshot will cover it")                             \
    X(P, ASKED, LATE, ASKED, IGNORE, "")                                                       \
    X(P, ASKED, GAP, ASKED, IGNORE, "")                                                        \
    X(P, ASKED, MISMATCH, ASKED, BUG, "")                                                      \
    X(P, ASKED, ASK, ASKED, BUG, "")                                                           \
    X(P, ASKED, FIRST, LOADING, BEGIN, "")                                                     \
    X(P, ASKED, PART, ASKED, BUG, "only a part 0 is waited for")                               \
    X(P, ASKED, LAST, CURRENT, COMMIT, "a snapshot of one part")                               \
    X(P, ASKED, STRAY, ASKED, IGNORE, "the rest of an older answer")                           \
    X(P, ASKED, BROKEN, ASKED, BUG, "")                                                        \
    X(P, ASKED, SILENCE, UNKNOWN, FORGET, "")                                                  \
    X(P, ASKED, DETACH, UNKNOWN, FORGET, "the answer cannot come")                             \
    X(P, ASKED, CLOSE, CLOSED, FORGET, "")                                                     \
    X(P, LOADING, NEXT, LOADING, KEEP, "a part still to come may hold a key that it removes")  \
    X(P, LOADING, LATE, LOADING, IGNORE, "")                                                   \
    X(P, LOADING, GAP, UNKNOWN, FORGET, "")                                                    \
    X(P, LOADING, MISMATCH, LOADING, BUG, "")                                                  \
    X(P, LOADING, ASK, LOADING, BUG, "")                                                       \
    X(P, LOADING, FIRST, LOADING, BUG, "a part 0 is a stray or breaks the snapshot")           \
    X(P, LOADING, PART, LOADING, INSERT, "")                                                   \
    X(P, LOADING, LAST, CURRENT, COMMIT, "")                                                   \
    X(P, LOADING, STRAY, LOADING, IGNORE, "a part that was here already")                      \
    X(P, LOADING, BROKEN, UNKNOWN, FORGET, "")                                                 \
    X(P, LOADING, SILENCE, UNKNOWN, FORGET, "")                                                \
    X(P, LOADING, DETACH, UNKNOWN, FORGET, "the rest cannot come")                             \
    X(P, LOADING, CLOSE, CLOSED, FORGET, "")                                                   \
    X(P, CURRENT, NEXT, CURRENT, APPLY, "")                                                    \
    X(P, CURRENT, LATE, CURRENT, IGNORE, "")                                                   \
    X(P, CURRENT, GAP, UNKNOWN, FORGET, "")                                                    \
    X(P, CURRENT, MISMATCH, UNKNOWN, FORGET, "")                                               \
    X(P, CURRENT, ASK, CURRENT, BUG, "")                                                       \
    X(P, CURRENT, FIRST, CURRENT, BUG, "with no request out, every part is a stray")           \
    X(P, CURRENT, PART, CURRENT, BUG, "")                                                      \
    X(P, CURRENT, LAST, CURRENT, BUG, "")                                                      \
    X(P, CURRENT, STRAY, CURRENT, IGNORE, "")                                                  \
    X(P, CURRENT, BROKEN, CURRENT, BUG, "")                                                    \
    X(P, CURRENT, SILENCE, CURRENT, BUG, "")                                                   \
    X(P, CURRENT, DETACH, CURRENT, IGNORE, "the numbers will tell whether something was lost") \
    X(P, CURRENT, CLOSE, CLOSED, FORGET, "")                                                   \
    X(P, CLOSED, NEXT, CLOSED, BUG, "")                                                        \
    X(P, CLOSED, LATE, CLOSED, BUG, "")                                                        \
    X(P, CLOSED, GAP, CLOSED, BUG, "")                                                         \
    X(P, CLOSED, MISMATCH, CLOSED, BUG, "")                                                    \
    X(P, CLOSED, ASK, CLOSED, BUG, "")                                                         \
    X(P, CLOSED, FIRST, CLOSED, BUG, "")                                                       \
    X(P, CLOSED, PART, CLOSED, BUG, "")                                                        \
    X(P, CLOSED, LAST, CLOSED, BUG, "")                                                        \
    X(P, CLOSED, STRAY, CLOSED, BUG, "")                                                       \
    X(P, CLOSED, BROKEN, CLOSED, BUG, "")                                                      \
    X(P, CLOSED, SILENCE, CLOSED, BUG, "")                                                     \
    X(P, CLOSED, DETACH, CLOSED, BUG, "")                                                      \
    X(P, CLOSED, CLOSE, CLOSED, BUG, "")

TD_FSM_DECLARE(sched_feed, SCHED_FEED);

/* A change of the cache that waits for a snapshot to be complete. */
struct sched_change {
    struct td_u128 key;
    bool stored;
};

/* For metrics; since the start. */
struct sched_feed_stats {
    uint64_t applied;    /* event messages put into the index */
    uint64_t late;       /* event messages dropped because their number was old */
    uint64_t gaps;       /* times that events were found to be lost */
    uint64_t mismatches; /* digests that differed */
    uint64_t asked;      /* snapshot requests */
    uint64_t loaded;     /* snapshots taken over */
    uint64_t failed;     /* requests that brought no usable answer */
    uint64_t strays;     /* snapshot parts that nobody waited for */
    uint64_t refused;    /* keys beyond the worker's own number of blocks */
};

struct sched_feed;

/* What the feeds of one scheduler share. */
struct sched_feeds {
    struct sched_index *index;
    struct td_timers *timers;
    const struct sched_config *config;
    void (*ask)(struct sched_feed *feed); /* send a SnapshotRequest to this worker */
    struct sched_feed_stats stats;
    uint32_t asking; /* requests out */
};

struct sched_feed {
    struct sched_feeds *feeds;
    uint8_t state;
    bool attached;     /* a request could be sent */
    uint16_t owner;    /* column of the index; SCHED_OWNER_NONE while UNKNOWN */
    uint32_t keys_max; /* the worker's number of blocks: it cannot cache more */
    uint64_t sequence; /* number of the last events that were taken in */
    uint64_t seen_max; /* highest number ever seen: an older snapshot would leave a gap */
    struct td_u128 digest;
    uint64_t load_sequence; /* LOADING: the snapshot's number, its parts, the one that comes next */
    uint32_t parts;
    uint32_t part_next;
    struct sched_change *changes; /* LOADING: events that wait */
    size_t change_count;
    size_t change_capacity;
    uint32_t attempts; /* requests since a digest was last found equal */
    uint64_t ask_at_ns;
    struct td_timer timer;
};

/* The name of a feed's state, for figures. */
const char *sched_feed_state_name(uint8_t state);

/* The keys of the worker that are in the index. */
uint32_t sched_feed_key_count(const struct sched_feed *feed);

/* A feed that knows nothing; it asks once it is attached. */
void sched_feed_init(struct sched_feed *feed, struct sched_feeds *feeds, uint32_t keys_max);

/* Gives back what the feed holds. */
void sched_feed_fini(struct sched_feed *feed);

/* The worker has a stream (again), or has lost it. */
void sched_feed_attach(struct sched_feed *feed, uint64_t now_ns);
void sched_feed_detach(struct sched_feed *feed);

/*
 * Messages of the worker. TD_INVALID with the name of the field if one breaks the rules of the
 * protocol (the caller then closes the stream); everything else is dealt with here.
 */
td_status_t sched_feed_events(struct sched_feed *feed, const Td__BlockEvents *events,
                              uint64_t now_ns, struct td_error *error) TD_MUST_USE;
td_status_t sched_feed_snapshot(struct sched_feed *feed, const Td__Snapshot *snapshot,
                                uint64_t now_ns, struct td_error *error) TD_MUST_USE;
void sched_feed_report(struct sched_feed *feed, const Td__LoadReport *report, uint64_t now_ns);

#endif
