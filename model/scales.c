/* scales.c: see scales.h. */
#include "model/scales.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "model/model.h"

#define WEIGHT "weight" /* how the name of a matrix ends */
#define INPUT  "input_scale"

/* ------------------------------------------------------------------ names and shapes */

/* Scales that others need for rounding activations: known, and not used. */
static void pass_over_input(const struct model_tensors *tensors, const char *name)
{
    char input[MODEL_TENSOR_NAME_BYTES + sizeof INPUT];
    size_t stem = strlen(name) - (sizeof WEIGHT - 1);
    struct model_tensor ignored;

    snprintf(input, sizeof input, "%.*s" INPUT, (int)stem, name);
    (void)tensors->find(tensors->context, input, &ignored);
}

static uint64_t pieces(uint64_t count, uint64_t each)
{
    return count / each + (count % each != 0);
}

static bool has_shape(const struct model_tensor *tensor, uint64_t rows, uint64_t columns)
{
    return tensor->dims[0] == columns && tensor->dims[1] == rows && tensor->dims[2] == 1 &&
           tensor->dims[3] == 1;
}

/* One for all, or one for each row: a vector, or a column. */
static bool take_plain_shape(const struct model_tensor *tensor, uint32_t rows, uint32_t columns,
                             struct model_scales *scales)
{
    *scales = (struct model_scales){.rows = rows, .columns = columns, .across = 1};
    if (has_shape(tensor, 1, 1))
        return true;
    scales->rows = 1;
    return has_shape(tensor, rows, 1) || (has_shape(tensor, 1, rows) && tensor->rank == 1);
}

static td_status_t take_shape(const struct model_quantization *quantization,
                              const struct model_tensor *tensor, const struct model_tensor *weight,
                              const char *name, struct model_scales *scales, struct td_error *error)
{
    const uint32_t rows = (uint32_t)weight->dims[1];
    const uint32_t columns = (uint32_t)weight->dims[0];
    const uint64_t down = quantization->block_rows > 0 ? pieces(rows, quantization->block_rows) : 0;

    if (quantization->block_rows == 0) {
        if (take_plain_shape(tensor, rows, columns, scales))
            return TD_OK;
        return td_fail(error, TD_INVALID,
                       "tensor %s has %" PRIu64 " x %" PRIu64 " scales where one, or %" PRIu32
                       " x 1, were expected",
                       name, tensor->dims[1], tensor->dims[0], rows);
    }
    *scales =
        (struct model_scales){.rows = quantization->block_rows,
                              .columns = quantization->block_columns,
                              .across = (uint32_t)pieces(columns, quantization->block_columns)};
    if (has_shape(tensor, down, scales->across))
        return TD_OK;
    return td_fail(error, TD_INVALID,
                   "tensor %s has %" PRIu64 " x %" PRIu64 " scales where blocks of %" PRIu32
                   " x %" PRIu32 " need %" PRIu64 " x %" PRIu32,
                   name, tensor->dims[1], tensor->dims[0], scales->rows, scales->columns, down,
                   scales->across);
}

td_status_t model_scales_find(const struct model_tensors *tensors,
                              const struct model_tensor *weight, const char *name,
                              struct model_scales *scales_out, struct model_tensor *tensor_out,
                              struct td_error *error)
{
    const struct model_quantization *quantization = tensors->quantization;
    char own[MODEL_TENSOR_NAME_BYTES + 16];

    if (quantization == NULL || quantization->suffix == NULL)
        return td_fail(error, TD_UNSUPPORTED,
                       "tensor %s has type F8_E4M3, but config.json has no 'quantization_config' "
                       "that says what its scales are",
                       name);
    snprintf(own, sizeof own, "%s%s", name, quantization->suffix);
    if (!tensors->find(tensors->context, own, tensor_out))
        return td_fail(error, TD_INVALID,
                       "tensor %s is missing: the scales of %s, which is F8_E4M3", own, name);
    if (tensor_out->type != MODEL_TYPE_F32 && tensor_out->type != MODEL_TYPE_BF16 &&
        tensor_out->type != MODEL_TYPE_F16)
        return td_fail(error, TD_UNSUPPORTED, "tensor %s has type %s; scales are F32, F16 or BF16",
                       own, model_type_info(tensor_out->type)->name);
    pass_over_input(tensors, name);
    return take_shape(quantization, tensor_out, weight, own, scales_out, error);
}

size_t model_scales_count(const struct model_scales *scales, uint64_t rows)
{
    return (size_t)pieces(rows, scales->rows) * scales->across;
}

/* ------------------------------------------------------------------ numbers */

/* The first byte that is no number, or `bytes`. Eight at a time: with one added to seven set bits the eighth is. */
static size_t find_nan(const uint8_t *data, size_t bytes)
{
    const uint64_t low = 0x7f7f7f7f7f7f7f7f;
    const uint64_t one = 0x0101010101010101;
    size_t i = 0;

    for (; i + sizeof(uint64_t) <= bytes; i += sizeof(uint64_t)) {
        uint64_t word;

        memcpy(&word, data + i, sizeof word);
        if ((((word & low) + one) & ~low) != 0)
            break;
    }
    while (i < bytes && (data[i] & 0x7f) != 0x7f)
        i++;
    return i;
}

td_status_t model_scales_read(const struct model_tensor *tensor, const struct model_tensor *weight,
                              const char *name, size_t count, float *values, struct td_error *error)
{
    size_t bytes = (size_t)weight->dims[1] * weight->row_bytes;
    size_t nan = find_nan(weight->data, bytes);

    if (nan < bytes)
        return td_fail(error, TD_INVALID,
                       "tensor %s: the weight in row %zu, column %zu is no number", name,
                       nan / weight->row_bytes, nan % weight->row_bytes);
    model_dequantize((enum model_type)tensor->type, tensor->data, count, values);
    for (size_t i = 0; i < count; i++)
        if (!(values[i] >= MODEL_SCALE_MIN && values[i] <= MODEL_SCALE_MAX))
            return td_fail(error, TD_INVALID,
                           "tensor %s: scale %zu is %g, which no quantizer writes (%g to %g)", name,
                           i, (double)values[i], (double)MODEL_SCALE_MIN, (double)MODEL_SCALE_MAX);
    return TD_OK;
}

/* ------------------------------------------------------------------ what they mean */

float model_scale_at(const struct model_matrix *matrix, uint32_t row, uint32_t column)
{
    const struct model_scales *scales = &matrix->scales;

    if (scales->values == NULL)
        return 1.0f;
    return scales->values[(size_t)(row / scales->rows) * scales->across + column / scales->columns];
}

void model_matrix_row(const struct model_matrix *matrix, uint32_t row, float *out)
{
    model_dequantize(matrix->type, matrix->data + row * matrix->row_bytes, matrix->columns, out);
    if (matrix->scales.values == NULL)
        return;
    for (uint32_t i = 0; i < matrix->columns; i++)
        out[i] *= model_scale_at(matrix, row, i);
}
