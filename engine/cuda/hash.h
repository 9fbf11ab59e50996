/*
 * hash.h: content hashes of KV blocks where they lie, by a kernel: exactly td_hash128 of their bytes.
 *
 * For a thread of its own with a device (a queue) of its own, beside the one that computes.
 */
#ifndef TANDEM_ENGINE_CUDA_HASH_H
#define TANDEM_ENGINE_CUDA_HASH_H

#include <stddef.h>

#include "engine/cuda/device.h"
#include "lib/base/status.h"
#include "lib/base/u128.h"

struct cuda_hasher;

/* The device outlives it. TD_NO_MEMORY, or the device's failure. */
td_status_t cuda_hasher_open(struct cuda_device *device, struct cuda_hasher **hasher_out,
                             struct td_error *error) TD_MUST_USE;
void cuda_hasher_close(struct cuda_hasher *hasher); /* NULL: nothing */

/*
 * Hashes blocks of the same GPU and waits for the result; hasher is a struct cuda_hasher, as callers of a function
 * pointer have it. TD_UNSUPPORTED: block_bytes is not above 240, or no multiple of 8; else the device's failure.
 */
td_status_t cuda_hasher_hash(void *hasher, const void *const *blocks, size_t count,
                             size_t block_bytes, struct td_u128 *hashes_out) TD_MUST_USE;

#endif
