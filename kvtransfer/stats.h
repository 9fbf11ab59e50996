/*
 * stats.h: what the transfer core counts, as one table for metrics, tests and documents.
 *
 * The core's thread writes, any thread may read: values are independent of each other, so relaxed
 * atomics are enough.
 */
#ifndef TANDEM_KVTRANSFER_STATS_H
#define TANDEM_KVTRANSFER_STATS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* X(NAME, "name", is_gauge, help) */
#define KVT_STATS(X)                                                                               \
    X(PEERS, "peers", true, "peers that are connected or connecting")                              \
    X(INCOMING, "incoming", true, "transfers that are expected or landing here")                   \
    X(OUTGOING, "outgoing", true, "transfers that are offered or sent from here")                  \
    X(RECEIVING, "receiving", true, "chunks that are landing at this moment")                      \
    X(SENDING, "sending", true, "chunks that are being sent at this moment")                       \
    X(QUARANTINED, "quarantined", true, "transfers whose blocks somebody might still touch")       \
    X(CHUNKS_RECEIVED, "chunks_received", false, "chunks that landed and were verified")           \
    X(CHUNKS_SENT, "chunks_sent", false, "chunks that left and were taken by the peer")            \
    X(BYTES_RECEIVED, "bytes_received", false,                                                     \
      "KV and attachment bytes that landed and were verified")                                     \
    X(BYTES_SENT, "bytes_sent", false, "KV and attachment bytes that were taken by the peer")      \
    X(BYTES_STAGED, "bytes_staged", false,                                                         \
      "bytes of a GPU's KV that went through the host's memory, received or sent")                 \
    X(BYTES_HASHED_ON_HOST, "bytes_hashed_on_host", false,                                         \
      "bytes of a GPU's KV that were copied to the host to be hashed")                             \
    X(LANDED, "landed", false, "incoming transfers that landed")                                   \
    X(QUIESCED, "quiesced", false, "incoming transfers that ended without landing")                \
    X(DRAINED, "drained", false, "outgoing transfers of which everything was sent")                \
    X(STOPPED, "stopped", false, "outgoing transfers that ended before everything was sent")       \
    X(QUARANTINES, "quarantines", false, "transfers that could not be made quiet in time")         \
    X(REFUSED_MALFORMED, "refused_malformed", false, "chunks refused: the header cannot be read")  \
    X(REFUSED_STALE, "refused_stale", false,                                                       \
      "chunks refused: an old epoch of this process or of the sender, or another transport")       \
    X(REFUSED_UNKNOWN, "refused_unknown", false,                                                   \
      "chunks refused: no such transfer (ended, or never expected)")                               \
    X(REFUSED_FORGED, "refused_forged", false, "chunks refused: the header's MAC is wrong")        \
    X(REFUSED_REPEATED, "refused_repeated", false,                                                 \
      "chunks refused: a block of it has arrived before")                                          \
    X(REFUSED_MISMATCH, "refused_mismatch", false,                                                 \
      "chunks refused: not the blocks or sizes that were expected")                                \
    X(REFUSED_STOPPING, "refused_stopping", false,                                                 \
      "chunks refused: the transfer is being stopped")                                             \
    X(REFUSED_NO_MEMORY, "refused_no_memory", false, "chunks refused: no memory to describe them") \
    X(CORRUPT, "corrupt", false, "chunks whose content did not match its hash")                    \
    X(VERIFY_NS, "verify_ns", false, "nanoseconds spent on comparing contents with their hashes")  \
    X(LATE, "late", false, "sends and receives that ended after their transfer had failed")        \
    X(CUTS, "cuts", false, "connections closed by force to make transfers quiet")                  \
    X(COMMANDS_DROPPED, "commands_dropped", false,                                                 \
      "commands for a transfer or peer that is not there (any more)")                              \
    X(PEERS_LOST, "peers_lost", false, "connections that ended, for whatever reason")

enum kvt_stat {
#define X(name, text, is_gauge, help) KVT_STAT_##name,
    KVT_STATS(X)
#undef X
        KVT_STAT_COUNT
};

struct kvt_stats {
    _Atomic uint64_t values[KVT_STAT_COUNT];
};

struct kvt_stat_info {
    const char *name; /* lower case, for metric names: "chunks_received" */
    const char *help;
    bool is_gauge;
};

/* Describes a statistic; stat must be below KVT_STAT_COUNT. */
const struct kvt_stat_info *kvt_stat_info(enum kvt_stat stat);

static inline uint64_t kvt_stats_get(const struct kvt_stats *stats, enum kvt_stat stat)
{
    return atomic_load_explicit(&stats->values[stat], memory_order_relaxed);
}

/* Owner's thread only. */
static inline void kvt_stats_add(struct kvt_stats *stats, enum kvt_stat stat, uint64_t amount)
{
    atomic_store_explicit(&stats->values[stat], kvt_stats_get(stats, stat) + amount,
                          memory_order_relaxed);
}

static inline void kvt_stats_subtract(struct kvt_stats *stats, enum kvt_stat stat, uint64_t amount)
{
    atomic_store_explicit(&stats->values[stat], kvt_stats_get(stats, stat) - amount,
                          memory_order_relaxed);
}

#endif
