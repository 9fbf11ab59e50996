/*
 * cuda.h: block pools in the memory of a GPU (memory.h), through NVIDIA's driver library, found at run time.
 *
 * The pool is one allocation of cudaMalloc, made by whoever owns the kernels. Copies run on streams of this room's, so
 * that they neither wait for the model's work nor stop it. A peer on this host opens the pool by CUDA's IPC handles
 * and reads from it; CUDA has no mappings that cannot be written to, so that nobody writes into a peer's pool is a
 * promise of this code alone.
 *
 * Has never run on a GPU: tested against a double of the driver library (tests/kvtransfer/stub_driver.c).
 */
#ifndef TANDEM_KVTRANSFER_CUDA_H
#define TANDEM_KVTRANSFER_CUDA_H

#include <stddef.h>

#include "kvtransfer/memory.h"
#include "lib/base/status.h"

/* Content hashes by a kernel of the pool's owner; called on the transfer thread. As kvt_device_ops.hash. */
struct kvt_hasher {
    void *impl;
    td_status_t (*hash)(void *impl, const void *const *blocks, size_t count, size_t block_bytes,
                        struct td_u128 *hashes_out);
};

struct kvt_cuda_config {
    const char *library;      /* path; NULL: libcuda.so.1 */
    void *pool;               /* memory of the GPU, the beginning of one allocation of cudaMalloc */
    size_t pool_bytes;        /* of it, at least */
    struct kvt_hasher hasher; /* hash NULL: blocks are copied to the host and hashed there */
};

/*
 * Opens the GPU that the pool lies in. The pool and the hasher must outlive it. Any thread may open and close; in
 * between it belongs to the transfer thread.
 * TD_NOT_FOUND: no driver or no GPU; TD_INVALID: the pool is not such memory; TD_UNSUPPORTED: a driver that is too
 * old.
 */
td_status_t kvt_cuda_open(const struct kvt_cuda_config *config, struct kvt_device **device_out,
                          struct td_error *error) TD_MUST_USE;

#endif
