/*
 * kernels_avx512.c: the kernels with 512-bit vectors: one vector is the 16 lanes of kernels.h.
 *
 * Needs AVX-512 F, BW, DQ and VL; compiled with these flags and called only where they exist.
 */
#include <immintrin.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

/* gemm's register tile: 4 rows x 6 tokens are 24 sums, which with 4 + 1 operands fit 32 registers. */
#define TILE_TOKENS 6

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

/* Writes or adds up to four sums. */
INLINE void store4(float *y, __m128 sums, uint32_t count, bool add)
{
    __mmask8 mask = count >= 4 ? 0xf : (__mmask8)((1u << count) - 1);

    if (add)
        sums = _mm_add_ps(_mm_maskz_loadu_ps(mask, y), sums);
    _mm_mask_storeu_ps(y, mask, sums);
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

/* ------------------------------------------------------------------ types
 *
 * load_<type> gives 32 values of a row from value k on, as two vectors; count says how many are left
 * (fewer than 32 only in F32, F16 and BF16), and what is behind them is zero.
 */

struct pair {
    __m512 low;
    __m512 high;
};

INLINE struct pair load_f32(const uint8_t *row, uint32_t k, uint32_t count)
{
    const float *values = (const float *)(const void *)row + k;

    return (struct pair){
        _mm512_maskz_loadu_ps(first_lanes(count), values),
        _mm512_maskz_loadu_ps(first_lanes(count > 16 ? count - 16 : 0), values + 16)};
}

/* 16 values of 2 bytes each. */
INLINE __m256i load_words(const uint8_t *source, uint32_t count)
{
    return _mm256_maskz_loadu_epi16(first_lanes(count), source);
}

INLINE struct pair load_f16(const uint8_t *row, uint32_t k, uint32_t count)
{
    const uint8_t *source = row + (size_t)2 * k;
    __m256i high = load_words(source + 32, count > 16 ? count - 16 : 0);

    return (struct pair){_mm512_cvtph_ps(load_words(source, count)), _mm512_cvtph_ps(high)};
}

INLINE __m512 widen_bfloat(__m256i words)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(words), 16));
}

INLINE struct pair load_bf16(const uint8_t *row, uint32_t k, uint32_t count)
{
    const uint8_t *source = row + (size_t)2 * k;
    __m256i high = load_words(source + 32, count > 16 ? count - 16 : 0);

    return (struct pair){widen_bfloat(load_words(source, count)), widen_bfloat(high)};
}

/* A half float in all lanes. */
INLINE __m512 broadcast_half(const uint8_t *source)
{
    uint16_t bits;

    memcpy(&bits, source, sizeof bits);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)bits));
}

/* The values of 32 nibbles by a table of 16; the permutation looks at the low 4 bits of an index only. */
INLINE struct pair look_up(const uint8_t *nibbles, __m512 table)
{
    __m512i bytes = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)nibbles));

    return (struct pair){_mm512_permutexvar_ps(bytes, table),
                         _mm512_permutexvar_ps(_mm512_srli_epi32(bytes, 4), table)};
}

INLINE struct pair load_q4_0(const uint8_t *row, uint32_t k, uint32_t count)
{
    const uint8_t *block = row + (size_t)k / MODEL_QUANT_VALUES * MODEL_Q4_0_BYTES;
    const __m512 quants = _mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7);

    (void)count;
    return look_up(block + 2, _mm512_mul_ps(quants, broadcast_half(block)));
}

INLINE struct pair load_q4_1(const uint8_t *row, uint32_t k, uint32_t count)
{
    const uint8_t *block = row + (size_t)k / MODEL_QUANT_VALUES * MODEL_Q4_1_BYTES;
    const __m512 quants = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    uint32_t halves;
    __m128 both; /* scale and minimum */

    (void)count;
    memcpy(&halves, block, sizeof halves);
    both = _mm_cvtph_ps(_mm_cvtsi32_si128((int)halves));
    return look_up(block + 4, _mm512_fmadd_ps(quants, _mm512_broadcastss_ps(both),
                                              _mm512_broadcastss_ps(_mm_movehdup_ps(both))));
}

INLINE __m512 widen_bytes(const uint8_t *source)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)source)));
}

INLINE struct pair load_q8_0(const uint8_t *row, uint32_t k, uint32_t count)
{
    const uint8_t *block = row + (size_t)k / MODEL_QUANT_VALUES * MODEL_Q8_0_BYTES;
    __m512 scale = broadcast_half(block);

    (void)count;
    return (struct pair){_mm512_mul_ps(scale, widen_bytes(block + 2)),
                         _mm512_mul_ps(scale, widen_bytes(block + 18))};
}

/* ------------------------------------------------------------------ gemv and unpack, by type */

/* Rows behind the end stand for no row: they read the first one, and are not stored. */
INLINE const uint8_t *gemv_row(const struct cpu_gemv *job, uint32_t row)
{
    return job->weights + (row < job->rows ? row * job->row_bytes : 0);
}

INLINE void gemv_store(const struct cpu_gemv *job, uint32_t row, uint32_t quarter, __m128 sums)
{
    float values[4];

    _mm_storeu_ps(values, sums);
    for (uint32_t i = 0; i < 4 && row < job->rows; i++, row += quarter)
        job->y[row] = job->add ? job->y[row] + values[i] : values[i];
}

/*
 * gemv goes through the four quarters of its rows at once: four chains of sums for the arithmetic, and
 * four streams from memory. The streams must lie far apart: next to each other (4 rows of 1 KB)
 * they confuse the prefetcher, measured on Zen 4 at 9 GB/s against 27 with 32 rows between them.
 * `left` is a constant for all but the last piece of a row, which makes the masks go away.
 */
#define DEFINE_TYPE(type)                                                                     \
    INLINE void step_##type(const uint8_t *const rows[static 4], const float *x, uint32_t k,  \
                            uint32_t left, __m512 sums[static 4])                             \
    {                                                                                         \
        struct pair v = load_f32((const uint8_t *)x, k, left);                                \
                                                                                              \
        CPU_UNROLL                                                                            \
        for (int i = 0; i < 4; i++) {                                                         \
            struct pair w = load_##type(rows[i], k, left);                                    \
                                                                                              \
            sums[i] = _mm512_fmadd_ps(w.low, v.low, sums[i]);                                 \
            sums[i] = _mm512_fmadd_ps(w.high, v.high, sums[i]);                               \
        }                                                                                     \
    }                                                                                         \
                                                                                              \
    static void gemv_##type(const struct cpu_gemv *job)                                       \
    {                                                                                         \
        uint32_t quarter = (job->rows + 3) / 4;                                               \
                                                                                              \
        for (uint32_t row = 0; row < quarter; row++) {                                        \
            const uint8_t *const rows[4] = {gemv_row(job, row), gemv_row(job, row + quarter), \
                                            gemv_row(job, row + 2 * quarter),                 \
                                            gemv_row(job, row + 3 * quarter)};                \
            __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(),  \
                              _mm512_setzero_ps()};                                           \
            uint32_t k = 0;                                                                   \
                                                                                              \
            for (; k + 32 <= job->columns; k += 32)                                           \
                step_##type(rows, job->x, k, 32, sums);                                       \
            if (k < job->columns)                                                             \
                step_##type(rows, job->x, k, job->columns - k, sums);                         \
            gemv_store(job, row, quarter, reduce4(sums[0], sums[1], sums[2], sums[3]));       \
        }                                                                                     \
    }                                                                                         \
                                                                                              \
    static void unpack_##type(const uint8_t *source, uint32_t count, float *out)              \
    {                                                                                         \
        uint32_t k = 0;                                                                       \
                                                                                              \
        for (; k + 32 <= count; k += 32) {                                                    \
            struct pair w = load_##type(source, k, 32);                                       \
                                                                                              \
            _mm512_storeu_ps(out + k, w.low);                                                 \
            _mm512_storeu_ps(out + k + 16, w.high);                                           \
        }                                                                                     \
        if (k < count) {                                                                      \
            struct pair w = load_##type(source, k, count - k);                                \
                                                                                              \
            _mm512_storeu_ps(out + k, w.low);                                                 \
            if (count - k > 16)                                                               \
                _mm512_storeu_ps(out + k + 16, w.high);                                       \
        }                                                                                     \
    }
DEFINE_TYPE(f32)
DEFINE_TYPE(f16)
DEFINE_TYPE(bf16)
DEFINE_TYPE(q4_0)
DEFINE_TYPE(q4_1)
DEFINE_TYPE(q8_0)
#undef DEFINE_TYPE

/* ------------------------------------------------------------------ gemm */

/* One tile: 4 rows x `tokens`, which is a constant wherever this is inlined. */
INLINE void tile(const struct cpu_gemm *job, uint32_t row, uint32_t token, const uint32_t tokens)
{
    const float *w = job->panel + row * job->panel_stride;
    const float *x = job->x + token * job->x_stride;
    uint32_t rows = job->rows - row;
    __m512 sums[TILE_TOKENS][CPU_ROW_GROUP];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t r = 0; r < CPU_ROW_GROUP; r++)
            sums[t][r] = _mm512_setzero_ps();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m512 w0 = _mm512_loadu_ps(w + k);
        __m512 w1 = _mm512_loadu_ps(w + job->panel_stride + k);
        __m512 w2 = _mm512_loadu_ps(w + 2 * job->panel_stride + k);
        __m512 w3 = _mm512_loadu_ps(w + 3 * job->panel_stride + k);

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            __m512 v = _mm512_loadu_ps(x + t * job->x_stride + k);

            sums[t][0] = _mm512_fmadd_ps(w0, v, sums[t][0]);
            sums[t][1] = _mm512_fmadd_ps(w1, v, sums[t][1]);
            sums[t][2] = _mm512_fmadd_ps(w2, v, sums[t][2]);
            sums[t][3] = _mm512_fmadd_ps(w3, v, sums[t][3]);
        }
    }
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        store4(job->y + (token + t) * job->y_stride + row,
               reduce4(sums[t][0], sums[t][1], sums[t][2], sums[t][3]), rows, job->add);
}

static void gemm(const struct cpu_gemm *job)
{
    for (uint32_t token = 0; token < job->tokens; token += TILE_TOKENS) {
        uint32_t tokens = job->tokens - token;

        for (uint32_t row = 0; row < job->rows; row += CPU_ROW_GROUP) {
            switch (tokens) {
            case 1: tile(job, row, token, 1); break;
            case 2: tile(job, row, token, 2); break;
            case 3: tile(job, row, token, 3); break;
            case 4: tile(job, row, token, 4); break;
            case 5: tile(job, row, token, 5); break;
            default: tile(job, row, token, 6); break;
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

const struct cpu_kernels cpu_kernels_avx512 = {
    .name = "avx512",
    .unpack = {[MODEL_TYPE_F32] = unpack_f32,
               [MODEL_TYPE_F16] = unpack_f16,
               [MODEL_TYPE_BF16] = unpack_bf16,
               [MODEL_TYPE_Q4_0] = unpack_q4_0,
               [MODEL_TYPE_Q4_1] = unpack_q4_1,
               [MODEL_TYPE_Q8_0] = unpack_q8_0},
    .gemv = {[MODEL_TYPE_F32] = gemv_f32,
             [MODEL_TYPE_F16] = gemv_f16,
             [MODEL_TYPE_BF16] = gemv_bf16,
             [MODEL_TYPE_Q4_0] = gemv_q4_0,
             [MODEL_TYPE_Q4_1] = gemv_q4_1,
             [MODEL_TYPE_Q8_0] = gemv_q8_0},
    .gemm = gemm,
    .weigh = weigh,
    .sum_squares = sum_squares,
    .softmax = softmax,
    .silu_multiply = silu_multiply,
    .to_half = to_half,
};
