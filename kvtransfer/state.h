/*
 * state.h: what the parts of the transfer core share. Not for use outside this room.
 *
 * The core's parts are core.c (commands, transports' callbacks), peer.c (connections), incoming.c and
 * outgoing.c (one transfer each). None of them is ever entered again from below: transports call their
 * sink from progress only, and the event sink must not call back.
 */
#ifndef TANDEM_KVTRANSFER_STATE_H
#define TANDEM_KVTRANSFER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/core.h"
#include "kvtransfer/memory.h"
#include "lib/base/list.h"
#include "lib/base/map.h"
#include "lib/base/time.h"
#include "lib/base/timers.h"

struct kvt_core {
    struct kvt_core_config config;
    struct kvt_stats stats;
    struct td_timers timers;
    struct td_map peers;      /* connecting and up, by epoch */
    struct td_map incoming;   /* alive, by transfer */
    struct td_map outgoing;   /* alive, by transfer and peer */
    struct td_list ghosts_in; /* quarantined, with receives that have not ended */
    struct td_list ghosts_out;
    struct kvt_transport *transports[KVT_TRANSPORTS_MAX];
    size_t transport_count;
    bool is_stopping;
};

static inline uint64_t kvt_core_now(const struct kvt_core *core)
{
    return core->config.clock.now_ns(core->config.clock.impl);
}

static inline uint64_t kvt_core_after(const struct kvt_core *core, uint32_t delay_ms)
{
    return kvt_core_now(core) + delay_ms * TD_NS_PER_MS;
}

static inline void kvt_core_emit(struct kvt_core *core, struct kvt_event *event)
{
    core->config.sink.emit(core->config.sink.impl, event);
}

static inline void kvt_core_count(struct kvt_core *core, enum kvt_stat stat)
{
    kvt_stats_add(&core->stats, stat, 1);
}

static inline void kvt_core_uncount(struct kvt_core *core, enum kvt_stat stat)
{
    kvt_stats_subtract(&core->stats, stat, 1);
}

/* The block in a slot, or NULL if the slot lies outside the pool. */
static inline uint8_t *kvt_core_block(const struct kvt_core *core, uint32_t slot)
{
    size_t slots = core->config.memory.bytes / core->config.block_bytes;

    return slot < slots ? core->config.memory.base + slot * core->config.block_bytes : NULL;
}

/* Content hashes of blocks in the pool. Not TD_OK: the device of the pool has failed. */
static inline td_status_t kvt_core_hash(struct kvt_core *core, const void *const *blocks,
                                        size_t count, struct td_u128 *hashes_out)
{
    const struct kvt_device *device = core->config.memory.device;

    if (device != NULL && device->hashes_on_host)
        kvt_stats_add(&core->stats, KVT_STAT_BYTES_HASHED_ON_HOST,
                      count * core->config.block_bytes);
    return kvt_memory_hash(&core->config.memory, blocks, count, core->config.block_bytes,
                           hashes_out);
}

/*
 * Appends memory to a list of pieces, as part of the last one if it follows it directly: what counts
 * for a transport is the number of runs. Returns the new number of pieces.
 */
static inline size_t kvt_pieces_add(struct kvt_piece *pieces, size_t count, uint8_t *base,
                                    size_t length)
{
    if (count > 0 && (uint8_t *)pieces[count - 1].base + pieces[count - 1].length == base) {
        pieces[count - 1].length += length;
        return count;
    }
    pieces[count] = (struct kvt_piece){base, length};
    return count + 1;
}

#endif
