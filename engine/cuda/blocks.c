/* blocks.c: see blocks.h. */
#include "engine/cuda/blocks.h"

#include <stdlib.h>

struct cuda_blocks {
    struct cuda_device *device;
    const struct engine_model_info *info;
    uint8_t *pool; /* the device's */
};

/* What wrote these blocks has ended, so other streams can read them, even while a step runs that does not touch them. */
static td_status_t seal(void *impl, const uint32_t *slots, uint32_t count,
                        struct td_u128 *hashes_out)
{
    (void)impl;
    (void)slots;
    for (uint32_t i = 0; i < count; i++)
        hashes_out[i] = (struct td_u128){0};
    return TD_OK;
}

static td_status_t seal_tail(void *impl, uint32_t slot, uint32_t tokens, struct td_u128 *hash_out)
{
    struct cuda_blocks *blocks = impl;
    const struct engine_model_info *info = blocks->info;
    uint32_t pages = info->kv_heads * info->layers * 2;
    size_t page_bytes = info->block_bytes / pages;
    struct cuda_clear_args args = {.block = blocks->pool + slot * info->block_bytes,
                                   .page_bytes = (uint32_t)page_bytes,
                                   .used_bytes =
                                       (uint32_t)(page_bytes / info->block_tokens * tokens)};
    struct td_error error = {0}; /* the device has said in the log what failed */
    td_status_t status;

    cuda_device_launch(blocks->device, CUDA_KERNEL_CLEAR, (struct cuda_grid){pages, 1, 1}, &args);
    status = cuda_device_wait(blocks->device, &error);
    if (status == TD_OK)
        *hash_out = (struct td_u128){0};
    return status;
}

static const struct engine_kv_ops ops = {.seal = seal, .seal_tail = seal_tail};

td_status_t cuda_blocks_open(struct cuda_device *device, const struct engine_model_info *info,
                             struct engine_kv *kv, struct cuda_blocks **blocks_out,
                             struct td_error *error)
{
    struct cuda_blocks *blocks = calloc(1, sizeof *blocks);

    if (blocks == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for KV blocks");
    *blocks = (struct cuda_blocks){.device = device, .info = info, .pool = kv->base};
    kv->ops = &ops;
    kv->impl = blocks;
    *blocks_out = blocks;
    return TD_OK;
}

void cuda_blocks_close(struct cuda_blocks *blocks)
{
    free(blocks);
}
