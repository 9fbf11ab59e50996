/*
 * nccl_message.h: what the two ends of a connection of the NCCL transport say beside NCCL. Not for use elsewhere (but by
 * the fuzz target).
 *
 *   frame    magic u32, kind u32, body_bytes u32
 *   HELLO    from u128, to u128, version u32, id 128 bytes   sender: who it is, and the communicator to join
 *   READY    nothing                                         receiver: joined
 *   CHUNK    number u64, header_bytes u32, piece_count u32, header,
 *            piece_count x { place u32, length u64 }, inline bytes
 *   ACCEPT   number u64, count u32, count x length u64       receiver: it waits for exactly these stretches
 *   REFUSE   number u64
 *
 * Chunks are carried in the order of their ACCEPTs, which both ends know. Little-endian.
 */
#ifndef TANDEM_KVTRANSFER_NCCL_MESSAGE_H
#define TANDEM_KVTRANSFER_NCCL_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/nccl_library.h"
#include "kvtransfer/transport.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

#define NCCL_FRAME_BYTES  12
#define NCCL_PIECES_MAX   256
#define NCCL_CUTS_MAX     (2 * NCCL_PIECES_MAX) /* as many as two lists of pieces can need */
#define NCCL_HELLO_BYTES  (36 + NCCL_UNIQUE_ID_BYTES)
#define NCCL_CHUNK_FIXED  16
#define NCCL_PIECE_BYTES  12
#define NCCL_ACCEPT_FIXED 12
#define NCCL_REFUSE_BYTES 8
#define NCCL_BODY_MAX                                                               \
    (NCCL_CHUNK_FIXED + KVT_HEADER_BYTES_MAX + NCCL_PIECES_MAX * NCCL_PIECE_BYTES + \
     KVT_ATTACHMENT_BYTES_MAX)

enum nccl_kind {
    NCCL_HELLO = 1,
    NCCL_READY,
    NCCL_CHUNK,
    NCCL_ACCEPT,
    NCCL_REFUSE,
};

/* Where a piece is: in the sender's pool, so that NCCL carries it, or behind the pieces of the message. */
enum nccl_place { NCCL_IN_POOL = 0, NCCL_INLINE = 1 };

struct nccl_hello {
    struct td_u128 from; /* tokens of the two transports */
    struct td_u128 to;
    uint32_t version; /* of the library: both must have the same */
    struct nccl_unique_id id;
};

struct nccl_piece {
    enum nccl_place place;
    uint64_t length; /* not 0 */
};

/* A decoded CHUNK; points into its body. */
struct nccl_chunk {
    uint64_t number;
    const uint8_t *header;
    size_t header_bytes;
    const uint8_t *pieces; /* read with nccl_chunk_piece */
    uint32_t piece_count;
    const uint8_t *inlined;
    size_t inlined_bytes;
    uint64_t payload_bytes; /* of all pieces */
};

/* A decoded ACCEPT. */
struct nccl_accept {
    uint64_t number;
    const uint8_t *lengths; /* read with nccl_accept_length */
    uint32_t count;
};

/* A whole message, in malloc memory. */
struct nccl_packet {
    uint8_t *bytes;
    size_t length;
};

/* Reads a frame. TD_INVALID: no message of ours, or its body cannot have that size. */
td_status_t nccl_frame_decode(const uint8_t frame[static NCCL_FRAME_BYTES],
                              enum nccl_kind *kind_out, size_t *body_bytes_out) TD_MUST_USE;

/* Encoders. TD_NO_MEMORY; of a chunk also TD_LIMIT: too many pieces, or too much that is not in the pool. */
td_status_t nccl_hello_encode(const struct nccl_hello *hello,
                              struct nccl_packet *packet_out) TD_MUST_USE;
td_status_t nccl_ready_encode(struct nccl_packet *packet_out) TD_MUST_USE;
td_status_t nccl_refuse_encode(uint64_t number, struct nccl_packet *packet_out) TD_MUST_USE;
td_status_t nccl_accept_encode(uint64_t number, const struct kvt_piece *cuts, size_t count,
                               struct nccl_packet *packet_out) TD_MUST_USE;

struct nccl_chunk_source {
    uint64_t number;
    const uint8_t *header;
    size_t header_bytes;
    const struct kvt_piece *pieces;
    size_t piece_count;
    const struct kvt_memory *pool;
};
td_status_t nccl_chunk_encode(const struct nccl_chunk_source *source,
                              struct nccl_packet *packet_out) TD_MUST_USE;

/* Decoders of bodies from outside. false: malformed. */
bool nccl_hello_decode(const uint8_t *body, size_t length, struct nccl_hello *hello_out);
bool nccl_refuse_decode(const uint8_t *body, size_t length, uint64_t *number_out);
bool nccl_accept_decode(const uint8_t *body, size_t length, struct nccl_accept *accept_out);
bool nccl_chunk_decode(const uint8_t *body, size_t length, struct nccl_chunk *chunk_out);

struct nccl_piece nccl_chunk_piece(const struct nccl_chunk *chunk, uint32_t index);
uint64_t nccl_accept_length(const struct nccl_accept *accept, uint32_t index); /* not 0 */

#endif
