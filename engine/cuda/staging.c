/* staging.c: see staging.h. */
#include "engine/cuda/staging.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "lib/base/hash.h"

struct cuda_staging {
    struct cuda_device *device;
    const struct engine_model_info *info;
    uint8_t *pool; /* the device's */
    struct engine_kv mirror;
    bool sends;
    _Atomic uint64_t bytes_out;
    _Atomic uint64_t bytes_in;
};

static uint8_t *mirrored(const struct cuda_staging *staging, uint32_t slot)
{
    return staging->mirror.base + (size_t)slot * staging->mirror.block_bytes;
}

/* Waits for what was queued; the device has said in the log what failed. */
static td_status_t finish(struct cuda_staging *staging, _Atomic uint64_t *bytes, uint32_t count)
{
    struct td_error error = {0};
    td_status_t status = cuda_device_wait(staging->device, &error);

    if (status == TD_OK)
        atomic_fetch_add_explicit(bytes, count * staging->mirror.block_bytes, memory_order_relaxed);
    return status;
}

static td_status_t copy_out(struct cuda_staging *staging, const uint32_t *slots, uint32_t count)
{
    size_t block_bytes = staging->mirror.block_bytes;

    for (uint32_t i = 0; i < count; i++)
        cuda_device_download(staging->device, mirrored(staging, slots[i]),
                             staging->pool + slots[i] * block_bytes, block_bytes);
    return finish(staging, &staging->bytes_out, count);
}

static td_status_t seal(void *impl, const uint32_t *slots, uint32_t count,
                        struct td_u128 *hashes_out)
{
    struct cuda_staging *staging = impl;
    td_status_t status = staging->sends ? copy_out(staging, slots, count) : TD_OK;

    if (status != TD_OK)
        return status;
    for (uint32_t i = 0; i < count; i++)
        hashes_out[i] = staging->sends
                            ? td_hash128(mirrored(staging, slots[i]), staging->mirror.block_bytes)
                            : (struct td_u128){0};
    return TD_OK;
}

static td_status_t seal_tail(void *impl, uint32_t slot, uint32_t tokens, struct td_u128 *hash_out)
{
    struct cuda_staging *staging = impl;
    td_status_t status = copy_out(staging, &slot, 1);

    if (status != TD_OK)
        return status;
    engine_kv_clear_tail(staging->info, mirrored(staging, slot), tokens);
    *hash_out = td_hash128(mirrored(staging, slot), staging->mirror.block_bytes);
    return TD_OK;
}

static td_status_t land(void *impl, const uint32_t *slots, uint32_t count)
{
    struct cuda_staging *staging = impl;
    size_t block_bytes = staging->mirror.block_bytes;

    for (uint32_t i = 0; i < count; i++)
        cuda_device_upload(staging->device, staging->pool + slots[i] * block_bytes,
                           mirrored(staging, slots[i]), block_bytes);
    return finish(staging, &staging->bytes_in, count);
}

static const struct engine_kv_ops ops = {.seal = seal, .seal_tail = seal_tail, .land = land};

td_status_t cuda_staging_open(struct cuda_device *device, const struct engine_model_info *info,
                              bool sends, struct engine_kv *kv, struct cuda_staging **staging_out,
                              struct td_error *error)
{
    struct cuda_staging *staging = calloc(1, sizeof *staging);
    td_status_t status;

    if (staging == NULL)
        return td_fail(error, TD_NO_MEMORY, "no memory for staging KV");
    staging->device = device;
    staging->info = info;
    staging->pool = kv->base;
    staging->sends = sends;
    status =
        engine_kv_open(kv->block_count, kv->block_tokens, kv->block_bytes, &staging->mirror, error);
    if (status != TD_OK) {
        free(staging);
        return status;
    }
    kv->ops = &ops;
    kv->impl = staging;
    *staging_out = staging;
    return TD_OK;
}

void cuda_staging_close(struct cuda_staging *staging)
{
    if (staging == NULL)
        return;
    engine_kv_close(&staging->mirror);
    free(staging);
}

const struct engine_kv *cuda_staging_mirror(const struct cuda_staging *staging)
{
    return &staging->mirror;
}

uint64_t cuda_staging_bytes_out(const struct cuda_staging *staging)
{
    return atomic_load_explicit(&staging->bytes_out, memory_order_relaxed);
}

uint64_t cuda_staging_bytes_in(const struct cuda_staging *staging)
{
    return atomic_load_explicit(&staging->bytes_in, memory_order_relaxed);
}
