/*
 * staging.h: KV that goes through the host: the last resort of hand-over between devices.
 *
 * A pool of the host mirrors the device's, slot by slot. A block that is full is copied there once and hashed, and
 * what a transfer has landed there is copied to the device before a step reads it; transports see memory of the host
 * alone. Every byte is counted. The mirror's pages come when a block first passes through them, so the host gives up
 * to as much memory as the device's pool has.
 *
 * On the thread that runs the backend, but for opening, closing and counting.
 */
#ifndef TANDEM_ENGINE_CUDA_STAGING_H
#define TANDEM_ENGINE_CUDA_STAGING_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/backend.h"
#include "engine/cuda/device.h"

struct cuda_staging;

/*
 * Opens the mirror of a device's pool, and makes it the pool's ops. sends: blocks of this pool are sent to others; else
 * full blocks are neither copied nor hashed. device and info (of the pool's backend) outlive it. TD_NO_MEMORY, TD_LIMIT.
 */
td_status_t cuda_staging_open(struct cuda_device *device, const struct engine_model_info *info,
                              bool sends, struct engine_kv *kv, struct cuda_staging **staging_out,
                              struct td_error *error) TD_MUST_USE;

/* After the engine has let go of the pool. NULL: nothing. */
void cuda_staging_close(struct cuda_staging *staging);

/* What transports may read and write. */
const struct engine_kv *cuda_staging_mirror(const struct cuda_staging *staging);

/* Bytes so far, from the device to the mirror and from there to the device. Any thread. */
uint64_t cuda_staging_bytes_out(const struct cuda_staging *staging);
uint64_t cuda_staging_bytes_in(const struct cuda_staging *staging);

#endif
