/*
 * wire.h: the header that travels in front of every chunk of KV.
 *
 * Explicit little-endian, no struct is cast onto it:
 *
 *   magic u32, version u16, header_bytes u16, flags u32, block_count u32,
 *   sender_epoch u64, receiver_epoch u64, transfer u128, first u32, attachment_bytes u32,
 *   block_bytes u64, attachment_hash u128, block_count x { key u128, content hash u128 }, mac u128
 *
 * The MAC is SipHash-2-4-128 over everything before it, under the transfer's key, which only asker
 * and holder know: a header proves that the holder of this very transfer wrote it, and it binds each
 * content hash to its place. So a valid block in the wrong place is as wrong as a corrupt one.
 *
 * Decoding checks structure only; whether a chunk is the one that is expected is for incoming.c.
 */
#ifndef TANDEM_KVTRANSFER_WIRE_H
#define TANDEM_KVTRANSFER_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/hash.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

#define KVT_WIRE_FIXED_BYTES 80
#define KVT_WIRE_ENTRY_BYTES 32
#define KVT_WIRE_MAC_BYTES   16

/* 247: as many blocks as the smallest header limit of all transports has room for. */
#define KVT_CHUNK_BLOCKS_MAX \
    ((KVT_HEADER_BYTES_MAX - KVT_WIRE_FIXED_BYTES - KVT_WIRE_MAC_BYTES) / KVT_WIRE_ENTRY_BYTES)

/* One block of a chunk, as the header names it. */
struct kvt_wire_entry {
    struct td_u128 key;
    struct td_u128 hash;
};

struct kvt_header {
    uint64_t sender_epoch;
    uint64_t receiver_epoch;
    struct td_u128 transfer;
    bool is_last; /* with this chunk everything of the transfer has been sent */
    uint32_t first;
    uint32_t block_count;
    uint64_t block_bytes;
    uint32_t attachment_bytes;
    struct td_u128 attachment_hash;
    const uint8_t *entries; /* decoded: into the bytes it came from; read with kvt_header_entry */
};

static inline size_t kvt_header_bytes(uint32_t block_count)
{
    return KVT_WIRE_FIXED_BYTES + (size_t)block_count * KVT_WIRE_ENTRY_BYTES + KVT_WIRE_MAC_BYTES;
}

/*
 * Writes a header with its MAC and returns its length. The caller keeps the limits: at most
 * KVT_CHUNK_BLOCKS_MAX entries, and something to carry. header->entries is not used.
 */
size_t kvt_header_encode(const struct kvt_header *header, const struct kvt_wire_entry *entries,
                         const uint8_t mac_key[static TD_MAC_KEY_BYTES],
                         uint8_t out[static KVT_HEADER_BYTES_MAX]);

/*
 * Reads a header from outside. The result points into bytes.
 * TD_INVALID: not a header, or a field is out of range; TD_UNSUPPORTED: another version or flag.
 */
td_status_t kvt_header_decode(const uint8_t *bytes, size_t length,
                              struct kvt_header *header_out) TD_MUST_USE;

/* Whether the MAC of a header that was decoded from these bytes is right. Constant time in the MAC. */
bool kvt_header_is_authentic(const uint8_t *bytes, size_t length,
                             const uint8_t mac_key[static TD_MAC_KEY_BYTES]);

/* Entry number index of a decoded header. */
struct kvt_wire_entry kvt_header_entry(const struct kvt_header *header, uint32_t index);

/* KV and attachment bytes that follow the header, or false if the sum overflows. */
bool kvt_header_payload(const struct kvt_header *header, uint64_t *payload_bytes_out);

#endif
