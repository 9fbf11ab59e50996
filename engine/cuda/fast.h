/*
 * fast.h: the fast variant: products of many rows by a library (cuda_device_dense), for comparison with our own kernels.
 *
 * The library sums in an order that depends on how many rows there are, so results depend on the batch: another class of
 * numerics, and only where it was asked for. Its matrices are BF16 and lie by rows: a second copy of the weights, which costs as
 * much memory as they do.
 */
#ifndef TANDEM_ENGINE_CUDA_FAST_H
#define TANDEM_ENGINE_CUDA_FAST_H

#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/device.h"
#include "lib/base/status.h"
#include "model/model.h"

#define CUDA_FAST_ROWS_MIN        32 /* with fewer, our own kernels read the weights as fast as can be */
#define CUDA_FAST_WORKSPACE_BYTES ((size_t)32 << 20) /* the library's */

/* A matrix by rows, and what is added to each product; NULL: nothing. */
struct cuda_fast_matrix {
    const uint16_t *data;
    const float *bias;
    uint32_t rows;
    uint32_t columns;
};

struct cuda_fast_layer {
    struct cuda_fast_matrix q;
    struct cuda_fast_matrix k;
    struct cuda_fast_matrix v;
    struct cuda_fast_matrix attention_output;
    struct cuda_fast_matrix gate;
    struct cuda_fast_matrix up;
    struct cuda_fast_matrix down;
};

struct cuda_fast {
    uint8_t *memory; /* NULL: this is not the fast variant */
    struct cuda_fast_matrix output;
    struct cuda_fast_layer *layer; /* [layers] */
};

/* Bytes on the device. TD_UNSUPPORTED: a matrix is not BF16, and which; TD_LIMIT. */
td_status_t cuda_fast_bytes(const struct model *model, size_t *bytes_out,
                            struct td_error *error) TD_MUST_USE;

/* Finds the library and copies the weights. On failure nothing is kept. */
td_status_t cuda_fast_open(const struct model *model, struct cuda_device *device,
                           struct cuda_fast *fast_out, struct td_error *error) TD_MUST_USE;
void cuda_fast_close(struct cuda_fast *fast, struct cuda_device *device);

#endif
