/*
 * fuzz_kvt_header.c: chunk headers, address envelopes and map-transport messages from outside.
 *
 * What decodes must also encode again to the same bytes up to the MAC, and be within its limits.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/address.h"
#include "kvtransfer/map_message.h"
#include "kvtransfer/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_header(const uint8_t *data, size_t size)
{
    static const uint8_t key[TD_MAC_KEY_BYTES] = {1};
    struct kvt_wire_entry entries[KVT_CHUNK_BLOCKS_MAX];
    uint8_t again[KVT_HEADER_BYTES_MAX];
    struct kvt_header header;
    uint64_t payload;
    size_t length;

    (void)kvt_header_is_authentic(data, size, key);
    if (kvt_header_decode(data, size, &header) != TD_OK)
        return;
    assert(header.block_count <= KVT_CHUNK_BLOCKS_MAX);
    assert(header.block_count > 0 || header.attachment_bytes > 0);
    (void)kvt_header_payload(&header, &payload);
    for (uint32_t i = 0; i < header.block_count; i++)
        entries[i] = kvt_header_entry(&header, i);
    length = kvt_header_encode(&header, entries, key, again);
    assert(length == size);
    assert(memcmp(again, data, size - KVT_WIRE_MAC_BYTES) == 0);
    assert(kvt_header_is_authentic(again, length, key));
}

static void try_address(const uint8_t *data, size_t size)
{
    uint8_t again[KVT_ADDRESS_BYTES_MAX];
    const uint8_t *body;
    size_t body_bytes;
    size_t length;

    if (kvt_address_unwrap("map", data, size, &body, &body_bytes) != TD_OK)
        return;
    assert(kvt_address_wrap("map", body, body_bytes, again, sizeof again, &length) == TD_OK);
    assert(length == size && memcmp(again, data, size) == 0);
}

/* The pool of an imagined sender: places must lie inside it. */
#define POOL_BYTES ((size_t)1 << 16)

static void try_map_chunk(const uint8_t *data, size_t size)
{
    static uint8_t pool[POOL_BYTES];
    struct kvt_piece pieces[MAP_PIECES_MAX];
    struct map_chunk chunk;
    struct map_chunk_source source;
    const uint8_t *inlined;
    uint8_t *again;
    size_t length;

    if (map_chunk_decode(data, size, POOL_BYTES, &chunk) != TD_OK)
        return;
    inlined = chunk.inlined;
    for (uint32_t i = 0; i < chunk.piece_count; i++) {
        struct map_piece piece = map_chunk_piece(&chunk, i);
        bool is_inline = piece.offset == MAP_INLINE;

        assert(is_inline ||
               (piece.offset <= POOL_BYTES && piece.length <= POOL_BYTES - piece.offset));
        pieces[i].length = (size_t)piece.length;
        pieces[i].base = is_inline ? (void *)(uintptr_t)inlined : pool + piece.offset;
        inlined += is_inline ? piece.length : 0;
    }
    assert(inlined == data + size);
    source = (struct map_chunk_source){.number = chunk.number,
                                       .header = chunk.header,
                                       .header_bytes = chunk.header_bytes,
                                       .pieces = pieces,
                                       .piece_count = chunk.piece_count,
                                       .pool = pool,
                                       .pool_bytes = POOL_BYTES};
    assert(map_chunk_encode(&source, &again, &length) == TD_OK);
    assert(length == size && memcmp(again, data, size) == 0);
    free(again);
}

static void try_map_short(const uint8_t *data, size_t size)
{
    uint8_t again[MAP_SHORT_BYTES];
    struct map_hello hello;
    struct map_done done;

    if (map_hello_decode(data, size, &hello)) {
        assert(map_hello_encode(&hello, again) == size);
        assert(memcmp(again, data, size) == 0);
    }
    if (map_done_decode(data, size, &done)) {
        assert(map_done_encode(&done, again) == size);
        assert(memcmp(again, data, size) == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    try_header(data, size);
    try_address(data, size);
    try_map_chunk(data, size);
    try_map_short(data, size);
    return 0;
}
