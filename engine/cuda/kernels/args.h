/*
 * args.h: the kernels by name, and what each is given.
 *
 * Read by C files that launch, by nvcc and by the interpreter. All pointers are into the device's memory; all
 * counts and strides are of elements. Rows of activations are 32-bit floats, but for those that products are made
 * of: bf16, rounded once, to the nearest, by the kernel that makes them.
 */
#ifndef TANDEM_ENGINE_CUDA_KERNELS_ARGS_H
#define TANDEM_ENGINE_CUDA_KERNELS_ARGS_H

#include <stdbool.h>
#include <stdint.h>

/* CUDA_TYPES(X): X(name, MEMBER, id): types of weights in files. The ids are those of model/quant.h. */
#define CUDA_TYPES(X) \
    X(f32, F32, 0)    \
    X(f16, F16, 1)    \
    X(q4_0, Q4_0, 2)  \
    X(q4_1, Q4_1, 3)  \
    X(q5_0, Q5_0, 6)  \
    X(q5_1, Q5_1, 7)  \
    X(q8_0, Q8_0, 8)  \
    X(q4_k, Q4_K, 12) \
    X(q5_k, Q5_K, 13) \
    X(q6_k, Q6_K, 14) \
    X(bf16, BF16, 30) \
    X(fp8, F8_E4M3, 128)

enum cuda_type {
#define X(name, member, id) CUDA_TYPE_##member = (id),
    CUDA_TYPES(X)
#undef X
};

/*
 * CUDA_PACKED_TYPES(X): X(name, MEMBER): types of weights on the device. F32 and F16 are rounded to bf16 at loading,
 * since tensor cores are given bf16.
 */
#define CUDA_PACKED_TYPES(X) \
    X(bf16, BF16)            \
    X(q8_0, Q8_0)            \
    X(q4_0, Q4_0)            \
    X(q4_1, Q4_1)            \
    X(q5_0, Q5_0)            \
    X(q5_1, Q5_1)            \
    X(q4_k, Q4_K)            \
    X(q5_k, Q5_K)            \
    X(q6_k, Q6_K)            \
    X(fp8, F8_E4M3)

/* Kernels other than products and attention: X(name, MEMBER, threads of a block). */
#define CUDA_OTHER_KERNELS(X)            \
    X(embed, EMBED, 256)                 \
    X(norm, NORM, 256)                   \
    X(scale, SCALE, 256)                 \
    X(place, PLACE, 32)                  \
    X(attend_floats, ATTEND_FLOATS, 128) \
    X(merge_floats, MERGE_FLOATS, 128)   \
    X(activate, ACTIVATE, 256)           \
    X(arrange, ARRANGE, 256)             \
    X(pack, PACK, 128)                   \
    X(row_scales, ROW_SCALES, 256)       \
    X(peaks, PEAKS, 256)                 \
    X(survey, SURVEY, CUDA_DRAW_THREADS) \
    X(change, CHANGE, CUDA_DRAW_THREADS) \
    X(mask, MASK, 256)                   \
    X(draw, DRAW, CUDA_DRAW_THREADS)     \
    X(fill, FILL, 256)                   \
    X(hash, HASH, 256)                   \
    X(clear, CLEAR, 128)

/*
 * Attention over pools of halves: X(name, MEMBER, elements of a head at most, tiles of 16 queries, tiles of keys or
 * values that are in shared memory at a time).
 */
#define CUDA_ATTEND_KERNELS(X)                   \
    X(attend_few_64, ATTEND_FEW_64, 64, 1, 3)    \
    X(attend_few_128, ATTEND_FEW_128, 128, 1, 3) \
    X(attend_few_256, ATTEND_FEW_256, 256, 1, 2) \
    X(attend_many_64, ATTEND_MANY_64, 64, 4, 2)  \
    X(attend_many_128, ATTEND_MANY_128, 128, 4, 2)

#define CUDA_ATTEND_THREADS 256
#define CUDA_ATTEND_TILE    64 /* positions whose keys or values are copied at a time */
#define CUDA_ATTEND_FEW     16 /* queries that a block of attend_few takes */
#define CUDA_ATTEND_MANY    64

/* Bytes of shared memory of such a kernel: queries and tiles, weights, and two numbers of each warp and query. */
#define CUDA_ATTEND_SHARED(dim, queries, slots)                    \
    (2 * ((dim) + 8) * ((queries)*16 + (slots)*CUDA_ATTEND_TILE) + \
     2 * (CUDA_SPLIT + 8) * (queries)*16 + 2 * CUDA_ATTEND_THREADS / 32 * (queries)*16 * 4 + 16)

/*
 * Products, of which there is each for each packed type: X(name, MEMBER, threads of a block, bytes of shared memory asked
 * for at launch). The last one is for devices with warpgroups alone.
 */
#define CUDA_PRODUCTS(X, type, TYPE)                                                       \
    X(product_few_##type, PRODUCT_FEW_##TYPE, CUDA_PRODUCT_THREADS, 0)                     \
    X(product_some_##type, PRODUCT_SOME_##TYPE, CUDA_PRODUCT_THREADS, 0)                   \
    X(product_many_##type, PRODUCT_MANY_##TYPE, CUDA_PRODUCT_THREADS, 0)                   \
    X(product_tiled_##type, PRODUCT_TILED_##TYPE, CUDA_PRODUCT_THREADS, CUDA_TILED_SHARED) \
    X(product_wide_##type, PRODUCT_WIDE_##TYPE, CUDA_WIDE_THREADS,                         \
      CUDA_WIDE_SHARED(CUDA_TYPE_##TYPE))

#define CUDA_PRODUCT_THREADS 256
#define CUDA_DRAW_THREADS    1024

enum cuda_kernel {
#define X(name, member, threads) CUDA_KERNEL_##member,
    CUDA_OTHER_KERNELS(X)
#undef X
#define X(name, member, dim, queries, slots) CUDA_KERNEL_##member,
        CUDA_ATTEND_KERNELS(X)
#undef X
#define Y(name, member, threads, shared) CUDA_KERNEL_##member,
#define X(name, member)                  CUDA_PRODUCTS(Y, name, member)
            CUDA_PACKED_TYPES(X)
#undef X
#undef Y
                CUDA_KERNEL_COUNT
};

#define CUDA_GROUP        8  /* columns are a multiple of it */
#define CUDA_TILE_ROWS    16 /* of a packed matrix: see kernels/packed.h */
#define CUDA_TILE_COLUMNS 64
#define CUDA_SLICES       8 /* runs of columns that are summed on their own: see kernels/product.h */

/* What a block makes: CUDA_TILE_ROWS times so many rows for 8 times so many tokens. */
#define CUDA_FEW_ROWS           1
#define CUDA_FEW_TOKENS         1
#define CUDA_SOME_ROWS          2
#define CUDA_SOME_TOKENS        2
#define CUDA_MANY_ROWS          4
#define CUDA_MANY_TOKENS        4
#define CUDA_TILED_ROWS         8
#define CUDA_TILED_TOKENS       16
#define CUDA_TILED_BLOCK_TOKENS 8 /* in types with blocks */

/*
 * product_wide: rows of tiles and tokens of a block; pieces of 128 tokens' activations in a step, and how many it has
 * room for; threads. Shared memory: those pieces and sums of activations, a float for each result, and gates.
 */
#define CUDA_WIDE_ROWS         8
#define CUDA_WIDE_TILE         128
#define CUDA_WIDE_PIECE        (CUDA_WIDE_TILE * CUDA_TILE_COLUMNS * 2)
#define CUDA_WIDE_TOKENS(type) ((type) == CUDA_TYPE_BF16 ? 2 * CUDA_WIDE_TILE : CUDA_WIDE_TILE)
#define CUDA_WIDE_STAGES(type) ((type) == CUDA_TYPE_BF16 ? 3 : 4)
#define CUDA_WIDE_THREADS      384
#define CUDA_WIDE_TOTALS(type) ((type) == CUDA_TYPE_BF16 ? 0 : 2 * 4) /* bytes of a token */
#define CUDA_WIDE_SHARED(type)                                             \
    (1024 + CUDA_WIDE_ROWS * CUDA_TILE_ROWS * CUDA_WIDE_TOKENS(type) * 4 + \
     CUDA_WIDE_STAGES(type) *                                              \
         (CUDA_WIDE_TOKENS(type) * (CUDA_TILE_COLUMNS * 2 + CUDA_WIDE_TOTALS(type)) + 2 * 8))

/* Two buffers of weights as bf16, of activations, and of four scales for each row. */
#define CUDA_TILED_SHARED                                                                       \
    (2 * (CUDA_TILED_ROWS * CUDA_TILE_ROWS * (CUDA_TILE_COLUMNS * 2 + 4 * (int)sizeof(float)) + \
          CUDA_TILED_TOKENS * 8 * CUDA_TILE_COLUMNS * 2))

/*
 * What product_tiled keeps of a result that so many blocks (1, 2, 4 or 8) share: the sum of the first block's runs, and
 * each of the others'. A result takes so many floats each time.
 */
#define CUDA_RUNS_KEPT(parts) (CUDA_SLICES - CUDA_SLICES / (parts) + 1)
#define CUDA_RUN_FLOATS       (CUDA_TILED_ROWS * CUDA_TILE_ROWS * CUDA_TILED_TOKENS * 8)

#define CUDA_SPLIT        256 /* positions whose attention is summed on its own, counted from 0 */
#define CUDA_HEAD_DIM_MAX 256
#define CUDA_ATTEND_HEADS 8 /* query heads of a KV head that are worked on at a time */

/* Weights in the order of kernels/packed.h. */
struct cuda_matrix {
    const uint8_t *data;
    uint32_t rows;
    uint32_t columns;
    uint32_t type;  /* enum cuda_type, one of CUDA_PACKED_TYPES */
    bool is_paired; /* of each tile the first 8 rows are a gate's, the others belong to them */
};

/*
 * Scales of rows of FP8 that are packed: rows[i][(phase + row) / down * across + column / columns], of source i, whose
 * first row has place `phase` among those that share a scale.
 */
struct cuda_scales {
    const float *rows[2];
    float all; /* instead, where rows[0] is NULL */
    uint32_t phase;
    uint32_t down;    /* rows that share a scale */
    uint32_t across;  /* scales of a row */
    uint32_t columns; /* that share a scale; a multiple of CUDA_TILE_COLUMNS, or all */
};

/*
 * Packs rows of a matrix in the order of files into tiles from first_tile on; of a paired matrix rows of the gate and as
 * many of the other, else of one. Blocks: four tiles of a row of tiles, rows of tiles.
 */
struct cuda_pack_args {
    const uint8_t *sources[2];
    uint64_t row_bytes;   /* of the sources */
    uint32_t source_type; /* enum cuda_type */
    uint32_t rows;        /* of each source */
    uint32_t first_tile;  /* row of tiles */
    struct cuda_matrix matrix;
    uint8_t *data; /* the matrix's */
    struct cuda_scales scales;
};

/*
 * Scales with which rows of so much become FP8: the largest magnitude of a row becomes the largest of FP8. A row with an
 * infinity or what is no number gets a scale that is none, so that its results show. Blocks: rows.
 */
struct cuda_row_scales_args {
    const uint8_t *source;
    uint64_t row_bytes;
    uint32_t source_type; /* F32, F16 or BF16 */
    uint32_t columns;
    float *scales;
};

/* The pool: as in engine/backend.h, elements are halves or floats. */
struct cuda_pool {
    uint8_t *base;
    uint64_t block_bytes;
    uint32_t block_tokens;
    uint32_t layers;
    uint32_t head_dim;
    uint32_t element_bytes; /* 2: half; 4: float */
};

/* The rows of a step. slots[tables[row] + position / block_tokens] holds the position of a row. */
struct cuda_rows {
    const uint32_t *tokens;
    const uint32_t *positions;
    const uint32_t *tables;
    const uint32_t *slots;
};

#define CUDA_SIXTEENS(count) \
    (((count) + 15) / 16) /* neighbours whose squares are summed first: kernels/norm.h */

/* What whoever writes rows of the residual stream makes for the norm behind it. */
struct cuda_next {
    const float *weight; /* of the norm; NULL: there is none */
    uint16_t *out;       /* elements times weights as bf16: rows as of the stream */
    float *squares;      /* [row][CUDA_SIXTEENS of its elements] */
};

/* x[row] = the embedding of its token. One block for a row. */
struct cuda_embed_args {
    struct cuda_matrix table;
    const uint32_t *tokens;
    float *x;
    struct cuda_next next;
};

#define CUDA_PICK_HEAD 0x80000000u /* in picks: a state that was given, not a row */

/* out[i] = norm of x[i] as bf16, or with picks of x[picks[i]] or heads[picks[i] without CUDA_PICK_HEAD]. A block for each. */
struct cuda_norm_args {
    const float *x;
    const float *heads;
    const uint32_t *picks; /* NULL: all rows in their order */
    const float *weight;
    uint16_t *out;
    uint32_t count; /* of a row */
    float epsilon;
};

#define CUDA_SCALE_ROWS 8 /* of a block */

/* scales[row] = what the row's norm multiplies it with. A warp for each. */
struct cuda_scale_args {
    const float *squares; /* [rows][CUDA_SIXTEENS(count)] */
    float *scales;
    uint32_t rows;
    uint32_t count; /* of a row */
    float epsilon;
};

/*
 * y[token][row] (+)= scale[token] * matrix[row] * x[token] + bias[row]; of a paired matrix instead gated[token][row] =
 * silu(gate) * up, as bf16. Blocks: see multiply.c.
 */
struct cuda_product_args {
    struct cuda_matrix matrix;
    const uint16_t *x; /* bf16 [tokens][columns] */
    const float *bias; /* NULL: none */
    float *y;          /* [tokens][stride], rows of which are written */
    uint16_t *gated;   /* the same */
    uint32_t stride;
    uint32_t tokens;
    bool is_added; /* to what y holds */

    /* Of the norm that x comes from; both NULL: there is none. */
    const float *scales; /* [tokens] */
    const float *
        squares; /* where there are no scales, to make them from: [tokens][CUDA_SIXTEENS(columns)] */
    float epsilon;
    struct cuda_next
        next; /* of the norm behind y, whose rows are then as long as the matrix has rows */

    /* For product_tiled, filled in by multiply.c. */
    uint32_t parts;     /* blocks that share a result */
    float *runs;        /* [result][CUDA_RUNS_KEPT][floats of a result] */
    uint32_t *counters; /* [result] all zero before and after */

    /* For product_wide: x as its kernel arranges it, and sums of it where the type has minimums. */
    const uint8_t *arranged;
    const float *totals;
};

/*
 * x[tokens][columns] as product_wide wants it: out[128 tokens][step][CUDA_WIDE_PIECE], filled up with zeros, and sums over
 * half steps: totals[128 tokens][step][half][token]. Blocks: step, 128 tokens.
 */
struct cuda_arrange_args {
    const uint16_t *x;
    uint8_t *out;
    float *totals; /* NULL: not wanted */
    uint32_t columns;
    uint32_t tokens;
};

/* Norms of heads, rotation; queries are scaled, keys and values go to the pool. Blocks: row, head of Q then of K. */
struct cuda_place_args {
    struct cuda_rows rows;
    struct cuda_pool pool;
    const float *q; /* [rows][stride], of which heads * head_dim */
    const float *k;
    const float *v;
    uint32_t stride;     /* of q, k and v */
    const float *q_norm; /* NULL: none */
    const float *k_norm;
    const float *angles; /* [position][cosine | sine][head_dim / 2] */
    void *rotated;       /* [rows][heads * head_dim], elements as of the pool */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t layer;
    float epsilon;
    float scale; /* of queries: with log2 e where they are halves */
    bool is_interleaved;
};

#define CUDA_ATTEND_WHOLE UINT32_MAX

/*
 * What a block of attention does: some queries of rows of one sequence, that are neighbours. Query u is head u % group
 * (heads of a KV head) of row + u / group. Either all splits, or one of them, whose sums it keeps; the last block that
 * has done a split of these queries joins them. None of this changes a bit.
 */
struct cuda_attend_item {
    uint32_t row;
    uint32_t query;   /* the first */
    uint32_t queries; /* how many; 0: nothing to do */
    uint32_t splits;  /* of the last row */
    uint32_t split;
    uint32_t
        kept; /* where sums of split 0 are kept, in queries of a KV head; CUDA_ATTEND_WHOLE: all splits */
    uint32_t counter; /* that blocks of these queries share */
};

#define CUDA_ATTEND_ITEM_WORDS (sizeof(struct cuda_attend_item) / sizeof(uint32_t))

/*
 * Attention over a pool of halves. Blocks: item, KV head. Rows have been placed before, or there is one of each sequence, whose
 * items are of one row each, and the blocks place them: place.q is not NULL, and queries are not read.
 */
struct cuda_attend_args {
    struct cuda_rows rows;
    struct cuda_pool pool;
    const uint16_t
        *queries; /* halves, turned and scaled, also by log2 e: [rows][heads * head_dim] */
    const struct cuda_attend_item *items;
    float *sums;        /* [kept][kv_head][head_dim] */
    float *maxima;      /* [kept][kv_head] */
    float *weights;     /* the same: sums of the powers of two */
    uint32_t *counters; /* [counter][kv_head] all zero before and after */
    uint16_t *out;      /* bf16 [rows][heads * head_dim] */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t layer;
    struct cuda_place_args place;
};

/* The same over a pool of floats. One split of one row and KV head. Blocks: split, KV head, row from first_row on. */
struct cuda_attend_floats_args {
    struct cuda_rows rows;
    struct cuda_pool pool;
    const float *rotated;
    float *sums;    /* [row - first_row][split][head][head_dim] */
    float *maxima;  /* [row - first_row][split][head] */
    float *weights; /* the same: sums of the exponentials */
    uint32_t first_row;
    uint32_t splits; /* of the longest row */
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t layer;
};

/* Joins the splits of rows in their order. Blocks: row from first_row on, head. */
struct cuda_merge_floats_args {
    const uint32_t *positions;
    const float *sums;
    const float *maxima;
    const float *weights;
    uint16_t *out; /* bf16 [rows][heads * head_dim] */
    uint32_t first_row;
    uint32_t splits;
    uint32_t heads;
    uint32_t head_dim;
};

/* out = silu(gate) * up as bf16. One thread for each. */
struct cuda_activate_args {
    const float *gate;
    const float *up;
    uint16_t *out;
    uint64_t count;
};

#define CUDA_PEAK_TILE   256              /* neighbouring logits: ENGINE_LOGITS_TILE */
#define CUDA_NOT_DRAWN   UINT32_MAX       /* as in engine/backend.h */
#define CUDA_DRAW_FAILED (UINT32_MAX - 1) /* the same */

/* The greatest logit of each tile. Blocks: eight tiles, row. */
struct cuda_peaks_args {
    const float *logits; /* [rows][vocab] */
    float *peaks;        /* [rows][tiles] */
    uint32_t vocab;
};

/* How a token is drawn from a row of logits: struct engine_draw of engine/sample.h. */
struct cuda_draw {
    double reach;
    uint64_t random;
    uint64_t least_weight;
    float temperature;
    float top_p;
    uint32_t top_k; /* 0: off */
    uint32_t is_greedy;
    uint32_t is_wanted; /* else CUDA_NOT_DRAWN is the answer */
    uint32_t row;       /* of logits */

    /* What is done to the logits before: struct engine_changes of engine/penalty.h. */
    float repetition;
    float frequency;
    float presence;
    uint32_t biases; /* from the first change on, in order of tokens */
    uint32_t seen;   /* behind them, each token once */
    uint64_t first_change;

    /* Tokens that may be drawn; 0: all, else one more than the place of its mask. */
    uint32_t mask;

    /* Log-probabilities of the logits without changes. */
    uint32_t wants_logprobs;
    uint32_t top; /* how many of the likeliest */
};

struct cuda_change {
    uint32_t token;
    uint32_t what; /* the bits of a bias; of a token that was seen how often it is in the output */
};

#define CUDA_TOP_MAX     20         /* ENGINE_TOP_LOGPROBS_MAX */
#define CUDA_NO_LOGPROBS UINT32_MAX /* a count: the greatest logit is not finite */

/* struct engine_logprobs of engine/engine.h. */
struct cuda_logprobs {
    float chosen;
    uint32_t count;
    struct {
        uint32_t token;
        float value;
    } top[CUDA_TOP_MAX];
};

/* What log-probabilities are made of. */
struct cuda_survey {
    uint64_t sum; /* of weights at temperature 1 */
    float best;   /* the greatest logit */
};

/* The likeliest tokens of draws that want log-probabilities, and what the one drawn will need. A block for each draw. */
struct cuda_survey_args {
    const float *logits;
    const float *peaks;
    const struct cuda_draw *draws;
    struct cuda_survey *surveys;    /* for each draw */
    struct cuda_logprobs *logprobs; /* the same; all but the chosen one's */
    uint32_t vocab;
};

#define CUDA_MASK_BLOCK 4096 /* logits that a block masks */

/* Logits of tokens that are not allowed become minus infinity, in place. Blocks: so many tokens, draw. */
struct cuda_mask_args {
    float *logits;
    const struct cuda_draw *draws;
    const uint32_t *masks; /* [place][words]: struct engine_mask of engine/engine.h */
    uint32_t vocab;
    uint32_t words;
};

/* Biases and penalties, in place. A block for each draw. */
struct cuda_change_args {
    float *logits;
    float *kept; /* for each change the logit before it, of several of a token at the first */
    const struct cuda_draw *draws;
    const struct cuda_change *changes;
    uint32_t vocab;
};

/* A block for each draw. CUDA_DRAW_FAILED where no logit is finite, or one is plus infinity. */
struct cuda_draw_args {
    const float *logits;
    const float *peaks;
    const struct cuda_draw *draws;
    const struct cuda_change *changes;
    const float *kept;
    const struct cuda_survey *surveys;
    uint32_t *tokens;
    struct cuda_logprobs *logprobs; /* of draws that want them the chosen one's is added */
    uint32_t vocab;
};

/*
 * Random weights, for benchmarks: blocks of random bytes, in which the scales are what they are told; or floats from
 * -range to range in types without blocks. A thread makes a block.
 */
struct cuda_fill_args {
    uint8_t *data;
    uint64_t blocks;
    uint64_t seed;
    uint32_t type;        /* enum cuda_type */
    uint32_t block_bytes; /* even but for FP8; of one value where the type has no blocks */
    uint32_t scale_at;    /* where in a block the half d is */
    bool has_minimum;     /* a half behind d, which becomes 0 */
    float range;          /* what d becomes, in types with blocks */
};

#define CUDA_HASH_SECRET 24 /* words */

/* XXH3-128 of blocks. A block of threads for each. */
struct cuda_hash_args {
    const uint64_t *blocks; /* their addresses */
    uint64_t *out;          /* low and high half of each */
    uint64_t bytes;         /* of one: above 240, a multiple of 8 */
    uint64_t secret[CUDA_HASH_SECRET];
};

/* Zeroes what the pages of a block hold from used_bytes on; both sizes are even. A block of threads for each page. */
struct cuda_clear_args {
    uint8_t *block;
    uint32_t page_bytes;
    uint32_t used_bytes;
};

#endif
