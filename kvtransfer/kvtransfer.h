/*
 * kvtransfer.h: KV hand-over between two workers: commands in, events out.
 *
 * A transfer moves the blocks of one prompt from a holder (prefill) to an asker (decode), chunk by
 * chunk as they are computed, with the last hidden state as attachment. The asker says EXPECT before
 * it asks; the holder says SEND for each run of blocks. Like the engine there is a pure core
 * (kvtransfer/core.h, driven by the simulator too) and a runtime that puts the core on a thread
 * of its own with its transports (kvtransfer/runtime.h).
 *
 * The promise that everything else rests on: after QUIESCED (or LANDED, or SENT for the blocks it
 * names) nobody outside this process can write to (or read from) the blocks of that transfer. Where
 * that could not be made sure in time the event is QUARANTINED, and the blocks are never used again.
 *
 * Every EXPECT ends with exactly one of LANDED, QUIESCED, QUARANTINED. FAILED may come before: the
 * transfer will not succeed, but its slots are not free yet; the core is already stopping it.
 * Every transfer that was begun with SEND ends with exactly one of DRAINED, QUARANTINED, after STOP
 * or after FINISH.
 */
#ifndef TANDEM_KVTRANSFER_KVTRANSFER_H
#define TANDEM_KVTRANSFER_KVTRANSFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/hash.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

/* One block of a transfer. The ordinal is its index in the array it came in. */
struct kvt_block {
    struct td_u128 key;
    struct td_u128 hash; /* sender: content hash; receiver: filled in when it has landed */
    uint32_t slot;       /* local slot index */
};

enum kvt_command_kind {
    KVT_PEER_ADD = 1, /* connect to a peer incarnation */
    KVT_PEER_DROP,    /* forget it; its transfers fail */
    KVT_EXPECT,       /* receiver: these blocks will come */
    KVT_ABANDON,      /* receiver: accept nothing more; answer when quiescent */
    KVT_SEND,         /* sender: send a run of blocks */
    KVT_FINISH,       /* sender: no SEND will follow; DRAINED when none is in flight */
    KVT_STOP,         /* sender: drop what is queued; DRAINED when none is in flight */
};

struct kvt_command {
    enum kvt_command_kind kind;
    struct td_u128 transfer; /* all but PEER_* */
    uint64_t peer;           /* epoch of the peer incarnation */
    union {
        struct {
            char transport[8];
            uint8_t *address; /* moves to the core */
            size_t address_bytes;
        } peer_add;
        struct {
            uint8_t mac_key[TD_MAC_KEY_BYTES];
            struct kvt_block *blocks; /* moves to the core */
            uint32_t block_count;
            uint32_t attachment_bytes; /* exact size of the attachment that must come; 0: none */
            uint64_t deadline_ns;      /* TIMEOUT after this unless landed */
        } expect;
        struct {
            uint8_t mac_key[TD_MAC_KEY_BYTES];
            uint32_t first;           /* ordinal of blocks[0] */
            struct kvt_block *blocks; /* moves to the core; may be empty with an attachment */
            uint32_t block_count;
            void *attachment; /* moves to the core; NULL: none */
            uint32_t attachment_bytes;
        } send;
    };
};

void kvt_command_fini(struct kvt_command *command);

enum kvt_event_kind {
    KVT_PEER_UP = 1, /* connected; lanes says how bytes travel */
    KVT_PEER_LOST,   /* the endpoint failed; add the peer again to retry */
    KVT_ARRIVING,    /* receiver: the first chunk was accepted */
    KVT_LANDED,      /* receiver: all blocks and the attachment are here and verified */
    KVT_FAILED,      /* receiver or sender: it will not succeed; quiescence follows */
    KVT_QUIESCED,    /* receiver: nobody can write to the slots any more */
    KVT_SENT,        /* sender: blocks [first, first + count) have left; nobody reads them */
    KVT_DRAINED,     /* sender: nothing of the transfer is in flight, and nothing will be */
    KVT_QUARANTINED, /* either: quiescence could not be reached in time */
};

struct kvt_event {
    enum kvt_event_kind kind;
    struct td_u128 transfer;
    uint64_t peer;
    td_status_t status; /* FAILED, PEER_LOST: why */
    union {
        struct {
            char lanes[KVT_LANES_TEXT_BYTES];
        } peer_up;
        struct {
            struct td_u128 *hashes; /* per block, in order; moves to the receiver of the event */
            uint32_t hash_count;
            void *attachment; /* moves to the receiver of the event */
            uint32_t attachment_bytes;
            uint64_t bytes;   /* KV and attachment */
            uint64_t wire_ns; /* first arrival to last receive */
            uint64_t land_ns; /* last receive to verified */
        } landed;
        struct {
            uint32_t first;
            uint32_t count;
            uint64_t bytes;
        } sent;
    };
};

void kvt_event_fini(struct kvt_event *event);

/* Receives events on the thread that owns the core; arrays move to the sink. */
struct kvt_sink {
    void *impl;
    void (*emit)(void *impl, struct kvt_event *event);
};

#endif
