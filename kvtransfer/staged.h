/*
 * staged.h: KV of a device through the host's memory: the last resort, counted and logged.
 *
 * A transport in front of another one (map or ucx) that knows only ordinary memory. What is sent is copied from the
 * device into pinned memory and sent from there; what arrives lands in pinned memory and is copied to the device. Both
 * copies are the owner's own, so nobody else ever touches the pool, and every promise about its blocks holds by
 * itself: a send has ended when its copy has and the inner transport is done; a receive when its copy has ended.
 *
 * Named "maphost" or "ucxhost"; its lanes say "through the host (...)".
 */
#ifndef TANDEM_KVTRANSFER_STAGED_H
#define TANDEM_KVTRANSFER_STAGED_H

#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/memory.h"
#include "kvtransfer/transport.h"
#include "kvtransfer/ucx.h"
#include "lib/base/status.h"

#define KVT_MAPHOST "maphost"
#define KVT_UCXHOST "ucxhost"

struct kvt_staged_config {
    struct kvt_memory memory; /* the pool; its device must be there */
    size_t
        chunk_bytes; /* of the chunks that are sent from here: the size of a piece of pinned memory */
    size_t pinned_bytes; /* about so much pinned memory; at least two chunks are taken */
    const struct kvt_ucx_config *ucx; /* through ucx; NULL: through map, to this host alone */
};

/*
 * Opens the transport, with its inner one, on the thread that will own it. TD_INVALID: a size; TD_NO_MEMORY; else the
 * failure of the inner transport.
 */
td_status_t kvt_staged_open(const struct kvt_staged_config *config,
                            struct kvt_transport **transport_out,
                            struct td_error *error) TD_MUST_USE;

#endif
