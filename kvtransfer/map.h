/*
 * map.h: the transport for two processes on one host: the receiver maps the sender's pool and copies.
 *
 * Each process listens on an abstract SOCK_SEQPACKET socket with a random name. An endpoint is a
 * connection to the peer's socket, and carries one direction: the sender greets with its pool's memfd
 * (read-only), the receiver maps it, chunks go there as lists of places in the pool, and "done" comes
 * back when the receiver has copied. One copy by the side that needs the data: it runs at the speed of
 * memcpy, also when the sender's processor is busy, and nobody ever writes into another's memory.
 *
 * Where the pools are in the memory of GPUs (memory.h) the greeting brings CUDA's handle instead of a memfd, and the
 * receiver's GPU copies, on a stream of its own. CUDA knows no read-only mappings: that nobody writes into a peer's
 * pool is then a matter of this code alone.
 *
 * Trust: only processes of the same user are talked to (SO_PEERCRED); the mapping must be sealed
 * against shrinking, so that reading it cannot fault; every place is checked against it. What is copied
 * is checked by the core's hashes, since the sender could change it at any time.
 */
#ifndef TANDEM_KVTRANSFER_MAP_H
#define TANDEM_KVTRANSFER_MAP_H

#include "kvtransfer/transport.h"
#include "lib/base/status.h"

/*
 * Opens the transport named "map" for a pool. memory->fd stays the caller's; it is sealed against
 * shrinking if it is not yet. memory->device outlives the transport, and so does its pool: closing waits for peers that
 * have a device's pool mapped, at most close_ms, which only peers that are frozen take.
 * TD_INVALID: the memory has neither memfd nor device; TD_UNSUPPORTED: it cannot be sealed, or there is no /proc; else
 * the failure of the device, which cannot share it.
 */
td_status_t kvt_map_open(const struct kvt_memory *memory, uint32_t close_ms,
                         struct kvt_transport **transport_out, struct td_error *error) TD_MUST_USE;

#endif
