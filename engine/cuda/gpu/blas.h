/*
 * blas.h: products by cuBLASLt, which is looked for when it is wanted: no header, no link, no program that needs it.
 */
#ifndef TANDEM_ENGINE_CUDA_GPU_BLAS_H
#define TANDEM_ENGINE_CUDA_GPU_BLAS_H

#include "engine/cuda/device.h"

struct gpu_blas;
struct CUstream_st; /* what a cudaStream_t points to: nothing of the toolkit is needed here */

/*
 * For the GPU that is selected; workspace is its memory, the caller's, for one stream at a time. TD_NOT_FOUND: the library is not
 * there, TD_UNSUPPORTED: it lacks something; the text says what to do.
 */
td_status_t gpu_blas_open(void *workspace, size_t bytes, struct gpu_blas **blas_out,
                          struct td_error *error) TD_MUST_USE;
void gpu_blas_close(struct gpu_blas *blas); /* NULL: nothing */

/* Queues a product. */
td_status_t gpu_blas_multiply(struct gpu_blas *blas, const struct cuda_dense *dense,
                              struct CUstream_st *stream, struct td_error *error) TD_MUST_USE;

#endif
