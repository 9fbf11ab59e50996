/*
 * fuzz_safetensors.c: any bytes are a safetensors file or are refused with a place; what was accepted has
 * tensors that fill the file without holes, and can be read to the last byte; FP8 matrices among them have scales that are
 * numbers, or are refused by name.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t checksum; /* so that no read is left out */

static void touch_tensors(const struct model_safetensors *file, const uint8_t *start, size_t length)
{
    size_t total = 0;

    for (size_t i = 0; i < model_safetensors_count(file); i++) {
        const struct model_safetensors_tensor *tensor = model_safetensors_at(file, i);

        assert(model_safetensors_tensor(file, tensor->name) == tensor);
        assert(i == 0 || strcmp(model_safetensors_at(file, i - 1)->name, tensor->name) < 0);
        assert(tensor->data >= start + 8 && tensor->data + tensor->bytes <= start + length);
        assert(tensor->rank <= MODEL_SAFETENSORS_RANK_MAX);
        for (size_t at = 0; at < tensor->bytes; at++)
            checksum = (uint8_t)(checksum ^ tensor->data[at]);
        total += tensor->bytes;
    }
    assert(total < length);
}

/* As a folder's reader gives tensors to model/scales.h. */
static bool find(void *context, const char *name, struct model_tensor *tensor_out)
{
    const struct model_safetensors_tensor *found = model_safetensors_tensor(context, name);

    if (found == NULL || found->type == MODEL_SAFETENSORS_NO_TYPE || found->bytes == 0)
        return false;
    *tensor_out = (struct model_tensor){
        .type = found->type, .rank = found->rank, .dims = {1, 1, 1, 1}, .data = found->data};
    for (uint32_t i = 0; i < found->rank; i++)
        tensor_out->dims[i] = found->dims[found->rank - 1 - i];
    tensor_out->row_bytes =
        found->bytes / (tensor_out->dims[1] * tensor_out->dims[2] * tensor_out->dims[3]);
    return true;
}

/* Every scale that is taken is used, or the tensor is named. */
static void read_scales(const struct model_tensors *tensors, const char *name,
                        const struct model_tensor *weight)
{
    struct model_matrix matrix = {.type = MODEL_TYPE_F8_E4M3,
                                  .rows = (uint32_t)weight->dims[1],
                                  .columns = (uint32_t)weight->dims[0],
                                  .data = weight->data,
                                  .row_bytes = weight->row_bytes};
    struct model_tensor tensor;
    struct td_error error = {0};
    float *values;
    size_t count;

    if (model_scales_find(tensors, weight, name, &matrix.scales, &tensor, &error) != TD_OK) {
        assert(strstr(error.text, name) != NULL);
        return;
    }
    count = model_scales_count(&matrix.scales, matrix.rows);
    values = calloc(count, sizeof *values);
    if (values != NULL &&
        model_scales_read(&tensor, weight, name, count, values, &error) == TD_OK) {
        matrix.scales.values = values;
        assert(model_scale_at(&matrix, matrix.rows - 1, matrix.columns - 1) >= MODEL_SCALE_MIN);
    }
    free(values);
}

static void look_for_fp8(struct model_safetensors *file)
{
    static const struct model_quantization quantizations[] = {
        {.suffix = "_scale"},
        {.suffix = "_scale_inv", .block_rows = 3, .block_columns = 64},
    };
    static const char ending[] = ".weight";

    for (size_t i = 0; i < model_safetensors_count(file); i++) {
        const char *name = model_safetensors_at(file, i)->name;
        size_t length = strlen(name);
        struct model_tensor weight;

        if (length < sizeof ending || length >= MODEL_TENSOR_NAME_BYTES ||
            strcmp(name + length - (sizeof ending - 1), ending) != 0 ||
            !find(file, name, &weight) || weight.type != MODEL_TYPE_F8_E4M3 ||
            weight.dims[2] != 1 || weight.dims[3] != 1)
            continue;
        for (size_t k = 0; k < 2; k++) {
            const struct model_tensors tensors = {
                .find = find, .context = file, .quantization = &quantizations[k]};

            read_scales(&tensors, name, &weight);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + (size == 0)); /* its end is watched */
    struct model_safetensors *file = NULL;
    struct td_error error = {0};

    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    if (model_safetensors_parse(bytes, size, &file, &error) == TD_OK) {
        touch_tensors(file, bytes, size);
        look_for_fp8(file);
        model_safetensors_close(file);
    } else {
        assert(strstr(error.text, "offset ") != NULL || strstr(error.text, "header") != NULL ||
               strstr(error.text, "tensor ") != NULL);
    }
    free(bytes);
    return 0;
}
