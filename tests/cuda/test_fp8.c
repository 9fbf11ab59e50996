/*
 * test_fp8.c: weights that are rounded to FP8 when they are loaded: to the nearest, with a scale for each row, to the bit; and
 * whole models of them, which are the models whose files had been rounded so.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/cuda/pack.h"
#include "engine/cuda/weights.h"
#include "lib/base/random.h"
#include "tests/cuda/rig.h"

#define ROWS    70 /* of no tile's height */
#define COLUMNS 200
#define STAGING ((size_t)20 << 10)

/* ------------------------------------------------------------------ the definition, in plain C */

/* The nearest of all, of two the even one. */
static uint8_t nearest(float value)
{
    uint8_t best = 0;

    for (uint32_t bits = 1; bits < 0x7f; bits++) {
        double least = fabs((double)model_e4m3_to_float(best) - fabs((double)value));
        double here = fabs((double)model_e4m3_to_float((uint8_t)bits) - fabs((double)value));

        if (here < least || (here == least && bits % 2 == 0))
            best = (uint8_t)bits;
    }
    return best | (signbit(value) ? 0x80 : 0);
}

/* A row as FP8, and its scale. */
static float round_row(const float *row, uint32_t columns, uint8_t *out)
{
    float largest = 0;
    float scale;

    for (uint32_t i = 0; i < columns; i++)
        largest = fmaxf(largest, fabsf(row[i]));
    scale = fmaxf(largest / MODEL_E4M3_MAX, MODEL_SCALE_MIN);
    for (uint32_t i = 0; i < columns; i++)
        out[i] = nearest(row[i] / scale);
    return scale;
}

/* ------------------------------------------------------------------ one matrix */

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

/* Packs a matrix, in several pieces, and reads every weight back as embeddings are read. */
static void load(const struct model_matrix *file, float values[ROWS][COLUMNS])
{
    const struct cuda_loader_options options = {.helpers_max = UINT32_MAX};
    const struct cuda_pack_source source = {.matrix = file, .is_rounded = true};
    struct cuda_device *device = cuda_rig_device();
    struct cuda_packer packer = {
        .device = device, .staging = taken(device, STAGING), .staging_bytes = STAGING};
    struct cuda_matrix matrix = cuda_pack_describe(&source);
    uint32_t *tokens = taken(device, ROWS * sizeof *tokens);
    float *x = taken(device, sizeof(float) * ROWS * COLUMNS);
    struct td_error error = {0};
    uint32_t ids[ROWS];
    uint8_t *place;
    size_t bytes = 0;

    assert_int_equal(matrix.type, CUDA_TYPE_F8_E4M3);
    assert_true(cuda_packed_bytes(&matrix, &bytes));
    assert_true(cuda_pack_staging(file, 1) <= STAGING);
    place = taken(device, bytes);
    assert_int_equal(cuda_loader_open(device, &options, &packer.loader, &error), TD_OK);
    cuda_pack(&packer, &source, &matrix, place);
    cuda_loader_close(packer.loader);
    for (uint32_t i = 0; i < ROWS; i++)
        ids[i] = i;
    cuda_device_upload(device, tokens, ids, sizeof ids);
    matrix.data = place;
    cuda_device_launch(device, CUDA_KERNEL_EMBED, (struct cuda_grid){ROWS, 1, 1},
                       &(struct cuda_embed_args){.table = matrix, .tokens = tokens, .x = x});
    cuda_device_download(device, values[0], x, sizeof(float) * ROWS * COLUMNS);
    wait_for(device);
    cuda_device_give(device, packer.staging);
    cuda_device_give(device, tokens);
    cuda_device_give(device, x);
    cuda_device_give(device, place);
    cuda_device_close(device);
}

/* Numbers of all sizes, ties and subnormals among them; a row of zeros, one of nearly nothing, one of few bits. */
static void draw(float values[ROWS][COLUMNS])
{
    struct td_rng rng;

    td_rng_init(&rng, 4);
    for (uint32_t row = 0; row < ROWS; row++)
        for (uint32_t i = 0; i < COLUMNS; i++)
            values[row][i] =
                ldexpf((float)(2 * td_rng_unit(&rng) - 1), -(int)td_rng_below(&rng, 20));
    for (uint32_t i = 0; i < COLUMNS; i++) {
        values[3][i] = 0;
        values[4][i] = i % 2 == 0 ? 0x1p-120f : -0x1p-100f;
        values[5][i] = i == 0 ? 448.0f : ((float)i - 100) / 4; /* its scale is 1: ties */
    }
}

/* As a type of a file stores them, and then means them. */
static void store(enum model_type type, float values[ROWS][COLUMNS], uint8_t *bytes)
{
    for (uint32_t i = 0; i < ROWS * COLUMNS; i++) {
        float *value = (float *)(void *)values + i;
        uint16_t half = model_float_to_half(*value);

        if (type == MODEL_TYPE_BF16)
            memcpy(&half, (const uint8_t *)value + 2, sizeof half);
        if (type == MODEL_TYPE_F32)
            memcpy(bytes + i * sizeof *value, value, sizeof *value);
        else
            memcpy(bytes + i * sizeof half, &half, sizeof half);
    }
    model_dequantize(type, bytes, ROWS * COLUMNS, values[0]);
}

static void rows_become_the_nearest_fp8_of_their_scale(void **state)
{
    static const enum model_type types[] = {MODEL_TYPE_F32, MODEL_TYPE_F16, MODEL_TYPE_BF16};
    static float values[ROWS][COLUMNS];
    static float actual[ROWS][COLUMNS];
    static uint8_t bytes[ROWS * COLUMNS * sizeof(float)];
    uint8_t rounded[COLUMNS];

    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        struct model_matrix file = {
            .type = types[t], .rows = ROWS, .columns = COLUMNS, .data = bytes};

        assert_true(model_type_row_bytes(types[t], COLUMNS, &file.row_bytes));
        draw(values);
        store(types[t], values, bytes);
        load(&file, actual);
        for (uint32_t row = 0; row < ROWS; row++) {
            float scale = round_row(values[row], COLUMNS, rounded);

            for (uint32_t i = 0; i < COLUMNS; i++)
                if (!(actual[row][i] == scale * model_e4m3_to_float(rounded[i])))
                    fail_msg("%s row %u column %u: %a became %a instead of %a",
                             model_type_info(types[t])->name, row, i, (double)values[row][i],
                             (double)actual[row][i],
                             (double)(scale * model_e4m3_to_float(rounded[i])));
        }
    }
}

/* What is no number must not pass for one: nothing of its row does. */
static void a_row_with_what_is_no_number_is_none(void **state)
{
    static const float wrong[] = {INFINITY, -INFINITY, NAN};
    static float values[ROWS][COLUMNS];
    static float actual[ROWS][COLUMNS];

    (void)state;
    for (size_t k = 0; k < sizeof wrong / sizeof wrong[0]; k++) {
        const struct model_matrix file = {.type = MODEL_TYPE_F32,
                                          .rows = ROWS,
                                          .columns = COLUMNS,
                                          .data = (const uint8_t *)values,
                                          .row_bytes = sizeof values[0]};

        draw(values);
        values[17][COLUMNS - 1] = wrong[k];
        load(&file, actual);
        for (uint32_t row = 0; row < ROWS; row++)
            for (uint32_t i = 0; i < COLUMNS; i++)
                assert_true((isnan(actual[row][i]) != 0) == (row == 17));
    }
}

/* Those of benchmarks, which have no data: of the size that sums over a row ask for, FP8 by itself or rounded to it. */
static void random_weights_have_a_scale_too(void **state)
{
    static const enum model_type types[] = {MODEL_TYPE_F8_E4M3, MODEL_TYPE_BF16};
    static float actual[ROWS][COLUMNS];

    (void)state;
    for (size_t t = 0; t < sizeof types / sizeof types[0]; t++) {
        struct model_matrix file = {.type = types[t], .rows = ROWS, .columns = COLUMNS};
        double squares = 0;

        assert_true(model_type_row_bytes(types[t], COLUMNS, &file.row_bytes));
        load(&file, actual);
        for (uint32_t i = 0; i < ROWS; i++)
            for (uint32_t k = 0; k < COLUMNS; k++)
                squares += (double)actual[i][k] * (double)actual[i][k] / ROWS;
        if (!(sqrt(squares) >= 0.55 && sqrt(squares) <= 0.6)) /* uniform: the root of a third */
            fail_msg("%s: %g", model_type_info((uint32_t)types[t])->name, sqrt(squares));
    }
}

/* ------------------------------------------------------------------ whole models */

/* A matrix as a file of FP8 would have it; what it lies in is freed by the caller. */
static void as_fp8(struct model_matrix *matrix, uint8_t **bytes_out, float **scales_out)
{
    uint8_t *bytes = malloc((size_t)matrix->rows * matrix->columns);
    float *scales = calloc(matrix->rows, sizeof *scales);
    float *row = calloc(matrix->columns, sizeof *row);

    assert_true(bytes != NULL && scales != NULL && row != NULL);
    for (uint32_t i = 0; i < matrix->rows; i++) {
        model_matrix_row(matrix, i, row);
        scales[i] = round_row(row, matrix->columns, bytes + (size_t)i * matrix->columns);
    }
    free(row);
    *matrix = (struct model_matrix){
        .type = MODEL_TYPE_F8_E4M3,
        .rows = matrix->rows,
        .columns = matrix->columns,
        .data = bytes,
        .row_bytes = matrix->columns,
        .scales = {.values = scales, .rows = 1, .columns = matrix->columns, .across = 1}};
    *bytes_out = bytes;
    *scales_out = scales;
}

#define OF_LAYER 7

/* All matrices of a layer. */
static void layer_as_fp8(struct model_layer *layer, uint8_t *bytes[OF_LAYER],
                         float *scales[OF_LAYER])
{
    struct model_matrix *const matrices[OF_LAYER] = {
        &layer->q,    &layer->k,  &layer->v,   &layer->attention_output,
        &layer->gate, &layer->up, &layer->down};

    for (uint32_t i = 0; i < OF_LAYER; i++)
        as_fp8(matrices[i], &bytes[i], &scales[i]);
}

static void a_model_that_is_rounded_is_the_one_of_a_rounded_file(void **state)
{
    enum { TOKENS = 20, LAYERS = 3 };
    struct cuda_options options[2] = {{.outputs_max = 2, .weights = CUDA_WEIGHTS_FP8},
                                      {.outputs_max = 2}};
    uint8_t *bytes[LAYERS][OF_LAYER];
    float *scales[LAYERS][OF_LAYER];
    uint32_t tokens[TOKENS];
    struct cuda_rig rigs[2];
    const float *logits[2][2];
    struct td_u128 ids[2];

    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        struct model *model = cuda_rig_file(test_data_path("tiny-qwen3"));

        assert_int_equal(model->layers, LAYERS);
        for (uint32_t k = 0; k < LAYERS && i == 1; k++)
            layer_as_fp8(&model->layer[k], bytes[k], scales[k]);
        cuda_rig_open(&rigs[i], cuda_rig_device(), model, &options[i]);
        ids[i] = rigs[i].base.backend->info.content_id;
        cpu_rig_tokens(model->vocab, 3, tokens, TOKENS);
        cpu_rig_feed(&rigs[i].base, 0, tokens, 0, TOKENS, ENGINE_WANT_LOGITS, 2, logits[i]);
    }
    for (uint32_t i = 0; i < 2; i++)
        assert_memory_equal(logits[0][i], logits[1][i], rigs[0].base.model->vocab * sizeof(float));
    assert_string_equal(rigs[0].base.backend->info.numerics, CUDA_NUMERICS CUDA_NUMERICS_FP8);
    assert_string_equal(rigs[1].base.backend->info.numerics, CUDA_NUMERICS);
    assert_false(td_u128_equal(ids[0], ids[1]));
    for (uint32_t i = 0; i < 2; i++)
        cuda_rig_close(&rigs[i]);
    for (uint32_t k = 0; k < LAYERS; k++)
        for (uint32_t i = 0; i < OF_LAYER; i++) {
            free(bytes[k][i]);
            free(scales[k][i]);
        }
}

/* Only matrices of layers are rounded, and only those that have more bits. */
static void what_is_rounded_takes_half_of_the_memory(void **state)
{
    static const struct {
        enum model_type type;
        double least;
        double most;
    } cases[] = {
        {MODEL_TYPE_BF16, 0.52, 0.54}, {MODEL_TYPE_F32, 0.52, 0.54}, {MODEL_TYPE_Q4_0, 1, 1}};

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct model_shape shape = {.vocab = 16,
                                          .hidden = 1024,
                                          .ffn = 1024,
                                          .layers = 2,
                                          .heads = 8,
                                          .kv_heads = 8,
                                          .head_dim = 128,
                                          .is_tied = true,
                                          .type = cases[i].type};
        struct td_error error = {0};
        size_t sizes[2];
        uint8_t *bytes;
        struct model *model = cuda_rig_shape(&shape, &bytes);
        double share;

        assert_int_equal(cuda_weights_bytes(model, CUDA_WEIGHTS_AS_IS, &sizes[0], &error), TD_OK);
        assert_int_equal(cuda_weights_bytes(model, CUDA_WEIGHTS_FP8, &sizes[1], &error), TD_OK);
        share = (double)sizes[1] / (double)sizes[0];
        if (!(share >= cases[i].least && share <= cases[i].most))
            fail_msg("%s: %g", model_type_info((uint32_t)cases[i].type)->name, share);
        model_close(model);
        free(bytes);
    }
}

static void the_fast_variant_is_for_weights_as_they_are(void **state)
{
    const struct cuda_options options = {.weights = CUDA_WEIGHTS_FP8, .is_fast = true};
    struct cuda_device *device = cuda_rig_device();
    struct model *model = cuda_rig_file(test_data_path("tiny-qwen3"));
    struct engine_backend *backend = NULL;
    struct engine_kv kv;
    struct td_error error = {0};

    (void)state;
    assert_int_equal(cuda_backend_open(model, device, &options, &kv, &backend, &error), TD_INVALID);
    assert_non_null(strstr(error.text, "fast variant"));
    model_close(model);
    cuda_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_become_the_nearest_fp8_of_their_scale),
        cmocka_unit_test(a_row_with_what_is_no_number_is_none),
        cmocka_unit_test(random_weights_have_a_scale_too),
        cmocka_unit_test(a_model_that_is_rounded_is_the_one_of_a_rounded_file),
        cmocka_unit_test(what_is_rounded_takes_half_of_the_memory),
        cmocka_unit_test(the_fast_variant_is_for_weights_as_they_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
