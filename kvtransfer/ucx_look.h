/*
 * ucx_look.h: what the UCX that this process has loaded can do on this host.
 *
 * For those who check a machine. UCX is not of use after a fork: look in a process that ends then.
 */
#ifndef TANDEM_KVTRANSFER_UCX_LOOK_H
#define TANDEM_KVTRANSFER_UCX_LOOK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/status.h"

#define KVT_UCX_LANES_BYTES 192

struct kvt_ucx_facts {
    char version[32];
    bool is_new_enough; /* for the memory of GPUs */
    bool knows_cuda;    /* it was built with CUDA, and there is a driver */
    bool has_rdma;
    char lanes[KVT_UCX_LANES_BYTES]; /* "tcp/eth0 tcp/lo sysv posix": what this host offers */
};

/* kvt_ucx_prepare_process must have been called. TD_STATE: it was not; TD_UNSUPPORTED: UCX makes no context here. */
td_status_t kvt_ucx_look(struct kvt_ucx_facts *facts_out, struct td_error *error) TD_MUST_USE;

/* Reads the lanes out of what UCX prints about a context; those of memory alone without a device. Exposed for tests. */
void kvt_ucx_read_lanes(const char *text, struct kvt_ucx_facts *facts);

#endif
