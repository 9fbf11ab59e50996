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
    CUDA_MULTIPLY_SIZES,
};

/* The size that is thought to be fastest for so many tokens. */
enum cuda_multiply_size cuda_multiply_choose(uint32_t tokens);

/* Queues a product. */
void cuda_multiply(struct cuda_device *device, enum cuda_multiply_size size,
                   const struct cuda_product_args *args);

#endif
