/*
 * plan.h: what lies where in a GPU's memory: weights, then the workspace of steps, and the rest for KV.
 *
 * Pure arithmetic, without a device: given sizes, it says how many KV blocks there will be, or in one sentence why the
 * model does not fit.
 */
#ifndef TANDEM_ENGINE_CUDA_PLAN_H
#define TANDEM_ENGINE_CUDA_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/cuda/kernels/args.h"
#include "engine/cuda/multiply.h"
#include "lib/base/status.h"

#define CUDA_ALIGNMENT 256

/*
 * Of a device's free memory nobody plans this much, or a 32nd of all on a small one: what kernels and copies need of it
 * comes on top.
 */
#define CUDA_RESERVE_BYTES ((size_t)256 << 20)

/*
 * What a process has before it takes anything: the runtime's context, with kernels and their stacks. Nobody can ask for
 * that alone, so it is taken to be all that is not free when the memory is planned, but no more than this, or a 16th of
 * all on a small device: the rest is others'.
 */
#define CUDA_CONTEXT_BYTES_MAX ((size_t)768 << 20)

/* What the sizes of a workspace follow from. */
struct cuda_shape {
    uint32_t vocab;
    uint32_t hidden;
    uint32_t ffn;
    uint32_t heads;
    uint32_t kv_heads;
    uint32_t head_dim;
    uint32_t max_context;
    uint32_t block_tokens;
    uint32_t rows_max;
    uint32_t outputs_max;
    uint32_t multiprocessors; /* of the device */
    bool has_wide;            /* product_wide may be used */
};

/*
 * Splits of attention whose sums are kept at a time, of all heads: with a pool of halves blocks are cut only as long as
 * there is room, with one of floats the rows of a step are attended in waves of as many.
 */
#define CUDA_SPLITS_KEPT 2048

/*
 * Arrays of the workspace: CUDA_WORKSPACE(X): X(name, type, count, of each), in terms of struct cuda_shape *s.
 * runs, arranged, totals: see multiply.h. inputs: see forward.c; its slots suffice for every row at the end of the longest context.
 */
#define CUDA_WORKSPACE(X)                                                                       \
    X(x, float, s->rows_max, s->hidden)                                                         \
    X(normed, uint16_t, s->rows_max > s->outputs_max ? s->rows_max : s->outputs_max, s->hidden) \
    X(squares, float, s->rows_max, CUDA_SIXTEENS(s->hidden))                                    \
    X(scales, float, s->rows_max, 1)                                                            \
    X(qkv, float, s->rows_max, cuda_qkv_count(s))                                               \
    X(rotated, float, s->rows_max, (size_t)s->heads * s->head_dim)                              \
    X(attended, uint16_t, s->rows_max, (size_t)s->heads * s->head_dim)                          \
    X(gate, float, s->rows_max, s->ffn)                                                         \
    X(up, float, s->rows_max, s->ffn)                                                           \
    X(gated, uint16_t, s->rows_max, s->ffn)                                                     \
    X(sums, float, cuda_splits_kept(s), (size_t)s->heads * s->head_dim)                         \
    X(maxima, float, cuda_splits_kept(s), s->heads)                                             \
    X(weights, float, cuda_splits_kept(s), s->heads)                                            \
    X(counters, uint32_t, cuda_splits_kept(s), s->kv_heads)                                     \
    X(runs, float, cuda_runs_kept(s->multiprocessors), CUDA_RUN_FLOATS)                         \
    X(run_counters, uint32_t, cuda_run_results(s->multiprocessors), 1)                          \
    X(arranged, uint8_t, cuda_wide_pieces(s), CUDA_WIDE_PIECE)                                  \
    X(totals, float, cuda_wide_pieces(s), 2 * CUDA_WIDE_TILE)                                   \
    X(angles, float, s->max_context, s->head_dim)                                               \
    X(heads, float, s->outputs_max, s->hidden)                                                  \
    X(logits, float, s->outputs_max, s->vocab)                                                  \
    X(peaks, float, s->outputs_max, cuda_peak_tiles(s))                                         \
    X(draws, struct cuda_draw, s->outputs_max, 1)                                               \
    X(kept, float, 1, cuda_changes_max(s))                                                      \
    X(surveys, struct cuda_survey, s->outputs_max, 1)                                           \
    X(logprobs, struct cuda_logprobs, s->outputs_max, 1)                                        \
    X(masks, uint32_t, s->outputs_max, cuda_mask_words(s))                                      \
    X(changes, struct cuda_change, 1, cuda_changes_max(s))                                      \
    X(tokens, uint32_t, s->outputs_max, 1)                                                      \
    X(inputs, uint32_t, 1, cuda_input_words(s))

struct cuda_workspace {
#define X(name, type, count, each) type *name;
    CUDA_WORKSPACE(X)
#undef X
};

/* Elements of a row of queries, keys and values, which lie side by side. */
size_t cuda_qkv_count(const struct cuda_shape *shape);

/* How many splits the arrays above hold: at least those of the longest row. */
uint32_t cuda_splits_kept(const struct cuda_shape *shape);

/*
 * Biases, and tokens that were seen, that the draws of a step have room for together: of each output so many, and any one
 * of them may have the room of several.
 */
#define CUDA_CHANGES_EACH 4096
size_t cuda_changes_max(const struct cuda_shape *shape);

/* Of a bit for each token. */
uint32_t cuda_mask_words(const struct cuda_shape *shape);

/* Pieces of activations that product_wide is given, at most: of 128 tokens and 64 columns. */
size_t cuda_wide_pieces(const struct cuda_shape *shape);

/* Tiles of a row of logits, whose greatest are noted for drawing. */
uint32_t cuda_peak_tiles(const struct cuda_shape *shape);

/* Items of attention (attention.h) that a step can have: blocks that are cut keep a split for each item more. */
size_t cuda_attention_items(const struct cuda_shape *shape);

/* 32-bit words of what a step is told (inputs.h), with its items of attention: three for each row, one for each output, the slots and a spare one. */
size_t cuda_input_words(const struct cuda_shape *shape);

/* TD_LIMIT if the size overflows. */
td_status_t cuda_workspace_bytes(const struct cuda_shape *shape, size_t *bytes_out,
                                 struct td_error *error) TD_MUST_USE;

/* Cuts memory of that size up. */
void cuda_workspace_cut(const struct cuda_shape *shape, uint8_t *memory,
                        struct cuda_workspace *workspace_out);

struct cuda_plan_input {
    size_t memory_bytes; /* of the GPU */
    size_t free_bytes;   /* of those, now */
    double fraction;     /* of memory_bytes for the context and all below; above 0, at most 1 */
    size_t weights_bytes;
    size_t workspace_bytes;
    size_t graphs_bytes; /* left to recorded steps, which take them when they are made */
    size_t block_bytes;
    uint32_t blocks_wanted; /* 0: as many as fit */
    uint32_t blocks_min;    /* fewer make no sense: one sequence of the longest context, say */
};

struct cuda_plan {
    size_t context_bytes; /* that this process is taken to have already */
    size_t kv_bytes;      /* with one block more, which belongs to nobody: see inputs.h */
    uint32_t block_count;
};

/* TD_INVALID: the fraction; TD_NO_MEMORY: it does not fit, and the text says what is missing. */
td_status_t cuda_plan_memory(const struct cuda_plan_input *input, struct cuda_plan *plan_out,
                             struct td_error *error) TD_MUST_USE;

#endif
