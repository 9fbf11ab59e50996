/*
 * test_products.c: products against plain C: weights of all types to the bit, sums in double precision, and the same bits
 * from every kernel, however many tokens share a launch.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/kernels/packed.h"
#include "engine/cuda/multiply.h"
#include "engine/cuda/pack.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define ROWS        70  /* of no tile's height */
#define SHARED_ROWS 24  /* of FP8, that share a scale */
#define COLUMNS_MAX 608 /* nine tiles and a half */
#define TOKENS_MAX  COLUMNS_MAX
#define STAGING     ((size_t)40 << 10)
#define RESULTS_MAX 10 /* of the tiled kernel, for that many rows and tokens */

/* All kernels, and numbers of blocks that share a result. */
static const struct cuda_multiply_choice choices[] = {
    {CUDA_MULTIPLY_FEW, 1},   {CUDA_MULTIPLY_SOME, 1},  {CUDA_MULTIPLY_MANY, 1},
    {CUDA_MULTIPLY_TILED, 1}, {CUDA_MULTIPLY_TILED, 2}, {CUDA_MULTIPLY_TILED, 4},
    {CUDA_MULTIPLY_TILED, 8},
};

#define CHOICES (sizeof choices / sizeof choices[0])

static const struct cuda_multiply_choice few = {CUDA_MULTIPLY_FEW, 1};
static const struct cuda_multiply_choice some = {CUDA_MULTIPLY_SOME, 1};
static const struct cuda_multiply_choice many = {CUDA_MULTIPLY_MANY, 1};
static const struct cuda_multiply_choice tiled = {CUDA_MULTIPLY_TILED, 1};

struct product {
    enum model_type type;
    uint32_t columns;
    struct model_matrix file;         /* rows as a file has them */
    float scales[ROWS * 10];          /* of FP8 */
    float weights[ROWS][COLUMNS_MAX]; /* what they mean, rounded where packing rounds */
    struct cuda_device *device;
    struct cuda_multiplier multiplier;
    struct cuda_matrix matrix;
    uint16_t *x;
    float *bias;
    float *y;
};

static void *taken(struct cuda_device *device, size_t bytes)
{
    struct td_error error = {0};
    void *memory = NULL;

    if (cuda_device_take(device, bytes, &memory, &error) != TD_OK)
        fail_msg("%s", error.text);
    return memory;
}

static void wait_for(struct cuda_device *device)
{
    struct td_error error = {0};

    if (cuda_device_wait(device, &error) != TD_OK)
        fail_msg("%s", error.text);
}

static uint16_t to_bf16(float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float rounded(float value)
{
    return model_bfloat_to_float(to_bf16(value));
}

static float unit(struct td_rng *rng)
{
    return (float)(2 * td_rng_unit(rng) - 1);
}

/* Scales of FP8, for blocks that end where tiles, pieces and the matrix do not. */
static void draw_scales(struct product *product, struct td_rng *rng)
{
    for (size_t i = 0; i < sizeof product->scales / sizeof product->scales[0]; i++)
        product->scales[i] = 0.01f + (float)td_rng_unit(rng);
    product->file.scales = (struct model_scales){
        .values = product->scales, .rows = SHARED_ROWS, .columns = 128, .across = 5};
}

/* Random bytes; half floats among them are made small, so that none is an infinity or NaN. */
static void draw_file(struct product *product, uint8_t *bytes, struct td_rng *rng)
{
    const struct model_type_info *info = model_type_info(product->type);
    size_t length = ROWS * product->file.row_bytes;

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)td_rng_next(rng);
    if (product->type == MODEL_TYPE_F8_E4M3)
        draw_scales(product, rng);
    for (size_t i = 0; i < length && product->type == MODEL_TYPE_F8_E4M3; i++)
        bytes[i] ^= (bytes[i] & 0x7f) == 0x7f; /* is no number */
    for (size_t block = 0; block < length; block += info->block_bytes)
        for (size_t i = 1; i < info->block_bytes; i += 2)
            bytes[block + i] &= product->type == MODEL_TYPE_Q8_0 ? 0xbf : 0xbb;
    if (product->type == MODEL_TYPE_F32)
        for (size_t i = 0; i < length / sizeof(float); i++)
            ((float *)(void *)bytes)[i] = unit(rng);
    for (uint32_t row = 0; row < ROWS; row++) {
        model_matrix_row(&product->file, row, product->weights[row]);
        for (uint32_t i = 0; i < product->columns; i++)
            if (product->type == MODEL_TYPE_F32 || product->type == MODEL_TYPE_F16)
                product->weights[row][i] = rounded(product->weights[row][i]);
    }
}

/* Through staging memory that a matrix takes more than once. */
static void pack_at(const struct product *product, const struct cuda_pack_source *source,
                    uint8_t *place)
{
    const struct cuda_loader_options options = {.helpers_max = UINT32_MAX};
    struct cuda_packer packer = {.device = product->device,
                                 .staging = taken(product->device, STAGING),
                                 .staging_bytes = STAGING};
    struct td_error error = {0};

    assert_true(cuda_pack_staging(source->matrix, 1) <= STAGING);
    if (cuda_loader_open(product->device, &options, &packer.loader, &error) != TD_OK)
        fail_msg("%s", error.text);
    cuda_pack(&packer, source, &product->matrix, place);
    cuda_loader_close(packer.loader);
    wait_for(product->device);
    cuda_device_give(product->device, packer.staging);
}

static void pack(struct product *product, const struct cuda_pack_source *source)
{
    uint8_t *place;
    size_t bytes = 0;

    assert_true(cuda_packed_bytes(&product->matrix, &bytes));
    place = taken(product->device, bytes);
    pack_at(product, source, place);
    product->matrix.data = place;
}

static void open_multiplier(struct product *product)
{
    static const uint32_t zeros[RESULTS_MAX];
    struct cuda_multiplier *multiplier = &product->multiplier;

    multiplier->device = product->device;
    multiplier->runs = taken(product->device, RESULTS_MAX * CUDA_RUNS_KEPT(CUDA_SLICES) *
                                                  CUDA_RUN_FLOATS * sizeof(float));
    multiplier->run_counters = taken(product->device, sizeof zeros);
    cuda_device_upload(product->device, multiplier->run_counters, zeros, sizeof zeros);
}

static void open_product(struct product *product, enum model_type type, uint64_t seed)
{
    bool is_k = model_type_info(type)->block_values == MODEL_K_VALUES;
    struct cuda_pack_source source = {.matrix = &product->file};
    struct td_rng rng;
    uint8_t *bytes;

    td_rng_init(&rng, seed);
    *product = (struct product){.type = type, .device = cuda_rig_device()};
    product->columns = is_k ? 512 : type == MODEL_TYPE_BF16 ? 200 : COLUMNS_MAX;
    product->file = (struct model_matrix){.type = type, .rows = ROWS, .columns = product->columns};
    assert_true(model_type_row_bytes(type, product->columns, &product->file.row_bytes));
    bytes = malloc(ROWS * product->file.row_bytes);
    assert_non_null(bytes);
    product->file.data = bytes;
    draw_file(product, bytes, &rng);
    product->matrix = cuda_pack_describe(&source);
    pack(product, &source);
    open_multiplier(product);
    product->x = taken(product->device, TOKENS_MAX * COLUMNS_MAX * sizeof *product->x);
    product->bias = taken(product->device, ROWS * sizeof *product->bias);
    product->y = taken(product->device, TOKENS_MAX * ROWS * sizeof *product->y);
}

static void close_product(struct product *product)
{
    cuda_device_give(product->device, (void *)(uintptr_t)product->matrix.data);
    cuda_device_give(product->device, product->multiplier.runs);
    cuda_device_give(product->device, product->multiplier.run_counters);
    cuda_device_give(product->device, product->x);
    cuda_device_give(product->device, product->bias);
    cuda_device_give(product->device, product->y);
    cuda_device_close(product->device);
    free((void *)(uintptr_t)product->file.data);
}

/* y = W x + bias, for tokens whose activations are bf16 already. bias NULL: none. */
static void multiply(struct product *product, struct cuda_multiply_choice choice, const float *x,
                     const float *bias, uint32_t tokens, float *y)
{
    const struct cuda_product_args args = {.matrix = product->matrix,
                                           .x = product->x,
                                           .bias = bias != NULL ? product->bias : NULL,
                                           .y = product->y,
                                           .stride = ROWS,
                                           .tokens = tokens};
    uint16_t *halves = malloc(tokens * product->columns * sizeof *halves);

    assert_non_null(halves);
    for (size_t i = 0; i < (size_t)tokens * product->columns; i++)
        halves[i] = to_bf16(x[i]);
    cuda_device_upload(product->device, product->x, halves,
                       tokens * product->columns * sizeof *halves);
    if (bias != NULL)
        cuda_device_upload(product->device, product->bias, bias, ROWS * sizeof *bias);
    cuda_multiply(&product->multiplier, choice, &args);
    cuda_device_download(product->device, y, product->y, (size_t)tokens * ROWS * sizeof *y);
    wait_for(product->device);
    free(halves);
}

static const enum model_type types[] = {
#define X(name, member, id) MODEL_TYPE_##member,
    CUDA_TYPES(X)
#undef X
};

#define TYPES (sizeof types / sizeof types[0])

/* ------------------------------------------------------------------ weights */

/* A product with a unit vector is the weight itself; the tokens are all unit vectors. */
static void weights_of_every_type_are_the_reference_to_the_bit(void **state)
{
    static struct product product;
    static float x[TOKENS_MAX * COLUMNS_MAX];
    static float y[TOKENS_MAX][ROWS];

    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        open_product(&product, types[i], 7 + i);
        memset(x, 0, sizeof x);
        for (uint32_t k = 0; k < product.columns; k++)
            x[k * product.columns + k] = 1;
        multiply(&product, tiled, x, NULL, product.columns, y[0]);
        for (uint32_t k = 0; k < product.columns; k++)
            for (uint32_t row = 0; row < ROWS; row++)
                if (!(y[k][row] == product.weights[row][k]))
                    fail_msg("type %s row %u column %u: %g instead of %g",
                             model_type_info(types[i])->name, row, k, (double)y[k][row],
                             (double)product.weights[row][k]);
        close_product(&product);
    }
}

/* Where rows of matrices are read one by one. */
static void embeddings_of_every_type_are_the_reference_to_the_bit(void **state)
{
    static const uint32_t tokens[] = {0, 8, 17, ROWS - 1};
    static struct product product;
    static float x[4][COLUMNS_MAX];

    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct cuda_embed_args args;
        size_t bytes;
        uint32_t *ids;

        open_product(&product, types[i], 27 + i);
        ids = taken(product.device, sizeof tokens);
        cuda_device_upload(product.device, ids, tokens, sizeof tokens);
        args = (struct cuda_embed_args){.table = product.matrix, .tokens = ids, .x = product.y};
        bytes = product.columns * sizeof(float);
        cuda_device_launch(product.device, CUDA_KERNEL_EMBED, (struct cuda_grid){4, 1, 1}, &args);
        for (uint32_t k = 0; k < 4; k++)
            cuda_device_download(product.device, x[k], product.y + k * product.columns, bytes);
        wait_for(product.device);
        for (uint32_t k = 0; k < 4; k++)
            assert_memory_equal(x[k], product.weights[tokens[k]], bytes);
        cuda_device_give(product.device, ids);
        close_product(&product);
    }
}

/* Whatever was in the memory before: kernels read the tiles that fill a matrix up, too. */
static void packing_leaves_no_byte_as_it_was(void **state)
{
    static struct product product;

    (void)state;
    for (size_t i = 0; i < TYPES; i++) {
        struct cuda_pack_source source = {.matrix = &product.file};
        uint8_t *packed[2];
        size_t bytes = 0;
        uint8_t *place;

        open_product(&product, types[i], 90 + i);
        assert_true(cuda_packed_bytes(&product.matrix, &bytes));
        place = (uint8_t *)(uintptr_t)product.matrix.data;
        for (uint32_t k = 0; k < 2; k++) {
            packed[k] = malloc(bytes);
            assert_non_null(packed[k]);
            memset(packed[k], k == 0 ? 0x5a : 0xa5, bytes);
            cuda_device_upload(product.device, place, packed[k], bytes);
            pack_at(&product, &source, place);
            cuda_device_download(product.device, packed[k], place, bytes);
            wait_for(product.device);
        }
        assert_memory_equal(packed[0], packed[1], bytes);
        free(packed[0]);
        free(packed[1]);
        close_product(&product);
    }
}

static void the_host_counts_bytes_as_kernels_do(void **state)
{
    (void)state;
    for (uint32_t rows = 1; rows < 200; rows += 33)
        for (size_t i = 0; i < TYPES; i++) {
            const struct model_matrix file = {.type = types[i], .rows = rows, .columns = 768};
            const struct cuda_pack_source source = {.matrix = &file};
            const struct cuda_matrix matrix = cuda_pack_describe(&source);
            const enum cuda_type type = (enum cuda_type)matrix.type;
            size_t bytes = 0;

            assert_true(cuda_packed_bytes(&matrix, &bytes));
            assert_int_equal(bytes,
                             packed_is_k(type)
                                 ? packed_super_at(&matrix, type, packed_row_tiles(&matrix), 0)
                                 : packed_tile_at(&matrix, type, packed_row_tiles(&matrix), 0));
        }
}

/* ------------------------------------------------------------------ sums */

static void check_sums(const struct product *product, const float *x, const float *bias,
                       uint32_t tokens, const float *y)
{
    for (uint32_t token = 0; token < tokens; token++)
        for (uint32_t row = 0; row < ROWS; row++) {
            double sum = (double)bias[row];
            double scale = fabs(sum);

            for (uint32_t i = 0; i < product->columns; i++) {
                double term =
                    (double)product->weights[row][i] * (double)x[token * product->columns + i];

                sum += term;
                scale += fabs(term);
            }
            if (!(fabs((double)y[token * ROWS + row] - sum) <= 2e-5 * scale))
                fail_msg("type %s token %u row %u: %g instead of %g",
                         model_type_info(product->type)->name, token, row,
                         (double)y[token * ROWS + row], sum);
        }
}

/* The bits of `y` from token `first` on, for so many tokens, of which the first is now in the first place. */
static void check_bits(struct product *product, struct cuda_multiply_choice choice, const float *x,
                       const float *bias, uint32_t first, uint32_t tokens, const float *y)
{
    static float again[129 * ROWS];

    multiply(product, choice, x + first * product->columns, bias, tokens, again);
    if (memcmp(again, y + first * ROWS, tokens * ROWS * sizeof *y) != 0)
        fail_msg("type %s, kernel %d in %u parts: %u tokens from %u on differ",
                 model_type_info(product->type)->name, (int)choice.size, choice.parts, tokens,
                 first);
}

/* Alone, and among as many others as every kernel has room for and one more; and wherever in a tile a token is. */
static void every_kernel_gives_the_same_bits_for_any_number_of_tokens(void **state)
{
    static const uint32_t counts[] = {1, 8, 9, 17, 33, 129};
    static const uint32_t firsts[] = {1, 3, 5};
    static const uint32_t shifted[] = {1, 20}; /* one alone, and neighbours in every kernel */
    static struct product product;
    static float x[129 * COLUMNS_MAX];
    static float y[129 * ROWS];
    float bias[ROWS];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 8);
    for (size_t i = 0; i < TYPES; i++) {
        open_product(&product, types[i], 47 + i);
        for (uint32_t k = 0; k < 129 * COLUMNS_MAX; k++)
            x[k] = rounded(unit(&rng));
        for (uint32_t row = 0; row < ROWS; row++)
            bias[row] = unit(&rng);
        multiply(&product, tiled, x, bias, 129, y);
        check_sums(&product, x, bias, 129, y);
        for (size_t c = 0; c < CHOICES; c++) {
            if (choices[c].parts > 1) { /* the same sums, ended otherwise */
                check_bits(&product, choices[c], x, bias, 0, 129, y);
                continue;
            }
            for (size_t k = 0; k < sizeof counts / sizeof counts[0]; k++)
                check_bits(&product, choices[c], x, bias, 0, counts[k], y);
            for (size_t k = 0; k < sizeof firsts / sizeof firsts[0]; k++)
                for (size_t m = 0; m < sizeof shifted / sizeof shifted[0]; m++)
                    check_bits(&product, choices[c], x, bias, firsts[k], shifted[m], y);
        }
        close_product(&product);
    }
}

/* What a product is added to, and rows that are wider than the matrix. */
static void a_product_is_added_where_it_should_be(void **state)
{
    enum { STRIDE = ROWS + 3 };
    static struct product product;
    static float x[COLUMNS_MAX];
    static float y[ROWS];
    float before[2 * STRIDE];
    float after[2 * STRIDE];
    struct cuda_product_args args;

    (void)state;
    open_product(&product, MODEL_TYPE_Q4_K, 60);
    for (uint32_t i = 0; i < product.columns; i++)
        x[i] = rounded((float)i / 300 - 1);
    multiply(&product, few, x, NULL, 1, y);
    for (uint32_t i = 0; i < 2 * STRIDE; i++)
        before[i] = (float)i;
    cuda_device_upload(product.device, product.y, before, sizeof before);
    args = (struct cuda_product_args){.matrix = product.matrix,
                                      .x = product.x,
                                      .y = product.y + 2,
                                      .stride = STRIDE,
                                      .tokens = 1,
                                      .is_added = true};
    cuda_multiply(&product.multiplier, many, &args);
    cuda_device_download(product.device, after, product.y, sizeof after);
    wait_for(product.device);
    for (uint32_t i = 0; i < 2 * STRIDE; i++)
        assert_true(after[i] == (i >= 2 && i < 2 + ROWS ? before[i] + y[i - 2] : before[i]));
    close_product(&product);
}

/* Products of many shapes and tokens, on GPUs of several sizes: what is kept has room. */
static void parts_are_chosen_by_what_would_idle(void **state)
{
    struct cuda_matrix matrix = {.rows = 4096, .columns = 4096, .type = CUDA_TYPE_BF16};
    const struct cuda_multiplier hopper = {.multiprocessors = 132};

    (void)state;
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 64).size, CUDA_MULTIPLY_MANY);
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 65).parts, 4); /* 32 results */
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 256).parts, 2);
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 512).parts, 1);
    matrix.columns = 1024; /* 16 steps */
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 65).parts, 2);
    matrix.type = CUDA_TYPE_Q4_K; /* 64 results */
    assert_int_equal(cuda_multiply_choose(&hopper, &matrix, 128).parts, 2);
    matrix.columns = 1 << 16;
    for (uint32_t multiprocessors = 0; multiprocessors < 200; multiprocessors++)
        for (uint32_t tiles = 1; tiles < 100; tiles++) {
            const struct cuda_multiplier other = {.multiprocessors = multiprocessors};
            struct cuda_multiply_choice choice;

            matrix.rows = tiles * CUDA_TILED_ROWS * CUDA_TILE_ROWS;
            choice = cuda_multiply_choose(&other, &matrix, 65);
            if (choice.parts > 1) {
                assert_true(2 * tiles * choice.parts <= multiprocessors);
                assert_true(2 * tiles <= cuda_run_results(multiprocessors));
                assert_true(2 * tiles * CUDA_RUNS_KEPT(choice.parts) <=
                            cuda_runs_kept(multiprocessors));
            }
        }
}

/* ------------------------------------------------------------------ several matrices in one */

static void rows_of_joined_matrices_are_as_alone(void **state)
{
    enum { FIRST = 2 * SHARED_ROWS };
    static struct product product;
    static float x[3 * COLUMNS_MAX];
    static float alone[3 * ROWS];
    static float joined[3 * ROWS];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 9);
    for (uint32_t i = 0; i < 3 * COLUMNS_MAX; i++)
        x[i] = rounded(unit(&rng));
    for (size_t i = 0; i < TYPES; i++) {
        struct model_matrix parts[2];
        struct cuda_pack_source source = {.matrix = &parts[0]};

        open_product(&product, types[i], 70 + i);
        multiply(&product, few, x, NULL, 3, alone);
        parts[0] = parts[1] = product.file;
        parts[0].rows = FIRST;
        parts[1].rows = ROWS - FIRST;
        parts[1].data += FIRST * product.file.row_bytes;
        if (types[i] == MODEL_TYPE_F8_E4M3)
            parts[1].scales.values += 2 * parts[1].scales.across;
        assert_true(cuda_pack_can_join(&parts[0], FIRST, &parts[1]));
        assert_false(cuda_pack_can_join(&parts[0], FIRST + 8, &parts[1]));
        cuda_device_give(product.device, (void *)(uintptr_t)product.matrix.data);
        pack(&product, &source);
        source.matrix = &parts[1];
        source.first_tile = FIRST / CUDA_TILE_ROWS;
        pack_at(&product, &source, (uint8_t *)(uintptr_t)product.matrix.data);
        multiply(&product, few, x, NULL, 3, joined);
        assert_memory_equal(joined, alone, sizeof alone);
        close_product(&product);
    }
}

/* A gate and what belongs to it in one matrix: silu(gate) * up, in every kernel the same. */
static void check_pair(struct product *gate, struct product *up, const float *x, uint32_t tokens)
{
    static float gates[33 * ROWS];
    static float ups[33 * ROWS];
    static uint16_t gated[33 * ROWS];
    struct cuda_pack_source source = {.matrix = &gate->file, .mate = &up->file};
    struct cuda_product_args args = {
        .x = gate->x, .gated = (uint16_t *)(void *)gate->y, .stride = ROWS, .tokens = tokens};

    multiply(gate, some, x, NULL, tokens, gates);
    multiply(up, some, x, NULL, tokens, ups);
    cuda_device_give(gate->device, (void *)(uintptr_t)gate->matrix.data);
    gate->matrix = cuda_pack_describe(&source);
    pack(gate, &source);
    args.matrix = gate->matrix;
    for (size_t c = 0; c < CHOICES; c++) {
        cuda_multiply(&gate->multiplier, choices[c], &args);
        cuda_device_download(gate->device, gated, args.gated, tokens * ROWS * sizeof *gated);
        wait_for(gate->device);
        for (uint32_t i = 0; i < tokens * ROWS; i++) {
            double value = (double)gates[i];
            double expected = value / (1 + exp(-value)) * (double)ups[i];
            double actual = (double)model_bfloat_to_float(gated[i]);

            if (!(fabs(actual - expected) <= 0x1.01p-8 * fabs(expected) + 1e-6))
                fail_msg("type %s result %u: %g instead of %g", model_type_info(gate->type)->name,
                         i, actual, expected);
        }
    }
}

static void a_gate_and_its_mate_make_one_result(void **state)
{
    static struct product gate;
    static struct product up;
    static float x[33 * COLUMNS_MAX];
    struct td_rng rng;

    (void)state;
    td_rng_init(&rng, 10);
    for (uint32_t i = 0; i < 33 * COLUMNS_MAX; i++)
        x[i] = rounded(unit(&rng) / 16);
    for (size_t i = 0; i < TYPES; i++) {
        open_product(&gate, types[i], 90 + i);
        open_product(&up, types[i], 110 + i);
        assert_true(cuda_pack_can_pair(&gate.file, &up.file));
        check_pair(&gate, &up, x, 33);
        close_product(&gate);
        close_product(&up);
    }
}

/* An argument chooses tests by their names: tests/gpu/run has slow tools run some. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_of_every_type_are_the_reference_to_the_bit),
        cmocka_unit_test(embeddings_of_every_type_are_the_reference_to_the_bit),
        cmocka_unit_test(packing_leaves_no_byte_as_it_was),
        cmocka_unit_test(the_host_counts_bytes_as_kernels_do),
        cmocka_unit_test(every_kernel_gives_the_same_bits_for_any_number_of_tokens),
        cmocka_unit_test(parts_are_chosen_by_what_would_idle),
        cmocka_unit_test(a_product_is_added_where_it_should_be),
        cmocka_unit_test(rows_of_joined_matrices_are_as_alone),
        cmocka_unit_test(a_gate_and_its_mate_make_one_result),
    };

    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
