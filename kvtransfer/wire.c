/* wire.c: encoding, decoding and authentication of chunk headers, see wire.h. */
#include "kvtransfer/wire.h"

#include <assert.h>

#include "lib/base/bytes.h"

#define WIRE_MAGIC     UINT32_C(0x31564b54) /* "TKV1" */
#define WIRE_VERSION   1
#define WIRE_FLAG_LAST UINT32_C(1)

_Static_assert(KVT_HEADER_BYTES_MAX <= UINT16_MAX, "header_bytes travels in 16 bits");

size_t kvt_header_encode(const struct kvt_header *header, const struct kvt_wire_entry *entries,
                         const uint8_t mac_key[static TD_MAC_KEY_BYTES],
                         uint8_t out[static KVT_HEADER_BYTES_MAX])
{
    struct td_writer writer = td_writer_over(out, KVT_HEADER_BYTES_MAX);
    size_t length = kvt_header_bytes(header->block_count);

    assert(header->block_count <= KVT_CHUNK_BLOCKS_MAX);
    assert(header->block_count > 0 || header->attachment_bytes > 0);
    td_write_u32(&writer, WIRE_MAGIC);
    td_write_u16(&writer, WIRE_VERSION);
    td_write_u16(&writer, (uint16_t)length);
    td_write_u32(&writer, header->is_last ? WIRE_FLAG_LAST : 0);
    td_write_u32(&writer, header->block_count);
    td_write_u64(&writer, header->sender_epoch);
    td_write_u64(&writer, header->receiver_epoch);
    td_write_u128(&writer, header->transfer);
    td_write_u32(&writer, header->first);
    td_write_u32(&writer, header->attachment_bytes);
    td_write_u64(&writer, header->block_bytes);
    td_write_u128(&writer, header->attachment_hash);
    for (uint32_t i = 0; i < header->block_count; i++) {
        td_write_u128(&writer, entries[i].key);
        td_write_u128(&writer, entries[i].hash);
    }
    td_write_u128(&writer, td_siphash128(mac_key, out, length - KVT_WIRE_MAC_BYTES));
    assert(writer.ok && (size_t)(writer.cursor - out) == length);
    return length;
}

static void read_fields(struct td_reader *reader, struct kvt_header *header)
{
    header->sender_epoch = td_read_u64(reader);
    header->receiver_epoch = td_read_u64(reader);
    header->transfer = td_read_u128(reader);
    header->first = td_read_u32(reader);
    header->attachment_bytes = td_read_u32(reader);
    header->block_bytes = td_read_u64(reader);
    header->attachment_hash = td_read_u128(reader);
    header->entries = reader->cursor;
}

td_status_t kvt_header_decode(const uint8_t *bytes, size_t length, struct kvt_header *header_out)
{
    struct td_reader reader = td_reader_over(bytes, length);
    struct kvt_header header = {0};
    uint32_t magic = td_read_u32(&reader);
    uint16_t version = td_read_u16(&reader);
    uint16_t header_bytes = td_read_u16(&reader);
    uint32_t flags = td_read_u32(&reader);
    uint32_t last_ordinal;

    if (!reader.ok || magic != WIRE_MAGIC)
        return TD_INVALID;
    if (version != WIRE_VERSION || (flags & ~WIRE_FLAG_LAST) != 0)
        return TD_UNSUPPORTED;
    header.is_last = (flags & WIRE_FLAG_LAST) != 0;
    header.block_count = td_read_u32(&reader);
    read_fields(&reader, &header);
    if (!reader.ok || header.block_count > KVT_CHUNK_BLOCKS_MAX || header_bytes != length ||
        length != kvt_header_bytes(header.block_count))
        return TD_INVALID;
    if (header.block_count == 0 && header.attachment_bytes == 0)
        return TD_INVALID;
    if (header.attachment_bytes > 0 && !header.is_last)
        return TD_INVALID; /* the attachment ends a transfer */
    if (__builtin_add_overflow(header.first, header.block_count, &last_ordinal))
        return TD_INVALID;
    *header_out = header;
    return TD_OK;
}

bool kvt_header_is_authentic(const uint8_t *bytes, size_t length,
                             const uint8_t mac_key[static TD_MAC_KEY_BYTES])
{
    struct td_reader reader;

    if (length < KVT_WIRE_MAC_BYTES)
        return false;
    reader = td_reader_over(bytes + length - KVT_WIRE_MAC_BYTES, KVT_WIRE_MAC_BYTES);
    return td_mac_equal(td_read_u128(&reader),
                        td_siphash128(mac_key, bytes, length - KVT_WIRE_MAC_BYTES));
}

struct kvt_wire_entry kvt_header_entry(const struct kvt_header *header, uint32_t index)
{
    struct td_reader reader;
    struct kvt_wire_entry entry;

    assert(index < header->block_count);
    reader = td_reader_over(header->entries + (size_t)index * KVT_WIRE_ENTRY_BYTES,
                            KVT_WIRE_ENTRY_BYTES);
    entry.key = td_read_u128(&reader);
    entry.hash = td_read_u128(&reader);
    return entry;
}

bool kvt_header_payload(const struct kvt_header *header, uint64_t *payload_bytes_out)
{
    uint64_t blocks;

    return !__builtin_mul_overflow(header->block_bytes, (uint64_t)header->block_count, &blocks) &&
           !__builtin_add_overflow(blocks, (uint64_t)header->attachment_bytes, payload_bytes_out);
}
