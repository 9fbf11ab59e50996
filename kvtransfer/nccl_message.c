/* nccl_message.c: see nccl_message.h. */
#include "kvtransfer/nccl_message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/memory.h"
#include "lib/base/bytes.h"

#define NCCL_MAGIC UINT32_C(0x314e4b54) /* "TKN1" */

/* ----------------------------------------------------------------------------------------- frames */

/* The shortest and the longest body of a kind; false: there is no such kind. */
static bool body_limits(uint32_t kind, size_t *min_out, size_t *max_out)
{
    *min_out = 0;
    *max_out = 0;
    switch (kind) {
    case NCCL_HELLO: *min_out = *max_out = NCCL_HELLO_BYTES; return true;
    case NCCL_READY: return true;
    case NCCL_REFUSE: *min_out = *max_out = NCCL_REFUSE_BYTES; return true;
    case NCCL_ACCEPT:
        *min_out = NCCL_ACCEPT_FIXED;
        *max_out = NCCL_ACCEPT_FIXED + NCCL_CUTS_MAX * sizeof(uint64_t);
        return true;
    case NCCL_CHUNK:
        *min_out = NCCL_CHUNK_FIXED;
        *max_out = NCCL_BODY_MAX;
        return true;
    default: return false;
    }
}

td_status_t nccl_frame_decode(const uint8_t frame[static NCCL_FRAME_BYTES],
                              enum nccl_kind *kind_out, size_t *body_bytes_out)
{
    struct td_reader reader = td_reader_over(frame, NCCL_FRAME_BYTES);
    uint32_t magic = td_read_u32(&reader);
    uint32_t kind = td_read_u32(&reader);
    uint32_t body_bytes = td_read_u32(&reader);
    size_t min;
    size_t max;

    if (magic != NCCL_MAGIC || !body_limits(kind, &min, &max) || body_bytes < min ||
        body_bytes > max)
        return TD_INVALID;
    *kind_out = (enum nccl_kind)kind;
    *body_bytes_out = body_bytes;
    return TD_OK;
}

/* Room for a message, with its frame written; bytes NULL: no memory. */
static struct td_writer begin(enum nccl_kind kind, size_t body_bytes, struct nccl_packet *packet)
{
    struct td_writer writer;

    packet->length = NCCL_FRAME_BYTES + body_bytes;
    packet->bytes = malloc(packet->length);
    writer = td_writer_over(packet->bytes, packet->bytes != NULL ? packet->length : 0);
    td_write_u32(&writer, NCCL_MAGIC);
    td_write_u32(&writer, (uint32_t)kind);
    td_write_u32(&writer, (uint32_t)body_bytes);
    return writer;
}

static td_status_t finish(const struct td_writer *writer, const struct nccl_packet *packet,
                          struct nccl_packet *packet_out)
{
    if (packet->bytes == NULL)
        return TD_NO_MEMORY;
    assert(writer->ok && writer->cursor == writer->end);
    *packet_out = *packet;
    return TD_OK;
}

/* --------------------------------------------------------------------------------- short messages */

td_status_t nccl_hello_encode(const struct nccl_hello *hello, struct nccl_packet *packet_out)
{
    struct nccl_packet packet;
    struct td_writer writer = begin(NCCL_HELLO, NCCL_HELLO_BYTES, &packet);

    td_write_u128(&writer, hello->from);
    td_write_u128(&writer, hello->to);
    td_write_u32(&writer, hello->version);
    td_write_bytes(&writer, hello->id.bytes, sizeof hello->id.bytes);
    return finish(&writer, &packet, packet_out);
}

bool nccl_hello_decode(const uint8_t *body, size_t length, struct nccl_hello *hello_out)
{
    struct td_reader reader = td_reader_over(body, length);
    const uint8_t *id;

    hello_out->from = td_read_u128(&reader);
    hello_out->to = td_read_u128(&reader);
    hello_out->version = td_read_u32(&reader);
    id = td_read_bytes(&reader, NCCL_UNIQUE_ID_BYTES);
    if (id != NULL)
        memcpy(hello_out->id.bytes, id, NCCL_UNIQUE_ID_BYTES);
    return reader.ok && td_reader_left(&reader) == 0;
}

td_status_t nccl_ready_encode(struct nccl_packet *packet_out)
{
    struct nccl_packet packet;
    struct td_writer writer = begin(NCCL_READY, 0, &packet);

    return finish(&writer, &packet, packet_out);
}

td_status_t nccl_refuse_encode(uint64_t number, struct nccl_packet *packet_out)
{
    struct nccl_packet packet;
    struct td_writer writer = begin(NCCL_REFUSE, NCCL_REFUSE_BYTES, &packet);

    td_write_u64(&writer, number);
    return finish(&writer, &packet, packet_out);
}

bool nccl_refuse_decode(const uint8_t *body, size_t length, uint64_t *number_out)
{
    struct td_reader reader = td_reader_over(body, length);

    *number_out = td_read_u64(&reader);
    return reader.ok && td_reader_left(&reader) == 0;
}

td_status_t nccl_accept_encode(uint64_t number, const struct kvt_piece *cuts, size_t count,
                               struct nccl_packet *packet_out)
{
    struct nccl_packet packet;
    struct td_writer writer =
        begin(NCCL_ACCEPT, NCCL_ACCEPT_FIXED + count * sizeof(uint64_t), &packet);

    assert(count <= NCCL_CUTS_MAX);
    td_write_u64(&writer, number);
    td_write_u32(&writer, (uint32_t)count);
    for (size_t i = 0; i < count; i++)
        td_write_u64(&writer, cuts[i].length);
    return finish(&writer, &packet, packet_out);
}

uint64_t nccl_accept_length(const struct nccl_accept *accept, uint32_t index)
{
    struct td_reader reader;

    assert(index < accept->count);
    reader = td_reader_over(accept->lengths + (size_t)index * sizeof(uint64_t), sizeof(uint64_t));
    return td_read_u64(&reader);
}

bool nccl_accept_decode(const uint8_t *body, size_t length, struct nccl_accept *accept_out)
{
    struct td_reader reader = td_reader_over(body, length);

    accept_out->number = td_read_u64(&reader);
    accept_out->count = td_read_u32(&reader);
    if (!reader.ok || accept_out->count > NCCL_CUTS_MAX)
        return false;
    accept_out->lengths = td_read_bytes(&reader, (size_t)accept_out->count * sizeof(uint64_t));
    if (!reader.ok || td_reader_left(&reader) != 0)
        return false;
    for (uint32_t i = 0; i < accept_out->count; i++)
        if (nccl_accept_length(accept_out, i) == 0)
            return false;
    return true;
}

/* ----------------------------------------------------------------------------------------- CHUNK */

static bool measure(const struct nccl_chunk_source *source, size_t *inlined_out)
{
    size_t inlined = 0;

    if (source->piece_count > NCCL_PIECES_MAX || source->header_bytes > KVT_HEADER_BYTES_MAX)
        return false;
    for (size_t i = 0; i < source->piece_count; i++) {
        const struct kvt_piece *piece = &source->pieces[i];

        if (piece->length == 0)
            return false;
        if (!kvt_memory_contains(source->pool, piece->base, piece->length) &&
            !td_size_add(&inlined, piece->length, 1))
            return false;
    }
    *inlined_out = inlined;
    return inlined <= KVT_ATTACHMENT_BYTES_MAX;
}

static void write_pieces(struct td_writer *writer, const struct nccl_chunk_source *source)
{
    for (size_t i = 0; i < source->piece_count; i++) {
        const struct kvt_piece *piece = &source->pieces[i];

        td_write_u32(writer, kvt_memory_contains(source->pool, piece->base, piece->length)
                                 ? NCCL_IN_POOL
                                 : NCCL_INLINE);
        td_write_u64(writer, piece->length);
    }
    for (size_t i = 0; i < source->piece_count; i++) {
        const struct kvt_piece *piece = &source->pieces[i];

        if (!kvt_memory_contains(source->pool, piece->base, piece->length))
            td_write_bytes(writer, piece->base, piece->length);
    }
}

td_status_t nccl_chunk_encode(const struct nccl_chunk_source *source,
                              struct nccl_packet *packet_out)
{
    struct nccl_packet packet;
    struct td_writer writer;
    size_t inlined;

    if (!measure(source, &inlined))
        return TD_LIMIT;
    writer = begin(NCCL_CHUNK,
                   NCCL_CHUNK_FIXED + source->header_bytes +
                       source->piece_count * NCCL_PIECE_BYTES + inlined,
                   &packet);
    td_write_u64(&writer, source->number);
    td_write_u32(&writer, (uint32_t)source->header_bytes);
    td_write_u32(&writer, (uint32_t)source->piece_count);
    td_write_bytes(&writer, source->header, source->header_bytes);
    if (writer.ok)
        write_pieces(&writer, source);
    return finish(&writer, &packet, packet_out);
}

struct nccl_piece nccl_chunk_piece(const struct nccl_chunk *chunk, uint32_t index)
{
    struct td_reader reader;
    struct nccl_piece piece;

    assert(index < chunk->piece_count);
    reader = td_reader_over(chunk->pieces + (size_t)index * NCCL_PIECE_BYTES, NCCL_PIECE_BYTES);
    piece.place = (enum nccl_place)td_read_u32(&reader);
    piece.length = td_read_u64(&reader);
    return piece;
}

static bool check_pieces(struct nccl_chunk *chunk)
{
    uint64_t inlined = 0;

    chunk->payload_bytes = 0;
    for (uint32_t i = 0; i < chunk->piece_count; i++) {
        struct nccl_piece piece = nccl_chunk_piece(chunk, i);

        if ((piece.place != NCCL_IN_POOL && piece.place != NCCL_INLINE) || piece.length == 0 ||
            __builtin_add_overflow(chunk->payload_bytes, piece.length, &chunk->payload_bytes))
            return false;
        if (piece.place == NCCL_INLINE)
            inlined += piece.length; /* no more than the sum above, which has not overflowed */
    }
    return inlined == chunk->inlined_bytes;
}

bool nccl_chunk_decode(const uint8_t *body, size_t length, struct nccl_chunk *chunk_out)
{
    struct td_reader reader = td_reader_over(body, length);
    struct nccl_chunk chunk = {0};
    uint32_t header_bytes;

    chunk.number = td_read_u64(&reader);
    header_bytes = td_read_u32(&reader);
    chunk.piece_count = td_read_u32(&reader);
    if (!reader.ok || header_bytes > KVT_HEADER_BYTES_MAX || chunk.piece_count > NCCL_PIECES_MAX)
        return false;
    chunk.header_bytes = header_bytes;
    chunk.header = td_read_bytes(&reader, header_bytes);
    chunk.pieces = td_read_bytes(&reader, (size_t)chunk.piece_count * NCCL_PIECE_BYTES);
    if (!reader.ok)
        return false;
    chunk.inlined = reader.cursor;
    chunk.inlined_bytes = td_reader_left(&reader);
    if (chunk.inlined_bytes > KVT_ATTACHMENT_BYTES_MAX || !check_pieces(&chunk))
        return false;
    *chunk_out = chunk;
    return true;
}
