/*
 * nccl.h: the NCCL transport: KV from GPU to GPU, between hosts too, for pairs that live long.
 *
 * For every direction of a pair there is one communicator of two ranks, made when the pair connects, and a control
 * connection over TCP that says what is to be carried (nccl_message.h). Nothing is sent before the receiver waits for
 * exactly that, in the order in which it has said so. docs/kvtransfer.md says what a failure costs.
 *
 * Has never run on a GPU: tested against doubles of NVIDIA's driver and of NCCL (tests/kvtransfer/stub_nccl.c).
 */
#ifndef TANDEM_KVTRANSFER_NCCL_H
#define TANDEM_KVTRANSFER_NCCL_H

#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/status.h"

#define KVT_NCCL "nccl"

struct kvt_nccl_config {
    const char *library;   /* path; NULL: libnccl.so.2 */
    const char *interface; /* of control connections, comma-separated: "lo", "eth0" */
    uint32_t
        close_ms; /* how long closing waits for NCCL before it gives communicators up; 0: 10 s */
};

/*
 * Opens the transport named "nccl", on the thread that will own it.
 * TD_INVALID: the pool is not a device's, or no interface of that name has an address; TD_NOT_FOUND: there is no NCCL;
 * TD_UNSUPPORTED: it is too old.
 */
td_status_t kvt_nccl_open(const struct kvt_memory *memory, const struct kvt_nccl_config *config,
                          struct kvt_transport **transport_out, struct td_error *error) TD_MUST_USE;

#endif
