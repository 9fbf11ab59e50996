/*
 * gpu_double.h: the pool of an interpreted GPU for transfers (kvtransfer/memory.h): ordinary memory, whose copies have
 * ended when they are queued, and which another worker of this process can open.
 */
#ifndef TANDEM_TESTS_WORKER_GPU_DOUBLE_H
#define TANDEM_TESTS_WORKER_GPU_DOUBLE_H

#include "kvtransfer/cuda.h"

/* Whether devices that are opened from now on can open each other's pools. */
void gpu_double_reach(bool reach);

/* Whether pools can be made known to other processes at all. */
void gpu_double_share(bool can_share);
/* And whether those of others can be opened. */
void gpu_double_open_shared(bool can_open);

/* Whether who waits for the end of all copies of a queue waits on; false lets go of all that do. */
void gpu_double_hold_drains(bool are_held);

/* As kvt_cuda_open. */
td_status_t gpu_double_open(const struct kvt_cuda_config *config, struct kvt_device **device_out,
                            struct td_error *error);

#endif
