/* kv.c: see kv.h. */
#include "engine/cpu/kv.h"

#include <assert.h>
#include <string.h>

#include "engine/cpu/kernels/attention.h"
#include "model/model.h"

static size_t element_bytes(enum cpu_kv_dtype dtype)
{
    return dtype == CPU_KV_F32 ? sizeof(float) : sizeof(uint16_t);
}

const char *cpu_kv_dtype_name(enum cpu_kv_dtype dtype)
{
    return dtype == CPU_KV_F32 ? "f32" : "f16";
}

size_t cpu_kv_group_bytes(enum cpu_kv_dtype dtype, uint32_t head_dim)
{
    return CPU_KV_GROUP * head_dim * element_bytes(dtype);
}

uint8_t *cpu_kv_group(const struct cpu_kv *kv, const struct cpu_kv_place *place, bool is_v)
{
    uint32_t block = place->position / kv->pool.block_tokens;
    uint32_t group = place->position % kv->pool.block_tokens / CPU_KV_GROUP;
    uint32_t groups = kv->pool.block_tokens / CPU_KV_GROUP;
    size_t page = ((size_t)place->kv_head * kv->layers + place->layer) * 2 + (is_v ? 1 : 0);

    assert(block < place->sequence->slot_count &&
           place->sequence->slots[block] < kv->pool.block_count);
    return kv->pool.base + place->sequence->slots[block] * kv->pool.block_bytes +
           (page * groups + group) * cpu_kv_group_bytes(kv->dtype, kv->head_dim);
}

/* K of one token among the 16 of its group: every 16th element. */
static void scatter(const void *elements, uint32_t count, size_t bytes, uint8_t *out)
{
    const uint8_t *from = elements;

    if (bytes == sizeof(uint16_t))
        for (uint32_t d = 0; d < count; d++)
            memcpy(out + d * CPU_KV_GROUP * sizeof(uint16_t), from + d * sizeof(uint16_t),
                   sizeof(uint16_t));
    else
        for (uint32_t d = 0; d < count; d++)
            memcpy(out + d * CPU_KV_GROUP * sizeof(float), from + d * sizeof(float), sizeof(float));
}

void cpu_kv_store(const struct cpu_kv *kv, const struct cpu_kv_place *place, const float *k,
                  const float *v)
{
    uint32_t token = place->position % CPU_KV_GROUP;
    size_t bytes = element_bytes(kv->dtype);
    uint8_t *key = cpu_kv_group(kv, place, false) + token * bytes;
    uint8_t *value = cpu_kv_group(kv, place, true) + token * kv->head_dim * bytes;
    uint16_t halves[MODEL_HEAD_DIM_MAX];

    if (kv->dtype == CPU_KV_F32) {
        scatter(k, kv->head_dim, bytes, key);
        memcpy(value, v, kv->head_dim * bytes);
        return;
    }
    kv->kernels->to_half(k, kv->head_dim, halves);
    scatter(halves, kv->head_dim, bytes, key);
    kv->kernels->to_half(v, kv->head_dim, (uint16_t *)(void *)value);
}

/* Zeroes the tokens from `tokens` on of a group of K. */
static void clear_keys(uint8_t *group, uint32_t head_dim, uint32_t tokens, size_t bytes)
{
    for (uint32_t d = 0; d < head_dim; d++)
        memset(group + (d * CPU_KV_GROUP + tokens) * bytes, 0, (CPU_KV_GROUP - tokens) * bytes);
}

void cpu_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens)
{
    size_t pages = (size_t)info->kv_heads * info->layers * 2;
    size_t page_bytes = info->block_bytes / pages;
    size_t bytes = page_bytes / info->block_tokens / info->head_dim; /* of an element */
    size_t group_bytes = CPU_KV_GROUP * info->head_dim * bytes;
    uint32_t whole = tokens / CPU_KV_GROUP;

    for (size_t page = 0; page < pages; page++) {
        uint8_t *group = block + page * page_bytes + whole * group_bytes;
        uint32_t used = tokens % CPU_KV_GROUP;

        if (tokens >= info->block_tokens)
            continue;
        memset(group + group_bytes, 0, page_bytes - (whole + 1) * group_bytes);
        if (page % 2 == 0) /* K */
            clear_keys(group, info->head_dim, used, bytes);
        else
            memset(group + used * info->head_dim * bytes, 0,
                   (CPU_KV_GROUP - used) * info->head_dim * bytes);
    }
}
