/*
 * kernels_avx2.c: the kernels with 256-bit vectors: two vectors are the 16 lanes of kernels.h.
 *
 * Needs AVX2, FMA and F16C; compiled with these flags and called only where they exist.
 */
#include <immintrin.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/math.h"

#define INLINE static inline __attribute__((always_inline))

/* gemm's register tile: 2 rows x 3 tokens are 6 sums in 12 registers, with 2 + 1 operands. */
#define TILE_ROWS   2
#define TILE_TOKENS 3

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

/* Writes or adds up to four sums. */
INLINE void store4(float *y, __m128 sums, uint32_t count, bool add)
{
    float values[4];

    _mm_storeu_ps(values, sums);
    for (uint32_t i = 0; i < 4 && i < count; i++)
        y[i] = add ? y[i] + values[i] : values[i];
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

/* ------------------------------------------------------------------ types
 *
 * load_<type>(row, block, half) gives the 16 values from 32 * block + 16 * half on; half is a constant
 * wherever this is inlined.
 */

INLINE struct lanes load_f32(const uint8_t *row, uint32_t block, const int half)
{
    return lanes_load((const float *)(const void *)row + (size_t)32 * block + 16 * half);
}

INLINE __m128i load_bytes(const uint8_t *source)
{
    return _mm_loadu_si128((const __m128i *)(const void *)source);
}

INLINE struct lanes load_f16(const uint8_t *row, uint32_t block, const int half)
{
    const uint8_t *source = row + (size_t)64 * block + 32 * half;

    return (struct lanes){_mm256_cvtph_ps(load_bytes(source)),
                          _mm256_cvtph_ps(load_bytes(source + 16))};
}

INLINE __m256 widen_bfloat(const uint8_t *source)
{
    __m256i words = _mm256_cvtepu16_epi32(load_bytes(source));

    return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16));
}

INLINE struct lanes load_bf16(const uint8_t *row, uint32_t block, const int half)
{
    const uint8_t *source = row + (size_t)64 * block + 32 * half;

    return (struct lanes){widen_bfloat(source), widen_bfloat(source + 16)};
}

/* A half float in all lanes. */
INLINE __m256 broadcast_half(const uint8_t *source)
{
    uint16_t bits;

    memcpy(&bits, source, sizeof bits);
    return _mm256_broadcastss_ps(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)));
}

/* 16 nibbles as floats: the lower ones of 16 bytes, or the upper ones. */
INLINE struct lanes widen_nibbles(const uint8_t *source, const int half)
{
    __m128i bytes = load_bytes(source);

    if (half == 1)
        bytes = _mm_srli_epi16(bytes, 4);
    bytes = _mm_and_si128(bytes, _mm_set1_epi8(15));
    return (struct lanes){_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes)),
                          _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)))};
}

INLINE struct lanes load_q4_0(const uint8_t *row, uint32_t block, const int half)
{
    const uint8_t *source = row + (size_t)MODEL_Q4_0_BYTES * block;
    struct lanes quants = widen_nibbles(source + 2, half);
    const __m256 eight = _mm256_set1_ps(8.0f);
    __m256 scale = broadcast_half(source);

    return (struct lanes){_mm256_mul_ps(scale, _mm256_sub_ps(quants.low, eight)),
                          _mm256_mul_ps(scale, _mm256_sub_ps(quants.high, eight))};
}

INLINE struct lanes load_q4_1(const uint8_t *row, uint32_t block, const int half)
{
    const uint8_t *source = row + (size_t)MODEL_Q4_1_BYTES * block;
    struct lanes quants = widen_nibbles(source + 4, half);
    __m256 scale = broadcast_half(source);
    __m256 minimum = broadcast_half(source + 2);

    return (struct lanes){_mm256_fmadd_ps(scale, quants.low, minimum),
                          _mm256_fmadd_ps(scale, quants.high, minimum)};
}

INLINE struct lanes load_q8_0(const uint8_t *row, uint32_t block, const int half)
{
    const uint8_t *source = row + (size_t)MODEL_Q8_0_BYTES * block;
    __m128i bytes = load_bytes(source + 2 + 16 * half);
    __m256 scale = broadcast_half(source);

    return (struct lanes){
        _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes))),
        _mm256_mul_ps(scale, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))))};
}

/* ------------------------------------------------------------------ gemv and unpack, by type */

/*
 * The end of a row that is no whole number of 32 values (F32, F16 and BF16 only): a copy with zeros
 * behind it, to be loaded as block 0.
 */
INLINE void copy_tail(const uint8_t *row, uint32_t columns, size_t value_bytes,
                      uint8_t out[static 128])
{
    uint32_t done = columns / 32 * 32;

    memset(out, 0, 128);
    memcpy(out, row + done * value_bytes, (columns - done) * value_bytes);
}

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

/* gemv goes through the four quarters of its rows at once, as in kernels_avx512.c. */
#define DEFINE_TYPE(type, value_bytes)                                                         \
    static void gemv_##type(const struct cpu_gemv *job)                                        \
    {                                                                                          \
        uint32_t quarter = (job->rows + 3) / 4;                                                \
                                                                                               \
        for (uint32_t row = 0; row < quarter; row++) {                                         \
            const uint8_t *const rows[4] = {gemv_row(job, row), gemv_row(job, row + quarter),  \
                                            gemv_row(job, row + 2 * quarter),                  \
                                            gemv_row(job, row + 3 * quarter)};                 \
            struct lanes sums[4] = {lanes_zero(), lanes_zero(), lanes_zero(), lanes_zero()};   \
            uint32_t blocks = job->columns / 32;                                               \
            uint32_t left = job->columns % 32;                                                 \
                                                                                               \
            for (uint32_t block = 0; block < blocks; block++) {                                \
                struct lanes x0 = lanes_load(job->x + 32 * block);                             \
                struct lanes x1 = lanes_load(job->x + 32 * block + 16);                        \
                                                                                               \
                CPU_UNROLL                                                                     \
                for (int i = 0; i < 4; i++) {                                                  \
                    sums[i] = lanes_fma(load_##type(rows[i], block, 0), x0, sums[i]);          \
                    sums[i] = lanes_fma(load_##type(rows[i], block, 1), x1, sums[i]);          \
                }                                                                              \
            }                                                                                  \
            for (int i = 0; i < 4 && left > 0; i++) {                                          \
                uint8_t tail[128];                                                             \
                const float *x = job->x + 32 * blocks;                                         \
                                                                                               \
                copy_tail(rows[i], job->columns, value_bytes, tail);                           \
                sums[i] = lanes_fma(load_##type(tail, 0, 0), lanes_load(x), sums[i]);          \
                if (left > 16)                                                                 \
                    sums[i] = lanes_fma(load_##type(tail, 0, 1), lanes_load(x + 16), sums[i]); \
            }                                                                                  \
            gemv_store(job, row, quarter, reduce4(sums[0], sums[1], sums[2], sums[3]));        \
        }                                                                                      \
    }                                                                                          \
                                                                                               \
    static void unpack_##type(const uint8_t *source, uint32_t count, float *out)               \
    {                                                                                          \
        uint32_t blocks = count / 32;                                                          \
        uint32_t left = count % 32;                                                            \
                                                                                               \
        for (uint32_t block = 0; block < blocks; block++) {                                    \
            lanes_store(out + 32 * block, load_##type(source, block, 0));                      \
            lanes_store(out + 32 * block + 16, load_##type(source, block, 1));                 \
        }                                                                                      \
        if (left > 0) {                                                                        \
            uint8_t tail[128];                                                                 \
                                                                                               \
            copy_tail(source, count, value_bytes, tail);                                       \
            lanes_store(out + 32 * blocks, load_##type(tail, 0, 0));                           \
            if (left > 16)                                                                     \
                lanes_store(out + 32 * blocks + 16, load_##type(tail, 0, 1));                  \
        }                                                                                      \
    }
DEFINE_TYPE(f32, 4)
DEFINE_TYPE(f16, 2)
DEFINE_TYPE(bf16, 2)
DEFINE_TYPE(q4_0, 0)
DEFINE_TYPE(q4_1, 0)
DEFINE_TYPE(q8_0, 0)
#undef DEFINE_TYPE

/* ------------------------------------------------------------------ gemm */

/* One tile: 2 rows x `tokens`, which is a constant wherever this is inlined. */
INLINE void tile(const struct cpu_gemm *job, uint32_t row, uint32_t token, const uint32_t tokens)
{
    const float *w = job->panel + row * job->panel_stride;
    const float *x = job->x + token * job->x_stride;
    uint32_t rows = job->rows - row;
    struct lanes sums[TILE_TOKENS][TILE_ROWS];

    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        sums[t][0] = sums[t][1] = lanes_zero();
    for (uint32_t k = 0; k < job->columns; k += CPU_LANES) {
        __m256 w0 = _mm256_loadu_ps(w + k);
        __m256 w1 = _mm256_loadu_ps(w + job->panel_stride + k);

        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 v = _mm256_loadu_ps(x + t * job->x_stride + k);

            sums[t][0].low = _mm256_fmadd_ps(w0, v, sums[t][0].low);
            sums[t][1].low = _mm256_fmadd_ps(w1, v, sums[t][1].low);
        }
        w0 = _mm256_loadu_ps(w + k + 8);
        w1 = _mm256_loadu_ps(w + job->panel_stride + k + 8);
        CPU_UNROLL
        for (uint32_t t = 0; t < tokens; t++) {
            __m256 v = _mm256_loadu_ps(x + t * job->x_stride + k + 8);

            sums[t][0].high = _mm256_fmadd_ps(w0, v, sums[t][0].high);
            sums[t][1].high = _mm256_fmadd_ps(w1, v, sums[t][1].high);
        }
    }
    CPU_UNROLL
    for (uint32_t t = 0; t < tokens; t++)
        store4(job->y + (token + t) * job->y_stride + row,
               reduce4(sums[t][0], sums[t][1], sums[t][0], sums[t][1]),
               rows < TILE_ROWS ? rows : TILE_ROWS, job->add);
}

static void gemm(const struct cpu_gemm *job)
{
    for (uint32_t token = 0; token < job->tokens; token += TILE_TOKENS) {
        uint32_t tokens = job->tokens - token;

        for (uint32_t row = 0; row < job->rows; row += TILE_ROWS) {
            switch (tokens) {
            case 1: tile(job, row, token, 1); break;
            case 2: tile(job, row, token, 2); break;
            default: tile(job, row, token, 3); break;
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

const struct cpu_kernels cpu_kernels_avx2 = {
    .name = "avx2",
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
