/* kv.c: see kv.h. */
#include "engine/cpu/kv.h"

#include <assert.h>
#include <string.h>

#include "engine/cpu/kernels/attention.h"
#include "model/model.h"

static const char *const names[CPU_KV_DTYPES + 1] = CPU_KV_DTYPE_CHOICES;

static size_t element_bytes(enum cpu_kv_dtype dtype)
{
    static const size_t bytes[CPU_KV_DTYPES] = {[CPU_KV_F16] = sizeof(uint16_t),
                                                [CPU_KV_F32] = sizeof(float),
                                                [CPU_KV_INT8] = sizeof(int8_t)};

    return bytes[dtype];
}

static size_t scale_bytes(enum cpu_kv_dtype dtype)
{
    return dtype == CPU_KV_INT8 ? sizeof(float) : 0;
}

const char *cpu_kv_dtype_name(enum cpu_kv_dtype dtype)
{
    return names[dtype];
}

size_t cpu_kv_group_bytes(enum cpu_kv_dtype dtype, uint32_t head_dim)
{
    return CPU_KV_GROUP * (head_dim * element_bytes(dtype) + scale_bytes(dtype));
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

/* A token of a group of whole numbers. */
static void store_whole(const struct cpu_kv *kv, uint32_t token, const float *x, bool is_v,
                        uint8_t *group)
{
    int8_t quants[MODEL_HEAD_DIM_MAX];
    float scale = kv->kernels->to_int8(x, kv->head_dim, quants);

    for (uint32_t d = 0; d < kv->head_dim; d++)
        group[is_v ? cpu_kv_value_index(CPU_KV_INT8, kv->head_dim, token, d)
                   : cpu_kv_key_index(CPU_KV_INT8, token, d)] = (uint8_t)quants[d];
    memcpy(group + cpu_kv_scales(kv->head_dim) + token * sizeof scale, &scale, sizeof scale);
}

void cpu_kv_store(const struct cpu_kv *kv, const struct cpu_kv_place *place, const float *k,
                  const float *v)
{
    uint32_t token = place->position % CPU_KV_GROUP;
    size_t bytes = element_bytes(kv->dtype);
    uint8_t *keys = cpu_kv_group(kv, place, false);
    uint8_t *values = cpu_kv_group(kv, place, true);
    uint8_t *value = values + token * kv->head_dim * bytes;
    uint16_t halves[MODEL_HEAD_DIM_MAX];

    switch (kv->dtype) {
    case CPU_KV_F32:
        scatter(k, kv->head_dim, bytes, keys + token * bytes);
        memcpy(value, v, kv->head_dim * bytes);
        break;
    case CPU_KV_F16:
        kv->kernels->to_half(k, kv->head_dim, halves);
        scatter(halves, kv->head_dim, bytes, keys + token * bytes);
        kv->kernels->to_half(v, kv->head_dim, (uint16_t *)(void *)value);
        break;
    case CPU_KV_INT8:
        store_whole(kv, token, k, false, keys);
        store_whole(kv, token, v, true, values);
        break;
    }
}

/* ------------------------------------------------------------------ tails */

/* The type of a name that cpu_kv_dtype_name gave. */
static enum cpu_kv_dtype dtype_named(const char *name)
{
    uint32_t dtype = 0;

    while (dtype < CPU_KV_DTYPES && strcmp(name, names[dtype]) != 0)
        dtype++;
    assert(dtype < CPU_KV_DTYPES);
    return (enum cpu_kv_dtype)dtype;
}

/* What lies together of a token in a group of K: an element, or two. */
static void clear_keys(enum cpu_kv_dtype dtype, uint32_t head_dim, uint32_t tokens, uint8_t *group)
{
    uint32_t together = dtype == CPU_KV_INT8 ? 2 : 1;
    size_t bytes = element_bytes(dtype) * together;

    for (uint32_t row = 0; row < head_dim / together; row++)
        memset(group + (row * CPU_KV_GROUP + tokens) * bytes, 0, (CPU_KV_GROUP - tokens) * bytes);
}

static void clear_values(enum cpu_kv_dtype dtype, uint32_t head_dim, uint32_t tokens,
                         uint8_t *group)
{
    size_t bytes = head_dim * element_bytes(dtype);

    if (dtype == CPU_KV_INT8 && tokens % 2 == 1) {
        for (uint32_t d = 0; d < head_dim; d++)
            group[cpu_kv_value_index(dtype, head_dim, tokens, d)] = 0;
        tokens++;
    }
    memset(group + tokens * bytes, 0, (CPU_KV_GROUP - tokens) * bytes);
}

static void clear_scales(enum cpu_kv_dtype dtype, uint32_t head_dim, uint32_t tokens,
                         uint8_t *group)
{
    size_t bytes = scale_bytes(dtype);

    if (bytes > 0)
        memset(group + cpu_kv_scales(head_dim) + tokens * bytes, 0,
               (CPU_KV_GROUP - tokens) * bytes);
}

void cpu_kv_clear_tail(const struct engine_model_info *info, uint8_t *block, uint32_t tokens)
{
    enum cpu_kv_dtype dtype = dtype_named(info->kv_dtype);
    size_t group_bytes = cpu_kv_group_bytes(dtype, info->head_dim);
    uint32_t groups = info->block_tokens / CPU_KV_GROUP;
    uint32_t whole = tokens / CPU_KV_GROUP;
    uint32_t used = tokens % CPU_KV_GROUP;
    size_t pages = (size_t)info->kv_heads * info->layers * 2;

    if (whole >= groups)
        return;
    for (size_t page = 0; page < pages; page++) {
        uint8_t *group = block + (page * groups + whole) * group_bytes;

        if (page % 2 == 0) /* K */
            clear_keys(dtype, info->head_dim, used, group);
        else
            clear_values(dtype, info->head_dim, used, group);
        clear_scales(dtype, info->head_dim, used, group);
        memset(group + group_bytes, 0, (groups - whole - 1) * group_bytes);
    }
}
