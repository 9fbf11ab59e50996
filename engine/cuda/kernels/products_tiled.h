/*
 * products_tiled.h: products for many tokens, bound by the tensor cores.
 *
 * A block makes 128 rows for 128 tokens (64 in types with blocks, whose scales need registers), step by step; while one
 * step is multiplied out of shared memory, the next one is on its way into the other buffer. Weights lie there as
 * fragments of bf16, opened once for the whole block, by the warp that has the row of tiles; activations as rows of 128
 * bytes, whose pieces of 32 are exchanged by token, so that four tokens' pieces lie in different banks.
 *
 * Where that gives fewer blocks than there are multiprocessors, several blocks share a result (args.parts): each sums its
 * own of the eight runs of columns and keeps them in memory, and the one that comes last adds all of them in rising
 * order. The runs of the first part need not be kept one by one: they are the beginning of that order.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_TILED_H
#define TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_TILED_H

#include "engine/cuda/kernels/product.h"

#define TILED_ROWS_MAX    4 /* tiles of 16 rows of a warp */
#define TILED_WARP_TOKENS 4 /* tiles of 8 tokens of a warp */

#define TILED_WEIGHTS (CUDA_TILED_ROWS * 4 * PACKED_SECTION) /* bytes in a buffer */
#define TILED_SCALES  (CUDA_TILED_ROWS * CUDA_TILE_ROWS * (int)sizeof(struct simt_floats4))
#define TILED_TOKEN   (CUDA_TILE_COLUMNS * 2) /* bytes of a token's activations */

SIMT_ASSERT(2 * (TILED_WEIGHTS + TILED_SCALES + CUDA_TILED_TOKENS * 8 * TILED_TOKEN) ==
                CUDA_TILED_SHARED,
            "what is asked for at launch");
SIMT_ASSERT(CUDA_TILED_ROWS *SIMT_WARP == CUDA_PRODUCT_THREADS, "a warp opens a row of tiles");

struct tiled_buffer {
    uint8_t *weights; /* [row of tiles][simt_mma][lane][16 bytes] */
    uint8_t *scales;  /* [row of tiles][row][half][2]: see packed_scales */
    uint8_t *x;       /* [token][TILED_TOKEN] */
};

struct tiled_sums {
    float run[TILED_ROWS_MAX][TILED_WARP_TOKENS][4];
    float total[TILED_ROWS_MAX][TILED_WARP_TOKENS][4];
};

/* Tiles of 8 tokens of a block; the warps lie side by side over them, and one below the other over the rows. */
SIMT_INLINE uint32_t tiled_tokens(enum cuda_type type)
{
    return type == CUDA_TYPE_BF16 ? CUDA_TILED_TOKENS : CUDA_TILED_BLOCK_TOKENS;
}

SIMT_INLINE uint32_t tiled_across(enum cuda_type type)
{
    return tiled_tokens(type) / TILED_WARP_TOKENS;
}

/* Tiles of 16 rows of a warp. */
SIMT_INLINE uint32_t tiled_rows(enum cuda_type type)
{
    return CUDA_TILED_ROWS * tiled_across(type) / (CUDA_PRODUCT_THREADS / SIMT_WARP);
}

SIMT_INLINE struct tiled_buffer tiled_buffer_of(enum cuda_type type, uint32_t step)
{
    const uint32_t bytes = TILED_WEIGHTS + TILED_SCALES + tiled_tokens(type) * 8 * TILED_TOKEN;
    struct tiled_buffer buffer;

    buffer.weights = simt_launch_memory() + step % 2 * bytes;
    buffer.scales = buffer.weights + TILED_WEIGHTS;
    buffer.x = buffer.scales + TILED_SCALES;
    return buffer;
}

/* Where a token's 16 columns of simt_mma j begin in a buffer of activations. */
SIMT_INLINE uint32_t tiled_x_at(uint32_t token, uint32_t j)
{
    return token * TILED_TOKEN + (j ^ token % 4) * 32;
}

/* Where a lane's fragment of simt_mma j of a row of tiles lies in a buffer of weights. */
SIMT_INLINE uint32_t tiled_weights_at(uint32_t row_tile, uint32_t j)
{
    return (row_tile * 4 + j) * PACKED_SECTION + simt_lane() * 16;
}

/* The row of tiles that a warp brings; behind the last one, the last one again. */
SIMT_INLINE uint32_t tiled_row_tile(const struct cuda_product_args *args)
{
    uint32_t last = packed_row_tiles(&args->matrix) - 1;
    uint32_t row_tile = simt_block_y() * CUDA_TILED_ROWS + simt_warp();

    return row_tile < last ? row_tile : last;
}

/* Begins what can go straight to shared memory, and loads the rest to registers. */
SIMT_INLINE void tiled_begin(const struct cuda_product_args *args, enum cuda_type type,
                             uint32_t step, struct packed_lane *lane_out)
{
    const struct tiled_buffer buffer = tiled_buffer_of(type, step);
    const uint32_t row_tile = tiled_row_tile(args);
    const uint32_t piece = simt_thread() % 8; /* of 16 bytes of a token's 128 */
    const uint32_t column = step * CUDA_TILE_COLUMNS + piece * 8;

    if (type == CUDA_TYPE_BF16) {
        const uint8_t *tile =
            args->matrix.data + packed_tile_at(&args->matrix, type, row_tile, step);

        SIMT_UNROLL
        for (uint32_t j = 0; j < 4; j++)
            simt_copy16(buffer.weights + tiled_weights_at(simt_warp(), j),
                        tile + j * PACKED_SECTION + simt_lane() * 16, true);
    } else {
        packed_fetch(&args->matrix, type, row_tile, step, lane_out);
    }
    SIMT_UNROLL
    for (uint32_t i = 0; i < tiled_tokens(type) * 8; i += CUDA_PRODUCT_THREADS / 8) {
        uint32_t in_block = i + simt_thread() / 8;
        uint32_t token = simt_block_x() * tiled_tokens(type) * 8 + in_block;
        bool is_there = token < args->tokens && column < args->matrix.columns;

        simt_copy16(buffer.x + tiled_x_at(in_block, piece / 2) + piece % 2 * 16,
                    args->x + (is_there ? (size_t)token * args->matrix.columns + column : 0),
                    is_there);
    }
}

/* What was loaded to registers, opened. */
SIMT_INLINE void tiled_open(enum cuda_type type, uint32_t step, const struct packed_lane *lane)
{
    const struct tiled_buffer buffer = tiled_buffer_of(type, step);
    struct simt_floats4 *scales = (struct simt_floats4 *)(void *)buffer.scales +
                                  simt_warp() * CUDA_TILE_ROWS + simt_lane() / 4;

    if (type == CUDA_TYPE_BF16)
        return;
    SIMT_UNROLL
    for (uint32_t j = 0; j < 4; j++) {
        struct simt_words4 words;

        packed_open(type, lane, j, words.word);
        simt_store4(buffer.weights + tiled_weights_at(simt_warp(), j), words);
    }
    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct simt_floats4 four;

        packed_scales(type, lane->scales[i], lane->supers[i], 0, &four.value[0]);
        packed_scales(type, lane->scales[i], lane->supers[i], 1, &four.value[2]);
        if (simt_lane() % 4 == i) /* the four lanes of a row have the same */
            scales[8 * i] = four;
    }
}

/* Half a step of a row of tiles: fragments, and scales of rows g and g + 8. */
SIMT_INLINE void tiled_load(const struct tiled_buffer *buffer, enum cuda_type type,
                            uint32_t row_tile, uint32_t half, uint32_t weights[2][4],
                            float scales[2][2])
{
    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct simt_words4 words =
            simt_load4(buffer->weights + tiled_weights_at(row_tile, 2 * half + i));

        SIMT_UNROLL
        for (uint32_t r = 0; r < 4; r++)
            weights[i][r] = words.word[r];
    }
    if (type == CUDA_TYPE_BF16)
        return;
    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        uint32_t row = row_tile * CUDA_TILE_ROWS + simt_lane() / 4 + 8 * i;
        const float *two = (const float *)(const void *)buffer->scales + row * 4 + half * 2;

        scales[i][0] = two[0];
        scales[i][1] = two[1];
    }
}

/* Half a step of a token's 8 columns of results. */
SIMT_INLINE void tiled_load_x(const struct tiled_buffer *buffer, uint32_t first_token,
                              uint32_t half, uint32_t x[2][2])
{
    SIMT_UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        struct simt_words2 words =
            simt_load2(buffer->x + tiled_x_at(first_token + simt_lane() / 4, 2 * half + i) +
                       simt_lane() % 4 * 8);

        x[i][0] = words.word[0];
        x[i][1] = words.word[1];
    }
}

SIMT_INLINE void tiled_compute(enum cuda_type type, uint32_t step, struct tiled_sums *sums)
{
    const struct tiled_buffer buffer = tiled_buffer_of(type, step);
    const uint32_t first_row = simt_warp() / tiled_across(type) * tiled_rows(type);
    const uint32_t first_token = simt_warp() % tiled_across(type) * TILED_WARP_TOKENS;

    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t x[TILED_WARP_TOKENS][2][2];
        float totals[TILED_WARP_TOKENS][2] = {{0}};

        SIMT_UNROLL
        for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++) {
            tiled_load_x(&buffer, (first_token + k) * 8, half, x[k]);
            if (packed_has_minimum(type))
                product_total(x[k], totals[k]);
        }
        SIMT_UNROLL
        for (uint32_t i = 0; i < tiled_rows(type); i++) {
            uint32_t weights[2][4];
            float scales[2][2] = {{0}};

            tiled_load(&buffer, type, first_row + i, half, weights, scales);
            SIMT_UNROLL
            for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++)
                product_half_step(type, weights, x[k], scales, totals[k], sums->run[i][k]);
        }
    }
}

SIMT_INLINE void tiled_finish(const struct cuda_product_args *args, enum cuda_type type,
                              struct tiled_sums *sums)
{
    const uint32_t first_row =
        simt_block_y() * CUDA_TILED_ROWS + simt_warp() / tiled_across(type) * tiled_rows(type);
    const uint32_t first_token =
        simt_block_x() * tiled_tokens(type) + simt_warp() % tiled_across(type) * TILED_WARP_TOKENS;

    SIMT_UNROLL
    for (uint32_t i = 0; i < tiled_rows(type); i++)
        SIMT_UNROLL
    for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++)
        product_finish(args, first_row + i, (first_token + k) * 8, sums->total[i][k]);
}

/* ------------------------------------------------------------------ runs */

/* The block's result among those of the product. */
SIMT_INLINE uint32_t tiled_result(const struct cuda_product_args *args, enum cuda_type type)
{
    return simt_block_y() * packed_pieces(args->tokens, tiled_tokens(type) * 8) + simt_block_x();
}

/* Where a thread keeps sums of one of its tiles: [result][kept][tile][thread]. */
SIMT_INLINE struct simt_floats4 *tiled_kept_at(const struct cuda_product_args *args,
                                               enum cuda_type type, uint32_t kept, uint32_t tile)
{
    const uint32_t tiles = tiled_rows(type) * TILED_WARP_TOKENS;
    const size_t first = (size_t)tiled_result(args, type) * CUDA_RUNS_KEPT(args->parts) + kept;

    return (struct simt_floats4 *)(void *)args->runs +
           (first * tiles + tile) * CUDA_PRODUCT_THREADS + simt_thread();
}

SIMT_INLINE void tiled_keep(const struct cuda_product_args *args, enum cuda_type type,
                            uint32_t kept, float sums[TILED_ROWS_MAX][TILED_WARP_TOKENS][4])
{
    SIMT_UNROLL
    for (uint32_t i = 0; i < tiled_rows(type); i++)
        SIMT_UNROLL
    for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++) {
        struct simt_floats4 *place = tiled_kept_at(args, type, kept, i * TILED_WARP_TOKENS + k);

        SIMT_UNROLL
        for (uint32_t n = 0; n < 4; n++)
            place->value[n] = sums[i][k][n];
    }
}

/* The sum of all that was kept, in rising order. */
SIMT_INLINE void tiled_join(const struct cuda_product_args *args, enum cuda_type type,
                            float sums[TILED_ROWS_MAX][TILED_WARP_TOKENS][4])
{
    for (uint32_t kept = 0; kept < CUDA_RUNS_KEPT(args->parts); kept++) {
        SIMT_UNROLL
        for (uint32_t i = 0; i < tiled_rows(type); i++)
            SIMT_UNROLL
        for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++) {
            const struct simt_floats4 *place =
                tiled_kept_at(args, type, kept, i * TILED_WARP_TOKENS + k);

            SIMT_UNROLL
            for (uint32_t n = 0; n < 4; n++)
                sums[i][k][n] = kept == 0 ? place->value[n] : sums[i][k][n] + place->value[n];
        }
    }
}

/* True in the block that comes last of those that share a result, which then sees what all have kept. */
SIMT_INLINE bool tiled_is_last(const struct cuda_product_args *args, enum cuda_type type,
                               uint32_t *shared)
{
    simt_publish();
    simt_barrier();
    if (simt_thread() == 0) {
        *shared = simt_arrive(args->counters + tiled_result(args, type), args->parts);
        simt_publish();
    }
    simt_barrier();
    return *shared != 0;
}

/* The end of a run: it is added to the total, or kept by parts other than the first. */
SIMT_INLINE void tiled_end_slice(const struct cuda_product_args *args, enum cuda_type type,
                                 uint32_t slice, struct tiled_sums *sums)
{
    const uint32_t of_first = CUDA_SLICES / args->parts;
    const bool is_kept = slice >= of_first;

    if (is_kept)
        tiled_keep(args, type, slice - of_first + 1, sums->run);
    SIMT_UNROLL
    for (uint32_t i = 0; i < tiled_rows(type); i++)
        SIMT_UNROLL
    for (uint32_t k = 0; k < TILED_WARP_TOKENS; k++)
        SIMT_UNROLL
    for (uint32_t n = 0; n < 4; n++) {
        if (!is_kept)
            sums->total[i][k][n] += sums->run[i][k][n];
        sums->run[i][k][n] = 0;
    }
}

/* ------------------------------------------------------------------ a block */

/* The runs of a block's part. */
SIMT_INLINE void tiled_sum(const struct cuda_product_args *args, enum cuda_type type,
                           struct tiled_sums *sums)
{
    const uint32_t steps = packed_steps(&args->matrix);
    const uint32_t of_part = CUDA_SLICES / args->parts;
    const uint32_t first = simt_block_z() * of_part;
    const uint32_t last = product_slice_begin(steps, first + of_part);
    uint32_t step = product_slice_begin(steps, first);
    struct packed_lane lane = {{0}, {{0}}, {0}}; /* a part may have no step */

    if (step < last) {
        tiled_begin(args, type, step, &lane);
        tiled_open(type, step, &lane);
    }
    for (uint32_t slice = first; slice < first + of_part; slice++) {
        const uint32_t end = product_slice_begin(steps, slice + 1);

        for (; step < end; step++) {
            simt_copy_commit();
            simt_copy_wait_but(0);
            simt_barrier(); /* this step is there, and nobody uses the other buffer any more */
            if (step + 1 < last)
                tiled_begin(args, type, step + 1, &lane);
            tiled_compute(type, step, sums);
            if (step + 1 < last)
                tiled_open(type, step + 1, &lane);
        }
        tiled_end_slice(args, type, slice, sums);
    }
}

SIMT_INLINE void product_tiled(const struct cuda_product_args *args, enum cuda_type type,
                               uint32_t *shared)
{
    struct tiled_sums sums = {{{{0}}}, {{{0}}}};

    tiled_sum(args, type, &sums);
    if (args->parts > 1) {
        if (simt_block_z() == 0)
            tiled_keep(args, type, 0, sums.total);
        if (!tiled_is_last(args, type, shared))
            return;
        tiled_join(args, type, sums.total);
    }
    tiled_finish(args, type, &sums);
}

#define X(name, member)                                                               \
    SIMT_KERNEL(product_tiled_##name, CUDA_PRODUCT_THREADS, struct cuda_product_args) \
    {                                                                                 \
        SIMT_SHARED uint32_t shared;                                                  \
                                                                                      \
        product_tiled(&args, CUDA_TYPE_##member, &shared);                            \
    }
CUDA_PACKED_TYPES(X)
#undef X

#endif
