/*
 * core.h: the transfer core: commands in, events out, transports below, time from outside.
 *
 * A pure object: no thread, no clock of its own, no lock, and randomness nowhere. kvtransfer/runtime.h
 * puts one on a thread; the simulator drives many with virtual time. All calls come from one thread,
 * and none of them from inside the event sink.
 *
 * What drives it does, again and again: kvt_core_command for each command, kvt_core_progress until it
 * returns false, kvt_core_tick when kvt_core_next_deadline has passed.
 */
#ifndef TANDEM_KVTRANSFER_CORE_H
#define TANDEM_KVTRANSFER_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/kvtransfer.h"
#include "kvtransfer/stats.h"
#include "kvtransfer/transport.h"
#include "lib/base/status.h"

#define KVT_TRANSPORTS_MAX 5

/* What bounds a core. Zero-initialise nothing of it by hand: start from kvt_limits_default. */
struct kvt_limits {
    uint32_t peers_max;    /* connections */
    uint32_t incoming_max; /* transfers at a time */
    uint32_t outgoing_max;
    uint32_t blocks_max;           /* in one transfer */
    uint32_t attachment_bytes_max; /* at most KVT_ATTACHMENT_BYTES_MAX */
    uint32_t chunk_bytes;          /* a SEND is cut into chunks of about this size */
    uint32_t window_bytes;         /* in flight to one peer; one chunk is always allowed */
    uint32_t connect_ms;           /* PEER_ADD to PEER_UP */
    uint32_t stop_ms;              /* failure to closing the connection by force */
    uint32_t cut_ms;               /* closing by force to QUARANTINED */
};

struct kvt_limits kvt_limits_default(void);

/* Where the core reads the time: the monotonic clock, or the simulator's. */
struct kvt_clock {
    void *impl;
    uint64_t (*now_ns)(void *impl);
};

/*
 * Where the core gets commands that were handed over but not carried out yet; drain is NULL if that
 * cannot be. An owner pushes EXPECT before it asks, so a chunk that arrives for an unknown transfer
 * may have overtaken its EXPECT on the way between two threads: before the core refuses such a chunk
 * it calls drain, which carries out all that waits, in order, by kvt_core_command.
 */
struct kvt_inbox {
    void *impl;
    void (*drain)(void *impl);
};

struct kvt_core_config {
    uint64_t epoch;           /* of this process; in every header */
    struct kvt_memory memory; /* the block pool */
    size_t block_bytes;
    struct kvt_clock clock;
    struct kvt_sink sink;
    struct kvt_inbox inbox;
    struct kvt_limits limits;
};

struct kvt_core;

/* TD_INVALID with error filled: a limit or size makes no sense. */
td_status_t kvt_core_open(const struct kvt_core_config *config, struct kvt_core **core_out,
                          struct td_error *error) TD_MUST_USE;

/*
 * Ends everything: closes the transports (by force) and frees all transfers without events. For a
 * clean end, kvt_core_stop first.
 */
void kvt_core_close(struct kvt_core *core);

/*
 * Gives the core a transport; it becomes the core's to close.
 * TD_STATE: there is one of that name already; TD_LIMIT: KVT_TRANSPORTS_MAX. It stays the caller's then.
 */
td_status_t kvt_core_add_transport(struct kvt_core *core,
                                   struct kvt_transport *transport) TD_MUST_USE;

/* The transport of that name, or NULL. */
struct kvt_transport *kvt_core_transport(const struct kvt_core *core, const char *name);

/*
 * Carries out one command; what it owns moves to the core, always. Answers come as events. From inside
 * the core it may be called by inbox.drain only.
 */
void kvt_core_command(struct kvt_core *core, struct kvt_command *command);

/* Lets each transport do a bounded amount of work; false if there was none. */
bool kvt_core_progress(struct kvt_core *core);

/* Before sleeping on the transports' descriptors: TD_AGAIN if there is work to do first. */
td_status_t kvt_core_arm(struct kvt_core *core) TD_MUST_USE;

/* When kvt_core_tick must be called, or TD_TIME_NEVER. */
uint64_t kvt_core_next_deadline(const struct kvt_core *core);

/* Lets the deadlines that have passed take effect. */
void kvt_core_tick(struct kvt_core *core);

/*
 * Begins to stop: abandons and stops all transfers, and refuses new ones. Go on driving the core
 * until kvt_core_is_quiet, which takes stop_ms + cut_ms at most.
 */
void kvt_core_stop(struct kvt_core *core);

/* Whether no transfer is alive (quarantined ones are not). */
bool kvt_core_is_quiet(const struct kvt_core *core);

const struct kvt_stats *kvt_core_stats(const struct kvt_core *core);

#endif
