/*
 * multiply.h: which kernel makes a product. All give the same bits (kernels/product.h); they differ in speed.
 */
#ifndef TANDEM_ENGINE_CUDA_MULTIPLY_H
#define TANDEM_ENGINE_CUDA_MULTIPLY_H

#include "engine/cuda/device.h"

/* In the order of CUDA_PRODUCTS. */
enum cuda_multiply_size {
    CUDA_MULTIPLY_FEW = 0, /* up to 8 tokens in a block */
    CUDA_MULTIPLY_SOME,    /* 16 */
    CUDA_MULTIPLY_MANY,    /* 32 */
    CUDA_MULTIPLY_TILED,   /* 128 */
    CUDA_MULTIPLY_WIDE,    /* 256, where the device has warpgroups */
    CUDA_MULTIPLY_SIZES,
};

/* Where products are made, and what they need of the device's memory besides what they are given. */
struct cuda_multiplier {
    struct cuda_device *device;
    uint32_t multiprocessors;
    bool is_wide;           /* product_wide is there, and gives the same bits: see wide.h */
    float *runs;            /* cuda_runs_kept times CUDA_RUN_FLOATS */
    uint32_t *run_counters; /* cuda_run_results, all zero */
    uint8_t
        *arranged; /* for product_wide: pieces of 128 tokens and 64 columns of CUDA_WIDE_PIECE */
    float *totals; /* the same: 2 * CUDA_WIDE_TILE for each piece */
};

struct cuda_multiply_choice {
    enum cuda_multiply_size size;
    uint32_t parts; /* blocks that share a result: 1, or for CUDA_MULTIPLY_TILED also 2, 4, 8 */
};

/* What is thought to be fastest for so many tokens. */
struct cuda_multiply_choice cuda_multiply_choose(const struct cuda_multiplier *multiplier,
                                                 const struct cuda_matrix *matrix, uint32_t tokens);

/*
 * Whether products of so many tokens want the scales of the norm that these come from (args.scales); fewer make them from sums
 * of squares themselves, block by block, which costs less than a kernel.
 */
bool cuda_multiply_wants_scales(uint32_t tokens);

/* Results that several blocks share, and runs that are kept, at most, whatever the choice above. */
uint32_t cuda_run_results(uint32_t multiprocessors);
uint32_t cuda_runs_kept(uint32_t multiprocessors);

/* Queues a product; of args what concerns parts is filled in here. */
void cuda_multiply(const struct cuda_multiplier *multiplier, struct cuda_multiply_choice choice,
                   const struct cuda_product_args *args);

#endif
