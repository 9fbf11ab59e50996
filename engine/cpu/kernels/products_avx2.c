/*
 * products_avx2.c: products with 256-bit vectors: two vectors are the 16 rows of a group.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include "engine/cpu/kernels/lanes_avx2.h"
#include "engine/cpu/kernels/products.h"

/* 8 sums of a block for 4 tokens, with 2 + 1 operands, or 2 streams of weights for one token. */
#define TILE_TOKENS  4
#define TILE_STREAMS 2

/* ------------------------------------------------------------------ products
 *
 * As in products_avx512.c, with the 16 rows of a group in two vectors.
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

/* Byte `shift` / 8 of every lane, less zero, as a float; see products_avx512.c. */
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

/* One token is bound by memory: see products_avx512.c. */
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

static void block_sums(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    const float *x = input + (size_t)first * CPU_PACK_COLUMNS;
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS) {
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

static void quantize(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    float *sums = input + cpu_input_quant_sums(columns);
    float *scales = input + cpu_input_scales(columns);
    int32_t *counts = (int32_t *)(void *)(input + cpu_input_counts(columns));
    int8_t *quants = (int8_t *)(input + cpu_input_quants(columns));

    for (uint32_t block = first; block < end; block++) {
        const float *x = input + (size_t)block * CPU_PACK_COLUMNS;
        struct cpu_quantizing how = cpu_quantizing(largest_magnitude(x));

        for (uint32_t half = 0; half < 2; half++)
            counts[2 * block + half] = quantize_half(x + half * CPU_LANES, how.inverse,
                                                     quants + block * CPU_PACK_COLUMNS + half * 16);
        scales[block] = how.scale;
        sums[block] = how.scale * (float)(counts[2 * block] + counts[2 * block + 1]);
    }
}

const struct cpu_product_kernels cpu_product_avx2 = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
};
