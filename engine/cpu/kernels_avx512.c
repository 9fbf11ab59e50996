/*
 * kernels_avx512.c: the kernels with 512-bit vectors: one vector is the 16 lanes of kernels.h.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist. Compiled
 * a second time, with VNNI, by kernels_vnni.c.
 */
#include <immintrin.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"

#ifdef __AVX512VNNI__
#define CPU_KERNELS      cpu_kernels_vnni
#define CPU_KERNELS_NAME "vnni"
#else
#define CPU_KERNELS      cpu_kernels_avx512
#define CPU_KERNELS_NAME "avx512"
#endif

#define INLINE static inline __attribute__((always_inline))

/* Of products: 12 sums of a block and 12 totals, or 4 streams of weights for one token. */
#define TILE_TOKENS  12
#define TILE_STREAMS 4

/* dots' tile: 4 keys x 6 queries are 24 sums, which with 4 + 1 operands fit 32 registers. */
#define DOTS_QUERIES 6

/* weigh's tile: 4 vectors of a value row x 6 queries. */
#define WEIGH_VECTORS 4
#define WEIGH_QUERIES 6

/* ------------------------------------------------------------------ lanes */

/* The trees of four sums at once; the results in the order of the arguments. */
INLINE __m128 reduce4(__m512 a, __m512 b, __m512 c, __m512 d)
{
    /* + 8: the upper half onto the lower, two sums in one vector */
    __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    /* + 4: now each sum has one 128-bit part */
    __m512 all =
        _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    const __m512i first_of_each =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e)); /* + 2 */
    all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1)); /* + 1 */
    return _mm512_castps512_ps128(_mm512_permutexvar_ps(first_of_each, all));
}

INLINE float reduce(__m512 lanes)
{
    return _mm_cvtss_f32(reduce4(lanes, lanes, lanes, lanes));
}

INLINE __mmask16 first_lanes(uint32_t count)
{
    return count >= CPU_LANES ? 0xffff : (__mmask16)((1u << count) - 1);
}

/* cpu_exp, 16 at a time. */
INLINE __m512 exp16(__m512 x)
{
    const __m512 round = _mm512_set1_ps(CPU_EXP_ROUND);
    __m512 rounded;
    __m512 n;
    __m512 p = _mm512_set1_ps(CPU_EXP_C7);
    __m512i power;

    x = _mm512_max_ps(_mm512_set1_ps(CPU_EXP_MIN), x);
    x = _mm512_min_ps(_mm512_set1_ps(CPU_EXP_MAX), x);
    rounded = _mm512_fmadd_ps(x, _mm512_set1_ps(CPU_LOG2E), round);
    n = _mm512_sub_ps(rounded, round);
    x = _mm512_fmadd_ps(n, _mm512_set1_ps(-CPU_LN2_HIGH), x);
    x = _mm512_fmadd_ps(n, _mm512_set1_ps(-CPU_LN2_LOW), x);
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C6));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C5));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C4));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C3));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(CPU_EXP_C2));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.0f));
    p = _mm512_fmadd_ps(p, x, _mm512_set1_ps(1.0f));
    power = _mm512_add_epi32(_mm512_castps_si512(rounded), _mm512_set1_epi32(CPU_EXP_BIAS));
    return _mm512_mul_ps(p, _mm512_castsi512_ps(_mm512_slli_epi32(power, CPU_EXP_SHIFT)));
}

/* ------------------------------------------------------------------ products
 *
 * A vector is 16 rows. What is constant wherever it is inlined (quants, scales, zero, streams, tokens)
 * comes first, so that one text makes the code for every type and tile.
 */

INLINE __m512i load_bytes(const uint8_t *source)
{
    return _mm512_loadu_si512((const void *)source);
}

INLINE __m512 load_halves(const uint8_t *source)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)source));
}

/* Quad i of a block as unsigned bytes: 4 columns of row r in bytes 4r to 4r + 3. */
INLINE __m512i load_quad(const enum cpu_quants quants, const uint8_t *block, uint32_t i)
{
    __m512i bytes;
    __m512i upper;
    uint64_t fifth;

    if (quants == CPU_QUANTS_8)
        return load_bytes(block + (size_t)64 * i);
    bytes = load_bytes(block + (size_t)64 * (i / 2));
    if (i % 2 == 1)
        bytes = _mm512_srli_epi16(bytes, 4);
    bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
    if (quants == CPU_QUANTS_5) {
        memcpy(&fifth, block + 256 + (size_t)8 * i, sizeof fifth);
        return _mm512_mask_add_epi8(bytes, fifth, bytes, _mm512_set1_epi8(16));
    }
    if (quants == CPU_QUANTS_6) { /* the two bits of quad i move to bits 4 and 5 of their byte */
        upper = _mm512_rolv_epi32(load_bytes(block + 256 + (size_t)64 * (i / 4)),
                                  _mm512_set1_epi32((int)((4 - 2 * (i % 4)) & 31)));
        return _mm512_ternarylogic_epi32(upper, _mm512_set1_epi8(0x30), bytes, 0xea);
    }
    return bytes;
}

/*
 * Byte `shift` / 8 (of 0 and 1) of every lane, less zero, as a float: the bits of the byte under an
 * exponent that gives its lowest bit the weight 1, less what the exponent adds. Exact; two operations
 * where shifting, masking and converting takes three, and not on the ports of the sums.
 */
INLINE __m512 byte_as_float(__m512i bytes, const int shift, const int zero)
{
    const int exponent = (127 + 23 - shift) << 23;
    __m512i bits = _mm512_ternarylogic_epi32(bytes, _mm512_set1_epi32(255 << shift),
                                             _mm512_set1_epi32(exponent), 0xea);

    return _mm512_sub_ps(_mm512_castsi512_ps(bits),
                         _mm512_set1_ps((float)(1 << (23 - shift)) + (float)zero));
}

/* The columns 4i to 4i + 3 of a block: quants less zero, or values. */
INLINE void load_columns(const enum cpu_quants quants, const int zero, const uint8_t *block,
                         uint32_t i, __m512 columns[static 4])
{
    __m512i bytes;

    if (quants == CPU_QUANTS_F32) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm512_loadu_ps(block + (size_t)64 * (4 * i + c));
    } else if (quants == CPU_QUANTS_F16) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = load_halves(block + (size_t)32 * (4 * i + c));
    } else if (quants == CPU_QUANTS_BF16) {
        for (uint32_t c = 0; c < 4; c += 2) {
            bytes = load_bytes(block + (size_t)64 * (2 * i + c / 2));
            columns[c] = _mm512_castsi512_ps(_mm512_slli_epi32(bytes, 16));
            columns[c + 1] =
                _mm512_castsi512_ps(_mm512_and_si512(bytes, _mm512_set1_epi32((int)0xffff0000)));
        }
    } else {
        bytes = load_quad(quants, block, i);
        columns[0] = byte_as_float(bytes, 0, zero);
        columns[1] = byte_as_float(bytes, 8, zero);
        bytes = _mm512_srli_epi32(bytes, 16);
        columns[2] = byte_as_float(bytes, 0, zero);
        columns[3] = byte_as_float(bytes, 8, zero);
    }
}

/* The scales of half 0 or 1 of a block. */
INLINE __m512 load_scale(const enum cpu_scales scales, const uint8_t *head, const uint8_t *block,
                         uint32_t half)
{
    __m128i small;

    if (scales == CPU_SCALES_PLAIN || scales == CPU_SCALES_MINIMUM)
        return load_halves(block);
    small = _mm_loadu_si128((const __m128i *)(const void *)(block + (size_t)16 * half));
    return _mm512_mul_ps(load_halves(head), _mm512_cvtepi32_ps(scales == CPU_SCALES_K16
                                                                   ? _mm512_cvtepi8_epi32(small)
                                                                   : _mm512_cvtepu8_epi32(small)));
}

/* What the minimums of a block add: K's are subtracted. */
INLINE __m512 add_minimum(const enum cpu_scales scales, const uint8_t *head, const uint8_t *block,
                          float sum, __m512 total)
{
    __m512 x = _mm512_set1_ps(sum);
    __m128i small;

    if (scales == CPU_SCALES_MINIMUM)
        return _mm512_fmadd_ps(load_halves(block + 32), x, total);
    small = _mm_loadu_si128((const __m128i *)(const void *)(block + 16));
    return _mm512_fnmadd_ps(
        _mm512_mul_ps(load_halves(head + 32), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(small))), x,
        total);
}

/* A tile while it runs: some groups, `spread` bytes apart, times some tokens. */
struct tile {
    const uint8_t *weights; /* of the first group */
    size_t spread;
    const float *x; /* of the first token */
    size_t x_stride;
    const float *sums; /* of the blocks of the first token */
};

/* The sums of the quads first to end - 1 of a block. */
INLINE void add_quads(const enum cpu_quants quants, const int zero, const uint32_t streams,
                      const uint32_t tokens, const struct tile *tile, size_t offset, uint32_t block,
                      uint32_t first, uint32_t end, __m512 sums[static TILE_STREAMS][TILE_TOKENS])
{
    const float *x = tile->x + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) { /* two quads share a vector of nibbles */
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            CPU_UNROLL
            for (uint32_t s = 0; s < streams; s++) {
                __m512 columns[4];

                load_columns(quants, zero, tile->weights + s * tile->spread + offset, i + odd,
                             columns);
                CPU_UNROLL
                for (uint32_t c = 0; c < 4; c++) {
                    CPU_UNROLL
                    for (uint32_t t = 0; t < tokens; t++)
                        sums[s][t] = _mm512_fmadd_ps(
                            columns[c], _mm512_set1_ps(x[t * tile->x_stride + 4 * (i + odd) + c]),
                            sums[s][t]);
                }
            }
        }
    }
}

/* Scales the sums into the totals; half: of a block whose halves have scales of their own. */
INLINE void add_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                       const uint32_t streams, const uint32_t tokens, const struct tile *tile,
                       uint32_t block, uint32_t half, __m512 sums[static TILE_STREAMS][TILE_TOKENS],
                       __m512 totals[static TILE_STREAMS][TILE_TOKENS])
{
    size_t scale_offset = cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    size_t head_offset = cpu_pack_head(quants, scales, block);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        const uint8_t *group = tile->weights + s * tile->spread;
        __m512 scale = _mm512_setzero_ps();

        if (scales != CPU_SCALES_NONE)
            scale = load_scale(scales, group + head_offset, group + scale_offset, half);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            if (scales == CPU_SCALES_NONE)
                totals[s][t] = _mm512_add_ps(totals[s][t], sums[s][t]);
            else
                totals[s][t] = _mm512_fmadd_ps(scale, sums[s][t], totals[s][t]);
            if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
                totals[s][t] = add_minimum(scales, group + head_offset, group + scale_offset,
                                           tile->sums[t * tile->x_stride + block], totals[s][t]);
            sums[s][t] = _mm512_setzero_ps();
        }
    }
}

/* Writes or adds the results of a tile. */
INLINE void store_tile(const uint32_t streams, const uint32_t tokens, const struct cpu_product *job,
                       uint32_t group, uint32_t distance, uint32_t token,
                       __m512 totals[static TILE_STREAMS][TILE_TOKENS])
{
    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        uint32_t place = (group + s * distance) * CPU_PACK_ROWS;
        __mmask16 mask = first_lanes(job->matrix->rows - job->first * CPU_PACK_ROWS - place);

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            float *y = job->y + (token + t) * job->y_stride + place;

            if (job->add)
                totals[s][t] = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), totals[s][t]);
            _mm512_mask_storeu_ps(y, mask, totals[s][t]);
        }
    }
}

/* Groups `group`, group + distance, ... of the job, times tokens from `token` on. */
INLINE void multiply_tile(const enum cpu_quants quants, const enum cpu_scales scales,
                          const int zero, const uint32_t streams, const uint32_t tokens,
                          const struct cpu_product *job, uint32_t group, uint32_t distance,
                          uint32_t token)
{
    const struct cpu_matrix *matrix = job->matrix;
    struct tile tile = {.weights = matrix->data + (job->first + group) * matrix->group_bytes,
                        .spread = distance * matrix->group_bytes,
                        .x = job->x + token * job->x_stride,
                        .x_stride = job->x_stride};
    __m512 sums[TILE_STREAMS][TILE_TOKENS];
    __m512 totals[TILE_STREAMS][TILE_TOKENS];
    uint32_t blocks = cpu_pack_blocks(matrix->columns);

    tile.sums = tile.x + cpu_input_sums(matrix->columns);
    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++)
        CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        sums[s][t] = totals[s][t] = _mm512_setzero_ps();
    for (uint32_t block = 0; block < blocks; block++) {
        size_t offset = cpu_pack_block(quants, scales, block);

        if (scales == CPU_SCALES_K16) {
            add_quads(quants, zero, streams, tokens, &tile, offset, block, 0, 4, sums);
            add_scaled(quants, scales, streams, tokens, &tile, block, 0, sums, totals);
            add_quads(quants, zero, streams, tokens, &tile, offset, block, 4, 8, sums);
            add_scaled(quants, scales, streams, tokens, &tile, block, 1, sums, totals);
        } else {
            add_quads(quants, zero, streams, tokens, &tile, offset, block, 0, 8, sums);
            add_scaled(quants, scales, streams, tokens, &tile, block, 0, sums, totals);
        }
    }
    store_tile(streams, tokens, job, group, distance, token, totals);
}

/* ------------------------------------------------------------------ products in whole numbers */

/* sum += the products of unsigned and signed bytes, four neighbours together: exact for any bytes. */
INLINE __m512i add_products(const enum cpu_quants quants, __m512i sum, __m512i bytes, __m512i x)
{
#ifdef __AVX512VNNI__
    (void)quants;
    return _mm512_dpbusd_epi32(sum, bytes, x);
#else
    const __m512i ones = _mm512_set1_epi16(1);

    if (quants ==
        CPU_QUANTS_8) { /* pairs of 255 * 127 do not fit 16 bits: without the last bit, twice */
        __m512i upper = _mm512_and_si512(_mm512_srli_epi16(bytes, 1), _mm512_set1_epi8(0x7f));

        sum = _mm512_add_epi32(
            sum, _mm512_madd_epi16(_mm512_maddubs_epi16(upper, x), _mm512_set1_epi16(2)));
        bytes = _mm512_and_si512(bytes, _mm512_set1_epi8(1));
    }
    return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(bytes, x), ones));
#endif
}

/* A tile in whole numbers: weights as in struct tile, and the parts of the first token's input. */
struct whole_tile {
    const uint8_t *weights;
    size_t spread;
    const int8_t *quants;
    const float *scales;
    const float *sums;
    const int32_t *counts;
    size_t x_stride; /* of each of them, in floats */
};

INLINE struct whole_tile whole_tile_of(const struct cpu_product *job, uint32_t group,
                                       uint32_t distance, uint32_t token)
{
    const struct cpu_matrix *matrix = job->matrix;
    const float *x = job->x + token * job->x_stride;

    return (struct whole_tile){
        .weights = matrix->data + (job->first + group) * matrix->group_bytes,
        .spread = distance * matrix->group_bytes,
        .quants = (const int8_t *)(x + cpu_input_quants(matrix->columns)),
        .scales = x + cpu_input_scales(matrix->columns),
        .sums = x + cpu_input_quant_sums(matrix->columns),
        .counts = (const int32_t *)(const void *)(x + cpu_input_counts(matrix->columns)),
        .x_stride = job->x_stride};
}

/* What is to be taken from the sums of a block or, with K16, of a half: zero * sum of x. */
INLINE int32_t zero_products(const enum cpu_scales scales, const int zero, const int32_t *counts,
                             uint32_t half)
{
    return zero * (scales == CPU_SCALES_K16 ? counts[half] : counts[0] + counts[1]);
}

/* total + scale * (the x's scale * (sum - taken)) */
INLINE __m512 add_whole(__m512 scale, float x_scale, __m512i sum, int32_t taken, __m512 total)
{
    __m512 exact = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum, _mm512_set1_epi32(taken)));

    return _mm512_fmadd_ps(scale, _mm512_mul_ps(_mm512_set1_ps(x_scale), exact), total);
}

/* The sums of the quads first to end - 1 of a block. */
INLINE void add_whole_quads(const enum cpu_quants quants, const uint32_t streams,
                            const uint32_t tokens, const struct whole_tile *tile, size_t offset,
                            uint32_t block, uint32_t first, uint32_t end,
                            __m512i sums[static TILE_STREAMS][TILE_TOKENS])
{
    const int8_t *x = tile->quants + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) {
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            CPU_UNROLL
            for (uint32_t s = 0; s < streams; s++) {
                __m512i bytes =
                    load_quad(quants, tile->weights + s * tile->spread + offset, i + odd);

                CPU_UNROLL
                for (uint32_t t = 0; t < tokens; t++) {
                    int32_t four;

                    memcpy(&four, x + t * tile->x_stride * sizeof(float) + 4 * (i + odd),
                           sizeof four);
                    sums[s][t] = add_products(quants, sums[s][t], bytes, _mm512_set1_epi32(four));
                }
            }
        }
    }
}

INLINE void add_whole_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                             const int zero, const uint32_t streams, const uint32_t tokens,
                             const struct whole_tile *tile, uint32_t block, uint32_t half,
                             __m512i sums[static TILE_STREAMS][TILE_TOKENS],
                             __m512 totals[static TILE_STREAMS][TILE_TOKENS])
{
    size_t scale_offset = cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    size_t head_offset = cpu_pack_head(quants, scales, block);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        const uint8_t *group = tile->weights + s * tile->spread;
        __m512 scale = load_scale(scales, group + head_offset, group + scale_offset, half);

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            const int32_t *counts = tile->counts + t * tile->x_stride + 2 * (size_t)block;
            int32_t taken = zero == 0 ? 0 : zero_products(scales, zero, counts, half);

            totals[s][t] = add_whole(scale, tile->scales[t * tile->x_stride + block], sums[s][t],
                                     taken, totals[s][t]);
            if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
                totals[s][t] = add_minimum(scales, group + head_offset, group + scale_offset,
                                           tile->sums[t * tile->x_stride + block], totals[s][t]);
            sums[s][t] = _mm512_setzero_si512();
        }
    }
}

INLINE void multiply_whole_tile(const enum cpu_quants quants, const enum cpu_scales scales,
                                const int zero, const uint32_t streams, const uint32_t tokens,
                                const struct cpu_product *job, uint32_t group, uint32_t distance,
                                uint32_t token)
{
    const struct whole_tile tile = whole_tile_of(job, group, distance, token);
    __m512i sums[TILE_STREAMS][TILE_TOKENS];
    __m512 totals[TILE_STREAMS][TILE_TOKENS];
    uint32_t blocks = cpu_pack_blocks(job->matrix->columns);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            sums[s][t] = _mm512_setzero_si512();
            totals[s][t] = _mm512_setzero_ps();
        }
    }
    for (uint32_t block = 0; block < blocks; block++) {
        size_t offset = cpu_pack_block(quants, scales, block);
        const uint32_t end = scales == CPU_SCALES_K16 ? 4 : CPU_PACK_QUADS;

        add_whole_quads(quants, streams, tokens, &tile, offset, block, 0, end, sums);
        add_whole_scaled(quants, scales, zero, streams, tokens, &tile, block, 0, sums, totals);
        if (scales == CPU_SCALES_K16) {
            add_whole_quads(quants, streams, tokens, &tile, offset, block, end, CPU_PACK_QUADS,
                            sums);
            add_whole_scaled(quants, scales, zero, streams, tokens, &tile, block, 1, sums, totals);
        }
    }
    store_tile(streams, tokens, job, group, distance, token, totals);
}

/* ------------------------------------------------------------------ all tiles of a job */

INLINE void any_tile(const bool is_whole, const enum cpu_quants quants,
                     const enum cpu_scales scales, const int zero, const uint32_t streams,
                     const uint32_t tokens, const struct cpu_product *job, uint32_t group,
                     uint32_t distance, uint32_t token)
{
    if (is_whole)
        multiply_whole_tile(quants, scales, zero, streams, tokens, job, group, distance, token);
    else
        multiply_tile(quants, scales, zero, streams, tokens, job, group, distance, token);
}

/*
 * One token is bound by memory: four quarters of the groups at once are four streams, which must lie far
 * apart. Next to each other they confuse the prefetcher, measured on Zen 4 at 9 GB/s against 27.
 */
INLINE void multiply_one(const bool is_whole, const enum cpu_quants quants,
                         const enum cpu_scales scales, const int zero,
                         const struct cpu_product *job, uint32_t token)
{
    uint32_t part = job->groups / TILE_STREAMS;

    for (uint32_t i = 0; i < part; i++)
        any_tile(is_whole, quants, scales, zero, TILE_STREAMS, 1, job, i, part, token);
    for (uint32_t i = part * TILE_STREAMS; i < job->groups; i++)
        any_tile(is_whole, quants, scales, zero, 1, 1, job, i, 0, token);
}

/* So many tokens at a time as long as there are so many. */
INLINE void multiply_some(const bool is_whole, const enum cpu_quants quants,
                          const enum cpu_scales scales, const int zero, const uint32_t tokens,
                          const struct cpu_product *job, uint32_t *token)
{
    for (; *token + tokens <= job->tokens; *token += tokens)
        for (uint32_t i = 0; i < job->groups; i++)
            any_tile(is_whole, quants, scales, zero, 1, tokens, job, i, 0, *token);
}

/* Many tokens: the weights of a group are taken apart once for every TILE_TOKENS of them. */
INLINE void multiply_type(const bool is_whole, const enum cpu_quants quants,
                          const enum cpu_scales scales, const int zero,
                          const struct cpu_product *job)
{
    uint32_t token = 0;

    multiply_some(is_whole, quants, scales, zero, TILE_TOKENS, job, &token);
    multiply_some(is_whole, quants, scales, zero, 8, job, &token);
    multiply_some(is_whole, quants, scales, zero, 4, job, &token);
    multiply_some(is_whole, quants, scales, zero, 2, job, &token);
    if (token < job->tokens)
        multiply_one(is_whole, quants, scales, zero, job, token);
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

    by_type[job->matrix->type](job);
}

static void block_sums(float *input, uint32_t columns)
{
    const float *x = input;
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = 0; block < cpu_pack_blocks(columns); block++, x += CPU_PACK_COLUMNS)
        sums[block] = reduce(_mm512_add_ps(_mm512_loadu_ps(x), _mm512_loadu_ps(x + CPU_LANES)));
}

/* The largest magnitude of a block by its bits, so that a NaN is larger than everything. */
INLINE float largest_magnitude(const float *x)
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    uint32_t bits = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(load_bytes((const uint8_t *)x), magnitude),
                         _mm512_and_si512(load_bytes((const uint8_t *)(x + 16)), magnitude)));
    float largest;

    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

/* The quants of 16 values; returns their sum. */
INLINE int32_t quantize_half(const float *x, float inverse, int8_t *quants)
{
    __m512i q = _mm512_setzero_si512();

    if (inverse != 0.0f)
        q = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(inverse)));
    _mm_storeu_si128((__m128i *)(void *)quants, _mm512_cvtepi32_epi8(q));
    return _mm512_reduce_add_epi32(q);
}

static void quantize(float *input, uint32_t columns)
{
    float *sums = input + cpu_input_quant_sums(columns);
    float *scales = input + cpu_input_scales(columns);
    int32_t *counts = (int32_t *)(void *)(input + cpu_input_counts(columns));
    int8_t *quants = (int8_t *)(input + cpu_input_quants(columns));

    for (uint32_t block = 0; block < cpu_pack_blocks(columns); block++) {
        const float *x = input + (size_t)block * CPU_PACK_COLUMNS;
        struct cpu_quantizing how = cpu_quantizing(largest_magnitude(x));

        for (uint32_t half = 0; half < 2; half++)
            counts[2 * block + half] = quantize_half(x + half * CPU_LANES, how.inverse,
                                                     quants + block * CPU_PACK_COLUMNS + half * 16);
        scales[block] = how.scale;
        sums[block] = how.scale * (float)(counts[2 * block] + counts[2 * block + 1]);
    }
}

/* ------------------------------------------------------------------ attention's dot products */

/* One tile: 4 keys x `queries`. */
INLINE void dots_tile(const struct cpu_dots *job, uint32_t p, uint32_t query,
                      const uint32_t queries)
{
    const float *keys = job->keys + p * job->keys_stride;
    const float *x = job->x + query * job->x_stride;
    uint32_t left = job->count - p;
    __mmask8 mask = left >= 4 ? 0xf : (__mmask8)((1u << left) - 1);
    __m512 sums[DOTS_QUERIES][CPU_ROW_GROUP];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        for (uint32_t i = 0; i < CPU_ROW_GROUP; i++)
            sums[q][i] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m512 key0 = _mm512_loadu_ps(keys + k);
        __m512 key1 = _mm512_loadu_ps(keys + job->keys_stride + k);
        __m512 key2 = _mm512_loadu_ps(keys + 2 * job->keys_stride + k);
        __m512 key3 = _mm512_loadu_ps(keys + 3 * job->keys_stride + k);

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 v = _mm512_loadu_ps(x + q * job->x_stride + k);

            sums[q][0] = _mm512_fmadd_ps(key0, v, sums[q][0]);
            sums[q][1] = _mm512_fmadd_ps(key1, v, sums[q][1]);
            sums[q][2] = _mm512_fmadd_ps(key2, v, sums[q][2]);
            sums[q][3] = _mm512_fmadd_ps(key3, v, sums[q][3]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        _mm_mask_storeu_ps(job->y + (query + q) * job->y_stride + p, mask,
                           reduce4(sums[q][0], sums[q][1], sums[q][2], sums[q][3]));
}

static void dots(const struct cpu_dots *job)
{
    for (uint32_t query = 0; query < job->queries; query += DOTS_QUERIES) {
        uint32_t queries = job->queries - query;

        for (uint32_t p = 0; p < job->count; p += CPU_ROW_GROUP) {
            switch (queries) {
            case 1: dots_tile(job, p, query, 1); break;
            case 2: dots_tile(job, p, query, 2); break;
            case 3: dots_tile(job, p, query, 3); break;
            case 4: dots_tile(job, p, query, 4); break;
            case 5: dots_tile(job, p, query, 5); break;
            default: dots_tile(job, p, query, 6); break;
            }
        }
    }
}

/* ------------------------------------------------------------------ attention and the rest */

/* The sums of up to 4 vectors of columns x `queries` (a constant where inlined) over all positions. */
INLINE void weigh_tile(const struct cpu_weigh *job, uint32_t query, uint32_t column,
                       const uint32_t queries, const uint32_t vectors)
{
    const float *weights = job->weights + query * job->weights_stride;
    const float *values = job->values + column;
    float *out = job->sums + query * job->sums_stride + column;
    __m512 sums[WEIGH_QUERIES][WEIGH_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm512_loadu_ps(out + q * job->sums_stride + i * CPU_LANES);
    for (uint32_t p = 0; p < job->count; p++) {
        const float *value = values + p * job->values_stride;

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m512 weight = _mm512_set1_ps(weights[q * job->weights_stride + p]);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] =
                    _mm512_fmadd_ps(weight, _mm512_loadu_ps(value + i * CPU_LANES), sums[q][i]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm512_storeu_ps(out + q * job->sums_stride + i * CPU_LANES, sums[q][i]);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t column, const uint32_t vectors)
{
    for (uint32_t query = 0; query < job->queries; query += WEIGH_QUERIES) {
        switch (job->queries - query) {
        case 1: weigh_tile(job, query, column, 1, vectors); break;
        case 2: weigh_tile(job, query, column, 2, vectors); break;
        case 3: weigh_tile(job, query, column, 3, vectors); break;
        case 4: weigh_tile(job, query, column, 4, vectors); break;
        case 5: weigh_tile(job, query, column, 5, vectors); break;
        default: weigh_tile(job, query, column, 6, vectors); break;
        }
    }
}

static void weigh(const struct cpu_weigh *job)
{
    uint32_t columns = cpu_pad(job->columns);
    uint32_t column = 0;

    for (; column + 4 * CPU_LANES <= columns; column += 4 * CPU_LANES)
        weigh_columns(job, column, 4);
    for (; column < columns; column += CPU_LANES)
        weigh_columns(job, column, 1);
}

static float sum_squares(const float *x, uint32_t count)
{
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __m512 v = _mm512_maskz_loadu_ps(first_lanes(count - i), x + i);

        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return reduce(sum);
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    __m512 max = _mm512_set1_ps(scores[0]);
    __m512 sum = _mm512_setzero_ps();

    for (uint32_t i = 0; i < count; i += CPU_LANES)
        max = _mm512_mask_max_ps(max, first_lanes(count - i), max,
                                 _mm512_maskz_loadu_ps(first_lanes(count - i), scores + i));
    *max_out = _mm512_reduce_max_ps(max); /* a maximum has no rounding: any order will do */
    max = _mm512_set1_ps(*max_out);
    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m512 weight = exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, scores + i), max));

        _mm512_mask_storeu_ps(scores + i, mask, weight);
        sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(mask, weight));
    }
    *sum_out = reduce(sum);
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 sign = _mm512_set1_ps(-0.0f);

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m512 x = _mm512_maskz_loadu_ps(mask, gate + i);
        __m512 bottom = _mm512_add_ps(one, exp16(_mm512_xor_ps(x, sign)));

        x = _mm512_mul_ps(_mm512_div_ps(x, bottom), _mm512_maskz_loadu_ps(mask, up + i));
        _mm512_mask_storeu_ps(gate + i, mask, x);
    }
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        __mmask16 mask = first_lanes(count - i);
        __m256i halves = _mm512_cvtps_ph(_mm512_maskz_loadu_ps(mask, source + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

        _mm256_mask_storeu_epi16(out + i, mask, halves);
    }
}

static void from_half(const uint16_t *source, uint32_t count, float *out)
{
    for (uint32_t i = 0; i < count; i += CPU_LANES)
        _mm512_storeu_ps(
            out + i, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(count - i), source + i)));
}

const struct cpu_kernels CPU_KERNELS = {
    .name = CPU_KERNELS_NAME,
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
    .dots = dots,
    .weigh = weigh,
    .sum_squares = sum_squares,
    .softmax = softmax,
    .silu_multiply = silu_multiply,
    .to_half = to_half,
    .from_half = from_half,
};
