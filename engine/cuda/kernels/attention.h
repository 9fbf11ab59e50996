/*
 * attention.h: paged attention over halves on tensor cores: the same code for decoding and for prompts.
 *
 * A block takes up to 16 queries (attend_few) or 64 (attend_many) of one KV head: all query heads of its group, of one
 * row or of several that follow each other, so that they share each load of keys and values. It goes through splits of
 * CUDA_SPLIT positions, counted from 0 of the sequence:
 *
 *   scores    warp w has positions 8w to 8w + 7 of every tile of 64; products of 16 elements, rising
 *   maximum   over the split
 *   weights   2 to the (score - maximum); rounded to halves for the values. Their sum is of floats: a thread's eight
 *             in rising order, then lanes 1 and 2 apart, then the warps in order
 *   values    warp w has columns 8w to 8w + 7 of every 64; from zero, products of 16 positions, rising
 *   joining   splits in rising order (attend_join)
 *
 * Every place of a result of a tensor core is made alike and by itself, so a query gets the same bits in any place of a
 * block, among any others. What it does not see has a weight of zero, which adds nothing (values beyond the last row
 * are zeros, and all others are finite: see pool.h); splits that it does not see are not joined. So decoding and
 * prompts, whole or in chunks, agree bit for bit.
 *
 * Tiles of keys and values come by copies that run on their own, some tiles ahead. Shared memory has a row of 16 bytes
 * more than are used, so that eight rows lie in different banks.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ATTENTION_H
#define TANDEM_ENGINE_CUDA_KERNELS_ATTENTION_H

#include "engine/cuda/kernels/arithmetic.h"
#include "engine/cuda/kernels/place.h"
#include "engine/cuda/kernels/tensor.h"

#define ATTEND_WARPS         (CUDA_ATTEND_THREADS / SIMT_WARP)
#define ATTEND_TILES         (CUDA_SPLIT / CUDA_ATTEND_TILE)
#define ATTEND_PAD           8 /* halves */
#define ATTEND_WEIGHT_STRIDE (CUDA_SPLIT + ATTEND_PAD)
#define ATTEND_HEIGHT_MAX    4          /* tiles of 16 queries */
#define ATTEND_WIDTH_MAX     4          /* tiles of 8 columns of a warp */
#define ATTEND_NOTHING       (-3.4e38f) /* below every score */

#if CUDA_ATTEND_TILE != 8 * CUDA_ATTEND_THREADS / SIMT_WARP
#error "a warp has 8 positions of a tile"
#endif

/* What a block works on. dim, height and slots are constants. */
struct attend_work {
    const struct cuda_attend_args *args;
    struct cuda_attend_item item;
    uint32_t dim;    /* elements of a head, and zeros */
    uint32_t height; /* tiles of 16 queries */
    uint32_t slots;  /* for tiles of keys and values */
    uint32_t kv_head;
    uint32_t group;
    uint32_t end;         /* positions that the last row sees */
    uint32_t first_split; /* of those done here */
    uint32_t end_split;
    const uint32_t *table; /* slots of the sequence */
    uint32_t block_shift;
    const uint8_t *page; /* keys of the KV head, in slot 0 */
    size_t page_bytes;
    uint16_t *queries; /* [16 * height][dim + pad] */
    uint16_t *ring;    /* [slots][CUDA_ATTEND_TILE][dim + pad] */
    uint16_t *weights; /* [16 * height][ATTEND_WEIGHT_STRIDE] */
    float *maxima;     /* [warp][16 * height] */
    float *sums;       /* the same */
    uint32_t *is_last;
};

/* The next tile to be copied. */
struct attend_load {
    uint32_t split;
    uint32_t tile;
    bool is_v;
    uint32_t slot;
};

/* Of a split, or of those joined so far: a thread's part. Queries are lane / 4 and 8 on of each tile of 16. */
struct attend_sums {
    float values[ATTEND_HEIGHT_MAX][ATTEND_WIDTH_MAX][4];
    float maximum[ATTEND_HEIGHT_MAX][2];
    float weight[ATTEND_HEIGHT_MAX][2];
};

/* ------------------------------------------------------------------ where things are */

SIMT_INLINE uint32_t attend_row(const struct attend_work *work, uint32_t query)
{
    return work->item.row + (work->item.query + query) / work->group;
}

/* Of a query in rows of all heads. */
SIMT_INLINE size_t attend_place(const struct attend_work *work, uint32_t query)
{
    uint32_t head = (work->item.query + query) % work->group;

    return ((size_t)attend_row(work, query) * work->args->heads + work->kv_head * work->group +
            head) *
           work->args->pool.head_dim;
}

/* The first position that a query does not see; a query that does not exist sees nothing. */
SIMT_INLINE uint32_t attend_limit(const struct attend_work *work, uint32_t query)
{
    return query < work->item.queries ? work->args->rows.positions[attend_row(work, query)] + 1 : 0;
}

/* Where a query's sums of a split are kept. */
SIMT_INLINE size_t attend_kept(const struct attend_work *work, uint32_t split, uint32_t query)
{
    return (size_t)(work->item.kept + split * work->item.queries + query) * work->args->kv_heads +
           work->kv_head;
}

/* The elements of a key or value; NULL beyond the end. */
SIMT_INLINE const uint8_t *attend_entry(const struct attend_work *work, uint32_t position,
                                        bool is_v)
{
    const struct cuda_pool *pool = &work->args->pool;
    uint32_t within = position & (pool->block_tokens - 1);

    if (position >= work->end)
        return NULL;
    return work->page + work->table[position >> work->block_shift] * pool->block_bytes +
           (is_v ? work->page_bytes : 0) + (size_t)within * pool->head_dim * sizeof(uint16_t);
}

/* ------------------------------------------------------------------ into shared memory */

/* 16 bytes of a row of shared memory: by a copy that runs on its own, or where rows are not aligned to that, at once. */
SIMT_INLINE void attend_copy(const struct attend_work *work, uint16_t *to, const uint8_t *row,
                             uint32_t first)
{
    uint32_t head_dim = work->args->pool.head_dim;
    const uint16_t *from = (const uint16_t *)(const void *)row;

    if (head_dim % 8 == 0) {
        bool is_real = row != NULL && first < head_dim;

        simt_copy16(to, is_real ? (const void *)(from + first) : work->args->queries, is_real);
        return;
    }
    for (uint32_t i = 0; i < 8; i++)
        to[i] = row != NULL && first + i < head_dim ? from[first + i] : 0;
}

SIMT_INLINE void attend_load_queries(const struct attend_work *work)
{
    uint32_t chunks = work->dim / 8;

    for (uint32_t at = simt_thread(); at < 16 * work->height * chunks; at += CUDA_ATTEND_THREADS) {
        uint32_t query = at / chunks;
        uint32_t first = at % chunks * 8;
        const uint8_t *row =
            query < work->item.queries
                ? (const uint8_t *)(work->args->queries + attend_place(work, query))
                : NULL;

        attend_copy(work, work->queries + query * (work->dim + ATTEND_PAD) + first, row, first);
    }
}

/*
 * The same where rows have not been placed: a block turns its queries itself, and one that has the row's last split
 * writes its key and value before it reads them. Where a group has more heads than a block takes there are several, which
 * write the same bits. Items are of one row each.
 */
SIMT_INLINE void attend_place_row(const struct attend_work *work)
{
    const struct cuda_place_args *place = &work->args->place;
    const uint32_t row = work->item.row;
    const uint32_t stride = work->dim + ATTEND_PAD;
    const bool is_owner = work->end_split == work->item.splits;
    const uint32_t tasks = work->item.queries + (is_owner ? 2 : 0);

    for (uint32_t at = simt_thread(); at < 16 * work->height * work->dim; at += CUDA_ATTEND_THREADS)
        if (at / work->dim >= work->item.queries || at % work->dim >= place->pool.head_dim)
            work->queries[at / work->dim * stride + at % work->dim] = 0;
    for (uint32_t task = simt_warp(); task < tasks; task += ATTEND_WARPS)
        if (task < work->item.queries)
            place_query(place, row, work->kv_head * work->group + work->item.query + task,
                        (uint8_t *)(work->queries + task * stride));
        else if (task == work->item.queries)
            place_key(place, row, work->kv_head);
        else
            place_value(place, row, work->kv_head);
    simt_barrier(); /* the whole block sees the key and the value */
}

SIMT_INLINE bool attend_is_placing(const struct attend_work *work)
{
    return work->height == 1 && work->args->place.q != NULL;
}

/* Tiles of those that are copied ahead which need not wait until the row is placed: it is behind all of them, or none. */
SIMT_INLINE uint32_t attend_old_tiles(const struct attend_work *work)
{
    uint32_t begin = work->first_split * CUDA_SPLIT;
    uint32_t tiles = work->slots - 1;

    return attend_is_placing(work) && work->end - 1 >= begin + tiles * CUDA_ATTEND_TILE ? tiles : 0;
}

/* Tiles of a split that have a position before the end. */
SIMT_INLINE uint32_t attend_tiles(const struct attend_work *work, uint32_t split)
{
    uint32_t positions = work->end - split * CUDA_SPLIT;

    return positions >= CUDA_SPLIT ? ATTEND_TILES
                                   : (positions + CUDA_ATTEND_TILE - 1) / CUDA_ATTEND_TILE;
}

SIMT_INLINE uint16_t *attend_slot(const struct attend_work *work, uint32_t slot)
{
    return work->ring + slot * CUDA_ATTEND_TILE * (work->dim + ATTEND_PAD);
}

/* Begins to copy the next tile, if there is one: of each split the keys, then the values. */
SIMT_INLINE void attend_load_next(const struct attend_work *work, struct attend_load *load)
{
    uint32_t chunks = work->dim / 8;
    uint32_t first = load->split * CUDA_SPLIT + load->tile * CUDA_ATTEND_TILE;
    uint16_t *slot = attend_slot(work, load->slot);

    if (load->split < work->end_split) {
        for (uint32_t at = simt_thread(); at < CUDA_ATTEND_TILE * chunks;
             at += CUDA_ATTEND_THREADS) {
            uint32_t i = at / chunks;
            uint32_t element = at % chunks * 8;

            attend_copy(work, slot + i * (work->dim + ATTEND_PAD) + element,
                        attend_entry(work, first + i, load->is_v), element);
        }
        load->slot = load->slot + 1 == work->slots ? 0 : load->slot + 1;
        if (++load->tile == attend_tiles(work, load->split)) {
            load->tile = 0;
            load->split += load->is_v;
            load->is_v = !load->is_v;
        }
    }
    simt_copy_commit();
}

/* Waits for the tile that is used next, and has another copied to where the one before it was. Returns its place. */
SIMT_INLINE const uint16_t *attend_next_tile(const struct attend_work *work,
                                             struct attend_load *load, uint32_t *used)
{
    const uint16_t *tile = attend_slot(work, *used);

    *used = *used + 1 == work->slots ? 0 : *used + 1;
    if (work->slots == 3)
        simt_copy_wait_but(1);
    else
        simt_copy_wait_but(0);
    simt_barrier();
    attend_load_next(work, load);
    return tile;
}

/* ------------------------------------------------------------------ a split */

/* Two neighbouring halves. */
SIMT_INLINE uint32_t attend_pair(const uint16_t *halves)
{
    return *(const uint32_t *)(const void *)halves;
}

/* A lane's part of where 16 x 16 halves of queries or weights begin. */
SIMT_INLINE const uint16_t *attend_left(const uint16_t *rows, uint32_t stride, uint32_t tile)
{
    return rows + (tile * 16 + simt_lane() % 16) * stride + simt_lane() / 16 * 8;
}

/* Adds the scores of all queries with the warp's positions of a tile of keys. */
SIMT_INLINE void attend_score(const struct attend_work *work, const uint16_t *keys,
                              float scores[][4])
{
    uint32_t stride = work->dim + ATTEND_PAD;
    const uint16_t *key = keys + (simt_warp() * 8 + simt_lane() / 4) * stride + simt_lane() % 4 * 2;

    SIMT_UNROLL
    for (uint32_t k = 0; k < work->dim; k += 16) {
        uint32_t right[2] = {attend_pair(key + k), attend_pair(key + k + 8)};

        SIMT_UNROLL
        for (uint32_t tile = 0; tile < work->height; tile++) {
            uint32_t left[4];

            simt_load_tiles(left, attend_left(work->queries, stride, tile) + k);
            simt_mma_half(scores[tile], left, right);
        }
    }
}

/* The position in its split of a thread's i-th score of a tile: two neighbours. */
SIMT_INLINE uint32_t attend_position(uint32_t tile, uint32_t i)
{
    return tile * CUDA_ATTEND_TILE + simt_warp() * 8 + simt_lane() % 4 * 2 + i;
}

/* The greatest score of each query, first over the warp's positions and then over all. */
SIMT_INLINE void attend_maxima(const struct attend_work *work, uint32_t split,
                               float scores[][ATTEND_HEIGHT_MAX][4], struct attend_sums *sums)
{
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;
        uint32_t limit = attend_limit(work, query);
        float maximum = ATTEND_NOTHING;

        SIMT_UNROLL
        for (uint32_t i = 0; i < 2 * ATTEND_TILES; i++) {
            float score = scores[i / 2][at / 2][at % 2 * 2 + i % 2];

            if (split * CUDA_SPLIT + attend_position(i / 2, i % 2) < limit && score > maximum)
                maximum = score;
        }
        for (uint32_t apart = 1; apart < 4; apart *= 2) {
            float other = simt_exchange(maximum, apart);

            maximum = other > maximum ? other : maximum;
        }
        if (simt_lane() % 4 == 0)
            work->maxima[simt_warp() * 16 * work->height + query] = maximum;
    }
    simt_barrier();
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;
        float maximum = work->maxima[query];

        for (uint32_t warp = 1; warp < ATTEND_WARPS; warp++) {
            float other = work->maxima[warp * 16 * work->height + query];

            maximum = other > maximum ? other : maximum;
        }
        sums->maximum[at / 2][at % 2] = maximum;
    }
}

/* Weights from scores, and their sums over the warp's positions. Others see both behind the next barrier. */
SIMT_INLINE void attend_weigh(const struct attend_work *work, uint32_t split,
                              float scores[][ATTEND_HEIGHT_MAX][4], const struct attend_sums *sums)
{
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;
        uint32_t limit = attend_limit(work, query);
        float sum = 0.0f;

        SIMT_UNROLL
        for (uint32_t tile = 0; tile < ATTEND_TILES; tile++) {
            uint32_t halves = 0;

            SIMT_UNROLL
            for (uint32_t i = 0; i < 2; i++) {
                bool is_seen = split * CUDA_SPLIT + attend_position(tile, i) < limit;
                float distance =
                    scores[tile][at / 2][at % 2 * 2 + i] - sums->maximum[at / 2][at % 2];
                float weight = is_seen ? arithmetic_exp2(distance) : 0.0f;

                sum += weight;
                halves |= (uint32_t)simt_float_to_half(weight) << 16 * i;
            }
            *(uint32_t *)(void *)(work->weights + query * ATTEND_WEIGHT_STRIDE +
                                  attend_position(tile, 0)) = halves;
        }
        sum += simt_exchange(sum, 1);
        sum += simt_exchange(sum, 2);
        if (simt_lane() % 4 == 0)
            work->sums[simt_warp() * 16 * work->height + query] = sum;
    }
}

/* Adds a tile of values, weighed: a warp's columns for all queries. */
SIMT_INLINE void attend_add(const struct attend_work *work, const uint16_t *values, uint32_t tile,
                            struct attend_sums *sums)
{
    uint32_t stride = work->dim + ATTEND_PAD;
    uint32_t width = work->dim / 64;

    SIMT_UNROLL
    for (uint32_t k = 0; k < CUDA_ATTEND_TILE; k += 32) {
        uint32_t right[ATTEND_WIDTH_MAX][4];

        SIMT_UNROLL
        for (uint32_t i = 0; i < width; i++)
            simt_load_tiles_turned(right[i], values + (k + simt_lane()) * stride +
                                                 (i * ATTEND_WARPS + simt_warp()) * 8);
        SIMT_UNROLL
        for (uint32_t at = 0; at < 2 * work->height; at++) {
            uint32_t left[4];

            simt_load_tiles(left,
                            attend_left(work->weights, ATTEND_WEIGHT_STRIDE, at % work->height) +
                                tile * CUDA_ATTEND_TILE + k + at / work->height * 16);
            SIMT_UNROLL
            for (uint32_t i = 0; i < width; i++)
                simt_mma_half(sums->values[at % work->height][i], left,
                              right[i] + at / work->height * 2);
        }
    }
}

/* All of a split. */
SIMT_INLINE void attend_split(const struct attend_work *work, uint32_t split,
                              struct attend_load *load, uint32_t *used, struct attend_sums *sums)
{
    float scores[ATTEND_TILES][ATTEND_HEIGHT_MAX][4];
    uint32_t tiles = attend_tiles(work, split);

    SIMT_UNROLL
    for (uint32_t at = 0; at < ATTEND_TILES * work->height * 4; at++)
        scores[at / 4 / work->height][at / 4 % work->height][at % 4] = 0.0f;
    SIMT_UNROLL
    for (uint32_t tile = 0; tile < ATTEND_TILES; tile++)
        if (tile < tiles) /* scores of the others are not looked at */
            attend_score(work, attend_next_tile(work, load, used), scores[tile]);
    attend_maxima(work, split, scores, sums);
    attend_weigh(work, split, scores, sums);
    SIMT_UNROLL
    for (uint32_t at = 0; at < work->height * ATTEND_WIDTH_MAX * 4; at++)
        sums->values[at / 4 / ATTEND_WIDTH_MAX][at / 4 % ATTEND_WIDTH_MAX][at % 4] = 0.0f;
    for (uint32_t tile = 0; tile < tiles; tile++)
        attend_add(work, attend_next_tile(work, load, used), tile, sums);
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;
        float weight = work->sums[query];

        for (uint32_t warp = 1; warp < ATTEND_WARPS; warp++)
            weight += work->sums[warp * 16 * work->height + query];
        sums->weight[at / 2][at % 2] = weight;
    }
}

/* ------------------------------------------------------------------ joining splits */

/* What the sums so far, and those of the next split, are multiplied with before they are added. */
struct attend_scales {
    float total;
    float split;
};

/* Joins maxima and sums of weights; what it returns does the same for values, by attend_join. */
SIMT_INLINE struct attend_scales attend_join_weights(float *maximum, float *weight,
                                                     float split_maximum, float split_weight)
{
    float higher = split_maximum > *maximum ? split_maximum : *maximum;
    struct attend_scales scales;

    scales.total = arithmetic_exp2(*maximum - higher);
    scales.split = arithmetic_exp2(split_maximum - higher);
    *weight = *weight * scales.total + split_weight * scales.split;
    *maximum = higher;
    return scales;
}

SIMT_INLINE float attend_join(struct attend_scales scales, float total, float split)
{
    return total * scales.total + split * scales.split;
}

/* Joins a split, but not the first, for queries that see some of it. */
SIMT_INLINE void attend_join_split(const struct attend_work *work, uint32_t split,
                                   struct attend_sums *totals, const struct attend_sums *sums)
{
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t tile = at / 2;
        uint32_t half = at % 2;
        uint32_t query = tile * 16 + half * 8 + simt_lane() / 4;
        struct attend_scales scales;

        if (attend_limit(work, query) <= split * CUDA_SPLIT)
            continue;
        scales = attend_join_weights(&totals->maximum[tile][half], &totals->weight[tile][half],
                                     sums->maximum[tile][half], sums->weight[tile][half]);
        SIMT_UNROLL
        for (uint32_t i = 0; i < work->dim / 64 * 2; i++) {
            float *total = &totals->values[tile][i / 2][half * 2 + i % 2];

            *total = attend_join(scales, *total, sums->values[tile][i / 2][half * 2 + i % 2]);
        }
    }
}

/* The column of a thread's i-th value: pairs of neighbours, a warp's eight columns of every 64. */
SIMT_INLINE uint32_t attend_column(uint32_t i)
{
    return i / 2 * 64 + simt_warp() * 8 + simt_lane() % 4 * 2 + i % 2;
}

/* Sums of all splits become what the queries get. */
SIMT_INLINE void attend_finish(const struct attend_work *work, const struct attend_sums *totals)
{
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;

        if (query >= work->item.queries)
            continue;
        SIMT_UNROLL
        for (uint32_t i = 0; i < work->dim / 64 * 2; i++)
            if (attend_column(i) < work->args->pool.head_dim)
                work->args->out[attend_place(work, query) + attend_column(i)] =
                    simt_float_to_bf16(totals->values[at / 2][i / 2][at % 2 * 2 + i % 2] /
                                       totals->weight[at / 2][at % 2]);
    }
}

/* Sums of one split, for the block that joins them. */
SIMT_INLINE void attend_keep(const struct attend_work *work, const struct attend_sums *sums)
{
    SIMT_UNROLL
    for (uint32_t at = 0; at < 2 * work->height; at++) {
        uint32_t query = at / 2 * 16 + at % 2 * 8 + simt_lane() / 4;
        size_t kept = attend_kept(work, work->item.split, query);

        if (query >= work->item.queries)
            continue;
        if (simt_warp() == 0 && simt_lane() % 4 == 0) {
            work->args->maxima[kept] = sums->maximum[at / 2][at % 2];
            work->args->weights[kept] = sums->weight[at / 2][at % 2];
        }
        SIMT_UNROLL
        for (uint32_t i = 0; i < work->dim / 64 * 2; i++)
            if (attend_column(i) < work->args->pool.head_dim)
                work->args->sums[kept * work->args->pool.head_dim + attend_column(i)] =
                    sums->values[at / 2][i / 2][at % 2 * 2 + i % 2];
    }
}

/* True in the block that comes last of those with the queries' splits, which then sees what all have kept. */
SIMT_INLINE bool attend_is_last(const struct attend_work *work)
{
    simt_publish();
    simt_barrier();
    if (simt_thread() == 0) {
        *work->is_last =
            simt_arrive(work->args->counters + (size_t)work->item.counter * work->args->kv_heads +
                            work->kv_head,
                        work->item.splits);
        simt_publish();
    }
    simt_barrier();
    return *work->is_last != 0;
}

/* As attend_join_split and attend_finish, from what was kept. */
SIMT_INLINE void attend_join_kept(const struct attend_work *work)
{
    const struct cuda_attend_args *args = work->args;
    uint32_t head_dim = args->pool.head_dim;

    for (uint32_t at = simt_thread(); at < work->item.queries * head_dim;
         at += CUDA_ATTEND_THREADS) {
        uint32_t query = at / head_dim;
        uint32_t column = at % head_dim;
        uint32_t splits = (attend_limit(work, query) + CUDA_SPLIT - 1) / CUDA_SPLIT;
        size_t kept = attend_kept(work, 0, query);
        float total = args->sums[kept * head_dim + column];
        float maximum = args->maxima[kept];
        float weight = args->weights[kept];

        for (uint32_t split = 1; split < splits; split++) {
            struct attend_scales scales;

            kept = attend_kept(work, split, query);
            scales =
                attend_join_weights(&maximum, &weight, args->maxima[kept], args->weights[kept]);
            total = attend_join(scales, total, args->sums[kept * head_dim + column]);
        }
        args->out[attend_place(work, query) + column] = simt_float_to_bf16(total / weight);
    }
}

/* ------------------------------------------------------------------ a block */

SIMT_INLINE void attend_begin(struct attend_work *work)
{
    const struct cuda_attend_args *args = work->args;
    const struct cuda_pool *pool = &args->pool;
    uint32_t stride = work->dim + ATTEND_PAD;
    bool is_whole = work->item.kept == CUDA_ATTEND_WHOLE;
    uint32_t last;

    work->kv_head = simt_block_y();
    work->group = args->heads / args->kv_heads;
    last = attend_row(work, work->item.queries - 1);
    work->end = args->rows.positions[last] + 1;
    work->first_split = is_whole ? 0 : work->item.split;
    work->end_split = is_whole ? work->item.splits : work->item.split + 1;
    work->table = args->rows.slots + args->rows.tables[last];
    work->block_shift = 0;
    while (1u << work->block_shift < pool->block_tokens)
        work->block_shift++;
    work->page_bytes = (size_t)pool->block_tokens * pool->head_dim * sizeof(uint16_t);
    work->page =
        pool->base + ((size_t)work->kv_head * pool->layers + args->layer) * 2 * work->page_bytes;
    work->queries = (uint16_t *)(void *)simt_launch_memory();
    work->ring = work->queries + 16 * work->height * stride;
    work->weights = work->ring + work->slots * CUDA_ATTEND_TILE * stride;
    work->maxima = (float *)(void *)(work->weights + 16 * work->height * ATTEND_WEIGHT_STRIDE);
    work->sums = work->maxima + ATTEND_WARPS * 16 * work->height;
    work->is_last = (uint32_t *)(void *)(work->sums + ATTEND_WARPS * 16 * work->height);
}

SIMT_INLINE void attend(const struct cuda_attend_args *args, uint32_t dim, uint32_t height,
                        uint32_t slots)
{
    struct attend_load load = {0, 0, false, 0};
    struct attend_work work;
    struct attend_sums totals;
    struct attend_sums sums;
    uint32_t used = 0;
    uint32_t ahead = 0;

    work.args = args;
    work.item = args->items[simt_block_x()];
    work.dim = dim;
    work.height = height;
    work.slots = slots;
    if (work.item.queries == 0) /* the whole block */
        return;
    attend_begin(&work);
    load.split = work.first_split;
    for (; ahead < attend_old_tiles(&work); ahead++)
        attend_load_next(&work, &load);
    if (attend_is_placing(&work))
        attend_place_row(&work);
    else
        attend_load_queries(&work);
    for (; ahead < slots - 1; ahead++)
        attend_load_next(&work, &load);
    attend_split(&work, work.first_split, &load, &used, &totals);
    for (uint32_t split = work.first_split + 1; split < work.end_split; split++) {
        attend_split(&work, split, &load, &used, &sums);
        attend_join_split(&work, split, &totals, &sums);
    }
    if (work.item.kept == CUDA_ATTEND_WHOLE) {
        attend_finish(&work, &totals);
        return;
    }
    attend_keep(&work, &totals);
    if (attend_is_last(&work))
        attend_join_kept(&work);
}

/* Blocks that a multiprocessor has room for, in shared memory too. */
#define ATTEND_BLOCKS(dim, height) ((height) > 1 ? 1 : (dim) > 128 ? 2 : 3)

#define X(name, member, dim, height, slots)                                  \
    SIMT_KERNEL_EARLY(name, CUDA_ATTEND_THREADS, ATTEND_BLOCKS(dim, height), \
                      struct cuda_attend_args)                               \
    {                                                                        \
        simt_release_later();                                                \
        simt_await_earlier();                                                \
        attend(&args, dim, height, slots);                                   \
    }
CUDA_ATTEND_KERNELS(X)
#undef X

#endif
