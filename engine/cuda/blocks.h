/*
 * blocks.h: what the engine core asks of KV blocks in a device's memory (struct engine_kv_ops).
 *
 * Transfers read and write the device's pool themselves, and hash what they send and what has landed; so a full block
 * needs nothing here, and its hash stays unknown. A tail that travels is cleared behind its tokens, by a kernel. Pages
 * hold their tokens one behind the other.
 *
 * On the thread that runs the backend, but for opening and closing.
 */
#ifndef TANDEM_ENGINE_CUDA_BLOCKS_H
#define TANDEM_ENGINE_CUDA_BLOCKS_H

#include "engine/backend.h"
#include "engine/cuda/device.h"

struct cuda_blocks;

/* Makes itself the pool's ops. device and info (of the pool's backend) outlive it. TD_NO_MEMORY. */
td_status_t cuda_blocks_open(struct cuda_device *device, const struct engine_model_info *info,
                             struct engine_kv *kv, struct cuda_blocks **blocks_out,
                             struct td_error *error) TD_MUST_USE;

/* After the engine has let go of the pool. NULL: nothing. */
void cuda_blocks_close(struct cuda_blocks *blocks);

#endif
