/* rig.c: see rig.h. */
#include "tests/cuda/rig.h"

#include <stdlib.h>

struct model *cuda_rig_file(const char *path)
{
    struct model *model = NULL;
    struct td_error error = {0};

    if (model_open(path, &model, &error) != TD_OK)
        fail_msg("%s", error.text);
    return model;
}

struct model *cuda_rig_shape(const struct model_shape *shape, uint8_t **bytes_out)
{
    struct gguf_bytes file;
    struct model *model = gguf_build_open(shape, &file);

    *bytes_out = file.bytes;
    return model;
}

void cuda_rig_open(struct cuda_rig *rig, struct cuda_device *device, struct model *model,
                   const struct cuda_options *options)
{
    struct cuda_options ours = *options;
    struct td_error error = {0};

    if (ours.block_count == 0)
        ours.block_count = 64;
    *rig = (struct cuda_rig){.device = device, .base = {.model = model}};
    if (cuda_backend_open(model, device, &ours, &rig->base.kv, &rig->base.backend, &error) != TD_OK)
        fail_msg("%s", error.text);
    rig->base.slots = calloc(ours.block_count, sizeof *rig->base.slots);
    assert_non_null(rig->base.slots);
    for (uint32_t i = 0; i < ours.block_count; i++) /* an order that is not rising */
        rig->base.slots[i] = ours.block_count - 1 - i;
}

void cuda_rig_close(struct cuda_rig *rig)
{
    rig->base.backend->ops->close(rig->base.backend);
    cuda_device_close(rig->device);
    model_close(rig->base.model);
    free(rig->base.slots);
    free(rig->bytes);
}
