/*
 * fuzz_kvt_nccl.c: messages of the NCCL transport from outside.
 *
 * What decodes must encode again to the same bytes. A chunk is also received into pieces with borders of their own, and
 * the sender must agree with the stretches that come of it.
 */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/nccl_cuts.h"
#include "kvtransfer/nccl_message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define POOL_BYTES ((size_t)1 << 16)

static uint8_t pool[POOL_BYTES];
static const struct kvt_memory memory = {.base = pool, .bytes = POOL_BYTES, .fd = -1};

static void expect_same(td_status_t status, struct nccl_packet packet, const uint8_t *data,
                        size_t size)
{
    assert(status == TD_OK);
    assert(packet.length == size && memcmp(packet.bytes, data, size) == 0);
    free(packet.bytes);
}

/* The stretches of a receive cover the payload, and are within the sender's pieces. */
static void try_cuts(const struct nccl_chunk *chunk, const struct kvt_piece *ours, size_t our_count)
{
    static uint8_t landing[KVT_ATTACHMENT_BYTES_MAX];
    static struct nccl_cuts cuts;
    static struct nccl_cuts agreed;
    size_t half = (size_t)(chunk->payload_bytes - chunk->inlined_bytes) / 2;
    struct kvt_piece to[3] = {
        {pool, half},
        {pool + half, (size_t)(chunk->payload_bytes - chunk->inlined_bytes) - half},
        {landing, chunk->inlined_bytes}};
    struct nccl_packet packet;
    struct nccl_accept accept;
    size_t to_count = chunk->inlined_bytes > 0 ? 3 : 2;

    if (half == 0 || nccl_cuts_for_receive(chunk, &memory, to, to_count, &cuts) != TD_OK)
        return; /* what is inline lies between what is not */
    assert(chunk->inlined_bytes == 0 || memcmp(landing, chunk->inlined, chunk->inlined_bytes) == 0);
    assert(nccl_accept_encode(chunk->number, cuts.pieces, cuts.count, &packet) == TD_OK);
    assert(nccl_accept_decode(packet.bytes + NCCL_FRAME_BYTES, packet.length - NCCL_FRAME_BYTES,
                              &accept));
    assert(nccl_cuts_for_send(&accept, ours, our_count, &agreed) == TD_OK);
    assert(agreed.count == cuts.count);
    for (size_t i = 0; i < cuts.count; i++)
        assert(agreed.pieces[i].length == cuts.pieces[i].length);
    free(packet.bytes);
}

static void try_chunk(const uint8_t *data, size_t size)
{
    struct kvt_piece pieces[NCCL_PIECES_MAX];
    struct kvt_piece ours[NCCL_PIECES_MAX];
    struct nccl_chunk_source source = {.pieces = pieces, .pool = &memory};
    struct nccl_packet packet;
    struct nccl_chunk chunk;
    const uint8_t *inlined;
    size_t our_count = 0;
    size_t at = 0;

    if (!nccl_chunk_decode(data + NCCL_FRAME_BYTES, size - NCCL_FRAME_BYTES, &chunk) ||
        chunk.payload_bytes - chunk.inlined_bytes > POOL_BYTES)
        return;
    inlined = chunk.inlined;
    for (uint32_t i = 0; i < chunk.piece_count; i++) {
        struct nccl_piece piece = nccl_chunk_piece(&chunk, i);

        pieces[i].length = (size_t)piece.length;
        if (piece.place == NCCL_INLINE) {
            pieces[i].base = (void *)(uintptr_t)inlined;
            inlined += piece.length;
        } else {
            pieces[i].base = pool + at;
            at += (size_t)piece.length;
            ours[our_count++] = pieces[i];
        }
    }
    assert(inlined == data + size);
    source.number = chunk.number;
    source.header = chunk.header;
    source.header_bytes = chunk.header_bytes;
    source.piece_count = chunk.piece_count;
    expect_same(nccl_chunk_encode(&source, &packet), packet, data, size);
    try_cuts(&chunk, ours, our_count);
}

static void try_accept(const uint8_t *data, size_t size)
{
    struct kvt_piece cuts[NCCL_CUTS_MAX];
    struct nccl_accept accept;
    struct nccl_packet packet;

    if (!nccl_accept_decode(data + NCCL_FRAME_BYTES, size - NCCL_FRAME_BYTES, &accept))
        return;
    for (uint32_t i = 0; i < accept.count; i++)
        cuts[i] = (struct kvt_piece){pool, (size_t)nccl_accept_length(&accept, i)};
    expect_same(nccl_accept_encode(accept.number, cuts, accept.count, &packet), packet, data, size);
    for (size_t count = 0; count < 3; count++) { /* pieces that have nothing to do with it */
        static const size_t lengths[] = {1, 4096, POOL_BYTES};
        struct kvt_piece others[3];
        static struct nccl_cuts agreed;

        for (size_t i = 0; i < count; i++)
            others[i] = (struct kvt_piece){pool, lengths[i]};
        if (nccl_cuts_for_send(&accept, others, count, &agreed) != TD_OK)
            continue;
        for (size_t i = 0; i < agreed.count; i++)
            assert(kvt_memory_contains(&memory, agreed.pieces[i].base, agreed.pieces[i].length));
    }
}

static void try_short(const uint8_t *data, size_t size)
{
    const uint8_t *body = data + NCCL_FRAME_BYTES;
    struct nccl_packet packet;
    struct nccl_hello hello;
    uint64_t number;

    if (nccl_hello_decode(body, size - NCCL_FRAME_BYTES, &hello))
        expect_same(nccl_hello_encode(&hello, &packet), packet, data, size);
    if (nccl_refuse_decode(body, size - NCCL_FRAME_BYTES, &number))
        expect_same(nccl_refuse_encode(number, &packet), packet, data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum nccl_kind kind;
    size_t body_bytes;
    struct nccl_packet packet;

    if (size < NCCL_FRAME_BYTES || nccl_frame_decode(data, &kind, &body_bytes) != TD_OK)
        return 0;
    assert(body_bytes <= NCCL_BODY_MAX);
    if (body_bytes != size - NCCL_FRAME_BYTES)
        return 0;
    switch (kind) {
    case NCCL_CHUNK: try_chunk(data, size); break;
    case NCCL_ACCEPT: try_accept(data, size); break;
    case NCCL_READY: expect_same(nccl_ready_encode(&packet), packet, data, size); break;
    case NCCL_HELLO:
    case NCCL_REFUSE: try_short(data, size); break;
    }
    return 0;
}
