/*
 * pack.h: matrices of model files in a device's memory, in the order that its kernels want (kernels/packed.h).
 *
 * The rows of a file go to the device as they are, some at a time, into a piece of memory of their own; a kernel puts them
 * in order. So the host only copies. A matrix without data (NULL) gets random weights, made on the device: for benchmarks
 * of models that no file is needed for. Matrices of F32, F16 and BF16 may be rounded to FP8, with a scale for each row.
 */
#ifndef TANDEM_ENGINE_CUDA_PACK_H
#define TANDEM_ENGINE_CUDA_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/device.h"
#include "engine/cuda/loader.h"
#include "lib/base/status.h"
#include "model/model.h"

#define CUDA_STAGING_BYTES ((size_t)16 << 20) /* more where 16 rows are longer */

/* What a matrix is made of: one of a file, or a gate and what belongs to it, of the same shape and type. */
struct cuda_pack_source {
    const struct model_matrix *matrix;
    const struct model_matrix *mate; /* NULL: none */
    uint32_t first_tile;             /* row of tiles where it begins in the packed matrix */
    uint64_t seed;                   /* of random weights */
    bool is_rounded;                 /* to FP8, unless the type has fewer bits or blocks already */
};

/* Whether two matrices can be packed as a pair. */
bool cuda_pack_can_pair(const struct model_matrix *gate, const struct model_matrix *up);

/* Whether a matrix can be packed behind others of so many rows in all, the first of which is given. */
bool cuda_pack_can_join(const struct model_matrix *first, uint32_t rows,
                        const struct model_matrix *next);

/* Rows, columns and type of a source as they will be packed, alone; data is NULL. */
struct cuda_matrix cuda_pack_describe(const struct cuda_pack_source *source);

/* Bytes of a packed matrix. False if they overflow. */
bool cuda_packed_bytes(const struct cuda_matrix *matrix, size_t *bytes_out);

/* Bytes of staging memory that serve the matrix and its scales, given those that serve others; at most SIZE_MAX / 2. */
size_t cuda_pack_staging(const struct model_matrix *matrix, size_t bytes);

/* What packing goes through. */
struct cuda_packer {
    struct cuda_device *device;
    struct cuda_loader *loader;
    uint8_t *staging; /* of the device */
    size_t staging_bytes;
};

/*
 * Queues copies and kernels that pack a source into a matrix at `to`. Staging memory is used again in the order of the
 * device's queue, so it may serve the next one at once.
 */
void cuda_pack(const struct cuda_packer *packer, const struct cuda_pack_source *source,
               const struct cuda_matrix *matrix, uint8_t *to);

#endif
