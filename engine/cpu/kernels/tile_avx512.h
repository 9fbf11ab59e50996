/*
 * tile_avx512.h: what all tiles of products with 512-bit vectors have in common. For the products alone.
 */
#ifndef TANDEM_ENGINE_CPU_KERNELS_TILE_AVX512_H
#define TANDEM_ENGINE_CPU_KERNELS_TILE_AVX512_H

#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/kernels/products_tile.h"

/* 12 sums of a block and 12 totals, and a few registers for weights. */
#define TILE_TOKENS 12

/* Writes or adds the results of a tile. */
INLINE void store_tile(const uint32_t tokens, const struct cpu_product *job,
                       const struct place *place, const __m512 totals[static TILE_TOKENS])
{
    uint32_t row = place->group * CPU_PACK_ROWS;
    __mmask16 mask = first_lanes(job->matrix->rows - job->first * CPU_PACK_ROWS - row);

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++) {
        float *y = job->y + (place->token + t) * job->y_stride + row;
        __m512 total = totals[t];

        if (t < place->skip)
            continue;
        if (job->add)
            total = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), total);
        _mm512_mask_storeu_ps(y, mask, total);
    }
}

/*
 * Keeps the compiler from knowing a value. It would compute the addresses of 12 tokens in advance, which are more
 * than there are registers, and load each of them before each use. One address in three and the distance are enough: x86
 * adds once or twice a register for nothing.
 */
#define FORGET(value) __asm__("" : "+r"(value))

#endif
