/* blocks.c: see blocks.h. */
#include "engine/cuda/blocks.h"

#include <stdlib.h>

struct cuda_blocks {
    struct cuda_device *device;
    const struct engine_model_info *info;
    uint8_t *pool; /* the device's */
    void *bounce;  /* one block, in memory of the host that the device reaches */
};

/* The step has ended, so whatever it wrote can be read by other streams. */
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
    size_t block_bytes = blocks->info->block_bytes;
    uint8_t *block = blocks->pool + slot * block_bytes;
    struct td_error error = {0}; /* the device has said in the log what failed */
    td_status_t status;

    cuda_device_download(blocks->device, blocks->bounce, block, block_bytes);
    status = cuda_device_wait(blocks->device, &error);
    if (status != TD_OK)
        return status;
    engine_kv_clear_tail(blocks->info, blocks->bounce, tokens);
    cuda_device_upload(blocks->device, block, blocks->bounce, block_bytes);
    *hash_out = (struct td_u128){0};
    return cuda_device_wait(blocks->device, &error);
}

static const struct engine_kv_ops ops = {.seal = seal, .seal_tail = seal_tail};

td_status_t cuda_blocks_open(struct cuda_device *device, const struct engine_model_info *info,
                             struct engine_kv *kv, struct cuda_blocks **blocks_out,
                             struct td_error *error)
{
    struct cuda_blocks *blocks = calloc(1, sizeof *blocks);
    td_status_t status;

    if (blocks == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for KV blocks");
    *blocks = (struct cuda_blocks){.device = device, .info = info, .pool = kv->base};
    status = cuda_device_take_host(device, kv->block_bytes, &blocks->bounce, error);
    if (status != TD_OK) {
        free(blocks);
        return status;
    }
    kv->ops = &ops;
    kv->impl = blocks;
    *blocks_out = blocks;
    return TD_OK;
}

void cuda_blocks_close(struct cuda_blocks *blocks)
{
    if (blocks == NULL)
        return;
    cuda_device_give_host(blocks->device, blocks->bounce);
    free(blocks);
}
