/*
 * cuda_ucx.h: UCX as if it had been built with CUDA, and this host had a card that reads GPUs, for tests that link cuda_ucx.c.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_CUDA_UCX_H
#define TANDEM_TESTS_KVTRANSFER_CUDA_UCX_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

struct cuda_ucx {
    unsigned minor;            /* of the version 1.x that it says it is */
    bool knows_cuda;           /* memory of GPUs is among what it says it can */
    bool can_register;         /* the pool */
    const char *way;           /* how it says that it would move a block */
    atomic_size_t pool_parts;  /* messages so far that were of a GPU's memory */
    atomic_size_t other_parts; /* and of the host's, of which the kind was named */
    atomic_size_t registered;  /* pools that are registered now */
};

/* Of this process; change it while no transport is open. Starts as one that can do everything. */
struct cuda_ucx *cuda_ucx(void);

#endif
