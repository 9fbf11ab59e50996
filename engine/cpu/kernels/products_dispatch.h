/*
 * products_dispatch.h: how a job becomes tiles, and the table of kernels: the end of every products_<set>.c, which
 * has to define before:
 *
 *   TILE_TOKENS               tokens of the largest tile: 4 or 12
 *   PRODUCTS                  the name of the table
 *   multiply_tile             one group times some tokens: (quants, scales, zero, tokens), all constant, then
 *   multiply_whole_tile       (job, place); the second with the quants of x
 *   block_sums, quantize, quantize_rest
 */
#include "engine/cpu/kernels/products.h"

/*
 * So many tokens at most go through a group together before the next group comes: its weights are read from
 * memory once, and a second tile finds them in the first-level cache. With more, the weights of all groups of the job
 * stay in the second-level cache while the tokens pass, tile by tile.
 */
#define SPAN_TOKENS 24

INLINE void any_tile(const bool is_whole, const enum cpu_quants quants,
                     const enum cpu_scales scales, const int zero, const uint32_t tokens,
                     const struct cpu_product *job, const struct place *place)
{
    if (is_whole)
        multiply_whole_tile(quants, scales, zero, tokens, job, place);
    else
        multiply_tile(quants, scales, zero, tokens, job, place);
}

/*
 * The tile for the next of `left` tokens, out of `all`: the largest, or the smallest that holds them all. Such
 * a tile may start among those that are done: three are a tile of two, and one of two that skips its first. Sixteen are
 * two of eight, since the chains of four are too few to hide how long a sum takes.
 */
static inline uint32_t tile_tokens(uint32_t left, uint32_t all)
{
    if (TILE_TOKENS > 4 && left >= 12 && left != 16)
        return 12;
    if (TILE_TOKENS > 4 && (left >= 8 || (left > 4 && all >= 8)))
        return 8;
    if (left >= 4 || (left > 2 && all >= 4))
        return 4;
    return left >= 2 || all >= 2 ? 2 : 1;
}

/* One group times the tokens first to end - 1. */
INLINE void multiply_group(const bool is_whole, const enum cpu_quants quants,
                           const enum cpu_scales scales, const int zero,
                           const struct cpu_product *job, uint32_t group, uint32_t first,
                           uint32_t end)
{
    while (first < end) {
        uint32_t tokens = tile_tokens(end - first, end);
        struct place place = {.group = group, .token = first};

        if (tokens > end - first) {
            place.skip = tokens - (end - first);
            place.token -= place.skip;
        }
        switch (tokens) {
#if TILE_TOKENS > 4
        case 12: any_tile(is_whole, quants, scales, zero, 12, job, &place); break;
        case 8: any_tile(is_whole, quants, scales, zero, 8, job, &place); break;
#endif
        case 4: any_tile(is_whole, quants, scales, zero, 4, job, &place); break;
        case 2: any_tile(is_whole, quants, scales, zero, 2, job, &place); break;
        default: any_tile(is_whole, quants, scales, zero, 1, job, &place); break;
        }
        first = place.token + tokens;
    }
}

INLINE void multiply_type(const bool is_whole, const enum cpu_quants quants,
                          const enum cpu_scales scales, const int zero,
                          const struct cpu_product *job)
{
    uint32_t end;

    for (uint32_t token = 0; token < job->tokens; token = end) {
        end = job->tokens - token > SPAN_TOKENS ? token + TILE_TOKENS : job->tokens;
        for (uint32_t group = 0; group < job->groups; group++)
            multiply_group(is_whole, quants, scales, zero, job, group, token, end);
    }
}

#define X(type, name, quants, scales, zero)                                              \
    static void multiply_##name(const struct cpu_product *job)                           \
    {                                                                                    \
        if (job->is_whole && CPU_SCALES_##scales != CPU_SCALES_NONE)                     \
            multiply_type(true, CPU_QUANTS_##quants, CPU_SCALES_##scales, (zero), job);  \
        else                                                                             \
            multiply_type(false, CPU_QUANTS_##quants, CPU_SCALES_##scales, (zero), job); \
    }
CPU_PACK_TYPES(X)
#undef X

static void multiply(const struct cpu_product *job)
{
    static void (*const by_type[CPU_TYPE_COUNT])(const struct cpu_product *job) = {
#define X(type, name, quants, scales, zero) [MODEL_TYPE_##type] = multiply_##name,
        CPU_PACK_TYPES(X)
#undef X
    };
    struct cpu_product rest = *job;

    by_type[job->matrix->type](job);
    if (!cpu_product_has_rest(job))
        return;
    rest.x += cpu_input_rest(job->matrix->columns);
    rest.add = true;
    by_type[job->matrix->type](&rest);
}

const struct cpu_product_kernels PRODUCTS = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
    .quantize_rest = quantize_rest,
};
