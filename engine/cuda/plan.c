/* plan.c: see plan.h. */
#include "engine/cuda/plan.h"

#include <inttypes.h>

#include "lib/base/bytes.h"

#define GIB ((double)((size_t)1 << 30))

static uint32_t pieces(uint32_t count, uint32_t per_piece)
{
    return count / per_piece + (count % per_piece != 0);
}

size_t cuda_qkv_count(const struct cuda_shape *shape)
{
    return ((size_t)shape->heads + 2 * (size_t)shape->kv_heads) * shape->head_dim;
}

uint32_t cuda_splits_kept(const struct cuda_shape *shape)
{
    uint32_t longest = pieces(shape->max_context, CUDA_SPLIT);

    return longest > CUDA_SPLITS_KEPT ? longest : CUDA_SPLITS_KEPT;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t cuda_wide_pieces(const struct cuda_shape *shape)
{
    size_t tokens = larger(shape->rows_max, shape->outputs_max);
    size_t columns =
        larger(larger(shape->hidden, shape->ffn), (size_t)shape->heads * shape->head_dim);

    if (!shape->has_wide)
        return 0;
    return (tokens + CUDA_WIDE_TILE - 1) / CUDA_WIDE_TILE *
           ((columns + CUDA_TILE_COLUMNS - 1) / CUDA_TILE_COLUMNS);
}

uint32_t cuda_peak_tiles(const struct cuda_shape *shape)
{
    return pieces(shape->vocab, CUDA_PEAK_TILE);
}

size_t cuda_changes_max(const struct cuda_shape *shape)
{
    return (size_t)shape->outputs_max * CUDA_CHANGES_EACH;
}

uint32_t cuda_mask_words(const struct cuda_shape *shape)
{
    return pieces(shape->vocab, 32);
}

size_t cuda_attention_items(const struct cuda_shape *shape)
{
    return (size_t)shape->rows_max * pieces(shape->heads / shape->kv_heads, CUDA_ATTEND_FEW) +
           cuda_splits_kept(shape);
}

size_t cuda_input_words(const struct cuda_shape *shape)
{
    size_t blocks = pieces(shape->max_context, shape->block_tokens);

    return shape->rows_max * (3 + blocks) + shape->outputs_max + 1 +
           cuda_attention_items(shape) * CUDA_ATTEND_ITEM_WORDS;
}

static bool add_array(size_t *total, size_t count, size_t each, size_t size)
{
    size_t bytes = 0;

    if (!td_size_add(&bytes, each, size) || __builtin_mul_overflow(bytes, count, &bytes) ||
        __builtin_add_overflow(bytes, (size_t)CUDA_ALIGNMENT - 1, &bytes))
        return false;
    return !__builtin_add_overflow(*total, bytes / CUDA_ALIGNMENT * CUDA_ALIGNMENT, total);
}

td_status_t cuda_workspace_bytes(const struct cuda_shape *s, size_t *bytes_out,
                                 struct td_error *error)
{
    size_t bytes = 0;

#define X(name, type, count, each)                         \
    if (!add_array(&bytes, (count), (each), sizeof(type))) \
        return td_fail(error, TD_LIMIT, "the workspace of a step overflows (" #name ")");
    CUDA_WORKSPACE(X)
#undef X
    *bytes_out = bytes;
    return TD_OK;
}

void cuda_workspace_cut(const struct cuda_shape *s, uint8_t *memory,
                        struct cuda_workspace *workspace_out)
{
    size_t at = 0;

#define X(name, type, count, each)                       \
    workspace_out->name = (type *)(void *)(memory + at); \
    (void)add_array(&at, (count), (each), sizeof(type)); /* cuda_workspace_bytes has tried */
    CUDA_WORKSPACE(X)
#undef X
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t context_bytes(const struct cuda_plan_input *input)
{
    size_t most = smaller(input->memory_bytes / 16, CUDA_CONTEXT_BYTES_MAX);

    return input->free_bytes < input->memory_bytes
               ? smaller(input->memory_bytes - input->free_bytes, most)
               : 0;
}

static size_t plannable(const struct cuda_plan_input *input)
{
    size_t share = (size_t)((double)input->memory_bytes * input->fraction);
    size_t context = context_bytes(input);
    size_t reserve = input->memory_bytes / 32;
    size_t free_bytes;

    if (reserve > CUDA_RESERVE_BYTES)
        reserve = CUDA_RESERVE_BYTES;
    free_bytes = input->free_bytes > reserve ? input->free_bytes - reserve : 0;
    return smaller(share > context ? share - context : 0, free_bytes);
}

static td_status_t say_too_large(const struct cuda_plan_input *input, size_t available,
                                 size_t kv_bytes, struct td_error *error)
{
    return td_fail(
        error, TD_NO_MEMORY,
        "%.2f GiB of GPU memory are needed (weights %.2f, workspace %.2f, graphs %.2f, "
        "KV at least %.2f), %.2f may be used: %.2f of %.2f GiB are free, the share of "
        "this process is %.2f",
        (double)(input->weights_bytes + input->workspace_bytes + input->graphs_bytes + kv_bytes) /
            GIB,
        (double)input->weights_bytes / GIB, (double)input->workspace_bytes / GIB,
        (double)input->graphs_bytes / GIB, (double)kv_bytes / GIB, (double)available / GIB,
        (double)input->free_bytes / GIB, (double)input->memory_bytes / GIB, input->fraction);
}

td_status_t cuda_plan_memory(const struct cuda_plan_input *input, struct cuda_plan *plan_out,
                             struct td_error *error)
{
    uint32_t least = input->blocks_wanted > 0 ? input->blocks_wanted : input->blocks_min;
    size_t available;
    size_t fixed;
    size_t least_bytes;
    size_t blocks;

    if (!(input->fraction > 0 && input->fraction <= 1))
        return td_fail(error, TD_INVALID, "the share of GPU memory is %g, not in (0, 1]",
                       input->fraction);
    available = plannable(input);
    if (__builtin_add_overflow(input->weights_bytes, input->workspace_bytes, &fixed) ||
        __builtin_add_overflow(fixed, input->graphs_bytes, &fixed) ||
        __builtin_mul_overflow((size_t)(least > 0 ? least : 1) + 1, input->block_bytes,
                               &least_bytes))
        return td_fail(error, TD_LIMIT, "the sizes of weights, workspace and KV overflow");
    if (fixed > available || least_bytes > available - fixed)
        return say_too_large(input, available, least_bytes, error);
    blocks = (available - fixed) / input->block_bytes - 1; /* least_bytes has room for one more */
    if (input->blocks_wanted > 0)
        blocks = input->blocks_wanted;
    if (blocks > UINT32_MAX)
        blocks = UINT32_MAX;
    *plan_out = (struct cuda_plan){.context_bytes = context_bytes(input),
                                   .kv_bytes = (blocks + 1) * input->block_bytes,
                                   .block_count = (uint32_t)blocks};
    return TD_OK;
}
