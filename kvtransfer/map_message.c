/* map_message.c: encoding and checking of the map transport's messages, see map_message.h. */
#include "kvtransfer/map_message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/bytes.h"

#define MAP_MAGIC       UINT32_C(0x314d4b54) /* "TKM1" */
#define MAP_CHUNK_FIXED 24
#define MAP_PIECE_BYTES 16

_Static_assert(MAP_CHUNK_FIXED + KVT_HEADER_BYTES_MAX + MAP_PIECES_MAX * MAP_PIECE_BYTES +
                       KVT_ATTACHMENT_BYTES_MAX <=
                   200 * 1024,
               "a packet must fit into the default socket buffer of 208 KiB");

static struct td_writer begin(uint8_t *out, size_t capacity, enum map_kind kind)
{
    struct td_writer writer = td_writer_over(out, capacity);

    td_write_u32(&writer, MAP_MAGIC);
    td_write_u32(&writer, (uint32_t)kind);
    return writer;
}

/* A reader behind magic and kind; not ok unless both are right. */
static struct td_reader open_message(const uint8_t *bytes, size_t length, enum map_kind kind)
{
    struct td_reader reader = td_reader_over(bytes, length);

    if (map_message_kind(bytes, length) != (uint32_t)kind)
        reader.ok = false;
    else
        (void)td_read_u64(&reader);
    return reader;
}

uint32_t map_message_kind(const uint8_t *bytes, size_t length)
{
    struct td_reader reader = td_reader_over(bytes, length);
    uint32_t magic = td_read_u32(&reader);
    uint32_t kind = td_read_u32(&reader);

    return reader.ok && magic == MAP_MAGIC ? kind : 0;
}

size_t map_hello_encode(const struct map_hello *hello, uint8_t out[static MAP_SHORT_BYTES])
{
    struct td_writer writer = begin(out, MAP_SHORT_BYTES, hello->is_shared ? MAP_SHARE : MAP_HELLO);

    td_write_u128(&writer, hello->from);
    td_write_u128(&writer, hello->to);
    td_write_u64(&writer, hello->pool_bytes);
    if (hello->is_shared)
        td_write_bytes(&writer, hello->share, sizeof hello->share);
    assert(writer.ok);
    return (size_t)(writer.cursor - out);
}

bool map_hello_decode(const uint8_t *bytes, size_t length, struct map_hello *hello_out)
{
    bool is_shared = map_message_kind(bytes, length) == MAP_SHARE;
    struct td_reader reader = open_message(bytes, length, is_shared ? MAP_SHARE : MAP_HELLO);
    const uint8_t *share;

    hello_out->from = td_read_u128(&reader);
    hello_out->to = td_read_u128(&reader);
    hello_out->pool_bytes = td_read_u64(&reader);
    hello_out->is_shared = is_shared;
    share = is_shared ? td_read_bytes(&reader, KVT_SHARE_BYTES) : NULL;
    if (share != NULL && reader.ok)
        memcpy(hello_out->share, share, KVT_SHARE_BYTES);
    return reader.ok && td_reader_left(&reader) == 0;
}

size_t map_welcome_encode(uint8_t out[static MAP_SHORT_BYTES])
{
    struct td_writer writer = begin(out, MAP_SHORT_BYTES, MAP_WELCOME);

    return (size_t)(writer.cursor - out);
}

size_t map_done_encode(const struct map_done *done, uint8_t out[static MAP_SHORT_BYTES])
{
    struct td_writer writer = begin(out, MAP_SHORT_BYTES, MAP_DONE);

    td_write_u64(&writer, done->number);
    td_write_u32(&writer, done->is_refused ? 1 : 0);
    assert(writer.ok);
    return (size_t)(writer.cursor - out);
}

bool map_done_decode(const uint8_t *bytes, size_t length, struct map_done *done_out)
{
    struct td_reader reader = open_message(bytes, length, MAP_DONE);
    uint32_t refused;

    done_out->number = td_read_u64(&reader);
    refused = td_read_u32(&reader);
    done_out->is_refused = refused != 0;
    return reader.ok && td_reader_left(&reader) == 0 && refused <= 1;
}

/* ----------------------------------------------------------------------------------------- CHUNK */

static bool is_in_pool(const struct map_chunk_source *source, const struct kvt_piece *piece)
{
    uintptr_t base = (uintptr_t)piece->base;
    uintptr_t pool = (uintptr_t)source->pool;

    return base >= pool && base - pool <= source->pool_bytes &&
           piece->length <= source->pool_bytes - (base - pool);
}

static bool measure(const struct map_chunk_source *source, size_t *inlined_out)
{
    size_t inlined = 0;

    if (source->piece_count > MAP_PIECES_MAX || source->header_bytes > KVT_HEADER_BYTES_MAX)
        return false;
    for (size_t i = 0; i < source->piece_count; i++)
        if (!is_in_pool(source, &source->pieces[i]) &&
            !td_size_add(&inlined, source->pieces[i].length, 1))
            return false;
    *inlined_out = inlined;
    return inlined <= KVT_ATTACHMENT_BYTES_MAX;
}

static void write_pieces(struct td_writer *writer, const struct map_chunk_source *source)
{
    for (size_t i = 0; i < source->piece_count; i++) {
        const struct kvt_piece *piece = &source->pieces[i];

        td_write_u64(writer, is_in_pool(source, piece)
                                 ? (uint64_t)((const uint8_t *)piece->base - source->pool)
                                 : MAP_INLINE);
        td_write_u64(writer, piece->length);
    }
    for (size_t i = 0; i < source->piece_count; i++)
        if (!is_in_pool(source, &source->pieces[i]))
            td_write_bytes(writer, source->pieces[i].base, source->pieces[i].length);
}

td_status_t map_chunk_encode(const struct map_chunk_source *source, uint8_t **message_out,
                             size_t *length_out)
{
    struct td_writer writer;
    size_t inlined;
    size_t length;
    uint8_t *message;

    if (!measure(source, &inlined))
        return TD_LIMIT;
    length =
        MAP_CHUNK_FIXED + source->header_bytes + source->piece_count * MAP_PIECE_BYTES + inlined;
    message = malloc(length);
    if (message == NULL)
        return TD_NO_MEMORY;
    writer = begin(message, length, MAP_CHUNK);
    td_write_u64(&writer, source->number);
    td_write_u32(&writer, (uint32_t)source->header_bytes);
    td_write_u32(&writer, (uint32_t)source->piece_count);
    td_write_bytes(&writer, source->header, source->header_bytes);
    write_pieces(&writer, source);
    assert(writer.ok && writer.cursor == writer.end);
    *message_out = message;
    *length_out = length;
    return TD_OK;
}

struct map_piece map_chunk_piece(const struct map_chunk *chunk, uint32_t index)
{
    struct td_reader reader;
    struct map_piece piece;

    assert(index < chunk->piece_count);
    reader = td_reader_over(chunk->pieces + (size_t)index * MAP_PIECE_BYTES, MAP_PIECE_BYTES);
    piece.offset = td_read_u64(&reader);
    piece.length = td_read_u64(&reader);
    return piece;
}

static bool check_pieces(struct map_chunk *chunk, uint64_t pool_bytes)
{
    size_t inlined = 0;

    chunk->payload_bytes = 0;
    for (uint32_t i = 0; i < chunk->piece_count; i++) {
        struct map_piece piece = map_chunk_piece(chunk, i);

        if (piece.offset == MAP_INLINE) {
            if (piece.length > chunk->inlined_bytes - inlined)
                return false;
            inlined += (size_t)piece.length;
        } else if (piece.offset > pool_bytes || piece.length > pool_bytes - piece.offset) {
            return false;
        }
        if (__builtin_add_overflow(chunk->payload_bytes, piece.length, &chunk->payload_bytes))
            return false;
    }
    return inlined == chunk->inlined_bytes;
}

td_status_t map_chunk_decode(const uint8_t *bytes, size_t length, uint64_t pool_bytes,
                             struct map_chunk *chunk_out)
{
    struct td_reader reader = open_message(bytes, length, MAP_CHUNK);
    struct map_chunk chunk = {0};
    uint32_t header_bytes;

    chunk.number = td_read_u64(&reader);
    header_bytes = td_read_u32(&reader);
    chunk.piece_count = td_read_u32(&reader);
    if (!reader.ok || header_bytes > KVT_HEADER_BYTES_MAX || chunk.piece_count > MAP_PIECES_MAX)
        return TD_INVALID;
    chunk.header_bytes = header_bytes;
    chunk.header = td_read_bytes(&reader, header_bytes);
    chunk.pieces = td_read_bytes(&reader, (size_t)chunk.piece_count * MAP_PIECE_BYTES);
    if (!reader.ok)
        return TD_INVALID;
    chunk.inlined = reader.cursor;
    chunk.inlined_bytes = td_reader_left(&reader);
    if (chunk.inlined_bytes > KVT_ATTACHMENT_BYTES_MAX || !check_pieces(&chunk, pool_bytes))
        return TD_INVALID;
    *chunk_out = chunk;
    return TD_OK;
}
