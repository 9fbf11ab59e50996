/*
 * map_message.h: the messages of the map transport. Not for use elsewhere (but by the fuzz target).
 *
 *   all      magic u32, kind u32
 *   HELLO    from u128, to u128, pool_bytes u64; the pool's descriptor comes along
 *   SHARE    the same for a pool in a device's memory, then the text that opens it (memory.h), and no descriptor
 *   WELCOME  nothing
 *   CHUNK    number u64, header_bytes u32, piece_count u32, header,
 *            piece_count x { offset u64, length u64 }, inline bytes
 *   DONE     number u64, refused u32
 *
 * A piece lies in the sender's pool, or, with offset MAP_INLINE, it is the next length bytes behind the
 * pieces. Little-endian; one message is one packet.
 */
#ifndef TANDEM_KVTRANSFER_MAP_MESSAGE_H
#define TANDEM_KVTRANSFER_MAP_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/transport.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

#define MAP_INLINE      UINT64_MAX
#define MAP_PIECES_MAX  256
#define MAP_MESSAGE_MAX (24 + KVT_HEADER_BYTES_MAX + MAP_PIECES_MAX * 16 + KVT_ATTACHMENT_BYTES_MAX)
#define MAP_SHORT_BYTES 176 /* the longest message but CHUNK */

enum map_kind {
    MAP_HELLO = 1,
    MAP_WELCOME,
    MAP_CHUNK,
    MAP_DONE,
    MAP_SHARE,
};

struct map_hello {
    struct td_u128 from; /* tokens of the two transports */
    struct td_u128 to;
    uint64_t pool_bytes;
    bool is_shared; /* SHARE */
    uint8_t share[KVT_SHARE_BYTES];
};

struct map_done {
    uint64_t number;
    bool is_refused;
};

struct map_piece {
    uint64_t offset;
    uint64_t length;
};

/* A decoded CHUNK; points into the message. */
struct map_chunk {
    uint64_t number;
    const uint8_t *header;
    size_t header_bytes;
    const uint8_t *pieces; /* read with map_chunk_piece */
    uint32_t piece_count;
    const uint8_t *inlined;
    size_t inlined_bytes;
    uint64_t payload_bytes;
};

/* The kind of a message, or 0 if it is none. */
uint32_t map_message_kind(const uint8_t *bytes, size_t length);

/* Encoders return the length. */
size_t map_hello_encode(const struct map_hello *hello, uint8_t out[static MAP_SHORT_BYTES]);
size_t map_welcome_encode(uint8_t out[static MAP_SHORT_BYTES]);
size_t map_done_encode(const struct map_done *done, uint8_t out[static MAP_SHORT_BYTES]);

/* false: malformed. Of HELLO and SHARE. */
bool map_hello_decode(const uint8_t *bytes, size_t length, struct map_hello *hello_out);
bool map_done_decode(const uint8_t *bytes, size_t length, struct map_done *done_out);

/*
 * Encodes a CHUNK into malloc memory. Pieces inside [pool, pool + pool_bytes) travel as places, others
 * inline. TD_LIMIT: too many pieces, or too much inline.
 */
struct map_chunk_source {
    uint64_t number;
    const uint8_t *header;
    size_t header_bytes;
    const struct kvt_piece *pieces;
    size_t piece_count;
    const uint8_t *pool;
    size_t pool_bytes;
};
td_status_t map_chunk_encode(const struct map_chunk_source *source, uint8_t **message_out,
                             size_t *length_out) TD_MUST_USE;

/*
 * Decodes and checks a CHUNK from outside: every piece lies inside a pool of pool_bytes or inside the
 * message, and nothing is left over. TD_INVALID otherwise.
 */
td_status_t map_chunk_decode(const uint8_t *bytes, size_t length, uint64_t pool_bytes,
                             struct map_chunk *chunk_out) TD_MUST_USE;

struct map_piece map_chunk_piece(const struct map_chunk *chunk, uint32_t index);

#endif
