/* multiply.c: see multiply.h. */
#include "engine/cuda/multiply.h"

/* What a block makes: rows of tiles, and eights of tokens. */
static const struct {
    uint32_t rows;
    uint32_t tokens;
} sizes[CUDA_MULTIPLY_SIZES] = {
    [CUDA_MULTIPLY_FEW] = {CUDA_FEW_ROWS, CUDA_FEW_TOKENS},
    [CUDA_MULTIPLY_SOME] = {CUDA_SOME_ROWS, CUDA_SOME_TOKENS},
    [CUDA_MULTIPLY_MANY] = {CUDA_MANY_ROWS, CUDA_MANY_TOKENS},
    [CUDA_MULTIPLY_TILED] = {CUDA_TILED_ROWS, CUDA_TILED_TOKENS},
};

static uint32_t pieces(uint32_t count, uint32_t each)
{
    return count / each + (count % each != 0);
}

/* Up to 64 tokens weights are read twice; behind that tensor cores have more to do than memory. */
enum cuda_multiply_size cuda_multiply_choose(uint32_t tokens)
{
    if (tokens <= 8 * CUDA_FEW_TOKENS)
        return CUDA_MULTIPLY_FEW;
    if (tokens <= 8 * CUDA_SOME_TOKENS)
        return CUDA_MULTIPLY_SOME;
    return tokens <= 2 * 8 * CUDA_MANY_TOKENS ? CUDA_MULTIPLY_MANY : CUDA_MULTIPLY_TILED;
}

static enum cuda_kernel first_kernel(uint32_t type)
{
    switch ((enum cuda_type)type) {
#define X(name, member) \
    case CUDA_TYPE_##member: return CUDA_KERNEL_PRODUCT_FEW_##member;
        CUDA_PACKED_TYPES(X)
#undef X
    case CUDA_TYPE_F32:
    case CUDA_TYPE_F16: break;
    }
    return CUDA_KERNEL_COUNT; /* not reached: pack.c makes only types of the table */
}

void cuda_multiply(struct cuda_device *device, enum cuda_multiply_size size,
                   const struct cuda_product_args *args)
{
    uint32_t rows = pieces(pieces(args->matrix.rows, CUDA_TILE_ROWS), sizes[size].rows);
    bool is_small = size == CUDA_MULTIPLY_TILED && args->matrix.type != CUDA_TYPE_BF16;
    uint32_t tokens =
        pieces(args->tokens, 8 * (is_small ? CUDA_TILED_BLOCK_TOKENS : sizes[size].tokens));
    enum cuda_kernel kernel = (enum cuda_kernel)(first_kernel(args->matrix.type) + (uint32_t)size);

    /* Blocks run in the order of x: those that share weights of the tiled kernel side by side. */
    cuda_device_launch(device, kernel,
                       size == CUDA_MULTIPLY_TILED
                           ? (struct cuda_grid){.x = tokens, .y = rows, .z = 1}
                           : (struct cuda_grid){.x = rows, .y = tokens, .z = 1},
                       args);
}
