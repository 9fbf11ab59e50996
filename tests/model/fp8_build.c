/* fp8_build.c: see fp8_build.h. */
#include "tests/model/fp8_build.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/quant.h"

#define MODEL "tiny-qwen3"

static const char *const configs[FP8_FORMS] = {
    [FP8_BLOCKS] = "{\"quant_method\":\"fp8\",\"activation_scheme\":\"dynamic\",\"fmt\":\"e4m3\","
                   "\"weight_block_size\":[48,64]}",
    [FP8_ROWS] =
        "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",\"config_groups\":"
        "{\"group_0\":{\"targets\":[\"Linear\"],\"weights\":{\"num_bits\":8,\"type\":\"float\","
        "\"strategy\":\"channel\",\"dynamic\":false,\"symmetric\":true,\"group_size\":null},"
        "\"input_activations\":{\"num_bits\":8,\"type\":\"float\",\"dynamic\":true}}},"
        "\"ignore\":[\"lm_head\"],\"kv_cache_scheme\":null,\"sparsity_config\":{}}",
    [FP8_TENSOR] = "{\"quant_method\":\"fp8\",\"activation_scheme\":\"static\"}",
};

/* What is being written. */
struct writing {
    const struct fp8_build *fp8;
    struct hf_weights weights;
    struct hf_weights twin;
};

/* A matrix as it is rounded. */
struct rounded {
    uint32_t rows;
    uint32_t columns;
    uint32_t down;   /* rows of a block */
    uint32_t across; /* columns of a block */
    uint32_t scale_rows;
    uint32_t scale_columns;
    float *scales;
    uint8_t *bytes;
    float *means; /* scale * weight */
};

/* The nearest of all, looked for among all. */
static uint8_t to_e4m3(float value)
{
    uint8_t nearest = 0;

    for (uint32_t bits = 0; bits < 0x7f; bits++)
        if (fabsf(model_e4m3_to_float((uint8_t)bits) - fabsf(value)) <
            fabsf(model_e4m3_to_float(nearest) - fabsf(value)))
            nearest = (uint8_t)bits;
    return nearest | (signbit(value) ? 0x80 : 0);
}

/* The scale of a block, rounded up to a BF16, which all dtypes of scales hold. */
static float scale_of(const float *values, const struct rounded *matrix, uint32_t i, uint32_t j)
{
    float largest = 0x1p-20f;
    uint32_t bits;

    for (uint32_t row = i * matrix->down; row < (i + 1) * matrix->down && row < matrix->rows; row++)
        for (uint32_t column = j * matrix->across;
             column < (j + 1) * matrix->across && column < matrix->columns; column++)
            largest = fmaxf(largest, fabsf(values[row * matrix->columns + column]));
    largest /= MODEL_E4M3_MAX;
    memcpy(&bits, &largest, sizeof bits);
    bits = (bits + 0xffff) & 0xffff0000;
    memcpy(&largest, &bits, sizeof bits);
    return largest;
}

static void round_matrix(const struct fp8_build *fp8, const float *values, struct rounded *matrix)
{
    matrix->down = fp8->form == FP8_BLOCKS ? 48 : fp8->form == FP8_ROWS ? 1 : matrix->rows;
    matrix->across = fp8->form == FP8_BLOCKS ? 64 : matrix->columns;
    matrix->scale_rows = (matrix->rows + matrix->down - 1) / matrix->down;
    matrix->scale_columns = (matrix->columns + matrix->across - 1) / matrix->across;
    matrix->scales = calloc((matrix->scale_rows + fp8->more_scales) * matrix->scale_columns,
                            sizeof *matrix->scales);
    matrix->bytes = malloc(matrix->rows * matrix->columns);
    matrix->means = malloc(matrix->rows * matrix->columns * sizeof *matrix->means);
    assert_true(matrix->scales != NULL && matrix->bytes != NULL && matrix->means != NULL);
    for (uint32_t i = 0; i < matrix->scale_rows; i++)
        for (uint32_t j = 0; j < matrix->scale_columns; j++)
            matrix->scales[i * matrix->scale_columns + j] = scale_of(values, matrix, i, j);
    for (uint32_t i = 0; i < matrix->rows * matrix->columns; i++) {
        uint32_t row = i / matrix->columns / matrix->down;
        float scale =
            matrix->scales[row * matrix->scale_columns + i % matrix->columns / matrix->across];

        matrix->bytes[i] = to_e4m3(values[i] / scale);
        matrix->means[i] = scale * model_e4m3_to_float(matrix->bytes[i]);
    }
    if (fp8->scale != 0)
        matrix->scales[0] = fp8->scale;
    if (fp8->has_nan)
        matrix->bytes[matrix->rows * matrix->columns - 1] = 0xff;
}

static void add_named(struct writing *writing, const char *name, const char *suffix,
                      const char *dtype, const uint64_t shape[2], const void *data, size_t bytes)
{
    char own[128];

    if (writing->fp8->left_out != NULL && strcmp(writing->fp8->left_out, suffix) == 0)
        return;
    snprintf(own, sizeof own, "%s%s", name, suffix);
    hf_weights_add(&writing->weights, own, dtype, shape[0], shape[1], data, bytes);
}

static void add_scales(struct writing *writing, const char *name, const struct rounded *matrix)
{
    const struct fp8_build *fp8 = writing->fp8;
    size_t count = (matrix->scale_rows + fp8->more_scales) * matrix->scale_columns;
    const uint64_t shape[2] = {fp8->form == FP8_TENSOR ? 0 : matrix->scale_rows + fp8->more_scales,
                               fp8->form == FP8_TENSOR ? count : matrix->scale_columns};
    bool is_small = fp8->form == FP8_ROWS;
    uint16_t *halves = calloc(count, sizeof *halves);

    assert_non_null(halves);
    for (size_t i = 0; i < count; i++)
        memcpy(&halves[i], (const uint8_t *)&matrix->scales[i] + 2, sizeof halves[i]);
    add_named(writing, name, fp8->form == FP8_BLOCKS ? "_scale_inv" : "_scale",
              fp8->scale_dtype != NULL ? fp8->scale_dtype
              : is_small               ? "BF16"
                                       : "F32",
              shape, is_small ? (const void *)halves : matrix->scales, count * (is_small ? 2 : 4));
    free(halves);
}

static void add_matrix(struct writing *writing, const struct model_safetensors_tensor *tensor)
{
    static const char ending[] = "weight";
    const uint64_t one[2] = {0, 1};
    const float half = 0.5f;
    struct rounded matrix = {.rows = (uint32_t)tensor->dims[0],
                             .columns = (uint32_t)tensor->dims[1]};
    size_t count = (size_t)matrix.rows * matrix.columns;
    float *values = malloc(count * sizeof *values);
    char stem[128];

    assert_non_null(values);
    model_dequantize((enum model_type)tensor->type, tensor->data, count, values);
    round_matrix(writing->fp8, values, &matrix);
    add_named(writing, tensor->name, "", "F8_E4M3", tensor->dims, matrix.bytes, count);
    add_scales(writing, tensor->name, &matrix);
    snprintf(stem, sizeof stem, "%.*s", (int)(strlen(tensor->name) - (sizeof ending - 1)),
             tensor->name);
    if (writing->fp8->form == FP8_TENSOR)
        add_named(writing, stem, "input_scale", "F32", one, &half, sizeof half);
    hf_weights_add(&writing->twin, tensor->name, "F32", matrix.rows, matrix.columns, matrix.means,
                   count * sizeof *matrix.means);
    free(values);
    free(matrix.scales);
    free(matrix.bytes);
    free(matrix.means);
}

static bool is_projection(const char *name)
{
    return strstr(name, "_proj.weight") != NULL;
}

void fp8_build_folder(const struct fp8_build *fp8, const struct hf_build *build,
                      const struct hf_build *twin)
{
    struct writing writing = {.fp8 = fp8};
    const char *config = fp8->config != NULL ? fp8->config : configs[fp8->form];
    struct model_safetensors *source = NULL;
    char after[1024];

    assert_int_equal(
        model_safetensors_open(test_data_path(MODEL "/model.safetensors"), &source, NULL), TD_OK);
    hf_build_copy_all(build, MODEL);
    snprintf(after, sizeof after, "\"dtype\": \"float32\"%s%s",
             config[0] != '\0' ? ",\"quantization_config\":" : "", config);
    hf_build_replace(build, "config.json", "\"dtype\": \"float32\"", after);
    hf_weights_init(&writing.weights);
    hf_weights_init(&writing.twin);
    for (size_t i = 0; i < model_safetensors_count(source); i++) {
        const struct model_safetensors_tensor *tensor = model_safetensors_at(source, i);

        if (is_projection(tensor->name)) {
            add_matrix(&writing, tensor);
            continue;
        }
        hf_weights_add_copy(&writing.weights, tensor->name, tensor);
        hf_weights_add_copy(&writing.twin, tensor->name, tensor);
    }
    hf_weights_finish(&writing.weights, build, "model.safetensors", 1);
    if (twin != NULL) {
        hf_build_copy_all(twin, MODEL);
        hf_weights_finish(&writing.twin, twin, "model.safetensors", 0);
    } else {
        td_buf_fini(&writing.twin.header);
        td_buf_fini(&writing.twin.data);
    }
    model_safetensors_close(source);
}
