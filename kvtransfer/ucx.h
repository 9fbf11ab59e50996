/*
 * ucx.h: the UCX transport: active messages over shared memory and TCP, or out of a GPU's memory into another's.
 *
 * UCX is used with AM and WAKEUP only. RMA is never asked for: UCX's software put writes to whatever
 * address a packet names. Payloads travel as rendezvous active messages into scattered pieces, so that
 * only this process's own progress ever writes into its pool. Every endpoint has error handling
 * mode PEER. docs/kvtransfer.md says what was measured about failures.
 */
#ifndef TANDEM_KVTRANSFER_UCX_H
#define TANDEM_KVTRANSFER_UCX_H

#include <stdbool.h>
#include <stdint.h>

#include "kvtransfer/transport.h"
#include "lib/base/status.h"

struct kvt_ucx_config {
    bool shm;           /* shared memory to peers on this host */
    bool tcp;           /* TCP, through the interface only */
    char interface[64]; /* network devices, comma-separated: "lo", "eth0"; needed with tcp */
    uint32_t keepalive_ms;
};

/* Shared memory and TCP over lo, keep-alive every 2 s. */
struct kvt_ucx_config kvt_ucx_config_default(void);

/*
 * Prepares the process for UCX: sets environment variables (those of UCX's settings that only its
 * environment reaches), routes its log into ours, and takes back the signals it handles. main calls it
 * once, before it starts any thread. kvt_ucx_open refuses to work without it.
 */
td_status_t kvt_ucx_prepare_process(void) TD_MUST_USE;

/*
 * Opens the transport named "ucx", on the thread that will own it.
 * TD_INVALID: neither shm nor tcp, or tcp without interface; TD_STATE: the process was not prepared;
 * TD_UNSUPPORTED: UCX does not offer what was asked for.
 */
td_status_t kvt_ucx_open(const struct kvt_ucx_config *config, struct kvt_transport **transport_out,
                         struct td_error *error) TD_MUST_USE;

/*
 * The same for a pool in the memory of a device, which outlives the transport: block by block, by lanes that read a GPU's memory without
 * the host (RDMA, CUDA IPC). A peer to which there is none is lost with TD_UNSUPPORTED: nothing ever goes through the
 * host's memory here. Needs UCX 1.20 or newer, built with CUDA. TD_UNSUPPORTED: what was found is not that, or there is no such
 * lane on this host.
 */
td_status_t kvt_ucx_open_direct(const struct kvt_ucx_config *config,
                                const struct kvt_memory *memory, size_t block_bytes,
                                struct kvt_transport **transport_out,
                                struct td_error *error) TD_MUST_USE;

#endif
