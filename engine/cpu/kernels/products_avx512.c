/*
 * products_avx512.c: products with 512-bit vectors: a vector is the 16 rows of a group.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist. Compiled
 * a second time, with VNNI, by products_vnni.c.
 */
#include "engine/cpu/kernels/lanes_avx512.h"
#include "engine/cpu/kernels/products.h"

#ifdef __AVX512VNNI__
#define PRODUCTS cpu_product_vnni
#else
#define PRODUCTS cpu_product_avx512
#endif

/* 12 sums of a block and 12 totals, or 4 streams of weights for one token. */
#define TILE_TOKENS  12
#define TILE_STREAMS 4

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

static void block_sums(float *input, uint32_t columns, uint32_t first, uint32_t end)
{
    const float *x = input + (size_t)first * CPU_PACK_COLUMNS;
    float *sums = input + cpu_input_sums(columns);

    for (uint32_t block = first; block < end; block++, x += CPU_PACK_COLUMNS)
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

const struct cpu_product_kernels PRODUCTS = {
    .multiply = multiply,
    .block_sums = block_sums,
    .quantize = quantize,
};
