/*
 * kvtransfer.h: KV hand-over between two workers: commands in, events out.
 *
 * A transfer moves the blocks of one prompt from a holder (prefill) to an asker (decode), chunk by
 * chunk as they are computed, with the last hidden state as attachment. The asker says EXPECT before
 * it asks; the holder says OFFER when it accepts the ask and SEND for each run of blocks. Like the
 * engine there is a pure core (kvtransfer/core.h, driven by the simulator too) and a runtime that
 * puts the core on a thread of its own with its transports (kvtransfer/runtime.h).
 *
 * The promise that everything else rests on: after QUIESCED (or LANDED, or DRAINED, or SENT for the
 * blocks it names) nobody outside this process can write to (or read from) the blocks of that
 * transfer. Where that could not be made sure in time the event is QUARANTINED, and the blocks are
 * never used again.
 *
 *   EXPECT    is answered by ARRIVING? FAILED? and exactly one of LANDED, QUIESCED, QUARANTINED.
 *   OFFER     is answered by SENT* FAILED? and exactly one of DRAINED, QUARANTINED. The SENTs of a
 *             transfer come in any order.
 *   PEER_ADD  is answered by PEER_UP? and exactly one PEER_LOST (at the latest after PEER_DROP).
 *
 * The exactly-one event is the last one of its object, and the core has forgotten the object by
 * then. A command for an object that the core does not know (it crossed with the last event) is
 * counted and dropped; a SEND never brings a transfer back to life. FAILED means: it will not
 * succeed, and the core is stopping it already; the owner need not answer.
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

#define KVT_TRANSPORT_NAME_BYTES 8

/* One block of a transfer. The ordinal is its index in the whole transfer. */
struct kvt_block {
    struct td_u128 key;
    struct td_u128
        hash;      /* sender: content hash, zero: computed when it is sent; receiver: unused */
    uint32_t slot; /* local slot index */
};

enum kvt_command_kind {
    KVT_PEER_ADD = 1, /* connect to a peer incarnation */
    KVT_PEER_DROP,    /* forget it; its transfers fail */
    KVT_EXPECT,       /* receiver: these blocks will come */
    KVT_ABANDON,      /* receiver: accept nothing more; QUIESCED when nobody writes any more */
    KVT_OFFER,        /* sender: so much will be sent, in one or more SENDs */
    KVT_SEND,         /* sender: send the next run of blocks */
    KVT_STOP,         /* sender: drop what is queued; DRAINED when nobody reads any more */
};

struct kvt_command {
    enum kvt_command_kind kind;
    struct td_u128 transfer; /* all but PEER_* */
    uint64_t peer;           /* epoch of the peer incarnation; all but ABANDON */
    union {
        struct {
            char transport[KVT_TRANSPORT_NAME_BYTES]; /* "ucx", "map", "loop" */
            uint8_t *address;                         /* moves to the core */
            size_t address_bytes;
        } peer_add;
        struct {
            uint8_t mac_key[TD_MAC_KEY_BYTES];
            struct kvt_block *blocks; /* moves to the core; NULL if block_count is 0 */
            uint32_t block_count;
            uint32_t attachment_bytes; /* exact size of the attachment that must come; 0: none */
            uint64_t deadline_ns;      /* FAILED with TIMEOUT after this unless landed */
        } expect;
        struct {
            uint8_t mac_key[TD_MAC_KEY_BYTES];
            uint32_t block_count;      /* in all SENDs together */
            uint32_t attachment_bytes; /* of the attachment that the last SEND brings; 0: none */
            uint64_t deadline_ns;      /* FAILED with TIMEOUT after this unless all was sent */
        } offer;
        struct {
            uint32_t first;           /* ordinal of blocks[0]: where the SEND before ended */
            struct kvt_block *blocks; /* moves to the core; NULL if block_count is 0 */
            uint32_t block_count;     /* 0 only together with an attachment */
            void *attachment;         /* moves to the core; NULL unless this is the last SEND */
            uint32_t attachment_bytes;
        } send;
    };
};

/* Frees what a command that was never given to a core owns (address, blocks, attachment). */
void kvt_command_fini(struct kvt_command *command);

enum kvt_event_kind {
    KVT_PEER_UP = 1, /* connected; lanes says how bytes travel */
    KVT_PEER_LOST,   /* the endpoint failed or was dropped; add the peer again to retry */
    KVT_ARRIVING,    /* receiver: the first chunk was accepted */
    KVT_LANDED,      /* receiver: all blocks and the attachment are here and verified */
    KVT_QUIESCED,    /* receiver: not landed, and nobody can write to the slots any more */
    KVT_SENT,        /* sender: blocks [first, first + count) have left; nobody reads them */
    KVT_DRAINED,     /* sender: nothing is in flight, and nothing will be; OK: all was sent */
    KVT_FAILED,      /* either: it will not succeed; QUIESCED or DRAINED follows */
    KVT_QUARANTINED, /* either: quiescence could not be reached in time */
};

struct kvt_event {
    enum kvt_event_kind kind;
    struct td_u128 transfer; /* all but PEER_* */
    uint64_t peer;
    bool is_sender;     /* which side of the transfer speaks, for the events that both have */
    td_status_t status; /* why: PEER_LOST, FAILED, QUIESCED, DRAINED, QUARANTINED */
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

/* Frees the arrays that an event owns. The receiver of an event calls it once. */
void kvt_event_fini(struct kvt_event *event);

/* Receives events on the thread that owns the core; arrays move to the sink. It must not call the core. */
struct kvt_sink {
    void *impl;
    void (*emit)(void *impl, struct kvt_event *event);
};

#endif
