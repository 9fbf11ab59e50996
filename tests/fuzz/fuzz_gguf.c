/*
 * fuzz_gguf.c: any bytes are a model file or are refused with a place; what was accepted can be read to
 * the last byte, as tensors, as a model and as a tokenizer's source.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t checksum; /* so that no read is left out */

static void touch(const void *bytes, size_t length)
{
    const uint8_t *cursor = bytes;

    for (size_t i = 0; i < length; i++)
        checksum = (uint8_t)(checksum ^ cursor[i]);
}

static void touch_tensors(const struct model_gguf *file)
{
    size_t length;
    const uint8_t *start = model_gguf_part(file, 0, &length);
    const uint8_t *end = start;

    for (uint32_t i = 0; i < model_gguf_tensor_count(file); i++) {
        const struct model_gguf_tensor *tensor = model_gguf_tensor_at(file, i);

        assert(model_gguf_tensor(file, tensor->name) == tensor);
        assert(tensor->data >= end && (tensor->data - start) % 8 == 0);
        end = tensor->data + tensor->bytes;
        assert(end <= start + length);
        touch(tensor->data, tensor->bytes);
    }
}

static void touch_matrix(const struct model_matrix *matrix)
{
    size_t row_bytes = 0;

    assert(model_type_row_bytes(matrix->type, matrix->columns, &row_bytes));
    assert(row_bytes == matrix->row_bytes);
    touch(matrix->data, matrix->rows * row_bytes);
}

/* A vector that some architectures have. */
static void touch_vector(const float *values, size_t count)
{
    if (values != NULL)
        touch(values, count * sizeof *values);
}

static void touch_model(const struct model *model)
{
    size_t q = (size_t)model->heads * model->head_dim;
    size_t kv = (size_t)model->kv_heads * model->head_dim;

    touch_matrix(&model->embedding);
    touch_matrix(&model->output);
    touch(model->output_norm, model->hidden * sizeof(float));
    for (uint32_t i = 0; i < model->layers; i++) {
        const struct model_layer *layer = &model->layer[i];

        touch(layer->attention_norm, model->hidden * sizeof(float));
        touch(layer->ffn_norm, model->hidden * sizeof(float));
        touch_vector(layer->q_bias, q);
        touch_vector(layer->k_bias, kv);
        touch_vector(layer->v_bias, kv);
        touch_vector(layer->q_norm, model->head_dim);
        touch_vector(layer->k_norm, model->head_dim);
        touch_matrix(&layer->q);
        touch_matrix(&layer->k);
        touch_matrix(&layer->v);
        touch_matrix(&layer->attention_output);
        touch_matrix(&layer->gate);
        touch_matrix(&layer->up);
        touch_matrix(&layer->down);
    }
    if (!model->has_text)
        return;
    for (uint32_t i = 0; i < model->text.token_count; i++)
        touch(model->text.tokens[i].bytes, model->text.tokens[i].length);
    for (uint32_t i = 0; i < model->text.merge_count; i++)
        assert(model->text.merges[i].left < model->text.token_count &&
               model->text.merges[i].right < model->text.token_count);
    touch(model->text.chat_template.bytes, model->text.chat_template.length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + (size == 0)); /* aligned, and its end is watched */
    struct model_gguf *file = NULL;
    struct model *model = NULL;
    struct td_error error = {0};

    if (bytes == NULL)
        return 0;
    memcpy(bytes, data, size);
    if (model_gguf_parse(bytes, size, &file, &error) != TD_OK) {
        assert(strstr(error.text, "offset ") != NULL || strstr(error.text, "key ") != NULL ||
               strstr(error.text, "tensor ") != NULL);
        free(bytes);
        return 0;
    }
    touch_tensors(file);
    if (model_from_gguf(file, &model, &error) == TD_OK) {
        touch_model(model);
        model_close(model);
    } else {
        assert(error.text[0] != '\0');
        model_gguf_close(file);
    }
    free(bytes);
    return 0;
}
