/* attention.c: see attention.h. */
#include "engine/cuda/attention.h"

/*
 * Blocks that make a device busy: an H200 has 132 multiprocessors with room for two or three. More do not hurt, since a
 * block of a long run is only cut when it would last longer than its share twice.
 */
#define BLOCKS_WANTED 264

/* While items are made. */
struct planning {
    const struct cuda_shape *shape;
    const struct engine_batch *batch;
    uint32_t rows; /* padding included */
    struct cuda_attend_item *items;
    uint32_t count;
    uint32_t splits_whole; /* a block with so many is not cut */
    uint64_t splits;       /* of all blocks of a KV head */
    uint32_t kept;         /* queries whose sums of a split are kept */
    uint32_t cut;          /* items more than if nothing were cut */
    uint32_t counters;
};

static uint32_t group_of(const struct cuda_shape *shape)
{
    return shape->heads / shape->kv_heads;
}

static uint32_t position_of(const struct planning *planning, uint32_t row)
{
    return row < planning->batch->row_count ? planning->batch->rows[row].position : 0;
}

/* Never of one row, so that steps in which all decode have one launch (graphs.h). */
static bool is_many(const struct planning *planning, uint32_t run)
{
    return planning->shape->head_dim <= 128 && run > 1 &&
           (uint64_t)run * group_of(planning->shape) > CUDA_ATTEND_FEW;
}

/* Rows from first on that are of its sequence. */
static uint32_t run_from(const struct planning *planning, uint32_t first)
{
    uint32_t end = first + 1;

    while (end < planning->batch->row_count &&
           planning->batch->rows[end].sequence == planning->batch->rows[first].sequence)
        end++;
    return end - first;
}

/* Calls `take` for each block of a KV head, those with as many queries as said. */
static void for_each_block(struct planning *planning, bool many,
                           void (*take)(struct planning *planning, struct cuda_attend_item item))
{
    uint32_t group = group_of(planning->shape);
    uint32_t most = many ? CUDA_ATTEND_MANY : CUDA_ATTEND_FEW;
    uint32_t run;

    for (uint32_t row = 0; row < planning->rows; row += run) {
        run = run_from(planning, row);
        if (is_many(planning, run) != many)
            continue;
        for (uint32_t query = 0; query < run * group; query += most) {
            struct cuda_attend_item item = {
                .row = row,
                .query = query,
                .queries = run * group - query < most ? run * group - query : most,
                .kept = CUDA_ATTEND_WHOLE};
            uint32_t last = row + (query + item.queries - 1) / group;

            item.splits = position_of(planning, last) / CUDA_SPLIT + 1;
            take(planning, item);
        }
    }
}

static void count_splits(struct planning *planning, struct cuda_attend_item item)
{
    planning->splits += item.splits;
}

/* Long ones, as far as there is room for the sums. */
static bool is_cut(const struct planning *planning, const struct cuda_attend_item *item)
{
    uint32_t room = cuda_splits_kept(planning->shape);

    return item->splits > planning->splits_whole && item->splits - 1 <= room - planning->cut &&
           (uint64_t)item->splits * item->queries <=
               (uint64_t)room * group_of(planning->shape) - planning->kept;
}

static void add_items(struct planning *planning, struct cuda_attend_item item)
{
    if (!is_cut(planning, &item)) {
        planning->items[planning->count++] = item;
        return;
    }
    item.kept = planning->kept;
    item.counter = planning->counters++;
    for (item.split = 0; item.split < item.splits; item.split++)
        planning->items[planning->count++] = item;
    planning->kept += item.splits * item.queries;
    planning->cut += item.splits - 1;
}

struct cuda_attention cuda_attention_plan(const struct cuda_shape *shape,
                                          const struct engine_batch *batch, uint32_t rows,
                                          struct cuda_attend_item *items)
{
    struct planning planning = {.shape = shape, .batch = batch, .rows = rows, .items = items};
    struct cuda_attention counts;
    uint64_t share;

    for_each_block(&planning, false, count_splits);
    for_each_block(&planning, true, count_splits);
    share = (2 * planning.splits * shape->kv_heads + BLOCKS_WANTED - 1) / BLOCKS_WANTED;
    planning.splits_whole = share < UINT32_MAX ? (uint32_t)share : UINT32_MAX;
    for_each_block(&planning, false, add_items);
    counts.few = planning.count;
    for_each_block(&planning, true, add_items);
    counts.many = planning.count - counts.few;
    return counts;
}

/*
 * A block is cut if it has more splits than 2 / BLOCKS_WANTED of those of all blocks together, so fewer than
 * BLOCKS_WANTED / 2 of all KV heads are.
 */
uint32_t cuda_attention_decode_items(const struct cuda_shape *shape, uint32_t rows, uint32_t splits)
{
    uint64_t blocks = (uint64_t)rows * ((group_of(shape) + CUDA_ATTEND_FEW - 1) / CUDA_ATTEND_FEW);
    uint64_t cut = BLOCKS_WANTED / 2 / shape->kv_heads;
    uint64_t more = (cut < blocks ? cut : blocks) * (splits - 1);
    uint64_t room = cuda_splits_kept(shape);

    return (uint32_t)(blocks + (more < room ? more : room));
}

enum cuda_kernel cuda_attention_kernel(const struct cuda_shape *shape, bool is_many)
{
    if (shape->head_dim <= 64)
        return is_many ? CUDA_KERNEL_ATTEND_MANY_64 : CUDA_KERNEL_ATTEND_FEW_64;
    if (shape->head_dim <= 128)
        return is_many ? CUDA_KERNEL_ATTEND_MANY_128 : CUDA_KERNEL_ATTEND_FEW_128;
    return CUDA_KERNEL_ATTEND_FEW_256;
}
