/* multiply.c: see multiply.h. */
#include "engine/cuda/multiply.h"

#include <assert.h>

/* What a block makes: rows of tiles, and eights of tokens. */
static const struct {
    uint32_t rows;
    uint32_t tokens;
} sizes[CUDA_MULTIPLY_SIZES] = {
    [CUDA_MULTIPLY_FEW] = {CUDA_FEW_ROWS, CUDA_FEW_TOKENS},
    [CUDA_MULTIPLY_SOME] = {CUDA_SOME_ROWS, CUDA_SOME_TOKENS},
    [CUDA_MULTIPLY_MANY] = {CUDA_MANY_ROWS, CUDA_MANY_TOKENS},
    [CUDA_MULTIPLY_TILED] = {CUDA_TILED_ROWS, CUDA_TILED_TOKENS},
    [CUDA_MULTIPLY_WIDE] = {CUDA_WIDE_ROWS, CUDA_WIDE_TOKENS(CUDA_TYPE_BF16) / 8},
};

static uint32_t pieces(uint32_t count, uint32_t each)
{
    return count / each + (count % each != 0);
}

/* Up to 64 weights are read twice; behind that tensor cores have more to do than memory. */
#define STREAMED_TOKENS_MAX (2 * 8 * CUDA_MANY_TOKENS)

/* Steps of columns that a block of a shared result has at least: else adding takes longer than it saves. */
#define PART_STEPS_MIN 8

static uint32_t rows_of_blocks(const struct cuda_matrix *matrix, enum cuda_multiply_size size)
{
    return pieces(pieces(matrix->rows, CUDA_TILE_ROWS), sizes[size].rows);
}

/* Types with blocks of quants need registers for scales. */
static uint32_t columns_of_blocks(const struct cuda_matrix *matrix, enum cuda_multiply_size size,
                                  uint32_t tokens)
{
    bool has_blocks = matrix->type != CUDA_TYPE_BF16;
    uint32_t eights = sizes[size].tokens;

    if (has_blocks && size == CUDA_MULTIPLY_TILED)
        eights = CUDA_TILED_BLOCK_TOKENS;
    if (has_blocks && size == CUDA_MULTIPLY_WIDE)
        eights = CUDA_WIDE_TOKENS(matrix->type) / 8;
    return pieces(tokens, 8 * eights);
}

static uint64_t blocks_of(const struct cuda_matrix *matrix, enum cuda_multiply_size size,
                          uint32_t tokens)
{
    return (uint64_t)rows_of_blocks(matrix, size) * columns_of_blocks(matrix, size, tokens);
}

/* Of the tiled kernel one block at a time has room on a multiprocessor. */
static uint32_t choose_parts(uint32_t multiprocessors, const struct cuda_matrix *matrix,
                             uint32_t tokens)
{
    uint64_t results = blocks_of(matrix, CUDA_MULTIPLY_TILED, tokens);
    uint32_t steps = pieces(matrix->columns, CUDA_TILE_COLUMNS);
    uint32_t parts = CUDA_SLICES;

    while (parts > 1 && (results * parts > multiprocessors || steps < parts * PART_STEPS_MIN))
        parts /= 2;
    return parts;
}

/*
 * Warpgroups do about twice as much as mma.sync in the same time: that is worth more than half of the multiprocessors
 * without work. They have no way to share a result.
 */
static bool is_worth_wide(const struct cuda_multiplier *multiplier,
                          const struct cuda_matrix *matrix, uint32_t tokens)
{
    return multiplier->is_wide && tokens > CUDA_WIDE_TILE &&
           blocks_of(matrix, CUDA_MULTIPLY_WIDE, tokens) * 5 / 2 >= multiplier->multiprocessors;
}

struct cuda_multiply_choice cuda_multiply_choose(const struct cuda_multiplier *multiplier,
                                                 const struct cuda_matrix *matrix, uint32_t tokens)
{
    struct cuda_multiply_choice choice = {.size = CUDA_MULTIPLY_TILED, .parts = 1};

    if (tokens <= 8 * CUDA_FEW_TOKENS)
        choice.size = CUDA_MULTIPLY_FEW;
    else if (tokens <= 8 * CUDA_SOME_TOKENS)
        choice.size = CUDA_MULTIPLY_SOME;
    else if (tokens <= STREAMED_TOKENS_MAX)
        choice.size = CUDA_MULTIPLY_MANY;
    else if (is_worth_wide(multiplier, matrix, tokens))
        choice.size = CUDA_MULTIPLY_WIDE;
    else
        choice.parts = choose_parts(multiplier->multiprocessors, matrix, tokens);
    return choice;
}

bool cuda_multiply_wants_scales(uint32_t tokens)
{
    return tokens > STREAMED_TOKENS_MAX;
}

/* In two parts: the more blocks share a result, the fewer results there are. */
uint32_t cuda_run_results(uint32_t multiprocessors)
{
    return multiprocessors / 2;
}

/* In two parts, too: 5 runs of half the multiprocessors' results; in four 7 of a quarter of them, in eight 8. */
uint32_t cuda_runs_kept(uint32_t multiprocessors)
{
    return cuda_run_results(multiprocessors) * CUDA_RUNS_KEPT(2);
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

/* Activations as product_wide wants them. */
static void arrange(const struct cuda_multiplier *multiplier, struct cuda_product_args *args)
{
    const struct cuda_arrange_args arrange = {.x = args->x,
                                              .out = multiplier->arranged,
                                              .totals = multiplier->totals,
                                              .columns = args->matrix.columns,
                                              .tokens = args->tokens};

    cuda_device_launch(multiplier->device, CUDA_KERNEL_ARRANGE,
                       (struct cuda_grid){.x = pieces(arrange.columns, CUDA_TILE_COLUMNS),
                                          .y = pieces(arrange.tokens, CUDA_WIDE_TILE),
                                          .z = 1},
                       &arrange);
    args->arranged = multiplier->arranged;
    args->totals = multiplier->totals;
}

void cuda_multiply(const struct cuda_multiplier *multiplier, struct cuda_multiply_choice choice,
                   const struct cuda_product_args *args)
{
    const uint32_t rows = rows_of_blocks(&args->matrix, choice.size);
    const uint32_t tokens = columns_of_blocks(&args->matrix, choice.size, args->tokens);
    struct cuda_product_args whole = *args;
    enum cuda_kernel kernel =
        (enum cuda_kernel)(first_kernel(args->matrix.type) + (uint32_t)choice.size);

    assert(choice.size < CUDA_MULTIPLY_TILED || args->squares == NULL || args->scales != NULL);
    whole.parts = choice.parts;
    whole.runs = multiplier->runs;
    whole.counters = multiplier->run_counters;
    if (choice.size == CUDA_MULTIPLY_WIDE)
        arrange(multiplier, &whole);
    /* Blocks run in the order of x: those that share weights of the large kernels side by side. */
    cuda_device_launch(multiplier->device, kernel,
                       choice.size >= CUDA_MULTIPLY_TILED
                           ? (struct cuda_grid){.x = tokens, .y = rows, .z = choice.parts}
                           : (struct cuda_grid){.x = rows, .y = tokens, .z = 1},
                       &whole);
}
