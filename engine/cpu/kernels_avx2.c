/*
 * kernels_avx2.c: the kernels with 256-bit vectors: two vectors are the 16 lanes of kernels.h.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include <immintrin.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

/* Of products: 8 sums of a block for 4 tokens, with 2 + 1 operands, or 2 streams of weights for one token. */
#define TILE_TOKENS  4
#define TILE_STREAMS 2

/* dots' tile: 2 keys x 3 queries are 6 sums in 12 registers, with 2 + 1 operands. */
#define DOTS_KEYS    2
#define DOTS_QUERIES 3

/* weigh's tile: 4 vectors of a value row x 3 queries. */
#define WEIGH_VECTORS 4
#define WEIGH_QUERIES 3

/* 16 lanes; also 16 consecutive values of a row. */
struct lanes {
    __m256 low;  /* lanes 0 to 7 */
    __m256 high; /* lanes 8 to 15 */
};

INLINE struct lanes lanes_zero(void)
{
    return (struct lanes){_mm256_setzero_ps(), _mm256_setzero_ps()};
}

INLINE struct lanes lanes_load(const float *values)
{
    return (struct lanes){_mm256_loadu_ps(values), _mm256_loadu_ps(values + 8)};
}

INLINE void lanes_store(float *out, struct lanes v)
{
    _mm256_storeu_ps(out, v.low);
    _mm256_storeu_ps(out + 8, v.high);
}

INLINE struct lanes lanes_fma(struct lanes a, struct lanes b, struct lanes sum)
{
    return (struct lanes){_mm256_fmadd_ps(a.low, b.low, sum.low),
                          _mm256_fmadd_ps(a.high, b.high, sum.high)};
}

/* The trees of four sums at once; the results in the order of the arguments. */
INLINE __m128 reduce4(struct lanes a, struct lanes b, struct lanes c, struct lanes d)
{
    __m256 a8 = _mm256_add_ps(a.low, a.high); /* + 8 */
    __m256 b8 = _mm256_add_ps(b.low, b.high);
    __m256 c8 = _mm256_add_ps(c.low, c.high);
    __m256 d8 = _mm256_add_ps(d.low, d.high);
    /* + 4: the upper half onto the lower, two sums in one vector */
    __m256 ab =
        _mm256_add_ps(_mm256_permute2f128_ps(a8, b8, 0x20), _mm256_permute2f128_ps(a8, b8, 0x31));
    __m256 cd =
        _mm256_add_ps(_mm256_permute2f128_ps(c8, d8, 0x20), _mm256_permute2f128_ps(c8, d8, 0x31));
    /* + 2: a a c c | b b d d; + 1: a c a c | b d b d */
    __m256 all = _mm256_add_ps(_mm256_shuffle_ps(ab, cd, 0x44), _mm256_shuffle_ps(ab, cd, 0xee));

    all = _mm256_add_ps(_mm256_shuffle_ps(all, all, 0x88), _mm256_shuffle_ps(all, all, 0xdd));
    return _mm_unpacklo_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

INLINE float reduce(struct lanes v)
{
    return _mm_cvtss_f32(reduce4(v, v, v, v));
}

/* cpu_exp, 8 at a time. */
INLINE __m256 exp8(__m256 x)
{
    const __m256 round = _mm256_set1_ps(CPU_EXP_ROUND);
    __m256 rounded;
    __m256 n;
    __m256 p = _mm256_set1_ps(CPU_EXP_C7);
    __m256i power;

    x = _mm256_max_ps(_mm256_set1_ps(CPU_EXP_MIN), x);
    x = _mm256_min_ps(_mm256_set1_ps(CPU_EXP_MAX), x);
    rounded = _mm256_fmadd_ps(x, _mm256_set1_ps(CPU_LOG2E), round);
    n = _mm256_sub_ps(rounded, round);
    x = _mm256_fmadd_ps(n, _mm256_set1_ps(-CPU_LN2_HIGH), x);
    x = _mm256_fmadd_ps(n, _mm256_set1_ps(-CPU_LN2_LOW), x);
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C6));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C5));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C4));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C3));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(CPU_EXP_C2));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.0f));
    p = _mm256_fmadd_ps(p, x, _mm256_set1_ps(1.0f));
    power = _mm256_add_epi32(_mm256_castps_si256(rounded), _mm256_set1_epi32(CPU_EXP_BIAS));
    return _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32(power, CPU_EXP_SHIFT)));
}

/* ------------------------------------------------------------------ products
 *
 * As in kernels_avx512.c, with the 16 rows of a group in two vectors.
 */

INLINE __m256i load_bytes(const uint8_t *source)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)source);
}

INLINE __m128i load_half_bytes(const uint8_t *source)
{
    return _mm_loadu_si128((const __m128i *)(const void *)source);
}

INLINE struct lanes load_halves(const uint8_t *source)
{
    return (struct lanes){_mm256_cvtph_ps(load_half_bytes(source)),
                          _mm256_cvtph_ps(load_half_bytes(source + 16))};
}

/* 16 where the bit of a byte is set. */
INLINE __m256i fifth_bits(const uint8_t *source)
{
    const __m256i byte_of = _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                                             2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    uint32_t bits;
    __m256i spread;

    memcpy(&bits, source, sizeof bits);
    spread = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32((int)bits), byte_of), bit);
    return _mm256_and_si256(_mm256_cmpeq_epi8(spread, bit), _mm256_set1_epi8(16));
}

/* Quad i of the upper or lower 8 rows of a block as unsigned bytes. */
INLINE __m256i load_quad(const enum cpu_quants quants, const uint8_t *block, uint32_t i,
                         const uint32_t upper)
{
    __m256i bytes;
    __m256i high;

    if (quants == CPU_QUANTS_8)
        return load_bytes(block + (size_t)64 * i + 32 * upper);
    bytes = load_bytes(block + (size_t)64 * (i / 2) + 32 * upper);
    if (i % 2 == 1)
        bytes = _mm256_srli_epi16(bytes, 4);
    bytes = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
    if (quants == CPU_QUANTS_5)
        bytes = _mm256_or_si256(bytes, fifth_bits(block + 256 + (size_t)8 * i + 4 * upper));
    if (quants == CPU_QUANTS_6) {
        high = load_bytes(block + 256 + (size_t)64 * (i / 4) + 32 * upper);
        high = _mm256_srl_epi16(high, _mm_cvtsi32_si128((int)(2 * (i % 4))));
        high = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(3)), 4);
        bytes = _mm256_or_si256(bytes, high);
    }
    return bytes;
}

/* Byte `shift` / 8 of every lane, less zero, as a float; see kernels_avx512.c. */
INLINE __m256 byte_as_float(__m256i bytes, const int shift, const int zero)
{
    const int exponent = (127 + 23 - shift) << 23;
    __m256i bits = _mm256_or_si256(_mm256_and_si256(bytes, _mm256_set1_epi32(255 << shift)),
                                   _mm256_set1_epi32(exponent));

    return _mm256_sub_ps(_mm256_castsi256_ps(bits),
                         _mm256_set1_ps((float)(1 << (23 - shift)) + (float)zero));
}

/* The columns 4i to 4i + 3 of half of the rows of a block: quants less zero, or values. */
INLINE void load_columns(const enum cpu_quants quants, const int zero, const uint8_t *block,
                         uint32_t i, const uint32_t upper, __m256 columns[static 4])
{
    __m256i bytes;

    if (quants == CPU_QUANTS_F32) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] = _mm256_loadu_ps(
                (const float *)(const void *)(block + (size_t)64 * (4 * i + c) + 32 * upper));
    } else if (quants == CPU_QUANTS_F16) {
        for (uint32_t c = 0; c < 4; c++)
            columns[c] =
                _mm256_cvtph_ps(load_half_bytes(block + (size_t)32 * (4 * i + c) + 16 * upper));
    } else if (quants == CPU_QUANTS_BF16) {
        for (uint32_t c = 0; c < 4; c += 2) {
            bytes = load_bytes(block + (size_t)64 * (2 * i + c / 2) + 32 * upper);
            columns[c] = _mm256_castsi256_ps(_mm256_slli_epi32(bytes, 16));
            columns[c + 1] =
                _mm256_castsi256_ps(_mm256_and_si256(bytes, _mm256_set1_epi32((int)0xffff0000)));
        }
    } else {
        bytes = load_quad(quants, block, i, upper);
        columns[0] = byte_as_float(bytes, 0, zero);
        columns[1] = byte_as_float(bytes, 8, zero);
        bytes = _mm256_srli_epi32(bytes, 16);
        columns[2] = byte_as_float(bytes, 0, zero);
        columns[3] = byte_as_float(bytes, 8, zero);
    }
}

/* 16 bytes as floats. */
INLINE struct lanes widen(const uint8_t *source, const bool is_signed)
{
    __m128i low = load_half_bytes(source);
    __m128i high = _mm_srli_si128(low, 8);

    if (is_signed)
        return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low)),
                              _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(high))};
    return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(low)),
                          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(high))};
}

INLINE struct lanes lanes_multiply(struct lanes a, struct lanes b)
{
    return (struct lanes){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}

/* The scales of half 0 or 1 of a block. */
INLINE struct lanes load_scale(const enum cpu_scales scales, const uint8_t *head,
                               const uint8_t *block, uint32_t half)
{
    if (scales == CPU_SCALES_PLAIN || scales == CPU_SCALES_MINIMUM)
        return load_halves(block);
    return lanes_multiply(load_halves(head),
                          widen(block + (size_t)16 * half, scales == CPU_SCALES_K16));
}

/* What the minimums of a block add: K's are subtracted. */
INLINE struct lanes add_minimum(const enum cpu_scales scales, const uint8_t *head,
                                const uint8_t *block, float sum, struct lanes total)
{
    struct lanes x = {_mm256_set1_ps(sum), _mm256_set1_ps(sum)};
    struct lanes minimum;

    if (scales == CPU_SCALES_MINIMUM)
        return lanes_fma(load_halves(block + 32), x, total);
    minimum = lanes_multiply(load_halves(head + 32), widen(block + 16, false));
    return (struct lanes){_mm256_fnmadd_ps(minimum.low, x.low, total.low),
                          _mm256_fnmadd_ps(minimum.high, x.high, total.high)};
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
                      uint32_t first, uint32_t end,
                      struct lanes sums[static TILE_STREAMS][TILE_TOKENS])
{
    const float *x = tile->x + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) { /* two quads share a vector of nibbles */
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            CPU_UNROLL
            for (uint32_t s = 0; s < streams; s++) {
                const uint8_t *source = tile->weights + s * tile->spread + offset;
                __m256 low[4];
                __m256 high[4];

                load_columns(quants, zero, source, i + odd, 0, low);
                load_columns(quants, zero, source, i + odd, 1, high);
                CPU_UNROLL
                for (uint32_t c = 0; c < 4; c++) {
                    CPU_UNROLL
                    for (uint32_t t = 0; t < tokens; t++) {
                        __m256 v = _mm256_broadcast_ss(x + t * tile->x_stride + 4 * (i + odd) + c);

                        sums[s][t].low = _mm256_fmadd_ps(low[c], v, sums[s][t].low);
                        sums[s][t].high = _mm256_fmadd_ps(high[c], v, sums[s][t].high);
                    }
                }
            }
        }
    }
}

/* Scales the sums into the totals; half: of a block whose halves have scales of their own. */
INLINE void add_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                       const uint32_t streams, const uint32_t tokens, const struct tile *tile,
                       uint32_t block, uint32_t half,
                       struct lanes sums[static TILE_STREAMS][TILE_TOKENS],
                       struct lanes totals[static TILE_STREAMS][TILE_TOKENS])
{
    size_t scale_offset = cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    size_t head_offset = cpu_pack_head(quants, scales, block);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        const uint8_t *group = tile->weights + s * tile->spread;
        struct lanes scale = lanes_zero();

        if (scales != CPU_SCALES_NONE)
            scale = load_scale(scales, group + head_offset, group + scale_offset, half);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            if (scales == CPU_SCALES_NONE) {
                totals[s][t].low = _mm256_add_ps(totals[s][t].low, sums[s][t].low);
                totals[s][t].high = _mm256_add_ps(totals[s][t].high, sums[s][t].high);
            } else {
                totals[s][t] = lanes_fma(scale, sums[s][t], totals[s][t]);
            }
            if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
                totals[s][t] = add_minimum(scales, group + head_offset, group + scale_offset,
                                           tile->sums[t * tile->x_stride + block], totals[s][t]);
            sums[s][t] = lanes_zero();
        }
    }
}

/* Writes or adds the values of up to 16 rows. */
INLINE void store_rows(float *y, uint32_t rows, bool add, struct lanes total)
{
    float values[CPU_PACK_ROWS];

    if (rows < CPU_PACK_ROWS) {
        lanes_store(values, total);
        for (uint32_t row = 0; row < rows; row++)
            y[row] = add ? y[row] + values[row] : values[row];
        return;
    }
    if (add) {
        total.low = _mm256_add_ps(_mm256_loadu_ps(y), total.low);
        total.high = _mm256_add_ps(_mm256_loadu_ps(y + 8), total.high);
    }
    lanes_store(y, total);
}

/* Writes or adds the results of a tile. */
INLINE void store_tile(const uint32_t streams, const uint32_t tokens, const struct cpu_product *job,
                       uint32_t group, uint32_t distance, uint32_t token,
                       struct lanes totals[static TILE_STREAMS][TILE_TOKENS])
{
    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        uint32_t place = (group + s * distance) * CPU_PACK_ROWS;
        uint32_t rows = job->matrix->rows - job->first * CPU_PACK_ROWS - place;

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++)
            store_rows(job->y + (token + t) * job->y_stride + place, rows, job->add, totals[s][t]);
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
    struct lanes sums[TILE_STREAMS][TILE_TOKENS];
    struct lanes totals[TILE_STREAMS][TILE_TOKENS];
    uint32_t blocks = cpu_pack_blocks(matrix->columns);

    tile.sums = tile.x + cpu_input_sums(matrix->columns);
    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++)
        CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        sums[s][t] = totals[s][t] = lanes_zero();
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

/* 16 sums. */
struct counts {
    __m256i low;
    __m256i high;
};

INLINE struct counts counts_zero(void)
{
    return (struct counts){_mm256_setzero_si256(), _mm256_setzero_si256()};
}

/* sum += the products of unsigned and signed bytes, four neighbours together: exact for any bytes. */
INLINE __m256i add_products(const enum cpu_quants quants, __m256i sum, __m256i bytes, __m256i x)
{
    const __m256i ones = _mm256_set1_epi16(1);

    if (quants ==
        CPU_QUANTS_8) { /* pairs of 255 * 127 do not fit 16 bits: without the last bit, twice */
        __m256i upper = _mm256_and_si256(_mm256_srli_epi16(bytes, 1), _mm256_set1_epi8(0x7f));

        sum = _mm256_add_epi32(
            sum, _mm256_madd_epi16(_mm256_maddubs_epi16(upper, x), _mm256_set1_epi16(2)));
        bytes = _mm256_and_si256(bytes, _mm256_set1_epi8(1));
    }
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(bytes, x), ones));
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
INLINE struct lanes add_whole(struct lanes scale, float x_scale, struct counts sum, int32_t taken,
                              struct lanes total)
{
    const __m256i less = _mm256_set1_epi32(taken);
    const __m256 factor = _mm256_set1_ps(x_scale);
    __m256 low = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum.low, less));
    __m256 high = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum.high, less));

    return (struct lanes){_mm256_fmadd_ps(scale.low, _mm256_mul_ps(factor, low), total.low),
                          _mm256_fmadd_ps(scale.high, _mm256_mul_ps(factor, high), total.high)};
}

/* The sums of the quads first to end - 1 of a block. */
INLINE void add_whole_quads(const enum cpu_quants quants, const uint32_t streams,
                            const uint32_t tokens, const struct whole_tile *tile, size_t offset,
                            uint32_t block, uint32_t first, uint32_t end,
                            struct counts sums[static TILE_STREAMS][TILE_TOKENS])
{
    const int8_t *x = tile->quants + (size_t)block * CPU_PACK_COLUMNS;

    for (uint32_t i = first; i < end; i += 2) {
        CPU_UNROLL
        for (uint32_t odd = 0; odd < 2; odd++) {
            CPU_UNROLL
            for (uint32_t s = 0; s < streams; s++) {
                const uint8_t *source = tile->weights + s * tile->spread + offset;
                __m256i low = load_quad(quants, source, i + odd, 0);
                __m256i high = load_quad(quants, source, i + odd, 1);

                CPU_UNROLL
                for (uint32_t t = 0; t < tokens; t++) {
                    int32_t four;
                    __m256i v;

                    memcpy(&four, x + t * tile->x_stride * sizeof(float) + 4 * (i + odd),
                           sizeof four);
                    v = _mm256_set1_epi32(four);
                    sums[s][t].low = add_products(quants, sums[s][t].low, low, v);
                    sums[s][t].high = add_products(quants, sums[s][t].high, high, v);
                }
            }
        }
    }
}

INLINE void add_whole_scaled(const enum cpu_quants quants, const enum cpu_scales scales,
                             const int zero, const uint32_t streams, const uint32_t tokens,
                             const struct whole_tile *tile, uint32_t block, uint32_t half,
                             struct counts sums[static TILE_STREAMS][TILE_TOKENS],
                             struct lanes totals[static TILE_STREAMS][TILE_TOKENS])
{
    size_t scale_offset = cpu_pack_block(quants, scales, block) + cpu_pack_quant_bytes(quants);
    size_t head_offset = cpu_pack_head(quants, scales, block);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        const uint8_t *group = tile->weights + s * tile->spread;
        struct lanes scale = load_scale(scales, group + head_offset, group + scale_offset, half);

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            const int32_t *counts = tile->counts + t * tile->x_stride + 2 * (size_t)block;
            int32_t taken = zero == 0 ? 0 : zero_products(scales, zero, counts, half);

            totals[s][t] = add_whole(scale, tile->scales[t * tile->x_stride + block], sums[s][t],
                                     taken, totals[s][t]);
            if (scales == CPU_SCALES_MINIMUM || scales == CPU_SCALES_K)
                totals[s][t] = add_minimum(scales, group + head_offset, group + scale_offset,
                                           tile->sums[t * tile->x_stride + block], totals[s][t]);
            sums[s][t] = counts_zero();
        }
    }
}

INLINE void multiply_whole_tile(const enum cpu_quants quants, const enum cpu_scales scales,
                                const int zero, const uint32_t streams, const uint32_t tokens,
                                const struct cpu_product *job, uint32_t group, uint32_t distance,
                                uint32_t token)
{
    const struct whole_tile tile = whole_tile_of(job, group, distance, token);
    struct counts sums[TILE_STREAMS][TILE_TOKENS];
    struct lanes totals[TILE_STREAMS][TILE_TOKENS];
    uint32_t blocks = cpu_pack_blocks(job->matrix->columns);

    CPU_UNROLL
    for (uint32_t s = 0; s < streams; s++) {
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            sums[s][t] = counts_zero();
            totals[s][t] = lanes_zero();
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

/* One token is bound by memory: see kernels_avx512.c. */
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

    for (uint32_t block = 0; block < cpu_pack_blocks(columns); block++, x += CPU_PACK_COLUMNS) {
        struct lanes a = lanes_load(x);
        struct lanes b = lanes_load(x + CPU_LANES);

        sums[block] =
            reduce((struct lanes){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)});
    }
}

/* The largest magnitude of a block by its bits, so that a NaN is larger than everything. */
INLINE float largest_magnitude(const float *x)
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i most = _mm256_setzero_si256();
    uint32_t lanes[8];
    uint32_t bits = 0;
    float largest;

    for (int i = 0; i < CPU_PACK_COLUMNS; i += 8)
        most = _mm256_max_epu32(
            most, _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x + i)), magnitude));
    _mm256_storeu_si256((__m256i *)(void *)lanes, most);
    for (int i = 0; i < 8; i++)
        bits = lanes[i] > bits ? lanes[i] : bits;
    memcpy(&largest, &bits, sizeof largest);
    return largest;
}

/* The quants of 16 values; returns their sum. */
INLINE int32_t quantize_half(const float *x, float inverse, int8_t *quants)
{
    int32_t values[CPU_LANES] = {0};
    int32_t sum = 0;

    for (int i = 0; i < CPU_LANES && inverse != 0.0f; i += 8)
        _mm256_storeu_si256(
            (__m256i *)(void *)(values + i),
            _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), _mm256_set1_ps(inverse))));
    for (int i = 0; i < CPU_LANES; i++) {
        quants[i] = (int8_t)values[i];
        sum += values[i];
    }
    return sum;
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

/* One tile: 2 keys x `queries`. */
INLINE void dots_tile(const struct cpu_dots *job, uint32_t p, uint32_t query,
                      const uint32_t queries)
{
    const float *keys = job->keys + p * job->keys_stride;
    const float *x = job->x + query * job->x_stride;
    struct lanes sums[DOTS_QUERIES][DOTS_KEYS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        sums[q][0] = sums[q][1] = lanes_zero();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m256 key0 = _mm256_loadu_ps(keys + k);
        __m256 key1 = _mm256_loadu_ps(keys + job->keys_stride + k);

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 v = _mm256_loadu_ps(x + q * job->x_stride + k);

            sums[q][0].low = _mm256_fmadd_ps(key0, v, sums[q][0].low);
            sums[q][1].low = _mm256_fmadd_ps(key1, v, sums[q][1].low);
        }
        key0 = _mm256_loadu_ps(keys + k + 8);
        key1 = _mm256_loadu_ps(keys + job->keys_stride + k + 8);
        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 v = _mm256_loadu_ps(x + q * job->x_stride + k + 8);

            sums[q][0].high = _mm256_fmadd_ps(key0, v, sums[q][0].high);
            sums[q][1].high = _mm256_fmadd_ps(key1, v, sums[q][1].high);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++) {
        float values[4];

        _mm_storeu_ps(values, reduce4(sums[q][0], sums[q][1], sums[q][0], sums[q][1]));
        for (uint32_t i = 0; i < DOTS_KEYS && p + i < job->count; i++)
            job->y[(query + q) * job->y_stride + p + i] = values[i];
    }
}

static void dots(const struct cpu_dots *job)
{
    for (uint32_t query = 0; query < job->queries; query += DOTS_QUERIES) {
        uint32_t queries = job->queries - query;

        for (uint32_t p = 0; p < job->count; p += DOTS_KEYS) {
            switch (queries) {
            case 1: dots_tile(job, p, query, 1); break;
            case 2: dots_tile(job, p, query, 2); break;
            default: dots_tile(job, p, query, 3); break;
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
    __m256 sums[WEIGH_QUERIES][WEIGH_VECTORS];

    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        sums[q][i] = _mm256_loadu_ps(out + q * job->sums_stride + 8 * i);
    for (uint32_t p = 0; p < job->count; p++) {
        const float *value = values + p * job->values_stride;

        CPU_UNROLL
        for (uint32_t q = 0; q < queries; q++) {
            __m256 weight = _mm256_set1_ps(weights[q * job->weights_stride + p]);

            CPU_UNROLL
            for (uint32_t i = 0; i < vectors; i++)
                sums[q][i] = _mm256_fmadd_ps(weight, _mm256_loadu_ps(value + 8 * i), sums[q][i]);
        }
    }
    CPU_UNROLL
    for (uint32_t q = 0; q < queries; q++)
        CPU_UNROLL
    for (uint32_t i = 0; i < vectors; i++)
        _mm256_storeu_ps(out + q * job->sums_stride + 8 * i, sums[q][i]);
}

INLINE void weigh_columns(const struct cpu_weigh *job, uint32_t column, const uint32_t vectors)
{
    for (uint32_t query = 0; query < job->queries; query += WEIGH_QUERIES) {
        switch (job->queries - query) {
        case 1: weigh_tile(job, query, column, 1, vectors); break;
        case 2: weigh_tile(job, query, column, 2, vectors); break;
        default: weigh_tile(job, query, column, 3, vectors); break;
        }
    }
}

static void weigh(const struct cpu_weigh *job)
{
    uint32_t columns = cpu_pad(job->columns);
    uint32_t column = 0;

    for (; column + 2 * CPU_LANES <= columns; column += 2 * CPU_LANES)
        weigh_columns(job, column, 4);
    for (; column < columns; column += CPU_LANES)
        weigh_columns(job, column, 2);
}

/* The last values of an array, with zeros behind them. */
INLINE struct lanes load_last(const float *values, uint32_t count)
{
    float tail[CPU_LANES] = {0};

    memcpy(tail, values, count * sizeof *values);
    return lanes_load(tail);
}

static float sum_squares(const float *x, uint32_t count)
{
    struct lanes sum = lanes_zero();

    for (uint32_t i = 0; i < count; i += CPU_LANES) {
        struct lanes v = count - i >= CPU_LANES ? lanes_load(x + i) : load_last(x + i, count - i);

        sum = lanes_fma(v, v, sum);
    }
    return reduce(sum);
}

static float max_of(const float *values, uint32_t count)
{
    __m256 max8 = _mm256_set1_ps(values[0]);
    float lanes[8];
    float max;
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        max8 = _mm256_max_ps(max8, _mm256_loadu_ps(values + i));
    _mm256_storeu_ps(lanes, max8);
    max = lanes[0];
    for (int lane = 1; lane < 8; lane++)
        max = lanes[lane] > max ? lanes[lane] : max;
    for (; i < count; i++)
        max = values[i] > max ? values[i] : max;
    return max;
}

static void softmax(float *scores, uint32_t count, float *max_out, float *sum_out)
{
    struct lanes sum = lanes_zero();
    float lanes[CPU_LANES];
    float max = max_of(scores, count);
    uint32_t i = 0;

    for (; i + CPU_LANES <= count; i += CPU_LANES) {
        struct lanes v = lanes_load(scores + i);

        v.low = exp8(_mm256_sub_ps(v.low, _mm256_set1_ps(max)));
        v.high = exp8(_mm256_sub_ps(v.high, _mm256_set1_ps(max)));
        lanes_store(scores + i, v);
        sum.low = _mm256_add_ps(sum.low, v.low);
        sum.high = _mm256_add_ps(sum.high, v.high);
    }
    lanes_store(lanes, sum);
    for (; i < count; i++) {
        scores[i] = cpu_exp(scores[i] - max);
        lanes[i % CPU_LANES] += scores[i];
    }
    *max_out = max;
    *sum_out = cpu_reduce(lanes);
}

static void silu_multiply(float *gate, const float *up, uint32_t count)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    const __m256 sign = _mm256_set1_ps(-0.0f);
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8) {
        __m256 x = _mm256_loadu_ps(gate + i);
        __m256 bottom = _mm256_add_ps(one, exp8(_mm256_xor_ps(x, sign)));

        x = _mm256_mul_ps(_mm256_div_ps(x, bottom), _mm256_loadu_ps(up + i));
        _mm256_storeu_ps(gate + i, x);
    }
    for (; i < count; i++)
        gate[i] = cpu_silu(gate[i]) * up[i];
}

static void to_half(const float *source, uint32_t count, uint16_t *out)
{
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm_storeu_si128((__m128i *)(void *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(source + i),
                                         _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
    for (; i < count; i++)
        out[i] = model_float_to_half(source[i]);
}

static void from_half(const uint16_t *source, uint32_t count, float *out)
{
    uint32_t i = 0;

    for (; i + 8 <= count; i += 8)
        _mm256_storeu_ps(
            out + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)(source + i))));
    for (; i < count; i++)
        out[i] = model_half_to_float(source[i]);
    for (; i < cpu_pad(count); i++)
        out[i] = 0.0f;
}

const struct cpu_kernels cpu_kernels_avx2 = {
    .name = "avx2",
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
