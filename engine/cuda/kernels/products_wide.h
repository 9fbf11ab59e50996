/*
 * products_wide.h: products for many tokens by the tensor cores of Hopper's warpgroups (group.h), which mma.sync cannot
 * keep busy. The sums are those of product.h, in the same order.
 *
 * Activations are first arranged by a kernel of their own: for 128 tokens and a step of columns 16 KB that lie as shared
 * memory shall have them, so that a block fetches them as one piece. Columns stand as fragments want them (packed.h: a
 * lane's four neighbours are two pairs, eight apart), and for types with minimums the sums of the activations are there too.
 *
 * A block makes 128 rows for 128 tokens, without blocks of quants for 256, as the registers allow. Each of two warpgroups
 * has 64 of the rows: its weights go from memory to registers, a step ahead, and become fragments there. A third one, of
 * which only one thread has work, fetches activations, some steps ahead. Totals of runs are in shared memory, each thread's own.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_WIDE_H
#define TANDEM_ENGINE_CUDA_KERNELS_PRODUCTS_WIDE_H

#include "engine/cuda/kernels/group.h"
#include "engine/cuda/kernels/product.h"

#define WIDE_THREADS   (CUDA_WIDE_THREADS - GROUP_THREADS) /* that multiply */
#define WIDE_WARPS     (WIDE_THREADS / SIMT_WARP)
#define WIDE_ARRANGERS 256 /* threads of a block that arranges */

/* Of a thread that multiplies, and of one of the third warpgroup: 65,536 are there, of which each begins with 168. */
#define WIDE_REGISTERS     240
#define WIDE_REGISTERS_FEW 24

SIMT_ASSERT(CUDA_WIDE_PIECE == CUDA_WIDE_TILE * GROUP_TOKEN, "128 tokens");
SIMT_ASSERT(CUDA_WIDE_ROWS == WIDE_WARPS, "a warp has a row of tiles");

/* ------------------------------------------------------------------ activations */

/* Where word t of a lane's fragment r of simt_mma j lies, in a piece of 128 tokens. */
SIMT_INLINE uint32_t wide_word_at(uint32_t token, uint32_t j, uint32_t r)
{
    return token * GROUP_TOKEN + ((2 * j + r) ^ token % 8) * 16 + simt_lane() % 4 * 4;
}

/* Eight tokens of a step. */
SIMT_INLINE void wide_arrange(const struct cuda_arrange_args *args, uint32_t in_piece)
{
    const uint32_t step = simt_block_x();
    const uint32_t steps = packed_pieces(args->columns, CUDA_TILE_COLUMNS);
    const size_t piece = (size_t)simt_block_y() * steps + step;
    uint8_t *out = args->out + piece * CUDA_WIDE_PIECE;
    uint32_t x[4][2];

    product_fetch_x(args->x, args->columns, args->tokens,
                    simt_block_y() * CUDA_WIDE_TILE + in_piece, step, x);
    SIMT_UNROLL
    for (uint32_t j = 0; j < 4; j++)
        SIMT_UNROLL
    for (uint32_t r = 0; r < 2; r++)
        *(uint32_t *)(void *)(out + wide_word_at(in_piece + simt_lane() / 4, j, r)) = x[j][r];
    if (args->totals == NULL)
        return;
    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        float *totals = args->totals + (piece * 2 + half) * CUDA_WIDE_TILE + in_piece;
        float total[2];

        product_total(&x[2 * half], total);
        if (simt_lane() < 4) { /* all rows of a product with ones are the same */
            totals[2 * simt_lane()] = total[0];
            totals[2 * simt_lane() + 1] = total[1];
        }
    }
}

SIMT_KERNEL(arrange, WIDE_ARRANGERS, struct cuda_arrange_args)
{
    for (uint32_t first = 0; first < CUDA_WIDE_TILE; first += WIDE_ARRANGERS / SIMT_WARP * 8)
        wide_arrange(&args, first + simt_warp() * 8);
}

/* ------------------------------------------------------------------ a block */

/* Shared memory, from a multiple of GROUP_EIGHT on: see CUDA_WIDE_SHARED. */
struct wide_block {
    const struct cuda_product_args *args;
    uint32_t steps;
    uint32_t row_tile;            /* of the warp */
    uint8_t *pieces;              /* [stage][token][GROUP_TOKEN] */
    float *totals;                /* [stage][half][token] */
    struct simt_floats4 *results; /* [tile of 8 tokens][thread] */
    uint64_t *full;               /* [stage] */
    uint64_t *empty;              /* [stage] */
};

SIMT_INLINE uint32_t wide_tokens(enum cuda_type type)
{
    return CUDA_WIDE_TOKENS(type);
}

SIMT_INLINE uint32_t wide_stages(enum cuda_type type)
{
    return CUDA_WIDE_STAGES(type);
}

SIMT_INLINE struct wide_block wide_block_of(const struct cuda_product_args *args,
                                            enum cuda_type type)
{
    const uint32_t last = packed_row_tiles(&args->matrix) - 1;
    const uint32_t row_tile = simt_block_y() * CUDA_WIDE_ROWS + simt_warp();
    uint8_t *memory = simt_launch_memory();
    struct wide_block block;

    memory += (GROUP_EIGHT - simt_shared_address(memory) % GROUP_EIGHT) % GROUP_EIGHT;
    block.args = args;
    block.steps = packed_steps(&args->matrix);
    block.row_tile =
        row_tile < last ? row_tile : last; /* behind the last one, the last one again */
    block.pieces = memory;
    memory += wide_stages(type) * wide_tokens(type) * GROUP_TOKEN;
    block.results = (struct simt_floats4 *)(void *)memory;
    memory += WIDE_THREADS * wide_tokens(type) / 8 * sizeof(struct simt_floats4);
    block.totals = (float *)(void *)memory;
    memory += wide_stages(type) * wide_tokens(type) * CUDA_WIDE_TOTALS(type);
    block.full = (uint64_t *)(void *)memory;
    block.empty = block.full + wide_stages(type);
    return block;
}

SIMT_INLINE void wide_make_gates(const struct wide_block *block, enum cuda_type type)
{
    if (simt_thread() == 0)
        for (uint32_t stage = 0; stage < wide_stages(type); stage++) {
            simt_gate_make(&block->full[stage], 1);
            simt_gate_make(&block->empty[stage], WIDE_WARPS);
        }
    simt_barrier();
}

/* What the one thread does: all steps' activations, as room for them gets free. */
SIMT_INLINE void wide_bring(const struct wide_block *block, enum cuda_type type)
{
    const struct cuda_product_args *args = block->args;
    const uint32_t tiles = wide_tokens(type) / CUDA_WIDE_TILE;
    const uint32_t first = simt_block_x() * tiles;
    const uint32_t left = packed_pieces(args->tokens, CUDA_WIDE_TILE) - first;
    const uint32_t count =
        left < tiles ? left : tiles; /* what is behind the last is not looked at */
    const uint32_t totals = packed_has_minimum(type) ? 2 * CUDA_WIDE_TILE * sizeof(float) : 0;

    for (uint32_t step = 0; step < block->steps; step++) {
        const uint32_t stage = step % wide_stages(type);
        const uint32_t round = step / wide_stages(type);
        uint8_t *to = block->pieces + stage * wide_tokens(type) * GROUP_TOKEN;

        if (round > 0)
            simt_gate_wait(&block->empty[stage], (round - 1) % 2);
        simt_gate_expect(&block->full[stage], count * (CUDA_WIDE_PIECE + totals));
        for (uint32_t i = 0; i < count; i++) {
            const size_t piece = (size_t)(first + i) * block->steps + step;

            simt_gate_copy(&block->full[stage], to + i * CUDA_WIDE_PIECE,
                           args->arranged + piece * CUDA_WIDE_PIECE, CUDA_WIDE_PIECE);
            if (totals > 0)
                simt_gate_copy(&block->full[stage], block->totals + stage * 2 * CUDA_WIDE_TILE,
                               args->totals + piece * 2 * CUDA_WIDE_TILE, totals);
        }
    }
}

/* The end of a run, whose sums are added to the thread's results, or to 0. */
SIMT_INLINE void wide_end_slice(const struct wide_block *block, enum cuda_type type, bool is_first,
                                float run[GROUP_TILES_MAX][4])
{
    SIMT_UNROLL
    for (uint32_t k = 0; k < wide_tokens(type) / 8; k++) {
        struct simt_floats4 *place = &block->results[k * WIDE_THREADS + simt_thread()];
        struct simt_floats4 sum = {{0, 0, 0, 0}};

        if (!is_first)
            sum = *place;
        SIMT_UNROLL
        for (uint32_t n = 0; n < 4; n++)
            sum.value[n] += run[k][n];
        *place = sum;
    }
}

SIMT_INLINE void wide_finish(const struct wide_block *block, enum cuda_type type)
{
    const uint32_t row_tile = simt_block_y() * CUDA_WIDE_ROWS + simt_warp();
    const uint32_t first = simt_block_x() * wide_tokens(type);

    SIMT_UNROLL
    for (uint32_t k = 0; k < wide_tokens(type) / 8; k++) {
        const struct simt_floats4 sum = block->results[k * WIDE_THREADS + simt_thread()];

        product_finish(block->args, row_tile, first + k * 8, sum.value);
    }
}

/* ------------------------------------------------------------------ types without blocks */

/* Begins a step, and when the one before it in the run is done, loads the weights of the next one where its own were. */
SIMT_INLINE void wide_plain_step(const struct wide_block *block, uint32_t step, bool is_first,
                                 const struct packed_lane *now, struct packed_lane *next,
                                 float run[GROUP_TILES_MAX][4])
{
    const enum cuda_type type = CUDA_TYPE_BF16;
    const uint32_t stages = wide_stages(type);
    const uint64_t tokens = group_tokens(
        simt_shared_address(block->pieces + step % stages * wide_tokens(type) * GROUP_TOKEN));

    simt_gate_wait(&block->full[step % stages], step / stages % 2);
    simt_group_fence();
    SIMT_UNROLL
    for (uint32_t j = 0; j < 4; j++)
        simt_group_mma_256(run, &now->quants[4 * j], tokens + 2 * j, !is_first || j > 0);
    simt_group_commit();
    simt_group_wait_but(1);
    if (!is_first)
        simt_gate_arrive(&block->empty[(step - 1) % stages]);
    if (step + 1 < block->steps)
        packed_fetch(&block->args->matrix, type, block->row_tile, step + 1, next);
}

SIMT_INLINE void wide_plain(const struct wide_block *block)
{
    const enum cuda_type type = CUDA_TYPE_BF16;
    float run[GROUP_TILES_MAX][4] = {{0}};
    struct packed_lane even;
    struct packed_lane odd;
    uint32_t step = 0;

    packed_fetch(&block->args->matrix, type, block->row_tile, 0, &even);
    for (uint32_t slice = 0; slice < CUDA_SLICES; slice++) {
        const uint32_t begin = step;
        const uint32_t end = product_slice_begin(block->steps, slice + 1);

        if (begin == end)
            continue;
        for (; step < end; step++)
            if (step % 2 == 0)
                wide_plain_step(block, step, step == begin, &even, &odd, run);
            else
                wide_plain_step(block, step, step == begin, &odd, &even, run);
        simt_group_wait_but(0);
        simt_group_settle_256(run);
        simt_gate_arrive(&block->empty[(step - 1) % wide_stages(type)]);
        wide_end_slice(block, type, begin == 0, run);
    }
}

/* ------------------------------------------------------------------ types with blocks */

/* Begins the sums of whole quants over one block of columns: from fragment j on, so many. */
SIMT_INLINE void wide_begin_block(uint64_t tokens, uint32_t j, uint32_t count,
                                  uint32_t weights[2][4], float part[GROUP_TILES_MAX][4])
{
    simt_group_fence();
    SIMT_UNROLL
    for (uint32_t i = 0; i < count; i++)
        simt_group_mma_128(part, weights[(j + i) % 2], tokens + 2 * (j + i), i > 0);
    simt_group_commit();
}

SIMT_INLINE void wide_end_block(float low, float high, float part[GROUP_TILES_MAX][4],
                                float run[GROUP_TILES_MAX][4])
{
    simt_group_wait_but(0);
    simt_group_settle_128(part);
    SIMT_UNROLL
    for (uint32_t k = 0; k < CUDA_WIDE_TILE / 8; k++)
        product_add(run[k], part[k], low, high);
}

/* Adds minimums times the sums of activations. */
SIMT_INLINE void wide_add_minimums(const float *totals, float low, float high,
                                   float run[GROUP_TILES_MAX][4])
{
    SIMT_UNROLL
    for (uint32_t k = 0; k < CUDA_WIDE_TILE / 8; k++) {
        const struct simt_words2 words = simt_load2(totals + k * 8 + simt_lane() % 4 * 2);
        const float two[2] = {packed_float(words.word[0]), packed_float(words.word[1])};
        const float part[4] = {two[0], two[1], two[0], two[1]};

        product_add(run[k], part, low, high);
    }
}

/* As product_half_step; what comes next is opened while the tensor cores work. */
SIMT_INLINE void wide_half_step(const struct wide_block *block, enum cuda_type type, uint32_t stage,
                                uint32_t half, const struct packed_lane *lane,
                                uint32_t weights[2][4], float part[GROUP_TILES_MAX][4],
                                float run[GROUP_TILES_MAX][4])
{
    const uint64_t tokens =
        group_tokens(simt_shared_address(block->pieces + stage * wide_tokens(type) * GROUP_TOKEN));
    float scales[2][2];

    wide_begin_block(tokens, 2 * half, type == CUDA_TYPE_Q6_K ? 1 : 2, weights, part);
    packed_scales(type, lane->scales[0], lane->supers[0], half, scales[0]);
    packed_scales(type, lane->scales[1], lane->supers[1], half, scales[1]);
    wide_end_block(scales[0][0], scales[1][0], part, run);
    if (type == CUDA_TYPE_Q6_K) {
        wide_begin_block(tokens, 2 * half + 1, 1, weights, part);
        wide_end_block(scales[0][1], scales[1][1], part, run);
    }
    if (packed_has_minimum(type))
        wide_add_minimums(block->totals + (stage * 2 + half) * CUDA_WIDE_TILE, scales[0][1],
                          scales[1][1], run);
}

SIMT_INLINE void wide_step(const struct wide_block *block, enum cuda_type type, uint32_t step,
                           const struct packed_lane *lane, float part[GROUP_TILES_MAX][4],
                           float run[GROUP_TILES_MAX][4])
{
    const uint32_t stage = step % wide_stages(type);

    simt_gate_wait(&block->full[stage], step / wide_stages(type) % 2);
    SIMT_UNROLL
    for (uint32_t half = 0; half < 2; half++) {
        uint32_t weights[2][4];

        packed_open(type, lane, 2 * half, weights[0]);
        packed_open(type, lane, 2 * half + 1, weights[1]);
        wide_half_step(block, type, stage, half, lane, weights, part, run);
    }
    simt_gate_arrive(&block->empty[stage]);
}

SIMT_INLINE void wide_blocks(const struct wide_block *block, enum cuda_type type)
{
    const struct cuda_matrix *matrix = &block->args->matrix;
    float run[GROUP_TILES_MAX][4] = {{0}};
    float part[GROUP_TILES_MAX][4] = {{0}};
    struct packed_lane now;
    struct packed_lane next;
    uint32_t step = 0;

    packed_fetch(matrix, type, block->row_tile, 0, &next);
    for (uint32_t slice = 0; slice < CUDA_SLICES; slice++) {
        const uint32_t begin = step;
        const uint32_t end = product_slice_begin(block->steps, slice + 1);

        if (begin == end)
            continue;
        for (; step < end; step++) {
            now = next;
            if (step + 1 < block->steps)
                packed_fetch(matrix, type, block->row_tile, step + 1, &next);
            wide_step(block, type, step, &now, part, run);
        }
        wide_end_slice(block, type, begin == 0, run);
        SIMT_UNROLL
        for (uint32_t k = 0; k < CUDA_WIDE_TILE / 8; k++)
            run[k][0] = run[k][1] = run[k][2] = run[k][3] = 0;
    }
}

/* ------------------------------------------------------------------ all */

SIMT_INLINE void product_wide(const struct cuda_product_args *args, enum cuda_type type)
{
    const struct wide_block block = wide_block_of(args, type);

    wide_make_gates(&block, type);
    if (simt_warp() >= WIDE_WARPS) {
        simt_group_give_registers(WIDE_REGISTERS_FEW);
        if (simt_thread() == WIDE_THREADS)
            wide_bring(&block, type);
        return;
    }
    simt_group_take_registers(WIDE_REGISTERS);
    if (type == CUDA_TYPE_BF16)
        wide_plain(&block);
    else
        wide_blocks(&block, type);
    wide_finish(&block, type);
}

#define X(name, member)                                                           \
    SIMT_KERNEL(product_wide_##name, CUDA_WIDE_THREADS, struct cuda_product_args) \
    {                                                                             \
        if (GROUP_IS_THERE)                                                       \
            product_wide(&args, CUDA_TYPE_##member);                              \
    }
CUDA_PACKED_TYPES(X)
#undef X

#endif
