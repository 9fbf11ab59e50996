/*
 * loader.h: from files that are mapped into memory to the device: some threads read into pinned buffers, from which the
 * device copies on its own.
 *
 * Reading a mapping is what waits for the disk, so several threads do it at once, and always a little ahead of the
 * copies; memory for that is bounded. Pieces that lie side by side on the device travel in one copy.
 */
#ifndef TANDEM_ENGINE_CUDA_LOADER_H
#define TANDEM_ENGINE_CUDA_LOADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/device.h"
#include "lib/base/status.h"

#define CUDA_LOAD_BUFFERS_MAX  8 /* each has a mark of the device */
#define CUDA_LOAD_THREADS_MAX  6 /* two buffers more than threads: what those are copied from */
#define CUDA_LOAD_BUFFER_BYTES ((size_t)16 << 20)
#define CUDA_LOAD_NO_LAYER     UINT32_MAX

/* A tensor, of one byte at least; in the order of their places on the device. */
struct cuda_load_piece {
    uint8_t *to;
    const uint8_t *from;
    size_t bytes;
    const char *name; /* "gate": for messages */
    uint32_t layer;   /* CUDA_LOAD_NO_LAYER: of none */
};

/* What one buffer carries: a run on the device, with parts of pieces from the first on. */
struct cuda_load_chunk {
    uint8_t *to;
    size_t bytes;
    size_t first;
};

/* Where the next chunk begins. Zero-initialised: at the beginning. */
struct cuda_load_cursor {
    size_t piece;
    size_t offset;
};

/* The next chunk of at most so many bytes; false: there is none. A chunk ends where something else lies between pieces. */
bool cuda_load_next(const struct cuda_load_piece *pieces, size_t count, size_t bytes_max,
                    struct cuda_load_cursor *cursor, struct cuda_load_chunk *chunk_out);

/* Reads a chunk; between its pieces are zeros. */
void cuda_load_read(const struct cuda_load_piece *pieces, size_t count,
                    const struct cuda_load_chunk *chunk, uint8_t *buffer);

/*
 * Copies all pieces and waits until they are there. buffer_bytes 0: CUDA_LOAD_BUFFER_BYTES. Says how far it is every
 * few seconds. TD_NO_MEMORY: for buffers; TD_EXHAUSTED: for threads; or what the device failed with, and at which piece.
 */
td_status_t cuda_load(struct cuda_device *device, const struct cuda_load_piece *pieces,
                      size_t count, size_t buffer_bytes, struct td_error *error) TD_MUST_USE;

#endif
