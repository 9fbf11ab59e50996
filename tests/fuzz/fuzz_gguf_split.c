/*
 * fuzz_gguf_split.c: two files that claim to be parts of one model are joined or refused, and what was
 * joined has each tensor once. The first two bytes say where the second file begins.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "model/gguf.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_joined(const struct model_gguf *file)
{
    assert(model_gguf_part_count(file) == 2);
    for (uint32_t i = 0; i < model_gguf_tensor_count(file); i++) {
        const struct model_gguf_tensor *tensor = model_gguf_tensor_at(file, i);
        bool is_inside = false;

        assert(model_gguf_tensor(file, tensor->name) == tensor);
        for (uint32_t part = 0; part < 2; part++) {
            size_t length;
            const uint8_t *bytes = model_gguf_part(file, part, &length);

            is_inside |= tensor->data >= bytes && tensor->data + tensor->bytes <= bytes + length;
        }
        assert(is_inside || tensor->bytes == 0);
    }
}

static void join(struct model_gguf *const *parts)
{
    struct model *model = NULL;
    struct td_error error = {0};

    if (model_gguf_join(parts, 2, &error) != TD_OK) {
        assert(error.text[0] != '\0');
        model_gguf_close(parts[1]);
        model_gguf_close(parts[0]);
        return;
    }
    check_joined(parts[0]);
    if (model_from_gguf(parts[0], &model, &error) == TD_OK)
        model_close(model);
    else
        model_gguf_close(parts[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct model_gguf *parts[2] = {0};
    uint8_t *bytes[2] = {0};
    size_t lengths[2];

    if (size < 2)
        return 0;
    lengths[0] = (size_t)data[0] | (size_t)data[1] << 8;
    data += 2;
    size -= 2;
    lengths[0] = lengths[0] < size ? lengths[0] : size;
    lengths[1] = size - lengths[0];
    for (int i = 0; i < 2; i++) {
        bytes[i] = malloc(lengths[i] + (lengths[i] == 0)); /* aligned, and its end is watched */
        if (bytes[i] == NULL)
            goto out;
        memcpy(bytes[i], i == 0 ? data : data + lengths[0], lengths[i]);
        if (model_gguf_parse(bytes[i], lengths[i], &parts[i], NULL) != TD_OK)
            goto out;
    }
    join(parts);
    parts[0] = NULL;
    parts[1] = NULL;
out:
    for (int i = 0; i < 2; i++) {
        model_gguf_close(parts[i]);
        free(bytes[i]);
    }
    return 0;
}
