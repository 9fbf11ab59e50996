/*
 * nccl_cuts.h: the stretches of memory in which NCCL carries a chunk: the same at both ends. Not for use elsewhere.
 *
 * Sender and receiver each hold a chunk in pieces of their own, since neighbouring blocks are one piece. What one sends
 * the other must receive with the same lengths, so the receiver cuts at every border of either list, and says the
 * lengths in its ACCEPT; the sender checks that none crosses a border of its own.
 */
#ifndef TANDEM_KVTRANSFER_NCCL_CUTS_H
#define TANDEM_KVTRANSFER_NCCL_CUTS_H

#include <stddef.h>

#include "kvtransfer/nccl_message.h"
#include "kvtransfer/transport.h"
#include "lib/base/status.h"

struct nccl_cuts {
    size_t count;
    struct kvt_piece pieces[NCCL_CUTS_MAX]; /* in the pool of this side */
};

/*
 * The receiver's: where the stretches that NCCL carries go; what came inside the message is copied to its place.
 * TD_INVALID: the pieces are not as long as the payload; TD_UNSUPPORTED: what is in a pool at one end is not at the other;
 * TD_LIMIT: too many pieces. With these nothing is to be received.
 */
td_status_t nccl_cuts_for_receive(const struct nccl_chunk *chunk, const struct kvt_memory *pool,
                                  const struct kvt_piece *to, size_t to_count,
                                  struct nccl_cuts *cuts_out) TD_MUST_USE;

/* The sender's, as the peer has accepted them. TD_INVALID: they are not these pieces. */
td_status_t nccl_cuts_for_send(const struct nccl_accept *accept, const struct kvt_piece *pieces,
                               size_t piece_count, struct nccl_cuts *cuts_out) TD_MUST_USE;

#endif
