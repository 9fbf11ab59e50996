/* nccl_cuts.c: see nccl_cuts.h. */
#include "kvtransfer/nccl_cuts.h"

#include <string.h>

#include "kvtransfer/memory.h"

/* Where a walk over both lists is. */
struct walk {
    const struct nccl_chunk *chunk;
    uint32_t from_index;
    uint64_t from_done; /* of that piece */
    const struct kvt_piece *to;
    size_t to_count;
    size_t to_index;
    size_t to_done;
    const uint8_t *inlined;
};

/* The next stretch that is whole in both lists, and what is behind it at the sender; false: one of them is at its end. */
static bool next_stretch(struct walk *walk, enum nccl_place *place_out, const uint8_t **inlined_out,
                         struct kvt_piece *to_out)
{
    const struct kvt_piece *to;
    struct nccl_piece from;
    uint64_t from_left;
    size_t length;

    if (walk->from_index == walk->chunk->piece_count || walk->to_index == walk->to_count)
        return false;
    from = nccl_chunk_piece(walk->chunk, walk->from_index);
    to = &walk->to[walk->to_index];
    from_left = from.length - walk->from_done;
    length = to->length - walk->to_done;
    if (length > from_left)
        length = (size_t)from_left;
    *place_out = from.place;
    *inlined_out = walk->inlined;
    *to_out = (struct kvt_piece){(uint8_t *)to->base + walk->to_done, length};
    if (from.place == NCCL_INLINE)
        walk->inlined += length;
    walk->from_done += length;
    walk->to_done += length;
    if (walk->from_done == from.length) {
        walk->from_index++;
        walk->from_done = 0;
    }
    if (walk->to_done == to->length) {
        walk->to_index++;
        walk->to_done = 0;
    }
    return true;
}

static bool is_at_both_ends(const struct walk *walk)
{
    return walk->from_index == walk->chunk->piece_count && walk->to_index == walk->to_count;
}

td_status_t nccl_cuts_for_receive(const struct nccl_chunk *chunk, const struct kvt_memory *pool,
                                  const struct kvt_piece *to, size_t to_count,
                                  struct nccl_cuts *cuts_out)
{
    struct walk walk = {.chunk = chunk, .to = to, .to_count = to_count, .inlined = chunk->inlined};
    const uint8_t *inlined;
    enum nccl_place place;
    struct kvt_piece stretch;

    if (to_count > NCCL_PIECES_MAX)
        return TD_LIMIT;
    cuts_out->count = 0;
    while (next_stretch(&walk, &place, &inlined, &stretch)) {
        bool is_in_pool = kvt_memory_contains(pool, stretch.base, stretch.length);

        if (stretch.length == 0) /* a piece of ours that is empty */
            continue;
        if (is_in_pool != (place == NCCL_IN_POOL))
            return TD_UNSUPPORTED;
        if (is_in_pool)
            cuts_out->pieces[cuts_out->count++] = stretch;
        else
            memcpy(stretch.base, inlined, stretch.length);
    }
    return is_at_both_ends(&walk) ? TD_OK : TD_INVALID;
}

td_status_t nccl_cuts_for_send(const struct nccl_accept *accept, const struct kvt_piece *pieces,
                               size_t piece_count, struct nccl_cuts *cuts_out)
{
    size_t index = 0;
    size_t done = 0;

    cuts_out->count = 0;
    for (uint32_t i = 0; i < accept->count; i++) {
        uint64_t length = nccl_accept_length(accept, i);

        if (index == piece_count || length > pieces[index].length - done)
            return TD_INVALID;
        cuts_out->pieces[cuts_out->count++] =
            (struct kvt_piece){(uint8_t *)pieces[index].base + done, (size_t)length};
        done += (size_t)length;
        if (done == pieces[index].length) {
            index++;
            done = 0;
        }
    }
    return index == piece_count ? TD_OK : TD_INVALID;
}
