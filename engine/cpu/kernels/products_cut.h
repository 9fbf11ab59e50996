/*
 * products_cut.h: how a job becomes tiles. For files of products, which have to define before:
 *
 *   TILE_TOKENS   tokens of the largest tile: 4 or 12
 *   any_tile      one group times some tokens: (operand, quants, scales, zero, tokens), all constant, then (job, place)
 */
#include "engine/cpu/kernels/products_tile.h"

/*
 * So many tokens at most go through a group together before the next group comes: its weights are read from
 * memory once, and a second tile finds them in the first-level cache. With more, the weights of all groups of the job
 * stay in the second-level cache while the tokens pass, tile by tile.
 */
#define SPAN_TOKENS 24

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
INLINE void multiply_group(const enum cpu_operand operand, const enum cpu_quants quants,
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
        case 12: any_tile(operand, quants, scales, zero, 12, job, &place); break;
        case 8: any_tile(operand, quants, scales, zero, 8, job, &place); break;
#endif
        case 4: any_tile(operand, quants, scales, zero, 4, job, &place); break;
        case 2: any_tile(operand, quants, scales, zero, 2, job, &place); break;
        default: any_tile(operand, quants, scales, zero, 1, job, &place); break;
        }
        first = place.token + tokens;
    }
}

INLINE void multiply_type(const enum cpu_operand operand, const enum cpu_quants quants,
                          const enum cpu_scales scales, const int zero,
                          const struct cpu_product *job)
{
    uint32_t end;

    for (uint32_t token = 0; token < job->tokens; token = end) {
        end = job->tokens - token > SPAN_TOKENS ? token + TILE_TOKENS : job->tokens;
        for (uint32_t group = 0; group < job->groups; group++)
            multiply_group(operand, quants, scales, zero, job, group, token, end);
    }
}
