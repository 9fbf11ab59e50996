/*
 * attention.h: which block of attention does what, for a step: pure arithmetic, on the host.
 *
 * Rows of a sequence that are neighbours are a run. A run of few queries (as when decoding) goes to kernels that take 16
 * queries a block, others to those that take 64. A block does all splits of its queries if there are enough blocks to
 * keep the device busy without cutting, and else one of them. None of this changes a bit of the results.
 */
#ifndef TANDEM_ENGINE_CUDA_ATTENTION_H
#define TANDEM_ENGINE_CUDA_ATTENTION_H

#include "engine/backend.h"
#include "engine/cuda/kernels/args.h"
#include "engine/cuda/plan.h"

/* Items of attend_few come first, those of attend_many behind them. */
struct cuda_attention {
    uint32_t few;
    uint32_t many;
};

/*
 * Fills items (room: cuda_attention_items of plan.h) for the rows of a batch and those of its padding, each at position 0 of
 * a sequence of its own.
 */
struct cuda_attention cuda_attention_plan(const struct cuda_shape *shape,
                                          const struct engine_batch *batch, uint32_t rows,
                                          struct cuda_attend_item *items);

/* Items of attend_few, at most, of so many sequences with a row each and so many splits at most. */
uint32_t cuda_attention_decode_items(const struct cuda_shape *shape, uint32_t rows,
                                     uint32_t splits);

/* The kernel for few queries, or for many where heads are not too large for it. */
enum cuda_kernel cuda_attention_kernel(const struct cuda_shape *shape, bool is_many);

#endif
