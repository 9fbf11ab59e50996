/*
 * gpu_pool.h: memory of the double's GPU as a pool (stub_driver.h), for sites and tests.
 */
#ifndef TANDEM_TESTS_KVTRANSFER_GPU_POOL_H
#define TANDEM_TESTS_KVTRANSFER_GPU_POOL_H

#include <stddef.h>
#include <stdint.h>

#include "kvtransfer/cuda.h"
#include "kvtransfer/transport.h"
#include "tests/kvtransfer/stub_driver.h"

/* What only the double has. */
struct gpu_pool_double {
#define X(name, result, parameters) result(*name) parameters;
    STUB_DRIVER_FUNCTIONS(X)
#undef X
};
const struct gpu_pool_double *gpu_pool_double(void);

/* Fails the test if it cannot be opened. memory->device is there after this. */
void gpu_pool_open(size_t bytes, struct kvt_memory *memory_out);
void gpu_pool_close(struct kvt_memory *memory);

/* Memory alone; kvt_cuda_open is the test's to call. */
void *gpu_pool_take(size_t bytes);
void gpu_pool_give(void *memory);

void gpu_pool_write(void *to, const void *from, size_t bytes);
void gpu_pool_read(void *to, const void *from, size_t bytes);

#endif
