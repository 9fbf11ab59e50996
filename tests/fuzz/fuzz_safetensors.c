/*
 * fuzz_safetensors.c: any bytes are a safetensors file or are refused with a place; what was accepted has
 * tensors that fill the file without holes, and can be read to the last byte.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

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
        model_safetensors_close(file);
    } else {
        assert(strstr(error.text, "offset ") != NULL || strstr(error.text, "header") != NULL ||
               strstr(error.text, "tensor ") != NULL);
    }
    free(bytes);
    return 0;
}
